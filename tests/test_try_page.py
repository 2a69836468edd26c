"""docs/try/index.html in a real browser: the same numbers as Python, and not one request."""

import base64
import io
import json
import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr

import helpers
from recipes import make_page

selenium = pytest.importorskip("selenium")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

pytestmark = pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")), reason="no Chromium")

ASK = """
const [kind, question, done] = arguments;
ask(kind, question).then(done, (error) => done({problem: error.message}));
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync"
    for flag in [
        *flags.split(),
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
        "--force-device-scale-factor=1",
    ]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(120)
    driver.get(make_page.PAGE.as_uri())
    WebDriverWait(driver, 120).until(lambda d: d.execute_script("return document.body.dataset.ready") == "yes")
    yield driver
    driver.quit()


def ask(page, kind, **question):
    return page.execute_async_script(ASK, kind, question)


NAMES = [
    name for name, folder in make_page.MODELS.items() if (make_page.ROOT / "data" / folder / "config.json").exists()
]
"""The models of the page."""


@pytest.fixture(scope="module")
def models():
    folders = {name: make_page.ROOT / "data" / make_page.MODELS[name] for name in NAMES}
    return {name: helpers.load(folder, device="cpu", dtype="float32") for name, folder in folders.items()}


@pytest.fixture(scope="module")
def loaded(models):
    return models["mini"]


def numbers(found) -> np.ndarray:
    """What a browser's array becomes on its way: a list, or a dict of its places."""
    return np.array(list(found.values()) if isinstance(found, dict) else found)


def until(page, script, seconds=120):
    """Wait until a script gives something true, and give that."""
    return WebDriverWait(page, seconds).until(lambda driver: driver.execute_script(script))


def test_the_page_is_that_of_the_present_model():
    """When this fails, the page is older than the model or than its own sources: python -m recipes.make_page"""
    assert make_page.main(["--check"]) == 0
    assert make_page.PAGE.stat().st_size <= make_page.LARGEST


def test_an_older_page_is_noticed(tmp_path, monkeypatch, capsys):
    changed = make_page.PAGE.read_text("utf-8").replace("data-weights", "data-weight", 1)
    monkeypatch.setattr(make_page, "PAGE", tmp_path / "index.html")
    monkeypatch.setattr(make_page, "ROOT", tmp_path)
    monkeypatch.setattr(make_page, "page", lambda: changed + "newer")
    (tmp_path / "index.html").write_text(changed, "utf-8")
    assert make_page.main(["--check"]) == 1
    assert "recipes.make_page" in capsys.readouterr().err
    assert make_page.main([]) == 0 and make_page.main(["--check"]) == 0


def phrases() -> list[str]:
    """A thousand: all that captions say, in all templates, and what other people write."""
    concepts = [phrase for concept in helpers.bloodcells.CONCEPTS.values() for phrase in concept.phrases]
    odd = (
        "α-granules|naïve Zelle, groß|Ångström 5µm|cell 😀 photo|核 nucleus|a\tb\nc|İstanbul|co-expression (CD4+/CD8−)"
    )
    odd += (
        "|ﬁne granules|e\u0301clat|don't|50 % of cells|№ 5|ß|½ cell|a\u200bb|—dash—|Straße|ΑΒΓ|ǅ|…|100×|Ⅳ|ñandú|Δ F508"
    )
    odd += "|한국어 세포|ক্ষ|שלום|مرحبا|" + "x" * 120 + "|" + "a" * 99 + " b|" + "nucleus" * 20
    texts = odd.split("|") + concepts + [t.replace("{}", c) for t in helpers.bloodcells.TEMPLATES for c in concepts]
    return texts[:1000]


def test_ids_and_places_of_a_thousand_phrases(page, loaded):
    _, processor = loaded
    texts = phrases()
    assert len(texts) == 1000
    script = "const [texts, done] = arguments; Promise.all(texts.map((text) => ask('tokenize', {text}))).then(done);"
    theirs = page.execute_async_script(script, texts)
    for text, got in zip(texts, theirs, strict=True):
        wanted = processor.tokenizer(text, truncation=True, max_length=77, return_offsets_mapping=True)
        assert got["ids"] == wanted["input_ids"], text
        assert got["offsets"] == [list(pair) for pair in wanted["offset_mapping"]], text


