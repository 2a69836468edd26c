"""Draws of a few labels, and the curves of notebook 14."""

import matplotlib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from helpers.course.label_curves import STRENGTHS, draw_labels, fit_probe, label_curve, plot_label_curves

matplotlib.use("Agg")
LABELS = np.repeat(["a", "b", "c"], [100, 40, 10])


def test_a_draw_has_the_share_of_each_class_and_one_of_each_at_least():
    rng = np.random.default_rng(0)
    assert [int((LABELS[draw_labels(LABELS, 0.1, rng)] == name).sum()) for name in "abc"] == [10, 4, 1]
    assert [int((LABELS[draw_labels(LABELS, 0.01, rng)] == name).sum()) for name in "abc"] == [1, 1, 1]
    assert draw_labels(LABELS, 1.0, rng).tolist() == list(range(150))
    for share in (0, 1.1):
        with pytest.raises(ValueError, match=str(share)):
            draw_labels(LABELS, share, rng)


def test_a_curve_on_vectors_that_say_it_all_and_on_noise():
    rng = np.random.default_rng(0)
    clear = np.eye(3)[np.searchsorted(["a", "b", "c"], LABELS)] + rng.normal(0, 0.01, (150, 3))
    noise = rng.normal(size=(150, 3))
    tests = {"clear": (clear, LABELS), "noise": (noise, LABELS)}
    table = label_curve(lambda: KNeighborsClassifier(1), clear, LABELS, tests, draws=5)
    assert table["labels"].unique().tolist() == [3, 15, 150]
    assert table.groupby("share")["draws"].first().tolist() == [5, 5, 1]
    values = table.set_index(["test", "share"])["value"]
    assert values["clear", 0.01].value == 1 and values["noise", 1.0].value < 0.6
    assert values["noise", 0.1].low < values["noise", 0.1].value < values["noise", 0.1].high
    again = label_curve(lambda: KNeighborsClassifier(1), clear, LABELS, tests, draws=5)
    assert again.astype(str).equals(table.astype(str))

    figure, ax = matplotlib.pyplot.subplots()
    plot_label_curves({"neighbour": table}, {"zero-shot": 0.7}, "noise", ax=ax)
    assert ax.get_title() == "noise" and [text.get_text() for text in ax.get_xticklabels()] == ["3", "15", "150"]
    matplotlib.pyplot.close(figure)


def test_a_probe_takes_the_strength_that_is_best_on_other_cells():
    rng = np.random.default_rng(0)
    middles = np.eye(3)[np.searchsorted(["a", "b", "c"], LABELS)]
    vectors, others = (middles + rng.normal(0, spread, (150, 3)) for spread in (0.6, 0.6))
    found = fit_probe(vectors, LABELS, others, LABELS)
    tried = [LogisticRegression(C=strength, max_iter=2000).fit(vectors, LABELS) for strength in STRENGTHS]
    assert STRENGTHS[int(np.argmax([fit.score(others, LABELS) for fit in tried]))] == found.C
    rare = LABELS == "c"  # too few to be learned under a strong penalty, and nothing else is asked
    assert min(STRENGTHS) < fit_probe(middles, LABELS, middles[rare], LABELS[rare]).C
    assert min(STRENGTHS) == fit_probe(middles, LABELS, middles[~rare], LABELS[~rare]).C  # all alike
    object_labels = LABELS.astype(object)
    assert set(fit_probe(vectors, object_labels, others, object_labels).predict(others)) <= set("abc")
