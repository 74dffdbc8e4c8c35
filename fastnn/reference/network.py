"""A network's forward pass, its gradient, and plain SGD."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastnn.reference.activations import ACTIVATIONS, SLOPES
from fastnn.reference.losses import elementwise_loss, softmax_cross_entropy
from fastnn.reference.random import MASKS, key_of, mask_bits, mask_limit

Array = np.ndarray


def gather(x: Array, order: Array, scale: float, dtype: type = np.float64) -> Array:
    """scale · x[order].    x (N, D) of any number type  →  (B, D)"""
    return x[order].astype(dtype) * dtype(scale)


def dense(x: Array, w: Array, b: Array) -> Array:
    """x @ w + b.    x (B, K)   w (K, H)   b (H,)   →  (B, H)"""
    return x @ w + b


def dropout_mask(p: float, seed: int, layer: int, epoch: int, places: Array, units: int) -> Array:
    """0 with probability p, else 1 / (1 − p), for each unit and each example by its place in the epoch."""
    mask = np.empty((len(places), units))
    for row, place in zip(mask, places, strict=True):
        key, limit = key_of(seed, MASKS + layer, epoch, int(place)), mask_limit(p)
        row[:] = [mask_bits(key, unit) >= limit for unit in range(units)]
    return mask / (1 - p)


def bias_gradient(dz: Array) -> Array:
    """Σ_i dz[i].    dz (B, H)   →  (H,)"""
    return dz.sum(axis=0)


def weight_gradient(x: Array, dz: Array) -> tuple[Array, Array]:
    """dw = x.T @ dz, db = Σ_i dz[i].    x (B, K)   dz (B, H)   →  (K, H), (H,)"""
    return x.T @ dz, bias_gradient(dz)


def input_gradient(dz: Array, w: Array, slope: Array) -> Array:
    """(dz @ w.T) · f′(z) of the layer below.    dz (B, H)   w (K, H)   slope (B, K)   →  (B, K)"""
    return (dz @ w.T) * slope


class LayerKind(NamedTuple):
    """What a kind of layer computes, and the two products of backward."""

    forward: Callable[[Array, Array, Array], Array]
    weight_gradient: Callable[[Array, Array], tuple[Array, Array]]
    input_gradient: Callable[[Array, Array, Array], Array]


LAYERS = {"dense": LayerKind(dense, weight_gradient, input_gradient)}


@dataclass(frozen=True)
class Options:
    """What is not plain ReLU and softmax about a network, and what is known of its batch."""

    activations: Sequence[str] = ()  # of each hidden layer; () for ReLU
    masks: Sequence[Array] = ()  # of each hidden layer's dropout
    loss: str = "softmax"
    smoothing: float = 0.0
    delta: float = 1.0
    sample_weight: Array | None = None
    layers: Sequence[str] = ()  # the kind of each; () for dense ones


PLAIN = Options()


def kind_of(options: Options, layer: int) -> LayerKind:
    """Of a layer, by its number."""
    return LAYERS[options.layers[layer] if options.layers else "dense"]


def activate(z: Array, options: Options, layer: int) -> Array:
    """f(z) of a hidden layer, times the mask of its dropout.    z (B, H)  →  (B, H)"""
    a = ACTIVATIONS[options.activations[layer] if options.activations else "relu"](z)
    return a * options.masks[layer] if options.masks else a


def slope(z: Array, options: Options, layer: int) -> Array:
    """f′(z) of a hidden layer, times the mask of its dropout.    z (B, H)  →  (B, H)"""
    derivative = SLOPES[options.activations[layer] if options.activations else "relu"](z)
    return derivative * options.masks[layer] if options.masks else derivative


def forward(parameters: Sequence[Array], x: Array, options: Options = PLAIN) -> tuple[list[Array], list[Array]]:
    """[z_1, …, z_L] and [x, a_1, …, a_L−1]: what each layer's product gives, and what each layer reads."""
    pre_activations: list[Array] = []
    read = [x]
    for layer, (w, b) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
        if layer > 0:
            read.append(activate(pre_activations[-1], options, layer - 1))
        pre_activations.append(kind_of(options, layer).forward(read[-1], w, b))
    return pre_activations, read


def loss_gradient(z: Array, y: Array, options: Options = PLAIN) -> tuple[float, int, Array]:
    """Mean loss, right answers, and its gradient by the logits."""
    if options.loss == "softmax":
        return softmax_cross_entropy(z, y, options.smoothing, options.sample_weight)
    loss, dz = elementwise_loss(options.loss, z, y, options.delta, options.sample_weight)
    return loss, 0, dz


def gradient(
    parameters: Sequence[Array], x: Array, y: Array, options: Options = PLAIN
) -> tuple[float, int, list[Array]]:
    """Mean loss of a batch, right answers, and the gradient of every parameter in the order of `parameters`."""
    pre_activations, read = forward(parameters, x, options)
    loss, right, dz = loss_gradient(pre_activations[-1], y, options)
    gradients: list[Array] = []
    for layer in range(len(read) - 1, -1, -1):
        gradients[:0] = kind_of(options, layer).weight_gradient(read[layer], dz)
        if layer > 0:
            below = slope(pre_activations[layer - 1], options, layer - 1)
            dz = kind_of(options, layer).input_gradient(dz, parameters[2 * layer], below)
    return loss, right, gradients


def train_steps(
    parameters: Sequence[Array], batches: Iterable[tuple[Array, Array]], learning_rate: float
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
