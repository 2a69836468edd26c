"""From vectors to answers: logits, probabilities, zero-shot classes, concept annotation, retrieval.

The functions on tensors are pure. Those that take a model encode first and then call them. Where the authors' scripts
differ from each other, the difference is an argument here and its source is named. Every `alpha` here is the weight
of the **local** score (patches); 1 - alpha is that of the global one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from .encoding import ImageEncodings, encode_texts, iter_image_encodings, joint_tokens
from .images import as_image_list
from .tokens import concept_vectors, fill, last_position_vectors

AUTHORS_TOP = (128, 729)
"""The authors' zero-shot script averages the 128 most similar of 729 patches; other grids take the same share."""

RECIPES = ("training", "zero_shot", "derm7pt")
"""How the patches of an image become one local score; see `local_scores`."""


# --- the formula ------------------------------------------------------------------------------------------------------


class Scales(NamedTuple):
    """The four learned scalars as `forward` returns them: the scales exponentiated, the biases as they are."""

    logit_scale: float
    logit_bias: float
    concept_logit_scale: float
    concept_logit_bias: float


RELEASED_SCALES = Scales(float(np.exp(4.570648)), -11.161472, float(np.exp(4.511484)), -11.034302)
"""The released checkpoint's four scalars, from its parameters as printed in a public notebook; not verified here."""


def scales(model) -> Scales:
    """The model's four scalars, as numbers. Its parameters hold the scales' logarithms: here they are exponentiated."""
    return Scales(
        float(model.logit_scale.detach().float().exp()),
        float(model.logit_bias.detach().float()),
        float(model.concept_logit_scale.detach().float().exp()),
        float(model.concept_logit_bias.detach().float()),
    )


def logits(image_features: torch.Tensor, text_features: torch.Tensor, scale, bias=0.0) -> torch.Tensor:
    """`scale * image_features @ text_features.T + bias`, as the model was trained to read cosines.

    Args:
        image_features: float [B, D], unit length.
        text_features: float [N, D], unit length.
        scale: the **exponentiated** scale, `scales(model).logit_scale`.
        bias: `scales(model).logit_bias`; it cancels in a softmax and decides in a sigmoid.

    Returns:
        float32 [B, N].

    Raises:
        ValueError: the widths differ, or a feature is NaN or infinite.
    """
    for name, x in (("image_features", image_features), ("text_features", text_features)):
        if x.ndim != 2:
            raise ValueError(f"{name} must be [rows, D], not {list(x.shape)}. Encode a list, even of one.")
        bad = (~x.isfinite()).any(-1).nonzero().flatten().tolist()
        if bad:
            raise ValueError(f"{name}[{bad[0]}] holds NaN or infinite values: encode it again in float32.")
    if image_features.shape[1] != text_features.shape[1]:
        raise ValueError(
            f"image_features are {image_features.shape[1]} wide, text_features {text_features.shape[1]}: "
            "both must come from the same model's joint space."
        )
    return scale * image_features.float() @ text_features.float().T + bias


def probabilities(logits: torch.Tensor, kind: str) -> torch.Tensor:
    """Logits as probabilities of one of two kinds, which answer different questions.

    Args:
        logits: float [B, N].
        kind: "sigmoid": does this prompt fit this image? each pair for itself (as trained; needs the bias).
            "softmax": which of these prompts fits best? rows sum to one, whatever the prompts are.

    Returns:
        float [B, N] in [0, 1].
    """
    if kind not in ("sigmoid", "softmax"):
        raise ValueError(f"kind must be 'sigmoid' or 'softmax', not {kind!r}.")
    return logits.sigmoid() if kind == "sigmoid" else logits.softmax(-1)


def cosine_at_half(scale: float, bias: float) -> float:
    """The cosine at which the sigmoid is one half: -bias / scale (0.1155 for the released global pair)."""
    return -float(bias) / float(scale)


