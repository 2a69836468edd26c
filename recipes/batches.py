"""The batches that conceptclip-mini is trained with: pictures and what is known of them, captions and their truth.

Item i of :class:`Batches` depends on the seed, on the options and on i alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from helpers.bloodcells import CONCEPTS, PARTS, TEMPLATES, Cell, caption, truth
from helpers.settings import SEED

from . import real_cells
from .augment import Stain, before, look, other_laboratory, stain_of
from .no_cells import SIDE as NO_CELL_SIDE
from .real_cells import ABOUT_A_CELL, AT, CELL, KEYS, NUCLEUS, UNKNOWN, truth_vector, view_truths
from .render_training import SIZE
from .words import denied, foreign_phrase, neutral_words

PATCH = 16
GRID = SIZE // PATCH
HALVES = 2
"""Batches in a step."""

SHARES = {"drawn": 0.42, "pbc": 0.34, "krd": 0.07, "bccd": 0.06, "aslan": 0.03, "none": 0.08}
"""Where the pictures of a batch come from; "none" has no cell."""

COOL_DOWN = 0.7
"""From this share of the steps on the learning rate falls to nothing."""


class View(NamedTuple):
    """How the pictures of a batch are looked at.

    Attributes:
        grid: patches on a side. Fewer than the whole picture's 14 lie at a random place of the model's grid, so that
            all of its position vectors are trained: small views cost little, and show what the captions are about.
        pictures: how many in a batch.
        captions: how many in a batch. Each is compared with every picture, so fewer than the pictures will do.
        early, late: the share of the steps that look this way, before and after ``COOL_DOWN``.
    """

    grid: int
    pictures: int
    captions: int
    early: float
    late: float


VIEWS = {
    # The white cell, whole: its type and attributes.
    "cell": View(7, 64, 64, 0.70, 0.42),
    # So close that one part can fill the view: nucleus, cytoplasm, red cells and background are nearly always in a
    # picture together.
    "part": View(5, 80, 64, 0.10, 0.08),
    # Everything that is asked of the model later is asked of whole pictures.
    "whole": View(14, 20, 64, 0.20, 0.50),
}

SAME_SCALE = (0.84, 1.2)
"""Whether a cell is big or small is told only where a view shows it about as large as the whole picture does."""

SAME_COLOURS = 0.8
"""From this strength of a change of laboratory on, nobody can say which blue a cytoplasm had."""

STAINS = 150
"""So many views of each laboratory, and of drawn cells, give the second stage their stains."""

WITH_PARTS = ("pbc", "krd")
"""Laboratories whose map of places follows the outline of a cell, and not a box: these can be put before others."""

TRIES = 5
"""So many pictures are looked at for one without a white cell beside ours."""

OWN_LABORATORY = 0.5
"""From ``COOL_DOWN`` on this share of the pictures stays nearly as it was photographed; before, none is spared."""

WHOLE_REGION = 0.25
"""How often the region that RC-Align looks at is the whole view, as in the paper; else it is a square of its patches.

RC-Align asks only that *some* patch of the picture knows of a concept, and every patch attends to all others. Asked of
whole views alone, the empty background learned to tell of the nucleus. Asked of a region whose truth is known, a patch
must not speak of what lies outside."""

SHAPES_FROM = 0.3
"""From this share of the steps on more is asked about the shape of the nucleus.

