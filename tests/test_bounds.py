"""Values that are just in a range and just out of it, wherever there is one: settings, models, labels, archives."""

from __future__ import annotations

import gzip
import io
import math
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastnn import Model, Network, Settings, Split, archives, files
from fastnn.archives import ArchiveError, opened, take_into, taken_out
from fastnn.datasets import base, from_arrays, idx, labels, pictures
from fastnn.datasets.base import PIXEL, Dataset
from fastnn.datasets.labels import class_names, distinct, plain_labels, written_type
from fastnn.errors import DataError, ModelFileError, RunError, UsageError
from fastnn.formats import base as formats_base
from fastnn.formats import json_text, linear, safetensors
from fastnn.images import Prepared
from fastnn.model import store
from fastnn.ranges import Range
from fastnn.training.batches import sample_weight_of
from fastnn.training.early_stopping import EarlyStopping

# settings


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (Range(1, 3), [1, 3, 2.5, np.float32(2), np.int64(3)], [0.999, 3.001, True, "2", None, np.array([2])]),
        (Range(1, 3, above=True), [1.001, 3], [1, 3.001]),
        (Range(1, 3, whole=True), [1, 3, np.uint8(2)], [0, 4, 2.0, np.float64(2), False]),
        (Range(0), [0, 1e300], [-1e-300, math.inf, math.nan]),
        (Range(0, above=True), [1e-300], [0, math.inf, -1]),
    ],
)
def test_ranges(allowed: Range, inside: list[Any], outside: list[Any]) -> None:
    assert [value for value in inside if value not in allowed] == []
    assert [value for value in outside if value in allowed] == []


def test_ranges_are_said() -> None:
    said = (Range(1, 3_000), Range(1, 3, whole=True), Range(0, 1, above=True), Range(0), Range(0.5, above=True))
    assert list(map(str, said)) == [
        "a number from 1 to 3,000",
        "a whole number from 1 to 3",
        "a number above 0 up to 1",
        "a number of at least 0",
        "a number above 0.5",
    ]


def test_the_best_epoch_is_the_first_and_then_what_is_lower_by_more_than_the_least() -> None:
    settings = Settings(min_delta=0.25, plateau=1, plateau_factor=0.5)
    watch = EarlyStopping().after(math.inf, 1, settings)
    assert (watch.best, watch.best_epoch) == (math.inf, 1)
    watch = watch.after(4.0, 2, settings).after(3.75, 3, settings)
    assert (watch.best, watch.best_epoch, watch.since, watch.waited, watch.factor) == (4, 2, 1, 0, 0.5)
    assert watch.after(3.74, 4, settings).best_epoch == 4


# models


def model(inputs: int = 4, classes: int = 2, scaling: Any = None, **metadata: Any) -> Model:
    network = Network.mlp(inputs, (), classes)
    return Model(network, network.initial_parameters(0, "he"), metadata, scaling)


@pytest.mark.parametrize(
    ("inputs", "known", "wanted"),
    [
        (64, {}, (0, 1)),
        (784, {}, (0, 1)),
        (49, {}, (-math.inf, math.inf)),
        (65, {}, (-math.inf, math.inf)),
        (64, {"range": [-2, 3.5]}, (-2, 3.5)),
        (64, {"range": [1]}, (-math.inf, math.inf)),
        (64, {"range": [0, True]}, (-math.inf, math.inf)),
        (64, {"range": "ab"}, (-math.inf, math.inf)),
    ],
)
def test_what_a_model_was_trained_on(inputs: int, known: dict[str, Any], wanted: tuple[float, float]) -> None:
    assert model(inputs, preprocessing=known).trained_range() == wanted
    scaling = np.zeros(inputs), np.ones(inputs)
    if "range" not in known:
        assert model(inputs, scaling=scaling).trained_range() == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("inputs", "shape", "wanted"),
    [
        (4, [2, 2], (2, 2)),
        (4, [1, 2], (1, 2)),
        (4_096, [1, 4_096], (1, 4_096)),
        (4_097, [1, 4_097], None),
        (4, [0, 4], None),
        (4, [-1, -4], None),
        (4, [True, 4], None),
        (4, [3, 2], None),
        (4, [2, 2, 1], None),
        (4, (2, 2), None),
        (4, "22", None),
    ],
)
def test_shapes_of_pictures_that_a_file_may_say(inputs: int, shape: Any, wanted: tuple[int, int] | None) -> None:
    assert model(inputs, preprocessing={"image_shape": shape}).image_shape == wanted


