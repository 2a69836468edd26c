"""The cell designer's figures: a cell before and after a change, and the answers to a sweep."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .. import plots
from ..settings import PALETTE
from .design import Drawn, Sweep

SHOWN = 18
"""Concepts in the figure of a sweep, at most."""


def short(value: str) -> str:
    """A value of an attribute as a button or a title says it."""
    return value.removeprefix("unsegmented-").removeprefix("segmented-")


def designer_figure(figure: Figure, before: Drawn | None, now: Drawn, column: str = "global cosine") -> Figure:
    """What the cell designer shows: the cell before and now, each concept's score, and its change."""
    old = now if before is None else before
    heights = [3.3, 0.9 + 0.27 * len(now.scores)]
    axes = figure.subplot_mosaic([["before", "now"], ["bars", "bars"]], height_ratios=heights)
    first, second, bars = axes["before"], axes["now"], axes["bars"]
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
    return make(figsize=(6.8, 3.3 + _row_height(sweep) * rows), layout="constrained")


def sweep_figure(figure: Figure, sweep: Sweep, side: str = "global") -> Figure:
    """The answers to a sweep: one row a concept, one colour a value, filled where the truth calls for a change.

    Above, a picture of each value. A triangle points the way that the score should go.
    """
    changes = sweep.changes(side)
    order = sweep_order(changes)
    colours, markers = sns.color_palette(PALETTE), "osDXP*"
    others = [value for value in sweep.values if value != sweep.base]
    pictures, below = figure.subfigures(2, 1, height_ratios=[1.6, 1.7 + _row_height(sweep) * len(order)])
    for image, value, ax in zip(
        sweep.images, sweep.values, pictures.subplots(1, max(4, len(sweep.values))).flat, strict=False
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
    title = sweep.attribute.replace("_", " ")
    below.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9, title=title)
    ax.grid(axis="x", alpha=0.3)
    sns.despine(ax=ax)
    return figure


def _row_height(sweep: Sweep) -> float:
    """Inches of one concept: room for its values."""
    return 0.2 + 0.035 * len(sweep.values)
