"""The names of `helpers`, for `__init__.py`, editors and type checkers. All else is reached through its module."""

from . import (
    bloodcells,
    course,
    datasets,
    encode,
    encoding,
    evaluate,
    explanations,
    images,
    metrics,
    plots,
    scoring,
    store,
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
    "course",
    "datasets",
    "encode",
    "encode_images",
    "encode_texts",
    "encoding",
    "evaluate",
    "evaluate_folder",
    "explanations",
    "holds",
    "image_folder",
    "images",
    "iter_image_encodings",
    "load",
    "load_atlas",
    "load_cells",
    "load_encodings",
    "logits",
    "macro_auroc",
    "metrics",
    "patch_grid",
    "plots",
    "probabilities",
    "recall_at_k",
    "scales",
    "scoring",
    "setup",
    "store",
    "tokens",
    "write_report",
    "zero_shot",
]
