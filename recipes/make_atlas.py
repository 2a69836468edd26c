"""Render the atlas: a few hundred cells with their truth, the same bytes every time.

python -m recipes.make_atlas            # write data/atlas
python -m recipes.make_atlas --check    # render again and compare with what is there, file by file
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from helpers.bloodcells import CELL_TYPES, PARTS, caption, part_shares, render, sample_cell, truth

SIZE = 224
ATLAS_SEED = 5_000_000
"""Seeds of the atlas start here: no training picture shares one."""

PER_TYPE = 32
DECORRELATED = 140


def scenes() -> list[tuple[str, str | None]]:
    """(design, cell type) of every cell: the types in turn, then cells whose attributes vary freely."""
    return [("balanced", cell_type) for _ in range(PER_TYPE) for cell_type in CELL_TYPES] + [
        ("decorrelated", None)
    ] * DECORRELATED


def make_atlas(folder: Path) -> None:
    """Write ``cells.csv``, ``images/`` and ``masks/`` into an empty folder."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = []
    for number, (design, cell_type) in enumerate(tqdm(scenes(), desc="cells")):
        seed = ATLAS_SEED + number
        rng = np.random.default_rng(seed)
        # A cell that the border cuts is an unfair exercise: the next seed (a thousand on) stands in for it.
        while True:
            cell = sample_cell(rng, design=design, cell_type=cell_type)
            picture = render(cell, seed, SIZE)
            if picture.visible >= 0.95:
                break
            seed += 1_000
        name = f"{number:03d}"
        (folder / "images" / f"{name}.jpg").write_bytes(picture.jpeg)
        bits = sum(picture.masks[part].astype(np.uint8) << bit for bit, part in enumerate(PARTS))
        encoded = io.BytesIO()
        Image.fromarray(bits).save(encoded, "PNG", optimize=True)
        (folder / "masks" / f"{name}.png").write_bytes(encoded.getvalue())
        truths = truth(cell, part_shares(picture.masks), picture.visible)
        rows.append(
            {
                "id": name,
                "file": f"{name}.jpg",
                # Within each design every other round over the types is for learning from.
                "split": ("learn", "test")[number // len(CELL_TYPES) % 2],
                "design": design,
                "seed": seed,
                **asdict(cell),
                "caption": caption(truths, rng, concepts=3).text,
                **{key: value if value is None else int(value) for key, value in truths.items()},
            }
        )
    table = pd.DataFrame(rows)
    concepts = list(truths)
    table[concepts] = table[concepts].astype("Int8")
    table.to_csv(folder / "cells.csv", index=False, lineterminator="\n")


def differences(one: Path, other: Path) -> list[str]:
    """The files that are in only one of two folders or differ between them."""
    names = {
        path.relative_to(folder).as_posix() for folder in (one, other) for path in folder.rglob("*") if path.is_file()
    }
    return sorted(
        name
        for name in names - {"README.md"}
        if not (
            (one / name).is_file()
            and (other / name).is_file()
            and (one / name).read_bytes() == (other / name).read_bytes()
        )
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/atlas"))
    parser.add_argument("--check", action="store_true", help="compare with --out instead of writing")
    options = parser.parse_args(arguments)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out.parent) as temporary:
        fresh = Path(temporary) / "atlas"
        make_atlas(fresh)
        if options.check:
            different = differences(fresh, options.out)
            print(f"{len(different)} files differ{': ' + ', '.join(different[:10]) if different else ''}")
            return 1 if different else 0
        if (options.out / "README.md").exists():
            shutil.copy(options.out / "README.md", fresh)
        shutil.rmtree(options.out, ignore_errors=True)
        fresh.replace(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
