"""Metrics against scikit-learn and against cases whose answer is known by hand."""

import inspect

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sk

import helpers
from helpers.metrics import Estimate
from helpers.metrics.intervals import resample_weights
from helpers.metrics.ranking import weighted_wins

RNG = np.random.default_rng(1)
TRUTH = RNG.random(80) < 0.4
UNKNOWN = np.array([[1, np.nan], [0, 1]])
SCORE = np.round(TRUTH + RNG.normal(size=80), 1)  # rounded: with ties


def test_estimate_prints_unpacks_and_shows_in_tables():
    estimate = Estimate(0.9712, 0.96, 0.9849)
    assert str(estimate) == repr(estimate) == "0.97 (0.96–0.98)"
    assert f"{estimate:.3f}" == "0.971 (0.960–0.985)"
    assert list(estimate) == [0.9712, 0.96, 0.9849]
    assert float(estimate) == 0.9712
    assert "0.97 (0.96–0.98)" in pd.DataFrame({"a": [estimate]}).to_html()


def test_auroc_is_sklearns_and_its_resamples_too():
    assert helpers.auroc(TRUTH, SCORE).value == pytest.approx(sk.roc_auc_score(TRUTH, SCORE))
    weights = resample_weights(len(TRUTH), 20, 0)
    wins, pairs = weighted_wins(TRUTH, SCORE, weights)
    expected = [sk.roc_auc_score(TRUTH, SCORE, sample_weight=w) for w in weights]
    np.testing.assert_allclose(wins / pairs, expected, atol=1e-6)


def test_auroc_by_hand():
    assert helpers.auroc([0, 0, 1, 1], [1, 2, 3, 4]).value == 1
    assert helpers.auroc([0, 1], [5, 5]).value == 0.5
    assert helpers.auroc([0, 1, np.nan], [1, 2, -9]).value == 1  # the unknown one is left out
    for truth in ([1, 1], [np.nan, np.nan]):
        assert np.isnan(helpers.auroc(truth, [1, 2]).value)
        assert np.isnan(helpers.metrics.within_group_auroc(truth, [1, 2], ["a", "b"]).value)


def test_intervals_hold_the_value_shrink_with_more_images_and_repeat():
    few, many = helpers.auroc(TRUTH[:40], SCORE[:40]), helpers.auroc(np.tile(TRUTH, 10), np.tile(SCORE, 10))
    assert few.low < few.value < few.high
    assert many.high - many.low < (few.high - few.low) / 2
    assert list(helpers.auroc(TRUTH, SCORE)) == list(helpers.auroc(TRUTH, SCORE))
    assert list(helpers.auroc(TRUTH, SCORE)) != list(helpers.auroc(TRUTH, SCORE, seed=5))


def test_interval_of_a_mean_is_the_normal_one():
    values = RNG.normal(3, 2, 400)
    estimate = helpers.bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.03)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.03)
    general = helpers.metrics.bootstrap(np.mean, values)
    assert list(general) == pytest.approx(list(estimate), abs=0.03)


def test_clusters_are_resampled_whole():
    """Checked against draws of clusters done one by one; copies of an image then say nothing new."""
    values, clusters = np.r_[RNG.random(60), np.nan], RNG.choice(list("abcdefghij"), 61)
    weights = np.random.default_rng(4).multinomial(10, np.full(10, 0.1), size=500)
    drawn = [np.concatenate([values[clusters == c] for c in np.repeat(list("abcdefghij"), w)]) for w in weights]
    expected = np.quantile([np.nanmean(rows) for rows in drawn], [0.025, 0.975])
    estimate = helpers.bootstrap_mean(values, clusters=clusters, n=500, seed=4)
    assert [estimate.low, estimate.high] == pytest.approx(expected, abs=1e-6)
    assert estimate.value == helpers.bootstrap_mean(values).value

    few, places = RNG.random(20), np.arange(20)
    own = helpers.bootstrap_mean(few)
    assert list(helpers.bootstrap_mean(few, clusters=places)) == list(own)
    copied = helpers.bootstrap_mean(few.repeat(4), clusters=places.repeat(4))
    assert list(copied) == pytest.approx(list(own), abs=1e-6)
    naive = helpers.bootstrap_mean(few.repeat(4))
    assert naive.high - naive.low < 0.6 * (copied.high - copied.low)


def test_balanced_accuracy_of_clusters():
    truth, predicted = np.array(list("aabb")).repeat(5), np.array(list("abbb")).repeat(5)
    one = helpers.balanced_accuracy(truth, predicted, clusters=np.zeros(20))
    assert list(one) == [0.75, 0.75, 0.75]  # one cluster: every resample is the same
    wide = helpers.balanced_accuracy(truth, predicted, clusters=np.arange(4).repeat(5))
    assert wide.value == 0.75 and (wide.low, wide.high) == (0.5, 1)
    for clusters in (np.zeros(19), np.zeros((20, 1))):
        with pytest.raises(ValueError, match=r"20\b"):
            helpers.balanced_accuracy(truth, predicted, clusters=clusters)


