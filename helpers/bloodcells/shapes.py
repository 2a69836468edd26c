"""The geometry of a white cell: outline and nucleus as distances inside their edge, in units of the cell's radius."""

import itertools
import math
from typing import Any

import numpy as np

from . import textures

STEPS = 2048


def ripple(rng, amplitudes):
    """A closed curve's radial deviation at STEPS angles: a sum of cosines of order 2, 3, ... with random phases."""
    angle = np.arange(STEPS) * (2 * math.pi / STEPS)
    curve = np.zeros(STEPS)
    for order, amplitude in enumerate(amplitudes, start=2):
        curve += amplitude * rng.uniform(0.5, 1.0) * np.cos(order * angle + rng.uniform(0, 2 * math.pi))
    return curve


def bump(centre, width):
    """A smooth bump of height 1 on the circle of STEPS angles, round `centre`, reaching zero at `width` (radians)."""
    gap = (np.arange(STEPS) * (2 * math.pi / STEPS) - centre + math.pi) % (2 * math.pi) - math.pi
    hill = np.clip(1 - (gap / width) ** 2, 0, None)
    return hill * hill


def at_angle(table, theta):
    """The values of a table of STEPS angles at the angles `theta` (-pi to pi)."""
    index = (theta * (STEPS / (2 * math.pi)) + 0.5).astype(np.int64) % STEPS
    return table[index]


def cell_outline(rng, shape):
    """The outline's radius at STEPS angles, about 1: a calm oval, or an irregular one with pseudopods and dents."""
    calm = 1 + ripple(rng, (0.07, 0.02, 0.012, 0.008))
    wild = ripple(rng, (0.12, 0.09, 0.065, 0.04, 0.025))
    first = rng.uniform(0, 2 * math.pi)
    for k in range(4):
        centre = first + k * 1.6 + rng.uniform(-0.5, 0.5)
        height, width, present = rng.uniform(0.10, 0.24), rng.uniform(0.22, 0.55), rng.random() < 0.6 or k == 0
        dent_at, dent, dent_width = rng.uniform(0, 2 * math.pi), rng.uniform(0.06, 0.2), rng.uniform(0.5, 1.0)
        if present:
            wild += height * bump(centre, width)
        if k < 2:
            wild -= dent * bump(dent_at, dent_width)
    ragged = ripple(rng, (0.0,) * 6 + (0.009,) * 12) * rng.choice([0.2, 0.7, 1.4])
    return np.clip(calm + wild - wild.mean() + ragged, 0.62, 1.34) if shape == "irregular" else calm


def _ellipse(x, y, cx, cy, a, b, angle, wobble, phase):
    cos, sin = math.cos(angle), math.sin(angle)
    u, v = ((x - cx) * cos + (y - cy) * sin) / a, ((y - cy) * cos - (x - cx) * sin) / b
    d2 = u * u + v * v + 1e-6
    d = np.sqrt(d2)
    waves = (math.cos(phase) * (u * u * u - 3 * u * v * v) + math.sin(phase) * (3 * u * u * v - v * v * v)) / d2
    return (1 - d - wobble * waves) * math.sqrt(a * b)


def _thread(x, y, start, end, width):
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    t = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
    return width - np.sqrt((x - x0 - t * dx) ** 2 + (y - y0 - t * dy) ** 2)


def _polar(x, y, radius_table):
    r = np.sqrt(x * x + y * y)
    edge = at_angle(radius_table, np.arctan2(y, x))
    return edge - r


def _lobes(x, y, centres, axes, angles, wobbles, thread, cleft):
    inside: Any = None
    for (cx, cy), (a, b), angle, (wobble, phase) in zip(centres, axes, angles, wobbles, strict=True):
        lobe = _ellipse(x, y, cx, cy, a, b, angle, wobble, phase)
        if inside is None:
            inside = lobe
            continue
        seam = np.clip(1 - np.abs(inside - lobe) * 22, 0, 1) * (np.minimum(inside, lobe) > 0)  # where two lobes touch
        inside = np.maximum(inside, lobe)
        inside = inside - cleft * seam * (inside + 0.02)
    for start, end in itertools.pairwise(centres):
        inside = np.maximum(inside, _thread(x, y, start, end, thread))
    return inside


