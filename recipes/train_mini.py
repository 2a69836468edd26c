"""Train conceptclip-mini with the two losses of the paper (arXiv 2501.15579; ConceptCLIP facts, section 5).

    python -m recipes.render_training --out build/training
    python -m recipes.train_mini --rendered build/training --photographs BCCD_FOLDER --out build/mini

Stage one is IT-Align alone, stage two IT-Align + 0.5 RC-Align. Two things differ from the paper, both because the truth of
every rendered picture is known: a caption counts as a true pair with *every* picture of the batch of which it is true, not
only with the one that it was written for, and pairs of which nobody knows whether they are true are left out of both sums.

Batch number i depends on the seed and on i alone; an interrupted run resumes from its last checkpoint.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from helpers import SEED
from helpers.bloodcells import CONCEPTS, PARTS, Cell, caption, truth
from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPImageProcessor, ConceptCLIPModel, ConceptCLIPProcessor

from .photographs import Photographs, load_annotations, split
from .render_training import SIZE
from .tokenizer import VOCABULARY, make_tokenizer

KEYS = tuple(CONCEPTS)
RC_WEIGHT = 0.5
STAGE_ONE = 0.25
"""The share of the steps that trains with IT-Align alone."""


def mini_config(tokenizer) -> ConceptCLIPConfig:
    """The released architecture in small: a grid of 14 × 14 patches, widths 192 (image) and 128 (text)."""
    return ConceptCLIPConfig(
        vision_config={
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 6,
            "num_attention_heads": 3,
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
    )


# --------------------------------------------------------------------------------------------------------------- data


class Rendered:
    """The shards of :mod:`recipes.render_training`, mapped into memory."""

    def __init__(self, folder: Path):
        files = sorted(folder.glob("images-[0-9]*[0-9].npy"))
        if not files:
            raise FileNotFoundError(f"No shards in {folder}: run `python -m recipes.render_training --out {folder}` first.")
        self.images = [np.load(file, mmap_mode="r") for file in files]
        self.masks = [np.load(str(file).replace("images-", "masks-"), mmap_mode="r") for file in files]
        self.cells = [json.loads(Path(str(file).replace("images-", "cells-")).with_suffix(".json").read_text()) for file in files]
        self.per_shard = len(self.images[0])

    def __len__(self) -> int:
        return len(self.images) * self.per_shard

    def __getitem__(self, number: int):
        shard, i = divmod(number, self.per_shard)
        row = self.cells[shard][i]
        cell = None if row["cell"] is None else Cell(**row["cell"])
        return self.images[shard][i], self.masks[shard][i], cell, row["visible"]


def random_view(rng: np.random.Generator, image: np.ndarray, masks: np.ndarray):
    """One of the eight symmetries of the square, and half of the time a crop of a random size at a random place.

    Returns:
        (image [3, SIZE, SIZE] float in [0, 1], masks [parts, h, w] uint8 of the same view).
    """
    if rng.random() < 0.5:
        # Mostly gentle, now and then so close that a single part fills the view.
        side = int(SIZE * (rng.uniform(0.7, 1.0) if rng.random() < 0.6 else rng.uniform(0.25, 0.7))) // 4 * 4
        top, left = (int(rng.integers(0, SIZE - side + 1)) // 4 * 4 for _ in range(2))
        image = image[top : top + side, left : left + side]
        scale = SIZE // masks.shape[-1]
        masks = masks[:, top // scale : (top + side) // scale, left // scale : (left + side) // scale]
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    image, masks = np.rot90(image, turns, (0, 1)), np.rot90(masks, turns, (1, 2))
    if mirror:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    if pixels.shape[-1] != SIZE:
        pixels = F.interpolate(pixels, size=(SIZE, SIZE), mode="bicubic", align_corners=False).clamp(0, 1)
    return pixels[0], masks


def view_truth(cell: Cell | None, visible: float, all_masks: np.ndarray, masks: np.ndarray) -> dict[str, bool | None]:
    """The truth of a view, from what its masks still show."""
    areas = {part: float(mask.sum(dtype=np.int64)) for part, mask in zip(PARTS, masks, strict=True)}
    full = float(all_masks[:2].sum(dtype=np.int64))
    pixels = 255.0 * masks[0].size
    shares = {part: area / pixels for part, area in areas.items()}
    shares["white cell"] = shares["nucleus"] + shares["cytoplasm"]
    covered = masks[[PARTS.index(part) for part in ("nucleus", "cytoplasm", "red cells", "platelets")]].astype(int).sum(0)
    shares["background"] = float((255 - covered.clip(0, 255)).sum() / pixels)
    kept = (areas["nucleus"] + areas["cytoplasm"]) / full if full else 1.0
    return truth(cell, shares, visible * kept)


def random_colour(rng: np.random.Generator, pixels: torch.Tensor) -> torch.Tensor:
    """Another stain, lamp and camera: white balance, saturation, hue, contrast, gamma, brightness and noise.

    Args:
        pixels: [3, H, W] float in [0, 1].
    """
    grey = torch.tensor([0.299, 0.587, 0.114])
    saturation, angle = rng.uniform(0.55, 1.5), rng.normal(0, 0.10)
    # Hue: a rotation about the grey axis (Rodrigues); saturation: towards or away from grey.
    axis = torch.full((3,), 3**-0.5)
    cross = torch.tensor([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotate = torch.eye(3) * math.cos(angle) + cross * math.sin(angle) + (1 - math.cos(angle)) * torch.outer(axis, axis)
    saturate = saturation * torch.eye(3) + (1 - saturation) * grey.expand(3, 3)
    balance = torch.diag(torch.from_numpy(np.exp(rng.normal(0, 0.08, 3))).float())
    matrix = balance @ rotate @ saturate
    pixels = torch.einsum("ij,jhw->ihw", matrix, pixels).clamp(0, 1)
    pixels = pixels ** float(np.exp(rng.normal(0, 0.22)))
    mean = pixels.mean()
    pixels = (pixels - mean) * rng.uniform(0.7, 1.3) + mean * rng.uniform(0.85, 1.15)
    if rng.random() < 0.3:
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        pixels = pixels + rng.uniform(0, 0.04) * torch.randn(pixels.shape, generator=generator)
    return pixels.clamp(0, 1)


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

    def _picture(self, rng: np.random.Generator, real: bool):
        if real:
            name = self.photographs.names[rng.choice(len(self.weights), p=self.weights)]
            crop = self.photographs.random_crop(rng, name)
            turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
            image = np.rot90(np.asarray(crop.image), turns, (0, 1))
            image = image[:, ::-1] if mirror else image
            pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
            return random_colour(rng, pixels), crop.truths
        image, all_masks, cell, visible = self.rendered[int(rng.integers(len(self.rendered)))]
        pixels, masks = random_view(rng, image, all_masks)
        return random_colour(rng, pixels), view_truth(cell, visible, all_masks, masks)

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([SEED, step])
        count = self.options.batch
        real = round(count * self.options.real) if self.photographs is not None else 0
        pictures = [self._picture(rng, i < real) for i in range(count)]
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
        # A caption is true where all its concepts are, false where one is false, else unknown (nan): the minimum, nan last.
        caption_truth = torch.stack([_conjunction(table[:, keys]) for keys in named], 1)
        return {
            "pixel_values": (torch.stack([pixels for pixels, _ in pictures]) - 0.5) / 0.5,
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


def learning_rate(step: int, options: argparse.Namespace) -> float:
    """Linear warm-up over 200 steps, then a cosine to nothing."""
    if step < 200:
        return options.lr * (step + 1) / 200
    return options.lr * 0.5 * (1 + math.cos(math.pi * (step - 200) / max(options.steps - 200, 1)))


def make_processor(tokenizer) -> ConceptCLIPProcessor:
    return ConceptCLIPProcessor(
        image_processor=ConceptCLIPImageProcessor(size={"height": SIZE, "width": SIZE}), tokenizer=tokenizer
    )


def save_model(model: ConceptCLIPModel, tokenizer, folder: Path) -> None:
    """Write the model in half precision, as it ships; it loads in float32, which its configuration asks for."""
    half = ConceptCLIPModel(model.config).to(torch.float16)
    half.load_state_dict(model.state_dict())
    half.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    make_processor(tokenizer).save_pretrained(folder)


def train(options: argparse.Namespace) -> None:
    torch.manual_seed(SEED)
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    rendered = Rendered(options.rendered)
    photographs = None
    if options.photographs is not None:
        _, types = load_annotations(options.photographs)
        photographs = Photographs(options.photographs, split(types)[0], pd.read_csv(options.counts))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = ConceptCLIPModel(mini_config(tokenizer)).to(device).train()
    with torch.no_grad():
        # Many pairs of a batch are true here, so the biases start near the middle instead of at the paper's -10.
        model.logit_bias.fill_(-2.0)
        model.concept_logit_bias.fill_(-4.0)
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], lr=options.lr, betas=(0.9, 0.98)
    )
    checkpoint, start = options.out / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    batches = Batches(rendered, photographs, tokenizer, options)
    loader = DataLoader(
        torch.utils.data.Subset(batches, range(start, options.steps)), batch_size=None, num_workers=options.workers
    )
    encode = torch.compile(model) if options.compile else model
    log_file = options.out / "losses.csv"
    kept = [row for row in csv.reader(log_file.open()) if row[0] == "step" or int(row[0]) < start] if log_file.exists() else []
    with log_file.open("w", newline="") as log:
        writer = csv.writer(log)
        writer.writerows(kept or [["step", "learning_rate", "it_align", "rc_align"]])
        bar = tqdm(loader, initial=start, total=options.steps, desc="steps", mininterval=10)
        for step, batch in enumerate(bar, start):
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, options)
            with torch.autocast(device.type, torch.bfloat16):
                output = encode(pixel_values=batch["pixel_values"], input_ids=batch["input_ids"])
            image_text = it_align(output, batch["caption_truth"])
            region_concept = rc_align(output, batch) if step >= STAGE_ONE * options.steps else None
            loss = image_text if region_concept is None else image_text + RC_WEIGHT * region_concept
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            values = [image_text.item(), float("nan") if region_concept is None else region_concept.item()]
            if not math.isfinite(values[0]):
                raise FloatingPointError(f"The loss is {values[0]} at step {step}: lower --lr and resume from {checkpoint}.")
            writer.writerow([step, f"{learning_rate(step, options):.3g}", *(f"{value:.4f}" for value in values)])
            bar.set_postfix(it=f"{values[0]:.3f}", rc=f"{values[1]:.3f}", refresh=False)
            if (step + 1) % options.save_every == 0 or step + 1 == options.steps:
                log.flush()
                unfinished = checkpoint.with_suffix(".tmp")
                torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}, unfinished)
                os.replace(unfinished, checkpoint)
                save_model(model, tokenizer, options.out / "model")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rendered", type=Path, default=Path("build/training"))
    parser.add_argument("--photographs", type=Path, help="the BCCD folder; without it only rendered cells are used")
    parser.add_argument("--counts", type=Path, default=Path("data/wbcatt/wbcatt-attribute-counts.csv"))
    parser.add_argument("--out", type=Path, default=Path("build/mini"))
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=32, help="pictures in a batch")
    parser.add_argument("--captions", type=int, default=4, help="captions of each picture")
    parser.add_argument("--real", type=float, default=0.2, help="the share of real photographs in a batch")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=250)
    parser.add_argument("--compile", action="store_true", help="compile the model (needs a C++ compiler on a CPU)")
    train(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
