"""From vectors to answers: logits, probabilities, zero-shot classes, concept annotation, retrieval.

The functions on tensors are pure. Those that take a model encode first and then call them. Where the authors' scripts
differ from each other, the difference is an argument here and its source is named. Every `alpha` here is the weight
of the **local** score (patches); 1 - alpha is that of the global one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from .domains import Domain, wordings
from .encoding import ImageEncodings, check_options, encode_texts, iter_image_encodings, joint_tokens
from .labels import row_numbers
from .loading import check_values, unwrap
from .settings import without_autocast
from .tokens import concept_vectors, fill, last_position_vectors, patch_cosines, usable

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


def scales(model: Any) -> Scales:
    """The model's four scalars, as numbers. Its parameters hold the scales' logarithms: here they are exponentiated."""
    model = unwrap(model)
    check_values(model)
    return Scales(
        float(model.logit_scale.detach().float().exp()),
        float(model.logit_bias.detach().float()),
        float(model.concept_logit_scale.detach().float().exp()),
        float(model.concept_logit_bias.detach().float()),
    )


@without_autocast
def logits(image_features: torch.Tensor, text_features: torch.Tensor, scale: Any, bias: Any = 0.0) -> torch.Tensor:
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
    if not hasattr(alpha, "__float__") or not 0 <= float(alpha) <= 1:
        raise ValueError(f"alpha, the weight of the local score, must be a number between 0 and 1, not {alpha!r}.")
    return alpha * local + (1 - alpha) * global_


# --- classes as vectors -----------------------------------------------------------------------------------------------


def class_vectors(
    model: Any, processor: Any, classes: Any, *, templates: str | Sequence[str] | None = None
) -> torch.Tensor:
    """One unit vector for each class: the mean of its prompts' unit vectors, made unit length again.

    Args:
        model, processor: from `helpers.load`.
        classes: K names; a dict name -> wordings, all of which count; or a Domain.
        templates: prompt templates with one {} each; by default the Domain's, else the bare words.

    Returns:
        float32 [K, D].

    Raises:
        ValueError: as `domains.wordings` says of classes that no model could tell apart.
    """
    words, domain = _asked(classes, None, "classes")
    templates = _several(templates, domain.templates if domain else None)
    return _ensemble(model, processor, list(words.values()), templates, words)


def _ensemble(
    model: Any, processor: Any, groups: Sequence[Sequence[str]], templates: Sequence[str], names: Iterable[str] = ()
) -> torch.Tensor:
    """The mean direction of each group of phrases in all templates: float32 [K, D], unit length.

    Groups with names must differ in what the tokenizer makes of them: letters that its vocabulary lacks are all [UNK],
    and what stands behind the last position is cut off.
    """
    prompts = [fill(template, phrase)[0] for group in groups for phrase in group for template in templates]
    encoded = encode_texts(model, processor, prompts)
    sizes = [len(group) * len(templates) for group in groups]
    seen: dict[tuple, str] = {}
    for name, rows in zip(names, encoded.input_ids.split(sizes), strict=False):
        other = seen.setdefault(tuple(map(tuple, rows.tolist())), name)
        if other != name:
            raise ValueError(
                f"{other[:40]!r} and {name[:40]!r} become the same pieces, since this model's vocabulary lacks their "
                "letters or they are too long. Word one of them otherwise."
            )
    return prototypes(encoded.features.split(sizes))


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


def check_top(top: int | None) -> None:
    """Raise ValueError unless `top` is None or a whole number of patches from 1 on."""
    if top is not None and (isinstance(top, bool) or not isinstance(top, (int, np.integer)) or top < 1):
        raise ValueError(f"top, the number of patches that are averaged, must be 1 or more (or None), not {top!r}.")


@without_autocast
def local_scores(tokens: torch.Tensor, vectors: torch.Tensor, *, recipe: str, top: int | None = None) -> torch.Tensor:
    """One cosine for each image and concept, from the image's patches.

    Args:
        tokens: float [B, P, D], projected patch tokens of any length.
        vectors: float [K, D], concept vectors of any length.
        recipe: "training": the largest over patches, as in RC-Align; "zero_shot": the mean of the `top` largest, as in
            the authors' zero-shot script; "derm7pt": the mean over all patches, as in their concept-annotation script.
        top: for "zero_shot", how many, from 1 on; by default 128 of 729, scaled to the grid.

    Returns:
        float32 [B, K], cosines. Times `concept_logit_scale`, plus `concept_logit_bias`, they are logits.
    """
    if recipe not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, not {recipe!r}.")
    check_top(top)
    cosine = patch_cosines(tokens, vectors)  # [B, P, K]
    if recipe == "training":
        return cosine.amax(1)
    if recipe == "derm7pt":
        return cosine.mean(1)
    count = top_count(cosine.shape[1]) if top is None else top
    return cosine.topk(min(count, cosine.shape[1]), dim=1).values.mean(1)


# --- zero-shot --------------------------------------------------------------------------------------------------------


def zero_shot(
    model: Any,
    processor: Any,
    images: Any,
    classes: Any = None,
    *,
    domain: Any = None,
    templates: str | Sequence[str] | None = None,
    alpha: float = 0.0,
    recipe: str = "zero_shot",
    top: int | None = None,
    window: tuple[float, float] | None = None,
    on_error: str = "raise",
    batch_size: int = 32,
    progress: bool = False,
) -> pd.DataFrame:
    """Which of these classes is in each image? Without training, from their names.

    Global: softmax over classes of the scaled cosines between image and class vectors. Local: softmax over classes of
    the scaled local scores of the names' own tokens. The authors mix both with alpha 0.5.

    Args:
        model, processor: from `helpers.load`.
        images: as in `encode_images`; or ImageEncodings (with tokens if alpha > 0).
        classes: K names; a dict name -> wordings; or a Domain.
        domain: a Domain, or what `Domain.of` takes: its templates serve, and its classes where none are given. A class
            that it knows is asked for in all of its wordings.
        templates: prompt templates with one {} each; by default the domain's, else the bare words.
        alpha: weight of the local score, 0 to 1.
        recipe, top: of the local score, as in `local_scores`.
        window, batch_size, progress: as in `encode_images`.
        on_error: "raise", or "report" to leave out what cannot be read: `.attrs["failures"]` lists it (item, name,
            problem), and a warning counts it.

    Returns:
        DataFrame [B, K] of probabilities, rows sum to one; the index holds file names, or numbers.

    Raises:
        ValueError: classes that no model could tell apart (blanks and case do not count); encodings of another model or
            with NaN; and as in `encode_images`.
    """
    words, domain = _asked(classes, domain, "classes")
    templates = _several(templates, domain and domain.templates)
    mix(torch.zeros(1), torch.zeros(1), alpha)  # what is wrong is said before the images are encoded
    _check_recipe(recipe, RECIPES)
    check_top(top)
    s = scales(model)
    global_vectors = _ensemble(model, processor, list(words.values()), templates, words)
    local_vectors = concept_vectors(model, processor, words, template=templates) if alpha else None

    def score(part: ImageEncodings) -> torch.Tensor:
        found = logits(part.features, global_vectors, s.logit_scale).softmax(-1)
        if local_vectors is None:
            return found
        local = local_scores(joint_tokens(part), local_vectors, recipe=recipe, top=top)
        return mix((s.concept_logit_scale * local).softmax(-1), found, alpha)

    options = {"batch_size": batch_size, "window": window, "on_error": on_error, "progress": progress}
    return _scored(model, processor, images, bool(alpha), score, list(words), options)


# --- concept annotation -----------------------------------------------------------------------------------------------


@without_autocast
def annotate(
    model: Any,
    processor: Any,
    images: Any,
    concepts: Any = None,
    *,
    domain: Any = None,
    recipe: str = "training",
    template: str | Sequence[str] | None = None,
    reference: str | Sequence[str] | bool = False,
    alpha: float | None = None,
    top: int | None = None,
    offset: int = 0,
    pad_to: int | None = 77,
    window: tuple[float, float] | None = None,
    on_error: str = "raise",
    batch_size: int = 32,
    progress: bool = False,
) -> pd.DataFrame:
    """Is each concept in each image? One probability a pair, concepts judged independently.

    Without a reference prompt: the sigmoid of the trained logit, scale and bias. With one (the authors' way): softmax
    over the pair (positive prompt, reference prompt), which is the sigmoid of positive minus reference. Several
    templates, wordings or reference prompts are ensembles: the mean direction of their vectors counts.

    Args:
        model, processor: from `helpers.load`.
        images: as in `encode_images`; or ImageEncodings (with tokens if the recipe has a local part).
        concepts: K phrases; a dict name -> wordings; or a Domain.
        domain: a Domain, or what `Domain.of` takes: its concept templates and reference prompts serve, and its concepts
            where none are given. A concept that it knows is asked for in all of its wordings.
        recipe: "global": the whole picture alone; or a recipe of `local_scores`, whose local score is mixed with the
            global one by alpha: "training", "zero_shot", "derm7pt" (the authors' for this task).
        template: the positive prompt, with one {}; or several. By default the domain's, else the bare words.
        reference: False: none. Else the same prompt without the concept, or its denial with a {} ("no {}"); or several;
            or True for the domain's.
        alpha: weight of the local score; 0 for "global", else 0.5 by default. (The Derm7pt script's own alpha weighs
            the global one; at 0.5 they agree.)
        top: of the recipe "zero_shot", as in `local_scores`.
        offset: moves the concept's span, as in `span_vector` ("training" and "zero_shot" only).
        pad_to: for "derm7pt": 77 as the authors pad, None for the last real position.
        window, batch_size, progress: as in `encode_images`.
        on_error: as in `zero_shot`.

    The default, "training" without a reference prompt, is what found most on real cells: on the 1,030 photographs of
    WBCAtt's validation split, mean AUROC over the attributes that experts gave, read by the model that ships
    (`recipes/compare_recipes.py` measures it):

        recipe       alpha   without a reference     against "a cell photo"
        training     0.5     0.805 (0.794–0.815)     0.782 (0.772–0.791)
        global       0       0.802 (0.792–0.812)     0.779 (0.768–0.788)
        zero_shot    0.5     0.802 (0.792–0.812)     0.777 (0.766–0.787)
        derm7pt      0.5     0.802 (0.792–0.812)     0.712 (0.701–0.722)

    Its lead over "global" is small (+0.003, paired 0.000 to 0.005), and "global" needs no patch vectors: take it where
    only `features` are stored. What the reference prompt costs is not small.

    The local text vectors follow the recipe: "derm7pt" takes the last text position of either prompt (see
    `last_position_vectors`); "training" and "zero_shot" take the concept's own span in the positive prompt, and all
    words of the reference prompt (the authors give no reference for these two: this is the plain extension).

    Returns:
        DataFrame [B, K] of probabilities; rows do not sum to one.

    Raises:
        ValueError: as in `zero_shot`.
    """
    words, domain = _asked(concepts, domain, "concepts")
    templates = _several(template, domain and domain.concept_templates)
    references = _references(reference, domain)
    _check_recipe(recipe, ("global", *RECIPES))
    if alpha is None:
        alpha = 0.0 if recipe == "global" else 0.5
    if recipe == "global" and alpha:
        raise ValueError(f"recipe='global' has no local part to weigh with alpha={alpha}: name one of {RECIPES}.")
    mix(torch.zeros(1), torch.zeros(1), alpha)
    check_top(top)
    s = scales(model)
    denials = _denials(references, words)
    positive = _ensemble(model, processor, list(words.values()), templates, words)
    negative = _ensemble(model, processor, denials, ("{}",)) if denials else None
    local_positive = local_negative = None
    if alpha:
        if recipe == "derm7pt":
            prompts = [[fill(t, phrase)[0] for phrase in group for t in templates] for group in words.values()]
            local_positive = _last_positions(model, processor, prompts, pad_to)
            local_negative = _last_positions(model, processor, denials, pad_to) if denials else None
        else:
            local_positive = concept_vectors(model, processor, words, template=templates, offset=offset)
            local_negative = concept_vectors(model, processor, denials) if denials else None

    def score(part: ImageEncodings) -> torch.Tensor:
        features = part.features.float()
        found = _pair(lambda v: features @ v.T, positive, negative, s.logit_scale, s.logit_bias)
        if not alpha:
            return found
        patches = joint_tokens(part)
        local = _pair(
            lambda v: local_scores(patches, v, recipe=recipe, top=top),
            local_positive,
            local_negative,
            s.concept_logit_scale,
            s.concept_logit_bias,
        )
        return mix(local, found, alpha)

    options = {"batch_size": batch_size, "window": window, "on_error": on_error, "progress": progress}
    return _scored(model, processor, images, bool(alpha), score, list(words), options)


def _pair(cosine: Any, positive: Any, negative: Any, scale: float, bias: float) -> torch.Tensor:
    """Probability of the positive prompt: against the reference (a softmax over two is a sigmoid), or alone."""
    if negative is None:
        return (scale * cosine(positive) + bias).sigmoid()
    return (scale * (cosine(positive) - cosine(negative))).sigmoid()


def _references(reference: str | Sequence[str] | bool | None, domain: Domain | None) -> Sequence[str]:
    if reference is None or reference is False or (isinstance(reference, (list, tuple)) and not reference):
        return ()
    if reference is not True:
        return _several(reference, None)
    if domain is None or not domain.references:
        raise ValueError(
            f"reference=True asks for the domain's reference prompts, and {domain or 'no domain'} has none."
        )
    return domain.references


def _denials(references: Sequence[str], words: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The reference prompts of each concept; one list for all of them where no prompt names the concept."""
    if not any("{}" in reference for reference in references):
        return [list(references)] if references else []
    return [
        [text for r in references for text in ([fill(r, phrase)[0] for phrase in group] if "{}" in r else [r])]
        for group in words.values()
    ]


def _last_positions(model: Any, processor: Any, groups: Sequence[Sequence[str]], pad_to: int | None) -> torch.Tensor:
    vectors = last_position_vectors(model, processor, [text for group in groups for text in group], pad_to=pad_to)
    return prototypes(vectors.split([len(group) for group in groups]))


# --- several pictures of one case -------------------------------------------------------------------------------------


def pool(values: Any, cases: Any, how: str = "mean") -> Any:
    """Several crops (views, slices) of one case as one row: their vectors, or their scores.

    Args:
        values: ImageEncodings, or a table of scores with one row a picture, as `zero_shot` and `annotate` return.
        cases: which case each picture belongs to: a Series or dict by picture name, in any order; or a list in the
            order of the rows. A picture whose case is empty stands alone, under its own name.
        how: "mean": the mean direction of the unit vectors, or the mean score; "max": the largest value in each
            coordinate (of unit vectors, made unit length again), or the largest score.

    Returns:
        As `values`, one row a case in the order of their first picture. Encodings come without patch vectors, and
        `index` holds the position of each case's first picture; scores pooled by "max" do not sum to one.

    Raises:
        ValueError: a picture that `cases` does not name, or names twice; a list of another length.
    """
    if how not in ("mean", "max"):
        raise ValueError(f"how must be 'mean' or 'max', not {how!r}.")
    if not isinstance(values, (ImageEncodings, pd.DataFrame)):
        raise TypeError(f"values is a {type(values).__name__}: pass ImageEncodings, or a table of scores.")
    names = values.names if isinstance(values, ImageEncodings) else [str(name) for name in values.index]
    labels = pd.Series(_cases(cases, names), dtype=object, name="case")
    order = labels.drop_duplicates()
    if not isinstance(values, ImageEncodings):
        grouped = values.groupby(labels.to_numpy(), sort=False)
        return (grouped.mean() if how == "mean" else grouped.max()).rename_axis("case")
    unit = F.normalize(values.features.float(), dim=-1)
    parts = [unit[[row for row, label in enumerate(labels) if label == case]] for case in order]
    pooled = torch.stack([part.mean(0) if how == "mean" else part.amax(0) for part in parts])
    return ImageEncodings(
        features=F.normalize(pooled, dim=-1).to(values.features.dtype),
        tokens=None,
        grid=values.grid,
        index=values.index[order.index.tolist()],
        names=order.tolist(),
        failures=values.failures,
    )


def _cases(cases: Any, names: Sequence[str]) -> list[str]:
    if isinstance(cases, Mapping):
        cases = pd.Series(cases, dtype=object)
    if isinstance(cases, str) or not hasattr(cases, "__len__"):
        raise TypeError(f"cases is a {type(cases).__name__}: give one case for each picture, in a list or by name.")
    if isinstance(cases, pd.Series) and not row_numbers(cases.index):
        twice = cases.index[cases.index.duplicated()]
        if len(twice):
            raise ValueError(f"cases names {twice[0]!r} twice. Keep one row for each picture.")
        missing = [name for name in names if name not in cases.index]
        if missing:
            raise ValueError(f"cases says nothing of {missing[0]!r}: give a case for each picture, or an empty one.")
        found = cases.reindex(list(names)).tolist()
    else:
        found = list(cases)
        if len(found) != len(names):
            raise ValueError(f"cases holds {len(found)} entries for {len(names)} pictures: give one each, or a dict.")
    empty = [case is None or case is pd.NA or case != case or case == "" for case in found]
    # A column of whole numbers with a gap is one of floats in pandas: 7.0 is the case 7.
    texts = [str(int(case)) if isinstance(case, float) and case.is_integer() else str(case) for case in found]
    return [name if none else text for name, text, none in zip(names, texts, empty, strict=True)]


# --- small things -----------------------------------------------------------------------------------------------------


def _asked(what: Any, domain: Any, among: str) -> tuple[dict[str, tuple[str, ...]], Domain | None]:
    """What is asked for, name → wordings, and the domain whose sentences it stands in."""
    if isinstance(what, Domain):
        if domain is not None:
            raise ValueError(f"There are two domains: {what!r} in place of {among}, and domain={domain!r}. Give one.")
        what, domain = None, what
    domain = None if domain is None else Domain.of(domain)
    known: Mapping[str, tuple[str, ...]] = getattr(domain, among, {})
    if what is None:
        if not known:
            whose = f"{domain!r} has none" if domain else "and no domain"
            raise ValueError(
                f"No {among} were given, {whose}: pass a list of names, a dict name → wordings or a Domain."
            )
        return dict(known), domain
    if isinstance(what, str) and among == "concepts":
        what = [what]
    words = wordings(what, among)
    if not words:
        raise ValueError(f"No {among} were given: pass at least one name.")
    if not isinstance(what, Mapping):  # a name that the domain knows is said in all of its wordings
        words = wordings({name: known.get(name, found) for name, found in words.items()}, among)
    return words, domain


def _several(given: str | Sequence[str] | None, default: Sequence[str] | None) -> list[str]:
    if given is None:
        return list(default or ("{}",))
    if not isinstance(given, Iterable):
        raise TypeError(f"A prompt or template is a text, or a list of them, not a {type(given).__name__}.")
    several = [given] if isinstance(given, str) else list(given)
    if not several:
        raise ValueError("There are no templates in that list: give one, such as '{}', or leave the argument out.")
    return several


def _check_recipe(recipe: str, known: Sequence[str]) -> None:
    if recipe not in known:
        raise ValueError(f"recipe must be one of {', '.join(known)}, not {recipe!r}.")


def _scored(
    model: Any, processor: Any, images: Any, tokens: bool, score: Any, columns: list[str], options: dict[str, Any]
) -> pd.DataFrame:
    """The scores of all pictures, batch by batch, one row each; what could not be read in `.attrs`."""
    check_options(options["batch_size"], options["on_error"])
    rows, index, failures = [], [], []
    for part in _parts(model, processor, images, tokens, options):
        rows.append(score(part))
        index += part.names
        failures += part.failures.to_dict("records")
    table = pd.DataFrame(torch.cat(rows).numpy(), index=pd.Index(index, dtype=object, name="image"), columns=columns)
    table.attrs["failures"] = failures
    if failures and not isinstance(images, ImageEncodings):
        warnings.warn(
            f"{len(failures)} of {len(failures) + len(table)} images were left out, {failures[0]['name']} first: "
            ".attrs['failures'] of the table says why.",
            stacklevel=3,
        )
    return table


def _parts(model: Any, processor: Any, images: Any, tokens: bool, options: dict[str, Any]) -> Iterator[ImageEncodings]:
    """The images' encodings batch by batch; those that are encoded already in one piece."""
    if isinstance(images, ImageEncodings):
        return iter([usable(model, images, tokens=tokens)])
    return iter_image_encodings(model, processor, images, tokens=tokens, **options)