def test_an_answer_is_sure_from_its_threshold_on() -> None:
    found = model(784, calibration={"unsure_below": 0.75})
    ink = Prepared(np.ones((28, 28), np.uint8), "odd", (0, 0, 1, 1))
    none = Prepared(np.zeros((28, 28), np.uint8))
    said = found.predictions_of([ink, ink, none], np.array([[0.75, 0.25], [0.26, 0.74], [0.9, 0.1]]), "p.png")
    assert [one.verdict for one in said] == ["sure", "unsure", "nothing"]
    assert [one.label for one in said] == ["0", "1", "0"]
    assert [one.confidence for one in said] == [0.75, 0.74, 0.9]
    assert (said[0].warning, said[0].box, said[0].image) == ("odd", (0, 0, 1, 1), "p.png")
    assert said[0].probabilities == {"0": 0.75, "1": 0.25}


def test_labels_and_targets_that_a_model_does_not_know() -> None:
    found = model(4, 2)
    x = np.zeros((3, 4))
    assert found.evaluate((x, [0, 1, 1]), engine="numpy").examples == 3
    with pytest.raises(DataError):
        found.evaluate(Split(x, [0, 1, 2]), engine="numpy")
    with pytest.raises(DataError):
        found.evaluate(Split(x, np.zeros((3, 2))), engine="numpy")
    numbers = model(4, 2, training={"loss": "squared"})
    assert numbers.evaluate(Split(x, np.zeros((3, 2))), engine="numpy").accuracy is None
    for wrong in (np.zeros((3, 1)), np.zeros((3, 3)), [0, 1, 1]):
        with pytest.raises(DataError):
            numbers.evaluate(Split(x, wrong), engine="numpy")
    with pytest.raises(DataError):
        found.evaluate(Split(np.zeros((3, 5)), [0, 1, 1]), engine="numpy")


def test_half_is_no_yes() -> None:
    network = Network.mlp(1, (), 1)
    parameters = [np.array([[1.0]]), np.array([0.0])]
    found = Model(network, parameters, {"training": {"loss": "logistic"}})
    assert found.predict([[0.0], [1e-9], [-1e-9]], engine="numpy").tolist() == [[False], [True], [False]]


def test_a_few_rows_are_answered_without_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    found = model(2)
    monkeypatch.setattr("fastnn.model.inference.Forward", None)
    monkeypatch.setattr("fastnn.model.inference.FEW_ROWS", 5)
    assert len(found.predict(np.zeros((5, 2)))) == 5
    with pytest.raises(TypeError):
        found.predict(np.zeros((6, 2)))


# model files


def described(**changes: Any) -> store.Stored:
    """A small model whose file says this of it besides, as it is read."""
    small = model(3, 2)
    raw = store.raw_of(store.Stored(small.network, small.parameters, {"classes": ["a", "b"]}))
    assert raw.description is not None
    return store.validated(replace(raw, description={**raw.description, **changes}), (), "m")


@pytest.mark.parametrize(
    ("group", "key", "low", "high"),
    [
        ("calibration", "temperature", 1e-3, 1e3),
        ("calibration", "unsure_below", 0.0, 1.0),
        ("training", "huber_delta", 1e-300, 1e300),
        ("preprocessing", "scale", 1e-9, 1e9),
    ],
)
def test_numbers_that_a_model_file_may_say(group: str, key: str, low: float, high: float) -> None:
    for value in (low, high, (low + high) / 2):
        assert described(**{group: {key: value}}).metadata[group][key] == value
    for value in (np.nextafter(low, -np.inf).item(), np.nextafter(high, np.inf).item(), True, "1", math.nan):
        with pytest.raises(ModelFileError, match=key):
            described(**{group: {key: value}})


