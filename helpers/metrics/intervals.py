"""How sure are we? A value with its bootstrap interval, over images or over what they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..labels import by_name, own_groups
from ..settings import SEED

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% bootstrap interval. Prints as 0.97 (0.96–0.98); `f"{e:.3f}"` sets the digits.

    `value, low, high = e` unpacks it, and `float(e)` is the value. It is no tuple, so that pandas prints it likewise.

    Attributes:
        value, low, high: NaN where they are not defined.
        note: why there is no interval, or one of no width; printed behind it. Empty where nothing is to be said.
        count: images that were judged.
        left_out: images that were not, since their truth is missing.
    """

    value: float
    low: float
    high: float
    note: str = ""
    count: int | None = None
    left_out: int = 0

    def __iter__(self) -> Iterator[float]:
        return iter((self.value, self.low, self.high))

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return format(self)

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        value, low, high = (format(x, spec or ".2f") for x in self)
        return f"{value} ({low}–{high}" + (f"; {self.note})" if self.note else ")")


UNDEFINED = Estimate(np.nan, np.nan, np.nan, "nothing known", 0)


def bootstrap(
    statistic: Callable[..., float], *arrays: Any, clusters: Any = None, n: int = RESAMPLES, seed: int = SEED
) -> Estimate:
    """Percentile interval of any statistic, resampling rows (images) together in all arrays.

    Args:
        statistic: takes the arrays, returns a number (NaN where it is not defined).
        arrays: equally long; row i of each belongs to image i. Tables and columns with names are matched by them.
        clusters: as in `bootstrap_mean`.
        n: resamples.
        seed: of the draw.

    Returns:
        Estimate. Resamples in which the statistic is undefined (say, one class only) are left out; if those are more
        than half, the interval is NaN.

    Raises:
        ValueError: no arrays, empty ones, or of different lengths.
    """
    if not arrays or not len(arrays[0]) or any(len(a) != len(arrays[0]) for a in arrays):
        raise ValueError(f"The arrays must be equally long and not empty; they have {[len(a) for a in arrays]} rows.")
    size = len(arrays[0])
    own = None if clusters is None else clusters_of(clusters, size, arrays[0])
    tables = [np.asarray(by_name(arrays[0], array, what=("the first array", "another"))[1]) for array in arrays]
    value = float(statistic(*tables))
    if own is None:
        rng = np.random.default_rng(seed)
        draws = (rng.integers(0, size, size) for _ in range(n))
    else:
        draws = (np.arange(size).repeat(w.astype(int)) for w in resample_weights(size, n, seed, own))
    resampled = np.array([statistic(*(table[rows] for table in tables)) for rows in draws], dtype=float)
    return estimate(value, resampled, size, clusters=own)


def bootstrap_mean(values: Any, *, clusters: Any = None, n: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Mean of one value an image, with its interval; NaN values (not defined for that image) are left out.

    Args:
        values: float [N].
        clusters: [N] labels (photograph, slide, patient); images of one label are resampled together, and one without
            a label stands alone. None: each image by itself.
        n, seed: as in `bootstrap`.

    Returns:
        Estimate. Images that belong together are not independent: with clusters the interval is as wide as their number
        deserves.

    Raises:
        ValueError: clusters that do not fit.
    """
    own = None if clusters is None else clusters_of(clusters, np.size(values), values)
    values = np.asarray(values, dtype=float).ravel()
    there = ~np.isnan(values)
    if not there.any():
        return UNDEFINED
    weights = resample_weights(len(values), n, seed, own)
    with np.errstate(invalid="ignore"):
        means = weights @ np.where(there, values, 0.0) / (weights @ there)
    return estimate(values[there].mean(), means, int(there.sum()), clusters=own if own is None else own[there])


# --- for the other modules --------------------------------------------------------------------------------------------


def clusters_of(clusters: Any, size: int, of: Any) -> np.ndarray:
    """Clusters as numbers, int [N], those of a Series in the order of what they belong to (`by_name`)."""
    if np.ndim(clusters) == 1 and np.ndim(of) and len(clusters) == len(of) == size:
        clusters = by_name(of, clusters, what=("the images", "clusters"))[1]
    return own_groups(clusters, size, what="clusters")


def resample_weights(size: int, n: int, seed: int, clusters: Any = None) -> np.ndarray:
    """How often each of `size` images is drawn in each of `n` resamples: float32 [n, size].

    Rows sum to `size`. With clusters (from `clusters_of`) it is these that are drawn, as many as there are, and an
    image as often as its own: a mean under such weights is a ratio of two sums that both vary, as it must be where
    clusters differ in size.
    """
    if clusters is not None:
        names, own = np.unique(clusters, return_inverse=True)
        return resample_weights(len(names), n, seed)[:, own]
    rng = np.random.default_rng(seed)
    return rng.multinomial(size, np.full(size, 1 / size), size=n).astype(np.float32)


def estimate(
    value: float, resampled: np.ndarray, count: int, *, left_out: int = 0, clusters: Any = None, undefined: str = ""
) -> Estimate:
    """The estimate from the value and its resamples, with a word on an interval that is none.

    Args:
        value: of the images as they are.
        resampled: float [n]; NaN where it is not defined.
        count: images judged.
        left_out: images without a truth.
        clusters: int [count], if they were resampled.
        undefined: why the value is NaN, if it is.
    """
    value, count, left_out = float(value), int(count), int(left_out)
    there = resampled[~np.isnan(resampled)]
    if np.isnan(value):
        return Estimate(value, np.nan, np.nan, undefined or "not defined", count, left_out)
    if len(there) < len(resampled) / 2 or not len(there):
        return Estimate(value, np.nan, np.nan, "not defined in most resamples", count, left_out)
    low, high = (float(end) for end in np.quantile(there, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    note = ""
    if high - low < 1e-12:
        units, what = (count, "image") if clusters is None else (len(np.unique(clusters)), "cluster")
        if len(resampled) < 2:
            note = "one resample"
        elif units < 2:
            note = f"one {what}"
        else:
            # Short, since it stands behind the interval in every cell of a table.
            alike = len(np.unique(there.round(12))) == 1
            note = f"all {units} {what}s alike" if alike else f"95% of resamples of {units} {what}s alike"
    return Estimate(value, low, high, note, count, left_out)
