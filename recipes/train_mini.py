"""Train conceptclip-mini with the two losses of the paper (arXiv 2501.15579; ConceptCLIP facts, section 5).

    python -m recipes.render_training --out build/training --pictures 12000
    python -m recipes.real_cells --shared FOLDER --out build/real
    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m recipes.train_mini --out build/first
    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m recipes.train_mini --out build/mini --weights build/first/model

Stage one is IT-Align alone, stage two IT-Align + 0.5 RC-Align. Four things differ from the paper, all because much of
the truth of every picture is known: a caption counts as a true pair with *every* picture of the batch of which it is
true, not only with the one that it was written for; pairs of which nobody knows whether they are true are left out of
both sums; RC-Align looks at a region of the picture; and captions that are true of nothing, denials, and pictures
without a cell teach when to say no.

With ``--plain`` none of that but the first two: captions tell of the whole picture, regions are whole views, there are
no foreign words, no denials, no pictures without a cell.

A second run starts from the weights of the first (``--weights``). It has no steps of IT-Align alone, and its changes of
stain are stronger (:mod:`recipes.augment`), so that the colours of the laboratories that it sees mean less.

A step is two batches, whose gradients are averaged: one after the other in one process, or side by side in the two that
torchrun starts. Batch number i depends on the seed and on i alone; an interrupted run resumes from its last checkpoint.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
from hashlib import sha256
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers.utils import SAFE_WEIGHTS_NAME

import helpers
from helpers import losses
from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPImageProcessor, ConceptCLIPModel, ConceptCLIPProcessor
from helpers.conceptclip.convert import save
from helpers.settings import SEED

from .batches import COOL_DOWN, FINE, GRID, HALVES, NOBODY_KNOWS, PATCH, SHAPES, SHAPES_FROM, SHOWN_PARTS, Batches
from .muon import Muon
from .real_cells import KEYS, LABORATORIES
from .render_training import SIZE
from .tokenizer import make_tokenizer

AUXILIARY_WEIGHT = 0.5
STAGE_ONE = 0.0744
"""The share of the steps that trains with IT-Align alone."""

READINGS_FIRST = 300
"""Steps of a second run in which the auxiliary losses teach the new readings, and not yet the towers."""


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


# -------------------------------------------------------------------------------------------------------------- losses


def it_align(output, caption_truth: torch.Tensor) -> torch.Tensor:
    """IT-Align of a batch: image against caption, by their global features."""
    return losses.it_align(
        output.image_features, output.text_features, output.logit_scale, output.logit_bias, caption_truth
    )


def rc_align(output, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """RC-Align of a batch: concept spans against the best patch of each image's region."""
    concepts = losses.span_vectors(output.text_token_features, batch["span_caption"], batch["span_tokens"])
    scale, bias = output.concept_logit_scale, output.concept_logit_bias
    return losses.rc_align(output.image_token_features, concepts, scale, bias, batch["span_truth"], batch["regions"])


OF_SHAPE = [KEYS.index(key) for key in SHAPES]
SHAPE_SHARE = len(SHAPES) / len(KEYS)


class Heads(torch.nn.Module):
    """What only the training has: linear readings of the features, whose losses show both towers the way early on.

    ``concepts`` reads every concept from the global feature of a picture, ``parts`` what each of the 4 × 4 pieces of a
    patch shows from its token. Neither is part of the model that is kept.
    """

    def __init__(self, width: int):
        super().__init__()
        self.concepts = torch.nn.Linear(width, len(KEYS))
        self.parts = torch.nn.Linear(width, FINE * FINE * len(SHOWN_PARTS))

    def loss(self, output, batch: dict[str, torch.Tensor], shapes: float = 1.0, towers: bool = True) -> torch.Tensor:
        """The mean of both over what is known, each as large as IT-Align's loss of one caption.

        ``shapes`` is the weight of a concept of the nucleus's shape; the others weigh 1. Without ``towers`` it teaches
        the readings alone.
        """
        features, tokens = output.image_features.float(), output.image_token_features.float()
        if not towers:
            features, tokens = features.detach(), tokens.detach()
        features = features * features.shape[1] ** 0.5  # of unit variance
        logits, truths = self.concepts(features), batch["truths"]
        concepts = losses.sigmoid_loss(logits, truths)
        if shapes != 1:
            concepts = (
                concepts + (shapes - 1) * losses.sigmoid_loss(logits[:, OF_SHAPE], truths[:, OF_SHAPE]) * SHAPE_SHARE
            )
        logits, parts = self.parts(tokens), batch["parts"]
        known = parts != NOBODY_KNOWS
        entropy = F.binary_cross_entropy_with_logits(logits, parts / 254, reduction="none")
        return concepts + len(parts) * (entropy * known).sum() / known.sum()


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


def learning_rate_factor(step: int, steps: int, warm_up: int = 60) -> float:
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


