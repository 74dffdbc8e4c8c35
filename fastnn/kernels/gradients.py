"""A step taken apart, for batches that are computed in several places: gradients of parts, their sum, the update.

`step.train_steps` does all three at once where one machine has the whole batch.
"""

from fastnn.kernels.barrier import barrier, owned, stopped
from fastnn.kernels.batch import load
from fastnn.kernels.jit import kernel
from fastnn.kernels.layers import forward
from fastnn.kernels.losses import loss_gradient
from fastnn.kernels.memory import EXAMPLES, layer_at, open_batch
from fastnn.kernels.optimizers import Step
from fastnn.kernels.step import add_late_gradients, backward, logits
from fastnn.kernels.updates import add_to_parameters, clip_and_update


def parts_of(examples, parts):
    """Where each of `parts` parts of a batch begins and ends: as even as can be, by the two numbers alone."""
    return [(examples * part // parts, examples * (part + 1) // parts) for part in range(parts)]


@kernel
def add_gradient(net, data, work, span, totals, team):
    """net.gradient += rates[0] · gradient of the summed loss of the rows from `first` to `last`, `batch` at once.

    With 1 over the size of data.order as rates[0] it is a part of the gradient of the mean loss of all these examples;
    sample weights count relative to the mean of them all. What a part holds depends on its rows alone, whoever
    computes it. Nothing is updated: net.gradient is a buffer of its own, and net has no rule.
    """
    for start in range(span.first, span.last, span.batch):
        n, copy = min(span.batch, span.last - start), (start - span.first) // span.batch % 2
        batch = open_batch(net, work, start, n, span.epoch, copy, team.thread)
        load(data, work, batch, 0, data.order.size)
        for i in range(net.layers.size - 1):
            layer = layer_at(net, work, batch, i, team)
            if layer.reads != EXAMPLES:
                barrier(team)  # x is complete
            forward(layer, batch, batch.lists, net.activation, i)
        logits(net, work, batch, team)
        loss, right = loss_gradient(data.targets, data.order, net, batch, span.rates[0])
        if stopped(team):
            return start
        if team.thread == 0:
            totals[0] += loss
            totals[1] += right
        backward(net, work, batch, Step(0.0, 0, 1.0, 1.0, 1.0), team)
        add_late_gradients(net, work, batch, team)
    return span.last


@kernel
def sum_gradients(parts, team):
    """parts[0] = Σ_p parts[p] along a binary tree: ((0 + 1) + (2 + 3)) + ….    parts (P, size) are overwritten

    Which parts meet depends on how many there are. Each thread sums places of its own.
    """
    first, last = owned(parts.shape[1], team)
    reach = 1
    while reach < parts.shape[0]:
        for p in range(0, parts.shape[0] - reach, 2 * reach):
            for at in range(first, last):
                parts[p, at] += parts[p + reach, at]
        reach *= 2


@kernel
def apply_gradient(net, work, now, team):
    """What the rule makes of the whole net.gradient, clipped where it says so; plain SGD adds it as it is.

    Each thread changes the panels that it owns, and leaves zeros as their gradient.
    """
    scratch = open_batch(net, work, 0, 0, 0, 0, team.thread).scratch
    if net.rule is None:
        add_to_parameters(net, team)
    clip_and_update(net.rule, net, now, scratch, team)
