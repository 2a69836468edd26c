"""The evaluation on cases whose answer is known by hand: a judge who knows everything, and one who knows nothing."""

import argparse
import json
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score
from small_model import make_model, make_processor

from helpers.bloodcells import ATTRIBUTES, CELL_TYPES, CONCEPTS, TEMPLATES, attribute_counts
from helpers.datasets import ATLAS, CELLS
from helpers.metrics import Estimate
from recipes import evaluate_drawn, evaluate_mini, evaluate_real, evaluate_unknown, grading, photographs
from recipes.make_cells import attribute_truths

COUNTS = "data/wbcatt/attribute-counts.csv"
KEYS = list(CONCEPTS)
PHRASES = sorted(
    ((phrase, key) for key, concept in CONCEPTS.items() for phrase in concept.phrases), key=lambda pair: -len(pair[0])
)
DENYING = [no.replace("{}", "").strip() for no, _ in (*evaluate_unknown.DENIALS, *evaluate_unknown.UNHEARD)]


class Knowing(grading.Judge):
    """Knows what every phrase means: a text is the axis of its concept, a denial points the other way, and what it does
    not know is the last axis, against which every picture lies."""

    def __init__(self):
        self.scales = argparse.Namespace(logit_scale=20.0, logit_bias=0.0)

    def texts(self, texts):
        rows = []
        for text in texts:
            row = torch.zeros(len(KEYS) + 1)
            # "no granules" is a claim of its own, not a denial of granules: the longest phrase that stands there
            phrase, key = next(((p, k) for p, k in PHRASES if p in text), (None, None))
            around = text.replace(phrase, "", 1).strip() if phrase else ""
            if phrase is None:
                row[-1] = 1
            else:
                row[KEYS.index(key)] = -1 if around in DENYING else 1
            rows.append(row)
        return torch.stack(rows)


def look(cells):
    """The vectors that such a judge has of cells: +1 for what is true, -1 for what is not."""
    truths = pd.DataFrame([attribute_truths(cell) for cell in cells]).astype(float)
    signs = np.nan_to_num(truths.to_numpy() * 2 - 1)
    return torch.tensor(np.c_[signs, -np.ones(len(cells))], dtype=torch.float32), truths


@pytest.fixture(scope="module")
def cells():
    """Up to sixty different cells of each type, and their table."""
    chosen = [cell for kind in CELL_TYPES for cell in [c for c in attribute_counts() if c.cell_type == kind][:60]]
    table = pd.DataFrame([vars(cell) for cell in chosen])
    return chosen, table


SECOND = pd.read_csv(CELLS / "second-reader.csv")


# --- measures and rows ------------------------------------------------------------------------------------------------


def test_macro_f1_is_scikit_learns():
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 4, 50), rng.integers(0, 4, 50)), (np.zeros(5, int), np.array([0, 0, 2, 2, 0]))]
    for truth, said in pairs:
        expected = f1_score(truth, said, average="macro", zero_division=0)
        assert grading.macro_f1(truth, said, 6) == pytest.approx(expected)


def test_every_value_has_phrases_that_are_true_of_it_alone():
    for name, values in ATTRIBUTES.items():
        assert list(grading.ATTRIBUTE_PHRASES[name]) == list(values)
        assert all(grading.ATTRIBUTE_PHRASES[name].values())
    for cell in list(attribute_counts())[::40]:
        truths = attribute_truths(cell)
        for name, values in grading.ATTRIBUTE_CONCEPTS.items():
            assert [value for value, key in values.items() if truths[key]] == [getattr(cell, name)], name


def test_a_row_says_whether_its_target_is_met():
    row = grading.figure("k", "a", "b", "c", Estimate(0.5, 0.4, 0.6), 0.9, 7, chance=0.25)
    low = grading.figure("k", "a", "b", "error", Estimate(0.01, np.nan, np.nan), 0.02, at_most=True)
    assert row["met"] is False and low["met"] is True
    text = grading.table_of([row, low])
    assert "| a | b | c | 0.500 (0.400–0.600) | ≥ 0.9 **missed** | chance 0.25 | 7 |" in text
    assert "| a | b | error | 0.010 (–––) | ≤ 0.02 met |" in text


