"""What another laboratory, microscope and camera would have made of the same cell.

Stain and light are changed where they act: in optical density, the logarithm of how much light is taken away.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

from helpers.settings import SEED

NOISE = np.random.default_rng(SEED).standard_normal(2**20, np.float32)
"""Normal noise to cut from: drawing it anew for every picture would take longer than all the rest."""

LOG = np.log(np.arange(1, 257, dtype=np.float32) / 256)


class Stain(NamedTuple):
    """How much light the three colour channels of a picture lose: mean [3] and covariance [3, 3] of optical density."""

    mean: np.ndarray
    covariance: np.ndarray


def stain_of(pixels: np.ndarray) -> Stain:
    """The stain of a picture, uint8 [H, W, 3]."""
    density = -LOG[pixels[::3, ::3].reshape(-1, 3)]
    return Stain(density.mean(0), np.cov(density.T) + 1e-4 * np.eye(3))


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """A symmetric matrix to the power of ``exponent``."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values.clip(1e-8) ** exponent) @ vectors.T


def in_stain(pixels: np.ndarray, stain: Stain, share: float) -> np.ndarray:
    """The picture in the stain of another picture.

    Args:
        pixels: uint8 [H, W, 3].
        stain: of the other picture.
        share: 0 changes nothing; with 1 the density has the mean and, within limits, the covariance of ``stain``.

    Returns:
        uint8 [H, W, 3]. Colours are moved by the linear map that moves them least (Pitié and Kokaram, "The linear
        Monge-Kantorovitch colour mapping", 2007), and stretched or shrunk at most 2.5 times.
    """
    own = stain_of(pixels)
    root, inverse = _power(own.covariance, 0.5), _power(own.covariance, -0.5)
    values, vectors = np.linalg.eigh(inverse @ _power(root @ stain.covariance @ root, 0.5) @ inverse)
    matrix = (1 - share) * np.eye(3) + share * (vectors * values.clip(0.4, 2.5)) @ vectors.T
    mean = (1 - share) * own.mean + share * stain.mean
    density = (-LOG[pixels] - own.mean) @ matrix.T + mean
    return (np.exp(-density) * 256).clip(0, 255).astype(np.uint8)


def other_dye(rng: np.random.Generator, strength: float, hue: float) -> np.ndarray:
    """float64 [3, 3], for the three channels of optical density: another colour, saturation and amount of dye."""
    # Each colour channel takes up a little of the others.
    mix = np.eye(3) + strength * rng.normal(0, 0.10, (3, 3))
    saturation = np.exp(strength * rng.normal(0, 0.35))
    angle, axis = strength * rng.normal(0, hue), np.full(3, 3**-0.5)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    matrix = mix @ turn @ (saturation * np.eye(3) + (1 - saturation) / 3)
    return matrix * np.exp(strength * rng.normal(0, 0.25)) * np.exp(strength * rng.normal(0, 0.12, (3, 1)))


def other_stain(rng: np.random.Generator, pixels: np.ndarray, strength: float, far: bool = False) -> np.ndarray:
    """The picture with other dyes and another light.

    Args:
        rng: where every choice comes from.
        pixels: uint8 [H, W, 3].
        strength: 0 changes nothing, 1 is another laboratory, more is an odd one.
        far: turn the hue further, and in half of the pictures give what the nuclear dye stains another colour than the
            rest: two dyes vary, each for itself, from one laboratory to another.

    Returns:
        uint8 [H, W, 3].
    """
    some = pixels[::6, ::6].reshape(-1, 3)
    clear = np.partition(some, -max(len(some) // 20, 1), axis=0)[-max(len(some) // 20, 1)].astype(int)
    density = LOG[clear] - LOG[pixels]
    matrix = other_dye(rng, strength, 0.2 if far else 0.14)
    if far and rng.random() < 0.5:
        # The nuclear dye takes red light, which red cells and background let pass.
        red = density[..., 0]
        most = max(float(np.partition(red[::4, ::4].ravel(), -20)[-20]), 0.05)
        nuclear = 1 / (1 + np.exp(-8 * (red / np.float32(most) - np.float32(rng.uniform(0.35, 0.6)))))
        change = (other_dye(rng, strength, 0.2) - np.eye(3)).astype(np.float32)
        density = density + nuclear[..., None] * (density @ change.T)
    density = density @ matrix.T.astype(np.float32)
    if rng.random() < 0.4 * min(strength, 1):  # the film and the sensor: pale things paler, or dark ones less dark
        power = np.float32(np.exp(rng.normal(0, 0.2)))
        density = np.sign(density) * np.abs(density) ** power
    # Light: its colour and brightness, from the picture's own towards any.
    own = (clear + 1) / 256
    any_light = rng.uniform(0.72, 1.0) * (1 - rng.uniform(0, 0.3) * rng.random(3))
    share = min(strength, 1) * rng.random() ** 0.7
    light = own ** (1 - share) * any_light**share
    result = np.exp(np.log(light).astype(np.float32) - density)
    if rng.random() < 0.25 * min(strength, 1):  # stray light
        haze = np.float32(rng.uniform(0, 0.3))
        result += haze * (np.float32(rng.uniform(0.6, 0.9)) - result)
    return (result * 256).clip(0, 255).astype(np.uint8)


def other_camera(rng: np.random.Generator, image: Image.Image, strength: float) -> Image.Image:
    """Focus, resolution, sharpening, noise and JPEG; each of them in some pictures only."""
    width, height = image.size
    choice = rng.random() / max(min(strength, 1.0), 1e-6)
    if choice < 0.22:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.6))))
    elif choice < 0.42:
        less = rng.uniform(0.35, 0.8)
        image = image.resize((round(width * less), round(height * less)), Image.Resampling.BILINEAR)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    elif choice < 0.57:
        image = image.filter(ImageFilter.UnsharpMask(float(rng.uniform(0.8, 2.5)), int(rng.integers(30, 160)), 1))
    if rng.random() < 0.3 * strength:
        start = int(rng.integers(len(NOISE) - width * height * 3))
        noise = NOISE[start : start + width * height * 3].reshape(height, width, 3) * np.float32(rng.uniform(1, 10))
        image = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
    if rng.random() < 0.3 * strength:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(30, 92)))
        image = Image.open(buffer)
    return image


