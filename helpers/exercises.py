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


# --- 01 Model loading


@checker("01-a")
def _(answer):
    stored = 4.570648
    answer = float(answer)
    expect(abs(answer - np.exp(stored)) > 0.5, "that is the true scale. Divide it by what was stored.")
    expect_close(answer, np.exp(stored) / stored, "the file holds the scale's logarithm.", tolerance=0.2)
    return "The ranking survives the mistake; no probability does."


@checker("01-b")
def _(answer):
    from .geometry import parameter_table

    expected = parameter_table().loc["total", "parameters"] * 2 / 1e9
    answer = float(answer)
    expect(answer < 100, "gigabytes are asked for: divide the bytes by 1e9.")
    expect(abs(answer - 2 * expected) > 0.1, "that is float32; a bfloat16 number takes two bytes.")
    expect_close(answer, expected, "helpers.parameter_table takes a dtype.", tolerance=0.02)
    return "Half of float32, since both formats say the same number of parameters."


@checker("01-c")
def _(answer):
    answer = float(answer)
    side = (384 // 14 * 14) / 384
    expect(abs(answer - (1 - side)) > 1e-3, "that is the share of a side; the share of the area is asked for.")
    expect(abs(answer - side**2) > 1e-3, "that is what is seen.")
    expect_close(answer, 1 - side**2, "how many whole patches fit along a side, and how many pixels are they?")
    return "A strip at the right and at the bottom."


# 04 Joint scoring


@checker("04-a")
def _(answer):
    from .scoring import RELEASED_SCALES

    scale, bias = RELEASED_SCALES.logit_scale, RELEASED_SCALES.logit_bias
    found, logit = float(answer), np.log(0.9 / 0.1)
    expect(not np.isclose(found, -bias / scale, atol=5e-4), "that is where the sigmoid is one half: its logit is 0.")
    expect(not np.isclose(found, logit, atol=5e-3), "that is the logit whose sigmoid is 0.9; which cosine has it?")
    expect(not np.isclose(found, (logit + bias) / scale, atol=5e-4), "mind the sign: logit = scale * cosine + bias.")
    expect_close(found, (logit - bias) / scale, "solve log(0.9 / 0.1) = scale * cosine + bias.", tolerance=5e-4)
    return "A little above the bar already: the scale makes the switch a sharp one."


@checker("04-b")
def _(answer):
    sigmoid, softmax = (float(number) for number in answer)
    expect(np.isclose(sigmoid, 0.3, atol=5e-3), "does a sigmoid look at the other prompts of the list?")
    expect(not np.isclose(softmax, 0.4, atol=5e-3), "the others do not stay at 0.2: all shares are divided anew.")
    expect(not np.isclose(softmax, 0.8, atol=5e-3), "a second copy runs in the same race.")
    expect_close(softmax, 0.8 / 1.8, "the copies weigh 0.8 each and the others 0.2: what is the total?", tolerance=5e-3)
    return "The sigmoid did not notice; the softmax shared the prize with its twin."


@checker("04-c")
def _(answer):
    import torch

    from .scoring import local_scores

    generator = torch.Generator().manual_seed(0)
    tokens, vectors = torch.randn(2, 20, 8, generator=generator), torch.randn(3, 8, generator=generator)
    found = answer(tokens, vectors, 5)
    if found is None:
        raise NotYet("your function returns nothing yet.")
    expect_shape(found, (2, 3), "one score for each picture and each concept.")
    products = (tokens @ vectors.T).topk(5, dim=1).values.mean(1)
    expect(not np.allclose(_numbers(found), _numbers(products), atol=1e-4), "these are not cosines: mind the lengths.")
    every = local_scores(tokens, vectors, recipe="derm7pt")
    expect(not np.allclose(_numbers(found), _numbers(every), atol=1e-4), "only the `top` largest patches count.")
    expected = local_scores(tokens, vectors, recipe="zero_shot", top=5)
    expect_close(found, expected, "unit lengths, all cosines, the largest over patches (axis 1), their mean.")
    return "Lengths, cosines, the largest, their mean: the authors' local score."
