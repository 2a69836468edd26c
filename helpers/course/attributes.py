"""WBCAtt's eleven attributes as phrases, and what others reach on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from helpers.bloodcells import ATTRIBUTES, CONCEPTS
from helpers.metrics import LEVEL, RESAMPLES, Estimate
from helpers.metrics.classification import MEASURES, confusions
from helpers.metrics.intervals import estimate, resample_weights
from helpers.settings import SEED

__all__ = [
    "ATTRIBUTE_CONCEPTS",
    "ATTRIBUTE_PHRASES",
    "WBCATT_RESNET50",
    "Published",
    "each_attribute",
    "over_attributes",
]


def _value_concepts() -> dict[str, dict[str, str]]:
    """Attribute → value → the concept that is true of a cell exactly when it has this value."""
    # A granular cell shows granules, and one without any has neither a type nor a colour of them.
    found: dict[str, dict[str, str]] = {name: {} for name in ATTRIBUTES} | {"granularity": {"yes": "granules"}}
    found["granule_type"]["nil"] = found["granule_colour"]["nil"] = "no granules"
    for concept in CONCEPTS.values():
        if concept.group != "type" and len(concept.when) == 1:
            ((name, values),) = concept.when.items()
            # Two concepts may say the same, a granulocyte and granules: the one that stands in the attribute's group.
            if len(values) == 1:
                found[name].setdefault(values[0], concept.key)
    return {name: {value: found[name][value] for value in values} for name, values in ATTRIBUTES.items()}


ATTRIBUTE_CONCEPTS = _value_concepts()
"""Attribute → value → key in CONCEPTS: eleven attributes, 31 values."""

ATTRIBUTE_PHRASES: dict[str, dict[str, tuple[str, ...]]] = {
    name: {value: CONCEPTS[key].phrases for value, key in values.items()} for name, values in ATTRIBUTE_CONCEPTS.items()
}
"""Attribute → value → the phrases that say so."""


class Published(NamedTuple):
    """Two published means over the eleven attributes."""

    accuracy: float
    macro_f1: float


WBCATT_RESNET50 = Published(accuracy=0.9409, macro_f1=0.9127)
"""A ResNet-50 trained on WBCAtt's 6,169 training cells for these attributes: means over the eleven, on its whole test
split of 3,099 cells. From the paper (Tsutsui et al., WBCAtt, NeurIPS 2023), not measured here."""


# --- all eleven at once -----------------------------------------------------------------------------------------------


def over_attributes(
    truth: pd.DataFrame,
    answers: pd.DataFrame,
    *,
    against: pd.DataFrame | None = None,
    measure: str = "macro F1",
    groups: Any = None,
    pairs: Sequence[tuple[Any, str]] = (),
    n: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """The mean of one measure over attributes, or by how much it is larger than another reader's.

    Cells are resampled once for all attributes, and for both readers: what makes a cell hard for both cancels.

    Args:
        truth: DataFrame [N, K] of values, a column an attribute; nothing missing.
        answers: DataFrame [N, K] with the same columns, row by row.
        against: another reader's answers; then the paired difference, answers minus these.
        measure: "accuracy", "balanced accuracy", "macro F1" or "kappa".
        groups: [N] labels (cell types), for `pairs`.
        pairs: (group, attribute): the mean is over these, each measured among the cells of its group alone.
        n, seed: as in `helpers.metrics.bootstrap`.

    Raises:
        ValueError: another measure; tables that differ in length or columns, or hold missing values; groups without
            pairs, or pairs without groups; a pair of a group or an attribute that is not there.
    """
    _known_measure(measure)
    if (groups is None) != (not pairs):
        raise ValueError("Give groups and pairs together: what is measured within a group, and in which.")
    weights = resample_weights(len(truth), n, seed)
    everything = np.ones(len(truth), dtype=bool)
    if groups is None:
        parts = [(name, everything) for name in truth.columns]
    else:
        labels = np.asarray(groups)
        parts = [(name, labels == group) for group, name in pairs]
        for (group, name), (_, inside) in zip(pairs, parts, strict=True):
            if name not in truth.columns or not inside.any():
                raise ValueError(f"There is no attribute {name!r}, or no cell of the group {group!r}.")
    values, draws = _measured(truth, answers, against, measure, weights, parts)
    return estimate(values.mean(), draws.mean(axis=1), len(truth))


def each_attribute(
    truth: pd.DataFrame,
    answers: pd.DataFrame,
    *,
    against: pd.DataFrame | None = None,
    measure: str = "kappa",
    n: int = 4 * RESAMPLES,
    seed: int = SEED,
) -> pd.Series:
    """One measure for each attribute, with intervals that hold together, so that a sentence over all may lean on them.

    Of many intervals of 95 %, each for itself, some miss by chance. Here all are widened alike, to further quantiles of
    their own resamples, until 95 % of the resamples lie inside every one of them.

    Args:
        truth, answers, against, measure, seed: as in `over_attributes`.
        n: resamples; more than elsewhere, since the quantiles lie further out.

    Returns:
        Series of `Estimate`s by attribute.
    """
    _known_measure(measure)
    everything = np.ones(len(truth), dtype=bool)
    weights = resample_weights(len(truth), n, seed)
    values, draws = _measured(truth, answers, against, measure, weights, [(name, everything) for name in truth.columns])
    draws = draws[~np.isnan(draws).any(axis=1)]
    # Of each resample: in the attribute where it is most extreme, the share of resamples that are at least as extreme.
    ranks = np.minimum(rankdata(draws, "max", axis=0), rankdata(-draws, "max", axis=0))
    tail = min(np.quantile(ranks.min(axis=1) / len(draws), 1 - LEVEL), (1 - LEVEL) / 2)
    found = {}
    for name, value, own in zip(truth.columns, values, draws.T, strict=True):
        low, high = (float(end) for end in np.quantile(own, [tail, 1 - tail]))
        alone = estimate(value, own, len(truth))
        found[name] = replace(alone, low=low, high=high, note="" if low < high else alone.note)
    return pd.Series(found)


def _known_measure(measure: str) -> None:
    if measure not in MEASURES:
        raise ValueError(f"measure must be one of {', '.join(map(repr, MEASURES))}, not {measure!r}.")


def _measured(
    truth: pd.DataFrame,
    answers: pd.DataFrame,
    against: pd.DataFrame | None,
    measure: str,
    weights: np.ndarray,
    parts: Sequence[tuple[str, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Of each (attribute, rows bool [N]): of the cells as they are [K], and of each resample [n, K]."""
    if against is not None:
        one, other = (_measured(truth, table, None, measure, weights, parts) for table in (answers, against))
        return one[0] - other[0], one[1] - other[1]
    if len(truth) != len(answers) or list(truth.columns) != list(answers.columns) or not len(truth):
        raise ValueError("truth and answers must have the same columns and rows, and not be empty.")
    if truth.isna().to_numpy().any() or answers.isna().to_numpy().any():
        raise ValueError("A value is missing: leave out the cells that were not read.")
    resampled = MEASURES[measure][1]
    everyone = np.ones((1, len(truth)), np.float32)
    draws = []
    for name, inside in parts:
        columns = truth[name].to_numpy()[inside], answers[name].to_numpy()[inside]
        draws.append(resampled(confusions(*columns, np.concatenate([everyone, weights])[:, inside])))
    found = np.stack(draws, axis=1)
    return found[0], found[1:]
