"""The examples of a step, in the order of an epoch, into a thread's own memory."""

import numpy as np
from numba.core import types

from fastnn.kernels import clock as phase
from fastnn.kernels.clock import mark
from fastnn.kernels.jit import by_type, inlined, jit
from fastnn.kernels.memory import open_batch
from fastnn.kernels.numbers import number
from fastnn.kernels.sparse import invert
from fastnn.kernels.views import prefetch


@inlined
def batch_at(net, data, work, span, step, team):
    """Views of a step's memory; its examples are there from `load` on until the next step loads its own."""
    start = step * span.batch
    n = min(span.batch, data.order.size - start)
    return open_batch(net, work, start, n, span.epoch, step % 2, team.thread)


@jit
def load(data, work, batch, first, n):
    """Bring the examples of a batch into its memory: as panels or as lists, with labels, and how much each counts.

    Sample weights have the mean 1 over the `n` rows of the order from `first` on, of which the batch may be a part.
    """
    load_input(data, batch, batch.lists)
    gather_labels(data, batch.start, batch.n, batch.labels)
    load_sample_weight(data.sample_weight, data.order, batch, first, n)
    mark(work.clock, batch.thread, phase.INPUT)


def load_input(data, batch, lists):
    """Their features: as panels, or, where the data set is cut into blocks, as lists.

    Decided by type, since neither branch can be compiled with the other's data: Numba leaves out a branch on
    ``is None`` only where it is None.
    """


@by_type(load_input)
def _(data, batch, lists):
    if isinstance(lists, types.NoneType):
        return lambda data, batch, lists: gather(data, batch.start, batch.n, batch.rows, batch.x)
    return lambda data, batch, lists: invert(data, batch.start, batch.n, lists)


@jit
def gather(data, start, n, rows, x):
    """x[:, i] = scale · data.x[order[start + i]] for i < n, 0 for i up to `rows`; uint8 becomes float here.

    The rows of the batch after this one are asked for meanwhile: they lie anywhere in memory. Unsigned indices need no
    test for those from the end, which kept LLVM from vectorising: 256 rows of 20 take 1.3 µs instead of 3.2.
    """
    features, width = data.x.shape[1], x.shape[2]
    scale = number(data.scale, x)
    for i in range(n):
        row = np.uint64(data.order[start + i])
        for q in range(x.shape[0]):
            x_q = x[q]
            for k in range(min(width, features - q * width)):
                x_q[np.uint64(i), np.uint64(k)] = scale * number(data.x[row, np.uint64(q * width + k)], x)
        if start + n + i < data.order.size:
            ahead = data.order[start + n + i] * features
            prefetch(data.x, ahead, ahead + features)
    for q in range(x.shape[0]):
        for i in range(n, rows):
            for k in range(width):
                x[q, i, k] = 0


@jit
def gather_labels(data, start, n, labels):
    """labels[i] = data.y[order[start + i]] for i < n; those of the next batch are asked for."""
    for i in range(n):
        labels[i] = data.y[data.order[start + i]]
        if start + n + i < data.order.size:
            ahead = data.order[start + n + i]
            prefetch(data.y, ahead, ahead + 1)


@jit
def load_sample_weight(sample_weight, order, batch, first, n):
    """batch.sample_weight[i] = sample_weight[order[start + i]] over the mean of the `n` rows from `first` on.

    Where there is none, it stays 1.
    """
    if sample_weight is not None:
        total = 0.0
        for i in range(n):
            total += sample_weight[order[first + i]]
        mean = n / total if total > 0 else 0.0
        for i in range(batch.n):
            batch.sample_weight[i] = mean * sample_weight[order[batch.start + i]]
