"""Does it know what it does not know? Words of no caption, denials, pictures without cells, what the sigmoid means.

scikit-image's own pictures are graded here, so no training may see them; nor the words of `foreign_test_words.txt`, nor
the wordings of `UNHEARD`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from helpers.bloodcells import CELL_TYPES, CONCEPTS, GUIDE_CONCEPTS, part_shares, render, truth
from helpers.metrics import bootstrap, bootstrap_mean, expected_calibration_error

from .grading import Judge, figure
from .photographs import SIZE

FOREIGN_WORDS = Path(__file__).with_name("foreign_test_words.txt")
FRAMES = (
    "{}",
    "a photo of {}",
    "a cell photo with sign of {}",
    "a blood cell image with {}",
    "there is {} in the image",
)
"""Sentences around a word: a model must not be won over by the frame."""

LOW = 0.1
"""The sigmoid of what is not true should be at most this."""

DENIALS = (
    ("no {}", "{}"),
    ("without {}", "{}"),
    ("absence of {}", "{}"),
    ("no sign of {}", "{}"),
    ("{} is absent", "{}"),
    ("there is no {}", "there is {}"),
    ("a cell without {}", "a cell with {}"),
    ("a blood smear with no {}", "a blood smear with {}"),
)
"""(denial, what it denies), in usual wordings."""

UNHEARD = (
    ("negative for {}", "{}"),
    ("{} cannot be found", "{}"),
    ("there is nothing like {}", "there is {}"),
    ("{}: none", "{}"),
)
"""The same in wordings that no training uses."""

DENIED = (
    *("white cell", "nucleus", "cytoplasm", "granules", "red cells", "platelets"),
    *GUIDE_CONCEPTS,
    *("bilobed nucleus", "dense chromatin", "frosted cytoplasm"),
    *CELL_TYPES,
)
"""The concepts that are denied, each by its first phrase."""

EMPTY_FIELDS = 100
EMPTY_SEED = 7_500_000
"""Seeds of drawn fields without a white cell start here."""

PHOTOGRAPHS = (
    *(
        "astronaut.png",
        "brick.png",
        "camera.png",
        "chelsea.png",
        "chessboard_GRAY.png",
        "clock_motion.png",
        "coffee.png",
    ),
    *("coins.png", "color.png", "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg", "logo.png"),
    *("microaneurysms.png", "moon.png", "motorcycle_left.png", "page.png", "phantom.png", "retina.jpg", "rocket.jpg"),
    "text.png",
)
"""What scikit-image ships inside its package, without a download; not cell.png and ihc.png, which show cells."""

SQUARES = 3
"""So many random squares are cut from each photograph, beside the whole."""

DRAWN = 12
"""So many pictures of each kind are drawn."""


# --- words of no caption ----------------------------------------------------------------------------------------------


def foreign_words() -> list[str]:
    """The words of `foreign_test_words.txt`."""
    lines = (line.strip() for line in FOREIGN_WORDS.read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def grade_foreign(judge: Judge, cells: dict[str, torch.Tensor]) -> Iterator[dict]:
    """How often the sigmoid of a word of no caption is low, in several sentences. Words are resampled, not pictures.

    Args:
        cells: name of a set → float32 [N, D], vectors of pictures that show a cell. The sets count alike.
    """
    words = foreign_words()
    vectors = judge.texts(frame.format(word) for word in words for frame in FRAMES)
    low = {
        name: (judge.sigmoid(features, vectors) <= LOW).mean(0).reshape(len(words), len(FRAMES))
        for name, features in cells.items()
    }
    by_word = np.mean([share.mean(1) for share in low.values()], axis=0)
    worst = sorted(zip(words, by_word, strict=True), key=lambda pair: pair[1])[:10]
    yield figure(
        "unknown.words",
        f"a word of no caption, on any cell: sigmoid ≤ {LOW}",
        ", ".join(cells),
        "share of pairs",
        bootstrap_mean(by_word),
        0.99,
        f"{len(words)} words in {len(FRAMES)} sentences on {sum(map(len, cells.values()))} pictures",
        **{name.replace(" ", "_"): share.mean() for name, share in low.items()},
        details={
            "by_sentence": {
                frame: round(float(np.mean([share[:, k].mean() for share in low.values()])), 4)
                for k, frame in enumerate(FRAMES)
            },
            "worst": {word: round(float(share), 4) for word, share in worst},
        },
    )


# --- what the sigmoid says of what is known ---------------------------------------------------------------------------


def grade_sigmoid(judge: Judge, features: torch.Tensor, table: pd.DataFrame, where: str) -> Iterator[dict]:
    """Low for what is not true is worth nothing if it is low for what is: the same sigmoid on what is known of a cell.

    Args:
        features: float32 [N, D].
        table: a 0/1/NaN column for each concept.
    """
    known = table[list(CONCEPTS)].to_numpy(float)
    phrases = ["a cell photo with sign of " + concept.phrases[0] for concept in CONCEPTS.values()]
    said = judge.sigmoid(features, judge.texts(phrases))
    for key, what, wanted, right in (
        ("true", "a phrase that is true of a cell: sigmoid ≥ 0.5", 1, said >= 0.5),
        ("false", f"a cell's phrase that is not true of it: sigmoid ≤ {LOW}", 0, said <= LOW),
    ):
        pairs = known == wanted
        hits = np.where(pairs, right, np.nan)
        with np.errstate(invalid="ignore"):
            each = np.nansum(hits, axis=1) / pairs.sum(1)
        yield figure(
            f"sigmoid.{key}", what, where, "share of pairs, cell by cell", bootstrap_mean(each), n=int(pairs.sum())
        )
    decided = ~np.isnan(known)
    yield figure(
        "sigmoid.ece",
        "calibration of the sigmoid over all phrases that are true or not",
        where,
        "expected calibration error",
        expected_calibration_error(known[decided], said[decided], n=100),
        n=int(decided.sum()),
        at_most=True,
    )


# --- denials ----------------------------------------------------------------------------------------------------------


class Witness(NamedTuple):
    """Pictures whose truth is known: float32 [N, D] and a 0/1/NaN column for each concept."""

    features: torch.Tensor
    table: pd.DataFrame


def empty_fields(judge: Judge) -> Witness:
    """Drawn fields of red cells and platelets without a white cell."""
    pictures = [render(None, EMPTY_SEED + number, SIZE) for number in range(EMPTY_FIELDS)]
    table = pd.DataFrame([truth(None, part_shares(picture.masks)) for picture in pictures]).astype(float)
    return Witness(judge.encode([picture.image for picture in pictures]).features, table)


def denial_hits(judge: Judge, features: torch.Tensor, table: pd.DataFrame, wordings) -> np.ndarray:
    """float [N, concepts, wordings]: 1 where denial and assertion stand in the right order, NaN where nobody knows."""
    phrases = [CONCEPTS[key].phrases[0] for key in DENIED]
    denials = judge.texts(no.format(phrase) for phrase in phrases for no, _ in wordings)
    claims = judge.texts(yes.format(phrase) for phrase in phrases for _, yes in wordings)
    above = (features @ (denials - claims).T).numpy().reshape(len(features), len(phrases), len(wordings))
    known = table[list(DENIED)].to_numpy(float)[:, :, None]
    return np.where(np.isnan(known), np.nan, np.where(known == 1, above < 0, above > 0))


def balanced_hits(hits: np.ndarray, known: np.ndarray) -> float:
    """Mean over concepts and over absent and present, each counting alike: hits and known float [N, concepts]."""
    rates = []
    for value in (0, 1):
        pairs = known == value
        counts = pairs.sum(0)
        rates.append((np.where(pairs, hits, 0).sum(0)[counts > 0] / counts[counts > 0]).mean())
    return float(np.mean(rates))


def grade_denials(judge: Judge, witnesses: dict[str, Witness]) -> Iterator[dict]:
    """ "no X" above "X" where X is absent, below where it is there."""
    features = torch.cat([witness.features for witness in witnesses.values()])
    table = pd.concat([witness.table[list(DENIED)] for witness in witnesses.values()], ignore_index=True)
    known = table.to_numpy(float)
    for key, what, wordings, target in (
        ("usual", '"no X" above "X" where X is absent, below where it is there', DENIALS, 0.97),
        ("unheard", "the same in wordings that no training uses", UNHEARD, None),
    ):
        hits = denial_hits(judge, features, table, wordings)
        mean = hits.mean(2)
        rates = {value: {} for value in (0, 1)}
        for value, of in rates.items():
            for k, concept in enumerate(DENIED):
                if (known[:, k] == value).any():
                    of[concept] = round(float(mean[known[:, k] == value, k].mean()), 4)
        yield figure(
            f"unknown.denials.{key}",
            f"{what}, {len(DENIED)} phrases in {len(wordings)} wordings",
            ", ".join(witnesses),
            "share of pairs, concepts and both sides alike",
            bootstrap(balanced_hits, mean, known, n=300),
            target,
            len(known),
            where_absent=np.mean(list(rates[0].values())),
            where_present=np.mean(list(rates[1].values())),
            details={
                "by_wording": {no: round(balanced_hits(hits[:, :, k], known), 4) for k, (no, _) in enumerate(wordings)},
                "absent": rates[0],
                "present": rates[1],
            },
        )


# --- pictures without cells -------------------------------------------------------------------------------------------


def cell_phrases() -> list[str]:
    """Every phrase that only a cell can make true: not the background, and not "no granules"."""
    concepts = [concept for concept in CONCEPTS.values() if concept.part not in (None, "background")]
    return [phrase for concept in concepts for phrase in concept.phrases]


def scikit_image_pictures(rng: np.random.Generator) -> dict[str, list[Image.Image]]:
    """Name → the whole picture and squares of it."""
    found = {}
    for name in PHOTOGRAPHS:
        with (files("skimage") / "data" / name).open("rb") as file:
            picture = Image.open(file).convert("RGB")
        found[name] = [picture]
        for _ in range(SQUARES):
            side = int(rng.uniform(0.25, 0.7) * min(picture.size))
            left, top = (int(rng.uniform(0, length - side)) for length in picture.size)
            found[name].append(picture.crop((left, top, left + side, top + side)))
    return found


def _as_image(field: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """A field [H, W] between two random colours, or [H, W, 3] as it is; 0 to 1."""
    if field.ndim == 2:
        first, second = rng.uniform(0, 1, (2, 3))
        field = first + (second - first) * field[..., None]
    return Image.fromarray((field.clip(0, 1) * 255).astype(np.uint8))


def mosaic(rng: np.random.Generator) -> Image.Image:
    """Tiles around random points, each of its own grey."""
    count = int(rng.integers(8, 200))
    places = np.stack(np.mgrid[:SIZE, :SIZE], -1).reshape(-1, 2)
    nearest = cKDTree(rng.uniform(0, SIZE, (count, 2))).query(places)[1]
    return _as_image(rng.uniform(0, 1, count)[nearest].reshape(SIZE, SIZE), rng)


def fractal(rng: np.random.Generator) -> Image.Image:
    """A Julia set: how soon a point runs away."""
    y, x = np.mgrid[-1.2 : 1.2 : SIZE * 1j, -1.2 : 1.2 : SIZE * 1j]
    z, c = x + 1j * y, 0.79 * np.exp(1j * rng.uniform(0, 2 * np.pi))
    steps = np.zeros(z.shape)
    for _ in range(40):
        inside = np.abs(z) < 2
        z = np.where(inside, z**2 + c, z)
        steps += inside
    return _as_image(steps / 40, rng)


def contours(rng: np.random.Generator) -> Image.Image:
    """The lines of equal height of a random landscape."""
    height = gaussian_filter(rng.standard_normal((SIZE, SIZE)), rng.uniform(8, 30))
    return _as_image((np.sin(height / height.std() * rng.uniform(3, 12)) > 0.6).astype(float), rng)


def wood(rng: np.random.Generator) -> Image.Image:
    """Grain: noise drawn out in one direction."""
    field = gaussian_filter(rng.standard_normal((SIZE, SIZE)), (rng.uniform(20, 60), rng.uniform(0.5, 3)))
    return _as_image((field - field.min()) / np.ptp(field), rng)


def written(rng: np.random.Generator) -> Image.Image:
    """A page of words."""
    words = [
        "the",
        "report",
        "of",
        "this",
        "morning",
        "was",
        "read",
        "to",
        "nobody",
        "before",
        "noon",
        "in",
        "1984",
        "27",
    ]
    ground = int(rng.choice([0, 255]))
    image = Image.new("RGB", (SIZE, SIZE), (ground,) * 3)
    size = int(rng.uniform(10, 44))
    for line in range(SIZE // (size + 4) + 1):
        text = " ".join(rng.choice(words, 12))
        ImageDraw.Draw(image).text((6, line * (size + 4)), text, (255 - ground,) * 3, ImageFont.load_default(size))
    return image


def noise(rng: np.random.Generator) -> Image.Image:
    """Every pixel by itself: even, bell-shaped, or black and white."""
    kind = rng.integers(3)
    shape = (SIZE, SIZE, 3)
    if kind == 0:
        return _as_image(rng.uniform(0, 1, shape), rng)
    if kind == 1:
        return _as_image(rng.normal(rng.uniform(0.2, 0.8), 0.2, shape), rng)
    return _as_image((rng.uniform(0, 1, shape[:2]) < rng.uniform(0.02, 0.5)).astype(float), rng)


def plain(rng: np.random.Generator) -> Image.Image:
    """One colour."""
    return Image.new("RGB", (SIZE, SIZE), tuple(int(c) for c in rng.uniform(0, 256, 3)))


KINDS = {
    "textures": (mosaic, fractal, contours, wood),
    "text": (written,),
    "noise": (noise,),
    "plain colours": (plain,),
}


def without_cells() -> dict[str, list[tuple[str, Image.Image]]]:
    """Kind → (source, picture): always the same ones."""
    rng = np.random.default_rng(EMPTY_SEED)
    photographs = scikit_image_pictures(rng)
    result = {"photographs": [(name, picture) for name, pictures in photographs.items() for picture in pictures]}
    for kind, makers in KINDS.items():
        result[kind] = [(f"{make.__name__} {k}", make(rng)) for make in makers for k in range(DRAWN)]
    fixed = ((0, 0, 0), (255, 255, 255), (246, 224, 205))  # the last is the ground of a stained smear
    result["plain colours"] += [(f"plain {colour}", Image.new("RGB", (SIZE, SIZE), colour)) for colour in fixed]
    return result


def grade_without_cells(judge: Judge) -> Iterator[dict]:
    """How often the sigmoid of a cell's phrase is low where no cell is. A photograph's squares are resampled as one."""
    kinds = without_cells()
    phrases = cell_phrases()
    vectors = judge.texts(
        frame.format(phrase) for phrase in phrases for frame in ("{}", "a cell photo with sign of {}")
    )
    sources = np.array([source for pictures in kinds.values() for source, _ in pictures])
    kind = np.array([name for name, pictures in kinds.items() for _ in pictures])
    features = judge.encode([picture for pictures in kinds.values() for _, picture in pictures]).features
    low = judge.sigmoid(features, vectors) <= LOW
    by_picture = low.mean(1)
    worst = pd.Series(by_picture).groupby(sources).mean().nsmallest(10)
    by_phrase = pd.Series(low.mean(0).reshape(len(phrases), 2).mean(1), phrases).nsmallest(10)
    yield figure(
        "unknown.pictures",
        f"pictures without cells: sigmoid of every cell phrase ≤ {LOW}",
        "scikit-image's pictures, drawn ones",
        "share of pairs",
        bootstrap_mean(by_picture, clusters=sources),
        0.99,
        f"{len(phrases)} phrases in 2 sentences on {len(sources)} pictures of {len(set(sources))} sources",
        **{name.replace(" ", "_"): by_picture[kind == name].mean() for name in kinds},
        details={
            "worst_pictures": worst.round(4).to_dict(),
            "worst_phrases": by_phrase.round(4).to_dict(),
            "pictures_without_any": round(float(low.all(1).mean()), 4),
        },
    )
