"""What there is to encode: a folder, a list, a table, tars, DICOM files, slides, a bucket. Listed first, read later.

An `Item` is a picture that has not been opened: small, and the same on every machine that sees the same files.
`read` opens it and says what it read (`Stamp`), so that a picture which changes is noticed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from helpers.datasets import IMAGE_SUFFIXES, as_concept, list_pictures
from helpers.files import read_table, read_text
from helpers.images import check_opened

DICOM_SUFFIXES = (".dcm", ".dicom", ".dic")
SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide")
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
LIST_SUFFIXES = (".txt", ".lst")
PATH_COLUMNS = ("path", "file", "url")
TILE = 512
"""Pixels of a slide's tile at full resolution, unless told otherwise."""
TISSUE = 0.05
"""The share of a tile's thumbnail that must be coloured for the tile to be read."""


@dataclass(frozen=True)
class Stamp:
    """What was read: SHA-256 of the bytes, their number, and when they were last changed, in ns (0: not known)."""

    sha256: str
    size: int
    modified: int


@dataclass(frozen=True)
class Item:
    """A picture that has not been opened.

    Attributes:
        path: what it is called in the store; unique.
        kind: "file", "url", "member" (of a tar), "dicom" or "tile".
        at: where it is: the file or address.
        place: (offset, bytes) of a member, (left, top, side) of a tile.
        size, modified: of the file at `at` when it was listed; 0 where that is not known.
        labels: by column.
    """

    path: str
    kind: str
    at: str
    place: tuple[int, ...] = ()
    size: int = 0
    modified: int = 0
    labels: Mapping[str, Any] = field(default_factory=dict)


# --- listing ----------------------------------------------------------------------------------------------------------


def list_items(source: Any, *, root: str | os.PathLike[str] | None = None, tile: int = TILE) -> list[Item]:
    """The pictures of a source.

    Args:
        source: a folder (and below; nothing whose name begins with a dot; what is no picture is counted in a warning);
            an image, DICOM, tar or slide file; a .txt with a path in each line; a .csv, .tsv or .parquet, or a
            DataFrame, with a column "path", "file" or "url" and labels in the others (a CSV is read as text, as in
            `helpers.image_folder`); an address that fsspec knows (s3://, gs://, https://), of a file or of a folder; or
            a list of paths.
        root: paths are stored relative to this folder; by default they are absolute.
        tile: the side of a slide's tiles, in pixels at full resolution.

    Returns:
        Items, sorted by path within a folder, in the given order otherwise.

    Raises:
        ValueError: nothing there, no picture in it, or one named twice; a table that cannot be read.
        TypeError: a source of another kind.
    """
    if isinstance(source, (str, os.PathLike)) and "://" not in str(source) and not os.path.lexists(source):
        raise ValueError(f"{_name(source)}: no such file or folder. Check the path.")
    items = list(_expand(source, tile))
    if root is not None:
        above = Path(root).absolute()
        items = [Item(**{**vars(item), "path": _relative(item.path, above)}) for item in items]
    name = _name(source)
    if not items:
        raise ValueError(f"{name}: no pictures there. Known endings: {', '.join(IMAGE_SUFFIXES + DICOM_SUFFIXES)}.")
    paths = pd.Series([item.path for item in items])
    if paths.duplicated().any():
        raise ValueError(f"{name}: {Path(paths[paths.duplicated()].iloc[0]).name} stands there twice. Name it once.")
    return items


def _expand(source: Any, tile: int, above: tuple[Path, ...] = ()) -> Iterator[Item]:
    """`above`: the lists and tables that led here, since one that names itself would never end."""
    if isinstance(source, pd.DataFrame):
        yield from _rows(source.reset_index(drop=True), "The table", Path(), tile, above)
    elif not isinstance(source, (str, os.PathLike)):
        if isinstance(source, (bytes, Mapping, set, frozenset)) or not isinstance(source, Iterable):
            raise TypeError(
                f"source is a {type(source).__name__}: give a path, an address, a table or a list of paths."
            )
        for one in source:
            if isinstance(one, Item):
                yield one
            else:
                yield from _expand(one, tile, above)
    elif "://" in str(source):
        yield from _addresses(str(source))
    else:
        yield from _local(Path(source).absolute(), tile, above)


