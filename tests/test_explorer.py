"""The explorers' logic without a browser: what is computed, and what the widgets do when they are told to."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from small_model import small_model

import helpers
from helpers.bloodcells import ATTRIBUTES, CELL_TYPES, CONCEPTS, Cell
from helpers.datasets import Atlas, Images
from helpers.domains import Domain
from helpers.explorer import (
    ConceptSession,
    Design,
    PatchIndex,
    Setting,
    Sweep,
    designer_figures,
    drawing,
    follow,
    sweep,
    typical_cell,
)
from helpers.explorer.design import VERDICTS, occurrences, verdict
from helpers.explorer.elements import Picture, number, open_bytes, signed, telling

PHRASES = ["segmented nucleus", "round nucleus", "red cells", "band"]


def picture(seed=0, size=(80, 60)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def session():
    return ConceptSession(*small_model(), vocabulary=PHRASES)


@pytest.fixture(scope="module")
def sight(session):
    return session.look(picture(), "noise")


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    for n in range(4):
        picture(n).save(folder / f"{n}.png")
    table = pd.DataFrame(
        {
            "id": list("0123"),
            "split": ["learn", "learn", "test", "test"],
            "cell_type": ["neutrophil", np.nan, "basophil", ""],
        }
    )
    return Atlas(table, Images([folder / f"{n}.png" for n in range(4)]), {})


# --- session ----------------------------------------------------------------------------------------------------------


def test_a_phrase_is_what_the_helpers_compute(session):
    phrase = session.phrase(" segmented nucleus ")
    assert phrase.text == phrase.prompt == "segmented nucleus"
    assert phrase.pieces == ["[CLS]", "seg", "##mented", "nucleus", "[SEP]"] and phrase.own == [1, 2, 3]
    assert torch.allclose(phrase.vector, helpers.concept_vectors(*small_model(), [phrase.text])[0], atol=1e-6)
    assert torch.allclose(phrase.features, helpers.encode_texts(*small_model(), [phrase.text]).features[0], atol=1e-6)


def test_pieces_of_a_batch_have_no_padding(session):
    assert all(p.pieces[-1] == "[SEP]" and len(p.pieces) == len(p.tokens) for p in session.phrases(PHRASES))


def test_a_template_stands_around_the_phrase():
    session = ConceptSession(*small_model(), vocabulary=["band"], template="a photo of {}")
    phrase = session.phrase("red cells")
    assert phrase.prompt == "a photo of red cells" and [phrase.pieces[t] for t in phrase.own] == ["red", "cells"]


def test_nothing_is_encoded_twice(session, monkeypatch):
    session.phrases(PHRASES)
    monkeypatch.setattr("helpers.explorer.session.encode_texts", None)
    assert [p.text for p in session.phrases(PHRASES)] == PHRASES


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_phrase_is_refused(session, text):
    with pytest.raises(ValueError, match="empty"):
        session.phrase(text)


def test_the_map_is_that_of_the_helpers(session, sight):
    expected = helpers.concept_maps(*small_model(), [sight.image], PHRASES[:1])[0, 0]
    assert np.allclose(sight.map(session.phrase(PHRASES[0]).vector), expected, atol=1e-5)


def test_scores_are_those_of_the_helpers(session, sight):
    table = session.scores(sight, session.phrases(PHRASES))
    encoded = helpers.encode_images(*small_model(), [sight.image], tokens=True)
    texts = helpers.encode_texts(*small_model(), PHRASES).features
    s = helpers.scales(small_model()[0])
    logit = helpers.logits(encoded.features, texts, s.logit_scale, s.logit_bias)[0]
    assert np.allclose(table["global sigmoid"], logit.sigmoid(), atol=1e-5)
    assert np.allclose(table["global softmax"], logit.softmax(-1), atol=1e-5)
    vectors = helpers.concept_vectors(*small_model(), PHRASES)
    local = helpers.scoring.local_scores(encoded.tokens, vectors, recipe="training")[0]
    assert np.allclose(table["local cosine"], local, atol=1e-5)
    assert np.allclose(table[["global softmax", "local softmax"]].sum(), 1)


def test_a_box_takes_the_patches_whose_centres_it_holds(sight):
    patch = 14 / 60  # of the width; the last 4 of 60 pixels are never seen
    assert sight.patches_in((0, 0, 1, 1)) == list(range(16))
    assert sight.patches_in((0, 0, 1.4 * patch, 1.6 * patch)) == [0, 4]
    assert sight.patches_in((1.1 * patch, 0.1, 1.1 * patch, 0.1)) == [1]  # a click
    assert sight.patches_in((1.6 * patch, 0.1, 1.7 * patch, 0.2)) == [1]  # smaller than a patch, beside its centre
    assert np.allclose(sight.box_of([5, 6, 9, 10]), [patch, patch, 3 * patch, 3 * patch])
    with pytest.raises(ValueError, match="patch"):
        sight.patches_in((0.97, 0.97, 0.99, 0.99))


@pytest.mark.parametrize("patches", [[5], [0, 1, 4, 5], list(range(15))])
def test_a_frame_around_patches_holds_these_patches(sight, patches):
    box = sight.box_of(patches)
    assert set(patches) <= set(sight.patches_in(box))
    assert sight.patches_in(sight.box_of(sight.patches_in(box))) == sight.patches_in(box)  # it does not creep


def test_a_region_is_a_mean_over_patches(session, sight):
    phrases = session.phrases(PHRASES)
    table = sight.region([0, 1, 4], phrases)
    cosine = sight.map(phrases[0].vector).ravel()
    rest = np.delete(cosine, [0, 1, 4]).mean()
    expected = [cosine[[0, 1, 4]].mean(), rest, cosine[[0, 1, 4]].mean() - rest]
    assert np.allclose(table.loc[PHRASES[0]], expected, atol=1e-5)
    assert table["here"].is_monotonic_decreasing
    assert sight.region([0, 1, 4], phrases, by="difference")["difference"].is_monotonic_decreasing


def test_a_region_that_is_everything_or_nothing(session, sight):
    phrases = session.phrases(PHRASES)
    table = sight.region(range(16), phrases, by="difference")
    assert table["elsewhere"].isna().all() and table["here"].is_monotonic_decreasing
    assert sight.similar(range(16)) == []
    with pytest.raises(ValueError, match="patch"):
        sight.region([], phrases)
    with pytest.raises(ValueError, match="'luck'"):
        sight.region([1], phrases, by="luck")


def test_similar_patches_lie_elsewhere_best_first(sight):
    found = sight.similar([3, 7], k=4)
    cosine = sight.patches @ F.normalize(sight.patches[[3, 7]].mean(0), dim=-1)
    rest = [p for p in cosine.argsort(descending=True).tolist() if p not in (3, 7)]
    assert [patch for patch, _ in found] == rest[:4]
    assert np.allclose([value for _, value in found], cosine[rest[:4]], atol=1e-5)


def test_the_colour_scale_does_not_depend_on_the_phrase(session, sight):
    low, high = session.limits(sight)
    session.phrase("red nucleus")  # typed, but not of the vocabulary
    assert session.limits(sight) == (low, high)
    values = np.stack([sight.map(p.vector) for p in session.phrases(PHRASES)])
    assert low == pytest.approx(np.percentile(values, 1), abs=1e-5)
    assert high == pytest.approx(np.percentile(values, 99.8), abs=1e-5)


def test_any_image_that_can_be_encoded_can_be_looked_at(session, sight, tmp_path):
    array = np.asarray(picture())
    floats = (array / 255).astype(np.float32)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for form in (array, array.transpose(2, 0, 1), tensor, floats, tensor / 255, floats.transpose(2, 0, 1)):
        seen = session.look(form)
        assert seen.name == "image 0" and np.array_equal(np.asarray(seen.image), array)
        assert F.cosine_similarity(seen.features, sight.features, dim=0) > 0.99
    assert session.look(array[..., 0]).image.mode == "RGB"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    picture().save(tmp_path / "phone.png", exif=exif)
    turned = session.look(tmp_path / "phone.png")
    assert turned.name == "phone.png" and turned.image.size == (60, 80)
    upright = session.look(picture().transpose(Image.Transpose.ROTATE_270))
    assert np.array_equal(np.asarray(turned.image), np.asarray(upright.image))
    assert torch.allclose(turned.patches, upright.patches, atol=1e-5)
    with pytest.raises(ValueError, match=r"deep\.png"):
        Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(tmp_path / "deep.png")
        session.look(tmp_path / "deep.png")


def test_an_index_finds_the_very_patch(session, atlas):
    told = []
    index = PatchIndex.build(session, atlas.images, batch_size=3, progress=told.append)
    assert told == [3, 4] and index.patches.dtype == torch.float16
    vector = session.look(atlas.images[2]).region_vector([6])
    (row, patch, cosine), *others = index.search(vector, k=3)
    assert (row, patch) == (2, 6) and cosine == pytest.approx(1, abs=2e-3)
    assert 2 not in [row for row, _, _ in index.search(vector, k=9, leave_out=[2])] and len(others) == 2


# --- design -----------------------------------------------------------------------------------------------------------


def test_a_typical_cell_is_the_most_frequent_one_and_has_no_type():
    for cell_type in CELL_TYPES:
        cell = typical_cell(cell_type)
        assert cell.cell_type is None and occurrences(cell)[cell_type] > 10
    with pytest.raises(ValueError, match="'erythrocyte'"):
        typical_cell("erythrocyte")


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_value_of_every_attribute_can_be_set_on_any_cell(attribute):
    for cell_type in CELL_TYPES:
        for value in ATTRIBUTES[attribute]:
            start = typical_cell(cell_type)
            cell = follow(start, attribute, value, granules=("coarse", "red"))
            assert isinstance(cell, Cell) and getattr(cell, attribute) == value
            others = [name for name in ATTRIBUTES if name != attribute and "granul" not in name]
            assert all(getattr(cell, name) == getattr(start, name) for name in others)


def test_granules_come_as_they_went():
    bare = typical_cell("lymphocyte")
    assert follow(bare, "granularity", "yes", granules=("round", "red")).granule_colour == "red"
    assert follow(bare, "granule_colour", "purple", granules=("round", "red")).granule_type == "round"
    with pytest.raises(ValueError, match="'mood'"):
        follow(bare, "mood", "sad")


@pytest.fixture(scope="module")
def design(session):
    return Design(session, concepts=["segmented nucleus", "round nucleus", "no granules", "neutrophil", "red cells"])


def test_the_designer_remembers_one_setting_back(design):
    design.reset()
    assert design.before is None and design.change() is None
    start = design.now.setting
    assert set(design.set("granularity", "no")) == {"granule_type", "granule_colour"}
    assert design.now.truth["no granules"] is True and design.before.truth["no granules"] is False
    expected = design.now.scores - design.before.scores
    assert design.change().equals(expected)
    design.go(design.before.setting)
    assert design.now.setting == start
    assert not design.go(start)


def test_granules_are_remembered(design):
    design.reset()
    design.set("granule_colour", "red")
    design.set("granularity", "no")
    design.set("granularity", "yes")
    assert design.now.setting.cell.granule_colour == "red"
    design.reset()


def test_changing_one_attribute_leaves_the_rest_of_the_picture_standing():
    cell = typical_cell("neutrophil")
    one, other = (Setting(follow(cell, "granule_colour", colour)).render(224) for colour in ("pink", "red"))
    changed = np.abs(np.asarray(one.image, int) - np.asarray(other.image, int)).max(-1)
    white = one.masks["nucleus"] | one.masks["cytoplasm"]
    assert changed[white].mean() > 10 * changed[~white].mean()
    assert np.array_equal(one.masks["red cells"], other.masks["red cells"])


@pytest.fixture(scope="module")
def swept(design):
    design.reset()
    done = []
    result = sweep(design, "granularity", seeds=3, progress=done.append)
    assert done == [1, 2, 3]
    return result


def test_a_sweep_has_one_cause(swept, design):
    assert swept.cosines["global"].shape == swept.truth.shape == (3, 2, 5) and swept.base == "yes"
    table = swept.changes().set_index("concept")
    assert table.loc["no granules", "expected"] == 1
    assert table.loc["segmented nucleus", "expected"] == 0
    assert np.isnan(table.loc["neutrophil", "expected"]) and table.loc["neutrophil", "verdict"] == "cannot say"
    difference = swept.cosines["global"][:, 0, 0] - swept.cosines["global"][:, 1, 0]
    assert table.loc["segmented nucleus", "change"] == pytest.approx(difference.mean())
    again = sweep(design, "granularity", seeds=3)
    assert np.array_equal(again.cosines["local"], swept.cosines["local"])


def test_the_interval_is_students_over_the_pairs(swept):
    from scipy import stats

    scores = swept.cosines["local"]
    expected = stats.ttest_rel(scores[:, 0], scores[:, 1]).confidence_interval(0.95)
    table = swept.changes("local")
    assert np.allclose(table["low"], expected.low) and np.allclose(table["high"], expected.high)


def test_other_cells_for_other_seeds(design):
    result = sweep(design, "granularity", seeds=3, base="no", others="random")
    assert result.others == "random" and result.base == "no"
    assert (result.truth[:, 1, 0] != result.truth[0, 1, 0]).any() or (
        result.truth[:, 1, 1] != result.truth[0, 1, 1]
    ).any()


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"attribute": "mood"}, "'mood'"),
        ({"seeds": 2}, "seeds"),
        ({"base": "blue"}, "'blue'"),
        ({"others": "some"}, "others"),
    ],
)
def test_a_sweep_that_makes_no_sense(design, arguments, said):
    with pytest.raises(ValueError, match=said):
        sweep(design, **{"attribute": "granularity"} | arguments)


@pytest.mark.parametrize(
    "low, high, expected, said",
    [
        (0.1, 0.2, 1, "as it should"),
        (-0.2, -0.1, -1, "as it should"),
        (0.1, 0.2, -1, "the wrong way"),
        (-0.1, 0.2, 1, "silent"),
        (0.1, 0.2, 0, "uncalled"),
        (-0.1, 0.2, 0, "still"),
        (0, 0, 0, "still"),
        (0.1, 0.2, np.nan, "cannot say"),
    ],
)
def test_verdicts(low, high, expected, said):
    assert verdict(low, high, expected) == said and said in VERDICTS


def invented(answers, truths, *, seeds=6):
    """A sweep of two values in which each concept's cosine changes by a given amount, and a little noise."""
    rng = np.random.default_rng(0)
    cosines = rng.normal(0, 0.2, (seeds, 1, len(answers))).repeat(2, 1)  # seeds differ, values do not
    cosines[:, 1] += np.array(answers) + rng.normal(0, 0.0001, (seeds, len(answers)))
    truth = np.zeros((seeds, 2, len(answers)))
    truth[:, 1] = truths
    names = [f"concept {k}" for k in range(len(answers))]
    images = [picture(), picture(1)]
    return Sweep("cell_size", ("small", "big"), "small", names, {"global": cosines, "local": cosines}, truth, images)


