"""Train conceptclip-mini with the two losses of the paper (arXiv 2501.15579; ConceptCLIP facts, section 5).

    python -m recipes.render_training --out build/training
    python -m recipes.train_mini --rendered build/training --photographs BCCD_FOLDER --out build/mini

Stage one is IT-Align alone, stage two IT-Align + 0.5 RC-Align. Two things differ from the paper, both because the truth
of every rendered picture is known: a caption counts as a true pair with *every* picture of the batch of which it is
true, not only with the one that it was written for, and pairs of which nobody knows whether they are true are left out
of both sums.

Batch number i depends on the seed and on i alone; an interrupted run resumes from its last checkpoint.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path

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
NO_MASKS = np.zeros((len(PARTS), 1, 1), np.uint8)
STAGE_ONE = 0.1
"""The share of the steps that trains with IT-Align alone."""

CLOSE_UPS = 0.2678
"""From this share of the steps on, a third of the rendered pictures are close-ups. Nucleus, cytoplasm and cell are
nearly always in a picture together; only where one fills the view without the others can their maps come apart."""

SPARSE = 0.6
"""The share of the steps that looks at a random half of the patches, another half at every step (FLIP, Li et al., CVPR
2023): half the work for a step of about the same use, while there is still much to learn."""


def mini_config(tokenizer) -> ConceptCLIPConfig:
    """The released architecture in small: a grid of 14 × 14 patches, both towers 128 wide."""
    return ConceptCLIPConfig(
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_hidden_layers": 5,
            "num_attention_heads": 2,
            "image_size": SIZE,
            "patch_size": 16,
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


def random_view(rng: np.random.Generator, image: np.ndarray, masks: np.ndarray, crops: float, close: float = 0.5):
    """One of the eight symmetries of the square, and sometimes a crop of a random size at a random place.

    Args:
        rng: where every choice comes from.
        image: [SIZE, SIZE, 3] uint8.
        masks: [parts, h, w] uint8, the shares of each part.
        crops: how often to crop.
        close: the share of the crops that come so close that a single part can fill the view; the others are gentle.

    Returns:
        (image [SIZE, SIZE, 3] uint8, masks [parts, h, w] uint8 of the same view).
    """
    if rng.random() < crops:
        side = int(SIZE * (rng.uniform(0.2, 0.65) if rng.random() < close else rng.uniform(0.8, 1.0))) // 4 * 4
        top, left = (int(rng.integers(0, SIZE - side + 1)) // 4 * 4 for _ in range(2))
        image = image[top : top + side, left : left + side]
        scale = SIZE // masks.shape[-1]
        masks = masks[:, top // scale : (top + side) // scale, left // scale : (left + side) // scale]
        image = np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    image, masks = np.rot90(image, turns, (0, 1)), np.rot90(masks, turns, (1, 2))
    return (image[:, ::-1], masks[:, :, ::-1]) if mirror else (image, masks)


def view_truth(cell: Cell | None, visible: float, all_masks: np.ndarray, masks: np.ndarray) -> dict[str, bool | None]:
    """The truth of a view, from what its masks still show."""
    areas = {part: float(mask.sum(dtype=np.int64)) for part, mask in zip(PARTS, masks, strict=True)}
    full = float(all_masks[:2].sum(dtype=np.int64))
    pixels = 255.0 * masks[0].size
    shares = {part: area / pixels for part, area in areas.items()}
    shares["white cell"] = shares["nucleus"] + shares["cytoplasm"]
    covered = (
        masks[[PARTS.index(part) for part in ("nucleus", "cytoplasm", "red cells", "platelets")]].astype(int).sum(0)
    )
    shares["background"] = float((255 - covered.clip(0, 255)).sum() / pixels)
    kept = (areas["nucleus"] + areas["cytoplasm"]) / full if full else 1.0
    return truth(cell, shares, visible * kept)


def random_colour(rng: np.random.Generator, image: np.ndarray) -> torch.Tensor:
    """Another stain, lamp and camera: gamma, hue, saturation, white balance, contrast, brightness and noise.

    Args:
        image: [H, W, 3] uint8.

    Returns:
        [3, H, W] float32 in [-1, 1], as the model takes it.
    """
    # Gamma by a table of 256 values; everything else is one affine map of the three channels.
    table = (np.linspace(0, 1, 256) ** np.exp(rng.normal(0, 0.22))).astype(np.float32)
    pixels = table[image.reshape(-1, 3).T]
    # Hue: a rotation about the grey axis (Rodrigues); saturation: towards or away from grey.
    angle, axis = rng.normal(0, 0.10), np.full(3, 3**-0.5)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotate = np.eye(3) * math.cos(angle) + cross * math.sin(angle) + (1 - math.cos(angle)) * np.outer(axis, axis)
    saturation = rng.uniform(0.55, 1.5)
    saturate = saturation * np.eye(3) + (1 - saturation) * np.array([0.299, 0.587, 0.114])
    matrix = np.diag(np.exp(rng.normal(0, 0.08, 3))) @ rotate @ saturate
    mean = matrix @ pixels.mean(1)
    contrast, brightness = rng.uniform(0.7, 1.3), rng.uniform(0.85, 1.15)
    pixels = (contrast * matrix).astype(np.float32) @ pixels + ((brightness - contrast) * mean).astype(np.float32)[
        :, None
    ]
    if rng.random() < 0.3:
        pixels += np.float32(rng.uniform(0, 0.04)) * rng.standard_normal(pixels.shape, np.float32)
    pixels = (pixels.clip(0, 1) - np.float32(0.5)) / np.float32(0.5)
    return torch.from_numpy(pixels.reshape(3, *image.shape[:2]))


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
        return self.options.steps

    def _picture(self, rng: np.random.Generator, real: bool, close_ups: bool):
        if real:
            name = self.photographs.names[rng.choice(len(self.weights), p=self.weights)]
            crop = self.photographs.random_crop(rng, name)
            image, _ = random_view(rng, np.asarray(crop.image), NO_MASKS, crops=0.0)
            return random_colour(rng, image), crop.truths
        whole, all_masks, cell, visible = self.rendered[int(rng.integers(len(self.rendered)))]
        image, masks = random_view(rng, whole, all_masks, *((0.5, 0.7) if close_ups else (0.25, 0.5)))
        return random_colour(rng, image), view_truth(cell, visible, all_masks, masks)

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([SEED, step])
        count = self.options.batch
        real = round(count * self.options.real) if self.photographs is not None else 0
        close_ups = step >= CLOSE_UPS * self.options.steps
        pictures = [self._picture(rng, i < real, close_ups) for i in range(count)]
        table = torch.tensor(
            [[math.nan if truths[key] is None else float(truths[key]) for key in KEYS] for _, truths in pictures]
        )
        texts, named, spans = [], [], []
        for _, truths in pictures:
            for _ in range(self.options.captions if any(truths.values()) else 0):
                written = caption(truths, rng)
                text, moved = distract(rng, written.text, self.words)
                spans += [(len(texts), KEYS.index(s.concept), s.start + moved, s.end + moved) for s in written.spans]
                named.append([KEYS.index(s.concept) for s in written.spans])
                texts.append(text)
        encoded = self.tokenizer(texts, padding=True, truncation=True, max_length=77, return_tensors="pt")
        within = torch.zeros(len(spans), encoded["input_ids"].shape[1])
        for row, (text, _, start, end) in enumerate(spans):
            within[row, encoded.char_to_token(text, start) : encoded.char_to_token(text, end - 1) + 1] = 1
        caption_truth = torch.stack([_conjunction(table[:, keys]) for keys in named], 1)
        return {
            "pixel_values": torch.stack([pixels for pixels, _ in pictures]),
            "input_ids": encoded["input_ids"],
            "caption_truth": caption_truth,
            "span_caption": torch.tensor([s[0] for s in spans]),
            "span_tokens": within / within.sum(1, keepdim=True),
            "span_truth": table[:, [s[1] for s in spans]],
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
    """RC-Align: concept spans against the best patch of each image."""
    tokens = output.text_token_features[batch["span_caption"]].float()
    concepts = F.normalize(torch.einsum("st,std->sd", batch["span_tokens"], tokens), dim=-1)
    patches = F.normalize(output.image_token_features.float(), dim=-1)
    best = torch.einsum("bpd,sd->bps", patches, concepts).amax(1)
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


def keep_half_the_patches(module, arguments, embeddings: torch.Tensor) -> torch.Tensor:
    """A forward hook for the patch embeddings [B, P, D]: keeps a random half of them, the same for the whole batch."""
    patches = embeddings.shape[1]
    kept = torch.randperm(patches, device=embeddings.device)[: patches // 2]
    return embeddings[:, kept].contiguous()


def learning_rate_factor(step: int, steps: int, warm_up: int = 200) -> float:
    """Linear warm-up, then a cosine to nothing."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(steps - warm_up, 1)))


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
    model = ConceptCLIPModel(mini_config(tokenizer)).to(device).train()
    # At this size, and on a CPU, plain attention trains a quarter faster than the fused one.
    model.set_attn_implementation("eager")
    embeddings = model.vision_model.embeddings
    with torch.no_grad():
        # Full-scale sine waves would drown the patches at the start.
        grid, width = SIZE // model.config.vision_config.patch_size, model.config.vision_config.hidden_size
        embeddings.position_embedding.weight.copy_(0.3 * sine_positions(grid, width))
        weight, bias = whitening_filters(
            torch.cat([batches[options.steps + i]["pixel_values"] for i in range(8)]), width
        )
        embeddings.patch_embedding.weight.copy_(weight)
        embeddings.patch_embedding.bias.copy_(bias)
    optimizers = make_optimizers(model, options)
    checkpoint, start = options.out / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start = state["step"]
    loader = DataLoader(
        torch.utils.data.Subset(batches, range(start, options.steps)), batch_size=None, num_workers=options.workers
    )
    log_file = options.out / "losses.csv"
    kept = (
        [row for row in csv.reader(log_file.open()) if row[0] == "step" or int(row[0]) < start]
        if log_file.exists()
        else []
    )
    with log_file.open("w", newline="") as log:
        writer = csv.writer(log, lineterminator="\n")
        writer.writerows(kept or [["step", "learning_rate_factor", "it_align", "rc_align"]])
        bar = tqdm(loader, initial=start, total=options.steps, desc="steps", mininterval=10)
        for step, batch in enumerate(bar, start):
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            factor = learning_rate_factor(step, options.steps)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * factor
            stage_one = step < STAGE_ONE * options.steps
            torch.manual_seed(SEED + step)
            hook = embeddings.register_forward_hook(keep_half_the_patches) if step < SPARSE * options.steps else None
            with torch.autocast(device.type, torch.bfloat16):
                output = model(pixel_values=batch["pixel_values"], input_ids=batch["input_ids"])
            if hook is not None:
                hook.remove()
            image_text = it_align(output, batch["caption_truth"])
            region_concept = None if stage_one else rc_align(output, batch)
            loss = image_text if region_concept is None else image_text + RC_WEIGHT * region_concept
            model.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer in optimizers:
                optimizer.step()
            values = [image_text.item(), float("nan") if region_concept is None else region_concept.item()]
            if not math.isfinite(values[0]):
                raise FloatingPointError(
                    f"The loss is {values[0]} at step {step}: lower --lr and resume from {checkpoint}."
                )
            writer.writerow([step, f"{factor:.4f}", *(f"{value:.4f}" for value in values)])
            bar.set_postfix(it=f"{values[0]:.3f}", rc=f"{values[1]:.3f}", refresh=False)
            if step % 20 == 0:
                log.flush()
            if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
                log.flush()
                unfinished = checkpoint.with_suffix(".tmp")
                state = {
                    "model": model.state_dict(),
                    "optimizers": [o.state_dict() for o in optimizers],
                    "step": step + 1,
                }
                torch.save(state, unfinished)
                unfinished.replace(checkpoint)
                save(model, make_processor(tokenizer), options.out / "model", torch.float16)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rendered", type=Path, default=Path("build/training"))
    parser.add_argument("--photographs", type=Path, help="the BCCD folder; without it only rendered cells are used")
    parser.add_argument("--counts", type=Path, default=Path("data/wbcatt/attribute-counts.csv"))
    parser.add_argument("--out", type=Path, default=Path("build/mini"))
    parser.add_argument("--steps", type=int, default=4400)
    parser.add_argument("--batch", type=int, default=32, help="pictures in a batch")
    parser.add_argument("--captions", type=int, default=3, help="captions of each picture")
    parser.add_argument("--real", type=float, default=0.16, help="the share of real photographs in a batch")
    parser.add_argument("--lr", type=float, default=1e-3, help="AdamW's learning rate")
    parser.add_argument("--muon-lr", type=float, default=3e-3, help="Muon's learning rate")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=250)
    train(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
