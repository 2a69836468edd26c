"""Real white cells of four laboratories: arrays to train from, what is known of each, and where in the picture it lies.

    python -m recipes.real_cells --shared FOLDER --out build/real

FOLDER holds ``pbc/``, ``krd/``, ``aslan/`` and ``bccd/``. Pictures are decoded once and kept as arrays. Only what may
be trained on is read: PBC's train split without near-copies of other splits, and not what ``bccd_held_out.txt`` and
``krd_held_out.txt`` name.

Nobody drew the parts of a PBC cell. Its nucleus is what is dark enough near the middle (Otsu's threshold; twice where
there are dark granules, too); a ring around it, of which nobody can say what it is, stays unknown. Every picture gets
such a **map of places**: one code for each 4 × 4 pixels.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from helpers.bloodcells import ATTRIBUTES, CONCEPTS, Cell, truth
from helpers.settings import SEED

from .near_copies import never_trained_on
from .no_cells import bank
from .photographs import load_annotations, split, typical_truths

KEYS = tuple(CONCEPTS)
BLOCK = 4
"""Pixels on a side of one code of a map of places."""

BACKGROUND, RED, NUCLEUS, CELL, UNKNOWN, OUTSIDE, PLATELET = range(7)
"""The codes. CELL is cytoplasm; UNKNOWN may be part of the white cell or not; OUTSIDE is anything but a white cell."""

LABORATORIES = ("pbc", "krd", "aslan", "bccd")
KRD_HELD_OUT = Path(__file__).with_name("krd_held_out.txt")


NO_CELLS = 1500
"""How many pictures without a cell are made."""


class Source(NamedTuple):
    """The pictures of one laboratory.

    Attributes:
        images: uint8 [N, H, W, 3].
        places: uint8 [N, H / BLOCK, W / BLOCK], the codes above.
        truths: float32 [N, concepts], 1, 0, or nan for unknown: of the whole white cell, in the order of CONCEPTS.
        boxes: float32 [N, 4], one white cell (xmin, ymin, xmax, ymax) in pixels; nan where there is none.
        weights: float64 [N], how often each is drawn; they sum to 1.
    """

    images: np.ndarray
    places: np.ndarray
    truths: np.ndarray
    boxes: np.ndarray
    weights: np.ndarray


# ------------------------------------------------------------------------------------------------------- maps of places


def otsu(values: np.ndarray) -> float:
    """The threshold that parts values in [0, 1] into two classes of the least variance within (Otsu 1979)."""
    counts, edges = np.histogram(values, 128, (0, 1))
    middle = (edges[:-1] + edges[1:]) / 2
    below, sums = np.cumsum(counts), np.cumsum(counts * middle)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + np.nanargmax(between[:-1])])


def purple(pixels: np.ndarray) -> np.ndarray:
    """How much light a nuclear stain takes away: the lesser of what red and green lose, [h, w] in [0, 1].

    Red cells let red light pass, the background all light; a stained nucleus takes both.
    """
    light = np.percentile(pixels.reshape(-1, 3), 95, axis=0)
    lost = 1 - np.clip(pixels / np.maximum(light, 1), 0, 1)
    return np.minimum(lost[..., 0] * 1.3, lost[..., 1]).clip(0, 1)


def small(image: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 → [H / BLOCK, W / BLOCK, 3] float32, means."""
    return np.asarray(Image.fromarray(image).reduce(BLOCK), np.float32)


def middle_part(mask: np.ndarray, near: tuple[float, float], reach: float) -> np.ndarray:
    """The connected pieces of a mask [h, w] that come within ``reach`` of the point ``near`` (row, column)."""
    pieces, count = ndimage.label(mask)
    if not count:
        return mask
    rows, columns = np.nonzero(mask)
    close = np.hypot(rows - near[0], columns - near[1]) <= reach
    return np.isin(pieces, np.unique(pieces[rows[close], columns[close]])) & mask