def test_mean_leaves_out_what_is_not_defined():
    assert helpers.bootstrap_mean([1, 1, np.nan]).value == 1
    assert np.isnan(list(helpers.bootstrap_mean([np.nan, np.nan]))).all()


def test_macro_auroc_is_the_mean_over_concepts_that_have_both_classes():
    truth = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=float)
    scores = np.array([[1, 1, 0], [2, 2, 0], [3, 1, 0], [4, 1, 0]], dtype=float)
    assert helpers.macro_auroc(truth, scores).value == pytest.approx((1 + 0.75) / 2)
    truth[0, 0] = np.nan
    assert helpers.macro_auroc(truth, scores).value == pytest.approx((1 + 0.75) / 2)
    with pytest.raises(ValueError, match="concept"):
        helpers.macro_auroc(truth[:, 2:], scores[:, 2:])


def test_macro_auroc_within_groups_is_the_mean_of_within_group_aurocs():
    groups = np.where(np.arange(80) % 3, "a", "b")
    truth = np.stack([TRUTH, ~TRUTH, groups == "a"], axis=1).astype(float)  # the last has no pairs in any group
    truth[:5, 1] = np.nan
    scores = np.stack([SCORE, SCORE, SCORE], axis=1)
    each = [helpers.metrics.within_group_auroc(truth[:, k], scores[:, k], groups) for k in range(2)]
    assert helpers.macro_auroc(truth, scores, groups).value == pytest.approx(np.mean([float(e) for e in each]))
    assert list(helpers.macro_auroc(truth[:, :1], scores[:, :1], groups)) == pytest.approx(list(each[0]))
    one = helpers.macro_auroc(truth, scores, np.zeros(80))
    assert list(one) == pytest.approx(list(helpers.macro_auroc(truth, scores)))


def test_a_difference_of_aurocs_is_paired():
    truth, first = TRUTH[:, None], SCORE[:, None]
    worse = first + np.random.default_rng(2).normal(0, 0.3, first.shape)
    one, other = helpers.macro_auroc(truth, first), helpers.macro_auroc(truth, worse)
    difference = helpers.metrics.macro_auroc_difference(truth, first, worse)
    assert difference.value == pytest.approx(one.value - other.value)
    assert difference.low < difference.value < difference.high
    assert difference.high - difference.low < min(one.high - one.low, other.high - other.low)
    assert list(helpers.metrics.macro_auroc_difference(truth, first, first, np.zeros(80))) == [0, 0, 0]


def test_within_group_auroc_sees_through_a_score_that_knows_the_group_only():
    groups = np.repeat(["a", "b"], 100)
    truth = np.r_[np.repeat([0, 1], [90, 10]), np.repeat([0, 1], [10, 90])]
    score = (groups == "b").astype(float)
    assert helpers.auroc(truth, score).value == pytest.approx(0.9)
    assert helpers.metrics.within_group_auroc(truth, score, groups).value == 0.5
    assert helpers.metrics.within_group_auroc(truth, truth + score, groups).value == 1


def test_within_group_auroc_counts_pairs_and_skips_groups_of_one_class():
    truth, score, groups = [0, 1, 0, 1, 1, 1], [1, 2, 2, 1, 5, 6], list("aabbcc")
    assert helpers.metrics.within_group_auroc(truth, score, groups).value == 0.5
    table = helpers.metrics.auroc_by_group(truth, score, groups)
    assert table["auroc"].map(float).tolist()[:2] == [1, 0]
    assert np.isnan(float(table.loc["c", "auroc"]))
    assert table["positive"].tolist() == [1, 1, 2]
    one_group = helpers.metrics.within_group_auroc(TRUTH, SCORE, np.zeros(80))
    assert list(one_group) == pytest.approx(list(helpers.auroc(TRUTH, SCORE)))


@pytest.mark.parametrize(
    ("truth", "score", "named"),
    [
        ([0, 2], [0, 1], "0, 1 or NaN"),
        ([0, 1], [0, np.nan], "row 1"),
        ([0], [0, 1], r"1\b.*2\b"),
        ([], [], r"0\b.*0\b"),
    ],
)
def test_auroc_says_what_is_wrong(truth, score, named):
    with pytest.raises(ValueError, match=named):
        helpers.auroc(truth, score)


