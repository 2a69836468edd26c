"""Figures: the right numbers in the right places, the given Axes used, and no warning on the way."""

import itertools
import re

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.text import Text
from PIL import Image
from skimage import data

import helpers
from helpers import plots
from helpers.tokens import PatchGrid
from tools.chapters import ROOT

GRID = PatchGrid(4, 4, 14, 60)
RNG = np.random.default_rng(0)
PICTURE = Image.fromarray(data.chelsea())  # 451 x 300


SMALLEST = 9
"""Points of the smallest text in a figure."""


def written(figure):
    """The texts that are seen in a figure."""
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


@pytest.fixture(autouse=True)
def draw_and_close():
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()  # what is wrong with a layout shows only now
        small = [text for text in written(plt.figure(number)) if text.get_fontsize() < SMALLEST]
        assert not small, f"too small for a phone: {small[0]}"
    plt.close("all")


def test_every_kind_of_image_is_shown():
    floats = torch.rand(3, 20, 30)
    images = [PICTURE, np.asarray(PICTURE), floats, data.camera(), PICTURE.convert("CMYK")]
    axes = plots.show_images(images, list("abcde"), columns=3)
    assert axes.shape == (2, 3)
    assert [ax.get_title() for ax in axes.flat] == ["a", "b", "c", "d", "e", ""]
    assert not axes[1, 2].axison
    np.testing.assert_allclose(axes[0, 2].images[0].get_array(), floats.permute(1, 2, 0))
    with pytest.raises(ValueError, match="images"):
        plots.show_images([])


def test_a_picture_is_shown_as_the_model_sees_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: upright it is 300 x 451
    PICTURE.save(tmp_path / "phone.png", exif=exif)
    upright = np.asarray(PICTURE.transpose(Image.Transpose.ROTATE_270))
    for form in (tmp_path / "phone.png", Image.open(tmp_path / "phone.png")):
        np.testing.assert_array_equal(plots.show_image(form).images[0].get_array(), upright)
    map_ax = plots.concept_map(tmp_path / "phone.png", torch.rand(4, 4))
    assert map_ax.images[1].get_extent() == pytest.approx([-0.5, 299.5, 450.5, -0.5])
    clear = Image.new("RGBA", (20, 30), (0, 0, 0, 0))
    clear.putpixel((0, 0), (255, 255, 255, 255))  # a picture of nothing at all is refused
    for form in (clear, np.asarray(clear)):
        assert plots.to_array(form).min() == 255
    chw = np.asarray(PICTURE).transpose(2, 0, 1)
    for form in (chw, torch.from_numpy(chw.copy())):
        np.testing.assert_array_equal(plots.to_array(form), np.asarray(PICTURE))


def test_the_map_lies_where_the_model_looks():
    map_ = torch.arange(16.0).reshape(4, 4)
    ax = plots.concept_map(PICTURE, map_, GRID, title="nucleus", limits=(0, 20))
    shown = ax.images[1]
    width, height = 451 * 56 / 60, 300 * 56 / 60  # without the strip that no patch sees
    assert shown.get_extent() == pytest.approx([-0.5, width - 0.5, height - 0.5, -0.5])
    assert shown.get_clim() == (0, 20)
    np.testing.assert_array_equal(shown.get_array(), map_)
    assert ax.get_xlim() == pytest.approx((-0.5, 450.5))  # the strip of the picture stays in sight
    whole = plots.concept_map(PICTURE, map_, colorbar=False)
    assert whole.images[1].get_extent() == pytest.approx([-0.5, 450.5, 299.5, -0.5])


def test_maps_in_a_grid_share_one_colour_scale():
    maps = torch.rand(2, 3, 4, 4)
    axes = plots.concept_map_grid([PICTURE] * 2, maps, ["a", "b", "c"], GRID)
    assert axes.shape == (2, 4)
    assert len({ax.images[1].get_clim() for ax in axes[:, 1:].flat}) == 1
    assert [ax.get_title() for ax in axes[0]] == ["picture", "a", "b", "c"]
    np.testing.assert_allclose(axes[1, 3].images[1].get_array(), maps[1, 2])
    with pytest.raises(ValueError, match=r"2 images, 2 phrases"):
        plots.concept_map_grid([PICTURE] * 2, maps, ["a", "b"])


