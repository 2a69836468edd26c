"""The packages for a stick: which are listed for a system, and what is typed. Nothing is downloaded here."""

import pytest

from tools import wheelhouse
from tools.wheelhouse import SYSTEMS

RESOLVED = "# a remark\nnumpy==2.4.6\ntorch==2.13.0\nnvidia-cublas==1.0\ntriton==3.0\ntorchmetrics==1.0\n    # via x\n"


def test_linux_leaves_out_what_brings_cuda_and_all_bring_setuptools():
    linux = [line.split("==")[0] for line in wheelhouse.wanted(RESOLVED, SYSTEMS["linux"])]
    assert linux == ["numpy", "setuptools", "torchmetrics"]
    windows = [line.split("==")[0] for line in wheelhouse.wanted(RESOLVED, SYSTEMS["windows"])]
    assert "torch" in windows and "setuptools" in windows


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_commands(name, capsys):
    assert wheelhouse.main([name, "--python", "3.12"]) == 0
    printed = capsys.readouterr().out
    assert f"build/wheelhouse/{name}" in printed and "3.12" in printed
    assert all(tag in printed for tag in SYSTEMS[name].tags) and "--only-binary=:all:" in printed
    for line in SYSTEMS[name].install:
        assert line.format(name=name) in printed


@pytest.mark.parametrize("wrong", [["amiga"], ["linux", "--python", "3.9"], ["--python", "3"]])
def test_what_there_is_not_is_refused(wrong):
    with pytest.raises(SystemExit):
        wheelhouse.main(wrong)


def test_a_download_lists_what_was_resolved_and_calls_pip(tmp_path, monkeypatch):
    called = []

    def run(command, **options):
        called.append((command, options))
        return type("Done", (), {"stdout": RESOLVED})()

    monkeypatch.setattr(wheelhouse, "FOLDER", wheelhouse.ROOT / "build" / "wheelhouse-of-a-test")
    monkeypatch.setattr(wheelhouse.subprocess, "run", run)
    folder = wheelhouse.download(SYSTEMS["macos"], "3.12")
    try:
        assert folder.with_suffix(".txt").read_text(encoding="utf-8").startswith("numpy==2.4.6\n")
        (resolve, options), (download, _) = called
        assert "aarch64-apple-darwin" in resolve and options["env"]["MACOSX_DEPLOYMENT_TARGET"] == "14.0"
        assert download[1:4] == ["-m", "pip", "download"] and "macosx_14_0_arm64" in download
    finally:
        folder.with_suffix(".txt").unlink()
        folder.rmdir()
        folder.parent.rmdir()
