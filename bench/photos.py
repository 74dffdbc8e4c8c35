"""How many digits of MNIST are read from photos, prepared as `predict` does and merely shrunk; and clean ones.

python -m bench.photos                  (2,000 of the test set: the numbers of docs/photos.md; two minutes)
python -m bench.photos train 4000       (what the recipe was tuned on)
"""

from __future__ import annotations

import sys
import time

import numpy as np

import fastnn
from fastnn.images import decode, prepare_digit
from tests.photos import degraded, shrunk


def main() -> None:
    part, count = (sys.argv[1:] + ["test", "2000"][len(sys.argv) - 1 :])[:2]
    data, model = fastnn.load_data("mnist"), fastnn.load()
    split = data.test if part == "test" else data.train
    assert split
    x, y = split.x[: int(count)], split.y[: int(count)]
    ways: dict[str, list[np.ndarray]] = {"shrunk": [], "prepared": [], "clean": [], "clean, prepared": []}
    seconds = 0.0
    for n, pixels in enumerate(x):
        photo = degraded(pixels.reshape(28, 28), n)
        begin = time.perf_counter()
        ways["prepared"].append(prepare_digit(decode(photo.content)).pixels.reshape(-1))
        seconds += time.perf_counter() - begin
        ways["shrunk"].append(shrunk(photo).reshape(-1))
        ways["clean"].append(pixels)
        ways["clean, prepared"].append(prepare_digit(pixels.reshape(28, 28).astype(np.float32) / 255).pixels.ravel())
    for name, rows in ways.items():
        right = float((model.predict(np.array(rows), engine="kernels") == y).mean())
        print(f"{name:<16} {right:7.2%} of {len(y):,} of MNIST's {part} set")
    print(f"a photo takes {1e3 * seconds / len(y):.0f} ms to decode and prepare")


if __name__ == "__main__":
    main()
