"""Folders of pictures with their tables: every file accounted for, every cell as it was written."""

import os
import socket
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import helpers
from helpers.datasets import concept_columns, mask_folder

CASES = Path(__file__).parent / "cases" / "tables"


def read(name, **how):
    return helpers.image_folder(CASES / "pictures", CASES / name, **how).set_index("file")


def fault(error, *named):
    """The message quotes what it is about."""
    for item in named:
        assert item in str(error.value), str(error.value)


@pytest.fixture
def folder(tmp_path):
    """a.JPG, b.png and below/c.tif."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "below/c.tif"):
        Image.new("RGB", (4, 4)).save(folder / name)
    return folder


def table_of(folder, text, name="labels.csv"):
    file = folder.parent / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


# --- tables are text --------------------------------------------------------------------------------------------------


def test_only_an_empty_cell_is_missing():
    label = read("classes-that-look-missing.csv")["label"]
    assert label[["a.png", "b.png", "c.png"]].tolist() == ["None", "NA", "null"]
    assert label[["d.png", "e.png", "f.png"]].isna().all()


def test_names_and_numbers_of_patients_stay_themselves():
    group = read("ids-are-text.csv")["group"]
    assert group.tolist()[:5] == ["007", "7", "1.10", "1.1", "9007199254740993"]
    assert group.isna().tolist() == [False] * 5 + [True]


@pytest.mark.parametrize(("name", "labels"), [("trailing-comma", "xy"), ("empty-rows", "xy"), ("blanks", "xx")])
def test_what_spreadsheets_leave_behind(name, labels):
    table = read(f"{name}.csv")
    assert list(table.columns) == ["path", "label"]
    assert table["label"].dropna().tolist() == list(labels)
    assert table["label"].dropna().index.tolist() == ["a.png", "b.png"]


def test_concepts_are_found_by_what_they_hold_and_not_by_their_place(folder):
    table = read("concepts-before-group.csv")
    assert concept_columns(table) == ["vacuoles", "granules"]
    assert table["vacuoles"].tolist()[:4] == [1, 0, 1, 0] and table["vacuoles"].isna().sum() == 2
    file = table_of(folder, "small,file,note,TRUE,size,all,label,none\n1,b.png,1,True,1,1,1,\n0,a.JPG,x,FALSE,2,1,0,\n")
    table = helpers.image_folder(folder, file)
    assert concept_columns(table) == ["small", "TRUE", "all"]
    assert list(table.columns) == ["path", "file", "small", "note", "TRUE", "size", "all", "label", "none"]
    assert table["label"].tolist()[:2] == ["0", "1"]
    assert table["size"].tolist()[:2] == ["2", "1"] and table["none"].isna().all()


def test_numbers_for_classes_take_a_mapping():
    assert read("integer-labels.csv")["label"].tolist()[:4] == ["0", "1", "0", "1"]
    for names in ({0: "round", 1: "band"}, {"0": "round", "1": "band"}):
        assert read("integer-labels.csv", names=names)["label"].tolist()[:4] == ["round", "band"] * 2
    with pytest.raises(ValueError) as error:
        read("integer-labels.csv", names={0: "round"})
    fault(error, "'1'")


def test_groups_with_gaps():
    assert read("groups-with-gaps.csv")["group"].isna().tolist() == [False, True, False, True, True, True]


@pytest.mark.parametrize(
    "text",
    [
        "file;label;size\nb.png;x;1,5\na.JPG;y;2,5\n",
        "file\tlabel\tsize\nb.png\tx\t1,5\na.JPG\ty\t2,5\n",
        "sep=;\nfile;label;size\nb.png;x;1,5\na.JPG;y;2,5\n",
        '\ufefffile,label,size\r\nb.png,x,"1,5"\r\n\r\na.JPG,y,"2,5"\r\n',
        "file;label;size\nb.png;x;1,5\na.JPG;y;2,5\n".encode("utf-16"),
        ',file,label,size\n0,b.png,x,"1,5"\n1,a.JPG,y,"2,5"\n',
        'file,label,size\n\u200bb.png\u00a0,\u200bx,"1,5\u00a0"\n"a.JPG", y\u2060,"2,5"\n',
        'file,label,size,,\nb.png,x,"1,5",,\na.JPG,y,"2,5"\n',
    ],
    ids=["semicolons", "tabs", "sep=", "mark and CRLF", "UTF-16", "pandas' row numbers", "unseen", "empty columns"],
)
def test_tables_as_programs_write_them(folder, text):
    table = helpers.image_folder(folder, table_of(folder, text))
    assert list(table.columns) == ["path", "file", "label", "size"]
    assert table["label"].tolist()[:2] == ["y", "x"]
    assert table["size"].tolist()[:2] == ["2,5", "1,5"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name,kind\nb.png,x\n", ["'file'", "'name', 'kind'"]),
        ("file,kind\nb.png,x\nz.png,y\n", ["1 of 2", "'z.png'"]),
        ("file,kind\nb.png,x\nb.png,y\n", ["'b.png'", "lines 2 and 3"]),
        ("file,kind\nb.png,x\n./b.png,y\n", ["'b.png'", "lines 2 and 3"]),
        ("file,kind\nb.png,x\n,y\n", ["line 3", "'file'"]),
        ("file,path\nb.png,x\n", ["'path'"]),
        ("file,kind,kind\nb.png,x,y\n", ["'kind'"]),
        ("file,,kind\nb.png,7,x\na.JPG,8,y\n", ["column 2", "'7'"]),
        ("", ["empty"]),
        (",,\n\n", ["empty"]),
        ("file,kind\nb.png,gr\xf6\xdfer\n".encode("latin-1"), ["line 2", "UTF-8"]),
        ("file,kind\nb.png,x\nc.png,y,z\n", ["line 3"]),
        ('file,kind\nb.png,"x\n', ["CSV"]),
        (b"file,kind\0\nb.png,x\n", ["UTF-8"]),
        ("file,label\nb.png,Band cell\na.JPG,band  cell\n", ["'Band cell'", "'band  cell'"]),
        ("file,label\nb.png,band\na.JPG,ba\u200bnd\n", ["'band'", r"'ba\u200bnd'"]),
    ],
)
def test_tables_that_do_not_fit(folder, text, named):
    with pytest.raises(ValueError) as error:
        helpers.image_folder(folder, table_of(folder, text))
    if "label" not in str(text):
        fault(error, "'labels.csv'")
    fault(error, *named)


def test_two_spellings_take_a_mapping(folder):
    file = table_of(folder, "file,label\nb.png,Band cell\na.JPG,band  cell\n")
    table = helpers.image_folder(folder, file, names={"Band cell": "band", "band  cell": "band"})
    assert table["label"].tolist()[:2] == ["band", "band"]


def test_a_column_named_as_one_of_the_results(folder):
    table = helpers.image_folder(folder, table_of(folder, "path,kind\nb.png,x\n"), file_column="path")
    assert list(table.columns) == ["path", "file", "kind"]
    assert table["path"][1] == folder / "b.png"
    with pytest.raises(ValueError) as error:
        helpers.image_folder(folder, table_of(folder, "name,file\nb.png,x\n"), file_column="name")
    fault(error, "'labels.csv'", "'file'")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("labels.xlsx", b"PK\x03\x04 and so on", "workbook"),
        ("labels.csv", b"PK\x03\x04 and so on", "workbook"),  # renamed
        ("labels.xls", b"\xd0\xcf\x11\xe0", "workbook"),
        ("lost.csv", None, "no such file"),
        ("a folder", "folder", "is a folder"),
    ],
)
def test_not_there_is_told_from_there_but_not_read(folder, name, data, said):
    file = folder.parent / name
    if data == "folder":
        file.mkdir()
    elif data is not None:
        file.write_bytes(data)
    with pytest.raises(ValueError) as error:
        helpers.image_folder(folder, file)
    fault(error, repr(name), said)


def test_rows_of_files_that_are_there_but_no_pictures(folder):
    (folder / "scan.dcm").write_bytes(b"x")
    with pytest.raises(ValueError) as error, warnings.catch_warnings(record=True):
        helpers.image_folder(folder, table_of(folder, "file\nscan.dcm\nb.png\na.jpg\n"))
    fault(error, "not there: 'a.jpg' (there is 'a.JPG')", "not of a kind that we read, or hidden: 'scan.dcm'")


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("disk", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_names_match_in_either_unicode_form(tmp_path, disk, written):
    name, photos = "Größe é.png", tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (4, 4)).save(photos / unicodedata.normalize(disk, name))
    table = helpers.image_folder(photos, table_of(photos, f"file,label\n{unicodedata.normalize(written, name)},x\n"))
    assert table["file"].tolist() == [unicodedata.normalize(disk, name)]  # as it is on the disk
    assert table["label"].tolist() == ["x"]


def test_a_name_that_may_be_either_of_two(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for form in ("NFC", "NFD"):
        Image.new("RGB", (4, 4)).save(photos / unicodedata.normalize(form, "é.png"))
    table = table_of(photos, "file,label\n" + unicodedata.normalize("NFD", "é.png") + ",x\n")
    assert helpers.image_folder(photos, table)["label"].notna().sum() == 1  # the very same name
    with pytest.raises(ValueError) as error:
        helpers.image_folder(photos, table_of(photos, "file\n./" + unicodedata.normalize("NFC", "é.png")))
    fault(error, "é.png")


def test_slashes_of_either_kind_and_whole_paths(folder):
    for name in ("below\\c.tif", "./below/c.tif", "below//c.tif", str(folder / "below/c.tif")):
        table = helpers.image_folder(folder, table_of(folder, f'file,label\n"{name}",x\n'))
        assert table.set_index("file")["label"].dropna().to_dict() == {"below/c.tif": "x"}


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_no_text(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (4, 4)).save(photos / os.fsdecode(b"gr\xf6\xdfe.png"))
    table = helpers.image_folder(photos, table_of(photos, b"file,label\ngr\xf6\xdfe.png,x\n"))
    assert table["label"].tolist() == ["x"] and os.fsencode(table["file"][0]) == b"gr\xf6\xdfe.png"
    written = helpers.files.write_csv(tmp_path / "out" / "table.csv", table.drop(columns="path"))
    assert helpers.image_folder(photos, written)["label"].tolist() == ["x"]


# --- every file -------------------------------------------------------------------------------------------------------


def test_folder_without_a_table(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = helpers.image_folder(folder)
    assert table["file"].tolist() == ["a.JPG", "b.png", "below/c.tif"]
    assert list(table.columns) == ["path", "file"] and table.index.tolist() == [0, 1, 2]
    assert all(path.is_file() for path in table["path"])


def test_what_is_left_out_is_counted(folder):
    for name in ("notes.txt", "more.TXT", "below/scan.dcm", "README", "._a.JPG", ".DS_Store"):
        (folder / name).write_bytes(b"x")
    for name in (".ipynb_checkpoints", "below/.thumbnails"):
        (folder / name).mkdir()
        Image.new("RGB", (4, 4)).save(folder / name / "c.png")
    (folder / "results.png").mkdir()
    (folder / "labels.csv").write_text("file,label\nb.png,x\n")
    with pytest.warns(UserWarning) as said:
        table = helpers.image_folder(folder, folder / "labels.csv")
    assert table["file"].tolist() == ["a.JPG", "b.png", "below/c.tif"]
    assert len(said) == 1
    for count in ("2 × .txt", "1 × .dcm", "1 × without an ending", "3 × hidden"):
        assert count in str(said[0].message)
    assert ".csv" not in str(said[0].message)  # the table itself
    inside = helpers.image_folder(folder / ".ipynb_checkpoints")  # asked for by its own name
    assert inside["file"].tolist() == ["c.png"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_are_followed_and_circles_stopped(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (4, 4)).save(elsewhere / "d.png")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "below" / "up").symlink_to(folder)
    (folder / "below" / "self").symlink_to(folder / "below")
    (elsewhere / "back").symlink_to(folder / "linked")
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    table = helpers.image_folder(folder)
    assert table["file"].tolist() == ["a.JPG", "b.png", "below/c.tif", "gone.png", "linked/d.png"]
    (folder / "twice").symlink_to(folder / "below")
    with pytest.warns(UserWarning, match=rf"'{folder.name}': 1\b"):
        assert "twice/c.tif" in helpers.image_folder(folder)["file"].tolist()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
def test_a_pipe_is_not_opened(folder):
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(folder / "socket.png"))
        with pytest.warns(UserWarning, match="2 ×"):
            assert len(helpers.image_folder(folder)) == 3


def test_a_forbidden_folder_is_an_error(folder, monkeypatch):
    scan = os.scandir

    def scandir(path):
        if Path(path).name == "below":  # as root may read all, the system's answer is given here
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ValueError) as error:
        helpers.image_folder(folder)
    fault(error, "'below'", "Permission denied")


def test_no_folder_and_no_pictures(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"x")
    for name, said in (("absent", "no such folder"), ("a.zip", "it is a file")):
        with pytest.raises(ValueError) as error:
            helpers.image_folder(tmp_path / name)
        fault(error, repr(name), said)
    with pytest.raises(ValueError) as error:
        helpers.image_folder(tmp_path)
    fault(error, "no images", "1 × .zip")


def test_the_folder_that_one_stands_in(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert helpers.image_folder(".")["file"].tolist() == ["a.JPG", "b.png", "below/c.tif"]


# --- one folder for each class ----------------------------------------------------------------------------------------


def test_labels_from_folders(tmp_path):
    for name in ("band cell/1.png", "band cell/patient 7/2.png", "None/3.png", "é/4.png"):
        file = tmp_path / unicodedata.normalize("NFD", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(file)
    table = helpers.image_folder(tmp_path, "folders")
    assert table["label"].tolist() == ["None", "band cell", "band cell", "é"]
    Image.new("RGB", (4, 4)).save(tmp_path / "alone.png")
    with pytest.warns(UserWarning, match=rf"{tmp_path.name}: 1\b"):
        assert helpers.image_folder(tmp_path, "folders")["label"].isna().sum() == 1
    named = helpers.image_folder(tmp_path / "band cell", "folders", names={"patient 7": "seven"})
    assert named["label"].dropna().tolist() == ["seven"]


def test_folders_that_are_no_classes(folder, tmp_path):
    with pytest.raises(ValueError) as error:
        helpers.image_folder(folder / "below", "folders")
    fault(error, "'below'")
    for name in ("split/train/a/1.png", "split/test/a/1.png", "case/Band/1.png", "case/band/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    with pytest.raises(ValueError) as error:
        helpers.image_folder(tmp_path / "split", "folders")
    fault(error, "'test', 'train'")
    with pytest.raises(ValueError) as error:
        helpers.image_folder(tmp_path / "case", "folders")
    fault(error, "'Band'", "'band'")


def test_text_columns_are_the_same_for_every_pandas(folder):
    table = helpers.image_folder(folder, table_of(folder, "file,label,c\nb.png,x,1\n"))
    assert table.dtypes.astype(str).to_dict() == {"path": "object", "file": "object", "label": "object", "c": "float64"}
    assert isinstance(table["label"][0], float) and np.isnan(table["label"][0])
    assert pd.isna(table["c"]).tolist() == [True, False, True]


def test_arguments_of_another_kind(folder):
    table = table_of(folder, "file,g,group\nb.png,1,1\n")
    # One column's name is no list of letters: "g" stood in "group".
    assert concept_columns(helpers.image_folder(folder, table, text_columns="group")) == ["g"]
    for labels in (pd.DataFrame({"file": ["b.png"]}), {"b.png": "x"}, 5):
        with pytest.raises(TypeError, match=f"labels.*{type(labels).__name__}"):
            helpers.image_folder(folder, labels)
    for place in (None, 5, [folder], os.fsencode(folder)):
        with pytest.raises(TypeError, match=f"folder.*{type(place).__name__}"):
            helpers.image_folder(place)
        with pytest.raises(TypeError, match=f"folder.*{type(place).__name__}"):
            mask_folder(folder, place)


def test_every_collected_case_is_in_a_test():
    said = "".join(file.read_text(encoding="utf-8") for file in Path(__file__).parent.glob("test_*.py"))
    for file in [*CASES.glob("*.*"), *(CASES.parent / "images").iterdir()]:
        kind = file.name.replace("black", "{kind}").replace("white", "{kind}")
        assert any(name in said for name in (file.name, kind, f'"{file.stem}"')), file.name
