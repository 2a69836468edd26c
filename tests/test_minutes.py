"""How notebooks fall into sections, and whether the minutes that they name are those that are counted."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import minutes
from tools.chapters import Chapter, chapters
from tools.sections import count_words, sections

FIRST = """# 01 One

**What is it?**

A sentence.

You will be able to
- one
- two
- three

*Time* 5 minutes core, 17 whole · *Memory* 1 GB · *Data* none · *Model* none"""


def small():
    """A notebook with three sections, two exercises, and headings where there are none."""
    return new_notebook(
        cells=[
            new_markdown_cell(FIRST),
            new_code_cell("import helpers"),
            new_markdown_cell("## 1 First\n\n*core · 2 min*\n\n" + "word " * 100 + "\n\n```\n## no heading\n```"),
            new_code_cell("x = 1"),
            new_markdown_cell(
                "Text before.\n\n### Exercise 01-a\n\nAsk?\n\n<details><summary>Hint</summary>h</details>"
            ),
            new_code_cell("y = 2"),
            new_code_cell('helpers.check("01-a", ...)'),
            new_markdown_cell(
                "<details><summary>Solution</summary>\n\nIt is x.\n\n</details>\n\nText after.\n\n"
                "## Second\n*optional · 7 min*\n\nText.\n\n**Exercise 01-b.** Ask again?"
            ),
            new_code_cell('helpers.check("01-b", x)'),
            new_markdown_cell("More.\n\n## What to read next\n\nNothing."),
        ]
    )


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "01_one.ipynb"
    nbformat.write(small(), file)
    return file


def test_sections_and_exercises():
    start, first, second, last = sections(small())
    assert [s.title for s in (start, first, second, last)] == ["", "1 First", "Second", "What to read next"]
    assert [s.number for s in (first, second)] == [1, None]
    assert [s.mark for s in (start, first, second, last)] == [None, ("core", 2), ("optional", 7), None]
    assert [s.exercises for s in (start, first, second, last)] == [[], ["01-a"], ["01-b"], []]
    of_a = [piece.cell.source for piece in first.pieces if piece.exercise == "01-a"]
    assert of_a[0].startswith("### Exercise 01-a") and of_a[1:3] == ["y = 2", 'helpers.check("01-a", ...)']
    assert of_a[3].startswith("<details><summary>Solution") and len(of_a) == 4
    assert [piece.cell.source for piece in first.pieces if piece.exercise is None][-2:] == [
        "Text before.",
        "Text after.",
    ]
    assert [piece.exercise for piece in second.pieces] == [None, "01-b", "01-b", None]
    ids = [piece.cell.id for s in (start, first, second, last) for piece in s.pieces]
    assert len(set(ids)) == len(ids)


def test_the_pieces_are_the_notebook():
    whole = " ".join(cell.source for cell in small().cells).split()
    assert " ".join(p.cell.source for s in sections(small()) for p in s.pieces).split() == whole


def test_words_that_are_read():
    assert count_words("*core · 5 min*\n\nOne [two](https://example.org/three) <b>four</b>, — five.") == 4
    assert count_words("a <details><summary>b</summary>\n\nc d\n\n</details> e") == 2


def test_the_rule():
    _, first, second, _ = sections(small())
    assert second.minutes() == pytest.approx(count_words("Second Text. Exercise 01-b. Ask again? More.") / 150 + 1 + 6)
    assert first.minutes() - first.minutes([]) == pytest.approx(2 + 6 + count_words("Exercise 01-a Ask?") / 150)
    assert first.minutes(["01-a"]) == first.minutes()


@pytest.mark.parametrize(
    ("said", "counted", "honest"),
    [
        (4, 4.4, True),
        (5, 4.0, True),
        (6, 4.4, False),
        (3, 4.4, False),
        (1, 0.2, True),
        (2, 0.2, False),
        (30, 41, False),
    ],
)
def test_a_quarter(said, counted, honest):
    assert minutes.is_honest(said, counted) is honest


def test_problems_are_named_and_write_mends_them(path):
    found = minutes.problems(path)
    assert len(found) == 3 and all("01_one" in problem for problem in found), found
    assert "“1 First”: says 2 min" in found[0] and "What to read next" in found[1] and "core" in found[2]
    assert minutes.write(path)
    assert not minutes.write(path), "the second time nothing changes"
    assert minutes.problems(path) == [found[1]], "what a section is, an author says"
    nb = nbformat.read(path, as_version=4)
    counted = {s.title: s.minutes() for s in sections(small())}
    assert f"## 1 First\n\n*core · {round(counted['1 First'])} min*\n" in nb.cells[2].source
    assert f"## Second\n*optional · {round(counted['Second'])} min*\n" in nb.cells[7].source
    chapter = Chapter.read(path)
    assert chapter.minutes == round(sum(counted.values()))
    assert chapter.core == round(sum(counted.values()) - counted["Second"])
    nbformat.validate(nb)


@pytest.mark.parametrize("chapter", chapters(), ids=lambda chapter: chapter.number)
def test_the_minutes_of_every_chapter_are_honest(chapter):
    assert minutes.problems(chapter.path) == [], "run `python -m tools.minutes --write`"


def test_a_chapter_that_is_all_core_may_say_one_number(path):
    text = path.read_text(encoding="utf-8").replace("5 minutes core, 17 whole", "9 minutes")
    path.write_text(text, encoding="utf-8")
    assert (Chapter.read(path).core, Chapter.read(path).minutes) == (9, 9)
