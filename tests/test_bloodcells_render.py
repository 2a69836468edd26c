"""The renderer keeps its promises: same seed, same bytes; one attribute, one change; masks that say what was drawn."""

import hashlib
import io
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from helpers.bloodcells import ATTRIBUTES, CELL_TYPES, PARTS, Cell, attribute_counts, render, sample_cell

NEUTROPHIL = Cell(
    "neutrophil", "big", "round", "segmented-multilobed", "low", "densely", "no", "clear", "light blue",
    "small", "pink", "yes",
)  # fmt: skip


def decorrelated(seed):
    return sample_cell(np.random.default_rng(seed), "decorrelated")


def pixels(picture):
    return np.asarray(picture.image, dtype=np.int16)


# ------------------------------------------------------------------------------------------------ attributes


def test_counts_are_wbcatts():
    counts = attribute_counts()
    assert sum(counts.values()) == 10_298 - 3
    assert {cell.cell_type for cell in counts} == set(CELL_TYPES)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cell_size": "huge"}, "cell_size: 'huge'"),
        ({"cell_type": "platelet"}, "cell_type: 'platelet'"),
        ({"granularity": "yes", "granule_type": "nil", "granule_colour": "red"}, "contradict"),
        ({"granule_type": "small", "granule_colour": "nil"}, "contradict"),
    ],
)
def test_a_cell_that_cannot_be_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        NEUTROPHIL.replace(**change)


def test_replace_keeps_the_granule_attributes_consistent():
    bare = NEUTROPHIL.replace(granularity="no")
    assert (bare.granularity, bare.granule_type, bare.granule_colour) == ("no", "nil", "nil")
    assert NEUTROPHIL.replace(granule_type="nil") == NEUTROPHIL.replace(granule_colour="nil") == bare
    assert bare.replace(granule_type="small", granule_colour="pink") == NEUTROPHIL
    with pytest.raises(ValueError, match=r"'yes'.*'nil'.*'nil'"):
        bare.replace(granularity="yes")


def test_balanced_draws_types_equally_often_and_natural_as_wbcatt():
    rng = np.random.default_rng(0)
    balanced = [sample_cell(rng, "balanced").cell_type for _ in range(2000)]
    assert all(0.16 < balanced.count(name) / 2000 < 0.24 for name in CELL_TYPES)
    natural = [sample_cell(rng).cell_type for _ in range(2000)]
    counts = attribute_counts()
    for name in CELL_TYPES:
        expected = sum(n for cell, n in counts.items() if cell.cell_type == name) / sum(counts.values())
        assert natural.count(name) / 2000 == pytest.approx(expected, abs=0.04)
    assert {sample_cell(rng, cell_type="monocyte").cell_type for _ in range(20)} == {"monocyte"}


def test_decorrelated_is_uniform_and_independent():
    rng = np.random.default_rng(0)
    cells = [sample_cell(rng, "decorrelated") for _ in range(3000)]
    for name, values in ATTRIBUTES.items():
        with_granules = [cell for cell in cells if cell.granularity == "yes"] if name.startswith("granule_") else cells
        options = [value for value in values if value != "nil"]
        for value in options:
            share = np.mean([getattr(cell, name) == value for cell in with_granules])
            assert share == pytest.approx(1 / len(options), abs=0.05), (name, value)
    columns = np.array(
        [[ATTRIBUTES[name].index(getattr(cell, name)) for name in list(ATTRIBUTES)[:8]] for cell in cells]
    )
    assert np.abs(np.corrcoef(columns.T) - np.eye(8)).max() < 0.08


@pytest.mark.parametrize(
    ("design", "cell_type"), [("uniform", None), ("natural", "erythrocyte"), ("decorrelated", "monocyte")]
)
def test_an_unknown_design_or_type_is_refused(design, cell_type):
    with pytest.raises(ValueError, match=r"design|cell_type"):
        sample_cell(np.random.default_rng(0), design, cell_type)


# ----------------------------------------------------------------------------------------------- determinism

DIGEST = """
import hashlib, numpy as np
from helpers.bloodcells import PARTS, render, sample_cell
digest, rng = hashlib.sha256(), np.random.default_rng(0)
for seed in range(12):
    picture = render(sample_cell(rng, ("balanced", "decorrelated")[seed % 2]), seed, size=(224, 160)[seed % 2])
    digest.update(picture.jpeg)
    for part in PARTS:
        digest.update(np.packbits(picture.masks[part]).tobytes())
print(digest.hexdigest())
"""