def test_recall_at_k_both_ways():
    similarity = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.1], [0.1, 0.3, 0.7]])
    table = helpers.recall_at_k(similarity, ks=(1, 2))
    assert table.map(float).to_numpy().tolist() == [[2 / 3, 1], [2 / 3, 1]]
    assert list(table.index) == ["image → text", "text → image"]
    constant = helpers.recall_at_k(np.ones((4, 4)), ks=(1, 3, 4)).map(float)
    assert constant.to_numpy().tolist() == [[0, 0, 1], [0, 0, 1]]  # a score that says nothing finds nothing


def test_recall_leaves_out_queries_without_an_answer():
    relevant = np.array([[True, False], [False, False]])
    assert helpers.recall_at_k(np.eye(2), relevant, ks=(1,)).map(float).to_numpy().tolist() == [[1], [1]]


def test_precision_at_k():
    similarity, relevant = [[3, 2, 1], [1, 2, 3]], [[1, 0, 1], [0, 0, 1]]
    assert helpers.metrics.precision_at_k(similarity, relevant, 1).value == 1
    assert helpers.metrics.precision_at_k(similarity, relevant, 2).value == 0.5
    with pytest.raises(ValueError, match="k=4"):
        helpers.metrics.precision_at_k(similarity, relevant, 4)
    for relevant in ([[1, 0, 0, 1]], [[0, 1, 1, 0]]):  # ties count against the model
        assert helpers.metrics.precision_at_k([[1, 1, 1, 1]], relevant, 2).value == 0
        assert helpers.metrics.precision_at_k([[1, 1, 1, 1]], relevant, 3).value == pytest.approx(1 / 3)
    assert helpers.metrics.precision_at_k([[2, 1, 1, 2]], [[1, 0, 1, 1]], 3).value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("grade", "named"),
    [
        (lambda: helpers.metrics.retrieval_ranks(np.eye(2), UNKNOWN), "relevant == 1"),
        (lambda: helpers.recall_at_k(np.eye(2), UNKNOWN), "relevant == 1"),
        (lambda: helpers.metrics.precision_at_k(np.eye(2), UNKNOWN, 1), "relevant == 1"),
        (lambda: helpers.metrics.mean_average_precision(np.eye(2), UNKNOWN), "relevant == 1"),
        (lambda: helpers.metrics.precision_at_k(np.eye(2), np.eye(2) * 2, 1), "it holds 2"),
        (lambda: helpers.metrics.fit_temperature(np.eye(2), np.eye(2) * 2, kind="sigmoid"), "truth == 1"),
        (lambda: helpers.metrics.fit_temperature(np.eye(2), [0, -1]), "-1"),
        (lambda: helpers.metrics.fit_temperature(np.eye(2), [np.nan, np.nan]), "truth"),
        (lambda: helpers.metrics.fit_temperature(np.eye(2), ["a", "b"]), "'a'"),
        (lambda: helpers.metrics.fit_temperature(UNKNOWN, [0, 1]), "logits must be finite"),
        (lambda: helpers.metrics.fit_temperature(UNKNOWN, np.eye(2), kind="sigmoid"), "logits must be finite"),
        (lambda: helpers.metrics.precision_at_k(UNKNOWN, np.eye(2), 1), "NaN"),
        (lambda: helpers.recall_at_k([[np.inf, 0], [0, 1]]), "finite"),
        (lambda: helpers.recall_at_k(np.ones((2, 3))), "(2, 3)"),
        (lambda: helpers.recall_at_k(np.eye(3), exclude_self=True), "relevant="),
        (lambda: helpers.metrics.precision_at_k(np.eye(3), np.ones((3, 3)), 3, exclude_self=True), "k=3"),
        (lambda: helpers.metrics.retrieval_ranks(np.ones((2, 3)), np.ones((2, 3)), exclude_self=True), "exclude_self"),
    ],
)
def test_what_is_unknown_is_not_taken_for_true(grade, named):
    with pytest.raises(ValueError) as error:
        grade()
    assert named in str(error.value)


# --- clusters and notes -----------------------------------------------------------------------------------------------

