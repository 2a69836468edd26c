"""Many texts or images in, their vectors out: batches, device, dtype, progress, broken files.

`encode_texts` and `encode_images` return small containers whose tensors are named and lie on the CPU. `features` are
unit length, as `model(...)["text_features"]` is. `tokens` are **projected** into the joint space (`text_proj`,
`image_proj`) unless `tokens="unprojected"` asks for what the towers themselves give.
"""

from __future__ import annotations

import json
import math
import numbers
import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Barrier
from typing import Any, NamedTuple

import pandas as pd
import psutil
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from .conceptclip import ConceptCLIPImageProcessor
from .conceptclip.image_processing_conceptclip import checked_window
from .conceptclip.processing_conceptclip import check_prompt, text_list
from .files import beside
from .images import ImageError, as_image_list, image_names, read_image
from .loading import evaluating, unwrap


@dataclass
class TextEncodings:
    """What `encode_texts` returns. N prompts, T positions (the longest prompt's), D the joint width.

    Attributes:
        texts: the N prompts.
        features: float [N, D], unit length.
        tokens: float [N, T, D] projected (or [N, T, W] unprojected, W the text tower's width); None unless asked for.
            At padding they mean nothing: 0, or what the tower made of it.
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
            words = _short(self.texts[n][start:end])
            cause = "it was cut off" if self.truncated[n] else "there are no pieces for it"
            raise ValueError(f"No token of texts[{n}] belongs to {words}: {cause}. Shorten the prompt or the span.")
        if self.truncated[n] and int(ends.max()) < len(self.texts[n][:end].rstrip()):
            words = _short(self.texts[n][start:end])
            raise ValueError(f"texts[{n}] was cut inside {words}. Shorten it, or put it nearer to the prompt's start.")
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
        labels: B labels, of a data set or DataLoader that gives them; else None.
        pixels: "exact" or "fast", the way on which the pictures became the model's pixels.
    """

    features: torch.Tensor
    tokens: torch.Tensor | None
    grid: tuple[int, int]
    index: torch.Tensor
    names: list[str]
    failures: pd.DataFrame = field(default_factory=lambda: _failures([]))
    projected: bool = True
    labels: list | None = None
    pixels: str = "exact"

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
        more = {"projected": self.projected, "labels": self.labels, "pixels": self.pixels}
        return _save(self, path, "images", extra | more)


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
    model: Any,
    processor: Any,
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
        batch_size: prompts at a time, those of like length together.
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
    model = unwrap(model)
    if not hasattr(processor, "tokenizer"):
        raise TypeError(f"processor is a {type(processor).__name__}, not what helpers.load() returns second.")
    texts = [texts] if isinstance(texts, str) else text_list(texts, "texts")
    check_options(batch_size)
    if not texts:
        raise ValueError("No texts were given: pass at least one prompt.")
    for n, text in enumerate(texts):
        check_prompt(text, f"texts[{n}]")
        if not text.strip():
            raise ValueError(f"texts[{n}] is empty: there is nothing to encode. Leave it out or write a phrase.")
        for token in processor.tokenizer.all_special_tokens:
            if token in text:
                raise ValueError(
                    f"texts[{n}], {_short(text)}, holds {token}, a command to the tokenizer. Leave that out."
                )
    for name, length in (("max_length", max_length), ("pad_to", pad_to)):
        if length is not None:
            check_whole(length, name)
    dtype, kind = _dtype(dtype), _tokens_kind(tokens)
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

    features = torch.empty(len(texts), model.config.projection_dim, dtype=dtype)
    vectors: torch.Tensor | None = None
    # Prompts of like length together: each batch is as wide as its own longest (or as `pad_to` says, which is obeyed).
    widths = mask.sum(1)
    with evaluating(model), _bar(progress, "texts", texts) as bar:
        for rows in widths.argsort(stable=True).split(batch_size):
            width = ids.shape[1] if pad_to else int(widths[rows].max())
            pooled, hidden = model.encode_text(ids[rows, :width].to(model.device))
            if pooled.isnan().any():
                raise ValueError("The text tower returned NaN: load the model with dtype='float32'.")
            features[rows] = F.normalize(pooled.float(), dim=-1).to("cpu", dtype)  # unit length in every dtype
            if kind:
                if hidden.shape[1] != width:
                    raise ValueError(
                        f"{hidden.shape[1]} token vectors for {width} pieces: this text tower drops positions, "
                        "so pieces and vectors cannot be matched."
                    )
                hidden = (model.text_proj(hidden) if kind == "projected" else hidden).to("cpu", dtype)
                vectors = hidden.new_zeros(*ids.shape, hidden.shape[2]) if vectors is None else vectors
                vectors[rows, :width] = hidden
            bar.update(len(rows))

    pieces = [tokenizer.convert_ids_to_tokens(row) for row in ids.tolist()]
    return TextEncodings(
        texts=texts,
        features=features,
        tokens=vectors,
        mask=mask,
        special=special,
        input_ids=ids,
        offsets=encoded["offset_mapping"],
        pieces=pieces,
        truncated=truncated,
        unknown=unknown,
        projected=kind != "unprojected",
    )


