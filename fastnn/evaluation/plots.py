"""Pictures of runs and predictions, drawn with matplotlib (the extra `plot`), without a screen.

Every function takes plain numbers and returns a figure; `save` writes it. Colours are told apart by everybody (Okabe
and Ito 2008, and viridis).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.distribution import to_install
from fastnn.errors import MissingExtraError
from fastnn.model.calibration import reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
RIGHT, WRONG = COLOURS[0], COLOURS[1]
_FAINT = 0.3  # exponent of the colours of a confusion: rare mistakes show
_STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "axes.titlesize": 12,
    "legend.frameon": False,
}


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(f"plots need matplotlib: {to_install('plot')}") from error
    with rc_context(_STYLE):
        return Figure((width, height), layout="constrained")


def save(figure: Figure, kind: str = "png") -> bytes:
    """The figure as a file: png, svg or pdf."""
    from matplotlib import rc_context

    out = io.BytesIO()
    with rc_context({**_STYLE, "svg.hashsalt": "fastnn"}):
        figure.savefig(out, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def _axes(figure: Figure, rows: int = 1, columns: int = 1, **options: Any) -> list[Axes]:
    from matplotlib import rc_context

    with rc_context(_STYLE):
        return list(np.ravel(figure.subplots(rows, columns, **options)))


def history(runs: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Loss, accuracy and learning rate by epoch; several runs in one figure.

    Parameters
    ----------
    runs : mapping of str to mapping
        For each name, columns as `fastnn.training.run.curves` gives them.
    """
    panels = [
        ("loss", "loss", "validation_loss"),
        ("accuracy", "accuracy", "validation_accuracy"),
        ("learning rate", "learning_rate", None),
    ]
    panels = [panel for panel in panels if any(panel[1] in run for run in runs.values())]
    figure = _figure(4.2 * len(panels), 3.6)
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    for axes, (title, key, watched) in zip(_axes(figure, 1, len(panels)), panels, strict=True):
        for colour, (name, run) in zip(_cycle(len(runs)), runs.items(), strict=True):
            if key not in run:
                continue
            said = name if len(runs) > 1 else "training"
            few = len(run["epoch"]) < 3
            axes.plot(run["epoch"], run[key], color=colour, label=said, marker="o" if few else None)
            if watched and watched in run:
                label = f"{name}, validation" if len(runs) > 1 else "validation"
                axes.plot(run["epoch"], run[watched], color=colour, linestyle="--", label=label)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        if key == "loss":
            axes.set_yscale("log")
        if key == "accuracy":
            axes.yaxis.set_major_formatter(PercentFormatter(1))
        if len(axes.lines) > 1:
            axes.legend(fontsize=9)
    return figure


def _cycle(count: int) -> list[str]:
    return [COLOURS[n % len(COLOURS)] for n in range(count)]


def confusion(counts: np.ndarray, classes: Sequence[str]) -> Figure:
    """True class by predicted class; the colour is the share of the true class, on a scale that shows rare mistakes.

    Parameters
    ----------
    counts : ndarray (C, C)
        Row the true class, column the predicted one.
    classes : sequence of str
    """
    n = len(classes)
    side = max(4.5, 0.52 * n + 1.5)
    figure = _figure(side + 0.8, side)
    from matplotlib.colors import PowerNorm

    (axes,) = _axes(figure)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="viridis", norm=PowerNorm(_FAINT, 0, 1))
    axes.grid(False)
    for at, axis in ((0, axes.xaxis), (1, axes.yaxis)):
        axis.set_ticks(range(n), [_short(name) for name in classes], rotation=0 if at or _narrow(classes) else 60)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if n <= 30:
        for row, column in np.ndindex(n, n):
            if counts[row, column]:
                light = shares[row, column] ** _FAINT < 0.6
                axes.text(
                    *(column, row, f"{counts[row, column]:,}"),
                    ha="center", va="center", fontsize=8, color="white" if light else "black",
                )  # fmt: skip
    right = counts.diagonal().sum() / max(1, counts.sum())
    axes.set_title(f"{right:.2%} of {counts.sum():,} right")
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the true class", ticks=[0, 0.01, 0.1, 0.3, 1])
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"


