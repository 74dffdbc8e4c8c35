"""Every gradient of whole networks, and that the check itself can fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, make_dataset

from fastnn import reference
from fastnn.gradcheck import CASES, check, kernel_gradient, relative_error
from fastnn.network import Network
from fastnn.training import Settings, Training


def test_all_gradients_within_their_bounds() -> None:
    checks = list(check(seed=0))
    assert {len(sizes) - 2 for sizes, _ in CASES} == {0, 1, 2, 3}
    assert len(checks) == 3 * sum(2 * (len(sizes) - 1) for sizes, _ in CASES)
    assert not [c for c in checks if not c.passed]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("hidden", [(), (70,), (70, 40), (40, 70, 33)])
def test_gradients_of_uint8_input_by_name(hidden: tuple[int, ...], threads: int) -> None:
    data = make_dataset(45, 50, 4, "uint8").train
    network = Network.mlp(50, hidden, 4)
    parameters = network.initial_parameters(3)
    wide = [p.astype("float64") for p in parameters]
    _, _, wanted = reference.gradient(wide, data.x / 255, data.y)
    found = kernel_gradient(network, parameters, data.x, data.y, "float32", threads)
    for name, a, b in zip(network.parameter_shapes, found, wanted, strict=True):
        assert relative_error(a, b) < 1e-5, name
        assert np.abs(b).max() > 0, name


@pytest.mark.parametrize("mode", ["dense", "sparse"])
def test_every_parameter_moves_in_a_step(mode: str) -> None:
    dataset = make_dataset(64, 12, 3)
    run = Training(dataset, Settings((20, 9), epochs=1, batch_size=64, learning_rate=0.5, input=mode))
    before = run.model().parameters
    list(run)
    for name, a, b in zip(run.network.parameter_shapes, before, run.model().parameters, strict=True):
        still = np.flatnonzero(a == b)
        dead = {"layers.0.weight": 1, "layers.0.bias": 0}  # a unit of ReLU that no example of the batch turns on
        assert still.size <= a.size * 0.25 + dead.get(name, 0), name
        assert not (a == b).all(), name


MUTANTS = [
    ("dense.py", "t = rank1_transposed(t, x_q, i, k, dz_p, i)", "t = rank1_transposed(t, x_q, i, k, dz_p, i0)"),
    ("dense.py", "store(where_positive(t, load(a_q, i)) if p1 == h_panels else t, dx_q, i)", "store(t, dx_q, i)"),
    ("dense.py", "t = add(t, load(dz_p, i))", "t = load(dz_p, i)"),
    ("output.py", "number(scale, z) if y[first + i] == c", "number(-scale, z) if y[first + i] == c"),
    ("output.py", "b[c // width, c % width] += total", "b[c // width, c % width] -= total"),
    ("tiles.py", 'builder.fcmp_ordered(">", a, zero), v, zero)', 'builder.fcmp_ordered("<", a, zero), v, zero)'),
]


@pytest.mark.parametrize(("file", "line", "broken"), MUTANTS[:1])
def test_a_broken_kernel_fails_the_check(file: str, line: str, broken: str, tmp_path: Path) -> None:
    assert_mutant_dies(file, line, broken, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(("file", "line", "broken"), MUTANTS[1:])
def test_every_broken_kernel_fails_the_check(file: str, line: str, broken: str, tmp_path: Path) -> None:
    assert_mutant_dies(file, line, broken, tmp_path)


def assert_mutant_dies(file: str, line: str, broken: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "fastnn", tmp_path / "fastnn", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "fastnn" / "kernels" / file
    source = path.read_text()
    assert source.count(line) == 1
    path.write_text(source.replace(line, broken))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "FASTNN_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "fastnn", "gradcheck"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "MISSED" in done.stdout
    assert "gradients miss their bounds" in done.stderr


def test_the_reference_agrees_with_a_hand_worked_example() -> None:
    """One unit, two classes: z = (1, 0), p = (e / (1 + e), 1 / (1 + e))."""
    parameters = [np.array([[1.0]]), np.array([0.0]), np.array([[1.0, 0.0]]), np.array([0.0, 0.0])]
    loss, right, (dw, db, dv, dc) = reference.gradient(parameters, np.array([[1.0]]), np.array([1]))
    p = np.e / (1 + np.e)
    assert (loss, right) == (pytest.approx(-np.log(1 - p)), 0)
    np.testing.assert_allclose(dv, [[p, -p]])
    np.testing.assert_allclose(dc, [p, -p])
    np.testing.assert_allclose([dw[0, 0], db[0]], [p, p])