def _local(path: Path, tile: int, above: tuple[Path, ...] = ()) -> Iterator[Item]:
    suffix = path.suffix.lower()
    if path in above:
        raise ValueError(f"{path.name}: the list leads back to itself. Take its own name out of it.")
    if path.is_dir():
        known = (*IMAGE_SUFFIXES, *DICOM_SUFFIXES, *SLIDE_SUFFIXES, ".tar")
        files, left_out = list_pictures(
            path,
            wanted=lambda file: file.suffix.lower() in known or _is_dicom(file),
            endings=known,
        )
        if left_out:
            warnings.warn(f"{path.name}: not listed, since no picture that we read: {left_out}.", stacklevel=2)
        for file in files:
            yield from _local(file, tile)
    elif suffix in TABLE_SUFFIXES:
        yield from _table(path, tile, above)
    elif suffix in LIST_SUFFIXES and path.is_file():
        lines = read_text(path).splitlines()
        for line in filter(None, map(str.strip, lines)):
            yield from _expand(line if "://" in line else path.parent / line, tile, (*above, path))
    elif suffix == ".tar":
        yield from _members(path.as_posix())
    elif suffix in SLIDE_SUFFIXES:
        yield from _tiles(path, tile)
    elif suffix in DICOM_SUFFIXES or _is_dicom(path):
        yield Item(path.as_posix(), "dicom", path.as_posix())
    else:  # a picture; what is not one, or not there, is told as a failure of its own
        yield Item(path.as_posix(), "file", path.as_posix())


def _table(path: Path, tile: int, above: tuple[Path, ...]) -> Iterator[Item]:
    if path.suffix.lower() == ".parquet":
        try:
            table = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path.name}: cannot be read as a table ({error}). Write it again.") from error
    else:
        table = read_table(path)
        for name in table.columns.drop(["label", "group", *PATH_COLUMNS], errors="ignore"):
            table[name] = as_concept(table[name])
    yield from _rows(table, path.name, path.parent, tile, (*above, path))


def _rows(table: pd.DataFrame, name: str, folder: Path, tile: int, above: tuple[Path, ...]) -> Iterator[Item]:
    """The pictures of a table; names of files are relative to `folder`."""
    column = next((name for name in PATH_COLUMNS if name in table.columns), None)
    if column is None:
        raise ValueError(
            f"{name}: no column {', '.join(PATH_COLUMNS)}. It has: {', '.join(map(str, table.columns))}. Rename the "
            "one that holds the files' names."
        )
    records = table.astype(object)  # with the column of the files: of no columns an older pandas makes no records
    records = records.where(records.notna(), None).to_dict("records")
    for row, given, record in zip(table.index, table[column], records, strict=True):
        if not isinstance(given, (str, os.PathLike)):
            raise ValueError(f"{name}: row {row} names no file in column {column!r}, but {given!r}. Fill it in.")
        for item in _expand(given if "://" in str(given) else (folder / given).absolute(), tile, above):
            more = {key: value for key, value in record.items() if key != column}
            own = {str(key): str(v) if isinstance(v, os.PathLike) else v for key, v in more.items()}
            yield Item(**{**vars(item), "labels": {**item.labels, **own}})


