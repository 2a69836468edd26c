"""From a cell's attributes to a stained photograph of it, and the truth of every pixel."""

import dataclasses
import functools
import io
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from . import shapes, textures
from .attributes import Cell
from .stain import photograph, sample_camera, sample_optics, sample_stain

__all__ = ["PARTS", "Picture", "render"]

PARTS = ("nucleus", "cytoplasm", "granules", "vacuoles", "red cells", "platelets")

# One random stream for each component, so that a change of one leaves the others as they were.
STREAMS = (
    "stain", "camera", "optics", "noise", "position", "background", "red cells", "platelets", "debris",
    "size", "outline", "nucleus", "chromatin", "cytoplasm", "granules", "vacuoles",
)  # fmt: skip

FINE = 4  # granules and vacuoles are drawn this many times finer than the pixels


@dataclasses.dataclass(frozen=True)
class Picture:
    """A rendered photograph and its truth.

    Attributes:
        image: the photograph, PIL RGB, decoded from `jpeg`.
        jpeg: the bytes of the JPEG file.
        masks: for each of `PARTS` a boolean array [size, size]: where the part was drawn, at pixel centres.
        cell: the `Cell` that was asked for, or None for a field without a white cell.
        box: the white cell's (left, top, right, bottom) in pixels, inside the picture; None without one.
        visible: the share of the white cell's own area that lies inside the picture; 1.0 without a cell.
    """

    image: Image.Image
    jpeg: bytes
    masks: dict
    cell: Cell | None
    box: tuple | None
    visible: float


def render(cell, seed, size=224, *, red_cells=None, platelets=None, offset=None, scale=None, colour_seed=None):
    """Draw a blood smear with one white cell, or none.

    Args:
        cell: the `Cell` to draw; None for a field of red cells and platelets.
        seed: a whole number from 0; the same arguments give the same bytes.
        size: side of the picture in pixels.
        red_cells: how crowded with red cells, 0 (none) to 1; None draws it from the seed.
        platelets: how many platelets or clumps of them; None draws it from the seed.
        offset: (right, down) from the picture's centre to the cell's, as shares of the side; None draws it.
        scale: a red cell's diameter as a share of the side, 0.05 to 0.6; None draws it. A small white cell is about
            1.6 and a big one about 2.3 red cells wide.
        colour_seed: seed of stain and white balance alone, to show one cell in several laboratories.

    Returns:
        A `Picture`. Every component has its own random stream: change one attribute and all else stands still.
    """
    if cell is not None and not isinstance(cell, Cell):
        raise ValueError(
            f"cell: expected a Cell or None, got {type(cell).__name__}; make one with Cell(...) or sample_cell"
        )
    if size < 32:
        raise ValueError(f"size: {size} pixels are too few to draw a cell; use 32 or more")
    if scale is not None and not 0.05 <= scale <= 0.6:
        raise ValueError(f"scale: {scale} is outside 0.05 to 0.6 (a red cell's diameter as a share of the side)")
    if red_cells is not None and not 0 <= red_cells <= 1:
        raise ValueError(f"red_cells: {red_cells} is outside 0 (none) to 1 (crowded)")
    if platelets is not None and platelets < 0:
        raise ValueError(f"platelets: {platelets} is less than none; use a whole number from 0")
    for name, value in (("seed", seed), ("colour_seed", colour_seed)):
        if value is not None and (int(value) != value or value < 0):
            raise ValueError(f"{name}: {value!r} is no seed; use a whole number from 0")
    streams = _streams(seed, seed if colour_seed is None else colour_seed)
    stain, camera, optics = (
        sample_stain(streams("stain")),
        sample_camera(streams("camera")),
        sample_optics(streams("optics")),
    )
    place = _place(streams("position"), cell is not None, offset, scale)

    scene = _background(streams("background"), stain, size)
    masks = {part: np.zeros((size, size), dtype=bool) for part in PARTS}
    _red_cells(scene, masks["red cells"], streams("red cells"), stain, place, red_cells)
    _platelets(scene, masks["platelets"], streams("platelets"), stain, place, platelets)
    _debris(scene, streams("debris"), stain, place)
    box, visible = (None, 1.0) if cell is None else _white_cell(scene, masks, streams, stain, place, cell)

    jpeg = photograph(scene, camera, optics, streams("noise"))
    image = Image.open(io.BytesIO(jpeg))
    image.load()
    return Picture(image, jpeg, masks, cell, box, visible)


