"""The released checkpoint's form: what loads, what is refused, how much memory it takes, that no code of it runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reference_conceptclip import GEOMETRY, RELEASED, Reference, config_json, random_weights, released_shapes
from safetensors.torch import save_file
from small_model import make_processor
from transformers import AutoConfig, AutoModel, AutoProcessor

from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPModel, ConceptCLIPProcessor
from helpers.conceptclip.convert import convert, main

IDS = torch.tensor([[2, 9, 8, 7, 30, 3, 0, 0]])
OPEN_CLIP = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 56, "patch_size": 14, "width": 64, "layers": 2, "heads": 4, "mlp_ratio": 172 / 64},
    "text_cfg": {
        "hf_model_name": "a/pubmedbert",
        "hf_pooler_type": "mean_pooler",
        "hf_proj_type": "linear",
        "context_length": 77,
        "width": 48,
        "layers": 2,
        "heads": 4,
        "mlp_ratio": 2.0,
        "vocab_size": 150,
        "positions": 128,
    },
}


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return random_weights(GEOMETRY)


def write(folder: Path, weights: dict[str, torch.Tensor], config: dict | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config or config_json(GEOMETRY)))
    return folder


def features(model: ConceptCLIPModel) -> torch.Tensor:
    pixels = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        out = model(pixel_values=pixels, input_ids=IDS)
    return torch.cat([out.image_features, out.text_features, out.image_token_features[0], out.text_token_features[0]])


@pytest.fixture(scope="module")
def expected(weights, tmp_path_factory) -> torch.Tensor:
    return features(AutoModel.from_pretrained(write(tmp_path_factory.mktemp("m"), weights)))


# -- what loads


@pytest.mark.parametrize("prefix", ["model.", "module.clip.", "conceptclip."])
def test_one_common_prefix_is_tolerated(weights, expected, tmp_path, prefix):
    model = AutoModel.from_pretrained(write(tmp_path, {prefix + name: tensor for name, tensor in weights.items()}))
    torch.testing.assert_close(features(model), expected)


def test_two_prefixes_are_not(weights, tmp_path):
    mixed = {("" if name.startswith("text.") else "model.") + name: tensor for name, tensor in weights.items()}
    with pytest.raises(ValueError, match=r"text\.proj\.weight.*'model\.'"):
        AutoModel.from_pretrained(write(tmp_path, mixed))


def test_sharded(weights, expected, tmp_path):
    write(tmp_path, weights)
    (tmp_path / "model.safetensors").unlink()
    names, index = sorted(weights), {}
    for part in (0, 1):  # the two tensors that the pooling head joins lie in different files
        file = f"model-{part + 1:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in names[part::2]}, tmp_path / file)
        index |= dict.fromkeys(names[part::2], file)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    torch.testing.assert_close(features(AutoModel.from_pretrained(tmp_path)), expected)


def test_position_ids_of_older_transformers_are_passed_over(weights, expected, tmp_path):
    older = weights | {"text.transformer.embeddings.position_ids": torch.arange(128)[None]}
    torch.testing.assert_close(features(AutoModel.from_pretrained(write(tmp_path, older))), expected)


def test_an_open_clip_config_is_read(weights, expected, tmp_path):
    config = {"model_type": "conceptclip", **OPEN_CLIP}
    # BERT's number of positions is in no open_clip config: cut a table of the usual 512.
    longer = dict(weights)
    table = "text.transformer.embeddings.position_embeddings.weight"
    longer[table] = torch.cat([weights[table], torch.zeros(512 - 128, 48)])
    torch.testing.assert_close(features(AutoModel.from_pretrained(write(tmp_path, longer, config))), expected)


def test_an_open_clip_config_that_only_names_its_towers():
    config = ConceptCLIPConfig(
        embed_dim=1152,
        vision_cfg={
            "image_size": 384,
            "timm_model_name": "vit_so400m_patch14_siglip_384",
            "timm_pool": "map",
            "timm_proj": "none",
        },
        text_cfg={"hf_model_name": "a/pubmedbert", "hf_pooler_type": "mean_pooler", "hf_proj_type": "linear"},
    )
    assert config.to_dict() == ConceptCLIPConfig().to_dict()
    pooled = ConceptCLIPConfig(vision_cfg={}, text_cfg={"hf_pooler_type": "cls_last_hidden_state_pooler"})
    assert pooled.text_pooling == "cls"


@pytest.mark.parametrize(
    ("part", "settings", "named"),
    [
        ("vision_cfg", {"timm_model_name": "vit_base_patch16_224"}, "vit_base_patch16_224"),
        ("vision_cfg", {"timm_pool": "avg"}, "timm_pool"),
        ("text_cfg", {"hf_pooler_type": "max_pooler"}, "max_pooler"),
        ("text_cfg", {"hf_proj_type": "mlp"}, "'mlp'"),
    ],
)
def test_an_open_clip_config_of_another_model(part, settings, named):
    with pytest.raises(ValueError, match=named):
        ConceptCLIPConfig(**{"vision_cfg": {}, "text_cfg": {}} | {part: settings})


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", torch.float16])
def test_weights_come_in_the_wanted_dtype(weights, tmp_path, dtype):
    model = AutoModel.from_pretrained(write(tmp_path, weights), dtype=dtype)
    wanted = torch.float32 if dtype == "auto" else getattr(torch, dtype) if isinstance(dtype, str) else dtype
    assert {p.dtype for name, p in model.named_parameters() if "logit" not in name} == {wanted}
    assert {p.dtype for name, p in model.named_parameters() if "logit" in name} == {torch.float32}
    assert model.config.dtype == wanted
    assert model.logit_scale == weights["logit_scale"]


def test_a_half_checkpoint_whose_config_names_no_dtype_stays_half(weights, tmp_path):
    model = AutoModel.from_pretrained(write(tmp_path, {name: tensor.half() for name, tensor in weights.items()}))
    assert model.dtype == torch.float16


def test_settings_can_be_given(weights, tmp_path):
    model = AutoModel.from_pretrained(write(tmp_path, weights), attn_implementation="eager", text_pooling="cls")
    assert model.config._attn_implementation == model.vision_model.config._attn_implementation == "eager"
    assert model.config.text_pooling == "cls"
    assert model.name_or_path == str(tmp_path)
    model, info = ConceptCLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not model.training


# -- what is refused


def test_every_missing_unexpected_and_misshapen_tensor_is_listed(weights, tmp_path):
    damaged = dict(weights)
    del damaged["text.proj.weight"], damaged["visual.trunk.blocks.1.attn.qkv.bias"]
    damaged["visual.head.weight"] = torch.zeros(2)
    damaged["visual.trunk.pos_embed"] = torch.zeros(1, 25, 64)
    damaged["visual.trunk.attn_pool.kv.weight"] = torch.zeros(64, 64)
    with pytest.raises(ValueError) as error:
        AutoModel.from_pretrained(write(tmp_path, damaged))
    assert [line.strip() for line in str(error.value).splitlines() if line.startswith("  ")] == [
        "text.proj.weight",
        "visual.trunk.blocks.1.attn.qkv.bias",
        "visual.head.weight",
        "visual.trunk.attn_pool.kv.weight: (64, 64), expected (128, 64)",
        "visual.trunk.pos_embed: (1, 25, 64), expected (1, 16, 64)",
    ]


def test_the_pooler_of_another_bert_is_refused(weights, tmp_path):
    with pytest.raises(ValueError, match=r"text\.transformer\.pooler\.dense\.weight"):
        AutoModel.from_pretrained(
            write(tmp_path, weights | {"text.transformer.pooler.dense.weight": torch.zeros(48, 48)})
        )


def test_weights_that_do_not_fit_the_default_config(weights, tmp_path):
    with pytest.raises(ValueError, match=r"config\.json"):
        AutoModel.from_pretrained(write(tmp_path, weights, {"model_type": "conceptclip"}))


# -- nothing downloaded runs

CODE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
raise RuntimeError("downloaded code was executed")
"""


