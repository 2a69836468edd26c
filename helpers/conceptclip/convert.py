"""
Write a ConceptCLIP in released form (open_clip's and timm's tensor names) as a folder in this repository's form.

    python -m helpers.conceptclip.convert downloads/ConceptCLIP data/conceptclip
    python -m helpers.conceptclip.convert downloads/ConceptCLIP data/conceptclip-half --dtype float16

It is a convenience, not a need: the released form loads as it is. Converted, a checkpoint loads without the work of
converting; with `--dtype float16` its weights take half the space, and are float32 again when they are loaded.
"""

import argparse
import sys
from pathlib import Path

import torch
from transformers import PreTrainedModel, ProcessorMixin

from helpers.conceptclip import ConceptCLIPModel, ConceptCLIPProcessor, released

DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}


def save(model: PreTrainedModel, processor: ProcessorMixin | None, folder: str | Path, dtype: torch.dtype) -> None:
    """
    Save a model with its weights stored in `dtype`, and its processor beside it.

    The `dtype` in config.json stays the model's own: a float32 model stored in float16 takes half the space and is
    float32 again when it is loaded. The four scalars are always stored as they are.
    """
    state_dict = {
        name: tensor.to(dtype if tensor.ndim else tensor.dtype) for name, tensor in model.state_dict().items()
    }
    model.save_pretrained(folder, state_dict=state_dict, max_shard_size="10GB")
    if processor is not None:
        processor.save_pretrained(folder)


def convert(
    source: str | Path, target: str | Path, *, dtype: torch.dtype | None = None, progress: bool = False
) -> Path:
    """
    Convert the folder `source`, in released form, into the folder `target`, in ours.

    Args:
        source: holds config.json, safetensors and, optionally, tokenizer and processor.
        target: a new or empty folder.
        dtype: in which the weights are stored; by default as they are. See [`save`].
        progress: show a progress bar.

    Returns:
        `target`.

    Raises:
        FileExistsError: if `target` holds something already.
        ValueError: if `source` is not in released form, or does not fit its own config.json.
    """
    source, target = Path(source), Path(target)
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target} is not empty. Name a new folder, so that nothing is overwritten.")
    files = released.find(source, {})
    if files is None:
        raise FileNotFoundError(f"{source} holds no model.safetensors. Name the folder into which it was downloaded.")
    if released.prefix_of(released.header(files)) is None:
        raise ValueError(f"{source} is not in released form: no tensor {released.LANDMARK}. Is it converted already?")
    model = ConceptCLIPModel.from_pretrained(source, progress=progress)
    has_processor = any((source / name).is_file() for name in ("tokenizer.json", "vocab.txt"))
    processor = ConceptCLIPProcessor.from_pretrained(source) if has_processor else None
    save(model, processor, target, dtype or model.dtype)
    return target


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.conceptclip.convert", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folder in released form")
    parser.add_argument("target", type=Path, help="folder to write, new or empty")
    parser.add_argument("--dtype", choices=DTYPES, help="store the weights in this dtype (default: as they are)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    try:
        convert(options.source, options.target, dtype=DTYPES.get(options.dtype), progress=not options.quiet)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in options.target.glob("*.safetensors"))
    print(f"Written: {options.target}, {size / 1e6:,.1f} MB of weights.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
