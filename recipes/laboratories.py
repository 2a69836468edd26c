"""The photographs of the four laboratories as they lie in their folders: tables, and pictures out of their zips.

| laboratory | folder holds | source, licence |
|---|---|---|
| PBC | train.zip, val.zip, test.zip, attributes.csv, second-reader.csv | Acevedo 2020, CC BY 4.0; WBCAtt, MIT |
| KRD | pictures.zip (images/, masks/), cells.csv | Taha et al. 2023, CC BY 4.0 |
| BCCD | images/, boxes.csv, types.csv (see `recipes/photographs.py`) | MIT |
| Aslan | pictures.zip (images/), cells.csv | MIT |

Nothing here opens a picture before it is asked for, so a split that nobody asks for stays closed.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

KRD_HELD_OUT = Path(__file__).with_name("krd_held_out.txt")
"""The sixty KRD fields that no training sees, one name a line."""

PBC_SPLITS = ("train", "val", "test")


def read_pbc(folder: Path, split: str | None = None) -> pd.DataFrame:
    """WBCAtt's table: one row a cell, with `member`, the picture's place in `split`.zip.

    Args:
        folder: the PBC folder.
        split: "train", "val" or "test"; None for all three.

    Raises:
        ValueError: no such split.
    """
    table = pd.read_csv(folder / "attributes.csv", dtype=str, keep_default_na=False)
    table = table.rename(columns={"type": "cell_type"})
    table["member"] = table["cell_type"] + "/" + table["name"] + ".webp"
    if split is None:
        return table
    if split not in PBC_SPLITS:
        raise ValueError(f"PBC has no split {split!r}: choose from {', '.join(PBC_SPLITS)}.")
    return table[table["split"] == split].reset_index(drop=True)


def read_krd(folder: Path, held_out: bool | None = None) -> pd.DataFrame:
    """KRD's table: name, cell_type, group, box, and `member` and `mask`, the files in pictures.zip.

    Args:
        folder: the KRD folder.
        held_out: True for the sixty fields that no training sees, False for the others, None for all.

    Raises:
        ValueError: the stored list names fields that the table does not have, or parts a group of near-duplicates.
    """
    table = pd.read_csv(folder / "cells.csv").rename(columns={"type": "cell_type"})
    table["member"] = "images/" + table["name"] + ".webp"
    table["mask"] = "masks/" + table["name"] + ".png"
    kept = KRD_HELD_OUT.read_text("utf-8").split()
    if unknown := sorted(set(kept) - set(table["name"])):
        raise ValueError(f"{KRD_HELD_OUT.name} names fields that cells.csv does not have: {', '.join(unknown[:5])}.")
    out = table["name"].isin(kept)
    if both := sorted(set(table["group"][out]) & set(table["group"][~out])):
        raise ValueError(f"{KRD_HELD_OUT.name} parts near-duplicates: {both[0]} is on both sides. Keep groups whole.")
    return table if held_out is None else table[out == held_out].reset_index(drop=True)


def members(archive: Path, names: Iterable[str]) -> Iterator[bytes]:
    """The bytes of some files of a zip, in the order of `names`."""
    with zipfile.ZipFile(archive) as file:
        for name in names:
            yield file.read(name)


def unpack(archive: Path, names: Iterable[str], folder: Path) -> list[Path]:
    """Write some files of a zip below `folder`; returns their paths in the order of `names`."""
    names = list(names)
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder, names)
    return [folder / name for name in names]
