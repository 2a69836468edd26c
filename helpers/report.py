"""A page to hand on: text, tables, figures and small pictures in one HTML file that loads nothing and runs nothing.

Every text is escaped: titles, headings, column names, cells and captions may come from file names and label files,
which hold whatever their writers typed.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from .files import write_text
from .images import as_shown

NOTE = "A research model made these numbers. They are no diagnosis and must not be used for one."

THUMBNAIL = 112
"""Longest side in pixels of a picture in a table."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1b1f24; }
h1, h2 { line-height: 1.25; } h2 { margin-top: 2.2rem; }
.scrolls { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .3rem .7rem; text-align: left; border-bottom: 1px solid #d5d9de; overflow-wrap: anywhere; }
thead th { border-bottom: 2px solid #6b7480; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; vertical-align: middle; }
.note { border-left: 4px solid #0173b2; padding: .3rem .9rem; background: #eef5fa; }
@media print { h2 { break-after: avoid; } tr, img { break-inside: avoid; } }
"""


def report_html(title: str, sections: Mapping[str, object], *, note: str = NOTE) -> str:
    """One HTML page as a string.

    Args:
        title: of the page.
        sections: heading -> a part, or a list of parts. A part is a str (a paragraph), a DataFrame (a table, in which
            PIL images become small pictures), a PIL image, or a matplotlib Figure or Axes.
        note: stands below the title; empty for none.

    Returns:
        The page. A content security policy in it forbids scripts and everything from elsewhere.

    Raises:
        ValueError: a part of another kind, named by its section.
    """
    title = str(title)
    body = [f"<h1>{escape(title)}</h1>"] + ([f'<p class="note">{escape(note)}</p>'] if note else [])
    for heading, parts in sections.items():
        body.append(f"<h2>{escape(str(heading))}</h2>")
        for part in parts if isinstance(parts, (list, tuple)) else [parts]:
            body.append(_part(part, str(heading)))
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            *body,
            "</body>\n</html>\n",
        ]
    )


def write_report(file: str | os.PathLike, title: str, sections: Mapping[str, object], *, note: str = NOTE) -> Path:
    """Write `report_html` to a file, whole or not at all (`files.beside`), and return its path. Folders are made."""
    return write_text(file, report_html(title, sections, note=note))


def _part(part: Any, heading: str) -> str:
    if isinstance(part, str):
        return f"<p>{escape(part)}</p>"
    if isinstance(part, pd.DataFrame):
        return _table(part)
    if isinstance(part, Image.Image):
        return _picture(part, f"picture: {heading}")
    figure = part if hasattr(part, "savefig") else getattr(part, "figure", None)
    if figure is None:
        raise ValueError(
            f"Section {heading!r}: a {type(part).__name__} cannot be shown. Parts are text, DataFrames, PIL images, "
            "and matplotlib Figures or Axes."
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    return _image_tag(buffer.getvalue(), "png", f"figure: {heading}")


def _table(frame: pd.DataFrame) -> str:
    numbered = isinstance(frame.index, pd.RangeIndex)  # then the row numbers say nothing
    head = [] if numbered else [_text(frame.index.name) if frame.index.name is not None else ""]
    head += [_text(column) for column in frame.columns]
    rows = ["<thead><tr>" + "".join(f'<th scope="col">{cell}</th>' for cell in head) + "</tr></thead>", "<tbody>"]
    for label, *cells in frame.itertuples(name=None):
        first = "" if numbered else f'<th scope="row">{_text(label)}</th>'
        rows.append("<tr>" + first + "".join(map(_cell, cells)) + "</tr>")
    return '<div class="scrolls" tabindex="0"><table>\n' + "\n".join([*rows, "</tbody>"]) + "\n</table></div>"


def _cell(value: Any) -> str:
    if isinstance(value, Image.Image):
        small = as_shown(value, "A picture in a table")
        small.thumbnail((THUMBNAIL, THUMBNAIL))
        return f"<td>{_picture(small, 'picture of this row')}</td>"
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_))
    return f"""<td{' class="number"' if number else ""}>{_text(value)}</td>"""


def _text(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if value is None or value is pd.NA or (isinstance(value, (float, np.floating)) and np.isnan(value)):
        return "–"
    return escape(f"{value:.2f}" if isinstance(value, (float, np.floating)) else str(value))


def _picture(image: Image.Image, description: str) -> str:
    """Encoded anew from its pixels: what a camera or a hospital wrote into the file does not come along."""
    buffer = io.BytesIO()
    pixels = as_shown(image, description)
    pixels.info.clear()
    pixels.save(buffer, "JPEG", quality=88)
    return _image_tag(buffer.getvalue(), "jpeg", description)


def _image_tag(data: bytes, kind: str, description: str) -> str:
    return f'<img alt="{escape(description)}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'
