"""The output layer: logits, softmax cross-entropy, and their gradients.

Its weights are kept transposed, (K/W, C, W), and owned by panels of *inputs*: each thread turns the
activations it owns into a part of the logits, and only these small parts cross between cores. Logits are kept
as panels of samples, (B/W, C, W), so that softmax is plain loops over samples side by side.
"""

import math

from fastnn.kernels.dense import ROWS, transpose
from fastnn.kernels.jit import jit
from fastnn.kernels.tiles import (
    add,
    exponent,
    load,
    nearest,
    number,
    power_of_two,
    rank1,
    rank1_transposed,
    store,
    where_positive,
    zeros,
)

_LOWEST = -87.0  # exp(-87) = 1.6e-38, the smallest normal float32
_TERMS = 13  # of the Taylor series on |r| ≤ ln(2)/2: the next one is 4e-18
_ODD_TERMS = 11  # of the series of atanh on |s| ≤ 0.172: the next one is 1e-19


@jit
def partial_logits(a, w, b, k_size, rows, scratch, z, own):
    """z[p] = w[p] @ a[p].T, and + b in the first panel.

    a (K/W, B, W)   w (K/W, C, W)   b (C/W, W)   scratch (W, W)   →  z (K/W · B/W, C, W) overwritten
    """
    width = a.shape[2]
    blocks = (rows + width - 1) // width
    for p in range(own[0], own[1]):
        a_p, w_p = a[p], w[p]
        units = min(width, k_size - p * width)
        for s in range(blocks):
            transpose(a_p, s * width, scratch)
            z_ps = z[p * blocks + s]
            for c in range(0, w.shape[1], ROWS):
                t = zeros(w_p)
                for k in range(units):
                    t = rank1(t, w_p, c, k, scratch, k)
                store(t, z_ps, c)
            if p == 0:  # whose owner alone reads and changes b
                for c in range(w.shape[1]):
                    for i in range(width):
                        z_ps[c, i] += b[c // width, c % width]


@jit
def sum_logits(parts, k_panels, rows, z):
    """z = Σ_p parts[p], in the order of the panels.    parts (K/W · B/W, C, W)   →  z (B/W, C, W) overwritten"""
    width = z.shape[2]
    blocks = (rows + width - 1) // width
    for s in range(blocks):
        z_s = z[s]
        for c in range(0, z.shape[1], ROWS):
            t = load(parts[s], c)
            for p in range(1, k_panels):
                t = add(t, load(parts[p * blocks + s], c))
            store(t, z_s, c)


@jit
def exp(x):
    """e to the x for x ≤ 0, NaN for NaN; vectorised where a call of the C function is not."""
    lowest = number(_LOWEST, x)
    x = lowest if x < lowest else x
    finite = x if x >= lowest else lowest
    n = nearest(finite * number(1 / math.log(2), x))
    r = x - n * number(math.log(2), x)
    p = number(1, x)
    for term in range(_TERMS, 0, -1):
        p = number(1, x) + p * r * number(1 / term, x)
    return p * power_of_two(n)


@jit
def log(x):
    """The natural logarithm of a positive normal x, NaN for NaN; vectorised like `exp`."""
    n = exponent(x * number(math.sqrt(2), x))
    m = x * power_of_two(-n)  # sqrt(1/2) ≤ m < sqrt(2)
    s = (m - number(1, x)) / (m + number(1, x))  # log m = 2 · atanh s = 2 · (s + s³/3 + s⁵/5 + …)
    p = number(0, x)
    for term in range(2 * _ODD_TERMS - 1, 0, -2):
        p = p * s * s + number(2 / term, x)
    return p * s + n * number(math.log(2), x) if x >= number(0, x) else x


@jit
def softmax_cross_entropy(z, y, n, classes, scale, scratch, dz):
    """dz = scale · (softmax(z) − onehot(y)); returns Σ_i −log softmax(z)[y_i, i] and how many are right.

    z (B/W, C, W)   y (≥ B,)   scratch (≥ 3, W)   →  dz (B/W, C, W) overwritten, 0 for samples n and beyond
    """
    width = z.shape[2]
    loss, correct = 0.0, 0
    top, total, right = scratch[0], scratch[1], scratch[2]  # right: the logit of the right class
    for s in range((n + width - 1) // width):
        z_s, dz_s, first = z[s], dz[s], s * width
        for i in range(width):
            top[i], right[i], total[i] = z_s[0, i], z_s[0, i], 0
        for c in range(1, classes):
            for i in range(width):
                top[i] = z_s[c, i] if z_s[c, i] > top[i] else top[i]
                right[i] = z_s[c, i] if y[first + i] == c else right[i]
        for c in range(classes):
            for i in range(width):
                e = exp(z_s[c, i] - top[i])
                dz_s[c, i] = e
                total[i] += e
        samples = min(width, n - first)
        for i in range(width):
            loss += log(total[i]) + (top[i] - right[i]) if i < samples else number(0, z)
            correct += i < samples and right[i] >= top[i]
            total[i] = number(scale, z) / total[i]
        for c in range(classes):
            for i in range(width):
                hit = number(scale, z) if y[first + i] == c else number(0, z)
                dz_s[c, i] = dz_s[c, i] * total[i] - hit if i < samples else number(0, z)
    return loss, correct


@jit
def output_input_gradient(dz, w, a, classes, rows, dx, own):
    """dx[p] = (dz.T @ w[p]) where a > 0, else 0.    →  dx (K/W, B, W) overwritten"""
    # forward: z = w @ a.T   so   dx[i, :] = Σ_c dz[c, i] · w[c, :], and ReLU lets through where a > 0
    width = a.shape[2]
    for p in range(own[0], own[1]):
        w_p, a_p, dx_p = w[p], a[p], dx[p]
        for i in range(0, rows, ROWS):
            dz_s = dz[i // width]
            t = zeros(a_p)
            for c in range(classes):
                t = rank1_transposed(t, dz_s, c, i % width, w_p, c)
            store(where_positive(t, load(a_p, i)), dx_p, i)


@jit
def output_weight_gradient(a, dz, n, w, own):
    """w[p] += dz @ a[p].    dz (B/W, C, W)   a (K/W, B, W)   →  w (K/W, C, W) added to"""
    # forward: z = w @ a.T   so   dw[c, :] = Σ_i dz[c, i] · a[i, :]
    width = a.shape[2]
    for p in range(own[0], own[1]):
        a_p, w_p = a[p], w[p]
        for c in range(0, w.shape[1], ROWS):
            t = zeros(a_p)
            for s in range((n + width - 1) // width):
                dz_s = dz[s]
                for i in range(min(width, n - s * width)):
                    t = rank1(t, dz_s, c, i, a_p, s * width + i)
            store(add(load(w_p, c), t), w_p, c)


@jit
def output_bias_gradient(dz, n, classes, b):
    """b[c] += Σ_i dz[c, i].    dz (B/W, C, W)   →  b (C/W, W) added to"""
    width = dz.shape[2]
    for c in range(classes):
        total = number(0, dz)
        for s in range((n + width - 1) // width):
            for i in range(width):
                total += dz[s, c, i]
        b[c // width, c % width] += total