@pytest.mark.parametrize("text", ["a [SEP] b", "[PAD]", "\u200b", "   "])
def test_what_helpers_refuses_the_page_refuses(page, loaded, text):
    with pytest.raises(ValueError):
        helpers.encode_texts(*loaded, [text])
    assert ask(page, "tokenize", text=text)["problem"]


@pytest.mark.parametrize("name", NAMES)
def test_text_vectors(page, models, name):
    texts = phrases()[::50]
    ours = helpers.encode_texts(*models[name], texts, tokens=True)
    for n, text in enumerate(texts):
        theirs = ask(page, "text", text=text, name=name)
        np.testing.assert_allclose(numbers(theirs["features"]), ours.features[n], atol=1e-4)
        tokens = ours.tokens[n][ours.mask[n].bool()]
        np.testing.assert_allclose(numbers(theirs["tokens"]), tokens.flatten(), atol=1e-3)


def picture_bytes(seed: int, size: tuple[int, int]) -> bytes:
    noise = torch.nn.functional.interpolate(
        torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(seed)), size[::-1], mode="bicubic"
    )
    array = (noise[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


USE = """
const [data, type, name, done] = arguments;
const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
const options = {colorSpaceConversion: "none", premultiplyAlpha: "none"};
createImageBitmap(new File([bytes], "x", {type}), options).then(async (bitmap) => {
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const pixels = squash(overWhite(rgba), bitmap.width, bitmap.height, 224);
  await ask("picture", {rgba, width: bitmap.width, height: bitmap.height});
  const answer = await ask("image", {name});
  done({pixels: Array.from(pixels), features: Array.from(answer.features), tokens: Array.from(answer.tokens)});
});
"""


def look(page, data: bytes, kind: str, name: str = "mini"):
    return page.execute_async_script(USE, base64.b64encode(data).decode(), f"image/{kind}", name)


@pytest.mark.parametrize("size", [(224, 224), (640, 480), (37, 401), (300, 400), (256, 256), (1000, 90)])
def test_pixels_and_image_vectors(page, loaded, size):
    model, processor = loaded
    data = picture_bytes(sum(size), size)
    theirs = look(page, data, "png")
    image = Image.open(io.BytesIO(data))
    assert theirs["pixels"] == np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC)).ravel().tolist()
    ours = helpers.encode_images(model, processor, [image], tokens=True)
    np.testing.assert_allclose(theirs["features"], ours.features[0], atol=1e-4)
    np.testing.assert_allclose(theirs["tokens"], ours.tokens[0].flatten(), atol=1e-3)


@pytest.fixture
def cell(page):
    """A drawn cell, put before the page's models; the picture."""
    atlas = helpers.load_atlas("test")
    look(page, atlas.images.paths[0].read_bytes(), atlas.images.paths[0].suffix[1:])
    return atlas.images[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("source", ["atlas", "cells"])
def test_the_shipped_cells(page, models, name, source):
    """WebP, as it ships: its pixels and what each model makes of them."""
    found = (helpers.load_atlas if source == "atlas" else helpers.load_cells)("test")
    path = found.images.paths[1]
    theirs = look(page, path.read_bytes(), path.suffix[1:], name)
    image = helpers.images.as_shown(path)
    wanted = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC)).ravel()
    assert np.abs(np.array(theirs["pixels"]) - wanted.astype(int)).max() == 0
    ours = helpers.encode_images(*models[name], [image])
    np.testing.assert_allclose(theirs["features"], ours.features[0], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_scores_maps_words_and_boxes(page, models, cell, name):
    model, processor = models[name]
    theirs = ask(page, "phrase", text="segmented nucleus", name=name)
    (ours,) = helpers.concept_maps(model, processor, [cell], ["segmented nucleus"])[0]
    np.testing.assert_allclose(numbers(theirs["map"]), np.asarray(ours).ravel(), atol=1e-3)
    image, text = (
        helpers.encode_images(model, processor, [cell], tokens=True),
        helpers.encode_texts(model, processor, ["segmented nucleus"], tokens=True),
    )
    cosine = float(image.features[0] @ text.features[0])
    assert theirs["cosine"] == pytest.approx(cosine, abs=1e-4)
    logit = model.logit_scale.exp().item() * cosine + model.logit_bias.item()
    assert theirs["sigmoid"] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-3)
    word = theirs["words"][-1]
    assert word["text"] == "nucleus"
    unit = torch.nn.functional.normalize
    vector = unit(text.tokens[0][word["positions"]].mean(dim=0), dim=-1)
    np.testing.assert_allclose(numbers(word["map"]), unit(image.tokens[0], dim=-1) @ vector, atol=1e-3)
    (box,) = ask(page, "box", name=name, phrases=["segmented nucleus"], rows=[4, 9], columns=[3, 7])
    assert box["cosine"] == pytest.approx(float(np.asarray(ours)[4:9, 3:7].mean()), abs=1e-3)


