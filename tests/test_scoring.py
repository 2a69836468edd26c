"""Scores against the model's own forward, against the authors' arithmetic written out, and by hand."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from skimage import data
from small_model import small_model

import helpers
from helpers.domains import Domain
from helpers.encoding import ImageEncodings
from helpers.scoring import mix, pool, top_count

CLASSES = ["nucleus", "red cells", "band"]
TEMPLATES = ["a cell photo with sign of {}", "photo of {}."]

SKIN = Domain(
    "skin",
    classes={"mole": ["mole", "round mole"], "band": "band"},
    concepts={"veil": ["blue veil", "a veil"], "red": "red"},
    templates=["a photo of {}", "sign of {}"],
    concept_templates=["a photo with {}", "sign of {}"],
    references=["a photo", "no {}"],
)


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
    for bad, named in (
        (torch.tensor([[1, 0], [0, torch.nan]]), r"image_features\[1\].*NaN"),
        (torch.eye(3), "3 wide"),
        (torch.ones(2), "rows, D"),
    ):
        with pytest.raises(ValueError, match=named):
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
    ("arguments", "named"),
    [
        ({"classes": []}, "classes"),
        ({"classes": None}, "classes"),
        ({"classes": "nucleus"}, "nucleus"),
        ({"classes": ["band", "band"]}, "band"),
        ({"classes": ["band", " Band\u200b"]}, "Band"),
        ({"classes": [0, 1]}, "0.*int"),
        ({"classes": ["0", "1"]}, "'0'"),
        ({"classes": ["band"], "top": 0}, "top.*0"),
        ({"classes": ["band"], "top": -1}, "top.*-1"),
        ({"classes": ["band"], "top": 2.5}, "top.*2.5"),
        ({"classes": ["band"], "recipe": "median"}, "median"),
        ({"classes": ["band"], "on_error": "ignore"}, "ignore"),
        ({"classes": ["band"], "domain": "astrology"}, "astrology"),
        ({"classes": SKIN, "domain": SKIN}, "domain="),
        ({"classes": Domain("empty", concepts=["veil"])}, "classes"),
        ({"classes": ["band"], "alpha": 1.5}, "alpha.*1.5"),
        ({"classes": ["band"], "templates": ["a photo"]}, "'a photo'"),
    ],
)
def test_zero_shot_says_what_is_wrong(tiny, pictures, arguments, named):
    with pytest.raises(ValueError, match=named):
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
    table = helpers.annotate(
        model, processor, pictures, CLASSES, recipe="derm7pt", template=template, reference=reference
    )
    np.testing.assert_allclose(table, expected, atol=1e-5)


def test_annotation_without_a_reference_is_the_trained_sigmoid(tiny, encoded):
    model, processor = tiny
    s = helpers.scales(model)
    features = helpers.encode_texts(
        model, processor, [f"a cell photo with sign of {name}" for name in CLASSES]
    ).features
    expected = helpers.logits(encoded.features, features, s.logit_scale, s.logit_bias).sigmoid()
    found = helpers.annotate(
        model, processor, encoded, CLASSES, template="a cell photo with sign of {}", recipe="global"
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    vectors = helpers.concept_vectors(model, processor, CLASSES, template="a cell photo with sign of {}")
    cosine = helpers.scoring.local_scores(encoded.tokens, vectors, recipe="training")
    expected = (s.concept_logit_scale * cosine + s.concept_logit_bias).sigmoid()
    found = helpers.annotate(
        model, processor, encoded, CLASSES, template="a cell photo with sign of {}", alpha=1, recipe="training"
    )
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
    how = {"template": "a cell photo with sign of {}", "alpha": 1}
    tables = [helpers.annotate(*tiny, encoded, CLASSES, recipe="training", offset=o, **how) for o in (-1, 0, 1)]
    assert not np.allclose(tables[0], tables[1], rtol=0.1, atol=0)
    assert not np.allclose(tables[2], tables[1], rtol=0.1, atol=0)
    padded, bare = (helpers.annotate(*tiny, encoded, CLASSES, recipe="derm7pt", pad_to=n, **how) for n in (77, None))
    assert not np.allclose(padded, bare, rtol=0.1, atol=0)


# --- a domain ---------------------------------------------------------------------------------------------------------


def test_zero_shot_takes_a_domain(tiny, encoded):
    expected = helpers.zero_shot(*tiny, encoded, dict(SKIN.classes), templates=SKIN.templates, alpha=0.5)
    for arguments in ({"classes": SKIN}, {"domain": SKIN}, {"domain": SKIN.to_dict()}, {"classes": ["mole", "band"]}):
        domain = {"domain": SKIN} if arguments == {"classes": ["mole", "band"]} else {}
        found = helpers.zero_shot(*tiny, encoded, alpha=0.5, **arguments, **domain)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert list(found.columns) == ["mole", "band"]
    other = helpers.zero_shot(*tiny, encoded, ["mole", "cell"], domain=SKIN)  # a word of one's own, in its sentences
    own = helpers.zero_shot(*tiny, encoded, {"mole": SKIN.classes["mole"], "cell": "cell"}, templates=SKIN.templates)
    np.testing.assert_allclose(other, own, atol=1e-6)
    torch.testing.assert_close(
        helpers.class_vectors(*tiny, SKIN), helpers.class_vectors(*tiny, dict(SKIN.classes), templates=SKIN.templates)
    )


def test_annotate_takes_a_domain_and_subtracts_its_references(tiny, encoded):
    """By hand: the mean direction of a concept's prompts against that of its reference prompts."""
    model, processor = tiny
    s = helpers.scales(model)
    for name, phrases in SKIN.concepts.items():
        positive = [t.format(phrase) for phrase in phrases for t in SKIN.concept_templates]
        negative = ["a photo", *(f"no {phrase}" for phrase in phrases)]
        vectors = [
            F.normalize(helpers.encode_texts(model, processor, texts).features.mean(0), dim=0)
            for texts in (positive, negative)
        ]
        expected = torch.sigmoid(s.logit_scale * encoded.features @ (vectors[0] - vectors[1]))
        found = helpers.annotate(model, processor, encoded, SKIN, recipe="global", reference=True)
        assert list(found.columns) == ["veil", "red"]
        np.testing.assert_allclose(found[name], expected, atol=1e-5)
    without = helpers.annotate(model, processor, encoded, domain=SKIN, recipe="global", reference=False)
    plain = helpers.annotate(
        model, processor, encoded, dict(SKIN.concepts), template=SKIN.concept_templates, recipe="global"
    )
    np.testing.assert_allclose(without, plain, atol=1e-6)


