"""Is a test picture, or a near-copy of one, among the training pictures? Compare perceptual hashes across all sets.

    python -m recipes.near_copies --pbc PBC --krd KRD --bccd BCCD --aslan ASLAN      # writes recipes/near_copies.csv

A hash is 256 bits: which of the 16 x 16 slowest waves of the grey picture (scaled to 64 x 64) lie above their median, a
pHash. It is the same after compression, scaling and most changes of colour; each picture is compared in its eight
orientations. It does not find the same cell in another frame (moved by more than a few pixels).

What the list names under `other_name` is left out of training, and of `data/cells`: `never_trained_on` has the names.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.fft import dctn
from tqdm import tqdm

from .laboratories import members, read_krd, read_pbc
from .photographs import load_annotations, split

FOUND = Path(__file__).with_name("near_copies.csv")
NEAR = 40
"""So few differing bits of the 256 make a near-copy. Measured: copies differ in 0, strangers in 64 or more."""

COLUMNS = ["kept_set", "kept_name", "other_set", "other_name", "bits", "orientation"]
ORIENTATIONS = [(turns, mirrored) for mirrored in (False, True) for turns in range(4)]


def grey(picture: bytes, side: int = 64) -> np.ndarray:
    """The picture as float32 [side, side] of grey values."""
    with Image.open(io.BytesIO(picture)) as image:
        return np.asarray(image.convert("L").resize((side, side), Image.Resampling.LANCZOS), np.float32)


def hashes(pictures: np.ndarray, waves: int = 16) -> np.ndarray:
    """Perceptual hashes: bool [N, waves²] of grey pictures [N, S, S]."""
    slow = dctn(pictures, axes=(1, 2), norm="ortho")[:, :waves, :waves].reshape(len(pictures), -1)
    return slow > np.median(slow[:, 1:], axis=1, keepdims=True)  # without the first, which is the mean grey


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """In how many bits each hash of one set differs from each of another: float32 [N, M]."""
    first, second = 1 - 2 * first.astype(np.float32), 1 - 2 * second.astype(np.float32)
    return (first.shape[1] - first @ second.T) / 2


def compare(kept: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The fewest differing bits over the eight orientations of `kept` [N, S, S]: (bits, orientation), each [N, M]."""
    theirs = hashes(other)
    bits = np.full((len(kept), len(other)), np.inf, np.float32)
    which = np.zeros(bits.shape, np.int8)
    for number, (turns, mirrored) in enumerate(ORIENTATIONS):
        turned = np.rot90(kept, turns, axes=(1, 2))
        found = distances(hashes(turned[:, :, ::-1] if mirrored else turned), theirs)
        better = found < bits
        bits[better], which[better] = found[better], number
    return bits, which


def orientation_name(number: int) -> str:
    turns, mirrored = ORIENTATIONS[number]
    return f"{'mirrored, ' if mirrored else ''}turned by {90 * turns}°" if number else "as it is"


def load_sets(pbc: Path, krd: Path, bccd: Path, aslan: Path) -> dict[str, tuple[list[str], np.ndarray]]:
    """Set → (names, grey pictures [N, 64, 64])."""
    sets = {}

    def add(name: str, names: Iterable[str], pictures: Iterable[bytes]) -> None:
        names = list(names)
        sets[name] = names, np.stack([grey(picture) for picture in tqdm(pictures, name, len(names))])

    for part in ("test", "val", "train"):
        table = read_pbc(pbc, part)
        add(f"PBC {part}", table["name"], members(pbc / f"{part}.zip", table["member"]))
    for name, held_out in (("KRD held out", True), ("KRD train", False)):
        table = read_krd(krd, held_out)
        add(name, table["name"], members(krd / "pictures.zip", table["member"]))
    train, held_out = split(load_annotations(bccd)[1])
    for name, files in (("BCCD held out", held_out), ("BCCD train", train)):
        add(name, files, ((bccd / "images" / file).read_bytes() for file in files))
    names = pd.read_csv(aslan / "cells.csv")["name"]
    add("Aslan", names, members(aslan / "pictures.zip", "images/" + names + ".webp"))
    return sets


KEPT = ("PBC test", "PBC val", "KRD held out", "BCCD held out")
OTHER = ("PBC train", "KRD train", "BCCD train", "Aslan", "PBC val")
"""Each of the first is compared with each of the second; PBC val is chosen on, so it is compared with the tests too."""


def near_copies(sets: dict[str, tuple[list[str], np.ndarray]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(the pairs that are near-copies; for each two sets, how many there are and how near the nearest stranger is)."""
    pairs, counts = [], []
    for one in KEPT:
        for two in OTHER:
            if one == two:
                continue
            (names, kept), (others, other) = sets[one], sets[two]
            bits, which = compare(kept, other)
            rows, columns = np.nonzero(bits <= NEAR)
            pairs += [
                (one, names[r], two, others[c], int(bits[r, c]), orientation_name(which[r, c]))
                for r, c in zip(rows, columns, strict=True)
            ]
            counts.append((one, two, len(rows), int(bits[bits > NEAR].min())))
    return (
        pd.DataFrame(pairs, columns=COLUMNS),
        pd.DataFrame(counts, columns=["kept", "compared with", "near-copies", "bits to the nearest stranger"]),
    )


def never_trained_on() -> set[str]:
    """The names of the pictures for training, or for choosing, of which a test set holds a near-copy."""
    return set(pd.read_csv(FOUND)["other_name"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("pbc", "krd", "bccd", "aslan"):
        parser.add_argument(f"--{name}", type=Path, required=True, help=f"the folder of {name.upper()}")
    parser.add_argument("--out", type=Path, default=FOUND)
    options = parser.parse_args(arguments)
    pairs, counts = near_copies(load_sets(options.pbc, options.krd, options.bccd, options.aslan))
    pairs.to_csv(options.out, index=False, lineterminator="\n")
    print(counts.to_string(index=False))
    print(pairs.to_string(index=False))


if __name__ == "__main__":
    main()
