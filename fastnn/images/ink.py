"""A photographed or scanned picture → its ink: 0 paper, 1 the full stroke, whatever the light, paper and colour.

The paper is what remains when everything narrower than a wide window is taken away (morphological closing or opening
of a small copy), so that slopes of light and the edges of shadows belong to it. What differs from it, dark on light or
light on dark, in the colour in which it differs most, is ink; lines that run from edge to edge are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

Trace = Callable[[str, np.ndarray], None]  # told the name of a step, and its picture, 0 to 1
WORK = 640  # pixels of the longer side that all this is done at
BLANK = 0.06  # of the range from black to white: less than this is no ink
_CELLS = 96  # of the small copy's longer side
_WINDOW = 0.3  # of its shorter side: wider than any stroke
_PEAK = 0.999  # share of a map that is below full ink
_CLEAN_PEAK = 0.9999  # the same where paper has no grain: a small digit on a large sheet has as many pixels
_NOISE = 2.0  # deviations of the paper's grain, before it is smoothed: less than this is no ink
_SOFT = 0.002  # of the longer side: how far grain is smoothed
_LEAN = 10  # degrees that ruled lines may be off
_CLEAN = 1.5 / 255  # of one value: as near as a byte can be
_RULED = 60  # pixels of the shorter side below which no lines are looked for
_FAINT = 0.02  # of the range from black to white: less than this is no line
_CROSSING = 1.5  # times a line: what is stronger on it is a stroke
_POOL = 4  # rows of the coarse copy's
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Ink:
    """What was found on the paper.

    Attributes
    ----------
    map : ndarray (rows, columns)
        float32, 0 paper to 1 the full stroke; at most 640 pixels a side, of the picture's aspect.
    contrast : float
        How far the full stroke is from the paper, of the range from black to white.
    """

    map: np.ndarray
    contrast: float


def grey_of(picture: np.ndarray) -> np.ndarray:
    """(height, width) of a picture with or without colours."""
    return picture if picture.ndim == 2 else picture @ _LUMINANCE


def find_ink(picture: np.ndarray, trace: Trace | None = None) -> Ink | None:
    """Separate ink from paper; None where there is none.

    Parameters
    ----------
    picture : ndarray (height, width) or (height, width, 3)
        float32, 0 black to 1 white.
    trace : callable, optional
        Shown each step.
    """
    show = trace or (lambda name, step: None)
    show("picture", picture)
    if np.ptp(grey_of(picture)) < BLANK and np.ptp(picture) < BLANK:
        return None
    scale = min(1.0, WORK / max(picture.shape[:2]))
    work = resized(picture, scale) if scale < 1 else picture
    channels = [work] if work.ndim == 2 else [np.ascontiguousarray(work[..., c]) for c in range(3)]
    ink = _on_clean_paper(work) if work.ndim == 2 else None
    clean = ink is not None
    if ink is None:
        ink = _differences(channels, 1 if _is_dark(channels) else -1)
    show("paper removed", ink / max(float(ink.max()), 1e-6))
    ink = without_lines(ink)
    show("lines removed", ink / max(float(ink.max()), 1e-6))
    grain = 0.0 if clean else float(np.percentile(ink[::2, ::2], 60)) / 0.2533  # half of a bell, the other cut off to 0
    smooth = blurred(ink, _SOFT * max(ink.shape)) if grain > 0 else ink
    peak = _nearly_highest(smooth, _PEAK if grain > 0 else _CLEAN_PEAK)
    if peak < max(BLANK, _NOISE * grain):
        return None
    return Ink(np.minimum(smooth * np.float32(1 / peak), 1), peak)


def _nearly_highest(ink: np.ndarray, share: float) -> float:
    """The value that this share of a map is not above."""
    drawn, beyond = ink[ink > 0], round((1 - share) * ink.size)
    return float(np.partition(drawn, -1 - beyond)[-1 - beyond]) if beyond < len(drawn) else 0.0


def _on_clean_paper(grey: np.ndarray) -> np.ndarray | None:
    """Ink where most of a picture, and of its border, is one and the same value, as in drawings and screenshots."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = np.median(border)
    ink = np.abs(grey - paper)
    drawn = ink >= _CLEAN
    if 0.4 * grey.size < np.count_nonzero(drawn) or (np.abs(border - paper) < _CLEAN).mean() < 0.6:
        return None
    return ink * drawn


