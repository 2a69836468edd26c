"""The checkers of notebook 14, Adapting the model."""

from typing import Any

import numpy as np
import torch

from .checking import exercise, expect, expect_close, expect_function, expect_number


@exercise
def exercise_14_a(answer: Any) -> str:
    expect_function(answer)
    cases = [
        ([5, 60, 600], [0.5, 0.8, 0.97], 0.9, 600),
        ([5, 60, 600], [0.95, 0.96, 0.97], 0.9, 5),
        ([10, 20, 40, 80], [0.7, 0.9, 0.8, 0.95], 0.85, 80),
        ([5, 60, 600], [0.5, 0.8, 0.9], 0.9, 600),
        ([5, 60, 600], [0.5, 0.8, 0.85], 0.9, np.inf),
    ]
    for counts, values, level, expected in cases:
        found = expect_number(answer(list(counts), list(values), level))
        where = f"{values} at {counts} labels, against {level}"
        if expected == np.inf:
            expect(found == np.inf, f"{where}: the curve never gets there, so give float('inf').")
            continue
        falls_back = values[counts.index(int(found))] >= level and found < expected if found in counts else False
        expect(not falls_back, f"{where}: it falls below again later. From which count on does it stay?")
        expect_close(found, expected, f"{where}: the first count from which on every value is at least that.")
    return "One lucky count is no crossing: the curve must stay above."


@exercise
def exercise_14_b(answer: Any) -> str:
    expect_function(answer)
    for shapes, rank in (([(128, 128)], 8), ([(128, 128)] * 4 + [(512, 128), (128, 512)], 4), ([(1152, 4304)], 16)):
        found = expect_number(answer(list(shapes), rank))
        expected = sum(rank * (rows + columns) for rows, columns in shapes)
        whole = sum(rows * columns for rows, columns in shapes)
        expect(not np.isclose(found, whole), "those are the frozen weights; LoRA adds two thin matrices beside each.")
        expect(not np.isclose(found * 2, expected), "there are two matrices: one into the rank, one out of it.")
        expect_close(found, expected, "A is rank × columns, B is rows × rank, for each layer.", tolerance=0.5)
    return "It grows with the sum of the sides, the layer itself with their product."


@exercise
def exercise_14_c(answer: Any) -> str:
    expect_function(answer)
    rng = torch.Generator().manual_seed(14)
    before = {"weight": torch.randn(3, 4, generator=rng), "bias": torch.randn(3, generator=rng)}
    after = {name: tensor + torch.randn(tensor.shape, generator=rng) for name, tensor in before.items()}
    kept = {name: tensor.clone() for name, tensor in before.items()}
    for share in (0.0, 0.25, 1.0):
        found = answer(before, after, share)
        expect(isinstance(found, dict), f"give a dict of tensors, not a {type(found).__name__}.")
        expect(set(found) == set(before), "the result has the same names as the two that are mixed.")
        expect(all(torch.equal(before[name], kept[name]) for name in before), "`before` was changed: make new tensors.")
        for name, tensor in found.items():
            expected = (1 - share) * before[name] + share * after[name]
            turned = share * before[name] + (1 - share) * after[name]
            other_way = share != 0.5 and torch.allclose(tensor, turned)
            expect(not other_way, "share 0 is the model before, share 1 the one after: yours is turned round.")
            expect_close(tensor, expected, f"{name}: (1 − share) × before + share × after.", tolerance=1e-5)
    return "Between the two lie models that nobody had to train."
