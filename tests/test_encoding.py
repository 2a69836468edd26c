"""Encoding: equal to the model's own forward, in any batch; and every kind of bad input told, not passed on."""

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from skimage import data
from small_model import small_model

import helpers
from conftest import paged_files, sixteen_bit_files
from helpers.images import as_shown, image_names

PROMPTS = ["a cell photo with sign of segmented nucleus", "band", "red cells, round cells"]


@pytest.fixture(scope="module")
def tiny():
    return small_model()


@pytest.fixture(scope="module")
def pictures():
    return [Image.fromarray(x) for x in (data.retina(), data.immunohistochemistry(), data.chelsea(), data.camera())]


# --- texts ------------------------------------------------------------------------------------------------------------


def test_texts_equal_forward(tiny):
    model, processor = tiny
    encoded = helpers.encode_texts(model, processor, PROMPTS, batch_size=2, tokens=True)
    with torch.no_grad():
        out = model(**processor(text=PROMPTS, return_tensors="pt", padding=True))
    torch.testing.assert_close(encoded.features, out["text_features"], atol=1e-5, rtol=0)
    real = encoded.mask  # what stands at padding means nothing
    torch.testing.assert_close(encoded.tokens[real], out["text_token_features"][real], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoded.features.norm(dim=1), torch.ones(3))


def test_unprojected_tokens_are_the_towers_own(tiny):
    model, processor = tiny
    raw = helpers.encode_texts(model, processor, PROMPTS, tokens="unprojected").tokens
    projected = helpers.encode_texts(model, processor, PROMPTS, tokens=True).tokens
    assert raw.shape[-1] == 24
    assert projected.shape[-1] == 32
    with torch.no_grad():
        torch.testing.assert_close(model.text_proj(raw), projected)


def test_pieces_masks_and_offsets_agree(tiny):
    encoded = helpers.encode_texts(*tiny, PROMPTS, tokens=True)
    assert encoded.pieces[0][-5:] == ["of", "seg", "##mented", "nucleus", "[SEP]"]
    assert encoded.pieces[1][:4] == ["[CLS]", "band", "[SEP]", "[PAD]"]
    assert encoded.mask[1].tolist() == [True] * 3 + [False] * 8
    assert encoded.special[1].tolist() == [True, False] + [True] * 9
    for n, text in enumerate(PROMPTS):
        for t, piece in enumerate(encoded.pieces[n]):
            start, end = encoded.offsets[n, t].tolist()
            assert text[start:end] == ("" if piece.startswith("[") else piece.removeprefix("##"))
    assert encoded.features.device.type == "cpu"


def test_padding_further_changes_no_feature(tiny):
    short, long = (helpers.encode_texts(*tiny, PROMPTS, pad_to=n) for n in (None, 40))
    assert long.input_ids.shape == (3, 40)
    torch.testing.assert_close(short.features, long.features, atol=1e-5, rtol=0)


def test_a_prompt_of_300_words_is_cut_and_says_so(tiny):
    with pytest.warns(UserWarning, match=r"texts\[1\].*77"):
        encoded = helpers.encode_texts(*tiny, ["red cells", "red cells " * 150])
    assert encoded.truncated.tolist() == [False, True]
    assert encoded.input_ids.shape == (2, 77)
    assert encoded.pieces[1][-1] == "[SEP]"
    with pytest.raises(ValueError, match=r"texts\[1\]"):
        encoded.positions(1, 600, 605)


def test_a_prompt_of_exactly_the_length_is_not_cut(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not helpers.encode_texts(*tiny, ["cell " * 75]).truncated.any()
    with pytest.warns(UserWarning, match=r"texts\[0\].*77"):
        assert helpers.encode_texts(*tiny, ["cell " * 76]).truncated.all()


def test_emoji_are_counted_and_a_prompt_of_nothing_else_is_warned_of(tiny):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoded = helpers.encode_texts(*tiny, ["a 🩸 cell"])
    assert encoded.unknown.tolist() == [1]
    assert encoded.pieces[0][2] == "[UNK]"
    with pytest.warns(UserWarning, match=r"texts\[0\]"):
        helpers.encode_texts(*tiny, ["🩸 🔬"])


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        ([], "texts"),
        (["cell", ""], r"texts\[1\]"),
        (["  \n"], r"texts\[0\]"),
        (["\u200b"], r"texts\[0\], '\\u200b'"),
        (["cell", "\x00 \ufeff"], r"texts\[1\]"),
        (["cell [SEP] band"], r"texts\[0\].*\[SEP\]"),
        (["cell", None], r"texts\[1\].*None"),
        ([3.5], r"texts\[0\].*3\.5"),
        (["cell", "caf\udce9"], r"texts\[1\], 'caf\\udce9'"),
    ],
)
def test_bad_texts(tiny, texts, named):
    with pytest.raises(ValueError, match=named):
        helpers.encode_texts(*tiny, texts)