def places_of(
    image: np.ndarray, box: np.ndarray | None, mask: np.ndarray | None = None, red_granules: bool = False
) -> np.ndarray:
    """The map of places of a picture with one white cell.

    Args:
        image: [H, W, 3] uint8.
        box: (xmin, ymin, xmax, ymax) of the white cell in pixels; None: it lies about the middle.
        mask: bool [H / BLOCK, W / BLOCK], the white cell as an expert drew it, or None.
        red_granules: the cell is an eosinophil.

    Returns:
        uint8 [H / BLOCK, W / BLOCK].
    """
    pixels = small(image)
    h, w = pixels.shape[:2]
    dark = purple(pixels)
    rows, columns = np.mgrid[:h, :w]
    if box is None:
        near, reach = (h / 2, w / 2), 0.12 * h
        zone = np.hypot(rows - near[0], columns - near[1]) < 0.33 * h
    else:
        left, top, right, bottom = np.asarray(box) / BLOCK
        near, reach = ((top + bottom) / 2, (left + right) / 2), 0.35 * max(right - left, bottom - top)
        zone = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
    inside = zone if mask is None else mask
    threshold = otsu(dark[inside]) if inside.any() else 1.0
    if mask is not None and mask.any():  # where the expert drew the nucleus alone, its surroundings tell it
        threshold = min(threshold, otsu(dark[ndimage.binary_dilation(mask, iterations=6)]))
    if red_granules and (dark > threshold).any():  # they are dark, too: the nucleus is the darker of the two
        threshold = otsu(dark[zone & (dark > threshold)])
    stained = ndimage.binary_opening(dark > threshold)
    nucleus = middle_part(stained & inside, near, reach)
    if mask is not None:
        result = np.full((h, w), OUTSIDE, np.uint8)
        result[ndimage.binary_dilation(mask, iterations=5)] = UNKNOWN
        result[mask] = CELL
        # Where no two shades part the mask, it may be the nucleus alone.
        result[mask & ~ndimage.binary_erosion(mask, iterations=2)] = UNKNOWN
    else:
        result = np.full((h, w), OUTSIDE, np.uint8)
        if box is None:
            grey = 1 - pixels.mean(-1) / 255
            shade = ndimage.gaussian_filter(grey, 0.7)
            covered = shade > otsu(shade[~ndimage.binary_dilation(stained, iterations=2)])
            result[~ndimage.binary_dilation(covered)] = BACKGROUND
            result[ndimage.binary_erosion(covered)] = RED
            # Another dark thing may be a platelet or a second white cell.
            result[ndimage.binary_dilation(stained & ~nucleus, iterations=3)] = OUTSIDE
            around = ndimage.binary_dilation(nucleus, iterations=5)
            result[around | (covered & ndimage.binary_dilation(nucleus, iterations=11))] = UNKNOWN
            hull = ndimage.binary_closing(np.pad(nucleus, 12), iterations=8)[12:-12, 12:-12]
            result[ndimage.binary_erosion(hull) & ~ndimage.binary_dilation(nucleus)] = CELL
        else:
            result[ndimage.binary_dilation(zone, iterations=2)] = UNKNOWN
    result[ndimage.binary_dilation(nucleus) & (result != OUTSIDE)] = UNKNOWN
    result[nucleus] = NUCLEUS
    return result


# -------------------------------------------------------------------------------------------------------------- sources


def truth_vector(truths: dict[str, bool | None]) -> np.ndarray:
    """Truths by concept → float32 [concepts], nan for unknown."""
    return np.array([np.nan if truths.get(key) is None else truths[key] for key in KEYS], np.float32)


