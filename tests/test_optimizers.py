"""Optimizers: PyTorch's rules over 50 steps, the twin in whole runs, and every registry complete."""

from __future__ import annotations

import inspect
import json
import re
import sys
from dataclasses import fields

import numpy as np
import pytest
from conftest import ROOT, make_dataset
from panels import callable_once

from fastnn import reference
from fastnn.kernels import activations as activations_module
from fastnn.kernels import losses as losses_module
from fastnn.kernels import optimizers as optimizers_module
from fastnn.kernels import updates as updates_module
from fastnn.kernels.layout import aligned_zeros
from fastnn.kernels.optimizers import Rule, Step
from fastnn.model.inference import LINKS
from fastnn.network import Network
from fastnn.training import schedules
from fastnn.training.optimizers import KERNELS, OPTIMIZERS
from fastnn.training.run import Training, shuffled
from fastnn.training.settings import ACTIVATIONS, LOSSES, SCHEDULES, Settings

sys.path.insert(0, str(ROOT / "tests" / "golden"))
from optimizers import CASES, START, STEPS, gradient

GOLDEN = json.loads((ROOT / "tests" / "golden" / "optimizers.json").read_text())
update, limit_norms, clipping = map(
    callable_once, (optimizers_module.update, optimizers_module.limit_norms, updates_module.clipping)
)


def rule(kernel: str, size: int, dtype: str, **numbers: float) -> Rule:
    buffers = [aligned_zeros(size, np.dtype(dtype)) for _ in range(3)]
    others = ("kind", "first", "second", "average", "norms", "epsilon_hat", "penalties")
    names = [item for item in Rule._fields if item not in others]
    return Rule(KERNELS.index(kernel), *buffers, np.zeros(0), *(float(numbers.get(name, 0)) for name in names))


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-10), ("float32", 2e-5)])
@pytest.mark.parametrize("case", CASES)
def test_fifty_steps_are_those_of_pytorch(case: str, dtype: str, rtol: float) -> None:
    options = CASES[case][1]
    row = OPTIMIZERS[case.partition(",")[0]]
    betas = options.get("betas", (options.get("momentum", 0.0), options.get("alpha", 0.0)))
    decay = float(options.get("weight_decay", 0.0))  # type: ignore[arg-type]
    numbers = {"beta1": betas[0], "beta2": betas[1], "epsilon": options.get("eps", 1e-8)}  # type: ignore[index]
    numbers |= {"decay" if row.name == "adamw" else "l2": decay}
    ours = rule(row.kernel, len(START), dtype, **numbers)
    twin = reference.Rule(row.kernel, **numbers)
    p, g = aligned_zeros(len(START), np.dtype(dtype)), aligned_zeros(len(START), np.dtype(dtype))
    p[:] = START
    plain = np.array(START)
    for step in range(STEPS):
        g[:] = gradient(p.tolist(), step)
        rate = float(options["lr"])  # type: ignore[arg-type]
        update(ours, p, g, 0, len(START), Step(rate, step + 1, 1.0), True)
        assert (g == 0).all()
        reference.update(twin, plain, np.array(gradient(plain.tolist(), step)), rate, step + 1)
    np.testing.assert_allclose(p, GOLDEN[f"{case}, {dtype}"], rtol=rtol, atol=1e-6 if dtype == "float32" else 0)
    np.testing.assert_allclose(plain, GOLDEN[f"{case}, float64"], rtol=1e-10)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_clipping_and_the_limit_of_norms_are_those_of_pytorch(dtype: str) -> None:
    g = np.array(gradient(START, 3), dtype)
    shrink = clipping(np.array([(g[:3].astype(float) ** 2).sum(), (g[3:].astype(float) ** 2).sum()]), 0.5)
    np.testing.assert_allclose(g * shrink, GOLDEN[f"clipped, {dtype}"], rtol=1e-5)  # PyTorch adds 1e-6 to the norm
    assert clipping(np.array([0.01, 0.02]), 0.5) == 1
    columns = np.array([START, [v / 4 for v in START]], dtype).T.copy()
    wanted = np.array(GOLDEN[f"renorm, {dtype}"]).T
    np.testing.assert_allclose(reference.limit_norms(columns, 2.0), wanted, rtol=1e-6)
    limit_norms(columns, 2.0, np.zeros(2, dtype))
    np.testing.assert_allclose(columns, wanted, rtol=1e-6)


