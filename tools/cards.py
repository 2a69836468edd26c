"""The picture on a chapter's card: which figure of the notebook it is, and how it is made small.

`tools/cards.toml` chooses; a cell's tag "card" goes before it.
"""

from __future__ import annotations

import base64
import io
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from nbformat import NotebookNode
from PIL import Image, ImageChops

TABLE = Path(__file__).with_name("cards.toml")
SIZE = (640, 360)
"""A card's picture in pixels, of which a screen shows one half to all."""
GAP, WIDE = 5, 0.08
"""So many white pixels part two panels; what is narrower than this share of a figure is no panel but a colour bar."""


def thumbnail(nb: NotebookNode, number: str) -> str:
    """The picture of chapter `number` as a data address; empty if the notebook has no figure."""
    figures = list(_figures(nb))
    if not figures:
        return ""
    image = chosen(nb, number) or max((_trimmed(_opened(data)) for data, _, _ in figures), key=_scale)
    image.thumbnail(SIZE, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def chosen(nb: NotebookNode, number: str) -> Image.Image | None:
    """The figure that a tag or the table chooses, the panels that are shown of it; None where neither finds one."""
    figures = list(_figures(nb))
    tagged = [data for data, _, cell in figures if "card" in cell.metadata.get("tags", [])]
    if tagged:
        return _trimmed(_opened(tagged[0]))
    wanted = tomllib.loads(TABLE.read_text(encoding="utf-8")).get(number, {})
    below = [data for data, heading, _ in figures if heading.startswith(wanted.get("heading", "\0"))]
    n = wanted.get("figure", 1)
    if len(below) < n:
        return None
    figure = _trimmed(_opened(below[n - 1]))
    if "box" in wanted:
        return _trimmed(figure.crop(_pixels(wanted["box"], figure.size, number)))
    return _panels(figure, wanted.get("columns"), wanted.get("rows"))


def _pixels(box: list[float], size: tuple[int, int], number: str) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError(
            f"Card {number} in {TABLE.name}: box = {box}. Write [left, top, right, bottom], each a share of the "
            "figure from 0 to 1, left before right and top before bottom."
        )
    return tuple(round(share * side) for share, side in zip(box, size * 2, strict=True))


def _figures(nb: NotebookNode) -> Iterator[tuple[str, str, NotebookNode]]:
    """(base64 of a PNG, the section's heading, the cell) of each figure."""
    heading = ""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                heading = re.sub(r"[`*]", "", line[3:]).strip() if line.startswith("## ") else heading
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                yield output.data["image/png"], heading, cell


def _opened(data: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _trimmed(image: Image.Image) -> Image.Image:
    """Without the white around it."""
    box = ImageChops.difference(image, Image.new("RGB", image.size, "white")).getbbox()
    return image.crop(box) if box else image


def _panels(image: Image.Image, columns: int | None, rows: int | None) -> Image.Image:
    """The first columns and rows of panels; white space parts them."""
    ink = (np.asarray(image) < 250).any(axis=2)
    right = _end(ink.any(axis=0), columns)
    below = _end(ink.any(axis=1), rows)
    return _trimmed(image.crop((0, 0, right, below)))


def _end(ink: np.ndarray, count: int | None) -> int:
    """Where the panel number `count` ends along one axis."""
    if count is None:
        return len(ink)
    there = np.flatnonzero(ink)
    parts = np.split(there, np.flatnonzero(np.diff(there) > GAP) + 1)
    wide = [part for part in parts if len(part) and part[-1] - part[0] > WIDE * len(ink)]
    return int(wide[count - 1][-1]) + 1 if count <= len(wide) else len(ink)


def _scale(image: Image.Image) -> float:
    return min(SIZE[0] / image.width, SIZE[1] / image.height)
