"""A Domain is what it was made from, by each way in, and what a model could not tell apart is refused by name."""

import pandas as pd
import pytest

from helpers.bloodcells.domain import blood_cells
from helpers.domains import Domain
from helpers.labels import words_of

FULL = {
    "name": "skin",
    "source": "ours",
    "classes": {"melanoma": ["melanoma", "malignant melanoma"], "nevus": "nevus"},
    "concepts": {"veil": {"phrases": ["blue veil", "milky area"], "group": "colour"}, "streaks": "streaks"},
    "templates": ["a photo of {}", "{}"],
    "concept_templates": ["a photo with {}"],
    "references": ["a photo", "no {}"],
    "units": ["patient"],
    "featured": ["streaks"],
}


@pytest.fixture
def skin():
    return Domain.from_dict(FULL)


def test_what_it_holds(skin):
    assert skin.classes == {"melanoma": ("melanoma", "malignant melanoma"), "nevus": ("nevus",)}
    assert skin.concepts["veil"] == ("blue veil", "milky area")
    assert skin.groups == {"veil": "colour"}
    assert (skin.featured, skin.units, skin.references) == (("streaks",), ("patient",), ("a photo", "no {}"))


def test_defaults():
    plain = Domain("x", concepts=[f"thing {letter}" for letter in "abcdefghijkl"])
    assert plain.templates == plain.concept_templates == ("{}",)
    assert plain.featured == tuple(plain.concepts)[:9]
    assert plain.concepts["thing a"] == ("thing a",)


def test_round_trip(skin, tmp_path):
    skin.to_yaml(tmp_path / "folder" / "skin.yaml")
    assert Domain.from_yaml(tmp_path / "folder" / "skin.yaml") == skin
    assert skin.to_dict() == FULL


@pytest.mark.parametrize("name", Domain.names())
def test_those_that_ship(name, tmp_path):
    domain = Domain.named(name)
    assert domain.classes and domain.concepts and domain.source
    domain.to_yaml(tmp_path / "again.yaml")
    assert Domain.from_yaml(tmp_path / "again.yaml") == domain


def test_the_shipped_names():
    assert {words_of(name) for name in Domain.names()} >= {"blood cells", "dermatology", words_of("chest X-ray")}
    assert len(Domain.named("dermatology").concepts) == 7
    assert Domain.named("Blood_Cells") == Domain.named("blood cells")
    with pytest.raises(ValueError, match=r"astrology.*'dermatology'"):
        Domain.named("astrology")


def test_the_file_of_blood_cells_says_what_the_renderer_says():
    """After a change of helpers/bloodcells: `python -m helpers.bloodcells.domain`."""
    assert Domain.named("blood cells") == blood_cells()


def test_only_blood_cells_speak_of_cells():
    for name in set(Domain.names()) - {"blood cells"}:
        assert "cell photo" not in Domain.named(name).to_yaml()


def test_every_way_in(skin, tmp_path):
    skin.to_yaml(tmp_path / "skin.yaml")
    table = pd.DataFrame({"concept": ["veil", "veil", "streaks"], "phrase": ["blue veil", "milky area", "streaks"]})
    table.to_csv(tmp_path / "words.csv", index=False)
    assert Domain.of(skin) is skin
    assert Domain.of(FULL) == Domain.of(tmp_path / "skin.yaml") == Domain.of(str(tmp_path / "skin.yaml")) == skin
    assert Domain.of("dermatology") == Domain.named("dermatology")
    assert Domain.of(tmp_path / "words.csv").concepts == Domain.of(table).concepts == dict(skin.concepts)
    with pytest.raises(TypeError, match="int"):
        Domain.of(3)


def test_a_table(tmp_path):
    file = tmp_path / "words.csv"
    file.write_text("concept,phrase,group,class\nNA,NA,g,\nNA,none at all,,\n,,,\n,mole,,nevus\n", encoding="utf-8")
    found = Domain.from_table(file, templates="a photo of {}")
    assert found.name == "words"
    assert found.concepts == {"NA": ("NA", "none at all")}  # text, and no missing value
    assert (found.groups, found.classes) == ({"NA": "g"}, {"nevus": ("mole",)})
    assert found.templates == ("a photo of {}",)
    assert Domain.from_table(pd.DataFrame({"concept": ["veil"]})).concepts == {"veil": ("veil",)}


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"phrase": ["x"]}, "'phrase'"),
        ({"concept": ["veil", "veil"], "phrase": ["a", ""]}, "Row 2.*veil"),
        ({"concept": ["veil", None], "phrase": ["a", "b"]}, "Row 2"),
        ({"concept": [7], "phrase": ["b"]}, "Row 1.*7"),
        ({"concept": ["veil", "veil"], "phrase": ["a", "b"], "group": ["x", "y"]}, "Row 2.*veil"),
        ({"concept": ["veil"], "phrase": ["a"], "class": ["b"]}, "Row 1"),
    ],
)
def test_tables_that_are_refused(table, named):
    with pytest.raises(ValueError, match=named):
        Domain.from_table(pd.DataFrame(table))


