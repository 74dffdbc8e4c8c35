"""The reference: plain NumPy in float32, one product after the other."""

from __future__ import annotations

import numpy as np
from serve import Data, Work, serve

from fastnn import reference


def make(data: Data, work: Work):  # type: ignore[no-untyped-def]
    parameters = [p.copy() for p in data.start]
    random = np.random.default_rng(0)

    def epoch() -> float:
        order = random.permutation(len(data.y))
        parts = (order[i : i + work.batch] for i in range(0, len(order), work.batch))
        total, _ = reference.train_steps(parameters, ((data.x[part], data.y[part]) for part in parts), work.rate)
        return total / len(order)

    def accuracy() -> float:
        return float((reference.forward(parameters, data.x_test)[0][-1].argmax(axis=1) == data.y_test).mean())

    return epoch, accuracy


serve(make, np.__version__)
