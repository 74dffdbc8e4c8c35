"""Watching the validation loss: which epoch was the best, when to stop, when to lower the learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastnn.training.settings import Settings


@dataclass(frozen=True)
class EarlyStopping:
    """What is known of the validation loss so far.

    Attributes
    ----------
    best : float
        Lowest so far.
    best_epoch : int
        Its epoch, counted from 1; 0 before any.
    since : int
        Epochs after it.
    waited : int
        Epochs since it, or since the learning rate was last lowered.
    factor : float
        What the learning rate is multiplied by.
    """

    best: float = math.inf
    best_epoch: int = 0
    since: int = 0
    waited: int = 0
    factor: float = 1.0

    def after(self, loss: float, epoch: int, settings: Settings) -> EarlyStopping:
        """After one more epoch, which had this validation loss."""
        if loss < self.best - settings.min_delta or not self.best_epoch:
            return EarlyStopping(loss, epoch, 0, 0, self.factor)
        waited, factor = self.waited + 1, self.factor
        if settings.plateau and waited >= settings.plateau:
            waited, factor = 0, factor * settings.plateau_factor
        return EarlyStopping(self.best, self.best_epoch, self.since + 1, waited, factor)
