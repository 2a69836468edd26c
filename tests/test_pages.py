"""Executing and rendering, on small notebooks of our own: the pages show everything and ask the network for nothing."""

import base64
import io
import itertools
import json
import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from PIL import Image, ImageDraw

from tools import api, cards, chapters, notebooks, pages

FIRST = """\
# {number} A title

**Does it {number} work?**

A sentence.

You will be able to
- one
- two,
  on two lines
- three

*Time* 5 minutes · *Memory* 1 GB · *Data* none · *Model* none"""


def picture():
    buffer = io.BytesIO()
    Image.new("RGB", (900, 300), "purple").save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def code(source, *outputs, tags=()):
    cell = nbformat.v4.new_code_cell(source, execution_count=1, outputs=list(outputs))
    cell.metadata.tags = list(tags)
    return cell


text = nbformat.v4.new_markdown_cell


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A repository with two chapters and one notebook of solutions; its folder."""
    folder = tmp_path / "notebooks"
    (folder / "solutions").mkdir(parents=True)
    for name, value in {
        "ROOT": tmp_path, "NOTEBOOKS": folder, "SOLUTIONS": folder / "solutions", "BUILD": tmp_path / "build",
        "README": tmp_path / "README.md", "HTML": tmp_path / "build" / "html",
    }.items():  # fmt: skip
        for module in (chapters, notebooks, pages):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(cards, "TABLE", tmp_path / "cards.toml")
    cards.TABLE.write_text("")
    monkeypatch.setattr(api, "write", lambda: _an_api_page(tmp_path / "build" / "html"))
    chapters.README.write_text("# T\n\nWhat *this* is.\n\n<!-- chapters: x -->\n<!-- end of chapters -->\n")
    image = nbformat.v4.new_output("display_data", {"image/png": picture(), "text/plain": "<Figure>"})
    printed = nbformat.v4.new_output("stream", name="stdout", text="The nucleus is brightest.\n")
    widget = nbformat.v4.new_output(
        "display_data", {chapters.WIDGET: {"model_id": "a"}, "text/plain": "IntSlider(value=0)"}
    )
    script = nbformat.v4.new_output("display_data", {"application/javascript": "alert(1)", "text/plain": "script"})
    first = [
        text(FIRST.format(number="01")),
        text("## One `part`\n[next](02_b.ipynb#Two) [answers](solutions/01_a.ipynb) [data](../data/x.csv)"),
        text(r"$s \cos\theta$ and $$\frac{1}{1+e^{-x}}$$ for \$5"),
        text("<details><summary>More</summary>\n\n*inside* $x$\n\n</details>\n\nafter"),
        code("plot()", image, printed),
        code("slider()", widget, tags=["nbval-ignore-output"]),
        code("js()", script),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=first), folder / "01_a.ipynb")
    second = [text(FIRST.format(number="02")), text("## Two"), code("print(6 * 7)")]
    nbformat.write(nbformat.v4.new_notebook(cells=second), folder / "02_b.ipynb")
    nbformat.write(
        nbformat.v4.new_notebook(cells=[text("# 01 A title: solutions")]), folder / "solutions" / "01_a.ipynb"
    )
    return folder


def _an_api_page(html):
    (html / "api").mkdir(parents=True, exist_ok=True)
    (html / "api" / "helpers.html").write_text("helpers")


def render(course):
    index = pages.render({path: path for path in chapters.everything()}, note="A note.")
    return pages.BeautifulSoup(index.read_text(), "html.parser"), pages.BeautifulSoup(
        (index.parent / "01_a.html").read_text(), "html.parser"
    )


def test_formulas_become_mathml(course):
    _, page = render(course)
    assert [math["display"] for math in page.select("math")] == ["inline", "block", "inline"]
    assert "$5" in page.text and "$s" not in page.text


@pytest.mark.parametrize("latex", [r"\nosuch{x}", r"\begin{aligned} a &= b \end{aligned}", r"\left( x"])
def test_a_formula_that_cannot_be_drawn_is_shown(latex):
    with pytest.raises(ValueError) as error:
        pages.mathml(latex, "inline")
    assert latex in str(error.value)
    assert pages.escape(latex) in pages.markdown(f"${latex}$")
    with pytest.raises(ValueError):
        pages.markdown(f"${latex}$", strict=True)


def test_details_hold_their_text(course):
    _, page = render(course)
    details = page.select_one("main details")
    assert "inside" in details.text and details.select("math") and "after" not in details.text


def test_links_lead_from_page_to_page(course):
    _, page = render(course)
    found = {link.text: link["href"] for link in page.select("main a[href]")}
    assert found["next"] == "02_b.html#Two"
    assert found["answers"] == "solutions/01_a.html"
    assert found["data"] == "../../data/x.csv"
    assert (pages.HTML / "solutions" / "01_a.html").exists()
    assert [link["href"] for link in page.select(".contents li li a")] == ["#One-part"]
    assert page.find(id="One-part")


def test_figures_are_described_by_what_is_printed_beside_them(course):
    _, page = render(course)
    assert [image["alt"] for image in page.select("main img")] == ["The nucleus is brightest."]


def test_widgets_and_scripts_are_left_out(course):
    _, page = render(course)
    assert not page.select("script") and "IntSlider" not in page.text
    assert "make lab" in page.select_one(".widget-note").text


def test_index_has_a_card_for_each_chapter(course):
    index, _ = render(course)
    cards = index.select(".card")
    assert [card.select_one(".question").text for card in cards] == ["Does it 01 work?", "Does it 02 work?"]
    assert [card.select_one("a.open")["href"] for card in cards] == ["01_a.html", "02_b.html"]
    assert "5 minutes" in cards[0].text and "Solutions" in cards[0].text and "Solutions" not in cards[1].text
    assert cards[0].select_one("img")["src"].startswith("data:image/webp") and not cards[1].select("img")
    assert "What this is." in index.text and "A note." in index.text


def test_local_pictures_are_embedded_and_missing_ones_are_not_fetched(course):
    Image.new("RGB", (4, 4)).save(course.parent / "cell.png")
    html = pages.markdown('![a cell](../cell.png)\n\n<img src="../cell.png" width="3">', course)
    assert html.count("data:image/png;base64,") == 2


def test_table_for_the_readme(course):
    notebooks.update_readme()
    notebooks.update_readme()
    text = chapters.README.read_text()
    assert text.count("| 01 | [A title](notebooks/01_a.ipynb) | Does it 01 work? | 5 |") == 1


def test_run_leaves_the_notebooks_alone_and_goes_on_after_a_failure(course, capsys):
    broken = nbformat.read(course / "01_a.ipynb", as_version=4)
    broken.cells = [broken.cells[0], code("1 + 1"), code("raise KeyError('lost')"), code("never()")]
    nbformat.write(broken, course / "01_a.ipynb")
    before = {path: path.read_bytes() for path in course.rglob("*.ipynb")}
    problems = notebooks.run([])
    assert before == {path: path.read_bytes() for path in course.rglob("*.ipynb")}
    assert len(problems) == 1 and "01_a.ipynb, cell 3 of 4: KeyError: 'lost'" in problems[0]
    assert "42" in (pages.HTML / "02_b.html").read_text() and "KeyError" in (pages.HTML / "01_a.html").read_text()
    assert capsys.readouterr().out.rstrip().endswith(str(pages.HTML / "index.html"))


def test_a_chapter_and_its_solutions_are_executed_into_files_of_their_own(course, monkeypatch):
    paths = chapters.everything()
    monkeypatch.setattr(notebooks, "execute", lambda path, label: (nbformat.read(path, as_version=4), None))
    assert notebooks.run(paths) == []
    written = [notebooks.executed_at(path) for path in paths]
    for path, file in zip(paths, written, strict=True):
        assert nbformat.read(file, as_version=4).cells[0].source == nbformat.read(path, as_version=4).cells[0].source
    assert len({pages.page_of(path) for path in paths}) == len(set(written)) == len(paths)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("", "Executed with conceptclip-mini, the model in this repository, in"),
        ("JerrryNie/ConceptCLIP", "Executed with JerrryNie/ConceptCLIP, in"),
        ("{home}/my-model", "Executed with my-model, in"),
        ("{home}/my-model/", "Executed with my-model, in"),
        ("../../home/some-person/gone", "Executed with gone, in"),
    ],
)
def test_the_page_names_the_model_but_not_the_way_to_its_folder(course, monkeypatch, tmp_path, model, said):
    home = tmp_path / "some-person"
    (home / "my-model").mkdir(parents=True)
    monkeypatch.setenv("CONCEPTCLIP_MODEL", model.format(home=home))
    monkeypatch.setattr(notebooks, "execute", lambda path, label: (nbformat.read(path, as_version=4), None))
    notebooks.run([])
    index = (pages.HTML / "index.html").read_text()
    assert said in index and "some-person" not in index


@pytest.mark.parametrize("value", [None, "0"])
def test_the_network_is_off_unless_allowed(course, monkeypatch, value):
    monkeypatch.setenv("HF_HUB_OFFLINE", value or "")
    if value is None:
        monkeypatch.delenv("HF_HUB_OFFLINE")  # set before, so that what main() sets is taken back
    assert notebooks.main(["table"]) == 0
    assert os.environ["HF_HUB_OFFLINE"] == (value or "1")


def test_refresh_executes_in_place_and_is_the_same_the_second_time(course):
    path = course / "02_b.ipynb"
    assert notebooks.refresh([path]) == []
    once = path.read_bytes()
    cell = json.loads(once)["cells"][2]
    assert cell["execution_count"] == 1 and cell["outputs"][0]["text"] == ["42\n"] and cell["metadata"] == {}
    assert notebooks.refresh([path]) == [] and path.read_bytes() == once


def test_refresh_leaves_a_notebook_that_fails_as_it_was(course):
    path = course / "02_b.ipynb"
    nb = nbformat.read(path, as_version=4)
    nb.cells[2].source = "1 / 0"
    nbformat.write(nb, path)
    before = path.read_bytes()
    assert "ZeroDivisionError" in notebooks.refresh([path])[0]
    assert path.read_bytes() == before


def find_by_search(driver):
    """From a chapter to a section of another one, with a word's beginning and with a slip of the finger."""
    from selenium.webdriver.common.keys import Keys

    driver.get((pages.HTML / "02_b.html").as_uri())
    driver.find_element("css selector", ".find input").send_keys("insid", Keys.ENTER)
    found = "return [...document.querySelectorAll('#found a')].map((link) => link.getAttribute('href'))"
    assert "search.html?q=insid" in driver.current_url
    assert driver.execute_script(found) == ["01_a.html#One-part"]
    assert driver.execute_script("return document.querySelector('#found mark').textContent") == "inside"
    for typed, links in (("insode", ["01_a.html#One-part"]), ("qqqqq", [])):
        driver.execute_script("field.value = arguments[0]; search()", typed)
        assert driver.execute_script(found) == links
    assert "Nothing for" in driver.execute_script("return said.textContent")


@pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="no Chromium with its driver"
)
def test_a_browser_shows_the_pages_and_asks_the_network_for_nothing(course, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    render(course)
    options = webdriver.ChromeOptions()
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'me'}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.chrome.service.Service(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        for name, width in itertools.product(("index.html", "search.html?q=brightest", "01_a.html"), (360, 1280)):
            size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.get(f"{pages.HTML.as_uri()}/{name}")
            wide = driver.execute_script("return document.documentElement.scrollWidth > window.innerWidth")
            drawn = driver.execute_script("return [...document.images].every(image => image.naturalWidth > 0)")
            assert drawn and not wide, (name, width)
            messages = [entry["message"] for entry in driver.get_log("browser")]
            assert not messages, f"{name}: {messages}"
        # A wide figure is not made smaller than it can be read; its frame is moved instead of the page.
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size | {"width": 360, "mobile": True})
        seen = "const f = document.querySelector('.figure'); return [f.firstChild.width, f.clientWidth, f.scrollWidth]"
        image, frame, scrolled = driver.execute_script(seen)
        assert image > 0.6 * 900 and frame < 360 and scrolled >= image
        dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        paper = "return getComputedStyle(document.body).backgroundColor"
        assert driver.execute_script(paper) == "rgb(255, 255, 255)"
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
        assert driver.execute_script(paper) == "rgb(22, 19, 28)"
        find_by_search(driver)
        driver.get((pages.HTML / "01_a.html").as_uri())
        assert driver.execute_script("return document.querySelector('mfrac').getBoundingClientRect().height") > 10
        events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        assert asked and not [url for url in asked if url.startswith(("http:", "https:", "ws:", "wss:"))]
    finally:
        driver.quit()


