"""What people expect of any model of transformers: CLIP's arguments and names, Trainer, pipelines, dtypes, wrappers."""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from small_model import make_model, make_processor
from torch import nn
from transformers import AutoModel, Trainer, TrainingArguments, default_data_collator, pipeline
from transformers.modeling_outputs import BaseModelOutputWithPooling

import helpers
from helpers import losses
from helpers.conceptclip import ConceptCLIPModel

PROMPTS = ["a cell", "a photo of a round nucleus"]
EIGHT = [
    "image_features",
    "text_features",
    "logit_scale",
    "image_token_features",
    "text_token_features",
    "logit_bias",
    "concept_logit_scale",
    "concept_logit_bias",
]
SCALARS = ("logit_scale", "logit_bias", "concept_logit_scale", "concept_logit_bias")


@pytest.fixture(scope="module")
def model() -> ConceptCLIPModel:
    return make_model()


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    text = make_processor()(text=PROMPTS, return_tensors="pt", padding=True, truncation=True)
    return dict(text) | {"pixel_values": torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))}


# -- the four scalars


def with_scale(scale: float = 96.607) -> ConceptCLIPModel:
    model = make_model()
    model.logit_scale.data.fill_(math.log(scale))
    return model


HALVES = {
    "half()": lambda m: m.half(),
    "bfloat16()": lambda m: m.bfloat16(),
    "to(dtype)": lambda m: m.to(torch.float16),
    "to(device, dtype)": lambda m: m.to("cpu", torch.bfloat16),
    "to(dtype=)": lambda m: m.to(dtype=torch.bfloat16),
    "to(tensor)": lambda m: m.to(torch.zeros(1, dtype=torch.float16)),
    "a wrapper's half()": lambda m: nn.Sequential(m).half()[0],
    "half() and float()": lambda m: m.half().float(),
    "a deep copy's": lambda m: copy.deepcopy(m).half(),
}


@pytest.mark.parametrize("how", HALVES)
def test_the_scalars_stay_float32(how, inputs):
    model = HALVES[how](with_scale())
    assert {getattr(model, name).dtype for name in SCALARS} == {torch.float32}
    assert model.dtype == (torch.float32 if "float()" in how else model.text_projection.weight.dtype)
    assert how == "half() and float()" or model.dtype in (torch.float16, torch.bfloat16)
    assert model.logit_scale.exp().item() == pytest.approx(96.607, abs=1e-3)
    with torch.no_grad():
        assert model(input_ids=inputs["input_ids"]).logit_scale.item() == pytest.approx(96.607, abs=1e-3)
    assert helpers.scales(model).logit_scale == pytest.approx(96.607, abs=1e-3)


def test_the_scalars_survive_saving_in_half(tmp_path):
    with_scale().half().save_pretrained(tmp_path / "half")
    for dtype in (None, "float16", "bfloat16", torch.float32):
        again = AutoModel.from_pretrained(tmp_path / "half", **({} if dtype is None else {"dtype": dtype}))
        assert again.logit_scale.dtype == torch.float32
        assert again.logit_scale.exp().item() == pytest.approx(96.607, abs=1e-3)
    assert AutoModel.from_config(make_model().config, dtype=torch.bfloat16).logit_bias.dtype == torch.float32


def test_the_scalars_still_move_and_learn(inputs):
    model = with_scale().bfloat16()
    assert model.to("meta").logit_scale.is_meta
    model = with_scale().half().float()
    model(**inputs, return_loss=True).loss.backward()
    assert model.logit_scale.grad is not None
    assert model.bfloat16().logit_scale.grad.dtype == torch.float32
    assert with_scale().double().logit_scale.dtype == torch.float64


# -- forward


