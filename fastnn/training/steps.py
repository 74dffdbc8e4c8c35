"""Steps of training in one piece of memory, in whatever order of the examples they are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastnn.kernels.barrier import new_team
from fastnn.kernels.memory import Net, Span, Work
from fastnn.kernels.step import train_steps
from fastnn.kernels.workers import Workers, compile_for
from fastnn.network import Network
from fastnn.training.batches import Batches

_CALL_SECONDS = 0.05  # half of what Ctrl-C may wait, for steps that take longer than the last ones
_FIRST_CALL_FLOPS = 5e8  # before any step is timed


class Pass(NamedTuple):
    """One pass over the examples.

    Attributes
    ----------
    order : ndarray (N,)
        int64, indices of examples.
    rates : ndarray (steps,)
        float64, learning rate of each step.
    epoch : int
        Counted from 0: what augmentation and dropout depend on.
    before : int
        Steps of all passes before this one.
    penalties : ndarray (steps, 2) or (0, 2)
        float64, how much penalties count in each step, see `Span`.
    """

    order: np.ndarray
    rates: np.ndarray
    epoch: int = 0
    before: int = 0
    penalties: np.ndarray = np.zeros((0, 2))


@dataclass
class Steps:
    """A net, the memory it is trained in, its examples, and the threads that do it.

    Attributes
    ----------
    network : Network
    net : Net
    work : Work
    batches : Batches
    workers : Workers
    batch : int
        Examples in a step.
    """

    network: Network
    net: Net
    work: Work
    batches: Batches
    workers: Workers
    batch: int

    def __post_init__(self) -> None:
        self.a_call = max(1, int(_FIRST_CALL_FLOPS / step_flops(self.network, self.batch)))

    def compile(self) -> None:
        """Compile the kernels of the steps, or load them."""
        data = self.batches.data(np.zeros(1, np.int64))
        compile_for(train_steps, self.net, data, self.work, Span(0, 0, 1, np.zeros(1)), np.zeros(2), new_team())
        self.batches.compile()

    def run(self, over: Pass, totals: np.ndarray, first: int = 0) -> Iterator[tuple[int, bool]]:
        """Steps `first` to the last of a pass, in calls of at most about 50 ms, so that signals are heard between.

        Parameters
        ----------
        over : Pass
        totals : ndarray (2,)
            float64, to which the summed loss and the number of right answers are added.

        Yields
        ------
        reached : int
            After each call: the step it came to.
        finite : bool
            Whether the loss of all batches was finite; if not, that of step `reached` was not, and nothing follows.
        """
        steps, reached, finite = len(over.rates), first, True
        data = self.batches.data(over.order)
        while finite and reached < steps:
            started, begin = time.perf_counter(), reached
            last = min(begin + min(self.a_call, self.batches.most_steps), steps)
            self.batches.prepare(over.order, over.epoch, begin * self.batch, last * self.batch)
            span = Span(begin, last, self.batch, over.rates, over.epoch, over.before, over.penalties)
            reached = self.workers.run(train_steps, self.net, data, self.work, span, totals)
            finite = reached == last
            if finite:
                pace = (time.perf_counter() - started) / (reached - begin)
                self.a_call = max(1, min(int(_CALL_SECONDS / pace), 4 * self.a_call))
            yield reached, finite


def step_flops(network: Network, batch: int) -> int:
    """Floating-point operations of one step: three products a layer, two in the first."""
    products = [2 * batch * layer.inputs * layer.units for layer in network.layers]
    return 3 * sum(products) - products[0]
