"""The teaching paths of tools/paths.toml: their timetables, and their notebooks with everything else cut out.

python -m tools.paths                  the timetable of every path, and what is wrong with one
python -m tools.paths three-hours      of one
python -m tools.notebooks student --path three-hours      its notebooks, for the learners
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools.chapters import Chapter, chapters
from tools.sections import Section, read, sections

FILE = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True)
class Part:
    """A piece of one notebook; or, without a chapter, something else that takes `minutes`."""

    what: str
    minutes: float
    chapter: Chapter | None = None
    sections: tuple[str, ...] = ()
    exercises: tuple[str, ...] = ()
    ends_day: bool = False


@dataclass(frozen=True)
class TeachingPath:
    """A path: what is done in which order, and the minutes of a day's slot that it must fit into."""

    name: str
    title: str
    slot: int
    parts: tuple[Part, ...]

    @property
    def days(self) -> list[list[Part]]:
        """The parts of each day."""
        found: list[list[Part]] = [[]]
        for part in self.parts:
            found[-1].append(part)
            if part.ends_day and part is not self.parts[-1]:
                found.append([])
        return found

    @property
    def chapters(self) -> list[Chapter]:
        """The chapters of which something is done, each once."""
        return list(dict.fromkeys(part.chapter for part in self.parts if part.chapter))

    def keeps(self, chapter: Chapter) -> tuple[set[str], set[str]]:
        """What stays of a chapter: the titles of its sections, and its exercises."""
        parts = [part for part in self.parts if part.chapter == chapter]
        return {s for part in parts for s in part.sections}, {e for part in parts for e in part.exercises}

    def notebooks(self) -> dict[Chapter, NotebookNode]:
        """Each chapter's notebook with everything else cut out."""
        whole = {chapter: nbformat.read(chapter.path, as_version=4) for chapter in self.chapters}
        return {chapter: cut(nb, *self.keeps(chapter)) for chapter, nb in whole.items()}

    def problems(self) -> list[str]:
        """What is wrong with the path, without running it: too long, or a name is used that a cut section defines."""
        found = []
        for i, parts in enumerate(self.days, start=1):
            if (minutes := _minutes(parts)) > self.slot:
                day = f"day {i} of {self.name}" if len(self.days) > 1 else self.name
                found.append(f"{day} takes {minutes:.0f} minutes, and its slot has {self.slot}: cut something.")
        undefined = undefined_names({chapter.number: nb for chapter, nb in self.notebooks().items()})
        for chapter in self.chapters:
            cut_out = [s.title for s in _sections(chapter.path) if s.title and s.title not in self.keeps(chapter)[0]]
            for name in undefined[chapter.number]:
                found.append(
                    f"{self.name}: notebook {chapter.number} uses {name!r}, which no cell defines that stays. "
                    f"Keep the section that defines it; cut are: {', '.join(cut_out) or 'only exercises'}."
                )
        return found

    def timetable(self) -> str:
        """One line for each part: when it begins, what it is, and its minutes."""
        lines = []
        for i, parts in enumerate(self.days, start=1):
            day = f", day {i}" if len(self.days) > 1 else ""
            lines.append(f"{self.title}{day}: {_minutes(parts):.0f} of {self.slot} minutes")
            clock = 0.0
            for part in parts:
                lines.append(f"  {int(clock) // 60}:{int(clock) % 60:02}  {part.minutes:>4.0f} min  {part.what}")
                clock += part.minutes
        return "\n".join(lines)


def _minutes(parts: Iterable[Part]) -> float:
    return sum(part.minutes for part in parts)


@cache
def _sections(path: Path) -> list[Section]:
    return read(path)


def load(file: Path = FILE, course: list[Chapter] | None = None) -> dict[str, TeachingPath]:
    """All paths of a file.

    Raises:
        ValueError: a path names a notebook, a section or an exercise that does not exist, or a word that means nothing.
    """
    course = chapters() if course is None else course
    return {name: _path(name, said, course) for name, said in tomllib.loads(file.read_text("utf-8")).items()}


