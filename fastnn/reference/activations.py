"""f(z) of hidden layers and f′(z), each by its name."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray

exp, log, tanh, magnitude = np.exp, np.log, np.tanh, np.abs  # which kernels write out, to make vectors of


def relu(z: Array) -> Array:
    """max(z, 0)."""
    return np.maximum(z, 0)


def leaky_relu(z: Array) -> Array:
    """z where it is positive, else z / 100."""
    return np.where(z > 0, z, z * 0.01)


def gelu(z: Array) -> Array:
    """z · Φ(z)    (Hendrycks and Gimpel 2016)."""
    return z * normal_distribution(z)


def logistic(z: Array) -> Array:
    """1 / (1 + e^−z)."""
    e = exp(-magnitude(z))
    return np.where(z < 0, e, 1) / (1 + e)


def identity(z: Array) -> Array:
    """z."""
    return z


def normal_distribution(z: Array) -> Array:
    """Φ(z) = erfc(−z / √2) / 2."""
    return np.vectorize(math.erfc, otypes=[np.float64])(-np.asarray(z, np.float64) / math.sqrt(2)) / 2


def normal_density(z: Array) -> Array:
    """φ(z) = e^(−z²/2) / √(2π)."""
    return exp(-z * z / 2) / math.sqrt(2 * math.pi)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": relu,
    "leaky-relu": leaky_relu,
    "gelu": gelu,
    "tanh": tanh,
    "logistic": logistic,
    "identity": identity,
}


SLOPES: dict[str, Callable[[Array], Array]] = {
    "relu": lambda z: (z > 0).astype(z.dtype),
    "leaky-relu": lambda z: np.where(z > 0, 1, 0.01),
    "gelu": lambda z: normal_distribution(z) + z * normal_density(z),
    "tanh": lambda z: 1 - tanh(z) ** 2,
    "logistic": lambda z: logistic(z) * (1 - logistic(z)),
    "identity": lambda z: z * 0 + 1,
}
