"""Where vectors come from: which model, which weights, which pixels; in words that fit into a file's metadata."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import torch

from helpers.loading import unwrap

FORMAT = "conceptclip-store 1"
"""What every shard calls its own form."""


def weights_hash(model: torch.nn.Module) -> str:
    """SHA-256 over the names, shapes and values of all weights but the four scalars, which no vector depends on.

    Values are rounded to bfloat16 first, so that one checkpoint has one hash in float32 and in bfloat16. Loaded in
    float16 it has another: twice rounded is not the same.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(unwrap(model).named_parameters()):
        if name.rpartition(".")[2] not in ("logit_scale", "logit_bias", "concept_logit_scale", "concept_logit_bias"):
            digest.update(f"{name}{list(weight.shape)}".encode())
            digest.update(weight.detach().to("cpu", torch.bfloat16).contiguous().view(torch.int16).numpy())
    return digest.hexdigest()


def model_name(model: Any) -> tuple[str, str]:
    """(id, revision) of a model: hub id and commit if it came from the hub's cache, else its folder's name and ""."""
    path = Path(getattr(model, "name_or_path", "") or "unnamed")
    hub = re.search(r"models--([^/\\]+)[/\\]snapshots[/\\]([0-9a-f]+)", str(path))
    return (hub[1].replace("--", "/"), hub[2]) if hub else (path.name, "")


def provenance(model: Any, processor: Any, *, pixels: str = "exact", dtype: str = "float16") -> dict[str, str]:
    """What a shard says about itself: which model made its vectors, and how.

    Args:
        model, processor: from `helpers.load`.
        pixels: "exact" or "fast", the path by which pictures became pixels (`encode_images`).
        dtype: "float16" or "float32", of the stored vectors.

    Returns:
        Strings by name. The scales are **exponentiated**, as `scoring.scales` gives them, and are named so.
    """
    if dtype not in ("float16", "float32"):
        raise ValueError(f"dtype must be 'float16' or 'float32', not {dtype!r}.")
    if pixels not in ("exact", "fast"):
        raise ValueError(f"pixels must be 'exact' or 'fast', not {pixels!r}.")
    model, settings = unwrap(model), processor.image_processor.to_dict()
    kept = {key: settings.get(key) for key in ("size", "resample", "rescale_factor", "image_mean", "image_std")}
    name, revision = model_name(model)
    return {
        "format": FORMAT,
        "written_by": f"conceptclip-notebooks {_version()}",
        "model_id": name,
        "model_revision": revision,
        "weights_sha256": weights_hash(model),
        "model_dtype": str(model.dtype).removeprefix("torch."),
        "preprocessing": json.dumps(kept, sort_keys=True),
        "pixels": pixels,
        "dtype": dtype,
        "width": str(model.config.projection_dim),
        "grid": "x".join(map(str, model.config.grid)),
        "logit_scale_exponentiated": repr(float(model.logit_scale.detach().float().exp())),
        "logit_bias": repr(float(model.logit_bias.detach().float())),
        "concept_logit_scale_exponentiated": repr(float(model.concept_logit_scale.detach().float().exp())),
        "concept_logit_bias": repr(float(model.concept_logit_bias.detach().float())),
    }


def _version() -> str:
    try:
        return importlib.metadata.version("conceptclip-notebooks")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "(not installed)"


def made_by(meta: dict[str, str]) -> str:
    revision = f" at {meta['model_revision'][:12]}" if meta.get("model_revision") else ""
    return (
        f"{meta.get('model_id')}{revision} (weights {meta.get('weights_sha256', '')[:12]}, {meta.get('model_dtype')})"
    )


def check_model(meta: dict[str, str], model: Any, what: str) -> None:
    """A ValueError that says which is which, unless `model` has the weights that made these vectors."""
    if weights_hash(model) != meta["weights_sha256"]:
        name, revision = model_name(model)
        here = {"model_id": name, "model_revision": revision, "weights_sha256": weights_hash(model)}
        here["model_dtype"] = str(model.dtype).removeprefix("torch.")
        raise ValueError(
            f"{what} holds vectors of {made_by(meta)}, and this model is {made_by(here)}: their vectors lie in "
            "different spaces. Load the model of the store (in its dtype), or encode the pictures into another store."
        )
