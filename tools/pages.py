"""Notebooks to pages that need nothing but a browser: no script, font, picture or formula comes from elsewhere.

nbconvert renders the cells. What is done here is the frame around them, the index, the glossary, the search, and what
nbconvert leaves to the network or undone: formulas become MathML, which browsers draw themselves; live widgets become
a line that says where they live; figures get the text printed beside them as their description, and a width below
which they are not made smaller; code that only draws is folded; the line "*core · 5 min*" below a heading becomes a
badge; links between notebooks lead from page to page. One page alone has a script, the search: its library is in
`tools/vendor`.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import os
import re
import struct
import textwrap
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

import nbformat
from bs4 import BeautifulSoup, Tag
from jinja2 import Environment, FileSystemLoader
from latex2mathml.converter import convert
from markupsafe import Markup, escape
from nbconvert import HTMLExporter
from nbconvert.filters import strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from PIL import Image
from pygments.formatters import HtmlFormatter

from tools.cards import thumbnail
from tools.chapters import BUILD, README, ROOT, SOLUTIONS, WIDGET, Chapter, chapters

HTML = BUILD / "html"
TEMPLATES = Path(__file__).with_name("templates")
LUNR = Path(__file__).with_name("vendor") / "lunr.min.js"
MARK = re.compile(r"(core|optional|reference) · (\d+ min)\Z")
"""The line below a section's heading."""
DRAWS = {"plt", "sns", "mpl", "ax", "axes", "fig", "figure", "plots"}
"""Names in a statement that draws."""
SCRIPTED = ("application/javascript", "application/vnd.jupyter.widget-view+json", "application/vnd.plotly.v1+json")
WIDGET_NOTE = (
    '<p class="widget-note">An interactive widget stands here. It lives in JupyterLab: <code>make lab</code>.</p>'
)
MATHML = "{http://www.w3.org/1998/Math/MathML}"
ElementTree.register_namespace("", MATHML[1:-1])
LANGUAGE_INFO = {"name": "python", "pygments_lexer": "ipython3"}


