"""Answers to the exercises, chapter by chapter: what is right, and each likely mistake with a word of its hint.

RIGHT  exercise → list of right answers, in any form that a learner may give them
WRONG  exercise → list of (wrong answer, what the hint must name)
"""

import importlib
import pkgutil

RIGHT: dict[str, list] = {}
WRONG: dict[str, list[tuple]] = {}
for _module in pkgutil.iter_modules(__path__):
    _chapter = importlib.import_module(f"{__name__}.{_module.name}")
    RIGHT |= _chapter.RIGHT
    WRONG |= _chapter.WRONG
