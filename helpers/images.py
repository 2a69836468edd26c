"""One door for pictures: path, PIL image, array or tensor -> upright RGB, or a ValueError that names the picture.

Encoding, the image processor, the plots, the explorer and the report all read through `read_image`, so that what one of
them shows no other refuses. Whatever a decoder raises on a file becomes an `ImageError`, a ValueError.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

WIDE_PIL_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
# What undoes each EXIF orientation: the value says how the camera was held.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks without which the pixels would be others: transparency, and the frames of an animation.
PNG_PIXEL_CHUNKS = (b"tRNS", b"acTL", b"fcTL", b"fdAT")
# What helps where the system, and not the file's content, stands in the way.
SYSTEM_CURES = {
    errno.EACCES: "this user may not read it. Ask for the right to read it and to enter its folder",
    errno.EPERM: "this user may not read it. Ask for the right to read it and to enter its folder",
    errno.ENAMETOOLONG: "the name is longer than this system allows. Rename it",
    errno.ELOOP: "the link leads back to itself. Mend the link, or pass the file that is meant",
    errno.EMFILE: "too many files are open. Close some, or raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open. Close some, or raise the limit (ulimit -n)",
}


class ImageError(ValueError):
    """A picture that cannot be used. The message names it, says what is wrong and what to do."""


def as_image_list(images: Any) -> list:
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
        if isinstance(images, (bytes, Mapping, set, frozenset)) or getattr(images, "ndim", 1) != 1:
            raise ValueError(
                f"images is a {type(images).__name__}, of which it is not clear what the images are, or in which "
                'order. Pass a list of them; of a table, table["path"].'
            )
        try:
            images = list(images)
        except TypeError as error:
            raise ValueError(f"images is a {type(images).__name__}. Pass a list of images, or one image.") from error
    if not images:
        raise ValueError("No images were given: pass at least one.")
    return images


def image_names(images: Sequence[Any]) -> list[str]:
    """What images are called in tables and messages: their file names, else their numbers.

    Files of one name in several folders get the folders above them, as few as tell them apart: "a/1.png", "b/1.png".
    """
    paths = [Path(image).absolute().parts[1:] if isinstance(image, (str, os.PathLike)) else None for image in images]
    tails = Counter(path[-k:] for path in {*paths} if path for k in range(1, len(path) + 1))
    names = []
    for item, path in enumerate(paths):
        if path is None:
            names.append(f"image {item}")
        else:
            names.append("/".join(next((path[-k:] for k in range(1, len(path)) if tails[path[-k:]] == 1), path)))
    return names


def open_image(path: str | os.PathLike, name: str | None = None) -> Image.Image:
    """Open and fully read an image file with Pillow, as it is stored: its own mode, not yet turned upright.

    The pixels are whole or the file is refused: what Pillow's `LOAD_TRUNCATED_IMAGES` is set to does not matter and is
    left as it was, and a PNG's checksums are compared. Metadata that cannot be read are left out. WhiteIsZero of 16
    bits or floats, which Pillow passes on as it is, becomes black-is-zero.

    Args:
        path: the file.
        name: how messages call it; its file name by default.

    Raises:
        ImageError: a ValueError: no file, one that may not be read, empty, damaged or no image, more pixels than Pillow
            reads without a warning, several pages, or 16 bits in several channels; the message names the file and the
            cure.
    """
    text = os.fsdecode(path)
    name = name or Path(text).name or text
    if text.startswith(("http://", "https://")):
        raise ImageError(f"{name} is a web address: download it first, and pass the file.")
    try:
        _check_file(text, name)
        with Path(text).open("rb") as file, _whole_pixels():
            image = _decode(file, name)
        image.filename = text  # type: ignore[attr-defined]
        return _black_is_zero(image, name)
    except ImageError:
        raise
    except Exception as error:  # decoders raise nearly everything on damaged files
        raise _told(error, name) from error


def as_shown(image: Any, name: str = "image") -> Image.Image:
    """An image as the model is shown it, before it is squashed: upright, transparency over white. Maps lie on this one.

    Args:
        image: of any kind that `encode_images` takes.
        name: how messages call it.

    Returns:
        RGB, 8 bits. Of more bits, or of floats outside [0, 1], all values are brought between black and white, 0 and 1
        among them: good for eyes, while the model itself needs a window.

    Raises:
        ImageError: a ValueError naming the image, what is wrong and what to do.
    """
    image = read_image(image, name)
    if isinstance(image, Image.Image):
        return image
    image = image.detach().to("cpu", torch.float32)
    low, high = min(0.0, float(image.min())), max(1.0, float(image.max()))
    return Image.fromarray(((image - low) / (high - low) * 255).round().byte().permute(1, 2, 0).numpy())


@overload
def read_image(
    image: Any, name: str, input_data_format: str | None = ..., *, fast: Literal[False] = ...
) -> Image.Image | torch.Tensor: ...
@overload
def read_image(
    image: Any, name: str, input_data_format: str | None = ..., *, fast: bool
) -> Image.Image | np.ndarray | torch.Tensor: ...
def read_image(
    image: Any, name: str, input_data_format: str | None = None, *, fast: bool = False
) -> Image.Image | np.ndarray | torch.Tensor:
    """
    One image of any accepted kind, as the processor sees it before it resizes: upright, transparency over white.

    Args:
        image: PIL image, path, array or tensor; it is not changed.
        name (`str`): how messages call it.
        input_data_format (`str`, *optional*): "channels_first" or "channels_last", where the shape leaves it open.
        fast (`bool`): decode a JPEG file with simplejpeg, if that is installed.

    Returns:
        An 8-bit RGB PIL image without metadata (or its uint8 array `(H, W, 3)`, where simplejpeg decoded it); or a
        tensor `(3, H, W)`, finite floating point or wide integer, in units yet to be checked.

    Raises:
        ImageError: a ValueError naming the image, what is wrong and what to do.
    """
    if isinstance(image, (str, os.PathLike)):
        quick = _simplejpeg(image, name) if fast else None
        if quick is not None:
            return quick
        image = _upright(open_image(image, name), name)
    elif isinstance(image, Image.Image):
        image = _upright(_loaded(image, name), name)
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray):
        if image.dtype.kind not in "uif":
            raise ImageError(
                f"{name} is an array of {image.dtype}. Pass uint8, float in [0, 1], or 16 bit with a window."
            )
        likely_last = image.shape[-1:] in ((1,), (3,), (4,))
        # A copy, since torch warns of arrays that cannot be written to.
        image = torch.from_numpy(np.array(image, dtype=image.dtype.newbyteorder("="), order="C"))
    elif isinstance(image, torch.Tensor):
        if image.dtype == torch.bool or image.is_complex():
            raise ImageError(
                f"{name} is a tensor of {str(image.dtype).removeprefix('torch.')}. Pass uint8, float in [0, 1], or 16 "
                "bit with a window."
            )
        likely_last = image.shape[-1:] in ((1,), (3,), (4,)) and image.shape[:1] not in ((1,), (3,), (4,))
    else:
        raise ImageError(f"{name} is a {type(image).__name__}. Pass a PIL image, a path, an array or a tensor.")

    if 0 in image.shape:
        raise ImageError(f"{name} is empty, shape {tuple(image.shape)}. Leave it out.")
    if image.is_floating_point() and not image.isfinite().all():
        raise ImageError(f"{name} holds NaN or infinite values. Repair it or leave it out.")
    if image.ndim == 2:
        image = image.unsqueeze(0)
    elif image.ndim != 3:
        raise ImageError(f"{name} has shape {tuple(image.shape)}. Pass (H, W), (H, W, 3) or (3, H, W).")
    elif input_data_format == "channels_last" or (input_data_format is None and likely_last):
        image = image.permute(2, 0, 1)
    channels, eight_bit = image.shape[0], image.dtype == torch.uint8
    if channels not in ((1, 3, 4) if eight_bit else (1, 3)):
        raise ImageError(f"{name} has {channels} channels. Pass 3 (RGB) or 1 (gray).")
    if eight_bit:
        array = image.permute(1, 2, 0).contiguous().cpu().numpy()
        return _rgb(Image.fromarray(array[..., 0] if channels == 1 else array), name)
    return image.expand(3, -1, -1)


def check_opened(image: Image.Image, name: str) -> None:
    """
    Refuses a file of which Pillow would silently give a part: the first of several pages, the upper half of 16 bits.

    To be called before the pixels are read: Pillow forgets then how many bits the file had.

    Args:
        image: as `Image.open` returns it.
        name (`str`): how messages call it.

    Raises:
        ImageError: a ValueError naming the image, what is wrong and what to do.
    """
    if 0 in image.size:
        raise ImageError(f"{name} is empty, {image.width} × {image.height} pixels. Leave it out.")
    png = any(";16B" in str(tile.args) for tile in getattr(image, "tile", []))
    tiff = 16 in getattr(image, "tag_v2", {}).get(BITSPERSAMPLE, ())
    if image.mode not in WIDE_PIL_MODES and (png or tiff):
        raise ImageError(
            f"{name} has 16 bits a channel and several channels, of which Pillow reads the upper 8 bits only. Convert "
            "it to 8 bits, or read it with another library and pass the array with window=(low, high)."
        )
    try:
        pages = getattr(image, "n_frames", 1)
    except Exception:  # closed after it was read; or damaged, which reading it will tell
        return
    if pages > 1 and image.format != "MPO":  # a phone's photograph, with previews or depth behind it
        raise ImageError(
            f"{name} holds {pages} pages, and an image is one. Pick a page: open the file with PIL.Image.open, go to "
            "the page with .seek(number), and pass .copy() of it."
        )


# --- what the door is made of -----------------------------------------------------------------------------------------


def _check_file(path: str, name: str) -> None:
    """A regular file with something in it; a pipe, opened, would wait for its writer for ever."""
    try:
        found = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        if Path(path).is_symlink():
            raise ImageError(f"{name}: the link leads to no file. Mend it, or pass the file that is meant.") from error
        raise ImageError(
            f"{name}: no such file. Check the path; folders are read with helpers.image_folder."
        ) from error
    except ValueError as error:  # a NUL in it, or what the file system cannot encode
        raise ImageError(f"{name}: this cannot be the name of a file ({error}). Check the path.") from error
    if stat.S_ISDIR(found.st_mode):
        raise ImageError(f"{name}: a folder, not an image. Read it with helpers.image_folder and pass its files.")
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f"{name}: a pipe, socket or device, not a file. Save what it gives to a file, and pass that.")
    if found.st_size == 0:
        raise ImageError(f"{name}: the file is empty (0 bytes). Copy or download it again.")


def _decode(file: io.BufferedReader, name: str) -> Image.Image:
    """The picture with its pixels read, if need be without the metadata over which Pillow stumbles."""
    start = file.read(len(PNG_SIGNATURE))
    file.seek(0)
    attempts: list[Callable[[], Image.Image]] = [lambda: Image.open(file)]
    if start == PNG_SIGNATURE:
        data = file.read()
        attempts = [lambda k=kept: Image.open(io.BytesIO(k)) for kept in _png_parts(data, name)]  # type: ignore[misc]
    elif start.startswith(b"\xff\xd8"):  # without a look for the further pictures of a phone's file
        attempts.append(lambda: JpegImagePlugin.JpegImageFile(file))
    first: Exception | None = None
    for attempt in attempts:
        file.seek(0)
        try:
            image = attempt()
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:  # Pillow warns only, up to twice as many
                raise Image.DecompressionBombError
            check_opened(image, name)
            image.load()  # reads every pixel: a truncated file fails here and not later
            return image
        except (ImageError, Image.DecompressionBombError, MemoryError):
            raise
        except Exception as error:
            first = first or error
    if isinstance(first, UnidentifiedImageError):
        kind = next((kind for kind in ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP") if _looks_like(kind, start)), None)
        if kind:
            raise ImageError(
                f"{name}: not an image that Pillow can read, although it begins as a {kind} does: its header is "
                "damaged, or of a kind that Pillow does not know. Get a complete copy, or convert it to an 8-bit PNG."
            ) from first
    assert first is not None
    raise first


def _simplejpeg(path: str | os.PathLike, name: str) -> np.ndarray | None:
    """A JPEG of three channels or one, upright; None where Pillow has to read it, or to say what is wrong with it."""
    try:
        import simplejpeg
    except ImportError:
        return None
    try:
        _check_file(os.fsdecode(path), name)
        data = Path(os.fsdecode(path)).read_bytes()
        if not data.startswith(b"\xff\xd8"):
            return None
        with Image.open(io.BytesIO(data)) as header:  # reads no pixels
            check_opened(header, name)
            limit = Image.MAX_IMAGE_PIXELS
            if header.mode not in ("RGB", "L") or (limit is not None and header.width * header.height > limit):
                return None
            turn = _turn(header)
        array = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except Exception:
        return None
    return array if turn is None else np.asarray(Image.fromarray(array).transpose(turn))


def _looks_like(kind: str, start: bytes) -> bool:
    accept = Image.OPEN[kind][1] if kind in Image.OPEN else None
    return accept is not None and accept(start + bytes(8)) is True


def _told(error: Exception, name: str) -> ImageError:
    """What a decoder or the system raised, with the name and a cure that fits the cause."""
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        limit = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        return ImageError(
            f"{name}: the image has more than {limit:.3g} megapixels and might be a decompression bomb. If you trust "
            "it, make it smaller, cut it into tiles, or raise PIL.Image.MAX_IMAGE_PIXELS."
        )
    if isinstance(error, MemoryError):
        return ImageError(f"{name}: there is not enough memory for its pixels. Make it smaller, or cut it into tiles.")
    if isinstance(error, UnidentifiedImageError):
        return ImageError(f"{name}: not an image that Pillow can read. Convert it to PNG or JPEG.")
    if isinstance(error, OSError) and error.errno is not None:  # from the system; decoders leave it empty
        cure = SYSTEM_CURES.get(error.errno, f"the system cannot read it ({error.strerror}). Copy it to a sound disk")
        return ImageError(f"{name}: {cure}.")
    what = str(error) or type(error).__name__
    return ImageError(f"{name}: the file is damaged or truncated ({what}). Copy or download it again.")


def _png_parts(data: bytes, name: str) -> list[bytes]:
    """A PNG without the metadata whose checksum is wrong, and one with nothing but what makes the pixels.

    Pillow compares the checksums of what stands before the pixels only, and gives up over those of metadata, too.
    """
    kept, bare, position, kind = [PNG_SIGNATURE], [PNG_SIGNATURE], len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        (length,) = struct.unpack(">I", data[position : position + 4].ljust(4, b"\xff"))
        kind, end = data[position + 4 : position + 8], position + 12 + length
        if end > len(data):
            raise ImageError(f"{name}: the file is truncated before its end. Copy or download it again.")
        whole = zlib.crc32(data[position + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")
        pixels = kind[:1].isupper() or kind in PNG_PIXEL_CHUNKS
        if pixels and not whole:
            raise ImageError(
                f"{name}: the file is damaged: the checksum of a part of it ({kind.decode('ascii', 'replace')}) is "
                "wrong. Copy or download it again."
            )
        if whole:
            kept.append(data[position:end])
        if pixels:
            bare.append(data[position:end])
        position = end
    return [b"".join(kept), b"".join(bare)]


_guard = threading.Lock()
_lazy = [threading.Lock() for _ in range(16)]
_readers, _theirs = 0, False


@contextmanager
def _whole_pixels() -> Iterator[None]:
    """Pillow's switch for reading truncated files off while any of our threads reads, then as others left it."""
    global _readers, _theirs
    with _guard:
        _readers += 1
        if ImageFile.LOAD_TRUNCATED_IMAGES:
            _theirs, ImageFile.LOAD_TRUNCATED_IMAGES = True, False
    try:
        yield
    finally:
        with _guard:
            _readers -= 1
            if not _readers and _theirs:
                _theirs, ImageFile.LOAD_TRUNCATED_IMAGES = False, True


