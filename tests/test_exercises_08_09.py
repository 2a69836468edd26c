"""The checkers of notebooks 08 and 09: right answers in any form, the known mistakes told apart."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn.functional import normalize

import helpers


def said(capsys, name, answer):
    helpers.check(name, answer)
    return capsys.readouterr().out


def paired(first, second, draws=1000):
    rng = np.random.default_rng(0)
    difference = first * 1.0 - second
    means = [rng.choice(difference, len(difference)).mean() for _ in range(draws)]
    return np.quantile(means, [0.025, 0.975])


def unpaired(first, second):
    rng = np.random.default_rng(0)
    means = [rng.choice(first, len(first)).mean() - rng.choice(second, len(second)).mean() for _ in range(1000)]
    return np.quantile(means, [0.025, 0.975])


def extremes(first, second):
    rng = np.random.default_rng(0)
    means = [rng.choice(first * 1.0 - second, len(first)).mean() for _ in range(1000)]
    return min(means), max(means)


def ranks(similarity):
    return (similarity >= np.diag(similarity)[:, None]).sum(1)


def lenient(similarity, k):
    return np.mean((similarity > np.diag(similarity)[:, None]).sum(1) < k)


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


RIGHT = [
    ("08-a", 1 / 12),
    ("08-a", 0.083),
    ("08-b", paired),
    ("08-b", lambda first, second: list(helpers.bootstrap_mean(first * 1.0 - second))[1:]),
    ("08-c", lambda similarity, k: (ranks(similarity) <= k).mean()),
    ("08-c", lambda similarity, k: np.mean(helpers.metrics.retrieval_ranks(similarity) <= k)),
    ("09-a", pairs),
    ("09-a", lambda *a: helpers.metrics.within_group_auroc(*a)),
    ("09-b", last_real),
    ("09-c", rates),
    ("09-c", lambda *a: np.array(rates(*a))),
]
WRONG = [
    ("08-a", 0.9, "share of the *findings*"),
    ("08-a", 0.009, "divide by all alarms"),
    ("08-a", 0.5, "of 1000 pictures"),
    ("08-b", lambda first, second: None, "returns nothing yet"),
    ("08-b", unpaired, "the same pictures for both"),
    ("08-b", lambda first, second: paired(second, first), "minus that of the second"),
    ("08-b", extremes, "quantile"),
    ("08-b", lambda first, second: paired(first, second)[::-1], "below high"),
    ("08-c", lambda similarity, k: None, "returns nothing yet"),
    ("08-c", lambda similarity, k: (ranks(similarity.T) <= k).mean(), "stand in the columns"),
    ("08-c", lenient, "ties count against"),
    ("08-c", lambda similarity, k: 0.123, "rank is one plus"),
    ("09-a", lambda *a: None, "returns nothing yet"),
    ("09-a", lambda truth, score, groups: roc_auc_score(truth, score), "across groups"),
    ("09-a", mean_of_groups, "mean over groups"),
    ("09-a", lambda *a: np.nan, "adds nothing"),
    ("09-a", lambda *a: pairs(*a, compare=lambda d: d > 0), "half the ties"),
    ("09-b", lambda tokens, mask: None, "returns nothing yet"),
    ("09-b", lambda tokens, mask: tokens[:, -1], "padding for all"),
    ("09-b", lambda tokens, mask: tokens[:, 0], "minus one"),
    ("09-b", lambda tokens, mask: tokens[torch.arange(3), mask.sum(1) - 1], "the length one"),
    ("09-c", lambda *a: None, "returns nothing yet"),
    ("09-c", lambda k, kt, nt: [k[kt == t].mean() for t in nt], "unknown (NaN)"),
    ("09-c", lambda k, kt, nt: np.full(len(nt), np.nanmean(k)), "of the same type"),
]


@pytest.mark.parametrize(("name", "answer"), RIGHT)
def test_right_answers(capsys, name, answer):
    line = said(capsys, name, answer)
    assert line.startswith(f"{name}: correct. "), line


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG)
def test_known_mistakes(capsys, name, answer, hint):
    line = said(capsys, name, answer)
    assert line.startswith(f"{name}: not yet: "), line
    assert hint in line
