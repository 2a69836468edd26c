"""The checkers of notebooks 10 and 12: right answers in any form, the known mistakes told apart."""

from html import escape

import numpy as np
import pytest
from sklearn.model_selection import GroupShuffleSplit

import helpers


def said(capsys, name, answer):
    helpers.check(name, answer)
    return capsys.readouterr().out


def mean_of_groups(score, concept, other):
    return np.mean([helpers.auroc(other[concept == k], score[concept == k], n=2).value for k in (0, 1)])


def shuffled(groups):
    split = GroupShuffleSplit(1, test_size=0.25, random_state=0)
    _, test = next(split.split(groups, groups=groups))
    return np.isin(np.arange(len(groups)), test)


RIGHT = {
    "10-a": [lambda w, s, m, d: w * ((s - m) / d), lambda w, s, m, d: np.einsum("ck,k->ck", w / d, s - m)],
    "10-b": [lambda a, b, wa, wb, d: (b - a) / ((wa - wb) / d)],
    "10-c": [lambda s, c, o: helpers.metrics.within_group_auroc(o, s, c).value, mean_of_groups],
    "12-a": [lambda labels, names: [labels.get(name) for name in names], lambda labels, names: labels.reindex(names)],
    "12-b": [shuffled],
    "12-c": [lambda text: f"<td>{escape(text)}</td>", lambda text: f'<td class="x">{escape(text, quote=False)}</td>'],
}
WRONG = {
    "10-a": {
        "nothing yet": lambda w, s, m, d: None,
        "do not sum": lambda w, s, m, d: (w * ((s - m) / d)).sum(1),
        "act on standardised": lambda w, s, m, d: w * s,
        "over the standard deviation": lambda w, s, m, d: w * (s - m),
        "give the function itself": 3,
    },
    "10-b": {
        "mind the sign": lambda a, b, wa, wb, d: (a - b) * d / (wa - wb),
        "in standard deviations": lambda a, b, wa, wb, d: (b - a) / (wa - wb),
        "the gap changes by": lambda a, b, wa, wb, d: (b - a) / wa,
        "nothing yet": lambda *numbers: ...,
    },
    "10-c": {
        "with and without the concept": lambda s, c, o: helpers.auroc(o, s, n=2).value,
        "one minus it": lambda s, c, o: helpers.metrics.within_group_auroc(o, -s, c, n=2).value,
        "cells that agree in the concept": lambda s, c, o: 0.5,
    },
    "12-a": {
        "in the CSV's order": lambda labels, names: [labels.iloc[0], labels.iloc[1], None, labels.iloc[2]],
        "one label for each": lambda labels, names: [labels[name] for name in names if name in labels],
        "gets None": lambda labels, names: [labels.get(name, "monocyte") for name in names],
        "look each name up": lambda labels, names: [None] * 4,
    },
    "12-b": {
        "stand on both sides": lambda groups: np.arange(len(groups)) % 4 == 0,
        "holds 0%": lambda groups: np.zeros(len(groups), bool),
        "boolean values": lambda groups: shuffled(groups).astype(int),
        "True or False for each": lambda groups: np.unique(groups),
    },
    "12-c": {
        "a tag of its own": lambda text: f"<td>{text}</td>",
        "the ampersand first": lambda text: "<td>" + text.replace("<", "&lt;").replace("&", "&amp;") + "</td>",
        "starts with <td>": lambda text: escape(text),
    },
}


@pytest.mark.parametrize(("name", "k"), [(name, k) for name in RIGHT for k in range(len(RIGHT[name]))])
def test_right_answers(capsys, name, k):
    assert said(capsys, name, RIGHT[name][k]).startswith(f"{name}: correct. ")


@pytest.mark.parametrize(("name", "hint"), [(name, hint) for name in WRONG for hint in WRONG[name]])
def test_known_mistakes(capsys, name, hint):
    line = said(capsys, name, WRONG[name][hint])
    assert line.startswith(f"{name}: not yet: ")
    assert hint in line
