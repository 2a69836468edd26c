"""One cell cut out of a wider picture by its mask, and the sentence that asks for its type: alike in all chapters."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..datasets import Atlas

__all__ = ["CROP", "PROMPT", "cut_out", "square_around"]

CROP = 2.0
"""Side of the square around a cell, in longer sides of the box of its mask: in `recipes/evaluate_mini.py`, too."""

PROMPT = "a photo of {}"
"""The sentence that asks for a cell's type: the first of those of `recipes/evaluate_mini.py`."""


def cut_out(fields: Atlas) -> list[Image.Image]:
    """The white cell of each field of `load_cells("krd")`, in a square around its mask."""
    return [square_around(*pair) for pair in zip(fields.images, fields.masks["white cell"], strict=True)]


def square_around(image: Image.Image, mask: np.ndarray, factor: float = CROP, size: int = 224) -> Image.Image:
    """A square around a mask, `factor` times the longer side of its box, moved to lie inside the picture.

    Args:
        image: of the mask's height and width.
        mask: bool [H, W].
        factor: how much wider than the cell.
        size: side of the result in pixels.

    Raises:
        ValueError: the mask is empty, or not of the picture's size.
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.shape != image.size[::-1]:
        raise ValueError(
            f"The mask is {mask.shape}, the picture {image.size[::-1]} (height, width): give its own mask."
        )
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        raise ValueError("The mask is empty: there is nothing to cut out.")
    height, width = mask.shape
    long = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = min(factor * long, width, height)
    left = np.clip((columns[0] + columns[-1] + 1 - side) / 2, 0, width - side)
    top = np.clip((rows[0] + rows[-1] + 1 - side) / 2, 0, height - side)
    return image.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
