"""
One door to ConceptCLIP: `load()` gives model and processor, from the shipped folder, another one, or the hub.

`load_checkpoint` puts weights into a model that people trained with other code; `unwrap` takes off what training code
puts around a model; `is_shipped` tells whether a model is, bit for bit, one that ships here.
"""

import argparse
import json
import os
import pathlib
import pickle
import re
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import huggingface_hub
import numpy as np
import torch
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin, SiglipVisionModel
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME
from transformers.utils import logging as transformers_logging

from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPModel, ConceptCLIPProcessor, released
from helpers.conceptclip.modeling_conceptclip import ConceptCLIPPreTrainedModel
from helpers.settings import autocast_off

__all__ = ["MODEL_ID", "Checkpoint", "fastest_dtype", "is_shipped", "load", "load_checkpoint", "unwrap"]

MODEL_ID = str(Path(__file__).resolve().parents[1] / "data" / "conceptclip-mini")
PLAIN = str(Path(__file__).resolve().parents[1] / "data" / "conceptclip-mini-plain")
MODEL_VARIABLE = "CONCEPTCLIP_MODEL"
DTYPE_VARIABLE = "CONCEPTCLIP_DTYPE"
DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}
SHORT_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"}

HUB_FILES = ("*.json", "*.txt", "model*.safetensors")
PROCESSOR_FILES = ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class MissingFileError(FileNotFoundError, ValueError):
    """No such file or folder, or a folder without what it should hold."""


def load(
    source: str | Path | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    remote_code: bool = False,
    progress: bool = False,
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """
    Load a ConceptCLIP, ready to encode: on its device, in evaluation mode.

    Args:
        source: a folder, or a hub id such as "JerrryNie/ConceptCLIP". Without it, the environment variable
            `CONCEPTCLIP_MODEL` is asked, and else it is the small model that ships with these notebooks.
        device: "auto" takes CUDA, else MPS, else the CPU.
        dtype: in which the model computes. Without it, the environment variable `CONCEPTCLIP_DTYPE` is asked, and else
            it is float32 on every device, so that everybody sees the same digits. A `torch.dtype` or its name; or
            "auto": bfloat16 on CUDA where it is supported, else float32;
            "fastest": whichever of float32 and bfloat16 (on a GPU also float16) is faster here, by a short
            measurement with one layer of this geometry ([`fastest_dtype`]). On CPUs with AMX, bfloat16 is.
        revision: branch, tag or commit of a hub id. Pin a commit where results must be repeatable.
        token: for a gated or private hub id. Without it, `HF_TOKEN` or the login of huggingface_hub is used. Never
            write a token into a notebook.
        remote_code: `False` loads any ConceptCLIP, the released one too, with the reviewed code of this repository, and
            executes nothing that was downloaded. `True` loads the **authors' own classes** instead: the Python files in
            the source (`modeling_conceptclip.py` and what it imports) are copied to transformers' module cache and
            **run with all your rights**. Read them first, and pin `revision`. They were written for an earlier
            transformers and may fail under this one.
        progress: show bars for download, loading and conversion.

    Returns:
        `(model, processor)`. The four scalars of the model are float32 in every dtype.

    Raises:
        FileNotFoundError: no such folder; a folder without config, weights, tokenizer or the image processor's
            settings; no such hub id or revision.
        PermissionError: no token; a token that is not accepted; a token whose owner has not accepted the model's terms.
        ConnectionError: the hub cannot or (HF_HUB_OFFLINE) must not be asked, and the model is not in the cache.
        ValueError: a device that is not here; a dtype that is none; pickled weights only; another architecture; weights
            that do not fit; an incomplete file.

    Example:

    ```python
    >>> model, processor = helpers.load()
    >>> model, processor = helpers.load("JerrryNie/ConceptCLIP", dtype="fastest")  # gated: accept its terms once
    ```
    """
    source = source or os.environ.get(MODEL_VARIABLE) or MODEL_ID
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            f"source is a {type(source).__name__}, not a folder or a hub id: load() makes the model itself."
        )
    device = pick_device(device)  # before a download of gigabytes
    dtype = _dtype_wanted(dtype)
    with _bars(progress):
        folder = _folder(source, revision, token, remote_code)
        _check_files(folder, source)
        if remote_code:
            model, processor = _load_remote_code(folder, dtype, device)
        else:
            config = _config(folder, source)
            processor = _processor(folder, source)
            _check_processor(processor, config, source)
            try:
                model = ConceptCLIPModel.from_pretrained(
                    folder, config=config, dtype=pick_dtype(dtype, device, config), progress=progress
                )
            except SafetensorError as error:
                raise ValueError(
                    f"The weights of {source} are not a complete safetensors file ({error}). Download them again; in a "
                    "clone made with git, run `git lfs pull`."
                ) from error
    return model.eval().to(device), processor


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """The device that "auto" means here: CUDA, else MPS, else the CPU. A named one that is not here is a ValueError."""
    if device != "auto":
        try:
            torch.empty(1, device=device)
        except (AssertionError, RuntimeError) as error:  # no such name; no such GPU; PyTorch was built without it
            raise ValueError(
                f'device is {str(device)!r}, which PyTorch cannot use here. Known are "auto", "cpu" and, with such a '
                'GPU, "cuda", "cuda:1" and "mps"; `python -m helpers.doctor` shows what this machine has.'
            ) from error
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _dtype_wanted(dtype: str | torch.dtype | None) -> str | torch.dtype:
    """A dtype, "auto" or "fastest": the argument's, else the environment variable's, else float32."""
    where, wanted = "dtype", dtype
    if wanted is None:
        where, wanted = DTYPE_VARIABLE, os.environ.get(DTYPE_VARIABLE, "").strip() or torch.float32
    if isinstance(wanted, str):
        name = wanted.strip().lower().removeprefix("torch.")
        if name in ("auto", "fastest"):
            return name
        wanted = DTYPES.get(SHORT_DTYPES.get(name, name), wanted)
    if wanted not in DTYPES.values():
        raise ValueError(f'{where} is {wanted!r}. Known are {", ".join(DTYPES)}, "auto" and "fastest".')
    return wanted