m = helpers.metrics
OF = np.arange(20).repeat(3)
LABELS = np.array(["a", "b", "c"])[np.random.default_rng(5).integers(0, 3, 20)].repeat(3)
SAID = np.where(np.random.default_rng(6).random(20).repeat(3) < 0.7, LABELS, "a")
HIT = (LABELS == SAID).astype(float)
SURE = np.random.default_rng(7).random(20).repeat(3)
MAPS = np.random.default_rng(8).random((20, 4, 4)).repeat(3, axis=0)
INSIDE = (np.random.default_rng(9).random((20, 4, 4)) < 0.4).astype(float).repeat(3, axis=0)
ALIKE = LABELS[:, None] == LABELS[None]
NEAR = np.random.default_rng(10).random((20, 20)).repeat(3, axis=0).repeat(3, axis=1)
EVERY = {
    "bootstrap": lambda **c: m.bootstrap(np.mean, HIT, **c),
    "bootstrap_mean": lambda **c: m.bootstrap_mean(HIT, **c),
    "paired_difference": lambda **c: m.paired_difference(LABELS, SAID, np.full(60, "b"), **c),
    "auroc": lambda **c: m.auroc(HIT, SURE, **c),
    "macro_auroc": lambda **c: m.macro_auroc(HIT[:, None], SURE[:, None], **c),
    "macro_auroc_difference": lambda **c: m.macro_auroc_difference(HIT[:, None], SURE[:, None], -SURE[:, None], **c),
    "within_group_auroc": lambda **c: m.within_group_auroc(HIT, SURE, np.zeros(60), **c),
    "auroc_by_group": lambda **c: m.auroc_by_group(HIT, SURE, np.zeros(60), **c)["auroc"].iloc[0],
    "recall_at_k": lambda **c: m.recall_at_k(NEAR, ALIKE, ks=(4,), exclude_self=True, **c).iloc[0, 0],
    "precision_at_k": lambda **c: m.precision_at_k(NEAR, ALIKE, 5, exclude_self=True, **c),
    "mean_average_precision": lambda **c: m.mean_average_precision(NEAR, ALIKE, exclude_self=True, **c),
    "accuracy": lambda **c: m.accuracy(LABELS, SAID, **c),
    "balanced_accuracy": lambda **c: m.balanced_accuracy(LABELS, SAID, **c),
    "macro_f1": lambda **c: m.macro_f1(LABELS, SAID, **c),
    "kappa": lambda **c: m.kappa(LABELS, SAID, **c),
    "agreement_by_column": lambda **c: m.agreement_by_column(
        pd.DataFrame({"x": LABELS}), pd.DataFrame({"x": SAID}), **c
    ).loc["x", "kappa"],
    "pointing_game": lambda **c: m.pointing_game(MAPS, INSIDE, **c),
    "patch_auroc": lambda **c: m.patch_auroc(MAPS, INSIDE, **c),
    "patch_average_precision": lambda **c: m.patch_average_precision(MAPS, INSIDE, **c),
    "reliability_table": lambda **c: m.reliability_table(HIT, SURE, bins=1, **c)["estimate"][0],
    "expected_calibration_error": lambda **c: m.expected_calibration_error(HIT, SURE, bins=2, **c),
    "risk_coverage": lambda **c: m.risk_coverage(HIT, SURE, coverages=(1,), **c)["risk"][0],
    "risk_coverage_area": lambda **c: m.risk_coverage_area(HIT, SURE, **c),
}


@pytest.mark.parametrize("name", EVERY)
def test_every_interval_takes_clusters(name):
    """Three copies of an image say nothing new: in clusters the interval is wider, by about the root of three."""
    alone, together = EVERY[name](), EVERY[name](clusters=OF)
    names = EVERY[name](clusters=[f"slide {k}" if k else None for k in range(20) for _ in range(3)])
    assert alone.value == together.value == names.value
    assert together.high - together.low > 1.25 * (alone.high - alone.low) > 0
    assert names.high > names.low
    one = EVERY[name](clusters=np.zeros(60))
    assert one.low == pytest.approx(one.high)
    assert "one cluster" in one.note and one.note in str(one)
    with pytest.raises(ValueError) as error:
        EVERY[name](clusters=OF[1:])
    assert "60" in str(error.value) and "clusters" in str(error.value)


def test_every_function_that_gives_an_interval_is_above():
    functions = {name: getattr(m, name) for name in m.__all__ if inspect.isfunction(getattr(m, name))}
    assert {name for name, f in functions.items() if "n" in inspect.signature(f).parameters} == set(EVERY)


def test_an_interval_of_no_width_says_why():
    assert str(helpers.accuracy(["a"] * 7, ["a"] * 7)) == "1.00 (1.00–1.00; all 7 images alike)"
    clusters = helpers.accuracy(["a"] * 8, ["a"] * 8, clusters=np.arange(4).repeat(2))
    assert clusters.note == "all 4 clusters alike"
    one_class = helpers.auroc([1, 1], [1, 2])
    assert one_class.note == "one class only" and np.isnan(one_class.low)
    assert m.within_group_auroc([0, 1], [1, 2], ["a", "b"]).note == "no group has both classes"
    assert helpers.bootstrap_mean([np.nan]).note and "one image" in helpers.bootstrap_mean([0.5]).note
    assert helpers.auroc(TRUTH, SCORE).note == "" and ";" not in str(helpers.auroc(TRUTH, SCORE))


