"""fastnn beside NumPy, scikit-learn, Keras, PyTorch and JAX: the same work, in turn, each in a process of its own.

The peers are no dependency of fastnn; give the Python of an environment that has some of them::

    python -m bench.peers table --python PEERS/bin/python     # the shapes of docs/speed.md, about 20 minutes
    python -m bench.peers grid --python PEERS/bin/python      # batch x width x depth, about 15 minutes
    python -m bench.peers until --python PEERS/bin/python     # time to 98 % from the start of the process
    python -m bench.peers report                              # the tables of the docs and the pictures, from the JSON

Each measurement replaces its part of results.json. What is compared: same data, layers, batch, learning rate, float32,
first weights and number of steps; exact batches, a new shuffle each epoch. The fastest epoch of all rounds counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.peers import harness, report, works

RESULTS = Path(__file__).parent / "results.json"


def measure(chosen: tuple[works.Work, ...], names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Every side's fastest epoch of every work: `rounds` rounds, each with fresh processes."""
    rows: list[dict[str, Any]] = [
        {"work": w.name, "sizes": w.sizes, "batch": w.batch, "data": w.data, "rate": w.rate, "sides": {}}
        for w in chosen
    ]
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        questions = [works.write(work, Path(folder)) for work in chosen]
        for turn in range(options.rounds):
            sides = [s for name in names if (s := harness.start(name, options.python, options.threads))]
            versions.update({side.name: side.version for side in sides})
            for row, question in zip(rows, questions, strict=True):
                for side in sides:
                    answer = side.ask(question)
                    if "error" in answer:
                        sys.stderr.write(f"{row['work']}: {side.name}: {answer['error']}\n")
                        continue
                    held = row["sides"].setdefault(side.name, {"epochs": []})
                    held["epochs"] += [round(s, 5) for s in answer["seconds"]]
                    held.update(seconds=min(held["epochs"]), loss=answer["loss"], accuracy=answer["accuracy"])
                show(turn, row)
            for side in sides:
                side.close()
    return {"threads": options.threads, "rounds": options.rounds, "versions": versions, "rows": rows}


def show(turn: int, row: dict[str, Any]) -> None:
    """One line on stderr: how far we are, and what the ratios look like."""
    mine = row["sides"].get("fastnn", {}).get("seconds", float("nan"))
    cells = [f"{name} {side['seconds'] / mine:.2f}" for name, side in row["sides"].items() if name != "fastnn"]
    sys.stderr.write(f"round {turn + 1}  {row['work']}  {mine:.4f} s  {'  '.join(cells)}\n")


def until(names: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Seconds from the start of a process to 98 % of MNIST's test set; fastnn with nothing compiled, and compiled."""
    rows: dict[str, list[float]] = {}
    epochs: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, harness.fresh_cache() as warm:
        question = {**works.write(works.UNTIL, Path(folder)), "until": works.GOAL}
        harness.once("fastnn", None, options.threads, question, {"FASTNN_CACHE_DIR": warm})
        for _ in range(options.rounds):
            for name in names:
                for shown, env in variants(name, warm, folder):
                    answer = harness.once(name, options.python, options.threads, question, env)
                    if "error" in answer or answer["accuracy"] < works.GOAL:
                        sys.stderr.write(f"{shown}: {answer}\n")
                        continue
                    rows.setdefault(shown, []).append(round(answer["process_seconds"], 3))
                    epochs[shown] = len(answer["seconds"])
                    sys.stderr.write(f"{shown}  {rows[shown][-1]} s  {epochs[shown]} epochs\n")
    best = {name: {"seconds": min(s), "all": s, "epochs": epochs[name]} for name, s in rows.items()}
    return {"threads": options.threads, "goal": works.GOAL, "work": works.UNTIL.name, "sides": best}


def variants(name: str, warm: str, folder: str) -> list[tuple[str, dict[str, str]]]:
    """The ways of starting a side: fastnn with its kernels compiled, and with nothing."""
    if name != "fastnn":
        return [(name, {})]
    cold = tempfile.mkdtemp(dir=folder)
    return [("fastnn", {"FASTNN_CACHE_DIR": warm}), ("fastnn, nothing compiled", {"FASTNN_CACHE_DIR": cold})]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table", "grid", "until", "report"))
    parser.add_argument("--python", help="Python of an environment with the peers")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="*", choices=list(harness.KNOWN), help="all that are installed by default")
    parser.add_argument("--works", type=int, nargs="*", help="only these rows of the table or the grid, from 0")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    held = json.loads(options.results.read_text()) if options.results.exists() else {}
    if options.what == "report":
        report.write(held)
        return
    names = options.sides or list(harness.KNOWN)
    if options.what == "until":
        held["until"] = until(names, options)
    else:
        chosen = works.TABLE if options.what == "table" else works.GRID
        chosen = tuple(chosen[i] for i in options.works) if options.works else chosen
        held[options.what] = measure(chosen, names, options)
    held["machine"] = report.machine()
    options.results.write_text(json.dumps(held, indent=1) + "\n")


if __name__ == "__main__":
    main()
