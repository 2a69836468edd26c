"""Many pictures into a store: `python -m helpers.encode FOLDER --out STORE`, or `into_store` from Python.

The shard is the unit of work and of resuming. `plan` cuts what is to do into tasks of one shard each, an `Encoder` does
one of them on any machine that sees the same files, and an engine (`engines`) only decides where. None is needed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import torch

from helpers.conceptclip.image_processing_conceptclip import checked_window
from helpers.encode.sources import Item, Stamp, list_items, read, stamp_of, unchanged
from helpers.encoding import check_options, check_whole, image_to_pixels, iter_image_encodings, joint_tokens
from helpers.labels import class_names
from helpers.scoring import local_scores
from helpers.store import KEYS, ROWS, ShardWriter, Store, provenance
from helpers.tokens import concept_vectors

__all__ = ["Encoder", "Item", "Options", "Summary", "Task", "into_store", "list_items", "plan", "what_is_kept"]

READERS = 8
"""Threads that read and hash files ahead of the model."""
AHEAD = 256
"""Pictures read at a time: at most twice as many are in memory, however slow the model is."""
TOKEN_BYTES = 2**28
"""Bytes of patch vectors in one shard, so that a worker can hold them."""


@dataclass(frozen=True)
class Options:
    """How pictures are encoded; the same for every shard of a run.

    Attributes:
        batch_size: pictures the model gets at a time.
        tokens: keep the projected patch vectors, in shards of their own.
        concepts: phrases; the patches are reduced to one cosine for each of them, and dropped.
        recipe: of that reduction, as in `scoring.local_scores`.
        pixels: "exact" or "fast", as in `encode_images`.
        dtype: "float16" or "float32", of what is stored.
        window: (low, high) for pictures of 16 bits and DICOM files; by default a DICOM file's own.
    """

    batch_size: int = 32
    tokens: bool = False
    concepts: tuple[str, ...] = ()
    recipe: str = "training"
    pixels: str = "exact"
    dtype: str = "float16"
    window: tuple[float, float] | None = None

    def provenance(self, model: Any, processor: Any) -> dict[str, str]:
        """What the shards of a run with these options say of themselves: `store.provenance` and the window."""
        window = json.dumps(self.window) if self.window else ""
        return provenance(model, processor, pixels=self.pixels, dtype=self.dtype) | {"window": window}

    def __post_init__(self) -> None:
        concepts = (self.concepts,) if isinstance(self.concepts, str) else tuple(self.concepts)
        if concepts:  # two columns of one name would not be told apart in the store
            concepts = tuple(class_names(concepts, what="concepts"))
        object.__setattr__(self, "concepts", concepts)
        object.__setattr__(self, "window", checked_window(self.window))
        check_options(self.batch_size)

    @property
    def reduction(self) -> str:
        """What the concept scores of these options are called in the store."""
        return f"{self.recipe}: {', '.join(self.concepts)}" if self.concepts else ""


@dataclass(frozen=True)
class Task:
    """One shard to make.

    Attributes:
        number: of the shard.
        items: the pictures to encode.
        relabel: pictures whose vectors are there and whose labels are new.
        labels: the label columns, the same in every task of a run.
    """

    number: int
    items: tuple[Item, ...]
    relabel: tuple[Item, ...] = ()
    labels: pa.Schema = field(default_factory=lambda: pa.schema([]))


@dataclass
class Summary:
    """What a run did, in pictures.

    Attributes:
        encoded, failed: now.
        skipped: there already, unchanged.
        relabelled: there already; their new labels were written, their vectors copied.
        shards: written now.
        seconds: by the clock.
    """

    encoded: int = 0
    failed: int = 0
    skipped: int = 0
    relabelled: int = 0
    shards: int = 0
    seconds: float = field(default=0.0, compare=False)

    def __str__(self) -> str:
        told = [f"{self.encoded} encoded", f"{self.skipped} there already", f"{self.failed} failed"]
        return ", ".join(told + ([f"{self.relabelled} relabelled"] if self.relabelled else []))


def into_store(
    model: Any,
    processor: Any,
    source: Any,
    store: Store | str | Path,
    *,
    options: Options | None = None,
    rows: int = ROWS,
    check: str = "hash",
    progress: bool = False,
    reduce: Callable[[Any], torch.Tensor] | None = None,
    on_shard: Callable[[Task, Summary], None] | None = None,
) -> Summary:
    """Encode pictures into a store on this machine; what is there already is skipped.

    Args:
        model, processor: from `helpers.load`.
        source: as in `list_items`: a folder, a file, a table, an address, or a list of paths.
        store: a `Store`, or the folder of one, which may be new.
        options: how.
        rows: pictures in a shard: what a killed run has to do again.
        check: how a picture that is in the store is compared with its file: "hash" reads the file, "time" compares size
            and time of change only (remote objects and slides are always compared so).
        progress: show a bar.
        reduce: instead of `options.concepts`' own reduction: ImageEncodings with tokens -> float [n, K], one column for
            each of `options.concepts`, which are then only their names.
        on_shard: called after each shard.

    Returns:
        Summary. The failures are in the store: `store.failures()`.

    Raises:
        ValueError: no pictures; a store of another model; a damaged shard.
        RuntimeError: another run is writing into this store.
        OSError: the disk is full, or the store is not yours to write. The shards before that are whole.
    """
    options = options or Options()
    started = time.monotonic()
    store = store if isinstance(store, Store) else Store(store, create=True)
    meta = options.provenance(model, processor)
    encode = Encoder(model, processor, store, meta, options, reduce)
    with store.writing():
        tasks, total = plan(list_items(source), store, meta, options, rows=rows, check=check)
        with _bar(sum(len(t.items) for t in tasks), progress) as advance:
            for task in tasks:
                done = encode(task, advance)
                add(total, done)
                if on_shard:
                    on_shard(task, done)
    total.seconds = time.monotonic() - started
    return total


def plan(
    items: Sequence[Item],
    store: Store,
    meta: dict[str, str],
    options: Options,
    *,
    rows: int = ROWS,
    check: str = "hash",
) -> tuple[list[Task], Summary]:
    """What is left to do, in tasks of one shard each; and a Summary that counts what is skipped.

    A picture is done when its newest row has its hash and, if these are asked for, its patch vectors and concept
    scores. One that failed is tried again.
    """
    if check not in ("hash", "time"):
        raise ValueError(f"check must be 'hash' or 'time', not {check!r}.")
    check_whole(rows, "rows")
    store.check_meta(meta, "this run")
    labels = _labels(items, store)
    rows_done = store.rows()
    for kind, asked in (("tokens", options.tokens), ("concepts", bool(options.concepts))):
        if asked and len(rows_done):
            there = store.extra_rows(kind, rows_done, options.reduction if kind == "concepts" else None)
            rows_done = rows_done[there["file"].notna().to_numpy()].reset_index(drop=True)
    done = dict(zip(rows_done["path"], rows_done[list(KEYS[1:])].itertuples(index=False, name=None), strict=True))
    old: dict[str, dict[str, Any]] = {}
    if len(labels) and done:
        stored = store.to_pandas()
        old = stored.reindex(columns=labels.names).astype(object).set_axis(stored["path"]).to_dict("index")

    def left(item: Item) -> str:
        if item.path not in done:
            return "encode"
        sha256, *stat = done[item.path]
        try:
            now = _stat(item) if check == "time" or item.kind in ("url", "member", "tile") else None
            same = list(now) == stat if now else stamp_of(item).sha256 == sha256
        except (OSError, ValueError):  # it cannot be read: the encoder will say so
            same = False
        if not same:
            return "encode"
        return "relabel" if any(not _same(old[item.path][k], v) for k, v in item.labels.items()) else "skip"

    with ThreadPoolExecutor(READERS) as pool:
        verdicts = list(pool.map(left, items))
    todo = [item for item, verdict in zip(items, verdicts, strict=True) if verdict == "encode"]
    relabel = [item for item, verdict in zip(items, verdicts, strict=True) if verdict == "relabel"]
    if options.tokens:
        high, wide = (int(n) for n in meta["grid"].split("x"))
        per_picture = high * wide * int(meta["width"]) * (2 if options.dtype == "float16" else 4)
        rows = max(1, min(rows, TOKEN_BYTES // per_picture))
    number = store.next_number()
    tasks = [
        Task(number + k, tuple(todo[at : at + rows]), (), labels) for k, at in enumerate(range(0, len(todo), rows))
    ]
    number += len(tasks)
    for k, at in enumerate(range(0, len(relabel), ROWS)):
        tasks.append(Task(number + k, (), tuple(relabel[at : at + ROWS]), labels))
    return tasks, Summary(skipped=verdicts.count("skip"))


class Encoder:
    """A model that makes shards: what one worker holds, on one device.

    Args:
        model, processor: from `helpers.load`.
        store: where the shards go.
        meta: `store.provenance` of the run.
        options: how.
        reduce: as in `into_store`.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        store: Store,
        meta: dict[str, str],
        options: Options,
        reduce: Callable[[Any], torch.Tensor] | None = None,
    ) -> None:
        self.model, self.processor, self.store, self.meta, self.options = model, processor, store, meta, options
        self.reduce = reduce
        if options.concepts and reduce is None:
            vectors = concept_vectors(model, processor, list(options.concepts))
            self.reduce = lambda part: local_scores(joint_tokens(part), vectors, recipe=options.recipe)

    def __call__(self, task: Task, advance: Callable[[int], object] = lambda n: None) -> Summary:
        """Make the shard of a task. Whatever happens, it is there as a whole or not at all."""
        options = self.options
        concepts = (options.reduction, list(options.concepts)) if options.concepts else None
        if task.relabel:
            with ShardWriter(self.store, task.number, self.meta, labels=task.labels) as writer:
                self._relabel(writer, task.relabel)
            return Summary(relabelled=len(writer.rows), shards=1)
        keep: dict[str, Any] = {"tokens": options.tokens, "concepts": concepts, "labels": task.labels}
        with ShardWriter(self.store, task.number, self.meta, **keep) as writer:
            for group in _read_ahead(task.items, options.window):
                self._encode(writer, group, advance)
        return Summary(encoded=len(writer.rows), failed=len(writer.failed), shards=1)

    def _encode(self, writer: ShardWriter, group: list[Read], advance: Callable[[int], object]) -> None:
        for one in group:
            if one.problem:
                writer.fail(one.item.path, one.sha256, one.problem)
        advance(sum(bool(one.problem) for one in group))
        windowed = [one for one in group if not one.problem and one.item.kind == "dicom"]  # when they were read
        others = [one for one in group if not one.problem and one.item.kind != "dicom"]
        for good, window in ((windowed, None), (others, self.options.window)):
            if good:
                self._run(writer, good, window, advance)

    def _run(
        self,
        writer: ShardWriter,
        good: list[Read],
        window: tuple[float, float] | None,
        advance: Callable[[int], object],
    ) -> None:
        options, met = self.options, 0
        more: dict[str, Any] = {} if options.pixels == "exact" else {"pixels": options.pixels}
        try:
            for part in iter_image_encodings(
                self.model,
                self.processor,
                [one.image for one in good],
                batch_size=options.batch_size,
                tokens=options.tokens or bool(options.concepts),
                window=window,
                on_error="report",
                **more,
            ):
                self._add(writer, good, part)
                met += len(part) + len(part.failures)
                advance(len(part) + len(part.failures))
        except ValueError:  # of the iterator when no picture at all could be read; or a fault of the model
            problems = [self._problem(one, window) for one in good]
            if not all(problems):
                raise
            for one, problem in zip(good[met:], problems[met:], strict=True):
                writer.fail(one.item.path, one.sha256, problem)
            advance(len(good) - met)

    def _add(self, writer: ShardWriter, good: list[Read], part: Any) -> None:
        for row in part.failures.itertuples():
            one = good[row.item]
            writer.fail(one.item.path, one.sha256, row.problem)
        ones = [good[k] for k in part.index.tolist()]
        kept = [k for k, one in enumerate(ones) if unchanged(one.item, one.stamp)]
        for one in (one for k, one in enumerate(ones) if k not in set(kept)):
            name = one.item.path.rpartition("/")[2]
            problem = f"{name}: the file changed or went away while it was read. Run again when it stays as it is."
            writer.fail(one.item.path, None, problem)
        if not kept:
            return
        rows = [
            {**one.item.labels, **dict(zip(KEYS, (one.item.path, *vars(one.stamp).values()), strict=True))}
            for one in (ones[k] for k in kept)
        ]
        tokens = part.tokens[kept] if self.options.tokens else None
        scores = None
        if self.options.concepts and self.reduce is not None:
            scores = torch.as_tensor(self.reduce(part))
            if scores.shape != (len(part), len(self.options.concepts)):
                raise ValueError(
                    f"reduce gave the shape {tuple(scores.shape)} for {len(part)} pictures and "
                    f"{len(self.options.concepts)} concepts: it must be a row a picture, a column a concept."
                )
            scores = scores[kept]
        writer.add(rows, part.features[kept], tokens, scores)

    def _problem(self, one: Read, window: tuple[float, float] | None) -> str:
        """What is wrong with a picture by itself; "" if nothing is."""
        try:
            image_to_pixels(self.processor, one.image, one.item.path.rpartition("/")[2], window)
        except ValueError as error:
            return str(error)
        return ""

    def _relabel(self, writer: ShardWriter, items: tuple[Item, ...]) -> None:
        rows = self.store.rows().set_index("path").loc[[item.path for item in items]].reset_index()
        features = self.store.read([item.path for item in items]).features
        keys = rows[list(KEYS)].to_dict("records")
        writer.add([{**item.labels, **key} for item, key in zip(items, keys, strict=True)], features)


