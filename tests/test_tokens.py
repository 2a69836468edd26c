"""Positions of pieces and patches, on cases that can be counted by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from skimage import data
from small_model import PATCH, SIZE, small_model

import helpers
from helpers.tokens import fill

PROMPT = "a cell photo with sign of Segmented nucleus"  # [CLS] a cell photo with sign of seg ##mented nucleus [SEP]


@pytest.fixture(scope="module")
def tiny():
    return small_model()


@pytest.fixture(scope="module")
def prompts(tiny):
    return helpers.encode_texts(*tiny, [PROMPT, "red cells"], tokens=True)


@pytest.fixture(scope="module")
def encoded(tiny):
    return helpers.encode_images(*tiny, [data.retina(), data.chelsea()], tokens=True)


# --- pieces -----------------------------------------------------------------------------------------------------------


def test_piece_table_tells_special_padding_and_continued_pieces_apart(prompts):
    table = helpers.tokens.piece_table(prompts, 0)
    assert table["piece"].tolist() == prompts.pieces[0]
    assert table["kind"].tolist() == ["special", *["word"] * 7, "continued", "word", "special"]
    assert table.loc[[7, 8, 9], "characters"].tolist() == ["Seg", "mented", "nucleus"]
    kinds = helpers.tokens.piece_table(prompts, 1)["kind"].tolist()
    assert kinds == ["special", "word", "word", "special", *["padding"] * 7]


def test_spans_are_found_by_characters(prompts):
    assert helpers.tokens.span_positions(prompts, 0, "segmented nucleus") == [7, 8, 9]
    assert helpers.tokens.span_positions(prompts, 0, "mented") == [8]
    assert helpers.tokens.span_positions(prompts, 0, (0, 1)) == [1]
    assert helpers.tokens.span_positions(prompts, 0, (2, len(PROMPT))) == list(range(2, 10))
    assert helpers.tokens.span_positions(prompts, 0, (0, 3)) == [1, 2]  # a word that is touched counts as a whole


@pytest.mark.parametrize(
    ("phrase", "named"),
    [("monocyte", "'monocyte'"), ("e", "'e'"), ("", "''"), ((3, 3), r"3.*3"), ((0, 999), "999")],
)
def test_spans_that_are_not_there(prompts, phrase, named):
    with pytest.raises(ValueError, match=named):
        helpers.tokens.span_positions(prompts, 0, phrase)


def test_a_span_of_spaces_has_no_token(prompts):
    with pytest.raises(ValueError, match=r"texts\[0\].*' '"):
        helpers.tokens.span_positions(prompts, 0, (1, 2))


def test_a_text_tower_that_drops_cls_is_caught(prompts):
    off_by_one = helpers.encoding.TextEncodings(**{**vars(prompts), "tokens": prompts.tokens[:, 1:]})
    for use in (
        lambda: helpers.tokens.piece_table(off_by_one),
        lambda: helpers.tokens.span_vector(off_by_one, 0, "nucleus"),
    ):
        with pytest.raises(ValueError, match=r"\[CLS\]"):
            use()


def test_projected_and_unprojected_tokens_never_meet(tiny, prompts, encoded, tmp_path):
    """Also where the widths are equal, as in both models' image towers, and after a save."""
    images = [data.retina(), data.chelsea()]
    raw = helpers.encode_images(*tiny, images, tokens="unprojected")
    assert raw.tokens.shape == encoded.tokens.shape
    raw = helpers.encoding.load_encodings(raw.save(tmp_path / "raw.safetensors"))
    texts = helpers.encode_texts(*tiny, [PROMPT], tokens="unprojected")
    for use in (
        lambda: helpers.concept_maps(*tiny, raw, ["nucleus"]),
        lambda: helpers.tokens.token_maps(prompts, raw),
        lambda: helpers.tokens.token_maps(texts, encoded),
        lambda: helpers.tokens.span_vector(texts, 0, "nucleus"),
        lambda: helpers.zero_shot(*tiny, raw, ["band", "round"], alpha=0.5),
        lambda: helpers.annotate(*tiny, raw, ["band"], recipe="training"),
    ):
        with pytest.raises(ValueError, match="unprojected"):
            use()


