"""Images and prompts on their way in: what is equal to what, and what is an error."""

import copy

import numpy as np
import pytest
import skimage
import torch
from PIL import Image
from small_model import make_processor, make_tokenizer
from transformers import AutoImageProcessor, AutoProcessor
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from conftest import paged_files, sixteen_bit_files
from helpers.conceptclip import ConceptCLIPImageProcessor, ConceptCLIPProcessor
from helpers.images import ImageError

SIDE = 56
NAMES = ("astronaut", "retina", "immunohistochemistry", "chelsea", "coffee", "rocket")
PICTURES = {name: getattr(skimage.data, name)() for name in NAMES}


@pytest.fixture
def processor() -> ConceptCLIPProcessor:
    return make_processor(SIDE)


def pixels(processor: ConceptCLIPProcessor, images, **kwargs) -> torch.Tensor:
    return processor(images=images, return_tensors="pt", **kwargs)["pixel_values"]


def picture(name: str = "astronaut") -> Image.Image:
    return Image.fromarray(PICTURES[name])


def as_float(image: Image.Image) -> torch.Tensor:
    """What torchvision's ToTensor gives: (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def state(processor: ConceptCLIPProcessor) -> tuple:
    return copy.deepcopy(processor.image_processor.to_dict()), processor.tokenizer.model_max_length, str(processor)


# -- the 8-bit way


@pytest.mark.parametrize("name", PICTURES)
def test_equals_siglips_own_processor(processor, name):
    theirs = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})(picture(name), return_tensors="pt")
    torch.testing.assert_close(pixels(processor, picture(name)), theirs["pixel_values"], rtol=0, atol=1e-6)


def test_by_hand(processor):
    image = picture("retina")
    squashed = np.array(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    expected = torch.from_numpy((squashed / 255 - 0.5) / 0.5).permute(2, 0, 1).float()
    torch.testing.assert_close(pixels(processor, [image])[0], expected, rtol=0, atol=1e-6)


def test_the_same_picture_in_every_8_bit_form(processor, tmp_path):
    image = picture()
    image.save(tmp_path / "picture.png")
    array = np.array(image)
    expected = pixels(processor, image)
    forms = {
        "path": tmp_path / "picture.png",
        "str": str(tmp_path / "picture.png"),
        "array": array,
        "array, channels first": array.transpose(2, 0, 1),
        "tensor": torch.from_numpy(array).permute(2, 0, 1),
        "tensor, channels last": torch.from_numpy(array),
        "batch": torch.from_numpy(array).permute(2, 0, 1)[None],
        "batch of arrays": array[None],
    }
    for name, form in forms.items():
        assert torch.equal(pixels(processor, form), expected), name
        assert name.startswith("batch") or torch.equal(pixels(processor, [form]), expected), name


def test_modes_become_rgb(processor):
    image = picture()
    gray = image.convert("L")
    assert torch.equal(pixels(processor, gray), pixels(processor, Image.merge("RGB", [gray] * 3)))
    assert torch.equal(pixels(processor, np.array(gray)), pixels(processor, gray))
    palette = image.quantize(64)
    assert palette.mode == "P"
    assert torch.equal(pixels(processor, palette), pixels(processor, palette.convert("RGB")))
    cmyk = image.convert("CMYK")
    assert torch.equal(pixels(processor, cmyk), pixels(processor, cmyk.convert("RGB")))
    assert (pixels(processor, cmyk) - pixels(processor, image)).abs().max() < 0.02  # not inverted
    bilevel = image.convert("1")
    assert torch.equal(pixels(processor, bilevel), pixels(processor, bilevel.convert("RGB")))


def test_transparency_is_shown_over_white(processor):
    image = picture().convert("RGBA")
    opaque = pixels(processor, image)
    assert torch.equal(opaque, pixels(processor, picture()))
    alpha = Image.new("L", image.size, 0)
    alpha.paste(255, (0, 0, 99, 99))
    image.putalpha(alpha)
    white = Image.new("RGB", image.size, "white")
    white.paste(picture().crop((0, 0, 99, 99)))
    assert torch.equal(pixels(processor, image), pixels(processor, white))
    assert torch.equal(pixels(processor, np.array(image)), pixels(processor, white))
    image.putalpha(0)
    for form in (image, np.array(image)):
        with pytest.raises(ImageError, match=r"Image 0 .*transparent"):
            pixels(processor, form)


def test_exif_orientation_is_honoured(processor, tmp_path):
    image, exif = picture("chelsea"), Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90° clockwise
    image.save(tmp_path / "turned.png", exif=exif)
    upright = pixels(processor, image.transpose(Image.Transpose.ROTATE_270))
    assert torch.equal(pixels(processor, tmp_path / "turned.png"), upright)
    assert not torch.allclose(upright, pixels(processor, image), atol=0.1)


# -- the float way


@pytest.mark.parametrize("side", [56, 384])
def test_float_lies_close_to_8_bit(side):
    """How far, in grey levels of 255: Pillow rounds after each of its two passes, and nothing else differs."""
    processor = make_processor(side)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8))
    for image in (*map(picture, PICTURES), noise):
        difference = pixels(processor, as_float(image), do_rescale=False) - pixels(processor, image)
        assert difference.abs().max() / 2 * 255 < 1.2
        assert difference.abs().mean() / 2 * 255 < 0.35


def test_float_is_not_quantised(processor):
    """A ramp finer than 8 bits stays a ramp; transformers' own PIL backend makes steps of it."""
    ramp = torch.linspace(0.500, 0.504, 200).expand(3, 200, 200)
    levels = len(pixels(processor, ramp, do_rescale=False)[0, 0, 10].unique())
    theirs = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_rescale=False)(ramp, return_tensors="pt")
    assert levels == SIDE
    assert len(theirs["pixel_values"][0, 0, 10].unique()) <= 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_float_dtypes(processor, dtype):
    image = as_float(picture())[None].to(dtype)
    got = pixels(processor, image, do_rescale=False)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, pixels(processor, image.float(), do_rescale=False), rtol=0, atol=1e-6)


