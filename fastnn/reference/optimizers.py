"""From a gradient to a step: optimizers, penalties, averages and limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


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
    epsilon_hat: bool = False
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
    """m = β₁ m + (1 − β₁) g, v = β₂ v + (1 − β₂) g², step rate · m̂ / (√v̂ + ε)    (Kingma and Ba 2015).

    With ε̂ the divisor is (√v + ε) / √(1 − β₂^t).
    """
    rule.first = rule.beta1 * rule.first + (1 - rule.beta1) * g
    rule.second = rule.beta2 * rule.second + (1 - rule.beta2) * g**2
    mean = rule.first / (1 - whole_power(rule.beta1, time))
    correction = 1 / math.sqrt(1 - whole_power(rule.beta2, time))
    epsilon = rule.epsilon * correction if rule.epsilon_hat else rule.epsilon
    return rate * mean / (np.sqrt(rule.second) * correction + epsilon)


def rmsprop(rule: Rule, p: Array, g: Array, rate: float, time: int) -> Array:
    """v = β₂ v + (1 − β₂) g², step rate · g / (√v + ε)    (Tieleman and Hinton 2012)."""
    rule.second = rule.beta2 * rule.second + (1 - rule.beta2) * g**2
    return rate * g / (np.sqrt(rule.second) + rule.epsilon)


OPTIMIZERS = {"sgd": sgd, "momentum": momentum, "nesterov": nesterov, "adam": adam, "rmsprop": rmsprop}


def regularise(p: Array, g: Array, shrink: float, l1: float, l2: float) -> Array:
    """shrink · g + l2 · p + l1 · sign p."""
    return shrink * g + l2 * p + l1 * np.sign(p)


def penalty_of(p: Array, l1: float, l2: float) -> float:
    """Σ l2 / 2 · p² + l1 · |p|."""
    wide = p.astype(np.float64)
    return float((l2 / 2 * wide**2 + l1 * np.abs(wide)).sum())


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
