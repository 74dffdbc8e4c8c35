"""Plots: every command writes a picture or characters; what is drawn is what was measured; bad input is one line."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, clean_error, fastnn, make_dataset
from matplotlib.colors import to_hex
from PIL import Image

import fastnn as package
from fastnn.cli import charts
from fastnn.cli.main import run
from fastnn.cli.plotting import read_curves
from fastnn.datasets import Dataset, checked_split
from fastnn.distribution import to_install
from fastnn.errors import DataError, UsageError
from fastnn.evaluation import plots
from fastnn.evaluation.predictions import Predictions, predictions_of
from fastnn.model.calibration import calibration_error, reliability
from fastnn.model.model import Model
from fastnn.training.run import Epoch, Settings, Training, curves

PICTURES = ("confusion", "predictions", "confidence", "calibration")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of three epochs on small pictures, their data, and what training printed."""
    found = tmp_path_factory.mktemp("run")
    x, y = package.draw_strokes(900, seed=2)
    x = x.reshape(-1, 28, 28)
    np.savez(found / "digits.npz", x_train=x[:600], y_train=y[:600], x_test=x[600:], y_test=y[600:])
    done = fastnn(
        *("train", "--data", "digits.npz", "--epochs", 3, "--validation", 0.2, "--hidden", 40, "--json"), cwd=found
    )
    assert done.returncode == 0, done.stderr
    (found / "log.jsonl").write_text(done.stdout)
    return found


@pytest.fixture(scope="module")
def found(folder: Path) -> Predictions:
    return predictions_of(package.load(folder / "model.safetensors"), package.load_data(folder / "digits.npz"))


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        assert len(np.unique(np.asarray(image.convert("L")))) > 10  # something is drawn
        return image.size


@pytest.mark.parametrize("name", PICTURES)
def test_every_plot_is_a_picture_or_characters(name: str, folder: Path) -> None:
    arguments = ("plot", name, "-w", "model.safetensors", "--data", "digits.npz")
    done = fastnn(*arguments, cwd=folder)
    assert done.stdout.strip() == f"{name}.png", done.stderr
    assert min(size_of(folder / f"{name}.png")) > 300
    text = fastnn(*arguments, "--text", cwd=folder)
    assert text.returncode == 0, text.stderr
    assert len(text.stdout.splitlines()) > 5


def test_the_pictures_asked_for_are_shown(folder: Path, found: Predictions) -> None:
    arguments = ("plot", "predictions", "-w", "model.safetensors", "--data", "digits.npz", "--count", 6)
    for option, rows in (
        ("--most-confident", found.chosen("most-confident", 6)),
        ("--least-confident", found.chosen("least-confident", 6)),
        ("--wrong", found.chosen("wrong", 6)),
    ):
        said = fastnn(*arguments, option, "--text", cwd=folder).stdout
        titles = [
            f"{found.predicted[n]} {found.confidence[n]:.0%}"
            + (f", is {found.labels[n]}" if found.labels[n] != found.predicted[n] else "")
            for n in rows
        ]
        places = [said.find(title) for title in dict.fromkeys(titles)]
        assert min(places) >= 0, (titles, said)
        assert places == sorted(places)
    assert fastnn(*arguments, "--wrong", "--out", "wrong.png", cwd=folder).stdout.strip() == "wrong.png"
    size_of(folder / "wrong.png")


def test_rows_that_are_no_pictures(found: Predictions) -> None:
    rows = Predictions(found.split, found.probabilities, found.classes, None)
    with pytest.raises(UsageError, match="no pictures"):
        rows.pictures(np.array([1]))


def test_names_of_classes_do_not_steer_the_terminal(folder: Path) -> None:
    model = package.load(folder / "model.safetensors")
    model.metadata["classes"] = ["\x1b[31mred", *map(str, range(1, 10))]
    model.save(folder / "red.npz")
    sample = ROOT / "data" / "samples" / "0.png"
    for arguments in (
        ("predict", sample, "-w", "red.npz"),
        ("predict", sample, "-w", "red.npz", "--many", "--top", 2),
        ("plot", "confidence", sample, "-w", "red.npz", "--text"),
    ):
        done = fastnn(*arguments, cwd=folder)
        assert "31mred" in done.stdout, done.stderr
        assert "\x1b" not in done.stdout + done.stderr


