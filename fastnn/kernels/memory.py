"""The memory of a run as kernels see it: the network, the examples, the work, and views of the panels in them.

Letters, here and everywhere: B batch rows, D inputs of the network, K inputs of a layer, H its units, C classes, W the
panel width. Sizes of panels are rounded up: H/W, K/W and D/W are numbers of whole panels, K in a panel of weights is a
multiple of W, C one of the rows of a tile. Columns beyond are zeros. Rows beyond a batch's n hold anything finite, and
their gradient is 0. A view costs a few additions, so that kernels make them where they need them.
"""

from typing import NamedTuple

import numpy as np

from fastnn.kernels.activations import Activation, Below
from fastnn.kernels.barrier import owned
from fastnn.kernels.dense import PANEL_BLOCK, ROWS
from fastnn.kernels.jit import inlined, view
from fastnn.kernels.losses import Loss
from fastnn.kernels.optimizers import Rule
from fastnn.kernels.sparse import Blocks, Lists
from fastnn.kernels.tiles import BLOCK
from fastnn.kernels.views import panels, part, rows_of

EXAMPLES = -1  # what a first layer reads
# a row of the table of layers, the output layer's the last; places are counted in numbers of the flat buffer of
# parameters. `adds` and `last` are for networks that branch: in a chain of layers, all that there is so far, they are 0
# and 1.
LAYER = np.dtype(
    [
        ("kind", np.int64),  # of `layers.KINDS`
        ("reads", np.int64),  # which layer's activations, or EXAMPLES
        ("adds", np.int64),  # 1 where a layer after it reads the same one, and has left its part of the gradient there
        ("last", np.int64),  # 1 where no layer before it reads the same one: the gradient is complete with its part
        ("inputs", np.int64),  # K
        ("units", np.int64),  # H, or C for the output layer
        ("panels", np.int64),  # of the weights, each owned by one thread: of units, or of inputs for the output layer
        ("rows", np.int64),  # of such a panel
        ("weights", np.int64),  # where they begin
        ("bias_panels", np.int64),
        ("bias", np.int64),  # where it begins
    ]
)
# the same of a layer's memory in the work; the output layer has none
SPACE = np.dtype([(name, np.int64) for name in ("panels", "activations", "gradients", "slopes")])


class Net(NamedTuple):
    """A network's parameters, and what is not plain ReLU, softmax and SGD about it."""

    layers: np.ndarray  # (layers,) of LAYER; the output layer comes last
    parameters: np.ndarray  # float32 or float64, one aligned buffer of panels
    # what gradients are added to: in plain SGD the parameters; else laid out like them, zeros whenever a step begins,
    # because a rule clears what it has used
    gradient: np.ndarray
    activation: Activation | None = None  # None: ReLU, fused into the products
    rule: Rule | None = None  # None: plain SGD, fused into the weight gradient
    loss: Loss = Loss()


class Data(NamedTuple):
    """Examples, and the order to take them in."""

    x: np.ndarray | Blocks  # (N, D) uint8, float32 or float64
    y: np.ndarray  # int32 (N,), every label below the number of classes
    order: np.ndarray  # int64, indices of rows
    scale: float  # what every feature is multiplied by
    sample_weight: np.ndarray | None = None  # float64 (N,): how much each example counts; None: all the same
    targets: np.ndarray | None = None  # float64 (N, C), instead of labels


class Work(NamedTuple):
    """The memory of a run, allocated once; places are counted in numbers of `buffer`."""

    buffer: np.ndarray
    spaces: np.ndarray  # (layers − 1,) of SPACE
    private: int  # size of a thread's own area; these come first
    parts: int  # where the parts of the logits begin that threads exchange
    rows: int  # batch rows there is room for, a multiple of the panel width
    slope_copies: int  # of f′(z): one, which only the owner of a panel writes and reads, or one a thread in predictions
    labels: np.ndarray  # int32 (threads, rows)
    sample_weight: np.ndarray  # (threads, rows), of the batch, mean 1; all 1 where there is no `Data.sample_weight`
    lists: Lists | None  # of all threads, one after the other; None for dense input
    clock: np.ndarray | None = None  # int64 (threads, 16): ticks spent on each phase; in the last column, the last mark


class Span(NamedTuple):
    """Which steps (or rows) one call covers."""

    first: int
    last: int  # one past the last
    batch: int  # size of a batch
    rates: np.ndarray  # float64: learning rate of every step of the epoch
    epoch: int = 0
    before: int = 0  # steps of all epochs before this one
    penalties: np.ndarray = np.zeros((0, 2))  # float64 (steps, 2): `penalty` and `counted` of each `Step`; empty: 1


class Batch(NamedTuple):
    """The examples of a step, in a thread's own memory."""

    start: int  # place of the first one in the epoch
    n: int
    rows: int  # n, rounded up to whole tiles
    epoch: int
    copy: int  # of the activations and of the parts of the logits: steps take two in turn (`step` says why)
    thread: int
    x: np.ndarray  # (D/W, B, W)
    lists: Lists | None  # instead of x, where input is sparse
    labels: np.ndarray  # int32 (B,)
    sample_weight: np.ndarray  # (B,), mean 1
    z: np.ndarray  # logits (B/W, C, W)
    dz: np.ndarray  # their gradient (B/W, C, W)
    scratch: np.ndarray  # (PANEL_BLOCK, W, W), for whatever a kernel needs for a moment


