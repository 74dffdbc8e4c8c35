"""`fastnn plot …` and `fastnn report`: pictures of runs and predictions, or the same in characters."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastnn.cli import display
from fastnn.cli.display import note, say
from fastnn.cli.options import DataOption, LabelOption, TestOption, WeightsOption, check_out, share_or_place
from fastnn.errors import DataError, MissingExtraError, UsageError, printable
from fastnn.files import atomic_write

if TYPE_CHECKING:
    from fastnn.evaluation.predictions import Predictions
    from fastnn.model.model import Model

plot = typer.Typer(help="Pictures of runs and predictions: PNG, SVG or PDF; or --text.", no_args_is_help=True)

OutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="File to write, .png, .svg or .pdf; named after the plot by default.")
]
TextOption = Annotated[bool, typer.Option("--text", help="Show it in the terminal; needs no matplotlib.")]
RunsArgument = Annotated[
    list[Path], typer.Argument(help="Model files, or what train --json printed.", metavar="RUN...", show_default=False)
]
_KINDS = ("png", "svg", "pdf")
_COLUMNS = ("epoch", "loss", "accuracy", "learning_rate", "validation_loss", "validation_accuracy")


class SplitName(StrEnum):
    """Which part of a data set."""

    test = "test"
    train = "train"


SplitOption = Annotated[
    SplitName | None, typer.Option(help="Which examples; test by default, or train where there are no others.")
]


def _show(name: str, out: Path | None, text: bool, chart: Callable[[Any], str], figure: Callable[[Any], Any]) -> None:
    """Say it in characters where that was asked for; else write the figure, and say where.

    `chart` and `figure` are given the module that draws them, which is imported no sooner.
    """
    if text:
        from fastnn.cli import charts

        say(chart(charts))
        return
    from fastnn.evaluation import plots

    out = out or Path(f"{name}.png")
    kind = _kind_of(out)
    try:
        content = plots.save(figure(plots), kind)
    except MissingExtraError as error:
        raise UsageError(f"{error}. Or take --text for a plot in the terminal") from error
    with atomic_write(out) as file:
        file.write(content)
    say(f"{printable(out)}")


def _kind_of(out: Path) -> str:
    kind = out.suffix.lower().removeprefix(".")
    if kind not in _KINDS:
        raise UsageError(f"--out {printable(out)}: expected a name that ends in .{', .'.join(_KINDS)}")
    return kind


def _check(out: Path | None) -> None:
    if out is not None:
        _kind_of(out)
        check_out(out)


def _model(path: Path | None) -> Model:
    from fastnn.model.model import load

    return load(path)


def _predictions(
    model_path: Path | None, data: str, label: str | None, test: str | None, split: SplitName | None
) -> Predictions:
    from fastnn import datasets
    from fastnn.evaluation.predictions import predictions_of

    model = _model(model_path)
    dataset = datasets.load(data, label, model.loss != "softmax", share_or_place(test))
    predictions = predictions_of(model, dataset, split)
    if split is None and predictions.part == "train":
        note(f"{dataset.name}: no test examples; these are the training examples")
    return predictions


def read_curves(path: Path) -> dict[str, list[float]]:
    """What changed from epoch to epoch: out of a model file, or of the lines that ``train --json`` printed.

    Raises
    ------
    DataError
        When it holds none.
    """
    try:
        with path.open("rb") as file:
            is_lines = file.read(1) == b"{" and b'"event"' in file.readline(10_000)
    except OSError as error:
        raise DataError(f"{printable(path)}: can't be read ({error.strerror or error})") from error
    if is_lines:
        return _curves_of_lines(path)
    curves = _model(path).history
    whole = all(
        isinstance(curves.get(key, []), list) and all(type(v) in (int, float) for v in curves.get(key, []))
        for key in _COLUMNS
    )
    if not whole or not curves.get("epoch"):
        raise DataError(f"{printable(path)}: holds no history of epochs; a model that 'fastnn train' writes holds one")
    return _known_curves(path, curves)


def _curves_of_lines(path: Path) -> dict[str, list[float]]:
    curves: dict[str, list[float]] = {}
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
        try:
            event: dict[str, Any] = json.loads(line) if line.strip() else {}
            if event.get("event") == "epoch":
                for key in _COLUMNS:
                    if event.get(key) is not None:
                        curves.setdefault(key, []).append(float(event[key]))
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise DataError(f"{printable(path)}: line {number} is not what train --json prints") from error
    if not curves.get("epoch"):
        raise DataError(f"{printable(path)}: no epochs in it")
    return _known_curves(path, curves)


def _known_curves(path: Path, curves: dict[str, list[float]]) -> dict[str, list[float]]:
    """The columns that can be drawn: known, and with a finite number for every epoch."""
    known = {key: curves[key] for key in _COLUMNS if key in curves and len(curves[key]) == len(curves["epoch"])}
    for key, column in known.items():
        if not all(abs(value) <= sys.float_info.max for value in column):  # false for NaN; integers may be larger
            raise DataError(f"{printable(path)}: its {key} is not finite everywhere, so there is no curve to draw")
    if not set(known) & {"loss", "accuracy", "learning_rate"}:
        raise DataError(f"{printable(path)}: its epochs have neither loss, accuracy nor learning_rate")
    return known


@plot.command()
def history(runs: RunsArgument, out: OutOption = None, text: TextOption = False) -> None:
    """Loss, accuracy and learning rate by epoch; several runs in one figure."""
    _check(out)
    names = [path.stem if len({p.stem for p in runs}) == len(runs) else str(path) for path in runs]
    curves = {name: read_curves(path) for name, path in zip(names, runs, strict=True)}
    _show("history", out, text, lambda charts: charts.history(curves), lambda plots: plots.history(curves))


@plot.command()
def confusion(
    weights: WeightsOption = None,
    data: DataOption = "auto",
    label: LabelOption = None,
    test: TestOption = None,
    split: SplitOption = None,
    out: OutOption = None,
    text: TextOption = False,
) -> None:
    """Which class is taken for which."""
    _check(out)
    predictions = _predictions(weights, data, label, test, split)
    counts = predictions.confusion, predictions.classes
    _show("confusion", out, text, lambda _: display.confusion(*counts), lambda plots: plots.confusion(*counts))


@plot.command()
def predictions(
    weights: WeightsOption = None,
    data: DataOption = "auto",
    label: LabelOption = None,
    test: TestOption = None,
    split: SplitOption = None,
    most: Annotated[bool, typer.Option("--most-confident", help="Those it is surest of.")] = False,
    least: Annotated[bool, typer.Option("--least-confident", help="Those it is least sure of.")] = False,
    wrong: Annotated[bool, typer.Option("--wrong", help="Those it gets wrong, the surest first.")] = False,
    count: Annotated[int | None, typer.Option(help="Pictures; 40, or 8 as text.")] = None,
    out: OutOption = None,
    text: TextOption = False,
) -> None:
    """A grid of pictures with what was read and how sure that is: some of every class, or the ones asked for."""
    _check(out)
    if most + least + wrong > 1:
        raise UsageError("--most-confident, --least-confident, --wrong: take one of them")
    if count is not None and not 1 <= count <= 400:
        raise UsageError(f"--count {count}: expected 1 to 400")
    which = "most-confident" if most else "least-confident" if least else "wrong" if wrong else "each"
    predictions = _predictions(weights, data, label, test, split)
    rows = predictions.chosen(which, count or (8 if text else 40))
    if not len(rows):
        note("nothing to show: every answer is right")
        return
    parts = predictions.pictures(rows), predictions.probabilities[rows], predictions.labels[rows], predictions.classes
    across = min(len(rows), 8)
    _show(
        "predictions",
        out,
        text,
        lambda charts: charts.pictures(predictions, rows),
        lambda plots: plots.predictions(*parts, across),
    )


@plot.command()
def confidence(
    image: Annotated[Path | None, typer.Argument(help="A picture; without one, the mean over the data.")] = None,
    weights: WeightsOption = None,
    data: DataOption = "auto",
    label: LabelOption = None,
    test: TestOption = None,
    split: SplitOption = None,
    out: OutOption = None,
    text: TextOption = False,
) -> None:
    """Bars: how probable each class is for one picture; or how probable the true class was, class by class."""
    _check(out)
    best: str | None
    if image is not None:
        prediction = _model(weights).predict_image(image)
        best, probabilities = prediction.label, prediction.probabilities
        title = f"{printable(image.name)}: {printable(best)} ({prediction.confidence:.1%})"
    else:
        best = None
        predictions = _predictions(weights, data, label, test, split)
        probabilities = predictions.mean_confidence()
        title = f"mean probability of the true class, {len(predictions.labels):,} examples"
    _show(
        "confidence",
        out,
        text,
        lambda _: f"{title}\n{display.bars(probabilities)}",
        lambda plots: plots.confidence(probabilities, title, best),
    )


@plot.command()
def calibration(
    weights: WeightsOption = None,
    data: DataOption = "auto",
    label: LabelOption = None,
    test: TestOption = None,
    split: SplitOption = None,
    out: OutOption = None,
    text: TextOption = False,
) -> None:
    """How often predictions of each confidence are right."""
    _check(out)
    predictions = _predictions(weights, data, label, test, split)
    p, y = predictions.probabilities, predictions.labels
    _show(
        "calibration", out, text, lambda charts: charts.calibration(predictions), lambda plots: plots.calibration(p, y)
    )


@plot.command("weights")
def first_weights(
    weights: WeightsOption = None,
    count: Annotated[int | None, typer.Option(help="Units; 96, or 8 as text.")] = None,
    out: OutOption = None,
    text: TextOption = False,
) -> None:
    """What the units of the first layer look for, as pictures."""
    _check(out)
    if count is not None and not 1 <= count <= 400:
        raise UsageError(f"--count {count}: expected 1 to 400")
    model = _model(weights)
    shape = model.image_shape
    if shape is None:
        raise DataError("this model was not trained on pictures, so its weights are none")
    first = model.parameters[0][: shape[0] * shape[1]]  # of several channels, the first
    _show(
        "weights",
        out,
        text,
        lambda charts: charts.first_weights(first, shape, count or 8),
        lambda plots: plots.first_weights(first, shape, count or 96),
    )


def report(
    run: Annotated[Path | None, typer.Argument(help="Model file; the shipped one by default.")] = None,
    data: DataOption = "auto",
    label: LabelOption = None,
    test: TestOption = None,
    split: SplitOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file to write.")] = Path("report.html"),
) -> None:
    """One HTML file about a model: how it was trained, what it gets right and wrong, how sure it is."""
    from fastnn.evaluation.html import report_page
    from fastnn.model import store

    check_out(out)
    path = run or store.shipped()
    model, predictions = _model(path), _predictions(path, data, label, test, split)
    try:
        curves = read_curves(path)
    except DataError:  # of an older model
        curves = None
    content = report_page(model, predictions, path.name, curves, model.image_shape)
    with atomic_write(out) as file:
        file.write(content.encode())
    say(printable(out))
