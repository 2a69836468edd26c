"""Which piece of text is where, which patch of a picture is where, and how like each other they are.

Text positions are counted with [CLS] at 0; patches run row by row from the top left. All vectors compared here lie in
the joint space: `text_proj` and `image_proj` have been applied, or the comparison means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates

from .conceptclip.processing_conceptclip import text_list
from .domains import Domain
from .encoding import (
    ImageEncodings,
    TextEncodings,
    check_options,
    encode_texts,
    iter_image_encodings,
    joint_tokens,
)
from .loading import unwrap
from .settings import without_autocast
from .store import StoredEncodings

# --- pieces of text ---------------------------------------------------------------------------------------------------


def piece_table(encodings: TextEncodings, n: int = 0) -> pd.DataFrame:
    """The pieces of one prompt, position by position.

    Args:
        encodings: from `encode_texts`.
        n: which prompt.

    Returns:
        DataFrame indexed by `position`, with `piece`, `id`, `kind` ("special", "word", "continued": a piece that
        goes on within a word, "unknown", "padding") and `characters`, the stretch of the prompt it stands for.

    Raises:
        ValueError: pieces and token vectors are not of one length: they would be read one position off.
    """
    assert_aligned(encodings)
    text, rows = encodings.texts[n], []
    for position, piece in enumerate(encodings.pieces[n]):
        start, end = encodings.offsets[n, position].tolist()
        if not encodings.mask[n, position]:
            kind = "padding"
        elif encodings.special[n, position]:
            kind = "special"
        elif piece == "[UNK]":
            kind = "unknown"
        else:
            kind = "continued" if piece.startswith("##") else "word"
        rows.append((position, piece, int(encodings.input_ids[n, position]), kind, text[start:end]))
    columns = ["position", "piece", "id", "kind", "characters"]
    return pd.DataFrame(rows, columns=columns).set_index("position")


def assert_aligned(encodings: TextEncodings) -> None:
    """Raise ValueError unless there is one token vector for each piece, [CLS] first and [SEP] last of the real ones."""
    length = encodings.input_ids.shape[1]
    if encodings.tokens is not None and encodings.tokens.shape[1] != length:
        raise ValueError(
            f"{encodings.tokens.shape[1]} token vectors stand against {length} pieces: they would be read off by "
            f"{length - encodings.tokens.shape[1]}. A text tower that drops [CLS] does this."
        )
    for n in range(len(encodings)):
        last = int(encodings.mask[n].sum()) - 1
        if not (encodings.special[n, 0] and encodings.special[n, last]) or not encodings.mask[n, : last + 1].all():
            raise ValueError(
                f"texts[{n}] does not run from [CLS] to [SEP] with the padding behind: {encodings.pieces[n]}"
            )


def fill(template: str, phrase: str) -> tuple[str, tuple[int, int]]:
    """Put a phrase into a template: the prompt, and the characters (start, end) at which the phrase stands in it.

    >>> fill("a photo of {}.", "red cells")
    ('a photo of red cells.', (11, 20))

    Raises:
        ValueError: the template has not exactly one {}; the phrase is empty.
    """
    for name, text in (("template", template), ("phrase", phrase)):
        if not isinstance(text, str):
            raise ValueError(f"The {name} {text!r} is a {type(text).__name__}, not a text. Write it in words.")
    if template.count("{}") != 1:
        raise ValueError(f"The template {template!r} must have exactly one {{}}, the place of the phrase.")
    phrase = phrase.strip()
    if not phrase:
        raise ValueError("The phrase is empty: write at least one word.")
    start = template.index("{}")
    return template.replace("{}", phrase), (start, start + len(phrase))


def span_positions(encodings: TextEncodings, n: int, phrase: str | tuple[int, int]) -> list[int]:
    """Token positions of a stretch of a prompt, found by character offsets (never by comparing pieces).

    Args:
        encodings: from `encode_texts`.
        n: which prompt.
        phrase: the words, which must stand in the prompt exactly once (upper or lower case), or their characters
            (start, end), end exclusive.

    Returns:
        positions in rising order; a word that is only touched counts as a whole piece.

    Raises:
        ValueError: the words are not there, stand there twice, or were cut off.
    """
    if isinstance(phrase, str):
        text = encodings.texts[n]
        count = text.lower().count(phrase.lower())
        if not phrase.strip() or count != 1:
            raise ValueError(f"{phrase!r} stands {count} times in {text!r}: give the characters (start, end) instead.")
        start = text.lower().index(phrase.lower())
        phrase = (start, start + len(phrase))
    return encodings.positions(n, *phrase)


# --- concepts as vectors ----------------------------------------------------------------------------------------------


def span_vector(encodings: TextEncodings, n: int, phrase: Any, *, offset: int = 0) -> torch.Tensor:
    """Mean of a prompt's projected token vectors over a phrase: float [D], **not** yet of unit length.

    Args:
        encodings: from `encode_texts(..., tokens=True)`.
        n, phrase: as in `span_positions`.
        offset: shift the span by this many positions: 0 is right; -1 and +1 show what a misread span costs.

    Raises:
        ValueError: no token vectors, or unprojected ones; the shifted span leaves the prompt.
    """
    tokens = joint_tokens(encodings)
    assert_aligned(encodings)
    if not isinstance(offset, (int, np.integer)):
        raise TypeError(f"offset, a number of positions, must be a whole number, not {offset!r}.")
    positions = [p + offset for p in span_positions(encodings, n, phrase)]
    if min(positions) < 0 or max(positions) >= int(encodings.mask[n].sum()):
        raise ValueError(f"The span moved by {offset} leaves texts[{n}]. Use a template with words around the phrase.")
    return tokens[n, positions].float().mean(0)


def _listed(texts: Any, name: str) -> list:
    return [texts] if isinstance(texts, str) else text_list(texts, name)


def concept_vectors(
    model: Any,
    processor: Any,
    phrases: Sequence[str | Sequence[str]] | Mapping[str, Any],
    *,
    template: str | Sequence[str] = "{}",
    offset: int = 0,
) -> torch.Tensor:
    """One unit vector for each concept, to be compared with patches: the phrase as RC-Align sees it in training.

    A phrase's projected token vectors are averaged over its own positions in the prompt. With several templates (or
    several synonyms) these means are averaged too, before the length is made one, as in the authors' zero-shot script.

    Args:
        model, processor: from `helpers.load`.
        phrases: K phrases, or a dict name -> synonyms, whose vectors are averaged.
        template: what stands around the phrase, with one {}; or several.
        offset: as in `span_vector`.

    Returns:
        float32 [K, D], unit length.
    """
    entries = list(phrases.values()) if isinstance(phrases, Mapping) else _listed(phrases, "phrases")
    groups = [_listed(entry, f"phrases[{n}]") for n, entry in enumerate(entries)]
    templates = _listed(template, "template")
    if not groups or not templates or not all(groups):
        raise ValueError("Give at least one phrase for each concept, and at least one template.")
    filled = [fill(t, phrase) for group in groups for phrase in group for t in templates]
    encodings = encode_texts(model, processor, [text for text, _ in filled], tokens=True)
    means = [span_vector(encodings, n, span, offset=offset) for n, (_, span) in enumerate(filled)]
    sizes = [len(group) * len(templates) for group in groups]
    return F.normalize(torch.stack([part.mean(0) for part in torch.stack(means).split(sizes)]), dim=-1)


def last_position_vectors(
    model: Any, processor: Any, prompts: Sequence[str], *, pad_to: int | None = 77
) -> torch.Tensor:
    """The text vector of the authors' Derm7pt script: the last *position* of the token axis, projected, unit length.

    Their tokenizer pads to 77, so that position is padding for any shorter prompt; it has attended to the words and
    carries something of them. With `pad_to=None` the last real position, [SEP], is taken instead.

    Returns:
        float32 [N, D], unit length.
    """
    encodings = encode_texts(model, processor, prompts, tokens=True, pad_to=pad_to)
    last = encodings.mask.sum(1) - 1 if pad_to is None else torch.full((len(encodings),), pad_to - 1)
    assert encodings.tokens is not None  # asked for above
    return F.normalize(encodings.tokens[torch.arange(len(encodings)), last].float(), dim=-1)


# --- patches ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PatchGrid:
    """Where each patch lies in a picture.

    The picture is squashed to `size` x `size` pixels, and patches of `patch` pixels are cut from the top left. If
    `patch` does not divide `size` (384 = 27 x 14 + 6 in the released model) a strip at the right and bottom is never
    seen; the boxes here leave it out.

    Attributes:
        h, w: patches down and across.
        patch, size: in pixels of the model's input.
    """

    h: int
    w: int
    patch: int
    size: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.h, self.w

    def __len__(self) -> int:
        return self.h * self.w

    def row_column(self, index: int) -> tuple[int, int]:
        """Patch number -> (row, column)."""
        if not 0 <= index < len(self):
            raise ValueError(f"There is no patch {index}: they are numbered 0 to {len(self) - 1}.")
        return divmod(int(index), self.w)

    def box(self, index: int, image_size: tuple[int, int] | None = None) -> tuple[float, float, float, float]:
        """Patch number -> (left, top, right, bottom) in pixels of a picture of `image_size` (width, height).

        Without `image_size`, in pixels of the model's square input.
        """
        row, column = self.row_column(index)
        width, height = image_size or (self.size, self.size)
        x, y = self.patch * width / self.size, self.patch * height / self.size
        return column * x, row * y, (column + 1) * x, (row + 1) * y

    def at(self, x: float, y: float, image_size: tuple[int, int]) -> int | None:
        """The number of the patch that holds the point (x, y) of a picture of `image_size` (width, height).

        None where no patch looks: outside the picture, or in the unseen strip at its right and bottom.
        """
        column, row = int(x / image_size[0] * self.size // self.patch), int(y / image_size[1] * self.size // self.patch)
        inside = 0 <= row < self.h and 0 <= column < self.w and x >= 0 and y >= 0
        return row * self.w + column if inside else None

    def extent(self, image_size: tuple[int, int]) -> tuple[float, float, float, float]:
        """(left, right, bottom, top) that the whole grid covers, as matplotlib's `imshow(extent=)` takes it."""
        _, _, right, bottom = self.box(len(self) - 1, image_size)
        return 0.0, right, bottom, 0.0


