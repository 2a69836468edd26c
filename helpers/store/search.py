"""Exact search on tensors, and faiss where it is installed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


def top_k(
    queries: torch.Tensor, chunks: Iterable[torch.Tensor], k: int, *, rows: int = 65536
) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact search: the k largest dot products of each query, chunk by chunk.

    Args:
        queries: float [Q, D].
        chunks: tensors [n, D] of any floating type, one after the other; all of them together are what is searched.
        k: how many; fewer are returned where there are fewer vectors.
        rows: how many are multiplied at a time, so that Q × rows scores are the memory needed.

    Returns:
        (values, positions): float32 and int64 [Q, k], the largest first.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}.")
    values = torch.empty(len(queries), 0)
    found = torch.empty(len(queries), 0, dtype=torch.long)
    start = 0
    for chunk in chunks:
        for part in chunk.split(rows):
            best = (queries.float() @ part.float().T).topk(min(k, len(part)), dim=1)
            values, found = torch.cat([values, best.values], 1), torch.cat([found, best.indices + start], 1)
            values, order = values.topk(min(k, values.shape[1]), dim=1)
            found, start = found.gather(1, order), start + len(part)
    return values, found


def faiss_index(features: torch.Tensor) -> Any:
    """A faiss index of float16 vectors [N, D] by dot product: half the memory of float32, every vector compared.

    Raises:
        ImportError: faiss is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError("faiss is not installed: pip install faiss-cpu, or search without it.") from error
    index = faiss.IndexScalarQuantizer(features.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    index.add(features.float().numpy())
    return index
