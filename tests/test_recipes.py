"""The recipes on cases whose answer is known by hand; nothing here trains long or renders more than a few pictures."""

import argparse
import itertools
import json
import math
import re
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from helpers.bloodcells import (
    ATTRIBUTES,
    CONCEPTS,
    GUIDE_PROMPTS,
    PARTS,
    TEMPLATES,
    caption,
    part_shares,
    render,
    truth,
)
from helpers.datasets import ATLAS
from recipes import (
    augment,
    batches,
    make_atlas,
    muon,
    no_cells,
    photographs,
    real_cells,
    render_training,
    train_mini,
    words,
)
from recipes.tokenizer import make_tokenizer

# -------------------------------------------------------------------------------------------------------------- losses


def test_region_loss_takes_the_best_patch_and_the_mean_token():
    tokens = torch.zeros(1, 3, 2)
    tokens[0, 1], tokens[0, 2] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    output = argparse.Namespace(
        text_token_features=tokens,
        # The concept points to (1, 1) / sqrt 2: image 0 holds it in its second patch, image 1 nowhere.
        image_token_features=torch.tensor([[[-1.0, 0.0], [2.0, 2.0]], [[1.0, -1.0], [-3.0, 3.0]]]),
        concept_logit_scale=torch.tensor(4.0),
        concept_logit_bias=torch.tensor(-1.0),
    )
    batch = {
        "span_caption": torch.tensor([0]),
        "span_tokens": torch.tensor([[0.0, 0.5, 0.5]]),
        "span_truth": torch.tensor([[1.0], [0.0]]),
        "regions": torch.ones(2, 2, dtype=torch.bool),
    }
    expected = math.log1p(math.exp(-3)) + math.log1p(math.exp(-1))
    assert train_mini.rc_align(output, batch).item() == pytest.approx(expected, rel=1e-5)
    # In a region without that second patch, image 0 has only the cosine −1 / sqrt 2 to offer.
    batch["regions"][0, 1] = False
    expected = math.log1p(math.exp(1 + 4 * 0.5**0.5)) + math.log1p(math.exp(-1))
    assert train_mini.rc_align(output, batch).item() == pytest.approx(expected, rel=1e-5)


def test_conjunction_has_three_values():
    nan = math.nan
    values = torch.tensor([[1.0, 1.0], [1.0, 0.0], [nan, 0.0], [nan, 1.0]])
    result = batches._conjunction(values)
    assert result[:3].tolist() == [1.0, 0.0, 0.0] and result[3].isnan()


def test_learning_rate_warms_up_and_ends_at_nothing():
    factors = [train_mini.learning_rate_factor(step, 1000) for step in range(1001)]
    assert factors[0] == pytest.approx(1 / 60) and factors[-1] == 0
    assert set(factors[59:700]) == {1.0} and 0.49 < factors[850] < 0.51
    assert np.all(np.diff(factors[700:]) < 0)


def test_the_halves_of_a_step_are_averaged():
    model = torch.nn.Linear(3, 2)
    for inputs in torch.eye(3)[:2]:
        model(inputs).sum().backward()
    train_mini.average_gradients(list(model.parameters()), processes=1)
    assert model.weight.grad.tolist() == [[0.5, 0.5, 0.0]] * 2 and model.bias.grad.tolist() == [1.0, 1.0]


def test_whitening_filters_whiten():
    torch.manual_seed(0)
    pixels = torch.randn(64, 3, 32, 32) * torch.linspace(0.5, 2, 32) + torch.randn(64, 1, 1, 1)
    weight, bias = train_mini.whitening_filters(pixels, width=8, patch=4)
    outputs = torch.nn.functional.conv2d(pixels, weight, bias, stride=4).permute(0, 2, 3, 1).flatten(0, 2)
    covariance = torch.cov(outputs.T)
    assert outputs.mean(0).abs().max() < 1e-3
    assert (covariance - torch.diag(covariance.diag())).abs().max() < 1e-2
    assert covariance.diag().max() < 1.01


# ---------------------------------------------------------------------------------------------------------- view, text


