"""Does a map lie on its mask? Pointing game, areas and precision over patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import metrics as sk

from ..settings import SEED
from .intervals import RESAMPLES, Estimate, bootstrap_mean
from .ranking import weighted_wins

MASK_SHARE = 0.1
"""A patch counts as part of a mask when the mask covers at least this share of it: little enough that a granule or
vacuole smaller than a patch can be hit, enough that brushing a rim is no hit. (Ranking metrics use one half.)"""


def pointing_hits(maps: Any, shares: Any, *, share: float = MASK_SHARE) -> np.ndarray:
    """Whether the largest patch of each map lies in its mask.

    Args:
        maps: float [B, h, w], one map an image.
        shares: float [B, h, w], how much of each patch the mask covers (`tokens.patch_shares`); or bool [B, H, W]
            masks of pixels: then the pixel at the patch's centre decides, and `share` is not used.
        share: a patch counts as in the mask when at least this much of it is covered.

    Returns:
        float [B]: 1 hit, 0 miss, between them when several patches tie for the largest; NaN where no patch counts as in
        the mask.
    """
    maps, inside = _maps_and_targets(maps, shares, share)
    flat, inside = maps.reshape(len(maps), -1), inside.reshape(len(maps), -1)
    largest = flat == flat.max(1, keepdims=True)
    hits = (largest & inside).sum(1) / largest.sum(1)
    return np.where(inside.any(1), hits, np.nan)


def pointing_game(
    maps: Any, shares: Any, *, share: float = MASK_SHARE, clusters: Any = None, n: int = RESAMPLES, seed: int = SEED
) -> Estimate:
    """Share of images whose largest patch lies in the mask (arguments as in `pointing_hits` and `bootstrap_mean`).

    Read it beside `pointing_chance`: a large mask is easily hit.
    """
    return bootstrap_mean(pointing_hits(maps, shares, share=share), clusters=clusters, n=n, seed=seed)


def pointing_chance(shares: Any, *, share: float = MASK_SHARE) -> float:
    """What a random patch would score in the pointing game: the mean share of patches that count as in the mask."""
    inside = (np.asarray(shares, dtype=float) >= share).reshape(len(shares), -1)
    return float(inside[inside.any(1)].mean())


def patch_aurocs(maps: Any, shares: Any, *, share: float = 0.5) -> np.ndarray:
    """AUROC of the patches of each image against its mask, image by image (arguments as in `patch_auroc`).

    Returns:
        float [B]: the share of pairs of a patch inside and a patch outside in which the one inside is larger, ties one
        half; NaN for an image without patches inside or outside.
    """
    return _per_image(maps, shares, share, _area)


def _area(inside: np.ndarray, map_: np.ndarray) -> float:
    wins, pairs = weighted_wins(inside, map_, np.ones((1, len(map_)), np.float32))
    return float(wins[0] / pairs[0])


def patch_auroc(
    maps: Any, shares: Any, *, share: float = 0.5, clusters: Any = None, n: int = RESAMPLES, seed: int = SEED
) -> Estimate:
    """AUROC of the patches of one image against its mask, averaged over images.

    Args:
        maps: float [B, h, w].
        shares: float [B, h, w] from `patch_shares`.
        share: patches covered at least this much are positive. Images without positive or negative patches are left
            out.
        clusters, n, seed: as in `bootstrap_mean`.
    """
    return bootstrap_mean(patch_aurocs(maps, shares, share=share), clusters=clusters, n=n, seed=seed)


def patch_average_precision(
    maps: Any, shares: Any, *, share: float = 0.5, clusters: Any = None, n: int = RESAMPLES, seed: int = SEED
) -> Estimate:
    """Average precision of the patches of one image against its mask, averaged over images (as in `patch_auroc`)."""
    each = _per_image(maps, shares, share, sk.average_precision_score)
    return bootstrap_mean(each, clusters=clusters, n=n, seed=seed)


def _per_image(maps: Any, shares: Any, share: float, score: Callable[[np.ndarray, np.ndarray], float]) -> np.ndarray:
    maps, inside = _maps_and_targets(maps, shares, share)
    pairs = ((inside[b].ravel(), maps[b].ravel()) for b in range(len(maps)))
    return np.array([score(t, m) if 0 < t.sum() < len(t) else np.nan for t, m in pairs])


def _maps_and_targets(maps: Any, shares: Any, share: float) -> tuple[np.ndarray, np.ndarray]:
    maps, shares = np.asarray(maps, dtype=float), np.asarray(shares)
    if maps.ndim != 3 or shares.ndim != 3 or len(maps) != len(shares) or not len(maps):
        raise ValueError(f"maps {maps.shape} must be [B, h, w], and shares {shares.shape} as many.")
    if np.isnan(maps).any():
        raise ValueError(f"maps[{int(np.isnan(maps).any((1, 2)).argmax())}] holds NaN: encode that image again.")
    if shares.dtype == bool and shares.shape != maps.shape:
        rows = ((np.arange(maps.shape[1]) + 0.5) * shares.shape[1] / maps.shape[1]).astype(int)
        columns = ((np.arange(maps.shape[2]) + 0.5) * shares.shape[2] / maps.shape[2]).astype(int)
        return maps, shares[:, rows][:, :, columns]
    if shares.shape != maps.shape:
        raise ValueError(
            f"shares {shares.shape} must be on the maps' grid {maps.shape}: use helpers.tokens.patch_shares."
        )
    return maps, shares >= share
