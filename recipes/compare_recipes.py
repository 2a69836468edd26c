"""Which recipe finds attributes on real cells? Measured on WBCAtt's validation split, for the default of `annotate`.

    python -m recipes.compare_recipes FOLDER [--split val] [--out compare.csv]

FOLDER holds attributes.csv (WBCAtt: name, split, type, eleven attributes) and SPLIT.zip with photographs. Each recipe
is asked for every concept of `helpers.bloodcells` that an attribute decides, types left out; macro AUROC over all pairs
of pictures, and over pairs of one type only. Nothing is fitted.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from itertools import product
from pathlib import Path

import pandas as pd
from PIL import Image

import helpers
from helpers.bloodcells import ATTRIBUTES, CONCEPTS
from helpers.domains import Domain

LOCAL = (
    ("training", 0.5),
    ("training", 1.0),
    ("zero_shot", 0.5),
    ("zero_shot", 1.0),
    ("derm7pt", 0.5),
    ("derm7pt", 1.0),
)
RECIPES = (("global", 0.0), *LOCAL)


def load(folder: Path, split: str) -> tuple[list[Image.Image], pd.DataFrame]:
    """The photographs of a split, and their table."""
    table = pd.read_csv(folder / "attributes.csv", dtype=str, keep_default_na=False)
    table = table[table["split"] == split].reset_index(drop=True)
    with zipfile.ZipFile(folder / f"{split}.zip") as archive:
        files = {Path(name).stem: name for name in archive.namelist() if name.endswith(".webp")}
        images = [Image.open(io.BytesIO(archive.read(files[name]))).convert("RGB") for name in table["name"]]
    return images, table


def truth(table: pd.DataFrame) -> pd.DataFrame:
    """0/1 for each picture and each concept that attributes decide."""
    decided = {c.key: c for c in CONCEPTS.values() if c.when and set(c.when) <= set(ATTRIBUTES) and c.group != "type"}
    return pd.DataFrame(
        {
            key: pd.concat([table[name].isin(values) for name, values in concept.when.items()], axis=1).all(axis=1)
            for key, concept in decided.items()
        }
    ).astype(int)


def compare(model, processor, images, table: pd.DataFrame) -> pd.DataFrame:
    """One row a recipe: macro AUROC over all pairs and within a type, and the paired difference from "global"."""
    found, domain = truth(table), Domain.named("blood cells")
    encodings = helpers.encode_images(model, processor, images, tokens=True, batch_size=64)
    rows, plain = [], None
    for reference, (recipe, alpha) in product((False, True), RECIPES):
        scores = helpers.annotate(
            model,
            processor,
            encodings,
            list(found.columns),
            domain=domain,
            recipe=recipe,
            alpha=alpha,
            reference=reference,
        )
        plain = scores if plain is None else plain  # the first row: the whole picture, without a reference prompt
        row = {"recipe": recipe, "alpha": alpha, "reference": " / ".join(domain.references) if reference else "none"}
        row["macro AUROC"] = f"{helpers.macro_auroc(found, scores):.3f}"
        row["within a type"] = f"{helpers.macro_auroc(found, scores, table['type']):.3f}"
        row["less the first row"] = f"{helpers.metrics.macro_auroc_difference(found, scores, plain):+.3f}"
        rows.append(row)
        print(*row.values(), sep="  ", flush=True)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    helpers.setup()
    pictures, attributes = load(arguments.folder, arguments.split)
    result = compare(*helpers.load(), pictures, attributes)
    if arguments.out:
        result.to_csv(arguments.out, index=False)
