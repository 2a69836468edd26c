"""The folder of shards: written, read, locked, searched. `Store` reads and `ShardWriter` makes one shard."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from filelock import FileLock, Timeout

from helpers.encoding import ImageEncodings, TextEncodings, encode_texts
from helpers.images import image_names

from .provenance import FORMAT, check_model, made_by
from .search import faiss_index, top_k

ROWS = 4096
"""Pictures in one shard, unless told otherwise: what a killed run has to do again at most, for each worker."""
KINDS = ("vectors", "tokens", "concepts", "failures")
KEYS = ("path", "sha256", "size", "modified")
MUST_AGREE = ("weights_sha256", "preprocessing", "pixels", "dtype", "width", "grid")
"""What all shards of one store have in common."""
NAME = re.compile(r"(\w+)-(\d{6,})-[0-9a-f]+\.parquet")
IN_MEMORY = 4 * 2**30
"""Bytes of float32 vectors that `Store.search` keeps between two calls; above it reads the shards each time."""


@dataclass(repr=False)
class StoredEncodings(ImageEncodings):
    """`ImageEncodings` that know who made them: `scoring` refuses to use them with another model.

    Attributes:
        meta: as `provenance` returns it.
    """

    meta: dict[str, str] = field(default_factory=dict)

    def check(self, model: Any) -> None:
        """A ValueError that says which is which, unless `model` made these vectors."""
        check_model(self.meta, model, "This store")


class Store:
    """A folder of shards.

    Args:
        folder: of the store.
        create: whether the folder may be new.

    Raises:
        ValueError: no such store; a folder that holds other things; shards of different models; a damaged shard, named.
        OSError: no permission to read or write here.

    Attributes:
        folder: Path.
        meta: what its shards say of themselves (`provenance`), {} while there are none.

    `len(store)` counts pictures, each once.
    """

    def __init__(self, folder: str | os.PathLike[str], *, create: bool = False) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder.name}: a file, and a store is a folder. Name an empty or a new one.")
        if create:
            _told(lambda: self.folder.mkdir(parents=True, exist_ok=True), self.folder.name)
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder.name}: no such store. Make one with `python -m helpers.encode … --out …`.")
        names = [path.name for path in self.folder.iterdir()]
        strange = [name for name in names if not name.startswith(".") and not NAME.fullmatch(name)]
        if strange:
            raise ValueError(f"{self.folder.name} is no store: it holds {sorted(strange)[0]}. Name an empty folder.")
        if not create and not self.shards():
            raise ValueError(f"{self.folder.name} holds no shard yet. Encode pictures into it first.")
        self.meta: dict[str, str] = {}
        for file in self.shards():
            meta = {k.decode(): v.decode() for k, v in (self._open(file).schema_arrow.metadata or {}).items()}
            if meta.get("format") != FORMAT:
                raise ValueError(f"{file.name} was not written as {FORMAT!r}. Move it out of {self.folder.name}.")
            self.check_meta(meta, file.name)
            self.meta = self.meta | meta | ({"window": self.meta["window"]} if self.meta.get("window") else {})
        self._rows: dict[tuple[str, ...], pd.DataFrame] = {}
        self._searched: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        made = f"of {made_by(self.meta)}" if self.meta else "empty"
        return f"Store({self.folder.name}: {len(self)} pictures, {made})"

    def __len__(self) -> int:
        return len(self.rows())

    def shards(self, kind: str = "vectors") -> list[Path]:
        """The files of one kind, the oldest first."""
        found = [(NAME.fullmatch(path.name), path) for path in self.folder.iterdir()]
        return sorted((p for m, p in found if m and m[1] == kind), key=lambda p: (_number(p), p.name))

    def schemas(self) -> list[pa.Schema]:
        """Of each shard of vectors, without its metadata."""
        return [self._open(file).schema_arrow.remove_metadata() for file in self.shards()]

    def check_meta(self, meta: dict[str, str], what: str) -> None:
        """A ValueError that names what differs, if vectors of provenance `meta` do not belong into this store."""
        differ = [key for key in MUST_AGREE if self.meta and meta.get(key) != self.meta.get(key)]
        if len({self.meta.get("window", ""), meta.get("window", "")} - {""}) > 1:
            differ.append("window")
        if differ:
            told = [
                f"{key} {self.meta.get(key)} there, {meta.get(key)} here" for key in differ if key != "weights_sha256"
            ]
            raise ValueError(
                f"{self.folder.name} holds vectors of {made_by(self.meta)}; {what} is of {made_by(meta)}. They "
                f"differ in {'; '.join(told) or 'their weights'}. Use the same model and settings, or another store."
            )

    def check(self, model: Any) -> None:
        """A ValueError that says which is which, unless `model` made this store's vectors."""
        check_model(self.meta, model, self.folder.name)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store for one writer; the lock goes with the process, however it ends.

        Raises:
            RuntimeError: another run holds it.
            OSError: no permission to write here.
        """
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            _told(lock.acquire, self.folder.name)
        except Timeout as error:
            raise RuntimeError(
                f"Another run is writing into {self.folder.name}. Wait until it ends, or name another store."
            ) from error
        try:
            for left in self.folder.glob(".*.part"):  # of a run that was killed
                left.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def next_number(self) -> int:
        """The number of the next shard."""
        return 1 + max((_number(path) for kind in KINDS for path in self.shards(kind)), default=-1)

    # --- reading ---

    def rows(self, failed: bool = False) -> pd.DataFrame:
        """The newest row of each picture.

        Args:
            failed: return the failures instead of the pictures that have a vector.

        Returns:
            DataFrame: path, sha256, size, modified (ns), file and row (where the vector is); or path, sha256, problem.
            A failure counts where its file could be read and nothing newer is there: a picture that was replaced by a
            broken one has no vector. One that could not be read at all does not hide the vector that is there.
        """
        every = self._every_row()
        missing = every["problem"].notna()
        seen = every[~missing | every["hides"]].drop_duplicates("path", keep="last")
        if failed:
            newest = every.drop_duplicates("path", keep="last")
            return newest[newest["problem"].notna()][["path", "sha256", "problem"]].reset_index(drop=True)
        good = seen[seen["problem"].isna()][[*KEYS, "file", "row"]].reset_index(drop=True)
        return good.astype({"size": "int64", "modified": "int64", "row": "int64"})

    def _every_row(self) -> pd.DataFrame:
        """Vectors and failures of all shards, oldest first; `hides`: a failure that older vectors do not outlive."""
        files = [(kind, file) for kind in ("vectors", "failures") for file in self.shards(kind)]
        state = tuple(file.name for _, file in files)
        if state not in self._rows:
            parts = [pd.DataFrame(columns=[*KEYS, "problem", "file", "row", "number"])]
            for kind, file in files:
                columns = list(KEYS) if kind == "vectors" else ["path", "sha256", "problem"]
                part = self._read(file, columns).to_pandas()
                part = part.astype({name: "Int64" for name in columns if name in ("size", "modified")})
                parts.append(part.assign(file=file.name, row=np.arange(len(part)), number=_number(file)))
            every = pd.concat(parts[1:] or parts, ignore_index=True).reindex(columns=parts[0].columns)
            # Failures have neither: as floats, times in ns would lose their last digits.
            every = every.astype({"size": "Int64", "modified": "Int64"})
            every = every.sort_values("number", kind="stable", ignore_index=True)
            good = pd.MultiIndex.from_frame(every.loc[every["problem"].isna(), ["path", "sha256"]])
            same = pd.MultiIndex.from_frame(every[["path", "sha256"]]).isin(good)
            every["hides"] = every["problem"].notna() & every["sha256"].notna() & ~same
            self._rows = {state: every}
        return self._rows[state]

    def failures(self) -> pd.DataFrame:
        """The pictures that could not be encoded when last tried: path, sha256 (None: not even read), problem."""
        return self.rows(failed=True)

    def batches(
        self, rows: pd.DataFrame | None = None, column: str = "vector"
    ) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """The vectors shard by shard: (positions in `rows`, tensor [n, width]); `rows` as `Store.rows` gives them."""
        rows = self.rows() if rows is None else rows
        for name, group in rows.groupby("file", sort=False):
            array = self._read(self.folder / str(name), [column])[column].combine_chunks()
            values = torch.from_numpy(np.array(array.flatten().to_numpy(zero_copy_only=False))).view(len(array), -1)
            yield np.flatnonzero(rows["file"] == name), values[torch.tensor(group["row"].tolist(), dtype=torch.long)]

    def read(self, paths: Sequence[str] | None = None, *, tokens: bool = False) -> StoredEncodings:
        """The vectors as tensors, as `encode_images` would have returned them.

        Args:
            paths: of which pictures, as they stand in `rows()["path"]`; None for all.
            tokens: the patch vectors too.

        Returns:
            StoredEncodings: features [N, D] in the store's dtype, in the order of `paths` or of `rows()`.

        Raises:
            ValueError: a path that is not in the store; patch vectors that are not.
        """
        rows = self._pick(self.rows(), paths, "")
        features = self._gather(rows, "vector")
        down, across = (int(n) for n in self.meta["grid"].split("x"))
        grid = (down, across)
        patches = None
        if tokens:
            there = self.extra_rows("tokens", rows)
            if there["file"].isna().any():
                raise ValueError(
                    f"{there['file'].isna().sum()} of {len(rows)} pictures have no patch vectors in {self.folder.name}:"
                    " encode them with tokens=True (--tokens)."
                )
            patches = self._gather(there, "tokens").view(len(rows), grid[0] * grid[1], -1)
        names = image_names(rows["path"].tolist())
        return StoredEncodings(
            features, patches, grid, torch.arange(len(rows)), names, pixels=self.meta["pixels"], meta=self.meta
        )

    def concepts(self, name: str | None = None) -> pd.DataFrame:
        """The scores that patches were reduced to while they were there: float [N, K], in the order of `rows()`.

        Args:
            name: of which reduction, if several are in the store ("name" in the shards' metadata).
        """
        rows = self.rows()
        there = self.extra_rows("concepts", rows, name)
        if there["file"].isna().all():
            raise ValueError(f"{self.folder.name} holds no concept scores. Encode with concepts=… (--concepts).")
        there = there[there["file"].notna()].reset_index(drop=True)
        meta = self._open(self.folder / there["file"].iloc[-1]).schema_arrow.metadata
        phrases = json.loads(meta[b"concepts"])
        index = pd.Index(image_names(there["path"].tolist()), dtype=object, name="image")
        return pd.DataFrame(self._gather(there, "scores").float().numpy(), index=index, columns=phrases)

    def extra_rows(self, kind: str, rows: pd.DataFrame, name: str | None = None) -> pd.DataFrame:
        """Where the tokens or concept scores of `rows` are: path, sha256, file, row; NaN where there are none."""
        parts = [pd.DataFrame(columns=["path", "sha256", "file", "row"])]
        for file in self.shards(kind):
            meta = self._open(file).schema_arrow.metadata
            if name is None or meta.get(b"name", b"").decode() == name:
                part = self._read(file, ["path", "sha256"]).to_pandas()
                parts.append(part.assign(file=file.name, row=np.arange(len(part))))
        found = pd.concat(parts[1:] or parts, ignore_index=True).drop_duplicates(["path", "sha256"], keep="last")
        return rows[["path", "sha256"]].merge(found, on=["path", "sha256"], how="left")

    def to_arrow(self) -> pa.Table:
        """All of the newest rows: path, sha256, size, modified, vector (fixed-size list) and the labels."""
        rows = self.rows()
        tables = [
            self._read(self.folder / str(f)).take(g["row"].to_numpy(np.int64))
            for f, g in rows.groupby("file", sort=False)
        ]
        tables = tables or [pa.table({"path": pa.array([], pa.string())})]
        return pa.concat_tables(tables, promote_options="permissive").replace_schema_metadata(self.meta)

    def to_pandas(self, *, vectors: bool = False) -> pd.DataFrame:
        """The table of the pictures and their labels, in the order of `read()`; with `vectors` the arrays too."""
        table = self.to_arrow()
        return (table if vectors else table.drop_columns("vector")).to_pandas()

    def to_datasets(self) -> Any:
        """The same as a `datasets.Dataset`, which `pip install datasets` brings."""
        import datasets

        return datasets.Dataset(self.to_arrow())

    # --- search ---

    def search(
        self, queries: Any, k: int = 10, *, model: Any = None, processor: Any = None, faiss: bool = False
    ) -> pd.DataFrame:
        """The pictures nearest to each query, by cosine.

        Args:
            queries: prompts (these need `model` and `processor`); or TextEncodings, ImageEncodings, float [Q, D].
            k: how many for each.
            model, processor: those of the store; another model is an error that says which is which.
            faiss: search with faiss in float16 instead of exactly in float32 (`pip install faiss-cpu`).

        Returns:
            DataFrame, k rows a query: query (its text, name or number), rank from 1, cosine, path, and the labels.
        """
        names, vectors = self._queries(queries, model, processor)
        size = len(self) * int(self.meta["width"]) * 4
        state = (tuple(p.name for p in self.shards()), tuple(p.name for p in self.shards("failures")), faiss)
        if self._searched[:1] != (state,):
            features = self.read().features.float() if size <= IN_MEMORY or faiss else None
            index = faiss_index(features) if faiss else features
            self._searched = (state, self.to_pandas(), index)
        _, table, index = self._searched
        if faiss:
            values, found = (torch.from_numpy(x) for x in index.search(vectors.numpy(), min(k, len(table))))
        else:
            values, found = top_k(vectors, [index] if index is not None else (x for _, x in self.batches()), k)
        answer = table.drop(columns=["sha256", "size", "modified"]).iloc[found.flatten().numpy()].reset_index(drop=True)
        per = found.shape[1]
        answer.insert(0, "query", np.repeat(np.array(names, dtype=object), per))
        answer.insert(1, "rank", np.tile(np.arange(1, per + 1), len(names)))
        answer.insert(2, "cosine", values.flatten().numpy())
        return answer

    def _queries(self, queries: Any, model: Any, processor: Any) -> tuple[list[Any], torch.Tensor]:
        if model is not None:
            self.check(model)
        if isinstance(queries, str) or (isinstance(queries, (list, tuple)) and isinstance(queries[0], str)):
            if model is None:
                raise ValueError("Prompts must be encoded first: pass model= and processor= too.")
            queries = encode_texts(model, processor, queries)
        if isinstance(queries, StoredEncodings) and queries.meta["weights_sha256"] != self.meta["weights_sha256"]:
            raise ValueError(
                f"{self.folder.name} holds vectors of {made_by(self.meta)}, the queries of {made_by(queries.meta)}."
            )
        names: list[Any] = list(range(len(queries)))
        if isinstance(queries, TextEncodings):
            names, queries = queries.texts, queries.features
        elif isinstance(queries, ImageEncodings):
            names, queries = queries.names, queries.features
        if queries.ndim != 2 or queries.shape[1] != int(self.meta["width"]):
            raise ValueError(f"queries are {list(queries.shape)}; this store needs [Q, {self.meta['width']}].")
        return names, torch.nn.functional.normalize(queries.float(), dim=-1)

    # --- files ---

    def write(self, kind: str, number: int, table: pa.Table, token: str) -> Path:
        """Write one file of a shard, beside its place and renamed; what cannot be written leaves nothing behind."""
        path = self.folder / f"{kind}-{number:06d}-{token}.parquet"
        with _beside(path) as part:
            pq.write_table(table, part, row_group_size=max(1, len(table)), **_layout(table.schema))
        return path

    def _open(self, file: Path) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(file, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, error) from error

    def _read(self, file: Path, columns: list[str] | None = None) -> pa.Table:
        try:
            return self._open(file).read(columns)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, error) from error

    def _gather(self, rows: pd.DataFrame, column: str) -> torch.Tensor:
        whole = None
        for positions, values in self.batches(rows, column):
            if whole is None:
                whole = torch.empty(len(rows), values.shape[1], dtype=values.dtype)
            whole[torch.from_numpy(positions)] = values
        return torch.empty(0, int(self.meta["width"])) if whole is None else whole

    def _pick(self, rows: pd.DataFrame, paths: Sequence[str] | None, why: str) -> pd.DataFrame:
        if paths is None:
            return rows
        wanted = [str(path) for path in paths]
        positions = pd.Index(rows["path"]).get_indexer(wanted)
        if (positions < 0).any():
            missing = wanted[int((positions < 0).argmax())]
            raise ValueError(f"{Path(missing).name} is not in {self.folder.name}. Encode it first.{why}")
        return rows.iloc[positions].reset_index(drop=True)


class ShardWriter:
    """One shard in the making; `with` writes it when all went well, and leaves nothing otherwise.

    Args:
        store: where.
        number: of the shard; a run gives each number once.
        meta: `provenance`.
        tokens: whether patch vectors are kept.
        concepts: (name, phrases) of the scores that are kept, or None.
        labels: a schema of the label columns, or None.
    """

    def __init__(
        self,
        store: Store,
        number: int,
        meta: dict[str, str],
        *,
        tokens: bool = False,
        concepts: tuple[str, list[str]] | None = None,
        labels: pa.Schema | None = None,
    ) -> None:
        self.store, self.number, self.meta, self.concepts = store, number, meta, concepts
        self.labels = labels or pa.schema([])
        self.keep_tokens, self.token = tokens, secrets.token_hex(4)
        self.rows: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        self.parts: dict[str, list[torch.Tensor]] = {"vector": [], "tokens": [], "scores": []}

    def add(
        self,
        rows: list[dict[str, Any]],
        features: torch.Tensor,
        tokens: torch.Tensor | None = None,
        scores: torch.Tensor | None = None,
    ) -> None:
        """Rows of path, sha256, size, modified and labels; as many vectors [n, D], tokens [n, P, D], scores [n, K]."""
        for name, values in (("vector", features), ("tokens", tokens), ("scores", scores)):
            if values is None:
                continue
            if len(values) != len(rows):
                raise ValueError(f"{len(values)} {name} for {len(rows)} pictures.")
            values = values.detach().to(
                "cpu", torch.float32 if name == "scores" else getattr(torch, self.meta["dtype"])
            )
            bad = (~values.flatten(1).isfinite()).any(1).nonzero().flatten().tolist()
            if bad:
                raise ValueError(
                    f"{Path(rows[bad[0]]['path']).name}: its {name} hold NaN, or values too large for "
                    f"{self.meta['dtype']}. Encode in float32 (dtype, and the model's)."
                )
            self.parts[name].append(values.flatten(1))
        self.rows += rows

    def fail(self, path: str, sha256: str | None, problem: str) -> None:
        self.failed.append({"path": path, "sha256": sha256, "problem": problem})

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.close()

    def close(self) -> None:
        """Write the files of the shard, the vectors last."""
        if self.failed:
            schema = pa.schema([(name, pa.string()) for name in ("path", "sha256", "problem")], self.meta)
            self._write("failures", pa.Table.from_pylist(self.failed, schema))
        if not self.rows:
            return
        if self.keep_tokens:
            self._write("tokens", self._table(["path", "sha256"], "tokens"))
        if self.concepts:
            name, phrases = self.concepts
            self._write("concepts", self._table(["path", "sha256"], "scores"), name=name, concepts=json.dumps(phrases))
        self._write("vectors", self._table(list(KEYS), "vector", self.labels))

    def _table(self, keys: list[str], values: str, labels: pa.Schema | None = None) -> pa.Table:
        kinds = {"size": pa.int64(), "modified": pa.int64()}
        schema = pa.schema([(key, kinds.get(key, pa.string())) for key in keys])
        table = pa.Table.from_pylist([{key: row[key] for key in keys} for row in self.rows], schema)
        whole = torch.cat(self.parts[values]).numpy()
        flat = pa.FixedSizeListArray.from_arrays(pa.array(whole.ravel()), whole.shape[1])
        table = table.append_column(values, flat)
        for label in labels or ():
            column = pa.array([row.get(label.name) for row in self.rows], label.type, from_pandas=True)
            table = table.append_column(label, column)
        return table

    def _write(self, kind: str, table: pa.Table, **more: str) -> None:
        self.store.write(kind, self.number, table.replace_schema_metadata(self.meta | more), self.token)


# --- small things -----------------------------------------------------------------------------------------------------


def _number(path: Path) -> int:
    return int(path.name.split("-")[1])


def _layout(schema: pa.Schema) -> dict[str, Any]:
    """Vectors repeat no value: a dictionary costs thrice the time. Split by byte they shrink by a seventh."""
    lists = [f"{f.name}.list.element" for f in schema if pa.types.is_fixed_size_list(f.type)]
    plain = [f.name for f in schema if not pa.types.is_fixed_size_list(f.type)]
    return {
        "compression": "zstd",
        "use_dictionary": plain,
        "write_statistics": plain,
        "use_byte_stream_split": lists,
        "write_page_checksum": True,
    }


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name to write to; then flushed to the disk and renamed to `path`, or removed."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        said = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the quota is used up",
            errno.EFBIG: "files may not be larger",
        }
        raise OSError(
            error.errno,
            f"{path.name} could not be written: {said.get(error.errno or 0, error.strerror or error)}. The shards "
            "before it are whole. Make room, and run the same command again: it goes on where this one stopped",
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _told(action: Any, name: str) -> None:
    """Run `action`; an OSError says which store could not be written to."""
    try:
        action()
    except Timeout:
        raise
    except OSError as error:
        raise OSError(
            error.errno, f"{name} cannot be written to ({error.strerror}). Choose a folder that is yours to write"
        ) from error


def _damaged(file: Path, error: Exception) -> Exception:
    if isinstance(error, PermissionError):
        return PermissionError(error.errno, f"{file.name} may not be read. Ask its owner")
    return ValueError(
        f"{file.name} is damaged ({str(error).splitlines()[0][:120]}). Restore it from a copy; or delete it and run "
        "the same command again: its pictures are then encoded anew."
    )
