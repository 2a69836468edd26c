"""Figures of chapter 04: what scale and bias do to a cosine, and one prompt in several lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from ..plots import score_bars
from ..settings import PALETTE


def sigmoid_curves(
    pairs: Mapping[str, tuple[float, float]], cosines: Any, *, ticks: str = "", ax: Axes | None = None
) -> Axes:
    """The sigmoid of scale * cosine + bias against the cosine, a dot where it is one half, and a row of cosines.

    Args:
        pairs: label -> (scale, bias), the scale exponentiated.
        cosines: float, any shape: each is a short line below the curves.
        ticks: what these cosines are, for the legend.
        ax: where to draw.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    axis, colours = np.linspace(-1, 1, 801), sns.color_palette(PALETTE)
    for k, (label, (scale, bias)) in enumerate(pairs.items()):
        style = ("-", "--", "-.", ":")[k % 4]
        ax.plot(axis, 1 / (1 + np.exp(-(scale * axis + bias))), style, color=colours[k], lw=2, label=label)
        ax.plot(-bias / scale, 0.5, "o", color=colours[k], mec="white", ms=8)
    flat = np.asarray(cosines, dtype=float).ravel()
    ax.plot(flat, np.full(flat.shape, -0.05), "|", color="black", ms=10, label=ticks)
    ax.axhline(0.5, color="grey", lw=0.8)
    ax.set(xlabel="cosine", ylabel="sigmoid", ylim=(-0.1, 1.05))
    ax.legend(fontsize=10, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
    return ax


def prompt_lists(tables: Mapping[str, pd.DataFrame], watched: Sequence[str] = ()) -> np.ndarray:
    """One picture scored with several lists of prompts: a row a list, a column a kind of score.

    Args:
        tables: title of a list -> DataFrame, a row a prompt, a column a kind of score, each from 0 to 1.
        watched: prompts drawn in the second colour.

    Returns:
        array of Axes [lists, kinds].
    """
    sizes = [len(table) for table in tables.values()]
    kinds = list(next(iter(tables.values())))
    _, axes = plt.subplots(
        len(tables),
        len(kinds),
        figsize=(6.5, 1.2 + 0.5 * len(sizes) + 0.3 * sum(sizes)),
        height_ratios=[size + 1 for size in sizes],
        squeeze=False,
        layout="constrained",
    )
    for row, (title, table) in zip(axes, tables.items(), strict=True):
        row[0].set_title(title, fontsize=11, loc="left")
        for ax, kind in zip(row, kinds, strict=True):
            score_bars(table[kind], label="", highlight=watched, ax=ax)
            ax.set(xlim=(0, 1.25), xticks=[])
            if ax is not row[0]:
                ax.set_yticks(range(len(table)), [""] * len(table))
            if ax in axes[-1]:
                ax.set(xticks=[0, 0.5, 1], xlabel=kind)
    return axes