def test_float_is_differentiable(processor):
    image = as_float(picture())[None].requires_grad_()
    pixels(processor, image, do_rescale=False).square().sum().backward()
    assert image.grad.abs().sum() > 0


def test_the_guides_float_path(processor):
    batch = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    per_call = pixels(processor, batch, do_rescale=False)
    processor.image_processor.do_rescale = False
    processor.image_processor.do_normalize = True
    assert torch.equal(pixels(processor, batch), per_call)
    assert per_call.shape == (2, 3, SIDE, SIDE)
    assert per_call.min() < -0.3  # not black: divided by 255 it would lie within 0.01 of −1
    assert per_call.max() > 0.3


def test_bright_and_dark_float_images_keep_their_relation(processor):
    """A range guessed from each image would scale the dark one up."""
    image = as_float(picture()) * 0.5 + 0.25
    bright, dark = pixels(processor, [image, image * 0.003], do_rescale=False)
    torch.testing.assert_close((dark + 1) / 2, (bright + 1) / 2 * 0.003, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mean_and_std", [(0.5, 0.5), ((0.48, 0.46, 0.41), (0.27, 0.26, 0.28))])
def test_a_bright_slide_is_not_normalised_twice(processor, mean_and_std):
    """Its normalised pixels lie in [0, 1], as those of a picture do."""
    processor.image_processor.image_mean, processor.image_processor.image_std = mean_and_std
    slide = Image.fromarray(np.random.default_rng(0).integers(190, 256, (90, 80, 3), dtype=np.uint8).clip(195, 245))
    ready = pixels(processor, slide)
    in_range = ready.clamp(0, 1)
    if torch.equal(in_range, ready):
        with pytest.raises(ValueError, match=r"Image 0.*pixels_are"):
            pixels(processor, ready, do_rescale=False)
    else:
        with pytest.raises(ValueError, match=r"Image 0.*\[0, 1\]"):
            pixels(processor, ready, do_rescale=False)
    assert pixels(processor, as_float(slide), do_rescale=False).isfinite().all()
    noise = torch.rand(3, 70, 70, generator=torch.Generator().manual_seed(0))
    for fine in (noise, torch.ones(3, 9, 9), torch.zeros(3, 9, 9), as_float(picture())):
        assert pixels(processor, fine, do_rescale=False).isfinite().all()


# -- 16 bit


def sixteen_bit() -> np.ndarray:
    return np.linspace(0, 4095, 100 * 80).reshape(80, 100).astype(np.uint16)


def test_sixteen_bit_with_a_window(processor, tmp_path):
    array = sixteen_bit()
    Image.fromarray(array).save(tmp_path / "wide.png")
    expected = ((torch.from_numpy(array.astype(np.float32)) - 1000) / 2000).clamp(0, 1).expand(3, -1, -1)
    expected = pixels(processor, expected, do_rescale=False)
    forms = [array, array.astype(">u2"), array.astype(np.int32), torch.from_numpy(array.astype(np.int32))]
    for form in [*forms, Image.fromarray(array), tmp_path / "wide.png", array.astype(np.float32)]:
        assert torch.equal(pixels(processor, form, window=(1000, 3000)), expected)
    assert expected.min() == -1
    assert expected.max() == 1
    hounsfield = array.astype(np.float32) - 1024
    assert torch.equal(pixels(processor, hounsfield, window=(-24, 1976)), expected)


def test_sixteen_bit_without_a_window(processor, tmp_path):
    Image.fromarray(sixteen_bit()).save(tmp_path / "wide.png")
    for form in (sixteen_bit(), tmp_path / "wide.png"):
        with pytest.raises(ValueError, match=r"Image 0.*4095.*window=\(low, high\)"):
            pixels(processor, form)


def test_sixteen_bit_colour_is_refused(processor, tmp_path):
    """Pillow would read the upper 8 of 16 bits, or of separate planes noise, and not say so."""
    for name, said in sixteen_bit_files(tmp_path).items():
        with pytest.raises(ValueError, match=rf"Image 1 \(.*{name}\).*{said}"):
            pixels(processor, [picture(), tmp_path / name])
        if said == "16 bits":
            with pytest.raises(ValueError, match=rf"Image 0 \(.*{name}\).*16 bits.*window=\(low, high\)"):
                pixels(processor, Image.open(tmp_path / name))
    array = np.random.default_rng(0).integers(0, 4096, (40, 30, 3)).astype(np.uint16)
    assert pixels(processor, array, window=(0, 4095)).std() > 0.4  # the cure


# -- what is an error


@pytest.mark.parametrize(
    ("images", "kwargs", "named"),
    [
        (lambda: torch.rand(2, 3, 8, 8), {}, r"Image 0.*\[0, 1\].*do_rescale=False"),
        (lambda: torch.rand(2, 3, 8, 8) * 255, {"do_rescale": False}, r"Image 0.*\[0, 1\].*uint8"),
        (lambda: torch.rand(2, 3, 8, 8) * 255, {}, r"Image 0.*\[0, 1\].*uint8"),
        (lambda: torch.randn(2, 3, 8, 8), {"do_rescale": False}, r"Image 0.*\[0, 1\].*normalis"),
        (lambda: torch.full((3, 8, 8), torch.nan), {"do_rescale": False}, "Image 0.*NaN"),
        (lambda: np.full((8, 8), np.nan), {"window": (0, 10)}, "Image 0.*NaN"),
        (lambda: Image.fromarray(np.full((8, 8), np.inf, np.float32)), {"window": (0, 10)}, "Image 0.*NaN"),
        (lambda: np.zeros((0, 8, 3), np.uint8), {}, r"Image 0.*\(0, 8, 3\)"),
        (lambda: [picture(), picture()], {"do_rescale": False}, "Image 0.*255"),
        (list, {}, "images"),
        (lambda: torch.zeros(0, 3, 8, 8), {}, "images"),
        (lambda: [picture(), "nowhere/cell.png"], {}, r"Image 1 \(nowhere/cell\.png\)"),
        (lambda: [picture(), None], {}, "Image 1.*NoneType"),
        (lambda: {"cells": picture()}, {}, "Image 0.*dict"),
        (lambda: ["https://example.org/cell.png"], {}, r"Image 0.*example\.org/cell\.png"),
        (lambda: np.zeros((8, 8, 2), np.uint8), {}, "Image 0.*[28] channels"),
        (lambda: np.zeros((8, 8, 3), bool), {}, "Image 0.*bool"),
        (lambda: np.zeros((2, 2, 2, 8, 8), np.uint8), {}, "axes"),
        (lambda: [np.zeros((1, 2, 8, 8), np.uint8)], {}, r"Image 0.*\(1, 2, 8, 8\)"),
        (lambda: picture(), {"window": (0, 10)}, "Image 0.*window"),
        (sixteen_bit, {"window": (10, 10)}, r"window.*\(10, 10\)"),
        (lambda: picture(), {"size": {"shortest_edge": 20}}, "size.*shortest_edge"),
        (lambda: picture(), {"do_center_crop": True, "crop_size": {"height": 8, "width": 8}}, "crop"),
        (lambda: [picture(), picture("retina")], {"do_resize": False}, r"\d+ × \d+"),
        (lambda: torch.rand(3, 8, 8), {"do_rescale": False, "resample": 1}, "LANCZOS"),
    ],
)
def test_errors_name_the_image_and_the_cure(processor, images, kwargs, named):
    before = state(processor)
    with pytest.raises(ValueError, match=f"(?s){named}"):
        pixels(processor, images(), **kwargs)
    assert state(processor) == before


def test_unreadable_files(processor, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"Image 0 \(.*text\.png\)"):
        pixels(processor, tmp_path / "text.png")
    picture().save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"Image 1 \(.*half\.jpg\)"):
        pixels(processor, [tmp_path / "whole.jpg", tmp_path / "half.jpg"])


