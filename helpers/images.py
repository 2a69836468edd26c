"""One door for pictures: path, PIL image, array or tensor -> upright RGB, or a ValueError that names the picture.

Encoding, the image processor, the plots and the explorers all read through `read_image`, so that what one of them shows
no other refuses.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE

WIDE_PIL_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")


def as_image_list(images) -> list:
    """A list of single images from whatever `encode_images` takes: a list, one image, or a tensor [B, 3, H, W]."""
    if isinstance(images, torch.Tensor):
        if images.ndim == 3:
            images = images[None]
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"A tensor of images must be [B, 3, H, W], not {list(images.shape)}.")
        images = list(images)
    elif isinstance(images, (str, os.PathLike, Image.Image)):
        images = [images]
    elif isinstance(images, np.ndarray):
        alone = images.ndim == 2 or (images.ndim == 3 and images.shape[-1] in (3, 4))
        if not alone and images.ndim != 4:
            raise ValueError(
                f"An array of shape {list(images.shape)} does not say whether it is one image or several. Pass a list: "
                "[array] for one, list(array) for several."
            )
        images = [images] if alone else list(images)
    else:
        images = list(images)
    if not images:
        raise ValueError("No images were given: pass at least one.")
    return images


def image_names(images: Sequence) -> list[str]:
    """What images are called in tables and messages: their file names, else their numbers.

    Files of one name in several folders get the folders above them, as few as tell them apart: "a/1.png", "b/1.png".
    """
    paths = [Path(image).absolute().parts[1:] if isinstance(image, (str, os.PathLike)) else None for image in images]
    tails = Counter(path[-k:] for path in {*paths} - {None} for k in range(1, len(path) + 1))
    names = []
    for item, path in enumerate(paths):
        if path is None:
            names.append(f"image {item}")
        else:
            names.append("/".join(next((path[-k:] for k in range(1, len(path)) if tails[path[-k:]] == 1), path)))
    return names


def open_image(path: str | os.PathLike, name: str | None = None) -> Image.Image:
    """Open and fully read an image file with Pillow.

    Args:
        path: the file.
        name: how messages call it; its file name by default.

    Raises:
        ValueError: missing, empty, truncated or no image, more pixels than Pillow reads without a warning, several
            pages, or 16 bits in several channels; the message names the file and the cure.
    """
    if str(path).startswith(("http://", "https://")):
        raise ValueError(f"{name or path} is a web address: download it first, and pass the file.")
    path = Path(path)
    name = name or path.name
    if not path.is_file():
        raise ValueError(f"{name}: no such file. Check the path; folders are read with helpers.image_folder.")
    if path.stat().st_size == 0:
        raise ValueError(f"{name}: the file is empty (0 bytes). Copy or download it again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:  # closes the file; the pixels stay
                check_opened(image, name)
                image.load()  # reads every one of them: a truncated file fails here and not later
                return image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise ValueError(
            f"{name}: the image has more than {limit:.0f} megapixels and might be a decompression bomb. "
            "If you trust it, make it smaller first, or raise PIL.Image.MAX_IMAGE_PIXELS."
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{name}: not an image that Pillow can read. Convert it to PNG or JPEG.") from error
    except (OSError, SyntaxError, EOFError) as error:  # Pillow's decoders raise all three on damaged files
        raise ValueError(f"{name}: the file is damaged or truncated ({error}). Copy or download it again.") from error


def as_shown(image, name: str = "image") -> Image.Image:
    """An image as the model is shown it, before it is squashed: upright, transparency over white. Maps lie on this one.

    Args:
        image: of any kind that `encode_images` takes.
        name: how messages call it.

    Returns:
        RGB, 8 bits. Of more bits, or of floats outside [0, 1], all values are brought between black and white, 0 and 1
        among them: good for eyes, while the model itself needs a window.

    Raises:
        ValueError: naming the image, what is wrong and what to do.
    """
    image = read_image(image, name)
    if isinstance(image, Image.Image):
        return image
    image = image.detach().to("cpu", torch.float32)
    low, high = min(0.0, float(image.min())), max(1.0, float(image.max()))
    return Image.fromarray(((image - low) / (high - low) * 255).round().byte().permute(1, 2, 0).numpy())


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
    if isinstance(image, (str, os.PathLike)):
        image = open_image(image, name)
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
