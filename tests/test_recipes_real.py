"""Real cells: how those that ship were chosen, and that near-copies are found. On small data made here."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import helpers
from helpers.bloodcells import ATTRIBUTES, CELL_TYPES, Cell
from recipes import laboratories, make_cells, near_copies

LYMPHOCYTE = ("small", "round", "unsegmented-round", "high", "densely", "no", "clear", "blue", "nil", "nil", "no")
NEUTROPHIL = ("big", "round", "unsegmented-band", "low", "densely", "no", "clear", "light blue", "small", "pink", "yes")


def table_of(rows):
    """WBCAtt's table of (name, split, type, attributes)."""
    table = pd.DataFrame([(name, split, kind, *values) for name, split, kind, values in rows])
    table.columns = ["name", "split", "cell_type", *ATTRIBUTES]
    return table


# --- what is true of a photograph -------------------------------------------------------------------------------------


def test_attributes_decide_what_they_say_and_nothing_else():
    granular = make_cells.attribute_truths(Cell("neutrophil", *NEUTROPHIL))
    assert granular["neutrophil"] and granular["band nucleus"] and granular["granules"] and granular["nucleus"]
    assert granular["lymphocyte"] is False and granular["no granules"] is False
    assert [granular[name] for name in ("red cells", "platelets", "background")] == [None] * 3
    without = make_cells.attribute_truths(Cell("lymphocyte", *LYMPHOCYTE))
    assert without["granules"] is False and without["no granules"] is True


def test_a_type_alone_decides_the_types_and_that_a_cell_is_there():
    truths = make_cells.type_truths("monocyte")
    known = {key for key, value in truths.items() if value is not None}
    assert known == {*CELL_TYPES, "white cell", "nucleus", "cytoplasm"}
    assert [name for name in CELL_TYPES if truths[name]] == ["monocyte"]


def test_rows_that_contradict_themselves_are_no_cell():
    row = dict(zip(ATTRIBUTES, NEUTROPHIL, strict=True)) | {"cell_type": "neutrophil"}
    assert make_cells.as_cell(row) == Cell("neutrophil", *NEUTROPHIL)
    assert make_cells.as_cell(row | {"granule_colour": "nil"}) is None


# --- the choice -------------------------------------------------------------------------------------------------------


@pytest.fixture
def pbc_table(monkeypatch):
    """Six cells a type and split; the last two of each show another shape."""
    monkeypatch.setattr(make_cells, "PER_TYPE", {"train": 4, "val": 3, "test": 4})
    monkeypatch.setattr(make_cells, "TYPICAL", 1)
    rare = ("small", *LYMPHOCYTE[1:2], "irregular", *LYMPHOCYTE[3:])
    return table_of(
        (f"{cell_type}-{split}-{k}", split, cell_type, rare if k >= 4 else LYMPHOCYTE)
        for split in ("train", "val", "test")
        for cell_type in CELL_TYPES
        for k in range(6)
    )


def test_the_choice_is_even_takes_the_twice_read_and_begins_with_typical_cells(pbc_table):
    second = {"monocyte-test-4", "monocyte-test-5", "monocyte-train-5"}
    left_out = {"basophil-train-0"}
    chosen = make_cells.choose_pbc(pbc_table, second, left_out)
    sizes = chosen.groupby(["split", "cell_type"]).size().unstack()
    assert sizes.loc[["train", "val", "test"]].to_numpy().tolist() == [[4] * 5, [3] * 5, [4] * 5]
    assert {"monocyte-test-4", "monocyte-test-5"} <= set(chosen["name"]) and not left_out & set(chosen["name"])
    for split in ("train", "val", "test"):
        first = chosen[chosen["split"] == split].head(5)
        assert first["cell_type"].tolist() == list(CELL_TYPES)
        assert (first["nucleus_shape"] == "unsegmented-round").all()
    again = make_cells.choose_pbc(pbc_table.sample(frac=1, random_state=0), second, left_out)
    assert again["name"].tolist() == chosen["name"].tolist()


def test_too_few_cells_for_the_choice(pbc_table):
    with pytest.raises(ValueError, match=r"test, monocyte.*3 .*PER_TYPE"):
        make_cells.choose_pbc(pbc_table, set(), {f"monocyte-test-{k}" for k in range(3)})