EXTRAS = [
    {},
    {"l1": 0.01, "l2": 0.02},
    {"weight_decay": 0.1},
    {"max_norm": 0.7},
    {"max_norm": 0.4, "averaging": 0.9},
    {"clip_norm": 0.2},
    {"averaging": 0.9},
    {"dropout": 0.3, "label_smoothing": 0.1, "class_weight": "balanced"},
    {"activation": ("gelu",), "clip_norm": 0.3, "max_norm": 0.9, "averaging": 0.95, "l2": 0.01, "warmup_epochs": 1.5},
]
# Each alone in the longer campaigns, the last has most of them. `train_steps` is compiled anew for what a run has of
# activations, an optimizer's rule and weights of examples, and for its input, which takes 6 s of CPU on a slow machine.
# So the last has weights here, as the one before it; without hidden layers, neither; and sparse input, which gives the
# bits of the dense one with all of this (`test_same_bits_for_any_threads_and_either_input`), is compared when plain.
MUCH = EXTRAS[-1] | {"class_weight": "balanced"}
NETS = {(): ({}, EXTRAS[-1])} | dict.fromkeys([(33,), (20, 40), (9, 35, 12)], ({}, EXTRAS[-2], MUCH))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    ("hidden", "extras", "mode"),
    [
        pytest.param(
            hidden,
            extras,
            mode,
            id=f"{'-'.join(map(str, hidden)) or 'no hidden layer'}-{'-'.join(extras) or 'plain'}-{mode}",
            marks=() if extras in quick and (mode == "dense" or not extras) else pytest.mark.long,
        )
        for hidden, quick in NETS.items()
        for extras in (*EXTRAS, MUCH)
        for mode in ("dense", "sparse")
    ],
)
def test_runs_are_those_of_the_reference(
    hidden: tuple[int, ...], extras: dict[str, object], optimizer: str, mode: str
) -> None:
    """Two epochs and a short batch in float64, everything that a step does written out in NumPy."""
    if (not hidden or mode == "sparse" or len(hidden) == 2) and optimizer not in ("sgd", "adam"):
        return  # what depends on depth or input does not depend on the optimizer
    if mode == "sparse" and (not hidden or (optimizer == "sgd") != (not extras)):
        return  # the input is read alike in all of them: plain, and with all that a step of Adam can have
    dataset = make_dataset(83, 17, 3, "float64", zeros=0.5)
    known = {
        name: value for name, value in extras.items() if hidden or name not in ("dropout", "activation", "max_norm")
    }
    settings = Settings(hidden, 2, 20, optimizer=optimizer, input=mode, seed=3, **known)  # type: ignore[arg-type]
    run = Training(dataset, settings, "float64")
    wanted, losses = reference_run(run)
    found = [epoch.loss for epoch in run]
    assert found == pytest.approx(losses, rel=1e-9)
    for name, a, b in zip(run.network.parameter_shapes, run.model().parameters, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10, err_msg=name)
    run.close()


def reference_run(run: Training) -> tuple[list[np.ndarray], list[float]]:
    """The run in plain NumPy, from its own start."""
    s, split, row = run.settings, run.dataset.train, OPTIMIZERS[run.settings.optimizer]
    parameters = [p.copy() for p in run.model().parameters]
    rules = [
        reference.Rule(
            row.kernel, s.momentum, s.beta2, s.epsilon, s.l1, s.l2, s.weight_decay, s.averaging, average=p.copy()
        )  # type: ignore[arg-type]
        for p in parameters
    ]
    names = [layer.activation for layer in run.network.layers[:-1]]
    by_class = len(split) / (3 * np.bincount(split.y)) if s.class_weight == "balanced" else np.ones(3)
    losses, time = [], 0
    for epoch in range(s.epochs):
        order, total = shuffled(len(split), s.seed, epoch), 0.0
        rates = schedules.rates(s, epoch, run.steps)
        for step, first in enumerate(range(0, len(split), s.batch_size)):
            rows, time = order[first : first + s.batch_size], time + 1
            places = np.arange(first, first + len(rows))
            masks = [
                reference.dropout_mask(s.dropout, s.seed, layer, epoch, places, units)
                for layer, units in enumerate(s.hidden)
            ]
            kind = reference.Options(names, masks, s.loss, s.label_smoothing, s.huber_delta, by_class[split.y[rows]])
            loss, _, gradients = reference.gradient(parameters, split.x[rows], split.y[rows], kind)
            total += loss * len(rows)
            shrink = reference.clipping(gradients, s.clip_norm) if s.clip_norm else 1.0
            for index, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
                reference.update(rules[index], p, g * shrink, rates[step], time, p.ndim == 2)
            if s.max_norm:
                for index in range(0, len(parameters) - 2, 2):
                    parameters[index][:] = reference.limit_norms(parameters[index], s.max_norm)
            for averaged, p in zip(rules, parameters, strict=True):
                averaged.average = reference.average(averaged.average, p, s.averaging, time)
        losses.append(total / len(split))
    return [r.average for r in rules] if s.averaging else parameters, losses  # type: ignore[misc]


@pytest.mark.parametrize("hidden", [(128,), (70, 100, 40)])
@pytest.mark.parametrize(
    "extras",
    [
        pytest.param({}, id="adam", marks=pytest.mark.long),  # whose dense kernel no other test takes
        pytest.param({"dropout": 0.5}, id="dropout"),
        pytest.param(EXTRAS[-1], id="much"),
    ],
)
def test_same_bits_for_any_threads_and_either_input(hidden: tuple[int, ...], extras: dict[str, object]) -> None:
    dataset = make_dataset(301, 90, 5, "uint8", zeros=0.7)
    hashes = set()
    for mode in ("dense", "sparse"):
        for threads in (1, 2, 3, 5):
            settings = Settings(hidden, 3, 64, optimizer="adam", threads=threads, input=mode, **extras)  # type: ignore[arg-type]
            run = Training(dataset, settings)
            for _ in run:
                run._steps.a_call = threads  # how steps are cut into calls changes nothing either
            hashes.add(run.model().sha256)
            run.close()
    assert len(hashes) == 1


