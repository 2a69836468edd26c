"""A folder of pictures with a folder of masks: what is read, and what is refused and why."""

import numpy as np
import pytest
from PIL import Image

from helpers.datasets import mask_folder


@pytest.fixture
def folders(tmp_path):
    """Two pictures, one of them in a folder below, with masks under the same names."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    for folder in (images / "a", masks / "a"):
        folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a/7", "8"):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(images / f"{name}.jpg")
        mask = np.zeros((20, 30), np.uint8)
        mask[5:10, 10:20] = 255
        mask[6:8, 12:15] = 100 if name == "8" else 255
        Image.fromarray((mask > 0).astype(np.uint8) * 255).save(masks / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / f"{name[-1]}_labels.png")
    return images, masks


def test_masks_are_found_by_name(folders):
    atlas = mask_folder(*folders)
    assert atlas.table["id"].tolist() == ["8", "a/7"]
    assert atlas.masks["mask"].shape == (2, 20, 30)
    assert atlas.masks["mask"][0].sum() == atlas.masks["mask"][1].sum() == 50
    assert atlas.masks["mask"][0, 5, 10]
    assert not atlas.masks["mask"][0, 4, 10]
    assert atlas.images[0].size == (30, 20)


def test_masks_in_the_pictures_folder(folders):
    images, masks = folders
    (masks / "8.png").rename(images / "8_mask.png")
    (masks / "a" / "7.png").rename(images / "a" / "7_mask.png")
    assert len(mask_folder(images, images, suffix="_mask")) == 2
    with pytest.raises(ValueError, match="suffix"):
        mask_folder(images, images)


def test_values_name_the_parts(folders, tmp_path):
    images, masks = folders
    (tmp_path / "8_labels.png").rename(masks / "8.png")
    with pytest.warns(UserWarning, match="masks: 1"):
        atlas = mask_folder(images, masks, values={"cell": (100, 255), "nucleus": 100})
    assert (atlas.masks["cell"].sum((1, 2)) == 50).all()
    assert atlas.masks["nucleus"].sum((1, 2)).tolist() == [6, 0]


def test_a_palette_and_grey_in_colour_channels_are_read(folders):
    images, masks = folders
    mask = np.asarray(Image.open(masks / "8.png")) > 0
    palette = Image.fromarray(mask.astype(np.uint8))
    palette.putpalette([0, 0, 0, 200, 10, 10])
    palette.save(masks / "8.png")
    Image.fromarray(np.repeat(mask[..., None], 3, -1).astype(np.uint8) * 255).save(masks / "a" / "7.png")
    assert (mask_folder(images, masks).masks["mask"] == mask).all()


def test_sizes(folders):
    images, masks = folders
    Image.new("RGB", (60, 40)).save(images / "8.jpg")
    with pytest.raises(ValueError, match=r"8\.png.*30 x 20.*8\.jpg 60 x 40"):
        mask_folder(images, masks)
    Image.open(masks / "8.png").resize((60, 40), Image.Resampling.NEAREST).save(masks / "8.png")
    with pytest.raises(ValueError, match="size="):
        mask_folder(images, masks)
    atlas = mask_folder(images, masks, size=(30, 20))
    assert atlas.masks["mask"].shape == (2, 20, 30)
    assert atlas.masks["mask"][0].sum() == 50


def test_an_empty_mask_is_counted(folders):
    images, masks = folders
    Image.new("L", (30, 20)).save(masks / "8.png")
    with pytest.warns(UserWarning, match="masks: 1"):
        atlas = mask_folder(images, masks)
    assert atlas.masks["mask"].any((1, 2)).tolist() == [False, True]


def test_what_is_refused(folders, tmp_path):
    images, masks = folders
    (tmp_path / "8_labels.png").rename(masks / "8.png")
    with pytest.raises(ValueError, match=r"8\.png.*3 values"):
        mask_folder(images, masks)
    with pytest.raises(ValueError, match=r"7.*'nucleus'"):
        mask_folder(images, masks, values={"nucleus": 7})
    Image.new("L", (30, 20), 255).save(masks / "8.png")
    with pytest.raises(ValueError, match=r"8\.png.*'mask'"):
        mask_folder(images, masks, values={"mask": 255})
    colours = np.zeros((20, 30, 3), np.uint8)
    colours[3:5, 3:5, 0] = 9
    Image.fromarray(colours).save(masks / "8.png")
    with pytest.raises(ValueError, match=r"8\.png"):
        mask_folder(images, masks)
    (masks / "8.png").rename(masks / "9.png")
    with pytest.raises(ValueError, match=r"1 of 2 .*'8\.jpg'"):
        mask_folder(images, masks)
    Image.new("L", (30, 20)).save(masks / "8.png")
    with pytest.raises(ValueError, match=r"1 .*'9\.png'"):
        mask_folder(images, masks)
    Image.new("L", (30, 20)).save(masks / "9.bmp")
    with pytest.raises(ValueError, match=r"'9\.\w+'.*'9\.\w+'.*'9'"):
        mask_folder(images, masks)
