"""Arrays of one's own as data sets: what their labels are called, and what their features need."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from fastnn.datasets.base import PIXEL, Dataset, Split, checked_targets, is_sparse, value_range, value_scale
from fastnn.datasets.labels import class_names, indices_of, label_type, plain_labels
from fastnn.errors import DataError

_SMALLEST_SIDE = 8  # of a picture, in pixels
_DARK = 127  # some pixel of pictures is above this


def from_arrays(x: Any, y: Any, weights: Any = None, loss: str = "softmax", validation: Any = None) -> Dataset:
    """A data set out of arrays, all of it for training.

    Features that are neither pixels nor all within 0 to 1 are a table, which training brings to one scale.

    Parameters
    ----------
    x : array_like (N, D) or (N, height, width), or SciPy sparse array (N, D)
        Any numbers. Whole numbers from 0 to 255 are pixels where there are as many as in a square picture.
    y : array_like
        Labels (N,) for softmax: whole numbers, texts or truth values; the classes are those that occur. Numbers (N,)
        or (N, C) for the other losses.
    weights : array_like (N,), optional
        How much each example counts, at least 0.
    loss : str
        One of `fastnn.settings.LOSSES`.
    validation : (x, y) or (x, y, weights), optional
        Of the same kind, to watch the training on.

    Raises
    ------
    DataError
        When they are not as they should be: what, in which row.
    """
    watched = None if validation is None else parts_of(validation, "validation")
    if loss != "softmax":
        train, kind = checked_targets(x, y, "arrays", weights), "index"
        classes = tuple(str(c) for c in range(train.y.shape[1]))
        held = watched and checked_targets(watched[0], watched[1], "validation", watched[2])
    else:
        labels = plain_labels(y, "arrays")
        classes, kind = class_names(labels, "arrays"), label_type(labels)
        train = labelled(x, labels, weights, classes, kind, "arrays")
        held = watched and labelled(*watched, classes, kind, "validation")
    pictures = picture_shape(x, train)
    return Dataset("arrays", train, None, classes, pictures, "arrays", held, _is_table(train, pictures), kind)


def parts_of(arrays: Any, source: str) -> tuple[Any, Any, Any]:
    """x, y and weights (None where there are none) of a pair or triple.

    Raises
    ------
    DataError
        When it is neither.
    """
    if not isinstance(arrays, tuple | list) or len(arrays) not in (2, 3) or any(part is None for part in arrays[:2]):
        raise DataError(f"{source}: expected (x, y) or (x, y, sample_weight)")
    x, y, weights = (*arrays, None)[:3]
    return x, y, weights


def labelled(x: Any, y: Any, weights: Any, classes: tuple[str, ...], label_type: str, source: str) -> Split:
    """Arrays as a split, their labels (N,) as indices of `classes`."""
    return Split(x, indices_of(y, classes, label_type, source), weights, None, source)


def picture_shape(x: Any, split: Split) -> tuple[int, int] | None:
    """Height and width of pictures: of arrays (N, height, width), or where all that can be seen says so.

    That is: whole numbers from 0 to 255, some of them bright, as many as a square picture has.
    """
    shape = np.shape(x)
    if len(shape) == 3 or (len(shape) == 4 and shape[3] == 1):
        return int(shape[1]), int(shape[2])
    side = math.isqrt(split.x.shape[1])
    square = side >= _SMALLEST_SIDE and side * side == split.x.shape[1]
    return (side, side) if square and _are_pixels(split.x) else None


def _are_pixels(x: Any) -> bool:
    return value_scale(x) == PIXEL and value_range(x)[1] > _DARK


def _is_table(split: Split, pictures: tuple[int, int] | None) -> bool:
    """Whether features are of any size: no pixels, and not all within 0 to 1."""
    colours = math.isqrt(split.x.shape[1] // 3)
    if pictures or (colours >= _SMALLEST_SIDE and 3 * colours**2 == split.x.shape[1] and _are_pixels(split.x)):
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