def test_a_view_and_its_masks_stay_together():
    """The masks mark the red pixels; in every cut they still do."""
    image = np.zeros((224, 224, 3), np.uint8)
    image[40:120, 100:200, 0] = 255
    masks = np.zeros((len(PARTS), 56, 56), np.uint8)
    masks[0, 10:30, 25:50] = 255
    for seed in range(30):
        for name, view in batches.VIEWS.items():
            left, top, side = batches.choose_square(np.random.default_rng(seed), name, masks)
            assert 0 <= left <= 56 - side and 0 <= top <= 56 - side
            cut, marked = batches.cut(image, masks, left, top, side, view.grid * 16)
            assert cut.size == (view.grid * 16,) * 2 and marked.shape[1:] == (side, side)
            red = np.asarray(cut.getchannel("R").resize((side, side), Image.Resampling.BOX), float)
            assert np.abs(red - marked[0]).mean() < 8
            assert name != "cell" or marked[0].sum() == masks[0].sum()  # whole


def test_views_look_at_every_part_alone():
    """Cytoplasm, red cells or background and nothing else: that is what the close views are for."""
    masks = np.zeros((len(PARTS), 56, 56), np.uint8)
    masks[PARTS.index("cytoplasm"), 10:40, 10:40] = masks[PARTS.index("red cells"), 40:, 20:] = 255
    rng, alone = np.random.default_rng(0), set()
    for _ in range(300):
        left, top, side = batches.choose_square(rng, "part", masks)
        square = masks[:, top : top + side, left : left + side]
        background = (square.max(0) == 0).any()
        alone.add((*(square.mean((1, 2)) > 0).tolist(), bool(background)))
    only = {part: (*(other == part for other in PARTS), False) for part in ("cytoplasm", "red cells")}
    assert only["cytoplasm"] in alone and only["red cells"] in alone and (*[False] * len(PARTS), True) in alone


def test_a_turn_is_one_of_eight_and_turns_the_masks_along():
    image = np.arange(9, dtype=np.uint8).reshape(3, 3, 1).repeat(3, 2)
    turned = [batches.turn(np.random.default_rng(seed), image, image[None, ..., 0]) for seed in range(60)]
    assert len({view.tobytes() for view, _ in turned}) == 8
    assert all(np.array_equal(view[..., 0], masks[0]) for view, masks in turned)


def test_regions_lie_in_the_view_and_are_sometimes_all_of_it():
    regions = [batches.choose_region(np.random.default_rng(seed), 5) for seed in range(400)]
    assert all(0 <= left <= 5 - side and 0 <= top <= 5 - side for left, top, side in regions)
    assert {side for *_, side in regions} == {1, 2, 3, 4, 5}
    assert 0.15 < np.mean([side == 5 for *_, side in regions]) < 0.35


def test_the_truth_of_a_region_is_what_it_shows():
    """A cell cut in two: its type is unknown, the granules in view are known, and what lies outside is not there."""
    cell, seed = next(
        s for s in map(render_training.training_scene, range(90)) if s[0] is not None and s[0].granule_colour == "red"
    )
    picture = render(cell, seed, 224, offset=(0, 0), red_cells=0, platelets=0)
    stack = np.stack([picture.masks[part] for part in PARTS])
    masks = (stack.reshape(len(PARTS), 56, 4, 56, 4).mean((2, 4)) * 255).astype(np.uint8)
    half = batches.view_truth(cell, 1.0, masks, masks[:, :, :28], 14 * 7)
    assert half["granules"] and half["red granules" if "red granules" in half else "eosinophilic granules"]
    assert half["segmented nucleus"] is None and half["big cell"] is None and half["pink granules"] is False
    corner = batches.view_truth(cell, 1.0, masks, masks[:, :4, :4], 1)
    assert corner["nucleus"] is False and corner["eosinophilic granules"] is False and corner["background"] is True
    assert corner["no granules"] is None


def test_the_truth_of_a_view_is_the_truth_of_the_picture_when_nothing_is_cut():
    cell, seed = next(s for s in map(render_training.training_scene, range(50)) if s[0] is not None)
    picture = render(cell, seed, 224)
    stack = np.stack([picture.masks[part] for part in PARTS])
    masks = (stack.reshape(len(PARTS), 56, 4, 56, 4).mean((2, 4)) * 255).astype(np.uint8)
    whole = truth(cell, part_shares(picture.masks), picture.visible)
    assert batches.view_truth(cell, picture.visible, masks, masks) == whole
    empty = batches.view_truth(cell, picture.visible, masks, np.zeros_like(masks))
    assert empty["white cell"] is False and empty["background"] is True


