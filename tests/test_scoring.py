"""Scores against the model's own forward, against the authors' arithmetic written out, and by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage import data
from small_model import small_model

import helpers
from helpers.scoring import mix, top_count

CLASSES = ["nucleus", "red cells", "band"]
TEMPLATES = ["a cell photo with sign of {}", "photo of {}."]


@pytest.fixture(scope="module")
def tiny():
    return small_model()


@pytest.fixture(scope="module")
def pictures():
    return [data.retina(), data.immunohistochemistry(), data.chelsea()]


@pytest.fixture(scope="module")
def encoded(tiny, pictures):
    return helpers.encode_images(*tiny, pictures, tokens=True)


def test_scales_are_exponentiated(tiny):
    model, processor = tiny
    with torch.no_grad():
        out = model(**processor(text=["a"], return_tensors="pt"))
    names = helpers.scales(model)._fields
    assert list(helpers.scales(model)) == pytest.approx([out[name].item() for name in names])
    assert helpers.scales(model).logit_scale == pytest.approx(10, abs=1e-4)  # and not log(10)


def test_logits_are_the_guides_formula(tiny, pictures, encoded):
    model, processor = tiny
    with torch.no_grad():
        out = model(**processor(images=pictures, text=CLASSES, return_tensors="pt", padding=True))
        expected = out["logit_scale"] * out["image_features"] @ out["text_features"].T + out["logit_bias"]
    texts = helpers.encode_texts(model, processor, CLASSES)
    s = helpers.scales(model)
    found = helpers.logits(encoded.features, texts.features, s.logit_scale, s.logit_bias)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_logits_refuse_nan_and_other_widths():
    good = torch.eye(2)
    for bad, problem in (
        (torch.tensor([[1, 0], [0, torch.nan]]), r"image_features\[1\] holds NaN"),
        (torch.eye(3), "3 wide"),
        (torch.ones(2), "rows, D"),
    ):
        with pytest.raises(ValueError, match=problem):
            helpers.logits(bad, good, 1.0)


def test_sigmoid_and_softmax_answer_different_questions():
    logits = torch.tensor([[-5.0, -6.0], [5.0, 6.0]])
    softmax, sigmoid = helpers.probabilities(logits, "softmax"), helpers.probabilities(logits, "sigmoid")
    assert softmax[0, 0] == pytest.approx(1 / (1 + np.exp(-1)))  # sure between the two, though neither fits
    assert sigmoid[0].max() < 0.01
    assert sigmoid[1].min() > 0.99
    torch.testing.assert_close(helpers.probabilities(logits + 3, "softmax"), softmax)  # a bias cancels
    with pytest.raises(ValueError, match="softmin"):
        helpers.probabilities(logits, "softmin")


def test_the_released_scalars_give_the_published_cosines():
    assert helpers.scoring.cosine_at_half(np.exp(4.570648), -11.161472) == pytest.approx(0.1155, abs=5e-5)
    assert helpers.scoring.cosine_at_half(np.exp(4.511484), -11.034302) == pytest.approx(0.1212, abs=5e-5)


def test_class_vectors_average_unit_vectors(tiny):
    prompts = [template.format(name) for name in CLASSES for template in TEMPLATES]
    features = helpers.encode_texts(*tiny, prompts).features.view(3, 2, -1)
    expected = F.normalize(features.mean(1), dim=-1)
    found = helpers.class_vectors(*tiny, CLASSES, templates=TEMPLATES)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    synonyms = helpers.class_vectors(*tiny, {"cell": ["red cells", "band"], "nucleus": "nucleus"})
    torch.testing.assert_close(synonyms[1], helpers.class_vectors(*tiny, ["nucleus"])[0], atol=1e-5, rtol=0)


def test_prototypes_do_not_listen_to_lengths():
    groups = [torch.tensor([[10.0, 0], [0, 1]]), torch.tensor([[0.0, -3]])]
    torch.testing.assert_close(helpers.scoring.prototypes(groups), torch.tensor([[0.5**0.5, 0.5**0.5], [0, -1]]))


# --- local scores -----------------------------------------------------------------------------------------------------


def test_top_count_is_the_authors_128_of_729():
    assert top_count(729) == 128
    assert top_count(196) == 34
    assert top_count(1) == 1


def test_the_three_recipes_by_hand():
    tokens = torch.tensor([[[1.0, 0], [3, 3], [0, 2], [-1, 0]]])  # lengths do not matter
    vectors = torch.tensor([[2.0, 0]])
    cosines = [1, 0.5**0.5, 0, -1]
    for recipe, top, expected in (
        ("training", None, 1),
        ("derm7pt", None, np.mean(cosines)),
        ("zero_shot", None, 1),  # 128/729 of 4 patches is one
        ("zero_shot", 2, np.mean(cosines[:2])),
        ("zero_shot", 99, np.mean(cosines)),
    ):
        found = helpers.scoring.local_scores(tokens, vectors, recipe=recipe, top=top)
        assert found.shape == (1, 1)
        assert float(found) == pytest.approx(expected, abs=1e-6), (recipe, top)
    with pytest.raises(ValueError, match="training, zero_shot, derm7pt"):
        helpers.scoring.local_scores(tokens, vectors, recipe="median")
    with pytest.raises(ValueError, match="text_proj"):
        helpers.scoring.local_scores(tokens, torch.ones(1, 3), recipe="training")


def test_zero_shot_is_the_authors_arithmetic(tiny, pictures, encoded):
    """Written out as facts, section 6, says it: global and local softmax, the name's own tokens, top 128 of 729."""
    model, processor = tiny
    with torch.no_grad():
        global_vectors, local_vectors = [], []
        for name in CLASSES:
            units, spans = [], []
            for template in TEMPLATES:
                text = template.format(name)
                ids = processor.tokenizer(text, return_tensors="pt")["input_ids"]
                out = model(input_ids=ids)
                pieces = processor.tokenizer.tokenize(text)
                where = [pieces.index(piece) + 1 for piece in processor.tokenizer.tokenize(name)]
                units.append(out["text_features"][0])
                spans.append(out["text_token_features"][0][where].mean(0))
            global_vectors.append(F.normalize(torch.stack(units).mean(0), dim=0))
            local_vectors.append(F.normalize(torch.stack(spans).mean(0), dim=0))
        out = model(**processor(images=pictures, return_tensors="pt"))
        global_ = (out["logit_scale"] * out["image_features"] @ torch.stack(global_vectors).T).softmax(-1)
        patches = F.normalize(out["image_token_features"], dim=-1)
        similar = out["concept_logit_scale"] * patches @ torch.stack(local_vectors).T
        local = similar.topk(round(16 * 128 / 729), dim=1).values.mean(1).softmax(-1)
        expected = 0.5 * local + 0.5 * global_
    for images in (pictures, encoded):
        table = helpers.zero_shot(model, processor, images, CLASSES, templates=TEMPLATES, alpha=0.5)
        np.testing.assert_allclose(table, expected, atol=1e-5)
    assert list(table.columns) == CLASSES
    assert list(table.index) == ["image 0", "image 1", "image 2"]
    np.testing.assert_allclose(
        helpers.zero_shot(model, processor, encoded, CLASSES, templates=TEMPLATES), global_, atol=1e-5
    )
    np.testing.assert_allclose(
        helpers.zero_shot(model, processor, encoded, CLASSES, templates=TEMPLATES, alpha=1), local, atol=1e-5
    )


