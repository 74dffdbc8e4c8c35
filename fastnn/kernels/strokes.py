"""Drawing digits: splines bent at random, drawn with a round pen, anti-aliased, placed as MNIST's are."""

import math
from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import allocating, jit
from fastnn.kernels.random import spread, stream, uniform

SIDE = 28  # pixels of a picture's side
MIDDLE = 14.5  # where the centre of mass goes: the middle of pixel 14 (MNIST's lie at 14.0 ± 0.3)
BOX = 20.0  # the digit fits into a square of this many pixels (MNIST)
_PIECES = 6  # straight pieces a spline segment is drawn in
_MOST_POINTS = 160


class Glyphs(NamedTuple):
    """Every handwritten form of every digit, as strokes of control points (x to the right, y down, 0 to 1)."""

    points: np.ndarray  # float64 (points, 2)
    strokes: np.ndarray  # int64 (strokes + 1,): first point of each stroke
    forms: np.ndarray  # int64 (forms + 1,): first stroke of each form
    digits: np.ndarray  # int64 (11,): first form of each digit


@jit
def _spline(a, b, c, d, t):
    """Catmull-Rom: the curve from b to c whose slope at b is that of a to c, and at c that of b to d."""
    return b + 0.5 * t * ((c - a) + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


@jit
def _bend(glyphs, first, last, state, bent):
    """Control points `first` to `last`, moved: each at random, then all by one warp, slant, aspect, rotation."""
    aspect = 0.88 + 0.4 * spread(state)
    slant = 0.2 + 1.2 * spread(state)
    angle = 0.35 * spread(state)
    wobble = 0.1 + 0.2 * uniform(state)
    warp_x, warp_y = 0.22 * spread(state), 0.22 * spread(state)
    phase_x, phase_y = 6.2832 * uniform(state), 6.2832 * uniform(state)
    taper = 0.6 * spread(state)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = 0.0, 0.0
    for at in range(first, last):
        points, before = glyphs.points, max(at - 1, first)
        same = points[at, 0] == points[before, 0] and points[at, 1] == points[before, 1]
        if not (at > first and same):  # or a corner: a point that is there twice
            x = glyphs.points[at, 0] - 0.5 + wobble * spread(state)
            y = glyphs.points[at, 1] - 0.5 + wobble * spread(state)
        u = x * (1 + taper * y) + warp_x * math.sin(4.5 * y + phase_x)
        v = y + warp_y * math.sin(4.5 * x + phase_y)
        u = u * aspect - slant * v
        bent[at - first, 0] = cos * u - sin * v
        bent[at - first, 1] = sin * u + cos * v


@jit
def _trace(glyphs, form, bent, path):
    """The bent strokes of a form as points of straight pieces: path (n, 3) x, y, pen down. Returns n."""
    n = 0
    origin = glyphs.strokes[glyphs.forms[form]]
    for stroke in range(glyphs.forms[form], glyphs.forms[form + 1]):
        first, last = glyphs.strokes[stroke] - origin, glyphs.strokes[stroke + 1] - origin
        for axis in range(2):
            path[n, axis] = bent[first, axis]
        path[n, 2] = 0
        n += 1
        for at in range(first, last - 1):
            before, after = max(at - 1, first), min(at + 2, last - 1)
            for piece in range(1, _PIECES + 1):
                for axis in range(2):
                    path[n, axis] = _spline(
                        bent[before, axis], bent[at, axis], bent[at + 1, axis], bent[after, axis], piece / _PIECES
                    )
                path[n, 2] = 1
                n += 1
    return n


@jit
def _place(path, n, pen):
    """Scale the path so that its ink fits the box; put the middle of its length at the picture's centre."""
    low_x, high_x, low_y, high_y = path[0, 0], path[0, 0], path[0, 1], path[0, 1]
    length, middle_x, middle_y = 1e-9, 0.0, 0.0
    for at in range(n):
        low_x, high_x = min(low_x, path[at, 0]), max(high_x, path[at, 0])
        low_y, high_y = min(low_y, path[at, 1]), max(high_y, path[at, 1])
        if path[at, 2] == 1:
            step = math.hypot(path[at, 0] - path[at - 1, 0], path[at, 1] - path[at - 1, 1])
            length += step
            middle_x += 0.5 * step * (path[at, 0] + path[at - 1, 0])
            middle_y += 0.5 * step * (path[at, 1] + path[at - 1, 1])
    scale = (BOX - 2 * pen) / max(high_x - low_x, high_y - low_y, 1e-9)
    for at in range(n):
        path[at, 0] = (path[at, 0] - middle_x / length) * scale + MIDDLE
        path[at, 1] = (path[at, 1] - middle_y / length) * scale + MIDDLE


@jit
def _draw(path, n, pen, softness, ink, picture):
    """picture[y, x] = the darkest of ink · clip((pen − distance to a piece) / softness + ½, 0, 1)."""
    reach = pen + softness
    for at in range(1, n):
        if path[at, 2] == 0:
            continue
        ax, ay = path[at - 1, 0] - 0.5, path[at - 1, 1] - 0.5  # pixel centres lie on whole numbers
        bx, by = path[at, 0] - 0.5, path[at, 1] - 0.5
        dx, dy = bx - ax, by - ay
        square = max(dx * dx + dy * dy, 1e-12)
        for row in range(max(0, math.ceil(min(ay, by) - reach)), min(SIDE, math.floor(max(ay, by) + reach) + 1)):
            for column in range(max(0, math.ceil(min(ax, bx) - reach)), min(SIDE, math.floor(max(ax, bx) + reach) + 1)):
                t = min(1.0, max(0.0, ((column - ax) * dx + (row - ay) * dy) / square))
                distance = math.hypot(column - ax - t * dx, row - ay - t * dy)
                cover = min(1.0, max(0.0, (pen - distance) / softness + 0.5))
                picture[row, column] = max(picture[row, column], np.uint8(ink * cover))


@allocating
def draw_digits(glyphs, seed, first, x, y, team):
    """Pictures `first`, `first` + 1, … of the endless series that `seed` names.

    x (N, 784) uint8, zero   y (N,) int32   →  both overwritten. A picture depends on the seed and its number alone.
    """
    state = np.empty(1, np.uint64)
    bent = np.empty((_MOST_POINTS, 2))
    path = np.empty((_MOST_POINTS * _PIECES, 3))
    for i in range(team.thread, x.shape[0], team.threads):
        state[0] = stream(seed, first + i)
        digit = int(uniform(state) * 10)
        forms = glyphs.digits[digit + 1] - glyphs.digits[digit]
        form = glyphs.digits[digit] + int(uniform(state) * forms)
        points = glyphs.strokes[glyphs.forms[form]], glyphs.strokes[glyphs.forms[form + 1]]
        _bend(glyphs, points[0], points[1], state, bent)
        n = _trace(glyphs, form, bent, path)
        pen = 1.0 + 0.75 * spread(state)
        _place(path, n, pen)
        softness = 0.5 + 0.5 * uniform(state)
        ink = 255.0 - 40.0 * uniform(state) * uniform(state)
        _draw(path, n, pen, softness, ink, x[i].reshape(SIDE, SIDE))
        y[i] = digit
    return x.shape[0]
