"""What commands print, figure by figure: people and scripts read it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastnn as package
from fastnn.cli import charts, display, running
from fastnn.cli.app import _seconds
from fastnn.cli.main import run
from fastnn.datasets import Status, checked_split
from fastnn.errors import RunError
from fastnn.evaluation import plots
from fastnn.evaluation.html import report_page
from fastnn.evaluation.predictions import Predictions
from fastnn.model.model import Prediction
from fastnn.tools.bench import Phase, Row
from fastnn.tools.gradcheck import Check
from fastnn.tools.warmup import Warm
from fastnn.training.run import Epoch, Progress


def answer(label: str, verdict: str = "sure", warning: str | None = None, **probabilities: float) -> Prediction:
    return Prediction(label, max(probabilities.values()), probabilities, "picture.png", warning, verdict)


SEVEN = answer("7", "unsure", **{"1": 0.25, "7": 0.5, "10": 0.125})


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "-"),
        (2e-6, "2 µs"),
        (9.994e-4, "999 µs"),
        (1e-3, "1.0 ms"),
        (0.9994, "999.4 ms"),
        (1, "1.00 s"),
        (83.456, "83.46 s"),
    ],
)
def test_times_are_short(seconds: float, said: str) -> None:
    assert _seconds(seconds) == said


def test_bars_are_as_long_as_their_shares() -> None:
    assert display.bars({"a": 1.0, "bcd": 0.0625, "e": 0.001}) == (
        f"    a  100.0%  {'█' * 24}\n  bcd    6.2%  █▌\n    e    0.1%"
    )
    assert display.bar(0.5, 8) == "████"
    assert display.bar(7 / 8, 1) == "▉"
    plain = io.TextIOWrapper(io.BytesIO(), "ascii")
    assert display.bar(0.51, 8, plain) == "####"
    assert [display.bar(share, 4, plain) for share in (0, 0.2, 1)] == ["", "#", "####"]


def test_an_answer_is_a_line_and_its_classes() -> None:
    assert display.prediction(SEVEN, "p", None, chart=False) == "p: unsure, perhaps 7  (50.0%)"
    lines = display.prediction(SEVEN, "p", None, chart=True).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["1", "7", "10"]
    lines = display.prediction(SEVEN, "p", 2, chart=True).splitlines()
    assert lines == ["p: unsure, perhaps 7  (50.0%)", "  7   50.0%  ████████████", "  1   25.0%  ██████"]
    odd = answer("3", warning="tiny", **{"3": 1.0})
    assert display.prediction(odd, "p", None, chart=False) == "p: 3  (100.0%)  warning: tiny"


def test_a_page_is_its_lines() -> None:
    sure = answer("4", **{"4": 0.875, "9": 0.125})
    assert display.page([], "p", None) == "p: no digit"
    assert display.page([[sure]], "p", None) == "p: 1 digit\n  4"
    assert display.page([[sure, SEVEN], [sure]], "p", None) == "p: 3 digits, 1 unsure (?)\n  47?\n  4"
    lines = display.page([[sure, SEVEN], [sure]], "p", 1).splitlines()
    assert [line.partition("  (")[0] for line in lines[3:]] == [
        "p: 47?, 1: 4",
        "  4   87.5%  █████████████████████",
        "p: 47?, 2: unsure, perhaps 7",
        "  7   50.0%  ████████████",
        "p: 4, 1: 4",
        "  4   87.5%  █████████████████████",
    ]


def test_a_confusion_shows_how_many_of_each_class_are_right() -> None:
    lines = display.confusion(np.array([[3, 0, 1], [0, 20, 0], [0, 0, 0]]), ("a", "bb", "c")).splitlines()
    assert [line.split() for line in lines] == [
        ["true", "\\", "said", "a", "bb", "c", "right"],
        ["-" * 11, "-", "--", "-", "-" * 6],
        ["a", "3", ".", "1", "75.0%"],
        ["bb", ".", "20", ".", "100.0%"],
        ["c", ".", ".", ".", "0.0%"],
    ]
    assert len({len(line) for line in lines}) == 1  # all but the first column to the right


def told_to(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error, from now on a terminal 90 characters wide that can show no blocks."""
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    stream.fileno = lambda: 2  # type: ignore[method-assign]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("os.get_terminal_size", lambda *given: os.terminal_size((90, 24)))
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(display, "can_draw", lambda stream: False)
    return stream


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    told = told_to(monkeypatch)
    clear, reporter = "\r\x1b[2K", display.Reporter(12, quiet=False)
    reporter.compiling(3, "f")
    reporter.compiled(2.25, 3, None)
    reporter.progress(Progress(2, 500, 1_000, 0.25, 0.5, 0.75))
    reporter.progress(Progress(2, 500, 1_000, 0.25, 0.5, None))
    reporter.epoch(Epoch(2, 0.5, 2_000.0, 0.25, 0.875, 0.1))
    parts = told.getvalue().split(clear)
    assert parts == [
        "",
        "compiling kernels (first run only): 3 functions, f",
        "compiled 3 functions in 2.2 s; later runs load them\n",
        "epoch 2/12 ##########           loss 0.5000  accuracy 75.00%  2,000 examples/s",
        "epoch 2/12 ##########           loss 0.5000  2,000 examples/s",
        "epoch  2/12  loss 0.2500  accuracy 87.50%        2,000 examples/s  0.500 s\n",
    ]


