"""Few labels: classifiers on image vectors, fitted on many draws of a few labels, and their curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from ..metrics import Estimate
from ..settings import PALETTE, SEED

__all__ = ["STRENGTHS", "draw_labels", "fit_probe", "label_curve", "plot_label_curves"]

STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""The values of C, the inverse strength of the penalty, among which a linear probe chooses."""


def fit_probe(vectors: Any, labels: Any, val_vectors: Any, val_labels: Any) -> LogisticRegression:
    """A linear probe: logistic regression on vectors, with the C of `STRENGTHS` that is right most often on val.

    Args:
        vectors, labels: float [N, D] and [N], to fit on.
        val_vectors, val_labels: float [M, D] and [M], to choose on; of equally good ones the smallest C is taken.
    """
    labels, chosen_on = (np.asarray(some, dtype=object).astype(str) for some in (labels, val_labels))
    fits = [LogisticRegression(C=strength, max_iter=2000).fit(vectors, labels) for strength in STRENGTHS]
    return max(fits, key=lambda fit: fit.score(val_vectors, chosen_on))


def draw_labels(labels: Any, share: float, rng: np.random.Generator) -> np.ndarray:
    """Rows of a share of the labels, drawn within each class, at least one of each: int [n], sorted.

    Raises:
        ValueError: the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}: give more than 0 and at most 1.")
    labels = np.asarray(labels)
    rows = []
    for name in sorted(set(labels)):
        own = np.flatnonzero(labels == name)
        rows += list(rng.choice(own, max(1, round(share * len(own))), replace=False))
    return np.sort(np.array(rows))


def label_curve(
    make: Callable[[], Any],
    vectors: Any,
    labels: Any,
    tests: Mapping[str, tuple[Any, Any]],
    *,
    shares: Sequence[float] = (0.01, 0.1, 1.0),
    draws: int = 20,
    seed: int = SEED,
) -> pd.DataFrame:
    """Fit on draws of a few labels, and judge every fit on each test set.

    Args:
        make: gives a new scikit-learn classifier.
        vectors, labels: float [N, D] and [N], to draw from.
        tests: name -> (vectors [M, D], labels [M]).
        shares: of the labels, drawn by `draw_labels`. The same draws for every `make`, so that two can be compared.
        draws: of each share below 1; all labels can be drawn in one way only.
        seed: of the draws.

    Returns:
        DataFrame, a row a share and test: share, labels (how many were drawn), test, draws, value (Estimate: mean
        balanced accuracy over the draws; its interval holds 95 % of the draws).
    """
    vectors, labels = np.asarray(vectors, dtype=float), np.asarray(labels, dtype=object).astype(str)
    rows = []
    for share in shares:
        rng = np.random.default_rng([seed, round(1000 * share)])
        times = draws if share < 1 else 1
        found: dict[str, list[float]] = {name: [] for name in tests}
        for _ in range(times):
            drawn = draw_labels(labels, share, rng)
            fitted = make().fit(vectors[drawn], labels[drawn])
            for name, (x, truth) in tests.items():
                said = fitted.predict(np.asarray(x, dtype=float))
                found[name].append(balanced_accuracy_score(np.asarray(truth, dtype=object).astype(str), said))
        for name, values in found.items():
            low, high = np.quantile(values, [0.025, 0.975])
            value = Estimate(float(np.mean(values)), float(low), float(high), "" if times > 1 else "one draw", times)
            rows.append((share, len(drawn), name, times, value))
    return pd.DataFrame(rows, columns=["share", "labels", "test", "draws", "value"])


def plot_label_curves(curves: Mapping[str, pd.DataFrame], levels: Mapping[str, float], test: str, *, ax: Axes) -> Axes:
    """Accuracy against the number of labels on one test set, with bars that hold 95 % of the draws.

    Args:
        curves: name -> what `label_curve` returns.
        levels: name -> a value that needs no labels, drawn as a horizontal line.
        test: which test set.
        ax: where to draw.
    """
    colours, markers, dashes = sns.color_palette(PALETTE), "osD^", ("--", ":", "-.")
    for k, (name, table) in enumerate(curves.items()):
        own = table[table["test"] == test]
        values = [value.value for value in own["value"]]
        ends = np.array([[value.value - value.low, value.high - value.value] for value in own["value"]]).T
        place = own["labels"] * (1 + 0.06 * k)  # beside each other, so that no bar hides another
        ax.errorbar(place, values, ends.clip(min=0), color=colours[k], marker=markers[k % 4], capsize=3, label=name)
    for k, (name, level) in enumerate(levels.items()):
        ax.axhline(level, color="0.25", ls=dashes[k % 3], label=name)
    ax.set(xscale="log", ylim=(0, 1.03), xlabel="labels", ylabel="balanced accuracy", title=test)
    ticks = sorted({int(count) for table in curves.values() for count in table["labels"]})
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    ax.grid(axis="y", alpha=0.4)
    sns.despine(ax=ax)
    return ax