def test_a_summary_counts_what_came_and_what_chance_gives():
    result = invented([0.1, 0, -0.1, 0.1, 0, 0.1], [1, 1, 1, 0, 0, np.nan])
    assert result.changes()["verdict"].tolist() == [
        "as it should", "silent", "the wrong way", "uncalled", "still", "cannot say",
    ]  # fmt: skip
    assert result.summary().split("\n") == [
        "1 of 3 changes that the truth calls for are there; 1 are not, 1 go the wrong way.",
        "Of 2 that it does not call for, 1 are there as well; chance alone would give about 0.",
        "Their median size: 0.100 where called for, 0.050 where not.",
    ]


def test_a_figure_of_a_sweep_shows_what_should_answer_first():
    result = invented([0.0, 0.3, 0.05, 0.2], [0, 0, 1, 0])
    order = designer_figures.sweep_order(result.changes(), shown=3)
    assert order == ["concept 2", "concept 1", "concept 3"]
    figure = designer_figures.sweep_figure(designer_figures.sweep_canvas(result), result)
    axes = figure.subfigs[1].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "concept 2",
        "concept 1",
        "concept 3",
        "concept 0",
    ]
    assert drawing.figure_png(figure).startswith(b"\x89PNG")


# --- drawing ----------------------------------------------------------------------------------------------------------