It is learned last: colours and granules are seen in a patch, a shape only in how patches lie to each other."""

SHAPES = tuple(key for key, concept in CONCEPTS.items() if concept.group == "nucleus")


class Rendered:
    """The shards of :mod:`recipes.render_training`, mapped into memory."""

    def __init__(self, folder: Path):
        files = sorted(folder.glob("images-[0-9]*[0-9].npy"))
        if not files:
            raise FileNotFoundError(
                f"No shards in {folder}: run `python -m recipes.render_training --out {folder}` first."
            )
        self.images = [np.load(file, mmap_mode="r") for file in files]
        self.masks = [np.load(str(file).replace("images-", "masks-"), mmap_mode="r") for file in files]
        self.cells = [
            json.loads(Path(str(file).replace("images-", "cells-")).with_suffix(".json").read_text()) for file in files
        ]
        self.per_shard = len(self.images[0])

    def __len__(self) -> int:
        return len(self.images) * self.per_shard

    def __getitem__(self, number: int):
        shard, i = divmod(number, self.per_shard)
        row = self.cells[shard][i]
        cell = None if row["cell"] is None else Cell(**row["cell"])
        return self.images[shard][i], self.masks[shard][i], cell, row["visible"]


def choose_square(rng: np.random.Generator, view: str, masks: np.ndarray) -> tuple[int, int, int]:
    """Where a view of a rendered picture is cut.

    Args:
        rng: where every choice comes from.
        view: a key of :data:`VIEWS`.
        masks: [parts, h, h] uint8, the shares of each part in cells of a picture.

    Returns:
        (left, top, side), in cells of the masks.
    """
    size = masks.shape[-1]
    if view == "cell":
        rows, columns = np.nonzero((masks[0] | masks[1]) > 127)
        if len(rows):
            box = np.array([[columns.min(), columns.max() + 1], [rows.min(), rows.max() + 1]])
            extent = int((box[:, 1] - box[:, 0]).max())
            # Half of the cells as large as they are in a whole picture, half drawn to fill the view.
            native = size * VIEWS[view].grid // GRID
            side = max(extent, native) if rng.random() < 0.5 else extent * rng.uniform(1.0, 1.7)
            side = int(np.clip(side, 16, size))
            first, last = np.maximum(box[:, 1] - side, 0), np.minimum(box[:, 0], size - side)
            left, top = (int(rng.integers(min(ends), max(ends) + 1)) for ends in zip(first, last, strict=True))
            return left, top, side
    if view == "whole":
        side = int(size * rng.uniform(0.8, 1.0)) if rng.random() < 0.25 else size
        left, top = (int(v) for v in rng.integers(0, size - side + 1, size=2))
        return left, top, side
    side = max(int(size * rng.uniform(0.14, 0.5)), VIEWS[view].grid)  # a patch is one cell of the masks at least
    shown = [*masks, 255 - masks.max(0)]
    rows, columns = np.nonzero(shown[rng.integers(len(shown))] > 127)
    if len(rows) and rng.random() < 0.8:
        i = rng.integers(len(rows))
        left, top = (int(np.clip(v[i] - rng.integers(side), 0, size - side)) for v in (columns, rows))
    else:
        left, top = (int(v) for v in rng.integers(0, size - side + 1, size=2))
    return left, top, side


def cut(image: np.ndarray, masks: np.ndarray, left: int, top: int, side: int, pixels: int):
    """A square of a picture and of its masks.

    Args:
        image: [S, S, 3] uint8.
        masks: [parts, h, h] uint8.
        left, top, side: the square, in cells of the masks.
        pixels: the side of the image to return.

    Returns:
        (image of that side, masks [parts, side, side] uint8).
    """
    scale = image.shape[0] // masks.shape[-1]
    box = tuple(scale * v for v in (left, top, left + side, top + side))
    # Of equal size and place, `resize` copies.
    image = Image.fromarray(image).resize((pixels, pixels), Image.Resampling.BILINEAR, box)
    return image, masks[:, top : top + side, left : left + side]


def turn(rng: np.random.Generator, image: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One of the eight symmetries of the square, the same for an image [H, W, 3] and masks [parts, h, w]."""
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    image, masks = np.rot90(image, turns), np.rot90(masks, turns, (1, 2))
    return (image[:, ::-1], masks[:, :, ::-1]) if mirror else (image, masks)


def choose_region(rng: np.random.Generator, grid: int) -> tuple[int, int, int]:
    """(left, top, side) of the square that RC-Align looks at, in patches of a view of ``grid`` × ``grid``."""
    side = grid if rng.random() < WHOLE_REGION else int(rng.integers(1, grid))
    left, top = rng.integers(0, grid - side + 1, size=2)
    return int(left), int(top), side


SEEN_IN = {
    "chromatin": ("nucleus", 0.002, 0.2),
    "cytoplasm": ("cytoplasm", 0.002, 0.1),
    "texture": ("cytoplasm", 0.002, 0.1),
    "granules": ("granules", 0.0005, 0.01),
    "vacuoles": ("vacuoles", 0.0005, 0.01),
}
"""Group of concepts → the part that shows them, absent below and plain from these shares of the view."""


