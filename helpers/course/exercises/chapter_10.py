"""The checkers of notebook 10, Concept bottleneck."""

from typing import Any

import numpy as np

from ...metrics import auroc, within_group_auroc
from .checking import exercise, expect, expect_close, expect_function, expect_number, expect_shape, numbers


@exercise
def exercise_10_a(answer: Any) -> str:
    expect_function(answer)
    rng = np.random.default_rng(3)
    weights, score, mean = rng.normal(size=(4, 6)), rng.normal(2, 3, 6), rng.normal(2, 1, 6)
    spread = rng.uniform(0.5, 3, 6)
    found = answer(weights, score, mean, spread)
    expect_shape(found, (4, 6), "One term for each class and each concept: do not sum yet.")
    found = numbers(found)
    expect(not np.allclose(found, weights * score), "the weights act on standardised scores.")
    expect(not np.allclose(found, weights * (score - mean)), "minus the mean, and then over the standard deviation.")
    expect_close(found, weights * ((score - mean) / spread), "weight times standardised score.", tolerance=1e-6)
    return "Summed over concepts, plus the intercept, these are the logits."


@exercise
def exercise_10_b(answer: Any) -> str:
    expect_function(answer)
    for logit_a, logit_b, weight_a, weight_b, spread in ((2.0, 0.5, 0.8, -0.4, 1.6), (1.0, -1.0, -0.5, 0.3, 0.2)):
        found = expect_number(answer(logit_a, logit_b, weight_a, weight_b, spread))
        expected = -(logit_a - logit_b) * spread / (weight_a - weight_b)
        expect(not np.isclose(found, -expected), "mind the sign: the gap must close, not widen.")
        in_deviations = "that is in standard deviations: the score itself is asked for."
        expect(not np.isclose(found, expected / spread), in_deviations)
        expect_close(found, expected, "the gap changes by (weight_a - weight_b) times change / spread.", tolerance=1e-6)
    return "The smaller it is beside the concept's usual range, the more the decision hangs on it."


@exercise
def exercise_10_c(answer: Any) -> str:
    expect_function(answer)
    rng = np.random.default_rng(4)
    concept = rng.integers(0, 2, 200)
    other = np.where(rng.random(200) < 0.8, concept, 1 - concept)
    score = 2 * concept + 0.5 * other + rng.normal(size=200)
    found = expect_number(answer(score, concept, other))
    everyone = auroc(other, score, n=2).value
    swapped = within_group_auroc(other, score, other, n=2).value
    expect(not np.isclose(found, everyone), "that compares cells with and without the concept, too.")
    expect(np.isnan(swapped) or not np.isclose(found, swapped), "the groups are those of the concept.")
    each = [auroc(other[concept == k], score[concept == k], n=2).value for k in (0, 1)]
    pooled = within_group_auroc(other, score, concept, n=2).value
    expect(not np.isclose(found, 1 - pooled), "that is one minus it: which argument is the truth?")
    # Pairs pooled as in the helper, or the mean of the two groups: both compare like with like.
    right = min(abs(found - pooled), abs(found - float(np.mean(each)))) < 1e-6
    expect(right, "AUROC between cells that agree in the concept.")
    return "What remains above one half is not in the concept's name."
