"""Losses of the logits, and their gradients: the mean over the examples of a batch, weighted by `sample_weight`.

Logits lie as panels of samples, (B/W, C, W), so that everything here is plain loops over samples side by side. Softmax
cross-entropy takes labels; the others take targets, and are means over the outputs too.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.functions import exp, log, logistic, magnitude
from fastnn.kernels.jit import jit
from fastnn.kernels.numbers import number

# in the order that kernels know them by; `settings.LOSSES` holds the same names
SOFTMAX, SQUARED, ABSOLUTE, HUBER, LOGISTIC, POISSON = range(6)


class Loss(NamedTuple):
    """Which loss, and its numbers."""

    kind: int = SOFTMAX
    smoothing: float = 0.0  # of labels: the share of each that is spread over all classes
    delta: float = 1.0  # Huber: where the square ends
    summed: bool = False  # over the outputs, instead of their mean


class Examples(NamedTuple):
    """What is known of the examples of a batch."""

    y: np.ndarray  # int32 (≥ B,), labels
    sample_weight: np.ndarray  # (≥ B,), mean 1
    n: int


@jit
def softmax_cross_entropy(z, examples, classes, smoothing, scale, scratch, dz):
    """dz = scale · v_i · (softmax(z) − t_i), t_i = (1 − ε) · onehot(y_i) + ε / C, v_i its sample weight.

    Returns Σ_i −v_i Σ_c t_ic log softmax(z)_ic, and how many are right.

    z (B/W, C, W)   scratch (≥ 4, W)   →  dz (B/W, C, W) overwritten, 0 for samples beyond the batch
    """
    width = z.shape[2]
    loss, correct = 0.0, 0
    y, sample_weight, n = examples
    off = number(smoothing / classes, z)
    on = number(1 - smoothing, z) + off
    top, total, right, mean = scratch[0], scratch[1], scratch[2], scratch[3]  # right: the logit of the right class
    for s in range((n + width - 1) // width):
        z_s, dz_s, first = z[s], dz[s], s * width
        samples = min(width, n - first)
        for i in range(width):
            top[i], right[i], total[i], mean[i] = z_s[0, i], z_s[0, i], 0, z_s[0, i]
        for c in range(1, classes):
            for i in range(width):
                top[i] = z_s[c, i] if z_s[c, i] > top[i] else top[i]
                right[i] = z_s[c, i] if y[first + i] == c else right[i]
                mean[i] += z_s[c, i]
        for c in range(classes):
            for i in range(width):
                e = exp(z_s[c, i] - top[i])
                dz_s[c, i] = e
                total[i] += e
        for i in range(width):
            v = sample_weight[first + i] if i < samples else number(0, z)
            # log Σ exp z − Σ_c t_c z_c, and Σ_c t_c = 1
            value = log(total[i]) + (top[i] - (on - off) * right[i] - off * mean[i])
            loss += v * value if i < samples else number(0, z)
            correct += i < samples and right[i] >= top[i]
            top[i] = number(scale, z) * v  # from here on scale · v, and that over Σ exp z
            total[i] = top[i] / total[i]
        for c in range(classes):
            for i in range(width):
                wanted = on if y[first + i] == c else off
                dz_s[c, i] = dz_s[c, i] * total[i] - wanted * top[i] if i < samples else number(0, z)
    return loss, correct


@jit
def squared_loss(z, t, delta):
    """(z − t)² / 2, and its derivative z − t."""
    return number(0.5, z) * (z - t) * (z - t), z - t


@jit
def absolute_loss(z, t, delta):
    """|z − t|, and its derivative, the sign; 0 at 0."""
    one, zero = number(1, z), number(0, z)
    return magnitude(z - t), (one if z > t else zero) - (one if z < t else zero)


@jit
def huber_loss(z, t, delta):
    """(z − t)² / 2 within δ of t, δ · (|z − t| − δ / 2) beyond, and its derivative    (Huber 1964)."""
    far, inside = magnitude(z - t), z - t
    clipped = inside if inside < delta else delta
    clipped = -delta if clipped < -delta else clipped
    small = number(0.5, z) * far * far
    return (small if far <= delta else delta * (far - number(0.5, z) * delta)), (
        inside if inside != inside else clipped
    )


@jit
def logistic_loss(z, t, delta):
    """log(1 + e^z) − t · z, the cross-entropy of a logistic output, and its derivative 1 / (1 + e^−z) − t."""
    zero = number(0, z)
    return (z if z > zero else zero) + log(number(1, z) + exp(-magnitude(z))) - t * z, logistic(z) - t


@jit
def poisson_loss(z, t, delta):
    """e^z − t · z, and its derivative e^z − t."""
    zero = number(0, z)
    small = exp(z if z < zero else zero)
    mean = small / exp(-z if z > zero else zero)
    return mean - t * z, mean - t


def _sum_of(pair):
    """Σ_i v_i Σ_c pair(z, t), and `scale` times its gradient; the targets lie in dz."""

    @jit
    def loop(z, examples, outputs, delta, scale, dz):
        sample_weight, n = examples.sample_weight, examples.n
        width = z.shape[2]
        total = 0.0
        for s in range((n + width - 1) // width):
            samples = min(width, n - s * width)
            for c in range(outputs):
                for i in range(width):
                    value, slope = pair(z[s, c, i], dz[s, c, i], number(delta, z))
                    v = sample_weight[s * width + i] if i < samples else number(0, z)
                    total += v * value if i < samples else number(0, z)
                    dz[s, c, i] = number(scale, z) * v * slope if i < samples else number(0, z)
        return total

    return loop


_squared, _absolute, _huber = _sum_of(squared_loss), _sum_of(absolute_loss), _sum_of(huber_loss)
_logistic, _poisson = _sum_of(logistic_loss), _sum_of(poisson_loss)


@jit
def elementwise_loss(loss, z, examples, outputs, scale, dz):
    """Mean over the outputs of a loss of each, weighted and summed over the batch; dz becomes scale times its gradient.

    Their sum where the loss says so.

    z (B/W, C, W)   dz (B/W, C, W) holds the targets   →  dz overwritten, 0 for samples beyond the batch
    """
    parts = 1 if loss.summed else outputs
    delta, each = loss.delta, scale / parts
    if loss.kind == SQUARED:
        total = _squared(z, examples, outputs, delta, each, dz)
    elif loss.kind == ABSOLUTE:
        total = _absolute(z, examples, outputs, delta, each, dz)
    elif loss.kind == HUBER:
        total = _huber(z, examples, outputs, delta, each, dz)
    elif loss.kind == LOGISTIC:
        total = _logistic(z, examples, outputs, delta, each, dz)
    else:
        total = _poisson(z, examples, outputs, delta, each, dz)
    return total / parts


@jit
def loss_gradient(targets, order, net, batch, scale):
    """batch.dz = scale · gradient of the summed loss by the logits batch.z; the sum, and how many are right.

    Softmax cross-entropy where there are labels and no `targets`.
    """
    examples, z, dz = Examples(batch.labels, batch.sample_weight, batch.n), batch.z, batch.dz
    outputs, width = net.layers[net.layers.size - 1].units, z.shape[2]
    if targets is None:
        return softmax_cross_entropy(z, examples, outputs, net.loss.smoothing, scale, batch.scratch[0], dz)
    for i in range(batch.n):
        for c in range(outputs):
            dz[i // width, c, i % width] = targets[order[batch.start + i], c]
    return elementwise_loss(net.loss, z, examples, outputs, scale, dz), 0
