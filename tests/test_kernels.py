"""Each kernel against its twin, at awkward sizes: 1, primes, one short of a tile or panel, one over."""

from __future__ import annotations

import numpy as np
import pytest
from panels import (
    DTYPES,
    Callable,
    W,
    bias_panels,
    close,
    logit_panels,
    output_panels,
    padded,
    panels,
    random,
    rows_of,
    square,
    up,
    weight_panels,
)

from fastnn import reference
from fastnn.kernels import activations as activations_module
from fastnn.kernels import batch as batch_module
from fastnn.kernels import dense as dense_module
from fastnn.kernels import losses as losses_module
from fastnn.kernels import output as output_module
from fastnn.kernels import random as kernel_random
from fastnn.kernels import sparse as sparse_module
from fastnn.kernels.host import SHAPE
from fastnn.kernels.layout import Layout, aligned_zeros, from_panels, list_capacity
from fastnn.kernels.memory import Data
from fastnn.kernels.tiles import BLOCK
from fastnn.network import Network
from fastnn.training.settings import ACTIVATIONS, LOSSES

SIZES = [(1, 1, 1), (2, 3, 5), (8, 32, 16), (7, 31, 33), (9, 33, 31), (17, 65, 64), (64, 97, 40), (300, 19, 70)]
activations, batches, dense = Callable(activations_module), Callable(batch_module), Callable(dense_module)
losses, output, sparse = Callable(losses_module), Callable(output_module), Callable(sparse_module)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("b", "k", "h"), SIZES)
def test_dense(b: int, k: int, h: int, dtype: str) -> None:
    x, w, bias = random((b, k), dtype), random((k, h), dtype), random((h,), dtype)
    a = panels(np.full((b, h), 9, dtype))
    dense.dense(panels(x), weight_panels(w), bias_panels(bias), k, rows_of(b), a, (0, len(a)), None)
    close(from_panels(a, b, h), reference.relu(reference.dense(x, w, bias)), dtype)


def test_dense_only_writes_its_own_panels() -> None:
    x, w = random((8, 5), "float32"), random((5, 4 * W["float32"]), "float32")
    a = panels(np.full((8, w.shape[1]), 9, "float32"))
    dense.dense(panels(x), weight_panels(w), bias_panels(w[0] * 0), 5, 8, a, (1, 3), None)
    assert (a[0] == np.where(np.arange(a.shape[1])[:, None] < 8, 9, 0)).all()
    assert (a[3] == a[0]).all()
    assert not (a[1] == a[0]).all()


def test_relu_keeps_nan_visible() -> None:
    x = np.full((3, 4), np.nan, "float32")
    a = panels(np.zeros((3, 6), "float32"))
    dense.dense(
        panels(x),
        weight_panels(np.ones((4, 6), "float32")),
        bias_panels(np.ones(6, "float32")),
        4,
        rows_of(3),
        a,
        (0, len(a)),
        None,
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
    b_p[:] = 0
    dense.bias_gradient(panels(dz), rows_of(b), b_p, (0, len(b_p)))
    close(b_p.reshape(-1)[:h], reference.bias_gradient(dz), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("b", "k", "h"), [*SIZES, (9, 40, 33 * 9)])
def test_input_gradient(b: int, k: int, h: int, dtype: str) -> None:
    dz, w, a = random((b, h), dtype), random((k, h), dtype), random((b, k), dtype, 1)
    dx = panels(np.full((b, k), 9, dtype))
    scratch = square(dtype, dense.PANEL_BLOCK)
    below = activations.Below(None, panels(a))
    dense.input_gradient(panels(dz), weight_panels(w), h, rows_of(b), scratch, dx, (0, len(dx)), below)
    close(from_panels(dx, b, k), reference.input_gradient(dz, w, a > 0), dtype)


@pytest.mark.parametrize("h", [5, 33 * 9])
def test_input_gradients_of_two_layers_that_read_one_are_added(h: int) -> None:
    """Their sum is multiplied by the slope once, by the last one; also where a product is made in blocks of panels."""
    b, k, dtype = 9, 40, "float32"
    dz, w, slope = random((b, h), dtype), random((k, h), dtype), random((b, k), dtype, 1)
    other, kind = random((b, k), dtype, 2), activations.Activation(np.array([3]), np.array([k]), np.zeros(1), 0)
    for adds, last in ((False, True), (True, False), (True, True)):
        dx = panels(other)
        below = activations.Below(kind, panels(slope), adds, last)
        call = panels(dz), weight_panels(w), h, rows_of(b), square(dtype, dense.PANEL_BLOCK), dx, (0, len(dx)), below
        dense.input_gradient(*call)
        wanted = (dz @ w.T + (other if adds else 0)) * (slope if last else 1)
        close(from_panels(dx, b, k), wanted, dtype)


def test_lists_have_room_for_a_batch_and_little_more() -> None:
    for batch in (1, 4, 63, 64, 65, 1_000):
        assert batch < list_capacity(batch) <= batch + 2 * BLOCK


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
    close(from_panels(z, c, b).T, reference.dense(a, w, bias), dtype)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("b", "c", "size"), [(1, 1, 1), (5, 2, 1), (33, 10, 3), (31, 7, 30), (64, 40, 100)])
