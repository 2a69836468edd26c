"""Slides of a notebook's figures and gotchas: `python -m tools.slides [NOTEBOOK ...]` writes them to build/slides.

A slide for the title, for each figure with what the text says of it, and for each gotcha, in the notebook's order. It
is one HTML file, rendered by nbconvert, without a script and without a network: page down and page up turn it, and the
browser prints it, one slide a page. Beside it lies the deck as a notebook in the form of `jupyter nbconvert --to slides
--no-input`, which makes a reveal.js presentation of it where there is a network: that page loads its scripts from one.
"""

from __future__ import annotations

import argparse
import re
import sys
from html import escape
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import pages
from tools.chapters import BUILD, Chapter, chapters
from tools.sections import DETAILS, sections

FOLDER = BUILD / "slides"
PICTURES = ("image/png", "image/jpeg", "image/svg+xml")
GOTCHA = re.compile(r"\A\*\*Gotcha")
HERE = re.compile(r"\A\*\*Here:\*\*")
STYLE = """
html { scroll-snap-type: y mandatory; font: 150%/1.4 system-ui, sans-serif; color: #1a1a1a; background: #fff }
body { margin: 0 }
section { position: relative; min-height: 100vh; box-sizing: border-box; padding: 4vh 6vw; scroll-snap-align: start;
  display: flex; flex-direction: column; justify-content: center; border-bottom: 1px solid #ccc; break-after: page }
section img { display: block; max-width: 100%; max-height: 66vh; margin: 0 auto }
h1 { font-size: 2em; margin: 0 } h3 { font-size: 1.1em; margin: 0 0 .5em; color: #444 }
pre { font-size: .7em; white-space: pre-wrap }
blockquote { margin: 0; border-left: .3em solid #b35900; padding-left: 1em }
.number { position: absolute; right: 2vw; bottom: 1vh; font-size: .6em; color: #555 }
@page { size: A4 landscape; margin: 0 }
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{slides}
</body>
</html>
"""


def paragraphs(markdown: str) -> list[str]:
    """The paragraphs of a Markdown text outside of <details>, the marks of quotations taken off."""
    text = re.sub(r"(?m)^> ?", "", DETAILS.sub("\n\n", markdown))
    return [paragraph.strip() for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


def slides(chapter: Chapter) -> list[list[NotebookNode]]:
    """The slides of a chapter, each a list of cells.

    Raises:
        ValueError: the notebook is stored without outputs, so that there are no figures.
    """
    nb = nbformat.read(chapter.path, as_version=4)
    if not any(cell.get("outputs") for cell in nb.cells):
        raise ValueError(f"{chapter.path.name} is stored without outputs; `make refresh` executes it.")
    title = f"# {chapter.number} {chapter.title}\n\n**{chapter.question}**\n\n{chapter.summary}"
    found = [[new_markdown_cell(title)]]
    for section in sections(nb):
        heading = f"### {section.title or chapter.title}"
        figure: list[NotebookNode] | None = None  # the latest one, while no text of its own has been found
        for piece in section.pieces:
            if piece.exercise:
                continue
            if piece.is_code:
                if picture := _pictures(piece.cell):
                    figure = [new_markdown_cell(heading), picture]
                    found.append(figure)
                continue
            for paragraph in paragraphs(piece.cell.source):
                if HERE.match(paragraph) and figure:
                    figure.append(new_markdown_cell(paragraph))
                    figure = None
                elif GOTCHA.match(paragraph):
                    found.append([new_markdown_cell(heading), new_markdown_cell(f"> {paragraph}")])
    return found


def _pictures(cell: NotebookNode) -> NotebookNode | None:
    """The figures of a code cell, with the line it prints, as a cell without code; None if it has none."""
    pictures = [output for output in cell.outputs if any(kind in output.get("data", {}) for kind in PICTURES)]
    if not pictures:
        return None
    printed = [output for output in cell.outputs if output.get("name") == "stdout"]
    return new_code_cell("", outputs=nbformat.from_dict([*pictures, *printed]), metadata={**cell.metadata})


def deck(chapter: Chapter) -> NotebookNode:
    """The slides as a notebook whose cells say where a slide begins, as nbconvert's own slides want it."""
    cells = []
    for slide in slides(chapter):
        for i, cell in enumerate(slide):
            cell.metadata["slideshow"] = {"slide_type": "-" if i else "slide"}
            cell.id = f"slide-{len(cells)}"
            cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def html(chapter: Chapter, notebook: NotebookNode) -> str:
    """The deck as one page."""
    parts: list[list[NotebookNode]] = []
    for cell in notebook.cells:
        if cell.metadata.slideshow.slide_type == "slide":
            parts.append([])
        parts[-1].append(cell)
    written = []
    for i, cells in enumerate(parts, start=1):
        soup = BeautifulSoup(pages.cells_html(new_notebook(cells=cells), chapter.path), "html.parser")
        for link in soup.select("a[href]"):  # what they lead to does not lie beside the slides
            link.decompose() if "anchor-link" in link.get("class", []) else link.unwrap()
        for code in soup.select(".jp-InputArea, .input"):
            code.decompose() if not code.get_text(strip=True) else None
        written.append(f'<section id="{i}"><span class="number">{i} / {len(parts)}</span>\n{soup}\n</section>')
    title = escape(f"{chapter.number} {chapter.title}")
    return PAGE.format(title=title, style=STYLE, slides="\n".join(written))


def write(chapter: Chapter, folder: Path = FOLDER) -> Path:
    """Write the deck and its page; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    notebook = deck(chapter)
    nbformat.write(notebook, folder / chapter.path.name)
    page = folder / f"{chapter.path.stem}.html"
    page.write_text(html(chapter, notebook), encoding="utf-8")
    return page


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.slides", description=__doc__.split("\n\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="only these; all of them if none is named")
    args = parser.parse_args(argv)
    course = {chapter.path: chapter for chapter in chapters()}
    wanted = [path.resolve() for path in args.notebooks] or list(course)
    if unknown := [path.name for path in wanted if path not in course]:
        parser.error(f"no such chapter: {unknown[0]}")
    try:
        for path in wanted:
            print(write(course[path]))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
