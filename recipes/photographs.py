"""Real blood smears (BCCD, MIT licence): which photographs are held out, and crops with what is known to be true.

The photographs themselves are not in the repository; pass the folder that holds ``images/``, ``boxes.csv`` and
``types.csv``.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from helpers.bloodcells import CELL_TYPES, CONCEPTS

HELD_OUT = Path(__file__).with_name("bccd_held_out.txt")
SIZE = 224
"""Side of a crop in pixels."""

TYPICAL = 0.97
"""What at least this share of a type's cells has in the WBCAtt counts is taken as true of every cell of the type."""


class Crop(NamedTuple):
    """A square cut from a photograph.

    ``box`` is the white cell's bounding box (xmin, ymin, xmax, ymax) in the crop's pixels, or None; ``truths`` is as
    returned by :func:`helpers.bloodcells.truth`, None wherever the annotations are silent.
    """

    image: Image.Image
    truths: dict[str, bool | None]
    cell_type: str | None
    box: tuple[float, float, float, float] | None
    photograph: str


def load_annotations(folder: Path) -> tuple[pd.DataFrame, pd.Series]:
    """The boxes (one row each) and, by photograph, its single white-cell type (None when it has several or none)."""
    boxes = pd.read_csv(folder / "boxes.csv")
    boxes = boxes[(boxes.xmax > boxes.xmin) & (boxes.ymax > boxes.ymin)]
    types = pd.read_csv(folder / "types.csv", index_col="image").types
    named = types.fillna("").map(lambda text: {part.strip() for part in text.split(",")} - {""})
    return boxes, named.map(lambda names: next(iter(names)) if len(names) == 1 and names <= set(CELL_TYPES) else None)


def choose_held_out(types: pd.Series) -> list[str]:
    """Every fifth photograph of each type, in the order of their names: what ``bccd_held_out.txt`` lists."""
    return sorted(
        name
        for _, group in types.fillna("several").groupby(types.fillna("several"))
        for name in sorted(group.index)[4::5]
    )


def split(types: pd.Series) -> tuple[list[str], list[str]]:
    """(photographs for training, photographs held out), by the stored list."""
    held_out = HELD_OUT.read_text("utf-8").split()
    unknown = sorted(set(held_out) - set(types.index))
    if unknown:
        raise ValueError(f"{HELD_OUT.name} names photographs that types.csv does not have: {', '.join(unknown[:5])}.")
    return sorted(set(types.index) - set(held_out)), held_out


def typical_truths(counts: pd.DataFrame) -> dict[str, dict[str, bool]]:
    """What can be said of a cell when only its type is known.

    Args:
        counts: the WBCAtt table: one row a combination, ``label``, the eleven attributes, ``cells``.

    Returns:
        type → concept key → truth, for the concepts that at least :data:`TYPICAL` of the type's cells have, or lack.
    """
    result = {}
    for cell_type in CELL_TYPES:
        rows = counts[counts.label.str.lower() == cell_type]
        known = {}
        for concept in CONCEPTS.values():
            if concept.present is not None:
                continue
            if "cell_type" in concept.when:
                known[concept.key] = cell_type in concept.when["cell_type"]
                continue
            holds = np.all([rows[name].isin(values) for name, values in concept.when.items()], axis=0)
            share = rows.cells[holds].sum() / rows.cells.sum()
            if share >= TYPICAL or share <= 1 - TYPICAL:
                known[concept.key] = bool(share >= TYPICAL)
        result[cell_type] = known
    return result


def _inside(boxes: np.ndarray, left: float, top: float, side: float) -> np.ndarray:
    """The share of each box's area [n] that lies inside the square."""
    if len(boxes) == 0:
        return np.zeros(0)
    width = np.minimum(boxes[:, 2], left + side) - np.maximum(boxes[:, 0], left)
    height = np.minimum(boxes[:, 3], top + side) - np.maximum(boxes[:, 1], top)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return width.clip(0) * height.clip(0) / area


class Photographs:
    """Crops of a set of photographs.

    Args:
        folder: the BCCD folder.
        names: the photographs to cut from.
        counts: the WBCAtt table, for :func:`typical_truths`.
    """

    def __init__(self, folder: Path, names: list[str], counts: pd.DataFrame):
        boxes, types = load_annotations(folder)
        self.names = names
        self.types = {name: None if pd.isna(types[name]) else types[name] for name in names}
        self.images = {name: Image.open(folder / "images" / name).convert("RGB") for name in names}
        corners = ["xmin", "ymin", "xmax", "ymax"]
        self.boxes = {
            name: {
                label: of_image[of_image.label == label][corners].to_numpy(float)
                for label in ("WBC", "RBC", "Platelets")
            }
            for name, of_image in ((name, boxes[boxes.image == name]) for name in names)
        }
        self.typical = typical_truths(counts)

    def crop(self, name: str, left: float, top: float, side: float) -> Crop:
        """Cut a square, in the photograph's pixels, and say what is known of it."""
        square = self.images[name].resize((SIZE, SIZE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
        boxes, cell_type = self.boxes[name], self.types[name]
        white = _inside(boxes["WBC"], left, top, side)
        truths: dict[str, bool | None] = dict.fromkeys(CONCEPTS)
        box = None
        whole = bool(len(white)) and white.max() >= 0.8
        if whole:
            corners = boxes["WBC"][white.argmax()]
            box = tuple(float(v) for v in (corners - [left, top, left, top]) * SIZE / side)
            truths.update(dict.fromkeys(("white cell", "nucleus", "cytoplasm"), True))
            if cell_type is not None:
                truths.update(self.typical[cell_type])
        elif not len(white) or white.max() == 0:
            # No annotated white cell reaches into the crop: everything that a white cell would show is absent.
            truths.update({c.key: False for c in CONCEPTS.values() if c.part in ("white cell", "nucleus", "cytoplasm")})
        for label, key in (("RBC", "red cells"), ("Platelets", "platelets")):
            inside = _inside(boxes[label], left, top, side)
            # Red cells and platelets are not annotated completely: a box proves presence, no box proves nothing.
            truths[key] = True if len(inside) and inside.max() >= 0.5 else None
        return Crop(square, truths, cell_type if whole else None, box, name)

    def random_crop(self, rng: np.random.Generator, name: str, close: bool = False) -> Crop:
        """A crop around a white cell, off-centre, at a random scale; one time in five a square from anywhere.

        ``close``: always a small square from anywhere.
        """
        width, height = self.images[name].size
        white = self.boxes[name]["WBC"]
        if len(white) and not close and rng.random() < 0.8:
            xmin, ymin, xmax, ymax = white[rng.integers(len(white))]
            box_side = max(xmax - xmin, ymax - ymin)
            side = min(box_side * rng.uniform(1.1, 2.4), width, height)
            slack = max(side - box_side, 0) / 2
            left = (xmin + xmax) / 2 - side / 2 + rng.uniform(-slack, slack)
            top = (ymin + ymax) / 2 - side / 2 + rng.uniform(-slack, slack)
        else:
            side = rng.uniform(*((0.12, 0.4) if close else (0.3, 0.9))) * height
            left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
        return self.crop(
            name, float(np.clip(left, 0, width - side)), float(np.clip(top, 0, height - side)), float(side)
        )
