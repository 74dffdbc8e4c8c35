"""Machine code kept between processes: rebuilt when a source changes, and never the user's problem."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, fastnn, python

from fastnn.kernels import cache as cache_module

# a kernel that compiles in a moment and uses the tiles
SCRIPT = """
import numpy as np
from fastnn.kernels.layout import aligned_zeros
from fastnn.kernels.host import SHAPE
from fastnn.kernels.measure import gradient_product
w = SHAPE.panel_width(4)
x = aligned_zeros((1, SHAPE.rows, w), np.dtype("f4")); x[:] = 1
out, b = aligned_zeros((1, w, w), np.dtype("f4")), aligned_zeros((1, w), np.dtype("f4"))
gradient_product(x, x, w, SHAPE.rows, out, b, 1)
assert (b == SHAPE.rows).all()
from fastnn.kernels.cache import unkept
print("value", float(out[0, 0, 0]) / SHAPE.rows, "compiled", gradient_product.stats.cache_misses, "unkept", unkept())
"""


def run_script(cache: Path | str) -> str:
    """In a process of its own: a fork of one that has imported all, and compiled nothing."""
    return said(python("import warnings; warnings.simplefilter('error')\n" + SCRIPT, FASTNN_CACHE_DIR=str(cache)))


def run_script_anew(package: Path, cache: Path | str) -> str:
    """In one that imports all by itself."""
    environment = {**os.environ, "PYTHONPATH": str(package), "FASTNN_CACHE_DIR": str(cache)}
    return said(
        subprocess.run(
            [sys.executable, "-W", "error", "-c", SCRIPT],
            cwd=package,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def kept(cache: Path) -> list[Path]:
    return sorted(cache.glob("kernels/*/*.bin"))


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the kernel of the script is, for tests to copy."""
    folder = tmp_path_factory.mktemp("compiled")
    assert "unkept None" in run_script_anew(ROOT, folder)
    return folder


@pytest.fixture
def cache(compiled: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(compiled, tmp_path / "cache"))


def test_the_second_process_loads_what_the_first_compiled(cache: Path) -> None:
    (first,) = kept(cache)
    written = first.stat().st_mtime_ns
    run_script_anew(ROOT, cache)
    assert kept(cache) == [first]
    assert first.stat().st_mtime_ns == written
    assert first.parent.stat().st_mode & 0o777 == 0o700


def test_editing_a_primitive_rebuilds_the_kernels(cache: Path, tmp_path: Path) -> None:
    """The callee is in another file than the kernel: Numba's own cache would not notice."""
    package = tmp_path / "copy"
    shutil.copytree(ROOT / "fastnn", package / "fastnn", ignore=shutil.ignore_patterns("__pycache__"))
    assert len(kept(cache)) == 1
    tiles = package / "fastnn" / "kernels" / "tiles.py"
    source = tiles.read_text()
    edited = source.replace(
        "total[at] = emit.fma(spread, w_vectors[v], total[at])",
        "total[at] = emit.fma(builder_twice(emit, spread), w_vectors[v], total[at])",
    )
    assert edited != source
    tiles.write_text(edited + "\n\ndef builder_twice(emit, v):\n    return emit.builder.fadd(v, v)\n")
    assert "value 2.0" in run_script_anew(package, cache)
    assert len(kept(cache)) == 2
    tiles.write_text(source)
    assert "value 1.0" in run_script_anew(package, cache)
    assert len(kept(cache)) == 2


