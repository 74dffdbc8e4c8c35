"""The same mathematics in a page of plain NumPy, float64 unless told otherwise.

Every kernel has its twin here, of the same name, which returns instead of writing and knows nothing of panels,
threads or tiles. Letters: B batch rows, D inputs, K inputs of a layer, H its units, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
GOLDEN = 0x9E3779B97F4A7C15
MASKS, PICTURES = 2**40, 2**41  # streams of a seed: of the first layer's dropout, of changed pictures

exp, log, tanh, magnitude = np.exp, np.log, np.tanh, np.abs  # which kernels write out, to make vectors of


def mix(z: int) -> int:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014)."""
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def stream(seed: int, number: int) -> int:
    """Where stream `number` of a seed begins."""
    return mix((mix((seed + GOLDEN) % 2**64) + number * GOLDEN) % 2**64)


def mask_bits(key: int, place: int) -> int:
    """32 random bits: MurmurHash3's finaliser (Appleby 2011)."""
    h = key ^ place * 0x9E3779B9 % 2**32
    h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
    h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
    return h ^ h >> 16


def key_of(seed: int, purpose: int, epoch: int, example: int) -> int:
    """32 bits that name a purpose, an epoch and an example."""
    return stream(stream(stream(seed, purpose), epoch), example) >> 32


def uniform(state: int) -> tuple[int, float]:
    """The next state, and a number in [0, 1) of 53 bits."""
    state = (state + GOLDEN) % 2**64
    return state, (mix(state) >> 11) * 2.0**-53


def spread(state: int) -> tuple[int, float]:
    """The next state, and a bell-shaped number in (−1, 1) of standard deviation 1/3: three uniform ones added."""
    total = 0.0
    for _ in range(3):
        state, number = uniform(state)
        total += number
    return state, total * 2 / 3 - 1


def mask_limit(p: float) -> int:
    """The `mask_bits` below which, with probability p, something is dropped."""
    return min(int(p * 2.0**32), 2**32 - 1)


def shuffle(n: int, seed: int, epoch: int) -> Array:
    """0, …, n − 1 in the order that (seed, epoch) names: Fisher and Yates with SplitMix64."""
    state, order = stream(seed, epoch), np.arange(n)
    for i in range(n - 1, 0, -1):
        state, number = uniform(state)
        j = int(number * (i + 1))
        order[[i, j]] = order[[j, i]]
    return order


def gather(x: Array, order: Array, scale: float, dtype: type = np.float64) -> Array:
    """scale · x[order].    x (N, D) of any number type  →  (B, D)"""
    return x[order].astype(dtype) * dtype(scale)


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


def dense(x: Array, w: Array, b: Array) -> Array:
    """x @ w + b.    x (B, K)   w (K, H)   b (H,)   →  (B, H)"""
    return x @ w + b


def dropout_mask(p: float, seed: int, layer: int, epoch: int, places: Array, units: int) -> Array:
    """0 with probability p, else 1 / (1 − p), for each unit and each example by its place in the epoch."""
    found = np.empty((len(places), units))
    for row, place in zip(found, places, strict=True):
        key, limit = key_of(seed, MASKS + layer, epoch, int(place)), mask_limit(p)
        row[:] = [mask_bits(key, unit) >= limit for unit in range(units)]
    return found / (1 - p)


def softmax(z: Array) -> Array:
    """exp(z) / Σ_c exp(z), moved by the largest so that nothing overflows.    z (B, C)  →  (B, C)"""
    e = exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_cross_entropy(
    z: Array, y: Array, smoothing: float = 0.0, weights: Array | None = None
) -> tuple[float, int, Array]:
    """Weighted mean loss against (1 − ε) · onehot(y) + ε / C, number of right answers, gradient of the mean loss."""
    share = shares(weights, len(y)).astype(z.dtype)
    target = np.full_like(z, smoothing / z.shape[1])
    target[np.arange(len(y)), y] += 1 - smoothing
    top = z.max(axis=1)
    losses = log(exp(z - top[:, None]).sum(axis=1)) + top - (target * z).sum(axis=1)
    right = int((z[np.arange(len(y)), y] >= top).sum())
    return float(share @ losses), right, (softmax(z) - target) * share[:, None]


def shares(weights: Array | None, n: int) -> Array:
    """How much each example counts in the mean: its weight in shares of their sum."""
    return np.full(n, 1 / n) if weights is None else weights / max(weights.sum(), np.finfo(float).tiny)


def squared(z: Array, t: Array, delta: float) -> tuple[Array, Array]:
    """(z − t)² / 2, and its derivative."""
    return (z - t) ** 2 / 2, z - t


