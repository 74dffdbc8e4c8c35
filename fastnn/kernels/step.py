"""Steps of training, and the forward pass over many rows: what Python calls.

A step is three things. *Gradient*: forward and backward, every thread the panels that it owns. *Sums* over panels and
threads: always of the same parts, in the same order. *Update*: the owner of a panel changes it, once nobody reads it.
"""

import math

from fastnn.kernels import clock as phase
from fastnn.kernels.barrier import Team, barrier, share, stopped
from fastnn.kernels.batch import batch_at, gather, load
from fastnn.kernels.clock import mark
from fastnn.kernels.jit import jit, kernel
from fastnn.kernels.layers import add_weight_gradient, forward, pass_gradient
from fastnn.kernels.losses import loss_gradient
from fastnn.kernels.memory import EXAMPLES, below, gradient_of, layer_at, open_batch, output_at
from fastnn.kernels.optimizers import Step
from fastnn.kernels.output import (
    output_bias_gradient,
    output_input_gradient,
    output_weight_gradient,
    partial_logits,
    sum_logits,
)
from fastnn.kernels.updates import clip_and_update, clips, gradient_scale, update_panel


@kernel
def train_steps(net, data, work, span, totals, team):
    """Steps `first` to `last` of an epoch: w −= rate · gradient of the mean loss of each batch, or what the rule says.

    Adds the loss and the number of right answers to `totals` (2,). Returns the step it came to: `last`, or the one
    whose loss was not finite. Every product is computed by the owner of its panel, every sum in a fixed order, so no
    bit depends on the number of threads.
    """
    for step in range(span.first, span.last):
        batch = batch_at(net, data, work, span, step, team)
        load(data, work, batch)
        for i in range(net.layers.size - 1):  # z = x @ w + b,  a = f(z)
            layer = layer_at(net, work, batch, i, team)
            if layer.reads != EXAMPLES:
                barrier(team)  # x is complete, and no thread reads w any more
                mark(work.clock, team.thread, phase.WAITING)
                if step > span.first:
                    late_update(net, data, work, span, step - 1, i, team)
            forward(layer, batch, batch.lists, net.activation, i)
            mark(work.clock, team.thread, phase.FIRST if layer.reads == EXAMPLES else phase.HIDDEN)
        logits(net, work, batch, team)
        loss, right = loss_gradient(
            data.targets, data.order, net, batch, gradient_scale(net.rule, span.rates[step], batch.n)
        )
        mark(work.clock, team.thread, phase.SOFTMAX)
        if not math.isfinite(loss) or stopped(team):  # the same on every thread, so that none is left waiting
            return step
        if team.thread == 0:
            totals[0] += loss
            totals[1] += right
        backward(net, work, batch, step_at(span, step), team)
        if clips(net.rule):
            add_late_gradients(net, work, batch, team)
            clip_and_update(net.rule, net, step_at(span, step), batch.scratch, team)
    if span.last > span.first and net.layers.size > 2:
        barrier(team)
        for i in range(net.layers.size - 1):  # what the next step would have begun with
            late_update(net, data, work, span, span.last - 1, i, team)
    return span.last


@jit
def step_at(span, step):
    """The learning rate of a step, and its number since the run began."""
    return Step(span.rates[step], span.before + step + 1, 1.0)


@jit
def logits(net, work, batch, team):
    """batch.z = x @ w + b of the output layer: each owner's part, then every thread sums all parts for itself."""
    output, scratch = output_at(net, work, batch, team), batch.scratch[0]
    partial_logits(output.x, output.w, output.b, output.inputs, batch.rows, scratch, output.parts, output.own)
    mark(work.clock, team.thread, phase.OUTPUT)
    barrier(team)
    mark(work.clock, team.thread, phase.WAITING)
    sum_logits(output.parts, output.w.shape[0], batch.rows, batch.z)
    mark(work.clock, team.thread, phase.OUTPUT)


@jit
def backward(net, work, batch, now, team):
    """The gradient of every layer's z; gradient and update of the weights that only their owner reads.

    These are the output layer's and those of layers that read the examples. The others are updated late: the next
    step waits before each layer anyway, and finds the panel that it then reads in the cache.
    """
    top = net.layers.size - 1
    backward_output(net, work, batch, now, team)
    mark(work.clock, team.thread, phase.OUTPUT_BACK)
    for i in range(top - 1, -1, -1):
        layer = layer_at(net, work, batch, i, team)
        if layer.reads == EXAMPLES:
            add_weight_gradient(layer, batch, batch.lists, layer.own)
            update_own(net, i, layer.own, now, batch.scratch)
            mark(work.clock, team.thread, phase.FIRST_BACK)
        else:
            barrier(team)  # dz is complete
            mark(work.clock, team.thread, phase.WAITING)
            dx = gradient_of(work, layer.reads)
            pass_gradient(layer, batch, below(net, work, batch, i), dx, share(dx.shape[0], team))
            mark(work.clock, team.thread, phase.HIDDEN_BACK)


