"""One folder and one table become one report, whatever stands in the table; and every number can be found again."""

import html
import re
import runpy
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small_model import small_model
from standins import skin_folder, xray_folder

import helpers
from helpers.domains import Domain
from helpers.evaluate import evaluate_folder, main
from helpers.files import read_table

CELLS = re.compile(
    r"\b(cells?|blood|smear|nucle\w+|granul\w+|cytoplas\w+|leuko\w+|neutrophil|slide-\d)\b", re.IGNORECASE
)


def run(folder, table=None, domain=None, **options):
    model, processor = small_model()
    return evaluate_folder(folder, table, domain, model=model, processor=processor, **options)


def text_of(page):
    """What a reader reads of a report."""
    body = re.sub(r"<style>.*?</style>|src=\"data:[^\"]*\"", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", " ", body))


@pytest.fixture(scope="module")
def skin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("derm") / "lesions"
    skin_folder(folder)
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def evaluation(skin):
    return run(skin, skin.parent / "table.csv", "dermatology", out=skin.parent / "out" / "report.html")


def test_what_a_report_holds(skin, evaluation):
    text = text_of(skin.parent / "out" / "report.html")
    headings = [
        "What was looked at",
        "Which class?",
        "How sure",
        "Most confident mistakes",
        "Which concepts?",
        "Groups",
    ]
    assert all(heading in text for heading in [*headings, "Methods"])
    assert "broken.png" in text and "blue whitish veil" in text and "“melanoma”, “malignant melanoma”" in text
    assert f"torch {__import__('importlib.metadata', fromlist=['version']).version('torch')}" in text
    assert not CELLS.search(text.replace("basal cell carcinoma", "")), CELLS.search(
        text.replace("basal cell carcinoma", "")
    )


def test_every_number_is_found_again(skin, evaluation):
    """From the CSV of pictures alone, as somebody else would."""
    folder = skin.parent / "out"
    pictures, numbers = (read_table(folder / f"report-{name}.csv") for name in ("pictures", "numbers"))
    value = {(r["section"], r["item"], r["measure"]): float(r["value"]) for _, r in numbers.iterrows()}
    rows = pictures[pictures["class"].notna() & pictures["problem"].isna()]
    correct = rows["guess"] == rows["class"]
    assert (rows["correct"].astype(float) == correct).all()
    assert value["classes", "all", "accuracy"] == pytest.approx(correct.mean())
    assert value["classes", "all", "balanced accuracy"] == pytest.approx(correct.groupby(rows["class"]).mean().mean())
    assert value["data", "folder", "pictures"] == len(pictures) == 25
    assert value["data", "folder", "could be read"] == 24
    assert value["data", "patient", "groups"] == 8
    for concept in ("blue whitish veil", "irregular streaks"):
        truth, score = rows[f"truth: {concept}"].astype(float), rows[f"score: {concept}"].astype(float)
        assert value["concepts", concept, "AUROC"] == pytest.approx(helpers.auroc(truth.tolist(), score.tolist()).value)
    classes = [column for column in pictures.columns if column.startswith("p: ")]
    assert [column[3:] for column in classes] == list(Domain.named("dermatology").classes)
    table = rows[classes].astype(float)
    assert (table.idxmax(axis=1).str[3:] == rows["guess"]).all()
    np.testing.assert_allclose(table.max(axis=1), rows["probability"].astype(float), atol=1e-6)
    assert (numbers.loc[numbers["section"] == "classes", "units"].astype(int) <= 8).all()


def test_what_the_figures_show_is_in_the_table_of_numbers(skin, evaluation):
    pictures, numbers = evaluation.pictures, evaluation.numbers
    rows = pictures[pictures["class"].notna() & pictures["problem"].isna()]
    counts = numbers[numbers["section"] == "confusion"].set_index("item")["value"]
    found = rows.groupby(["class", "guess"]).size()
    assert counts.to_dict() == {f"{truth} → {said}": count for (truth, said), count in found.items()}
    assert counts.sum() == len(rows)
    bins = numbers[(numbers["section"] == "calibration") & (numbers["item"] != "all")]
    shares, sure = (bins[bins["measure"] == measure] for measure in ("share right", "mean probability of the guess"))
    expected = helpers.metrics.reliability_table(rows["correct"].tolist(), rows["probability"].tolist())
    assert shares["pictures"].tolist() == expected["count"].tolist() and len(shares) == len(sure) > 0
    np.testing.assert_allclose(shares["value"], expected["observed"])
    np.testing.assert_allclose(sure["value"], expected["predicted"])
    assert (shares["units"] <= shares["pictures"]).all() and shares["low"].notna().any()


def test_the_methods_name_the_weights(evaluation):
    model, _ = small_model()
    text = " ".join(evaluation.sections["Methods"])
    assert helpers.store.weights_hash(model)[:12] in text and f"seed {helpers.SEED}" in text


def test_the_ten_most_confident_mistakes_are_pictures(evaluation):
    _, table = evaluation.sections["Most confident mistakes"]
    pictures = evaluation.pictures
    wrong = pictures[pictures["correct"] == 0].sort_values("probability", ascending=False)
    assert len(table) == min(10, len(wrong)) > 0 and all(isinstance(one, Image.Image) for one in table["picture"])
    np.testing.assert_allclose(table["probability"], wrong["probability"].head(len(table)))


def test_it_is_what_the_helpers_compute(skin, evaluation):
    read = evaluation.pictures[evaluation.pictures["problem"].isna()]
    files = [skin / file for file in read["file"]]
    model, processor = small_model()
    classes = helpers.zero_shot(model, processor, files, domain="dermatology")
    concepts = helpers.annotate(model, processor, files, domain="dermatology")
    assert read["guess"].tolist() == classes.idxmax(axis=1).tolist()
    np.testing.assert_allclose(read[[f"score: {c}" for c in concepts.columns]], concepts, atol=1e-5)


def test_patients_stay_together(skin):
    with pytest.raises(ValueError, match=r"nobody.*'patient'"):
        run(skin, skin.parent / "table.csv", unit="nobody")
    together = run(skin, skin.parent / "table.csv", "dermatology").unit
    assert (together, run(skin, skin.parent / "table.csv", unit="patient").unit) == ("patient", "patient")
    assert run(skin, skin.parent / "table.csv").unit is None  # without a domain nobody says that `patient` is a unit


def test_chests(tmp_path):
    folder = tmp_path / "chests"
    xray_folder(folder)
    found = run(folder, tmp_path / "table.csv", "chest X-ray", out=tmp_path / "report.html")
    assert found.unit == "study"
    assert "truth: pleural effusion" in found.pictures  # the table says it in another of the domain's wordings
    numbers = found.numbers.set_index(["section", "item", "measure"])
    assert ("concepts", "pneumothorax", "AUROC") not in numbers.index  # nobody has it
    assert numbers.loc[("concepts", "pneumothorax", "pictures that have it"), "value"] == 0
    assert not CELLS.search(text_of(tmp_path / "report.html"))


def test_without_a_domain_the_table_is_the_domain(skin, tmp_path):
    found = run(skin, skin.parent / "table.csv", title=5, out=tmp_path / "r.html")
    assert set(found.domain.classes) == {"nevus", "melanoma", "basal cell carcinoma"}
    assert set(found.domain.concepts) == {"blue whitish veil", "Irregular streaks"}
    assert found.domain.templates == ("{}",)


# --- tables of every kind ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    folder = tmp_path_factory.mktemp("four") / "pictures"
    folder.mkdir()
    for n, name in enumerate("abcdef"):
        pixels = np.random.default_rng(n).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def table_of(folder, text):
    file = folder.parent / "some.csv"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "classes", "concepts", "unit"),
    [
        ("file,label\na.png,x\nb.png,y\n", ["x", "y"], [], None),
        ("file,label\na.png,None\nb.png,NA\nc.png,null\nd.png,\n", ["NA", "None", "null"], [], None),
        (
            "file,vacuoles,granules,group,label\na.png,1,0,p1,x\nb.png,0,1,p1,y\nc.png,1,1,p2,x\nd.png,0,0,p2,y\n",
            ["x", "y"], ["vacuoles", "granules"], "group",
        ),
        ("file,group,label\na.png,p1,x\nb.png,,y\nc.png,p2,x\nd.png,,y\n", ["x", "y"], [], "group"),
        ("file,group,label\na.png,p1,x\nb.png,p2,y\nc.png,p3,x\n", ["x", "y"], [], "group"),
        ("label,file\nx,a.png\nx,b.png\ny,c.png\ny,d.png\nz,e.png\nz,f.png\n", ["x", "y", "z"], [], None),
        ("file,label,veil\na.png,x,true\nb.png,x,FALSE\nc.png,,1\n", ["x"], ["veil"], None),
        ("file,veil\na.png,1\nb.png,0\nc.png,\n", [], ["veil"], None),
        ("file,label,group\na.png,x,\nb.png,y,\n", ["x", "y"], [], None),
        ("file,label,group\na.png,x,p\nb.png,y,p\nc.png,y,p\n", ["x", "y"], [], "group"),
        ("file,label\na.png,x\n,\n\nb.png,y,\n", ["x", "y"], [], None),
        ("file,label\na.png,x\nb.png,x\n", ["x"], [], None),
    ],
)  # fmt: skip
def test_tables_that_end_in_a_report(four, text, classes, concepts, unit, tmp_path):
    found = run(four, table_of(four, text), out=tmp_path / "r.html")
    assert sorted(found.domain.classes) == classes
    assert list(found.domain.concepts) == concepts
    assert found.unit == unit
    assert len(found.pictures) == 6 and found.pictures["problem"].isna().all()
    assert len(found.numbers) and (tmp_path / "r.html").is_file()
    assert not CELLS.search(text_of(tmp_path / "r.html").replace("vacuoles", "").replace("granules", ""))


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        ("file,label\na.png,0\nb.png,1\n", {}, r"'0'"),
        ("file,label\na.png,x\nb.png,X \n", {}, "X"),
        ("file,label\na.png,x\nb.png,y\n", {"domain": "dermatology"}, "'x'.*dermatology"),
        ("file,note\na.png,hello\n", {}, "label"),
        ("file,label\na.png,x\nzz.png,y\n", {}, "zz.png"),
        ("file,veil,Veil\na.png,1,0\nb.png,0,1\n", {}, "Veil"),
        (
            "file,blue whitish veil,blue white veil\na.png,1,0\nb.png,0,1\n",
            {"domain": "dermatology"}, "blue white veil",
        ),
        ("file,2019\na.png,1\nb.png,0\n", {}, "2019"),
        ("file,label\na.png,x\nb.png,y\n", {"unit": "patient"}, "patient"),
        ("file,label\na.png,x\nb.png,y\n", {"recipe": "median", "domain": Domain("d", concepts=["veil"])}, "median"),
        ("file,label\na.png,0\nb.png,1\n", {"names": {"0": "nevus"}}, "'1'"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(four, text, options, named):
    table = table_of(four, text)
    with pytest.raises(ValueError, match=named):
        run(four, table, **options)


def test_integer_labels_with_their_names(four):
    table = table_of(four, "file,label\na.png,0\nb.png,1\nc.png,0\n")
    found = run(four, table, "dermatology", names={0: "nevus", 1: "malignant melanoma"})
    assert found.pictures["class"].dropna().tolist() == ["nevus", "melanoma", "nevus"]


def test_a_folder_without_a_table_is_answered_and_not_graded(four, tmp_path):
    found = run(four, None, "dermatology", out=tmp_path / "r.html")
    assert found.pictures["guess"].notna().all()
    assert set(found.numbers["section"]) == {"data"}


def test_folders_as_labels(skin, tmp_path):
    for n, file in enumerate(sorted(skin.glob("lesion-0*.png"))):
        target = tmp_path / "all" / ("nevus" if n % 2 else "melanoma") / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    found = run(tmp_path / "all", "folders", "dermatology")
    assert found.pictures["class"].value_counts().to_dict() == {"melanoma": 5, "nevus": 5}


# --- from a terminal --------------------------------------------------------------------------------------------------


def test_the_command(skin, tmp_path, capsys):
    table, out = str(skin.parent / "table.csv"), str(tmp_path / "r.html")
    assert main([str(skin), table, "--domain", "dermatology", "--out", out]) == 0
    said = capsys.readouterr().out
    assert "accuracy" in said and "25 pictures" in said and (tmp_path / "r-numbers.csv").is_file()
    (tmp_path / "own.yaml").write_text(
        "name: spots\nclasses: [nevus, melanoma, basal cell carcinoma]\n", encoding="utf-8"
    )
    assert main([str(skin), table, "--domain", str(tmp_path / "own.yaml"), "--out", out]) == 0
    capsys.readouterr()
    for arguments, named in (
        ([str(skin / "not")], "not"),
        ([str(skin), table, "--domain", "astrology"], "astrology"),
        ([str(skin), table, "--names", "nevus"], "nevus"),
    ):
        assert main([*arguments, "--out", out]) == 2
        assert named in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_the_command_is_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["helpers.evaluate", "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("helpers.evaluate", run_name="__main__")
    assert end.value.code == 0 and "--domain" in capsys.readouterr().out


def test_every_number_is_a_number(evaluation):
    assert isinstance(evaluation.numbers, pd.DataFrame) and evaluation.numbers["value"].notna().all()


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"out": ""}, ValueError, "out"),
        ({"out": 5}, TypeError, "out is a int"),
        ({"unit": ["group"]}, TypeError, "unit is a list"),
        ({"names": ["x", "y"]}, TypeError, "names is a list"),
        ({"names": {"x": "", "y": "z"}}, ValueError, "''.*'x'"),
        ({"names": {"x": "z", "y": None}}, ValueError, "None.*'y'"),
        ({"names": {"x": "z", "y": 2}}, ValueError, "2.*'y'"),
        ({"window": 5}, ValueError, "window"),
    ],
)
def test_arguments_of_another_kind(four, options, error, named):
    table = table_of(four, "file,label\na.png,x\nb.png,y\n")
    with pytest.raises(error, match=named):
        run(four, table, **options)


