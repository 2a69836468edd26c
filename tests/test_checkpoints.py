"""Checkpoints that people have, dtypes by argument and by environment, and claims about the shipped model."""

import argparse
import copy
import warnings

import numpy as np
import pytest
import torch
from reference_conceptclip import GEOMETRY, config_json, random_weights
from safetensors.torch import save_file
from small_model import make_model
from torch import nn

import helpers
from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPModel, released
from helpers.loading import Checkpoint, is_shipped, load_checkpoint, pick_dtype


@pytest.fixture(scope="module")
def trained() -> ConceptCLIPModel:
    return make_model(seed=1)


class Wrapper(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.classifier = nn.Linear(64, 3)


def same(model: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in model.state_dict().items())


def prefixed(state: dict, prefix: str) -> dict:
    return {prefix + name: tensor for name, tensor in state.items()}


SHAPES_OF_FILES = {
    "plain": lambda s: s,
    "a wrapper's": lambda s: prefixed(s, "model."),
    "DataParallel": lambda s: prefixed(s, "module."),
    "both": lambda s: prefixed(s, "module.model."),
    "compiled": lambda s: prefixed(s, "_orig_mod."),
    "another name": lambda s: prefixed(s, "clip_backbone."),
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "state_dict of a wrapper": lambda s: {"state_dict": prefixed(s, "model."), "best": 0.5, "note": "x"},
    "model and optimizer": lambda s: {
        "model": s,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-3}]},
    },
    "deep": lambda s: {"ema": {"shadow": {"state_dict": s}}},
    "harmless things beside": lambda s: {
        "args": argparse.Namespace(lr=1e-3),
        "auroc": np.float64(0.9),
        "state_dict": s,
    },
    "half": lambda s: {name: tensor.half().float() for name, tensor in s.items()},
}


@pytest.mark.parametrize("how", SHAPES_OF_FILES)
@pytest.mark.parametrize("end", [".pth", ".safetensors"])
def test_files_that_people_have(trained, tmp_path, how, end):
    state = SHAPES_OF_FILES[how]({name: tensor.clone() for name, tensor in trained.state_dict().items()})
    path = tmp_path / f"best{end}"
    if end == ".safetensors":
        if any(not isinstance(value, torch.Tensor) for value in state.values()):
            pytest.skip("safetensors hold tensors alone")
        save_file(state, path)
    else:
        torch.save(state, path)
    model = make_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = load_checkpoint(model, path)
    assert isinstance(result, Checkpoint) and result.model is model
    assert how == "half" or same(model, trained)
    assert result.placed == sorted(model.state_dict()) and result.missing == result.unplaced == []
    fresh = load_checkpoint(trained.config, path).model
    assert type(fresh) is ConceptCLIPModel and not fresh.training
    assert how == "half" or same(fresh, trained)


@pytest.mark.parametrize("prefix", ["", "model.", "module.clip."])
def test_released_names(tmp_path, prefix):
    weights = random_weights(GEOMETRY)
    torch.save({"state_dict": prefixed(weights, prefix)}, tmp_path / "released.pth")
    model = ConceptCLIPModel(ConceptCLIPConfig.from_dict(config_json(GEOMETRY)))
    assert load_checkpoint(model, tmp_path / "released.pth").unplaced == []
    save_file(weights, tmp_path / "model.safetensors")
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = released.read([tmp_path / "model.safetensors"], shapes)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_what_cannot_be_placed_is_listed(trained, tmp_path):
    torch.save({"state_dict": Wrapper(trained).state_dict(), "optimizer": {"m": torch.zeros(1)}}, tmp_path / "w.pth")
    model = make_model()
    with pytest.warns(UserWarning, match=r"w\.pth.*classifier\.bias"):
        result = load_checkpoint(model, tmp_path / "w.pth")
    assert result.unplaced == ["state_dict.classifier.bias", "state_dict.classifier.weight"]
    assert same(model, trained)


def test_missing_and_misshapen(trained, tmp_path):
    state = dict(trained.state_dict())
    del state["text_projection.weight"]
    torch.save(state, tmp_path / "part.pth")
    model, untouched = make_model(), make_model()
    with pytest.raises(ValueError, match=r"(?s)part\.pth.*text_projection\.weight"):
        load_checkpoint(model, tmp_path / "part.pth")
    assert same(model, untouched)
    result = load_checkpoint(model, tmp_path / "part.pth", partial=True)
    assert result.missing == ["text_projection.weight"]
    assert torch.equal(model.text_projection.weight, untouched.text_projection.weight)
    state["image_proj.0.weight"] = torch.zeros(3, 3)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=r"(?s)bad\.pth.*image_proj\.0\.weight: \(3, 3\).*\(64, 64\)"):
        load_checkpoint(make_model(), tmp_path / "bad.pth", partial=True)