def pick_dtype(dtype: str | torch.dtype | None, device: torch.device, config: ConceptCLIPConfig) -> torch.dtype:
    """The dtype that "auto", "fastest", a name or nothing means on a device."""
    dtype = _dtype_wanted(dtype)
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "fastest":
        return fastest_dtype(config, device)
    bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if bfloat16 else torch.float32


@torch.inference_mode()
def fastest_dtype(config: ConceptCLIPConfig, device: str | torch.device = "cpu", *, rounds: int = 3) -> torch.dtype:
    """
    Time one layer of the image tower on one image in each dtype, and return the fastest. Takes about a second.

    The dtypes take turns, and the shortest time of each counts, so that other work on the machine disturbs little.
    """
    device = torch.device(device)
    candidates = [torch.float32, torch.bfloat16] + [torch.float16] * (device.type != "cpu")
    vision = type(config.vision_config).from_dict(config.vision_config.to_dict() | {"num_hidden_layers": 1})
    pixels = torch.zeros(1, vision.num_channels, vision.image_size, vision.image_size, device=device)
    towers = {dtype: SiglipVisionModel._from_config(vision, dtype=dtype).to(device).eval() for dtype in candidates}
    seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in candidates}
    for _ in range(rounds + 1):
        for dtype, tower in towers.items():
            start = time.perf_counter()
            tower(pixels).pooler_output.sum().item()
            seconds[dtype].append(time.perf_counter() - start)
    return min(candidates, key=lambda dtype: min(seconds[dtype][1:]))  # the first round warms up


# --- the model itself ------------------------------------------------------------------------------------------------


