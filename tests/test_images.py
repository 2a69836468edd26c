"""The one door for pictures: a file is read whole or refused by name, and the cure fits the cause."""

import errno
import io
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image, ImageFile, JpegImagePlugin
from skimage import data

from helpers.images import ImageError, as_image_list, as_shown, open_image, read_image

CASES = Path(__file__).parent / "cases" / "images"
ORIENTATION = 0x0112
RGB = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def refused(image, *words: str, name: str = "picture 7") -> str:
    """The message: it starts with the name and holds each of the words."""
    with pytest.raises(ImageError) as error:
        read_image(image, name)
    message = str(error.value)
    assert isinstance(error.value, ValueError)
    assert message.startswith(name), message
    for word in words:
        assert word in message, message
    return message


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_with(*chunks: bytes, after: bool = False, image: Image.Image | None = None) -> bytes:
    """A PNG with further chunks, behind its header or in front of its end."""
    buffer = io.BytesIO()
    (image or Image.fromarray(RGB)).save(buffer, "PNG")
    whole = buffer.getvalue()
    at = len(whole) - 12 if after else 33
    return whole[:at] + b"".join(chunks) + whole[at:]


# --- the cases that went wrong ----------------------------------------------------------------------------------------


def test_odd_and_garbage_exif_cost_nothing():
    assert read_image(CASES / "exif-odd-number.jpg", "a").size == (48, 64)  # turned by orientation 6
    assert read_image(CASES / "exif-garbage.jpg", "a").size == (64, 48)
    for name in ("exif-odd-number.jpg", "exif-garbage.jpg"):
        with Image.open(CASES / name) as image:
            assert np.array_equal(read_image(image, "a"), read_image(CASES / name, "a"))


def test_white_is_zero_of_16_bits_is_turned():
    white, black = (read_image(CASES / f"gray16-{kind}-is-zero.tif", kind) for kind in ("white", "black"))
    assert torch.equal(white.to(torch.int32), 65535 - black.to(torch.int32))
    with Image.open(CASES / "gray16-white-is-zero.tif") as image:
        assert torch.equal(read_image(image, "opened"), white)
    assert np.array_equal(read_image(open_image(CASES / "gray16-white-is-zero.tif"), "once"), white)  # not twice


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_white_is_zero_of_floats_is_turned_where_white_is_known(tmp_path, byteorder):
    floats = np.random.default_rng(0).random((20, 30), dtype=np.float32)
    tifffile.imwrite(tmp_path / "unit.tif", floats, photometric="miniswhite", byteorder=byteorder)
    torch.testing.assert_close(read_image(tmp_path / "unit.tif", "unit")[0], torch.from_numpy(1 - floats))
    tifffile.imwrite(tmp_path / "far.tif", floats * 900, photometric="miniswhite", byteorder=byteorder)
    refused(tmp_path / "far.tif", "WhiteIsZero", "window=(low, high)")


def test_white_is_zero_of_8_bits_is_pillows_and_stays_so(tmp_path):
    tifffile.imwrite(tmp_path / "eight.tif", RGB[..., 0], photometric="miniswhite")
    assert np.array_equal(np.asarray(read_image(tmp_path / "eight.tif", "a"))[..., 0], 255 - RGB[..., 0])


def test_a_wholly_transparent_picture_is_refused_in_every_form(tmp_path):
    refused(CASES / "alpha-all-zero.png", "transparent", 'convert("RGB")')
    clear = Image.open(CASES / "alpha-all-zero.png")
    palette = Image.new("P", (9, 9), 0)
    palette.info["transparency"] = 0
    palette.save(tmp_path / "palette.png", transparency=0)
    grey = Image.new("L", (9, 9), 7)
    grey.info["transparency"] = 7
    for form in (clear, np.asarray(clear), torch.from_numpy(np.array(clear)), clear.convert("LA"), palette, grey):
        refused(form, "transparent")
    refused(tmp_path / "palette.png", "transparent")
    for alpha in (1, 255):  # a trace of something is a picture
        clear.putalpha(alpha)
        assert read_image(clear, "a").mode == "RGB"