def test_several_models_in_one_file(trained, tmp_path):
    torch.save(
        prefixed(trained.state_dict(), "student.") | prefixed(make_model().state_dict(), "teacher."), tmp_path / "t.pth"
    )
    with pytest.raises(ValueError, match=r"t\.pth.*student\..*teacher\."):
        load_checkpoint(make_model(), tmp_path / "t.pth")
    model = make_model(seed=2)
    with pytest.warns(UserWarning, match="teacher"):
        load_checkpoint(model, tmp_path / "t.pth", prefix="student.")
    assert same(model, trained)
    with pytest.raises(ValueError, match=r"'nobody\.'"):
        load_checkpoint(model, tmp_path / "t.pth", prefix="nobody.")


def test_nothing_is_executed(trained, tmp_path):
    torch.save(trained, tmp_path / "whole.pth")
    with pytest.raises(ValueError, match=r"whole\.pth.*ConceptCLIPModel.*state_dict\(\)"):
        load_checkpoint(make_model(), tmp_path / "whole.pth")


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.pth"):
        load_checkpoint(make_model(), tmp_path / "no.pth")
    with pytest.raises(FileNotFoundError, match="none"):
        load_checkpoint(make_model(), tmp_path)
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"version https://git-lfs")
        with pytest.raises(ValueError, match=name):
            load_checkpoint(make_model(), tmp_path / name)
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "resnet.pth")
    with pytest.raises(ValueError, match=r"resnet\.pth"):
        load_checkpoint(make_model(), tmp_path / "resnet.pth")
    with pytest.raises(TypeError, match="Linear"):
        load_checkpoint(nn.Linear(1, 1), tmp_path / "resnet.pth")


def test_a_trainers_folder(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    torch.save({"state": {}}, tmp_path / "optimizer.pt")
    model = make_model()
    load_checkpoint(model, tmp_path)
    assert same(model, trained)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_lora_adapter(tmp_path, wrapped):
    peft = pytest.importorskip("peft")
    base = make_model()
    trained = copy.deepcopy(base)
    config = peft.LoraConfig(target_modules=["q_proj", "v_proj", "query"], r=4, modules_to_save=["text_projection"])
    adapted = peft.get_peft_model(Wrapper(trained) if wrapped else trained, config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or "modules_to_save" in name:
            parameter.data.normal_(generator=torch.Generator().manual_seed(0))
    adapted.save_pretrained(tmp_path / "adapter")
    merged = adapted.merge_and_unload()
    expected = merged.model if wrapped else merged
    model = make_model()
    result = load_checkpoint(model, tmp_path / "adapter")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], msg=name)
    assert "text_projection.weight" in result.placed and not same(model, base)
    assert all(parameter.requires_grad for parameter in model.parameters())
    # An adapter of another model: nothing is changed.
    other = make_model(vision_config=base.config.vision_config.to_dict() | {"num_hidden_layers": 1})
    before = copy.deepcopy(other)
    with pytest.raises(ValueError, match=r"adapter.*(?s:.*)layers\.1\."):
        load_checkpoint(other, tmp_path / "adapter")
    assert same(other, before)


