"""Other answers to "where did the score come from?", and what a map must beat before it is believed.

Three explanations that share no arithmetic: patch similarity (`helpers.concept_maps`), occlusion, and gradient × input.
The functions take a *score*, any callable from pixels [B, 3, S, S] to numbers [B], so that they are tested on scores
whose explanation is known by hand. `global_score` makes one from a model and a text vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr

from .encoding import image_to_pixels
from .images import as_image_list, image_names
from .loading import evaluating, unwrap
from .settings import SEED, without_autocast
from .tokens import PatchGrid

Score = Callable[[torch.Tensor], torch.Tensor]


def pixels(processor: Any, images: Any) -> torch.Tensor:
    """Images of any accepted kind as model input: float32 [B, 3, S, S], normalised to [-1, 1]."""
    images = as_image_list(images)
    named = zip(images, image_names(images), strict=True)
    return torch.cat([image_to_pixels(processor, image, name) for image, name in named])


def global_score(model: Any, vector: torch.Tensor) -> Score:
    """Cosine between an image and a text vector, as a function of pixels; gradients flow through it.

    Args:
        model: from `helpers.load`.
        vector: float [D], e.g. a row of `encode_texts(...).features`; made unit length here.
    """
    model, vector = unwrap(model), F.normalize(vector.flatten().float(), dim=0)

    def score(x: torch.Tensor) -> torch.Tensor:
        with evaluating(model, gradients=True):
            pooled, _ = model.encode_image(x.to(model.device, model.dtype))
            return (F.normalize(pooled.float(), dim=-1) @ vector.to(model.device)).to(x.device)

    return score


# --- explanations -----------------------------------------------------------------------------------------------------


def without(x: torch.Tensor, keep: torch.Tensor, grid: PatchGrid, fill: str = "blur") -> torch.Tensor:
    """Pictures in which some patches are taken away.

    Args:
        x: float [B, 3, S, S].
        keep: bool [B, h, w], False where the patch goes.
        grid: from `helpers.patch_grid(model)`.
        fill: what is put there: "blur", the picture without detail (its 7 x 7 mean colours), or "mean", its one mean
            colour.

    Returns:
        float [B, 3, S, S].
    """
    if fill == "blur":
        other = F.interpolate(F.adaptive_avg_pool2d(x, 7), size=x.shape[-2:], mode="bilinear", align_corners=False)
    elif fill == "mean":
        other = x.mean((2, 3), keepdim=True).expand_as(x)
    else:
        raise ValueError(f"fill must be 'blur' or 'mean', not {fill!r}.")
    mask = keep.repeat_interleave(grid.patch, 1).repeat_interleave(grid.patch, 2)[:, None]
    rest = [0, x.shape[-1] - mask.shape[-1], 0, x.shape[-2] - mask.shape[-2]]  # the strip no patch sees stays
    return torch.where(F.pad(mask, rest, value=True), x, other)


@without_autocast
def occlusion_maps(
    score: Score,
    x: torch.Tensor,
    grid: PatchGrid,
    *,
    window: int = 3,
    stride: int = 2,
    fill: str = "blur",
    batch_size: int = 64,
) -> torch.Tensor:
    """How much the score falls when a window of patches is taken away; each patch gets the mean over its windows.

    Args:
        score: callable, float [B, 3, S, S] -> [B].
        x: float [B, 3, S, S], from `pixels`.
        grid: from `helpers.patch_grid(model)`.
        window, stride: in patches; stride 1 is finest and slowest (h x w evaluations an image).
        fill: as in `without`.
        batch_size: evaluations at a time.

    Returns:
        float32 [B, h, w]; positive where the picture supports the score.
    """
    if not 1 <= stride <= window <= min(grid.shape):
        raise ValueError(f"1 <= stride <= window <= {min(grid.shape)} is needed, not stride {stride}, window {window}.")
    tops = sorted({*range(0, grid.h - window, stride), grid.h - window})
    lefts = sorted({*range(0, grid.w - window, stride), grid.w - window})
    covers = torch.zeros(len(tops) * len(lefts), grid.h, grid.w)
    for k, (top, left) in enumerate((top, left) for top in tops for left in lefts):
        covers[k, top : top + window, left : left + window] = 1
    maps = []
    with torch.no_grad():
        for image in x.split(1):
            parts = covers.split(batch_size)
            scores = torch.cat([score(without(image.expand(len(p), -1, -1, -1), p == 0, grid, fill)) for p in parts])
            drops = score(image) - scores
            maps.append(torch.einsum("k,khw->hw", drops, covers) / covers.sum(0))
    return torch.stack(maps)


@without_autocast
def gradient_maps(score: Score, x: torch.Tensor, grid: PatchGrid, *, batch_size: int = 16) -> torch.Tensor:
    """Gradient × input: what each patch adds to the score to first order, measured from the picture's mean colour.

    Args:
        score: callable, float [B, 3, S, S] -> [B], differentiable.
        x: float [B, 3, S, S], from `pixels`.
        grid: from `helpers.patch_grid(model)`.
        batch_size: images at a time.

    Returns:
        float32 [B, h, w]: gradient times (pixel - mean colour), summed over each patch's pixels and channels. For a
        score that is linear in the pixels the sum over patches is exactly score(x) - score(mean colour).
    """
    maps = []
    for part in x.split(batch_size):
        part = part.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(score(part).sum(), part)
        part = part.detach()
        product = (gradient * (part - part.mean((2, 3), keepdim=True))).sum(1, keepdim=True)
        sums = F.avg_pool2d(product, grid.patch) * grid.patch**2
        maps.append(sums[:, 0, : grid.h, : grid.w])
    return torch.cat(maps)


@dataclass
class Curves:
    """What `deletion_insertion` returns: fractions [S], 0 to 1, and the scores there, deletion and insertion [B, S]."""

    fractions: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray


@without_autocast
def deletion_insertion(
    score: Score, x: torch.Tensor, maps: torch.Tensor, grid: PatchGrid, *, steps: int = 14, fill: str = "blur"
) -> Curves:
    """Take patches away, most important first (deletion), and put them into an empty picture likewise (insertion).

    A map that tells what the score rests on makes deletion fall early and insertion rise early. Judge it against a
    random order, with `helpers.metrics.curve_area(curves.fractions, curves.deletion)`. (Petsiuk et al. 2018.)

    Args:
        score: callable, float [B, 3, S, S] -> [B].
        x: float [B, 3, S, S].
        maps: float [B, h, w], larger is more important; equal values keep their order.
        grid: from `helpers.patch_grid(model)`.
        steps: points on the curve, the first one not counted.
        fill: as in `without`.
    """
    if tuple(maps.shape) != (len(x), *grid.shape):
        raise ValueError(f"maps {list(maps.shape)} must be [{len(x)}, {grid.h}, {grid.w}].")
    counts = torch.linspace(0, len(grid), steps + 1).round().long()
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).unflatten(1, grid.shape)  # 0 is the most important patch
    deletion, insertion = [], []
    with torch.no_grad():
        for image, place in zip(x.split(1), rank.split(1), strict=True):
            many = image.expand(len(counts), -1, -1, -1)
            gone = place < counts[:, None, None]
            deletion.append(score(without(many, ~gone, grid, fill)).cpu().numpy())
            insertion.append(score(without(many, gone, grid, fill)).cpu().numpy())
    return Curves(counts.numpy() / len(grid), np.stack(deletion), np.stack(insertion))


def agreement(first: Any, second: Any) -> np.ndarray:
    """Spearman's rank correlation between two maps of each image: float [B]; NaN where a map is constant.

    Args:
        first, second: float [B, h, w].
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape or first.ndim != 3:
        raise ValueError(f"Both must be [B, h, w] alike, not {first.shape} and {second.shape}.")
    flat = [(a.ravel(), b.ravel()) for a, b in zip(first, second, strict=True)]
    return np.array([spearmanr(a, b).statistic if np.ptp(a) and np.ptp(b) else np.nan for a, b in flat])


# --- controls ---------------------------------------------------------------------------------------------------------


def centre_prior(grid: PatchGrid, count: int = 1) -> np.ndarray:
    """A map that looks at nothing but the middle: float [count, h, w], minus the distance from the centre."""
    y, x = np.mgrid[: grid.h, : grid.w]
    distance = np.hypot(y - (grid.h - 1) / 2, x - (grid.w - 1) / 2)
    return np.repeat(-distance[None], count, axis=0)


def stain_maps(x: torch.Tensor, grid: PatchGrid) -> torch.Tensor:
    """A map that knows one colour: how little green a patch has (nuclei take up the violet stain): float [B, h, w].

    Args:
        x: float [B, 3, S, S], from `pixels`.
    """
    return -F.avg_pool2d(x[:, 1:2], grid.patch)[:, 0, : grid.h, : grid.w]


def random_weights(model: Any, seed: int = SEED) -> Any:
    """A model of the same geometry that has learned nothing, for the sanity check of Adebayo et al. 2018."""
    model = unwrap(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(model.config)
    return fresh.to(model.device, model.dtype).eval()
