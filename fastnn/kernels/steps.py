"""Whole steps of training, and the forward pass over many rows: what Python calls."""

import math
from typing import NamedTuple

import numpy as np

from fastnn.kernels import clock as phase
from fastnn.kernels.blocks import Blocks
from fastnn.kernels.clock import mark
from fastnn.kernels.dense import PANEL_BLOCK, ROWS, dense_relu, input_gradient, weight_gradient
from fastnn.kernels.first import as_panels, input_relu, input_weight_gradient, load_input, open_input
from fastnn.kernels.gather import gather, gather_labels
from fastnn.kernels.jit import jit, kernel
from fastnn.kernels.output import (
    output_bias_gradient,
    output_input_gradient,
    output_weight_gradient,
    partial_logits,
    softmax_cross_entropy,
    sum_logits,
)
from fastnn.kernels.tiles import panels
from fastnn.kernels.workers import share, wait


class Net(NamedTuple):
    """A network's parameters as kernels see them."""

    layers: np.ndarray  # int64 (layers, 4): inputs, outputs, offset of the weights, offset of the bias
    parameters: np.ndarray  # float32 or float64, one aligned buffer of panels
    target: np.ndarray  # what a step adds its scaled gradient to: the parameters themselves (SGD), or zeros


class Data(NamedTuple):
    """Examples, and the order to take them in."""

    x: np.ndarray | Blocks  # (N, D) uint8, float32 or float64
    y: np.ndarray  # int32 (N,), every label below the number of classes
    order: np.ndarray  # int64, indices of rows
    scale: float  # what every feature is multiplied by


class Work(NamedTuple):
    """The memory of a run, allocated once. Offsets into `buffer` are in `layout.workspace`'s table."""

    buffer: np.ndarray
    table: np.ndarray  # int64 (2 + layers, 3)
    labels: np.ndarray  # int32 (threads, rows)
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
    rate: float


@jit
def _width(buffer):
    return panels(buffer, 0, 0, 0).shape[2]


@jit
def _layer(net, buffer, index):
    """The weights (H/W, K, W) and bias (H/W, W) of a hidden layer in `buffer`."""
    k_size, h_size = net.layers[index, 0], net.layers[index, 1]
    w_at, b_at = net.layers[index, 2], net.layers[index, 3]
    width = _width(buffer)
    h_panels = (h_size + width - 1) // width
    k_rows = (k_size + width - 1) // width * width
    return panels(buffer, w_at, h_panels, k_rows), panels(buffer, b_at, 1, h_panels)[0]


