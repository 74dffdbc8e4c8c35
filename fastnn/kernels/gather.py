"""Rows of the data set, in the order of an epoch, into the panels of one batch."""

from fastnn.kernels.jit import jit
from fastnn.kernels.tiles import number, prefetch


@jit
def gather(data, start, n, rows, x):
    """x[:, i] = scale · data.x[order[start + i]] for i < n, 0 for i up to `rows`; uint8 becomes float here.

    The rows of the batch after this one are asked for meanwhile: they lie anywhere in memory.
    """
    features, width = data.x.shape[1], x.shape[2]
    scale = number(data.scale, x)
    for i in range(n):
        row = data.x[data.order[start + i]]
        for q in range(features // width):
            for k in range(width):
                x[q, i, k] = scale * number(row[q * width + k], x)
        q = features // width
        for k in range(features - q * width):
            x[q, i, k] = scale * number(row[q * width + k], x)
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
