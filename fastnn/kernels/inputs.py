"""Whether sparse input pays, and cutting a data set into its blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.errors import UsageError
from fastnn.kernels.layout import list_capacity
from fastnn.kernels.sparse import Blocks, count_blocks, cut_blocks
from fastnn.kernels.tiles import BLOCK

MODES = ("auto", "dense", "sparse")
_SAMPLE = 1_000  # examples whose density stands for the rest
_DENSEST = 0.75  # share of blocks up to which sparse input is the faster (bench/README.md)
_MOST_BYTES = 2**26  # of one thread's lists in use: larger ones leave the caches, and gain nothing
_MOST_ROOM = 2**32  # bytes of one thread's lists, most of them never touched
_MOST_DENSE = 2**33  # bytes of a sparse array made dense
_ENTRY_BYTES = 18  # of a list in float32


class _Writable:
    """Memory of an array that is marked read-only, without the mark."""

    def __init__(self, x: np.ndarray) -> None:
        self.kept = x
        self.__array_interface__ = {**x.__array_interface__, "data": (x.ctypes.data, False)}


def for_kernels(x: np.ndarray) -> np.ndarray:
    """`x` itself, or the same memory marked writable: Numba would compile kernels anew for read-only arrays.

    No kernel writes to its examples, and a write to a read-only map would end the process, not change the file.
    """
    return x if x.flags.writeable and type(x) is np.ndarray else np.asarray(_Writable(x))


def blocks_of(features: int) -> int:
    """Blocks of one example."""
    return -(-features // BLOCK)


def block_density(x: Any) -> float:
    """Share of the blocks of `x` (N, D), dense or CSR, that hold anything."""
    if hasattr(x, "indptr"):
        entries = int(_first_of_a_block(x).sum())
    else:
        starts = np.zeros(len(x) + 1, np.int64)
        count_blocks(x, starts)
        entries = int(starts.sum())
    return entries / (x.shape[0] * blocks_of(x.shape[1]))


def choose_input(x: Any, hidden_layers: int, batch: int, mode: str) -> np.ndarray | Blocks:
    """`x` (N, D) for kernels: dense, or cut into blocks when that is asked for or pays.

    Parameters
    ----------
    x : ndarray or CSR array
        Checked.
    hidden_layers : int
        Their number; without one there is no first layer over sparse input.
    mode : {"auto", "dense", "sparse"}

    Raises
    ------
    UsageError
        When sparse input is asked for and there is no hidden layer, or when it does not fit into memory.
    """
    if mode not in MODES:
        raise UsageError(f"input={mode!r}: expected one of {', '.join(MODES)}")
    if mode == "sparse" and hidden_layers == 0:
        raise UsageError('input="sparse" needs a hidden layer; take input="dense"')
    csr = hasattr(x, "indptr")
    room = blocks_of(x.shape[1]) * list_capacity(batch) * _ENTRY_BYTES
    if hidden_layers == 0 or mode == "dense" or (mode == "auto" and not (room <= _MOST_ROOM and _pays(x, batch))):
        return _dense(x) if csr else for_kernels(x)
    if room > _MOST_ROOM:
        raise UsageError(
            f"sparse input of {x.shape[1]:,} features in batches of {batch:,} needs {room / 2**30:.0f} GiB "
            f"a thread; take a smaller batch_size="
        )
    return _cut_csr(x) if csr else _cut(for_kernels(x))


def _pays(x: Any, batch: int) -> bool:
    """Whether sparse input is the faster, from a sample of the rows; CSR seldom is dense."""
    csr = hasattr(x, "indptr")
    sample = x[:: max(1, x.shape[0] // _SAMPLE)][:_SAMPLE]
    density = block_density(sample if csr else np.ascontiguousarray(sample))
    in_use = density * blocks_of(x.shape[1]) * batch * _ENTRY_BYTES
    return density <= _DENSEST and (csr or in_use <= _MOST_BYTES)


def _dense(x: Any) -> np.ndarray:
    size = x.shape[0] * x.shape[1] * x.dtype.itemsize
    if size > _MOST_DENSE:
        raise UsageError(
            f"a sparse array of {x.shape[0]:,} x {x.shape[1]:,} would take {size / 2**30:.0f} GiB as a dense one; "
            f'take a hidden layer and input="sparse"'
        )
    return x.toarray(order="C")


def _cut(x: np.ndarray) -> Blocks:
    starts = np.zeros(len(x) + 1, np.int64)
    count_blocks(x, starts)
    np.cumsum(starts, out=starts)
    index, values = np.zeros(starts[-1], _narrow(x)), np.zeros((starts[-1], BLOCK), x.dtype)
    cut_blocks(x, starts, index, values)
    return Blocks(starts, index, values)


def _cut_csr(x: Any) -> Blocks:
    """The blocks of a CSR array whose indices rise within each row."""
    first = _first_of_a_block(x)
    counts = np.concatenate([[0], np.cumsum(first, dtype=np.int64)])  # entries before each stored number
    values = np.zeros((counts[-1], BLOCK), x.dtype)
    values[counts[1:] - 1, x.indices % BLOCK] = x.data
    return Blocks(counts[x.indptr], (x.indices[first] // BLOCK).astype(_narrow(x)), values)


def _first_of_a_block(x: Any) -> np.ndarray:
    """Which of the stored numbers of a CSR array are the first of their block in their row."""
    block = x.indices // BLOCK
    first = np.ones(block.size, bool)
    first[1:] = block[1:] != block[:-1]
    first[x.indptr[:-1][x.indptr[:-1] < block.size]] = True
    return first


def _narrow(x: Any) -> type:
    return np.uint16 if blocks_of(x.shape[1]) <= 2**16 else np.uint32
