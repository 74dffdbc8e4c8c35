"""Arrays of one's own: one gate, values that mean the same in any number type, labels that come back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import make_dataset

import fastnn
from fastnn import Dataset, Model, Settings, Split, Training
from fastnn.datasets import draw, from_arrays
from fastnn.datasets.base import PIXEL, check_labels, checked_features, value_scale
from fastnn.datasets.labels import distinct, indices_of, natural, plain_labels
from fastnn.errors import DataError, UsageError
from fastnn.training.batches import changed
from fastnn.training.preparation import scaling_of

SMALL = {"hidden": (8,), "epochs": 1}


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    return draw(300, seed=3)


@pytest.fixture(scope="module")
def reader(digits: tuple[np.ndarray, np.ndarray]) -> Model:
    return fastnn.train(digits, 32, epochs=3)


# the gate


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((10, 4)), np.zeros(30, int), "10 examples but 30 labels"),
        (np.zeros((10, 4)), np.zeros((10, 2, 2)), "labels of shape"),
        (np.zeros((10, 4)), np.full(10, -1), "label -1 in row 1"),
        (np.zeros((10, 4)), np.full(10, np.nan), "label nan in row 1"),
        (np.zeros((10, 4)), np.full(10, 0.5), "label 0.5 in row 1"),
        (np.zeros((10, 4)), np.full(10, 2**40), "label 1099511627776 in row 1"),
        (np.zeros((10, 4)), np.array(["a"] * 10), "labels of type"),
        (np.zeros(10), np.zeros(10, int), "one row an example"),
        (np.full((10, 4), np.inf), np.zeros(10, int), "row 1 holds"),
        (np.full((10, 4), "x"), np.zeros(10, int), "expected numbers"),
        (np.zeros((0, 4)), np.zeros(0, int), "no examples"),
        (np.zeros((2, 4)), np.full((2, 1), np.nan), "target in row 1"),
    ],
)
def test_a_split_made_by_hand_passes_the_gate(x: np.ndarray, y: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Split(x, y)


def test_a_split_holds_what_kernels_take() -> None:
    split = Split(np.ones((3, 2, 2), np.int64, order="F"), [0, 1, 2], [1, 2, 3])
    assert (split.x.shape, split.x.dtype, split.y.dtype) == ((3, 4), np.uint8, np.int32)
    assert split.x.flags.c_contiguous
    assert split.sample_weight is not None
    assert split.sample_weight.dtype == np.float64
    for sample_weight in ([1, 2], [1, 2, -1], [0, 0, 0], [1, 2, np.nan], ["a", "b", "c"]):
        with pytest.raises(DataError):
            Split(np.ones((3, 4)), [0, 1, 2], sample_weight)
    with pytest.raises(DataError, match="scale"):
        Split(np.ones((3, 4)), [0, 1, 2], scale=0)


def test_the_parts_of_a_data_set_belong_together() -> None:
    train, other = Split(np.ones((3, 4)), [0, 1, 2]), Split(np.ones((3, 5)), [0, 1, 2])
    classes = ("a", "b", "c")
    with pytest.raises(DataError, match="test set: 5 features; the training examples have 4"):
        Dataset("d", train, other, classes)
    with pytest.raises(DataError, match="label 2 in row 3; expected whole numbers 0 to 1"):
        Dataset("d", train, None, classes[:2])
    with pytest.raises(DataError, match="label 3 in row 2"):
        Dataset("d", train, Split(np.ones((2, 4)), [0, 3]), classes)
    with pytest.raises(DataError, match="validation set: labels of shape"):
        Dataset("d", train, None, classes, validation=Split(np.ones((3, 4)), np.ones((3, 3))))
    with pytest.raises(DataError, match="expected a Split"):
        Dataset("d", (np.ones((3, 4)), [0, 1, 2]), None, classes)  # type: ignore[arg-type]


@pytest.mark.parametrize("label", [-1, 3, 2**30])
def test_labels_changed_behind_the_gate_reach_no_kernel(label: int) -> None:
    """A label out of range would make a kernel read and write elsewhere."""
    data = make_dataset(40, 6, 3)
    data.train.y[7] = label
    with pytest.raises(DataError, match="in row 8"):
        Training(data, Settings(**SMALL))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="in row 8" if label < 0 else "knows 3 classes"):
        fastnn.train(make_dataset(40, 6, 3), **SMALL).evaluate(data.train)  # type: ignore[arg-type]
    run = Training(make_dataset(40, 6, 3), Settings(**SMALL))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="in row 8"):
        run.evaluate(data.train)
    run.close()


# the same numbers mean the same in any type


@pytest.mark.parametrize("dtype", ["int8", "int16", "int64", "uint32", "float32", "float64", "bool", ">i4", ">f8"])
def test_no_value_is_changed_by_the_gate(dtype: str) -> None:
    x = (np.arange(60).reshape(10, 6) % (2 if dtype == "bool" else 100)).astype(dtype)
    found = checked_features(x, "x")
    assert found.dtype in (np.uint8, np.float32, np.float64)
    assert found.dtype.isnative
    assert (found == x).all()
    large = checked_features(np.array([[2**40 + 1, -5]]), "x")
    assert large.tolist() == [[2**40 + 1, -5]]


TYPES = ["int16", "int64", "float32", "float64"]


@pytest.mark.parametrize("dtype", TYPES)
def test_the_same_pixels_of_another_type_train_the_same_model(
    dtype: str, digits: tuple[np.ndarray, np.ndarray], reader: Model
) -> None:
    x, y = digits
    model = fastnn.train((x.astype(dtype), y), 32, epochs=3)
    assert model.scale == PIXEL
    assert model.image_shape == (28, 28)
    assert model.sha256 == reader.sha256


@pytest.mark.parametrize("engine", ["numpy", "kernels"])
@pytest.mark.parametrize("features", ["raw", "standard"])
def test_the_same_pixels_of_another_type_get_the_same_answers(
    engine: str, features: str, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = digits
    model = fastnn.train(digits, 32, epochs=12, features=features)
    wanted = model.predict_proba(x, engine)
    assert (wanted.argmax(axis=1) == y).mean() > 0.8
    for dtype in TYPES:
        np.testing.assert_allclose(model.predict_proba(x.astype(dtype), engine), wanted, atol=1e-6)
    with pytest.raises(DataError, match="Multiply by 255"):
        model.predict_proba(x / 255, engine)
    shown = [model.predict_proba(x[n : n + 1], engine) for n in (0, 1)]
    np.testing.assert_allclose(np.concatenate(shown), wanted[:2], atol=1e-12)


def test_a_model_of_pixels_from_0_to_1_reads_pictures_and_data_of_bytes(
    digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    x, y = digits
    model = fastnn.train(((x / 255).astype(np.float32), y), 32, epochs=12)
    assert model.scale == 1
    with pytest.raises(DataError, match="divide by 255"):
        model.predict(x)
    right = model.evaluate(((x / 255).astype(np.float32), y)).accuracy
    assert right is not None
    assert right > 0.8
    by_units = model.evaluate(Split(x, y, scale=PIXEL))
    assert by_units.accuracy == pytest.approx(right, abs=0.01)
    assert model.predict_proba(Split(x, y, scale=PIXEL)).argmax(axis=1) == pytest.approx(
        model.predict((x / 255).astype(np.float32))
    )
    from PIL import Image

    from fastnn.images import read

    Image.fromarray(255 - x[0].reshape(28, 28)).save(tmp_path / "d.png")
    seen = model.recipe(read(tmp_path / "d.png")).pixels.reshape(1, 784)
    answer = model.predict_images(tmp_path / "d.png")[0]
    np.testing.assert_allclose([*answer.probabilities.values()], model.predict_proba(seen / 255)[0])
    model.save(tmp_path / "m.safetensors")
    assert fastnn.load(tmp_path / "m.safetensors").evaluate(Split(x, y, scale=PIXEL)).accuracy == by_units.accuracy


def test_what_pixels_are_is_said_by_values() -> None:
    assert value_scale(np.array([[0, 255]], np.uint8)) == PIXEL
    assert value_scale(np.array([[0.0, 255.0]])) == PIXEL
    for other in ([[0, 1]], [[0, 256]], [[-1, 9]], [[0.5, 200]]):
        assert value_scale(np.array(other)) == 1
    bright = np.tile(np.arange(256), (3, 1))
    assert from_arrays(bright, [0, 1, 2]).image_shape == (16, 16)
    assert not from_arrays(bright, [0, 1, 2]).table
    assert from_arrays(bright[:, :255], [0, 1, 2]).table
    assert from_arrays(bright // 2, [0, 1, 2]).table  # too dark for pixels
    assert from_arrays(bright / 255, [0, 1, 2]).table is False  # one scale already
    assert from_arrays(np.zeros((3, 5, 6)), [0, 1, 2]).image_shape == (5, 6)
    colours = np.tile(bright[:, :192], 1) + np.where(np.arange(192) > 100, 63, 0)
    assert not from_arrays(colours, [0, 1, 2]).table


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_arrays_that_are_no_pixels_are_brought_to_one_scale(dtype: str) -> None:
    """As wine and breast cancer have them: columns of 0.1 and of 1,000."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 400)
    wide = np.array([1, 1_000, 10, 300])
    x = ((y[:, None] + 0.3 * random.standard_normal((400, 4)) + 5) * wide).astype(dtype)
    model = fastnn.train((x, y), 16, epochs=10)
    assert model.scaling is not None
    found = model.evaluate((x, y)).accuracy
    assert found is not None
    assert found > 0.9