def test_progress_elsewhere_is_a_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        reporter = display.Reporter(3, quiet)
        for count in (1, 2):
            reporter.compiling(count, "f")
        reporter.compiled(2.0, 0, None)
        reporter.compiled(2.0, 2, "no room")
        reporter.progress(Progress(2, 500, 1_000, 0.25, 0.5, 0.75))
        reporter.epoch(Epoch(2, 0.5, 2_000.0, 0.25, None, 0.1, 0.125, 0.5))
        lines = capsys.readouterr().err.splitlines()
        if quiet:
            assert not lines
        else:
            assert len(lines) == 3
            assert lines[0] == "compiling kernels (first run only)"
            assert "later runs compile again: no room" in lines[1]
            assert lines[2].startswith("epoch 2/3  loss 0.2500  validation 0.1250, 50.00%  ")


def test_a_bar_for_files_that_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    told = told_to(monkeypatch)
    assert display.progress_of(quiet=True) is None
    tell = display.progress_of(quiet=False)
    assert tell
    for done in (0, 3, 4, 5):
        tell("t.csv", done, 4)
    tell("empty", 0, 0)
    assert told.getvalue().split("\r\x1b[2K")[1:] == [
        f"reading t.csv {' ' * 20}", f"reading t.csv {'#' * 15}     ", "", "", "",
    ]  # fmt: skip


def test_streams_that_take_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    told = told_to(monkeypatch)
    assert display.is_fancy(told)
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as inside:
            inside.setenv(name, value)
            assert not display.is_fancy(told)
            assert display.progress_of(quiet=False) is None
    assert not display.is_fancy(io.StringIO())


def test_curves_of_characters() -> None:
    assert charts.sparkline([1, 2], 60) == "▁█"
    assert charts.sparkline(range(4), 2) == "▁█"
    assert len(charts.sparkline(range(59))) == 59
    text = charts.history({"a": {"epoch": [1, 2], "loss": [0.5, 0.25], "validation_accuracy": [0.5, 1]}})
    assert text.splitlines() == [
        "a, 2 epochs",
        f"  {'loss':<20} {'0.5':>8} █▁ 0.25",
        f"  {'validation accuracy':<20} {'50.00%':>8} ▁█ 100.00%",
    ]


def test_output_without_blocks_has_numbers_and_other_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "can_draw", lambda stream: False)
    assert charts.sparkline([1, 2.5, 3]) == "1 2.5 3"
    assert charts.sparkline(range(32)) == " ".join(map(str, range(0, 32, 4)))
    assert charts.half_blocks(np.array([[0, 1, 1, 0], [0, 0, 1, 1]])) == [" '#."]


def test_pictures_of_characters_stand_four_side_by_side() -> None:
    x = np.zeros((5, 16), np.uint8)
    x[:, [0, 5]] = 200
    x[:, 6] = 80  # two fifths: not above
    p = np.array([[0.75, 0.25]] * 4 + [[0.0, 1.0]])
    found = Predictions(checked_split(x, [0, 0, 0, 0, 0], 2, "x"), p, ("a", "longer"), (4, 4))
    assert charts.pictures(found, np.arange(5)).splitlines() == [
        "a 75  a 75  a 75  a 75", "▀▄    ▀▄    ▀▄    ▀▄", "", "", "long", "▀▄",
    ] or charts.pictures(found, np.arange(5)).splitlines() == [
        "a 75  a 75  a 75  a 75", "▀▄    ▀▄    ▀▄    ▀▄", "", "", "long", "▀▄", ""
    ]  # fmt: skip


