"""Predicting: both engines agree, a row's bits do not depend on its batch, and bad input is refused."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import fastnn
from fastnn import Model, Network, load
from fastnn.datasets import Dataset, checked_split, draw
from fastnn.errors import DataError, UsageError


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return draw(700, seed=9)[0]


def test_the_engines_agree(digits: np.ndarray) -> None:
    model = load()
    slow, fast = (model.predict_proba(digits, engine=engine) for engine in ("numpy", "kernels"))
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-12)
    assert (fast.argmax(1) == slow.argmax(1)).all()
    np.testing.assert_allclose(slow.sum(axis=1), 1)


@pytest.mark.parametrize("sizes", [(5, 3), (70, 1), (33, 1, 2), (784, 100, 40, 7), (3, 300, 300, 4)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_engines_agree_for_any_network(sizes: tuple[int, ...], dtype: str) -> None:
    network = Network.mlp(sizes[0], sizes[1:-1], sizes[-1])
    model = Model(network, [p.astype(dtype) for p in network.initial_parameters(1, "glorot")])
    x = np.random.default_rng(0).standard_normal((301, sizes[0])).astype(dtype)
    slow, fast = (model.predict_proba(x, engine=engine) for engine in ("numpy", "kernels"))
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def small_model() -> Model:
    network = Network.mlp(784, (300, 100), 10)
    return Model(network, network.initial_parameters(1, "glorot"), {"preprocessing": {"scale": 1 / 255}})


@pytest.mark.parametrize("engine", ["numpy", "kernels"])
def test_a_row_has_the_same_bits_in_any_batch(engine: str, digits: np.ndarray, small_model: Model) -> None:
    model = small_model
    whole = model.predict_proba(digits, engine=engine)
    for first, last in ((0, 1), (5, 6), (3, 136), (100, 700), (699, 700)):
        assert (model.predict_proba(digits[first:last], engine=engine) == whole[first:last]).all()
    backwards = model.predict_proba(digits[::-1], engine=engine)
    assert (backwards[::-1] == whole).all()


def test_threads_do_not_change_predictions(digits: np.ndarray, small_model: Model) -> None:
    model = small_model
    found = [model.predict_proba(digits, "kernels", threads) for threads in (1, 2, 3, 7)]
    assert all((f == found[0]).all() for f in found)


def test_pictures_and_empty_batches(digits: np.ndarray, small_model: Model) -> None:
    model = small_model
    assert (model.predict(digits.reshape(-1, 28, 28)) == model.predict(digits)).all()
    assert (model.predict(digits[:50].astype(float)) == model.predict(digits[:50])).all()
    assert model.predict_proba(np.zeros((0, 784), np.uint8)).shape == (0, 10)


def test_what_does_not_fit_is_refused(digits: np.ndarray) -> None:
    model = load()
    with pytest.raises(DataError, match="100 features; this model takes 784"):
        model.predict(digits[:, :100])
    with pytest.raises(DataError, match="one row an example"):
        model.predict(digits[0])
    with pytest.raises(DataError, match="missing or infinite"):
        model.predict(np.full((1, 784), np.nan))
    with pytest.raises(DataError, match="expected numbers"):
        model.predict(np.full((1, 784), "x"))
    with pytest.raises(UsageError, match="engine='gpu'"):
        model.predict(digits, engine="gpu")
    with pytest.raises(DataError, match="label 11 in the data; this model knows 10"):
        model.evaluate(checked_split(digits[:2], np.array([0, 11]), 12, "x"))


def test_the_documented_figure_is_reached(mnist: Dataset) -> None:
    """README: no options, at least 98.2 % (here one seed, with room for its luck; bench/ has five)."""
    assert mnist.test
    settings = fastnn.Settings()
    assert settings.epochs <= 15
    model = fastnn.train(mnist)
    assert model.network.sizes == (784, 256, 10)
    assert model.evaluate(mnist.test).accuracy >= 0.981
    assert load().evaluate(mnist.test).accuracy >= 0.995


def test_the_shipped_weights_are_as_sure_as_they_are_right(mnist: Dataset) -> None:
    """Their card: calibration error at most 1 %, and what they call unsure is mostly what they get wrong."""
    shipped = load()
    assert mnist.test
    found = shipped.evaluate(mnist.test)
    assert found.calibration_error is not None
    assert found.calibration_error < 0.01
    p = shipped.predict_proba(mnist.test.x)
    unsure, right = p.max(axis=1) < shipped.unsure_below, p.argmax(axis=1) == mnist.test.y
    assert unsure.mean() < 0.05
    assert right[~unsure].mean() > right.mean()
    assert unsure[~right].mean() > 0.5  # of the wrong answers


@pytest.mark.parametrize("hidden", [(128, 128), (256, 128, 64)])
def test_deeper_nets_of_the_lineage_learn(hidden: tuple[int, ...], mnist: Dataset) -> None:
    assert mnist.test
    assert fastnn.train(mnist, hidden, epochs=3).evaluate(mnist.test).accuracy > 0.965


def test_import_loads_neither_numba_nor_numpy() -> None:
    script = "import sys, fastnn; print([m for m in ('numba', 'numpy', 'typer', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_exist_and_are_documented() -> None:
    for name in fastnn.__all__:
        assert getattr(fastnn, name) is not None
        if name != "__version__":
            assert getattr(fastnn, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fastnn.nothing  # noqa: B018


@pytest.mark.long
def test_the_wheel_holds_the_weights(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", tmp_path, ROOT], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "fastnn/shipped/mnist.safetensors" in names
    assert "fastnn/kernels/tiles.py" in names
    assert not [n for n in names if n.startswith(("tests/", "bench/"))]
