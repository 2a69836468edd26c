"""What the concept explorer computes: a picture is encoded once, a phrase once, and every question is arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image

from ..conceptclip.processing_conceptclip import text_list
from ..domains import Domain
from ..encoding import encode_images, encode_texts, iter_image_encodings
from ..files import stripped
from ..images import as_shown, image_names
from ..labels import words_of
from ..scoring import local_scores, logits, scales
from ..tokens import PatchGrid, cosine_maps, fill, patch_grid, piece_table, span_positions, span_vector

SCORES = ("cosine", "sigmoid", "softmax")
SIDES = ("global", "local")
COLUMNS = [f"{side} {score}" for side in SIDES for score in SCORES]

ATLAS_DOMAIN = "blood cells"
"""The domain of the pictures that ship, which the explorers show unless they are given others."""

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) as shares of the picture's width and height, so that it fits any size of it."""


@dataclass(frozen=True)
class Phrase:
    """A phrase and all that is compared with a picture. T real pieces of its prompt, D the joint width.

    Attributes:
        text: what was typed, without blanks at the ends.
        prompt: the phrase in its template: what the text tower read.
        features: float [D], the whole prompt's vector, unit length: for the global score.
        vector: float [D], the mean of the phrase's own token vectors, unit length: for maps and local scores.
        tokens: float [T, D], each piece's projected vector.
        pieces: T strings.
        own: the positions of the phrase itself among the pieces.
    """

    text: str
    prompt: str
    features: torch.Tensor
    vector: torch.Tensor
    tokens: torch.Tensor
    pieces: list[str]
    own: list[int]


@dataclass(frozen=True)
class Sight:
    """A picture as the model sees it. P patches, D the joint width.

    Attributes:
        image: PIL, RGB.
        name: what it is called.
        features: float [D], unit length.
        patches: float [P, D], unit length, row by row.
        grid: where each patch lies.
    """

    image: Image.Image
    name: str
    features: torch.Tensor
    patches: torch.Tensor
    grid: PatchGrid

    def map(self, vector: torch.Tensor) -> np.ndarray:
        """Cosine of every patch with one vector [D]: float [h, w]."""
        return cosine_maps(self.patches[None], vector[None], self.grid.shape)[0, 0].numpy()

    def patches_in(self, box: Box) -> list[int]:
        """The patches whose centres a box holds; of a box too small for that, the one at its middle.

        Raises:
            ValueError: it lies where no patch looks (the strip at the right and bottom that the model never sees).
        """
        left, top, right, bottom = box
        inside = []
        for patch in range(len(self.grid)):
            x0, y0, x1, y1 = self.grid.box(patch, (1, 1))
            if left <= (x0 + x1) / 2 <= right and top <= (y0 + y1) / 2 <= bottom:
                inside.append(patch)
        middle = self.grid.at((left + right) / 2, (top + bottom) / 2, (1, 1))
        found = inside or [patch for patch in [middle] if patch is not None]
        if not found:
            raise ValueError("No patch of the model looks at this place. Choose a box further inside the picture.")
        return found

    def box_of(self, patches: Sequence[int]) -> Box:
        """The smallest box around some patches."""
        corners = np.array([self.grid.box(patch, (1, 1)) for patch in patches])
        return *corners[:, :2].min(0).tolist(), *corners[:, 2:].max(0).tolist()

    def region(self, patches: Sequence[int], phrases: Sequence[Phrase], *, by: str = "here") -> pd.DataFrame:
        """Image → text: the phrases that fit a region of the picture, best first.

        Args:
            patches: patch numbers of the region.
            phrases: what to choose from.
            by: "here": the mean cosine of the region's patches with the phrase; "difference": that, less the mean of
                all other patches, which lets a phrase that fits everywhere fall behind.

        Returns:
            DataFrame indexed by phrase, columns here, elsewhere, difference (the last two NaN if nothing is left).
        """
        if by not in ("here", "difference"):
            raise ValueError(f"by must be 'here' or 'difference', not {by!r}.")
        if not len(patches):
            raise ValueError("The region holds no patch: drag a box on the picture.")
        inside = torch.zeros(len(self.grid), dtype=torch.bool)
        inside[list(patches)] = True
        cosine = self.patches @ torch.stack([phrase.vector for phrase in phrases]).T  # [P, K]
        here, elsewhere = cosine[inside].mean(0), cosine[~inside].mean(0)
        table = pd.DataFrame(
            {"here": here, "elsewhere": elsewhere, "difference": here - elsewhere},
            index=pd.Index([phrase.text for phrase in phrases], name="phrase"),
        )
        by = "here" if inside.all() else by
        return table.sort_values(by, ascending=False, kind="stable")

    def region_vector(self, patches: Sequence[int]) -> torch.Tensor:
        """The mean direction of some patches: float [D], unit length."""
        return F.normalize(self.patches[list(patches)].mean(0), dim=-1)

    def similar(self, patches: Sequence[int], k: int = 5) -> list[tuple[int, float]]:
        """The patches outside a region that are most like it: (patch number, cosine), most alike first."""
        cosine = self.patches @ self.region_vector(patches)
        cosine[list(patches)] = -torch.inf
        top = cosine.topk(min(k, max(0, len(self.grid) - len(set(patches)))))
        return list(zip(top.indices.tolist(), top.values.tolist(), strict=True))


