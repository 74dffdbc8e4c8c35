"""A run without a protocol: its model at any moment, threads that go by themselves, and weights to begin from."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import clean_error, fastnn, make_dataset

import fastnn as package
from fastnn.datasets import Dataset
from fastnn.errors import ArgumentTypeError, DataError, DivergedError, UsageError
from fastnn.model.calibration import Calibration, fit
from fastnn.model.model import Model, load
from fastnn.model.store import tensors_sha256
from fastnn.training.checkpoint import Checkpoints
from fastnn.training.run import State, Training
from fastnn.training.settings import Settings

WATCHED = {"hidden": (20,), "epochs": 8, "batch_size": 20, "learning_rate": 0.5, "schedule": "constant"}


@pytest.fixture
def overfitted() -> Dataset:
    """Labels that mean little: the best validation loss is not the last."""
    data = make_dataset(400, 10, 3)
    random = np.random.default_rng(0)
    y = np.where(random.random(400) < 0.5, data.train.y, random.integers(0, 3, 400)).astype(np.int32)
    return replace(data, train=replace(data.train, y=y))


def run_of(data: Dataset, **changes: object) -> Training:
    return Training(data, Settings(**{**WATCHED, **changes}))  # type: ignore[arg-type]


def best_by_hand(data: Dataset, run: Training, **changes: object) -> Model:
    """The model of the best epoch, by a run that ends there."""
    losses = [epoch.validation_loss for epoch in run.history]
    shorter = run_of(data, **{**changes, "epochs": int(np.argmin(losses)) + 1, "restore_best": False})
    list(shorter)
    return shorter.model()


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_the_model_is_of_the_best_epoch_and_calibrated_with_nothing_to_remember(
    averaging: float, overfitted: Dataset
) -> None:
    changes = {"validation": 0.25, "averaging": averaging}
    run = run_of(overfitted, **changes)
    epochs = list(run)
    best = int(np.argmin([epoch.validation_loss for epoch in epochs]))
    assert best + 1 < len(epochs)
    model, wanted = run.model(), best_by_hand(overfitted, run, **changes)
    assert model.sha256 == wanted.sha256
    z = model.logits(run.validation.x, "kernels") * model.temperature  # type: ignore[union-attr]
    fitted = fit(z, run.validation.y)  # type: ignore[union-attr]
    assert model.metadata["calibration"] == pytest.approx(vars(fitted), rel=1e-9)
    assert model.metadata["calibration"] == wanted.metadata["calibration"]
    assert model.temperature != 1


def test_weights_are_the_latest_where_the_best_are_not_asked_for(overfitted: Dataset) -> None:
    for changes in ({"validation": 0.25, "restore_best": False}, {}):
        run = run_of(overfitted, **changes)
        for _ in run:
            assert run.model().sha256 == tensors_sha256(run.plain_buffers()["parameters"])
        assert (run.calibration == Calibration()) == (not changes)
        assert ("calibration" in run.model().metadata) == bool(changes)


def test_a_model_at_any_moment_changes_nothing(overfitted: Dataset) -> None:
    """In the loop, after a break, after an exception in the loop and inside an epoch: the run goes on to the same."""
    wanted = run_of(overfitted, validation=0.25)
    records, hashes = [], []
    for epoch in wanted:
        records.append((epoch.loss, epoch.validation_loss))
    run = run_of(overfitted, validation=0.25)
    for epoch in run:
        model = run.model()
        hashes.append(model.sha256)
        assert run.model() is not model
        if epoch.epoch == 2:
            break
    assert run.model().sha256 == hashes[-1]
    with pytest.raises(ZeroDivisionError):
        for _ in run:
            hashes.append(run.model().sha256)
            raise ZeroDivisionError
    assert len(run.history) == 3

    def stop(run: Training) -> None:
        if run.state.step > 0:
            run.on_safe = None
            raise KeyboardInterrupt

    run._steps.a_call = 1
    run.on_safe = stop
    with pytest.raises(KeyboardInterrupt):
        list(run)
    assert (run.state.epoch, run.state.step) == (3, 1)
    assert run.model().sha256 in hashes  # of the best epoch, not of the one it is in
    for _ in run:
        hashes.append(run.model().sha256)
    assert [(epoch.loss, epoch.validation_loss) for epoch in run.history] == records
    assert list(run) == []
    assert run.model().sha256 == wanted.model().sha256 == hashes[-1]
    best = int(np.argmin([loss for _, loss in records]))
    assert len(set(hashes)) > 1
    assert hashes[best] == hashes[-1]


def test_a_run_that_diverges_keeps_its_best_epoch(overfitted: Dataset) -> None:
    run = run_of(overfitted, validation=0.25)
    epochs = iter(run)
    next(epochs)
    good = run.model()
    run.settings = replace(run.settings, learning_rate=1e35)
    with pytest.raises(DivergedError):
        next(epochs)
    assert run.model().sha256 == good.sha256
    assert run.model().metadata["calibration"] == good.metadata["calibration"]


@pytest.mark.parametrize("loss", ["softmax", "squared"])
def test_what_is_evaluated_is_the_model(loss: str, overfitted: Dataset) -> None:
    data = overfitted
    if loss == "squared":
        splits = {part: replace(getattr(data, part), y=getattr(data, part).x[:, :3]) for part in ("train", "test")}
        data = replace(data, **splits)
    changes = {"loss": loss, "learning_rate": 0.05} if loss == "squared" else {}
    run = run_of(data, validation=0.25, **changes)
    for epoch in run:
        for split in (data.test, run.validation):
            found, wanted = run.evaluate(split), run.model().evaluate(split)  # type: ignore[arg-type]
            assert found.loss == pytest.approx(wanted.loss, rel=1e-12)
            assert (found.accuracy, found.calibration_error) == (wanted.accuracy, wanted.calibration_error)
            np.testing.assert_array_equal(found.confusion, wanted.confusion)
        watched = run._evaluation(run.validation, run._latest())  # type: ignore[arg-type]
        assert watched.loss == epoch.validation_loss  # of the weights as they are


def test_a_calibration_is_fitted_once_for_the_same_weights(
    overfitted: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[int]()

    def counted(z: np.ndarray, y: np.ndarray) -> Calibration:
        calls.append(len(y))
        return fit(z, y)

    monkeypatch.setattr("fastnn.training.run.fit", counted)
    run = run_of(overfitted, validation=0.25, restore_best=False)
    list(run)
    assert not calls  # nobody asked
    found = run.model().metadata["calibration"]
    run.evaluate()
    run.model()
    assert calls == [100]
    run.restore(run_of(overfitted, validation=0.25, restore_best=False).plain_buffers(), State({}))
    assert run.model().metadata["calibration"] != found  # other weights
    assert calls == [100, 100]


OTHERS = set[threading.Thread]()  # of runs that other tests have left


@pytest.fixture
def counted() -> None:
    gc.collect()
    OTHERS.clear()
    OTHERS.update(threading.enumerate())


def workers() -> int:
    return sum(thread.name.startswith("fastnn") for thread in set(threading.enumerate()) - OTHERS)


def gone() -> bool:
    """Threads that were told to go do so in a moment."""
    end = time.monotonic() + 10
    while workers() and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    return workers() == 0


def left_by_break(run: Training) -> None:
    for _ in run:
        assert workers() == 2
        break


def left_by_exception(run: Training) -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in run:
            raise ZeroDivisionError


def left_alone(run: Training) -> None:
    next(iter(run))


def diverged(run: Training) -> None:
    run.settings = replace(run.settings, learning_rate=1e35)
    with pytest.raises(DivergedError):
        list(run)


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("leave", [list, left_by_break, left_by_exception, left_alone, diverged])
def test_threads_are_there_while_the_loop_is(leave: object, overfitted: Dataset) -> None:
    assert gone()
    run = run_of(overfitted, threads=3)
    assert workers() == 0  # nothing has been done yet
    run.compile()
    assert workers() == 0
    leave(run)  # type: ignore[operator]
    assert gone()
    run.evaluate()
    run.model()
    assert gone()
    left_by_break(run_of(overfitted, threads=3))
    assert gone()


@pytest.mark.usefixtures("counted")
def test_threads_go_with_the_run(overfitted: Dataset) -> None:
    assert gone()
    run = run_of(overfitted, threads=3)
    epochs: Iterator[object] = iter(run)
    next(epochs)
    assert workers() == 2
    run.close()
    assert gone()
    next(epochs)  # begins others
    assert workers() == 2
    del run, epochs
    assert gone()
    with run_of(overfitted, threads=3) as run:
        epochs = iter(run)
        next(epochs)
    assert gone()
    del epochs
    run._run_steps()  # as `fastnn bench` does, outside of any loop
    del run
    assert gone()


# to begin from weights


def test_arrays_to_begin_from_are_what_the_run_begins_with(small: Dataset) -> None:
    settings = Settings((9,), epochs=2)
    given = [np.asarray(p, np.float64) + 0.25 for p in Training(small, settings).model().parameters]
    run = Training(small, settings, initial=[given[0].tolist(), *given[1:]])
    for found, wanted in zip(run.model().parameters, given, strict=True):
        np.testing.assert_array_equal(found, wanted.astype(np.float32))
        assert found.dtype == np.float32
    own = Training(small, settings)
    same = Training(small, settings, initial=own.model().parameters)
    assert [e.loss for e in own] == [e.loss for e in same]
    assert own.model().sha256 == same.model().sha256
    assert "initial" not in own.model().metadata
    assert same.model().metadata["initial"] == same.began_from
    averaged = Training(small, replace(settings, averaging=0.9), initial=given)
    np.testing.assert_array_equal(averaged.model().parameters[0], given[0].astype(np.float32))
    trained = package.train(small, 9, epochs=2, initial=own.model().parameters)
    assert trained.sha256 != own.model().sha256


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda p: p[:2], UsageError, r"^initial: 2 arrays; expected 4, .* 17-9-3$"),
        (lambda p: [p[0].T, *p[1:]], UsageError, r"layers.0.weight has shape \(9, 17\); expected \(17, 9\)"),
        (lambda p: [p[0] * np.nan, *p[1:]], UsageError, "layers.0.weight holds values that are not finite in float32"),
        (lambda p: [*p[:3], p[3].astype("float64") + 1e300], UsageError, "layers.1.bias holds values .* in float32"),
        (lambda p: [p[0], ["a"] * 9, *p[2:]], TypeError, "layers.0.bias is of type <U1; expected numbers"),
        (lambda p: [[[1, 2], [3]], *p[1:]], UsageError, r"layers.0.weight is not an array of shape \(17, 9\)"),
        (lambda p: p[0], ArgumentTypeError, "initial of type ndarray: expected a model"),
        (lambda p: "model.safetensors", ArgumentTypeError, r"initial of type str: .* fastnn\.load"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    spoil: object, error: type[Exception], message: str, small: Dataset
) -> None:
    parameters = Training(small, Settings((9,))).model().parameters
    with pytest.raises(error, match=message) as raised:
        Training(small, Settings((9,)), initial=spoil(parameters))  # type: ignore[operator]
    assert isinstance(raised.value, UsageError)


def table_of(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of any size, as a table has them; three classes called by words."""
    random = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    x = np.stack([1_000 + 100 * y, -5 - 3.0 * (y == 1), 0.01 * (y == 2)], 1) + random.standard_normal((rows, 3)) * 0.001
    return x.astype(np.float32), np.array(["north", "south", "west"])[y]