@dataclass
class Read:
    """A picture on its way: opened, or with what is wrong with it."""

    item: Item
    image: Any = None
    stamp: Stamp | None = None
    problem: str = ""

    @property
    def sha256(self) -> str | None:
        return self.stamp.sha256 if self.stamp else None


def _read(item: Item, window: tuple[float, float] | None) -> Read:
    try:
        image, stamp = read(item, window)
    except ValueError as error:
        try:
            stamp = stamp_of(item)
        except (OSError, ValueError):
            return Read(item, problem=str(error))
        return Read(item, stamp=stamp, problem=str(error))
    return Read(item, image, stamp)


def _read_ahead(items: Sequence[Item], window: tuple[float, float] | None) -> Iterator[list[Read]]:
    """Pictures in groups, the next one being read while this one is encoded, and no further."""
    pool = ThreadPoolExecutor(READERS)
    try:
        ahead: list[Future[Read]] = []
        for start in range(0, len(items), AHEAD):
            coming = [pool.submit(_read, item, window) for item in items[start : start + AHEAD]]
            if ahead:
                yield [one.result() for one in ahead]
            ahead = coming
        if ahead:
            yield [one.result() for one in ahead]
    finally:
        pool.shutdown(cancel_futures=True)


def add(total: Summary, done: Summary) -> None:
    """Count what one shard did."""
    for name in ("encoded", "failed", "skipped", "relabelled", "shards"):
        setattr(total, name, getattr(total, name) + getattr(done, name))


