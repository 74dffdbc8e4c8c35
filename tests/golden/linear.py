"""Make linear.pt: a state dict as PyTorch itself saves it, and what it answers, to check the reader against.

python tests/golden/linear.py      (in an environment with PyTorch)
"""

from __future__ import annotations

import json
from pathlib import Path

if __name__ == "__main__":
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    here = Path(__file__).parent
    torch.save(model.state_dict(), here / "linear.pt")
    x = torch.linspace(-1, 1, 24).reshape(4, 6)
    (here / "linear.json").write_text(json.dumps({"x": x.tolist(), "z": model(x).tolist()}))
