"""A picture of a digit → the strokes of a pen that could have drawn it: thinned to one pixel, and followed."""

from __future__ import annotations

import numpy as np
from PIL import Image

Stroke = list[tuple[float, float]]
_AROUND = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]  # clockwise from above


def strokes_of(pixels: np.ndarray) -> list[Stroke]:
    """Pixels (28, 28) uint8 → strokes of points (x, y), in 0 to 1 of the digit's box."""
    big = Image.fromarray(pixels).resize((84, 84), Image.Resampling.BICUBIC)
    thin = thinned(np.pad(np.asarray(big) > 110, 1))
    strokes = [smooth(path) for path in followed(thin)]
    points = np.concatenate(strokes)
    low, size = points.min(axis=0), max(np.ptp(points, axis=0).max(), 1e-9)
    return [[(float(x), float(y)) for y, x in (stroke - low) / size] for stroke in strokes]


def thinned(mask: np.ndarray) -> np.ndarray:
    """One pixel wide, connected as before (Zhang and Suen 1984)."""
    mask = mask.copy()
    while True:
        before = int(mask.sum())
        for part in (0, 1):
            n = [np.roll(mask, (-dy, -dx), (0, 1)) for dy, dx in _AROUND]
            count = sum(one.astype(int) for one in n)
            turns = sum((~n[i] & n[(i + 1) % 8]).astype(int) for i in range(8))
            first, second = (n[0] & n[2] & n[4], n[2] & n[4] & n[6]) if part == 0 else (
                n[0] & n[2] & n[6], n[0] & n[4] & n[6])  # fmt: skip
            mask &= ~((count >= 2) & (count <= 6) & (turns == 1) & ~first & ~second)
        if int(mask.sum()) == before:
            return mask


def followed(thin: np.ndarray) -> list[np.ndarray]:
    """Paths through all pixels: from ends first, straight on at crossings."""
    left = {(int(y), int(x)) for y, x in np.argwhere(thin)}

    def near(at: tuple[int, int]) -> list[tuple[int, int]]:
        return [(at[0] + dy, at[1] + dx) for dy, dx in _AROUND if (at[0] + dy, at[1] + dx) in left]

    paths = []
    while left:
        at = min(left, key=lambda p: (len(near(p)) != 1, p))
        path, way = [at], np.zeros(2)
        left.discard(at)
        while found := near(at):
            steps = [np.subtract(p, at) / np.hypot(*np.subtract(p, at)) for p in found]
            best = int(np.argmax([float(way @ step) - 0.1 * abs(step).sum() for step in steps]))
            way = 0.6 * way + 0.4 * steps[best]
            at = found[best]
            left.discard(at)
            path.append(at)
        paths.append(np.array(path, float))
    longest = max(len(path) for path in paths)
    return [path for path in paths if len(path) >= max(3, 0.08 * longest)] or paths[:1]


def smooth(path: np.ndarray) -> np.ndarray:
    """Every third point, each the mean of its neighbours; ends stay."""
    padded = np.pad(path, ((2, 2), (0, 0)), mode="edge")
    means = np.stack([padded[n : n + len(path)] for n in range(5)]).mean(axis=0)
    means[0], means[-1] = path[0], path[-1]
    return np.concatenate([means[:-1:3], means[-1:]])
