"""Every notebook on another model and in other dtypes: it runs to its end, whatever the numbers are.

Not run by default: `pytest -m elsewhere`.
"""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from random_released import write_random

from tools.chapters import NOTEBOOKS, everything

pytestmark = pytest.mark.elsewhere
each = pytest.mark.parametrize("path", everything(), ids=lambda path: path.relative_to(NOTEBOOKS).as_posix())


@pytest.fixture(scope="module")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(tmp_path_factory.mktemp("models") / "random-released")


def run(path: Path) -> str:
    """Run a notebook in a new kernel; what it printed. A cell that fails, or that writes to stderr, fails the test."""
    nb = nbformat.read(path, as_version=4)
    NotebookClient(
        nb,
        timeout=1200,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    ).execute()
    outputs = [output for cell in nb.cells for output in cell.get("outputs", [])]
    noise = [output.text for output in outputs if output.get("name") == "stderr"]
    assert not noise, noise[0]
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@each
def test_in_half_precision(path, dtype, monkeypatch):
    monkeypatch.setenv("CONCEPTCLIP_DTYPE", dtype)
    monkeypatch.delenv("CONCEPTCLIP_MODEL", raising=False)
    run(path)


@each
def test_on_another_model(path, random_folder, monkeypatch):
    monkeypatch.setenv("CONCEPTCLIP_MODEL", str(random_folder))
    monkeypatch.delenv("CONCEPTCLIP_DTYPE", raising=False)
    printed = run(path)
    claims = any("helpers.holds(" in cell.source for cell in nbformat.read(path, as_version=4).cells)
    assert claims == ("Not checked, for these are not the shipped weights" in printed)
