"""The learners' notebooks: without outputs, without solutions, and on a path without what is cut out.

`python -m tools.notebooks student [--path three-hours]` writes them as a zip into build/. Unpacked anywhere, they run
wherever `helpers` is installed. What they link to comes along if it is small; a link to what does not is plain text.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import nbformat
from nbformat import NotebookNode

from tools import paths
from tools.chapters import BUILD, ROOT, chapters
from tools.links import anchors
from tools.sections import count_words, sections

SOLUTION = re.compile(
    r"\n*<details\b[^>]*>\s*<summary>\s*(?:<\w+>)*\s*Solution(?:(?!</details>).)*</details>\n*",
    re.DOTALL | re.IGNORECASE,
)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"(?s)```.*?```|`[^`\n]*`")
COMES_ALONG = {".webp", ".png", ".jpg", ".svg", ".md"}
MAX_BYTES = 400_000
READ_ME = ROOT / "teaching" / "for-learners.md"
CHEAT_SHEET = ROOT / "teaching" / "cheat-sheet.html"


def strip(nb: NotebookNode) -> NotebookNode:
    """A notebook without outputs and without folded solutions; hints stay."""
    bare = nbformat.from_dict(nb)
    for cell in bare.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        elif cell.cell_type == "markdown":
            cell.source = SOLUTION.sub("\n\n", cell.source).strip("\n")
    bare.cells = [cell for cell in bare.cells if cell.source.strip()]
    return bare


def student_notebooks(path: paths.TeachingPath | None = None) -> dict[Path, NotebookNode]:
    """Where a notebook is committed → what a learner gets of it, links to solutions and to cut sections unlinked."""
    if path is None:
        chosen = {c.path: nbformat.read(c.path, as_version=4) for c in chapters()}
    else:
        chosen = {chapter.path: nb for chapter, nb in path.notebooks().items()}
        for where, nb in chosen.items():  # what is kept speaks of sections that are not there
            titles = [[section.title for section in sections(x)[1:]] for x in (nbformat.read(where, as_version=4), nb)]
            if cut := [title for title in titles[0] if title not in titles[1]]:
                nb.cells[0].source += f"\n\n*Left out on this path* {' · '.join(cut)}"
    bare = {where: strip(nb) for where, nb in chosen.items()}
    known = {where: anchors(nb) for where, nb in bare.items()}
    for where, nb in bare.items():
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                cell.source = _unlink(cell.source, where, known)
    return bare


def _unlink(source: str, where: Path, known: dict[Path, set[str]]) -> str:
    """A Markdown text in which each link that leads nowhere in the learners' folder is its bare text."""

    def plain(match: re.Match) -> str:
        target, _, anchor = unquote(match[3]).partition("#")
        if re.match(r"[a-z]+:", target):
            return match[0]
        file = Path(os.path.normpath(where.parent / target)) if target else where
        there = anchor in known[file] or not anchor if file in known else _comes_along(file)
        return match[0] if there else match[2]

    code = [range(*match.span()) for match in CODE.finditer(source)]
    return LINK.sub(lambda m: m[0] if any(m.start() in span for span in code) else plain(m), source)


def _comes_along(file: Path) -> bool:
    inside = file.is_relative_to(ROOT) and file.is_file()
    return inside and file.suffix in COMES_ALONG and file.stat().st_size <= MAX_BYTES


def _linked(where: Path, nb: NotebookNode) -> Iterator[Path]:
    """The files beside the notebooks that a notebook links to."""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            for _, _, target in LINK.findall(CODE.sub("", cell.source)):
                file = Path(os.path.normpath(where.parent / unquote(target.partition("#")[0])))
                if not re.match(r"[a-z]+:", target) and _comes_along(file):
                    yield file


def write(name: str | None = None, folder: Path = BUILD) -> Path:
    """Write the zip of all notebooks, or of the path `name`; returns where it lies.

    Raises:
        ValueError: there is no such path, or it names what does not exist.
    """
    path = None
    if name is not None:
        there = paths.load()
        if name not in there:
            raise ValueError(f"There is no path {name!r}; there are {', '.join(there)}.")
        path = there[name]
    given = student_notebooks(path)
    files = {where.relative_to(ROOT): nbformat.writes(nb).encode() + b"\n" for where, nb in given.items()}
    along = [file for where, nb in given.items() for file in _linked(where, nb)]
    files |= {file.relative_to(ROOT): file.read_bytes() for file in along}
    files |= {Path(file.name): file.read_bytes() for file in (READ_ME, CHEAT_SHEET)}
    if path is not None:
        files[Path("timetable.txt")] = f"{path.timetable()}\n".encode()
    top = Path(f"conceptclip-{name or 'student'}")
    target = folder / f"{top.name}.zip"
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in sorted(files.items()):
            entry = zipfile.ZipInfo((top / file).as_posix(), date_time=(2026, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    cells = sum(cell.cell_type == "code" for nb in given.values() for cell in nb.cells)
    words = sum(count_words(cell.source) for nb in given.values() for cell in nb.cells if cell.cell_type == "markdown")
    size = target.stat().st_size / 1e6
    print(f"{len(given)} notebooks, {cells} code cells, {words:,} words, {size:.1f} MB, no outputs and no solutions:")
    print(target)
    return target