@pytest.mark.skipif(len(NAMES) < 2, reason="one model ships")
def test_where_the_models_differ(page, models, cell):
    texts = ["a dog", "nucleus", "red blood cells"]
    theirs = ask(page, "differ", names=NAMES, phrases=texts)
    assert sorted(row["text"] for row in theirs) == texts
    gaps = [abs(row["sigmoids"][0] - row["sigmoids"][1]) for row in theirs]
    assert gaps == sorted(gaps, reverse=True)
    maps = {name: helpers.concept_maps(*models[name], [cell], texts)[0] for name in NAMES}
    for row in theirs:
        a, b = (np.asarray(maps[name][texts.index(row["text"])]).ravel() for name in NAMES)
        assert row["agreement"] == pytest.approx(spearmanr(a, b).statistic, abs=0.01)


# --- what Python refuses ----------------------------------------------------------------------------------------------

GIVE = """
const [data, name, done] = arguments;
const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
useFile(new File([bytes], name)).then(() => done([$("#status").className, $("#status").textContent]));
"""


def saved(kind: str, image: Image.Image | None = None, **how) -> bytes:
    buffer = io.BytesIO()
    (image or Image.open(io.BytesIO(picture_bytes(3, (60, 40))))).save(buffer, kind, **how)
    return buffer.getvalue()