def test_the_first_units_are_those_of_the_largest_weights() -> None:
    weights = np.zeros((4, 3))
    weights[0, 1], weights[3, 2], weights[1, 2] = 3, -4, 1
    assert charts.first_weights(weights, (2, 2), 2).splitlines()[0].split() == ["un", "un"]
    assert charts.first_weights(weights, (2, 2), 2).splitlines()[1].split() == ["▀", "▀"]


def test_calibration_of_characters() -> None:
    p = np.array([[0.95, 0.05]] * 3 + [[0.6, 0.4]])
    found = Predictions(checked_split(np.zeros((4, 2)), [0, 0, 1, 0], 2, "x"), p, ("a", "b"), None)
    lines = [line.split() for line in charts.calibration(found).splitlines()]
    assert lines[2] == ["60%", "to", "67%", "1", "60.0%", "100.0%", "█" * 20]
    assert lines[3] == ["93%", "to", "100%", "3", "95.0%", "66.7%", "█" * 13 + "▍"]
    assert lines[4] == ["calibration", "error", f"{(0.4 + 3 * (0.95 - 2 / 3)) / 4:.2%}"]


STUBS: dict[str, Any] = {
    "fastnn.tools.warmup.warm": lambda processes: iter([Warm("job", 1.25)]),
    "fastnn.tools.gradcheck.check": lambda seed: iter(
        [Check("n", "w", "c", 1e-9, 1e-7), Check("n", "b", "c", 1.0, 1e-7)]
    ),
    "fastnn.tools.bench.table": lambda threads: iter(
        [Row("peak", 0.0, 1234.5, 1.0), Row("x", 2e-3, 50.4, 0.125, 1.75)]
    ),
    "fastnn.tools.bench.phases": lambda *asked: [Phase("a", (1.5, 2.25), 0.25), Phase("step", (6.0, 9.0), 1.0)],
}


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (
            "bench",
            0,
            [
                ["work", "time", "GFLOP/s", "of", "the", "peak", "faster", "than", "NumPy"],
                ["peak", "-", "1,234", "100%", "-"],
                ["x", "2.0", "ms", "50", "12%", "1.8x"],
            ],
        ),
        (
            "bench --phases",
            0,
            [
                ["phase", "thread", "0,", "µs", "thread", "1,", "µs", "share"],
                ["a", "1.50", "2.25", "25%"],
                ["step", "6.00", "9.00", "100%"],
            ],
        ),
        (
            "gradcheck",
            1,
            [
                ["network", "tensor", "comparison", "error", "bound"],
                ["n", "w", "c", "1.0e-09", "1e-07", "ok"],
                ["n", "b", "c", "1.0e+00", "1e-07", "MISSED"],
            ],
        ),
    ],
)
def test_tables_of_measurements(
    command: str, code: int, said: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, work in STUBS.items():
        monkeypatch.setattr(name, work)
    assert run(command.split()) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for n, line in enumerate(lines) if n != 1][: len(said)] == said
    assert lines[2].startswith(said[1][0])
    widths = {len(line) for line in lines[: len(said) + 1]}
    assert len(widths) == 1 or command == "gradcheck"  # numbers end below each other
    assert run([*command.split(), "--json"]) == code
    assert len(capsys.readouterr().out.splitlines()) == len(said) - 1