def test_names_of_classes_in_a_model_file() -> None:
    assert described(classes=["a" * 200, "b"]).metadata["classes"][0] == "a" * 200
    for classes in (["a" * 201, "b"], ["a", "a"], ["a"], ["a", "b", "c"], ["a", 1], "ab", None):
        with pytest.raises(ModelFileError, match="class"):
            described(classes=classes)
    for changes in ({"format_version": 2}, {"format_version": "1"}, {"layers": [3, 3]}, {"history": []}):
        with pytest.raises(ModelFileError):
            described(**changes)
    with pytest.raises(ModelFileError, match="characters of metadata"):
        described(about="x" * 2**16)


def test_a_weight_is_large_beyond_a_million() -> None:
    for largest, is_large in ((1e6, False), (-1e6, False), (1.1e6, True), (-1.1e6, True)):
        stored = store.Stored(Network.mlp(1, (), 1), [np.array([[largest]]), np.zeros(1)])
        assert (store.largest_weight_warning(stored) is not None) is is_large


def test_tensors_are_hashed_layer_by_layer_with_the_scaling_last() -> None:
    names = ["features.mean", "layers.10.weight", "layers.2.bias", "features.deviation", "layers.2.weight"]
    assert sorted(names, key=store._place) == [
        "layers.2.weight",
        "layers.2.bias",
        "layers.10.weight",
        "features.deviation",
        "features.mean",
    ]


@pytest.mark.parametrize(
    ("mean", "deviation"),
    [([0, 0], [1, 1, 1]), ([0, 0, 0], [1, 1]), ([0, 0, 0], [1, 0, 1]), ([0, 0, 0], [1, -1, 1]), ([0] * 4, [1] * 4)],
)
def test_a_scaling_that_does_not_fit(mean: list[float], deviation: list[float]) -> None:
    small, good = model(3, 2), (np.zeros(3), np.full(3, 1e-300))
    raw = store.raw_of(store.Stored(small.network, small.parameters, {"classes": ["a", "b"]}, good))
    assert (store.validated(raw, (), "m").scaling or ())[1].tolist() == [1e-300] * 3
    raw.tensors.update({"features.mean": np.array(mean, float), "features.deviation": np.array(deviation, float)})
    with pytest.raises(ModelFileError, match="scaling"):
        store.validated(replace(raw, sha256=None), (), "m")


def test_whether_layers_could_run_in_another_order() -> None:
    """Of the widths that they are between: a round trip, a width three times, or two in turns."""

    def another(*widths: int) -> bool:
        shapes = list(zip(widths[1:], widths[:-1], strict=True))
        return linear._another_fits(shapes)

    assert not another(4, 3)
    assert not another(3, 3)
    assert not another(4, 3, 2)
    assert another(4, 3, 4)
    assert not another(5, 3, 4, 3, 2)
    assert not another(5, 3, 4, 4, 3, 2)
    assert another(5, 3, 4, 3, 4, 2)
    assert another(5, 3, 2, 3, 4, 3, 1)
    assert another(3, 3, 3)


def refused(check: Callable[..., object], *arguments: Any) -> bool:
    """Whether a check of a model file refuses something."""
    try:
        check(*arguments)
    except ModelFileError:
        return True
    return False


