"""Each kernel against its twin, at awkward sizes: 1, primes, one short of a tile or panel, one over."""

from __future__ import annotations

import inspect
from types import ModuleType

import numpy as np
import pytest

from fastnn import reference
from fastnn.kernels import blocks as blocks_module
from fastnn.kernels import dense as dense_module
from fastnn.kernels import gather as gather_module
from fastnn.kernels import output as output_module
from fastnn.kernels import random as kernel_random
from fastnn.kernels.host import SHAPE
from fastnn.kernels.jit import kernel, standalone
from fastnn.kernels.layout import Layout, aligned_zeros, from_panels, list_capacity, to_panels
from fastnn.kernels.steps import Data
from fastnn.kernels.tiles import BLOCK

DTYPES = ("float32", "float64")
SIZES = [(1, 1, 1), (2, 3, 5), (8, 32, 16), (7, 31, 33), (9, 33, 31), (17, 65, 64), (64, 97, 40), (300, 19, 70)]
W = {dtype: SHAPE.panel_width(np.dtype(dtype).itemsize) for dtype in DTYPES}


class Callable:
    """The functions of a module, compiled so that Python can call them."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> object:
        found = getattr(self._module, name)
        inner = hasattr(found, "py_func") and found.targetoptions.get("no_cpython_wrapper")
        setattr(self, name, standalone(found) if inner else found)
        return getattr(self, name)


blocks, dense, gather, output = map(Callable, (blocks_module, dense_module, gather_module, output_module))


def up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def random(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def close(found: np.ndarray, wanted: np.ndarray, dtype: str) -> None:
    tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
    assert found.shape == wanted.shape
    scale = max(1.0, float(np.abs(wanted).max(initial=0)))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * scale)


def rows_of(b: int) -> int:
    return up(b, SHAPE.rows)


def panels(matrix: np.ndarray) -> np.ndarray:
    """Activations: room for whole panels of samples."""
    return to_panels(matrix, up(len(matrix), W[str(matrix.dtype)]))


def weight_panels(w: np.ndarray) -> np.ndarray:
    return to_panels(w, up(len(w), W[str(w.dtype)]))


def bias_panels(b: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(to_panels(b[None])[:, 0])


def output_panels(w: np.ndarray) -> np.ndarray:
    """Output weights (K, C) as the kernels keep them: transposed, (K/W, C, W)."""
    return to_panels(np.ascontiguousarray(w.T), up(w.shape[1], SHAPE.rows))


def logit_panels(z: np.ndarray) -> np.ndarray:
    """(B, C) → (B/W, C, W)."""
    return to_panels(np.ascontiguousarray(z.T), up(z.shape[1], SHAPE.rows))


def padded(y: np.ndarray) -> np.ndarray:
    """Labels with room for whole panels of samples; what is beyond must not count."""
    return np.concatenate([y, np.zeros(128, y.dtype)]).astype(np.int32)


def square(dtype: str, count: int = 1) -> np.ndarray:
    return aligned_zeros((count, W[dtype], W[dtype]), np.dtype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("b", "k", "h"), SIZES)
def test_dense_relu(b: int, k: int, h: int, dtype: str) -> None:
    x, w, bias = random((b, k), dtype), random((k, h), dtype), random((h,), dtype)
    a = panels(np.full((b, h), 9, dtype))
    dense.dense_relu(panels(x), weight_panels(w), bias_panels(bias), k, rows_of(b), a, (0, len(a)))
    close(from_panels(a, b, h), reference.dense_relu(x, w, bias), dtype)


def test_dense_relu_only_writes_its_own_panels() -> None:
    x, w = random((8, 5), "float32"), random((5, 4 * W["float32"]), "float32")
    a = panels(np.full((8, w.shape[1]), 9, "float32"))
    dense.dense_relu(panels(x), weight_panels(w), bias_panels(w[0] * 0), 5, 8, a, (1, 3))
    assert (a[0] == np.where(np.arange(a.shape[1])[:, None] < 8, 9, 0)).all()
    assert (a[3] == a[0]).all()
    assert not (a[1] == a[0]).all()


def test_relu_keeps_nan_visible() -> None:
    x = np.full((3, 4), np.nan, "float32")
    a = panels(np.zeros((3, 6), "float32"))
    dense.dense_relu(
        panels(x),
        weight_panels(np.ones((4, 6), "float32")),
        bias_panels(np.ones(6, "float32")),
        4,
        rows_of(3),
        a,
        (0, len(a)),
    )
    assert np.isnan(from_panels(a, 3, 6)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose(dtype: str) -> None:
    source = panels(random((2 * W[dtype], W[dtype]), dtype))[0]
    target = square(dtype)[0]
    dense.transpose(source, W[dtype], target)
    assert (target == source[W[dtype] :].T).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("b", "k", "h"), SIZES)
def test_weight_gradient(b: int, k: int, h: int, dtype: str) -> None:
    x, dz, w, bias = random((b, k), dtype), random((b, h), dtype), random((k, h), dtype, 1), random((h,), dtype, 1)
    w_p, b_p = weight_panels(w), bias_panels(bias)
    dense.weight_gradient(panels(x), panels(dz), k, rows_of(b), w_p, b_p, (0, len(w_p)))
    dw, db = reference.weight_gradient(x, dz)
    close(from_panels(w_p, k, h), w + dw, dtype)
    close(b_p.reshape(-1)[:h], bias + db, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("b", "k", "h"), [*SIZES, (9, 40, 33 * 9)])
def test_input_gradient(b: int, k: int, h: int, dtype: str) -> None:
    dz, w, a = random((b, h), dtype), random((k, h), dtype), random((b, k), dtype, 1)
    dx = panels(np.full((b, k), 9, dtype))
    scratch = square(dtype, dense.PANEL_BLOCK)
    dense.input_gradient(panels(dz), weight_panels(w), panels(a), h, rows_of(b), scratch, dx, (0, len(dx)))
    close(from_panels(dx, b, k), reference.input_gradient(dz, w, a), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("b", "k", "c"), [(1, 1, 1), (5, 31, 2), (33, 64, 10), (40, 65, 9), (64, 128, 33)])
def test_logits(b: int, k: int, c: int, dtype: str) -> None:
    a, w, bias = random((b, k), dtype), random((k, c), dtype), random((c,), dtype)
    w_p = output_panels(w)
    count, groups = up(b, W[dtype]) // W[dtype], len(w_p)
    parts = aligned_zeros((groups * count, w_p.shape[1], W[dtype]), np.dtype(dtype))
    bias_p = bias_panels(np.concatenate([bias, np.zeros(up(c, SHAPE.rows) - c, dtype)]))
    output.partial_logits(panels(a), w_p, bias_p, k, rows_of(b), square(dtype)[0], parts, (0, groups))
    z = aligned_zeros((count, w_p.shape[1], W[dtype]), np.dtype(dtype))
    output.sum_logits(parts, groups, rows_of(b), z)
    close(from_panels(z, c, b).T, reference.logits(a, w, bias), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("b", "c", "size"), [(1, 1, 1), (5, 2, 1), (33, 10, 3), (31, 7, 30), (64, 40, 100)])
def test_softmax_cross_entropy(b: int, c: int, size: float, dtype: str) -> None:
    z = random((b, c), dtype) * np.dtype(dtype).type(size)
    y = np.random.default_rng(1).integers(0, c, b)
    z_p = logit_panels(z)
    dz_p = z_p * 0 + 9
    loss, right = output.softmax_cross_entropy(z_p, padded(y), b, c, 1 / b, square(dtype)[0], dz_p)
    wanted_loss, wanted_right, wanted = reference.softmax_cross_entropy(z.astype("float64"), y)
    assert loss / b == pytest.approx(wanted_loss, rel={"float32": 1e-5, "float64": 1e-12}[dtype])
    assert right == wanted_right
    close(from_panels(dz_p, c, b).T, wanted, dtype)
    assert (dz_p[-1, :c, (b - 1) % W[dtype] + 1 :] == 0).all()  # samples beyond the batch


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_softmax_shows_what_is_not_finite(bad: float, dtype: str) -> None:
    """The flags of the compiler must not hide a divergence."""
    for row, column in ((0, 0), (2, 3), (4, 1)):
        z = random((5, 4), dtype)
        z[row, column] = bad
        y = np.full(5, column)
        loss, _ = output.softmax_cross_entropy(logit_panels(z), padded(y), 5, 4, 1.0, square(dtype)[0], logit_panels(z))
        assert not np.isfinite(loss)


@kernel
def exp_all(x, out):
    for i in range(x.size):
        out[i] = output_module.exp(x[i])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-14)])
def test_exp(dtype: str, tolerance: float) -> None:
    x = -np.concatenate([np.linspace(0, 87, 10_001), [1e-30, 0.0]]).astype(dtype)
    out = np.empty_like(x)
    exp_all(x, out)
    np.testing.assert_allclose(out, np.exp(x.astype("float64")), rtol=tolerance)
    exp_all(np.array([-1e30, -np.inf, np.nan], dtype), out := np.zeros(3, dtype))
    assert (out[:2] < 1e-37).all()
    assert np.isnan(out[2])


@kernel
def log_all(x, out):
    for i in range(x.size):
        out[i] = output_module.log(x[i])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-7), ("float64", 4e-16)])
def test_log(dtype: str, tolerance: float) -> None:
    """Against NumPy, from 1 (where it is 0) to more classes than there can be; what is not a number stays so."""
    x = np.concatenate([np.linspace(1, 12, 10_001), np.geomspace(1, 2e6, 10_001), [0.5, 1e-3]]).astype(dtype)
    out = np.empty_like(x)
    log_all(x, out)
    np.testing.assert_allclose(out, np.log(x.astype("float64")), rtol=tolerance, atol=tolerance)
    log_all(np.array([np.nan], dtype), out := np.zeros(1, dtype))
    assert np.isnan(out[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("b", "k", "c"), [(1, 1, 1), (5, 31, 2), (33, 64, 10), (40, 65, 9), (70, 128, 33)])
def test_output_gradients(b: int, k: int, c: int, dtype: str) -> None:
    a, w, dz = random((b, k), dtype), random((k, c), dtype), random((b, c), dtype, 1)
    dx = panels(np.full((b, k), 9, dtype))
    dz_p, w_p, a_p = logit_panels(dz), output_panels(w), panels(a)
    output.output_input_gradient(dz_p, w_p, a_p, c, rows_of(b), dx, (0, len(dx)))
    close(from_panels(dx, b, k), reference.input_gradient(dz, w, a), dtype)
    output.output_weight_gradient(a_p, dz_p, b, w_p, (0, len(w_p)))
    bias = bias_panels(np.zeros(up(c, SHAPE.rows), dtype))
    output.output_bias_gradient(dz_p, b, c, bias)
    dw, db = reference.weight_gradient(a, dz)
    close(from_panels(w_p, c, k).T, w + dw, dtype)
    close(bias.reshape(-1)[:c], db, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("features", [1, 31, 32, 33, 100])
def test_gather(features: int, kind: str, dtype: str) -> None:
    data = np.random.default_rng(0).integers(0, 256, (20, features)).astype(kind)
    order = np.random.default_rng(1).permutation(20)
    x = panels(np.full((8, features), 9, dtype))
    gather.gather(Data(data, np.zeros(20, np.int32), order, 0.5), 3, 5, 8, x)
    close(from_panels(x, 5, features), reference.gather(data, order[3:8], 0.5), dtype)
    assert (x[:, 5:8] == 0).all()


@pytest.mark.parametrize("n", [1, 2, 3, 100])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (0, 1), (7, 0), (2**63 - 1, 999_999)])
def test_shuffle(n: int, seed: int, epoch: int) -> None:
    order = np.full(n, -1)
    kernel_random.shuffle(seed, epoch, order)
    assert (order == reference.shuffle(n, seed, epoch)).all()
    assert sorted(order) == list(range(n))


def test_shuffle_puts_every_example_everywhere_equally_often() -> None:
    """24,000 orders of 6: each of 36 (example, place) pairs 4,000 times, within five standard deviations."""
    counts, order = np.zeros((6, 6)), np.empty(6, np.int64)
    for epoch in range(24_000):
        kernel_random.shuffle(1, epoch, order)
        counts[order, np.arange(6)] += 1
    assert np.abs(counts - 4_000).max() < 5 * (24_000 * 5 / 36) ** 0.5


def sparse_case(b: int, k: int, kind: str, dtype: str, zeros: float = 0.7):
    generator = np.random.default_rng([b, k])
    data = generator.integers(1, 256, (b + 9, k)).astype(kind)
    data *= (generator.random((b + 9, k)) >= zeros).astype(kind)
    starts = np.zeros(len(data) + 1, np.int64)
    blocks.count_blocks(data, starts)
    np.cumsum(starts, out=starts)
    index, values = np.zeros(starts[-1], np.uint16), np.zeros((starts[-1], BLOCK), kind)
    blocks.cut_blocks(data, starts, index, values)
    count, entries = -(-k // BLOCK), -(-k // BLOCK) * list_capacity(b)
    lists = blocks.Lists(
        np.zeros(count, np.uint64), np.zeros(entries, np.uint16), aligned_zeros((entries, BLOCK), np.dtype(dtype))
    )
    order = generator.permutation(b + 9)
    cut = Data(blocks.Blocks(starts, index, values), np.zeros(1, np.int32), order, 0.25)
    blocks.invert(cut, 9, b, lists)  # another batch: nothing of it may be left
    blocks.invert(cut, 2, b, lists)
    return reference.gather(data, order[2 : 2 + b], 0.25).astype(dtype), lists


@pytest.mark.parametrize("zeros", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["uint8", "float64"])
@pytest.mark.parametrize(("b", "k", "h"), [(1, 1, 1), (5, 7, 31), (33, 40, 33), (64, 97, 70), (30, 5, 100)])
def test_sparse_input(b: int, k: int, h: int, kind: str, dtype: str, zeros: float) -> None:
    x, lists = sparse_case(b, k, kind, dtype, zeros)
    w, bias, dz = random((k, h), dtype), random((h,), dtype), random((b, h), dtype, 1)
    a, w_p, b_p = panels(np.full((b, h), 9, dtype)), weight_panels(w), bias_panels(bias)
    blocks.sparse_relu(lists, w_p, b_p, rows_of(b), a, (0, len(a)))
    wanted = reference.dense_relu(x.astype("float64"), w, bias)
    close(from_panels(a, b, h), wanted, dtype)
    blocks.sparse_weight_gradient(lists, panels(dz), rows_of(b), w_p, b_p, (0, len(w_p)))
    dw, db = reference.weight_gradient(x.astype("float64"), dz)
    close(from_panels(w_p, k, h), w + dw, dtype)
    close(b_p.reshape(-1)[:h], bias + db, dtype)


@pytest.mark.parametrize("sizes", [(3, 2), (784, 128, 10), (5, 33, 64, 65, 7), (33, 1, 1), (17, 16, 8), (17, 32, 8)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pack_and_unpack_are_inverse_and_pad_with_zeros(sizes: tuple[int, ...], dtype: str) -> None:
    plain = []
    for k, h in zip(sizes[:-1], sizes[1:], strict=True):
        plain += [random((k, h), dtype), random((h,), dtype)]
    layout = Layout(sizes, np.dtype(dtype))
    buffer = layout.pack(plain)
    assert buffer.ctypes.data % 64 == 0
    assert (buffer != 0).sum() == sum(p.size for p in plain)
    unpacked = layout.unpack(buffer)
    for found, wanted in zip(unpacked, plain, strict=True):
        assert (found == wanted).all()
        assert found.flags.c_contiguous
        assert not np.shares_memory(found, buffer)  # a model must not move when training goes on


# a kernel's twin is a function of the reference by the same name, or the one it is a part of
TWINS = {
    "sparse_relu": "dense_relu",
    "sparse_weight_gradient": "weight_gradient",
    "output_weight_gradient": "weight_gradient",
    "output_bias_gradient": "weight_gradient",
    "output_input_gradient": "input_gradient",
    "partial_logits": "logits",
    "sum_logits": "logits",
    "exp": "softmax",
    "log": "cross_entropy",
    "gather_labels": "gather",
    "invert": "gather",
    "count_blocks": "gather",
    "cut_blocks": "gather",
    "transpose": "input_gradient",
    "bias_gradient": "weight_gradient",
    "mix": "shuffle",
    "stream": "shuffle",
    "uniform": "shuffle",
    "spread": "shuffle",
}


def test_every_kernel_has_a_twin() -> None:
    for module in (dense_module, output_module, gather_module, blocks_module, kernel_random):
        for name, function in vars(module).items():
            public = hasattr(function, "py_func") and not name.startswith("_")
            if public and function.py_func.__module__ == module.__name__:
                assert inspect.isfunction(getattr(reference, TWINS.get(name, name))), name
                assert function.py_func.__doc__, name
