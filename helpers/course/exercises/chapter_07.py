"""The checkers of notebook 07, Explorers."""

from typing import Any

import numpy as np
import torch
from scipy import stats
from torch.nn.functional import normalize

from .checking import exercise, expect, expect_close, expect_function, expect_number, expect_shape


@exercise
def exercise_07_a(answer: Any) -> str:
    expect_function(answer)
    generator = torch.Generator().manual_seed(0)
    patches, vector = torch.randn(20, 8, generator=generator) * 3, torch.randn(8, generator=generator) * 2
    inside = torch.arange(20) < 6
    found = expect_number(answer(patches, inside, vector))
    product = patches @ vector
    cosine = normalize(patches, dim=-1) @ normalize(vector, dim=-1)
    wrong = float(product[inside].mean() - product[~inside].mean())
    expect(not np.isclose(found, wrong, atol=1e-4), "these are not cosines: mind the lengths.")
    only = float(cosine[inside].mean())
    expect(not np.isclose(found, only, atol=1e-4), "now less the mean of the *other* patches.")
    all_less = float(cosine[inside].mean() - cosine.mean())
    expect(not np.isclose(found, all_less, atol=1e-4), "outside means without the patches of the box: ~inside.")
    expect_close(found, cosine[inside].mean() - cosine[~inside].mean(), "cosines, mean inside, less mean outside.")
    return "A phrase that fits everywhere now gets nothing for it."


@exercise
def exercise_07_b(answer: Any) -> str:
    expect_function(answer)
    before = np.array([0.10, 0.35, 0.22, 0.51, 0.05, 0.40])
    after = before + np.array([0.04, 0.05, 0.02, 0.06, 0.03, 0.05])
    found = answer(before, after)
    expect_shape(found, (3,), "three numbers: mean, low, high.")
    mean, low, high = (float(x) for x in found)
    change = after - before
    expect_close(mean, change.mean(), "the mean of after less before.")
    error = stats.sem(change)
    apart = np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / len(before))
    half = (high - low) / 2
    expect(half < 1.5 * apart, "subtract within each seed first; you compared the two groups.")
    expect(not np.isclose(half, 1.96 * error, atol=2e-4), "1.96 is for many seeds; for six take Student's t.")
    t = stats.t.ppf(0.975, len(change) - 1)
    hint = "mean ± t × standard error, t = stats.t.ppf(0.975, n - 1)."
    expect_close([low, high], [mean - t * error, mean + t * error], hint, tolerance=2e-4)
    return "Each seed was its own control."


@exercise
def exercise_07_c(answer: Any) -> str:
    found = expect_number(answer)
    expect(not np.isclose(found, 8), "the first value is what the others are compared with: it has no interval.")
    expect(not np.isclose(found, 2), "each concept is asked once for every value but the first.")
    expect_close(found, 6, "how many intervals are there, and how many in a hundred miss?", tolerance=1e-6)
    return "That many false alarms come free; only what goes beyond them accuses a model."