@pytest.mark.parametrize("recipe", ["training", "zero_shot", "derm7pt"])
def test_ensembles_reach_the_local_score(tiny, encoded, recipe):
    together = helpers.annotate(*tiny, encoded, SKIN, recipe=recipe, alpha=1, reference=True)
    alone = helpers.annotate(*tiny, encoded, ["red"], domain=SKIN, recipe=recipe, alpha=1, reference=True)
    np.testing.assert_allclose(together["red"], alone["red"], atol=1e-5)
    for change in ({"reference": False}, {"template": "a photo with {}"}, {"reference": "a cell"}):
        other = helpers.annotate(*tiny, encoded, SKIN, recipe=recipe, alpha=1, **{"reference": True} | change)
        assert not np.allclose(together["veil"], other["veil"], atol=1e-4), change


def test_nothing_is_said_of_cells_without_a_domain(tiny, encoded, monkeypatch):
    said = []
    original = helpers.scoring.encode_texts
    monkeypatch.setattr(
        helpers.scoring, "encode_texts", lambda m, p, texts, **k: (said.extend(texts), original(m, p, texts, **k))[1]
    )
    helpers.annotate(*tiny, encoded, ["band"])
    helpers.zero_shot(*tiny, encoded, ["band", "round"])
    assert said and set(said) == {"band", "round"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"recipe": "median"}, "median"),
        ({"reference": True}, "reference=True"),
        ({"reference": True, "domain": Domain("d", concepts=["a"])}, "'d'"),
        ({"recipe": "global", "alpha": 0.5}, "0.5"),
        ({"recipe": "derm7pt", "alpha": 2}, "2"),
        ({"recipe": "zero_shot", "top": 0}, "top.*0"),
        ({"reference": "no {} and {}"}, r"no \{\} and \{\}"),
        ({"template": "photo"}, "photo"),
        ({"concepts": ["band", "BAND"]}, "BAND"),
        ({"concepts": [3]}, "3"),
        ({"concepts": None}, "concepts"),
        ({"concepts": []}, "concepts"),
        ({"domain": Domain("d", classes=["a"]), "concepts": None}, "'d'"),
    ],
)
def test_annotate_says_what_is_wrong(tiny, encoded, arguments, named):
    with pytest.raises(ValueError, match=named):
        helpers.annotate(*tiny, encoded, **{"concepts": ["band"]} | arguments)