def patch_grid(model: Any) -> PatchGrid:
    """The patch geometry of a model, from its configuration."""
    config = unwrap(model).config
    h, w = config.grid
    return PatchGrid(h, w, config.vision_config.patch_size, config.vision_config.image_size)


def patch_shares(masks: Any, grid: PatchGrid) -> np.ndarray:
    """How much of each patch a mask covers.

    Args:
        masks: bool [B, H, W] (or [H, W]), any size; they are squashed as the picture is. Also 0 and 1, 0 and 255 as
            files of masks have it, or shares in [0, 1]. (Boxes: `box_shares`.)
        grid: from `patch_grid(model)`.

    Returns:
        float32 [B, h, w] (or [h, w]) in [0, 1].

    Raises:
        ValueError: masks of several sizes, or that hold anything else (the mask is named).
    """
    try:
        array = np.asarray(masks, dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"masks do not make one array ({error}). Pass masks of one size, bool [B, H, W].") from error
    if array.ndim not in (2, 3) or 0 in array.shape[-2:]:
        raise ValueError(f"masks have the shape {array.shape}. Pass bool [B, H, W], or [H, W] for one.")
    for b, mask in enumerate(array if array.ndim == 3 else array[None]):
        if not (((mask >= 0) & (mask <= 1)).all() or np.isin(mask, (0, 255)).all()):
            raise ValueError(
                f"Mask {b} holds {mask.min():.4g} to {mask.max():.4g}, and a mask is bool, 0 and 1, "
                "or 0 and 255. Of a map of labels pass `labels == number`."
            )
    masks = torch.from_numpy(np.where(array == 255, np.float32(1), array))
    single = masks.ndim == 2
    masks = masks[None, None] if single else masks[:, None]
    if tuple(masks.shape[-2:]) != (grid.size, grid.size):
        masks = F.interpolate(masks, size=(grid.size, grid.size), mode="area")
    shares = F.avg_pool2d(masks, grid.patch)[:, 0, : grid.h, : grid.w].numpy()
    return shares[0] if single else shares


