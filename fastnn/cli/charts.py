"""Plots of characters, for a look without matplotlib: lines as sparks, shares as bars, pictures as half blocks."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np

from fastnn.cli.display import bar, can_draw, table
from fastnn.errors import printable
from fastnn.evaluation.predictions import Predictions
from fastnn.model.calibration import reliability

_SPARKS = "▁▂▃▄▅▆▇█"
_WIDTH = 60


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """A line of characters as high as the values, lowest to highest."""
    places = np.unique(np.linspace(0, len(values) - 1, min(width, len(values))).round().astype(int))
    shown = np.asarray(values, float)[places]
    low, high = float(shown.min()), float(shown.max())
    if not can_draw(sys.stdout):
        return " ".join(f"{value:.3g}" for value in shown[:: max(1, len(shown) // 8)])
    heights = np.zeros(len(shown)) if high == low else (shown - low) / (high - low) * (len(_SPARKS) - 1)
    return "".join(_SPARKS[round(height)] for height in heights)


def history(runs: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """A spark line for each curve of each run, with its first and last value."""
    lines = []
    for name, run in runs.items():
        lines.append(f"{printable(name)}, {run['epoch'][-1]:,} epochs")
        for key, values in run.items():
            if key == "epoch":
                continue
            shown = [f"{v:.2%}" if "accuracy" in key else f"{v:.4g}" for v in (values[0], values[-1])]
            lines.append(f"  {key.replace('_', ' '):<20} {shown[0]:>8} {sparkline(values)} {shown[1]}")
    return "\n".join(lines)


def half_blocks(picture: np.ndarray) -> list[str]:
    """A picture (height, width), ink high, as lines of characters, two pixels each."""
    top = float(picture.max()) or 1.0
    ink = np.asarray(picture, float) / top > 0.4
    ink = np.pad(ink, ((0, len(ink) % 2), (0, 0)))
    marks = " ▄▀█" if can_draw(sys.stdout) else " .'#"
    return [
        "".join(marks[2 * a + b] for a, b in zip(*pair, strict=True)) for pair in zip(ink[::2], ink[1::2], strict=True)
    ]


def pictures(predictions: Predictions, rows: np.ndarray) -> str:
    """Pictures with what was read, and what they are where that was wrong."""
    shown, titles = predictions.pictures(rows), list[str]()
    columns = predictions.predicted[rows], predictions.labels[rows], predictions.confidence[rows]
    for said, true, sure in zip(*columns, strict=True):
        wrong = "" if said == true else f", is {printable(predictions.classes[true])}"
        titles.append(f"{printable(predictions.classes[said])} {sure:.0%}{wrong}")
    return _grid(shown if shown.ndim == 3 else shown.mean(axis=-1), titles)


def calibration(predictions: Predictions) -> str:
    """How often answers of each confidence are right."""
    bins = reliability(predictions.probabilities, predictions.labels)
    rows = []
    for place, count in enumerate(bins.counts):
        if count:
            said = f"{place / len(bins.counts):.0%} to {(place + 1) / len(bins.counts):.0%}"
            right = float(bins.accuracy[place])
            rows.append([said, f"{count:,}", f"{bins.confidence[place]:.1%}", f"{right:.1%}", bar(right, 20)])
    text = table(["confidence", "answers", "mean", "right", ""], rows, right=(1, 2, 3))
    return f"{text}\ncalibration error {bins.error:.2%}"


def first_weights(weights: np.ndarray, shape: tuple[int, int], most: int = 8) -> str:
    """Where the units of the largest weights want ink."""
    order = np.argsort(-np.linalg.norm(weights, axis=0), kind="stable")[:most]
    pictures = np.maximum(weights[:, order].T.reshape(-1, *shape), 0)
    return _grid(pictures, [f"unit {unit}" for unit in order])


def _grid(pictures: np.ndarray, titles: Sequence[str], across: int = 4) -> str:
    """Pictures (N, height, width) side by side, each below its title."""
    wide, lines = pictures.shape[2], list[str]()
    for first in range(0, len(pictures), across):
        part = slice(first, first + across)
        rows = zip(*(half_blocks(picture) for picture in pictures[part]), strict=True)
        lines.append("  ".join(title[:wide].ljust(wide) for title in titles[part]).rstrip())
        lines += [*("  ".join(row).rstrip() for row in rows), ""]
    return "\n".join(lines).rstrip()
