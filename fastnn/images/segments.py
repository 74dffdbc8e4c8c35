"""An ink map → the pieces of ink that are digits: connected, near each other, in reading order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastnn.images.ink import Ink

LEVEL = 0.4  # of full ink: what counts as drawn
_SPECK = 0.03  # of the largest piece: smaller is dust
_FAINT = 0.25  # of the range from black to white: a digit that is cut off has more contrast
_NEAR = 0.25  # of a digit's size: pieces nearer than that belong together
_LIGHT = 0.1  # of the heaviest piece: lighter than this, what lies inside is not the digit

# of a page, in typical heights of its digits
_DUST = 0.12  # larger pieces may be part of a digit
_SMALLEST = 0.35  # digit
_PART = 0.65  # lower pieces may be joined to another
_ABOVE = 0.3  # or below it: how far a part may be
_BESIDE = 0.15  # the same to the side
_LINE = 0.6  # digits nearer than that to a line's middle are of that line


@dataclass(frozen=True)
class Piece:
    """A box around ink, rows and columns of the map, ends excluded; and which pieces of ink are in it.

    Attributes
    ----------
    top, bottom, left, right : int
    mass : float
        Sum of the ink.
    names : tuple of int
        Numbers of its components.
    """

    top: int
    bottom: int
    left: int
    right: int
    mass: float
    names: tuple[int, ...]

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def size(self) -> int:
        """The longer side."""
        return max(self.height, self.width)

    def joined(self, other: Piece) -> Piece:
        """The box around both."""
        return Piece(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
            self.mass + other.mass,
            self.names + other.names,
        )

    def gap(self, other: Piece) -> float:
        """Between two boxes, in pixels; 0 where they overlap."""
        down = max(self.top, other.top) - min(self.bottom, other.bottom)
        right = max(self.left, other.left) - min(self.right, other.right)
        return float(np.hypot(max(0, down), max(0, right)))


def components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the connected pieces of a mask, neighbours across corners included.

    Runs of each row are joined with those they touch in the row below (union by smallest number).

    Parameters
    ----------
    mask : ndarray (height, width)
        bool.

    Returns
    -------
    labels : ndarray (height, width)
        int32, −1 where there is nothing, else from 0 on.
    boxes : ndarray (count, 4)
        top, bottom, left, right of each, ends excluded.
    """
    height, width = mask.shape
    row = width + 3  # of the flat places of runs: rows never touch
    padded = np.zeros((height, row), bool)
    padded[:, 1 : width + 1] = mask
    flat = padded.ravel()
    change = np.flatnonzero(flat[1:] != flat[:-1])
    first, last = change[0::2] + 1, change[1::2] + 1  # of each run, end excluded
    labels = np.full((height, width), -1, np.int32)
    if not first.size:
        return labels, np.zeros((0, 4), int)
    # which runs of the next row touch each run
    low = np.searchsorted(last, first + row, "left")
    high = np.searchsorted(first, last + row, "right")
    count = np.maximum(high - low, 0)
    upper = np.repeat(np.arange(first.size), count)
    lower = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
    parent = np.arange(first.size)
    while True:
        a, b = parent[upper], parent[lower]
        if (a == b).all():
            break
        smaller = np.minimum(a, b)
        np.minimum.at(parent, a, smaller)
        np.minimum.at(parent, b, smaller)
        while (parent != parent[parent]).any():
            parent = parent[parent]
    names, numbers = np.unique(parent, return_inverse=True)
    labels[mask] = np.repeat(numbers, last - first)
    order, begins = np.argsort(numbers, kind="stable"), np.searchsorted(np.sort(numbers), np.arange(len(names)))
    rows, left, right = first[order] // row, first[order] % row - 1, last[order] % row - 1
    extremes = (np.minimum, rows), (np.maximum, rows + 1), (np.minimum, left), (np.maximum, right)
    return labels, np.stack([extreme.reduceat(places, begins) for extreme, places in extremes], 1)


def pieces_of(ink: Ink) -> tuple[np.ndarray, list[Piece]]:
    """Label the ink of a map; the pieces that are no dust, heaviest first; none where all are faint and at an edge."""
    drawn = ink.map >= LEVEL
    labels, boxes = components(drawn)
    if not len(boxes):
        return labels, []
    mass = np.bincount(labels[drawn], ink.map[drawn], len(boxes))
    order = np.argsort(-mass, kind="stable")
    pieces = [_piece(boxes[n], mass[n], n) for n in order if mass[n] >= _SPECK * mass[order[0]]]
    if ink.contrast < _FAINT and all(_at_edge(piece, ink.map.shape) for piece in pieces):
        return labels, []  # what is left of light and lines where a picture ends
    return labels, pieces


def _piece(box: np.ndarray, mass: float, name: int) -> Piece:
    top, bottom, left, right = map(int, box)
    return Piece(top, bottom, left, right, float(mass), (int(name),))


def one_digit(pieces: list[Piece], shape: tuple[int, ...]) -> Piece:
    """The piece that is the digit, with what lies near it: the heaviest that does not hang on the picture's edge."""
    inside = [p for p in pieces if not _at_edge(p, shape)]
    digit = (inside or pieces)[0]
    if inside and inside[0].mass < _LIGHT * pieces[0].mass:
        digit = pieces[0]
    changed = True
    rest = [p for p in pieces if p is not digit and (not _at_edge(p, shape) or _at_edge(digit, shape))]
    while changed:
        changed = False
        for other in list(rest):
            if digit.gap(other) <= _NEAR * digit.size:
                digit, changed = digit.joined(other), True
                rest.remove(other)
    return digit


def _at_edge(piece: Piece, shape: tuple[int, ...]) -> bool:
    return piece.top <= 0 or piece.left <= 0 or piece.bottom >= shape[0] or piece.right >= shape[1]


def all_digits(pieces: list[Piece], shape: tuple[int, ...]) -> list[list[Piece]]:
    """Lines from top to bottom, the digits of each from left to right."""
    pieces = [p for p in pieces if not _at_edge(p, shape) or p.size < 0.5 * min(shape)]
    if not pieces:
        return []
    height = _typical_height(pieces)
    digits = _joined_parts([p for p in pieces if p.size >= _DUST * height], height)
    digits = [p for p in digits if p.size >= _SMALLEST * height]
    lines: list[list[Piece]] = []
    for digit in sorted(digits, key=lambda p: p.top + p.bottom):
        middle = (digit.top + digit.bottom) / 2
        near = [n for n in lines[-1:] if abs(middle - np.mean([(p.top + p.bottom) / 2 for p in n])) < _LINE * height]
        if near:
            near[0].append(digit)
        else:
            lines.append([digit])
    return [sorted(line, key=lambda p: p.left + p.right) for line in lines]


def _typical_height(pieces: list[Piece]) -> float:
    """The height that half of the ink is below: broken parts and dust weigh little."""
    order = sorted(pieces, key=lambda p: p.height)
    ink = np.cumsum([p.mass for p in order])
    return float(order[int(np.searchsorted(ink, ink[-1] / 2))].height)


def _joined_parts(pieces: list[Piece], height: float) -> list[Piece]:
    """Parts of one digit joined: those that lie above each other, or hardly apart, one of them small."""
    joined: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: -p.mass):
        for n, other in enumerate(joined):
            overlap = min(piece.right, other.right) - max(piece.left, other.left)
            above = overlap > 0.5 * min(piece.width, other.width)
            small = piece.height < _PART * height
            if small and piece.gap(other) < (_ABOVE if above else _BESIDE) * height:
                joined[n] = other.joined(piece)
                break
        else:
            joined.append(piece)
    return joined
