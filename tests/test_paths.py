"""The teaching paths: what they name exists, they fit their slots, and they run with everything else cut out."""

import os
import tomllib

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import paths
from tools.chapters import NOTEBOOKS, Chapter
from tools.sections import sections

FIRST = (
    "# 0{n} One\n\n**What is it?**\n\nA sentence.\n\nYou will be able to\n- one\n- two\n- three\n\n"
    "*Time* 9 minutes core, 17 whole · *Memory* 1 GB · *Data* none · *Model* none"
)


@pytest.fixture
def course(tmp_path):
    """Two chapters of three sections; the third uses what the second defines."""
    for n in (1, 2):
        cells = [
            new_markdown_cell(FIRST.format(n=n)),
            new_markdown_cell("## 1 First\n\nText."),
            new_code_cell("x = 1"),
            new_markdown_cell(f"### Exercise 0{n}-a\n\nAsk?"),
            new_code_cell(f'helpers.check("0{n}-a", x)'),
            new_markdown_cell("## Second: `y`\n\nText."),
            new_code_cell("y = 2"),
            new_markdown_cell("## 3 Third\n\nText."),
            new_code_cell("print(x, y)"),
        ]
        cells.insert(1, new_code_cell("import helpers"))
        nbformat.write(new_notebook(cells=cells), tmp_path / f"0{n}_one.ipynb")
    return [Chapter.read(file) for file in sorted(tmp_path.glob("*.ipynb"))]


def load(tmp_path, course, parts, minutes=60):
    file = tmp_path / "paths.toml"
    file.write_text(f'[short]\ntitle = "Short"\nminutes = {minutes}\nparts = [{", ".join(parts)}]\n', encoding="utf-8")
    return paths.load(file, course)["short"]


def test_a_path_keeps_what_it_names_and_cuts_the_rest(tmp_path, course):
    parts = ['{ notebook = "01", sections = [1, "Second: `y`", 3] }', '{ other = "Break", minutes = 15 }']
    path = load(tmp_path, course, parts)
    assert path.problems() == [] and path.chapters == course[:1]
    short = path.notebooks()[course[0]]
    code = [cell.source for cell in short.cells if cell.cell_type == "code"]
    assert code == ["import helpers", "x = 1", "y = 2", "print(x, y)"]
    assert not any("Exercise" in cell.source for cell in short.cells)
    with_exercise = load(tmp_path, course, ['{ notebook = "01", sections = [1], exercises = ["01-a"] }'])
    assert sum("01-a" in cell.source for cell in with_exercise.notebooks()[course[0]].cells) == 2
    assert "0:00" in path.timetable() and "15 min  Break" in path.timetable()


def test_what_stands_first_in_a_notebook_counts_once(tmp_path, course):
    once = load(tmp_path, course, ['{ notebook = "01", sections = [1, "Second: `y`"] }'])
    apart = load(
        tmp_path, course, ['{ notebook = "01", sections = [1] }', '{ notebook = "01", sections = ["Second: `y`"] }']
    )
    assert sum(part.minutes for part in once.parts) == pytest.approx(sum(part.minutes for part in apart.parts))


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ('{ notebook = "09", sections = [1] }', "'09'"),
        ('{ notebook = "01", sections = [4] }', "section 4"),
        ('{ notebook = "01", sections = ["Third"] }', "section 'Third'"),
        ('{ notebook = "01", sections = [3], exercises = ["01-a"] }', "'01-a'"),
        ('{ notebook = "01", sections = [1], exercises = ["02-a"] }', "'02-a'"),
        ('{ notebook = "01", section = [1] }', "'section'"),
        ('{ other = "Break" }', "'minutes'"),
    ],
)
def test_what_does_not_exist_is_named(tmp_path, course, part, named):
    with pytest.raises(ValueError, match="short") as error:
        load(tmp_path, course, [part])
    assert named in str(error.value)


def test_a_name_that_a_cut_section_defines_is_a_problem(tmp_path, course):
    (problem,) = load(tmp_path, course, ['{ notebook = "02", sections = [1, 3] }']).problems()
    assert "notebook 02 uses 'y'" in problem and "Second: `y`" in problem


def test_a_day_that_is_too_long_is_a_problem(tmp_path, course):
    parts = ['{ other = "A", minutes = 50, ends_day = true }', '{ other = "B", minutes = 70 }']
    (problem,) = load(tmp_path, course, parts).problems()
    assert "day 2 of short takes 70 minutes" in problem


def test_the_command_says_what_is_wrong(capsys):
    assert paths.main(["no-such-path"]) == 1
    assert "three-hours" in capsys.readouterr().err


def test_every_path_fits_and_defines_what_it_uses():
    for path in paths.load().values():
        assert path.problems() == []


def titles(chapter):
    return [section.title for section in sections(nbformat.read(chapter.path, as_version=4))[1:]]


def named():
    """(path, chapter) as the file names them, so that a wrong name in it fails a test and not the collection."""
    said = tomllib.loads(paths.FILE.read_text(encoding="utf-8"))
    return list(dict.fromkeys((name, p["notebook"]) for name in said for p in said[name]["parts"] if "notebook" in p))


@pytest.mark.paths
@pytest.mark.parametrize(("name", "number"), named())
def test_a_path_runs_with_everything_else_cut_out(name, number, monkeypatch):
    for variable in ("CONCEPTCLIP_MODEL", "CONCEPTCLIP_DTYPE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", os.environ.get("HF_HUB_OFFLINE", "1"))
    path = paths.load()[name]
    (chapter,) = [chapter for chapter in path.chapters if chapter.number == number]
    short = path.notebooks()[chapter]
    kept, _ = path.keeps(chapter)
    assert [section.title for section in sections(short)[1:]] == [s for s in titles(chapter) if s in kept]
    NotebookClient(
        short,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS)}},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
    ).execute()
    noise = [o.text for c in short.cells for o in c.get("outputs", []) if o.get("name") == "stderr"]
    assert not noise, noise[0]
