"""Which exercises were passed, and when: a small JSON file of this user on this machine.

It lies in the folder where programs of this user keep their state. `CONCEPTCLIP_PROGRESS` names another file, or says
"off": then nothing is remembered. The tests and `tools.notebooks` say so, because they pass every exercise themselves.
"""

from __future__ import annotations

import contextlib
import json
import os
from datetime import datetime
from pathlib import Path

from platformdirs import user_state_path

from helpers.files import write_text

PROGRESS_VARIABLE = "CONCEPTCLIP_PROGRESS"


def progress_file() -> Path | None:
    """Where it is written down what was passed; None where nothing is."""
    said = os.environ.get(PROGRESS_VARIABLE, "")
    if said.lower() == "off":
        return None
    return Path(said).expanduser() if said else user_state_path("conceptclip-notebooks") / "passed.json"


def remembered() -> dict[str, str]:
    """Exercise → when it was first passed, such as "2026-01-31T09:30".

    Raises:
        ValueError: the file is damaged, or cannot be read.
    """
    file = progress_file()
    if file is None or not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): datetime.fromisoformat(when).isoformat(timespec="minutes") for name, when in found.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{file.name} does not say which exercises were passed ({type(error).__name__}: {error}). "
            "helpers.course.forget() begins a new one."
        ) from error


def remember(name: str) -> None:
    """Write down that an exercise was passed, the first time; never raises, since a check must not fail for it."""
    file = progress_file()
    if file is None:
        return
    with contextlib.suppress(OSError, ValueError):
        found = remembered()
        if name not in found:
            found[name] = datetime.now().isoformat(timespec="minutes")
            write_text(file, json.dumps(found, indent=1, sort_keys=True))


def forget() -> None:
    """Begin anew: no exercise counts as passed."""
    file = progress_file()
    if file is not None:
        file.unlink(missing_ok=True)
