"""What a data set is, and the checks that every one passes before anything computes with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn.errors import DataError

_CHUNK_BYTES = 2**24  # of data that may be larger than memory, looked at or converted at once


@dataclass(frozen=True)
class Split:
    """Examples with their labels.

    Attributes
    ----------
    x : ndarray or SciPy CSR array (N, D)
        uint8 (pixels, 0 to 255), float32 or float64; C-contiguous. May be a memory-mapped file.
    y : ndarray (N,) or (N, C)
        int32 labels, 0 to classes − 1; or float64 targets for losses other than softmax.
    weights : ndarray (N,), optional
        float64, at least 0: how much each example counts.
    """

    x: Any
    y: np.ndarray
    weights: np.ndarray | None = None

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
    validation : Split, optional
        What training is watched on, where it is not cut from the training examples.
    table : bool
        Whether features are of any size and meaning, so that training had better bring them to one scale.
    """

    name: str
    train: Split
    test: Split | None
    classes: tuple[str, ...]
    image_shape: tuple[int, int] | None = None
    origin: str = field(default="", compare=False)
    validation: Split | None = None
    table: bool = False

    @property
    def features(self) -> int:
        """Numbers in one example."""
        return int(self.train.x.shape[1])

    def fingerprint(self) -> str:
        """SHA-256 of the training examples and labels: which data a model was trained on."""
        return fingerprint(self.train)


def fingerprint(split: Split) -> str:
    """SHA-256 of examples, labels and weights."""
    x = split.x
    digest = hashlib.sha256(f"{x.dtype}{x.shape}".encode())
    for part in (x.indptr.astype(np.int64), x.indices.astype(np.int64), x.data) if is_sparse(x) else (x,):
        digest.update(part.data)
    for extra in (split.y, split.weights):
        if extra is not None:
            digest.update(np.ascontiguousarray(extra).data)
    return digest.hexdigest()


def is_sparse(x: Any) -> bool:
    """Whether `x` is one of SciPy's sparse arrays or matrices; SciPy itself is not needed to say so."""
    return hasattr(x, "tocsr")


