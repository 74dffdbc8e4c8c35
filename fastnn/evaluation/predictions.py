"""What a model answers on the examples of a split, kept together for plots, reports and tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastnn.datasets import Dataset, relabelled
from fastnn.datasets.base import Split, dense_rows
from fastnn.errors import DataError, UsageError
from fastnn.model.inference import confusion_matrix
from fastnn.model.model import Model


@dataclass(frozen=True)
class Predictions:
    """Probabilities beside the truth.

    Attributes
    ----------
    split : Split
    probabilities : ndarray (N, C)
    classes : tuple of str
    image_shape : tuple of int, optional
        Height and width, where the features are pixels.
    part : {"test", "train"}
        Which examples these are.
    """

    split: Split
    probabilities: np.ndarray
    classes: tuple[str, ...]
    image_shape: tuple[int, int] | None
    part: str = "test"

    @property
    def labels(self) -> np.ndarray:
        """True classes    (N,)"""
        return self.split.y

    @property
    def predicted(self) -> np.ndarray:
        """Most probable classes    (N,)"""
        return self.probabilities.argmax(axis=1)

    @property
    def confidence(self) -> np.ndarray:
        """Their probabilities    (N,)"""
        return self.probabilities.max(axis=1)

    @property
    def confusion(self) -> np.ndarray:
        """How often each class was taken for which, row the true one    (C, C)"""
        return confusion_matrix(self.labels, self.predicted, len(self.classes))

    def mean_confidence(self) -> dict[str, float]:
        """For each true class that occurs: the mean probability that it was given."""
        own = self.probabilities[np.arange(len(self.labels)), self.labels]
        there = np.unique(self.labels)
        return {self.classes[label]: float(own[self.labels == label].mean()) for label in there}

    def chosen(self, which: str, most: int) -> np.ndarray:
        """Numbers of examples to look at: evenly out of all classes, or by confidence, or wrong ones, surest first.

        Parameters
        ----------
        which : {"each", "most-confident", "least-confident", "wrong"}
        most : int
            At most so many.
        """
        order = np.argsort(-self.confidence, kind="stable")
        if which == "wrong":
            return order[(self.predicted != self.labels)[order]][:most]
        if which != "each":
            return (order if which == "most-confident" else order[::-1])[:most]
        count = len(np.unique(self.labels))
        each = [np.flatnonzero(self.labels == label)[: -(-most // count)] for label in np.unique(self.labels)]
        return np.concatenate(each)[:most]

    def pictures(self, rows: np.ndarray) -> np.ndarray:
        """Examples as pictures    (n, height, width) or (n, height, width, 3)

        Raises
        ------
        UsageError
            When they are none.
        """
        if self.image_shape is None:
            raise UsageError("these examples are no pictures, so there is nothing to look at")
        height, width = self.image_shape
        x = np.concatenate([dense_rows(self.split.x, int(n), int(n) + 1) for n in rows])
        planes = x.reshape(len(rows), -1, height, width)
        return planes[:, 0] if planes.shape[1] == 1 else np.moveaxis(planes, 1, -1)


def chosen_part(dataset: Dataset, part: str | None = None) -> tuple[str, Split]:
    """The examples that a model is asked about, and what they are called.

    Parameters
    ----------
    dataset : Dataset
    part : {"test", "train"}, optional
        By default the test examples, or the training examples where there are none.

    Raises
    ------
    UsageError
        When test examples are asked for and there are none.
    """
    if part == "train" or (part is None and dataset.test is None):
        return "train", dataset.train
    if dataset.test is None:
        raise UsageError(f'{dataset.name}: no test examples; take part="train", or keep some for testing by test=')
    return "test", dataset.test


def predictions_of(model: Model, dataset: Dataset, part: str | None = None) -> Predictions:
    """Ask a model about the examples of a data set that `chosen_part` gives.

    Raises
    ------
    UsageError
        When there are no test examples and they are asked for.
    DataError
        When features or classes do not fit the model, or it predicts no classes.
    """
    if model.loss != "softmax":
        raise DataError(f'this model was trained by loss="{model.loss}"; these plots are of classes')
    part, split = chosen_part(dataset, part)
    if split.x.shape[1] != model.network.inputs:
        raise DataError(f"examples of {split.x.shape[1]} features; this model takes {model.network.inputs}")
    split = relabelled(split, dataset.classes, model.classes, dataset.name)
    probabilities = model.predict_proba(split, engine="kernels")
    return Predictions(split, probabilities, model.classes, dataset.image_shape or model.image_shape, part)
