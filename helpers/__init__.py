"""What every notebook imports: the ConceptCLIP family and the small functions around it.

`import helpers` registers the family with transformers' Auto classes. Every other name is loaded when it is first used,
so that a script which only loads a model imports neither scikit-learn nor matplotlib. Where the family cannot be
imported (a package is missing or broken), the first use of a name says so.
"""

from importlib import import_module

_broken = None
try:
    import helpers.conceptclip  # noqa: F401 (registers the classes with transformers' Auto classes)
except Exception as error:  # kept for the first use of a name: `helpers.doctor`, which knows the cure, must start
    _broken = error

_NAMES = {
    "loading": ("MODEL_ID", "fastest_dtype", "load"),
    "geometry": ("parameter_table", "shape_table"),
    "settings": ("SEED", "setup"),
    "encoding": (
        "ImageEncodings",
        "TextEncodings",
        "as_shown",
        "encode_images",
        "encode_texts",
        "iter_image_encodings",
        "load_encodings",
        "open_image",
    ),
    "tokens": (
        "PatchGrid",
        "concept_maps",
        "concept_vectors",
        "cosine_maps",
        "last_position_vectors",
        "patch_grid",
        "patch_shares",
        "piece_table",
        "span_positions",
        "span_vector",
        "token_maps",
        "top_patches",
    ),
    "scoring": (
        "RELEASED_SCALES",
        "annotate",
        "class_vectors",
        "cosine_at_half",
        "local_scores",
        "logits",
        "probabilities",
        "prototypes",
        "retrieval_ranks",
        "scales",
        "zero_shot",
    ),
    "metrics": (
        "Estimate",
        "accuracy",
        "auroc",
        "auroc_by_group",
        "balanced_accuracy",
        "bootstrap",
        "bootstrap_mean",
        "curve_area",
        "expected_calibration_error",
        "fit_temperature",
        "macro_auroc",
        "macro_auroc_difference",
        "patch_auroc",
        "patch_aurocs",
        "patch_average_precision",
        "pointing_chance",
        "pointing_game",
        "pointing_hits",
        "precision_at_k",
        "recall_at_k",
        "reliability_table",
        "top_confidence",
        "within_group_auroc",
    ),
    "data": ("image_folder", "load_atlas", "load_bloodmnist", "load_cells", "render_cells"),
    "explanations": (
        "agreement",
        "centre_prior",
        "deletion_insertion",
        "global_score",
        "gradient_maps",
        "occlusion_maps",
        "pixels",
        "random_weights",
        "stain_maps",
    ),
    "bottleneck": ("ConceptBottleneck", "fit_bottleneck", "typical_scores"),
    "report": ("report_html", "write_report"),
    "exercises": ("check",),
    "explorer": ("CellDesigner", "ConceptExplorer"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = (*_NAMES, "bloodcells", "plots")

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str):
    if _broken is not None and name in __all__:
        raise ImportError(
            f"helpers cannot work here ({type(_broken).__name__}: {_broken}). Run `python -m helpers.doctor` in a "
            "terminal: it says what is missing and what to do."
        ) from _broken
    if name in _MODULES:
        return import_module(f"helpers.{name}")
    if name in _HOME:
        value = getattr(import_module(f"helpers.{_HOME[name]}"), name)
        globals()[name] = value  # found at once the next time
        return value
    raise AttributeError(f"module 'helpers' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
