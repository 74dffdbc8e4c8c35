"""The command as people and scripts use it: output, exit codes, signals, bad input of every kind."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import asdict, fields
from importlib.metadata import requires
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import numpy as np
import pytest
from conftest import ROOT, clean_error, fastnn, make_dataset, python
from typer.testing import CliRunner

from fastnn import draw_strokes, load
from fastnn.cli import display
from fastnn.cli.app import app
from fastnn.cli.main import _open_standard_files, run
from fastnn.distribution import NAME
from fastnn.model.model import Model
from fastnn.tools.bench import Phase, Row
from fastnn.tools.gradcheck import Check
from fastnn.tools.warmup import Warm
from fastnn.training.settings import Settings

SAMPLE = ROOT / "data" / "samples" / "3.png"
COMMANDS = (
    *("train", "predict", "evaluate", "gradcheck", "convert", "show", "data", "doctor", "bench", "warmup", "report"),
    "draw",
)
PLOTS = ("history", "confusion", "predictions", "confidence", "calibration", "weights")


@pytest.mark.parametrize("command", ["", "plot", *COMMANDS, *(f"plot {name}" for name in PLOTS)])
def test_help(command: str) -> None:
    found = CliRunner().invoke(app, [*command.split(), "--help"])
    assert found.exit_code == 0
    assert "--help" in found.output


def test_every_option_of_a_setting_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with a value that is not its default, through the command itself."""
    reached: dict[str, Any] = {}
    monkeypatch.setattr("fastnn.cli.app.run_training", lambda data, settings, *rest: reached.update(asdict(settings)))
    monkeypatch.setattr("fastnn.datasets.load", lambda *asked: make_dataset(30, 4, 2))
    runner, plain = CliRunner(), asdict(Settings())
    needed = {  # a setting that would not be used is refused
        **{name: {"optimizer": "adam"} for name in ("momentum", "beta2", "epsilon")},
        **{name: {"schedule": "step"} for name in ("gamma", "step_epochs")},
        "learning_rate_decay": {"schedule": "decay"},
        "huber_delta": {"loss": "huber"},
        "plateau_factor": {"plateau": 2},
        "elastic_sigma": {"elastic": 1.0},
    }
    for item in fields(Settings):
        option, allowed = item.metadata["option"].split(",")[0].split("/"), item.metadata["allowed"]
        if allowed is None:  # a pair, --this/--that: the other one than the default
            arguments, wanted = [option[1] if item.default else option[0]], not item.default
        elif item.name == "hidden":
            arguments, wanted = [option[0], "9,8"], (9, 8)
        elif isinstance(item.default, tuple):
            arguments, wanted = [option[0], allowed[-1]], (allowed[-1],)
        elif isinstance(allowed, tuple):
            wanted = next(name for name in allowed if name != item.default)
            arguments = [option[0], wanted]
        else:
            wanted = next(value for value in (3, 0.75, 0.5) if value in allowed and value != item.default)
            arguments = [option[0], str(wanted)]
        given = needed.get(item.name, {})
        arguments += [text for name, value in given.items() for text in (f"--{name}", str(value))]
        done = runner.invoke(app, ["train", "--data", "strokes", "--quiet", *arguments])
        assert done.exit_code == 0, (arguments, done.output, done.exception)
        assert reached[item.name] == wanted != plain[item.name], item.name
        assert {**reached, item.name: 0} == {**plain, **given, item.name: 0}


@pytest.mark.parametrize(
    ("below", "said", "verdict"), [(0.0, "3.png: 3  (", "sure"), (1.0, "unsure, perhaps 3  (", "unsure")]
)
def test_an_answer_below_the_threshold_is_called_unsure(below: float, said: str, verdict: str, tmp_path: Path) -> None:
    model = load()
    calibration = {**model.metadata["calibration"], "unsure_below": below}
    Model(model.network, model.parameters, {**model.metadata, "calibration": calibration}).save(tmp_path / "m.npz")
    assert said in fastnn("predict", SAMPLE, "-w", tmp_path / "m.npz").stdout
    assert json.loads(fastnn("predict", SAMPLE, "-w", tmp_path / "m.npz", "--json").stdout)["verdict"] == verdict


