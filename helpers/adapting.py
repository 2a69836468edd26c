"""Which parts of a model learn: blocks by name, what LoRA can reach, and what got no gradient.

To adapt a ConceptCLIP, train some blocks and freeze the others (`train_only`), or put LoRA beside the linear layers of
some blocks (`lora_targets`, for `peft.LoraConfig`). After one backward pass `without_gradient` tells what was meant to
learn and does not. A trained model is stored and loaded as any other (`helpers.load`, `loading.load_checkpoint`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pandas as pd
from torch import nn

from .loading import unwrap

BLOCK = re.compile(r"(?:vision_model|text_model)\.(?:encoder\.layers?\.\d+|\w+)|\w+")
"""What a block is called: a layer, the embeddings or the head of a tower; a projection; a scalar."""

LAYERS = {"vision_model": "vision_model.encoder.layers.", "text_model": "text_model.encoder.layer."}


def blocks(model: Any) -> pd.DataFrame:
    """The blocks of a model, in the order in which they are stored.

    Returns:
        DataFrame indexed by the block's name, such as "vision_model.encoder.layers.5": parameters (numbers in it) and
        trained (how many of them learn).

    Raises:
        TypeError: no ConceptCLIP, as in `helpers.loading.unwrap`.
    """
    rows: dict[str, list[int]] = {}
    for name, parameter in unwrap(model).named_parameters():
        row = rows.setdefault(_block(name), [0, 0])
        row[0] += parameter.numel()
        row[1] += parameter.numel() * parameter.requires_grad
    return pd.DataFrame.from_dict(rows, orient="index", columns=["parameters", "trained"]).rename_axis("block")


def last_blocks(model: Any, layers: int = 1) -> list[str]:
    """The last layers of both towers, and what lies between them and the vectors of a whole picture and a prompt.

    Args:
        layers: how many of each tower.

    Raises:
        ValueError: a tower has fewer.
    """
    names = blocks(model).index
    found = []
    for tower, start in LAYERS.items():
        own = [name for name in names if name.startswith(start)]
        if not 1 <= layers <= len(own):
            raise ValueError(f"layers is {layers}: {tower} has {len(own)}, so give 1 to {len(own)}.")
        found += own[-layers:]
    return [*found, "vision_model.post_layernorm", "vision_model.head", "text_projection"]


def train_only(model: Any, names: Iterable[str]) -> int:
    """Let the named blocks learn, and nothing else: every other parameter is frozen.

    Args:
        model: changed in place.
        names: blocks, as `blocks` calls them, or what holds several, such as "text_model"; an empty list freezes all.

    Returns:
        How many numbers learn now.

    Raises:
        ValueError: a name that is no block; a model with an adapter, of which peft says what learns.
        TypeError: one text in place of a list of names.
    """
    model = unwrap(model)
    parameters = dict(model.named_parameters())
    if any(".lora_" in name for name in parameters):
        raise ValueError(
            "model has an adapter, and peft has frozen the rest. Call train_only before the adapter is put in."
        )
    wanted = _checked(model, names)
    for name, parameter in parameters.items():
        parameter.requires_grad_(_within(name, wanted))
    return sum(parameter.numel() for parameter in parameters.values() if parameter.requires_grad)


def lora_targets(model: Any, names: Iterable[str] = ("vision_model.encoder", "text_model.encoder")) -> list[str]:
    """The linear layers of some blocks that LoRA can train: `peft.LoraConfig(target_modules=lora_targets(model))`.

    Those within a packed `nn.MultiheadAttention` are left out: it reads the weight of its `out_proj` and never calls
    it, so a LoRA beside it gets no gradient and changes nothing. SigLIP's pooling head, `vision_model.head`, is one.
    Train the head itself in place of that: `peft.LoraConfig(..., modules_to_save=["vision_model.head"])`.

    Args:
        names: as in `train_only`; by default the layers of both towers.

    Returns:
        Full names, such as "vision_model.encoder.layers.0.self_attn.q_proj".

    Raises:
        ValueError: a name that is no block; none of the layers can be reached.
        TypeError: one text in place of a list of names.
    """
    model = unwrap(model)
    wanted = _checked(model, names)
    packed = [name for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)]
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and _within(name, wanted) and not _within(name, packed)
    ]
    if not found:
        raise ValueError(f"There is no linear layer that LoRA can train in {', '.join(wanted) or 'no block at all'}.")
    return found


def without_gradient(model: nn.Module) -> list[str]:
    """After a backward pass: the names of parameters that should learn and got no gradient at all."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None]


def _block(name: str) -> str:
    match = BLOCK.match(name)
    return match[0] if match else name


def _within(name: str, places: Iterable[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def _checked(model: nn.Module, names: Iterable[str]) -> list[str]:
    """The names as a list, each of which holds a block or is one."""
    if isinstance(names, str):
        raise TypeError(f"names is one text: write [{names!r}].")
    wanted = list(names)
    known = dict.fromkeys(_block(name) for name, _ in model.named_parameters())
    for name in wanted:
        if not any(_within(block, [name]) for block in known):
            raise ValueError(f"{name!r} is no block of this model. There are: {', '.join(known)}.")
    return wanted
