"""Where everything lies: plain matrices ↔ the padded panels of one aligned buffer; the memory of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.kernels.dense import PANEL_BLOCK
from fastnn.kernels.host import SHAPE
from fastnn.kernels.tiles import BLOCK

LINE = 16  # 8-byte numbers in two cache lines: what threads write lies that far apart, or they take it from each other
ALIGNMENT = 64  # bytes: a misaligned weight matrix cost 40 %


def aligned_zeros(shape: int | tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros whose first byte lies on a multiple of 64."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def to_panels(matrix: np.ndarray, rows: int | None = None) -> np.ndarray:
    """(B, H) → aligned panels (H/W, rows, W), padded with zeros."""
    width = SHAPE.panel_width(matrix.itemsize)
    b, h = matrix.shape
    out = aligned_zeros((-(-h // width), rows or b, width), matrix.dtype)
    for p, panel in enumerate(out):
        columns = matrix[:, p * width : (p + 1) * width]
        panel[:b, : columns.shape[1]] = columns
    return out


def from_panels(panels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Panels (H/W, ≥ rows, W) → (rows, columns) of their own."""
    count, b, width = panels.shape
    return panels.transpose(1, 0, 2).reshape(b, count * width)[:rows, :columns].copy()


@dataclass(frozen=True)
class Layout:
    """Offsets of every weight matrix and bias of a network in one buffer of panels.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, units of each hidden layer, classes.
    dtype : numpy dtype
        float32 or float64.
    """

    sizes: tuple[int, ...]
    dtype: np.dtype

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return SHAPE.panel_width(self.dtype.itemsize)

    def shapes(self) -> list[tuple[tuple[int, int, int], tuple[int, int]]]:
        """Panel shapes of (weights, bias) for each layer; the output layer's weights are transposed."""
        width, found = self.width, []
        for k, h in zip(self.sizes[:-2], self.sizes[1:-1], strict=True):
            panels = -(-h // width)
            found.append(((panels, _up(k, width), width), (panels, width)))
        k, c = self.sizes[-2:]
        c_rows = _up(c, SHAPE.rows)
        found.append(((-(-k // width), c_rows, width), (-(-c_rows // width), width)))
        return found

    def table(self) -> np.ndarray:
        """int64 (layers, 4): inputs, outputs, offset of the weights, offset of the bias, in numbers."""
        rows, at = [], 0
        for k, h, (w, b) in zip(self.sizes[:-1], self.sizes[1:], self.shapes(), strict=True):
            w_size, b_size = int(np.prod(w)), int(np.prod(b))
            rows.append((k, h, at, at + w_size))
            at += w_size + b_size
        return np.array(rows, np.int64)

    def panel_count(self) -> int:
        """Panels that threads own, in all layers: of units, or of inputs for the output layer."""
        return sum(w[0] for w, _ in self.shapes())

    def zeros(self) -> np.ndarray:
        """A buffer for all parameters (or their gradient), zero."""
        return aligned_zeros(sum(int(np.prod(s)) for pair in self.shapes() for s in pair), self.dtype)

    def pack(self, parameters: Sequence[np.ndarray]) -> np.ndarray:
        """Plain [w, b, w, b, …], w (inputs, outputs), → one buffer of panels."""
        buffer = self.zeros()
        for layer, (w, b) in enumerate(self._views(buffer)):
            plain_w, plain_b = parameters[2 * layer], parameters[2 * layer + 1]
            w[...] = to_panels(self._panelled(layer, np.asarray(plain_w, self.dtype)), w.shape[1])
            b.reshape(-1)[: plain_b.size] = plain_b
        return buffer

    def unpack(self, buffer: np.ndarray) -> list[np.ndarray]:
        """One buffer of panels → plain [w, b, w, b, …] of their own."""
        plain = []
        for layer, (w, b) in enumerate(self._views(buffer)):
            k, h = self.sizes[layer : layer + 2]
            rows, columns = (h, k) if self._is_output(layer) else (k, h)
            plain.append(np.ascontiguousarray(self._panelled(layer, from_panels(w, rows, columns))))
            plain.append(b.reshape(-1)[:h].copy())
        return plain

    def _views(self, buffer: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        views = []
        for (_, _, w_at, b_at), (w, b) in zip(self.table(), self.shapes(), strict=True):
            w_size, b_size = int(np.prod(w)), int(np.prod(b))
            views.append((buffer[w_at : w_at + w_size].reshape(w), buffer[b_at : b_at + b_size].reshape(b)))
        return views

    def _is_output(self, layer: int) -> bool:
        return layer == len(self.sizes) - 2

    def _panelled(self, layer: int, w: np.ndarray) -> np.ndarray:
        return w.T if self._is_output(layer) else w

    def workspace(self, batch: int, threads: int, sides: int, blocks: int = 0, slopes: int = 0) -> tuple[Any, ...]:
        """Memory for batches of `batch` rows, in the order of the fields of `memory.Work`.

        The table's first line is the threads' private areas (offset, size of one), the second the exchanged
        parts of the logits (offset, size of one side), then each hidden layer's activations, gradients and slopes.
        `blocks` is how many blocks an example of sparse input has, 0 for dense input; `slopes` for how many threads
        at once the derivatives of activations are kept, 0 for plain ReLU.
        """
        width = self.width
        rows = _up(batch, width)
        c_rows = _up(self.sizes[-1], SHAPE.rows)
        private = _up(self.sizes[0], width) * rows + 2 * c_rows * rows + PANEL_BLOCK * width * width
        parts = -(-self.sizes[-2] // width) * rows * c_rows
        table = [(0, private, 0), (threads * private, parts, 0)]
        at = threads * private + sides * parts
        for h in self.sizes[1:-1]:
            size = _up(h, width) * rows
            table.append((at, at + sides * size, at + (sides + 1) * size))
            at += (sides + 1 + slopes) * size
        entries = blocks * list_capacity(batch)
        return (
            aligned_zeros(at, self.dtype),
            np.array(table, np.int64),
            aligned_zeros((threads, rows), np.dtype(np.int32)),
            aligned_zeros((threads, rows), self.dtype),
            aligned_zeros(threads * _up(blocks, LINE), np.dtype(np.uint64)),
            aligned_zeros((threads, entries), np.dtype(np.uint16)),
            aligned_zeros((threads, entries, BLOCK), self.dtype),
            rows,
        )


def list_capacity(batch: int) -> int:
    """Room in the list of each block. Lists that are a power of two apart would share a few cache sets."""
    return _up(batch, BLOCK) + BLOCK