def _streams(seed, colour_seed):
    def stream(name):
        root = colour_seed if name in ("stain", "camera") else seed
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([root, STREAMS.index(name)])))

    return stream


@dataclasses.dataclass(frozen=True)
class _Place:
    """Where things are: the white cell's centre and a red cell's diameter, as shares of the side."""

    x: float
    y: float
    unit: float
    taken: float  # radius round the centre that red cells and platelets keep free


def _place(rng, present, offset, scale):
    unit = 0.15 + 0.21 * rng.random() if rng.random() < 0.5 else 0.24 + 0.06 * rng.normal()
    unit = min(max(unit, 0.15), 0.36) if scale is None else scale
    kind, direction, far = rng.random(), rng.uniform(0, 2 * math.pi), rng.random()
    near = rng.normal(0, 0.02, size=2)
    room = max(0.5 - 1.0 * unit, 0.03)
    if offset is not None:
        dx, dy = offset
    elif kind < 0.5:
        dx, dy = near
    else:
        reach = room * math.sqrt(far) * 1.25 if kind < 0.92 else room + (0.3 + 0.6 * far) * unit
        dx, dy = reach * math.cos(direction), reach * math.sin(direction)
        limit = room if kind < 0.92 else 0.45
        dx, dy = (min(max(value, -limit), limit) for value in (dx, dy))
    return _Place(0.5 + dx, 0.5 + dy, unit, 0.95 * unit if present else 0.0)


def _window(size, cx, cy, reach):
    """The pixels within `reach` of a point: two slices, and the pixel centres' columns and rows; None without any."""
    x0, x1 = max(0, math.floor((cx - reach) * size)), min(size, math.ceil((cx + reach) * size))
    y0, y1 = max(0, math.floor((cy - reach) * size)), min(size, math.ceil((cy + reach) * size))
    if x0 >= x1 or y0 >= y1:
        return None
    xs, ys = (np.arange(x0, x1) + 0.5) / size, (np.arange(y0, y1) + 0.5) / size
    return (slice(y0, y1), slice(x0, x1)), xs, ys


def _steepness(radius, size, edge):
    """How fast an edge `edge` pixels wide, as seen at 224 pixels, rises in a distance measured in radii."""
    return radius * size / max(edge * size / 224, 0.7)


def _dye(scene, where, amount, through):
    """Let the light of a window pass `amount` (0 to 1) of a dye that lets `through` pass."""
    view = scene[where]
    view *= 1 - amount[..., None] * (1 - through)


def _background(rng, stain, size):
    scene = np.empty((size, size, 3), dtype=np.float32)
    scene[:] = stain.background
    at = (np.arange(size) + 0.5) / size
    mottle = textures.lookup(textures.smooth(24, 1), at, at, 220, rng)
    tint = (rng.normal(0, 0.008, size=3) + 0.006 * rng.random()).astype(np.float32)
    return scene * (1 + mottle[..., None] * tint)


# ---------------------------------------------------------------------------------------------------- red cells


def _red_cell_places(rng, place, crowd):
    """Centres of red cells: scattered, and now and then stacked like coins."""
    unit = place.unit
    apart = unit * rng.choice([0.6, 0.85, 0.98], p=[0.25, 0.35, 0.4])
    per_area = 1.0 / (apart * apart)
    tries = int(min(90, 4 + 1.5 * crowd * per_area * (1 + unit) ** 2))
    spots = rng.uniform(-0.5 * unit, 1 + 0.5 * unit, size=(tries, 2))
    centres: list[tuple[float, float]] = []
    for x, y in spots.tolist():
        if all((x - a) * (x - a) + (y - b) * (y - b) > apart * apart for a, b in centres):
            centres.append((x, y))
    stacks = int(rng.integers(1, 4)) if rng.random() < 0.2 and crowd > 0.3 else 0
    for x, y, angle, length, pitch in zip(
        rng.random(3),
        rng.random(3),
        rng.uniform(0, math.pi, 3),
        rng.integers(2, 6, 3),
        rng.uniform(0.3, 0.6, 3),
        strict=True,
    ):
        if stacks > 0:
            stacks -= 1
            centres += [
                (x + k * pitch * unit * math.cos(angle), y + k * pitch * unit * math.sin(angle)) for k in range(length)
            ]
    keep = place.taken + 0.12 * unit
    return [(x, y) for x, y in centres if (x - place.x) ** 2 + (y - place.y) ** 2 > keep * keep]


