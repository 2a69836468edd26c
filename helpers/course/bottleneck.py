"""A classifier that may only look at concept scores: sparse, so that each of its decisions can be read aloud.

concept scores -> standardised -> L1-penalised multinomial logistic regression (scikit-learn) -> class. The strength of
the penalty is chosen on validation images only. A class's logit is a sum with one term for each concept: those terms
are the explanation, and changing one score by hand is the intervention.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from ..labels import by_name, known, one_kind
from ..metrics import RESAMPLES, Estimate
from ..metrics.intervals import estimate, resample_weights
from ..settings import SEED

STRENGTHS = tuple(np.logspace(-2.5, 1.5, 9))
"""Inverse penalties C that are tried, the sparsest first."""


@dataclass
class ConceptBottleneck:
    """A fitted bottleneck: K concepts, C classes.

    Attributes:
        weights: DataFrame [C, K]; most are zero. They act on standardised scores.
        intercept: Series [C].
        mean, scale: Series [K], of the learning images' scores.
        path: DataFrame, one row for each penalty that was tried: strength, concepts (how many are used), learn and
            validation (accuracies), chosen.
    """

    weights: pd.DataFrame
    intercept: pd.Series
    mean: pd.Series
    scale: pd.Series
    path: pd.DataFrame

    @property
    def classes(self) -> list[str]:
        return list(self.weights.index)

    @property
    def concepts(self) -> list[str]:
        return list(self.weights.columns)

    @property
    def used(self) -> list[str]:
        """The concepts that count for at least one class."""
        return [concept for concept in self.concepts if self.weights[concept].any()]

    def standardise(self, scores: pd.DataFrame) -> pd.DataFrame:
        """Scores as the weights take them: minus the learning mean, over the learning standard deviation."""
        missing = [concept for concept in self.concepts if concept not in scores.columns]
        if missing:
            raise ValueError(f"The scores lack the concepts {', '.join(missing)}.")
        return (scores[self.concepts] - self.mean) / self.scale

    def logits(self, scores: pd.DataFrame) -> pd.DataFrame:
        """DataFrame [N, C]."""
        return self.standardise(scores) @ self.weights.T + self.intercept

    def probabilities(self, scores: pd.DataFrame) -> pd.DataFrame:
        """DataFrame [N, C], rows sum to one."""
        logits = self.logits(scores)
        return pd.DataFrame(softmax(logits.to_numpy(), axis=1), index=logits.index, columns=logits.columns)

    def predict(self, scores: pd.DataFrame) -> np.ndarray:
        """Class names [N]."""
        return np.asarray(self.classes)[self.logits(scores).to_numpy().argmax(1)]

    def contributions(self, scores: pd.DataFrame, row) -> pd.DataFrame:
        """What each concept adds to each class's logit for one image.

        Args:
            scores: DataFrame [N, K].
            row: position of the image, or its label if the index is not made of numbers.

        Returns:
            DataFrame [C, K]; each row plus that class's intercept sums to its logit. The average learning image has
            zeros throughout.
        """
        one = scores.iloc[[row]] if isinstance(row, (int, np.integer)) else scores.loc[[row]]
        return self.weights * self.standardise(one).iloc[0]

    def intervene(self, scores: pd.DataFrame, changes: dict[str, float]) -> pd.DataFrame:
        """The scores with some concepts set by hand, as a person who looked at the picture would correct them.

        Args:
            scores: DataFrame [N, K]; not changed.
            changes: concept -> new score, e.g. from `typical_scores`.
        """
        unknown = [concept for concept in changes if concept not in self.concepts]
        if unknown:
            raise ValueError(f"The bottleneck has no concept {unknown[0]!r}. It has: {', '.join(self.concepts)}.")
        return scores.assign(**changes)


def fit_bottleneck(
    scores: pd.DataFrame,
    labels: Any,
    validation_scores: pd.DataFrame,
    validation_labels: Any,
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = SEED,
) -> ConceptBottleneck:
    """Fit a sparse linear model for each penalty, and keep the sparsest that is as good as the best.

    "As good" is judged on the validation images: within one standard error of the best accuracy there.

    Args:
        scores: DataFrame [N, K], images x concepts, e.g. from `helpers.annotate`.
        labels: N class names, at least two different ones; a Series is matched by its index. Images without a label are
            left out.
        validation_scores, validation_labels: of other images. Test images have no business here.
        strengths: inverse penalties to try.
        seed: of the solver.

    Returns:
        ConceptBottleneck.

    Raises:
        ValueError: lengths or names differ, NaN among the scores, one class only, or two spellings of one class.
    """
    scores, labels = _labelled(scores, labels, "")
    validation_scores, validation_labels = _labelled(validation_scores, validation_labels, "validation_")
    one_kind([*labels, *validation_labels], "labels and validation_labels")
    if lacking := [concept for concept in scores.columns if concept not in validation_scores.columns]:
        raise ValueError(f"validation_scores lack the concept {lacking[0]!r}.")
    if len(set(labels)) < 2:
        raise ValueError("All labels are the same: there is nothing to tell apart.")
    scaler = StandardScaler().fit(scores)
    x, y = scaler.transform(scores), scaler.transform(validation_scores[scores.columns])
    models, rows = [], []
    for strength in sorted(strengths):
        model = LogisticRegression(C=strength, l1_ratio=1, solver="saga", tol=1e-4, max_iter=10_000, random_state=seed)
        models.append(model.fit(x, labels))
        used = int((np.abs(model.coef_) > 0).any(0).sum())
        rows.append((strength, used, model.score(x, labels), model.score(y, validation_labels)))
    path = pd.DataFrame(rows, columns=["strength", "concepts", "learn", "validation"])
    chosen = sparsest_as_good(path["validation"], len(validation_labels))
    path["chosen"] = np.arange(len(path)) == chosen
    model, concepts = models[chosen], list(scores.columns)
    coefficients, intercept = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # scikit-learn keeps one row for two classes: spread it over both
        coefficients, intercept = np.vstack([-coefficients, coefficients]) / 2, np.r_[-intercept, intercept] / 2
    return ConceptBottleneck(
        weights=pd.DataFrame(coefficients, index=model.classes_, columns=concepts),
        intercept=pd.Series(intercept, index=model.classes_),
        mean=pd.Series(scaler.mean_, index=concepts),
        scale=pd.Series(scaler.scale_, index=concepts),
        path=path,
    )


def _labelled(scores: pd.DataFrame, labels: Any, name: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Scores and labels of the images that have a label, matched by name; what is left out is counted in a warning."""
    if not len(scores):
        raise ValueError(f"{name}scores has no rows.")
    scores, labels = by_name(scores, labels, what=(f"{name}scores", f"{name}labels"))
    labels, there = known(labels, what=f"{name}labels")
    if not there.all():
        warnings.warn(f"{name}labels: {int((~there).sum())} of {len(there)} are missing and left out.", stacklevel=3)
        scores, labels = scores[there], labels[there]
    if scores.isna().any(axis=None):
        raise ValueError(f"{name}scores holds NaN: leave those images out.")
    return scores, np.array(list(labels))