def test_a_file_of_several_pages_is_refused_and_a_page_is_not(processor, tmp_path):
    for name in paged_files(tmp_path):
        for form in (tmp_path / name, Image.open(tmp_path / name)):
            with pytest.raises(ValueError, match=rf"Image 0 \(.*{name}\).*3 pages.*\.seek\(number\)"):
                pixels(processor, form)
        image = Image.open(tmp_path / name)
        image.seek(2)
        red = (pixels(processor, image.copy())[0, 0] + 1) / 2 * 255
        torch.testing.assert_close(red, torch.full_like(red, 160), rtol=0, atol=5)


def test_one_page_is_no_stack(processor, tmp_path):
    image = picture().resize((40, 30)).quantize(16)
    for name in ("one.gif", "one.tif", "one.webp"):
        image.save(tmp_path / name, lossless=True)
        with Image.open(tmp_path / name) as closed:
            closed.load()
        for form in (tmp_path / name, Image.open(tmp_path / name), closed):
            assert torch.equal(pixels(processor, form), pixels(processor, image.convert("RGB"))), name
    preview = Image.new("RGB", (8, 8))  # a phone puts previews or depth behind the photograph
    picture().save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[preview])
    photograph = pixels(processor, tmp_path / "phone.jpg")
    assert Image.open(tmp_path / "phone.jpg").n_frames == 2
    assert (photograph - pixels(processor, picture())).abs().mean() < 0.05


