"""Whole steps of training, and the forward pass over many rows: what Python calls."""

import math

from numba.core import types

from fastnn.kernels import clock as phase
from fastnn.kernels.clock import mark
from fastnn.kernels.dense import ROWS, dense, input_gradient, weight_gradient
from fastnn.kernels.first import as_panels, input_dense, input_weight_gradient, load_input, open_input
from fastnn.kernels.gather import gather, gather_labels
from fastnn.kernels.hidden import activate
from fastnn.kernels.jit import by_type, jit, kernel
from fastnn.kernels.losses import Examples, load_shares, loss_gradient
from fastnn.kernels.memory import (
    activations,
    gradients,
    layer_of,
    output_of,
    parts_of,
    private,
    slope_of,
    slopes,
)
from fastnn.kernels.output import (
    output_bias_gradient,
    output_input_gradient,
    output_weight_gradient,
    partial_logits,
    sum_logits,
)
from fastnn.kernels.tiles import part
from fastnn.kernels.update import Step, average, clipping, limit_norms, sum_of_squares, update
from fastnn.kernels.workers import share, wait


def bend(net, work, layer, at, rows, own):
    """The activation of a hidden layer where it is not fused into the product; at: epoch, first row, side, memory."""


@by_type(bend)
def _(net, work, layer, at, rows, own):
    if isinstance(net.types[net.fields.index("hidden")], types.NoneType):
        return lambda net, work, layer, at, rows, own: None

    def bent(net, work, layer, at, rows, own):
        epoch, start, side, memory = at
        a, d = activations(net, work, layer, side), slopes(net, work, layer, memory)
        activate(net.hidden, layer, epoch, start, rows, a, d, own)

    return bent


def is_fused(net):
    """Whether the weight gradient is the update itself: plain SGD."""


@by_type(is_fused)
def _(net):
    if isinstance(net.types[net.fields.index("rule")], types.NoneType):
        return lambda net: True
    return lambda net: False


def is_whole(net):
    """Whether no parameter may change before the gradient of all is known: it is clipped by its norm."""


@by_type(is_whole)
def _(net):
    if isinstance(net.types[net.fields.index("rule")], types.NoneType):
        return lambda net: False
    return lambda net: net.rule.norms.size > 0


def take_step(net, layer, step, own, scratch):
    """Let the optimizer change the own panels of a layer by their gradient; nothing to do for plain SGD."""


@jit
def _panel(net, layer, p, width):
    """Where panel `p` of a layer's weights begins in the flat buffer, how long it is, and the same of its bias."""
    k_size, h_size = net.layers[layer, 0], net.layers[layer, 1]
    w_at, b_at = net.layers[layer, 2], net.layers[layer, 3]
    if layer < net.layers.shape[0] - 1:
        size = (k_size + width - 1) // width * width * width
        return w_at + p * size, size, b_at + p * width, width
    c_rows = (h_size + ROWS - 1) // ROWS * ROWS
    bias = (c_rows + width - 1) // width * width
    return w_at + p * c_rows * width, c_rows * width, b_at, (bias if p == 0 else 0)


@by_type(take_step)
def _(net, layer, step, own, scratch):
    if isinstance(net.types[net.fields.index("rule")], types.NoneType):
        return lambda net, layer, step, own, scratch: None

    def stepped(net, layer, step, own, scratch):
        rule, width = net.rule, scratch.shape[2]
        for p in range(own[0], own[1]):
            w_at, w_size, b_at, b_size = _panel(net, layer, p, width)
            update(rule, net.parameters, net.target, w_at, w_size, step, True)
            update(rule, net.parameters, net.target, b_at, b_size, step, False)
            if rule.max_norm > 0 and layer < net.layers.shape[0] - 1:
                limit_norms(layer_of(net, net.parameters, layer)[0][p], rule.max_norm, scratch[0, 0])
            if rule.averaging > 0:
                for at, size in ((w_at, w_size), (b_at, b_size)):
                    average(part(rule.average, at, size), part(net.parameters, at, size), rule.averaging, step.time)

    return stepped


def settle(net, step, thread, threads, sync, scratch):
    """Clip the whole gradient by its norm and let the optimizer change everything; False when told to stop."""


