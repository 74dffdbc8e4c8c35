"""Sides: one process each, on the same cores and with the same number of threads, asked one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SIDES = Path(__file__).resolve().parent / "sides"
ROOT = SIDES.parent.parent.parent
# name → script and its argument; those of "here" run in our own environment, the others in the peers'
KNOWN = {
    "fastnn": ("with_fastnn.py", "", True),
    "NumPy": ("with_numpy.py", "", True),
    "scikit-learn": ("with_sklearn.py", "", False),
    "Keras/TensorFlow": ("with_keras.py", "", False),
    "torch eager": ("with_torch.py", "eager", False),
    "torch DataLoader": ("with_torch.py", "DataLoader", False),
    "torch.compile": ("with_torch.py", "compile", False),
    "JAX jitted scan": ("with_jax.py", "", False),
}


@dataclass
class Side:
    """A running side."""

    name: str
    process: subprocess.Popen[str]
    version: str = field(default="")

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Its answer: `seconds` of each epoch, the last `loss`, test `accuracy`; or an `error`."""
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": "ended"}
        return answer

    def close(self) -> None:
        self.process.communicate()


def start(name: str, peers: str | None, threads: int, env: dict[str, str] | None = None) -> Side | None:
    """Start a side and wait until it is ready; None when its package is not installed."""
    script, mode, here = KNOWN[name]
    python = sys.executable if here else peers
    if python is None:
        return None
    cores = sorted(os.sched_getaffinity(0))[:threads]
    number = {f"{which}_NUM_THREADS": str(threads) for which in ("OMP", "OPENBLAS", "MKL")}
    with tempfile.TemporaryFile("w+") as errors:  # a pipe that nobody reads would fill
        process = subprocess.Popen(
            [python, str(SIDES / script), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # a passive OpenMP wait policy made torch three times slower, so none is set
            env={**os.environ, **number, "PYTHONPATH": str(ROOT), "BENCH_THREADS": str(threads), **(env or {})},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        assert process.stdout
        line = process.stdout.readline()  # ready: what is imported must not run beside what is timed
        if line:
            return Side(name, process, json.loads(line)["ready"])
        process.communicate()
        errors.seek(0)
        told = errors.read()
        if "ModuleNotFoundError" not in told:
            sys.stderr.write(f"{name} does not start:\n{told[-2000:]}\n")
        return None


def once(name: str, peers: str | None, threads: int, question: dict[str, Any], env: dict[str, str]) -> dict[str, Any]:
    """The answer of a fresh process, and `process_seconds` from its start to its answer."""
    begin = time.perf_counter()
    side = start(name, peers, threads, env)
    if side is None:
        return {"error": "not installed"}
    answer = side.ask(question)
    answer["process_seconds"] = time.perf_counter() - begin
    side.close()
    return answer


def fresh_cache() -> tempfile.TemporaryDirectory[str]:
    """A folder for machine code that nothing has been compiled into."""
    return tempfile.TemporaryDirectory(prefix="fastnn-peers-")
