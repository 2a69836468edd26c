"""What several test files share: a small random ConceptCLIP in a folder, odd picture files, and no network."""

import os
import struct
import zlib
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import tifffile
from PIL import Image
from small_model import make_model, make_processor


def sixteen_bit_files(folder: Path) -> dict[str, str]:
    """Colour and grey with alpha, 16 bits a channel of which a camera fills 12; and what must be said of each file."""
    said, pixels = {}, np.random.default_rng(0).integers(0, 4096, (40, 30, 4)).astype(np.uint16)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for name, channels, png_kind in (("la", 2, 4), ("rgb", 3, 2), ("rgba", 4, 6)):
        array = np.ascontiguousarray(pixels[..., :channels])
        header = struct.pack(">IIBBBBB", 30, 40, 16, png_kind, 0, 0, 0)
        rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in array))  # Pillow writes none
        parts = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
        (folder / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
        said[f"{name}.png"] = "16 bits"
        options = {"photometric": "rgb" if channels > 2 else "minisblack"}
        options |= {} if channels == 3 else {"extrasamples": ["unassalpha"]}
        for kind, how in {
            "": {},
            "-big-endian": {"byteorder": ">"},
            "-zip": {"compression": "zlib"},
            "-planes": {"planarconfig": "separate"},
        }.items():
            data = array.transpose(2, 0, 1) if kind == "-planes" else array
            tifffile.imwrite(folder / f"{name}{kind}.tif", data, **options, **how)
            said[f"{name}{kind}.tif"] = "16 bits" if channels > 2 else "Pillow"
    return said


def paged_files(folder: Path) -> list[str]:
    """Files of three pages or frames, red 0, 80 and 160; their names."""
    pages = [Image.new("RGB", (30, 20), (80 * k, 0, 0)) for k in range(3)]
    names = ["stack.tif", "film.gif", "film.png", "film.webp"]
    for name in names:
        pages[0].save(folder / name, save_all=True, append_images=pages[1:])
    return names


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random ConceptCLIP, saved with its tokenizer and processor. Read it, never write to it."""
    folder = tmp_path_factory.mktemp("models") / "conceptclip-tiny"
    make_model().save_pretrained(folder)
    make_processor().save_pretrained(folder)
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every attempt to open a connection fails the test."""
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError(f"a connection was opened: {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def bccd(tmp_path, monkeypatch):
    """Six photographs in BCCD's form, one of them held out."""
    import pandas as pd

    from recipes import photographs

    (tmp_path / "images").mkdir()
    names = [f"{i}.jpg" for i in range(6)]
    for name in names:
        Image.new("RGB", (640, 480), (200, 190, 190)).save(tmp_path / "images" / name)
    rows = [(name, "WBC", 200, 150, 300, 250) for name in names] + [(names[0], "RBC", 10, 10, 90, 90)]
    pd.DataFrame(rows, columns=["image", "label", "xmin", "ymin", "xmax", "ymax"]).to_csv(tmp_path / "boxes.csv")
    types = ["eosinophil"] * 5 + ["neutrophil, monocyte"]
    pd.DataFrame({"image": names, "types": types}).to_csv(tmp_path / "types.csv", index=False)
    monkeypatch.setattr(photographs, "HELD_OUT", tmp_path / "held_out.txt")
    (tmp_path / "held_out.txt").write_text("4.jpg\n")
    return tmp_path