def _path(name: str, said: dict, course: list[Chapter]) -> TeachingPath:
    _known(said, {"title", "minutes", "parts"}, name)
    by_number, parts, begun = {chapter.number: chapter for chapter in course}, [], set()
    for part in said["parts"]:
        if "other" in part:
            _known(part, {"other", "minutes", "ends_day"}, name, optional={"ends_day"})
            parts.append(Part(part["other"], part["minutes"], ends_day=part.get("ends_day", False)))
            continue
        _known(part, {"notebook", "sections", "exercises", "how"}, name, optional={"exercises", "how"})
        if part["notebook"] not in by_number:
            raise ValueError(f"{name}: there is no notebook {part['notebook']!r}; there are {', '.join(by_number)}.")
        chapter = by_number[part["notebook"]]
        parts.append(_part_of_a_notebook(name, part, chapter, first=chapter not in begun))
        begun.add(chapter)
    return TeachingPath(name, said["title"], said["minutes"], tuple(parts))


def _part_of_a_notebook(name: str, part: dict, chapter: Chapter, first: bool) -> Part:
    start, *there = _sections(chapter.path)
    chosen = [_find(name, wanted, there, chapter) for wanted in part["sections"]]
    exercises = tuple(part.get("exercises", ()))
    for exercise in exercises:
        if not any(exercise in section.exercises for section in chosen):
            raise ValueError(
                f"{name}: exercise {exercise!r} does not stand in the sections that are named of notebook "
                f"{chapter.number}; it has {', '.join(e for s in there for e in s.exercises) or 'none'}."
            )
    minutes = sum(section.minutes(exercises) for section in ([start] if first else []) + chosen)
    labels = [str(section.number or f"“{section.title}”") for section in chosen]
    what = f"{chapter.number} {chapter.title}: {', '.join(labels)}"
    what += f"; {', '.join(exercises)}" if exercises else ""
    what += f" ({part['how']})" if "how" in part else ""
    return Part(what, minutes, chapter, tuple(section.title for section in chosen), exercises)


def _find(name: str, wanted: int | str, there: list[Section], chapter: Chapter) -> Section:
    for section in there:
        if wanted in (section.title, section.number):
            return section
    titles = "\n  ".join(section.title for section in there)
    raise ValueError(
        f"{name}: notebook {chapter.number} has no section {wanted!r}. In {FILE.name} write the number that its "
        f"heading begins with, or the whole heading, one of\n  {titles}"
    )


def _known(said: dict, keys: set[str], name: str, optional: set[str] = frozenset()) -> None:
    if wrong := set(said) ^ keys:
        unknown, missing = sorted(wrong - keys), sorted((wrong & keys) - optional)
        if unknown or missing:
            raise ValueError(f"{name} in {FILE.name}: unknown {unknown}, missing {missing} in {said}")


def cut(nb: NotebookNode, keep: set[str] | None, exercises: set[str] | None) -> NotebookNode:
    """A new notebook: what stands before the first heading, the sections named, and in them the exercises named.

    With None, all of them.
    """
    short = nbformat.from_dict(nb)
    short.cells = [
        piece.cell
        for section in sections(nb)
        if not section.title or keep is None or section.title in keep
        for piece in section.pieces
        if piece.exercise is None or exercises is None or piece.exercise in exercises
    ]
    return short


def undefined_names(notebooks: dict[str, NotebookNode]) -> dict[str, list[str]]:
    """For each of the notebooks, the names that its code uses and nothing in it defines, as ruff finds them."""
    found: dict[str, list[str]] = {label: [] for label in notebooks}
    with tempfile.TemporaryDirectory() as folder:
        for label, nb in notebooks.items():
            nbformat.write(nb, Path(folder) / f"{label}.ipynb")
        command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F821"]
        done = subprocess.run([*command, "--output-format", "json", folder], capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise ValueError(f"ruff could not read the notebooks: {done.stderr.strip()}")
    for problem in json.loads(done.stdout):
        names, name = found[Path(problem["filename"]).stem], problem["message"].split("`")[1]
        names += [] if name in names else [name]
    return found


def main(argv: list[str] | None = None) -> int:
    names = sys.argv[1:] if argv is None else argv
    try:
        paths = load()
        if unknown := [name for name in names if name not in paths]:
            raise ValueError(f"There is no path {unknown[0]!r}; there are {', '.join(paths)}.")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    problems = []
    for name in names or paths:
        print(paths[name].timetable(), end="\n\n")
        problems += paths[name].problems()
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