def test_warmup_says_each_job_and_the_sum(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "fastnn.tools.warmup.warm", lambda processes: asked.append(processes) or iter([Warm("job", 1.25)])
    )
    for count in ("1", "64"):
        assert run(["warmup", "--jobs", count]) == 0
        found = capsys.readouterr()
        assert found.err == "job: 1.2 s\n"
        assert "all kernels are compiled, in 0.0 s" in found.out
    assert run(["warmup", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"job": "job", "seconds": 1.25}
    assert asked[:2] == [1, 64]
    assert asked[2] >= 1


def three_clusters(classes: tuple[str, ...], count: int) -> str:
    """A table whose rows of one class lie together."""
    random = np.random.default_rng(len(classes))
    rows = [
        f"{10 * 'abc'.index(name) + random.normal():.3f},{random.normal():.3f},{name}"
        for _ in range(count)
        for name in classes
    ]
    return "x,y,label\n" + "\n".join(rows) + "\n"


def test_classes_of_another_set_are_those_of_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.csv").write_text(three_clusters(("a", "b", "c"), 40))
    (tmp_path / "two.csv").write_text(three_clusters(("b", "c"), 20))
    package.train(str(tmp_path / "train.csv"), 8, epochs=30, batch_size=8).save(tmp_path / "m.npz")
    assert run(["evaluate", "-w", str(tmp_path / "m.npz"), "--data", str(tmp_path / "two.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] > 0.9
    assert [sum(row) for row in found["confusion"]] == [0, 20, 20]


@pytest.mark.parametrize("loss", ["softmax", "squared"])
@pytest.mark.parametrize("options", [[], ["--validation", "0.25"], ["--validation", "0.25", "--keep-last"]])
def test_a_run_without_test_examples_says_what_it_knows(
    loss: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The epoch it keeps, on the examples that it was watched on, or else those it was trained on."""
    monkeypatch.chdir(tmp_path)
    text = three_clusters(("a", "b", "c"), 40)
    Path("t.csv").write_text(text.replace(",a\n", ",1\n").replace(",b\n", ",2\n").replace(",c\n", ",4\n"))
    command = ["train", "--data", "t.csv", "--loss", loss, "--hidden", "4", "-e", "4", "--lr", "0.4", *options]
    assert run([*command, "--json"]) == 0
    epochs = [event for event in map(json.loads, capsys.readouterr().out.splitlines()) if event["event"] == "epoch"]
    watched = "validation_loss" in epochs[0]
    best = (
        min(epochs, key=lambda one: one["validation_loss"]) if watched and options[-1] != "--keep-last" else epochs[-1]
    )
    kind = "validation_" * watched
    wanted = f"{best[kind + 'accuracy']:.2%}" if loss == "softmax" else f"a loss of {best[kind + 'loss']:.4g}"
    assert run([*command, "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert wanted in said.out
    assert ("30 validation examples" in said.out) is watched
    assert "no test examples" in said.out


def test_a_report_says_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, Any]] = []
    for name in ("history", "confusion", "calibration", "confidence", "predictions", "first_weights"):
        monkeypatch.setattr(plots, name, lambda *given, name=name: drawn.append((name, given)) or name)
    monkeypatch.setattr(plots, "save", str.encode)
    network = package.Network.mlp(4, (3,), 2)
    metadata = {
        "classes": ["a", "<b>"],
        "calibration": {"unsure_below": 0.75},
        "data": {"name": "d", "examples": 9},
        "history": {"epochs": 7},
        "training": {"seed": 5},
    }
    model = package.Model(network, network.initial_parameters(0, "he"), metadata)
    p = np.array([[0.75, 0.25], [0.5, 0.5], [0.125, 0.875], [1.0, 0.0]])
    found = Predictions(checked_split(np.eye(4), [0, 0, 1, 1], 2, "x"), p, ("a", "<b>"), (2, 2), "train")
    text = report_page(model, found, "m & m", {"epoch": [1]}, (2, 2))
    rows = re.findall(r"<tr><th>([^<]*)<td>([^<\n]*)", text)
    assert rows == [
        ("right", "75.00% of 4 train examples"),
        ("mean loss", f"{(-np.log([0.75, 0.5, 0.875]).sum() - np.log(1e-300)) / 4:.4f}"),
        ("calibration error", f"{(0.25 + 0.5 + 0.125 + 1) / 4:.2%}"),
        ("called unsure", "25.00% (below 75%)"),
        ("layers", "4-3-2"),
        ("parameters", "23"),
        ("trained on", "d, 9 examples"),
        ("epochs", "7"),
        ("SHA-256 of the parameters", model.sha256),
        ("seed", "5"),
    ]
    assert re.findall(r"<h2>([^<]*)", text) == [
        *("Training", "What is taken for what", "How far it can be believed", "Class by class"),
        *("Wrong, and sure of it", "Least sure", "What the first layer looks for", "Settings"),
    ]
    assert [base64.b64decode(one).decode() for one in re.findall('base64,([^"]*)', text)] == [name for name, _ in drawn]
    assert "<title>m &amp; m</title>" in text
    wrong, unsure = (given for name, given in drawn if name == "predictions")
    assert (wrong[2].tolist(), unsure[2].tolist(), wrong[4], unsure[4]) == ([1], [0, 0, 1, 1], 1, 4)
    drawn.clear()
    plain = report_page(package.Model(network, model.parameters), found, "m")
    assert ("trained on", "unknown, unknown examples") in re.findall(r"<tr><th>([^<]*)<td>([^<\n]*)", plain)
    assert [name for name, _ in drawn] == ["confusion", "calibration", "confidence", "predictions", "predictions"]
    assert "Settings" not in plain


def test_what_is_shown_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = package.Network.mlp(1_000, (3,), 2)
    parameters = network.initial_parameters(0, "he")
    parameters[3][0] = 2e6
    package.Model(network, parameters, {"classes": ["a", "b"], "about": "x" * 600}).save(tmp_path / "m.npz")
    assert run(["show", str(tmp_path / "m.npz")]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == f"{tmp_path / 'm.npz'}: 3,011 parameters, float32"
    assert [line.split() for line in lines[3:5]] == [["0", "1,000", "3", "relu"], ["1", "3", "2", "identity"]]
    assert len(lines[2]) == len(lines[3].rpartition("relu")[0]) + len("activation")
    (about,) = (line for line in lines if line.startswith("about: "))
    assert about == f'about: "{"x" * 498}…'
    assert 'classes: ["a", "b"]' in lines
    assert not [line for line in lines if line.startswith(("layers:", "activations:"))]
    assert "warning: a parameter of 2e+06" in told.err
    assert run(["show", str(tmp_path / "m.npz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["layers"], found["parameters"], found["dtype"]) == ([1_000, 3, 2], 3_011, "float32")


def test_what_is_known_of_the_data_sets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = [Status("a", "title", "there", 12_345_678, "sound"), Status("bb", "other", "nowhere", 0, "missing")]
    monkeypatch.setattr("fastnn.datasets.status", lambda: found)
    assert run(["data"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[2:]] == [
        ["a", "there", "12.3", "MB", "sound", "title"],
        ["bb", "nowhere", "-", "missing", "other"],
    ]
    assert lines[2].index("12.3 MB") + 6 == lines[3].index("-")
    assert run(["data", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["bytes"] == 12_345_678


def test_a_model_is_tried_when_it_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = package.Network.mlp(5, (3,), 2)
    parameters = small.initial_parameters(0, "he")
    for factor, said in ((1, "all outputs are finite"), (1e300, "WARNING: some outputs are not finite")):
        wide = [p.astype(np.float64) * factor for p in parameters]
        package.Model(small, wide, {"classes": ["a", "b"]}).save(tmp_path / "m.npz")
        assert run(["convert", str(tmp_path / "m.npz"), str(tmp_path / "m.json")]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(f"{tmp_path / 'm.json'}: 5-3-2, sha256 ")
        assert lines[1].startswith(f"activations: relu, identity; {said}")


@pytest.mark.parametrize(
    ("test", "kept", "threads", "problem", "helped"),
    [
        (True, False, 2, None, True),
        (True, False, 1, None, False),
        (True, True, 2, None, False),
        (False, False, 2, None, False),
        (True, False, 2, "no room", False),
    ],
)
def test_where_the_evaluation_of_a_run_is_compiled(
    test: bool, kept: bool, threads: int, problem: str | None, helped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process, if there is a core for it, something to compile, and a place to keep it."""
    done: list[str] = []
    fails = iter((False, True))

    class Recorded:
        def __init__(self, job: str) -> None:
            done.append(job)

        def wait(self) -> None:
            done.append("wait")
            if next(fails):
                raise RunError("compiled here then")

        def stop(self) -> None:
            done.append("stop")

    monkeypatch.setattr("fastnn.tools.warmup.Compilation", Recorded)
    monkeypatch.setattr("fastnn.machine.available_threads", lambda: threads)
    monkeypatch.setattr("fastnn.kernels.cache.folder_problem", lambda folder: problem)
    split = checked_split(np.zeros((2, 3), np.uint8), [0, 1], 2, "x")
    run = SimpleNamespace(
        dataset=SimpleNamespace(test=split if test else None, train=split),
        validation=None,
        evaluation_is_kept=lambda: kept,
        compile=lambda: done.append("train"),
        compile_evaluation=lambda: done.append("evaluate"),
    )
    for _ in range(2):
        done.clear()
        running._compile(run)  # type: ignore[arg-type]
        wanted = ["evaluate uint8", "train", "wait", "evaluate", "stop"] if helped else ["train", *["evaluate"] * test]
        assert done == wanted
    run.compile = lambda: done[10**9]
    done.clear()
    with pytest.raises(IndexError):
        running._compile(run)  # type: ignore[arg-type]
    assert done == (["evaluate uint8", "stop"] if helped else [])
    run.dataset.test, run.validation, run.compile = None, split, lambda: None
    fails = iter((False,))
    done.clear()
    running._compile(run)  # type: ignore[arg-type]
    assert "evaluate" in done
