"""The same mathematics in a page of plain NumPy, float64 unless told otherwise.

Every kernel has its twin here, of the same name, which returns instead of writing and knows nothing of panels,
threads or tiles. Letters: B batch rows, D inputs, K inputs of a layer, H its units, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

Array = np.ndarray


def shuffle(n: int, seed: int, epoch: int) -> Array:
    """0, …, n − 1 in the order that (seed, epoch) names: Fisher and Yates with SplitMix64 (Steele et al. 2014)."""
    golden, word = 0x9E3779B97F4A7C15, 2**64

    def mix(z: int) -> int:
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % word
        z = (z ^ z >> 27) * 0x94D049BB133111EB % word
        return z ^ z >> 31

    state, order = mix((mix((seed + golden) % word) + epoch * golden) % word), np.arange(n)
    for i in range(n - 1, 0, -1):
        state = (state + golden) % word
        j = int((mix(state) >> 11) * 2.0**-53 * (i + 1))
        order[[i, j]] = order[[j, i]]
    return order


def gather(x: Array, order: Array, scale: float, dtype: type = np.float64) -> Array:
    """scale · x[order].    x (N, D) of any number type  →  (B, D)"""
    return x[order].astype(dtype) * dtype(scale)


def dense_relu(x: Array, w: Array, b: Array) -> Array:
    """max(x @ w + b, 0).    x (B, K)   w (K, H)   b (H,)   →  (B, H)"""
    return np.maximum(x @ w + b, 0)


def logits(a: Array, w: Array, b: Array) -> Array:
    """a @ w + b.    a (B, K)   w (K, C)   b (C,)   →  (B, C)"""
    return a @ w + b


def softmax(z: Array) -> Array:
    """exp(z) / Σ_c exp(z), moved by the largest so that nothing overflows.    z (B, C)  →  (B, C)"""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cross_entropy(z: Array, y: Array) -> Array:
    """−log softmax(z)[i, y_i].    z (B, C)   y (B,)   →  (B,)"""
    top = z.max(axis=1)
    return np.log(np.exp(z - top[:, None]).sum(axis=1)) + top - z[np.arange(len(y)), y]


def softmax_cross_entropy(z: Array, y: Array) -> tuple[float, int, Array]:
    """Mean loss, number of right answers, and the gradient (softmax(z) − onehot(y)) / B of the mean loss."""
    dz = softmax(z)
    dz[np.arange(len(y)), y] -= 1
    right = int((z[np.arange(len(y)), y] >= z.max(axis=1)).sum())
    return float(cross_entropy(z, y).mean()), right, dz / z.dtype.type(len(y))


def weight_gradient(x: Array, dz: Array) -> tuple[Array, Array]:
    """dw = x.T @ dz, db = Σ_i dz[i].    x (B, K)   dz (B, H)   →  (K, H), (H,)"""
    return x.T @ dz, dz.sum(axis=0)


def input_gradient(dz: Array, w: Array, a: Array) -> Array:
    """(dz @ w.T) where a > 0, else 0.    dz (B, H)   w (K, H)   a (B, K)   →  (B, K)"""
    return (dz @ w.T) * (a > 0)


def forward(parameters: Sequence[Array], x: Array) -> list[Array]:
    """[x, a_1, …, a_L, z]: the input, each hidden layer's activations, the logits."""
    found = [x]
    for w, b in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        found.append(dense_relu(found[-1], w, b))
    return [*found, logits(found[-1], *parameters[-2:])]


def gradient(parameters: Sequence[Array], x: Array, y: Array) -> tuple[float, int, list[Array]]:
    """Mean loss of a batch, right answers, and the gradient of every parameter in the order of `parameters`."""
    *activations, z = forward(parameters, x)
    loss, right, dz = softmax_cross_entropy(z, y)
    found: list[Array] = []
    for layer in range(len(activations) - 1, -1, -1):
        found[:0] = weight_gradient(activations[layer], dz)
        if layer > 0:
            dz = input_gradient(dz, parameters[2 * layer], activations[layer])
    return loss, right, found


def train_steps(
    parameters: Sequence[Array], batches: Iterator[tuple[Array, Array]], learning_rate: float
) -> tuple[float, int]:
    """Mini-batch SGD in place, p −= learning_rate · dp for each batch; summed loss and right answers."""
    total, correct = 0.0, 0
    for x, y in batches:
        loss, right, gradients = gradient(parameters, x, y)
        total += loss * len(y)
        correct += right
        for p, dp in zip(parameters, gradients, strict=True):
            p -= p.dtype.type(learning_rate) * dp
    return total, correct