def test_fill():
    assert fill("a photo of {}.", " red cells ") == ("a photo of red cells.", (11, 20))
    assert fill("{}", "{weird}") == ("{weird}", (0, 7))
    for template, phrase, named in (
        ("a photo", "x", "'a photo'"),
        ("{} {}", "x", r"'\{\} \{\}'"),
        ("{}", " ", "phrase"),
    ):
        with pytest.raises(ValueError, match=named):
            fill(template, phrase)


# --- concepts ---------------------------------------------------------------------------------------------------------


def test_span_vector_is_the_mean_over_its_positions(prompts):
    vector = helpers.tokens.span_vector(prompts, 0, "segmented nucleus")
    torch.testing.assert_close(vector, prompts.tokens[0, 7:10].mean(0))
    moved = helpers.tokens.span_vector(prompts, 0, "segmented nucleus", offset=-1)
    torch.testing.assert_close(moved, prompts.tokens[0, 6:9].mean(0))
    moved = helpers.tokens.span_vector(prompts, 0, "segmented nucleus", offset=1)
    torch.testing.assert_close(moved, prompts.tokens[0, 8:11].mean(0))
    with pytest.raises(ValueError, match="2"):
        helpers.tokens.span_vector(prompts, 0, "segmented nucleus", offset=2)


def test_concept_vectors_are_span_means_of_unit_length(tiny, prompts):
    vectors = helpers.concept_vectors(*tiny, ["Segmented nucleus"], template="a cell photo with sign of {}")
    expected = F.normalize(prompts.tokens[0, 7:10].mean(0), dim=0)
    torch.testing.assert_close(vectors[0], expected, atol=1e-5, rtol=1e-5)