def test_unknown_keywords(model, inputs):
    for name in ("labels", "position_ids", "pixels", "inputs_embeds"):
        with pytest.raises(TypeError, match=name):
            model(**inputs, **{name: torch.zeros(1)})
        with torch.no_grad():
            assert model(**inputs, **{name: None}).image_features.shape == (2, 64)
    with pytest.raises(TypeError, match="pixels"):
        model.get_image_features(inputs["pixel_values"], pixels=1)
    with pytest.raises(TypeError, match="padding"):
        model.get_text_features(inputs["input_ids"], padding=True)


@pytest.mark.parametrize("nothing", [{}, {"pixel_values": None}, {"attention_mask": torch.ones(1, 3)}])
def test_no_input(model, nothing):
    with pytest.raises(ValueError, match="pixel_values"):
        model(**nothing)


@torch.no_grad()
def test_hidden_states(model, inputs):
    out = model(**inputs, output_hidden_states=True)
    assert list(out)[:8] == EIGHT
    vision, text = out.vision_model_output, out["text_model_output"]
    assert [tuple(h.shape) for h in vision.hidden_states] == [(2, 16, 64)] * 3  # before, and after each of two layers
    assert [tuple(h.shape[::2]) for h in text.hidden_states] == [(2, 48)] * 3
    last = model.vision_model.post_layernorm(vision.hidden_states[-1])
    torch.testing.assert_close(model.image_proj(last), out.image_token_features)
    plain = model(**inputs)
    assert list(plain) == EIGHT and plain.vision_model_output is None
    assert torch.equal(plain.image_features, out.image_features)
    asked = copy.deepcopy(model)
    asked.config.output_hidden_states = True
    assert len(asked(pixel_values=inputs["pixel_values"]).vision_model_output.hidden_states) == 3


@torch.no_grad()
def test_attentions(model, inputs):
    with pytest.raises(ValueError, match="eager"):
        model(**inputs, output_attentions=True)
    with pytest.raises(ValueError, match="eager"):
        model.get_image_features(inputs["pixel_values"], output_attentions=True)
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    out = eager(**inputs, output_attentions=True)
    positions = inputs["input_ids"].shape[1]
    assert [tuple(a.shape) for a in out.vision_model_output.attentions] == [(2, 4, 16, 16)] * 2
    assert [tuple(a.shape) for a in out.text_model_output.attentions] == [(2, 4, positions, positions)] * 2
    for attention in (*out.vision_model_output.attentions, *out.text_model_output.attentions):
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
    torch.testing.assert_close(out.image_features, model(**inputs).image_features, atol=1e-5, rtol=0)


@torch.no_grad()
def test_interpolated_positions(model):
    pixels = torch.randn(2, 3, 84, 84, generator=torch.Generator().manual_seed(1))
    with pytest.raises(ValueError, match="84 × 84"):
        model(pixel_values=pixels)
    assert model(pixel_values=pixels, interpolate_pos_encoding=True).image_token_features.shape == (2, 36, 64)
    features = model.get_image_features(pixels, interpolate_pos_encoding=True)
    assert features.last_hidden_state.shape == (2, 36, 64)
    wide = model(pixel_values=torch.zeros(1, 3, 28, 112), interpolate_pos_encoding=True)
    assert wide.image_token_features.shape == (1, 16, 64)
    same = torch.randn(1, 3, 56, 56)
    got, expected = (model(pixel_values=same, interpolate_pos_encoding=flag) for flag in (True, False))
    torch.testing.assert_close(got.image_features, expected.image_features)


@pytest.mark.parametrize("size", [(28, 112), (112, 28), (14, 224), (60, 60), (57, 57), (42, 42), (13, 13), (0, 56)])
def test_other_sizes(model, size):
    """28 × 112 has as many patches as 56 × 56, and 60 × 60 too."""
    for encode in (model.encode_image, model.get_image_features, model):
        with pytest.raises(ValueError, match=f"{size[0]}"):
            encode(torch.zeros(1, 3, *size))


@pytest.mark.parametrize("shape", [(3, 56, 56), (1, 1, 56, 56), (1, 56, 56, 3), (0, 3, 56, 56)])
def test_shapes_that_are_no_images(model, shape):
    with pytest.raises(ValueError, match="pixel_values"):
        model(pixel_values=torch.zeros(shape))


