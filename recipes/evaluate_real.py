"""Grade on photographs: PBC's types and attributes, KRD's fields and masks, BCCD's cells, and laboratories left out.

PBC's test split is opened only when it is asked for by name: see `--final` of `recipes/evaluate_mini.py`. Which cells
of PBC come from one person is not known, so its intervals resample cells.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from sklearn.metrics import cohen_kappa_score

import helpers
from helpers.bloodcells import ATTRIBUTES, CELL_TYPES
from helpers.course.attributes import WBCATT_RESNET50
from helpers.course.crops import square_around
from helpers.explanations import centre_prior, pixels, stain_maps
from helpers.metrics import (
    Estimate,
    balanced_accuracy,
    bootstrap,
    bootstrap_mean,
    expected_calibration_error,
    macro_auroc,
    paired_difference,
    patch_aurocs,
    pointing_hits,
    top_confidence,
)

from .grading import ATTRIBUTE_PHRASES, TYPES, Judge, figure, macro_f1
from .laboratories import read_krd, read_pbc, unpack
from .photographs import SIZE, Photographs, load_annotations, split

OFTEN = 20
"""An attribute's value is graded within a type when so many cells of the type have it, and so many do not."""


class Pbc(NamedTuple):
    """One split of PBC: WBCAtt's rows and float32 [N, D], the pictures' vectors."""

    table: pd.DataFrame
    features: torch.Tensor


def _name(split_of: str) -> str:
    return f"PBC {split_of}"


# --- PBC --------------------------------------------------------------------------------------------------------------


def look_at_pbc(judge: Judge, folder: Path, split_of: str, progress: bool = True) -> Pbc:
    """Encode one split; of the other zips none is opened."""
    table = read_pbc(folder, split_of)
    with tempfile.TemporaryDirectory() as place:
        paths = unpack(folder / f"{split_of}.zip", table["member"], Path(place))
        return Pbc(table, judge.encode(paths, progress=progress).features)


def grade_pbc(judge: Judge, cells: Pbc, split_of: str, second: pd.DataFrame, unseen: bool = False) -> Iterator[dict]:
    """Types, calibration and the eleven attributes.

    Args:
        second: both readings of the cells that were read twice, `data/cells/second-reader.csv`.
        unseen: the model has seen no picture of PBC.
    """
    types = cells.table["cell_type"].to_numpy()
    yield from _types(judge, cells.features, types, "pbc", _name(split_of), 0.985, unseen=unseen)
    probabilities = pd.DataFrame(judge.softmax(cells.features, judge.classes(TYPES)), columns=list(TYPES))
    yield figure(
        "pbc.type.ece",
        "calibration of the type's softmax",
        _name(split_of),
        "expected calibration error",
        expected_calibration_error(*top_confidence(probabilities, types)),
        0.02,
        len(types),
        at_most=True,
    )
    scores = {name: _attribute_scores(judge, cells.features, name) for name in ATTRIBUTES}
    yield from _attributes(cells.table, scores, split_of, second)
    yield from _within_type(cells.table, scores, split_of)


def _types(
    judge: Judge,
    features: torch.Tensor,
    types: np.ndarray,
    key: str,
    where: str,
    target: float | None,
    clusters: np.ndarray | None = None,
    what: str = "type among 5, zero-shot",
    n: int | str | None = None,
    unseen: bool = False,
) -> Iterator[dict]:
    """Balanced accuracy and, type by type, recall; of a laboratory that is ``unseen``, without its mean vector, too.

    What all pictures of a laboratory have in common is in the mean of their vectors, and may speak for one type. To
    subtract it needs no label, but pictures of all types.
    """
    names = np.array(CELL_TYPES)
    first = (features @ judge.classes(TYPES).T).argmax(1).numpy()
    present, sizes = np.unique(types, return_counts=True)
    counts = ", ".join(f"{size} {name}" for name, size in zip(present, sizes, strict=True))
    yield figure(
        f"{key}.type",
        f"{what} ({counts})",
        where,
        "balanced accuracy",
        balanced_accuracy(types, names[first], clusters=clusters),
        target,
        n or len(types),
        chance=1 / len(names),
        always_the_commonest=1 / len(present),
    )
    for name in present:
        own = types == name
        yield figure(
            f"{key}.type.{name}",
            f"recall of {name}",
            where,
            "recall",
            bootstrap_mean((names[first] == name)[own], clusters=None if clusters is None else clusters[own]),
            n=int(own.sum()),
        )
    if unseen:
        without = ((features - features.mean(0)) @ judge.classes(TYPES).T).argmax(1).numpy()
        gain = paired_difference(types, names[without], names[first], measure="balanced accuracy", clusters=clusters)
        yield figure(
            f"{key}.type.without_mean",
            "the same, less the mean vector of all these pictures (no label used)",
            where,
            "balanced accuracy",
            balanced_accuracy(types, names[without], clusters=clusters),
            n=n or len(types),
            details={"gain": [round(float(value), 4) for value in gain]},
            as_they_are=balanced_accuracy(types, names[first], clusters=clusters),
        )


