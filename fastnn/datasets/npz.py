"""NumPy's archives: x_train, y_train, x_test, y_test as Keras has them, or one set as x and y."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastnn.archives import RefusedError, array, array_header, opened
from fastnn.datasets.base import Dataset, checked_split, checked_targets
from fastnn.datasets.tables import class_names
from fastnn.errors import DataError, printable

_PAIRS = (
    ("x_train", "y_train"),
    ("train_x", "train_y"),
    ("x", "y"),
    ("X", "y"),
    ("data", "target"),
    ("images", "labels"),
)
_TESTS = (("x_test", "y_test"), ("test_x", "test_y"))
_MOST_BYTES, _MOST_MEMBERS, _MOST_SQUEEZED = 2**34, 64, 1_100


def load_npz(path: Path, numbers: bool = False) -> Dataset:
    """Load an archive of arrays; labels may be numbers or names.

    Raises
    ------
    DataError
        When arrays are missing, damaged or do not belong together.
    """
    shown = printable(path.name)
    try:
        with path.open("rb") as file, opened(file, _MOST_MEMBERS, _MOST_BYTES, _MOST_SQUEEZED) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            train = next((pair for pair in _PAIRS if set(pair) <= names), None)
            if train is None:
                listed = printable(", ".join(sorted(names)), 120)
                raise DataError(f"{shown}: holds {listed or 'nothing'}; expected x_train and y_train, or x and y")
            test = next((pair for pair in _TESTS if set(pair) <= names), None)
            wanted = (*train, *(test or ()))
            for name in wanted:
                array_header(archive, f"{name}.npy")
            arrays = [array(archive, f"{name}.npy") for name in wanted]
    except DataError:
        raise
    except RefusedError as error:
        raise DataError(f"{shown}: {error}") from error
    except Exception as error:  # what parsers say of damaged archives is of every kind
        raise DataError(f"{shown}: not a sound .npz file ({printable(error, 80)})") from error
    x, y = arrays[0], arrays[1]
    image = (int(x.shape[1]), int(x.shape[2])) if x.ndim == 3 else None
    if test and arrays[2].shape[1:] != x.shape[1:]:
        raise DataError(f"{shown}: training examples of {x.shape[1:]} but test examples of {arrays[2].shape[1:]}")
    name = path.name.partition(".")[0]
    if numbers:
        split = checked_targets(x, y, f"{shown}: training set")
        held = checked_targets(arrays[2], arrays[3], f"{shown}: test set") if test else None
        return Dataset(
            name, split, held, tuple(str(c) for c in range(split.y.shape[1])), image, str(path), table=x.ndim == 2
        )
    if y.ndim != 1 or y.dtype.kind not in "iubfUS":
        raise DataError(f"{shown}: {wanted[1]} of type {y.dtype}, shape {y.shape}; expected one label an example")
    classes, labels = _classes(y, arrays[3] if test else None, shown)
    split = checked_split(x, labels[0], len(classes), f"{shown}: training set")
    held = checked_split(arrays[2], labels[1], len(classes), f"{shown}: test set") if test else None
    return Dataset(name, split, held, classes, image, str(path), table=x.ndim == 2 and x.dtype != np.uint8)


def _classes(y: np.ndarray, test: np.ndarray | None, shown: str) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Names, and the labels as their indices. Whole numbers from 0 are indices already."""
    parts = [y] if test is None else [y, test]
    if all(part.dtype.kind in "iub" and part.min(initial=0) >= 0 for part in parts):
        highest = max(int(part.max(initial=0)) for part in parts)
        if highest < 65_536:
            return tuple(str(c) for c in range(max(highest, 1) + 1)), parts
    texts = [_texts(part, shown) for part in parts]
    classes = class_names(texts[0], shown)
    known = {name: index for index, name in enumerate(classes)}
    for part in texts:
        strange = [name for name in np.unique(part) if str(name) not in known]
        if strange:
            raise DataError(f"{shown}: label {printable(strange[0], 40)} in the test set only")
    return classes, [np.array([known[str(name)] for name in part], np.int32) for part in texts]


def _texts(labels: np.ndarray, shown: str) -> np.ndarray:
    """Labels as texts; an array of NumPy may hold characters that there are not."""
    try:
        texts = labels.astype(str)
        for name in np.unique(texts):
            str(name).encode()  # half a pair of UTF-16 is no character: it could not be written or printed
        return texts
    except (ValueError, SystemError) as error:  # the second for numbers beyond the last character
        raise DataError(f"{shown}: its labels are not texts of Unicode ({printable(error, 80)})") from error
