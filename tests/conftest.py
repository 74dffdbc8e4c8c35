"""Shared by all tests: where the real data is, small data sets, running the command in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from forks import forks

from fastnn.datasets import Dataset, checked_split
from fastnn.datasets.named import find

ROOT = Path(__file__).resolve().parent.parent
# The files that take longest from an empty cache, longest first: what comes last is short, and keeps both busy.
LONGEST = ("web", "optimizers", "cli", "training", "cache", "browser", "inference", "checkpoint", "warmup", "arrays")
LONGEST += ("kernels", "images", "twins", "photos", "runs", "gradients", "plots", "datasets", "augment", "tables")
READ_AT_START = ("PYTHON", "NUMBA_", "FASTNN_LANES", "FASTNN_TILE")  # by Python, or while modules are imported


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two for the whole suite, each of which takes whole files; what is named on the command line runs right here."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS or (os.cpu_count() or 1) < 2:
        return 0
    config.option.benchmark_disable = True  # or it warns that it is
    config.option.loadscopereorder = False  # not by how many tests a file has: see LONGEST
    # Two at a time on two cores: the threads of NumPy's products would wait for each other, and spin meanwhile. Files
    # with many products took 40 instead of 52 s of CPU. Those of kernels stay as they are: they are what is tested.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return 2


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        names = [f"test_{name}.py" for name in LONGEST]
        items.sort(key=lambda item: names.index(item.path.name) if item.path.name in names else len(names))


def pytest_unconfigure() -> None:
    if forks.cache_info().currsize:
        forks().close()


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    """The real MNIST, or a skip with the reason."""
    from fastnn import load_data

    if find("mnist") is None:
        pytest.skip("MNIST is not on this machine (set FASTNN_DATA to a folder that holds mnist/)")
    return load_data("mnist")


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of 5,000 drawn digits and 1,000 for testing: what processes read faster than they draw 70,000."""
    from fastnn import draw_strokes

    path = tmp_path_factory.mktemp("data") / "digits.npz"
    x, y = draw_strokes(6_000, seed=1)
    x = x.reshape(-1, 28, 28)
    np.savez(path, x_train=x[:5_000], y_train=y[:5_000], x_test=x[5_000:], y_test=y[5_000:])
    return path


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt here, also where a shell began the tests in the background and it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def small() -> Dataset:
    """203 examples of 17 features in 3 classes that can be told apart, and 50 more for testing."""
    return make_dataset(203, 17, 3)


def make_dataset(examples: int, features: int, classes: int, dtype: str = "float32", zeros: float = 0.0) -> Dataset:
    """Random clusters; a share of `zeros` among the features."""
    random = np.random.default_rng(examples + features)
    centres = random.standard_normal((classes, features))
    y = random.integers(0, classes, examples + 50)
    x = centres[y] + 0.5 * random.standard_normal((examples + 50, features))
    x *= random.random(x.shape) >= zeros
    if dtype == "uint8":
        x = np.clip(x * 40 + 100, 0, 255) * (x != 0)
    x = x.astype(dtype)
    return Dataset(
        "small",
        checked_split(x[:examples], y[:examples], classes, "small"),
        checked_split(x[examples:], y[examples:], classes, "small"),
        tuple(map(str, range(classes))),
    )


def fastnn(
    *args: object, cwd: Path | None = None, timeout: float = 300, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, a fork; a variable given as "" is taken away."""
    return _run(list(map(str, args)), cwd, timeout, env)


def python(
    script: str, *args: object, cwd: Path | None = None, timeout: float = 300, **env: str
) -> subprocess.CompletedProcess[str]:
    """The same of a script that needs none of its imports to happen there."""
    return _run(["-c", script, *map(str, args)], cwd, timeout, env)


def _run(asked: list[str], cwd: Path | None, timeout: float, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in {**os.environ, **env}.items() if v != ""}
    environment["PYTHONPATH"] = env.get("PYTHONPATH") or str(ROOT)
    if hasattr(os, "fork") and not any(name.startswith(READ_AT_START) for name in env):
        return forks().run(asked, str(cwd or Path.cwd()), environment, timeout)
    return subprocess.run(
        [sys.executable, *asked] if asked[:1] == ["-c"] else [sys.executable, "-m", "fastnn", *asked],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def clean_error(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Assert one error line, the exit code and no traceback; the line."""
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert "\x1b" not in done.stderr
    return errors[0]