def test_histories_of_models_and_logs(folder: Path) -> None:
    done = fastnn("plot", "history", "model.safetensors", "log.jsonl", "--out", "both.svg", cwd=folder)
    assert done.stdout.strip() == "both.svg", done.stderr
    assert "<svg" in (folder / "both.svg").read_text()
    by_model, by_log = read_curves(folder / "model.safetensors"), read_curves(folder / "log.jsonl")
    assert by_model["epoch"] == by_log["epoch"] == [1, 2, 3]
    for key in ("loss", "accuracy", "learning_rate", "validation_loss", "validation_accuracy"):
        np.testing.assert_allclose(by_model[key], by_log[key], rtol=1e-5)
    text = fastnn("plot", "history", "model.safetensors", "--text", cwd=folder).stdout
    assert "validation loss" in text
    assert "▁" in text
    assert "model, 3 epochs" in text


def test_a_report_is_one_file_that_needs_no_other(folder: Path) -> None:
    done = fastnn("report", "model.safetensors", "--data", "digits.npz", cwd=folder)
    assert done.stdout.strip() == "report.html", done.stderr
    text = (folder / "report.html").read_text()
    seen: list[tuple[str, dict[str, str | None]]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: seen.append((tag, dict(attributes)))  # type: ignore[method-assign]
    parser.feed(text)
    images = [attributes for tag, attributes in seen if tag == "img"]
    assert len(images) == 7
    assert all((image["src"] or "").startswith("data:image/png;base64,") and image["alt"] for image in images)
    assert not [tag for tag, _ in seen if tag in ("script", "link", "iframe")]
    assert "http" not in text.replace("http-equiv", "")
    assert "784-40-10" in text


def test_a_report_shows_names_as_text(found: Predictions) -> None:
    classes = ("<img src=x onerror=alert(1)>", *map(str, range(1, 10)))
    model = Model(package.Network.mlp(784, (4,), 10), package.Network.mlp(784, (4,), 10).initial_parameters(0, "he"))
    from fastnn.evaluation.html import report_page

    text = report_page(model, Predictions(found.split, found.probabilities, classes, (28, 28)), "<b>", None, (28, 28))
    assert "<img src=x" not in text
    assert "<title>&lt;b&gt;</title>" in text


def test_what_is_chosen_is_what_was_asked_for(found: Predictions) -> None:
    sure = found.confidence[found.chosen("most-confident", 20)]
    assert (np.diff(sure) <= 0).all()
    assert sure[0] == found.confidence.max()
    unsure = found.confidence[found.chosen("least-confident", 20)]
    assert (np.diff(unsure) >= 0).all()
    wrong = found.chosen("wrong", 1_000)
    assert len(wrong) == (found.predicted != found.labels).sum() > 0
    assert (found.predicted[wrong] != found.labels[wrong]).all()
    each = found.labels[found.chosen("each", 40)]
    assert (np.bincount(each) == 4).all()
    assert found.confusion.sum() == len(found.labels)
    assert found.confusion.trace() == (found.predicted == found.labels).sum()
    mean = found.mean_confidence()
    assert mean["3"] == pytest.approx(found.probabilities[found.labels == 3, 3].mean())
    assert found.pictures(wrong[:3]).shape == (3, 28, 28)


def test_colours_are_pictures_of_three_channels() -> None:
    x = np.arange(2 * 3 * 16, dtype=np.uint8).reshape(2, -1)
    split = checked_split(x, [0, 1], 2, "colours")
    shown = Predictions(split, np.eye(2), ("a", "b"), (4, 4)).pictures(np.array([1]))
    assert shown.shape == (1, 4, 4, 3)
    assert (shown[0, 0, 0] == [48, 64, 80]).all()
    assert plots.save(plots.predictions(shown, np.eye(2)[1:], np.array([1]), ("a", "b"), 1))[:4] == b"\x89PNG"


def test_the_bins_are_those_of_the_error(found: Predictions) -> None:
    bins = reliability(found.probabilities, found.labels)
    assert bins.counts.sum() == len(found.labels)
    assert bins.error == calibration_error(found.probabilities, found.labels)
    high = found.confidence >= 14 / 15
    assert bins.counts[-1] == high.sum()
    assert bins.accuracy[-1] == pytest.approx((found.predicted == found.labels)[high].mean())


def test_figures_say_what_was_measured(found: Predictions) -> None:
    figure = plots.confusion(found.confusion, found.classes)
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert f"{found.confusion[3, 3]:,}" in texts
    curve = curves([Epoch(n, 1.0, 1.0, 1 / n, 0.5, 0.1, 2 / n, 0.4) for n in range(1, 6)])
    figure = plots.history({"a": curve, "b": curve})
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy", "learning rate"]
    assert len(figure.axes[0].lines) == 4
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), curve["loss"])
    figure = plots.calibration(found.probabilities, found.labels)
    assert f"{calibration_error(found.probabilities, found.labels):.2%}" in figure.axes[0].get_title()
    assert (
        plots.save(plots.first_weights(np.random.default_rng(0).standard_normal((12, 7)), (3, 4)), "pdf")[:4] == b"%PDF"
    )