def _narrow(classes: Sequence[str]) -> bool:
    return max(len(name) for name in classes) <= 3


def predictions(
    pictures: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], across: int
) -> Figure:
    """A grid of pictures with what was read and how sure that is; wrong ones in another colour, with what they are.

    Parameters
    ----------
    pictures : ndarray (N, height, width) or (N, height, width, 3)
    probabilities : ndarray (N, C)
    labels : ndarray (N,)
    classes : sequence of str
    across : int
        Pictures in a row.
    """
    down = -(-len(pictures) // across)
    figure = _figure(1.15 * across, 1.45 * down + 0.1)
    for axes in _axes(figure, down, across, squeeze=False):
        axes.axis("off")
    for axes, picture, p, label in zip(figure.axes, pictures, probabilities, labels, strict=False):
        best = int(p.argmax())
        axes.imshow(picture, cmap="gray_r", interpolation="nearest")
        truth = "" if best == label else f"\nis {_short(classes[label])}"
        colour = RIGHT if best == label else WRONG
        axes.set_title(f"{_short(classes[best])}  {p[best]:.0%}{truth}", fontsize=9, color=colour)
    return figure


def confidence(probabilities: Mapping[str, float], title: str, best: str | None = None) -> Figure:
    """A bar for each class, 0 to 1; the best in colour among grey ones, where there is one."""
    figure = _figure(5.5, 0.32 * len(probabilities) + 1)
    (axes,) = _axes(figure)
    names = list(probabilities)
    values = [probabilities[name] for name in names]
    axes.barh(names, values, color=["#999999" if best not in (None, name) else RIGHT for name in names])
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.grid(False, axis="y")
    axes.set_axisbelow(True)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    for n, value in enumerate(values):
        axes.text(value + 0.01, n, f"{value:.1%}", va="center", fontsize=9)
    axes.set_title(title)
    return figure


def calibration(probabilities: np.ndarray, labels: np.ndarray) -> Figure:
    """How often answers of each confidence are right, and how many there are; on the diagonal when calibrated.

    Parameters
    ----------
    probabilities : ndarray (N, C)
    labels : ndarray (N,)
    """
    bins = reliability(probabilities, labels)
    figure = _figure(5, 5.4)
    upper, lower = _axes(figure, 2, 1, height_ratios=[3, 1], sharex=True)
    edges = np.linspace(0, 1, len(bins.counts) + 1)
    there = bins.counts > 0
    upper.plot([0, 1], [0, 1], color="#999999", linestyle="--", label="perfectly calibrated")
    upper.plot(bins.confidence[there], bins.accuracy[there], color=RIGHT, marker="o", label="found")
    upper.set_ylabel("share right")
    upper.set_ylim(0, 1.03)
    upper.legend(loc="upper left")
    upper.set_title(f"calibration error {bins.error:.2%}")
    lower.bar(edges[:-1], bins.counts, np.diff(edges), align="edge", color=RIGHT, edgecolor="white")
    lower.set_yscale("log")
    lower.set_ylabel("answers")
    lower.set_xlabel("confidence")
    return figure


def first_weights(weights: np.ndarray, shape: tuple[int, int], most: int = 100) -> Figure:
    """What the units of the first layer look for: their weights as pictures, those of the largest norm first.

    Parameters
    ----------
    weights : ndarray (D, H)
    shape : tuple of int
        Height and width, D of them.
    most : int
        Units shown.
    """
    order = np.argsort(-np.linalg.norm(weights, axis=0), kind="stable")[:most]
    across = min(len(order), 16 if len(order) > 60 else 10)
    down = -(-len(order) // across)
    figure = _figure(0.62 * across + 0.3, 0.62 * down + 0.5)
    figure.suptitle(f"first layer, {len(order)} of {weights.shape[1]} units", fontsize=11)
    for axes in _axes(figure, down, across, squeeze=False):
        axes.axis("off")
    for axes, unit in zip(figure.axes, order, strict=False):
        picture = weights[:, unit].reshape(shape)
        most_weight = float(np.abs(picture).max()) or 1.0
        axes.imshow(picture, cmap="PuOr", vmin=-most_weight, vmax=most_weight, interpolation="nearest")
    return figure
