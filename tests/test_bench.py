"""What the benchmark counts: operations by hand, the fastest of several runs; nothing here is timed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastnn.datasets import Dataset, checked_split
from fastnn.tools import bench


def test_the_rates_of_the_table_are_operations_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    digits = Dataset("d", checked_split(np.zeros((2_000, 784), np.uint8), [0, 1] * 1_000, 2, "d"), None, ("a", "b"))
    monkeypatch.setattr(bench, "peak_gflops", lambda: 50.0)
    repeated: list[int] = []
    monkeypatch.setattr(bench, "fastest", lambda run, repeats: repeated.append(repeats) or 0.5)
    monkeypatch.setattr(bench, "product_seconds", lambda *sizes: asked.append(sizes) or (0.25, 0.125))
    monkeypatch.setattr(bench, "epoch_seconds", lambda data, *given: asked.append(given) or 0.25)
    monkeypatch.setattr(bench, "numpy_epoch", lambda data, *given: asked.append(given))
    monkeypatch.setattr(bench, "load_strokes", lambda train, test: asked.append((train, test)) or digits)
    rows = list(bench.table(3))
    assert (rows[0].seconds, rows[0].gflops, rows[0].share, rows[0].numpy_ratio) == (0.0, 50.0, 1.0, None)
    products = [2 * 64 * 784 * 128, 2 * 256 * 1024 * 1024]
    pairs = [(flops, seconds) for flops in products for seconds in (0.25, 0.125)]
    for row, (flops, seconds) in zip(rows[1:5], pairs, strict=True):
        assert row.seconds == seconds
        assert row.gflops == pytest.approx(flops / seconds / 1e9)
        assert row.share == pytest.approx(row.gflops / 50)
        assert row.numpy_ratio == 0.5 / seconds
    small, large = 3 * 128 * 10 + 2 * 784 * 128, 2 * 784 * 512 + 3 * 512 * 512 + 3 * 512 * 10
    for row, (batch, weights) in zip(rows[5:], [(64, small), (256, small), (128, large)], strict=True):
        flops = 2 * batch * weights * 2_000 // batch
        assert row.gflops == pytest.approx(flops / 0.25 / 1e9)
        assert row.share == pytest.approx(row.gflops / 150)
        assert row.numpy_ratio == 2
    nets = [((784, 128, 10), 64), ((784, 128, 10), 256), ((784, 512, 512, 10), 128)]
    epochs = [given for net in nets for given in (net, (*net, 3))]
    assert asked == [(64, 784, 128), (256, 1024, 1024), (20_000, 1), *epochs]
    assert repeated == [20, 20, 2, 2, 2]
    assert "64 x 784 x 128" in rows[1].work
    assert "784-512-512-10, batch 128" in rows[-1].work


def test_the_first_run_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 13.0, 20.0, 22.0, 30.0, 35.0])
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    runs: list[int] = []
    assert bench.fastest(lambda: runs.append(1), 3) == 2
    assert len(runs) == 4


def test_random_pixels_are_a_fifth_of_ink() -> None:
    data = bench.random_dataset(500, 40, 3)
    assert data.train.x.shape == (500, 40)
    assert data.train.x.dtype == np.uint8
    assert (data.train.x > 0).mean() == pytest.approx(0.2, abs=0.02)
    assert data.train.x.max() == 255
    assert set(data.train.y) == {0, 1, 2}
    assert len(data.classes) == 3


def test_an_epoch_of_numpy_takes_every_example_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = bench.random_dataset(50, 12, 3), []

    def steps(parameters: Any, batches: Any, rate: float) -> None:
        assert [p.shape for p in parameters] == [(12, 5), (5,), (5, 3), (3,)]
        assert rate == 0.05
        seen.extend((x, y) for x, y in batches)

    monkeypatch.setattr(bench.reference, "train_steps", steps)
    bench.numpy_epoch(data, (12, 5, 3), 16)()
    assert [len(x) for x, _ in seen] == [16, 16, 16, 2]
    x, y = np.concatenate([x for x, _ in seen]), np.concatenate([y for _, y in seen])
    assert x.dtype == np.float32
    wanted = {(label, *row) for label, row in zip(data.train.y, (data.train.x / np.float32(255)).tolist(), strict=True)}
    assert {(label, *row) for label, row in zip(y, x.tolist(), strict=True)} == wanted


def test_phases_are_those_of_the_fastest_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """In microseconds a step, by each thread's share of its counts; the first epoch does not count."""
    from fastnn.kernels.clock import PHASES

    class Counted:
        def __init__(self, data: Dataset, settings: Any) -> None:
            self.dataset, self.epochs = data, settings.epochs
            asked = settings.hidden, settings.epochs, settings.batch_size, settings.learning_rate, settings.threads
            assert asked == ((7,), 4, 64, 0.05, 2)

        def count_phases(self) -> np.ndarray:
            self.clock = np.zeros((2, len(PHASES) + 3), np.int64)
            return self.clock

        def __iter__(self) -> Any:
            for epoch, seconds in enumerate([0.001, 0.9, 0.8, 0.85][: self.epochs], 1):
                self.clock[:, :3] += [[10 * epoch, 30 * epoch, 0], [30 * epoch, 50 * epoch, 0]]
                self.clock[:, len(PHASES) :] += 999
                yield type("", (), {"epoch": epoch, "seconds": seconds})()

        def close(self) -> None:
            closed.append(True)

    closed: list[bool] = []
    digits = Dataset("d", checked_split(np.zeros((6_400, 4), np.uint8), [0, 1] * 3_200, 2, "d"), None, ("a", "b"))
    monkeypatch.setattr(bench, "load_strokes", lambda train, test: digits)
    monkeypatch.setattr("fastnn.training.run.Training", Counted)
    rows = bench.phases((7,), 64, 2, epochs=3)
    assert [row.phase for row in rows] == [*PHASES[:2], "step"]
    np.testing.assert_allclose(rows[0].microseconds, (2_000, 3_000))
    np.testing.assert_allclose(rows[1].microseconds, (6_000, 5_000))
    np.testing.assert_allclose(rows[2].microseconds, (8_000, 8_000))
    assert [row.share for row in rows] == pytest.approx([5 / 16, 11 / 16, 1])
    assert closed == [True]


