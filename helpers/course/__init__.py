"""What only the chapters need: exercises and their checkers, tables of shapes, the concept bottleneck, BloodMNIST."""

from .bloodmnist import BLOODMNIST_TYPES, load_bloodmnist
from .bottleneck import ConceptBottleneck, fit_bottleneck, sparsest_as_good, typical_scores
from .exercises import check
from .geometry import PeakMemory, parameter_table, shape_table

__all__ = [
    "BLOODMNIST_TYPES",
    "ConceptBottleneck",
    "PeakMemory",
    "check",
    "fit_bottleneck",
    "load_bloodmnist",
    "parameter_table",
    "shape_table",
    "sparsest_as_good",
    "typical_scores",
]
