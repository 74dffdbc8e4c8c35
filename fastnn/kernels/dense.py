"""Dense layers: forward, and the two products of backward.

Letters are those of `memory`: B batch rows, K inputs of a layer, H its units, W the panel width. A matrix (B, H) is cut
into *panels* of W columns, (H/W, B, W), its last columns padded with zeros; weights (K, H) into (H/W, K, W). Each
kernel works on the panels from `own[0]` up to `own[1]`, that one excepted, which its thread owns. It sums in tiles:
`rank1(t, x, i, k, w, j)` is t[r, :] + x[i + r, k] · w[j, :] for the rows r of a tile; `rank1_transposed` takes
x[i, k + r] instead.
"""

from fastnn.kernels.activations import activate_tile, times_slope
from fastnn.kernels.host import SHAPE
from fastnn.kernels.jit import jit
from fastnn.kernels.tiles import (
    add,
    add_row_sums,
    load,
    load_row,
    rank1,
    rank1_transposed,
    store,
    transpose_square,
    zeros,
)

ROWS, VECTORS = SHAPE.rows, SHAPE.vectors
PANEL_BLOCK = 8  # panels of inputs at once: their weights (8 · W · W numbers) stay in the first-level cache
ROW_BLOCK = 256  # batch rows at once: those of a panel stay there too; both are 32 KB of float32 with W = 32


@jit
def dense(x, w, b, inputs, rows, a, own, activation):
    """a = max(x @ w + b, 0), or a = x @ w + b for `activate` to go on with where activations are not plain ReLU.

    x (K/W, B, W)   w (H/W, K, W)   b (H/W, W)   →  a (H/W, B, W) overwritten
    """
    width = x.shape[2]
    block = PANEL_BLOCK * width
    for p in range(own[0], own[1]):
        w_p, a_p = w[p], a[p]
        for k0 in range(0, inputs, block):
            k1 = min(k0 + block, inputs)
            for i in range(0, rows, ROWS):
                t = load_row(b, p) if k0 == 0 else load(a_p, i)
                for q in range(k0 // width, (k1 + width - 1) // width):
                    x_q = x[q]
                    for k in range(min(width, k1 - q * width)):
                        t = rank1(t, x_q, i, k, w_p, q * width + k)
                store(activate_tile(t, activation) if k1 == inputs else t, a_p, i)


@jit
def transpose(source, i, target):
    """target = source[i : i + W].T.    source (≥ i + W, W)   →  target (W, W) overwritten"""
    width = target.shape[1]
    lanes = width // VECTORS
    for r in range(0, width, lanes):
        for c in range(0, width, lanes):
            transpose_square(source, i, r, c, target)


@jit
def input_gradient(dz, w, units, rows, scratch, dz_below, own, below):
    """dz of the layer below = (dz @ w.T) · f′(z); where another layer reads that one too, its part is there already.

    dz (H/W, B, W)   w (H/W, K, W)   scratch (PANEL_BLOCK, W, W)   →  dz_below (K/W, B, W)
    """
    # forward: z = a @ w + b   so   da[:, k] = Σ_h dz[:, h] · w[k, h], and the activation lets through f′ of it
    width = dz.shape[2]
    h_panels = (units + width - 1) // width
    for q in range(own[0], own[1]):
        below_q = dz_below[q]
        for p0 in range(0, h_panels, PANEL_BLOCK):
            p1 = min(p0 + PANEL_BLOCK, h_panels)
            for p in range(p0, p1):
                transpose(w[p], q * width, scratch[p - p0])
            for i in range(0, rows, ROWS):
                t = zeros(below_q) if p0 == 0 and not below.adds else load(below_q, i)
                for p in range(p0, p1):
                    dz_p, w_pq = dz[p], scratch[p - p0]
                    for h in range(min(width, units - p * width)):
                        t = rank1(t, dz_p, i, h, w_pq, h)
                store(times_slope(t, below, q, i) if p1 == h_panels else t, below_q, i)


@jit
def bias_gradient(dz, rows, db, own):
    """db += Σ_i dz[i].    dz (H/W, B, W)   →  db (H/W, W) added to"""
    for p in range(own[0], own[1]):
        dz_p = dz[p]
        t = zeros(dz_p)
        for i in range(0, rows, ROWS):
            t = add(t, load(dz_p, i))
        add_row_sums(t, db, p)


@jit
def weight_gradient(x, dz, inputs, rows, dw, db, own):
    """dw += x.T @ dz,  db += Σ_i dz[i].    x (K/W, B, W)   dz (H/W, B, W)   →  dw (H/W, K, W), db (H/W, W) added to

    With dz scaled by −learning_rate and the weights themselves as dw this is the whole SGD update.
    """
    # forward: z = x @ w + b   so   dw[k, :] = Σ_i x[i, k] · dz[i, :]   and   db = Σ_i dz[i, :]
    width = x.shape[2]
    for i0 in range(0, rows, ROW_BLOCK):
        i1 = min(i0 + ROW_BLOCK, rows)
        for p in range(own[0], own[1]):
            dw_p, dz_p = dw[p], dz[p]
            for q in range((inputs + width - 1) // width):
                x_q = x[q]
                for k in range(0, min(width, inputs - q * width), ROWS):
                    t = zeros(dw_p)
                    for i in range(i0, i1):
                        t = rank1_transposed(t, x_q, i, k, dz_p, i)
                    store(add(load(dw_p, q * width + k), t), dw_p, q * width + k)
    bias_gradient(dz, rows, db, own)