# -- the names of the CLIP family


@torch.no_grad()
def test_features_as_clip_returns_them(model, inputs):
    image, text = model.get_image_features(inputs["pixel_values"]), model.get_text_features(inputs["input_ids"])
    assert type(image) is type(text) is BaseModelOutputWithPooling
    for got, (pooled, tokens) in (
        (image, model.encode_image(inputs["pixel_values"])),
        (text, model.encode_text(inputs["input_ids"])),
    ):
        assert torch.equal(got.pooler_output, pooled)
        assert torch.equal(got.last_hidden_state, tokens)
    text_inputs = {name: tensor for name, tensor in inputs.items() if name != "pixel_values"}
    assert torch.equal(model.get_text_features(**text_inputs).pooler_output, text.pooler_output)
    assert isinstance(model.get_image_features(inputs["pixel_values"], return_dict=False), tuple)


@torch.no_grad()
def test_logits_per_image(model, inputs):
    out = model(**inputs)
    expected = out.logit_scale * out.image_features @ out.text_features.T + out.logit_bias
    assert out.logits_per_image.shape == (2, 2) and out.logits_per_image.dtype == torch.float32
    torch.testing.assert_close(out.logits_per_image, expected)
    assert torch.equal(out["logits_per_text"], out["logits_per_image"].T)
    assert torch.equal(out.image_embeds, out.image_features) and torch.equal(out["text_embeds"], out.text_features)
    alone = model(pixel_values=inputs["pixel_values"])
    assert alone.logits_per_image is None and alone["logits_per_text"] is None
    half = copy.deepcopy(model).bfloat16()(**inputs)
    assert half.logits_per_image.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(**inputs).logits_per_image.dtype == torch.float32


def test_loss(model, inputs):
    out = model(**inputs, return_loss=True)
    assert list(out) == [*EIGHT, "loss"]
    signs = 2 * torch.eye(2) - 1
    expected = -torch.nn.functional.logsigmoid(signs * out.logits_per_image).sum() / 2
    torch.testing.assert_close(out.loss, expected)
    assert model(**inputs).loss is None and model(**inputs, return_loss=False).loss is None
    for one in ("pixel_values", "input_ids"):
        with pytest.raises(ValueError, match=r"pixel_values.*input_ids"):
            model(**{one: inputs[one]}, return_loss=True)
    with pytest.raises(ValueError, match=r"1\b.*2\b"):
        model(pixel_values=inputs["pixel_values"][:1], input_ids=inputs["input_ids"], return_loss=True)


def test_pipeline(tiny_model_folder, capfd):
    classify = pipeline("zero-shot-image-classification", model=str(tiny_model_folder))
    assert type(classify.model) is ConceptCLIPModel
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))
    got = classify(image, candidate_labels=["band form", "round nucleus"], hypothesis_template="{}")
    model, processor = helpers.load(tiny_model_folder, device="cpu")
    expected = helpers.zero_shot(model, processor, [image], ["band form", "round nucleus"]).iloc[0]
    assert {row["label"]: row["score"] for row in got} == pytest.approx(expected.to_dict(), abs=1e-4)
    assert "not supported" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["visual", "text", "visual_projection"])
def test_where_other_names_went(model, name):
    assert not hasattr(model, name)
    with pytest.raises(AttributeError, match=f"{name}.*(vision_model|text_model|image_proj)"):
        getattr(model, name)
    with pytest.raises(AttributeError, match="vision_model"):
        _ = model.visual.trunk
    with pytest.raises(AttributeError, match="nothing_of_it"):
        _ = model.nothing_of_it


@torch.no_grad()
def test_a_joint_forward_on_the_meta_device():
    with torch.device("meta"):
        meta = ConceptCLIPModel(make_model().config).eval()
        out = meta(pixel_values=torch.zeros(2, 3, 56, 56), input_ids=torch.ones(3, 9, dtype=torch.long))
    assert out.text_features.shape == (3, 64) and out.logits_per_image.shape == (2, 3)