def test_somebody_elses_truncation_switch_is_not_ours(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    refused(CASES / "cut-off.jpg", "damaged or truncated")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    with Image.open(CASES / "cut-off.jpg") as image:
        refused(image, "damaged or truncated")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    assert read_image(CASES / "exif-garbage.jpg", "a").size == (64, 48)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize("setting", [True, False])
def test_the_switch_is_given_back_by_many_threads(monkeypatch, setting):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", setting)
    outcomes: list[str] = []

    def read(number: int) -> None:
        for _ in range(20):
            path = CASES / ("cut-off.jpg" if number % 2 else "exif-garbage.jpg")
            try:
                read_image(path, "a")
                outcomes.append(f"{number % 2} read")
            except ImageError:
                outcomes.append(f"{number % 2} refused")

    threads = [threading.Thread(target=read, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(outcomes) == {"0 read", "1 refused"}
    assert len(outcomes) == 120
    assert ImageFile.LOAD_TRUNCATED_IMAGES is setting


def test_png_checksums_are_compared(tmp_path):
    refused(CASES / "png-wrong-checksum.png", "damaged", "checksum")
    with Image.open(CASES / "png-wrong-checksum.png") as image:  # not yet read
        refused(image, "damaged", "checksum")
    whole = png_with()
    (tmp_path / "cut.png").write_bytes(whole[:-6])
    refused(tmp_path / "cut.png", "truncated")
    (tmp_path / "header.png").write_bytes(whole[:20] + b"\x07" + whole[21:])
    refused(tmp_path / "header.png", "checksum", "IHDR")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "junk",
    [
        chunk(b"tEXt", b"Comment\0hello", checksum=5),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"x" * (65 << 20), 1)),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * (65 << 20), 1)),
        chunk(b"zTXt", b"Comment\0\0not zlib"),
        chunk(b"eXIf", b"MM\0*garbage"),
        chunk(b"pHYs", b"\0"),
        chunk(b"gAMA", b""),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation='9'/>"),
        chunk(b"quUx", b"anything"),
    ],
    ids=["checksum", "icc bomb", "text bomb", "not zlib", "exif", "pHYs", "gAMA", "xmp", "unknown"],
)
def test_a_pngs_metadata_never_cost_the_picture(tmp_path, junk, after):
    (tmp_path / "a.png").write_bytes(png_with(junk, after=after))
    assert np.array_equal(read_image(tmp_path / "a.png", "a"), RGB)