def _red_cells(scene, mask, rng, stain, place, crowd):
    size = scene.shape[0]
    empty, drawn = rng.random() < 0.1, 0.15 + 0.85 * rng.random()
    crowd = (0.0 if empty else drawn) if crowd is None else crowd
    look = {
        "pallor": rng.uniform(0.15, 0.85), "pale": rng.uniform(0.45, 0.98), "sharp": rng.uniform(0.15, 1.0),
        "oval": rng.uniform(0.03, 0.22), "rim": rng.uniform(0.0, 0.3), "edge": rng.uniform(0.7, 2.6),
        "flat": rng.uniform(0, 0.6), "spots": rng.random() < 0.15, "overlap": np.float32(rng.uniform(0.05, 0.4)),
        "fade": rng.random(),
    }  # fmt: skip
    centres = _red_cell_places(rng, place, crowd)
    if crowd == 0:
        return
    thickness = np.zeros((size, size), dtype=np.float32)
    glare = np.zeros((size, size), dtype=np.float32) if look["spots"] else None
    draws = rng.random((len(centres), 12))
    waves = rng.normal(0, 1, size=(len(centres), 4))
    for (cx, cy), draw, wave in zip(centres, draws, waves, strict=True):
        _red_cell(thickness, glare, mask, cx, cy, 0.5 * place.unit * (0.85 + 0.25 * draw[0]), draw, wave, look)
    _dye(scene, (slice(None), slice(None)), thickness, stain.red_cell)
    if glare is not None:
        scene += glare[..., None]
        np.clip(scene, 0, 1, out=scene)


def _red_cell(thickness, glare, mask, cx, cy, radius, draw, wave, look):
    size = mask.shape[0]
    found = _window(size, cx, cy, radius * 1.45)
    if found is None:
        return
    where, xs, ys = found
    x = ((xs - cx) / radius).astype(np.float32)[None, :]
    y = ((ys - cy) / radius).astype(np.float32)[:, None]
    oval = look["oval"] * (1 if draw[1] < 0.9 else 2.2) * draw[2]
    angle = math.pi * draw[3]
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    u = (x * cos + y * sin) * np.float32(1 - oval)
    v = (y * cos - x * sin) * np.float32(1 + oval)
    uu, vv = u * u, v * v
    d2 = uu + vv + np.float32(1e-6)
    d = np.sqrt(d2)
    w = (0.035 * wave).astype(np.float32)
    d = (
        d
        + (w[0] * u * (uu - 3 * vv) + w[1] * v * (3 * uu - vv)) / d2
        + np.float32(0.3) * w[2] * (uu * uu + vv * vv - 6 * uu * vv) / (d2 * d)
    )
    soft = np.float32(min(_steepness(radius, size, look["edge"]), 6 / (look["fade"] + 0.01)))
    cover = ((1 - d) * soft + np.float32(0.5)).clip(0, 1)
    wide = np.float32(0.35 + 0.4 * look["pallor"])
    hollow = np.clip((wide - d) / np.float32((1.1 - 0.9 * look["sharp"]) * wide), 0, 1)
    hollow = hollow * hollow * (3 - 2 * hollow)
    pale = look["pale"] * (draw[4] if draw[5] < 0.8 else 0.05) * (1 - look["flat"] * draw[6])
    thick = 1 - np.float32(pale) * hollow + np.float32(look["rim"]) * np.clip(d - np.float32(0.55), 0, 1)
    new, old = cover * thick * np.float32(0.78 + 0.3 * draw[7]), thickness[where]
    thickness[where] = np.maximum(old, new) + look["overlap"] * np.minimum(old, new)
    if glare is not None and draw[8] < 0.35:  # a refractile drying artefact
        ring = np.sqrt((x - np.float32(0.5 * draw[9])) ** 2 + (y + np.float32(0.4 * draw[10])) ** 2) * np.float32(
            5 + 4 * draw[11]
        )
        bright, dark = (1 - ring * ring).clip(0, 1), (1 - 4 * (ring - 1) ** 2).clip(0, 1)
        glare[where] += (np.float32(0.35) * bright - np.float32(0.35) * dark * (1 - bright)) * cover
    mask[where] |= cover >= 0.5