def test_one_string_is_a_list_of_one(tiny):
    assert len(helpers.encode_texts(*tiny, "a cell")) == 1


# --- images -----------------------------------------------------------------------------------------------------------


def test_images_equal_forward_in_any_batch(tiny, pictures):
    model, processor = tiny
    encoded = helpers.encode_images(model, processor, pictures, batch_size=3, tokens=True)
    with torch.no_grad():
        out = model(**processor(images=pictures, return_tensors="pt"))
    torch.testing.assert_close(encoded.features, out["image_features"], atol=1e-5, rtol=0)
    torch.testing.assert_close(encoded.tokens, out["image_token_features"], atol=1e-5, rtol=1e-4)
    assert encoded.grid == (4, 4)
    assert encoded.map().shape == (4, 4, 4, 32)
    torch.testing.assert_close(encoded.map()[2, 1, 3], encoded.tokens[2, 7])
    assert encoded.index.tolist() == [0, 1, 2, 3]


def test_every_kind_of_image_gives_the_same(tiny, pictures, tmp_path):
    picture = pictures[1].resize((64, 64))
    path = tmp_path / "cell.png"
    picture.save(path)
    array = np.asarray(picture)
    floats = torch.from_numpy(array.copy()).permute(2, 0, 1)[None] / 255
    kinds = [[picture], [path], [str(path)], path, [array], array, array[None]]
    features = [helpers.encode_images(*tiny, kind).features for kind in kinds]
    for other in features[1:]:
        torch.testing.assert_close(other, features[0])
    close = helpers.encode_images(*tiny, floats).features  # resized in floating point: near, not equal
    assert F.cosine_similarity(close, features[0]) > 0.99
    assert F.cosine_similarity(close, helpers.encode_images(*tiny, floats / 2).features) < 0.99
    assert helpers.encode_images(*tiny, [path]).names == ["cell.png"]


def test_a_processor_left_with_do_rescale_off_does_no_harm_and_is_not_changed(tiny, pictures):
    model, processor = tiny
    expected = helpers.encode_images(model, processor, pictures).features
    processor.image_processor.do_rescale = False
    try:
        torch.testing.assert_close(helpers.encode_images(model, processor, pictures).features, expected)
        assert processor.image_processor.do_rescale is False
    finally:
        processor.image_processor.do_rescale = True
    helpers.encode_images(model, processor, torch.rand(2, 3, 60, 60))
    assert processor.image_processor.do_rescale is True


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA"])
def test_other_modes_become_rgb(tiny, pictures, mode):
    features = helpers.encode_images(*tiny, [pictures[1].convert("RGB").convert(mode)]).features
    assert features.isfinite().all()


def test_one_pixel_and_64_megapixels(tiny):
    images = [Image.new("RGB", (1, 1), "purple"), Image.new("RGB", (8000, 8000), "purple")]
    one, many = helpers.encode_images(*tiny, images).features
    torch.testing.assert_close(one, many)


def test_a_dark_float_picture_stays_dark(tiny):
    dark = torch.full((1, 3, 60, 60), 0.02)
    black = Image.new("RGB", (60, 60), (5, 5, 5))
    features = helpers.encode_images(*tiny, dark).features
    torch.testing.assert_close(features, helpers.encode_images(*tiny, [black]).features, atol=2e-3, rtol=0)


