"""The checkers of notebooks 01, 02 and 06: right answers in any form, the known mistakes told apart."""

import numpy as np
import pytest
import torch

import helpers


def said(capsys, name, answer):
    helpers.check(name, answer)
    return capsys.readouterr().out


def pack(lengths, size):
    order = np.argsort(lengths)
    return [order[start : start + size] for start in range(0, len(order), size)]


def to_int8(features, top=127):
    scales = features.abs().amax(1, keepdim=True) / top
    return (features / scales).round().to(torch.int8), scales


RIGHT = {
    "01-a": [np.exp(4.570648) / 4.570648, torch.tensor(21.14), 21],
    "01-b": [542_868_036 * 2 / 1e9, 1.09],
    "01-c": [1 - (378 / 384) ** 2, 0.031],
    "02-a": [["o", "##t", "##or", "##h", "##in", "##ol", "##ar", "##y", "##n", "##g", "##olog", "##ist"]],
    "02-b": [lambda mask: mask.sum(1) - 2, lambda mask: [int(row.nonzero().max()) - 1 for row in mask]],
    "02-c": [lambda s: s.clone().fill_diagonal_(-9).argmax(1)],
    "06-a": [pack, lambda lengths, size: [batch[::-1] for batch in pack([-n for n in lengths], size)]],
    "06-b": [to_int8],
    "06-c": [10_000 * 729 * 1152 * 2 / 1e9],
}
WRONG = {
    "01-a": {96.6: "true scale", 4.57: "logarithm", 1 / 21: "logarithm"},
    "01-b": {1.0857e9: "divide the bytes", 2.17: "float32", 0.54: "takes a dtype"},
    "01-c": {6 / 384: "share of a side", (378 / 384) ** 2: "what is seen", 0.1: "whole patches"},
    "02-a": {
        "word": "list of pieces",
        ("[UNK]",): "plain letters",
        ("round", "nucleus", "of", "it"): "begin 4",
        ("az", "##ur"): "these are 2",
        ("o", "##t", "##o", "##r", "##h"): "Let it do the cutting",
    },
    "02-b": {
        (lambda mask: mask.sum(1)): "behind [SEP]",
        (lambda mask: mask.sum(1) - 1): "that is [SEP]",
        (lambda mask: torch.full((len(mask),), 7)): "its own length",
        (lambda mask: mask.sum(1) - 3): "count the real positions",
        3: "function itself",
    },
    "02-c": {
        (lambda s: s.argmax(1)): "own neighbour",
        (lambda s: s.clone().fill_diagonal_(0).argmax(1)): "own neighbour",
        (lambda s: s.argsort(1)[:, -2]): "own neighbour",
        (lambda s: s.fill_diagonal_(-9).argmax(1)): "work on a copy",
        (lambda s: s.clone().fill_diagonal_(-9).argmin(1)): "own neighbour",
        (lambda s: s.clone().fill_diagonal_(-9).max()): "shape",
    },
    "06-a": {
        (lambda lengths, size: pack(range(len(lengths)), size)): "like length",
        (lambda lengths, size: pack(lengths, size + 1)): "more than size",
        (lambda lengths, size: pack(lengths, size)[:-1]): "each number once",
        (lambda lengths, size: pack(lengths, 1)): "as few batches",
    },
    "06-b": {
        (lambda x: to_int8(x, 128)): "wrong sign",
        (lambda x: to_int8(x, 60)): "round to the nearest",
        (lambda x: (x.to(torch.int8), torch.ones(6, 1))): "nearly all codes",
        (lambda x: ((x * 127 / x.abs().amax()).round().to(torch.int8), torch.ones(6, 1))): "round to the nearest",
        (lambda x: (x, torch.ones(6, 1))): "torch.int8",
        (lambda x: (to_int8(x)[0], to_int8(x)[1][:, 0])): "as a column",
    },
    "06-c": {16.796e9: "divide the bytes", 33.59: "float32", 0.02304: "pooled vectors", 5.0: "pictures × patches"},
}


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name in RIGHT for answer in RIGHT[name]])
def test_right_answers(capsys, name, answer):
    assert said(capsys, name, answer).startswith(f"{name}: correct. ")


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name in WRONG for answer in WRONG[name]])
def test_known_mistakes(capsys, name, answer):
    line = said(capsys, name, answer)
    assert line.startswith(f"{name}: not yet: ")
    assert WRONG[name][answer] in line
