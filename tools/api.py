"""The pages of `helpers`, from its docstrings: `python -m tools.api` writes them to build/html/api.

pdoc makes them. They need nothing but a browser: their search is a script in the page, and asks no network.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from tools.chapters import BUILD

API = BUILD / "html" / "api"


def write(folder: Path = API) -> Path:
    """Write a page for `helpers` and one for each of its modules; returns the page of `helpers`.

    Raises:
        ImportError: a module of `helpers` cannot be imported.
    """
    import pdoc.render

    import helpers

    # pdoc looks into the package itself, where the names that are loaded when they are first used do not stand yet.
    vars(helpers).update({name: getattr(helpers, name) for name in helpers.__all__})
    pdoc.render.configure(docformat="google", show_source=False, footer_text="ConceptCLIP in notebooks")
    with contextlib.redirect_stderr(io.StringIO()):  # it warns of type annotations that only type checkers can resolve
        pdoc.pdoc("helpers", output_directory=folder)
    return folder / "helpers.html"


if __name__ == "__main__":
    print(write())
