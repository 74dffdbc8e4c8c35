"""From a gradient to a step: where each panel lies in the flat buffers, its update, clipping."""

import math

import numpy as np

from fastnn.kernels.barrier import barrier, owned
from fastnn.kernels.jit import jit
from fastnn.kernels.memory import weights_in, width_of
from fastnn.kernels.optimizers import Step, average, limit_norms, penalty_of, update
from fastnn.kernels.views import part


@jit
def gradient_scale(rule, rate, n):
    """What the gradient of the summed loss is multiplied by: 1 / n makes it that of the mean.

    Plain SGD adds it to the weights at once, so that its gradient carries the step, −rate, with it.
    """
    if rule is None:
        return -rate / n
    return 1 / n


@jit
def clips(rule):
    """Whether the gradient is clipped by its norm, so that no parameter may change before all of it is known."""
    if rule is None:
        return False
    return rule.norms.size > 0


@jit
def ranges(net, i, p):
    """Where panel `p` of the weights of layer `i` begins in the flat buffers, its size, and the same of its bias."""
    row, width = net.layers[i], width_of(net.parameters)
    size = row.rows * width
    if i < net.layers.size - 1:
        return row.weights + p * size, size, row.bias + p * width, width
    return (
        row.weights + p * size,
        size,
        row.bias,
        row.bias_panels * width if p == 0 else 0,
    )  # output: the whole bias with panel 0


@jit
def update_panel(rule, net, i, p, now, scratch):
    """The optimizer's step on panel `p` of layer `i`; plain SGD has done it, where it added its gradient."""
    if rule is not None:
        w_at, w_size, b_at, b_size = ranges(net, i, p)
        if rule.penalties.size > 0:
            rule.penalties[i, p] += now.counted * penalty_of(part(net.parameters, w_at, w_size), rule.l1, rule.l2)
        update(rule, net.parameters, net.gradient, w_at, w_size, now, True)
        update(rule, net.parameters, net.gradient, b_at, b_size, now, False)
        if rule.max_norm > 0 and i < net.layers.size - 1:
            limit_norms(weights_in(net.parameters, net.layers[i])[0][p], rule.max_norm, scratch[0, 0])
        if rule.averaging > 0:
            for at, size in ((w_at, w_size), (b_at, b_size)):
                average(part(rule.average, at, size), part(net.parameters, at, size), rule.averaging, now.time)


@jit
def sum_of_squares(gradient, at, size):
    """Σ g² of `size` numbers from `at`."""
    g, total = part(gradient, at, size), 0.0
    for i in range(size):
        total += np.float64(g[i]) * np.float64(g[i])
    return total


@jit
def clipping(norms, clip):
    """min(1, clip / ‖g‖), ‖g‖² the sum of `norms` in their order."""
    total = 0.0
    for i in range(norms.size):
        total += norms[i]
    return clip / math.sqrt(total) if total > clip * clip else 1.0


@jit
def clip_and_update(rule, net, now, scratch, team):
    """The optimizer's step on all panels, with a gradient no longer than its limit; nothing where there is no rule."""
    if rule is not None:
        if clips(rule):
            now = Step(now.rate, now.time, clipped_by(rule, net, team), now.penalty, now.counted)
        for i in range(net.layers.size):
            own = owned(net.layers[i].panels, team)
            for p in range(own[0], own[1]):
                update_panel(rule, net, i, p, now, scratch)


@jit
def clipped_by(rule, net, team):
    """What the whole gradient is multiplied by; every thread adds the squares of all panels in the same order."""
    slot = 0
    for i in range(net.layers.size):
        own = owned(net.layers[i].panels, team)
        for p in range(own[0], own[1]):
            w_at, w_size, b_at, b_size = ranges(net, i, p)
            squares = sum_of_squares(net.gradient, w_at, w_size)
            rule.norms[slot + p] = squares + sum_of_squares(net.gradient, b_at, b_size)
        slot += net.layers[i].panels
    barrier(team)  # all squares are there, and no thread reads any weights
    return clipping(rule.norms, rule.clip)


@jit
def add_to_parameters(net, team):
    """p += g, g = 0: the step of plain SGD with a gradient of its own, which carries −rate / n."""
    for i in range(net.layers.size):
        own = owned(net.layers[i].panels, team)
        for p in range(own[0], own[1]):
            w_at, w_size, b_at, b_size = ranges(net, i, p)
            for at, size in ((w_at, w_size), (b_at, b_size)):
                g, parameters = part(net.gradient, at, size), part(net.parameters, at, size)
                for k in range(size):
                    parameters[k] += g[k]
                    g[k] = 0
