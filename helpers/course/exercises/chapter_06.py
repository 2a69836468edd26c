"""The checkers of notebook 06, Practical tips."""

from typing import Any

import numpy as np
import torch

from ...settings import SEED
from .checking import exercise, expect, expect_close, expect_function, expect_number, expect_shape


@exercise
def exercise_06_a(answer: Any) -> str:
    expect_function(answer)
    rng = np.random.default_rng(1)
    for count, size in ((12, 4), (23, 5), (3, 8)):
        lengths = rng.integers(5, 40, count)
        batches = [[int(n) for n in batch] for batch in answer(lengths.tolist(), size)]
        expect(sorted(n for batch in batches for n in batch) == list(range(count)), "each number once: mind the rest.")
        expect(max(map(len, batches)) <= size, f"a batch has more than size = {size} prompts.")
        expect(len(batches) <= -(-count // size), "as few batches as needed: single prompts make no use of a batch.")
        computed = sum(len(batch) * max(lengths[n] for n in batch) for batch in batches)
        # Sorted and cut; which end gets the batch that is not full is left to the answer.
        enough = max(_computed(np.sort(lengths), size), _computed(np.sort(lengths)[::-1], size))
        expect(computed <= enough, "put prompts of like length into one batch.")
    return "Equal lengths stand together, so little is padded."


def _computed(lengths: np.ndarray, size: int) -> int:
    """Positions computed when the lengths are cut, as they stand, into batches of `size`."""
    parts = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    return sum(len(part) * part.max() for part in parts)


@exercise
def exercise_06_b(answer: Any) -> str:
    expect_function(answer)
    features = torch.randn(6, 200, generator=torch.Generator().manual_seed(SEED))
    features = features / features.norm(dim=-1, keepdim=True) * torch.tensor([0.1, 1, 1, 1, 1, 20])[:, None]
    found = answer(features)
    expect(isinstance(found, (tuple, list)) and len(found) == 2, "return two things: codes, scales.")
    codes, scales = found
    expect(getattr(codes, "dtype", None) == torch.int8, "the codes are not of the dtype asked for, torch.int8.")
    expect_shape(codes, (6, 200), "One code for each number.")
    expect_shape(scales, (6, 1), "One scale for each picture, as a column.")
    expect(codes.unique().numel() > 50, "nearly all codes are alike: divide by the scale before you round.")
    error = (codes * scales - features).abs() / features.abs().amax(1, keepdim=True)
    wrapped = bool((codes.float() * features < -1e-6).any())
    expect(not wrapped, "some codes have the wrong sign: int8 ends at 127, and 128 becomes -128.")
    expect(error.max() > 0, "that is no rounding at all.")
    expect(float(error.max()) < 0.75 / 127, "round to the nearest, and let the largest number of a picture become 127.")
    return f"The largest error is {float(error.max()):.1%} of a picture's largest number, in a quarter of the bytes."


@exercise
def exercise_06_c(answer: Any) -> str:
    expected, found = 10_000 * 27 * 27 * 1152 * 2 / 1e9, expect_number(answer)
    expect(found < 1e6, "gigabytes are asked for: divide the bytes by 1e9.")
    expect(abs(found - 2 * expected) > 0.1, "that is float32.")
    expect(abs(found - expected * 1e9 / 2**30) > 0.1, "that is GiB: divide by 10⁹ bytes, not by 2³⁰.")
    expect(abs(found - expected / 729) > 1e-3, "those are the pooled vectors; there are many patches in a picture.")
    expect_close(found, expected, "pictures × patches × width × bytes of a number.", tolerance=0.1)
    return "The pooled vectors of the same pictures take a share of it as small as one in the number of patches."
