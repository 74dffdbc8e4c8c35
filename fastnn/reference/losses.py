"""Losses of a batch and their gradients by the logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastnn.reference.activations import exp, log, logistic, magnitude

Array = np.ndarray


def softmax(z: Array) -> Array:
    """exp(z) / Σ_c exp(z), moved by the largest so that nothing overflows.    z (B, C)  →  (B, C)"""
    e = exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_cross_entropy(
    z: Array, y: Array, smoothing: float = 0.0, sample_weight: Array | None = None
) -> tuple[float, int, Array]:
    """Weighted mean loss against (1 − ε) · onehot(y) + ε / C, number of right answers, gradient of the mean loss."""
    v = normalised_sample_weight(sample_weight, len(y)).astype(z.dtype)
    target = np.full_like(z, smoothing / z.shape[1])
    target[np.arange(len(y)), y] += 1 - smoothing
    top = z.max(axis=1)
    losses = log(exp(z - top[:, None]).sum(axis=1)) + top - (target * z).sum(axis=1)
    right = int((z[np.arange(len(y)), y] >= top).sum())
    return float(v @ losses), right, (softmax(z) - target) * v[:, None]


def normalised_sample_weight(sample_weight: Array | None, n: int) -> Array:
    """How much each example counts in the mean: its sample weight over their sum."""
    if sample_weight is None:
        return np.full(n, 1 / n)
    return sample_weight / max(sample_weight.sum(), np.finfo(float).tiny)


def squared_loss(z: Array, t: Array, delta: float) -> tuple[Array, Array]:
    """(z − t)² / 2, and its derivative."""
    return (z - t) ** 2 / 2, z - t


def absolute_loss(z: Array, t: Array, delta: float) -> tuple[Array, Array]:
    """|z − t|, and its derivative."""
    return magnitude(z - t), np.sign(z - t)


def huber_loss(z: Array, t: Array, delta: float) -> tuple[Array, Array]:
    """(z − t)² / 2 within δ of t, δ · (|z − t| − δ / 2) beyond, and its derivative    (Huber 1964)."""
    far = magnitude(z - t)
    return np.where(far <= delta, far**2 / 2, delta * (far - delta / 2)), np.clip(z - t, -delta, delta)


def logistic_loss(z: Array, t: Array, delta: float) -> tuple[Array, Array]:
    """log(1 + e^z) − t · z, and its derivative."""
    return np.logaddexp(0, z) - t * z, logistic(z) - t


def poisson_loss(z: Array, t: Array, delta: float) -> tuple[Array, Array]:
    """e^z − t · z, and its derivative."""
    return exp(z) - t * z, exp(z) - t


LOSSES: dict[str, Callable[[Array, Array, float], tuple[Array, Array]]] = {
    "squared": squared_loss,
    "absolute": absolute_loss,
    "huber": huber_loss,
    "logistic": logistic_loss,
    "poisson": poisson_loss,
}


def elementwise_loss(
    loss: str, z: Array, t: Array, delta: float = 1.0, sample_weight: Array | None = None, summed: bool = False
) -> tuple[float, Array]:
    """Weighted mean over examples, mean (or sum) over outputs, of one of `LOSSES`, and its gradient.    z, t (B, C)"""
    losses, slopes = LOSSES[loss](z, t, delta)
    v = normalised_sample_weight(sample_weight, len(z)).astype(z.dtype)
    parts = 1 if summed else z.shape[1]
    return float(v @ losses.sum(axis=1)) / parts, slopes * v[:, None] / z.dtype.type(parts)