# --- the gate ---------------------------------------------------------------------------------------------------------


def test_missing_truth_is_left_out_and_counted():
    truth, said = ["a", None, "b", np.nan, "None"], ["a", "a", "a", "b", "None"]
    for measure in (helpers.accuracy, helpers.balanced_accuracy, m.macro_f1, m.kappa):
        found = measure(truth, said)
        assert (found.count, found.left_out) == (3, 2)
    assert helpers.accuracy(truth, said).value == pytest.approx(2 / 3)
    found = helpers.auroc([0, 1, np.nan, 1], [1, 2, np.nan, 3])
    assert (found.value, found.count, found.left_out) == (1, 3, 1)
    correct, sure = m.top_confidence(pd.DataFrame({"x": [0.7, 0.6], "y": [0.3, 0.4]}), ["x", None])
    assert correct[0] == 1 and np.isnan(correct[1]) and m.expected_calibration_error(correct, sure).left_out == 1
    with pytest.warns(UserWarning, match="1 of 5"):
        some = m.fit_temperature(np.eye(3)[[0, 1, 2, 0, 1]], [0, 1, 1, 0, np.nan])
    assert some == m.fit_temperature(np.eye(3)[[0, 1, 2, 0]], [0, 1, 1, 0])
    for measure in (helpers.accuracy, helpers.balanced_accuracy, m.macro_f1):
        with pytest.raises(ValueError) as error:
            measure(["a", "b"], ["a", None])
        assert "predicted[1]" in str(error.value)


@pytest.mark.parametrize("measure", [helpers.accuracy, helpers.balanced_accuracy, m.macro_f1, m.kappa])
def test_numbers_against_names_and_two_spellings(measure):
    for truth, said, named in (
        ([0, 1], ["0", "1"], "'0'"),
        (["x", "y"], ["x", "Y "], "'Y '"),
        (["band", "y"], ["ba\u200bnd", "y"], "'band'"),
        (["x", 1], ["x", "x"], "1"),
    ):
        with pytest.raises(ValueError) as error:
            measure(truth, said)
        assert named in str(error.value)
    assert measure([0, 1, 1], [0, 1, 0]).count == 3  # numbers on both sides
    if measure is not m.kappa:
        assert measure([0, 1, 1], ["x", "y", "y"], names={0: "x", 1: "y"}).value == 1


def test_an_image_of_unknown_group_is_compared_with_none():
    truth, score = [0, 1, 0, 1], [1, 2, 9, 0]
    assert m.within_group_auroc(truth, score, ["a", "a", None, np.nan]).value == 1
    assert helpers.macro_auroc(np.c_[truth], np.c_[score], ["a", "a", None, None]).value == 1
    assert list(m.auroc_by_group(truth, score, ["a", "a", None, None]).index) == ["a"]


# --- tables by name ---------------------------------------------------------------------------------------------------

TABLE = pd.DataFrame(np.random.default_rng(11).random((40, 2)) < 0.5, list(map(str, range(40))), ["p", "q"]) * 1.0
NOISY = TABLE + np.random.default_rng(12).normal(0, 0.3, TABLE.shape)
TURNED = NOISY.sample(frac=1, random_state=0)


def test_tables_are_matched_by_name():
    right = helpers.macro_auroc(TABLE, NOISY)
    assert right.value > 0.9
    assert list(helpers.macro_auroc(TABLE, TURNED[["q", "p"]])) == list(right)
    assert list(helpers.macro_auroc(TABLE, NOISY.to_numpy())) == list(right)  # an array has no names
    assert list(helpers.macro_auroc(TABLE.reset_index(drop=True), NOISY)) == list(right)  # nor have row numbers
    kinds = pd.Series(list("abcd") * 10, TABLE.index)
    grouped = helpers.macro_auroc(TABLE, NOISY, kinds.to_numpy())
    assert list(helpers.macro_auroc(TABLE, TURNED, kinds.sample(frac=1, random_state=1))) == list(grouped)
    clusters = helpers.macro_auroc(TABLE, NOISY, clusters=kinds.to_numpy())
    assert list(helpers.macro_auroc(TABLE, NOISY, clusters=kinds[::-1])) == list(clusters)
    assert list(helpers.auroc(TABLE["p"], TURNED["p"])) == list(helpers.auroc(TABLE["p"], NOISY["p"]))
    truth, said = TABLE["p"].map({0: "x", 1: "y"}), (NOISY["p"] > 0.5).map({False: "x", True: "y"})
    assert helpers.accuracy(truth, said.loc[TURNED.index]).value == helpers.accuracy(truth, said).value > 0.8
    probabilities = pd.DataFrame({"x": 1 - NOISY["p"], "y": NOISY["p"]})
    turned, straight = (m.top_confidence(probabilities, t) for t in (truth.loc[TURNED.index], truth))
    np.testing.assert_array_equal(turned, straight)
    found = m.recall_at_k(NEAR[:3, :3], np.eye(3)).map(float)
    table = pd.DataFrame(NEAR[:3, :3], list("abc"), list("xyz"))
    relevant = pd.DataFrame(np.eye(3), list("abc"), list("xyz")).loc[list("cab"), list("yxz")]
    assert m.recall_at_k(table, relevant).map(float).equals(found)


