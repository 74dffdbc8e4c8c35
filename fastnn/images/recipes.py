"""Pictures → what a network was trained on, by the name that its model file keeps.

MNIST's digits were cut to their ink, fitted into 20x20 with their aspect kept, anti-aliased, and placed in 28x28 with
their centre of mass in the middle (LeCun et al. 1998). A picture that is already so comes through as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fastnn.images.ink import BLANK, Ink, Trace, blurred, find_ink, grey_of, grown
from fastnn.images.segments import Piece, all_digits, one_digit, pieces_of

SIDE = 28
BOX = 20
MIDDLE = 14.0  # row and column of the centre of mass of MNIST's digits: 14.0 ± 0.3
PEN = (2.2, 3.4)  # pixels of 20: how wide MNIST's strokes are; others are brought to the nearer end
SLANT = 0.6  # columns a row, at most: MNIST's digits lean less
_FINE = 4  # times 20: the size at which the pen is measured and changed
_ROWS, _COLUMNS = np.indices((SIDE, SIDE), np.float32).reshape(2, -1)
_MOMENTS = np.stack([_ROWS - MIDDLE, _COLUMNS - MIDDLE, np.ones_like(_ROWS)], 1)
_BLANK = "blank picture: the answer means nothing"


@dataclass(frozen=True)
class Prepared:
    """A picture as the network takes it.

    Attributes
    ----------
    pixels : ndarray (28, 28)
        uint8, 0 for paper to 255 for ink.
    warning : str, optional
        What a person should know about the answer.
    box : tuple of float, optional
        (left, top, right, bottom) of its ink, in shares (0 to 1) of the width and height of the picture.
    """

    pixels: np.ndarray
    warning: str | None = None
    box: tuple[float, float, float, float] | None = None


def blank() -> Prepared:
    """What is made of a picture without ink."""
    return Prepared(np.zeros((SIDE, SIDE), np.uint8), _BLANK)


def prepare_digit(picture: np.ndarray, trace: Trace | None = None) -> Prepared:
    """A picture of one digit, on paper of any kind and size → 28x28 as MNIST was made.

    Parameters
    ----------
    picture : ndarray (height, width) or (height, width, 3)
        float32, 0 black to 1 white.
    trace : callable, optional
        Shown each step.
    """
    grey = grey_of(picture)
    small = min(grey.shape)
    warning = f"enlarged from {grey.shape[1]} x {grey.shape[0]} pixels" if small < 8 else None
    if grey.shape == (SIDE, SIDE):
        (ready,), (pixels,) = ready_digits(grey[None])
        if ready:
            if trace:
                trace("as it is", pixels / 255)
            return Prepared(pixels, warning)
    ink = find_ink(picture, trace)
    if ink is None:
        return blank()
    labels, pieces = pieces_of(ink)
    if not pieces:
        return blank()
    digit = one_digit(pieces, ink.map.shape)
    return Prepared(_normal(ink, labels, digit, trace), warning, _box(digit, ink))


def prepare_digits(picture: np.ndarray, trace: Trace | None = None) -> list[list[Prepared]]:
    """Every digit of a picture: lines from top to bottom, the digits of each from left to right."""
    ink = find_ink(picture, trace)
    if ink is None:
        return []
    labels, pieces = pieces_of(ink)
    lines = all_digits(pieces, ink.map.shape)
    return [[Prepared(_normal(ink, labels, digit), None, _box(digit, ink)) for digit in line] for line in lines]


def _box(piece: Piece, ink: Ink) -> tuple[float, float, float, float]:
    height, width = ink.map.shape
    return piece.left / width, piece.top / height, piece.right / width, piece.bottom / height


def _normal(ink: Ink, labels: np.ndarray, digit: Piece, trace: Trace | None = None) -> np.ndarray:
    """The ink of a digit, its slant and pen brought to MNIST's, in the box, its centre of mass in the middle."""
    show = trace or (lambda name, step: None)
    cut = _cut(ink.map, labels, digit)
    show("cut out", cut)
    cut = deskewed(cut)
    show("deskewed", cut)
    fine = _fitted(cut, _FINE * BOX)
    fine = with_pen(fine)
    show("pen", fine)
    fitted = np.clip(_fitted(fine, BOX), 0, 1)
    fitted = fitted / max(float(fitted.max()), 1e-6)
    pixels = np.rint(255 * _centred(fitted)).astype(np.uint8)
    show("in the box, centred", pixels / 255)
    return pixels