def other_laboratory(
    rng: np.random.Generator,
    image: Image.Image,
    most: float = 1.3,
    own: float = 0.0,
    stains: Sequence[Stain] = (),
) -> tuple[np.ndarray, float]:
    """Another stain and another camera; some pictures stay nearly as they are.

    Args:
        rng: where every choice comes from.
        image: any size, RGB.
        most: the greatest strength.
        own: the share of pictures that come from nearly the same laboratory as the picture.
        stains: of pictures of many laboratories. With them the changes go further: a third of the pictures takes one of
            these stains, the two dyes vary apart, and a tenth loses its colour.

    Returns:
        (uint8 [H, W, 3], the strength of the change).
    """
    near, far = rng.random() < own, bool(stains)
    strength = max(rng.uniform(-0.15, 0.25 if near else most), 0.0)
    moved = far and not near and rng.random() < 0.35
    if moved:
        stain = stains[rng.integers(len(stains))]
        image = Image.fromarray(in_stain(np.asarray(image), stain, rng.uniform(0.4, 1.1)))
        strength *= 0.6
    if strength:
        image = Image.fromarray(other_stain(rng, np.asarray(image), strength, far and not near))
    strength = max(strength, 1.0) if moved else strength
    image = other_camera(rng, image, strength)
    grey = 0.01 if not far else 0.02 if near else 0.10
    if rng.random() < grey:
        image, strength = image.convert("L").convert("RGB"), max(strength, 1.0)  # without a colour
    return np.asarray(image), strength


def before(
    rng: np.random.Generator, image: np.ndarray, core: np.ndarray, ours: np.ndarray, behind: np.ndarray
) -> np.ndarray:
    """The white cell of a picture before the surroundings of another one.

    Args:
        rng: chooses how soft the edges are.
        image: uint8 [H, W, 3], the picture with the cell.
        core: bool [h, w], what is surely the cell; coarser than the picture.
        ours: bool [h, w], what may be the cell; ``core`` lies in it.
        behind: uint8 [H, W, 3], the other picture.

    Returns:
        uint8 [H, W, 3]. What may be the cell lets as much light through as before, now that of ``behind``: clear
        background takes its colour, and cytoplasm is laid over it.
    """
    size, blur = image.shape[1::-1], ImageFilter.GaussianBlur(float(rng.uniform(0.5, 2.5)))

    def soft(mask: np.ndarray) -> np.ndarray:
        grown = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
        return np.asarray(grown.filter(blur), np.float32)[..., None] / 255

    clear = np.percentile(image[::3, ::3].reshape(-1, 3), 95, axis=0).astype(np.float32)
    through = behind * np.minimum(image / np.maximum(clear, 1), 1)
    surely, maybe = soft(ndimage.binary_dilation(core)), soft(ours)
    return (maybe * (surely * image + (1 - surely) * through) + (1 - maybe) * behind).astype(np.uint8)


def look(
    image: np.ndarray, places: np.ndarray, centre: tuple[float, float], side: float, angle: float, pixels: int
) -> tuple[Image.Image, np.ndarray]:
    """A turned square of a picture and of its map of places.

    Args:
        image: uint8 [H, W, 3].
        places: uint8 [h, w], the same picture, coarser.
        centre: (x, y) of the square in the image's pixels.
        side: of the square, in the image's pixels.
        angle: the turn, in radians.
        pixels: the side to return; a multiple of 4.

    Returns:
        (image of ``pixels`` × ``pixels``, places [pixels / 4, pixels / 4]).
    """
    cos, sin = math.cos(angle), math.sin(angle)

    def turned(source: Image.Image, factor: float, size: int, resampling) -> Image.Image:
        step = side / factor / size
        x, y = centre[0] / factor, centre[1] / factor
        half = size / 2
        a, b, d, e = step * cos, step * sin, -step * sin, step * cos
        data = (a, b, x - (a + b) * half, d, e, y - (d + e) * half)
        return source.transform((size, size), Image.Transform.AFFINE, data, resampling)

    reach = 0.5 * side * (abs(cos) + abs(sin)) + 2
    left, top = max(int(centre[0] - reach), 0) // 4 * 4, max(int(centre[1] - reach), 0) // 4 * 4
    part = Image.fromarray(image[top : int(centre[1] + reach) + 1, left : int(centre[0] + reach) + 1])
    factor = max(int(side / pixels + 0.4), 1)
    centre_was, centre = centre, (centre[0] - left, centre[1] - top)
    if factor > 1:  # a picture made smaller is averaged first, or its finest detail would make patterns
        part = part.reduce(factor)
    picture = turned(part, factor, pixels, Image.Resampling.BILINEAR)
    centre = centre_was
    scale = image.shape[0] / places.shape[0]
    return picture, np.asarray(turned(Image.fromarray(places), scale, pixels // 4, Image.Resampling.NEAREST))
