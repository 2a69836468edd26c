"""Any ConceptCLIP as two ONNX files, for servers and programs without torch (OpenVINO, onnxruntime, a browser).

    python -m helpers.export data/conceptclip-mini --out onnx
    python -m helpers.export JerrryNie/ConceptCLIP --out onnx

The folder then holds `image.onnx` and `text.onnx`, the processor's and tokenizer's files, and `export.json` with the
four scalars, the opset and the largest difference from torch. Each tower takes any number of inputs, and prompts of
any length. Needs `pip install -e '.[export]'`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from helpers.conceptclip import ConceptCLIPModel, ConceptCLIPProcessor
from helpers.conceptclip.modeling_conceptclip import SCALARS
from helpers.loading import load, unwrap
from helpers.settings import SEED, quiet

__all__ = ["OPSET", "TOLERANCE", "export"]

OPSET = 20
"""The version of ONNX' operators: the first in which GELU is one of them."""
TOLERANCE = 1e-4
"""How far an output may be from torch's, per component."""
LARGE = 1_500_000_000
"""Bytes of a tower above which its weights lie in a file beside it: one ONNX file cannot hold 2 GB."""
INSTALL = "Install what writes and runs ONNX: pip install -e '.[export]' (onnx, onnxscript, onnxruntime)."


class ImageTower(nn.Module):
    """pixels `(B, 3, S, S)` → unit vectors `(B, D)` and projected patches `(B, P, D)`, both float32."""

    def __init__(self, model: ConceptCLIPModel):
        super().__init__()
        self.model = model
        self.output_names = ("image_features", "image_token_features")

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features, tokens = self.model.encode_image(pixel_values, normalize=True)
        return features, self.model.image_proj(tokens)


class TextTower(nn.Module):
    """ids `(N, T)`, int64, padded with the tokenizer's [PAD] → unit vectors `(N, D)`, projected tokens `(N, T, D)`."""

    def __init__(self, model: ConceptCLIPModel):
        super().__init__()
        self.model = model
        self.output_names = ("text_features", "text_token_features")

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features, tokens = self.model.encode_text(input_ids, normalize=True)
        return features, self.model.text_proj(tokens)