@pytest.mark.parametrize(
    ("grade", "named"),
    [
        (lambda: helpers.macro_auroc(TABLE, NOISY.rename(columns={"q": "r"})), "'q'"),
        (lambda: helpers.macro_auroc(TABLE, NOISY.rename({"7": "x"})), "'7'"),
        (lambda: helpers.auroc(TABLE["p"], NOISY["p"].rename({"7": "x"})), "'7'"),
        (lambda: helpers.accuracy(pd.Series([1, 0], [0, 3]), pd.Series([1, 0])), "3"),
        (lambda: helpers.accuracy(pd.Series([1, 0], ["a", "a"]), pd.Series([1, 0], ["a", "b"])), "'b'"),
        (lambda: helpers.accuracy(pd.Series([1, 0, 1], list("aab")), pd.Series([1, 0, 1], list("aba"))), "'a'"),
        (lambda: helpers.bootstrap_mean(NOISY["p"], clusters=TABLE["q"].rename({"7": "x"})), "'7'"),
        (lambda: m.recall_at_k(NOISY[:2], pd.DataFrame(np.eye(2), ["0", "1"], ["p", "z"])), "'q'"),
        (lambda: m.precision_at_k(NOISY[:2], np.eye(2), 1, exclude_self=True), "exclude_self"),
    ],
)
def test_names_that_differ_are_refused(grade, named):
    with pytest.raises(ValueError) as error:
        grade()
    assert named in str(error.value)


# --- retrieval among the same images ----------------------------------------------------------------------------------


def test_a_picture_does_not_find_itself():
    alike = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    near = np.array([[1, 0.2, 0.9], [0.2, 1, 0.1], [0.9, 0.1, 1]])
    assert m.retrieval_ranks(near, alike).tolist() == [1, 1, 1]
    given = near.copy()
    np.fill_diagonal(given, -np.inf)
    for table, how in ((near, {"exclude_self": True}), (given, {})):
        assert m.precision_at_k(table, alike, 1, **how).value == pytest.approx(1 / 3)
        assert m.recall_at_k(table, alike, ks=(1, 2), **how).map(float).to_numpy().tolist() == [[0.5, 1], [0.5, 1]]
        found = m.mean_average_precision(table, alike, **how)
        assert found.value == pytest.approx((1 / 2 + 1) / 2)
        assert (found.count, found.left_out) == (2, 1)  # the third has nobody alike


def test_mean_average_precision_is_sklearns():
    rng = np.random.default_rng(3)
    near, alike = np.round(rng.random((12, 30)), 1), rng.random((12, 30)) < 0.3
    expected = np.mean([sk.average_precision_score(a, s) for a, s in zip(alike, near, strict=True)])
    assert m.mean_average_precision(near, alike).value == pytest.approx(expected)
    assert m.mean_average_precision(np.ones((12, 30)), alike).value == pytest.approx(alike.mean())


# --- agreement, F1, silence -------------------------------------------------------------------------------------------


def test_f1_and_kappa_are_sklearns_and_their_resamples_too():
    rng = np.random.default_rng(13)
    truth = rng.choice(list("abc"), 50, p=[0.6, 0.3, 0.1])
    said = np.where(rng.random(50) < 0.6, truth, "b")
    number = {"a": 0, "b": 1, "c": 2}
    for weights in ("linear", "quadratic"):
        both = [[number[x] for x in side] for side in (truth, said)]
        assert m.kappa(*both, weights=weights).value == pytest.approx(sk.cohen_kappa_score(*both, weights=weights))
    for measure, reference in (
        (m.kappa, sk.cohen_kappa_score),
        (m.macro_f1, lambda t, s: sk.f1_score(t, s, average="macro", zero_division=0)),
        (helpers.balanced_accuracy, lambda t, s: sk.recall_score(t, s, labels=np.unique(t), average="macro")),
    ):
        rows = [np.arange(50).repeat(w.astype(int)) for w in resample_weights(50, 40, 3)]
        drawn = [reference(truth[row], said[row]) for row in rows]
        found = measure(truth, said, n=40, seed=3)
        assert found.value == pytest.approx(reference(truth, said))
        assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]))
    nothing = m.kappa(["a"] * 4, ["a"] * 4)
    assert np.isnan(nothing.value) and nothing.note
    with pytest.raises(ValueError) as error:
        m.kappa(truth, said, weights="cubic")
    assert "'cubic'" in str(error.value)


