"""Logits and probabilities of a trained network: thread-safe, and the same bits for a row whatever batch it is in.

Two engines give the same answers to 1e-6, and far nearer: NumPy, ready at once, for a few rows; the kernels, for many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.datasets.base import dense_rows, is_sparse
from fastnn.errors import DataError, UsageError
from fastnn.network import ACTIVATIONS as _KINDS
from fastnn.network import Network
from fastnn.ranges import THREADS
from fastnn.reference import ACTIVATIONS, LAYERS
from fastnn.reference import softmax as _softmax

ENGINES = ("auto", "numpy", "kernels")
FEW_ROWS = 1_000  # NumPy answers these before the kernels are loaded
_ROWS_A_BLOCK = 128
_SPARSE_ROWS = 1_024  # made dense at once
_FLOPS_A_CALL = 2e9  # about 10 to 50 ms: Ctrl-C waits for the end of a call


Scaling = tuple[np.ndarray, np.ndarray]  # mean and deviation of each feature


def scaled(x: np.ndarray, scaling: Scaling | None, scale: float = 1.0) -> np.ndarray:
    """(scale · x − mean) / deviation, float64 for float64 and else float32; x itself without a scaling."""
    if scaling is None:
        return x
    standard = ((x if scale == 1 else x * scale) - scaling[0]) / scaling[1]
    return standard if x.dtype == np.float64 else standard.astype(np.float32)


def logits(
    network: Network,
    parameters: Sequence[np.ndarray],
    x: Any,
    engine: str = "auto",
    threads: int | None = None,
    scaling: Scaling | None = None,
    scale: float = 1.0,
) -> np.ndarray:
    """Logits of each row.

    Parameters
    ----------
    network : Network
    parameters : sequence of ndarray
        ``[w, b, w, b, …]``.
    x : ndarray or CSR array (N, D)
        uint8, float32 or float64; checked.
    engine : {"auto", "numpy", "kernels"}
        ``"auto"`` takes NumPy up to 1,000 rows. Within an engine a row's bits do not depend on the others.
    threads : int, optional
        For the kernels; as many as can run by default.
    scaling : (ndarray, ndarray), optional
        Mean and deviation (D,), subtracted and divided by before the first layer.
    scale : float
        What x is multiplied by before that.

    Returns
    -------
    ndarray (N, C)
        float64.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine={engine!r}: expected one of {', '.join(ENGINES)}")
    if threads is not None:
        THREADS.check("threads", threads)
    if x.ndim != 2 or x.shape[1] != network.inputs:
        raise DataError(
            f"examples of {x.shape[-1] if x.ndim > 1 else x.size} features; this model takes {network.inputs}"
        )
    if x.shape[0] == 0:
        return np.zeros((0, network.outputs))
    if engine == "numpy" or (engine == "auto" and x.shape[0] <= FEW_ROWS):
        return _numpy_logits(network, parameters, x, scaling, scale)
    from fastnn.kernels.workers import Workers
    from fastnn.machine import available_threads

    with Workers(threads or available_threads()) as workers:
        return Forward(network, workers, scaling, scale).logits(parameters, x)


def _numpy_logits(
    network: Network, parameters: Sequence[np.ndarray], x: Any, scaling: Scaling | None, scale: float
) -> np.ndarray:
    """Row by row: a product of matrices gives a row other bits in another batch."""
    out = np.empty((x.shape[0], parameters[-1].size))
    wide = [p.astype(np.float64) for p in parameters]
    for i in range(len(out)):
        row = dense_rows(x, i, i + 1)
        a = scaled(row, scaling, scale)[0] if scaling else row[0].astype(np.float64) * scale
        for layer, w, b in zip(network.layers, wide[::2], wide[1::2], strict=True):
            a = ACTIVATIONS[layer.activation](LAYERS[layer.kind].forward(a, w, b))
        out[i] = a
    return out


def activation_of(network: Network, dropout: float = 0.0, seed: int = 0):  # type: ignore[no-untyped-def]
    """What kernels need to know of a network's hidden layers; None where all are plain ReLU."""
    from fastnn.kernels.activations import Activation

    names = network.activations[:-1]
    if not names or (set(names) == {"relu"} and not dropout):
        return None
    kinds = np.array([_KINDS.index(name) for name in names], np.int64)
    units = np.array(network.hidden_units, np.int64)
    return Activation(kinds, units, np.full(len(names), float(dropout)), seed)


