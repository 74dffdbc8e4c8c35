"""The memory of a run as kernels see it: the network, the examples, the work, and where everything lies in them."""

from typing import NamedTuple

import numpy as np
from numba.core import types

from fastnn.kernels.blocks import Blocks
from fastnn.kernels.dense import PANEL_BLOCK, ROWS
from fastnn.kernels.hidden import Hidden, Slopes
from fastnn.kernels.jit import by_type, jit
from fastnn.kernels.losses import Loss
from fastnn.kernels.tiles import panels
from fastnn.kernels.update import Rule


class Net(NamedTuple):
    """A network's parameters, and what is not plain ReLU, softmax and SGD about it."""

    layers: np.ndarray  # int64 (layers, 4): inputs, outputs, offset of the weights, offset of the bias
    parameters: np.ndarray  # float32 or float64, one aligned buffer of panels
    target: np.ndarray  # what a step adds its scaled gradient to: the parameters themselves (SGD), or zeros
    hidden: Hidden | None = None  # None: ReLU, fused into the products
    rule: Rule | None = None  # None: p −= rate · dp, fused into the weight gradient
    loss: Loss = Loss()


class Data(NamedTuple):
    """Examples, and the order to take them in."""

    x: np.ndarray | Blocks  # (N, D) uint8, float32 or float64
    y: np.ndarray  # int32 (N,), every label below the number of classes
    order: np.ndarray  # int64, indices of rows
    scale: float  # what every feature is multiplied by
    weights: np.ndarray | None = None  # float64 (N,): how much each example counts; None: all the same
    targets: np.ndarray | None = None  # float64 (N, C), instead of labels


class Work(NamedTuple):
    """The memory of a run, allocated once. Offsets into `buffer` are in `layout.workspace`'s table."""

    buffer: np.ndarray
    table: np.ndarray  # int64 (2 + layers, 3)
    labels: np.ndarray  # int32 (threads, rows)
    shares: np.ndarray  # (threads, rows): how much each example of the batch counts, 1 unless `Data.weights` says so
    ends: np.ndarray  # uint64, whole cache lines for each thread: the `end` of its `Lists`; empty for dense input
    samples: np.ndarray  # uint16 (threads, entries)
    values: np.ndarray  # (threads, entries, BLOCK)
    rows: int  # batch rows there is room for, a multiple of the panel width
    clock: np.ndarray | None = None  # int64 (threads, 16): ticks spent on each phase; in the last column, the last mark


class Span(NamedTuple):
    """Which steps (or rows) one call covers."""

    first: int
    last: int
    batch: int
    rates: np.ndarray  # float64: learning rate of every step of the epoch
    epoch: int = 0
    before: int = 0  # steps of all epochs before this one


@jit
def width_of(buffer):
    """Columns of a panel."""
    return panels(buffer, 0, 0, 0).shape[2]


@jit
def layer_of(net, buffer, index):
    """The weights (H/W, K, W) and bias (H/W, W) of a hidden layer in `buffer`."""
    k_size, h_size = net.layers[index, 0], net.layers[index, 1]
    w_at, b_at = net.layers[index, 2], net.layers[index, 3]
    width = width_of(buffer)
    h_panels = (h_size + width - 1) // width
    k_rows = (k_size + width - 1) // width * width
    return panels(buffer, w_at, h_panels, k_rows), panels(buffer, b_at, 1, h_panels)[0]


@jit
def output_of(net, buffer):
    """The weights (K/W, C, W) and bias (C/W, W) of the output layer in `buffer`."""
    index = net.layers.shape[0] - 1
    k_size, classes = net.layers[index, 0], net.layers[index, 1]
    w_at, b_at = net.layers[index, 2], net.layers[index, 3]
    width = width_of(buffer)
    k_panels = (k_size + width - 1) // width
    c_rows = (classes + ROWS - 1) // ROWS * ROWS
    return panels(buffer, w_at, k_panels, c_rows), panels(buffer, b_at, 1, (c_rows + width - 1) // width)[0]


@jit
def activations(net, work, index, side):
    """The activations (H/W, B, W) of a hidden layer; two sides, taken in turn by the steps."""
    width = width_of(work.buffer)
    h_panels = (net.layers[index, 1] + width - 1) // width
    size = h_panels * work.rows * width
    return panels(work.buffer, work.table[2 + index, 0] + side * size, h_panels, work.rows)


@jit
def gradients(net, work, index):
    """The gradients (H/W, B, W) before the activation of a hidden layer."""
    width = width_of(work.buffer)
    h_panels = (net.layers[index, 1] + width - 1) // width
    return panels(work.buffer, work.table[2 + index, 1], h_panels, work.rows)


@jit
def slopes(net, work, index, side):
    """The derivatives (H/W, B, W) of a hidden layer's activation; there for other than plain ReLU."""
    width = width_of(work.buffer)
    h_panels = (net.layers[index, 1] + width - 1) // width
    size = h_panels * work.rows * width
    return panels(work.buffer, work.table[2 + index, 2] + side * size, h_panels, work.rows)


def slope_of(net, work, index, side):
    """What `chain` takes the derivative of a hidden layer's activation from: ReLU's lies in its activations."""


@by_type(slope_of)
def _(net, work, index, side):
    if isinstance(net.types[net.fields.index("hidden")], types.NoneType):
        return lambda net, work, index, side: activations(net, work, index, side)
    return lambda net, work, index, side: Slopes(slopes(net, work, index, 0))


@jit
def private(net, work, thread):
    """A thread's own memory: its copy of the batch, logits and their gradient, room to transpose."""
    width = width_of(work.buffer)
    at = work.table[0, 0] + thread * work.table[0, 1]
    x_panels = (net.layers[0, 0] + width - 1) // width
    blocks = work.rows // width
    c_rows = (net.layers[net.layers.shape[0] - 1, 1] + ROWS - 1) // ROWS * ROWS
    x = panels(work.buffer, at, x_panels, work.rows)
    at += x_panels * work.rows * width
    z = panels(work.buffer, at, blocks, c_rows)
    at += blocks * c_rows * width
    dz = panels(work.buffer, at, blocks, c_rows)
    at += blocks * c_rows * width
    return x, z, dz, panels(work.buffer, at, PANEL_BLOCK, width)


@jit
def parts_of(net, work, side, rows):
    """The partial logits (K/W · B/W, C, W) that all threads exchange; two sides, taken in turn."""
    width = width_of(work.buffer)
    index = net.layers.shape[0] - 1
    k_size, classes = net.layers[index, 0], net.layers[index, 1]
    c_rows = (classes + ROWS - 1) // ROWS * ROWS
    count = (k_size + width - 1) // width * ((rows + width - 1) // width)
    return panels(work.buffer, work.table[1, 0] + side * work.table[1, 1], count, c_rows)