def test_a_map_is_one_pixel_a_patch_on_a_fixed_scale():
    values = np.array([[0.0, 0.5], [1.0, 2.0]])
    pixels = np.asarray(Image.open(io.BytesIO(drawing.encode_map(values, (0, 1)))))
    assert pixels.shape == (2, 2, 3)
    assert np.array_equal(pixels[1, 0], pixels[1, 1])  # beyond the end of the scale is its end
    wider = np.asarray(Image.open(io.BytesIO(drawing.encode_map(values, (0, 2)))))
    assert np.array_equal(wider[1, 0], pixels[0, 1])


@pytest.mark.parametrize("size, shown", [((1, 1), (1, 1)), ((200, 100), (200, 100)), ((8000, 4000), (840, 420))])
def test_pictures_are_sent_small(size, shown):
    assert Image.open(io.BytesIO(drawing.encode_picture(Image.new("RGB", size)))).size == shown


@pytest.mark.parametrize("box", [(0, 0, 0.1, 0.1), (0.45, 0.45, 0.55, 0.55), (0.9, 0.9, 1, 1), (0.9, 0, 1, 0.1)])
def test_crops_are_of_one_size(box):
    assert drawing.crop(Image.new("RGB", (200, 100)), box).size == (68, 34)
    assert drawing.crop(Image.new("RGB", (1, 1)), box).size == (1, 1)


