"""What every notebook keeps to, checked without running it: that its stored outputs are true is for nbval to say."""

import json
import re

import nbformat
import pytest
from nbval.plugin import get_sanitize_patterns

from tools.chapters import NOTEBOOKS, ROOT, SOLUTIONS, Chapter, everything
from tools.links import anchors, broken_links
from tools.notebooks import TABLE, chapter_table, clean
from tools.pages import markdown

SETUP = """\
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

import helpers

helpers.setup()"""

TAGS = {"nbval-ignore-output", "raises-exception", "exercise"}
MAX_LINES = 16
MAX_BYTES, MAX_BYTES_TOGETHER = 3_000_000, 25_000_000
FORBIDDEN = {
    "an absolute path": r"(?<![\w.:/-])/(?:home|Users|root|tmp|opt|work|mnt|var|usr|content|private)/\w",
    "a Windows path": r"\b[A-Za-z]:\\\\?\w+\\",
    "an e-mail address": r"[\w.+-]+@[\w-]+\.[a-z]{2,}",
    "an access token": r"\bhf_[A-Za-z0-9]{16,}",
    "a memory address": r"\b0x[0-9a-fA-F]{6,}",
    "an address of a package index": r"(?:index-url|find-links)[ =]+\S",
}
FORBIDDEN_CODE = {
    "an nbval comment instead of a tag": r"NBVAL_|PYTEST_VALIDATE",
    "an installation": r"pip3? install",
    "a shell or magic line": r"(?m)^\s*[!%]",
    "a work-around instead of helpers.setup()": r"filterwarnings|autoreload",
    "an absolute claim about where it runs": r"google\.colab|os\.environ\[['\"]CI",
}

