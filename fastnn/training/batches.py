"""What the first layer reads: the examples as they are, or each epoch changed anew.

Examples that are changed (augmentation, noise, features left out) go through a ring of rows: before each call of the
kernel of steps, all threads make the rows that it will read, in the order it will take them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.datasets.base import Part, Split, chunks, dense_rows, is_mapped, value_scale
from fastnn.errors import UsageError
from fastnn.kernels.augment import Change, Piece, canvases_for, change_examples, change_of
from fastnn.kernels.barrier import new_team
from fastnn.kernels.inputs import choose_input
from fastnn.kernels.memory import Data
from fastnn.kernels.sparse import Blocks
from fastnn.kernels.workers import Workers, compile_for
from fastnn.model.inference import Scaling, scaled
from fastnn.training.settings import Settings

_RING_BYTES = 2**24  # made ahead of the steps that read it
_ROWS_AT_ONCE = 4_096  # taken out of a file: what lies between is in float64


class Batches:
    """Rows for the steps of an epoch.

    Parameters
    ----------
    split : Split
    settings : Settings
        Resolved.
    image_shape : tuple of int, optional
        Height and width, where examples are pictures (or several channels of one).
    batch : int
        Examples in a step.
    workers : Workers
    scaling : (ndarray, ndarray), optional
        Mean and deviation of each feature, to bring examples to one scale by.

    Attributes
    ----------
    most_steps : int
        That one call of the kernel may cover.

    Raises
    ------
    UsageError
        When ``input="sparse"`` is asked for and can't be.
    """

    def __init__(
        self,
        split: Split,
        settings: Settings,
        image_shape: tuple[int, int] | None,
        batch: int,
        workers: Workers,
        scaling: Scaling | None = None,
    ) -> None:
        changes = settings.changes_input
        if changes and settings.input == "sparse":
            raise UsageError('input="sparse": examples that are changed every epoch are read dense; take input="auto"')
        self._batch, self._workers, self._features = batch, workers, split.x.shape[1]
        self._sample_weight = sample_weight_of(split, settings)
        self._targets = split.y if split.y.ndim == 2 else None
        # a copy: whatever becomes of the labels that were checked, none out of range reaches a kernel
        self._labels = np.zeros(len(split), np.int32) if split.y.ndim == 2 else split.y.copy()
        self._scale = 1.0 if scaling else split.scale or value_scale(split.x)
        self._scaling = scaling
        self._change: Change | None = None
        self._ring: np.ndarray | None = None
        self._unchanged: np.ndarray | None = None  # of a file, on the way to being changed
        self.most_steps = 2**62
        # what lies in a file is not copied into memory: it stays there, and pieces of an epoch are taken out of it
        self._late = settings.input != "sparse" and is_mapped(split.x) and bool(scaling or isinstance(split.x, Part))
        if self._late:
            self._x = split.x
        else:
            x = split.x[:] if isinstance(split.x, Part) else split.x
            mode = "dense" if changes or (is_mapped(x) and settings.input == "auto") else settings.input
            self._x = choose_input(standard(x, scaling), len(settings.hidden), batch, mode)
        if changes or self._late:
            self._open_ring(settings)
        if changes:
            self._open_changes(settings, image_shape)

    def _open_ring(self, settings: Settings) -> None:
        """Room for the rows that are made ahead."""
        examples, features = len(self._labels), self._features
        dtype = np.dtype(np.float32) if self._late and self._scaling else self._x.dtype
        if settings.input_noise and dtype == np.uint8:
            dtype = np.dtype(np.float32)
        self.most_steps = max(1, _RING_BYTES // (self._batch * features * dtype.itemsize))
        rows = min(self.most_steps * self._batch, -(-examples // self._batch) * self._batch)
        self._ring = np.zeros((rows, features), dtype)
        self._slots = np.arange(examples)
        self._slots %= rows
        self._ring_labels = np.zeros(rows, np.int32)
        self._ring_sample_weight = None if self._sample_weight is None else np.ones(rows)
        self._ring_targets = None if self._targets is None else np.zeros((rows, self._targets.shape[1]))
        self._ring_scale = self._scale / (1 - settings.input_dropout)

    def _open_changes(self, settings: Settings, image_shape: tuple[int, int] | None) -> None:
        """What changes them."""
        height, width = image_shape if image_shape and settings.augments else (0, 0)
        names = ("shift", "scaling", "shear", "elastic", "pen", "mirror", "pixel_noise", "input_noise")
        ranges = {name: getattr(settings, name) for name in names}
        ranges |= {"rotation": math.radians(settings.rotation), "dropout": settings.input_dropout}
        self._change = change_of(height, width, settings.seed, settings.elastic_sigma, **ranges)
        self._canvases = canvases_for(self._change, self._workers.threads)
        if self._late:
            self._unchanged = np.zeros_like(self._ring, self._taken_out(self._slots[:1]).dtype)

    @property
    def sparse_features(self) -> int:
        """Features of an example of sparse input, 0 for dense."""
        return self._features if isinstance(self._x, Blocks) else 0

    def data(self, order: np.ndarray) -> Data:
        """What kernels read, in this order."""
        if self._ring is None:
            return Data(self._x, self._labels, order, self._scale, self._sample_weight, self._targets)
        return Data(
            self._ring, self._ring_labels, self._slots, self._ring_scale, self._ring_sample_weight, self._ring_targets
        )

    def _taken_out(self, rows: np.ndarray) -> np.ndarray:
        """Rows of a file, brought to one scale."""
        return scaled(self._x[rows], self._scaling)

    def _call(self, order: np.ndarray, first: int, last: int, epoch: int):  # type: ignore[no-untyped-def]
        x, places = (self._unchanged, self._slots) if self._late else (self._x, order)
        data = Data(x, self._labels, places, self._scale)
        return self._change, data, Piece(first, last, epoch, order), self._canvases, self._ring

    def compile(self) -> None:
        """Compile what `prepare` needs, or load it."""
        if self._change is not None:
            compile_for(change_examples, *self._call(np.zeros(1, np.int64), 0, 0, 0), new_team())

    def prepare(self, order: np.ndarray, epoch: int, first: int, last: int) -> None:
        """Make the rows from `first` to `last` of the epoch ready."""
        if self._ring is None:
            return
        last = min(last, len(order))
        rows, slots = order[first:last], self._slots[first:last]
        self._ring_labels[slots] = self._labels[rows]
        if self._sample_weight is not None:
            self._ring_sample_weight[slots] = self._sample_weight[rows]  # type: ignore[index]
        if self._targets is not None:
            self._ring_targets[slots] = self._targets[rows]  # type: ignore[index]
        if self._late:
            made = self._ring if self._unchanged is None else self._unchanged
            for begin in range(0, len(rows), _ROWS_AT_ONCE):
                piece = slice(begin, begin + _ROWS_AT_ONCE)
                made[slots[piece]] = self._taken_out(rows[piece])
        if self._change is not None:
            self._workers.run(change_examples, *self._call(order, first, last, epoch))


def changed(split: Split, settings: Settings, image_shape: tuple[int, int] | None, epoch: int = 0) -> np.ndarray:
    """The examples of a split as an epoch would see them, in their own order: to look at, and to test.

    Returns
    -------
    ndarray (N, D)
        Of the type of the examples, float32 where noise is added to bytes.
    """
    with Workers(1) as workers:
        batches = Batches(split, settings, image_shape, len(split), workers)
        batches.compile()
        batches.prepare(np.arange(len(split)), epoch, 0, len(split))
        return dense_rows(batches.data(np.zeros(1, np.int64)).x, 0, len(split))


def standard(x: Any, scaling: Scaling | None) -> Any:
    """All of `x` (N, D) brought to mean 0 and deviation 1, in memory of its own; `x` itself without a scaling."""
    if scaling is None:
        return x
    out = np.empty(x.shape, np.float64 if x.dtype == np.float64 else np.float32)
    for first, last in chunks(x):
        out[first:last] = scaled(x[first:last], scaling)
    return out


def sample_weight_of(split: Split, settings: Settings) -> np.ndarray | None:
    """How much each example counts, float64 (N,); None where all count the same."""
    sample_weight = split.sample_weight
    if settings.class_weight == "balanced":
        counts = np.bincount(split.y)
        by_class = len(split) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        sample_weight = by_class[split.y] * (1.0 if sample_weight is None else sample_weight)
    return None if sample_weight is None else np.ascontiguousarray(sample_weight, np.float64)
