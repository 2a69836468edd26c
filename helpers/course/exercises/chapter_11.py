"""The checkers of notebook 11, Do maps tell the truth?"""

from typing import Any

import numpy as np

from .checking import exercise, expect, expect_close, expect_function, expect_number, expect_shape, numbers


@exercise
def exercise_11_a(answer: Any) -> str:
    expect_function(answer)
    rng = np.random.default_rng(0)
    shares = rng.random((80, 4, 6)) * rng.random((80, 1, 1))
    shares[:20] = 0
    found, inside = expect_number(answer(shares)), shares >= 0.5
    half = "one half is chance for the AUROC; average precision depends on the mask's size."
    expect(not np.isclose(found, 0.5), half)
    kept = inside[inside.any((1, 2)) & ~inside.all((1, 2))].reshape(-1, 24)
    limit = "that is the share of patches inside: the limit for endlessly many patches. Grade some random maps and see."
    expect(not np.isclose(found, kept.mean()) and not np.isclose(found, inside.mean()), limit)
    place = np.arange(1, 25)
    expected = ((1 + (place - 1) * (kept.sum(1, keepdims=True) - 1) / 23) / place).mean()
    expect(
        not np.isclose(found, expected * len(kept) / len(shares), atol=0.02),
        "leave out pictures without a patch inside.",
    )
    expect_close(found, expected, "grade random maps and average: what does it tend to?", tolerance=0.02)
    return "More than the share of patches inside, and the more so the smaller the part."


@exercise
def exercise_11_b(answer: Any) -> str:
    expect_function(answer)
    rng = np.random.default_rng(0)
    map_ = rng.random((5, 7))
    for count in (0, 1, 9, 35):
        found = answer(map_.copy(), count)
        expect_shape(found, (5, 7), "a True or False for each patch.")
        kept = numbers(found).astype(bool)
        expect(kept.sum() != count or count * 2 == 35, "False where the patch is taken away, True where it stays.")
        expect(kept.sum() == 35 - count, f"of 35 patches {count} should be gone; {int((~kept).sum())} are.")
        if 0 < count < 35:
            expect(map_[~kept].max() > map_[kept].max(), "the most important patches go first; yours go last.")
            expect(map_[~kept].min() > map_[kept].max(), "those that go must be the largest of all.")
    tied = numbers(answer(np.zeros((5, 7)), 9)).astype(bool)
    expect(tied.sum() == 26, "when values are equal your function removes too many or too few: rank, do not compare.")
    return "Ranks, not thresholds: it removes as many as you say, also when values are equal."


@exercise
def exercise_11_c(answer: Any) -> str:
    reasons = {
        "it outlines whatever has edges": "random weights",
        "it shows the same for every question": "another phrase",
        "it always looks at the middle": "centre",
        "it marks whatever is purple": "colour",
    }
    expect(isinstance(answer, dict), "give the dictionary.")
    expect(set(answer) == set(reasons), "keep the four failures as the keys.")
    unknown = [control for control in answer.values() if control not in reasons.values()]
    expect(not unknown, f"{', '.join(map(repr, unknown))}: the controls are {', '.join(sorted(reasons.values()))}.")
    wrong = [failure for failure in reasons if answer[failure] != reasons[failure]]
    expect(not wrong, f"a map of which {wrong[0]!r}: which control would score just as well?" if wrong else "")
    return "A control is a map with that failure and nothing else."
