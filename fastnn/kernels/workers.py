"""Long-lived workers: plain Python threads inside one kernel call, which meet at `barrier`.

No threading layer of Numba is involved, so none of its hazards (abort on nested use, dead forked children,
swallowed exceptions) is either.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

from numba import typeof

from fastnn.errors import RunError
from fastnn.kernels.barrier import STOP, Team, new_team
from fastnn.kernels.interrupts import uninterrupted


def compile_for(kernel: Any, *args: Any) -> None:
    """Compile `kernel` for these arguments (or load it), without running it; one that workers run takes a team."""
    kernel.compile(tuple(typeof(arg) for arg in args))


def is_kept(kernel: Any, *args: Any) -> bool:
    """Whether the machine code of `kernel` for these arguments is in the cache, so that it need not be compiled."""
    return kernel._cache.holds(tuple(typeof(arg) for arg in args), kernel.targetctx)


class Workers:
    """A group of threads that run one kernel together; thread 0 is the caller.

    The others begin with the first kernel, and go when the outermost ``with`` around it ends.

    Parameters
    ----------
    threads : int
        Size of the group, at least 1.
    """

    def __init__(self, threads: int) -> None:
        self.threads, self._sync, self._depth = threads, new_team().sync, 0
        self._turn, self._turns_in = threading.RLock(), os.getpid()
        self._pool: futures.ThreadPoolExecutor | None = None
        self._process = 0  # that the threads belong to

    def run(self, kernel: Callable[..., int], *args: Any) -> int:
        """Call ``kernel(*args, team)`` on every thread, each with its own `Team`; the result of thread 0.

        Compile it with `compile_for` beforehand. Calls from several threads of Python take turns: they share the team's
        barrier, and often memory. An exception in one thread frees the others and is raised here, once all have ended:
        nothing works on the arrays after. Ctrl-C waits for that too.

        Raises
        ------
        RunError
            In a forked child, where the threads are not; or when no more threads can be started.
        """
        if self._turns_in != os.getpid():  # forked, maybe while another thread had its turn, which it never ends here
            self._turn, self._turns_in = threading.RLock(), os.getpid()
        with self._turn:
            self._sync[:] = 0
            return kernel(*args, Team(self._sync)) if self.threads == 1 else self._run_together(kernel, args)

    def _run_together(self, kernel: Callable[..., int], args: tuple[Any, ...]) -> int:
        if self._pool is None:
            self._pool, self._process = futures.ThreadPoolExecutor(self.threads - 1, "fastnn"), os.getpid()
        if os.getpid() != self._process:
            raise RunError(
                "this process was forked from the one whose threads these are. Take threads=1, or start processes by "
                "'spawn' (multiprocessing.set_start_method)"
            )

        def one(thread: int) -> int:
            try:
                return kernel(*args, Team(self._sync, thread, self.threads))
            except BaseException:
                self._sync[STOP] = 1
                raise

        with uninterrupted():
            others = self._begin(self._pool, one)
            try:
                result = one(0)
            finally:
                futures.wait(others)
            for other in others:
                other.result()
            return result

    def _begin(self, pool: futures.Executor, one: Callable[[int], int]) -> list[futures.Future[int]]:
        """Give all threads but the first their work; all, or none."""
        others = list[futures.Future[int]]()
        try:
            for thread in range(1, self.threads):
                others.append(pool.submit(one, thread))
        except RuntimeError as error:  # its work waits for a thread even so, and must not begin later
            self._sync[STOP] = 1
            pool.shutdown(cancel_futures=True)
            self._pool = None
            raise RunError(f"{self.threads} threads can't be started ({error}). Take fewer: threads=1") from error
        return others

    def close(self) -> None:
        """Let the threads go, if there are any; the next kernel begins others."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def __enter__(self) -> Workers:
        self._depth += 1
        return self

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        if not self._depth:
            self.close()
