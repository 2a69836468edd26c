"""The checkers of notebook 01, Model loading."""

from typing import Any

import numpy as np

from ..geometry import parameter_table
from .checking import exercise, expect, expect_close, expect_number


@exercise
def exercise_01_a(answer: Any) -> str:
    stored, found = 4.570648, expect_number(answer)
    expect(abs(found - np.exp(stored)) > 0.5, "that is the true scale. Divide it by what was stored.")
    expect_close(found, np.exp(stored) / stored, "the file holds the scale's logarithm.", tolerance=0.2)
    return "The ranking survives the mistake; no probability does."


@exercise
def exercise_01_b(answer: Any) -> str:
    size, found = parameter_table().loc["total", "parameters"] * 2, expect_number(answer)
    expect(found < 100, "gigabytes are asked for: divide the bytes by 1e9.")
    for times, number in ((1, "a bfloat16"), (2, "a float32")):
        hint = f"that is {number} model in GiB: divide by 10⁹ bytes, not by 2³⁰."
        expect(abs(found - times * size / 2**30) > 0.02, hint)
    expect(abs(found - 2 * size / 1e9) > 0.1, "that is float32; a bfloat16 number takes two bytes.")
    expect_close(found, size / 1e9, "helpers.course.parameter_table takes a dtype.", tolerance=0.02)
    return "Half of float32, since both formats say the same number of parameters."


@exercise
def exercise_01_c(answer: Any) -> str:
    side, found = (384 // 14 * 14) / 384, expect_number(answer)
    expect(abs(found - (1 - side)) > 1e-3, "that is the share of a side; the share of the area is asked for.")
    expect(abs(found - side**2) > 1e-3, "that is what is seen.")
    expect_close(found, 1 - side**2, "how many whole patches fit along a side, and how many pixels are they?")
    return "A strip at the right and at the bottom."
