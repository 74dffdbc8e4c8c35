"""One self-contained HTML file about a model: its training, its mistakes, its confidence. Nothing in it runs."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from fastnn.evaluation import plots
from fastnn.evaluation.predictions import Predictions
from fastnn.model.model import Model, evaluation

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
h1 {{ font-size: 1.6rem }} h2 {{ font-size: 1.2rem; margin-top: 2.5rem }}
img {{ max-width: 100%; height: auto }} figure {{ margin: 1rem 0 }} figcaption {{ color: #555 }}
table {{ border-collapse: collapse }} td, th {{ padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top }}
th {{ font-weight: 600 }}
@media (prefers-color-scheme: dark) {{ body {{ background: #1b1b1b; color: #ddd }} figcaption {{ color: #aaa }}
img {{ background: #fff; border-radius: 4px }} }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


def report_page(
    model: Model,
    predictions: Predictions,
    name: str,
    curves: Mapping[str, Sequence[float]] | None = None,
    shape: tuple[int, int] | None = None,
) -> str:
    """The report.

    Parameters
    ----------
    model : Model
    predictions : Predictions
        Of the model.
    name : str
        Of its file.
    curves : mapping, optional
        What changed from epoch to epoch, see `fastnn.training.run.curves`.
    shape : tuple of int, optional
        Height and width, where the model takes pictures.
    """
    figures = []
    if curves:
        figures.append(("Training", plots.history({name: curves}), "Loss, accuracy and learning rate by epoch."))
    figures.append(
        ("What is taken for what", plots.confusion(predictions.confusion, predictions.classes), "Row the true class.")
    )
    figures.append(
        (
            "How far it can be believed",
            plots.calibration(predictions.probabilities, predictions.labels),
            "15 bins of confidence.",
        )
    )
    mean = plots.confidence(predictions.mean_confidence(), "mean probability of the true class")
    figures.append(("Class by class", mean, "The higher, the surer and the more often right."))
    if predictions.image_shape:
        for which, title in (("wrong", "Wrong, and sure of it"), ("least-confident", "Least sure")):
            rows = predictions.chosen(which, 32)
            if len(rows):
                parts = (
                    predictions.probabilities[rows],
                    predictions.labels[rows],
                    predictions.classes,
                    min(8, len(rows)),
                )
                figures.append(
                    (title, plots.predictions(predictions.pictures(rows), *parts), "What was read, how surely.")
                )
    if shape:
        first = model.parameters[0][: shape[0] * shape[1]]
        figures.append(
            ("What the first layer looks for", plots.first_weights(first, shape), "Orange against, purple for.")
        )
    body = [
        _table(_summary(model, predictions)),
        *(_section(title, plots.save(drawn), said) for title, drawn, said in figures),
        _settings(model),
    ]
    return _PAGE.format(title=escape(name), body="\n".join(body))


def _summary(model: Model, predictions: Predictions) -> dict[str, str]:
    z = np.log(np.maximum(predictions.probabilities, 1e-300))
    result = evaluation(z, predictions.labels, predictions.classes)
    unsure = float((predictions.confidence < model.unsure_below).mean())
    data, history = model.description.data, model.description.history
    return {
        "right": f"{result.accuracy:.2%} of {result.examples:,} {predictions.part} examples",
        "mean loss": f"{result.loss:.4f}",
        "calibration error": f"{result.calibration_error:.2%}",
        "called unsure": f"{unsure:.2%} (below {model.unsure_below:.0%})",
        "layers": str(model.network),
        "parameters": f"{model.network.parameter_count:,}",
        "trained on": f"{_or_unknown(data.name)}, {_or_unknown(data.examples)} examples",
        "epochs": _or_unknown(history.epochs),
        "SHA-256 of the parameters": model.sha256,
    }


def _or_unknown(value: object) -> str:
    return "unknown" if value is None else str(value)


def _settings(model: Model) -> str:
    training = model.description.training
    if not training:
        return ""
    return f"<h2>Settings</h2>\n{_table({str(key): str(value) for key, value in training.items()})}"


def _table(rows: Mapping[str, str]) -> str:
    lines = "\n".join(f"<tr><th>{escape(key)}<td>{escape(value)}" for key, value in rows.items())
    return f"<table>\n{lines}\n</table>"


def _section(title: str, png: bytes, caption: str) -> str:
    content = base64.b64encode(png).decode()
    image = f'<img alt="{escape(title)}" src="data:image/png;base64,{content}">'
    return f"<h2>{escape(title)}</h2>\n<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"