# --- what cannot be read, and what another model made -----------------------------------------------------------------


@pytest.mark.parametrize("score", [helpers.zero_shot, helpers.annotate])
def test_on_error_report_leaves_out_and_lists(tiny, pictures, tmp_path, score):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    images = [pictures[0], tmp_path / "broken.png", pictures[1]]
    with pytest.raises(ValueError, match=r"broken\.png"):
        score(*tiny, images, CLASSES)
    with pytest.warns(UserWarning, match=r"1 of 3 .*broken\.png"):
        table = score(*tiny, images, CLASSES, on_error="report", batch_size=1)
    assert list(table.index) == ["image 0", "image 2"]
    [failure] = table.attrs["failures"]
    assert (failure["item"], failure["name"]) == (1, "broken.png")
    np.testing.assert_allclose(table, score(*tiny, [pictures[0], pictures[1]], CLASSES), atol=1e-5)


def test_encodings_of_another_model_or_with_nan_are_refused(tiny, encoded):
    def change(**values):
        return ImageEncodings(**{**vars(encoded), **values})

    nan_features, nan_tokens = encoded.features.clone(), encoded.tokens.clone()
    nan_features[1, 3] = nan_tokens[2, 5, 0] = torch.nan
    uses = {
        "zero_shot": lambda e, alpha: helpers.zero_shot(*tiny, e, CLASSES, alpha=alpha),
        "annotate": lambda e, alpha: helpers.annotate(*tiny, e, CLASSES, recipe="training", alpha=alpha),
    }
    for use in uses.values():
        with pytest.raises(ValueError, match=r"16 wide.*32"):
            use(change(features=encoded.features[:, :16]), 0)
        with pytest.raises(ValueError, match="image 1"):
            use(change(features=nan_features), 0)
        with pytest.raises(ValueError, match="image 2"):
            use(change(tokens=nan_tokens), 0.5)
        with pytest.raises(ValueError, match=r"\(2, 8\)"):
            use(change(grid=(2, 8)), 0.5)
    with pytest.raises(ValueError, match="image 2"):
        helpers.concept_maps(*tiny, change(tokens=nan_tokens), ["band"])


# --- several pictures of one case -------------------------------------------------------------------------------------


@pytest.fixture
def crops():
    vectors = F.normalize(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]), dim=1)
    return ImageEncodings(vectors, None, (4, 4), torch.arange(4), ["a1", "b1", "a2", "c1"])