def unwrap(model: Any) -> Any:
    """
    The ConceptCLIP within what training code puts around one: `DataParallel`, `DistributedDataParallel`,
    `torch.compile`, a peft adapter (which stays active).

    Raises:
        TypeError: no ConceptCLIP; or a module of somebody's own around one, whose other layers would be left out in
            silence: the message says where in it the ConceptCLIP is.
    """
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif isinstance(model, nn.Module) and "_orig_mod" in model._modules:
            model = model._orig_mod
        elif hasattr(type(model), "get_base_model"):
            model = model.get_base_model()
        else:
            break
    if hasattr(model, "encode_image") or hasattr(model, "encode_text"):
        return model
    if isinstance(model, nn.Module):
        inside = [name for name, part in model.named_modules() if isinstance(part, ConceptCLIPPreTrainedModel)]
        if inside:
            raise TypeError(
                f"model is a {type(model).__name__} around a ConceptCLIP, and what it adds would be left out here. "
                f"Pass the ConceptCLIP itself: model.{inside[0]}."
            )
    if isinstance(model, tuple):
        raise TypeError("model is a tuple. `helpers.load()` returns two things: model, processor = helpers.load().")
    raise TypeError(f"model is a {type(model).__name__}, not a ConceptCLIP: pass what helpers.load() returns first.")


def check_values(model: Any) -> None:
    """Refuses a model on the meta device: its shapes are right, and it has no numbers to answer with."""
    if isinstance(model, nn.Module) and any(weight.is_meta for weight in model.parameters()):
        raise ValueError("model lies on the meta device, which holds no values: load it with helpers.load().")


# Models that are being encoded with: how many times over, and the parts of them that were training before.
_in_use: WeakKeyDictionary[nn.Module, tuple[int, list[nn.Module]]] = WeakKeyDictionary()
_in_use_lock = threading.Lock()


@contextmanager
def evaluating(model: nn.Module, *, gradients: bool = False) -> Iterator[None]:
    """
    A model in evaluation mode, outside autocast and, unless `gradients` are wanted, without them.

    Every part of it is given back in the mode that it was in, also after an error, and when several threads encode with
    one model: the last of them gives it back. A model without values, on the meta device, is a ValueError.
    """
    check_values(model)
    with _in_use_lock:
        times, training = _in_use.get(model, (0, []))
        if not times:
            training = [module for module in model.modules() if module.training]
            for module in training:
                module.training = False
        _in_use[model] = times + 1, training
    try:
        # Not inference_mode: what is encoded here may train a head.
        with autocast_off(), torch.set_grad_enabled(gradients and torch.is_grad_enabled()):
            yield
    finally:
        with _in_use_lock:
            times, training = _in_use.pop(model)
            if times > 1:
                _in_use[model] = times - 1, training
            else:
                for module in training:
                    module.training = True


@cache
def _shipped_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / SAFE_WEIGHTS_NAME)


def is_shipped(model: Any) -> bool:
    """Whether a model is one that ships with these notebooks, every weight as it is stored, in float32."""
    data = Path(MODEL_ID).parent
    named = Path(getattr(model, "name_or_path", "") or MODEL_ID)
    folder = named if named.parent == data else Path(MODEL_ID)
    if not isinstance(model, ConceptCLIPModel) or not (folder / SAFE_WEIGHTS_NAME).is_file():
        return False
    weights, stored = model.state_dict(), _shipped_weights(folder)
    return weights.keys() == stored.keys() and all(
        weight.dtype == torch.float32
        and weight.shape == stored[name].shape
        # A meta tensor has no values to compare.
        and not weight.is_meta
        and torch.equal(weight.cpu(), stored[name].float())
        for name, weight in weights.items()
    )


# --- checkpoints of other code ---------------------------------------------------------------------------------------


