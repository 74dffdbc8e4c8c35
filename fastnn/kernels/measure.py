"""Kernels that only measure: the peak of a core, and one product many times in a row."""

from fastnn.kernels.dense import ROWS, dense_relu, weight_gradient
from fastnn.kernels.jit import kernel
from fastnn.kernels.tiles import load, rank1, store

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
def forward_product(x, w, b, k_size, rows, a, repeats):
    """`dense_relu` over all panels, `repeats` times."""
    for _ in range(repeats):
        dense_relu(x, w, b, k_size, rows, a, (0, a.shape[0]))


@kernel
def gradient_product(x, dz, k_size, rows, w, b, repeats):
    """`weight_gradient` over all panels, `repeats` times."""
    for _ in range(repeats):
        weight_gradient(x, dz, k_size, rows, w, b, (0, dz.shape[0]))
