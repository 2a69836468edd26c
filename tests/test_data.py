"""The atlas and BloodMNIST's file format, on small files made here."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import helpers
from helpers.bloodcells import ATTRIBUTES, CELL_TYPES, CONCEPTS, PARTS
from helpers.course import BLOODMNIST_TYPES
from helpers.datasets import CELLS


@pytest.fixture
def small_atlas(tmp_path):
    """Three cells of 8 x 8 pixels: part i covers row i of cell i, and nothing else."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for k in range(3):
        Image.new("RGB", (8, 8), (k * 50, 0, 0)).save(tmp_path / "images" / f"{k:03}.jpg")
        mask = np.zeros((8, 8), np.uint8)
        mask[k] |= 1 << k
        mask[7] |= 1 << 5  # platelets everywhere in the last row
        Image.fromarray(mask).save(tmp_path / "masks" / f"{k:03}.png")
    table = pd.DataFrame(
        {
            "id": ["000", "001", "002"],
            "file": [f"{k:03}.jpg" for k in range(3)],
            "split": ["learn", "test", "learn"],
            "granule_type": ["nil", "coarse", "nil"],
            "nucleus": [1, 1, np.nan],
        }
    )
    table.to_csv(tmp_path / "cells.csv", index=False)
    return tmp_path


def test_atlas_of_a_folder(small_atlas):
    atlas = helpers.load_atlas(folder=small_atlas)
    assert len(atlas) == 3
    assert atlas.table["id"].tolist() == ["000", "001", "002"]  # text, with its zeros
    assert atlas.table["granule_type"].tolist() == ["nil", "coarse", "nil"]  # a value, not a missing one
    assert atlas.table["nucleus"].isna().tolist() == [False, False, True]
    assert list(atlas.masks) == list(PARTS)
    for part, mask in atlas.masks.items():
        assert mask.shape == (3, 8, 8)
        assert mask.dtype == bool
        bit = PARTS.index(part)
        for k in range(3):
            rows = mask[k].all(1).nonzero()[0].tolist()
            assert rows == [row for row in (k, 7) if (bit, row) in ((k, k), (5, 7))]
    assert atlas.images[1].getpixel((0, 0))[0] == pytest.approx(50, abs=3)
    assert len(atlas.images[:2]) == len(list(atlas.images)) - 1 == 2


def test_rendered_cells_are_like_the_atlas_and_always_the_same():
    cells, again = helpers.bloodcells.render_cells(6), helpers.bloodcells.render_cells(2)
    shipped = helpers.load_atlas().table
    assert set(shipped.columns) - set(cells.table.columns) == {"file", "split"}
    assert cells.table["cell_type"].tolist() == [*CELL_TYPES, CELL_TYPES[0]]
    assert not set(cells.table["seed"]) & set(shipped["seed"])
    assert cells.images[1].tobytes() == again.images[1].tobytes() != cells.images[0].tobytes()
    assert cells.masks["nucleus"].shape == (6, cells.images[0].height, cells.images[0].width)
    assert cells.masks["nucleus"].any((1, 2)).all()
    rows = cells[[1, 5]]
    assert rows.table["cell_type"].tolist() == [CELL_TYPES[1], CELL_TYPES[0]]
    assert rows.images[1].tobytes() == cells.images[5].tobytes()
    free = helpers.bloodcells.render_cells(1, design="decorrelated").table
    assert free["cell_type"].isna().all()
    assert free["neutrophil"].isna().all()
    assert free["granulocyte"].isin([0, 1]).all()
    with pytest.raises(ValueError, match="0"):
        helpers.bloodcells.render_cells(0)


def test_rows_of_an_atlas_keep_images_masks_and_table_together(small_atlas):
    atlas = helpers.load_atlas(folder=small_atlas)
    for rows in ([2, 0], np.array([2, 0]), slice(None, None, -2)):
        part = atlas[rows]
        assert part.table["id"].tolist() == ["002", "000"]
        assert part.masks["granules"][:, 2].all(1).tolist() == [True, False]
        assert part.images[0].getpixel((0, 0))[0] == pytest.approx(100, abs=3)
    assert atlas[atlas.table["granule_type"] == "coarse"].table["id"].tolist() == ["001"]
    assert len(atlas[1]) == 1


def test_splits(small_atlas):
    learn = helpers.load_atlas("learn", folder=small_atlas)
    assert learn.table["id"].tolist() == ["000", "002"]
    assert learn.table.index.tolist() == [0, 1]
    assert learn.masks["nucleus"].shape == (2, 8, 8)
    with pytest.raises(ValueError, match=r"'train'.*learn, test"):
        helpers.load_atlas("train", folder=small_atlas)
    with pytest.raises(ValueError, match=r"cells\.csv"):
        helpers.load_atlas(folder=small_atlas / "images")