def sparsest_as_good(accuracies: Sequence[float], count: int) -> int:
    """The first of several accuracies that lies within one standard error of the best.

    Args:
        accuracies: the sparsest model's first.
        count: of the images on which they were measured.
    """
    shares = np.asarray(accuracies, dtype=float)
    best = shares.max()
    return int((shares >= best - np.sqrt(best * (1 - best) / count)).argmax())


def best_possible(answers: pd.DataFrame, labels: Any) -> np.ndarray:
    """What the best of all classifiers would say if it saw nothing but these answers, and knew these very labels.

    Images with the same answers throughout cannot be told apart: each gets the label that is commonest among them. So
    no classifier of any kind is right on more of these images. It is a ceiling, not a model: it has seen the labels,
    and the fewer images share their answers, the higher it lies.

    Args:
        answers: DataFrame [N, K] of answers (0/1, words); no NaN.
        labels: N class names; a Series is matched by its index.

    Returns:
        N class names; where two are equally common, the first in sorted order.

    Raises:
        ValueError: lengths or names differ, NaN among the answers or labels.
    """
    answers, labels = by_name(answers, labels, what=("answers", "labels"))
    labels, there = known(labels, what="labels")
    if not len(answers) or not there.all() or answers.isna().any(axis=None):
        raise ValueError("answers and labels must have rows, and none of them may be missing: leave those images out.")
    same = answers.groupby(list(answers.columns), sort=False).ngroup().to_numpy()
    return pd.crosstab(same, np.array(list(labels))).idxmax(axis=1).reindex(same).to_numpy()


def typical_scores(scores: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """The mean score of images that have a concept and of those that have not: what an intervention sets.

    Args:
        scores: DataFrame [N, K].
        truth: DataFrame [N, K] of 0/1/NaN; its rows and columns are matched with the scores' by name, and it may have
            further columns.

    Returns:
        DataFrame with the concepts as rows, columns "absent" and "present".
    """
    if lacking := [concept for concept in scores.columns if concept not in truth.columns]:
        raise ValueError(f"truth lacks the concept {lacking[0]!r}.")
    scores, truth = by_name(scores, truth[scores.columns], what=("scores", "truth"))
    truth = truth.set_axis(scores.index)
    return pd.DataFrame({"absent": scores.where(truth == 0).mean(), "present": scores.where(truth == 1).mean()})


def lists_difference(first: Any, second: Any, *, n: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """By how much more often one kind of list is right than another, on the same images.

    The lists that were drawn are a sample, and so are the images. Both are drawn anew: the lists of each kind by
    themselves, the images once for both kinds.

    Args:
        first, second: bool or float [lists, N]: whether the classifier of each list is right on each image.
        n, seed: as in `helpers.metrics.bootstrap`.

    Raises:
        ValueError: not two tables over the same images.
    """
    tables = [np.asarray(right, dtype=float) for right in (first, second)]
    if any(right.ndim != 2 or not right.size for right in tables) or tables[0].shape[1] != tables[1].shape[1]:
        found = " and ".join(str(right.shape) for right in tables)
        raise ValueError(f"first and second must be [lists, images] over the same images, not empty: {found}.")
    images = resample_weights(tables[0].shape[1], n, seed)
    one, other = (
        (resample_weights(len(right), n, seed + k) @ right * images).sum(1) / right.size
        for k, right in enumerate(tables, start=1)
    )
    return estimate(tables[0].mean() - tables[1].mean(), one - other, tables[0].shape[1])
