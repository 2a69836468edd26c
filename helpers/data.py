"""Pictures with their truth: drawn and real cells that ship with the project, a folder of one's own, BloodMNIST."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from .encoding import open_image

DATA = Path(__file__).resolve().parent.parent / "data"
ATLAS = DATA / "atlas"
CELLS = DATA / "cells"
FRESH_SEED = 8_000_000
"""Seeds of cells rendered on demand start here: no training picture and no cell of the atlas shares one."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")

BLOODMNIST_TYPES = {
    "basophil": "basophil",
    "eosinophil": "eosinophil",
    "erythroblast": None,
    "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)": None,
    "lymphocyte": "lymphocyte",
    "monocyte": "monocyte",
    "neutrophil": "neutrophil",
    "platelet": None,
}
"""BloodMNIST's eight classes in the order of their numbers, as medmnist names them, and our type of each (if any)."""


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
    from .bloodcells import PARTS

    folder = Path(folder) if folder else ATLAS
    table = _cells_table(folder, "atlas", split)
    paths = [folder / "images" / Path(file).name for file in table["file"]]
    bits = np.stack([np.asarray(open_image(folder / "masks" / f"{path.stem}.png")) for path in paths])
    masks = Masks({part: (bits >> bit & 1).astype(bool) for bit, part in enumerate(PARTS)})
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


def render_cells(count: int, *, design: str = "balanced", first_seed: int = FRESH_SEED) -> Atlas:
    """More cells than the atlas has, rendered now (some 30 ms each), with the same columns and truth.

    Args:
        count: how many; the same count, design and seed give the same pictures.
        design: "natural", "balanced" or "decorrelated", as in `helpers.bloodcells.sample_cell`; the first two take the
            five types in turn.
        first_seed: of the first cell; the default begins where neither training nor atlas has been.

    Returns:
        Atlas; its table has neither `file` nor `split`. No cell is cut by the border.
    """
    from .bloodcells import CELL_TYPES, caption, part_shares, render, sample_cell, truth

    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}.")
    rows, pictures = [], []
    for number in range(count):
        seed = first_seed + number
        while True:
            rng = np.random.default_rng(seed)
            cell_type = None if design == "decorrelated" else CELL_TYPES[number % len(CELL_TYPES)]
            cell = sample_cell(rng, design, cell_type=cell_type)
            picture = render(cell, seed)
            if picture.visible >= 0.95:
                break
            seed += 10_000  # this one is cut by the border: another stands in for it
        truths = truth(cell, part_shares(picture.masks), picture.visible)
        row = {"id": str(number), "design": design, "seed": seed, **asdict(cell)}
        rows.append(row | {"caption": caption(truths, rng, concepts=3).text} | truths)
        pictures.append(picture)
    table = pd.DataFrame(rows)
    table[list(truths)] = table[list(truths)].astype(float)  # True, False, None -> 1, 0, NaN
    masks = Masks({part: np.stack([picture.masks[part] for picture in pictures]) for part in pictures[0].masks})
    return Atlas(table, Images([picture.image for picture in pictures]), masks)


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


def load_bloodmnist(split: str = "test", *, size: int = 224, file: str | os.PathLike | None = None, download=False):
    """BloodMNIST (Acevedo et al. 2020, CC BY 4.0; Yang et al. 2023): real blood cells of eight classes.

    Args:
        split: "train", "val" or "test".
        size: 28, 64, 128 or 224 pixels.
        file: a local .npz in medmnist's format (`train_images` uint8 [N, S, S, 3], `train_labels` [N, 1], ...); then
            nothing else is needed.
        download: fetch it (1.5 GB at 224 pixels) with the `medmnist` package; never without being asked.

    Returns:
        (images: uint8 [N, S, S, 3], table: DataFrame with columns class_name and cell_type, our type or None).

    Raises:
        ValueError: the file is not there, damaged or not of that format; ImportError: medmnist is needed and missing.
    """
    if split not in ("train", "val", "test"):
        raise ValueError(f"split must be 'train', 'val' or 'test', not {split!r}.")
    if file is None:
        file = _bloodmnist_file(size, download)
    file = Path(file)
    if not file.is_file():
        raise ValueError(f"{file.name}: no such file. Check the path.")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"].ravel()
    except Exception as error:  # what numpy, zipfile, zlib and tokenize make of damaged bytes has no common class
        raise ValueError(
            f"{file.name}: damaged, or not in medmnist's format ({type(error).__name__}: {error}). It needs "
            f"{split}_images and _labels; if it has been downloaded, download it again."
        ) from error
    names = list(BLOODMNIST_TYPES)
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or len(images) != len(labels)
        or labels.dtype.kind not in "iu"
        or not np.isin(labels, np.arange(len(names))).all()
    ):
        raise ValueError(f"{file.name}: images {images.dtype} {images.shape} and labels do not look like BloodMNIST.")
    table = pd.DataFrame({"class_name": [names[label] for label in labels]})
    table["cell_type"] = table["class_name"].map(BLOODMNIST_TYPES)
    return images, table


def _bloodmnist_file(size: int, download: bool) -> Path:
    """The .npz where medmnist keeps it, fetched if asked for: its address and checksum, but not its torchvision."""
    try:
        from medmnist.info import DEFAULT_ROOT, INFO
    except ImportError as error:
        raise ImportError(
            "BloodMNIST needs the medmnist package: pip install --no-deps medmnist. Or give file=, a local .npz."
        ) from error
    flag = "" if size == 28 else f"_{size}"
    if f"url{flag}" not in INFO["bloodmnist"]:
        raise ValueError(f"BloodMNIST has no size {size}: choose 28, 64, 128 or 224.")
    file = Path(DEFAULT_ROOT) / f"bloodmnist{flag}.npz"
    if file.is_file():
        return file
    if not download:
        raise ValueError(f"{file.name} is not on this machine. Pass download=True to fetch it (large), or file=.")
    import torch.hub

    beside = file.with_suffix(".part")
    try:
        torch.hub.download_url_to_file(INFO["bloodmnist"][f"url{flag}"], str(beside))
        with beside.open("rb") as part:
            found = hashlib.file_digest(part, "md5").hexdigest()
        if found != INFO["bloodmnist"][f"MD5{flag}"]:
            raise ValueError(f"{file.name}: the download is damaged (its checksum differs). Try again.")
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    return file
