"""How often is the answer right? Accuracy, balanced accuracy, macro-F1, and agreement beyond chance.

scikit-learn computes the values; the resamples come from one weighted confusion matrix for each of them (`confusions`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn import metrics as sk

from ..labels import by_name, known, one_kind, pairs
from ..settings import SEED
from .intervals import RESAMPLES, UNDEFINED, Estimate, bootstrap_mean, clusters_of, estimate, resample_weights


def accuracy(
    truth: Any,
    predicted: Any,
    *,
    clusters: Any = None,
    names: Mapping[Any, str] | None = None,
    n: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """Share of right answers.

    Args:
        truth, predicted: [N] labels; Series are matched by their index. An image without a truth is left out.
        clusters: as in `bootstrap_mean`.
        names: label in `truth` -> class name in `predicted`, where the truth holds numbers.
        n, seed: as in `bootstrap`.

    Raises:
        ValueError: lengths or names that do not fit; numbers against words; two labels that are the same words; an
            image without an answer.
    """
    labels, answers, own, left_out = _matched(truth, predicted, clusters, names)
    found = bootstrap_mean(labels == answers, clusters=own, n=n, seed=seed)
    return Estimate(*found, found.note, len(labels), left_out)


def balanced_accuracy(
    truth: Any,
    predicted: Any,
    *,
    clusters: Any = None,
    names: Mapping[Any, str] | None = None,
    n: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """Mean over the classes present in `truth` of the share found: chance is one over their number.

    Arguments as in `accuracy`.
    """

    def recalls(counts: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.nanmean(np.diagonal(counts, axis1=1, axis2=2) / counts.sum(2), axis=1)

    def value(labels: np.ndarray, answers: np.ndarray) -> float:
        present = np.unique(labels)
        return sk.recall_score(labels, answers, labels=present, average="macro", zero_division=0)

    return _from_confusions(truth, predicted, value, recalls, clusters, names, n, seed)


def macro_f1(
    truth: Any,
    predicted: Any,
    *,
    clusters: Any = None,
    names: Mapping[Any, str] | None = None,
    n: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """Mean over classes of F1, the harmonic mean of the share found and the share of right ones among those named.

    As scikit-learn's `f1_score(average="macro")`: over the classes that stand in the truth or among the answers, one
    that is never right counts 0. In a resample, the classes that stand in it. Arguments as in `accuracy`.
    """

    def scores(counts: np.ndarray) -> np.ndarray:
        right = 2 * np.diagonal(counts, axis1=1, axis2=2)
        with np.errstate(invalid="ignore"):
            return np.nanmean(right / (counts.sum(1) + counts.sum(2)), axis=1)

    def value(labels: np.ndarray, answers: np.ndarray) -> float:
        return sk.f1_score(labels, answers, average="macro", zero_division=0)

    return _from_confusions(truth, predicted, value, scores, clusters, names, n, seed)


def kappa(
    first: Any,
    second: Any,
    *,
    weights: str | None = None,
    clusters: Any = None,
    n: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """Cohen's kappa: how far two readers, or a reader and a model, agree beyond what their habits alone would give.

    Args:
        first, second: [N] labels; an image that either has not read is left out.
        weights: None: every difference counts alike; "linear" or "quadratic": by how far apart two classes stand in
            sorted order, for numbers that are grades.
        clusters, n, seed: as in `bootstrap_mean`.

    Returns:
        Estimate: 1 agrees always, 0 as often as chance; NaN where both gave one and the same answer throughout.
    """
    first, second = by_name(first, second, what=("first", "second"))
    own = None if clusters is None else clusters_of(clusters, len(first), first)
    (one, read), (two, read_too) = known(first, what="first"), known(second, what="second")
    there = read & read_too
    if not there.any():
        return UNDEFINED
    one_kind([*one[there], *two[there]], "first and second")
    labels, answers = one[there], two[there]
    own = own if own is None else own[there]
    classes = sorted(set(labels) | set(answers))
    place = np.arange(len(classes))
    apart = np.abs(place[:, None] - place[None]).astype(float)
    cost = {None: (apart > 0).astype(float), "linear": apart, "quadratic": apart**2}.get(weights)
    if cost is None:
        raise ValueError(f"weights must be None, 'linear' or 'quadratic', not {weights!r}.")

    def kappas(counts: np.ndarray) -> np.ndarray:
        expected = counts.sum(2)[:, :, None] * counts.sum(1)[:, None] / counts.sum((1, 2))[:, None, None]
        with np.errstate(invalid="ignore"):
            return 1 - (counts * cost).sum((1, 2)) / (expected * cost).sum((1, 2))

    value = np.nan
    if len(classes) > 1:
        number = {name: k for k, name in enumerate(classes)}
        coded = [[number[label] for label in side] for side in (labels, answers)]
        value = float(sk.cohen_kappa_score(*coded, weights=weights))
    resampled = kappas(confusions(labels, answers, resample_weights(len(labels), n, seed, own), classes))
    return estimate(
        value, resampled, len(labels), left_out=int((~there).sum()), clusters=own, undefined="one answer throughout"
    )


def agreement_by_column(
    first: pd.DataFrame, second: pd.DataFrame, *, clusters: Any = None, n: int = RESAMPLES, seed: int = SEED
) -> pd.DataFrame:
    """How far two readers agree on each attribute.

    Args:
        first, second: DataFrame [N, K] of labels, matched by the names of rows and columns.
        clusters, n, seed: as in `bootstrap_mean`.

    Returns:
        DataFrame, a row an attribute: kappa (Estimate), agreement (Estimate, the share that is equal), count (images
        that both have read).
    """
    first, second = by_name(first, second, what=("first", "second"))
    rows = {}
    for column, other in zip(first.columns, second.columns, strict=True):
        one, two = first[column], second[other]
        both = (one.notna().to_numpy() & two.notna().to_numpy()).astype(bool)
        equal = np.where(both, one.to_numpy() == two.to_numpy(), np.nan).astype(float)
        same = bootstrap_mean(equal, clusters=clusters, n=n, seed=seed)
        rows[column] = kappa(one.to_numpy(), two.to_numpy(), clusters=clusters, n=n, seed=seed), same, int(both.sum())
    return pd.DataFrame.from_dict(rows, orient="index", columns=["kappa", "agreement", "count"])


# --- for the other modules --------------------------------------------------------------------------------------------


def confusions(labels: np.ndarray, answers: np.ndarray, weights: np.ndarray, classes: list[Any]) -> np.ndarray:
    """Confusion matrices, truth x answer, one for each row of weights: float [n, K, K]."""
    number = {name: k for k, name in enumerate(classes)}
    cells = [number[label] * len(classes) + number[answer] for label, answer in zip(labels, answers, strict=True)]
    shape = len(cells), len(classes) ** 2
    member = csr_array((np.ones(len(cells)), (np.arange(len(cells)), cells)), shape=shape)
    return np.asarray(weights @ member, dtype=float).reshape(-1, len(classes), len(classes))


def _matched(
    truth: Any, predicted: Any, clusters: Any, names: Any
) -> tuple[np.ndarray, np.ndarray, Any, int, np.ndarray]:
    if np.ndim(truth) != 1 or np.shape(truth) != np.shape(predicted) or not len(truth):
        shapes = f"{np.shape(truth)}, {np.shape(predicted)}"
        raise ValueError(f"truth and predicted must be lists of one length, not empty: {shapes}.")
    own = None if clusters is None else clusters_of(clusters, len(truth), truth)
    labels, answers, there = pairs(truth, predicted, names=names)
    return labels, answers, own if own is None else own[there], int((~there).sum())


def _from_confusions(
    truth: Any,
    predicted: Any,
    value: Callable[[np.ndarray, np.ndarray], float],
    resampled: Callable[[np.ndarray], np.ndarray],
    clusters: Any,
    names: Any,
    n: int,
    seed: int,
) -> Estimate:
    labels, answers, own, left_out = _matched(truth, predicted, clusters, names)
    classes = sorted(set(labels) | set(answers))
    number = {name: k for k, name in enumerate(classes)}
    coded = [np.array([number[label] for label in side]) for side in (labels, answers)]
    weights = resample_weights(len(labels), n, seed, own)
    draws = resampled(confusions(labels, answers, weights, classes))
    return estimate(value(*coded), draws, len(labels), left_out=left_out, clusters=own)
