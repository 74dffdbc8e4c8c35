"""Finite differences ↔ reference ↔ kernels, for every parameter tensor of networks of awkward sizes.

Every activation and loss occurs, with dropout, label smoothing and sample weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fastnn import reference
from fastnn.errors import UsageError
from fastnn.network import ACTIVATIONS, Network
from fastnn.training.settings import LOSSES

SMOOTH, KINKED, FLOAT64, FLOAT32 = 1e-7, 1e-6, 1e-10, 1e-4
_STEP = 1e-5  # of the central difference: truncation and rounding both stay near 1e-9 of the gradient
_KINK = 1e-3  # no hidden unit may be nearer to ReLU's kink than this, nor an output to that of a loss
_FULL = 300  # parameters of a tensor up to which each one is differenced
_SAMPLE = 200
_EPOCH, _KINKED = 3, ("relu", "leaky-relu")


@dataclass(frozen=True)
class Case:
    """A network and a batch to check.

    Attributes
    ----------
    sizes : tuple of int
        Inputs, hidden units, outputs; with sizes around those of tiles and panels: 1, primes, one short, one over.
    batch : int
    activations : tuple of str
        Of each hidden layer; () for ReLU.
    loss : str
    smoothing, dropout : float
    weighted : bool
        Whether examples count differently.
    """

    sizes: tuple[int, ...]
    batch: int
    activations: tuple[str, ...] = ()
    loss: str = "softmax"
    smoothing: float = 0.0
    dropout: float = 0.0
    weighted: bool = False

    def __str__(self) -> str:
        parts = ["-".join(map(str, self.sizes)), f"batch {self.batch}", *self.activations]
        parts += [self.loss] if self.loss != "softmax" else []
        parts += [f"smoothing {self.smoothing:g}"] if self.smoothing else []
        parts += [f"dropout {self.dropout:g}"] if self.dropout else []
        return ", ".join(parts + ["weighted"] * self.weighted)


CASES = (
    Case((7, 3), 5),
    Case((13, 17, 4), 9),
    Case((33, 31, 10), 33),
    Case((5, 1, 2), 1),
    Case((19, 23, 11, 5), 17),
    Case((9, 40, 65, 3), 31),
    Case((6, 16, 33, 7, 4), 12),
    Case((35, 64, 31, 8, 12), 65),
    Case((13, 17, 4), 9, dropout=0.4, smoothing=0.1, weighted=True),
    Case((19, 23, 70, 5), 17, dropout=0.5),
    *(Case((11, 33, 5), 17, (name,)) for name in ACTIVATIONS[1:]),
    Case((11, 33, 20, 9, 5), 40, ("gelu", "tanh", "leaky-relu"), dropout=0.3, smoothing=0.2, weighted=True),
    *(Case((9, 18, 3), 12, loss=name) for name in LOSSES[1:]),
    *(Case((5, 33), 33, loss=name, weighted=True) for name in LOSSES[1:]),
)


@dataclass(frozen=True)
class Check:
    """One comparison of one parameter tensor.

    Attributes
    ----------
    network : str
        Layer sizes and batch, and what else the case is about.
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


