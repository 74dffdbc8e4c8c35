"""Settings: one list for options, TOML and Python; presets and files; what can't be is refused, naming what can."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, clean_error, fastnn, make_dataset
from settings_table import table

import fastnn as package
from fastnn.datasets import Dataset, from_arrays
from fastnn.datasets.base import stratified
from fastnn.errors import DataError, UsageError
from fastnn.model.store import tensors_sha256
from fastnn.training import configuration
from fastnn.training.early_stopping import EarlyStopping
from fastnn.training.run import Training
from fastnn.training.settings import Settings, from_mapping


def test_their_page_lists_every_setting_as_it_is() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    start, end = "<!-- settings: made by python tests/settings_table.py -->\n", "\n<!-- settings: end -->"
    assert page.partition(start)[2].partition(end)[0] == table()


def test_a_default_that_the_help_names_is_the_one_taken() -> None:
    for name, wanted in (("sgd", 0.15), ("momentum", 0.02), ("nesterov", 0.02), ("adam", 0.001), ("rmsprop", 0.001)):
        assert Settings(optimizer=name).resolved().learning_rate == wanted
    assert "0.15 for sgd, 0.02 with momentum, 0.001 for the others" in next(
        item.metadata["help"] for item in fields(Settings) if item.name == "learning_rate"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hiden = [3]", "unknown key 'hiden'. Did you mean hidden?"),
        ("dropuot = 0.1", "Did you mean dropout?"),
        ("zzzzz = 1", "unknown key 'zzzzz'; there are hidden, epochs"),
        ("epochs = 0", "epochs = 0: expected a whole number from 1"),
        ("epochs = 2.5", "epochs = 2.5: expected"),
        ("epochs = true", "epochs = true: expected"),
        ('optimizer = "adamm"', "Did you mean adam?"),
        ("optimizer = 3", "optimizer = 3: expected one of sgd"),
        ("dropout = 1.5", "dropout = 1.5: expected a number from 0 to 0.95"),
        ("dropout = nan", "dropout = nan: expected"),
        ("learning_rate = inf", "learning_rate = inf: expected"),
        ('hidden = ["a"]', "hidden = 'a': expected"),
        ('activation = ["relu", "tanh"]', "2 for 1 hidden layers"),
        ("restore_best = 1", "restore_best = 1: expected true or false"),
        ("[augmentation]\nshift = 1", "unknown key 'augmentation'"),
        ("epochs = ", "not TOML"),
        ("data = 3", "data 3: expected text"),
        ("a" * 70_000, "more than 65,536 bytes"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_files_that_cannot_be_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError) as raised:
        configuration.read(tmp_path / "my.toml")
    assert message in str(raised.value)
    assert "my.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_files_and_presets_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none.toml: No such file"):
        configuration.read(tmp_path / "none.toml")
    with pytest.raises(UsageError, match=r"^preset='better': expected one of .*good"):
        configuration.preset("better")


def test_every_preset_is_sound_and_says_what_it_is_for() -> None:
    found = configuration.presets()
    assert {"quick", "good", "best", "fashion"} <= set(found)
    for name, preset in found.items():
        assert preset.about, name
    assert found["quick"].settings == Settings()
    assert not found["good"].settings.augments
    assert found["best"].settings.augments
    assert found["fashion"].data == "fashion-mnist"


def test_options_win_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text('hidden = [9]\noptimizer = "adam"\nlearning_rate = 0.004\ndata = "strokes"\n')
    np.save(tmp_path / "x_train.npy", np.eye(50, 40, dtype=np.uint8))  # as sparse as pictures: kernels of other tests
    np.save(tmp_path / "y_train.npy", np.arange(50) % 3)
    done = fastnn(
        *("train", "--preset", "quick", "--config", "my.toml", "--data", ".", "--lr", "0.01", "--activation", "tanh"),
        *("-e", "2", "--json", "-o", "m.json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    trained = json.loads((tmp_path / "m.json").read_text())["training"]
    assert (trained["hidden"], trained["optimizer"], trained["learning_rate"]) == ([9], "adam", 0.01)
    assert (trained["activation"], trained["epochs"], trained["batch_size"]) == (["tanh"], 2, 16)
    assert set(trained) == {item.name for item in fields(Settings)} - {"threads"}
    again = from_mapping(trained, "model")  # what a model says of its training is a configuration
    assert replace(again, threads=None).resolved() == again


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--preset", "better"], 2, "--preset 'better': expected one of"),
        (["--config", "none.toml"], 2, "none.toml"),
        (["--resume"], 2, "--resume needs --checkpoint"),
        (["--checkpoint-every", "-1", "--checkpoint", "c"], 2, "--checkpoint-every"),
        (["--patience", "3"], 2, "--patience 3 needs validation examples: take --validation 0.1,"),
        (["--plateau", "3"], 2, "--plateau 3 needs validation examples"),
        (["--min-delta", "0.1"], 2, "--min-delta 0.1 needs validation examples"),
        (["--validation", "1.5"], 2, "--validation 1.5"),
        (["--validation", "nothing"], 2, "nothing"),
        (["--data", "strokes", "--loss", "squared"], 3, "--loss squared needs targets"),
        (["--dropout", "0.99"], 2, "--dropout 0.99: expected a number from 0 to 0.95"),
        (["--hidden", "8,x"], 2, "--hidden '8,x'"),
        (["--activation", "relu,tanh"], 2, "--activation relu,tanh names 2 for 1"),
    ],
)
def test_wrong_usage_is_one_line_before_any_training(
    arguments: list[str], code: int, message: str, digits: Path, tmp_path: Path
) -> None:
    done = fastnn("train", "--data", digits, *arguments, cwd=tmp_path)
    assert message in clean_error(done, code)
    assert "epoch" not in done.stderr.replace("epochs", "")
    assert not (tmp_path / "model.safetensors").exists()


def test_early_stopping_keeps_the_best_and_lowers_the_rate() -> None:
    watch, settings = EarlyStopping(), Settings(plateau=2, plateau_factor=0.5, min_delta=0.1)
    for epoch, loss in enumerate([1.0, 0.95, 0.8, 0.85, 0.81, 0.79, 0.75, 0.6], 1):
        watch = watch.after(loss, epoch, settings)
        if epoch == 7:
            assert (watch.best, watch.best_epoch, watch.since, watch.factor) == (0.8, 3, 4, 0.25)
    assert (watch.best, watch.best_epoch, watch.since, watch.waited, watch.factor) == (0.6, 8, 0, 0, 0.25)


def meaningless() -> Dataset:
    """Labels that mean nothing: the validation loss soon rises."""
    data = make_dataset(200, 10, 3)
    return replace(data, train=replace(data.train, y=np.random.default_rng(0).integers(0, 3, 200).astype(np.int32)))


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_a_run_stops_early_with_the_weights_of_its_best_epoch(averaging: float) -> None:
    noise = meaningless()
    settings = Settings((40,), 100, 20, 0.3, schedule="constant", validation=0.25, patience=3, averaging=averaging)
    run = Training(noise, settings)
    epochs = list(run)
    losses = [epoch.validation_loss for epoch in epochs]
    best = int(np.argmin(losses))
    assert len(epochs) == best + 1 + 3 < 100
    assert run.evaluate(run.validation).accuracy == epochs[best].validation_accuracy
    latest = run.plain_buffers()["average" if averaging else "parameters"]
    assert run.model().sha256 != tensors_sha256(latest)
    assert run.model().metadata["history"]["best_epoch"] == best + 1
    run.close()
    shorter = Training(noise, replace(settings, epochs=best + 1))
    list(shorter)
    assert shorter.model().sha256 == run.model().sha256
    shorter.close()
    again = package.train(noise, (40,), settings=settings)
    assert again.sha256 == run.model().sha256


def test_a_lower_rate_on_a_plateau_is_in_the_record() -> None:
    run = Training(meaningless(), Settings((40,), 12, 20, 0.3, schedule="constant", validation=0.25, plateau=2))
    rates = [epoch.learning_rate for epoch in run]
    assert rates[0] == 0.3
    assert rates[-1] <= 0.3 * 0.3
    run.close()


def test_a_split_keeps_the_shares_of_classes_and_loses_nothing() -> None:
    data = make_dataset(301, 4, 3).train
    data = replace(data, x=np.arange(301.0).reshape(-1, 1), sample_weight=np.arange(301.0))
    for share in (0.1, 0.5, 0.333):
        train, validation = stratified(data, share, 7)
        assert sorted([*train.x[:, 0], *validation.x[:, 0]]) == list(range(301))
        for label in range(3):
            count = (data.y == label).sum()
            assert abs((validation.y == label).sum() - share * count) <= 1
        for part in (train, validation):
            assert (part.x[:, 0] == part.sample_weight).all()
            assert (data.y[part.x[:, 0].astype(int)] == part.y).all()
    assert (stratified(data, 0.1, 7)[1].x == stratified(data, 0.1, 7)[1].x).all()
    assert not np.array_equal(stratified(data, 0.1, 7)[1].x, stratified(data, 0.1, 8)[1].x)
    with pytest.raises(DataError, match="too few"):
        stratified(replace(data, x=data.x[:2], y=data.y[:2], sample_weight=None), 0.01, 0)


def test_asdict_of_settings_is_json() -> None:
    json.dumps(asdict(Settings()))


def test_losses_by_targets_train_from_python() -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((400, 3)).astype(np.float32)
    y = np.stack([x @ [1, -2, 0.5], x[:, 0] ** 2], 1)
    for loss in ("squared", "absolute", "huber"):
        model = package.train((x, y), 40, loss=loss, optimizer="adam", learning_rate=0.01, epochs=60)
        error = np.abs(model.predict(x) - y).mean()
        assert error < 0.15, loss
    counts = random.poisson(np.exp(x[:, 0] / 2)).astype(float)
    model = package.train((x, counts), 20, loss="poisson", optimizer="adam", learning_rate=0.01, epochs=40)
    assert np.corrcoef(model.predict(x)[:, 0], np.exp(x[:, 0] / 2))[0, 1] > 0.9
    several = np.stack([x[:, 0] > 0, x[:, 1] > 0.5], 1)
    model = package.train((x, several), 20, loss="logistic", optimizer="adam", learning_rate=0.01, epochs=40)
    assert (model.predict(x) == several).mean() > 0.95
    assert model.predict_proba(x).shape == (400, 2)


def test_sample_weights_are_repeats_and_zero_is_absence() -> None:
    """Full batches in float64: an example of weight 2 is the same as two of it, also where features are scaled.

    With tanh, as the check of gradients compiles that kernel too.
    """
    data = make_dataset(40, 6, 3, "float64").train
    sample_weight = np.arange(40) % 3
    repeated = np.repeat(np.arange(40), sample_weight)
    runs = []
    for arrays in ((data.x, data.y, sample_weight), (data.x[repeated], data.y[repeated], None)):
        run = Training(from_arrays(*arrays), Settings((7,), 5, 1000, activation=("tanh",)), "float64")
        list(run)
        runs.append(run.model().parameters)
        run.close()
    for a, b in zip(*runs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize(
    ("sample_weight", "message"),
    [
        ([1.0], "expected"),
        (["a"] * 40, "expected"),
        ([-1.0] * 40, "row 1 is -1.0"),
        ([0.0] * 40, "all sample weights are 0"),
    ],
)
def test_sample_weights_that_cannot_be_are_refused(sample_weight: list[object], message: str) -> None:
    data = make_dataset(40, 6, 3).train
    with pytest.raises(DataError, match=message):
        package.train((data.x, data.y, sample_weight), epochs=1)


@pytest.mark.parametrize(
    ("y", "loss", "message"),
    [
        (np.arange(40.0) - 5, "poisson", "at least 0"),
        (np.arange(40.0), "logistic", "from 0 to 1"),
        (np.full(40, np.nan), "squared", "row 1 is missing or infinite"),
        (np.array(["a"] * 40), "squared", "expected numbers"),
        (np.zeros((40, 2, 2)), "squared", "expected numbers"),
    ],
)
def test_targets_that_cannot_be_are_refused(y: np.ndarray, loss: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        package.train((make_dataset(40, 6, 3).train.x, y), epochs=1, loss=loss)