def test_how_many_tensors_of_what_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    def names(layers: int) -> list[str]:
        return [f"layers.{i}.{kind}" for i in range(layers) for kind in ("weight", "bias")]

    check = formats_base.check_names
    assert not refused(check, names(1), "m")
    assert not refused(check, names(128), "m")
    assert not refused(check, [*names(128), "features.mean", "features.deviation"], "m")
    for wrong in (names(0), names(129), names(1)[:1], [*names(1), "features.mean"], [*names(1), names(1)[0]]):
        assert refused(check, wrong, "m")
    check = formats_base.check_shapes
    for weight, bias, fits in (
        ((1, 2**20), (2**20,), True),
        ((1, 2**20 + 1), (1,), False),
        ((1, 1), (0,), False),
        ((0, 1), (1,), False),
        ((1,), (1,), False),
        ((1, 1, 1), (1,), False),
        ((1, 1), (1, 1), False),
        ((1, True), (1,), False),
        ((1, 1.0), (1,), False),
    ):
        assert refused(check, {"layers.0.weight": weight, "layers.0.bias": bias}, "m") is not fits
    monkeypatch.setattr(formats_base, "MAX_PARAMETERS", 12)
    assert not refused(check, {"layers.0.weight": (3, 3), "layers.0.bias": (3,)}, "m")
    assert refused(check, {"layers.0.weight": (3, 3), "layers.0.bias": (4,)}, "m")
    assert not refused(formats_base.check_metadata_size, 2**16, "m")
    assert refused(formats_base.check_metadata_size, 2**16 + 1, "m")


def test_tensors_lie_in_a_file_without_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(begin: Any, end: Any, shape: Any = (2, 2), dtype: Any = "F32", **more: Any) -> dict[str, Any]:
        return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end], **more}

    check, bias = safetensors._check_entries, {"layers.0.bias": entry(16, 24, (2,))}
    assert not refused(check, {"layers.0.weight": entry(0, 16), **bias}, 24, "m")
    assert not refused(check, {**bias, "layers.0.weight": entry(0, 16)}, 24, "m")
    assert not refused(check, {"layers.0.weight": entry(0, 32, dtype="F64")}, 32, "m")
    for wrong, size in (
        ({"layers.0.weight": entry(0, 16), **bias}, 23),
        ({"layers.0.weight": entry(0, 16), **bias}, 25),
        ({"layers.0.weight": entry(0, 12, (3, 1)), **bias}, 24),
        ({"layers.0.weight": entry(0, 20, (5, 1)), **bias}, 24),
        ({"layers.0.weight": entry(1, 16), **bias}, 24),
        ({"layers.0.weight": entry(0, 16.0), **bias}, 24),
        ({"layers.0.weight": entry(0, 16, dtype="F16"), **bias}, 24),
        ({"layers.0.weight": entry(0, 16, dtype=["F32"]), **bias}, 24),
        ({"layers.0.weight": entry(0, 16, more=1), **bias}, 24),
        ({"layers.0.weight": entry(-16, 0), **bias}, 24),
        ({"layers.0.weight": [0, 16], **bias}, 24),
    ):
        assert refused(check, wrong, size, "m"), wrong


