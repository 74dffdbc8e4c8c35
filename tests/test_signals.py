"""Ctrl-C and SIGTERM at any moment: one line, 130 or 143, nothing half written; at moments that are hard to hit too."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from fastnn.cli import signals
from fastnn.kernels.cache import KernelCache
from fastnn.kernels.interrupts import uninterrupted
from fastnn.kernels.jit import kernel

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")
BOTH = pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
PREDICT = ("predict", str(ROOT / "data" / "samples" / "0.png"))


def started(script: str, *args: object, cwd: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, args)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# sends a signal to itself as soon as a module is looked for
AT_IMPORT = """
import os, sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == sys.argv[2]:
            os.kill(os.getpid(), int(sys.argv[1]))
sys.meta_path.insert(0, Finder)
from fastnn.cli import main
main(sys.argv[3:])
"""


@BOTH
@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("typer", ("train",)),
        ("tempfile", ("train",)),  # while fastnn.files is half imported
        ("numpy", ("train", "--data", "strokes")),
        ("numpy", PREDICT),
        ("numpy", ("evaluate",)),
        ("numba", ("bench",)),
        ("numpy", ("warmup",)),
        ("numba", ("gradcheck",)),
        ("numpy", ("report",)),
    ],
)
def test_every_command_answers_while_it_imports(
    module: str, command: tuple[str, ...], number: int, code: int, word: str, tmp_path: Path
) -> None:
    process = started(AT_IMPORT, int(number), module, *command, cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "", f"error: {word}\n")
    assert not list(tmp_path.iterdir())


# sends a signal to itself while Numba loads a kernel, at its Nth function call in there
WHILE_LOADING = """
import os, sys
from fastnn.cli import main
import fastnn.kernels.cache as cache
load = cache.KernelCache.load_overload
def send(frame, event, arg):
    send.left -= 1
    if send.left == 0:
        os.kill(os.getpid(), int(sys.argv[1]))
send.left = int(sys.argv[2])
def loaded(*args):
    sys.setprofile(send)
    try:
        return load(*args)
    finally:
        sys.setprofile(None)
cache.KernelCache.load_overload = loaded
main(sys.argv[3:])
"""
TRAIN = ("train", "--data", "strokes", "-e", "1000", "-o", "m.safetensors")


@BOTH
def test_a_signal_while_kernels_are_loaded(number: int, code: int, word: str, tmp_path: Path) -> None:
    process = started(WHILE_LOADING, int(number), 40, *TRAIN, cwd=tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert [line for line in err.splitlines() if "data:" not in line] == [f"error: {word}"]
    assert not list(tmp_path.iterdir())


# a file is being written when two signals come
TWICE = """
import os, signal, sys, time
from pathlib import Path
from fastnn.cli import signals
from fastnn.files import atomic_write
signals.listen()
print("said before")
with signals.noted(), atomic_write(Path("result")) as file:
    file.write(b"half")
    os.kill(os.getpid(), int(sys.argv[1]))
    time.sleep(0.6)
    print("went on after the first", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""


@BOTH
def test_a_second_signal_ends_it_at_once_and_leaves_files_as_they_were(
    number: int, code: int, word: str, tmp_path: Path
) -> None:
    (tmp_path / "result").write_text("whole")
    process = started(TWICE, int(number), cwd=tmp_path)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "error: interrupted\n")
    assert out == "said before\nwent on after the first\n"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"result": "whole"}


NOTED = """
import os, sys, time
from fastnn.cli import signals
signals.listen()
try:
    with signals.noted() as raise_if_any:
        raise_if_any()
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0.2)
        if sys.argv[2] == "twice in haste":
            os.kill(os.getpid(), int(sys.argv[1]))
            time.sleep(0.2)
        if sys.argv[2] == "inside":
            raise_if_any()
except signals.Stopped as stop:
    print(int(stop.number))
    signals.ignore()
    os.kill(os.getpid(), int(sys.argv[1]))  # the work is done: this changes nothing
"""


@BOTH
@pytest.mark.parametrize("where", ["inside", "at the end", "twice in haste"])
def test_a_note_of_a_signal_is_not_lost(where: str, number: int, code: int, word: str) -> None:
    process = started(NOTED, int(number), where)
    assert process.communicate(timeout=30) == (f"{int(number)}\n", "")
    assert process.returncode == 0


@BOTH
def test_a_note_that_nobody_reads_ends_it(number: int, code: int, word: str) -> None:
    """Such as while a pipe without a reader is opened, which lasts for ever."""
    script = """
import os, sys, time
from fastnn.cli import signals
signals._ANSWER_SECONDS = 0.3
signals.listen()
with signals.noted() as raise_if_any:
    os.kill(os.getpid(), int(sys.argv[1]))
    time.sleep(60)
"""
    process = started(script, int(number))
    assert process.communicate(timeout=30) == ("", f"error: {word}\n")
    assert process.returncode == code


def test_a_note_that_was_read_leaves_time_to_save() -> None:
    script = """
import os, time
from fastnn.cli import signals
signals._ANSWER_SECONDS = 0.3
signals.listen()
try:
    with signals.noted() as raise_if_any:
        os.kill(os.getpid(), 2)
        time.sleep(0.1)
        raise_if_any()
except signals.Stopped:
    time.sleep(0.6)
    print("saved")
"""
    process = started(script)
    assert process.communicate(timeout=30) == ("saved\n", "")


