"""The concepts that a picture of blood can show, the phrases that name them, and when they are true.

Every concept is one row of a table: its phrases (the first is the canonical one), the part of the picture where it is
seen, and the attribute values that make it true. Sources: the eleven attributes of WBCAtt (Tsutsui et al., NeurIPS
2023) and the nine concept prompts of the ConceptCLIP guide, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .attributes import Cell

GUIDE_PROMPTS = (
    "a cell photo with sign of Segmented nucleus",
    "a cell photo with sign of Band nucleus (band form)",
    "a cell photo with sign of Reniform / indented nucleus",
    "a cell photo with sign of Round nucleus",
    "a cell photo with sign of Fine azurophilic granules",
    "a cell photo with sign of Eosinophilic granules",
    "a cell photo with sign of Basophilic granules",
    "a cell photo with sign of Basophilic cytoplasm",
    "a cell photo with sign of Cytoplasmic vacuoles",
)
"""The guide's nine prompts (section 4), word for word and in its order."""

GUIDE_CONCEPTS = (
    "segmented nucleus",
    "band nucleus",
    "indented nucleus",
    "round nucleus",
    "fine azurophilic granules",
    "eosinophilic granules",
    "basophilic granules",
    "basophilic cytoplasm",
    "cytoplasmic vacuoles",
)
"""The key in :data:`CONCEPTS` of each of the guide's nine prompts, in the same order."""

VISIBLE_SHARE = 0.8
"""A cell of which less than this share lies inside the picture has unknown attributes: too much of it is cut away."""


@dataclass(frozen=True)
class Concept:
    """One thing that a phrase can name.

    Attributes:
        key: the name by which tables and functions know it.
        phrases: ways to say it in lower case; the first is canonical.
        group: captions name at most one concept of a group (two of them would contradict or repeat each other).
        part: where it shows: one of the parts of :func:`part_shares`, or None when it is a matter of the whole cell.
        when: attribute → values; true of a cell when every attribute listed has one of its values.
        present: for a part itself ("nucleus", "red cells"): (absent below, present from), as shares of the picture's
            area; between the two nobody can say, and the truth is None.
    """

    key: str
    phrases: tuple[str, ...]
    group: str
    part: str | None = None
    when: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    present: tuple[float, float] | None = None


def _type(name: str, *synonyms: str) -> Concept:
    return Concept(name, (name, *synonyms), "type", "white cell", {"cell_type": (name,)})


def _trait(group: str, part: str | None, phrases: tuple[str, ...], **when: tuple[str, ...]) -> Concept:
    return Concept(phrases[0], phrases, group, part, when)


def _part(name: str, phrases: tuple[str, ...], absent: float, present: float, group: str = "scene") -> Concept:
    return Concept(name, phrases, group, name, present=(absent, present))


_SEGMENTED = ("segmented-bilobed", "segmented-multilobed")