def average_gradients(parameters: list[torch.nn.Parameter], processes: int) -> None:
    """Make the gradients of both halves of a step, wherever they were computed, into their mean."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients]) / HALVES
    if processes > 1:
        torch.distributed.all_reduce(flat)
    for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def make_optimizers(model: ConceptCLIPModel, heads: Heads, options: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the weight matrices, AdamW for the embeddings, biases, norms and scalars."""
    matrices, rest = [], list(heads.parameters())
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embedding" not in name else rest).append(parameter)
    optimizers = [
        Muon(matrices, lr=options.muon_lr, weight_decay=0.05),
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
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer()
    second = options.weights is not None
    kind = {
        "plain": options.plain,
        "leave_out": sorted(options.leave_out),
        "seed": options.seed,
        "far": second,
        "surroundings": options.surroundings,
    }
    batches = Batches(options.rendered, options.real, tokenizer, options.steps, **kind)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = helpers.load(options.weights, device=device)[0].float() if second else new_model(tokenizer, batches)
    model.to(device).train()
    if options.bfloat16 and device.type == "cpu":  # torch's fused attention takes nine times as long there
        model.set_attn_implementation("eager")
    heads = Heads(model.config.vision_config.hidden_size).to(device)
    parameters = [*model.parameters(), *(() if options.plain else heads.parameters())]
    embeddings = model.vision_model.embeddings
    optimizers = make_optimizers(model, heads, options)
    checkpoint, start = options.out / "checkpoint.pt", 0
    told = {"steps": options.steps, **kind}
    if second:
        told["weights"] = sha256((options.weights / SAFE_WEIGHTS_NAME).read_bytes()).hexdigest()
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        if state.get("told") != told:
            raise ValueError(
                f"{checkpoint} is of a run with {state.get('told')}, and this one has {told}. Give it another --out."
            )
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
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
        writer.writerows(kept or [["step", "patches", "learning_rate_factor", "it_align", "rc_align", "auxiliary"]])
        steps = range(start, options.steps)
        bar = tqdm(steps, initial=start, total=options.steps, desc="steps", mininterval=10, disable=rank > 0)
        for step in bar:
            factor = learning_rate_factor(step, options.steps, 200 if second else 60)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * factor
            stage_two = second or step >= STAGE_ONE * options.steps
            for parameter in parameters:
                parameter.grad = None
            for _ in range(HALVES // processes):
                batch = {name: tensor.to(device) for name, tensor in next(loader).items()}
                embeddings.position_ids = batch["places"]
                with torch.autocast(device.type, torch.bfloat16, enabled=options.bfloat16):
                    output = model(pixel_values=as_model_input(batch["pixels"]), input_ids=batch["input_ids"])
                image_text = it_align(output, batch["caption_truth"])
                region_concept = rc_align(output, batch) if stage_two else None
                loss = image_text if region_concept is None else image_text + losses.RC_WEIGHT * region_concept
                shapes = 3.0 if second or step >= SHAPES_FROM * options.steps else 1.0
                towers = not second or step >= READINGS_FIRST
                auxiliary = None if options.plain else heads.loss(output, batch, shapes, towers)
                if auxiliary is not None:
                    loss = loss + AUXILIARY_WEIGHT * auxiliary
                loss.backward()
            average_gradients(parameters, processes)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            for optimizer in optimizers:
                optimizer.step()
            parts = (image_text, region_concept, auxiliary)
            values = [math.nan if value is None else value.item() for value in parts]
            if not math.isfinite(values[0]):
                raise FloatingPointError(
                    f"The loss is {values[0]} at step {step}: lower --lr and resume from {checkpoint}."
                )
            writer.writerow([step, batch["places"].shape[1], f"{factor:.4f}", *(f"{value:.4f}" for value in values)])
            bar.set_postfix(it=f"{values[0]:.3f}", rc=f"{values[1]:.3f}", aux=f"{values[2]:.3f}", refresh=False)
            if step % 20 == 0:
                log.flush()
            if rank == 0 and ((step + 1) % options.save_every == 0 or step + 1 == options.steps):
                log.flush()
                unfinished = checkpoint.with_suffix(".tmp")
                state = {
                    "model": model.state_dict(),
                    "heads": heads.state_dict(),
                    "optimizers": [o.state_dict() for o in optimizers],
                    "step": step + 1,
                    "told": told,
                }
                torch.save(state, unfinished)
                unfinished.replace(checkpoint)
                save(model, make_processor(make_tokenizer()), options.out / "model", torch.float16)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rendered", type=Path, default=Path("build/training"))
    parser.add_argument("--real", type=Path, default=Path("build/real"))
    parser.add_argument("--out", type=Path, default=Path("build/mini"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--plain", action="store_true", help="captions of whole pictures only, as the paper trains")
    parser.add_argument(
        "--leave-out", choices=LABORATORIES, nargs="+", default=[], help="laboratories that are never shown"
    )
    parser.add_argument(
        "--surroundings",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="so many photographs of cells get the surroundings of another picture; the shipped model had none",
    )
    parser.add_argument("--seed", type=int, default=SEED, help="of the first weights and of all that is drawn by lot")
    parser.add_argument("--weights", type=Path, metavar="MODEL", help="a second run, from the weights of this folder")
    parser.add_argument("--lr", type=float, default=1e-3, help="AdamW's learning rate")
    parser.add_argument("--muon-lr", type=float, default=3e-3, help="Muon's learning rate")
    parser.add_argument(
        "--bfloat16",
        action=argparse.BooleanOptionalAction,
        default=torch.cuda.is_available() or torch.cpu._is_amx_tile_supported(),
        help="compute the towers in bfloat16: twice as fast on a GPU or a CPU with units for it (AMX), ten times "
        "slower on other CPUs; the default is what this machine is good at",
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--save-every", type=int, default=150)
    train(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
