"""Train conceptclip-mini with the two losses of the paper (arXiv 2501.15579; ConceptCLIP facts, section 5).

    python -m recipes.render_training --out build/training
    torchrun --nproc-per-node 2 -m recipes.train_mini --photographs BCCD_FOLDER --out build/mini

With ``--initial FOLDER`` it goes on from a trained model, with a new schedule and stage two from the first step on.

Stage one is IT-Align alone, stage two IT-Align + 0.5 RC-Align. Three things differ from the paper, all because the
truth of every rendered picture is known: a caption counts as a true pair with *every* picture of the batch of which it
is true, not only with the one that it was written for; pairs of which nobody knows whether they are true are left out
of both sums; and RC-Align looks at a region of the picture, whose truth the masks tell.

A step is two batches, whose gradients are averaged: one after the other in one process, or side by side in the two that
torchrun starts. Batch number i depends on the seed and on i alone; an interrupted run resumes from its last checkpoint.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from helpers.bloodcells import CONCEPTS, PARTS, Cell, caption, truth
from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPImageProcessor, ConceptCLIPModel, ConceptCLIPProcessor
from helpers.conceptclip.convert import save
from helpers.settings import SEED

from .photographs import Photographs, load_annotations, split
from .render_training import SIZE
from .tokenizer import VOCABULARY, make_tokenizer

KEYS = tuple(CONCEPTS)
RC_WEIGHT = 0.5
PATCH = 16
GRID = SIZE // PATCH
NO_MASKS = np.zeros((len(PARTS), 1, 1), np.uint8)
STAGE_ONE = 0.0744
"""The share of the steps that trains with IT-Align alone."""

HALVES = 2
"""Batches in a step."""


class View(NamedTuple):
    """How the pictures of a batch are looked at.

    Attributes:
        grid: patches on a side. Fewer than the whole picture's 14 lie at a random place of the model's grid, so that
            all of its position vectors are trained: small views cost little, and show what the captions are about.
        pictures: how many in a batch.
        captions: how many in a batch. Each is compared with every picture, so fewer than the pictures will do.
        early, late: the share of the steps that look this way, before and after ``COOL_DOWN``.
    """

    grid: int
    pictures: int
    captions: int
    early: float
    late: float


VIEWS = {
    # The white cell, whole: its type and attributes.
    "cell": View(8, 96, 64, 0.65, 0.50),
    # So close that one part can fill the view: nucleus, cytoplasm, red cells and background are nearly always in a
    # picture together.
    "part": View(5, 128, 64, 0.15, 0.10),
    "whole": View(14, 32, 64, 0.20, 0.40),
}

WHOLE_REGION = 0.25
"""How often the region that RC-Align looks at is the whole view, as in the paper; else it is a square of its patches.

RC-Align asks only that *some* patch of the picture knows of a concept, and every patch attends to all others. Asked of
whole views alone, the empty background learned to tell of the nucleus. Asked of a region whose truth is known, a patch
must not speak of what lies outside."""

SHAPES = tuple(key for key, concept in CONCEPTS.items() if concept.group == "nucleus")
SHAPE_CAPTIONS = 0.4
"""This share of the captions names the shape of the nucleus alone, where it is known.

