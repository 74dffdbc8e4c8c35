"""NumPy's archives: x_train, y_train, x_test, y_test as Keras has them, or one set as x and y."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastnn.archives import ArchiveError, array, array_header, opened
from fastnn.datasets.arrays import from_parts
from fastnn.datasets.base import Dataset
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
    except ArchiveError as error:
        raise DataError(f"{shown}: {error}") from error
    except Exception as error:  # what parsers say of damaged archives is of every kind
        raise DataError(f"{shown}: not a sound .npz file ({printable(error, 80)})") from error
    x, y = arrays[0], arrays[1]
    if not numbers and (y.ndim != 1 or y.dtype.kind not in "iubfUS"):
        raise DataError(f"{shown}: {wanted[1]} of type {y.dtype}, shape {y.shape}; expected one label an example")
    if test and arrays[2].shape[1:] != x.shape[1:]:
        raise DataError(f"{shown}: training examples of {x.shape[1:]} but test examples of {arrays[2].shape[1:]}")
    parts = {
        "train": (x, _texts(y, shown), None),
        "test": (arrays[2], _texts(arrays[3], shown), None) if test else None,
    }
    return from_parts(path.name.partition(".")[0], parts, numbers, str(path), shown)


def _texts(labels: np.ndarray, shown: str) -> np.ndarray:
    """Labels that are bytes or texts as texts; an array of NumPy may hold characters that there are not."""
    if labels.dtype.kind not in "US":
        return labels
    try:
        texts = labels.astype(str)
        for name in np.unique(texts):
            str(name).encode()  # half a pair of UTF-16 is no character: it could not be written or printed
        return texts
    except (ValueError, SystemError) as error:  # the second for numbers beyond the last character
        raise DataError(f"{shown}: its labels are not texts of Unicode ({printable(error, 80)})") from error