def chunks(x: Any) -> Iterator[tuple[int, int]]:
    """First and last row of pieces of `x` (N, D) of about 16 MB each, were it dense."""
    rows = max(1, _CHUNK_BYTES // max(1, x.shape[1] * x.dtype.itemsize))
    for first in range(0, x.shape[0], rows):
        yield first, min(first + rows, x.shape[0])


def dense_rows(x: Any, first: int, last: int) -> np.ndarray:
    """x[first:last] as an ordinary array."""
    return np.ascontiguousarray(x[first:last].toarray()) if is_sparse(x) else x[first:last]


def checked_split(x: Any, y: Any, classes: int, source: str, weights: Any = None) -> Split:
    """The gate in front of every kernel: shapes, number types, finite values, labels in range.

    Parameters
    ----------
    x : array_like (N, …) or SciPy sparse array (N, D)
        Examples; further axes are flattened. uint8, float32 and float64 stay what they are, other number types
        become float32. An array of one of these types that lies in one piece, a memory-mapped file for example,
        is neither copied nor loaded.
    y : array_like (N,)
        Whole numbers, 0 to `classes` − 1. A label out of range would make a kernel write into its neighbour.
    classes : int
        Number of classes.
    source : str
        Named in messages.
    weights : array_like (N,), optional
        At least 0, and not all 0.

    Raises
    ------
    DataError
        Saying which row is wrong.
    """
    x, y = x if is_sparse(x) else np.asarray(x), np.asarray(y)
    if y.ndim != 1:
        raise DataError(f"{source}: labels of shape {y.shape}; expected one label an example")
    _check_lengths(x, y, source)
    labels = _checked_labels(y, classes, source)
    return Split(checked_features(x, source), labels, _checked_weights(weights, len(y), source))


def checked_targets(x: Any, y: Any, source: str, weights: Any = None) -> Split:
    """The same gate for numbers instead of labels: y (N,) or (N, C) becomes float64 (N, C), all finite."""
    x, y = x if is_sparse(x) else np.asarray(x), np.asarray(y)
    if y.ndim not in (1, 2) or not (np.issubdtype(y.dtype, np.number) or y.dtype == bool) or np.iscomplexobj(y):
        raise DataError(f"{source}: targets of type {y.dtype}, shape {y.shape}; expected numbers, (N,) or (N, outputs)")
    _check_lengths(x, y, source)
    y = np.require(y.reshape(len(y), -1), np.float64, ["C", "A", "W"])
    bad = np.flatnonzero(~np.isfinite(y).all(axis=1))
    if bad.size:
        raise DataError(f"{source}: the target in row {bad[0] + 1} is missing or infinite")
    return Split(checked_features(x, source), y, _checked_weights(weights, len(y), source))


def _check_lengths(x: Any, y: np.ndarray, source: str) -> None:
    if x.ndim < 2:
        raise DataError(f"{source}: examples of shape {x.shape}; expected one row an example")
    if x.shape[0] != len(y):
        raise DataError(f"{source}: {x.shape[0]:,} examples but {len(y):,} labels")
    if 0 in x.shape or y.size == 0:
        raise DataError(f"{source}: no examples")


def _checked_weights(weights: Any, examples: int, source: str) -> np.ndarray | None:
    if weights is None:
        return None
    weights = np.asarray(weights)
    if weights.shape != (examples,) or not np.issubdtype(weights.dtype, np.number):
        raise DataError(
            f"{source}: weights of type {weights.dtype}, shape {weights.shape}; expected ({examples},) numbers"
        )
    weights = np.require(weights, np.float64, ["C", "A", "W"])
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if bad.size:
        raise DataError(f"{source}: the weight in row {bad[0] + 1} is {weights[bad[0]]}; expected at least 0")
    if not weights.any():
        raise DataError(f"{source}: all weights are 0")
    return weights


def stratified(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Cut a split in two: the rest, and about `share` of each class (of all, where there are targets).

    Parameters
    ----------
    split : Split
    share : float
        Of the second part, 0 to 1.
    seed : int
        Names the choice.

    Raises
    ------
    DataError
        When one part would be empty.
    """
    random = np.random.Generator(np.random.Philox(key=[seed, 1]))
    places = random.permutation(len(split))
    labels = split.y[places] if split.y.ndim == 1 else np.zeros(len(split), np.int32)
    by_class = places[np.argsort(labels, kind="stable")]
    # every n-th of the examples sorted by class: the classes keep their shares, to one example
    steps = np.floor((np.arange(len(split)) + 0.5) * share + 0.5)
    chosen = np.diff(steps, prepend=np.floor(0.5 - 0.5 * share)) > 0 if share < 1 else np.ones(len(split), bool)
    second, first = np.sort(by_class[chosen]), np.sort(by_class[~chosen])
    if not (first.size and second.size):
        raise DataError(f"{len(split):,} examples are too few to keep {share:g} of them for validation")
    return taken(split, first), taken(split, second)


def taken(split: Split, rows: np.ndarray) -> Split:
    """Some rows of a split, copied."""
    return Split(split.x[rows], split.y[rows], None if split.weights is None else split.weights[rows])


def checked_features(x: Any, source: str) -> Any:
    """(N, …) of numbers → (N, D), aligned and C-contiguous, uint8, float32 or float64, all finite.

    A sparse array becomes CSR with sorted indices, each once, and no stored zeros.

    Raises
    ------
    DataError
        When they are not numbers, or some are missing or infinite.
    """
    x = x if is_sparse(x) else np.asarray(x)
    if not (np.issubdtype(x.dtype, np.integer) or np.issubdtype(x.dtype, np.floating) or x.dtype == bool):
        raise DataError(f"{source}: features of type {x.dtype}; expected numbers")
    dtype = (x.dtype if x.dtype in (np.uint8, np.float64) else np.dtype(np.float32)).newbyteorder("=")
    if is_sparse(x):
        return _checked_csr(x, dtype, source)
    x = np.require(x.reshape(len(x), -1), dtype, ["C", "A"])
    if x.dtype != np.uint8:
        for first, last in chunks(x):
            bad = np.flatnonzero(~np.isfinite(x[first:last]).all(axis=1))
            if bad.size:
                raise DataError(f"{source}: row {first + bad[0] + 1} holds a value that is missing or infinite")
    return x


def _checked_csr(x: Any, dtype: np.dtype, source: str) -> Any:
    try:
        x = x.tocsr()
        x.check_format(full_check=True)  # indices out of range would make a kernel read or write elsewhere
    except ValueError as error:
        raise DataError(f"{source}: not a sound sparse array: {error}") from error
    if x.dtype != dtype:
        x = x.astype(dtype)
    if not x.has_canonical_format or (x.data == 0).any():
        x = x.copy()  # the caller's stays as it is
        x.sum_duplicates()
        x.eliminate_zeros()
    bad = np.flatnonzero(~np.isfinite(x.data))
    if bad.size:
        row = np.searchsorted(x.indptr, bad[0], side="right")
        raise DataError(f"{source}: row {row} holds a value that is missing or infinite")
    return x


def _checked_labels(y: np.ndarray, classes: int, source: str) -> np.ndarray:
    if not np.issubdtype(y.dtype, np.number) or np.issubdtype(y.dtype, np.complexfloating):
        raise DataError(f"{source}: labels of type {y.dtype}; expected whole numbers 0 to {classes - 1}")
    bad = np.flatnonzero(~((y >= 0) & (y < classes) & (np.trunc(y) == y)))
    if bad.size:
        at = int(bad[0])
        raise DataError(f"{source}: label {y[at]} in row {at + 1}; expected whole numbers 0 to {classes - 1}")
    return np.require(y, np.int32, ["C", "A", "W"])  # read-only labels would make Numba compile every kernel anew
