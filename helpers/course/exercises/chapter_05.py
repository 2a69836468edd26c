"""The checkers of notebook 05, Token-level inspection."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import normalize

from ...metrics import pointing_chance, pointing_hits
from ...tokens import cosine_maps
from .checking import exercise, expect, expect_close, expect_function, expect_number, expect_shape, numbers


class Grid(NamedTuple):
    """A tuple (h, w) that answers as a `PatchGrid` does, so that both ways to use the grid are right."""

    h: int
    w: int


@exercise
def exercise_05_a(answer: Any) -> str:
    expect_function(answer)
    generator = torch.Generator().manual_seed(0)
    words, patches = torch.randn(9, 8, generator=generator), torch.randn(40, 8, generator=generator)
    words *= torch.tensor([9.0, 1, 2, 3, 4, 5, 6, 8, 9])[:, None]
    special = torch.tensor([True, False, False, False, False, False, True, True, True])
    given = words.clone(), patches.clone(), special.clone()
    found = answer(words, patches, special)
    unchanged = all(torch.equal(*pair) for pair in zip(given, (words, patches, special), strict=True))
    expect(unchanged, "your function changes what it was given: work on a copy.")

    cosines = normalize(words, dim=-1) @ normalize(patches, dim=-1).T  # [T, P]
    out = special[:, None]
    expected = numbers(cosines.masked_fill(out, -2).argmax(0))
    mistakes = {
        "[CLS], [SEP] and padding take part: leave them out.": cosines.argmax(0),
        "positions count [CLS]; you numbered the pieces anew when you left the special ones out.": expected - 1,
        "these are not cosines: a long vector wins by its length.": (words @ patches.T).masked_fill(out, -99).argmax(0),
        "0 is more than a negative cosine: a piece that takes no part needs less than -1.": (cosines * ~out).argmax(0),
    }
    expect(np.shape(found) != (9,), "that is the best patch for each piece, and not the best piece for each patch.")
    expect_shape(found, (40,), "one position for each patch.")
    for hint, mistake in mistakes.items():
        expect((numbers(found) != numbers(mistake)).any(), hint)
    expect_close(found, expected, "all cosines, the special pieces out, and then the largest over the pieces.")
    return "Every patch has chosen a word, and no special position was chosen."


@exercise
def exercise_05_b(answer: Any) -> str:
    expect_function(answer)
    generator = torch.Generator().manual_seed(0)
    patches, words = torch.randn(12, 8, generator=generator), torch.randn(7, 8, generator=generator)
    words *= torch.arange(1.0, 8)[:, None]
    positions, grid = [2, 3, 5], Grid(3, 4)
    found = answer(patches, words, positions, grid)
    expect_shape(found, grid, "lay the patches out row by row.")
    span, found = words[positions].mean(0), numbers(found)
    expect(not np.allclose(found, (patches @ span).view(grid)), "these are not cosines: mind the lengths.")
    each = cosine_maps(patches[None], words[positions], grid)[0].mean(0)
    mean_late = "average the vectors first; you averaged the cosines of the pieces."
    expect(not np.allclose(found, each, atol=1e-4), mean_late)
    for off in (-1, 1):
        wrong = cosine_maps(patches[None], words[[p + off for p in positions]].mean(0)[None], grid)[0, 0]
        expect(not np.allclose(found, wrong, atol=1e-4), "you are one position off: positions count [CLS] already.")
    expected = cosine_maps(patches[None], span[None], grid)[0, 0]
    expect_close(found, expected, "mean over the positions, then unit lengths on both sides, then products.")
    return "First the mean, then the lengths: the phrase as RC-Align sees it."


@exercise
def exercise_05_c(answer: Any) -> str:
    expect_function(answer)
    rng = np.random.default_rng(0)
    maps, shares = rng.random((40, 5, 5)), rng.random((40, 5, 5)) * (rng.random((40, 1, 1)) < 0.6) * 0.15
    shares[:, 1, 1] += 0.3 * (shares.sum((1, 2)) > 0)
    maps[:, 1, 1] += 0.5
    found, hits = expect_number(answer(maps, shares)), pointing_hits(maps, shares)
    expect(not np.isclose(found, np.nanmean(hits)), "that is the share of hits. What would a random patch get?")
    everywhere = (np.asarray(shares) >= 0.1).mean()
    wrong = "in some pictures the part does not occur: there a hit is impossible, so they are left out of both shares."
    expect(not np.isclose(found, np.nan_to_num(hits).mean() - everywhere) and not np.isnan(found), wrong)
    expect(not np.isclose(found, np.nanmean(hits) - everywhere), wrong)
    expect_close(found, np.nanmean(hits) - pointing_chance(shares), "share of hits minus share of patches that count.")
    return "Zero now means: no better than a patch chosen at random."
