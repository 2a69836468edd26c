"""Files: tables read as the text that they hold, and a way of writing that leaves either the whole file or none."""

from __future__ import annotations

import codecs
import csv
import io
import os
import stat
import unicodedata
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

DELIMITERS = ",;\t|"
WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
_PACKED = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b")  # xlsx and ods, xls, gzip


# --- text -------------------------------------------------------------------------------------------------------------


def stripped(text: str) -> str:
    """Text without what cannot be seen at its two ends: blanks of every kind, zero-width signs, a byte order mark."""
    start, end = 0, len(text)
    while start < end and _unseen(text[start]):
        start += 1
    while end > start and _unseen(text[end - 1]):
        end -= 1
    return text[start:end]


def _unseen(sign: str) -> bool:
    return sign.isspace() or unicodedata.category(sign) in ("Cf", "Cc", "Zs", "Zl", "Zp")


def printable(text: object) -> str:
    """Text that can be drawn and encoded: bytes of a file name that are no UTF-8 are written as `\\udce9`."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


# --- reading ----------------------------------------------------------------------------------------------------------


def read_table(file: str | os.PathLike, *, key: str | None = None) -> pd.DataFrame:
    """A table of text, as it stands in the file: nothing is taken for a number, a date or a missing value.

    Cells are stripped. An empty cell is missing (NaN), and only that: "None", "NA" and "nan" are words. Rows of nothing
    but empty cells and columns without a name or a value are dropped, and so is the column of row numbers that pandas
    writes when it is not told otherwise.

    Args:
        file: a CSV in UTF-8 (or UTF-16 with its mark). Cells stand between commas, semicolons, tabs or bars: what
            makes most columns of the first row, or what makes one named `key`.
        key: the name of a column that must be there. A name in it whose bytes are no UTF-8 stays as Python holds the
            names of files (surrogateescape).

    Returns:
        DataFrame of str and NaN (dtype object); its index holds the lines' numbers in the file.

    Raises:
        ValueError: no such file; a folder, a workbook or another file that is no text; no row, no column `key`, a name
            of a column that stands there twice, a column of values without a name; a row with more cells than columns.
    """
    file = Path(file)
    name = repr(file.name)
    rows = _rows(read_text(file), key, name)
    head = next((cells for _, cells in rows if any(cells)), None)
    if head is None:
        raise ValueError(f"{name}: the table is empty. It needs the columns' names in its first row.")
    body = [(line, cells) for line, cells in rows if any(cells) and cells is not head]
    width = len(head)
    for line, cells in body:
        if any(cells[width:]):
            raise ValueError(
                f"{name}: line {line} has {len(cells)} cells, but there are {width} columns. Put a cell that holds "
                "the delimiter between double quotes."
            )
    columns = {place: [cells[place] if place < len(cells) else "" for _, cells in body] for place in range(width)}
    for place in [place for place, title in enumerate(head) if not title]:
        values = columns.pop(place)
        if any(values) and values != [str(row) for row in range(len(values))]:  # pandas' own row numbers
            raise ValueError(f"{name}: column {place + 1} holds {_first(values)!r} but has no name. Name it in row 1.")
    titles = [head[place] for place in columns]
    if twice := [title for title, count in Counter(titles).items() if count > 1]:
        raise ValueError(f"{name}: the column {twice[0]!r} stands there twice. Rename or remove one of the two.")
    if key is not None and key not in titles:
        raise ValueError(f"{name}: no column {key!r}. It has: {', '.join(map(repr, titles))}.")
    for title, values in zip(titles, columns.values(), strict=True):
        for (line, _), value in zip([(1, head), *body], [title, *values], strict=True):
            if value != printable(value) and title != key:
                raise ValueError(
                    f"{name}: {value!r} in line {line} is not UTF-8, so its letters are uncertain. Save it as “CSV "
                    "UTF-8”."
                )
    data = {
        title: [value if value else np.nan for value in values]
        for title, values in zip(titles, columns.values(), strict=True)
    }
    return pd.DataFrame(data, index=[line for line, _ in body], columns=titles, dtype=object)


def _first(values: list[str]) -> str:
    return next(value for value in values if value)


def read_text(file: Path) -> str:
    """The text of a file in UTF-8 or in UTF-16 with its mark; bytes that are none stay as surrogates.

    Raises:
        ValueError: no such file; a folder, a workbook or another file that is no text.
    """
    name = repr(file.name)
    try:
        if file.is_dir():
            raise ValueError(f"{name}: there, but it is a folder. Give the file itself.")
        if not file.exists():
            raise ValueError(f"{name}: no such file. Check the path.")
        data = file.read_bytes() if file.is_file() else None
    except OSError as error:
        raise ValueError(f"{name}: there, but it cannot be read ({error.strerror}). Check its permissions.") from error
    if data is None:
        raise ValueError(f"{name}: there, but it is no regular file. Give a text file.")
    if file.suffix.lower() in WORKBOOKS or data.startswith(_PACKED):
        raise ValueError(
            f"{name}: there, but a workbook or a packed file, which is not read. Save the sheet as “CSV UTF-8”."
        )
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}: cannot be read as UTF-16 ({error}). Save it as UTF-8.") from error
    if b"\0" in data:
        raise ValueError(f"{name}: there, but no text. Save it as UTF-8 (a table: “CSV UTF-8”).")
    return data.decode("utf-8-sig", "surrogateescape")


def _rows(text: str, key: str | None, name: str) -> list[tuple[int, list[str]]]:
    """(number of the line, stripped cells) for each row, split by the delimiter that fits."""
    given = text.partition("\n")[0].strip().lower()
    skip = 0
    if given.startswith("sep=") and len(given) == 5:  # what Excel writes for itself
        text, delimiters, skip = text.partition("\n")[2], given[4], 1
    elif text.partition("\n")[0].rstrip("\r") == "sep=\t":
        text, delimiters, skip = text.partition("\n")[2], "\t", 1
    else:
        delimiters = DELIMITERS

    def parse(delimiter: str) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
        last = 0
        for cells in reader:
            yield last + 1 + skip, [stripped(cell) for cell in cells]
            last = reader.line_num

    def fit(delimiter: str) -> tuple[bool, int]:
        width = 0
        try:
            for _, cells in parse(delimiter):
                width = max(width, len(cells))
                if any(cells):
                    return key in cells, width
        except csv.Error:
            return False, 0
        return False, width

    try:
        return list(parse(max(delimiters, key=fit)))
    except csv.Error as error:
        raise ValueError(
            f"{name}: cannot be read as a CSV ({error}). Save it as “CSV UTF-8”, with the columns' names in its first "
            "row."
        ) from error


# --- writing ----------------------------------------------------------------------------------------------------------


def _begin(file: Path) -> tuple[Path, int]:
    """An empty file beside `file`, and the permissions that it is to have in the end."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise ValueError(f"{file.name!r} is a folder. Give the name of a file in it.")
        unfinished = file.parent / f".{uuid.uuid4().hex}.part"
        unfinished.touch(exist_ok=False)
        return unfinished, stat.S_IMODE((file if file.exists() else unfinished).stat().st_mode)
    except OSError as error:
        raise ValueError(f"{file.name!r} cannot be written there ({error.strerror}). Choose another folder.") from error


