"""What every side shares: it reads one work a line from stdin, trains it, and prints what came out, as JSON.

Needs NumPy only, so that it runs in any peer's environment. A side gives a function

    make(data, work) -> (epoch, accuracy)

of which `epoch()` trains one epoch and returns its mean loss (or NaN where the peer does not tell), and `accuracy()`
is that of the test examples. All start from the same weights.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Data(NamedTuple):
    """The examples of a work, ready in memory: `x` float32 between 0 and 1 unless a side asks for the raw ones."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    start: list[np.ndarray]  # w (inputs, units), b, w, b, … to begin with


class Work(NamedTuple):
    """What to train."""

    data: str  # npz file with x, y, x_test, y_test
    start: str  # npz file with p0, p1, …
    sizes: list[int]
    batch: int
    rate: float
    epochs: int


Make = Callable[[Data, Work], tuple[Callable[[], float], Callable[[], float]]]


def threads() -> int:
    """How many every side may use."""
    return int(os.environ["BENCH_THREADS"])


def read(work: Work, raw: bool) -> Data:
    """The examples of a work."""
    with np.load(work.data) as file, np.load(work.start) as start:
        x, y, x_test, y_test = (file[name] for name in ("x", "y", "x_test", "y_test"))
        first = [start[f"p{i}"] for i in range(len(start.files))]
    if not raw and x.dtype == np.uint8:
        x, x_test = x.astype(np.float32) / np.float32(255), x_test.astype(np.float32) / np.float32(255)
    return Data(x, y, x_test, y_test, first)


def serve(make: Make, version: str, raw: bool = False) -> None:
    """Answer until stdin ends. A work that has `until` is trained until it reads that share of the test examples."""
    print(json.dumps({"ready": version}), flush=True)
    for line in sys.stdin:
        question: dict[str, Any] = json.loads(line)
        until = question.pop("until", None)
        work = Work(**question)
        try:
            epoch, accuracy = make(read(work, raw), work)
            seconds, reached, loss = [], 0.0, float("nan")
            for _ in range(work.epochs):
                begin = time.perf_counter()
                loss = epoch()
                seconds.append(time.perf_counter() - begin)
                if until is not None:
                    reached = accuracy()
                    if reached >= until:
                        break
            answer = {"seconds": seconds, "loss": loss, "accuracy": accuracy() if until is None else reached}
        except Exception as error:  # one work that a peer can't do must not lose the others
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(answer), flush=True)