def _short(text: str) -> str:
    """A text in quotes for a message, its end left out where it is long."""
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _warn_of_texts(texts: Any, lengths: Any, truncated: Any, unknown: Any, words: Any, limit: Any) -> None:
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

# Pictures that a worker on the CPU gives to the model at a time: small enough for its caches.
CPU_BATCH = 8


def encode_images(
    model: Any,
    processor: Any,
    images: Any,
    *,
    batch_size: int = 32,
    tokens: bool | str = False,
    dtype: torch.dtype | str = torch.float32,
    window: tuple[float, float] | None = None,
    on_error: str = "raise",
    progress: bool = False,
    workers: int | None = None,
    pixels: str = "exact",
    pixels_are: str | None = None,
    memory_limit: int | None = None,
) -> ImageEncodings:
    """Encode pictures.

    On a CPU several workers each read, check, scale and encode a few pictures at a time with one thread of torch's;
    on another device they prepare the pictures, and the model runs in the calling thread.

    Args:
        model, processor: from `helpers.load`; neither is changed.
        images: a list of PIL images, file paths or uint8 arrays [H, W] or [H, W, 3], or one float tensor
            [B, 3, H, W] in [0, 1]; or one image alone; or a torch `Dataset` or `DataLoader` of (image, label).
        batch_size: images at a time: what the model is given on a GPU, what `iter_image_encodings` yields.
        tokens: True for the projected patch vectors [B, P, D] too, "unprojected" for the image tower's own.
        dtype: of the returned tensors; "float16" halves what is stored (fine for image features).
        window: (low, high), the values that become black and white; needed for 16-bit images, and for these only.
        on_error: "raise" stops at the first image that cannot be read; "report" leaves it out and lists it in
            `.failures`, and `.index` says which were kept.
        progress: show a bar.
        workers: how many threads; by default as many as torch uses (`torch.get_num_threads()`), 1 for none but the
            caller's. At most `workers + 2` batches are under way at once.
        pixels: "exact" for the processor's own pixels; "fast" scales 8-bit pictures with torch in place of Pillow, and
            decodes JPEG files with simplejpeg if it is installed. Of 96 photographs no
            grey level changed by more than 2 of 255, and the cosine to the exact vector stayed above .9999.
        pixels_are: what a float tensor holds: "unit", a picture in [0, 1], or "normalised", what a processor has made
            of one. Without it [0, 1] is taken for a picture, and pixels that are seen to be normalised are refused.
        memory_limit: bytes that the token vectors may take; half of the free memory by default.

    Returns:
        ImageEncodings.

    Raises:
        ValueError: no images; token vectors beyond the limit; or, with `on_error="raise"`, an image that cannot be
            used, named, with the cure.
    """
    model = unwrap(model)
    images = images if _is_loader(images) else as_image_list(images)
    parts = iter_image_encodings(
        model,
        processor,
        images,
        batch_size=batch_size,
        tokens=tokens,
        dtype=dtype,
        window=window,
        on_error=on_error,
        progress=progress,
        workers=workers,
        pixels=pixels,
        pixels_are=pixels_are,
    )
    vectors = _room_for_tokens(model, images, _tokens_kind(tokens), _dtype(dtype), memory_limit)
    features = torch.empty(_count(images) or 0, model.config.projection_dim, dtype=_dtype(dtype))
    index: list[int] = []
    names: list[str] = []
    labels: list[Any] = []
    failures: list[dict] = []
    # Each part goes into its place at once, and nothing of it is kept: joined at the end, they would need twice the
    # memory; and small tensors that stay between the large ones that come and go make the heap grow without end.
    for part in parts:
        start, end = len(index), len(index) + len(part)
        if end > len(features):  # a stream, whose length nobody knew
            features = torch.cat([features[:start], features.new_empty(end, features.shape[1])])
        features[start:end] = part.features
        if vectors is not None:
            vectors[start:end] = part.tokens
        index += part.index.tolist()
        names += part.names
        labels += part.labels or [None] * len(part)
        failures += part.failures.to_dict("records")
    return replace(
        part,
        features=features[: len(index)],
        tokens=None if vectors is None else vectors[: len(index)],
        index=torch.tensor(index, dtype=torch.long),
        names=names,
        failures=_failures(failures),
        labels=labels if any(label is not None for label in labels) else None,
    )


