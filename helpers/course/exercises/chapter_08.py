"""The checkers of notebook 08, Zero-shot evaluation."""

from typing import Any

import numpy as np

from ...metrics import retrieval_ranks
from .checking import exercise, expect, expect_close, expect_function, expect_number, expect_shape


@exercise
def exercise_08_a(answer: Any) -> str:
    found = expect_number(answer)
    true_alarms, false_alarms = 0.01 * 0.9, 0.99 * 0.1
    expect(abs(found - 0.9) > 0.01, "0.90 is the share of the *findings* that raise the alarm.")
    expect(abs(found - true_alarms) > 1e-3, "these are the true alarms among all pictures; divide by all alarms.")
    hint = "of 1000 pictures, how many with the finding raise the alarm, and how many without?"
    expect_close(found, true_alarms / (true_alarms + false_alarms), hint, tolerance=0.002)
    return "Rare findings turn a good test's alarms into mostly false ones."


@exercise
def exercise_08_b(answer: Any) -> str:
    expect_function(answer)
    # A bootstrap interval has a width that varies from draw to draw. The mean over eight collections varies little
    # enough to tell 95 % from 90 %: as shares of the 95 % normal interval, 1 against 0.84.
    rng = np.random.default_rng(7)
    middles, widths = [], []
    for count in range(800, 1600, 100):
        first = rng.random(count) < 0.6
        second = first ^ (rng.random(count) < 0.05)  # nearly the same cells are right
        found = answer(first, second)
        expect_shape(found, (2,), "two numbers: low, high.")
        low, high = map(float, found)
        expect(low < high, "low must lie below high.")
        normal = 2 * 1.96 * (first * 1.0 - second).std() / np.sqrt(count)
        middles.append(((low + high) / 2 - first.mean() + second.mean()) / normal)
        widths.append((high - low) / normal)
    middle, width = np.mean(middles), np.mean(widths)
    expect(width < 2.3, "too wide: draw the same pictures for both, then subtract.")
    expect(abs(middle) < 0.1, "it should lie round accuracy of the first minus that of the second.")
    expect(width > 0.7, "far too narrow: resample as many pictures as there are.")
    expect(width > 0.92, "narrower than 95 %: cut off 2.5 % at each end, so take the 2.5 % and the 97.5 % quantile.")
    expect(width < 1.08, "wider than 95 %: take the 2.5 % and the 97.5 % quantile of the resampled differences.")
    return "Paired: what is hard for both cancels."


@exercise
def exercise_08_c(answer: Any) -> str:
    expect_function(answer)
    table = np.random.default_rng(3).normal(size=(30, 30)) + np.eye(30)
    found = expect_number(answer(table, 5))
    expected = [float((retrieval_ranks(table) <= k).mean()) for k in (1, 5, 10)]
    columns = float((retrieval_ranks(table.T) <= 5).mean())
    expect(abs(found - columns) > 1e-6, "your queries stand in the columns; here they are the rows.")
    hint = "the rank is one plus the number of other items that score at least as high as the right one."
    expect_close([float(answer(table, k)) for k in (1, 5, 10)], expected, hint, tolerance=1e-6)
    expect(float(answer(np.ones((6, 6)), 3)) == 0, "a constant score finds nothing: ties count against the model.")
    expect(float(answer(np.ones((6, 6)), 6)) == 1, "among as many as there are, every item is found.")
    return "Ties, rows and list lengths, all in order."
