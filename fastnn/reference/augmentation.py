"""Pictures and features changed anew for every example and epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastnn.reference.random import PICTURES, key_of, mask_bits, mask_limit

Array = np.ndarray


def symmetric(key: int, place: int) -> float:
    """A number in [−1, 1)."""
    bits = mask_bits(key, place)
    return float(np.float32(bits - 2**32 if bits >= 2**31 else bits) * np.float32(2.0**-31))


def bell(key: int, place: int) -> float:
    """A bell-shaped number of mean 0 and standard deviation 1: four uniform ones added."""
    return sum(symmetric(key, 4 * place + n) for n in range(4)) * math.sqrt(3) / 2


def gaussian(size: int, sigma: float) -> Array:
    """exp(−(i − j)² / 2σ²) over its sum for all j.    →  (size, size)"""
    reach = np.arange(-100 * size, 100 * size + 1)
    distance = np.subtract.outer(np.arange(size), np.arange(size))
    return np.exp(-(distance**2) / (2 * sigma**2)) / np.exp(-(reach**2) / (2 * sigma**2)).sum()


def elastic_field(height: int, width: int, sigma: float, key: int, axis: int, stride: int) -> Array:
    """G U Gᵀ: U uniform in ±1, its rows `stride` places apart, smoothed by a Gaussian    (Simard et al. 2003)."""
    noise = [[symmetric(key, (axis * height + r) * stride + c) for c in range(width)] for r in range(height)]
    return gaussian(height, sigma) @ np.array(noise) @ gaussian(width, sigma).T


@dataclass(frozen=True)
class Change:
    """How far pictures are changed; the kernel's `augment.Change`."""

    shift: float = 0.0
    rotation: float = 0.0
    scaling: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    elastic_sigma: float = 4.0
    pen: float = 0.0
    mirror: float = 0.0
    pixel_noise: float = 0.0


def find_places(change: Change, shape: tuple[int, int], key: int, stride: int) -> Array:
    """Row and column that each pixel comes from.    →  (2, height, width)"""
    h, w = shape
    angle, slant = change.rotation * symmetric(key, 0), change.shear * symmetric(key, 1)
    wide, high = 1 + change.scaling * symmetric(key, 2), 1 + change.scaling * symmetric(key, 3)
    wide = -wide if symmetric(key, 7) < 2 * change.mirror - 1 else wide
    moved = np.array([change.shift * symmetric(key, 4), change.shift * symmetric(key, 5)])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    slanted = np.array([[1, 0], [slant, 1]]) @ np.diag([high, wide])
    centre = np.array([(h - 1) / 2, (w - 1) / 2])
    grid = np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), -1) - centre - moved
    places = np.moveaxis(grid @ np.linalg.inv(turn.T @ slanted).T + centre, -1, 0)
    if change.elastic:
        for axis in range(2):
            field = elastic_field(h, w, change.elastic_sigma, (key + 1) % 2**32, axis, stride)
            places[axis] += change.elastic * field
    return places


def sample(picture: Array, where: Array) -> Array:
    """The picture between its pixels, in proportion; 0 outside."""
    h, w = picture.shape
    padded = np.pad(picture, 2)
    y, x = np.clip(where[0], -1, h) + 2, np.clip(where[1], -1, w) + 2
    i, j = y.astype(int), x.astype(int)
    v, u = y - i, x - j
    above = padded[i, j] * (1 - u) + padded[i, j + 1] * u
    return above * (1 - v) + (padded[i + 1, j] * (1 - u) + padded[i + 1, j + 1] * u) * v


def press(picture: Array, pen: float) -> Array:
    """Thicker strokes (towards the brightest of each pixel and its four neighbours) or thinner, by a share `pen`."""
    padded = np.pad(picture, 1)
    around = [padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
    return picture + abs(pen) * (np.max(around, axis=0) if pen > 0 else np.min(around, axis=0)) - abs(pen) * picture


def change_picture(picture: Array, change: Change, seed: int, epoch: int, example: int, stride: int) -> Array:
    """One picture, 0 to 255, moved, turned, bent, redrawn and made noisy as (seed, epoch, example) name it."""
    key = key_of(seed, PICTURES, epoch, example)
    drawn = sample(picture.astype(np.float64), find_places(change, picture.shape, key, stride))
    if change.pen:
        drawn = press(drawn, change.pen * symmetric(key, 6))
    if change.pixel_noise:
        noise = [bell((key + 2) % 2**32, place) for place in range(picture.size)]
        drawn = drawn + 255 * change.pixel_noise * np.array(noise).reshape(picture.shape)
    return np.clip(drawn, 0, 255)


def add_noise(x: Array, sigma: float, key: int) -> Array:
    """x + σ · noise.    x (D,)"""
    return x + sigma * np.array([bell(key, k) for k in range(x.size)])


def drop_features(x: Array, p: float, key: int) -> Array:
    """0 with probability p, else x.    x (D,)"""
    return x * [mask_bits(key, k) >= mask_limit(p) for k in range(x.size)]
