"""scikit-learn: `MLPClassifier`, one epoch a call of `partial_fit`. Two classes make it use one logistic output."""

from __future__ import annotations

import numpy as np
import sklearn
from serve import Data, Work, serve
from sklearn.neural_network import MLPClassifier


def make(data: Data, work: Work):  # type: ignore[no-untyped-def]
    net = MLPClassifier(
        tuple(work.sizes[1:-1]),
        solver="sgd",
        alpha=0,
        batch_size=work.batch,
        learning_rate_init=work.rate,
        momentum=0,
        random_state=0,
    )
    classes = np.arange(work.sizes[-1])
    net.partial_fit(
        data.x[: work.batch], data.y[: work.batch], classes=classes
    )  # makes its weights, which are then replaced
    if len(classes) > 2:
        for held, first in zip(net.coefs_ + net.intercepts_, data.start[::2] + data.start[1::2], strict=True):
            held[...] = first

    def epoch() -> float:
        net.partial_fit(data.x, data.y)
        return float(net.loss_)

    def accuracy() -> float:
        return float((net.predict(data.x_test) == data.y_test).mean())

    return epoch, accuracy


serve(make, sklearn.__version__)