# -- Trainer


class Items(torch.utils.data.Dataset):
    def __init__(self, inputs: dict[str, torch.Tensor], names: tuple[str, ...], **more):
        self.items = [{name: inputs[name][i] for name in names} | more for i in (0, 1, 1)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return self.items[i]


def trainer(model, tmp_path, **options) -> Trainer:
    settings = {"per_device_train_batch_size": 2, "per_device_eval_batch_size": 2, "report_to": [], "use_cpu": True}
    return Trainer(model, TrainingArguments(output_dir=str(tmp_path), **settings | options))


@pytest.mark.parametrize(
    ("names", "given"),
    [(("pixel_values",), "image"), (("input_ids", "attention_mask"), "text")],
    ids=["pictures alone", "texts alone"],
)
def test_trainer_predicts_one_input(inputs, tmp_path, names, given):
    model, rows = make_model(), torch.tensor([0, 1, 1])
    with torch.no_grad():
        expected = model(**{name: inputs[name] for name in names})
    predicted = trainer(model, tmp_path).predict(Items(inputs, names))
    features, tokens = predicted.predictions
    torch.testing.assert_close(torch.tensor(features), expected[f"{given}_features"][rows], atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.tensor(tokens), expected[f"{given}_token_features"][rows], atol=1e-4, rtol=0)
    assert "eval_runtime" in trainer(model, tmp_path, prediction_loss_only=False).evaluate(Items(inputs, names))
    both = trainer(model, tmp_path).predict(Items(inputs, ("pixel_values", "input_ids")))
    assert len(both.predictions) == 4


def test_trainer_trains_and_evaluates_with_return_loss(inputs, tmp_path):
    items = Items(inputs, ("pixel_values", "input_ids", "attention_mask", "token_type_ids"), return_loss=True)
    model = make_model()
    before = model.text_projection.weight.clone()
    run = trainer(model, tmp_path, max_steps=3, learning_rate=1e-3, save_strategy="no", disable_tqdm=True)
    run.train_dataset = items
    # Three items in batches of two: the pair of the last one is all there is to its batch.
    assert math.isfinite(run.train().training_loss)
    assert not torch.equal(before, model.text_projection.weight)
    # As in transformers' own example for CLIP: the collator asks for the loss, once a batch.
    run.data_collator = lambda rows: default_data_collator([dict(row) for row in rows]) | {"return_loss": True}
    assert "eval_loss" in run.evaluate(items)


def test_trainer_in_bfloat16(inputs, tmp_path):
    model = with_scale()
    trainer(model, tmp_path, bf16_full_eval=True).evaluate(Items(inputs, ("pixel_values",)))
    assert model.dtype == torch.bfloat16
    assert model.logit_scale.exp().item() == pytest.approx(96.607, abs=1e-3)


# -- helpers around a model that is in use


def pictures(count: int = 5) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (40, 30, 3), dtype=np.uint8)) for _ in range(count)]


def answers(model) -> dict[str, torch.Tensor]:
    """What helpers say in all their ways."""
    processor, images = make_processor(), pictures(2)
    encoded = helpers.encode_images(model, processor, images, tokens=True)
    texts = helpers.encode_texts(model, processor, PROMPTS, tokens=True)
    s = helpers.scales(model)
    pixels = helpers.explanations.pixels(processor, images)
    return {
        "images": encoded.features,
        "patches": encoded.tokens,
        "texts": texts.features,
        "words": texts.tokens,
        "logits": helpers.logits(encoded.features, texts.features, s.logit_scale, s.logit_bias),
        "zero-shot": torch.tensor(
            helpers.zero_shot(model, processor, images, ["band", "round"], alpha=0.5, recipe="zero_shot").to_numpy()
        ),
        "annotation": torch.tensor(helpers.annotate(model, processor, images, ["band", "round"]).to_numpy()),
        "maps": helpers.concept_maps(model, processor, images, ["band", "round"]),
        "score": helpers.explanations.global_score(model, texts.features[0])(pixels).detach(),
        "gradient": helpers.explanations.gradient_maps(
            helpers.explanations.global_score(model, texts.features[0]), pixels, helpers.patch_grid(model)
        ),
        "losses": losses.it_align(encoded.features, texts.features, torch.tensor(10.0), torch.tensor(-10.0)),
    }


