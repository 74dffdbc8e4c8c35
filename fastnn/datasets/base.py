"""What a data set is, and the checks that every one passes before anything computes with it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from fastnn.errors import DataError


@dataclass(frozen=True)
class Split:
    """Examples with their labels.

    Attributes
    ----------
    x : ndarray (N, D)
        uint8 (pixels, 0 to 255), float32 or float64; C-contiguous.
    y : ndarray (N,)
        int32 labels, 0 to classes − 1.
    """

    x: np.ndarray
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Dataset:
    """Training and test examples of one kind.

    Attributes
    ----------
    name : str
        What it is called.
    train : Split
    test : Split, optional
        Never the same examples.
    classes : tuple of str
        Name of each label.
    image_shape : tuple of int, optional
        (height, width) when the features are the pixels of a picture.
    origin : str
        Where it was found, or why it was chosen, for people.
    """

    name: str
    train: Split
    test: Split | None
    classes: tuple[str, ...]
    image_shape: tuple[int, int] | None = None
    origin: str = field(default="", compare=False)

    @property
    def features(self) -> int:
        """Numbers in one example."""
        return int(self.train.x.shape[1])

    def fingerprint(self) -> str:
        """SHA-256 of the training examples and labels: which data a model was trained on."""
        digest = hashlib.sha256(f"{self.train.x.dtype}{self.train.x.shape}".encode())
        digest.update(self.train.x.data)
        digest.update(self.train.y.data)
        return digest.hexdigest()


def checked_split(x: np.ndarray, y: np.ndarray, classes: int, source: str) -> Split:
    """The gate in front of every kernel: shapes, number types, finite values, labels in range.

    Parameters
    ----------
    x : array_like (N, …)
        Examples; further axes are flattened. uint8, float32 and float64 stay what they are, other number types
        become float32.
    y : array_like (N,)
        Whole numbers, 0 to `classes` − 1. A label out of range would make a kernel write into its neighbour.
    classes : int
        Number of classes.
    source : str
        Named in messages.

    Raises
    ------
    DataError
        Saying which row is wrong.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim < 2:
        raise DataError(f"{source}: examples of shape {x.shape}; expected one row an example")
    if y.ndim != 1:
        raise DataError(f"{source}: labels of shape {y.shape}; expected one label an example")
    if len(x) != len(y):
        raise DataError(f"{source}: {len(x):,} examples but {len(y):,} labels")
    if x.size == 0:
        raise DataError(f"{source}: no examples")
    return Split(checked_features(x, source), _checked_labels(y, classes, source))


def checked_features(x: np.ndarray, source: str) -> np.ndarray:
    """(N, …) of numbers → (N, D), aligned and C-contiguous, uint8, float32 or float64, all finite.

    Raises
    ------
    DataError
        When they are not numbers, or some are missing or infinite.
    """
    x = np.asarray(x)
    if not (np.issubdtype(x.dtype, np.integer) or np.issubdtype(x.dtype, np.floating) or x.dtype == bool):
        raise DataError(f"{source}: features of type {x.dtype}; expected numbers")
    dtype = x.dtype if x.dtype in (np.uint8, np.float64) else np.dtype(np.float32)
    x = np.require(x.reshape(len(x), -1), dtype.newbyteorder("="), ["C", "A", "W"])
    if x.dtype != np.uint8:
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if bad.size:
            raise DataError(f"{source}: row {bad[0] + 1} holds a value that is missing or infinite")
    return x


def _checked_labels(y: np.ndarray, classes: int, source: str) -> np.ndarray:
    if not np.issubdtype(y.dtype, np.number) or np.issubdtype(y.dtype, np.complexfloating):
        raise DataError(f"{source}: labels of type {y.dtype}; expected whole numbers 0 to {classes - 1}")
    bad = np.flatnonzero(~((y >= 0) & (y < classes) & (np.trunc(y) == y)))
    if bad.size:
        at = int(bad[0])
        raise DataError(f"{source}: label {y[at]} in row {at + 1}; expected whole numbers 0 to {classes - 1}")
    return np.ascontiguousarray(y, np.int32)