class Renderer(IPythonRenderer):
    """nbconvert's Markdown, with formulas in MathML and every local picture embedded.

    A formula that cannot be turned is shown as it was written, or, when `strict`, an error.
    """

    def __init__(self, *args, strict: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        self.strict = strict

    def inline_math(self, body: str) -> str:
        return self._formula(body, "inline")

    def block_math(self, body: str) -> str:
        return self._formula(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return self._formula(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")

    def _formula(self, latex: str, display: str) -> str:
        try:
            return mathml(latex, display)
        except ValueError:
            if self.strict:
                raise
            return f"<code>{escape(latex.strip())}</code>"

    def _html_embed_images(self, html: str) -> str:
        # nbconvert's own parses the piece of HTML, and so closes a <details> whose text is yet to come.
        return re.sub(
            r'(<img[^>]*?\ssrc=")([^"]+)(")', lambda m: m[1] + self._embed_image_or_attachment(m[2]) + m[3], html
        )

    def _src_to_base64(self, src: str) -> str | None:
        # nbconvert's own takes pictures from below the notebook's folder only; ours may stand anywhere.
        path = (Path(self.path) / unquote(src)).resolve()
        if "://" in src or src.startswith("data:") or not path.is_file():
            return None
        kind = {".jpg": "jpeg", ".svg": "svg+xml"}.get(path.suffix.lower(), path.suffix.lower()[1:])
        return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def mathml(latex: str, display: str) -> str:
    """One formula as MathML, or a `ValueError` that shows the formula."""
    try:
        root = ElementTree.fromstring(convert(latex.strip(), display=display))
    except Exception as error:
        raise ValueError(f"this formula cannot be turned into MathML ({type(error).__name__}): {latex}") from error
    unknown = [node.text for node in root.iter() if node.text and (node.text.startswith("\\") or node.text == "&")]
    if unknown:
        raise ValueError(f"MathML has no {unknown[0]!r} as it stands in this formula, write it otherwise: {latex}")
    for row in [root, *root.iter(f"{MATHML}mrow")]:
        _space_functions(row)
    return ElementTree.tostring(root, encoding="unicode")


def _space_functions(row: ElementTree.Element) -> None:
    """The thin spaces that TeX sets around the name of a function, as in s cos θ."""
    for i, node in reversed(list(enumerate(row))):
        if node.tag == f"{MATHML}mi" and len(node.text or "") > 1:
            around = [row[i + 1] if i + 1 < len(row) else None, row[i - 1] if i else None]
            for side, neighbour in zip((i + 1, i), around, strict=True):
                if neighbour is not None and neighbour.tag != f"{MATHML}mo":
                    row.insert(side, ElementTree.Element(f"{MATHML}mspace", width="0.17em"))


def markdown(source: str, folder: Path = ROOT, *, strict: bool = False) -> str:
    """Markdown to HTML; pictures are looked for from `folder`."""
    renderer = Renderer(escape=False, embed_images=True, path=str(folder), anchor_link_text="#", strict=strict)
    return MarkdownWithMath(renderer=renderer).render(source)


class Exporter(HTMLExporter):
    """Notebook to the HTML of its cells, without a page around them."""

    def __init__(self, folder: Path):
        super().__init__(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)
        self.folder = folder

    def default_filters(self):
        yield from super().default_filters()
        yield "markdown2html", self._markdown

    def _markdown(self, source: str) -> str:
        return markdown(source, self.folder)


class Section(NamedTuple):
    """A section of a page, for its list of contents."""

    anchor: str
    title: str
    kind: str
    """core, optional, reference, or empty where the notebook does not say."""


def cells_html(nb: NotebookNode, path: Path) -> str:
    """The cells of an executed notebook as HTML; links and pictures are resolved from `path`, where it is committed."""
    return str(_cells(nb, path))


def _cells(nb: NotebookNode, path: Path) -> BeautifulSoup:
    nb = nbformat.from_dict(nb)
    nb.metadata = NotebookNode(language_info=LANGUAGE_INFO)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.outputs = [_without_scripts(output) for output in cell.outputs]
            _describe_figures(cell)
    soup = BeautifulSoup(Exporter(path.parent).from_notebook_node(nb)[0], "html.parser")
    for style in soup.select("style"):
        style.decompose()
    for table in soup.select("table.dataframe"):
        del table["border"]
        table.wrap(soup.new_tag("div", attrs={"class": "scrolls", "tabindex": "0"}))
    for link in soup.select("a[href]"):
        link["href"] = _from_page(link["href"], path)
    _badges(soup)
    for drawn in soup.select(".output_png img, .output_jpeg img"):
        drawn.wrap(soup.new_tag("div", attrs={"class": "scrolls figure", "tabindex": "0"}))
        if width := _width(drawn.get("src", "")):
            drawn["style"] = f"--natural: {width}px"
    shown = [cell for cell in nb.cells if cell.cell_type == "code"]
    for cell, rendered in zip(shown, soup.select("div.code_cell"), strict=True):
        code = rendered.select_one(".input")
        if code is not None and only_draws(cell):
            lines = len(cell.source.splitlines())
            summary = soup.new_tag("summary")
            summary.string = f"Code of this figure ({lines} lines)"
            code.wrap(soup.new_tag("details", attrs={"class": "folded"})).insert(0, summary)
    return soup


def _badges(soup: BeautifulSoup) -> None:
    """The line `*core · 5 min*` below a heading, as a badge."""
    for heading in soup.select("h2, h3"):
        below = heading.find_next_sibling()
        first = below.find("em") if isinstance(below, Tag) and below.name == "p" else None
        match = MARK.match(first.get_text()) if first is not None and below.get_text().startswith(first.text) else None
        if match is None:
            continue
        badge = soup.new_tag("span", attrs={"class": "badge"})
        badge.string = match[1]
        line = soup.new_tag("p", attrs={"class": f"mark {match[1]}"})
        line.extend([badge, f" {match[2]}"])
        first.extract()
        heading.insert_after(line)
        if not below.get_text(strip=True):
            below.decompose()


def only_draws(cell: NotebookNode) -> bool:
    """Whether a code cell shows a figure, and five lines and half of its lines at least are there to draw it."""
    figure = any(kind.startswith("image/") for output in cell.get("outputs", []) for kind in output.get("data", {}))
    try:
        statements = ast.parse(cell.source).body
    except SyntaxError:
        return False
    drawing = total = 0
    for statement in statements:
        lines = (statement.end_lineno or statement.lineno) - statement.lineno + 1
        names = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        names |= {node.attr for node in ast.walk(statement) if isinstance(node, ast.Attribute)}
        total += lines
        drawing += lines if names & DRAWS else 0
    return figure and drawing >= 5 and 2 * drawing >= total


def _width(source: str) -> int | None:
    """The width in pixels of a picture in a data address."""
    kind, _, data = source.partition(";base64,")
    if kind == "data:image/png":
        return struct.unpack(">I", base64.b64decode(data[:44])[16:20])[0]
    if kind == "data:image/jpeg":
        return Image.open(io.BytesIO(base64.b64decode(data))).width
    return None


def _without_scripts(output: NotebookNode) -> NotebookNode:
    data = output.get("data", {})
    if WIDGET in data:
        output.data = NotebookNode({"text/html": WIDGET_NOTE})
    else:
        for kind in SCRIPTED:
            data.pop(kind, None)
    return output


def _describe_figures(cell: NotebookNode) -> None:
    """Give figures the text printed beside them as their description, for readers who do not see them."""
    printed = " ".join(output.text for output in cell.outputs if output.get("name") == "stdout")
    described = textwrap.shorten(strip_ansi(printed), 240, placeholder=" …")
    for output in cell.outputs:
        for kind in ("image/png", "image/jpeg"):
            if kind in output.get("data", {}):
                alt = cell.metadata.get("alt") or described or "A figure; the text around it says what it shows."
                output.metadata[kind] = NotebookNode(output.metadata.get(kind, {})) | {"alt": alt}


def _from_page(href: str, path: Path) -> str:
    """A link of the notebook at `path`, as its page in build/html must say it."""
    target, hash_, anchor = href.partition("#")
    if not target or re.match(r"[a-z]+:", target):
        return href
    linked = Path(os.path.normpath(path.parent / unquote(target)))
    if linked.suffix == ".ipynb":
        linked = page_of(linked)
    elif linked == _glossary():
        linked = HTML / "glossary.html"
    return Path(os.path.relpath(linked, page_of(path).parent)).as_posix() + hash_ + anchor


def page_of(path: Path) -> Path:
    """Where the page of a committed notebook, or of the glossary, lies."""
    if path == _glossary():
        return HTML / "glossary.html"
    folder = HTML / "solutions" if path.parent == SOLUTIONS else HTML
    return folder / f"{path.stem}.html"


def contents(soup: BeautifulSoup) -> list[Section]:
    """The sections of a page."""
    sections = []
    for heading in soup.select("h2[id]"):
        title = "".join(
            part.get_text() if isinstance(part, Tag) else part
            for part in heading.children
            if not (isinstance(part, Tag) and "anchor-link" in part.get("class", []))
        )
        mark = heading.find_next_sibling()
        marked = isinstance(mark, Tag) and "mark" in mark.get("class", [])
        sections.append(Section(heading["id"], " ".join(title.split()), mark["class"][1] if marked else ""))
    return sections


def introduction() -> str:
    """README's first paragraph: what this is, in a sentence."""
    for paragraph in README.read_text(encoding="utf-8").split("\n\n"):
        if paragraph and not paragraph.startswith(("#", "<", "!", "[", "```")):
            return markdown(paragraph)
    return ""


def render(notebooks: dict[Path, Path], note: str) -> Path:
    """Render notebooks (key: where one is committed; value: the file with the outputs to show) and what is around them.

    Pages that are not among `notebooks` and not there yet are rendered from their stored outputs, so that no link leads
    nowhere. Returns the index's path.
    """
    env = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    env.globals["style"] = _style()
    course = chapters()
    executed = {path: nbformat.read(file, as_version=4) for path, file in notebooks.items()}
    for chapter in course:
        for path in (chapter.path, chapter.solutions):
            if path not in executed and path.exists() and not page_of(path).exists():
                executed[path] = nbformat.read(path, as_version=4)
    for path, nb in executed.items():
        soup = _cells(nb, path)
        context = {"title": _title(nb, path), "body": Markup(str(soup)), "contents": contents(soup)}
        context |= _neighbours(path, course) | {"frame": _frame(path, course)}
        _write(page_of(path), env.get_template("page.html").render(context))
    read = {chapter: executed.get(chapter.path) or nbformat.read(chapter.path, as_version=4) for chapter in course}
    glossary = _glossary()
    if glossary.exists():
        soup = glossary_html(glossary)
        context = {"title": "Glossary", "body": Markup(str(soup)), "contents": [], "frame": _frame(glossary, course)}
        _write(page_of(glossary), env.get_template("page.html").render(context))
    index = HTML / "index.html"
    frame = _frame(index, course)
    _write_search(env, read, glossary, frame)
    cards = [
        {
            "chapter": chapter,
            "page": page_of(chapter.path).relative_to(HTML).as_posix(),
            "solutions": page_of(chapter.solutions).relative_to(HTML).as_posix()
            if chapter.solutions.exists()
            else None,
            "thumbnail": thumbnail(nb, chapter.number),
        }
        for chapter, nb in read.items()
    ]
    api = HTML / "api" / "helpers.html"  # of `tools.api`
    page = env.get_template("index.html").render(
        api=api.relative_to(HTML).as_posix() if api.exists() else None,
        cards=cards,
        frame=frame,
        note=note,
        introduction=Markup(introduction()),
        minutes=sum(chapter.minutes for chapter in course),
    )
    _write(index, page)
    return index


def _write(page: Path, html: str) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html, encoding="utf-8")


def _style() -> Markup:
    """The pages' style sheet; the colours of code for a light and for a dark screen stand in it."""
    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("xcode", "github-dark"))
    sheet = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    return Markup(f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n{sheet}")


def _glossary() -> Path:
    """Where the glossary is committed; it may be absent."""
    return ROOT / "docs" / "glossary.md"


def _try_page() -> Path:
    """The page that holds the model."""
    return ROOT / "docs" / "try" / "index.html"


def _frame(path: Path, course: list[Chapter]) -> dict:
    """What stands around a page: the list of chapters, and the links to what is for all of them."""
    page = page_of(path) if path.suffix != ".html" else path

    def link(target: Path) -> str:
        return Path(os.path.relpath(target, page.parent)).as_posix()

    listed = [
        {
            "number": chapter.number,
            "title": chapter.title,
            "href": link(page_of(chapter.path)),
            "here": path in (chapter.path, chapter.solutions),
        }
        for chapter in course
    ]
    return {
        "chapters": listed,
        "home": link(HTML / "index.html"),
        "search": link(HTML / "search.html"),
        "glossary": link(HTML / "glossary.html") if _glossary().exists() else None,
        "glossary_here": path == _glossary(),
        "try_page": link(_try_page()) if _try_page().exists() else None,
    }


def glossary_html(path: Path) -> BeautifulSoup:
    """The glossary as a page; its headings are called as on GitHub, where links to a term lead, too."""
    soup = BeautifulSoup(markdown(path.read_text(encoding="utf-8"), path.parent), "html.parser")
    for heading in soup.select("h1, h2, h3"):
        for link in heading.select("a.anchor-link"):
            link.decompose()
        heading["id"] = github_anchor(heading.get_text())
        link = soup.new_tag("a", attrs={"class": "anchor-link", "href": f"#{heading['id']}"})
        link.string = "#"
        heading.append(link)
    for link in soup.select("a[href]"):
        link["href"] = _from_page(link["href"], path)
    return soup


def github_anchor(heading: str) -> str:
    """The name of a heading's anchor on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.strip()).lower().replace(" ", "-")


def _write_search(env: Environment, read: dict[Chapter, NotebookNode], glossary: Path, frame: dict) -> None:
    """The page that searches: every section's text lies in it, and its only scripts are those of its checksums."""
    entries = []
    for chapter, nb in read.items():
        href = page_of(chapter.path).relative_to(HTML).as_posix()
        entries += [
            {"page": f"{chapter.number} {chapter.title}", "title": title, "href": href + anchor, "text": text}
            for title, anchor, text in sections_text(nb)
        ]
    if glossary.exists():
        parts = re.split(r"(?m)^#{2,3} (.+)$", glossary.read_text(encoding="utf-8"))[1:]
        entries += [
            {"page": "Glossary", "title": title, "href": f"glossary.html#{github_anchor(title)}", "text": words(text)}
            for title, text in zip(parts[::2], parts[1::2], strict=True)
        ]
    scripts = [LUNR.read_text(encoding="utf-8").strip(), (TEMPLATES / "search.js").read_text(encoding="utf-8").strip()]
    sums = [base64.b64encode(hashlib.sha256(f"\n{script}\n".encode()).digest()).decode() for script in scripts]
    page = env.get_template("search.html").render(
        frame=frame,
        entries=Markup(json.dumps(entries, ensure_ascii=False).replace("<", "\\u003c")),
        scripts=[Markup(script) for script in scripts],
        policy=Markup(" ".join(f"'sha256-{checksum}'" for checksum in sums)),
    )
    _write(HTML / "search.html", page)


def sections_text(nb: NotebookNode) -> list[tuple[str, str, str]]:
    """(title, "#anchor", words) of each section of a notebook, code with it; what stands before the first, too."""
    found: list[list[str]] = [["The notebook", "", ""]]
    for cell in nb.cells:
        if cell.cell_type != "markdown":
            found[-1][2] += f"\n{cell.source}"
            continue
        parts = re.split(r"(?m)^## (.+)$", cell.source)
        found[-1][2] += "\n" + words(parts[0])
        for heading, text in zip(parts[1::2], parts[2::2], strict=True):
            title = re.sub(r"[`*]", "", heading).strip()
            found.append([title, "#" + title.replace(" ", "-"), words(text)])
    return [(title, anchor, " ".join(text.split())) for title, anchor, text in found]


def words(source: str) -> str:
    """A Markdown text without its signs."""
    source = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", source)
    return " ".join(re.sub(r"<[^>\n]+>|[*`#|>]|^\s*[-+] ", " ", source).split())


def _title(nb: NotebookNode, path: Path) -> str:
    heading = re.match(r"# (.+)", nb.cells[0].source if nb.cells else "")
    return heading[1].strip() if heading else path.stem


def _neighbours(path: Path, course: list[Chapter]) -> dict:
    """Links to the chapter before, the one after, and between a chapter and its solutions."""
    here = page_of(path).parent
    stems = [chapter.path.stem for chapter in course]

    def link(target: Path) -> str:
        return Path(os.path.relpath(target, here)).as_posix()

    found = {"before": None, "after": None, "partner": None}
    if path.parent == SOLUTIONS:
        found["partner"] = ("To the notebook", link(page_of(SOLUTIONS.parent / path.name)))
    elif path.stem in stems:
        i = stems.index(path.stem)
        if i > 0:
            found["before"] = (course[i - 1].title, link(page_of(course[i - 1].path)))
        if i + 1 < len(course):
            found["after"] = (course[i + 1].title, link(page_of(course[i + 1].path)))
        if course[i].solutions.exists():
            found["partner"] = ("Solutions", link(page_of(course[i].solutions)))
    return found
