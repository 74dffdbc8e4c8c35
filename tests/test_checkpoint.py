"""Checkpoints: the same bits after any interruption, whatever the moment; and what must not be gone on with."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, clean_error, fastnn, make_dataset, python
from safetensors.numpy import save_file

from fastnn import files
from fastnn.datasets import Dataset
from fastnn.errors import ModelFileError, RunError, UsageError
from fastnn.training import checkpoint
from fastnn.training.batches import sample_weight_of
from fastnn.training.checkpoint import NAME, PREVIOUS, Checkpoints, Snapshot, only_here, read, restore, take, write
from fastnn.training.run import Training
from fastnn.training.settings import Settings

# each optimizer, with something else that has a state or depends on the step
RUNS = {
    "sgd": {},
    "momentum, averaging": {"optimizer": "momentum", "averaging": 0.95},
    "nesterov, step": {"optimizer": "nesterov", "schedule": "step", "step_epochs": 1},
    "adam, dropout, cosine": {"optimizer": "adam", "dropout": 0.3, "schedule": "cosine", "warmup_epochs": 1.0},
    "adamw, stopping": {"optimizer": "adamw", "validation": 0.2, "patience": 2, "plateau": 1, "learning_rate": 0.05},
    "rmsprop, noise, clipping": {"optimizer": "rmsprop", "input_noise": 0.2, "clip_norm": 1.0, "schedule": "one-cycle"},
}


def run_of(kind: str, dataset: Dataset | None = None, **changes: object) -> Training:
    options = {
        "hidden": (12, 9),
        "epochs": 5,
        "batch_size": 16,
        "seed": 3,
        "schedule": "decay",
        **RUNS[kind],
        **changes,
    }
    dtype = "uint8" if "dropout" in options else "float32"  # as another test has it, so that the kernel is there
    return Training(dataset or make_dataset(150, 14, 3, dtype), Settings(**options))  # type: ignore[arg-type]


class StopError(Exception):
    """Where a run is interrupted."""


def finished(run: Training) -> str:
    for _ in run:
        pass
    found = run.model().sha256 + str([(e.loss, e.accuracy, e.validation_loss, e.learning_rate) for e in run.history])
    run.close()
    return found


@pytest.mark.parametrize("interruptions", [1, 3, 10])
@pytest.mark.parametrize("kind", RUNS)
def test_an_interrupted_run_ends_in_the_same_bits(kind: str, interruptions: int, tmp_path: Path) -> None:
    """Stopped after any step, also the last of an epoch, written, read in a new run with other threads and cuts."""
    wanted = finished(run_of(kind))
    generator = random.Random(f"{kind} {interruptions}")
    snapshot = None
    for _ in range(interruptions):
        run = run_of(kind, threads=generator.choice((1, 2, 3)))
        if snapshot:
            restore(run, read(tmp_path / NAME), pytest.fail)
        left = generator.randint(1, 12)

        def count(run: Training) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise StopError

        run.on_safe = count
        run._steps.a_call = 1
        run._batches.most_steps = 1
        with contextlib.suppress(StopError):
            for _ in run:
                pass
        snapshot = take(run)
        write(snapshot, tmp_path / NAME)
        run.close()
    run = run_of(kind)
    restore(run, read(tmp_path / NAME), pytest.fail)
    assert finished(run) == wanted


def test_a_snapshot_comes_back_as_it_was(tmp_path: Path) -> None:
    run = run_of("adamw, stopping")
    next(iter(run))
    snapshot = take(run)
    write(snapshot, tmp_path / NAME)
    found = read(tmp_path / NAME)
    assert replace(found, tensors={}) == replace(snapshot, tensors={})
    assert set(found.tensors) == set(snapshot.tensors)
    assert {name.split(".")[0] for name in found.tensors} == {"parameters", "first", "second", "best"}
    for name, tensor in snapshot.tensors.items():
        assert (found.tensors[name] == tensor).all()
    run.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.5, "seed": 4}, "learning_rate was 0.15 and is 0.5; seed was 3 and is 4"),
        ({"hidden": (12, 8)}, "hidden was [12, 9] and is [12, 8]"),
        ({"optimizer": "adam"}, "optimizer was sgd and is adam"),
        ({"epochs": 4}, "epochs was 5 and is 4"),
        ({"epochs": 9, "schedule": "cosine"}, "epochs was 5 and is 9"),
    ],
)
def test_another_run_is_not_gone_on_with(changes: dict[str, object], message: str) -> None:
    run = run_of("sgd")
    next(iter(run))
    other = run_of("sgd", **changes)
    with pytest.raises(UsageError) as raised:
        restore(other, take(run), pytest.fail)
    assert message in str(raised.value)
    for open_run in (run, other):
        open_run.close()


def test_other_data_or_another_version_is_noticed() -> None:
    run = run_of("sgd")
    next(iter(run))
    data = make_dataset(150, 14, 3)
    y = data.train.y.copy()
    y[7] = (y[7] + 1) % 3
    for other in (
        replace(data, train=replace(data.train, y=y)),
        replace(data, train=replace(data.train, sample_weight=np.ones(150))),
        replace(data, validation=data.test),
    ):
        with pytest.raises(UsageError, match="the examples are others"):
            restore(run_of("sgd", other), take(run), pytest.fail)
    said: list[str] = []
    restore(run_of("sgd"), replace(take(run), fastnn_version="0.0.1", lanes=7), said.append)
    assert "of fastnn 0.0.1" in said[0]
    assert "another kind of CPU" in said[1]
    assert sample_weight_of(data.train, Settings()) is None
    run.close()


def test_more_epochs_go_on_as_if_asked_for_at_once() -> None:
    short = run_of("momentum, averaging")
    list(short)
    longer = run_of("momentum, averaging", epochs=8)
    restore(longer, take(short), pytest.fail)
    assert finished(longer) == finished(run_of("momentum, averaging", epochs=8))
    short.close()


def damaged(content: bytes, how: str) -> bytes:
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    return {"empty": b"", "cut": content[:-1], "flipped": bytes(flipped), "other": b"{}" * 100}[how]


@pytest.mark.parametrize("how", ["empty", "cut", "flipped", "other"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(how: str, tmp_path: Path) -> None:
    run, said = run_of("sgd"), list[str]()
    checkpoints = Checkpoints(tmp_path, 0.0, said.append)
    epochs = iter(run)
    next(epochs)
    assert checkpoints.save(run)
    next(epochs)
    assert checkpoints.save(run)
    good = checkpoints.latest()
    assert good
    assert good.epoch == 2
    path = tmp_path / NAME
    path.write_bytes(damaged(path.read_bytes(), how))
    found = checkpoints.latest()
    assert found
    assert found.epoch == 1
    assert "going on from the one before it" in said[0]
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(ModelFileError):
        checkpoints.latest()
    run.close()


def test_no_flipped_bit_of_the_header_is_believed(tmp_path: Path) -> None:
    """The names of tensors are in it, and which numbers are whose."""
    run = run_of("sgd")
    next(iter(run))
    write(take(run), tmp_path / NAME)
    good, wanted = (tmp_path / NAME).read_bytes(), take(run)
    for at in range(8 + int.from_bytes(good[:8], "little")):
        bad = bytearray(good)
        bad[at] ^= 1 << (at % 5)
        (tmp_path / NAME).write_bytes(bad)
        with contextlib.suppress(ModelFileError):
            found = read(tmp_path / NAME)
            assert replace(found, tensors={}) == replace(wanted, tensors={}), at
            assert {n: t.tobytes() for n, t in found.tensors.items()} == {
                n: t.tobytes() for n, t in wanted.tensors.items()
            }, at
    run.close()


def without(snapshot: Snapshot, name: str, **more: np.ndarray) -> Snapshot:
    tensors = {key: tensor for key, tensor in snapshot.tensors.items() if key != name}
    return replace(snapshot, tensors={**tensors, **more})


W = "parameters.layers.1.weight"
WRONG = {
    "a tensor is missing": lambda good: without(good, W),
    "another shape": lambda good: without(good, W, **{W: good.tensors[W].T}),
    "another number type": lambda good: without(good, W, **{W: good.tensors[W].astype(np.float64)}),
    "a tensor too many": lambda good: without(good, "", **{"parameters.layers.9.bias": np.zeros(2, "f4")}),
    "a buffer too many": lambda good: without(good, "", **{f"third.{W[11:]}": good.tensors[W]}),
    "no buffers": lambda good: replace(good, tensors={"parameters.x": np.zeros(2, "f4")}),
    "history of something else": lambda good: replace(good, history=[{"epoch": 1}]),
    "no best": lambda good: replace(good, watch={}),
    "three totals": lambda good: replace(good, totals=[1.0, 2.0, 3.0]),
    "settings are a list": lambda good: replace(good, settings=["hidden"]),
}


def test_what_the_hash_covers_may_be_wrong_all_the_same(tmp_path: Path) -> None:
    run, said = run_of("momentum, averaging"), list[str]()
    checkpoints = Checkpoints(tmp_path, 0.0, said.append)
    next(iter(run))
    good = take(run)
    write(good, tmp_path / PREVIOUS)
    for kind, change in WRONG.items():
        write(replace(change(good), epoch=7), tmp_path / NAME)
        fresh = run_of("momentum, averaging")
        assert checkpoints.latest(fresh), kind
        assert fresh.state.epoch == 1, kind
        assert "going on from the one before it" in said.pop(), kind
        fresh.close()
    (tmp_path / PREVIOUS).unlink()
    fresh = run_of("momentum, averaging")
    with pytest.raises(ModelFileError, match="checkpoint"):
        checkpoints.latest(fresh)
    assert finished(fresh) == finished(run_of("momentum, averaging"))  # as if nothing had been tried
    run.close()


def test_checkpoints_of_the_first_version_are_read(tmp_path: Path) -> None:
    """Written by the library, with a hash of the tensors' bytes alone."""
    run = run_of("adam, dropout, cosine")
    next(iter(run))
    snapshot = take(run)
    text = json.dumps({"format_version": 1, **{k: v for k, v in vars(snapshot).items() if k != "tensors"}})
    digest = hashlib.sha256(text.encode())
    for name in sorted(snapshot.tensors):
        digest.update(np.ascontiguousarray(snapshot.tensors[name]).data)
    save_file(
        {name: np.ascontiguousarray(tensor) for name, tensor in snapshot.tensors.items()},
        tmp_path / NAME,
        {"fastnn-checkpoint": text, "sha256": digest.hexdigest()},
    )
    fresh = run_of("adam, dropout, cosine")
    assert Checkpoints(tmp_path, 0.0, pytest.fail).latest(fresh)
    assert finished(fresh) == finished(run_of("adam, dropout, cosine"))
    run.close()