def test_softmax_cross_entropy(b: int, c: int, size: float, dtype: str, smoothing: float, weighted: bool) -> None:
    z = random((b, c), dtype) * np.dtype(dtype).type(size)
    y = np.random.default_rng(1).integers(0, c, b)
    sample_weight = np.random.default_rng(2).random(b) + 0.01 if weighted else None
    normalised = reference.normalised_sample_weight(sample_weight, b) * b
    z_p = logit_panels(z)
    dz_p = z_p * 0 + 9
    batch = losses.Examples(padded(y), padded(normalised, dtype), b)
    loss, right = losses.softmax_cross_entropy(z_p, batch, c, smoothing, 1 / b, square(dtype)[0], dz_p)
    found = reference.softmax_cross_entropy(z.astype("float64"), y, smoothing, sample_weight)
    assert loss / b == pytest.approx(found[0], rel={"float32": 1e-5, "float64": 1e-12}[dtype])
    assert right == found[1]
    close(from_panels(dz_p, c, b).T, found[2], dtype)
    assert (dz_p[-1, :c, (b - 1) % W[dtype] + 1 :] == 0).all()  # samples beyond the batch


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_softmax_shows_what_is_not_finite(bad: float, dtype: str) -> None:
    """The flags of the compiler must not hide a divergence."""
    for row, column in ((0, 0), (2, 3), (4, 1)):
        z = random((5, 4), dtype)
        z[row, column] = bad
        batch = losses.Examples(padded(np.full(5, column)), padded(np.ones(5), dtype), 5)
        loss, _ = losses.softmax_cross_entropy(logit_panels(z), batch, 4, 0.0, 1.0, square(dtype)[0], logit_panels(z))
        assert not np.isfinite(loss)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES[1:])
@pytest.mark.parametrize(("b", "c", "summed"), [(1, 1, False), (33, 10, False), (64, 3, True), (70, 40, False)])
def test_losses(b: int, c: int, summed: bool, name: str, dtype: str, weighted: bool) -> None:
    z, t = 2 * random((b, c), dtype), random((b, c), dtype, 1)
    t = {"logistic": (t > 0).astype(dtype), "poisson": np.abs(t).round()}.get(name, t)
    sample_weight = np.random.default_rng(2).random(b) if weighted else None
    normalised = reference.normalised_sample_weight(sample_weight, b) * b
    dz_p, z_p = logit_panels(t), logit_panels(z)
    kind = losses.Loss(LOSSES.index(name), 0.0, 0.7, summed)
    loss = losses.elementwise_loss(kind, z_p, losses.Examples(padded(t), padded(normalised, dtype), b), c, 1 / b, dz_p)
    wide = z.astype("float64"), t.astype("float64")
    wanted, gradient = reference.elementwise_loss(name, *wide, 0.7, sample_weight, summed)
    assert loss / b == pytest.approx(wanted, rel={"float32": 1e-5, "float64": 1e-12}[dtype])
    close(from_panels(dz_p, c, b).T, gradient, dtype)
    assert (dz_p[-1, :c, (b - 1) % W[dtype] + 1 :] == 0).all()


