"""The chapters of the course: where their notebooks lie, and what the first cell of each says about it.

The list of chapters is the folder's content. What is said about a chapter anywhere is read from its first cell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
SOLUTIONS = NOTEBOOKS / "solutions"
BUILD = ROOT / "build"
README = ROOT / "README.md"
WIDGET = "application/vnd.jupyter.widget-view+json"

FIRST_CELL = re.compile(
    r"\A# (?P<number>\d\d) (?P<title>[^\n]+)\n\n"
    r"\*\*(?P<question>[^*\n]+\?)\*\*\n\n"
    r"(?P<summary>.+?)\n\n"
    r"You will be able to:?\n+(?P<goals>(?:[-*] [^\n]+\n(?:  [^\n]+\n)*){3,5})\n"
    r"\*Time\* (?P<core>\d+) minutes(?: core, (?P<whole>\d+) whole)? · \*Memory\* (?P<memory>[^·\n]+) · "
    r"\*Data\* (?P<data>[^·\n]+) · \*Model\* (?P<model>[^·\n]+)\Z",
    re.DOTALL,
)


@dataclass(frozen=True)
class Chapter:
    """One notebook of the course, as its first cell tells it."""

    path: Path
    number: str
    title: str
    question: str
    summary: str
    core: int
    """Minutes of the core; what the first cell says, and `tools.minutes` counts."""
    minutes: int
    """Minutes of all of it."""

    @classmethod
    def read(cls, path: Path) -> Chapter:
        """Read the first cell of the notebook at `path`; a `ValueError` says what its form should be."""
        match = FIRST_CELL.match(nbformat.read(path, as_version=4).cells[0].source.strip())
        if match is None:
            raise ValueError(
                f"{path.name}: its first cell must be '# NN Title', a paragraph that is one question in bold, "
                "one or two sentences, 'You will be able to' with three to five points, and a last line "
                "'*Time* N minutes core, N whole · *Memory* … · *Data* … · *Model* …'; CONTRIBUTING.md shows one."
            )
        text = {name: " ".join(match[name].split()) for name in ("title", "question", "summary")}
        core, whole = int(match["core"]), int(match["whole"] or match["core"])
        return cls(path, match["number"], core=core, minutes=whole, **text)

    @property
    def solutions(self) -> Path:
        return SOLUTIONS / self.path.name


def chapters() -> list[Chapter]:
    """All chapters in reading order."""
    return [Chapter.read(path) for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))]


def everything() -> list[Path]:
    """Every notebook in the folder, solutions last."""
    return sorted(NOTEBOOKS.glob("[!.]*.ipynb")) + sorted(SOLUTIONS.glob("[!.]*.ipynb"))