def absolute(z: Array, t: Array, delta: float) -> tuple[Array, Array]:
    """|z − t|, and its derivative."""
    return magnitude(z - t), np.sign(z - t)


def huber(z: Array, t: Array, delta: float) -> tuple[Array, Array]:
    """(z − t)² / 2 within δ of t, δ · (|z − t| − δ / 2) beyond, and its derivative    (Huber 1964)."""
    far = magnitude(z - t)
    return np.where(far <= delta, far**2 / 2, delta * (far - delta / 2)), np.clip(z - t, -delta, delta)


def logistic_loss(z: Array, t: Array, delta: float) -> tuple[Array, Array]:
    """log(1 + e^z) − t · z, and its derivative."""
    return np.logaddexp(0, z) - t * z, logistic(z) - t


def poisson(z: Array, t: Array, delta: float) -> tuple[Array, Array]:
    """e^z − t · z, and its derivative."""
    return exp(z) - t * z, exp(z) - t


LOSSES: dict[str, Callable[[Array, Array, float], tuple[Array, Array]]] = {
    "squared": squared,
    "absolute": absolute,
    "huber": huber,
    "logistic": logistic_loss,
    "poisson": poisson,
}


def elementwise_loss(
    loss: str, z: Array, t: Array, delta: float = 1.0, weights: Array | None = None
) -> tuple[float, Array]:
    """Weighted mean over examples, mean over outputs, of one of `LOSSES`, and its gradient.    z, t (B, C)"""
    losses, slopes = LOSSES[loss](z, t, delta)
    share = shares(weights, len(z)).astype(z.dtype)
    return float(share @ losses.mean(axis=1)), slopes * share[:, None] / z.dtype.type(z.shape[1])


def bias_gradient(dz: Array) -> Array:
    """Σ_i dz[i].    dz (B, H)   →  (H,)"""
    return dz.sum(axis=0)


def weight_gradient(x: Array, dz: Array) -> tuple[Array, Array]:
    """dw = x.T @ dz, db = Σ_i dz[i].    x (B, K)   dz (B, H)   →  (K, H), (H,)"""
    return x.T @ dz, bias_gradient(dz)


def input_gradient(dz: Array, w: Array, slope: Array) -> Array:
    """(dz @ w.T) · f′(z) of the layer below.    dz (B, H)   w (K, H)   slope (B, K)   →  (B, K)"""
    return (dz @ w.T) * slope


@dataclass(frozen=True)
class Kind:
    """What is not plain ReLU and softmax about a network, and what is known of its batch."""

    activations: Sequence[str] = ()  # of each hidden layer; () for ReLU
    masks: Sequence[Array] = ()  # of each hidden layer's dropout
    loss: str = "softmax"
    smoothing: float = 0.0
    delta: float = 1.0
    weights: Array | None = None


PLAIN = Kind()


def activate(z: Array, kind: Kind, layer: int) -> Array:
    """f(z) of a hidden layer, times the mask of its dropout.    z (B, H)  →  (B, H)"""
    found = ACTIVATIONS[kind.activations[layer] if kind.activations else "relu"](z)
    return found * kind.masks[layer] if kind.masks else found


def slope(z: Array, kind: Kind, layer: int) -> Array:
    """f′(z) of a hidden layer, times the mask of its dropout.    z (B, H)  →  (B, H)"""
    found = SLOPES[kind.activations[layer] if kind.activations else "relu"](z)
    return found * kind.masks[layer] if kind.masks else found


def forward(parameters: Sequence[Array], x: Array, kind: Kind = PLAIN) -> tuple[list[Array], list[Array]]:
    """[z_1, …, z_L] and [x, a_1, …, a_L−1]: what each layer's product gives, and what each layer reads."""
    found: list[Array] = []
    read = [x]
    for layer, (w, b) in enumerate(zip(parameters[::2], parameters[1::2], strict=True)):
        if layer > 0:
            read.append(activate(found[-1], kind, layer - 1))
        found.append(dense(read[-1], w, b))
    return found, read


def loss_gradient(z: Array, y: Array, kind: Kind = PLAIN) -> tuple[float, int, Array]:
    """Mean loss, right answers, and its gradient by the logits."""
    if kind.loss == "softmax":
        return softmax_cross_entropy(z, y, kind.smoothing, kind.weights)
    loss, dz = elementwise_loss(kind.loss, z, y, kind.delta, kind.weights)
    return loss, 0, dz


