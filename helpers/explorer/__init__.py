"""Explorers for JupyterLab: look at a picture with a phrase, and change a cell to see which concepts answer.

`session` and `design` hold what is computed, and know nothing of widgets; `drawing` turns it into pictures; `elements`
are the two small widgets that ipywidgets lacks (a picture to drag a box on, a table of scores); `concept_explorer` and
`cell_designer` put these together.
"""

from .cell_designer import CellDesigner
from .concept_explorer import ConceptExplorer
from .design import Design, Setting, Sweep, follow, occurrences, sweep, typical_cell
from .session import ConceptSession, PatchIndex, Phrase, Sight

__all__ = [
    "CellDesigner",
    "ConceptExplorer",
    "ConceptSession",
    "Design",
    "PatchIndex",
    "Phrase",
    "Setting",
    "Sight",
    "Sweep",
    "follow",
    "occurrences",
    "sweep",
    "typical_cell",
]
