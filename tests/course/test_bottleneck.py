"""A bottleneck on concepts of which it is known which ones decide."""

import numpy as np
import pandas as pd
import pytest
from sklearn.tree import DecisionTreeClassifier

import helpers
from helpers.course.bottleneck import sparsest_as_good

RNG = np.random.default_rng(0)
SCORES = pd.DataFrame(RNG.normal(2, 3, (400, 8)), columns=[f"concept {k}" for k in range(8)])
LABELS = np.where(SCORES["concept 0"] > 3, "a", np.where(SCORES["concept 1"] > 2, "b", "c"))


@pytest.fixture(scope="module")
def bottleneck():
    return helpers.course.fit_bottleneck(SCORES[:250], LABELS[:250], SCORES[250:330], LABELS[250:330])


def test_it_finds_the_concepts_that_decide_and_few_others(bottleneck):
    assert {"concept 0", "concept 1"} <= set(bottleneck.used)
    assert len(bottleneck.used) < 8
    strongest = bottleneck.weights.abs().max().sort_values().index[-2:]
    assert set(strongest) == {"concept 0", "concept 1"}
    assert bottleneck.weights["concept 0"].idxmax() == "a"
    assert bottleneck.weights["concept 1"].idxmax() == "b"
    assert (bottleneck.predict(SCORES[330:]) == LABELS[330:]).mean() > 0.85


def test_the_sparsest_as_good_as_the_best_is_chosen(bottleneck):
    accuracies = [0.5, 0.8, 0.82, 0.9, 0.85]
    assert sparsest_as_good(accuracies, 10_000) == 3
    assert sparsest_as_good(accuracies, 10) == 2  # one standard error is 0.095
    path = bottleneck.path
    assert path["concepts"].iloc[0] == 0  # the strongest penalty leaves nothing
    assert path["concepts"].iloc[-1] == 8
    assert path.index[path["chosen"]].tolist() == [sparsest_as_good(path["validation"], 80)]


def test_contributions_sum_to_the_logits_and_probabilities_to_one(bottleneck):
    logits, probabilities = bottleneck.logits(SCORES), bottleneck.probabilities(SCORES)
    for row in (0, 7, 399):
        parts = bottleneck.contributions(SCORES, row)
        np.testing.assert_allclose(parts.sum(axis=1) + bottleneck.intercept, logits.iloc[row])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.idxmax(axis=1) == bottleneck.predict(SCORES)).all()
    mean = SCORES[:250].mean().to_frame().T
    np.testing.assert_allclose(bottleneck.contributions(mean, 0), 0, atol=1e-9)


def test_contributions_by_name(bottleneck):
    named = SCORES.set_axis([f"cell {k}" for k in range(400)])
    pd.testing.assert_frame_equal(bottleneck.contributions(named, "cell 3"), bottleneck.contributions(SCORES, 3))


def test_correcting_a_concept_changes_the_decision_and_not_the_table(bottleneck):
    before = SCORES.copy()
    truth = pd.DataFrame({"concept 0": SCORES["concept 0"] > 3}).reindex(columns=SCORES.columns).astype(float)
    typical = helpers.course.typical_scores(SCORES, truth)
    assert typical.loc["concept 0", "present"] == pytest.approx(SCORES["concept 0"][SCORES["concept 0"] > 3].mean())
    assert typical.loc["concept 1"].isna().all()  # no truth is known of it
    corrected = bottleneck.intervene(SCORES, {"concept 0": typical.loc["concept 0", "present"]})
    assert (bottleneck.predict(corrected) == "a").mean() > 0.95
    pd.testing.assert_frame_equal(SCORES, before)
    with pytest.raises(ValueError, match="'nucleus'"):
        bottleneck.intervene(SCORES, {"nucleus": 1})


def test_two_classes(bottleneck):
    labels = np.where(SCORES["concept 2"] > 2, "yes", "no")
    two = helpers.course.fit_bottleneck(SCORES[:250], labels[:250], SCORES[250:], labels[250:])
    assert two.classes == ["no", "yes"]
    assert (two.predict(SCORES[250:]) == labels[250:]).mean() > 0.9
    np.testing.assert_allclose(two.weights.sum(), 0, atol=1e-9)


def test_it_is_repeatable(bottleneck):
    again = helpers.course.fit_bottleneck(SCORES[:250], LABELS[:250], SCORES[250:330], LABELS[250:330])
    pd.testing.assert_frame_equal(again.weights, bottleneck.weights)