class Checkpoint(NamedTuple):
    """
    What `load_checkpoint` returns.

    Attributes:
        model: with the weights in it, on its device, in its dtype.
        placed: names of the model's tensors that the checkpoint gave, sorted.
        missing: names of the model's tensors that stayed as they were: empty unless `partial=True`.
        unplaced: names in the checkpoint that are no part of a ConceptCLIP, sorted: a wrapper's classifier, for one.
    """

    model: ConceptCLIPModel
    placed: list[str]
    missing: list[str]
    unplaced: list[str]


def load_checkpoint(
    model: ConceptCLIPModel | ConceptCLIPConfig, path: str | Path, *, prefix: str | None = None, partial: bool = False
) -> Checkpoint:
    """
    Put the weights of a checkpoint that other code has written into a model.

    It reads a `.pth`, `.pt`, `.bin`, `.ckpt` or `.safetensors` file, or a folder with one (a Trainer's checkpoint), or
    a folder with a LoRA adapter (which needs the package peft, and is merged into the weights). Weights only: nothing
    in the file is executed. The state dict may lie in another one (`{"state_dict": …, "epoch": …}`), its names may have
    a prefix ("model.", "module.", "_orig_mod.", a wrapper's own), and they may be the released ones (`visual.trunk.…`).

    Args:
        model: from `helpers.load`; changed in place, and not at all if there is an error. Or a configuration, of which
            a new model is made.
        path: the file or folder.
        prefix: what stands before the wanted names, where a checkpoint holds several models ("student.", "teacher.").
        partial: leave the tensors that the checkpoint lacks as they are, instead of an error.

    Returns:
        Checkpoint. A warning lists the names that it could not place.

    Raises:
        FileNotFoundError: no such file or folder; a folder without weights.
        ValueError: a file that is damaged or holds more than weights; no tensor of a ConceptCLIP; tensors that are
            missing or of another shape (all of them are listed); several models; an adapter of another model.
        ImportError: an adapter, and peft is not installed.

    Example:

    ```python
    >>> model, processor = helpers.load()
    >>> model, placed, missing, unplaced = load_checkpoint(model, "runs/best.pth")
    ```
    """
    path = Path(path).expanduser()
    model = ConceptCLIPModel(model).eval() if isinstance(model, ConceptCLIPConfig) else unwrap(model)
    if not isinstance(model, ConceptCLIPModel):
        raise TypeError(
            f"model is a {type(model).__name__}: a checkpoint is loaded into helpers' own ConceptCLIPModel."
        )
    check_values(model)
    if not path.exists():
        raise MissingFileError(f"There is no file or folder {path.name}. Check the path of the checkpoint.")
    if (path / "adapter_config.json").is_file():
        return _load_adapter(model, path)
    tensors, holders = _read_tensors(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    known = {*shapes, *released.released_shapes(shapes)}
    prefix = _one_prefix(released.prefixes_of(tensors, known), prefix, path.name)

    state = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    placed = released.translate(state, shapes)
    used = {*placed, *released.IGNORED} | {source.name for name in placed for source in released.sources_of(name)}
    problems = {
        "of another shape": [
            f"{name}: {tuple(tensor.shape)}" + (f", expected {shapes[name]}" if name in shapes else "")
            for name, tensor in sorted(state.items())
            if (name in known - used) or (name in placed and tuple(tensor.shape) != shapes[name])
        ],
        "that hold no finite floats": sorted(
            name for name, tensor in placed.items() if not (tensor.is_floating_point() and tensor.isfinite().all())
        ),
        "missing": sorted(shapes.keys() - placed.keys()),
    }
    if any(names and not (kind == "missing" and partial) for kind, names in problems.items()):
        lists = [f"{len(names)} {kind}:\n  " + "\n  ".join(names) for kind, names in problems.items() if names]
        raise ValueError(
            f"The weights in {path.name} do not fit this model.\n" + "\n".join(lists) + "\n"
            "Load the model that was trained first; if only some parts were trained and stored, pass partial=True."
        )
    # Of a file with several things in it, only the one with the weights was to be placed: not the optimizer's tensors.
    holder = max((name for name in holders if prefix.startswith(name)), key=len)
    unplaced = sorted({n for n in tensors if n.startswith(holder)} - {prefix + name for name in used})
    model.load_state_dict(placed, strict=False)
    if unplaced:
        more = f" and {len(unplaced) - 10} more" if len(unplaced) > 10 else ""
        warnings.warn(
            f"{path.name} holds {len(unplaced)} tensors that are no part of a ConceptCLIP and were not loaded: "
            f"{', '.join(unplaced[:10])}{more}.",
            stacklevel=2,
        )
    return Checkpoint(model, sorted(placed), problems["missing"], unplaced)


def _one_prefix(counts: dict[str, int], wanted: str | None, where: str) -> str:
    """What stands before the names of the one ConceptCLIP in a checkpoint."""
    if not counts and where.startswith("adapter_model."):
        raise ValueError(f"{where} is an adapter: pass its folder, in which adapter_config.json says how it is used.")
    if not counts:
        raise ValueError(f"{where} holds no tensor whose name is one of a ConceptCLIP's. Is it another model's?")
    most = max(counts.values())
    models = [prefix for prefix, count in counts.items() if count > most / 2]
    if wanted is not None:
        models = [prefix for prefix in counts if prefix.endswith(wanted)] if wanted else [""] * ("" in counts)
    if len(models) != 1:
        found = ", ".join(repr(prefix) for prefix in (models or counts))
        what = "several models" if models else f"no model with the prefix {wanted!r}"
        raise ValueError(f"{where} holds {what}. Say which one is meant: prefix= one of {found}.")
    return models[0]


def _read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], set[str]]:
    """All tensors of a file or folder by their dotted names, and the dictionaries they lie in ("", "state_dict.")."""
    tensors: dict[str, torch.Tensor] = {}
    holders = {""}

    def flatten(value: Any, name: str) -> None:
        if isinstance(value, torch.Tensor):
            tensors[name] = value
        elif isinstance(value, Mapping):
            holders.add(name and f"{name}.")
            for key, part in value.items():
                flatten(part, f"{name}.{key}" if name else str(key))

    for file in _weight_files(path):
        flatten(_read_weights(file), "")
    return tensors, holders