def files() -> dict[str, bytes]:
    """Whole pictures of each kind, and what is wrong with pictures."""
    whole = {kind: saved(kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")}
    films = [Image.new("RGB", (20, 20), (100 * k, 0, 0)) for k in range(2)]
    found = {f"whole.{kind.lower()}": data for kind, data in whole.items()}
    found |= {
        f"film.{kind.lower()}": saved(kind, films[0], save_all=True, append_images=films[1:])
        for kind in ("PNG", "GIF", "WEBP")
    }
    found |= {f"half.{kind.lower()}": data[: len(data) // 2] for kind, data in whole.items() if kind != "GIF"}
    bad = bytearray(whole["PNG"])
    bad[-30] ^= 1  # in the last pixels, whose sum is wrong then
    found["damaged.png"] = bytes(bad)
    found["sixteen.png"] = saved("PNG", Image.fromarray(np.full((9, 9), 4000, np.uint16)))
    found["transparent.png"] = saved("PNG", Image.new("RGBA", (9, 9), (9, 9, 9, 0)))
    found["alpha.png"] = saved("PNG", Image.new("RGBA", (9, 9), (200, 9, 9, 255)))
    found["grey.png"] = saved("PNG", Image.new("L", (9, 9), 40))
    found["palette.png"] = saved("PNG", Image.new("P", (9, 9), 3))
    found["words.png"] = b"This is no picture."
    found["empty.png"] = b""
    return found


@pytest.mark.parametrize("name", list(files()))
def test_a_file_that_python_refuses_is_refused(page, loaded, tmp_path, name):
    data = files()[name]
    (tmp_path / name).write_bytes(data)
    try:
        helpers.encode_images(*loaded, [tmp_path / name])
        refused = False
    except ValueError:
        refused = True
    status, said = page.execute_async_script(GIVE, base64.b64encode(data).decode(), name)
    assert (status == "wrong") == refused, said
    assert said.startswith(name) if refused else said == ""


@pytest.mark.parametrize(("kind", "mode", "word"), [("JPEG", "CMYK", "CMYK"), ("TIFF", "RGB", "PNG or JPEG")])
def test_what_a_browser_would_read_otherwise_is_refused_too(page, kind, mode, word):
    data = saved(kind, Image.new(mode, (9, 9)))
    status, said = page.execute_async_script(GIVE, base64.b64encode(data).decode(), "a file")
    assert status == "wrong" and word in said


# --- what a person does -----------------------------------------------------------------------------------------------


@pytest.fixture
def opened(page):
    """The page with its first picture and the phrases that it begins with."""
    page.execute_async_script(
        "const done = arguments[0]; state.phrases = [...PAGE.first]; state.shown = state.box = null;"
        "state.models = [NAMES[0]]; "
        "[...document.querySelectorAll('#models input')].forEach((e, k) => { e.checked = !k; });"
        "useShipped(PAGE.pictures[0], $('#pictures button')).then(done)"
    )
    return page


def test_a_word_has_its_own_map(opened):
    text = "return $('#figures figcaption').textContent"
    before = opened.execute_script(text)
    opened.execute_script(
        "[...document.querySelectorAll('.words button')].find((b) => b.textContent === 'cells').click()"
    )
    after = opened.execute_script(text)
    assert "“nucleus”" in before and "“cells” in “red blood cells”" in after
    assert opened.execute_script("return $('#phrases .words [aria-pressed=true]').textContent") == "cells"


def test_everything_by_keyboard(opened):
    from selenium.webdriver.common.keys import Keys

    opened.execute_script("$('#text').focus()")
    opened.switch_to.active_element.send_keys("round nucleus", Keys.ENTER)
    until(opened, "return $('#phrases .phrase').textContent === 'round nucleus' && $('#phrases .model')")
    opened.execute_script("$('#phrases .words button').focus()")
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    # The list is made anew, and whoever pressed the button stays at it.
    assert opened.switch_to.active_element.text == "round"
    opened.execute_script("$('#figures canvas').focus()")
    opened.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    opened.switch_to.active_element.send_keys(Keys.SHIFT, Keys.ARROW_DOWN)
    until(opened, "return $('#box-place').textContent.includes('Rows 6 to 10, columns 6 to 9')")
    cells = "return [...document.querySelectorAll('#box-tables td:last-child')].map((td) => td.textContent)"
    rows = [float(text.replace("−", "-")) for text in opened.execute_script(cells)]
    assert len(rows) == 8 and rows == sorted(rows, reverse=True)
    opened.execute_script("$('#figures canvas').focus()")
    opened.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(opened, "return $('#box').hidden")


def test_phrases_stand_side_by_side_and_the_ninth_says_so(opened):
    for n in range(9):
        opened.execute_async_script("const [n, done] = arguments; addPhrase(`nucleus ${n}`).then(done)", n)
    assert opened.execute_script("return document.querySelectorAll('#phrases li').length") == 8
    assert opened.execute_script("return document.querySelectorAll('#phrases canvas').length") == 8
    assert "nucleus 0" in opened.execute_script("return $('#status').textContent")


@pytest.mark.skipif(len(NAMES) < 2, reason="one model ships")
def test_both_models_side_by_side(opened):
    opened.execute_script("document.querySelectorAll('#models input')[2].click()")
    until(opened, "return document.querySelectorAll('#differ-table tbody tr').length === 10 && !$('#differ').hidden")
    shown = opened.execute_script("return [...document.querySelectorAll('#figures figure')].map((f) => !f.hidden)")
    assert shown == [True, True]
    assert (
        opened.execute_script("return document.querySelectorAll('#phrases li')[0].querySelectorAll('.model').length")
        == 2
    )
    opened.execute_script("document.querySelectorAll('#models input')[0].click()")
    until(opened, "return $('#differ').hidden && !$('#status').textContent")


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_wide_and_narrow_light_and_dark(opened, width, scheme):
    emulate = opened.execute_cdp_cmd
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    emulate("Emulation.setDeviceMetricsOverride", size)
    emulate("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    try:
        opened.execute_script(
            "document.querySelectorAll('#models input')[2]?.click(); state.box = {left: 3, top: 3, right: 8, bottom: 8}"
        )
        opened.execute_async_script("const done = arguments[0]; askAll().then(done)")
        time.sleep(0.1)
        assert opened.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        colour = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, colour[4:-1].split(","))) < 200) == (scheme == "dark")
        unlabelled = """return [...document.querySelectorAll("button, input, #figures canvas")]
            .filter((e) => !(e.textContent.trim() || e.getAttribute("aria-label") || e.closest("label"))).length"""
        assert opened.execute_script(unlabelled) == 0
    finally:
        emulate("Emulation.clearDeviceMetricsOverride", {})
        emulate("Emulation.setEmulatedMedia", {"features": []})
        opened.execute_script("document.querySelectorAll('#models input')[0]?.click(); state.box = null")


def test_no_request_leaves_the_page(page):
    asked = []
    for entry in page.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
    assert any(url.startswith("file:") for url in asked)  # the log does see requests
    local = ("file:", "blob:", "data:", "chrome:", "chrome-untrusted:")  # the last two: Chromium's own empty tab
    assert [url for url in asked if not url.startswith(local)] == []
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