def test_the_colour_bar_marks_one_half_where_it_is():
    assert "<i " in drawing.colour_bar((0, 0.5), 0.1) and "left:20.0%" in drawing.colour_bar((0, 0.5), 0.1)
    assert "<i " not in drawing.colour_bar((0, 0.5), 0.9)


def test_what_a_person_typed_is_no_html():
    assert "<b>" not in drawing.inline(b"", "<b>x</b>", 3)


def test_numbers_for_tables():
    assert [number(x) for x in (0, 0.001, 0.006, 0.5, 1)] == ["0.00", "<0.01", "0.01", "0.50", "1.00"]
    assert [signed(x) for x in (0, 0.001, -0.02, 0.5)] == ["0.00", "0.00", "−0.02", "+0.50"]


# --- widgets, told what to do -----------------------------------------------------------------------------------------


@pytest.fixture
def explorer(atlas):
    return helpers.ConceptExplorer(*small_model(), atlas=atlas, phrase="round nucleus", compare=PHRASES[:3])


def test_it_starts_with_the_first_cell_of_the_test_split(explorer):
    assert explorer.cell.value == 2 and explorer.shown == "round nucleus" and not explorer.picture.problem
    assert [label for label, _ in explorer.cell.options][1:] == [
        "0 · neutrophil · learn", "1 · imaginary cell · learn", "2 · basophil · test", "3 · imaginary cell · test",
    ]  # fmt: skip
    assert explorer.picture.data and explorer.picture.overlay and explorer.region.rows == []


