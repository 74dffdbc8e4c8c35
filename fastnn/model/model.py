"""A trained network as people use it: predict, evaluate, save, load."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import reference
from fastnn.datasets.arrays import labelled, parts_of
from fastnn.datasets.base import (
    PIXEL,
    Dataset,
    Split,
    as_array,
    check_labels,
    check_range,
    checked_features,
    checked_targets,
    relabelled,
)
from fastnn.datasets.labels import labels_of, written_type
from fastnn.errors import DataError, UsageError, printable
from fastnn.formats import Unsaid
from fastnn.model import inference, store
from fastnn.model.calibration import calibration_error
from fastnn.model.description import (
    UNBOUNDED,
    calibration_of,
    classes_of,
    history_of,
    huber_delta_of,
    label_type_of,
    loss_of,
    numbered_classes,
    preprocessing_of,
)

if TYPE_CHECKING:
    from fastnn.images import Prepared
    from fastnn.images.ink import Trace


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture.

    Attributes
    ----------
    label : str
        Name of the most probable class.
    confidence : float
        Its probability, 0 to 1.
    probabilities : dict of str to float
        Of every class, in the model's order.
    image : str
        The file it was read from.
    warning : str, optional
        What a person should know: the picture is blank, or tiny.
    verdict : {"sure", "unsure", "nothing"}
        Whether the answer is to be believed: unsure below the fitted threshold, nothing for a blank picture.
    box : tuple of float, optional
        (left, top, right, bottom) of the ink, in shares (0 to 1) of the picture's width and height.
    """

    label: str
    confidence: float
    probabilities: dict[str, float]
    image: str
    warning: str | None = None
    verdict: str = "sure"
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a model does on a split.

    Attributes
    ----------
    examples : int
    loss : float
        Mean of the loss that the model was trained by; cross-entropy for classes.
    accuracy : float, optional
        Share of right answers, 0 to 1; None where there are targets instead of labels.
    per_class : dict of str to float
        Share of right answers among the examples of each class that occurs.
    confusion : ndarray (C, C)
        int64; row the true class, column the predicted one.
    calibration_error : float, optional
        Mean gap between confidence and accuracy, in 15 bins.
    """

    examples: int
    loss: float
    accuracy: float | None
    per_class: dict[str, float]
    confusion: np.ndarray
    calibration_error: float | None = None


@dataclass(frozen=True, eq=False)
class Model(store.Stored):
    """A network with its parameters and everything needed to use it.

    Attributes
    ----------
    network : Network
    parameters : list of ndarray
        ``[w, b, w, b, …]``, w (inputs, units), float32 or float64.
    metadata : dict
        classes (their names), label_type, preprocessing, training, history, data, calibration; stored in the file.
    scaling : (ndarray, ndarray), optional
        Mean and deviation of each feature, float64 (D,), which it subtracts and divides by first.
    notes : tuple of str
        What was chosen where its file, one from elsewhere, could be read in several ways; for people, not saved.

    Examples
    --------
    >>> import fastnn
    >>> model = fastnn.train(([[0.0], [0.2], [0.8], [1.0]], ["low", "low", "high", "high"]), 8, epochs=50)
    >>> model.predict([[0.1], [0.9]]).tolist()
    ['low', 'high']
    >>> model.classes, model.predict_proba([[0.1]]).shape
    (('high', 'low'), (1, 2))
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class, in the order of the outputs."""
        return classes_of(self.metadata) or tuple(numbered_classes(self.network))

    @property
    def labels(self) -> np.ndarray:
        """What `predict` answers for each class    (C,)    the labels as they were trained on: int64, bool or texts."""
        return labels_of(self.classes, self._label_type)

    @property
    def _label_type(self) -> str:
        label_type = label_type_of(self.metadata)
        sound = label_type in ("bool", "str") or (label_type == "int" and written_type(self.classes) == "int")
        return label_type if sound else "index"

    @property
    def history(self) -> dict[str, list[float]]:
        """What changed from epoch to epoch of the training, as columns: ``epoch``, ``loss``, ``accuracy``, ….

        At most 400 epochs, evenly taken; empty where the file does not say.
        """
        return dict(history_of(self.metadata).curves)

    @property
    def scale(self) -> float:
        """What features are multiplied by to be as they were trained on: 1/255 for pixels from 0 to 255, else 1."""
        return preprocessing_of(self.metadata).scale

    def predict_proba(self, x: Any, engine: str = "auto", threads: int | None = None) -> np.ndarray:
        """Probability of every class for each row.

        Parameters
        ----------
        x : array_like (N, D) or (N, height, width), SciPy sparse array (N, D), or Split
            Numbers of any type, of the same meaning as those it was trained on: pixels from 0 (paper) to 255 (ink)
            for the shipped model and for all that were trained on such.
        engine : {"auto", "numpy", "kernels"}
            See `fastnn.model.inference.logits`.
        threads : int, optional
            For the kernels.

        Returns
        -------
        ndarray (N, C)
            float64; rows sum to 1. For losses other than softmax: the probability of each label (logistic), or
            the predicted numbers themselves.

        Raises
        ------
        DataError
            When the features do not fit the model, are not finite, or are pixels of another range.
        UsageError
            When there is no such engine or number of threads.
        """
        if isinstance(x, Split):
            return self._linked(self.logits(x.x, engine, threads, x.scale))
        x = as_array(x, "examples")
        if x.ndim < 2:
            raise DataError(f"examples of shape {x.shape}; expected one row an example: (N, {self.network.inputs})")
        if x.shape[0] == 0:
            return np.zeros((0, self.network.outputs))
        return self._linked(self.logits(self._checked(x), engine, threads))

    def _checked(self, x: Any, source: str = "examples") -> Any:
        """Features that fit, and that are not of another range than those it was trained on."""
        x, inputs = checked_features(x, source), self.network.inputs
        if x.shape[1] != inputs:
            raise DataError(f"{source} of {x.shape[1]} features; this model takes {inputs}")
        check_range(x, self.scale, self.trained_range, source)
        return x

    def trained_range(self) -> tuple[float, float]:
        """Of its features, where that is the same for all; where nothing is known, as those of pictures mostly go."""
        known = preprocessing_of(self.metadata).range
        if known is not None:
            return known
        pictures = math.isqrt(self.network.inputs) ** 2 == self.network.inputs >= 64
        return (0, 1) if pictures and self.scaling is None else UNBOUNDED

    def logits(
        self, x: Any, engine: str = "auto", threads: int | None = None, scale: float | None = None
    ) -> np.ndarray:
        """Outputs before softmax, divided by the temperature of the calibration.

        Parameters
        ----------
        x : ndarray or CSR array (N, D)
            Checked.
        engine, threads
            See `predict_proba`.
        scale : float, optional
            Of x, where it differs from the model's own: 1/255 for pixels from 0 to 255, 1 for pixels from 0 to 1.
        """
        ratio = 1.0 if scale is None else scale / self.scale
        by = ratio if self.scaling else self.scale * ratio
        z = inference.logits(self.network, self.parameters, x, engine, threads, self.scaling, by)
        return z / self.temperature if self.loss == "softmax" else z

    @property
    def temperature(self) -> float:
        """What logits are divided by; 1 where it was not fitted."""
        return calibration_of(self.metadata).temperature

    @property
    def unsure_below(self) -> float:
        """Confidence below which an answer is called unsure; 0 where it was not fitted."""
        return calibration_of(self.metadata).unsure_below

    @property
    def loss(self) -> str:
        """What it was trained by, which says what its outputs mean."""
        loss = loss_of(self.metadata)
        return loss if loss in inference.LINKS else "softmax"

    def _linked(self, z: np.ndarray) -> np.ndarray:
        return inference.LINKS[self.loss](z)

    def predict(self, x: Any, engine: str = "auto", threads: int | None = None) -> np.ndarray:
        """The answer for each row; takes what `predict_proba` takes.

        Returns
        -------
        ndarray
            The label of the most probable class (N,), as it was trained on: int64, bool or text. Or what the loss the
            model was trained by makes of it: bool (N, C) for logistic, float64 (N, C) for losses of numbers.
        """
        linked = self.predict_proba(x, engine, threads)
        if self.loss == "softmax":
            return self.labels[linked.argmax(axis=1)]
        return linked > 0.5 if self.loss == "logistic" else linked

    def predict_images(self, paths: Sequence[str | Path] | str | Path) -> list[Prediction]:
        """Read picture files (or every picture of a folder) and say what they show.

        Raises
        ------
        ImageError
            When one of them can't be read as a picture.
        """
        from fastnn import images

        if isinstance(paths, str | Path):
            paths = [paths]
        return [self.predict_image(path) for path in images.find_images(Path(p) for p in paths)]

    def predict_image(self, path: str | Path, trace: Trace | None = None) -> Prediction:
        """Read one picture file and say what it shows.

        Parameters
        ----------
        path : str or Path
        trace : callable, optional
            Shown each step on the way to what the network sees: its name, and the picture, 0 to 1.
        """
        from fastnn import images

        prepared = [self.recipe(images.read(Path(path)), trace)]
        return self.predictions_of(prepared, self._asked(prepared), str(path))[0]

    def predict_digits(self, path: str | Path) -> list[list[Prediction]]:
        """Every digit of one picture: lines from top to bottom, the digits of each from left to right."""
        from fastnn import images

        lines = self.prepared_digits(images.read(Path(path)))
        flat = [prepared for line in lines for prepared in line]
        predictions = iter(self.predictions_of(flat, self._asked(flat), str(path)))
        return [[next(predictions) for _ in line] for line in lines]

    def prepared_digits(self, picture: np.ndarray) -> list[list[Prepared]]:
        """Every digit of a decoded picture as the network takes it, line by line.

        Raises
        ------
        DataError
            When the model is not one of digits.
        """
        from fastnn import images

        if self.recipe is not images.prepare_digit:
            raise DataError("several things in one picture are told apart for digits only; this model knows others")
        return images.prepare_digits(picture)

    @property
    def recipe(self) -> Callable[..., Prepared]:
        """How pictures are prepared for this model: one of `fastnn.images.RECIPES`."""
        from fastnn import images

        name = preprocessing_of(self.metadata).recipe
        if name not in images.RECIPES or self.network.inputs != images.SIDE**2:
            raise DataError(
                f"this model takes {self.network.inputs} features prepared as {printable(name, 40)!r}; "
                f"pictures need a model of {images.SIDE**2} trained on pictures"
            )
        return images.RECIPES[name]

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Height and width of the pictures that it was trained on, if it was; they may have several channels."""
        shape = preprocessing_of(self.metadata).image_shape
        return shape if shape and self.network.inputs % math.prod(shape) == 0 else None

    def _asked(self, prepared: Sequence[Prepared]) -> np.ndarray:
        if not prepared:
            return np.zeros((0, self.network.outputs))
        pixels = np.stack([one.pixels.reshape(-1) for one in prepared])
        return self._linked(self.logits(pixels, "numpy", scale=PIXEL))

    def predictions_of(
        self, prepared: Sequence[Prepared], probabilities: np.ndarray, image: str = ""
    ) -> list[Prediction]:
        """What probabilities (N, C) say of prepared pictures: the best class, and whether it is to be believed."""
        classes, unsure_below, predictions = self.classes, self.unsure_below, []
        for one, p in zip(prepared, probabilities.tolist(), strict=True):
            confidence = max(p)
            verdict = "nothing" if not one.pixels.any() else "unsure" if confidence < unsure_below else "sure"
            each, label = dict(zip(classes, p, strict=True)), classes[p.index(confidence)]
            predictions.append(Prediction(label, confidence, each, image, one.warning, verdict, one.box))
        return predictions

    def evaluate(
        self, data: Split | Dataset | tuple[Any, ...], engine: str = "kernels", threads: int | None = None
    ) -> Evaluation:
        """Loss, accuracy and confusion on examples.

        Parameters
        ----------
        data : Split, Dataset, (x, y) or (x, y, sample_weight)
            Of a data set, its test examples. Arrays as they were trained on, labels as `predict` answers.
        engine, threads
            See `predict_proba`.

        Raises
        ------
        DataError
            When they have other features or classes than the model.
        UsageError
            When a data set has no test examples.
        """
        split = self._split_of(data)
        features, classes = self.network.inputs, self.network.outputs
        if split.x.shape[1] != features:
            raise DataError(f"examples of {split.x.shape[1]} features; this model takes {features}")
        if (split.y.ndim == 1) != (self.loss == "softmax"):
            raise DataError(f'this model was trained by loss="{self.loss}", which the labels of the data do not fit')
        if split.y.ndim == 2 and split.y.shape[1] != classes:
            raise DataError(f"{split.y.shape[1]} targets an example; this model predicts {classes}")
        if split.y.ndim == 1 and int(split.y.max()) >= classes:
            raise DataError(f"label {int(split.y.max())} in the data; this model knows {classes} classes")
        check_labels(split.y, classes, "examples")
        delta = huber_delta_of(self.metadata) if self.loss == "huber" else 1.0
        z = self.logits(split.x, engine, threads, split.scale)
        return evaluate_logits(z, split, self.classes, self.loss, delta)

    def _split_of(self, data: Any) -> Split:
        if isinstance(data, Split):
            return data if data.scale else replace(data, x=self._checked(data.x))
        if isinstance(data, Dataset):
            if data.test is None:
                raise UsageError(f"{data.name}: no test examples; pass its train split to evaluate on that")
            return relabelled(data.test, data.classes, self.classes, data.name) if self.loss == "softmax" else data.test
        x, y, sample_weight = parts_of(data, "examples")
        x = self._checked(as_array(x, "examples"))
        if self.loss == "softmax":
            return labelled((x, y, sample_weight), self.classes, self._label_type, "examples")
        return checked_targets(x, y, "examples", sample_weight)

    def save(self, path: str | Path) -> None:
        """Write one file, whole or not at all: .npz and .json by the end of its name, else safetensors.

        Raises
        ------
        RunError
            When it can't be written.
        """
        store.save(self, path)


