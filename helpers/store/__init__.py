"""Vectors on disk with their provenance: a folder of Parquet shards that is appended to, resumed, scored and searched.

    vectors-000004-9c1f.parquet    path, sha256, size, modified, vector, then the labels; one row a picture
    tokens-000004-9c1f.parquet     path, sha256, tokens: the patch vectors of the same pictures, where asked for
    concepts-000004-9c1f.parquet   path, sha256, scores: the patches reduced to one score a concept, where asked for
    failures-000004-9c1f.parquet   path, sha256, problem: the pictures that could not be encoded

A file is written beside its place and renamed, the vectors last: whatever happens, a shard is there as a whole or not
at all. Nothing is changed afterwards. A picture that is encoded again gets a new row in a later shard, and the newest
row of a path is the one that counts. Every shard says in its schema's metadata which model made it (`provenance`).
"""

from .provenance import check_model, provenance, weights_hash
from .search import faiss_index, top_k
from .shards import KEYS, ROWS, ShardWriter, Store, StoredEncodings

__all__ = [
    "KEYS",
    "ROWS",
    "ShardWriter",
    "Store",
    "StoredEncodings",
    "check_model",
    "faiss_index",
    "provenance",
    "top_k",
    "weights_hash",
]
