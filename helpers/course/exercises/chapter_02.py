"""The checkers of notebook 02, Text encoding."""

import os
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from ...loading import MODEL_ID, MODEL_VARIABLE
from ...settings import SEED
from .checking import exercise, expect, expect_close, expect_function, expect_shape, numbers

WORDS = ("leukocyte", "neutrophilic", "lymphoblast", "hemoglobin", "hypersegmented", "thrombocytopenia")
"""What exercise 02-a asks of, as it stands in the notebook."""


@exercise
def exercise_02_a(answer: Any) -> str:
    expect(not isinstance(answer, str), "give the list of pieces, not the word: processor.tokenizer.tokenize(...).")
    pieces = list(answer)
    expect(all(isinstance(piece, str) for piece in pieces), "give the pieces, not their ids: tokenize, not encode.")
    word = "".join(piece.removeprefix("##") for piece in pieces)
    expect(word in WORDS, f"{word!r} is none of the {len(WORDS)} words above.")
    cut = {word: tokenizer().tokenize(word) for word in WORDS}
    expect(cut[word] == pieces, f"the tokenizer cuts {word!r} into {' '.join(cut[word])}. Let it do the cutting.")
    most = max(map(len, cut.values()))
    expect(len(pieces) == most, f"{word!r} is cut into {len(pieces)}; another one is cut into more.")
    length = "" if len(word) == max(map(len, WORDS)) else ", and it is not the longest word"
    return f"{len(pieces)} pieces, of which {len(pieces) - 1} go on within the word{length}."


@cache
def tokenizer() -> Any:
    """Of the model that the notebooks load, from the files on this machine."""
    return AutoTokenizer.from_pretrained(os.environ.get(MODEL_VARIABLE) or MODEL_ID)


@exercise
def exercise_02_b(answer: Any) -> str:
    expect_function(answer)
    lengths = torch.tensor([3, 9, 6])
    found = answer(torch.arange(9) < lengths[:, None])

    for off, hint in ((0, "that is one behind [SEP]."), (1, "that is [SEP].")):
        expect(numbers(found).tolist() != (lengths - off).tolist(), hint)
    expect(numbers(found).ravel().tolist() != [7] * 3, "each prompt has its own length.")
    expect_close(found, lengths - 2, "count the real positions of each row, and mind [SEP].")
    return "Right for every length, also for the longest prompt."


@exercise
def exercise_02_c(answer: Any) -> str:
    expect_function(answer)
    generator = torch.Generator().manual_seed(SEED)
    table = torch.rand(7, 7, generator=generator) * 2 - 1
    negative = -torch.rand(5, 5, generator=generator) - 0.1
    for similarity in (table, table - 3 * torch.eye(7), table + 3 * torch.eye(7), negative):
        given = similarity.clone()
        found = numbers(answer(similarity))
        expect(torch.equal(given, similarity), "your function changes the table that it was given: work on a copy.")
        expect_shape(found, (len(similarity),), "One number for each row.")
        expect(not (found == np.arange(len(found))).any(), "a prompt is not its own neighbour: mind the diagonal.")
        expected = given.fill_diagonal_(-torch.inf).argmax(1)
        expect_close(found, expected, "in one of the tables tried, all similarities are negative.")
    return "Also for negative similarities, and for any diagonal."