def box_shares(boxes: Any, grid: PatchGrid, image_size: Any) -> np.ndarray:
    """How much of each patch boxes cover: what `patch_shares` is for masks.

    Args:
        boxes: B entries, one a picture: its box (left, top, right, bottom) in its own pixels, or its boxes [n, 4]; n
            may be 0.
        grid: from `patch_grid(model)`.
        image_size: (width, height) of the pictures; one for all, or B of them.

    Returns:
        float32 [B, h, w] in [0, 1]. Where boxes overlap, the larger share of a pixel of the model's input counts.

    Raises:
        ValueError: a box that is no box (named), or that lies outside its picture.
    """
    pictures = list(boxes)
    sizes = [tuple(image_size)] * len(pictures) if np.ndim(image_size) == 1 else [tuple(size) for size in image_size]
    if len(sizes) != len(pictures):
        raise ValueError(
            f"There are boxes for {len(pictures)} pictures and {len(sizes)} sizes: give one size for each."
        )
    edges = np.arange(grid.size + 1)
    masks = np.zeros((len(pictures), grid.size, grid.size), np.float32)
    for b, (found, (width, height)) in enumerate(zip(pictures, sizes, strict=True)):
        try:
            found = np.asarray(found, dtype=float)
        except (TypeError, ValueError) as error:
            raise ValueError(f"The boxes of picture {b} are no numbers ({error}): each must be 4, [n, 4].") from error
        if found.size and found.shape[-1:] != (4,):
            raise ValueError(f"The boxes of picture {b} have the shape {found.shape}: each must be 4 numbers, [n, 4].")
        for n, box in enumerate(found.reshape(-1, 4)):
            left, top, right, bottom = box
            if not (np.isfinite(box).all() and left < right and top < bottom):
                raise ValueError(
                    f"Box {n} of picture {b} is {box.tolist()}: it must be left < right, top < bottom, in pixels "
                    "(left, top, right, bottom). Boxes given as x, y, width, height need x + width, y + height."
                )
            if right <= 0 or bottom <= 0 or left >= width or top >= height:
                raise ValueError(f"Box {n} of picture {b}, {box.tolist()}, lies outside its {width} x {height} pixels.")
            across, down = (
                np.clip(np.minimum(edges[1:], end * scale) - np.maximum(edges[:-1], start * scale), 0, 1)
                for start, end, scale in ((left, right, grid.size / width), (top, bottom, grid.size / height))
            )
            masks[b] = np.maximum(masks[b], np.outer(down, across))
    return patch_shares(masks, grid)


