"""Differences of two estimates, means over pairs, and the word for a difference."""

import numpy as np
import pytest

import helpers
from helpers.course.comparisons import crossed_mean, over_seeds, unpaired_difference, verdict
from helpers.metrics import Estimate


def test_the_word_for_a_difference():
    ends = {"better": (0.01, 0.3), "worse": (-0.3, -0.01), "tie": (0.0, 0.3), "not known": (np.nan, np.nan)}
    assert {verdict(Estimate(low + high, low, high)) for low, high in ends.values()} == set(ends)
    assert all(verdict(Estimate(low + high, low, high)) == word for word, (low, high) in ends.items())


def test_two_samples_drawn_apart():
    rng = np.random.default_rng(0)
    one, other = rng.random(400) < 0.9, rng.random(100) < 0.6
    found = unpaired_difference(helpers.bootstrap_mean(one), helpers.bootstrap_mean(other, seed=1))
    draws = [rng.choice(one, 400).mean() - rng.choice(other, 100).mean() for _ in range(4000)]
    assert found.value == pytest.approx(one.mean() - other.mean())
    assert [found.low, found.high] == pytest.approx(list(np.quantile(draws, [0.025, 0.975])), abs=0.02)
    # An end that is exactly 0 is no difference.
    assert verdict(unpaired_difference(Estimate(1.0, 1.0, 1.0), Estimate(0.98, 0.95, 1.0))) == "tie"


def test_pairs_of_few_words_are_as_sure_as_there_are_words():
    rng = np.random.default_rng(0)
    by_word = rng.random(8)
    values = (rng.random((500, 8)) < by_word).astype(float)
    found = crossed_mean(values)
    words = helpers.bootstrap_mean(values.mean(0))
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(words.high - words.low, rel=0.15)
    assert found.high - found.low > 5 * np.diff(list(helpers.bootstrap_mean(values.mean(1)))[1:])[0]
    assert "8 clusters alike" in str(crossed_mean(np.ones((5, 8))))


def test_several_seeds_in_one_line():
    seeds = [Estimate(0.1, 0.05, 0.15), Estimate(0.2, 0.12, 0.3), Estimate(0.3, 0.2, 0.4)]
    together = over_seeds(seeds)
    assert tuple(together) == pytest.approx((0.2, 0.05, 0.4))
    assert "3 seeds 0.10–0.30" in str(together)
    assert verdict(together) == "better"
    # One seed whose interval holds 0 is enough for a tie, and so are two that point to different sides.
    assert verdict(over_seeds([*seeds, Estimate(0.1, -0.01, 0.2)])) == "tie"
    assert verdict(over_seeds([Estimate(0.1, 0.05, 0.15), Estimate(-0.1, -0.15, -0.05)])) == "tie"
    assert verdict(over_seeds([*seeds, Estimate(0.1, np.nan, np.nan)])) == "not known"
    assert over_seeds(seeds[:1]) is seeds[0]
    with pytest.raises(ValueError, match="one for each training"):
        over_seeds([])
