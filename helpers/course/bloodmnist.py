"""BloodMNIST on demand: real blood cells in eight classes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd

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
