"""`helpers.export`: the towers as ONNX give torch's numbers, for any number of pictures and prompts of any length."""

import json
import sys

import numpy as np
import pytest
import torch
from random_released import write_random

import helpers
from helpers import export as exporting

onnx = pytest.importorskip("onnx", reason="needs pip install -e '.[export]'")
pytest.importorskip("onnxscript", reason="needs pip install -e '.[export]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs pip install -e '.[export]'")


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A small random model in released form: its folder."""
    return write_random(tmp_path_factory.mktemp("models") / "released")


@pytest.fixture(scope="module")
def loaded(released):
    return helpers.load(released, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def written(released, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx") / "out"
    assert exporting.main([str(released), "--out", str(folder)]) == 0
    return folder


def session(folder, name):
    return onnxruntime.InferenceSession(str(folder / name), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_pictures(loaded, written, count):
    model, _ = loaded
    pixels = torch.rand(count, 3, 384, 384, generator=torch.Generator().manual_seed(count)) * 2 - 1
    with torch.no_grad():
        wanted = model(pixel_values=pixels)
    names = ["image_features", "image_token_features"]
    got = session(written, "image.onnx").run(names, {"pixel_values": pixels.numpy()})
    for name, theirs in zip(names, got, strict=True):
        np.testing.assert_allclose(theirs, wanted[name].numpy(), rtol=0, atol=1e-4)
    assert got[1].shape == (count, 729, model.config.vision_config.hidden_size)
    assert got[0].std() > 0.01  # not one number everywhere


@pytest.mark.parametrize("texts", [["nucleus"], ["a cell with a round nucleus", "cell"], ["red blood cells " * 40] * 3])
def test_prompts(loaded, written, texts):
    """Padding is told apart by the file itself, as in the model: there is one input."""
    model, processor = loaded
    ids = processor.tokenizer(texts, padding=True, truncation=True, max_length=77, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        wanted = model(input_ids=ids)
    names = ["text_features", "text_token_features"]
    text = session(written, "text.onnx")
    for name, theirs in zip(names, text.run(names, {"input_ids": ids.numpy()}), strict=True):
        np.testing.assert_allclose(theirs, wanted[name].numpy(), rtol=0, atol=1e-4)
    alone = processor.tokenizer(texts[-1:], truncation=True, max_length=77, return_tensors="pt")["input_ids"].numpy()
    features = text.run(["text_features"], {"input_ids": alone})[0][0]
    np.testing.assert_allclose(features, wanted["text_features"][-1].numpy(), rtol=0, atol=1e-4)


def test_what_the_folder_says(loaded, written):
    model, _ = loaded
    report = json.loads((written / "export.json").read_text("utf-8"))
    scalars = {
        "logit_scale": model.logit_scale.exp().item(),
        "logit_bias": model.logit_bias.item(),
        "concept_logit_scale": model.concept_logit_scale.exp().item(),
        "concept_logit_bias": model.concept_logit_bias.item(),
    }
    assert report["scalars"] == pytest.approx(scalars, rel=1e-6)
    assert max(report["largest_difference_from_torch"].values()) <= exporting.TOLERANCE
    assert report["opset"] == exporting.OPSET
    for name, axes in {"image.onnx": ["images", 3, 384, 384], "text.onnx": ["prompts", "tokens"]}.items():
        file = onnx.load(written / name)
        assert {op.domain: op.version for op in file.opset_import}[""] == exporting.OPSET
        shape = file.graph.input[0].type.tensor_type.shape.dim
        assert [dim.dim_param or dim.dim_value for dim in shape] == axes
        kept = {entry.key: float(entry.value) for entry in file.metadata_props if entry.key in scalars}
        assert kept == pytest.approx(scalars, rel=1e-6)
    assert (written / "tokenizer.json").is_file() and (written / "processor_config.json").is_file()


def test_refuses(loaded, released, written, tmp_path, capsys):
    with pytest.raises(ValueError, match=written.name):
        exporting.export(*loaded, written)
    for opset in (9, "20"):
        with pytest.raises(ValueError, match="opset"):
            exporting.export(*loaded, tmp_path / "new", opset=opset)
    with pytest.raises(TypeError, match=r"processor.*NoneType"):  # it was found out when both towers were written
        exporting.export(loaded[0], None, tmp_path / "new")
    with pytest.raises(TypeError, match="model"):
        exporting.export(None, loaded[1], tmp_path / "new")
    half = helpers.load(released, device="cpu", dtype="bfloat16")
    with pytest.raises(ValueError, match="float32"):
        exporting.export(*half, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert exporting.main([str(tmp_path / "nothing"), "--out", str(tmp_path / "new")]) == 1
    assert "nothing" in capsys.readouterr().err


def test_a_difference_is_an_error(loaded, tmp_path, monkeypatch):
    """The files are run and compared where they are written."""
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    monkeypatch.setattr(exporting, "_write", lambda *_: None)
    monkeypatch.setattr(exporting, "_compare", lambda tower, *_: dict.fromkeys(tower.output_names, 0.0))
    with pytest.raises(ValueError, match="image_features"):
        exporting.export(*loaded, tmp_path / "new")


def test_a_missing_package_is_named(loaded, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"\[export\]"):
        exporting.export(*loaded, tmp_path / "new")
