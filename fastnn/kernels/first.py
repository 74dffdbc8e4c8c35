"""The first layer's input, dense or sparse: one set of names, chosen by the type of the data when it is compiled."""

from numba.core import types

from fastnn.kernels.blocks import Lists, invert, sparse_dense, sparse_weight_gradient
from fastnn.kernels.dense import dense, weight_gradient
from fastnn.kernels.gather import gather
from fastnn.kernels.jit import by_type
from fastnn.kernels.tiles import BLOCK


def open_input(net, data, work, x, thread):
    """Where a thread keeps its batch: the panels `x`, or the lists of sparse input."""


def load_input(data, start, n, rows, batch):
    """Bring the examples order[start : start + n] into `batch`."""


def input_dense(batch, w, b, k_size, rows, a, own, hidden):
    """a = max(batch @ w + b, 0) for the panels its thread owns; without the ReLU where something else is `hidden`."""


def input_weight_gradient(batch, dz, k_size, rows, w, b, own):
    """w += batch.T @ dz, b += Σ_i dz[i] for the panels its thread owns."""


def as_panels(batch, otherwise):
    """`batch` where it is panels; sparse input never gets where they are needed."""


@by_type(open_input)
def _(net, data, work, x, thread):
    if isinstance(data.types[data.fields.index("x")], types.Array):
        return lambda net, data, work, x, thread: x

    def lists(net, data, work, x, thread):
        blocks = (net.layers[0, 0] + BLOCK - 1) // BLOCK
        first = thread * (work.ends.size // work.samples.shape[0])
        return Lists(work.ends[first : first + blocks], work.samples[thread], work.values[thread])

    return lists


@by_type(load_input)
def _(data, start, n, rows, batch):
    if isinstance(batch, types.Array):
        return lambda data, start, n, rows, batch: gather(data, start, n, rows, batch)
    return lambda data, start, n, rows, batch: invert(data, start, n, batch)


@by_type(input_dense)
def _(batch, w, b, k_size, rows, a, own, hidden):
    if isinstance(batch, types.Array):
        return lambda batch, w, b, k_size, rows, a, own, hidden: dense(batch, w, b, k_size, rows, a, own, hidden)
    return lambda batch, w, b, k_size, rows, a, own, hidden: sparse_dense(batch, w, b, rows, a, own, hidden)


@by_type(input_weight_gradient)
def _(batch, dz, k_size, rows, w, b, own):
    if isinstance(batch, types.Array):
        return lambda batch, dz, k_size, rows, w, b, own: weight_gradient(batch, dz, k_size, rows, w, b, own)
    return lambda batch, dz, k_size, rows, w, b, own: sparse_weight_gradient(batch, dz, rows, w, b, own)


@by_type(as_panels)
def _(batch, otherwise):
    if isinstance(batch, types.Array):
        return lambda batch, otherwise: batch
    return lambda batch, otherwise: otherwise
