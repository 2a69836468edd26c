"""One door to ConceptCLIP: `load()` gives model and processor, from the shipped folder, another one, or the hub."""

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub import errors as hub_errors
from safetensors import SafetensorError
from transformers import PreTrainedModel, ProcessorMixin, SiglipVisionModel
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils import logging as transformers_logging

from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPModel, ConceptCLIPProcessor

__all__ = ["MODEL_ID", "fastest_dtype", "load"]

MODEL_ID = str(Path(__file__).resolve().parents[1] / "data" / "conceptclip-mini")
MODEL_VARIABLE = "CONCEPTCLIP_MODEL"

HUB_FILES = ("*.json", "*.txt", "model*.safetensors")
PROCESSOR_FILES = ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def load(
    source: str | Path | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
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
        dtype: a `torch.dtype` or its name; or
            "auto": bfloat16 on CUDA where it is supported, else float32, so that outputs on CPUs stay the same;
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
        `(model, processor)`.

    Raises:
        FileNotFoundError: no such folder; a folder without config, weights, tokenizer or the image processor's
            settings; no such hub id or revision.
        PermissionError: no token; a token that is not accepted; a token whose owner has not accepted the model's terms.
        ConnectionError: the hub cannot or (HF_HUB_OFFLINE) must not be asked, and the model is not in the cache.
        ValueError: a device that is not here; pickled weights only; another architecture; weights that do not fit; an
            incomplete file.

    Example:

    ```python
    >>> model, processor = helpers.load()
    >>> model, processor = helpers.load("JerrryNie/ConceptCLIP", dtype="fastest")  # gated: accept its terms once
    ```
    """
    source = source or os.environ.get(MODEL_VARIABLE) or MODEL_ID
    device = pick_device(device)  # before a download of gigabytes
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


def pick_dtype(dtype: str | torch.dtype, device: torch.device, config: ConceptCLIPConfig) -> torch.dtype:
    """The dtype that "auto", "fastest" or a name means on a device."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if bfloat16 else torch.float32
    if dtype == "fastest":
        return fastest_dtype(config, device)
    named = getattr(torch, dtype, None)
    if isinstance(named, torch.dtype) and named.is_floating_point:
        return named
    raise ValueError(f'dtype is {dtype!r}. Known are "auto", "fastest", and names such as "float32" and "bfloat16".')


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


@contextmanager
def _bars(progress: bool) -> Iterator[None]:
    """Progress bars of transformers and huggingface_hub as asked, and afterwards as they were."""
    before = transformers_logging.is_progress_bar_enabled()
    hub_before = huggingface_hub.utils.are_progress_bars_disabled()
    (transformers_logging.enable_progress_bar if progress else transformers_logging.disable_progress_bar)()
    if not progress:
        huggingface_hub.utils.disable_progress_bars()
    try:
        yield
    finally:
        (transformers_logging.enable_progress_bar if before else transformers_logging.disable_progress_bar)()
        if not hub_before:
            huggingface_hub.utils.enable_progress_bars()


def _folder(source: str | Path, revision: str | None, token: str | bool | None, remote_code: bool) -> Path:
    """The folder of a source; a hub id is downloaded, or found in the cache, without its Python files unless wanted."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if str(source) == MODEL_ID:
        raise FileNotFoundError(
            "The model that ships with these notebooks is not there: no folder data/conceptclip-mini beside helpers/. "
            "Clone the whole repository and install it in place: pip install -e ."
        )
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(source)):
        raise FileNotFoundError(
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
        return FileNotFoundError(
            f"{source} has no revision {revision!r}. Its branches, tags and commits are on {page}."
        )
    if isinstance(error, (hub_errors.RepositoryNotFoundError, hub_errors.HFValidationError)):
        return FileNotFoundError(
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
        raise FileNotFoundError(f"{source} holds no config.json. Is it the model's own folder, not the one above?")
    if SAFE_WEIGHTS_NAME not in names and SAFE_WEIGHTS_INDEX_NAME not in names:
        pickled = [name for name in names if name.endswith(PICKLED)]
        if pickled:
            raise ValueError(
                f"{source} holds its weights only as pickle ({', '.join(pickled)}), which can run code when it is "
                "read, and only safetensors are read here. If you trust the file, convert it: "
                f"safetensors.torch.save_file(torch.load({pickled[0]!r}, weights_only=True), {SAFE_WEIGHTS_NAME!r})."
            )
        raise FileNotFoundError(
            f"{source} holds no weights: {SAFE_WEIGHTS_NAME} is missing. Download or copy it there, too."
        )
    if not {"tokenizer.json", "vocab.txt"} & set(names):
        raise FileNotFoundError(f"{source} holds no tokenizer: tokenizer.json is missing. Copy it there, too.")


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
        raise FileNotFoundError(
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
    config_class, model_class, processor_class = (
        get_class_from_dynamic_module(auto_map[name], str(folder))
        for name in ("AutoConfig", "AutoModel", "AutoProcessor")
    )
    config = config_class.from_pretrained(folder)
    dtype = torch.float32 if dtype == "fastest" else pick_dtype(dtype, device, config)
    model = model_class.from_pretrained(folder, config=config, dtype=dtype, use_safetensors=True)
    return model, processor_class.from_pretrained(folder, trust_remote_code=True)
