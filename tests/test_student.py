"""The learners' zip: no outputs, no solutions, nothing that is cut, and no link that leads nowhere."""

import re
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import notebooks, paths, student
from tools.chapters import ROOT
from tools.links import broken_links
from tools.sections import sections


def test_outputs_and_folded_solutions_go_and_hints_stay():
    nb = new_notebook(
        cells=[
            new_markdown_cell("<details><summary>Solution</summary>\n\n`x = 1`\n\n</details>"),
            new_markdown_cell(
                "Before.\n\n<details>\n<summary>Hint</summary>\n\nhint\n\n</details>\n\n"
                "<details>\n<summary><b>Solution 01-a</b></summary>\n\nsecret\n\n</details>\n\nAfter."
            ),
            new_code_cell("x", execution_count=3, outputs=[new_output("stream", text="secret")]),
        ]
    )
    bare = student.strip(nb)
    assert len(bare.cells) == 2
    assert "secret" not in nbformat.writes(bare)
    assert "hint" in bare.cells[0].source and bare.cells[0].source.endswith("After.")
    assert bare.cells[1].execution_count is None
    assert nb.cells[2].outputs, "the notebook that was given is left as it was"


def unpacked(name, tmp_path):
    archive = student.write(name, tmp_path)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path)
    return archive, tmp_path / archive.stem


@pytest.mark.parametrize("name", [None, "three-hours"])
def test_the_zip(name, tmp_path):
    archive, folder = unpacked(name, tmp_path)
    assert archive.stat().st_size < 1_500_000
    given = {file.name: nbformat.read(file, as_version=4) for file in folder.glob("notebooks/*.ipynb")}
    assert not (folder / "notebooks" / "solutions").exists()
    assert {"for-learners.md", "cheat-sheet.html"} <= {file.name for file in folder.iterdir()}
    for nb in given.values():
        nbformat.validate(nb)
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in nb.cells)
        assert not re.search(r"<summary>\W*Solution", nbformat.writes(nb))
    if name is None:
        assert len(given) == len(list((ROOT / "notebooks").glob("[0-9]*.ipynb")))
        return
    path = paths.load()[name]
    assert set(given) == {chapter.path.name for chapter in path.chapters}
    for chapter in path.chapters:
        kept, exercises = path.keeps(chapter)
        found = sections(given[chapter.path.name])
        assert {section.title for section in found} == kept | {""}
        assert {e for section in found for e in section.exercises} == exercises
        cut = [s.title for s in sections(nbformat.read(chapter.path, as_version=4))[1:] if s.title not in kept]
        assert cut and given[chapter.path.name].cells[0].source.endswith(" · ".join(cut))  # what is missing is named
    assert path.timetable() in (folder / "timetable.txt").read_text(encoding="utf-8")


def test_no_link_of_the_zip_leads_nowhere(tmp_path, monkeypatch):
    from tools import links

    monkeypatch.setattr(links, "ROOT", tmp_path.resolve())
    _, folder = unpacked("three-hours", tmp_path)
    for file in folder.glob("notebooks/*.ipynb"):
        nb = nbformat.read(file, as_version=4)
        own = links.anchors(nb)
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                assert list(broken_links(cell.source, file.parent.resolve(), own)) == []


def test_the_zip_is_the_same_each_time(tmp_path):
    first, second = (student.write("three-hours", tmp_path / part) for part in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_no_such_path(capsys):
    assert notebooks.main(["student", "--path", "ten-minutes"]) == 1
    assert "three-hours" in capsys.readouterr().err
    for wrong in (["run", "--path", "three-hours"], ["student", "notebooks"]):
        with pytest.raises(SystemExit):
            notebooks.main(wrong)


def test_links_to_what_is_not_there_become_text():
    here = ROOT / "notebooks" / "01_a.ipynb"
    known = {here: {"There"}}
    for source, expected in {
        "see [the next](02_b.ipynb), [here](#There)": "see the next, [here](#There)",
        "[`x`](#Cut) and `[y](#Cut)`": "`x` and `[y](#Cut)`",
        "[web](https://example.org) ![p](../docs/concept_explorer.webp)": None,
    }.items():
        assert student._unlink(source, here, known) == (expected or source)
    assert Path(ROOT / "docs" / "concept_explorer.webp").is_file()