def view_truth(
    cell: Cell | None, visible: float, all_masks: np.ndarray, masks: np.ndarray, patches: int = GRID * GRID
) -> dict[str, bool | None]:
    """The truth of a view or of a region of it, from what its masks still show.

    A cell that the view cuts has unknown attributes, but for those of a part that is well in view. Of a part that fills
    less than a tenth of one of the ``patches`` it is unknown whether a patch could show it.
    """
    areas = dict(zip(PARTS, masks.reshape(len(PARTS), -1).sum(1, dtype=float).tolist(), strict=True))
    full = float(all_masks[:2].sum(dtype=float))
    pixels = 255.0 * masks[0].size
    shares = {part: area / pixels for part, area in areas.items()}
    shares["white cell"] = shares["nucleus"] + shares["cytoplasm"]
    covered = (
        masks[[PARTS.index(part) for part in ("nucleus", "cytoplasm", "red cells", "platelets")]].astype(int).sum(0)
    )
    shares["background"] = float((255 - covered.clip(0, 255)).sum() / pixels)
    kept = (areas["nucleus"] + areas["cytoplasm"]) / full if full else 1.0
    result = truth(cell, shares, visible * kept)
    for concept in CONCEPTS.values():
        if concept.present is not None and result[concept.key] and shares[concept.part] < 0.1 / patches:
            result[concept.key] = None
    for concept in CONCEPTS.values() if cell is not None else ():
        if result[concept.key] is None and concept.group in SEEN_IN:
            part, absent_below, enough = SEEN_IN[concept.group]
            if shares[part] >= enough:
                result[concept.key] = all(getattr(cell, name) in values for name, values in concept.when.items())
            elif shares[part] < absent_below and concept.part is not None:
                result[concept.key] = False
    return result


SIZES = [i for i, concept in enumerate(CONCEPTS.values()) if concept.group == "size"]
SHADES = [
    i
    for i, concept in enumerate(CONCEPTS.values())
    if concept.group == "cytoplasm" or concept.key in ("pink granules", "purple granules")
]


def unsayable(truths: np.ndarray, scale: float, strength: float) -> np.ndarray:
    """The truths [concepts] of a view without those that its scale or its stain have made unknowable.

    Args:
        truths: 1, 0 or nan.
        scale: how large the view shows things, relative to the whole picture.
        strength: of the change of laboratory.
    """
    result = truths.copy()
    if not SAME_SCALE[0] <= scale <= SAME_SCALE[1]:
        result[SIZES] = np.nan
    if strength >= SAME_COLOURS:
        shades = result[SHADES]
        result[SHADES] = np.where(np.isnan(truths[AT["white cell"]]) | (truths[AT["white cell"]] == 1), np.nan, shades)
    return result


def _conjunction(values: torch.Tensor) -> torch.Tensor:
    """Three-valued "and" over the last axis: 0 if any is 0, else nan if any is nan, else 1."""
    false = (values == 0).any(-1)
    unknown = values.isnan().any(-1)
    return torch.where(false, 0.0, torch.where(unknown, math.nan, 1.0))


# ----------------------------------------------------------------------------------------------------- parts of a patch

SHOWN_PARTS = (*PARTS, "background")
FINE = 4
"""Each patch is told apart in FINE × FINE pieces."""

NOBODY_KNOWS = 255


def _parts_of_codes() -> np.ndarray:
    """uint8 [codes, parts]: 254 where a code is the part, 0 where it is not, NOBODY_KNOWS else."""
    codes = range(real_cells.PLATELET + 1)
    of_part = {
        "nucleus": NUCLEUS,
        "cytoplasm": CELL,
        "red cells": real_cells.RED,
        "platelets": real_cells.PLATELET,
        "background": real_cells.BACKGROUND,
    }
    table = np.full((len(codes), len(SHOWN_PARTS)), NOBODY_KNOWS, np.uint8)
    for code in codes:
        for at, part in enumerate(SHOWN_PARTS):
            in_cell = code in (NUCLEUS, CELL)
            if code == UNKNOWN or (part in ("granules", "vacuoles") and in_cell):
                continue
            if code == real_cells.OUTSIDE and part in ("red cells", "platelets", "background"):
                continue
            table[code, at] = 254 if code == of_part.get(part) else 0
    return table


PARTS_OF_CODES = _parts_of_codes()


