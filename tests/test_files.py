"""Writers leave the whole file or the old one; readers of anything foreign say so."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import helpers
from helpers.encoding import ImageEncodings, load_encodings
from helpers.files import beside, read_table, write_csv, write_text

NO_TEXT = os.fsdecode(b"gr\xf6\xdfe.png")


def encodings(names=("a.png", "b.png")):
    count = len(names)
    return ImageEncodings(torch.ones(count, 4), None, (2, 2), torch.arange(count), list(names))


WRITERS = {
    "text": lambda file: write_text(file, "new"),
    "csv": lambda file: write_csv(file, pd.DataFrame({"x": ["new"]})),
    "report": lambda file: helpers.write_report(
        file, "new", {"Names": pd.DataFrame({"file": [NO_TEXT, "$5$"]}, dtype=object)}
    ),
    "encodings": lambda file: encodings((NO_TEXT, "$5$")).save(file),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_folders_are_made_and_nothing_else_is_left(tmp_path, write):
    file = tmp_path / "new" / "below" / "out"
    assert write(file) == file
    assert file.stat().st_size and [path.name for path in file.parent.iterdir()] == ["out"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_place_that_cannot_be_written_to(tmp_path, write):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "file" / "out", tmp_path / "folder", tmp_path / ("x" * 300)):
        with pytest.raises(ValueError) as error:
            write(target)
        assert repr(target.name) in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_links_and_permissions_stay(tmp_path, write):
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() != b"old"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640


def test_what_fails_leaves_the_old_file(tmp_path):
    file = write_text(tmp_path / "out", "old")
    with pytest.raises(KeyError), beside(file) as unfinished:
        unfinished.write_text("half")
        raise KeyError
    assert file.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_two_writers_do_not_meet(tmp_path):
    """Both begin before either ends: a name made of the file's or the process' alone would be one and the same."""
    with beside(tmp_path / "out") as first, beside(tmp_path / "out") as second:
        assert first != second and first.parent == second.parent == tmp_path
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "out").read_text() == "first"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: write_text(tmp_path / "many", str(k) * 10_000), range(10)))
    text = (tmp_path / "many").read_text()
    assert len(text) == 10_000 and len(set(text)) == 1


def test_names_that_are_no_text_survive(tmp_path):
    page = helpers.write_report(
        tmp_path / "r.html",
        NO_TEXT,
        {NO_TEXT: [NO_TEXT, pd.DataFrame([[NO_TEXT]], columns=pd.Index([NO_TEXT], dtype=object), dtype=object)]},
    )
    assert page.read_text("utf-8").count(r"gr\udcf6\udcdfe.png") == 6
    assert load_encodings(encodings((NO_TEXT, "a")).save(tmp_path / "e.safetensors")).names == [NO_TEXT, "a"]
    table = pd.DataFrame(
        {"file": [NO_TEXT, 'a "quoted", b', "=1+1", "$5$"], "label": ["None", "NA", "x\ny", "007"]}, dtype=object
    )
    again = read_table(write_csv(tmp_path / "t.csv", table), key="file")
    assert again.to_dict("list") == table.to_dict("list")
    with pytest.raises(ValueError) as error:
        read_table(tmp_path / "t.csv", key="label")
    assert "line 2" in str(error.value)


@pytest.mark.parametrize(
    ("tensors", "meta"),
    [
        ({"x": torch.zeros(1)}, None),
        ({"x": torch.zeros(1)}, {"kind": "images"}),
        ({"features": torch.zeros(2, 4)}, {"kind": "images", "extra": "no json"}),
        ({"features": torch.zeros(2, 4)}, {"kind": "images", "extra": "[1]"}),
        ({"features": torch.zeros(2, 4)}, {"kind": "texts", "extra": "{}"}),
        ({"features": torch.zeros(2, 4), "index": torch.arange(2), "x": torch.zeros(1)}, "images"),
        ({"features": torch.zeros(2, 4), "index": torch.arange(3)}, "images"),
        ({"features": torch.zeros(3, 4), "index": torch.arange(3)}, "images"),
        ({"features": torch.zeros(2), "index": torch.arange(2)}, "images"),
        ({"features": torch.zeros(2, 4).long(), "index": torch.arange(2)}, "images"),
        ({"features": torch.zeros(2, 4), "index": torch.arange(2), "tokens": torch.zeros(1, 4, 4)}, "images"),
    ],
)
def test_files_of_others_are_no_encodings(tmp_path, tensors, meta):
    if meta == "images":
        extra = {"grid": [2, 2], "names": ["a", "b"], "failures": [], "projected": True}
        meta = {"kind": "images", "extra": json.dumps(extra)}
    save_file(tensors, tmp_path / "other.safetensors", metadata=meta)
    with pytest.raises(ValueError) as error:
        load_encodings(tmp_path / "other.safetensors")
    assert "other.safetensors" in str(error.value)


@pytest.mark.parametrize("data", [b"", b"not one", b"PK\x03\x04", b"\x80\x04." * 5])
def test_files_of_another_kind_are_no_encodings(tmp_path, data):
    (tmp_path / "e.pt").write_bytes(data)
    for file in (tmp_path / "e.pt", tmp_path / "absent.pt", tmp_path):
        with pytest.raises(ValueError) as error:
            load_encodings(file)
        assert file.name in str(error.value)
