"""`import helpers`: light, complete, and layered."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

import helpers
from tools.chapters import README, chapters

FOLDER = Path(helpers.__file__).parent


def test_every_name_is_there_and_in_dir():
    for name in helpers.__all__:
        assert getattr(helpers, name) is not None
        assert name in dir(helpers)
    with pytest.raises(AttributeError):
        helpers.nonsense  # noqa: B018


# What takes long to import, or is not needed to load a model; each is imported where it is first used.
HEAVY = (
    "IPython",
    "ipywidgets",
    "matplotlib",
    "pandas",
    "pyarrow",
    "scipy",
    "seaborn",
    "skimage",
    "sklearn",
    "torchvision",
)


def test_import_loads_nothing_heavy():
    """Beside what transformers' own classes import by themselves (5.20 takes scikit-learn), which is not ours."""
    script = f"""
import sys
from transformers import AutoModel, AutoProcessor, BertModel, SiglipVisionModel
theirs = set(sys.modules)
import helpers
print([name for name in {HEAVY} if name in set(sys.modules) - theirs])
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    assert result.stderr == ""


STABLE = set(
    re.findall(
        r"\w+",
        """
        CellDesigner ConceptExplorer Domain MODEL_ID accuracy annotate auroc balanced_accuracy bootstrap_mean check
        concept_maps encode_images encode_texts evaluate_folder image_folder iter_image_encodings load load_atlas
        load_cells load_encodings logits macro_auroc metrics plots probabilities recall_at_k scales setup write_report
        zero_shot
        """,
    )
)
"""Names that are flat whatever uses them: the ones that somebody with pictures of their own reaches for first."""


def test_the_package_that_every_notebook_imports_is_thin():
    """A name is flat if it is one of those above, in two chapters or in the README; all else is in its module."""
    assert sorted(helpers.__all__) == list(helpers.__all__)
    assert len(helpers.__all__) <= 50
    code = [
        "\n".join(cell.source for cell in nbformat.read(chapter.path, as_version=4).cells if cell.cell_type == "code")
        for chapter in chapters()
    ]
    used = Counter(name for text in code for name in set(re.findall(r"\bhelpers(?:\.| import )(\w+)", text)))
    in_readme = set(re.findall(r"\bhelpers\.(\w+)", README.read_text(encoding="utf-8")))
    assert [name for name in helpers.__all__ if name not in STABLE | in_readme and used[name] < 2] == []
    assert set(helpers.__all__) >= STABLE


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
