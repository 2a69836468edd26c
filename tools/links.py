"""Do the links of a Markdown text lead anywhere? For the tests of the notebooks and of the pages beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import nbformat
from nbformat import NotebookNode

from tools.chapters import ROOT


def anchors(document: NotebookNode | str) -> set[str]:
    """What the headings of a notebook (as Jupyter names them) or of a Markdown text (as GitHub does) are linked by."""
    if isinstance(document, str):
        text = re.sub(r"(?s)```.*?```", "", document)
        headings = [re.sub(r"[^\w\- ]", "", heading).lower() for heading in re.findall(HEADING, text)]
    else:
        text = "\n".join(cell.source for cell in document.cells if cell.cell_type == "markdown")
        headings = [re.sub(r"[`*]", "", heading) for heading in re.findall(HEADING, text)]
    return {heading.replace(" ", "-") for heading in headings}


HEADING = r"(?m)^#{1,6} (.+?)\s*$"


def links(text: str) -> list[str]:
    """The targets of a Markdown text's links and pictures, code left out."""
    text = re.sub(r"(?s)```.*?```|`[^`\n]*`", "", text)
    return re.findall(r"\]\(<?([^)\s>]+)>?\)", text) + re.findall(r"""(?:href|src)=["']([^"']+)["']""", text)


def broken_links(text: str, folder: Path, own_anchors: set[str]) -> Iterator[tuple[str, str]]:
    """Each link of a Markdown text in `folder` that leads nowhere, with the reason; the network is not asked."""
    for link in links(text):
        target, _, anchor = unquote(link).partition("#")
        if re.match(r"[a-z]+:", target):
            if not target.startswith(("https:", "mailto:", "attachment:", "data:")):
                yield link, "not https"
            continue
        file = (folder / target).resolve() if target else None
        if file is None:
            known = own_anchors
        elif not file.exists():
            yield link, "no such file"
            continue
        elif not file.is_relative_to(ROOT):
            yield link, "outside of the repository"
            continue
        elif file.suffix == ".ipynb":
            known = anchors(nbformat.read(file, as_version=4))
        elif file.suffix == ".md":
            known = anchors(file.read_text(encoding="utf-8"))
        else:
            continue
        if anchor and anchor not in known:
            yield link, f"no such heading; there are {sorted(known)}"
