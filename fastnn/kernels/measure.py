"""Kernels that only measure: the peak of a core, and one product many times in a row."""

from fastnn.kernels.activations import Below
from fastnn.kernels.barrier import barrier
from fastnn.kernels.dense import ROWS, dense, input_gradient, weight_gradient
from fastnn.kernels.jit import jit, kernel
from fastnn.kernels.losses import softmax_cross_entropy
from fastnn.kernels.sparse import sparse_dense, sparse_weight_gradient
from fastnn.kernels.tiles import BLOCK, load, rank1, store

_UNROLLED = 8  # as written below
PEAK_FLOPS_A_ROUND = 2 * ROWS * _UNROLLED  # for each column of a panel


@kernel
def peak(x, w, rounds):
    """Fused multiply-adds as fast as they go: the operands stay in the first-level cache, the tile in registers."""
    t = load(x, 0)
    for n in range(rounds):
        k = n & 7
        for _ in range(8):
            t = rank1(t, x, 0, k, w, k)
    store(t, x, 0)


@kernel
def forward_product(x, w, b, inputs, rows, a, repeats):
    """`dense` over all panels, `repeats` times."""
    for _ in range(repeats):
        dense(x, w, b, inputs, rows, a, (0, a.shape[0]), None)


@kernel
def gradient_product(x, dz, inputs, rows, w, b, repeats):
    """`weight_gradient` over all panels, `repeats` times."""
    for _ in range(repeats):
        weight_gradient(x, dz, inputs, rows, w, b, (0, dz.shape[0]))


@kernel
def input_product(dz, w, a, scratch, dx, repeats):
    """`input_gradient` over all panels, `repeats` times."""
    for _ in range(repeats):
        units, rows = dz.shape[0] * dz.shape[2], dz.shape[1]
        input_gradient(dz, w, units, rows, scratch, dx, (0, dx.shape[0]), Below(None, a, False, True))


@kernel
def softmax_many(z, batch, classes, scratch, dz, repeats):
    """`softmax_cross_entropy` of a batch, `repeats` times."""
    total = 0.0
    for _ in range(repeats):
        total += softmax_cross_entropy(z, batch, classes, 0.0, 1.0, scratch, dz)[0]
    return total


@kernel
def sparse_forward(lists, w, b, rows, a, repeats):
    """`sparse_dense` over all panels, `repeats` times."""
    for _ in range(repeats):
        sparse_dense(lists, w, b, rows, a, (0, a.shape[0]), None)


@kernel
def sparse_gradient(lists, dz, rows, w, b, repeats):
    """`sparse_weight_gradient` over all panels, `repeats` times."""
    for _ in range(repeats):
        sparse_weight_gradient(lists, dz, rows, w, b, (0, dz.shape[0]))


@kernel
def barriers(count, team):
    """`count` barriers with nothing between them."""
    for _ in range(count):
        barrier(team)
    return count


@jit
def lists_of_activations(a, units, n, lists):
    """The lists of a batch of hidden activations, as `sparse.invert` makes them of sparse input.    a (K/W, B, W)"""
    width = a.shape[2]
    capacity = lists.sample.size // lists.end.size
    for block in range(lists.end.size):
        at, q, k0 = block * capacity, block * BLOCK // width, block * BLOCK % width
        last = min(BLOCK, units - block * BLOCK)
        for i in range(n):
            any_set = False
            for k in range(last):
                any_set = any_set or a[q, i, k0 + k] != 0
            if any_set:
                for k in range(last):
                    lists.values[at, k] = a[q, i, k0 + k]
                lists.sample[at] = i
                at += 1
        lists.end[block] = at


@kernel
def sparse_layer(a, lists, w, b, rows, out, dz, repeats):
    """A hidden layer whose input is taken as sparse: lists, forward, weight gradient, `repeats` times."""
    own = (0, out.shape[0])
    for _ in range(repeats):
        lists_of_activations(a, w.shape[1], rows, lists)
        sparse_dense(lists, w, b, rows, out, own, None)
        sparse_weight_gradient(lists, dz, rows, w, b, own)


@kernel
def dense_layer(a, w, b, rows, out, dz, repeats):
    """The same layer, dense: forward, weight gradient, `repeats` times."""
    own = (0, out.shape[0])
    for _ in range(repeats):
        dense(a, w, b, w.shape[1], rows, out, own, None)
        weight_gradient(a, dz, w.shape[1], rows, w, b, own)
