"""The checkers of notebooks 05 and 11: right answers pass, and each likely mistake gets its own hint."""

import re

import numpy as np
import pytest
import torch.nn.functional as F
from sklearn.metrics import average_precision_score

import helpers


def last_word(texts, n):
    return int((~texts.special[n]).nonzero().max())


def phrase_map(patches, words, positions, grid):
    concept = F.normalize(words[positions].mean(0), dim=0)
    return (F.normalize(patches, dim=-1) @ concept).view(grid)


def above_chance(maps, shares):
    inside = (shares >= 0.1).reshape(len(shares), -1)
    hit = inside[np.arange(len(maps)), maps.reshape(len(maps), -1).argmax(1)]
    known = inside.any(1)
    return hit[known].mean() - inside[known].mean()


def chance(shares):
    inside = (shares >= 0.5).reshape(len(shares), -1)
    inside = inside[inside.any(1) & ~inside.all(1)]
    rng = np.random.default_rng(1)
    return np.mean([average_precision_score(row, rng.random(len(row))) for row in inside for _ in range(20)])


def prevalence(shares):
    inside = shares >= 0.5
    return inside[inside.any((1, 2)) & ~inside.all((1, 2))].mean()


def keep(map_, count):
    kept = np.ones(map_.size, dtype=bool)
    kept[np.argsort(-map_.ravel(), kind="stable")[:count]] = False
    return kept.reshape(map_.shape)


CONTROLS = {
    "it outlines whatever has edges": "random weights",
    "it shows the same for every question": "another phrase",
    "it always looks at the middle": "centre",
    "it marks whatever is purple": "colour",
}


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("05-a", last_word),
        ("05-b", phrase_map),
        ("05-c", above_chance),
        ("11-a", chance),
        ("11-b", keep),
        ("11-c", CONTROLS),
    ],
)
def test_right_answers(capsys, name, answer):
    helpers.check(name, answer)
    assert capsys.readouterr().out.startswith(f"{name}: correct. ")


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("05-a", lambda texts, n: ..., "returns nothing yet"),
        ("05-a", 7, "the function itself"),
        ("05-a", lambda texts, n: -1, "padding"),
        ("05-a", lambda texts, n: int(texts.mask[n].sum()) - 1, r"\[SEP\]"),
        ("05-a", lambda texts, n: 2, r"\[2, 2, 2\]"),
        ("05-b", lambda p, w, at, grid: None, "returns nothing yet"),
        ("05-b", lambda p, w, at, grid: (p @ w[at].mean(0)).view(grid), "not cosines"),
        ("05-b", lambda p, w, at, grid: phrase_map(p, w, at, grid).T, "row by row"),
        ("05-b", lambda p, w, at, grid: phrase_map(p, F.normalize(w, dim=-1), at, grid), "mean over the positions"),
        ("05-b", lambda p, w, at, grid: phrase_map(p, w, [i - 1 for i in at], grid), "one position off"),
        (
            "05-b",
            lambda p, w, at, grid: (F.normalize(p, dim=-1) @ F.normalize(w[at], dim=-1).T).mean(1).view(grid),
            "average the vectors first",
        ),
        ("05-c", lambda maps, shares: ..., "returns nothing yet"),
        ("05-c", lambda maps, shares: np.nanmean(helpers.metrics.pointing_hits(maps, shares)), "random patch"),
        (
            "05-c",
            lambda maps, shares: np.nanmean(helpers.metrics.pointing_hits(maps, shares)) - (shares >= 0.1).mean(),
            "left out of both",
        ),
        ("11-a", lambda shares: ..., "returns nothing yet"),
        ("11-a", lambda shares: 0.5, "chance for the AUROC"),
        ("11-a", prevalence, "endlessly many patches"),
        ("11-a", lambda shares: (shares >= 0.5).mean(), "endlessly many patches"),
        ("11-a", lambda shares: chance(shares) * (shares >= 0.5).any((1, 2)).mean(), "without a patch inside"),
        ("11-a", lambda shares: 0.9, "what does it tend to"),
        ("11-b", lambda map_, count: None, "returns nothing yet"),
        ("11-b", lambda map_, count: ~keep(map_, count), "True where it stays"),
        ("11-b", lambda map_, count: keep(-map_, count), "most important patches go first"),
        ("11-b", lambda map_, count: map_ < np.sort(map_, axis=None)[::-1][count - 1] if count else map_ < 2, "equal"),
        ("11-c", dict.fromkeys(CONTROLS, ...), "still open"),
        ("11-c", dict.fromkeys(CONTROLS, "luck"), "'luck'"),
        ("11-c", dict.fromkeys(CONTROLS, "centre"), "edges"),
        ("11-c", {}, "four failures"),
    ],
)
def test_wrong_answers_get_their_hint(capsys, name, answer, hint):
    helpers.check(name, answer)
    line = capsys.readouterr().out
    assert line.startswith(f"{name}: not yet: ")
    assert re.search(hint, line), line