def test_a_warm_start_on_new_rows_means_the_same() -> None:
    x, y = table_of(90, 1)
    model = package.train((x, y), (7, 5), epochs=20, activation=["tanh", "gelu"])
    others, their_labels = table_of(30, 2)
    others[:, 0] += 50  # of another mean
    again = package.train((others, their_labels), initial=model, epochs=1, learning_rate=1e-12)
    assert again.network == model.network
    assert again.metadata["training"]["hidden"] == (7, 5)
    assert again.classes == model.classes
    for mine, theirs in zip(again.scaling, model.scaling, strict=True):  # type: ignore[arg-type]
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_allclose(again.predict_proba(x), model.predict_proba(x), atol=1e-5)
    cold = package.train((others, their_labels), (7, 5), epochs=1, learning_rate=1e-12)
    assert not np.allclose(cold.scaling[0], model.scaling[0])  # type: ignore[index]
    order = Dataset("o", *(make(their_labels, others) for make in (reordered, lambda *_: None)), CLASSES, table=True)
    assert package.train(order, initial=model, epochs=1, learning_rate=1e-12).classes == model.classes
    np.testing.assert_array_equal(
        Training(order, initial=model).dataset.train.y, Training((others, their_labels)).dataset.train.y
    )


CLASSES = ("west", "north", "south")