def test_a_long_run_keeps_400_points_and_its_ends() -> None:
    found = curves([Epoch(n, 1.0, 1.0, 1 / n, None, 0.1) for n in range(1, 5_001)])
    assert set(found) == {"epoch", "loss", "learning_rate"}
    assert len(found["epoch"]) == 400
    assert (found["epoch"][0], found["epoch"][-1]) == (1, 5_000)
    assert len(json.dumps(found)) < 20_000
    assert curves([]) == {"epoch": []}


def test_characters_show_what_is_there() -> None:
    assert charts.sparkline([0, 1, 2, 3]) == "▁▃▆█"
    assert charts.sparkline([5, 5, 5]) == "▁▁▁"
    assert len(charts.sparkline(list(range(1000)))) == 60
    picture = np.array([[0, 9, 9, 0], [0, 0, 9, 9], [9, 0, 0, 0]])
    assert charts.half_blocks(picture) == [" ▀█▄", "▀   "]


def test_the_shipped_model_and_weights_can_be_looked_at(tmp_path: Path) -> None:
    assert fastnn("plot", "weights", "--count", 20, cwd=tmp_path).stdout.strip() == "weights.png"
    assert min(size_of(tmp_path / "weights.png")) > 150
    assert "unit" in fastnn("plot", "weights", "--text", cwd=tmp_path).stdout
    done = fastnn("plot", "confidence", ROOT / "data" / "samples" / "3.png", cwd=tmp_path)
    assert done.stdout.strip() == "confidence.png"
    text = fastnn("plot", "confidence", ROOT / "data" / "samples" / "3.png", "--text", cwd=tmp_path).stdout
    assert text.startswith("3.png: 3 (")


def test_what_cannot_be_plotted_is_one_line(folder: Path, tmp_path: Path) -> None:
    for arguments, code, message in (
        (("history", folder / "digits.npz"), 3, "tensors missing"),
        (("history", tmp_path / "none"), 3, "No such file"),
        (("history", folder / "model.safetensors", "--out", "a.gif"), 2, "ends in .png, .svg, .pdf"),
        (("confusion", "--out", tmp_path / "no" / "a.png"), 2, "there is no folder"),
        (("predictions", "--wrong", "--most-confident"), 2, "take one of them"),
        (("predictions", "--count", 0), 2, "expected 1 to 400"),
        (("confusion", "--data", tmp_path), 3, "no data set in this folder"),
    ):
        assert message in clean_error(fastnn("plot", *arguments, cwd=tmp_path), code), arguments
    (tmp_path / "log").write_text('{"event": "start"}\nnonsense\n')
    assert "line 2 is not what" in clean_error(fastnn("plot", "history", "log", cwd=tmp_path), 3)
    (tmp_path / "log").write_text('{"event": "start"}\n')
    assert "no epochs in it" in clean_error(fastnn("plot", "history", "log", cwd=tmp_path), 3)
    table = make_dataset(60, 5, 2)
    package.train(table, 4, epochs=1).save(tmp_path / "table.npz")
    line = clean_error(fastnn("plot", "weights", "-w", "table.npz", cwd=tmp_path), 3)
    assert "not trained on pictures" in line
    older = package.load(tmp_path / "table.npz")
    older.metadata["history"].pop("curves")
    older.save(tmp_path / "old.npz")
    assert "holds no history" in clean_error(fastnn("plot", "history", "old.npz", cwd=tmp_path), 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "old.npz", "table.npz"]
    regression = package.train((table.train.x, table.train.x[:, 0]), 4, loss="squared", epochs=1)
    with pytest.raises(DataError, match="these plots are of classes"):
        predictions_of(regression, table)
    alone = Dataset("t", table.train, None, table.classes)
    assert (predictions_of(older, alone).part, predictions_of(older, table).part) == ("train", "test")
    with pytest.raises(UsageError, match=r"no test examples; take part=.train., or keep some for testing by test=$"):
        predictions_of(older, alone, "test")


