"""A classifier that may only look at concept scores: sparse, so that each of its decisions can be read aloud.

concept scores -> standardised -> L1-penalised multinomial logistic regression (scikit-learn) -> class. The strength of
the penalty is chosen on validation images only. A class's logit is a sum with one term for each concept: those terms
are the explanation, and changing one score by hand is the intervention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

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
    labels: Sequence[str],
    validation_scores: pd.DataFrame,
    validation_labels: Sequence[str],
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = SEED,
) -> ConceptBottleneck:
    """Fit a sparse linear model for each penalty, and keep the sparsest that is as good as the best.

    "As good" is judged on the validation images: within one standard error of the best accuracy there.

    Args:
        scores: DataFrame [N, K], images x concepts, e.g. from `helpers.annotate`.
        labels: N class names, at least two different ones.
        validation_scores, validation_labels: of other images. Test images have no business here.
        strengths: inverse penalties to try.
        seed: of the solver.

    Returns:
        ConceptBottleneck.

    Raises:
        ValueError: lengths differ, NaN among the scores, or one class only.
    """
    labels, validation_labels = np.asarray(labels), np.asarray(validation_labels)
    for name, table, truth in (("", scores, labels), ("validation_", validation_scores, validation_labels)):
        if len(table) != len(truth) or not len(table):
            raise ValueError(f"{name}scores has {len(table)} rows and {name}labels {len(truth)}: they must be equal.")
        if table.isna().any(axis=None):
            raise ValueError(f"{name}scores holds NaN: leave those images out.")
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


def sparsest_as_good(accuracies: Sequence[float], count: int) -> int:
    """The first of several accuracies that lies within one standard error of the best.

    Args:
        accuracies: the sparsest model's first.
        count: of the images on which they were measured.
    """
    accuracies = np.asarray(accuracies, dtype=float)
    best = accuracies.max()
    return int((accuracies >= best - np.sqrt(best * (1 - best) / count)).argmax())


def typical_scores(scores: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """The mean score of images that have a concept and of those that have not: what an intervention sets.

    Args:
        scores: DataFrame [N, K].
        truth: DataFrame [N, K] of 0/1/NaN with the same columns.

    Returns:
        DataFrame with the concepts as rows, columns "absent" and "present".
    """
    truth = truth[scores.columns].set_axis(scores.index)
    return pd.DataFrame({"absent": scores.where(truth == 0).mean(), "present": scores.where(truth == 1).mean()})