def test_the_index_links_to_the_functions(course):
    index, _ = render(course)
    assert not index.select("a[href^=api]")
    notebooks.render([])
    index = pages.BeautifulSoup((pages.HTML / "index.html").read_text(), "html.parser")
    assert [(pages.HTML / link["href"]).exists() for link in index.select("a[href^=api]")] == [True]


def test_every_name_of_helpers_has_its_place_on_a_page_that_needs_no_network(tmp_path):
    import helpers

    command = [sys.executable, "-W", "ignore", "-c", f"from tools import api; api.write(api.Path({str(tmp_path)!r}))"]
    subprocess.run(command, cwd=chapters.ROOT, check=True)  # a process of its own: pdoc looks into the package
    page = pages.BeautifulSoup((tmp_path / "helpers.html").read_text(encoding="utf-8"), "html.parser")
    for name in helpers.__all__:
        module = tmp_path / "helpers" / f"{name}.html"
        assert page.find(id=name) or module.exists() or (tmp_path / "helpers" / name).is_dir(), name
    signature = page.find(id="encode_images").select_one(".signature, .attr").get_text()
    assert "processor" in signature and "batch_size" in signature
    assert not page.select("script[src], link[href^=http], img[src^=http]")


def test_pages_forbid_themselves_to_load_anything():
    for template in pages.TEMPLATES.glob("*.html"):
        if template.name != "frame.html":  # a part of the others
            assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in template.read_text(), template.name
            assert ("script-src" in template.read_text()) == (template.name == "search.html")


