"""One fit of an estimator on our kernels: its net, examples and optimizer, pass by pass over the examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.special

from fastnn.datasets.base import Split
from fastnn.kernels.barrier import new_team
from fastnn.kernels.gradients import add_gradient
from fastnn.kernels.host import SHAPE
from fastnn.kernels.layout import Layout
from fastnn.kernels.losses import Loss
from fastnn.kernels.memory import Net, Span
from fastnn.kernels.optimizers import Rule
from fastnn.kernels.workers import Workers, compile_for
from fastnn.model.inference import Forward, activation_of
from fastnn.network import Network
from fastnn.training.batches import Batches
from fastnn.training.optimizers import KERNELS, OPTIMIZERS
from fastnn.training.run import best_threads
from fastnn.training.settings import LOSSES, Settings
from fastnn.training.steps import Pass, Steps

_SPARSE_FROM = 2**20  # numbers in dense examples; fewer are read dense, which needs no kernel of its own
_ROWS_AT_ONCE = 1_024  # of a gradient of all examples
_PLAIN = Settings(input="auto"), Settings(input="dense")


@dataclass(frozen=True)
class Plan:
    """What is trained, and how.

    Attributes
    ----------
    network : Network
    loss : str
        One of `fastnn.training.settings.LOSSES`; over several outputs their sum.
    batch : int
        Examples in a step.
    optimizer : str
        One of `fastnn.training.optimizers.OPTIMIZERS`.
    momentum, beta2, epsilon : float
        Its numbers; ε is added before the bias of the mean of squares is corrected.
    l1, l2 : float
        Weights of Σ |w| and Σ w² / 2, each over the sum of the weights of a batch's examples.
    dropout : float
        Share of the hidden units that is left out in a step.
    seed : int
        Of dropout.
    """

    network: Network
    loss: str
    batch: int
    optimizer: str = "adam"
    momentum: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    l1: float = 0.0
    l2: float = 0.0
    dropout: float = 0.0
    seed: int = 0


@dataclass
class OptimizerState:
    """What an optimizer remembers between fits, as plain arrays.

    Attributes
    ----------
    learning_rate : float
    t : int
        Steps so far.
    moments : dict of str to list of ndarray
        ``first`` and ``second``, each ``[w, b, w, b, …]``.
    """

    learning_rate: float
    t: int = 0
    moments: dict[str, list[np.ndarray]] = field(default_factory=dict)


class Solver:
    """A net in training.

    Parameters
    ----------
    plan : Plan
    parameters : sequence of ndarray
        ``[w, b, w, b, …]`` to begin from, float32 or float64, which is what is computed in.
    x : ndarray or CSR array (N, D)
    y : ndarray (N,) or (N, C)
        Labels for softmax, else targets.
    sample_weight : ndarray (N,), optional
    state : OptimizerState
        Which changes as steps are taken.
    threads : int

    Attributes
    ----------
    steps : int
        Of an epoch.
    """

    def __init__(
        self,
        plan: Plan,
        parameters: Sequence[np.ndarray],
        x: Any,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        state: OptimizerState,
        threads: int,
    ) -> None:
        self.plan, self.state = plan, state
        self._weighted = sample_weight is not None
        # weights of 1 where there are none: one kernel for both, and the same bits
        self._weight = np.ones(x.shape[0]) if sample_weight is None else np.asarray(sample_weight, np.float64)
        self._layout = Layout(plan.network.layers, parameters[0].dtype)
        self.workers = Workers(threads)
        split = Split(x, y, self._weight, scale=1.0, source="X")
        sparse = hasattr(x, "indptr") or x.size >= _SPARSE_FROM
        batches = Batches(split, _PLAIN[0 if sparse else 1], None, plan.batch, self.workers)
        activation = activation_of(plan.network, plan.dropout, plan.seed)
        features, slopes = batches.sparse_features, int(activation is not None)
        work = self._layout.work(plan.batch, threads, features=features, slopes=slopes)
        self._buffers = {"parameters": self._layout.pack(parameters)}
        for name, wanted in zip(("first", "second"), OPTIMIZERS[plan.optimizer].memory, strict=True):
            if wanted:
                kept = state.moments.get(name)
                self._buffers[name] = self._layout.zeros() if kept is None else self._layout.pack(kept)
        self._penalties = np.zeros((len(plan.network.layers), int(self._layout.table["panels"].max())))
        self._steps = Steps(plan.network, self._net(activation), work, batches, self.workers, plan.batch)
        self.steps = -(-x.shape[0] // plan.batch)
        self._constant = self._weight * constant_of(plan.loss, y)
        self._counts = self._counts_of(np.arange(x.shape[0]))
        self._forward: Forward | None = None

    def _net(self, activation: Any) -> Net:
        plan, none = self.plan, np.zeros(0, self._layout.dtype)
        rule = Rule(
            KERNELS.index(OPTIMIZERS[plan.optimizer].kernel),
            *(self._buffers.get(name, none) for name in ("first", "second", "average")),
            np.zeros(0),
            *map(float, (plan.momentum, plan.beta2, plan.epsilon, plan.l1, plan.l2)),
            *(OPTIMIZERS[plan.optimizer].weight_decay, 0.0, 0.0, 0.0),
            epsilon_hat=True,
            penalties=self._penalties,
        )
        parameters = self._buffers["parameters"]
        loss = _loss(plan)
        return self._layout.net(parameters, self._layout.zeros(), activation=activation, rule=rule, loss=loss)

    def compile(self) -> None:
        """Compile the kernels of the steps, or load them."""
        self._steps.compile()

    def epoch(self, order: np.ndarray, rates: np.ndarray, number: int = 0) -> float:
        """One pass over the examples.

        Parameters
        ----------
        order : ndarray (N,)
            int64.
        rates : ndarray (steps,)
            float64, learning rate of each step.
        number : int
            Of the pass, from 0.

        Returns
        -------
        float
            Mean over the examples of each batch's mean loss, penalties included; NaN where it was not finite.
        """
        totals = np.zeros(2)
        self._penalties[:] = 0
        counts = self._counts_of(order) if self._weighted else self._counts
        over = Pass(order, rates, number, self.state.t, counts)
        if not all(finite for _, finite in self._steps.run(over, totals)):
            return float("nan")
        self.state.t += self.steps
        total = float(totals[0]) + float(self._penalties.sum())
        if self.plan.loss == "poisson":
            starts = np.arange(0, len(order), self.plan.batch)
            total += float(np.add.reduceat(self._constant[order], starts) @ counts[:, 1])
        return total / len(order)

    def _counts_of(self, order: np.ndarray) -> np.ndarray:
        """For each step: 1 / Σ v, v the weights of its examples, and their number times that    (steps, 2)"""
        starts = np.arange(0, len(order), self.plan.batch)
        counts = np.minimum(len(order) - starts, self.plan.batch).astype(np.float64)
        weights = np.add.reduceat(self._weight[order], starts) if self._weighted else counts
        inverse = 1 / np.maximum(weights, np.finfo(float).tiny)
        return np.stack([inverse, counts * inverse], axis=1)

    def rescale_momentum(self, factor: float) -> None:
        """Multiply the first moment: velocities that were made with another learning rate stay as large."""
        if "first" in self._buffers:
            self._buffers["first"] *= factor

    def snapshot(self) -> np.ndarray:
        """The parameters as they are, for `parameters`."""
        return self._buffers["parameters"].copy()

    def parameters(self, snapshot: np.ndarray | None = None) -> list[np.ndarray]:
        """``[w, b, w, b, …]`` as they are, or as they were; copies."""
        return self._layout.unpack(self._buffers["parameters"] if snapshot is None else snapshot)

    def keep_moments(self) -> None:
        """Write what the optimizer remembers into the state."""
        self.state.moments = {
            name: self._layout.unpack(buffer) for name, buffer in self._buffers.items() if name != "parameters"
        }

    def logits(self, x: Any) -> np.ndarray:
        """Logits (N, C), float64, by the parameters as they are."""
        if self._forward is None:
            self._forward = Forward(self.plan.network, self.workers)
        return self._forward.logits(self.parameters(), x)


class Objective:
    """Mean loss of all examples with L2, and its gradient, in float64: what L-BFGS asks for.

    Parameters
    ----------
    plan : Plan
    x, y, sample_weight, threads
        See `Solver`.
    """

    def __init__(self, plan: Plan, x: Any, y: np.ndarray, sample_weight: np.ndarray | None, threads: int) -> None:
        self._plan, self._layout = plan, Layout(plan.network.layers, np.dtype(np.float64))
        self._weight = np.ones(x.shape[0]) if sample_weight is None else np.asarray(sample_weight, np.float64)
        self._constant = float(np.average(constant_of(plan.loss, y), weights=self._weight))
        self._batch = min(_ROWS_AT_ONCE, x.shape[0])
        self.workers = Workers(threads)
        batches = Batches(Split(x, y, self._weight, scale=1.0, source="X"), _PLAIN[1], None, self._batch, self.workers)
        activation = activation_of(plan.network)
        self._work = self._layout.work(self._batch, threads, slopes=int(activation is not None))
        self._data = batches.data(np.arange(x.shape[0]))
        self._net = self._layout.net(
            self._layout.zeros(), self._layout.zeros(), activation=activation, loss=_loss(plan)
        )
        self._span = Span(0, x.shape[0], self._batch, np.full(1, 1 / x.shape[0]))
        compile_for(add_gradient, self._net, self._data, self._work, self._span, np.zeros(2), new_team())

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Loss and gradient at `theta`: all weights, then all biases, flat float64."""
        plain = self.unpacked(theta)
        self._net.parameters[:] = self._layout.pack(plain)
        self._net.gradient[:] = 0
        totals = np.zeros(2)
        self.workers.run(add_gradient, self._net, self._data, self._work, self._span, totals)
        strength = self._plan.l2 / self._weight.sum()
        gradient = self._layout.unpack(self._net.gradient)
        for w, dw in zip(plain[::2], gradient[::2], strict=True):
            dw += strength * w
        squares = sum(float(np.vdot(w, w)) for w in plain[::2])
        loss = float(totals[0]) / len(self._weight) + strength / 2 * squares + self._constant
        return loss, packed(gradient)

    def unpacked(self, theta: np.ndarray) -> list[np.ndarray]:
        """``[w, b, w, b, …]`` of a flat vector."""
        shapes = list(self._plan.network.parameter_shapes.values())
        ends = np.cumsum([int(np.prod(shape)) for shape in (*shapes[::2], *shapes[1::2])])
        parts = np.split(theta, ends[:-1])
        weights = [part.reshape(shape) for part, shape in zip(parts, shapes[::2], strict=False)]
        biases = parts[len(weights) :]
        return [part for pair in zip(weights, biases, strict=True) for part in pair]


def constant_of(loss: str, y: np.ndarray) -> np.ndarray:
    """What scikit-learn's Poisson deviance has beside e^z − y z: y log y − y, summed over outputs    (N,)"""
    if loss != "poisson":
        return np.zeros(len(y))
    return (scipy.special.xlogy(y, y) - y).sum(axis=1)


def useful_threads(network: Network, rows: int) -> int:
    """Threads that make a step, or a prediction, of so many rows fastest, if they are there."""
    return best_threads(network, rows, SHAPE.panel_width(8))


def packed(parameters: Sequence[np.ndarray]) -> np.ndarray:
    """All weights, then all biases, one flat float64 vector."""
    return np.concatenate([part.ravel() for part in (*parameters[::2], *parameters[1::2])]).astype(np.float64)


def _loss(plan: Plan) -> Loss:
    return Loss(LOSSES.index(plan.loss), summed=True)