EPOCH = '{"event": "epoch", "epoch": 1, "loss": 0.5}\n'


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (EPOCH + EPOCH.replace("0.5", "NaN"), "its loss is not finite"),
        (EPOCH.replace("0.5", "Infinity"), "its loss is not finite"),
        (EPOCH.replace("0.5", "-1e999"), "its loss is not finite"),
        (EPOCH.replace("0.5", "1" + "0" * 400), "line 1 is not what"),
        (EPOCH.replace('"epoch": 1', '"epoch": NaN'), "its epoch is not finite"),
        (EPOCH.replace("loss", "strange"), "neither loss, accuracy nor learning_rate"),
        (EPOCH.replace('"epoch": 1, ', ""), "no epochs in it"),
        (EPOCH + '{"event": "epoch", "epoch": 2}\n', "neither loss"),
        (EPOCH.replace("0.5", "[" * 100_000), "line 1 is not what"),
    ],
)
def test_curves_that_cannot_be_drawn(lines: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(lines)
    with pytest.raises(DataError, match=message):
        read_curves(tmp_path / "log")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": [0.5, 1e400, 1]}, "its loss is not finite"),
        ({"loss": [0.5, 10**400, 1]}, "its loss is not finite"),
        ({"loss": ["a", "b", "c"]}, "holds no history"),
        ({"loss": 7}, "holds no history"),
        ({"epoch": []}, "holds no history"),
        ({"loss": [1], "accuracy": [], "learning_rate": []}, "neither loss, accuracy"),
    ],
)
def test_curves_of_a_model_that_cannot_be_drawn(
    change: dict[str, Any], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = package.load(folder / "model.safetensors")
    model.metadata["history"]["curves"] |= change
    monkeypatch.setattr("fastnn.cli.plotting._model", lambda path: model)
    with pytest.raises(DataError, match=message):
        read_curves(folder / "model.safetensors")


def test_columns_that_are_not_known_are_left_out(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(EPOCH.replace('"loss"', '"strange": 3, "loss"'))
    assert read_curves(tmp_path / "log") == {"epoch": [1], "loss": [0.5]}


def test_which_examples_are_shown_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command that asks a model about examples follows one rule."""
    with np.load(folder / "digits.npz") as found:
        np.savez(tmp_path / "alone.npz", x=found["x_train"][:100], y=found["y_train"][:100])
    monkeypatch.chdir(tmp_path)
    asked = ("-w", str(folder / "model.safetensors"), "--data", "alone.npz")
    assert run(["plot", "confusion", *asked, "--text"]) == 0
    assert "no test examples; these are the training examples" in capsys.readouterr().err
    assert run(["plot", "confusion", *asked, "--text", "--split", "train"]) == 0
    assert run(["plot", "confusion", *asked, "--text", "--test", "0.5"]) == 0
    assert capsys.readouterr().err == ""
    for command in (["evaluate", *asked], ["plot", "confusion", *asked], ["report", *asked[1:]]):
        assert run([*command, "--split", "test"]) == 2
        assert "take --split train" in capsys.readouterr().err
    assert run(["report", *asked[1:]]) == 0
    assert "of 100 train examples" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("name", ["history", "confusion", "predictions", "confidence", "calibration", "first_weights"])
def test_every_figure_says_what_it_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    picture, p = np.zeros((1, 2, 2)), np.array([[1.0, 0.0]])
    given: dict[str, tuple[Any, ...]] = {
        "history": ({"run": {"epoch": [1], "loss": [1.0]}},),
        "confusion": (np.eye(2, dtype=int), ("a", "b")),
        "predictions": (picture, p, np.array([0]), ("a", "b"), 1),
        "confidence": ({"a": 1.0}, "title"),
        "calibration": (p, np.array([0])),
        "first_weights": (np.zeros((4, 2)), (2, 2)),
    }
    for module in [module for module in sys.modules if module.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"pip install .*\[plot\]"):
        getattr(plots, name)(*given[name])


def test_without_matplotlib_the_terminal_is_offered(folder: Path) -> None:
    without = "import sys; sys.modules['matplotlib'] = None; from fastnn.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", without, "plot", "history", str(folder / "model.safetensors")]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}
    )
    assert f"plots need matplotlib: {to_install('plot')}. Or take --text" in clean_error(done, 2)
    assert (
        subprocess.run([*command, "--text"], capture_output=True, check=False, env={"PYTHONPATH": str(ROOT)}).returncode
        == 0
    )


def test_a_run_writes_its_curves_and_resumes_to_the_same() -> None:
    run = Training(make_dataset(60, 5, 2), Settings((4,), epochs=3))
    for _ in run:
        pass
    found = run.model().metadata["history"]["curves"]
    run.close()
    assert found["epoch"] == [1, 2, 3]
    assert found["loss"] == [float(f"{epoch.loss:.6g}") for epoch in run.history]
    assert "seconds" not in found


def test_bars_and_colours_lie_where_the_scale_says(found: Predictions) -> None:
    bars = plots.calibration(found.probabilities, found.labels).axes[1].patches
    assert bars[0].get_x() == 0
    assert bars[-1].get_x() + bars[-1].get_width() == pytest.approx(1)
    picture = plots.first_weights(np.array([[1.0], [-3.0], [0.0], [2.0]]), (2, 2)).axes[0].images[0]
    assert picture.get_clim() == (-3, 3)


def test_bars_of_confidence_are_named_and_marked() -> None:
    names = {"a" * 14: 0.125, "b" * 15: 0.875, "c": 0.0}
    for best, colours in ((None, [plots.RIGHT] * 3), ("b" * 15, ["#999999", plots.RIGHT, "#999999"])):
        figure = plots.confidence(names, "title", best)
        (axes,) = figure.axes
        assert [to_hex(bar.get_facecolor()) for bar in axes.patches] == colours
        assert [bar.get_width() for bar in axes.patches] == [0.125, 0.875, 0.0]
        assert [bar.get_x() for bar in axes.patches] == [0.0] * 3
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a" * 14, "b" * 13 + "…", "c"]
    assert axes.get_yticks().tolist() == [0, 1, 2]
    assert axes.yaxis_inverted()
    ticks = {float(at): label.get_text() for at, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)}
    assert ticks == {0: "0 %", 0.25: "25 %", 0.5: "50 %", 0.75: "75 %", 1: "100 %"}
    low, high = axes.get_xlim()
    assert (low, axes.get_title()) == (0, "title")
    assert 1.05 < high < 1.3  # room for the numbers
    assert [text.get_text() for text in axes.texts] == ["12.5%", "87.5%", "0.0%"]
    for n, (text, value) in enumerate(zip(axes.texts, names.values(), strict=True)):
        assert text.get_position()[1] == n
        assert value < text.get_position()[0] < value + 0.05
    assert plots.confidence({str(n): 0.1 for n in range(20)}, "t").get_figheight() > 2 * figure.get_figheight()


def test_curves_of_runs_stand_beside_each_other() -> None:
    curve = {"epoch": [1, 2, 3], "loss": [1.0, 0.5, 0.25], "validation_loss": [1.0, 0.75, 0.5], "accuracy": [0, 0.5, 1]}
    (loss, accuracy) = plots.history({"one": curve}).axes
    assert [(line.get_label(), line.get_linestyle(), line.get_marker()) for line in loss.lines] == [
        ("training", "-", "None"),
        ("validation", "--", "None"),
    ]
    assert len({line.get_color() for line in loss.lines}) == 1
    assert (loss.get_yscale(), accuracy.get_yscale()) == ("log", "linear")
    assert accuracy.yaxis.get_major_formatter()(0.5) == "50%"
    assert loss.get_legend() is not None
    assert accuracy.get_legend() is None
    assert (loss.get_xlabel(), [axes.get_title() for axes in (loss, accuracy)]) == ("epoch", ["loss", "accuracy"])
    np.testing.assert_allclose(loss.lines[1].get_xydata(), [[1, 1], [2, 0.75], [3, 0.5]])
    short = {name: values[:2] for name, values in curve.items() if name != "accuracy"}
    many = plots.history({"a": curve, **{str(n): short for n in range(7)}})
    loss, accuracy = many.axes
    assert [line.get_label() for line in loss.lines[:3]] == ["a", "a, validation", "0"]
    assert len(accuracy.lines) == 1
    colours = [line.get_color() for line in loss.lines[::2]]
    assert colours == [*plots.COLOURS, plots.COLOURS[0]]
    assert loss.lines[2].get_marker() == "o"  # a line of two points, or of one, is hard to see
    assert loss.lines[0].get_marker() == "None"
    assert many.get_figwidth() == pytest.approx(2 * plots.history({"a": {"epoch": [1], "loss": [1]}}).get_figwidth())


def test_a_confusion_is_coloured_by_shares_and_numbered() -> None:
    counts = np.array([[1_500, 0, 1], [0, 0, 0], [5, 5, 0]])
    figure = plots.confusion(counts, ("a", "b", "c"))
    axes, bar = figure.axes
    np.testing.assert_allclose(axes.images[0].get_array(), [[1500 / 1501, 0, 1 / 1501], [0, 0, 0], [0.5, 0.5, 0]])
    assert axes.images[0].get_clim() == (0, 1)
    assert {text.get_position(): (text.get_text(), text.get_color()) for text in axes.texts} == {
        (0, 0): ("1,500", "black"), (2, 0): ("1", "white"), (0, 2): ("5", "black"), (1, 2): ("5", "black"),
    }  # fmt: skip
    assert axes.get_title() == "99.27% of 1,511 right"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert bar.get_yticks().tolist() == [0, 0.01, 0.1, 0.3, 1]
    for classes, turn in ((("a", "bb", "ccc"), 0), (("a", "bb", "cccc"), 60)):
        axes = plots.confusion(counts, classes).axes[0]
        assert [label.get_text() for label in axes.get_xticklabels()] == list(classes)
        assert [label.get_rotation() for label in axes.get_xticklabels()] == [turn] * 3
        assert [label.get_rotation() for label in axes.get_yticklabels()] == [0] * 3
    for n, shown in ((30, 30), (31, 0)):
        assert len(plots.confusion(np.eye(n, dtype=int), list(map(str, range(n)))).axes[0].texts) == shown
    assert plots.confusion(np.zeros((2, 2), int), "ab").axes[0].get_title() == "0.00% of 0 right"
    assert plots.confusion(np.eye(9, dtype=int), "abcdefghi").get_figwidth() > figure.get_figwidth()


def test_pictures_are_named_by_what_was_read() -> None:
    p = np.array([[0.75, 0.25], [0.4, 0.6], [1.0, 0.0]])
    figure = plots.predictions(np.arange(12).reshape(3, 2, 2), p, np.array([0, 0, 1]), ("a", "b" * 15), 2)
    assert len(figure.axes) == 4
    assert [axes.get_title() for axes in figure.axes] == [
        "a  75%",
        f"{'b' * 13}…  60%\nis a",
        f"a  100%\nis {'b' * 13}…",
        "",
    ]
    assert [axes.title.get_color() for axes in figure.axes[:3]] == [plots.RIGHT, plots.WRONG, plots.WRONG]
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 0]
    assert not any(axes.axison for axes in figure.axes)
    assert (figure.axes[1].images[0].get_array() == [[4, 5], [6, 7]]).all()
    wide, high = figure.get_size_inches()
    longer = plots.predictions(np.zeros((9, 2, 2)), np.ones((9, 1)), np.zeros(9, int), ("a",), 2)
    assert longer.get_figwidth() == wide
    assert longer.get_figheight() > 2 * high


def test_calibration_lies_on_the_diagonal_when_it_is_right() -> None:
    p = np.array([[0.95, 0.05]] * 3 + [[0.6, 0.4]] * 2)
    upper, lower = plots.calibration(p, np.array([0, 0, 1, 0, 1])).axes
    diagonal, found = upper.lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    np.testing.assert_allclose(found.get_xydata(), [[0.6, 0.5], [0.95, 2 / 3]])
    assert (diagonal.get_linestyle(), found.get_marker()) == ("--", "o")
    assert upper.get_ylim()[0] == 0
    assert 1 < upper.get_ylim()[1] < 1.1
    assert [bar.get_height() for bar in lower.patches] == [0] * 9 + [2, 0, 0, 0, 0, 3]
    assert lower.get_yscale() == "log"
    assert (lower.get_ylabel(), upper.get_ylabel(), lower.get_xlabel()) == ("answers", "share right", "confidence")
    assert [text.get_text() for text in upper.get_legend().get_texts()] == ["perfectly calibrated", "found"]


def test_the_units_of_the_largest_weights_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = plots.first_weights(np.ones((4, 9)) * np.arange(9), (2, 2), 4)
    assert [axes.images[0].get_array()[0, 0] for axes in figure.axes] == [8, 7, 6, 5]
    assert figure.get_suptitle() == "first layer, 4 of 9 units"
    grids: list[tuple[int, int]] = []
    monkeypatch.setattr(plots, "_axes", lambda figure, *grid, **options: grids.append(grid) or [])
    for units in (3, 20, 60, 61, 120):
        plots.first_weights(np.ones((4, units)), (2, 2))
    assert grids == [(1, 3), (2, 10), (6, 10), (4, 16), (7, 16)]


def test_how_many_are_shown(
    found: Predictions,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[tuple[Any, ...]] = []
    chosen = Predictions.chosen
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastnn.cli.plotting._predictions", lambda *given: found)
    monkeypatch.setattr(Predictions, "chosen", lambda self, *given: asked.append(given) or chosen(self, *given))
    monkeypatch.setattr(plots, "predictions", lambda *given: asked.append((len(given[0]), given[-1])))
    monkeypatch.setattr(
        plots, "first_weights", lambda weights, shape, most: asked.append((*weights.shape, shape, most))
    )
    monkeypatch.setattr(charts, "first_weights", lambda weights, shape, most: asked.append((most,)) or "")
    monkeypatch.setattr(plots, "save", lambda figure, kind: kind.encode())
    for options, wanted in (
        ("", [("each", 40), (40, 8)]),
        ("--text", [("each", 8)]),
        ("--count 3 --wrong", [("wrong", 3), (3, 3)]),
        ("--count 400 --most-confident", [("most-confident", 400), (300, 8)]),
        ("--count 1 --least-confident --text", [("least-confident", 1)]),
    ):
        asked.clear()
        assert run(["plot", "predictions", *options.split()]) == 0
        assert asked == wanted
    weights = ["plot", "weights", "-w", str(folder / "model.safetensors")]
    for options, wanted in (
        ("", [(784, 40, (28, 28), 96)]),
        ("--text", [(8,)]),
        ("--count 400", [(784, 40, (28, 28), 400)]),
        ("--count 1 --text", [(1,)]),
    ):
        asked.clear()
        assert run([*weights, *options.split()]) == 0
        assert asked == wanted
    capsys.readouterr()
    for command in (["plot", "predictions"], weights):
        for count in ("0", "401"):
            assert run([*command, "--count", count]) == 2
            assert f"--count {count}" in capsys.readouterr().err
    for name, kind in (("a.PNG", "png"), ("a.svg", "svg"), ("b.pdf", "pdf")):
        assert run([*weights, "--out", name]) == 0
        assert Path(name).read_text() == kind
    monkeypatch.setattr(Predictions, "chosen", lambda self, *given: np.zeros(0, int))
    assert run(["plot", "predictions", "--wrong"]) == 0
    assert "every answer is right" in capsys.readouterr().err