def test_a_reader_that_has_stopped_does_not_keep_it() -> None:
    script = """
from fastnn.cli import signals
signals.listen()
print("x" * 2_000_000, flush=True)
"""
    process = started(script)
    assert process.stdout
    assert process.stdout.read(1) == "x"  # it writes, and waits for us to read on
    begin = time.monotonic()
    process.terminate()
    assert process.wait(20) == 143
    assert time.monotonic() - begin < 10
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == "error: terminated\n"
    process.stderr.close()


# from Python


@kernel
def twice(x):
    """y = 2 x"""
    return 2 * x


@pytest.mark.usefixtures("interruptible")
def test_a_kernel_is_loaded_whole_before_an_interrupt_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    load = KernelCache.load_overload

    def interrupted(self: KernelCache, *args: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return load(self, *args)

    monkeypatch.setattr(KernelCache, "load_overload", interrupted)
    with pytest.raises(KeyboardInterrupt):
        twice(np.float32(2))
    assert len(twice.signatures) == 1
    monkeypatch.undo()
    assert twice(np.float32(2)) == 4
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_runs_after_the_block_also_when_that_failed() -> None:
    seen: list[object] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with pytest.raises(ValueError, match="broken"), uninterrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen == []
            raise ValueError("broken")
        assert seen == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(seen) == 2
    finally:
        signal.signal(signal.SIGTERM, before)


# campaigns


LISTENING = """
import os
from fastnn.cli import main, signals
listen = signals.listen
signals.listen = lambda: (listen(), os.write(1, b"."))
main()
"""


def answer(moment: float, number: int, command: tuple[str, ...], cwd: Path, again: float | None) -> tuple[int, str]:
    """Exit code and stderr of a command that is sent a signal so many seconds after it listens, perhaps another one."""
    process = started(LISTENING, *command, cwd=cwd)
    try:
        assert process.stdout
        process.stdout.read(1)
        time.sleep(moment)
        process.send_signal(number)
        if again is not None:
            time.sleep(again)
            process.send_signal(number)
        return process.wait(60), process.communicate()[1]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.long
@pytest.mark.parametrize("command", [TRAIN, PREDICT, ("evaluate",), ("warmup",), ("bench",), ("gradcheck",)], ids=str)
def test_signals_at_random_moments(command: tuple[str, ...], tmp_path: Path) -> None:
    """Most while kernels are loaded; what has ended before may have ended well."""
    generator, wrong = random.Random(str(command)), []
    for _ in range(int(os.environ.get("FASTNN_SIGNALS", "200")) // 6):
        number = generator.choice([signal.SIGINT, signal.SIGTERM])
        moment, again = generator.uniform(0, 3), generator.choice([None, generator.uniform(0, 0.15)])
        code, err = answer(moment, number, command, tmp_path, again)
        done = code == 0 and command != TRAIN and "error: " not in err  # before the signal came
        clean = err.count("error: ") == 1 and "Traceback" not in err and code == 128 + number
        if not (done or clean) or list(tmp_path.rglob("*.tmp")):
            wrong.append((moment, again, number, code, err))
    assert not wrong, json.dumps(wrong, indent=1)


def test_a_note_is_raised_where_it_is_looked_for_or_at_the_end() -> None:
    with signals.noted() as raise_if_stopped:
        raise_if_stopped()
        assert signals._notes == []
    assert signals._notes is None
    reached = []
    for ask in (True, False):
        with pytest.raises(signals.Stopped) as raised, signals.noted() as raise_if_stopped:
            assert signals._notes is not None
            signals._notes.append(15)
            if ask:
                raise_if_stopped()
            reached.append(ask)
        assert raised.value.number == 15
        assert signals._notes is None
    assert reached == [False]


class Left(BaseException):
    """In place of the end of the process."""


@pytest.mark.parametrize(("number", "code", "word"), [(2, 130, "interrupted"), (15, 143, "terminated")])
@pytest.mark.parametrize("kind", ["terminal", "file", "closed"])
def test_whoever_leaves_says_so_and_removes_what_is_unfinished(
    kind: str, number: int, code: int, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[bytes] = []

    def write(handle: int, text: bytes) -> None:
        assert handle == 2
        if kind == "closed":
            raise OSError("nobody listens")
        said.append(text)

    def leave(code: int) -> None:
        raise Left(code)

    standing_in = SimpleNamespace(isatty=lambda handle: kind == "terminal", write=write, _exit=leave)
    (tmp_path / "half").write_bytes(b"half")
    monkeypatch.setattr(signals, "_leaving", threading.Lock())
    monkeypatch.setattr(signals, "os", standing_in)
    monkeypatch.setattr("fastnn.files.unfinished", lambda: [tmp_path / "half", tmp_path / "gone"])
    with pytest.raises(Left) as raised:
        signals.leave(number)
    assert raised.value.args == (code,)
    if kind != "closed":
        assert said == [f"{chr(13)}{chr(27)}[2K".encode() * (kind == "terminal") + f"error: {word}\n".encode()]
        assert not (tmp_path / "half").exists()
    assert signals._leaving.locked()