@pytest.mark.parametrize("more", [0, 1])
def test_headers_and_texts_of_the_most_bytes(more: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small = model(3, 2)
    stored = store.Stored(small.network, small.parameters, {"classes": ["a", "b"]})
    content = safetensors.to_bytes(store.raw_of(stored))
    length = struct.unpack("<Q", content[:8])[0]
    monkeypatch.setattr(safetensors, "MAX_HEADER", length - more)
    assert refused(safetensors.read, io.BytesIO(content), len(content), "m") is bool(more)
    assert refused(safetensors.read, io.BytesIO(content[: 8 + length - more]), 8 + length - more, "m")
    content = json_text.to_bytes(store.raw_of(stored))
    monkeypatch.setattr(json_text, "MAX_JSON", len(content) - more)
    assert refused(json_text.read, io.BytesIO(content), len(content), "m") is bool(more)
    monkeypatch.undo()
    monkeypatch.setattr(json_text, "_MOST_LISTS", content.count(b"[") + content.count(b"{") - more)
    assert refused(json_text.read, io.BytesIO(content), len(content), "m") is bool(more)
    monkeypatch.undo()
    monkeypatch.setattr(store, "MAX_FILE", len(content) - more)
    assert refused(store.read, io.BytesIO(content), len(content), "m") is bool(more)


# labels and features


def test_how_many_classes_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert class_names(np.arange(100), "y") == tuple(map(str, range(100)))
    assert len(class_names(np.arange(202) % 101, "y")) == 101
    with pytest.raises(DataError, match="101 different labels in 201 rows"):
        class_names(np.arange(201) % 101, "y")
    monkeypatch.setattr(labels, "MOST_CLASSES", 3)
    assert class_names(np.array([1, 2, 3]), "y") == ("1", "2", "3")
    with pytest.raises(DataError, match="4 different labels"):
        class_names(np.arange(4), "y")
    assert class_names(np.array([2, 2, 1]), "y") == ("1", "2")
    with pytest.raises(DataError, match="one class only"):
        class_names(np.array([2, 2]), "y")


def test_which_texts_are_whole_numbers() -> None:
    for names in (["0", "10"], ["-1"], ["9" * 18], ["-" + "9" * 18]):
        assert written_type(names) == "int", names
    for names in (["01"], ["-0"], ["9" * 19], ["1", "a"], ["1.0"], ["+1"], [""], [" 1"]):
        assert written_type(names) == "str", names


def test_labels_that_are_numbers_are_whole_and_exact() -> None:
    assert plain_labels([2.0**53 - 1, -(2.0**53) + 1], "y").tolist() == [2**53 - 1, -(2**53) + 1]
    for bad in (2.0**53, -(2.0**53), 0.5, math.inf, math.nan):
        with pytest.raises(DataError, match="in row 2"):
            plain_labels([1.0, bad], "y")


def test_labels_far_apart_are_told_apart_as_those_near(monkeypatch: pytest.MonkeyPatch) -> None:
    for span in (2**20 - 1, 2**20):
        names, places = distinct(np.array([5 + span, 5, 7, 5]))
        assert names.tolist() == [5, 7, 5 + span]
        assert places.tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize(
    ("values", "scale"),
    [([0, 1], 1), ([0, 2], PIXEL), ([0, 255], PIXEL), ([0, 256], 1), ([-1, 255], 1), ([0, 2.5], 1), ([0, 1.0], 1)],
)
def test_what_pixels_are(values: list[float], scale: float) -> None:
    for dtype in ("float32", "float64", "int16"):
        x = np.array([values], dtype)
        if (x == values).all():
            assert base.value_scale(base.checked_features(x, "x")) == scale


def test_every_piece_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_CHUNK_BYTES", 4)
    for rows, scale in (([0, 1, 2], PIXEL), ([2, 1, 0], PIXEL), ([1, 1, 0], 1)):
        assert base.value_scale(np.array(rows, np.uint8).reshape(3, 1).repeat(4, axis=1)) == scale
        assert base.value_scale(np.array(rows, np.float32).reshape(3, 1)) == scale
    for last in (2.5, -1, 256):
        assert base.value_scale(np.array([[2], [2], [last]], np.float32)) == 1
    assert base.value_range(np.array([[2], [7], [-3]], np.float32)) == (-3, 7)


def test_pixels_are_bright_above_127() -> None:
    assert not base.are_pixels(np.array([[0, 127]], np.uint8))
    assert base.are_pixels(np.array([[0, 128]], np.uint8))


def test_features_of_another_range_are_refused() -> None:
    def is_refused(x: list[float], scale: float, trained: tuple[float, float] = (0, 1)) -> bool:
        try:
            base.check_range(np.array([x]), scale, lambda: trained, "x")
        except DataError:
            return True
        return False

    assert is_refused([0, 1], PIXEL)
    assert is_refused([0, 0.1], PIXEL)
    assert not is_refused([0, 0], PIXEL)
    assert not is_refused([-0.1, 1], PIXEL)
    assert not is_refused([0, 1.1], PIXEL)
    assert is_refused([0, 128], 1)
    assert not is_refused([0, 127], 1)
    assert is_refused([0, 128], 1, (-1, 1))
    assert not is_refused([0, 128], 1, (-1.1, 1))
    assert not is_refused([0, 128], 1, (-1, 1.1))
    assert not is_refused([0, 128.5], 1)


@pytest.mark.parametrize(
    ("features", "high", "low", "shape", "table"),
    [
        (64, 255, 0, (8, 8), False),
        (64, 128, 0, (8, 8), False),
        (64, 127, 0, None, True),
        (65, 255, 0, None, True),
        (49, 255, 0, None, True),
        (192, 255, 0, None, False),  # 8 x 8 in three colours
        (191, 255, 0, None, True),
        (147, 255, 0, None, True),  # 7 x 7
        (5, 1, 0, None, False),
        (5, 1.1, 0, None, True),
        (5, 1, -0.1, None, True),
    ],
)
def test_what_arrays_are(features: int, high: float, low: float, shape: tuple[int, int] | None, table: bool) -> None:
    x = np.zeros((2, features))
    x[0, 0], x[1, 1] = high, low
    found = from_arrays(x, [0, 1])
    assert (found.image_shape, found.table) == (shape, table)


def test_arrays_with_axes_are_pictures() -> None:
    for shape, wanted in (((2, 3, 4), (3, 4)), ((2, 3, 4, 1), (3, 4)), ((2, 3, 4, 3), None), ((2, 3, 4, 1, 1), None)):
        found = from_arrays(np.full(shape, 7.5), [0, 1])
        assert (found.image_shape, found.table) == (wanted, False)


def test_networks_at_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Network.mlp(2**20, (1,), 1).sizes == (2**20, 1, 1)
    assert Network.mlp(1, (), 1).parameter_count == 2
    assert Network.mlp(3, (4, 5), 2, ("tanh", "relu")).activations == ("tanh", "relu", "identity")
    for wrong in ((2**20 + 1, (1,), 1), (1, (0,), 1), (0, (), 1), (1, (), 0)):
        with pytest.raises(UsageError, match="expected 1 to"):
            Network.mlp(*wrong)
    for count in (0, 3, 4):
        with pytest.raises(UsageError, match="activations for"):
            Network.mlp(3, (4, 5), 2, ["tanh"] * count)
    monkeypatch.setattr("fastnn.network.MAX_PARAMETERS", 4 * 4 + 5 * 2)
    assert Network.mlp(3, (4,), 2).parameter_count == 26
    monkeypatch.setattr("fastnn.network.MAX_PARAMETERS", 25)
    with pytest.raises(UsageError, match="26 parameters"):
        Network.mlp(3, (4,), 2)


@pytest.mark.parametrize(
    ("how", "activation", "deviation", "most"),
    [
        ("he", "relu", (2 / 400) ** 0.5, 9),
        ("he", "leaky-relu", (2 / 400) ** 0.5, 9),
        ("he", "gelu", (2 / 400) ** 0.5, 9),
        ("he", "tanh", (1 / 400) ** 0.5, 9),
        ("glorot", "relu", (2 / 500) ** 0.5, (6 / 500) ** 0.5),
    ],
)
def test_the_first_weights_are_as_large_as_described(how: str, activation: str, deviation: float, most: float) -> None:
    w, b = Network.mlp(400, (100,), 2, activation).initial_parameters(0, how)[:2]
    assert w.std() == pytest.approx(deviation, rel=0.02)
    assert abs(w.mean()) < deviation / 50
    assert np.abs(w).max() <= most
    assert not b.any()
    assert (w != Network.mlp(400, (100,), 2, activation).initial_parameters(1, how)[0]).any()


@pytest.mark.parametrize("scale", [0, -1, math.inf, math.nan])
def test_scales_that_cannot_be(scale: float) -> None:
    with pytest.raises(DataError, match="scale"):
        Split(np.zeros((1, 1)), [0], None, scale)
    assert Split(np.zeros((1, 1)), [0], None, 1e-30).scale == 1e-30


@pytest.mark.parametrize(
    ("shape", "fits"),
    [
        *(((2, 3), True), ((1, 1), True), ((3, 4), True), ((0, 3), False), ((5, 1), False)),
        *(((2.0, 3), False), ([2, 3], False), ((2, 3, 2), False)),
    ],
)
def test_shapes_of_pictures_in_a_data_set(shape: Any, fits: bool) -> None:
    split = Split(np.eye(2, 12), [0, 1])
    if fits:
        assert Dataset("d", split, None, ("a", "b"), shape).image_shape == shape
    else:
        with pytest.raises(DataError, match="image_shape"):
            Dataset("d", split, None, ("a", "b"), shape)


def test_pieces_of_about_four_megabytes() -> None:
    x = np.zeros((2_500, 1_024), np.float32)
    assert list(base.chunks(x)) == [(0, 1_024), (1_024, 2_048), (2_048, 2_500)]
    assert list(base.chunks(np.zeros((2, 2**21), np.uint8))) == [(0, 2)]
    assert list(base.chunks(np.zeros((2, 2**21 + 1), np.uint8))) == [(0, 1), (1, 2)]
    assert list(base.chunks(np.zeros((2, 2**22 + 1), np.uint8))) == [(0, 1), (1, 2)]
    assert list(base.chunks(np.zeros((3, 0)))) == [(0, 3)]


def test_a_share_of_each_class_is_kept_apart() -> None:
    data = from_arrays(np.arange(40.0).reshape(40, 1), np.arange(40) % 2 * 3)
    train, held = base.stratified(data.train, 0.25, 0)
    assert (len(train), len(held)) == (30, 10)
    assert np.bincount(held.y).tolist() == [5, 5]
    assert sorted([*train.x[:, 0], *held.x[:, 0]]) == list(range(40))


def test_balanced_classes_weigh_the_same_however_few_they_have() -> None:
    x, y = np.zeros((4, 2)), [0, 0, 2, 0]  # nobody of class 1
    split = Split(x, y)
    assert sample_weight_of(split, Settings()) is None
    balanced = Settings(class_weight="balanced")
    np.testing.assert_allclose(sample_weight_of(split, balanced), [2 / 3, 2 / 3, 2, 2 / 3])
    weighted = Split(x, y, [1, 2, 3, 0])
    np.testing.assert_allclose(sample_weight_of(weighted, balanced), [2 / 3, 4 / 3, 6, 0])
    assert sample_weight_of(weighted, Settings()).tolist() == [1, 2, 3, 0]


# archives and files


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out


def test_what_an_archive_may_hold() -> None:
    three = zipped({"a": b"12345", "b/c.npy": b"", "d": b"678"})
    assert len(opened(three, 3, 8, 1).namelist()) == 3
    for members, size in ((2, 8), (3, 7)):
        with pytest.raises(ArchiveError):
            opened(three, members, size, 1)
    for name in ("a b", "/a", "a/../b", "..", "a" * 201, "ä"):
        with pytest.raises(ArchiveError, match="odd name"):
            opened(zipped({name: b""}), 3, 8, 1)
    assert opened(zipped({"a" * 200: b""}), 1, 0, 1)


def test_how_far_what_is_squeezed_may_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    many = zipped({"a": bytes(200_000)}, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(many) as archive:
        packed = archive.getinfo("a").compress_size
    times = (200_000 - 2**16) / packed
    assert opened(many, 1, 200_000, times * 1.0001)
    with pytest.raises(ArchiveError, match="would grow"):
        opened(many, 1, 200_000, times * 0.9999)
    monkeypatch.setattr(archives, "_SLACK", 0)
    size = many.seek(0, 2)
    assert opened(many, 1, 200_000, 200_000 / size * 1.0001 if 200_000 / size > times else times * 1.0001)
    with pytest.raises(ArchiveError, match="bytes when taken out of"):
        opened(many, 1, 200_000, 200_000 / size * 0.9999)


def test_what_is_taken_out() -> None:
    with zipfile.ZipFile(zipped({"a": bytes(range(10))})) as archive:
        assert taken_out(archive, "a", 10) == bytes(range(10))
        with pytest.raises(ArchiveError, match="10 bytes; at most 9"):
            taken_out(archive, "a", 9)
        target = np.zeros((2, 4), np.uint8, order="F")
        take_into(archive, "a", target, 2)
        assert target.tolist() == [[2, 4, 6, 8], [3, 5, 7, 9]]
        with pytest.raises(ArchiveError, match="another size"):
            take_into(archive, "a", target, 3)


def test_a_list_of_files_is_never_read_at_one_go() -> None:
    file = archives._InPieces(io.BytesIO(b"abc"))
    assert file.read(2**21) == b"abc"
    file.seek(1)
    assert file.read() == b"bc"
    with pytest.raises(ArchiveError, match="a list of files"):
        file.read(2**21 + 1)


@pytest.mark.parametrize("compress", [False, True])
def test_an_idx_file_of_exactly_the_most_bytes(compress: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"\0\0\x0b\2" + struct.pack(">2I", 3, 4) + bytes(24)
    (tmp_path / "x").write_bytes(gzip.compress(content) if compress else content)
    monkeypatch.setattr(idx, "_MAX_BYTES", 24)
    assert idx.read_idx(tmp_path / "x", 2)[0].shape == (3, 4)
    monkeypatch.setattr(idx, "_MAX_BYTES", 23)
    with pytest.raises(DataError, match="at most 23"):
        idx.read_idx(tmp_path / "x", 2)
    monkeypatch.undo()
    for axes in (1, 3):
        with pytest.raises(DataError, match="expected"):
            idx.read_idx(tmp_path / "x", axes)
    for count, is_read in ((1, True), (4, True), (0, False), (5, False)):
        content = b"\0\0\x08" + bytes([count]) + struct.pack(f">{count}I", *[1] * count) + b"\7"
        (tmp_path / "y").write_bytes(content)
        if is_read:
            assert idx.read_idx(tmp_path / "y")[0].tolist() == np.full([1] * count, 7).tolist()
        else:
            with pytest.raises(DataError, match="not an IDX file"):
                idx.read_idx(tmp_path / "y")


def test_large_plain_idx_files_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"\0\0\x08\1" + struct.pack(">I", 10) + bytes(range(10))
    (tmp_path / "x").write_bytes(content)
    (tmp_path / "x.gz").write_bytes(gzip.compress(content))
    for least, mapped in ((11, False), (10, True)):
        monkeypatch.setattr(idx, "_MAPPED_FROM", least)
        found, digest = idx.read_idx(tmp_path / "x", 1)
        assert isinstance(found, np.memmap) is mapped
        assert found.tolist() == list(range(10))
        again = idx.read_idx(tmp_path / "x.gz", 1)
        assert not isinstance(again[0], np.memmap)
        assert digest == again[1]


def test_how_many_pictures_a_folder_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for n in range(2):
            Image.new("L", (30, 30), 40 * n).save(tmp_path / name / f"{n}.png")
    monkeypatch.setattr(pictures, "_MOST_PICTURES", 4)
    assert len(pictures.load_pictures(tmp_path).train) == 4
    monkeypatch.setattr(pictures, "_MOST_PICTURES", 3)
    with pytest.raises(DataError, match="4 pictures; at most 3"):
        pictures.load_pictures(tmp_path)


def test_what_cannot_be_cleaned_up_does_not_hide_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError("nobody may remove this")

    with monkeypatch.context() as inside:
        inside.setattr(Path, "unlink", refuse)
        with pytest.raises(RunError, match="no room"), files.atomic_write(tmp_path / "m") as file:
            file.write(b"half")
            raise OSError("no room")
    assert files.unfinished() == []
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("name", ["open", "fsync"])
def test_a_folder_that_cannot_be_synced_is_no_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(files.os, "O_DIRECTORY"):
        pytest.skip("folders are not synced here")
    real, folders = getattr(files.os, name), []

    def refuse(what: Any, *rest: Any) -> Any:
        if Path(what).is_dir() if name == "open" else stat.S_ISDIR(os.fstat(what).st_mode):
            folders.append(what)
            raise OSError("not here")
        return real(what, *rest)

    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files.os, name, refuse)
    with files.atomic_write(tmp_path / "m") as file:
        file.write(b"new")
    assert (tmp_path / "m").read_bytes() == b"new"
    assert len(folders) == 1
    assert files.unfinished() == []


def test_shares_that_cannot_be() -> None:
    for share in (0.0, 0.9):
        assert Settings(validation=share).validation == share
    for share in (-0.01, 0.91, 1):
        with pytest.raises(UsageError, match="validation="):
            Settings(validation=share)
