"""scikit-learn's estimators beside ours: fits and predictions with the same settings, and what they lead to.

    python -m bench.estimators                 # all cases, 3 rounds; writes the table of docs/scikit-learn.md
    python -m bench.estimators iris digits     # some of them, on standard output only

Each side is a process of its own, in turn; the fastest of all rounds counts. Both have the same ``random_state``, and
so the same net up to rounding.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "scikit-learn.md"
_BEGIN, _END = "<!-- estimators: made by python -m bench.estimators -->", "<!-- estimators: end -->"
Case = tuple[str, Callable[[], tuple[Any, Any]], dict[str, Any]]


def _of_sklearn(name: str) -> Callable[[], tuple[Any, Any]]:
    def load() -> tuple[Any, Any]:
        from sklearn import datasets, preprocessing

        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        return preprocessing.scale(x), y

    return load


def _digits() -> tuple[Any, Any]:
    from sklearn import datasets

    x, y = datasets.load_digits(return_X_y=True)
    return x / 16, y


def _table() -> tuple[Any, Any]:
    from sklearn import datasets

    return datasets.make_classification(100_000, 20, n_informative=10, random_state=0)  # type: ignore[no-any-return]


def _mnist() -> tuple[Any, Any]:
    from fastnn.datasets import load

    train = load("mnist").train
    return train.x / 255, train.y


def _diabetes() -> tuple[Any, Any]:
    x, y = _of_sklearn("diabetes")()
    return x, (y - y.mean()) / y.std()


CASES: dict[str, Case] = {
    "iris": ("MLPClassifier", _of_sklearn("iris"), {}),
    "wine": ("MLPClassifier", _of_sklearn("wine"), {}),
    "breast cancer": ("MLPClassifier", _of_sklearn("breast_cancer"), {}),
    "diabetes": ("MLPRegressor", _diabetes, {}),
    "digits": ("MLPClassifier", _digits, {}),
    "100,000 x 20, (64, 64)": ("MLPClassifier", _table, {"hidden_layer_sizes": (64, 64), "max_iter": 10}),
    "MNIST, 10 epochs": ("MLPClassifier", _mnist, {"max_iter": 10}),
}


def side(which: str, name: str, dtype: str) -> dict[str, Any]:
    """One process: the fastest of a few fits and predictions, after one that does not count."""
    if which == "fastnn":
        import fastnn as home
    else:
        from sklearn import neural_network as home  # type: ignore[no-redef]
    warnings.simplefilter("ignore")
    kind, load, options = CASES[name]
    x, y = load()
    x = x.astype(dtype)
    estimator = getattr(home, kind)(random_state=0, **options)
    fits, predictions, begin = [], [], time.perf_counter()
    if which == "fastnn":
        few = slice(0, max(200, len(np.unique(y[:200])) * 20))
        getattr(home, kind)(random_state=0, **{**options, "max_iter": 1}).fit(x[few], y[few])  # loads kernels
        getattr(home, kind)(random_state=0, **{**options, "max_iter": 1}).fit(x, y)
    while len(fits) < 2 or (time.perf_counter() - begin < 4 and len(fits) < 10):
        started = time.perf_counter()
        estimator.fit(x, y)
        fits.append(time.perf_counter() - started)
    estimator.predict(x)
    for _ in range(5):
        started = time.perf_counter()
        estimator.predict(x)
        predictions.append(time.perf_counter() - started)
    return {"fit": min(fits), "predict": min(predictions), "score": estimator.score(x, y), "epochs": estimator.n_iter_}


def measure(name: str, dtype: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Both sides in turn; their fastest rounds."""
    best: dict[str, dict[str, Any]] = {}
    for turn in range(rounds):
        for which in ("fastnn", "sklearn") if turn % 2 else ("sklearn", "fastnn"):
            command = [sys.executable, "-m", "bench.estimators", "--side", which, "--dtype", dtype, name]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            got = json.loads(done.stdout)
            held = best.setdefault(which, got)
            for key in ("fit", "predict"):
                held[key] = min(held[key], got[key])
    return best


def row(name: str, dtype: str, best: dict[str, dict[str, Any]]) -> str:
    """A line of the table."""
    theirs, ours = best["sklearn"], best["fastnn"]
    shown = f"{1e3 * ours['fit']:.1f} ms" if ours["fit"] < 1 else f"{ours['fit']:.2f} s"
    scores = "".join(f" {side['score']:.4f} |" for side in (ours, theirs))
    ratios = " | ".join(f"{theirs[key] / ours[key]:.1f}x" for key in ("fit", "predict"))
    return f"| {name} | {dtype} | {ours['epochs']} | {shown} | {ratios} |{scores}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="all of them by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=("float32", "float64"))
    parser.add_argument("--side", choices=("fastnn", "sklearn"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        sys.stdout.write(json.dumps(side(asked.side, asked.cases[0], asked.dtype)))
        return
    lines = [
        "| | number type | epochs | fit | fit, times faster | predict, times faster | score | scikit-learn's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    for name in asked.cases or CASES:
        for dtype in (asked.dtype,) if asked.dtype else ("float64", "float32"):
            lines.append(row(name, dtype, measure(name, dtype, asked.rounds)))
            sys.stdout.write(lines[-1] + "\n")
            sys.stdout.flush()
    if not asked.cases and not asked.dtype:
        before, _, rest = PAGE.read_text("utf-8").partition(_BEGIN)
        PAGE.write_text(f"{before}{_BEGIN}\n" + "\n".join(lines) + f"\n{_END}{rest.partition(_END)[2]}", "utf-8")


if __name__ == "__main__":
    main()
