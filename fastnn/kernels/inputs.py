"""Whether sparse input pays, and cutting a data set into its blocks."""

from __future__ import annotations

import numpy as np

from fastnn.errors import UsageError
from fastnn.kernels.blocks import Blocks, count_blocks, cut_blocks
from fastnn.kernels.layout import list_capacity
from fastnn.kernels.tiles import BLOCK

MODES = ("auto", "dense", "sparse")
_SAMPLE = 1_000  # examples whose density stands for the rest
_DENSEST = 0.75  # share of blocks up to which sparse input is the faster (bench/README.md)
_MOST_BYTES = 2**26  # of one thread's lists: larger ones leave the caches, and gain nothing


def block_density(x: np.ndarray) -> float:
    """Share of the blocks of `x` (N, D) that hold anything."""
    starts = np.zeros(len(x) + 1, np.int64)
    count_blocks(x, starts)
    return float(starts.sum() / (len(x) * blocks_of(x.shape[1])))


def blocks_of(features: int) -> int:
    """Blocks of one example."""
    return -(-features // BLOCK)


def choose_input(x: np.ndarray, hidden: int, batch: int, mode: str) -> np.ndarray | Blocks:
    """`x` (N, D) itself, or cut into blocks when that is asked for or pays.

    Parameters
    ----------
    hidden : int
        Hidden layers; without one there is no first layer over sparse input.
    mode : {"auto", "dense", "sparse"}

    Raises
    ------
    UsageError
        When sparse input is asked for and there is no hidden layer.
    """
    if mode not in MODES:
        raise UsageError(f"--input {mode!r}: expected one of {', '.join(MODES)}")
    if mode == "sparse" and hidden == 0:
        raise UsageError("--input sparse needs a hidden layer; take --input dense")
    if mode == "dense" or hidden == 0:
        return x
    if mode == "auto":
        size = blocks_of(x.shape[1]) * list_capacity(batch) * 20
        spread = np.ascontiguousarray(x[:: max(1, len(x) // _SAMPLE)][:_SAMPLE])
        if size > _MOST_BYTES or block_density(spread) > _DENSEST:
            return x
    starts = np.zeros(len(x) + 1, np.int64)
    count_blocks(x, starts)
    np.cumsum(starts, out=starts)
    narrow = np.uint16 if blocks_of(x.shape[1]) <= 2**16 else np.uint32
    index, values = np.zeros(starts[-1], narrow), np.zeros((starts[-1], BLOCK), x.dtype)
    cut_blocks(x, starts, index, values)
    return Blocks(starts, index, values)
