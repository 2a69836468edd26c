"""The names of `helpers`, for `__init__.py`, editors and type checkers. All else is reached through its module."""

from . import (
    bloodcells,
    conceptclip,
    course,
    datasets,
    encode,
    evaluate,
    explanations,
    loading,
    losses,
    metrics,
    plots,
    scoring,
    tokens,
)
from .course import check, holds
from .datasets import image_folder, load_atlas, load_cells
from .domains import Domain
from .encoding import encode_images, encode_texts, iter_image_encodings, load_encodings
from .evaluate import evaluate_folder
from .explorer import CellDesigner, ConceptExplorer
from .loading import MODEL_ID, load
from .metrics import accuracy, auroc, balanced_accuracy, bootstrap_mean, macro_auroc, recall_at_k
from .report import write_report
from .scoring import annotate, class_vectors, logits, probabilities, scales, zero_shot
from .settings import SEED, setup
from .tokens import concept_maps, concept_vectors, patch_grid

__all__ = [
    "MODEL_ID",
    "SEED",
    "CellDesigner",
    "ConceptExplorer",
    "Domain",
    "accuracy",
    "annotate",
    "auroc",
    "balanced_accuracy",
    "bloodcells",
    "bootstrap_mean",
    "check",
    "class_vectors",
    "concept_maps",
    "concept_vectors",
    "conceptclip",
    "course",
    "datasets",
    "encode",
    "encode_images",
    "encode_texts",
    "evaluate",
    "evaluate_folder",
    "explanations",
    "holds",
    "image_folder",
    "iter_image_encodings",
    "load",
    "load_atlas",
    "load_cells",
    "load_encodings",
    "loading",
    "logits",
    "losses",
    "macro_auroc",
    "metrics",
    "patch_grid",
    "plots",
    "probabilities",
    "recall_at_k",
    "scales",
    "scoring",
    "setup",
    "tokens",
    "write_report",
    "zero_shot",
]
