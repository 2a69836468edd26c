"""What the cell designer computes: a cell from its attributes, its scores, and what one attribute does to them.

The sweep is a counterfactual test. The renderer has a random stream for each component, so that two pictures of one
seed which differ in one attribute differ in nothing else, and a difference of their scores has one cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy import stats

from ..bloodcells import (
    ATTRIBUTES,
    CELL_TYPES,
    CONCEPTS,
    Cell,
    Picture,
    attribute_counts,
    part_shares,
    sample_cell,
    truth,
)
from ..bloodcells import render as render_cell
from ..settings import SEED
from .session import ConceptSession, Sight

SWEEP_SEEDS = 7_000_000
"""Seeds of sweeps start here: no picture of the atlas or of the training shares one."""

GRANULES = ("granule_type", "granule_colour", "granularity")
VERDICTS = ("as it should", "the wrong way", "silent", "uncalled", "still", "cannot say")


def typical_cell(cell_type: str) -> Cell:
    """The combination of attributes that most WBCAtt cells of a type show; the type itself is not kept.

    The renderer draws types at different sizes. A cell without a type has one size for each value of `cell_size`, so
    that a change of an attribute is a change of that attribute and of nothing else.
    """
    if cell_type not in CELL_TYPES:
        raise ValueError(f"There is no type {cell_type!r}: choose from {', '.join(CELL_TYPES)}.")
    counts = {cell: n for cell, n in attribute_counts().items() if cell.cell_type == cell_type}
    return replace(max(counts, key=counts.__getitem__), cell_type=None)


def follow(cell: Cell, attribute: str, value: str, *, granules: tuple[str, str] = ("small", "pink")) -> Cell:
    """A cell with one attribute changed, and the granule attributes that must follow.

    Args:
        cell: the cell.
        attribute, value: what to change, and to what.
        granules: (type, colour) for granules that appear where there were none.

    Raises:
        ValueError: no such attribute or value.
    """
    if attribute not in ATTRIBUTES:
        raise ValueError(f"There is no attribute {attribute!r}: choose from {', '.join(ATTRIBUTES)}.")
    changes = {attribute: value}
    if attribute in GRANULES and value not in ("no", "nil") and cell.granularity == "no":
        changes = {"granule_type": granules[0], "granule_colour": granules[1], "granularity": "yes"} | changes
    return cell.replace(**changes)


def occurrences(cell: Cell) -> dict[str, int]:
    """How many WBCAtt cells of each type show exactly this combination; types without one are left out."""
    return {t: n for t in CELL_TYPES if (n := attribute_counts().get(replace(cell, cell_type=t), 0))}


@dataclass(frozen=True)
class Setting:
    """One position of all controls.

    Attributes:
        cell: the eleven attributes.
        seed: everything that the attributes leave open: outline, neighbours, noise.
        stain: the seed of stain and white balance.
    """

    cell: Cell
    seed: int = 0
    stain: int = 0

    def render(self, size: int) -> Picture:
        """The picture, with the cell in the middle."""
        return render_cell(self.cell, self.seed, size, offset=(0.0, 0.0), colour_seed=self.stain)


@dataclass(frozen=True)
class Drawn:
    """A setting, drawn and looked at. `truth`: concept key → True, False or None."""

    setting: Setting
    picture: Picture
    sight: Sight
    scores: pd.DataFrame
    truth: dict[str, bool | None] = field(repr=False)


class Design:
    """The designer's state: the present setting, and the one before it.

    Args:
        session: the model that is asked.
        concepts: keys of `helpers.bloodcells.CONCEPTS`; all by default.
        start: the first setting; a typical neutrophil by default.
    """

    def __init__(self, session: ConceptSession, *, concepts: Sequence[str] | None = None, start: Setting | None = None):
        self.session = session
        self.concepts = list(CONCEPTS if concepts is None else concepts)
        self.phrases = session.phrases([CONCEPTS[key].phrases[0] for key in self.concepts])
        self.start = start or Setting(typical_cell("neutrophil"))
        self.granules = ("small", "pink")
        self.now = self.draw(self.start)
        self.before: Drawn | None = None

    def draw(self, setting: Setting) -> Drawn:
        """Render a setting and score it; the scores are indexed by concept key."""
        picture = setting.render(self.session.grid.size)
        sight = self.session.look(picture.image, "the designed cell")
        scores = self.session.scores(sight, self.phrases).set_axis(self.concepts)
        return Drawn(setting, picture, sight, scores, truth(setting.cell, part_shares(picture.masks), picture.visible))

    def set(self, attribute: str, value: str) -> list[str]:
        """Change one attribute; returns the attributes that followed it."""
        old = self.now.setting.cell
        cell = follow(old, attribute, value, granules=self.granules)
        self.go(replace(self.now.setting, cell=cell))
        return [name for name in ATTRIBUTES if name != attribute and getattr(cell, name) != getattr(old, name)]

    def go(self, setting: Setting) -> bool:
        """Move to a setting; False if it is the present one already."""
        if setting == self.now.setting:
            return False
        drawn = self.draw(setting)  # before anything is changed: an error leaves all as it was
        if setting.cell.granularity == "yes":
            self.granules = (setting.cell.granule_type, setting.cell.granule_colour)
        self.now, self.before = drawn, self.now
        return True

    def reset(self) -> None:
        """Back to the start, with nothing before it."""
        self.granules = ("small", "pink")
        self.now, self.before = self.draw(self.start), None

    def change(self) -> pd.DataFrame | None:
        """Scores now less scores before; None when there is no before."""
        return None if self.before is None else self.now.scores - self.before.scores


# --- one attribute, all its values ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sweep:
    """Scores of one attribute's values. S seeds, V values, K concepts.

    Attributes:
        attribute: its name.
        values: V of them.
        base: the value that the others are compared with.
        concepts: K keys.
        cosines: "global" and "local" → float [S, V, K].
        truth: float [S, V, K], 1 true, 0 false, NaN nobody can say.
        images: V pictures, of the first seed.
        others: whether the other attributes were those of one cell ("fixed") or drawn for each seed ("random").
    """

    attribute: str
    values: tuple[str, ...]
    base: str
    concepts: list[str]
    cosines: dict[str, np.ndarray] = field(repr=False)
    truth: np.ndarray = field(repr=False)
    images: list = field(repr=False)
    others: str = "fixed"

    def changes(self, side: str = "global", *, level: float = 0.95) -> pd.DataFrame:
        """The change of each concept's cosine from the base value to each other one, seed by seed, and their mean.

        Args:
            side: "global" or "local".
            level: of the interval: Student's t over the paired differences of the seeds.

        Returns:
            DataFrame, one row a value and concept: value, concept, change, low, high, expected (+1 should rise, -1
            should fall, 0 should stand still, NaN nobody can say) and verdict, one of `VERDICTS`.
        """
        scores, b = self.cosines[side], self.values.index(self.base)
        rows = []
        for v, value in enumerate(self.values):
            if v == b:
                continue
            difference = scores[:, v] - scores[:, b]  # [S, K]
            mean = difference.mean(0)
            half = stats.t.ppf((1 + level) / 2, len(difference) - 1) * stats.sem(difference, axis=0)
            expected = (self.truth[:, v] - self.truth[:, b]).mean(0)  # NaN if one seed is
            expected = np.where(expected == 0, 0, np.where(np.abs(expected) > 0.5, np.sign(expected), np.nan))
            rows.append(
                pd.DataFrame(
                    {
                        "value": value,
                        "concept": self.concepts,
                        "change": mean,
                        "low": mean - half,
                        "high": mean + half,
                        "expected": expected,
                    }
                )
            )
        table = pd.concat(rows, ignore_index=True)
        table["verdict"] = [
            verdict(*row) for row in table[["low", "high", "expected"]].itertuples(index=False, name=None)
        ]
        return table

    def summary(self, side: str = "global") -> str:
        """What came out, in three lines: called changes, uncalled ones beside what chance gives, and their sizes."""
        changes = self.changes(side)
        verdicts = changes["verdict"].value_counts().reindex(VERDICTS, fill_value=0)
        right, wrong, silent, uncalled, still, _ = verdicts
        lines = [
            f"{right} of {right + wrong + silent} changes that the truth calls for are there; {silent} are not, "
            f"{wrong} go the wrong way.",
            f"Of {uncalled + still} that it does not call for, {uncalled} are there as well; chance alone would give "
            f"about {0.05 * (uncalled + still):.0f}.",
        ]
        size = changes["change"].abs()
        called, quiet = size[changes["expected"].abs() == 1], size[changes["expected"] == 0]
        if len(called) and len(quiet):
            lines.append(f"Their median size: {called.median():.3f} where called for, {quiet.median():.3f} where not.")
        return "\n".join(lines)


def verdict(low: float, high: float, expected: float) -> str:
    """One of `VERDICTS`, from an interval of a change and the direction (+1, 0, -1 or NaN) that it should have."""
    if np.isnan(expected):
        return "cannot say"
    moved = 1 if low > 0 else -1 if high < 0 else 0
    if expected == 0:
        return "uncalled" if moved else "still"
    return "silent" if not moved else "as it should" if moved == expected else "the wrong way"


def sweep(
    design: Design,
    attribute: str,
    *,
    seeds: int = 8,
    base: str | None = None,
    others: str = "fixed",
    progress: Callable[[int], None] | None = None,
) -> Sweep:
    """Let one attribute run through its values while all else stands still, for several seeds.

    Args:
        design: its cell, its stain and its concepts are used; it is not changed.
        attribute: one of the eleven.
        seeds: how many pictures of each value; outline, neighbours and noise differ between them.
        base: the value that others are compared with; the cell's own by default.
        others: "fixed": the other attributes are the design's. "random": they, and the stain, are drawn anew for each
            seed, so that the answer holds for more than one cell.
        progress: called with the number of seeds done.

    Raises:
        ValueError: no such attribute or base, fewer than three seeds.
    """
    if attribute not in ATTRIBUTES:
        raise ValueError(f"There is no attribute {attribute!r}: choose from {', '.join(ATTRIBUTES)}.")
    if seeds < 3:
        raise ValueError(f"{seeds} seeds give no interval: take 3 or more.")
    if others not in ("fixed", "random"):
        raise ValueError(f"others must be 'fixed' or 'random', not {others!r}.")
    values, setting, session = ATTRIBUTES[attribute], design.now.setting, design.session
    base = getattr(setting.cell, attribute) if base is None else base
    if base not in values:
        raise ValueError(f"{attribute} has no value {base!r}: choose from {', '.join(values)}.")
    cosines: dict[str, list] = {"global": [], "local": []}
    truths: list[list[list[float]]] = []
    images: list = []
    for n in range(seeds):
        rng = np.random.default_rng([SEED, SWEEP_SEEDS + n])
        cell = sample_cell(rng, "decorrelated") if others == "random" else setting.cell
        stain = SWEEP_SEEDS + n if others == "random" else setting.stain
        pictures = [
            Setting(follow(cell, attribute, value, granules=design.granules), SWEEP_SEEDS + n, stain).render(
                session.grid.size
            )
            for value in values
        ]
        images = images or [picture.image for picture in pictures]
        scores = [session.scores(sight, design.phrases) for sight in session.looks([p.image for p in pictures])]
        for side, parts in cosines.items():
            parts.append([score[f"{side} cosine"] for score in scores])
        found = [truth(picture.cell, part_shares(picture.masks), picture.visible) for picture in pictures]
        truths.append([[np.nan if (v := t[key]) is None else float(v) for key in design.concepts] for t in found])
        if progress:
            progress(n + 1)
    return Sweep(
        attribute,
        values,
        base,
        design.concepts,
        {side: np.array(parts, dtype=float) for side, parts in cosines.items()},
        np.array(truths),
        images,
        others,
    )