def parts_of_masks(masks: np.ndarray, grid: int) -> np.ndarray:
    """uint8 [h, h, parts] with h = grid × FINE, from masks [parts, side, side]: shares, 0 to 254."""
    side = masks.shape[-1]
    at = ((np.arange(grid * FINE) + 0.5) * side / (grid * FINE)).astype(int)
    masks = masks[:, at[:, None], at[None]].astype(np.uint8)
    background = 255 - masks.max(0, keepdims=True)
    return np.minimum(np.concatenate([masks, background]).transpose(1, 2, 0), 254)


def by_patch(parts: np.ndarray) -> np.ndarray:
    """[h, h, parts] → [patches, FINE × FINE × parts], patches row by row."""
    grid = parts.shape[0] // FINE
    return parts.reshape(grid, FINE, grid, FINE, -1).transpose(0, 2, 1, 3, 4).reshape(grid * grid, -1)


# -------------------------------------------------------------------------------------------------------- real pictures


def choose_look(
    rng: np.random.Generator, view: str, places: np.ndarray, box: np.ndarray
) -> tuple[tuple[float, float], float, float]:
    """Where a view of a real picture is cut.

    Args:
        rng: where every choice comes from.
        view: a key of :data:`VIEWS`.
        places: the map of places, uint8 [h, w].
        box: (xmin, ymin, xmax, ymax) of the white cell in pixels, nan without one.

    Returns:
        (centre (x, y), side, turn in radians), in pixels of the picture. The square never leaves the picture.
    """
    height, width = (n * real_cells.BLOCK for n in places.shape)
    most = min(height, width)
    elsewhere = bool(np.isnan(box).any()) or rng.random() < 0.06
    if view == "part" or elsewhere:
        codes = (
            np.unique(places)
            if view == "part"
            else np.array([c for c in np.unique(places) if c not in (NUCLEUS, 3, 4)])
        )
        code = codes[rng.integers(len(codes))] if len(codes) else places[0, 0]
        rows, columns = np.nonzero(places == code)
        i = rng.integers(len(rows))
        side = most * (rng.uniform(0.14, 0.45) if view == "part" else rng.uniform(0.2, 0.7))
        centre = [(v[i] + rng.random()) * real_cells.BLOCK + rng.uniform(-0.4, 0.4) * side for v in (columns, rows)]
        extent = 0.0
    else:
        extent = float(max(box[2] - box[0], box[3] - box[1]))
        if rng.random() < 0.45:  # as large as it is in the whole picture, about
            side = most * VIEWS[view].grid / GRID * rng.uniform(0.85, 1.12)
        else:
            side = extent * math.exp(rng.uniform(math.log(0.95), math.log(2.7 if view == "cell" else 3.5)))
        side = min(max(side, 0.95 * extent), most)
        slack = max(side - extent, 0.0) / 2
        centre = [(a + b) / 2 + rng.uniform(-slack, slack) for a, b in ((box[0], box[2]), (box[1], box[3]))]
    for angle in (rng.uniform(0, 2 * math.pi), 0.5 * math.pi * rng.integers(4)):
        reach = 0.5 * side * (abs(math.cos(angle)) + abs(math.sin(angle)))
        if 2 * reach > most + 1:
            continue
        inside = tuple(
            float(np.clip(at, min(reach, n / 2), max(n - reach, n / 2)))
            for at, n in zip(centre, (width, height), strict=True)
        )
        # A turned square fits only further from the border; not so far that the cell is lost.
        if max(abs(a - b) for a, b in zip(inside, centre, strict=True)) <= max(side - extent, 0) / 2 + 1:
            break
    return inside, float(side), float(angle)


def codes_of_masks(masks: np.ndarray, size: int) -> np.ndarray:
    """Masks [parts, side, side] of a drawn picture, 0 to 255 → a map of places, uint8 [size, size]."""
    at = ((np.arange(size) + 0.5) * masks.shape[-1] / size).astype(int)
    of = dict(zip(PARTS, masks[:, at[:, None], at[None]], strict=True))
    codes = np.full((size, size), real_cells.BACKGROUND, np.uint8)
    codes[of["red cells"] > 127] = real_cells.RED
    codes[of["platelets"] > 127] = real_cells.PLATELET
    codes[of["cytoplasm"] > 20] = CELL
    codes[of["nucleus"] > 127] = NUCLEUS
    return codes


# ---------------------------------------------------------------------------------------------------------------- texts


