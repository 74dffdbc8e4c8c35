"""Functions of numbers and pictures against their twins; every kernel has one; twins are checked otherwise too."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import pkgutil
import sys
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
from conftest import ROOT
from panels import DTYPES, Callable, random

from fastnn import kernels, reference
from fastnn.kernels import activations as activations_module
from fastnn.kernels import augment as augment_module
from fastnn.kernels import functions as functions_module
from fastnn.kernels import losses as losses_module
from fastnn.kernels import optimizers as optimizers_module
from fastnn.kernels import random as random_module
from fastnn.kernels import updates as updates_module
from fastnn.kernels.jit import kernel
from fastnn.kernels.layout import from_panels, to_panels
from fastnn.reference import augmentation as augmentation_twins
from fastnn.reference import network as network_twins
from fastnn.tools import gradcheck
from fastnn.training.settings import ACTIVATIONS, LOSSES

activations, augment, losses = Callable(activations_module), Callable(augment_module), Callable(losses_module)
numbers, optimizers, updates = Callable(random_module), Callable(optimizers_module), Callable(updates_module)

FUNCTIONS = ("exp", "log", "magnitude", "logistic", "tanh", "normal_density", "normal_distribution")


@kernel
def all_functions(x, out):
    """Row n of `out`: function n of FUNCTIONS, in a loop that becomes vectors."""
    for i in range(x.size):
        out[0, i] = functions_module.exp(x[i])
        out[1, i] = functions_module.log(x[i])
        out[2, i] = functions_module.magnitude(x[i])
        out[3, i] = functions_module.logistic(x[i])
        out[4, i] = functions_module.tanh(x[i])
        out[5, i] = functions_module.normal_density(x[i])
        out[6, i] = functions_module.normal_distribution(x[i])


def values(name: str, x: np.ndarray) -> np.ndarray:
    out = np.empty((len(FUNCTIONS), x.size), x.dtype)
    all_functions(x, out)
    return out[FUNCTIONS.index(name)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "low", "high", "relative", "float64", "float32"),
    [
        ("exp", -87, 0, True, 1e-14, 1e-5),
        ("log", 1e-3, 2e6, False, 4e-16, 2e-7),  # beyond: relative, as its values grow
        ("magnitude", -9, 9, True, 0, 0),
        ("logistic", -40, 40, True, 1e-14, 5e-6),
        ("tanh", -20, 20, False, 3e-16, 2e-7),
        ("normal_density", -9, 9, True, 2e-14, 1e-5),
        ("normal_distribution", -12, 12, False, 1e-15, 3e-7),
    ],
)
def test_functions(name: str, low: float, high: float, relative: bool, float64: float, float32: float, dtype: str):
    spaced = np.geomspace if low > 0 else np.linspace
    near = np.array([0.5, 1.0, 1.5]) if low > 0 else np.array([-1e-30, -0.0, 0.0, *([1e-30] if high > 0 else [])])
    x = np.concatenate([spaced(low, high, 10_001), near]).astype(dtype)
    bound = {"float64": float64, "float32": float32}[dtype]
    wanted = getattr(reference, name)(x.astype("float64"))
    np.testing.assert_allclose(values(name, x), wanted, rtol=bound, atol=0 if relative else bound)


@pytest.mark.parametrize("dtype", DTYPES)
def test_functions_keep_what_is_not_a_number(dtype: str) -> None:
    for name in FUNCTIONS:
        assert np.isnan(values(name, np.full(3, np.nan, dtype))).all(), name
    small = values("exp", np.array([-1e30, -np.inf], dtype))
    assert (small < 1e-37).all()


def test_twins_of_random_numbers_are_those_of_the_papers() -> None:
    """SplitMix64 from 0, as its authors' program prints them, and MurmurHash3's finaliser of 1 and 2³² − 1."""
    state, found = 0, []
    for _ in range(3):
        state = (state + reference.GOLDEN) % 2**64
        found.append(reference.mix(state))
    assert found == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert reference.stream(0, 0) == reference.mix(found[0])
    assert reference.stream(0, 1) == reference.mix((found[0] + reference.GOLDEN) % 2**64)
    assert reference.key_of(3, 4, 5, 6) == reference.stream(reference.stream(reference.stream(3, 4), 5), 6) >> 32
    assert reference.mask_bits(1, 0) == 0x514E28B7
    assert reference.mask_bits(2**32 - 1, 0) == 0x81F16F39
    assert (reference.mask_limit(0.0), reference.mask_limit(0.25), reference.mask_limit(1.0)) == (0, 2**30, 2**32 - 1)


@pytest.mark.parametrize("number", [0, 1, 7, 2**40 + 3, 2**63 - 1])
def test_random_numbers(number: int) -> None:
    wide = np.uint64(number)
    assert int(numbers.mix(wide)) == reference.mix(number)
    assert int(numbers.stream(wide, np.uint64(5))) == reference.stream(number, 5)
    key = reference.key_of(number, 2**41, 3, 11)
    assert int(augment.key_of(number, 2**41, 3, 11)) == key
    for place in (0, 1, 2**20 + 1):
        assert int(numbers.mask_bits(np.uint32(key), np.uint32(place))) == reference.mask_bits(key, place)
        assert float(augment.symmetric(np.uint32(key), place)) == reference.symmetric(key, place)
        assert float(augment.bell(np.uint32(key), place)) == pytest.approx(reference.bell(key, place), abs=1e-6)
    state, plain = np.array([number], np.uint64), number
    for name in ("uniform", "spread", "uniform"):
        plain, wanted = getattr(reference, name)(plain)
        assert getattr(numbers, name)(state) == pytest.approx(wanted, abs=1e-15)
        assert int(state[0]) == plain


@pytest.mark.parametrize("p", [0.0, 2.0**-32, 0.5, 0.95, 1 - 2.0**-33])
def test_the_limit_of_masks(p: float) -> None:
    assert int(numbers.mask_limit(p)) == reference.mask_limit(p)
    assert reference.mask_limit(p) / 2**32 == pytest.approx(p, abs=2.0**-32)


def test_twins_of_random_numbers_look_random() -> None:
    """20,000 of each: mean and variance within five deviations, and the ends are reached, not crossed."""
    state, flat, bell = 1, [], []
    for _ in range(20_000):
        state, number = reference.uniform(state)
        flat.append(number)
        state, number = reference.spread(state)
        bell.append(number)
    key = reference.key_of(1, 2**41, 0, 0)
    both = [reference.symmetric(key, place) for place in range(20_000)]
    normal = [reference.bell(key, place) for place in range(20_000)]
    for found, mean, deviation, most in (
        (flat, 0.5, 12**-0.5, (0, 1)),
        (bell, 0, 1 / 3, (-1, 1)),
        (both, 0, 3**-0.5, (-1, 1)),
        (normal, 0, 1, (-3.5, 3.5)),
    ):
        assert np.mean(found) == pytest.approx(mean, abs=5 * deviation / 20_000**0.5)
        assert np.std(found) == pytest.approx(deviation, rel=0.025)
        assert most[0] <= min(found) < max(found) <= most[1]
    counts = np.zeros((5, 5))
    for epoch in range(2_000):
        counts[reference.shuffle(5, 1, epoch), np.arange(5)] += 1
    assert np.abs(counts - 400).max() < 5 * (2_000 * 4 / 25) ** 0.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name.replace("-", "_") for name in ACTIVATIONS[:-1]])
def test_pairs_of_activations(name: str, dtype: str) -> None:
    z = np.concatenate([np.linspace(-9, 9, 37), [0.0]]).astype(dtype)
    pair = getattr(activations, f"{name}_pair")
    found = np.array([pair(v) for v in z])
    dashed = name.replace("_", "-")
    wanted = np.stack([table[dashed](z.astype("float64")) for table in (reference.ACTIVATIONS, reference.SLOPES)], 1)
    np.testing.assert_allclose(found, wanted, atol={"float32": 2e-6, "float64": 1e-14}[dtype])
    assert np.isnan(pair(z.dtype.type(np.nan))[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES[1:])
def test_pairs_of_losses(name: str, dtype: str) -> None:
    z, t = np.meshgrid(np.linspace(-4, 4, 17), [0.0, 1.0, 2.5])
    z, t = z.ravel().astype(dtype), t.ravel().astype(dtype)
    pair = getattr(losses, f"{name}_loss")
    found = np.array([pair(*both, z.dtype.type(0.75)) for both in zip(z, t, strict=True)]).T
    wanted = reference.LOSSES[name](z.astype("float64"), t.astype("float64"), 0.75)
    np.testing.assert_allclose(found, wanted, rtol={"float32": 1e-5, "float64": 1e-13}[dtype], atol=1e-6)


def tolerance(dtype: str) -> dict[str, float]:
    return {"rtol": {"float32": 1e-5, "float64": 1e-12}[dtype], "atol": {"float32": 1e-6, "float64": 1e-14}[dtype]}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 7, 33, 64])
def test_steps_of_optimizers(size: int, dtype: str) -> None:
    """Two steps of each kernel by itself, from a memory that is not empty, with decay."""
    for name, hat in [(name, False) for name in ("sgd", "momentum", "nesterov", "adam", "rmsprop")] + [("adam", True)]:
        p, m, v = random((size,), dtype, 1), random((size,), dtype, 2), random((size,), dtype, 3) ** 2
        rule = optimizers_module.Rule(0, m, v, p, np.zeros(0), 0.8, 0.95, 1e-3, 0, 0, 0, 0, 0, 0, hat)
        wide = [a.astype("float64") for a in (p, m, v)]
        twin = reference.Rule(name, 0.8, 0.95, 1e-3, epsilon_hat=hat, first=wide[1], second=wide[2])
        plain = wide[0]
        for time in (3, 4):
            g, keep, step = random((size,), dtype, time), 0.99, optimizers_module.Step(0.1, time, 1.0)
            plain = keep * plain - getattr(reference, name)(twin, plain, g.astype("float64"), 0.1, time)
            arguments = {
                "sgd": (0.1, keep),
                "momentum": (m, 0.1, keep, 0.8),
                "nesterov": (m, 0.1, keep, 0.8),
                "adam": (m, v, step, keep, rule),
                "rmsprop": (v, 0.1, keep, rule),
            }[name]
            getattr(optimizers, name)(p, g, *arguments)
            assert (g == 0).all()
        np.testing.assert_allclose(p, plain, **tolerance(dtype), err_msg=name)
        np.testing.assert_allclose(m, twin.first, **tolerance(dtype), err_msg=name)
        np.testing.assert_allclose(v, twin.second, **tolerance(dtype), err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 7, 33, 64])
def test_parts_of_optimizers(size: int, dtype: str) -> None:
    p, g, e = random((size,), dtype, 1), random((size,), dtype, 2), random((size,), dtype, 3)
    p[size // 2] = 0  # whose sign is 0
    wide = [a.astype("float64") for a in (p, g, e)]
    assert updates.sum_of_squares(g, 0, size) == pytest.approx(reference.sum_of_squares(g))
    assert updates.sum_of_squares(g, size // 2, size - size // 2) == pytest.approx(
        reference.sum_of_squares(g[size // 2 :])
    )
    assert optimizers.penalty_of(p, 0.2, 0.1) == pytest.approx(reference.penalty_of(wide[0], 0.2, 0.1))
    optimizers.regularise(p, g, 0.3, 0.2, 0.1)
    np.testing.assert_allclose(g, reference.regularise(*wide[:2], 0.3, 0.2, 0.1), **tolerance(dtype))
    for time in (1, 5, 10_000):
        optimizers.average(e, p, 0.9, time)
        wide[2] = reference.average(wide[2], wide[0], 0.9, time)
        np.testing.assert_allclose(e, wide[2], **tolerance(dtype))
    for n in (0, 1, 2, 7, 1_000):
        assert optimizers.whole_power(0.99, n) == pytest.approx(reference.whole_power(0.99, n), rel=1e-13)
    parts = [reference.sum_of_squares(a) for a in (p, g)]
    for clip in (0.1, 1e6):
        assert updates.clipping(np.array(parts), clip) == pytest.approx(reference.clipping([p, g], clip))
    w, scratch = random((size, 5), dtype), np.zeros(5, dtype)
    wanted = reference.limit_norms(w.astype("float64"), 0.9)
    optimizers.limit_norms(w, 0.9, scratch)
    np.testing.assert_allclose(w, wanted, **tolerance(dtype))


SHAPES = [(1, 1), (5, 9), (28, 28), (17, 33)]
RANGES = {"shift": 2.0, "rotation": 0.3, "scaling": 0.2, "shear": 0.2, "pen": 0.6, "mirror": 0.5}


@pytest.mark.parametrize("elastic", [0.0, 20.0])
@pytest.mark.parametrize(("h", "w"), SHAPES)
def test_pictures_step_by_step(h: int, w: int, elastic: float) -> None:
    """Each function of a changed picture by itself, on what its twin gave the one before."""
    key, kept = 12_345, {**RANGES, "elastic": elastic}
    change = augment.change_of(h, w, 7, 2.0, **kept)
    twin = reference.Change(**kept, elastic_sigma=2.0)
    canvases = augment.canvases_for(change, 1)
    canvas = augment_module.Canvas(*(part[0] for part in canvases))
    stride = canvas.field.shape[1] * canvas.field.shape[3]
    for axis in range(2):
        augment.elastic_field(change, np.uint32(key), axis, canvas.field)
        wanted = reference.elastic_field(h, w, 2.0, key, axis, stride)
        np.testing.assert_allclose(from_panels(canvas.field[2], h, w), wanted, atol=2e-6)
    augment.find_places(change, np.uint32(key), canvas)
    places = reference.find_places(twin, (h, w), key, stride)
    np.testing.assert_allclose(canvas.places.reshape(2, h, w), places, atol=1e-4)
    picture = np.random.default_rng(h).integers(0, 256, (h, w)).astype(float)
    canvas.picture[2:-2, 2:-2] = picture
    augment.sample(change, canvas)
    drawn = reference.sample(picture, canvas.places.reshape(2, h, w).astype(float))
    np.testing.assert_allclose(canvas.drawn[2:-2, 2:-2], drawn, atol=1e-3)
    for other in (key, 4):  # a thicker and a thinner pen
        augment.press(change, np.uint32(other), canvas)
        wanted = reference.press(drawn, 0.6 * reference.symmetric(other, 6))
        np.testing.assert_allclose(canvas.picture[2:-2, 2:-2], wanted, atol=1e-3)
    assert reference.symmetric(key, 6) * reference.symmetric(4, 6) < 0


@pytest.mark.parametrize(("b", "k", "h"), [(1, 1, 1), (7, 31, 33), (9, 33, 31), (28, 28, 28)])
def test_product(b: int, k: int, h: int) -> None:
    x, w = random((b, k), "float32"), random((k, h), "float32")
    x_p, w_p = to_panels(x, -(-b // 8) * 8), to_panels(w, -(-k // 32) * 32)
    out = to_panels(np.full((b, h), 9, "float32"), x_p.shape[1])
    augment.product(x_p, w_p, k, x_p.shape[1], out)
    np.testing.assert_allclose(from_panels(out, b, h), reference.dense(x, w, np.zeros(h)), atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 7, 33])
def test_noise_and_dropped_features(size: int, dtype: str) -> None:
    change = augment.change_of(0, 0, 7, 1.0, input_noise=0.3, dropout=0.4)
    out, key = random((2, size), dtype), 99
    before = out.copy()
    augment.add_noise(change, np.uint32(key), 1.0, out, 1)
    np.testing.assert_allclose(out[1], reference.add_noise(before[1], 0.3, key), atol=1e-6)
    noisy = out[1].copy()
    augment.drop_features(change, np.uint32(key), out, 1)
    assert (out[1] == reference.drop_features(noisy, 0.4, key)).all()
    assert (out[0] == before[0]).all()


def test_gaussians() -> None:
    for size, sigma in ((1, 2.0), (7, 0.5), (28, 4.0)):
        found = augment.gaussian(size, sigma)
        np.testing.assert_allclose(found, reference.gaussian(size, sigma), rtol=1e-4, atol=1e-9)


def test_twins_of_numbers_are_those_of_scipy() -> None:
    import scipy.stats  # 2 s, which every worker would take while it collects

    z = np.linspace(-9, 9, 101)
    np.testing.assert_allclose(reference.normal_distribution(z), scipy.special.ndtr(z), rtol=1e-12)
    np.testing.assert_allclose(reference.normal_density(z), scipy.stats.norm.pdf(z), rtol=1e-12)
    np.testing.assert_allclose(reference.logistic(z), scipy.special.expit(z), rtol=1e-12)
    np.testing.assert_allclose(reference.gelu(z), z * scipy.special.ndtr(z), rtol=1e-12)
    np.testing.assert_allclose(reference.softmax(np.stack([z, z[::-1]])), scipy.special.softmax([z, z[::-1]], axis=1))
    for name, x in (("exp", z), ("log", np.abs(z) + 1e-3), ("tanh", z), ("magnitude", z)):
        twin = {"magnitude": abs}.get(name) or getattr(math, name)
        np.testing.assert_allclose(getattr(reference, name)(x), [twin(v) for v in x], rtol=1e-15)
    assert [reference.whole_power(0.5, n) for n in (0, 1, 3)] == [1, 0.5, 0.125]


def test_twins_of_pictures_are_those_of_scipy() -> None:
    """A smoothed random field, bilinear sampling, and a pen as wide as one pixel's dilation or erosion."""
    picture = np.random.default_rng(0).integers(0, 256, (13, 17)).astype(float)
    where = np.random.default_rng(1).uniform(-3, 19, (2, 13, 17))
    wanted = scipy.ndimage.map_coordinates(picture, where, order=1, mode="grid-constant")
    np.testing.assert_allclose(reference.sample(picture, where), wanted, atol=1e-9)
    cross = scipy.ndimage.generate_binary_structure(2, 1)
    for pen, grey in ((1, scipy.ndimage.grey_dilation), (-1, scipy.ndimage.grey_erosion)):
        wanted = grey(picture, footprint=cross, mode="constant", cval=0)
        np.testing.assert_allclose(reference.press(picture, pen), wanted)
        np.testing.assert_allclose(reference.press(picture, pen / 4), picture + (wanted - picture) / 4)
    impulse = np.eye(29)[14]
    found = reference.gaussian(29, 2.0) @ impulse
    np.testing.assert_allclose(found, scipy.ndimage.gaussian_filter1d(impulse, 2.0, truncate=7), atol=1e-12)