class Forward:
    """The kernels' forward pass with its memory, for use many times: by `logits`, and after training.

    In float64 whatever the parameters are: rounding in float32 moved probabilities by 1.4e-6.

    Parameters
    ----------
    network : Network
    workers : Workers
    scaling, scale
        See `logits`.
    """

    def __init__(self, network: Network, workers, scaling: Scaling | None = None, scale: float = 1.0) -> None:  # type: ignore[no-untyped-def]
        from fastnn.kernels.layout import Layout

        self._network, self._scaling, self._scale = network, scaling, scale
        self._layout, self._workers = Layout(network.layers, np.dtype(np.float64)), workers
        self._activation, threads = activation_of(network), workers.threads
        slopes = self._activation is not None
        self._work = self._layout.work(_ROWS_A_BLOCK, threads, copies=threads, slopes=threads if slopes else 0)

    def _rows(self, x: Any, first: int, last: int) -> np.ndarray:
        return scaled(dense_rows(x, first, last), self._scaling, self._scale)

    def _call(self, buffer: np.ndarray, x: np.ndarray, rows: int):  # type: ignore[no-untyped-def]
        """The arguments of `predict_logits` for the first rows of `x`, but for the span and the result."""
        from fastnn.kernels.inputs import for_kernels
        from fastnn.kernels.memory import Data

        net = self._layout.net(buffer, activation=self._activation)
        scale = 1.0 if self._scaling else self._scale
        return net, Data(for_kernels(x), np.zeros(1, np.int32), np.arange(rows), scale), self._work

    def _kernel(self, x: Any):  # type: ignore[no-untyped-def]
        """The kernel, and arguments of the types it is called with for this kind of `x`."""
        from fastnn.kernels.barrier import new_team
        from fastnn.kernels.memory import Span
        from fastnn.kernels.step import predict_logits

        call = self._call(self._layout.zeros(), self._rows(x, 0, 1), 1)
        return predict_logits, *call, Span(0, 0, 1, np.zeros(1)), np.zeros((1, 1)), new_team()

    def compile(self, x: Any) -> None:
        """Compile for this kind of `x`, or load what was compiled before, without running."""
        from fastnn.kernels.workers import compile_for

        compile_for(*self._kernel(x))

    def is_kept(self, x: Any) -> bool:
        """Whether that was compiled before."""
        from fastnn.kernels.workers import is_kept

        return is_kept(*self._kernel(x))

    def logits(self, parameters: Sequence[np.ndarray], x: Any) -> np.ndarray:
        """Logits (N, C), float64, of the rows of `x`."""
        from fastnn.kernels.memory import Span
        from fastnn.kernels.step import predict_logits

        sizes = self._network.sizes
        out = np.empty((x.shape[0], sizes[-1]))
        self.compile(x)
        packed = self._layout.pack(parameters)
        flops_a_row = 2 * sum(k * h for k, h in zip(sizes[:-1], sizes[1:], strict=True))
        rows = max(_ROWS_A_BLOCK, int(_FLOPS_A_CALL / flops_a_row)) // _ROWS_A_BLOCK * _ROWS_A_BLOCK
        rows = min(rows, _SPARSE_ROWS) if is_sparse(x) or self._scaling else rows
        for first in range(0, len(out), rows):
            part = self._rows(x, first, min(first + rows, len(out)))
            net, data, work = self._call(packed, part, len(part))
            span = Span(0, len(part), _ROWS_A_BLOCK, np.zeros(1))
            self._workers.run(predict_logits, net, data, work, span, out[first : first + rows])
        return out


def softmax(z: np.ndarray) -> np.ndarray:
    """Probabilities of logits (N, C), float64, each row summing to 1."""
    return _softmax(z.astype(np.float64))


# what outputs mean, by the loss that made them
LINKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "softmax": softmax,
    "squared": ACTIVATIONS["identity"],
    "absolute": ACTIVATIONS["identity"],
    "huber": ACTIVATIONS["identity"],
    "logistic": ACTIVATIONS["logistic"],
    "poisson": np.exp,
}


def mean_loss(z: np.ndarray, y: np.ndarray) -> float:
    """Mean cross-entropy of logits (N, C) against labels (N,)."""
    z = z.astype(np.float64)
    top = z.max(axis=1)
    losses = np.log(np.exp(z - top[:, None]).sum(axis=1)) + top - z[np.arange(len(y)), y]
    return float(losses.mean())


def confusion_matrix(y: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int64 (C, C): row the true class, column the predicted one."""
    flat = np.bincount(y.astype(np.int64) * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes)