def what_is_kept(store: Store | str | Path) -> str:
    """For whoever was interrupted: what the store holds, and how to go on."""
    try:
        there = store if isinstance(store, Store) else Store(store, create=True)
        holds = f"the store holds {len(there):,} picture{'s' * (len(there) != 1)}, in whole shards"
    except (ValueError, OSError):  # nothing may hide the error that is being told
        holds = "the shards that are written are whole"
    return f"Nothing is lost: {holds}. For the rest, run the same command again: it goes on where this one stopped."


def _labels(items: Sequence[Item], store: Store) -> pa.Schema:
    """The label columns and their types, from all values; a column without any is text."""
    names = dict.fromkeys(name for item in items for name in item.labels)
    fields = []
    for name in names:
        if name in (*KEYS, "vector"):
            raise ValueError(f"A label cannot be called {name!r}: the store has a column of that name. Rename it.")
        try:
            kind = pa.array([item.labels.get(name) for item in items], from_pandas=True).type
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ValueError(
                f"The labels {name!r} are of several kinds ({error}). Make them all text or numbers."
            ) from error
        fields.append(pa.field(name, pa.string() if pa.types.is_null(kind) else kind))
    schema = pa.schema(fields)
    try:
        pa.unify_schemas([*store.schemas(), schema], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"The labels do not fit those in {store.folder.name} ({error}). Use the same kind.") from error
    return schema


def _same(old: Any, new: Any) -> bool:
    return (pd.isna(old) and pd.isna(new)) or bool(old == new)


def _stat(item: Item) -> tuple[int, int] | None:
    """(size, time of change in ns) of a picture now; None where they are not known."""
    if item.kind in ("file", "dicom") and "://" not in item.at:
        stat = Path(item.at).stat()
        return stat.st_size, stat.st_mtime_ns
    return (item.size, item.modified) if item.modified else None


class _bar:
    """A bar of pictures, or nothing."""

    def __init__(self, total: int, shown: bool) -> None:
        self.total, self.shown = total, shown
        self.bar: Any = None

    def __enter__(self) -> Callable[[int], object]:
        if not self.shown:
            return lambda n: None
        from tqdm.auto import tqdm

        self.bar = tqdm(total=self.total, desc="encoding", unit="images")
        return self.bar.update

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.close()