def test_two_readers_attribute_by_attribute():
    first = pd.DataFrame({"nucleus": list("abab"), "granules": ["nil", "fine", None, "fine"]}, list("wxyz"))
    second = first.loc[list("zyxw"), ["granules", "nucleus"]].copy()
    second.loc["w", "nucleus"] = "b"
    table = m.agreement_by_column(first, second)
    assert table["count"].to_dict() == {"nucleus": 4, "granules": 3}
    assert table["agreement"].map(float).to_dict() == {"nucleus": 0.75, "granules": 1}
    assert float(table.loc["nucleus", "kappa"]) == pytest.approx(sk.cohen_kappa_score(list("abab"), list("bbab")))


@pytest.mark.parametrize(
    ("measure", "reference"),
    [
        ("accuracy", sk.accuracy_score),
        ("balanced accuracy", sk.balanced_accuracy_score),
        ("macro F1", lambda t, s: sk.f1_score(t, s, average="macro", zero_division=0)),
        ("kappa", sk.cohen_kappa_score),
    ],
)
def test_paired_differences(measure, reference):
    rng = np.random.default_rng(14)
    truth = rng.choice(list("ab"), 60)
    better, worse = (np.where(rng.random(60) < share, truth, "a") for share in (0.95, 0.4))
    found = m.paired_difference(truth, better, worse, measure=measure)
    assert found.value == pytest.approx(reference(truth, better) - reference(truth, worse))
    few = m.paired_difference(truth, better, worse, measure=measure, n=20, seed=3)
    rows = [np.arange(60).repeat(w.astype(int)) for w in resample_weights(60, 20, 3)]
    drawn = [reference(truth[row], better[row]) - reference(truth[row], worse[row]) for row in rows]
    assert [few.low, few.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]))
    same = m.paired_difference(truth, better, better, measure=measure)
    assert list(same) == [0, 0, 0] and same.note
    gap = m.paired_difference([*truth, None], [*better, "a"], [*worse, "b"], measure=measure)
    assert gap.left_out == 1 and gap.value == found.value


def test_a_measure_that_is_not_there():
    with pytest.raises(ValueError) as error:
        m.paired_difference(["a", "b"], ["a", "b"], ["b", "b"], measure="F2")
    assert "'F2'" in str(error.value)


def test_risk_and_coverage_by_hand():
    correct, sure = [1, 1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.6]
    table = m.risk_coverage(correct, sure, coverages=(0.2, 0.6, 0.8, 1))
    assert table["coverage"].tolist() == [0.2, 0.6, 1, 1]  # the two that tie are answered together
    assert table["risk"].map(float).tolist() == pytest.approx([0, 1 / 3, 0.4, 0.4])
    assert m.risk_coverage_area(correct, sure).value == pytest.approx((0 + 0 + 1 / 3 + 0.4 + 0.4) / 5)
    assert m.risk_coverage_area(correct, np.ones(5)).value == pytest.approx(0.4)  # says nothing
    for coverage in (0, 1.1):
        with pytest.raises(ValueError) as error:
            m.risk_coverage(correct, sure, coverages=(coverage,))
        assert str(coverage) in str(error.value)


def test_temperature_by_name():
    logits = pd.DataFrame([[2.0, 0, 0], [0, 1, 0], [1, 0, 0]], columns=["x", "y", "z"], index=["i", "j", "k"])
    truth = pd.Series(["x", "y", "y"], index=["i", "j", "k"])
    expected = m.fit_temperature(logits.to_numpy(), [0, 1, 1])
    assert m.fit_temperature(logits, truth) == m.fit_temperature(logits, truth[::-1]) == expected
    with pytest.raises(ValueError) as error:
        m.fit_temperature(logits, ["x", "y", "w"])
    assert "'w'" in str(error.value)


def test_balanced_accuracy_is_sklearns():
    truth = RNG.choice(list("abc"), 90, p=[0.8, 0.15, 0.05])
    predicted = np.where(RNG.random(90) < 0.7, truth, "a")
    estimate = helpers.balanced_accuracy(truth, predicted)
    assert estimate.value == pytest.approx(sk.balanced_accuracy_score(truth, predicted))
    assert estimate.low < estimate.value < estimate.high
    assert helpers.balanced_accuracy(truth, np.full(90, "a")).value == pytest.approx(1 / 3)
    assert helpers.accuracy(truth, predicted).value == pytest.approx((truth == predicted).mean())


