"""Grade on drawn cells that no training saw: type, concepts, maps against exact masks, retrieval."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

import helpers
from helpers.bloodcells import (
    CELL_TYPES,
    GUIDE_CONCEPTS,
    GUIDE_PROMPTS,
    Picture,
    caption,
    part_shares,
    render,
    sample_cell,
    truth,
)
from helpers.encoding import ImageEncodings
from helpers.explanations import centre_prior
from helpers.metrics import Estimate, accuracy, bootstrap_mean, macro_auroc, patch_auroc, pointing_hits, precision_at_k

from .grading import TYPES, Judge, figure
from .photographs import SIZE

EVALUATION_SEED = 7_000_000
"""Seeds of evaluation cells start here: no training picture and no cell of the atlas shares one."""

NATURAL, DECORRELATED = 1250, 1250
VISIBLE = 0.95
"""Cells of which less lies inside the picture are not graded."""

PARTS = {
    "nucleus": "nucleus",
    "cytoplasm": "cytoplasm",
    "granules": "granules",
    "vacuoles": "cytoplasmic vacuoles",
    "red cells": "red blood cells",
    "platelets": "platelets",
}
"""The phrase whose map is graded against each mask."""

GOALS = {"nucleus": 0.98, "granules": 0.90, "vacuoles": 0.85, "red cells": 0.95}
AREA_GOALS = {"nucleus": 0.95, "cytoplasm": 0.85}

OFTEN = 10
"""A concept is graded within a type when so many drawn cells of the type have it, and so many do not."""

RELEVANT_AT_LEAST = 10
"""A retrieval query counts only when at least as many pictures satisfy it: precision at 10 can then reach 1."""

BEFORE = Path(__file__).with_name("drawn_before.csv")
"""What the card said of drawn cells before the model had seen real ones of several laboratories."""

WORSE = 0.02


class Drawn(NamedTuple):
    """Drawn cells with their truth and their vectors; `natural` marks those of the five types, bool [N]."""

    pictures: list[Picture]
    table: pd.DataFrame
    natural: np.ndarray
    encodings: ImageEncodings

    @property
    def features(self):
        return self.encodings.features


def _scene(number: int) -> tuple[Picture, dict[str, bool | None]]:
    """(picture, truths) of one evaluation cell; the next seed stands in for a cell that the border cuts."""
    seed = EVALUATION_SEED + number
    while True:
        rng = np.random.default_rng(seed)
        natural = number < NATURAL
        cell = sample_cell(
            rng,
            design="natural" if natural else "decorrelated",
            cell_type=CELL_TYPES[number % len(CELL_TYPES)] if natural else None,
        )
        picture = render(cell, seed, SIZE)
        if picture.visible >= VISIBLE:
            return picture, truth(cell, part_shares(picture.masks), picture.visible)
        seed += 10_000


def draw(judge: Judge, progress: bool = True) -> Drawn:
    """Render and encode the evaluation's cells."""
    count = NATURAL + DECORRELATED
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        scenes = pool.map(_scene, range(count), chunksize=25)
        pictures, truths = zip(*tqdm(scenes, "draw", count, disable=not progress), strict=True)
    encodings = judge.encode([picture.image for picture in pictures], tokens=True, progress=progress)
    return Drawn(list(pictures), pd.DataFrame(truths).astype(float), np.arange(count) < NATURAL, encodings)


def grade_drawn(judge: Judge, cells: Drawn) -> Iterator[dict]:
    """All rows on drawn cells."""
    yield from _types(judge, cells)
    yield from _concepts(judge, cells)
    yield from _maps(judge, cells)
    yield from _retrieval(judge, cells)


def _types(judge: Judge, cells: Drawn) -> Iterator[dict]:
    """Type, zero-shot."""
    natural, names = cells.natural, np.array(CELL_TYPES)
    types = np.array([str(picture.cell.cell_type) for picture in cells.pictures])[natural]
    scores = (cells.features[natural] @ judge.classes(TYPES).T).numpy()
    yield figure(
        "drawn.type",
        "type among 5, zero-shot",
        "rendered, natural",
        "top-1 accuracy",
        accuracy(types, names[scores.argmax(1)]),
        0.97,
        int(natural.sum()),
        chance=1 / len(names),
        always_the_commonest=np.unique(types, return_counts=True)[1].max() / len(types),
    )


