"""The drawn cells as a `Domain`: what `helpers/domains/blood_cells.yaml` is written from.

The core reads that file, so that it need not import this room; a test holds the two equal. After a change here:
`python -m helpers.bloodcells.domain`.
"""

from __future__ import annotations

from ..domains import Domain
from ..domains.domain import SHIPPED
from .attributes import CELL_TYPES
from .concepts import CONCEPTS, GUIDE_CONCEPTS


def blood_cells() -> Domain:
    """White blood cells: five types, the concepts of `CONCEPTS`, and the guide's prompts around them."""
    return Domain(
        name="blood cells",
        source="The attributes of WBCAtt (Tsutsui et al., NeurIPS 2023) and the prompts of the ConceptCLIP guide.",
        classes={name: CONCEPTS[name].phrases[0] for name in CELL_TYPES},
        concepts={key: concept.phrases for key, concept in CONCEPTS.items()},
        groups={key: concept.group for key, concept in CONCEPTS.items() if concept.group != "scene"},
        templates=("a photo of {}", "a cell photo with sign of {}"),
        concept_templates="a cell photo with sign of {}",
        references="a cell photo",
        units=("patient", "slide", "photograph"),
        featured=GUIDE_CONCEPTS,
    )


if __name__ == "__main__":
    blood_cells().to_yaml(SHIPPED / "blood_cells.yaml")