def evaluate_logits(
    z: np.ndarray, split: Split, classes: tuple[str, ...], loss: str = "softmax", delta: float = 1.0
) -> Evaluation:
    """How logits (N, C) do on a split, by the loss the network was trained with."""
    if loss == "softmax":
        return evaluation(z, split.y, classes)
    mean, _ = reference.elementwise_loss(loss, z, split.y, delta, split.sample_weight)
    return Evaluation(len(z), mean, None, {}, np.zeros((0, 0), np.int64))


def evaluation(z: np.ndarray, y: np.ndarray, classes: tuple[str, ...]) -> Evaluation:
    """Loss, accuracy and confusion of logits (N, C) against labels (N,)."""
    confusion = inference.confusion_matrix(y, z.argmax(axis=1), len(classes))
    counts, right = confusion.sum(axis=1), confusion.diagonal()
    per_class = {name: float(r / n) for name, r, n in zip(classes, right, counts, strict=True) if n}
    error = calibration_error(inference.softmax(z), y)
    return Evaluation(len(y), inference.mean_loss(z, y), float(right.sum() / len(y)), per_class, confusion, error)


def load(path: str | Path | None = None, activation: str | Sequence[str] = (), order: Sequence[str] = ()) -> Model:
    """Load a model file; without a path, the weights that come with fastnn.

    Parameters
    ----------
    path : str or Path, optional
    activation : str or sequence of str
        Of all hidden layers, or of each (``"relu"``, ``"leaky-relu"``, ``"gelu"``, ``"tanh"``, ``"logistic"``,
        ``"identity"``), for a file from elsewhere, which does not say it.
    order : sequence of str
        Names of the layers in the order they run, for a file from elsewhere whose layers fit in several.

    Raises
    ------
    ModelFileError
        When it is missing or not a whole, sound model file, or does not say what it computes.
    UsageError
        For an activation that there is not.

    Examples
    --------
    >>> import fastnn
    >>> model = fastnn.load()  # reads digits: 28x28 pixels, 0 is paper, 255 ink
    >>> model.network.inputs, model.classes
    (784, ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9'))
    """
    unsaid = Unsaid((activation,) if isinstance(activation, str) else tuple(activation), tuple(order))
    return Model(**vars(store.load(store.shipped() if path is None else path, unsaid)))


def recipe_for(dataset: Dataset) -> str:
    """How pictures are prepared for a model trained on this data."""
    digits = dataset.classes == tuple("0123456789") and dataset.name != "fashion-mnist"
    return "mnist" if digits else "plain"