def cell_truths(row: pd.Series) -> np.ndarray:
    """What is true of a PBC cell, from its type and eleven attributes; what lies around it is unknown."""
    whole = {"white cell": 0.2, "nucleus": 0.1, "cytoplasm": 0.1, "background": 0.3, "red cells": 0.3, "platelets": 0}
    whole["granules"] = 0.01 if row.granularity == "yes" else 0.0
    # A reader who says "yes" to granules and "nil" to their type has left something open, not contradicted himself.
    values = {name: row[name] for name in ATTRIBUTES}
    without = {values["granularity"] == "no", values["granule_type"] == "nil", values["granule_colour"] == "nil"}
    doubtful = len(without) > 1
    if doubtful:
        values |= {"granularity": "no", "granule_type": "nil", "granule_colour": "nil"}
    known = truth(Cell(row.type, **values), whole)
    for key, concept in CONCEPTS.items():
        if key in ("background", "red cells", "platelets") or (
            doubtful and {"granularity", "granule_type", "granule_colour"} & set(concept.when)
        ):
            known[key] = None
    if doubtful:
        known["granules"] = None
    return truth_vector(known)


def typical_vector(cell_type: str | None, typical: dict[str, dict[str, bool]]) -> np.ndarray:
    """What is true of a cell of which only the type is known, or not even that."""
    known = dict.fromkeys(("white cell", "nucleus", "cytoplasm"), True)
    if cell_type is not None:
        known |= typical[cell_type]
        known["granules"] = typical[cell_type].get("granulocyte")
    return truth_vector(known)


def _weights(labels: pd.Series) -> np.ndarray:
    """Each label's members together weigh as much as the square root of their number."""
    weights = 1 / np.sqrt(labels.map(labels.value_counts()).to_numpy(float))
    return weights / weights.sum()


def attribute_weights(cells: pd.DataFrame) -> np.ndarray:
    """The five types equally often, and within a type the rarer values of each attribute more often than they are."""
    result = np.zeros(len(cells))
    for _, of_type in cells.groupby("type"):
        rarity = np.zeros(len(of_type))
        for name in ATTRIBUTES:
            share = of_type[name].map(of_type[name].value_counts(normalize=True)).to_numpy(float)
            # The shape of the nucleus has many values and is told worst, so it counts three times.
            rarity += (3 if name == "nucleus_shape" else 1) / np.sqrt(np.maximum(share, 0.02))
        result[cells.index.get_indexer(of_type.index)] = rarity / rarity.sum()
    return result / result.sum()


def _pictures(archive: Path, names: list[str], pattern: str) -> np.ndarray:
    with zipfile.ZipFile(archive) as files:
        return np.stack(
            [np.asarray(Image.open(io.BytesIO(files.read(pattern.format(name)))).convert("RGB")) for name in names]
        )


def prepare_pbc(folder: Path, typical) -> Source:
    """The train split without near-copies of test pictures; no other split's archive is opened."""
    cells = pd.read_csv(folder / "attributes.csv")
    copies = never_trained_on()
    cells = cells[(cells.split == "train") & ~cells.name.isin(copies)].reset_index(drop=True)
    images = _pictures(
        folder / "train.zip", [f"{t}/{n}" for t, n in zip(cells.type, cells.name, strict=True)], "{}.webp"
    )
    red = cells.granule_colour == "red"
    places = np.stack([places_of(image, None, red_granules=r) for image, r in zip(images, red, strict=True)])
    boxes = pd.read_csv(folder / "boxes.csv")
    for number, rows in boxes[boxes.name.isin(cells.name)].groupby("name"):
        at = cells.index[cells.name == number][0]
        for label, code in ((1, RED), (2, PLATELET)):
            for box in rows[rows.label == label][["xmin", "ymin", "xmax", "ymax"]].to_numpy():
                left, top, right, bottom = (round(v / BLOCK) for v in box)
                part = places[at, top:bottom, left:right]
                part[np.isin(part, (OUTSIDE, RED) if code == PLATELET else (OUTSIDE,))] = code
    truths = np.stack([cell_truths(row) for _, row in cells.iterrows()])
    return Source(images, places, truths, np.stack([box_of(p) for p in places]), attribute_weights(cells))


def box_of(places: np.ndarray) -> np.ndarray:
    """The box around the white cell of a map of places, in pixels; nan [4] without one."""
    rows, columns = np.nonzero((places == NUCLEUS) | (places == CELL))
    if not len(rows):
        return np.full(4, np.nan, np.float32)
    # What is known to be cell is its nucleus, more or less: a margin for the cytoplasm.
    box = np.array([columns.min() - 3, rows.min() - 3, columns.max() + 4, rows.max() + 4], np.float32)
    return (box * BLOCK).clip(0, [places.shape[1] * BLOCK, places.shape[0] * BLOCK] * 2)


