"""What only the chapters need: exercises and what was passed, tables of shapes, the concept bottleneck, BloodMNIST."""

from .bloodmnist import BLOODMNIST_TYPES, load_bloodmnist
from .bottleneck import (
    ConceptBottleneck,
    best_possible,
    fit_bottleneck,
    lists_difference,
    sparsest_as_good,
    typical_scores,
)
from .claims import holds, tolerance
from .exercises import check
from .exercises.memory import forget
from .geometry import PeakMemory, parameter_table, shape_table
from .progress import passed
from .score_figures import prompt_lists, sigmoid_curves

__all__ = [
    "BLOODMNIST_TYPES",
    "ConceptBottleneck",
    "PeakMemory",
    "best_possible",
    "check",
    "fit_bottleneck",
    "forget",
    "holds",
    "lists_difference",
    "load_bloodmnist",
    "parameter_table",
    "passed",
    "prompt_lists",
    "shape_table",
    "sigmoid_curves",
    "sparsest_as_good",
    "tolerance",
    "typical_scores",
]