class Layer(NamedTuple):
    """Views of a hidden layer and of its memory, for one batch and one thread."""

    kind: int
    reads: int  # which layer, or EXAMPLES
    inputs: int
    units: int
    own: tuple[int, int]  # the panels of units that the thread owns: the first, and one past the last
    x: np.ndarray  # what it reads (K/W, B, W)
    w: np.ndarray  # (H/W, K, W)
    b: np.ndarray  # (H/W, W)
    dw: np.ndarray  # where the gradient of w is added
    db: np.ndarray
    a: np.ndarray  # f(z) (H/W, B, W)
    slope: np.ndarray  # f′(z) (H/W, B, W); of plain ReLU the activations, positive where it is 1
    dz: np.ndarray  # gradient of z (H/W, B, W)


class Output(NamedTuple):
    """Views of the output layer: owned by panels of inputs, its weights transposed."""

    inputs: int
    classes: int
    own: tuple[int, int]  # the panels of inputs that the thread owns
    x: np.ndarray  # (K/W, B, W)
    w: np.ndarray  # (K/W, C, W)
    b: np.ndarray  # (C/W, W)
    dw: np.ndarray
    db: np.ndarray
    parts: np.ndarray  # (K/W · B/W, C, W): a part of the logits from each panel of inputs


@inlined
def width_of(buffer):
    """Columns of a panel, which is a constant to the compiler."""
    return panels(buffer, 0, 0, 0).shape[2]


@inlined
def weights_in(buffer, row):
    """The weights (panels, rows, W) and the bias (panels, W) of a layer in a flat buffer."""
    w = panels(buffer, row.weights, row.panels, row.rows)
    return w, panels(buffer, row.bias, 1, row.bias_panels)[0]


@view
def space_in(work, space, at, copy):
    """One copy (H/W, B, W) of the activations, gradients or slopes of a layer."""
    size = space.panels * work.rows * width_of(work.buffer)
    return panels(work.buffer, at + copy * size, space.panels, work.rows)


@view
def activations_of(work, batch, i):
    """The activations (H/W, B, W) of layer `i`, or the examples themselves."""
    if i == EXAMPLES:
        return batch.x
    return space_in(work, work.spaces[i], work.spaces[i].activations, batch.copy)


@view
def slope_of(activation, work, batch, i):
    """What f′(z) (H/W, B, W) of layer `i` is read from: plain ReLU's lies in its activations."""
    if activation is None:
        return activations_of(work, batch, i)
    return space_in(work, work.spaces[i], work.spaces[i].slopes, batch.copy % work.slope_copies)


@view
def gradient_of(work, i):
    """The gradient (H/W, B, W) of z of layer `i`."""
    return space_in(work, work.spaces[i], work.spaces[i].gradients, 0)


@inlined
def layer_at(net, work, batch, i, team):
    """Layer `i` of the hidden ones."""
    row = net.layers[i]
    w, b = weights_in(net.parameters, row)
    dw, db = weights_in(net.gradient, row)
    x, a = activations_of(work, batch, row.reads), activations_of(work, batch, i)
    own, slope = owned(row.panels, team), slope_of(net.activation, work, batch, i)
    return Layer(row.kind, row.reads, row.inputs, row.units, own, x, w, b, dw, db, a, slope, gradient_of(work, i))


@inlined
def output_at(net, work, batch, team):
    """The output layer."""
    row = net.layers[net.layers.size - 1]
    w, b = weights_in(net.parameters, row)
    dw, db = weights_in(net.gradient, row)
    width = width_of(work.buffer)
    whole = row.panels * (work.rows // width)  # one part a panel of inputs and a panel of samples
    parts = panels(
        work.buffer,
        work.parts + batch.copy * whole * row.rows * width,
        row.panels * ((batch.rows + width - 1) // width),
        row.rows,
    )
    x = activations_of(work, batch, row.reads)
    return Output(row.inputs, row.units, owned(row.panels, team), x, w, b, dw, db, parts)


@inlined
def below(net, work, batch, i):
    """What layer `i` needs to know of the one it reads, to pass the gradient on to it."""
    row = net.layers[i]
    return Below(net.activation, slope_of(net.activation, work, batch, row.reads), row.adds != 0, row.last != 0)


@inlined
def lists_of(lists, thread, threads, features):
    """A thread's own lists, of those of all threads."""
    if lists is None:
        return None
    ends, entries = lists.end.size // threads, lists.sample.size // threads
    return Lists(
        part(lists.end, thread * ends, (features + BLOCK - 1) // BLOCK),
        part(lists.sample, thread * entries, entries),
        rows_of(lists.values, thread * entries, entries),
    )


@inlined
def open_batch(net, work, start, n, epoch, copy, thread):
    """A batch whose examples are not loaded yet, in the memory of a thread."""
    width = width_of(work.buffer)
    x_panels, blocks = (net.layers[0].inputs + width - 1) // width, work.rows // width
    c_rows = net.layers[net.layers.size - 1].rows
    x_at = thread * work.private
    z_at = x_at + x_panels * work.rows * width
    dz_at = z_at + blocks * c_rows * width
    scratch_at = dz_at + blocks * c_rows * width
    return Batch(
        start,
        n,
        (n + ROWS - 1) // ROWS * ROWS,
        epoch,
        copy,
        thread,
        panels(work.buffer, x_at, x_panels, work.rows),
        lists_of(work.lists, thread, work.labels.shape[0], net.layers[0].inputs),
        part(work.labels, thread * work.rows, work.rows),
        part(work.sample_weight, thread * work.rows, work.rows),
        panels(work.buffer, z_at, blocks, c_rows),
        panels(work.buffer, dz_at, blocks, c_rows),
        panels(work.buffer, scratch_at, PANEL_BLOCK, width),
    )
