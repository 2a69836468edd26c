"""Grade conceptclip-mini on cells and photographs that it has never seen, and write the table of its model card.

    python -m recipes.evaluate_mini --photographs BCCD_FOLDER      # writes evaluation.json and the card's table
    python -m recipes.evaluate_mini --card                         # only the card's table, from evaluation.json

Every figure has a 95 % bootstrap interval and stands beside controls that know less than the model. Crops of one
photograph share its stain and its focus, so photographs are resampled, not crops.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

import helpers
from helpers.bloodcells import (
    CELL_TYPES,
    CONCEPTS,
    GUIDE_CONCEPTS,
    GUIDE_PROMPTS,
    caption,
    part_shares,
    render,
    sample_cell,
    truth,
)
from helpers.explanations import centre_prior, pixels, stain_maps
from helpers.metrics import (
    Estimate,
    balanced_accuracy,
    bootstrap_mean,
    macro_auroc,
    patch_auroc,
    pointing_hits,
    precision_at_k,
)
from helpers.metrics import accuracy as accuracy_of

from .photographs import SIZE, Photographs, load_annotations, split

EVALUATION_SEED = 7_000_000
"""Seeds of evaluation cells start here: no training picture and no cell of the atlas shares one."""

NATURAL, DECORRELATED = 1250, 1250
VISIBLE = 0.95
"""Cells of which less lies inside the picture are not graded."""

TEMPLATES = ("a photo of {}", "a blood cell image with {}", "a microscopy image of {}")
TYPES = {name: CONCEPTS[name].phrases for name in CELL_TYPES}
PARTS = {
    "nucleus": "nucleus",
    "cytoplasm": "cytoplasm",
    "granules": "granules",
    "vacuoles": "cytoplasmic vacuoles",
    "red cells": "red blood cells",
    "platelets": "platelets",
}
"""The phrase whose map is graded against each mask."""

RELEVANT_AT_LEAST = 10
"""A retrieval query counts only when at least as many pictures satisfy it: precision at 10 can then reach 1."""


def _scene(number: int):
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


def figure(
    what: str,
    where: str,
    measure: str,
    estimate: Estimate,
    target: float | None = None,
    n: int | str | None = None,
    **controls,
) -> dict:
    """One row of the report; controls are estimates of the same measure."""
    return {
        "what": what,
        "where": where,
        "measure": measure,
        "value": round(float(estimate.value), 4),
        "low": round(float(estimate.low), 4),
        "high": round(float(estimate.high), 4),
        "target": target,
        "n": n,
        "controls": {name: round(float(control), 4) for name, control in controls.items()},
    }


def _grade_rendered(model, processor, progress: bool) -> Iterable[dict]:
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        scenes = list(
            tqdm(
                pool.map(_scene, range(NATURAL + DECORRELATED), chunksize=25),
                desc="render",
                total=NATURAL + DECORRELATED,
                disable=not progress,
            )
        )
    pictures, truths = zip(*scenes, strict=True)
    table = pd.DataFrame(truths).astype(float)
    natural = np.arange(len(pictures)) < NATURAL
    types = np.array([str(picture.cell.cell_type) for picture in pictures])
    images = helpers.encode_images(model, processor, [p.image for p in pictures], tokens=True, progress=progress)
    features = images.features
    rng = np.random.default_rng(helpers.SEED)

    # Type, zero-shot. Control: the classes' vectors in another order.
    vectors = helpers.class_vectors(model, processor, TYPES, templates=TEMPLATES)
    scores = (features[natural] @ vectors.T).numpy()
    names = np.array(CELL_TYPES)
    yield figure(
        "type among 5, zero-shot",
        "rendered, natural",
        "top-1 accuracy",
        accuracy_of(types[natural], names[scores.argmax(1)]),
        0.97,
        int(natural.sum()),
        shuffled_text=accuracy_of(types[natural], names[np.roll(scores, 1, axis=1).argmax(1)]),
    )

    # The guide's nine prompts, word for word.
    prompts = helpers.encode_texts(model, processor, list(GUIDE_PROMPTS)).features
    scores = (features @ prompts.T).numpy()
    known = table[list(GUIDE_CONCEPTS)].to_numpy()
    yield figure(
        "the guide's nine concepts, global score",
        "rendered, decorrelated",
        "macro AUROC",
        macro_auroc(known[~natural], scores[~natural]),
        0.95,
        int((~natural).sum()),
        shuffled_text=macro_auroc(known[~natural], np.roll(scores[~natural], 1, axis=1)),
    )
    for column, concept in enumerate(GUIDE_CONCEPTS):
        yield figure(
            concept,
            "rendered, decorrelated",
            "AUROC",
            macro_auroc(known[~natural, column : column + 1], scores[~natural, column : column + 1]),
            n=int((~np.isnan(known[~natural, column])).sum()),
        )
    # One column for each (type, concept) of which the type has at least ten cells with and ten without.
    within, within_scores, shuffled = [], [], []
    for cell_type in CELL_TYPES:
        of_type = natural & (types == cell_type)
        for column in range(len(GUIDE_CONCEPTS)):
            positive = known[of_type, column] == 1
            if min(positive.sum(), (~positive).sum()) >= 10:
                within.append(np.where(of_type, known[:, column], np.nan))
                within_scores.append(scores[:, column])
                shuffled.append(scores[:, (column + 1) % len(GUIDE_CONCEPTS)])
    yield figure(
        "the same, within one cell type",
        "rendered, natural",
        f"macro AUROC over {len(within)} pairs of type and concept",
        macro_auroc(np.stack(within, 1), np.stack(within_scores, 1)),
        0.90,
        int(natural.sum()),
        shuffled_text=macro_auroc(np.stack(within, 1), np.stack(shuffled, 1)),
    )

    # Concept maps against masks.
    grid = helpers.patch_grid(model)
    maps = helpers.tokens.cosine_maps(
        images.tokens, helpers.concept_vectors(model, processor, list(PARTS.values())), images.grid
    ).numpy()
    centre = centre_prior(grid, len(pictures))
    goals = {"nucleus": 0.98, "granules": 0.90, "vacuoles": 0.85, "red cells": 0.95}
    area_goals = {"nucleus": 0.95, "cytoplasm": 0.85}
    for k, (part, phrase) in enumerate(PARTS.items()):
        shares = helpers.tokens.patch_shares(np.stack([picture.masks[part] for picture in pictures]), grid)
        hits = pointing_hits(maps[:, k], shares)
        other = maps[:, (k + 3) % len(PARTS)]
        yield figure(
            f'map of "{phrase}" points into its mask',
            "rendered",
            "pointing game",
            bootstrap_mean(hits),
            goals.get(part),
            int((~np.isnan(hits)).sum()),
            centre_prior=bootstrap_mean(pointing_hits(centre, shares)),
            shuffled_text=bootstrap_mean(pointing_hits(other, shares)),
        )
        yield figure(
            f'map of "{phrase}" against the mask\'s share of each patch',
            "rendered",
            "patch AUROC",
            patch_auroc(maps[:, k], shares),
            area_goals.get(part),
            centre_prior=patch_auroc(centre, shares),
            shuffled_text=patch_auroc(other, shares),
        )

    # Retrieval: captions of three concepts; a picture is right when its truth satisfies all three.
    for where, rows, target in (("rendered, natural", natural, 0.70), ("rendered, decorrelated", ~natural, None)):
        gallery = np.flatnonzero(rows)[:1000]
        queries, relevant = [], []
        for number in gallery:
            written = caption(truths[number], rng, concepts=3)
            satisfied = (table.loc[gallery, [span.concept for span in written.spans]] == 1).all(axis=1).to_numpy()
            if len(written.spans) == 3 and satisfied.sum() >= RELEVANT_AT_LEAST:
                queries.append(written.text)
                relevant.append(satisfied)
        similarity = helpers.encode_texts(model, processor, queries).features @ features[gallery].T
        relevant = np.array(relevant)
        yield figure(
            f"text → image among {len(gallery)}, captions of three concepts",
            where,
            "precision@10",
            precision_at_k(similarity, relevant),
            target,
            len(queries),
            shuffled_text=precision_at_k(np.roll(similarity, 1, axis=0), relevant),
            any_picture=relevant.mean(),
        )


def _count(what: str, sources: np.ndarray) -> str:
    return f"{len(sources)} {what} of {len(set(sources))} photographs"


def _grade_photographs(model, processor, folder: Path, counts: Path) -> Iterable[dict]:
    _, types = load_annotations(folder)
    names = split(types)[1]
    photographs = Photographs(folder, names, pd.read_csv(counts))
    rng = np.random.default_rng(helpers.SEED)
    off_centre, centred = [], []
    for name in names:
        width, height = photographs.images[name].size
        for xmin, ymin, xmax, ymax in photographs.boxes[name]["WBC"]:
            box_side = max(xmax - xmin, ymax - ymin)
            for side, shifts, crops in ((2.2, 4, off_centre), (1.4, 1, centred)):
                side = min(side * box_side, width, height)
                for _ in range(shifts):
                    # Off-centre: the cell's middle lies at 30 % of the way to a side, in a random direction.
                    angle = rng.uniform(0, 2 * np.pi)
                    reach = 0.25 * side if shifts > 1 else 0.0
                    left = np.clip((xmin + xmax - side) / 2 + reach * np.cos(angle), 0, width - side)
                    top = np.clip((ymin + ymax - side) / 2 + reach * np.sin(angle), 0, height - side)
                    crop = photographs.crop(name, float(left), float(top), float(side))
                    if crop.box is not None:
                        crops.append(crop)

    grid = helpers.patch_grid(model)
    images = [crop.image for crop in off_centre]
    sources = np.array([crop.photograph for crop in off_centre])
    maps = helpers.concept_maps(model, processor, images, ["nucleus", "background"]).numpy()
    masks = np.zeros((len(images), SIZE, SIZE), bool)
    for mask, crop in zip(masks, off_centre, strict=True):
        xmin, ymin, xmax, ymax = (round(v) for v in crop.box)
        mask[max(ymin, 0) : ymax, max(xmin, 0) : xmax] = True
    # The pixel at the middle of the largest patch decides: a box is coarse enough.
    yield figure(
        '"nucleus" points into the white cell\'s box, cell off-centre',
        "real, held out",
        "pointing game",
        bootstrap_mean(pointing_hits(maps[:, 0], masks), clusters=sources),
        0.95,
        _count("crops", sources),
        centre_prior=bootstrap_mean(pointing_hits(centre_prior(grid, len(images)), masks)),
        colour_threshold=bootstrap_mean(pointing_hits(stain_maps(pixels(processor, images), grid).numpy(), masks)),
        shuffled_text=bootstrap_mean(pointing_hits(maps[:, 1], masks)),
    )

    typed = [crop for crop in centred if crop.cell_type is not None]
    labels = np.array([crop.cell_type for crop in typed])
    sources = np.array([crop.photograph for crop in typed])
    vectors = helpers.class_vectors(model, processor, TYPES, templates=TEMPLATES)
    features = helpers.encode_images(model, processor, [crop.image for crop in typed]).features
    predicted = np.array(CELL_TYPES)[(features @ vectors.T).argmax(1).numpy()]
    present, sizes = np.unique(labels, return_counts=True)
    yield figure(
        f"type among 5, zero-shot ({', '.join(f'{size} {name}' for name, size in zip(present, sizes, strict=True))})",
        "real, held out",
        "balanced accuracy",
        balanced_accuracy(labels, predicted, clusters=sources),
        0.80,
        _count("cells", sources),
        shuffled_text=balanced_accuracy(
            labels, np.roll(np.array(CELL_TYPES), 1)[(features @ vectors.T).argmax(1).numpy()]
        ),
        always_the_commonest=1 / len(present),
    )
    for name in present:
        of_type = labels == name
        yield figure(
            f"recall of {name}",
            "real, held out",
            "recall",
            bootstrap_mean((predicted == name)[of_type], clusters=sources[of_type]),
            n=_count("cells", sources[of_type]),
        )


def table_of(report: list[dict]) -> str:
    """The card's table, in Markdown."""
    lines = [
        "| what | where | measure | value (95 % interval) | target | controls | n |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report:
        met = (
            ""
            if row["target"] is None
            else f"≥ {row['target']:.2f}{'' if row['value'] >= row['target'] else ' **missed**'}"
        )
        controls = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in row["controls"].items())
        lines.append(
            f"| {row['what']} | {row['where']} | {row['measure']} "
            f"| {row['value']:.3f} ({row['low']:.3f}–{row['high']:.3f}) | {met} | {controls} | {row['n'] or ''} |"
        )
    return "\n".join(lines)