def _after_fork() -> None:
    """In a forked child no thread of the parent's reads on, and none gives its lock back."""
    global _guard, _lazy, _readers, _theirs
    if _theirs:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
    _guard, _lazy = threading.Lock(), [threading.Lock() for _ in range(16)]
    _readers, _theirs = 0, False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _loaded(image: Image.Image, name: str) -> Image.Image:
    """A PIL image that somebody else opened, with its pixels read."""
    try:
        # One picture may stand several times in a list, and several threads read it.
        with _lazy[id(image) % len(_lazy)]:
            check_opened(image, name)
            pending, file = getattr(image, "tile", None), getattr(image, "fp", None)
            if pending and (file is None or getattr(file, "closed", False)):
                raise ImageError(
                    f"{name} was closed before its pixels were read. Call .load() inside the `with` that opens it, or "
                    "pass the path."
                )
            with _whole_pixels():
                if pending and image.format == "PNG" and file is not None:
                    _check_png_file(file, name)
                image.load()
        return _black_is_zero(image, name)
    except ImageError:
        raise
    except Exception as error:
        if "closed image" in str(error):
            raise ImageError(f"{name} was closed, and its pixels are gone. Pass the path, or open it again.") from error
        raise _told(error, name) from error


def _check_png_file(file: Any, name: str) -> None:
    position = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(position)
    if data.startswith(PNG_SIGNATURE):
        _png_parts(data, name)