def test_pool_by_name_whatever_the_order(crops):
    cases = pd.Series({"c1": "C", "a2": "A", "b1": "B", "a1": "A"})
    for given in (cases, cases.to_dict(), ["A", "B", "A", "C"], np.array(["A", "B", "A", "C"])):
        pooled = pool(crops, given)
        assert pooled.names == ["A", "B", "C"]
        torch.testing.assert_close(pooled.features[0], torch.tensor([0.5**0.5, 0, 0.5**0.5]))
        assert pooled.index.tolist() == [0, 1, 3]
    largest = pool(crops, cases, "max").features
    torch.testing.assert_close(largest.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(largest[2], crops.features[3])


def test_pool_scores(crops):
    table = pd.DataFrame({"x": [0.1, 0.2, 0.5, 0.4]}, index=crops.names)
    assert pool(table, ["A", "B", "A", "C"])["x"].tolist() == pytest.approx([0.3, 0.2, 0.4])
    assert pool(table, {"a1": "A", "b1": "B", "a2": "A", "c1": "C"}, "max")["x"].tolist() == [0.5, 0.2, 0.4]


def test_a_picture_without_a_case_stands_alone(crops):
    assert pool(crops, ["A", None, "A", float("nan")]).names == ["A", "b1", "c1"]


@pytest.mark.parametrize(
    ("cases", "how", "named"),
    [
        (["A", "B"], "mean", "cases.*2 .*4 "),
        ({"a1": "A"}, "mean", "b1"),
        (pd.Series(["A", "B"], index=["a1", "a1"]), "mean", "a1"),
        (["A"] * 4, "median", "median"),
    ],
)
def test_pool_says_what_is_wrong(crops, cases, how, named):
    with pytest.raises(ValueError, match=named):
        pool(crops, cases, how)


def test_mix():
    assert mix(torch.tensor(1.0), torch.tensor(0.0), 0.25) == 0.25
    with pytest.raises(ValueError, match=r"alpha.*-0.1"):
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
    ("similarity", "relevant", "named"),
    [
        (np.ones((2, 3)), None, r"similarity \(2, 3\)"),
        (np.ones((2, 3)), np.ones((3, 2)), "shape"),
        (np.ones((2, 3)), np.eye(2, 3) * [[1], [0]], "Query 1"),
        ([[np.nan]], None, "similarity.*NaN"),
    ],
)
def test_ranks_say_what_is_wrong(similarity, relevant, named):
    with pytest.raises(ValueError, match=named):
        helpers.metrics.retrieval_ranks(similarity, relevant)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"alpha": "half"}, ValueError, "alpha"),
        ({"alpha": None}, ValueError, "alpha"),
        ({"templates": []}, ValueError, "templates"),
        ({"templates": 5}, TypeError, "template"),
        ({"on_error": "skip"}, ValueError, "on_error"),
        ({"batch_size": 0}, ValueError, "batch_size"),
    ],
)
def test_options_are_checked_although_the_images_are_encoded(tiny, encoded, options, error, named):
    with pytest.raises(error, match=named):
        helpers.zero_shot(*tiny, encoded, CLASSES, **options)


def test_options_of_another_kind(tiny, encoded):
    with pytest.raises(TypeError, match="offset"):
        helpers.annotate(*tiny, encoded, CLASSES, offset=1.5)
    with pytest.raises(ValueError, match=r"classes.*table"):
        helpers.zero_shot(*tiny, encoded, pd.DataFrame({"name": CLASSES}))


@pytest.mark.parametrize("cases", ["abc", None, 5])
def test_cases_that_name_nothing(encoded, cases):
    with pytest.raises(TypeError, match="cases"):
        pool(encoded, cases)


def test_cases_of_a_filtered_table_are_not_paired_by_place(encoded):
    with pytest.raises(ValueError, match="cases"):
        pool(encoded, pd.Series(["a", "a", "b"], index=range(6, 9)))


def test_numbers_of_cases_stay_themselves(encoded):
    assert pool(encoded, pd.Series([7, 7, None])).names == ["7", "image 2"]
    with pytest.raises(TypeError, match=r"values.*Tensor"):
        pool(encoded.features, ["a", "a", "b"])


def test_classes_that_become_the_same_pieces_are_refused(tiny, encoded):
    """Letters that the vocabulary lacks are one piece, and so is what stands behind the last position."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for classes in (["μελάνωμα", "σπίλος"], ["cell " * 100 + "red", "cell " * 100 + "round"]):
            for call in (helpers.zero_shot, helpers.class_vectors, helpers.annotate):
                data = () if call is helpers.class_vectors else (encoded,)
                options = {"recipe": "global"} if call is helpers.annotate else {}
                with pytest.raises(ValueError) as error:
                    call(*tiny, *data, classes, **options)
                assert all(name[:20] in str(error.value) for name in classes)