@pytest.mark.parametrize("name", LOSSES[1:])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_losses_show_what_is_not_finite(name: str, bad: float) -> None:
    z = np.array([[0.5, bad]], "float32")
    targets = np.zeros((1, 2), "float32")
    kind, ones = losses.Loss(LOSSES.index(name)), padded(np.ones(1), "float32")
    batch = losses.Examples(ones, ones, 1)
    loss = losses.elementwise_loss(kind, logit_panels(z), batch, 2, 1.0, logit_panels(targets))
    assert not np.isfinite(loss) or (name == "poisson" and bad == np.inf and loss > 1e30)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(("b", "h", "dropout"), [(1, 1, 0.0), (7, 33, 0.0), (31, 64, 0.4), (40, 70, 0.9)])
def test_activations(b: int, h: int, dropout: float, name: str, dtype: str) -> None:
    z = 3 * random((b, h), dtype)
    a, d = panels(z), panels(np.full((b, h), 9, dtype))
    kind = activations.Activation(np.array([0, ACTIVATIONS.index(name)]), np.array([1, h]), np.array([0.0, dropout]), 5)
    activations.activate(kind, 1, 3, 100, rows_of(b), a, d, (0, len(a)))
    assert (from_panels(a, b, a.shape[0] * a.shape[2])[:, h:] == 0).all()  # units that there are not
    mask = reference.dropout_mask(dropout, 5, 1, 3, np.arange(100, 100 + b), h)
    assert dropout == 0 or abs((mask == 0).mean() - dropout) < 5 * (dropout * (1 - dropout) / mask.size) ** 0.5
    twin = reference.Options(["relu", name], [mask, mask])
    close(from_panels(a, b, h), reference.activate(z.astype("float64"), twin, 1), dtype)
    close(from_panels(d, b, h), reference.slope(z.astype("float64"), twin, 1), dtype)


def test_activations_keep_what_is_not_finite() -> None:
    for name in ACTIVATIONS:
        a = panels(np.full((3, 5), np.nan, "float32"))
        kind = activations.Activation(np.array([ACTIVATIONS.index(name)]), np.array([5]), np.zeros(1), 0)
        activations.activate(kind, 0, 0, 0, rows_of(3), a, panels(np.zeros((3, 5), "float32")), (0, len(a)))
        assert np.isnan(from_panels(a, 3, 5)).all(), name


