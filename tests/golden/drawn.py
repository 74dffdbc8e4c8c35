"""Make drawn.npz: digits drawn by program as the means of blocks, to notice when a form or a range changes.

python tests/golden/drawn.py      (after a change that is meant: nets trained on them change with it)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastnn.datasets import draw

FILE = Path(__file__).with_name("drawn.npz")
COUNT = 400  # so that each form occurs


def means(x: np.ndarray) -> np.ndarray:
    """Pixels (N, 784) → means of blocks of 4 x 4    (N, 7, 7)"""
    return x.reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4))


if __name__ == "__main__":
    x, y = draw(COUNT)
    np.savez_compressed(FILE, means=np.rint(means(x)).astype(np.uint8), labels=y)
