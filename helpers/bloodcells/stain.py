"""The laboratory: what a stain makes of each part of the smear, and what lamp, lens and camera make of the picture."""

import dataclasses
import io

import numpy as np
from PIL import Image, ImageFilter

from . import textures

# Colours as they look on a white ground (sRGB). A laboratory's colour is a random mixture of the row.
BACKGROUNDS = [(247, 246, 246), (226, 230, 219), (247, 238, 220), (243, 227, 226), (232, 227, 238), (248, 244, 230)]
RED_CELLS = [
    (199, 168, 164),
    (226, 152, 140),
    (205, 166, 142),
    (226, 164, 126),
    (224, 150, 152),
    (192, 152, 164),
    (186, 170, 162),
]
NUCLEI = [
    (44, 44, 118),
    (86, 42, 150),
    (122, 40, 122),
    (98, 62, 186),
    (72, 34, 92),
    (104, 66, 204),
    (128, 78, 206),
    (84, 66, 190),
    (112, 88, 216),
]
CYTOPLASM = {
    "light blue": [(222, 213, 236), (206, 214, 238), (232, 212, 226)],
    "blue": [(150, 174, 224), (146, 160, 204), (128, 156, 212)],
    "purple blue": [(168, 140, 208), (150, 128, 192), (172, 132, 196)],
}
GRANULES = {
    "pink": [(216, 104, 164), (206, 112, 176), (222, 118, 158)],
    "purple": [(84, 36, 130), (70, 34, 112), (98, 40, 128)],
    "red": [(222, 84, 56), (212, 84, 80), (228, 112, 70), (206, 92, 88), (208, 108, 112)],
}
PLATELETS = [(150, 112, 180), (166, 120, 172), (128, 112, 182)]


@dataclasses.dataclass(frozen=True)
class Stain:
    """Colours of one laboratory: background as RGB in [0, 1], each other part as the share of light that passes it."""

    background: np.ndarray
    red_cell: np.ndarray
    nucleus: np.ndarray
    cytoplasm: dict
    granules: dict
    platelet: np.ndarray
    nucleus_contrast: float


def _mix(rng, colours, sharp=0.6):
    weights = rng.gamma(sharp, size=len(colours)) + 1e-6
    weights /= weights.sum()
    mixed = (np.array(colours, dtype=np.float64) * weights[:, None]).sum(axis=0) / 255
    return mixed + rng.normal(0, 0.015, size=3)


def _strength(colour, amount):
    """A stain's colour with more (> 1) or less (< 1) of the dye: Beer-Lambert."""
    # Rounded, in double precision: a CPU whose exp differs in the last digit gives the same colour.
    through = np.exp(np.log(np.clip(colour, 0.02, 0.99).astype(np.float64)) * amount)
    return np.round(through, 5).astype(np.float32)


def sample_stain(rng):
    """Draw a laboratory."""
    basic, eosin = rng.uniform(0.5, 1.2), rng.uniform(0.35, 1.1)
    tint = rng.normal(0, 0.02, size=3)
    nucleus = _strength(_mix(rng, NUCLEI) + tint, basic)
    cytoplasm = {name: _strength(_mix(rng, row, 1.0) + tint, rng.uniform(0.8, 1.2)) for name, row in CYTOPLASM.items()}
    cytoplasm["light blue"] = _strength(cytoplasm["light blue"], rng.uniform(0.55, 1.1))
    loose = 1 - 0.7 * (1 - float(nucleus.mean()))
    for name, colour in cytoplasm.items():  # a loose nucleus must still stand out from any cytoplasm
        dark = 1 - float(colour.mean())
        cytoplasm[name] = 1 - (1 - colour) * np.float32(min(1.0, max(1 - loose - 0.17, 0.15) / dark))
    return Stain(
        background=np.clip(_mix(rng, BACKGROUNDS), 0, 0.99).astype(np.float32),
        red_cell=_strength(_mix(rng, RED_CELLS) + tint, eosin),
        nucleus=nucleus,
        cytoplasm=cytoplasm,
        granules={
            name: _strength(_mix(rng, row, 1.0) + tint, rng.uniform(0.85, 1.15)) for name, row in GRANULES.items()
        },
        platelet=_strength(_mix(rng, PLATELETS) + tint, basic * rng.uniform(0.5, 1.2)),
        nucleus_contrast=rng.uniform(0.35, 1.5),
    )