def test_patch_grid_frames_the_patch():
    ax = plots.patch_grid(PICTURE, GRID, highlight=[6], number=True)
    frame = ax.patches[0]
    left, top, right, bottom = GRID.box(6, PICTURE.size)
    assert frame.get_xy() == pytest.approx((left - 0.5, top - 0.5))
    assert (frame.get_width(), frame.get_height()) == pytest.approx((right - left, bottom - top))
    assert [text.get_text() for text in ax.texts] == ["6"]


def test_mask_outlines_name_the_parts_that_are_there():
    mask = np.zeros((300, 451), dtype=bool)
    mask[100:200, 100:200] = True
    ax = plots.mask_outlines(PICTURE, {"nucleus": mask, "granules": ~mask, "vacuoles": mask & ~mask})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["nucleus", "granules"]


def test_outline_lies_on_the_masks_edge():
    mask = np.zeros((30, 30), dtype=bool)
    mask[10:20, 5:15] = True
    ax = plots.outline(mask, (300, 300), ax=plots.show_image(np.zeros((300, 300))))
    points = np.concatenate([path.vertices for path in ax.collections[-1].get_paths()])
    np.testing.assert_allclose([points.min(0), points.max(0)], [[49.5, 99.5], [149.5, 199.5]])
    assert len(plots.outline(~mask & mask, (300, 300), ax=ax).collections) == 2


def test_token_map_grid():
    maps = torch.rand(4, 4, 4)
    axes = plots.token_map_grid(PICTURE, maps, ["[CLS]", "red", "cells", "[SEP]"], GRID, columns=3)
    assert axes.shape == (2, 3)
    assert [ax.get_title() for ax in axes.flat] == ["picture", "[CLS]", "red", "cells", "[SEP]", ""]
    assert len({ax.images[1].get_clim() for ax in axes.flat[1:5]}) == 1
    np.testing.assert_allclose(axes[0, 2].images[1].get_array(), maps[1])
    with pytest.raises(ValueError, match=r"\[3 pieces"):
        plots.token_map_grid(PICTURE, maps, ["a", "b", "c"])


def split_by(letters: str, groups: np.ndarray) -> list[str]:
    """Cut a string of letters where the group changes."""
    runs = [letters[0]]
    for before, letter in itertools.pairwise(letters):
        if groups["abcdefg".index(before)] == groups["abcdefg".index(letter)]:
            runs[-1] += letter
        else:
            runs.append(letter)
    return runs


def test_clustered_heat_map_moves_rows_with_their_labels():
    groups = np.array([0, 1, 0, 2, 1, 0, 2])
    matrix = np.where(groups[:, None] == groups, 0.9, 0.1) + 0.01 * np.add.outer(np.arange(7), np.arange(7))
    ax = plots.similarity_heatmap(matrix, list("abcdefg"), clustered=True)
    order = "".join(label.get_text() for label in ax.get_yticklabels())
    assert all("".join(sorted(word)) in {"acf", "be", "dg"} for word in split_by(order, groups))
    assert order == "".join(label.get_text() for label in ax.get_xticklabels())
    shown = ax.collections[0].get_array().reshape(7, 7)
    rows = ["abcdefg".index(letter) for letter in order]
    np.testing.assert_allclose(shown, matrix[rows][:, rows])


def test_heat_map_of_a_frame():
    frame = pd.DataFrame(RNG.random((2, 3)), index=["x", "y"], columns=["p", "q", "r"])
    ax = plots.similarity_heatmap(frame)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["p", "q", "r"]
    assert len(ax.texts) == 6


def test_score_bars_sort_highlight_and_write_values():
    ax = plots.score_bars([0.1, -0.4, 0.7], ["a", "b", "c"], sort=True, highlight=["b"], line=0.2)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["c", "a", "b"]
    assert [text.get_text() for text in ax.texts] == ["0.70", "0.10", "-0.40"]
    colors = [bar.get_facecolor() for bar in ax.patches]
    assert colors[0] == colors[1] != colors[2]
    series = pd.Series({"x": helpers.metrics.Estimate(0.5, 0.4, 0.6), "y": helpers.metrics.Estimate(0.2, 0.1, 0.3)})
    ax = plots.score_bars(series)
    assert [list(line.get_xdata()) for line in ax.lines] == [[0.4, 0.6], [0.1, 0.3]]


