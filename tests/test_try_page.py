"""docs/try/index.html in a real browser: the same numbers as Python, and not one request."""

import base64
import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

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


@pytest.fixture(scope="module")
def loaded():
    return helpers.load(helpers.MODEL_ID, device="cpu", dtype="float32")


def test_the_page_is_that_of_the_present_model():
    assert make_page.main(["--check"]) == 0


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


def test_text_vectors(page, loaded):
    texts = phrases()[::50]
    ours = helpers.encode_texts(*loaded, texts, tokens=True)
    for n, text in enumerate(texts):
        theirs = ask(page, "text", text=text, name="mini")
        width = ours.features.shape[1]
        features = (
            np.array([theirs["features"][str(i)] for i in range(width)])
            if isinstance(theirs["features"], dict)
            else np.array(theirs["features"])
        )
        np.testing.assert_allclose(features, ours.features[n], atol=1e-4)


def picture_bytes(seed: int, size: tuple[int, int]) -> bytes:
    noise = torch.nn.functional.interpolate(
        torch.rand(1, 3, 9, 7, generator=torch.Generator().manual_seed(seed)), size[::-1], mode="bicubic"
    )
    array = (noise[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


USE = """
const [data, type, done] = arguments;
const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
const options = {colorSpaceConversion: "none", premultiplyAlpha: "none"};
createImageBitmap(new File([bytes], "x", {type}), options).then(async (bitmap) => {
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const pixels = squash(overWhite(rgba), bitmap.width, bitmap.height, 224);
  const answer = await ask("picture", {rgba, width: bitmap.width, height: bitmap.height});
  const [features, tokens] = [answer.mini.features, answer.mini.tokens].map((x) => Array.from(x));
  done({pixels: Array.from(pixels), features, tokens});
});
"""


@pytest.mark.parametrize("size", [(224, 224), (640, 480), (37, 401), (300, 400), (256, 256), (1000, 90)])
def test_pixels_and_image_vectors(page, loaded, size):
    model, processor = loaded
    data = picture_bytes(sum(size), size)
    theirs = page.execute_async_script(USE, base64.b64encode(data).decode(), "image/png")
    image = Image.open(io.BytesIO(data))
    assert theirs["pixels"] == np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC)).ravel().tolist()
    ours = helpers.encode_images(model, processor, [image], tokens=True)
    np.testing.assert_allclose(theirs["features"], ours.features[0], atol=1e-4)
    np.testing.assert_allclose(theirs["tokens"], ours.tokens[0].flatten(), atol=1e-3)


def test_scores_and_maps_of_the_atlas(page, loaded):
    atlas = helpers.load_atlas("test")
    data = base64.b64encode(atlas.images.paths[0].read_bytes()).decode()
    page.execute_async_script(USE, data, "image/png" if atlas.images.paths[0].suffix == ".png" else "image/webp")
    theirs = ask(page, "phrase", text="nucleus", name="mini")
    maps = helpers.concept_maps(*loaded, [atlas.images[0]], ["nucleus"])
    got = list(theirs["map"].values()) if isinstance(theirs["map"], dict) else theirs["map"]
    np.testing.assert_allclose(got, np.asarray(maps[0, 0]).ravel(), atol=1e-3)


def test_a_file_that_python_refuses_is_refused(page):
    sixteen = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x10\2\0\0\0" + b"\0" * 8
    said = page.execute_script("return refusal(Uint8Array.from(arguments[0]))", list(sixteen))
    assert "16" in said
    assert "TIFF" in page.execute_script("return refusal(Uint8Array.from(arguments[0]))", list(b"II*\0aaaa"))
    frames = [Image.new("RGB", (8, 8), (200 * k, 0, 0)) for k in range(2)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert page.execute_script("return refusal(Uint8Array.from(arguments[0]))", list(buffer.getvalue()))
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF")
    assert page.execute_script("return refusal(Uint8Array.from(arguments[0]))", list(buffer.getvalue())) is None


def test_no_request_leaves_the_page(page):
    asked = []
    for entry in page.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
    assert any(url.startswith("file:") for url in asked)  # the log does see requests
    local = ("file:", "blob:", "data:", "chrome:")  # the last: Chromium's own empty tab
    assert [url for url in asked if not url.startswith(local)] == []
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []
