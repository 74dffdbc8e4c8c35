"""How far probabilities can be believed: a temperature, a threshold for "unsure", and the error that is left.

Fitted on validation examples, which the weights were not trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastnn.model.description import Calibration
from fastnn.model.inference import mean_loss, softmax

BINS = 15
FEWEST = 50  # examples below which nothing is fitted
_COLDEST, _HOTTEST = 0.05, 20.0
_SUREST = 0.95
_STEPS = 60  # of the golden section: the bracket shrinks by 0.618 each


def fit(z: np.ndarray, y: np.ndarray) -> Calibration:
    """The temperature of least mean loss, and the threshold that best tells right answers from wrong ones.

    The threshold is the one of the largest Youden index: share of right answers at or above it minus share of wrong
    ones; but 0.95 at most, since nobody calls more than that unsure. With fewer than 50 examples, or no wrong answer
    among them, nothing is ever called unsure.

    Parameters
    ----------
    z : ndarray (N, C)
        Logits.
    y : ndarray (N,)
        Labels.
    """
    if len(y) < FEWEST:
        return Calibration()
    low, high = np.log(_COLDEST), np.log(_HOTTEST)
    ratio = (5**0.5 - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    loss_a, loss_b = mean_loss(z / np.exp(a), y), mean_loss(z / np.exp(b), y)
    for _ in range(_STEPS):  # the loss has one minimum in the logarithm of the temperature
        if loss_a < loss_b:
            high, b, loss_b = b, a, loss_a
            a = high - ratio * (high - low)
            loss_a = mean_loss(z / np.exp(a), y)
        else:
            low, a, loss_a = a, b, loss_b
            b = low + ratio * (high - low)
            loss_b = mean_loss(z / np.exp(b), y)
    temperature = float(np.exp((low + high) / 2))
    p = softmax(z / temperature)
    return Calibration(temperature, _threshold(p.max(axis=1), p.argmax(axis=1) == y), len(y))


def _threshold(confidence: np.ndarray, right: np.ndarray) -> float:
    if right.all() or not right.any():
        return 0.0
    order = np.argsort(confidence, kind="stable")
    confidence, right = confidence[order], right[order]
    wrong_below = np.concatenate([[0], np.cumsum(~right)]) / (~right).sum()
    right_below = np.concatenate([[0], np.cumsum(right)]) / right.sum()
    best = int(np.argmax(wrong_below - right_below))
    return min(_SUREST, float(confidence[best])) if 0 < best < len(confidence) else 0.0


def calibration_error(p: np.ndarray, y: np.ndarray, bins: int = BINS) -> float:
    """Mean of |accuracy − confidence| over equal bins of confidence, weighted by their examples (Naeini et al. 2015).

    Parameters
    ----------
    p : ndarray (N, C)
        Probabilities.
    y : ndarray (N,)
        Labels.
    """
    return reliability(p, y, bins).error


@dataclass(frozen=True)
class Reliability:
    """How often answers of each confidence are right, in equal bins from 0 to 1.

    Attributes
    ----------
    counts : ndarray (bins,)
        Answers.
    confidence, accuracy : ndarray (bins,)
        Their means; 0 where there are none.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Mean of |accuracy − confidence|, weighted by the answers (Naeini et al. 2015)."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float((self.counts * gaps).sum() / max(1, self.counts.sum()))


def reliability(p: np.ndarray, y: np.ndarray, bins: int = BINS) -> Reliability:
    """Probabilities (N, C) against labels (N,), bin by bin."""
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    some = np.maximum(counts, 1)
    return Reliability(counts, np.bincount(place, confidence, bins) / some, np.bincount(place, right, bins) / some)
