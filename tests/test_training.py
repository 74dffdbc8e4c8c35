"""Whole runs: against the reference step by step, the same bits for any threads, and what goes wrong."""

from __future__ import annotations

import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, make_dataset, python

import fastnn
from fastnn import reference
from fastnn.datasets import Dataset, from_arrays
from fastnn.errors import DataError, DivergedError, UsageError
from fastnn.kernels.step import predict_logits, train_steps
from fastnn.model.store import tensors_sha256
from fastnn.network import Network
from fastnn.training import schedules
from fastnn.training.run import Progress, Settings, Training, best_threads, shuffled


def run_of(dataset: Dataset, **settings: object) -> Training:
    dtype = str(settings.pop("dtype", "float32"))
    return Training(
        dataset,
        Settings(**{"hidden": (20,), "epochs": 3, "learning_rate": 0.2, "schedule": "decay", **settings}),
        dtype,
    )  # type: ignore[arg-type]


def reference_run(
    dataset: Dataset, settings: Settings, start: list[np.ndarray]
) -> tuple[list[np.ndarray], list[float]]:
    parameters, losses = [p.astype("float64") for p in start], []
    x, y = dataset.train.x, dataset.train.y
    x = x / 255 if x.dtype == np.uint8 else x.astype("float64")
    for epoch in range(settings.epochs):
        order = shuffled(len(x), settings.seed, epoch)
        batches = [order[i : i + settings.batch_size] for i in range(0, len(x), settings.batch_size)]
        total, _ = reference.train_steps(
            parameters, ((x[b], y[b]) for b in batches), schedules.rates(settings.resolved(), epoch, 1)[0]
        )
        losses.append(total / len(x))
    return parameters, losses


