"""The threads of a run: there while something is being done, and only then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.kernels.workers import Workers


class Team:
    """Threads that begin with the first kernel and go when the outermost ``with`` around it ends.

    Parameters
    ----------
    threads : int
        At least 1; the caller is one of them.
    """

    def __init__(self, threads: int) -> None:
        self.threads, self._depth = threads, 0
        self._workers: Workers | None = None

    def run(self, kernel: Callable[..., int], *args: Any, sync: np.ndarray) -> int:
        """See `fastnn.kernels.workers.Workers.run`."""
        if self._workers is None:
            self._workers = Workers(self.threads)
        return self._workers.run(kernel, *args, sync=sync)

    def close(self) -> None:
        """Let the threads go, if there are any; the next kernel begins others."""
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.close()

    def __enter__(self) -> Team:
        self._depth += 1
        return self

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.close()
