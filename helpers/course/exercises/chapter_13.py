"""The checkers of notebook 13, From a hundred pictures to a million."""

from typing import Any

import numpy as np
import pandas as pd

from .checking import exercise, expect, expect_close, expect_function, expect_number


@exercise
def exercise_13_a(answer: Any) -> str:
    expect_function(answer)
    rows = pd.DataFrame(
        {
            "path": ["b.png", "a.png", "c.png", "a.png", "b.png", "a.png", "d.png"],
            "sha256": ["10", "11", "12", "13", "10", "11", "14"],
            "shard": [0, 0, 0, 1, 2, 3, 3],
        },
        index=[5, 3, 8, 1, 0, 2, 9],
    )
    for some, expected in (
        (rows, [(2, "c"), (4, "b"), (5, "a"), (6, "d")]),
        (rows.head(3), [(0, "b"), (1, "a"), (2, "c")]),
    ):
        found = answer(some.copy())
        expect(isinstance(found, pd.DataFrame), "give rows of the table, as a DataFrame.")
        paths = sorted(found["path"])
        expect(
            len(set(paths)) == len(paths), f"{max(set(paths), key=paths.count)} counts twice: keep one row of a path."
        )
        wanted = some.iloc[[at for at, _ in expected]]
        expect(len(found) == len(wanted), f"{some['path'].nunique()} pictures are there, and you kept {len(found)}.")
        both = found.merge(wanted, on=["path", "shard", "sha256"])
        expect(
            len(both) == len(wanted), "of two rows of one path the one of the later shard counts, whatever its hash."
        )
    return "Nothing is ever changed in place: what is newer hides what is older."


@exercise
def exercise_13_b(answer: Any) -> str:
    expect_function(answer)
    cases = [(1000, 128, 0, 2), (1000, 128, 0, 4), (1_000_000, 1152, 729, 2), (7, 16, 4, 4)]
    for pictures, width, patches, size in cases:
        found = expect_number(answer(pictures, width, patches, size))
        vectors = pictures * width * size
        expected = vectors * (1 + patches)
        expect(not (patches and np.isclose(found, vectors)), "with patches there is a vector for each of them, too.")
        expect(
            not (patches and np.isclose(found, vectors * patches)),
            "the picture's own vector is kept beside the patches.",
        )
        expect(not np.isclose(found * 8, expected), "that is too small by eight: bits and bytes?")
        expect(not np.isclose(found, expected / size), "that counts numbers; how many bytes has each?")
        expect_close(found, expected, "pictures × vectors × width × bytes.", tolerance=1e-6 * expected)
    return "One vector a picture is small. A vector a patch is hundreds of times that."


@exercise
def exercise_13_c(answer: Any) -> str:
    expect_function(answer)
    for rate, size, store in ((150, 100_000, 1e9), (40, 2_000_000, 1e9), (100, 1_000_000, 5e8)):
        found = expect_number(answer(rate, size, store))
        expected = store / (rate * size)
        expect(not np.isclose(found, store / size), "those are pictures a second; how many GPUs need that many?")
        expect(not np.isclose(found, rate * size / store), "turned over: what the store gives, by what one GPU takes.")
        whole = [np.floor(expected), np.ceil(expected)]
        expect(
            np.isclose(found, expected) or found in whole,
            "what the store gives in a second, divided by what one GPU takes in a second.",
        )
    return "Beyond that the GPUs wait, and their price is paid for waiting."
