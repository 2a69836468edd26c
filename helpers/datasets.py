"""Pictures with their truth: drawn and real cells that ship with the project, a folder of one's own with its labels."""

from __future__ import annotations

import os
import posixpath
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from PIL import Image

from .files import printable, read_table, stripped
from .images import as_shown, open_image
from .labels import check_spelling

DATA = Path(__file__).resolve().parent.parent / "data"
ATLAS = DATA / "atlas"
CELLS = DATA / "cells"
ATLAS_PARTS = ("nucleus", "cytoplasm", "granules", "vacuoles", "red cells", "platelets")
"""What the bits of the atlas' mask files stand for, the lowest first: `helpers.bloodcells.PARTS`."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


class Images(Sequence):
    """Pictures that are opened when asked for: `images[3]` is a PIL image, `images[:8]` and `list(images)` lists.

    `paths` holds files, or PIL images that exist already.
    """

    def __init__(self, paths: Sequence[Path | Image.Image]):
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, (int, np.integer)):
            picture = self.paths[item]
            return picture if isinstance(picture, Image.Image) else open_image(picture)
        rows = np.arange(len(self))[np.asarray(item) if not isinstance(item, slice) else item]
        return [self[row] for row in rows]

    def __repr__(self) -> str:
        return f"Images({len(self)})"


class Masks(dict):
    """Part -> bool array [N, H, W]; empty where nobody drew any."""

    def __missing__(self, part: str) -> NoReturn:
        raise KeyError(
            f'There is no mask of "{part}" here, only of: {", ".join(self) or "nothing"}. '
            'Of real cells, load_cells("krd") has the mask of the "white cell"; all parts are in load_atlas().'
        )

    def __repr__(self) -> str:
        return "Masks(" + ", ".join(f"{part}: {mask.shape}" for part, mask in self.items()) + ")"


@dataclass
class Atlas:
    """Cells whose truth is known, drawn or photographed. N cells, H x W pixels.

    Attributes:
        table: DataFrame, one row a cell: id, file, split, design (drawn) or laboratory (photographed), cell_type, the
            attributes, caption, and a 0/1/NaN column for each concept (NaN: the question does not arise, or nobody
            answered it).
        images: N PIL images, opened when asked for.
        masks: dict part -> bool [N, H, W]; empty for photographs without masks.

    `atlas[rows]` (a boolean column of the table, a slice, a list of row numbers) is the atlas of those rows.
    """

    table: pd.DataFrame
    images: Images
    masks: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"Atlas({len(self)} cells, {'parts ' + ', '.join(self.masks) if self.masks else 'no masks'})"

    def __getitem__(self, rows: Any) -> Atlas:
        if isinstance(rows, (int, np.integer)):
            rows = [rows]
        rows = np.arange(len(self))[rows if isinstance(rows, slice) else np.asarray(rows)]
        return Atlas(
            self.table.iloc[rows].reset_index(drop=True),
            Images([self.images.paths[row] for row in rows]),
            Masks({part: mask[rows] for part, mask in self.masks.items()}),
        )


def load_atlas(split: str | None = None, *, folder: str | os.PathLike | None = None) -> Atlas:
    """The rendered cells that ship in data/atlas.

    Args:
        split: "learn" or "test"; None for both.
        folder: another folder of the same layout.

    Returns:
        Atlas.

    Raises:
        ValueError: no atlas in the folder, or no such split.
    """
    folder = Path(folder) if folder else ATLAS
    table = _cells_table(folder, "atlas", split)
    paths = [folder / "images" / Path(file).name for file in table["file"]]
    bits = np.stack([np.asarray(open_image(folder / "masks" / f"{path.stem}.png")) for path in paths])
    masks = Masks({part: (bits >> bit & 1).astype(bool) for bit, part in enumerate(ATLAS_PARTS)})
    return Atlas(table, Images(paths), masks)


def load_cells(split: str | None = None, *, folder: str | os.PathLike | None = None) -> Atlas:
    """The photographs that ship in data/cells: real cells, read by experts (CC BY 4.0; see the folder's LICENCE.md).

    Args:
        split: "train", "val" or "test": cells of Barcelona (PBC) with eleven attributes, 256 x 256 pixels; "krd":
            fields of Erbil (KRD) with their type and the mask of the white cell, 384 x 384. None for all of them.
        folder: another folder of the same layout.

    Returns:
        Atlas, with the columns that `load_atlas` gives, `laboratory` in place of `design` and `seed`. Attributes and
        concepts that nobody read are NaN. masks: {"white cell": bool [N, 384, 384]} for "krd"; empty otherwise, also
        for None, since not every picture has one. The types take turns and each split begins with typical cells.

    Raises:
        ValueError: no cells in the folder, no such split, or masks of a part of the split only.
    """
    folder = Path(folder) if folder else CELLS
    table = _cells_table(folder, "set of real cells", split)
    paths = [folder / "images" / Path(file).name for file in table["file"]]
    files = [folder / "masks" / f"{path.stem}.png" for path in paths]
    drawn = [file.is_file() for file in files]
    if split is not None and any(drawn) and not all(drawn):
        raise ValueError(f"{files[drawn.index(False)].name}: no such mask, though others of {split!r} are there.")
    masks = Masks()
    if all(drawn):
        masks["white cell"] = np.stack([np.asarray(open_image(file)).astype(bool) for file in files])
    return Atlas(table, Images(paths), masks)


def _cells_table(folder: Path, what: str, split: str | None) -> pd.DataFrame:
    """cells.csv, or the rows of one split of it."""
    if not (folder / "cells.csv").is_file():
        raise ValueError(
            f"There is no {what} (cells.csv) in that folder. Make it with recipes/, or check the checkout."
        )
    table = pd.read_csv(folder / "cells.csv", dtype={"id": str, "file": str})
    if split is None:
        return table
    if split not in set(table["split"]):
        raise ValueError(f"There is no split {split!r}: choose from {', '.join(sorted(set(table['split'])))}.")
    return table[table["split"] == split].reset_index(drop=True)


def mask_folder(
    images: str | os.PathLike,
    masks: str | os.PathLike,
    *,
    suffix: str = "",
    values: Mapping[str, int | Sequence[int]] | None = None,
    size: tuple[int, int] | None = None,
) -> Atlas:
    """Pictures of a folder with masks that somebody has drawn, as `load_atlas` gives its own.

    Args:
        images: a folder; all pictures in and below it are read (`image_folder`).
        masks: a folder that holds one mask for each picture, under the same name (endings may differ) and in the same
            folder below: images/a/7.jpg and masks/a/7.png. It may be `images` itself where `suffix` tells them apart.
        suffix: what a mask's name has before its ending: "_mask" for 7_mask.png.
        values: part -> the value, or values, of its pixels: {"nucleus": 1, "cell": (1, 2)}. None: each mask is of one
            part, called "mask"; its pixels are 0 outside and one other value inside.
        size: (width, height) to which all masks are brought, nearest pixel; needed where pictures differ in size.

    Returns:
        Atlas; table: id (the name without its ending) and file. masks: part -> bool [N, H, W]. A mask may be empty (the
        part is not in that picture): those are counted in a warning.

    Raises:
        ValueError: a picture without a mask, a mask without a picture, two masks of one picture; a mask of another size
            than its picture; a mask in colours, or of more than two values (a JPEG's, for one) without `values`; one
            that covers its whole picture; a value that no mask holds; pictures of several sizes without `size`.
    """
    images, masks = _folder(images), _folder(masks)
    paths, found = _masked(images, masks, suffix)
    rows: dict[str, list[np.ndarray]] = {part: [] for part in values or {"mask": 0}}
    held: set[int] = set()
    for path, file in zip(paths, found, strict=True):
        pixels, shape = _mask_pixels(file), as_shown(path, path.name).size[::-1]
        if pixels.shape != shape:
            raise ValueError(
                f"{file.name}: the mask is {pixels.shape[1]} x {pixels.shape[0]} pixels and its picture {path.name} "
                f"{shape[1]} x {shape[0]}. Export the mask in the picture's size."
            )
        here = np.unique(pixels)
        held |= set(here.tolist())
        if values is None and (len(here) > 2 or (len(here) == 2 and here[0] != 0)):
            raise ValueError(
                f"{file.name}: the mask holds {len(here)} values ({', '.join(map(str, here[:4]))}, ...), not 0 and one "
                'more. Save it as PNG, not JPEG; or say what its values are: values={"nucleus": 1}.'
            )
        for part, those in (values or {"mask": [value for value in here.tolist() if value]}).items():
            inside = np.isin(pixels, those)
            if inside.all():
                raise ValueError(
                    f"{file.name}: the mask of {part!r} covers the whole picture. Is inside 0 and outside 255?"
                )
            if size is not None:
                inside = np.asarray(Image.fromarray(inside).resize(size, Image.Resampling.NEAREST))
            rows[part].append(inside)
    for part, those in (values or {}).items():
        if not held & set(np.atleast_1d(those).tolist()):
            raise ValueError(
                f"values: no mask holds {those} ({part!r}). They hold {', '.join(map(str, sorted(held)))}."
            )
    if len({mask.shape for masks_ in rows.values() for mask in masks_}) > 1:
        raise ValueError("The pictures are of several sizes. Say to which their masks are brought: size=(384, 384).")
    stacked = Masks({part: np.stack(masks_) for part, masks_ in rows.items()})
    if empty := sum(int((~mask.any((1, 2))).sum()) for mask in stacked.values()):
        warnings.warn(f"{masks.name}: {empty} masks are empty.", stacklevel=2)
    files = [path.relative_to(images).as_posix() for path in paths]
    table = pd.DataFrame({"id": [posixpath.splitext(file)[0] for file in files], "file": files})
    return Atlas(table, Images(paths), stacked)


def _masked(images: Path, masks: Path, suffix: str) -> tuple[list[Path], list[Path]]:
    """The pictures of a folder, and the mask of each."""
    listed = list_pictures(masks)[0]
    by_key: dict[str, Path] = {}
    for file in listed:
        if not file.stem.endswith(suffix):
            continue
        key = _key(file.relative_to(masks).with_name(file.stem.removesuffix(suffix)).as_posix())
        if key in by_key:
            raise ValueError(f"{by_key[key].name!r} and {file.name!r} are both masks of {key!r}. Keep one.")
        by_key[key] = file
    own = set(by_key.values()) if masks.resolve() == images.resolve() else set()
    if own and not suffix:
        raise ValueError("Pictures and masks lie in one folder: say how the masks' names end, suffix='_mask'.")
    paths = [path for path in list_pictures(images)[0] if path not in own]
    keys = [_key(path.relative_to(images).with_suffix("").as_posix()) for path in paths]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"Two pictures are called {twice!r}, apart from their endings. Rename one.")
    if lacking := [path.name for path, key in zip(paths, keys, strict=True) if key not in by_key]:
        raise ValueError(
            f"{len(lacking)} of {len(paths)} pictures have no mask: {_some(lacking)}. A mask has its picture's name"
            + (f" with {suffix!r} behind it." if suffix else ". If something stands behind it, say suffix=.")
        )
    if alone := [file.name for key, file in sorted(by_key.items()) if key not in set(keys)]:
        raise ValueError(f"{len(alone)} masks belong to no picture: {_some(alone)}. Remove them, or add the pictures.")
    return paths, [by_key[key] for key in keys]


def _mask_pixels(file: Path) -> np.ndarray:
    """A mask's values as they are stored (of a palette image its numbers): int [H, W]."""
    pixels = np.asarray(open_image(file))
    if pixels.ndim == 3:  # grey, saved as a colour image
        if (pixels[..., :3] != pixels[..., :1]).any():
            raise ValueError(f"{file.name}: the mask is in colours. Save it in grey values, or with a palette.")
        pixels = pixels[..., 0]
    if pixels.dtype.kind == "f":
        raise ValueError(f"{file.name}: the mask holds fractions. Save it with whole numbers, 0 outside.")
    return pixels.astype(int)


def image_folder(
    folder: str | os.PathLike,
    labels: str | os.PathLike | None = None,
    *,
    file_column: str = "file",
    text_columns: Sequence[str] = ("group", "label"),
    names: Mapping[Any, str] | None = None,
) -> pd.DataFrame:
    """List the pictures of a folder and of all below it, with what a table, or the folders themselves, say of them.

    Links to folders are followed, a circle of them once. What is not listed is counted in a warning by its ending:
    files that are no pictures, and pictures whose name, or whose folder's, begins with a dot.

    Args:
        folder: where the pictures are.
        labels: a CSV, read as text by `files.read_table`: a row a picture, in any order. `file_column` holds names
            relative to the folder, with slashes of either kind and letters in either Unicode form. Or "folders": the
            label of a picture is the name of the folder, directly below `folder`, that it lies in.
        file_column: the name of that column.
        text_columns: columns that stay text even where they hold nothing but 0 and 1.
        names: label as it stands in the table -> class name, e.g. {0: "round nucleus", 1: "band nucleus"}.

    Returns:
        DataFrame, a row a picture, sorted by name, its index 0 to N-1. The columns: `path` (for `encode_images`);
        `file` (relative, with forward slashes); then the table's, in their order. A column that holds 0, 1, true and
        false alone (in any case; 0.0 and 1.0 too) is a **concept**, wherever it stands: float64, 0, 1 or NaN. All
        others are text as it was written, str or NaN (dtype object). `concept_columns` names the concepts. An empty
        cell, and a picture without a row, are NaN, and nothing else is.

    Raises:
        ValueError: no such folder, or one that may not be read (or below it); no picture in it; a table that cannot be
            read (as `files.read_table` says), a row without a name, two rows of one picture, a column named as one of
            the result's; rows whose files are not there, or are there and no pictures that we read (they are listed);
            labels of which two are the same words, or that `names` lacks.
    """
    if not isinstance(labels, (str, os.PathLike, type(None))):
        raise TypeError(
            f"labels is a {type(labels).__name__}: give the file of the table. A DataFrame becomes one with "
            'table.to_csv("labels.csv", index=False).'
        )
    if names is not None and not isinstance(names, Mapping):
        raise TypeError(f"names is a {type(names).__name__}: give a mapping, such as {{0: 'nevus', 1: 'melanoma'}}.")
    folder = _folder(folder)
    text_columns = [text_columns] if isinstance(text_columns, str) else list(text_columns)
    table_file = None if labels is None or labels == "folders" else Path(labels)
    paths, left_out = list_pictures(folder, table_file)
    files = [path.relative_to(folder).as_posix() for path in paths]
    table = pd.DataFrame({"path": pd.Series(paths, dtype=object), "file": pd.Series(files, dtype=object)})
    if table_file is not None:
        truth = read_table(table_file, key=file_column)
        rows = _rows_of_pictures(truth, folder, files, table_file.name, file_column)
        for column in truth.columns.drop(file_column):
            values = pd.Series(np.nan, index=table.index, dtype=object)
            values.iloc[rows] = truth[column].to_numpy()
            table[column] = values if column in text_columns else as_concept(values)
    elif labels is not None:
        table["label"] = pd.Series(_folder_labels(folder, files), dtype=object)
    if names is not None:
        table["label"] = _renamed(table, names)
    if "label" in table:
        check_spelling(table["label"].dropna(), "label")
    if left_out:
        warnings.warn(f"{folder.name}: not listed, since no picture that we read: {left_out}.", stacklevel=2)
    return table


def concept_columns(table: pd.DataFrame) -> list[str]:
    """The columns of `image_folder`'s table that hold concepts: numbers, of which each is 0, 1 or NaN."""
    numbers = table.select_dtypes("number")
    return [column for column in numbers.columns if numbers[column].dropna().isin((0, 1)).all()]


def _folder(folder: Any) -> Path:
    if not isinstance(folder, (str, os.PathLike)) or isinstance(folder, bytes):
        raise TypeError(f"folder is a {type(folder).__name__}: give the path of a folder of pictures.")
    return Path(folder)


def is_picture(path: Path) -> bool:
    """Whether a file's ending is one of those that we read."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def list_pictures(
    folder: Path,
    table: Path | None = None,
    *,
    wanted: Callable[[Path], bool] = is_picture,
    endings: Sequence[str] = IMAGE_SUFFIXES,
) -> tuple[list[Path], str]:
    """The pictures in and below a folder, and in words what else was there.

    Args:
        folder: links below it are followed, a circle of them once.
        table: a file in it that does not count as something else.
        wanted: tells a picture from other files.
        endings: what a message says that there might be.

    Returns:
        (paths, sorted; what was left out, counted by ending, "" for nothing).

    Raises:
        ValueError: no such folder, no picture in it, or a folder that may not be read.
    """
    name = repr(folder.name or str(folder))
    try:
        if not folder.exists():
            raise ValueError(f"{name}: no such folder. Check the path.")
        if not folder.is_dir():
            raise ValueError(f"{name}: there, but it is a file. Give its folder, or unpack it.")
    except OSError as error:
        raise ValueError(f"{name}: no way leads there ({error.strerror}). Check path and permissions.") from error

    def forbidden(error: OSError) -> None:
        where = Path(error.filename or folder)
        raise ValueError(
            f"{where.name!r} in {name}: the folder is there, but cannot be read ({error.strerror}). Its pictures would "
            "be missing without a word: change its permissions, or move it elsewhere."
        ) from error

    paths: list[Path] = []
    other: Counter[str] = Counter()
    real: dict[str, set[str]] = {}  # of each folder on the way down, so that a link back up is not followed again
    for here, below, files in os.walk(folder, onerror=forbidden, followlinks=True):
        where = Path(here)
        above = real[str(where.parent)] if where != folder else set()
        own = os.path.realpath(here)
        if own in above:
            below.clear()
            continue
        real[str(where)] = above | {own}
        hidden = any(part.startswith(".") for part in where.relative_to(folder).parts)
        for file in files:
            path = where / file
            picture = wanted(path)
            if hidden or file.startswith("."):  # ._a.jpg is macOS', .ipynb_checkpoints/ Jupyter's
                other["hidden (its name, or its folder's, begins with a dot)"] += picture
            elif not picture:
                is_table = table is not None and table.exists() and path.exists() and path.samefile(table)
                numbered = path.suffix[1:].isdigit()  # 1.2.840.113619.2, as DICOM files are called
                other[path.suffix.lower() if path.suffix and not numbered else "without an ending"] += not is_table
            elif path.exists() and not path.is_file():
                other["no regular file"] += 1
            else:
                paths.append(path)  # a broken link, too: whoever opens it says so
    left_out = ", ".join(f"{count} × {printable(kind)}" for kind, count in sorted(other.items()) if count)
    if not paths:
        there = f"; there: {left_out}" if left_out else ""
        raise ValueError(f"{name}: no images in this folder{there}. Known endings: {', '.join(endings)}.")
    doubles = len(paths) - len({os.path.realpath(path) for path in paths})
    if doubles:
        warnings.warn(f"{name}: {doubles} pictures are listed twice, since links lead to them.", stacklevel=3)
    return sorted(paths), left_out


def _rows_of_pictures(truth: pd.DataFrame, folder: Path, files: list[str], name: str, column: str) -> list[int]:
    """For each row of a table the number of its picture."""
    if taken := sorted(({"path", "file"} - {column}) & set(truth.columns)):
        raise ValueError(
            f"{name!r}: its column {taken[0]!r} has the name of one of the result's. Rename it in the CSV; or say "
            f"file_column={taken[0]!r}, if it holds the images' names."
        )
    by_name = {file: row for row, file in enumerate(files)}
    by_key: dict[str, list[int]] = {}
    for row, file in enumerate(files):
        by_key.setdefault(_key(file), []).append(row)
    rows: list[int] = []
    lines: dict[int, int] = {}
    absent: list[str] = []
    unread: list[str] = []
    for line, given in truth[column].items():
        if not isinstance(given, str):
            raise ValueError(f"{name!r}: line {line} names no file. Fill in {column!r}, or remove the row.")
        relative = Path(given).relative_to(folder).as_posix() if Path(given).is_relative_to(folder) else given
        found = [by_name[relative]] if relative in by_name else by_key.get(_key(relative), [])
        if len(found) > 1:
            raise ValueError(
                f"{name!r}: {given!r} in line {line} may be any of {', '.join(repr(files[row]) for row in found)}, "
                "which differ in signs that cannot be seen. Rename one of the files."
            )
        if not found:
            there = os.path.exists(folder / relative) or os.path.exists(folder / _key(relative))  # noqa: PTH110 (never raises)
            (unread if there else absent).append(given)
        elif found[0] in lines:
            raise ValueError(
                f"{name!r}: {files[found[0]]!r} stands there twice, in lines {lines[found[0]]} and {line}. Keep one "
                "row for each file."
            )
        else:
            lines[found[0]] = line
            rows += found
    if absent or unread:
        other_case = {file.casefold(): file for file in files}
        near = next((other_case[_key(g).casefold()] for g in absent if _key(g).casefold() in other_case), None)
        parts = []
        if absent:
            parts.append(f"name files that are not there: {_some(absent)}" + (f" (there is {near!r})" if near else ""))
        if unread:
            parts.append(f"name files that are there, but not of a kind that we read, or hidden: {_some(unread)}")
        raise ValueError(
            f"{name!r}: {len(absent) + len(unread)} of {len(truth)} rows do not fit the folder. They "
            f"{'; '.join(parts)}. Names must be relative to the folder, endings included ({', '.join(IMAGE_SUFFIXES)})."
        )
    return rows


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _key(name: str) -> str:
    """A name whatever its slashes, its leading "./" and its Unicode form (macOS takes letters and accents apart)."""
    return unicodedata.normalize("NFC", posixpath.normpath(stripped(name).replace("\\", "/")))


TRUE_FALSE = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}


def as_concept(values: pd.Series) -> pd.Series:
    """A column of text as numbers where all that it holds is 0, 1, true and false; else as it is."""
    numbers = values.dropna().str.lower().map(TRUE_FALSE)
    return numbers.reindex(values.index).astype(float) if len(numbers) and numbers.notna().all() else values


def _folder_labels(folder: Path, files: list[str]) -> list[str | float]:
    """The first folder on the way to each picture; NaN for those that lie in no folder."""
    tops = [file.partition("/")[0] if "/" in file else None for file in files]
    classes = sorted({top for top in tops if top is not None})
    if not classes:
        raise ValueError(f"{folder.name!r}: its pictures lie in no folders that could be labels. Give a CSV.")
    if {name.casefold() for name in classes} <= SPLITS:
        raise ValueError(
            f"{folder.name!r}: its folders {', '.join(map(repr, classes))} are the parts of a split, not classes. Give "
            f"one of them: folder / {classes[0]!r}."
        )
    if alone := tops.count(None):
        warnings.warn(f"{folder.name}: {alone} pictures lie in no folder and have no label.", stacklevel=3)
    return [np.nan if top is None else unicodedata.normalize("NFC", stripped(top)) for top in tops]


SPLITS = {"train", "training", "learn", "val", "valid", "validation", "dev", "test", "testing"}


def _renamed(table: pd.DataFrame, names: Mapping[Any, str]) -> pd.Series:
    if "label" not in table:
        raise ValueError("names= renames labels, but there is no column 'label'. Give labels, or leave names out.")
    for label, name in names.items():
        if not isinstance(name, str) or not stripped(name):
            raise ValueError(f"names= gives {name!r} for the label {label!r}. Write the class in words.")
    words = {stripped(str(label)): name for label, name in names.items()}
    if lacking := sorted(set(table["label"].dropna()) - set(words)):
        raise ValueError(f"names= has no name for the label {lacking[0]!r}. It has: {', '.join(map(repr, words))}.")
    return table["label"].map(words).astype(object)