_TABLE = (
    # The five types.
    _type("neutrophil", "polymorph", "segmented granulocyte", "neutrophil granulocyte", "polymorphonuclear leukocyte"),
    _type("eosinophil", "eosinophil granulocyte", "eosinophilic leukocyte", "acidophil"),
    _type("basophil", "basophil granulocyte", "basophilic leukocyte"),
    _type("lymphocyte", "lymphoid cell", "small round lymphocyte"),
    _type("monocyte", "mononuclear phagocyte", "large monocyte"),
    Concept("granulocyte", ("granulocyte", "granular leukocyte"), "type", "white cell", {"granularity": ("yes",)}),
    Concept("agranulocyte", ("agranulocyte", "agranular leukocyte"), "type", "white cell", {"granularity": ("no",)}),
    # The nucleus.
    _trait(
        "nucleus",
        "nucleus",
        ("segmented nucleus", "lobed nucleus", "lobulated nucleus", "nucleus divided into lobes"),
        nucleus_shape=_SEGMENTED,
    ),
    _trait(
        "nucleus",
        "nucleus",
        ("bilobed nucleus", "segmented-bilobed nucleus", "nucleus with two lobes", "two-lobed nucleus"),
        nucleus_shape=("segmented-bilobed",),
    ),
    _trait(
        "nucleus",
        "nucleus",
        ("multilobed nucleus", "segmented-multilobed nucleus", "nucleus with several lobes", "many-lobed nucleus"),
        nucleus_shape=("segmented-multilobed",),
    ),
    _trait(
        "nucleus",
        "nucleus",
        ("band nucleus", "band nucleus (band form)", "band form", "horseshoe nucleus", "unsegmented-band nucleus"),
        nucleus_shape=("unsegmented-band",),
    ),
    _trait(
        "nucleus",
        "nucleus",
        (
            "indented nucleus",
            "reniform / indented nucleus",
            "reniform nucleus",
            "kidney-shaped nucleus",
            "unsegmented-indented nucleus",
        ),
        nucleus_shape=("unsegmented-indented",),
    ),
    _trait(
        "nucleus",
        "nucleus",
        ("round nucleus", "unsegmented-round nucleus", "circular nucleus", "spherical nucleus"),
        nucleus_shape=("unsegmented-round",),
    ),
    _trait(
        "nucleus",
        "nucleus",
        ("irregular nucleus", "nucleus of irregular shape", "misshapen nucleus"),
        nucleus_shape=("irregular",),
    ),
    _trait(
        "chromatin",
        "nucleus",
        ("dense chromatin", "densely packed chromatin", "clumped chromatin", "condensed chromatin"),
        chromatin_density=("densely",),
    ),
    _trait(
        "chromatin",
        "nucleus",
        ("loose chromatin", "loosely packed chromatin", "lacy chromatin", "open chromatin"),
        chromatin_density=("loosely",),
    ),
    # Granules.
    _trait(
        "granules",
        "granules",
        ("fine azurophilic granules", "azurophilic granules", "fine pink granules"),
        granule_type=("small",),
        granule_colour=("pink", "purple"),
    ),
    _trait(
        "granules",
        "granules",
        ("eosinophilic granules", "red granules", "orange-red granules", "acidophilic granules"),
        granule_colour=("red",),
    ),
    _trait(
        "granules",
        "granules",
        ("basophilic granules", "dark purple granules", "metachromatic granules"),
        granule_type=("round", "coarse"),
        granule_colour=("purple",),
    ),
    _trait("granules", "granules", ("small granules", "fine granules", "tiny granules"), granule_type=("small",)),
    _trait("granules", "granules", ("round granules", "spherical granules"), granule_type=("round",)),
    _trait("granules", "granules", ("coarse granules", "coarse irregular granules"), granule_type=("coarse",)),
    _trait("granules", "granules", ("pink granules", "pale pink granules"), granule_colour=("pink",)),
    _trait("granules", "granules", ("purple granules", "violet granules"), granule_colour=("purple",)),
    _trait(
        "granules",
        None,
        ("no granules", "absence of granules", "agranular cytoplasm", "cytoplasm without granules"),
        granularity=("no",),
    ),
    # Cytoplasm.
    _trait(
        "cytoplasm",
        "cytoplasm",
        ("basophilic cytoplasm", "deeply basophilic cytoplasm", "blue-staining cytoplasm"),
        cytoplasm_colour=("blue", "purple blue"),
    ),
    _trait(
        "cytoplasm",
        "cytoplasm",
        ("light blue cytoplasm", "pale cytoplasm", "pale blue cytoplasm"),
        cytoplasm_colour=("light blue",),
    ),
    _trait("cytoplasm", "cytoplasm", ("blue cytoplasm", "bright blue cytoplasm"), cytoplasm_colour=("blue",)),
    _trait(
        "cytoplasm",
        "cytoplasm",
        ("purple blue cytoplasm", "purplish blue cytoplasm", "violet-blue cytoplasm"),
        cytoplasm_colour=("purple blue",),
    ),
    _trait(
        "texture",
        "cytoplasm",
        ("frosted cytoplasm", "ground-glass cytoplasm", "frosted cytoplasm texture"),
        cytoplasm_texture=("frosted",),
    ),
    _trait(
        "texture",
        "cytoplasm",
        ("clear cytoplasm", "smooth cytoplasm", "clear cytoplasm texture"),
        cytoplasm_texture=("clear",),
    ),
    _trait(
        "vacuoles",
        "vacuoles",
        ("cytoplasmic vacuoles", "vacuoles", "vacuolated cytoplasm", "clear bubbles in the cytoplasm"),
        cytoplasm_vacuole=("yes",),
    ),
    _trait("vacuoles", None, ("no vacuoles", "absence of vacuoles"), cytoplasm_vacuole=("no",)),
    # The cell as a whole.
    _trait(
        "ratio",
        "white cell",
        (
            "high nuclear-cytoplasmic ratio",
            "high nuclear to cytoplasmic ratio",
            "scant cytoplasm",
            "thin rim of cytoplasm",
        ),
        nuclear_cytoplasmic_ratio=("high",),
    ),
    _trait(
        "ratio",
        "white cell",
        ("low nuclear-cytoplasmic ratio", "low nuclear to cytoplasmic ratio", "abundant cytoplasm"),
        nuclear_cytoplasmic_ratio=("low",),
    ),
    _trait("size", "white cell", ("big cell", "large cell", "large cell size"), cell_size=("big",)),
    _trait("size", "white cell", ("small cell", "small cell size"), cell_size=("small",)),
    _trait("shape", "white cell", ("round cell", "round cell shape", "smooth round outline"), cell_shape=("round",)),
    _trait(
        "shape",
        "white cell",
        ("irregular cell", "irregular cell shape", "irregular outline"),
        cell_shape=("irregular",),
    ),
    # The parts themselves and what lies around the cell.
    _part("white cell", ("white blood cell", "white cell", "leukocyte", "wbc"), 0.002, 0.02),
    _part("nucleus", ("nucleus", "cell nucleus", "purple nucleus"), 0.002, 0.015),
    _part("cytoplasm", ("cytoplasm", "cell cytoplasm", "cytoplasm around the nucleus"), 0.002, 0.015),
    _part("granules", ("granules", "cytoplasmic granules", "granular cytoplasm"), 0.0002, 0.002, "granules"),
    _part(
        "red cells",
        ("red blood cells", "red cells", "erythrocytes", "red blood cell", "erythrocyte", "rbc"),
        0.002,
        0.02,
    ),
    _part("platelets", ("platelets", "platelet", "thrombocytes", "blood platelets"), 0.0002, 0.002),
    _part("background", ("background", "empty background", "plasma", "empty space between cells"), 0.005, 0.05),
)

