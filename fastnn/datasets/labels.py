"""Labels as people write them ↔ the indices that kernels count by."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn.errors import DataError, printable

MOST_CLASSES = 65_535
_MANY = 100  # classes from which on they may be numbers to be predicted
_PIECE = 2**18  # labels looked at at once
_NARROW = 2**20  # between the lowest and the highest of whole numbers that are counted instead of sorted


def plain_labels(y: Any, source: str) -> np.ndarray:
    """Labels (N,) of any kind as int64, bool or texts.

    Raises
    ------
    DataError
        When one is missing, or is no whole number, truth value or text.
    """
    y = np.asarray(y)
    if y.ndim != 1:
        raise DataError(f"{source}: labels of shape {y.shape}; expected one label an example")
    if y.dtype.kind == "O":
        y = _of_objects(y, source)
    if y.dtype.kind == "f":
        bad = np.flatnonzero(~(np.isfinite(y) & (y == np.rint(y)) & (np.abs(y) < 2**53)))
        if bad.size:
            raise DataError(
                f"{source}: label {y[bad[0]]} in row {bad[0] + 1}; expected whole numbers, texts or truth values. "
                f"Numbers to be predicted need another loss, for example squared"
            )
    elif y.dtype.kind not in "iubU":
        raise DataError(f"{source}: labels of type {y.dtype}; expected whole numbers, texts or truth values")
    return y if y.dtype.kind in "biU" else y.astype(np.int64)


def _of_objects(y: np.ndarray, source: str) -> np.ndarray:
    """An array of Python's objects as one of numbers or of texts."""
    kinds = (str, bool | np.bool_, int | float | np.number)
    for kind in kinds:
        if all(isinstance(label, kind) for label in y):
            return np.array(y.tolist())
    first = next((kind for kind in kinds if isinstance(y[0], kind)), None) if len(y) else None
    at = next((i for i, label in enumerate(y) if first is None or not isinstance(label, first)), 0)
    raise DataError(
        f"{source}: label {printable(y[at], 40)} in row {at + 1}; expected all texts, all whole numbers or all truth "
        f"values"
    )


def distinct(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different labels, rising, and the place of each label among them, int32 or int64 (N,)."""
    if labels.dtype.kind != "i" or not labels.size or int(labels.max()) - int(labels.min()) >= _NARROW:
        return np.unique(labels, return_inverse=True)
    low, high = int(labels.min()), int(labels.max())
    there, places = np.zeros(high - low + 1, bool), np.empty(len(labels), np.int32)
    pieces = [slice(first, first + _PIECE) for first in range(0, len(labels), _PIECE)]
    for piece in pieces:  # of long labels, no copy as a whole
        there[labels[piece].astype(np.int64) - low] = True
    known = np.cumsum(there, dtype=np.int32) - np.int32(1)
    for piece in pieces:
        places[piece] = known[labels[piece].astype(np.int64) - low]
    return low + np.flatnonzero(there), places


def class_names(labels: np.ndarray, source: str) -> tuple[str, ...]:
    """The different labels, sorted as people would: 2 before 10.

    Raises
    ------
    DataError
        When there is one only, or so many that they must be numbers.
    """
    names = sorted({str(name) for name in distinct(labels)[0]}, key=natural)
    if len(names) < 2:
        raise DataError(f"{source}: one class only ({printable(names[0], 40)}); there is nothing to tell apart")
    if len(names) > MOST_CLASSES or (len(names) > _MANY and len(names) > len(labels) / 2):
        raise DataError(
            f"{source}: {len(names):,} different labels in {len(labels):,} rows. Are they the right ones (label=)? "
            f'For numbers to be predicted take loss="squared"'
        )
    return tuple(names)


def label_type(labels: np.ndarray) -> str:
    """Of `Dataset.label_type`: what answers are to be, for labels of this number type."""
    return {"U": "str", "b": "bool", "i": "int"}[labels.dtype.kind]


def written_type(names: Iterable[str]) -> str:
    """The same for labels out of a file, all of them texts there: numbers where all are whole numbers."""
    return "int" if all(re.fullmatch(r"0|-?[1-9]\d{0,17}", name) for name in names) else "str"


def indices_of(y: Any, classes: tuple[str, ...], label_type: str, source: str) -> np.ndarray:
    """The index of each label's class, int32 (N,).

    Parameters
    ----------
    y : array_like (N,)
        Names of classes, as texts or as what they are names of; where `label_type` is "index", whole numbers are
        indices already.

    Raises
    ------
    DataError
        When a label is not among the classes.
    """
    labels = plain_labels(y, source)
    if labels.dtype.kind == "b" and label_type != "bool":
        labels = labels.astype(np.int64)
    numbered = label_type == "index" and labels.dtype.kind == "i"
    known = {str(i) if numbered else name: i for i, name in enumerate(classes)}
    names, places = distinct(labels)
    strange = next((name for name in names if str(name) not in known), None)
    if strange is not None:
        row = int(np.flatnonzero(labels == strange)[0]) + 1
        raise DataError(
            f"{source}: label {printable(strange, 40)} in row {row}; expected one of "
            f"{printable(', '.join([*known][:10]), 80)}"
        )
    return np.array([known[str(name)] for name in names], np.int32)[places]


def labels_of(classes: tuple[str, ...], label_type: str) -> np.ndarray:
    """What a model answers for each class    (C,)    int64, bool or texts."""
    if label_type == "str":
        return np.array(classes)
    if label_type == "bool":
        return np.array([name == "True" for name in classes])
    return np.array([int(name) for name in classes] if label_type == "int" else range(len(classes)), np.int64)


def natural(text: str) -> list[tuple[int, float, str]]:
    """What to sort by so that numbers in a text count as numbers."""
    parts = re.split(r"(-?\d+(?:\.\d+)?)", text)
    return [(1, float(part), "") if i % 2 else (0, 0.0, part) for i, part in enumerate(parts)]
