"""Encode pictures into a store, from a terminal.

    python -m helpers.encode photos --out store
    python -m helpers.encode labels.csv --out store --concepts "segmented nucleus" "cytoplasmic vacuoles"
    python -m helpers.encode s3://bucket/tiles --out store --engine daft --workers 8 --address ray://head:10001

The same command again goes on where the last one stopped.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

import torch
from tqdm.auto import tqdm

from helpers.encode import Encoder, Options, Summary, add, list_items, plan, what_is_kept
from helpers.encode.engines import ENGINES, Recipe, run_daft
from helpers.encode.sources import TILE
from helpers.loading import MODEL_ID, MODEL_VARIABLE, load
from helpers.scoring import RECIPES
from helpers.settings import quiet
from helpers.store import ROWS, Store

AGAIN = "run the same command again"


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    said = argparse.ArgumentParser("python -m helpers.encode", description=(__doc__ or "").split("\n\n")[0])
    said.add_argument(
        "source", nargs="+", help="folders, pictures, tars, DICOM files, slides, lists (.txt), tables, addresses"
    )
    said.add_argument("--out", required=True, help="the store, a folder; new, or one to go on with")
    said.add_argument("--model", help=f"folder or hub id; by default {MODEL_VARIABLE}, else the model that ships")
    said.add_argument("--revision", help="of a hub id")
    said.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, mps")
    said.add_argument("--model-dtype", default="auto", help="that the model runs in, as helpers.load takes it")
    said.add_argument("--dtype", default="float16", choices=("float16", "float32"), help="of the stored vectors")
    said.add_argument("--pixels", default="exact", choices=("exact", "fast"), help="as helpers.encode_images takes it")
    said.add_argument("--tokens", action="store_true", help="store the patch vectors too")
    said.add_argument(
        "--concepts", nargs="+", default=[], metavar="PHRASE", help="reduce the patches to a score for each"
    )
    said.add_argument("--recipe", default="training", choices=RECIPES, help="of that reduction")
    said.add_argument(
        "--window", nargs=2, type=float, metavar=("LOW", "HIGH"), help="black and white of 16-bit pictures"
    )
    said.add_argument("--batch-size", type=_count, default=32, help="pictures the model gets at a time")
    said.add_argument("--rows", type=_count, default=ROWS, help="pictures in a shard")
    said.add_argument(
        "--check", default="hash", choices=("hash", "time"), help="how a file is compared with what is there"
    )
    said.add_argument("--root", help="store paths relative to this folder")
    said.add_argument("--tile", type=_count, default=TILE, help="side of a slide's tiles in pixels")
    said.add_argument("--engine", choices=ENGINES, help="more than one worker")
    said.add_argument("--address", help="of a Ray cluster for the engine, ray://host:10001; local starts one here")
    said.add_argument("--workers", type=_count, help="of the engine; by default one for each GPU here, else two")
    said.add_argument("--gpus", type=float, help="of each of these workers; by default 1 if there is one here, else 0")
    said.add_argument("--quiet", action="store_true", help="no bar")
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when all went well, 3 when some pictures failed."""
    asked = parser().parse_args(arguments)
    if not asked.engine and (asked.address or asked.workers or asked.gpus is not None):
        parser().error("--address, --workers and --gpus are of an engine: add --engine daft.")
    absent = [source for source in asked.source if "://" not in source and not Path(source).exists()]
    if absent:
        raise ValueError(f"{absent[0]}: no such file or folder. Check the path.")
    quiet()
    options = Options(
        batch_size=asked.batch_size,
        tokens=asked.tokens,
        concepts=tuple(asked.concepts),
        recipe=asked.recipe,
        pixels=asked.pixels,
        dtype=asked.dtype,
        window=tuple(asked.window) if asked.window else None,
    )
    started, total = time.monotonic(), Summary()
    store = Store(asked.out, create=True)
    with store.writing():
        items = list_items(asked.source if len(asked.source) > 1 else asked.source[0], root=asked.root, tile=asked.tile)
        # With an engine it is the workers' model that runs; here it only says what the store will hold.
        device = "cpu" if asked.engine else asked.device
        model, processor = load(asked.model, device=device, dtype=asked.model_dtype, revision=asked.revision)
        meta = options.provenance(model, processor)
        tasks, total = plan(items, store, meta, options, rows=asked.rows, check=asked.check)
        count = sum(len(task.items) for task in tasks)
        with tqdm(total=count, desc="encoding", unit="images", disable=asked.quiet) as bar:
            results: Generator[Summary, None, None]
            if asked.engine:
                here = torch.cuda.device_count()
                gpus = min(here, 1) if asked.gpus is None else asked.gpus
                recipe = Recipe(
                    model=model.name_or_path or MODEL_ID,
                    revision=asked.revision,
                    device=asked.device,
                    model_dtype=asked.model_dtype,
                    store=str(Path(asked.out).absolute()),
                    meta=meta,
                    options=options,
                    threads=0 if gpus else 1,
                )
                workers = asked.workers or max(here, 2)
                results = run_daft(tasks, recipe, workers=workers, gpus=gpus, address=asked.address)
            else:
                encode = Encoder(model, processor, store, meta, options)
                results = (encode(task, bar.update) for task in tasks)
            try:
                with closing(results):  # an engine's workers are gone before the store is given free
                    for done in results if tasks else ():
                        add(total, done)
                        if asked.engine:
                            bar.update(done.encoded + done.failed)
            except BaseException as error:
                if AGAIN not in str(error):
                    error.add_note(what_is_kept(store))
                raise
    total.seconds = time.monotonic() - started
    now, shards = total.encoded + total.failed, f"{total.shards} shard{'s' * (total.shards != 1)}"
    print(f"{total}: {shards} in {total.seconds:.1f} s, {now / total.seconds:.1f} images/s")
    failures = store.failures()
    for row in failures.head(5).itertuples():
        print(f"  failed: {row.problem}")
    if len(failures):
        print(f"All that failed, {len(failures)}: helpers.store.Store({Path(asked.out).name!r}).failures()")
    return 3 if total.failed else 0


def command(arguments: Sequence[str] | None = None) -> int:
    """`main`, with words for whatever stops it: what is kept, and how to go on."""
    try:
        return main(arguments)
    except KeyboardInterrupt:
        print(f"encode: stopped. The shards that are written are whole: {AGAIN}, and it goes on.", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError, ImportError) as problem:
        said = problem.strerror if isinstance(problem, OSError) and problem.filename is None else None  # not its number
        print(f"encode: {said or problem}", *getattr(problem, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    except SystemExit:  # argparse has said why
        raise
    except BaseException:  # a fault of ours, too little memory, a panic of Rust code: where it was; its notes are shown
        traceback.print_exc()
        return 1


if __name__ == "__main__":
    sys.exit(command())
