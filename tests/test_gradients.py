"""Every gradient of whole networks, and that the check itself can fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, make_dataset

from fastnn import reference
from fastnn.kernels.barrier import new_team
from fastnn.kernels.layout import Layout
from fastnn.kernels.memory import Data, Span
from fastnn.kernels.step import add_gradient
from fastnn.kernels.workers import Workers, compile_for
from fastnn.model.inference import activation_of
from fastnn.network import Network
from fastnn.tools.gradcheck import (
    CASES,
    KINKED,
    SMOOTH,
    Case,
    Question,
    check,
    kernel_gradient,
    question,
    relative_error,
)
from fastnn.training.run import Training
from fastnn.training.settings import ACTIVATIONS, LOSSES, Settings

# all but targets with weights of examples: two more kernels, whose losses are compared with their twins anyway
MOST = tuple(case for case in CASES if not (case.weighted and case.loss != "softmax"))


@pytest.mark.parametrize("cases", [MOST, pytest.param(CASES, marks=pytest.mark.long)], ids=["most", "all"])
def test_all_gradients_within_their_bounds(cases: tuple[Case, ...]) -> None:
    checks = list(check(0, cases))
    assert {len(case.sizes) - 2 for case in cases} == {0, 1, 2, 3}
    assert {name for case in cases for name in case.activations or ("relu",)} == set(ACTIVATIONS)
    assert {case.loss for case in cases} == set(LOSSES)
    assert len(checks) == 3 * sum(2 * (len(case.sizes) - 1) for case in cases)
    assert not [c for c in checks if not c.passed]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("hidden", [(), (70,), (70, 40), (40, 70, 33)])
def test_gradients_of_uint8_input_by_name(hidden: tuple[int, ...], threads: int) -> None:
    data = make_dataset(45, 50, 4, "uint8").train
    network = Network.mlp(50, hidden, 4)
    parameters = network.initial_parameters(3)
    wide = [p.astype("float64") for p in parameters]
    _, _, wanted = reference.gradient(wide, data.x / 255, data.y)
    found = kernel_gradient(Question(network, parameters, data.x, data.y, scale=1 / 255), "float32", threads)
    for name, a, b in zip(network.parameter_shapes, found, wanted, strict=True):
        assert relative_error(a, b) < 1e-5, name
        assert np.abs(b).max() > 0, name


def gradient_of_parts(network: Network, parts: list[tuple[int, int]], threads: int, **more: Any) -> list[np.ndarray]:
    """The gradient of the mean loss over 45 rows, from parts that are summed in pairs."""
    data = make_dataset(45, 50, 4, more.pop("dtype", "float32")).train
    layout = Layout(network.layers, np.dtype("float32"))
    buffer, totals = layout.pack(network.initial_parameters(3)), np.zeros(2)
    work = layout.work(20, threads, slopes=more.get("activation") is not None)
    sums = []
    with Workers(threads) as workers:
        for first, last in parts:
            net = layout.net(buffer, layout.zeros(), **more)
            span = Span(first, last, 20, np.array([1 / len(data)]))
            call = net, Data(data.x, data.y, np.arange(len(data)), data.scale), work, span, totals
            compile_for(add_gradient, *call, new_team())
            assert workers.run(add_gradient, *call) == last
            sums.append(net.gradient)
    while len(sums) > 1:
        sums = [sum(sums[i : i + 2]) for i in range(0, len(sums), 2)]
    assert totals[0] > 0
    return layout.unpack(sums[0])


@pytest.mark.parametrize("activation", ["relu", pytest.param("tanh", marks=pytest.mark.long)])
@pytest.mark.parametrize("hidden", [(), (70,), (40, 70, 33)])
def test_a_gradient_is_the_sum_of_those_of_parts_by_any_threads(hidden: tuple[int, ...], activation: str) -> None:
    """Which part is computed where, and by how many threads, changes no bit: what machines will share."""
    network = Network.mlp(50, hidden, 4, activation)
    data, more = make_dataset(45, 50, 4).train, {"activation": activation_of(network)}
    kind = reference.Kind((activation,) * len(hidden))
    wide = [p.astype("float64") for p in network.initial_parameters(3)]
    _, _, wanted = reference.gradient(wide, data.x.astype("float64"), data.y, kind)
    parts = [(0, 12), (12, 24), (24, 36), (36, 45)]
    for cut in ([(0, 45)], parts):
        found = [gradient_of_parts(network, cut, threads, **more) for threads in (1, 2, 3)]
        for name, a, b, c, g in zip(network.parameter_shapes, *found, wanted, strict=True):
            assert (a == b).all(), name
            assert (a == c).all(), name
            assert relative_error(a, g) < 1e-5, name


@pytest.mark.parametrize("hidden", [(), (70,), (40, 70, 33)])
def test_the_gradient_alone_has_the_bits_of_the_one_in_a_step(hidden: tuple[int, ...]) -> None:
    """So that a step may be taken apart: gradient here, sum and update there."""
    network, data = Network.mlp(50, hidden, 4), make_dataset(20, 50, 4).train
    asked = Question(network, network.initial_parameters(3), data.x, data.y)
    layout = Layout(network.layers, np.dtype("float32"))
    net = layout.net(layout.pack(asked.parameters), layout.zeros())
    span, totals = Span(0, 20, 20, np.array([1 / 20])), np.zeros(2)
    call = net, Data(data.x, data.y, np.arange(20), 1.0), layout.work(20, 1), span, totals
    compile_for(add_gradient, *call, new_team())
    add_gradient(*call, new_team())
    for name, a, b in zip(
        network.parameter_shapes, layout.unpack(net.gradient), kernel_gradient(asked, "float32"), strict=True
    ):
        assert (a == b).all(), name


@pytest.mark.parametrize("mode", ["dense", "sparse"])
def test_every_parameter_moves_in_a_step(mode: str) -> None:
    dataset = make_dataset(64, 12, 3)
    run = Training(dataset, Settings((20, 9), epochs=1, batch_size=64, learning_rate=0.5, input=mode))
    before = run.model().parameters
    list(run)
    wide = [p.astype("float64") for p in before]
    _, _, gradients = reference.gradient(wide, dataset.train.x, dataset.train.y)
    for name, a, b, g in zip(run.network.parameter_shapes, before, run.model().parameters, gradients, strict=True):
        asked = np.abs(g) > 1e-6  # not those of a unit of ReLU that no example of the batch turns on
        assert asked.mean() > 0.5, name
        assert (a != b)[asked].all(), name
        np.testing.assert_allclose(b, a - 0.5 * g, rtol=0, atol=1e-6, err_msg=name)


MUTANTS = [
    (
        "dense.py",
        "t = rank1_transposed(t, x_q, i, k, dz_p, i)",
        "t = rank1_transposed(t, x_q, i, k, dz_p, i0)",
        "33-31-10",
    ),
    (
        "dense.py",
        "store(times_slope(t, below, q, i) if p1 == h_panels else t, dx_q, i)",
        "store(t, dx_q, i)",
        "19-23-11-5",
    ),
    ("dense.py", "t = add(t, load(dz_p, i))", "t = load(dz_p, i)", "33-31-10"),
    (
        "losses.py",
        "wanted = on if y[first + i] == c else off",
        "wanted = on if y[first + i] == c else -off",
        "smoothing 0.1",
    ),
    ("losses.py", "top[i] = number(scale, z) * v", "top[i] = number(scale, z)", "weighted"),
    ("batch.py", "total += weights[order[start + i]]", "total += 1.0", "weighted"),
    (
        "losses.py",
        "return number(0.5, z) * (z - t) * (z - t), z - t",
        "return number(0.5, z) * (z - t) * (z - t), t - z",
        "squared",
    ),
    ("losses.py", "clipped = inside if inside < delta else delta", "clipped = inside", "huber"),
    ("losses.py", "- t * z, logistic(z) - t", "- t * z, logistic(z) + t", "batch 12, logistic"),
    ("losses.py", "return mean - t * z, mean - t", "return mean - t * z, mean", "poisson"),
    ("activations.py", "return t, number(1, z) - t * t", "return t, number(1, z) - t", "tanh"),
    ("activations.py", "return s, s * (number(1, z) - s)", "return s, s * s", "batch 17, logistic"),
    ("activations.py", "distribution + z * normal_density(z)", "distribution", "gelu"),
    ("activations.py", "            d[i, j] *= mask\n", "", "dropout 0.5"),
    (
        "activations.py",
        "return multiply(t, slope)",
        "return t",
        "tanh",
    ),
    ("output.py", "db[c // width, c % width] += total", "db[c // width, c % width] -= total", "33-31-10"),
    (
        "tiles.py",
        'builder.fcmp_ordered(">", a, zero), v, zero)',
        'builder.fcmp_ordered("<", a, zero), v, zero)',
        "33-31-10",
    ),
]


@pytest.mark.long
def test_a_broken_kernel_fails_the_check(tmp_path: Path) -> None:
    """By the command: exit code 1, and the gradients named."""
    (file, line, broken, _) = MUTANTS[0]
    script = (
        "from fastnn import gradcheck; from fastnn.cli import main; whole = gradcheck.check;"
        "gradcheck.check = lambda seed: whole(seed, gradcheck.CASES[2:3]); main(['gradcheck'])"
    )
    done = run_mutant(file, line, broken, tmp_path, "-c", script)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "MISSED" in done.stdout
    assert "gradients miss their bounds" in done.stderr


@pytest.mark.long
def test_every_broken_kernel_fails_the_check(tmp_path: Path) -> None:
    """Two at a time, each on a case that needs the broken line."""
    script = (
        "import sys; from fastnn.tools.gradcheck import CASES, check;"
        "cases = [case for case in CASES if sys.argv[1] in str(case)][:1]; assert cases, sys.argv;"
        "sys.exit(7 if any(not found.passed for found in check(cases=cases)) else 0)"
    )

    def survives(number: int) -> bool:
        file, line, broken, case = MUTANTS[number]
        done = run_mutant(file, line, broken, tmp_path / str(number), "-c", script, case)
        assert done.returncode in (0, 7), done.stderr
        return done.returncode == 0

    with ThreadPoolExecutor(2) as pool:
        alive = list(pool.map(survives, range(len(MUTANTS))))
    assert not [MUTANTS[number][1] for number, lives in enumerate(alive) if lives]


def run_mutant(file: str, line: str, broken: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command with one line of one kernel replaced."""
    shutil.copytree(ROOT / "fastnn", folder / "fastnn", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "fastnn" / "kernels" / file
    source = path.read_text()
    assert source.count(line) == 1, line
    path.write_text(source.replace(line, broken))
    environment = {**os.environ, "PYTHONPATH": str(folder), "FASTNN_CACHE_DIR": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_reference_agrees_with_a_hand_worked_example() -> None:
    """One unit, two classes: z = (1, 0), p = (e / (1 + e), 1 / (1 + e))."""
    parameters = [np.array([[1.0]]), np.array([0.0]), np.array([[1.0, 0.0]]), np.array([0.0, 0.0])]
    loss, right, (dw, db, dv, dc) = reference.gradient(parameters, np.array([[1.0]]), np.array([1]))
    p = np.e / (1 + np.e)
    assert (loss, right) == (pytest.approx(-np.log(1 - p)), 0)
    np.testing.assert_allclose(dv, [[p, -p]])
    np.testing.assert_allclose(dc, [p, -p])
    np.testing.assert_allclose([dw[0, 0], db[0]], [p, p])


@pytest.mark.parametrize(
    ("case", "bound"),
    [
        (Case((4, 3), 5), SMOOTH),
        (Case((4, 6, 3), 5), KINKED),
        (Case((4, 6, 3), 5, ("leaky-relu",)), KINKED),
        (Case((4, 6, 3), 5, ("tanh",)), SMOOTH),
        (Case((4, 3), 5, loss="huber"), KINKED),
        (Case((4, 3), 5, loss="absolute"), KINKED),
        (Case((4, 3), 5, loss="squared"), SMOOTH),
    ],
)
def test_only_what_has_a_kink_has_room_for_it(case: Case, bound: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_reference(asked: Question, dtype: str, threads: int = 1) -> list[np.ndarray]:
        return reference.gradient(asked.parameters, asked.x, asked.y, asked.kind)[2]

    monkeypatch.setattr("fastnn.tools.gradcheck.kernel_gradient", by_reference)
    found = list(check(0, [case]))
    assert [one.bound for one in found] == [bound, 1e-10, 1e-4] * (len(found) // 3)
    assert all(one.passed for one in found)


@pytest.mark.parametrize("seed", range(4))
def test_questions_keep_away_from_kinks_in_every_layer(seed: int) -> None:
    """Or finite differences would be taken across them."""
    asked = question(Case((23, 70, 40, 5), 60, ("relu", "leaky-relu")), seed)
    found, _ = reference.forward(asked.parameters, asked.x, asked.kind)
    assert min(np.abs(z).min() for z in found[:-1]) >= 1e-3
