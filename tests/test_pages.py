"""Executing and rendering, on small notebooks of our own: the pages show everything and ask the network for nothing."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from PIL import Image

from tools import api, chapters, notebooks, pages

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
    details = page.select_one("details")
    assert "inside" in details.text and details.select("math") and "after" not in details.text


def test_links_lead_from_page_to_page(course):
    _, page = render(course)
    found = {link.text: link["href"] for link in page.select("main a[href]")}
    assert found["next"] == "02_b.html#Two"
    assert found["answers"] == "solutions/01_a.html"
    assert found["data"] == "../../data/x.csv"
    assert (pages.HTML / "solutions" / "01_a.html").exists()
    assert [link["href"] for link in page.select(".contents a")] == ["#One-part"]
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
        for name in ("index.html", "01_a.html"):
            driver.get((pages.HTML / name).as_uri())
            wide = driver.execute_script("return document.documentElement.scrollWidth > window.innerWidth")
            drawn = driver.execute_script("return [...document.images].every(image => image.naturalWidth > 0)")
            assert drawn and not wide, name
            messages = [entry["message"] for entry in driver.get_log("browser")]
            assert not messages, f"{name}: {messages}"
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
    for template in (Path(pages.__file__).parent / "templates").glob("*.html"):
        assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in template.read_text(), template.name