# --- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [*range(9), 77])
def test_every_orientation_is_turned_once(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(RGB).save(tmp_path / "a", kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    turned = {1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.transpose(1, 0, 2)}
    turned |= {6: np.rot90(RGB, -1), 7: RGB[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(RGB)}
    expected = turned.get(orientation, RGB)
    for form in (tmp_path / "a", Image.open(tmp_path / "a")):
        read = read_image(form, "a")
        assert read.size == (expected.shape[1], expected.shape[0])
        if kind != "JPEG":
            assert np.array_equal(read, expected)
        assert np.array_equal(read_image(read, "again"), read)  # what was turned is not turned again
        assert np.array_equal(as_shown(as_shown(form)), read)


def test_wide_pictures_are_turned_too(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    deep = RGB[..., 0].astype(np.uint16) * 200
    Image.fromarray(deep).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png", "a")[0].numpy(), np.rot90(deep, -1))


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0" + b"\xff" * 40,
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(range(60)),
        b"Exif\0\0",
        b"",
    ],
)
def test_exif_of_any_bytes_costs_nothing(tmp_path, exif):
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg", "a").size == (64, 48)


def test_a_phones_file_whose_list_of_pictures_is_damaged_is_read(tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "a.jpg")

    def fails(*args):
        raise struct.error("unpack requires a buffer of 4 bytes")

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "_getmp", fails)
    assert read_image(tmp_path / "a.jpg", "a").size == (64, 48)


# --- whatever the decoder raises --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        struct.error("bad"),
        OverflowError("too large"),
        KeyError(3),
        IndexError("list"),
        AttributeError("none"),
        ZeroDivisionError(),
        RecursionError(),
        AssertionError(),
        TypeError("NoneType"),
        ValueError("odd"),
        EOFError(),
        UnicodeDecodeError("ascii", b"x", 0, 1, "ordinal"),
        zlib.error("incorrect data check"),
        NotImplementedError(),
        OSError("decoder error -2"),
        SyntaxError("no header"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("where", ["open", "load"])
def test_whatever_is_raised_is_named(tmp_path, monkeypatch, error, where):
    Image.fromarray(RGB).save(tmp_path / "a.bmp")

    def fails(*args, **kwargs):
        raise error

    opened = Image.open(tmp_path / "a.bmp")
    monkeypatch.setattr(*((Image, "open") if where == "open" else (ImageFile.ImageFile, "load")), fails)
    refused(tmp_path / "a.bmp", "damaged or truncated")
    if where == "load":
        refused(opened, "damaged or truncated")


def test_files_cut_anywhere_and_with_any_byte_changed_are_read_or_named(tmp_path):
    """Every kind that Pillow writes, cut at many places and hit at many: a picture or an ImageError, nothing else."""
    random, image = np.random.default_rng(0), Image.fromarray(RGB)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for kind in ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM", "TGA", "ICO", "JPEG2000", "PCX", "DDS"):
        buffer = io.BytesIO()
        image.save(buffer, kind, **({"exif": exif} if kind in ("PNG", "JPEG", "TIFF", "WEBP") else {}))
        whole = buffer.getvalue()
        for trial in range(40):
            hurt = bytearray(whole)
            if trial % 2:
                del hurt[int(random.integers(1, len(whole))) :]
            else:
                near = min(len(whole), 400 if trial % 4 else len(whole))
                for at in random.integers(0, near, 3):
                    hurt[at] = int(random.integers(0, 256))
            (tmp_path / "hurt").write_bytes(hurt)
            try:
                read_image(tmp_path / "hurt", "hurt")
            except ImageError as error:
                assert str(error).startswith("hurt")
            try:
                opened = Image.open(tmp_path / "hurt")
            except Exception:  # the caller's own call
                continue
            try:
                read_image(opened, "hurt")
            except ImageError as error:
                assert str(error).startswith("hurt")


def test_a_tiff_without_a_size(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.tif")
    whole = bytearray((tmp_path / "a.tif").read_bytes())
    for tag in (256, 257):
        at = (
            whole.index(struct.pack("<HH", tag, 3))
            if struct.pack("<HH", tag, 3) in whole
            else whole.index(struct.pack("<HH", tag, 4))
        )
        whole[at : at + 2] = struct.pack("<H", 65000)
    (tmp_path / "a.tif").write_bytes(whole)
    refused(tmp_path / "a.tif")  # Pillow 11.0 does not say what kind of file it is


def test_pictures_closed_too_early(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    Image.fromarray(RGB).save(tmp_path / "a.jpg")
    for name in ("a.png", "a.jpg"):
        with Image.open(tmp_path / name) as image:
            pass
        refused(image, "closed", ".load()")
        gone = Image.open(tmp_path / name)
        gone.load()
        gone.close()
        refused(gone, "closed", "path")


def test_size_bombs_and_no_memory(tmp_path, monkeypatch):
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    tiny = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + tiny)
    refused(tmp_path / "bomb.png", "decompression bomb", "MAX_IMAGE_PIXELS")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    Image.fromarray(RGB).save(tmp_path / "a.bmp")

    def fails(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fails)
    refused(tmp_path / "a.bmp", "not enough memory")


# --- what stands where a file should ----------------------------------------------------------------------------------


def test_what_is_no_file(tmp_path):
    refused(tmp_path / "absent.png", "no such file")
    refused(tmp_path, "a folder", "helpers.image_folder")
    refused(tmp_path / ("x" * 300), "longer than this system allows")
    refused("nul\0.png", "cannot be the name")
    refused("https://example.org/a.png", "web address")
    (tmp_path / "broken").symlink_to(tmp_path / "absent")
    refused(tmp_path / "broken", "the link leads to no file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", "leads back to itself")
    (tmp_path / "a.png").write_bytes(png_with())
    refused(tmp_path / "a.png" / "b.png", "no such file")
    (tmp_path / "fine").symlink_to(tmp_path / "a.png")
    assert read_image(tmp_path / "fine", "a").size == (64, 48)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_does_not_wait_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "a pipe")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "may not read it"),
        (errno.EMFILE, "too many files are open"),
        (errno.EIO, "the system cannot read it"),
    ],
)
def test_what_the_system_forbids(tmp_path, monkeypatch, number, words):
    (tmp_path / "a.png").write_bytes(png_with())

    def fails(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "open", fails)
    assert "Copy or download it again" not in refused(tmp_path / "a.png", words)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file(tmp_path):
    (tmp_path / "a.png").write_bytes(png_with())
    (tmp_path / "a.png").chmod(0)
    refused(tmp_path / "a.png", "may not read it")


