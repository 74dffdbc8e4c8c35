"""Epochs of mini-batch training. Yields one record an epoch and never prints.

Exact: every gradient of a step is taken at the step's starting weights, the last short batch included. The same
version, data, settings and kind of CPU give the same bits for any number of threads, with or without checkpoints and
interruptions.
"""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import InitVar, asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.datasets.base import (
    PIXEL,
    Dataset,
    Split,
    fingerprint,
    value_range,
)
from fastnn.errors import ArgumentTypeError, DivergedError, RunError, UsageError, check_callable, printable
from fastnn.kernels.layout import LINE, Layout, aligned_zeros
from fastnn.kernels.losses import Loss
from fastnn.kernels.memory import Net
from fastnn.kernels.optimizers import Rule
from fastnn.kernels.random import shuffle
from fastnn.kernels.workers import Workers, compile_for
from fastnn.machine import available_threads
from fastnn.model.calibration import fit
from fastnn.model.description import UNBOUNDED, Calibration, Description, History, Preprocessing, TrainingData, as_json
from fastnn.model.inference import Forward, activation_of
from fastnn.model.model import Evaluation, Model, evaluate_logits, recipe_for
from fastnn.network import Network
from fastnn.training.batches import Batches
from fastnn.training.early_stopping import EarlyStopping
from fastnn.training.initial import dataset_like, parameters_for, scaling_like, settings_like, sha256_of
from fastnn.training.optimizers import KERNELS, OPTIMIZERS
from fastnn.training.preparation import dataset_of, splits_of
from fastnn.training.schedules import rates
from fastnn.training.settings import LOSSES, Settings
from fastnn.training.steps import Pass, Steps, step_flops

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

    Examples
    --------
    >>> import fastnn
    >>> epochs = []
    >>> model = fastnn.train(([[0.0], [0.2], [0.8], [1.0]], [0, 0, 1, 1]), 4, epochs.append, epochs=2)
    >>> [epoch.epoch for epoch in epochs], epochs[1].loss < epochs[0].loss
    ([1, 2], True)
    """

    epoch: int
    seconds: float
    examples_per_second: float
    loss: float
    accuracy: float | None
    learning_rate: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None

    @property
    def figures(self) -> str:
        """All but its number, as a line for people."""
        said = [f"loss {self.loss:.4f}"]
        if self.accuracy is not None:
            said.append(f"accuracy {self.accuracy:.2%}")
        if self.validation_loss is not None:
            said.append(f"validation {self.validation_loss:.4f}")
        if self.validation_accuracy is not None:
            said[-1] += f", {self.validation_accuracy:.2%}"
        said += [f"{self.examples_per_second:>11,.0f} examples/s", f"{self.seconds:.3f} s"]
        return "  ".join(said)

    def __str__(self) -> str:
        return f"epoch {self.epoch}  {self.figures}"


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
    watch : EarlyStopping
        Of the validation loss.
    history : list of Epoch
    """

    buffers: dict[str, np.ndarray]
    epoch: int = 0
    step: int = 0
    totals: np.ndarray = field(default_factory=lambda: np.zeros(2))
    seconds: float = 0.0
    watch: EarlyStopping = field(default_factory=EarlyStopping)
    history: list[Epoch] = field(default_factory=list)