def broken_files(folder: Path) -> dict[str, str]:
    """Broken files, and a part of what must be said of each."""
    whole = folder / "whole.jpg"
    Image.fromarray(data.chelsea()).save(whole)
    (folder / "truncated.jpg").write_bytes(whole.read_bytes()[:2000])
    (folder / "zero.png").write_bytes(b"")
    (folder / "text.png").write_text("this is no image")
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(folder / "deep.png")
    return {
        "truncated.jpg": "truncated",
        "zero.png": "empty (0 bytes)",
        "text.png": "not an image",
        "deep.png": "window=(low, high)",
        "absent.png": "no such file",
    }


def test_broken_files_are_named_with_their_cure(tiny, tmp_path):
    for name, problem in broken_files(tmp_path).items():
        with pytest.raises(ValueError) as error:
            helpers.encode_images(*tiny, [tmp_path / "whole.jpg", tmp_path / name])
        assert str(error.value).startswith(name), error.value
        assert problem in str(error.value)
        assert str(tmp_path) not in str(error.value)  # a file's name, never where it lies on this machine


def test_one_broken_file_among_a_hundred_is_reported(tiny, tmp_path, pictures):
    for k in range(100):
        pictures[k % 4].resize((30, 30)).save(tmp_path / f"{k:03}.png")
    (tmp_path / "042.png").write_bytes(b"")
    encoded = helpers.encode_images(*tiny, sorted(tmp_path.iterdir()), on_error="report", batch_size=16)
    assert len(encoded) == 99
    assert encoded.index.tolist() == [k for k in range(100) if k != 42]
    assert encoded.failures[["item", "name"]].to_numpy().tolist() == [[42, "042.png"]]
    assert "empty (0 bytes)" in encoded.failures["problem"][0]
    assert "042.png" not in encoded.names


def test_a_whole_batch_of_broken_files_and_nothing_but_broken_files(tiny, tmp_path):
    broken_files(tmp_path)
    broken, whole = tmp_path / "zero.png", tmp_path / "whole.jpg"
    order = [whole, broken, broken, whole]
    encoded = helpers.encode_images(*tiny, order, on_error="report", batch_size=1, tokens=True)
    assert encoded.index.tolist() == [0, 3]
    assert encoded.tokens.shape == (2, 16, 32)
    with pytest.raises(ValueError, match=r"2 images.*zero\.png"):
        helpers.encode_images(*tiny, [broken, broken], on_error="report", batch_size=1)


def test_a_decompression_bomb_is_told(tiny, tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "big.png")
    for limit in (6000, 4000):  # above once: Pillow's warning; above twice: its error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ValueError, match=r"big\.png.*MAX_IMAGE_PIXELS"):
            helpers.encode_images(*tiny, [tmp_path / "big.png"])


@pytest.mark.parametrize(
    ("images", "named"),
    [
        ([], "images"),
        (torch.rand(0, 3, 8, 8), "images"),
        (torch.full((2, 3, 8, 8), torch.nan), "image 0.*NaN"),
        (torch.stack([torch.zeros(3, 8, 8), torch.full((3, 8, 8), torch.inf)]), "image 1.*NaN"),
        (torch.rand(2, 3, 8, 8) * 255, r"image 0.*\[0, 1\]"),
        (torch.rand(2, 4, 8, 8), r"\[B, 3, H, W\]"),
        ([np.zeros((8, 8), np.uint16)], "image 0.*uint16"),
        ([np.zeros((0, 8, 3), np.uint8)], "image 0"),
        (["cell.png"], r"cell\.png"),
        ([42], "image 0.*int"),
        (np.zeros((20, 20, 1), np.uint8), r"\[20, 20, 1\].*list\(array\)"),
        (np.zeros((3, 224, 224), np.uint8), r"\[3, 224, 224\]"),
        (np.zeros((5, 20, 20), np.float32), r"\[5, 20, 20\]"),
        (np.zeros(20, np.uint8), r"\[20\]"),
    ],
)
def test_bad_images(tiny, images, named):
    with pytest.raises(ValueError, match=named):
        helpers.encode_images(*tiny, images)


