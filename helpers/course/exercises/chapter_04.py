"""The checkers of notebook 04, Joint scoring."""

from typing import Any

import numpy as np
import torch

from ...scoring import RELEASED_SCALES, local_scores
from .checking import exercise, expect, expect_close, expect_function, expect_number, expect_shape, numbers


@exercise
def exercise_04_a(answer: Any) -> str:
    scale, bias = RELEASED_SCALES.logit_scale, RELEASED_SCALES.logit_bias
    found, logit = expect_number(answer), np.log(0.9 / 0.1)
    expect(not np.isclose(found, -bias / scale, atol=5e-4), "that is where the sigmoid is one half: its logit is 0.")
    expect(not np.isclose(found, logit, atol=5e-3), "that is the logit whose sigmoid is 0.9; which cosine has it?")
    expect(not np.isclose(found, (logit + bias) / scale, atol=5e-4), "mind the sign: logit = scale * cosine + bias.")
    expect_close(found, (logit - bias) / scale, "solve log(0.9 / 0.1) = scale * cosine + bias.", tolerance=5e-4)
    return "A little above the bar already: a large scale makes a steep curve."


@exercise
def exercise_04_b(answer: Any) -> str:
    expect_shape(answer, (2,), "two numbers: the sigmoid and the softmax.")
    sigmoid, softmax = (expect_number(number) for number in answer)
    expect(np.isclose(sigmoid, 0.3, atol=5e-3), "does a sigmoid look at the other prompts of the list?")
    expect(not np.isclose(softmax, 0.4, atol=5e-3), "the others do not stay at 0.2: all shares are divided anew.")
    expect(not np.isclose(softmax, 0.8, atol=5e-3), "the second copy takes its share of the same total.")
    expect_close(softmax, 0.8 / 1.8, "the copies weigh 0.8 each and the others 0.2: what is the total?", tolerance=5e-3)
    return "The sigmoid does not look at the list; the softmax is shared with the copy."


@exercise
def exercise_04_c(answer: Any) -> str:
    expect_function(answer)
    generator = torch.Generator().manual_seed(0)
    tokens, vectors = torch.randn(2, 20, 8, generator=generator), torch.randn(3, 8, generator=generator)
    found = answer(tokens, vectors, 5)
    expect_shape(found, (2, 3), "one score for each picture and each concept.")
    products = (tokens @ vectors.T).topk(5, dim=1).values.mean(1)
    expect(not np.allclose(numbers(found), numbers(products), atol=1e-4), "these are not cosines: mind the lengths.")
    every = local_scores(tokens, vectors, recipe="derm7pt")
    expect(not np.allclose(numbers(found), numbers(every), atol=1e-4), "only the `top` largest patches count.")
    expected = local_scores(tokens, vectors, recipe="zero_shot", top=5)
    expect_close(found, expected, "unit lengths, all cosines, the largest over patches (axis 1), their mean.")
    return "Lengths, cosines, the largest, their mean: the authors' local score."
