"""Optimizers: one pass over a range of the flat buffers turns a gradient into a step, and leaves the gradient zero.

Plain SGD needs none of this: its rule is None, its step is added by the weight gradient itself. Every range belongs to
one thread, which wrote its gradient just before.
"""

import math
from typing import NamedTuple

import numpy as np

from fastnn.kernels.jit import jit
from fastnn.kernels.numbers import number
from fastnn.kernels.views import part

# in the order that kernels know them by; `optimizers.OPTIMIZERS` holds the same names
SGD, MOMENTUM, NESTEROV, ADAM, RMSPROP = range(5)  # SGD here has penalties or limits; plain SGD has no rule


_TINY = 1e-30  # the smallest normal float32 is 1.2e-38


class Rule(NamedTuple):
    """How gradients change parameters. The buffers are laid out like the parameters; empty where not needed."""

    kind: int
    first: np.ndarray  # momentum, or the mean of gradients
    second: np.ndarray  # the mean of their squares
    average: np.ndarray  # of the parameters themselves
    norms: np.ndarray  # float64 (panels of all layers,): sums of squares of the gradient; empty without clipping
    beta1: float  # momentum, or of the mean of gradients
    beta2: float  # of the mean of squares
    epsilon: float
    l1: float
    l2: float
    decay: float  # decoupled weight decay
    clip: float  # largest norm of the whole gradient; 0: any
    max_norm: float  # largest norm of a hidden unit's incoming weights; 0: any
    averaging: float  # of the average
    epsilon_hat: bool = False  # Adam's ε is added to √v before its bias is corrected, as in Kingma and Ba 2015, §2
    penalties: np.ndarray = np.zeros((0, 0))  # float64 (layers, panels): Σ l2/2 · p² + l1 · |p|; empty: not wanted


class Step(NamedTuple):
    """What the update of one step depends on; passed on as `now`."""

    rate: float  # learning rate
    time: int  # steps so far, this one included
    shrink: float  # what the gradient is multiplied by to be clipped
    penalty: float = 1.0  # what l1 and l2 are multiplied by
    counted: float = 1.0  # what penalties are multiplied by before they are summed


@jit
def whole_power(x, n):
    """x to the n, by squaring: no function of a C library, which may differ between machines."""
    power = 1.0
    while n > 0:
        if n % 2 == 1:
            power *= x
        x *= x
        n //= 2
    return power


@jit
def regularise(p, g, shrink, l1, l2):
    """g = shrink · g + l2 · p + l1 · sign p."""
    s, l1, l2 = number(shrink, p), number(l1, p), number(l2, p)
    one, zero = number(1, p), number(0, p)
    for i in range(p.size):
        sign = (one if p[i] > zero else zero) - (one if p[i] < zero else zero)
        g[i] = s * g[i] + l2 * p[i] + l1 * sign


@jit
def penalty_of(p, l1, l2):
    """Σ l2 / 2 · p² + l1 · |p|, in float64."""
    squares, magnitudes = 0.0, 0.0
    for i in range(p.size):
        squares += np.float64(p[i]) * np.float64(p[i])
        magnitudes += abs(np.float64(p[i]))
    return 0.5 * l2 * squares + l1 * magnitudes


@jit
def flushed(x):
    """x, or 0 where it is so small that it would soon be denormal.

    What an optimizer remembers of a weight whose gradient is 0 fades by a factor each step, and denormal numbers take
    many times longer: with Adam and L2 an epoch of MNIST in float32 slowed from 73 ms to 116, and now takes 69.
    """
    tiny = number(_TINY, x)
    return x if abs(x) > tiny else number(0, x)


@jit
def sgd(p, g, rate, keep):
    """p = keep · p − rate · g."""
    r, k = number(rate, p), number(keep, p)
    for i in range(p.size):
        p[i] = k * p[i] - r * g[i]
        g[i] = 0


@jit
def momentum(p, g, m, rate, keep, mu):
    """m = μ m + g,  p = keep · p − rate · m    (Polyak 1964)."""
    r, k, mu = number(rate, p), number(keep, p), number(mu, p)
    for i in range(p.size):
        m[i] = flushed(mu * m[i] + g[i])
        p[i] = k * p[i] - r * m[i]
        g[i] = 0


