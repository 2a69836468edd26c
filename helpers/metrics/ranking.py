"""How well does a score rank? Areas under the ROC curve, overall and within groups.

scikit-learn computes the value. Its thousand resamples are done here in one step, since a call takes milliseconds and
an interval would take seconds: `weighted_wins` counts the won pairs for all rows of weights at once. The same count,
with weights of one, gives the areas of many small maps (`maps.patch_aurocs`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from ..labels import by_name
from ..settings import SEED
from .intervals import RESAMPLES, UNDEFINED, Estimate, clusters_of, estimate, resample_weights

ONE_CLASS = "one class only"
NO_PAIRS = "no group has both classes"


def auroc(truth: Any, score: Any, *, clusters: Any = None, n: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Area under the ROC curve: how often a positive image scores above a negative one (ties count half).

    Args:
        truth: [N] 0/1 (or bool); an image without a truth (NaN) is left out.
        score: float [N], larger means positive. Series are matched by their index.
        clusters, n, seed: as in `bootstrap_mean`.

    Returns:
        Estimate; NaN when only one class is there.

    Raises:
        ValueError: lengths or names that do not fit; truth that is not 0 or 1; NaN in score.
    """
    truth, score, own, left_out = known_binary(truth, score, clusters)
    if not len(truth):
        return UNDEFINED
    value = float(sk.roc_auc_score(truth, score)) if 0 < truth.sum() < len(truth) else np.nan
    wins, pairs = weighted_wins(truth, score, resample_weights(len(truth), n, seed, own))
    with np.errstate(invalid="ignore"):
        areas = wins / pairs
    return estimate(value, areas, len(truth), left_out=left_out, clusters=own, undefined=ONE_CLASS)


def macro_auroc(
    truth: Any, scores: Any, groups: Any = None, *, clusters: Any = None, n: int = RESAMPLES, seed: int = SEED
) -> Estimate:
    """Mean AUROC over concepts; images are resampled once for all of them.

    Args:
        truth: [N, K] 0/1; NaN leaves that pair out. Concepts with one class only are left out of the mean.
        scores: float [N, K]. Tables are matched by the names of their rows and columns.
        groups: [N] labels (cell types); then images are compared within their own group only, as in
            `within_group_auroc`, and concepts that no group has both ways are left out.
        clusters, n, seed: as in `bootstrap_mean`.

    Raises:
        ValueError: shapes or names that do not fit; no concept has both classes.
    """
    (truth, scores), groups, own = _tables(truth, [scores], groups, clusters)
    weights = resample_weights(len(truth), n, seed, own)
    value, areas = _macro_auroc(truth, scores, groups, weights)
    return estimate(value, areas, len(truth), clusters=own)


def macro_auroc_difference(
    truth: Any,
    first: Any,
    second: Any,
    groups: Any = None,
    *,
    clusters: Any = None,
    n: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """By how much the mean AUROC of one score exceeds another's on the same images.

    Both are computed on the same resamples, so what makes an image hard for both cancels: the interval is narrower than
    two separate ones suggest. It excludes 0 where the images tell the two apart.

    Args:
        truth, groups: as in `macro_auroc`.
        first, second: float [N, K] each.
        clusters, n, seed: as in `bootstrap_mean`.
    """
    (truth, first, second), groups, own = _tables(truth, [first, second], groups, clusters)
    weights = resample_weights(len(truth), n, seed, own)
    (value, areas), (other, others) = (_macro_auroc(truth, s, groups, weights) for s in (first, second))
    return estimate(value - other, areas - others, len(truth), clusters=own)


def within_group_auroc(
    truth: Any, score: Any, groups: Any, *, clusters: Any = None, n: int = RESAMPLES, seed: int = SEED
) -> Estimate:
    """AUROC that compares images only with others of their own group (their cell type).

    Where type and attribute go together, plain AUROC is high for a model that knows the type alone. Here each positive
    is compared with the negatives of its own group, and all such pairs count alike; groups with one class only have
    no pairs, and an image whose group is unknown has none either.

    Args:
        truth: [N] 0/1; NaN leaves the image out.
        score: float [N].
        groups: [N] labels.
        clusters, n, seed: as in `bootstrap_mean`.

    Returns:
        Estimate; NaN when no group has both classes.
    """
    groups = clusters_of(groups, len(truth), truth)
    there = ~np.isnan(np.asarray(truth, dtype=float))
    truth, score, own, left_out = known_binary(truth, score, clusters)
    if not len(truth):
        return UNDEFINED
    weights = np.concatenate([np.ones((1, len(truth)), np.float32), resample_weights(len(truth), n, seed, own)])
    areas = _grouped_auroc(truth, score, groups[there], weights)
    return estimate(areas[0], areas[1:], len(truth), left_out=left_out, clusters=own, undefined=NO_PAIRS)


def auroc_by_group(
    truth: Any, score: Any, groups: Any, *, clusters: Any = None, n: int = RESAMPLES, seed: int = SEED
) -> pd.DataFrame:
    """AUROC in each group by itself; arguments as in `within_group_auroc`, images of unknown group left out.

    Returns:
        DataFrame, a row a group, columns auroc (Estimate), positive, negative (counts).
    """
    score = by_name(truth, score, what=("truth", "score"))[1]
    names = pd.Series(list(by_name(truth, groups, what=("truth", "groups"))[1]), dtype=object)
    own = None if clusters is None else clusters_of(clusters, len(truth), truth)
    answers, score = np.asarray(truth, dtype=float), np.asarray(score, dtype=float)
    rows = {}
    for group in sorted(names.dropna().unique()):
        inside = (names == group).to_numpy() & ~np.isnan(answers)
        if inside.any():
            part = None if own is None else own[inside]
            area = auroc(answers[inside], score[inside], clusters=part, n=n, seed=seed)
            rows[group] = (area, int((answers[inside] == 1).sum()), int((answers[inside] == 0).sum()))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["auroc", "positive", "negative"])