@pytest.mark.parametrize("damage", ["empty", "truncated", "random", "flipped", "swapped", "folder"])
def test_damaged_files_are_compiled_anew(damage: str, cache: Path) -> None:
    (path,) = kept(cache)
    good = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
        run_script(cache)
        return
    flipped = bytearray(good)
    flipped[random.Random(0).randrange(len(good))] ^= 16
    bad = {
        "empty": b"",
        "truncated": good[: len(good) // 2],
        "random": os.urandom(5_000),
        "flipped": bytes(flipped),
        "swapped": good[32:] + good[:32],
    }[damage]
    path.write_bytes(bad)
    run_script(cache)
    assert kept(cache) == [path]
    assert path.read_bytes() != bad


def test_any_flipped_bit_is_caught_before_it_can_run(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the hash, 4 of 24 flips crashed the process."""
    from fastnn.kernels.cache import KernelCache
    from fastnn.kernels.measure import gradient_product

    class Context:
        def refresh(self) -> None:
            pass

        def codegen(self) -> Context:
            return self

        def magic_tuple(self) -> tuple[str]:
            return ("x",)

    monkeypatch.setenv("FASTNN_CACHE_DIR", str(cache))
    ours = KernelCache(gradient_product.py_func)
    (good_path,) = kept(cache)
    good = good_path.read_bytes()
    path = ours._path("s", Context())
    for at in range(0, len(good), max(1, len(good) // 200)):
        bad = bytearray(good)
        bad[at] ^= 1 << (at % 8)
        path.write_bytes(bad)
        assert ours.load_overload("s", Context()) is None
        assert not path.exists()


def test_machine_code_made_with_other_settings_of_numba_lies_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint, found = cache_module.fingerprint.__wrapped__, set()
    for value in ("1", "2"):
        monkeypatch.setenv("NUMBA_TRIED_HERE", value)
        found.add(fingerprint())
    monkeypatch.setenv("TRIED_HERE", "NUMBA_3")  # none of Numba's
    assert found | {fingerprint()} == found
    assert len(found) == 2


def test_machine_code_of_old_versions_is_forgotten(tmp_path: Path) -> None:
    for name, days in (("old", 100), ("recent", 10)):
        folder = tmp_path / "kernels" / name
        folder.mkdir(parents=True, mode=0o700)
        (folder / "x.bin").write_bytes(b"x")
        then = time.time() - days * 24 * 3600
        os.utime(folder, (then, then))
    (tmp_path / "kernels").chmod(0o700)
    run_script(tmp_path)
    assert not (tmp_path / "kernels" / "old").exists()
    assert (tmp_path / "kernels" / "recent" / "x.bin").exists()


def test_processes_that_compile_at_once_all_succeed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FASTNN_CACHE_DIR": str(tmp_path)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in started:
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, b"")
        assert b"value 1.0" in out
    assert len(kept(tmp_path)) == 1
    assert not list(tmp_path.glob("kernels/*/.*"))


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert "unkept None" not in run_script(blocked / "cache")
    assert "unkept /proc/nowhere" in run_script("/proc/nowhere")
    done = fastnn("doctor", FASTNN_CACHE_DIR="/proc/nowhere")
    assert done.returncode == 0
    assert "not used: /proc/nowhere" in done.stdout


def test_what_cannot_be_written_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, which shows only when a file is written; the command does not promise what will not be."""
    from fastnn.cli.display import Reporter
    from fastnn.kernels import cache
    from fastnn.kernels.jit import kernel

    @kernel
    def thrice(x):  # type: ignore[no-untyped-def]
        """y = 3 x"""
        return 3 * x

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cache, "_unkept", [])
    with monkeypatch.context() as broken:
        broken.setattr("os.replace", full)
        assert thrice(2.0) == 6
    problem = cache.unkept()
    assert problem
    assert "No space left on device" in problem
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    said: list[str] = []
    monkeypatch.setattr("fastnn.cli.display.note", said.append)
    Reporter(1, quiet=False).compiled(1, 2, problem)
    Reporter(1, quiet=False).compiled(1, 2, None)
    assert "later runs compile again: " in said[0]
    assert "Set FASTNN_CACHE_DIR" in said[0]
    assert said[1].endswith("later runs load them")


def test_no_home_is_no_error() -> None:
    done = fastnn("doctor", HOME="/proc/nowhere", XDG_CACHE_HOME="")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.name != "posix", reason="modes of folders")
def test_a_folder_that_others_can_write_is_not_trusted(cache: Path) -> None:
    (path,) = kept(cache)
    path.parent.chmod(0o777)
    written = path.stat().st_mtime_ns
    run_script(cache)
    assert path.stat().st_mtime_ns == written
    done = fastnn("doctor", FASTNN_CACHE_DIR=str(cache))
    assert "can be written by other users" in done.stdout


COLD_AND_KEPT = """
import numpy as np
from fastnn.datasets import draw
from fastnn.training.settings import Settings
from fastnn.datasets import from_arrays
from fastnn.training.run import Training
x, y = draw(300)
much = {"optimizer": "adam", "dropout": 0.3, "activation": ("gelu",), "clip_norm": 0.5, "averaging": 0.9}
kinds = ({}, {"optimizer": "adam"}, {"optimizer": "rmsprop", "activation": ("tanh",)}, much, {"loss": "logistic"})
for more in kinds:
    data = from_arrays(x / 255, (x[:, :3] > 0) * 1.0 if "loss" in more else y, None, more.get("loss", "softmax"))
    run = Training(data, Settings((40,), 2, 16, **more))
    list(run)
    print(run.model().sha256)
    run.close()
"""


@pytest.mark.long
def test_what_was_just_compiled_gives_the_same_bits_as_what_was_kept(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FASTNN_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", COLD_AND_KEPT]
    cold, kept = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert len(cold.splitlines()) == 5
    assert cold == kept