def test_confusion_counts():
    ax = plots.confusion(["a", "a", "b"], ["a", "b", "b"])
    assert [text.get_text() for text in ax.texts] == ["1", "1", "0", "1"]
    np.testing.assert_allclose(ax.collections[0].get_array().ravel(), [0.5, 0.5, 0, 1])


def test_reliability_takes_a_second_curve():
    probability = RNG.random(200)
    truth = RNG.random(200) < probability
    ax = plots.reliability(helpers.metrics.reliability_table(truth, probability), label="before")
    same = plots.reliability(helpers.metrics.reliability_table(truth, probability**2), label="after", color=1, ax=ax)
    assert same is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["perfectly calibrated", "before", "after"]


def test_estimates_and_curves():
    one = helpers.metrics.Estimate(0.5, 0.4, 0.6)
    ax = plots.estimates(pd.DataFrame({"global": [one, one], "local": [one, one]}, index=["a", "b"]), line=0.5)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    ax = plots.curves(np.linspace(0, 1, 5), {"one": np.ones(5), "many": torch.rand(7, 5)}, ylabel="score")
    assert len(ax.lines) == 2
    assert len(ax.collections) == 1  # a band for the curve of which there are many


def test_towers_say_the_shapes_of_their_model():
    from helpers.conceptclip import ConceptCLIPConfig

    released, small = ConceptCLIPConfig(), ConceptCLIPConfig(vision_config={"hidden_size": 64, "image_size": 60})
    written = [" ".join(text.get_text() for text in plots.towers(config).texts) for config in (released, small)]
    assert all(part in written[0] for part in ("3 × 384 × 384", "B × 729 × 1152", "of 768-wide", "N × 1152"))
    assert all(part in written[1] for part in ("3 × 60 × 60", "B × 16 × 64", "N × 64"))


@pytest.mark.filterwarnings("error")
def test_given_axes_are_used_and_no_figure_is_made():
    _, axes = plt.subplots(2, 4, figsize=(16, 8))
    mask = np.ones((300, 451), dtype=bool)
    mask[:50] = False
    table = helpers.metrics.reliability_table([0, 1], [0.2, 0.9])
    drawn = [
        plots.show_image(PICTURE, ax=axes[0, 0]),
        plots.patch_grid(PICTURE, GRID, ax=axes[0, 1]),
        plots.mask_outlines(PICTURE, {"nucleus": mask}, ax=axes[0, 2]),
        plots.concept_map(PICTURE, np.eye(4), GRID, ax=axes[0, 3]),
        plots.similarity_heatmap(np.eye(3), list("abc"), ax=axes[1, 0]),
        plots.score_bars([1, 2], ["a", "b"], ax=axes[1, 1]),
        plots.confusion(["a", "b"], ["a", "a"], ax=axes[1, 2]),
        plots.reliability(table, ax=axes[1, 3]),
    ]
    assert drawn == axes.ravel().tolist()
    assert len(plt.get_fignums()) == 1


# --- on a phone -------------------------------------------------------------------------------------------------------


def test_the_smallest_text_is_eight_pixels_high_on_a_phone():
    """The pages make no figure smaller than a share of itself; what does not fit is moved in its frame."""
    style = (ROOT / "tools" / "templates" / "style.css").read_text(encoding="utf-8")
    share = float(re.search(r"calc\((\.\d+) \* var\(--natural", style)[1])
    with plt.rc_context():
        helpers.setup()
        pixels_a_point = plt.rcParams["figure.dpi"] / 72
        sizes = [plt.rcParams[f"{part}.labelsize"] for part in ("axes", "xtick", "ytick")]
        sizes += [plt.rcParams[name] for name in ("axes.titlesize", "legend.fontsize", "font.size")]
    assert SMALLEST * pixels_a_point * share >= 8 and min(sizes) >= SMALLEST


