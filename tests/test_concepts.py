"""Concepts, their truth, and captions whose spans are exact."""

import numpy as np
import pytest

from helpers.bloodcells import (
    CELL_TYPES,
    CONCEPTS,
    GUIDE_CONCEPTS,
    GUIDE_PROMPTS,
    PARTS,
    TEMPLATES,
    Cell,
    caption,
    compose,
    part_shares,
    render,
    sample_cell,
    truth,
)

NEUTROPHIL = Cell(
    cell_type="neutrophil",
    cell_size="big",
    cell_shape="round",
    nucleus_shape="segmented-multilobed",
    nuclear_cytoplasmic_ratio="low",
    chromatin_density="densely",
    cytoplasm_vacuole="no",
    cytoplasm_texture="clear",
    cytoplasm_colour="light blue",
    granule_type="small",
    granule_colour="pink",
    granularity="yes",
)
EVERYTHING = {**dict.fromkeys(PARTS, 0.1), "vacuoles": 0.0, "white cell": 0.2, "background": 0.5}
NOTHING = {**dict.fromkeys(PARTS, 0.0), "red cells": 0.3, "white cell": 0.0, "background": 0.7}


def test_truth_of_a_neutrophil():
    truths = truth(NEUTROPHIL, EVERYTHING)
    true = {"neutrophil", "granulocyte", "segmented nucleus", "multilobed nucleus", "dense chromatin", "no vacuoles"}
    false = {"eosinophil", "agranulocyte", "bilobed nucleus", "round nucleus", "basophilic cytoplasm", "no granules"}
    assert {key for key in true | false if truths[key]} == true
    assert truths["fine azurophilic granules"] and not truths["eosinophilic granules"]
    assert list(truths) == list(CONCEPTS)


def test_an_imaginary_cell_has_no_type_and_a_cut_one_no_attributes():
    imaginary = truth(NEUTROPHIL.replace(cell_type=None), EVERYTHING)
    assert all(imaginary[cell_type] is None for cell_type in CELL_TYPES)
    assert imaginary["segmented nucleus"] is True
    cut = truth(NEUTROPHIL, EVERYTHING, visible=0.5)
    assert cut["neutrophil"] is None and cut["segmented nucleus"] is None and cut["nucleus"] is True


@pytest.mark.parametrize("cell", [None, NEUTROPHIL], ids=["no cell drawn", "cell out of view"])
def test_a_field_without_a_white_cell(cell):
    truths = truth(cell, NOTHING)
    assert truths["red cells"] is True and truths["background"] is True
    assert truths["white cell"] is False and truths["neutrophil"] is False and truths["round nucleus"] is False
    # "No granules" says something about a cell.
    assert truths["no granules"] is None


def test_between_absent_and_present_nobody_knows():
    absent, present = CONCEPTS["platelets"].present
    for share, expected in ((absent / 2, False), ((absent + present) / 2, None), (present, True)):
        assert truth(NEUTROPHIL, {**EVERYTHING, "platelets": share})["platelets"] is expected


def test_shares_add_up():
    masks = {part: np.zeros((4, 4), bool) for part in PARTS}
    masks["nucleus"][0] = True
    masks["cytoplasm"][1] = True
    masks["granules"][1, :2] = True
    masks["red cells"][2] = True
    shares = part_shares(masks)
    assert shares["white cell"] == 0.5 and shares["background"] == 0.25 and shares["granules"] == 0.125


def test_the_guides_prompts_name_known_concepts():
    for prompt, key in zip(GUIDE_PROMPTS, GUIDE_CONCEPTS, strict=True):
        named = prompt.removeprefix("a cell photo with sign of ").lower()
        assert named in CONCEPTS[key].phrases, prompt


def test_no_phrase_names_two_concepts():
    phrases = [phrase for concept in CONCEPTS.values() for phrase in concept.phrases]
    assert len(phrases) == len(set(phrases))
    assert all(phrase == phrase.lower() for phrase in phrases)


def test_captions_are_true_and_their_spans_exact():
    rng = np.random.default_rng(0)
    for seed in range(40):
        cell = sample_cell(rng, design="decorrelated" if seed % 2 else "natural")
        picture = render(cell, seed, 64)
        truths = truth(cell, part_shares(picture.masks), picture.visible)
        written = caption(truths, rng)
        assert 1 <= len(written.spans) <= 4
        groups = [CONCEPTS[span.concept].group for span in written.spans]
        assert len({group for group in groups if group != "scene"}) == len([g for g in groups if g != "scene"])
        for span in written.spans:
            assert truths[span.concept] is True
            assert written.text[span.start : span.end] in CONCEPTS[span.concept].phrases


def test_canonical_caption_is_the_guides_prompt():
    truths = dict.fromkeys(CONCEPTS, None) | {"segmented nucleus": True}
    written = caption(truths, np.random.default_rng(0), canonical=True)
    assert written.text == GUIDE_PROMPTS[0].lower()


def test_compose_by_hand():
    text, spans = compose("see {}!", [("neutrophil", "polymorph"), ("nucleus", "nucleus"), ("platelets", "platelets")])
    assert text == "see polymorph, nucleus and platelets!"
    assert [text[s.start : s.end] for s in spans] == ["polymorph", "nucleus", "platelets"]


@pytest.mark.parametrize(
    ("template", "named", "said"), [("no place", [("nucleus", "nucleus")], "'no place'"), ("{}", [], "concept")]
)
def test_compose_says_what_is_wrong(template, named, said):
    with pytest.raises(ValueError, match=said):
        compose(template, named)


def test_nothing_true_has_no_caption():
    with pytest.raises(ValueError, match="concept"):
        caption(dict.fromkeys(CONCEPTS), np.random.default_rng(0))


def test_templates_have_one_place():
    assert all(template.count("{}") == 1 for template in TEMPLATES)
