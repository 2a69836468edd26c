"""`helpers.check` says one line, whatever it is given, and never breaks a notebook."""

import numpy as np
import pytest
import torch

import helpers
from helpers.course.exercises import CHECKERS, checker, expect, expect_close, expect_shape


@pytest.fixture
def exercise(monkeypatch):
    monkeypatch.setattr("helpers.course.exercises.CHECKERS", dict(CHECKERS))

    @checker("99-z")
    def _(answer):
        expect_shape(answer, (2,))
        expect_close(answer, [1.0, 2.0], "count from one.")
        return "You counted."


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (None, "99-z: not answered yet. Replace the ... above and run the cell again."),
        (..., "99-z: not answered yet. Replace the ... above and run the cell again."),
        (torch.tensor([1.0, 2.0]), "99-z: correct. You counted."),
        (np.array([1, 2.0004]), "99-z: correct. You counted."),
        ([0, 1], "99-z: not yet: count from one."),
        ([np.nan, 2], "99-z: not yet: count from one."),
        ([1, 2, 3], "99-z: not yet: the shape is (3,), expected (2,)."),
    ],
)
def test_one_line(exercise, capsys, answer, line):
    helpers.check("99-z", answer)
    assert capsys.readouterr().out == line + "\n"


def test_an_answer_of_a_wrong_kind_does_not_raise(exercise, capsys):
    helpers.check("99-z", ["one", "two"])
    assert capsys.readouterr().out.startswith("99-z: not yet: your answer, a list, could not be read")


def test_unknown_exercise_and_double_checker(exercise):
    with pytest.raises(ValueError, match="no exercise '77-x'"):
        helpers.check("77-x", 1)
    with pytest.raises(ValueError, match="two checkers"):
        checker("99-z")(print)


def test_expect():
    expect(True, "")
    with pytest.raises(Exception, match="hint"):
        expect(False, "hint")