def reordered(labels: np.ndarray, x: np.ndarray) -> package.Split:
    return package.Split(x, np.array([CLASSES.index(name) for name in labels]))


def test_pixels_stay_pixels() -> None:
    """New rows that alone would be taken for a table, since not all are whole, are multiplied as the model's were."""
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (60, 64)), np.arange(60) % 2
    model = package.train((x, y), 8, epochs=2)
    assert model.scale == 1 / 255
    means = x / 2 + 0.25
    alone = Training((means, y), Settings(8))
    assert (alone.dataset.scale, alone.scaling is None) == (1, False)
    run = Training((means, y), Settings(epochs=1, learning_rate=1e-12), initial=model)
    assert (run.dataset.scale, run.scaling) == (model.scale, None)
    assert next(iter(run)).loss == pytest.approx(model.evaluate((means, y)).loss, rel=1e-4)
    with pytest.raises(DataError, match=r"those trained on are pixels from 0 to 255\. Multiply by 255"):
        Training((x / 255, y), initial=model)
    within = package.train((x / 255, y), 8, epochs=2)
    with pytest.raises(DataError, match="divide by 255"):
        Training((x, y), initial=within)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": (8,)}, r"^initial=model has hidden=\(7,\), .*; the settings say hidden=\(8,\)"),
        ({"activation": "tanh"}, r"the settings say .*activation=\('tanh',\)"),
        ({"initialisation": "glorot"}, r"^initialisation='glorot': it is not used with initial="),
        ({"features": "raw"}, r"^features='raw': initial=model was trained with features=\"standard\""),
    ],
)
def test_settings_that_contradict_the_model_are_refused(settings: dict[str, object], message: str) -> None:
    x, y = table_of(60, 1)
    model = package.train((x, y), 7, epochs=1)
    with pytest.raises(UsageError, match=message):
        Training((x, y), Settings(**settings), initial=model)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message.removeprefix("^")):
        package.train((x, y), initial=model, **settings)


