"""Arrays of one's own as data sets: what their labels are called, and what their features need."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn.datasets.base import (
    Dataset,
    Split,
    are_pixels,
    as_array,
    check_lengths,
    checked_targets,
    is_sparse,
    value_range,
    with_scale,
)
from fastnn.datasets.labels import class_names, indices_of, label_type, plain_labels
from fastnn.errors import DataError

Arrays = tuple[Any, Any, Any]  # x, y, sample_weight or None
_SMALLEST_SIDE = 8  # of a picture, in pixels


def from_arrays(x: Any, y: Any, sample_weight: Any = None, loss: str = "softmax") -> Dataset:
    """A data set out of arrays, all of it for training.

    Features that are neither pixels nor all within 0 to 1 are a table, which training brings to one scale.

    Parameters
    ----------
    x : array_like (N, D) or (N, height, width), or SciPy sparse array (N, D)
        Any numbers. Whole numbers from 0 to 255 are pixels where there are as many as in a square picture.
    y : array_like
        Labels (N,) for softmax: whole numbers, texts or truth values; the classes are those that occur. Numbers (N,)
        or (N, C) for the other losses.
    sample_weight : array_like (N,), optional
        How much each example counts, at least 0.
    loss : str
        One of `fastnn.training.settings.LOSSES`.

    Raises
    ------
    DataError
        When they are not as they should be: what, in which row.
    """
    return from_parts("arrays", {"train": (x, y, sample_weight)}, loss != "softmax")


def from_parts(
    name: str, parts: Mapping[str, Arrays | None], numbers: bool, origin: str = "", shown: str = ""
) -> Dataset:
    """A data set out of the arrays of its parts.

    Parameters
    ----------
    name : str
    parts : mapping of str to (x, y, sample_weight) or None
        ``"train"``, and perhaps ``"test"``.
    numbers : bool
        Whether labels are numbers to be predicted.
    origin : str
        See `Dataset`.
    shown : str
        Called so in messages; by default by its name.

    Raises
    ------
    DataError
        When they are not as they should be: what, in which row.
    """
    shown, given = shown or name, {part: arrays for part, arrays in parts.items() if arrays is not None}
    sources = {part: shown if part == "train" else f"{shown}: {part} set" for part in given}
    x, y, _ = given["train"]
    if numbers:
        kind = "index"
        splits = {part: checked_targets(a[0], a[1], sources[part], a[2]) for part, a in given.items()}
        classes = tuple(str(c) for c in range(splits["train"].y.shape[1]))
    else:
        labels = plain_labels(y, shown)
        check_lengths(as_array(x, shown), labels, shown)
        classes, kind = class_names(labels, shown), label_type(labels)
        splits = {part: labelled(arrays, classes, kind, sources[part]) for part, arrays in given.items()}
    train = splits["train"]
    pictures = picture_shape(x, train)
    table = _is_table(train, pictures, np.ndim(x) > 2)
    train = with_scale(train, 1.0) if table else train  # its numbers mean something else each
    return Dataset(name, train, splits.get("test"), classes, pictures, origin or name, table=table, label_type=kind)


def parts_of(arrays: Any, source: str) -> tuple[Any, Any, Any]:
    """x, y and sample_weight (None where there is none) of a pair or triple.

    Raises
    ------
    DataError
        When it is neither.
    """
    if not isinstance(arrays, tuple | list) or len(arrays) not in (2, 3) or any(part is None for part in arrays[:2]):
        raise DataError(f"{source}: expected (x, y) or (x, y, sample_weight)")
    x, y, sample_weight = (*arrays, None)[:3]
    return x, y, sample_weight


def labelled(arrays: Arrays, classes: tuple[str, ...], label_type: str, source: str) -> Split:
    """Arrays as a split, their labels (N,) as indices of `classes`."""
    x, y, sample_weight = arrays
    return Split(x, indices_of(y, classes, label_type, source), sample_weight, None, source)


def picture_shape(x: Any, split: Split) -> tuple[int, int] | None:
    """Height and width of pictures: of arrays (N, height, width), or where all that can be seen says so.

    That is: whole numbers from 0 to 255, some of them bright, as many as a square picture has.
    """
    shape = np.shape(x)
    if len(shape) == 3 or (len(shape) == 4 and shape[3] == 1):
        return int(shape[1]), int(shape[2])
    side = math.isqrt(split.x.shape[1])
    square = side >= _SMALLEST_SIDE and side * side == split.x.shape[1]
    return (side, side) if square and are_pixels(split.x) else None


def _is_table(split: Split, pictures: tuple[int, int] | None, has_axes: bool) -> bool:
    """Whether features are of any size: no pixels, and not all within 0 to 1."""
    side = math.isqrt(split.x.shape[1] // 3)
    colours = side >= _SMALLEST_SIDE and 3 * side * side == split.x.shape[1] and are_pixels(split.x)
    if pictures or has_axes or colours:
        return False
    low, high = value_range(split.x)
    if low >= 0 and high <= 1:
        return False
    if is_sparse(split.x):
        warnings.warn(
            f"sparse features from {low:g} to {high:g} are used as they are: bringing them to one scale would fill "
            f"them in. Divide each by its largest, or pass a dense array",
            stacklevel=2,
        )
        return False
    return True
