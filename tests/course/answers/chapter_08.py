import numpy as np

import helpers


def resampled(first, second, cut=(0.025, 0.975), draws=1000):
    rng = np.random.default_rng(0)
    difference = first * 1.0 - second
    means = [rng.choice(difference, len(difference)).mean() for _ in range(draws)]
    return np.quantile(means, cut)


def unpaired(first, second):
    rng = np.random.default_rng(0)
    means = [rng.choice(first, len(first)).mean() - rng.choice(second, len(second)).mean() for _ in range(300)]
    return np.quantile(means, [0.025, 0.975])


def few_pictures(first, second):
    rng = np.random.default_rng(0)
    difference = first * 1.0 - second
    means = [rng.choice(difference, 4 * len(difference)).mean() for _ in range(300)]
    return np.quantile(means, [0.025, 0.975])


def ranks(similarity):
    return (similarity >= np.diag(similarity)[:, None]).sum(1)


def lenient(similarity, k):
    return np.mean((similarity > np.diag(similarity)[:, None]).sum(1) < k)


RIGHT = {
    "08-a": [1 / 12, 0.083],
    "08-b": [
        resampled,
        lambda first, second: resampled(first, second, draws=300),
        lambda first, second: list(helpers.bootstrap_mean(first * 1.0 - second))[1:],
    ],
    "08-c": [
        lambda similarity, k: (ranks(similarity) <= k).mean(),
        lambda similarity, k: np.mean(helpers.metrics.retrieval_ranks(similarity) <= k),
    ],
}
WRONG = {
    "08-a": [(0.9, "share of the *findings*"), (0.009, "divide by all alarms"), (0.5, "of 1000 pictures")],
    "08-b": [
        (unpaired, "the same pictures for both"),
        (lambda first, second: resampled(second, first), "minus that of the second"),
        (lambda first, second: resampled(first, second, (0, 1)), "wider than 95 %"),
        (lambda first, second: resampled(first, second, (0.005, 0.995)), "wider than 95 %"),
        (lambda first, second: resampled(first, second, (0.05, 0.95)), "narrower than 95 %"),
        (lambda first, second: resampled(first, second, (0.05, 0.95), 300), "narrower than 95 %"),
        (few_pictures, "far too narrow"),
        (lambda first, second: resampled(first, second)[::-1], "below high"),
        (lambda first, second: 0.02, "(2,)"),
    ],
    "08-c": [
        (lambda similarity, k: (ranks(similarity.T) <= k).mean(), "stand in the columns"),
        (lenient, "ties count against"),
        (lambda similarity, k: 0.123, "rank is one plus"),
    ],
}
