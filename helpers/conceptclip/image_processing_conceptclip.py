"""Images for ConceptCLIP: to RGB, squash to a square with bicubic resampling, scale to [0, 1], (x − 0.5) / 0.5."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE
from torch.nn import functional as F
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs

WIDE_PIL_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
# With antialiasing, torch's interpolation has Pillow's kernels for these two.
TORCH_RESAMPLING = {PILImageResampling.BILINEAR: "bilinear", PILImageResampling.BICUBIC: "bicubic"}
# Float arithmetic may end a hair outside [0, 1]; anything further is another unit.
TOLERANCE = 1e-4


class ConceptCLIPImagesKwargs(ImagesKwargs, total=False):
    """
    Adds to transformers' arguments:

    window (`(float, float)`, *optional*):
        Of a 16-bit image, the intensities that become black and white: at or below the first 0, at or above the second
        1, linear between. For a radiologist's level and width: `(level - width / 2, level + width / 2)`.
    """

    window: tuple | list | None


class ConceptCLIPImageProcessor(PilBackend):
    """
    Turns images into `pixel_values` `(B, 3, H, W)`.

    An image's dtype, never its values, decides which way it goes:

    - **8 bit** (PIL images, paths, uint8 arrays and tensors): EXIF orientation applied, RGB with transparency over
      white, resized by Pillow, divided by 255. Upright RGB images come out as from transformers' SigLIP processor.
    - **float** (arrays and tensors in [0, 1]; needs `do_rescale=False`, per call or as attribute): resized in
      floating point with antialiasing, on the tensor's own device, differentiably; transformers' own PIL backend would
      quantise it to 8 bits. A picture lies 0.3/255 on average, and at most 1.2/255, from what its 8-bit way gives,
      because Pillow rounds after each of its two passes.
    - **16 bit** (PIL images of mode I or I;16, wider integer arrays): needs `window=(low, high)`, which brings it to
      [0, 1], and then goes the float way. So do float images in other units, Hounsfield's for example.

    What would come out wrong in silence is an error that names the image and the cure. No call changes the processor.

    Args:
        size (`dict`, defaults to `{"height": 384, "width": 384}`): the aspect ratio is not kept.
        resample (`PILImageResampling`, defaults to `BICUBIC`): the float way knows this one and `BILINEAR`.
        do_resize, do_rescale, do_normalize (`bool`, defaults to `True`)
        image_mean, image_std (`float` or three of them, defaults to 0.5)
        window (`(float, float)`, *optional*): see above.
    """

    valid_kwargs = ConceptCLIPImagesKwargs
    resample = PILImageResampling.BICUBIC
    image_mean = (0.5, 0.5, 0.5)
    image_std = (0.5, 0.5, 0.5)
    size = {"height": 384, "width": 384}  # noqa: RUF012 (transformers' own shape)
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    window = None

    def _standardize_kwargs(self, window: Sequence[float] | None = None, **kwargs: Any) -> dict[str, Any]:
        return super()._standardize_kwargs(**kwargs) | {"window": None if window is None else tuple(window)}

    def fetch_images(self, images: Any) -> Any:
        return images  # files are opened below, where an error can name the image

    def _preprocess_image_like_inputs(
        self,
        images: Any,
        *args: Any,
        do_resize: bool,
        size: SizeDict,
        resample: PILImageResampling | int,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | Sequence[float],
        image_std: float | Sequence[float],
        window: Sequence[float] | None = None,
        input_data_format: str | None = None,
        device: str | torch.device | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        if kwargs.get("do_center_crop") or kwargs.get("do_pad"):
            raise ValueError("ConceptCLIP squashes images to a square: do_center_crop and do_pad do not apply.")
        if do_resize and not (size.height and size.width):
            raise ValueError(f"ConceptCLIP squashes images: size needs a height and a width, got {dict(size)}.")
        if window is not None and not (len(window) == 2 and window[0] < window[1]):
            raise ValueError(f"window is (low, high) with low < high, got {window}.")
        size, resample = (size.height, size.width), PILImageResampling(resample)

        pixel_values = []
        for name, image in _named(images):
            image = read_image(image, name, input_data_format)
            if isinstance(image, Image.Image):
                _check_eight_bit(do_rescale, window, name)
                image = image.resize(size[::-1], resample) if do_resize else image
                image = torch.from_numpy(np.array(image)).permute(2, 0, 1) * rescale_factor
            else:
                image = _to_unit_range(image, do_rescale, window, name)
                image = _resize(image, size, resample) if do_resize else image
            image = image if device is None else image.to(device)
            pixel_values.append(_normalize(image, image_mean, image_std) if do_normalize else image)

        if return_tensors is not None and len({image.shape for image in pixel_values}) > 1:
            sizes = ", ".join(sorted({f"{image.shape[1]} × {image.shape[2]}" for image in pixel_values}))
            raise ValueError(
                f"Without resizing, images of different sizes ({sizes}) do not fit one tensor. Leave do_resize=True, "
                "or process them one by one."
            )
        if return_tensors == "pt":
            return BatchFeature({"pixel_values": torch.stack(pixel_values)})
        pixel_values = [image.detach().cpu().numpy() for image in pixel_values]
        return BatchFeature({"pixel_values": pixel_values}, tensor_type=return_tensors)


def _named(images: Any) -> Iterator[tuple[str, Any]]:
    """Single images, one after the other, each with the name that an error message uses."""
    if isinstance(images, (np.ndarray, torch.Tensor)) and images.ndim not in (2, 3, 4):
        raise ValueError(f"An image has 2 or 3 axes and a batch (B, 3, H, W) has 4; got shape {tuple(images.shape)}.")
    if not isinstance(images, (list, tuple)) and getattr(images, "ndim", 0) < 4:
        images = [images]
    if len(images) == 0:
        raise ValueError("There are no images: the list is empty. Pass at least one, or leave `images` out.")
    for index, image in enumerate(images):
        path = image if isinstance(image, (str, Path)) else getattr(image, "filename", "")
        yield f"Image {index}" + (f" ({path})" if path else ""), image


def read_image(image: Any, name: str, input_data_format: str | None = None) -> Image.Image | torch.Tensor:
    """
    One image of any accepted kind, as the processor sees it before it resizes: upright, transparency over white.

    Args:
        image: PIL image, path, array or tensor; it is not changed.
        name (`str`): how messages call it.
        input_data_format (`str`, *optional*): "channels_first" or "channels_last", where the shape leaves it open.

    Returns:
        An 8-bit RGB PIL image; or a tensor `(3, H, W)`, finite floating point or wide integer, in units yet to be
        checked.

    Raises:
        ValueError: naming the image, what is wrong and what to do.
    """
    if isinstance(image, (str, Path)):
        image = _open(image, name)
    if isinstance(image, Image.Image):
        check_opened(image, name)
        try:
            image = ImageOps.exif_transpose(image)
            if image.mode not in WIDE_PIL_MODES:
                return _rgb(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{name} cannot be read to its end ({error}). Get a complete copy of the file.") from error
        image = np.array(image)
    if isinstance(image, np.ndarray):
        if image.dtype.kind not in "uif":
            raise ValueError(
                f"{name} is an array of {image.dtype}. Pass uint8, float in [0, 1], or 16 bit with a window."
            )
        likely_last = image.shape[-1] in (1, 3, 4)
        # A copy, since torch warns of arrays that cannot be written to.
        image = torch.from_numpy(np.array(image, dtype=image.dtype.newbyteorder("="), order="C"))
    elif isinstance(image, torch.Tensor):
        likely_last = image.shape[-1] in (1, 3, 4) and image.shape[0] not in (1, 3, 4)
    else:
        raise ValueError(f"{name} is a {type(image).__name__}. Pass a PIL image, a path, an array or a tensor.")

    if 0 in image.shape:
        raise ValueError(f"{name} is empty, shape {tuple(image.shape)}. Leave it out.")
    if image.is_floating_point() and not image.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinite values. Repair it or leave it out.")
    if image.ndim == 2:
        image = image.unsqueeze(0)
    elif image.ndim != 3:
        raise ValueError(f"{name} has shape {tuple(image.shape)}. Pass (H, W), (H, W, 3) or (3, H, W).")
    elif input_data_format == "channels_last" or (input_data_format is None and likely_last):
        image = image.permute(2, 0, 1)
    channels, eight_bit = image.shape[0], image.dtype == torch.uint8
    if channels not in ((1, 3, 4) if eight_bit else (1, 3)):
        raise ValueError(f"{name} has {channels} channels. Pass 3 (RGB) or 1 (gray).")
    if eight_bit:
        array = image.permute(1, 2, 0).contiguous().cpu().numpy()
        return _rgb(Image.fromarray(array[..., 0] if channels == 1 else array))
    return image.expand(3, -1, -1)


def _open(path: str | Path, name: str) -> Image.Image:
    if str(path).startswith(("http://", "https://")):
        raise ValueError(f"{name} is a web address: download it first, and pass the file.")
    if not Path(path).is_file():
        raise ValueError(f"{name}: there is no such file. Check the path, and the folder it starts from.")
    try:
        return Image.open(path)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} is too large to be read at once ({error}). Cut it into tiles.") from error
    except OSError as error:
        raise ValueError(f"{name} is not an image that Pillow can read. Convert it to PNG, JPEG or TIFF.") from error


def check_opened(image: Image.Image, name: str) -> None:
    """
    Refuses a file of which Pillow would silently give a part: the first of several pages, the upper half of 16 bits.

    To be called before the pixels are read: Pillow forgets then how many bits the file had.

    Args:
        image: as `Image.open` returns it.
        name (`str`): how messages call it.

    Raises:
        ValueError: naming the image, what is wrong and what to do.
    """
    png = any(";16B" in str(tile.args) for tile in getattr(image, "tile", []))
    tiff = 16 in getattr(image, "tag_v2", {}).get(BITSPERSAMPLE, ())
    if image.mode not in WIDE_PIL_MODES and (png or tiff):
        raise ValueError(
            f"{name} has 16 bits a channel and several channels, of which Pillow reads the upper 8 bits only. Convert "
            "it to 8 bits, or read it with another library and pass the array with window=(low, high)."
        )
    try:
        pages = getattr(image, "n_frames", 1)
    except (OSError, SyntaxError, ValueError):  # closed after it was read; or damaged, which reading it will tell
        return
    if pages > 1 and image.format != "MPO":  # a phone's photograph, with previews or depth behind it
        raise ValueError(
            f"{name} holds {pages} pages, and an image is one. Pick a page: open the file with PIL.Image.open, go to "
            "the page with .seek(number), and pass .copy() of it."
        )


def _rgb(image: Image.Image) -> Image.Image:
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _check_eight_bit(do_rescale: bool, window: Sequence[float] | None, name: str) -> None:
    if window is not None:
        raise ValueError(f"{name} has 8 bits a channel, and a window is for 16. Pass it in a call without window.")
    if not do_rescale:
        raise ValueError(
            f"{name} holds 0 to 255 and would come out 255 times too bright with do_rescale=False. Pass "
            "do_rescale=True with it; if the attribute was changed earlier, set "
            "processor.image_processor.do_rescale = True again."
        )


def _to_unit_range(image: torch.Tensor, do_rescale: bool, window: Sequence[float] | None, name: str) -> torch.Tensor:
    if window is not None:
        low, high = window
        return ((image.to(torch.float32) - low) / (high - low)).clamp(0, 1)
    dtype, image = image.dtype, image.to(torch.float32)
    low, high = image.min().item(), image.max().item()
    if not dtype.is_floating_point:
        raise ValueError(
            f"{name} has more than 8 bits a channel ({str(dtype).removeprefix('torch.')}, {low:.0f} to {high:.0f}). "
            "Say which intensities become black and white: window=(low, high)."
        )
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ValueError(
            f"{name} is a float image with values {low:.4g} to {high:.4g}, outside [0, 1]. Pass 0 to 255 as uint8, "
            "other units with window=(low, high); undo a normalisation first, since the processor normalises."
        )
    if do_rescale:
        raise ValueError(
            f"{name} is a float image, in [0, 1] already, and would be divided by 255 a second time. "
            "Pass do_rescale=False with it."
        )
    return image.clamp(0, 1)


def _resize(image: torch.Tensor, size: tuple[int, int], resample: PILImageResampling) -> torch.Tensor:
    if tuple(image.shape[-2:]) == size:
        return image
    if resample not in TORCH_RESAMPLING:
        raise ValueError(
            f"Float images are resized with BICUBIC or BILINEAR, not {resample.name}. Set resample, or pass uint8."
        )
    mode = TORCH_RESAMPLING[resample]
    # Bicubic weights overshoot at edges. Pillow resizes one axis and then the other, and clips after each; so here.
    height, width = image.shape[1:]
    first = (size[0], width) if height > width else (height, size[1])
    for step in (first, size):
        image = F.interpolate(image[None], step, mode=mode, antialias=True, align_corners=False)[0].clamp(0, 1)
    return image


def _normalize(image: torch.Tensor, mean: float | Sequence[float], std: float | Sequence[float]) -> torch.Tensor:
    mean, std = (torch.as_tensor(x, dtype=image.dtype, device=image.device).reshape(-1, 1, 1) for x in (mean, std))
    return (image - mean) / std