def test_where_the_report_goes_is_checked_before_the_work(four, tmp_path, monkeypatch):
    """It was found out at the end, when the pictures had been encoded; and labels were written over."""
    monkeypatch.setattr("helpers.evaluate.iter_image_encodings", None)
    text = "file,label\na.png,x\nb.png,y\n"
    table = tmp_path / "r-pictures.csv"
    table.write_text(text, encoding="utf-8")
    (tmp_path / "file").write_text("")
    for out, named in (
        (tmp_path, "is a folder"),
        (tmp_path / "file" / "r.html", "cannot be written"),
        (tmp_path / "r.html", "'r-pictures.csv' is the table"),
        (table, "'r-pictures.csv' is the table"),
    ):
        with pytest.raises(ValueError, match=named):
            run(four, table, out=out)
    assert table.read_text(encoding="utf-8") == text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "r-pictures.csv"]


def test_pictures_of_every_kind_are_answered_or_told(tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "odd"
    folder.mkdir()
    picture = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("P").save(folder / "palette.png", transparency=0)
    picture.convert("LAB").save(folder / "lab.tif")
    picture.convert("1").save(folder / "bits.png")
    picture.resize((1, 1)).save(folder / "one.png")
    picture.resize((1, 5000)).save(folder / "thin.png")
    picture.save(folder / "1.2.840.113619.2.png")
    picture.save(folder / "gif.png", format="GIF")
    told = {"empty.png": "0 bytes", "film.webp": "3 pages", "deep.png": "window", "text.jpg": "not an image"}
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("<html>")
    picture.save(folder / "film.webp", save_all=True, append_images=[picture.rotate(90), picture.rotate(180)])
    Image.fromarray(rng.integers(0, 65536, (30, 40), dtype=np.uint16)).save(folder / "deep.png")
    picture.save(folder / "film.gif")
    (folder / "1.2.840.dcm").write_bytes(bytes(128) + b"DICM")
    with pytest.warns(UserWarning, match=r"1 × \.dcm, 1 × \.gif"):
        found = run(folder, None, Domain("d", classes=["x", "y"])).pictures.set_index("file")
    problems = found["problem"].dropna()
    assert set(problems.index) == set(told) and all(told[name] in problems[name] for name in told)
    assert found["guess"].notna().sum() == 8 and len(found) == 12