ALL = everything()
ids = [path.relative_to(NOTEBOOKS).as_posix() for path in ALL]
each = pytest.mark.parametrize("path", ALL, ids=ids)
each_chapter = pytest.mark.parametrize(
    "path", [p for p in ALL if p.parent == NOTEBOOKS], ids=[i for i in ids if "/" not in i]
)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(nb):
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def text_of(output):
    """What a reader can read of an output, pictures left out."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join([output.ename, output.evalue, *output.traceback])
    return "\n".join(str(value) for kind, value in output.data.items() if not kind.startswith("image/p"))


@each
def test_executed_from_top_to_bottom(path):
    nb = read(path)
    counts = [cell.execution_count for cell in code_cells(nb)]
    assert counts == list(range(1, len(counts) + 1)), "run `make refresh`: nbval compares only what was executed"


@each
def test_clean(path):
    nb = read(path)
    assert clean(read(path)) == nb, "run `make refresh`: there are timestamps, versions, widgets or empty cells in it"


@each
def test_setup_cell(path):
    assert code_cells(read(path))[0].source == SETUP, "the first code cell is the same in every notebook"


@each_chapter
def test_first_cell(path):
    assert Chapter.read(path).number == path.name[:2]


def test_numbers_are_used_once():
    numbers = [path.name[:2] for path in ALL if path.parent == NOTEBOOKS]
    assert numbers == [f"{i:02}" for i in range(1, len(numbers) + 1)]


@pytest.mark.parametrize("path", sorted(SOLUTIONS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_solutions_belong_to_a_chapter(path):
    first = read(path).cells[0].source
    assert (NOTEBOOKS / path.name).exists()
    assert re.match(rf"# {path.name[:2]} .+: solutions\n", first), "its first line is '# NN Title: solutions'"
    assert f"](../{path.name})" in first, "its first cell links back to its notebook"


@each_chapter
def test_exercises_have_solutions(path):
    source = "\n".join(cell.source for cell in code_cells(read(path)))
    exercises = set(re.findall(r"""helpers\.check\(\s*["'](\d\d-\w+)["']""", source))
    if not exercises:
        pytest.skip("no exercises in it")
    solution = SOLUTIONS / path.name
    assert solution.exists(), f"no solutions to {sorted(exercises)}"
    printed = "\n".join(text_of(output) for cell in code_cells(read(solution)) for output in cell.outputs)
    unsolved = {name for name in exercises if f"{name}: correct" not in printed}
    assert not unsolved, f"{path.name}: no cell of its solutions prints '…: correct' for {sorted(unsolved)}"
    assert all(name.startswith(path.name[:2]) for name in exercises)


@each
def test_nothing_escapes_comparison_but_within_budget(path):
    cells = code_cells(read(path))
    ignored = [cell for cell in cells if "nbval-ignore-output" in cell.metadata.get("tags", [])]
    unknown = {tag for cell in read(path).cells for tag in cell.metadata.get("tags", [])} - TAGS
    assert not unknown, f"tags that nothing here knows: {unknown}"
    for cell in ignored:
        assert re.search(r"(?m)^# Not compared: \w.+", cell.source), f"say '# Not compared: <why>' in:\n{cell.source}"
    assert len(ignored) <= max(1, len(cells) // 10), f"{len(ignored)} of {len(cells)} code cells are not compared"


@each
def test_small_cells(path):
    for cell in code_cells(read(path)):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert len(lines) <= MAX_LINES, f"{len(lines)} lines, at most {MAX_LINES}, in:\n{cell.source}"


@each
def test_no_noise(path):
    """A warning or a progress bar on stderr, or an error that no cell announces, is no output to ship."""
    for cell in code_cells(read(path)):
        tags = cell.metadata.get("tags", [])
        for output in cell.outputs:
            assert output.get("name") != "stderr", f"on stderr: {output.text[:300]}"
            assert output.output_type != "error" or "raises-exception" in tags, f"{output.ename} in:\n{cell.source}"


@each
def test_private_and_portable(path):
    nb = read(path)
    for cell in nb.cells:
        for text in [cell.source, *map(text_of, cell.get("outputs", []))]:
            for what, pattern in FORBIDDEN.items():
                assert not (found := re.search(pattern, text)), f"{what}: {found[0]!r} in:\n{cell.source}"
        if cell.cell_type == "code":
            for what, pattern in FORBIDDEN_CODE.items():
                assert not (found := re.search(pattern, cell.source)), f"{what}: {found[0]!r} in:\n{cell.source}"


@each
def test_formulas_can_be_drawn_without_a_network(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            pictures = re.findall(r'<img[^>]*src="(.{,60})', markdown(cell.source, path.parent, strict=True))
            elsewhere = [picture for picture in pictures if not picture.startswith("data:")]
            assert not elsewhere, f"pictures that are not in the repository: {elsewhere}"


@each
def test_size(path):
    assert path.stat().st_size <= MAX_BYTES, f"{path.stat().st_size / 1e6:.1f} MB: fewer, smaller or coarser figures"


def test_size_together():
    assert sum(path.stat().st_size for path in ALL) <= MAX_BYTES_TOGETHER


@each
def test_links(path):
    own = anchors(read(path))
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            assert list(broken_links(cell.source, path.parent, own)) == []


def test_readme_table_is_made_from_the_notebooks():
    found = TABLE.search((ROOT / "README.md").read_text(encoding="utf-8"))
    assert found, "README.md has lost the marks around its table of chapters"
    assert found[0] == found[1] + chapter_table() + found[2], "run `python -m tools.notebooks table`"


def test_every_sanitize_rule_is_read_by_nbval():
    text = (ROOT / "tests" / "nbval.cfg").read_text(encoding="utf-8")
    rules = get_sanitize_patterns(text)
    assert len(rules) == text.count("\nregex:") == text.count("\nreplace:") == 1
    mask = lambda line: re.sub(*rules[0], line)  # noqa: E731
    assert mask("64 images in 0.8 s, 80.3 images/s") == "64 images in DURATION, DURATION"
    assert mask("16 samples, 0.81 similarity") == "16 samples, 0.81 similarity"


# The checks above, shown to fail: on small notebooks that each break one rule.


def notebook(*cells, **metadata):
    nb = nbformat.v4.new_notebook(cells=list(cells), metadata=metadata)
    return nbformat.reads(nbformat.writes(nb), as_version=4)


def code(source, count=1, outputs=(), tags=()):
    cell = nbformat.v4.new_code_cell(source, execution_count=count, outputs=list(outputs))
    cell.metadata.tags = list(tags)
    return cell


def printed(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


WRONG = {
    "not executed": (test_executed_from_top_to_bottom, [code("1", None)]),
    "executed out of order": (test_executed_from_top_to_bottom, [code("1", 2), code("2", 1)]),
    "another setup cell": (test_setup_cell, [code(SETUP + "\n")]),
    "first cell without a question": (test_first_cell, [nbformat.v4.new_markdown_cell("# 01 Title\n\nText.")]),
    "ignored without a reason": (
        test_nothing_escapes_comparison_but_within_budget,
        [code("1", tags=["nbval-ignore-output"])],
    ),
    "too much ignored": (
        test_nothing_escapes_comparison_but_within_budget,
        [code("# Not compared: a widget", tags=["nbval-ignore-output"]) for _ in range(2)],
    ),
    "skipped": (test_nothing_escapes_comparison_but_within_budget, [code("1", tags=["nbval-skip"])]),
    "skipped by a comment": (test_private_and_portable, [code("# NBVAL_SKIP\n1")]),
    "a long cell": (test_small_cells, [code("\n".join(["x = 1"] * 17))]),
    "a warning": (test_no_noise, [code("1", outputs=[printed("UserWarning", "stderr")])]),
    "a path in an output": (test_private_and_portable, [code("1", outputs=[printed("/home/ada/data")])]),
    "a Windows path": (test_private_and_portable, [code("open('C:\\\\Users\\\\ada')")]),
    "an e-mail address": (test_private_and_portable, [nbformat.v4.new_markdown_cell("ada@example.org")]),
    "a token": (test_private_and_portable, [code("token = 'hf_" + "a" * 30 + "'")]),
    "an address in memory": (test_private_and_portable, [code("1", outputs=[printed("<Axes at 0x7f3a2b1c>")])]),
    "an installation": (test_private_and_portable, [code("%pip install torch")]),
    "a formula that cannot be drawn": (
        test_formulas_can_be_drawn_without_a_network,
        [nbformat.v4.new_markdown_cell(r"$\nosuch{x}$")],
    ),
    "a picture from elsewhere": (
        test_formulas_can_be_drawn_without_a_network,
        [nbformat.v4.new_markdown_cell("![a cell](https://example.org/cell.png)")],
    ),
    "a broken link": (test_links, [nbformat.v4.new_markdown_cell("[next](99_nothing.ipynb)")]),
    "a broken anchor": (test_links, [nbformat.v4.new_markdown_cell("# Top\n[here](#Bottom)")]),
}


@pytest.mark.parametrize("check, cells", WRONG.values(), ids=WRONG)
def test_the_checks_can_fail(check, cells, tmp_path):
    path = tmp_path / "01_wrong.ipynb"
    nbformat.write(notebook(*cells), path)
    with pytest.raises((AssertionError, ValueError)):
        check(path)


def test_clean_drops_what_changes_from_run_to_run(tmp_path):
    widget = nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}})
    cell = code("1", outputs=[widget, printed("kept")], tags=["exercise"])
    cell.metadata.execution = {"iopub.execute_input": "2026-01-01T00:00:00Z"}
    nb = notebook(cell, code("", 2), widgets={"state": {}}, language_info={"name": "python", "version": "3.11.7"})
    nb = clean(nb)
    assert [c.source for c in nb.cells] == ["1"]
    assert nb.cells[0].metadata == {"tags": ["exercise"]}
    assert [output.output_type for output in nb.cells[0].outputs] == ["stream"]
    assert "version" not in json.dumps(nb.metadata) and "widgets" not in nb.metadata
    nbformat.validate(nb)