def test_twins_of_places_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every random number at its end: a quarter turn, a shift, a mirror, a scale and a slant of 3 x 5 pixels."""
    monkeypatch.setattr(augmentation_twins, "symmetric", lambda key, place: 1.0)
    y, x = np.mgrid[:3, :5].astype(float)

    def found(**ranges: float) -> np.ndarray:
        return reference.find_places(reference.Change(**ranges), (3, 5), 1, 32)

    np.testing.assert_allclose(found(), [y, x])
    np.testing.assert_allclose(found(shift=2.0), [y - 2, x - 2])
    np.testing.assert_allclose(found(scaling=1.0), [(y - 1) / 2 + 1, (x - 2) / 2 + 2])
    np.testing.assert_allclose(found(rotation=math.pi / 2), [1 - (x - 2), 2 + (y - 1)], atol=1e-12)
    np.testing.assert_allclose(found(shear=0.5), [y, x - 0.5 * (y - 1)])
    monkeypatch.setattr(augmentation_twins, "symmetric", lambda key, place: -0.5 if place == 7 else 0.0)
    np.testing.assert_allclose(found(mirror=0.3), [y, 4 - x])


def test_twins_of_optimizers_by_hand() -> None:
    p, g = np.array([2.0, 0.0, -1.0]), np.array([1.0, 1.0, 4.0])
    assert reference.regularise(p, g, 0.5, 0.1, 0.2).tolist() == pytest.approx([1.0, 0.5, 1.7])
    assert reference.average(p, g, 0.9, 1).tolist() == pytest.approx([1.1, 0.9, 3.5])  # a tenth: the first step
    assert reference.average(p, g, 0.5, 10_000).tolist() == [1.5, 0.5, 1.5]
    assert reference.sum_of_squares(g) == 18
    assert reference.clipping([g, g], 3.0) == 0.5
    assert reference.clipping([g], 100.0) == 1


def test_twins_of_noise_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation_twins, "symmetric", lambda key, place: 1.0 if place < 4 else 0.0)
    assert reference.add_noise(np.array([5.0, 5.0]), 0.5, 0).tolist() == pytest.approx([5 + 3**0.5, 5])
    for module in (augmentation_twins, network_twins):
        monkeypatch.setattr(module, "mask_bits", lambda key, place: 2**31 - 1 + place)
    assert reference.drop_features(np.array([5.0, 6.0]), 0.5, 0).tolist() == [0, 6]
    assert reference.dropout_mask(0.5, 0, 0, 0, np.arange(1), 2).tolist() == [[0, 2]]


def test_twins_of_steps_by_hand() -> None:
    assert reference.gather(np.array([[1, 2], [3, 4]], np.uint8), np.array([1, 0]), 0.5).tolist() == [
        [1.5, 2],
        [0.5, 1],
    ]
    assert reference.normalised_sample_weight(None, 4).tolist() == [0.25] * 4
    assert reference.normalised_sample_weight(np.array([1.0, 3.0]), 2).tolist() == [0.25, 0.75]
    assert reference.identity(np.array([-1.0, 2.0])).tolist() == [-1, 2]
    x, y, parameters = np.array([[1.0, 2.0]]), np.array([1]), [np.zeros((2, 2)), np.zeros(2)]
    assert reference.train_steps(parameters, [(x, y)] * 1, 0.5) == (pytest.approx(math.log(2)), 1)
    assert [p.tolist() for p in parameters] == [[[-0.25, 0.25], [-0.5, 0.5]], [-0.25, 0.25]]


def test_twins_of_changed_pictures_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.array([[0, 200], [90, 0]], np.uint8)
    assert reference.change_picture(picture, reference.Change(), 0, 0, 0, 32).tolist() == picture.tolist()
    monkeypatch.setattr(augmentation_twins, "bell", lambda key, place: (-1.0, 1.0, 0.5, 0.0)[place])
    found = reference.change_picture(picture, reference.Change(pixel_noise=0.4), 0, 0, 0, 32)
    np.testing.assert_allclose(found, [[0, 255], [141, 0]])  # what is beyond 0 and 255 is cut off


# kernels whose twin has another name: the same mathematics, laid out otherwise
LAID_OUT = {
    "sparse_dense": "dense",
    "sparse_weight_gradient": "weight_gradient",
    "partial_logits": "dense",
    "sum_logits": "dense",
    "product": "dense",
    "output_input_gradient": "input_gradient",
    "output_weight_gradient": "weight_gradient",
    "output_bias_gradient": "weight_gradient",
    "invert": "gather",
    "count_blocks": "gather",
    "cut_blocks": "gather",
}
# kernels without a twin, or that no test calls by themselves, and why
EXCUSED = {
    "transpose": "moves numbers; its test compares with .T",
    "gather_labels": "moves numbers; a wrong label is another loss in test_training's runs",
    "change_picture": "test_augment compares it with its twin through batches.changed",
    "change_examples": "deals rows to threads; test_augment compares what it makes with change_picture",
    "batch_at": "places in buffers",
    "load": "calls the others of its module",
    "load_sample_weight": "sample weights of a batch; test_training's weighted runs are those of the twin",
    "loss_gradient": "one of the two losses; gradcheck's cases compare it",
    "activate_tile": "ReLU or nothing; test_dense compares what comes out",
    "times_slope": "a product with f′(z); test_input_gradient compares what comes out",
    "gradient_scale": "a number; test_training's runs of both rules are those of the twin",
    "clips": "a question",
    "flushed": "nothing or almost nothing; test_optimizers sees that memories fade to 0",
    "ranges": "places in buffers",
    "update_panel": "calls update, limit_norms and average; test_optimizers compares whole runs",
    "clip_and_update": "the same with clipping",
    "clipped_by": "calls sum_of_squares and clipping",
    "add_to_parameters": "a sum; test_gradients compares steps that are taken apart with whole ones",
}
# other tests that check a twin by something that is no kernel
WITHOUT_KERNELS = (
    "test_elastic_fields_are_as_large_as_simard_says",
    "test_fifty_steps_are_those_of_pytorch",
    "test_clipping_and_the_limit_of_norms_are_those_of_pytorch",
)
NO_TWINS_IN = {
    "measure": "repeats kernels, for timings",
    "layers": "which kernels a kind of layer calls",
    "step": "test_training, gradcheck and test_inference compare whole runs, gradients and predictions",
    "gradients": "test_gradients compares steps that are taken apart with whole ones",
    "memory": "views of buffers",
    "strokes": "invents a data set; test_datasets looks at its pictures",
    "barrier": "waits",
    "clock": "reads a counter",
}


def all_kernels() -> Iterator[tuple[str, object]]:
    for found in pkgutil.iter_modules(kernels.__path__):
        module = importlib.import_module(f"fastnn.kernels.{found.name}")
        for name, function in vars(module).items():
            if hasattr(function, "py_func") and function.py_func.__module__ == module.__name__:
                assert function.py_func.__doc__ or name.startswith("_"), name
                if not name.startswith("_") and found.name not in NO_TWINS_IN:
                    yield name, function


@cache
def words_of_tests() -> dict[str, frozenset[str]]:
    """What each test names: ``reference.NAME``, other attributes by their last part, and strings.

    Where a test takes functions of the reference by ``getattr``, its strings are names of both.
    """
    found = {}
    for path in sorted((ROOT / "tests").glob("test_*.py")):
        for test in ast.parse(path.read_text()).body:
            if not isinstance(test, ast.FunctionDef):
                continue
            nodes = list(ast.walk(test))
            texts = {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
            words = texts | {n.id for n in nodes if isinstance(n, ast.Name)}
            for node in nodes:
                if isinstance(node, ast.Attribute):
                    ours = isinstance(node.value, ast.Name) and node.value.id == "reference"
                    words.add(f"reference.{node.attr}" if ours else node.attr)
            if "getattr(reference, " in ast.unparse(test):
                words |= {f"reference.{text}" for text in texts}
            found[test.name] = frozenset(words)
    return found


def test_every_kernel_has_a_twin_and_a_test_that_compares_them() -> None:
    names = {name for name, _ in all_kernels()}
    assert {*LAID_OUT, *EXCUSED} <= names, "a row of the tables names no kernel"
    for name in sorted(names - {*EXCUSED}):
        if name in of_registries():
            continue  # the two tests of pairs compare them by the names of activations and losses
        twin = LAID_OUT.get(name, name)
        assert callable(getattr(reference, twin, None)), f"{name} has no twin in reference/"
        assert any({name, f"reference.{twin}"} <= words for words in words_of_tests().values()), (
            f"no test compares {name}"
        )


def of_registries() -> set[str]:
    """Kernels that go by the names of activations (but the identity, which is no second pass) and losses."""
    pairs = {f"{name.replace('-', '_')}_pair" for name in {*reference.ACTIVATIONS} - {"identity"}}
    return pairs | {f"{name}_loss" for name in reference.LOSSES}


def test_pairs_are_those_of_the_registries() -> None:
    others = {"elementwise_loss"}
    found = {name for name, _ in all_kernels() if name.endswith(("_pair", "_loss"))}
    assert found - others == of_registries()


def test_every_twin_is_reached_by_finite_differences_or_checked_without_kernels() -> None:
    reached: set[str] = set()
    kinds = [gradcheck.Case((3, 4, 2), 2, dropout=0.5), gradcheck.Case((3, 4, 2), 2, loss="squared")]
    questions = [gradcheck.question(kind, 0) for kind in kinds]
    sys.setprofile(lambda frame, event, _: reached.add(frame.f_code.co_name) if event == "call" else None)
    try:
        for asked in questions:
            gradcheck.finite_difference(asked, 0, np.arange(2))
            reference.gradient(asked.parameters, asked.x, asked.y, asked.kind)
    finally:
        sys.setprofile(None)
    assert {"activate", "slope", "dense", "input_gradient", "bias_gradient", "weight_gradient"} <= reached
    # gradcheck.CASES has all activations and losses; the optimizers are compared with PyTorch's by their names
    for table in (reference.ACTIVATIONS, reference.LOSSES, reference.OPTIMIZERS):
        reached |= {function.__name__ for function in table.values()}
    for name, words in words_of_tests().items():
        if name.startswith("test_twins_") or name in WITHOUT_KERNELS:
            reached |= {word.removeprefix("reference.") for word in words if word.startswith("reference.")}
    ours = {name: f for name, f in vars(reference).items() if getattr(f, "__module__", "") == reference.__name__}
    twins = {name for name, f in ours.items() if inspect.isfunction(f)} | {"exp", "log", "tanh", "magnitude"}
    unreached = sorted(twins - reached)
    assert not unreached