@pytest.mark.parametrize("step", ["fsync", "replace", "link"])
@pytest.mark.parametrize("which", [1, 2])
def test_a_full_disk_is_a_warning_and_loses_nothing(
    which: int, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, said = run_of("sgd"), list[str]()
    checkpoints = Checkpoints(tmp_path, 0.0, said.append)
    next(iter(run))
    assert checkpoints.save(run)
    real, calls = getattr(os, step), [0]

    def full(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        if calls[0] == which:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    monkeypatch.setattr(files.os, step, full)
    saved = checkpoints.save(run)
    monkeypatch.undo()
    if not saved:
        assert "No space left" in said[0]
        assert "training goes on" in said[0]
    found = checkpoints.latest()
    assert found
    assert found.epoch == 1
    assert {path.name for path in tmp_path.iterdir()} <= {NAME, PREVIOUS}
    run.close()


def test_two_runs_cannot_write_to_one_folder(tmp_path: Path) -> None:
    (tmp_path / ".fastnn-old.tmp").touch()
    with only_here(tmp_path / "a"), pytest.raises(UsageError, match="another run"), only_here(tmp_path / "a"):
        pass
    with only_here(tmp_path):
        assert not (tmp_path / ".fastnn-old.tmp").exists()
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file: "), only_here(tmp_path / "file"):
        pass


def test_a_folder_below_one_that_is_not_there_is_made(tmp_path: Path) -> None:
    for _ in range(2):
        with only_here(tmp_path / "a" / "b"):
            assert (tmp_path / "a" / "b").is_dir()


def test_two_runs_cannot_write_to_one_folder_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for its module: the first byte of a file, for one process at a time."""
    held, places = set[int](), list[int]()

    def locking(handle: int, mode: int, count: int) -> None:
        places.append(os.lseek(handle, 0, os.SEEK_CUR))
        assert (mode, count) == (2, 1)
        if os.fstat(handle).st_ino in held:
            raise OSError(errno.EACCES, "Permission denied")
        held.add(os.fstat(handle).st_ino)

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(LK_NBLCK=2, locking=locking))
    (tmp_path / "lock").write_bytes(b"something")
    with only_here(tmp_path), pytest.raises(UsageError, match="another run"), only_here(tmp_path):
        pass
    assert places == [0, 0]


def test_a_diverging_run_keeps_its_last_finite_checkpoint(tmp_path: Path) -> None:
    run = run_of("sgd")
    checkpoints = Checkpoints(tmp_path, 0.0, pytest.fail)
    next(iter(run))
    assert checkpoints.save(run)
    run.state.buffers["parameters"][0] = np.nan
    assert not checkpoints.save(run)
    assert np.isfinite(read(tmp_path / NAME).tensors["parameters.layers.0.weight"]).all()
    run.close()


Command = tuple[str, ...]


@pytest.fixture(scope="module")
def command(digits: Path) -> Command:
    return (
        *("train", "--data", str(digits), "--hidden", "64", "--epochs", "60", "--optimizer", "adam"),
        *("--dropout", "0.2", "--validation", "0.1", "--schedule", "cosine"),
        *("--checkpoint", "run", "--checkpoint-every", "0", "--json"),
    )


def start(folder: Path, command: Command) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fastnn", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    """Until the process says so."""
    assert process.stdout
    for line in process.stdout:
        if word in line:
            return
    pytest.fail(f"{word} was never said: {process.stderr and process.stderr.read()}")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, command: Command) -> str:
    done = fastnn(*command, cwd=tmp_path_factory.mktemp("whole"))
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout.splitlines()[-1])["sha256"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_at_once_and_resuming_ends_in_the_same_bits(
    number: int, code: int, tmp_path: Path, command: Command, uninterrupted: str
) -> None:
    process = start(tmp_path, command)
    wait_for(process, '"epoch": 2')
    process.send_signal(number)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert '"event": "result"' not in rest  # it did not go on to the end
    assert "--resume goes on from there" in errors
    assert "saved in model.safetensors" in errors
    done = fastnn(*command, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on after" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["sha256"] == uninterrupted
    assert not list(tmp_path.rglob("*.tmp"))


def killed_and_resumed(folder: Path, command: Command, kills: int, seed: int) -> str:
    """The result of a run that is killed so many times at random moments; checkpoints are written all the time."""
    generator, more = random.Random(seed), command
    for _ in range(kills):
        process = start(folder, more)
        wait_for(process, '"start"')
        time.sleep(generator.random() * 0.25)
        process.kill()
        process.communicate()
        more = (*command, "--resume")
    done = fastnn(*more, cwd=folder)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout.splitlines()[-1])["sha256"])


def test_killed_runs_end_in_the_same_bits(tmp_path: Path, command: Command, uninterrupted: str) -> None:
    assert killed_and_resumed(tmp_path, command, 1, 0) == uninterrupted


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, int(os.environ.get("FASTNN_KILLS", "6")) + 1))
def test_runs_killed_ten_times_end_in_the_same_bits(
    seed: int, tmp_path: Path, command: Command, uninterrupted: str
) -> None:
    assert killed_and_resumed(tmp_path, command, 10, seed) == uninterrupted


def test_what_the_command_refuses(tmp_path: Path, command: Command) -> None:
    done = fastnn(*command, "--epochs", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "holds a run; go on with it by --resume" in clean_error(fastnn(*command, cwd=tmp_path), 2)
    line = clean_error(fastnn(*command, "--resume", "--lr", "0.5", cwd=tmp_path), 2)
    assert "learning_rate was 0.001 and is 0.5" in line
    assert "epochs was 1 and is 60" in line
    for path in (tmp_path / "run" / NAME, tmp_path / "run" / PREVIOUS):
        path.unlink(missing_ok=True)
        path.write_bytes(b"junk")
    assert "not a sound checkpoint" in clean_error(fastnn(*command, "--resume", cwd=tmp_path), 3)


MOMENTS = ("before the write", "after the write", "after fsync", "after the old one's name", "after the rename")
DYING = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_checkpoint import MOMENTS, run_of
from fastnn import files
from fastnn.training import checkpoint

def dies_after(module, name, times=1):
    real, left = getattr(module, name), [times]
    def call(*args, **kwargs):
        if left[0] == 0:
            os._exit(9)
        found = real(*args, **kwargs)
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)
        return found
    setattr(module, name, call)

def die(moment, folder):
    run = run_of("sgd")
    kept = checkpoint.Checkpoints(folder, 0.0)
    epochs = iter(run)
    next(epochs)
    kept.save(run)
    next(epochs)
    {"before the write": lambda: dies_after(files.tempfile, "NamedTemporaryFile"),
     "after the write": lambda: dies_after(os, "fsync", 0),
     "after fsync": lambda: dies_after(os, "fsync"),
     "after the old one's name": lambda: dies_after(os, "link"),
     "after the rename": lambda: dies_after(os, "replace", 2)}[moment]()
    kept.save(run)
    os._exit(1)

for number, moment in enumerate(MOMENTS):
    child = os.fork()
    if child == 0:
        die(moment, Path(sys.argv[2]) / str(number))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_process_that_dies_at_any_moment_of_a_save_leaves_a_sound_checkpoint(tmp_path: Path) -> None:
    """Five forks of one process, each of which dies at another moment."""
    for number in range(len(MOMENTS)):
        (tmp_path / str(number)).mkdir()
    done = python(DYING, ROOT / "tests", tmp_path)
    assert done.stdout.split() == ["9"] * len(MOMENTS), done.stderr
    for number, moment in enumerate(MOMENTS):
        folder = tmp_path / str(number)
        found = Checkpoints(folder, 0.0, pytest.fail).latest()
        assert found, moment
        assert found.epoch == (2 if moment == "after the rename" else 1), moment
        with only_here(folder):
            pass
        assert {path.name for path in folder.iterdir()} <= {NAME, PREVIOUS, "lock"}, moment


def test_checkpoints_are_so_far_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At least ten seconds, and twenty times as long as one takes."""
    now, written = [100.0], list[float]()

    def write_slowly(snapshot: object, path: Path) -> None:
        written.append(now[0])
        now[0] += 0.25 if len(written) == 1 else 2

    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(checkpoint, "take", lambda run: None)
    monkeypatch.setattr(checkpoint, "write", write_slowly)
    run = SimpleNamespace(state=SimpleNamespace(buffers={"parameters": np.zeros(2)}))
    checkpoints = Checkpoints(tmp_path, 10.0)
    for later in (0, 9.75, 0.25, 9.5, 0.5, 39.75, 0.25):
        now[0] += later
        checkpoints.save_if_due(run)  # type: ignore[arg-type]
    assert written == [110, 120.25, 162.25]
    run.state.buffers["first"] = np.array([1, np.inf])
    assert not checkpoints.save(run)  # type: ignore[arg-type]
    assert len(written) == 3