def test_the_same_seed_gives_the_same_bytes_on_a_lesser_cpu():
    """numpy's code for wide vector units may differ in the last digit; no pixel may depend on it."""
    outputs = []
    for without in ("", "X86_V3 X86_V4 AVX512_ICL AVX512_SPR AVX2 FMA3 AVX512F AVX512_SKX"):
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": without, "PYTHONWARNINGS": "ignore"}
        run = subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, check=True, timeout=1200
        )
        outputs.append(run.stdout.strip())
    assert outputs[0] == outputs[1]


def test_other_seed_other_picture():
    digests = {hashlib.sha256(render(NEUTROPHIL, seed).jpeg).hexdigest() for seed in range(6)}
    assert len(digests) == 6


def test_the_image_is_the_jpeg():
    picture = render(NEUTROPHIL, 3)
    assert np.array_equal(pixels(picture), np.asarray(Image.open(io.BytesIO(picture.jpeg)), dtype=np.int16))
    assert picture.image.mode == "RGB"
    assert picture.image.size == (224, 224)


# ------------------------------------------------------------------------------------- one attribute, one change

CHANGES = [(name, value) for name, values in ATTRIBUTES.items() for value in values if name != "granularity"]


@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_one_attribute_changes_only_the_white_cell(name, value, seed):
    cell = decorrelated(seed).replace(granule_type="round", granule_colour="purple")
    if getattr(cell, name) == value:
        return
    before, after = render(cell, seed), render(cell.replace(**{name: value}), seed)
    body = np.zeros((224, 224), dtype=bool)
    for picture in (before, after):
        left, top, right, bottom = picture.box
        margin = 26  # blur, sharpening and JPEG blocks reach past the cell's edge
        body[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin] = True
    assert np.array_equal(pixels(before)[~body], pixels(after)[~body])
    for part in ("red cells", "platelets"):
        assert np.array_equal(before.masks[part][~body], after.masks[part][~body])
    assert not np.array_equal(pixels(before), pixels(after)), "the attribute must be seen"


def test_a_colour_moves_nothing():
    cell = NEUTROPHIL.replace(cytoplasm_vacuole="yes")
    for change in ({"granule_colour": "red"}, {"cytoplasm_colour": "purple blue"}, {"chromatin_density": "loosely"}):
        before, after = render(cell, 21), render(cell.replace(**change), 21)
        for part in PARTS:
            assert np.array_equal(before.masks[part], after.masks[part]), (part, change)


def test_the_colour_seed_changes_colours_alone():
    one, other = render(NEUTROPHIL, 5, colour_seed=1), render(NEUTROPHIL, 5, colour_seed=2)
    assert all(np.array_equal(one.masks[part], other.masks[part]) for part in PARTS)
    assert np.abs(pixels(one) - pixels(other)).mean() > 5


# --------------------------------------------------------------------------------------------------- the truth


@pytest.mark.parametrize("seed", range(24))
def test_masks_agree_with_the_attributes_and_each_other(seed):
    cell = decorrelated(seed)
    picture = render(cell, seed, offset=(0.0, 0.0))
    masks = picture.masks
    assert set(masks) == set(PARTS)
    assert all(mask.dtype == bool and mask.shape == (224, 224) for mask in masks.values())
    body = masks["nucleus"] | masks["cytoplasm"]
    assert not (masks["nucleus"] & masks["cytoplasm"]).any()
    assert not (masks["granules"] & ~body).any()
    assert not (masks["vacuoles"] & ~body).any()
    assert not (masks["granules"] & masks["vacuoles"]).any()
    assert not ((masks["red cells"] | masks["platelets"]) & body).any()
    assert masks["granules"].any() == (cell.granularity == "yes")
    assert masks["vacuoles"].any() == (cell.cytoplasm_vacuole == "yes")
    rows, columns = np.nonzero(body)
    assert picture.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert masks["cytoplasm"].sum() > 0.1 * body.sum(), "a rim of cytoplasm must be left"