def test_another_laboratory_changes_the_colour_and_keeps_the_picture():
    blocks = np.random.default_rng(0).integers(90, 256, (32, 32, 3), np.uint8)
    image = Image.fromarray(blocks.repeat(4, 0).repeat(4, 1))
    changed = [augment.other_laboratory(np.random.default_rng(seed), image) for seed in range(40)]
    seen, strengths = zip(*changed, strict=True)
    assert min(strengths) == 0 and max(strengths) > 1
    near = [augment.other_laboratory(np.random.default_rng(seed), image, own=1.0)[1] for seed in range(40)]
    assert max(near) <= 0.25
    assert all(pixels.shape == (128, 128, 3) and pixels.dtype == np.uint8 for pixels in seen)
    assert len({pixels.tobytes() for pixels in seen}) > 30
    alike = [np.corrcoef(pixels.mean(2).ravel(), np.asarray(image).mean(2).ravel())[0, 1] for pixels in seen]
    assert np.median(alike) > 0.8 and min(alike) > 0.3
    same = augment.other_stain(np.random.default_rng(0), np.asarray(image), 0.0)
    assert np.abs(same.astype(int) - np.asarray(image)).max() <= 1


def test_the_stain_of_another_picture_is_taken_over():
    """All of it with a share of 1, nothing with 0; what is dark stays darker than what is bright."""
    rng = np.random.default_rng(0)
    pixels, other = (
        (rng.random((96, 96, 1)) * rng.uniform(20, 60, 3) + rng.uniform(90, 160, 3) + rng.normal(0, 5, (96, 96, 3)))
        .clip(1, 255)
        .astype(np.uint8)
        for _ in range(2)
    )
    stain = augment.stain_of(other)
    moved = augment.stain_of(augment.in_stain(pixels, stain, 1.0))
    np.testing.assert_allclose(moved.mean, stain.mean, atol=0.01)
    np.testing.assert_allclose(moved.covariance, stain.covariance, atol=0.3 * stain.covariance.max())
    assert np.abs(augment.in_stain(pixels, stain, 0.0).astype(int) - pixels).max() <= 1
    grey = [picture.mean(2).ravel() for picture in (pixels, augment.in_stain(pixels, stain, 1.0))]
    assert np.corrcoef(*grey)[0, 1] > 0.9


def test_the_second_stage_changes_stains_further():
    blocks = np.random.default_rng(0).integers(90, 256, (32, 32, 3), np.uint8)
    image = Image.fromarray(blocks.repeat(4, 0).repeat(4, 1))
    stains = [augment.stain_of(255 - blocks)]
    changed = [augment.other_laboratory(np.random.default_rng(seed), image, stains=stains) for seed in range(200)]
    spread = [np.ptp(pixels.astype(int), axis=2).max() for pixels, _ in changed]
    assert 0.04 < np.mean(np.array(spread) <= 12) < 0.2  # a tenth has no colour (JPEG aside)
    before = [augment.other_laboratory(np.random.default_rng(seed), image)[0] for seed in range(200)]
    after = [pixels for pixels, _ in changed]
    colours = [np.std([pixels.mean((0, 1)) for pixels in these], 0).mean() for these in (before, after)]
    assert colours[1] > 1.2 * colours[0]


def test_a_cell_is_put_before_another_picture():
    """Its middle stays, far from it all is the other picture, and between the two clear background lets it through."""
    image, behind = np.full((64, 64, 3), 240, np.uint8), np.full((64, 64, 3), (200, 160, 120), np.uint8)
    image[24:40, 24:40] = (60, 20, 110)
    core, ours = np.zeros((16, 16), bool), np.zeros((16, 16), bool)
    core[7:9, 7:9], ours[3:13, 3:13] = True, True
    mixed = augment.before(np.random.default_rng(0), image, core, ours, behind)
    assert np.abs(mixed[31:33, 31:33].astype(int) - image[31, 31]).max() <= 2
    assert (mixed[:4] == behind[:4]).all() and np.abs(mixed[18, 32].astype(int) - behind[18, 32]).max() <= 2