class Text(NamedTuple):
    """A caption and what its truth depends on.

    Attributes:
        text: the sentence.
        keys: the concepts that it names, as numbers; none: it is true of no picture.
        spans: (concept number or -1, start, end): what RC-Align looks at.
        denies: it says that its one concept is absent.
    """

    text: str
    keys: tuple[int, ...]
    spans: tuple[tuple[int, int, int], ...]
    denies: bool = False


def distract(rng: np.random.Generator, text: str, words: list[str]) -> tuple[str, int]:
    """Sometimes put a few meaningless words before a caption, so that an unknown template does no harm.

    Returns:
        (text, how many characters its spans have moved).
    """
    if rng.random() >= 0.2:
        return text, 0
    prefix = " ".join(words[i] for i in rng.integers(len(words), size=rng.integers(1, 4))) + " "
    return prefix + text, len(prefix)


def frame(rng: np.random.Generator, phrase: str) -> tuple[str, int]:
    """(a phrase in one of the templates, where it starts)."""
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    return template.replace("{}", phrase), template.index("{}")


def some_phrase(rng: np.random.Generator, key: int) -> str:
    """A phrase of a concept; the canonical one, which people type most, has half of the weight."""
    phrases = CONCEPTS[KEYS[key]].phrases
    return phrases[0] if rng.random() < 0.4 else phrases[rng.integers(len(phrases))]


SINGLE_WEIGHTS = np.array(
    [2.0 if c.group == "nucleus" else 1.3 if c.group == "type" else 1.0 for c in CONCEPTS.values()]
)
DENIED_WEIGHTS = np.array(
    [0.0 if key in ("no granules", "no vacuoles") else 2.0 if c.present else 1.0 for key, c in CONCEPTS.items()]
)


def single(rng: np.random.Generator, key: int) -> Text:
    """A caption that names one concept."""
    phrase = some_phrase(rng, key)
    text, start = frame(rng, phrase)
    return Text(text, (key,), ((key, start, start + len(phrase)),))


def foreign(rng: np.random.Generator) -> Text:
    """A caption that is true of no picture."""
    phrase = foreign_phrase(rng)
    text, start = frame(rng, phrase)
    return Text(text, (), ((-1, start, start + len(phrase)),))


def denial(rng: np.random.Generator, key: int) -> Text:
    """A caption that says that something is not there."""
    phrase = denied(rng, some_phrase(rng, key))
    return Text(frame(rng, phrase)[0] if rng.random() < 0.6 else phrase, (key,), (), True)


def written(rng: np.random.Generator, truths: np.ndarray, concepts: int | None = None) -> Text | None:
    """A caption that is true of a picture, or None where nothing is."""
    true = {key: True for key, value in zip(KEYS, truths, strict=True) if value == 1}
    if not true:
        return None
    made = caption(true, rng, concepts=concepts)
    return Text(
        made.text, tuple(AT[s.concept] for s in made.spans), tuple((AT[s.concept], s.start, s.end) for s in made.spans)
    )


def truth_of_text(text: Text, truths: torch.Tensor, no_cell_picture: torch.Tensor) -> torch.Tensor:
    """[B], 1, 0 or nan: of which pictures a caption is true.

    Args:
        text: the caption.
        truths: [B, concepts], 1, 0 or nan.
        no_cell_picture: bool [B], pictures that show no blood at all.
    """
    if not text.keys:
        return torch.zeros(len(truths))
    if not text.denies:
        return _conjunction(truths[:, list(text.keys)])
    absent = 1 - truths[:, text.keys[0]]
    unsaid = no_cell_picture.clone()
    if ABOUT_A_CELL[text.keys[0]]:  # "no round nucleus" where there is no cell: neither right nor wrong
        unsaid |= truths[:, AT["white cell"]] != 1
    return torch.where(unsaid, math.nan, absent)


# -------------------------------------------------------------------------------------------------------------- batches


