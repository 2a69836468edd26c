"""Notebooks to pages that need nothing but a browser: no script, font, picture or formula comes from elsewhere.

nbconvert renders the cells. What is done here is the frame around them, the index, and four things that nbconvert
leaves to the network or undone: formulas become MathML, which browsers draw themselves; live widgets become a line
that says where they live; figures get the text printed beside them as their description; links between notebooks
lead from page to page.
"""

from __future__ import annotations

import base64
import io
import os
import re
import textwrap
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import nbformat
from bs4 import BeautifulSoup
from jinja2 import Environment, FileSystemLoader
from latex2mathml.converter import convert
from markupsafe import Markup, escape
from nbconvert import HTMLExporter
from nbconvert.filters import strip_ansi
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from PIL import Image
from pygments.formatters import HtmlFormatter

from tools.chapters import BUILD, README, ROOT, SOLUTIONS, WIDGET, Chapter, chapters

HTML = BUILD / "html"
THUMBNAIL = (640, 360)
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


def cells_html(nb: NotebookNode, path: Path) -> str:
    """The cells of an executed notebook as HTML; links and pictures are resolved from `path`, where it is committed."""
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
    return str(soup)


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
    linked = page_of(linked) if linked.suffix == ".ipynb" else linked
    return Path(os.path.relpath(linked, page_of(path).parent)).as_posix() + hash_ + anchor


def page_of(path: Path) -> Path:
    """Where the page of a committed notebook lies."""
    folder = HTML / "solutions" if path.parent == SOLUTIONS else HTML
    return folder / f"{path.stem}.html"


def contents(html: str) -> list[tuple[str, str]]:
    """The sections of a page: (anchor, title)."""
    headings = BeautifulSoup(html, "html.parser").select("h2[id]")
    for heading in headings:
        for link in heading.select("a.anchor-link"):
            link.decompose()
    return [(heading["id"], heading.get_text(" ", strip=True)) for heading in headings]


def thumbnail(nb: NotebookNode) -> str:
    """The notebook's first figure, small, as a data address; empty if it has none."""
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                image = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
                image.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
                buffer = io.BytesIO()
                image.save(buffer, "WEBP", quality=82)
                return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return ""


def introduction() -> str:
    """README's first paragraph: what this is, in a sentence."""
    for paragraph in README.read_text(encoding="utf-8").split("\n\n"):
        if paragraph and not paragraph.startswith(("#", "<", "!", "[", "```")):
            return markdown(paragraph)
    return ""


def render(notebooks: dict[Path, Path], note: str) -> Path:
    """Render notebooks (key: where one is committed; value: the file with the outputs to show) and the index.

    Pages that are not among `notebooks` and not there yet are rendered from their stored outputs, so that no link leads
    nowhere. Returns the index's path.
    """
    env = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True)
    style = Markup(HtmlFormatter(style="xcode").get_style_defs(".highlight"))
    style += Markup((Path(__file__).parent / "templates" / "style.css").read_text(encoding="utf-8"))
    course = chapters()
    executed = {path: nbformat.read(file, as_version=4) for path, file in notebooks.items()}
    for chapter in course:
        for path in (chapter.path, chapter.solutions):
            if path not in executed and path.exists() and not page_of(path).exists():
                executed[path] = nbformat.read(path, as_version=4)
    for path, nb in executed.items():
        body = cells_html(nb, path)
        page = page_of(path)
        page.parent.mkdir(parents=True, exist_ok=True)
        context = {"title": _title(nb, path), "body": Markup(body), "contents": contents(body), "style": style}
        context |= _neighbours(path, course)
        page.write_text(env.get_template("page.html").render(context), encoding="utf-8")
    cards = [
        {
            "chapter": chapter,
            "page": page_of(chapter.path).relative_to(HTML).as_posix(),
            "solutions": page_of(chapter.solutions).relative_to(HTML).as_posix()
            if chapter.solutions.exists()
            else None,
            "thumbnail": thumbnail(executed.get(chapter.path) or nbformat.read(chapter.path, as_version=4)),
        }
        for chapter in course
    ]
    index = HTML / "index.html"
    minutes = sum(chapter.minutes for chapter in course)
    index.parent.mkdir(parents=True, exist_ok=True)
    api = HTML / "api" / "helpers.html"  # of `tools.api`
    page = env.get_template("index.html").render(
        api=api.relative_to(HTML).as_posix() if api.exists() else None,
        cards=cards,
        style=style,
        note=note,
        introduction=Markup(introduction()),
        minutes=minutes,
    )
    index.write_text(page, encoding="utf-8")
    return index


def _title(nb: NotebookNode, path: Path) -> str:
    heading = re.match(r"# (.+)", nb.cells[0].source if nb.cells else "")
    return heading[1].strip() if heading else path.stem


def _neighbours(path: Path, course: list[Chapter]) -> dict:
    """Links to the chapter before, the one after, and between a chapter and its solutions."""
    here = page_of(path).parent
    stems = [chapter.path.stem for chapter in course]

    def link(target: Path) -> str:
        return Path(os.path.relpath(target, here)).as_posix()

    found = {"home": link(HTML / "index.html"), "before": None, "after": None, "partner": None}
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
