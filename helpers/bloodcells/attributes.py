"""What can be said of a white blood cell: WBCAtt's eleven attributes, and how to draw a cell description from them."""

import csv
import dataclasses
import functools
from pathlib import Path

import numpy as np

__all__ = ["ATTRIBUTES", "CELL_TYPES", "Cell", "attribute_counts", "sample_cell"]

CELL_TYPES = ("basophil", "eosinophil", "lymphocyte", "monocyte", "neutrophil")

ATTRIBUTES = {
    "cell_size": ("small", "big"),
    "cell_shape": ("round", "irregular"),
    "nucleus_shape": (
        "unsegmented-round",
        "unsegmented-indented",
        "unsegmented-band",
        "segmented-bilobed",
        "segmented-multilobed",
        "irregular",
    ),
    "nuclear_cytoplasmic_ratio": ("low", "high"),
    "chromatin_density": ("densely", "loosely"),
    "cytoplasm_vacuole": ("no", "yes"),
    "cytoplasm_texture": ("clear", "frosted"),
    "cytoplasm_colour": ("light blue", "blue", "purple blue"),
    "granule_type": ("nil", "small", "round", "coarse"),
    "granule_colour": ("nil", "pink", "purple", "red"),
    "granularity": ("no", "yes"),
}

DESIGNS = ("natural", "balanced", "decorrelated")
COUNTS_FILE = Path(__file__).resolve().parents[2] / "data" / "wbcatt" / "attribute-counts.csv"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One white blood cell in words: its type, or None, and the eleven WBCAtt attributes.

    A cell without granules says so three times: `granularity="no"`, `granule_type="nil"`, `granule_colour="nil"`.
    Any other mixture is a `ValueError`, as is a value that `ATTRIBUTES` does not list.

    >>> cell = Cell("lymphocyte", "small", "round", "unsegmented-round", "high", "densely", "no", "clear", "blue",
    ...             "nil", "nil", "no")
    >>> cell.replace(granule_type="small", granule_colour="pink").granularity
    'yes'
    """

    cell_type: str | None
    cell_size: str
    cell_shape: str
    nucleus_shape: str
    nuclear_cytoplasmic_ratio: str
    chromatin_density: str
    cytoplasm_vacuole: str
    cytoplasm_texture: str
    cytoplasm_colour: str
    granule_type: str
    granule_colour: str
    granularity: str

    def __post_init__(self):
        if self.cell_type is not None and self.cell_type not in CELL_TYPES:
            raise ValueError(
                f"cell_type: {self.cell_type!r} is none of {', '.join(CELL_TYPES)}; use one of them, or None"
            )
        for name, values in ATTRIBUTES.items():
            if getattr(self, name) not in values:
                raise ValueError(
                    f"{name}: {getattr(self, name)!r} is not a value of it; use one of {', '.join(values)}"
                )
        without = (self.granularity == "no", self.granule_type == "nil", self.granule_colour == "nil")
        if any(without) and not all(without):
            raise ValueError(
                f"granularity {self.granularity!r}, granule_type {self.granule_type!r} and granule_colour "
                f"{self.granule_colour!r} contradict each other; without granules say 'no', 'nil', 'nil', "
                "with granules give a type and a colour"
            )

    def replace(self, **changes):
        """The same cell with some values changed; the two granule attributes not named follow where they can.

        Taking the granules away in one attribute takes them away in all three. Giving granules to a cell that has
        none needs a type and a colour.
        """
        granules = {
            name: changes[name] for name in ("granularity", "granule_type", "granule_colour") if name in changes
        }
        if granules and all(value in ("no", "nil") for value in granules.values()):
            changes = {**changes, "granularity": "no", "granule_type": "nil", "granule_colour": "nil"}
        elif granules and not any(value in ("no", "nil") for value in granules.values()):
            changes = {**changes, "granularity": "yes"}
        return dataclasses.replace(self, **changes)


@functools.cache
def attribute_counts():
    """How many WBCAtt cells show each combination: a dict `Cell` → count, from data/wbcatt/attribute-counts.csv.

    Three of the 10,298 cells call themselves granular without a granule type or colour; they are left out.
    """
    counts: dict[Cell, int] = {}
    with COUNTS_FILE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                cell = Cell(row["label"].lower(), **{name: row[name] for name in ATTRIBUTES})
            except ValueError:
                continue
            counts[cell] = counts.get(cell, 0) + int(row["cells"])
    return counts


def sample_cell(rng, design="natural", cell_type=None):
    """Draw a `Cell` with a `numpy.random.Generator`.

    Designs:
        natural: as often as in WBCAtt, types and combinations alike.
        balanced: the five types equally often, within a type combinations by the square root of their count.
        decorrelated: every attribute uniform and independent of all others; such a cell has no type.

    `cell_type` keeps to one type (natural and balanced only).
    """
    if design not in DESIGNS:
        raise ValueError(f"design: {design!r} is unknown; use one of {', '.join(DESIGNS)}")
    if cell_type is not None and cell_type not in CELL_TYPES:
        raise ValueError(f"cell_type: {cell_type!r} is none of {', '.join(CELL_TYPES)}")
    if design == "decorrelated":
        if cell_type is not None:
            raise ValueError(
                "cell_type: a decorrelated cell has no type; leave cell_type out, or use design='balanced'"
            )
        values = {name: options[rng.integers(len(options))] for name, options in ATTRIBUTES.items()}
        for name in ("granule_type", "granule_colour"):
            options = ATTRIBUTES[name][1:]
            values[name] = options[rng.integers(len(options))] if values["granularity"] == "yes" else "nil"
        return Cell(None, **values)
    if design == "balanced" and cell_type is None:
        cell_type = CELL_TYPES[rng.integers(len(CELL_TYPES))]
    cells, cumulative = _cumulative(design, cell_type)
    return cells[int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))]


@functools.cache
def _cumulative(design, cell_type):
    counts = {cell: n for cell, n in attribute_counts().items() if cell_type in (None, cell.cell_type)}
    weights = np.array(list(counts.values()), dtype=np.float64)
    return list(counts), np.cumsum(np.sqrt(weights) if design == "balanced" else weights)