# --- laboratories -----------------------------------------------------------------------------------------------------


def test_only_the_split_that_is_asked_for(tmp_path):
    table = table_of([("a", "train", "lymphocyte", LYMPHOCYTE), ("b", "test", "neutrophil", NEUTROPHIL)])
    table.rename(columns={"cell_type": "type"}).to_csv(tmp_path / "attributes.csv", index=False)
    assert laboratories.read_pbc(tmp_path, "test")["member"].tolist() == ["neutrophil/b.webp"]
    assert len(laboratories.read_pbc(tmp_path)) == 2
    with pytest.raises(ValueError, match="'learn'"):
        laboratories.read_pbc(tmp_path, "learn")


def test_near_duplicates_stay_on_one_side(tmp_path, monkeypatch):
    kept = tmp_path / "kept.txt"
    monkeypatch.setattr(laboratories, "KRD_HELD_OUT", kept)
    pd.DataFrame({"name": ["a", "b", "c"], "type": "monocyte", "group": [1, 1, 2]}).to_csv(tmp_path / "cells.csv")
    kept.write_text("a\nb\n")
    assert laboratories.read_krd(tmp_path, held_out=True)["name"].tolist() == ["a", "b"]
    assert laboratories.read_krd(tmp_path, held_out=False)["name"].tolist() == ["c"]
    kept.write_text("a\n")
    with pytest.raises(ValueError, match=rf"{kept.name}.* 1\b"):
        laboratories.read_krd(tmp_path, held_out=True)
    kept.write_text("z\n")
    with pytest.raises(ValueError, match=rf"{kept.name}.* z\b"):
        laboratories.read_krd(tmp_path)


def test_the_shipped_fields_are_those_of_the_list():
    held_out = laboratories.KRD_HELD_OUT.read_text("utf-8").split()
    assert sorted(helpers.load_cells("krd").table["id"]) == sorted(held_out)


# --- near-copies ------------------------------------------------------------------------------------------------------


def bytes_of(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def test_copies_are_found_turned_compressed_and_scaled():
    cells = helpers.load_cells("val").images[:6]
    kept = np.stack([near_copies.grey(bytes_of(image, format="PNG")) for image in cells])
    harmed = [
        cells[0].resize((360, 360)),
        cells[1].transpose(Image.Transpose.ROTATE_90),
        cells[2].transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        Image.eval(cells[3], lambda value: int(value * 0.8)),
    ]
    other = np.stack([near_copies.grey(bytes_of(image, format="JPEG", quality=40)) for image in harmed])
    bits, which = near_copies.compare(kept, other)
    assert bits.argmin(0).tolist() == [0, 1, 2, 3]
    copies = np.zeros(bits.shape, bool)
    copies[range(4), range(4)] = True
    assert bits[copies].max() <= near_copies.NEAR < bits[~copies].min()
    assert which[0, 0] == 0 and near_copies.orientation_name(which[1, 1]) == "turned by 90°"
    assert near_copies.orientation_name(which[2, 2]).startswith("mirrored")


def test_pairs_across_sets_are_listed():
    rng = np.random.default_rng(0)
    pictures = rng.uniform(0, 255, (9, 64, 64)).astype(np.float32)
    sets = {name: ([name], pictures[n : n + 1]) for n, name in enumerate(near_copies.OTHER)}
    for n, name in enumerate(near_copies.KEPT, 5):
        sets.setdefault(name, ([name], pictures[n : n + 1]))
    sets["PBC test"] = (["copy", "other"], np.stack([sets["Aslan"][1][0], pictures[8]]))
    pairs, counts = near_copies.near_copies(sets)
    assert pairs[["kept_name", "other_set", "bits"]].to_numpy().tolist() == [["copy", "Aslan", 0]]
    assert counts["near-copies"].sum() == 1 and len(counts) == 4 * 5 - 1


def test_no_shipped_cell_for_training_is_a_copy_of_a_test_cell():
    table = helpers.load_cells().table
    copies = near_copies.never_trained_on()
    assert copies and not copies & set(table["id"])
