"""The exercises of notebooks 03 and 04: right answers pass, likely mistakes get the hint that belongs to them."""

import numpy as np
import pytest
import torch.nn.functional as F

import helpers


def said(capsys, name, answer):
    helpers.check(name, answer)
    return capsys.readouterr().out.strip()


SCALE, BIAS = helpers.scoring.RELEASED_SCALES[:2]
LOGIT = np.log(9)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("03-a", (0.6, -0.9937)),
        ("03-b", 10 * 27 + 26),
        ("04-a", (LOGIT - BIAS) / SCALE),
        ("04-b", (0.30, 0.44444)),
    ],
)
def test_right_numbers(capsys, name, answer):
    assert said(capsys, name, answer).startswith(f"{name}: correct.")


@pytest.mark.parametrize(
    ("name", "answer", "hint"),
    [
        ("03-a", (0.8, 0.0031), "fourth is still to come"),
        ("03-a", (0.6, 0.8 / 255), "and then the fourth step"),
        ("03-a", (0.6, -1), "divide by 255 first"),
        ("03-b", 10 * 27 + 25, "do not fill the 384"),
        ("03-b", 26 * 27 + 10, "row by row"),
        ("03-b", 11 * 27 + 27, "counted from 0"),
        ("03-b", 5, "squash the point"),
        ("04-a", -BIAS / SCALE, "its logit is 0"),
        ("04-a", LOGIT, "that is the logit"),
        ("04-a", (LOGIT + BIAS) / SCALE, "mind the sign"),
        ("04-a", 0.5, "solve"),
        ("04-b", (0.44, 0.44), "does a sigmoid look"),
        ("04-b", (0.3, 0.4), "divided anew"),
        ("04-b", (0.3, 0.8), "the same race"),
        ("04-b", (0.3, 0.9), "what is the total"),
    ],
)
def test_wrong_numbers(capsys, name, answer, hint):
    line = said(capsys, name, answer)
    assert line.startswith(f"{name}: not yet:") and hint in line


def unit(x):
    return F.normalize(x, dim=-1)


LOCAL = {
    "correct": lambda t, v, top: helpers.scoring.local_scores(t, v, recipe="zero_shot", top=top),
    "returns nothing": lambda t, v, top: None,
    "shape": lambda t, v, top: (unit(t) @ unit(v).T).topk(2, dim=2).values,
    "not cosines": lambda t, v, top: (t @ v.T).topk(top, dim=1).values.mean(1),
    "`top` largest": lambda t, v, top: (unit(t) @ unit(v).T).mean(1),
    "over patches": lambda t, v, top: (unit(t) @ unit(v).T).amax(1),
}
NEIGHBOURS = {
    "correct": lambda x, k: (unit(x) @ unit(x).T).fill_diagonal_(-2).topk(k, dim=1).indices,
    "returns nothing": lambda x, k: None,
    "shape": lambda x, k: (unit(x) @ unit(x).T).argsort(dim=1),
    "its own neighbour": lambda x, k: (unit(x) @ unit(x).T).topk(k, dim=1).indices,
    "by cosine": lambda x, k: (x @ x.T).fill_diagonal_(-1e9).topk(k, dim=1).indices,
    "not the most similar first": lambda x, k: NEIGHBOURS["correct"](x, k).flip(1),
}


@pytest.mark.parametrize("expected", LOCAL)
def test_local_score(capsys, expected):
    assert expected in said(capsys, "04-c", LOCAL[expected])


@pytest.mark.parametrize("expected", NEIGHBOURS)
def test_neighbours(capsys, expected):
    assert expected in said(capsys, "03-c", NEIGHBOURS[expected])


def test_released_scales_are_those_of_the_facts():
    """Exponentiated scales, as `forward` returns them."""
    found = list(helpers.scoring.RELEASED_SCALES)
    assert found == pytest.approx([96.6067, -11.161472, 91.0569, -11.034302], abs=1e-4)
