"""Render the training pictures once, into shards on disk that training maps into memory.

    python -m recipes.render_training --out build/training --pictures 40000

Shards that exist are kept, so an interrupted run goes on where it stopped. Picture number i depends on i alone.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from helpers.bloodcells import PARTS, Cell, render, sample_cell

SIZE = 224
MASK_SIZE = 56
"""Masks are kept as the share of each part in cells of 4 × 4 pixels: enough to know what a crop shows."""

PER_SHARD = 500
TRAINING_SEED = 1_000_000
"""Seeds of training pictures start here; evaluation and the atlas start at other millions: none is ever shared."""

DESIGNS = ("balanced", "decorrelated", None)
DESIGN_SHARES = (0.38, 0.56, 0.06)


def training_scene(number: int) -> tuple[Cell | None, int]:
    """The cell (None: a field without one) and the render seed of training picture ``number``."""
    seed = TRAINING_SEED + number
    rng = np.random.default_rng(seed)
    design = DESIGNS[rng.choice(len(DESIGNS), p=DESIGN_SHARES)]
    return (None if design is None else sample_cell(rng, design=design)), seed


def _render_shard(out: Path, shard: int) -> int:
    images = np.empty((PER_SHARD, SIZE, SIZE, 3), np.uint8)
    masks = np.empty((PER_SHARD, len(PARTS), MASK_SIZE, MASK_SIZE), np.uint8)
    rows = []
    block = SIZE // MASK_SIZE
    for i in range(PER_SHARD):
        cell, seed = training_scene(shard * PER_SHARD + i)
        picture = render(cell, seed, SIZE)
        images[i] = np.asarray(picture.image)
        stack = np.stack([picture.masks[part] for part in PARTS])
        masks[i] = stack.reshape(len(PARTS), MASK_SIZE, block, MASK_SIZE, block).mean((2, 4)) * 255
        rows.append({"cell": None if cell is None else asdict(cell), "visible": picture.visible})
    for name, array in (("masks", masks), ("images", images)):
        # Beside, then renamed: the images come last, so a shard that has them is complete.
        unfinished = out / f"{name}-{shard:04d}.tmp.npy"
        if name == "images":
            (out / f"cells-{shard:04d}.json").write_text(json.dumps(rows), "utf-8")
        np.save(unfinished, array)
        unfinished.replace(out / f"{name}-{shard:04d}.npy")
    return shard


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/training"))
    parser.add_argument("--pictures", type=int, default=40_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    shards = range(-(-options.pictures // PER_SHARD))
    missing = [shard for shard in shards if not (options.out / f"images-{shard:04d}.npy").exists()]
    with ProcessPoolExecutor(options.processes) as pool:
        jobs = [pool.submit(_render_shard, options.out, shard) for shard in missing]
        for job in tqdm(jobs, desc="shards", initial=0):
            job.result()


if __name__ == "__main__":
    main()