@pytest.fixture(scope="module")
def plain_answers() -> dict[str, torch.Tensor]:
    return answers(make_model())


def test_within_autocast_as_outside(plain_answers):
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            got = answers(make_model())
            assert torch.is_autocast_enabled("cpu")
        for name, value in plain_answers.items():
            assert got[name].dtype == value.dtype == torch.float32, name
            torch.testing.assert_close(got[name], value, atol=1e-6, rtol=1e-5, msg=name)


def test_a_model_left_in_train(plain_answers):
    model = make_model().train()
    model.vision_model.eval()  # a frozen tower, as in fine-tuning
    modes = {name: module.training for name, module in model.named_modules()}
    got = answers(model)
    assert {name: module.training for name, module in model.named_modules()} == modes
    for name, value in plain_answers.items():
        torch.testing.assert_close(got[name], value, atol=1e-6, rtol=1e-5, msg=name)


def test_a_model_is_given_back_in_train_after_an_error(monkeypatch):
    model, processor = make_model().train(), make_processor()

    def broken(*args, **kwargs):
        assert not model.training
        raise RuntimeError("out of memory")

    for name, call in (
        ("encode_image", lambda: helpers.encode_images(model, processor, pictures(1))),
        ("encode_text", lambda: helpers.encode_texts(model, processor, ["a cell"])),
    ):
        monkeypatch.setattr(model, name, broken)
        with pytest.raises(RuntimeError, match="out of memory"):
            call()
        monkeypatch.undo()
        assert all(module.training for module in model.modules())
    parts = helpers.iter_image_encodings(model, processor, pictures(), batch_size=2)
    next(parts)
    parts.close()
    assert all(module.training for module in model.modules())


def test_parts_can_train_a_head():
    model, processor = make_model(), make_processor()
    head = nn.Linear(64, 2)
    for part in helpers.iter_image_encodings(model, processor, pictures(), batch_size=2, tokens=True):
        assert not part.features.is_inference() and not part.features.requires_grad
        loss = head(part.features).square().sum() + head(part.tokens).square().sum()
        loss.backward()
    texts = helpers.encode_texts(model, processor, PROMPTS, tokens=True)
    (head(texts.features).sum() + head(texts.tokens).sum()).backward()
    assert head.weight.grad.abs().sum() > 0


class Wrapper(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.backbone = model
        self.head = nn.Linear(64, 2)

    def forward(self, pixel_values):
        return self.head(self.backbone(pixel_values=pixel_values).image_features)


def compiled(model):
    return torch.compile(model, backend="eager")


def lora(model):
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj", "v_proj"]))


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, compiled, lora, lambda m: nn.DataParallel(compiled(m))],
    ids=["DataParallel", "compiled", "peft", "both"],
)
def test_known_wrappers_are_taken_off(wrap, plain_answers):
    got = answers(wrap(make_model()).eval())  # a new LoRA adapter changes nothing
    for name, value in plain_answers.items():
        torch.testing.assert_close(got[name], value, atol=1e-6, rtol=1e-5, msg=name)