def test_state_dict_is_as_strict_as_a_file(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    half = dict(list(trained.state_dict().items())[::2])
    lacking = list(trained.state_dict())[1]
    for source, more in ((tmp_path, {}), (None, {"config": trained.config})):
        with pytest.raises(ValueError, match=lacking):
            ConceptCLIPModel.from_pretrained(source, state_dict=half, **more)
    whole = ConceptCLIPModel.from_pretrained(None, config=trained.config, state_dict=trained.state_dict())
    assert same(whole, trained)
    trained.save_pretrained(tmp_path / "v", variant="fp16")
    assert same(ConceptCLIPModel.from_pretrained(tmp_path / "v", variant="fp16"), trained)
    save_file(half, tmp_path / "v" / "model.fp16.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=lacking):
        ConceptCLIPModel.from_pretrained(tmp_path / "v", variant="fp16")


# -- dtypes


def test_float32_is_the_default_everywhere(tiny_model_folder, monkeypatch):
    monkeypatch.delenv("CONCEPTCLIP_DTYPE", raising=False)
    for device in ("cpu", "cuda", "mps"):
        assert pick_dtype(None, torch.device(device), make_model().config) == torch.float32
    assert helpers.load(tiny_model_folder, device="cpu")[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
        ("torch.float16", torch.float16),
        (" BF16 ", torch.bfloat16),
        ("float32", torch.float32),
        ("auto", torch.float32),
        ("", torch.float32),
    ],
)
def test_dtype_by_argument_and_environment(tiny_model_folder, monkeypatch, value, dtype):
    monkeypatch.setenv("CONCEPTCLIP_DTYPE", value)
    assert helpers.load(tiny_model_folder, device="cpu")[0].dtype == dtype
    assert helpers.load(tiny_model_folder, device="cpu", dtype="float32")[0].dtype == torch.float32
    if value.strip():
        monkeypatch.setenv("CONCEPTCLIP_DTYPE", "float32")
        assert helpers.load(tiny_model_folder, device="cpu", dtype=value)[0].dtype == dtype


@pytest.mark.parametrize("value", ["float8", "int8", "double precision", "fastest!", "Tensor"])
def test_a_bad_dtype_is_named(tiny_model_folder, monkeypatch, value):
    with pytest.raises(ValueError, match=rf"dtype.*'{value}'"):
        helpers.load(tiny_model_folder, device="cpu", dtype=value)
    monkeypatch.setenv("CONCEPTCLIP_DTYPE", value)
    with pytest.raises(ValueError, match=rf"CONCEPTCLIP_DTYPE.*'{value}'"):
        helpers.load(tiny_model_folder, device="cpu")
    for strange in (torch.int8, torch.float8_e4m3fn, 16):
        with pytest.raises(ValueError, match="dtype"):
            helpers.load(tiny_model_folder, device="cpu", dtype=strange)


# -- claims about the shipped model


def test_claims_hold_for_the_shipped_weights_alone(capsys, tiny_model_folder):
    model, _ = helpers.load(helpers.MODEL_ID, device="cpu", dtype="float32")
    assert is_shipped(model)
    helpers.holds(model, True, "something")
    helpers.holds(model, np.array([True, True]))
    helpers.holds(model, lambda: 1 == 1)
    assert capsys.readouterr().out == ""
    for false in (False, np.array([True, False]), lambda: False):
        with pytest.raises(AssertionError, match="something"):
            helpers.holds(model, false, "something")
    fine_tuned = copy.deepcopy(model)
    with torch.no_grad():
        fine_tuned.logit_bias += 0.1
    others = [
        fine_tuned,
        helpers.load(helpers.MODEL_ID, device="cpu", dtype="bfloat16")[0],
        helpers.load(tiny_model_folder, device="cpu", dtype="float32")[0],
    ]
    for other in others:
        helpers.holds(other, False, "something")
        helpers.holds(other, lambda: 1 / 0, "something")
        printed = capsys.readouterr().out
        assert printed.count("something") == 2 == printed.count("\n")
    assert is_shipped(nn.DataParallel(model).module) and not is_shipped(None)


@pytest.mark.parametrize("wrong", [torch.full((64, 64), torch.nan), torch.ones(64, 64, dtype=torch.int64)])
def test_weights_that_are_no_numbers_are_told(trained, tmp_path, wrong):
    state = trained.state_dict() | {"image_proj.0.weight": wrong}
    torch.save(state, tmp_path / "a.pth")
    model = make_model()
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match=r"image_proj\.0\.weight"):
        load_checkpoint(model, tmp_path / "a.pth")
    assert same(model, before)


def test_bytes_that_are_no_file_of_weights_are_told(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"abc" * 100)
    with pytest.raises(ValueError, match=r"a\.pth"):
        load_checkpoint(make_model(), tmp_path / "a.pth")


def test_what_is_not_there_is_both_kinds_of_error(tmp_path):
    for call in (lambda: load_checkpoint(make_model(), tmp_path / "b.pth"), lambda: helpers.load(tmp_path / "b")):
        for kind in (FileNotFoundError, ValueError):
            with pytest.raises(kind, match="b"):
                call()


def test_a_model_without_values_takes_no_checkpoint(trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="meta"):
        load_checkpoint(make_model().to("meta"), tmp_path / "a.pth")


def test_an_adapter_of_another_size_and_an_adapter_without_its_folder(tmp_path):
    peft = pytest.importorskip("peft")
    small = make_model(widths=(32, 24))
    adapted = peft.get_peft_model(small, peft.LoraConfig(target_modules=["q_proj", "query"]))
    adapted.save_pretrained(tmp_path / "lora")
    model = make_model()
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match="lora"):
        load_checkpoint(model, tmp_path / "lora")
    assert same(model, before)
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors.*adapter_config\.json"):
        load_checkpoint(model, tmp_path / "lora" / "adapter_model.safetensors")


def test_a_source_that_is_no_folder():
    with pytest.raises(TypeError, match=r"source.*ConceptCLIPModel"):
        helpers.load(make_model())
