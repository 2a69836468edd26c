"""The checkers of notebook 09, Concept annotation."""

from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from ...metrics import within_group_auroc
from .checking import exercise, expect, expect_close, expect_function, expect_number, expect_shape, numbers


@exercise
def exercise_09_a(answer: Any) -> str:
    expect_function(answer)
    rng = np.random.default_rng(5)
    groups = np.repeat(["a", "b", "c"], [30, 50, 10])
    truth = np.r_[rng.random(30) < 0.8, rng.random(50) < 0.2, np.ones(10, dtype=bool)].astype(int)
    score = np.round(rng.normal(size=90) + 0.5 * truth + 2.0 * (groups == "a"), 1)  # with ties
    found = expect_number(answer(truth, score, groups))
    expected = within_group_auroc(truth, score, groups, n=2).value
    everyone = within_group_auroc(truth, score, np.zeros(90), n=2).value
    each = [
        within_group_auroc(truth[groups == g], score[groups == g], np.zeros(n), n=2).value
        for g, n in zip("ab", (30, 50), strict=True)
    ]
    expect(not np.isnan(found), "a group without a positive or a negative has no pairs: it adds nothing.")
    expect(abs(found - everyone) > 1e-6, "that compares across groups, too: only pairs of one group count.")
    expect(abs(found - np.mean(each)) > 1e-6, "that is the mean over groups; here all pairs count alike.")
    expect_close(found, expected, "won pairs plus half the ties, divided by all pairs, both summed over groups.")
    same = answer(truth, (groups == "a").astype(float), groups)
    expect_close(same, 0.5, "a score that is constant within each group ties every pair.")
    return "Only pairs of one type were compared."


@exercise
def exercise_09_b(answer: Any) -> str:
    expect_function(answer)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(3, 9, 4, generator=generator)
    mask = torch.arange(9)[None] < torch.tensor([9, 5, 3])[:, None]
    found = answer(tokens, mask)
    expect_shape(found, (3, 4), "one vector for each prompt.")
    vectors = normalize(tokens[torch.arange(3), mask.sum(1) - 1], dim=-1)
    unit = normalize(torch.as_tensor(found).float(), dim=-1)
    last = normalize(tokens[:, -1], dim=-1)
    expect(not torch.allclose(unit, last, atol=1e-4), "tokens[:, -1] is padding for all but the longest prompt.")
    hint = "the last real position is the number of real positions minus one, another one for each prompt."
    expect_close(unit, vectors, hint)
    expect_close(found, vectors, "the right positions; now give each vector the length one.")
    return "[SEP], wherever it stands."


@exercise
def exercise_09_c(answer: Any) -> str:
    expect_function(answer)
    rng = np.random.default_rng(11)
    types = np.array(["x", "y", "z"])
    known_types, new_types = rng.choice(types, 60), rng.choice(types, 25)
    known = (rng.random(60) < np.where(known_types == "x", 0.9, 0.2)).astype(float)
    known[::7] = np.nan
    found = answer(known, known_types, new_types)
    expect_shape(found, (25,), "one score for each new cell.")
    rates = {t: np.nanmean(known[known_types == t]) for t in types}
    found = numbers(found)
    expect(not np.isnan(found).any(), "the truth of some learning cells is unknown (NaN): leave them out of the mean.")
    hint = "the share of learning cells of the same type that have the concept."
    expect_close(found, [rates[t] for t in new_types], hint)
    return "It has not looked at a single picture."