def _addresses(address: str) -> Iterator[Item]:
    """Of an object or of all below a prefix; sizes and times come with the listing, so that nothing is read twice."""
    system, inside = _filesystem(address)
    if address.lower().endswith(".tar"):
        yield from _members(address)
        return
    try:
        found = system.find(inside, detail=True)
    except (OSError, NotImplementedError) as error:
        raise ValueError(f"{address} cannot be listed ({type(error).__name__}: {error}).") from error
    for name, info in sorted(found.items()):
        at = system.unstrip_protocol(name)
        suffix = Path(name).suffix.lower()
        if suffix == ".tar":
            yield from _members(at)
        elif suffix in DICOM_SUFFIXES or suffix in IMAGE_SUFFIXES or name.rstrip("/") == inside.rstrip("/"):
            kind = "dicom" if suffix in DICOM_SUFFIXES else "url"
            yield Item(at, kind, at, size=int(info.get("size") or 0), modified=_time(info))


def _members(at: str) -> Iterator[Item]:
    """The pictures of a tar in WebDataset's form: files of one name, up to its first dot, are one sample.

    `.cls` becomes the label "cls", `.txt` "txt", and the plain values of `.json` labels of their own names.
    """
    pictures: list[tuple[str, tarfile.TarInfo]] = []
    labels: dict[str, dict[str, Any]] = {}
    try:
        with _open(at) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                key, suffix = f"{folder}/{stem}", f".{ending.lower().rpartition('.')[2]}"
                if not member.isfile() or base.startswith("."):
                    continue
                if suffix in IMAGE_SUFFIXES:
                    pictures.append((key, member))
                elif suffix in (".cls", ".txt", ".json"):
                    content = tar.extractfile(member)
                    text = content.read().decode("utf-8") if content else ""
                    found = json.loads(text) if suffix == ".json" else {suffix[1:]: text.strip()}
                    plain = {k: v for k, v in found.items() if isinstance(v, (str, int, float, bool))}
                    labels.setdefault(key, {}).update(plain)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{_name(at)}: not a whole tar ({error}). Copy it again; a compressed one must be unpacked to .tar first."
        ) from error
    names = {name for found in labels.values() for name in found}
    for key, member in pictures:
        row = {name: labels.get(key, {}).get(name) for name in sorted(names)}
        place = (member.offset_data, member.size)
        yield Item(f"{at}::{member.name}", "member", at, place, member.size, int(member.mtime * 1e9), row)


def _tiles(path: Path, side: int) -> Iterator[Item]:
    """The tiles of a slide that hold tissue: coloured on a thumbnail, as stains are and glass is not."""
    openslide = _optional("openslide", "openslide-python openslide-bin")
    try:
        with openslide.OpenSlide(str(path)) as slide:
            width, height = slide.dimensions
            across, down = width // side, height // side
            whole = np.asarray(
                slide.get_thumbnail((across * 8, down * 8)).convert("HSV").resize((across * 8, down * 8))
            )
    except openslide.OpenSlideError as error:
        raise ValueError(f"{path.name}: not a slide that OpenSlide reads ({error}).") from error
    coloured = (whole[..., 1] > 20).reshape(down, 8, across, 8).mean((1, 3))
    stat = path.stat()
    for y, x in np.argwhere(coloured >= TISSUE).tolist():
        name = f"{path.as_posix()}::{x * side},{y * side},{side}"
        yield Item(name, "tile", path.as_posix(), (x * side, y * side, side), stat.st_size, stat.st_mtime_ns)


# --- reading ----------------------------------------------------------------------------------------------------------


def read(item: Item, window: tuple[float, float] | None = None) -> tuple[Any, Stamp]:
    """Open a picture: (what `encode_images` takes, what was read).

    A file stays a path, so that the encoder may decode it as it likes; see `unchanged`.

    Raises:
        ValueError: naming the picture, what is wrong and what to do.
    """
    name = item.path.rpartition("/")[2]
    try:
        if item.kind == "file":
            return item.at, stamp_of(item)
        if item.kind == "tile":
            return _read_tile(item)
        data = _bytes(item)
    except (OSError, KeyError) as error:
        raise ValueError(
            f"{name}: cannot be read ({type(error).__name__}: {error}). Check that it is there."
        ) from error
    stamp = Stamp(hashlib.sha256(data).hexdigest(), item.size or len(data), item.modified)
    if item.kind == "dicom":
        return dicom_pixels(data, name, window), stamp
    return _from_bytes(data, name), stamp


