"""Slides: one for each figure and each gotcha, in one page that asks for nothing."""

import base64
import io

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from tools import slides
from tools.chapters import NOTEBOOKS, Chapter

FIRST = (
    "# 01 One\n\n**What is it?**\n\nA sentence.\n\nYou will be able to\n- one\n- two\n- three\n\n"
    "*Time* 9 minutes core, 17 whole · *Memory* 1 GB · *Data* none · *Model* none"
)


def chapter(tmp_path, outputs=True):
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "PNG")
    figure = new_output("display_data", {"image/png": base64.b64encode(picture.getvalue()).decode()})
    said = new_output("stream", text="A red square.\n")
    cells = [
        new_markdown_cell(FIRST),
        new_markdown_cell("## 1 Squares\n\n> **Gotcha: squares are [red](#x).** Mind $x^2$."),
        new_code_cell("plot()", outputs=[said, figure] if outputs else []),
        new_markdown_cell("**Here:** it is red.\n\nOther text.\n\n**Here:** of nothing that is drawn."),
        new_code_cell("print(1)", outputs=[new_output("stream", text="secret")] if outputs else []),
        new_markdown_cell(
            "<details><summary>More</summary>\n\n**Gotcha: folded.**\n\n</details>\n\n**Gotcha: two.** Yes."
        ),
        new_markdown_cell("### Exercise 01-a\n\nAsk?"),
        new_code_cell('helpers.check("01-a", 1)', outputs=[figure] if outputs else []),
    ]
    path = tmp_path / "01_one.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return Chapter.read(path)


def test_slides(tmp_path):
    page = slides.write(chapter(tmp_path), tmp_path / "slides")
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    title, gotcha, figure, second = soup.select("section")
    assert "What is it?" in title.text
    assert "squares are red" in gotcha.text and gotcha.select("math")
    assert figure.img["alt"] == "A red square." and "it is red" in figure.text and "1 Squares" in figure.text
    assert "Gotcha: two" in second.text
    assert not any(word in soup.text for word in ("secret", "folded", "plot()", "of nothing"))
    assert not soup.select("script, link, a[href]") and "https:" not in page.read_text(encoding="utf-8")
    deck = nbformat.read(tmp_path / "slides" / "01_one.ipynb", as_version=4)
    nbformat.validate(deck)
    assert [cell.metadata.slideshow.slide_type for cell in deck.cells].count("slide") == 4


def test_without_outputs_there_are_no_figures(tmp_path, capsys):
    with pytest.raises(ValueError, match="01_one"):
        slides.slides(chapter(tmp_path, outputs=False))
    with pytest.raises(SystemExit):
        slides.main([str(NOTEBOOKS / "99_none.ipynb")])