def test_sparse_arrays_of_any_scale_are_used_as_they_are_and_that_is_said() -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    x = sparse.csr_array(np.diag(np.arange(1.0, 21) * 40))
    with pytest.warns(UserWarning, match="sparse features from 0 to 800 are used as they are"):
        assert not from_arrays(x, np.arange(20) % 2).table


# labels


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([1, 2, 3], ("1", "2", "3")),
        ([10, 2, 7], ("2", "7", "10")),
        ([-1, 1, 5], ("-1", "1", "5")),
        ([1.0, 2.0, 3.0], ("1", "2", "3")),
        (["cat", "dog", "a ha"], ("a ha", "cat", "dog")),
        ([True, False, True], ("False", "True")),
        (np.array(["x", "y", "z"], object), ("x", "y", "z")),
    ],
)
def test_labels_come_back_as_they_were_given(labels: list[object], classes: tuple[str, ...], tmp_path: Path) -> None:
    base = make_dataset(90, 6, 3)
    y = np.array(labels)[base.train.y]
    model = fastnn.train((base.train.x, y), 16, epochs=12)
    assert model.classes == classes
    answers = model.predict(base.train.x)
    assert (answers == y).mean() > 0.9
    assert answers.dtype.kind == ("i" if y.dtype.kind == "f" else "U" if y.dtype.kind == "O" else y.dtype.kind)
    found = model.evaluate((base.train.x, y))
    assert found.accuracy == (answers == y).mean()
    model.save(tmp_path / "m.safetensors")
    again = fastnn.load(tmp_path / "m.safetensors")
    assert (again.predict(base.train.x) == answers).all()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, np.nan], "label nan in row 3"),
        ([0, 1, 2.5], "label 2.5 in row 3"),
        (["a", "b", None], "label None in row 3"),
        (["a", 1, "b"], "label 1 in row 2; expected all texts"),
        ([0, 0, 0], "one class only"),
        ([[0], [1], [2]], "one label an example"),
        ([1j, 2j, 3j], "labels of type complex128"),
        ([0, 1], "3 examples but 2 labels"),
    ],
)
def test_labels_that_cannot_be_are_refused(y: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fastnn.train((np.eye(3), np.array(y, object) if "a" in y else y), **SMALL)


def test_labels_are_counted_as_they_are_sorted() -> None:
    random = np.random.default_rng(0)
    for labels in (random.integers(-5, 9, 100), random.integers(0, 2**40, 100), random.integers(0, 9, 50).astype(str)):
        names, places = distinct(labels)
        assert names.tolist() == sorted(set(labels.tolist()))
        assert (names[places] == labels).all()
    with pytest.raises(DataError, match=r"label 7 in row 2; expected one of 0, 1"):
        indices_of([0, 7], ("a", "b"), "index", "test")
    assert indices_of(["b", "a"], ("a", "b"), "index", "test").tolist() == [1, 0]
    assert plain_labels(np.array([True, False]), "y").dtype == bool
    assert sorted(["10", "9"], key=natural) == ["9", "10"]


# what people try first


def test_examples_to_watch_the_training_on_may_be_arrays() -> None:
    base = make_dataset(90, 6, 3)
    assert base.test
    names = np.array(["a", "b", "c"])
    held = base.test.x, names[base.test.y]
    model = fastnn.train((base.train.x, names[base.train.y]), 16, epochs=3, validation=held)
    assert len(model.history["validation_loss"]) == 3
    assert fastnn.train(base, 16, epochs=3, validation=(base.test.x, base.test.y)).history["validation_loss"]
    assert fastnn.train(base, 16, epochs=3, validation=base.test).history["validation_loss"]
    assert fastnn.train((base.train.x, base.train.y), 16, epochs=3, validation=base.test).history["validation_loss"]
    assert fastnn.train(base, 16, epochs=3, validation=0.2).history["validation_loss"]
    numbers = fastnn.train(
        (base.train.x, base.train.x[:, :2]), 16, epochs=2, loss="squared", validation=(base.test.x, base.test.x[:, :2])
    )
    assert len(numbers.history["validation_loss"]) == 2
    assert numbers.evaluate((base.test.x, base.test.x[:, :2])).loss == pytest.approx(
        numbers.history["validation_loss"][-1], rel=1e-4
    )
    with pytest.raises(DataError, match="label d in row 1"):
        fastnn.train((base.train.x, names[base.train.y]), 16, validation=(base.test.x, np.array(["d"] * 50)))


def test_a_line_for_each_epoch_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    model = fastnn.train(make_dataset(90, 6, 3), 8, epochs=2, validation=0.2, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["epoch", "1"], ["epoch", "2"]]
    assert "validation" in lines[0]
    assert model.history["epoch"] == [1, 2]
    fastnn.train(make_dataset(90, 6, 3), 8, epochs=1)
    assert capsys.readouterr().out == ""


def test_given_widths_win_over_those_of_the_settings() -> None:
    data, settings = make_dataset(40, 6, 3), Settings(epochs=1)
    assert fastnn.train(data, 8, settings=settings).network.sizes == (6, 8, 3)
    assert fastnn.train(data, settings=Settings((9,), 1)).network.sizes == (6, 9, 3)
    assert fastnn.train(data, np.int64(8), epochs=np.int64(1)).network.sizes == (6, 8, 3)
    assert Settings(hidden=64).hidden == (64,)
    assert Settings(hidden=np.array([8, 4]), activation="tanh").hidden == (8, 4)
    assert type(Settings(epochs=np.int64(2)).epochs) is int


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, y: fastnn.train((x,)), DataError, r"expected \(x, y\)"),
        (lambda x, y: fastnn.train((x, None)), DataError, r"expected \(x, y\)"),
        (lambda x, y: fastnn.train(x), DataError, "data of type ndarray"),
        (lambda x, y: fastnn.train(x, y), DataError, r"as one pair: train\(\(x, y\)\)"),
        (lambda x, y: fastnn.train(([[1, 2], [3]], [0, 1])), DataError, "rows of different lengths"),
        (lambda x, y: fastnn.load().predict([[1, 2], [3]]), DataError, "rows of different lengths"),
        (lambda x, y: fastnn.train((x, y), settings={"epochs": 1}), UsageError, "settings of type dict"),
        (lambda x, y: Training((x, y), 3), UsageError, "settings of type int"),
        (lambda x, y: Training((x, y), dtype="float16"), UsageError, "dtype='float16'"),
        (lambda x, y: fastnn.train((x, y), lr=0.1), UsageError, "Did you mean learning_rate"),
        (lambda x, y: fastnn.train((x, y), batch=3), UsageError, "Did you mean batch_size"),
        (lambda x, y: fastnn.train((x, y), threads=-1), UsageError, "threads=-1: expected"),
        (lambda x, y: fastnn.train((x, y), epochs=2.5), TypeError, "epochs=2.5: expected"),
        (lambda x, y: fastnn.train((x, y), epochs=np.array([2, 3])), TypeError, "epochs=array"),
        (lambda x, y: fastnn.train((x, y), hidden="64"), TypeError, "hidden='64': expected"),
        (lambda x, y: fastnn.load().predict(np.zeros((1, 784)), threads=-1), UsageError, "threads=-1: expected"),
        (lambda x, y: fastnn.load().evaluate((x,)), DataError, r"expected \(x, y\)"),
        (lambda x, y: fastnn.load().evaluate((x, y)), DataError, "6 features; this model takes 784"),
    ],
)
def test_what_cannot_be_is_said_in_our_words(call: object, error: type[Exception], message: str) -> None:
    data = make_dataset(40, 6, 3).train
    with pytest.raises(error, match=message) as raised:
        call(data.x, data.y)  # type: ignore[operator]
    assert "\n" not in str(raised.value)