def test_a_typed_phrase_gets_a_map_and_a_place_in_the_table(explorer):
    old = explorer.picture.overlay
    explorer.phrase.value = "red nucleus"
    assert explorer.shown == "red nucleus" and explorer.picture.overlay != old
    assert explorer.table.rows[0]["label"] == "red nucleus" and explorer.table.selected == "red nucleus"
    assert "Map of red nucleus" in explorer.picture.status
    explorer.table.selected = PHRASES[2]
    assert explorer.phrase.value == explorer.shown == PHRASES[2]
    for text in ["a b", "a c", "a d", "a e"]:
        explorer.phrase.value = text
    assert [row["label"] for row in explorer.table.rows][:4] == ["a e", "a d", "a c", *explorer.compare.value[:1]]


def test_a_piece_shows_its_own_map(explorer):
    explorer.phrase.value = "segmented nucleus"
    assert [label for label, _ in explorer.pieces.options] == [
        "whole phrase", "[CLS]", "seg", "##mented", "nucleus", "[SEP]",
    ]  # fmt: skip
    explorer.pieces.value = 2
    phrase = explorer.session.phrase("segmented nucleus")
    expected = drawing.encode_map(explorer.sight.map(phrase.tokens[2]), explorer.limits)
    assert explorer.picture.overlay == expected and "Map of ##mented" in explorer.picture.status
    explorer.phrase.value = "red cells"
    assert explorer.pieces.value is None and explorer.piece is None


def test_a_box_is_described_and_searched(explorer):
    explorer.picture.box = [0.02, 0.02, 0.4, 0.4]
    assert explorer.patches == [0, 1, 4, 5] and np.allclose(explorer.picture.box, explorer.sight.box_of([0, 1, 4, 5]))
    assert len(explorer.picture.marks) == 5 and explorer.region.rows and not explorer.search.disabled
    best = explorer.sight.region([0, 1, 4, 5], explorer.session.phrases(explorer.session.vocabulary)).index[0]
    assert explorer.region.rows[0]["label"] == best
    explorer.by.value = "difference"
    assert explorer.region.rows[0]["cells"][2]["value"] >= explorer.region.rows[1]["cells"][2]["value"]
    explorer.search.click()
    assert explorer.found.value.count("<figure>") == 3  # not the picture itself
    explorer.picture.box = []
    assert explorer.region.rows == [] and explorer.picture.marks == [] and explorer.search.disabled


def test_another_picture_takes_the_box_away_and_is_encoded_once(explorer, monkeypatch):
    explorer.picture.box = [0, 0, 0.4, 0.4]
    explorer.cell.value = 0
    assert explorer.patches == [] and explorer.picture.box == [] and explorer.sight.name == "0 · neutrophil"
    monkeypatch.setattr("helpers.explorer.session.encode_images", None)
    explorer.cell.value = 2
    assert explorer.sight.name == "2 · basophil" and not explorer.picture.problem
    explorer.phrase.value = "band cells"
    explorer.picture.box = [0, 0, 0.4, 0.4]
    assert not explorer.picture.problem


def test_a_row_number_may_be_numpys(explorer):
    for row in (np.int64(1), np.argmax([0, 1]), 1):
        explorer.look_at(0)
        explorer.look_at(row)
        assert explorer.picture.problem == "" and explorer.cell.value == 1
        assert explorer.sight.name == "1 · imaginary cell"
    explorer.look_at(torch.rand(3, 20, 30))
    assert explorer.picture.problem == "" and explorer.cell.value == -1 and explorer.sight.image.size == (30, 20)


