"""Where everything lies: plain matrices ↔ the padded panels of one aligned buffer; a run's network and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from fastnn.kernels.dense import PANEL_BLOCK
from fastnn.kernels.host import SHAPE
from fastnn.kernels.layers import KINDS
from fastnn.kernels.memory import LAYER, SPACE, Net, Work
from fastnn.kernels.sparse import Lists
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


class LayerShape(Protocol):
    """What a layer is, as far as memory goes; `network.Dense` is one."""

    @property
    def kind(self) -> str:
        """One of `layers.KINDS`."""

    @property
    def reads(self) -> int | None:
        """Index of the layer it reads, −1 for the examples; None for the layer before."""

    @property
    def inputs(self) -> int:
        """Numbers it reads of an example."""

    @property
    def units(self) -> int:
        """Numbers it gives."""

    @property
    def weight_shape(self) -> tuple[int, int]:
        """Numbers that a unit sums, and units."""


@dataclass(frozen=True)
class Layout:
    """Where every weight matrix and bias of a network lies in one buffer of panels.

    Parameters
    ----------
    layers : sequence of LayerShape
        The last one is the output layer.
    dtype : numpy dtype
        float32 or float64.
    """

    layers: tuple[LayerShape, ...]
    dtype: np.dtype

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return SHAPE.panel_width(self.dtype.itemsize)

    @cached_property
    def table(self) -> np.ndarray:
        """(layers,) of `LAYER`."""
        table, at = np.zeros(len(self.layers), LAYER), 0
        reads = [i - 1 if layer.reads is None else layer.reads for i, layer in enumerate(self.layers)]
        for i, (row, layer) in enumerate(zip(table, self.layers, strict=True)):
            (k, h), is_output = layer.weight_shape, i == len(self.layers) - 1
            row["kind"], row["reads"] = KINDS.index(layer.kind), reads[i]
            row["inputs"], row["units"] = layer.inputs, layer.units
            row["adds"], row["last"] = reads[i] in reads[i + 1 :], reads[i] not in reads[:i]
            row["panels"] = -(-(k if is_output else h) // self.width)
            row["rows"] = _up(h, SHAPE.rows) if is_output else _up(k, self.width)
            row["bias_panels"] = -(-row["rows"] // self.width) if is_output else row["panels"]
            row["weights"], row["bias"] = at, at + row["panels"] * row["rows"] * self.width
            at = row["bias"] + row["bias_panels"] * self.width
        return table

    @property
    def panel_count(self) -> int:
        """Panels that threads own, in all layers."""
        return int(self.table["panels"].sum())

    def zeros(self) -> np.ndarray:
        """A buffer for all parameters (or their gradient), zero."""
        last = self.table[-1]
        return aligned_zeros(int(last["bias"] + last["bias_panels"] * self.width), self.dtype)

    def pack(self, parameters: Sequence[np.ndarray]) -> np.ndarray:
        """Plain [w, b, w, b, …], w (inputs, outputs), → one buffer of panels."""
        buffer = self.zeros()
        for i, (w, b) in enumerate(self._views(buffer)):
            plain_w, plain_b = parameters[2 * i], parameters[2 * i + 1]
            w[...] = to_panels(self._panelled(i, np.asarray(plain_w, self.dtype)), w.shape[1])
            b[: plain_b.size] = plain_b
        return buffer

    def unpack(self, buffer: np.ndarray) -> list[np.ndarray]:
        """One buffer of panels → plain [w, b, w, b, …] of their own."""
        plain = []
        for i, (w, b) in enumerate(self._views(buffer)):
            k, h = self.layers[i].weight_shape
            rows, columns = (h, k) if self._is_output(i) else (k, h)
            plain.append(np.ascontiguousarray(self._panelled(i, from_panels(w, rows, columns))))
            plain.append(b[:h].copy())
        return plain

    def _views(self, buffer: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """The panels (panels, rows, W) and the bias (padded) of every layer."""
        views = []
        for row in self.table:
            w = buffer[row["weights"] : row["bias"]].reshape(row["panels"], row["rows"], self.width)
            views.append((w, buffer[row["bias"] :][: row["bias_panels"] * self.width]))
        return views

    def _is_output(self, i: int) -> bool:
        return i == len(self.layers) - 1

    def _panelled(self, i: int, w: np.ndarray) -> np.ndarray:
        return w.T if self._is_output(i) else w

    def net(self, parameters: np.ndarray, gradient: np.ndarray | None = None, **more: Any) -> Net:
        """The network as kernels see it.

        Parameters
        ----------
        parameters : ndarray
            A buffer of panels.
        gradient : ndarray, optional
            What gradients are added to; the parameters themselves by default, as plain SGD has it.
        **more
            Other fields of `Net`.
        """
        return Net(self.table, parameters, parameters if gradient is None else gradient, **more)

    def work(self, batch: int, threads: int, copies: int = 2, features: int = 0, slopes: int = 0) -> Work:
        """Memory for batches of up to `batch` rows.

        Parameters
        ----------
        batch, threads : int
        copies : int
            Of the activations: two that steps take in turn, or one a thread in predictions.
        features : int
            Of an example of sparse input; 0 for dense input.
        slopes : int
            Copies of the derivatives of activations: 0 for plain ReLU, which needs none, else one, or one a thread in
            predictions.
        """
        width, table = self.width, self.table
        rows = _up(batch, width)
        c_rows, k_panels = int(table[-1]["rows"]), int(table[-1]["panels"])
        private = _up(self.layers[0].inputs, width) * rows + 2 * c_rows * rows + PANEL_BLOCK * width * width
        parts = threads * private
        at = parts + copies * k_panels * rows * c_rows
        spaces = np.zeros(len(table) - 1, SPACE)
        for row, space in zip(table, spaces, strict=False):
            panels = -(-int(row["units"]) // width)
            size = panels * width * rows
            space["panels"], space["activations"], space["gradients"] = panels, at, at + copies * size
            space["slopes"] = at + (copies + 1) * size
            at += (copies + 1 + slopes) * size
        blocks, entries = -(-features // BLOCK), -(-features // BLOCK) * list_capacity(batch)
        lists = Lists(
            aligned_zeros(threads * _up(blocks, LINE), np.dtype(np.uint64)),
            aligned_zeros(threads * entries, np.dtype(np.uint16)),
            aligned_zeros((threads * entries, BLOCK), self.dtype),
        )
        labels, sample_weight = (aligned_zeros((threads, rows), np.dtype(kind)) for kind in (np.int32, self.dtype))
        sample_weight[:] = 1
        buffer, given = aligned_zeros(at, self.dtype), lists if blocks else None
        return Work(buffer, spaces, private, parts, rows, max(1, slopes), labels, sample_weight, given)


def list_capacity(batch: int) -> int:
    """Room in the list of each block. Lists that are a power of two apart would share a few cache sets."""
    return _up(batch, BLOCK) + BLOCK