@pytest.mark.parametrize("mode", ["dense", "sparse"])
@pytest.mark.parametrize("batch", [1, 7, 32, 203, 500])
@pytest.mark.parametrize("hidden", [(), (1,), (40,), (33, 40), (8, 31, 5), (16, 32, 8)])
def test_a_run_is_the_reference_run(hidden: tuple[int, ...], batch: int, mode: str) -> None:
    """Every step of three epochs, the last short batch included, in float64."""
    if mode == "sparse" and not hidden:
        return
    dataset = make_dataset(203, 17, 3, "float64", zeros=0.6)
    run = run_of(dataset, hidden=hidden, batch_size=batch, seed=5, input=mode, dtype="float64", learning_rate=0.1)
    start = run.model().parameters
    losses = [epoch.loss for epoch in run]
    wanted, wanted_losses = reference_run(dataset, run.settings, start)
    assert losses == pytest.approx(wanted_losses, rel=1e-9)
    for found, expected in zip(run.model().parameters, wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", ["float64", pytest.param("uint8", marks=pytest.mark.long)])
def test_golden_losses(kind: str) -> None:
    """Ten epochs as they were when this was written (float64, so that no CPU changes them visibly)."""
    dataset = make_dataset(300, 10, 4, "uint8", zeros=0.5)
    dataset = replace(dataset, train=replace(dataset.train, x=dataset.train.x.astype(kind)))
    losses = [e.loss for e in run_of(dataset, hidden=(16, 8), epochs=10, seed=1, dtype="float64")]
    assert losses == pytest.approx(GOLDEN, rel=1e-7)


GOLDEN = [
    1.4072254886,
    1.3719625328,
    1.3504919283,
    1.3219507524,
    1.2943192929,
    1.267597988,
    1.230849748,
    1.1991586922,
    1.1712582019,
    1.1470606343,
]


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("hidden", [(), (40,), (128,), (100, 70), (70, 100, 40)])
def test_same_bits_for_any_threads_and_either_input(hidden: tuple[int, ...], kind: str) -> None:
    dataset = make_dataset(301, 90, 5, kind, zeros=0.7)
    hashes, losses = set(), set()
    for mode in ("dense", "sparse") if hidden else ("dense",):
        for threads in (1, 2, 3, 5, 1):
            run = run_of(dataset, hidden=hidden, threads=threads, batch_size=64, input=mode)
            losses.add((mode, tuple(epoch.loss for epoch in run)))
            hashes.add(run.model().sha256)
            run.close()
    assert len(hashes) == 1
    by_mode = dict(losses)
    assert len(by_mode) == len(losses)  # one sequence for each kind of input, whatever the threads …
    assert by_mode["dense"] == pytest.approx(by_mode.get("sparse", by_mode["dense"]), rel=1e-6)  # … told to rounding


def test_how_steps_are_cut_into_calls_changes_nothing(small: Dataset) -> None:
    run = run_of(small)
    run._steps.a_call = 10**6
    other = run_of(small)
    for epoch in run:
        assert epoch
    for _ in other:
        other._steps.a_call = 1
    assert run.model().sha256 == other.model().sha256


def test_seeds_differ_and_shuffles_differ_by_epoch(small: Dataset) -> None:
    models = [fastnn.train(small, (8,), epochs=1, seed=seed).sha256 for seed in (0, 1, 0)]
    assert models[0] == models[2] != models[1]
    orders = [tuple(shuffled(50, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(50)) for order in orders)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_can_be_evaluated_from_another_thread(threads: int) -> None:
    """As a page or a notebook that looks at a run does: calls of kernels take turns, and change nothing."""
    dataset = make_dataset(301, 90, 5, "uint8", zeros=0.7)
    settings = {"hidden": (40,), "epochs": 40, "threads": threads, "batch_size": 8}
    alone = run_of(dataset, **settings)
    list(alone)
    run, ended, evaluated = run_of(dataset, **settings), threading.Event(), 0

    def look() -> int:
        seen = 0
        while not ended.is_set() or not seen:
            assert run.evaluate(run.train_split).loss > 0
            seen += 1
        return seen

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        list(run)
        ended.set()
        evaluated = looking.result(60)
    assert evaluated > 0
    for a, b in zip(run.model().parameters, alone.model().parameters, strict=True):
        assert (a == b).all()


def test_trainings_at_once_are_those_one_after_the_other() -> None:
    """Eight in one process, each with threads of its own: nothing is shared but the machine."""
    dataset = make_dataset(301, 90, 5, "uint8", zeros=0.7)

    def train(n: int) -> tuple[str, float]:
        run = run_of(dataset, hidden=(40,) * (1 + n % 2), seed=n, threads=1 + n % 3, input=("dense", "sparse")[n // 4])
        losses = [epoch.loss for epoch in run]
        return tensors_sha256(run.model().parameters), losses[-1]

    one_after_the_other = [train(n) for n in range(8)]
    assert len(set(one_after_the_other)) == 8
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(train, range(8))) == one_after_the_other


@pytest.mark.parametrize("mode", ["dense", "sparse"])
@pytest.mark.parametrize("hidden", [(16,), (16, 16)])
@pytest.mark.parametrize("threads", [1, 2])
def test_divergence_stops_and_keeps_the_last_finite_weights(threads: int, hidden: tuple[int, ...], mode: str) -> None:
    dataset = make_dataset(203, 17, 3)
    run = run_of(dataset, hidden=hidden, learning_rate=1e30, threads=threads, input=mode)
    start = run.model().sha256
    with pytest.raises(DivergedError, match=r"epoch 1, step \d+.*Try learning_rate=1e\+29") as raised:
        list(run)
    assert raised.value.step > 1
    assert run.model().sha256 == start
    assert run.history == []


def test_divergence_after_a_good_epoch_keeps_that_epoch(small: Dataset) -> None:
    run = run_of(small, epochs=2)
    epochs = iter(run)
    next(epochs)
    good = run.model().sha256
    run.settings = replace(run.settings, learning_rate=float("1e35"))
    with pytest.raises(DivergedError, match="epoch 2"):
        next(epochs)
    assert run.model().sha256 == good


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "^epochs=0: expected a whole number from 1"),
        ({"hidden": (8, 0)}, "^hidden=0: expected a whole number from 1 to 1,048,576"),
        ({"hidden": (8, 2.5)}, "^hidden=2.5: "),
        ({"batch_size": 0}, "^batch_size=0: "),
        ({"batch_size": 70_000}, "65,536"),
        ({"learning_rate": 0.0}, "^learning_rate=0.0: expected a number above 0"),
        ({"learning_rate": float("nan")}, "^learning_rate=nan: "),
        ({"learning_rate_decay": -1.0}, "^learning_rate_decay=-1.0: expected a number of at least 0"),
        ({"seed": -1}, "^seed=-1: "),
        ({"threads": 0}, "^threads=0: "),
        ({"threads": 5_000}, "^threads=5000: "),
        ({"initialisation": "zero"}, "^initialisation='zero': expected one of he, glorot"),
        ({"input": "magic"}, "^input='magic': "),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Settings(**settings)  # type: ignore[arg-type]


def test_networks_out_of_range(small: Dataset) -> None:
    for hidden, message in (((2**21,), "^hidden=2097152: "), ((2**20, 2**20), "parameters")):
        with pytest.raises(UsageError, match=message):
            run_of(small, hidden=hidden)
    with pytest.raises(UsageError, match="0 units"):
        Network.mlp(5, (0,), 2)
    with pytest.raises(UsageError, match="needs a hidden layer"):
        run_of(small, hidden=(), input="sparse")


def test_labels_are_checked_before_any_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastnn.kernels.workers.Workers.run", lambda *a, **k: pytest.fail("a kernel ran"))
    x = np.zeros((4, 3), np.float32)
    for labels, message in (
        ([0, 1, np.nan, 0], "label nan in row 3"),
        ([0, 1.5, 0, 0], "label 1.5 in row 2"),
        ([0j, 1, 2, 3], "labels of type"),
        ([0, 1, 2], "4 examples but 3 labels"),
    ):
        with pytest.raises(DataError, match=message):
            fastnn.train((x, np.array(labels)))
    x[2, 1] = np.inf
    with pytest.raises(DataError, match="row 3 holds a value that is missing or infinite"):
        fastnn.train((x, np.array([0, 1, 0, 1])))


def test_the_dataset_gate_refuses_labels_above_the_classes() -> None:
    from fastnn.datasets import checked_split

    with pytest.raises(DataError, match="label 10 in row 2; expected whole numbers 0 to 9"):
        checked_split(np.zeros((2, 3)), np.array([9, 10]), 10, "x")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", ">f4", "bool"])
def test_arrays_of_any_kind_train(dtype: str, order: str) -> None:
    base = make_dataset(90, 6, 3)
    x = np.asarray(base.train.x > 0 if dtype == "bool" else base.train.x * 3, dtype=dtype, order=order)
    x.flags.writeable = False
    model = fastnn.train((x, base.train.y), (8,), epochs=40, batch_size=8, learning_rate=0.03)
    assert (model.predict(x) == base.train.y).mean() > 0.8


def test_arrays_have_no_test_split() -> None:
    base = make_dataset(20, 6, 3).train
    run = run_of(from_arrays(base.x, base.y), epochs=1)
    list(run)
    with pytest.raises(UsageError, match="no test examples"):
        run.evaluate()


def test_no_test_example_is_ever_trained_on() -> None:
    """Test examples that would poison the weights leave no trace in them."""
    dataset = make_dataset(64, 5, 3)
    poisoned = replace(dataset, test=replace(dataset.test, x=np.full_like(dataset.test.x, 1e30)))
    hashes = [run_of(d) for d in (dataset, poisoned)]
    for run in hashes:
        list(run)
    assert hashes[0].model().sha256 == hashes[1].model().sha256


def test_a_whole_run_compiles_each_kernel_once(small: Dataset) -> None:
    run = run_of(small, epochs=1)
    run.compile()
    run.compile_evaluation()
    before = len(train_steps.signatures), len(predict_logits.signatures)
    list(run)
    run.evaluate()
    for threads in (1, 2):
        other = run_of(small, epochs=2, hidden=(9,), batch_size=50, threads=threads)
        list(other)
        other.evaluate()
    frozen = small.train.x.copy(), small.train.y.copy()
    for array in frozen:
        array.flags.writeable = False
    fastnn.train(frozen, (9,), epochs=1).predict(frozen[0], engine="kernels")
    assert (len(train_steps.signatures), len(predict_logits.signatures)) == before


@pytest.mark.parametrize("hidden", [(), (40,), (40, 70), (70, 40, 33), (8, 8, 8, 8)])
def test_barriers_are_as_few_as_the_net_allows(hidden: tuple[int, ...]) -> None:
    """One a step with one hidden layer, 2L - 1 with L, and one more at the end of a call with several."""
    run = run_of(make_dataset(203, 40, 3), hidden=hidden, epochs=1, batch_size=10, threads=2)
    run._steps.a_call = 1_000
    list(run)
    wanted = 21 * max(1, 2 * len(hidden) - 1) + (len(hidden) > 1)
    assert run._workers._sync[0] == 2 * wanted


def test_calls_of_kernels_stay_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel can't be interrupted, so none may take long: 50 ms by the pace of the call before, or a single step."""
    run, now = run_of(make_dataset(203, 17, 3), epochs=4, batch_size=1), 0.0
    monkeypatch.setattr("fastnn.training.run.time.perf_counter", lambda: now)
    run._steps.a_call = 2
    inner, calls = run._workers.run, list[int]()
    seconds_a_step = {1: 0.01, 2: 0.03, 3: 0.2, 4: 0.001}  # by epoch

    def counted(*args: object, **kwargs: object) -> int:
        nonlocal now
        span = args[4]
        calls.append(span.last - span.first)  # type: ignore[attr-defined]
        now += calls[-1] * seconds_a_step[span.epoch + 1]  # type: ignore[attr-defined]
        return inner(*args, **kwargs)  # type: ignore[arg-type]

    run._workers.run = counted  # type: ignore[method-assign, assignment]
    found = []
    for _ in run:
        found.append(calls.copy())
        calls.clear()
    run.close()
    assert found[0][:3] == [2, 5, 5]
    assert found[1][:3] == [5, 1, 1]
    assert found[2] == [1] * 203
    assert found[3][:5] == [1, 4, 16, 50, 50]  # four times as many at most: the first steps may be the fast ones
    assert [sum(steps) for steps in found] == [203] * 4


def test_progress_is_told_inside_an_epoch() -> None:
    seen: list[Progress] = []
    dataset = make_dataset(30_000, 300, 10)
    run = Training(dataset, Settings((1024,), epochs=2, threads=1), on_progress=seen.append)
    list(run)
    assert seen
    assert all(0 < p.done <= p.examples == 30_000 and 0 <= p.accuracy <= 1 for p in seen)


def test_memory_is_flat_over_epochs() -> None:
    """A thousand epochs in a process of their own; the first hundred may still grow."""
    script = """
import resource, sys
sys.path[:0] = [sys.argv[1] + "/tests", sys.argv[1]]
from conftest import make_dataset
from fastnn.training.run import Settings, Training
run = Training(make_dataset(64, 20, 3), Settings((16,), epochs=1000, threads=2))
for epoch in run:
    if epoch.epoch == 100:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = python(script, ROOT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8_192  # kilobytes (bytes on macOS: then all the stricter)


def test_many_threads_may_train_and_predict_at_once(small: Dataset) -> None:
    wanted = fastnn.train(small, (20,), epochs=3)
    found: list[str] = []

    def work() -> None:
        model = fastnn.train(small, (20,), epochs=3, threads=2)
        model.predict(small.train.x, engine="kernels")
        found.append(model.sha256)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [wanted.sha256] * 8


@pytest.mark.skipif(sys.platform != "linux", reason="fork")
def test_a_forked_child_can_train_after_its_parent_has() -> None:
    script = """
import os, sys
sys.path[:0] = [sys.argv[1] + "/tests", sys.argv[1]]
from conftest import make_dataset
import fastnn
data = make_dataset(203, 17, 3)
parent = fastnn.train(data, (40,), epochs=2, threads=2).sha256
child = os.fork()
if child == 0:
    os._exit(0 if fastnn.train(data, (40,), epochs=2, threads=2).sha256 == parent else 9)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = python(script, ROOT, timeout=60)
    assert done.stdout.strip() == "0"


@pytest.mark.parametrize("mode", ["dense", "sparse"])
def test_extreme_features_train_or_stop_clearly(mode: str) -> None:
    base = make_dataset(90, 6, 3)
    for x in (base.train.x * np.float32(1e37), np.ones_like(base.train.x), np.zeros_like(base.train.x)):
        run = run_of(from_arrays(x, base.train.y), epochs=2, input=mode)
        try:
            list(run)
        except DivergedError:
            assert np.abs(x).max() > 1e30
        assert all(np.isfinite(p).all() for p in run.model().parameters)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_a_hundred_runs_leave_no_threads_and_no_files() -> None:
    """In a process of their own, where nothing else begins or ends meanwhile."""
    script = """
import sys, threading
from pathlib import Path
sys.path[:0] = [sys.argv[1] + "/tests", sys.argv[1]]
from conftest import make_dataset
import fastnn
small = make_dataset(203, 17, 3)
def held():
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
fastnn.train(small, (70,), epochs=1, threads=2).predict(small.train.x, engine="kernels", threads=2)
before = held()
for _ in range(100):
    model = fastnn.train(small, 70, epochs=1, threads=2)
    model.predict(small.train.x, engine="kernels", threads=2)
print(before == held(), before, held())
"""
    done = python(script, ROOT)
    assert done.stdout.startswith("True"), done.stdout


def test_threads_are_few_for_small_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastnn.training.run.available_threads", lambda: 8)
    tiny, narrow, large = (Network.mlp(784, hidden, 10) for hidden in ((16,), (64,), (2048, 2048)))
    assert best_threads(tiny, 1, 32) == 1  # its work
    assert best_threads(narrow, 4_096, 32) == 2  # its panels
    assert best_threads(large, 256, 32) == 8  # the machine


def test_a_run_that_diverged_stands_before_its_epoch(small: Dataset) -> None:
    run = Training(small, Settings((4,), epochs=3, batch_size=8, learning_rate=1e30))
    with pytest.raises(DivergedError) as raised:
        next(iter(run))
    assert raised.value.epoch == 1
    assert 1 <= raised.value.step <= run.steps
    assert (run.state.epoch, run.state.step, run.state.seconds, run.state.totals.tolist()) == (0, 0, 0.0, [0, 0])
    assert run.history == []
    run.close()


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0.0, 1.0, [0, 1]),
        (0.25, 0.5, [0, 1]),
        (-1.0, 1.0, [-1, 1]),
        (-0.5, 0.0, [-0.5, 1]),
        (-1.01, 1.0, None),
        (-1.0, 1.01, None),
    ],
)
def test_a_model_says_what_its_features_go_from_and_to(low: float, high: float, wanted: list[float] | None) -> None:
    x = np.array([[low, high], [high, low]], np.float32)
    run = Training(from_arrays(x, [0, 1]), Settings((), epochs=1))
    assert run.model().metadata["preprocessing"]["range"] == pytest.approx(wanted)
    run.close()
    run = Training(make_dataset(20, 4, 2, "uint8"), Settings((), epochs=1))
    assert run.model().metadata["preprocessing"]["range"] == [0, 255]
    run.close()


