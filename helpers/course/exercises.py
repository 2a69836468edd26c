"""`helpers.check("02-a", answer)`: one line that says whether an exercise is solved, and if not, what to look at.

A checker is a function of the answer, registered under the exercise's name. It returns True or a sentence that praises
what was understood, or raises `NotYet` with a hint that does not give the answer away.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

CHECKERS: dict[str, Callable] = {}


class NotYet(Exception):
    """Raised by a checker: the answer is not right yet, and this is the hint."""


def checker(name: str):
    """Register the decorated function as the checker of exercise `name`, such as "02-a"."""

    def register(function: Callable) -> Callable:
        if name in CHECKERS:
            raise ValueError(f"There are two checkers for exercise {name}.")
        CHECKERS[name] = function
        return function

    return register


def check(name: str, answer=None) -> None:
    """Print one line on an answer to an exercise; never raises on a wrong one, so that a notebook runs through.

    Args:
        name: the exercise, such as "02-a".
        answer: None or ... while it is not answered.

    Raises:
        ValueError: there is no such exercise.
    """
    if name not in CHECKERS:
        raise ValueError(f"There is no exercise {name!r}. There are: {', '.join(sorted(CHECKERS)) or 'none'}.")
    if answer is None or answer is Ellipsis:
        print(f"{name}: not answered yet. Replace the ... above and run the cell again.")
        return
    try:
        said = CHECKERS[name](answer)
    except NotYet as hint:
        print(f"{name}: not yet: {hint}")
    except Exception as error:  # a wrong type or shape breaks the checker's arithmetic: that is an answer too
        print(f"{name}: not yet: your answer, a {type(answer).__name__}, could not be read ({error}).")
    else:
        print(f"{name}: correct. {said if isinstance(said, str) else ''}".rstrip())


# --- what checkers are written with -----------------------------------------------------------------------------------


def expect(condition, hint: str) -> None:
    """Raise `NotYet(hint)` unless the condition holds."""
    if not condition:
        raise NotYet(hint)


def expect_close(answer, expected, hint: str, *, tolerance: float = 1e-3) -> None:
    """Raise `NotYet(hint)` unless shapes agree and every number lies within the tolerance (NaN matches nothing)."""
    answer, expected = _numbers(answer), _numbers(expected)
    expect(answer.shape == expected.shape, f"the shape is {answer.shape}, expected {expected.shape}. {hint}")
    expect(np.allclose(answer, expected, rtol=0, atol=tolerance), hint)


def expect_shape(answer, shape: tuple, hint: str = "") -> None:
    """Raise `NotYet` unless the answer has this shape."""
    found = tuple(getattr(answer, "shape", np.shape(answer)))
    expect(found == tuple(shape), f"the shape is {found}, expected {tuple(shape)}. {hint}".rstrip())


def _numbers(value) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().float()
    return np.asarray(value, dtype=float)


# --- the exercises ----------------------------------------------------------------------------------------------------
# Append only, in the notebooks' order:
#
# @checker("02-a")
# def _(answer):
#     expect_close(answer, 0.1155, "the sigmoid is one half where scale * cosine + bias is 0.", tolerance=5e-4)
#     return "There the logit is zero."


# --- 01 Model loading


@checker("01-a")
def _(answer):
    stored = 4.570648
    answer = float(answer)
    expect(abs(answer - np.exp(stored)) > 0.5, "that is the true scale. Divide it by what was stored.")
    expect_close(answer, np.exp(stored) / stored, "the file holds the scale's logarithm.", tolerance=0.2)
    return "The ranking survives the mistake; no probability does."


@checker("01-b")
def _(answer):
    from .geometry import parameter_table

    expected = parameter_table().loc["total", "parameters"] * 2 / 1e9
    answer = float(answer)
    expect(answer < 100, "gigabytes are asked for: divide the bytes by 1e9.")
    expect(abs(answer - 2 * expected) > 0.1, "that is float32; a bfloat16 number takes two bytes.")
    expect_close(answer, expected, "helpers.course.parameter_table takes a dtype.", tolerance=0.02)
    return "Half of float32, since both formats say the same number of parameters."


@checker("01-c")
def _(answer):
    answer = float(answer)
    side = (384 // 14 * 14) / 384
    expect(abs(answer - (1 - side)) > 1e-3, "that is the share of a side; the share of the area is asked for.")
    expect(abs(answer - side**2) > 1e-3, "that is what is seen.")
    expect_close(answer, 1 - side**2, "how many whole patches fit along a side, and how many pixels are they?")
    return "A strip at the right and at the bottom."


# 04 Joint scoring


@checker("04-a")
def _(answer):
    from ..scoring import RELEASED_SCALES

    scale, bias = RELEASED_SCALES.logit_scale, RELEASED_SCALES.logit_bias
    found, logit = float(answer), np.log(0.9 / 0.1)
    expect(not np.isclose(found, -bias / scale, atol=5e-4), "that is where the sigmoid is one half: its logit is 0.")
    expect(not np.isclose(found, logit, atol=5e-3), "that is the logit whose sigmoid is 0.9; which cosine has it?")
    expect(not np.isclose(found, (logit + bias) / scale, atol=5e-4), "mind the sign: logit = scale * cosine + bias.")
    expect_close(found, (logit - bias) / scale, "solve log(0.9 / 0.1) = scale * cosine + bias.", tolerance=5e-4)
    return "A little above the bar already: the scale makes the switch a sharp one."


@checker("04-b")
def _(answer):
    sigmoid, softmax = (float(number) for number in answer)
    expect(np.isclose(sigmoid, 0.3, atol=5e-3), "does a sigmoid look at the other prompts of the list?")
    expect(not np.isclose(softmax, 0.4, atol=5e-3), "the others do not stay at 0.2: all shares are divided anew.")
    expect(not np.isclose(softmax, 0.8, atol=5e-3), "a second copy runs in the same race.")
    expect_close(softmax, 0.8 / 1.8, "the copies weigh 0.8 each and the others 0.2: what is the total?", tolerance=5e-3)
    return "The sigmoid did not notice; the softmax shared the prize with its twin."


@checker("04-c")
def _(answer):
    import torch

    from ..scoring import local_scores

    generator = torch.Generator().manual_seed(0)
    tokens, vectors = torch.randn(2, 20, 8, generator=generator), torch.randn(3, 8, generator=generator)
    found = answer(tokens, vectors, 5)
    if found is None:
        raise NotYet("your function returns nothing yet.")
    expect_shape(found, (2, 3), "one score for each picture and each concept.")
    products = (tokens @ vectors.T).topk(5, dim=1).values.mean(1)
    expect(not np.allclose(_numbers(found), _numbers(products), atol=1e-4), "these are not cosines: mind the lengths.")
    every = local_scores(tokens, vectors, recipe="derm7pt")
    expect(not np.allclose(_numbers(found), _numbers(every), atol=1e-4), "only the `top` largest patches count.")
    expected = local_scores(tokens, vectors, recipe="zero_shot", top=5)
    expect_close(found, expected, "unit lengths, all cosines, the largest over patches (axis 1), their mean.")
    return "Lengths, cosines, the largest, their mean: the authors' local score."


# --- 02 Text encoding


@checker("02-a")
def _(answer):
    expect(not isinstance(answer, str), "give the list of pieces, not the word: processor.tokenizer.tokenize(...).")
    pieces = list(answer)
    expect("[UNK]" not in pieces, "[UNK] stands for characters that no piece has. Use plain letters.")
    words = [piece for piece in pieces if not piece.startswith("##")]
    expect(len(words) == 1, f"one word is asked for; these pieces begin {len(words)}.")
    expect(len(pieces) >= 4, f"these are {len(pieces)}. Try a long word of another field.")
    word = "".join(piece.removeprefix("##") for piece in pieces)
    cut = _tokenizer().tokenize(word)
    expect(cut == pieces, f"the tokenizer cuts {word!r} into {' '.join(cut)}. Let it do the cutting.")
    return f"{len(pieces)} pieces, of which {len(pieces) - 1} go on within the word."


def _tokenizer():
    """Of the model that the notebooks load, from the files on this machine."""
    import os

    from transformers import AutoTokenizer

    from ..loading import MODEL_ID, MODEL_VARIABLE

    return AutoTokenizer.from_pretrained(os.environ.get(MODEL_VARIABLE) or MODEL_ID)


@checker("02-b")
def _(answer):
    import torch

    expect(callable(answer), "give the function itself, without calling it.")
    lengths = torch.tensor([3, 9, 6])
    found = answer(torch.arange(9) < lengths[:, None])

    for off, hint in ((0, "that is one behind [SEP]."), (1, "that is [SEP].")):
        expect(_numbers(found).tolist() != (lengths - off).tolist(), hint)
    expect(_numbers(found).ravel().tolist() != [7] * 3, "each prompt has its own length.")
    expect_close(found, lengths - 2, "count the real positions of each row, and mind [SEP].")
    return "Right for every length, also for the longest prompt."


@checker("02-c")
def _(answer):
    import torch

    from ..settings import SEED

    expect(callable(answer), "give the function itself, without calling it.")
    generator = torch.Generator().manual_seed(SEED)
    table = torch.rand(7, 7, generator=generator) * 2 - 1
    negative = -torch.rand(5, 5, generator=generator) - 0.1
    for similarity in (table, table - 3 * torch.eye(7), table + 3 * torch.eye(7), negative):
        given = similarity.clone()
        found = _numbers(answer(similarity))
        expect(torch.equal(given, similarity), "your function changes the table that it was given: work on a copy.")
        expect_shape(found, (len(similarity),), "One number for each row.")
        expect(not (found == np.arange(len(found))).any(), "a prompt is not its own neighbour: mind the diagonal.")
        expected = given.fill_diagonal_(-torch.inf).argmax(1)
        expect_close(found, expected, "in one of the tables tried, all similarities are negative.")
    return "Also for negative similarities, and for any diagonal."


# 07 Explorers


@checker("07-a")
def _(answer):
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(0)
    patches, vector = torch.randn(20, 8, generator=generator) * 3, torch.randn(8, generator=generator) * 2
    inside = torch.arange(20) < 6
    found = answer(patches, inside, vector)
    if found is None or found is Ellipsis:
        raise NotYet("your function returns nothing yet.")
    product = patches @ vector
    cosine = F.normalize(patches, dim=-1) @ F.normalize(vector, dim=-1)
    wrong = float(product[inside].mean() - product[~inside].mean())
    expect(not np.isclose(float(found), wrong, atol=1e-4), "these are not cosines: mind the lengths.")
    only = float(cosine[inside].mean())
    expect(not np.isclose(float(found), only, atol=1e-4), "now less the mean of the *other* patches.")
    all_less = float(cosine[inside].mean() - cosine.mean())
    expect(not np.isclose(float(found), all_less, atol=1e-4), "outside means without the patches of the box: ~inside.")
    expect_close(found, cosine[inside].mean() - cosine[~inside].mean(), "cosines, mean inside, less mean outside.")
    return "A phrase that fits everywhere now gets nothing for it."


@checker("07-b")
def _(answer):
    from scipy import stats

    before = np.array([0.10, 0.35, 0.22, 0.51, 0.05, 0.40])
    after = before + np.array([0.04, 0.05, 0.02, 0.06, 0.03, 0.05])
    found = answer(before, after)
    if found is None or found is Ellipsis:
        raise NotYet("your function returns nothing yet.")
    expect_shape(found, (3,), "three numbers: mean, low, high.")
    mean, low, high = (float(x) for x in found)
    change = after - before
    expect_close(mean, change.mean(), "the mean of after less before.")
    error = stats.sem(change)
    apart = np.sqrt((before.var(ddof=1) + after.var(ddof=1)) / len(before))
    half = (high - low) / 2
    expect(half < 1.5 * apart, "subtract within each seed first; you compared the two groups.")
    expect(not np.isclose(half, 1.96 * error, atol=2e-4), "1.96 is for many seeds; for six take Student's t.")
    expect_close([low, high], [mean - stats.t.ppf(0.975, 5) * error, mean + stats.t.ppf(0.975, 5) * error],
                 "mean ± t × standard error, t = stats.t.ppf(0.975, n - 1).", tolerance=2e-4)  # fmt: skip
    return "Each seed was its own control."


@checker("07-c")
def _(answer):
    found = float(answer)
    expect(not np.isclose(found, 8), "the first value is what the others are compared with: it has no interval.")
    expect(not np.isclose(found, 2), "each concept is asked once for every value but the first.")
    expect_close(found, 6, "how many intervals are there, and how many in a hundred miss?", tolerance=1e-6)
    return "That many false alarms come free; only what goes beyond them accuses a model."


# 05 Token-level inspection


@checker("05-a")
def _(answer):
    import torch

    from ..encoding import TextEncodings

    expect(callable(answer), "give the function itself, without calling it.")
    lengths, rows = [9, 4, 6], torch.arange(9)
    mask = rows < torch.tensor(lengths)[:, None]
    special = ~mask | (rows == 0) | (rows == torch.tensor(lengths)[:, None] - 1)
    pieces = [["[CLS]", *["word"] * (n - 2), "[SEP]", *["[PAD]"] * (9 - n)] for n in lengths]
    texts = TextEncodings(
        texts=[" ".join(["word"] * (n - 2)) for n in lengths],
        features=torch.zeros(3, 4),
        tokens=torch.zeros(3, 9, 4),
        mask=mask,
        special=special,
        input_ids=torch.where(special, 0, 1),
        offsets=torch.where(special[..., None], 0, torch.stack([5 * rows - 5, 5 * rows - 1], -1)),
        pieces=pieces,
        truncated=torch.zeros(3, dtype=torch.bool),
        unknown=torch.zeros(3, dtype=torch.int64),
    )
    found = [answer(texts, n) for n in range(3)]
    _returned(found[0])
    found = [int(position) % 9 for position in found]
    expect(found != [8, 8, 8], "that is the last position of the batch: padding, for most prompts.")
    expect(found != [n - 1 for n in lengths], "that is [SEP], which stands for no characters.")
    expect(found == [n - 2 for n in lengths], f"for prompts of {lengths} real positions the answer is not {found}.")
    return "It holds for every length, padded or not."


@checker("05-b")
def _(answer):
    import torch

    from ..tokens import cosine_maps

    expect(callable(answer), "give the function itself, without calling it.")
    generator = torch.Generator().manual_seed(0)
    patches, words = torch.randn(12, 8, generator=generator), torch.randn(7, 8, generator=generator)
    words *= torch.arange(1.0, 8)[:, None]
    positions, grid = [2, 3, 5], (3, 4)
    found = answer(patches, words, positions, grid)
    _returned(found)
    expect_shape(found, grid, "lay the patches out row by row.")
    span, found = words[positions].mean(0), _numbers(found)
    expect(not np.allclose(found, (patches @ span).view(grid)), "these are not cosines: mind the lengths.")
    each = cosine_maps(patches[None], words[positions], grid)[0].mean(0)
    expect(
        not np.allclose(found, each, atol=1e-4), "average the vectors first; you averaged the cosines of the pieces."
    )
    for off in (-1, 1):
        wrong = cosine_maps(patches[None], words[[p + off for p in positions]].mean(0)[None], grid)[0, 0]
        expect(not np.allclose(found, wrong, atol=1e-4), "you are one position off: positions count [CLS] already.")
    expected = cosine_maps(patches[None], span[None], grid)[0, 0]
    expect_close(found, expected, "mean over the positions, then unit lengths on both sides, then products.")
    return "First the mean, then the lengths: the phrase as RC-Align sees it."


@checker("05-c")
def _(answer):
    from ..metrics import pointing_chance, pointing_hits

    expect(callable(answer), "give the function itself, without calling it.")
    rng = np.random.default_rng(0)
    maps, shares = rng.random((40, 5, 5)), rng.random((40, 5, 5)) * (rng.random((40, 1, 1)) < 0.6) * 0.15
    shares[:, 1, 1] += 0.3 * (shares.sum((1, 2)) > 0)
    maps[:, 1, 1] += 0.5
    found = answer(maps, shares)
    _returned(found)
    found, hits = float(found), pointing_hits(maps, shares)
    expect(not np.isclose(found, np.nanmean(hits)), "that is the share of hits. What would a random patch get?")
    everywhere = (np.asarray(shares) >= 0.1).mean()
    wrong = "in some pictures the part does not occur: there a hit is impossible, so they are left out of both shares."
    expect(not np.isclose(found, np.nan_to_num(hits).mean() - everywhere) and not np.isnan(found), wrong)
    expect(not np.isclose(found, np.nanmean(hits) - everywhere), wrong)
    expect_close(found, np.nanmean(hits) - pointing_chance(shares), "share of hits minus share of patches that count.")
    return "Zero now means: no better than a pin stuck in blindfold."


# 11 Do maps tell the truth?


@checker("11-a")
def _(answer):
    expect(callable(answer), "give the function itself, without calling it.")
    rng = np.random.default_rng(0)
    shares = rng.random((200, 4, 6)) * rng.random((200, 1, 1))
    shares[:50] = 0
    found = answer(shares)
    _returned(found)
    found, inside = float(found), shares >= 0.5
    expect(
        not np.isclose(found, 0.5), "one half is chance for the AUROC; average precision depends on the mask's size."
    )
    kept = inside[inside.any((1, 2)) & ~inside.all((1, 2))].reshape(-1, 24)
    limit = "that is the share of patches inside: the limit for endlessly many patches. Grade some random maps and see."
    expect(not np.isclose(found, kept.mean()) and not np.isclose(found, inside.mean()), limit)
    place = np.arange(1, 25)
    expected = ((1 + (place - 1) * (kept.sum(1, keepdims=True) - 1) / 23) / place).mean()
    expect(not np.isclose(found, expected * len(kept) / 200, atol=0.02), "leave out pictures without a patch inside.")
    expect_close(found, expected, "grade random maps and average: what does it tend to?", tolerance=0.02)
    return "More than the share of patches inside, and the more so the smaller the part."


@checker("11-b")
def _(answer):
    expect(callable(answer), "give the function itself, without calling it.")
    rng = np.random.default_rng(0)
    map_ = rng.random((5, 7))
    for count in (0, 1, 9, 35):
        found = answer(map_.copy(), count)
        _returned(found)
        expect_shape(found, (5, 7), "a True or False for each patch.")
        kept = _numbers(found).astype(bool)
        expect(kept.sum() != count or count * 2 == 35, "False where the patch is taken away, True where it stays.")
        expect(kept.sum() == 35 - count, f"of 35 patches {count} should be gone; {int((~kept).sum())} are.")
        if 0 < count < 35:
            expect(map_[~kept].max() > map_[kept].max(), "the most important patches go first; yours go last.")
            expect(map_[~kept].min() > map_[kept].max(), "those that go must be the largest of all.")
    tied = _numbers(answer(np.zeros((5, 7)), 9)).astype(bool)
    expect(tied.sum() == 26, "when values are equal your function removes too many or too few: rank, do not compare.")
    return "Ranks, not thresholds: it removes as many as you say, also when values are equal."


@checker("11-c")
def _(answer):
    reasons = {
        "it outlines whatever has edges": "random weights",
        "it shows the same for every question": "another phrase",
        "it always looks at the middle": "centre",
        "it marks whatever is purple": "colour",
    }
    expect(isinstance(answer, dict), "give the dictionary.")
    expect(set(answer) == set(reasons), "keep the four failures as the keys.")
    open_ = [failure for failure, control in answer.items() if control is None or control is Ellipsis]
    expect(not open_, f"{len(open_)} of {len(reasons)} are still open.")
    unknown = [control for control in answer.values() if control not in reasons.values()]
    expect(not unknown, f"{', '.join(map(repr, unknown))}: the controls are {', '.join(sorted(reasons.values()))}.")
    wrong = [failure for failure in reasons if answer[failure] != reasons[failure]]
    expect(not wrong, f"a map of which {wrong[0]!r}: which control would score just as well?" if wrong else "")
    return "A control is a map with that failure and nothing else."


def _returned(found) -> None:
    if found is None or found is Ellipsis:
        raise NotYet("your function returns nothing yet.")


# 03 Image encoding


@checker("03-a")
def _(answer):
    right, twice = (float(number) for number in answer)
    expect(not np.isclose(right, 0.8, atol=1e-3), "0.8 is right after the third step; the fourth is still to come.")
    expect_close(right, (0.8 - 0.5) / 0.5, "only the last step is left: (x - 0.5) / 0.5.")
    expect(not np.isclose(twice, 0.8 / 255, atol=1e-4), "divided by 255, yes; and then the fourth step.")
    expect_close(twice, (0.8 / 255 - 0.5) / 0.5, "divide by 255 first, then (x - 0.5) / 0.5.")
    return "Twice rescaled, light grey is all but black."


@checker("03-b")
def _(answer):
    found, row, column = int(answer), int(300 / 768 * 384 // 14), int(978 / 1024 * 384 // 14)
    stretched = int(300 / 768 * 27) * 27 + int(978 / 1024 * 27)
    expect(found != stretched, "27 patches of 14 pixels do not fill the 384: count in pixels of the squashed picture.")
    expect(found != column * 27 + row, "patches are numbered row by row: the row counts 27 times.")
    expect(found != (row + 1) * 27 + column + 1, "rows and columns are counted from 0.")
    expect(found == row * 27 + column, "squash the point to 384 x 384, divide by 14, then row * 27 + column.")
    return "Squashed first, then counted in patches."


@checker("03-c")
def _(answer):
    import torch

    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 6, generator=generator) * (torch.arange(12) + 1)[:, None]
    unit = features / features.norm(dim=-1, keepdim=True)
    expected = (unit @ unit.T).fill_diagonal_(-2).topk(3, dim=1).indices
    found = answer(features, 3)
    if found is None:
        raise NotYet("your function returns nothing yet.")
    expect_shape(found, (12, 3), "k numbers for each row.")
    found = _numbers(found)
    expect(not (found == np.arange(12)[:, None]).any(), "a picture is not its own neighbour.")
    expect((np.sort(found, 1) == np.sort(_numbers(expected), 1)).all(), "by cosine: long vectors are not more similar.")
    expect((found == _numbers(expected)).all(), "the right ones, but not the most similar first.")
    return "Unit length, cosines, without oneself."


# 08 Zero-shot evaluation


@checker("08-a")
def _(answer):
    answer = float(answer)
    true_alarms, false_alarms = 0.01 * 0.9, 0.99 * 0.1
    expect(abs(answer - 0.9) > 0.01, "0.90 is the share of the *findings* that raise the alarm.")
    expect(abs(answer - true_alarms) > 1e-3, "these are the true alarms among all pictures; divide by all alarms.")
    hint = "of 1000 pictures, how many with the finding raise the alarm, and how many without?"
    expect_close(answer, true_alarms / (true_alarms + false_alarms), hint, tolerance=0.002)
    return "Rare findings turn a good test's alarms into mostly false ones."


@checker("08-b")
def _(answer):
    rng = np.random.default_rng(7)
    first = rng.random(300) < 0.6
    second = first ^ (rng.random(300) < 0.03)  # nearly the same cells are right
    found = answer(first, second)
    if found is None:
        raise NotYet("your function returns nothing yet.")
    low, high = map(float, found)
    mean, half = first.mean() - second.mean(), 1.96 * (first * 1.0 - second).std() / np.sqrt(300)
    unpaired = 1.96 * np.sqrt((first.var() + second.var()) / 300)
    width = high - low
    expect(width > 0, "low must lie below high.")
    expect(width < (half + unpaired) * 0.8, "too wide: draw the same pictures for both, then subtract.")
    expect(abs((low + high) / 2 - mean) < 0.01, "it should lie round accuracy of the first minus that of the second.")
    expect(1.6 * half < width < 2.5 * half, "take the 2.5 % and the 97.5 % quantile of the resampled differences.")
    return "Paired: what is hard for both cancels."


@checker("08-c")
def _(answer):
    from ..metrics import retrieval_ranks

    table = np.random.default_rng(3).normal(size=(30, 30)) + np.eye(30)
    found = answer(table, 5)
    if found is None:
        raise NotYet("your function returns nothing yet.")
    expected = [float((retrieval_ranks(table) <= k).mean()) for k in (1, 5, 10)]
    columns = float((retrieval_ranks(table.T) <= 5).mean())
    expect(abs(float(found) - columns) > 1e-6, "your queries stand in the columns; here they are the rows.")
    hint = "the rank is one plus the number of other items that score at least as high as the right one."
    expect_close([float(answer(table, k)) for k in (1, 5, 10)], expected, hint, tolerance=1e-6)
    expect(float(answer(np.ones((6, 6)), 3)) == 0, "a constant score finds nothing: ties count against the model.")
    expect(float(answer(np.ones((6, 6)), 6)) == 1, "among as many as there are, every item is found.")
    return "Ties, rows and list lengths, all in order."


# 09 Concept annotation


@checker("09-a")
def _(answer):
    from ..metrics import within_group_auroc

    rng = np.random.default_rng(5)
    groups = np.repeat(["a", "b", "c"], [30, 50, 10])
    truth = np.r_[rng.random(30) < 0.8, rng.random(50) < 0.2, np.ones(10, dtype=bool)].astype(int)
    score = np.round(rng.normal(size=90) + 0.5 * truth + 2.0 * (groups == "a"), 1)  # with ties
    found = answer(truth, score, groups)
    if found is None:
        raise NotYet("your function returns nothing yet.")
    found = float(found)
    expected = within_group_auroc(truth, score, groups, n=2).value
    everyone = within_group_auroc(truth, score, np.zeros(90), n=2).value
    each = [
        within_group_auroc(truth[groups == g], score[groups == g], np.zeros(n), n=2).value
        for g, n in zip("ab", (30, 50), strict=True)
    ]
    expect(not np.isnan(found), "a group without a positive or a negative has no pairs: it adds nothing.")
    expect(abs(found - everyone) > 1e-6, "that compares across groups, too: only pairs of one group count.")
    expect(abs(found - np.mean(each)) > 1e-6, "that is the mean over groups; here all pairs count alike.")
    expect_close(found, expected, "won pairs plus half the ties, divided by all pairs, both summed over groups.")
    same = answer(truth, (groups == "a").astype(float), groups)
    expect_close(same, 0.5, "a score that is constant within each group ties every pair.")
    return "Only pairs of one type were compared."


@checker("09-b")
def _(answer):
    import torch

    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(3, 9, 4, generator=generator)
    mask = torch.arange(9)[None] < torch.tensor([9, 5, 3])[:, None]
    found = answer(tokens, mask)
    if found is None:
        raise NotYet("your function returns nothing yet.")
    expect_shape(found, (3, 4), "one vector for each prompt.")
    vectors = torch.nn.functional.normalize(tokens[torch.arange(3), mask.sum(1) - 1], dim=-1)
    unit = torch.nn.functional.normalize(found.float(), dim=-1)
    last = torch.nn.functional.normalize(tokens[:, -1], dim=-1)
    expect(not torch.allclose(unit, last, atol=1e-4), "tokens[:, -1] is padding for all but the longest prompt.")
    hint = "the last real position is the number of real positions minus one, another one for each prompt."
    expect_close(unit, vectors, hint)
    expect_close(found, vectors, "the right positions; now give each vector the length one.")
    return "[SEP], wherever it stands."


@checker("09-c")
def _(answer):
    rng = np.random.default_rng(11)
    types = np.array(["x", "y", "z"])
    known_types, new_types = rng.choice(types, 60), rng.choice(types, 25)
    known = (rng.random(60) < np.where(known_types == "x", 0.9, 0.2)).astype(float)
    known[::7] = np.nan
    found = answer(known, known_types, new_types)
    if found is None:
        raise NotYet("your function returns nothing yet.")
    expect_shape(found, (25,), "one score for each new cell.")
    rates = {t: np.nanmean(known[known_types == t]) for t in types}
    found = _numbers(found)
    expect(not np.isnan(found).any(), "the truth of some learning cells is unknown (NaN): leave them out of the mean.")
    hint = "the share of learning cells of the same type that have the concept."
    expect_close(found, [rates[t] for t in new_types], hint)
    return "It has not looked at a single picture."


# --- 06 Practical tips


@checker("06-a")
def _(answer):
    expect(callable(answer), "give the function itself, without calling it.")
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
    return "Equal lengths stand together, so hardly anything is padded."


def _computed(lengths, size):
    parts = [lengths[start : start + size] for start in range(0, len(lengths), size)]
    return sum(len(part) * part.max() for part in parts)


@checker("06-b")
def _(answer):
    import torch

    from ..settings import SEED

    expect(callable(answer), "give the function itself, without calling it.")
    features = torch.randn(6, 200, generator=torch.Generator().manual_seed(SEED))
    features = features / features.norm(dim=-1, keepdim=True) * torch.tensor([0.1, 1, 1, 1, 1, 20])[:, None]
    codes, scales = answer(features)
    expect(codes.dtype == torch.int8, f"the codes are {codes.dtype}, asked for is torch.int8.")
    expect_shape(codes, (6, 200), "One code for each number.")
    expect_shape(scales, (6, 1), "One scale for each picture, as a column.")
    expect(codes.unique().numel() > 50, "nearly all codes are alike: divide by the scale before you round.")
    error = (codes * scales - features).abs() / features.abs().amax(1, keepdim=True)
    wrapped = bool((codes.float() * features < -1e-6).any())
    expect(not wrapped, "some codes have the wrong sign: int8 ends at 127, and 128 becomes -128.")
    expect(error.max() > 0, "that is no rounding at all.")
    expect(float(error.max()) < 0.75 / 127, "round to the nearest, and let the largest number of a picture become 127.")
    return f"The largest error is {float(error.max()):.1%} of a picture's largest number, in a quarter of the bytes."


@checker("06-c")
def _(answer):
    expected = 10_000 * 27 * 27 * 1152 * 2 / 1e9
    answer = float(answer)
    expect(answer < 1e6, "gigabytes are asked for: divide the bytes by 1e9.")
    expect(abs(answer - 2 * expected) > 0.1, "that is float32.")
    expect(abs(answer - expected / 729) > 1e-3, "those are the pooled vectors; there are many patches in a picture.")
    expect_close(answer, expected, "pictures × patches × width × bytes of a number.", tolerance=0.1)
    return "The pooled vectors of the same pictures take a share of it as small as one in the number of patches."


# --- 10 Concept bottleneck


@checker("10-a")
def _(answer):
    expect(callable(answer), "give the function itself, without calling it.")
    rng = np.random.default_rng(3)
    weights, score, mean = rng.normal(size=(4, 6)), rng.normal(2, 3, 6), rng.normal(2, 1, 6)
    spread = rng.uniform(0.5, 3, 6)
    found = answer(weights, score, mean, spread)
    expect(found is not None and found is not Ellipsis, "your function returns nothing yet.")
    expect_shape(found, (4, 6), "One term for each class and each concept: do not sum yet.")
    found = _numbers(found)
    expect(not np.allclose(found, weights * score), "the weights act on standardised scores.")
    expect(not np.allclose(found, weights * (score - mean)), "minus the mean, and then over the standard deviation.")
    expect_close(found, weights * ((score - mean) / spread), "weight times standardised score.", tolerance=1e-6)
    return "Summed over concepts, plus the intercept, these are the logits."


@checker("10-b")
def _(answer):
    expect(callable(answer), "give the function itself, without calling it.")
    for logit_a, logit_b, weight_a, weight_b, spread in ((2.0, 0.5, 0.8, -0.4, 1.6), (1.0, -1.0, -0.5, 0.3, 0.2)):
        found = answer(logit_a, logit_b, weight_a, weight_b, spread)
        expect(found is not None and found is not Ellipsis, "your function returns nothing yet.")
        expected = -(logit_a - logit_b) * spread / (weight_a - weight_b)
        expect(not np.isclose(found, -expected), "mind the sign: the gap must close, not widen.")
        expect(
            not np.isclose(found, expected / spread), "that is in standard deviations: the score itself is asked for."
        )
        expect_close(found, expected, "the gap changes by (weight_a - weight_b) times change / spread.", tolerance=1e-6)
    return "The smaller it is beside the concept's usual range, the more the decision hangs on it."


@checker("10-c")
def _(answer):
    expect(callable(answer), "give the function itself, without calling it.")
    from ..metrics import auroc, within_group_auroc

    rng = np.random.default_rng(4)
    concept = rng.integers(0, 2, 200)
    other = np.where(rng.random(200) < 0.8, concept, 1 - concept)
    score = 2 * concept + 0.5 * other + rng.normal(size=200)
    found = answer(score, concept, other)
    expect(found is not None and found is not Ellipsis, "your function returns nothing yet.")
    found = float(found)
    everyone, swapped = (f(other, score, *g, n=2).value for f, g in ((auroc, ()), (within_group_auroc, (other,))))
    expect(not np.isclose(found, everyone), "that compares cells with and without the concept, too.")
    expect(np.isnan(swapped) or not np.isclose(found, swapped), "the groups are those of the concept.")
    each = [auroc(other[concept == k], score[concept == k], n=2).value for k in (0, 1)]
    pooled = within_group_auroc(other, score, concept, n=2).value
    expect(not np.isclose(found, 1 - pooled), "that is one minus it: which argument is the truth?")
    # Pairs pooled as in the helper, or the mean of the two groups: both compare like with like.
    expect(
        min(abs(found - pooled), abs(found - np.mean(each))) < 1e-6, "AUROC between cells that agree in the concept."
    )
    return "What remains above one half is not in the concept's name."


# --- 12 Your own images


@checker("12-a")
def _(answer):
    import pandas as pd

    expect(callable(answer), "give the function itself, without calling it.")
    labels = pd.Series({"c.png": "monocyte", "a.png": "basophil", "d.png": "neutrophil", "b.png": "monocyte"})
    found = answer(labels, ["a.png", "b.png", "x.png", "c.png"])
    expect(found is not None and found is not Ellipsis, "your function returns nothing yet.")
    found = [None if pd.isna(label) else label for label in found]
    expect(len(found) == 4, f"one label for each of the 4 names, not {len(found)}.")
    expect(found[:2] + found[3:] != ["monocyte", "basophil", "neutrophil"], "those are labels in the CSV's order.")
    expect(found[2] is None, "a file without a label gets None, and not another file's label.")
    expect(found == ["basophil", "monocyte", None, "monocyte"], "look each name up in the index of the labels.")
    return "Names are looked up, positions are never trusted."


@checker("12-b")
def _(answer):
    expect(callable(answer), "give the function itself, without calling it.")
    rng = np.random.default_rng(5)
    for count, size in ((400, 40), (60, 12)):
        groups = np.array([f"patient {k}" for k in rng.integers(0, size, count)])
        found = answer(groups)
        expect(found is not None and found is not Ellipsis, "your function returns nothing yet.")
        found = np.asarray(found)
        expect_shape(found, (count,), "True or False for each picture.")
        expect(found.dtype == bool, f"boolean values are asked for, these are {found.dtype}.")
        both = set(groups[found]) & set(groups[~found])
        expect(not both, f"{len(both)} of the {len(set(groups))} groups stand on both sides.")
        expect(0.15 <= found.mean() <= 0.35, f"the test side holds {found.mean():.0%} of the pictures, not about 25%.")
    return "No patient is on both sides, so nothing can be passed by recognising one."


@checker("12-c")
def _(answer):
    from html.parser import HTMLParser

    class Cell(HTMLParser):
        def __init__(self, page):
            super().__init__()
            self.tags, self.text = [], ""
            self.feed(page)
            self.close()

        def handle_starttag(self, tag, attrs):
            self.tags.append(tag)

        def handle_data(self, data):
            self.text += data

    expect(callable(answer), "give the function itself, without calling it.")
    for text in ("basophil", "<script>alert('1')</script>", 'a "quoted" <b>name</b> & more', "&lt;is text, too&gt;"):
        found = answer(text)
        expect(found is not None and found is not Ellipsis, "your function returns nothing yet.")
        expect(found.startswith("<td") and found.endswith("</td>"), "the cell starts with <td> and ends with </td>.")
        cell = Cell(found)
        expect(
            cell.tags == ["td"], f"the text {text!r} brought a tag of its own along: <{'>, <'.join(cell.tags[1:])}>."
        )
        expect(cell.text == text, f"{text!r} shows up as {cell.text!r}. Escape once, and the ampersand first.")
    return "Any text shows up as it is, and none of it runs."