# --- the frame of a page ----------------------------------------------------------------------------------------------


def test_the_chapters_stand_at_the_side(course):
    _, page = render(course)
    listed = page.select(".contents > ol > li")
    assert [item.a["href"] for item in listed] == ["01_a.html", "02_b.html"]
    assert ["here" in item.get("class", []) for item in listed] == [True, False]
    assert [str(part) for part in page.select_one(".contents-folded").select("a")] == [
        str(part) for part in page.select_one(".contents").select("a")
    ]
    answers = pages.BeautifulSoup((pages.HTML / "solutions" / "01_a.html").read_text(), "html.parser")
    assert [item.a["href"] for item in answers.select(".contents > ol > li")] == ["../01_a.html", "../02_b.html"]


MARKED = """\
## One
*core · 5 min*

## Two
*optional · 12 min*
Text of the second.

## Three

An *optional · 5 min* in a sentence is none.

## Four
*reference · 2 min* and more"""


def test_what_a_section_says_of_itself_becomes_a_badge():
    nb = nbformat.v4.new_notebook(cells=[text(MARKED)])
    soup = pages._cells(nb, chapters.NOTEBOOKS / "x.ipynb")
    assert [(mark["class"], mark.get_text()) for mark in soup.select(".mark")] == [
        (["mark", "core"], "core 5 min"),
        (["mark", "optional"], "optional 12 min"),
        (["mark", "reference"], "reference 2 min"),
    ]
    assert [section[1:] for section in pages.contents(soup)] == [
        ("One", "core"),
        ("Two", "optional"),
        ("Three", ""),
        ("Four", "reference"),
    ]
    assert "Text of the second." in soup.text and "and more" in soup.text and not soup.select("p:empty")


