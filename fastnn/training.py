"""Epochs of mini-batch SGD. Yields one record an epoch and never prints.

Exact: every gradient of a step is taken at the step's starting weights, the last short batch included. The same
version, data, seed and kind of CPU give the same bits for any number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fastnn.datasets.base import Dataset, checked_split
from fastnn.errors import DivergedError, UsageError
from fastnn.inference import Forward, scale_of
from fastnn.kernels.blocks import Blocks
from fastnn.kernels.host import available_threads
from fastnn.kernels.inputs import MODES, blocks_of, choose_input
from fastnn.kernels.layout import LINE, Layout, aligned_zeros
from fastnn.kernels.random import shuffle
from fastnn.kernels.steps import Data, Net, Span, Work, train_steps
from fastnn.kernels.workers import Workers, compile_for, sync_area
from fastnn.model import Evaluation, Model, evaluation, recipe_for
from fastnn.network import INITIALISATIONS, MAX_UNITS, Network

MOST_THREADS = 1024
_CALL_SECONDS = 0.05  # half of what Ctrl-C may wait, for steps that take longer than the last ones
_FIRST_CALL_FLOPS = 5e8  # before any step is timed
_FLOPS_A_THREAD = 0.9e6  # of a step; below this a second thread costs more than it saves (bench/README.md)


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes
    ----------
    hidden : tuple of int
        Units of each hidden layer; empty for softmax regression.
    epochs : int
        Passes over the training set, at least 1.
    batch_size : int
        Examples in a step, 1 to 65,536.
    learning_rate : float
        Of the first epoch, above 0.
    learning_rate_decay : float
        d in learning_rate / (1 + d · epoch), epoch counted from 0; 0 keeps it constant.
    seed : int
        Names the run: initial weights and every shuffle.
    threads : int, optional
        As many as make it fastest by default. Never changes the result.
    initialisation : {"he", "glorot"}
    input : {"auto", "dense", "sparse"}
        How the first layer reads its input: all of it, or only the blocks of neighbouring features that hold
        anything. ``"auto"`` measures which is faster, and leaves memory-mapped data on disk; they agree to rounding.

    Raises
    ------
    UsageError
        When a value is out of its range.
    """

    hidden: tuple[int, ...] = (128,)
    epochs: int = 12
    batch_size: int = 16
    learning_rate: float = 0.2
    learning_rate_decay: float = 0.2
    seed: int = 0
    threads: int | None = None
    initialisation: str = "he"
    input: str = "auto"

    def __post_init__(self) -> None:
        for units in self.hidden:
            _require_whole("--hidden", units, 1, MAX_UNITS)
        _require_whole("--epochs", self.epochs, 1, 1_000_000)
        _require_whole("--batch-size", self.batch_size, 1, 65_536)
        _require_whole("--seed", self.seed, 0, 2**63 - 1)
        if self.threads is not None:
            _require_whole("--threads", self.threads, 1, MOST_THREADS)
        for name, value, low in (
            ("--lr", self.learning_rate, "above 0"),
            ("--lr-decay", self.learning_rate_decay, "at least 0"),
        ):
            if not (math.isfinite(value) and (value > 0 or (value == 0 and low == "at least 0"))):
                raise UsageError(f"{name} {value}: expected a number {low}")
        if self.initialisation not in INITIALISATIONS:
            raise UsageError(f"initialisation {self.initialisation!r}: expected {' or '.join(INITIALISATIONS)}")
        if self.input not in MODES:
            raise UsageError(f"--input {self.input!r}: expected one of {', '.join(MODES)}")

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch counted from 0."""
        return self.learning_rate / (1 + self.learning_rate_decay * epoch)


def _require_whole(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not low <= value <= high:
        raise UsageError(f"{name} {value}: expected a whole number from {low:,} to {high:,}")


@dataclass(frozen=True)
class Epoch:
    """One pass over the training set.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    seconds : float
        All training work: shuffle, gather, steps; neither evaluation nor compilation.
    examples_per_second : float
    loss, accuracy : float
        Means over the epoch, as trained.
    learning_rate : float
    """

    epoch: int
    seconds: float
    examples_per_second: float
    loss: float
    accuracy: float
    learning_rate: float


@dataclass(frozen=True)
class Progress:
    """Inside an epoch, for progress bars: examples done so far of all, with the loss and accuracy of these."""

    epoch: int
    done: int
    examples: int
    seconds: float
    loss: float
    accuracy: float


@dataclass
class Training:
    """A run: iterate over it for its epochs, then take its model.

    Parameters
    ----------
    dataset : Dataset
    settings : Settings
    dtype : {"float32", "float64"}
        Number type of the parameters.
    on_progress : callable, optional
        Called with a `Progress` about 20 times a second inside an epoch.

    Attributes
    ----------
    compile_seconds : float
        Time it took to compile the kernels that were asked for so far, or to load them.
    history : list of Epoch
        What has been yielded.

    Examples
    --------
    >>> run = Training(dataset, Settings(hidden=(64,), epochs=3))  # doctest: +SKIP
    >>> for epoch in run:                                          # doctest: +SKIP
    ...     print(epoch.loss)
    >>> run.model().save("digits.safetensors")                     # doctest: +SKIP
    """

    dataset: Dataset
    settings: Settings = field(default_factory=Settings)
    dtype: str = "float32"
    on_progress: Callable[[Progress], None] | None = None
    history: list[Epoch] = field(default_factory=list, init=False)
    compile_seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.network = Network.mlp(self.dataset.features, self.settings.hidden, len(self.dataset.classes))
        self._layout = Layout(self.network.sizes, np.dtype(self.dtype))
        start = self.network.initial_parameters(self.settings.seed, self.settings.initialisation)
        self._buffer = self._layout.pack(start)
        # a batch larger than the data set takes no more memory than the data set
        self._batch = min(self.settings.batch_size, len(self.dataset.train))
        self.threads = self.settings.threads or best_threads(self.network, self._batch, self._layout.width)
        self._workers = Workers(self.threads)
        x = self.dataset.train.x
        self._x = choose_input(x, len(self.settings.hidden), self._batch, self.settings.input)
        blocks = blocks_of(x.shape[1]) if isinstance(self._x, Blocks) else 0
        self._work = Work(*self._layout.workspace(self._batch, self.threads, sides=2, blocks=blocks))
        self._forward = Forward(self.network, self._workers)
        self._sync, self._totals = sync_area(), np.zeros(2)
        self._steps_a_call = max(1, int(_FIRST_CALL_FLOPS / step_flops(self.network, self._batch)))

    def count_phases(self) -> np.ndarray:
        """Count from now on what each phase of a step takes; needs kernels of its own.

        Returns
        -------
        ndarray (threads, 16)
            int64 ticks, growing while epochs run; the first columns are those of `fastnn.kernels.clock.PHASES`.
        """
        clock = aligned_zeros((self.threads, LINE), np.dtype(np.int64))
        self._work = self._work._replace(clock=clock)
        return clock

    def compile(self) -> None:
        """Compile the kernels of the steps, or load them; iterating does it too."""
        begin = time.perf_counter()
        call = self._call(np.zeros(1, np.int64))
        compile_for(train_steps, *call, Span(0, 0, 1, 0.0), self._totals, self._sync, 0, self.threads)
        compile_for(shuffle, 0, 0, np.zeros(1, np.int64))
        self.compile_seconds += time.perf_counter() - begin

    def compile_evaluation(self) -> None:
        """Compile the kernels of `evaluate`, or load them; it does so itself when they are not there."""
        begin = time.perf_counter()
        self._forward.compile(self.dataset.train.x)
        self.compile_seconds += time.perf_counter() - begin

    def evaluation_is_kept(self) -> bool:
        """Whether the kernels of `evaluate` were compiled before, on this machine."""
        return self._forward.is_kept(self.dataset.train.x)

    def _call(self, order: np.ndarray) -> tuple[Net, Data, Work]:
        train = self.dataset.train
        net = Net(self._layout.table(), self._buffer, self._buffer)
        return net, Data(self._x, train.y, order, scale_of(train.x)), self._work

    def __iter__(self) -> Iterator[Epoch]:
        """Train the epochs that are left, yielding each.

        Raises
        ------
        DivergedError
            When the loss of a batch is not finite; the weights are then those before this epoch.
        """
        self.compile()
        for index in range(len(self.history), self.settings.epochs):
            safe = self._buffer.copy()
            try:
                epoch = self._epoch(index)
                if not np.isfinite(self._buffer).all():
                    raise DivergedError(index + 1, self._steps(), self.settings.rate(index))
            except DivergedError:
                self._buffer[:] = safe
                raise
            self.history.append(epoch)
            yield epoch

    def _steps(self) -> int:
        return -(-len(self.dataset.train) // self._batch)

    def _epoch(self, index: int) -> Epoch:
        rate, examples, steps = self.settings.rate(index), len(self.dataset.train), self._steps()
        begin = time.perf_counter()
        call = self._call(shuffled(examples, self.settings.seed, index))
        self._totals[:] = 0
        done, shown = 0, begin
        while done < steps:
            span = Span(done, min(done + self._steps_a_call, steps), self._batch, rate)
            started = time.perf_counter()
            reached = self._workers.run(train_steps, *call, span, self._totals, sync=self._sync)
            now = time.perf_counter()
            if reached < span.last:
                raise DivergedError(index + 1, reached + 1, rate)
            pace = (now - started) / (reached - done)
            self._steps_a_call = max(1, min(int(_CALL_SECONDS / pace), 4 * self._steps_a_call))
            done = reached
            if self.on_progress and now - shown > 0.05:
                shown = now
                seen = min(done * self._batch, examples)
                loss, right = self._totals / seen
                self.on_progress(Progress(index + 1, seen, examples, now - begin, float(loss), float(right)))
        seconds = time.perf_counter() - begin
        loss, right = self._totals / examples
        return Epoch(index + 1, seconds, examples / seconds, float(loss), float(right), rate)

    def evaluate(self) -> Evaluation:
        """Loss, accuracy and confusion on the test split, with the weights as they are now."""
        test = self.dataset.test
        if test is None:
            raise UsageError(f"{self.dataset.name}: no test examples to evaluate on")
        z = self._forward.logits(self._layout.unpack(self._buffer), test.x)
        return evaluation(z, test.y, self.dataset.classes)

    def model(self) -> Model:
        """The model as it is now, with all that describes the run."""
        from fastnn import __version__

        last = self.history[-1] if self.history else None
        metadata: dict[str, Any] = {
            "classes": list(self.dataset.classes),
            "preprocessing": {
                "recipe": recipe_for(self.dataset),
                "scale": scale_of(self.dataset.train.x),
                "image_shape": list(self.dataset.image_shape) if self.dataset.image_shape else None,
            },
            # threads change neither the weights nor, then, what describes them
            "training": {k: v for k, v in asdict(self.settings).items() if k != "threads"},
            "history": {"epochs": len(self.history), "loss": last and last.loss, "accuracy": last and last.accuracy},
            "data": {
                "name": self.dataset.name,
                "examples": len(self.dataset.train),
                "fingerprint": self.dataset.fingerprint(),
            },
            "fastnn_version": __version__,
        }
        return Model(self.network, self._layout.unpack(self._buffer), metadata)

    def close(self) -> None:
        """Let the threads go; the run can't go on after."""
        self._workers.close()


