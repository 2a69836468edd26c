"""What is true of which picture: one gate for labels, groups and tables before anything is computed from them.

Class names that are no words, two spellings of one name, a label that is missing, tables whose rows stand in another
order: each of these would give a number that looks like an answer. Everything that takes truth passes here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from .files import printable, stripped
from .settings import SEED

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


# --- truth ------------------------------------------------------------------------------------------------------------


def known(truth: Any, *, names: Mapping[Any, str] | None = None, what: str = "truth") -> tuple[np.ndarray, np.ndarray]:
    """Labels, and which of them are there.

    Args:
        truth: [N] labels; None, NaN and NA are missing.
        names: label -> class name; what stands for it in the result.
        what: how messages call it.

    Returns:
        (labels: object [N], there: bool [N]). Where nothing is there the label is NaN.

    Raises:
        ValueError: not one label for each; numbers and words mixed; two labels that are the same words; a label that
            `names` lacks.
    """
    labels = np.empty(len(truth), dtype=object)
    labels[:] = list(truth)
    if any(isinstance(label, (list, tuple, np.ndarray)) for label in labels):
        raise ValueError(f"{what} must hold one label for each image, not a list of them.")
    there = np.array([not is_missing(label) for label in labels], dtype=bool)
    labels[~there] = np.nan
    if names is not None:
        given = {_plain(key): value for key, value in names.items()}
        if lacking := [label for label in labels[there] if _plain(label) not in given]:
            raise ValueError(f"{what}: names= has no name for {lacking[0]!r}. It has: {', '.join(map(repr, given))}.")
        labels[there] = [given[_plain(label)] for label in labels[there]]
    one_kind(labels[there], what)
    return labels, there


def one_kind(labels: Iterable[Any], what: str) -> None:
    """Refuse labels of which some are numbers and some are words ("0" never equals 0), or two are the same words."""
    kinds: dict[bool, Any] = {}
    for label in labels:
        kinds.setdefault(isinstance(label, str), label)
    if len(kinds) > 1:
        raise ValueError(
            f"{what}: {kinds[True]!r} is text and {kinds[False]!r} is a {type(kinds[False]).__name__}; they never "
            "equal each other. Name classes by words on both sides, as a mapping {number: name} does."
        )
    check_spelling(labels, what)


def pairs(
    truth: Any, predicted: Any, *, names: Mapping[Any, str] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and what was said, image by image, without the images whose truth is missing.

    Args:
        truth, predicted: [N] labels each; Series are matched by their index (`by_name`).
        names: as in `known`; applied to the truth.

    Returns:
        (truth [M], predicted [M], there: bool [N]), M images with a known truth.

    Raises:
        ValueError: lengths differ; nothing known; a missing answer; as in `known`, on both sides together.
    """
    truth, predicted = by_name(truth, predicted, what=("truth", "predicted"))
    labels, there = known(truth, names=names)
    answers, said = known(predicted, what="predicted")
    if not there.any():
        raise ValueError(f"truth: none of the {len(there)} labels is known, so nothing can be compared.")
    if not said[there].all():
        row = int(np.flatnonzero(there & ~said)[0])
        raise ValueError(f"predicted[{row}] is missing ({predicted[row]!r}). An image without an answer: leave it out.")
    one_kind([*labels[there], *answers[there]], "truth and predicted")
    return labels[there], answers[there], there


# --- groups -----------------------------------------------------------------------------------------------------------


def own_groups(groups: Any, count: int, *, what: str = "groups") -> np.ndarray:
    """Groups as numbers; an image whose group is unknown stands alone, in a group of its own.

    Args:
        groups: [N] names of patients, slides, photographs; None, NaN and NA are unknown.
        count: N.
        what: how messages call them.

    Returns:
        int [N], from 0.

    Raises:
        ValueError: not one for each image.
    """
    if np.ndim(groups) != 1 or len(groups) != count:
        raise ValueError(f"{what} must hold one label for each of the {count} images, not {np.shape(groups)}.")
    column = pd.Series(list(groups), dtype=object)
    try:
        numbers, names = pd.factorize(column, sort=True)  # the same draws whatever the order of the rows
    except TypeError:  # names of several kinds, which have no order
        numbers, names = pd.factorize(column)
    alone = numbers < 0
    numbers[alone] = len(names) + np.arange(alone.sum())
    return numbers