def _differences(channels: list[np.ndarray], sign: int) -> np.ndarray:
    """How much darker (sign 1) or lighter (−1) than the paper each pixel is, in the channels where that is most."""
    differences = [paper_of(sign * channel) - sign * channel for channel in channels]
    differences = [np.clip(one - np.median(one[::2, ::2]), 0, None) for one in differences]
    if len(differences) == 1:
        return differences[0]
    strength = [float(np.percentile(one[::2, ::2], 99.5)) ** 2 for one in differences]
    total = sum(strength)
    shares = [one / total if total else 1 / len(differences) for one in strength]
    return np.sum([np.float32(share) * one for share, one in zip(shares, differences, strict=True)], axis=0)


def paper_of(channel: np.ndarray) -> np.ndarray:
    """What a picture would be without anything dark that is narrower than the window    (height, width)"""
    shrink = min(1.0, _CELLS / max(channel.shape))
    small = resized(channel, shrink) if shrink < 1 else channel
    reach = max(1, round(_WINDOW * min(small.shape) / 2))
    closed = -_highest(-_highest(small, reach), reach)
    closed = blurred(closed, 1.0) if shrink < 1 else closed
    if shrink == 1:
        return closed
    return np.asarray(Image.fromarray(closed).resize(channel.shape[::-1], Image.Resampling.BILINEAR))


def _highest(values: np.ndarray, reach: int) -> np.ndarray:
    """The largest value within `reach` rows and columns."""
    for axis in (0, 1):
        around = [(reach, reach) if a == axis else (0, 0) for a in range(2)]
        padded = np.pad(values, around, constant_values=-np.inf)
        values = sliding_window_view(padded, 2 * reach + 1, axis).max(axis=-1)
    return values


def _is_dark(channels: list[np.ndarray]) -> bool:
    """Whether ink is darker than paper: what stands out of a smooth surface of light does so to that side.

    The surface is quadratic, fitted to the smallest distances instead of squares, so that it is the paper's; the cubes
    of what is left are summed, since edges of shadows leave little to either side and strokes much to one.
    """
    skew = 0.0
    for channel in channels:
        shrink = min(1.0, 1.5 * _CELLS / max(channel.shape))
        small = resized(channel, shrink) if shrink < 1 else channel
        y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in small.shape)
        y, x = (part.ravel() for part in np.broadcast_arrays(y[:, None], x[None, :]))
        terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])
        values, trust = small.ravel(), np.ones(small.size, np.float32)
        for _ in range(6):
            trusted = terms * trust
            surface = np.linalg.lstsq(trusted @ terms.T, trusted @ values, rcond=None)[0] @ terms
            trust = 1 / np.maximum(np.abs(values - surface), 0.01)
        skew += float(((values - surface) ** 3).sum())
    return skew <= 0


def without_lines(ink: np.ndarray) -> np.ndarray:
    """Ruled lines taken away: straight, from edge to edge, within 10 degrees of level or upright."""
    for turned in (False, True):
        cleaned = _without_level_lines(ink.T if turned else ink)
        ink = cleaned.T if turned else cleaned
    return ink