@jit
def _output(net, buffer):
    """The weights (K/W, C, W) and bias (C/W, W) of the output layer in `buffer`."""
    index = net.layers.shape[0] - 1
    k_size, classes = net.layers[index, 0], net.layers[index, 1]
    w_at, b_at = net.layers[index, 2], net.layers[index, 3]
    width = _width(buffer)
    k_panels = (k_size + width - 1) // width
    c_rows = (classes + ROWS - 1) // ROWS * ROWS
    return panels(buffer, w_at, k_panels, c_rows), panels(buffer, b_at, 1, (c_rows + width - 1) // width)[0]


@jit
def _activations(net, work, index, side):
    """The activations (H/W, B, W) of a hidden layer; two sides, taken in turn by the steps."""
    width = _width(work.buffer)
    h_panels = (net.layers[index, 1] + width - 1) // width
    size = h_panels * work.rows * width
    return panels(work.buffer, work.table[2 + index, 0] + side * size, h_panels, work.rows)


@jit
def _gradients(net, work, index):
    """The gradients (H/W, B, W) before the activation of a hidden layer."""
    width = _width(work.buffer)
    h_panels = (net.layers[index, 1] + width - 1) // width
    return panels(work.buffer, work.table[2 + index, 1], h_panels, work.rows)


@jit
def _private(net, work, thread):
    """A thread's own memory: its copy of the batch, logits and their gradient, room to transpose."""
    width = _width(work.buffer)
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
def _parts(net, work, side, rows):
    """The partial logits (K/W · B/W, C, W) that all threads exchange; two sides, taken in turn."""
    width = _width(work.buffer)
    index = net.layers.shape[0] - 1
    k_size, classes = net.layers[index, 0], net.layers[index, 1]
    c_rows = (classes + ROWS - 1) // ROWS * ROWS
    count = (k_size + width - 1) // width * ((rows + width - 1) // width)
    return panels(work.buffer, work.table[1, 0] + side * work.table[1, 1], count, c_rows)


@jit
def _update(net, work, layer, side, rows, thread, threads):
    """Add the weight and bias gradients of a hidden layer above the first to the target, own panels."""
    dz, x = _gradients(net, work, layer), _activations(net, work, layer - 1, side)
    dw, db = _layer(net, net.target, layer)
    own = share(dz.shape[0], thread, threads)
    weight_gradient(x, dz, net.layers[layer, 0], rows, dw, db, own)


@kernel
def train_steps(net, data, work, span, totals, sync, thread, threads):
    """Steps `first` to `last` of an epoch: target += −rate · gradient of the mean loss of each batch.

    Adds the loss and the number of right answers to `totals` (2,). Returns the step it came to: `last`, or the
    one whose loss was not finite. Every product is computed by the owner of its panel, every sum in a fixed
    order, so no bit depends on the number of threads.
    """
    hidden = net.layers.shape[0] - 1
    k_size, classes = net.layers[hidden, 0], net.layers[hidden, 1]
    w_out, b_out = _output(net, net.parameters)
    dw_out, db_out = _output(net, net.target)
    panels_of_x, z, dz, scratch = _private(net, work, thread)
    x = open_input(net, data, work, panels_of_x, thread)
    labels = work.labels[thread]
    k_own = share(w_out.shape[0], thread, threads)
    full_rows = (span.batch + ROWS - 1) // ROWS * ROWS
    for step in range(span.first, span.last):
        side = step % 2
        start = step * span.batch
        n = min(span.batch, data.order.size - start)
        rows = (n + ROWS - 1) // ROWS * ROWS
        load_input(data, start, n, rows, x)
        gather_labels(data, start, n, labels)
        mark(work.clock, thread, phase.INPUT)

        # forward; a wait stands wherever the next line reads what other threads have written
        below = as_panels(x, panels_of_x)
        for layer in range(hidden):
            w, b = _layer(net, net.parameters, layer)
            a = _activations(net, work, layer, side)
            own = share(a.shape[0], thread, threads)
            if layer == 0:
                input_relu(x, w, b, net.layers[0, 0], rows, a, own)
                mark(work.clock, thread, phase.FIRST)
            else:
                if not wait(sync, threads):
                    return step
                mark(work.clock, thread, phase.WAITING)
                if layer == 1 and step > span.first:  # what the last step left to do
                    _update(net, work, 1, 1 - side, full_rows, thread, threads)
                dense_relu(below, w, b, net.layers[layer, 0], rows, a, own)
                mark(work.clock, thread, phase.HIDDEN)
            below = a
        parts = _parts(net, work, side, rows)
        partial_logits(below, w_out, b_out, k_size, rows, scratch[0], parts, k_own)
        mark(work.clock, thread, phase.OUTPUT)
        if not wait(sync, threads):
            return step
        mark(work.clock, thread, phase.WAITING)
        sum_logits(parts, w_out.shape[0], rows, z)
        mark(work.clock, thread, phase.OUTPUT)
        loss, correct = softmax_cross_entropy(z, labels, n, classes, -span.rate / n, scratch[0], dz)
        if not math.isfinite(loss):  # the same on every thread, so none is left waiting
            return step
        if thread == 0:
            totals[0] += loss
            totals[1] += correct
        mark(work.clock, thread, phase.SOFTMAX)

        # backward; the weights of a layer change once every thread has taken its input gradient through them
        if hidden > 0:
            output_input_gradient(dz, w_out, below, classes, rows, _gradients(net, work, hidden - 1), k_own)
        output_weight_gradient(below, dz, n, dw_out, k_own)
        if k_own[0] == 0 and k_own[1] > 0:
            output_bias_gradient(dz, n, classes, db_out)
        mark(work.clock, thread, phase.OUTPUT_BACK)
        for layer in range(hidden - 1, 0, -1):
            if not wait(sync, threads):
                return step
            mark(work.clock, thread, phase.WAITING)
            if layer < hidden - 1:
                _update(net, work, layer + 1, side, rows, thread, threads)
            w, b = _layer(net, net.parameters, layer)
            a = _activations(net, work, layer - 1, side)
            da = _gradients(net, work, layer - 1)
            own = share(a.shape[0], thread, threads)
            input_gradient(_gradients(net, work, layer), w, a, net.layers[layer, 1], rows, scratch, da, own)
            mark(work.clock, thread, phase.HIDDEN_BACK)
        if hidden > 0:
            dw, db = _layer(net, net.target, 0)
            own = share(dw.shape[0], thread, threads)
            input_weight_gradient(x, _gradients(net, work, 0), net.layers[0, 0], rows, dw, db, own)
            mark(work.clock, thread, phase.FIRST_BACK)
        if hidden > 1 and step == span.last - 1:  # else the next step does it after its first wait, which saves one
            if not wait(sync, threads):
                return step
            _update(net, work, 1, side, rows, thread, threads)
    return span.last


@kernel
def predict_logits(net, data, work, span, out, sync, thread, threads):
    """out[i, :] = logits of row order[i], for i from `first` to `last`.    out (N, C)

    Blocks of `batch` rows are dealt to the threads in turn. A row's bits depend on that row alone.
    """
    hidden = net.layers.shape[0] - 1
    k_size, classes = net.layers[hidden, 0], net.layers[hidden, 1]
    w_out, b_out = _output(net, net.parameters)
    x, z, _, scratch = _private(net, work, thread)
    width = x.shape[2]
    for start in range(span.first + thread * span.batch, span.last, threads * span.batch):
        n = min(span.batch, span.last - start)
        rows = (n + ROWS - 1) // ROWS * ROWS
        gather(data, start, n, rows, x)
        below = x
        for layer in range(hidden):
            w, b = _layer(net, net.parameters, layer)
            a = _activations(net, work, layer, thread)
            dense_relu(below, w, b, net.layers[layer, 0], rows, a, (0, a.shape[0]))
            below = a
        parts = _parts(net, work, thread, rows)
        partial_logits(below, w_out, b_out, k_size, rows, scratch[0], parts, (0, w_out.shape[0]))
        sum_logits(parts, w_out.shape[0], rows, z)
        for i in range(n):
            for c in range(classes):
                out[start + i, c] = z[i // width, c, i % width]
    return span.last
