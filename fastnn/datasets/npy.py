"""Folders of NumPy files, mapped and not loaded: data may be larger than memory.

``x_train.npy`` (N, …) and ``y_train.npy`` (N,), and for a test set ``x_test.npy`` and ``y_test.npy``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastnn.datasets.arrays import from_parts
from fastnn.datasets.base import Dataset
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
    if not all(np.issubdtype(label.dtype, np.integer) for label in (y, *test[1:])):
        raise DataError(f"{shown}: labels of type {y.dtype}; expected whole numbers from 0")
    parts = {"train": (x, y, None), "test": (test[0], test[1], None) if test else None}
    dataset = from_parts(folder.name, parts, False, str(folder), shown)
    if test and x.shape[1:] != test[0].shape[1:]:
        raise DataError(f"{shown}: training examples of {x.shape[1:]} but test examples of {test[0].shape[1:]}")
    return dataset


def _map(path: Path) -> np.ndarray:
    try:
        # copy-on-write: kernels take writable arrays, and the file stays what it is
        return np.lib.format.open_memmap(path, mode="c")  # np.load would take a zip archive or a pickle for one too
    except Exception as error:  # what the parser of headers says of damaged ones is of every kind
        raise DataError(f"{printable(path.name)}: not a sound .npy file ({printable(error)})") from error