def iter_image_encodings(
    model: Any,
    processor: Any,
    images: Any,
    *,
    batch_size: int = 32,
    tokens: bool | str = False,
    dtype: torch.dtype | str = torch.float32,
    window: tuple[float, float] | None = None,
    on_error: str = "raise",
    progress: bool = False,
    workers: int | None = None,
    pixels: str = "exact",
    pixels_are: str | None = None,
) -> Iterator[ImageEncodings]:
    """`encode_images` batch by batch, for more images than memory holds patch tokens of; the arguments are the same.

    They are checked at once, not when the first batch is asked for. Closing the iterator, an error and Ctrl-C end the
    workers.
    """
    check_options(batch_size, on_error)
    if pixels not in ("exact", "fast"):
        raise ValueError(f"pixels must be 'exact' or 'fast', not {pixels!r}.")
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = min(torch.get_num_threads(), cores)
    check_whole(workers, "workers")
    model = unwrap(model)
    images = images if _is_loader(images) else as_image_list(images)
    kind, out, grid = _tokens_kind(tokens), _dtype(dtype), model.config.grid
    scaled, converted = _steps_of(processor, window, pixels == "fast", model.device, pixels_are)

    def prepared(chunk: list[_Item]) -> tuple[torch.Tensor, list[_Item], list[dict]]:
        pictures, kept, failed = [], [], []
        for item in chunk:
            try:
                if isinstance(item.image, ImageError):
                    raise item.image
                pictures.append(scaled(item.image, item.name))
                kept.append(item)
            except ValueError as error:
                if on_error == "raise":
                    raise
                failed.append({"item": item.number, "name": item.name, "problem": str(error)})
        return converted(pictures) if pictures else torch.empty(0), kept, failed

    def encoded(batch: torch.Tensor, kept: list[_Item], failed: list[dict]) -> ImageEncodings:
        features, hidden = _run_images(model, batch, kind, out, grid)
        return ImageEncodings(
            features,
            hidden,
            grid,
            index=torch.tensor([item.number for item in kept], dtype=torch.long),
            names=[item.name for item in kept],
            failures=_failures(failed),
            projected=kind != "unprojected",
            labels=[item.label for item in kept],
            pixels=pixels,
        )

    def both(chunk: list[_Item]) -> ImageEncodings:
        return encoded(*prepared(chunk))

    on_cpu, step = model.device.type == "cpu", batch_size
    if isinstance(images, list):
        workers = min(workers, len(images))
        step = min(step, math.ceil(len(images) / workers))  # of a few pictures, each worker takes its share
    chunks = _chunks(_items(images), batch_size, min(step, CPU_BATCH) if on_cpu else batch_size)
    done = _in_order(both if on_cpu else prepared, chunks, workers)
    # Elsewhere one thread, the caller's, gives work to the device, while the workers prepare what comes next.
    return _parts(done, None if on_cpu else encoded, batch_size, partial(_bar, progress, "images", images))


