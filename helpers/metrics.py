"""How good is it, and how sure are we? Every figure comes with a bootstrap interval over images.

Images that belong together (crops of one photograph, slides of one patient) are not independent: where a function takes
`clusters`, those are resampled whole, and the interval is as wide as the number of photographs or patients deserves.

scikit-learn computes what it has; the bootstrap of AUROC and of means is done here in one step over all resamples,
because a thousand calls would take seconds. All random draws start from `helpers.SEED`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_expit, log_softmax
from scipy.stats import rankdata
from sklearn import metrics as sk

from .settings import SEED

RESAMPLES = 1000
LEVEL = 0.95
MASK_SHARE = 0.1
"""A patch counts as part of a mask when the mask covers at least this share of it: little enough that a granule or
vacuole smaller than a patch can be hit, enough that brushing a rim is no hit. (Ranking metrics use one half.)"""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% bootstrap interval. Prints as 0.97 (0.96–0.98); `f"{e:.3f}"` sets the digits.

    `value, low, high = e` unpacks it, and `float(e)` is the value. It is no tuple, so that pandas prints it likewise.
    """

    value: float
    low: float
    high: float

    def __iter__(self) -> Iterator[float]:
        return iter((self.value, self.low, self.high))

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return format(self)

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        value, low, high = (format(x, spec or ".2f") for x in self)
        return f"{value} ({low}–{high})"


UNDEFINED = Estimate(np.nan, np.nan, np.nan)


# --- bootstrap --------------------------------------------------------------------------------------------------------


def bootstrap(statistic: Callable[..., float], *arrays, n: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Percentile interval of any statistic, resampling rows (images) together in all arrays.

    Args:
        statistic: takes the arrays, returns a number (NaN where it is not defined).
        arrays: equally long; row i of each belongs to image i.
        n: resamples.
        seed: of the draw.

    Returns:
        Estimate. Resamples in which the statistic is undefined (say, one class only) are left out; if those are more
        than half, the interval is NaN.
    """
    arrays = [np.asarray(a) for a in arrays]
    size = len(arrays[0]) if arrays else 0
    if not size or any(len(a) != size for a in arrays):
        raise ValueError(f"The arrays must be equally long and not empty; they have {[len(a) for a in arrays]} rows.")
    value = float(statistic(*arrays))
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, size, size) for _ in range(n))
    return _estimate(value, np.array([statistic(*(a[rows] for a in arrays)) for rows in draws], dtype=float))


def bootstrap_mean(values, *, clusters=None, n: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Mean of one value an image, with its interval; NaN values (not defined for that image) are left out.

    Args:
        values: float [N].
        clusters: [N] labels (photograph, patient); images of one label are resampled together. None: each by itself.
    """
    values = np.asarray(values, dtype=float).ravel()
    known = ~np.isnan(values)
    if not known.any():
        return UNDEFINED
    weights = _weights(len(values), n, seed, clusters)
    with np.errstate(invalid="ignore"):
        means = weights @ np.where(known, values, 0.0) / (weights @ known)
    return _estimate(values[known].mean(), means)


def _weights(size: int, n: int, seed: int, clusters=None) -> np.ndarray:
    """How often each of `size` images is drawn in each of `n` resamples: float32 [n, size].

    Rows sum to `size`. With clusters it is these that are drawn, as many as there are, and an image as often as its
    own: a mean under such weights is a ratio of two sums that both vary, as it must be where clusters differ in size.
    """
    if clusters is not None:
        names, own = np.unique(clusters, return_inverse=True)
        if own.shape != (size,):
            raise ValueError(f"clusters must hold one label for each of the {size} images, not {np.shape(clusters)}.")
        return _weights(len(names), n, seed)[:, own]
    rng = np.random.default_rng(seed)
    return rng.multinomial(size, np.full(size, 1 / size), size=n).astype(np.float32)


def _estimate(value: float, resampled: np.ndarray) -> Estimate:
    known = resampled[~np.isnan(resampled)]
    if np.isnan(value) or len(known) < len(resampled) / 2:
        return Estimate(float(value), np.nan, np.nan)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))


# --- ranking ----------------------------------------------------------------------------------------------------------


