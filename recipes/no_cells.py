"""Pictures of which no phrase about blood is true: drawn by code, and cut from photographs that packages ship.

scikit-image's pictures are not among them: with those the model is graded.
"""

from __future__ import annotations

import math
from importlib.resources import files

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

SIDE = 256
PHOTOGRAPHS = (
    ("sklearn.datasets", "images/china.jpg"),
    ("sklearn.datasets", "images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ("matplotlib", "mpl-data/sample_data/Minduka_Present_Blue_Pack.png"),
    ("matplotlib", "mpl-data/sample_data/logo2.png"),
)


def _colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """[count, 3] float in 0..255; one time in three greys."""
    colours = rng.uniform(0, 255, (count, 3))
    return np.repeat(colours[:, :1], 3, 1) if rng.random() < 0.33 else colours


def _spread(rng: np.random.Generator, field: np.ndarray) -> np.ndarray:
    """A field [h, w] → a picture: its values from one colour over others to the last."""
    low, high = np.percentile(field, [1, 99])
    stops = _colours(rng, int(rng.integers(2, 5)))
    at = ((field - low) / (high - low + 1e-9)).clip(0, 1) * (len(stops) - 1)
    return np.stack([np.interp(at, np.arange(len(stops)), stops[:, c]) for c in range(3)], -1)


def noise(rng: np.random.Generator) -> np.ndarray:
    """White, pink or smoother noise, in grey or colour."""
    shape = (SIDE, SIDE, 3 if rng.random() < 0.4 else 1)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE))) + 1 / SIDE
    power = rng.choice([0.0, 0.5, 1.0, 1.5, 2.0])
    waves = np.fft.fft2(rng.standard_normal(shape), axes=(0, 1)) / frequency[..., None] ** power
    field = np.fft.ifft2(waves, axes=(0, 1)).real
    if shape[2] == 1:
        return _spread(rng, field[..., 0])
    return (field / field.std((0, 1)) * rng.uniform(20, 70, 3) + rng.uniform(60, 200, 3)).clip(0, 255)


def gradient(rng: np.random.Generator) -> np.ndarray:
    """Plain colours, slopes and round glows."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    angle = rng.uniform(0, 2 * math.pi)
    field = math.cos(angle) * x + math.sin(angle) * y
    if rng.random() < 0.3:
        field = np.hypot(x - rng.random(), y - rng.random())
    if rng.random() < 0.25:
        return np.broadcast_to(_colours(rng, 1)[0], (SIDE, SIDE, 3)).copy()
    return _spread(rng, field)


def pattern(rng: np.random.Generator) -> np.ndarray:
    """Stripes, checks, bricks and weaves, a little rough."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    warp = ndimage.zoom(rng.standard_normal((6, 6)), SIDE / 6, order=1) * rng.uniform(0, 12)
    angle = rng.uniform(0, math.pi)
    u = math.cos(angle) * x + math.sin(angle) * y + warp
    v = -math.sin(angle) * x + math.cos(angle) * y + warp
    pitch, other = rng.uniform(6, 70, 2)
    kind = rng.integers(4)
    if kind == 0:
        field = np.sin(2 * math.pi * u / pitch)
    elif kind == 1:
        field = np.sign(np.sin(2 * math.pi * u / pitch) * np.sin(2 * math.pi * v / other))
    elif kind == 2:
        row = np.floor(u / pitch)
        field = ((u % pitch > 0.12 * pitch) & ((v + row % 2 * other / 2) % other > 0.08 * other)) * 1.0
    else:
        field = np.sin(2 * math.pi * u / pitch) + np.sin(2 * math.pi * v / other)
    return _spread(rng, field + rng.uniform(0, 0.6) * rng.standard_normal(field.shape))


