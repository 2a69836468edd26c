"""The checkers of notebook 12, Your own images."""

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd

from .checking import exercise, expect, expect_function, expect_shape


@exercise
def exercise_12_a(answer: Any) -> str:
    expect_function(answer)
    labels = pd.Series({"c.png": "monocyte", "a.png": "basophil", "d.png": "neutrophil", "b.png": "monocyte"})
    found = [None if pd.isna(label) else label for label in answer(labels, ["a.png", "b.png", "x.png", "c.png"])]
    expect(len(found) == 4, f"one label for each of the 4 names, not {len(found)}.")
    expect(found[:2] + found[3:] != ["monocyte", "basophil", "neutrophil"], "those are labels in the CSV's order.")
    expect(found[2] is None, "a file without a label gets None, and not another file's label.")
    expect(found == ["basophil", "monocyte", None, "monocyte"], "look each name up in the index of the labels.")
    return "Names are looked up, positions are never trusted."


@exercise
def exercise_12_b(answer: Any) -> str:
    expect_function(answer)
    rng = np.random.default_rng(5)
    for count, size in ((400, 40), (60, 12)):
        groups = np.array([f"patient {k}" for k in rng.integers(0, size, count)])
        found = np.asarray(answer(groups))
        expect_shape(found, (count,), "True or False for each picture.")
        expect(found.dtype == bool, f"boolean values are asked for, these are {found.dtype}.")
        both = set(groups[found]) & set(groups[~found])
        expect(not both, f"{len(both)} of the {len(set(groups))} groups stand on both sides.")
        expect(0.15 <= found.mean() <= 0.35, f"the test side holds {found.mean():.0%} of the pictures, not about 25%.")
    return "No patient is on both sides, so nothing can be passed by recognising one."


@exercise
def exercise_12_c(answer: Any) -> str:
    expect_function(answer)
    for text in ("basophil", "<script>alert('1')</script>", 'a "quoted" <b>name</b> & more', "&lt;is text, too&gt;"):
        found = answer(text)
        expect(isinstance(found, str), f"a string is asked for, and this is of type {type(found).__name__}.")
        expect(found.startswith("<td") and found.endswith("</td>"), "the cell starts with <td> and ends with </td>.")
        cell = _Cell(found)
        brought = f"the text {text!r} brought a tag of its own along: <{'>, <'.join(cell.tags[1:])}>."
        expect(cell.tags == ["td"], brought)
        expect(cell.text == text, f"{text!r} shows up as {cell.text!r}. Escape once, and the ampersand first.")
    return "Any text shows up as it is, and none of it runs."


class _Cell(HTMLParser):
    """The tags of a piece of HTML, and the text that a reader sees."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data