def test_no_code_asks_for_smaller_text():
    """What the fixture of this file does not see: the figures of chapters and explorers."""
    files = [*(ROOT / "helpers").rglob("*.py"), *(ROOT / "notebooks").rglob("*.ipynb")]
    asks = re.compile(r"(?:font|label|title)size=(\d+)")
    said = {str(file.relative_to(ROOT)): asks.findall(file.read_text(encoding="utf-8")) for file in files}
    assert sum(map(len, said.values())) > 10
    assert {name: sizes for name, sizes in said.items() if any(int(size) < SMALLEST for size in sizes)} == {}


# --- names ------------------------------------------------------------------------------------------------------------

ODD = ["$5$ a_b^2 $", "gr\udcf6\udcdfe.png", "\\frac{1", "plain"]


def test_names_are_no_formulas():
    frame = pd.DataFrame(RNG.random((4, 4)), *[pd.Index(ODD, dtype=object)] * 2)
    texts = []
    for ax in (
        *plots.show_images([PICTURE] * 4, ODD).flat,
        plots.similarity_heatmap(frame),
        plots.score_bars(frame["plain"]),
        plots.confusion(ODD, ODD[::-1]),
        plots.estimates(frame.map(lambda x: helpers.metrics.Estimate(x, x, x))),
        plots.curves([0, 1, 2, 3], dict(zip(ODD, frame.to_numpy(), strict=True))),
        plots.mask_outlines(PICTURE, {name: np.eye(8) > 0 for name in ODD}),
        plots.box((1, 1, 5, 5), label=ODD[0], ax=plots.show_image(PICTURE)),
    ):
        legend = ax.get_legend().get_texts() if ax.get_legend() else []
        texts += [ax.title, *ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels(), *legend]
    shown = [text for text in texts if "$" in text.get_text()]
    assert len(shown) >= 9
    assert not any(text.get_parse_math() for text in shown)
    assert any("udcf6" in text.get_text() for text in texts)  # and the fixture draws them all


def test_titles_belong_to_their_pictures():
    pictures = pd.Series([Image.new("L", (4, 4), k * 50) for k in range(3)], list("abc"))
    axes = plots.show_images(pictures, pd.Series(["two", "zero", "one"], list("cab")))
    assert [ax.get_title() for ax in axes.flat] == ["zero", "one", "two"]
    rows = pd.Series([7, 8, 9])[[2, 0, 1]].map(str)  # labels that are numbers are no places
    assert [ax.get_title() for ax in plots.show_images(list(pictures), rows).flat] == ["9", "7", "8"]
    for titles, named in ((pd.Series(list("xyz"), list("abd")), "'c'"), (["x"], "1")):
        with pytest.raises(ValueError) as error:
            plots.show_images(pictures, titles)
        assert named in str(error.value)


