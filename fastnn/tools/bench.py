"""`fastnn bench`: this machine's peak, the kernels' share of it, and an epoch beside the same work in NumPy."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastnn import reference
from fastnn.datasets.base import Dataset, checked_split
from fastnn.datasets.strokes import load_strokes
from fastnn.errors import RunError
from fastnn.network import Network

if TYPE_CHECKING:
    from fastnn.training.run import Training

_REPEATS = 5


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    work : str
    seconds : float
        Of the fastest of several runs.
    gflops : float
        10^9 floating-point operations a second.
    share : float
        Of this machine's measured peak on the same number of threads.
    numpy_ratio : float, optional
        How many times longer NumPy takes, in the same run.
    """

    work: str
    seconds: float
    gflops: float
    share: float
    numpy_ratio: float | None = None


def fastest(run: Callable[[], object], repeats: int = _REPEATS) -> float:
    """Seconds of the fastest of `repeats` runs, after one that does not count."""
    run()
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begin)
    return best


def peak_gflops(dtype: str = "float32") -> float:
    """10^9 floating-point operations a second of one core, from fused multiply-adds that never leave registers."""
    from fastnn.kernels.layout import aligned_zeros
    from fastnn.kernels.measure import PEAK_FLOPS_A_ROUND, peak

    panel = aligned_zeros((64, _width(dtype)), np.dtype(dtype))
    rounds = 100_000
    seconds = fastest(lambda: peak(panel, panel, rounds), 10)
    return rounds * PEAK_FLOPS_A_ROUND * _width(dtype) / seconds / 1e9


def _width(dtype: str) -> int:
    from fastnn.kernels.host import SHAPE

    return SHAPE.panel_width(np.dtype(dtype).itemsize)


def product_seconds(batch: int, inputs: int, units: int) -> tuple[float, float]:
    """Seconds of the forward and of the weight-gradient product, batch x inputs by inputs x units, on one thread."""
    from fastnn.kernels.layout import to_panels
    from fastnn.kernels.measure import forward_product, gradient_product

    random = np.random.default_rng(0)
    x, w, dz = (
        random.standard_normal(s).astype(np.float32) for s in ((batch, inputs), (inputs, units), (batch, units))
    )
    panels = to_panels(x), to_panels(w), to_panels(np.zeros((1, units), np.float32))[:, 0], to_panels(dz)
    x_p, w_p, b_p, dz_p = panels
    out = to_panels(np.zeros_like(dz))
    repeats = max(1, int(2e8 / (2 * batch * inputs * units)))
    forward = fastest(lambda: forward_product(x_p, w_p, b_p, inputs, batch, out, repeats))
    gradient = fastest(lambda: gradient_product(x_p, dz_p, inputs, batch, w_p, b_p, repeats))
    return forward / repeats, gradient / repeats


def random_dataset(examples: int = 20_000, features: int = 784, classes: int = 10) -> Dataset:
    """Random uint8 pixels, a fifth of them ink, with random labels: speed does not depend on what they show."""
    random = np.random.default_rng(0)
    x = random.integers(1, 256, (examples, features), np.uint8) * (random.random((examples, features)) < 0.2)
    split = checked_split(x.astype(np.uint8), random.integers(0, classes, examples), classes, "random")
    return Dataset("random", split, None, tuple(map(str, range(classes))))


def numpy_epoch(dataset: Dataset, sizes: tuple[int, ...], batch: int, rate: float = 0.05) -> Callable[[], object]:
    """One epoch of the reference in float32: shuffle, gather, steps, as fastnn does; the data float32 beforehand."""
    network = Network.mlp(sizes[0], sizes[1:-1], sizes[-1])
    parameters = network.initial_parameters(0)
    x, y = dataset.train.x.astype(np.float32) / np.float32(255), dataset.train.y
    random = np.random.default_rng(0)

    def run() -> object:
        order = random.permutation(len(x))
        parts = (order[i : i + batch] for i in range(0, len(x), batch))
        return reference.train_steps(parameters, ((x[part], y[part]) for part in parts), rate)

    return run


