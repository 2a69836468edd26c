"""What the methods return, to the letter, and everything a transformers model is expected to do."""

import copy
import json
import pickle
from dataclasses import fields

import pytest
import torch
from small_model import make_model, make_processor
from transformers import (
    AutoConfig,
    AutoModel,
    BertConfig,
    BertModel,
    PreTrainedModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPModel, ConceptCLIPOutput
from helpers.conceptclip.convert import save

KEYS = [
    "image_features",
    "text_features",
    "logit_scale",
    "image_token_features",
    "text_token_features",
    "logit_bias",
    "concept_logit_scale",
    "concept_logit_bias",
]
PROMPTS = ["a cell", "a photo of a cell with a segmented nucleus, fine azurophilic granules", "no granules", ""]


@pytest.fixture(scope="module")
def model() -> ConceptCLIPModel:
    return make_model()


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    text = make_processor()(text=PROMPTS, return_tensors="pt", padding=True, truncation=True)
    return dict(text) | {"pixel_values": torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))}


# -- the configuration


def test_the_default_is_the_released_geometry():
    config = ConceptCLIPConfig()
    vision, text = config.vision_config, config.text_config
    assert (vision.hidden_size, vision.num_hidden_layers, vision.intermediate_size) == (1152, 27, 4304)
    assert (vision.num_attention_heads, vision.image_size, vision.patch_size) == (16, 384, 14)
    assert (vision.hidden_act, vision.layer_norm_eps) == ("gelu", 1e-6)
    assert (text.hidden_size, text.num_hidden_layers, text.vocab_size, text.pad_token_id) == (768, 12, 30522, 0)
    assert (config.text_pooling, config.projection_dim, config.grid) == ("mean", 1152, (27, 27))


def test_config_round_trips(tmp_path):
    configs = {
        "default": ConceptCLIPConfig(),
        "dicts": make_model().config,
        "objects": ConceptCLIPConfig(
            vision_config=SiglipVisionConfig(hidden_size=96), text_config=BertConfig(hidden_size=60), text_pooling="cls"
        ),
    }
    assert configs["objects"].vision_config.hidden_act == "gelu_pytorch_tanh"  # an object is taken as it is
    assert configs["dicts"].vision_config.hidden_act == "gelu"
    for name, config in configs.items():
        config.save_pretrained(tmp_path / name)
        again = AutoConfig.from_pretrained(tmp_path / name)
        assert type(again) is ConceptCLIPConfig
        for part in ("vision_config", "text_config"):
            assert getattr(again, part).to_dict() == getattr(config, part).to_dict(), (name, part)
        assert again.text_pooling == config.text_pooling


def test_config_refuses_another_pooling():
    with pytest.raises(Exception, match="text_pooling"):
        ConceptCLIPConfig(text_pooling="max")


# -- what the methods return


def test_forward(model, inputs):
    with torch.inference_mode():
        out = model(**inputs)
    assert list(out) == KEYS == [field.name for field in fields(ConceptCLIPOutput)][:8]
    assert {name: tuple(out[name].shape) for name in out} == {
        "image_features": (2, 64),
        "text_features": (4, 64),
        "logit_scale": (),
        "image_token_features": (2, 16, 64),
        "text_token_features": (4, inputs["input_ids"].shape[1], 64),
        "logit_bias": (),
        "concept_logit_scale": (),
        "concept_logit_bias": (),
    }
    assert all(out[name] is getattr(out, name) for name in KEYS)
    for name in ("image_features", "text_features"):
        torch.testing.assert_close(out[name].norm(dim=-1), torch.ones(len(out[name])))
    for name in ("image_token_features", "text_token_features"):
        assert (out[name].norm(dim=-1) - 1).abs().min() > 0.01  # not unit length
    assert torch.equal(out.logit_scale, model.logit_scale.exp())
    assert torch.equal(out.concept_logit_bias, model.concept_logit_bias)


def test_initial_scalars(model):
    assert [round(getattr(model, name).exp().item(), 4) for name in ("logit_scale", "concept_logit_scale")] == [10, 10]
    assert (model.logit_bias.item(), model.concept_logit_bias.item()) == (-10, -10)


@pytest.mark.parametrize(("given", "absent"), [("pixel_values", "text"), ("input_ids", "image")])
def test_a_missing_input_gives_none(model, inputs, given, absent):
    with torch.inference_mode():
        out, both = model(**{given: inputs[given]}), model(**inputs)
    assert list(out) == KEYS
    for name in KEYS:
        if name.startswith(absent):
            assert out[name] is None
            assert getattr(out, name) is None
        else:
            assert torch.equal(out[name], both[name])
    assert len(model(**{given: inputs[given]}, return_dict=False)) == 8