def test_a_turned_look_and_its_places_stay_together():
    """A dark square in the picture, NUCLEUS in the places: in every look they lie on each other."""
    image, places = np.full((256, 256, 3), 255, np.uint8), np.zeros((64, 64), np.uint8)
    image[80:160, 100:180], places[20:40, 25:45] = 0, real_cells.NUCLEUS
    box, rng = np.array([100, 80, 180, 160], np.float32), np.random.default_rng(0)
    for seed in range(40):
        name = list(batches.VIEWS)[seed % 3]
        centre, side, angle = batches.choose_look(rng, name, places, box)
        reach = 0.5 * side * (abs(math.cos(angle)) + abs(math.sin(angle)))
        assert all(reach - 2 <= at <= 258 - reach for at in centre)
        view, seen = augment.look(image, places, centre, side, angle, batches.VIEWS[name].grid * 16)
        dark = np.asarray(view.convert("L").reduce(4)) < 128
        assert (dark == (seen == real_cells.NUCLEUS)).mean() > 0.9


def test_model_input_is_what_the_processor_makes():
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    expected = train_mini.make_processor(make_tokenizer())(images=Image.fromarray(image), return_tensors="pt")
    ours = train_mini.as_model_input(torch.from_numpy(image)[None])
    torch.testing.assert_close(ours, expected["pixel_values"], atol=1e-5, rtol=0)


def test_tokenizer_knows_every_phrase_and_splits_rare_words():
    tokenizer = make_tokenizer()
    texts = [phrase for concept in CONCEPTS.values() for phrase in concept.phrases]
    texts += [template.format("x") for template in TEMPLATES]
    texts += ["The quick brown fox jumps over 12 lazy dogs; what's that (a test)?", "chest X-ray: pneumothorax, 5 µm"]
    assert not any(tokenizer.unk_token_id in ids for ids in tokenizer(texts).input_ids)
    assert max(map(len, tokenizer(list(GUIDE_PROMPTS)).input_ids)) <= 77
    assert len(tokenizer.tokenize("azurophilic")) > 1 and len(tokenizer.tokenize("polymorphonuclear")) > 1
    assert tokenizer.tokenize("nucleus") == ["nucleus"]


def test_a_distracted_caption_keeps_its_spans():
    written = caption(dict.fromkeys(CONCEPTS) | {"platelets": True}, np.random.default_rng(1))
    for seed in range(20):
        text, moved = batches.distract(np.random.default_rng(seed), written.text, ["one", "two"])
        span = written.spans[0]
        assert text[span.start + moved : span.end + moved] == written.text[span.start : span.end]


# -------------------------------------------------------------------------------------------------------------- atlas


def test_the_atlas_is_what_its_recipe_makes(tmp_path, monkeypatch):
    """Its first six cells, byte for byte; `python -m recipes.make_atlas --check` compares all of them."""
    scenes = make_atlas.scenes()
    monkeypatch.setattr(make_atlas, "scenes", lambda: scenes[:6])
    make_atlas.make_atlas(tmp_path / "atlas")
    for name in [f"{folder}/{i:03d}.{end}" for i in range(6) for folder, end in (("images", "jpg"), ("masks", "png"))]:
        assert (tmp_path / "atlas" / name).read_bytes() == (ATLAS / name).read_bytes(), name
    made, stored = (pd.read_csv(folder / "cells.csv").head(6) for folder in (tmp_path / "atlas", ATLAS))
    pd.testing.assert_frame_equal(made, stored, check_dtype=False)


def test_differences_are_found(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "same").write_text("a")
    assert make_atlas.differences(one, other) == []
    (one / "changed").write_text("a")
    (other / "changed").write_text("b")
    (one / "only").write_text("a")
    assert make_atlas.differences(one, other) == ["changed", "only"]


# -------------------------------------------------------------------------------------------------------- photographs


def _counts():
    return pd.read_csv("data/wbcatt/attribute-counts.csv")


def test_held_out_photographs_are_never_trained_on(bccd):
    _, types = photographs.load_annotations(bccd)
    training, held_out = photographs.split(types)
    assert held_out == ["4.jpg"] and set(training) | set(held_out) == set(types.index) and "4.jpg" not in training
    assert photographs.choose_held_out(types) == ["4.jpg"]


def test_crops_know_what_the_boxes_say(bccd):
    of = photographs.Photographs(bccd, ["0.jpg", "5.jpg"], _counts())
    cell = of.crop("0.jpg", 150, 100, 200)
    assert cell.cell_type == "eosinophil" and cell.truths["nucleus"] and cell.truths["eosinophilic granules"]
    assert cell.truths["neutrophil"] is False and cell.truths["red cells"] is None
    assert cell.box == pytest.approx((56, 56, 168, 168))
    elsewhere = of.crop("0.jpg", 0, 0, 120)
    assert elsewhere.truths["white cell"] is False and elsewhere.truths["red cells"] is True and elsewhere.box is None
    assert of.crop("5.jpg", 150, 100, 200).truths["eosinophil"] is None


