"""What is true of which picture: one gate for labels, groups and tables before anything is computed from them.

Class names that are no words, two spellings of one name, a label that is missing, tables whose rows stand in another
order: each of these would give a number that looks like an answer. Everything that takes truth passes here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from .files import printable, stripped

# --- names ------------------------------------------------------------------------------------------------------------


def words_of(name: str) -> str:
    """A name as BERT's tokenizer sees it: lower case, without accents and signs that cannot be seen, words apart."""
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    plain = BertNormalizer(lowercase=True).normalize_str(printable(name))
    return " ".join(word for word, _ in BertPreTokenizer().pre_tokenize_str(plain))


def check_spelling(names: Iterable[Any], what: str = "labels") -> None:
    """Refuse two names that are the same words, as "band cell" and "Band  cell": almost always one class, twice.

    Raises:
        ValueError: such a pair, in quotes.
    """
    seen: dict[str, str] = {}
    for name in dict.fromkeys(name for name in names if isinstance(name, str)):
        other = seen.setdefault(words_of(name), name)
        if other != name:
            raise ValueError(
                f"{what}: {other!r} and {name!r} are the same words to the model, so either one class has two "
                "spellings or two classes have one name. Correct the spelling in the table, or give them different "
                "names (names= takes a mapping)."
            )


def class_names(classes: Iterable[Any], *, what: str = "classes", names: Mapping[Any, str] | None = None) -> list[str]:
    """Class names that can stand in a prompt.

    Args:
        classes: N names.
        what: how messages call them.
        names: class as it is given -> the words for it, e.g. {0: "round nucleus"}.

    Returns:
        N names, stripped.

    Raises:
        ValueError: none; a name that is missing, a number (also as text), blank, there twice, or in `names` absent; two
            that are the same words.
    """
    found: list[str] = []
    given = {_plain(key): value for key, value in (names or {}).items()}
    for place, name in enumerate(classes):
        if is_missing(name):
            raise ValueError(f"{what}[{place}] is missing ({name!r}). Leave out what has no label.")
        if names is not None:
            if _plain(name) not in given:
                raise ValueError(f'{what}[{place}], {name!r}, has no words in names=. Add {name!r}: "...".')
            name = given[_plain(name)]
        if not isinstance(name, str) or is_number(name):
            raise ValueError(
                f"{what}[{place}] is {name!r}, a number, and the model reads words. Give the words for it: a mapping "
                f'such as {{{name!r}: "band nucleus", ...}}.'
            )
        if not words_of(name):
            raise ValueError(f"{what}[{place}], {name!r}, has no visible character. Write a name.")
        found.append(stripped(name))
    if not found:
        raise ValueError(f"{what}: there are none. Give at least one.")
    if twice := [name for place, name in enumerate(found) if name in found[:place]]:
        raise ValueError(f"{what}: {twice[0]!r} stands there twice. Names must differ from each other.")
    check_spelling(found, what)
    return found


def _plain(label: Any) -> str:
    """A label as text; 0, 0.0 and "0" are the same one here."""
    if isinstance(label, (float, np.floating)) and float(label).is_integer():
        label = int(label)
    return stripped(str(label))


def is_missing(label: Any) -> bool:
    """Whether a label is None, NaN, NA or NaT. The words "None", "NA" and "nan" are not, nor is a list."""
    missing = pd.isna(label)
    return isinstance(missing, (bool, np.bool_)) and bool(missing)


def is_number(label: Any) -> bool:
    """Whether a label is a number, or nothing but digits as text."""
    if isinstance(label, str):
        return stripped(label).lstrip("+-").replace(".", "", 1).isdecimal()
    return isinstance(label, (int, float, np.number, np.bool_))
