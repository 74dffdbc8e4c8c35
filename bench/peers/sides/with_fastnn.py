"""fastnn, with uint8 pictures left as they are."""

from __future__ import annotations

from serve import Data, Work, serve

import fastnn
from fastnn.datasets import Dataset, checked_split
from fastnn.training.run import Settings, Training


def make(data: Data, work: Work):  # type: ignore[no-untyped-def]
    classes = work.sizes[-1]
    dataset = Dataset(
        "peers",
        checked_split(data.x, data.y, classes, "train"),
        checked_split(data.x_test, data.y_test, classes, "test"),
        tuple(map(str, range(classes))),
    )
    # seed 0 begins with the weights that all are given; threads: its own choice, of the cores that all may use
    run = Training(dataset, Settings(tuple(work.sizes[1:-1]), work.epochs, work.batch, work.rate, schedule="constant"))
    epochs = iter(run)

    def epoch() -> float:
        return next(epochs).loss

    def accuracy() -> float:
        return float(run.evaluate().accuracy)

    return epoch, accuracy


serve(make, fastnn.__version__, raw=True)
