from html import escape

import numpy as np
from sklearn.model_selection import GroupShuffleSplit


def shuffled(groups):
    split = GroupShuffleSplit(1, test_size=0.25, random_state=0)
    _, test = next(split.split(groups, groups=groups))
    return np.isin(np.arange(len(groups)), test)


RIGHT = {
    "12-a": [lambda labels, names: [labels.get(name) for name in names], lambda labels, names: labels.reindex(names)],
    "12-b": [shuffled],
    "12-c": [lambda text: f"<td>{escape(text)}</td>", lambda text: f'<td class="x">{escape(text, quote=False)}</td>'],
}
WRONG = {
    "12-a": [
        (lambda labels, names: [labels.iloc[0], labels.iloc[1], None, labels.iloc[2]], "in the CSV's order"),
        (lambda labels, names: [labels[name] for name in names if name in labels], "one label for each"),
        (lambda labels, names: [labels.get(name, "monocyte") for name in names], "gets None"),
        (lambda labels, names: [None] * 4, "look each name up"),
        (lambda labels, names: [labels[name] for name in names], "KeyError"),
    ],
    "12-b": [
        (lambda groups: np.arange(len(groups)) % 4 == 0, "stand on both sides"),
        (lambda groups: np.zeros(len(groups), bool), "holds 0%"),
        (lambda groups: shuffled(groups).astype(int), "int64"),
        (lambda groups: np.unique(groups), "True or False for each"),
    ],
    "12-c": [
        (lambda text: f"<td>{text}</td>", "a tag of its own"),
        (lambda text: "<td>" + text.replace("<", "&lt;").replace("&", "&amp;") + "</td>", "the ampersand first"),
        (escape, "starts with <td>"),
        (len, "of type int"),
    ],
}
