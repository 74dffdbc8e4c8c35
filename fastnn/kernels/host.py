"""What this machine is: vector width and tile shape, the cores this process may use.

``FASTNN_LANES`` (16, 8 or 4 float32 numbers a vector) and ``FASTNN_TILE`` (``ROWSxVECTORS``, for example
``8x2``) override what is found, for tests and experiments.
"""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding as llvm

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
# 32 columns, narrow enough to divide a hidden layer of 128 among 4 threads (bench/README.md).
_ROWS_AND_VECTORS = {16: (8, 2), 8: (4, 2), 4: (4, 2)}


def host_lanes() -> int:
    """float32 numbers in the widest vector of this CPU: 16, 8 or 4."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 16
    return 8 if features.get("avx2") else 4


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
    rows, vectors = _ROWS_AND_VECTORS[lanes]
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
    """Model name of the CPU, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def affinity_count() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity masks to read
        return os.cpu_count() or 1


def cgroup_quota(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> float | None:
    """CPUs that the control groups of this process grant (1.5 for one and a half), None without a limit.

    Every group from ours up to the root counts, in version 2 (``cpu.max``) and version 1 (``cpu.cfs_*_us``).
    """
    quotas = []
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in [*lines, "0::/"]:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        roots = [cgroup / controllers, cgroup / "cpu"] if controllers else [cgroup]
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for root in roots:
            for depth in range(len(parts) + 1):
                quotas.append(_read_quota(root.joinpath(*parts[:depth])))
    found = [quota for quota in quotas if quota]
    return min(found) if found else None


def _read_quota(folder: Path) -> float | None:
    try:
        limit, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        quota = int(limit) / int(period)
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return None
    return quota if quota > 0 else None


def available_threads() -> int:
    """Threads that can run at once: the affinity mask, and the control group's quota rounded up."""
    quota = cgroup_quota()
    cores = affinity_count()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))
