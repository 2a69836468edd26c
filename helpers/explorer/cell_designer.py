"""The cell designer: eleven attributes, the picture they make, and what every concept's score says to a change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ..bloodcells import ATTRIBUTES, CELL_TYPES, CONCEPTS, GUIDE_CONCEPTS, sample_cell
from ..scoring import cosine_at_half
from ..settings import SEED
from . import designer_figures, drawing
from .design import Design, Setting, Sweep, occurrences, sweep, typical_cell
from .elements import Picture, ScoreTable, number, signed, telling
from .session import ConceptSession

MEASURES = ("global cosine", "global sigmoid", "local cosine", "local sigmoid")
FEW = (*CELL_TYPES, *GUIDE_CONCEPTS)
MOVED = 0.01
"""A change from this on is told in words."""


class CellDesigner(widgets.VBox):
    """Change one thing about a cell and see which concepts answer.

    Each of the eleven WBCAtt attributes has a control. At each change the cell is rendered anew, with all else standing
    still, and bars show every concept's score and its change since the last setting. Pressing a concept shows its
    map. A sweep lets one attribute run through its values for several seeds, with intervals.

    Args:
        model, processor: from `helpers.load`.
        start: the first setting; a typical neutrophil by default.

    Attributes:
        design: what is computed (`Design`).
        result: the last `Sweep`, None before.
    """

    def __init__(self, model, processor, *, start: Setting | None = None):
        self.session = ConceptSession(model, processor)
        self.design = Design(self.session, start=start)
        self.result: Sweep | None = None
        self._following, self._scale, self._reach = False, 0.05, 0.5
        self._random = np.random.default_rng(SEED)
        self._build()
        super().__init__([self._layout()])
        self._follow()

    # --- what it is made of ---

    def _build(self) -> None:
        self.picture = Picture(width=300, boxes=False, hint="● marks what is true of this cell, ○ what is not.")
        self.before = widgets.HTML()
        self.bar = widgets.HTML()
        self.opacity = widgets.FloatSlider(0, min=0, max=1, step=0.05, description="Map", readout_format=".0%")
        self.seed = widgets.IntSlider(
            0, min=0, max=50, description="Seed", tooltip="the same description, another cell"
        )
        self.stain = widgets.IntSlider(0, min=0, max=20, description="Stain", tooltip="another laboratory")
        self.controls = {
            name: widgets.RadioButtons(
                options=[(designer_figures.short(value), value) for value in values],
                orientation="horizontal",
                description=name.replace("_", " "),
                style={"description_width": "165px"},
                layout={"width": "auto"},
            ).add_class("cc-choices")
            for name, values in ATTRIBUTES.items()
        }
        self.starts = widgets.Dropdown(
            options=[("start from …", ""), *((f"a typical {t}", t) for t in CELL_TYPES)], layout={"width": "180px"}
        )
        fit = {"layout": {"width": "auto"}}
        self.dice = widgets.Button(
            description="Any cell", icon="random", tooltip="all attributes drawn independently", **fit
        )
        self.back = widgets.Button(
            description="Undo", icon="exchange", tooltip="the setting before; again: back", disabled=True, **fit
        )
        self.restart = widgets.Button(description="Reset", icon="undo", tooltip="Back to the first cell", **fit)
        self.facts = widgets.HTML()
        self.measure = widgets.Dropdown(options=MEASURES, description="Score")
        self.many = widgets.RadioButtons(
            options=[("types and the guide's concepts", False), ("all concepts", True)], orientation="horizontal"
        ).add_class("cc-choices")
        self.table = ScoreTable(press="show its map", empty="No concepts.")

        self.attribute = widgets.Dropdown(
            options=[(name.replace("_", " "), name) for name in ATTRIBUTES],
            value="nucleus_shape",
            description="Attribute",
        )
        self.seeds = widgets.IntSlider(8, min=4, max=24, description="Seeds")
        self.others = widgets.RadioButtons(
            options=[("this cell's", "fixed"), ("drawn anew for each seed", "random")],
            orientation="horizontal",
            description="All else",
        ).add_class("cc-choices")
        self.side = widgets.RadioButtons(
            options=[("global", "global"), ("local", "local")], orientation="horizontal", description="Score"
        ).add_class("cc-choices")
        self.run = widgets.Button(description="Sweep", icon="play", button_style="primary")
        self.progress = widgets.IntProgress(layout={"visibility": "hidden", "width": "200px"})
        self.answer = widgets.HTML("<p>No sweep yet: choose an attribute and press Sweep.</p>")

        widgets.jslink((self.opacity, "value"), (self.picture, "opacity"))
        for name, control in self.controls.items():
            control.observe(lambda change, name=name: self._set(name, change["new"]), "value")
        self.seed.observe(lambda change: self._go(seed=change["new"]), "value")
        self.stain.observe(lambda change: self._go(stain=change["new"]), "value")
        self.starts.observe(
            lambda change: self._go(cell=typical_cell(change["new"])) if change["new"] else None, "value"
        )
        self.dice.on_click(lambda button: self._go(cell=sample_cell(self._random, "decorrelated")))
        self.back.on_click(lambda button: self.undo())
        self.restart.on_click(lambda button: self.reset())
        for control in (self.measure, self.many):
            control.observe(self._rescale, "value")
        self.table.observe(lambda change: self._map(), "selected")
        self.run.on_click(lambda button: self.sweep())
        self.side.observe(lambda change: self._answer(), "value")

    _row: ClassVar = {"flex_flow": "row wrap", "align_items": "center"}

    def _layout(self) -> widgets.Widget:
        left = widgets.VBox(
            [self.picture, self.opacity, self.bar, self.seed, self.stain, self.before],
            layout={"width": "320px", "flex": "0 0 auto"},
        )
        middle = widgets.VBox(
            [
                widgets.HBox([self.starts, self.dice, self.back, self.restart], layout={"flex_flow": "row wrap"}),
                *self.controls.values(),
                self.facts,
            ],
            layout={"flex": "1 1 420px", "min_width": "0"},
        )
        right = widgets.VBox([self.measure, self.many, self.table], layout={"flex": "0 1 auto"})
        above = widgets.HBox([left, middle, right], layout={"flex_flow": "row wrap", "align_items": "flex-start"})
        below = widgets.VBox(
            [
                widgets.HTML("<b>Sweep: one attribute through all its values, while all else stands still</b>"),
                widgets.HBox([self.attribute, self.seeds, self.others, self.side], layout=self._row),
                widgets.HBox([self.run, self.progress]),
                self.answer,
            ]
        )
        return widgets.VBox([above, below])

    # --- what can be done ---

    def reset(self) -> None:
        """Back to the first cell, with nothing before it and no sweep."""
        with telling(self.picture, "Drawing …"):
            self.design.reset()
            self._scale, self.result, self._random = 0.05, None, np.random.default_rng(SEED)
            self.opacity.value, self.starts.value = 0, ""
            self.answer.value = "<p>No sweep yet: choose an attribute and press Sweep.</p>"
            self._follow()

    def undo(self) -> None:
        """Change places with the setting before."""
        before = self.design.before
        if before is not None:
            self._step(lambda: self.design.go(before.setting))

    def sweep(self) -> None:
        """Run the sweep that the controls describe, and draw it."""
        with telling(self.picture, "Sweeping …"):
            self.progress.max, self.progress.value = self.seeds.value, 0
            self.progress.layout.visibility, self.run.disabled = "visible", True
            try:
                self.result = sweep(
                    self.design,
                    self.attribute.value,
                    seeds=self.seeds.value,
                    others=self.others.value,
                    progress=lambda done: setattr(self.progress, "value", done),
                )
            finally:
                self.progress.layout.visibility, self.run.disabled = "hidden", False
            self._answer()
            self.picture.status = f"Sweep of {self.attribute.value.replace('_', ' ')}: drawn below."

    def figure(self) -> Figure:
        """The cell before and now, and the change of every score that the table shows."""
        now, before = self.design.now, self.design.before
        keys = self._keys()
        shown = replace(now, scores=now.scores.loc[keys])
        old = before and replace(before, scores=before.scores.loc[keys])
        figure = plt.figure(figsize=(6.6, 4.2 + 0.27 * len(keys)), layout="constrained")
        return designer_figures.designer_figure(figure, old, shown, self.measure.value)

    # --- how the parts follow ---

    def _keys(self) -> Sequence[str]:
        return self.design.concepts if self.many.value else [key for key in FEW if key in self.design.concepts]

    def _set(self, attribute: str, value: str) -> None:
        if not self._following:
            self._step(lambda: self.design.set(attribute, value))

    def _go(self, **changes) -> None:
        if not self._following:
            self._step(lambda: self.design.go(replace(self.design.now.setting, **changes)))

    def _step(self, action: Callable) -> None:
        with telling(self.picture, "Drawing …"):
            action()
        self._follow()  # after an error too: the controls go back to what is true

    @contextmanager
    def _quietly(self):
        self._following = True
        try:
            yield
        finally:
            self._following = False

    def _follow(self) -> None:
        """Everything that is seen, from the design."""
        now, before = self.design.now, self.design.before
        with self._quietly():
            for name, control in self.controls.items():
                control.value = getattr(now.setting.cell, name)
            self.seed.value, self.stain.value = now.setting.seed, now.setting.stain
            if now.setting.cell != typical_cell(self.starts.value or CELL_TYPES[0]):
                self.starts.value = ""
        self.back.disabled = before is None
        self.picture.data = drawing.encode_picture(now.sight.image)
        grid = now.sight.grid
        self.picture.extent = [grid.w * grid.patch / grid.size, grid.h * grid.patch / grid.size]
        self.before.value = (
            ""
            if before is None
            else "<div>Before: "
            + drawing.inline(drawing.encode_picture(before.sight.image), "The cell before the last change", 110, "jpeg")
            + "</div>"
        )
        found = occurrences(now.setting.cell)
        self.facts.value = (
            "<p>This combination in WBCAtt's 10,298 cells: "
            + (", ".join(f"{n} {t}s" for t, n in sorted(found.items(), key=lambda item: -item[1])) or "none")
            + ".</p>"
        )
        self._bars()
        self._map()
        self.picture.status = self._news() if not self.picture.problem else self.picture.status

    def _news(self) -> str:
        """In words what the bars show: the largest changes."""
        change = self.design.change()
        if change is None:
            return "This is the start. Change an attribute."
        change = change.loc[self._keys(), self.measure.value]
        order = change.abs().sort_values(ascending=False).index[:3]
        moved = [f"{concept} {signed(change[concept])}" for concept in order if abs(change[concept]) >= MOVED]
        return f"{self.measure.value}: " + (", ".join(moved) if moved else "no score moved by 0.01 or more") + "."

    def _rescale(self, _) -> None:
        self._scale = 0.05
        self._bars()
        self.picture.status = self._news()

    def _bars(self) -> None:
        measure, keys = self.measure.value, list(self._keys())
        now, change = self.design.now, self.design.change()
        scores = now.scores.loc[keys, measure]
        change = None if change is None else change.loc[keys, measure]
        if change is not None:  # never shrinks, so that bars of one change compare with those of the last
            self._scale = max(self._scale, float(change.abs().max()))
        self._reach = max(self._reach, float(scores.abs().max()))
        cosine = "cosine" in measure
        with self.table.hold_sync():
            self.table.caption = f"{measure} of {len(keys)} concepts"
            self.table.columns = [
                {
                    "title": "now",
                    "help": measure,
                    "kind": "change" if cosine else "bar",
                    "low": -self._reach if cosine else 0,
                    "high": self._reach if cosine else 1,
                },
                {
                    "title": "change",
                    "help": f"since the last setting; a full bar is {self._scale:.2f}",
                    "kind": "change",
                    "low": -self._scale,
                    "high": self._scale,
                },
            ]
            self.table.rows = [
                {
                    "key": key,
                    "label": CONCEPTS[key].phrases[0],
                    "mark": now.truth[key],
                    "cells": [
                        {
                            "value": float(scores[key]),
                            "text": signed(scores[key]) if cosine else number(scores[key]),
                            "title": f"{measure}: {scores[key]:.4f}",
                        },
                        {"value": None, "text": "", "title": "there is no setting before this one"}
                        if change is None
                        else {
                            "value": float(change[key]),
                            "text": signed(change[key]),
                            "title": f"change: {change[key]:+.4f}",
                        },
                    ],
                }
                for key in keys
            ]

    def _map(self) -> None:
        """The map of the concept that was pressed, over the cell."""
        key = self.table.selected
        if not key:
            self.picture.overlay, self.bar.value = b"", ""
            self.picture.description = "The designed cell"
            return
        now = self.design.now
        phrase = self.design.phrases[self.design.concepts.index(key)]
        limits = self.session.limits(now.sight)
        self.picture.overlay = drawing.encode_map(now.sight.map(phrase.vector), limits)
        scales = self.session.scales
        self.bar.value = drawing.colour_bar(
            limits, cosine_at_half(scales.concept_logit_scale, scales.concept_logit_bias)
        )
        self.picture.description = f"The designed cell, with the map of {phrase.text}"
        if self.opacity.value == 0:
            self.opacity.value = 0.6

    def _answer(self) -> None:
        """The figure of the last sweep."""
        if self.result is None:
            return
        figure = designer_figures.sweep_figure(
            designer_figures.sweep_canvas(self.result, self.side.value), self.result, self.side.value
        )
        text = self.result.summary(self.side.value)
        alt = f"Change of every concept's score as the {self.result.attribute.replace('_', ' ')} changes. {text}"
        self.answer.value = f"<p>{text.replace(chr(10), '<br>')}</p>" + drawing.inline(
            drawing.figure_png(figure), alt, 980
        )
