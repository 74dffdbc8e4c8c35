"""One fit of an estimator on our kernels: its net, examples and optimizer, pass by pass over the examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn.datasets.base import Split
from fastnn.kernels.layout import Layout
from fastnn.kernels.losses import Loss
from fastnn.kernels.memory import Net
from fastnn.kernels.optimizers import Rule
from fastnn.kernels.workers import Workers
from fastnn.model.inference import Forward, activation_of
from fastnn.network import Network
from fastnn.training.batches import Batches
from fastnn.training.optimizers import KERNELS, OPTIMIZERS
from fastnn.training.run import best_threads
from fastnn.training.settings import LOSSES, Settings
from fastnn.training.steps import Pass, Steps

_SPARSE_FROM = 2**20  # numbers in the examples; below, dense input is as fast, and needs no kernel of its own


@dataclass(frozen=True)
class Plan:
    """What is trained, and how.

    Attributes
    ----------
    network : Network
    loss : str
        One of `fastnn.training.settings.LOSSES`; over several outputs their sum.
    settings : Settings
        Of the optimizer and its numbers, penalties for the sum of a batch's weights, dropout, changes of examples.
    batch : int
        Examples in a step.
    threads : int, optional
        As many as pay by default, and no more than can run.
    """

    network: Network
    loss: str
    settings: Settings
    batch: int
    threads: int | None = None


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
    """

    def __init__(
        self,
        plan: Plan,
        parameters: Sequence[np.ndarray],
        x: Any,
        y: np.ndarray,
        sample_weight: np.ndarray | None,
        state: OptimizerState,
    ) -> None:
        dtype = parameters[0].dtype
        self.plan, self.state = plan, state
        self._weighted = sample_weight is not None
        # weights of 1 where there are none: one kernel for both, and the same bits
        weight = np.ones(x.shape[0]) if sample_weight is None else np.asarray(sample_weight, np.float64)
        split = Split(x, y, weight, scale=1.0, source="X")
        self._split = split
        self._layout = Layout(plan.network.layers, dtype)
        threads = plan.threads or best_threads(plan.network, plan.batch, self._layout.width)
        self.workers = Workers(threads)
        batches = Batches(split, plan.settings, None, plan.batch, self.workers)
        activation = activation_of(plan.network, plan.settings.dropout, plan.settings.seed)
        features, slopes = batches.sparse_features, int(activation is not None)
        work = self._layout.work(plan.batch, threads, features=features, slopes=slopes)
        self._buffers = {"parameters": self._layout.pack(parameters)}
        for name, wanted in zip(("first", "second"), OPTIMIZERS[plan.settings.optimizer].memory, strict=True):
            if wanted:
                kept = state.moments.get(name)
                self._buffers[name] = self._layout.zeros() if kept is None else self._layout.pack(kept)
        self._penalties = np.zeros((len(plan.network.layers), int(self._layout.table["panels"].max())))
        self._steps = Steps(plan.network, self._net(activation), work, batches, self.workers, plan.batch)
        self._forward: Forward | None = None

    def _net(self, activation: Any) -> Net:
        s, none = self.plan.settings, np.zeros(0, self._layout.dtype)
        rule = Rule(
            KERNELS.index(OPTIMIZERS[s.optimizer].kernel),
            *(self._buffers.get(name, none) for name in ("first", "second", "average")),
            np.zeros(self._layout.panel_count if s.clip_norm else 0),
            *map(float, (s.momentum, s.beta2, s.epsilon, s.l1, s.l2, s.weight_decay)),  # type: ignore[arg-type]
            *map(float, (s.clip_norm, s.max_norm, 0.0)),
            epsilon_hat=True,
            penalties=self._penalties,
        )
        loss = Loss(LOSSES.index(self.plan.loss), float(s.label_smoothing), float(s.huber_delta), True)
        parameters = self._buffers["parameters"]
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
        totals, examples = np.zeros(2), len(order)
        self._penalties[:] = 0
        over = Pass(order, rates, number, self.state.t, self._weights_of(order))
        for reached, finite in self._steps.run(over, totals):
            if not finite:
                return float("nan")
            done = reached
        self.state.t += done
        return (float(totals[0]) + float(self._penalties.sum())) / examples

    def _weights_of(self, order: np.ndarray) -> np.ndarray:
        """For each step: 1 over the weight of its examples, by which penalties count less, and their number times it."""
        batch, n = self.plan.batch, len(order)
        starts = np.arange(0, n, batch)
        counts = np.minimum(n - starts, batch).astype(np.float64)
        weights = np.add.reduceat(self._split.sample_weight[order], starts) if self._weighted else counts
        inverse = 1 / np.maximum(weights, np.finfo(float).tiny)
        return np.stack([inverse, counts * inverse], axis=1)

    def rescale_momentum(self, factor: float) -> None:
        """Multiply the first moment: velocities that were made with another learning rate stay as large."""
        if "first" in self._buffers:
            self._buffers["first"] *= factor

    def parameters(self) -> list[np.ndarray]:
        """``[w, b, w, b, …]`` as they are, copies."""
        return self._layout.unpack(self._buffers["parameters"])

    def snapshot(self) -> np.ndarray:
        """The parameters as they are, for `parameters_of`."""
        return self._buffers["parameters"].copy()

    def parameters_of(self, snapshot: np.ndarray) -> list[np.ndarray]:
        """``[w, b, w, b, …]`` of a snapshot."""
        return self._layout.unpack(snapshot)

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


def input_mode(x: Any, hidden: bool) -> str:
    """How the first layer reads examples: see `fastnn.kernels.inputs.choose_input`."""
    if hasattr(x, "indptr"):
        return "auto"
    return "auto" if hidden and x.size >= _SPARSE_FROM else "dense"
