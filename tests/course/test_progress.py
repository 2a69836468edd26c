"""What was passed is remembered where it may be, shown as a table and as a page; no check ever fails for it."""

import json
import os
import stat
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

import helpers
from helpers.course.exercises import EXERCISES
from helpers.course.exercises.memory import PROGRESS_VARIABLE, progress_file, remembered


@pytest.fixture
def file(tmp_path, monkeypatch):
    file = tmp_path / "state" / "passed.json"
    monkeypatch.setenv(PROGRESS_VARIABLE, str(file))
    return file


def test_it_is_off_in_tests():
    assert os.environ[PROGRESS_VARIABLE] == "off" and progress_file() is None
    helpers.check("07-c", 6)
    assert remembered() == {} and set(helpers.course.passed()["passed"].iloc[:-1].str[:4]) == {"0 of"}


def test_it_lies_in_a_folder_of_the_user(monkeypatch):
    monkeypatch.delenv(PROGRESS_VARIABLE)
    assert progress_file().name == "passed.json" and progress_file().is_absolute()
    assert Path(__file__).parents[2] not in progress_file().parents


def test_only_what_is_right_is_remembered_and_the_first_time_counts(file):
    for name, answer in (("07-c", 6), ("08-a", 0.5), ("01-c", ...)):
        helpers.check(name, answer)
    assert list(json.loads(file.read_text())) == ["07-c"]
    file.write_text('{"07-c": "2026-01-31T09:30"}')
    helpers.check("07-c", 6)
    helpers.check("08-a", 1 / 12)
    assert remembered()["07-c"] == "2026-01-31T09:30" and set(remembered()) == {"07-c", "08-a"}
    assert [path.name for path in file.parent.iterdir()] == ["passed.json"]


def test_the_table(file):
    helpers.check("07-c", 6)
    table = helpers.course.passed()
    assert table.loc["07", ["a", "b", "c"]].tolist() == ["·", "·", "✓"]
    assert table.loc["07", "passed"] == "1 of 3" and table.loc["all", "passed"] == f"1 of {len(EXERCISES)}"
    assert list(table.index) == [*sorted({name[:2] for name in EXERCISES}), "all"]


def test_the_page(file, tmp_path):
    helpers.check("07-c", 6)
    file.write_text('{"07-c": "2026-01-31T09:30", "99-z": "2026-01-31T09:30"}')  # one that is no exercise any more
    helpers.course.passed(tmp_path / "mine.html", name="Ada <b>& Co</b>")
    page = BeautifulSoup((tmp_path / "mine.html").read_text(encoding="utf-8"), "html.parser")
    assert "Ada <b>& Co</b>" in page.text and "31 Jan 2026" in page.text and "1 of 3" in page.text
    assert "99" not in page.text and not page.select("b, script, link, img")
    helpers.course.passed(tmp_path / "new" / "mine.html")
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["mine.html"]
    with pytest.raises(ValueError, match="'new'"):
        helpers.course.passed(tmp_path / "new")


@pytest.mark.parametrize("damaged", ["{", "[1]", '{"07-c": 3}', '{"07-c": "soon"}', "\0"])
def test_a_damaged_file_breaks_no_check_and_is_named(file, capsys, damaged):
    file.parent.mkdir()
    file.write_text(damaged)
    helpers.check("07-c", 6)
    assert "07-c: correct." in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"passed\.json"):
        helpers.course.passed()
    helpers.course.forget()
    helpers.check("07-c", 6)
    assert set(remembered()) == {"07-c"}


def test_a_place_that_cannot_be_written_breaks_no_check(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(PROGRESS_VARIABLE, str(tmp_path / "file" / "passed.json"))
    helpers.check("07-c", 6)
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    monkeypatch.setenv(PROGRESS_VARIABLE, str(folder / "passed.json"))
    helpers.check("07-c", 6)
    assert capsys.readouterr().out.count("07-c: correct.") == 2