def first_wordings(domain: Domain) -> list[str]:
    """The first wording of each concept of a domain; of each class, where it has no concepts."""
    return [words[0] for words in (domain.concepts or domain.classes).values()]


def phrase_list(phrases: Any, name: str) -> list:
    """Phrases in their order: one, a sequence of them, or a Domain, whose first wordings are meant.

    Raises:
        TypeError: something without an order, or that is no sequence; `name` is what the message calls it.
    """
    if isinstance(phrases, Domain):
        return first_wordings(phrases)
    return [phrases] if isinstance(phrases, str) else text_list(phrases, name)


class ConceptSession:
    """A model that is asked about pictures. Each phrase is encoded when it is first met, and kept.

    Args:
        model, processor: from `helpers.load`.
        vocabulary: phrases that a region is described with, and that fix the colour scale; by default those of the
            domain.
        domain: a Domain, or what `Domain.of` takes; the first wording of each of its concepts (of its classes, where it
            has no concepts) is the vocabulary.
        template: what stands around a phrase in its prompt.

    Attributes:
        grid: the model's PatchGrid.
        scales: logit scales and biases.
    """

    def __init__(
        self, model, processor, *, vocabulary: Sequence[str] | None = None, domain=ATLAS_DOMAIN, template: str = "{}"
    ):
        self.model, self.processor, self.template = model, processor, template
        self.grid, self.scales = patch_grid(model), scales(model)
        texts = first_wordings(Domain.of(domain)) if vocabulary is None else phrase_list(vocabulary, "vocabulary")
        self._known: dict[str, Phrase] = {}
        self.vocabulary = list(dict.fromkeys(phrase.text for phrase in self.phrases(texts)))
        if not self.vocabulary:
            raise ValueError("vocabulary is empty: give at least one phrase, or leave it out for the domain's.")

    def phrases(self, texts: Sequence[str]) -> list[Phrase]:
        """Phrases, encoded in one batch unless they are known. What is read as the same words is one phrase.

        Raises:
            ValueError: one is no text or empty, or so long that it was cut.
        """
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"{text!r} is a {type(text).__name__}, and a phrase is a text: write it in words.")
            if not words_of(text):
                raise ValueError(f"The phrase {text!r} is empty: write at least one word.")
        keys = [words_of(text) for text in texts]
        met = dict(zip(reversed(keys), reversed([stripped(text) for text in texts]), strict=True))  # the first spelling
        new = {key: met[key] for key in dict.fromkeys(keys) if key not in self._known}
        if new:
            filled = [fill(self.template, text) for text in new.values()]
            encodings = encode_texts(self.model, self.processor, [prompt for prompt, _ in filled], tokens=True)
            assert encodings.tokens is not None  # asked for
            for n, ((key, text), (prompt, span)) in enumerate(zip(new.items(), filled, strict=True)):
                real = encodings.mask[n]
                self._known[key] = Phrase(
                    text=text,
                    prompt=prompt,
                    features=encodings.features[n],
                    vector=F.normalize(span_vector(encodings, n, span), dim=-1),
                    tokens=encodings.tokens[n, real],
                    pieces=piece_table(encodings, n)["piece"].tolist()[: int(real.sum())],
                    own=span_positions(encodings, n, span),
                )
        return [self._known[key] for key in keys]

    def phrase(self, text: str) -> Phrase:
        """One phrase."""
        return self.phrases([text])[0]

    def look(self, image, name: str | None = None) -> Sight:
        """Encode a picture: any image that `helpers.encode_images` takes, but one.

        Raises:
            ValueError: it cannot be read; the message names it, what is wrong and the cure.
        """
        return self.looks([image], None if name is None else [name])[0]

    def looks(self, images: Sequence, names: Sequence[str] | None = None) -> list[Sight]:
        """Several pictures, in one batch."""
        names = image_names(images) if names is None else list(names)
        encoded = encode_images(self.model, self.processor, images, tokens=True)
        assert encoded.tokens is not None  # asked for
        return [
            Sight(
                image=as_shown(image, name),
                name=name,
                features=encoded.features[n],
                patches=F.normalize(encoded.tokens[n].float(), dim=-1),
                grid=self.grid,
            )
            for n, (image, name) in enumerate(zip(images, names, strict=True))
        ]

    def scores(self, sight: Sight, phrases: Sequence[Phrase]) -> pd.DataFrame:
        """How well each phrase fits the whole picture, in the three readings of one cosine.

        Global: the picture's vector with the prompt's. Local: the best patch with the phrase's own tokens, as in
        training. The sigmoid asks of each phrase alone whether it fits; the softmax asks which of *these* fits best,
        so it changes with the company.

        Returns:
            DataFrame indexed by phrase; columns "global cosine", "global sigmoid", "global softmax", and local alike.
        """
        s = self.scales
        global_ = sight.features[None] @ torch.stack([phrase.features for phrase in phrases]).T
        local = local_scores(sight.patches[None], torch.stack([phrase.vector for phrase in phrases]), recipe="training")
        columns = []
        for cosine, scale, bias in (
            (global_, s.logit_scale, s.logit_bias),
            (local, s.concept_logit_scale, s.concept_logit_bias),
        ):
            logit = logits(cosine, torch.eye(len(phrases)), scale, bias)[0]
            columns += [cosine[0], logit.sigmoid(), logit.softmax(-1)]
        index = pd.Index([phrase.text for phrase in phrases], name="phrase")
        return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)), index=index)

    def limits(self, sight: Sight) -> tuple[float, float]:
        """The ends of the colour scale for maps of one picture: the same for every phrase, so that maps compare.

        The 1st and the 99.8th percentile of the maps of all of the vocabulary.
        """
        vectors = torch.stack([phrase.vector for phrase in self.phrases(self.vocabulary)])
        low, high = np.percentile((sight.patches @ vectors.T).numpy(), [1, 99.8])
        return float(low), max(float(high), float(low) + 1e-3)


