"""Compiling kernels ahead of time, several at once: each in a process of its own that leaves it in the cache.

Numba compiles under a lock, so that threads would wait for each other.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.errors import RunError

# A job ends with the process that began it, however that ended: its standard input is a pipe that nobody writes to.
# Ctrl-C on a terminal reaches jobs too; it is for the process that began them to answer.
_SCRIPT = """
import _thread, os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
_thread.start_new_thread(lambda: os._exit(os.read(0, 1) == b""), ())
from fastnn.tools.warmup import compile_job
compile_job({!r})
"""
# what a job trains with, beside the kind of data: the kernels that presets and most runs need
_WITH: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": "adam"},
    "dropout": {"optimizer": "adam", "dropout": 0.5},
    "pictures": {"optimizer": "adam", "shift": 1.0},
}
JOBS = (
    *(f"train {dtype} {mode}" for mode, dtype in product(("sparse", "dense"), ("uint8", "float32", "float64"))),
    *(
        "train uint8 sparse adam",
        "train uint8 sparse dropout",
        "train uint8 dense pictures",
        "train float32 dense adam",
    ),
    *(f"evaluate {dtype}" for dtype in ("uint8", "float32", "float64")),
    "strokes",
)


@dataclass(frozen=True)
class Warm:
    """A job that is done: its name, and how long its process took."""

    job: str
    seconds: float


def compile_job(job: str) -> None:
    """Compile the kernels of a job, or load them, in this process.

    Raises
    ------
    RunError
        When what was compiled can't be kept, so that it was in vain.
    """
    from fastnn.kernels.cache import unkept

    _compile(job)
    problem = unkept()
    if problem:
        raise RunError(f"its kernels can't be kept: {problem}")


def _compile(job: str) -> None:
    from fastnn.datasets.arrays import from_arrays
    from fastnn.datasets.strokes import draw
    from fastnn.training.run import Training
    from fastnn.training.settings import Settings

    kind, _, rest = job.partition(" ")
    if kind == "strokes":
        draw(2)
        return
    dtype, mode, more, *_ = [*rest.split(" "), "", ""]
    x, y = np.eye(4, 9, dtype=dtype), np.arange(4) % 2
    settings = Settings((4,), 1, 2, input="auto" if more == "pictures" else mode or "dense", **_WITH.get(more, {}))
    run = Training(replace(from_arrays(x, y), image_shape=(3, 3)), settings)
    if kind == "evaluate":
        run.compile_evaluation()
    else:
        run.compile()
    run.close()


class Compilation:
    """A job in a process of its own."""

    def __init__(self, job: str) -> None:
        self.job, self.begin = job, time.perf_counter()
        known = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _SCRIPT.format(job)],  # -P: what lies in the current folder is not ours to run
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, known))},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def done(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def wait(self) -> Warm:
        """Wait until it has ended.

        Raises
        ------
        RunError
            When it failed.
        """
        with self._process as process:
            errors = process.stderr.read() if process.stderr else ""
        if process.returncode:
            last = (errors.strip().splitlines() or ["no reason given"])[-1]
            raise RunError(f"compiling {self.job!r} failed: {last}")
        return Warm(self.job, time.perf_counter() - self.begin)

    def stop(self) -> None:
        """End it, if it is not done."""
        with self._process as process:
            process.kill()


def warm(processes: int, jobs: tuple[str, ...] = JOBS) -> Iterator[Warm]:
    """Do all jobs, `processes` at a time; yields each when it is done.

    Raises
    ------
    RunError
        When machine code can't be kept on this machine, or a job failed.
    """
    from fastnn.kernels.cache import cache_folder, folder_problem

    problem = folder_problem(cache_folder())
    if problem:
        raise RunError(f"compiled kernels can't be kept: {problem}. Set FASTNN_CACHE_DIR to a folder of your own")
    waiting, running = list(jobs), list[Compilation]()
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running.append(Compilation(waiting.pop(0)))
            for job in [job for job in running if job.done()]:
                running.remove(job)
                yield job.wait()
            time.sleep(0.02)
    finally:
        for job in running:
            job.stop()
