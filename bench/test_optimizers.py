"""What an epoch takes with each optimizer and activation, and how many pictures a second are changed."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import reference
from fastnn.datasets import Dataset, load
from fastnn.datasets.named import find
from fastnn.kernels.workers import Workers
from fastnn.machine import available_threads
from fastnn.network import ACTIVATIONS
from fastnn.tools.bench import again, random_dataset
from fastnn.training.batches import Batches, changed
from fastnn.training.optimizers import OPTIMIZERS
from fastnn.training.run import Training
from fastnn.training.settings import Settings

MOVED = {"shift": 2, "rotation": 12, "scaling": 0.12, "shear": 0.12}
CHANGES = {
    "moved": MOVED,
    "moved and bent": {**MOVED, "elastic": 34},
    "all": {**MOVED, "elastic": 34, "pen": 0.3, "pixel_noise": 0.05},
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """MNIST where it is, else random pixels as sparse."""
    return load("mnist") if find("mnist") else random_dataset(60_000)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizer(measure, dataset: Dataset, optimizer: str) -> None:  # type: ignore[no-untyped-def]
    one_epoch(measure, dataset, optimizer=optimizer)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(measure, dataset: Dataset, activation: str) -> None:  # type: ignore[no-untyped-def]
    one_epoch(measure, dataset, activation=(activation,))


@pytest.mark.parametrize(
    "extras", [{"dropout": 0.5}, {"clip_norm": 1.0}, {"max_norm": 3.0}, {"averaging": 0.999}], ids=str
)
def test_extras(measure, dataset: Dataset, extras: dict[str, float]) -> None:  # type: ignore[no-untyped-def]
    one_epoch(measure, dataset, optimizer="adam", **extras)


def one_epoch(measure, dataset: Dataset, **settings: object) -> None:  # type: ignore[no-untyped-def]
    """784-128-10, batch 64."""
    run = Training(dataset, Settings((128,), 1_000, 64, schedule="constant", **settings))  # type: ignore[arg-type]
    run.compile()
    measure(lambda: again(run))
    assert np.isfinite(run.state.buffers["parameters"]).all()
    run.close()


@pytest.mark.parametrize("kind", CHANGES)
def test_changed_pictures(measure, dataset: Dataset, kind: str) -> None:  # type: ignore[no-untyped-def]
    """20,000 pictures 28x28 on all threads; parity with the twin first."""
    settings, few = Settings(**CHANGES[kind]), 3
    some = changed(dataset.train.__class__(dataset.train.x[:few], dataset.train.y[:few]), settings, (28, 28))
    names = ("shift", "scaling", "shear", "elastic", "pen", "pixel_noise")
    change = reference.Change(rotation=np.radians(12), **{name: getattr(settings, name) for name in names})
    for example, picture in enumerate(some):
        whole = dataset.train.x[example].reshape(28, 28)
        wanted = reference.change_picture(whole, change, 0, 0, example, 32)
        assert np.abs(picture.reshape(28, 28) - wanted).max() <= 0.75
    with Workers(available_threads()) as workers:
        batches = Batches(dataset.train, settings, (28, 28), 100, workers)
        batches.compile()
        order = np.arange(20_000)
        measure(lambda: batches.prepare(order, 0, 0, len(order)), pictures=len(order))