# --- for the other modules --------------------------------------------------------------------------------------------


def binary(truth: Any, score: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and score, checked: bool [M] and float [M] of the images with a truth, and which those are, bool [N]."""
    truth, score = by_name(truth, score, what=("truth", "score"))
    answers, values = (np.asarray(x, dtype=float).ravel() for x in (truth, score))
    if answers.shape != values.shape or not len(answers):
        raise ValueError(f"truth and score must be equally long and not empty, not {len(answers)} and {len(values)}.")
    there = ~np.isnan(answers)
    answers, values = answers[there], values[there]
    if not np.isin(answers, (0, 1)).all():
        raise ValueError(f"truth must be 0, 1 or NaN; it holds {sorted(set(answers.tolist()))[:5]}.")
    if np.isnan(values).any():
        row = int(np.flatnonzero(there)[np.isnan(values).argmax()])
        raise ValueError(f"score holds NaN at row {row}: encode that image again in float32.")
    return answers == 1, values, there


def known_binary(truth: Any, score: Any, clusters: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, int]:
    """As `binary`, with the clusters of the images that have a truth, and how many have none."""
    own = None if clusters is None else clusters_of(clusters, len(truth), truth)
    answers, values, there = binary(truth, score)
    return answers, values, own if own is None else own[there], int((~there).sum())


def _tables(truth: Any, scores: list[Any], groups: Any, clusters: Any) -> tuple[list[np.ndarray], np.ndarray, Any]:
    """[truth, *scores] as float [N, K] in one order, groups and clusters as int [N]."""
    shapes = [np.shape(table) for table in (truth, *scores)]
    if len(shapes[0]) != 2 or not shapes[0][0] or any(shape != shapes[0] for shape in shapes):
        found = " and ".join(map(str, shapes))
        raise ValueError(f"truth and scores must all be [images, concepts] of one shape, not empty: {found}.")
    matched = [by_name(truth, table, what=("truth", "scores"))[1] for table in scores]
    size = len(truth)
    groups = np.zeros(size, dtype=int) if groups is None else clusters_of(groups, size, truth)
    own = None if clusters is None else clusters_of(clusters, size, truth)
    return [np.asarray(table, dtype=float) for table in (truth, *matched)], groups, own


def _macro_auroc(truth: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: Any) -> tuple[float, np.ndarray]:
    """Mean over concepts: of the images as they are, and of each resample (a row of weights)."""
    weights = np.concatenate([np.ones((1, len(truth)), np.float32), weights])
    areas = []
    for t, s in zip(truth.T, scores.T, strict=True):
        if not np.isnan(t).all():
            answers, values, there = binary(t, s)
            areas.append(_grouped_auroc(answers, values, groups[there], weights[:, there]))
    areas = [area for area in areas if not np.isnan(area[0])]
    if not areas:
        raise ValueError("No concept has both positive and negative images (within a group): there is no AUROC.")
    mean = np.mean(areas, axis=0)
    return float(mean[0]), mean[1:]


def _grouped_auroc(truth: np.ndarray, score: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC over the pairs of each group, for each row of weights: [n], NaN without pairs."""
    wins, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for group in pd.unique(groups):
        inside = groups == group
        if 0 < truth[inside].sum() < inside.sum():
            won, all_ = weighted_wins(truth[inside], score[inside], weights[:, inside])
            wins, pairs = wins + won, pairs + all_
    with np.errstate(invalid="ignore"):
        return wins / pairs


def weighted_wins(truth: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row of weights: won pairs (positive above negative, ties one half) and all pairs. [n], [n]."""
    order = np.argsort(score, kind="stable")
    levels = np.r_[0, 1 + np.flatnonzero(np.diff(score[order]))]  # where each distinct score begins: ties share a level
    negative = np.add.reduceat((weights * ~truth)[:, order], levels, axis=1, dtype=float)  # [n, levels]
    positive = np.add.reduceat((weights * truth)[:, order], levels, axis=1, dtype=float)
    below = negative.cumsum(1) - negative / 2
    return (positive * below).sum(1), positive.sum(1) * negative.sum(1)
