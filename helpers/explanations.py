"""Other answers to "where did the score come from?", and what a map must beat before it is believed.

Beside patch similarity (`helpers.concept_maps`) there are two kinds of explanation here. Some ask a *score*, any
callable from pixels [B, 3, S, S] to numbers [B], or [B, K] with a `target` that picks one a picture (as in captum):
occlusion, gradient × input, integrated gradients. They are tested on scores whose explanation is known by hand.
`global_score` makes a score from a model and text vectors. The others read the image tower's layers and take the model
itself: attention rollout, Grad-CAM, relevance propagation.

Then what they must beat: `centre_prior`, `stain_maps`, `mask_maps`, `random_weights`, `strongest`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
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
        vector: float [D], e.g. a row of `encode_texts(...).features`; made unit length here. Or K of them [K, D]: then
            the score is [B, K], and what asks it needs a `target`.
    """
    model, vector = unwrap(model), F.normalize(torch.as_tensor(vector).float(), dim=-1)
    if vector.ndim not in (1, 2):
        raise ValueError(f"vector must be [D], or [K, D] for several, not {list(vector.shape)}.")

    def score(x: torch.Tensor) -> torch.Tensor:
        with evaluating(model, gradients=True):
            pooled, _ = model.encode_image(x.to(model.device, model.dtype))
            cosine = F.linear(F.normalize(pooled.float(), dim=-1), torch.atleast_2d(vector).to(model.device))
            return (cosine if vector.ndim == 2 else cosine[:, 0]).to(x.device)

    return score


def _targets(target: Any, count: int) -> torch.Tensor | None:
    """Which column of the score is asked about, one for each picture: int [count]."""
    if target is None:
        return None
    target = torch.as_tensor(target).long()
    target = target.expand(count) if target.ndim == 0 else target
    if tuple(target.shape) != (count,):
        raise ValueError(f"target {list(target.shape)} must be one number, or one for each of the {count} pictures.")
    return target


def _asked(score: Score, x: torch.Tensor, target: torch.Tensor | None) -> torch.Tensor:
    """The score that is asked about: float [B]."""
    found = score(x)
    if target is None:
        if found.ndim != 1:
            raise ValueError(f"The score gives {list(found.shape)}: say which column is meant, target=.")
        return found
    if found.ndim != 2:
        raise ValueError(f"The score gives {list(found.shape)}, one number a picture: leave target out.")
    if not 0 <= int(target.min()) <= int(target.max()) < found.shape[1]:
        raise ValueError(f"target must lie between 0 and {found.shape[1] - 1}, the score's columns.")
    return found.gather(1, target.to(found.device)[:, None])[:, 0]


# --- explanations -----------------------------------------------------------------------------------------------------


def without(x: torch.Tensor, keep: torch.Tensor, grid: PatchGrid, fill: str = "blur") -> torch.Tensor:
    """Pictures in which some patches are taken away.

    Args:
        x: float [B, 3, S, S]; or one picture [1, 3, S, S] for all rows of `keep`.
        keep: bool [B, h, w], False where the patch goes.
        grid: from `helpers.patch_grid(model)`.
        fill: what is put there: "blur", the picture without detail (its 7 x 7 mean colours), or "mean", its one mean
            colour.

    Returns:
        float [B, 3, S, S].
    """
    return _mixed(x, _empty(x, fill), keep, grid)


def _empty(x: torch.Tensor, fill: str) -> torch.Tensor:
    """What is seen where a patch is gone: float [B, 3, S, S]."""
    if fill == "blur":
        return F.interpolate(F.adaptive_avg_pool2d(x, 7), size=x.shape[-2:], mode="bilinear", align_corners=False)
    if fill == "mean":
        return x.mean((2, 3), keepdim=True).expand_as(x)
    raise ValueError(f"fill must be 'blur' or 'mean', not {fill!r}.")


