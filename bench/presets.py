"""How well the presets read their test set: mean and standard deviation over seeds, calibration, what is unsure.

python bench/presets.py quick good fashion --seeds 5      (the table of docs/presets.md; best takes half an hour a seed)
python bench/presets.py --config my.toml --seeds 3        (settings of your own)
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from fastnn import load_data
from fastnn.datasets import Dataset
from fastnn.training import configuration
from fastnn.training.run import Training
from fastnn.training.settings import Settings


def one(data: Dataset, settings: Settings) -> dict[str, float]:
    """What a run comes to on the test set, in percent; and the seconds of training."""
    assert data.test
    run = Training(data, settings)
    seconds = sum(epoch.seconds for epoch in run)
    model = run.model()
    run.close()
    found, p = model.evaluate(data.test), model.predict_proba(data.test.x, engine="kernels")
    unsure, wrong = p.max(axis=1) < model.unsure_below, p.argmax(axis=1) != data.test.y
    assert found.accuracy is not None and found.calibration_error is not None
    return {
        "accuracy": 100 * found.accuracy,
        "calibration error": 100 * found.calibration_error,
        "unsure": 100 * unsure.mean(),
        "of the wrong, unsure": 100 * (unsure & wrong).sum() / wrong.sum(),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=["quick"])
    parser.add_argument("--config", type=Path)
    parser.add_argument("--data", help="instead of the preset's own, or mnist")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    for name in [asked.config] if asked.config else asked.presets:
        chosen = configuration.read(name) if asked.config else configuration.preset(name)
        data = load_data(asked.data or chosen.data or "mnist")
        rows = []
        for seed in range(asked.seeds):
            rows.append(one(data, replace(chosen.settings, seed=seed)))
            print(f"{name} {seed}: " + ", ".join(f"{key} {value:.2f}" for key, value in rows[-1].items()), flush=True)
        for key in rows[0]:
            values = [row[key] for row in rows]
            spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
            print(f"{name}, {len(rows)} seeds: {key} {np.mean(values):.2f}{spread}, median {np.median(values):.2f}")


if __name__ == "__main__":
    main()