def sample_camera(rng):
    """Draw white balance, exposure, contrast and saturation: what belongs to the colours of a picture."""
    return {
        "gain": (rng.uniform(0.80, 1.04) * (1 + rng.normal(0, 0.03, size=3))).astype(np.float32),
        "contrast": float(rng.uniform(-0.12, 0.38)),
        "saturation": float(rng.uniform(0.72, 1.4)),
        "haze": float(rng.uniform(0.0, 0.34)) if rng.random() < 0.5 else 0.0,
        "flare": (
            rng.uniform(0.70, 0.86) + np.array([0.0, 0.0, 0.12]) * rng.random() + rng.normal(0, 0.02, size=3)
        ).astype(np.float32),
    }


def sample_optics(rng):
    """Draw illumination, focus, fringe, noise, sharpening and JPEG quality."""
    return {
        "slope": rng.normal(0, 0.05, size=2),
        "vignette": float(max(0.0, rng.uniform(-0.15, 0.22))),
        "zoom": float(rng.uniform(1.15, 2.0)) if rng.random() < 0.35 else 1.0,
        "blur": float(rng.uniform(0, 2.1) * rng.uniform(0.45, 1.0)),
        "fringe": (rng.uniform(-1.0, 1.0, size=2) * (rng.random() < 0.5)),
        "noise": float(0.022 * rng.random() ** 2),
        "sharpen": float(max(0.0, rng.uniform(-1.0, 1.3))),
        "sharpen_radius": float(rng.uniform(1.2, 4.0)),
        "quality": int(rng.integers(45, 96)),
    }


def photograph(scene, camera, optics, rng):
    """What the camera delivers of a scene (float32 RGB [size, size, 3] in [0, 1]): the bytes of a JPEG file."""
    size = scene.shape[0]
    at = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    sx, sy = (np.float32(value) for value in optics["slope"])
    light = 1 + sx * at[None, :] + sy * at[:, None]
    light -= np.float32(0.5 * optics["vignette"]) * (at[None, :] ** 2 + at[:, None] ** 2)
    picture = scene * light[..., None] * camera["gain"]
    np.clip(picture, 0, 1, out=picture)
    grey = (
        picture[..., :1] * np.float32(0.3) + picture[..., 1:2] * np.float32(0.59) + picture[..., 2:] * np.float32(0.11)
    )
    picture = grey + (picture - grey) * np.float32(camera["saturation"])
    np.clip(picture, 0, 1, out=picture)
    picture += np.float32(camera["contrast"]) * picture * (1 - picture) * (2 * picture - 1)
    if camera["haze"]:  # stray light greys the darks
        picture += np.float32(camera["haze"]) * (camera["flare"] - picture)
    for channel, shift in zip((0, 2), optics["fringe"], strict=True):
        if shift:
            plane = picture[..., channel]
            part = np.float32(abs(shift) * size / 224)
            moved = np.roll(plane, 1 if shift > 0 else -1, axis=1)
            moved[:, 0 if shift > 0 else -1] = plane[:, 0 if shift > 0 else -1]
            picture[..., channel] = plane + min(part, np.float32(1)) * (moved - plane)
    image = Image.fromarray((picture * 255 + 0.5).clip(0, 255).astype(np.uint8))
    blur = optics["blur"] * size / 224
    if blur > 0.2:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    if optics["zoom"] > 1:  # a coarser camera
        less = max(32, round(size / optics["zoom"]))
        image = image.resize((less, less), Image.Resampling.BOX).resize((size, size), Image.Resampling.BILINEAR)
    if optics["noise"] > 0.002:
        noise = textures.grain(size, rng) * np.float32(optics["noise"] * 255)
        image = Image.fromarray((np.asarray(image) + noise + np.float32(0.5)).clip(0, 255).astype(np.uint8))
    if optics["sharpen"] > 0.1:
        image = image.filter(
            ImageFilter.UnsharpMask(optics["sharpen_radius"] * size / 224, int(110 * optics["sharpen"]), 2)
        )
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=optics["quality"])
    return buffer.getvalue()
