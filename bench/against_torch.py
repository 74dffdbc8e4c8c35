"""Epochs of fastnn and of PyTorch in turn, each in a process of its own, on the same threads.

PyTorch is no dependency of fastnn: give the Python of an environment that has it::

    python bench/against_torch.py /path/to/torch-env/bin/python [--threads 2] [--rounds 3]

Both sides: MNIST, float32, plain SGD, exact batches, a new shuffle each epoch; PyTorch eager with the data preloaded
as float32 tensors. The minimum of all epochs counts. Beside it the loss after the same number of epochs.
"""

from __future__ import annotations

import argparse
import json
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
for line in sys.stdin:
    sizes, batch, epochs, rate = json.loads(line)
    run = Training(data, Settings(tuple(sizes[1:-1]), epochs, batch, rate, 0.0, threads=int(sys.argv[2])))
    done = list(run)
    run.close()
    print(json.dumps({"seconds": min(e.seconds for e in done), "loss": done[-1].loss}), flush=True)
"""


def start(python: str, script: str, data: Path, threads: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [python, "-c", script, str(data), str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


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
    parser.add_argument("python", help="Python of an environment with torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "mnist.npz"
        train = load_data("mnist").train
        np.savez(data, x=train.x, y=train.y)
        sides = {
            "torch": start(options.python, TORCH, data, options.threads),
            "fastnn": start(sys.executable, FASTNN, data, options.threads),
        }
        print("| layers, batch | torch | fastnn | ratio | loss torch | loss fastnn |\n|---|---|---|---|---|---|")
        for sizes, batch, epochs in SHAPES:
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
            for _ in range(options.rounds):
                for name, process in sides.items():
                    found[name].append(ask(process, (sizes, batch, epochs, RATE)))
            best = {name: min(answer["seconds"] for answer in answers) for name, answers in found.items()}
            loss = {name: answers[-1]["loss"] for name, answers in found.items()}
            print(
                f"| {'-'.join(map(str, sizes))}, {batch} | {best['torch']:.3f} s | {best['fastnn']:.4f} s "
                f"| {best['torch'] / best['fastnn']:.1f} | {loss['torch']:.3f} | {loss['fastnn']:.3f} |",
                flush=True,
            )
        for process in sides.values():
            assert process.stdin
            process.stdin.close()
            process.wait()


if __name__ == "__main__":
    main()
