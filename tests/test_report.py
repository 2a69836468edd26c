"""The report: whole, alone, and deaf to what is written in file names and labels."""

import base64
import io
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import helpers

EVIL = """<script>alert("1")</script> & <img src=x onerror='alert(1)'>"""


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    def pictures(self):
        return [Image.open(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2]))) for attrs in self.all("img")]


def test_text_from_anywhere_stays_text(tmp_path):
    frame = pd.DataFrame({EVIL: [EVIL, "plain"], "n": [1, 2]}, index=pd.Index([EVIL, "b"], name=EVIL))
    file = helpers.write_report(tmp_path / "r.html", EVIL, {EVIL: [EVIL, frame, Image.new("RGB", (4, 4))]}, note=EVIL)
    page = Page(file.read_text(encoding="utf-8"))
    assert not page.open
    assert not page.all("script")
    assert [attrs["src"][:16] for attrs in page.all("img")] == ["data:image/jpeg;"]
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert page.text.count(EVIL) == 9  # title twice; note, heading, paragraph, index, column, row, cell
    assert page.all("img")[0]["alt"] == f"picture: {EVIL}"


def test_it_needs_nothing_from_elsewhere(tmp_path):
    fig, ax = plt.subplots(figsize=(2, 1))
    page = helpers.report.report_html("Cells", {"Figures": [fig, ax], "Nothing": []})
    plt.close(fig)
    parsed = Page(page)
    assert [picture.format for picture in parsed.pictures()] == ["PNG", "PNG"]
    assert parsed.pictures()[0].tobytes() == parsed.pictures()[1].tobytes()  # an Axes brings its figure
    assert not re.search(r"""(?:src|href|url\()\s*=?\s*["']?(?!data:)[\w/.]+:?//""", page)
    policies = [attrs["content"] for attrs in parsed.all("meta") if "http-equiv" in attrs]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert {"charset": "utf-8"} in parsed.all("meta")
    assert helpers.report.NOTE in parsed.text


def test_table_cells():
    frame = pd.DataFrame(
        {
            "share": [0.12345, np.nan],
            "count": [3, 4],
            "there": [True, False],
            "accuracy": [helpers.metrics.Estimate(0.5, 0.4, 0.6)] * 2,
            "none": [None, pd.NA],
        }
    )
    html = helpers.report.report_html("t", {"s": frame}, note="")
    body = html[html.index("<tbody>") :]
    cells = re.findall(r"<td.*?>(.*?)</td>", body)
    assert cells == ["0.12", "3", "yes", "0.50 (0.40–0.60)", "–", "–", "4", "no", "0.50 (0.40–0.60)", "–"]
    assert body.count('class="number"') == 4
    assert '<th scope="row"' not in html  # plain row numbers are left out
    assert 'class="note"' not in html
    named = helpers.report.report_html("t", {"s": frame.set_axis(["a", "b"])})
    assert re.findall(r'<th scope="row">(.*?)</th>', named) == ["a", "b"]


def test_pictures_are_small_and_carry_nothing_but_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x010E] = "patient 4711"
    Image.new("RGBA", (400, 200), (255, 0, 0, 255)).convert("RGB").save(tmp_path / "a.jpg", exif=exif)
    image = Image.open(tmp_path / "a.jpg")
    page = helpers.report.report_html("t", {"s": [pd.DataFrame({"picture": [image]}), image]})
    small, large = Page(page).pictures()
    assert small.size == (112, 56)
    assert large.size == image.size == (400, 200)  # the image itself is not changed
    assert small.getpixel((50, 20)) == pytest.approx((254, 0, 0), abs=3)
    for picture in (small, large):
        assert not picture.getexif()
        assert "4711" not in str(picture.info)
    assert base64.b64encode(b"4711").decode().rstrip("=") not in page


def test_pictures_are_upright_and_transparency_is_white(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.new("RGB", (400, 200), "red").save(tmp_path / "phone.jpg", exif=exif)
    clear = Image.new("RGBA", (400, 200), (0, 0, 0, 0))
    clear.putpixel((0, 0), (255, 255, 255, 255))  # a picture of nothing at all is refused
    images = [Image.open(tmp_path / "phone.jpg"), clear]
    page = Page(helpers.report.report_html("t", {"s": [pd.DataFrame({"picture": images}), *images]}))
    assert [picture.size for picture in page.pictures()] == [(56, 112), (112, 56), (200, 400), (400, 200)]
    for picture in page.pictures()[1::2]:
        assert picture.getextrema() == ((255, 255),) * 3


def test_what_cannot_be_shown_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"'Numbers'.*ndarray"):
        helpers.write_report(tmp_path / "r.html", "t", {"Numbers": [np.zeros(3)]})
    assert not list(tmp_path.iterdir())
