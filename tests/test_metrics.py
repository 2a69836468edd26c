"""Metrics against scikit-learn and against cases whose answer is known by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics as sk

import helpers
from helpers.metrics import Estimate, _weighted_wins, _weights

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
    weights = _weights(len(TRUTH), 20, 0)
    wins, pairs = _weighted_wins(TRUTH, SCORE, weights)
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
        with pytest.raises(ValueError, match="one label for each of the 20 images"):
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
    with pytest.raises(ValueError, match="No concept"):
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
    ("truth", "score", "problem"),
    [([0, 2], [0, 1], "0, 1 or NaN"), ([0, 1], [0, np.nan], "row 1"), ([0], [0, 1], "equally long"), ([], [], "empty")],
)
def test_auroc_says_what_is_wrong(truth, score, problem):
    with pytest.raises(ValueError, match=problem):
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
    ("grade", "problem"),
    [
        (lambda: helpers.metrics.retrieval_ranks(np.eye(2), UNKNOWN), "relevant must be 0 or 1.*nan.*(relevant == 1)"),
        (lambda: helpers.recall_at_k(np.eye(2), UNKNOWN), "relevant must be 0 or 1.*nan.*(relevant == 1)"),
        (
            lambda: helpers.metrics.precision_at_k(np.eye(2), UNKNOWN, 1),
            "relevant must be 0 or 1.*nan.*(relevant == 1)",
        ),
        (lambda: helpers.metrics.precision_at_k(np.eye(2), np.eye(2) * 2, 1), "it holds 2"),
        (
            lambda: helpers.metrics.fit_temperature(np.eye(2), UNKNOWN, kind="sigmoid"),
            "truth must be 0 or 1.*(truth == 1)",
        ),
        (lambda: helpers.metrics.fit_temperature(np.eye(2), [0, np.nan]), "column numbers, 0 to 1"),
        (lambda: helpers.metrics.fit_temperature(np.eye(2), [0, -1]), "column numbers, 0 to 1"),
        (lambda: helpers.metrics.fit_temperature(UNKNOWN, [0, 1]), "logits must be finite"),
        (lambda: helpers.metrics.fit_temperature(UNKNOWN, np.eye(2), kind="sigmoid"), "logits must be finite"),
        (lambda: helpers.metrics.precision_at_k(UNKNOWN, np.eye(2), 1), "finite table"),
        (lambda: helpers.recall_at_k([[np.inf, 0], [0, 1]]), "finite table"),
        (lambda: helpers.recall_at_k(np.ones((2, 3))), "not square"),
    ],
)
def test_what_is_unknown_is_not_taken_for_true(grade, problem):
    with pytest.raises(ValueError, match=problem.replace("(", r"\(").replace(")", r"\)")):
        grade()


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
    with pytest.raises(ValueError, match=r"maps\[0\] holds NaN"):
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
    with pytest.raises(ValueError, match="sigmoid or softmax"):
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


def test_curve_area():
    assert helpers.metrics.curve_area([0, 0.5, 1], [1, 0.5, 0]) == pytest.approx(0.5)
    assert helpers.metrics.curve_area([0, 1], [[1, 1], [0, 0]]) == pytest.approx(0.5)
