"""This checkout beside another one, in turn: an epoch of each work, and the command's start, as ratios of minima.

    git worktree add ../before COMMIT
    python -m bench.against ../before            # the works of docs/speed.md
    python -m bench.against ../before --grid     # batch x width x depth
    python -m bench.against ../before --rules    # optimizers, activations, penalties
    python -m bench.against ../before --starts   # help, a prediction, a first run with nothing compiled

Below 1 this checkout is the faster one. Rounds alternate who begins; each is a fresh process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.peers import works

HERE = Path(__file__).resolve().parent.parent
_SCRIPT = """
import json, sys, time
import numpy as np, fastnn
from fastnn.datasets import Dataset, checked_split
asked = json.loads(sys.argv[1])
with np.load(asked["data"]) as file:
    x, y = file["x"], file["y"]
classes = asked["sizes"][-1]
shape = (28, 28) if x.shape[1] == 784 else None
data = Dataset("work", checked_split(x, y, classes, "x"), None, tuple(map(str, range(classes))), shape)
run = fastnn.Training(data, fastnn.Settings(tuple(asked["sizes"][1:-1]), asked["epochs"], asked["batch"], asked["rate"],
                                            schedule="constant", **asked["more"]))
print(min(epoch.seconds for epoch in run))
"""
_RULES: tuple[tuple[works.Work, dict[str, Any]], ...] = (
    (works.Work("mnist-part", (784, 256, 256, 10), 64, 0.001), {"optimizer": "adam", "clip_norm": 1.0}),
    (works.Work("mnist-part", (784, 512, 512, 10), 128, 0.001), {"optimizer": "adamw", "activation": "gelu"}),
    (works.Work("mnist-part", (784, 128, 10), 64), {"optimizer": "momentum", "dropout": 0.3}),
    (works.Work("mnist-part", (784, 128, 128, 10), 64), {"activation": "tanh", "max_norm": 3.0, "averaging": 0.99}),
    (works.Work("mnist-part", (784, 256, 10), 32), {"rotation": 8.0, "shift": 2.0, "elastic": 8.0}),
)
_STARTS = {
    "--help": ["--help"],
    "predict": ["predict", "data/samples/3.png"],
    "a first run, nothing compiled": ["train", "--data", "strokes", "--epochs", "1", "--out", os.devnull],
}


def epoch_of(checkout: Path, question: dict[str, Any]) -> float:
    """Seconds of the fastest epoch."""
    return float(_output(checkout, ["-c", _SCRIPT, json.dumps(question)]))


def start_of(checkout: Path, arguments: list[str], cold: bool) -> float:
    """Seconds of the whole command."""
    with tempfile.TemporaryDirectory() as cache:
        more = {"FASTNN_CACHE_DIR": cache} if cold else {}
        begin = time.perf_counter()
        _output(checkout, ["-m", "fastnn", *arguments], more)
        return time.perf_counter() - begin


def _output(checkout: Path, arguments: list[str], more: dict[str, str] | None = None) -> str:
    env = {**os.environ, "PYTHONPATH": str(checkout), **(more or {})}
    done = subprocess.run([sys.executable, *arguments], cwd=checkout, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr[-2_000:]}")
    return done.stdout


def compare(name: str, other: Path, rounds: int, seconds_of: Any) -> float:
    """The ratio of the minima, printed with them."""
    took: dict[Path, list[float]] = {other: [], HERE: []}
    for turn in range(rounds):
        for checkout in (other, HERE) if turn % 2 == 0 else (HERE, other):
            took[checkout].append(seconds_of(checkout))
    before, now = min(took[other]), min(took[HERE])
    sys.stdout.write(f"{name:60}  {1e3 * before:9.1f}  {1e3 * now:9.1f} ms   {now / before:.3f}\n")
    sys.stdout.flush()
    return now / before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--rounds", type=int, default=5)
    for what in ("grid", "rules", "starts"):
        parser.add_argument(f"--{what}", action="store_true")
    asked = parser.parse_args()
    other = asked.other.resolve()
    if not (other / "fastnn").is_dir():
        parser.error(f"{other}: no checkout of fastnn")
    sys.stdout.write(f"{'':60}  {'there':>9}  {'here':>9}      here / there\n")
    if asked.starts:
        for name, arguments in _STARTS.items():
            cold = "nothing compiled" in name
            compare(name, other, asked.rounds, lambda checkout, a=arguments, c=cold: start_of(checkout, a, c))
        return
    chosen = _RULES if asked.rules else tuple((work, {}) for work in (works.GRID if asked.grid else works.TABLE))
    with tempfile.TemporaryDirectory() as folder:
        for work, more in chosen:
            question = {**works.write(work, Path(folder)), "more": more}
            name = " ".join([work.name, *(f"{key}={value}" for key, value in more.items())])
            compare(name, other, asked.rounds, lambda checkout, q=question: epoch_of(checkout, q))


if __name__ == "__main__":
    main()
