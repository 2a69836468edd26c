"""Choose the real cells that ship: photographs of PBC with their eleven attributes, and KRD fields with their masks.

    python -m recipes.make_cells --pbc PBC --krd KRD            # write data/cells
    python -m recipes.make_cells --pbc PBC --krd KRD --check    # choose again and compare, file by file

No picture is opened or saved anew: the bytes are those of the zips.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.bloodcells import ATTRIBUTES, CELL_TYPES, CONCEPTS, Cell, caption, truth

from .laboratories import PBC_SPLITS, members, read_krd, read_pbc
from .make_atlas import differences
from .near_copies import never_trained_on

PER_TYPE = {"train": 120, "val": 24, "test": 96}
"""Cells of each of the five types, split by split."""

TYPICAL = 4
"""So many of each type come first in each split: cells with the combination of attributes most frequent in the type."""

OURS = ("README.md", "LICENCE.md")
"""What stands in data/cells and is written by hand."""


def attribute_truths(cell: Cell) -> dict[str, bool | None]:
    """Concept key → True, False or None, as far as the eleven attributes and the type decide it.

    A cell that has been read has a nucleus and a cytoplasm, and granules if it is granular; of red cells, platelets and
    background the reading says nothing.
    """
    # Between its two limits nobody can say whether a part is there: that is where the unread ones are put.
    shares = {c.part: sum(c.present) / 2 for c in CONCEPTS.values() if c.present is not None}
    shares |= {"white cell": 1.0, "nucleus": 1.0, "cytoplasm": 1.0, "granules": float(cell.granularity == "yes")}
    return truth(cell, shares)


def type_truths(cell_type: str) -> dict[str, bool | None]:
    """What is decided by the type alone, for photographs whose attributes nobody read."""
    known = {name: name == cell_type for name in CELL_TYPES} | {"white cell": True, "nucleus": True, "cytoplasm": True}
    return {key: known.get(key) for key in CONCEPTS}


def as_cell(row: Mapping[str, str]) -> Cell | None:
    """The `Cell` of a row of attributes; None when the row contradicts itself (three of PBC's 10,298 do)."""
    try:
        return Cell(row["cell_type"], **{name: row[name] for name in ATTRIBUTES})
    except ValueError:
        return None


def shuffled(names) -> list[str]:
    """The names in an order that has nothing to do with them and is the same everywhere."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


def choose_pbc(table: pd.DataFrame, second: set[str], left_out: set[str]) -> pd.DataFrame:
    """The rows that ship, split by split, the types in turn.

    Args:
        table: WBCAtt's, as `read_pbc` gives it.
        second: names of the cells that a second reader read; those of the test split are all taken.
        left_out: names that are not taken.

    Raises:
        ValueError: a type has too few cells, or more that were read twice than there are places.
    """
    sound = np.array([as_cell(row) is not None for row in table.to_dict("records")])
    fine = table[sound & ~table["name"].isin(left_out)]
    often = table.groupby(["cell_type", *ATTRIBUTES])["name"].transform("size")
    chosen = []
    for split in PBC_SPLITS:
        rounds = []
        for cell_type in CELL_TYPES:
            rows = fine[(fine["split"] == split) & (fine["cell_type"] == cell_type)]
            first = rows["name"][rows["name"].isin(second)] if split == "test" else []
            rest = set(rows["name"]) - set(first)
            names = [*shuffled(first), *shuffled(rest)][: PER_TYPE[split]]
            if len(first) > PER_TYPE[split] or len(names) < PER_TYPE[split]:
                raise ValueError(
                    f"{split}, {cell_type}: {len(rows)} cells, {len(first)} of them read twice, do not make "
                    f"{PER_TYPE[split]}: change PER_TYPE."
                )
            picked = rows.set_index("name").loc[names]
            frequency = often[rows.index].set_axis(rows["name"])[names]
            typical = shuffled(frequency.index[frequency == often[rows.index].max()])[:TYPICAL]
            rounds.append([*typical, *shuffled(set(picked.index) - set(typical))])
        chosen += [name for turn in zip(*rounds, strict=True) for name in turn]
    return table.set_index("name").loc[chosen].reset_index()


def in_turn(table: pd.DataFrame) -> pd.DataFrame:
    """The rows so that the types take turns as long as they last."""
    table = table.set_index("name").loc[shuffled(table["name"])].reset_index()
    turn = table.groupby("cell_type").cumcount()
    return table.assign(turn=turn).sort_values(["turn", "cell_type"], kind="stable").drop(columns="turn")


def readings(table: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Both readings of all cells that were read twice: id, split, cell_type, reader (1 or 2), the eleven attributes."""
    second = second.rename(columns={"type": "cell_type"}).sort_values("name")
    first = table.set_index("name").loc[second["name"]].reset_index()
    both = pd.concat([first.assign(reader=1), second.assign(reader=2, split=first["split"].to_numpy())])
    both = both.rename(columns={"name": "id"}).sort_values(["id", "reader"])
    return both[["id", "split", "cell_type", "reader", *ATTRIBUTES]]


def make_cells(pbc: Path, krd: Path, folder: Path) -> None:
    """Write cells.csv, second-reader.csv, images/ and masks/ into a new folder."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    table = read_pbc(pbc)
    second = pd.read_csv(pbc / "second-reader.csv", dtype=str, keep_default_na=False)
    cells = choose_pbc(table, set(second["name"]), never_trained_on())
    fields = in_turn(read_krd(krd, held_out=True))
    rows, rng = [], np.random.default_rng(0)

    def add(row: dict, laboratory: str, attributes: dict, truths: dict[str, bool | None]) -> None:
        rows.append(
            {"id": row["name"], "file": f"{row['name']}.webp", "split": row["split"], "laboratory": laboratory}
            | {"cell_type": row["cell_type"], **attributes}
            | {"caption": caption(truths, rng, concepts=3).text}
            | {key: value if value is None else int(value) for key, value in truths.items()}
        )

    for row in cells.to_dict("records"):
        cell = as_cell(row)
        add(row, "PBC", asdict(cell), attribute_truths(cell))
    for row in fields.assign(split="krd").to_dict("records"):
        add(row, "KRD", dict.fromkeys(ATTRIBUTES), type_truths(row["cell_type"]))
    written = pd.DataFrame(rows)
    written[list(CONCEPTS)] = written[list(CONCEPTS)].astype("Int8")
    written.to_csv(folder / "cells.csv", index=False, lineterminator="\n")
    readings(table, second).to_csv(folder / "second-reader.csv", index=False, lineterminator="\n")

    for split, part in cells.groupby("split"):
        copy(pbc / f"{split}.zip", part["member"], folder / "images")
    copy(krd / "pictures.zip", fields["member"], folder / "images")
    copy(krd / "pictures.zip", fields["mask"], folder / "masks")


def copy(archive: Path, names: pd.Series, folder: Path) -> None:
    """The files of a zip, byte by byte, side by side in a folder."""
    for name, content in zip(names, members(archive, names), strict=True):
        (folder / Path(name).name).write_bytes(content)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pbc", type=Path, required=True, help="the PBC folder: three zips, attributes, second reader")
    parser.add_argument("--krd", type=Path, required=True, help="the KRD folder: pictures.zip, cells.csv")
    parser.add_argument("--out", type=Path, default=Path("data/cells"))
    parser.add_argument("--check", action="store_true", help="compare with --out instead of writing")
    options = parser.parse_args(arguments)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out.parent) as temporary:
        fresh = Path(temporary) / "cells"
        make_cells(options.pbc, options.krd, fresh)
        if options.check:
            different = [name for name in differences(fresh, options.out) if name not in OURS]
            print(f"{len(different)} files differ{': ' + ', '.join(different[:10]) if different else ''}")
            return 1 if different else 0
        for name in OURS:
            if (options.out / name).exists():
                shutil.copy(options.out / name, fresh)
        shutil.rmtree(options.out, ignore_errors=True)
        fresh.replace(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