def test_what_is_said_counts_even_where_it_is_the_default() -> None:
    x, y = table_of(60, 1)
    model = package.train((x, y), 7, epochs=1)
    with pytest.raises(UsageError, match=r"the settings say hidden=\(256,\)"):
        package.train((x, y), hidden=256, initial=model)
    assert Training((x, y), Settings(epochs=3), initial=model).network == model.network
    mixed = package.train((x, y), (7, 5), epochs=1, activation=("tanh", "gelu"))
    assert package.train((x, y), [7, 5], initial=mixed, epochs=1).network == mixed.network
    for asked in ({"hidden": 256}, {"settings": Settings(8)}):
        with pytest.raises(UsageError, match=r"the settings say hidden=.*Leave these out"):
            package.train((x, y), initial=mixed, **asked)  # type: ignore[arg-type]
    linear = package.train((x, y), (), epochs=1)
    assert package.train((x, y), initial=linear, epochs=1).network == linear.network


def test_data_that_does_not_fit_the_model_is_refused(small: Dataset) -> None:
    x, y = table_of(60, 1)
    model = package.train((x, y), 7, epochs=1)
    with pytest.raises(DataError, match="small: 17 features; initial=model takes 3"):
        Training(small, initial=model)
    with pytest.raises(DataError, match="of the classes north, south; initial=model tells north, south, west apart"):
        package.train((x[y != "west"], y[y != "west"]), initial=model)
    raw = package.train((x / 2_000, y), 7, epochs=1, features="raw")
    with pytest.raises(UsageError, match=r"features='standard': initial=model was trained with features=\"raw\""):
        package.train((x / 2_000, y), initial=raw, features="standard")
    with pytest.raises(UsageError, match="would make sparse examples dense"):
        from scipy import sparse

        Training(package.Dataset("s", package.Split(sparse.csr_array(x), y == "west"), None, model.classes),
                 initial=model)  # fmt: skip