# ------------------------------------------------------------------------------------------ platelets and debris


def _platelets(scene, mask, rng, stain, place, count):
    size = scene.shape[0]
    none, few = rng.random() < 0.45, 1 + int(rng.exponential(1.6))
    count = (0 if none else min(few, 8)) if count is None else count
    for _ in range(count):
        x, y = rng.uniform(0.0, 1.0, size=2)
        clump = int(rng.integers(2, 7)) if rng.random() < 0.12 else 1
        parts = rng.normal(0, 0.16 * place.unit, size=(8, 2))
        radii = place.unit * rng.uniform(0.10, 0.22, size=8)
        noise = rng.normal(0, 0.09, size=(8, 3))
        away = math.sqrt((x - place.x) ** 2 + (y - place.y) ** 2)
        need = 1.3 * place.taken + 0.1 * place.unit
        if place.taken and away < need:  # beside the white cell, not under it
            x, y = place.x + (x - place.x) / (away + 1e-9) * need, place.y + (y - place.y) / (away + 1e-9) * need
        for k in range(clump):
            px, py = (x, y) if clump == 1 else (x + parts[k, 0], y + parts[k, 1])
            radius = max(radii[k], 1.6 / size)
            found = _window(size, px, py, radius * 1.6)
            if found is None:
                continue
            where, xs, ys = found
            u, v = ((xs - px) / radius).astype(np.float32)[None, :], ((ys - py) / radius).astype(np.float32)[:, None]
            w = noise[k].astype(np.float32)
            d2 = u * u + v * v + np.float32(1e-6)
            d = (
                np.sqrt(d2) * (1 + 2 * w[0] * (u * u - v * v) / d2 + w[1] * 3 * u * v / d2)
                + w[2] * u * (u * u - 3 * v * v) / d2
            )
            cover = ((1 - d) * np.float32(radius * size * 0.7) + np.float32(0.5)).clip(0, 1)
            speckle = textures.lookup(textures.smooth(5, 2), xs / radius, ys / radius, 14, rng)
            amount = (np.float32(0.5) + np.float32(0.5) * (1 - d) + np.float32(0.2) * speckle).clip(0.2, 1.2)
            _dye(scene, where, cover * amount, stain.platelet)
            mask[where] |= cover >= 0.5


def _debris(scene, rng, stain, place):
    """Stain precipitate and dust, in about one scene of six: a distractor that belongs to no part."""
    size = scene.shape[0]
    present, many = rng.random() < 0.16, int(rng.integers(2, 14))
    if not present:
        return
    for x, y, r, dark in zip(rng.random(many), rng.random(many), rng.random(many), rng.random(many), strict=True):
        radius = max(place.unit * (0.02 + 0.05 * r * r), 0.7 / size)
        found = _window(size, x, y, radius * 1.5 + 1 / size)
        if found is None or (x - place.x) ** 2 + (y - place.y) ** 2 < (1.2 * place.taken) ** 2:
            continue
        where, xs, ys = found
        d = np.sqrt(((xs - x) / radius)[None, :] ** 2 + ((ys - y) / radius)[:, None] ** 2).astype(np.float32)
        cover = ((1 - d) * np.float32(radius * size) + np.float32(0.5)).clip(0, 1)
        _dye(scene, where, cover * np.float32(0.35 + 0.5 * dark), stain.nucleus)


# ---------------------------------------------------------------------------------------------------- white cell

_DIAMETER = {  # in red cells
    "small": {"lymphocyte": (1.3, 1.65), "monocyte": (1.7, 1.95), None: (1.4, 1.8)},
    "big": {"lymphocyte": (2.0, 2.4), "monocyte": (2.2, 2.7), None: (2.1, 2.6)},
}


