import numpy as np
from scipy import stats
from torch.nn.functional import normalize


def cosines(patches, vector):
    return normalize(patches, dim=-1) @ normalize(vector, dim=-1)


def difference(patches, inside, vector):
    found = cosines(patches, vector)
    return found[inside].mean() - found[~inside].mean()


def mean_change(before, after, t=None):
    change = after - before
    half = (stats.t.ppf(0.975, len(change) - 1) if t is None else t) * stats.sem(change)
    return change.mean(), change.mean() - half, change.mean() + half


def two_groups(before, after):
    mean = (after - before).mean()
    half = 1.96 * np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / len(before))
    return mean, mean - half, mean + half


RIGHT = {
    "07-a": [difference, lambda *a: float(difference(*a))],
    "07-b": [mean_change, lambda before, after: np.array(mean_change(before, after))],
    "07-c": [6, 40 * 3 * 0.05],
}
WRONG = {
    "07-a": [
        (lambda p, i, v: (p @ v)[i].mean() - (p @ v)[~i].mean(), "not cosines"),
        (lambda p, i, v: cosines(p, v)[i].mean(), "*other*"),
        (lambda p, i, v: cosines(p, v)[i].mean() - cosines(p, v).mean(), "~inside"),
        (lambda p, i, v: -difference(p, i, v), "less mean outside"),
    ],
    "07-b": [
        (lambda before, after: (after - before).mean(), "(3,)"),
        (lambda before, after: mean_change(after, before), "after less before"),
        (two_groups, "within each seed"),
        (lambda before, after: mean_change(before, after, 1.96), "1.96"),
        (lambda before, after: mean_change(before, after, 1.0), "stats.t.ppf"),
    ],
    "07-c": [(8, "has no interval"), (2, "every value but the first"), (0, "how many intervals")],
}
