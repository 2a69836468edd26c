"""Shards on many workers, by an engine that exists: Daft, on this machine or on a Ray cluster. Optional.

Why Daft: it keeps one model a worker (`@daft.cls`), takes the next shard when a worker is free, and the same code runs
on Ray by one setting. All machines must see the pictures and the store under the same paths, and have this package.

The engine runs in a process of its own. Ray ends the process that called it, without an exception, when its local
server has died; the command then still says what is written and how to go on.

Both engines report their use to their makers unless told not to. They are told not to, before they are imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass

from helpers.encode import Encoder, Options, Summary, Task, what_is_kept
from helpers.loading import load
from helpers.processes import Ended, Told, apart
from helpers.store import Store, check_model

ENGINES = ("daft",)
SILENT = {
    "DO_NOT_TRACK": "1",
    "DAFT_ANALYTICS_ENABLED": "0",
    "SCARF_NO_ANALYTICS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
}
"""What the engines read to learn that they must not report."""


@dataclass(frozen=True)
class Recipe:
    """How a worker makes its encoder: what is sent to it instead of a model.

    Attributes:
        model: folder or hub id, for `helpers.load`.
        revision, device, model_dtype: as there.
        store: folder of the store.
        meta: provenance of the run; a worker that loads other weights stops.
        options: how pictures are encoded.
        threads: that torch may use in one worker; 0 leaves it as it is.
    """

    model: str
    revision: str | None
    device: str
    model_dtype: str
    store: str
    meta: dict[str, str]
    options: Options
    threads: int = 0

    def make(self) -> Encoder:
        import torch

        if self.threads:
            torch.set_num_threads(self.threads)
        model, processor = load(self.model, device=self.device, dtype=self.model_dtype, revision=self.revision)
        check_model(self.meta, model, "The run's store")
        meta = self.meta | {"model_dtype": str(model.dtype).removeprefix("torch.")}  # a GPU may run it in another
        return Encoder(model, processor, Store(self.store, create=True), meta, self.options)


class Worker:
    """One model, on one device, that makes one shard after the other."""

    def __init__(self, recipe: bytes) -> None:
        self.encoder = pickle.loads(recipe).make()

    def shard(self, task: bytes) -> str:
        """A pickled `Task` in, a `Summary` as JSON out; the shard itself is written from here."""
        return json.dumps(asdict(self.encoder(pickle.loads(task))))


def silence() -> None:
    """Turn the engines' usage reports off, for this process and for those that it starts."""
    os.environ.update(SILENT)


def run_daft(
    tasks: Sequence[Task], recipe: Recipe, *, workers: int, gpus: float = 0, address: str | None = None
) -> Generator[Summary, None, None]:
    """Make the shards on `workers` workers, and tell of each when it is written.

    Args:
        tasks: from `plan`. Fewer than workers leave some without work: make the shards smaller.
        recipe: how a worker makes its encoder.
        workers: how many; each holds one model.
        gpus: of each worker; 0 for processors.
        address: None for this machine alone; "local" for a Ray that is started here; "ray://host:10001" or
            "host:6379" for a cluster.

    Raises:
        ImportError: Daft, or Ray for an address, is not installed.
        RuntimeError: a worker or the engine died, or a shard could not be made. What is written is whole: run again.
    """
    silence()
    for needed in ("daft",) if address is None else ("daft", "ray"):
        if importlib.util.find_spec(needed) is None:
            raise ImportError(
                f"{needed.title()} is not installed: pip install 'conceptclip-notebooks[scale]', or take no --engine."
            )
    done = 0
    try:
        for made in apart(_daft, [pickle.dumps(t) for t in tasks], pickle.dumps(recipe), workers, gpus, address):
            done += 1
            yield Summary(**json.loads(made))
    except Ended as error:
        said = str(error).rstrip(".")
        raise RuntimeError(
            f"The engine stopped after {done} of {len(tasks)} shards ({said}). {what_is_kept(recipe.store)}"
        ) from error


def _daft(tasks: list[bytes], recipe: bytes, workers: int, gpus: float, address: str | None) -> Iterator[str]:
    """The part of `run_daft` that is in the engine's own process."""
    import daft

    if address is not None:
        _start_ray(address)
        daft.set_runner_ray(None if address == "local" else address, noop_if_initialized=True)
    else:
        daft.set_runner_native()
    # A worker of its own for each: two models in one process would share one interpreter.
    made = daft.cls(Worker, gpus=gpus, max_concurrency=workers, use_process=True)
    maker = made(recipe)
    frame = daft.from_pydict({"task": tasks})
    frame = frame.into_partitions(len(tasks)) if address is not None else frame.into_batches(1)
    for row in frame.select(maker.shard(frame["task"]).alias("done")).iter_rows(results_buffer_size=workers):
        yield row["done"]


def _start_ray(address: str) -> None:
    """Ray without its usage report; its workers at the usual priority, not at nice 15 as by default.

    While it starts, Ray asks 169.254.169.254 and metadata.google.internal whether this machine is a cloud's. Ray has no
    switch for that; nothing goes to its makers.
    """
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    if not ray.is_initialized():
        runtime = {"env_vars": SILENT}
        where = {"include_dashboard": False} if address == "local" else {"address": address}
        try:
            ray.init(runtime_env=runtime, log_to_driver=False, logging_level="error", **where)
        except Exception as error:  # a plain Exception where a node does not come up in time
            raise Told(
                f"Ray did not start or could not be reached ({str(error).splitlines()[0]}). Try again when the machine "
                "is less busy, or look at the address; without --address Daft needs no Ray."
            ) from error
