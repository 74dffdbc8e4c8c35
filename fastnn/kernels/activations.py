"""What follows the product of a hidden layer: its activation, its derivative, dropout.

Plain ReLU is fused into the product and its derivative read from the activations. Anything else is a second pass over
the panel while it is near: the panel becomes a = f(z) and beside it its slopes f′(z), which backward multiplies with.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.functions import logistic, normal_density, normal_distribution, tanh
from fastnn.kernels.jit import apart, inlined, jit
from fastnn.kernels.numbers import number
from fastnn.kernels.random import mask_bits, mask_limit, stream
from fastnn.kernels.tiles import load, multiply, relu, where_positive
from fastnn.kernels.views import part

# in the order that kernels know them by; `network.ACTIVATIONS` holds the same names
RELU, LEAKY_RELU, GELU, TANH, LOGISTIC, IDENTITY = range(6)
LEAK = 0.01  # of leaky ReLU, left of 0
_MASKS = 2**40  # streams of a seed from here on are for masks, one a layer; those below for shuffles (2**41: pictures)


class Activation(NamedTuple):
    """Activations and dropout of the hidden layers, when they are not all plain ReLU."""

    kinds: np.ndarray  # int64 (layers − 1,)
    units: np.ndarray  # int64 (layers − 1,)
    dropout: np.ndarray  # float64 (layers − 1,): share of the units left out; 0 in predictions
    seed: int


@jit
def activate_tile(t, activation):
    """What becomes of a finished tile of z: ReLU where all layers have it (None), or z itself for `activate`."""
    if activation is None:
        return relu(t)
    return t


class Below(NamedTuple):
    """What a layer's input gradient needs to know of the layer below."""

    activation: Activation | None
    slope: np.ndarray  # (K/W, B, W): f′(z) of the layer below; for plain ReLU its activations, positive where f′ is 1
    adds: bool = False  # another layer that reads it, later in the network, has left its part of the gradient
    last: bool = True  # no other one, earlier in the network, adds its part


@jit
def times_slope(t, below, q, i):
    """t · f′(z) of the layer below, once its gradient is complete."""
    return _slope_product(t, below.activation, load(below.slope[q], i)) if below.last else t


@jit
def _slope_product(t, activation, slope):
    if activation is None:
        return where_positive(t, slope)
    return multiply(t, slope)


@jit
def relu_pair(z):
    """max(z, 0), NaN for NaN, and its slope."""
    zero = number(0, z)
    return (zero if z <= zero else z), (number(1, z) if z > zero else zero)


@jit
def leaky_relu_pair(z):
    """z where it is positive, else z / 100, and its slope."""
    slope = number(1, z) if z > number(0, z) else number(LEAK, z)
    return z * slope, slope


@inlined
def gelu_pair(z):
    """z · Φ(z), and its slope Φ(z) + z · φ(z)    (Hendrycks and Gimpel 2016)."""
    distribution = normal_distribution(z)
    return z * distribution, distribution + z * normal_density(z)


@jit
def tanh_pair(z):
    """tanh z, and its slope 1 − tanh² z."""
    t = tanh(z)
    return t, number(1, z) - t * t


@jit
def logistic_pair(z):
    """1 / (1 + e^−z) = s, and its slope s · (1 − s)."""
    s = logistic(z)
    return s, s * (number(1, z) - s)


def _rows_of(pair):
    """The loop over a panel that holds z: a = f(z), d = f′(z). A kernel that is kept can take no `pair` as argument."""

    @apart
    def loop(rows, a, d):
        flat, slopes = part(a, 0, rows * a.shape[1]), part(d, 0, rows * a.shape[1])
        for i in range(flat.size):
            flat[i], slopes[i] = pair(flat[i])

    return loop


_relu, _leaky_relu, _gelu = _rows_of(relu_pair), _rows_of(leaky_relu_pair), _rows_of(gelu_pair)
_tanh, _logistic = _rows_of(tanh_pair), _rows_of(logistic_pair)


class Masks(NamedTuple):
    """Which units of a panel are dropped: a unit's mask is named by (seed, epoch, layer, example, unit)."""

    seed: int
    epoch: int
    layer: int
    example: int  # the first one's place in the epoch
    unit: int  # the first one of the panel


@jit
def _drop(p, first, rows, a, d):
    """a, d = mask · a / (1 − p), mask · d / (1 − p), the masks from `first` on."""
    limit, keep = mask_limit(p), number(1 / (1 - p), a)
    masks = stream(stream(first.seed, _MASKS + first.layer), first.epoch)
    for i in range(rows):
        key = np.uint32(stream(masks, first.example + i) >> np.uint64(32))
        for j in range(a.shape[1]):
            mask = keep if mask_bits(key, np.uint32(first.unit + j)) >= limit else number(0, a)
            a[i, j] *= mask
            d[i, j] *= mask


@jit
def _clear(rows, a, units):
    """a = 0 beyond the units of a panel: f(0) is 1/2 there, and would count in norms of gradients and weights."""
    for i in range(rows):
        for j in range(units, a.shape[1]):
            a[i, j] = 0


@jit
def activate(activation, layer, epoch, start, rows, a, slope, own):
    """a = f(a), slope = f′(a) of a layer, both · mask / (1 − p) where units are dropped; of the panels its thread owns.

    Nothing where all activations are plain ReLU, which the product has done.

    a, slope (H/W, B, W)   start: place of the first row in the epoch   →  a, slope overwritten
    """
    if activation is not None:
        kind, p = activation.kinds[layer], activation.dropout[layer]
        for q in range(own[0], own[1]):
            _activate_panel(kind, rows, a[q], slope[q])
            if kind == LOGISTIC:
                _clear(rows, a[q], activation.units[layer] - q * a.shape[2])
            if p > 0:
                first = Masks(activation.seed, epoch, layer, start, q * a.shape[2])
                _drop(p, first, rows, a[q], slope[q])


@jit
def _activate_panel(kind, rows, a, d):
    """a = f(a), d = f′(a).    a, d (≥ rows, W)"""
    if kind == RELU:
        _relu(rows, a, d)
    elif kind == LEAKY_RELU:
        _leaky_relu(rows, a, d)
    elif kind == GELU:
        _gelu(rows, a, d)
    elif kind == TANH:
        _tanh(rows, a, d)
    elif kind == LOGISTIC:
        _logistic(rows, a, d)
    else:
        d[:rows] = number(1, d)