def test_typical_truths_follow_the_counts():
    typical = photographs.typical_truths(_counts())
    assert typical["eosinophil"]["eosinophilic granules"] is True
    assert typical["lymphocyte"]["no granules"] is True
    assert "segmented nucleus" not in typical["neutrophil"]


# -------------------------------------------------------------------------------------------------------------- train


@pytest.fixture
def training_data(tmp_path, monkeypatch):
    """(folder of four drawn cells, folder of four pictures a laboratory)."""
    monkeypatch.setattr(render_training, "PER_SHARD", 4)
    rendered, real = tmp_path / "rendered", tmp_path / "real"
    rendered.mkdir()
    real.mkdir()
    render_training._render_shard(rendered, 0)
    images = np.load(rendered / "images-0000.npy")
    places = np.full((4, 56, 56), real_cells.BACKGROUND, np.uint8)
    places[:, 20:36, 20:36] = real_cells.NUCLEUS
    truths = np.tile(real_cells.typical_vector("monocyte", photographs.typical_truths(_counts())), (4, 1))
    boxes = np.tile(np.array([72, 72, 152, 152], np.float32), (4, 1))
    for name in real_cells.LABORATORIES:
        arrays = real_cells.Source(images, places, truths, boxes, np.full(4, 0.25))
        for field, array in zip(real_cells.Source._fields, arrays, strict=True):
            np.save(real / f"{name}-{field}.npy", array)
        (real / f"{name}.json").write_text(json.dumps({"pictures": 4, "concepts": real_cells.KEYS}))
    np.save(real / "none.npy", no_cells.bank(np.random.default_rng(0), 4))
    return rendered, real


def test_training_resumes_where_it_stopped(tmp_path, monkeypatch, training_data):
    """Two steps at once, and one step, a stop and another: the same weights. So with --plain, without its extras."""
    small = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    full = train_mini.mini_config

    def tiny_config(tokenizer):
        config = full(tokenizer)
        return type(config)(
            vision_config={**config.vision_config.to_dict(), **small},
            text_config={**config.text_config.to_dict(), **small},
        )

    monkeypatch.setattr(train_mini, "mini_config", tiny_config)
    views = {name: view._replace(pictures=6, captions=56) for name, view in batches.VIEWS.items()}
    monkeypatch.setattr(batches, "VIEWS", views)
    common = ["--rendered", str(training_data[0]), "--real", str(training_data[1])]
    common += ["--workers", "0", "--save-every", "1", "--steps", "2"]
    train_mini.main([*common, "--out", str(tmp_path / "straight")])
    stopped = tmp_path / "stopped"
    train = train_mini.DataLoader

    class Stops:
        def __init__(self, *arguments, **options):
            self.loader = train(*arguments, **options)

        def __iter__(self):
            yield from itertools.islice(self.loader, train_mini.HALVES)
            raise KeyboardInterrupt

    monkeypatch.setattr(train_mini, "DataLoader", Stops)
    with pytest.raises(KeyboardInterrupt):
        train_mini.main([*common, "--out", str(stopped)])
    monkeypatch.setattr(train_mini, "DataLoader", train)
    train_mini.main([*common, "--out", str(stopped)])
    for name, tensor in torch.load(tmp_path / "straight" / "checkpoint.pt", weights_only=True)["model"].items():
        assert torch.equal(tensor, torch.load(stopped / "checkpoint.pt", weights_only=True)["model"][name]), name
    with pytest.raises(ValueError, match="'seed': 2"):  # of another run nothing is taken over
        train_mini.main([*common, "--seed", "2", "--out", str(stopped)])
    rows = [row.split(",") for row in (stopped / "losses.csv").read_text().splitlines()]
    assert [row[0] for row in rows] == ["step", "0", "1"] and all(float(row[-1]) > 0 for row in rows[1:])
    first = tmp_path / "straight" / "model"
    monkeypatch.setattr(train_mini, "READINGS_FIRST", 1)
    train_mini.main([*common, "--weights", str(first), "--seed", "2", "--out", str(tmp_path / "second")])
    with pytest.raises(ValueError, match="'weights'"):  # nor of a run from other weights
        train_mini.main([*common, "--weights", str(stopped / "model"), "--seed", "2", "--out", str(stopped)])
    before, after = (load_file(folder / "model.safetensors") for folder in (first, tmp_path / "second" / "model"))
    moved = [(before[name].float() - tensor.float()).abs().max() for name, tensor in after.items()]
    assert 0 < max(moved) < 0.1  # it went on from there
    train_mini.main([*common, "--plain", "--out", str(tmp_path / "plain")])
    assert {row.split(",")[-1] for row in (tmp_path / "plain" / "losses.csv").read_text().splitlines()[1:]} == {"nan"}