def check_place(file: str | os.PathLike) -> None:
    """Refuse at once, as `beside` would after the work, a place that cannot be written to."""
    _begin(Path(os.path.realpath(file)))[0].unlink()


@contextmanager
def beside(file: str | os.PathLike) -> Iterator[Path]:
    """A path to write to, that becomes `file` when all went well: others see the old file or the new one, never half.

    The path lies in the same folder under a name that nothing else has, so that two processes may write the same file.
    Missing folders are made; a link stays a link, and what it leads to is written; a file keeps its permissions.

    Raises:
        ValueError: that place cannot be written to.
    """
    file = Path(os.path.realpath(file))
    unfinished, mode = _begin(file)
    try:
        yield unfinished
        try:
            unfinished.chmod(mode)  # only now: some writers make the file anew
            unfinished.replace(file)
        except OSError as error:
            raise ValueError(
                f"{file.name!r} cannot be written there ({error.strerror}). Is it open elsewhere, or its name too long?"
            ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(file: str | os.PathLike, text: str) -> Path:
    """Write UTF-8 as `beside` does. Bytes of a file name that are no UTF-8 are written as `\\udce9`."""
    with beside(file) as unfinished:
        unfinished.write_text(printable(text), encoding="utf-8", newline="\n")
    return Path(file)


def write_csv(file: str | os.PathLike, table: pd.DataFrame, **style: Any) -> Path:
    """Write a table as `beside` does. `read_table` gives back its text, names of files in any bytes included.

    Args:
        file: where.
        table: any.
        style: of `DataFrame.to_csv`; `index=False` unless given.
    """
    style = {"index": False, "lineterminator": "\n"} | style
    with beside(file) as unfinished:
        table.to_csv(unfinished, encoding="utf-8", errors="surrogateescape", **style)
    return Path(file)