def _cut(ink: np.ndarray, labels: np.ndarray, digit: Piece) -> np.ndarray:
    """The digit's own ink, with the soft edge around it; other pieces and grain left out."""
    edge = max(1, round(0.02 * digit.size))
    top, left = max(0, digit.top - edge), max(0, digit.left - edge)
    part = np.s_[top : digit.bottom + edge, left : digit.right + edge]
    own = np.isin(labels[part], digit.names) if len(digit.names) > 1 else labels[part] == digit.names[0]
    return np.clip((ink[part] - np.float32(0.15)) * np.float32(1 / 0.6), 0, 1) * grown(own, 2 * edge)


def deskewed(ink: np.ndarray) -> np.ndarray:
    """Ink that leans more than MNIST's sheared back to that: slant = μ₁₁ / μ₀₂, columns a row, from the moments."""
    row, column = _centre(ink)
    down, right = (np.arange(n, dtype=np.float32) - middle for n, middle in zip(ink.shape, (row, column), strict=True))
    upright = float(down**2 @ ink.sum(axis=1))
    slant = float(down @ (ink @ right)) / max(upright, 1e-6)
    excess = slant - float(np.clip(slant, -SLANT, SLANT))
    if excess == 0:
        return ink
    wider = math.ceil(abs(excess) * ink.shape[0] / 2) + 1
    padded = np.pad(ink, ((0, 0), (wider, wider)))
    image = Image.fromarray(padded)
    back = image.transform(
        image.size, Image.Transform.AFFINE, (1, excess, -excess * row, 0, 1, 0), Image.Resampling.BILINEAR
    )
    return np.asarray(back)


def with_pen(ink: np.ndarray) -> np.ndarray:
    """Strokes thinner or thicker than MNIST's brought to the nearer end of its range; in 20 · 4 pixels."""
    width = pen_width(ink) / _FINE
    wanted = float(np.clip(width, *PEN))
    if abs(wanted - width) < 0.1:
        return ink
    move = (wanted - width) / 2 * _FINE  # of each edge, in pixels
    radius = max(1.0, abs(move))
    padded = np.pad(ink, math.ceil(abs(move)) + 2)
    for _ in range(2):  # measured again, since curves and ends move by other amounts
        soft = blurred(np.where(padded > 0.5, 1, padded).astype(np.float32), radius)
        # on a straight edge blurred by r, the value m pixels out is Φ(−m / r)
        level = 0.5 * math.erfc(move / radius / math.sqrt(2))
        slope = math.exp(-((move / radius) ** 2) / 2) / radius / math.sqrt(2 * math.pi)
        padded = np.clip((soft - level) / slope + 0.5, 0, 1).astype(np.float32)
        move = (wanted - pen_width(padded) / _FINE) / 2 * _FINE
        if abs(move) < 0.3:
            break
        radius = max(1.0, abs(move))
    return padded if padded.max() > 0.5 else ink


def pen_width(ink: np.ndarray) -> float:
    """Mean width of strokes: twice the area over the length of the edges, in pixels."""
    mask = np.pad((ink >= 0.5).astype(np.float32), 4)
    soft = blurred(mask, 1.0)
    down, right = soft[2:, 1:-1] - soft[:-2, 1:-1], soft[1:-1, 2:] - soft[1:-1, :-2]
    edges = float(np.sqrt(down**2 + right**2).sum()) / 2  # ∫ |∇| of a step is its length
    return 2 * float(mask.sum()) / max(edges, 1e-6)