def test_the_epoch_that_is_timed_is_the_fastest_but_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Timed:
        def __init__(self, data: Dataset, settings: Any) -> None:
            asked.extend((settings.hidden, settings.epochs, settings.batch_size, settings.learning_rate))
            asked.append(settings.threads)

        def __iter__(self) -> Any:
            return iter([SimpleNamespace(seconds=seconds) for seconds in (0.1, 0.5, 0.25, 0.75)])

        def close(self) -> None:
            asked.append("closed")

    monkeypatch.setattr("fastnn.training.run.Training", Timed)
    assert bench.epoch_seconds(bench.random_dataset(10, 4, 2), (4, 6, 5, 2), 32, 3) == 0.25
    assert asked == [(6, 5), 4, 32, 0.05, 3, "closed"]


def test_rates_of_the_machine_and_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are not run: a stand-in says how long they took."""
    from fastnn.kernels.host import SHAPE
    from fastnn.kernels.measure import PEAK_FLOPS_A_ROUND

    repeated: list[int] = []
    monkeypatch.setattr(bench, "fastest", lambda run, repeats=5: repeated.append(repeats) or 0.5)
    for dtype, size in (("float32", 4), ("float64", 8)):
        wanted = 100_000 * PEAK_FLOPS_A_ROUND * SHAPE.panel_width(size) / 0.5 / 1e9
        assert bench.peak_gflops(dtype) == pytest.approx(wanted)
    assert repeated == [10, 10]
    assert bench.product_seconds(4, 8, 16) == (0.5 / 195_312, 0.5 / 195_312)
    assert bench.product_seconds(1_000, 400, 300) == (0.5, 0.5)


def test_the_steps_of_an_epoch_once_more() -> None:
    done: list[tuple[int, float]] = []
    run: Any = SimpleNamespace(state=SimpleNamespace(step=9, seconds=2.5))
    run._run_steps = lambda: done.append((run.state.step, run.state.seconds))
    bench.again(run)
    assert done == [(0, 0.0)]
