"""The guide's own code, sections 1 to 5 and 7, as it stands there; only model id, images and login differ."""

import numpy as np
import pytest
import torch
from PIL import Image

import helpers

SECTION_1 = """
from transformers import AutoModel, AutoProcessor
"""

SECTION_1_LOAD = """
# First-time execution will download model weights
model = AutoModel.from_pretrained('JerrryNie/ConceptCLIP', trust_remote_code=True)
processor = AutoProcessor.from_pretrained('JerrryNie/ConceptCLIP', trust_remote_code=True)
"""

SECTION_1_DEVICE = """
import torch
device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
model = model.to(device).eval()
"""

SECTION_2 = """
inputs = processor(
    images=img_batch,   # List[Image] | torch.Tensor [B,3,H,W]
    text=texts,         # List[str]
    return_tensors='pt',
    padding=True,
    truncation=True,
).to(model.device)
"""

SECTION_2_FLOAT = """
processor.image_processor.do_rescale = False
processor.image_processor.do_normalize = True
"""

SECTION_3 = """
with torch.no_grad():
    outputs = model(**inputs)
    logits = (
        outputs['logit_scale'] * outputs['image_features'] @ outputs['text_features'].T
        + outputs['logit_bias']
    )
"""

SECTION_4 = """
texts = [
    'a cell photo with sign of Segmented nucleus',
    'a cell photo with sign of Band nucleus (band form)',
    'a cell photo with sign of Reniform / indented nucleus',
    'a cell photo with sign of Round nucleus',
    'a cell photo with sign of Fine azurophilic granules',
    'a cell photo with sign of Eosinophilic granules',
    'a cell photo with sign of Basophilic granules',
    'a cell photo with sign of Basophilic cytoplasm',
    'a cell photo with sign of Cytoplasmic vacuoles',
]
"""

SECTION_4_ENCODE = """
enc = processor.tokenizer(texts, return_tensors="pt", padding=True, truncation=True).to(device)
print(enc.keys())  # dict keys
with torch.inference_mode():
    text_cls, text_tokens = model.encode_text(enc["input_ids"], normalize=True)  # [N,1152], [N,T_txt,768]
    text_tokens_proj = None if text_tokens is None else model.text_proj(text_tokens)  # -> [N,T_txt,1152]
"""

SECTION_5 = """
inputs_imgs = processor(images=img_batch, return_tensors="pt", padding=True, truncation=True)

with torch.inference_mode():
    pixels = inputs_imgs["pixel_values"].to(device)
    img_cls, img_tokens = model.encode_image(pixels, normalize=True)   # [B,1152], [B,729,1152]

    # To match forward() output (after the projection MLP):
    img_tokens_proj = model.image_proj(img_tokens)  # -> image_token_features
"""

SECTION_7 = """
from transformers import AutoModel, AutoProcessor
import torch

device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
model = AutoModel.from_pretrained('JerrryNie/ConceptCLIP', trust_remote_code=True).to(device).eval()
processor = AutoProcessor.from_pretrained('JerrryNie/ConceptCLIP', trust_remote_code=True)

texts = ["a cell photo with sign of Segmented nucleus", "a cell photo with sign of Round nucleus"]
images = [...]  # list of PIL Images or a float tensor [B,3,224,224] scaled to [0,1]

with torch.no_grad():
    proc = processor(images=images, text=texts, return_tensors='pt', padding=True, truncation=True).to(device)
    out = model(**proc)
    # Cosine-like logits already scaled
    sim = out['logit_scale'] * out['image_features'] @ out['text_features'].T + out['logit_bias']
print(sim.shape)  # [B, num_texts]
"""


@pytest.fixture(params=["tiny", "shipped"])
def source(request, tiny_model_folder) -> str:
    return str(tiny_model_folder) if request.param == "tiny" else helpers.MODEL_ID


def pictures(count: int = 3) -> list[Image.Image]:
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (90, 120, 3), dtype=np.uint8)) for _ in range(count)]


def run(code: str, names: dict, source: str) -> None:
    exec(code.replace("'JerrryNie/ConceptCLIP'", repr(source)), names)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("kind", ["images", "float tensor"])
def test_sections_1_to_5(source, kind):
    batch = pictures() if kind == "images" else torch.rand(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    names = {"img_batch": batch}
    for code in (SECTION_1, SECTION_1_LOAD, SECTION_1_DEVICE, SECTION_4):
        run(code, names, source)
    if kind == "float tensor":
        run(SECTION_2_FLOAT, names, source)
    for code in (SECTION_2, SECTION_3, SECTION_4_ENCODE, SECTION_5):
        run(code, names, source)

    config, inputs, out = names["model"].config, names["inputs"], names["outputs"]
    width, text_width = config.projection_dim, config.text_config.hidden_size
    side, patches, length = (
        config.vision_config.image_size,
        config.grid[0] * config.grid[1],
        inputs["input_ids"].shape[1],
    )
    # Section 3, with this model's measures for 64 images, 15 prompts of 15 tokens, 729 patches, 1152 and 384.
    assert {name: tuple(inputs[name].shape) for name in inputs} == {
        "input_ids": (9, length),
        "token_type_ids": (9, length),
        "attention_mask": (9, length),
        "pixel_values": (3, 3, side, side),
    }
    assert {name: tuple(out[name].shape) for name in out} == {
        "image_features": (3, width),
        "text_features": (9, width),
        "logit_scale": (),
        "image_token_features": (3, patches, width),
        "text_token_features": (9, length, width),
        "logit_bias": (),
        "concept_logit_scale": (),
        "concept_logit_bias": (),
    }
    assert names["logits"].shape == (3, 9)
    assert set(names["enc"]) == {"input_ids", "token_type_ids", "attention_mask"}
    # Section 4: "The returned text_cls corresponds to the text_features you would see in a full forward pass."
    assert names["text_tokens"].shape == (9, length, text_width)
    torch.testing.assert_close(names["text_cls"], out["text_features"])
    torch.testing.assert_close(names["text_tokens_proj"], out["text_token_features"])
    # Section 5: only pixel_values; the same features, and the same tokens after the projection.
    assert set(names["inputs_imgs"]) == {"pixel_values"}
    assert names["img_tokens"].shape == (3, patches, width)
    torch.testing.assert_close(names["img_cls"], out["image_features"])
    torch.testing.assert_close(names["img_tokens_proj"], out["image_token_features"])


@pytest.mark.usefixtures("no_network")
def test_section_7(source, capsys):
    names = {"pictures": pictures(2)}
    run(SECTION_7.replace("[...]", "pictures"), names, source)
    assert names["sim"].shape == (2, 2)
    assert "torch.Size([2, 2])" in capsys.readouterr().out
    out = names["out"]
    assert torch.equal(names["sim"], out.logit_scale * out.image_features @ out.text_features.T + out.logit_bias)