def test_lists_and_runs_of_arrays_work() -> None:
    base = make_dataset(40, 6, 3)
    one = fastnn.train([base.train.x.tolist(), base.train.y.tolist()], **SMALL)
    run = Training((base.train.x, base.train.y), Settings(**SMALL))  # type: ignore[arg-type]
    assert len(list(run)) == 1
    assert run.model().metadata["label_type"] == "int"
    run.close()
    assert one.network.sizes == (6, 8, 3)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"momentum": 0.5}, "momentum"),
        ({"beta2": 0.9, "optimizer": "momentum"}, "beta2"),
        ({"epsilon": 1e-3}, "epsilon"),
        ({"gamma": 0.3}, "gamma"),
        ({"step_epochs": 3, "schedule": "exponential"}, "step_epochs"),
        ({"learning_rate_decay": 0.5}, "learning_rate_decay"),
        ({"huber_delta": 2.0, "loss": "squared"}, "huber_delta"),
        ({"label_smoothing": 0.1, "loss": "squared"}, "label_smoothing"),
        ({"elastic_sigma": 3.0}, "elastic_sigma"),
        ({"plateau_factor": 0.5}, "plateau_factor"),
        ({"dropout": 0.5, "hidden": ()}, "dropout"),
        ({"max_norm": 2.0, "hidden": ()}, "max_norm"),
    ],
)
def test_a_setting_that_would_not_be_used_is_refused(changes: dict[str, object], name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name}=.*: it is used with .* only$"):
        Settings(**changes)  # type: ignore[arg-type]


