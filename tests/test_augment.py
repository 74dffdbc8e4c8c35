"""Augmentation: against its twin, by name of seed, epoch and example only, and what it looks like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import make_dataset

from fastnn import reference
from fastnn.datasets import Dataset, checked_split
from fastnn.datasets.base import PIXEL, Split
from fastnn.errors import UsageError
from fastnn.kernels.augment import _DROPS, _NOISE
from fastnn.kernels.host import SHAPE
from fastnn.kernels.workers import Workers
from fastnn.training.batches import Batches, changed
from fastnn.training.run import Training
from fastnn.training.settings import Settings

ALL = {
    "shift": 2,
    "rotation": 15,
    "scaling": 0.2,
    "shear": 0.2,
    "elastic": 30,
    "pen": 0.6,
    "mirror": 0.5,
    "pixel_noise": 0.1,
}


def pictures(n: int, shape: tuple[int, int], seed: int = 0) -> Split:
    """Blobs on black."""
    random, (h, w) = np.random.default_rng(seed), shape
    y, x = np.mgrid[:h, :w]
    found = np.zeros((n, h, w))
    for picture in found:
        for _ in range(3):
            r, c, size = random.uniform(0, h), random.uniform(0, w), random.uniform(1, 4)
            picture += 255 * np.exp(-((y - r) ** 2 + (x - c) ** 2) / size**2)
    return checked_split(np.clip(found, 0, 255).astype(np.uint8), np.arange(n) % 3, 3, "blobs", scale=PIXEL)


@pytest.mark.parametrize("shape", [(28, 28), (5, 9), (32, 32), (40, 70)])
@pytest.mark.parametrize("which", [*([name] for name in ALL), list(ALL)])
def test_pictures_are_those_of_the_twin(which: list[str], shape: tuple[int, int]) -> None:
    split = pictures(3, shape)
    sigma = {"elastic_sigma": 3.0} if "elastic" in which else {}
    settings = Settings(seed=4, **sigma, **{name: ALL[name] for name in which})
    found = changed(split, settings, shape, epoch=2)
    others = [
        picture for picture, row in zip(split.x, found, strict=True) if np.abs(row - picture.astype(float)).max() > 3
    ]
    assert len(others) == 3 or (which == ["mirror"] and others)  # something happened
    asked = {name: getattr(settings, name) for name in (*ALL, "elastic_sigma")}
    change = reference.Change(**{**asked, "rotation": np.radians(settings.rotation)})
    width = SHAPE.panel_width(4)
    stride = -(-shape[1] // width) * width
    for example, (picture, row) in enumerate(zip(split.x, found, strict=True)):
        wanted = reference.change_picture(picture.reshape(shape), change, 4, 2, example, stride)
        assert np.abs(row.reshape(shape) - wanted).max() <= 0.75


def test_floats_and_channels_are_changed_like_bytes() -> None:
    split = pictures(4, (28, 28))
    settings = Settings(**ALL)  # type: ignore[arg-type]
    bytes_, floats = (
        changed(split, settings, (28, 28)),
        changed(replace(split, x=split.x / 255, scale=1.0), settings, (28, 28)),
    )
    np.testing.assert_allclose(np.clip(floats, 0, 1) * 255, bytes_, atol=0.51)
    still = replace(settings, pixel_noise=0.0)
    three = changed(replace(split, x=np.tile(split.x, 3)), still, (28, 28))
    assert (three.reshape(4, 3, -1) == changed(split, still, (28, 28))[:, None]).all()


def test_nothing_asked_changes_nothing() -> None:
    split = pictures(4, (28, 28))
    assert (changed(split, Settings(input_dropout=1e-12), (28, 28)) == split.x).all()
    moved = changed(split, Settings(shift=1e-9), (28, 28))
    assert np.abs(moved.astype(int) - split.x).max() <= 1


def test_noise_and_dropped_features_are_those_of_the_twin() -> None:
    split = make_dataset(5, 40, 3, "float64").train
    found = changed(split, Settings(input_noise=0.3, input_dropout=0.4, seed=9), None, epoch=7)  # type: ignore[arg-type]
    for example, (x, row) in enumerate(zip(split.x, found, strict=True)):
        keys = [
            reference.stream(reference.stream(reference.stream(9, purpose), 7), example) >> 32
            for purpose in (_NOISE, _DROPS)
        ]
        wanted = reference.drop_features(reference.add_noise(x, 0.3, keys[0]), 0.4, keys[1])
        np.testing.assert_allclose(row, wanted, atol=1e-6)


def test_noise_is_standard_and_masks_have_their_share() -> None:
    split = Split(np.zeros((2_000, 50), np.float32), np.zeros(2_000, np.int32))
    noise = changed(split, Settings(input_noise=1.0), None)  # type: ignore[arg-type]
    assert abs(noise.mean()) < 5 / noise.size**0.5
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert np.abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 5 / noise.size**0.5
    ones = changed(replace(split, x=split.x + 1), Settings(input_dropout=0.3), None)  # type: ignore[arg-type]
    assert abs((ones == 0).mean() - 0.3) < 5 * (0.21 / ones.size) ** 0.5


def test_elastic_fields_are_as_large_as_simard_says() -> None:
    """σ 4, α 34: smoothed uniform noise of variance 1/3 has deviation α · √(1/3) / (2σ√π) = 1.38 pixels."""
    fields = [reference.elastic_field(28, 28, 4.0, key, 0, 32) for key in range(200)]
    inner = np.array(fields)[:, 10:18, 10:18]
    assert 34 * inner.std() == pytest.approx(1.38, rel=0.1)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_cuts_change_nothing(threads: int) -> None:
    split, settings = pictures(50, (28, 28)), Settings(**ALL)  # type: ignore[arg-type]
    wanted = changed(split, settings, (28, 28), 3)
    order = np.random.default_rng(0).permutation(50)
    with Workers(threads) as workers:
        batches = Batches(split, settings, (28, 28), 50, workers)
        batches.compile()
        for first in range(0, 50, 7):
            batches.prepare(order, 3, first, min(first + 7, 50))
        data = batches.data(order)
        assert (data.x[data.order] == wanted[order]).all()
        assert (data.y[data.order] == split.y[order]).all()


def picture_dataset(n: int = 90) -> Dataset:
    return Dataset("blobs", pictures(n, (28, 28)), None, ("a", "b", "c"), (28, 28))


@pytest.mark.parametrize(
    "changes",
    [
        ALL,
        pytest.param({**ALL, "dropout": 0.2}, marks=pytest.mark.long),  # another kernel, of both halves
        {"input_noise": 0.1, "input_dropout": 0.2, "class_weight": "balanced", "dropout": 0.2},
    ],
)
def test_runs_are_the_same_for_any_threads_and_cuts(changes: dict[str, object]) -> None:
    hashes = set()
    for threads, cut in ((1, 10**6), (2, 1), (3, 2)):
        settings = Settings((20,), 3, 16, threads=threads, **changes)  # type: ignore[arg-type]
        run = Training(picture_dataset(), settings)
        run._batches.most_steps = min(run._batches.most_steps, cut)
        list(run)
        hashes.add(run.model().sha256)
        run.close()
    assert len(hashes) == 1


def test_a_small_ring_gives_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = set()
    for size in (2**24, 784 * 16 * 2, 1):
        monkeypatch.setattr("fastnn.training.batches._RING_BYTES", size)
        run = Training(picture_dataset(), Settings((20,), 2, 16, **ALL))  # type: ignore[arg-type]
        list(run)
        hashes.add(run.model().sha256)
        run.close()
    assert len(hashes) == 1


def test_what_are_no_pictures_is_not_turned() -> None:
    with pytest.raises(UsageError, match="not known to be pixels"):
        Training(make_dataset(20, 9, 3), Settings(rotation=5))
    with pytest.raises(UsageError, match=r'^input="sparse": .* take input="auto"$'):
        Training(picture_dataset(), Settings(rotation=5, input="sparse"))


@pytest.mark.parametrize(
    ("room", "noise", "steps", "rows"), [(1, 0.0, 1, 4), (191, 0.0, 1, 4), (192, 0.0, 2, 8), (10**6, 0.0, 10_416, 12),
                                         (767, 0.1, 1, 4), (768, 0.1, 2, 8)]
)  # fmt: skip
def test_rows_are_made_ahead_as_far_as_there_is_room(
    room: int, noise: float, steps: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whole batches of four, of which one takes 96 bytes, or four times as many where noise is added."""
    monkeypatch.setattr("fastnn.training.batches._RING_BYTES", room)
    settings = Settings(shift=1, input_noise=noise)
    with Workers(1) as workers:
        batches = Batches(pictures(10, (4, 6)), settings, (4, 6), 4, workers)
        assert batches.most_steps == steps
        assert batches.data(np.arange(10)).x.shape == (rows, 24)
