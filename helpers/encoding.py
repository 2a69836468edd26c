"""Many texts or images in, their vectors out: batches, device, dtype, progress, broken files.

`encode_texts` and `encode_images` return small containers whose tensors are named and lie on the CPU. `features` are
unit length, as `model(...)["text_features"]` is. `tokens` are **projected** into the joint space (`text_proj`,
`image_proj`) unless `tokens="unprojected"` asks for what the towers themselves give.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from .images import as_image_list, image_names, read_image


@dataclass
class TextEncodings:
    """What `encode_texts` returns. N prompts, T positions (the longest prompt's), D the joint width.

    Attributes:
        texts: the N prompts.
        features: float [N, D], unit length.
        tokens: float [N, T, D] projected (or [N, T, W] unprojected, W the text tower's width); None unless asked for.
        mask: bool [N, T], True at real positions ([CLS] and [SEP] included), False at padding.
        special: bool [N, T], True at [CLS], [SEP] and padding.
        input_ids: int64 [N, T].
        offsets: int64 [N, T, 2], the characters (start, end) of `texts[n]` that a position stands for; (0, 0) at
            special positions.
        pieces: N lists of T strings, one for each position: `pieces[n][t]` is what `tokens[n, t]` belongs to.
        truncated: bool [N], True where the prompt was longer than the model reads and was cut.
        unknown: int64 [N], how many positions are [UNK]: characters that the vocabulary lacks.
        projected: whether `tokens` lie in the joint space.
    """

    texts: list[str]
    features: torch.Tensor
    tokens: torch.Tensor | None
    mask: torch.Tensor
    special: torch.Tensor
    input_ids: torch.Tensor
    offsets: torch.Tensor
    pieces: list[list[str]]
    truncated: torch.Tensor
    unknown: torch.Tensor
    projected: bool = True

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        tokens = None if self.tokens is None else tuple(self.tokens.shape)
        return f"TextEncodings({len(self)} texts, features {tuple(self.features.shape)}, tokens {tokens})"

    def positions(self, n: int, start: int, end: int) -> list[int]:
        """Token positions of the characters `start` to `end` (exclusive) of prompt `n`, as `tokens.span_positions`."""
        if not 0 <= start < end <= len(self.texts[n]):
            raise ValueError(f"Characters {start}:{end} do not lie in texts[{n}], which has {len(self.texts[n])}.")
        begins, ends = self.offsets[n, :, 0], self.offsets[n, :, 1]
        inside = (begins < end) & (ends > start) & ~self.special[n]
        found = inside.nonzero().flatten().tolist()
        if not found:
            words = self.texts[n][start:end]
            cause = "it was cut off" if self.truncated[n] else "there are no pieces for it"
            raise ValueError(f"No token of texts[{n}] belongs to {words!r}: {cause}. Shorten the prompt or the span.")
        if self.truncated[n] and int(ends.max()) < len(self.texts[n][:end].rstrip()):
            words = self.texts[n][start:end]
            raise ValueError(f"texts[{n}] was cut inside {words!r}. Put the phrase nearer to the start of the prompt.")
        return found

    def save(self, path: str | os.PathLike) -> Path:
        """Write to one safetensors file (beside, then renamed: never half a file). `load_encodings` reads it."""
        extra = {"texts": self.texts, "pieces": self.pieces, "projected": self.projected}
        return _save(self, path, "texts", extra)


@dataclass
class ImageEncodings:
    """What `encode_images` returns. B images that could be read, P = h x w patches, D the joint width.

    Attributes:
        features: float [B, D], unit length.
        tokens: float [B, P, D], projected (or unprojected, if asked for); row-major over the grid; None unless asked
            for.
        grid: (h, w), the patches down and across.
        index: int64 [B], position of each kept image in the list that was given.
        names: B strings: file names where files were given, with the folders that tell equal ones apart; else
            "image 0", "image 1", ...
        failures: DataFrame with columns item, name, problem: the images left out (`on_error="report"`).
        projected: whether `tokens` lie in the joint space.
    """

    features: torch.Tensor
    tokens: torch.Tensor | None
    grid: tuple[int, int]
    index: torch.Tensor
    names: list[str]
    failures: pd.DataFrame = field(default_factory=lambda: _failures([]))
    projected: bool = True

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        tokens = None if self.tokens is None else tuple(self.tokens.shape)
        left_out = f", {len(self.failures)} left out" if len(self.failures) else ""
        return f"ImageEncodings({len(self)} images, features {tuple(self.features.shape)}, tokens {tokens}{left_out})"

    def map(self) -> torch.Tensor:
        """The tokens laid out on the grid: (B, P, D) -> (B, h, w, D)."""
        if self.tokens is None:
            raise ValueError("These images were encoded without patch tokens: encode them again with tokens=True.")
        return self.tokens.unflatten(1, self.grid)

    def save(self, path: str | os.PathLike) -> Path:
        """Write to one safetensors file (beside, then renamed: never half a file). `load_encodings` reads it."""
        extra = {"grid": list(self.grid), "names": self.names, "failures": self.failures.to_dict("records")}
        return _save(self, path, "images", extra | {"projected": self.projected})


def joint_tokens(encodings: TextEncodings | ImageEncodings) -> torch.Tensor:
    """The token vectors, [N, T, D] or [B, P, D], for a comparison of words with patches.

    Both towers may be as wide as the joint space, so a mix-up of projected and unprojected vectors fails nowhere else.

    Raises:
        ValueError: encoded without token vectors, or with unprojected ones.
    """
    what = "texts" if isinstance(encodings, TextEncodings) else "images"
    if encodings.tokens is None:
        raise ValueError(f"These {what} were encoded without token vectors: encode them again with tokens=True.")
    if not encodings.projected:
        raise ValueError(
            f"The token vectors of these {what} are unprojected, and words and patches can be compared in the joint "
            "space only: encode them again with tokens=True."
        )
    return encodings.tokens


# --- texts ------------------------------------------------------------------------------------------------------------


def encode_texts(
    model,
    processor,
    texts: Sequence[str] | str,
    *,
    batch_size: int = 64,
    tokens: bool | str = False,
    max_length: int | None = None,
    pad_to: int | None = None,
    dtype: torch.dtype | str = torch.float32,
    progress: bool = False,
) -> TextEncodings:
    """Encode prompts.

    Args:
        model, processor: from `helpers.load`.
        texts: prompts; one string counts as a list of one.
        batch_size: prompts at a time.
        tokens: True for the projected token vectors [N, T, D] too, "unprojected" for the text tower's own [N, T, W].
        max_length: pieces read at most, [CLS] and [SEP] included; by default what the processor cuts at (77, as in
            training). A longer prompt is cut, flagged in `.truncated` and warned of.
        pad_to: pad every prompt to this length instead of the longest one's (features do not depend on it).
        dtype: of the returned tensors, e.g. "float16" for storage.
        progress: show a bar.

    Returns:
        TextEncodings.

    Raises:
        ValueError: no texts; an item that is no string, that holds nothing to read (blanks, invisible characters), or
            that names a special token such as [SEP], which the tokenizer would obey instead of reading it.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts:
        raise ValueError("No texts were given: pass at least one prompt.")
    for n, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"texts[{n}] is a {type(text).__name__}, not a string.")
        if not text.strip():
            raise ValueError(f"texts[{n}] is empty: there is nothing to encode. Leave it out or write a phrase.")
        for token in processor.tokenizer.all_special_tokens:
            if token in text:
                raise ValueError(f"texts[{n}] holds {token}, which is a command to the tokenizer: leave it out.")
    dtype, tokens = _dtype(dtype), _tokens_kind(tokens)
    tokenizer = processor.tokenizer
    if not tokenizer.is_fast:
        raise ValueError("This tokenizer is not a fast one: character offsets need the `tokenizers` library's version.")

    encoded = tokenizer(
        texts,
        padding="max_length" if pad_to else True,
        truncation=True,
        max_length=pad_to or max_length or tokenizer.model_max_length,
        return_tensors="pt",
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )
    ids = encoded["input_ids"]
    lengths = torch.tensor([len(e.ids) + sum(len(o.ids) for o in e.overflowing) for e in encoded.encodings])
    truncated = torch.tensor([bool(e.overflowing) for e in encoded.encodings])
    mask = ids != tokenizer.pad_token_id  # as the model itself decides it
    unknown = (ids == tokenizer.unk_token_id).sum(1)
    special = encoded["special_tokens_mask"].bool()
    for n in (~(mask & ~special).any(1) & ~truncated).nonzero().flatten().tolist():
        raise ValueError(f"texts[{n}], {texts[n]!r}, has no visible character. Leave it out or write a phrase.")
    _warn_of_texts(texts, lengths, truncated, unknown, (mask & ~special).sum(1), ids.shape[1])

    features, parts = [], []
    with torch.inference_mode():
        for start in _steps(len(texts), batch_size, progress, "texts"):
            batch = ids[start : start + batch_size].to(model.device)
            pooled, hidden = model.encode_text(batch, normalize=True)
            if pooled.isnan().any():
                raise ValueError("The text tower returned NaN: load the model with dtype='float32'.")
            features.append(pooled.to("cpu", dtype))
            if tokens:
                parts.append((model.text_proj(hidden) if tokens == "projected" else hidden).to("cpu", dtype))

    stacked = torch.cat(parts) if tokens else None
    pieces = [tokenizer.convert_ids_to_tokens(row) for row in ids.tolist()]
    if stacked is not None and stacked.shape[1] != ids.shape[1]:
        raise ValueError(
            f"{stacked.shape[1]} token vectors for {ids.shape[1]} pieces: this text tower drops positions, "
            "so pieces and vectors cannot be matched."
        )
    return TextEncodings(
        texts=texts,
        features=torch.cat(features),
        tokens=stacked,
        mask=mask,
        special=special,
        input_ids=ids,
        offsets=encoded["offset_mapping"],
        pieces=pieces,
        truncated=truncated,
        unknown=unknown,
        projected=tokens != "unprojected",
    )


def _warn_of_texts(texts, lengths, truncated, unknown, words, limit) -> None:
    """Say what the features alone would keep silent about: prompts cut short, prompts of nothing but [UNK]."""
    for n in truncated.nonzero().flatten().tolist():
        warnings.warn(
            f"texts[{n}] ({texts[n][:40]!r}...) is longer than {limit} pieces: the rest was cut off. "
            "Shorten it, or split it and average the features.",
            stacklevel=3,
        )
    for n in ((unknown > 0) & (unknown == words)).nonzero().flatten().tolist():
        warnings.warn(
            f"texts[{n}] ({texts[n][:40]!r}) has no piece that the vocabulary knows: its vector says nothing. "
            "Write it in words.",
            stacklevel=3,
        )


# --- images -----------------------------------------------------------------------------------------------------------


def encode_images(
    model,
    processor,
    images,
    *,
    batch_size: int = 32,
    tokens: bool | str = False,
    dtype: torch.dtype | str = torch.float32,
    window: tuple[float, float] | None = None,
    on_error: str = "raise",
    progress: bool = False,
) -> ImageEncodings:
    """Encode pictures.

    Args:
        model, processor: from `helpers.load`; neither is changed.
        images: a list of PIL images, file paths or uint8 arrays [H, W] or [H, W, 3], or one float tensor
            [B, 3, H, W] in [0, 1]; or one image alone.
        batch_size: images at a time.
        tokens: True for the projected patch vectors [B, P, D] too, "unprojected" for the image tower's own.
        dtype: of the returned tensors; "float16" halves what is stored (fine for image features).
        window: (low, high), the values that become black and white; needed for 16-bit images, and for these only.
        on_error: "raise" stops at the first image that cannot be read; "report" leaves it out and lists it in
            `.failures`, and `.index` says which were kept.
        progress: show a bar.

    Returns:
        ImageEncodings.

    Raises:
        ValueError: no images; or, with `on_error="raise"`, an image that cannot be used, named, with the cure.
    """
    parts = list(
        iter_image_encodings(
            model,
            processor,
            images,
            batch_size=batch_size,
            tokens=tokens,
            dtype=dtype,
            window=window,
            on_error=on_error,
            progress=progress,
        )
    )
    return ImageEncodings(
        features=torch.cat([p.features for p in parts]),
        tokens=torch.cat([p.tokens for p in parts]) if tokens else None,
        grid=parts[0].grid,
        index=torch.cat([p.index for p in parts]),
        names=[name for p in parts for name in p.names],
        failures=pd.concat([p.failures for p in parts], ignore_index=True),
        projected=parts[0].projected,
    )


def iter_image_encodings(
    model,
    processor,
    images,
    *,
    batch_size: int = 32,
    tokens: bool | str = False,
    dtype: torch.dtype | str = torch.float32,
    window: tuple[float, float] | None = None,
    on_error: str = "raise",
    progress: bool = False,
) -> Iterator[ImageEncodings]:
    """`encode_images` batch by batch, for more images than memory holds patch tokens of; the arguments are the same."""
    if on_error not in ("raise", "report"):
        raise ValueError(f"on_error must be 'raise' or 'report', not {on_error!r}.")
    dtype, tokens = _dtype(dtype), _tokens_kind(tokens)
    images = as_image_list(images)
    all_names = image_names(images)
    grid = model.config.grid
    kept = 0
    for start in _steps(len(images), batch_size, progress, "images"):
        pixels, index, names, failed = [], [], [], []
        for item in range(start, min(start + batch_size, len(images))):
            name = all_names[item]
            try:
                pixels.append(image_to_pixels(processor, images[item], name, window))
            except ValueError as error:
                if on_error == "raise":
                    raise
                failed.append({"item": item, "name": name, "problem": str(error)})
            else:
                index.append(item)
                names.append(name)
        kept += len(pixels)
        if start + batch_size >= len(images) and not kept:
            raise ValueError(f"None of the {len(images)} images could be read. The first: {failed[0]['problem']}")
        features, hidden = _run_images(model, pixels, tokens, dtype, grid)
        numbers = torch.tensor(index, dtype=torch.long)
        yield ImageEncodings(features, hidden, grid, numbers, names, _failures(failed), tokens != "unprojected")


def _run_images(model, pixels, tokens, dtype, grid) -> tuple[torch.Tensor, torch.Tensor | None]:
    if not pixels:  # every file of this batch was broken
        width = model.config.projection_dim
        return torch.empty(0, width, dtype=dtype), torch.empty(0, grid[0] * grid[1], width, dtype=dtype)
    with torch.inference_mode():
        batch = torch.cat(pixels).to(model.device, model.dtype)
        pooled, hidden = model.encode_image(batch, normalize=True)
        if pooled.isnan().any():
            raise ValueError("The image tower returned NaN: load the model with dtype='float32'.")
        if hidden.shape[1] != grid[0] * grid[1]:
            raise ValueError(f"The image tower gave {hidden.shape[1]} patch vectors for a grid of {grid}.")
        features = pooled.to("cpu", dtype)
        if not tokens:
            return features, None
        return features, (model.image_proj(hidden) if tokens == "projected" else hidden).to("cpu", dtype)


def image_to_pixels(processor, image, name: str = "image", window: tuple[float, float] | None = None) -> torch.Tensor:
    """One image of any accepted kind as the model's input.

    Args:
        processor: from `helpers.load`; not changed, and a `do_rescale=False` that was left on it does no harm here.
        image: PIL image, path, uint8 array, or floats [3, H, W] in [0, 1].
        name: how messages call it.
        window: (low, high), the values that become black and white; for images of 16 bits only.

    Returns:
        float32 [1, 3, S, S], normalised, S the model's image size.

    Raises:
        ValueError: naming the image, what is wrong and what to do.
    """
    image = read_image(image, name)
    floats = isinstance(image, torch.Tensor) and image.is_floating_point()
    kwargs = {"do_rescale": not floats} if window is None else {"window": window}
    try:
        return processor(images=[image], return_tensors="pt", **kwargs)["pixel_values"].float()
    except (OSError, TypeError, ValueError) as error:
        problem = str(error).removeprefix("Image 0")  # the processor counts within its call
        raise ValueError(f"{name}{problem}" if problem != str(error) else f"{name}: {error}") from error


# --- one file of features ---------------------------------------------------------------------------------------------


def load_encodings(path: str | os.PathLike) -> TextEncodings | ImageEncodings:
    """Read what `TextEncodings.save` or `ImageEncodings.save` wrote.

    Raises:
        ValueError: the file is missing, damaged, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path.name}: no such file. Encode and save first.")
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except Exception as error:  # safetensors raises its own class, built in Rust
        raise ValueError(f"{path.name}: not a readable safetensors file ({error}). Encode and save again.") from error
    kind, extra = meta.get("kind"), json.loads(meta.get("extra", "{}"))
    tensors.setdefault("tokens", None)
    if kind == "texts":
        return TextEncodings(**tensors, **extra)
    if kind == "images":
        extra["grid"] = tuple(extra["grid"])
        extra["failures"] = _failures(extra["failures"])
        return ImageEncodings(**tensors, **extra)
    raise ValueError(f"{path.name}: a safetensors file, but not written by helpers' save().")


def _save(encodings, path, kind: str, extra: dict) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.contiguous() for k, v in vars(encodings).items() if isinstance(v, torch.Tensor)}
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, beside, metadata={"kind": kind, "extra": json.dumps(extra)})
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


# --- small things -----------------------------------------------------------------------------------------------------


def _dtype(dtype) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype must be a floating type such as 'float32' or 'float16', not {dtype!r}.")
    return found


def _tokens_kind(tokens) -> str | None:
    kinds = {False: None, None: None, True: "projected", "projected": "projected", "unprojected": "unprojected"}
    if tokens not in kinds:
        raise ValueError(f"tokens must be False, True or 'unprojected', not {tokens!r}.")
    return kinds[tokens]


def _failures(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["item", "name", "problem"])


def _steps(total: int, step: int, progress: bool, what: str):
    if step < 1:
        raise ValueError(f"batch_size must be at least 1, not {step}.")
    steps = range(0, total, step)
    if not progress:
        return steps
    from tqdm.auto import tqdm

    return tqdm(steps, desc=f"encoding {what}", unit="batch")