def test_a_batch_says_yes_no_and_unknown(training_data):
    """Every caption of eight words that are true of nothing is false of every picture; a denial is not its concept."""
    of = batches.Batches(*training_data, make_tokenizer(), 10)
    batch = of[0]
    truths = batch["truths"]
    assert batch["caption_truth"].shape[0] == len(truths) == len(batch["pixels"])
    assert (batch["caption_truth"] == 0).all(0).sum() >= 8
    assert batch["caption_truth"].isnan().any() and (batch["caption_truth"] == 1).any()
    no_cell = (truths == 0).all(1)
    assert no_cell.sum() == round(batches.SHARES["none"] * len(truths))
    # Of a picture without blood no caption is true, and of a denial nobody says anything.
    assert not (batch["caption_truth"][no_cell] == 1).any()
    parts = batch["parts"]
    assert parts.shape[1:] == (batch["places"].shape[1], 16 * len(batches.SHOWN_PARTS)) and parts.dtype == torch.uint8
    again = batches.Batches(*training_data, make_tokenizer(), 10)[0]
    assert all(
        torch.equal(batch[name].nan_to_num(9), again[name].nan_to_num(9)) for name in ("caption_truth", "pixels")
    )
    other = batches.Batches(*training_data, make_tokenizer(), 10, seed=2)[0]
    assert other["pixels"].shape != batch["pixels"].shape or not torch.equal(other["pixels"], batch["pixels"])


def test_a_laboratory_left_out_is_not_opened(training_data):
    for file in training_data[1].glob("krd*"):
        file.unlink()
    with pytest.raises(FileNotFoundError):
        batches.Batches(*training_data, make_tokenizer(), 10)
    of = batches.Batches(*training_data, make_tokenizer(), 10, leave_out=["krd"])
    assert (
        len(batches.Batches(*training_data, make_tokenizer(), 10, leave_out=["krd"], far=True).stains)
        == 4 * batches.STAINS
    )
    assert "krd" not in of.real and "krd" not in of.shares and len(of[0]["pixels"]) == batches.VIEWS["cell"].pictures


def test_other_surroundings_show_no_second_white_cell(training_data, monkeypatch):
    """White cells are painted here in a colour that nothing else has: it is seen only where ours will lie."""
    of = batches.Batches(*training_data, make_tokenizer(), 10, surroundings=1.0)
    assert not torch.equal(of[0]["pixels"], batches.Batches(*training_data, make_tokenizer(), 10)[0]["pixels"])
    monkeypatch.setattr(batches, "other_laboratory", lambda rng, image: (np.asarray(image), 0.0))
    for name, cells in of.real.items():
        white = (cells.places == real_cells.NUCLEUS).repeat(4, 1).repeat(4, 2)
        painted = np.where(white[..., None], np.array([255, 0, 255], np.uint8), np.uint8(200))
        of.real[name] = cells._replace(images=painted)
    rng, ours = np.random.default_rng(0), np.zeros((28, 28), bool)
    ours[8:20, 8:20] = True
    behind = [pair for _ in range(120) if (pair := of._behind(rng, "cell", ours)) is not None]
    assert len(behind) > 40 and len({image.tobytes() for image, _ in behind}) > 20
    outside = ~ours.repeat(4, 0).repeat(4, 1)
    for image, codes in behind:
        assert image.shape == (112, 112, 3) and image.dtype == np.uint8
        assert not np.isin(codes, (real_cells.NUCLEUS, real_cells.CELL, real_cells.UNKNOWN)).any()
        assert ((image == (255, 0, 255)).all(2) & outside).mean() < 0.03
    assert any((image == (255, 0, 255)).all(2).any() for image, _ in behind)


@pytest.mark.parametrize(
    "options", [{"surroundings": 1.5}, {"surroundings": -0.1}, {"surroundings": 0.5, "plain": True}]
)
def test_surroundings_that_cannot_be(training_data, options):
    with pytest.raises(ValueError, match=str(options["surroundings"])):
        batches.Batches(*training_data, make_tokenizer(), 10, **options)


