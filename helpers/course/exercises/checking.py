"""`helpers.check("02-a", answer)`: one line that says whether an exercise is solved, and if not, what to look at.

A checker is a function of the answer, named after its exercise. It returns a sentence that praises what was understood,
or raises `NotYet` with a hint that does not give the answer away:

    @exercise
    def exercise_02_a(answer):
        expect_close(expect_number(answer), 0.1155, "the sigmoid is one half where scale * cosine + bias is 0.")
        return "There the logit is zero."

`check` sees to what is the same everywhere: an answer that is not there yet, a function that is not filled in yet, one
that stops with an error of its own, and an answer that a checker cannot read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from .memory import remember

Checker = Callable[[Any], str]
C = TypeVar("C", bound=Checker)

EXERCISES: dict[str, Checker] = {}
"""The checker of each exercise, by the exercise's name, such as "02-a"."""


class NotYet(Exception):
    """Raised by a checker: the answer is not right yet, and this is the hint."""


class NotFilledIn(NotYet):
    """The answer, or what its function returns, still holds the starter's `...` or is None."""


def exercise(checker: C) -> C:
    """Register `exercise_02_a` as the checker of exercise "02-a".

    Raises:
        ValueError: the function has another kind of name, or the exercise a checker already.
    """
    match = re.fullmatch(r"exercise_(\d\d)_([a-z])", checker.__name__)
    if match is None:
        raise ValueError(f"A checker is named after its exercise, such as exercise_02_a, not {checker.__name__!r}.")
    name = "-".join(match.groups())
    if name in EXERCISES:
        raise ValueError(f"There are two checkers for exercise {name!r}.")
    EXERCISES[name] = checker
    return checker


def check(name: str, answer: Any = None) -> None:
    """Print one line on an answer to an exercise; never raises on a wrong one, so that a notebook runs through.

    An exercise that was passed is remembered on this machine: `helpers.course.passed()` lists them.

    Args:
        name: the exercise, such as "02-a".
        answer: None or ... while it is not answered.

    Raises:
        ValueError: there is no such exercise.
    """
    if name not in EXERCISES:
        raise ValueError(f"There is no exercise {name!r}. There are: {', '.join(sorted(EXERCISES)) or 'none'}.")
    if answer is None or answer is Ellipsis:
        print(f"{name}: not answered yet. Replace the ... above and run the cell again.")
        return
    try:
        expect_filled_in(answer)
        said = EXERCISES[name](_watched(answer) if callable(answer) else answer)
    except NotFilledIn as hint:
        print(f"{name}: not filled in yet: {hint}")
    except NotYet as hint:
        print(f"{name}: not yet: {hint}")
    except Exception as error:  # a wrong type or shape breaks the checker's arithmetic: that is an answer too
        print(f"{name}: not yet: your answer, of type {type(answer).__name__}, could not be read ({error}).")
    else:
        print(f"{name}: correct. {said}")
        remember(name)


def _watched(function: Callable[..., Any]) -> Callable[..., Any]:
    """The learner's function, which says of itself that it is not filled in, or with which error it stops."""

    @wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        try:
            found = function(*args, **kwargs)
        except NotImplementedError as error:
            raise NotFilledIn("your function raises NotImplementedError.") from error
        except Exception as error:
            raise NotYet(f"your function stops with {type(error).__name__}: {error}") from error
        if found is None or found is Ellipsis:
            raise NotFilledIn("your function returns nothing.")
        expect_filled_in(found)
        return found

    return watched


# --- what checkers are written with -----------------------------------------------------------------------------------


def expect(condition: Any, hint: str) -> None:
    """Raise `NotYet(hint)` unless the condition holds."""
    if not condition:
        raise NotYet(hint)


def expect_filled_in(value: Any) -> None:
    """Raise `NotFilledIn` if a tuple, list or dictionary still holds a `...` of the starter."""
    items: list[Any] = []
    if isinstance(value, Mapping):
        items = list(value.values())
    elif isinstance(value, (tuple, list)):
        items = list(value)
    still = sum(item is Ellipsis for item in items)
    if still:
        raise NotFilledIn(f"{still} of {len(items)} are still open.")


def expect_function(answer: Any) -> None:
    """Raise `NotYet` unless the answer can be called."""
    expect(callable(answer), "give the function itself, without calling it.")


def expect_number(answer: Any) -> float:
    """The answer as a float; raise `NotYet` unless it is one number (a tensor or array of one is)."""
    expect(not callable(answer), "a number is asked for: call your function, and give what it returns.")
    try:
        return float(answer)
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(f"one number is asked for, and this is of type {type(answer).__name__}.") from None


def expect_close(answer: Any, expected: Any, hint: str, *, tolerance: float = 1e-3) -> None:
    """Raise `NotYet(hint)` unless shapes agree and every number lies within the tolerance (NaN matches nothing)."""
    answer, expected = numbers(answer), numbers(expected)
    expect(answer.shape == expected.shape, f"the shape is {answer.shape}, expected {expected.shape}. {hint}")
    expect(np.allclose(answer, expected, rtol=0, atol=tolerance), hint)


def expect_shape(answer: Any, shape: tuple[int, ...], hint: str = "") -> None:
    """Raise `NotYet` unless the answer has this shape."""
    found = tuple(getattr(answer, "shape", np.shape(answer)))
    expect(found == tuple(shape), f"the shape is {found}, expected {tuple(shape)}. {hint}".rstrip())


def numbers(value: Any) -> np.ndarray:
    """Tensor, array or list as an array of float64."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().float()
    return np.asarray(value, dtype=float)
