"""How the time of an epoch depends on batch, width, depth, threads and examples, and a model that explains it.

    python -m bench.scaling            # measure, about three minutes, and draw
    python -m bench.scaling --draw     # only fit and draw what results.json holds

The model of a step is a sum of times, each a count that the code fixes, multiplied by a price that is fitted:
multiply-adds, entries of sparse input brought into lists, bytes of weights that the second-level cache can't keep,
barriers; and a fixed part of each step and of each epoch.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.report import COLOURS, machine
from fastnn.datasets import Dataset, Split, load
from fastnn.datasets.named import find
from fastnn.kernels.inputs import block_density, blocks_of
from fastnn.machine import available_threads
from fastnn.tools.bench import peak_gflops
from fastnn.training.run import Settings, Training

HERE = Path(__file__).resolve().parent
RESULTS, PICTURE = HERE / "results.json", HERE / "scaling.png"
L2_BYTES = 2**20  # of one core, where the results were measured
SWEEPS: dict[str, list[dict[str, Any]]] = {
    "batch": [{"batch": 2**n} for n in range(13)],
    "width": [{"hidden": (2**n,)} for n in range(3, 13)],
    "depth": [{"hidden": (128,) * n} for n in range(1, 9)],
    "threads": [{"threads": t, "hidden": (512, 512)} for t in range(1, available_threads() + 1)],
    "examples": [{"examples": n} for n in (100, 300, 1_000, 3_000, 10_000, 30_000, 60_000)],
}
TITLES = {
    "batch": "batch size, 784-128-10",
    "width": "units of one hidden layer, batch 64",
    "depth": "hidden layers of 128, batch 64",
    "threads": "threads, 784-512-512-10, batch 64",
    "examples": "examples, 784-128-10, batch 64",
}


def data(examples: int) -> Dataset:
    """The first examples of MNIST, or drawn digits where it is not."""
    whole = load("mnist" if find("mnist") else "strokes")
    train = Split(whole.train.x[:examples], whole.train.y[:examples])
    return Dataset("scaling", train, None, whole.classes)


def measure(case: dict[str, Any], held: dict[int, Dataset]) -> dict[str, Any]:
    """Fastest of several epochs of one case."""
    examples = case.get("examples", 20_000)
    dataset = held.setdefault(examples, data(examples))
    run = Training(
        dataset, Settings(case.get("hidden", (128,)), 1_000, case.get("batch", 64), 0.01, threads=case.get("threads"))
    )
    seconds: list[float] = []
    for epoch in run:
        seconds.append(epoch.seconds)
        if len(seconds) > 3 and (sum(seconds) > 1.0 or len(seconds) > 50):
            break
    run.close()
    return {
        "hidden": run.settings.hidden,
        "batch": run.settings.batch_size,
        "threads": run.threads,
        "examples": examples,
        "density": block_density(dataset.train.x[:1_000]),
        "seconds": min(seconds),
    }


def counts(found: dict[str, Any]) -> np.ndarray:
    """What a step does on one thread: multiply-adds, entries, bytes beyond its cache, barriers, itself, its epoch."""
    sizes, batch, threads = [784, *found["hidden"], 10], min(found["batch"], found["examples"]), found["threads"]
    first, *others = (k * h for k, h in zip(sizes[:-1], sizes[1:], strict=True))
    multiply_adds = batch * (2 * found["density"] * first + 3 * sum(others)) / threads
    weights = 4 * sum([first, *others]) / threads
    layers = len(found["hidden"])
    return np.array(
        [
            multiply_adds,
            batch * found["density"] * blocks_of(784),  # every thread makes its own lists
            3 * weights if weights > L2_BYTES else 0.0,  # read forward, read and written backward
            (2 * layers - 1) * (threads > 1),
            1.0,
            1 / -(-found["examples"] // found["batch"]),
        ]
    )


def fit(rows: list[dict[str, Any]]) -> np.ndarray:
    """Prices that make the sum nearest to what was measured, in relative terms; none is negative."""
    from scipy.optimize import nnls

    steps = np.array([-(-row["examples"] // row["batch"]) for row in rows])
    times = np.array([row["seconds"] for row in rows]) / steps
    table = np.array([counts(row) for row in rows]) / times[:, None]
    scale = table.max(axis=0)
    prices, _ = nnls(table / scale, np.ones(len(rows)))
    return prices / scale


def predicted(row: dict[str, Any], prices: np.ndarray) -> float:
    """Seconds of an epoch, by the model."""
    return float(counts(row) @ prices) * -(-row["examples"] // row["batch"])


def draw(held: dict[str, Any]) -> None:
    """Five panels: dots measured, lines by the model; and the prices in words."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot, ticker

    sweeps = held["sweeps"]
    rows = [row for sweep in sweeps.values() for row in sweep]
    prices = fit(rows)
    figure, axes = pyplot.subplots(2, 3, figsize=(11, 6.4), layout="constrained")
    for axis, (name, sweep) in zip(axes.flat, sweeps.items(), strict=False):
        at = [
            len(row["hidden"]) if name == "depth" else row["hidden"][0] if name == "width" else row[name]
            for row in sweep
        ]
        axis.plot(at, [predicted(row, prices) * 1e3 for row in sweep], color=COLOURS[5], label="model")
        axis.plot(at, [row["seconds"] * 1e3 for row in sweep], "o", color=COLOURS[6], label="measured")
        axis.set(xlabel=TITLES[name], ylabel="epoch, ms")
        if name in ("batch", "width", "examples"):
            axis.set(xscale="log", yscale="log")
            for each in (axis.xaxis, axis.yaxis):
                each.set_major_formatter(ticker.StrMethodFormatter("{x:,g}"))
                each.set_minor_formatter(ticker.NullFormatter())
        else:
            axis.set(xticks=at, ylim=(0, None))
        axis.grid(alpha=0.3)
    axes.flat[0].legend()
    errors = np.array([predicted(row, prices) / row["seconds"] - 1 for row in rows])
    words = explain(prices, held["peak_gflops"], errors)
    axes.flat[5].axis("off")
    axes.flat[5].text(0, 0.95, words, va="top", fontsize=10, linespacing=1.6)
    figure.savefig(PICTURE, dpi=110)
    print(words)


def explain(prices: np.ndarray, peak: float, errors: np.ndarray) -> str:
    """The prices in words."""
    flop, entry, byte, barrier, step, epoch = prices
    return "\n".join(
        (
            "A step takes, on each thread,",
            f"{flop * 1e12:.1f} ps a multiply-add ({2e-9 / flop / peak:.0%} of the peak)" if flop else "",
            f"{entry * 1e9:.2f} ns an entry of sparse input",
            f"{byte * 1e12:.0f} ps a byte beyond the cache ({1e-9 / byte:.0f} GB/s)" if byte else "nothing for memory",
            f"{barrier * 1e6:.2f} µs a barrier" if barrier > 5e-9 else "too little for a barrier to be seen",
            f"{step * 1e6:.2f} µs whatever it does,",
            f"and an epoch {epoch * 1e6:.0f} µs more.",
            f"Half of the points lie within {np.median(abs(errors)):.0%},",
            f"nine tenths within {np.quantile(abs(errors), 0.9):.0%}.",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", action="store_true", help="fit and draw what was measured before")
    options = parser.parse_args()
    if not options.draw:
        held: dict[int, Dataset] = {}
        sweeps = {name: [measure(case, held) for case in cases] for name, cases in SWEEPS.items()}
        found = {"machine": machine(), "peak_gflops": peak_gflops(), "sweeps": sweeps}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    draw(json.loads(RESULTS.read_text()))


if __name__ == "__main__":
    main()
