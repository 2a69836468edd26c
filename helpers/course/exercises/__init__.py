"""The exercises: `chapter_09.py` holds the checkers of notebook 09, `exercise_09_b` that of its exercise 09-b.

`checking` has `check`, which the notebooks call, and what a checker is written with. A new chapter is a new file here.
"""

import importlib
import pkgutil

from .checking import EXERCISES, NotYet, check

for _module in pkgutil.iter_modules(__path__):
    if _module.name.startswith("chapter_"):
        importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["EXERCISES", "NotYet", "check"]