def _concepts(judge: Judge, cells: Drawn) -> Iterator[dict]:
    """The guide's nine prompts, word for word: over all cells whose attributes vary freely, and within one type."""
    natural = cells.natural
    scores = (cells.features @ judge.texts(GUIDE_PROMPTS).T).numpy()
    known = cells.table[list(GUIDE_CONCEPTS)].to_numpy()
    yield figure(
        "drawn.guide",
        "the guide's nine concepts, global score",
        "rendered, decorrelated",
        "macro AUROC",
        macro_auroc(known[~natural], scores[~natural]),
        0.95,
        int((~natural).sum()),
        shuffled_text=macro_auroc(known[~natural], np.roll(scores[~natural], 1, axis=1)),
    )
    for column, concept in enumerate(GUIDE_CONCEPTS):
        one = slice(column, column + 1)
        yield figure(
            f"drawn.guide.{concept}",
            concept,
            "rendered, decorrelated",
            "AUROC",
            macro_auroc(known[~natural, one], scores[~natural, one]),
            n=int((~np.isnan(known[~natural, column])).sum()),
        )
    # One column for each (type, concept).
    types = np.array([str(picture.cell.cell_type) for picture in cells.pictures])
    within, within_scores, shuffled = [], [], []
    for cell_type in CELL_TYPES:
        of_type = natural & (types == cell_type)
        for column in range(len(GUIDE_CONCEPTS)):
            positive = known[of_type, column] == 1
            if min(positive.sum(), (~positive).sum()) >= OFTEN:
                within.append(np.where(of_type, known[:, column], np.nan))
                within_scores.append(scores[:, column])
                shuffled.append(scores[:, (column + 1) % len(GUIDE_CONCEPTS)])
    yield figure(
        "drawn.guide.within",
        "the same, within one cell type",
        "rendered, natural",
        f"macro AUROC over {len(within)} pairs of type and concept",
        macro_auroc(np.stack(within, 1), np.stack(within_scores, 1)),
        0.90,
        int(natural.sum()),
        shuffled_text=macro_auroc(np.stack(within, 1), np.stack(shuffled, 1)),
    )


def _maps(judge: Judge, cells: Drawn) -> Iterator[dict]:
    """The map of each part's phrase against its mask."""
    maps = judge.maps(cells.encodings, PARTS.values())
    centre = centre_prior(judge.grid, len(maps))
    for k, (part, phrase) in enumerate(PARTS.items()):
        masks = np.stack([picture.masks[part] for picture in cells.pictures])
        shares = helpers.tokens.patch_shares(masks, judge.grid)
        hits = pointing_hits(maps[:, k], shares)
        other = maps[:, (k + 3) % len(PARTS)]
        yield figure(
            f"drawn.map.{part}.points",
            f'map of "{phrase}" points into its mask',
            "rendered",
            "pointing game",
            bootstrap_mean(hits),
            GOALS.get(part),
            int((~np.isnan(hits)).sum()),
            centre_prior=bootstrap_mean(pointing_hits(centre, shares)),
            shuffled_text=bootstrap_mean(pointing_hits(other, shares)),
        )
        yield figure(
            f"drawn.map.{part}.area",
            f'map of "{phrase}" against the mask\'s share of each patch',
            "rendered",
            "patch AUROC",
            patch_auroc(maps[:, k], shares),
            AREA_GOALS.get(part),
            int((shares >= 0.5).any((1, 2)).sum()),
            centre_prior=patch_auroc(centre, shares),
            shuffled_text=patch_auroc(other, shares),
        )


def _retrieval(judge: Judge, cells: Drawn) -> Iterator[dict]:
    """Captions of three concepts; a picture is right when its truth satisfies all three."""
    rng = np.random.default_rng(helpers.SEED)
    natural = cells.natural
    for name, rows, target in (("natural", natural, 0.70), ("decorrelated", ~natural, None)):
        shelf = np.flatnonzero(rows)[:1000]
        queries, relevant = [], []
        for number in shelf:
            truths = {key: None if np.isnan(value) else bool(value) for key, value in cells.table.loc[number].items()}
            written = caption(truths, rng, concepts=3)
            satisfied = (cells.table.loc[shelf, [span.concept for span in written.spans]] == 1).all(axis=1).to_numpy()
            if len(written.spans) == 3 and satisfied.sum() >= RELEVANT_AT_LEAST:
                queries.append(written.text)
                relevant.append(satisfied)
        similarity = judge.texts(queries) @ cells.features[shelf].T
        relevant = np.array(relevant)
        yield figure(
            f"drawn.retrieval.{name}",
            f"text → image among {len(shelf)}, captions of three concepts",
            f"rendered, {name}",
            "precision@10",
            precision_at_k(similarity, relevant),
            target,
            len(queries),
            shuffled_text=precision_at_k(np.roll(similarity, 1, axis=0), relevant),
            any_picture=relevant.mean(),
        )


def grade_against_before(report: list[dict]) -> Iterator[dict]:
    """Which rows on drawn cells are worse than before, by more than `WORSE`."""
    before = pd.read_csv(BEFORE)
    now = {(row["what"], row["where"], row["measure"]): row["value"] for row in report}
    pairs = [(*names, value) for *names, value in before.itertuples(index=False)]
    fell = {
        f"{what} ({where}, {measure})": round(value - now[what, where, measure], 4)
        for what, where, measure, value in pairs
        if value - now[what, where, measure] > WORSE
    }
    count = float(len(fell))
    yield figure(
        "drawn.before",
        f"rows on drawn cells that are worse by more than {WORSE} than before the model saw several laboratories",
        "rendered",
        "count",
        Estimate(count, np.nan, np.nan),
        0,
        len(pairs),
        at_most=True,
        details=fell,
    )