Drawn like all others, shape would be one of a dozen and more things that a caption can name. It is the one that is
learned last: colours and granules are seen in a patch, a shape only in how patches lie to each other."""

COOL_DOWN = 0.7
"""From this share of the steps on the learning rate falls to nothing."""


def mini_config(tokenizer) -> ConceptCLIPConfig:
    """The released architecture in small: a grid of 14 × 14 patches, both towers 128 wide."""
    return ConceptCLIPConfig(
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "image_size": SIZE,
            "patch_size": PATCH,
            "hidden_act": "gelu",
        },
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        # Many pairs of a batch are true here, so the biases start near the middle instead of at the paper's -10.
        logit_bias_init_value=-2.0,
        concept_logit_bias_init_value=-4.0,
    )


# --------------------------------------------------------------------------------------------------------------- data


class Rendered:
    """The shards of :mod:`recipes.render_training`, mapped into memory."""

    def __init__(self, folder: Path):
        files = sorted(folder.glob("images-[0-9]*[0-9].npy"))
        if not files:
            raise FileNotFoundError(
                f"No shards in {folder}: run `python -m recipes.render_training --out {folder}` first."
            )
        self.images = [np.load(file, mmap_mode="r") for file in files]
        self.masks = [np.load(str(file).replace("images-", "masks-"), mmap_mode="r") for file in files]
        self.cells = [
            json.loads(Path(str(file).replace("images-", "cells-")).with_suffix(".json").read_text()) for file in files
        ]
        self.per_shard = len(self.images[0])

    def __len__(self) -> int:
        return len(self.images) * self.per_shard

    def __getitem__(self, number: int):
        shard, i = divmod(number, self.per_shard)
        row = self.cells[shard][i]
        cell = None if row["cell"] is None else Cell(**row["cell"])
        return self.images[shard][i], self.masks[shard][i], cell, row["visible"]


def choose_square(rng: np.random.Generator, view: str, masks: np.ndarray) -> tuple[int, int, int]:
    """Where a view of a rendered picture is cut.

    Args:
        rng: where every choice comes from.
        view: a key of :data:`VIEWS`.
        masks: [parts, h, h] uint8, the shares of each part in cells of a picture.

    Returns:
        (left, top, side), in cells of the masks.
    """
    size = masks.shape[-1]
    if view == "cell":
        rows, columns = np.nonzero((masks[0] | masks[1]) > 127)
        if len(rows):
            box = np.array([[columns.min(), columns.max() + 1], [rows.min(), rows.max() + 1]])
            extent = int((box[:, 1] - box[:, 0]).max())
            # Half of the cells as large as they are in a whole picture, half drawn to fill the view.
            native = size * VIEWS[view].grid // GRID
            side = max(extent, native) if rng.random() < 0.5 else extent * rng.uniform(1.0, 1.7)
            side = int(np.clip(side, 16, size))
            first, last = np.maximum(box[:, 1] - side, 0), np.minimum(box[:, 0], size - side)
            left, top = (int(rng.integers(min(ends), max(ends) + 1)) for ends in zip(first, last, strict=True))
            return left, top, side
    if view == "whole":
        side = int(size * rng.uniform(0.8, 1.0)) if rng.random() < 0.25 else size
        left, top = (int(v) for v in rng.integers(0, size - side + 1, size=2))
        return left, top, side
    side = max(int(size * rng.uniform(0.14, 0.5)), VIEWS[view].grid)  # a patch is one cell of the masks at least
    shown = [*masks, 255 - masks.max(0)]
    rows, columns = np.nonzero(shown[rng.integers(len(shown))] > 127)
    if len(rows) and rng.random() < 0.8:
        i = rng.integers(len(rows))
        left, top = (int(np.clip(v[i] - rng.integers(side), 0, size - side)) for v in (columns, rows))
    else:
        left, top = (int(v) for v in rng.integers(0, size - side + 1, size=2))
    return left, top, side


def cut(image: np.ndarray, masks: np.ndarray, left: int, top: int, side: int, pixels: int):
    """A square of a picture and of its masks.

    Args:
        image: [S, S, 3] uint8.
        masks: [parts, h, h] uint8.
        left, top, side: the square, in cells of the masks.
        pixels: the side of the image to return.

    Returns:
        (image of that side, masks [parts, side, side] uint8).
    """
    scale = image.shape[0] // masks.shape[-1]
    box = tuple(scale * v for v in (left, top, left + side, top + side))
    # Of equal size and place, `resize` copies.
    image = Image.fromarray(image).resize((pixels, pixels), Image.Resampling.BILINEAR, box)
    return image, masks[:, top : top + side, left : left + side]


def turn(rng: np.random.Generator, image: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One of the eight symmetries of the square, the same for an image [H, W, 3] and masks [parts, h, w]."""
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    image, masks = np.rot90(image, turns), np.rot90(masks, turns, (1, 2))
    return (image[:, ::-1], masks[:, :, ::-1]) if mirror else (image, masks)