@pytest.mark.parametrize("shape", [(20, 20), (20, 30, 3), (20, 30, 4), (1, 20, 30, 3), (1, 3, 20, 30)])
def test_an_array_that_is_one_image(tiny, shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    alone = array[0] if len(shape) == 4 else array
    features = helpers.encode_images(*tiny, array).features
    torch.testing.assert_close(features, helpers.encode_images(*tiny, [alone]).features)


def test_sixteen_bit_colour_is_refused_by_name(tiny, tmp_path):
    said = sixteen_bit_files(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "whole.png")
    encoded = helpers.encode_images(*tiny, sorted(tmp_path.iterdir()), on_error="report")
    assert encoded.names == ["whole.png"]
    for failure in encoded.failures.itertuples():
        assert failure.problem.startswith(failure.name), failure.problem
        assert said.pop(failure.name) in failure.problem
    assert not said
    with pytest.raises(ValueError, match=r"rgb\.png.*16 bits.*window=\(low, high\)"):
        helpers.images.open_image(tmp_path / "rgb.png")


def test_a_file_of_several_pages_is_refused_by_name(tiny, tmp_path):
    for name in paged_files(tmp_path):
        with pytest.raises(ValueError, match=rf"^{name}.*3 pages"):
            helpers.encode_images(*tiny, [tmp_path / name])


def test_a_float_file_with_nan_is_left_out_and_the_others_are_not(tiny, tmp_path):
    floats = np.random.default_rng(0).random((20, 30), dtype=np.float32) * 1000
    for name, value in (("a", 1), ("b", np.nan), ("c", np.inf), ("d", 2)):
        floats[3, 4] = value
        Image.fromarray(floats).save(tmp_path / f"{name}.tif")
    encoded = helpers.encode_images(*tiny, sorted(tmp_path.iterdir()), window=(0, 1000), on_error="report")
    assert encoded.names == ["a.tif", "d.tif"]
    problem = "holds NaN or infinite values. Repair it or leave it out."
    assert encoded.failures["problem"].tolist() == [f"b.tif {problem}", f"c.tif {problem}"]


def test_a_float_file_between_0_and_1_is_as_its_array(tiny, tmp_path):
    floats = np.random.default_rng(0).random((20, 30), dtype=np.float32)
    Image.fromarray(floats).save(tmp_path / "floats.tif")
    features = [helpers.encode_images(*tiny, [form]).features for form in (tmp_path / "floats.tif", floats)]
    torch.testing.assert_close(*features)


def test_files_of_one_name_are_told_apart_by_as_few_folders_as_needed(tiny, tmp_path, monkeypatch):
    files = ["a/1.png", "b/1.png", "x/b/1.png", "a/2.png"]
    for k, file in enumerate(files):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (60 * k, 0, 0)).save(tmp_path / file)
    paths = [tmp_path / file for file in files]
    machine = tmp_path.name  # the folder in which all of them lie
    assert image_names(paths) == ["a/1.png", f"{machine}/b/1.png", "x/b/1.png", "2.png"]
    assert image_names([paths[0], str(paths[1]), paths[3]]) == ["a/1.png", "b/1.png", "2.png"]
    assert image_names([paths[0], paths[0], Image.new("L", (1, 1))]) == ["1.png", "1.png", "image 2"]
    monkeypatch.chdir(tmp_path / "a")
    assert image_names(["1.png", "2.png", "../b/1.png"]) == ["a/1.png", "2.png", "b/1.png"]
    few = [paths[0], paths[1], paths[3]]
    table = helpers.zero_shot(*tiny, few, ["band", "nucleus"], batch_size=1)
    assert table.index.tolist() == ["a/1.png", "b/1.png", "2.png"]
    paths[1].write_bytes(b"")
    failures = helpers.encode_images(*tiny, few, on_error="report").failures
    assert failures["name"].tolist() == ["b/1.png"]
    assert failures["problem"][0].startswith("b/1.png: the file is empty")


