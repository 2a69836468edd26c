"""The atlas and BloodMNIST's file format, on small files made here."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import helpers
from helpers.bloodcells import CELL_TYPES, PARTS
from helpers.course import BLOODMNIST_TYPES


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
    with pytest.raises(ValueError, match="at least 1"):
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
    with pytest.raises(ValueError, match=r"no split 'train': choose from learn, test"):
        helpers.load_atlas("train", folder=small_atlas)
    with pytest.raises(ValueError, match="no atlas"):
        helpers.load_atlas(folder=small_atlas / "images")


def test_the_shipped_atlas():
    atlas = helpers.load_atlas()
    assert set(atlas.table["split"]) == {"learn", "test"}
    assert set(atlas.table["cell_type"].dropna()) == set(CELL_TYPES)
    for part, mask in atlas.masks.items():
        assert mask.shape[0] == len(atlas)
        assert mask.any(), part
    assert atlas.images[0].size == atlas.masks["nucleus"].shape[:0:-1]


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
    ("changes", "problem"),
    [
        ({"test_labels": None}, "not in medmnist's format"),
        ({"test_labels": np.full((8, 1), 9)}, "do not look like BloodMNIST"),
        ({"test_labels": np.zeros((3, 1), int)}, "do not look like BloodMNIST"),
        ({"test_labels": np.full((8, 1), -1)}, "do not look like BloodMNIST"),
        ({"test_labels": np.zeros((8, 1))}, "do not look like BloodMNIST"),
        ({"test_labels": np.array(list("abcdefgh"))}, "do not look like BloodMNIST"),
        ({"test_images": np.zeros((8, 28, 28, 3))}, "do not look like BloodMNIST"),
    ],
)
def test_files_that_are_no_bloodmnist(tmp_path, changes, problem):
    bloodmnist_like(tmp_path / "blood.npz", **changes)
    with pytest.raises(ValueError, match=f"blood.npz: .*{problem}"):
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
    with pytest.raises(ValueError, match=r"blood.npz: damaged, or not in medmnist's format .*download it again"):
        helpers.course.load_bloodmnist(file=file)


def test_bloodmnist_is_not_fetched_unless_asked_for(tmp_path, monkeypatch, no_network):
    pytest.importorskip("medmnist.info", reason="medmnist is not installed")
    monkeypatch.setattr("medmnist.info.DEFAULT_ROOT", str(tmp_path))
    with pytest.raises(ValueError, match="download=True"):
        helpers.course.load_bloodmnist()
    with pytest.raises(ValueError, match="no size 32"):
        helpers.course.load_bloodmnist(size=32)
    with pytest.raises(ValueError, match="'train', 'val' or 'test'"):
        helpers.course.load_bloodmnist("learn")


def test_a_download_is_checked_and_kept_only_when_whole(tmp_path, monkeypatch, no_network):
    info = pytest.importorskip("medmnist.info", reason="medmnist is not installed")
    monkeypatch.setattr("medmnist.info.DEFAULT_ROOT", str(tmp_path))
    buffer = io.BytesIO()
    bloodmnist_like(buffer)
    fetch = lambda url, file: Path(file).write_bytes(buffer.getvalue())  # noqa: E731
    monkeypatch.setattr("torch.hub.download_url_to_file", fetch)
    with pytest.raises(ValueError, match="checksum"):
        helpers.course.load_bloodmnist(size=28, download=True)
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(info.INFO["bloodmnist"], "MD5", hashlib.md5(buffer.getvalue()).hexdigest())
    images, _ = helpers.course.load_bloodmnist(size=28, download=True)
    assert len(images) == 8
    assert [file.name for file in tmp_path.iterdir()] == ["bloodmnist.npz"]
