"""Finite differences ↔ reference ↔ kernels, for every parameter tensor of networks of awkward sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fastnn import reference
from fastnn.errors import UsageError
from fastnn.network import Network

# hidden layers, batch, with sizes around those of tiles and panels: 1, primes, one short, one over
CASES: tuple[tuple[tuple[int, ...], int], ...] = (
    ((7, 3), 5),
    ((13, 17, 4), 9),
    ((33, 31, 10), 33),
    ((5, 1, 2), 1),
    ((19, 23, 11, 5), 17),
    ((9, 40, 65, 3), 31),
    ((6, 16, 33, 7, 4), 12),
    ((35, 64, 31, 8, 12), 65),
)
SMOOTH, KINKED, FLOAT64, FLOAT32 = 1e-7, 1e-6, 1e-10, 1e-4
_STEP = 1e-5  # of the central difference: truncation and rounding both stay near 1e-9 of the gradient
_KINK = 1e-3  # no hidden unit may be nearer to ReLU's kink than this
_FULL = 300  # parameters of a tensor up to which each one is differenced
_SAMPLE = 200


@dataclass(frozen=True)
class Check:
    """One comparison of one parameter tensor.

    Attributes
    ----------
    network : str
        Layer sizes and batch.
    tensor : str
        Name of the parameter.
    comparison : str
        What against what.
    error, bound : float
        ‖a − b‖ / (‖a‖ + ‖b‖), and what it may be at most.
    """

    network: str
    tensor: str
    comparison: str
    error: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the error is a number within the bound."""
        return self.error <= self.bound


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """‖a − b‖ / (‖a‖ + ‖b‖); 0 when both are zero."""
    size = float(np.linalg.norm(a) + np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / size if size else 0.0


def kernel_gradient(
    network: Network, parameters: Sequence[np.ndarray], x: np.ndarray, y: np.ndarray, dtype: str, threads: int = 1
) -> list[np.ndarray]:
    """Gradient of the mean loss of one batch by the training kernel, ``[dw, db, dw, db, …]``."""
    from fastnn.inference import scale_of
    from fastnn.kernels.layout import Layout
    from fastnn.kernels.steps import Data, Net, Span, Work, train_steps
    from fastnn.kernels.workers import Workers, compile_for, sync_area

    layout = Layout(network.sizes, np.dtype(dtype))
    target = layout.zeros()
    net = Net(layout.table(), layout.pack(parameters), target)
    data = Data(x, np.ascontiguousarray(y, np.int32), np.arange(len(x)), scale_of(x))
    work = Work(*layout.workspace(len(x), threads, sides=2))
    sync = sync_area()
    call = net, data, work, Span(0, 1, len(x), -1.0), np.zeros(2)  # a rate of −1 adds the gradient itself to the zeros
    compile_for(train_steps, *call, sync, 0, threads)
    with Workers(threads) as workers:
        workers.run(train_steps, *call, sync=sync)
    return layout.unpack(target)


def away_from_kinks(network: Network, batch: int, seed: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Parameters, inputs and labels, float64, with no hidden unit within 1e-3 of ReLU's kink.

    Raises
    ------
    UsageError
        When none is found in 1,000 draws.
    """
    random = np.random.default_rng(seed)
    parameters = [
        random.standard_normal(shape) * (shape[0] ** -0.5 if len(shape) == 2 else 0.5)
        for shape in network.parameter_shapes.values()
    ]
    y = random.integers(0, network.sizes[-1], batch)
    x = random.standard_normal((batch, network.sizes[0]))
    for _ in range(1_000):
        near, a = np.zeros(batch, bool), x
        for w, b in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            z = a @ w + b
            near |= (np.abs(z) < _KINK).any(axis=1)
            a = np.maximum(z, 0)
        if not near.any():
            return parameters, x, y
        x[near] = random.standard_normal((int(near.sum()), network.sizes[0]))
    raise UsageError("no inputs away from the kinks of ReLU were found; try another seed")


def finite_difference(
    parameters: list[np.ndarray], index: int, positions: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """(f(p + h) − f(p − h)) / 2h of the mean loss, for flat `positions` of one parameter tensor."""
    flat = parameters[index].reshape(-1)
    found = np.empty(len(positions))
    for n, at in enumerate(positions):
        kept = flat[at]
        losses = []
        for step in (_STEP, -_STEP):
            flat[at] = kept + step
            losses.append(reference.cross_entropy(reference.forward(parameters, x)[-1], y).mean())
        flat[at] = kept
        found[n] = (losses[0] - losses[1]) / (2 * _STEP)
    return found


def check(seed: int = 0, cases: Sequence[tuple[tuple[int, ...], int]] = CASES) -> Iterator[Check]:
    """Compare every parameter tensor of every case, three ways.

    Parameters
    ----------
    seed : int
        Of the parameters, inputs and labels.
    cases : sequence of (sizes, batch)
        Sizes are inputs, hidden units, classes.

    Yields
    ------
    Check
        Finite differences against the reference in float64 (within 1e-7, 1e-6 across ReLU), and kernels against
        the reference in float64 (1e-10) and float32 (1e-4).
    """
    for sizes, batch in cases:
        network = Network.mlp(sizes[0], sizes[1:-1], sizes[-1])
        parameters, x, y = away_from_kinks(network, batch, seed)
        _, _, wanted = reference.gradient(parameters, x, y)
        shown = f"{'-'.join(map(str, sizes))}, batch {batch}"
        by_kernel = {
            "float64": kernel_gradient(network, parameters, x, y, "float64"),
            "float32": kernel_gradient(network, parameters, x.astype(np.float32), y, "float32"),
        }
        bound = KINKED if len(sizes) > 2 else SMOOTH
        random = np.random.default_rng(seed)
        for index, name in enumerate(network.parameter_shapes):
            size = parameters[index].size
            every = size <= _FULL or name.endswith("bias")
            positions = np.arange(size) if every else random.choice(size, _SAMPLE, replace=False)
            differences = finite_difference(parameters, index, positions, x, y)
            error = relative_error(differences, wanted[index].reshape(-1)[positions])
            yield Check(shown, name, "finite differences : reference", error, bound)
            for dtype, limit in (("float64", FLOAT64), ("float32", FLOAT32)):
                error = relative_error(by_kernel[dtype][index].astype(np.float64), wanted[index])
                yield Check(shown, name, f"kernels {dtype} : reference", error, limit)
