"""A notebook as its sections: what stands under each `##` heading, and how long it takes.

A section says what it is in the line under its heading: `*core · 5 min*`, `*optional · 5 min*` or
`*reference · 2 min*`. `tools.minutes` counts with these sections, `tools.paths` and `tools.student` cut with them,
`tools.slides` takes its pictures from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

WORDS_A_MINUTE = 150
MINUTES_A_CELL = 1
MINUTES_AN_EXERCISE = 6

HEADING = re.compile(r"^## +(?P<title>.+?)\s*$")
EXERCISE = re.compile(r"^(?:### +Exercise +|\*\*Exercise +)(?P<name>\d\d-\w+)")
CHECK = re.compile(r"""helpers\.check\(\s*["'](\d\d-\w+)["']""")
MARK = re.compile(r"\A## .+\n\n?\*(?P<kind>core|optional|reference) · (?P<minutes>\d+) min\*[ \t]*(?=\n|\Z)")
DETAILS = re.compile(r"<details\b.*?</details>", re.DOTALL)


@dataclass
class Piece:
    """A cell, or a part of a Markdown cell that holds several headings or an exercise; and the exercise it is of."""

    cell: NotebookNode
    exercise: str | None = None

    @property
    def is_code(self) -> bool:
        return self.cell.cell_type == "code"


@dataclass
class Section:
    """What stands under one `##` heading; the title of what stands before the first one is empty."""

    title: str = ""
    pieces: list[Piece] = field(default_factory=list)

    @property
    def number(self) -> int | None:
        """The number that the heading begins with, as in "4 The sigmoid: does this prompt fit?"."""
        match = re.match(r"(\d+) ", self.title)
        return int(match[1]) if match else None

    @property
    def mark(self) -> tuple[str, int] | None:
        """What the line under the heading says, such as ("core", 5); None where there is no such line."""
        match = MARK.match(self.pieces[0].cell.source) if self.title else None
        return (match["kind"], int(match["minutes"])) if match else None

    @property
    def exercises(self) -> list[str]:
        """The exercises of the section, in order."""
        return list(dict.fromkeys(name for piece in self.pieces if piece.is_code for name in checked(piece.cell)))

    def minutes(self, exercises: Iterable[str] | None = None) -> float:
        """Words ÷ 150 + 1 a code cell + 6 an exercise; with `exercises`, as if all others were cut out."""
        pieces = [piece for piece in self.pieces if exercises is None or piece.exercise in {None, *exercises}]
        words = sum(count_words(piece.cell.source) for piece in pieces if not piece.is_code)
        names = [name for name in self.exercises if exercises is None or name in exercises]
        cells = sum(piece.is_code for piece in pieces)
        return words / WORDS_A_MINUTE + MINUTES_A_CELL * cells + MINUTES_AN_EXERCISE * len(names)


def checked(cell: NotebookNode) -> list[str]:
    """The exercises that a code cell hands to `helpers.check`."""
    return CHECK.findall(cell.source)


def count_words(markdown: str) -> int:
    """The words that a reader reads: without what is folded away in <details>, tags, link targets and marks."""
    text = DETAILS.sub(" ", markdown)
    text = re.sub(r"(?m)^\*(?:core|optional|reference) · \d+ min\*\s*$", " ", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)\s]*\)", r"\1", text)
    text = re.sub(r"<[^>\n]+>", " ", text)
    return sum(bool(re.search(r"\w", word)) for word in text.split())


def sections(nb: NotebookNode) -> list[Section]:
    """The sections of a notebook in order, the first of them what stands before the first heading."""
    found = [Section()]
    for piece in _pieces(nb):
        heading = None if piece.is_code else HEADING.match(piece.cell.source.split("\n", 1)[0])
        if heading:
            found.append(Section(heading["title"]))
        found[-1].pieces.append(piece)
    return found


def read(path: Path) -> list[Section]:
    """The sections of the notebook at `path`."""
    return sections(nbformat.read(path, as_version=4))


def _pieces(nb: NotebookNode) -> Iterator[Piece]:
    """The notebook's cells; a Markdown cell is parted where a heading, an exercise or the end of one stands in it.

    An exercise begins with "### Exercise NN-x" or "**Exercise NN-x", goes to the code cell that checks it, and the
    <details> right behind that cell (hints, the solution) are of it, too.
    """
    exercise, ended = None, False
    for cell in nb.cells:
        if cell.cell_type != "markdown":
            if not ended:
                yield Piece(cell, exercise)
                ended = exercise is not None and exercise in checked(cell)
                continue
            exercise, ended = None, False
            yield Piece(cell)
            continue
        for part in _parts(cell, after_exercise=ended):
            if match := EXERCISE.match(part.source):
                exercise, ended = match["name"], False
            elif re.match(r"#{2,3} ", part.source) or (ended and not part.source.startswith("<details")):
                exercise, ended = None, False
            yield Piece(part, exercise)


def _parts(cell: NotebookNode, after_exercise: bool) -> list[NotebookNode]:
    """A Markdown cell parted before headings and exercises; behind an exercise, also behind its leading <details>."""
    texts, fenced = [""], False
    for line in cell.source.splitlines(keepends=True):
        if line.startswith("```"):
            fenced = not fenced
        if not fenced and (re.match(r"#{2,3} ", line) or EXERCISE.match(line)):
            texts.append("")
        texts[-1] += line
    if after_exercise and (leading := re.match(r"\s*(?:<details\b.*?</details>\s*)+", texts[0], re.DOTALL)):
        texts[0:1] = [leading[0], texts[0][leading.end() :]]
    texts = [text.strip("\n") for text in texts if text.strip()]
    if len(texts) < 2:
        return [cell]
    parts = []
    for i, text in enumerate(texts):
        part = nbformat.from_dict(cell)
        part.source, part.id = text, f"{cell.id[:60]}-{i}"
        parts.append(part)
    return parts
