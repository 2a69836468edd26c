import numpy as np

import helpers


def mean_of_groups(score, concept, other):
    return np.mean([helpers.auroc(other[concept == k], score[concept == k], n=2).value for k in (0, 1)])


RIGHT = {
    "10-a": [lambda w, s, m, d: w * ((s - m) / d), lambda w, s, m, d: np.einsum("ck,k->ck", w / d, s - m)],
    "10-b": [lambda a, b, wa, wb, d: (b - a) / ((wa - wb) / d)],
    "10-c": [lambda s, c, o: helpers.metrics.within_group_auroc(o, s, c).value, mean_of_groups],
}
WRONG = {
    "10-a": [
        (lambda w, s, m, d: (w * ((s - m) / d)).sum(1), "do not sum"),
        (lambda w, s, m, d: w * s, "act on standardised"),
        (lambda w, s, m, d: w * (s - m), "over the standard deviation"),
    ],
    "10-b": [
        (lambda a, b, wa, wb, d: (a - b) * d / (wa - wb), "mind the sign"),
        (lambda a, b, wa, wb, d: (b - a) / (wa - wb), "in standard deviations"),
        (lambda a, b, wa, wb, d: (b - a) / wa, "the gap changes by"),
    ],
    "10-c": [
        (lambda s, c, o: helpers.auroc(o, s, n=2).value, "with and without the concept"),
        (lambda s, c, o: helpers.metrics.within_group_auroc(o, -s, c, n=2).value, "one minus it"),
        (lambda s, c, o: 0.5, "cells that agree in the concept"),
    ],
}