def test_other_wrappers_are_told_so():
    model, processor = make_model(), make_processor()
    calls = (
        lambda m: helpers.encode_texts(m, processor, PROMPTS),
        lambda m: helpers.encode_images(m, processor, pictures(1)),
        lambda m: helpers.zero_shot(m, processor, pictures(1), ["band", "round"]),
        helpers.scales,
        helpers.patch_grid,
        lambda m: helpers.explanations.global_score(m, torch.ones(64)),
    )
    for call in calls:
        for wrong, said in (
            (Wrapper(model), "model.backbone"),
            (nn.DataParallel(Wrapper(model)), "model.backbone"),
            ((model, processor), "model, processor"),
            (nn.Linear(2, 2), "Linear"),
            (processor, "ConceptCLIPProcessor"),
            (None, "NoneType"),
        ):
            with pytest.raises(TypeError, match=said):
                call(wrong)


# -- the processor


@pytest.mark.parametrize(
    "text",
    [
        tuple(PROMPTS),
        pd.Series(PROMPTS, index=[7, 3]),
        np.array(PROMPTS),
        np.array(PROMPTS, dtype=object),
        pd.Index(PROMPTS),
        pd.Series(PROMPTS, dtype="string"),
        iter(PROMPTS),
    ],
    ids=lambda text: f"{type(text).__name__} {getattr(text, 'dtype', '')}",
)
def test_texts_of_every_kind(inputs, text):
    got = make_processor()(text=text, return_tensors="pt", padding=True, truncation=True)
    assert torch.equal(got["input_ids"], inputs["input_ids"])


def test_texts_that_are_none():
    processor = make_processor()
    for wrong, said in (
        (["a cell", None], r"text\[1\]"),
        (pd.Series(["a", float("nan")]), r"text\[1\]"),
        ((), "empty"),
    ):
        with pytest.raises(ValueError, match=said):
            processor(text=wrong, return_tensors="pt", padding=True)
    assert processor(text="a cell", return_tensors="pt")["input_ids"].shape[0] == 1


# -- pixels that were normalised before


def bright_slide() -> Image.Image:
    array = np.random.default_rng(0).integers(140, 256, (56, 56, 3), dtype=np.uint8)
    return Image.fromarray(array)


def test_pixels_are_not_normalised_twice():
    model, processor = make_model(), make_processor()
    once = processor(images=[bright_slide()], return_tensors="pt")["pixel_values"]
    assert once.min() >= 0 and once.max() <= 1  # nothing but the values tells what they are
    expected = helpers.encode_images(model, processor, [bright_slide()]).features
    with pytest.raises(ValueError, match="pixels_are"):
        helpers.encode_images(model, processor, once)
    with pytest.raises(ValueError, match="pixels_are"):
        processor(images=once, return_tensors="pt", do_rescale=False)
    said = helpers.encode_images(model, processor, once, pixels_are="normalised").features
    torch.testing.assert_close(said, expected, atol=1e-5, rtol=0)
    again = processor(images=once, return_tensors="pt", pixels_are="normalised")["pixel_values"]
    torch.testing.assert_close(again, once, atol=1e-6, rtol=0)
    unit = torch.from_numpy(np.array(bright_slide())).permute(2, 0, 1)[None] / 255
    for pixels_are in (None, "unit"):
        got = helpers.encode_images(model, processor, unit, pixels_are=pixels_are).features
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    # Said to be a picture, it is one: no guess stands against the caller's word.
    assert helpers.encode_images(model, processor, once, pixels_are="unit").features.shape == (1, 64)


def test_pixels_below_zero_are_told_the_cure():
    model, processor = make_model(), make_processor()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (56, 56, 3), dtype=np.uint8))
    once = processor(images=[image], return_tensors="pt")["pixel_values"]
    with pytest.raises(ValueError, match=r"image 0.*pixels_are='normalised'"):
        helpers.encode_images(model, processor, once)
    got = helpers.encode_images(model, processor, once, pixels_are="normalised").features
    torch.testing.assert_close(got, helpers.encode_images(model, processor, [image]).features, atol=1e-5, rtol=0)
    for wrong in ("raw", "normalized"):
        with pytest.raises(ValueError, match=wrong):
            helpers.encode_images(model, processor, once, pixels_are=wrong)
    with pytest.raises(ValueError, match="image 0"):
        helpers.encode_images(model, processor, [image], pixels_are="normalised")
    with pytest.raises(ValueError, match="image 0"):
        helpers.encode_images(model, processor, once * 3, pixels_are="normalised")