def _white_cell(scene, masks, streams, stain, place, cell):
    size = scene.shape[0]
    low, high = _DIAMETER[cell.cell_size].get(cell.cell_type, _DIAMETER[cell.cell_size][None])
    radius = 0.5 * place.unit * (low + (high - low) * streams("size").random())
    outline = shapes.cell_outline(streams("outline"), cell.cell_shape)
    found = _window(size, place.x, place.y, radius * (float(outline.max()) + 0.06))
    if found is None:
        return None, 0.0
    where, xs, ys = found
    gx, gy = (xs - place.x) / radius, (ys - place.y) / radius
    x, y = np.broadcast_arrays(gx[None, :], gy[:, None])
    pixel = radius * size  # pixels in a cell radius

    inside = shapes.at_angle(outline, np.arctan2(y, x)) - np.sqrt(x * x + y * y)
    deep = shapes.nucleus(
        streams("nucleus"), gx, gy, cell.nucleus_shape, cell.nuclear_cytoplasmic_ratio, cell.cell_type == "lymphocyte"
    )
    deep = np.minimum(deep, inside - 0.075)
    inside, deep = inside.astype(np.float32), deep.astype(np.float32)

    body, frost = _cytoplasm(scene, where, streams("cytoplasm"), stain, cell, gx, gy, inside, pixel)
    core = _nucleus(scene, where, streams("chromatin"), stain, cell, gx, gy, deep, pixel)
    grains = _granules(scene, where, streams("granules"), stain, cell, gx, gy, inside, deep, pixel)
    if frost is not None and cell.granularity == "yes":  # the ground glass lies over the granules too
        veil = (
            frost.clip(0, 1.6)
            * np.float32(0.2)
            * (inside * 12).clip(0, 1)
            * (np.float32(0.5) - deep * np.float32(pixel)).clip(0, 1)
        )
        scene[where] += (stain.background - scene[where]) * veil[..., None]
    bubbles = _vacuoles(scene, where, streams("vacuoles"), stain, cell, gx, gy, inside, deep, pixel)

    masks["red cells"][where] &= ~body
    masks["platelets"][where] &= ~body
    masks["nucleus"][where] = core
    masks["cytoplasm"][where] = body & ~core
    masks["granules"][where] = grains & body & ~bubbles
    masks["vacuoles"][where] = bubbles & body
    rows, columns = np.nonzero(body)
    if not len(rows):
        return None, 0.0
    top, left = where[0].start, where[1].start
    box = tuple(
        int(v) for v in (left + columns.min(), top + rows.min(), left + columns.max() + 1, top + rows.max() + 1)
    )
    whole = np.pi * float(np.mean(outline * outline)) * pixel * pixel  # the outline's area, in pixels
    return box, min(1.0, len(rows) / whole)


def _cytoplasm(scene, where, rng, stain, cell, gx, gy, inside, pixel):
    size = scene.shape[0]
    edge, thin, opaque = rng.uniform(0.7, 3.6), rng.uniform(0.0, 0.3), rng.uniform(0.9, 1.0)
    halo, strength = (rng.uniform(0.0, 0.5) if rng.random() < 0.4 else 0.0), rng.uniform(0.85, 1.1)
    cover = (inside * np.float32(_steepness(pixel / size, size, edge)) + np.float32(0.5)).clip(0, 1)
    if halo:  # a bright seam where the cell lifts the film
        seam = (1 - np.abs(inside + np.float32(0.03)) * np.float32(18)).clip(0, 1) * np.float32(halo)
        scene[where] += (stain.background - scene[where]) * seam[..., None]
    scene[where] += (stain.background - scene[where]) * (cover * np.float32(opaque))[..., None]
    rim = (1 - inside * 4).clip(0, 1)
    amount = np.float32(strength) * (1 - np.float32(thin) * rim * rim)
    cloud = textures.lookup(textures.smooth(28, 3), gx, gy, 90, rng)
    frost = textures.lookup(textures.band(1.7, 5.0, 4), gx, gy, 66, rng)
    amount = amount * (1 + np.float32(0.07) * cloud)
    if cell.cytoplasm_texture == "frosted":  # ground glass
        contrast = 0.08 / (1 - float(stain.cytoplasm[cell.cytoplasm_colour].mean()))
        amount = amount * (
            1 + np.float32(min(max(contrast, 0.17), 0.40)) * np.maximum(frost, np.float32(-0.9))
        )  # no holes: those are vacuoles
    _dye(scene, where, cover * amount.clip(0, 1.5), stain.cytoplasm[cell.cytoplasm_colour])
    return cover >= 0.5, frost if cell.cytoplasm_texture == "frosted" else None


