"""What all graders share: a model with its vectors, one row of the report, and the card's table."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

import helpers
from helpers.bloodcells import CELL_TYPES, CONCEPTS
from helpers.course.attributes import ATTRIBUTE_CONCEPTS, ATTRIBUTE_PHRASES
from helpers.metrics import Estimate

__all__ = [
    "ATTRIBUTE_CONCEPTS",
    "ATTRIBUTE_PHRASES",
    "END",
    "START",
    "TEMPLATES",
    "TYPES",
    "Judge",
    "figure",
    "macro_f1",
    "table_of",
    "write_card",
]

TEMPLATES = ("a photo of {}", "a blood cell image with {}", "a microscopy image of {}")
TYPES = {name: CONCEPTS[name].phrases for name in CELL_TYPES}


class Judge:
    """A model under trial, its processor and the vectors of texts that it has already encoded."""

    def __init__(self, model, processor):
        self.model, self.processor = model, processor
        self.grid = helpers.patch_grid(model)
        self.scales = helpers.scales(model)
        self._texts: dict[str, torch.Tensor] = {}

    def encode(self, images, tokens: bool = False, progress: bool = False):
        """ImageEncodings of pictures or paths."""
        return helpers.encode_images(self.model, self.processor, images, tokens=tokens, progress=progress)

    def texts(self, texts: Iterable[str]) -> torch.Tensor:
        """float32 [N, D] of texts, each encoded once."""
        texts = list(texts)
        if new := list(dict.fromkeys(text for text in texts if text not in self._texts)):
            with warnings.catch_warnings():  # words that it does not know are what some of the grading is about
                warnings.simplefilter("ignore")
                features = helpers.encode_texts(self.model, self.processor, new).features
            self._texts.update(zip(new, features, strict=True))
        return torch.stack([self._texts[text] for text in texts])

    def classes(self, classes: dict[str, tuple[str, ...]]) -> torch.Tensor:
        """float32 [K, D]: one vector a class, the mean over its phrases in each template."""
        groups = [
            self.texts(template.format(p) for p in phrases for template in TEMPLATES) for phrases in classes.values()
        ]
        return helpers.scoring.prototypes(groups)

    def logits(self, features: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        return helpers.logits(features, texts, self.scales.logit_scale, self.scales.logit_bias)

    def sigmoid(self, features: torch.Tensor, texts: torch.Tensor) -> np.ndarray:
        """float [B, N]: the model's probability that each text is true of each picture."""
        return torch.sigmoid(self.logits(features, texts)).numpy()

    def softmax(self, features: torch.Tensor, texts: torch.Tensor) -> np.ndarray:
        """float [B, N]: its probabilities, given that exactly one of the texts is true."""
        return torch.softmax(self.logits(features, texts), dim=1).numpy()

    def maps(self, encodings, phrases: Iterable[str]) -> np.ndarray:
        """float [B, K, h, w]: cosine of each patch with each phrase."""
        vectors = helpers.concept_vectors(self.model, self.processor, list(phrases))
        return helpers.tokens.cosine_maps(encodings.tokens, vectors, encodings.grid).numpy()


def figure(
    key: str,
    what: str,
    where: str,
    measure: str,
    estimate: Estimate,
    target: float | None = None,
    n: int | str | None = None,
    *,
    at_most: bool = False,
    details: dict | None = None,
    **controls,
) -> dict:
    """One row of the report.

    Args:
        key: its name for programs.
        what, where, measure: its name for people; `where` names the split.
        estimate: the value with its interval.
        target: the value should be at least this, or at most if `at_most`.
        n: of what number of things.
        details: numbers that belong to it and are not in the card.
        controls: estimates of the same measure that know less than the model, or more.
    """
    value = float(estimate.value)
    return {
        "key": key,
        "what": what,
        "where": where,
        "measure": measure,
        "value": round(value, 4),
        "low": round(float(estimate.low), 4),
        "high": round(float(estimate.high), 4),
        "target": target,
        "at_most": at_most,
        "met": None if target is None else bool(value <= target if at_most else value >= target),
        "n": n,
        "controls": {name: round(float(control), 4) for name, control in controls.items()},
        "details": details or {},
    }


def macro_f1(truth: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Mean F1 over the classes that occur in either (scikit-learn's macro-F1, quick enough to be resampled).

    Args:
        truth, predicted: int [N], 0 to classes - 1.
    """
    table = np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)
    both = table.sum(0) + table.sum(1)
    return float((2 * table.diagonal()[both > 0] / both[both > 0]).mean())


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def _goal(row: dict) -> str:
    """A row's target, and whether it is met: by the value, and by the whole of its interval."""
    if row["target"] is None:
        return ""
    verdict = "met" if row["met"] else "**missed**"
    if row["met"] and (row["high"] > row["target"] if row["at_most"] else row["low"] < row["target"]):
        verdict += f", interval reaches {'above' if row['at_most'] else 'below'}"
    return f"{'≤' if row['at_most'] else '≥'} {row['target']:g} {verdict}"


def table_of(report: list[dict]) -> str:
    """The card's table, in Markdown."""
    lines = [
        "| what | where | measure | value (95 % interval) | target | beside it | n |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in report:
        controls = ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in row["controls"].items())
        value, low, high = (_number(row[name]) for name in ("value", "low", "high"))
        lines.append(
            f"| {row['what']} | {row['where']} | {row['measure']} | {value} ({low}–{high}) "
            f"| {_goal(row)} | {controls} | {row['n'] or ''} |"
        )
    return "\n".join(lines)


START, END = "<!-- evaluation: made by recipes/evaluate_mini.py -->", "<!-- end of evaluation -->"


def write_card(folder: Path) -> None:
    """Put the table of ``evaluation.json`` between the two marks of the model card."""
    report = json.loads((folder / "evaluation.json").read_text("utf-8"))
    card = folder / "README.md"
    before, _, rest = card.read_text("utf-8").partition(START)
    _, _, after = rest.partition(END)
    unfinished = card.with_suffix(".tmp")
    unfinished.write_text(f"{before}{START}\n{table_of(report)}\n{END}{after}", "utf-8")
    unfinished.replace(card)