def test_an_image_too_large_for_pillow(processor, tmp_path, monkeypatch):
    picture().save(tmp_path / "slide.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"Image 0 \(.*slide\.png\).*MAX_IMAGE_PIXELS"):
        pixels(processor, tmp_path / "slide.png")


def test_an_8_bit_image_after_the_attribute_was_left_set(processor):
    processor.image_processor.do_rescale = False
    with pytest.raises(ValueError, match="do_rescale = True"):
        pixels(processor, picture())
    assert pixels(processor, picture(), do_rescale=True).max() <= 1


def test_no_call_changes_the_processor(processor):
    before = state(processor)
    processor(images=[picture()], text=["a cell"], return_tensors="pt", padding=True, truncation=True)
    pixels(processor, torch.rand(1, 3, 20, 20), do_rescale=False, do_normalize=False, size={"height": 8, "width": 8})
    pixels(processor, sixteen_bit(), window=(0, 4095), resample=2, image_mean=[0.1, 0.2, 0.3])
    processor(text=["nucleus " * 100], truncation=True, max_length=9)
    assert state(processor) == before


def test_no_call_changes_the_images(processor, tmp_path):
    array, tensor = PICTURES["chelsea"].copy(), torch.rand(3, 20, 20)
    kept = tensor.clone()
    image = picture()
    pixels(processor, [array, image])
    pixels(processor, tensor, do_rescale=False)
    assert np.array_equal(array, PICTURES["chelsea"])
    assert torch.equal(tensor, kept)
    assert image.size == picture().size


# -- prompts and the two together


def test_prompts_are_cut_at_77(processor):
    long = "nucleus " * 100
    assert processor(text=[long, "a cell"], truncation=True, padding=True, return_tensors="pt")["input_ids"].shape == (
        2,
        77,
    )
    assert processor.tokenizer([long], truncation=True, return_tensors="pt")["input_ids"].shape == (1, 77)
    assert len(processor(text=[long])["input_ids"][0]) == 102
    assert processor(text=[long], truncation=True, max_length=12, return_tensors="pt")["input_ids"].shape == (1, 12)


def test_a_tokenizer_without_a_length_is_copied_not_changed():
    tokenizer = make_tokenizer()
    assert tokenizer.model_max_length > 10**9
    processor = ConceptCLIPProcessor(ConceptCLIPImageProcessor(), tokenizer)
    assert processor.tokenizer.model_max_length == 77
    assert tokenizer.model_max_length > 10**9


def test_keys(processor):
    both = processor(images=[picture()], text=["a cell"], return_tensors="pt", padding=True, truncation=True)
    assert set(both) == {"input_ids", "token_type_ids", "attention_mask", "pixel_values"}
    assert both.to("cpu")["pixel_values"].dtype == torch.float32
    only = processor(images=[picture()], return_tensors="pt", padding=True, truncation=True)
    assert set(only) == {"pixel_values"}
    assert set(processor(text=["a cell"])) == {"input_ids", "token_type_ids", "attention_mask"}


def test_without_return_tensors_and_as_numpy(processor):
    arrays = processor(images=[picture()])["pixel_values"]
    assert isinstance(arrays, list)
    assert isinstance(arrays[0], np.ndarray)
    batch = processor(images=[picture()], return_tensors="np")["pixel_values"]
    assert isinstance(batch, np.ndarray)
    np.testing.assert_array_equal(batch[0], arrays[0])


def test_round_trip(tmp_path, processor):
    processor.image_processor.window = (0, 4095)
    processor.save_pretrained(tmp_path)
    for again in (AutoProcessor.from_pretrained(tmp_path), ConceptCLIPProcessor.from_pretrained(tmp_path)):
        assert type(again) is ConceptCLIPProcessor
        assert again.image_processor.to_dict() == processor.image_processor.to_dict()
        assert again.tokenizer.model_max_length == 77
        assert again.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
        assert torch.equal(pixels(again, sixteen_bit()), pixels(processor, sixteen_bit()))
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is ConceptCLIPImageProcessor


def test_another_image_processors_settings_are_read_by_ours(tmp_path, processor):
    """As on the model's page, where preprocessor_config.json names another class."""
    processor.tokenizer.save_pretrained(tmp_path)
    SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(tmp_path)
    (tmp_path / "processor_config.json").write_text('{"processor_class": "ConceptCLIPProcessor"}')
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again.image_processor) is ConceptCLIPImageProcessor
    assert torch.equal(pixels(again, picture()), pixels(processor, picture()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_bright_slide_that_was_normalised_is_told_in_every_dtype(processor, dtype):
    bright = np.random.default_rng(0).integers(130, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    normalised = pixels(processor, bright).to(dtype)
    with pytest.raises(ValueError, match="pixels_are"):
        pixels(processor, normalised, do_rescale=False)
    unit = as_float(Image.fromarray(bright)).to(dtype)
    assert pixels(processor, unit, do_rescale=False).shape == (1, 3, SIDE, SIDE)


@pytest.mark.parametrize("texts", [{"a": 1}, {"a", "b"}, np.array([["a", "b"]]), b"abc", 5])
def test_prompts_without_an_order_or_of_two_axes(processor, texts):
    with pytest.raises(TypeError, match=f"text.*{type(texts).__name__}"):
        processor(text=texts)


def test_a_table_is_no_list_of_prompts(processor):
    pandas = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match=r"text.*DataFrame"):  # it was read as the names of its columns
        processor(text=pandas.DataFrame({"prompt": ["a cell"]}))
    assert len(processor(text={"a": 1, "b": 2}.keys())["input_ids"]) == 2