def _nucleus(scene, where, rng, stain, cell, gx, gy, deep, pixel):
    size = scene.shape[0]
    edge, depth, smudge = rng.uniform(0.8, 3.2), rng.uniform(0.85, 1.02), rng.random()
    cover = (deep * np.float32(_steepness(pixel / size, size, edge)) + np.float32(0.5)).clip(0, 1)
    clumps = textures.lookup(textures.smooth(9, 5), gx, gy, 70, rng)
    net = textures.lookup(textures.band(3.6, 10.0, 6), gx, gy, 66, rng)
    lace = np.float32(0.56) - np.float32(0.7) * np.abs(net)  # dark strands where the noise crosses zero
    lace += np.float32(0.35) * textures.lookup(textures.band(2.0, 6.0, 10), gx, gy, 66, rng)
    contrast = np.float32(stain.nucleus_contrast * (0.3 if smudge < 0.2 else 1.0))
    through = stain.nucleus
    if cell.chromatin_density == "loosely":
        amount = (
            np.float32(0.70)
            + np.float32(0.06) * clumps
            + np.float32(0.16) * np.maximum(contrast, np.float32(0.6)) * lace
        )
    else:
        amount = np.float32(0.95) + contrast * (np.float32(0.10) * clumps + np.float32(0.05) * lace)
    shade = 1 - np.float32(0.10) * (1 - deep * 8).clip(0, 1)
    scene[where] += (stain.background - scene[where]) * (cover * np.float32(0.6))[..., None]
    _dye(scene, where, cover * (amount * shade * np.float32(depth)).clip(0.3, 1.04), through)
    np.clip(scene[where], 0, 1, out=scene[where])
    return cover >= 0.5


class _Sheet:
    """A fine grey sheet over the cell's window on which discs are drawn, and its shrunken coverage in [0, 1]."""

    def __init__(self, gx, gy, pixel):
        self.shape, self.pixel = (len(gy), len(gx)), pixel * FINE
        self.left, self.top = float(gx[0]) - 0.5 / pixel, float(gy[0]) - 0.5 / pixel
        self.image = Image.new("L", (len(gx) * FINE, len(gy) * FINE))
        self.draw = ImageDraw.Draw(self.image)

    def disc(self, x, y, rx, ry, level=255):
        cx, cy, rx, ry = (x - self.left) * self.pixel, (y - self.top) * self.pixel, rx * self.pixel, ry * self.pixel
        self.draw.ellipse((round(cx - rx), round(cy - ry), round(cx + rx), round(cy + ry)), fill=level)

    def cover(self):
        return np.asarray(self.image.reduce(FINE), dtype=np.float32) / np.float32(255)


def _soften(field, pixels):
    image = Image.fromarray((field * 255 + np.float32(0.5)).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(pixels)), dtype=np.float32) / np.float32(255)


@functools.cache
def _lattice(spacing):
    """Points of a hexagonal lattice that fill a disc of radius 1.3."""
    points = []
    rows = int(1.3 / (spacing * 0.866)) + 1
    for j in range(-rows, rows + 1):
        for i in range(-int(1.4 / spacing) - 1, int(1.4 / spacing) + 2):
            px, py = (i + 0.5 * (j % 2)) * spacing, j * 0.866 * spacing
            if px * px + py * py < 1.69:
                points.append((px, py))
    return np.array(points)


def _sample(field, gx, gy, points):
    """A field's value at points in cell radii; outside its window, the nearest value of the window."""
    step = float(gx[1] - gx[0]) if len(gx) > 1 else 1.0
    columns = np.clip(np.floor((points[:, 0] - float(gx[0])) / step + 0.5), 0, len(gx) - 1).astype(np.int64)
    rows = np.clip(np.floor((points[:, 1] - float(gy[0])) / step + 0.5), 0, len(gy) - 1).astype(np.int64)
    return field[rows, columns]


_GRANULES = {  # spacing, radius, share of lattice points taken, jitter, share over the nucleus, strength
    "small": (0.086, 0.025, 0.82, 0.5, 0.0, 0.95),
    "round": (0.120, 0.051, 0.95, 0.33, 0.08, 0.90),
    "coarse": (0.150, 0.064, 0.80, 0.6, 0.75, 0.95),
}