def _black_is_zero(image: Image.Image, name: str) -> Image.Image:
    """A wide grey TIFF whose zero is white, turned; Pillow itself turns those of 8 bits and fewer."""
    tags = getattr(image, "tag_v2", {})
    if image.mode not in WIDE_PIL_MODES or tags.get(PHOTOMETRIC_INTERPRETATION) != 0:
        return image
    array = np.asarray(image)
    if array.dtype.kind in "ui":
        array = (2 ** int(tags.get(BITSPERSAMPLE, (16,))[0]) - 1 - array.astype(np.int64)).astype(array.dtype)
    elif np.nanmin(array) >= 0 and np.nanmax(array) <= 1:
        array = 1 - array
    else:
        raise ImageError(
            f"{name} says that its zero is white (WhiteIsZero), and floats outside [0, 1] do not say which value is "
            "black. Read it with another library, turn it, and pass the array with window=(low, high)."
        )
    turned = Image.fromarray(array)
    turned.info = dict(image.info)
    if ExifTags.Base.Orientation in tags:
        turned.getexif()[ExifTags.Base.Orientation] = tags[ExifTags.Base.Orientation]
    return turned


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # metadata never cost the picture
        return None


def _upright(image: Image.Image, name: str) -> Image.Image | np.ndarray:
    """A loaded image turned as its metadata say: RGB and without them, or an array of its wide values."""
    turn = _turn(image)
    try:
        image = image if image.mode in WIDE_PIL_MODES else _rgb(image, name)
        image = image if turn is None else image.transpose(turn)
        return np.array(image) if image.mode in WIDE_PIL_MODES else image
    except ImageError:
        raise
    except MemoryError as error:
        raise _told(error, name) from error
    except Exception as error:
        raise ImageError(
            f"{name}: its pixels (mode {image.mode}) do not become RGB ({error}). Convert it to RGB first."
        ) from error


def _rgb(image: Image.Image, name: str) -> Image.Image:
    """A new RGB image without metadata, so that nobody turns it a second time."""
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[1] == 0:
            raise ImageError(
                f"{name} is wholly transparent: there is nothing to see. If its colours are meant, pass "
                'image.convert("RGB").'
            )
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.info = {}
    return image
