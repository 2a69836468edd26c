"""The concept explorer: a picture, a phrase, a map, a box."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import cast

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from ..datasets import Atlas, Images, load_atlas
from ..domains import Domain
from ..images import as_image_list, as_shown, image_names
from ..scoring import cosine_at_half
from . import drawing
from .elements import Picture, ScoreTable, count, number, open_bytes, signed, telling
from .session import (
    ATLAS_DOMAIN,
    COLUMNS,
    SIDES,
    Box,
    ConceptSession,
    PatchIndex,
    Sight,
    first_wordings,
    phrase_list,
)

TYPED = 3
"""Phrases of one's own that stay in the table."""

HINT = (
    "Drag a box, or press Tab until the picture is framed: arrow keys move a box by one patch, Shift and arrow keys "
    "change its size, Esc takes it away."
)
HELP = {
    "cosine": "between −1 and 1; says nothing by itself",
    "sigmoid": "Does this phrase fit? Each phrase is judged alone, as in training.",
    "softmax": "Which of these phrases fits best? Sums to 1 over the table, also when none of them fits.",
}


class ConceptExplorer(widgets.VBox):
    """Look at a picture with a phrase.

    Pick a picture or open a file; type a phrase, or press one in a table: its map lies over the picture, on one
    colour scale for all phrases. Its pieces are buttons that show their own maps. A box on the picture is described by
    the phrases that fit it best, and the patches most like it are numbered.

    Args:
        model, processor: from `helpers.load`.
        image: the row number of one of the pictures, a path or an image; the first one by default (of the atlas, the
            first of the test split).
        phrase: the first phrase; by default the first that the domain features.
        compare: the phrases beside it: any words, or another Domain's; by default those that the domain features.
            Spellings that the model reads as the same words are one phrase.
        box: (left, top, right, bottom) as shares of the picture.
        template: what stands around a phrase in its prompt.
        domain: a Domain, or what `Domain.of` takes (a name, a file, a dict): its concepts describe a box and fix the
            colour scale, with the phrases of `compare` that it lacks. By default that of the atlas, blood cells.
        atlas: the pictures to pick from: from `helpers.load_atlas()` (the default where no domain is given), a table
            from `helpers.image_folder`, or any list of pictures.

    Attributes:
        session: what is computed (`ConceptSession`).
        sight: the picture that is shown, None before there is one.
        shown: the phrase whose map is shown.
        patches: the patches of the box.
    """

    def __init__(
        self,
        model,
        processor,
        *,
        image=None,
        phrase: str | None = None,
        compare: Sequence[str] | str | Domain | None = None,
        box: Box | None = None,
        template: str = "{}",
        domain=None,
        atlas=None,
    ):
        self.domain = Domain.of(ATLAS_DOMAIN if domain is None else domain)
        featured = [self.domain.concepts[name][0] for name in self.domain.featured] or first_wordings(self.domain)
        compare = featured if compare is None else phrase_list(compare, "compare")
        vocabulary = [*first_wordings(self.domain), *compare]
        self.session = ConceptSession(model, processor, vocabulary=vocabulary, template=template)
        self.atlas, self._searched = _pictures(atlas, self.domain)
        self._start = {
            "image": image,
            "phrase": self.session.phrase(featured[0] if phrase is None else phrase).text,
            "compare": list(dict.fromkeys(p.text for p in self.session.phrases(compare))),
            "box": None if box is None else _box(box),
        }
        self._look_at_row = lru_cache(32)(self._encode_row)
        self._index: PatchIndex | None = None
        self.sight: Sight | None = None
        self.shown = ""
        self.piece: int | None = None
        self.patches: list[int] = []
        self.typed: list[str] = []
        self._build()
        super().__init__([self._layout()])
        self.reset()
        if image is not None and self.sight is None:
            raise ValueError(f"image: {self.picture.problem}")

    # --- what it is made of ---

    def _build(self) -> None:
        rows = [] if self.atlas is None else list(range(len(self.atlas)))
        self.cell = widgets.Dropdown(
            options=[("a picture of your own", -1), *((self._row_name(row), row) for row in rows)],
            description="Picture",
        )
        self.picture = Picture(hint=HINT, files=True)
        self.opacity = widgets.FloatSlider(0.5, min=0, max=1, step=0.05, description="Map", readout_format=".0%")
        self.bar = widgets.HTML()
        self.phrase = widgets.Combobox(
            options=self.session.vocabulary,
            continuous_update=False,
            description="Phrase",
            placeholder="any words, then Enter",
            layout={"width": "400px"},
        ).add_class("cc-phrase")
        self.pieces = widgets.ToggleButtons(style={"button_width": "auto"}, description="Pieces")
        self.table = ScoreTable(
            press="show its map",
            groups=[{"title": "global: whole picture", "span": 3}, {"title": "local: best patch", "span": 3}],
            empty="No phrases: type one, or choose some to compare.",
        )
        self.compare = widgets.SelectMultiple(
            options=self.session.vocabulary, rows=10, layout={"width": "300px"}, description="Compare"
        )
        choose = widgets.Accordion([self.compare], titles=["Choose the phrases to compare (Ctrl or Shift for several)"])
        self.by = widgets.RadioButtons(
            options=[("fits the box best", "here"), ("fits it better than the rest", "difference")],
            orientation="horizontal",
            description="Order",
        ).add_class("cc-choices")
        self.region = ScoreTable(
            caption="The box, in words",
            press="show its map",
            empty="No box yet: drag one on the picture, and the phrases that fit it best appear here.",
        )
        self.search = widgets.Button(
            description=f"Search {self._searched} for it", icon="search", disabled=True, layout={"width": "auto"}
        )
        self.progress = widgets.IntProgress(layout={"visibility": "hidden", "width": "150px"})
        self.found = widgets.HTML()
        self.restart = widgets.Button(description="Reset", icon="undo", tooltip="Back to the first picture and phrase")

        widgets.jslink((self.opacity, "value"), (self.picture, "opacity"))  # answered by the browser alone
        self.picture.on_file(self._open_bytes, self._told)
        self.picture.observe(lambda change: self.select(change["new"]), "box")
        self.cell.observe(lambda change: self.look_at(change["new"]) if change["new"] >= 0 else None, "value")
        self.phrase.observe(lambda change: self.show(change["new"]), "value")
        self.pieces.observe(lambda change: self._piece(change["new"]), "value")
        self.compare.observe(lambda change: self._refresh(), "value")
        for table in (self.table, self.region):
            table.observe(lambda change: self.show(change["new"]) if change["new"] else None, "selected")
        self.by.observe(lambda change: self._describe(), "value")
        self.search.on_click(lambda button: self.search_atlas())
        self.restart.on_click(lambda button: self.reset())
        self._choose = choose

    def _layout(self) -> widgets.Widget:
        left = widgets.VBox([self.picture, self.bar, self.opacity], layout={"width": "440px", "flex": "0 0 auto"})
        right = widgets.VBox(
            [
                self.phrase,
                self.pieces.add_class("cc-pieces"),
                self.table,
                self._choose,
                self.by,
                self.region,
                widgets.HBox([self.search, self.progress]),
                self.found,
            ],
            layout={"flex": "1 1 560px", "min_width": "0"},
        )
        body = widgets.HBox([left, right], layout={"flex_flow": "row wrap", "align_items": "flex-start"})
        return widgets.VBox([widgets.HBox([self.cell, self.restart]), body])

    def _row_name(self, row: int) -> str:
        return " · ".join(self._row_words(row))

    def _row_words(self, row: int) -> list[str]:
        """What a row is called: its id (or file), its type (or label), its split, as far as the table has them."""
        assert self.atlas is not None  # a row is of its table
        entry = self.atlas.table.iloc[row]
        words = [entry[column] for column in ("id", "file") if column in entry][:1]
        kinds = [entry[column] for column in ("cell_type", "label") if column in entry]
        words += [kind for kind in kinds if isinstance(kind, str) and kind]
        if "cell_type" in entry and len(words) == 1:
            words.append("imaginary cell")
        return [str(word) for word in [*words, *([entry["split"]] if "split" in entry else [])]]

    # --- what can be done: each is also what a test or a notebook calls ---

    def reset(self) -> None:
        """Back to the first picture, phrase and box."""
        self.typed, self.opacity.value = [], 0.5
        self.by.value, self.found.value = "here", ""
        self.compare.value = self._start["compare"]
        self.picture.box, self.shown = [], ""
        image = self._start["image"]
        if image is None and self.atlas is not None:
            table = self.atlas.table
            image = int((table["split"] == "test").to_numpy().argmax()) if "split" in table else 0
        if image is None:
            self.picture.status = "No picture yet: open one below, or drop it on the grey field."
            self.picture.description = "No picture yet"
            self.picture.data = drawing.encode_picture(Image.new("RGB", (420, 300), "lightgrey"))
        else:
            self.look_at(image)
        problem = self.picture.problem
        self.show(self._start["phrase"])
        self.picture.problem = problem or self.picture.problem
        if self._start["box"]:
            self.select(self._start["box"])

    def look_at(self, image, name: str | None = None, note: str = "") -> None:
        """Show another picture: an atlas row, a path, or any image that `helpers.encode_images` takes."""
        with telling(self.picture, "Encoding the picture …"):
            row = int(image) if isinstance(image, (int, np.integer)) else -1
            rows = 0 if self.atlas is None else len(self.atlas)
            if isinstance(image, (int, np.integer)) and not 0 <= row < rows:
                raise ValueError(f"There is no picture {row} among the {rows} to pick from: they are counted from 0.")
            sight = self._look_at_row(row) if row >= 0 else self.session.look(image, name or None)
            self.sight, self.limits = sight, self.session.limits(sight)
            x, y = sight.grid.patch / sight.grid.size, sight.grid.patch / sight.grid.size
            with self.hold_sync(), self.picture.hold_sync():
                self.cell.value = row
                self.patches, self.picture.box, self.picture.marks = [], [], []
                self.picture.data = drawing.encode_picture(sight.image)
                self.picture.step, self.picture.extent = [x, y], [sight.grid.w * x, sight.grid.h * y]
            half = cosine_at_half(self.session.scales.concept_logit_scale, self.session.scales.concept_logit_bias)
            self.bar.value, self.found.value = drawing.colour_bar(self.limits, half), ""
            self._describe()
            self._refresh()
            if note:
                self.picture.status += f" {sight.name}: {note}."

    def show(self, text: str) -> None:
        """Show a phrase's map, and its scores beside the others'."""
        if text.strip() == self.shown and self.shown:
            return
        with telling(self.picture, "Reading the phrase …"):
            phrase = self.session.phrase(text)
            self.shown, self.piece = phrase.text, None
            if phrase.text not in self.compare.value and phrase.text not in self.typed:
                self.typed = [phrase.text, *self.typed][:TYPED]
            self.phrase.value = phrase.text
            own = set(phrase.own)
            options = [("whole phrase", None)] + [(piece, t) for t, piece in enumerate(phrase.pieces)]
            self.pieces.tooltips = ["the mean of the phrase's own pieces"] + [
                f"position {t}" + ("" if t in own else ", not part of the phrase") for t in range(len(phrase.pieces))
            ]
            self.pieces.options = options
            self.pieces.index = 0  # equal options would keep the piece that was pressed
            self._refresh()

    def select(self, box: Sequence[float]) -> None:
        """Describe a region: (left, top, right, bottom) as shares of the picture; empty takes the box away."""
        if self.sight is None:
            return
        with telling(self.picture):
            patches = self.sight.patches_in(cast(Box, tuple(box))) if len(box) == 4 else []
            if patches == self.patches:
                self.picture.box = list(self.sight.box_of(patches)) if patches else []
                self._refresh()
                return
            self.patches = patches
            self.found.value = ""
            with self.picture.hold_sync():
                # What is compared is whole patches: the frame jumps to them, so that nothing else is claimed.
                self.picture.box = list(self.sight.box_of(patches)) if patches else []
                self.picture.marks = [
                    {
                        "box": self.sight.grid.box(patch, (1, 1)),
                        "text": str(rank),
                        "title": f"number {rank} of the patches most like the box: cosine {cosine:.2f}",
                    }
                    for rank, (patch, cosine) in enumerate(self.sight.similar(patches) if patches else [], start=1)
                ]
            self._describe()
            self._refresh()

    def search_atlas(self) -> None:
        """The pictures to pick from whose best patch is most like the box; encoded once, at the first search."""
        if self.sight is None or not self.patches or self.atlas is None:
            return
        with telling(self.picture, f"Searching {self._searched} …"):
            if self._index is None:
                self.progress.max, self.progress.value = len(self.atlas), 0
                self.progress.layout.visibility = "visible"
                try:
                    self._index = PatchIndex.build(
                        self.session,
                        self.atlas.images.paths,
                        progress=lambda done: setattr(self.progress, "value", done),
                    )
                finally:
                    self.progress.layout.visibility = "hidden"
            own = [self.cell.value] if self.cell.value >= 0 else []
            parts = []
            for row, patch, cosine in self._index.search(self.sight.region_vector(self.patches), leave_out=own):
                image = drawing.crop(as_shown(self.atlas.images[row]), self.sight.grid.box(patch, (1, 1)))
                name = html.escape(" · ".join(self._row_words(row)[:2]))
                picture = drawing.inline(drawing.encode_picture(image), f"A piece of {name}", 96, "jpeg")
                parts.append(f"<figure>{picture}<figcaption>{name}<br>cosine {cosine:.2f}</figcaption></figure>")
            self.found.value = f'<div class="cc-thumbs">{"".join(parts)}</div>'
            self.picture.status = f"Found: {len(parts)} pictures with a patch like the box, most alike first."

    def figure(self) -> Figure:
        """The present state as a figure, for where widgets do not live."""
        if self.sight is None:
            raise ValueError("There is no picture yet: open one first.")
        region = self._ranking() if self.patches else None
        return drawing.explorer_figure(
            plt.figure(figsize=(7, 6.2), layout="constrained"),
            self.sight,
            self._map(),
            self._title(),
            self.limits,
            self.scores(),
            box=self.sight.box_of(self.patches) if self.patches else None,
            similar=self.sight.similar(self.patches) if self.patches else (),
            region=region,
        )

    def scores(self):
        """The table of the phrases compared: a DataFrame, as `ConceptSession.scores`."""
        texts = list(dict.fromkeys([*self.typed, *self.compare.value]))
        return self.session.scores(cast(Sight, self.sight), self.session.phrases(texts))

    # --- how the parts follow ---

    def _encode_row(self, row: int) -> Sight:
        assert self.atlas is not None  # a row is of its table
        return self.session.look(self.atlas.images[row], " · ".join(self._row_words(row)[:2]))

    def _open_bytes(self, name: str, data: bytes, note: str) -> None:
        with telling(self.picture, f"Reading {name} …"):
            image = open_bytes(name, data)
        if not self.picture.problem:
            self.look_at(image, name, note)

    def _told(self, text: str) -> None:
        self.picture.problem, self.picture.status = text, ""

    def _piece(self, piece: int | None) -> None:
        if piece != self.piece:
            self.piece = piece
            with telling(self.picture):
                self._refresh()

    def _map(self):
        assert self.sight is not None  # those who ask have looked
        phrase = self.session.phrase(self.shown)
        return self.sight.map(phrase.vector if self.piece is None else phrase.tokens[self.piece])

    def _title(self) -> str:
        phrase = self.session.phrase(self.shown)
        return phrase.text if self.piece is None else f"{phrase.pieces[self.piece]}, in: {phrase.text}"

    def _refresh(self) -> None:
        """Map, table and message, from the state."""
        if self.sight is None or not self.shown:
            return
        values = self._map()
        row, column = divmod(int(values.argmax()), values.shape[1])
        self.picture.overlay = drawing.encode_map(values, self.limits)
        self.picture.description = f"{self.sight.name}, with the map of {self._title()}"
        message = f"Map of {self._title()}: largest cosine {values.max():.2f}, in row {row + 1}, column {column + 1}."
        if self.patches:
            best = self._ranking().index[0]
            message += f" Box of {count(len(self.patches), 'patch')}: {best} stands first."
        self.picture.status = message
        texts = list(dict.fromkeys([*self.typed, *self.compare.value]))
        if not texts:
            self.table.rows = []
            return
        scores = self.scores()
        top = max(scores[[f"{side} cosine" for side in SIDES]].to_numpy().max(), 0.1)
        with self.table.hold_sync():
            self.table.caption = f"{len(scores)} phrases against {self.sight.name}"
            self.table.columns = [
                {
                    "title": column.split()[1],
                    "help": HELP[column.split()[1]],
                    "kind": "change" if "cosine" in column else "bar",
                    "low": -top / 4 if "cosine" in column else 0,
                    "high": float(top) if "cosine" in column else 1,
                }
                for column in COLUMNS
            ]
            self.table.rows = [
                {
                    "key": text,
                    "label": text,
                    "mark": None,
                    "cells": [
                        {
                            "value": float(row[column]),
                            "text": signed(row[column]) if "cosine" in column else number(row[column]),
                            "title": f"{column}: {row[column]:.4f}",
                        }
                        for column in COLUMNS
                    ],
                }
                for text, row in scores.iterrows()
            ]
            self.table.selected = self.region.selected = self.shown

    def _ranking(self):
        assert self.sight is not None  # there are patches of it
        phrases = self.session.phrases(list(dict.fromkeys([*self.typed, *self.session.vocabulary])))
        return self.sight.region(self.patches, phrases, by=self.by.value)

    def _describe(self) -> None:
        """The ranking of the phrases for the box."""
        self.search.disabled = not self.patches or self.atlas is None
        if not self.patches:
            self.region.rows, self.region.caption = [], "The box, in words"
            return
        ranking = self._ranking()
        total, ranking = len(ranking), ranking.head(10)
        low, high = self.limits
        with self.region.hold_sync():
            self.region.caption = (
                f"The box of {count(len(self.patches), 'patch')}, in words: the best 10 of {total} phrases"
            )
            self.region.columns = [
                {
                    "title": "here",
                    "help": "mean cosine of the box's patches",
                    "kind": "change",
                    "low": min(low, 0),
                    "high": high,
                },
                {
                    "title": "elsewhere",
                    "help": "mean of all others",
                    "kind": "change",
                    "low": min(low, 0),
                    "high": high,
                },
                {"title": "difference", "help": "here less elsewhere", "kind": "change", "low": -high, "high": high},
            ]
            self.region.rows = [
                {
                    "key": text,
                    "label": text,
                    "mark": None,
                    "cells": [
                        {"value": None, "text": "–", "title": "the box is the whole picture"}
                        if value != value
                        else {"value": float(value), "text": signed(value), "title": f"{name}: {value:.4f}"}
                        for name, value in row.items()
                    ],
                }
                for text, row in ranking.iterrows()
            ]
            self.region.selected = self.shown