def test_an_epoch_says_what_it_was(small: Dataset) -> None:
    run = Training(
        small, Settings((4,), epochs=2, batch_size=8, learning_rate=0.1, schedule="constant", validation=0.2)
    )
    first, last = list(run)
    assert (first.epoch, last.epoch, first.learning_rate) == (1, 2, 0.1)
    for epoch in (first, last):
        assert epoch.examples_per_second == pytest.approx(len(run.train_split) / epoch.seconds)
    found = run.evaluate(run.validation)
    assert last.validation_loss == pytest.approx(found.loss)
    assert last.validation_accuracy == found.accuracy
    history = run.model().metadata["history"]
    best = min((first, last), key=lambda epoch: epoch.validation_loss or 0)
    assert (history["best_epoch"], history["best_validation_loss"]) == (best.epoch, best.validation_loss)
    assert (history["epochs"], history["loss"], history["accuracy"]) == (2, last.loss, last.accuracy)
    assert (run.state.epoch, run.state.step, run.state.seconds) == (2, 0, 0.0)
    run.close()


def test_progress_counts_the_examples_of_an_epoch(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes between two looks at the clock, so that every step is told of."""
    ticks = itertools.count()
    for module in ("run", "steps"):
        monkeypatch.setattr(f"fastnn.training.{module}.time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    seen: list[Progress] = []
    run = Training(small, Settings((4,), epochs=2, batch_size=50), on_progress=seen.append)
    run._steps.a_call = 1
    first, _ = list(run)
    assert [(one.epoch, one.done, one.examples) for one in seen] == [
        (epoch, done, 203) for epoch in (1, 2) for done in (50, 100, 150, 200, 203)
    ]
    assert seen[4].loss == pytest.approx(first.loss)
    assert seen[4].accuracy == pytest.approx(first.accuracy)
    assert [one.seconds for one in seen[:5]] == sorted({one.seconds for one in seen[:5]})
    run.close()