def stamp_of(item: Item) -> Stamp:
    """SHA-256, size and time of what an item is now, read anew; for a tile, size and time of its slide."""
    if item.kind == "tile":
        return Stamp("", item.size, item.modified)
    if item.kind not in ("file", "dicom") or "://" in item.at:
        data = _bytes(item)
        return Stamp(hashlib.sha256(data).hexdigest(), item.size or len(data), item.modified)
    with Path(item.at).open("rb") as file:
        stat = os.fstat(file.fileno())
        return Stamp(hashlib.file_digest(file, "sha256").hexdigest(), stat.st_size, stat.st_mtime_ns)


def unchanged(item: Item, stamp: Stamp) -> bool:
    """Whether a file on this machine is still as `stamp` says, by size and time: it may have changed under the run."""
    if item.kind != "file":
        return True
    try:
        stat = Path(item.at).stat()
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (stamp.size, stamp.modified)


def dicom_pixels(data: bytes, name: str, window: tuple[float, float] | None = None) -> np.ndarray:
    """A DICOM file's picture as eyes would be shown it: uint8 [H, W] or [H, W, 3].

    Args:
        data: the file.
        name: how messages call it.
        window: (low, high) in the units of the modality (Hounsfield units for CT) that become black and white; by
            default the file's own window. Colour pictures need none.

    Raises:
        ValueError: no DICOM, no pixels, several frames, a compression that nothing here reads, no window.
    """
    pydicom = _optional("pydicom", "pydicom")
    try:
        file = pydicom.dcmread(io.BytesIO(data))
        if int(file.get("NumberOfFrames", 1) or 1) > 1:
            raise ValueError(
                f"{name} holds {file.NumberOfFrames} frames, and a picture is one. Export the one you need."
            )
        colour = int(file.get("SamplesPerPixel", 1)) == 3
        pixels = pydicom.pixels.pixel_array(file)  # YCbCr comes back as RGB
        if colour and pixels.dtype == np.uint8:
            return pixels
        values = pydicom.pixels.apply_modality_lut(pixels, file)
        if window is None and "WindowCenter" not in file and "VOILUTSequence" in file:
            values = pydicom.pixels.apply_voi_lut(values, file)
            window = (0, 2 ** int(file.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    except pydicom.errors.InvalidDicomError as error:
        raise ValueError(f"{name}: not a DICOM file ({error}).") from error
    except (AttributeError, NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"{name}: its pixels cannot be read ({str(error).splitlines()[0]}). Compressed ones need "
            "`pip install pylibjpeg[all]`; a report or a structure set has none."
        ) from error
    low, high = window or _own_window(file, name)
    if high <= low:
        raise ValueError(f"{name}: its window, {low} to {high}, is empty. Pass window=(low, high) (--window LOW HIGH).")
    shown = np.clip((np.asarray(values, np.float64) - low) / (high - low), 0, 1)
    if file.get("PhotometricInterpretation") == "MONOCHROME1":  # the lowest value is white
        shown = 1 - shown
    return np.round(shown * 255).astype(np.uint8)


def _own_window(file: Any, name: str) -> tuple[float, float]:
    """The values that become black and white, from the first window of the file (DICOM PS3.3, C.11.2.1.2)."""
    if "WindowCenter" in file and file.get("VOILUTFunction", "LINEAR") in ("LINEAR", "LINEAR_EXACT"):
        center, width = (np.atleast_1d(np.asarray(x, np.float64))[0] for x in (file.WindowCenter, file.WindowWidth))
        if file.get("VOILUTFunction") == "LINEAR_EXACT":
            return float(center - width / 2), float(center + width / 2)
        return float(center - 0.5 - (width - 1) / 2), float(center - 0.5 + (width - 1) / 2)
    if int(file.get("BitsStored", 16)) == 8:
        return 0.0, 255.0
    raise ValueError(
        f"{name} names no plain window. Pass the values of black and white: window=(low, high) (--window)."
    )


def _read_tile(item: Item) -> tuple[Image.Image, Stamp]:
    openslide = _optional("openslide", "openslide-python openslide-bin")
    left, top, side = item.place
    try:
        with openslide.OpenSlide(item.at) as slide:
            tile = slide.read_region((left, top), 0, (side, side))
    except openslide.OpenSlideError as error:
        raise ValueError(f"{Path(item.at).name}: its tile at {left}, {top} cannot be read ({error}).") from error
    white = Image.new("RGBA", tile.size, "white")  # outside the scanned area
    picture = Image.alpha_composite(white, tile).convert("RGB")
    return picture, Stamp(hashlib.sha256(picture.tobytes()).hexdigest(), item.size, item.modified)


def _from_bytes(data: bytes, name: str) -> Image.Image:
    """A picture whose pixels are decoded later, by the encoder's workers."""
    if not data:
        raise ValueError(f"{name}: the file is empty (0 bytes). Copy or download it again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # told below, as an error
            image = Image.open(io.BytesIO(data))
        limit = Image.MAX_IMAGE_PIXELS
        if limit and image.width * image.height > limit:
            raise ValueError(f"{name}: the image has more than {limit / 1e6:.0f} megapixels. Make it smaller first.")
        check_opened(image, name)
    except UnidentifiedImageError as error:
        raise ValueError(f"{name}: not an image that Pillow can read. Convert it to PNG or JPEG.") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name}: {error}. Make it smaller first.") from error
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"{name}: the file is damaged or truncated ({error}). Copy or download it again.") from error
    return image


def _bytes(item: Item) -> bytes:
    with _open(item.at) as file:
        if item.kind != "member":
            return bytes(file.read())
        offset, size = item.place
        file.seek(offset)
        data = bytes(file.read(size))
    if len(data) < size:
        raise ValueError(f"{item.path.rpartition('/')[2]}: the tar ends before it. Copy the tar again.")
    return data


# --- small things -----------------------------------------------------------------------------------------------------


def _open(at: str) -> Any:
    if "://" not in at:
        return Path(at).open("rb")
    system, inside = _filesystem(at)
    return system.open(inside, "rb")


def _filesystem(address: str) -> tuple[Any, str]:
    import fsspec

    try:
        system, inside = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:  # s3fs, gcsfs and others are packages of their own
        raise ValueError(f"{address} cannot be opened: {error}") from error
    return system, inside


def _time(info: Mapping[str, Any]) -> int:
    """When an object was last changed, in ns, by whatever name its file system has for that; 0 if it does not say."""
    for key in ("LastModified", "last_modified", "mtime", "updated", "created"):
        if info.get(key) is not None:
            return int(pd.Timestamp(info[key], unit="s" if isinstance(info[key], (int, float)) else None).value)
    return 0


def _is_dicom(path: Path) -> bool:
    """Whether a file without an ending (IM0001), or with a number for one (1.2.840.113619.2), is a DICOM file."""
    if path.name == "DICOMDIR" or (path.suffix and not path.suffix[1:].isdigit()):  # the first is an index of the files
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _optional(module: str, package: str) -> Any:
    try:
        return __import__(module)
    except ImportError as error:
        raise ValueError(f"These files need a package that is not installed: pip install {package}") from error


def _relative(path: str, above: Path) -> str:
    head, sep, inside = path.partition("::")
    if "://" in head:
        return path
    try:
        return Path(head).relative_to(above).as_posix() + sep + inside
    except ValueError as error:
        raise ValueError(
            f"{Path(head).name} does not lie in {above.name}, the root. Name a folder above it."
        ) from error


def _name(source: Any) -> str:
    return (Path(source).name or str(source)) if isinstance(source, (str, os.PathLike)) else "The list"