def choose_region(rng: np.random.Generator, grid: int) -> tuple[int, int, int]:
    """(left, top, side) of the square that RC-Align looks at, in patches of a view of ``grid`` × ``grid``."""
    side = grid if rng.random() < WHOLE_REGION else int(rng.integers(1, grid))
    left, top = rng.integers(0, grid - side + 1, size=2)
    return int(left), int(top), side


SEEN_IN = {
    "chromatin": ("nucleus", 0.002, 0.2),
    "cytoplasm": ("cytoplasm", 0.002, 0.1),
    "texture": ("cytoplasm", 0.002, 0.1),
    "granules": ("granules", 0.0005, 0.01),
    "vacuoles": ("vacuoles", 0.0005, 0.01),
}
"""Group of concepts → the part that shows them, absent below and plain from these shares of the view."""


def view_truth(
    cell: Cell | None, visible: float, all_masks: np.ndarray, masks: np.ndarray, patches: int = GRID * GRID
) -> dict[str, bool | None]:
    """The truth of a view or of a region of it, from what its masks still show.

    A cell that the view cuts has unknown attributes, but for those of a part that is well in view. Of a part that fills
    less than a tenth of one of the ``patches`` it is unknown whether a patch could show it.
    """
    areas = dict(zip(PARTS, masks.reshape(len(PARTS), -1).sum(1, dtype=float).tolist(), strict=True))
    full = float(all_masks[:2].sum(dtype=float))
    pixels = 255.0 * masks[0].size
    shares = {part: area / pixels for part, area in areas.items()}
    shares["white cell"] = shares["nucleus"] + shares["cytoplasm"]
    covered = (
        masks[[PARTS.index(part) for part in ("nucleus", "cytoplasm", "red cells", "platelets")]].astype(int).sum(0)
    )
    shares["background"] = float((255 - covered.clip(0, 255)).sum() / pixels)
    kept = (areas["nucleus"] + areas["cytoplasm"]) / full if full else 1.0
    result = truth(cell, shares, visible * kept)
    for concept in CONCEPTS.values():
        if concept.present is not None and result[concept.key] and shares[concept.part] < 0.1 / patches:
            result[concept.key] = None
    for concept in CONCEPTS.values() if cell is not None else ():
        if result[concept.key] is None and concept.group in SEEN_IN:
            part, absent_below, enough = SEEN_IN[concept.group]
            if shares[part] >= enough:
                result[concept.key] = all(getattr(cell, name) in values for name, values in concept.when.items())
            elif shares[part] < absent_below and concept.part is not None:
                result[concept.key] = False
    return result


LEVELS = np.linspace(0, 1, 256)
NOISE = np.random.default_rng(SEED).standard_normal(2**20, np.float32)
"""Normal noise to cut from: drawing it anew for every picture would take longer than all the rest."""


def random_colour(rng: np.random.Generator, image: Image.Image) -> np.ndarray:
    """Another stain, lamp and camera: gamma, hue, saturation, white balance, contrast, brightness and noise.

    Args:
        rng: where every choice comes from.
        image: any size, RGB.

    Returns:
        [H, W, 3] uint8.
    """
    strength = rng.uniform(0, 1.25)  # some pictures stay as they are
    gamma = (255 * LEVELS ** np.exp(strength * rng.normal(0, 0.22)) + 0.5).astype(np.uint8)
    image = Image.fromarray(gamma[np.asarray(image)])
    # Hue: a rotation about the grey axis (Rodrigues); saturation: towards or away from grey.
    angle, axis = strength * rng.normal(0, 0.10), np.full(3, 3**-0.5)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotate = np.eye(3) * math.cos(angle) + cross * math.sin(angle) + (1 - math.cos(angle)) * np.outer(axis, axis)
    saturation = 1 + strength * rng.uniform(-0.4, 0.45)
    saturate = saturation * np.eye(3) + (1 - saturation) * np.array([0.299, 0.587, 0.114])
    matrix = np.diag(np.exp(strength * rng.normal(0, 0.08, 3))) @ rotate @ saturate
    mean = matrix @ np.asarray(image.reduce(4)).mean((0, 1))
    contrast, brightness = 1 + strength * rng.uniform(-0.28, 0.28), 1 + strength * rng.uniform(-0.14, 0.14)
    affine = np.column_stack([contrast * matrix, (brightness - contrast) * mean])
    pixels = np.asarray(image.convert("RGB", affine.flatten().tolist()))
    if rng.random() < 0.3:
        start = int(rng.integers(len(NOISE) - pixels.size))
        noise = np.float32(rng.uniform(0, 10)) * NOISE[start : start + pixels.size].reshape(pixels.shape)
        pixels = (pixels + noise).clip(0, 255).astype(np.uint8)
    return pixels