def test_zero_shot_does_not_depend_on_the_batch(tiny, pictures):
    one, all_ = (helpers.zero_shot(*tiny, pictures, CLASSES, alpha=0.5, batch_size=n) for n in (1, 3))
    np.testing.assert_allclose(one, all_, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"classes": []}, "at least one class"),
        ({"classes": "nucleus"}, "not one string"),
        ({"classes": ["band", "band"]}, "differ"),
        ({"classes": ["band"], "alpha": 1.5}, "between 0 and 1"),
        ({"classes": ["band"], "templates": ["a photo"]}, "exactly one"),
    ],
)
def test_zero_shot_says_what_is_wrong(tiny, pictures, arguments, problem):
    with pytest.raises(ValueError, match=problem):
        helpers.zero_shot(*tiny, pictures, **arguments)


def test_local_scores_need_patch_tokens(tiny, pictures):
    without = helpers.encode_images(*tiny, pictures)
    with pytest.raises(ValueError, match="tokens=True"):
        helpers.zero_shot(*tiny, without, CLASSES, alpha=0.5)


def test_annotation_is_the_derm7pt_arithmetic(tiny, pictures):
    model, processor = tiny
    template, reference = "a cell photo with sign of {}", "a cell photo"
    expected = np.zeros((3, 3))
    with torch.no_grad():
        for k, concept in enumerate(CLASSES):
            texts = [reference, template.format(concept)]
            ids = processor.tokenizer(texts, padding="max_length", max_length=77, return_tensors="pt")["input_ids"]
            out = model(**processor(images=pictures, return_tensors="pt"), input_ids=ids)
            global_ = (out["logit_scale"] * out["image_features"] @ out["text_features"].T).softmax(-1)
            words = F.normalize(out["text_token_features"][:, -1], dim=-1)
            patches = F.normalize(out["image_token_features"], dim=-1)
            local = (out["concept_logit_scale"] * patches @ words.T).mean(1).softmax(-1)
            expected[:, k] = (0.5 * global_ + 0.5 * local)[:, 1]
    table = helpers.annotate(model, processor, pictures, CLASSES, template=template, reference=reference)
    np.testing.assert_allclose(table, expected, atol=1e-5)


