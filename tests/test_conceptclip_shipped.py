"""The shipped model through the family's code: what it is stored as, loaded as, and what half precision costs."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

import helpers
from helpers.conceptclip import ConceptCLIPModel, ConceptCLIPProcessor

pytestmark = pytest.mark.usefixtures("no_network")
PROMPTS = ["a cell photo with sign of Segmented nucleus", "a cell photo with sign of Round nucleus", "a cell"]


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    generator = np.random.default_rng(0)
    images = [
        Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)).resize((300, 200)) for _ in "abc"
    ]
    processor = AutoProcessor.from_pretrained(helpers.MODEL_ID)
    assert type(processor) is ConceptCLIPProcessor
    return dict(processor(images=images, text=PROMPTS, return_tensors="pt", padding=True, truncation=True))


def test_it_loads_in_float32_both_ways():
    for model in (AutoModel.from_pretrained(helpers.MODEL_ID), helpers.load(helpers.MODEL_ID, device="cpu")[0]):
        assert type(model) is ConceptCLIPModel
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.995), ("float16", 0.9999)])
def test_half_precision(inputs, dtype, least):
    full, half = (helpers.load(helpers.MODEL_ID, device="cpu", dtype=name)[0] for name in ("float32", dtype))
    with torch.inference_mode():
        expected, got = full(**inputs), half(**inputs)
    for name in ("image_features", "text_features", "image_token_features", "text_token_features"):
        assert torch.cosine_similarity(expected[name], got[name].float(), dim=-1).min() > least, name
    assert got.logit_scale.dtype == torch.float32