def auroc(truth, score, *, n: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Area under the ROC curve: how often a positive image scores above a negative one (ties count half).

    Args:
        truth: [N] 0/1 (or bool); NaN leaves the image out.
        score: float [N], larger means positive.

    Returns:
        Estimate; NaN when only one class is there.
    """
    truth, score = _binary(truth, score)
    if not len(truth):
        return UNDEFINED
    return _estimate(_auroc(truth, score), _weighted_auroc(truth, score, _weights(len(truth), n, seed)))


def macro_auroc(truth, scores, groups=None, *, n: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Mean AUROC over concepts; images are resampled once for all of them.

    Args:
        truth: [N, K] 0/1; NaN leaves that pair out. Concepts with one class only are left out of the mean.
        scores: float [N, K].
        groups: [N] labels (cell types); then images are compared within their own group only, as in
            `within_group_auroc`, and concepts that no group has both ways are left out.
    """
    truth, scores = _tables(truth, scores)
    return _estimate(*_macro_auroc(truth, scores, groups, _weights(len(truth), n, seed)))


def macro_auroc_difference(truth, first, second, groups=None, *, n: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """By how much the mean AUROC of one score exceeds another's on the same images.

    Both are computed on the same resamples, so what makes an image hard for both cancels: the interval is narrower than
    two separate ones suggest. It excludes 0 where the images tell the two apart.

    Args:
        truth, groups: as in `macro_auroc`.
        first, second: float [N, K] each.
    """
    truth, first = _tables(truth, first)
    truth, second = _tables(truth, second)
    weights = _weights(len(truth), n, seed)
    (value, resampled), (other, others) = (_macro_auroc(truth, s, groups, weights) for s in (first, second))
    return _estimate(value - other, resampled - others)


def _tables(truth, scores) -> tuple[np.ndarray, np.ndarray]:
    truth, scores = np.asarray(truth, dtype=float), np.asarray(scores, dtype=float)
    if truth.shape != scores.shape or truth.ndim != 2 or not len(truth):
        raise ValueError(f"truth {truth.shape} and scores {scores.shape} must both be [images, concepts], not empty.")
    return truth, scores


def _macro_auroc(truth, scores, groups, weights) -> tuple[float, np.ndarray]:
    """Mean over concepts: of the images as they are, and of each resample (a row of weights)."""
    groups = np.zeros(len(truth)) if groups is None else np.asarray(groups)
    weights = np.concatenate([np.ones((1, len(truth)), np.float32), weights])
    areas = []
    for t, s in zip(truth.T, scores.T, strict=True):
        known = ~np.isnan(t)
        if known.any():
            areas.append(_grouped_auroc(*_binary(t[known], s[known]), groups[known], weights[:, known]))
    areas = [area for area in areas if not np.isnan(area[0])]
    if not areas:
        raise ValueError("No concept has both positive and negative images (within a group): there is no AUROC.")
    mean = np.mean(areas, axis=0)
    return float(mean[0]), mean[1:]


def within_group_auroc(truth, score, groups, *, n: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """AUROC that compares images only with others of their own group (their cell type).

    Where type and attribute go together, plain AUROC is high for a model that knows the type alone. Here each positive
    is compared with the negatives of its own group, and all such pairs count alike; groups with one class only have
    no pairs.

    Args:
        truth: [N] 0/1; NaN leaves the image out.
        score: float [N].
        groups: [N] labels.

    Returns:
        Estimate; NaN when no group has both classes.
    """
    truth, groups = np.asarray(truth, dtype=float), np.asarray(groups)
    known = ~np.isnan(truth)
    groups = groups[known]
    if not known.any():
        return UNDEFINED
    truth, score = _binary(truth[known], np.asarray(score, dtype=float)[known])
    weights = np.concatenate([np.ones((1, len(truth)), np.float32), _weights(len(truth), n, seed)])
    areas = _grouped_auroc(truth, score, groups, weights)
    return _estimate(float(areas[0]), areas[1:])


def _grouped_auroc(truth, score, groups, weights) -> np.ndarray:
    """AUROC over the pairs of each group, for each row of weights: [n], NaN without pairs."""
    wins = pairs = np.zeros(len(weights))
    for group in pd.unique(groups):
        inside = groups == group
        w, p = _weighted_wins(truth[inside], score[inside], weights[:, inside])
        wins, pairs = wins + w, pairs + p
    with np.errstate(invalid="ignore"):
        return wins / pairs


def auroc_by_group(truth, score, groups) -> pd.DataFrame:
    """AUROC in each group by itself: DataFrame with columns auroc (Estimate), positive, negative (counts)."""
    frame = pd.DataFrame({"truth": truth, "score": score, "group": groups}).dropna(subset="truth")
    rows = {}
    for group, part in frame.groupby("group", sort=True):
        positive = int((part["truth"] == 1).sum())
        rows[group] = (auroc(part["truth"], part["score"]), positive, len(part) - positive)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["auroc", "positive", "negative"])


def _binary(truth, score) -> tuple[np.ndarray, np.ndarray]:
    truth, score = np.asarray(truth, dtype=float).ravel(), np.asarray(score, dtype=float).ravel()
    if truth.shape != score.shape or not len(truth):
        raise ValueError(f"truth and score must be equally long and not empty, not {len(truth)} and {len(score)}.")
    known = ~np.isnan(truth)
    truth, score = truth[known], score[known]
    if not np.isin(truth, (0, 1)).all():
        raise ValueError(f"truth must be 0, 1 or NaN; it holds {sorted(set(truth.tolist()))[:5]}.")
    if np.isnan(score).any():
        raise ValueError(f"score holds NaN at row {int(np.isnan(score).argmax())}: encode that image again in float32.")
    return truth == 1, score


def _auroc(truth: np.ndarray, score: np.ndarray) -> float:
    return float(sk.roc_auc_score(truth, score)) if 0 < truth.sum() < len(truth) else np.nan


def _weighted_auroc(truth, score, weights) -> np.ndarray:
    wins, pairs = _weighted_wins(truth, score, weights)
    with np.errstate(invalid="ignore"):
        return wins / pairs


def _weighted_wins(truth, score, weights) -> tuple[np.ndarray, np.ndarray]:
    """For each row of weights: won pairs (positive above negative, ties one half) and all pairs. [n], [n]."""
    order = np.argsort(score, kind="stable")
    levels = np.r_[0, 1 + np.flatnonzero(np.diff(score[order]))]  # where each distinct score begins: ties share a level
    negative = np.add.reduceat((weights * ~truth)[:, order], levels, axis=1, dtype=float)  # [n, levels]
    positive = np.add.reduceat((weights * truth)[:, order], levels, axis=1, dtype=float)
    below = negative.cumsum(1) - negative / 2
    return (positive * below).sum(1), positive.sum(1) * negative.sum(1)


# --- retrieval --------------------------------------------------------------------------------------------------------


def retrieval_ranks(similarity, relevant=None) -> np.ndarray:
    """At which rank each query finds its first right answer.

    Args:
        similarity: float [Q, G], queries x gallery, larger is more alike.
        relevant: 0/1 or bool [Q, G], the right answers; None means the diagonal (query i belongs to item i).

    Returns:
        int [Q], 1 is best. Ties count against the model: an item that scores the same as the right answer stands before
        it, so that a constant score finds nothing.

    Raises:
        ValueError: shapes differ, NaN, or a query without a right answer.
    """
    similarity, relevant = gallery(similarity, relevant)
    if not relevant.any(1).all():
        query = int((~relevant.any(1)).argmax())
        raise ValueError(f"Query {query} has no right answer in the gallery: leave it out.")
    best = np.where(relevant, similarity, -np.inf).max(1, keepdims=True)
    return 1 + ((similarity >= best) & ~relevant).sum(1)


def gallery(similarity, relevant=None) -> tuple[np.ndarray, np.ndarray]:
    """What the retrieval metrics take, checked: similarity, finite float [Q, G], and the right answers, bool [Q, G].

    Raises:
        ValueError: shapes differ, similarity is not finite, relevant is neither 0 nor 1.
    """
    similarity = np.asarray(similarity, dtype=np.float64)
    if similarity.ndim != 2 or not np.isfinite(similarity).all():
        raise ValueError("similarity must be a finite table [queries, gallery].")
    if relevant is None:
        if similarity.shape[0] != similarity.shape[1]:
            raise ValueError(f"similarity {similarity.shape} is not square: say with relevant= what belongs to what.")
        relevant = np.eye(len(similarity), dtype=bool)
    relevant = decided(relevant, "relevant")
    if relevant.shape != similarity.shape:
        raise ValueError(f"relevant {relevant.shape} must have the shape of similarity {similarity.shape}.")
    return similarity, relevant


def decided(table, name: str) -> np.ndarray:
    """A table of 0 and 1 as bool. Where truth may be unknown (NaN), only the caller knows what that should count as.

    Raises:
        ValueError: anything else in it; numpy takes NaN for true.
    """
    table = np.asarray(table, dtype=float)
    odd = table[~np.isin(table, (0, 1))]
    if odd.size:
        raise ValueError(f"{name} must be 0 or 1 everywhere; it holds {odd[0]:g}. Decide first: `({name} == 1)`.")
    return table == 1


def recall_at_k(similarity, relevant=None, *, ks: Sequence[int] = (1, 5, 10), n: int = RESAMPLES) -> pd.DataFrame:
    """Share of queries that find a right answer among their first k, both ways.

    Args:
        similarity: float [B, N], images x texts.
        relevant: 0/1 or bool [B, N], which texts are true of which images; None means the diagonal. A query without
            any right answer is left out of its direction.
        ks: list lengths.

    Returns:
        DataFrame of Estimates: rows "image → text", "text → image"; columns "recall@1", ... Queries are resampled, the
        gallery stands.

    Raises:
        ValueError: shapes differ; similarity that is not finite; NaN in relevant, which numpy takes for true.
    """
    similarity, relevant = gallery(similarity, relevant)
    rows = {}
    for direction, s, r in (("image → text", similarity, relevant), ("text → image", similarity.T, relevant.T)):
        answered = r.any(1)
        ranks = retrieval_ranks(s[answered], r[answered])
        rows[direction] = [bootstrap_mean(ranks <= k, n=n) for k in ks]
    return pd.DataFrame.from_dict(rows, orient="index", columns=[f"recall@{k}" for k in ks])


def precision_at_k(similarity, relevant, k: int = 10, *, n: int = RESAMPLES) -> Estimate:
    """Share of right answers among the first k of each query, averaged over queries.

    Args:
        similarity: float [Q, G], queries x gallery.
        relevant: 0/1 or bool [Q, G].
        k: list length, at most G.

    Returns:
        Estimate. Ties count against the model, as in `retrieval_ranks`.

    Raises:
        ValueError: as in `recall_at_k`, or k is longer than the gallery.
    """
    similarity, relevant = gallery(similarity, relevant)
    if not 1 <= k <= similarity.shape[1]:
        raise ValueError(f"k={k} must lie between 1 and the gallery's {similarity.shape[1]}.")
    first = np.lexsort((relevant, -similarity), axis=1)[:, :k]  # the wrong ones first where they tie
    return bootstrap_mean(np.take_along_axis(relevant, first, axis=1).mean(1), n=n)


# --- classes ----------------------------------------------------------------------------------------------------------


def accuracy(truth, predicted, *, n: int = RESAMPLES) -> Estimate:
    """Share of right answers."""
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or not len(truth):
        raise ValueError(f"truth and predicted must be equally long and not empty: {truth.shape}, {predicted.shape}.")
    return bootstrap_mean(truth == predicted, n=n)


def balanced_accuracy(truth, predicted, *, clusters=None, n: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Mean over the classes present in `truth` of the share found: chance is one over their number.

    Args:
        truth, predicted: [N] labels.
        clusters: as in `bootstrap_mean`.
    """
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or not len(truth):
        raise ValueError(f"truth and predicted must be equally long and not empty: {truth.shape}, {predicted.shape}.")
    member = truth[:, None] == np.unique(truth)[None]  # [N, classes]
    value = (member & (truth == predicted)[:, None]).sum(0) / member.sum(0)
    weights = _weights(len(truth), n, seed, clusters)
    with np.errstate(invalid="ignore"):
        recalls = weights @ (member & (truth == predicted)[:, None]) / (weights @ member)
    return _estimate(float(value.mean()), np.nanmean(recalls, axis=1))


# --- maps against masks -----------------------------------------------------------------------------------------------


def pointing_hits(maps, shares, *, share: float = MASK_SHARE) -> np.ndarray:
    """Whether the largest patch of each map lies in its mask.

    Args:
        maps: float [B, h, w], one map an image.
        shares: float [B, h, w], how much of each patch the mask covers (`tokens.patch_shares`); or bool [B, H, W]
            masks of pixels: then the pixel at the patch's centre decides, and `share` is not used.
        share: a patch counts as in the mask when at least this much of it is covered.

    Returns:
        float [B]: 1 hit, 0 miss, between them when several patches tie for the largest; NaN where no patch counts as in
        the mask.
    """
    maps, inside = _maps_and_targets(maps, shares, share)
    flat, inside = maps.reshape(len(maps), -1), inside.reshape(len(maps), -1)
    largest = flat == flat.max(1, keepdims=True)
    hits = (largest & inside).sum(1) / largest.sum(1)
    return np.where(inside.any(1), hits, np.nan)


def pointing_game(maps, shares, *, share: float = MASK_SHARE, n: int = RESAMPLES) -> Estimate:
    """Share of images whose largest patch lies in the mask (arguments as in `pointing_hits`).

    Read it beside `pointing_chance`: a large mask is easily hit.
    """
    return bootstrap_mean(pointing_hits(maps, shares, share=share), n=n)


def pointing_chance(shares, *, share: float = MASK_SHARE) -> float:
    """What a random patch would score in the pointing game: the mean share of patches that count as in the mask."""
    inside = (np.asarray(shares, dtype=float) >= share).reshape(len(shares), -1)
    return float(inside[inside.any(1)].mean())


def patch_aurocs(maps, shares, *, share: float = 0.5) -> np.ndarray:
    """AUROC of the patches of each image against its mask, image by image (arguments as in `patch_auroc`).

    Returns:
        float [B]: the share of pairs of a patch inside and a patch outside in which the one inside is larger, ties one
        half; NaN for an image without patches inside or outside.
    """
    maps, inside = _maps_and_targets(maps, shares, share)
    inside = inside.reshape(len(inside), -1)
    ranks = rankdata(maps.reshape(len(maps), -1), axis=1)  # ties share their mean rank
    positive, negative = inside.sum(1), (~inside).sum(1)
    with np.errstate(invalid="ignore"):
        return ((ranks * inside).sum(1) - positive * (positive + 1) / 2) / (positive * negative)


def patch_auroc(maps, shares, *, share: float = 0.5, n: int = RESAMPLES) -> Estimate:
    """AUROC of the patches of one image against its mask, averaged over images.

    Args:
        maps: float [B, h, w].
        shares: float [B, h, w] from `patch_shares`.
        share: patches covered at least this much are positive. Images without positive or negative patches are left
            out.
    """
    return bootstrap_mean(patch_aurocs(maps, shares, share=share), n=n)


def patch_average_precision(maps, shares, *, share: float = 0.5, n: int = RESAMPLES) -> Estimate:
    """Average precision of the patches of one image against its mask, averaged over images (as in `patch_auroc`)."""
    return bootstrap_mean(_per_image(maps, shares, share, sk.average_precision_score), n=n)


def _per_image(maps, shares, share, score) -> np.ndarray:
    maps, inside = _maps_and_targets(maps, shares, share)
    pairs = ((inside[b].ravel(), maps[b].ravel()) for b in range(len(maps)))
    return np.array([score(t, m) if 0 < t.sum() < len(t) else np.nan for t, m in pairs])


def _maps_and_targets(maps, shares, share) -> tuple[np.ndarray, np.ndarray]:
    maps, shares = np.asarray(maps, dtype=float), np.asarray(shares)
    if maps.ndim != 3 or shares.ndim != 3 or len(maps) != len(shares) or not len(maps):
        raise ValueError(f"maps {maps.shape} must be [B, h, w], and shares {shares.shape} as many.")
    if np.isnan(maps).any():
        raise ValueError(f"maps[{int(np.isnan(maps).any((1, 2)).argmax())}] holds NaN: encode that image again.")
    if shares.dtype == bool and shares.shape != maps.shape:
        rows = ((np.arange(maps.shape[1]) + 0.5) * shares.shape[1] / maps.shape[1]).astype(int)
        columns = ((np.arange(maps.shape[2]) + 0.5) * shares.shape[2] / maps.shape[2]).astype(int)
        return maps, shares[:, rows][:, :, columns]
    if shares.shape != maps.shape:
        raise ValueError(
            f"shares {shares.shape} must be on the maps' grid {maps.shape}: use helpers.tokens.patch_shares."
        )
    return maps, shares >= share


# --- calibration ------------------------------------------------------------------------------------------------------


def reliability_table(truth, probability, *, bins: int = 10) -> pd.DataFrame:
    """Predicted probabilities, in bins of equal width, beside how often they came true.

    Args:
        truth: [N] 0/1: did it come true?
        probability: float [N] in [0, 1].
        bins: how many.

    Returns:
        DataFrame with one row for each bin that is not empty: low, high, predicted (mean), observed (share), count.
    """
    truth, probability = _binary(truth, probability)
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError("probability must lie in [0, 1]: apply a sigmoid or softmax to logits first.")
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.digitize(probability, edges) - 1, 0, bins - 1)
    frame = pd.DataFrame({"bin": which, "predicted": probability, "observed": truth.astype(float)})
    table = frame.groupby("bin").agg(
        predicted=("predicted", "mean"), observed=("observed", "mean"), count=("observed", "size")
    )
    table.insert(0, "low", edges[table.index])
    table.insert(1, "high", edges[table.index + 1])
    return table.reset_index(drop=True)


def expected_calibration_error(truth, probability, *, bins: int = 10, n: int = RESAMPLES, seed: int = SEED) -> Estimate:
    """Mean distance between predicted and observed over the bins of `reliability_table`, weighted by their counts.

    The interval is that of the resampled error, which is biased upwards for few images: it may lie above the value.
    """

    def error(t, p):
        which = np.clip(np.digitize(p, np.linspace(0, 1, bins + 1)) - 1, 0, bins - 1)
        return np.abs(np.bincount(which, t - p, bins)).sum() / len(t)

    truth, probability = _binary(truth, probability)
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError("probability must lie in [0, 1]: apply a sigmoid or softmax to logits first.")
    return bootstrap(error, truth.astype(float), probability, n=n, seed=seed)


def top_confidence(probabilities, truth) -> tuple[np.ndarray, np.ndarray]:
    """A classifier's table of probabilities as the pair that the calibration functions take.

    Args:
        probabilities: float [N, K], rows sum to one; a DataFrame keeps its class names.
        truth: [N], class names if a DataFrame was given, else column numbers.

    Returns:
        (correct [N] 0/1, confidence [N]): was the most probable class right, and how probable was it said to be?
    """
    names = np.asarray(probabilities.columns) if isinstance(probabilities, pd.DataFrame) else None
    table = np.asarray(probabilities, dtype=float)
    first = table.argmax(1)
    predicted = first if names is None else names[first]
    return (predicted == np.asarray(truth)).astype(int), table.max(1)


def fit_temperature(logits, truth, *, kind: str = "softmax") -> float:
    """The temperature T by which logits are divided so that their probabilities come true as often as they say.

    Minimises the negative log-likelihood. Fit on one split, judge on another.

    Args:
        logits: float [N, K] for "softmax"; any shape for "sigmoid".
        truth: for "softmax" int [N], column numbers; for "sigmoid" 0/1 in the shape of logits.
        kind: "softmax" or "sigmoid".

    Returns:
        T > 0; above 1 the model was too sure, below 1 not sure enough.

    Raises:
        ValueError: shapes that do not fit; logits that are not finite; truth that is no answer (NaN, -1).
    """
    logits, truth = np.asarray(logits, dtype=float), np.asarray(truth)
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite: encode what gives NaN or infinity again in float32, or leave it out.")
    if kind == "softmax":
        if logits.ndim != 2 or truth.shape != logits.shape[:1]:
            raise ValueError(f"For a softmax logits must be [N, K] and truth [N], not {logits.shape}, {truth.shape}.")
        if not np.isin(truth, np.arange(logits.shape[1])).all():
            raise ValueError(f"truth must be column numbers, 0 to {logits.shape[1] - 1}: leave out rows without one.")
        rows, truth = np.arange(len(truth)), truth.astype(int)

        def loss(t):
            return -log_softmax(logits / np.exp(t), axis=1)[rows, truth].mean()

    elif kind == "sigmoid":
        if truth.shape != logits.shape:
            raise ValueError(f"For a sigmoid truth {truth.shape} must have the shape of logits {logits.shape}.")
        sign = np.where(decided(truth, "truth"), 1.0, -1.0)

        def loss(t):
            return -log_expit(sign * logits / np.exp(t)).mean()

    else:
        raise ValueError(f"kind must be 'softmax' or 'sigmoid', not {kind!r}.")
    return float(np.exp(minimize_scalar(loss, bounds=(np.log(1e-2), np.log(1e3)), method="bounded").x))


# --- curves -----------------------------------------------------------------------------------------------------------


def curve_area(fractions, scores) -> float:
    """Area under a deletion or insertion curve, by trapezoids.

    Args:
        fractions: float [S], rising from 0 to 1: how much of the image is gone (or there).
        scores: float [S], or [B, S] for the mean over images.
    """
    return float(np.trapezoid(np.asarray(scores, dtype=float), np.asarray(fractions, dtype=float), axis=-1).mean())
