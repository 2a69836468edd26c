"""Is one better than the other? Differences of two estimates, means over pairs, and the word for a difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..metrics import RESAMPLES, Estimate
from ..metrics.intervals import estimate, resample_weights
from ..settings import SEED

__all__ = ["crossed_mean", "over_seeds", "unpaired_difference", "verdict"]


def verdict(difference: Estimate) -> str:
    """The word for a difference: tie where its interval holds 0, else better or worse; not known without one."""
    if np.isnan([difference.low, difference.high]).any():
        return "not known"
    if difference.low > 0 or difference.high < 0:
        return "better" if difference.value > 0 else "worse"
    return "tie"


def unpaired_difference(first: Estimate, second: Estimate) -> Estimate:
    """First minus second, of two samples that were drawn apart, with its interval.

    Each end adds, as squares, how far the two values lie from the ends that pull it outwards (Zou and Donner 2008). If
    both were measured on the same pictures, the interval is usually wider than it need be: `paired_difference` is for
    those.
    """
    value = first.value - second.value
    down = float(np.hypot(first.value - first.low, second.high - second.value))
    up = float(np.hypot(first.high - first.value, second.value - second.low))
    # Rounded, since an end that is exactly 0 should not become a difference by the last digit.
    return Estimate(round(value, 12), round(value - down, 12), round(value + up, 12))


def crossed_mean(values: Any, *, n: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Mean over all pairs of rows and columns (pictures and words), with its interval.

    Pairs of one picture are not independent, and neither are pairs of one word. So both are drawn anew in each
    resample: the interval is as wide as the number of pictures and the number of words deserve.

    Args:
        values: float [rows, columns].
        n, seed: as in `helpers.metrics.bootstrap`.
    """
    values = np.asarray(values, dtype=float)
    rows, columns = values.shape
    means = (resample_weights(rows, n, seed) @ values * resample_weights(columns, n, seed + 1)).sum(1) / values.size
    return estimate(values.mean(), means, values.size, clusters=np.arange(columns).repeat(rows))


def over_seeds(estimates: Sequence[Estimate]) -> Estimate:
    """One line for several trainings that differ in their seed alone, all judged on the same pictures.

    Args:
        estimates: one a training.

    Returns:
        Estimate: the mean of the values; from the lowest lower end to the highest upper end of their intervals, so that
        it leaves 0 out only where every training does, on the same side; and the range of the values as its note.
    """
    if not estimates:
        raise ValueError("There is no estimate: give one for each training.")
    if len(estimates) == 1:
        return estimates[0]
    values, lows, highs = np.array([tuple(one) for one in estimates]).T
    note = f"{len(values)} seeds {values.min():.2f}–{values.max():.2f}"
    return Estimate(float(values.mean()), float(lows.min()), float(highs.max()), note)
