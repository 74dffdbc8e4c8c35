"""What the benchmarks share: a fair clock, and a line of text beside each number."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fastnn.tools.bench import peak_gflops


@pytest.fixture(scope="session")
def peak() -> float:
    """10^9 float32 operations a second of one core, measured in this run."""
    return peak_gflops()


@pytest.fixture
def measure(benchmark, peak: float) -> Callable[..., None]:  # type: ignore[no-untyped-def]
    """Time one call that has been warmed up; with `flops`, tell GFLOP/s and the share of the peak."""

    def run(call: Callable[[], object], flops: float = 0, repeats: int = 1, threads: int = 1, **facts: object) -> None:
        call()
        benchmark.pedantic(call, rounds=7, warmup_rounds=1)
        benchmark.extra_info.update(facts)
        if benchmark.stats and flops:  # without --benchmark-disable
            rate = flops * repeats / benchmark.stats.stats.min / 1e9
            benchmark.extra_info.update(gflops=round(rate), share_of_peak=round(rate / peak / threads, 3))

    return run


def pytest_xdist_auto_num_workers() -> int:
    """Timings have the machine to themselves."""
    return 0
