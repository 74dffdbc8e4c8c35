"""PyTorch: `eager` with preloaded tensors, `DataLoader` with a loader in front, `compile` with the net compiled."""

from __future__ import annotations

import sys

import torch
from serve import Data, Work, serve, threads
from torch.utils.data import DataLoader, TensorDataset

MODE = sys.argv[1]
torch.set_num_threads(threads())


def make(data: Data, work: Work):  # type: ignore[no-untyped-def]
    torch._dynamo.reset()
    x, y = torch.tensor(data.x), torch.tensor(data.y, dtype=torch.int64)
    layers: list[torch.nn.Module] = []
    for k, h in zip(work.sizes[:-1], work.sizes[1:], strict=True):
        layers += [torch.nn.Linear(k, h), torch.nn.ReLU()]
    plain = torch.nn.Sequential(*layers[:-1])
    with torch.no_grad():
        for parameter, first in zip(plain.parameters(), data.start, strict=True):
            parameter.copy_(torch.tensor(first.T))
    net = torch.compile(plain) if MODE == "compile" else plain
    optimizer, loss_of = torch.optim.SGD(net.parameters(), work.rate), torch.nn.CrossEntropyLoss()
    loader = DataLoader(TensorDataset(x, y), work.batch, shuffle=True)

    def batches():  # type: ignore[no-untyped-def]
        if MODE == "DataLoader":
            yield from loader
            return
        for part in torch.randperm(len(x)).split(work.batch):
            yield x[part], y[part]

    def epoch() -> float:
        total = torch.zeros(())
        for x_part, y_part in batches():
            optimizer.zero_grad()
            loss = loss_of(net(x_part), y_part)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(y_part)
        return float(total) / len(x)

    def accuracy() -> float:
        with torch.inference_mode():
            return float((plain(torch.tensor(data.x_test)).argmax(1) == torch.tensor(data.y_test)).double().mean())

    return epoch, accuracy


serve(make, torch.__version__)
