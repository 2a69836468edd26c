"""The recipes on cases whose answer is known by hand; nothing here trains long or renders more than a few pictures."""

import argparse
import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers.bloodcells import CONCEPTS, GUIDE_PROMPTS, PARTS, TEMPLATES, caption, part_shares, render, truth
from helpers.data import ATLAS
from recipes import evaluate_mini, make_atlas, photographs, render_training, train_mini
from recipes.tokenizer import make_tokenizer

# -------------------------------------------------------------------------------------------------------------- losses


def test_sigmoid_loss_by_hand():
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    labels = torch.tensor([[1.0, 0.0], [math.nan, 1.0]])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1)) + math.log1p(math.exp(-3))) / 2
    assert train_mini.sigmoid_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_sigmoid_loss_is_the_papers_when_only_the_diagonal_is_true():
    logits = torch.randn(5, 5)
    signs = 2 * torch.eye(5) - 1
    papers = -torch.nn.functional.logsigmoid(signs * logits).sum() / 5
    assert train_mini.sigmoid_loss(logits, torch.eye(5)).item() == pytest.approx(papers.item(), rel=1e-6)


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
    }
    expected = math.log1p(math.exp(-3)) + math.log1p(math.exp(-1))
    assert train_mini.rc_align(output, batch).item() == pytest.approx(expected, rel=1e-5)


def test_conjunction_has_three_values():
    nan = math.nan
    values = torch.tensor([[1.0, 1.0], [1.0, 0.0], [nan, 0.0], [nan, 1.0]])
    result = train_mini._conjunction(values)
    assert result[:3].tolist() == [1.0, 0.0, 0.0] and result[3].isnan()


def test_learning_rate_warms_up_and_ends_at_nothing():
    factors = [train_mini.learning_rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 200) and max(factors) == 1 and factors[-1] < 1e-5
    assert np.argmax(factors) in (199, 200)


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
    """The masks mark the red pixels; after any crop, turn and mirror they still do."""
    image = np.zeros((224, 224, 3), np.uint8)
    image[40:120, 100:200, 0] = 255
    masks = np.zeros((len(PARTS), 56, 56), np.uint8)
    masks[0, 10:30, 25:50] = 255
    for seed in range(40):
        view, marked = train_mini.random_view(np.random.default_rng(seed), image, masks, crops=0.7)
        assert view.shape == (224, 224, 3) and marked.shape[1] == marked.shape[2]
        red = Image.fromarray(np.ascontiguousarray(view[..., 0])).resize(marked.shape[:0:-1], Image.Resampling.BOX)
        assert np.abs(np.asarray(red, float) - marked[0]).mean() < 6


def test_the_truth_of_a_view_is_the_truth_of_the_picture_when_nothing_is_cut():
    cell, seed = next(s for s in map(render_training.training_scene, range(50)) if s[0] is not None)
    picture = render(cell, seed, 224)
    stack = np.stack([picture.masks[part] for part in PARTS])
    masks = (stack.reshape(len(PARTS), 56, 4, 56, 4).mean((2, 4)) * 255).astype(np.uint8)
    whole = truth(cell, part_shares(picture.masks), picture.visible)
    assert train_mini.view_truth(cell, picture.visible, masks, masks) == whole
    empty = train_mini.view_truth(cell, picture.visible, masks, np.zeros_like(masks))
    assert empty["white cell"] is False and empty["background"] is True


def test_random_colour_keeps_the_range():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    for seed in range(20):
        pixels = train_mini.random_colour(np.random.default_rng(seed), image)
        assert pixels.shape == (3, 32, 32) and pixels.dtype == torch.float32
        assert pixels.min() >= -1 and pixels.max() <= 1


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
        text, moved = train_mini.distract(np.random.default_rng(seed), written.text, ["one", "two"])
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


@pytest.fixture
def bccd(tmp_path, monkeypatch):
    """Six photographs in BCCD's form, one of them held out."""
    (tmp_path / "images").mkdir()
    names = [f"{i}.jpg" for i in range(6)]
    for name in names:
        Image.new("RGB", (640, 480), (200, 190, 190)).save(tmp_path / "images" / name)
    rows = [(name, "WBC", 200, 150, 300, 250) for name in names] + [(names[0], "RBC", 10, 10, 90, 90)]
    pd.DataFrame(rows, columns=["image", "label", "xmin", "ymin", "xmax", "ymax"]).to_csv(tmp_path / "boxes.csv")
    types = ["eosinophil"] * 5 + ["neutrophil, monocyte"]
    pd.DataFrame({"image": names, "types": types}).to_csv(tmp_path / "types.csv", index=False)
    monkeypatch.setattr(photographs, "HELD_OUT", tmp_path / "held_out.txt")
    (tmp_path / "held_out.txt").write_text("4.jpg\n")
    return tmp_path


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


# --------------------------------------------------------------------------------------------------- train, evaluate


def test_training_resumes_where_it_stopped(tmp_path, monkeypatch):
    """Two steps at once, and one step, a stop and another: the same weights."""
    monkeypatch.setattr(render_training, "PER_SHARD", 4)
    rendered = tmp_path / "rendered"
    rendered.mkdir()
    render_training._render_shard(rendered, 0)
    small = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    full = train_mini.mini_config

    def tiny_config(tokenizer):
        config = full(tokenizer)
        return type(config)(
            vision_config={**config.vision_config.to_dict(), **small},
            text_config={**config.text_config.to_dict(), **small},
        )

    monkeypatch.setattr(train_mini, "mini_config", tiny_config)
    common = ["--rendered", str(rendered), "--batch", "4", "--workers", "0", "--save-every", "1", "--steps", "2"]
    train_mini.main([*common, "--out", str(tmp_path / "straight")])
    stopped = tmp_path / "stopped"
    train = train_mini.DataLoader

    class Stops:
        def __init__(self, *arguments, **options):
            self.loader = train(*arguments, **options)

        def __iter__(self):
            yield next(iter(self.loader))
            raise KeyboardInterrupt

    monkeypatch.setattr(train_mini, "DataLoader", Stops)
    with pytest.raises(KeyboardInterrupt):
        train_mini.main([*common, "--out", str(stopped)])
    monkeypatch.setattr(train_mini, "DataLoader", train)
    train_mini.main([*common, "--out", str(stopped)])
    for name, tensor in torch.load(tmp_path / "straight" / "checkpoint.pt", weights_only=True)["model"].items():
        assert torch.equal(tensor, torch.load(stopped / "checkpoint.pt", weights_only=True)["model"][name]), name
    assert [row.split(",")[0] for row in (stopped / "losses.csv").read_text().splitlines()] == ["step", "0", "1"]


def test_the_cards_table_is_made_from_the_file(tmp_path):
    row = evaluate_mini.figure("a", "b", "c", evaluate_mini.Estimate(0.5, 0.4, 0.6), 0.9, 7, chance=0.25)
    (tmp_path / "evaluation.json").write_text(json.dumps([row]))
    card = f"before\n{evaluate_mini.START}\nold\n{evaluate_mini.END}\nafter\n"
    (tmp_path / "README.md").write_text(card)
    evaluate_mini.write_card(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| a | b | c | 0.500 (0.400–0.600) | ≥ 0.90 **missed** | chance 0.25 | 7 |" in text


def test_the_shipped_card_shows_the_shipped_evaluation(tmp_path):
    shipped = ATLAS.parent / "conceptclip-mini"
    shutil.copytree(shipped, tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors"))
    evaluate_mini.write_card(tmp_path / "copy")
    assert (tmp_path / "copy" / "README.md").read_text() == (shipped / "README.md").read_text()
