"""Folders of NumPy files, mapped and not loaded: data may be larger than memory.

``x_train.npy`` (N, …) and ``y_train.npy`` (N,), and for a test set ``x_test.npy`` and ``y_test.npy``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastnn.datasets.base import Dataset, Split, checked_split
from fastnn.errors import DataError, printable

NAMES = ("x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy")
_MOST_CLASSES = 65_536


def is_npy_folder(folder: Path) -> bool:
    """Whether a folder holds the examples of a data set as NumPy files."""
    return (folder / NAMES[0]).is_file()


def load_npy(folder: Path) -> Dataset:
    """Load a folder of NumPy files; uint8, float32 and float64 examples in C order stay on disk.

    Raises
    ------
    DataError
        When files are missing, damaged or do not belong together.
    """
    shown = printable(folder)
    missing = [name for name in NAMES[:2] if not (folder / name).is_file()]
    tests = [name for name in NAMES[2:] if (folder / name).is_file()]
    if len(tests) == 1:
        missing += [name for name in NAMES[2:] if name not in tests]
    if missing:
        raise DataError(f"{shown}: no {', '.join(missing)}. A folder of NumPy files holds {', '.join(NAMES)}")
    x, y, *test = [_map(folder / name) for name in (*NAMES[:2], *tests)]
    labels = [y, *test[1:]]
    if not all(np.issubdtype(label.dtype, np.integer) for label in labels):
        raise DataError(f"{shown}: labels of type {y.dtype}; expected whole numbers from 0")
    highest = max((int(label.max(initial=0)) for label in labels), default=0)
    if highest >= _MOST_CLASSES:
        raise DataError(f"{shown}: label {highest}; expected 0 to {_MOST_CLASSES - 1:,}")
    classes = tuple(str(c) for c in range(max(highest, 1) + 1))
    train = checked_split(x, y, len(classes), f"{shown}: training set")
    held: Split | None = checked_split(test[0], test[1], len(classes), f"{shown}: test set") if test else None
    if held and train.x.shape[1] != held.x.shape[1]:
        raise DataError(f"{shown}: training examples of {x.shape[1:]} but test examples of {test[0].shape[1:]}")
    image = (int(x.shape[1]), int(x.shape[2])) if x.ndim == 3 else None
    return Dataset(folder.name, train, held, classes, image, str(folder))


def _map(path: Path) -> np.ndarray:
    try:
        # copy-on-write: kernels take writable arrays, and the file stays what it is
        return np.lib.format.open_memmap(path, mode="c")  # np.load would take a zip archive or a pickle for one too
    except Exception as error:  # what the parser of headers says of damaged ones is of every kind
        raise DataError(f"{printable(path.name)}: not a sound .npy file ({printable(error)})") from error
