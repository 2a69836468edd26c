"""More cells than the atlas has, rendered when asked for, with the same columns and truth."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd

from ..datasets import Atlas, Images, Masks
from .attributes import CELL_TYPES, sample_cell
from .captions import caption
from .concepts import part_shares, truth
from .render import render

FRESH_SEED = 8_000_000
"""Seeds of cells rendered on demand start here: no training picture and no cell of the atlas shares one."""


def render_cells(count: int, *, design: str = "balanced", first_seed: int = FRESH_SEED) -> Atlas:
    """More cells than the atlas has, rendered now (some 30 ms each), with the same columns and truth.

    Args:
        count: how many; the same count, design and seed give the same pictures.
        design: "natural", "balanced" or "decorrelated", as in `helpers.bloodcells.sample_cell`; the first two take the
            five types in turn.
        first_seed: of the first cell; the default begins where neither training nor atlas has been.

    Returns:
        Atlas; its table has neither `file` nor `split`. No cell is cut by the border.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}.")
    rows, pictures = [], []
    for number in range(count):
        seed = first_seed + number
        while True:
            rng = np.random.default_rng(seed)
            cell_type = None if design == "decorrelated" else CELL_TYPES[number % len(CELL_TYPES)]
            cell = sample_cell(rng, design, cell_type=cell_type)
            picture = render(cell, seed)
            if picture.visible >= 0.95:
                break
            seed += 10_000  # this one is cut by the border: another stands in for it
        truths = truth(cell, part_shares(picture.masks), picture.visible)
        row = {"id": str(number), "design": design, "seed": seed, **asdict(cell)}
        rows.append(row | {"caption": caption(truths, rng, concepts=3).text} | truths)
        pictures.append(picture)
    table = pd.DataFrame(rows)
    table[list(truths)] = table[list(truths)].astype(float)  # True, False, None -> 1, 0, NaN
    masks = Masks({part: np.stack([picture.masks[part] for picture in pictures]) for part in pictures[0].masks})
    return Atlas(table, Images([picture.image for picture in pictures]), masks)
