"""Figures that only the chapters on evaluation draw."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from helpers.settings import PALETTE

__all__ = ["distance_from_people", "risk_against_coverage"]


def risk_against_coverage(curves: Mapping[str, pd.DataFrame], *, ax: Axes | None = None) -> Axes:
    """Risk against coverage with intervals, and for each curve a flat line: its risk if all are answered.

    Args:
        curves: name → table of `helpers.metrics.risk_coverage`.
        ax: where to draw.
    """
    ax = plt.subplots(figsize=(6, 3.8), layout="constrained")[1] if ax is None else ax
    for color, style, marker, (name, table) in zip(
        sns.color_palette(PALETTE), ("-", "--", "-.", ":"), "osD^", curves.items(), strict=False
    ):
        value, low, high = ([getattr(e, end) for e in table["risk"]] for end in ("value", "low", "high"))
        ax.plot(table["coverage"], value, style, marker=marker, color=color, lw=2, label=name)
        ax.fill_between(table["coverage"], low, high, color=color, alpha=0.2, lw=0)
        ax.axhline(value[-1], color=color, lw=1, ls=":")
    ax.set(xlabel="coverage: share that is answered", ylabel="risk: share of wrong answers", ylim=(0, None))
    ax.legend(fontsize=10)
    sns.despine(ax=ax)
    return ax


def distance_from_people(table: pd.DataFrame, *, label: str = "Cohen's kappa", ax: Axes | None = None) -> Axes:
    """Attribute by attribute: people beside models, one row an attribute, one colour and marker a reader.

    Args:
        table: DataFrame of `Estimate`s, a row an attribute, a column a reader; the rows stay in their order.
        label: of the axis.
        ax: where to draw.
    """
    ax = plt.subplots(figsize=(6.4, 0.9 + 0.46 * len(table)), layout="constrained")[1] if ax is None else ax
    count = len(table.columns)
    for c, (color, marker, column) in enumerate(zip(sns.color_palette(PALETTE), "Dos^v", table.columns, strict=False)):
        places = [row + (c - (count - 1) / 2) * 0.6 / count for row in range(len(table))]
        value, low, high = ([getattr(e, end) for e in table[column]] for end in ("value", "low", "high"))
        ax.hlines(places, low, high, color=color, lw=2, alpha=0.7)
        ax.plot(value, places, marker, color=color, ms=7, label=str(column))
    for row in range(1, len(table)):
        ax.axhline(row - 0.5, color="black", lw=0.4, alpha=0.3)
    ax.set_yticks(range(len(table)), [str(name).replace("_", " ") for name in table.index])
    ax.set(ylim=(len(table) - 0.5, -0.5), xlabel=label)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=10)
    ax.grid(axis="x", alpha=0.4)
    sns.despine(ax=ax)
    return ax
