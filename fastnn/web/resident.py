"""A model ready to predict: its parameters in float32, all requests of a moment in one product."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn import images
from fastnn.datasets.base import PIXEL
from fastnn.errors import DataError
from fastnn.images import Prepared
from fastnn.model import inference
from fastnn.model.model import Model, Prediction
from fastnn.reference import ACTIVATIONS

Content = bytes | np.ndarray  # a picture as it came, or pixels (N, 784)
Lines = list[list[Prepared]]

_SMALL_TO_BLAS = 1_000_000  # multiply-adds of a product
SMALL_BYTES = 8_192
SMALL_PRODUCT = 2**23  # multiply-adds: a millisecond
_SMALL = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", images.SIDE, images.SIDE)


@dataclass(frozen=True)
class PredictedLines:
    """The predictions for a request, by line, and the pixels that the network saw of each    (N, 784)."""

    lines: list[list[Prediction]]
    seen: np.ndarray


class Resident:
    """A model with its parameters ready; what is subtracted, divided and multiplied by is taken into the weights.

    Probabilities differ from `Model.predict_proba`, which computes in float64, by about 1e-6.

    Raises
    ------
    DataError
        When it is not a model of classes on 28x28 pixels.
    """

    def __init__(self, model: Model) -> None:
        if model.network.inputs != images.SIDE**2 or model.loss != "softmax":
            raise DataError("not a model of classes on pictures of 28x28 pixels, which this server needs")
        self.model, self.recipe = model, model.recipe
        wide = [parameter.astype(np.float64) for parameter in model.parameters]
        unit = PIXEL / model.scale  # pixels are 0 to 255, whatever the features are that it was trained on
        mean, deviation = model.scaling or (np.zeros(images.SIDE**2), np.full(images.SIDE**2, 1 / model.scale))
        wide[0] /= deviation[:, None]  # ((unit · x − mean) / deviation) W + b
        wide[1] -= mean @ wide[0]
        wide[0] *= unit
        wide[-2], wide[-1] = wide[-2] / model.temperature, wide[-1] / model.temperature
        self._parameters = [parameter.astype(np.float32) for parameter in wide]
        self._activations = [ACTIVATIONS[layer.activation] for layer in model.network.layers]
        self._product = sum(w.size for w in wide[::2])

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """uint8 (N, D) → (N, C), float64."""
        a = x.astype(np.float32)
        for activation, w, b in zip(self._activations, self._parameters[::2], self._parameters[1::2], strict=True):
            a = activation(_product(a, w) + b)
        return inference.softmax(a)

    def is_small(self, content: Content) -> bool:
        """Whether it is answered in less time than it takes to hand it over, by all that its first bytes say."""
        if isinstance(content, np.ndarray):
            return len(content) * self._product <= SMALL_PRODUCT
        return len(content) <= SMALL_BYTES and content.startswith(_SMALL) and self._product <= SMALL_PRODUCT

    def small(self, contents: Sequence[Content]) -> list[Lines | Exception | None]:
        """What the network takes of small contents; None of pictures that need preparation first."""
        prepared: list[Lines | Exception | None] = [
            _pixels(content) if isinstance(content, np.ndarray) else None for content in contents
        ]
        pictures = dict[int, np.ndarray]()
        for n, content in enumerate(contents):
            if isinstance(content, bytes):
                decoded = _tried(images.decode, content)
                if isinstance(decoded, Exception):
                    prepared[n] = decoded
                elif decoded.ndim == 2:  # else it has colours
                    pictures[n] = decoded
        if self.recipe is not images.prepare_digit:
            return [[[self.recipe(pictures[n])]] if n in pictures else one for n, one in enumerate(prepared)]
        if pictures:
            ready, pixels = images.ready_digits(np.array(list(pictures.values())))
            for row, n in enumerate(pictures):
                prepared[n] = [[Prepared(pixels[row])]] if ready[row] else None
        return prepared

    def prepared(self, content: Content, many: bool) -> Lines | Exception:
        """What the network takes of any content."""
        return _pixels(content) if isinstance(content, np.ndarray) else _tried(self._prepared, content, many)

    def _prepared(self, content: bytes, many: bool) -> Lines:
        picture = images.decode(content)
        return self.model.prepared_digits(picture) if many else [[self.recipe(picture)]]

    def predict(self, requests: Sequence[Lines]) -> list[PredictedLines]:
        """What the network says of all of them, in one product."""
        flat = [one for lines in requests for line in lines for one in line]
        if not flat:
            return [PredictedLines([], np.zeros((0, images.SIDE**2), np.uint8)) for _ in requests]
        x = np.array([one.pixels.reshape(-1) for one in flat])
        predictions, at = self.model.predictions_of(flat, self.probabilities(x).round(6)), 0
        results = list[PredictedLines]()
        for lines in requests:
            first, predicted = at, list[list[Prediction]]()
            for line in lines:
                predicted.append(predictions[at : at + len(line)])
                at += len(line)
            results.append(PredictedLines(predicted, x[first:at]))
        return results


def _product(a: np.ndarray, w: np.ndarray) -> np.ndarray:
    """a @ w, a few rows at a time: OpenBLAS copies the whole of w for a product that is not small.

    8 x 784 x 256 takes 29 instead of 49 µs so, 2 x 1536 x 1536 takes 0.7 instead of 1.4 ms (one core).
    """
    rows = max(1, _SMALL_TO_BLAS // w.size)
    if len(a) <= rows or (rows == 1 and len(a) > 4):
        return a @ w
    return np.concatenate([a[first : first + rows] @ w for first in range(0, len(a), rows)])


def _pixels(rows: np.ndarray) -> Lines:
    return [[Prepared(row.reshape(images.SIDE, images.SIDE)) for row in rows]]


def _tried(function: Callable[..., Any], *arguments: Any) -> Any:
    """What it returns or raises: whatever is wrong with one picture, the others are answered."""
    try:
        return function(*arguments)
    except Exception as error:
        return error