CONCEPTS: dict[str, Concept] = {concept.key: concept for concept in _TABLE}
"""Every concept by its key, in a fixed order."""


def part_shares(masks: Mapping[str, Any]) -> dict[str, float]:
    """The share of the picture's area that each part covers, derived parts included.

    Args:
        masks: part → bool array [H, W], as in ``Picture.masks``.

    Returns:
        part → share in [0, 1], with "white cell" (nucleus or cytoplasm) and "background" (no part at all) added.
    """
    white_cell = masks["nucleus"] | masks["cytoplasm"]
    background = ~(white_cell | masks["red cells"] | masks["platelets"])
    everything = {**masks, "white cell": white_cell, "background": background}
    return {part: float(mask.mean()) for part, mask in everything.items()}


def truth(cell: Cell | None, shares: Mapping[str, float], visible: float = 1.0) -> dict[str, bool | None]:
    """What is true of a picture, concept by concept.

    Args:
        cell: the white cell drawn in the picture, None for a field without one.
        shares: the area of each part, from :func:`part_shares`.
        visible: the share of the cell's own area that lies inside the picture, in [0, 1].

    Returns:
        concept key → True, False, or None when nobody could say: an imaginary cell has no type, a cell cut by the
        border has unknown attributes, and a handful of pixels neither shows a part nor proves it absent.
    """
    white_cell = CONCEPTS["white cell"].present
    no_cell = cell is None or (white_cell is not None and shares["white cell"] < white_cell[0])
    result: dict[str, bool | None] = {}
    for concept in CONCEPTS.values():
        if concept.present is not None and concept.part is not None:
            absent_below, present_from = concept.present
            share = shares[concept.part]
            result[concept.key] = True if share >= present_from else False if share < absent_below else None
        elif no_cell:
            # "No granules" and "no vacuoles" say something about a cell; without one they are neither true nor false.
            result[concept.key] = None if concept.part is None else False
        elif visible < VISIBLE_SHARE:
            result[concept.key] = None
        else:
            values = [getattr(cell, name) for name in concept.when]
            known = None not in values
            result[concept.key] = (
                all(value in allowed for value, allowed in zip(values, concept.when.values(), strict=True))
                if known
                else None
            )
    return result