def test_what_scale_and_stain_hide_is_unknown():
    """The size of a cell at another scale, and the shade of its cytoplasm in another stain; all else stays."""
    at = real_cells.AT
    truths = np.zeros(len(CONCEPTS), np.float32)
    truths[[at["white cell"], at["big cell"], at["basophilic cytoplasm"], at["eosinophil"]]] = 1
    same = batches.unsayable(truths, 1.0, 0.0)
    assert np.array_equal(same, truths) and same is not truths
    scaled, stained = batches.unsayable(truths, 1.6, 0.0), batches.unsayable(truths, 1.0, 1.0)
    assert np.flatnonzero(np.isnan(scaled)).tolist() == [at["big cell"], at["small cell"]]
    unknown = {list(CONCEPTS)[i] for i in np.flatnonzero(np.isnan(stained))}
    assert {"basophilic cytoplasm", "light blue cytoplasm", "pink granules"} <= unknown
    assert not unknown & {"eosinophilic granules", "eosinophil", "big cell", "round nucleus"}
    truths[at["white cell"]] = 0  # without a cell it has no blue cytoplasm in any stain
    assert not np.isnan(batches.unsayable(truths, 1.0, 1.0)).any()


def test_plain_captions_are_true_of_whole_pictures(training_data):
    of = batches.Batches(*training_data, make_tokenizer(), 10, plain=True)
    batch = of[1]
    assert batch["regions"].all() and (batch["caption_truth"] == 1).any(0).all() and "none" not in of.shares


def test_what_a_denial_says():
    """Absent: true; present: false; a trait where no cell is, and any on a picture without blood: unknown."""
    at = real_cells.AT
    truths = torch.full((4, len(CONCEPTS)), math.nan)
    truths[:, at["white cell"]] = torch.tensor([1.0, 1.0, 0.0, 0.0])
    truths[:, at["round nucleus"]] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    truths[:, at["nucleus"]] = torch.tensor([1.0, 1.0, 0.0, 0.0])
    bloodless = torch.tensor([False, False, False, True])
    rng = np.random.default_rng(0)
    trait = batches.truth_of_text(batches.denial(rng, at["round nucleus"]), truths, bloodless)
    assert trait[:2].tolist() == [1.0, 0.0] and trait[2:].isnan().all()
    part = batches.truth_of_text(batches.denial(rng, at["nucleus"]), truths, bloodless)
    assert part[:3].tolist() == [0.0, 0.0, 1.0] and part[3].isnan()
    assert batches.truth_of_text(batches.foreign(rng), truths, bloodless).tolist() == [0.0] * 4


# ------------------------------------------------------------------------------------------------------ words, pictures


def test_foreign_words_are_not_ours_and_not_those_of_the_test():
    named, english = words.foreign_words()
    lines = words.TEST_WORDS.read_text("utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    assert len(named) > 100 and len(english) > 500
    assert all(words.is_test_word(word) for word in listed)
    assert not any(words.is_test_word(word) for word in (*named, *english))
    assert not words.own_words() & set(english) and "nucleus" in words.own_words()
    assert 0.4 < np.mean([words.is_test_word(f"word{i}") for i in range(400)]) < 0.6
    rng = np.random.default_rng(0)
    phrases = {phrase for concept in CONCEPTS.values() for phrase in concept.phrases}
    assert not phrases & {words.foreign_phrase(rng) for _ in range(2000)}


def test_chapter_10_draws_from_words_that_no_training_met():
    """Each is kept out by itself, and stands in no longer phrase that is trained on."""
    notebook = json.loads((ATLAS.parents[1] / "notebooks" / "10_concept_bottleneck.ipynb").read_text("utf-8"))
    (source,) = [cell for cell in ("".join(cell["source"]) for cell in notebook["cells"]) if 'words = "' in cell]
    chosen = " ".join(re.findall(r'words \+?= "(.*)"', source)).split()
    named, english = words.foreign_words()
    trained = words.own_words() | set(re.findall(r"[a-z]+", " ".join((*named, *english))))
    assert len(chosen) == len(set(chosen)) >= 32 and "violin" in chosen
    assert all(words.is_test_word(word) for word in chosen) and not trained & set(chosen)


def test_pictures_without_cells_are_not_those_of_the_test():
    assert not any(package.startswith("skimage") for package, _ in no_cells.PHOTOGRAPHS)
    bank = no_cells.bank(np.random.default_rng(0), 9)
    assert bank.shape == (9, 256, 256, 3) and bank.dtype == np.uint8
    assert np.array_equal(bank, no_cells.bank(np.random.default_rng(0), 9))


def test_muon_is_torchs_in_float32():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(tensor) for tensor in torch.randn(1, 24, 60).repeat(2, 1, 1))
    before = ours.detach().clone()
    first = muon.Muon([ours], lr=0.01, weight_decay=0.05)
    second = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        ours.grad = torch.randn(24, 60)
        theirs.grad = ours.grad.clone()
        first.step()
        second.step()
    assert (ours - theirs).norm() < 0.02 * (ours - before).norm()
    with pytest.raises(ValueError, match=r"\(3,\)"):
        muon.Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)


