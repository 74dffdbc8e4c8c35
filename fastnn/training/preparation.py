"""What a run starts from: its data set, the examples it trains and validates on, and how features are brought to one
scale.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.datasets import Dataset, Split, from_arrays, load, load_split
from fastnn.datasets.arrays import labelled, parts_of
from fastnn.datasets.base import checked_features, checked_targets, chunks, is_sparse, stratified
from fastnn.errors import DataError, DataTypeError, UsageError
from fastnn.model.inference import Scaling
from fastnn.training.settings import Settings


def dataset_of(data: Any, loss: str = "softmax", validation: Any = None) -> Dataset:
    """What `train` was given, as a data set.

    Parameters
    ----------
    data : Dataset, str, Path, (x, y) or (x, y, sample_weight)
    loss : str
        One of `fastnn.training.settings.LOSSES`.
    validation : Split, (x, y), (x, y, sample_weight), str or Path, optional
        Examples to watch the training on.

    Raises
    ------
    DataError
        When it is none, or its parts do not fit.
    """
    check_kind(data)
    place = validation if isinstance(validation, str | Path) else None
    if isinstance(data, str | Path):
        dataset = load(data, numbers=loss != "softmax", validation=place)
    elif isinstance(data, Dataset):
        for split in (data.train, data.test, data.validation):
            if split is not None:  # once more: arrays may have been changed since they were
                data.check(split)
                if is_sparse(split.x):
                    checked_features(split.x, data.name)
        dataset = data
    else:
        dataset = from_arrays(*parts_of(data, "data"), loss)
    if place is not None and not isinstance(data, str | Path):
        validation = load_split(dataset, place)
    elif isinstance(validation, tuple | list):
        arrays = parts_of(validation, "validation")
        if loss != "softmax":
            validation = checked_targets(arrays[0], arrays[1], "validation", arrays[2])
        else:
            validation = labelled(arrays, dataset.classes, dataset.label_type, "validation")
    return replace(dataset, validation=validation) if isinstance(validation, Split) else dataset


def check_kind(data: Any) -> None:
    """Refuse what can't be data."""
    if not isinstance(data, str | Path | Dataset | tuple | list):
        raise DataTypeError(
            f"data of type {type(data).__name__}: expected a name or place, a Dataset, or arrays as one pair: "
            f"train((x, y))"
        )


def splits_of(dataset: Dataset, settings: Settings) -> tuple[Split, Split | None]:
    """What is trained on and what is validated on, checked against the loss.

    Raises
    ------
    UsageError, DataError
        When labels, or examples to validate on, are not as the settings need them.
    """
    by_targets = dataset.train.y.ndim == 2
    if by_targets == (settings.loss == "softmax"):
        wanted = "labels, one an example" if by_targets else "targets, (N, outputs)"
        raise DataError(f'{dataset.name}: loss="{settings.loss}" needs {wanted}')
    if settings.loss == "poisson" and (dataset.train.y < 0).any():
        raise DataError(f'{dataset.name}: loss="poisson" needs targets of at least 0')
    if settings.loss == "logistic" and ((dataset.train.y < 0) | (dataset.train.y > 1)).any():
        raise DataError(f'{dataset.name}: loss="logistic" needs targets from 0 to 1')
    if by_targets and settings.class_weight != "none":
        raise UsageError(f'class_weight="{settings.class_weight}" needs classes: loss="softmax"')
    if settings.augments and dataset.image_shape is None:
        raise UsageError(f"{dataset.name}: its features are not known to be pixels, so they can't be shifted or turned")
    train, validation = dataset.train, dataset.validation
    if validation is None and settings.validation:
        train, validation = stratified(dataset.train, settings.validation, settings.seed)
    for name in ("patience", "plateau", "min_delta"):
        if getattr(settings, name) and validation is None:
            raise UsageError(
                f"{name}={getattr(settings, name)} needs validation examples: take validation=0.1, or name a "
                f"file of them"
            )
    return train, validation


def scaling_of(dataset: Dataset, train: Split, settings: Settings) -> Scaling | None:
    """Mean and deviation of each feature of the training examples, float64; features that never change stay.

    An example counts as often as its weight says. None where features are used as they are.
    """
    if settings.features == "raw" or (settings.features == "auto" and not dataset.table):
        return None
    if is_sparse(train.x):
        raise UsageError('features="standard" would make sparse examples dense; take features="raw"')
    total, squares = np.zeros(train.x.shape[1]), np.zeros(train.x.shape[1])
    sample_weight = np.ones(len(train)) if train.sample_weight is None else train.sample_weight
    for first, last in chunks(train.x):
        total += _weighted(train.x[first:last], train.sample_weight, first, last)
    mean = total / sample_weight.sum()
    for first, last in chunks(train.x):
        with np.errstate(over="ignore"):
            squares += _weighted((train.x[first:last] - mean) ** 2, train.sample_weight, first, last)
    deviation = np.sqrt(squares / sample_weight.sum())
    if not np.isfinite(deviation).all():
        feature = int(np.flatnonzero(~np.isfinite(deviation))[0]) + 1
        raise DataError(f"{dataset.name}: feature {feature} has values beyond 1e150; divide it by a power of ten")
    return mean, np.where(deviation > 1e-12 * np.maximum(1, np.abs(mean)), deviation, 1.0)


def _weighted(x: np.ndarray, sample_weight: np.ndarray | None, first: int, last: int) -> np.ndarray:
    """Σ over the rows, each as often as its weight says, float64 (D,)."""
    if sample_weight is None:
        return x.sum(axis=0, dtype=np.float64)
    return sample_weight[first:last] @ x.astype(np.float64)