@jit
def backward_output(net, work, batch, now, team):
    """The same of the output layer, whose weights are owned by panels of inputs."""
    output, top = output_at(net, work, batch, team), net.layers.size - 1
    if top > 0:
        dx, under = gradient_of(work, net.layers[top].reads), below(net, work, batch, top)
        output_input_gradient(batch.dz, output.w, output.classes, batch.rows, dx, output.own, under)
    output_weight_gradient(output.x, batch.dz, batch.n, output.dw, output.own)
    if output.own[0] == 0 and output.own[1] > 0:
        output_bias_gradient(batch.dz, batch.n, output.classes, output.db)
    update_own(net, top, output.own, now, batch.scratch)


@jit
def update_own(net, i, own, now, scratch):
    """Update some panels of a layer, unless the gradient is to be clipped first."""
    if not clips(net.rule):
        for p in range(own[0], own[1]):
            update_panel(net.rule, net, i, p, now, scratch)


@jit
def late_update(net, data, work, span, step, i, team):
    """What `backward` of a step has left to do for layer `i`: panel by panel, so that each stays in the cache."""
    batch = batch_at(net, data, work, span, step, team)
    layer = layer_at(net, work, batch, i, team)
    if layer.reads != EXAMPLES and not clips(net.rule):
        for p in range(layer.own[0], layer.own[1]):
            add_weight_gradient(layer, batch, batch.lists, (p, p + 1))
            update_panel(net.rule, net, i, p, step_at(span, step), batch.scratch)


@jit
def add_late_gradients(net, work, batch, team):
    """The gradients of weights that `backward` has left for later."""
    for i in range(net.layers.size - 1):
        layer = layer_at(net, work, batch, i, team)
        if layer.reads != EXAMPLES:
            add_weight_gradient(layer, batch, batch.lists, layer.own)


@kernel
def add_gradient(net, data, work, span, totals, team):
    """net.gradient += gradient of the loss of the rows from `first` to `last`, in steps of `batch`; nothing is updated.

    Times `rates[0]`: 1 over the number of all examples makes it part of the gradient of their mean. Parts may be added
    up in any buffers, by any threads or machines: what each holds depends on its rows alone.
    """
    for start in range(span.first, span.last, span.batch):
        n, copy = min(span.batch, span.last - start), (start - span.first) // span.batch % 2
        batch = open_batch(net, work, start, n, span.epoch, copy, team.thread)
        load(data, work, batch)
        for i in range(net.layers.size - 1):
            layer = layer_at(net, work, batch, i, team)
            if layer.reads != EXAMPLES:
                barrier(team)
            forward(layer, batch, batch.lists, net.activation, i)
        logits(net, work, batch, team)
        loss, right = loss_gradient(data.targets, data.order, net, batch, span.rates[0])
        if stopped(team):
            return start
        if team.thread == 0:
            totals[0] += loss
            totals[1] += right
        backward(net, work, batch, Step(0.0, 0, 1.0), team)
        add_late_gradients(net, work, batch, team)
    return span.last


@kernel
def predict_logits(net, data, work, span, out, team):
    """out[i, :] = logits of row order[i], for i from `first` to `last`.    out (N, C)

    Blocks of `batch` rows are dealt to the threads in turn. A row's bits depend on that row alone.
    """
    alone = Team(team.sync, 0, 1)
    for start in range(span.first + team.thread * span.batch, span.last, team.threads * span.batch):
        batch = open_batch(net, work, start, min(span.batch, span.last - start), 0, team.thread, team.thread)
        gather(data, start, batch.n, batch.rows, batch.x)
        for i in range(net.layers.size - 1):
            forward(layer_at(net, work, batch, i, alone), batch, None, net.activation, i)
        logits(net, work, batch, alone)
        width = batch.z.shape[2]
        for k in range(batch.n):
            for c in range(out.shape[1]):
                out[start + k, c] = batch.z[k // width, c, k % width]
    return span.last