def _without_level_lines(ink: np.ndarray) -> np.ndarray:
    """The lines nearest to level, all of one slope: found in a coarse copy, then to a quarter of a degree."""
    height, width = ink.shape
    ends = max(1, width // 33)
    if min(height, width) < _RULED or min(ink[:, :ends].max(), ink[:, -ends:].max()) <= _FAINT:
        return ink  # too small for lines, or nothing at one of the edges where they would begin and end
    padded = np.pad(ink, ((0, -height % _POOL), (0, 0)))
    coarse = padded.reshape(-1, _POOL, width).max(axis=1)[:, :: max(1, width // 48)]
    ratio = coarse.shape[1] / width * _POOL  # of slopes, in the coarse copy
    rough = max(range(-_LEAN, _LEAN + 1), key=lambda turn: _energy(coarse, math.tan(math.radians(turn)) / ratio))
    fine = ink[:, :: max(1, width // 96)]
    ratio = fine.shape[1] / width
    slopes = [math.tan(math.radians(rough + quarter / 4)) for quarter in range(-3, 4)]
    slope = max(slopes, key=lambda slope: _energy(fine, slope / ratio))
    strength = _profile(fine, slope / ratio)
    if not strength.any():
        return ink
    # with the blur on both sides of a line; a stroke across it is stronger
    around = np.max([np.roll(strength, n) for n in (-2, -1, 0, 1, 2)], axis=0)
    rows = np.arange(height)[:, None] + _shifts(width, slope)[None, :]
    ruled = around[np.clip(rows, 0, height - 1)] * ((rows >= 0) & (rows < height))
    return np.where((ruled > 0) & (ink < _CROSSING * ruled), 0, ink)


def _shifts(width: int, slope: float) -> np.ndarray:
    """By how many rows each column moves when lines of this slope are made level, about the middle."""
    return np.rint(slope * (np.arange(width) - (width - 1) / 2)).astype(int)


def _energy(ink: np.ndarray, slope: float) -> float:
    return float((_profile(ink, slope) ** 2).sum())


def _profile(ink: np.ndarray, slope: float) -> np.ndarray:
    """How strong a line of this slope is through each row, 0 where none runs from edge to edge    (height,)"""
    height, width = ink.shape
    rows = np.arange(height)[:, None] - _shifts(width, slope)[None, :]
    inside = (rows >= 0) & (rows < height)
    values = np.where(inside, ink[np.clip(rows, 0, height - 1), np.arange(width)[None, :]], np.inf)
    count, first, at = inside.sum(axis=1), inside.argmax(axis=1), np.arange(height)
    ordered = np.sort(values, axis=1)
    quarter, middle = ordered[at, count // 4 - (count == 0)], ordered[at, count // 2 - (count == 0)]
    ends = max(1, width // 33)
    left = values[at[:, None], np.minimum(first[:, None] + np.arange(ends), width - 1)].mean(axis=1)
    right = values[at[:, None], np.maximum((first + count)[:, None] - 1 - np.arange(ends), 0)].mean(axis=1)
    runs = (count > width // 6) & (quarter > _FAINT) & (left > 0.3 * middle) & (right > 0.3 * middle)
    return np.where(runs, middle, 0)


def resized(picture: np.ndarray, scale: float) -> np.ndarray:
    """A smaller copy, each pixel the mean of what it covers."""
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    channels = [picture] if picture.ndim == 2 else [picture[..., c] for c in range(3)]
    small = [np.asarray(Image.fromarray(np.ascontiguousarray(c)).resize(size, Image.Resampling.BOX)) for c in channels]
    return small[0] if picture.ndim == 2 else np.stack(small, -1)


def blurred(values: np.ndarray, radius: float) -> np.ndarray:
    """A Gaussian blur, edges repeated."""
    reach = max(1, math.ceil(3 * radius))
    gaussian = np.exp(-(np.arange(reach + 1, dtype=np.float32) ** 2) / (2 * max(radius, 1e-6) ** 2))
    gaussian /= gaussian[0] + 2 * gaussian[1:].sum()
    for _ in range(2):  # down, and what is then across
        first, last = np.repeat(values[:1], reach, axis=0), np.repeat(values[-1:], reach, axis=0)
        padded, count = np.concatenate([first, values, last]), len(values)
        sums = gaussian[0] * values
        for n in range(1, reach + 1):
            sums += gaussian[n] * (padded[reach - n : reach - n + count] + padded[reach + n : reach + n + count])
        values = np.ascontiguousarray(sums.T)
    return values


def grown(mask: np.ndarray, reach: int) -> np.ndarray:
    """A mask with all that is within `reach` rows and columns of it."""
    for _ in range(2):
        larger, done = mask.copy(), 0
        while done < reach:  # twice as far each time
            step = min(max(1, done), reach - done)
            before = larger.copy()
            larger[step:] |= before[:-step]
            larger[:-step] |= before[step:]
            done += step
        mask = larger.T
    return mask
