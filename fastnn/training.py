"""Epochs of mini-batch training. Yields one record an epoch and never prints.

Exact: every gradient of a step is taken at the step's starting weights, the last short batch included. The same
version, data, settings and kind of CPU give the same bits for any number of threads, with or without checkpoints and
interruptions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from fastnn.calibration import Calibration, fit
from fastnn.datasets.base import (
    Dataset,
    Split,
    checked_split,
    checked_targets,
    chunks,
    fingerprint,
    is_sparse,
    stratified,
)
from fastnn.errors import DataError, DivergedError, UsageError
from fastnn.feeding import Feed
from fastnn.inference import Forward, Scaling, hidden_for, scale_of, scaled
from fastnn.kernels.layout import LINE, Layout, aligned_zeros
from fastnn.kernels.losses import Loss
from fastnn.kernels.memory import Net, Span, Work
from fastnn.kernels.random import shuffle
from fastnn.kernels.steps import train_steps
from fastnn.kernels.update import Rule
from fastnn.kernels.workers import Workers, compile_for, sync_area
from fastnn.machine import available_threads
from fastnn.model import Evaluation, Model, evaluate_logits, recipe_for
from fastnn.network import Network
from fastnn.optimizers import KERNELS, OPTIMIZERS
from fastnn.schedules import rates
from fastnn.settings import LOSSES, Settings
from fastnn.stopping import Watch

_CALL_SECONDS = 0.05  # half of what Ctrl-C may wait, for steps that take longer than the last ones
_FIRST_CALL_FLOPS = 5e8  # before any step is timed
_MOST_POINTS = 400  # of a curve in a model file
_FLOPS_A_THREAD = 0.9e6  # of a step; below this a second thread costs more than it saves (bench/README.md)


@dataclass(frozen=True)
class Epoch:
    """One pass over the training set.

    Attributes
    ----------
    epoch : int
        Counted from 1.
    seconds : float
        All training work: shuffle, gather, augmentation, steps; neither evaluation nor compilation.
    examples_per_second : float
    loss : float
        Mean over the epoch, as trained; penalties not included.
    accuracy : float, optional
        Share of right answers, as trained; None for losses other than softmax.
    learning_rate : float
        Of its first step.
    validation_loss, validation_accuracy : float, optional
        After it, where there are validation examples.
    """

    epoch: int
    seconds: float
    examples_per_second: float
    loss: float
    accuracy: float | None
    learning_rate: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None


@dataclass(frozen=True)
class Progress:
    """Inside an epoch, for progress bars: examples done so far of all, with the loss and accuracy of these."""

    epoch: int
    done: int
    examples: int
    seconds: float
    loss: float
    accuracy: float | None


@dataclass
class State:
    """All that changes while a run goes on; what a checkpoint holds.

    Attributes
    ----------
    buffers : dict of str to ndarray
        ``parameters`` and, where needed, ``first``, ``second`` (the optimizer's memory), ``average`` and ``best``, each
        one flat buffer of panels.
    epoch, step : int
        Epochs done, and steps done of the one after.
    totals : ndarray (2,)
        Sums of loss and right answers over these steps.
    seconds : float
        That they took.
    watch : Watch
        Of the validation loss.
    history : list of Epoch
    """

    buffers: dict[str, np.ndarray]
    epoch: int = 0
    step: int = 0
    totals: np.ndarray = field(default_factory=lambda: np.zeros(2))
    seconds: float = 0.0
    watch: Watch = field(default_factory=Watch)
    history: list[Epoch] = field(default_factory=list)


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
    on_safe : callable, optional
        Called with this run about 20 times a second, whenever all that it consists of is consistent: a checkpoint
        may be written, or the run stopped by an exception.

    Attributes
    ----------
    compile_seconds : float
        Time it took to compile the kernels that were asked for so far, or to load them.
    history : list of Epoch
        What has been yielded.
    state : State

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
    on_safe: Callable[[Training], None] | None = None
    compile_seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.settings = settings = self.settings.resolved()
        self.train_split, self.validation = _splits(self.dataset, settings)
        self.scaling = _scaling(self.dataset, self.train_split, settings)
        read = self.train_split if self.scaling is None else _standard(self.train_split, self.scaling)
        outputs = len(self.dataset.classes)
        self.network = Network.mlp(self.dataset.features, settings.hidden, outputs, settings.activation)
        self._layout = Layout(self.network.sizes, np.dtype(self.dtype))
        # a batch larger than the data set takes no more memory than the data set
        self._batch = min(settings.batch_size, len(self.train_split))
        self.threads = settings.threads or best_threads(self.network, self._batch, self._layout.width)
        self._workers = Workers(self.threads)
        shape = self.dataset.image_shape
        self._feed = Feed(read, settings, shape, self._batch, self._workers)
        blocks, hidden = self._feed.blocks, hidden_for(self.network, settings.dropout, settings.seed)
        slopes = 0 if hidden is None else 1
        self._work = Work(*self._layout.workspace(self._batch, self.threads, sides=2, blocks=blocks, slopes=slopes))
        self._forward = Forward(self.network, self._workers, self.scaling)
        self.calibration = Calibration()
        self._sync = sync_area()
        self._steps_a_call = max(1, int(_FIRST_CALL_FLOPS / step_flops(self.network, self._batch)))
        start = self.network.initial_parameters(settings.seed, settings.initialisation)
        self.state = State(self._buffers(self._layout.pack(start)))
        self._net = self._network_view(hidden)
        self.resting = True  # whether an exception may be raised here: false inside calls that a stop would tear apart

    def _buffers(self, parameters: np.ndarray) -> dict[str, np.ndarray]:
        """The parameters with what the optimizer keeps beside them."""
        first, second = OPTIMIZERS[self.settings.optimizer].memory
        found = {"parameters": parameters}
        for name, wanted in (("first", first), ("second", second)):
            if wanted:
                found[name] = self._layout.zeros()
        if self.settings.averaging:
            found["average"] = self._layout.pack(self._layout.unpack(parameters))
        return found

    def _network_view(self, hidden: Any) -> Net:
        """The network as kernels see it, with an optimizer where it is more than plain SGD."""
        s, buffers, none = self.settings, self.state.buffers, np.zeros(0, self._layout.dtype)
        loss = Loss(LOSSES.index(s.loss), float(s.label_smoothing), float(s.huber_delta))
        parameters = buffers["parameters"]
        extras = (s.l1, s.l2, s.weight_decay, s.max_norm, s.clip_norm, s.averaging)
        if s.optimizer == "sgd" and not any(extras):
            return Net(self._layout.table(), parameters, parameters, hidden, None, loss)
        rule = Rule(
            KERNELS.index(OPTIMIZERS[s.optimizer].kernel),
            *(buffers.get(name, none) for name in ("first", "second", "average")),
            np.zeros(self._layout.panel_count() if s.clip_norm else 0),
            *map(float, (s.momentum, s.beta2, s.epsilon, s.l1, s.l2, s.weight_decay)),  # type: ignore[arg-type]
            *map(float, (s.clip_norm, s.max_norm, s.averaging)),
        )
        return Net(self._layout.table(), parameters, self._layout.zeros(), hidden, rule, loss)

    @property
    def history(self) -> list[Epoch]:
        """What has been yielded."""
        return self.state.history

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
        span = Span(0, 0, 1, np.zeros(1))
        data = self._feed.data(np.zeros(1, np.int64))
        compile_for(train_steps, self._net, data, self._work, span, self.state.totals, self._sync, 0, self.threads)
        compile_for(shuffle, 0, 0, np.zeros(1, np.int64))
        self._feed.compile()
        self.compile_seconds += time.perf_counter() - begin

    def compile_evaluation(self) -> None:
        """Compile the kernels of `evaluate`, or load them; it does so itself when they are not there."""
        begin = time.perf_counter()
        self._forward.compile(self.dataset.train.x)
        self.compile_seconds += time.perf_counter() - begin

    def evaluation_is_kept(self) -> bool:
        """Whether the kernels of `evaluate` were compiled before, on this machine."""
        return self._forward.is_kept(self.dataset.train.x)

    def __iter__(self) -> Iterator[Epoch]:
        """Train the epochs that are left, yielding each, until the last or until validation says to stop.

        Raises
        ------
        DivergedError
            When the loss of a batch is not finite; the weights are then those before this epoch.
        """
        self.compile()
        while self.state.epoch < self.settings.epochs and not self._stops():
            safe = {name: buffer.copy() for name, buffer in self.state.buffers.items() if name != "best"}
            try:
                self._steps()
                if not np.isfinite(self.state.buffers["parameters"]).all():
                    raise DivergedError(self.state.epoch + 1, self.steps, self._rates()[0])
            except DivergedError:
                for name, buffer in safe.items():
                    self.state.buffers[name][:] = buffer
                self.state.step, self.state.seconds = 0, 0.0
                self.state.totals[:] = 0
                raise
            yield self._finish()

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.train_split) // self._batch)

    def _stops(self) -> bool:
        return bool(self.settings.patience) and self.state.watch.since >= self.settings.patience

    def _rates(self) -> np.ndarray:
        return rates(self.settings, self.state.epoch, self.steps) * self.state.watch.factor

    def _steps(self) -> None:
        """The steps that are left of this epoch."""
        state, examples, steps, wanted = self.state, len(self.train_split), self.steps, self._rates()
        begin = shown = time.perf_counter() - state.seconds
        order = shuffled(examples, self.settings.seed, state.epoch)
        data = self._feed.data(order)
        while state.step < steps:
            self.resting = False
            started = time.perf_counter()
            last = min(state.step + min(self._steps_a_call, self._feed.most_steps), steps)
            self._feed.prepare(order, state.epoch, state.step * self._batch, last * self._batch)
            span = Span(state.step, last, self._batch, wanted, state.epoch, state.epoch * steps)
            call = self._net, data, self._work, span, state.totals
            reached = self._workers.run(train_steps, *call, sync=self._sync)
            now = time.perf_counter()
            if reached < last:
                self.resting = True
                raise DivergedError(state.epoch + 1, reached + 1, wanted[reached])
            pace = (now - started) / (reached - state.step)
            self._steps_a_call = max(1, min(int(_CALL_SECONDS / pace), 4 * self._steps_a_call))
            state.step, state.seconds = reached, now - begin
            self._rest()
            if self.on_progress and now - shown > 0.05:
                shown = now
                seen = min(reached * self._batch, examples)
                loss, right = (state.totals / seen).tolist()
                accuracy = right if self._counts else None
                self.on_progress(Progress(state.epoch + 1, seen, examples, state.seconds, loss, accuracy))

    def _rest(self) -> None:
        """All is consistent: whoever waits for that may act."""
        self.resting = True
        if self.on_safe:
            self.on_safe(self)

    @property
    def _counts(self) -> bool:
        """Whether there are right answers to count."""
        return self.settings.loss == "softmax"

    def _finish(self) -> Epoch:
        """What is to be said about the epoch whose steps are done; its validation, and what follows from that."""
        state, examples = self.state, len(self.train_split)
        loss, right = (state.totals / examples).tolist()
        found = self.evaluate(self.validation) if self.validation else None
        self.resting = False
        epoch = Epoch(
            state.epoch + 1,
            state.seconds,
            examples / state.seconds,
            loss,
            right if self._counts else None,
            float(self._rates()[0]),
            found.loss if found else None,
            found.accuracy if found else None,
        )
        if found:
            watch = state.watch.after(found.loss, state.epoch + 1, self.settings)
            if watch.since == 0 and self.settings.restore_best:
                best = state.buffers.setdefault("best", self._layout.zeros())
                best[:] = self._current()
            state.watch = watch
        state.epoch, state.step, state.seconds = state.epoch + 1, 0, 0.0
        state.totals[:] = 0
        state.history.append(epoch)
        self._rest()
        return epoch

    def _current(self) -> np.ndarray:
        """The weights as they are: the average where there is one."""
        return self.state.buffers.get("average", self.state.buffers["parameters"])

    def evaluate(self, split: Split | None = None) -> Evaluation:
        """Loss, accuracy and confusion on the test split (or another one), with the weights as they are now."""
        split = split or self.dataset.test
        if split is None:
            raise UsageError(f"{self.dataset.name}: no test examples to evaluate on")
        z = self._forward.logits(self._layout.unpack(self._current()), split.x)
        z /= self.calibration.temperature
        return evaluate_logits(z, split, self.dataset.classes, self.settings.loss, self.settings.huber_delta)

    def finish(self) -> None:
        """Take the weights of the best validation loss, where they were kept, and calibrate on the same examples."""
        if "best" in self.state.buffers:
            self._current()[:] = self.state.buffers["best"]
        if self.validation and self._counts:
            z = self._forward.logits(self._layout.unpack(self._current()), self.validation.x)
            self.calibration = fit(z, self.validation.y)

    def model(self) -> Model:
        """The model as it is now, with all that describes the run."""
        from fastnn import __version__

        last = self.history[-1] if self.history else None
        watch = self.state.watch
        metadata: dict[str, Any] = {
            "classes": list(self.dataset.classes),
            "preprocessing": {
                "recipe": recipe_for(self.dataset),
                "scale": scale_of(self.dataset.train.x),
                "image_shape": list(self.dataset.image_shape) if self.dataset.image_shape else None,
            },
            # threads change neither the weights nor, then, what describes them
            "training": {k: v for k, v in asdict(self.settings).items() if k != "threads"},
            "history": {
                **{"epochs": len(self.history), "loss": last and last.loss, "accuracy": last and last.accuracy},
                "curves": curves(self.history),
            },
            "data": {
                "name": self.dataset.name,
                "examples": len(self.train_split),
                "fingerprint": self.data_sha256,
            },
            "fastnn_version": __version__,
        }
        if self.validation:
            metadata["history"] |= {"best_epoch": watch.best_epoch, "best_validation_loss": watch.best}
        if self.calibration.examples:
            metadata["calibration"] = asdict(self.calibration)
        return Model(self.network, self._layout.unpack(self._current()), metadata, self.scaling)

    def plain_buffers(self) -> dict[str, list[np.ndarray]]:
        """Every buffer of the state as plain ``[w, b, w, b, …]``."""
        return {name: self._layout.unpack(buffer) for name, buffer in self.state.buffers.items()}

    def restore(self, buffers: dict[str, list[np.ndarray]], state: State) -> None:
        """Go on from a state whose buffers are given as `plain_buffers` gives them."""
        own = self.state.buffers
        if set(buffers) - {"best"} != set(own):
            raise UsageError(f"a state of {', '.join(buffers)}; this run has {', '.join(own)}")
        for name, plain in buffers.items():
            own.setdefault(name, self._layout.zeros())[:] = self._layout.pack(plain)
        state.buffers = own
        self.state = state

    @cached_property
    def data_sha256(self) -> str:
        """SHA-256 of the data set's training examples: which data a model was trained on."""
        return self.dataset.fingerprint()

    @cached_property
    def fingerprint(self) -> str:
        """Which examples it is trained and validated on; the first look takes a second for each GB of them."""
        validation = self.dataset.validation
        return self.data_sha256 + ("" if validation is None else fingerprint(validation))

    def close(self) -> None:
        """Let the threads go; the run can't go on after."""
        self._workers.close()


def curves(history: Sequence[Epoch]) -> dict[str, list[Any]]:
    """What changes from epoch to epoch, as columns for a model file: at most 400 epochs, evenly taken, ends included.

    Seconds are left out, so that the same run gives the same file.
    """
    places = np.unique(np.linspace(0, len(history) - 1, min(len(history), _MOST_POINTS)).round().astype(int))
    rows = [history[at] for at in places] if history else []
    found: dict[str, list[Any]] = {"epoch": [row.epoch for row in rows]}
    for name in ("loss", "accuracy", "learning_rate", "validation_loss", "validation_accuracy"):
        if rows and getattr(rows[0], name) is not None:
            found[name] = [float(f"{getattr(row, name):.6g}") for row in rows]
    return found


def _splits(dataset: Dataset, settings: Settings) -> tuple[Split, Split | None]:
    """What is trained on and what is validated on, checked against the loss."""
    by_targets = dataset.train.y.ndim == 2
    if by_targets == (settings.loss == "softmax"):
        wanted = "labels, one an example" if by_targets else "targets, (N, outputs)"
        raise DataError(f"{dataset.name}: --loss {settings.loss} needs {wanted}")
    if settings.loss == "poisson" and (dataset.train.y < 0).any():
        raise DataError(f"{dataset.name}: --loss poisson needs targets of at least 0")
    if settings.loss == "logistic" and ((dataset.train.y < 0) | (dataset.train.y > 1)).any():
        raise DataError(f"{dataset.name}: --loss logistic needs targets from 0 to 1")
    if by_targets and settings.class_weight != "none":
        raise UsageError(f"--class-weight {settings.class_weight}: needs classes, --loss softmax")
    if settings.augments and dataset.image_shape is None:
        raise UsageError(f"{dataset.name}: its features are not known to be pixels, so they can't be shifted or turned")
    train, validation = dataset.train, dataset.validation
    if validation is None and settings.validation:
        train, validation = stratified(dataset.train, settings.validation, settings.seed)
    if validation is None and (settings.patience or settings.plateau):
        option = "--patience" if settings.patience else "--plateau"
        raise UsageError(f"{option} needs validation examples: take --validation 0.1, or a file of them")
    return train, validation


def _scaling(dataset: Dataset, train: Split, settings: Settings) -> Scaling | None:
    """Mean and deviation of each feature of the training examples, float64; features that never change stay."""
    if settings.features == "raw" or (settings.features == "auto" and not dataset.table):
        return None
    if is_sparse(train.x):
        raise UsageError("--features standard would make sparse examples dense; take --features raw")
    total, squares = np.zeros(train.x.shape[1]), np.zeros(train.x.shape[1])
    for first, last in chunks(train.x):
        total += train.x[first:last].sum(axis=0, dtype=np.float64)
    mean = total / len(train)
    for first, last in chunks(train.x):
        squares += ((train.x[first:last] - mean) ** 2).sum(axis=0)
    deviation = np.sqrt(squares / len(train))
    return mean, np.where(deviation > 1e-12 * np.maximum(1, np.abs(mean)), deviation, 1.0)


def _standard(split: Split, scaling: Scaling) -> Split:
    """The examples brought to mean 0 and deviation 1, in memory of their own."""
    x = np.empty(split.x.shape, np.float64 if split.x.dtype == np.float64 else np.float32)
    for first, last in chunks(split.x):
        x[first:last] = scaled(split.x[first:last], scaling)
    return replace(split, x=x)


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
    data: Dataset | str | tuple[Any, ...] = "auto",
    hidden: Sequence[int] | int = Settings.hidden,
    on_epoch: Callable[[Epoch], None] | None = None,
    settings: Settings | None = None,
    **changes: Any,
) -> Model:
    """Train a multilayer perceptron and return it.

    Parameters
    ----------
    data : Dataset, str or (x, y) or (x, y, sample_weight)
        A data set, the name or place of one (see `fastnn.load_data`), or arrays: x (N, D) uint8 or float, dense,
        memory-mapped or sparse (SciPy); y (N,) whole numbers from 0, or for losses other than softmax (N,) or (N, C)
        numbers; sample_weight (N,) at least 0.
    hidden : int or sequence of int
        Units of each hidden layer.
    on_epoch : callable, optional
        Called with an `Epoch` after each.
    settings : Settings, optional
        To begin with, instead of the defaults.
    **changes
        Any other field of `Settings`: ``epochs``, ``optimizer``, ``learning_rate``, ``dropout``, ….

    Returns
    -------
    Model
        Of the best validation loss where there is validation, unless ``restore_best=False``.

    Raises
    ------
    UsageError, DataError
        Before any training, when a value or the data is not as it should be.
    DivergedError
        When the loss of a batch is not finite.
    """
    from fastnn.datasets import load as load_data
    from fastnn.settings import from_mapping

    chosen = {"hidden": (hidden,) if isinstance(hidden, int) else tuple(hidden)} if settings is None else {}
    settings = from_mapping({**chosen, **changes}, "train", settings)
    if isinstance(data, tuple):
        x, y, weights = (*data, None)[:3]
        data = from_arrays(x, y, weights, settings.loss)
    elif not isinstance(data, Dataset):
        data = load_data(data)
    run = Training(data, settings)
    try:
        for epoch in run:
            if on_epoch is not None:
                on_epoch(epoch)
        run.finish()
        return run.model()
    finally:
        run.close()


def from_arrays(x: Any, y: Any, weights: Any = None, loss: str = "softmax") -> Dataset:
    """A data set out of arrays, all of it for training; classes are 0 to the highest label.

    Parameters
    ----------
    x : array_like (N, D)
    y : array_like
        Labels (N,) for softmax; numbers (N,) or (N, C) for the other losses.
    weights : array_like (N,), optional
        How much each example counts, at least 0.
    loss : str
        One of `fastnn.settings.LOSSES`.
    """
    y = np.asarray(y)
    if loss != "softmax":
        split = checked_targets(x, y, "arrays", weights)
        return Dataset("arrays", split, None, tuple(str(c) for c in range(split.y.shape[1])))
    highest = y.max() if y.size and np.issubdtype(y.dtype, np.number) else 0
    classes = tuple(str(c) for c in range(int(min(max(highest, 1), 65_535)) + 1))
    split = checked_split(x, y, len(classes), "arrays", weights)
    return Dataset("arrays", split, None, classes)