def nucleus(rng, gx, gy, shape, ratio, lymphoid=False):
    """How far each point of a grid lies inside the nucleus (negative: outside); columns and rows in cell radii.

    Every call draws the same numbers for every shape, so that the stream stands still when an attribute changes.
    """
    u = rng.uniform(0, 1, size=64)
    turn = 2 * math.pi * u[0]
    cos, sin = math.cos(turn), math.sin(turn)
    warp = 0.012 + 0.034 * u[60]
    warp *= {"unsegmented-round": 0.5, "unsegmented-indented": 0.8, "irregular": 1.0}.get(shape, 1.45)
    x = gx[None, :] + warp * textures.lookup(textures.smooth(12, 8), gx, gy, 75, rng)
    y = gy[:, None] + warp * textures.lookup(textures.smooth(12, 9), gx, gy, 75, rng)
    high = ratio == "high"
    x, y = x * cos + y * sin, y * cos - x * sin
    fine = ripple(rng, (0.05, 0.035, 0.025, 0.015, 0.01))
    rough = ripple(rng, (0.10, 0.09, 0.08, 0.06, 0.05, 0.03))

    if shape == "unsegmented-round":
        a = (0.82 + 0.05 * u[1]) if high else (0.66 + 0.08 * u[1]) if lymphoid else (0.52 + 0.10 * u[1])
        aspect = 1 + 0.14 * u[2]
        shift = (0.93 - a) * 0.7 * u[3]
        return _polar((x - shift) / aspect, y * aspect, a * (1 + 0.35 * fine))
    if shape == "unsegmented-indented":
        a = (0.90 + 0.05 * u[1]) if high else (0.66 + 0.08 * u[1]) if not lymphoid else (0.74 + 0.06 * u[1])
        notch = (0.50 + 0.18 * u[2]) * bump(0.0, 0.66 + 0.34 * u[3])
        aspect = 0.84 + 0.08 * u[4]
        return _polar((x + 0.10 * a) / aspect, y * aspect, a * (1 + 0.7 * fine - notch)) * aspect
    if shape == "unsegmented-band":
        middle = (0.47 + 0.04 * u[1]) if high else (0.44 + 0.08 * u[1])
        half = (0.295 + 0.03 * u[2]) if high else (0.17 + 0.065 * u[2])
        span = (1.12 + 0.33 * u[3]) * math.pi / 2 if not high else (1.2 + 0.22 * u[3]) * math.pi / 2
        stretch = 1.0 + 0.30 * u[4]
        xs, ys = x * stretch, (y - (0.10 * (u[5] - 0.5))) / (1.0 + 0.1 * u[4])
        r, theta = np.sqrt(xs * xs + ys * ys), np.arctan2(ys, xs)
        ex, ey = middle * math.cos(span), middle * math.sin(span)
        bend = 1 + (2.2 * u[6]) * at_angle(np.roll(fine, STEPS // 3), theta)
        along = np.abs(r - middle * bend)
        ends = np.sqrt((xs - ex) ** 2 + (np.abs(ys) - ey) ** 2)
        width = half * (1 + (1.0 + 2.4 * u[7]) * (0.6 if high else 1.0) * at_angle(fine, theta))
        return width - np.where(np.abs(theta) < span, along, ends)
    if shape == "segmented-bilobed":
        d = (0.44 + 0.03 * u[1]) if high else (0.32 + 0.10 * u[1])
        centres = [(-d, 0.16 * (u[2] - 0.5)), (d, 0.16 * (u[3] - 0.5))]
        if high:
            axes = [(0.385 + 0.02 * v, 0.60 + 0.08 * w) for v, w in ((u[4], u[5]), (u[6], u[7]))]
        else:
            axes = [(d - 0.025 - 0.065 * v, 0.34 + 0.13 * w) for v, w in ((u[4], u[5]), (u[6], u[7]))]
        angles = [0.7 * (u[8] - 0.5), 0.7 * (u[9] - 0.5)]
        wobbles = [(0.10 * u[10], 6.3 * u[11]), (0.10 * u[12], 6.3 * u[13])]
        return _lobes(x, y, centres, axes, angles, wobbles, 0.035 + 0.035 * u[14], 0.4 + 0.6 * u[15])
    if shape == "segmented-multilobed":
        n = 3 + int(u[1] * 2.6)
        ring = (0.52 if high else 0.38 + 0.07 * u[2]) + (0.02 if n > 3 else 0.0)
        step = (2 * math.pi / n) * ((0.84 + 0.12 * u[3]) if n > 3 else (0.82 + 0.16 * u[3]))
        size = {3: 0.39, 4: 0.34, 5: 0.29}[n] if high else {3: 0.30, 4: 0.26, 5: 0.225}[n]
        if u[5] < 0.4:  # lobes in a heap
            ring, size = ring * (0.84 if high else 0.86), size * (1.08 if high else 1.18)
        centres, axes, angles, wobbles = [], [], [], []
        for k in range(n):
            a, b, c, d, e = u[10 + 5 * k : 15 + 5 * k]
            angle = k * step + 0.35 * (a - 0.5)
            radius = ring * (0.84 + 0.26 * b)
            centres.append((radius * math.cos(angle), radius * math.sin(angle)))
            axes.append((size * (0.92 + 0.33 * c), size * (1.02 - 0.22 * c)))
            angles.append(angle + math.pi / 2 + 1.4 * (d - 0.5))
            wobbles.append((0.12 * e, 40.0 * e))
        return _lobes(x, y, centres, axes, angles, wobbles, 0.03 + 0.03 * u[4], 0.4 + 0.6 * u[6])
    a = (0.93 + 0.04 * u[1]) if high else (0.70 + 0.08 * u[1])
    table = 1 + rough
    first = 2 * math.pi * u[2]
    for k in range(3 + int(2 * u[3])):
        centre = first + k * (1.35 + 0.5 * u[4]) + 0.6 * (u[10 + k] - 0.5)
        table = table - (0.20 + 0.32 * u[20 + k]) * bump(centre, 0.28 + 0.3 * u[30 + k])
    return _polar(x - 0.08 * (u[5] - 0.5), y, a * np.clip(table, 0.3, 1.15))
