"""The works that all sides do: shapes, batches and data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastnn.datasets import load
from fastnn.network import Network


@dataclass(frozen=True)
class Work:
    """One line of a table.

    Attributes
    ----------
    data : str
        Key of `DATA`.
    sizes : tuple of int
        Inputs, units of each hidden layer, classes.
    batch, rate, epochs
        Examples in a step, learning rate, epochs of each round.
    """

    data: str
    sizes: tuple[int, ...]
    batch: int
    rate: float = 0.05
    epochs: int = 3

    @property
    def name(self) -> str:
        """As shown: layers and batch."""
        kind = {"mnist": "", "mnist-part": "", "tabular": "tabular ", "one-hot": "one-hot "}[self.data]
        return f"{kind}{'-'.join(map(str, self.sizes))}, {self.batch}"


TABLE = (
    Work("mnist", (784, 128, 10), 32),
    Work("mnist", (784, 128, 10), 64),
    Work("mnist", (784, 128, 10), 256),
    Work("mnist", (784, 128, 10), 1024),
    Work("mnist", (784, 128, 128, 10), 64),
    Work("mnist", (784, 512, 512, 10), 128, epochs=2),
    Work("mnist", (784, 2048, 2048, 10), 256, epochs=2),
    Work("tabular", (20, 64, 64, 2), 256),
    Work("one-hot", (2000, 128, 2), 256),
)
GRID = tuple(
    Work("mnist-part", (784, *[width] * depth, 10), batch)
    for batch in (16, 32, 128, 512)
    for width in (32, 128, 512)
    for depth in (1, 2, 3)
)
PART = 12_800  # examples of the grid: whole batches of each size, and the same work for all in a few minutes
UNTIL = Work("mnist", (784, 128, 10), 16, rate=0.2, epochs=40)
GOAL = 0.98


def _mnist(examples: int | None = None) -> dict[str, np.ndarray]:
    data = load("mnist")
    assert data.test
    x, y = data.train.x[:examples], data.train.y[:examples]
    return {"x": x, "y": y, "x_test": data.test.x, "y_test": data.test.y}


def _tabular(examples: int = 200_000, features: int = 20) -> dict[str, np.ndarray]:
    """Standard normal columns; the class is which side of a smooth surface a row is on."""
    random = np.random.default_rng(1)
    x = random.standard_normal((examples + 20_000, features)).astype(np.float32)
    first, second = random.standard_normal((2, features, 8)).astype(np.float32) / np.float32(features**0.5)
    y = ((np.tanh(2 * x @ first) * np.tanh(2 * x @ second)).sum(axis=1) > 0).astype(np.int32)
    return {"x": x[:examples], "y": y[:examples], "x_test": x[examples:], "y_test": y[examples:]}


def _one_hot(examples: int = 30_000, columns: int = 20, levels: int = 100) -> dict[str, np.ndarray]:
    """20 categories of 100 levels each, one-hot: 2,000 columns, 1 % ones."""
    random = np.random.default_rng(2)
    chosen = random.integers(0, levels, (examples + 5_000, columns))
    worth = random.standard_normal((columns, levels))
    y = (worth[np.arange(columns), chosen].sum(axis=1) > 0).astype(np.int32)
    x = np.zeros((len(chosen), columns, levels), np.float32)
    np.put_along_axis(x, chosen[:, :, None], 1, axis=2)
    x = x.reshape(len(chosen), -1)
    return {"x": x[:examples], "y": y[:examples], "x_test": x[examples:], "y_test": y[examples:]}


DATA = {"mnist": _mnist, "mnist-part": lambda: _mnist(PART), "tabular": _tabular, "one-hot": _one_hot}


def write(work: Work, folder: Path) -> dict[str, object]:
    """Write what the sides of a work read, once, and return the question to ask them."""
    data = folder / f"{work.data}.npz"
    if not data.exists():
        np.savez(data, **DATA[work.data]())
    start = folder / f"{'-'.join(map(str, work.sizes))}.npz"
    if not start.exists():
        first = Network.mlp(work.sizes[0], work.sizes[1:-1], work.sizes[-1]).initial_parameters(0)
        np.savez(start, **{f"p{i}": p for i, p in enumerate(first)})
    return {
        "data": str(data),
        "start": str(start),
        "sizes": work.sizes,
        "batch": work.batch,
        "rate": work.rate,
        "epochs": work.epochs,
    }
