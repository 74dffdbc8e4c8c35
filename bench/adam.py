"""An epoch of Adam beside PyTorch's own: 784-128-10, batch 64, the same data, in turn.

python bench/adam.py --torch PYTHON      (an interpreter that has PyTorch; fastnn's own runs this)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EPOCHS, BATCH, RATE = 4, 64, 0.001


def torch_side(folder: str) -> None:
    """Epochs of eager PyTorch on 2 threads; prints seconds of each."""
    import torch

    torch.set_num_threads(2)
    x = torch.from_numpy(np.load(Path(folder, "x.npy"))).float() / 255
    y = torch.from_numpy(np.load(Path(folder, "y.npy"))).long()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    found: dict[str, list[float]] = {}
    for name, options in {"foreach": {"foreach": True}, "fused": {"fused": True}}.items():
        optimizer, seconds = torch.optim.Adam(model.parameters(), lr=RATE, **options), []
        for _ in range(EPOCHS):
            begin = time.perf_counter()
            order = torch.randperm(len(x))
            for first in range(0, len(x), BATCH):
                rows = order[first : first + BATCH]
                optimizer.zero_grad(set_to_none=True)
                torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
            seconds.append(time.perf_counter() - begin)
        found[name] = seconds
    print(json.dumps(found))


def main() -> None:
    """Both sides in turn, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    from fastnn.datasets import load
    from fastnn.training.run import Training
    from fastnn.training.settings import Settings

    data = load("mnist")
    ours: list[float] = []
    theirs: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "x.npy"), data.train.x)
        np.save(Path(folder, "y.npy"), data.train.y)
        for _ in range(asked.rounds):
            run = Training(data, Settings((128,), EPOCHS, BATCH, optimizer="adam", schedule="constant"))
            ours += [epoch.seconds for epoch in run]
            run.close()
            side = subprocess.run(
                [asked.torch, __file__, "--side", folder], capture_output=True, text=True, check=True
            ).stdout
            for name, seconds in json.loads(side).items():
                theirs.setdefault(name, []).extend(seconds)
    print(f"fastnn {min(ours) * 1e3:.1f} ms")
    for name, seconds in theirs.items():
        print(f"torch, {name} {min(seconds) * 1e3:.1f} ms: {min(seconds) / min(ours):.1f}x")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        torch_side(sys.argv[2])
    else:
        main()