def shuffled(examples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch: a permutation of the examples, int64, that depends on (seed, epoch) alone."""
    order = np.empty(examples, np.int64)
    shuffle(seed, epoch, order)
    return order


def step_flops(network: Network, batch: int) -> int:
    """Floating-point operations of one step: three products a layer, two in the first."""
    products = [2 * batch * layer.inputs * layer.units for layer in network.layers]
    return 3 * sum(products) - products[0]


def best_threads(network: Network, batch: int, width: int) -> int:
    """Threads that make a step fastest on this machine: no more than can run, than there are panels, than pay."""
    panels = max([-(-layer.units // width) for layer in network.layers[:-1]] or [-(-network.sizes[0] // width)])
    worth = max(1, int(step_flops(network, batch) / _FLOPS_A_THREAD))
    return min(available_threads(), panels, worth)


def train(
    data: Dataset | str | tuple[Any, np.ndarray] = "auto",
    hidden: Sequence[int] | int = Settings.hidden,
    epochs: int = Settings.epochs,
    batch_size: int = Settings.batch_size,
    learning_rate: float = Settings.learning_rate,
    learning_rate_decay: float = Settings.learning_rate_decay,
    seed: int = Settings.seed,
    threads: int | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Model:
    """Train a multilayer perceptron and return it.

    Parameters
    ----------
    data : Dataset, str or (x, y)
        A data set, the name or folder of one (see `fastnn.load_data`), or arrays: x (N, D) uint8 or float,
        dense, memory-mapped or sparse (SciPy), y (N,) whole numbers from 0.
    hidden, epochs, batch_size, learning_rate, learning_rate_decay, seed, threads
        See `Settings`.
    on_epoch : callable, optional
        Called with an `Epoch` after each.

    Returns
    -------
    Model

    Raises
    ------
    UsageError, DataError
        Before any training, when a value or the data is not as it should be.
    DivergedError
        When the loss of a batch is not finite.
    """
    from fastnn.datasets import load as load_data

    if isinstance(data, tuple):
        data = from_arrays(*data)
    elif not isinstance(data, Dataset):
        data = load_data(data)
    hidden = (hidden,) if isinstance(hidden, int) else tuple(hidden)
    settings = Settings(hidden, epochs, batch_size, learning_rate, learning_rate_decay, seed, threads)
    run = Training(data, settings)
    try:
        for epoch in run:
            if on_epoch is not None:
                on_epoch(epoch)
        return run.model()
    finally:
        run.close()


def from_arrays(x: Any, y: np.ndarray) -> Dataset:
    """A data set out of arrays, all of it for training; classes are 0 to the highest label."""
    y = np.asarray(y)
    highest = y.max() if y.size and np.issubdtype(y.dtype, np.number) else 0
    classes = tuple(str(c) for c in range(int(min(max(highest, 1), 65_535)) + 1))
    split = checked_split(x, y, len(classes), "arrays")
    return Dataset("arrays", split, None, classes)