def test_what_is_wrong_is_said(bottleneck):
    good = (SCORES[:50], LABELS[:50], SCORES[50:60], LABELS[50:60])
    for arguments, named in (
        ((SCORES[:50], LABELS[:49], *good[2:]), "labels.*50.*49"),
        ((SCORES[:50] * np.nan, *good[1:]), "scores.*NaN"),
        ((SCORES[:50], ["a"] * 50, *good[2:]), "labels"),
    ):
        with pytest.raises(ValueError, match=named):
            helpers.course.fit_bottleneck(*arguments)
    with pytest.raises(ValueError, match="concept 7"):
        bottleneck.predict(SCORES.drop(columns="concept 7"))


def test_labels_are_matched_by_name(bottleneck):
    cells = [f"cell {k}" for k in range(400)]
    scores, labels = SCORES.set_axis(cells), pd.Series(LABELS, cells)
    turned = labels.sample(frac=1, random_state=0)
    learn, rest = scores[:250], scores[250:330]
    again = helpers.course.fit_bottleneck(
        learn, turned[turned.index.isin(learn.index)], rest, turned[turned.index.isin(rest.index)]
    )
    pd.testing.assert_frame_equal(again.weights, bottleneck.weights)
    truth = (scores > 2).astype(float)
    typical = helpers.course.typical_scores(scores, truth)
    pd.testing.assert_frame_equal(helpers.course.typical_scores(scores, truth.sample(frac=1, random_state=1)), typical)
    for wrong, named in ((labels.rename({"cell 3": "x"}), "'cell 3'"), (labels.replace("a", "B "), "'B '")):
        with pytest.raises(ValueError) as error:
            helpers.course.fit_bottleneck(learn, wrong[:250], rest, labels[250:330])
        assert named in str(error.value)
    with pytest.raises(ValueError) as error:
        helpers.course.typical_scores(scores, truth.rename({"cell 3": "x"}))
    assert "'cell 3'" in str(error.value)


def test_images_without_a_label_are_left_out_and_counted(bottleneck):
    labels = np.r_[LABELS[:250], [None, np.nan]].astype(object)
    with pytest.warns(UserWarning, match="2 of 252"):
        again = helpers.course.fit_bottleneck(
            pd.concat([SCORES[:250], SCORES[398:]]), labels, SCORES[250:330], LABELS[250:330]
        )
    pd.testing.assert_frame_equal(again.weights, bottleneck.weights)


def test_no_classifier_beats_the_best_possible():
    answers = pd.DataFrame({"x": [1, 1, 1, 0, 0], "y": [0, 0, 0, 1, 0]})
    said = helpers.course.best_possible(answers, ["a", "a", "b", "c", "b"])
    assert said.tolist() == ["a", "a", "a", "c", "b"]
    many = pd.DataFrame(RNG.integers(0, 2, (300, 4)))
    labels = RNG.choice(["a", "b", "c"], 300)
    ceiling = (helpers.course.best_possible(many, labels) == labels).mean()
    tree = DecisionTreeClassifier(random_state=0).fit(many, labels)  # it splits until nothing can be told apart
    assert tree.score(many, labels) == pytest.approx(ceiling)
    with pytest.raises(ValueError, match="missing"):
        helpers.course.best_possible(answers.astype(float).where(answers == 1), ["a", "a", "b", "c", "b"])
    with pytest.raises(ValueError, match="missing"):
        helpers.course.best_possible(answers, ["a", "a", "b", "c", None])


def test_lists_are_a_sample_and_images_are_too():
    rng = np.random.default_rng(0)
    shares = np.r_[np.full(20, 0.9), np.full(20, 0.5)]  # lists differ much more than images do
    first, second = (rng.random((40, 300)) < shares[:, None] for _ in range(2))
    gap = helpers.course.lists_difference(first, second)
    assert gap.value == pytest.approx(first.mean() - second.mean()) and gap.low < 0 < gap.high and gap.count == 300
    images_alone = helpers.bootstrap_mean(first.mean(0) - second.mean(0))
    assert gap.high - gap.low > 3 * (images_alone.high - images_alone.low)
    alike = helpers.course.lists_difference(first[:1], second[:1])  # one list of each kind: only images vary
    paired = helpers.bootstrap_mean(first[0].astype(float) - second[0])
    assert list(alike) == pytest.approx(list(paired), abs=0.02)
    with pytest.raises(ValueError, match=r"\(40, 300\).*\(40, 200\)"):
        helpers.course.lists_difference(first, second[:, :200])