def gradient(parameters: Sequence[Array], x: Array, y: Array, kind: Kind = PLAIN) -> tuple[float, int, list[Array]]:
    """Mean loss of a batch, right answers, and the gradient of every parameter in the order of `parameters`."""
    found, read = forward(parameters, x, kind)
    loss, right, dz = loss_gradient(found[-1], y, kind)
    gradients: list[Array] = []
    for layer in range(len(read) - 1, -1, -1):
        gradients[:0] = weight_gradient(read[layer], dz)
        if layer > 0:
            dz = input_gradient(dz, parameters[2 * layer], slope(found[layer - 1], kind, layer - 1))
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


@dataclass
class Rule:
    """An optimizer's numbers, and its memory of one tensor."""

    kernel: str
    beta1: float = 0.0
    beta2: float = 0.0
    epsilon: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    decay: float = 0.0
    averaging: float = 0.0
    first: Array | float = 0.0
    second: Array | float = 0.0
    average: Array | float = 0.0


def whole_power(x: float, n: int) -> float:
    """x to the n."""
    return x**n


def sgd(rule: Rule, p: Array, g: Array, rate: float, time: int) -> Array:
    """rate · g."""
    return rate * g


def momentum(rule: Rule, p: Array, g: Array, rate: float, time: int) -> Array:
    """m = μ m + g, step rate · m    (Polyak 1964)."""
    rule.first = rule.beta1 * rule.first + g
    return rate * rule.first


def nesterov(rule: Rule, p: Array, g: Array, rate: float, time: int) -> Array:
    """m = μ m + g, step rate · (g + μ m)    (Sutskever et al. 2013)."""
    rule.first = rule.beta1 * rule.first + g
    return rate * (g + rule.beta1 * rule.first)


def adam(rule: Rule, p: Array, g: Array, rate: float, time: int) -> Array:
    """m = β₁ m + (1 − β₁) g, v = β₂ v + (1 − β₂) g², step rate · m̂ / (√v̂ + ε)    (Kingma and Ba 2015)."""
    rule.first = rule.beta1 * rule.first + (1 - rule.beta1) * g
    rule.second = rule.beta2 * rule.second + (1 - rule.beta2) * g**2
    mean = rule.first / (1 - whole_power(rule.beta1, time))
    square = rule.second / (1 - whole_power(rule.beta2, time))
    return rate * mean / (np.sqrt(square) + rule.epsilon)


def rmsprop(rule: Rule, p: Array, g: Array, rate: float, time: int) -> Array:
    """v = β₂ v + (1 − β₂) g², step rate · g / (√v + ε)    (Tieleman and Hinton 2012)."""
    rule.second = rule.beta2 * rule.second + (1 - rule.beta2) * g**2
    return rate * g / (np.sqrt(rule.second) + rule.epsilon)


OPTIMIZERS = {"sgd": sgd, "momentum": momentum, "nesterov": nesterov, "adam": adam, "rmsprop": rmsprop}


def regularise(p: Array, g: Array, shrink: float, l1: float, l2: float) -> Array:
    """shrink · g + l2 · p + l1 · sign p."""
    return shrink * g + l2 * p + l1 * np.sign(p)


def average(e: Array | float, p: Array, decay: float, time: int) -> Array:
    """d · e + (1 − d) · p, d = min(decay, t / (t + 9))."""
    kept = min(decay, time / (time + 9))
    return kept * e + (1 - kept) * p


def update(rule: Rule, p: Array, g: Array, rate: float, time: int, is_weight: bool = True) -> None:
    """One step in place; `time` counts from 1. Penalties and decay are on weights, not on biases."""
    if is_weight:
        g = regularise(p, g, 1.0, rule.l1, rule.l2)
    step = OPTIMIZERS[rule.kernel](rule, p, g, rate, time)
    p *= 1 - rate * rule.decay * is_weight
    p -= step


def limit_norms(w: Array, limit: float) -> Array:
    """Columns longer than `limit` scaled to that length.    w (K, H)"""
    norms = np.linalg.norm(w, axis=0)
    return w * np.where(norms > limit, limit / np.maximum(norms, 1e-300), 1)


def sum_of_squares(g: Array) -> float:
    """Σ g²."""
    return float((g.astype(np.float64) ** 2).sum())


def clipping(gradients: Sequence[Array], clip: float) -> float:
    """min(1, clip / ‖g‖) over all tensors."""
    norm = math.sqrt(sum(map(sum_of_squares, gradients)))
    return min(1.0, clip / norm) if norm else 1.0


def symmetric(key: int, place: int) -> float:
    """A number in [−1, 1)."""
    bits = mask_bits(key, place)
    return float(np.float32(bits - 2**32 if bits >= 2**31 else bits) * np.float32(2.0**-31))


