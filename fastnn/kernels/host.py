"""What this CPU is to the compiler: its vector width, and the tile shape that suits it.

``FASTNN_LANES`` (16, 8 or 4 float32 numbers a vector) and ``FASTNN_TILE`` (``ROWSxVECTORS``, for example
``8x2``) override what is found, for tests and experiments.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import llvmlite.binding as llvm

from fastnn import machine
from fastnn.errors import UsageError


@dataclass(frozen=True)
class TileShape:
    """Shape of a register tile.

    Attributes
    ----------
    vector_bytes : int
        Width of one SIMD vector in bytes: 64, 32 or 16.
    rows, vectors : int
        Rows of a tile, and vectors in one row. A panel holds whole tiles: `rows` divides its width.
    """

    vector_bytes: int
    rows: int
    vectors: int

    def lanes(self, itemsize: int) -> int:
        """Numbers of `itemsize` bytes in one vector."""
        return self.vector_bytes // itemsize

    def panel_width(self, itemsize: int) -> int:
        """Columns of a panel: one row of a tile."""
        return self.vectors * self.lanes(itemsize)


# 8 x 2 vectors reach 94 to 99 % of the peak with AVX-512 and leave 16 of its 32 registers for operands; a panel is then
# 32 columns, narrow enough to divide a hidden layer of 128 among 4 threads (bench/README.md). With 4 lanes x86 has 16
# registers, 64-bit ARM has 32: of 2, 4 and 4 fused multiply-adds a cycle that a Neoverse N1, V1 and V2 can do, 4 x 2
# vectors reach 1.6, 2.0 and 2.8, 4 x 4 reach 1.9, 3.2 and 3.4 (llvm-mca). 6 x 3 reach more, but pad 128 units to 132.
_ROWS_AND_VECTORS = {16: (8, 2), 8: (4, 2), 4: (4, 2)}
_ROWS_AND_VECTORS_ARM = {**_ROWS_AND_VECTORS, 4: (4, 4)}


def host_lanes() -> int:
    """float32 numbers in the widest vector of this CPU: 16, 8 or 4."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx2") else 4


def rows_and_vectors(lanes: int, cpu: str) -> tuple[int, int]:
    """Rows of a tile and vectors in one row, on a CPU that `platform.machine` calls `cpu`."""
    arm = cpu.lower() in ("aarch64", "arm64")  # Linux says the first, macOS the second, Windows ARM64
    return (_ROWS_AND_VECTORS_ARM if arm else _ROWS_AND_VECTORS)[lanes]


def tile_shape() -> TileShape:
    """Tile shape of this host, or the one the environment asks for.

    Raises
    ------
    UsageError
        When ``FASTNN_LANES`` or ``FASTNN_TILE`` is not a shape that kernels can have.
    """
    wanted = os.environ.get("FASTNN_LANES", "")
    if wanted not in ("", "16", "8", "4"):
        raise UsageError(f"FASTNN_LANES={wanted}: expected 16, 8 or 4")
    lanes = int(wanted) if wanted else host_lanes()
    rows, vectors = rows_and_vectors(lanes, platform.machine())
    tile = os.environ.get("FASTNN_TILE", "")
    if tile:
        numbers = tile.split("x")
        if len(numbers) != 2 or not all(n.isdecimal() and 1 <= int(n) <= 16 for n in numbers):
            raise UsageError(f"FASTNN_TILE={tile}: expected ROWSxVECTORS, for example 8x2")
        rows, vectors = map(int, numbers)
    shape = TileShape(4 * lanes, rows, vectors)
    if shape.panel_width(8) % rows:
        raise UsageError(
            f"FASTNN_TILE={rows}x{vectors}: the rows must divide the {shape.panel_width(8)} float64 "
            f"columns of a panel with FASTNN_LANES={lanes}"
        )
    return shape


SHAPE = tile_shape()


def cpu_name() -> str:
    """Model name of the CPU, as the system tells it; where it does not, LLVM's name, such as neoverse-n1."""
    return machine.cpu_name() or f"{llvm.get_host_cpu_name()} ({platform.machine()})"
