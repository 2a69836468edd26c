import numpy as np
from sklearn.metrics import average_precision_score


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

RIGHT = {"11-a": [chance], "11-b": [keep], "11-c": [CONTROLS]}
WRONG = {
    "11-a": [
        (lambda shares: 0.5, "chance for the AUROC"),
        (prevalence, "endlessly many patches"),
        (lambda shares: (shares >= 0.5).mean(), "endlessly many patches"),
        (lambda shares: chance(shares) * (shares >= 0.5).any((1, 2)).mean(), "without a patch inside"),
        (lambda shares: 0.9, "what does it tend to"),
    ],
    "11-b": [
        (lambda map_, count: ~keep(map_, count), "True where it stays"),
        (lambda map_, count: keep(-map_, count), "most important patches go first"),
        (lambda map_, count: map_ < np.sort(map_, axis=None)[::-1][count - 1] if count else map_ < 2, "equal"),
        (lambda map_, count: keep(map_, count + 1), "should be gone"),
    ],
    "11-c": [
        (dict.fromkeys(CONTROLS, ...), "4 of 4"),
        (CONTROLS | {"it marks whatever is purple": ...}, "1 of 4"),
        (dict.fromkeys(CONTROLS, "luck"), "'luck'"),
        (dict.fromkeys(CONTROLS, "centre"), "edges"),
        ({}, "four failures"),
    ],
}
