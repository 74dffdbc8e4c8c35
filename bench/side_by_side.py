"""Epochs of fastnn, of the NumPy loop and of PyTorch in turn, each in a process of its own, on the same threads.

PyTorch is no dependency of fastnn: give the Python of an environment that has it, or leave it out::

    python bench/side_by_side.py [--torch /path/to/torch-env/bin/python] [--threads 2] [--rounds 3]

All sides: MNIST, float32, plain SGD, exact batches, a new shuffle each epoch. NumPy is `fastnn.reference`, PyTorch is
eager; both have the data preloaded as float32. The minimum of all epochs counts, ratios are to fastnn's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SHAPES = [
    ((784, 128, 10), 32, 3),
    ((784, 128, 10), 64, 3),
    ((784, 128, 10), 256, 3),
    ((784, 128, 128, 10), 64, 3),
    ((784, 512, 512, 10), 128, 2),
    ((784, 2048, 2048, 10), 256, 1),
]
RATE = 0.05

TORCH = """
import json, sys, time
import numpy as np, torch
torch.set_num_threads(int(sys.argv[2]))
file = np.load(sys.argv[1])
x, y = torch.tensor(file["x"].astype(np.float32) / 255), torch.tensor(file["y"].astype(np.int64))
print("ready", flush=True)
for line in sys.stdin:
    sizes, batch, epochs, rate = json.loads(line)
    layers = []
    for k, h in zip(sizes[:-1], sizes[1:]):
        layers += [torch.nn.Linear(k, h), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers[:-1])
    optimizer, loss_of = torch.optim.SGD(net.parameters(), rate), torch.nn.CrossEntropyLoss()
    seconds, loss = [], 0.0
    for _ in range(epochs):
        begin, total = time.perf_counter(), torch.zeros(())
        order = torch.randperm(len(x))
        for i in range(0, len(x), batch):
            part = order[i : i + batch]
            optimizer.zero_grad()
            loss = loss_of(net(x[part]), y[part])
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(part)
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"seconds": min(seconds), "loss": float(total) / len(x)}), flush=True)
"""

FASTNN = """
import json, sys
import numpy as np
from fastnn.training import Settings, Training, from_arrays
file = np.load(sys.argv[1])
data = from_arrays(file["x"], file["y"])
print("ready", flush=True)
for line in sys.stdin:
    sizes, batch, epochs, rate = json.loads(line)
    run = Training(data, Settings(tuple(sizes[1:-1]), epochs, batch, rate, 0.0, threads=int(sys.argv[2])))
    done = list(run)
    run.close()
    print(json.dumps({"seconds": min(e.seconds for e in done), "loss": done[-1].loss}), flush=True)
"""


NUMPY = """
import json, sys, time
import numpy as np
from fastnn.bench import numpy_epoch
from fastnn.training import from_arrays
file = np.load(sys.argv[1])
data = from_arrays(file["x"], file["y"])
print("ready", flush=True)
for line in sys.stdin:
    sizes, batch, epochs, rate = json.loads(line)
    epoch, seconds = numpy_epoch(data, tuple(sizes), batch, rate), []
    for _ in range(epochs):
        begin = time.perf_counter()
        total, _ = epoch()
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"seconds": min(seconds), "loss": total / len(file["y"])}), flush=True)
"""


def start(python: str, script: str, data: Path, threads: int) -> subprocess.Popen[str]:
    # PyTorch sets its own number; a passive OpenMP wait policy made it three times slower, so none is set
    process = subprocess.Popen(
        [python, "-c", script, str(data), str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": str(threads)},
    )
    assert process.stdout
    process.stdout.readline()  # ready: what is imported and read must not run beside what is timed
    return process


def ask(process: subprocess.Popen[str], question: object) -> dict[str, Any]:
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps(question) + "\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


def main() -> None:
    import tempfile

    import numpy as np

    from fastnn import load_data

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", help="Python of an environment with torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "mnist.npz"
        train = load_data("mnist").train
        np.savez(data, x=train.x, y=train.y)
        scripts = {"fastnn": (sys.executable, FASTNN), "NumPy": (sys.executable, NUMPY)}
        if options.torch:
            scripts["PyTorch"] = (options.torch, TORCH)
        best: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in scripts}
        for _ in range(options.rounds):  # NumPy's epochs differ by half between processes, so each round has new ones
            sides = {name: start(python, script, data, options.threads) for name, (python, script) in scripts.items()}
            for shape, (sizes, batch, epochs) in enumerate(SHAPES):
                for name, process in sides.items():
                    answer = ask(process, (sizes, batch, epochs, RATE))
                    if answer["seconds"] < best[name].get(shape, answer)["seconds"] or shape not in best[name]:
                        best[name][shape] = answer
            for process in sides.values():
                process.communicate()
    print(f"| layers, batch | {' | '.join(scripts)} | loss: {', '.join(scripts)} |\n|---|{'---|' * (len(scripts) + 1)}")
    for shape, (sizes, batch, _) in enumerate(SHAPES):
        answers = [best[name][shape] for name in scripts]
        cells = [f"{a['seconds']:.3f} s ({a['seconds'] / answers[0]['seconds']:.1f}x)" for a in answers]
        losses = ", ".join(f"{a['loss']:.3f}" for a in answers)
        print(f"| {'-'.join(map(str, sizes))}, {batch} | {' | '.join(cells)} | {losses} |")


if __name__ == "__main__":
    main()
