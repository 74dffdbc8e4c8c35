"""How many threads a fit or a prediction may take: what the machine, the environment and other fits leave."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

from fastnn.machine import available_threads

_lock = threading.Lock()
_taken = 0  # threads of this process that train or predict now


def _forked() -> None:
    """A child has none of the threads of its parent."""
    global _lock, _taken
    _lock, _taken = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@cache
def _openmp() -> ThreadpoolController:
    """scikit-learn's OpenMP; it is asked instead of ours, because everything that limits threads limits it."""
    return ThreadpoolController().select(user_api="openmp")


def limit() -> int:
    """Threads that this thread may have at most.

    Cores and quotas, ``OMP_NUM_THREADS``, threadpoolctl and joblib's ``inner_max_num_threads``, through OpenMP, which
    obeys them; and ``NUMBA_NUM_THREADS``.
    """
    limits = [available_threads(), *(library.num_threads for library in _openmp().lib_controllers)]
    said = os.environ.get("NUMBA_NUM_THREADS", "")
    if said.isdecimal() and int(said) > 0:
        limits.append(int(said))
    return max(1, min(limits))


@contextmanager
def leased(asked: int | None, useful: int) -> Iterator[int]:
    """As many threads as were asked for; else as are useful, allowed, and not taken by others of this process."""
    global _taken
    with _lock:
        count = asked or max(1, min(useful, limit() - _taken))
        _taken += count
    try:
        yield count
    finally:
        with _lock:
            _taken -= count
