"""Does a probability come true as often as it says, and what is gained by keeping silent where it is low?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax

from ..labels import by_name, known, one_kind
from ..settings import SEED
from .intervals import (
    RESAMPLES,
    Estimate,
    bootstrap,
    bootstrap_mean,
    estimate,
    resample_weights,
)
from .ranking import known_binary
from .retrieval import decided


def reliability_table(
    truth: Any, probability: Any, *, bins: int = 10, clusters: Any = None, n: int = RESAMPLES, seed: int = SEED
) -> pd.DataFrame:
    """Predicted probabilities, in bins of equal width, beside how often they came true.

    Args:
        truth: [N] 0/1: did it come true? NaN leaves the image out.
        probability: float [N] in [0, 1].
        bins: how many.
        clusters, n, seed: as in `bootstrap_mean`.

    Returns:
        DataFrame with one row for each bin that is not empty: low, high, predicted (mean), observed (share), count,
        estimate (of the observed share, with its interval; a resample without images in the bin is left out).
    """
    answers, values, own, _ = _checked(truth, probability, clusters)
    edges = np.linspace(0, 1, bins + 1)
    which = _bins(values, bins)
    frame = pd.DataFrame({"bin": which, "predicted": values, "observed": answers})
    table = frame.groupby("bin").agg(
        predicted=("predicted", "mean"), observed=("observed", "mean"), count=("observed", "size")
    )
    table.insert(0, "low", edges[table.index])
    table.insert(1, "high", edges[table.index + 1])
    table["estimate"] = [
        bootstrap_mean(np.where(which == place, answers, np.nan), clusters=own, n=n, seed=seed) for place in table.index
    ]
    return table.reset_index(drop=True)


def expected_calibration_error(
    truth: Any, probability: Any, *, bins: int = 10, clusters: Any = None, n: int = RESAMPLES, seed: int = SEED
) -> Estimate:
    """Mean distance between predicted and observed over the bins of `reliability_table`, weighted by their counts.

    The interval is that of the resampled error, which is biased upwards for few images: it may lie above the value.
    Arguments as in `reliability_table`.
    """

    def error(t: np.ndarray, p: np.ndarray) -> float:
        return float(np.abs(np.bincount(_bins(p, bins), t - p, bins)).sum() / len(t))

    answers, values, own, left_out = _checked(truth, probability, clusters)
    found = bootstrap(error, answers, values, clusters=own, n=n, seed=seed)
    return replace(found, count=len(answers), left_out=left_out)


def _bins(probability: np.ndarray, bins: int) -> np.ndarray:
    return np.clip(np.digitize(probability, np.linspace(0, 1, bins + 1)) - 1, 0, bins - 1)


def _checked(truth: Any, probability: Any, clusters: Any) -> tuple[np.ndarray, np.ndarray, Any, int]:
    answers, values, own, left_out = known_binary(truth, probability, clusters)
    if not len(answers):
        raise ValueError("truth: none is known, so no probability can come true.")
    if values.min() < 0 or values.max() > 1:
        raise ValueError("probability must lie in [0, 1]: apply a sigmoid or softmax to logits first.")
    return answers.astype(float), values, own, left_out


def top_confidence(probabilities: Any, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    """A classifier's table of probabilities as the pair that the calibration functions take.

    Args:
        probabilities: float [N, K], rows sum to one; a DataFrame keeps its class names.
        truth: [N], class names if a DataFrame was given, else column numbers; matched by name if both have an index.

    Returns:
        (correct [N] 0/1, or NaN where the truth is missing; confidence [N]): was the most probable class right, and how
        probable was it said to be?

    Raises:
        ValueError: lengths or names that do not fit; numbers against names; NaN among the probabilities.
    """
    probabilities, truth = by_name(probabilities, truth, what=("probabilities", "truth"))
    labels, there = known(truth)
    columns = probabilities.columns if isinstance(probabilities, pd.DataFrame) else range(np.shape(probabilities)[1])
    one_kind([*columns, *labels[there]], "the classes and truth")
    table = np.asarray(probabilities, dtype=float)
    if np.isnan(table).any():
        raise ValueError(f"probabilities hold NaN in row {int(np.isnan(table).any(1).argmax())}: leave it out.")
    first = table.argmax(1)
    correct = np.array([columns[k] == label for k, label in zip(first, labels, strict=True)], dtype=int)
    return correct if there.all() else np.where(there, correct, np.nan), table.max(1)


def fit_temperature(logits: Any, truth: Any, *, kind: str = "softmax") -> float:
    """The temperature T by which logits are divided so that their probabilities come true as often as they say.

    Minimises the negative log-likelihood. Fit on one split, judge on another.

    Args:
        logits: float [N, K] for "softmax", a DataFrame keeps its class names; any shape for "sigmoid".
        truth: for "softmax" [N], class names if a DataFrame was given, else column numbers; for "sigmoid" 0/1 in the
            shape of logits. What is missing (NaN) is left out, with a warning that counts it.
        kind: "softmax" or "sigmoid".

    Returns:
        T > 0; above 1 the model was too sure, below 1 not sure enough.

    Raises:
        ValueError: shapes that do not fit; logits that are not finite; truth that is no answer (-1, an unknown name).
    """
    if kind not in ("softmax", "sigmoid"):
        raise ValueError(f"kind must be 'softmax' or 'sigmoid', not {kind!r}.")
    if kind == "softmax" and (np.ndim(logits) != 2 or np.shape(truth) != np.shape(logits)[:1]):
        shapes = f"{np.shape(logits)}, {np.shape(truth)}"
        raise ValueError(f"For a softmax logits must be [N, K] and truth [N], not {shapes}.")
    if kind == "sigmoid" and np.shape(truth) != np.shape(logits):
        raise ValueError(f"For a sigmoid truth {np.shape(truth)} must have the shape of logits {np.shape(logits)}.")
    logits, truth = by_name(logits, truth, what=("logits", "truth"))
    table = np.asarray(logits, dtype=float)
    if not np.isfinite(table).all():
        raise ValueError("logits must be finite: encode what gives NaN or infinity again in float32, or leave it out.")
    if kind == "softmax":
        labels, there = known(truth)
        columns = list(logits.columns) if isinstance(logits, pd.DataFrame) else list(range(table.shape[1]))
        one_kind([*columns, *labels[there]], "the classes and truth")
        number = {name: k for k, name in enumerate(columns)}
        if unknown := [label for label in labels[there] if label not in number]:
            raise ValueError(
                f"truth holds {unknown[0]!r}, which is none of the classes {', '.join(map(repr, columns))} (column "
                "numbers where logits have no names): leave out rows without one."
            )
        rows, table = np.arange(there.sum()), table[there]
        column = np.array([number[label] for label in labels[there]], dtype=int)

        def loss(t: float) -> float:
            return float(-log_softmax(table / np.exp(t), axis=1)[rows, column].mean())

    else:
        answers = np.asarray(truth, dtype=float)
        there = ~np.isnan(answers)
        sign, table = np.where(decided(answers[there], "truth"), 1.0, -1.0), table[there]

        def loss(t: float) -> float:
            return float(-log_expit(sign * table / np.exp(t)).mean())

    if not there.any():
        raise ValueError("truth: none is known, so there is nothing to fit.")
    if not there.all():
        warnings.warn(f"{int((~there).sum())} of {there.size} have no truth and are left out.", stacklevel=2)
    return float(np.exp(minimize_scalar(loss, bounds=(np.log(1e-2), np.log(1e3)), method="bounded").x))


# --- selective prediction ---------------------------------------------------------------------------------------------


def risk_coverage(
    correct: Any,
    confidence: Any,
    *,
    coverages: Sequence[float] = tuple(np.linspace(0.1, 1, 10)),
    clusters: Any = None,
    n: int = RESAMPLES,
    seed: int = SEED,
) -> pd.DataFrame:
    """Selective prediction: how many answers are wrong if only the surest share is answered, and the rest is passed on.

    Args:
        correct: [N] 0/1, was the answer right? NaN leaves the image out. With `confidence` from `top_confidence`.
        confidence: float [N], larger is surer.
        coverages: shares to answer, each in (0, 1].
        clusters, n, seed: as in `bootstrap_mean`.

    Returns:
        DataFrame, a row a coverage: coverage (the share really answered: images that tie are answered together),
        threshold (the least confidence answered), risk (Estimate of the share of wrong answers among them, the
        threshold held fixed), count.
    """
    answers, values, own, _ = _confident(correct, confidence, clusters)
    ranked = np.sort(values)[::-1]
    rows = []
    for share in coverages:
        if not 0 < share <= 1:
            raise ValueError(f"A coverage must lie above 0 and not above 1, not {share}.")
        threshold = ranked[max(1, int(np.ceil(share * len(values) - 1e-9))) - 1]
        kept = values >= threshold
        risk = bootstrap_mean(np.where(kept, 1 - answers, np.nan), clusters=own, n=n, seed=seed)
        rows.append((kept.mean(), threshold, risk, int(kept.sum())))
    return pd.DataFrame(rows, columns=["coverage", "threshold", "risk", "count"])


def risk_coverage_area(
    correct: Any, confidence: Any, *, clusters: Any = None, n: int = RESAMPLES, seed: int = SEED
) -> Estimate:
    """Area under the curve of risk against coverage: the mean risk over all shares that could be answered.

    Small is good. A confidence that says nothing gives the overall share of wrong answers; one that puts all wrong
    answers last, the least that this share allows. Images that tie are answered together. Arguments as in
    `risk_coverage`. (El-Yaniv and Wiener 2010; Geifman and El-Yaniv 2017.)
    """
    answers, values, own, left_out = _confident(correct, confidence, clusters)
    weights = np.concatenate([np.ones((1, len(values)), np.float32), resample_weights(len(values), n, seed, own)])
    order = np.argsort(-values, kind="stable")
    levels = np.r_[0, 1 + np.flatnonzero(np.diff(values[order]))]  # where each distinct confidence begins
    mass = np.add.reduceat(weights[:, order], levels, axis=1, dtype=float)
    wrong = np.add.reduceat((weights * (1 - answers))[:, order], levels, axis=1, dtype=float)
    answered = mass.cumsum(1)
    risk = np.divide(wrong.cumsum(1), answered, out=np.zeros_like(mass), where=answered > 0)
    areas = (mass * risk).sum(1) / mass.sum(1)
    return estimate(areas[0], areas[1:], len(values), left_out=left_out, clusters=own)


def _confident(correct: Any, confidence: Any, clusters: Any) -> tuple[np.ndarray, np.ndarray, Any, int]:
    answers, values, own, left_out = known_binary(correct, confidence, clusters)
    if not len(answers):
        raise ValueError("correct: of no image is it known whether the answer was right.")
    return answers.astype(float), values, own, left_out
