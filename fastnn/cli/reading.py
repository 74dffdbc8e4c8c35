"""Reading pictures for the command: what is said about each, and the pictures about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn.cli import display
from fastnn.cli.display import print_json, say
from fastnn.errors import printable
from fastnn.files import atomic_write

if TYPE_CHECKING:
    import numpy as np

    from fastnn.model.model import Model, Prediction


@dataclass(frozen=True)
class Asked:
    """How many classes are shown, whether a picture holds several digits, where pictures about it go, and the form."""

    top: int | None = None
    many: bool = False
    annotate: Path | None = None
    explain: Path | None = None
    as_json: bool = False
    chart: bool = True


def read_picture(model: Model, path: Path, asked: Asked) -> None:
    """Read one picture and say what it shows."""
    shown = printable(path)
    if asked.many:
        lines = model.predict_digits(path)
        predictions = [one for line in lines for one in line]
        if asked.as_json:
            print_json({"image": str(path), "lines": [[_placed(a, asked.top) for a in line] for line in lines]})
        else:
            say(display.page(lines, shown, asked.top))
    else:
        steps: list[tuple[str, np.ndarray]] = []
        one = model.predict_image(path, (lambda name, step: steps.append((name, step))) if asked.explain else None)
        predictions = [one]
        if asked.as_json:
            print_json({"image": one.image, **_event(one, asked.top)})
        else:
            say(display.prediction(one, shown, asked.top, asked.chart))
        if asked.explain:
            from fastnn.images import strip

            _write(asked.explain, strip(steps))
    if asked.annotate:
        _write(asked.annotate, _annotated(path, predictions))


def _event(one: Prediction, top: int | None) -> dict[str, Any]:
    """One answer for JSON; what there is nothing to say about is left out."""
    best = sorted(one.probabilities.items(), key=lambda item: -item[1])[:top]
    keep = {name for name, _ in best}
    event: dict[str, Any] = {
        "label": one.label,
        "verdict": one.verdict,
        "confidence": one.confidence,
        "probabilities": {k: v for k, v in one.probabilities.items() if k in keep},
    }
    if one.warning:
        event["warning"] = one.warning
    return event


def _placed(one: Prediction, top: int | None) -> dict[str, Any]:
    """One of several predictions, with its place in the picture."""
    return {**_event(one, top), "box": [round(n, 5) for n in one.box or ()]}


def _annotated(path: Path, predictions: list[Prediction]) -> bytes:
    from fastnn.images import Mark, annotated, read

    whole = (0.02, 0.02, 0.98, 0.98)  # of a picture that came through as it is
    marks = [
        Mark(one.box or whole, f"{one.label} {one.confidence:.0%}", one.verdict == "sure")
        for one in predictions
        if one.verdict != "nothing"
    ]
    return annotated(read(path), marks)


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)