def test_an_undecodable_name_is_read(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png")
    try:
        Path(path).write_bytes(png_with())
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    assert read_image(path, "a").size == (64, 48)


# --- modes and shapes -------------------------------------------------------------------------------------------------


def test_modes_become_rgb_as_pillow_converts_them(tmp_path):
    image = Image.fromarray(data.chelsea()[:60, :80])
    for mode in ("L", "P", "1", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"):
        other = image.convert(mode)
        assert np.array_equal(read_image(other, mode), other.convert("RGB")), mode
    image.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    near = np.asarray(read_image(tmp_path / "cmyk.jpg", "a")).astype(int) - np.asarray(image)
    assert abs(near).mean() < 8  # not inverted


def test_transparency_lies_over_white_whatever_the_mode():
    over = np.full((1, 2, 3), 255, np.uint8)
    over[0, 0] = (10, 20, 30)
    for alpha in (0, 128):
        rgba = Image.fromarray(np.array([[[10, 20, 30, 255], [10, 20, 30, alpha]]], np.uint8))
        expected = over.copy()
        if alpha:
            expected[0, 1] = np.round(np.array([10, 20, 30]) * alpha / 255 + 255 * (1 - alpha / 255))
        for form in (rgba, np.asarray(rgba), rgba.convert("RGBa")):
            np.testing.assert_allclose(np.asarray(read_image(form, "a")).astype(int), expected, atol=1)
    grey = Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8), "LA")
    for form in (grey, grey.convert("La")):
        assert np.asarray(read_image(form, "a"))[0, :, 0].tolist() == [10, 255]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 200, 0, 0])
    for transparency in (1, b"\xff\x00"):
        palette.info["transparency"] = transparency
        assert np.array_equal(read_image(palette, "a"), over)
    rgb = Image.fromarray(np.array([[[10, 20, 30], [1, 2, 3]]], np.uint8))
    rgb.info["transparency"] = (1, 2, 3)
    assert np.array_equal(read_image(rgb, "a"), over)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (0, 5)),
        Image.new("L", (5, 0)),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 0), np.uint8),
        np.zeros((3, 8, 0), np.float32),
        np.zeros((8, 0), np.uint16),
        torch.zeros(3, 0, 8),
        torch.zeros(8, 0, 3, dtype=torch.uint8),
    ],
    ids=lambda image: f"{type(image).__name__}-{getattr(image, 'shape', getattr(image, 'size', None))}",
)
def test_pictures_of_no_width_or_height(image):
    refused(image, "is empty")


@pytest.mark.parametrize(
    "image",
    [
        np.array(3, np.uint8),
        torch.tensor(3.0),
        np.zeros(5),
        np.zeros((2, 2, 2, 2), np.uint8),
        np.zeros((8, 8), bool),
        np.zeros((8, 8), complex),
        np.array([["a"]]),
        np.array([[None]]),
        torch.zeros(8, 8, dtype=torch.bool),
        torch.zeros(3, 8, 8, dtype=torch.complex64),
        torch.zeros(2, 8, 8),
        None,
        7,
        b"bytes",
        ["a", "list"],
    ],
    ids=str,
)
def test_what_is_no_picture(image):
    refused(image)


@pytest.mark.parametrize("images", [{"a.png": 1}, {"a.png"}, b"a.png", pd.DataFrame({"path": ["a.png"]})])
def test_what_has_no_order_is_no_list_of_pictures(images):
    """The names of a table's columns were taken for files."""
    with pytest.raises(ValueError, match=f"images is a {type(images).__name__}"):
        as_image_list(images)


def test_what_is_no_list_of_pictures():
    for images in (None, 7):
        with pytest.raises(ValueError, match=type(images).__name__):
            as_image_list(images)


def test_nothing_that_was_given_is_changed(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        read = read_image(image, "a")
        assert read.size == (48, 64)
        assert image.size == (64, 48)
        assert image.getexif()[ORIENTATION] == 6
        assert not read.getexif()


def test_one_opened_picture_many_times_in_many_threads(tmp_path):
    Image.fromarray(RGB).resize((900, 700)).save(tmp_path / "a.jpg")
    expected = np.asarray(read_image(tmp_path / "a.jpg", "a"))
    opened, wrong = Image.open(tmp_path / "a.jpg"), []

    def read() -> None:
        if not np.array_equal(read_image(opened, "a"), expected):
            wrong.append(1)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