def _weight_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for index in (SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_INDEX_NAME):
        if (path / index).is_file():
            return [path / name for name in sorted({*_settings(path, index, path.name)["weight_map"].values()})]
    for name in (SAFE_WEIGHTS_NAME, WEIGHTS_NAME):
        if (path / name).is_file():
            return [path / name]
    files = sorted(file for file in path.iterdir() if file.suffix in (*PICKLED, ".safetensors"))
    if len(files) != 1:
        names = f"several: {', '.join(file.name for file in files)}. Pass the file" if files else "none"
        raise MissingFileError(f"The folder {path.name} should hold one file of weights, and it holds {names}.")
    return files


# Not weights, but harmless, and often stored beside them: options, measured values, paths.
HARMLESS: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    pathlib.WindowsPath,
    np.dtype,
    # What a pickled number of numpy's is made with, under its new and its old name.
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("_core", "core")),
    *(type(np.dtype(name)) for name in ("bool", "int32", "int64", "float32", "float64")),
]


def _read_weights(file: Path) -> Any:
    """What a file of weights holds; nothing in it is executed."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with torch.serialization.safe_globals(HARMLESS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"{file.name} holds more than weights ({blocked[1] if blocked else 'no pickle that is read safely'}), and "
            "reading that would run code. Where it was made, store model.state_dict() alone: "
            "torch.save(model.state_dict(), path)."
        ) from error
    except Exception as error:  # torch's reader stumbles over other files in many ways
        raise ValueError(
            f"{file.name} is no complete file of weights ({type(error).__name__}: {error}). Copy or download it again; "
            "in a clone made with git, run `git lfs pull`."
        ) from error


def _load_adapter(model: ConceptCLIPModel, path: Path) -> Checkpoint:
    """A LoRA adapter's folder, merged into the weights."""
    try:
        import peft
    except ImportError as error:
        raise ImportError(f"{path.name} is an adapter, which the package peft reads: pip install peft.") from error
    try:
        config = peft.PeftConfig.from_pretrained(str(path))
        stored = peft.load_peft_weights(str(path), device="cpu")
    except Exception as error:  # peft raises whatever its readers do
        raise ValueError(f"The adapter in {path.name} cannot be read ({error}). Copy or download it again.") from error
    places = {*dict(model.named_modules()), *dict(model.named_parameters())}
    # "base_model.model.vision_model…q_proj.lora_A.weight": what stands before ".lora_" is a module of the model.
    owner = {name: re.split(r"\.lora_|\.weight$|\.bias$", name)[0] for name in stored}
    prefix = _one_prefix(released.prefixes_of(owner.values(), places - {""}), None, path.name)
    strange = sorted(name for name, place in owner.items() if place.removeprefix(prefix) not in places)
    if strange:
        raise ValueError(
            f"The adapter in {path.name} changes layers that this model does not have:\n  "
            + "\n  ".join(strange)
            + "\n"
            "It was trained on another class or another model. Merge it there (merge_and_unload) and store the weights."
        )
    learns = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    config.task_type = None
    adapted = peft.get_peft_model(model, config)
    state = {f"base_model.model.{name.removeprefix(prefix)}": tensor for name, tensor in stored.items()}
    try:
        result: Any = peft.set_peft_model_state_dict(adapted, state)
    except RuntimeError as error:
        adapted.unload()
        raise ValueError(
            f"The adapter in {path.name} does not fit this model ({error}). Load the one that it was trained on first."
        ) from error
    lacking = [name for name in result.missing_keys if "lora_" in name]
    adapted.merge_and_unload()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(learns[name])
    if lacking or result.unexpected_keys:
        raise ValueError(
            f"The adapter in {path.name} is not complete. Missing: {lacking}. Not expected: {result.unexpected_keys}."
        )
    placed = {f"{place.removeprefix(prefix)}.weight" for place in owner.values()} & learns.keys()
    return Checkpoint(model, sorted(placed), sorted(learns.keys() - placed), [])


