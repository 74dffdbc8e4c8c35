"""Make optimizers.json: 50 steps of PyTorch's own optimizers, whose rules ours follow.

python tests/golden/optimizers.py > tests/golden/optimizers.json      (in an environment with PyTorch)
"""

from __future__ import annotations

import json
import math

STEPS = 50
START = [0.5, -1.25, 2.0, 0.03125, -0.75, 1.5, -3.0]
CASES = {
    "sgd": ("SGD", {"lr": 0.05}),
    "sgd, l2": ("SGD", {"lr": 0.05, "weight_decay": 0.1}),
    "momentum": ("SGD", {"lr": 0.02, "momentum": 0.9}),
    "nesterov": ("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True}),
    "nesterov, l2": ("SGD", {"lr": 0.02, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    "adam": ("Adam", {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8}),
    "adam, l2": ("Adam", {"lr": 0.03, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}),
    "adamw": ("AdamW", {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}),
    "rmsprop": ("RMSprop", {"lr": 0.01, "alpha": 0.99, "eps": 1e-8}),
}


def gradient(p: list[float], step: int) -> list[float]:
    """A slope towards 0, and something that changes from step to step."""
    return [(i + 1) * value / 10 + math.cos(step + i) for i, value in enumerate(p)]


if __name__ == "__main__":
    import torch

    found: dict[str, object] = {"made by": f"PyTorch {torch.__version__}"}
    for dtype in ("float64", "float32"):
        for name, (kind, options) in CASES.items():
            p = torch.tensor(START, dtype=getattr(torch, dtype), requires_grad=True)
            optimizer = getattr(torch.optim, kind)([p], **options)
            for step in range(STEPS):
                p.grad = torch.tensor(gradient(p.tolist(), step), dtype=p.dtype)
                optimizer.step()
            found[f"{name}, {dtype}"] = p.tolist()
        p = torch.tensor(START, dtype=getattr(torch, dtype), requires_grad=True)
        p.grad = torch.tensor(gradient(START, 3), dtype=p.dtype)
        torch.nn.utils.clip_grad_norm_([p], 0.5)
        found[f"clipped, {dtype}"] = p.grad.tolist()
        rows = torch.tensor([START, [v / 4 for v in START]], dtype=p.dtype)
        found[f"renorm, {dtype}"] = torch.renorm(rows, 2, 0, 2.0).tolist()
    print(json.dumps(found, indent=1))
