"""The checkers of notebook 03, Image encoding."""

from typing import Any

import numpy as np
import torch

from .checking import exercise, expect, expect_close, expect_function, expect_number, expect_shape, numbers


@exercise
def exercise_03_a(answer: Any) -> str:
    expect_shape(answer, (2,), "two numbers: as it should be, and rescaled twice.")
    right, twice = (expect_number(number) for number in answer)
    expect(not np.isclose(right, 0.8, atol=1e-3), "0.8 is right after the third step; the fourth is still to come.")
    expect_close(right, (0.8 - 0.5) / 0.5, "only the last step is left: (x - 0.5) / 0.5.")
    expect(not np.isclose(twice, 0.8 / 255, atol=1e-4), "divided by 255, yes; and then the fourth step.")
    expect_close(twice, (0.8 / 255 - 0.5) / 0.5, "divide by 255 first, then (x - 0.5) / 0.5.")
    return "Twice rescaled, light grey is all but black."


@exercise
def exercise_03_b(answer: Any) -> str:
    found, row, column = expect_number(answer), int(300 / 768 * 384 // 14), int(978 / 1024 * 384 // 14)
    stretched = int(300 / 768 * 27) * 27 + int(978 / 1024 * 27)
    expect(found != stretched, "27 patches of 14 pixels do not fill the 384: count in pixels of the squashed picture.")
    expect(found != column * 27 + row, "patches are numbered row by row: the row counts 27 times.")
    expect(found != (row + 1) * 27 + column + 1, "rows and columns are counted from 0.")
    expect(found == row * 27 + column, "squash the point to 384 x 384, divide by 14, then row * 27 + column.")
    return "Squashed first, then counted in patches."


@exercise
def exercise_03_c(answer: Any) -> str:
    expect_function(answer)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 6, generator=generator) * (torch.arange(12) + 1)[:, None]
    unit = features / features.norm(dim=-1, keepdim=True)
    expected = numbers((unit @ unit.T).fill_diagonal_(-2).topk(3, dim=1).indices)
    found = answer(features, 3)
    expect_shape(found, (12, 3), "k numbers for each row.")
    found = numbers(found)
    expect(not (found == np.arange(12)[:, None]).any(), "a picture is not its own neighbour.")
    expect((np.sort(found, 1) == np.sort(expected, 1)).all(), "by cosine: long vectors are not more similar.")
    expect((found == expected).all(), "the right ones, but not the most similar first.")
    return "Unit length, cosines, without oneself."