# ----------------------------------------------------------------------------------------------------------- real cells


def test_the_nucleus_of_a_cell_is_found_without_a_mask():
    """On drawn cells, whose masks are known: the codes lie on them, and nothing far from the cell is cell."""
    found = []
    for number in range(60):
        cell, seed = render_training.training_scene(number)
        if cell is None or cell.cell_type not in ("neutrophil", "lymphocyte", "monocyte"):
            continue
        picture = render(cell, seed, 224, offset=(0, 0))
        places = real_cells.places_of(np.asarray(picture.image), None)
        share = picture.masks["nucleus"].reshape(56, 4, 56, 4).mean((1, 3))
        white = (picture.masks["nucleus"] | picture.masks["cytoplasm"]).reshape(56, 4, 56, 4).mean((1, 3))
        nucleus = places == real_cells.NUCLEUS
        if nucleus.any():
            found.append((share[nucleus] > 0.4).mean())
            assert white[places == real_cells.RED].mean() < 0.5 if (places == real_cells.RED).any() else True
    assert len(found) >= 8 and np.median(found) > 0.85


def test_a_view_of_a_real_cell_knows_what_it_still_shows():
    at, typical = real_cells.AT, photographs.typical_truths(_counts())
    truths = real_cells.typical_vector("monocyte", typical)
    places = np.full((28, 28), real_cells.BACKGROUND, np.uint8)
    places[8:20, 8:20] = real_cells.UNKNOWN
    places[10:18, 10:18] = real_cells.NUCLEUS
    whole = real_cells.view_truths(truths, 64.0, places)
    assert whole[at["monocyte"]] == 1 and whole[at["nucleus"]] == 1 and whole[at["background"]] == 1
    assert np.isnan(whole[at["red cells"]])  # what the ring is, nobody knows
    corner = real_cells.view_truths(truths, 64.0, places[:6, :6])
    assert corner[at["nucleus"]] == 0 and corner[at["monocyte"]] == 0 and np.isnan(corner[at["no granules"]])
    half = real_cells.view_truths(truths, 64.0, places[:, :14])
    assert half[at["nucleus"]] == 1 and np.isnan(half[at["monocyte"]])


def test_only_what_may_be_trained_on_is_read(tmp_path, monkeypatch):
    """A folder that holds no other archive than train.zip is enough; near-copies and held-out fields stay away."""
    values = ",".join([*[options[0] for options in ATTRIBUTES.values()][:-3], "nil", "nil", "no"])
    splits = {"A": "train", "B": "train", "C": "val", "D": "test"}
    rows = [f"{name},{of},monocyte,{values}" for name, of in splits.items()]
    (tmp_path / "attributes.csv").write_text("\n".join([f"name,split,type,{','.join(ATTRIBUTES)}", *rows]))
    (tmp_path / "boxes.csv").write_text("name,label,xmin,ymin,xmax,ymax\nA,1,0,0,40,40\nC,1,0,0,40,40\n")
    picture = tmp_path / "picture.webp"
    Image.fromarray(np.asarray(render(render_training.training_scene(3)[0], 3, 256).image)).save(picture)
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.write(picture, "monocyte/A.webp")
    monkeypatch.setattr(real_cells, "never_trained_on", lambda: {"B"})
    source = real_cells.prepare_pbc(tmp_path, {})
    assert len(source.images) == 1 and source.weights.tolist() == [1.0]
    assert source.truths[0, real_cells.AT["monocyte"]] == 1 and source.truths[0, real_cells.AT["no granules"]] == 1
    assert (source.places[0, :10, :10] != real_cells.OUTSIDE).any()
