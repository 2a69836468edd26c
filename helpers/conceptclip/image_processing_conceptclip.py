"""Images for ConceptCLIP: to RGB, squash to a square with bicubic resampling, scale to [0, 1], (x − 0.5) / 0.5."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import PILImageResampling, SizeDict
from transformers.processing_utils import ImagesKwargs

from ..images import read_image

# With antialiasing, torch's interpolation has Pillow's kernels for these two.
TORCH_RESAMPLING = {PILImageResampling.BILINEAR: "bilinear", PILImageResampling.BICUBIC: "bicubic"}
# Float arithmetic may end a hair outside [0, 1]; anything further is another unit.
TOLERANCE = 1e-4


class ConceptCLIPImagesKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]  # a TypedDict, which mypy cannot see
    """
    Adds to transformers' arguments:

    window (`(float, float)`, *optional*):
        Of a 16-bit image, the intensities that become black and white: at or below the first 0, at or above the second
        1, linear between. For a radiologist's level and width: `(level - width / 2, level + width / 2)`.
    pixels_are (`"unit"` or `"normalised"`, *optional*):
        What a float image holds: a picture in [0, 1], or what a processor has made of one, (x − mean) / std. Of a
        bright slide that lies in [0, 1], too. Said so, `do_rescale` need not be.
    """

    window: tuple | list | None
    pixels_are: str | None


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
        pixels_are (`"unit"` or `"normalised"`, *optional*): of float images, whether they are pictures in [0, 1] or
            were normalised before. Without it they are taken for pictures; what is seen to be normalised is refused.
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
    pixels_are = None

    def _standardize_kwargs(  # type: ignore[override]
        self, window: Sequence[float] | None = None, pixels_are: str | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        window = checked_window(window)
        return super()._standardize_kwargs(**kwargs) | {"window": window, "pixels_are": pixels_are}

    def fetch_images(self, images: Any) -> Any:
        return images  # files are opened below, where an error can name the image

    def _preprocess_image_like_inputs(  # type: ignore[override]
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
        pixels_are: str | None = None,
        input_data_format: str | None = None,
        device: str | torch.device | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        crop, pad = kwargs.get("do_center_crop"), kwargs.get("do_pad")
        self.check(do_resize=do_resize, size=size, crop=crop, pad=pad)
        factor, mean, std = rescale_factor, image_mean if do_normalize else None, image_std if do_normalize else None
        pixel_values: Any
        pictures = [
            self.scaled(
                image,
                name,
                size=size if do_resize else None,
                resample=resample,
                do_rescale=do_rescale,
                window=window,
                pixels_are=pixels_are,
                input_data_format=input_data_format,
                mean=mean,
                std=std,
            )
            for name, image in _named(images)
        ]
        sizes = {tuple(p.shape[:2] if isinstance(p, np.ndarray) else p.shape[1:]) for p in pictures}
        if len(sizes) == 1:
            pixel_values = self.converted(pictures, factor, mean, std, device)
        elif return_tensors is None:
            pixel_values = [self.converted([picture], factor, mean, std, device)[0] for picture in pictures]
        else:
            raise ValueError(
                f"Without resizing, images of different sizes ({', '.join(sorted(f'{h} × {w}' for h, w in sizes))}) do "
                "not fit one tensor. Leave do_resize=True, or process them one by one."
            )
        if return_tensors == "pt":
            return BatchFeature({"pixel_values": pixel_values})
        pixel_values = [image.detach().cpu().numpy() for image in pixel_values]
        return BatchFeature({"pixel_values": pixel_values}, tensor_type=return_tensors)

    @staticmethod
    def check(*, do_resize: bool, size: SizeDict, crop: bool | None, pad: bool | None) -> None:
        """Refuses settings that would be ignored."""
        if crop or pad:
            raise ValueError("ConceptCLIP squashes images to a square: do_center_crop and do_pad do not apply.")
        if do_resize and not (size.height and size.width):
            raise ValueError(f"ConceptCLIP squashes images: size needs a height and a width, got {dict(size)}.")

    def scaled(
        self,
        image: Any,
        name: str = "image",
        *,
        size: SizeDict | None,
        resample: PILImageResampling | int,
        do_rescale: bool | None = None,
        window: Sequence[float] | None = None,
        pixels_are: str | None = None,
        input_data_format: str | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        fast: bool = False,
    ) -> np.ndarray | torch.Tensor:
        """
        One image read, checked and squashed: what is done picture by picture, before the whole batch is converted.

        Args:
            image: of any kind that the processor takes.
            name (`str`): how messages call it.
            size (`SizeDict`, *optional*): height and width to squash to; None leaves the size.
            do_rescale (`bool`, *optional*): whether 0 to 255 are to become 0 to 1; None takes what the dtype says.
            mean, std (*optional*): of the normalisation to come; floats on which it was done already are refused,
                unless `pixels_are` says what they are.
            fast (`bool`, defaults to `False`): torch's 8-bit resampling in place of Pillow's, and simplejpeg's decoder
                if it is installed.

        Returns:
            Of an 8-bit image uint8 `(H, W, 3)`; of others floats `(3, H, W)` in [0, 1], on the image's own device.

        Raises:
            ValueError: naming the image, what is wrong and what to do.
        """
        wanted = None if size is None else (int(size.height or 0), int(size.width or 0))  # `check` wants both
        image = read_image(image, name, input_data_format, fast=fast)
        if pixels_are not in (None, "unit", "normalised"):
            raise ValueError(f"pixels_are must be 'unit' or 'normalised', not {pixels_are!r}.")
        if pixels_are == "normalised":
            image = _undone(image, mean, std, window, name)
        if isinstance(image, torch.Tensor):
            said, dtype = pixels_are is not None and image.is_floating_point(), image.dtype
            image = _to_unit_range(image, do_rescale and not said, window, name)
            if not said and window is None and mean is not None and std is not None:
                _check_not_normalised(image, dtype, mean, std, name)
            return image if wanted is None else _resize(image, wanted, PILImageResampling(resample))
        _check_eight_bit(do_rescale, window, name)
        if wanted is not None and fast:
            return _resize_fast(image, wanted, PILImageResampling(resample))
        if wanted is not None and isinstance(image, Image.Image):
            image = image.resize(wanted[::-1], PILImageResampling(resample))
        return np.asarray(image)

    def converted(
        self,
        pictures: Sequence[np.ndarray | torch.Tensor],
        rescale_factor: float,
        mean: float | Sequence[float] | None,
        std: float | Sequence[float] | None,
        device: str | torch.device | None = None,
    ) -> torch.Tensor:
        """
        What `scaled` returned, of one size, as a batch of pixel values `(B, 3, H, W)`.

        A batch of 8 bits is converted as a whole, from one buffer: a handful of calls for all pictures together.
        """
        if all(isinstance(picture, np.ndarray) for picture in pictures):
            height, width = pictures[0].shape[:2]
            # Pinned, the copy to the GPU does not wait.
            pinned = torch.device(device or "cpu").type == "cuda"
            buffer = torch.empty(len(pictures), height, width, 3, dtype=torch.uint8, pin_memory=pinned)
            np.stack(pictures, out=buffer.numpy())
            batch = buffer.to(device or "cpu", non_blocking=pinned).permute(0, 3, 1, 2).contiguous() * rescale_factor
            return batch if mean is None or std is None else _normalize(batch, mean, std, in_place=True)
        if len(pictures) > 1:
            return torch.cat([self.converted([picture], rescale_factor, mean, std, device) for picture in pictures])
        picture = torch.as_tensor(pictures[0])
        picture = (picture if device is None else picture.to(device))[None]
        return picture if mean is None or std is None else _normalize(picture, mean, std)


def checked_window(window: Any) -> tuple[float, float] | None:
    """(low, high) as numbers; None for none.

    Raises:
        ValueError: no two numbers, or a window of no width.
    """
    if window is None:
        return None
    try:
        low, high = (float(end) for end in window)
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high:
        raise ValueError(f"window is (low, high), two numbers with low < high, got {window!r}.")
    return low, high


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


def _check_eight_bit(do_rescale: bool | None, window: Sequence[float] | None, name: str) -> None:
    if window is not None:
        raise ValueError(f"{name} has 8 bits a channel, and a window is for 16. Pass it in a call without window.")
    if do_rescale is False:
        raise ValueError(
            f"{name} holds 0 to 255 and would come out 255 times too bright with do_rescale=False. Pass "
            "do_rescale=True with it; if the attribute was changed earlier, set "
            "processor.image_processor.do_rescale = True again."
        )


def _to_unit_range(
    image: torch.Tensor, do_rescale: bool | None, window: Sequence[float] | None, name: str
) -> torch.Tensor:
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
            "other units with window=(low, high), and pixels that were normalised before with pixels_are='normalised'."
        )
    if do_rescale:
        raise ValueError(
            f"{name} is a float image, in [0, 1] already, and would be divided by 255 a second time. "
            "Pass do_rescale=False with it."
        )
    return image.clamp(0, 1)


def _undone(
    image: Image.Image | np.ndarray | torch.Tensor,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    window: Sequence[float] | None,
    name: str,
) -> torch.Tensor:
    """The picture in [0, 1] of pixels that were normalised before."""
    if not (isinstance(image, torch.Tensor) and image.is_floating_point()) or window is not None:
        raise ValueError(f"{name} holds no normalised pixels, which are floats: leave pixels_are='normalised' out.")
    if mean is None or std is None:
        raise ValueError(f"{name}: with do_normalize=False no mean and std are known to undo a normalisation with.")
    image = image.to(torch.float32)
    return image * _channels(std, image) + _channels(mean, image)


def _check_not_normalised(
    image: torch.Tensor, dtype: torch.dtype, mean: float | Sequence[float], std: float | Sequence[float], name: str
) -> None:
    """
    Refuses 8-bit pixels that were normalised before, of a slide so bright that they lie in [0, 1] none the less.

    Undone, a normalisation of 8 bits gives whole grey levels, and redone (in the dtype that the image came in) the same
    values again. Of a picture in [0, 1] it gives whole and half ones.
    """
    by, to = _channels(mean, image), _channels(std, image)
    for step in (8, 1):  # a few pixels tell nearly always
        part = image[:, ::step, ::step]
        levels = ((part * to + by) * 255).round()
        if ((((levels / 255 - by) / to).to(dtype).float() - part).abs() > 1e-4).any():
            return
    if len(levels.unique()) > 16:  # a few levels may be all odd by chance
        raise ValueError(
            f"{name} is a float image in [0, 1] with the values that 8-bit pixels have after normalisation, and would "
            "be normalised a second time. Say which of the two it is: pixels_are='normalised' or pixels_are='unit'."
        )


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


def _resize_fast(image: Image.Image | np.ndarray, size: tuple[int, int], resample: PILImageResampling) -> np.ndarray:
    """8 bits by torch's own kernels (AVX2), which round as Pillow does, but for one grey level here and there."""
    if resample not in TORCH_RESAMPLING:
        raise ValueError(f"pixels='fast' resizes with BICUBIC or BILINEAR, not {resample.name}. Use pixels='exact'.")
    array = np.asarray(image)
    if array.shape[:2] == size:
        return array
    batch = torch.from_numpy(array if array.flags.writeable else array.copy()).permute(2, 0, 1)[None]
    scaled = F.interpolate(batch, size, mode=TORCH_RESAMPLING[resample], antialias=True, align_corners=False)
    return scaled[0].permute(1, 2, 0).numpy()


def _normalize(
    image: torch.Tensor, mean: float | Sequence[float], std: float | Sequence[float], in_place: bool = False
) -> torch.Tensor:
    by, to = _channels(mean, image), _channels(std, image)
    return image.sub_(by).div_(to) if in_place else (image - by) / to


def _channels(values: float | Sequence[float], image: torch.Tensor) -> torch.Tensor:
    """One number, or one a channel, to be computed with an image `(3, H, W)`."""
    return torch.as_tensor(values, dtype=image.dtype, device=image.device).reshape(-1, 1, 1)