def mix(local: torch.Tensor, global_: torch.Tensor, alpha: float) -> torch.Tensor:
    """`alpha * local + (1 - alpha) * global_`, two sets of probabilities."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha, the weight of the local score, must lie between 0 and 1, not {alpha}.")
    return alpha * local + (1 - alpha) * global_


# --- classes as vectors -----------------------------------------------------------------------------------------------


def class_vectors(model, processor, classes, *, templates: Sequence[str] | str = ("{}",)) -> torch.Tensor:
    """One unit vector for each class: the mean of its prompts' unit vectors, made unit length again.

    Args:
        model, processor: from `helpers.load`.
        classes: K names; or a dict name -> synonyms, all of which count.
        templates: prompt templates with one {} each.

    Returns:
        float32 [K, D].
    """
    _, synonyms = _classes(classes)
    templates = [templates] if isinstance(templates, str) else list(templates)
    prompts = [fill(t, word)[0] for words in synonyms for word in words for t in templates]
    features = encode_texts(model, processor, prompts).features
    return prototypes(features.split([len(words) * len(templates) for words in synonyms]))


def prototypes(groups: Sequence[torch.Tensor]) -> torch.Tensor:
    """The mean direction of each group of vectors.

    Args:
        groups: K tensors [n_k, D]: a class's prompts, or its images (a "prototype" classifier).

    Returns:
        float32 [K, D], unit length.
    """
    means = [F.normalize(group.float(), dim=-1).mean(0) for group in groups]
    return F.normalize(torch.stack(means), dim=-1)


# --- one local score an image -----------------------------------------------------------------------------------------


def top_count(patches: int) -> int:
    """How many patches the zero-shot recipe averages: 128 of 729, scaled to the grid (34 of 14 x 14)."""
    return max(1, round(patches * AUTHORS_TOP[0] / AUTHORS_TOP[1]))


def local_scores(tokens: torch.Tensor, vectors: torch.Tensor, *, recipe: str, top: int | None = None) -> torch.Tensor:
    """One cosine for each image and concept, from the image's patches.

    Args:
        tokens: float [B, P, D], projected patch tokens of any length.
        vectors: float [K, D], concept vectors of any length.
        recipe: "training": the largest over patches, as in RC-Align; "zero_shot": the mean of the `top` largest, as in
            the authors' zero-shot script; "derm7pt": the mean over all patches, as in their concept-annotation script.
        top: for "zero_shot", how many; by default 128 of 729, scaled to the grid.

    Returns:
        float32 [B, K], cosines. Times `concept_logit_scale`, plus `concept_logit_bias`, they are logits.
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, not {recipe!r}.")
    if tokens.ndim != 3 or vectors.ndim != 2 or tokens.shape[-1] != vectors.shape[-1]:
        raise ValueError(
            f"Patches {list(tokens.shape)} and vectors {list(vectors.shape)} do not match: expected [B, P, D] and "
            "[K, D] in the joint space. Were text_proj and image_proj applied?"
        )
    cosine = F.normalize(tokens.float(), dim=-1) @ F.normalize(vectors.float(), dim=-1).T  # [B, P, K]
    if not cosine.isfinite().all():
        raise ValueError("Patches or vectors hold NaN or infinite values: encode them again in float32.")
    if recipe == "training":
        return cosine.amax(1)
    if recipe == "derm7pt":
        return cosine.mean(1)
    return cosine.topk(min(top or top_count(cosine.shape[1]), cosine.shape[1]), dim=1).values.mean(1)


# --- zero-shot --------------------------------------------------------------------------------------------------------


def zero_shot(
    model,
    processor,
    images,
    classes,
    *,
    templates: Sequence[str] | str = ("{}",),
    alpha: float = 0.0,
    recipe: str = "zero_shot",
    top: int | None = None,
    batch_size: int = 32,
    progress: bool = False,
) -> pd.DataFrame:
    """Which of these classes is in each image? Without training, from their names.

    Global: softmax over classes of the scaled cosines between image and class vectors. Local: softmax over classes of
    the scaled local scores of the names' own tokens. The authors mix both with alpha 0.5.

    Args:
        model, processor: from `helpers.load`.
        images: as in `encode_images`; or ImageEncodings (with tokens if alpha > 0).
        classes: K names; or a dict name -> synonyms.
        templates: prompt templates with one {} each.
        alpha: weight of the local score, 0 to 1.
        recipe, top: of the local score, as in `local_scores`.
        batch_size, progress: as in `encode_images`.

    Returns:
        DataFrame [B, K] of probabilities, rows sum to one; the index holds file names, or numbers.
    """
    names, _ = _classes(classes)
    templates = [templates] if isinstance(templates, str) else list(templates)
    mix(torch.zeros(1), torch.zeros(1), alpha)  # a wrong alpha is said before the images are encoded
    s = scales(model)
    global_vectors = class_vectors(model, processor, classes, templates=templates)
    local_vectors = concept_vectors(model, processor, classes, template=templates) if alpha else None

    rows, index = [], []
    for part in _parts(model, processor, images, bool(alpha), batch_size, progress):
        score = logits(part.features, global_vectors, s.logit_scale).softmax(-1)
        if alpha:
            local = local_scores(joint_tokens(part), local_vectors, recipe=recipe, top=top)
            score = mix((s.concept_logit_scale * local).softmax(-1), score, alpha)
        rows.append(score)
        index += part.names
    return _table(torch.cat(rows), index, names)


# --- concept annotation -----------------------------------------------------------------------------------------------


