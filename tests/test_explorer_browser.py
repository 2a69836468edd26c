"""Notebook 07 in a real JupyterLab and a headless Chromium: typed, pressed, dragged, dropped, and looked at.

Pictures of what was seen, and how long the answers took, are left in build/screenshots.
"""

import base64
import io
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from browser import WITHOUT, chromium, jupyterlab, requests, run_notebook, there
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "07_explorers.ipynb"
SHOTS = ROOT / "build" / "screenshots"

pytestmark = [
    pytest.mark.skipif(not there(), reason=WITHOUT),
    pytest.mark.skipif(not NOTEBOOK.exists(), reason="there is no notebook 07"),
]

if there():
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select, WebDriverWait

TIMES = {}


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """The browser, with the notebook open and all of its cells run."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "work" / "notebooks").mkdir(parents=True)
    shutil.copy(NOTEBOOK, folder / "work" / "notebooks")
    if (ROOT / "docs").is_dir():
        shutil.copytree(ROOT / "docs", folder / "work" / "docs")
    shutil.rmtree(SHOTS, ignore_errors=True)
    SHOTS.mkdir(parents=True)
    with (
        jupyterlab(folder / "work", folder / "lab.log") as address,
        chromium(folder / "profile", width=1500, height=1500) as browser,
    ):
        browser.errors_of_cells = run_notebook(browser, address, f"notebooks/{NOTEBOOK.name}")
        yield browser
    (SHOTS / "times.json").write_text(json.dumps(TIMES, indent=1))


class Widget:
    """One explorer on the page, found by what stands in its cell, and scrolled to."""

    def __init__(self, driver, source):
        self.driver = driver
        driver.execute_async_script(
            """
            const [source, done] = arguments;
            (async () => {
              const notebook = window.jupyterapp.shell.currentWidget.content;
              const index = [...notebook.model.cells].findIndex((cell) => cell.sharedModel.source.endsWith(source));
              await notebook.scrollToItem(index, "start");
              const cell = notebook.widgets[index];
              await cell.ready;
              window.output = cell.node.querySelector(".jp-OutputArea");
              done();
            })();
            """,
            source,
        )
        self.root = driver.execute_script("window.output.scrollIntoView(); return window.output")
        self.until(lambda: self.all(".cc-scores tbody tr"))
        self.press_button("Reset")
        self.settled()

    def settled(self):
        """Wait until the kernel has answered all that was sent to it, and the page has drawn what came.

        A kernel answers in the order of the questions: when an empty one is done, so are those before it.
        """
        self.driver.execute_async_script(
            """
            const [root, done] = arguments;
            (async () => {
              const session = window.jupyterapp.shell.currentWidget.sessionContext.session;
              await session.kernel.requestExecute({ code: "", silent: true, store_history: false }).done;
              await new Promise(requestAnimationFrame);
              await Promise.all([...root.querySelectorAll("img[src]")].map((image) => image.decode().catch(() => {})));
              await new Promise(requestAnimationFrame);
              done();
            })();
            """,
            self.root,
        )

    def one(self, css):
        return self.root.find_element(By.CSS_SELECTOR, css)

    def all(self, css):
        return self.root.find_elements(By.CSS_SELECTOR, css)

    def text(self, css):
        return self.driver.execute_script(
            "return arguments[0].querySelector(arguments[1])?.textContent", self.root, css
        )

    def attribute(self, css, name):
        return self.driver.execute_script(
            "return arguments[0].querySelector(arguments[1])?.getAttribute(arguments[2])", self.root, css, name
        )

    def button(self, text):
        return next(b for b in self.all("button") if b.text.strip() == text)

    def press_button(self, text):
        """Press it when it is there; the page may be about to draw its buttons anew."""
        redrawn = (StaleElementReferenceException, StopIteration)
        wait = WebDriverWait(self.driver, 30, poll_frequency=0.02, ignored_exceptions=redrawn)
        wait.until(lambda _: self.button(text).click() is None)

    def until(self, condition, seconds=30):
        """Wait for what is expected. The parts of an answer arrive one after the other, so none is asserted at once."""
        return WebDriverWait(self.driver, seconds, poll_frequency=0.02).until(lambda _: condition())

    def changes(self, act, see, name=None, seconds=30):
        """Do something and wait until what is seen is another thing; the time goes into the record."""
        before = see()
        start = time.perf_counter()
        act()
        self.until(lambda: see() != before, seconds)
        if name:
            TIMES[name] = round(time.perf_counter() - start, 3)
        return see()

    def overlay(self):
        return self.attribute("img.cc-overlay", "src")

    def status(self):
        return self.text(".cc-status")

    def problem(self):
        return self.text(".cc-problem")

    def table(self, k=0):
        """The numbers of the k-th table, as text."""
        return self.driver.execute_script(
            """const table = arguments[0].querySelectorAll('.cc-scores')[arguments[1]];
               return [...table.querySelectorAll('tbody tr')].map(
                 (row) => [...row.querySelectorAll('th > :last-child, td span')].map((node) => node.textContent))""",
            self.root,
            k,
        )

    def shot(self, name):
        self.settled()
        (SHOTS / f"{name}.png").write_bytes(self.root.screenshot_as_png)


@pytest.fixture
def explorer(driver):
    return Widget(driver, "\nexplorer")


@pytest.fixture
def designer(driver):
    return Widget(driver, "\ndesigner")


def type_phrase(explorer, text):
    field = explorer.one(".cc-phrase input")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text, Keys.ENTER)


def drag(explorer, start, end):
    """Drag a box; places are shares of the picture."""
    stage = explorer.one(".cc-stage")
    size = stage.size
    x, y = ((s - 0.5) * size[side] for s, side in zip(start, ("width", "height"), strict=True))
    dx, dy = ((e - s) * size[side] for s, e, side in zip(start, end, ("width", "height"), strict=True))
    actions = ActionChains(explorer.driver, duration=30).move_to_element_with_offset(stage, round(x), round(y))
    actions.click_and_hold().move_by_offset(round(dx / 2), round(dy / 2)).move_by_offset(round(dx / 2), round(dy / 2))
    actions.release().perform()


def without_box(explorer):
    """Take the box away that the notebook starts with."""
    explorer.driver.execute_script("arguments[0].focus()", explorer.one(".cc-stage"))
    ActionChains(explorer.driver).send_keys(Keys.ESCAPE).perform()
    explorer.until(lambda: not explorer.table(1) and "Box" not in explorer.status())


def frame(explorer):
    """The box as drawn, in shares; None when there is none."""
    return explorer.driver.execute_script(
        """const box = arguments[0].querySelector('.cc-box');
           return box.hidden ? null : ['left', 'top', 'width', 'height'].map((k) => parseFloat(box.style[k]) / 100)""",
        explorer.root,
    )


def radio(widget, label):
    """A radio button by what is written beside it."""
    label = next(node for node in widget.all(".widget-radio-box label") if node.text.strip() == label)
    return label.find_element(By.CSS_SELECTOR, "input")


def test_the_notebook_runs(driver):
    assert driver.errors_of_cells == []
    severe = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe


def test_a_phrase_is_typed_and_the_map_changes(explorer):
    explorer.changes(lambda: type_phrase(explorer, "red cells"), explorer.overlay, "phrase → map")
    explorer.until(lambda: explorer.table()[0][0] == "red cells")
    explorer.until(lambda: "Map of red cells" in explorer.status() and explorer.problem() == "")
    explorer.until(lambda: explorer.attribute(".cc-stage", "aria-label").endswith("with the map of red cells"))
    sums = [sum(float(row[k].replace("<", "")) for row in explorer.table()) for k in (3, 6)]
    assert sums == pytest.approx([1, 1], abs=0.1), "the softmax column sums to one"
    explorer.shot("explorer_phrase")


def test_a_piece_is_pressed_and_shows_its_own_map(explorer):
    pieces = [b.text for b in explorer.all(".widget-toggle-buttons button")]
    assert pieces[:2] == ["whole phrase", "[CLS]"] and pieces[-1] == "[SEP]"
    explorer.changes(lambda: explorer.press_button("[CLS]"), explorer.overlay, "piece → map")
    explorer.until(lambda: "Map of [CLS]" in explorer.status())


def test_a_box_is_dragged_and_the_ranking_appears(explorer):
    type_phrase(explorer, "nucleus")
    explorer.until(lambda: "Map of nucleus" in explorer.status())
    without_box(explorer)
    assert "No box yet" in explorer.root.text
    drag(explorer, (0.1, 0.1), (0.3, 0.3))
    explorer.until(lambda: "Box of" in explorer.status())
    explorer.until(lambda: len(explorer.table(1)) == 10 and all(len(row) == 4 for row in explorer.table(1)))
    explorer.until(lambda: len(explorer.all(".cc-mark")) == 5)
    snapped = frame(explorer)
    explorer.changes(
        lambda: drag(explorer, (0.38, 0.38), (0.62, 0.62)), lambda: explorer.table(1), "box → ranking, drag included"
    )
    assert frame(explorer) != snapped
    explorer.shot("concept_explorer")
    here = [float(row[1].replace("−", "-")) for row in explorer.table(1)]
    assert here == sorted(here, reverse=True)
    explorer.changes(lambda: radio(explorer, "fits it better than the rest").click(), lambda: explorer.table(1))
    difference = [float(row[3].replace("−", "-")) for row in explorer.table(1)]
    assert difference == sorted(difference, reverse=True)
    name = explorer.table(1)[3][0]
    explorer.all(".cc-scores")[1].find_elements(By.CSS_SELECTOR, "tbody button")[3].click()
    explorer.until(lambda: f"Map of {name}:" in explorer.status())


def test_the_keyboard_alone_is_enough(explorer):
    stage = explorer.one(".cc-stage")
    without_box(explorer)
    explorer.driver.execute_script("arguments[0].focus()", stage)
    keys = ActionChains(explorer.driver)
    active = "return window.jupyterapp.shell.currentWidget.content.activeCellIndex"
    cell = explorer.driver.execute_script(active)
    explorer.changes(lambda: keys.send_keys(Keys.ARROW_RIGHT).perform(), explorer.status, "key → ranking")
    explorer.until(lambda: "Box of 1 patch:" in explorer.status() and explorer.table(1))
    start = frame(explorer)
    explorer.changes(
        lambda: ActionChains(explorer.driver).send_keys(Keys.ARROW_DOWN).perform(), lambda: frame(explorer)
    )
    assert frame(explorer)[1] > start[1] and frame(explorer)[0] == start[0]
    grow = ActionChains(explorer.driver).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    grow.key_up(Keys.SHIFT).perform()
    explorer.until(lambda: "Box of 4 patches" in explorer.status())
    before = explorer.table(1)
    for _ in range(12):  # a held key
        ActionChains(explorer.driver).send_keys(Keys.ARROW_LEFT).perform()
    explorer.until(lambda: abs(frame(explorer)[0]) < 1e-6)  # at the left edge, where it cannot go further
    explorer.until(lambda: explorer.table(1) != before)
    explorer.settled()
    assert "Box of 4 patches" in explorer.status() and explorer.problem() == ""
    ActionChains(explorer.driver).send_keys(Keys.ESCAPE).perform()
    explorer.until(lambda: frame(explorer) is None and "Box" not in explorer.status())
    explorer.until(lambda: not explorer.table(1))
    assert explorer.driver.execute_script(active) == cell, "the arrow keys moved JupyterLab to another cell"


def test_the_map_fades_without_the_kernel(explorer):
    handle = explorer.one(".widget-slider [role=slider]")
    explorer.driver.execute_script("arguments[0].focus()", handle)
    opacity = lambda: explorer.driver.execute_script(  # noqa: E731
        "return getComputedStyle(arguments[0].querySelector('.cc-overlay')).opacity", explorer.root
    )
    explorer.changes(lambda: handle.send_keys(Keys.ARROW_LEFT), opacity, "opacity")


def test_another_cell_of_the_atlas(explorer):
    field = Select(explorer.one("select"))
    picture = lambda: explorer.attribute(".cc-stage img", "src")  # noqa: E731
    chosen = field.options[9].text.split(" · ")[0]
    assert not explorer.attribute(".cc-stage", "aria-label").startswith(chosen)
    explorer.changes(lambda: field.select_by_index(9), picture, "another cell")
    explorer.until(lambda: explorer.attribute(".cc-stage", "aria-label").startswith(chosen))
    assert explorer.problem() == ""


def jpeg(width, height, seed=0, quality=90):
    """A photograph-like picture: clouds of colour and grain."""
    rng = np.random.default_rng(seed)
    clouds = Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).resize((width, height))
    grain = Image.fromarray(rng.integers(0, 256, (500, 500), dtype=np.uint8)).resize((width, height), Image.NEAREST)
    buffer = io.BytesIO()
    Image.blend(clouds, grain.convert("RGB"), 0.3).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_files_good_broken_and_large(explorer, tmp_path):
    field = explorer.one("input[type=file]")
    own, broken, large, broken_large = (tmp_path / f"{name}.jpg" for name in ("own", "broken", "large", "broken_large"))
    own.write_bytes(jpeg(900, 500))
    broken.write_bytes(own.read_bytes()[:3000])
    large.write_bytes(jpeg(8000, 5000, quality=97))
    broken_large.write_bytes(np.random.default_rng(0).bytes(6_000_000))
    assert large.stat().st_size > 4_000_000
    explorer.changes(lambda: field.send_keys(str(own)), lambda: explorer.attribute(".cc-stage img", "src"), "own file")
    explorer.until(lambda: explorer.attribute(".cc-stage", "aria-label").startswith("own.jpg"))
    assert explorer.problem() == ""
    explorer.shot("explorer_own_file")
    field.send_keys(str(broken))
    explorer.until(lambda: "broken.jpg" in explorer.problem() and "damaged" in explorer.problem())
    explorer.shot("explorer_broken_file")
    picture = explorer.attribute(".cc-stage img", "src")
    field.send_keys(str(broken_large))
    explorer.until(lambda: "broken_large.jpg: 6 MB are too much to send" in explorer.problem())
    assert explorer.attribute(".cc-stage img", "src") == picture
    explorer.changes(
        lambda: field.send_keys(str(large)), lambda: explorer.attribute(".cc-stage img", "src"), "40 megapixels", 60
    )
    explorer.until(lambda: "8000 × 5000 → 2048 × 1280 pixels" in explorer.status())
    assert explorer.problem() == ""
    type_phrase(explorer, "platelets")  # the kernel lives on
    explorer.until(lambda: "Map of platelets" in explorer.status())


def test_a_file_is_dropped_on_the_picture(explorer):
    data = base64.b64encode(jpeg(300, 300)).decode()
    explorer.changes(
        lambda: explorer.driver.execute_script(
            """const bytes = Uint8Array.from(atob(arguments[1]), (c) => c.charCodeAt(0));
               const transfer = new DataTransfer();
               transfer.items.add(new File([bytes], "dropped.jpg", { type: "image/jpeg" }));
               for (const type of ["dragover", "drop"])
                 arguments[0].dispatchEvent(
                   new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));""",
            explorer.one(".cc-stage"),
            data,
        ),
        lambda: explorer.attribute(".cc-stage img", "src"),
    )
    explorer.until(lambda: explorer.attribute(".cc-stage", "aria-label").startswith("dropped.jpg"))


@pytest.mark.parametrize("text, said", [(" ", "empty"), ("nucleus " * 90, "cut"), ("<img src=x onerror=boom()>", "")])
def test_odd_phrases(explorer, text, said):
    type_phrase(explorer, text)
    explorer.until(lambda: said in explorer.problem() if said else explorer.table()[0][0] == text)
    assert not explorer.all('.cc-scores img, img[src="x"]')
    type_phrase(explorer, "red cells")
    explorer.until(lambda: "Map of red cells" in explorer.status() and explorer.problem() == "")


def test_the_photographs_are_searched(explorer):
    without_box(explorer)
    drag(explorer, (0.38, 0.38), (0.62, 0.62))
    explorer.until(lambda: "Box of" in explorer.status())
    start = time.perf_counter()
    explorer.press_button("Search the photographs for it")
    explorer.until(lambda: len(explorer.all(".cc-thumbs figure")) == 8, seconds=180)
    TIMES["first search of the photographs"] = round(time.perf_counter() - start, 3)
    drag(explorer, (0.1, 0.1), (0.3, 0.3))
    explorer.until(lambda: not explorer.all(".cc-thumbs figure"))
    start = time.perf_counter()
    explorer.press_button("Search the photographs for it")
    explorer.until(lambda: len(explorer.all(".cc-thumbs figure")) == 8)
    TIMES["second search of the photographs"] = round(time.perf_counter() - start, 3)
    explorer.shot("explorer_search")


def test_a_slider_moves_and_the_bars_follow(designer):
    handle = designer.all(".widget-slider [role=slider]")[1]  # opacity, seed, stain, seeds of the sweep
    designer.driver.execute_script("arguments[0].focus()", handle)
    before = designer.table()
    designer.changes(lambda: handle.send_keys(Keys.ARROW_RIGHT), designer.table, "slider → bars")
    assert all(row[2] == "" for row in before)
    designer.until(lambda: all(row[2] for row in designer.table()))
    assert designer.problem() == ""


def test_an_attribute_is_changed_and_the_bars_follow(designer):
    picture = lambda: designer.attribute(".cc-stage img", "src")  # noqa: E731
    start, before = picture(), designer.table()
    designer.changes(lambda: radio(designer, "multilobed").click(), picture, "attribute → picture")
    designer.until(lambda: designer.table() != before)
    marks = {
        row.text.split("\n")[-1].lstrip("●○ "): row.find_element(By.CSS_SELECTOR, ".cc-truth").text
        for row in designer.all(".cc-scores tbody th")
        if row.find_elements(By.CSS_SELECTOR, ".cc-truth")
    }
    assert marks["segmented nucleus"] == "●" and marks["band nucleus"] == "○"
    designer.shot("cell_designer")
    moved = designer.table()
    designer.press_button("Undo")
    designer.until(lambda: picture() != start and designer.table() != moved)
    designer.until(lambda: [row[:2] for row in designer.table()] == [row[:2] for row in before])


def test_radio_buttons_by_keyboard(designer):
    button = next(node for node in designer.all(".widget-radio-box input") if not node.is_selected())
    picture = lambda: designer.attribute(".cc-stage img", "src")  # noqa: E731
    designer.changes(lambda: button.send_keys(Keys.SPACE), picture, "key → picture")
    assert button.is_selected()


def test_a_concept_is_pressed_and_its_map_lies_over_the_cell(designer):
    designer.all(".cc-scores tbody button")[5].click()
    designer.until(lambda: (designer.overlay() or "").startswith("blob:"))
    designer.shot("designer_map")


def test_a_sweep(designer):
    selects = designer.all("select")
    attribute = next(s for s in selects if "granularity" in s.text)
    next(o for o in attribute.find_elements(By.CSS_SELECTOR, "option") if o.text == "granularity").click()
    start = time.perf_counter()
    designer.press_button("Sweep")
    designer.until(lambda: designer.all('img[alt^="Change of every concept"]'), seconds=120)
    TIMES["sweep of 2 values x 8 seeds"] = round(time.perf_counter() - start, 3)
    assert "chance alone would give" in designer.root.text
    designer.shot("designer_sweep")


def test_narrow_and_dark(explorer):
    driver = explorer.driver
    try:
        driver.set_window_size(1000, 1500)
        driver.execute_async_script(
            "const done = arguments[0]; window.jupyterapp.commands"
            ".execute('apputils:change-theme', {theme: 'JupyterLab Dark'}).then(() => setTimeout(done, 1500))"
        )
        wide = driver.execute_script(
            """return [...arguments[0].querySelectorAll('.cc-picture, .cc-scores, .widget-hbox')]
                 .some((node) => node.scrollWidth > node.clientWidth + 20)""",
            explorer.root,
        )
        explorer.shot("explorer_narrow_dark")
        assert not wide
    finally:
        driver.set_window_size(1500, 1500)
        driver.execute_async_script(
            "const done = arguments[0]; window.jupyterapp.commands"
            ".execute('apputils:change-theme', {theme: 'JupyterLab Light'}).then(() => setTimeout(done, 1500))"
        )


def test_every_control_has_a_name(explorer):
    nameless = explorer.driver.execute_script(
        """return [...arguments[0].querySelectorAll('input, select, button, [role=slider], [role=application]')]
             .filter((node) => node.offsetParent !== null && !node.computedName && !(
               node.labels?.length || node.textContent.trim() || node.getAttribute('aria-label') ||
               node.getAttribute('aria-labelledby') ||
               node.closest('.jupyter-widgets')?.querySelector('.widget-label')?.textContent
             )).map((node) => node.outerHTML.slice(0, 200))""",
        explorer.root,
    )
    assert nameless == []


def test_nothing_was_asked_of_the_network_and_the_kernel_lives(driver):
    elsewhere = [
        url
        for url in requests(driver)
        if url.startswith(("http:", "https:", "ws:", "wss:")) and "//127.0.0.1:" not in url
    ]
    assert elsewhere == []
    state = "return window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
    assert driver.execute_script(f"{state}.connectionStatus") == "connected"
    assert driver.execute_script(f"{state}.status") == "idle"
