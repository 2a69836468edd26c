"""From what was computed to what is seen: small pictures for the widgets, figures for the notebook."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from .. import plots
from .session import Box, Sight

# --- small pictures ---------------------------------------------------------------------------------------------------


def encode_picture(image: Image.Image, side: int = 840) -> bytes:
    """A picture as a file that browsers show, made smaller if it is larger than `side`; never larger."""
    image = image.convert("RGB")
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    if max(image.size) < 64:  # JPEG would smear what few pixels there are
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def encode_map(values: np.ndarray, limits: tuple[float, float]) -> bytes:
    """A map [h, w] as a PNG of w x h pixels, one colour a patch."""
    low, high = limits
    scaled = np.clip((np.asarray(values) - low) / (high - low), 0, 1)
    colours = mpl.colormaps[plots.SEQUENTIAL](scaled, bytes=True)[..., :3]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(colours)).save(buffer, "PNG")
    return buffer.getvalue()


def colour_bar(limits: tuple[float, float], half: float) -> str:
    """The colour scale of the maps as HTML, with a mark at the cosine whose sigmoid is one half."""
    low, high = limits
    stops = ", ".join(mpl.colors.to_hex(colour) for colour in mpl.colormaps[plots.SEQUENTIAL](np.linspace(0, 1, 9)))
    inside = low < half < high
    mark = f'<i style="left:{(half - low) / (high - low):.1%}"></i>' if inside else ""
    where = f"white line: sigmoid ½, {half:.2f}" if inside else f"sigmoid ½ at {half:.2f}, off this scale"
    return (
        f'<div class="cc-bar"><div style="background:linear-gradient(90deg,{stops})">{mark}</div>'
        f"<span>{low:.2f}</span><span>cosine ({where})</span><span>{high:.2f}</span></div>"
    )


def inline(data: bytes, alt: str, width: int, kind: str = "png") -> str:
    """A picture as HTML that needs no file; `alt` is what those hear who do not see it."""
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<img src="{source}" alt="{html.escape(alt)}" style="max-width:100%;width:{width}px">'


def figure_png(figure: Figure) -> bytes:
    """A figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="white")
    return buffer.getvalue()


def crop(image: Image.Image, box: Box, around: float = 0.12) -> Image.Image:
    """A piece of a picture: the box (shares) and what is around it; at an edge it moves inwards and keeps its size."""
    corners = []
    for side, start, end in zip(image.size, box[:2], box[2:], strict=True):
        length = min(1.0, end - start + 2 * around)
        first = min(max(start - around, 0.0), 1 - length)
        corners.append((round(first * side), max(round((first + length) * side), round(first * side) + 1)))
    (left, right), (top, bottom) = corners
    return image.crop((left, top, right, bottom))


# --- figures ----------------------------------------------------------------------------------------------------------


def explorer_figure(
    figure: Figure,
    sight: Sight,
    map_: np.ndarray,
    title: str,
    limits: tuple[float, float],
    scores: pd.DataFrame,
    *,
    box: Box | None = None,
    similar: Sequence[tuple[int, float]] = (),
    region: pd.DataFrame | None = None,
) -> Figure:
    """What the concept explorer shows: picture, map, scores, and with a box its ranking."""
    pictures, bars = figure.subfigures(2, 1, height_ratios=[1.15, 1])  # the bars' names take no room from the pictures
    titled = [*pictures.subplots(1, 2), *bars.subplots(1, 2)]
    width, height = sight.image.size
    plots.show_image(sight.image, sight.name, ax=titled[0])
    if box:
        left, top, right, bottom = box
        plots.box((left * width, top * height, right * width, bottom * height), ax=titled[0])
        for rank, (patch, _) in enumerate(similar, start=1):
            x0, y0, x1, y1 = sight.grid.box(patch, sight.image.size)
            label = titled[0].text((x0 + x1) / 2, (y0 + y1) / 2, str(rank), ha="center", va="center", fontsize=9)
            label.set_bbox({"boxstyle": "circle,pad=0.15", "facecolor": "white", "alpha": 0.85, "lw": 0})
    plots.concept_map(sight.image, map_, sight.grid, title=title, limits=limits, ax=titled[1])
    plots.score_bars(scores["global sigmoid"], None, label="sigmoid, whole picture", ax=titled[2])
    titled[2].set_xlim(0, 1.2)
    if region is None:
        plots.score_bars(scores["global softmax"], None, label="softmax among these", ax=titled[3])
        titled[3].set(xlim=(0, 1.2), yticks=[])
    else:
        plots.score_bars(region["here"].head(len(scores)), None, label="cosine inside the box", ax=titled[3])
        titled[3].set_title("the box, in words", fontsize=10)
    return figure
