"""What a kind of hidden layer computes: the one place where kinds are told apart.

There is one kind so far. Another is a name in `KINDS`, a branch on `layer.kind` in each of the three functions here,
its kernels, and their twins in `reference`. Layers that read the examples take them as panels, or, where input is
sparse, as lists; `lists` is an argument of its own beside `batch` because Numba leaves out a branch on ``is None`` for
arguments only.
"""

from fastnn.kernels.activations import activate
from fastnn.kernels.dense import dense, input_gradient, weight_gradient
from fastnn.kernels.jit import jit
from fastnn.kernels.memory import EXAMPLES
from fastnn.kernels.sparse import sparse_dense, sparse_weight_gradient

KINDS = ("dense",)  # in the order that kernels know them by; `network.Dense.kind` is one of them


@jit
def forward(layer, batch, lists, activation, i):
    """a = f(x @ w + b) and f′(z), the own panels of layer `i`."""
    if lists is not None and layer.reads == EXAMPLES:
        sparse_dense(lists, layer.w, layer.b, batch.rows, layer.a, layer.own, activation)
    else:
        dense(layer.x, layer.w, layer.b, layer.inputs, batch.rows, layer.a, layer.own, activation)
    activate(activation, i, batch.epoch, batch.start, batch.rows, layer.a, layer.slope, layer.own)


@jit
def add_weight_gradient(layer, batch, lists, own):
    """dw += x.T @ dz, db += Σ_i dz[i], of the panels from own[0] up to own[1]."""
    if lists is not None and layer.reads == EXAMPLES:
        sparse_weight_gradient(lists, layer.dz, batch.rows, layer.dw, layer.db, own)
    else:
        weight_gradient(layer.x, layer.dz, layer.inputs, batch.rows, layer.dw, layer.db, own)


@jit
def pass_gradient(layer, batch, below, dz_below, own_below):
    """dz of the layer that it reads = (dz @ w.T) · f′(z), the own panels of that one."""
    input_gradient(layer.dz, layer.w, layer.units, batch.rows, batch.scratch, dz_below, own_below, below)