def map_at_size(
    map_: Any,
    grid: PatchGrid,
    image_size: tuple[int, int],
    *,
    smooth: bool = False,
    limits: tuple[float, float] | None = None,
    normalise: bool = False,
    outside: float = np.nan,
) -> np.ndarray:
    """A map of patches as an array of pixels, of the picture's own size.

    Args:
        map_: float [h, w], or more of them [..., h, w].
        grid: from `patch_grid(model)`.
        image_size: (width, height) of the picture in pixels, as PIL's `.size`.
        smooth: linear between the patches' centres; by default each pixel has its patch's value.
        limits: (low, high): values beyond them are clipped.
        normalise: scale to [0, 1]: from `limits` where given (then maps compare), else from each map's own smallest and
            largest value. A map that is the same everywhere becomes 0.
        outside: what stands where no patch looks (a strip at the right and bottom where the patches do not fill the
            model's input: 384 = 27 × 14 + 6 in the released model).

    Returns:
        float32 [..., height, width].

    Raises:
        ValueError: a map of another grid, or with NaN; limits that are not low < high.
    """
    values = torch.as_tensor(map_).detach().float().cpu().numpy() if not isinstance(map_, np.ndarray) else map_
    values = np.asarray(values, dtype=np.float32)
    if values.ndim < 2 or values.shape[-2:] != grid.shape:
        raise ValueError(f"The map {values.shape} is not of this model's grid {grid.shape}: it must be [..., h, w].")
    if not np.isfinite(values).all():
        raise ValueError("The map holds NaN or infinite values: encode the picture again in float32.")
    if limits is not None:
        low, high = limits
        if not low < high:
            raise ValueError(f"limits must be (low, high) with low < high, not {limits}.")
        values = values.clip(low, high)
    if normalise:
        low, high = limits or (values.min((-2, -1), keepdims=True), values.max((-2, -1), keepdims=True))
        values = np.where(np.asarray(high) > low, (values - low) / np.maximum(np.asarray(high) - low, 1e-12), 0)
    sizes = tuple(image_size) if np.ndim(image_size) == 1 else ()
    if len(sizes) != 2 or not all(isinstance(side, (int, np.integer)) and side > 0 for side in sizes):
        raise ValueError(f"image_size must be (width, height) in whole pixels, as PIL's `.size`, not {image_size!r}.")
    width, height = sizes
    # Where each pixel's centre lies, counted in patches.
    x = (np.arange(width) + 0.5) * grid.size / width / grid.patch
    y = (np.arange(height) + 0.5) * grid.size / height / grid.patch
    if smooth:
        rows, columns = np.meshgrid(y - 0.5, x - 0.5, indexing="ij")
        flat = values.reshape(-1, *grid.shape)
        pixels = np.stack([map_coordinates(one, [rows, columns], order=1, mode="nearest") for one in flat])
        pixels = pixels.reshape(*values.shape[:-2], height, width)
    else:
        rows, columns = (np.minimum(p.astype(int), n - 1) for p, n in ((y, grid.h), (x, grid.w)))
        pixels = values[..., rows[:, None], columns[None, :]]
    seen = (y < grid.h)[:, None] & (x < grid.w)[None, :]
    return np.where(seen, pixels, np.float32(outside)).astype(np.float32)