@dataclass(frozen=True)
class Question:
    """What a gradient is asked of: a network, its parameters, a batch, and all that is not plain about them."""

    network: Network
    parameters: Sequence[np.ndarray]
    x: np.ndarray
    y: np.ndarray
    kind: reference.Options = field(default_factory=reference.Options)
    dropout: float = 0.0
    seed: int = 0
    scale: float = 1.0


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """‖a − b‖ / (‖a‖ + ‖b‖); 0 when both are zero."""
    size = float(np.linalg.norm(a) + np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / size if size else 0.0


def kernel_gradient(asked: Question, dtype: str, threads: int = 1) -> list[np.ndarray]:
    """Gradient of the mean loss of one batch by the training kernel, ``[dw, db, dw, db, …]``."""
    from fastnn.kernels.barrier import new_team
    from fastnn.kernels.layout import Layout
    from fastnn.kernels.losses import Loss
    from fastnn.kernels.memory import Data, Span
    from fastnn.kernels.step import train_steps
    from fastnn.kernels.workers import Workers, compile_for
    from fastnn.model.inference import activation_of

    x, y, kind, layout = asked.x, asked.y, asked.kind, Layout(asked.network.layers, np.dtype(dtype))
    gradient, activation = layout.zeros(), activation_of(asked.network, asked.dropout, asked.seed)
    loss = Loss(LOSSES.index(kind.loss), kind.smoothing, kind.delta)
    net = layout.net(layout.pack(asked.parameters), gradient, activation=activation, loss=loss)
    labels = np.ascontiguousarray(y, np.int32) if y.ndim == 1 else np.zeros(len(x), np.int32)
    targets = np.ascontiguousarray(y, np.float64) if y.ndim == 2 else None
    data = Data(x, labels, np.arange(len(x)), asked.scale, kind.sample_weight, targets)
    work = layout.work(len(x), threads, slopes=int(activation is not None))
    span = Span(0, 1, len(x), -np.ones(1), _EPOCH)
    call = net, data, work, span, np.zeros(2)  # a rate of −1 adds the gradient itself to the zeros
    compile_for(train_steps, *call, new_team())
    with Workers(threads) as workers:
        workers.run(train_steps, *call)
    return layout.unpack(gradient)


def question(case: Case, seed: int) -> Question:
    """Parameters, inputs and labels, float64, with nothing within 1e-3 of a kink.

    Raises
    ------
    UsageError
        When none is found in 1,000 draws.
    """
    random = np.random.default_rng(seed)
    network = Network.mlp(case.sizes[0], case.sizes[1:-1], case.sizes[-1], case.activations or "relu")
    parameters = [
        random.standard_normal(shape) * (shape[0] ** -0.5 if len(shape) == 2 else 0.5)
        for shape in network.parameter_shapes.values()
    ]
    y: np.ndarray = random.integers(0, case.sizes[-1], case.batch)
    masks = [
        reference.dropout_mask(case.dropout, seed, layer, _EPOCH, np.arange(case.batch), units)
        for layer, units in enumerate(case.sizes[1:-1])
    ]
    sample_weight = random.random(case.batch) + 0.1 if case.weighted else None
    kind = reference.Options(case.activations, masks, case.loss, case.smoothing, 0.7, sample_weight)
    if case.loss != "softmax":
        y = random.standard_normal((case.batch, case.sizes[-1]))
        y = (y > 0) * 1.0 if case.loss == "logistic" else np.abs(y).round() if case.loss == "poisson" else y
    x = random.standard_normal((case.batch, case.sizes[0]))
    for _ in range(1_000):
        near = _near_a_kink(parameters, x, y, kind)
        if not near.any():
            return Question(network, parameters, x, y, kind, case.dropout, seed)
        x[near] = random.standard_normal((int(near.sum()), case.sizes[0]))
    raise UsageError("no inputs away from the kinks were found; try another seed")


def _near_a_kink(parameters: list[np.ndarray], x: np.ndarray, y: np.ndarray, kind: reference.Options) -> np.ndarray:
    """Which examples have a unit near the kink of its activation, or an output near that of the loss."""
    pre_activations, _ = reference.forward(parameters, x, kind)
    near = np.zeros(len(x), bool)
    for layer, z in enumerate(pre_activations[:-1]):
        if (kind.activations[layer] if kind.activations else "relu") in _KINKED:
            near |= (np.abs(z) < _KINK).any(axis=1)
    if kind.loss in ("absolute", "huber"):
        far = np.abs(pre_activations[-1] - y)
        near |= (far < _KINK).any(axis=1) | (np.abs(far - kind.delta) < _KINK).any(axis=1)
    return near


def finite_difference(asked: Question, index: int, positions: np.ndarray) -> np.ndarray:
    """(f(p + h) − f(p − h)) / 2h of the mean loss, for flat `positions` of one parameter tensor."""
    parameters = [p.copy() for p in asked.parameters]
    flat = parameters[index].reshape(-1)
    differences = np.empty(len(positions))
    for n, at in enumerate(positions):
        kept = flat[at]
        losses = []
        for step in (_STEP, -_STEP):
            flat[at] = kept + step
            z = reference.forward(parameters, asked.x, asked.kind)[0][-1]
            losses.append(reference.loss_gradient(z, asked.y, asked.kind)[0])
        flat[at] = kept
        differences[n] = (losses[0] - losses[1]) / (2 * _STEP)
    return differences


def check(seed: int = 0, cases: Sequence[Case] = CASES) -> Iterator[Check]:
    """Compare every parameter tensor of every case, three ways.

    Parameters
    ----------
    seed : int
        Of the parameters, inputs and labels.
    cases : sequence of Case

    Yields
    ------
    Check
        Finite differences against the reference in float64 (within 1e-7, 1e-6 across kinks), and kernels against
        the reference in float64 (1e-10) and float32 (1e-4).

    Examples
    --------
    >>> import fastnn
    >>> first = next(fastnn.check_gradients())
    >>> first.network, first.tensor, first.passed
    ('7-3, batch 5', 'layers.0.weight', True)
    """
    for case in cases:
        asked = question(case, seed)
        _, _, wanted = reference.gradient(asked.parameters, asked.x, asked.y, asked.kind)
        narrow = replace(asked, x=asked.x.astype(np.float32))
        by_kernel = {"float64": kernel_gradient(asked, "float64"), "float32": kernel_gradient(narrow, "float32")}
        kinked = set(case.activations or ("relu",)) & set(_KINKED) if len(case.sizes) > 2 else set()
        bound = KINKED if kinked or case.loss in ("absolute", "huber") else SMOOTH
        random = np.random.default_rng(seed)
        for index, name in enumerate(asked.network.parameter_shapes):
            size = asked.parameters[index].size
            every = size <= _FULL or name.endswith("bias")
            positions = np.arange(size) if every else random.choice(size, _SAMPLE, replace=False)
            differences = finite_difference(asked, index, positions)
            error = relative_error(differences, wanted[index].reshape(-1)[positions])
            yield Check(str(case), name, "finite differences : reference", error, bound)
            for dtype, limit in (("float64", FLOAT64), ("float32", FLOAT32)):
                error = relative_error(by_kernel[dtype][index].astype(np.float64), wanted[index])
                yield Check(str(case), name, f"kernels {dtype} : reference", error, limit)
