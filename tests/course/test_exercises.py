"""Every checker is fed: what is right, each likely mistake, nothing, the starter, and things of a wrong type."""

import inspect
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from answers import RIGHT, WRONG

import helpers
from helpers.course.exercises import EXERCISES, NotYet, checking
from helpers.course.exercises.chapter_02 import WORDS
from helpers.course.exercises.checking import check, exercise, expect, expect_close, expect_number, expect_shape
from tools.chapters import NOTEBOOKS, SOLUTIONS

every = pytest.mark.parametrize("name", sorted(EXERCISES))
ODD_RESULTS = ["?", [], {}, object(), np.zeros((2, 3, 4, 5)), torch.zeros(0)]
# Exercises whose answer is a function are those whose checker says so.
FUNCTIONS = [name for name, checker in sorted(EXERCISES.items()) if "expect_function(" in inspect.getsource(checker)]


def said(capsys, name, answer):
    """The one line that is printed about an answer, without the exercise's name: (verdict, what follows it)."""
    capsys.readouterr()
    check(name, answer)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"{name}: "), lines
    verdict, _, rest = re.fullmatch(r"(correct\.|[a-z ]+[:.])( )(.*)", lines[0].removeprefix(f"{name}: ")).groups()
    return verdict[:-1], rest


def cells(path, name=r"\d\d-[a-z]"):
    """The sources of the code cells of a notebook that check this exercise, or any."""
    found = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    return [source for source in found if re.search(rf"""helpers\.check\(\s*["']{name}["']""", source)]


@pytest.mark.parametrize(("name", "k"), [(name, k) for name in RIGHT for k in range(len(RIGHT[name]))])
def test_what_is_right(capsys, name, k):
    verdict, praise = said(capsys, name, RIGHT[name][k])
    assert verdict == "correct" and praise, praise


@pytest.mark.parametrize(("name", "k"), [(name, k) for name in WRONG for k in range(len(WRONG[name]))])
def test_each_mistake_gets_the_hint_that_names_it(capsys, name, k):
    answer, names = WRONG[name][k]
    verdict, hint = said(capsys, name, answer)
    assert verdict in ("not yet", "not filled in yet") and names in hint, (verdict, hint)


def test_every_exercise_has_right_and_wrong_answers():
    assert set(RIGHT) == set(EXERCISES) == set(WRONG)


@every
def test_the_starter_runs(capsys, name):
    (chapter,) = NOTEBOOKS.glob(f"{name[:2]}_*.ipynb")
    (starter,) = cells(chapter, name)
    exec(starter, {"helpers": helpers})
    assert re.match(rf"{name}: not (answered|filled in) yet", capsys.readouterr().out)


@pytest.mark.parametrize("path", sorted(SOLUTIONS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_cells_of_the_solutions_are_right(capsys, path):
    namespace = {"helpers": helpers, "np": np, "pd": pd, "torch": torch}
    for source in cells(path):
        exec(source, namespace)
    solved = re.findall(r"(?m)^(\d\d-[a-z]): correct\.", capsys.readouterr().out)
    assert set(solved) == {name for name in EXERCISES if name[:2] == path.name[:2]}


@every
@pytest.mark.parametrize("answer", [None, ...])
def test_nothing(capsys, name, answer):
    assert said(capsys, name, answer)[0] == "not answered yet"


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("found", [None, ..., (..., ...)])
def test_a_function_that_is_not_filled_in(capsys, name, found):
    assert said(capsys, name, lambda *args, **kwargs: found)[0] == "not filled in yet"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_stops(capsys, name):
    def stops(*args, **kwargs):
        return 1 / 0

    verdict, hint = said(capsys, name, stops)
    assert verdict == "not yet" and "ZeroDivisionError" in hint


@every
@pytest.mark.parametrize(
    "answer",
    ["?", [], {}, [[1], [2, 3]], object(), 3 + 4j, len, lambda: 0],
    # No addresses: two workers must name a test alike.
    ids=["text", "list", "dict", "ragged", "object", "complex", "builtin", "function"],
)
def test_a_wrong_type(capsys, name, answer):
    assert said(capsys, name, answer)[0] == "not yet"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_number_instead_of_a_function(capsys, name):
    verdict, hint = said(capsys, name, 3)
    assert verdict == "not yet" and "function itself" in hint


@pytest.mark.parametrize("name", sorted(set(EXERCISES) - set(FUNCTIONS) - {"02-a", "11-c", "03-a", "04-b"}))
def test_a_function_instead_of_a_number(capsys, name):
    verdict, hint = said(capsys, name, lambda: 1)
    assert verdict == "not yet" and "number" in hint


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "found", ["?", [], {}, object(), np.zeros((2, 3, 4, 5)), torch.zeros(0)], ids=lambda x: type(x).__name__
)
def test_a_function_that_returns_a_wrong_type(capsys, name, found):
    assert said(capsys, name, lambda *args, **kwargs: found)[0] == "not yet"


def test_each_checker_stands_in_its_chapters_file():
    for name, checker in EXERCISES.items():
        assert checker.__module__ == f"helpers.course.exercises.chapter_{name[:2]}"
        assert checker.__name__ == f"exercise_{name.replace('-', '_')}"


def test_the_words_of_02_a_are_those_of_the_notebook():
    (chapter,) = NOTEBOOKS.glob("02_*.ipynb")
    (starter,) = cells(chapter, "02-a")
    namespace = {"helpers": helpers}
    exec(starter, namespace)
    assert tuple(namespace["words"]) == WORDS


# --- check itself, on an exercise of its own --------------------------------------------------------------------------


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setattr(checking, "EXERCISES", {})

    @exercise
    def exercise_99_z(answer):
        expect_shape(answer, (2,))
        expect_close(answer, [1.0, 2.0], "count from one.")
        return "You counted."

    return exercise_99_z


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (torch.tensor([1.0, 2.0]), "99-z: correct. You counted."),
        (np.array([1, 2.0004]), "99-z: correct. You counted."),
        ([0, 1], "99-z: not yet: count from one."),
        ([np.nan, 2], "99-z: not yet: count from one."),
        ([1, 2, 3], "99-z: not yet: the shape is (3,), expected (2,)."),
        ([1, ...], "99-z: not filled in yet: 1 of 2 are still open."),
    ],
)
def test_one_line(counting, capsys, answer, line):
    check("99-z", answer)
    assert capsys.readouterr().out == line + "\n"


def test_an_answer_that_cannot_be_read_does_not_raise(counting, capsys):
    verdict, hint = said(capsys, "99-z", ["one", "two"])
    assert verdict == "not yet" and "of type list" in hint


def test_an_exercise_that_is_not_there(counting):
    with pytest.raises(ValueError, match=r"'77-x'.*99-z"):
        check("77-x", 1)


def test_a_second_checker_and_a_name_that_is_none(counting):
    with pytest.raises(ValueError, match="'99-z'"):
        exercise(counting)
    with pytest.raises(ValueError, match="'print'"):
        exercise(print)


def test_expect():
    expect(True, "")
    with pytest.raises(NotYet, match="hint"):
        expect(False, "hint")
    assert expect_number(torch.tensor([2])) == expect_number(np.float32(2)) == expect_number("2") == 2
    for answer in ([1, 2], "two", {}, len, None):
        with pytest.raises(NotYet, match="number"):
            expect_number(answer)