START, END = "<!-- evaluation: made by recipes/evaluate_mini.py -->", "<!-- end of evaluation -->"


def write_card(folder: Path) -> None:
    """Put the table of ``evaluation.json`` between the two marks of the model card."""
    report = json.loads((folder / "evaluation.json").read_text("utf-8"))
    card = folder / "README.md"
    before, _, rest = card.read_text("utf-8").partition(START)
    _, _, after = rest.partition(END)
    unfinished = card.with_suffix(".tmp")
    unfinished.write_text(f"{before}{START}\n{table_of(report)}\n{END}{after}", "utf-8")
    unfinished.replace(card)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("data/conceptclip-mini"))
    parser.add_argument("--photographs", type=Path, help="the BCCD folder; without it nothing real is graded")
    parser.add_argument("--counts", type=Path, default=Path("data/wbcatt/attribute-counts.csv"))
    parser.add_argument("--card", action="store_true", help="only write the card's table again")
    options = parser.parse_args(arguments)
    if not options.card:
        torch.manual_seed(helpers.SEED)
        model, processor = helpers.load(options.model, device="cpu")
        report = list(_grade_rendered(model, processor, progress=True))
        if options.photographs is not None:
            report += _grade_photographs(model, processor, options.photographs, options.counts)
        unfinished = options.model / "evaluation.tmp"
        unfinished.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
        unfinished.replace(options.model / "evaluation.json")
        print(table_of(report))
    if (options.model / "README.md").exists():
        write_card(options.model)


if __name__ == "__main__":
    main()
