"""The full size without the weights: exactly the guide's shapes and the released checkpoint's numbers."""

import math

import torch
from small_model import make_model, make_processor

import helpers


def test_the_guides_shapes_for_64_images_and_15_prompts_of_15_tokens():
    shapes = helpers.course.shape_table(images=64, prompts=15, length=15)["shape"]
    assert dict(shapes["processor"]) == {
        "input_ids": (15, 15),
        "token_type_ids": (15, 15),
        "attention_mask": (15, 15),
        "pixel_values": (64, 3, 384, 384),
    }
    assert dict(shapes["forward"]) == {
        "image_features": (64, 1152),
        "text_features": (15, 1152),
        "logit_scale": (),
        "image_token_features": (64, 729, 1152),
        "text_token_features": (15, 15, 1152),
        "logit_bias": (),
        "concept_logit_scale": (),
        "concept_logit_bias": (),
    }
    assert dict(shapes["encode_image"]) == {"features": (64, 1152), "tokens": (64, 729, 1152)}
    assert dict(shapes["encode_text"]) == {"features": (15, 1152), "tokens": (15, 15, 768)}


def test_parameters_and_bytes():
    table = helpers.course.parameter_table()
    assert dict(table["parameters"]) == {
        "image tower": 428_225_600,
        "text tower": 108_891_648,
        "projections and scalars": 5_750_788,
        "total": 542_868_036,
    }
    assert table.loc["total", "bytes"] == 2_171_472_144
    assert helpers.course.parameter_table(dtype=torch.bfloat16).loc["total", "bytes"] == 2_171_472_144 // 2


def test_a_loaded_models_own_tables():
    """For a small model: the tables say what really comes out, and building them changes nothing of it."""
    model, processor = make_model(), make_processor()
    before = model.config.to_dict()
    text = processor(text=["a cell", "a photo of a round nucleus"], return_tensors="pt", padding=True)
    pixels = torch.zeros(3, 3, 56, 56)
    table = helpers.course.shape_table(model.config, images=3, prompts=2, length=text["input_ids"].shape[1])
    with torch.inference_mode():
        out = model(pixel_values=pixels, **text)
    assert dict(table["shape"]["forward"]) == {name: tuple(tensor.shape) for name, tensor in out.items()}
    assert all(math.prod(shape) == numbers for shape, numbers in zip(table["shape"], table["numbers"], strict=True))
    assert table.loc[("forward", "image_features"), "bytes"] == out.image_features.numel() * 4
    assert helpers.course.parameter_table(model.config).loc["total", "parameters"] == model.num_parameters()
    assert model.config.to_dict() == before
