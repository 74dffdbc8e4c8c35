"""The first layer over sparse input: only blocks of neighbouring features that hold anything are touched.

Most of MNIST is zeros: 28 % of the blocks of 4 neighbouring pixels hold ink. The data set is cut once into its
non-zero blocks. A batch is inverted, block → the samples that have it, and a block's rows of the weights stay in
registers while its list is run through: BLOCK x VECTORS fused multiply-adds an entry, as in the dense product, for a
quarter of the entries. Two panels are done at once where a thread owns two: each with the same operations as alone.
Every thread inverts the batch for itself.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.activations import activate_tile
from fastnn.kernels.dense import ROWS, bias_gradient
from fastnn.kernels.jit import jit, kernel
from fastnn.kernels.numbers import number
from fastnn.kernels.tiles import (
    BLOCK,
    block_add_product,
    block_add_to,
    block_load,
    block_rank1,
    block_zeros,
    convert_block,
    load,
    load_row,
    store,
)
from fastnn.kernels.views import prefetch


class Blocks(NamedTuple):
    """A data set cut into blocks of BLOCK neighbouring features, row after row; only those that hold anything.

    An entry is one block of one example.
    """

    starts: np.ndarray  # int64 (N + 1,): first entry of each example
    index: np.ndarray  # uint16 or uint32 (E,): which block of its example, rising within an example
    values: np.ndarray  # (E, BLOCK) of the data's own type


class Lists(NamedTuple):
    """A batch, inverted: the entries of block b are those from b · capacity to `end[b]`, by rising sample.

    Room for a whole batch in each list saves counting first, and unsigned numbers need no test for negative indices:
    with both, inverting a batch of 64 takes 4 µs instead of 11.
    """

    end: np.ndarray  # uint64 (blocks,)
    sample: np.ndarray  # uint16 (blocks · capacity,)
    values: np.ndarray  # (blocks · capacity, BLOCK) of the parameters' type, scaled


@kernel
def count_blocks(x, starts):
    """starts[i + 1] = blocks of row i that hold anything.    x (N, D)"""
    n, features = x.shape
    for i in range(n):
        blocks = 0
        for k0 in range(0, features, BLOCK):
            any_set = False
            for k in range(k0, min(k0 + BLOCK, features)):
                any_set = any_set or x[i, k] != 0
            blocks += any_set
        starts[i + 1] = blocks


@kernel
def cut_blocks(x, starts, index, values):
    """Fill `index` and `values` (zero) of a `Blocks` whose `starts` are known.    x (N, D)"""
    n, features = x.shape
    for i in range(n):
        entry = starts[i]
        for k0 in range(0, features, BLOCK):
            any_set = False
            for k in range(k0, min(k0 + BLOCK, features)):
                any_set = any_set or x[i, k] != 0
            if any_set:
                index[entry] = k0 // BLOCK
                for k in range(k0, min(k0 + BLOCK, features)):
                    values[entry, k - k0] = x[i, k]
                entry += 1


@jit
def invert(data, start, n, lists):
    """The lists of the batch order[start : start + n].

    What the next batch will need is asked for meanwhile, for it lies anywhere in memory: its entries, and where those
    of the batch after it begin, which tells the next call what to ask for.
    """
    blocks, end, order = data.x, lists.end, data.order
    capacity = lists.sample.size // end.size
    scale = number(data.scale, lists.values)
    for block in range(end.size):
        end[block] = block * capacity
    for i in range(n):
        if start + 2 * n + i < order.size:
            far = order[start + 2 * n + i]
            prefetch(blocks.starts, far, far + 2)
        if start + n + i < order.size:
            ahead = order[start + n + i]
            first, last = blocks.starts[ahead], blocks.starts[ahead + 1]
            prefetch(blocks.index, first, last)
            prefetch(blocks.values, first * BLOCK, last * BLOCK)
        row = order[start + i]
        for entry in range(blocks.starts[row], blocks.starts[row + 1]):
            block = blocks.index[np.uint64(entry)]
            at = end[block]
            end[block] = at + np.uint64(1)
            lists.sample[at] = i
            convert_block(blocks.values, entry, scale, lists.values, np.int64(at))


@jit
def _one(lists):
    """1, as LLVM can't know, so that it leaves the loops below as they are.

    Unrolled by two, each list takes one more branch that is guessed wrong: 9.6 instead of 9.0 µs a batch.
    """
    return np.uint64(lists.sample.strides[0] // lists.sample.itemsize)


@jit
def _products(lists, w, a, p):
    """a[p] += x @ w[p]."""
    capacity = lists.sample.size // lists.end.size
    one = _one(lists)
    w_p, a_p = w[p], a[p]
    for block in range(lists.end.size):
        weights = block_load(w_p, block * BLOCK)
        entry, last = np.uint64(block * capacity), lists.end[block]
        while entry < last:
            block_add_product(weights, lists.values, np.int64(entry), a_p, lists.sample[entry])
            entry += one


@jit
def _products_of_two(lists, w, a, p):
    """a[p] += x @ w[p] and a[p + 1] += x @ w[p + 1]: lists are short, and each ends in a branch guessed wrong."""
    capacity = lists.sample.size // lists.end.size
    one = _one(lists)
    w_p, w_r, a_p, a_r = w[p], w[p + 1], a[p], a[p + 1]
    for block in range(lists.end.size):
        weights_p, weights_r = block_load(w_p, block * BLOCK), block_load(w_r, block * BLOCK)
        entry, last = np.uint64(block * capacity), lists.end[block]
        while entry < last:
            i = lists.sample[entry]
            block_add_product(weights_p, lists.values, np.int64(entry), a_p, i)
            block_add_product(weights_r, lists.values, np.int64(entry), a_r, i)
            entry += one


@jit
def sparse_dense(lists, w, b, rows, a, own, activation):
    """a = max(x @ w + b, 0), x given by its lists; without the ReLU where there is another `activation`.

    w (H/W, K, W)   b (H/W, W)   →  a (H/W, B, W) overwritten
    """
    for p in range(own[0], own[1]):
        t = load_row(b, p)
        for i in range(0, rows, ROWS):
            store(t, a[p], i)
    for p in range(own[0], own[1] - 1, 2):
        _products_of_two(lists, w, a, p)
    if (own[1] - own[0]) % 2 == 1:
        _products(lists, w, a, own[1] - 1)
    for p in range(own[0], own[1]):
        a_p = a[p]
        for i in range(0, rows, ROWS):
            store(activate_tile(load(a_p, i), activation), a_p, i)


@jit
def _sums(lists, dz, dw, p):
    """dw[p] += x.T @ dz[p]."""
    capacity = lists.sample.size // lists.end.size
    one = _one(lists)
    dw_p, dz_p = dw[p], dz[p]
    for block in range(lists.end.size):
        entry, last = np.uint64(block * capacity), lists.end[block]
        if entry < last:
            t = block_zeros(dz_p)
            while entry < last:
                t = block_rank1(t, lists.values, np.int64(entry), dz_p, lists.sample[entry])
                entry += one
            block_add_to(t, dw_p, block * BLOCK)


@jit
def _sums_of_two(lists, dz, dw, p):
    """dw[p] += x.T @ dz[p] and dw[p + 1] += x.T @ dz[p + 1]."""
    capacity = lists.sample.size // lists.end.size
    one = _one(lists)
    dw_p, dw_r, dz_p, dz_r = dw[p], dw[p + 1], dz[p], dz[p + 1]
    for block in range(lists.end.size):
        entry, last = np.uint64(block * capacity), lists.end[block]
        if entry < last:
            t, u = block_zeros(dz_p), block_zeros(dz_p)
            while entry < last:
                i = lists.sample[entry]
                t = block_rank1(t, lists.values, np.int64(entry), dz_p, i)
                u = block_rank1(u, lists.values, np.int64(entry), dz_r, i)
                entry += one
            block_add_to(t, dw_p, block * BLOCK)
            block_add_to(u, dw_r, block * BLOCK)


@jit
def sparse_weight_gradient(lists, dz, rows, dw, db, own):
    """dw += x.T @ dz,  db += Σ_i dz[i], x given by its lists.

    dz (H/W, B, W)   →  dw (H/W, K, W), db (H/W, W) added to
    """
    # forward: z = x @ w + b   so   dw[k, :] = Σ_i x[i, k] · dz[i, :], a sum over the samples of k's block
    for p in range(own[0], own[1] - 1, 2):
        _sums_of_two(lists, dz, dw, p)
    if (own[1] - own[0]) % 2 == 1:
        _sums(lists, dz, dw, own[1] - 1)
    bias_gradient(dz, rows, db, own)
