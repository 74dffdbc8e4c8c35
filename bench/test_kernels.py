"""Each kernel beside the same work in NumPy, at several sizes; parity is asserted before anything is timed."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import reference
from fastnn.kernels.host import SHAPE
from fastnn.kernels.layout import aligned_zeros, from_panels, to_panels
from fastnn.kernels.losses import Examples
from fastnn.kernels.measure import (
    dense_layer,
    forward_product,
    gradient_product,
    input_product,
    softmax_many,
    sparse_forward,
    sparse_gradient,
    sparse_layer,
)

W = SHAPE.panel_width(4)
SIZES = [(64, 784, 128), (256, 784, 128), (128, 512, 512), (256, 2048, 2048)]


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(list(shape)).standard_normal(shape).astype(np.float32)


def repeats_of(flops: float) -> int:
    return max(1, int(5e8 / flops))


def up(n: int) -> int:
    return -(-n // W) * W


@pytest.mark.parametrize("engine", ["kernel", "numpy"])
@pytest.mark.parametrize(("b", "k", "h"), SIZES)
def test_dense_relu(measure, engine: str, b: int, k: int, h: int) -> None:  # type: ignore[no-untyped-def]
    x, w, bias = random(b, k), random(k, h), random(h)
    flops = 2 * b * k * h
    if engine == "numpy":
        measure(lambda: reference.relu(reference.dense(x, w, bias)), flops)
        return
    out = to_panels(np.zeros((b, h), np.float32))
    n = repeats_of(flops)
    panels = to_panels(x), to_panels(w, up(k)), np.ascontiguousarray(to_panels(bias[None])[:, 0])
    forward_product(*panels, k, b, out, 1)
    np.testing.assert_allclose(
        from_panels(out, b, h), reference.relu(reference.dense(x, w, bias)), atol=1e-2, rtol=1e-3
    )
    measure(lambda: forward_product(*panels, k, b, out, n), flops, n, calls=n)


@pytest.mark.parametrize("engine", ["kernel", "numpy"])
@pytest.mark.parametrize(("b", "k", "h"), SIZES)
def test_weight_gradient(measure, engine: str, b: int, k: int, h: int) -> None:  # type: ignore[no-untyped-def]
    """The kernel adds to the weights in the same pass; NumPy only makes the gradient."""
    x, dz = random(b, k), random(b, h)
    flops = 2 * b * k * h
    if engine == "numpy":
        measure(lambda: reference.weight_gradient(x, dz), flops)
        return
    n = repeats_of(flops)
    w, bias = to_panels(np.zeros((k, h), np.float32), up(k)), aligned_zeros((up(h) // W, W), np.dtype("f4"))
    x_p, dz_p = to_panels(x), to_panels(dz)
    gradient_product(x_p, dz_p, k, b, w, bias, 1)
    np.testing.assert_allclose(from_panels(w, k, h), x.T @ dz, atol=1e-2, rtol=1e-3)
    measure(lambda: gradient_product(x_p, dz_p, k, b, w, bias, n), flops, n, calls=n)


@pytest.mark.parametrize("engine", ["kernel", "numpy"])
@pytest.mark.parametrize(("b", "k", "h"), [(64, 128, 128), (128, 512, 512), (256, 2048, 2048)])
def test_input_gradient(measure, engine: str, b: int, k: int, h: int) -> None:  # type: ignore[no-untyped-def]
    dz, w, a = random(b, h), random(k, h), random(b, k)
    flops = 2 * b * k * h
    if engine == "numpy":
        measure(lambda: reference.input_gradient(dz, w, a > 0), flops)
        return
    n = repeats_of(flops)
    dx, panels = to_panels(np.zeros((b, k), np.float32)), (to_panels(dz), to_panels(w, up(k)), to_panels(a))
    scratch = aligned_zeros((8, W, W), np.dtype("f4"))
    input_product(*panels, scratch, dx, 1)
    np.testing.assert_allclose(from_panels(dx, b, k), reference.input_gradient(dz, w, a > 0), atol=1e-2, rtol=1e-3)
    measure(lambda: input_product(*panels, scratch, dx, n), flops, n, calls=n)


@pytest.mark.parametrize("engine", ["kernel", "numpy"])
@pytest.mark.parametrize(("b", "c"), [(64, 10), (256, 10), (256, 1000)])
def test_softmax_cross_entropy(measure, engine: str, b: int, c: int) -> None:  # type: ignore[no-untyped-def]
    z, y = random(b, c), np.arange(b) % c
    if engine == "numpy":
        measure(lambda: reference.softmax_cross_entropy(z, y))
        return
    z_p = to_panels(np.ascontiguousarray(z.T), -(-c // SHAPE.rows) * SHAPE.rows)
    dz, scratch = to_panels(np.zeros((z_p.shape[1], b), np.float32)), aligned_zeros((W, W), np.dtype("f4"))
    batch = Examples(y.astype(np.int32), np.ones(b, np.float32), b)
    softmax_many(z_p, batch, c, scratch, dz, 1)
    wanted = reference.softmax_cross_entropy(z, y)[2] * b
    np.testing.assert_allclose(from_panels(dz, c, b).T, wanted, atol=1e-5)
    measure(lambda: softmax_many(z_p, batch, c, scratch, dz, 100), calls=100)


@pytest.mark.parametrize("engine", ["sparse", "dense"])
@pytest.mark.parametrize("density", [0.1, 0.28, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("work", ["forward", "gradient"])
def test_sparse_first_layer(measure, work: str, density: float, engine: str) -> None:  # type: ignore[no-untyped-def]
    """64 x 784 x 128 with that share of its blocks of 4 features not empty: where sparse input pays."""
    from fastnn.kernels.layout import list_capacity
    from fastnn.kernels.sparse import Lists

    b, k, h = 64, 784, 128
    held = np.random.default_rng(0).random((b, k // 4)) < density
    x = random(b, k) * held.repeat(4, axis=1)
    w, dz = random(k, h), random(b, h)
    w_p, dz_p, out, x_p = to_panels(w, up(k)), to_panels(dz), to_panels(np.zeros((b, h), np.float32)), to_panels(x)
    bias = aligned_zeros((h // W, W), np.dtype("f4"))
    capacity = list_capacity(b)
    lists = Lists(
        (np.arange(k // 4) * capacity + held.sum(axis=0)).astype(np.uint64),
        np.zeros(k // 4 * capacity, np.uint16),
        aligned_zeros((k // 4 * capacity, 4), np.dtype("f4")),
    )
    for block in range(k // 4):
        samples = np.flatnonzero(held[:, block])
        lists.sample[block * capacity : block * capacity + len(samples)] = samples
        lists.values[block * capacity : block * capacity + len(samples)] = x[samples, 4 * block : 4 * block + 4]
    n = 50
    if work == "forward":
        sparse_forward(lists, w_p, bias, b, out, 1)
        np.testing.assert_allclose(from_panels(out, b, h), np.maximum(x @ w, 0), atol=1e-3)
        calls = {
            "sparse": lambda: sparse_forward(lists, w_p, bias, b, out, n),
            "dense": lambda: forward_product(x_p, w_p, bias, k, b, out, n),
        }
    else:
        sparse_gradient(lists, dz_p, b, w_p, bias, 1)
        np.testing.assert_allclose(from_panels(w_p, k, h), w + x.T @ dz, atol=1e-3)
        calls = {
            "sparse": lambda: sparse_gradient(lists, dz_p, b, w_p, bias, n),
            "dense": lambda: gradient_product(x_p, dz_p, k, b, w_p, bias, n),
        }
    measure(calls[engine], 2 * b * k * h, n, calls=n)


@pytest.mark.parametrize("engine", ["sparse", "dense"])
@pytest.mark.parametrize("zeros", [0.5, 0.7, 0.9, 0.97])
@pytest.mark.parametrize(("b", "k", "h"), [(64, 128, 128), (128, 512, 512)])
def test_hidden_layer_of_sparse_activations(measure, b: int, k: int, h: int, zeros: float, engine: str) -> None:  # type: ignore[no-untyped-def]
    """Whether a hidden layer gains from the zeros that ReLU leaves, when they are inverted anew each step."""
    from fastnn.kernels.layout import list_capacity
    from fastnn.kernels.sparse import Lists

    a = np.abs(random(b, k)) * (np.random.default_rng(0).random((b, k)) >= zeros)
    w, dz, bias = random(k, h) / 100, random(b, h) / 100, aligned_zeros((h // W, W), np.dtype("f4"))
    a_p, w_p, dz_p, out = to_panels(a), to_panels(w, up(k)), to_panels(dz), to_panels(np.zeros((b, h), np.float32))
    entries = k // 4 * list_capacity(b)
    lists = Lists(
        np.zeros(k // 4, np.uint64), np.zeros(entries, np.uint16), aligned_zeros((entries, 4), np.dtype("f4"))
    )
    n = repeats_of(4 * b * k * h)
    calls = {
        "sparse": lambda times: sparse_layer(a_p, lists, w_p, bias, b, out, dz_p, times),
        "dense": lambda times: dense_layer(a_p, w_p, bias, b, out, dz_p, times),
    }
    calls[engine](1)
    np.testing.assert_allclose(from_panels(out, b, h), np.maximum(a @ w, 0), atol=1e-4)
    np.testing.assert_allclose(from_panels(w_p, k, h), w + a.T @ dz, atol=1e-3)
    blocks = (a.reshape(b, -1, 4) != 0).any(axis=2).mean()
    measure(lambda: calls[engine](n), 4 * b * k * h, n, calls=n, blocks_not_empty=round(float(blocks), 2))


def test_how_sparse_hidden_layers_are(benchmark) -> None:  # type: ignore[no-untyped-def]
    """The share of zeros after ReLU in a trained net, and of blocks of 4 units that hold anything."""
    from fastnn.datasets import load
    from fastnn.datasets.named import find
    from fastnn.tools.bench import random_dataset
    from fastnn.training.run import Training
    from fastnn.training.settings import Settings

    data = load("mnist") if find("mnist") else random_dataset(5_000)
    run = Training(data, Settings((128, 128), 3, 64, 0.1))
    benchmark.pedantic(lambda: list(run), rounds=1)
    model, x = run.model(), data.train.x[:2_000] / 255
    run.close()
    for layer, a in enumerate(reference.forward(model.parameters, x)[1][1:]):
        zeros, blocks = (a == 0).mean(), (a.reshape(len(a), -1, 4) != 0).any(axis=2).mean()
        benchmark.extra_info[f"layer {layer}"] = f"{zeros:.0%} zeros, {blocks:.0%} of blocks not empty"
        assert 0 < zeros < 1