@contextmanager
def _bars(progress: bool) -> Iterator[None]:
    """Progress bars of transformers and huggingface_hub as asked, and afterwards as they were."""
    before = transformers_logging.is_progress_bar_enabled()
    hub_before = are_progress_bars_disabled()
    (transformers_logging.enable_progress_bar if progress else transformers_logging.disable_progress_bar)()
    if not progress:
        disable_progress_bars()
    try:
        yield
    finally:
        (transformers_logging.enable_progress_bar if before else transformers_logging.disable_progress_bar)()
        if not hub_before:
            enable_progress_bars()


def _folder(source: str | Path, revision: str | None, token: str | bool | None, remote_code: bool) -> Path:
    """The folder of a source; a hub id is downloaded, or found in the cache, without its Python files unless wanted."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if str(source) == MODEL_ID:
        raise MissingFileError(
            "The model that ships with these notebooks is not there: no folder data/conceptclip-mini beside helpers/. "
            "Clone the whole repository and install it in place: pip install -e ."
        )
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(source)):
        raise MissingFileError(
            f"There is no folder {source}. Check the path; a model of the hub is written owner/name."
        )
    try:
        return Path(
            huggingface_hub.snapshot_download(
                str(source),
                revision=revision,
                token=token,
                allow_patterns=[*HUB_FILES, *(["*.py"] if remote_code else [])],
            )
        )
    except (OSError, hub_errors.HFValidationError) as error:
        raise _explained(error, str(source), revision, token) from error


def _explained(error: Exception, source: str, revision: str | None, token: str | bool | None) -> Exception:
    """What the hub's answer means and what helps, by status and error code. Never contains a token."""
    page = f"{huggingface_hub.constants.ENDPOINT}/{source}"
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    said = (getattr(response, "headers", {}).get("X-Error-Message") or "").lower()
    has_token = bool(huggingface_hub.get_token() if token in (None, True) else token)
    log_in = "run `hf auth login` in a terminal or set the environment variable HF_TOKEN"

    if status == 401 and (has_token or "invalid credentials" in said):
        return PermissionError(
            f"The hub does not accept the token for {source}: it is mistyped, expired or revoked. Make a new one in "
            f"the settings of your account, then {log_in}."
        )
    if isinstance(error, hub_errors.GatedRepoError) and status == 401:
        return PermissionError(
            f"{source} is gated and no token was found. Accept its terms once on {page}, make a token with read access "
            f"in the settings of your account, then {log_in}."
        )
    if status == 403 and "fine-grained" in said:
        return PermissionError(
            f"The token may not read gated models, so not {source}. Tick “read access to contents of all public gated "
            "repos” in the token's settings, or use a token of type read."
        )
    if isinstance(error, hub_errors.GatedRepoError):
        return PermissionError(
            f"The token is valid, but its owner has not been granted access to {source}. Open {page} while logged in "
            "as that owner, accept the model's terms, and wait if the authors approve by hand; then try again."
        )
    if isinstance(error, hub_errors.RevisionNotFoundError):
        return MissingFileError(f"{source} has no revision {revision!r}. Its branches, tags and commits are on {page}.")
    if isinstance(error, (hub_errors.RepositoryNotFoundError, hub_errors.HFValidationError)):
        return MissingFileError(
            f"{source} is neither a folder here nor a model that the hub shows "
            f"{'to the owner of this token' if has_token else 'without a token'}. Check the spelling; if the model is "
            "private, log in as someone who may see it."
        )
    where = f"{source} is no folder here, it is not in the cache{f' at revision {revision}' if revision else ''}, and"
    if response is None and huggingface_hub.constants.HF_HUB_OFFLINE:
        return ConnectionError(
            f"{where} HF_HUB_OFFLINE is set (`make run` and `make test` set it), so the hub is not asked. Download it "
            f"once, with `{MODEL_VARIABLE}={source} make lab` and load() in a notebook, or with "
            f"`HF_HUB_OFFLINE=0 {MODEL_VARIABLE}={source} make run`."
        )
    if response is None:
        return ConnectionError(
            f"{where} the hub cannot be reached. Go online once to download it, copy its folder here and pass the "
            "path, or call load() without a source for the small model, which needs no network."
        )
    return ConnectionError(f"The hub answered {status} for {source}. Try again later, or pass a folder.")