def test_a_checkpoint_knows_what_its_run_began_from(small: Dataset, tmp_path: Path) -> None:
    settings = Settings((9,), epochs=4)
    model = package.train(small, (9,), epochs=1, seed=5)
    wanted = Training(small, settings, initial=model)
    list(wanted)
    run = Training(small, settings, initial=model)
    for _ in run:
        break
    kept = Checkpoints(tmp_path, 0.0, pytest.fail)
    assert kept.save(run)
    resumed = Training(small, settings, initial=model)
    assert kept.latest(resumed)
    list(resumed)
    assert resumed.model().sha256 == wanted.model().sha256
    other = package.train(small, (9,), epochs=1, seed=6)
    with pytest.raises(UsageError, match="the weights it begins from, initial=, are others"):
        kept.latest(Training(small, settings, initial=other))
    with pytest.raises(UsageError, match="it began from given weights, initial="):
        kept.latest(Training(small, settings))
    assert kept.save(Training(small, settings))
    with pytest.raises(UsageError, match="it did not begin from given weights, initial="):
        kept.latest(Training(small, settings, initial=model))


def test_the_same_weights_with_another_scaling_are_another_beginning() -> None:
    x, y = table_of(60, 1)
    model = package.train((x, y), 7, epochs=1)
    moved = replace(model, scaling=(model.scaling[0] + 1, model.scaling[1]))  # type: ignore[index]
    assert Training((x, y), initial=model).began_from == Training((x, y), initial=model).began_from
    assert Training((x, y), initial=model).began_from != Training((x, y), initial=moved).began_from


def test_the_command_begins_from_a_model(tmp_path: Path) -> None:
    x, y = table_of(90, 1)
    np.savez(tmp_path / "first.npz", x=x, y=y)
    np.savez(tmp_path / "second.npz", x=x + np.float32([50, 0, 0]), y=y)
    np.savez(tmp_path / "other.npz", x=x, y=np.char.add(y, "ern"))
    first = fastnn(
        *("train", "--data", "first.npz", "--hidden", "7,5", "-e", "5", "-o", "a.json"),
        cwd=tmp_path,
    )
    assert first.returncode == 0, first.stderr
    warm = ("train", "--data", "second.npz", "--from", "a.json", "-e", "2", "-o", "b.json")
    kept = ("--checkpoint", "kept", "--checkpoint-every", "0")
    (tmp_path / "my.toml").write_text("hidden = [9]\nbatch_size = 8\n")
    done = fastnn(*warm, *kept, "--config", "my.toml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    a, b = load(tmp_path / "a.json"), load(tmp_path / "b.json")
    assert a.network == b.network
    np.testing.assert_array_equal(a.scaling, b.scaling)
    assert b.metadata["training"]["batch_size"] == 8
    changes = ("--config", "my.toml", "--resume", *kept)
    assert "the weights it begins from, --from, are others" in clean_error(
        fastnn(*warm, *changes, "--from", "b.json", cwd=tmp_path), 2
    )
    assert fastnn(*warm, *changes, cwd=tmp_path).returncode == 0
    for arguments, code, message in (
        (("--from", "none.json"), 3, "none.json: no such file"),
        (("--from", "a.json", "--hidden", "256"), 2, "--from model has --hidden 7,5, --activation relu; the set"),
        (("--from", "a.json", "--init", "glorot"), 2, "--init 'glorot': it is not used with --from"),
        (("--from", "a.json", "--data", "other.npz"), 3, "--from model tells north, south, west apart"),
    ):
        assert message in clean_error(fastnn("train", "--data", "second.npz", *arguments, cwd=tmp_path), code)
    assert "--from" in fastnn("train", "--help").stdout


def test_a_model_is_there_before_the_first_epoch(tmp_path: Path) -> None:
    run = package.Training(package.draw_strokes(60, seed=1), Settings(8, 2, validation=0.2))
    model = run.model()
    for name in ("m.safetensors", "m.npz", "m.json"):
        model.save(tmp_path / name)
        history = package.load(tmp_path / name).description.history
        assert (history.epochs, history.best_epoch, history.best_validation_loss) == (0, None, None)
    list(run)
    assert run.model().description.history.best_epoch in (1, 2)


def test_a_model_of_numbers_alone_is_saved_with_numbers_for_classes(tmp_path: Path) -> None:
    network = package.Network.mlp(5, (4,), 3)
    package.Model(network, network.initial_parameters(0)).save(tmp_path / "m.safetensors")
    assert package.load(tmp_path / "m.safetensors").classes == ("0", "1", "2")