def prepare_krd(folder: Path, typical) -> Source:
    cells = pd.read_csv(folder / "cells.csv")
    held_out = KRD_HELD_OUT.read_text("utf-8").split()
    unknown = sorted(set(held_out) - set(cells.name))
    if unknown:
        raise ValueError(f"{KRD_HELD_OUT.name} names fields that cells.csv does not have: {', '.join(unknown[:5])}.")
    cells = cells[~cells.name.isin(held_out)].reset_index(drop=True)
    images = _pictures(folder / "pictures.zip", list(cells.name), "images/{}.webp")
    masks = _pictures(folder / "pictures.zip", list(cells.name), "masks/{}.png")[..., 0] > 0
    masks = masks.reshape(len(masks), images.shape[1] // BLOCK, BLOCK, -1, BLOCK).mean((2, 4)) > 0.5
    boxes = cells[["xmin", "ymin", "xmax", "ymax"]].to_numpy(np.float32)
    places = np.stack([places_of(i, b, m if m.any() else None) for i, b, m in zip(images, boxes, masks, strict=True)])
    return Source(
        images, places, np.stack([typical_vector(t, typical) for t in cells.type]), boxes, _weights(cells.type)
    )


def prepare_aslan(folder: Path, typical) -> Source:
    cells = pd.read_csv(folder / "cells.csv")
    images = _pictures(folder / "pictures.zip", list(cells.name), "images/{}.webp")
    boxes = np.column_stack([cells.x, cells.y, cells.x + cells.w, cells.y + cells.h]).astype(np.float32)
    places = np.stack([places_of(i, b) for i, b in zip(images, boxes, strict=True)])
    truths = np.tile(typical_vector(None, typical), (len(cells), 1))
    return Source(images, places, truths, boxes, _weights(cells.group))


def prepare_bccd(folder: Path, typical) -> Source:
    """One entry a white cell; a photograph with several counts several times, one without once."""
    all_boxes, types = load_annotations(folder)
    names = split(types)[0]
    images, places, truths, boxes, labels = [], [], [], [], []
    for name in names:
        image = np.asarray(Image.open(folder / "images" / name).convert("RGB"))
        rows = all_boxes[all_boxes.image == name]
        corners = {key: of[["xmin", "ymin", "xmax", "ymax"]].to_numpy(np.float32) for key, of in rows.groupby("label")}
        whites = corners.get("WBC", np.zeros((0, 4), np.float32))
        place = np.full((image.shape[0] // BLOCK, image.shape[1] // BLOCK), OUTSIDE, np.uint8)
        for label, code in (("RBC", RED), ("Platelets", PLATELET)):
            for left, top, right, bottom in (corners.get(label, np.zeros((0, 4))) / BLOCK).round().astype(int):
                place[top:bottom, left:right] = code
        for white in whites:
            one = places_of(image, white)
            place[one != OUTSIDE] = one[one != OUTSIDE]
        kind = None if pd.isna(types[name]) else types[name]
        for white in whites if len(whites) else [np.full(4, np.nan, np.float32)]:
            images.append(image)
            places.append(place)
            boxes.append(white)
            truths.append(typical_vector(kind, typical))
            labels.append(kind or "several")
    return Source(*(np.stack(a) for a in (images, places, truths, boxes)), _weights(pd.Series(labels)))


def prepare(shared: Path, out: Path, counts: Path) -> None:
    """Decode all laboratories into ``out``; those that are there stay."""
    out.mkdir(parents=True, exist_ok=True)
    typical = typical_truths(pd.read_csv(counts))
    readers = {"pbc": prepare_pbc, "krd": prepare_krd, "aslan": prepare_aslan, "bccd": prepare_bccd}
    for name, read in readers.items():
        done = out / f"{name}.json"
        if done.exists():
            continue
        source = read(shared / name, typical)
        for field, array in zip(Source._fields, source, strict=True):
            np.save(out / f"{name}-{field}.npy", array)
        # Last, so that a laboratory that has it is complete.
        done.write_text(json.dumps({"pictures": len(source.images), "concepts": KEYS}), "utf-8")
        print(f"{name}: {len(source.images)} pictures")
    if not (out / "none.npy").exists():
        unfinished = out / "none.tmp.npy"
        np.save(unfinished, bank(np.random.default_rng(SEED), NO_CELLS))
        unfinished.replace(out / "none.npy")


def load(out: Path, name: str) -> Source:
    """The arrays of one laboratory; the pictures are mapped into memory."""
    done = out / f"{name}.json"
    if not done.exists():
        raise FileNotFoundError(f"No {done}: run `python -m recipes.real_cells --out {out}` first.")
    if tuple(json.loads(done.read_text("utf-8"))["concepts"]) != KEYS:
        raise ValueError(f"{done} was made for other concepts: remove {out} and run `python -m recipes.real_cells`.")
    return Source(*(np.load(out / f"{name}-{f}.npy", mmap_mode="r" if f == "images" else None) for f in Source._fields))


# ---------------------------------------------------------------------------------------------------- truth of a view

AT = {key: i for i, key in enumerate(KEYS)}
PART_AT = np.array([i for i, c in enumerate(CONCEPTS.values()) if c.present is not None])
OF_A_CELL = np.array(
    [
        (c.present is None and c.part is not None) or c.key in ("white cell", "nucleus", "cytoplasm", "granules")
        for c in CONCEPTS.values()
    ]
)
ABOUT_A_CELL = np.array([c.present is None for c in CONCEPTS.values()])
CHROMATIN = np.array([c.group == "chromatin" for c in CONCEPTS.values()])


def view_truths(truths: np.ndarray, total: float, places: np.ndarray) -> np.ndarray:
    """The truth of a view, or of a region of it, from the places that it still shows.

    Args:
        truths: float32 [concepts], of the whole cell.
        total: how many codes NUCLEUS and CELL the whole picture has, in units of this view's codes.
        places: uint8 [h, w], what is seen.

    Returns:
        float32 [concepts], nan for unknown.
    """
    shares = np.bincount(places.ravel(), minlength=7) / places.size
    n, cell, doubt = shares[NUCLEUS], shares[CELL], shares[UNKNOWN]
    kept = (n + cell) * places.size / total if total else 0.0
    result = truths.copy()
    result[[AT["red cells"], AT["platelets"], AT["background"]]] = np.nan
    for key, code in (("red cells", RED), ("platelets", PLATELET), ("background", BACKGROUND)):
        if shares[code] >= max(CONCEPTS[key].present[1], 0.03):
            result[AT[key]] = 1
        elif shares[code] + shares[OUTSIDE] + doubt == 0:
            result[AT[key]] = 0
    if n + cell + doubt < 0.001:
        result[ABOUT_A_CELL] = np.nan
        result[OF_A_CELL] = 0
    elif kept < 0.85 or truths[AT["white cell"]] != 1:
        result[ABOUT_A_CELL] = np.nan
        result[AT["granules"]] = np.nan
        for key, share, others in (
            ("nucleus", n, doubt),
            ("cytoplasm", cell, doubt + n),
            ("white cell", n + cell, doubt),
        ):
            low, high = CONCEPTS[key].present
            result[AT[key]] = 1 if share >= high else 0 if share + others < low else np.nan
        if n >= 0.1:
            result[CHROMATIN] = truths[CHROMATIN]
    return result


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="the folder of pbc, krd, aslan and bccd")
    parser.add_argument("--out", type=Path, default=Path("build/real"))
    parser.add_argument("--counts", type=Path, default=Path("data/wbcatt/attribute-counts.csv"))
    options = parser.parse_args(arguments)
    prepare(options.shared, options.out, options.counts)


if __name__ == "__main__":
    main()
