"""How often is the answer right? Accuracy, balanced accuracy, macro-F1, and agreement beyond chance.

scikit-learn computes the values; the resamples come from one weighted confusion matrix for each of them (`confusions`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
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
    return replace(found, count=len(labels), left_out=left_out)


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
    return _from_confusions(truth, predicted, "balanced accuracy", clusters, names, n, seed)


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
    return _from_confusions(truth, predicted, "macro F1", clusters, names, n, seed)


def paired_difference(
    truth: Any,
    first: Any,
    second: Any,
    *,
    measure: str = "accuracy",
    clusters: Any = None,
    names: Mapping[Any, str] | None = None,
    n: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """By how much one set of answers is better than another on the same images.

    Both are judged on the same resamples, so what makes an image hard for both cancels: the interval is narrower than
    two separate ones suggest. It excludes 0 where the images tell the two apart. For AUROC there is
    `macro_auroc_difference`, for a mean of one value an image `bootstrap_mean(first - second)`.

    Args:
        truth, names: as in `accuracy`.
        first, second: [N] answers.
        measure: "accuracy", "balanced accuracy", "macro F1" or "kappa".
        clusters, n, seed: as in `bootstrap_mean`.
    """
    if measure not in MEASURES:
        raise ValueError(f"measure must be one of {', '.join(map(repr, MEASURES))}, not {measure!r}.")
    value, resampled = MEASURES[measure]
    found = []
    for answers in (first, second):
        labels, said, own, left_out = _matched(truth, answers, clusters, names)
        counts = confusions(labels, said, resample_weights(len(labels), n, seed, own))
        found.append((value(*_coded(labels, said)), resampled(counts)))
    (one, ones), (other, others) = found
    return estimate(one - other, ones - others, len(labels), left_out=left_out, clusters=own)


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
    counts = confusions(labels, answers, resample_weights(len(labels), n, seed, own))
    if weights not in (None, "linear", "quadratic"):
        raise ValueError(f"weights must be None, 'linear' or 'quadratic', not {weights!r}.")
    return estimate(
        _kappa(*_coded(labels, answers), weights=weights),
        _kappas(counts, weights),
        len(labels),
        left_out=int((~there).sum()),
        clusters=own,
        undefined="one answer throughout",
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


# --- values by scikit-learn, resamples from confusion matrices --------------------------------------------------------


def confusions(labels: np.ndarray, answers: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Confusion matrices, truth x answer in sorted order, one for each row of weights: float [n, K, K]."""
    one, two = _coded(labels, answers)
    size = 1 + max(one.max(), two.max())
    places = np.arange(len(one)), one * size + two
    member = csr_array((np.ones(len(one)), places), shape=(len(one), size**2))
    return np.asarray(weights @ member, dtype=float).reshape(-1, size, size)


def _coded(labels: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as the numbers of their classes in sorted order."""
    number = {name: k for k, name in enumerate(sorted(set(labels) | set(answers)))}
    return tuple(np.array([number[label] for label in side]) for side in (labels, answers))  # type: ignore[return-value]


def _balanced(labels: np.ndarray, answers: np.ndarray) -> float:
    return float(sk.recall_score(labels, answers, labels=np.unique(labels), average="macro", zero_division=0))


def _balanced_of(counts: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.nanmean(_right(counts) / counts.sum(2), axis=1)


def _f1(labels: np.ndarray, answers: np.ndarray) -> float:
    return float(sk.f1_score(labels, answers, average="macro", zero_division=0))


def _f1s(counts: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.nanmean(2 * _right(counts) / (counts.sum(1) + counts.sum(2)), axis=1)


def _kappa(labels: np.ndarray, answers: np.ndarray, weights: str | None = None) -> float:
    return float(sk.cohen_kappa_score(labels, answers, weights=weights)) if max(labels.max(), answers.max()) else np.nan


def _kappas(counts: np.ndarray, weights: str | None = None) -> np.ndarray:
    place = np.arange(counts.shape[1])
    apart = np.abs(place[:, None] - place[None]).astype(float)
    cost = {None: apart > 0, "linear": apart, "quadratic": apart**2}[weights]
    expected = counts.sum(2)[:, :, None] * counts.sum(1)[:, None] / counts.sum((1, 2))[:, None, None]
    with np.errstate(invalid="ignore"):
        return 1 - (counts * cost).sum((1, 2)) / (expected * cost).sum((1, 2))


def _right(counts: np.ndarray) -> np.ndarray:
    return np.diagonal(counts, axis1=1, axis2=2)


MEASURES: dict[str, tuple[Callable[..., float], Callable[..., np.ndarray]]] = {
    "accuracy": (lambda t, p: float((t == p).mean()), lambda counts: _right(counts).sum(1) / counts.sum((1, 2))),
    "balanced accuracy": (_balanced, _balanced_of),
    "macro F1": (_f1, _f1s),
    "kappa": (_kappa, _kappas),
}


def _matched(truth: Any, predicted: Any, clusters: Any, names: Any) -> tuple[np.ndarray, np.ndarray, Any, int]:
    if np.ndim(truth) != 1 or np.shape(truth) != np.shape(predicted) or not len(truth):
        shapes = f"{np.shape(truth)}, {np.shape(predicted)}"
        raise ValueError(f"truth and predicted must be lists of one length, not empty: {shapes}.")
    own = None if clusters is None else clusters_of(clusters, len(truth), truth)
    labels, answers, there = pairs(truth, predicted, names=names)
    return labels, answers, own if own is None else own[there], int((~there).sum())


def _from_confusions(
    truth: Any, predicted: Any, measure: str, clusters: Any, names: Any, n: int, seed: int
) -> Estimate:
    labels, answers, own, left_out = _matched(truth, predicted, clusters, names)
    value, resampled = MEASURES[measure]
    draws = resampled(confusions(labels, answers, resample_weights(len(labels), n, seed, own)))
    return estimate(value(*_coded(labels, answers)), draws, len(labels), left_out=left_out, clusters=own)
