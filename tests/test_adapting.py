"""helpers.adapting: blocks by name, what learns, what LoRA can reach, and what got no gradient."""

import pytest
import torch
from small_model import make_model
from torch import nn

import helpers
from helpers import adapting
from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPModel


def inputs(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    side = model.config.vision_config.image_size
    return {
        "pixel_values": torch.randn(2, 3, side, side, generator=generator),
        "input_ids": torch.randint(5, 60, (2, 6), generator=generator),
        "return_loss": True,
    }


def test_blocks_hold_every_parameter_once():
    model = make_model()
    table = adapting.blocks(model)
    assert table["parameters"].sum() == sum(p.numel() for p in model.parameters())
    assert table["trained"].sum() == table["parameters"].sum()
    assert {
        "vision_model.embeddings",
        "vision_model.encoder.layers.1",
        "vision_model.post_layernorm",
        "vision_model.head",
        "text_model.encoder.layer.0",
        "text_projection",
        "image_proj",
        "text_proj",
        "logit_scale",
    } <= set(table.index)
    assert table.loc["text_projection", "parameters"] == model.text_projection.weight.numel()


def test_train_only_lets_these_learn_and_nothing_else():
    model = make_model()
    names = adapting.last_blocks(model)
    count = adapting.train_only(model, names)
    table = adapting.blocks(model)
    assert count == table["trained"].sum() == table.loc[names, "parameters"].sum()
    assert set(table.index[table["trained"] > 0]) == set(names)
    assert adapting.train_only(model, ["text_model"]) == sum(p.numel() for p in model.text_model.parameters())
    assert adapting.train_only(model, []) == 0


def test_a_name_is_a_block_and_not_the_beginning_of_one():
    model = make_model(vision_config=make_model().config.vision_config.to_dict() | {"num_hidden_layers": 12})
    adapting.train_only(model, ["vision_model.encoder.layers.1"])
    trained = adapting.blocks(model).query("trained > 0")
    assert list(trained.index) == ["vision_model.encoder.layers.1"]  # and not 10 and 11
    assert "vision_model.encoder.layers.11" in adapting.last_blocks(model)


def test_the_last_blocks_of_the_released_geometry():
    with torch.device("meta"):
        released = ConceptCLIPModel(ConceptCLIPConfig())
    assert adapting.last_blocks(released, 2)[:4] == [
        "vision_model.encoder.layers.25",
        "vision_model.encoder.layers.26",
        "text_model.encoder.layer.10",
        "text_model.encoder.layer.11",
    ]
    assert len(adapting.lora_targets(released)) == 6 * (27 + 12)


@pytest.mark.parametrize("layers", [0, 3])
def test_more_layers_than_there_are(layers):
    with pytest.raises(ValueError, match="vision_model"):
        adapting.last_blocks(make_model(), layers)


@pytest.mark.parametrize("function", [adapting.train_only, adapting.lora_targets])
def test_names_that_are_none(function):
    with pytest.raises(ValueError, match=r"'vision_model\.haed'"):
        function(make_model(), ["vision_model.haed"])
    with pytest.raises(TypeError, match="text_model"):
        function(make_model(), "text_model")


def test_what_got_no_gradient():
    model = make_model()
    adapting.train_only(model, ["vision_model.head", "image_proj"])
    model(**inputs(model)).loss.backward()
    assert adapting.without_gradient(model) == ["image_proj.0.weight", "image_proj.2.weight"]


def test_lora_beside_a_packed_attention_gets_no_gradient_and_is_no_target():
    peft = pytest.importorskip("peft")
    model = make_model()
    assert isinstance(model.vision_model.head.attention, nn.MultiheadAttention)
    trap = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["out_proj"]))
    trap(**inputs(model)).loss.backward()
    silent = adapting.without_gradient(trap)
    assert silent and all("head.attention.out_proj.lora_" in name for name in silent)

    model = make_model()
    names = adapting.lora_targets(model, ["vision_model", "text_model"])
    assert "vision_model.head.mlp.fc1" in names and not any("head.attention" in name for name in names)
    good = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=names))
    good(**inputs(model)).loss.backward()
    assert adapting.without_gradient(good) == []
    with pytest.raises(ValueError, match="adapter"):
        adapting.train_only(good, ["text_model"])


def test_a_block_without_a_layer_that_lora_can_reach():
    with pytest.raises(ValueError, match="logit_scale"):
        adapting.lora_targets(make_model(), ["logit_scale"])


def test_the_head_trained_whole_beside_lora_is_stored_and_loaded(tmp_path):
    peft = pytest.importorskip("peft")
    model = make_model()
    config = peft.LoraConfig(r=2, target_modules=adapting.lora_targets(model), modules_to_save=["vision_model.head"])
    lora = peft.get_peft_model(model, config)
    optimizer = torch.optim.SGD([p for p in lora.parameters() if p.requires_grad], 0.1)
    for seed in (0, 1):
        lora(**inputs(model, seed)).loss.backward()
        optimizer.step()
    lora.save_pretrained(tmp_path)
    again = helpers.loading.load_checkpoint(make_model(), tmp_path).model
    trained, fresh = lora.eval()(**inputs(model)), make_model()(**inputs(model))
    assert torch.allclose(again(**inputs(model)).image_features, trained.image_features, atol=1e-5)
    assert not torch.allclose(fresh.image_features, trained.image_features, atol=1e-3)
