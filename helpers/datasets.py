"""Pictures with their truth: drawn and real cells that ship with the project, a folder of one's own with its labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from .images import open_image

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

    def __getitem__(self, item):
        if isinstance(item, (int, np.integer)):
            picture = self.paths[item]
            return picture if isinstance(picture, Image.Image) else open_image(picture)
        rows = np.arange(len(self))[np.asarray(item) if not isinstance(item, slice) else item]
        return [self[row] for row in rows]

    def __repr__(self) -> str:
        return f"Images({len(self)})"


class Masks(dict):
    """Part -> bool array [N, H, W]; empty where nobody drew any."""

    def __missing__(self, part: str):
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

    def __getitem__(self, rows) -> Atlas:
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


def image_folder(
    folder: str | os.PathLike,
    labels: str | os.PathLike | None = None,
    *,
    file_column: str = "file",
) -> pd.DataFrame:
    """List the images of a folder (and below; nothing whose name begins with a dot), with labels from a CSV.

    Args:
        folder: where the images are.
        labels: a CSV in UTF-8 with one row an image: `file_column` holds names or paths relative to the folder.
        file_column: the name of that column.

    Returns:
        DataFrame: `path` (for `encode_images`), `file` (relative, with forward slashes), and the CSV's columns. Images
        without a row have NaN there.

    Raises:
        ValueError: no such folder, no images in it; no such CSV, or one that cannot be read, has no `file_column` or a
            column named as one of the result's; rows of it whose files are not there (they are listed).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder.name}: no such folder. Check the path.")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    # ._a.jpg is macOS', .ipynb_checkpoints/ Jupyter's
    paths = [p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    if not paths:
        raise ValueError(f"{folder.name}: no images in this folder. Known endings: {', '.join(IMAGE_SUFFIXES)}.")
    table = pd.DataFrame({"path": paths, "file": [p.relative_to(folder).as_posix() for p in paths]})
    if labels is None:
        return table
    labels = Path(labels)
    if not labels.is_file():
        raise ValueError(f"{labels.name}: no such file. Check the path.")
    try:
        truth = pd.read_csv(labels)
    except ValueError as error:  # pandas' EmptyDataError and ParserError and a UnicodeDecodeError are such
        raise ValueError(
            f"{labels.name}: cannot be read as a CSV ({error}). Save it as “CSV UTF-8”, with the columns' names in its "
            "first row."
        ) from error
    if file_column not in truth.columns:
        raise ValueError(f"{labels.name}: no column {file_column!r}. It has: {', '.join(map(str, truth.columns))}.")
    if taken := sorted(({"path", "file"} - {file_column}) & set(truth.columns)):
        raise ValueError(
            f"{labels.name}: its column {taken[0]!r} has the name of one of the result's. Rename it in the CSV; or say "
            f"file_column={taken[0]!r}, if it holds the images' names."
        )
    truth = truth.rename(columns={file_column: "file"})
    truth["file"] = truth["file"].map(str).str.replace("\\", "/")
    twice = truth["file"][truth["file"].duplicated()].unique()
    if len(twice):
        raise ValueError(f"{labels.name}: {twice[0]!r} stands there twice. Keep one row for each file.")
    missing = sorted(set(truth["file"]) - set(table["file"]))
    if missing:
        raise ValueError(
            f"{labels.name}: {len(missing)} of {len(truth)} rows name files that are not in the folder: "
            f"{', '.join(missing[:3])}. Names must be relative to the folder, endings included."
        )
    return table.merge(truth, on="file", how="left", validate="one_to_one")
