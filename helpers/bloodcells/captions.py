"""Captions: sentences that are true of a picture, with the place of every concept in them.

The concept spans are what the paper's second loss (RC-Align, arXiv 2501.15579) pools over; here they are exact, since
the sentence is composed from the concepts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .concepts import CONCEPTS

TEMPLATES = (
    "a cell photo with sign of {}",
    "a photo of {}",
    "{}",
    "{} in a blood smear",
    "a microscopy image of {}",
    "a peripheral blood smear showing {}",
    "a stained blood film with {}",
    "this picture shows {}",
    "there is {} in the image",
    "light micrograph, {}",
    "a blood cell image with {}",
    "May-Grünwald-Giemsa stain: {}",
    "an example of {}",
    "hematology slide with sign of {}",
)
"""Frames for captions; ``{}`` is where the concepts go. The first is the guide's (section 4)."""

_LINKS = (", ", " and ", " with ", ", ")


class Span(NamedTuple):
    """Where a caption names a concept: ``text[start:end]``."""

    concept: str
    start: int
    end: int


class Caption(NamedTuple):
    """A sentence and its concepts."""

    text: str
    spans: tuple[Span, ...]


def compose(template: str, named: Sequence[tuple[str, str]], links: Sequence[str] | None = None) -> Caption:
    """Write concepts into a template and record where they stand.

    Args:
        template: a sentence with one ``{}``.
        named: (concept key, phrase) pairs in reading order.
        links: what stands between two phrases, ``len(named) - 1`` strings; by default commas and a last "and".

    Returns:
        The caption; every span's text is exactly its phrase.

    Raises:
        ValueError: the template has no ``{}``, or nothing is named.
    """
    before, braces, after = template.partition("{}")
    if not braces:
        raise ValueError(f"The template {template!r} has no {{}} for the concepts: put one where they should stand.")
    if not named:
        raise ValueError("A caption needs at least one concept: pass one or more (key, phrase) pairs.")
    if links is None:
        links = [", "] * (len(named) - 2) + [" and "] * (len(named) > 1)
    text, spans = before, []
    for position, (key, phrase) in enumerate(named):
        text += links[position - 1] if position else ""
        spans.append(Span(key, len(text), len(text) + len(phrase)))
        text += phrase
    return Caption(text + after, tuple(spans))


def caption(
    truths: Mapping[str, bool | None], rng: np.random.Generator, *, concepts: int | None = None, canonical: bool = False
) -> Caption:
    """A sentence that is true of the picture.

    Args:
        truths: concept key → truth, from :func:`helpers.bloodcells.truth`.
        rng: where the choice of concepts, phrases and template comes from.
        concepts: how many concepts to name; None draws one to four. Fewer are named when fewer are true.
        canonical: use the first phrase and the first template instead of drawing them.

    Returns:
        A :class:`Caption`. At most one concept of each group is named, and the type, when named, comes first.

    Raises:
        ValueError: nothing is true of the picture.
    """
    groups: dict[str, list[str]] = {}
    for key, value in truths.items():
        if value:
            concept = CONCEPTS[key]
            groups.setdefault(concept.key if concept.group == "scene" else concept.group, []).append(key)
    if not groups:
        raise ValueError("No concept is true of this picture, so it has no caption: check the truths passed in.")
    wanted = int(rng.choice((1, 2, 3, 4), p=(0.7, 0.1, 0.12, 0.08))) if concepts is None else concepts
    names = list(groups)
    chosen = [groups[names[i]] for i in rng.permutation(len(names))[:wanted]]
    keys = [keys[rng.integers(len(keys))] for keys in chosen]
    keys.sort(key=lambda key: CONCEPTS[key].group != "type")
    if canonical:
        return compose(TEMPLATES[0], [(key, CONCEPTS[key].phrases[0]) for key in keys])
    named = []
    for key in keys:
        phrases = CONCEPTS[key].phrases
        # The canonical phrase is what people type most: it gets half of the weight.
        phrase = phrases[0] if rng.random() < 0.5 else phrases[rng.integers(len(phrases))]
        named.append((key, phrase))
    links = [_LINKS[rng.integers(len(_LINKS))] for _ in named[1:]]
    return compose(TEMPLATES[rng.integers(len(TEMPLATES))], named, links)