def test_the_shipped_atlas():
    atlas = helpers.load_atlas()
    assert set(atlas.table["split"]) == {"learn", "test"}
    assert set(atlas.table["cell_type"].dropna()) == set(CELL_TYPES)
    for part, mask in atlas.masks.items():
        assert mask.shape[0] == len(atlas)
        assert mask.any(), part
    assert atlas.images[0].size == atlas.masks["nucleus"].shape[:0:-1]


# --- real cells -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_cells(tmp_path):
    """Two cells without masks and two fields, the mask of each a column of its own."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    table = pd.DataFrame(
        {"id": list("abcd"), "file": [f"{n}.webp" for n in "abcd"], "split": ["train", "test", "krd", "krd"]}
    )
    for k, name in enumerate("abcd"):
        Image.new("RGB", (8, 6), (k * 50, 0, 0)).save(tmp_path / "images" / f"{name}.webp", lossless=True)
        if k >= 2:
            mask = np.zeros((6, 8), bool)
            mask[:, k] = True
            Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    table.to_csv(tmp_path / "cells.csv", index=False)
    return tmp_path


def test_real_cells_of_a_folder(small_cells):
    fields = helpers.load_cells("krd", folder=small_cells)
    assert list(fields.masks) == ["white cell"]
    assert fields.masks["white cell"].dtype == bool and fields.masks["white cell"].shape == (2, 6, 8)
    assert [mask.any(0).nonzero()[0].tolist() for mask in fields.masks["white cell"]] == [[2], [3]]
    turned = fields[[1, 0]]
    assert turned.table["id"].tolist() == ["d", "c"] and turned.images[0].getpixel((0, 0))[0] == 150
    assert turned.masks["white cell"][0, :, 3].all()


def test_cells_without_masks_have_none(small_cells):
    everything = helpers.load_cells(folder=small_cells)
    for cells in (
        everything,
        everything[everything.table["split"] == "krd"],
        helpers.load_cells("test", folder=small_cells),
    ):
        assert dict(cells.masks) == {} and "no masks" in repr(cells)
        with pytest.raises(KeyError, match=r'"white cell".*load_cells\(.*krd'):
            cells.masks["white cell"]
    assert len(everything) == 4 and everything[1].table["id"].tolist() == ["b"]


def test_real_cells_that_are_not_whole(small_cells):
    with pytest.raises(ValueError, match=r"'learn'.*krd, test, train"):
        helpers.load_cells("learn", folder=small_cells)
    with pytest.raises(ValueError, match=r"cells\.csv"):
        helpers.load_cells(folder=small_cells / "images")
    (small_cells / "masks" / "d.png").unlink()
    with pytest.raises(ValueError, match=r"d\.png"):
        helpers.load_cells("krd", folder=small_cells)


def test_the_shipped_real_cells():
    cells, atlas = helpers.load_cells(), helpers.load_atlas()
    assert set(atlas.table.columns) - set(cells.table.columns) == {"design", "seed"}
    assert set(cells.table.columns) - set(atlas.table.columns) == {"laboratory"}
    sizes = cells.table.groupby(["split", "cell_type"]).size().unstack()
    assert sizes.loc[["train", "val", "test"]].to_numpy().tolist() == [[120] * 5, [24] * 5, [96] * 5]
    assert cells.table["id"].is_unique and (cells.table["split"] == "krd").sum() == 60
    for name, values in ATTRIBUTES.items():
        assert set(cells.table[name].dropna()) == set(values)
        assert cells.table[name].isna().equals(cells.table["laboratory"] == "KRD")
    # the same values make the same concepts true, in drawn cells and in real ones
    for concept in CONCEPTS.values():
        if concept.present is None and "cell_type" not in concept.when:
            for table in (cells.table, atlas.table):
                holds = np.all([table[name].isin(values) for name, values in concept.when.items()], axis=0)
                known = table[concept.key].notna()
                assert (table[concept.key] == holds)[known].all(), concept.key
    assert (cells.table[cells.table["laboratory"] == "PBC"][list(CELL_TYPES)].sum(axis=1) == 1).all()
    fields = helpers.load_cells("krd")
    assert fields.images[0].size == fields.masks["white cell"].shape[:0:-1]
    assert fields.masks["white cell"].any((1, 2)).all()


def test_second_readings_stand_beside_the_first():
    table = helpers.load_cells("test").table.set_index("id")
    read = pd.read_csv(CELLS / "second-reader.csv")
    assert len(read) == 2000 and (read.groupby("id")["reader"].agg(list).map(tuple) == (1, 2)).all()
    assert set(read["id"][read["split"] == "test"]) <= set(table.index)
    first = read[(read["reader"] == 1) & read["id"].isin(table.index)].set_index("id")
    assert first[list(ATTRIBUTES)].equals(table.loc[first.index, list(ATTRIBUTES)])


# --- BloodMNIST -------------------------------------------------------------------------------------------------------


def bloodmnist_like(file, **changes):
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 3), dtype=np.uint8)
    arrays = {"test_images": images, "test_labels": np.arange(8, dtype=np.uint8)[:, None]} | changes
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
    return images


def test_bloodmnist_from_a_local_file(tmp_path):
    expected = bloodmnist_like(tmp_path / "blood.npz")
    images, table = helpers.course.load_bloodmnist("test", file=tmp_path / "blood.npz")
    np.testing.assert_array_equal(images, expected)
    assert table["class_name"].tolist() == list(BLOODMNIST_TYPES)
    assert table["cell_type"].dropna().tolist() == list(CELL_TYPES)
    assert table["cell_type"].isna().sum() == 3


def test_bloodmnist_names_are_those_of_medmnist():
    info = pytest.importorskip("medmnist.info", reason="medmnist is not installed").INFO["bloodmnist"]
    assert [info["label"][str(k)] for k in range(8)] == list(BLOODMNIST_TYPES)


@pytest.mark.parametrize(
    "changes",
    [
        {"test_labels": None},
        {"test_labels": np.full((8, 1), 9)},
        {"test_labels": np.zeros((3, 1), int)},
        {"test_labels": np.full((8, 1), -1)},
        {"test_labels": np.zeros((8, 1))},
        {"test_labels": np.array(list("abcdefgh"))},
        {"test_images": np.zeros((8, 28, 28, 3))},
    ],
)
def test_files_that_are_no_bloodmnist(tmp_path, changes):
    bloodmnist_like(tmp_path / "blood.npz", **changes)
    with pytest.raises(ValueError, match=r"blood\.npz"):
        helpers.course.load_bloodmnist(file=tmp_path / "blood.npz")


@pytest.mark.parametrize(
    "harm",
    [
        lambda whole: whole[: len(whole) // 2],  # BadZipFile
        lambda whole: whole[:5000] + b"\xff" * 200 + whole[5200:],  # zlib.error
        lambda whole: b"\x93NUMPY\x01\0\x10\0{'descr': ((((  \n",  # tokenize.TokenError
        lambda whole: (
            b"\x93NUMPY\x01\0\x3a\0{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}   \nabc"
        ),  # TypeError
    ],
    ids=["cut", "garbled", "no header", "an array"],
)
def test_damaged_files_are_no_bloodmnist(tmp_path, harm):
    file = tmp_path / "blood.npz"
    images = np.random.default_rng(0).integers(0, 16, (8, 28, 28, 3), dtype=np.uint8)
    np.savez_compressed(file, test_images=images, test_labels=np.arange(8, dtype=np.uint8)[:, None])
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(ValueError, match=r"blood\.npz"):
        helpers.course.load_bloodmnist(file=file)


def test_bloodmnist_is_not_fetched_unless_asked_for(tmp_path, monkeypatch, no_network):
    pytest.importorskip("medmnist.info", reason="medmnist is not installed")
    monkeypatch.setattr("medmnist.info.DEFAULT_ROOT", str(tmp_path))
    with pytest.raises(ValueError, match="download=True"):
        helpers.course.load_bloodmnist()
    with pytest.raises(ValueError, match="32"):
        helpers.course.load_bloodmnist(size=32)
    with pytest.raises(ValueError, match=r"split.*'learn'"):
        helpers.course.load_bloodmnist("learn")


def test_a_download_is_checked_and_kept_only_when_whole(tmp_path, monkeypatch, no_network):
    info = pytest.importorskip("medmnist.info", reason="medmnist is not installed")
    monkeypatch.setattr("medmnist.info.DEFAULT_ROOT", str(tmp_path))
    buffer = io.BytesIO()
    bloodmnist_like(buffer)
    fetch = lambda url, file: Path(file).write_bytes(buffer.getvalue())  # noqa: E731
    monkeypatch.setattr("torch.hub.download_url_to_file", fetch)
    with pytest.raises(ValueError, match=r"bloodmnist\.npz"):
        helpers.course.load_bloodmnist(size=28, download=True)
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(info.INFO["bloodmnist"], "MD5", hashlib.md5(buffer.getvalue()).hexdigest())
    images, _ = helpers.course.load_bloodmnist(size=28, download=True)
    assert len(images) == 8
    assert [file.name for file in tmp_path.iterdir()] == ["bloodmnist.npz"]