def test_every_documented_option_is_in_help_and_every_option_in_help_is_documented() -> None:
    pages = [(ROOT / "docs" / f"{name}.md").read_text() for name in ("commands", "plots", "settings")]
    text_of_docs, seen = "\n".join(pages), 0
    for command in (*COMMANDS, *(f"plot {name}" for name in PLOTS)):
        text = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
        for option in set(re.findall(r"--[a-z][a-z-]+", text)) - {"--help"}:
            assert option in text_of_docs, f"{command} {option} is not in docs/"
    for line in re.findall(r"^\| `fastnn (\w+)[^|]*\|([^|]*)\|", text_of_docs, re.MULTILINE):
        text = CliRunner().invoke(app, [line[0], "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
        for option in re.findall(r"--[a-z][a-z-]+", line[1]):
            assert option in text, f"{option} is documented for {line[0]}, but not there"
            seen += 1
    assert seen > 20


def test_help_and_predict_need_no_numba() -> None:
    script = "import sys; from fastnn.cli import main\ntry: main(sys.argv[1:])\nfinally: print('numba' in sys.modules)"
    for arguments in (["--help"], ["predict", str(SAMPLE)], ["show"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.rstrip().endswith("False"), arguments


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("run")
    command = ("train", "--data", digits, "--epochs", 2, "--batch-size", 8, "--json", "--seed", 4)
    done = fastnn(*command, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "model.safetensors", done


def test_train_prints_the_events_of_the_design(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    start, first, second, result = map(json.loads, trained[1].stdout.splitlines())
    assert set(start) == {
        "event",
        "data",
        "examples",
        "features",
        "classes",
        "layers",
        "parameters",
        "batch_size",
        "optimizer",
        "threads",
        "seed",
        "compile_seconds",
    }
    assert (start["event"], start["data"], start["examples"], start["features"]) == ("start", "digits", 5_000, 784)
    assert (start["layers"], start["parameters"], start["seed"]) == ([784, 256, 10], 203_530, 4)
    wanted = {"event", "epoch", "seconds", "examples_per_second", "loss", "accuracy", "learning_rate"}
    assert set(first) == set(second) == wanted
    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert second["loss"] < first["loss"]
    assert second["accuracy"] > 0.6
    keys = {"event", "seconds", "epochs", "test_loss", "test_accuracy", "weights", "sha256"}
    assert set(result) == keys
    assert result["epochs"] == 2
    assert load(trained[0]).sha256 == result["sha256"]
    assert load(trained[0]).metadata["history"]["epochs"] == 2


def test_train_says_on_stderr_what_it_does(trained: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    lines = trained[1].stderr.splitlines()
    assert lines[0].startswith("data: digits, 5,000 examples")
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert "\x1b" not in trained[1].stderr
    assert "\r" not in trained[1].stderr


def test_quiet_says_only_the_result(tmp_path: Path) -> None:
    done = fastnn("train", "--data", "strokes", "-e", 1, "-q", "-o", tmp_path / "a b é.safetensors", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"784-256-10 reads \d\d\.\d\d% of 10,000 strokes test examples .* saved in .*\n", done.stdout)
    assert (tmp_path / "a b é.safetensors").exists()


def test_every_option_of_train_reaches_the_run(digits: Path, tmp_path: Path) -> None:
    options = "--hidden none --init glorot --lr 0.03 --schedule decay --lr-decay 0.5 --threads 1 --input dense"
    done = fastnn("train", "--data", digits, "--json", *options.split(), "--batch-size", 50, "-e", 2, cwd=tmp_path)
    start, _, second, _ = map(json.loads, done.stdout.splitlines())
    assert (start["layers"], start["threads"], start["batch_size"]) == ([784, 10], 1, 50)
    assert second["learning_rate"] == pytest.approx(0.02)
    training = load(tmp_path / "model.safetensors").metadata["training"]
    assert (training["initialisation"], training["input"], training["hidden"]) == ("glorot", "dense", [])


def test_bench_shows_the_phases_of_a_step() -> None:
    """They add up to the step, on each thread; a second hidden layer has phases of its own."""
    names = {}
    for hidden in ("32", "32,16"):
        done = fastnn("bench", "--phases", "--hidden", hidden, "-b", 500, "-t", 2, "--json")
        *rows, step = map(json.loads, done.stdout.splitlines())
        names[hidden] = [row["phase"] for row in rows]
        assert step["phase"] == "step"
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        for thread in (0, 1):
            parts = [row["microseconds"][thread] for row in rows]
            assert sum(parts) == pytest.approx(step["microseconds"][thread])
            assert min(parts) >= 0
    assert {"hidden layers", "hidden gradients"} == set(names["32,16"]) - set(names["32"])
    shown = fastnn("bench", "--phases", "--hidden", "32", "-b", 500, "-t", 1).stdout
    assert "first gradient" in shown
    assert "thread 1" not in shown


@pytest.mark.long
def test_bench_measures_every_line() -> None:
    rows = list(map(json.loads, fastnn("bench", "--threads", 1, "--json").stdout.splitlines()))
    assert len(rows) == 8
    assert all(row["gflops"] > 0 and row["share"] > 0 for row in rows)
    assert all(row["seconds"] > 0 and row["numpy_ratio"] > 0 for row in rows[1:])


def test_evaluate_and_its_gate(trained: tuple[Path, subprocess.CompletedProcess[str]], digits: Path) -> None:
    arguments = ("evaluate", "--data", digits, "--weights", trained[0])
    found = json.loads(fastnn(*arguments, "--json").stdout)
    assert set(found) == {
        "data",
        "split",
        "examples",
        "loss",
        "accuracy",
        "per_class",
        "confusion",
        "calibration_error",
    }
    result = json.loads(trained[1].stdout.splitlines()[-1])
    assert found["accuracy"] == result["test_accuracy"]
    assert found["loss"] == pytest.approx(result["test_loss"], rel=1e-6)
    assert sum(map(sum, found["confusion"])) == found["examples"] == 1_000
    assert sum(row[i] for i, row in enumerate(found["confusion"])) == round(found["accuracy"] * 1_000)
    assert "below --min-accuracy" in clean_error(fastnn(*arguments, "--min-accuracy", "0.9999"), 4)
    assert json.loads(fastnn(*arguments, "--json", "--split", "train").stdout)["examples"] == 5_000
    done = fastnn(*arguments, "--min-accuracy", "0.5")
    assert done.returncode == 0
    assert "true \\ said" in done.stdout


def test_predict_shows_a_chart_and_json(tmp_path: Path) -> None:
    done = fastnn("predict", SAMPLE)
    assert done.stdout.splitlines()[0].startswith(f"{SAMPLE}: 3  (")
    assert len(done.stdout.splitlines()) == 11
    assert "█" in done.stdout
    assert len(fastnn("predict", SAMPLE, "--top", 3).stdout.splitlines()) == 4
    assert len(fastnn("predict", SAMPLE.parent).stdout.splitlines()) == 10
    lines = list(map(json.loads, fastnn("predict", SAMPLE, SAMPLE.parent / "7.png", "--json").stdout.splitlines()))
    assert [line["label"] for line in lines] == ["3", "7"]
    assert set(lines[0]) == {"image", "label", "verdict", "confidence", "probabilities"}
    assert sum(lines[0]["probabilities"].values()) == pytest.approx(1)
    top = json.loads(fastnn("predict", SAMPLE, "--json", "--top", 2).stdout)
    assert len(top["probabilities"]) == 2


def test_a_blank_picture_is_answered_with_a_warning(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    found = json.loads(fastnn("predict", tmp_path / "blank.png", "--json").stdout)
    assert "blank" in found["warning"]
    assert found["verdict"] == "nothing"
    shown = fastnn("predict", tmp_path / "blank.png").stdout
    assert "no digit, nothing is drawn" in shown
    assert "warning: blank" in shown


def test_output_that_can_show_no_blocks() -> None:
    done = fastnn("predict", SAMPLE, PYTHONIOENCODING="ascii:replace")
    assert done.returncode == 0
    assert "####" in done.stdout


FEW = """
from fastnn.cli import main
from fastnn.tools import gradcheck
whole = gradcheck.check
gradcheck.check = lambda seed: whole(seed, gradcheck.CASES[:3])
main(["gradcheck"])
"""


@pytest.mark.parametrize("script", [FEW, pytest.param("", marks=pytest.mark.long)], ids=["few", "all"])
def test_gradcheck_prints_every_tensor(script: str) -> None:
    """Of a few networks of one kernel, here: that all are right is tested without the command."""
    done = python(script) if script else fastnn("gradcheck")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 + (3 * (2 + 4 + 4) if script else 330)
    assert "MISSED" not in done.stdout


def test_doctor_tells_everything() -> None:
    found = json.loads(fastnn("doctor", "--json").stdout)
    assert set(found) == {"machine", "kernels", "threads", "kernel cache", "versions", "extras"}
    assert found["versions"]["numba"] != "missing"
    wanted: dict[str, set[str]] = {"": set()}
    for text in requires(NAME) or ():  # what is installed, not what is written in a list of ours
        name, extra = re.split(r"[<>=!~; \[]", text)[0], re.search(r"extra == .(\w+)", text)
        wanted.setdefault(extra[1] if extra else "", set()).add(name)
    assert set(found["versions"]) == {"fastnn", "Python", "llvmlite"} | wanted.pop("")
    assert {"plot", "web", "dev"} <= set(wanted)
    assert {extra: {item.split()[0] for item in line.split(", ")} for extra, line in found["extras"].items()} == wanted
    text = fastnn("doctor").stdout
    for part in ("CPU", "vector", "tile", "quota", "folder", "numba"):
        assert part in text
    numbers = {name: list(map(int, re.findall(r"(?<![\w])\d+", line))) for name, line in found["kernels"].items()}
    lanes, bits = numbers["vector"]
    assert bits == 32 * lanes
    assert numbers["panel"] == [numbers["tile"][1] * lanes]


def test_python_m_and_version() -> None:
    """In a process that imports everything itself, as the forks of all other tests do not."""
    command = [sys.executable, "-m", "fastnn", "--version"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", done.stdout), done.stderr
    assert fastnn("--version").stdout == done.stdout


def test_forks_are_processes_of_their_own(digits: Path, tmp_path: Path) -> None:
    """Folder, environment, exit code, and an end when they take too long."""
    here = str(tmp_path / "here")
    assert here in fastnn("doctor", FASTNN_CACHE_DIR=here).stdout
    assert here not in fastnn("doctor").stdout
    with pytest.raises(subprocess.TimeoutExpired):
        fastnn("train", "--data", digits, "--epochs", 100_000, cwd=tmp_path, timeout=2)
    assert fastnn("predict", "nothing.png").returncode == 3


BAD = [
    (("train", "--epochs", "0"), 2, "--epochs 0"),
    (("train", "--epochs", "two"), 2, "--epochs"),
    (("train", "--batch-size", "0"), 2, "--batch-size"),
    (("train", "--lr", "nan"), 2, "--lr"),
    (("train", "--lr", "-1"), 2, "--lr"),
    (("train", "--lr-decay", "-1"), 2, "--lr-decay"),
    (("train", "--hidden", "12,x"), 2, "--hidden"),
    (("train", "--hidden", "0"), 2, "--hidden 0"),
    (("train", "--hidden", "128,,64"), 2, "--hidden"),
    (("train", "--threads", "0"), 2, "--threads 0"),
    (("train", "--seed", "-3"), 2, "--seed"),
    (("train", "--init", "zero"), 2, "'zero'"),
    (("train", "--input", "magic"), 2, "--input"),
    (("train", "--data", "nowhere"), 2, "no data set or file"),
    (("train", "--out", "/nowhere/m.safetensors"), 2, "there is no folder"),
    (("train", "--out", "."), 2, "this is a folder"),
    (("train", "--nonsense"), 2, "--nonsense"),
    (("nonsense",), 2, "nonsense"),
    (("predict",), 2, "Missing argument 'images'"),
    (("predict", "nothing.png"), 3, "no such file"),
    (("predict", SAMPLE, "--top", "0"), 2, "--top 0"),
    (("predict", SAMPLE, "--weights", "nothing"), 3, "no such file"),
    (("predict", SAMPLE, "--weights", SAMPLE), 3, "not a safetensors file"),
    (("predict", ROOT / "pyproject.toml"), 3, "not a picture"),
    (("predict", ROOT / "fastnn"), 3, "no pictures in this folder"),
    (("evaluate", "--min-accuracy", "98"), 2, "--min-accuracy"),
    (("evaluate", "--threads", "0"), 2, "--threads"),
    (("evaluate", "--split", "none"), 2, "none"),
    (("show", "nothing"), 3, "no such file"),
    (("show", ROOT), 3, "not a file"),
    (("show", "/dev/zero"), 3, "not a file"),
    (("bench", "--threads", "-1"), 2, "--threads"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD)
def test_bad_input_is_one_line_and_the_right_code(
    arguments: tuple[object, ...], code: int, message: str, tmp_path: Path
) -> None:
    done = fastnn(*arguments, cwd=tmp_path)
    assert message in clean_error(done, code)
    assert list(tmp_path.iterdir()) == []


def test_no_command_shows_the_help() -> None:
    done = fastnn()
    assert (done.returncode, "Commands" in done.stdout, done.stderr) == (2, True, "")


def test_debug_shows_the_traceback() -> None:
    done = fastnn("--debug", "predict", "nothing.png")
    assert done.returncode == 3
    assert "Traceback" in done.stderr


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="permissions do not bind root")
def test_a_folder_without_write_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "can't be written" in clean_error(fastnn("train", "--out", tmp_path / "m", cwd=ROOT), 1)


def test_divergence_is_one_line_and_exit_1(digits: Path, tmp_path: Path) -> None:
    line = clean_error(fastnn("train", "--data", digits, "--lr", "1e20", cwd=tmp_path), 1)
    assert re.search(r"training diverged at epoch 1, step \d+: the loss is not finite .* Try --lr 1e\+19", line)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_what_was_learned(number: signal.Signals, code: int, digits: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnn", "train", "--data", str(digits), "--epochs", "100000", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    for line in process.stdout:
        if json.loads(line).get("epoch") == 2:
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=60)  # of 100,000 epochs
    assert process.returncode == code
    assert "Traceback" not in err
    assert "is saved in model.safetensors" in err
    assert load(tmp_path / "model.safetensors").metadata["history"]["epochs"] >= 2


@pytest.mark.skipif(os.name != "posix", reason="pipes")
@pytest.mark.parametrize(
    "command",
    [
        ("data",),
        pytest.param(("gradcheck",), marks=pytest.mark.long),  # it looks at its output when all is done
        ("predict", str(SAMPLE.parent)),
        ("--help",),
    ],
)
def test_a_reader_that_leaves_early(command: tuple[str, ...]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnn", *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert err == ""


NO_WORK: dict[str, Any] = {  # in place of what takes long: what is said about it matters here
    "fastnn.tools.warmup.warm": lambda processes: iter([Warm("job", 1.0)]),
    "fastnn.tools.gradcheck.check": lambda seed: iter([Check("n", "w", "c", 0.0, 1.0)]),
    "fastnn.tools.bench.table": lambda threads: iter([Row("work", 1.0, 1.0, 1.0)]),
    "fastnn.tools.bench.phases": lambda *asked: [Phase("step", (1.0,), 1.0)],
}
# a small model: the one that is shipped takes 3 s to write and to try
CONVERT = ("convert", str(ROOT / "tests" / "golden" / "linear.pt"), "m.npz", "--activation", "relu")
SAYING: tuple[tuple[str, ...], ...] = (
    *(("data",), ("doctor",), ("show",), ("warmup",), ("gradcheck",), ("bench",), ("bench", "--phases")),
    *(("predict", str(SAMPLE)), ("plot", "weights", "--text")),
    CONVERT,
)


def said_to(stream: TextIO, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command whose stdout is `stream`."""
    for name, work in NO_WORK.items():
        monkeypatch.setattr(name, work)
    monkeypatch.setattr("sys.stdout", stream)
    code = run(list(command))
    stream.flush()  # as the interpreter does at its end, where it must not fail either
    stream.close()
    return code


@pytest.mark.skipif(os.name != "posix", reason="pipes")
@pytest.mark.parametrize("command", [*SAYING, *((*c, "--json") for c in SAYING[:-2])], ids=" ".join)
def test_every_command_ends_quietly_when_its_reader_has_left(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    read, write = os.pipe()
    os.close(read)
    assert said_to(os.fdopen(write, "w"), command, monkeypatch) == 1
    assert "error" not in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk to write to")
@pytest.mark.parametrize("command", [*SAYING[:2], ("--version",), ("--help",)], ids=" ".join)
def test_output_that_cannot_be_written_is_one_line(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as full:
        assert said_to(full, command, monkeypatch) == 1
    assert capsys.readouterr().err == "error: stdout: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full disk to write to")
@pytest.mark.parametrize("command", [("doctor", "--json"), ("--version",)], ids=" ".join)
def test_a_full_stdout_is_named_by_a_process_too(command: tuple[str, ...]) -> None:
    """Where the interpreter has opened it: every line is written at once."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastnn", *command],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "error: stdout: No space left on device\n")


@pytest.mark.skipif(os.name != "posix", reason="a shell")
@pytest.mark.parametrize(("closed", "code"), [(">&-", 1), ("2>&-", 0), ("<&-", 0)])
def test_standard_files_that_are_closed(closed: str, code: int, tmp_path: Path) -> None:
    """The next file that is opened must not be taken for one of them."""
    command = f"exec {shlex.quote(sys.executable)} -m fastnn {shlex.join(CONVERT)} {closed}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    if code:
        assert "stdout is closed" in clean_error(done, code)
        assert not list(tmp_path.iterdir())
    else:
        assert done.stdout.startswith("m.npz: ")
        assert done.stderr == ""
        load(tmp_path / "m.npz")


def test_two_runs_at_once_leave_one_sound_file(tmp_path: Path) -> None:
    x, y = draw_strokes(400, seed=1)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y)
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "fastnn", "train", "--data", "d.npz", "-e", "20", "-q", "-s", str(seed)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
        )
        for seed in (1, 2)
    ]
    assert [process.wait(60) for process in started] == [0, 0]
    assert load(tmp_path / "model.safetensors").metadata["training"]["seed"] in (1, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.npz", "model.safetensors"]


def test_bars_and_tables() -> None:
    assert display.bar(0, 8) == ""
    assert display.bar(1, 8) in ("█" * 8, "#" * 8)
    assert display.table(["a", "b"], [["x", "10"], ["yy", "9"]], right=(1,)) == "a    b\n--  --\nx   10\nyy   9"


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals")
@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_bar_moves_on_a_terminal_only(no_color: str, digits: Path, tmp_path: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "NO_COLOR": no_color}
    process = subprocess.Popen(
        [sys.executable, "-m", "fastnn", "train", "--data", str(digits), "-e", "2", "--hidden", "2048"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4_096)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert process.wait(60) == 0
    assert (b"\x1b[2K" in shown) == (no_color == "")
    assert b"examples/s" in shown


@pytest.mark.parametrize("closed", [(), (0,), (1, 2), (0, 1, 2)])
def test_each_standard_file_that_is_closed_becomes_the_null_device(
    closed: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, int]] = []

    def fstat(number: int) -> None:
        if number in closed:
            raise OSError("closed")

    standing_in = SimpleNamespace(
        fstat=fstat, open=lambda *given: opened.append(given), devnull=os.devnull, O_RDWR=os.O_RDWR
    )
    monkeypatch.setattr(sys.modules["fastnn.cli.main"], "os", standing_in)
    with monkeypatch.context() as inside:
        inside.setattr("sys.stderr", None)
        _open_standard_files()
        with sys.stderr as null:
            assert (null.name, null.mode) == (os.devnull, "w")
    assert opened == [(os.devnull, os.O_RDWR)] * len(closed)