def test_masks_differ_by_everything_that_names_them_and_look_random() -> None:
    """4,000 rows of 200: shares within five deviations; neighbours in row, unit, layer, epoch and seed independent."""

    def mask(seed: int = 1, layer: int = 0, epoch: int = 0, start: int = 0) -> np.ndarray:
        a = panels(np.ones((4_000, 200), "float32"))
        kind = activations.Activation(np.full(layer + 1, 5), np.full(layer + 1, 200), np.full(layer + 1, 0.5), seed)
        activations.activate(kind, layer, epoch, start, 4_000, a, a.copy(), (0, len(a)))
        return from_panels(a, 4_000, 200) / 2

    here = mask()
    limit = 5 / (2 * here.size**0.5)
    assert abs(here.mean() - 0.5) < limit
    assert np.abs(here.mean(axis=0) - 0.5).max() < 5 / (2 * 4_000**0.5)
    others = [mask(seed=2), mask(layer=1), mask(epoch=1), np.roll(here, 1, 0), np.roll(here, 1, 1), np.roll(here, 7, 1)]
    for other in others:
        assert abs((here == other).mean() - 0.5) < limit
    assert (mask(start=10)[:-10] == here[10:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("b", "k", "c"), [(1, 1, 1), (5, 31, 2), (33, 64, 10), (40, 65, 9), (70, 128, 33)])
def test_output_gradients(b: int, k: int, c: int, dtype: str) -> None:
    a, w, dz = random((b, k), dtype), random((k, c), dtype), random((b, c), dtype, 1)
    dx = panels(np.full((b, k), 9, dtype))
    dz_p, w_p, a_p = logit_panels(dz), output_panels(w), panels(a)
    output.output_input_gradient(dz_p, w_p, c, rows_of(b), dx, (0, len(dx)), activations.Below(None, a_p))
    close(from_panels(dx, b, k), reference.input_gradient(dz, w, a > 0), dtype)
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
    batches.gather(Data(data, np.zeros(20, np.int32), order, 0.5), 3, 5, 8, x)
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
    sparse.count_blocks(data, starts)
    np.cumsum(starts, out=starts)
    index, values = np.zeros(starts[-1], np.uint16), np.zeros((starts[-1], BLOCK), kind)
    sparse.cut_blocks(data, starts, index, values)
    count, entries = -(-k // BLOCK), -(-k // BLOCK) * list_capacity(b)
    lists = sparse.Lists(
        np.zeros(count, np.uint64), np.zeros(entries, np.uint16), aligned_zeros((entries, BLOCK), np.dtype(dtype))
    )
    order = generator.permutation(b + 9)
    cut = Data(sparse.Blocks(starts, index, values), np.zeros(1, np.int32), order, 0.25)
    sparse.invert(cut, 9, b, lists)  # another batch: nothing of it may be left
    sparse.invert(cut, 2, b, lists)
    return reference.gather(data, order[2 : 2 + b], 0.25).astype(dtype), lists


@pytest.mark.parametrize("zeros", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["uint8", "float64"])
@pytest.mark.parametrize(("b", "k", "h"), [(1, 1, 1), (5, 7, 31), (33, 40, 33), (64, 97, 70), (30, 5, 100)])
def test_sparse_input(b: int, k: int, h: int, kind: str, dtype: str, zeros: float) -> None:
    x, lists = sparse_case(b, k, kind, dtype, zeros)
    w, bias, dz = random((k, h), dtype), random((h,), dtype), random((b, h), dtype, 1)
    a, w_p, b_p = panels(np.full((b, h), 9, dtype)), weight_panels(w), bias_panels(bias)
    sparse.sparse_dense(lists, w_p, b_p, rows_of(b), a, (0, len(a)), None)
    wanted = reference.relu(reference.dense(x.astype("float64"), w, bias))
    close(from_panels(a, b, h), wanted, dtype)
    sparse.sparse_weight_gradient(lists, panels(dz), rows_of(b), w_p, b_p, (0, len(w_p)))
    dw, db = reference.weight_gradient(x.astype("float64"), dz)
    close(from_panels(w_p, k, h), w + dw, dtype)
    close(b_p.reshape(-1)[:h], bias + db, dtype)


@pytest.mark.parametrize("sizes", [(3, 2), (784, 128, 10), (5, 33, 64, 65, 7), (33, 1, 1), (17, 16, 8), (17, 32, 8)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pack_and_unpack_are_inverse_and_pad_with_zeros(sizes: tuple[int, ...], dtype: str) -> None:
    plain = []
    for k, h in zip(sizes[:-1], sizes[1:], strict=True):
        plain += [random((k, h), dtype), random((h,), dtype)]
    layout = Layout(Network.mlp(sizes[0], sizes[1:-1], sizes[-1]).layers, np.dtype(dtype))
    buffer = layout.pack(plain)
    assert buffer.ctypes.data % 64 == 0
    assert (buffer != 0).sum() == sum(p.size for p in plain)
    unpacked = layout.unpack(buffer)
    for found, wanted in zip(unpacked, plain, strict=True):
        assert (found == wanted).all()
        assert found.flags.c_contiguous
        assert not np.shares_memory(found, buffer)  # a model must not move when training goes on