def write_with_code(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    """A folder as on the model's page: auto_map everywhere, and Python files beside the weights."""
    auto_map = {
        "AutoConfig": "configuration_conceptclip.ConceptCLIPConfig",
        "AutoModel": "modeling_conceptclip.ConceptCLIP",
    }
    write(folder, weights, config_json(GEOMETRY) | {"auto_map": auto_map})
    processor = make_processor(GEOMETRY["image"])
    processor.tokenizer.save_pretrained(folder)
    settings = {"processor_class": "ConceptCLIPProcessor"} | {
        "auto_map": {"AutoProcessor": "preprocessor_conceptclip.ConceptCLIPProcessor"}
    }
    (folder / "processor_config.json").write_text(json.dumps(settings))
    image_settings = processor.image_processor.to_dict() | settings | {"image_processor_type": "SiglipImageProcessor"}
    image_settings.pop("resample"), image_settings["size"].update({})
    (folder / "preprocessor_config.json").write_text(json.dumps(image_settings))
    for name in ("configuration", "modeling", "preprocessor"):
        (folder / f"{name}_conceptclip.py").write_text(CODE)
    return folder


@pytest.mark.usefixtures("no_network")
def test_no_downloaded_code_is_executed(weights, expected, tmp_path):
    folder = write_with_code(tmp_path, weights)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    assert type(AutoConfig.from_pretrained(folder, trust_remote_code=True)) is ConceptCLIPConfig
    assert type(model) is ConceptCLIPModel
    assert type(processor) is ConceptCLIPProcessor
    assert processor.image_processor.size == {"height": 56, "width": 56}
    assert processor.tokenizer.model_max_length == 77
    assert not list(tmp_path.rglob("ran"))
    torch.testing.assert_close(features(model), expected)


# -- conversion from the command line


def test_convert(weights, expected, tmp_path, capsys):
    source, target = write(tmp_path / "released", weights), tmp_path / "ours"
    make_processor(GEOMETRY["image"]).save_pretrained(source)
    assert main([str(source), str(target)]) == 0
    shown = capsys.readouterr()
    assert "Converting" in shown.err
    assert "MB of weights" in shown.out
    torch.testing.assert_close(features(AutoModel.from_pretrained(target)), expected)
    assert type(AutoProcessor.from_pretrained(target)) is ConceptCLIPProcessor
    assert main([str(source), str(target)]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert main([str(target), str(tmp_path / "again")]) == 1
    assert "not in released form" in capsys.readouterr().err
    assert main([str(tmp_path), str(tmp_path / "again")]) == 1
    assert "holds no model.safetensors" in capsys.readouterr().err


def test_convert_to_half(weights, expected, tmp_path):
    source = write(tmp_path / "released", weights)
    whole = convert(source, tmp_path / "whole") / "model.safetensors"
    half = convert(source, tmp_path / "half", dtype=torch.float16) / "model.safetensors"
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    model = AutoModel.from_pretrained(half.parent)
    assert model.dtype == torch.float32
    torch.testing.assert_close(features(model), expected, atol=5e-3, rtol=0)


# -- memory and full size

MEASURE = """
import json, multiprocessing, sys, time
from pathlib import Path
from helpers.conceptclip import ConceptCLIPModel

def memory(kind):  # of this process, in bytes; VmRSS is now, VmHWM the most since the last reset
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1]) * 1024

def load(dtype):
    Path("/proc/self/clear_refs").write_text("5")
    before, start = memory("VmRSS"), time.perf_counter()
    model = ConceptCLIPModel.from_pretrained(sys.argv[1], dtype=dtype)
    return {"seconds": time.perf_counter() - start, "peak": memory("VmHWM") - before}

with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:  # a fresh process for each
    print(json.dumps({dtype: pool.apply(load, (dtype,)) for dtype in ("float32", "bfloat16")}))
"""


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Load in a process of its own: seconds, and bytes by which its memory grew at the most, for each dtype."""
    run = subprocess.run([sys.executable, "-c", MEASURE, folder], capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")


@linux
def test_peak_memory(tmp_path):
    """At most 1.3 × the file, and half of that in half precision: on a checkpoint of about 190 MB."""
    geometry = RELEASED | {"layers": 1, "text_layers": 1, "vocabulary": 2000}
    folder = write(tmp_path, random_weights(geometry), config_json(geometry))
    size = (folder / "model.safetensors").stat().st_size
    figures = measure(folder)
    assert size > 1.8e8
    assert 0.9 * size < figures["float32"]["peak"] < 1.3 * size
    assert 0.45 * size < figures["bfloat16"]["peak"] < 0.8 * size


@linux
@pytest.mark.slow
def test_full_size(tmp_path):
    """Random weights at the released size: equality, load time and peak memory. About 7 GB, several minutes."""
    weights = random_weights(RELEASED)
    assert sum(tensor.numel() for tensor in weights.values()) == 542_868_036
    assert weights.keys() == released_shapes(RELEASED).keys()
    folder = write(
        tmp_path, {f"model.{name}": tensor for name, tensor in weights.items()}, {"model_type": "conceptclip"}
    )
    size = (folder / "model.safetensors").stat().st_size
    assert 2_171_472_144 < size < 2_171_472_144 + 1e6
    figures = measure(folder)
    assert figures["float32"]["peak"] < 1.3 * size
    assert figures["bfloat16"]["peak"] < 0.6 * size

    model, reference = AutoModel.from_pretrained(folder), Reference(weights, RELEASED)
    assert model.num_parameters() == 542_868_036
    pixels = torch.randn(1, 3, 384, 384, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[2, 1000, 30521, 17, 3, 0, 0, 0], [2, 5, 6, 7, 8, 9, 10, 3]])
    with torch.inference_mode():
        ours, theirs = model(pixel_values=pixels, input_ids=ids), reference.forward(pixels, ids)
        encoded = {"image": model.encode_image(pixels), "text": model.encode_text(ids)}
        own = {"image": reference.encode_image(pixels), "text": reference.encode_text(ids)}
    differences = {name: (ours[name] - theirs[name]).abs().max().item() for name in theirs}
    for kind in encoded:
        for part, mine, his in zip(("pooled", "tokens"), encoded[kind], own[kind], strict=True):
            differences[f"encode_{kind} {part}"] = ((mine - his).abs().max() / his.abs().max()).item()
    print(json.dumps({"bytes": size, "loading": figures, "differences": differences}, indent=2))
    assert {name: tuple(ours[name].shape) for name in ("image_token_features", "text_token_features")} == {
        "image_token_features": (1, 729, 1152),
        "text_token_features": (2, 8, 1152),
    }
    assert max(differences.values()) < 1e-4
    assert max(differences[name] for name in ("image_features", "text_features")) < 1e-5
