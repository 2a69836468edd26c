"""How good is it, and how sure are we? Every figure comes with a bootstrap interval over images.

Images that belong together (crops of one photograph, slides of one patient) are not independent: every function takes
`clusters`, which are resampled whole, and the interval is as wide as the number of photographs or patients deserves.
Truth that is missing is left out and counted (`Estimate.left_out`); tables and columns with names are matched by them
(`helpers.labels.by_name`). An interval of no width says why.

scikit-learn computes the values that it has; resamples are drawn here in one step for all, because a thousand calls
would take seconds. All random draws start from `helpers.SEED`.
"""

from .calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability_table,
    risk_coverage,
    risk_coverage_area,
    top_confidence,
)
from .classification import accuracy, agreement_by_column, balanced_accuracy, kappa, macro_f1, paired_difference
from .intervals import LEVEL, RESAMPLES, UNDEFINED, Estimate, bootstrap, bootstrap_mean
from .maps import (
    MASK_SHARE,
    patch_auroc,
    patch_aurocs,
    patch_average_precision,
    pointing_chance,
    pointing_game,
    pointing_hits,
)
from .ranking import auroc, auroc_by_group, macro_auroc, macro_auroc_difference, within_group_auroc
from .retrieval import decided, gallery, mean_average_precision, precision_at_k, recall_at_k, retrieval_ranks

__all__ = [
    "LEVEL",
    "MASK_SHARE",
    "RESAMPLES",
    "UNDEFINED",
    "Estimate",
    "accuracy",
    "agreement_by_column",
    "auroc",
    "auroc_by_group",
    "balanced_accuracy",
    "bootstrap",
    "bootstrap_mean",
    "decided",
    "expected_calibration_error",
    "fit_temperature",
    "gallery",
    "kappa",
    "macro_auroc",
    "macro_auroc_difference",
    "macro_f1",
    "mean_average_precision",
    "paired_difference",
    "patch_auroc",
    "patch_aurocs",
    "patch_average_precision",
    "pointing_chance",
    "pointing_game",
    "pointing_hits",
    "precision_at_k",
    "recall_at_k",
    "reliability_table",
    "retrieval_ranks",
    "risk_coverage",
    "risk_coverage_area",
    "top_confidence",
    "within_group_auroc",
]
