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
from fastnn.datasets import from_arrays
from fastnn.kernels.barrier import new_team
from fastnn.kernels.gradients import add_gradient, apply_gradient, parts_of, sum_gradients
from fastnn.kernels.layout import Layout, aligned_zeros
from fastnn.kernels.memory import Data, Span
from fastnn.kernels.optimizers import Step
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


PARTS = [(0, 12), (12, 24), (24, 36), (36, 40), (40, 45)]


def gradient_of_parts(
    network: Network, parts: list[tuple[int, int]], threads: int, sample_weight: np.ndarray | None = None, **more: Any
) -> list[np.ndarray]:
    """The gradient of the mean loss over 45 rows, from parts that are summed in pairs."""
    data = make_dataset(45, 50, 4).train
    layout = Layout(network.layers, np.dtype("float32"))
    buffer, totals = layout.pack(network.initial_parameters(3)), np.zeros(2)
    work = layout.work(20, threads, slopes=int(more.get("activation") is not None))
    gradients = aligned_zeros((len(parts), buffer.size), buffer.dtype)
    examples = Data(data.x, data.y, np.arange(len(data)), data.scale, sample_weight)
    with Workers(threads) as workers:
        for gradient, (first, last) in zip(gradients, parts, strict=True):
            call = (
                layout.net(buffer, gradient, **more),
                examples,
                work,
                Span(first, last, 20, np.array([1 / 45])),
                totals,
            )
            compile_for(add_gradient, *call, new_team())
            assert workers.run(add_gradient, *call) == last
        compile_for(sum_gradients, gradients, new_team())
        workers.run(sum_gradients, gradients)
    assert totals[0] > 0
    return layout.unpack(gradients[0])


@pytest.mark.parametrize("activation", ["relu", pytest.param("tanh", marks=pytest.mark.long)])
@pytest.mark.parametrize("hidden", [(), (70,), (40, 70, 33)])
def test_a_gradient_is_the_sum_of_those_of_parts_by_any_threads(hidden: tuple[int, ...], activation: str) -> None:
    """Which part is computed where, and by how many threads, changes no bit: what machines will share."""
    network = Network.mlp(50, hidden, 4, activation)
    data, more = make_dataset(45, 50, 4).train, {"activation": activation_of(network)}
    kind = reference.Options((activation,) * len(hidden))
    wide = [p.astype("float64") for p in network.initial_parameters(3)]
    _, _, wanted = reference.gradient(wide, data.x.astype("float64"), data.y, kind)
    for cut in ([(0, 45)], PARTS):
        found = [gradient_of_parts(network, cut, threads, **more) for threads in (1, 2, 3)]
        for name, a, b, c, g in zip(network.parameter_shapes, *found, wanted, strict=True):
            assert (a == b).all(), name
            assert (a == c).all(), name
            assert relative_error(a, g) < 1e-5, name