def test_a_preset_may_be_changed_without_its_own_numbers_getting_in_the_way() -> None:
    from fastnn.training.settings import changed as with_changes

    start = Settings(optimizer="momentum", momentum=0.95, schedule="step", gamma=0.1, step_epochs=3)
    found = with_changes(start, {"optimizer": "sgd", "schedule": "constant"})
    assert (found.optimizer, found.momentum, found.gamma, found.step_epochs) == ("sgd", None, 0.5, 10)
    with pytest.raises(
        UsageError, match=r'^momentum=0.8: it is used with optimizer="momentum", "nesterov", "adam" or "adamw" only$'
    ):
        with_changes(start, {"optimizer": "sgd", "momentum": 0.8})
    for name in ("sgd", "adam", "rmsprop"):
        resolved = Settings(optimizer=name).resolved()
        assert resolved.resolved() == resolved


# what lies in a file stays there


WEIGHED = {"class_weight": "balanced", "dropout": 0.2}  # by the kernel that the check of gradients compiles too


@pytest.mark.parametrize("changes", [{}, {"input_noise": 0.3, "input_dropout": 0.2}, WEIGHED])
@pytest.mark.parametrize("features", ["raw", "standard"])
@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_mapped_arrays_train_the_same_model_and_are_not_copied(
    changes: dict[str, object], features: str, validation: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_dataset(203, 17, 3)
    np.save(tmp_path / "x.npy", base.train.x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    settings = Settings((8,), 2, 16, features=features, validation=validation, **changes)  # type: ignore[arg-type]
    hashes = set()
    for x, room in ((base.train.x, 2**24), (mapped, 2**24), (mapped, 17 * 4 * 16 * 3)):
        monkeypatch.setattr("fastnn.training.batches._RING_BYTES", room)
        dataset = Dataset("d", Split(x, base.train.y), base.test, base.classes)
        run = Training(dataset, settings)
        losses = [epoch.validation_loss for epoch in run]
        hashes.add((run.model().sha256, tuple(losses)))
        run.close()
    assert len(hashes) == 1


def test_check_labels_says_where() -> None:
    check_labels(np.array([0, 1]), 2, "x")
    with pytest.raises(DataError, match="x: label 2 in row 2; expected whole numbers 0 to 1"):
        check_labels(np.array([0, 2]), 2, "x")
    assert changed(make_dataset(5, 4, 3).train, Settings(input_noise=0.1).resolved(), None).shape == (5, 4)


def test_examples_of_another_range_are_not_watched_or_tested_on(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """They would be read as almost blank, or as blinding: early stopping would go by nonsense."""
    x, y = digits
    with pytest.raises(DataError, match=r"validation set: features from 0 to 0\.99.* Multiply by 255"):
        fastnn.train((x, y), 8, epochs=1, validation=(x / 255, y))
    with pytest.raises(DataError, match=r"validation set: pixels from 0 to 255; .* 0 to 0\.99.* divide by 255"):
        fastnn.train((x / 255, y), 8, epochs=1, validation=(x, y))
    classes = tuple("0123456789")
    with pytest.raises(DataError, match=r"test set: features from 0 to 0\.99"):
        Dataset("d", Split(x, y), Split(x / 255, y), classes)
    stated = Dataset("d", Split(x, y), Split(x / 255, y, scale=1.0), classes)
    assert stated.test
    model = fastnn.train(stated, 32, epochs=3)
    assert model.evaluate(stated).accuracy == pytest.approx(model.evaluate((x, y)).accuracy, abs=0.01)
    with pytest.raises(DataError, match="Multiply by 255"):
        model.predict(x > 127)  # truth values are numbers, too
    signed = fastnn.train((x / 127.5 - 1, y), 8, epochs=1)
    with pytest.raises(DataError, match=r"go from -1 to "):
        signed.predict(x)


def test_examples_to_watch_may_be_a_split_or_a_place_for_arrays_too(tmp_path: Path) -> None:
    base = make_dataset(90, 6, 3)
    assert base.test
    arrays = base.train.x, base.train.y
    with pytest.raises(UsageError, match=r"none\.csv"):
        fastnn.train(arrays, 8, epochs=1, validation=tmp_path / "none.csv")
    with pytest.raises(DataError, match="validation set: label 5"):
        fastnn.train(arrays, 8, epochs=1, validation=Split(base.test.x, base.test.y + 3))
    np.savez(tmp_path / "v.npz", x=base.test.x, y=base.test.y)
    model = fastnn.train(arrays, 8, epochs=1, patience=1, validation=str(tmp_path / "v.npz"))
    assert model.history["validation_loss"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_shape": (100, 100)}, "does not fit 4 features"),
        ({"image_shape": (0, 2)}, "does not fit"),
        ({"image_shape": "ab"}, "does not fit"),
        ({"test": (1, 2)}, "test set of type tuple; expected a Split"),
        ({"classes": None}, "expected a tuple of their names"),
        ({"classes": ("a", "a", "b")}, "two have the same name"),
        ({"label_type": "foo"}, "expected one of index, int, bool, str"),
    ],
)
def test_a_data_set_made_by_hand_is_sound_or_refused(changes: dict[str, object], message: str) -> None:
    given = {
        "name": "d",
        "train": Split(np.ones((3, 4)), [0, 1, 2]),
        "test": None,
        "classes": ("a", "b", "c"),
        **changes,
    }
    with pytest.raises(DataError, match=message):
        Dataset(**given)  # type: ignore[arg-type]


def test_arrays_changed_behind_the_gate_end_no_process() -> None:
    sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")
    base = make_dataset(40, 6, 3)
    x = sparse.csr_array(base.train.x)
    dataset = Dataset("d", Split(x, base.train.y), None, base.classes)
    dataset.train.x.indices[:] = 10**8
    with pytest.raises(DataError, match="not a sound sparse array"):
        Training(dataset, Settings(**SMALL))  # type: ignore[arg-type]
    run = Training(base, Settings(**SMALL))  # type: ignore[arg-type]
    base.train.y[:] = 77
    assert np.isfinite(next(iter(run)).loss)
    run.close()


def test_texts_of_numbers_come_back_as_texts() -> None:
    base = make_dataset(90, 6, 3)
    names = np.array(["1", "2", "10"])[base.train.y]
    assert set(fastnn.train((base.train.x, names), 8, epochs=1).predict(base.train.x)) <= {"1", "2", "10"}


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 255, "uint8"),
        (-1, 255, "float32"),
        (0, 256, "float32"),
        (-(2**24), 2**24, "float32"),
        (-(2**24) - 1, 0, "float64"),
        (0, 2**24 + 1, "float64"),
    ],
)
def test_whole_numbers_become_the_narrowest_type_that_holds_them(low: int, high: int, dtype: str) -> None:
    x = np.array([[low, high], [high, low]], np.int64)
    assert checked_features(x, "x").dtype == dtype


def test_a_feature_that_hardly_changes_stays_as_it_is() -> None:
    """Beside its mean, or beside 1 where that is more: what is left of rounding is no deviation."""
    step = np.spacing(1e8)  # 1.5e-8
    x = np.array([[1e8, 1e8, 0.5, 0.5, 3.0, -1e8], [1e8 + step, 1e8 + 2, 0.5 + 1e-12, 0.5 + 1e-11, 3.0, step - 1e8]])
    split = Split(np.tile(x, (5, 1)), [0, 1] * 5)
    for table, features, wanted in ((True, "auto", True), (False, "auto", False), (True, "raw", False)):
        data = Dataset("t", split, None, ("a", "b"), table=table)
        assert (scaling_of(data, split, Settings(features=features)) is not None) is wanted
    found = scaling_of(Dataset("t", split, None, ("a", "b")), split, Settings(features="standard"))
    assert found is not None
    np.testing.assert_allclose(found[0], x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found[1], [1, 1, 1, 5e-12, 1, 1], rtol=1e-3)
