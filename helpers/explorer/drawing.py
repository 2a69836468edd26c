"""From what was computed to what is seen: small pictures for the widgets, figures for the notebook."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from .. import plots
from ..settings import PALETTE
from .design import Drawn, Sweep
from .session import Box, Sight

SHOWN = 18
"""Concepts in the figure of a sweep, at most."""


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


def short(value: str) -> str:
    """A value of an attribute as a button or a title says it."""
    return value.removeprefix("unsegmented-").removeprefix("segmented-")


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
    titled = figure.subplots(1, 4, width_ratios=[1, 1.15, 0.9, 0.9])
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


def designer_figure(figure: Figure, before: Drawn | None, now: Drawn, column: str = "global cosine") -> Figure:
    """What the cell designer shows: the cell before and now, each concept's score, and its change."""
    old = now if before is None else before
    first, second, bars = figure.subplots(1, 3, width_ratios=[1, 1, 1.2])
    plots.show_image(old.picture.image, "before", ax=first)
    plots.show_image(now.picture.image, "now", ax=second)
    change = now.scores[column] - old.scores[column]
    true = [concept for concept in change.index if now.truth[concept]]
    plots.score_bars(change, None, highlight=true, label=f"change of the {column}", ax=bars)
    bars.set_title("orange: true of the cell now", fontsize=10)
    return figure


def sweep_order(changes: pd.DataFrame, shown: int = SHOWN) -> list[str]:
    """The concepts that a sweep's figure shows: all that should answer, then those that move most without a call."""
    size = changes["change"].abs().groupby(changes["concept"]).max()
    called = set(changes.loc[changes["expected"].abs() == 1, "concept"])
    order = sorted(size.index, key=lambda concept: (concept not in called, -size[concept]))
    return order[: max(shown, len(called))]


def sweep_canvas(sweep: Sweep, side: str = "global", make=Figure) -> Figure:
    """An empty figure of the size that a sweep needs; `make=plt.figure` for one that the notebook shows."""
    rows = len(sweep_order(sweep.changes(side)))
    return make(figsize=(10, 2.3 + _row_height(sweep) * rows), layout="constrained")


def sweep_figure(figure: Figure, sweep: Sweep, side: str = "global") -> Figure:
    """The answers to a sweep: one row a concept, one colour a value, filled where the truth calls for a change.

    Above, a picture of each value. A triangle points the way that the score should go.
    """
    changes = sweep.changes(side)
    order = sweep_order(changes)
    colours, markers = sns.color_palette(PALETTE), "osDXP*"
    others = [value for value in sweep.values if value != sweep.base]
    pictures, below = figure.subfigures(2, 1, height_ratios=[1.5, 0.6 + _row_height(sweep) * len(order)])
    for image, value, ax in zip(
        sweep.images, sweep.values, pictures.subplots(1, max(6, len(sweep.values))).flat, strict=False
    ):
        plots.show_image(image, short(value) + (" (base)" if value == sweep.base else ""), ax=ax)
    for ax in pictures.axes[len(sweep.values) :]:
        ax.axis("off")
    ax = below.subplots()
    for row in range(1, len(order), 2):
        ax.axhspan(row - 0.5, row + 0.5, color="black", alpha=0.04, lw=0)
    ax.axvline(0, color="black", lw=0.8)
    called = set(changes.loc[changes["expected"].abs() == 1, "concept"])
    if 0 < len(called) < len(order):
        edge = sum(concept in called for concept in order) - 0.5
        ax.axhspan(-0.5, edge, color=colours[0], alpha=0.08, lw=0)
    for v, value in enumerate(others):
        rows = changes[changes["value"] == value].set_index("concept").loc[order]
        y = np.arange(len(order)) + (v - (len(others) - 1) / 2) * 0.7 / len(others)
        ax.hlines(y, rows["low"], rows["high"], color=colours[v], lw=1.5)
        for place, (_, row) in zip(y, rows.iterrows(), strict=True):
            expected = row["expected"]
            marker = {1.0: ">", -1.0: "<"}.get(expected, markers[v])
            face = colours[v] if abs(expected) == 1 else "white"
            ax.plot(row["change"], place, marker, ms=6, color=colours[v], mfc=face, mew=1.2, alpha=1)
    ax.set_yticks(range(len(order)), order)
    ax.set(
        ylim=(len(order) - 0.5, -0.5), xlabel=f"change of the {side} cosine, {short(sweep.base)} → value, 95% interval"
    )
    handles = [Line2D([], [], color=colours[v], lw=3, label=short(value)) for v, value in enumerate(others)]
    handles += [
        Line2D([], [], marker=">", ls="", color="black", label="should rise"),
        Line2D([], [], marker="<", ls="", color="black", label="should fall"),
        Line2D([], [], marker="o", ls="", color="black", mfc="white", label="should stand still, or unknown"),
    ]
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1, 1), fontsize=9, title=sweep.attribute.replace("_", " ")
    )
    ax.grid(axis="x", alpha=0.3)
    sns.despine(ax=ax)
    return figure


def _row_height(sweep: Sweep) -> float:
    """Inches of one concept: room for its values."""
    return 0.2 + 0.035 * len(sweep.values)