def test_optional_sections_are_told_apart_in_the_contents(course):
    nb = nbformat.read(course / "02_b.ipynb", as_version=4)
    nb.cells[1].source = MARKED
    nbformat.write(nb, course / "02_b.ipynb")
    render(course)
    page = pages.BeautifulSoup((pages.HTML / "02_b.html").read_text(), "html.parser")
    listed = page.select(".contents li li")
    assert [item.get("class", []) for item in listed] == [["core"], ["optional"], [], ["reference"]]
    assert listed[1].small.text == "optional"


PLOT = "\n".join(["fig, ax = plt.subplots()", *["ax.plot([1])"] * 5, "plt.show()"])
DRAWN = nbformat.v4.new_output("display_data", {"image/png": picture(), "text/plain": "<Figure>"})


@pytest.mark.parametrize(
    ("source", "outputs", "folded"),
    [
        (PLOT, [DRAWN], True),
        (PLOT, [], False),
        ("maps = compute()\n" * 8 + PLOT, [DRAWN], False),
        ("plt.plot([1])\nplt.show()", [DRAWN], False),
        ("%matplotlib inline\n" + PLOT, [DRAWN], False),
    ],
)
def test_code_that_only_draws_is_folded(source, outputs, folded):
    nb = nbformat.v4.new_notebook(cells=[code("x = 1"), code(source, *outputs)])
    soup = pages._cells(nb, chapters.NOTEBOOKS / "x.ipynb")
    assert len(soup.select("details.folded")) == folded
    if folded:
        assert soup.select_one("details.folded summary").text == "Code of this figure (7 lines)"
        assert "plt.subplots" in soup.select_one("details.folded").text and not soup.select("details.folded img")


def test_a_figure_knows_its_width(course):
    _, page = render(course)
    assert page.select_one(".figure img")["style"] == "--natural: 900px"
    buffer = io.BytesIO()
    Image.new("RGB", (321, 9)).save(buffer, "JPEG")
    assert pages._width(f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}") == 321


GLOSSARY = """\
# Glossary

### AUROC

Of two pictures. See [a notebook](../notebooks/01_a.ipynb#One-part) and [this](#patch-and-token).

### Patch and token

A square."""


def test_the_glossary_is_a_page_where_there_is_one(course):
    index, page = render(course)
    assert not index.select("a[href='glossary.html']") and not page.select("a[href='glossary.html']")
    (course.parent / "docs").mkdir()
    (course.parent / "docs" / "glossary.md").write_text(GLOSSARY)
    nb = nbformat.read(course / "01_a.ipynb", as_version=4)
    nb.cells.append(text("[AUROC](../docs/glossary.md#auroc)"))
    nbformat.write(nb, course / "01_a.ipynb")
    index, page = render(course)
    assert index.select("a[href='glossary.html']") and page.select("a[href='glossary.html#auroc']")
    glossary = pages.BeautifulSoup((pages.HTML / "glossary.html").read_text(), "html.parser")
    assert [heading["id"] for heading in glossary.select("main h3")] == ["auroc", "patch-and-token"]
    links = [link["href"] for link in glossary.select("main p a")]
    assert links == ["01_a.html#One-part", "#patch-and-token"]
    assert glossary.select_one(".contents .here a")["href"] == "glossary.html"


def test_what_is_searched_leads_to_a_heading(course):
    (course.parent / "docs").mkdir()
    (course.parent / "docs" / "glossary.md").write_text(GLOSSARY)
    render(course)
    page = pages.BeautifulSoup((pages.HTML / "search.html").read_text(), "html.parser")
    entries = json.loads(page.find(id="entries").string)
    assert [entry["title"] for entry in entries] == [
        "The notebook", "One part", "The notebook", "Two", "AUROC", "Patch and token",
    ]  # fmt: skip
    for entry in entries:
        file, _, anchor = entry["href"].partition("#")
        target = pages.BeautifulSoup((pages.HTML / file).read_text(), "html.parser")
        assert not anchor or target.find(id=anchor), entry
    assert "plot()" in entries[1]["text"] and "](" not in entries[1]["text"]


