import numpy as np
from torch.nn.functional import normalize

import helpers


def unit(x):
    return normalize(x, dim=-1)


def best_piece(words, patches, special):
    return (unit(words) @ unit(patches).T).masked_fill(special[:, None], -2).argmax(0)


def best_piece_in_place(words, patches, special):
    cosines = unit(words) @ unit(patches).T
    cosines[special] = -np.inf
    return cosines.argmax(0).tolist()


def renumbered(words, patches, special):
    return (unit(words[~special]) @ unit(patches).T).argmax(0)


def shortened(words, patches, special):
    words[special] = 0
    return (unit(words) @ unit(patches).T).argmax(0)


def phrase_map(patches, words, positions, grid):
    """The grid is used as a tuple."""
    concept = unit(words[positions].mean(0))
    return (unit(patches) @ concept).view(grid)


def phrase_map_by_names(patches, words, positions, grid):
    """The grid is used as a `PatchGrid`."""
    concept = unit(words[positions].mean(0))
    return (unit(patches) @ concept).view(grid.h, grid.w)


def above_chance(maps, shares):
    inside = (shares >= 0.1).reshape(len(shares), -1)
    hit = inside[np.arange(len(maps)), maps.reshape(len(maps), -1).argmax(1)]
    known = inside.any(1)
    return hit[known].mean() - inside[known].mean()


def hits(maps, shares):
    return np.nanmean(helpers.metrics.pointing_hits(maps, shares))


RIGHT = {
    "05-a": [best_piece, best_piece_in_place, lambda w, p, s: renumbered(w, p, s) + 1],
    "05-b": [
        phrase_map,
        phrase_map_by_names,
        lambda p, w, at, grid: (unit(p) @ unit(w[at].mean(0))).unflatten(0, grid).numpy(),
        lambda p, w, at, grid: helpers.tokens.cosine_maps(p[None], w[at].mean(0)[None], grid)[0, 0],
    ],
    "05-c": [above_chance],
}
WRONG = {
    "05-a": [
        (lambda w, p, s: (unit(w) @ unit(p).T).argmax(0), "[CLS], [SEP] and padding take part"),
        (renumbered, "you numbered the pieces anew"),
        (lambda w, p, s: (w @ p.T).masked_fill(s[:, None], -1e9).argmax(0), "not cosines"),
        (lambda w, p, s: ((unit(w) @ unit(p).T) * ~s[:, None]).argmax(0), "0 is more"),
        (lambda w, p, s: (unit(w) @ unit(p).T).argmax(1), "for each piece"),
        (lambda w, p, s: best_piece(w, p, s).view(5, 8), "one position for each patch"),
        (lambda w, p, s: unit(w) @ unit(p).T, "one position for each patch"),
        (lambda w, p, s: (unit(w) @ unit(p).T).masked_fill(s[:, None], 2).argmin(0), "the largest over"),
        (shortened, "work on a copy"),
    ],
    "05-b": [
        (lambda p, w, at, grid: (p @ w[at].mean(0)).view(grid), "not cosines"),
        (lambda p, w, at, grid: phrase_map(p, w, at, grid).T, "row by row"),
        (lambda p, w, at, grid: phrase_map(p, unit(w), at, grid), "mean over the positions"),
        (lambda p, w, at, grid: phrase_map(p, w, [i - 1 for i in at], grid), "one position off"),
        (lambda p, w, at, grid: phrase_map(p, w, [i + 1 for i in at], grid), "one position off"),
        (lambda p, w, at, grid: (unit(p) @ unit(w[at]).T).mean(1).view(grid), "average the vectors first"),
    ],
    "05-c": [
        (hits, "random patch"),
        (lambda maps, shares: hits(maps, shares) - (shares >= 0.1).mean(), "left out of both"),
    ],
}