def _granules(scene, where, rng, stain, cell, gx, gy, inside, deep, pixel):
    shape = inside.shape
    if cell.granularity == "no":
        return np.zeros(shape, dtype=bool)
    spacing, radius, share, jitter, over, strength = _GRANULES[cell.granule_type]
    turn, full, tint = rng.uniform(0, 2 * math.pi), rng.uniform(0.85, 1.0), rng.uniform(0.5, 1.25)
    strength, soft = strength * rng.uniform(0.66, 1.0), rng.uniform(0.0, 1.1)
    points = _lattice(spacing)
    cos, sin = math.cos(turn), math.sin(turn)
    points = np.stack([points[:, 0] * cos - points[:, 1] * sin, points[:, 0] * sin + points[:, 1] * cos], axis=1)
    draws = rng.random((len(points), 6))
    points = points + (draws[:, :2] - 0.5) * 2 * jitter * spacing
    at_edge, at_core = _sample(inside, gx, gy, points), _sample(deep, gx, gy, points)
    keep = (draws[:, 2] < share * full) & (at_edge > 0.75 * radius) & ((at_core < -0.5 * radius) | (draws[:, 3] < over))
    sheet, shine = _Sheet(gx, gy, pixel), _Sheet(gx, gy, pixel)
    vary = {"small": 0.5, "round": 0.3, "coarse": 0.9}[cell.granule_type]
    for (px, py), draw in zip(points[keep].tolist(), draws[keep].tolist(), strict=True):
        r = max(radius * (1 + vary * (draw[4] - 0.55)), 0.95 / pixel)
        stretch = 1 + (0.5 if cell.granule_type == "coarse" else 0.12) * (draw[5] - 0.5)
        sheet.disc(px, py, r * stretch, r / stretch, 190 + int(65 * draw[3]))
        if cell.granule_type == "round":
            shine.disc(px - 0.25 * r, py - 0.25 * r, 0.4 * r, 0.4 * r)
    cover = sheet.cover()
    drawn = cover >= 0.5
    if soft * pixel > 20:  # granules have no hard edge
        cover, glint = (_soften(field, soft * pixel / 70) for field in (cover, shine.cover()))
    else:
        glint = shine.cover()
    through = stain.granules[cell.granule_colour]
    tint = {"small": 0.28, "round": 0.32, "coarse": 0.2}[
        cell.granule_type
    ] * tint  # granules out of focus, between the sharp ones
    film = (inside * 12).clip(0, 1) * (1 - (deep * np.float32(pixel) + np.float32(0.5)).clip(0, 1)) * np.float32(tint)
    _dye(scene, where, film, through)
    # The sharp ones: they take the place of what lies beneath, more or less.
    solid = cover * np.float32(strength)
    scene[where] += (stain.background - scene[where]) * (solid * np.float32(0.72))[..., None]
    _dye(scene, where, solid, through)
    if cell.granule_type == "round":
        scene[where] += (1 - scene[where]) * (glint * np.float32(0.14))[..., None]
    return drawn


def _vacuoles(scene, where, rng, stain, cell, gx, gy, inside, deep, pixel):
    if cell.cytoplasm_vacuole == "no":
        return np.zeros(inside.shape, dtype=bool)
    wanted = int(rng.integers(3, 9))
    points = rng.uniform(-1.1, 1.1, size=(400, 2))
    radii = 0.075 + 0.08 * rng.random(400) ** 2
    clear = rng.uniform(0.82, 1.0)
    at_edge, at_core = _sample(inside, gx, gy, points), _sample(deep, gx, gy, points)
    chosen: list[tuple[float, float, float]] = []
    for level in (-0.9, -0.2, 0.7):  # wholly in the cytoplasm if there is room, else over the edge of the nucleus
        fits = (at_edge > radii + 0.02) & (at_core < level * radii)
        for (px, py), r in zip(points[fits].tolist(), radii[fits].tolist(), strict=True):
            if len(chosen) < wanted and all(
                (px - a) ** 2 + (py - b) ** 2 > (1.15 * (r + c)) ** 2 for a, b, c in chosen
            ):
                chosen.append((px, py, max(r, 1.6 / pixel)))
        if len(chosen) >= 3:
            break
    sheet, rims = _Sheet(gx, gy, pixel), _Sheet(gx, gy, pixel)
    for px, py, r in chosen:
        rims.disc(px, py, r + 0.9 / pixel, r + 0.9 / pixel)
        sheet.disc(px, py, r, r)
    cover = sheet.cover()
    rim = (rims.cover() - cover).clip(0, 1)
    _dye(scene, where, rim * np.float32(0.30), stain.nucleus)
    scene[where] += (stain.background - scene[where]) * (cover * np.float32(clear))[..., None]
    return cover >= 0.5
