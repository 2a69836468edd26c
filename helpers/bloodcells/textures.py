"""Noise that every picture shares: made once from fixed seeds, tileable, looked up at shifted places."""

import functools

import numpy as np
from scipy import ndimage

SIDE = 512


@functools.cache
def smooth(sigma, seed):
    """Tileable noise [SIDE, SIDE], mean 0 and standard deviation 1, smoothed over `sigma` texels."""
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal((SIDE, SIDE))
    noise = ndimage.gaussian_filter(noise, sigma, mode="wrap")
    noise -= noise.mean()
    return (noise / noise.std()).astype(np.float32)


@functools.cache
def band(fine, coarse, seed):
    """Tileable noise of one grain size only: what `fine` smoothing keeps and `coarse` smoothing takes away."""
    noise = np.random.Generator(np.random.PCG64(seed)).standard_normal((SIDE, SIDE))
    noise = ndimage.gaussian_filter(noise, fine, mode="wrap") - ndimage.gaussian_filter(noise, coarse, mode="wrap")
    return (noise / noise.std()).astype(np.float32)


def lookup(texture, x, y, pitch, rng):
    """The texture at the grid of columns `x` and rows `y`, `pitch` texels a unit, shifted by a random amount."""
    dx, dy = rng.integers(SIDE, size=2)
    columns = np.floor(np.asarray(x, np.float64) * pitch).astype(np.int64) + dx
    rows = np.floor(np.asarray(y, np.float64) * pitch).astype(np.int64) + dy
    return texture[(rows % SIDE)[:, None], (columns % SIDE)[None, :]]


@functools.cache
def _grain():
    return np.random.Generator(np.random.PCG64(7)).standard_normal((SIDE, SIDE, 3)).astype(np.float32)


def grain(size, rng):
    """White noise [size, size, 3] with standard deviation 1: a shifted view of one shared sheet."""
    dx, dy = rng.integers(SIDE, size=2)
    rows, columns = (np.arange(size) + dy) % SIDE, (np.arange(size) + dx) % SIDE
    return _grain()[rows][:, columns]