def bell(key: int, place: int) -> float:
    """A bell-shaped number of mean 0 and standard deviation 1: four uniform ones added."""
    return sum(symmetric(key, 4 * place + n) for n in range(4)) * math.sqrt(3) / 2


def gaussian(size: int, sigma: float) -> Array:
    """exp(−(i − j)² / 2σ²) over its sum for all j.    →  (size, size)"""
    reach = np.arange(-100 * size, 100 * size + 1)
    distance = np.subtract.outer(np.arange(size), np.arange(size))
    return np.exp(-(distance**2) / (2 * sigma**2)) / np.exp(-(reach**2) / (2 * sigma**2)).sum()


def elastic_field(height: int, width: int, sigma: float, key: int, axis: int, stride: int) -> Array:
    """G U Gᵀ: U uniform in ±1, its rows `stride` places apart, smoothed by a Gaussian    (Simard et al. 2003)."""
    noise = [[symmetric(key, (axis * height + r) * stride + c) for c in range(width)] for r in range(height)]
    return gaussian(height, sigma) @ np.array(noise) @ gaussian(width, sigma).T


@dataclass(frozen=True)
class Change:
    """How far pictures are changed; the kernel's `augment.Change`."""

    shift: float = 0.0
    rotation: float = 0.0
    scaling: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    elastic_sigma: float = 4.0
    pen: float = 0.0
    mirror: float = 0.0
    pixel_noise: float = 0.0


def find_places(change: Change, shape: tuple[int, int], key: int, stride: int) -> Array:
    """Row and column that each pixel comes from.    →  (2, height, width)"""
    h, w = shape
    angle, slant = change.rotation * symmetric(key, 0), change.shear * symmetric(key, 1)
    wide, high = 1 + change.scaling * symmetric(key, 2), 1 + change.scaling * symmetric(key, 3)
    wide = -wide if symmetric(key, 7) < 2 * change.mirror - 1 else wide
    moved = np.array([change.shift * symmetric(key, 4), change.shift * symmetric(key, 5)])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    slanted = np.array([[1, 0], [slant, 1]]) @ np.diag([high, wide])
    centre = np.array([(h - 1) / 2, (w - 1) / 2])
    grid = np.stack(np.meshgrid(np.arange(h), np.arange(w), indexing="ij"), -1) - centre - moved
    found = np.moveaxis(grid @ np.linalg.inv(turn.T @ slanted).T + centre, -1, 0)
    if change.elastic:
        for axis in range(2):
            field = elastic_field(h, w, change.elastic_sigma, (key + 1) % 2**32, axis, stride)
            found[axis] += change.elastic * field
    return found


def sample(picture: Array, where: Array) -> Array:
    """The picture between its pixels, in proportion; 0 outside."""
    h, w = picture.shape
    padded = np.pad(picture, 2)
    y, x = np.clip(where[0], -1, h) + 2, np.clip(where[1], -1, w) + 2
    i, j = y.astype(int), x.astype(int)
    v, u = y - i, x - j
    above = padded[i, j] * (1 - u) + padded[i, j + 1] * u
    return above * (1 - v) + (padded[i + 1, j] * (1 - u) + padded[i + 1, j + 1] * u) * v


def press(picture: Array, pen: float) -> Array:
    """Thicker strokes (towards the brightest of each pixel and its four neighbours) or thinner, by a share `pen`."""
    padded = np.pad(picture, 1)
    around = [padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
    return picture + abs(pen) * (np.max(around, axis=0) if pen > 0 else np.min(around, axis=0)) - abs(pen) * picture


def change_picture(picture: Array, change: Change, seed: int, epoch: int, example: int, stride: int) -> Array:
    """One picture, 0 to 255, moved, turned, bent, redrawn and made noisy as (seed, epoch, example) name it."""
    key = key_of(seed, PICTURES, epoch, example)
    drawn = sample(picture.astype(np.float64), find_places(change, picture.shape, key, stride))
    if change.pen:
        drawn = press(drawn, change.pen * symmetric(key, 6))
    if change.pixel_noise:
        noise = [bell((key + 2) % 2**32, place) for place in range(picture.size)]
        drawn = drawn + 255 * change.pixel_noise * np.array(noise).reshape(picture.shape)
    return np.clip(drawn, 0, 255)


def add_noise(x: Array, sigma: float, key: int) -> Array:
    """x + σ · noise.    x (D,)"""
    return x + sigma * np.array([bell(key, k) for k in range(x.size)])


def drop_features(x: Array, p: float, key: int) -> Array:
    """0 with probability p, else x.    x (D,)"""
    return x * [mask_bits(key, k) >= mask_limit(p) for k in range(x.size)]