def test_attributes_are_seen_in_the_masks():
    def share(part, **change):
        values = []
        for seed in range(10):
            cell = decorrelated(seed).replace(granule_type="coarse", granule_colour="purple").replace(**change)
            masks = render(cell, seed, offset=(0.0, 0.0)).masks
            body = masks["nucleus"] | masks["cytoplasm"]
            values.append((masks[part] & body).sum() / body.sum() if part else body.sum())
        return np.array(values)

    assert (
        share("nucleus", nuclear_cytoplasmic_ratio="high") > share("nucleus", nuclear_cytoplasmic_ratio="low")
    ).all()
    assert (share(None, cell_size="big") > 1.3 * share(None, cell_size="small")).all()


def test_basophil_granules_lie_over_the_nucleus_and_neutrophil_ones_beside_it():
    coarse = NEUTROPHIL.replace(cell_type="basophil", granule_type="coarse", granule_colour="purple")
    for cell, over in ((coarse, True), (NEUTROPHIL, False)):
        masks = render(cell, 4, offset=(0.0, 0.0)).masks
        share = (masks["granules"] & masks["nucleus"]).sum() / masks["nucleus"].sum()
        assert (share > 0.1) if over else (share < 0.03)


def test_nucleus_is_darker_than_cytoplasm_in_every_laboratory():
    for seed in range(30):
        cell = decorrelated(seed).replace(granularity="no").replace(nuclear_cytoplasmic_ratio="low")
        picture = render(cell, seed, offset=(0.0, 0.0), scale=0.3)
        grey = pixels(picture).mean(axis=2)
        cytoplasm = picture.masks["cytoplasm"] & ~picture.masks["vacuoles"]
        assert np.median(grey[picture.masks["nucleus"]]) < np.median(grey[cytoplasm]) - 8, seed


def test_a_field_without_a_white_cell():
    picture = render(None, 8, red_cells=0.8, platelets=3)
    assert picture.cell is None
    assert picture.box is None
    assert picture.masks["red cells"].any()
    assert not any(picture.masks[part].any() for part in ("nucleus", "cytoplasm", "granules", "vacuoles"))


def test_what_the_caller_asks_for():
    assert not render(NEUTROPHIL, 1, red_cells=0).masks["red cells"].any()
    assert not render(NEUTROPHIL, 1, platelets=0).masks["platelets"].any()
    assert all(render(NEUTROPHIL, seed, platelets=3).masks["platelets"].any() for seed in range(5))
    left, top, right, bottom = render(NEUTROPHIL, 2, offset=(0.2, -0.1), scale=0.15, size=400).box
    assert (left + right) / 2 == pytest.approx(0.7 * 400, abs=16)
    assert (top + bottom) / 2 == pytest.approx(0.4 * 400, abs=16)
    one, twice = (render(NEUTROPHIL, 2, size=size).masks["nucleus"].mean() for size in (112, 448))
    assert one == pytest.approx(twice, rel=0.05)


@pytest.mark.parametrize(
    "arguments",
    [{"size": 8}, {"scale": 2.0}, {"red_cells": 3}, {"platelets": -1}, {"seed": -1}, {"cell": "neutrophil"}],
)
def test_bad_arguments_are_named(arguments):
    name = next(iter(arguments))
    with pytest.raises(ValueError, match=name):
        render(**{"cell": NEUTROPHIL, "seed": 0, **arguments})


def test_scenes_vary_as_promised():
    pictures = [render(sample_cell(np.random.default_rng(seed), "balanced"), seed, size=96) for seed in range(150)]
    without_red = np.mean([not picture.masks["red cells"].any() for picture in pictures])
    without_platelets = np.mean([not picture.masks["platelets"].any() for picture in pictures])
    assert 0.03 < without_red < 0.25
    assert 0.3 < without_platelets < 0.6
    boxes = np.array([picture.box for picture in pictures if picture.box]) / 96
    assert len(boxes) == 150, "the white cell is always at least partly in the picture"
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert 0.3 < (np.abs(centres - 0.5).max(axis=1) > 0.08).mean() < 0.7
    widths = (boxes[:, 2] - boxes[:, 0])[(boxes[:, :2] > 0).all(axis=1) & (boxes[:, 2:] < 1).all(axis=1)]
    assert widths.min() < 0.35
    assert widths.max() > 0.65


def test_it_is_fast_enough():
    cells = [decorrelated(seed) for seed in range(20)]
    render(cells[0], 0)
    start = time.process_time()
    for seed, cell in enumerate(cells):
        render(cell, seed)
    assert (time.process_time() - start) / len(cells) < 0.06  # 15 ms on an idle core; room for a busy laptop