@torch.inference_mode()
def test_encoders(model, inputs):
    out = model(**inputs)
    for encode, projection, kind, key in (
        (model.encode_image, model.image_proj, "image", "pixel_values"),
        (model.encode_text, model.text_proj, "text", "input_ids"),
    ):
        pooled, tokens = encode(inputs[key])
        unit, same_tokens = encode(inputs[key], normalize=True)
        assert torch.equal(tokens, same_tokens)  # `normalize` leaves the tokens alone
        assert (pooled.norm(dim=-1) - 1).abs().min() > 0.01
        assert torch.equal(unit, out[f"{kind}_features"])
        torch.testing.assert_close(pooled / pooled.norm(dim=-1, keepdim=True), unit)
        assert torch.equal(projection(tokens), out[f"{kind}_token_features"])
    assert model.encode_text(inputs["input_ids"])[1].shape == (4, inputs["input_ids"].shape[1], 48)


@torch.inference_mode()
def test_nothing_of_the_towers_is_rewritten(model, inputs):
    assert type(model.vision_model) is SiglipVisionModel
    assert type(model.text_model) is BertModel
    tower = model.vision_model(pixel_values=inputs["pixel_values"])
    pooled, tokens = model.encode_image(inputs["pixel_values"])
    assert torch.equal(tokens, tower.last_hidden_state)
    assert torch.equal(pooled, tower.pooler_output)
    states = model.text_model(inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
    assert torch.equal(model.encode_text(inputs["input_ids"])[1], states)


@torch.inference_mode()
def test_masks_are_accepted_and_ignored(model, inputs):
    ids = inputs["input_ids"]
    expected = model(input_ids=ids)
    wrong = {"attention_mask": torch.zeros_like(ids), "token_type_ids": torch.ones_like(ids)}
    for extra in ({}, wrong, {"attention_mask": inputs["attention_mask"]}):
        got = model(input_ids=ids, **extra)
        assert torch.equal(got.text_features, expected.text_features)
        assert torch.equal(got.text_token_features, expected.text_token_features)
        assert torch.equal(model.encode_text(ids, **extra)[0], model.encode_text(ids)[0])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@torch.inference_mode()
def test_padding_changes_nothing(pooling):
    model, processor = make_model(text_pooling=pooling), make_processor()
    batch = processor(text=PROMPTS, return_tensors="pt", padding="max_length", max_length=40)
    together = model(**batch)
    for row, prompt in enumerate(PROMPTS):
        alone = model(**processor(text=[prompt], return_tensors="pt"))
        length = alone.text_token_features.shape[1]
        assert batch["attention_mask"][row].sum() == length
        assert (together.text_features[row] - alone.text_features[0]).abs().max() < 1e-6
        assert (together.text_token_features[row, :length] - alone.text_token_features[0]).abs().max() < 2e-6


@torch.inference_mode()
def test_text_pooling(inputs):
    ids = inputs["input_ids"]
    mean, cls = make_model(), make_model(text_pooling="cls")
    states = mean.encode_text(ids)[1]
    by_hand = torch.stack([row[mask].mean(0) for row, mask in zip(states, ids != 0, strict=True)])
    torch.testing.assert_close(mean.encode_text(ids)[0], mean.text_projection(by_hand))
    torch.testing.assert_close(cls.encode_text(ids)[0], cls.text_projection(states[:, 0]))


def test_prompts_longer_than_the_model_are_an_error(model):
    with pytest.raises(ValueError, match=r"200\b.*128\b.*truncation=True"):
        model.encode_text(torch.full((1, 200), 7))


# -- speed that costs nothing


@torch.inference_mode()
def test_the_residual_stream_is_contiguous_and_the_same_to_the_bit(model, inputs):
    seen = []
    tower, pixels = model.vision_model, inputs["pixel_values"]
    watch = tower.encoder.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(args[0]), with_kwargs=True
    )
    ours = tower(pixels)
    hooks = dict(tower.embeddings._forward_hooks)
    tower.embeddings._forward_hooks.clear()
    plain = tower(pixels)
    tower.embeddings._forward_hooks.update(hooks)
    watch.remove()
    assert [tensor.is_contiguous() for tensor in seen] == [True, False]
    assert torch.equal(ours.pooler_output, plain.pooler_output)
    assert torch.equal(ours.last_hidden_state, plain.last_hidden_state)


# -- as any transformers model


