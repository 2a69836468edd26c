"""How long the notebooks take: words ÷ 150 + 1 a code cell + 6 an exercise, for each section.

    python -m tools.minutes              a table, and every mark that is more than a quarter off
    python -m tools.minutes --write      set the marks' minutes, those of the first cells, of README and of the notes

A mark is the line under a section's heading, `*core · 5 min*`. Whether a section is core, optional or reference is the
author's to say; the minutes are counted here. What stands before the first heading belongs to the core.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import nbformat

from tools import notebooks
from tools.chapters import ROOT, chapters
from tools.sections import MARK, Section, read, sections

TOLERANCE = 0.25
TIME = re.compile(r"(?m)^(\*Time\* )\d+ minutes(?: core, \d+ whole)?(?= · )")
NOTES = ROOT / "teaching" / "notes"
NOTES_TIME = re.compile(r"(?m)^(\*Time\* )\d+ minutes core, \d+ whole$")


def in_whole_minutes(minutes: float) -> int:
    """What is written down: at least one minute."""
    return max(1, round(minutes))


def is_honest(said: int, counted: float) -> bool:
    """Is what is said within a quarter of what is counted, rounding aside?"""
    return abs(said - max(counted, 1)) <= max(TOLERANCE * counted, 0.5)


def core_and_whole(found: list[Section]) -> tuple[float, float]:
    """The minutes of a notebook's core, and of all of it."""
    core = [section for section in found if not section.title or (section.mark or ("core", 0))[0] == "core"]
    return sum(section.minutes() for section in core), sum(section.minutes() for section in found)


def problems(path: Path) -> list[str]:
    """What of a notebook's minutes is missing or more than a quarter off."""
    found, wrong = read(path), []
    for section in found[1:]:
        if section.mark is None:
            wrong.append(f"{path.name}, “{section.title}”: no line such as '*core · 5 min*' under its heading")
        elif not is_honest(section.mark[1], section.minutes()):
            wrong.append(f"{path.name}, “{section.title}”: says {section.mark[1]} min, counted {section.minutes():.1f}")
    first = nbformat.read(path, as_version=4).cells[0].source
    said = re.search(r"(?m)^\*Time\* (\d+) minutes core, (\d+) whole · ", first)
    if said is None:
        return [*wrong, f"{path.name}: its first cell has no '*Time* N minutes core, N whole · …'"]
    for name, minutes, counted in zip(("core", "whole"), map(int, said.groups()), core_and_whole(found), strict=True):
        if not is_honest(minutes, counted):
            wrong.append(f"{path.name}: its first cell says {minutes} minutes {name}, counted {counted:.1f}")
    return wrong


def write(path: Path) -> bool:
    """Set the minutes of a notebook's marks and of its first cell; True if one of them changed."""
    nb = nbformat.read(path, as_version=4)
    found, before = sections(nb), nbformat.writes(nb)
    for section in found[1:]:
        if section.mark:
            old = MARK.match(section.pieces[0].cell.source)[0]
            new = re.sub(r"\d+ min\*$", f"{in_whole_minutes(section.minutes())} min*", old.rstrip())
            for cell in nb.cells:
                if cell.cell_type == "markdown":
                    cell.source = cell.source.replace(old.rstrip(), new)
    core, whole = map(in_whole_minutes, core_and_whole(found))
    nb.cells[0].source = TIME.sub(rf"\g<1>{core} minutes core, {whole} whole", nb.cells[0].source)
    if nbformat.writes(nb) == before:
        return False
    notebooks.write(nb, path)
    return True


def write_notes(path: Path) -> bool:
    """Set the minutes in the teacher's notes to a notebook, where there are notes; True if they changed."""
    notes = NOTES / f"{path.stem}.md"
    if not notes.is_file():
        return False
    before = notes.read_text(encoding="utf-8")
    core, whole = map(in_whole_minutes, core_and_whole(read(path)))
    after = NOTES_TIME.sub(rf"\g<1>{core} minutes core, {whole} whole", before)
    notes.write_text(after, encoding="utf-8", newline="\n")
    return before != after


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.minutes", description=__doc__.split("\n\n")[0])
    parser.add_argument("--write", action="store_true", help="set the minutes to what is counted")
    write_them, wrong = parser.parse_args(argv).write, []
    for path in (chapter.path for chapter in chapters()):
        if write_them:
            changed = write(path), write_notes(path)
            print(f"{path.name}: {'set' if any(changed) else 'as it was'}")
        else:
            core, whole = core_and_whole(read(path))
            print(f"{path.stem:<34}{core:>4.0f} core {whole:>4.0f} whole")
            for section in read(path)[1:]:
                kind, minutes = section.mark or ("no mark", 0)
                print(f"  {section.minutes():>5.1f}  {kind:<9} {minutes:>3}  {section.title}")
        wrong += problems(path)
    if write_them:
        notebooks.update_readme()
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
