import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.nn.functional import normalize

import helpers


def pairs(truth, score, groups, compare=lambda d: (d > 0) + 0.5 * (d == 0)):
    won = []
    for group in set(groups):
        inside = groups == group
        won += [*compare(score[inside & (truth == 1)][:, None] - score[inside & (truth == 0)][None]).ravel()]
    return np.mean(won)


def mean_of_groups(truth, score, groups):
    return np.mean([roc_auc_score(truth[groups == g], score[groups == g]) for g in "ab"])


def last_real(tokens, mask):
    return normalize(tokens[torch.arange(len(tokens)), mask.sum(1) - 1], dim=-1)


def rates(known, known_types, new_types):
    return [np.nanmean(known[known_types == t]) for t in new_types]


RIGHT = {
    "09-a": [pairs, lambda *a: helpers.metrics.within_group_auroc(*a)],
    "09-b": [last_real, lambda *a: last_real(*a).numpy()],
    "09-c": [rates, lambda *a: np.array(rates(*a))],
}
WRONG = {
    "09-a": [
        (lambda truth, score, groups: roc_auc_score(truth, score), "across groups"),
        (mean_of_groups, "mean over groups"),
        (lambda *a: np.nan, "adds nothing"),
        (lambda *a: pairs(*a, compare=lambda d: d > 0), "half the ties"),
    ],
    "09-b": [
        (lambda tokens, mask: tokens[:, -1], "padding for all"),
        (lambda tokens, mask: tokens[:, 0], "minus one"),
        (lambda tokens, mask: tokens[torch.arange(3), mask.sum(1) - 1], "the length one"),
    ],
    "09-c": [
        (lambda k, kt, nt: [k[kt == t].mean() for t in nt], "unknown (NaN)"),
        (lambda k, kt, nt: np.full(len(nt), np.nanmean(k)), "of the same type"),
    ],
}