# --- text against patches ---------------------------------------------------------------------------------------------


def usable(model: Any, encodings: ImageEncodings, *, tokens: bool = False) -> ImageEncodings:
    """Encodings as they are, if this model can have made them and every number in them is one.

    Args:
        model: from `helpers.load`.
        encodings: of pictures.
        tokens: whether the patch vectors are needed, too.

    Raises:
        ValueError: another width than the model's joint space; a NaN or infinite value (the picture is named); no
            patch vectors where they are needed, unprojected ones, or another number of them than the model's.
    """
    if isinstance(encodings, StoredEncodings):
        encodings.check(model)  # a store knows which weights made its vectors
    config = unwrap(model).config
    width = config.projection_dim
    parts = [("", encodings.features)] + ([("patch ", joint_tokens(encodings))] if tokens else [])
    for what, values in parts:
        if values.shape[-1] != width:
            raise ValueError(
                f"The {what}vectors of these pictures are {values.shape[-1]} wide, and this model's are {width}: "
                "another model made them. Encode the pictures with this one."
            )
        bad = (~values.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
        if bad:
            raise ValueError(
                f"{encodings.names[bad[0]]}: its {what}vector holds NaN or infinite values. Encode it again in float32."
            )
    if tokens and encodings.grid != tuple(config.grid):
        raise ValueError(
            f"These pictures have {encodings.grid} patches, and this model sees {tuple(config.grid)}: another "
            "model made them. Encode the pictures with this one."
        )
    return encodings


@without_autocast
def cosine_maps(tokens: torch.Tensor, vectors: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Cosine of every patch with every vector.

    Args:
        tokens: float [B, P, D], projected patch tokens of any length.
        vectors: float [K, D], of any length (they are made unit length here).
        grid: (h, w) with h * w = P.

    Returns:
        float32 [B, K, h, w] in [-1, 1]. Multiply by `concept_logit_scale` and add `concept_logit_bias` for logits.

    Raises:
        ValueError: widths differ, or NaN. Where the widths are equal, nothing tells an unprojected vector from a
            projected one: `concept_maps` and `token_maps` know.
    """
    cosine = patch_cosines(tokens, vectors)
    if tokens.shape[1] != grid[0] * grid[1]:
        raise ValueError(f"{tokens.shape[1]} patches do not fill a grid of {grid[0]} x {grid[1]}.")
    return cosine.transpose(1, 2).unflatten(2, tuple(grid))


def patch_cosines(tokens: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Cosine of each patch [B, P, D] with each vector [K, D]: float32 [B, P, K]. ValueError: widths differ, or NaN."""
    if tokens.ndim != 3 or vectors.ndim != 2 or tokens.shape[-1] != vectors.shape[-1]:
        raise ValueError(
            f"Patches {list(tokens.shape)} and vectors {list(vectors.shape)} do not match: expected [B, P, D] and "
            "[K, D] in the joint space. Were text_proj and image_proj applied?"
        )
    if not (tokens.isfinite().all() and vectors.isfinite().all()):
        raise ValueError("Patches or vectors hold NaN or infinite values: encode them again in float32.")
    return F.normalize(tokens.float(), dim=-1) @ F.normalize(vectors.float(), dim=-1).T


def concept_maps(
    model: Any,
    processor: Any,
    images: Any,
    phrases: Any,
    *,
    template: str | Sequence[str] = "{}",
    window: tuple[float, float] | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> torch.Tensor:
    """Where in each picture each phrase is: the cosine of every patch with every concept vector.

    Args:
        model, processor: from `helpers.load`.
        images: as in `encode_images`; or ImageEncodings with tokens, when the pictures are encoded already.
        phrases: K phrases, a dict name -> synonyms, a Domain (its concepts), or concept vectors [K, D] that exist
            already.
        template: what stands around a phrase in its prompt, with one {}; or several.
        window, batch_size, progress: as in `encode_images`.

    Returns:
        float32 [B, K, h, w], cosines in [-1, 1].

    Raises:
        ValueError: images encoded without tokens or with unprojected ones; and as in `encode_images`.
    """
    vectors = phrases
    check_options(batch_size)
    if not isinstance(phrases, torch.Tensor):
        phrases = phrases.concepts if isinstance(phrases, Domain) else phrases
        vectors = concept_vectors(model, processor, phrases, template=template)
    if isinstance(images, ImageEncodings):
        return cosine_maps(joint_tokens(usable(model, images, tokens=True)), vectors, images.grid)
    options: dict[str, Any] = {"batch_size": batch_size, "window": window, "progress": progress}
    batches = iter_image_encodings(model, processor, images, tokens=True, **options)
    return torch.cat([cosine_maps(part.tokens, vectors, part.grid) for part in batches])


def token_maps(texts: TextEncodings, images: ImageEncodings, n: int = 0, b: int = 0) -> torch.Tensor:
    """Every piece of one prompt against every patch of one picture.

    Args:
        texts, images: encoded with `tokens=True`.
        n, b: which prompt, which picture.

    Returns:
        float32 [T, h, w], cosines; positions as in `piece_table(texts, n)`, padding left out (T counts real ones).

    Raises:
        ValueError: encoded without tokens or with unprojected ones.
    """
    words, patches = joint_tokens(texts), joint_tokens(images)
    assert_aligned(texts)
    return cosine_maps(patches[[b]], words[n, texts.mask[n]], images.grid)[0]


def top_patches(map_: Any, k: int = 5) -> list[tuple[int, float]]:
    """The k largest patches of one map [h, w]: (patch number, value), largest first."""
    values = torch.as_tensor(map_, dtype=torch.float32).flatten()
    if not 1 <= k <= len(values):
        raise ValueError(f"k must lie between 1 and the {len(values)} patches, not {k}.")
    top = values.topk(k)
    return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))