def _attribute_scores(judge: Judge, features: torch.Tensor, name: str) -> np.ndarray:
    """float [N, values]: cosine with each value's phrases."""
    return (features @ judge.classes(ATTRIBUTE_PHRASES[name]).T).numpy()


def _codes(column: pd.Series, name: str) -> np.ndarray:
    return pd.Categorical(column, categories=ATTRIBUTES[name]).codes.astype(int)


def readers(second: pd.DataFrame) -> pd.DataFrame:
    """How well two people agree, attribute by attribute: macro_f1 (the first reading as truth) and kappa."""
    first, other = (second[second["reader"] == reader].set_index("id").sort_index() for reader in (1, 2))
    rows = {
        name: {
            "macro_f1": macro_f1(_codes(first[name], name), _codes(other[name], name), len(values)),
            "kappa": float(cohen_kappa_score(first[name], other[name])),
        }
        for name, values in ATTRIBUTES.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _attributes(table: pd.DataFrame, scores: dict[str, np.ndarray], split_of: str, second: pd.DataFrame):
    """Each attribute by its phrases: the value whose phrases fit best."""
    people = readers(second)
    names, sizes = list(ATTRIBUTES), [len(values) for values in ATTRIBUTES.values()]
    truth = np.stack([_codes(table[name], name) for name in names], axis=1)
    said = np.stack([scores[name].argmax(1) for name in names], axis=1)
    common = np.stack([np.full(len(table), np.bincount(column).argmax()) for column in truth.T], axis=1)

    def mean(t: np.ndarray, p: np.ndarray) -> float:
        return float(np.mean([macro_f1(t[:, k], p[:, k], sizes[k]) for k in range(len(names))]))

    yield figure(
        "pbc.attributes",
        "eleven attributes, each by its phrases",
        _name(split_of),
        "mean macro-F1",
        bootstrap(mean, truth, said),
        0.915,
        len(table),
        second_reader=people["macro_f1"].mean(),
        supervised_ResNet_50=WBCATT_RESNET50.macro_f1,
        always_the_commonest=mean(truth, common),
        details={"read_twice": len(second) // 2, "kappa_of_two_readers": round(float(people["kappa"].mean()), 4)},
    )
    yield figure(
        "pbc.attributes.accuracy",
        "the same",
        _name(split_of),
        "mean accuracy",
        bootstrap_mean((truth == said).mean(1)),
        n=len(table),
        supervised_ResNet_50=WBCATT_RESNET50.accuracy,
        always_the_commonest=(truth == common).mean(),
    )
    for k, name in enumerate(names):
        yield figure(
            f"pbc.attribute.{name}",
            name.replace("_", " "),
            _name(split_of),
            "macro-F1",
            bootstrap(lambda t, p, size=sizes[k]: macro_f1(t, p, size), truth[:, k], said[:, k]),
            n=len(table),
            second_reader=people.loc[name, "macro_f1"],
            kappa_of_two_readers=people.loc[name, "kappa"],
            always_the_commonest=macro_f1(truth[:, k], common[:, k], sizes[k]),
        )


def _within_type(table: pd.DataFrame, scores: dict[str, np.ndarray], split_of: str) -> Iterator[dict]:
    """AUROC of each value against its attribute's others among the cells of one type: type alone tells nothing here."""
    types = table["cell_type"].to_numpy()
    pairs, truths, values_scores = [], [], []
    for cell_type in CELL_TYPES:
        own = types == cell_type
        for name, values in ATTRIBUTES.items():
            for k, value in enumerate(values):
                has = (table[name] == value).to_numpy()
                if min((has & own).sum(), (~has & own).sum()) >= OFTEN:
                    others = np.delete(scores[name], k, axis=1).max(1)
                    pairs.append(f"{cell_type}: {name} {value}")
                    truths.append(np.where(own, has.astype(float), np.nan))
                    values_scores.append(scores[name][:, k] - others)
    if not pairs:
        return
    truths, values_scores = np.stack(truths, 1), np.stack(values_scores, 1)
    each = [macro_auroc(truths[:, k : k + 1], values_scores[:, k : k + 1], n=2).value for k in range(len(pairs))]
    yield figure(
        "pbc.attributes.within",
        f"an attribute's value within one type, both sides at least {OFTEN} times",
        _name(split_of),
        f"mean AUROC over {len(pairs)} pairs",
        macro_auroc(truths, values_scores),
        0.88,
        len(table),
        chance=0.5,
        details={
            pair: round(float(value), 4) for pair, value in sorted(zip(pairs, each, strict=True), key=lambda p: p[1])
        },
    )


# --- KRD --------------------------------------------------------------------------------------------------------------


class Krd(NamedTuple):
    """KRD fields: their table, masks bool [N, H, W], vectors and patches of the field, and vectors of a crop."""

    table: pd.DataFrame
    masks: np.ndarray
    encodings: object
    crops: torch.Tensor
    stain: np.ndarray


def look_at_krd(judge: Judge, folder: Path, everything: bool = False) -> Krd:
    """Encode the sixty fields that no training sees; or all of them, if the model saw no picture of KRD."""
    table = read_krd(folder, None if everything else True)
    with tempfile.TemporaryDirectory() as place:
        images = [Image.open(p).convert("RGB") for p in unpack(folder / "pictures.zip", table["member"], Path(place))]
        masks = [np.asarray(Image.open(p)) > 0 for p in unpack(folder / "pictures.zip", table["mask"], Path(place))]
    kept = [k for k, mask in enumerate(masks) if mask.any()]
    images, masks, table = [images[k] for k in kept], np.stack([masks[k] for k in kept]), table.iloc[kept]
    return Krd(
        table.reset_index(drop=True),
        masks,
        judge.encode(images, tokens=True),
        judge.encode([square_around(i, m) for i, m in zip(images, masks, strict=True)]).features,
        stain_maps(pixels(judge.processor, images), judge.grid).numpy(),
    )


def grade_krd(judge: Judge, fields: Krd, where: str, unseen: bool = False) -> Iterator[dict]:
    """Where "white blood cell" points in a field, and the type, on the field and on a square around the cell."""
    maps = judge.maps(fields.encodings, ["white blood cell", "background"])
    shares = helpers.tokens.patch_shares(fields.masks, judge.grid)
    centre = centre_prior(judge.grid, len(maps))
    groups = fields.table["group"].to_numpy()
    # The pixel at the middle of the best patch decides, as a reader of the map would have it.
    yield figure(
        "krd.map.points",
        '"white blood cell" points into its mask, whole field',
        where,
        "pointing game",
        bootstrap_mean(pointing_hits(maps[:, 0], fields.masks), clusters=groups),
        0.95,
        len(maps),
        centre_prior=bootstrap_mean(pointing_hits(centre, fields.masks)),
        colour_threshold=bootstrap_mean(pointing_hits(fields.stain, fields.masks)),
        shuffled_text=bootstrap_mean(pointing_hits(maps[:, 1], fields.masks)),
    )
    yield figure(
        "krd.map.area",
        '"white blood cell" against the mask\'s share of each patch, whole field',
        where,
        "patch AUROC",
        bootstrap_mean(patch_aurocs(maps[:, 0], shares), clusters=groups),
        n=len(maps),
        centre_prior=bootstrap_mean(patch_aurocs(centre, shares)),
        colour_threshold=bootstrap_mean(patch_aurocs(fields.stain, shares)),
        shuffled_text=bootstrap_mean(patch_aurocs(maps[:, 1], shares)),
    )
    types = fields.table["cell_type"].to_numpy()
    whole, around = "type among 5, zero-shot, whole field", "type among 5, zero-shot, square around the cell"
    yield from _types(judge, fields.encodings.features, types, "krd.field", where, 0.75, groups, whole, unseen=unseen)
    yield from _types(judge, fields.crops, types, "krd.crop", where, None, groups, around, unseen=unseen)


# --- BCCD -------------------------------------------------------------------------------------------------------------


def _count(what: str, sources: np.ndarray) -> str:
    return f"{len(sources)} {what} of {len(set(sources))} photographs"


def grade_bccd(judge: Judge, folder: Path, counts: Path, everything: bool = False) -> Iterator[dict]:
    """Crops of one photograph share its stain and its focus, so photographs are resampled, not crops."""
    _, types = load_annotations(folder)
    names = sorted(types.index) if everything else split(types)[1]
    where = "BCCD, all (never trained on)" if everything else "BCCD held out"
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

    images = [crop.image for crop in off_centre]
    sources = np.array([crop.photograph for crop in off_centre])
    maps = judge.maps(judge.encode(images, tokens=True), ["nucleus", "background"])
    masks = np.zeros((len(images), SIZE, SIZE), bool)
    for mask, crop in zip(masks, off_centre, strict=True):
        xmin, ymin, xmax, ymax = (round(v) for v in crop.box)
        mask[max(ymin, 0) : ymax, max(xmin, 0) : xmax] = True
    # The pixel at the middle of the largest patch decides: a box is coarse enough.
    yield figure(
        "bccd.map.points",
        '"nucleus" points into the white cell\'s box, cell off-centre',
        where,
        "pointing game",
        bootstrap_mean(pointing_hits(maps[:, 0], masks), clusters=sources),
        0.95,
        _count("crops", sources),
        centre_prior=bootstrap_mean(pointing_hits(centre_prior(judge.grid, len(images)), masks)),
        colour_threshold=bootstrap_mean(
            pointing_hits(stain_maps(pixels(judge.processor, images), judge.grid).numpy(), masks)
        ),
        shuffled_text=bootstrap_mean(pointing_hits(maps[:, 1], masks)),
    )
    typed = [crop for crop in centred if crop.cell_type is not None]
    labels = np.array([crop.cell_type for crop in typed])
    sources = np.array([crop.photograph for crop in typed])
    features = judge.encode([crop.image for crop in typed]).features
    n = _count("cells", sources)
    yield from _types(judge, features, labels, "bccd", where, 0.80, sources, n=n, unseen=everything)


# --- laboratories left out --------------------------------------------------------------------------------------------

LEFT_OUT = {"PBC": ("pbc.type", 0.85), "BCCD": ("bccd.type", 0.80), "KRD": ("krd.crop.type", 0.78)}
"""Laboratory → (the row of the model that never saw it, target)."""


def grade_left_out(folders: dict[str, Path]) -> Iterator[dict]:
    """The table of laboratories left out: of each model its row on the laboratory that it never saw.

    Args:
        folders: laboratory → folder of the model trained without it, with its evaluation.json.

    Raises:
        ValueError: no such laboratory, no evaluation, or one that did not grade the laboratory.
    """
    for laboratory, folder in folders.items():
        if laboratory not in LEFT_OUT:
            raise ValueError(f"There is no laboratory {laboratory!r} to leave out: choose from {', '.join(LEFT_OUT)}.")
        key, target = LEFT_OUT[laboratory]
        file = folder / "evaluation.json"
        if not file.is_file():
            raise ValueError(
                f"{folder.name}: no evaluation.json. Grade that model first, with --never-saw {laboratory}."
            )
        rows = {row.get("key"): row for row in json.loads(file.read_text("utf-8"))}
        if key not in rows or rows[key]["details"].get("never_saw") != laboratory:
            raise ValueError(f"{folder.name}: its evaluation has no {key}. Grade it with --never-saw {laboratory}.")
        row = rows[key]
        yield figure(
            f"left_out.{laboratory}",
            f"laboratory left out: {laboratory}; {row['what']}",
            row["where"],
            row["measure"],
            Estimate(row["value"], row["low"], row["high"]),
            target,
            row["n"],
            **row["controls"],
        )