def test_what_is_shown_is_what_the_processor_reads(tiny, tmp_path):
    """Squashed, it gives the very pixels that the model gets; so a map lies on it where the model looked."""
    processor = tiny[1]
    array = data.chelsea()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.fromarray(array).save(tmp_path / "phone.jpg", exif=exif)
    clear = Image.fromarray(array).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    forms = [tmp_path / "phone.jpg", Image.open(tmp_path / "phone.jpg"), clear, np.asarray(clear)]
    forms += [array, array.transpose(2, 0, 1), torch.from_numpy(array), data.camera()]
    for form in forms:
        shown = as_shown(form)
        assert shown.mode == "RGB"
        pixels = [processor(images=[image], return_tensors="pt")["pixel_values"] for image in (form, shown)]
        assert torch.equal(*pixels)
    assert as_shown(tmp_path / "phone.jpg").size == (300, 451)
    floats = torch.from_numpy(array).permute(2, 0, 1) / 255
    assert np.array_equal(np.asarray(as_shown(floats)), array)


def test_what_eyes_cannot_see_is_brought_between_black_and_white():
    deep = np.linspace(0, 4095, 3600).reshape(60, 60).astype(np.uint16)
    for form in (deep, Image.fromarray(deep), torch.from_numpy(deep.astype(np.float32)) / 1000):
        shown = np.asarray(as_shown(form))
        np.testing.assert_allclose(shown[..., 0], deep / 4095 * 255, atol=0.51)
    assert np.asarray(as_shown(np.full((4, 4, 3), 0.5))).max() == 128  # floats in [0, 1] stay as bright as they are
    with pytest.raises(ValueError, match=r"scan.*NaN"):
        as_shown(deep * np.nan, "scan")


def test_sixteen_bits_through_a_window(tiny):
    deep = np.linspace(0, 4095, 3600).reshape(60, 60).astype(np.uint16)
    eight = np.round(deep / 4095 * 255).astype(np.uint8)
    wide, other = (helpers.encode_images(*tiny, [deep], window=(0, high)).features for high in (4095, 2000))
    near = helpers.encode_images(*tiny, [eight]).features
    assert F.cosine_similarity(wide, near) > 0.999
    assert F.cosine_similarity(other, near) < 0.99


def test_a_model_in_half_precision_gives_nearly_the_same_and_float32_back(tiny, pictures):
    model, processor = tiny
    half = copy.deepcopy(model).to(torch.bfloat16)
    for encode, what in ((helpers.encode_images, pictures), (helpers.encode_texts, PROMPTS)):
        full, low = encode(model, processor, what, tokens=True), encode(half, processor, what, tokens=True)
        assert low.features.dtype == low.tokens.dtype == torch.float32
        assert F.cosine_similarity(low.features, full.features).min() > 0.99