def distract(rng: np.random.Generator, text: str, words: list[str]) -> tuple[str, int]:
    """Sometimes put a few meaningless words before a caption, so that an unknown template does no harm.

    Returns:
        (text, how many characters its spans have moved).
    """
    if rng.random() >= 0.25:
        return text, 0
    prefix = " ".join(words[i] for i in rng.integers(len(words), size=rng.integers(1, 4))) + " "
    return prefix + text, len(prefix)


class Batches(Dataset):
    """Item i is the whole batch of step i; it depends on the seed and on i alone."""

    def __init__(self, rendered: Rendered, photographs: Photographs | None, tokenizer, options: argparse.Namespace):
        self.rendered, self.photographs, self.tokenizer = rendered, photographs, tokenizer
        self.options = options
        lines = VOCABULARY.read_text("utf-8").splitlines()
        self.words = [word for line in lines if not line.startswith("#") for word in line.split()][-320:]
        if photographs is not None:
            # A rare type is drawn more often than its share, a common one less: weight 1/sqrt(count).
            types = pd.Series(photographs.types).fillna("several").reindex(photographs.names)
            weights = 1 / np.sqrt(types.map(types.value_counts()).to_numpy(float))
            self.weights = weights / weights.sum()

    def __len__(self) -> int:
        return self.options.steps * HALVES

    def _picture(self, rng: np.random.Generator, view: str, real: bool):
        """(image, its truths, the square of patches for RC-Align, the truths of that square)."""
        grid = VIEWS[view].grid
        pixels = grid * PATCH
        if real:
            name = self.photographs.names[rng.choice(len(self.weights), p=self.weights)]
            crop = self.photographs.random_crop(rng, name, close=view == "part")
            image = random_colour(rng, crop.image.resize((pixels, pixels), Image.Resampling.BICUBIC))
            return turn(rng, image, NO_MASKS)[0], crop.truths, (0, 0, grid), crop.truths
        whole, all_masks, cell, visible = self.rendered[int(rng.integers(len(self.rendered)))]
        image, masks = cut(whole, all_masks, *choose_square(rng, view, all_masks), pixels)
        image, masks = turn(rng, random_colour(rng, image), masks)
        truths = view_truth(cell, visible, all_masks, masks)
        left, top, side = choose_region(rng, grid)
        if side == grid:
            return image, truths, (left, top, side), truths
        # From patches to the finer cells of the masks.
        x, y, end_x, end_y = (round(v * masks.shape[-1] / grid) for v in (left, top, left + side, top + side))
        region = view_truth(cell, visible, all_masks, masks[:, y:end_y, x:end_x], side * side)
        return image, truths, (left, top, side), region

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        step = number // HALVES
        late = step >= COOL_DOWN * self.options.steps
        shares = [view.late if late else view.early for view in VIEWS.values()]
        name = list(VIEWS)[np.random.default_rng([SEED, step]).choice(len(VIEWS), p=shares)]
        view, rng = VIEWS[name], np.random.default_rng([SEED, step, number])
        real = round(view.pictures * self.options.real) if self.photographs is not None else 0
        pictures = [self._picture(rng, name, i < real) for i in range(view.pictures)]
        left, top = rng.integers(0, GRID - view.grid + 1, size=(2, view.pictures, 1, 1))
        rows, columns = np.mgrid[: view.grid, : view.grid]
        places = ((top + rows) * GRID + left + columns).reshape(view.pictures, -1)
        view_table, region_table = (
            torch.tensor([[math.nan if row[key] is None else float(row[key]) for key in KEYS] for row in all_truths])
            for all_truths in ([truths for _, truths, _, _ in pictures], [truths for *_, truths in pictures])
        )
        regions = np.zeros((view.pictures, view.grid, view.grid), bool)
        for region, (_, _, (x, y, side), _) in zip(regions, pictures, strict=True):
            region[y : y + side, x : x + side] = True
        texts, named, spans = [], [], []
        for i in np.resize(rng.permutation(len(pictures)), view.captions):
            truths = pictures[i][1]
            shapes = {key: True for key in SHAPES if truths[key]}
            if any(truths.values()):
                written = caption(shapes if shapes and rng.random() < SHAPE_CAPTIONS else truths, rng)
                text, moved = distract(rng, written.text, self.words)
                spans += [(len(texts), KEYS.index(s.concept), s.start + moved, s.end + moved) for s in written.spans]
                named.append([KEYS.index(s.concept) for s in written.spans])
                texts.append(text)
        encoded = self.tokenizer(texts, padding=True, truncation=True, max_length=77, return_tensors="pt")
        within = torch.zeros(len(spans), encoded["input_ids"].shape[1])
        for row, (text, _, start, end) in enumerate(spans):
            within[row, encoded.char_to_token(text, start) : encoded.char_to_token(text, end - 1) + 1] = 1
        caption_truth = torch.stack([_conjunction(view_table[:, keys]) for keys in named], 1)
        return {
            "pixels": torch.from_numpy(np.stack([image for image, *_ in pictures])),
            "places": torch.from_numpy(places),
            "input_ids": encoded["input_ids"],
            "caption_truth": caption_truth,
            "regions": torch.from_numpy(regions.reshape(view.pictures, -1)),
            "span_caption": torch.tensor([s[0] for s in spans]),
            "span_tokens": within / within.sum(1, keepdim=True),
            "span_truth": region_table[:, [s[1] for s in spans]],
        }


