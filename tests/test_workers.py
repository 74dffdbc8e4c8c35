"""The barrier, the stop flag, and workers that fail."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.kernels.jit import kernel, standalone
from fastnn.kernels.workers import Workers, share, stop, sync_area, wait


@kernel
def meet(steps, seen, late, sync, thread, threads):
    """Each thread writes its step, waits, and checks what the others wrote: a barrier that leaks is seen."""
    for step in range(steps):
        seen[step % 2, thread] = step
        if not wait(sync, threads):
            return step
        for other in range(threads):
            if seen[step % 2, other] != step:
                late[0] += 1
    return steps


@kernel
def leave(sync, thread, threads):
    """Thread 1 stops the others and leaves; they return 7 instead of waiting for ever."""
    if thread == 1:
        stop(sync)
        return 0
    return 1 if wait(sync, threads) else 7


@kernel
def fail(values, sync, thread, threads):
    """Thread 1 raises; the others wait for it."""
    if thread == 1:
        raise ValueError("broken worker")
    return 1 if wait(sync, threads) else 7


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 8])
def test_no_thread_passes_a_barrier_before_all_have_come(threads: int) -> None:
    """Also with more threads than cores, where spinning alone would collapse."""
    seen, late = np.full((2, threads), -1), np.zeros(1, np.int64)
    with Workers(threads) as workers:
        for _ in range(3):
            assert workers.run(meet, 2_000, seen, late, sync=sync_area()) == 2_000
    assert late[0] == 0


def test_stop_frees_those_who_wait() -> None:
    with Workers(3) as workers:
        assert workers.run(leave, sync=sync_area()) == 7


def test_an_exception_in_a_worker_reaches_the_caller_and_frees_the_others() -> None:
    with Workers(3) as workers:
        for _ in range(2):
            with pytest.raises(ValueError, match="broken worker"):
                workers.run(fail, np.zeros(1), sync=sync_area())
        assert workers.run(leave, sync=sync_area()) == 7


CALLABLE_SHARE = standalone(share)


@pytest.mark.parametrize("threads", range(1, 9))
@pytest.mark.parametrize("panels", range(12))
def test_every_panel_has_one_owner(panels: int, threads: int) -> None:
    owned = [p for t in range(threads) for p in range(*CALLABLE_SHARE(panels, t, threads))]
    assert owned == list(range(panels))


def test_a_function_for_kernels_only_says_so() -> None:
    with pytest.raises(TypeError, match=r"share is compiled for kernels only; call .*standalone\(share\)"):
        share(4, 0, 2)
