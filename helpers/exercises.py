"""`helpers.check("02-a", answer)`: one line that says whether an exercise is solved, and if not, what to look at.

A checker is a function of the answer, registered under the exercise's name. It returns True or a sentence that praises
what was understood, or raises `NotYet` with a hint that does not give the answer away.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CHECKERS: dict[str, Callable] = {}


class NotYet(Exception):
    """Raised by a checker: the answer is not right yet, and this is the hint."""


def checker(name: str):
    """Register the decorated function as the checker of exercise `name`, such as "02-a"."""

    def register(function: Callable) -> Callable:
        if name in CHECKERS:
            raise ValueError(f"There are two checkers for exercise {name}.")
        CHECKERS[name] = function
        return function

    return register


def check(name: str, answer=None) -> None:
    """Print one line on an answer to an exercise; never raises on a wrong one, so that a notebook runs through.

    Args:
        name: the exercise, such as "02-a".
        answer: None or ... while it is not answered.

    Raises:
        ValueError: there is no such exercise.
    """
    if name not in CHECKERS:
        raise ValueError(f"There is no exercise {name!r}. There are: {', '.join(sorted(CHECKERS)) or 'none'}.")
    if answer is None or answer is Ellipsis:
        print(f"{name}: not answered yet. Replace the ... above and run the cell again.")
        return
    try:
        said = CHECKERS[name](answer)
    except NotYet as hint:
        print(f"{name}: not yet: {hint}")
    except Exception as error:  # a wrong type or shape breaks the checker's arithmetic: that is an answer too
        print(f"{name}: not yet: your answer, a {type(answer).__name__}, could not be read ({error}).")
    else:
        print(f"{name}: correct. {said if isinstance(said, str) else ''}".rstrip())


# --- what checkers are written with -----------------------------------------------------------------------------------


def expect(condition, hint: str) -> None:
    """Raise `NotYet(hint)` unless the condition holds."""
    if not condition:
        raise NotYet(hint)


def expect_close(answer, expected, hint: str, *, tolerance: float = 1e-3) -> None:
    """Raise `NotYet(hint)` unless shapes agree and every number lies within the tolerance (NaN matches nothing)."""
    answer, expected = _numbers(answer), _numbers(expected)
    expect(answer.shape == expected.shape, f"the shape is {answer.shape}, expected {expected.shape}. {hint}")
    expect(np.allclose(answer, expected, rtol=0, atol=tolerance), hint)


def expect_shape(answer, shape: tuple, hint: str = "") -> None:
    """Raise `NotYet` unless the answer has this shape."""
    found = tuple(getattr(answer, "shape", np.shape(answer)))
    expect(found == tuple(shape), f"the shape is {found}, expected {tuple(shape)}. {hint}".rstrip())


def _numbers(value) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().float()
    return np.asarray(value, dtype=float)


# --- the exercises ----------------------------------------------------------------------------------------------------
# Append only, in the notebooks' order:
#
# @checker("02-a")
# def _(answer):
#     expect_close(answer, 0.1155, "the sigmoid is one half where scale * cosine + bias is 0.", tolerance=5e-4)
#     return "There the logit is zero."