# --- the picture on a card --------------------------------------------------------------------------------------------


def figure(*panels: tuple[int, int, str], height: int = 100, width: int = 400) -> str:
    """A white figure with filled panels (left, right, colour)."""
    image = Image.new("RGB", (width, height), "white")
    for left, right, colour in panels:
        ImageDraw.Draw(image).rectangle((left, 10, right, height - 10), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def drawn(*figures: str, tags=()):
    return code("plot()", *[nbformat.v4.new_output("display_data", {"image/png": data}) for data in figures], tags=tags)


def colours(image: Image.Image) -> set:
    return {colour for count, colour in image.getcolors() if count > 500}


def test_the_table_chooses_a_figure_and_its_panels(course):
    red, blue = (255, 0, 0), (0, 0, 255)
    wide = figure((10, 90, "red"), (110, 190, "blue"), (196, 205, "black"), (230, 330, "green"))
    nb = nbformat.v4.new_notebook(
        cells=[text("## A `b` c"), drawn(figure((0, 399, "black"))), drawn(wide), text("## D")]
    )
    assert cards.chosen(nb, "01") is None
    cards.TABLE.write_text('[01]\nheading = "A b"\nfigure = 2\ncolumns = 2\n')
    image = cards.chosen(nb, "01")
    assert colours(image) >= {red, blue} and (0, 128, 0) not in colours(image) and image.size == (181, 81)
    cards.TABLE.write_text('[01]\nheading = "A b"\nfigure = 3\n')
    assert cards.chosen(nb, "01") is None and cards.thumbnail(nb, "01").startswith("data:image/webp")
    cards.TABLE.write_text('[01]\nheading = "A b"\nfigure = 2\nbox = [0.3, 0, 0.55, 1]\n')  # of 321 x 81 pixels
    image = cards.chosen(nb, "01")
    assert colours(image) == {blue} and image.width < 100
    for box in ([0.6, 0, 0.3, 1], [0, 0, 1, 2], [-0.1, 0, 1, 1]):
        cards.TABLE.write_text(f'[01]\nheading = "A b"\nbox = {box}\n')
        with pytest.raises(ValueError, match=r"Card 01 in cards\.toml: box"):
            cards.chosen(nb, "01")
    nb.cells.append(drawn(figure((0, 99, "blue")), tags=["card"]))
    assert colours(cards.chosen(nb, "01")) == {blue}


def test_without_a_choice_a_card_shows_what_is_drawn_largest():
    nb = nbformat.v4.new_notebook(
        cells=[drawn(figure((0, 1999, "red"), width=2000)), drawn(figure((0, 299, "blue"), height=180))]
    )
    data = cards.thumbnail(nb, "no such chapter").partition(",")[2]
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.size == (300, 161)
    assert cards.thumbnail(nbformat.v4.new_notebook(cells=[text("## A")]), "01") == ""


@pytest.mark.parametrize("chapter", chapters.chapters(), ids=lambda chapter: chapter.number)
def test_every_card_has_its_picture(chapter):
    """An entry of tools/cards.toml whose figure is gone; the card then shows another one."""
    nb = nbformat.read(chapter.path, as_version=4)
    tagged = any("card" in cell.metadata.get("tags", []) for cell in nb.cells)
    if chapter.number in cards.tomllib.loads(cards.TABLE.read_text("utf-8")) or tagged:
        if not any(cell.get("outputs") for cell in nb.cells):
            pytest.skip("stored without outputs")
        assert cards.chosen(nb, chapter.number), f"{chapter.path.name}: correct its entry in {cards.TABLE.name}"