def folds(labels: Any, groups: Any = None, *, most: int = 5, seed: int = SEED) -> list[tuple[np.ndarray, np.ndarray]]:
    """Splits for cross-validation, as many as the data allow: each class on both sides of as many as can be.

    Args:
        labels: [N] class names, none missing.
        groups: [N]; a group stays on one side, an image without one stands alone. None: each image by itself.
        most: splits at most.
        seed: of the shuffling.

    Returns:
        list of (learning rows, test rows), int arrays. Their number is the smallest of `most`, the groups, and the
        groups (or images) of the rarest class, but at least 2: a class with one has no picture to learn from when it is
        tested.

    Raises:
        ValueError: one class only, or one group only: nothing can be held back.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels, there = known(labels, what="labels")
    if not there.all():
        raise ValueError(f"labels[{int((~there).argmax())}] is missing: leave out images without a label.")
    groups = np.arange(len(labels)) if groups is None else own_groups(groups, len(labels))
    classes = pd.Series(groups).groupby(labels).nunique()
    units = len(np.unique(groups))
    if len(classes) < 2:
        raise ValueError(
            f"labels: {len(classes)} classes ({', '.join(map(repr, classes.index))}). It takes two or more."
        )
    if units < 2:
        raise ValueError("groups: all images are of one group, and it cannot stand on both sides. Bring a second one.")
    number = max(2, min(most, units, int(classes.min())))
    numbers = pd.factorize(labels)[0]
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # said above
        return [split for split in splitter.split(np.zeros(len(labels)), numbers, groups) if len(split[1])]


# --- tables -----------------------------------------------------------------------------------------------------------


def by_name(first: Any, second: Any, *, what: tuple[str, str] = ("the first", "the second")) -> tuple[Any, Any]:
    """Two tables or columns with their rows, and where both are tables their columns, in the first one's order.

    An index of row numbers (0 to N-1, what pandas makes by itself) names nothing and is matched by place; so are lists
    and arrays. Any other index is a list of names.

    Args:
        first, second: DataFrame, Series, array or list.
        what: how messages call them.

    Returns:
        (first, second), the second put in order.

    Raises:
        ValueError: names that only one of the two has, or that stand there twice in another order; other lengths.
    """
    rows = [None if getattr(x, "ndim", 1) == 0 or not hasattr(x, "__len__") else len(x) for x in (first, second)]
    if None in rows or rows[0] != rows[1]:
        raise ValueError(f"{what[0]} and {what[1]} must be equally long; they have {rows[0]} and {rows[1]} rows.")
    if isinstance(first, (pd.Series, pd.DataFrame)) and isinstance(second, (pd.Series, pd.DataFrame)):
        second = _in_order(first, second, 0, what)
    if isinstance(first, pd.DataFrame) and isinstance(second, pd.DataFrame):
        second = _in_order(first, second, 1, what)
    return first, second


def _in_order(first: Any, second: Any, axis: int, what: tuple[str, str]) -> Any:
    ours, theirs = first.axes[axis], second.axes[axis]
    if ours.equals(theirs):
        return second
    names = [index for index in (ours, theirs) if not row_numbers(index)]
    if len(names) < 2 and len(ours) == len(theirs) and not any(pd.api.types.is_integer_dtype(n.dtype) for n in names):
        return second  # at least one of the two has no names
    kind = ("row", "column")[axis]
    lacking = [name for name in ours if name not in theirs] or [name for name in theirs if name not in ours]
    if lacking or len(ours) != len(theirs):
        example = f"the {kind} {lacking[0]!r}" if lacking else f"as many {kind}s"
        raise ValueError(
            f"{what[0]} and {what[1]} name their {kind}s, and they differ: only one has {example}. Bring both to the "
            f"same names (`table.loc[...]`); if they stand in one order already, pass `.to_numpy()`."
        )
    if not (ours.is_unique and theirs.is_unique):
        twice = ours[ours.duplicated()].append(theirs[theirs.duplicated()])[0]
        raise ValueError(
            f"{what[0]} and {what[1]} name their {kind}s in another order, and {twice!r} stands there twice: which "
            "belongs to which? Give unique names."
        )
    return second.loc[ours] if axis == 0 else second[ours]


def row_numbers(index: pd.Index) -> bool:
    """Whether an index is what pandas makes by itself, 0 to N-1, which names nothing."""
    return isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1
