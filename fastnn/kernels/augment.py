"""Examples changed before they are read: pictures moved, turned, bent and redrawn, noise, features left out.

Each change is named by (seed, epoch, example), so that nothing depends on threads, batches or interruptions. A picture
is sampled once: every pixel of the result looks up where it comes from, through the inverse of a linear map around the
centre and a smooth random field (elastic deformation, Simard, Steinkraus and Platt 2003).
"""

import math
from typing import NamedTuple

import numpy as np
from numba.core import types

from fastnn.kernels.dense import ROWS
from fastnn.kernels.host import SHAPE
from fastnn.kernels.jit import by_type, jit, kernel
from fastnn.kernels.layout import aligned_zeros, to_panels
from fastnn.kernels.numbers import number
from fastnn.kernels.random import mask_bits, mask_limit, stream
from fastnn.kernels.tiles import rank1, store, zeros

_PICTURES, _NOISE, _DROPS = 2**41, 2**41 + 1, 2**41 + 2  # streams of a seed, beyond those of shuffles and masks
_BORDER = 2  # zeros around a picture, so that sampling needs no test


class Change(NamedTuple):
    """How far examples are changed. Ranges are symmetric: a shift of 2 is anything from −2 to 2."""

    height: int  # of pictures; 0 where examples are none
    width: int
    shift: float  # pixels
    rotation: float  # radians
    scaling: float  # share
    shear: float  # columns a row
    elastic: float  # what the smooth field is multiplied by
    pen: float  # share of one pixel's dilation or erosion
    mirror: float  # share of pictures that are mirrored left to right
    pixel_noise: float  # standard deviation, as a share of full ink
    input_noise: float  # the same of any feature, in units of the scaled feature
    dropout: float  # share of features
    smooth_rows: np.ndarray  # float32 panels (P, height, W): a Gaussian between rows, G
    smooth_columns: np.ndarray  # float32 panels (P, width, W): the same between columns
    seed: int


class Canvas(NamedTuple):
    """A thread's memory, float32."""

    field: np.ndarray  # (3, P, rows, W) panels
    picture: np.ndarray  # (height + 2 · border, width + 2 · border)
    drawn: np.ndarray  # the same
    places: np.ndarray  # (2, height · width): row and column that each pixel comes from


