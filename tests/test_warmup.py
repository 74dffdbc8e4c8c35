"""Compiling ahead of time: what is kept is found by later processes; what fails says so; nothing is left running."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import ROOT, clean_error, fastnn, make_dataset

from fastnn.datasets import Dataset
from fastnn.errors import RunError
from fastnn.tools.warmup import JOBS, Compilation, warm
from fastnn.training.run import Settings, Training


def test_what_one_process_compiles_another_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    run = Training(make_dataset(20, 5, 3, "uint8"), Settings((4,), 1))
    assert not run.evaluation_is_kept()
    (done,) = warm(2, ("evaluate uint8",))
    assert done.job == "evaluate uint8"
    assert done.seconds > 0
    assert run.evaluation_is_kept()
    run.close()


def test_failures_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match=r"compiling 'evaluate nothing' failed: TypeError: .*nothing"):
        list(warm(1, ("evaluate nothing",)))
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(RunError, match=r"can't be kept: .*Set FASTNN_CACHE_DIR"):
        list(warm(1, ("evaluate uint8",)))


def test_a_job_runs_our_own_code_whatever_lies_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fastnn").mkdir()
    (tmp_path / "fastnn" / "__init__.py").write_text("raise SystemExit('not ours')")
    (tmp_path / "numpy.py").write_text("raise SystemExit('not ours')")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    assert Compilation("evaluate uint8").wait().job == "evaluate uint8"


def test_a_job_that_is_stopped_is_gone() -> None:
    job = Compilation("evaluate uint8")
    job.stop()
    assert job.done()
    job.stop()


def test_a_job_ends_with_the_process_that_began_it() -> None:
    """However that ended: all it leaves is a closed pipe."""
    job = Compilation("evaluate uint8")
    assert job._process.stdin
    job._process.stdin.close()
    assert job._process.wait(30) == 1
    with pytest.raises(RunError, match="failed"):
        job.wait()


def test_a_job_fails_that_can_keep_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnn.kernels import cache
    from fastnn.tools import warmup

    monkeypatch.setattr(warmup, "_compile", lambda job: None)
    warmup.compile_job("evaluate uint8")
    monkeypatch.setattr(cache, "_unkept", ["x.bin: can't be written (No space left on device)"])
    with pytest.raises(RunError, match=r"can't be kept: x\.bin: .*No space left"):
        warmup.compile_job("evaluate uint8")


def test_the_jobs_are_what_runs_need() -> None:
    """Every kind of data that passes the gate, dense and sparse."""
    for dtype in ("uint8", "float32", "float64"):
        assert {f"train {dtype} sparse", f"train {dtype} dense", f"evaluate {dtype}"} <= set(JOBS)


@pytest.mark.parametrize("jobs", ["0", "-1", "65"])
def test_impossible_numbers_of_processes(jobs: str) -> None:
    assert "--jobs" in clean_error(fastnn("warmup", "--jobs", jobs), 2)


@pytest.mark.long
def test_after_a_warmup_nothing_is_compiled(tmp_path: Path) -> None:
    """The command into an empty cache; then runs on data of each kind load everything."""
    env = {"FASTNN_CACHE_DIR": str(tmp_path / "cache")}
    done = fastnn("warmup", "--json", timeout=300, **env)
    assert {json.loads(line)["job"] for line in done.stdout.splitlines()} == set(JOBS)
    assert "all kernels are compiled" in fastnn("warmup", **env).stdout
    script = """
import sys
import time
import numpy as np
from fastnn.kernels.jit import watch_compilation
from fastnn.datasets import from_arrays
from fastnn.training.run import Settings, Training
from fastnn.datasets import draw
names = []
with watch_compilation(lambda count, name: names.append(name)):
    draw(3)
    for dtype in ("uint8", "float32", "float64"):
        for mode in ("dense", "sparse"):
            run = Training(from_arrays(np.eye(9, dtype=dtype), np.arange(9) % 3), Settings((40, 5), 2, 4, input=mode))
            list(run)
            run.compile_evaluation()
            run.close()
print(names)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **env, "PYTHONPATH": str(ROOT)}
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_that_is_stopped_while_it_compiles_leaves_no_process(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FASTNN_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "fastnn", "train", "--data", "strokes", "-e", "1", "-o", str(tmp_path / "model")]
    run = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert run.stderr

    def children() -> list[Path]:
        marked = f"FASTNN_CACHE_DIR={tmp_path}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (
                    marked in (process / "environ").read_bytes()
                    and b"compile_job" in (process / "cmdline").read_bytes()
                ):
                    found.append(process)
            except OSError:  # ended meanwhile, or not ours to read
                continue
        return found

    for line in run.stderr:
        if line.startswith("compiling"):
            break
    deadline = time.monotonic() + 30
    while not children() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    helped = children()
    run.terminate()
    assert run.wait(30) == 143
    run.stderr.close()
    assert helped or (os.cpu_count() or 1) == 1
    while children() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not children()
    assert not (tmp_path / "model").exists()


def test_every_job_compiles_what_its_name_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of training train, on input of their kind, and those of evaluation evaluate; all end."""
    from fastnn.tools import warmup

    done: list[tuple[object, ...]] = []

    class Recorded:
        def __init__(self, data: Dataset, settings: Settings) -> None:
            changes = {item.name: getattr(settings, item.name) for item in fields(Settings)}
            changed = {name: value for name, value in changes.items() if value != getattr(Settings(), name)}
            done.append((data.train.x.dtype.name, data.image_shape, changed))

        def compile(self) -> None:
            done.append(("train",))

        def compile_evaluation(self) -> None:
            done.append(("evaluate",))

        def close(self) -> None:
            done.append(("close",))

    monkeypatch.setattr("fastnn.training.run.Training", Recorded)
    monkeypatch.setattr("fastnn.datasets.strokes.draw", lambda count: done.append(("draw",)))
    small = {"hidden": (4,), "epochs": 1, "batch_size": 2}
    for job in JOBS:
        done.clear()
        warmup._compile(job)
        kind, dtype, mode, more = [*job.split(), "", "", ""][:4]
        if kind == "strokes":
            assert done == [("draw",)]
            continue
        wanted = small | ({} if more == "pictures" else {"input": mode or "dense"})
        wanted |= {"optimizer": "adam"} if more else {}
        wanted |= {"dropout": {"dropout": 0.5}, "pictures": {"shift": 1.0}}.get(more, {})
        assert done == [(dtype, (3, 3), wanted), (kind,), ("close",)], job
