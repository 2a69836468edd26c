"""The two widgets that ipywidgets lacks: a picture that takes a box and a file, and a table of scores to press."""

from __future__ import annotations

import tempfile
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

import anywidget
import traitlets
from PIL import Image

from ..images import open_image

STATIC = Path(__file__).parent / "static"
CSS = STATIC / "explorer.css"


class Picture(anywidget.AnyWidget):
    """A picture, a map laid over it, a box that is dragged or moved with the arrow keys, numbered places, a message.

    All places are shares of width and height. `box` is empty or (left, top, right, bottom). A file that is dropped on
    the picture or chosen below it goes to the function given to `on_file`; one that is too large to send is made
    smaller in the browser first.
    """

    _esm = STATIC / "picture.js"
    _css = CSS

    data = traitlets.Bytes(b"").tag(sync=True)
    overlay = traitlets.Bytes(b"").tag(sync=True)
    extent = traitlets.List([1.0, 1.0]).tag(sync=True)
    opacity = traitlets.Float(0.5).tag(sync=True)
    box: traitlets.List = traitlets.List([]).tag(sync=True)
    step = traitlets.List([0.1, 0.1]).tag(sync=True)
    marks: traitlets.List = traitlets.List([]).tag(sync=True)
    description = traitlets.Unicode("").tag(sync=True)
    hint = traitlets.Unicode("").tag(sync=True)
    status = traitlets.Unicode("").tag(sync=True)
    problem = traitlets.Unicode("").tag(sync=True)
    width = traitlets.Int(420).tag(sync=True)
    boxes = traitlets.Bool(True).tag(sync=True)
    files = traitlets.Bool(False).tag(sync=True)
    max_bytes = traitlets.Int(4_000_000).tag(sync=True)
    max_side = traitlets.Int(2048).tag(sync=True)

    def on_file(self, function: Callable[[str, bytes, str], None], on_problem: Callable[[str], None]) -> None:
        """Call `function(name, bytes, note)` for a file, `on_problem(text)` if the browser could not send it."""

        def receive(_, content, buffers):
            if content.get("kind") == "file":
                function(PurePath(str(content.get("name"))).name, bytes(buffers[0]), str(content.get("note", "")))
            elif content.get("kind") == "problem":
                on_problem(str(content.get("text")))

        self.on_msg(receive)


class ScoreTable(anywidget.AnyWidget):
    """Rows with bars. `columns`: title, help, kind ("bar" or "change"), low, high; `groups`: title, span.

    `rows`: key, label, mark (None, True, False), cells of value, text and title. Pressing a row sets `selected`.
    """

    _esm = STATIC / "scores.js"
    _css = CSS

    caption = traitlets.Unicode("").tag(sync=True)
    groups: traitlets.List = traitlets.List([]).tag(sync=True)
    columns: traitlets.List = traitlets.List([]).tag(sync=True)
    rows: traitlets.List = traitlets.List([]).tag(sync=True)
    selected = traitlets.Unicode("").tag(sync=True)
    press = traitlets.Unicode("").tag(sync=True)
    empty = traitlets.Unicode("").tag(sync=True)


def open_bytes(name: str, data: bytes) -> Image.Image:
    """A file that came from the browser, opened with the same care and the same messages as one on disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (PurePath(name).name or "picture")
        path.write_bytes(data)
        return open_image(path)


@contextmanager
def telling(picture: Picture, doing: str = "") -> Iterator[None]:
    """Run a step of a widget: say what is being done, and tell an error or a warning in the widget.

    An exception must not end in the log, where nobody looks, and a widget must go on afterwards.
    """
    before = picture.status
    picture.problem, picture.status = "", doing
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        except ValueError as error:
            picture.problem = textwrap.shorten(str(error), 300)
        except Exception as error:
            picture.problem = f"{type(error).__name__}: {error}. This should not happen; Reset starts over."
    if picture.problem or picture.status == doing:
        picture.status = before
    if caught and not picture.problem:
        messages = [str(warning.message) for warning in caught if warning.category is UserWarning]
        picture.problem = textwrap.shorten(" ".join(messages), 300)


def number(value: float) -> str:
    """A score for a table: two digits, or that it is smaller."""
    return "<0.01" if 0 < value < 0.005 else f"{value:.2f}"


def signed(value: float) -> str:
    """A change for a table."""
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}".replace("-", "−")


def count(n: int, what: str) -> str:
    """1 patch, 2 patches."""
    return f"{n} {what}" if n == 1 else f"{n} {what}es" if what.endswith("ch") else f"{n} {what}s"
