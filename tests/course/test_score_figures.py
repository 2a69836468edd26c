"""The figures of chapter 04: what they draw is what they were given."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from helpers.course import prompt_lists, sigmoid_curves


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_each_curve_passes_its_dot_at_one_half():
    pairs = {"one": (10.0, -2.0), "two": (90.0, -11.0)}
    ax = sigmoid_curves(pairs, [[0.1, 0.2], [0.3, 0.4]], ticks="four cosines")
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["one", "two", "four cosines"]
    lines = {line.get_label(): line for line in ax.lines}
    for label, (scale, bias) in pairs.items():
        x, y = lines[label].get_data()
        assert np.interp(-bias / scale, x, y) == pytest.approx(0.5, abs=0.01)
        assert any(len(dot.get_xdata()) == 1 and dot.get_xdata()[0] == pytest.approx(-bias / scale) for dot in ax.lines)
    assert lines["four cosines"].get_xdata().tolist() == [0.1, 0.2, 0.3, 0.4]


def test_each_list_has_its_bars_and_the_watched_prompt_another_colour():
    first = pd.DataFrame({"sigmoid": [0.9, 0.2], "softmax": [0.7, 0.3]}, index=["a", "b"])
    second = pd.DataFrame({"sigmoid": [0.9, 0.9, 0.2], "softmax": [0.4, 0.4, 0.2]}, index=["a", "a", "b"])
    axes = prompt_lists({"two": first, "three": second}, ["a"])
    assert axes.shape == (2, 2)
    for row, table in zip(axes, (first, second), strict=True):
        for ax, kind in zip(row, table, strict=True):
            assert [bar.get_width() for bar in ax.patches] == pytest.approx(table[kind].tolist())
            colours = [bar.get_facecolor() for bar in ax.patches]
            assert len(set(colours)) == 2 and colours[0] != colours[-1]
    assert [ax.get_title(loc="left") for ax in axes[:, 0]] == ["two", "three"]
    assert [ax.get_xlabel() for ax in axes[-1]] == ["sigmoid", "softmax"]