@dataclass
class PatchIndex:
    """The patches of many pictures, to search them for what is like a region. N pictures, P patches each.

    Attributes:
        patches: float16 [N, P, D], unit length.
        rows: int64 [N], the position of each picture in the list that was given: what cannot be read is left out.
    """

    patches: torch.Tensor
    rows: torch.Tensor

    @classmethod
    def build(
        cls, session: ConceptSession, images, *, batch_size: int = 4, progress: Callable[[int], None] | None = None
    ) -> PatchIndex:
        """Encode pictures; `progress` is called with the number done after each batch."""
        parts, rows, done = [], [], 0
        options: dict[str, Any] = {"batch_size": batch_size, "tokens": True, "on_error": "report"}
        for part in iter_image_encodings(session.model, session.processor, images, **options):
            assert part.tokens is not None  # asked for
            parts.append(F.normalize(part.tokens.float(), dim=-1).half())
            rows.append(part.index)
            done += len(part) + len(part.failures)
            if progress:
                progress(done)
        return cls(torch.cat(parts), torch.cat(rows))

    def search(
        self, vector: torch.Tensor, k: int = 8, *, leave_out: Sequence[int] = ()
    ) -> list[tuple[int, int, float]]:
        """The k pictures with the patch most like a vector [D]: (picture, patch, cosine), most alike first."""
        best, patch = (self.patches.float() @ vector).max(1)
        out = torch.isin(self.rows, torch.tensor(list(leave_out), dtype=torch.long))
        best[out] = -torch.inf
        order = best.topk(min(k, len(best) - int(out.sum()))).indices.tolist()
        return [(int(self.rows[n]), int(patch[n]), float(best[n])) for n in order]