@pytest.mark.parametrize(
    ("estimate", "at_most", "verdict"),
    [
        (Estimate(0.95, 0.92, 0.97), False, "≥ 0.9 met"),
        (Estimate(0.95, 0.9, 0.97), False, "≥ 0.9 met"),
        (Estimate(0.95, 0.89, 0.97), False, "≥ 0.9 met, interval reaches below"),
        (Estimate(0.85, 0.8, 0.91), False, "≥ 0.9 **missed**"),
        (Estimate(0.85, 0.8, 0.9), True, "≤ 0.9 met"),
        (Estimate(0.85, 0.8, 0.91), True, "≤ 0.9 met, interval reaches above"),
        (Estimate(0.95, 0.89, 0.97), True, "≤ 0.9 **missed**"),
    ],
)
def test_a_row_says_whether_its_whole_interval_meets_the_target(estimate, at_most, verdict):
    row = grading.figure("k", "a", "b", "c", estimate, 0.9, 7, at_most=at_most)
    assert f"| {verdict} |" in grading.table_of([row])


def test_the_cards_table_is_made_from_the_file(tmp_path):
    row = grading.figure("k", "a", "b", "c", Estimate(0.5, 0.4, 0.6), 0.9, 7, chance=0.25)
    (tmp_path / "evaluation.json").write_text(json.dumps([row]))
    (tmp_path / "README.md").write_text(f"before\n{grading.START}\nold\n{grading.END}\nafter\n")
    grading.write_card(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "**missed**" in text


def test_the_shipped_card_shows_the_shipped_evaluation(tmp_path):
    shipped = ATLAS.parent / "conceptclip-mini"
    shutil.copytree(shipped, tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors"))
    grading.write_card(tmp_path / "copy")
    assert (tmp_path / "copy" / "README.md").read_text() == (shipped / "README.md").read_text()


# --- PBC --------------------------------------------------------------------------------------------------------------


def test_who_knows_everything_is_right_in_everything(cells):
    features, _ = look(cells[0])
    pbc = evaluate_real.Pbc(cells[1], features)
    rows = {row["key"]: row for row in evaluate_real.grade_pbc(Knowing(), pbc, "val", SECOND)}
    for key in ("pbc.type", "pbc.attributes", "pbc.attributes.accuracy", "pbc.attributes.within"):
        assert rows[key]["value"] == 1 and rows[key]["low"] == 1, key
    assert all(rows[f"pbc.attribute.{name}"]["value"] == 1 for name in ATTRIBUTES)
    assert all(row["where"] == "PBC val" for row in rows.values())
    sizes = cells[1]["cell_type"].value_counts()
    assert all(row["n"] == sizes.get(key.split(".")[-1], len(cells[1])) for key, row in rows.items())


def test_who_mixes_up_the_cells_is_not(cells):
    features, _ = look(cells[0])
    mixed = features[torch.randperm(len(features), generator=torch.Generator().manual_seed(0))]
    pbc = evaluate_real.Pbc(cells[1], mixed)
    rows = {row["key"]: row for row in evaluate_real.grade_pbc(Knowing(), pbc, "val", SECOND)}
    assert rows["pbc.type"]["low"] < 0.25 < rows["pbc.type"]["high"] + 0.05 and not rows["pbc.type"]["met"]
    assert rows["pbc.type"]["controls"] == {"chance": 0.2, "always_the_commonest": 0.2}
    assert rows["pbc.type.ece"]["value"] > 0.5 and not rows["pbc.type.ece"]["met"]
    assert abs(rows["pbc.attributes.within"]["value"] - 0.5) < 0.08


def test_two_readers_are_compared_as_scikit_learn_does():
    people = evaluate_real.readers(SECOND)
    assert people["macro_f1"].mean() == pytest.approx(0.947, abs=5e-4)
    first, other = (SECOND[SECOND["reader"] == reader]["nucleus_shape"].to_numpy() for reader in (1, 2))
    assert people.loc["nucleus_shape", "macro_f1"] == pytest.approx(f1_score(first, other, average="macro"))


def small_pbc(folder, *splits):
    """A PBC folder of two cells a split; the zips of `splits` only."""
    cells = pd.DataFrame([vars(cell) for cell in list(attribute_counts())[:2]]).rename(columns={"cell_type": "type"})
    rows = []
    for split in ("train", "val", "test"):
        part = cells.assign(name=[f"{split}-{k}" for k in range(2)], split=split)
        rows.append(part)
        if split in splits:
            with zipfile.ZipFile(folder / f"{split}.zip", "w") as file:
                for row in part.to_dict("records"):
                    with file.open(f"{row['type']}/{row['name']}.webp", "w") as place:
                        Image.new("RGB", (32, 32), (200, 150, 180)).save(place, "WEBP")
    pd.concat(rows).to_csv(folder / "attributes.csv", index=False)
    return folder


def test_the_test_split_is_not_opened_before_the_end(tmp_path, monkeypatch, tiny_model_folder):
    """There is no test.zip here: only with --final is it missed."""
    folder = small_pbc(tmp_path, "train", "val")
    monkeypatch.setattr(evaluate_unknown, "PHOTOGRAPHS", ("logo.png",))
    monkeypatch.setattr(evaluate_unknown, "DRAWN", 1)
    monkeypatch.setattr(evaluate_unknown, "EMPTY_FIELDS", 2)
    model = tmp_path / "model"
    shutil.copytree(tiny_model_folder, model)
    common = ["--model", str(model), "--pbc", str(folder), "--no-drawn"]
    evaluate_mini.main([*common, "--never-saw", "PBC"])
    report = json.loads((model / "evaluation.json").read_text("utf-8"))
    assert not any("PBC test" in row["where"] for row in report)
    assert {row["details"].get("never_saw") for row in report if row["key"].startswith("pbc")} == {"PBC"}
    with pytest.raises(FileNotFoundError, match=r"test\.zip"):
        evaluate_mini.main([*common, "--final"])


# --- KRD, BCCD, laboratories left out ---------------------------------------------------------------------------------


def test_a_square_around_the_cell():
    image = Image.fromarray(np.zeros((100, 100, 3), np.uint8))
    image.paste((255, 255, 255), (40, 50, 60, 60))
    mask = np.asarray(image)[..., 0] > 0  # 20 wide, 10 high, in the middle of (50, 55)
    square = np.asarray(evaluate_real.square_around(image, mask, 2.0))[..., 0] > 128
    assert square.any(0).sum() == pytest.approx(photographs.SIZE / 2, abs=3)
    assert square.any(1).sum() == pytest.approx(photographs.SIZE / 4, abs=3)
    assert np.argwhere(square).mean(0) == pytest.approx([photographs.SIZE / 2] * 2, abs=3)
    corner = np.zeros((100, 100), bool)
    corner[:10, :10] = True
    assert evaluate_real.square_around(image, corner, 4.0).size == (photographs.SIZE,) * 2
    with pytest.raises(ValueError, match="empty"):
        evaluate_real.square_around(image, np.zeros((100, 100), bool))


def test_fields_are_graded_by_their_masks(monkeypatch):
    """A judge whose map is the mask points into it, and one who looks at the background never does."""
    masks = np.zeros((5, 56, 56), bool)
    masks[:, 14:28, 14:28] = True
    judge = grading.Judge(make_model(), make_processor())
    shares = np.zeros((5, 2, 4, 4))
    shares[:, 0, 1, 1] = shares[:, 1, 3, 3] = 1
    monkeypatch.setattr(judge, "maps", lambda *_: shares)
    images = [Image.new("RGB", (56, 56))] * 5
    table = pd.DataFrame({"cell_type": CELL_TYPES, "group": range(5)})
    encodings = judge.encode(images, tokens=True)
    krd = evaluate_real.Krd(table, masks, encodings, encodings.features, np.zeros((5, 4, 4)))
    rows = {row["key"]: row for row in evaluate_real.grade_krd(judge, krd, "here")}
    for key in ("krd.map.points", "krd.map.area"):
        assert rows[key]["value"] == 1 and rows[key]["controls"]["shuffled_text"] < 0.5
    assert rows["krd.field.type"]["where"] == "here" and {"krd.crop.type"} <= set(rows)
    assert "krd.crop.type.without_mean" not in rows


def test_the_mean_vector_of_an_unseen_laboratory_is_taken_away(monkeypatch):
    """What all pictures share points at one type; without it each is told right."""
    judge = grading.Judge(make_model(), make_processor())
    vectors = torch.nn.functional.normalize(torch.eye(5, 8) + 0.1)
    monkeypatch.setattr(judge, "classes", lambda *_: vectors)
    features = vectors.repeat(4, 1) + 3 * vectors[2]
    types = np.tile(np.array(CELL_TYPES), 4)
    rows = {row["key"]: row for row in evaluate_real._types(judge, features, types, "x", "here", None, unseen=True)}
    assert rows["x.type"]["value"] == 0.2 and rows["x.type.without_mean"]["value"] == 1
    assert rows["x.type.without_mean"]["details"]["gain"][0] == 0.8


def test_crops_of_one_photograph_are_resampled_together(bccd, monkeypatch):
    """Half of the four crops hit; with one photograph there is nothing else to draw, so the interval is a point."""
    monkeypatch.setattr(evaluate_real, "pointing_hits", lambda maps, masks: np.arange(len(maps)) % 2)
    judge = grading.Judge(make_model(), make_processor())
    pointing, accuracy, recall = evaluate_real.grade_bccd(judge, bccd, COUNTS)
    assert [pointing[name] for name in ("value", "low", "high")] == [0.5, 0.5, 0.5]
    assert [row["n"] for row in (pointing, accuracy)] == ["4 crops of 1 photographs", "1 cells of 1 photographs"]
    assert recall["n"] == 1 and pointing["where"] == "BCCD held out"
    everything = next(iter(evaluate_real.grade_bccd(judge, bccd, COUNTS, everything=True)))
    assert everything["n"] == "24 crops of 6 photographs" and everything["where"] != "BCCD held out"


def test_rows_of_laboratories_left_out_are_put_into_a_report_that_is_there(tmp_path):
    """One of the same key is replaced, others of the kind stay, new ones come behind them; nothing else changes."""
    other, shipped = tmp_path / "other", tmp_path / "shipped"
    for folder, keys in ((other, ["krd.crop.type"]), (shipped, ["pbc.type", "left_out.BCCD", "drawn.type"])):
        folder.mkdir()
        rows = [grading.figure(key, key, "here", "x", Estimate(0.8, 0.7, 0.9), 0.5, 9) for key in keys]
        rows[0]["details"]["never_saw"] = "KRD"
        (folder / "evaluation.json").write_text(json.dumps(rows))
    before = json.loads((shipped / "evaluation.json").read_text())
    evaluate_mini.main(["--model", str(shipped), "--card", "--left-out", f"KRD={other}"])
    after = json.loads((shipped / "evaluation.json").read_text())
    assert [row["key"] for row in after] == ["pbc.type", "left_out.BCCD", "left_out.KRD", "drawn.type"]
    assert [after[0], after[1], after[3]] == before and after[2]["value"] == 0.8
    rows = json.loads((other / "evaluation.json").read_text())
    (other / "evaluation.json").write_text(json.dumps([rows[0] | {"value": 0.6}]))
    evaluate_mini.main(["--model", str(shipped), "--card", "--left-out", f"KRD={other}"])
    again = json.loads((shipped / "evaluation.json").read_text())
    assert again == [*after[:2], after[2] | {"value": 0.6, "met": False}, after[3]]


def test_a_laboratory_left_out_is_read_from_the_other_models_evaluation(tmp_path):
    row = grading.figure("krd.crop.type", "type", "KRD, all", "x", Estimate(0.8, 0.7, 0.9), None, 173, chance=0.2)
    file = tmp_path / "evaluation.json"
    file.write_text(json.dumps([row | {"details": {"never_saw": "KRD"}}]))
    (found,) = evaluate_real.grade_left_out({"KRD": tmp_path})
    assert (found["value"], found["high"], found["n"], found["met"]) == (0.8, 0.9, 173, True)
    assert found["controls"] == {"chance": 0.2}
    file.write_text(json.dumps([row]))  # of a model that saw it
    with pytest.raises(ValueError, match=r"krd\.crop\.type.*--never-saw KRD"):
        list(evaluate_real.grade_left_out({"KRD": tmp_path}))
    with pytest.raises(ValueError, match="'ABC'"):
        list(evaluate_real.grade_left_out({"ABC": tmp_path}))
    with pytest.raises(ValueError, match=r"evaluation\.json"):
        list(evaluate_real.grade_left_out({"PBC": tmp_path / "absent"}))


# --- drawn cells ------------------------------------------------------------------------------------------------------


def test_what_fell_is_counted(tmp_path, monkeypatch):
    before = tmp_path / "before.csv"
    before.write_text("what,where,measure,value\na,b,c,0.9\nd,e,f,0.9\n")
    monkeypatch.setattr(evaluate_drawn, "BEFORE", before)
    names = [("a", "b", "c", 0.885), ("d", "e", "f", 0.87)]
    now = [dict(zip(("what", "where", "measure", "value"), row, strict=True)) for row in names]
    (row,) = evaluate_drawn.grade_against_before(now)
    assert (row["value"], row["met"], row["n"]) == (1, False, 2) and list(row["details"]) == ["d (e, f)"]


def test_drawn_cells_are_graded_and_named_as_before(monkeypatch):
    """Few cells, a random model: every row that the card had is still measured under its name."""
    monkeypatch.setattr(evaluate_drawn, "NATURAL", 60)
    monkeypatch.setattr(evaluate_drawn, "DECORRELATED", 40)
    monkeypatch.setattr(evaluate_drawn, "RELEVANT_AT_LEAST", 1)
    monkeypatch.setattr(evaluate_drawn, "OFTEN", 1)
    judge = grading.Judge(make_model(), make_processor())
    monkeypatch.setattr(evaluate_drawn, "precision_at_k", lambda *_: Estimate(0.5, 0.4, 0.6))
    drawn = evaluate_drawn.draw(judge, progress=False)
    rows = list(evaluate_drawn.grade_drawn(judge, drawn))
    measured = {row["what"] for row in rows}
    before = pd.read_csv(evaluate_drawn.BEFORE)
    lost = [w for w in before["what"] if w not in measured and not w.startswith("text → image")]
    assert not lost and sum(row["what"].startswith("text → image") for row in rows) == 2
    assert len({row["key"] for row in rows}) == len(rows)


# --- what it does not know --------------------------------------------------------------------------------------------


def test_foreign_words_are_of_no_caption():
    words = evaluate_unknown.foreign_words()
    assert len(words) == len(set(words)) >= 60
    own = {w.strip(",:;/()") for text in [p for p, _ in PHRASES] + list(TEMPLATES) for w in text.lower().split()}
    assert not [word for word in words if set(word.lower().split()) - {"a", "an"} <= own]


def test_a_low_sigmoid_for_foreign_words_is_counted(cells):
    features, _ = look(cells[0][:20])
    (row,) = evaluate_unknown.grade_foreign(Knowing(), {"PBC val": features, "KRD": features[:3]})
    assert row["value"] == 1 and row["met"] and row["controls"] == {"PBC_val": 1.0, "KRD": 1.0}
    features[:, -1] = 1  # now every foreign word is believed
    (row,) = evaluate_unknown.grade_foreign(Knowing(), {"PBC val": features})
    assert row["value"] == 0 and not row["met"]


def test_the_sigmoid_is_graded_on_what_is_true_too(cells):
    features, truths = look(cells[0])
    rows = {row["key"]: row for row in evaluate_unknown.grade_sigmoid(Knowing(), features, truths, "here")}
    assert rows["sigmoid.true"]["value"] == rows["sigmoid.false"]["value"] == 1
    assert rows["sigmoid.ece"]["value"] < 0.01
    rows = {row["key"]: row for row in evaluate_unknown.grade_sigmoid(Knowing(), -features.abs(), truths, "here")}
    assert rows["sigmoid.true"]["value"] == 0 and rows["sigmoid.false"]["value"] == 1


def test_denials_are_graded_both_ways(cells):
    features, truths = look(cells[0])
    rows = list(evaluate_unknown.grade_denials(Knowing(), {"PBC val": evaluate_unknown.Witness(features, truths)}))
    assert [row["value"] for row in rows] == [1, 1] and rows[0]["met"]
    ignoring = Knowing()
    yes = ignoring.texts
    ignoring.texts = lambda texts: yes(texts).abs()  # a denial means to it what it denies
    (row, _) = evaluate_unknown.grade_denials(ignoring, {"PBC val": evaluate_unknown.Witness(features, truths)})
    # never above, never below: but for "no granules" and "absence of granules", which are claims of their own
    assert row["value"] < 0.05


def test_absent_and_present_count_alike():
    known = np.array([[1.0], [1.0], [1.0], [0.0]])
    assert evaluate_unknown.balanced_hits(np.array([[1.0], [1.0], [1.0], [0.0]]), known) == 0.5


def test_pictures_without_cells_show_none_and_are_always_the_same():
    first, again = evaluate_unknown.without_cells(), evaluate_unknown.without_cells()
    names = {source for source, _ in first["photographs"]}
    assert names == set(evaluate_unknown.PHOTOGRAPHS) and not {"cell.png", "ihc.png"} & names
    assert set(first) == {"photographs", *evaluate_unknown.KINDS}
    for kind, pictures in first.items():
        assert [p.tobytes() for _, p in pictures] == [p.tobytes() for _, p in again[kind]]
        assert len({p.tobytes() for _, p in pictures}) == len(pictures), kind
    phrases = evaluate_unknown.cell_phrases()
    assert "nucleus" in phrases and not {"background", "no granules", "no vacuoles"} & set(phrases)


def test_phrases_on_pictures_without_cells(monkeypatch):
    judge = Knowing()
    pictures = sum(len(found) for found in evaluate_unknown.without_cells().values())
    nothing = lambda images: argparse.Namespace(features=-torch.ones(len(images), len(KEYS) + 1))  # noqa: E731
    monkeypatch.setattr(judge, "encode", nothing)
    (row,) = evaluate_unknown.grade_without_cells(judge)
    assert row["value"] == 1 and f"on {pictures} pictures" in row["n"] and row["met"]