@jit
def nesterov(p, g, m, rate, keep, mu):
    """m = μ m + g,  p = keep · p − rate · (g + μ m)    (Sutskever et al. 2013, as PyTorch writes it)."""
    r, k, mu = number(rate, p), number(keep, p), number(mu, p)
    for i in range(p.size):
        m[i] = flushed(mu * m[i] + g[i])
        p[i] = k * p[i] - r * (g[i] + mu * m[i])
        g[i] = 0


@jit
def adam(p, g, m, v, now, keep, rule):
    """m = β₁ m + (1 − β₁) g,  v = β₂ v + (1 − β₂) g²,  p = keep · p − rate · m̂ / (√v̂ + ε)    (Kingma and Ba 2015).

    m̂ = m / (1 − β₁^t) and v̂ = v / (1 − β₂^t); with keep = 1 − rate · decay it is AdamW (Loshchilov and Hutter 2019).
    With ε̂ the divisor is (√v + ε) / √(1 − β₂^t).
    """
    r = number(now.rate / (1 - whole_power(rule.beta1, now.time)), p)
    correction = 1 / math.sqrt(1 - whole_power(rule.beta2, now.time))
    root, epsilon = number(correction, p), number(rule.epsilon * (correction if rule.epsilon_hat else 1.0), p)
    b1, b2, k = number(rule.beta1, p), number(rule.beta2, p), number(keep, p)
    c1, c2 = number(1 - rule.beta1, p), number(1 - rule.beta2, p)
    for i in range(p.size):
        m[i] = flushed(b1 * m[i] + c1 * g[i])
        v[i] = flushed(b2 * v[i] + c2 * g[i] * g[i])
        p[i] = k * p[i] - r * m[i] / (math.sqrt(v[i]) * root + epsilon)
        g[i] = 0


@jit
def rmsprop(p, g, v, rate, keep, rule):
    """v = β₂ v + (1 − β₂) g²,  p = keep · p − rate · g / (√v + ε)    (Tieleman and Hinton 2012)."""
    r, b2, c2 = number(rate, p), number(rule.beta2, p), number(1 - rule.beta2, p)
    epsilon, k = number(rule.epsilon, p), number(keep, p)
    for i in range(p.size):
        v[i] = flushed(b2 * v[i] + c2 * g[i] * g[i])
        p[i] = k * p[i] - r * g[i] / (math.sqrt(v[i]) + epsilon)
        g[i] = 0


@jit
def update(rule, parameters, gradient, at, size, now, is_weight):
    """One step of the optimizer over `size` numbers from `at`; penalties and decay are on weights, not on biases."""
    p, g = part(parameters, at, size), part(gradient, at, size)
    keep = 1 - now.rate * rule.decay if is_weight else 1.0
    if is_weight and (rule.l1 > 0 or rule.l2 > 0):
        regularise(p, g, now.shrink, now.penalty * rule.l1, now.penalty * rule.l2)
    elif now.shrink != 1:
        regularise(p, g, now.shrink, 0.0, 0.0)
    if rule.kind == SGD:
        sgd(p, g, now.rate, keep)
    elif rule.kind == MOMENTUM:
        momentum(p, g, part(rule.first, at, size), now.rate, keep, rule.beta1)
    elif rule.kind == NESTEROV:
        nesterov(p, g, part(rule.first, at, size), now.rate, keep, rule.beta1)
    elif rule.kind == ADAM:
        adam(p, g, part(rule.first, at, size), part(rule.second, at, size), now, keep, rule)
    else:
        rmsprop(p, g, part(rule.second, at, size), now.rate, keep, rule)


@jit
def average(e, p, decay, time):
    """e = d · e + (1 − d) · p, d = min(decay, t / (t + 9)), so that the first steps do not linger."""
    new = number(1 - min(decay, time / (time + 9.0)), p)
    for i in range(p.size):
        e[i] += new * (p[i] - e[i])


@jit
def limit_norms(w, limit, scratch):
    """Scale every column of a panel that is longer than `limit` to that length.    w (K, W)   scratch (W,)"""
    for j in range(w.shape[1]):
        scratch[j] = 0
    for k in range(w.shape[0]):
        for j in range(w.shape[1]):
            scratch[j] += w[k, j] * w[k, j]
    longest = number(limit, w)
    over = False
    for j in range(w.shape[1]):
        over = over or scratch[j] > longest * longest
        scratch[j] = longest / math.sqrt(scratch[j]) if scratch[j] > longest * longest else number(1, w)
    if over:
        for k in range(w.shape[0]):
            for j in range(w.shape[1]):
                w[k, j] *= scratch[j]