def test_what_is_found_is_cut_from_the_picture_as_it_is_shown(atlas, tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    paths = [tmp_path / f"{n}.png" for n in range(4)]
    for n, path in enumerate(paths):
        picture(n).save(path, exif=exif)
    explorer = helpers.ConceptExplorer(*small_model(), atlas=Atlas(atlas.table, Images(paths), {}), compare=PHRASES[:3])
    explorer.picture.box = [0.02, 0.02, 0.4, 0.4]
    sizes = []
    monkeypatch.setattr(drawing, "crop", lambda image, box: sizes.append(image.size) or image)
    explorer.search.click()
    assert explorer.picture.problem == "" and sizes == [(60, 80)] * 3


def jpeg(size, **kwargs):
    buffer = io.BytesIO()
    Image.new("RGB", size, "white").save(buffer, "JPEG", **kwargs)
    return buffer.getvalue()


BROKEN = {
    "empty": (b"", "empty"),
    "a text": (b"this is no picture", "not an image"),
    "cut short": (jpeg((300, 300))[:400], "damaged or truncated"),
}


@pytest.mark.parametrize("data, said", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_told_and_nothing_is_lost(explorer, data, said):
    name, overlay = explorer.sight.name, explorer.picture.overlay
    receive(explorer, "photo.jpg", data)
    assert "photo.jpg" in explorer.picture.problem and said in explorer.picture.problem
    assert explorer.sight.name == name and explorer.picture.overlay == overlay and explorer.cell.value == 2
    explorer.phrase.value = "red cells"
    assert explorer.shown == "red cells" and explorer.picture.problem == ""


def receive(explorer, name, data, **content):
    message = {"kind": "file", "name": name} | content
    explorer.picture._handle_custom_msg(message, [memoryview(data)])


def test_a_file_of_ones_own(explorer):
    receive(explorer, "../../own.jpg", jpeg((30, 200)), note="made smaller")
    assert explorer.sight.name == "own.jpg" and explorer.cell.value == -1
    assert explorer.picture.status.endswith("own.jpg: made smaller.")
    explorer.restart.click()
    assert explorer.cell.value == 2


def test_forty_megapixels(explorer):
    receive(explorer, "big.jpg", jpeg((8000, 5000), quality=10))
    assert explorer.sight.image.size == (8000, 5000) and explorer.picture.problem == ""
    assert len(explorer.picture.data) < 1_000_000


def test_what_the_browser_could_not_send_is_told(explorer):
    explorer.picture._handle_custom_msg({"kind": "problem", "text": "too much"}, [])
    assert explorer.picture.problem == "too much"


@pytest.mark.parametrize("text, said", [("   ", "empty"), ("nucleus " * 200, "cut"), ("😀", "no piece")])
def test_a_phrase_that_cannot_be_read_is_told(explorer, text, said):
    explorer.phrase.value = text
    assert said in explorer.picture.problem and len(explorer.picture.problem) <= 300
    explorer.phrase.value = "red cells"
    assert explorer.picture.problem == "" and explorer.shown == "red cells"


def test_without_an_atlas_it_waits_for_a_picture(monkeypatch):
    def missing():
        raise ValueError("There is no atlas")

    monkeypatch.setattr("helpers.explorer.concept_explorer.load_atlas", missing)
    explorer = helpers.ConceptExplorer(*small_model(), phrase="round nucleus")
    assert explorer.sight is None and "No picture yet" in explorer.picture.status
    explorer.picture.box = [0, 0, 0.5, 0.5]
    explorer.phrase.value = "red cells"
    assert explorer.picture.problem == ""
    with pytest.raises(ValueError, match="picture"):
        explorer.figure()
    receive(explorer, "own.jpg", jpeg((30, 30)))
    assert explorer.picture.overlay and explorer.table.rows


SKIN = Domain("skin", concepts={"veil": ["blue veil", "veil"], "streaks": "red streaks"}, featured="streaks")


def test_compare_takes_anybodys_phrases(atlas):
    """Those outside the vocabulary used to be dropped in silence."""
    words = ["round nucleus", "a veil ", "zebra stripes"]
    explorer = helpers.ConceptExplorer(*small_model(), atlas=atlas, compare=words, phrase="band")
    assert [row["key"] for row in explorer.table.rows] == ["band", "round nucleus", "a veil", "zebra stripes"]
    assert not explorer.picture.problem
    explorer.compare.value = ()
    explorer.restart.click()
    assert explorer.compare.value == ("round nucleus", "a veil", "zebra stripes")
    explorer.picture.box = [0, 0, 0.5, 0.5]
    assert len(explorer._ranking()) == len(CONCEPTS) + 3  # they may describe a box, too; and the one that was typed
    assert helpers.ConceptExplorer(*small_model(), atlas=atlas, compare="a veil").compare.value == ("a veil",)


@pytest.mark.parametrize(
    ("compare", "named"),
    [
        (["band", " "], "' '"),
        ("", "''"),
        ([3], "3"),
        (["\u200b"], "200b"),
        (["band", None], "None"),
        (["band", np.nan], "nan"),
        ([["band", "cell"]], "band"),
        ([b"band"], "band"),
        (["band [SEP]"], r"band \[SEP\]"),
        (["cell " * 200], "cell cell"),
        (["band\udce9"], r"band\\udce9"),
    ],
)
def test_compare_says_what_is_no_phrase(atlas, compare, named):
    with pytest.raises(ValueError, match=named):
        helpers.ConceptExplorer(*small_model(), atlas=atlas, compare=compare)


@pytest.mark.parametrize(
    "compare", [5, np.nan, b"band", {"veil": ["blue"]}, {"veil"}, pd.DataFrame({"a": ["veil"]}), np.array([["veil"]])]
)
def test_compare_says_what_is_no_list_of_phrases(atlas, compare):
    with pytest.raises(TypeError, match=f"compare.*{type(compare).__name__}"):
        helpers.ConceptExplorer(*small_model(), atlas=atlas, compare=compare)


@pytest.mark.parametrize(
    ("compare", "shown"),
    [
        ([], ()),
        (["veil", "Veil ", " VEIL", "veil\u200b"], ("veil",)),  # a softmax would have shared out one phrase among four
        (["a  cell", "a cell"], ("a  cell",)),
        (["Segmented  Nucleus"], ("segmented nucleus",)),  # as the domain writes it
        (pd.Series(["veil", "band"], index=[7, 3]), ("veil", "band")),
        (np.array(["veil", "band"]), ("veil", "band")),
        (Domain("s", concepts={"veil": ["blue veil", "veil"]}), ("blue veil",)),
        ([f"sign {n}{m}" for n in "abcdef" for m in "abcdefghij"], None),
    ],
)
def test_compare_takes_phrases_of_every_kind(atlas, compare, shown):
    explorer = helpers.ConceptExplorer(*small_model(), atlas=atlas, compare=compare, phrase="band")
    assert explorer.compare.value == (tuple(compare) if shown is None else shown)
    labels = [row["label"] for row in explorer.table.rows]
    assert labels == list(dict.fromkeys(["band", *explorer.compare.value])) or labels == list(explorer.compare.value)


@pytest.mark.parametrize(
    ("start", "named"),
    [
        ({"phrase": 5}, "5"),
        ({"phrase": " "}, "' '"),
        ({"box": (1, 2)}, "box"),
        ({"box": (10, 20, 30, 40)}, "between 0 and 1"),
        ({"box": (0, 0, np.nan, 1)}, "box"),
        ({"image": 99}, "no picture 99 among the 4"),
        ({"image": -1}, "no picture -1"),
        ({"image": 1.5}, "float"),
        ({"image": "no.png"}, "no.png"),
        ({"template": ["{}"]}, "template"),
    ],
)
def test_a_start_that_cannot_be_is_an_error(atlas, start, named):
    """A picture that could not be read left an empty explorer without a word."""
    with pytest.raises(ValueError, match=named):
        helpers.ConceptExplorer(*small_model(), **{"atlas": atlas} | start)


def test_a_first_picture_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    explorer = helpers.ConceptExplorer(*small_model(), atlas=[tmp_path / "a.png"])
    assert "a.png" in explorer.picture.problem


def test_a_vocabulary_of_nothing_is_refused():
    with pytest.raises(ValueError, match="vocabulary"):
        ConceptSession(*small_model(), vocabulary=[])


def test_the_explorer_takes_a_domain():
    explorer = helpers.ConceptExplorer(*small_model(), domain=SKIN)
    assert explorer.atlas is None and explorer.shown == "red streaks"
    assert explorer.session.vocabulary == ["blue veil", "red streaks"]
    assert explorer.compare.value == ("red streaks",)
    for domain in ("dermatology", SKIN.to_dict(), Domain("d", classes=["mole", "band"])):
        assert helpers.ConceptExplorer(*small_model(), domain=domain).table is not None


def test_the_explorer_takes_a_folder_or_a_list_of_pictures(atlas, tmp_path):
    folder = tmp_path / "skin"
    folder.mkdir()
    for n in range(3):
        picture(n).save(folder / f"{n}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    table = helpers.image_folder(folder)
    table["label"] = ["", "mole", "mole", "band"]
    lists = (table, table["path"].tolist(), [picture(0), picture(1), picture(2), folder / "broken.png"])
    for pictures in lists:
        explorer = helpers.ConceptExplorer(*small_model(), domain=SKIN, atlas=pictures, image=2)
        said = " ".join(label for label, _ in explorer.cell.options) + explorer.search.description
        assert "cell" not in said and "atlas" not in said
        assert explorer.sight is not None and not explorer.picture.problem
        explorer.picture.box = [0, 0, 0.4, 0.4]
        explorer.search.click()
        assert (
            not explorer.picture.problem and explorer.found.value.count("<figure>") == 2
        )  # not itself, not the broken
    assert [label for label, _ in helpers.ConceptExplorer(*small_model(), domain=SKIN, atlas=table).cell.options] == [
        "a picture of your own", "0.png", "1.png · mole", "2.png · mole", "broken.png · band",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="'path'"):
        helpers.ConceptExplorer(*small_model(), domain=SKIN, atlas=pd.DataFrame({"a": [1]}))


def test_photographs_are_not_called_the_atlas(explorer):
    photographs = helpers.ConceptExplorer(*small_model(), atlas=helpers.load_cells("test")[:3])
    assert photographs.search.description == "Search the photographs for it"
    assert explorer.search.description == "Search the atlas for it"


def test_reset_is_the_start(explorer):
    start = explorer.picture.get_state(["data", "overlay", "box", "marks", "status"]) | {"rows": explorer.table.rows}
    explorer.cell.value = 0
    explorer.phrase.value = "band cells"
    explorer.picture.box = [0, 0, 0.4, 0.4]
    explorer.restart.click()
    now = explorer.picture.get_state(["data", "overlay", "box", "marks", "status"]) | {"rows": explorer.table.rows}
    assert now == start


def test_no_phrases_to_compare(explorer):
    explorer.typed = []
    explorer.compare.value = ()
    assert explorer.table.rows == [] and explorer.picture.problem == ""


def test_a_figure_of_the_explorer(explorer):
    import matplotlib.pyplot as plt

    explorer.picture.box = [0, 0, 0.4, 0.4]
    figure = explorer.figure()
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:2] == ["2 · basophil", "round nucleus"] and "the box, in words" in titles
    plt.close(figure)


@pytest.fixture(scope="module")
def designer():
    return helpers.CellDesigner(*small_model())


def test_a_control_moves_picture_bars_and_message(designer):
    designer.reset()
    data, rows = designer.picture.data, designer.table.rows
    assert all(row["cells"][1]["value"] is None for row in rows) and designer.back.disabled
    designer.controls["nucleus_shape"].value = "unsegmented-round"
    assert designer.picture.data != data and designer.table.rows != rows
    marks = {row["label"]: row["mark"] for row in designer.table.rows}
    assert marks["round nucleus"] is True and marks["band nucleus"] is False and marks["neutrophil"] is None
    row = designer.design.concepts.index("round nucleus")
    assert designer.design.change().iloc[row]["global cosine"] == pytest.approx(
        next(r["cells"][1]["value"] for r in designer.table.rows if r["label"] == "round nucleus")
    )
    designer.back.click()
    assert designer.picture.data == data


def test_granule_controls_follow_each_other(designer):
    designer.reset()
    designer.controls["granularity"].value = "no"
    assert designer.controls["granule_type"].value == designer.controls["granule_colour"].value == "nil"
    designer.controls["granule_colour"].value = "red"
    assert designer.controls["granularity"].value == "yes" and designer.picture.problem == ""


def test_seed_and_stain_change_no_word(designer):
    designer.reset()
    truth = designer.design.now.truth
    for slider in (designer.seed, designer.stain):
        data = designer.picture.data
        slider.value = 3
        assert designer.picture.data != data
    words = [key for key, concept in CONCEPTS.items() if concept.when]
    assert {key: truth[key] for key in words} == {key: designer.design.now.truth[key] for key in words}


def test_starts_dice_and_reset(designer):
    designer.reset()
    designer.starts.value = "lymphocyte"
    assert designer.controls["granularity"].value == "no" and "lymphocytes" in designer.facts.value
    designer.dice.click()
    assert designer.starts.value == ""
    designer.restart.click()
    assert designer.design.now.setting == designer.design.start and designer.back.disabled


def test_a_concept_that_is_pressed_shows_its_map(designer):
    designer.reset()
    designer.table.selected = "round nucleus"
    assert designer.picture.overlay and designer.opacity.value > 0 and "cosine" in designer.bar.value
    designer.measure.value = "local sigmoid"
    assert designer.table.caption.startswith("local sigmoid of 14")
    designer.many.value = True
    assert len(designer.table.rows) == len(CONCEPTS)
    designer.many.value = False


def test_the_sweep_button(designer):
    designer.reset()
    assert "No sweep yet" in designer.answer.value
    designer.attribute.value, designer.seeds.value = "cell_size", 4
    designer.run.click()
    assert designer.picture.problem == "" and 'alt="Change of every concept' in designer.answer.value
    assert designer.result.summary().split("\n")[0] in designer.answer.value and not designer.run.disabled
    designer.reset()
    assert designer.result is None


def test_an_error_in_the_model_is_told_and_the_controls_tell_the_truth(designer, monkeypatch):
    designer.reset()
    monkeypatch.setattr(designer.session, "looks", lambda *args: 1 / 0)
    designer.controls["cell_size"].value = "big"
    assert "ZeroDivisionError" in designer.picture.problem
    assert designer.controls["cell_size"].value == designer.design.now.setting.cell.cell_size == "small"


def test_telling_passes_no_exception_on():
    picture = Picture(status="before")
    with telling(picture, "working"):
        assert picture.status == "working"
        raise ValueError("x" * 1000)
    assert picture.status == "before" and len(picture.problem) <= 300


def test_a_file_name_cannot_leave_its_folder():
    assert open_bytes("../../x.jpg", jpeg((3, 2))).size == (3, 2)
    assert open_bytes("", jpeg((3, 2))).size == (3, 2)