class Batches(Dataset):
    """Item i is the whole batch of step i // HALVES; it depends on the seed, the options and on i alone.

    Args:
        rendered: the folder of the drawn cells.
        real: the folder of :mod:`recipes.real_cells`.
        tokenizer: of the model.
        steps: how many steps the training has.
        plain: captions of whole pictures only, as the paper trains.
        leave_out: laboratories that are never shown.
        seed: of all that is drawn by lot.
        far: change stains further, towards those of other pictures too: the second stage.
        surroundings: so many of the views of a white cell of :data:`WITH_PARTS` get the surroundings of another
            picture, of any source, or a plain background; from ``COOL_DOWN`` on half as many.

    Raises:
        ValueError: ``surroundings`` is no share, or goes with ``plain``.
    """

    def __init__(
        self,
        rendered: Path,
        real: Path,
        tokenizer,
        steps: int,
        plain: bool = False,
        leave_out: Collection[str] = (),
        seed: int = SEED,
        far: bool = False,
        surroundings: float = 0.0,
    ):
        self.tokenizer, self.steps, self.plain, self.seed, self.far = tokenizer, steps, plain, seed, far
        if not 0 <= surroundings <= 1 or (plain and surroundings):
            raise ValueError(
                f"surroundings={surroundings} with plain={plain}: give a share from 0 to 1, and with plain 0, since "
                "plain captions tell of the whole picture as it was taken."
            )
        self.surroundings = surroundings
        without = {*leave_out, "none" if plain else None}
        self.shares = {name: share for name, share in SHARES.items() if name not in without}
        self.drawn = Rendered(rendered)
        self.real = {name: real_cells.load(real, name) for name in real_cells.LABORATORIES if name not in without}
        self.light = np.load(real / "none.npy", mmap_mode="r")
        self.neutral = neutral_words()
        self.stains = [stain for name in (*self.real, "drawn") for stain in self._stains(name)] if far else []

    def __len__(self) -> int:
        return self.steps * HALVES

    def _stains(self, source: str) -> list[Stain]:
        """The stains of some views of cells of a source."""
        rng, pixels = np.random.default_rng([self.seed, *source.encode()]), VIEWS["cell"].grid * PATCH
        stains = []
        for _ in range(STAINS):
            if source == "drawn":
                whole, masks, *_ = self.drawn[int(rng.integers(len(self.drawn)))]
                image, _ = cut(whole, masks, *choose_square(rng, "cell", masks), pixels)
            else:
                cells = self.real[source]
                number = int(np.searchsorted(self._cumulative(source), rng.random()))
                places = cells.places[number]
                view = choose_look(rng, "cell", places, cells.boxes[number])
                image, _ = look(cells.images[number], places, *view, pixels)
            stains.append(stain_of(np.asarray(image)))
        return stains

    def _picture(self, rng: np.random.Generator, view: str, source: str, late: bool):
        """(image, its truths, the square of patches for RC-Align, the truths of that square, parts of its patches)."""
        own = OWN_LABORATORY if late else 0.0
        grid = VIEWS[view].grid
        pixels = grid * PATCH
        region = (0, 0, grid) if self.plain else choose_region(rng, grid)
        if source == "none":
            picture = self.light[rng.integers(len(self.light))]
            side = NO_CELL_SIDE * rng.uniform(0.3, 0.7)
            image, _ = look(
                picture, np.zeros((64, 64), np.uint8), (128, 128), side, rng.uniform(0, 2 * math.pi), pixels
            )
            nothing = np.zeros(len(KEYS), np.float32)
            return (
                other_laboratory(rng, image, 1.0)[0],
                nothing,
                region,
                nothing,
                np.zeros((grid * FINE, grid * FINE, len(SHOWN_PARTS)), np.uint8),
            )
        if source == "drawn":
            whole, all_masks, cell, visible = self.drawn[int(rng.integers(len(self.drawn)))]
            square = choose_square(rng, view, all_masks)
            image, masks = cut(whole, all_masks, *square, pixels)
            image, strength = other_laboratory(rng, image, 1.4 if self.stains else 1.1, own, self.stains)
            image, masks = turn(rng, image, masks)
            shown = all_masks if self.plain else masks
            parts = parts_of_masks(masks, grid)
            scale = pixels / whole.shape[0] * all_masks.shape[-1] / square[2]
            truths = unsayable(truth_vector(view_truth(cell, visible, all_masks, shown)), scale, strength)
            if region[2] == grid:
                return image, truths, region, truths, parts
            # From patches to the finer cells of the masks.
            left, top, side = region
            x, y, end_x, end_y = (round(v * masks.shape[-1] / grid) for v in (left, top, left + side, top + side))
            part = view_truth(cell, visible, all_masks, masks[:, y:end_y, x:end_x], side * side)
            return image, truths, region, unsayable(truth_vector(part), scale, strength), parts
        cells = self.real[source]
        if late and source == "pbc":  # as often as in the laboratory, so that a sigmoid means what it says
            number = int(rng.integers(len(cells.images)))
        else:
            number = int(np.searchsorted(self._cumulative(source), rng.random()))
        places, box = cells.places[number], cells.boxes[number]
        centre, side, angle = choose_look(rng, view, places, box)
        image, shown = look(cells.images[number], places, centre, side, angle, pixels)
        scale = pixels / side * min(cells.images.shape[1:3]) / SIZE
        often = self.surroundings / 2 if late else self.surroundings
        if often and source in WITH_PARTS and view != "part" and rng.random() < often:
            core = np.isin(shown, (NUCLEUS, CELL))
            ours = core | (shown == UNKNOWN)
            if core.any() and (found := self._behind(rng, view, ours)) is not None:
                behind, codes = found
                image = Image.fromarray(before(rng, np.asarray(image), core, ours, behind))
                shown = np.where(ours, shown, codes)
                scale = math.nan  # beside red cells of another scale
        image, strength = other_laboratory(rng, image, 1.6 if self.stains else 1.3, own, self.stains)
        if rng.random() < 0.5:
            image, shown = image[:, ::-1], shown[:, ::-1]
        parts = PARTS_OF_CODES[shown]
        if np.isnan(box).any():
            total = 0.0
        else:
            x, y, end_x, end_y = (round(float(v) / real_cells.BLOCK) for v in box)
            own = places[y:end_y, x:end_x]
            # In codes of the view, which are not those of the picture when it is made larger or smaller.
            total = np.isin(own, (NUCLEUS, CELL)).sum() * (pixels / side) ** 2
        if self.plain:
            truths = view_truths(cells.truths[number], float(np.isin(places, (NUCLEUS, CELL)).sum()), places)
            truths = unsayable(truths, scale, strength)
            return image, truths, region, truths, parts
        truths = unsayable(view_truths(cells.truths[number], total, shown), scale, strength)
        if region[2] == grid:
            return image, truths, region, truths, parts
        left, top, side = (FINE * v for v in region)
        part = shown[top : top + side, left : left + side]
        of_part = unsayable(view_truths(cells.truths[number], total, part), scale, strength)
        return image, truths, region, of_part, parts

    def _behind(self, rng: np.random.Generator, view: str, ours: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Surroundings for a white cell: a picture of another one, which ``ours`` [h, h] covers, or of none.

        Returns:
            (uint8 [H, H, 3], its map of places [h, h]); None if no picture fits.
        """
        pixels = VIEWS[view].grid * PATCH
        sources = (*self.real, "drawn", "drawn", "plain")
        for _ in range(TRIES):
            source = sources[rng.integers(len(sources))]
            if source == "plain":
                light = 255 * rng.uniform(0.6, 1.0) * (1 - rng.uniform(0, 0.3) * rng.random(3))
                rows, columns = np.mgrid[:pixels, :pixels] / pixels - 0.5
                slope = 1 + rng.normal(0, 0.1) * rows + rng.normal(0, 0.1) * columns
                image = (slope[..., None] * light).clip(0, 255).astype(np.uint8)
                codes = np.full(ours.shape, real_cells.BACKGROUND, np.uint8)
            elif source == "drawn":
                whole, masks, *_ = self.drawn[int(rng.integers(len(self.drawn)))]
                image, masks = cut(whole, masks, *choose_square(rng, view, masks), pixels)
                codes = codes_of_masks(masks, len(ours))
            else:
                cells = self.real[source]
                number = int(rng.integers(len(cells.images)))
                places = cells.places[number]
                place = choose_look(rng, view, places, cells.boxes[number])
                most = real_cells.BLOCK * min(places.shape)
                if most > SIZE * 1.5 and rng.random() < 0.7:  # a field: anywhere in it
                    side = float(most * rng.uniform(0.3, 0.6))
                    height, width = (real_cells.BLOCK * n - side for n in places.shape)
                    place = (side / 2 + width * rng.random(), side / 2 + height * rng.random()), side, 0.0
                image, codes = look(cells.images[number], places, *place, pixels)
            theirs = np.isin(codes, (NUCLEUS, CELL, UNKNOWN))
            if (theirs & ~ours).mean() < 0.01:
                image, codes = np.asarray(image), np.where(theirs, real_cells.OUTSIDE, codes)
                if rng.random() < 0.5:
                    image, _ = other_laboratory(rng, Image.fromarray(image))
                return image, codes
        return None

    def _cumulative(self, source: str) -> np.ndarray:
        return np.cumsum(self.real[source].weights) * (1 - 1e-9)

    def _texts(self, rng: np.random.Generator, truths: np.ndarray, count: int, shapes: int) -> list[Text]:
        order = np.resize(rng.permutation(len(truths)), count)
        if self.plain:
            return [text for i in order if (text := written(rng, truths[i])) is not None]
        weights = SINGLE_WEIGHTS / SINGLE_WEIGHTS.sum()
        texts = [single(rng, int(key)) for key in rng.choice(len(KEYS), 34 - shapes, replace=False, p=weights)]
        texts += [single(rng, AT[SHAPES[rng.integers(len(SHAPES))]]) for _ in range(shapes)]
        weights = DENIED_WEIGHTS / DENIED_WEIGHTS.sum()
        texts += [denial(rng, int(key)) for key in rng.choice(len(KEYS), 10, replace=False, p=weights)]
        texts += [foreign(rng) for _ in range(8)]
        for i in order[: count - len(texts)]:
            made = written(rng, truths[i], int(rng.integers(2, 4)))
            texts += [] if made is None else [made]
        return texts

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        step = number // HALVES
        late = step >= COOL_DOWN * self.steps
        shares = [view.late if late else view.early for view in VIEWS.values()]
        name = list(VIEWS)[np.random.default_rng([self.seed, step]).choice(len(VIEWS), p=shares)]
        if self.plain and name == "part":  # no caption of a whole picture is true of so small a part
            name = "cell"
        view, rng = VIEWS[name], np.random.default_rng([self.seed, step, number])
        ends = np.cumsum(list(self.shares.values()))
        places = (np.arange(view.pictures) + 0.5) / view.pictures
        sources = [list(self.shares)[int(i)] for i in np.searchsorted(ends / ends[-1], places)]
        pictures = [self._picture(rng, name, source, late) for source in sources]
        left, top = rng.integers(0, GRID - view.grid + 1, size=(2, view.pictures, 1, 1))
        rows, columns = np.mgrid[: view.grid, : view.grid]
        places = ((top + rows) * GRID + left + columns).reshape(view.pictures, -1)
        view_table, region_table = (np.stack([picture[i] for picture in pictures]) for i in (1, 3))
        regions = np.zeros((view.pictures, view.grid, view.grid), bool)
        for region, (_, _, (x, y, side), *_) in zip(regions, pictures, strict=True):
            region[y : y + side, x : x + side] = True
        texts = self._texts(rng, view_table, view.captions, 14 if self.far or step >= SHAPES_FROM * self.steps else 8)
        sentences, spans = [], []
        for i, text in enumerate(texts):
            # A foreign word or a denial may stand alone; a caption may stand behind words that say nothing.
            sentence, moved = (text.text, 0) if self.plain else distract(rng, text.text, self.neutral)
            spans += [(i, key, start + moved, end + moved) for key, start, end in text.spans]
            sentences.append(sentence)
        encoded = self.tokenizer(sentences, padding=True, truncation=True, max_length=77, return_tensors="pt")
        within = torch.zeros(len(spans), encoded["input_ids"].shape[1])
        for row, (i, _, start, end) in enumerate(spans):
            within[row, encoded.char_to_token(i, start) : encoded.char_to_token(i, end - 1) + 1] = 1
        truths = torch.from_numpy(view_table)
        bloodless = torch.tensor([source == "none" for source in sources])
        # The last column is for what is true of nothing.
        of_regions = torch.cat([torch.from_numpy(region_table), torch.zeros(view.pictures, 1)], 1)
        return {
            "pixels": torch.from_numpy(np.stack([image for image, *_ in pictures])),
            "places": torch.from_numpy(places),
            "input_ids": encoded["input_ids"],
            "truths": truths,
            "parts": torch.from_numpy(np.stack([by_patch(picture[4]) for picture in pictures])),
            "caption_truth": torch.stack([truth_of_text(text, truths, bloodless) for text in texts], 1),
            "regions": torch.from_numpy(regions.reshape(view.pictures, -1)),
            "span_caption": torch.tensor([s[0] for s in spans]),
            "span_tokens": within / within.sum(1, keepdim=True),
            "span_truth": of_regions[:, [s[1] for s in spans]],
        }