@pytest.mark.long  # a kernel of its own
def test_sample_weights_count_in_parts_as_in_the_whole() -> None:
    network, data = Network.mlp(50, (33,), 4), make_dataset(45, 50, 4).train
    weight = np.random.default_rng(5).random(45) * 3
    wide = [p.astype("float64") for p in network.initial_parameters(3)]
    _, _, wanted = reference.gradient(wide, data.x.astype("float64"), data.y, reference.Options(sample_weight=weight))
    for cut in ([(0, 45)], PARTS):
        found = gradient_of_parts(network, cut, 2, weight)
        assert all(relative_error(a, g) < 1e-5 for a, g in zip(found, wanted, strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_parts_are_summed_along_a_binary_tree(count: int) -> None:
    """In float32, so that another order has other bits."""
    parts = aligned_zeros((count, 1_001), np.dtype(np.float32))
    parts[:] = np.random.default_rng(count).standard_normal(parts.shape) * 10.0 ** np.arange(count)[:, None]
    tree = list(parts.copy())
    while len(tree) > 1:
        tree = [sum(tree[i + 1 : i + 2], tree[i]) for i in range(0, len(tree), 2)]
    for threads in (1, 2, 3):
        found = parts.copy()
        compile_for(sum_gradients, found, new_team())
        with Workers(threads) as workers:
            workers.run(sum_gradients, found)
        assert (found[0] == tree[0]).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd"},
        pytest.param(
            {"optimizer": "adamw", "clip_norm": 0.5, "max_norm": 1.0, "averaging": 0.9}, marks=pytest.mark.long
        ),
        pytest.param({"optimizer": "momentum"}, marks=pytest.mark.long),
    ],
    ids=lambda settings: settings["optimizer"],
)
def test_steps_taken_apart_are_those_of_a_run(settings: dict[str, Any]) -> None:
    """Gradients of parts, their sum, the update: three kernels, the same bits for any threads."""
    dataset, rate, epochs = make_dataset(45, 50, 4), 0.05, 4
    more = {"learning_rate": rate, "schedule": "constant", "batch_size": 45, "epochs": epochs, **settings}

    def taken_apart(threads: int) -> list[np.ndarray]:
        run = Training(dataset, Settings((40, 33), threads=threads, **more))
        layout, rule = run._layout, run._steps.net.rule
        parts = aligned_zeros((len(PARTS), run._steps.net.parameters.size), np.dtype(np.float32))
        scale = np.array([(-rate if rule is None else 1) / 45])
        data, work = Data(dataset.train.x, dataset.train.y, np.arange(45), 1.0), layout.work(20, threads)
        with Workers(threads) as workers:
            for time in range(1, epochs + 1):
                for part, (first, last) in zip(parts, PARTS, strict=True):
                    net = layout.net(run._steps.net.parameters, part)
                    call = net, data, work, Span(first, last, 20, scale), np.zeros(2)
                    compile_for(add_gradient, *call, new_team())
                    workers.run(add_gradient, *call)
                compile_for(sum_gradients, parts, new_team())
                workers.run(sum_gradients, parts)
                update = run._steps.net._replace(gradient=parts[0]), work, Step(rate, time, 1.0)
                compile_for(apply_gradient, *update, new_team())
                workers.run(apply_gradient, *update)
                assert not parts[0].any()
                parts[:] = 0
        return run.model().parameters

    whole = Training(dataset, Settings((40, 33), **more))
    list(whole)
    once, twice, thrice = (taken_apart(threads) for threads in (1, 2, 3))
    for a, b, c, wanted in zip(once, twice, thrice, whole.model().parameters, strict=True):
        assert (a == b).all()
        assert (a == c).all()
        np.testing.assert_allclose(a, wanted, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("limit", [{"clip_norm": 0.05}, {"max_norm": 0.5}], ids=str)
def test_units_that_only_fill_a_panel_count_in_no_norm(limit: dict[str, float]) -> None:
    """The logistic function of their 0 is 1/2, which once made gradients and weights look longer than they were."""
    x, y = np.random.default_rng(0).standard_normal((30, 20)), np.arange(30) % 3
    settings = Settings(
        (9, 7), 1, 30, 1.0, activation="logistic", optimizer="momentum", schedule="constant", features="raw", **limit
    )
    run = Training(from_arrays(x, y, np.ones(30)), settings, "float64")  # weights: as the kernel of test_optimizers has
    before = [p.astype("float64") for p in run.network.initial_parameters(0)]
    _, _, gradient = reference.gradient(before, x, y, reference.Options(("logistic",) * 2))
    list(run)
    shrink = reference.clipping(gradient, limit["clip_norm"]) if "clip_norm" in limit else 1.0
    wanted = [p - shrink * g for p, g in zip(before, gradient, strict=True)]
    if "max_norm" in limit:
        wanted = [reference.limit_norms(p, 0.5) if n in (0, 2) else p for n, p in enumerate(wanted)]
    for found, p in zip(run.model().parameters, wanted, strict=True):
        np.testing.assert_allclose(found, p, atol=1e-12)


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
        "store(times_slope(t, below, q, i) if p1 == h_panels else t, below_q, i)",
        "store(t, below_q, i)",
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
    ("batch.py", "total += sample_weight[order[first + i]]", "total += 1.0", "weighted"),
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
        "from fastnn.tools import gradcheck; from fastnn.cli import main; whole = gradcheck.check;"
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


@pytest.mark.parametrize(("examples", "count"), [(45, 8), (8, 8), (3, 4), (1, 1), (1000, 16)])
def test_a_batch_is_cut_by_its_size_alone(examples: int, count: int) -> None:
    parts = parts_of(examples, count)
    assert [part[0] for part in parts[1:]] == [part[1] for part in parts[:-1]]
    assert (parts[0][0], parts[-1][1], len(parts)) == (0, examples, count)
    assert max(last - first for first, last in parts) - min(last - first for first, last in parts) <= 1
