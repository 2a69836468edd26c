"""`helpers.course.passed()`: which exercises are done, as a table, and as one page to hand in."""

from __future__ import annotations

import os
from datetime import date, datetime
from html import escape

import pandas as pd

from helpers.files import write_text

from .exercises import EXERCISES
from .exercises.memory import remembered

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Exercises passed</title>
<style>
body {{ font: 11pt/1.4 sans-serif; max-width: 40em; margin: 2em auto; padding: 0 1em; color: #111; background: #fff }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ padding: .3em .6em; border-bottom: 1px solid #ccc; text-align: left }}
</style>
</head>
<body>
<h1>ConceptCLIP in notebooks: exercises passed</h1>
<p>{who}</p>
{table}
<p>Each was marked correct by <code>helpers.check</code> on the day that is shown. The page is written by the reader's
own machine: it helps to keep count, and it proves nothing.</p>
</body>
</html>
"""


def passed(page: str | os.PathLike[str] | None = None, *, name: str = "") -> pd.DataFrame:
    """Which exercises `helpers.check` has called correct on this machine.

    Args:
        page: write one HTML page to hand in to this file, which may exist.
        name: whose page it is.

    Returns:
        DataFrame indexed by chapter ("01", ...), a column for each exercise of a chapter ("a", ...) with "✓", "·" (not
        yet) or "" (there is no such exercise), and "passed", such as "2 of 3". The last row is the sum.

    Raises:
        ValueError: what is remembered cannot be read, or the page cannot be written there.
    """
    when = remembered()
    marks = {exercise: "✓" if exercise in when else "·" for exercise in EXERCISES}
    table = _by_chapter(marks)
    if page is not None:
        days = {
            exercise: f"{datetime.fromisoformat(when[exercise]):%d %b %Y}" for exercise in marks if exercise in when
        }
        who = " · ".join(filter(None, [escape(name), f"{date.today():%d %B %Y}", table.loc["all", "passed"]]))
        html = _by_chapter(marks | days).to_html(border=0, justify="left")
        write_text(page, PAGE.format(who=who, table=html))
    return table


def _by_chapter(marks: dict[str, str]) -> pd.DataFrame:
    """Exercise → mark, laid out as a table; a mark "·" is one that is not passed."""
    chapter_and_letter = pd.MultiIndex.from_tuples([tuple(name.split("-")) for name in marks])
    table = pd.Series(list(marks.values()), chapter_and_letter).unstack(fill_value="")
    done = pd.Series({name: mark != "·" for name, mark in marks.items()}).groupby(lambda name: name[:2])
    table["passed"] = [f"{count} of {size}" for count, size in zip(done.sum(), done.size(), strict=True)]
    table.loc["all"] = ""
    table.loc["all", "passed"] = f"{done.sum().sum()} of {len(marks)}"
    return table.rename_axis("chapter")