def _run_images(
    model: Any, pixels: torch.Tensor, tokens: str | None, dtype: torch.dtype, grid: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    if not len(pixels):  # every file of this batch was broken
        width = model.config.vision_config.hidden_size if tokens == "unprojected" else model.config.projection_dim
        hidden = torch.empty(0, grid[0] * grid[1], width, dtype=dtype) if tokens else None
        return torch.empty(0, model.config.projection_dim, dtype=dtype), hidden
    with evaluating(model):
        batch = pixels.to(model.device, model.dtype)
        pooled, hidden = model.encode_image(batch)
        if pooled.isnan().any():
            raise ValueError("The image tower returned NaN: load the model with dtype='float32'.")
        if hidden.shape[1] != grid[0] * grid[1]:
            raise ValueError(f"The image tower gave {hidden.shape[1]} patch vectors for a grid of {grid}.")
        features = F.normalize(pooled.float(), dim=-1).to("cpu", dtype)  # unit length in every dtype
        if not tokens:
            return features, None
        return features, (model.image_proj(hidden) if tokens == "projected" else hidden).to("cpu", dtype)


def image_to_pixels(
    processor: Any,
    image: Any,
    name: str = "image",
    window: tuple[float, float] | None = None,
    pixels_are: str | None = None,
) -> torch.Tensor:
    """One image of any accepted kind as the model's input.

    Args:
        processor: from `helpers.load`; not changed, and a `do_rescale=False` that was left on it does no harm here.
        image: PIL image, path, uint8 array, or floats [3, H, W] in [0, 1].
        name: how messages call it.
        window: (low, high), the values that become black and white; for images of 16 bits only.
        pixels_are: as in `encode_images`.

    Returns:
        float32 [1, 3, S, S], normalised, S the model's image size.

    Raises:
        ValueError: naming the image, what is wrong and what to do.
    """
    scaled, converted = _steps_of(processor, window, pixels_are=pixels_are)
    return converted([scaled(image, name)]).float()


def _steps_of(
    processor: Any,
    window: Sequence[float] | None,
    fast: bool = False,
    device: torch.device | None = None,
    pixels_are: str | None = None,
) -> tuple[Callable, Callable]:
    """What a processor does to one picture, and what it does to a batch of them at once."""
    ours = getattr(processor, "image_processor", None)
    if not isinstance(ours, ConceptCLIPImageProcessor):
        if not callable(processor):
            raise TypeError(f"processor is a {type(processor).__name__}, not what helpers.load() returns second.")
        if fast:
            raise ValueError(f"pixels='fast' is for ConceptCLIP's own processor, not {type(processor).__name__}.")
        if pixels_are is not None:
            raise ValueError(f"pixels_are is for ConceptCLIP's own processor, not {type(processor).__name__}.")
        return partial(_by_another, processor, window), torch.cat
    window = checked_window(ours.window if window is None else window)
    ours.check(do_resize=ours.do_resize, size=ours.size, crop=ours.do_center_crop, pad=ours.do_pad)
    mean, std = (ours.image_mean, ours.image_std) if ours.do_normalize else (None, None)
    one = {"size": ours.size if ours.do_resize else None, "resample": ours.resample, "window": window, "fast": fast}
    scaled = partial(ours.scaled, mean=mean, std=std, pixels_are=pixels_are, **one)
    return scaled, partial(ours.converted, rescale_factor=ours.rescale_factor, mean=mean, std=std, device=device)


def _by_another(processor: Any, window: Sequence[float] | None, image: Any, name: str) -> torch.Tensor:
    """One picture through a processor that is not this package's, such as the authors' own."""
    image = read_image(image, name)
    floats = isinstance(image, torch.Tensor) and image.is_floating_point()
    kwargs = {"do_rescale": not floats} if window is None else {"window": window}
    try:
        return processor(images=[image], return_tensors="pt", **kwargs)["pixel_values"].float()
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


# --- many pictures ----------------------------------------------------------------------------------------------------


class _Item(NamedTuple):
    number: int
    name: str
    image: Any  # or the ImageError that took its place
    label: Any = None


def _is_loader(images: Any) -> bool:
    return isinstance(images, (Dataset, DataLoader))


def _items(images: Any) -> Iterator[_Item]:
    """One picture after the other, each with its label; of a data set in this thread, since few can be read by two."""
    if isinstance(images, list):
        for number, name in enumerate(image_names(images)):
            yield _Item(number, name, images[number])
        return
    number = 0
    for sample in _samples(images):
        pairs: Iterable = [(sample, None)] if isinstance(sample, ImageError) else _pairs(images, sample, number)
        for image, label in pairs:
            name = image_names([image])[0] if isinstance(image, (str, os.PathLike)) else f"image {number}"
            yield _Item(number, name, image, label.tolist() if hasattr(label, "tolist") else label)
            number += 1


def _samples(images: Any) -> Iterator[Any]:
    """What a DataLoader or data set gives; where it fails, an ImageError in place of each item that is lost."""
    if isinstance(images, IterableDataset):
        yield from images
        return
    if isinstance(images, DataLoader):
        yield from _batches(images)
        return
    for number in range(len(images)):
        try:
            yield images[number]
        except Exception as error:
            yield ImageError(f"image {number}: the data set cannot give it ({type(error).__name__}: {error}).")


def _batches(loader: DataLoader) -> Iterator[Any]:
    """A DataLoader's batches. One with an item that its data set cannot give is lost as a whole; the next ones come."""
    batches = iter(loader)
    if isinstance(loader.dataset, IterableDataset):  # it has ended when it fails
        yield from batches
        return
    size, given = loader.batch_size or 1, 0
    while True:
        try:
            sample = next(batches)
        except StopIteration:
            return
        except Exception as error:
            lost = min(size, len(loader.dataset) - given)  # type: ignore[arg-type]
            if lost < 1:
                raise
            cause = str(error).strip().rpartition("\n")[2] or type(error).__name__
            for number in range(given, given + lost):
                yield ImageError(
                    f"image {number}: the DataLoader cannot give its batch ({type(error).__name__}: {cause}). Pass the "
                    "data set itself, and only the item that fails is lost."
                )
            given += lost
            continue
        given += size
        yield sample


def _pairs(images: Any, sample: Any, number: int) -> Iterable[tuple[Any, Any]]:
    """(image, label) of one sample of a data set, or of one batch of a DataLoader."""
    batched = isinstance(images, DataLoader) and images.batch_sampler is not None
    plain = batched and images.collate_fn is default_collate  # it gives a batch of images, and one of labels
    kinds = [_is_batch(x) for x in sample] if batched and not plain and isinstance(sample, (list, tuple)) else [True]
    if kinds not in ([True], [True, False]) and not (len(kinds) == 2 and _is_text(sample[1])):
        return [pair for one in sample for pair in _pairs(None, one, number)]  # a collate_fn that leaves the samples
    if isinstance(sample, Mapping):
        if "image" not in sample:
            raise ValueError(
                f"The data set gives {', '.join(map(str, sample))}: no 'image'. Let it give (image, label)."
            )
        pair = (sample["image"], sample.get("label"))
    elif isinstance(sample, (list, tuple)):
        if len(sample) not in (1, 2):
            raise ValueError(f"The data set gives {len(sample)} things for image {number}. Let it give (image, label).")
        pair = (sample[0], sample[1] if len(sample) == 2 else None)
    else:
        pair = (sample, None)
    if not batched:
        return [pair]
    pictures, labels = pair
    if labels is not None and len(labels) != len(pictures):
        raise ValueError(
            f"The DataLoader gives {len(pictures)} images with {len(labels)} labels from image {number} on."
        )
    return zip(pictures, [None] * len(pictures) if labels is None else labels, strict=True)


def _is_batch(x: Any) -> bool:
    """Whether something is a batch of pictures, and not one picture, its label, or both."""
    if isinstance(x, (list, tuple)):
        pictures = [isinstance(one, Image.Image) or getattr(one, "ndim", 0) > 1 for one in x]
        return len(x) > 0 and (all(pictures) or _is_text(x))
    return getattr(x, "ndim", 0) == 4


def _is_text(x: Any) -> bool:
    return isinstance(x, (list, tuple)) and all(isinstance(one, (str, os.PathLike)) for one in x)


def _chunks(items: Iterator[_Item], batch_size: int, step: int) -> Iterator[list[_Item]]:
    """Pieces of `step` items at most, of which whole batches of `batch_size` can be made."""
    while batch := list(islice(items, batch_size)):
        yield from (batch[start : start + step] for start in range(0, len(batch), step))


def _in_order(work: Callable, jobs: Iterable, workers: int) -> Generator[Any, None, None]:
    """`map(work, jobs)` by threads with one intra-op thread each; at most `workers + 2` jobs are under way at once."""
    if workers == 1:
        yield from map(work, jobs)
        return
    pool, started = ThreadPoolExecutor(workers, thread_name_prefix="encode"), Barrier(workers + 1)
    try:
        intra_op = torch.get_num_threads()
        for _ in range(workers):
            pool.submit(_start_worker, started)
        started.wait()
        # What a thread sets holds for itself and for every thread that starts later: give those the old number back.
        torch.set_num_threads(intra_op)
        under_way: deque[Future] = deque()
        for job in jobs:
            under_way.append(pool.submit(work, job))
            if len(under_way) == workers + 2:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        started.abort()
        pool.shutdown(wait=True, cancel_futures=True)


if hasattr(os, "register_at_fork"):  # a forked process has none of torch's threads, and would wait for them for ever
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def _start_worker(started: Barrier) -> None:
    torch.get_num_threads()  # a thread's first question sets its number to everybody's: to be asked before, not after
    torch.set_num_threads(1)
    started.wait()


def _parts(done: Generator, encoded: Callable | None, batch_size: int, open_bar: Callable) -> Iterator[ImageEncodings]:
    """The pieces, counted as they are taken and joined to batches."""
    seen, kept, problem, pieces = 0, 0, "", []
    with closing(done), open_bar() as bar:
        for result in done:
            piece = result if encoded is None else encoded(*result)
            pieces.append(piece)
            count = len(piece) + len(piece.failures)
            bar.update(count)
            seen, kept = seen + count, kept + len(piece)
            problem = problem or next(iter(piece.failures["problem"]), "")
            if seen % batch_size == 0:
                yield _joined(pieces)
                pieces = []
    if not kept:
        raise ValueError(
            f"None of the {seen} images could be read. The first: {problem}" if seen else "No images were given."
        )
    if pieces:
        yield _joined(pieces)


def _joined(pieces: list[ImageEncodings]) -> ImageEncodings:
    """One ImageEncodings of several."""
    labels = [label for piece in pieces for label in piece.labels or [None] * len(piece)]
    tokens = [piece.tokens for piece in pieces if piece.tokens is not None]
    return replace(
        pieces[0],
        features=torch.cat([piece.features for piece in pieces]),
        tokens=torch.cat(tokens) if tokens else None,
        index=torch.cat([piece.index for piece in pieces]),
        names=[name for piece in pieces for name in piece.names],
        failures=pd.concat([piece.failures for piece in pieces], ignore_index=True),
        labels=labels if any(label is not None for label in labels) else None,
    )


def _count(images: Any) -> int | None:
    """How many pictures there are at most; None for a stream."""
    try:
        loader = isinstance(images, DataLoader)
        return len(images) * images.batch_size if loader and images.batch_size else len(images)
    except TypeError:
        return None


def _room_for_tokens(
    model: Any, images: Any, tokens: str | None, dtype: torch.dtype, limit: int | None
) -> torch.Tensor | None:
    """One array for the token vectors of all images; a refusal before the work where they do not fit."""
    if not tokens:
        return None
    count = _count(images)
    if count is None:
        raise ValueError(
            "How many images there are is not known before the end, so there is no room to be made for their token "
            "vectors. Take them batch by batch with helpers.iter_image_encodings."
        )
    config = model.config
    width = config.vision_config.hidden_size if tokens == "unprojected" else config.projection_dim
    shape = (count, config.grid[0] * config.grid[1], width)
    needed = math.prod(shape) * dtype.itemsize
    limit = psutil.virtual_memory().available // 2 if limit is None else limit
    if needed > limit:
        raise ValueError(
            f"The token vectors of {count} images need {needed / 1e9:.1f} GB ({' × '.join(map(str, shape))} numbers of "
            f"{str(dtype).removeprefix('torch.')}), and {limit / 1e9:.1f} GB are allowed. Take them batch by batch "
            "with helpers.iter_image_encodings, keep them on disk with helpers.store, or pass another memory_limit in "
            "bytes."
        )
    return torch.empty(shape, dtype=dtype)


# --- one file of features ---------------------------------------------------------------------------------------------


def load_encodings(path: str | os.PathLike) -> TextEncodings | ImageEncodings:
    """Read what `TextEncodings.save` or `ImageEncodings.save` wrote.

    Raises:
        ValueError: the file is missing, damaged, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path.name}: there, but no file." if path.exists() else f"{path.name}: no such file.")
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except Exception as error:  # safetensors raises its own class, built in Rust
        raise ValueError(f"{path.name}: not a readable safetensors file ({error}). Encode and save again.") from error
    try:
        return _restored(meta.get("kind"), tensors, json.loads(meta.get("extra", "{}")))
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # whatever other programs write into such files
        raise ValueError(
            f"{path.name}: a safetensors file, but not written by helpers' save() ({error}). Encode and save again."
        ) from error


def _restored(kind: str | None, tensors: dict, extra: dict) -> TextEncodings | ImageEncodings:
    tensors.setdefault("tokens", None)
    if kind == "texts":
        texts = TextEncodings(**tensors, **extra)
        found: TextEncodings | ImageEncodings = texts
        rows = {"texts": len(texts.texts), "pieces": len(texts.pieces), "mask": len(texts.mask)}
    elif kind == "images":
        extra |= {"grid": tuple(extra["grid"]), "failures": _failures(extra["failures"])}
        found = ImageEncodings(**tensors, **extra)
        rows = {"names": len(found.names), "index": len(found.index)}
    else:
        raise ValueError(f"of the kind {kind!r}")
    if found.features.ndim != 2 or not found.features.is_floating_point():
        raise ValueError(f"its features are {found.features.dtype} {list(found.features.shape)}")
    rows |= {} if found.tokens is None else {"tokens": len(found.tokens)}
    if wrong := [what for what, count in rows.items() if count != len(found.features)]:
        raise ValueError(f"{len(found.features)} features, but {rows[wrong[0]]} {wrong[0]}")
    return found


def _save(encodings: Any, path: Any, kind: str, extra: dict) -> Path:
    tensors = {k: v.contiguous() for k, v in vars(encodings).items() if isinstance(v, torch.Tensor)}
    with beside(path) as unfinished:
        save_file(tensors, unfinished, metadata={"kind": kind, "extra": json.dumps(extra)})
    return Path(path)


# --- small things -----------------------------------------------------------------------------------------------------


def check_options(batch_size: Any, on_error: Any = "raise") -> None:
    """Refuses, before any work, a number of images at a time and a way with failures that there is not."""
    check_whole(batch_size, "batch_size")
    if on_error not in ("raise", "report"):
        raise ValueError(f"on_error must be 'raise' or 'report', not {on_error!r}.")


def check_whole(value: Any, name: str) -> None:
    """Refuses what is no whole number from 1 on."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be a whole number, at least 1, not {value!r}.")


def _dtype(dtype: Any) -> torch.dtype:
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"dtype must be a floating type such as 'float32' or 'float16', not {dtype!r}.")
    return found


def _tokens_kind(tokens: Any) -> str | None:
    kinds = {False: None, None: None, True: "projected", "projected": "projected", "unprojected": "unprojected"}
    if tokens not in kinds:
        raise ValueError(f"tokens must be False, True or 'unprojected', not {tokens!r}.")
    return kinds[tokens]


def _failures(rows: list[dict]) -> pd.DataFrame:
    # As objects: pyarrow's strings hold no name that is no text.
    return pd.DataFrame(rows, columns=["item", "name", "problem"], dtype=object).astype({"item": "int64"})


def _bar(progress: bool, what: str, items: Any) -> Any:
    from tqdm.auto import tqdm

    total = len(items) if isinstance(items, list) else None
    return tqdm(total=total, desc=f"encoding {what}", unit=what.removesuffix("s"), disable=not progress)
