"""`import helpers`: light, complete, and layered."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import helpers

FOLDER = Path(helpers.__file__).parent


def test_every_name_is_there_and_in_dir():
    for name in helpers.__all__:
        assert getattr(helpers, name) is not None
        assert name in dir(helpers)
    with pytest.raises(AttributeError):
        helpers.nonsense  # noqa: B018


# What takes long to import, or is not needed to load a model; each is imported where it is first used.
HEAVY = ("IPython", "ipywidgets", "matplotlib", "pandas", "pyarrow", "seaborn", "skimage", "sklearn", "torchvision")


def test_import_loads_nothing_heavy():
    """Beside what transformers' own classes import by themselves, which is not ours to choose."""
    script = f"""
import sys
from transformers import AutoModel, AutoProcessor, BertModel, SiglipVisionModel
theirs = set(sys.modules)
import helpers
print([name for name in {(*HEAVY, "scipy")} if name in set(sys.modules) - theirs])
print([name for name in {HEAVY} if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["[]", "[]"]
    assert result.stderr == ""


def test_the_stub_names_what_exists_and_stays_small():
    assert sorted(helpers.__all__) == list(helpers.__all__)
    assert len(helpers.__all__) <= 50  # the package that every notebook imports is thin; more belongs in the modules


def test_layers_import_only_from_those_below():
    script = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=FOLDER.parent)
    assert result.returncode == 0, result.stdout


def test_setup_repeats_every_random_draw():
    draws = []
    for _ in range(2):
        helpers.setup()
        draws.append((torch.rand(3).tolist(), np.random.rand(3).tolist()))  # noqa: NPY002
    assert draws[0] == draws[1]
    helpers.setup(seed=1)
    assert torch.rand(3).tolist() != draws[0][0]


def test_setup_says_nothing(capfd):
    helpers.setup()
    assert capfd.readouterr() == ("", "")