@jit
def _own(net, layer, width, thread, threads):
    """The panels of a layer that a thread owns: of units, or of inputs for the output layer."""
    size = net.layers[layer, 1] if layer < net.layers.shape[0] - 1 else net.layers[layer, 0]
    return share((size + width - 1) // width, thread, threads)


@by_type(settle)
def _(net, step, thread, threads, sync, scratch):
    if isinstance(net.types[net.fields.index("rule")], types.NoneType):
        return lambda net, step, thread, threads, sync, scratch: True

    def settled(net, step, thread, threads, sync, scratch):
        width, slot = scratch.shape[2], 0
        for layer in range(net.layers.shape[0]):
            own = _own(net, layer, width, thread, threads)
            for p in range(own[0], own[1]):
                w_at, w_size, b_at, b_size = _panel(net, layer, p, width)
                squares = sum_of_squares(net.target, w_at, w_size)
                net.rule.norms[slot + p] = squares + sum_of_squares(net.target, b_at, b_size)
            slot += _own(net, layer, width, 0, 1)[1]
        if not wait(sync, threads):
            return False
        clipped = Step(step.rate, step.time, clipping(net.rule.norms, net.rule.clip))
        for layer in range(net.layers.shape[0]):
            take_step(net, layer, clipped, _own(net, layer, width, thread, threads), scratch)
        return True

    return settled


@jit
def _update(net, work, layer, side, rows, step, thread, threads):
    """Add the weight and bias gradients of a hidden layer above the first to the target, own panels; take the step."""
    dz, x = gradients(net, work, layer), activations(net, work, layer - 1, side)
    dw, db = layer_of(net, net.target, layer)
    own = share(dz.shape[0], thread, threads)
    scratch = private(net, work, thread)[3]
    for p in range(own[0], own[1]):  # panel by panel, so that the optimizer finds its gradient in the cache
        weight_gradient(x, dz, net.layers[layer, 0], rows, dw, db, (p, p + 1))
        if not is_whole(net):
            take_step(net, layer, step, (p, p + 1), scratch)


@kernel
def train_steps(net, data, work, span, totals, sync, thread, threads):
    """Steps `first` to `last` of an epoch: target += −rate · gradient of the mean loss of each batch.

    With a rule in the network the target is a gradient instead, that an optimizer makes a step of. Adds the loss and
    the number of right answers to `totals` (2,). Returns the step it came to: `last`, or the one whose loss was not
    finite. Every product is computed by the owner of its panel, every sum in a fixed order, so no bit depends on the
    number of threads.
    """
    hidden = net.layers.shape[0] - 1
    k_size, classes = net.layers[hidden, 0], net.layers[hidden, 1]
    w_out, b_out = output_of(net, net.parameters)
    dw_out, db_out = output_of(net, net.target)
    panels_of_x, z, dz, scratch = private(net, work, thread)
    x = open_input(net, data, work, panels_of_x, thread)
    labels, shares = work.labels[thread], work.shares[thread]
    shares[:] = 1
    k_own = share(w_out.shape[0], thread, threads)
    full_rows = (span.batch + ROWS - 1) // ROWS * ROWS
    now = Step(span.rates[span.first], span.before + span.first + 1, 1.0)
    for step in range(span.first, span.last):
        side = step % 2
        start = step * span.batch
        n = min(span.batch, data.order.size - start)
        rows = (n + ROWS - 1) // ROWS * ROWS
        load_input(data, start, n, rows, x)
        gather_labels(data, start, n, labels)
        load_shares(data, start, n, shares)
        mark(work.clock, thread, phase.INPUT)

        # forward; a wait stands wherever the next line reads what other threads have written
        below = as_panels(x, panels_of_x)
        for layer in range(hidden):
            w, b = layer_of(net, net.parameters, layer)
            a = activations(net, work, layer, side)
            own = share(a.shape[0], thread, threads)
            if layer == 0:
                input_dense(x, w, b, net.layers[0, 0], rows, a, own, net.hidden)
                mark(work.clock, thread, phase.FIRST)
            else:
                if not wait(sync, threads):
                    return step
                mark(work.clock, thread, phase.WAITING)
                if layer == 1 and step > span.first and not is_whole(net):  # what the last step left to do
                    _update(net, work, 1, 1 - side, full_rows, now, thread, threads)
                dense(below, w, b, net.layers[layer, 0], rows, a, own, net.hidden)
                mark(work.clock, thread, phase.HIDDEN)
            bend(net, work, layer, (span.epoch, start, side, 0), rows, own)
            below = a
        parts = parts_of(net, work, side, rows)
        partial_logits(below, w_out, b_out, k_size, rows, scratch[0], parts, k_own)
        mark(work.clock, thread, phase.OUTPUT)
        if not wait(sync, threads):
            return step
        mark(work.clock, thread, phase.WAITING)
        sum_logits(parts, w_out.shape[0], rows, z)
        mark(work.clock, thread, phase.OUTPUT)
        now = Step(span.rates[step], span.before + step + 1, 1.0)
        scale = -now.rate / n if is_fused(net) else 1 / n
        loss, correct = loss_gradient(net, data, start, Examples(labels, shares, n), z, scale, scratch[0], dz)
        if not math.isfinite(loss):  # the same on every thread, so none is left waiting
            return step
        if thread == 0:
            totals[0] += loss
            totals[1] += correct
        mark(work.clock, thread, phase.SOFTMAX)

        # backward; the weights of a layer change once every thread has taken its input gradient through them
        if hidden > 0:
            slope = slope_of(net, work, hidden - 1, side)
            output_input_gradient(dz, w_out, slope, classes, rows, gradients(net, work, hidden - 1), k_own)
        output_weight_gradient(below, dz, n, dw_out, k_own)
        if k_own[0] == 0 and k_own[1] > 0:
            output_bias_gradient(dz, n, classes, db_out)
        if not is_whole(net):
            take_step(net, hidden, now, k_own, scratch)
        mark(work.clock, thread, phase.OUTPUT_BACK)
        for layer in range(hidden - 1, 0, -1):
            if not wait(sync, threads):
                return step
            mark(work.clock, thread, phase.WAITING)
            if layer < hidden - 1:
                _update(net, work, layer + 1, side, rows, now, thread, threads)
            w, b = layer_of(net, net.parameters, layer)
            slope = slope_of(net, work, layer - 1, side)
            da = gradients(net, work, layer - 1)
            own = share(da.shape[0], thread, threads)
            input_gradient(gradients(net, work, layer), w, slope, net.layers[layer, 1], rows, scratch, da, own)
            mark(work.clock, thread, phase.HIDDEN_BACK)
        if hidden > 0:
            dw, db = layer_of(net, net.target, 0)
            own = share(dw.shape[0], thread, threads)
            input_weight_gradient(x, gradients(net, work, 0), net.layers[0, 0], rows, dw, db, own)
            if not is_whole(net):
                take_step(net, 0, now, own, scratch)
            mark(work.clock, thread, phase.FIRST_BACK)
        # the next step updates layer 1 after its first wait, which saves one; unless there is none, or clipping
        if hidden > 1 and (step == span.last - 1 or is_whole(net)):
            if not wait(sync, threads):
                return step
            _update(net, work, 1, side, rows, now, thread, threads)
        if is_whole(net) and not settle(net, now, thread, threads, sync, scratch):
            return step
    return span.last


@kernel
def predict_logits(net, data, work, span, out, sync, thread, threads):
    """out[i, :] = logits of row order[i], for i from `first` to `last`.    out (N, C)

    Blocks of `batch` rows are dealt to the threads in turn. A row's bits depend on that row alone.
    """
    hidden = net.layers.shape[0] - 1
    k_size, classes = net.layers[hidden, 0], net.layers[hidden, 1]
    w_out, b_out = output_of(net, net.parameters)
    x, z, _, scratch = private(net, work, thread)
    width = x.shape[2]
    for start in range(span.first + thread * span.batch, span.last, threads * span.batch):
        n = min(span.batch, span.last - start)
        rows = (n + ROWS - 1) // ROWS * ROWS
        gather(data, start, n, rows, x)
        below = x
        for layer in range(hidden):
            w, b = layer_of(net, net.parameters, layer)
            a = activations(net, work, layer, thread)
            own = (0, a.shape[0])
            dense(below, w, b, net.layers[layer, 0], rows, a, own, net.hidden)
            bend(net, work, layer, (0, start, thread, thread), rows, own)
            below = a
        parts = parts_of(net, work, thread, rows)
        partial_logits(below, w_out, b_out, k_size, rows, scratch[0], parts, (0, w_out.shape[0]))
        sum_logits(parts, w_out.shape[0], rows, z)
        for i in range(n):
            for c in range(classes):
                out[start + i, c] = z[i // width, c, i % width]
    return span.last