@torch.inference_mode()
def test_round_trip_is_bit_equal(model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is ConceptCLIPModel
    assert not again.training
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    expected, got = model(**inputs), again(**inputs)
    for name in KEYS:  # the same numbers at another address of memory may be added up in another order
        torch.testing.assert_close(got[name], expected[name], rtol=0, atol=2e-6)


def test_weights_stored_in_half_load_in_float32(model, inputs, tmp_path):
    """As the shipped model is: float16 on disk, dtype float32 in config.json."""
    from safetensors import safe_open

    save(model, make_processor(), tmp_path, torch.float16)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        stored = {name: file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert {dtype for name, dtype in stored.items() if "logit" not in name} == {torch.float16}
    assert {dtype for name, dtype in stored.items() if "logit" in name} == {torch.float32}
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"
    again = AutoModel.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    assert model.dtype == torch.float32  # saving changed nothing
    with torch.inference_mode():
        cosine = (model(**inputs).image_features * again(**inputs).image_features).sum(-1)
    assert cosine.min() > 0.99999


def test_half_precision_keeps_the_scalars(model, tmp_path):
    model.save_pretrained(tmp_path)
    half = AutoModel.from_pretrained(tmp_path, dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    assert half.logit_scale.dtype == torch.float32
    half.save_pretrained(tmp_path / "half")
    again = AutoModel.from_pretrained(tmp_path / "half")
    assert again.dtype == torch.bfloat16
    assert again.logit_scale == model.logit_scale


def test_bfloat16_autocast_on_the_cpu(model, inputs):
    with torch.inference_mode():
        expected = model.encode_image(inputs["pixel_values"], normalize=True)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = model.encode_image(inputs["pixel_values"], normalize=True)[0]
    assert torch.cosine_similarity(expected, got.float()).min() > 0.999


def test_every_parameter_learns(inputs):
    model = make_model().train()
    out = model(**inputs)
    concepts = torch.nn.functional.normalize(out.text_token_features, dim=-1).mean(1)
    logits = out.logit_scale * out.image_features @ out.text_features.T + out.logit_bias
    patches = out.concept_logit_scale * (out.image_token_features @ concepts.T).amax(1) + out.concept_logit_bias
    (logits.sigmoid().sum() + patches.sigmoid().sum() + out.image_token_features.square().sum()).backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == set()


def test_gradient_checkpointing_gives_the_same_gradients(inputs):
    # "activation" since a later version; transformers 5.20, the lowest, knows it as "gradient" alone.
    kind = "activation" if hasattr(PreTrainedModel, "is_activation_checkpointing") else "gradient"
    gradients = []
    for checkpointing in (False, True):
        model = make_model()
        model.config.text_config.hidden_dropout_prob = 0.0
        if checkpointing:
            getattr(model, f"{kind}_checkpointing_enable")()
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        out = model(**inputs)
        assert getattr(model, f"is_{kind}_checkpointing") == checkpointing
        (out.image_token_features.square().sum() + out.text_token_features.square().sum()).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 50
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_dropout_only_in_training(model, inputs):
    with torch.inference_mode():
        assert torch.equal(model(**inputs).text_features, model(**inputs).text_features)
        training = copy.deepcopy(model).train()
        assert not torch.equal(training(**inputs).text_features, training(**inputs).text_features)


def test_copies_and_pickles(model, inputs):
    with torch.inference_mode():
        expected = model(**inputs).image_features
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            torch.testing.assert_close(other(**inputs).image_features, expected, rtol=0, atol=1e-6)


def test_meta_device_and_from_config(model):
    with torch.device("meta"):
        meta = ConceptCLIPModel(make_model().config)
    assert {parameter.device.type for parameter in meta.parameters()} == {"meta"}
    assert AutoModel.from_config(model.config, dtype=torch.bfloat16).dtype == torch.bfloat16
    assert model.dtype == torch.float32


def test_device_map(model, inputs, tmp_path):
    pytest.importorskip("accelerate")
    model.save_pretrained(tmp_path)
    with torch.inference_mode():
        for device_map in ("cpu", "auto", {"": "cpu"}):
            mapped = AutoModel.from_pretrained(tmp_path, device_map=device_map)
            got, expected = mapped(**inputs).image_features, model(**inputs).image_features
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


def test_a_damaged_checkpoint_in_our_form_is_an_error(model, tmp_path):
    from safetensors.torch import load_file, save_file

    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["text_projection.weight"]
    state["extra"] = torch.zeros(1)
    state["logit_bias"] = torch.zeros(2)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError) as error:
        AutoModel.from_pretrained(tmp_path)
    listed = [line.strip() for line in str(error.value).splitlines() if line.startswith("  ")]
    assert listed == ["text_projection.weight", "extra", "logit_bias: (2,), expected ()"]


def test_smaller_images_can_be_asked_for_leniently(model, tmp_path):
    """Fine-tuning at another size: transformers' own switch still does what it does."""
    model.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    config.vision_config.image_size = 28
    with pytest.raises(ValueError, match=r"position_embedding\.weight: \(16, 64\).*\(4, 64\)"):
        AutoModel.from_pretrained(tmp_path, config=config)
    small = AutoModel.from_pretrained(tmp_path, config=config, ignore_mismatched_sizes=True)
    assert small.encode_image(torch.zeros(1, 3, 28, 28))[1].shape == (1, 4, 64)
