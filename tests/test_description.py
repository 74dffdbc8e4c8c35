"""What is known of a model beside its numbers, typed and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn
from fastnn.model import store
from fastnn.model.description import (
    UNBOUNDED,
    Calibration,
    Description,
    History,
    Preprocessing,
    TrainingData,
    as_json,
    classes_of,
    description_of,
    huber_delta_of,
    loss_of,
)

FULL = Description(
    classes=("a", "b"),
    label_type="str",
    preprocessing=Preprocessing("plain", 0.25, (-0.5, 1), (2, 3)),
    training={"loss": "huber", "huber_delta": 2, "hidden": (3, 4)},
    history=History(7, 0.5, 0.75, {"epoch": [1, 7], "loss": [1.0, 0.5]}, 6, 0.625),
    data=TrainingData("d", 9, "f" * 64),
    calibration=Calibration(1.5, 0.25, 60),
    initial="e" * 64,
    fastnn_version="1.2",
)


@pytest.mark.parametrize(
    "description",
    [
        Description(),
        FULL,
        replace(FULL, preprocessing=Preprocessing(range=UNBOUNDED)),
        replace(FULL, history=History(7, 0.5), calibration=Calibration(temperature=2.0)),
    ],
)
def test_a_description_is_read_as_it_was_written(description: Description) -> None:
    assert description_of(as_json(description)) == description


def test_how_a_description_is_written() -> None:
    assert as_json(FULL) == {
        "classes": ["a", "b"],
        "label_type": "str",
        "preprocessing": {"recipe": "plain", "scale": 0.25, "range": [-0.5, 1], "image_shape": [2, 3]},
        "training": {"loss": "huber", "huber_delta": 2, "hidden": (3, 4)},
        "history": {
            **{"epochs": 7, "loss": 0.5, "accuracy": 0.75, "best_epoch": 6, "best_validation_loss": 0.625},
            "curves": {"epoch": [1, 7], "loss": [1.0, 0.5]},
        },
        "data": {"name": "d", "examples": 9, "fingerprint": "f" * 64},
        "calibration": {"temperature": 1.5, "unsure_below": 0.25, "examples": 60},
        "initial": "e" * 64,
        "fastnn_version": "1.2",
    }
    least = as_json(replace(Description(), preprocessing=Preprocessing(range=UNBOUNDED)))
    assert not {"calibration", "initial", "fastnn_version"} & set(least)
    assert not {"best_epoch", "best_validation_loss"} & set(least["history"])
    assert least["preprocessing"] == {"recipe": "mnist", "scale": 1.0, "range": None, "image_shape": None}
    assert "range" not in as_json(Description())["preprocessing"]


def test_metadata_that_says_nothing() -> None:
    assert description_of({}) == Description()
    assert (loss_of({}), huber_delta_of({}), classes_of({})) == ("softmax", 1.0, ())
    assert (loss_of(as_json(FULL)), huber_delta_of(as_json(FULL))) == ("huber", 2.0)


@pytest.mark.parametrize("odd", [None, 7, "text", True, [1, 2, 3], [[1], [2]]])
def test_what_is_of_another_type_is_not_taken(odd: Any) -> None:
    for key in ("preprocessing", "training", "history", "data", "calibration"):
        assert description_of({key: odd}) == Description()
    assert description_of({"preprocessing": {"image_shape": odd}}).preprocessing.image_shape is None
    assert description_of({"preprocessing": {"range": odd}}).preprocessing.range == (-math.inf, math.inf)
    assert description_of({"history": {"curves": odd}}).history.curves == {}
    assert description_of({"data": {"fingerprint": [odd]}}).data == TrainingData()
    assert description_of({"initial": [odd], "fastnn_version": [odd]}) == Description()


def test_a_model_says_what_its_metadata_says_at_the_moment() -> None:
    network = fastnn.Network.mlp(4, (), 2)
    model = fastnn.Model(network, network.initial_parameters(0, "he"))
    assert (model.classes, model.description) == (("0", "1"), Description())
    model.metadata["classes"] = ["a", "b"]
    model.metadata["calibration"] = {"temperature": 2.0}
    assert (model.classes, model.description.classes, model.temperature) == (("a", "b"), ("a", "b"), 2.0)
    assert model.description.calibration == Calibration(temperature=2.0)


def test_a_trained_model_is_described() -> None:
    x = np.random.default_rng(0).random((200, 5))
    model = fastnn.train((x, x[:, 0] > 0.5), 3, epochs=2, validation=0.3, seed=4)
    known = model.description
    assert description_of(json.loads(json.dumps(model.metadata))).history == known.history
    assert as_json(known) == model.metadata
    assert (known.classes, known.label_type, known.fastnn_version) == (model.classes, "bool", fastnn.__version__)
    assert (known.training["seed"], known.data.examples, known.history.epochs) == (4, 140, 2)
    assert known.preprocessing == Preprocessing("plain", 1.0, (0, 1))
    assert known.history.curves == model.history
    assert known.initial is None


def test_what_another_version_says_besides_is_kept(tmp_path: Path) -> None:
    network = fastnn.Network.mlp(4, (), 2)
    metadata = {
        "classes": ["a", "b"],
        "newer": {"x": [1, None]},
        "calibration": {"temperature": 2.0, "bins": 15},
        "history": {"curves": {"epoch": [1], "newer": ["x"]}},
        "initial": 7,
    }
    for end in ("safetensors", "npz", "json"):
        fastnn.Model(network, network.initial_parameters(0, "he"), metadata).save(tmp_path / f"a.{end}")
        model = fastnn.load(tmp_path / f"a.{end}")
        assert {key: model.metadata[key] for key in metadata} == metadata
        model.save(tmp_path / f"b.{end}")
        assert (tmp_path / f"a.{end}").read_bytes() == (tmp_path / f"b.{end}").read_bytes()


def test_a_model_is_what_its_file_holds() -> None:
    stored = store.load(store.shipped())
    model = fastnn.load()
    assert isinstance(model, store.Stored)
    assert (model.network, model.sha256, model.metadata) == (stored.network, stored.sha256, stored.metadata)
    assert (model.notes, model.description) == ((), stored.description)
