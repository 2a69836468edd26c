"""In reading order, no term of the glossary is used before it is defined or linked at its first use.

A term is what a heading of docs/glossary.md says, or what an entry is "also called". It is introduced by a link to its
entry, `[softmax](../docs/glossary.md#softmax)`, or by its definition in bold. What is read: the text of notebooks 01 to
06 without headings, code and formulas; and of code cells the strings with a blank in them, which readers see as labels
and printed lines. A notebook's first cell may name what will be learned: it can introduce a term, and need not.
"""

import ast
import re
from collections.abc import Iterator

import nbformat
import pytest

from tools.chapters import NOTEBOOKS, ROOT
from tools.links import anchors, broken_links

GLOSSARY = ROOT / "docs" / "glossary.md"
TEXT = GLOSSARY.read_text(encoding="utf-8")
ENTRIES = {title: body.strip() for title, body in re.findall(r"(?m)^### (.+)\n\n((?:(?!^#).*\n?)+)", TEXT)}
LAST = "06"  # the glossary is that of the core, 01 to 06

LINK = r"\[[^\]]*\]\([^)\s]*glossary\.md#(?P<anchor>[\w-]+)\)"
BOLD = r"\*\*(?P<bold>.+?)\*\*"


def terms(entries: dict[str, str] = ENTRIES) -> dict[str, str]:
    """Each term and each other name of it, in lower case, with the anchor of its entry."""
    found = {}
    for title, body in entries.items():
        for name in (title, *re.findall(r"also called \*(.+?)\*", body)):
            found[name.lower()] = title.lower().replace(" ", "-")
    return found


def pattern(names: dict[str, str]) -> str:
    """Any of the terms as a whole word, the longest first, also in the plural or with -d, -ed behind it."""
    return r"(?<![\w-])(" + "|".join(sorted(map(re.escape, names), key=len, reverse=True)) + r")(?:s|es|d|ed)?(?![\w-])"


def reading(nb: nbformat.NotebookNode) -> Iterator[str]:
    """What a reader reads, cell by cell."""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            text = re.sub(
                r"(?s)```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$|(?m:^#+ [^\n]*$)|<[^>\n]+>", " ", cell.source
            )
            yield re.sub(r"\[([^\]]*)\]\((?![^)]*glossary\.md#)[^)]*\)", r"\1", text)  # other links: their text
        else:
            strings = (node.value for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Constant))
            yield "\n".join(text for text in strings if isinstance(text, str) and " " in text)


def too_early(notebooks: dict[str, nbformat.NotebookNode], names: dict[str, str]) -> list[str]:
    """Each term that is used before it is introduced, with the place of its first use."""
    word = re.compile(pattern(names), re.IGNORECASE)
    tokens = re.compile(f"{LINK}|{BOLD}|{word.pattern}", re.IGNORECASE | re.DOTALL)
    known: set[str] = set()
    found: dict[str, str] = {}
    for name, nb in notebooks.items():
        for number, text in enumerate(reading(nb)):
            for match in tokens.finditer(text):
                if match["anchor"]:
                    known.add(match["anchor"])
                elif match["bold"]:
                    linked = re.findall(LINK, match["bold"])
                    known |= {names[term.lower()] for term in word.findall(match["bold"])} | set(linked)
                elif (anchor := names[match[match.lastindex].lower()]) not in known and number > 0:
                    around = text[max(0, match.start() - 40) : match.end() + 40].replace("\n", " ")
                    found.setdefault(anchor, f"{name}: #{anchor} in: …{around}…")
    return list(found.values())


def chapters() -> dict[str, nbformat.NotebookNode]:
    paths = [path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")) if path.name[:2] <= LAST]
    return {path.stem: nbformat.read(path, as_version=4) for path in paths}


def test_no_term_before_it_is_defined():
    early = too_early(chapters(), terms())
    assert not early, (
        "link these to docs/glossary.md, or define them in bold, where they are first used:\n" + "\n".join(early)
    )


def test_the_entries_are_in_order_and_short():
    titles = list(ENTRIES)
    assert len(titles) == len(re.findall(r"(?m)^### ", TEXT)) > 60
    assert titles == sorted(titles, key=str.casefold)
    assert len(terms()) == len({*terms()}) and set(terms().values()) <= anchors(TEXT)
    for title, body in ENTRIES.items():
        sentences = len(re.findall(r"[.?](?=\s|$)", body))
        assert 1 <= sentences <= 5, f"{title}: {sentences} sentences"


@pytest.mark.parametrize("page", ["glossary.md", "released_model.md"])
def test_the_links_of_the_pages(page):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert list(broken_links(text, ROOT / "docs", anchors(text))) == []


def test_a_snapshot_of_the_cache_is_not_what_is_copied():
    text = (ROOT / "docs" / "released_model.md").read_text(encoding="utf-8")
    assert "hf download JerrryNie/ConceptCLIP --local-dir" in text


# The check above, shown to fail and to pass.


def notebook(*sources: str, first: str = "# 01 Title", code: str = "") -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_markdown_cell(source) for source in (first, *sources)]
    return nbformat.v4.new_notebook(cells=cells + [nbformat.v4.new_code_cell(code)] * bool(code))


SMALL = {
    "Softmax": "A function.",
    "Attention": "A part.",
    "Attention pooling": "A layer.",
    "Weight": "also called *parameter*.",
}
LINKED = "The [choice](../docs/glossary.md#softmax) is a softmax."


@pytest.mark.parametrize(
    ("nb", "early"),
    [
        (notebook("A softmax chooses."), ["softmax"]),
        (notebook("Two softmaxes choose.", LINKED), ["softmax"]),
        (notebook(LINKED), []),
        (notebook("A **softmax** is a choice. The softmax adds up."), []),
        (notebook("# Softmax\n\n`softmax` and $softmax$", LINKED), []),
        (notebook("See [the softmax](04.ipynb)."), ["softmax"]),
        (notebook(code='print("share (softmax)")'), ["softmax"]),
        (notebook(code='x = table["softmax"]'), []),
        (notebook("It has **attention pooling** and attention."), ["attention"]),
        (notebook("Many parameters."), ["weight"]),
        (notebook("It chooses.", first=LINKED), []),
        (notebook("A softmax chooses.", first="You will be able to read a softmax."), ["softmax"]),
        (notebook("A softmax chooses.", first=LINKED), []),
        (notebook("**[Weights](../docs/glossary.md#weight)** are parameters."), []),
    ],
)
def test_the_check_can_fail(nb, early):
    found = too_early({"01": nb}, terms(SMALL))
    assert [re.search(r"#([\w-]+)", line)[1] for line in found] == early