def export(
    model: ConceptCLIPModel, processor: ConceptCLIPProcessor, folder: str | Path, *, opset: int = OPSET
) -> dict[str, float]:
    """
    Write both towers of a model as ONNX, run them, and compare them with torch.

    Args:
        model: float32, on the CPU, as `helpers.load(folder, device="cpu", dtype="float32")` gives it.
        processor: its processor, saved beside the towers.
        folder: a new or empty folder.
        opset: version of ONNX' operators.

    Returns:
        The largest difference from torch of each output, by name.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is missing.
        TypeError: a model or processor of another kind.
        ValueError: another dtype, device or opset; a folder with something in it; outputs that differ by more than
            `TOLERANCE`.
    """
    _check_packages()
    model = unwrap(model)
    if not isinstance(model, ConceptCLIPModel):
        raise TypeError(
            f"model is a {type(model).__name__}, whose parts are not known here. Load it with helpers.load()."
        )
    if not isinstance(processor, ConceptCLIPProcessor):
        raise TypeError(f"processor is a {type(processor).__name__}. Pass what helpers.load() returns second.")
    weight = model.text_projection.weight
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        raise ValueError(
            f"The model is {weight.dtype} on {weight.device}; ONNX is written from float32 on the CPU. Load it with "
            'helpers.load(folder, device="cpu", dtype="float32").'
        )
    if not isinstance(opset, int) or opset < 18:
        raise ValueError(f"opset is {opset!r}; torch writes 18 and newer. Leave it out for {OPSET}.")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder.name} is there and not empty. Name a new folder.")
    folder.mkdir(parents=True, exist_ok=True)

    vision, length = model.config.vision_config, min(16, model.config.text_config.max_position_embeddings)
    scalars = {name: getattr(model, name).item() for name in SCALARS}
    scalars |= {name: float(np.exp(scalars[name])) for name in ("logit_scale", "concept_logit_scale")}
    images = torch.export.Dim("images", min=1)
    prompts = torch.export.Dim("prompts", min=1)
    tokens = torch.export.Dim("tokens", min=2, max=model.config.text_config.max_position_embeddings)
    some_pixels = torch.zeros(2, vision.num_channels, vision.image_size, vision.image_size)
    towers: list[tuple[Any, str, torch.Tensor, dict[int, Any]]] = [
        (ImageTower(model), "pixel_values", some_pixels, {0: images}),
        (TextTower(model), "input_ids", _ids(model, 3, length), {0: prompts, 1: tokens}),
    ]
    differences: dict[str, float] = {}
    model.eval()
    for tower, name, example, dynamic in towers:
        file = folder / f"{'image' if name == 'pixel_values' else 'text'}.onnx"
        _write(tower, name, example, dynamic, file, opset, scalars)
        differences |= _compare(tower, name, file, model)
    processor.save_pretrained(folder)
    report = {
        "opset": opset,
        "inputs": {
            "pixel_values": ["images", vision.num_channels, vision.image_size, vision.image_size],
            "input_ids": ["prompts", "tokens"],
        },
        "scalars": scalars,
        "largest_difference_from_torch": differences,
    }
    (folder / "export.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if bad := {name: value for name, value in differences.items() if not value <= TOLERANCE}:
        raise ValueError(
            f"These outputs differ from torch's by more than {TOLERANCE}: {bad}. Do not use the files in "
            f"{folder.name}; try another version of onnxruntime or another opset."
        )
    return differences


def _check_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{error}. {INSTALL}") from error


def _ids(model: ConceptCLIPModel, prompts: int, length: int) -> torch.Tensor:
    """Random ids `(prompts, length)`; each prompt after the first is padded by one position more."""
    text = model.config.text_config
    generator = torch.Generator().manual_seed(SEED)
    padding = int(text.pad_token_id or 0)
    ids = torch.randint(0, text.vocab_size, (prompts, length), generator=generator)
    ids[ids == padding] = (padding + 1) % text.vocab_size
    for row in range(1, prompts):
        ids[row, max(length - row, 1) :] = padding
    return ids


def _write(
    tower: Any,
    name: str,
    example: torch.Tensor,
    dynamic: Mapping[int, Any],
    file: Path,
    opset: int,
    scalars: Mapping[str, float],
) -> None:
    used = tower.model.vision_model if name == "pixel_values" else tower.model.text_model
    size = sum(weight.numel() * weight.element_size() for weight in used.parameters())
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir")}
    for quieted in levels:
        logging.getLogger(quieted).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                tower,
                (example,),
                input_names=[name],
                output_names=list(tower.output_names),
                dynamic_shapes=({**dynamic},),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
        assert program is not None
        program.model.metadata_props.update({key: repr(value) for key, value in scalars.items()})
        program.save(str(file), external_data=size > LARGE)
    finally:
        for quieted, level in levels.items():
            logging.getLogger(quieted).setLevel(level)


def _compare(tower: Any, name: str, file: Path, model: ConceptCLIPModel) -> dict[str, float]:
    """The largest difference of each output, over inputs of other sizes than the one it was written with."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    vision, longest = model.config.vision_config, model.config.text_config.max_position_embeddings
    generator = torch.Generator().manual_seed(SEED)
    if name == "pixel_values":
        shape = (vision.num_channels, vision.image_size, vision.image_size)
        inputs = [torch.rand(count, *shape, generator=generator) * 2 - 1 for count in (1, 3)]
    else:
        inputs = [_ids(model, count, length) for count, length in ((1, 3), (4, 9), (2, min(77, longest)))]
    largest = dict.fromkeys(tower.output_names, 0.0)
    for given in inputs:
        with torch.no_grad():
            wanted = tower(given)
        got = session.run(list(tower.output_names), {name: given.numpy()})
        for output, ours, theirs in zip(tower.output_names, wanted, got, strict=True):
            if tuple(ours.shape) != theirs.shape:
                raise ValueError(f"{output} of {file.name} has shape {theirs.shape}, and torch's {tuple(ours.shape)}.")
            difference = float(np.abs(ours.numpy() - theirs).max())
            largest[output] = max(largest[output], difference if np.isfinite(difference) else float("inf"))
    return largest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 when both towers are written and equal to torch's."""
    parser = argparse.ArgumentParser("python -m helpers.export", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("model", help="a folder or hub id")
    parser.add_argument("--out", required=True, help="a new or empty folder")
    parser.add_argument("--opset", type=int, default=OPSET, help="of the ONNX operators (default: %(default)s)")
    given = parser.parse_args(arguments)
    quiet()
    try:
        _check_packages()
        model, processor = load(given.model, device="cpu", dtype="float32")
        differences = export(model, processor, given.out, opset=given.opset)
    except (ValueError, OSError, RuntimeError, ImportError) as problem:
        print(f"export: {problem}", file=sys.stderr)
        return 1
    for name, value in differences.items():
        print(f"{name}: differs from torch by {value:.0e} at most")
    print(f"opset {given.opset}, image.onnx and text.onnx in {Path(given.out).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
