"""`python -m helpers.doctor`: what it finds, and that each finding has a cure."""

import os
import platform
import re
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
    assert doctor.main([]) == 1
    assert "1 problem;" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("Hub token", "note", "none", "log in")])
    assert doctor.main([]) == 0


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
        path = os.environ | {"PYTHONPATH": str(tmp_path), "COLUMNS": "120"}  # pytest-xdist sets another width
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


def a_slip(**said):
    """A line as a learner hands it in."""
    usual = {"slip": "a1b2", "system": "Linux-x86_64", "python": "3.12.4", "torch": "2.13.0", "transformers": "5.23.0"}
    usual |= {"jupyterlab": "4.6.6", "memory": "5.1/8.0GB", "cores": "4", "vector": "-52.573", "seconds": "0.021"}
    usual |= {"problems": "none"}
    return " ".join([doctor.SLIP, *(f"{key}={value}" for key, value in (usual | said).items())])


def test_a_slip_is_one_line_that_names_nobody(monkeypatch):
    monkeypatch.setenv("USER", "ada")
    findings = [
        Finding("Hub token", "note", "none"),
        Finding("Real cells", "problem", "changed: /home/ada/x", "get it"),
    ]
    said = doctor.slip(findings, measure=lambda: (1.23456, 0.0214))
    assert "\n" not in said and "ada" not in said and platform.node() not in said
    assert " vector=1.235 seconds=0.021 problems=Real-cells" in said
    (read,) = [dict(re.findall(r"([a-z]+)=(\S+)", match)) for match in doctor.SLIP_LINE.findall(said)]
    assert tuple(read) == doctor.KEYS and "missing" not in read.values()
    assert read["slip"] != doctor.slip([], measure=lambda: (1.0, 1.0)).split("slip=")[1][:4]


def test_a_slip_of_a_machine_where_nothing_works(monkeypatch):
    def broken():
        raise ImportError("no torch")

    def nothing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", nothing)
    said = doctor.slip([], measure=broken)
    assert "torch=missing" in said and "vector=ImportError" in said and "seconds=missing" in said


def test_the_vector_is_the_same_each_time_and_another_with_another_model(tiny_model_folder, tmp_path):
    shipped, seconds = doctor.one_cell()
    assert shipped == pytest.approx(doctor.one_cell()[0], abs=1e-6) and seconds > 0
    data = tmp_path / "data"
    (data / "atlas").mkdir(parents=True)
    (data / "conceptclip-mini").symlink_to(tiny_model_folder)
    (data / "atlas" / "images").symlink_to(doctor.DATA / "atlas" / "images")
    assert abs(doctor.one_cell(data)[0] - shipped) > doctor.SAME_VECTOR


@pytest.mark.parametrize("folder", [True, False], ids=["a folder", "a file"])
def test_thirty_slips_become_a_table(tmp_path, folder):
    lines = [a_slip(slip=f"{i:04x}", seconds=f"0.02{i % 10}") for i in range(24)]
    odd = {
        "0100": ({"memory": "0.4/4.0GB"}, "less than 1 GB free"),
        "0101": ({"torch": "2.6.0"}, "most have torch 2.13.0"),
        "0102": ({"vector": "-51.1"}, "another vector"),
        "0103": ({"seconds": "4.2"}, "slow"),
        "0104": ({"problems": "Jupyter,Atlas"}, "problems: Jupyter,Atlas"),
        "0105": ({"vector": "ImportError", "torch": "missing", "seconds": "missing"}, "no torch, seconds"),
    }
    lines += [a_slip(slip=slip, **said) for slip, (said, _) in odd.items()]
    lines[3] = "> " + lines[3].replace(" ", "\n> ", 4)  # as a mail program quotes it
    if folder:
        for i, line in enumerate(lines):
            (tmp_path / f"learner {i}.txt").write_text(f"Hello,\nhere it is:\n{line}\nBest wishes\n")
        (tmp_path / "again.txt").write_text(lines[0])
        (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\x00\xff")
        source = tmp_path
    else:
        source = tmp_path / "chat.txt"
        source.write_text("\n".join(["09:12", *lines, lines[0]]))
    *rows, empty, total = doctor.collected(source).splitlines()
    assert not empty and total == "30 machines, 24 ok, 6 to look at."
    said = {row[:4]: row for row in rows[1:]}
    assert len(said) == 30 and set(list(said)[:6]) == set(odd), "those to look at stand first"
    for slip, (_, remark) in odd.items():
        assert remark in said[slip]
    assert all(row.endswith(" ok") for slip, row in said.items() if slip not in odd)


def test_nothing_to_collect_is_said(tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("nothing")
    assert doctor.main(["--collect", str(tmp_path)]) == 1
    assert doctor.SLIP in capsys.readouterr().err
    assert doctor.main(["--collect", str(tmp_path / "nowhere")]) == 1
    assert "nowhere" in capsys.readouterr().err


def test_the_report_ends_with_the_line_and_share_prints_it_alone(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("Hub token", "note", "none", "log in")])
    monkeypatch.setattr(doctor, "slip", lambda findings: f"{doctor.SLIP} slip=1")
    doctor.main([])
    assert capsys.readouterr().out.splitlines()[-1] == f"{doctor.SLIP} slip=1"
    doctor.main(["--share"])
    assert capsys.readouterr().out == f"{doctor.SLIP} slip=1\n"
