"""Temperature, threshold and the error of confidences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import make_dataset

import fastnn
from fastnn import load
from fastnn.model.calibration import calibration_error, fit, reliability
from fastnn.model.inference import softmax


def logits(n: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from the probabilities that they would have if they were `sharpness` times smaller."""
    random = np.random.default_rng(seed)
    z = 2 * random.standard_normal((n, 4))
    p = softmax(z)
    y = (p.cumsum(axis=1) > random.random((n, 1))).argmax(axis=1)
    return sharpness * z, y


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_what_is_too_sharp_or_too_flat(sharpness: float) -> None:
    z, y = logits(20_000, sharpness)
    found = fit(z, y)
    assert found.temperature == pytest.approx(sharpness, rel=0.05)
    assert calibration_error(softmax(z / found.temperature), y) < 0.015
    if sharpness != 1:
        assert calibration_error(softmax(z), y) > 0.05
    assert found.examples == 20_000


def test_the_error_by_hand() -> None:
    """Four answers at 0.9, three of them right; two at 0.6, one right: (4 · |0.75 − 0.9| + 2 · |0.5 − 0.6|) / 6."""
    p = np.array([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2)
    assert calibration_error(p, np.array([0, 0, 0, 1, 1, 0])) == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0


def test_the_threshold_parts_right_from_wrong_and_is_never_absurd() -> None:
    z = np.array([[2.0, 0.0]] * 80 + [[0.2, 0.0]] * 20)
    y = np.array([0] * 80 + [1] * 20)
    found = fit(z, y)
    p = softmax(z / found.temperature).max(axis=1)
    assert ((p < found.unsure_below) == (y == 1)).all()
    assert fit(z, y * 0).unsure_below == 0  # no wrong answer to learn from
    assert fit(100 * z, y).unsure_below <= 0.95
    assert fit(z[:10], y[:10]).examples == 0


def test_it_is_in_the_model_and_changes_no_answer(tmp_path: Path) -> None:
    data = make_dataset(400, 12, 3)
    model = fastnn.train(data, (30,), epochs=30, validation=0.3)
    assert abs(model.temperature - 1) > 0.02
    plain = fastnn.Model(model.network, model.parameters, {**model.metadata, "calibration": {}})
    assert data.test
    x = data.test.x
    assert (model.predict(x) == plain.predict(x)).all()
    wanted = softmax(plain.logits(x) / model.temperature)
    assert np.abs(wanted - plain.predict_proba(x)).max() > 1e-3  # so that a temperature left out would show
    np.testing.assert_allclose(model.predict_proba(x), wanted, atol=1e-12)
    model.save(tmp_path / "m.json")
    again = load(tmp_path / "m.json")
    assert again.metadata["calibration"] == model.metadata["calibration"]
    np.testing.assert_allclose(again.predict_proba(x), wanted, atol=1e-12)


def test_the_temperature_is_never_beyond_its_bounds() -> None:
    """A twentieth where every answer is right and could be surer, twenty where all are as good as guessed."""
    z = np.array([[1.0, 0.0], [0.0, 1.0]] * 40)
    assert fit(z, np.array([0, 1] * 40)).temperature == pytest.approx(0.05, rel=1e-6)
    assert fit(100 * z, np.array([0, 1, 1, 0] * 20)).temperature == pytest.approx(20, rel=1e-6)
    assert fit(z[:50], np.array([0, 1] * 25)).examples == 50
    assert fit(z[:49], np.array([0, 1] * 24 + [0])).examples == 0


def test_an_answer_lies_in_the_bin_that_begins_with_its_confidence() -> None:
    p = np.array([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0], [0.74, 0.26]])
    found = reliability(p, np.array([0, 1, 0, 0]), bins=4)
    assert found.counts.tolist() == [0, 0, 2, 2]
    np.testing.assert_allclose(found.confidence, [0, 0, 0.62, 0.875])
    np.testing.assert_allclose(found.accuracy, [0, 0, 1, 0.5])
    assert found.error == pytest.approx((2 * 0.38 + 2 * 0.375) / 4)
