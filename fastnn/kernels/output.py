"""The output layer: logits, and the gradients through it.

Its weights are kept transposed, (K/W, C, W), and owned by panels of *inputs*: each thread turns every panel of
activations it owns into a part of the logits, and only these small parts cross between cores. Logits are kept as panels
of samples, (B/W, C, W), so that softmax is plain loops over samples side by side.
"""

from fastnn.kernels.activations import times_slope
from fastnn.kernels.dense import ROWS, transpose
from fastnn.kernels.jit import jit
from fastnn.kernels.numbers import number
from fastnn.kernels.tiles import add, load, rank1, rank1_transposed, store, sum_of_row, zeros


@jit
def partial_logits(x, w, b, inputs, rows, scratch, parts, own):
    """Part p of the logits: w[p] @ x[p].T, and + b in part 0; as panels of samples, parts[p · B/W + s].

    x (K/W, B, W)   w (K/W, C, W)   b (C/W, W)   scratch (W, W)   →  parts (K/W · B/W, C, W) overwritten
    """
    width = x.shape[2]
    blocks = (rows + width - 1) // width
    for p in range(own[0], own[1]):
        x_p, w_p = x[p], w[p]
        for s in range(blocks):
            transpose(x_p, s * width, scratch)  # samples beyond the batch too, which the loss leaves out
            z_ps = parts[p * blocks + s]
            for c in range(0, w.shape[1], ROWS):
                t = zeros(w_p)
                for k in range(min(width, inputs - p * width)):
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
def output_input_gradient(dz, w, classes, rows, dz_below, own, below):
    """dz_below[p] = (dz.T @ w[p]) · f′(z) of the layer below.    dz (B/W, C, W)   →  (K/W, B, W) overwritten"""
    # forward: z = w @ x.T   so   da[i, :] = Σ_c dz[c, i] · w[c, :], and the activation lets through f′ of it
    # backward begins here, so that no other layer has left anything there
    width = dz_below.shape[2]
    for p in range(own[0], own[1]):
        w_p, below_p = w[p], dz_below[p]
        for i in range(0, rows, ROWS):
            dz_s = dz[i // width]
            t = zeros(below_p)
            for c in range(classes):
                t = rank1_transposed(t, dz_s, c, i % width, w_p, c)
            store(times_slope(t, below, p, i), below_p, i)


@jit
def output_weight_gradient(x, dz, n, dw, own):
    """dw[p] += dz @ x[p].    dz (B/W, C, W)   x (K/W, B, W)   →  dw (K/W, C, W) added to"""
    # forward: z = w @ x.T   so   dw[c, :] = Σ_i dz[c, i] · x[i, :]
    width = x.shape[2]
    for p in range(own[0], own[1]):
        x_p, dw_p = x[p], dw[p]
        for c in range(0, dw.shape[1], ROWS):
            t = zeros(x_p)
            for s in range((n + width - 1) // width):
                dz_s = dz[s]
                for i in range(min(width, n - s * width)):
                    t = rank1(t, dz_s, c, i, x_p, s * width + i)
            store(add(load(dw_p, c), t), dw_p, c)


@jit
def output_bias_gradient(dz, n, classes, db):
    """db[c] += Σ_i dz[c, i].    dz (B/W, C, W)   →  db (C/W, W) added to"""
    width = dz.shape[2]
    for c in range(classes):
        total = number(0, dz)
        for s in range((n + width - 1) // width):
            total = sum_of_row(total, dz[s], c)
        db[c // width, c % width] += total