def test_templates_and_synonyms_are_averaged_before_the_length_is_made_one(tiny):
    spans = [("red cells", "a {}"), ("red cells", "photo of {}"), ("round", "a {}"), ("round", "photo of {}")]
    means = []
    for phrase, template in spans:
        text, characters = fill(template, phrase)
        means.append(helpers.tokens.span_vector(helpers.encode_texts(*tiny, [text], tokens=True), 0, characters))
    vectors = helpers.concept_vectors(
        *tiny, {"one": ["red cells", "round"], "two": "round"}, template=["a {}", "photo of {}"]
    )
    torch.testing.assert_close(vectors[0], F.normalize(torch.stack(means).mean(0), dim=0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vectors[1], F.normalize(torch.stack(means[2:]).mean(0), dim=0), atol=1e-5, rtol=1e-5)


def test_the_last_position_is_padding_unless_told_otherwise(tiny, prompts):
    padded = helpers.encode_texts(*tiny, prompts.texts, tokens=True, pad_to=77)
    vectors = helpers.tokens.last_position_vectors(*tiny, prompts.texts)
    torch.testing.assert_close(vectors, F.normalize(padded.tokens[:, 76], dim=1))
    assert padded.pieces[0][76] == "[PAD]"
    real = helpers.tokens.last_position_vectors(*tiny, prompts.texts, pad_to=None)
    expected = F.normalize(torch.stack([prompts.tokens[0, 10], prompts.tokens[1, 3]]), dim=1)  # both [SEP]
    torch.testing.assert_close(real, expected)


# --- patches ----------------------------------------------------------------------------------------------------------


def test_patch_boxes_leave_out_the_strip_that_no_patch_sees(tiny):
    grid = helpers.patch_grid(tiny[0])
    assert (grid.h, grid.w, grid.patch, grid.size) == (4, 4, PATCH, SIZE)
    assert len(grid) == 16
    assert grid.row_column(6) == (1, 2)
    assert grid.box(6) == (28, 14, 42, 28)
    assert grid.box(6, (120, 600)) == (56, 140, 84, 280)  # squashed, not cropped: each side by its own factor
    assert grid.extent((SIZE, SIZE)) == (0, 56, 56, 0)
    with pytest.raises(ValueError, match=r"16.*15"):
        grid.box(16)


def test_points_and_boxes_agree(tiny):
    grid = helpers.patch_grid(tiny[0])
    for size in ((60, 60), (451, 300), (13, 7)):
        for index in range(len(grid)):
            left, top, right, bottom = grid.box(index, size)
            assert grid.at((left + right) / 2, (top + bottom) / 2, size) == index
    assert grid.at(59, 5, (60, 60)) is None  # the strip
    assert grid.at(-1, 5, (60, 60)) is None


def test_patches_lie_where_the_model_looks(tiny):
    """A change inside a patch's box moves that patch's embedding, and no other one's."""
    model, _ = tiny
    grid = helpers.patch_grid(model)
    black = torch.zeros(1, 3, SIZE, SIZE)
    for index in (0, 6, 15):
        left, top, right, bottom = map(int, grid.box(index))
        picture = black.clone()
        picture[..., top:bottom, left:right] = 1
        with torch.no_grad():
            moved = model.vision_model.embeddings(picture) - model.vision_model.embeddings(black)
        assert moved[0].norm(dim=1).gt(1e-6).nonzero().flatten().tolist() == [index]


def test_patch_shares(tiny):
    grid = helpers.patch_grid(tiny[0])
    mask = np.zeros((60, 60), dtype=bool)
    mask[:14, :7] = True  # half of patch 0
    mask[14:28, 14:28] = True  # all of patch 5
    mask[:, 56:] = True  # the strip that no patch sees
    shares = helpers.tokens.patch_shares(mask[None], grid)
    expected = np.zeros((1, 4, 4))
    expected[0, 0, 0], expected[0, 1, 1] = 0.5, 1
    np.testing.assert_allclose(shares, expected)
    np.testing.assert_allclose(helpers.tokens.patch_shares(mask, grid), expected[0])
    twice = mask.repeat(2, 0).repeat(4, 1)  # another size and aspect ratio: squashed as the picture is
    np.testing.assert_allclose(helpers.tokens.patch_shares(twice, grid), expected[0], atol=1e-6)


def test_boxes_serve_where_masks_do(tiny):
    grid = helpers.patch_grid(tiny[0])
    mask = np.zeros((60, 60), dtype=bool)
    mask[7:28, 14:35] = True
    boxes = [[(14, 7, 35, 28)], np.empty((0, 4)), (14, 7, 35, 28)]
    shares = helpers.tokens.box_shares(boxes, grid, (60, 60))
    for found in (shares[0], shares[2]):
        np.testing.assert_allclose(found, helpers.tokens.patch_shares(mask, grid), atol=1e-6)
    assert shares.shape == (3, 4, 4) and not shares[1].any()
    wide = helpers.tokens.box_shares([(28, 3.5, 70, 14)], grid, (120, 30))  # squashed as the picture is
    np.testing.assert_allclose(wide[0], shares[0], atol=1e-6)
    part = helpers.tokens.box_shares([[(0, 0, 3.5, 14), (0, 0, 3.5, 14), (7, 0, 14, 7)]], grid, [(60, 60)])
    assert part[0, 0, 0] == pytest.approx(0.25 + 0.25)  # a part of a pixel counts as a part, an overlap once
    assert part[0, 0, 1] == 0


@pytest.mark.parametrize(
    ("boxes", "size", "named"),
    [
        ([(10, 10, 5, 20)], (60, 60), "Box 0 of picture 0"),
        ([(0, 0, 5, 5), [(0, 0, 5, 5), (1, 1, float("nan"), 3)]], (60, 60), "Box 1 of picture 1"),
        ([(70, 0, 80, 5)], (60, 60), "outside"),
        ([(0, 0, 5)], (60, 60), "picture 0"),
        ([(0, 0, 5, 5)], [(60, 60), (60, 60)], r"1\b.*2\b"),
    ],
)
def test_boxes_that_are_none(tiny, boxes, size, named):
    with pytest.raises(ValueError, match=named):
        helpers.tokens.box_shares(boxes, helpers.patch_grid(tiny[0]), size)


def test_a_map_at_the_pictures_size(tiny):
    grid = helpers.patch_grid(tiny[0])
    map_ = torch.arange(16.0).reshape(4, 4)
    pixels = helpers.tokens.map_at_size(map_, grid, (120, 30))
    assert (pixels.shape, pixels.dtype) == ((30, 120), np.float32)
    for x in range(0, 120, 7):
        for y in range(0, 30, 3):
            patch = grid.at(x + 0.5, y + 0.5, (120, 30))
            if patch is None:
                assert np.isnan(pixels[y, x])
            else:
                assert pixels[y, x] == map_.flatten()[patch]
    assert np.isnan(pixels[29]).all() and np.isnan(pixels[:, 119]).all()  # the strip that no patch sees
    assert helpers.tokens.map_at_size(map_, grid, (120, 30), outside=-1)[29].max() == -1
    several = helpers.tokens.map_at_size(np.stack([map_, -map_])[None], grid, (20, 20))
    assert several.shape == (1, 2, 20, 20)


def test_a_map_clipped_normalised_smooth(tiny):
    grid = helpers.patch_grid(tiny[0])
    map_ = np.arange(16.0).reshape(4, 4)

    def at_size(values, **how):
        return helpers.tokens.map_at_size(values, grid, (60, 60), outside=0, **how)

    assert (at_size(map_, limits=(2, 9)).max(), at_size(map_, limits=(2, 9))[0, 0]) == (9, 2)
    scaled = at_size(map_, normalise=True)
    assert (scaled.min(), scaled.max(), scaled[0, 20]) == (0, 1, pytest.approx(1 / 15))
    assert at_size(map_, limits=(5, 10), normalise=True)[20, 20] == 0  # patch 5
    assert at_size(map_, limits=(-5, 35), normalise=True)[20, 20] == pytest.approx(0.25)  # maps compare
    assert not at_size(np.full((4, 4), 3.0), normalise=True).any()
    smooth = at_size(map_, smooth=True)
    assert smooth[7, 7] == pytest.approx(map_[0, 0], abs=0.3) and smooth[0, 0] == 0
    assert smooth[14, 14] == pytest.approx(map_[:2, :2].mean(), abs=0.3)  # where four patches meet
    assert len(np.unique(smooth)) > 200
    for bad, named in ((np.ones((3, 4)), "3, 4"), (np.full((4, 4), np.nan), "NaN")):
        with pytest.raises(ValueError, match=named):
            at_size(bad)
    with pytest.raises(ValueError, match=r"limits.*\(1, 1\)"):
        at_size(map_, limits=(1, 1))


# --- maps -------------------------------------------------------------------------------------------------------------


def test_concept_maps_patch_by_patch_by_hand(tiny, encoded):
    model, processor = tiny
    phrases, template = ["nucleus", "red cells"], "a cell photo with sign of {}"
    maps = helpers.concept_maps(model, processor, [data.retina(), data.chelsea()], phrases, template=template)
    assert maps.shape == (2, 2, 4, 4)
    vectors = helpers.concept_vectors(model, processor, phrases, template=template)
    for b, k, row, column in ((0, 0, 0, 0), (1, 1, 2, 3), (0, 1, 3, 1)):
        patch = encoded.tokens[b, row * 4 + column]
        assert maps[b, k, row, column] == pytest.approx(float(patch @ vectors[k] / patch.norm()), abs=1e-5)
    torch.testing.assert_close(helpers.concept_maps(model, processor, encoded, vectors), maps, atol=1e-5, rtol=0)


def test_maps_refuse_what_does_not_lie_in_the_joint_space(tiny, encoded):
    raw = helpers.encode_texts(*tiny, ["nucleus"], tokens="unprojected").tokens[0]
    with pytest.raises(ValueError, match="text_proj"):
        helpers.tokens.cosine_maps(encoded.tokens, raw, encoded.grid)
    with pytest.raises(ValueError, match="NaN"):
        helpers.tokens.cosine_maps(encoded.tokens * torch.nan, torch.ones(1, 32), encoded.grid)
    with pytest.raises(ValueError, match="3 x 4"):
        helpers.tokens.cosine_maps(encoded.tokens, torch.ones(1, 32), (3, 4))
    without = helpers.encode_images(*tiny, [data.chelsea()])
    with pytest.raises(ValueError, match="tokens=True"):
        helpers.concept_maps(*tiny, without, ["nucleus"])


def test_token_maps_leave_out_padding(tiny, prompts, encoded):
    maps = helpers.tokens.token_maps(prompts, encoded, n=1, b=1)
    assert maps.shape == (4, 4, 4)  # [CLS] red cells [SEP]
    expected = F.cosine_similarity(encoded.tokens[1, 7], prompts.tokens[1, 2], dim=0)
    assert maps[2, 1, 3] == pytest.approx(float(expected), abs=1e-5)


def test_top_patches():
    map_ = torch.tensor([[0.1, 0.9], [0.5, -1.0]])
    assert helpers.tokens.top_patches(map_, 2) == [(1, pytest.approx(0.9)), (2, pytest.approx(0.5))]
    with pytest.raises(ValueError, match="4"):
        helpers.tokens.top_patches(map_, 5)


# --- what is no mask, box or size -------------------------------------------------------------------------------------


def test_masks_of_files_and_masks_that_are_none(tiny):
    grid = helpers.patch_grid(tiny[0])
    mask = np.zeros((1, SIZE, SIZE), bool)
    mask[:, :PATCH, : 2 * PATCH] = True
    expected = helpers.tokens.patch_shares(mask, grid)
    np.testing.assert_array_equal(helpers.tokens.patch_shares(mask.astype(np.uint8) * 255, grid), expected)
    for wrong in (mask * 2, np.full(mask.shape, np.nan), mask - 0.5, np.zeros((1, 0, 5)), np.zeros(5)):
        with pytest.raises(ValueError, match=r"(?i)mask"):
            helpers.tokens.patch_shares(wrong, grid)
    with pytest.raises(ValueError, match="masks"):
        helpers.tokens.patch_shares([mask[0], mask[0, :5]], grid)
    with pytest.raises(ValueError, match="picture 0"):
        helpers.tokens.box_shares([("a", 0, 1, 1)], grid, (90, 70))


@pytest.mark.parametrize("size", [(0, 5), (1.5, 2), "x", None, 5, (3, 4, 5)])
def test_sizes_that_are_none(tiny, size):
    grid = helpers.patch_grid(tiny[0])
    with pytest.raises(ValueError, match="image_size"):
        helpers.tokens.map_at_size(np.zeros(grid.shape), grid, size)


def test_maps_of_phrases_of_every_kind(tiny):
    pictures = [np.zeros((SIZE, SIZE, 3), np.uint8)]

    def of(phrases, **how):
        return helpers.concept_maps(*tiny, pictures, phrases, **how)

    two = ["nucleus", "red cells"]
    plain = of(two)
    for phrases in (tuple(two), np.array(two), pd.Series(two, index=[7, 3]), helpers.Domain("d", concepts=two)):
        torch.testing.assert_close(of(phrases), plain)
    for phrases in (None, 5, {"nucleus", "cell"}, b"nucleus", pd.DataFrame({"a": ["nucleus"]})):
        with pytest.raises(TypeError, match=f"phrases.*{type(phrases).__name__}"):
            of(phrases)
    for phrases in (["nucleus", None], ["nucleus", np.nan], {"a": 5}):
        with pytest.raises(TypeError, match=r"phrases\[[01]\]"):
            of(phrases)
    for phrases, how in (([], {}), ([" "], {}), (["nucleus"], {"template": "x"}), (["nucleus"], {"batch_size": 0})):
        with pytest.raises(ValueError, match=r"phrase|template|batch_size"):
            of(phrases, **how)
    deep = np.random.default_rng(0).integers(0, 4096, (SIZE, SIZE)).astype(np.uint16)
    assert helpers.concept_maps(*tiny, [deep], ["nucleus"], window=(0, 4095)).isfinite().all()