def test_rows_are_chosen_by_name():
    frame = pd.DataFrame([[1, 2], [3, 4.0]], ["a", "b"], ["x", "y"])
    ax = plots.similarity_heatmap(frame, ["b", "a"], ["y", "x"])
    assert ax.collections[0].get_array().ravel().tolist() == [4, 3, 2, 1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a"]
    others = plots.similarity_heatmap(frame, ["first", "second"])
    assert others.collections[0].get_array().ravel().tolist() == [1, 2, 3, 4]
    bars = plots.score_bars(pd.Series([1.0, 2.0], ["a", "b"]), ["b", "a"])
    assert [bar.get_width() for bar in bars.patches] == [2, 1]
    for wrong in (["a", "c"], ["a"]):
        with pytest.raises(ValueError) as error:
            plots.similarity_heatmap(frame, wrong)
        assert "rows" in str(error.value)
    with pytest.raises(ValueError) as error:
        plots.score_bars([1.0, 2.0], ["a"])
    assert "1 labels for 2" in str(error.value)


def test_confusion_is_matched_by_name():
    truth = pd.Series(list("xxy"), list("abc"))
    ax = plots.confusion(truth, pd.Series(list("yxx"), list("cba")))
    assert ax.collections[0].get_array().ravel().tolist() == [1, 0, 0, 1]
    ax = plots.confusion(["x", None, "y"], ["x", "x", "x"], ["y", "x"])
    assert ax.collections[0].get_array().ravel().tolist() == [0, 1, 0, 1]
    with pytest.raises(ValueError) as error:
        plots.confusion(["x", "y"], ["x", "x"], ["x"])
    assert "'y'" in str(error.value)


def test_reliability_shows_its_intervals():
    table = helpers.metrics.reliability_table(RNG.random(60) < 0.5, RNG.random(60), bins=3)
    ax = plots.reliability(table, label="$a$")
    ends = np.array([[path.vertices[0, 1], path.vertices[1, 1]] for path in ax.collections[0].get_paths()])
    np.testing.assert_allclose(ends, [[e.low, e.high] for e in table["estimate"]])


def test_answers_have_a_picture_and_bars_each():
    scores = pd.DataFrame([[0.9, 0.1], [0.4, 0.6]], columns=["a", "b"])
    axes = plots.answers([PICTURE, PICTURE], scores, ["one", "two"], truth=["a", "a"], label="share")
    assert axes.shape == (2, 2) and axes[0, 1].get_title() == "two"
    widths = [bar.get_width() for bar in axes[1, 1].patches]
    assert widths == [0.4, 0.6]
    colours = [bar.get_facecolor() for bar in axes[1, 0].patches]
    assert colours[0] != colours[1]
    assert [label.get_text() for label in axes[1, 0].get_yticklabels()] == ["a", "b"]
    with pytest.raises(ValueError, match=r"truth.*1\b.*2\b"):
        plots.answers([PICTURE, PICTURE], scores, truth=["a"])
    with pytest.raises(ValueError, match=r"truth.*'c'"):
        plots.answers([PICTURE, PICTURE], scores, truth=["a", "c"])


def test_pieces_of_prompts():
    model = helpers.load(helpers.MODEL_ID)
    texts = helpers.encode_texts(*model, ["a nucleus", "fine azurophilic granules"], tokens=True)
    ax = plots.piece_grid(texts)
    assert [text.get_text() for text in ax.texts] == [piece for row in texts.pieces for piece in row]
    assert ax.collections[0].get_array().reshape(-1, 2)[-1].tolist() == [4, 3]  # padding, [SEP]
    assert len(plots.piece_grid(texts, [1]).texts) == texts.tokens.shape[1]


def test_components_as_colours():
    axes = plots.component_rows([PICTURE, PICTURE], np.full((2, 4, 4, 3), 0.5))
    assert axes.shape == (3, 2) and axes[2, 0].get_ylabel() == "the first alone"
    assert axes[1, 1].images[0].get_array().shape == (4, 4, 3)
    assert axes[2, 1].images[0].get_array().shape == (4, 4)
    with pytest.raises(ValueError, match="h, w, 3"):
        plots.component_rows([PICTURE, PICTURE], np.ones((2, 4, 4)))


def test_familiarity():
    ax = plots.familiarity(torch.tensor([0.8, 0.9]), {"cat": torch.tensor(0.2), "eye": 0.3}, line=0.8)
    known, cat, eye = (dots.get_offsets() for dots in ax.collections)
    assert known[:, 0].tolist() == pytest.approx([0.8, 0.9]) and (cat[0, 0], eye[0, 0]) == pytest.approx((0.2, 0.3))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["known pictures", "cat", "eye"]


def test_a_pair_matrix_puts_each_number_under_its_picture_and_beside_its_text():
    pictures = [np.full((8, 8, 3), k * 40, np.uint8) for k in range(3)]
    values = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    ax = helpers.plots.pair_matrix(pictures, ["one", "$two$"], values, true=[[0, 1], [0, 0], [1, 0]])
    numbers = {tuple(map(float, text.get_position())): text.get_text() for text in ax.texts}
    assert numbers == {(b, n): f"{values[b, n]:.2f}" for b in range(3) for n in range(2)}
    frames = {(round(patch.get_x() + 0.46), round(patch.get_y() + 0.42)) for patch in ax.patches}
    assert frames == {(0, 1), (2, 0)}
    assert [label.get_text() for label in ax.get_yticklabels()] == ["one", "$two$"]
    assert len(ax.images) == 1 + len(pictures)


@pytest.mark.parametrize(
    "wrong", [{"values": np.zeros((2, 3))}, {"values": np.zeros((3, 2)), "true": np.zeros((2, 3))}]
)
def test_a_pair_matrix_refuses_a_table_on_its_side(wrong):
    pictures = [np.zeros((8, 8, 3), np.uint8)] * 3
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        helpers.plots.pair_matrix(pictures, ["one", "two"], **wrong)
