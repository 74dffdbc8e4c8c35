"""Schedules of the learning rate: what it is multiplied by at a time, one row each.

Times are in epochs from the start of the run, fractions between steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fastnn.training.settings import Settings

Factor = Callable[[np.ndarray, "Settings"], np.ndarray]
_RISE, _START, _END = 0.3, 25.0, 1e4  # one-cycle: share of the run that rises, and how low its ends are


def constant(t: np.ndarray, settings: Settings) -> np.ndarray:
    """1."""
    return np.ones_like(t)


def decay(t: np.ndarray, settings: Settings) -> np.ndarray:
    """1 / (1 + d · epoch)."""
    return 1 / (1 + settings.learning_rate_decay * np.floor(t))


def step(t: np.ndarray, settings: Settings) -> np.ndarray:
    """γ^(epoch // n)."""
    return settings.gamma ** (np.floor(t) // settings.step_epochs)


def exponential(t: np.ndarray, settings: Settings) -> np.ndarray:
    """γ^epoch."""
    return settings.gamma ** np.floor(t)


def cosine(t: np.ndarray, settings: Settings) -> np.ndarray:
    """(1 + cos πt / T) / 2 over the T epochs of the run, step by step    (Loshchilov and Hutter 2017)."""
    return (1 + np.cos(np.pi * t / settings.epochs)) / 2


def one_cycle(t: np.ndarray, settings: Settings) -> np.ndarray:
    """From 1/25 up to 1 in the first 30 % of the run, then down to 1/10,000, both like cosines    (Smith 2018)."""
    done = t / settings.epochs
    up = (1 - np.cos(np.pi * np.minimum(done / _RISE, 1))) / 2
    down = (1 + np.cos(np.pi * np.maximum(done - _RISE, 0) / (1 - _RISE))) / 2
    return np.where(done < _RISE, 1 / _START + (1 - 1 / _START) * up, 1 / _END + (1 - 1 / _END) * down)


SCHEDULES: dict[str, Factor] = {
    "constant": constant,
    "decay": decay,
    "step": step,
    "exponential": exponential,
    "cosine": cosine,
    "one-cycle": one_cycle,
}


def rates(settings: Settings, epoch: int, steps: int) -> np.ndarray:
    """Learning rate of every step of an epoch counted from 0, float64 (steps,); warm-up rises to it in a line.

    `settings` resolved.
    """
    t = epoch + np.arange(steps) / steps
    assert settings.learning_rate is not None
    rate = settings.learning_rate * SCHEDULES[settings.schedule](t, settings)
    if settings.warmup_epochs > 0:
        rate *= np.minimum(1, (t + 1 / steps) / settings.warmup_epochs)
    return rate