def _check_files(folder: Path, source: str | Path) -> None:
    """Tell apart what can be missing from a model's folder before anything is read."""
    names = sorted(path.name for path in folder.iterdir())
    if "config.json" not in names:
        raise MissingFileError(f"{source} holds no config.json. Is it the model's own folder, not the one above?")
    if SAFE_WEIGHTS_NAME not in names and SAFE_WEIGHTS_INDEX_NAME not in names:
        pickled = [name for name in names if name.endswith(PICKLED)]
        if pickled:
            raise ValueError(
                f"{source} holds its weights only as pickle ({', '.join(pickled)}), which can run code when it is "
                "read, and only safetensors are read here. If you trust the file, convert it: "
                f"safetensors.torch.save_file(torch.load({pickled[0]!r}, weights_only=True), {SAFE_WEIGHTS_NAME!r})."
            )
        raise MissingFileError(
            f"{source} holds no weights: {SAFE_WEIGHTS_NAME} is missing. Download or copy it there, too."
        )
    if not {"tokenizer.json", "vocab.txt"} & set(names):
        raise MissingFileError(f"{source} holds no tokenizer: tokenizer.json is missing. Copy it there, too.")


def _settings(folder: Path, name: str, source: str | Path) -> dict:
    """A JSON file of a model's folder; {} if it is not there."""
    path = folder / name
    try:
        settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{name} of {source} is not valid JSON ({error}). Download it again.") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{name} of {source} holds a {type(settings).__name__}, not settings. Download it again.")
    return settings


