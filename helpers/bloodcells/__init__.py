"""Stained white blood cells on demand: attributes in, picture and truth out. Knows nothing of models."""

from .attributes import ATTRIBUTES, CELL_TYPES, Cell, attribute_counts, sample_cell
from .captions import TEMPLATES, Caption, Span, caption, compose
from .concepts import CONCEPTS, GUIDE_CONCEPTS, GUIDE_PROMPTS, Concept, part_shares, truth
from .render import PARTS, Picture, render
from .rendered import FRESH_SEED, render_cells

__all__ = [
    "ATTRIBUTES",
    "CELL_TYPES",
    "CONCEPTS",
    "FRESH_SEED",
    "GUIDE_CONCEPTS",
    "GUIDE_PROMPTS",
    "PARTS",
    "TEMPLATES",
    "Caption",
    "Cell",
    "Concept",
    "Picture",
    "Span",
    "attribute_counts",
    "caption",
    "compose",
    "part_shares",
    "render",
    "render_cells",
    "sample_cell",
    "truth",
]
