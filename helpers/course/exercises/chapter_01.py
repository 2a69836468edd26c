"""The checkers of notebook 01, Model loading."""

from typing import Any

import numpy as np
from torch import nn

from ..geometry import parameter_table
from .checking import exercise, expect, expect_close, expect_function, expect_number


@exercise
def exercise_01_a(answer: Any) -> str:
    expect_function(answer)

    def model(*, training: bool = False, inner: bool = False, apart: bool = False) -> nn.Module:
        made = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.1))).train(training)
        made[1][1].train(training or inner)
        return nn.ModuleList([made, nn.Linear(3, 3, device="meta")]).eval() if apart else made

    cases = (
        (model(), True, "a model in evaluation mode, all on one device, is ready."),
        (model(training=True), False, "this model is in training mode: look at .training."),
        (model(inner=True), False, "one part of this model is in training mode, and the model itself is not."),
        (model(apart=True), False, "the weights of this model are on two devices."),
        (nn.Sequential(nn.Linear(3, 3, device="meta")).eval(), True, "any device will do, if it is only one."),
    )
    for asked, expected, hint in cases:
        states = [part.training for part in asked.modules()]
        found = answer(asked)
        expect(states == [part.training for part in asked.modules()], "your function changes the model: only look.")
        expect(isinstance(found, (bool, np.bool_)), "give True or False.")
        expect(bool(found) == expected, hint)
    return "Every part was asked, and every weight."


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
