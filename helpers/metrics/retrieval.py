"""Does a query find what belongs to it? Ranks, recall and precision at k, mean average precision.

Where a picture is looked for among pictures, it finds itself first: `exclude_self=True` leaves it out. An entry of −inf
in a table of similarities says the same of any pair: this item does not stand in this query's gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics as sk

from ..labels import by_name
from ..settings import SEED
from .intervals import RESAMPLES, Estimate, bootstrap_mean, clusters_of


def retrieval_ranks(similarity: Any, relevant: Any = None, *, exclude_self: bool = False) -> np.ndarray:
    """At which rank each query finds its first right answer.

    Args:
        similarity: float [Q, G], queries x gallery, larger is more alike; −inf: not in this query's gallery.
        relevant: 0/1 or bool [Q, G], the right answers; None means the diagonal (query i belongs to item i).
        exclude_self: query i is item i, and does not stand in its own gallery.

    Returns:
        int [Q], 1 is best. Ties count against the model: an item that scores the same as the right answer stands before
        it, so that a constant score finds nothing.

    Raises:
        ValueError: shapes or names differ, NaN, or a query without a right answer.
    """
    similarity, relevant = gallery(similarity, relevant, exclude_self=exclude_self)
    if not relevant.any(1).all():
        query = int((~relevant.any(1)).argmax())
        raise ValueError(f"Query {query} has no right answer in the gallery: leave it out.")
    best = np.where(relevant, similarity, -np.inf).max(1, keepdims=True)
    return 1 + ((similarity >= best) & ~relevant).sum(1)


def gallery(similarity: Any, relevant: Any = None, *, exclude_self: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """What the retrieval metrics take, checked: similarity, float [Q, G], and the right answers, bool [Q, G].

    Pairs that do not stand in the gallery are −inf in the first and False in the second. Tables are matched by the
    names of their rows and columns.

    Raises:
        ValueError: shapes or names differ; similarity is NaN or +inf; relevant is neither 0 nor 1, or missing where the
            query itself is left out.
    """
    if relevant is not None and np.shape(similarity) == np.shape(relevant):
        similarity, relevant = by_name(similarity, relevant, what=("similarity", "relevant"))
    named = isinstance(similarity, pd.DataFrame) and not similarity.index.equals(similarity.columns)
    table = np.array(similarity, dtype=np.float64)
    if table.ndim != 2 or np.isnan(table).any() or (table == np.inf).any():
        raise ValueError("similarity must be a table [queries, gallery], finite or −inf: encode what gives NaN again.")
    square = table.shape[0] == table.shape[1]
    if relevant is None and not square:
        raise ValueError(f"similarity {table.shape} is not square: say with relevant= what belongs to what.")
    if exclude_self and (not square or named):
        raise ValueError("exclude_self needs queries and gallery to be the same images in the same order.")
    if exclude_self:
        np.fill_diagonal(table, -np.inf)
    answers = np.eye(len(table), dtype=bool) if relevant is None else decided(relevant, "relevant")
    if answers.shape != table.shape:
        raise ValueError(f"relevant {answers.shape} must have the shape of similarity {table.shape}.")
    answers = answers & (table > -np.inf)
    if relevant is None and not answers.any():
        raise ValueError("The diagonal is left out, so nothing is right: say with relevant= what belongs to what.")
    return table, answers


def decided(table: Any, name: str) -> np.ndarray:
    """A table of 0 and 1 as bool. Where truth may be unknown (NaN), only the caller knows what that should count as.

    Raises:
        ValueError: anything else in it; numpy takes NaN for true.
    """
    table = np.asarray(table, dtype=float)
    odd = table[~np.isin(table, (0, 1))]
    if odd.size:
        raise ValueError(f"{name} must be 0 or 1 everywhere; it holds {odd[0]:g}. Decide first: `({name} == 1)`.")
    return table == 1


def recall_at_k(
    similarity: Any,
    relevant: Any = None,
    *,
    ks: Sequence[int] = (1, 5, 10),
    exclude_self: bool = False,
    clusters: Any = None,
    text_clusters: Any = None,
    n: int = RESAMPLES,
    seed: int = SEED,
) -> pd.DataFrame:
    """Share of queries that find a right answer among their first k, both ways.

    Args:
        similarity: float [B, N], images x texts; −inf: not in the gallery.
        relevant: 0/1 or bool [B, N], which texts are true of which images; None means the diagonal. A query without
            any right answer is left out of its direction.
        ks: list lengths.
        exclude_self: as in `retrieval_ranks`, for images x the same images.
        clusters: [B] of the images, as in `bootstrap_mean`.
        text_clusters: [N] of the texts; by default those of the images where each has its own text (relevant None).
        n, seed: as in `bootstrap`.

    Returns:
        DataFrame of Estimates: rows "image → text", "text → image"; columns "recall@1", ... Queries are resampled, the
        gallery stands.

    Raises:
        ValueError: as `gallery` says.
    """
    table, answers = gallery(similarity, relevant, exclude_self=exclude_self)
    own = None if clusters is None else clusters_of(clusters, len(table), similarity)
    theirs = own if relevant is None or exclude_self else None
    theirs = theirs if text_clusters is None else clusters_of(text_clusters, table.shape[1], None)
    rows = {}
    for direction, s, r, groups in (
        ("image → text", table, answers, own),
        ("text → image", table.T, answers.T, theirs),
    ):
        found = r.any(1)
        ranks = retrieval_ranks(s[found], r[found]) if found.any() else np.array([])
        groups = groups if groups is None else groups[found]
        rows[direction] = [bootstrap_mean(ranks <= k, clusters=groups, n=n, seed=seed) for k in ks]
    return pd.DataFrame.from_dict(rows, orient="index", columns=[f"recall@{k}" for k in ks])


def precision_at_k(
    similarity: Any,
    relevant: Any,
    k: int = 10,
    *,
    exclude_self: bool = False,
    clusters: Any = None,
    n: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """Share of right answers among the first k of each query, averaged over queries.

    Args:
        similarity: float [Q, G], queries x gallery; −inf: not in this query's gallery.
        relevant: 0/1 or bool [Q, G].
        k: list length, at most the smallest gallery.
        exclude_self: as in `retrieval_ranks`.
        clusters: [Q], as in `bootstrap_mean`; n, seed as in `bootstrap`.

    Returns:
        Estimate. Ties count against the model, as in `retrieval_ranks`.

    Raises:
        ValueError: as in `recall_at_k`, or k is longer than the gallery.
    """
    table, answers = gallery(similarity, relevant, exclude_self=exclude_self)
    own = None if clusters is None else clusters_of(clusters, len(table), similarity)
    most = int((table > -np.inf).sum(1).min())
    if not 1 <= k <= most:
        raise ValueError(f"k={k} must lie between 1 and the gallery's {most}.")
    first = np.lexsort((answers, -table), axis=1)[:, :k]  # the wrong ones first where they tie
    return bootstrap_mean(np.take_along_axis(answers, first, axis=1).mean(1), clusters=own, n=n, seed=seed)


def mean_average_precision(
    similarity: Any,
    relevant: Any,
    *,
    exclude_self: bool = False,
    clusters: Any = None,
    n: int = RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """Mean over queries of the average precision (mAP): all right answers count, those far down little.

    Beside recall, which asks for one right answer: of two models that both find one at once, it prefers the one that
    finds the others early, too. A score that says nothing reaches the share of right answers in the gallery.

    Args:
        similarity, relevant, exclude_self, clusters: as in `precision_at_k`. A query without any right answer is left
            out.
        n, seed: as in `bootstrap`.

    Returns:
        Estimate, of scikit-learn's `average_precision_score` of each query (items that tie are taken together).
    """
    table, answers = gallery(similarity, relevant, exclude_self=exclude_self)
    own = None if clusters is None else clusters_of(clusters, len(table), similarity)
    each = np.full(len(table), np.nan)
    for query in np.flatnonzero(answers.any(1)):
        there = table[query] > -np.inf
        each[query] = sk.average_precision_score(answers[query, there], table[query, there])
    found = bootstrap_mean(each, clusters=own, n=n, seed=seed)
    return replace(found, left_out=int(np.isnan(each).sum()))