def test_registries_name_the_same_things_in_the_same_order() -> None:
    assert tuple(reference.ACTIVATIONS) == ACTIVATIONS == tuple(reference.SLOPES)
    assert ("softmax", *reference.LOSSES) == LOSSES == tuple(LINKS)
    table = (ROOT / "fastnn" / "web" / "net.js").read_text().partition("const ACTIVATIONS = {")[2].partition("\n};")[0]
    assert tuple(re.findall(r'^  "(.+?)":', table, re.MULTILINE)) == ACTIVATIONS  # of exported pages
    assert tuple(schedules.SCHEDULES) == SCHEDULES
    assert tuple(reference.OPTIMIZERS) == KERNELS
    assert {row.kernel for row in OPTIMIZERS.values()} <= set(KERNELS)
    for module, names in ((activations_module, ACTIVATIONS), (losses_module, LOSSES), (optimizers_module, KERNELS)):
        assert [getattr(module, name.upper().replace("-", "_")) for name in names] == list(range(len(names)))
    for kernel in KERNELS:
        assert inspect.isfunction(getattr(optimizers_module, kernel).py_func)
    assert {item.name for item in fields(reference.Rule)} >= {"l1", "l2", "decay", "averaging"}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    own = {"step": {"gamma": 0.1, "step_epochs": 3}, "exponential": {"gamma": 0.1}}.get(name, {})
    settings = Settings(epochs=10, learning_rate=0.5, schedule=name, **own).resolved()  # type: ignore[arg-type]
    found = np.concatenate([schedules.rates(settings, epoch, 4) for epoch in range(10)])
    at = {
        "constant": {0: 0.5, 39: 0.5},
        "decay": {0: 0.5, 3: 0.5, 4: 0.5 / 1.2, 39: 0.5 / 2.8},
        "step": {11: 0.5, 12: 0.05, 39: 0.0005},
        "exponential": {3: 0.5, 4: 0.05, 8: 0.005},
        "cosine": {0: 0.5, 20: 0.25, 39: 0.25 * (1 + np.cos(np.pi * 39 / 40))},
        "one-cycle": {0: 0.02, 12: 0.5, 26: 0.25 * (1 + 1e-4)},
    }[name]
    for step, rate in at.items():
        assert found[step] == pytest.approx(rate), step
    assert (found > 0).all()
    warm = schedules.rates(Settings(epochs=10, learning_rate=0.5, schedule=name, warmup_epochs=1.0).resolved(), 0, 4)
    cold = schedules.rates(Settings(epochs=10, learning_rate=0.5, schedule=name).resolved(), 0, 4)
    np.testing.assert_allclose(warm / cold, [0.25, 0.5, 0.75, 1])


def test_an_optimizers_own_numbers_are_taken_unless_given() -> None:
    for name, row in OPTIMIZERS.items():
        assert Settings(optimizer=name).resolved().learning_rate == row.learning_rate
        if row.memory[0]:
            assert Settings(optimizer=name, learning_rate=0.5, momentum=0.3).resolved().momentum == 0.3
    assert Settings(optimizer="adamw", weight_decay=0.0).resolved().weight_decay == 0


def test_network_by_name_of_activations() -> None:
    network = Network.mlp(3, (4, 5), 2, ("tanh", "gelu"))
    assert network.activations == ("tanh", "gelu", "identity")


def test_the_average_of_the_weights_keeps_the_limit_of_norms_too() -> None:
    """It is taken of the weights after they were limited: the model must not exceed its own limit."""
    settings = Settings((33,), 3, 20, 0.5, averaging=0.9, max_norm=0.3)
    run = Training(make_dataset(83, 17, 3), settings)
    list(run)
    assert np.linalg.norm(run.model().parameters[0], axis=0).max() <= 0.3 * (1 + 1e-6)
    run.close()


@pytest.mark.parametrize("kernel", ["momentum", "nesterov", "adam", "rmsprop"])
def test_what_is_remembered_of_a_gradient_that_is_gone_fades_to_zero(kernel: str) -> None:
    """Denormal numbers would make every later step many times slower."""
    ours = rule(kernel, 8, "float32", beta1=0.5, beta2=0.5, epsilon=1e-8)
    p, g = aligned_zeros(8, np.dtype(np.float32)), aligned_zeros(8, np.dtype(np.float32))
    g[:] = 1e-3
    for step in range(140):
        update(ours, p, g, 0, 8, Step(0.01, step + 1, 1.0, 1.0, 1.0), True)
        memory = np.abs(np.concatenate([ours.first, ours.second]))
        assert ((memory == 0) | (memory > 1e-37)).all()
    assert (memory == 0).all()
