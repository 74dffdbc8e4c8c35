"""What a data set is, and the checks that every one passes before anything computes with it."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import InitVar, dataclass, field, replace
from typing import Any

import numpy as np

from fastnn.errors import DataError, DataTypeError, printable
from fastnn.ranges import MOST_LETTERS

_CHUNK_BYTES = 2**22  # of data that may be larger than memory, looked at or converted at once
_EXACT = 2**24  # float32 holds every whole number up to here
_MOST_LABELS = 2**31
PIXEL = 1 / 255  # the scale of pixels from 0 (paper) to 255 (ink)
LABEL_TYPES = ("index", "int", "bool", "str")
_DARK = 127  # some pixel of pictures from 0 to 255 is above this
_PARTS = {"train": "training set", "test": "test set", "validation": "validation set"}


@dataclass(frozen=True, eq=False)
class Split:
    """Examples with their labels. Making one is the gate in front of every kernel: what can't be is refused.

    Attributes
    ----------
    x : ndarray or SciPy CSR array (N, D)
        uint8, float32 or float64; C-contiguous. May be a memory-mapped file. Given as any numbers (N, …): further
        axes are flattened, whole numbers are kept as the smallest of these types that holds them exactly.
    y : ndarray (N,) or (N, C)
        int32 labels, 0 to classes − 1; or float64 targets for losses other than softmax.
    sample_weight : ndarray (N,), optional
        float64, at least 0, not all 0: how much each example counts.
    scale : float, optional
        What `x` is multiplied by to be as a network sees it: 1/255 for pixels from 0 to 255. By default that of the
        data set that it is put into, or of the model that is asked about it.

    Raises
    ------
    DataError
        When lengths differ, or a number is none, missing, infinite or out of its range: in which row.

    Examples
    --------
    >>> import fastnn
    >>> split = fastnn.Split(x=[[0.0, 0.5], [1.0, 0.25]], y=[0, 1])
    >>> len(split), split.x.dtype.name, split.y.dtype.name
    (2, 'float64', 'int32')
    >>> fastnn.Split(x=[[0.0], [float("nan")]], y=[0, 1])
    Traceback (most recent call last):
    fastnn.errors.DataError: examples: row 2 holds a value that is missing or infinite
    """

    x: Any
    y: np.ndarray
    sample_weight: np.ndarray | None = None
    scale: float | None = None
    source: InitVar[str] = "examples"  # named in messages

    def __post_init__(self, source: str) -> None:
        x, y = as_array(self.x, source), as_array(self.y, source)
        check_lengths(x, y, source)
        if self.scale is not None and not 0 < self.scale < np.inf:
            raise DataError(f"{source}: scale {self.scale}; expected a number above 0")
        checked = {
            "x": checked_features(x, source),
            "y": _checked_labels(y, source) if y.ndim == 1 else _checked_targets(y, source),
            "sample_weight": _checked_sample_weight(self.sample_weight, len(y), source),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
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
        Name of each label; of each target where there are targets.
    image_shape : tuple of int, optional
        (height, width) when the features are the pixels of a picture.
    origin : str
        Where it was found, or why it was chosen, for people.
    validation : Split, optional
        What training is watched on, where it is not cut from the training examples.
    table : bool
        Whether features are of any size and meaning, so that training had better bring them to one scale.
    label_type : {"index", "int", "bool", "str"}
        What a model answers with: the index of a class, or its name as a number, a truth value or a text.

    Raises
    ------
    DataError
        When its parts do not belong together, or a label is not below the number of classes.

    Examples
    --------
    >>> import fastnn
    >>> train = fastnn.Split([[0.0], [0.2], [0.8], [1.0]], [0, 0, 1, 1])
    >>> test = fastnn.Split([[0.1], [0.9]], [0, 1])
    >>> data = fastnn.Dataset("steps", train, test, classes=("low", "high"))
    >>> fastnn.train(data, hidden=8, epochs=50).evaluate(data).accuracy
    1.0
    """

    name: str
    train: Split
    test: Split | None
    classes: tuple[str, ...]
    image_shape: tuple[int, int] | None = None
    origin: str = field(default="", compare=False)
    validation: Split | None = None
    table: bool = False
    label_type: str = "index"

    def __post_init__(self) -> None:
        self._check_description()
        scale = self.train.scale or value_scale(self.train.x)
        for part, title in _PARTS.items():
            split = getattr(self, part)
            if split is not None:
                self.check(split, title)
                if split.scale is None:
                    if part != "train":
                        check_range(split.x, scale, lambda: value_range(self.train.x), f"{self.name}: {title}")
                    object.__setattr__(self, part, with_scale(split, scale))

    def _check_description(self) -> None:
        for part, title in _PARTS.items():
            split = getattr(self, part)
            if not isinstance(split, Split) and (split is not None or part == "train"):
                raise DataTypeError(f"{self.name}: {title} of type {type(split).__name__}; expected a Split")
        names = self.classes
        if not isinstance(names, tuple | list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{self.name}: classes {printable(names, 60)}; expected a tuple of their names")
        if len(set(names)) != len(names):
            raise DataError(f"{self.name}: classes {printable(names, 60)}: two have the same name")
        if any(len(name) > MOST_LETTERS for name in names):
            longest = printable(max(names, key=len), 60)
            raise DataError(f"{self.name}: class {longest}: its name is longer than {MOST_LETTERS} letters")
        if self.label_type not in LABEL_TYPES:
            raise DataError(f"{self.name}: label_type {self.label_type!r}; expected one of {', '.join(LABEL_TYPES)}")
        shape, features = self.image_shape, self.train.x.shape[1]
        if shape is not None:
            sound = isinstance(shape, tuple) and len(shape) == 2 and all(isinstance(n, int) and n > 0 for n in shape)
            if not sound or features % (shape[0] * shape[1]):
                raise DataError(f"{self.name}: image_shape {printable(shape, 40)} does not fit {features} features")

    def check(self, split: Split, title: str = "examples") -> None:
        """Refuse a split that does not fit the training examples, or holds a label that is no class."""
        shown, wanted = f"{self.name}: {title}", self.train
        if split.x.shape[1] != wanted.x.shape[1]:
            raise DataError(f"{shown}: {split.x.shape[1]} features; the training examples have {wanted.x.shape[1]}")
        if split.y.ndim != wanted.y.ndim or split.y.shape[1:] not in ((), (len(self.classes),)):
            raise DataError(f"{shown}: labels of shape {split.y.shape}, for {len(self.classes)} outputs")
        check_labels(split.y, len(self.classes), shown)

    @property
    def features(self) -> int:
        """Numbers in one example."""
        return int(self.train.x.shape[1])

    @property
    def scale(self) -> float:
        """What features are multiplied by: 1/255 for pixels from 0 to 255, else 1."""
        return self.train.scale or 1.0

    def fingerprint(self) -> str:
        """SHA-256 of the training examples and labels: which data a model was trained on."""
        return fingerprint(self.train)


class Part:
    """Some rows of an array that is too large to copy: read when they are asked for.

    Parameters
    ----------
    whole : ndarray (N, D)
        Checked.
    rows : ndarray (n,)
        int64, which of them.
    """

    def __init__(self, whole: np.ndarray, rows: np.ndarray) -> None:
        self.whole, self.rows = whole, rows
        self.shape, self.dtype, self.ndim = (len(rows), whole.shape[1]), whole.dtype, 2

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self.whole[self.rows[rows]]

    def __len__(self) -> int:
        return len(self.rows)


def with_scale(split: Split, scale: float) -> Split:
    """A copy of a checked split, with this scale."""
    copied = copy(split)
    object.__setattr__(copied, "scale", scale)
    return copied


def value_scale(x: Any) -> float:
    """1/255 where all of `x` (N, D) are whole numbers from 0 to 255 and some above 1, as pixels are; else 1.

    By the values alone: the same numbers mean the same in any number type.
    """
    above = False
    for part in _values(x):
        if part.size and (part.min() < 0 or part.max() > 255 or not (part == np.rint(part)).all()):
            return 1.0
        above = above or bool(part.size and part.max() > 1)
        if above and part.dtype == np.uint8:
            break
    return PIXEL if above else 1.0


def value_range(x: Any) -> tuple[float, float]:
    """The lowest and the highest of `x` (N, D)."""
    low, high = (0.0, 0.0) if is_sparse(x) else (np.inf, -np.inf)
    for part in _values(x):
        if part.size:
            low, high = min(low, float(part.min())), max(high, float(part.max()))
    return low, high


def are_pixels(x: Any) -> bool:
    """Whether `x` (N, D) are pixels from 0 to 255 by all that can be seen: bytes, some of them bright."""
    return value_scale(x) == PIXEL and value_range(x)[1] > _DARK


def check_range(x: Any, scale: float, trained: Callable[[], tuple[float, float]], source: str) -> None:
    """Refuse pixels from 0 to 1 where those from 0 to 255 are meant, and the other way round.

    Parameters
    ----------
    x : ndarray or CSR array (N, D)
    scale : float
        1/255 where features from 0 to 255 are meant.
    trained : callable
        Gives the range of the features that were trained on; asked only where that matters.
    source : str
        Named in messages.
    """
    low, high = value_range(x)
    if scale == PIXEL and low >= 0 and 0 < high <= 1:
        raise DataError(
            f"{source}: features from {low:g} to {high:g}; those trained on are pixels from 0 to 255. Multiply by 255"
        )
    if scale != PIXEL and high > _DARK and are_pixels(x):
        lowest, highest = trained()
        if -1 <= lowest <= highest <= 1:
            raise DataError(
                f"{source}: pixels from 0 to 255; those trained on go from {lowest:g} to {highest:g}. "
                f"Bring them there: divide by 255"
            )


def _values(x: Any) -> Iterator[np.ndarray]:
    """What is stored of `x`, dense or CSR, in pieces."""
    if is_sparse(x):
        yield x.data
        return
    for first, last in chunks(x):
        yield x[first:last]


def fingerprint(split: Split) -> str:
    """SHA-256 of examples, labels and sample weights."""
    x = split.x
    digest = hashlib.sha256(f"{x.dtype}{x.shape}".encode())
    for part in (x.indptr.astype(np.int64), x.indices.astype(np.int64), x.data) if is_sparse(x) else _values(x):
        digest.update(np.ascontiguousarray(part).data)
    for extra in (split.y, split.sample_weight):
        if extra is not None:
            digest.update(np.ascontiguousarray(extra).data)
    return digest.hexdigest()


def as_array(x: Any, source: str) -> Any:
    """`x` as an array; sparse ones, and parts of files, as they are."""
    if isinstance(x, Part) or is_sparse(x):
        return x
    try:
        return np.asarray(x)
    except ValueError as error:
        raise DataError(f"{source}: rows of different lengths; expected (N, D)") from error


def is_sparse(x: Any) -> bool:
    """Whether `x` is one of SciPy's sparse arrays or matrices; SciPy itself is not needed to say so."""
    return hasattr(x, "tocsr")


def chunks(x: Any) -> Iterator[tuple[int, int]]:
    """First and last row of pieces of `x` (N, D) of about 4 MB each, were it dense."""
    rows = max(1, _CHUNK_BYTES // max(1, x.shape[1] * x.dtype.itemsize))
    for first in range(0, x.shape[0], rows):
        yield first, min(first + rows, x.shape[0])


def dense_rows(x: Any, first: int, last: int) -> np.ndarray:
    """x[first:last] as an ordinary array."""
    return np.ascontiguousarray(x[first:last].toarray()) if is_sparse(x) else x[first:last]


def checked_split(
    x: Any, y: Any, classes: int, source: str, sample_weight: Any = None, scale: float | None = None
) -> Split:
    """A `Split` of labels (N,), every one a whole number from 0 to `classes` − 1.

    Parameters
    ----------
    x : array_like (N, …) or SciPy sparse array (N, D)
        An array of uint8, float32 or float64 that lies in one piece, a memory-mapped file for example, is neither
        copied nor loaded.
    y : array_like (N,)
    classes : int
        Number of classes.
    source : str
        Named in messages.
    sample_weight : array_like (N,), optional
    scale : float, optional
        See `Split`.

    Raises
    ------
    DataError
        Saying which row is wrong.
    """
    y = np.asarray(y)
    if y.ndim != 1:
        raise DataError(f"{source}: labels of shape {y.shape}; expected one label an example")
    split = Split(x, y, sample_weight, scale, source)
    check_labels(split.y, classes, source)
    return split


def checked_targets(x: Any, y: Any, source: str, sample_weight: Any = None, scale: float | None = None) -> Split:
    """A `Split` of numbers instead of labels: y (N,) or (N, C) becomes float64 (N, C), all finite."""
    y = np.asarray(y)
    if y.ndim not in (1, 2) or not (np.issubdtype(y.dtype, np.number) or y.dtype == bool) or np.iscomplexobj(y):
        raise DataError(f"{source}: targets of type {y.dtype}, shape {y.shape}; expected numbers, (N,) or (N, outputs)")
    return Split(x, y.reshape(len(y), -1) if y.size else y, sample_weight, scale, source)


def check_lengths(x: Any, y: np.ndarray, source: str) -> None:
    """Refuse examples and labels that are not as many, or none."""
    if x.ndim < 2:
        raise DataError(f"{source}: examples of shape {x.shape}; expected one row an example")
    if y.ndim not in (1, 2):
        raise DataError(f"{source}: labels of shape {y.shape}; expected one label or one row of targets an example")
    if x.shape[0] != len(y):
        raise DataError(f"{source}: {x.shape[0]:,} examples but {len(y):,} labels")
    if 0 in x.shape or y.size == 0:
        raise DataError(f"{source}: no examples")


def check_labels(y: np.ndarray, classes: int, source: str) -> None:
    """Refuse labels (N,) that are not below `classes`; one would make a kernel write into its neighbour.

    Also where a `Split` has passed before: its arrays may have been changed since.
    """
    if y.ndim == 1 and (int(y.min()) < 0 or int(y.max()) >= classes):
        at = int(np.flatnonzero((y < 0) | (y >= classes))[0])
        raise DataError(f"{source}: label {y[at]} in row {at + 1}; expected whole numbers 0 to {classes - 1}")


def _checked_sample_weight(sample_weight: Any, examples: int, source: str) -> np.ndarray | None:
    if sample_weight is None:
        return None
    sample_weight = np.asarray(sample_weight)
    if sample_weight.shape != (examples,) or not np.issubdtype(sample_weight.dtype, np.number):
        raise DataError(
            f"{source}: sample weights of type {sample_weight.dtype}, shape {sample_weight.shape}; "
            f"expected ({examples},) numbers"
        )
    sample_weight = np.require(sample_weight, np.float64, ["C", "A", "W"])
    bad = np.flatnonzero(~(np.isfinite(sample_weight) & (sample_weight >= 0)))
    if bad.size:
        row, value = bad[0] + 1, sample_weight[bad[0]]
        raise DataError(f"{source}: the sample weight in row {row} is {value}; expected at least 0")
    if not sample_weight.any():
        raise DataError(f"{source}: all sample weights are 0")
    return sample_weight


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


def relabelled(split: Split, classes: tuple[str, ...], wanted: tuple[str, ...], source: str = "data") -> Split:
    """Labels counted in `classes` as labels counted in `wanted`, by their names.

    Raises
    ------
    DataError
        When a name is not among those wanted.
    """
    if classes == wanted[: len(classes)]:
        return split
    strange = [name for name in classes if name not in wanted]
    if strange:
        raise DataError(
            f"{source}: class {printable(strange[0], 40)} is not among {printable(', '.join(wanted[:10]), 80)}"
        )
    return replace(split, y=np.array([wanted.index(name) for name in classes], np.int32)[split.y])


def taken(split: Split, rows: np.ndarray) -> Split:
    """Some rows of a split: copied, or left in the file where the examples are mapped."""
    x = Part(split.x, rows) if is_mapped(split.x) else split.x[rows]
    return Split(x, split.y[rows], None if split.sample_weight is None else split.sample_weight[rows], split.scale)


def is_mapped(x: Any) -> bool:
    """Whether `x` is a view of a memory-mapped file."""
    while x is not None:
        if isinstance(x, mmap.mmap):
            return True
        x = x.whole if isinstance(x, Part) else getattr(x, "base", None)
    return False


def checked_features(x: Any, source: str) -> Any:
    """(N, …) of numbers → (N, D), aligned and C-contiguous, uint8, float32 or float64, all finite.

    Whole numbers from 0 to 255 become uint8, others float32 where that is exact, else float64; no value changes. A
    sparse array becomes CSR with sorted indices, each once, and no stored zeros.

    Raises
    ------
    DataError
        When they are not numbers, or some are missing or infinite.
    """
    if isinstance(x, Part):  # of what has been here before
        return x
    x = as_array(x, source)
    if not (np.issubdtype(x.dtype, np.integer) or np.issubdtype(x.dtype, np.floating) or x.dtype == bool):
        raise DataError(f"{source}: features of type {x.dtype}; expected numbers")
    if is_sparse(x):
        return _checked_csr(x, source)
    x = np.require(x.reshape(len(x), -1), _number_type(x), ["C", "A"])
    if x.dtype != np.uint8:
        for first, last in chunks(x):
            bad = np.flatnonzero(~np.isfinite(x[first:last]).all(axis=1))
            if bad.size:
                raise DataError(f"{source}: row {first + bad[0] + 1} holds a value that is missing or infinite")
    return x


def _number_type(x: Any) -> np.dtype[Any]:
    """The number type of kernels that holds every value of an array, dense or what a sparse one stores."""
    if x.dtype.kind == "f":
        return np.dtype(np.float32 if x.dtype.itemsize <= 4 else np.float64)
    if x.dtype in (np.uint8, bool) or x.size == 0:
        return np.dtype(np.uint8)
    low, high = int(x.min()), int(x.max())
    if low >= 0 and high <= 255:
        return np.dtype(np.uint8)
    return np.dtype(np.float32 if max(-low, high) <= _EXACT else np.float64)


def _checked_csr(x: Any, source: str) -> Any:
    try:
        x = x.tocsr()
        x.check_format(full_check=True)  # indices out of range would make a kernel read or write elsewhere
    except ValueError as error:
        raise DataError(f"{source}: not a sound sparse array: {error}") from error
    if not x.has_canonical_format or (x.data == 0).any():
        x = x.copy()  # the caller's stays as it is
        x.sum_duplicates()
        x.eliminate_zeros()
    dtype = _number_type(x.data)
    if x.dtype != dtype:
        x = x.astype(dtype)
    bad = np.flatnonzero(~np.isfinite(x.data))
    if bad.size:
        row = np.searchsorted(x.indptr, bad[0], side="right")
        raise DataError(f"{source}: row {row} holds a value that is missing or infinite")
    return x


def _checked_labels(y: np.ndarray, source: str) -> np.ndarray:
    if y.dtype != bool and (not np.issubdtype(y.dtype, np.number) or np.iscomplexobj(y)):
        raise DataError(f"{source}: labels of type {y.dtype}; expected whole numbers from 0")
    bad = np.flatnonzero(~((y >= 0) & (y < _MOST_LABELS) & (np.trunc(y) == y)))
    if bad.size:
        at = int(bad[0])
        raise DataError(f"{source}: label {y[at]} in row {at + 1}; expected whole numbers from 0")
    return np.require(y, np.int32, ["C", "A", "W"])  # read-only labels would make Numba compile every kernel anew


def _checked_targets(y: np.ndarray, source: str) -> np.ndarray:
    if not (np.issubdtype(y.dtype, np.number) or y.dtype == bool) or np.iscomplexobj(y):
        raise DataError(f"{source}: targets of type {y.dtype}; expected numbers")
    y = np.require(y, np.float64, ["C", "A", "W"])
    bad = np.flatnonzero(~np.isfinite(y).all(axis=1))
    if bad.size:
        raise DataError(f"{source}: the target in row {bad[0] + 1} is missing or infinite")
    return y