def _mixed(x: torch.Tensor, empty: torch.Tensor, keep: torch.Tensor, grid: PatchGrid) -> torch.Tensor:
    """The picture where `keep` is true, and the empty one elsewhere."""
    mask = keep.repeat_interleave(grid.patch, 1).repeat_interleave(grid.patch, 2)[:, None]
    rest = [0, x.shape[-1] - mask.shape[-1], 0, x.shape[-2] - mask.shape[-2]]  # the strip no patch sees stays
    return torch.where(F.pad(mask, rest, value=True), x, empty)


@without_autocast
def occlusion_maps(
    score: Score,
    x: torch.Tensor,
    grid: PatchGrid,
    *,
    target: Any = None,
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
        target: of a score [B, K], which column is asked about: int, or int [B].
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
    keep = torch.cat([torch.ones(1, grid.h, grid.w), 1 - covers]).bool()  # the whole picture first
    scores = _many(score, x, keep.expand(len(x), *keep.shape), grid, fill, _targets(target, len(x)), batch_size)
    return torch.einsum("bk,khw->bhw", scores[:, :1] - scores[:, 1:], covers) / covers.sum(0)


def _many(
    score: Score,
    x: torch.Tensor,
    keep: torch.Tensor,
    grid: PatchGrid,
    fill: str,
    targets: torch.Tensor | None,
    batch_size: int,
) -> torch.Tensor:
    """The scores of each picture with different patches kept, bool [B, n, h, w]: float32 [B, n], on the CPU.

    A batch holds several pictures where each has few variants, and what fills the gaps is made once a picture.
    """
    variants, found = keep.shape[1], []
    for pictures in torch.arange(len(x)).split(max(1, batch_size // variants)):
        empty = _empty(x[pictures], fill)
        for rows in torch.arange(len(pictures) * variants).split(batch_size):
            own, kept = rows // variants, keep[pictures].flatten(0, 1)[rows]
            seen = _mixed(x[pictures][own], empty[own], kept, grid)
            with torch.no_grad():
                asked = _asked(score, seen, None if targets is None else targets[pictures][own])
            found.append(asked.float().cpu())
    return torch.cat(found).unflatten(0, (len(x), variants))


@without_autocast
def gradient_maps(
    score: Score, x: torch.Tensor, grid: PatchGrid, *, target: Any = None, batch_size: int = 16
) -> torch.Tensor:
    """Gradient × input: what each patch adds to the score to first order, measured from the picture's mean colour.

    Args:
        score: callable, float [B, 3, S, S] -> [B], differentiable.
        x: float [B, 3, S, S], from `pixels`.
        grid: from `helpers.patch_grid(model)`.
        target: as in `occlusion_maps`.
        batch_size: images at a time.

    Returns:
        float32 [B, h, w]: gradient times (pixel - mean colour), summed over each patch's pixels and channels. For a
        score that is linear in the pixels the sum over patches is exactly score(x) - score(mean colour).
    """
    return integrated_gradient_maps(score, x, grid, steps=1, at_picture=True, target=target, batch_size=batch_size)


@without_autocast
def integrated_gradient_maps(
    score: Score,
    x: torch.Tensor,
    grid: PatchGrid,
    *,
    target: Any = None,
    steps: int = 16,
    at_picture: bool = False,
    batch_size: int = 16,
) -> torch.Tensor:
    """Integrated gradients (Sundararajan et al. 2017): the gradient averaged on the way from nothing to the picture.

    "Nothing" is the picture's mean colour. Averaged over the way, the gradients add up to what the score gains on it,
    also where the score is not linear; the more steps, the closer.

    Args:
        score, x, grid, target: as in `gradient_maps`.
        steps: points on the way, at the middle of as many equal parts.
        at_picture: ask at the picture itself alone: this is gradient × input.
        batch_size: images at a time.

    Returns:
        float32 [B, h, w]; summed over patches, about score(x) - score(mean colour).
    """
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, not {steps}.")
    places = [1.0] if at_picture else [(k + 0.5) / steps for k in range(steps)]
    maps, targets = [], _targets(target, len(x))
    for rows in torch.arange(len(x)).split(batch_size):
        part = x[rows].detach()
        mean = part.mean((2, 3), keepdim=True)
        total = torch.zeros_like(part)
        for place in places:
            point = (mean + place * (part - mean)).requires_grad_(True)
            with torch.enable_grad():
                asked = _asked(score, point, None if targets is None else targets[rows])
                total += torch.autograd.grad(asked.sum(), point)[0]
        product = (total / len(places) * (part - mean)).sum(1, keepdim=True)
        sums = F.avg_pool2d(product, grid.patch) * grid.patch**2
        maps.append(sums[:, 0, : grid.h, : grid.w])
    return torch.cat(maps)


# --- explanations that read the layers --------------------------------------------------------------------------------


@contextmanager
def _plain_attention(model: Any) -> Iterator[None]:
    """The model with attention written out, which keeps its weights; afterwards as it was."""
    config = model.config.vision_config
    before = config._attn_implementation
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = before


def _pooled(head: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The attention pooling of the image tower, written out so that its weights can be read and differentiated.

    Args:
        head: SigLIP's pooling head.
        tokens: float [B, P, D], its input.

    Returns:
        pooled [B, D], equal to the head's own; attention weights [B, heads, 1, P].
    """
    attention = head.attention
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    inputs = head.probe.expand(len(tokens), -1, -1), tokens, tokens
    query, key, value = (
        F.linear(i, w, b).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for i, w, b in zip(inputs, weights, biases, strict=True)
    )
    looks = (query @ key.transpose(-1, -2) * attention.head_dim**-0.5).softmax(-1)
    hidden = attention.out_proj((looks @ value).transpose(1, 2).flatten(2))
    return (hidden + head.mlp(head.layernorm(hidden)))[:, 0], looks


def _layers(model: Any, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """What the image tower does on the way: pooled [B, D], each layer's attention and then the pooling head's
    [B, heads, queries, P], and each layer's tokens [B, P, D]."""
    with _plain_attention(model):
        x = x.to(model.device, model.dtype)
        seen = model.vision_model(pixel_values=x, output_attentions=True, output_hidden_states=True)
    pooled, looks = _pooled(model.vision_model.head, seen.last_hidden_state)
    return pooled, [*seen.attentions, looks], list(seen.hidden_states)


def _split(x: torch.Tensor, vectors: Any, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pixels and the text vector of each picture, batch by batch."""
    vectors = F.normalize(torch.as_tensor(vectors).float(), dim=-1)
    vectors = vectors.expand(len(x), -1) if vectors.ndim == 1 else vectors
    if vectors.ndim != 2 or len(vectors) != len(x):
        raise ValueError(f"vectors {list(vectors.shape)} must be [D], or one for each of the {len(x)} pictures.")
    yield from zip(x.split(batch_size), vectors.split(batch_size), strict=True)


def rollout_maps(model: Any, x: torch.Tensor, *, batch_size: int = 16) -> torch.Tensor:
    """Attention rollout (Abnar and Zuidema 2020): how much of each patch arrives in the pooled vector, if attention
    were all that happens. It is not told what is asked: the map is the same for every phrase.

    Args:
        model: from `helpers.load`.
        x: float [B, 3, S, S], from `pixels`.
        batch_size: images at a time.

    Returns:
        float32 [B, h, w], each map sums to one: the layers' attention, mean over heads, half of it replaced by
        "stays where it is" (the residual connection), multiplied from the first layer to the pooling head.
    """
    model, maps = unwrap(model), []
    for part in x.split(batch_size):
        with evaluating(model):
            _, attentions, _ = _layers(model, part)
        *layers, looks = (attention.float().mean(1) for attention in attentions)  # [B, P, P]; [B, 1, P]
        rolled = torch.eye(looks.shape[-1], device=looks.device)
        for layer in layers:
            rolled = 0.5 * (layer @ rolled + rolled)
        maps.append((looks @ rolled).reshape(len(part), *model.config.grid).cpu())
    return torch.cat(maps)


def relevance_maps(model: Any, vectors: torch.Tensor, x: torch.Tensor, *, batch_size: int = 8) -> torch.Tensor:
    """Relevance propagation through attention (Chefer, Gur and Wolf 2021): rollout that knows what is asked.

    Each layer's attention is weighted by the gradient of the score, only what speaks for the score is kept, and the
    mean over heads is added to what has arrived so far: R + A R, from the first layer to the pooling head.

    Args:
        model: from `helpers.load`.
        vectors: float [D], a text vector; or one for each picture [B, D].
        x: float [B, 3, S, S], from `pixels`.
        batch_size: images at a time.

    Returns:
        float32 [B, h, w], never negative.
    """
    model, maps = unwrap(model), []
    for part, vector in _split(x, vectors, batch_size):
        with evaluating(model, gradients=True), torch.enable_grad():
            pooled, attentions, _ = _layers(model, part)
            cosine = (F.normalize(pooled.float(), dim=-1) * vector.to(pooled.device)).sum()
            gradients = torch.autograd.grad(cosine, attentions)
        pairs = zip(attentions, gradients, strict=True)
        *layers, looks = ((a.detach() * g).float().clamp(min=0).mean(1) for a, g in pairs)
        relevance = torch.eye(looks.shape[-1], device=looks.device)
        for layer in layers:
            relevance = relevance + layer @ relevance
        maps.append((looks @ relevance).reshape(len(part), *model.config.grid).cpu())
    return torch.cat(maps)


def grad_cam_maps(
    model: Any, vectors: torch.Tensor, x: torch.Tensor, *, layer: int = -1, batch_size: int = 8
) -> torch.Tensor:
    """Grad-CAM (Selvaraju et al. 2017) on the tokens of one layer: channels weighted by their mean gradient.

    Args:
        model, vectors, x, batch_size: as in `relevance_maps`.
        layer: whose output; -1 is the last one's, 0 what enters the first.

    Returns:
        float32 [B, h, w], negative values cut off as in the paper.
    """
    model, maps = unwrap(model), []
    for part, vector in _split(x, vectors, batch_size):
        with evaluating(model, gradients=True), torch.enable_grad():
            pooled, _, tokens = _layers(model, part)
            cosine = (F.normalize(pooled.float(), dim=-1) * vector.to(pooled.device)).sum()
            (gradient,) = torch.autograd.grad(cosine, tokens[layer])
        product = tokens[layer].detach().float() * gradient.float().mean(1, keepdim=True)
        maps.append(product.sum(-1).clamp(min=0).reshape(len(part), *model.config.grid).cpu())
    return torch.cat(maps)


# --- is it faithful? --------------------------------------------------------------------------------------------------


@dataclass
class Curves:
    """What `deletion_insertion` returns: fractions of the patches [S]; scores there, deletion and insertion [B, S]."""

    fractions: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray


@without_autocast
def deletion_insertion(
    score: Score,
    x: torch.Tensor,
    maps: torch.Tensor,
    grid: PatchGrid,
    *,
    target: Any = None,
    steps: int | Sequence[float] = 14,
    fill: str = "blur",
    batch_size: int = 64,
) -> Curves:
    """Take patches away, most important first (deletion), and put them into an empty picture likewise (insertion).

    A map that tells what the score rests on makes deletion fall early and insertion rise early. Judge it against
    several random orders, picture by picture. (Petsiuk et al. 2018; the mean over points as in Samek et al. 2017.)

    Args:
        score: callable, float [B, 3, S, S] -> [B], or [B, K] with a target.
        x: float [B, 3, S, S].
        maps: float [B, h, w], larger is more important; equal values keep their order.
        grid: from `helpers.patch_grid(model)`.
        target: as in `occlusion_maps`.
        steps: points on the curve from 0 to 1, equally far apart, the first one not counted; or the fractions
            themselves, for a curve that looks closely where a mask ends: (0.05, 0.1, 0.2, 0.4).
        fill: as in `without`.
        batch_size: evaluations at a time.
    """
    maps = torch.as_tensor(maps)
    if tuple(maps.shape) != (len(x), *grid.shape):
        raise ValueError(f"maps {list(maps.shape)} must be [{len(x)}, {grid.h}, {grid.w}].")
    shares = torch.linspace(0, 1, steps + 1) if isinstance(steps, int) else torch.as_tensor(steps, dtype=torch.float32)
    if not len(shares) or shares.min() < 0 or shares.max() > 1:
        raise ValueError(f"steps {steps} must be a number of points, or fractions between 0 and 1.")
    counts = (shares * len(grid)).round().long()
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).unflatten(1, grid.shape)  # 0 is the most important patch
    first = rank[:, None] < counts[:, None, None]  # [B, S, h, w]
    keep = torch.cat([~first, first], 1)  # [B, 2S, h, w]
    found = _many(score, x, keep, grid, fill, _targets(target, len(x)), batch_size)
    deletion, insertion = found.unflatten(1, (2, -1)).numpy().swapaxes(0, 1)
    return Curves(counts.numpy() / len(grid), deletion, insertion)


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


def mask_maps(masks: Any, grid: PatchGrid) -> torch.Tensor:
    """A mask as an explanation: brightest deep inside, darkest far outside, so that no two patches tie for no reason.

    Args:
        masks: bool [B, H, W], any size; they are squashed as the picture is.
        grid: from `helpers.patch_grid(model)`.

    Returns:
        float32 [B, h, w]: the distance to the outline in patches, negative outside, mean over the patch's pixels.

    Raises:
        ValueError: a mask that is empty or full: it has no outline.
    """
    squashed = F.interpolate(
        torch.as_tensor(np.asarray(masks), dtype=torch.float32)[:, None], size=(grid.size, grid.size), mode="area"
    )
    inside = (squashed[:, 0] >= 0.5).numpy()
    flat = inside.reshape(len(inside), -1)
    if (bad := np.flatnonzero(flat.all(1) | ~flat.any(1))).size:
        raise ValueError(f"masks[{bad[0]}] is {'full' if flat[bad[0]].all() else 'empty'}: it has no outline.")
    signed = np.stack([distance_transform_edt(one) - distance_transform_edt(~one) for one in inside])
    depth = torch.as_tensor(signed, dtype=torch.float32)[:, None] / grid.patch
    return F.avg_pool2d(depth, grid.patch)[:, 0, : grid.h, : grid.w]


def strongest(grades: Mapping[str, Any], *, leave_out: str | tuple[str, ...] = ()) -> str:
    """The rival with the best mean, pictures without a grade not counted. Add a rival by adding it to the mapping.

    Args:
        grades: name -> float [B], larger is better.
        leave_out: names that are not rivals, the map's own above all.

    Raises:
        ValueError: no rival is left that has a grade.
    """
    own = {leave_out} if isinstance(leave_out, str) else set(leave_out)
    means = {
        name: float(np.nanmean(values))
        for name, values in grades.items()
        if name not in own and np.isfinite(np.asarray(values, dtype=float)).any()
    }
    if not means:
        raise ValueError("There is no rival with a grade: give at least one beside the map itself.")
    return max(means, key=lambda name: means[name])


def random_weights(model: Any, seed: int = SEED) -> Any:
    """A model of the same geometry that has learned nothing, for the sanity check of Adebayo et al. 2018."""
    model = unwrap(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(model)(model.config)
    return fresh.to(model.device, model.dtype).eval()