def _conjunction(values: torch.Tensor) -> torch.Tensor:
    """Three-valued "and" over the last axis: 0 if any is 0, else nan if any is nan, else 1."""
    false = (values == 0).any(-1)
    unknown = values.isnan().any(-1)
    return torch.where(false, 0.0, torch.where(unknown, math.nan, 1.0))


# -------------------------------------------------------------------------------------------------------------- losses


def sigmoid_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The sigmoid loss of SigLIP over all pairs whose truth is known.

    Args:
        logits: [B, N] images × texts.
        labels: [B, N], 1 for a true pair, 0 for a false one, nan for one to leave out.

    Returns:
        −log sigmoid(±logit), summed over the images and divided by the number of texts.
    """
    known = ~labels.isnan()
    signs = torch.where(labels == 1, 1.0, -1.0)
    return -(F.logsigmoid(signs * logits) * known).sum() / labels.shape[1]


def it_align(output, caption_truth: torch.Tensor) -> torch.Tensor:
    """IT-Align: image against caption, by their global features."""
    logits = output.logit_scale * output.image_features @ output.text_features.T + output.logit_bias
    return sigmoid_loss(logits, caption_truth)


def rc_align(output, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """RC-Align: concept spans against the best patch of each image's region."""
    tokens = output.text_token_features[batch["span_caption"]].float()
    concepts = F.normalize(torch.einsum("st,std->sd", batch["span_tokens"], tokens), dim=-1)
    patches = F.normalize(output.image_token_features.float(), dim=-1)
    cosines = torch.einsum("bpd,sd->bps", patches, concepts)
    best = cosines.masked_fill(~batch["regions"][:, :, None], -torch.inf).amax(1)
    return sigmoid_loss(output.concept_logit_scale * best + output.concept_logit_bias, batch["span_truth"])