def change_of(height: int, width: int, seed: int, sigma: float, **ranges: float) -> Change:
    """A `Change` of pictures of height x width (0 x 0: of examples that are none), what is not named being 0.

    Parameters
    ----------
    height, width, seed : int
    sigma : float
        Smoothness of the elastic field, in pixels.
    **ranges
        Any of the fields from `shift` to `dropout`.
    """
    names = Change._fields[2:12]
    rows, columns = gaussian(height, sigma), gaussian(width, sigma)
    panel = SHAPE.panel_width(4)
    return Change(
        *(height, width),
        *(float(ranges.get(name, 0.0)) for name in names),
        to_panels(rows, -(-height // SHAPE.rows) * SHAPE.rows),
        to_panels(columns, -(-width // panel) * panel),
        seed,
    )


def gaussian(size: int, sigma: float) -> np.ndarray:
    """exp(−(i − j)² / 2σ²) over its sum for all j, float32 (size, size); what lies outside a picture counts as 0."""
    most = 4 * max(size, math.ceil(sigma))
    reach, distance = np.arange(-most, most + 1), np.subtract.outer(np.arange(size), np.arange(size))
    return (np.exp(-(distance**2) / (2 * sigma**2)) / np.exp(-(reach**2) / (2 * sigma**2)).sum()).astype(np.float32)


def canvases_for(change: Change, threads: int) -> Canvas:
    """The memory of so many threads."""
    panels, rows = change.smooth_columns.shape[0], change.smooth_rows.shape[1]
    shape = (threads, change.height + 2 * _BORDER, change.width + 2 * _BORDER)
    return Canvas(
        aligned_zeros((threads, 3, panels, rows, SHAPE.panel_width(4)), np.dtype(np.float32)),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
        np.zeros((threads, 2, change.height * change.width), np.float32),
    )


@jit
def symmetric(key, place):
    """A number in [−1, 1) that (key, place) name."""
    return np.float32(np.int32(mask_bits(key, np.uint32(place)))) * np.float32(2.0**-31)


@jit
def bell(key, place):
    """A bell-shaped number of mean 0 and standard deviation 1, within ±3.5: four uniform ones added."""
    total = symmetric(key, 4 * place) + symmetric(key, 4 * place + 1)
    total += symmetric(key, 4 * place + 2) + symmetric(key, 4 * place + 3)
    return total * np.float32(math.sqrt(3) / 2)


@jit
def product(x, w, k_size, rows, out):
    """out = x @ w, in panels.    x (K/W, rows, W)   w (H/W, K, W)   →  out (H/W, rows, W) overwritten"""
    width = x.shape[2]
    for p in range(w.shape[0]):
        w_p = w[p]
        for i in range(0, rows, ROWS):
            t = zeros(w_p)
            for q in range(x.shape[0]):
                x_q = x[q]
                for k in range(min(width, k_size - q * width)):
                    t = rank1(t, x_q, i, k, w_p, q * width + k)
            store(t, out[p], i)


@jit
def elastic_field(change, key, axis, field):
    """G U Gᵀ, U uniform in ±1: smooth random displacements of one axis, left in field[2]."""
    noise, half, smooth = field[0], field[1], field[2]
    width = noise.shape[2]
    for p in range(noise.shape[0]):
        noise_p = noise[p]
        for r in range(change.height):
            for c in range(width):
                noise_p[r, c] = symmetric(key, ((axis * change.height + r) * noise.shape[0] + p) * width + c)
    if change.width % width:  # columns that are none
        noise[noise.shape[0] - 1, :, change.width % width :] = 0
    product(change.smooth_rows, noise, change.height, noise.shape[1], half)
    product(half, change.smooth_columns, change.width, noise.shape[1], smooth)


@jit
def find_places(change, key, canvas):
    """Where each pixel of the result comes from: p = A⁻¹ (q − centre − shift) + centre + elastic."""
    h, w = change.height, change.width
    angle, slant = change.rotation * symmetric(key, 0), change.shear * symmetric(key, 1)
    wide, high = 1 + change.scaling * symmetric(key, 2), 1 + change.scaling * symmetric(key, 3)
    wide = -wide if symmetric(key, 7) < 2 * change.mirror - 1 else wide
    down, right = change.shift * symmetric(key, 4), change.shift * symmetric(key, 5)
    sine, cosine = math.sin(angle), math.cos(angle)
    # forward: (row, column) · scale, then column += slant · row, then turned; here its inverse
    rr, rc = np.float32(cosine / high), np.float32(-sine / high)
    cr, cc = np.float32((sine - slant * cosine) / wide), np.float32((cosine + slant * sine) / wide)
    centre_r, centre_c = np.float32((h - 1) / 2), np.float32((w - 1) / 2)
    rows, columns = canvas.places[0], canvas.places[1]
    from_r, from_c = np.float32(centre_r + down), np.float32(centre_c + right)
    for r in range(h):
        for c in range(w):
            y, x = np.float32(r) - from_r, np.float32(c) - from_c
            rows[r * w + c] = rr * y + rc * x + centre_r
            columns[r * w + c] = cr * y + cc * x + centre_c
    if change.elastic > 0:
        strength = np.float32(change.elastic)
        for axis in range(2):
            elastic_field(change, key + np.uint32(1), axis, canvas.field)
            smooth, places = canvas.field[2], canvas.places[axis]
            width = smooth.shape[2]
            for p in range(smooth.shape[0]):
                smooth_p = smooth[p]
                for r in range(h):
                    for c in range(min(width, w - p * width)):
                        places[r * w + p * width + c] += strength * smooth_p[r, c]


@jit
def sample(change, canvas):
    """drawn = picture at the places, between its pixels in proportion (bilinear); 0 outside."""
    h, w = change.height, change.width
    rows, columns, picture, drawn = canvas.places[0], canvas.places[1], canvas.picture, canvas.drawn
    low, high_r, high_c = np.float32(-1), np.float32(h), np.float32(w)
    for r in range(h):
        for c in range(w):
            y, x = rows[r * w + c], columns[r * w + c]
            y = min(max(y, low), high_r) + np.float32(_BORDER)
            x = min(max(x, low), high_c) + np.float32(_BORDER)
            i, j = np.uint32(y), np.uint32(x)
            v, u = y - np.float32(i), x - np.float32(j)
            above = picture[i, j] + u * (picture[i, j + np.uint32(1)] - picture[i, j])
            i += np.uint32(1)
            below = picture[i, j] + u * (picture[i, j + np.uint32(1)] - picture[i, j])
            drawn[r + _BORDER, c + _BORDER] = above + v * (below - above)


@jit
def press(change, key, canvas):
    """picture = drawn with thicker strokes (towards the brightest of each pixel and its four neighbours) or thinner."""
    pen = np.float32(change.pen) * symmetric(key, 6)
    drawn, picture = canvas.drawn, canvas.picture
    thick, share = pen > 0, abs(pen)
    for r in range(_BORDER, _BORDER + change.height):
        above, here, below, out = drawn[r - 1], drawn[r], drawn[r + 1], picture[r]
        for c in range(_BORDER, _BORDER + change.width):
            brightest = max(max(max(above[c], below[c]), max(here[c - 1], here[c + 1])), here[c])
            darkest = min(min(min(above[c], below[c]), min(here[c - 1], here[c + 1])), here[c])
            out[c] = here[c] + share * ((brightest if thick else darkest) - here[c])


def put(out, row, column, value):
    """out[row, column] = value, as a whole number of 0 to 255 where that is what examples are."""


@by_type(put)
def _(out, row, column, value):
    if isinstance(out.dtype, types.Integer):

        def whole(out, row, column, value):
            out[row, column] = np.uint8(min(max(value, np.float32(0)), np.float32(255)) + np.float32(0.5))

        return whole

    def plain(out, row, column, value):
        out[row, column] = value

    return plain


@jit
def change_picture(change, data, row, key, canvas, out, at):
    """out[at] = row `row` of the data as a picture, changed as `key` names it."""
    h, w = change.height, change.width
    find_places(change, key, canvas)
    noise = np.float32(change.pixel_noise / data.scale)
    for channel in range(out.shape[1] // (h * w)):
        first = channel * h * w
        canvas.picture[:] = 0
        for r in range(h):
            for c in range(w):
                canvas.picture[r + _BORDER, c + _BORDER] = data.x[row, first + r * w + c]
        canvas.drawn[:] = 0
        sample(change, canvas)
        drawn = canvas.drawn
        if change.pen > 0:
            press(change, key, canvas)
            drawn = canvas.picture
        if noise > 0:
            for r in range(h):
                for c in range(w):
                    drawn[r + _BORDER, c + _BORDER] += noise * bell(key + np.uint32(2), first + r * w + c)
        for r in range(h):
            for c in range(w):
                put(out, at, first + r * w + c, drawn[r + _BORDER, c + _BORDER])


@jit
def add_noise(change, key, scale, out, at):
    """out[at] += noise, in units of the scaled feature."""
    sigma = number(change.input_noise / scale, out)
    for k in range(out.shape[1]):
        out[at, k] += sigma * number(bell(key, k), out)


@jit
def drop_features(change, key, out, at):
    """out[at, k] = 0 with probability p, for each feature; the survivors' 1 / (1 − p) is in the scale."""
    limit = mask_limit(change.dropout)
    for k in range(out.shape[1]):
        if mask_bits(key, np.uint32(k)) < limit:
            out[at, k] = 0


@jit
def key_of(seed, purpose, epoch, example):
    """32 bits that name a purpose, an epoch and an example."""
    return np.uint32(stream(stream(stream(seed, purpose), epoch), example) >> np.uint64(32))


class Piece(NamedTuple):
    """Which examples of an epoch are changed."""

    first: int
    last: int
    epoch: int
    names: np.ndarray  # int64: what example each is, wherever it is read from


@kernel
def change_examples(change, data, piece, canvases, out, team):
    """out[i % ring] = example order[i], changed as names[i] says, for i from `first` to `last`; rows dealt to threads.

    canvases: one for each thread   out (ring, D) uint8 or float
    """
    first, last, epoch, names = piece
    t = team.thread
    canvas = Canvas(canvases.field[t], canvases.picture[t], canvases.drawn[t], canvases.places[t])
    for i in range(first + t, last, team.threads):
        row, name, at = data.order[i], names[i], i % out.shape[0]
        if change.height > 0:
            change_picture(change, data, row, key_of(change.seed, _PICTURES, epoch, name), canvas, out, at)
        else:
            for k in range(out.shape[1]):
                out[at, k] = data.x[row, k]
        if change.input_noise > 0:
            add_noise(change, key_of(change.seed, _NOISE, epoch, name), data.scale, out, at)
        if change.dropout > 0:
            drop_features(change, key_of(change.seed, _DROPS, epoch, name), out, at)
    return last
