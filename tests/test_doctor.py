"""`python -m helpers.doctor`: what it finds, and that each finding has a cure."""

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest
import torch

from helpers import doctor
from helpers.doctor import Finding
from tools import checksums


def data_folder(tmp_path):
    """A data/ with two parts, each a table and one picture, and the sums of all."""
    data = tmp_path / "data"
    for part in ("atlas", "cells"):
        (data / part / "images").mkdir(parents=True)
        (data / part / "cells.csv").write_text("id\n1\n2\n")
        (data / part / "images" / "001.jpg").write_bytes(b"a picture")
    checksums.write(data)
    return data


def test_old_python_is_a_problem():
    assert doctor.python((3, 10, 13)).state == "problem"
    assert doctor.python((3, 11, 0)).state == "ok"


def test_missing_and_old_packages_are_named():
    def installed(name):
        if name == "seaborn":
            raise PackageNotFoundError(name)
        return "1.0" if name == "torch" else version(name)

    found = doctor.packages(installed=installed)
    assert found.state == "problem" and found.cure
    assert "seaborn is missing" in found.found and "torch is 1.0, not >=" in found.found
    assert doctor.packages().state == "ok"


def test_installed_without_the_repository(tmp_path):
    for found in (doctor.packages(tmp_path / "pyproject.toml"), doctor.atlas(tmp_path / "data")):
        assert found.state == "problem" and "without its" in found.found and found.cure


def test_whole_atlas_and_real_cells(tmp_path):
    data = data_folder(tmp_path)
    assert doctor.atlas(data) == Finding("Atlas", "ok", "2 cells")
    assert doctor.real_cells(data) == Finding("Real cells", "ok", "2 photographs")


@pytest.mark.parametrize(("part", "check"), [("atlas", doctor.atlas), ("cells", doctor.real_cells)])
@pytest.mark.parametrize("harm", ["changed", "missing", "unsummed", "no table"])
def test_damaged_data(tmp_path, harm, part, check):
    data = data_folder(tmp_path)
    picture = data / part / "images" / "001.jpg"
    if harm == "changed":
        picture.write_bytes(b"another picture")
    elif harm == "missing":
        picture.unlink()
    elif harm == "unsummed":
        (data / doctor.CHECKSUMS).unlink()
    else:
        (data / part / "cells.csv").unlink()
    found = check(data)
    assert found.state == "problem" and found.cure
    if harm in ("changed", "missing"):
        assert f"{part}/images/001.jpg" in found.found


def test_sums_are_what_sha256sum_reads(tmp_path):
    data = data_folder(tmp_path)
    try:
        done = subprocess.run(["sha256sum", "--check", doctor.CHECKSUMS], cwd=data, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no sha256sum on this machine")
    assert done.returncode == 0 and done.stdout.count(": OK") == 4


@pytest.mark.parametrize(
    ("source", "state"), [("", "ok"), ("JerrryNie/ConceptCLIP", "ok"), ("no/such/folder/here", "problem")]
)
def test_chosen_model(source, state):
    assert doctor.chosen_model(source).state == state


def test_chosen_folder(tmp_path):
    assert doctor.chosen_model(str(tmp_path)).state == "ok"


def test_a_token_is_never_shown(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_thisIsNobodysTokenButLong")
    found = list(doctor.hub())
    assert "there is one" in next(f.found for f in found if f.topic == "Hub token")
    assert "Nobody" not in "".join(map(repr, found))


def test_no_token_is_only_a_note(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    token = next(f for f in doctor.hub() if f.topic == "Hub token")
    assert token.state == "note" and token.cure


@pytest.mark.parametrize("gigabytes, state", [(0.1, "problem"), (2.0, "note"), (100.0, "ok")])
def test_room(gigabytes, state):
    assert doctor.disk(gigabytes * 1e9).state == state
    assert doctor.memory(gigabytes * 1e9).state == state


def test_no_browser_is_only_a_note():
    found = doctor.browser(which=lambda name: None)
    assert found.state == "note" and "Chromium" in found.found and found.cure


def test_a_check_that_breaks_is_a_finding():
    def broken():
        raise OSError("libsomething.so: no such file")

    (found,) = doctor.examine([broken])
    assert found.state == "problem" and "libsomething.so" in found.found


def test_lines_fit_and_cures_stand_below():
    text = doctor.line(Finding("Disk", "note", "0.5 GB free " * 12, "Free some. " * 12), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("note     Disk") and "-> Free some." in text


def test_exit_code(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("Atlas", "problem", "gone", "get it")])
    assert doctor.main() == 1
    assert "1 problem;" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("Hub token", "note", "none", "log in")])
    assert doctor.main() == 0


def test_as_a_command():
    done = subprocess.run([sys.executable, "-m", "helpers.doctor"], capture_output=True, text=True, cwd=doctor.ROOT)
    assert done.returncode in (0, 1), done.stderr
    for topic in ("Python", "Packages", "PyTorch", "Device", "Jupyter", "Shipped model", "Atlas", "Disk", "Memory"):
        assert topic in done.stdout


@pytest.mark.parametrize("missing", ["torch", "transformers", "PIL"])
def test_as_a_command_without_a_core_package(tmp_path, missing):
    """It names what is missing, with a cure, and goes on; using helpers leads to it."""
    said = f"No module named '{missing}'"
    (tmp_path / f"{missing}.py").write_text(f'raise ModuleNotFoundError("{said}", name="{missing}")')

    def python(*arguments):
        path = os.environ | {"PYTHONPATH": str(tmp_path)}
        return subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, cwd=doctor.ROOT, env=path, check=False
        )

    done = python("-m", "helpers.doctor")
    assert (done.returncode, done.stderr) == (1, "")
    found = {line[9:28].strip(): line[:9].strip() for line in done.stdout.splitlines() if line[:1].strip()}
    assert found["model family"] == "problem" and found["Atlas"] == "ok" and "Disk" in found
    assert said in done.stdout and doctor.INSTALL in done.stdout
    used = python("-c", "import helpers; helpers.load()")
    assert said in used.stderr and "`python -m helpers.doctor`" in used.stderr


def test_bfloat16_that_a_card_only_emulates_is_not_its_default(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert "float32 on cuda" in doctor.model_family().found
    assert "bfloat16" not in doctor.model_family().found