def test_bad_arguments(tiny, pictures):
    for arguments in ({"on_error": "ignore"}, {"dtype": "int8"}, {"tokens": "all"}, {"batch_size": 0}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            helpers.encode_images(*tiny, pictures, **arguments)


def test_progress_is_off_unless_asked_for(tiny, pictures, capsys):
    helpers.encode_images(*tiny, pictures)
    assert capsys.readouterr() == ("", "")
    helpers.encode_images(*tiny, pictures, progress=True, batch_size=1)
    assert "encoding images" in capsys.readouterr().err


# --- storage ----------------------------------------------------------------------------------------------------------


def test_images_saved_and_loaded_are_the_same(tiny, pictures, tmp_path):
    (tmp_path / "zero.png").write_bytes(b"")
    images = [*pictures, tmp_path / "zero.png"]
    encoded = helpers.encode_images(*tiny, images, tokens=True, dtype="float16", on_error="report")
    path = encoded.save(tmp_path / "below" / "features.safetensors")
    again = helpers.load_encodings(path)
    assert again.features.dtype == torch.float16
    assert torch.equal(again.features, encoded.features)
    assert torch.equal(again.tokens, encoded.tokens)
    assert torch.equal(again.index, encoded.index)
    assert (again.grid, again.names) == (encoded.grid, encoded.names)
    assert again.failures.equals(encoded.failures)
    assert [file.name for file in path.parent.iterdir()] == ["features.safetensors"]  # nothing is left beside it


def test_texts_saved_and_loaded_are_the_same(tiny, tmp_path):
    encoded = helpers.encode_texts(*tiny, PROMPTS)
    again = helpers.load_encodings(encoded.save(tmp_path / "texts.safetensors"))
    assert again.tokens is None
    assert (again.texts, again.pieces) == (encoded.texts, encoded.pieces)
    for name in ("features", "mask", "special", "input_ids", "offsets", "truncated", "unknown"):
        assert torch.equal(getattr(again, name), getattr(encoded, name)), name


def test_an_interrupted_save_leaves_the_old_file(tiny, tmp_path, monkeypatch):
    encoded = helpers.encode_texts(*tiny, PROMPTS)
    path = encoded.save(tmp_path / "texts.safetensors")
    before = path.read_bytes()

    def fails(tensors, file, metadata):
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("helpers.encoding.save_file", fails)
    with pytest.raises(OSError, match="disk full"):
        encoded.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["texts.safetensors"]


def test_files_that_are_not_ours(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "broken.safetensors").write_bytes(b"not one")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    for name in ("absent", "broken", "other"):
        with pytest.raises(ValueError, match=rf"{name}\.safetensors"):
            helpers.load_encodings(tmp_path / f"{name}.safetensors")


def test_half_precision_is_near(tiny, pictures):
    full, half = (helpers.encode_images(*tiny, pictures, dtype=d).features for d in ("float32", torch.float16))
    torch.testing.assert_close(half.float(), full, atol=1e-3, rtol=0)


# --- data sets and loaders --------------------------------------------------------------------------------------------


class Cells(torch.utils.data.Dataset):
    """(picture, name), of which one cannot be given."""

    def __init__(self, broken=None, as_tensor=True):
        self.broken, self.as_tensor = broken, as_tensor

    def __len__(self):
        return 5

    def __getitem__(self, number):
        if number == self.broken:
            raise OSError("disk")
        picture = np.random.default_rng(number).random((3, 60, 60), dtype=np.float32)
        return (torch.from_numpy(picture) if self.as_tensor else to_pil(picture)), f"cell {number}"


def to_pil(picture):
    return Image.fromarray((picture.transpose(1, 2, 0) * 255).astype(np.uint8))


def test_labels_in_words_come_back_from_a_loader(tiny):
    loader = torch.utils.data.DataLoader(Cells(), batch_size=2)
    encoded = helpers.encode_images(*tiny, loader)
    assert encoded.labels == [f"cell {n}" for n in range(5)]
    alone = helpers.encode_images(*tiny, Cells())
    torch.testing.assert_close(encoded.features, alone.features)


@pytest.mark.parametrize("collate", [list, lambda batch: tuple(zip(*batch, strict=True))])
def test_labels_in_words_with_a_collate_function(tiny, collate):
    loader = torch.utils.data.DataLoader(Cells(as_tensor=False), batch_size=2, collate_fn=collate)
    assert helpers.encode_images(*tiny, loader).labels == [f"cell {n}" for n in range(5)]


def test_a_batch_that_a_loader_cannot_give_is_reported(tiny):
    loader = torch.utils.data.DataLoader(Cells(broken=2), batch_size=2)
    encoded = helpers.encode_images(*tiny, loader, on_error="report")
    assert encoded.labels == ["cell 0", "cell 1", "cell 4"]
    assert encoded.index.tolist() == [0, 1, 4]
    assert encoded.failures["item"].tolist() == [2, 3]
    assert encoded.failures["problem"].str.contains("OSError: disk").all()
    with pytest.raises(ValueError, match=r"image 2.*disk"):
        helpers.encode_images(*tiny, loader)


def test_a_loader_is_scored(tiny):
    loader = torch.utils.data.DataLoader(Cells(broken=2), batch_size=2)
    for score in (helpers.zero_shot, helpers.annotate):
        with pytest.warns(UserWarning, match="2 of 5"):
            table = score(*tiny, loader, ["nucleus", "band"], on_error="report")
        assert table.index.tolist() == ["image 0", "image 1", "image 4"]


@pytest.mark.parametrize("options", [{"batch_size": 2.5}, {"batch_size": True}, {"workers": 1.5}, {"batch_size": None}])
def test_numbers_at_a_time_are_whole(tiny, pictures, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        helpers.iter_image_encodings(*tiny, pictures, **options)


@pytest.mark.parametrize("options", [{"pad_to": 0}, {"pad_to": "a"}, {"max_length": 0}, {"max_length": 1.5}])
def test_lengths_of_prompts_are_whole(tiny, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        helpers.encode_texts(*tiny, ["cell"], **options)