def annotate(
    model,
    processor,
    images,
    concepts,
    *,
    template: str = "a cell photo with sign of {}",
    reference: str | None = "a cell photo",
    alpha: float = 0.5,
    recipe: str = "derm7pt",
    offset: int = 0,
    pad_to: int | None = 77,
    batch_size: int = 32,
    progress: bool = False,
) -> pd.DataFrame:
    """Is each concept in each image? One probability a pair, concepts judged independently.

    With a reference prompt (the authors' way): softmax over the pair (positive prompt, reference prompt), globally and
    locally, mixed with alpha. Without one: the sigmoid of the trained logit, scale and bias, mixed likewise.

    The local text vectors follow the recipe: "derm7pt" takes the last text position of either prompt (see
    `last_position_vectors`); "training" and "zero_shot" take the concept's own span in the positive prompt, and all
    words of the reference prompt (the authors give no reference for these two: this is the plain extension).

    Args:
        model, processor: from `helpers.load`.
        images: as in `encode_images`; or ImageEncodings (with tokens if alpha > 0).
        concepts: K phrases.
        template: the positive prompt, with one {}.
        reference: the same prompt without the concept; None to do without.
        alpha: weight of the local score. (The Derm7pt script's own alpha weighs the global one; at 0.5 they agree.)
        recipe: of the local score, as in `local_scores`.
        offset: moves the concept's span, as in `span_vector` ("training" and "zero_shot" only).
        pad_to: for "derm7pt": 77 as the authors pad, None for the last real position.
        batch_size, progress: as in `encode_images`.

    Returns:
        DataFrame [B, K] of probabilities; rows do not sum to one.
    """
    concepts = [concepts] if isinstance(concepts, str) else list(concepts)
    mix(torch.zeros(1), torch.zeros(1), alpha)
    if recipe not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, not {recipe!r}.")
    s = scales(model)
    prompts = [fill(template, concept)[0] for concept in concepts]
    positive = encode_texts(model, processor, prompts).features
    negative = encode_texts(model, processor, [reference]).features if reference is not None else None
    local_positive = local_negative = None
    if alpha:
        if recipe == "derm7pt":
            local_positive = last_position_vectors(model, processor, prompts, pad_to=pad_to)
            if reference is not None:
                local_negative = last_position_vectors(model, processor, [reference], pad_to=pad_to)
        else:
            local_positive = concept_vectors(model, processor, concepts, template=template, offset=offset)
            if reference is not None:
                local_negative = concept_vectors(model, processor, [reference])

    rows, index = [], []
    for part in _parts(model, processor, images, bool(alpha), batch_size, progress):
        score = _pair(lambda v, p=part: p.features.float() @ v.T, positive, negative, s.logit_scale, s.logit_bias)
        if alpha:
            patches = joint_tokens(part)
            local = _pair(
                lambda v, p=patches: local_scores(p, v, recipe=recipe),
                local_positive,
                local_negative,
                s.concept_logit_scale,
                s.concept_logit_bias,
            )
            score = mix(local, score, alpha)
        rows.append(score)
        index += part.names
    return _table(torch.cat(rows), index, concepts)


def _pair(cosine, positive, negative, scale: float, bias: float) -> torch.Tensor:
    """Probability of the positive prompt: against the reference (a softmax over two is a sigmoid), or alone."""
    if negative is None:
        return (scale * cosine(positive) + bias).sigmoid()
    return (scale * (cosine(positive) - cosine(negative))).sigmoid()


# --- small things -----------------------------------------------------------------------------------------------------


def _classes(classes) -> tuple[list[str], list[list[str]]]:
    if isinstance(classes, str):
        raise ValueError("classes must be a list of names (or a dict name -> synonyms), not one string.")
    if isinstance(classes, dict):
        names, words = list(classes), [[w] if isinstance(w, str) else list(w) for w in classes.values()]
    else:
        names, words = list(classes), [[name] for name in classes]
    if not names or not all(words):
        raise ValueError("Give at least one class, and at least one word for each.")
    if len(set(names)) != len(names):
        raise ValueError(f"Class names must differ from each other: {names}")
    return names, words


def _parts(model, processor, images, tokens: bool, batch_size: int, progress: bool):
    """The images' encodings batch by batch; those that are encoded already in one piece."""
    if isinstance(images, ImageEncodings):
        if tokens:
            joint_tokens(images)
        return [images]
    images = as_image_list(images)
    return iter_image_encodings(model, processor, images, batch_size=batch_size, tokens=tokens, progress=progress)


def _table(scores: torch.Tensor, index: list[str], columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(scores.numpy(), index=pd.Index(index, name="image"), columns=columns)