def _config(folder: Path, source: str | Path) -> ConceptCLIPConfig:
    settings = _settings(folder, "config.json", source)
    model_type = settings.get("model_type")
    if model_type != ConceptCLIPConfig.model_type and not (model_type is None and "vision_cfg" in settings):
        raise ValueError(
            f"{source} is another architecture: its config.json says model_type {model_type!r}, not "
            f"{ConceptCLIPConfig.model_type!r}. Load it with transformers' AutoModel instead."
        )
    return ConceptCLIPConfig.from_dict(settings)


def _processor(folder: Path, source: str | Path) -> ConceptCLIPProcessor:
    """transformers names neither the file that is damaged nor, for a folder, the one that is missing."""
    settings = {name: _settings(folder, name, source) for name in PROCESSOR_FILES}
    if not settings["preprocessor_config.json"] and "image_processor" not in settings["processor_config.json"]:
        raise MissingFileError(
            f"{source} holds no settings of the image processor: preprocessor_config.json, or a processor_config.json "
            "that has them, is missing. Copy it there, too."
        )
    try:
        return ConceptCLIPProcessor.from_pretrained(folder)
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise ValueError(
            f"The processor of {source} cannot be made from its files ({type(error).__name__}: {error}). Download its "
            "tokenizer's and processor's .json files again."
        ) from error


def _check_processor(processor: ConceptCLIPProcessor, config: ConceptCLIPConfig, source: str | Path) -> None:
    """A processor of another model would give wrong numbers in silence."""
    size, side = processor.image_processor.size, config.vision_config.image_size
    if (size.height, size.width) != (side, side):
        raise ValueError(
            f"The processor of {source} makes images of {size.height} × {size.width}, its model takes {side} × {side}. "
            "preprocessor_config.json or processor_config.json is another model's."
        )
    tokenizer, text = processor.tokenizer, config.text_config
    if tokenizer.pad_token_id != text.pad_token_id or len(tokenizer) > text.vocab_size:
        raise ValueError(
            f"The tokenizer of {source} has {len(tokenizer)} pieces and pads with {tokenizer.pad_token_id}; its model "
            f"has {text.vocab_size} and {text.pad_token_id}. The tokenizer's files are another model's, or "
            "tokenizer_config.json is missing."
        )


def _load_remote_code(folder: Path, dtype: str | torch.dtype, device: torch.device) -> tuple[Any, Any]:
    """Execute the Python files in `folder`, as its own `auto_map` names them."""
    auto_map: dict[str, str] = {}
    for name in ("tokenizer_config.json", "preprocessor_config.json", "processor_config.json", "config.json"):
        named = _settings(folder, name, folder.name).get("auto_map", {})
        auto_map |= {key: value for key, value in named.items() if isinstance(value, str)}
    if not {"AutoConfig", "AutoModel", "AutoProcessor"} <= auto_map.keys():
        raise ValueError(
            f"{folder.name} brings no code of its own for model and processor (auto_map in config.json names "
            f"{', '.join(sorted(auto_map)) or 'nothing'}). Load it with remote_code=False."
        )
    classes: Iterator[Any] = (
        get_class_from_dynamic_module(auto_map[name], str(folder))
        for name in ("AutoConfig", "AutoModel", "AutoProcessor")
    )
    config_class, model_class, processor_class = classes
    config = config_class.from_pretrained(folder)
    dtype = torch.float32 if dtype == "fastest" else pick_dtype(dtype, device, config)
    model = model_class.from_pretrained(folder, config=config, dtype=dtype, use_safetensors=True)
    return model, processor_class.from_pretrained(folder, trust_remote_code=True)