# ------------------------------------------------------------------------------------------------------------ training


def sine_positions(grid: int, width: int) -> torch.Tensor:
    """Sine-cosine position vectors [grid * grid, width] to start from (Beyer et al., "Better plain ViT baselines")."""
    frequency = 1 / 10_000 ** (torch.arange(width // 4) / (width // 4 - 1))
    rows, columns = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    angles = [place.flatten()[:, None] * frequency for place in (columns, rows)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], 1)


def whitening_filters(pixel_values: torch.Tensor, width: int, patch: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Patch filters [width, 3, patch, patch] and biases [width] whose outputs have unit variance and no correlation.

    Most of what differs between patches is plain brightness, which drowns texture; with whitened patches to start from,
    the tower sees both (principal components, as in Jordan, "94% on CIFAR-10 in 3.29 Seconds", 2024).
    """
    patches = F.unfold(pixel_values, patch, stride=patch).transpose(1, 2).flatten(0, 1).double()
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    values, vectors = values.flip(0)[:width], vectors.flip(1)[:, :width]
    filters = (vectors / (values + 1e-4 * values[0]).sqrt()).T
    return filters.reshape(width, 3, patch, patch).float(), -(filters @ mean).float()


def learning_rate_factor(step: int, steps: int, warm_up: int = 200) -> float:
    """Linear warm-up, level, and from ``COOL_DOWN`` on a straight line to nothing."""
    return min((step + 1) / warm_up, 1.0, (1 - step / steps) / (1 - COOL_DOWN))


def new_model(tokenizer, batches: Batches) -> ConceptCLIPModel:
    """A model that has learned nothing: sine positions, whitened patch filters, the rest at random."""
    model = ConceptCLIPModel(mini_config(tokenizer))
    embeddings, width = model.vision_model.embeddings, model.config.vision_config.hidden_size
    with torch.no_grad():
        # Full-scale sine waves would drown the patches at the start.
        embeddings.position_embedding.weight.copy_(0.3 * sine_positions(GRID, width))
        some = [as_model_input(batches[len(batches) + i]["pixels"]) for i in range(0, 8 * HALVES, HALVES)]
        tiles = [x.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH) for x in some]  # [B, 3, rows, columns, PATCH, PATCH]
        patches = torch.cat([tile.permute(0, 2, 3, 1, 4, 5).flatten(0, 2) for tile in tiles])
        weight, bias = whitening_filters(patches, width, PATCH)
        embeddings.patch_embedding.weight.copy_(weight)
        embeddings.patch_embedding.bias.copy_(bias)
    return model


def as_model_input(pixels: torch.Tensor) -> torch.Tensor:
    """[B, H, W, 3] uint8 → [B, 3, H, W] float32 in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float().contiguous() / 127.5 - 1


def average_gradients(model: ConceptCLIPModel, processes: int) -> None:
    """Make the gradients of both halves of a step, wherever they were computed, into their mean."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients]) / HALVES
    if processes > 1:
        torch.distributed.all_reduce(flat)
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def make_optimizers(model: ConceptCLIPModel, options: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices, AdamW for the embeddings, biases, norms and scalars."""
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embedding" not in name else rest).append(parameter)
    optimizers = [
        torch.optim.Muon(matrices, lr=options.muon_lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=options.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def make_processor(tokenizer) -> ConceptCLIPProcessor:
    return ConceptCLIPProcessor(
        image_processor=ConceptCLIPImageProcessor(size={"height": SIZE, "width": SIZE}), tokenizer=tokenizer
    )


def train(options: argparse.Namespace) -> None:
    processes, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if processes not in (1, HALVES):
        raise ValueError(f"{processes} processes: a step is {HALVES} batches, so start {HALVES} processes, or one.")
    if processes > 1:
        torch.distributed.init_process_group("gloo")
    torch.manual_seed(SEED)
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    rendered = Rendered(options.rendered)
    photographs = None
    if options.photographs is not None:
        _, types = load_annotations(options.photographs)
        photographs = Photographs(options.photographs, split(types)[0], pd.read_csv(options.counts))
    batches = Batches(rendered, photographs, tokenizer, options)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    initial = options.initial
    model = new_model(tokenizer, batches) if initial is None else ConceptCLIPModel.from_pretrained(initial)
    model.to(device).train()
    # At this size, and on a CPU, plain attention trains a quarter faster than the fused one.
    model.set_attn_implementation("eager")
    embeddings = model.vision_model.embeddings
    optimizers = make_optimizers(model, options)
    checkpoint, start = options.out / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start = state["step"]
    mine = range(start * HALVES + rank, options.steps * HALVES, processes)
    loader = iter(DataLoader(torch.utils.data.Subset(batches, mine), batch_size=None, num_workers=options.workers))
    log_file = options.out / ("losses.csv" if rank == 0 else f"losses-{rank}.csv")
    kept = (
        [row for row in csv.reader(log_file.open()) if row[0] == "step" or int(row[0]) < start]
        if log_file.exists()
        else []
    )
    with log_file.open("w", newline="") as log:
        writer = csv.writer(log, lineterminator="\n")
        writer.writerows(kept or [["step", "patches", "learning_rate_factor", "it_align", "rc_align"]])
        steps = range(start, options.steps)
        bar = tqdm(steps, initial=start, total=options.steps, desc="steps", mininterval=10, disable=rank > 0)
        for step in bar:
            factor = learning_rate_factor(step, options.steps)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * factor
            stage_two = options.initial is not None or step >= STAGE_ONE * options.steps
            model.zero_grad(set_to_none=True)
            for _ in range(HALVES // processes):
                batch = {name: tensor.to(device) for name, tensor in next(loader).items()}
                embeddings.position_ids = batch["places"]
                with torch.autocast(device.type, torch.bfloat16):
                    output = model(pixel_values=as_model_input(batch["pixels"]), input_ids=batch["input_ids"])
                image_text = it_align(output, batch["caption_truth"])
                region_concept = rc_align(output, batch) if stage_two else None
                loss = image_text if region_concept is None else image_text + RC_WEIGHT * region_concept
                loss.backward()
            average_gradients(model, processes)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
            values = [image_text.item(), float("nan") if region_concept is None else region_concept.item()]
            if not math.isfinite(values[0]):
                raise FloatingPointError(
                    f"The loss is {values[0]} at step {step}: lower --lr and resume from {checkpoint}."
                )
            writer.writerow([step, batch["places"].shape[1], f"{factor:.4f}", *(f"{value:.4f}" for value in values)])
            bar.set_postfix(it=f"{values[0]:.3f}", rc=f"{values[1]:.3f}", refresh=False)
            if step % 20 == 0:
                log.flush()
            if rank == 0 and ((step + 1) % options.save_every == 0 or step + 1 == options.steps):
                log.flush()
                unfinished = checkpoint.with_suffix(".tmp")
                state = {
                    "model": model.state_dict(),
                    "optimizers": [o.state_dict() for o in optimizers],
                    "step": step + 1,
                }
                torch.save(state, unfinished)
                unfinished.replace(checkpoint)
                save(model, make_processor(make_tokenizer()), options.out / "model", torch.float16)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rendered", type=Path, default=Path("build/training"))
    parser.add_argument("--photographs", type=Path, help="the BCCD folder; without it only rendered cells are used")
    parser.add_argument("--counts", type=Path, default=Path("data/wbcatt/attribute-counts.csv"))
    parser.add_argument("--out", type=Path, default=Path("build/mini"))
    parser.add_argument("--initial", type=Path, help="a trained model to go on from, in stage two; else from nothing")
    parser.add_argument("--steps", type=int, default=2150)
    parser.add_argument("--real", type=float, default=0.16, help="the share of real photographs in a batch")
    parser.add_argument("--lr", type=float, default=1e-3, help="AdamW's learning rate")
    parser.add_argument("--muon-lr", type=float, default=3e-3, help="Muon's learning rate")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=250)
    train(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