@pytest.mark.parametrize(
    ("entries", "named"),
    [
        ({}, "'d'"),
        ({"classes": ["nevus", "Nevus "]}, "Nevus"),
        ({"classes": ["nevus", "ne\u200bvus"]}, "nevus"),
        ({"concepts": {"veil": ["blue veil", "Blue  Veil"]}}, "Blue  Veil"),
        ({"concepts": {"a veil": "veil", "b veil": "VEIL"}}, "VEIL.*b veil"),
        ({"classes": [0, 1]}, "0"),
        ({"classes": ["0", "1"]}, "'0'"),
        ({"classes": [float("nan"), "nevus"]}, "nan"),
        ({"classes": {"nevus": True}}, "nevus.*True"),
        ({"classes": ["nevus", "\u200b"]}, "200b"),
        ({"classes": "nevus"}, "nevus"),
        ({"concepts": {"veil": []}}, "veil"),
        ({"concepts": {"veil": [" "]}}, "veil"),
        ({"concepts": {"veil": {"phrase": "x"}}}, "veil.*'phrase'"),
        ({"concepts": ["veil"], "groups": {"vein": "x"}}, "vein"),
        ({"concepts": ["veil"], "groups": ["veil"]}, "list"),
        ({"concepts": ["veil"], "featured": ["vein"]}, "vein"),
        ({"classes": ["nevus"], "templates": ["a photo"]}, "a photo"),
        ({"classes": ["nevus"], "templates": ["{} or {}"]}, "{} or {}"),
        ({"classes": ["nevus"], "templates": []}, "templates"),
        ({"classes": ["nevus"], "concept_templates": "photo"}, "concept_templates.*photo"),
        ({"concepts": ["veil"], "references": ["{}"]}, "references"),
        ({"concepts": ["veil"], "references": {"a": "b"}}, "references"),
        ({"concepts": ["veil"], "units": [1]}, "units.*1"),
        ({"concepts": ["veil"], "source": 2019}, "source"),
    ],
)
def test_what_is_refused(entries, named):
    with pytest.raises(ValueError, match=named.replace("{", r"\{").replace("}", r"\}")):
        Domain("d", **entries)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name: d\nclasses: [a\n", "d.yaml"),
        ("just words", "d.yaml"),
        ("name: d\nconcepts: {veil: x, veil: y}\n", "veil"),
        ("name: d\ncolours: [red]\n", "colours"),
        ("classes: [a]\n", "name"),
        ("name: d\nclasses: [no, maybe]\n", "False"),
        ("name: d\nconcepts: {no: x}\n", "False"),
        ("name: d\nclasses: {? [a, b] : c}\n", "d.yaml"),
    ],
)
def test_files_that_are_refused(tmp_path, text, named):
    (tmp_path / "d.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=named):
        Domain.from_yaml(tmp_path / "d.yaml")


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    (tmp_path / "d.yaml").write_bytes(b"\xff\xfe\x00n")
    for name in ("d.yaml", "e.yaml", "e.csv"):
        with pytest.raises(ValueError, match=name):
            Domain.of(tmp_path / name)


def test_a_name_without_words_in_a_file_is_its_own_wording(tmp_path):
    (tmp_path / "d.yaml").write_text("name: d\nconcepts:\n  veil:\n  streaks: radial streaks\n", encoding="utf-8")
    assert Domain.from_yaml(tmp_path / "d.yaml").concepts == {"veil": ("veil",), "streaks": ("radial streaks",)}


def test_find_reads_as_a_tokenizer_does(skin):
    assert skin.find("Blue  VEIL") == "veil"
    assert skin.find("Veil\u200b") == "veil"
    assert skin.find("vein") is None
    assert skin.find("malignant melanoma", "classes") == "melanoma"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("concept,phrase\nveil,blue,extra\n", "line 2"),  # pandas shifted the cells: the concept became 'blue'
        ("concept,concept\nveil,streaks\n", "concept"),  # pandas took one of the two
        ("", "empty"),
    ],
)
def test_tables_that_would_be_read_wrong(tmp_path, text, named):
    (tmp_path / "skin.csv").write_text(text)
    with pytest.raises(ValueError, match=named):
        Domain.from_table(tmp_path / "skin.csv")


@pytest.mark.parametrize("text", ["concept;phrase\nveil;blue veil\n", "concept,phrase,\nveil,blue veil,\n,,,\n"])
def test_tables_as_people_save_them(tmp_path, text):
    (tmp_path / "skin.csv").write_text(text)
    assert Domain.of(tmp_path / "skin.csv").concepts == {"veil": ("blue veil",)}


def test_a_data_frame_with_a_column_twice():
    with pytest.raises(ValueError, match="concept"):
        Domain.from_table(pd.DataFrame([["a", "b"]], columns=["concept", "concept"]))


def test_columns_that_are_not_read_are_told(tmp_path):
    (tmp_path / "skin.csv").write_text("concept,synonyms\nveil,blue veil\n")
    with pytest.warns(UserWarning, match="'synonyms'"):
        assert Domain.of(tmp_path / "skin.csv").concepts == {"veil": ("veil",)}
    with pytest.raises(ValueError, match="droplevel"):
        Domain.from_table(pd.DataFrame({("concept", "x"): ["veil"]}))


def test_it_is_written_as_every_file_is(skin, tmp_path):
    """Beside its place and then renamed, into a folder that is made, and told where that cannot be."""
    skin.to_yaml(tmp_path / "new" / "skin.yaml")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["skin.yaml"]
    with pytest.raises(ValueError, match="'new' is a folder"):
        skin.to_yaml(tmp_path / "new")


def test_a_name_that_is_null():
    with pytest.raises(ValueError, match="name"):
        Domain.of({"name": None, "classes": ["a"]})
