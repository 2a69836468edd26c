"""Notebook 12 on other people's folders: its cells, run one by one, on every kind of table.

What it prints must not speak of blood cells where the folder holds something else.
"""

import contextlib
import io
import re
import warnings
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from PIL import Image
from small_model import small_model
from standins import skin_folder, xray_folder

import helpers

NOTEBOOK = Path(__file__).resolve().parent.parent / "notebooks" / "12_your_own_images.ipynb"
CASES = Path(__file__).parent / "cases" / "tables"
FOREIGN = re.compile(
    r"\b(blood|cells?|smear|nucle\w+|granul\w+|cytoplas\w+|vacuol\w+|leuko\w+|\w+phils?|atlas|slide-\d)\b",
    re.IGNORECASE,
)


def run(folder, labels, *, domain=None, names=None):
    """Run all cells with a folder of one's own; what they print, the texts of their figures, and their variables."""
    said, scope = io.StringIO(), {"__name__": "__main__"}
    matplotlib.use("Agg")
    show, load = plt.show, helpers.load

    def read_figures():
        for number in plt.get_fignums():
            for text in plt.figure(number).findobj(matplotlib.text.Text):
                said.write(text.get_text() + "\n")
        plt.close("all")

    plt.show, helpers.load = (
        read_figures,
        small_model,
    )  # random weights: what is printed matters here, not how good it is
    try:
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            for cell in nbformat.read(NOTEBOOK, 4).cells:
                # Exercises wait for an answer, and the page in a frame for a browser.
                if cell.cell_type == "code" and not cell.metadata.get("tags"):
                    source = cell.source
                    for name, value in (("FOLDER", folder), ("LABELS", labels), ("DOMAIN", domain), ("NAMES", names)):
                        value = str(value) if isinstance(value, Path) else value
                        source = re.sub(
                            rf"^MY_{name} = None", lambda _, n=name, v=value: f"MY_{n} = {v!r}", source, flags=re.M
                        )
                    last = source.rstrip().splitlines()[-1]
                    exec(compile(source, cell.id, "exec"), scope)
                    if re.match(r"[a-z_]+[\[.][^=]*$", last):  # a table as the cell's value
                        said.write(str(eval(last, scope)) + "\n")
    finally:
        plt.show, helpers.load = show, load
        plt.close("all")
        temporary = scope.get("temporary")
        if temporary is not None:
            with contextlib.suppress(Exception):
                temporary.cleanup()
    return said.getvalue(), scope


@pytest.mark.parametrize("domain", ["dermatology", None])
def test_a_folder_of_skin(tmp_path, domain):
    skin_folder(tmp_path / "lesions", 18)
    said, scope = run(tmp_path / "lesions", tmp_path / "table.csv", domain=domain)
    assert not FOREIGN.search(said.replace("basal cell carcinoma", "")), FOREIGN.search(
        said.replace("basal cell carcinoma", "")
    )
    assert set(scope["columns"].values()) == {"blue whitish veil", "Irregular streaks"}
    assert len(scope["classes"]) == (5 if domain else 3)


def test_a_folder_of_chests_and_a_domain_in_a_file(tmp_path):
    xray_folder(tmp_path / "chests", 16)
    helpers.Domain.named("chest X-ray").to_yaml(tmp_path / "chest.yaml")
    said, scope = run(tmp_path / "chests", tmp_path / "table.csv", domain=str(tmp_path / "chest.yaml"))
    assert not FOREIGN.search(said), FOREIGN.search(said)
    assert scope["evaluation"].unit == "study"


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    folder = tmp_path_factory.mktemp("six") / "pictures"
    folder.mkdir()
    for n, name in enumerate("abcdef"):
        pixels = np.random.default_rng(n).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


TABLES = {
    "three groups": "file,group,label\na.png,p1,x\nb.png,p1,y\nc.png,p2,x\nd.png,p2,y\ne.png,p3,x\nf.png,p3,y\n",
    "a class of two": "file,label\na.png,x\nb.png,x\nc.png,x\nd.png,x\ne.png,y\nf.png,y\n",
    "concepts anywhere": "veil,label,file,streaks,note\n1,x,a.png,0,hello\n0,y,b.png,1,\n1,y,c.png,,\n,x,d.png,1,\n",
    "one group": "file,group,label\na.png,p,x\nb.png,p,y\nc.png,p,y\n",
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_that_people_bring(six, kind, tmp_path):
    (tmp_path / "t.csv").write_text(TABLES[kind], encoding="utf-8")
    said, scope = run(six, tmp_path / "t.csv")
    assert not FOREIGN.search(said), FOREIGN.search(said)
    assert list(scope["columns"]) == (["veil", "streaks"] if kind == "concepts anywhere" else [])


@pytest.mark.parametrize(
    "name",
    [
        "blanks",
        "classes-that-look-missing",
        "concepts-before-group",
        "empty-rows",
        "groups-with-gaps",
        "trailing-comma",
    ],
)
def test_the_collected_cases(name):
    said, scope = run(CASES / "pictures", CASES / f"{name}.csv")
    assert "everything that was written is gone: True" in said
    if name == "concepts-before-group":
        assert list(scope["columns"]) == ["vacuoles", "granules"]


def test_identifiers_stay_text():
    _, scope = run(CASES / "pictures", CASES / "ids-are-text.csv")
    assert {"007", "7", "1.10", "1.1", "9007199254740993"} == set(scope["table"]["group"].dropna())


def test_numbers_for_labels_ask_for_words_and_take_a_mapping(tmp_path):
    with pytest.raises(ValueError, match="'0'"):
        run(CASES / "pictures", CASES / "integer-labels.csv")
    said, scope = run(CASES / "pictures", CASES / "integer-labels.csv", names={"0": "nevus", "1": "melanoma"})
    assert scope["classes"] == ["melanoma", "nevus"] and "everything that was written is gone" in said
