"""Images for ConceptCLIP: to RGB, squash to a square with bicubic resampling, scale to [0, 1], (x − 0.5) / 0.5."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs

from ..images import read_image

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