def test_annotation_without_a_reference_is_the_trained_sigmoid(tiny, encoded):
    model, processor = tiny
    s = helpers.scales(model)
    features = helpers.encode_texts(
        model, processor, [f"a cell photo with sign of {name}" for name in CLASSES]
    ).features
    expected = helpers.logits(encoded.features, features, s.logit_scale, s.logit_bias).sigmoid()
    found = helpers.annotate(model, processor, encoded, CLASSES, reference=None, alpha=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    vectors = helpers.concept_vectors(model, processor, CLASSES, template="a cell photo with sign of {}")
    cosine = helpers.scoring.local_scores(encoded.tokens, vectors, recipe="training")
    expected = (s.concept_logit_scale * cosine + s.concept_logit_bias).sigmoid()
    found = helpers.annotate(model, processor, encoded, CLASSES, reference=None, alpha=1, recipe="training")
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("recipe", ["training", "zero_shot", "derm7pt"])
def test_annotation_judges_concepts_one_by_one(tiny, encoded, recipe):
    together = helpers.annotate(*tiny, encoded, CLASSES, recipe=recipe)
    for name in CLASSES:
        np.testing.assert_allclose(
            helpers.annotate(*tiny, encoded, [name], recipe=recipe)[name], together[name], atol=1e-5
        )
    assert together.to_numpy().min() > 0
    assert together.to_numpy().max() < 1


def test_span_offsets_and_padding_change_the_annotation(tiny, encoded):
    tables = [helpers.annotate(*tiny, encoded, CLASSES, recipe="training", offset=o, alpha=1) for o in (-1, 0, 1)]
    assert not np.allclose(tables[0], tables[1], atol=1e-3)
    assert not np.allclose(tables[2], tables[1], atol=1e-3)
    padded, bare = (helpers.annotate(*tiny, encoded, CLASSES, alpha=1, pad_to=n) for n in (77, None))
    assert not np.allclose(padded, bare, atol=1e-3)


def test_mix():
    assert mix(torch.tensor(1.0), torch.tensor(0.0), 0.25) == 0.25
    with pytest.raises(ValueError, match="between 0 and 1"):
        mix(0, 0, -0.1)


# --- retrieval --------------------------------------------------------------------------------------------------------


def test_ranks_by_hand():
    similarity = [[0.9, 0.1, 0.0], [0.8, 0.2, 0.1], [0.5, 0.6, 0.4]]
    assert helpers.metrics.retrieval_ranks(similarity).tolist() == [1, 2, 3]
    relevant = np.array([[0, 1, 1], [1, 0, 0], [1, 1, 0]], dtype=bool)
    assert helpers.metrics.retrieval_ranks(similarity, relevant).tolist() == [2, 1, 1]
    assert helpers.metrics.retrieval_ranks(np.ones((2, 5)), np.eye(2, 5)).tolist() == [
        5,
        5,
    ]  # ties count against the model


@pytest.mark.parametrize(
    ("similarity", "relevant", "problem"),
    [
        (np.ones((2, 3)), None, "not square"),
        (np.ones((2, 3)), np.ones((3, 2)), "shape"),
        (np.ones((2, 3)), np.eye(2, 3) * [[1], [0]], "Query 1 has no right answer"),
        ([[np.nan]], None, "finite"),
    ],
)
def test_ranks_say_what_is_wrong(similarity, relevant, problem):
    with pytest.raises(ValueError, match=problem):
        helpers.metrics.retrieval_ranks(similarity, relevant)