def _box(box) -> Box:
    try:
        left, top, right, bottom = (float(side) for side in box)
    except (TypeError, ValueError) as error:
        raise ValueError(f"box is {box!r}: give (left, top, right, bottom) as shares of the picture.") from error
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError(
            f"box is {box!r}: left < right and top < bottom must lie between 0 and 1, as shares of the picture. Divide "
            "pixels by its width and height."
        )
    return left, top, right, bottom


def _pictures(atlas, domain: Domain) -> tuple[Atlas | None, str]:
    """The pictures to pick from, and what they are called; None where there are none to begin with."""
    if isinstance(atlas, Atlas):
        return atlas, "the photographs" if "laboratory" in atlas.table else "the atlas"
    if atlas is None:
        if domain.name != ATLAS_DOMAIN:
            return None, "the pictures"
        try:
            return load_atlas(), "the atlas"
        except ValueError:  # a checkout without data: one's own pictures still work
            return None, "the atlas"
    if isinstance(atlas, pd.DataFrame):
        if "path" not in atlas:
            raise ValueError("A table of pictures needs the column 'path': read it with helpers.image_folder(folder).")
        return Atlas(atlas.reset_index(drop=True), Images(atlas["path"].tolist()), {}), "the pictures"
    images = as_image_list(atlas)
    names = image_names(images)
    pictures = [
        Path(image) if isinstance(image, (str, os.PathLike)) else as_shown(image, name)
        for image, name in zip(images, names, strict=True)
    ]
    return Atlas(pd.DataFrame({"file": names}), Images(pictures), {}), "the pictures"
