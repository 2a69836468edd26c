"""The teacher's kit: every chapter has notes and questions, they name what exists, and the sheet prints on one page."""

import re
import shutil
import subprocess

import nbformat
import pytest

from tools import minutes, paths
from tools.chapters import FIRST_CELL, ROOT, chapters
from tools.sections import read, sections

TEACHING = ROOT / "teaching"
COURSE = chapters()
each = pytest.mark.parametrize("chapter", COURSE, ids=lambda chapter: chapter.number)
PARTS = ("Aim", "Usual wrong answers", "On the projector", "If a machine fails")
QUESTION = re.compile(
    r"^## (?P<number>\d+) (?P<objective>\S[^\n]*)\n\n(?P<ask>\S.*?)\n\n(?P<options>(?:- [A-E]\. [^\n]+\n)+)\n"
    r"<details><summary>Answer</summary>\n\n(?P<answers>(?:- [A-E] is (?:right|wrong)\. [^\n]+\n)+)\n</details>$",
    re.MULTILINE | re.DOTALL,
)


def first_cell(chapter):
    return nbformat.read(chapter.path, as_version=4).cells[0].source.strip()


def goals(chapter):
    """What the first cell says one will be able to do."""
    return re.findall(r"(?m)^[-*] ", FIRST_CELL.match(first_cell(chapter))["goals"])


def asked(text):
    """The questions of a file, each as its number, the letters of its options, and letter → right or wrong."""
    for match in QUESTION.finditer(text):
        answers = dict(re.findall(r"- ([A-E]) is (right|wrong)\. ", match["answers"]))
        yield int(match["number"]), re.findall(r"- ([A-E])\. ", match["options"]), answers


def check_questions(text, number_of_goals):
    found = list(asked(text))
    assert len(found) == len(re.findall(r"(?m)^## ", text)), "a question is not in the form of the others"
    assert [number for number, _, _ in found] == list(range(1, number_of_goals + 1)), "a question for each objective"
    for number, letters, answers in found:
        assert letters == list("ABCDE"[: len(letters)]) == list(answers), f"question {number}: options and answers"
        assert list(answers.values()).count("right") == 1, f"question {number}: one option is right"


@each
def test_questions(chapter):
    text = (TEACHING / "questions" / f"{chapter.path.stem}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {chapter.number} {chapter.title}: questions\n")
    check_questions(text, len(goals(chapter)))


def test_the_right_answer_is_no_habit():
    """A learner who always says B must not do well."""
    right = [
        letter
        for file in (TEACHING / "questions").glob("*.md")
        for _, _, answers in asked(file.read_text(encoding="utf-8"))
        for letter, said in answers.items()
        if said == "right"
    ]
    assert max(map(right.count, "ABC")) <= 0.45 * len(right)


@each
def test_notes(chapter):
    text = (TEACHING / "notes" / f"{chapter.path.stem}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {chapter.number} {chapter.title}: notes for teachers\n")
    assert [part for part in PARTS if f"\n**{part}.**" in text] == list(PARTS)
    found = read(chapter.path)
    exercises = {name for section in found for name in section.exercises}
    assert set(re.findall(rf"(?m)^- ({chapter.number}-\w+): ", text)) == exercises
    said = re.search(r"(?m)^\*Time\* (\d+) minutes core, (\d+) whole$", text)
    for number, counted in zip(said.groups(), minutes.core_and_whole(found), strict=True):
        assert minutes.is_honest(int(number), counted), "run `python -m tools.minutes --write`"
    titles = {section.title for section in found}
    quoted = set(re.findall(r"“([^”]+)”:? ", text.split("**On the projector.**")[1]))
    assert quoted <= titles, f"no such section: {quoted - titles}"


def test_nothing_is_left_over():
    stems = {chapter.path.stem for chapter in COURSE}
    for folder in ("notes", "questions"):
        assert {file.stem for file in (TEACHING / folder).glob("*.md")} == stems


def test_the_checks_can_fail():
    good = (
        "## 1 One\n\nAsk?\n\n- A. a\n- B. b\n\n"
        "<details><summary>Answer</summary>\n\n- A is right. Yes.\n- B is wrong. No.\n\n</details>\n"
    )
    check_questions(good, 1)
    for bad in (
        good.replace("A is right", "A is wrong"),
        good.replace("- B is wrong. No.\n", ""),
        good.replace("- B. b", "- C. b"),
        good.replace("\n\n</details>", ""),
        good + "\n## 2 Two\n\nAsk?\n",
    ):
        with pytest.raises(AssertionError):
            check_questions(bad, 1)
    with pytest.raises(AssertionError):
        check_questions(good, 2)


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium to print with")
def test_the_cheat_sheet_is_one_page_and_asks_for_nothing(tmp_path):
    sheet, printed = TEACHING / "cheat-sheet.html", tmp_path / "sheet.pdf"
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--print-to-pdf={printed}"]
    subprocess.run([*command, sheet.as_uri()], check=True, capture_output=True, timeout=240)
    assert len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes())) == 1
    html = sheet.read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<img|https?:", html)
    assert "size: A4" in html


def test_the_days_before_fit_on_a_page():
    """A page of 12 points holds about 700 words."""
    assert len((TEACHING / "room.md").read_text(encoding="utf-8").split()) <= 700


def test_the_three_hours_section_by_section():
    """Minutes in the table are those of the rule, for what the path keeps."""
    text = (TEACHING / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| (\d\d) \| (.+?) \| (\d+) \| \d+ \| .*\|$", text)
    said = {(number, "" if title.startswith("*before") else title): int(counted) for number, title, counted in rows}
    counted = {
        (chapter.number, section.title): section.minutes()
        for chapter, nb in paths.load()["three-hours"].notebooks().items()
        for section in sections(nb)
    }
    assert list(said) == list(counted)
    assert [place for place in said if not minutes.is_honest(said[place], counted[place])] == []


def test_the_three_hours_are_three_hours_for_a_learner():
    """By the reader's estimate, too, with five minutes to spare; and README says the sums that its table has."""
    text = (TEACHING / "README.md").read_text(encoding="utf-8")
    path = paths.load()["three-hours"]
    reading = sum(int(minutes) for minutes in re.findall(r"(?m)^\| \d\d \| .+? \| \d+ \| (\d+) \| .*\|$", text))
    whole = reading + sum(part.minutes for part in path.parts if part.chapter is None)
    assert f"By the estimate they are {reading}, and {whole} of the {path.slot} with the rest." in text
    assert whole <= path.slot - 5


def by_memory():
    """GB that a first cell asks for → the numbers of those notebooks."""
    found = {}
    for chapter in COURSE:
        found.setdefault(re.search(r"\*Memory\* (.+?) GB", first_cell(chapter))[1], []).append(chapter.number)
    return found


@pytest.mark.parametrize("page", ["teaching/room.md", "binder/README.md"])
def test_pages_name_the_notebooks_that_need_more_memory(page):
    """And no others: what says `*Memory* 1 GB` in its first cell is not named."""
    said = (ROOT / page).read_text(encoding="utf-8")
    listed = re.findall(r"[Nn]otebooks? ([\d, and]+) needs? ([\d.]+) GB", said)
    assert {size: re.findall(r"\d\d", numbers) for numbers, size in listed} | {"1": by_memory()["1"]} == by_memory()


def test_the_largest_notebooks_get_3_gb_on_a_server():
    said = (TEACHING / "room.md").read_text(encoding="utf-8")
    assert f"3 GB where notebook {' or '.join(by_memory()['2'])} is done" in said