def shapes(rng: np.random.Generator) -> np.ndarray:
    """Discs, boxes, triangles, rings and lines on any ground: from one to many."""
    ground = gradient(rng) if rng.random() < 0.5 else noise(rng) * 0.3 + _colours(rng, 1)[0] * 0.7
    image = Image.fromarray(ground.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    kinds = rng.permutation(5)[: rng.integers(1, 4)]
    many = rng.random() < 0.4
    palette = _colours(rng, int(rng.integers(1, 6))).astype(int)
    size = rng.uniform(4, 24) if many else rng.uniform(12, 110)
    for _ in range(int(rng.integers(20, 150)) if many else int(rng.integers(1, 12))):
        x, y = rng.uniform(-10, SIDE + 10, 2)
        a, b = size * rng.uniform(0.5, 1.5, 2)
        kind, fill = kinds[rng.integers(len(kinds))], tuple(palette[rng.integers(len(palette))])
        if kind == 0:
            draw.ellipse((x - a, y - a, x + a, y + a), fill=fill)
        elif kind == 1:
            draw.rectangle((x - a, y - b, x + a, y + b), fill=fill)
        elif kind == 2:
            draw.polygon([(x + a * math.cos(t), y + a * math.sin(t)) for t in rng.uniform(0, 6.3, 4)], fill=fill)
        elif kind == 3:
            draw.ellipse((x - a, y - b, x + a, y + b), outline=fill, width=int(rng.integers(1, 8)))
        else:
            draw.line((x, y, x + 3 * a, y + 3 * b * rng.choice([-1, 1])), fill=fill, width=int(rng.integers(1, 9)))
    return np.asarray(image)


def text(rng: np.random.Generator) -> np.ndarray:
    """Lines of letters, large or small."""
    ground, ink = _colours(rng, 2) if rng.random() < 0.5 else (np.full(3, 245.0), np.full(3, 20.0))
    image = Image.new("RGB", (SIDE, SIDE), tuple(int(v) for v in ground))
    draw, size = ImageDraw.Draw(image), float(rng.uniform(9, 60))
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789      .,;"))
    for y in np.arange(-size / 2, SIDE, size * rng.uniform(1.1, 1.8)):
        line = "".join(letters[rng.integers(len(letters), size=60)])
        draw.text((rng.uniform(-20, 20), y), line, tuple(int(v) for v in ink), ImageFont.load_default(size))
    return np.asarray(image)


def scene(rng: np.random.Generator) -> np.ndarray:
    """Sky, land and things that stand on it; or a dark sky with lights."""
    y = np.mgrid[:SIDE, :SIDE][0] / SIDE
    if rng.random() < 0.25:
        field = (rng.random((SIDE, SIDE)) < rng.uniform(0.001, 0.02)) * rng.uniform(60, 255, (SIDE, SIDE))
        field = ndimage.gaussian_filter(field, rng.uniform(0.6, 3)) * rng.uniform(6, 60)
        return (field[..., None] * rng.uniform(0.5, 1, 3) + rng.uniform(0, 40, 3)).clip(0, 255)
    sky, ground, things = _colours(rng, 3)
    horizon = rng.uniform(0.3, 0.8) + 0.06 * np.cumsum(rng.standard_normal(SIDE)) / 16
    image = np.where((y < horizon[None])[..., None], sky + 60 * y[..., None], ground)
    image = Image.fromarray(image.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 9))):
        x, width, height = rng.uniform(0, SIDE), rng.uniform(5, 60), rng.uniform(20, 140)
        foot = float(horizon[int(min(x, SIDE - 1))] * SIDE + rng.uniform(0, 30))
        fill = tuple(int(v) for v in (things + rng.normal(0, 40, 3)).clip(0, 255))
        if rng.random() < 0.5:
            draw.rectangle((x, foot - height, x + width, foot), fill=fill)
        else:
            draw.line((x, foot, x, foot - height), fill=fill, width=max(int(width / 8), 1))
            draw.ellipse(
                (x - width / 2, foot - height - width / 2, x + width / 2, foot - height + width / 2), fill=fill
            )
    return np.asarray(image) + rng.normal(0, rng.uniform(0, 14), (SIDE, SIDE, 3))


def photographs() -> list[Image.Image]:
    """What the installed packages ship; those that are not there are left out."""
    result = []
    for package, name in PHOTOGRAPHS:
        try:
            file = files(package).joinpath(name)
            if file.is_file():
                result.append(Image.open(file.open("rb")).convert("RGB"))
        except ModuleNotFoundError:
            continue
    return result


def photograph(rng: np.random.Generator, pictures: list[Image.Image]) -> np.ndarray:
    """A square of one of them, of any size."""
    picture = pictures[rng.integers(len(pictures))]
    side = min(picture.size) * math.exp(rng.uniform(math.log(0.12), 0))
    left, top = (rng.uniform(0, length - side) for length in picture.size)
    square = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    return np.asarray(square.convert("L").convert("RGB") if rng.random() < 0.3 else square)


def bank(rng: np.random.Generator, count: int) -> np.ndarray:
    """uint8 [count, SIDE, SIDE, 3]: a third photographs, the rest drawn, every kind equally often."""
    pictures, kinds = photographs(), (noise, gradient, pattern, shapes, text, scene)
    result = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for i in range(count):
        drawn = i % 3 < 2 or not pictures
        image = kinds[rng.integers(len(kinds))](rng) if drawn else photograph(rng, pictures)
        result[i] = np.asarray(image).clip(0, 255)
    return result
