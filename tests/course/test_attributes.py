"""WBCAtt's attributes as phrases, their mean measures, and cells cut out by their masks."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import cohen_kappa_score, f1_score

import helpers
from helpers.bloodcells import ATTRIBUTES, CONCEPTS
from helpers.course.attributes import (
    ATTRIBUTE_CONCEPTS,
    ATTRIBUTE_PHRASES,
    WBCATT_RESNET50,
    each_attribute,
    over_attributes,
)
from helpers.course.crops import PROMPT, cut_out, square_around
from helpers.course.evaluation_figures import distance_from_people, risk_against_coverage
from recipes.grading import TEMPLATES


def test_each_value_has_the_phrases_of_the_concept_that_is_true_exactly_then():
    assert {name: list(values) for name, values in ATTRIBUTE_PHRASES.items()} == {
        name: list(values) for name, values in ATTRIBUTES.items()
    }
    table = helpers.load_cells("val").table
    for name, values in ATTRIBUTE_CONCEPTS.items():
        for value, key in values.items():
            assert ATTRIBUTE_PHRASES[name][value] == CONCEPTS[key].phrases
            assert ((table[name] == value) == (table[key] == 1)).all(), (name, value, key)


def test_the_published_means_are_those_of_the_paper():
    assert (WBCATT_RESNET50.accuracy, WBCATT_RESNET50.macro_f1) == (0.9409, 0.9127)


@pytest.fixture
def readings():
    rng = np.random.default_rng(0)
    truth = pd.DataFrame({"size": rng.choice(["big", "small"], 200), "colour": rng.choice(list("rgb"), 200)})
    good, bad = truth.copy(), truth.copy()
    good.loc[:19, "size"] = "big"
    bad["colour"] = rng.permutation(bad["colour"])
    return truth, good, bad


@pytest.mark.parametrize(
    ("measure", "one"),
    [("macro F1", lambda t, p: f1_score(t, p, average="macro")), ("kappa", cohen_kappa_score)],
)
def test_the_mean_over_attributes_is_that_of_scikit_learn(readings, measure, one):
    truth, good, bad = readings
    means = [np.mean([one(truth[name], table[name]) for name in truth]) for table in (good, bad)]
    found = over_attributes(truth, good, measure=measure)
    assert found.value == pytest.approx(means[0]) and found.low < found.value < found.high and found.count == 200
    gap = over_attributes(truth, good, against=bad, measure=measure)
    assert gap.value == pytest.approx(means[0] - means[1]) and gap.low > 0


def test_a_pair_is_judged_on_the_same_cells(readings):
    truth, good, bad = readings
    assert over_attributes(truth, good, against=good).note.startswith("all")
    alone = [over_attributes(truth, table) for table in (good, bad)]
    gap = over_attributes(truth, good, against=bad)
    assert gap.high - gap.low < sum(e.high - e.low for e in alone)


def test_intervals_of_several_attributes_hold_together(readings):
    """One alone has the usual interval; eleven have wider ones, and that of what never varies has no width."""
    truth, _, bad = readings
    for measure in ("kappa", "macro F1"):
        (alone,) = each_attribute(truth[["colour"]], bad[["colour"]], measure=measure)
        usual = over_attributes(truth[["colour"]], bad[["colour"]], measure=measure, n=4000)
        assert list(alone) == pytest.approx(list(usual), abs=1e-3)
    rng = np.random.default_rng(1)
    many = pd.DataFrame(rng.choice(["a", "b"], (200, 11)))
    guesses = many.where(rng.random(many.shape) < 0.8, rng.choice(["a", "b"], many.shape))
    guesses[10] = many[10]
    together = each_attribute(many, guesses)
    each = [helpers.metrics.kappa(many[k], guesses[k], n=4000) for k in many]
    assert [e.value for e in together] == pytest.approx([e.value for e in each])
    assert all(wide.low < e.low and wide.high > e.high for wide, e in zip(together[:10], each[:10], strict=True))
    assert list(together[10]) == [1, 1, 1] and together[10].note.startswith("all 200")
    nothing = each_attribute(many, guesses, against=guesses)
    assert all(list(gap) == [0, 0, 0] for gap in nothing)


def test_intervals_that_hold_together_miss_no_attribute_in_most_samples():
    """Ten measures whose true value is known: all ten are inside in about 95 samples of 100."""
    rng, inside = np.random.default_rng(2), []
    for _ in range(40):
        truth = pd.DataFrame(rng.choice(["a", "b"], (150, 10)))
        said = truth.where(rng.random(truth.shape) < 0.7, np.where(truth == "a", "b", "a"))
        together = each_attribute(truth, said, measure="accuracy", n=500)
        inside.append(all(e.low <= 0.7 <= e.high for e in together))
    assert np.mean(inside) > 0.8


def test_within_a_group_only_its_own_cells_count(readings):
    truth, good, bad = readings
    groups = np.repeat(["x", "y"], 100)
    pairs = [("x", "size"), ("y", "colour")]
    each = [
        f1_score(truth["size"][:100], bad["size"][:100], average="macro"),
        f1_score(truth["colour"][100:], bad["colour"][100:], average="macro"),
    ]
    found = over_attributes(truth, bad, groups=groups, pairs=pairs)
    assert found.value == pytest.approx(np.mean(each)) and found.low < found.value < found.high
    assert over_attributes(truth, good, against=bad, groups=groups, pairs=pairs[1:]).low > 0


def test_what_cannot_be_compared_is_refused(readings):
    truth, good, _ = readings
    with pytest.raises(ValueError, match=r"groups.*pairs"):
        over_attributes(truth, good, groups=np.zeros(200))
    with pytest.raises(ValueError, match=r"'size'.*'z'"):
        over_attributes(truth, good, groups=np.full(200, "x"), pairs=[("z", "size")])
    with pytest.raises(ValueError, match=r"measure.*'beauty'"):
        over_attributes(truth, good, measure="beauty")
    with pytest.raises(ValueError, match=r"measure.*'beauty'"):
        each_attribute(truth, good, measure="beauty")
    with pytest.raises(ValueError, match=r"truth.*answers"):
        over_attributes(truth, good[["colour", "size"]])
    with pytest.raises(ValueError, match="missing"):
        over_attributes(truth, good.where(good["size"] == "big"))


def test_a_cell_is_cut_out_by_its_own_mask():
    image = Image.new("RGB", (100, 80))
    image.paste((255, 255, 255), (40, 30, 60, 40))
    mask = np.asarray(image)[..., 0] > 0
    square = np.asarray(square_around(image, mask, 2.0, size=80))[..., 0] > 128
    assert square.shape == (80, 80) and square.any(0).sum() == pytest.approx(40, abs=2)
    with pytest.raises(ValueError, match="empty"):
        square_around(image, np.zeros_like(mask))
    with pytest.raises(ValueError, match=r"\(100, 80\).*\(80, 100\)"):
        square_around(image, mask.T)


def test_the_chapters_cut_and_ask_as_the_recipe_does():
    fields = helpers.load_cells("krd")[:2]
    alone = square_around(fields.images[1], fields.masks["white cell"][1])
    assert np.array_equal(cut_out(fields)[1], alone) and len(cut_out(fields)) == 2
    assert TEMPLATES[0] == PROMPT


def test_the_figures_show_every_row_and_every_curve():
    one = helpers.bootstrap_mean([0, 1, 1, 1])
    table = pd.DataFrame({"second reader": [one, one], "zero-shot": [one, one]}, index=["cell_size", "cell_shape"])
    ax = distance_from_people(table)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cell size", "cell shape"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(table.columns)
    curve = helpers.metrics.risk_coverage([1, 1, 0, 1], [0.9, 0.8, 0.3, 0.6], coverages=(0.5, 1))
    ax = risk_against_coverage({"model": curve, "rival": curve})
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert list(lines["model"]) == [0, 0.25] and "rival" in lines