@pytest.mark.parametrize(
    "nothing",
    [
        Image.new("RGB", (0, 5)),
        Image.new("L", (5, 0)),
        Image.new("RGBA", (0, 0)),
        Image.new("I;16", (0, 5)),
        np.zeros((5, 0, 3), np.uint8),
        np.zeros((0, 5), np.uint8),
        np.zeros((5, 0, 3), np.float32),
        torch.zeros(3, 0, 5, dtype=torch.uint8),
        torch.zeros(3, 5, 0),
    ],
    ids=lambda x: f"{type(x).__name__} {getattr(x, 'shape', None) or x.size}",
)
def test_images_of_no_width(nothing):
    model, processor = make_model(), make_processor()
    for call in (
        lambda: helpers.encode_images(model, processor, [nothing]),
        lambda: processor(images=[nothing], return_tensors="pt", do_rescale=getattr(nothing, "dtype", None) is None),
        lambda: helpers.images.as_shown(nothing),
    ):
        with pytest.raises(ValueError, match=r"(?i)image"):
            call()


# -- what is no input


@pytest.mark.parametrize("values", [[[2, 5, 3]], np.array([[2, 5, 3]]), ["a cell"], None])
def test_prompts_that_are_no_tensor_are_told(model, values):
    for call in (model.encode_text, model.get_text_features):
        with pytest.raises(TypeError, match=f"input_ids.*{type(values).__name__}"):
            call(values)


@pytest.mark.parametrize("values", [[torch.zeros(3, 56, 56)], np.zeros((1, 3, 56, 56), np.float32), None])
def test_pictures_that_are_no_tensor_are_told(model, values):
    for call in (model.encode_image, model.get_image_features):
        with pytest.raises(TypeError, match=f"pixel_values.*{type(values).__name__}"):
            call(values)


def test_tensors_of_the_wrong_kind_are_told(model):
    """uint8 pixels ran through the tower as they were, 255 times too bright."""
    with pytest.raises(ValueError, match=r"pixel_values.*uint8"):
        model(pixel_values=torch.zeros(1, 3, 56, 56, dtype=torch.uint8))
    for wrong in (torch.tensor([[2.0, 5, 3]]), torch.tensor([[True]])):
        with pytest.raises(ValueError, match="input_ids"):
            model(input_ids=wrong)
    for wrong in (50_000, -5):
        with pytest.raises(ValueError, match=rf"{wrong}\b"):
            model(input_ids=torch.tensor([[2, wrong, 3]]))


def test_attentions_of_the_tower_that_keeps_them(inputs):
    model = make_model()
    model.set_attn_implementation({"vision_config": "eager"})
    seen = model(pixel_values=inputs["pixel_values"], output_attentions=True)
    assert len(seen.vision_model_output.attentions) == 2
    with pytest.raises(ValueError, match="text"):
        model(**inputs, output_attentions=True)


def test_derived_outputs_by_get(model, inputs):
    output = model(**inputs)
    assert torch.equal(output.get("logits_per_image"), output.logits_per_image)
    assert output.get("nothing", 5) == 5


def test_a_model_without_values_is_told(model):
    empty = copy.deepcopy(model).to("meta")
    processor = make_processor()
    picture = np.zeros((56, 56, 3), np.uint8)
    for call in (
        lambda: helpers.encode_images(empty, processor, [picture]),
        lambda: helpers.encode_texts(empty, processor, PROMPTS),
        lambda: helpers.scales(empty),
    ):
        with pytest.raises(ValueError, match="meta"):
            call()


def test_a_processor_that_is_none_is_told(model):
    for call in (helpers.encode_images, helpers.encode_texts):
        with pytest.raises(TypeError, match=r"processor.*NoneType"):
            call(model, None, [np.zeros((56, 56, 3), np.uint8)])