def epoch_seconds(dataset: Dataset, sizes: tuple[int, ...], batch: int, threads: int | None, repeats: int = 3) -> float:
    """Seconds of the fastest of `repeats` epochs of fastnn, after one that does not count."""
    from fastnn.training.run import Training
    from fastnn.training.settings import Settings

    run = Training(dataset, Settings(sizes[1:-1], repeats + 1, batch, 0.05, threads=threads))
    try:
        return min(epoch.seconds for epoch in list(run)[1:])
    finally:
        run.close()


def again(run: Training) -> None:
    """The steps of an epoch once more, of a run that is never finished: to time them."""
    run.state.step, run.state.seconds = 0, 0.0
    run._run_steps()


@dataclass(frozen=True)
class Phase:
    """What one phase of a training step takes.

    Attributes
    ----------
    phase : str
    microseconds : tuple of float
        Of each thread, in the fastest of several epochs.
    share : float
        Of the whole step, over all threads.
    """

    phase: str
    microseconds: tuple[float, ...]
    share: float


def phases(hidden: tuple[int, ...], batch: int, threads: int | None = None, epochs: int = 10) -> list[Phase]:
    """Where the time of a training step goes, on 20,000 drawn digits; the last row is the whole step.

    A counter of the processor is read between the phases, by kernels compiled for that.
    """
    from fastnn.kernels.clock import PHASES
    from fastnn.training.run import Training
    from fastnn.training.settings import Settings

    dataset = load_strokes(train=20_000, test=1)
    run = Training(dataset, Settings(hidden, epochs + 1, batch, 0.05, threads=threads))
    try:
        clock = run.count_phases()
        before, best, spent = clock.copy(), float("inf"), np.zeros(0)
        for epoch in run:
            if epoch.epoch > 1 and epoch.seconds < best:
                best, spent = epoch.seconds, (clock - before)[:, : len(PHASES)].astype(float)
            before = clock.copy()
    finally:
        run.close()
    if not spent.any():
        raise RunError("this processor has no counter that fastnn knows how to read")
    spent *= best / -(-len(dataset.train) // batch) * 1e6 / spent.sum(axis=1, keepdims=True)
    shares = spent.sum(axis=0) / spent.sum()
    rows = [Phase(name, tuple(spent[:, i].tolist()), float(shares[i])) for i, name in enumerate(PHASES) if shares[i]]
    return [*rows, Phase("step", tuple(spent.sum(axis=1).tolist()), 1.0)]


def table(threads: int | None = None) -> Iterator[Row]:
    """The lines of `fastnn bench`: products on one core, then epochs on `threads`, each beside NumPy."""
    from fastnn.machine import available_threads
    from fastnn.training.steps import step_flops

    cores = threads or available_threads()
    peak = peak_gflops()
    yield Row("peak of one core, float32", 0.0, peak, 1.0)
    for batch, inputs, units in ((64, 784, 128), (256, 1024, 1024)):
        flops = 2 * batch * inputs * units
        x, w = np.ones((batch, inputs), np.float32), np.ones((inputs, units), np.float32)
        by_numpy = fastest(lambda x=x, w=w: x @ w, 20)  # type: ignore[misc]
        pair = product_seconds(batch, inputs, units)
        for name, seconds in zip(("forward", "weight gradient"), pair, strict=True):
            rate = flops / seconds / 1e9
            shown = f"{name} {batch} x {inputs} x {units}, 1 thread"
            yield Row(shown, seconds, rate, rate / peak, by_numpy / seconds)
    dataset = load_strokes(train=20_000, test=1)  # as sparse as MNIST, on any machine
    for sizes, batch in (((784, 128, 10), 64), ((784, 128, 10), 256), ((784, 512, 512, 10), 128)):
        network = Network.mlp(sizes[0], sizes[1:-1], sizes[-1])
        flops = step_flops(network, batch) * len(dataset.train) // batch
        by_numpy = fastest(numpy_epoch(dataset, sizes, batch), 2)
        seconds = epoch_seconds(dataset, sizes, batch, threads)
        rate = flops / seconds / 1e9
        shown = f"epoch of 20,000 digits, {'-'.join(map(str, sizes))}, batch {batch}"
        yield Row(shown, seconds, rate, rate / (peak * cores), by_numpy / seconds)