@dataclass(eq=False)
class Training:
    """A run: iterate over it for its epochs, then take its model.

    Parameters
    ----------
    dataset : Dataset, or what `train` takes for one
    settings : Settings
    dtype : {"float32", "float64"}
        Number type of the parameters.
    on_progress : callable, optional
        Called with a `Progress` about 20 times a second inside an epoch.
    on_safe : callable, optional
        Called with this run about 20 times a second, whenever all that it consists of is consistent: a checkpoint
        may be written, or the run stopped by an exception.
    initial : Model, or sequence of array_like, optional
        What to begin from instead of random weights: plain ``[w, b, w, b, …]``, w (inputs, units); or a model, whose
        scaling and classes then hold for this data too, and whose layers are taken where `settings` leaves ``hidden``
        and ``activation`` as they are.

    Attributes
    ----------
    began_from : str, optional
        SHA-256 of the weights it was given, with their scaling; None for random ones.
    compile_seconds : float
        Time it took to compile the kernels that were asked for so far, or to load them.
    history : list of Epoch
        What has been yielded.
    state : State

    Raises
    ------
    UsageError
        When a setting can't be, or does not fit the data: validation examples are missing, or pixels to be turned; or
        when it is to begin from weights that do not fit.
    DataError
        When the data is not as it should be, or the loss needs other labels.

    Notes
    -----
    The loop may be left at any time, by ``break`` or an exception, and entered again for the epochs that are left.
    Threads are there while it goes on, or while a model is asked for, and only then.

    Examples
    --------
    >>> import fastnn
    >>> x, y = [[0, 0], [0, 1], [1, 0], [1, 1]], ["no", "yes", "yes", "no"]
    >>> run = fastnn.Training((x, y), fastnn.Settings(hidden=16, epochs=300, batch_size=4, seed=1))
    >>> for epoch in run:
    ...     if epoch.loss < 0.2:
    ...         break
    >>> run.model().predict(x).tolist()
    ['no', 'yes', 'yes', 'no']
    >>> len(run.history) == epoch.epoch < 300
    True
    """

    dataset: Dataset
    settings: Settings = field(default_factory=Settings)
    dtype: str = "float32"
    on_progress: Callable[[Progress], None] | None = None
    on_safe: Callable[[Training], None] | None = None
    initial: InitVar[Model | Sequence[Any] | None] = None
    compile_seconds: float = field(default=0.0, init=False)

    if TYPE_CHECKING:  # what data may be given as

        def __init__(
            self,
            dataset: Dataset | str | Path | Sequence[Any],
            settings: Settings = ...,
            dtype: str = ...,
            on_progress: Callable[[Progress], None] | None = ...,
            on_safe: Callable[[Training], None] | None = ...,
            initial: Model | Sequence[Any] | None = ...,
        ) -> None: ...

    def __post_init__(self, initial: Model | Sequence[Any] | None) -> None:
        if not isinstance(self.settings, Settings):
            raise ArgumentTypeError(f"settings of type {type(self.settings).__name__}; expected Settings(epochs=3, …)")
        if self.dtype not in ("float32", "float64"):
            raise UsageError(f"dtype={printable(self.dtype, 40)!r}: expected float32 or float64")
        for name in ("on_progress", "on_safe"):
            check_callable(name, getattr(self, name))
        self.settings = settings = settings_like(initial, self.settings, {}).resolved()
        self.dataset = dataset_like(initial, dataset_of(self.dataset, settings.loss))
        self.train_split, self.validation = splits_of(self.dataset, settings)
        self.scaling = scaling_like(initial, self.dataset, self.train_split, settings)
        outputs = len(self.dataset.classes)
        self.network = Network.mlp(self.dataset.features, settings.hidden, outputs, settings.activation)
        self._layout = Layout(self.network.layers, np.dtype(self.dtype))
        # a batch larger than the data set takes no more memory than the data set
        self._batch = min(settings.batch_size, len(self.train_split))
        self.threads = settings.threads or best_threads(self.network, self._batch, self._layout.width)
        self._workers = Workers(self.threads)
        shape = self.dataset.image_shape
        self._batches = Batches(self.train_split, settings, shape, self._batch, self._workers, self.scaling)
        activation = activation_of(self.network, settings.dropout, settings.seed)
        features, slopes = self._batches.sparse_features, activation is not None
        work = self._layout.work(self._batch, self.threads, features=features, slopes=int(slopes))
        scale = 1.0 if self.scaling else self.dataset.scale
        self._forward = Forward(self.network, self._workers, self.scaling, scale)
        start = parameters_for(initial, self.network, settings, self.dtype)
        self.began_from = None if initial is None else sha256_of(start, self.scaling, scale)
        self.state = State(self._buffers(self._layout.pack(start)))
        net = self._network_view(activation)
        self._steps = Steps(self.network, net, work, self._batches, self._workers, self._batch)
        self._fitted = b"", Calibration()  # for which weights
        self._alone = threading.Lock()  # held by the epoch that is trained

    def _buffers(self, parameters: np.ndarray) -> dict[str, np.ndarray]:
        """The parameters with what the optimizer keeps beside them."""
        first, second = OPTIMIZERS[self.settings.optimizer].memory
        buffers = {"parameters": parameters}
        for name, wanted in (("first", first), ("second", second)):
            if wanted:
                buffers[name] = self._layout.zeros()
        if self.settings.averaging:
            buffers["average"] = self._layout.pack(self._layout.unpack(parameters))
        return buffers

    def _network_view(self, activation: Any) -> Net:
        """The network as kernels see it, with an optimizer where it is more than plain SGD."""
        s, buffers, none = self.settings, self.state.buffers, np.zeros(0, self._layout.dtype)
        loss = Loss(LOSSES.index(s.loss), float(s.label_smoothing), float(s.huber_delta))
        parameters = buffers["parameters"]
        extras = (s.l1, s.l2, s.weight_decay, s.max_norm, s.clip_norm, s.averaging)
        if s.optimizer == "sgd" and not any(extras):
            return self._layout.net(parameters, activation=activation, loss=loss)
        rule = Rule(
            KERNELS.index(OPTIMIZERS[s.optimizer].kernel),
            *(buffers.get(name, none) for name in ("first", "second", "average")),
            np.zeros(self._layout.panel_count if s.clip_norm else 0),
            *map(float, (s.momentum, s.beta2, s.epsilon, s.l1, s.l2, s.weight_decay)),  # type: ignore[arg-type]
            *map(float, (s.clip_norm, s.max_norm, s.averaging)),
        )
        return self._layout.net(parameters, self._layout.zeros(), activation=activation, rule=rule, loss=loss)

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
        self._steps.work = self._steps.work._replace(clock=clock)
        return clock

    def compile(self) -> None:
        """Compile the kernels of the steps, or load them; iterating does it too."""
        begin = time.perf_counter()
        self._steps.compile()
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

    def __iter__(self) -> Iterator[Epoch]:
        """Train the epochs that are left, yielding each, until the last or until validation says to stop.

        It may be left and entered again at any time.

        Raises
        ------
        DivergedError
            When the loss of a batch is not finite; the weights are then those before this epoch.
        """
        self.compile()
        with self._workers:
            while self.state.epoch < self.settings.epochs and not self._stops():
                self._epoch()
                yield self._record()

    def _epoch(self) -> None:
        """The steps that are left of this epoch; none of the whole epoch where it diverges."""
        if not self._alone.acquire(blocking=False):
            raise RunError("this run is in an epoch already; of another thread, or of a callback, take another run")
        try:
            self._whole_epoch_or_none()
        finally:
            self._alone.release()

    def _whole_epoch_or_none(self) -> None:
        safe = {name: buffer.copy() for name, buffer in self.state.buffers.items() if name != "best"}
        try:
            self._run_steps()
            if not np.isfinite(self.state.buffers["parameters"]).all():
                raise DivergedError(self.state.epoch + 1, self.steps, self._rates()[0])
        except DivergedError:
            for name, buffer in safe.items():
                self.state.buffers[name][:] = buffer
            self.state.step, self.state.seconds = 0, 0.0
            self.state.totals[:] = 0
            raise

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.train_split) // self._batch)

    def _stops(self) -> bool:
        return bool(self.settings.patience) and self.state.watch.since >= self.settings.patience

    def _rates(self) -> np.ndarray:
        return rates(self.settings, self.state.epoch, self.steps) * self.state.watch.factor

    def _run_steps(self) -> None:
        """The steps that are left of this epoch."""
        state, examples, rates_of_steps = self.state, len(self.train_split), self._rates()
        begin = shown = time.perf_counter() - state.seconds
        order = shuffled(examples, self.settings.seed, state.epoch)
        epoch = Pass(order, rates_of_steps, state.epoch, state.epoch * self.steps)
        for reached, finite in self._steps.run(epoch, state.totals, state.step):
            now = time.perf_counter()
            if not finite:
                raise DivergedError(state.epoch + 1, reached + 1, rates_of_steps[reached])
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
        if self.on_safe:
            self.on_safe(self)

    @property
    def _counts(self) -> bool:
        """Whether there are right answers to count."""
        return self.settings.loss == "softmax"

    def _record(self) -> Epoch:
        """What is to be said about the epoch whose steps are done; its validation, and what follows from that."""
        state, examples = self.state, len(self.train_split)
        loss, right = (state.totals / examples).tolist()
        validated = self._evaluation(self.validation, self._latest()) if self.validation else None
        epoch = Epoch(
            state.epoch + 1,
            state.seconds,
            examples / state.seconds,
            loss,
            right if self._counts else None,
            float(self._rates()[0]),
            validated.loss if validated else None,
            validated.accuracy if validated else None,
        )
        if validated:
            watch = state.watch.after(validated.loss, state.epoch + 1, self.settings)
            if watch.since == 0 and self.settings.restore_best:
                best = state.buffers.setdefault("best", self._layout.zeros())
                best[:] = self._latest()
            state.watch = watch
        state.epoch, state.step, state.seconds = state.epoch + 1, 0, 0.0
        state.totals[:] = 0
        state.history.append(epoch)
        self._rest()
        return epoch

    def _latest(self) -> np.ndarray:
        """The weights as they are: the average where there is one."""
        return self.state.buffers.get("average", self.state.buffers["parameters"])

    def _chosen(self) -> np.ndarray:
        """The weights of the model: of the best validation loss where these are kept."""
        return self.state.buffers.get("best", self._latest())

    @property
    def calibration(self) -> Calibration:
        """What is fitted on the validation examples, for the model as it would be now."""
        if not self.validation or not self._counts:
            return Calibration()
        # by the weights themselves: whatever changed them, a checkpoint for example, is seen
        buffer = self._chosen()
        key = hashlib.sha256(buffer.data).digest()
        if self._fitted[0] != key:
            self._fitted = key, fit(self._logits(self.validation, buffer), self.validation.y)
        return self._fitted[1]

    def _logits(self, split: Split, buffer: np.ndarray) -> np.ndarray:
        with self._workers:
            return self._forward.logits(self._layout.unpack(buffer), split.x)

    def _evaluation(self, split: Split, buffer: np.ndarray, temperature: float = 1.0) -> Evaluation:
        z = self._logits(split, buffer) / temperature
        return evaluate_logits(z, split, self.dataset.classes, self.settings.loss, self.settings.huber_delta)

    def evaluate(self, data: Any = None) -> Evaluation:
        """Loss, accuracy and confusion of what `model` gives, on the test split or other examples.

        Parameters
        ----------
        data : Split, or what `Model.evaluate` takes, optional

        Raises
        ------
        UsageError
            When there are no test examples.
        DataError
            When they do not fit the training examples.
        """
        split = self.dataset.test if data is None else data
        if split is None:
            raise UsageError(f"{self.dataset.name}: no test examples to evaluate on")
        if not isinstance(split, Split):
            return self.model().evaluate(split)
        self.dataset.check(split)
        return self._evaluation(split, self._chosen(), self.calibration.temperature)

    def model(self) -> Model:
        """The model that the settings ask for, with all that describes the run; nothing of the run changes.

        It has the weights of the best validation loss so far, where there is validation and ``restore_best``; else the
        latest, or their average. Its probabilities are calibrated on the validation examples. It may be asked for at
        any time: in the loop, after it was left, or after an exception.
        """
        from fastnn import __version__

        dataset, watch = self.dataset, self.state.watch
        last = self.history[-1] if self.history else None
        description = Description(
            classes=dataset.classes,
            label_type=dataset.label_type,
            preprocessing=Preprocessing(recipe_for(dataset), dataset.scale, self._range(), dataset.image_shape),
            # threads change neither the weights nor, then, what describes them
            training={k: v for k, v in asdict(self.settings).items() if k != "threads"},
            history=History(
                len(self.history),
                last.loss if last else None,
                last.accuracy if last else None,
                curves(self.history),
                watch.best_epoch or None,  # before the first epoch, and without validation, there is none
                watch.best if math.isfinite(watch.best) else None,
            ),
            data=TrainingData(dataset.name, len(self.train_split), self.data_sha256),
            calibration=self.calibration,
            initial=self.began_from,
            fastnn_version=__version__,
        )
        return Model(self.network, self._layout.unpack(self._chosen()), as_json(description), self.scaling)

    def _range(self) -> tuple[float, float]:
        """What features go from and to where that is the same for all: pixels, or numbers within ±1."""
        if self.dataset.scale == PIXEL:
            return 0, 255
        low, high = value_range(self.train_split.x)
        return (min(low, 0), 1) if low >= -1 and high <= 1 else UNBOUNDED

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
        """Let the threads go now; they begin anew where the run goes on."""
        self._workers.close()

    def __enter__(self) -> Training:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def curves(history: Sequence[Epoch]) -> dict[str, list[Any]]:
    """What changes from epoch to epoch, as columns for a model file: at most 400 epochs, evenly taken, ends included.

    Seconds are left out, so that the same run gives the same file.
    """
    places = np.unique(np.linspace(0, len(history) - 1, min(len(history), _MOST_POINTS)).round().astype(int))
    rows = [history[at] for at in places] if history else []
    columns: dict[str, list[Any]] = {"epoch": [row.epoch for row in rows]}
    for name in ("loss", "accuracy", "learning_rate", "validation_loss", "validation_accuracy"):
        if rows and getattr(rows[0], name) is not None:
            columns[name] = [float(f"{getattr(row, name):.6g}") for row in rows]
    return columns


def shuffled(examples: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch: a permutation of the examples, int64, that depends on (seed, epoch) alone."""
    order = np.empty(examples, np.int64)
    shuffle(seed, epoch, order)
    return order


def best_threads(network: Network, batch: int, width: int) -> int:
    """Threads that make a step fastest on this machine: no more than can run, than there are panels, than pay."""
    panels = max([-(-layer.units // width) for layer in network.layers[:-1]] or [-(-network.inputs // width)])
    worth = max(1, int(step_flops(network, batch) / _FLOPS_A_THREAD))
    return min(available_threads(), panels, worth)