def test_pointing_game_by_hand():
    maps, shares = np.zeros((3, 2, 2)), np.zeros((3, 2, 2))
    maps[:, 0, 1] = 1
    shares[0, 0, 1] = 0.2  # the largest patch lies in it
    shares[1, 1, 1] = 1.0  # elsewhere
    np.testing.assert_array_equal(helpers.metrics.pointing_hits(maps, shares), [1, 0, np.nan])  # the third has no mask
    assert helpers.metrics.pointing_game(maps, shares).value == 0.5
    np.testing.assert_array_equal(helpers.metrics.pointing_hits(maps, shares, share=0.3), [np.nan, 0, np.nan])
    assert helpers.metrics.pointing_chance(shares) == 0.25
    np.testing.assert_array_equal(
        helpers.metrics.pointing_hits(np.zeros((1, 2, 2)), shares[:1]), [0.25]
    )  # ties share the hit


def test_pointing_game_on_pixels_looks_at_the_patch_centre():
    mask = np.zeros((1, 8, 8), dtype=bool)
    mask[0, 2, 6] = True  # the centre pixel of patch (0, 1) of a 2 x 2 grid
    maps = np.array([[[0, 1], [0, 0.0]]])
    assert helpers.metrics.pointing_hits(maps, mask).tolist() == [1]
    assert np.isnan(helpers.metrics.pointing_hits(maps, np.roll(mask, 1, axis=2)))  # no centre lies in the mask


def test_patch_metrics_are_the_mean_over_images():
    maps = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(0)).numpy()
    shares = (RNG.random((3, 4, 4)) < 0.4).astype(float)
    shares[2] = 0  # nothing to find: left out
    expected = [sk.roc_auc_score(shares[b].ravel(), maps[b].ravel()) for b in range(2)]
    assert helpers.metrics.patch_auroc(maps, shares).value == pytest.approx(np.mean(expected))
    tied = np.round(maps, 1)
    expected = [sk.roc_auc_score(shares[b].ravel(), tied[b].ravel()) for b in range(2)]
    np.testing.assert_allclose(helpers.metrics.patch_aurocs(tied, shares), [*expected, np.nan])
    expected = [sk.average_precision_score(shares[b].ravel(), maps[b].ravel()) for b in range(2)]
    assert helpers.metrics.patch_average_precision(maps, shares).value == pytest.approx(np.mean(expected))
    assert helpers.metrics.patch_auroc(shares[:2], shares[:2]).value == 1
    assert helpers.metrics.patch_auroc(-shares[:2], shares[:2]).value == 0


def test_maps_off_the_grid_are_refused():
    with pytest.raises(ValueError, match="patch_shares"):
        helpers.metrics.patch_auroc(np.zeros((1, 2, 2)), np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match=r"maps\[0\].*NaN"):
        helpers.metrics.pointing_game(np.full((1, 2, 2), np.nan), np.ones((1, 2, 2)))


def test_calibration_by_hand():
    truth, probability = [0, 0, 1, 1], [0.05, 0.25, 0.25, 1.0]
    table = helpers.metrics.reliability_table(truth, probability, bins=10)
    assert table["count"].tolist() == [1, 2, 1]
    assert table["predicted"].tolist() == [0.05, 0.25, 1]
    assert table["observed"].tolist() == [0, 0.5, 1]
    assert table["low"].tolist() == pytest.approx([0, 0.2, 0.9])
    assert helpers.metrics.expected_calibration_error(truth, probability).value == pytest.approx(
        (0.05 + 2 * 0.25 + 0) / 4
    )
    with pytest.raises(ValueError, match=r"probability.*\[0, 1\]"):
        helpers.metrics.reliability_table(truth, [0, 1, 2, 3])


def test_top_confidence_takes_names_or_numbers():
    frame = pd.DataFrame([[0.7, 0.3], [0.4, 0.6]], columns=["x", "y"])
    for probabilities, truth in ((frame, ["x", "x"]), (frame.to_numpy(), [0, 0])):
        correct, confidence = helpers.metrics.top_confidence(probabilities, truth)
        assert correct.tolist() == [1, 0]
        assert confidence.tolist() == [0.7, 0.6]


@pytest.mark.parametrize("temperature", [0.25, 1.0, 7.0])
def test_temperature_is_recovered(temperature):
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (20_000, 4))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = (probabilities.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    assert helpers.metrics.fit_temperature(logits * temperature, truth) == pytest.approx(temperature, rel=0.05)
    binary = rng.random(20_000) < 1 / (1 + np.exp(-logits[:, 0]))
    fitted = helpers.metrics.fit_temperature(logits[:, 0] * temperature, binary, kind="sigmoid")
    assert fitted == pytest.approx(temperature, rel=0.05)