def _fitted(ink: np.ndarray, side: int) -> np.ndarray:
    """Cut to what is drawn, its longer side made `side`."""
    rows, columns = np.flatnonzero((ink >= 0.25).any(axis=1)), np.flatnonzero((ink >= 0.25).any(axis=0))
    if not rows.size:
        return ink
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = side / max(ink.shape)
    size = max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale))
    return np.asarray(Image.fromarray(np.ascontiguousarray(ink, np.float32)).resize(size, Image.Resampling.BICUBIC))


def ready_digits(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures that have their ink on clean paper, in the box, its centre of mass in the middle, as they are.

    Parameters
    ----------
    grey : ndarray (N, 28, 28)
        float32, 0 black to 1 white.

    Returns
    -------
    ready : ndarray (N,)
        bool: which of them have.
    pixels : ndarray (N, 28, 28)
        uint8, 0 for paper to 255 for ink; of no use where they have not.
    """
    edge = grey[:, 0]
    black, white = (2 * (edge == paper).sum(axis=1) > SIDE for paper in (0, 1))
    ink = np.where(white[:, None, None], 1 - grey, grey) if white.any() else grey
    flat = ink.reshape(len(ink), -1)
    full = flat.max(axis=1)
    drawn = ink >= 0.25 * full[:, None, None]
    tall, wide = (SIDE - n.argmax(axis=1) - n[:, ::-1].argmax(axis=1) for n in (drawn.any(axis=2), drawn.any(axis=1)))
    side = np.maximum(tall, wide)
    moments = flat @ _MOMENTS  # Σ ink · (row − 14), Σ ink · (column − 14), Σ ink
    centred = (np.abs(moments[:, :2]) <= 1.5 * moments[:, 2:]).all(axis=1)
    ready = (black | white) & (full >= BLANK) & (side >= BOX - 5) & (side <= BOX + 1) & centred
    return ready, np.rint(255 * ink).astype(np.uint8)


def _centre(ink: np.ndarray) -> tuple[float, float]:
    """Row and column of the centre of mass."""
    down, across = ink.sum(axis=1), ink.sum(axis=0)
    total = float(down.sum())
    return float(down @ np.arange(len(down))) / total, float(across @ np.arange(len(across))) / total


def _centred(ink: np.ndarray) -> np.ndarray:
    """`ink` in 28x28 zeros, its centre of mass as near the middle as whole pixels and the edges allow."""
    places = []
    for axis, centre in enumerate(_centre(ink)):
        start = math.floor(MIDDLE - centre + 0.5)
        places.append(min(max(start, 0), SIDE - ink.shape[axis]))
    out = np.zeros((SIDE, SIDE), np.float32)
    out[places[0] : places[0] + ink.shape[0], places[1] : places[1] + ink.shape[1]] = ink
    return out


def prepare_plain(picture: np.ndarray, trace: Trace | None = None) -> Prepared:
    """A thing that fills its picture → 28x28, aspect kept, light on dark as Fashion-MNIST is."""
    grey = grey_of(picture)
    low, high = float(grey.min()), float(grey.max())
    if high - low < BLANK:
        return blank()
    if grey.shape == (SIDE, SIDE) and float(np.median(grey[0])) <= 0.5:
        return Prepared(np.rint(255 * grey).astype(np.uint8))
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = float(np.median(border))
    thing = np.clip(paper - grey if paper > (low + high) / 2 else grey - paper, 0, None)
    thing = thing / max(float(thing.max()), 1e-6)
    scale = SIDE / max(thing.shape)
    size = (max(1, round(thing.shape[1] * scale)), max(1, round(thing.shape[0] * scale)))
    fitted = np.clip(np.asarray(Image.fromarray(thing.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)), 0, 1)
    out = np.zeros((SIDE, SIDE), np.float32)
    top, left = (SIDE - fitted.shape[0]) // 2, (SIDE - fitted.shape[1]) // 2
    out[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return Prepared(np.rint(255 * out).astype(np.uint8))


# The name is stored in the model file, so that every door treats pictures as training did.
RECIPES = {"mnist": prepare_digit, "plain": prepare_plain}
