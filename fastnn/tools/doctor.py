"""What `fastnn doctor` tells: the machine, the kernels, the cache, the versions."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys

from fastnn import __version__
from fastnn.distribution import NAME, newer_than_tested


def facts() -> dict[str, dict[str, str]]:
    """Everything worth knowing for a report, as sections of names and values."""
    from fastnn import machine
    from fastnn.kernels import host
    from fastnn.kernels.cache import cache_folder, folder_problem

    needed = _requirements()
    shape, folder = host.SHAPE, cache_folder()
    quota, fast = machine.cgroup_quota(), machine.performance_cores()
    problem = folder_problem(folder)
    kept = sorted(folder.glob("*.bin")) if folder.is_dir() else []
    size = sum(path.stat().st_size for path in kept)
    return {
        "machine": {
            "CPU": host.cpu_name(),
            "system": f"{platform.system()} {platform.machine()}",
            "widest vector": f"{host.host_lanes()} float32 numbers",
        },
        "kernels": {
            "vector": f"{shape.lanes(4)} float32 numbers ({8 * shape.vector_bytes} bits)",
            "tile": f"{shape.rows} rows x {shape.vectors} vectors",
            "panel": f"{shape.panel_width(4)} float32 columns",
        },
        "threads": {
            "can run at once": str(machine.available_threads()),
            "affinity": f"{machine.affinity_count()} cores",
            "performance cores": "not told" if fast is None else str(fast),
            "control group quota": "none" if quota is None else f"{quota:g} CPUs",
        },
        "kernel cache": {
            "folder": str(folder),
            "state": f"not used: {problem}" if problem else f"{len(kept)} kernels, {size / 1e6:.1f} MB",
        },
        "versions": {
            "fastnn": __version__,
            "Python": f"{sys.version.split()[0]} ({platform.python_implementation()})",
            **{name: _version(name) for name in (*needed.pop(""), "llvmlite")},  # which Numba brings
            "numba": newer_than_tested(_version("numba")) or _version("numba"),
        },
        "extras": {extra: ", ".join(f"{name} {_version(name)}" for name in names) for extra, names in needed.items()},
    }


def _requirements() -> dict[str, list[str]]:
    """Names of the packages that fastnn needs, by extra, ``""`` for all of it; as it was installed."""
    try:
        metadata = importlib.metadata.metadata(NAME)
    except importlib.metadata.PackageNotFoundError:  # run out of its sources
        return {"": []}
    requirements: dict[str, list[str]] = {"": [], **{extra: [] for extra in metadata.get_all("Provides-Extra") or ()}}
    for text in metadata.get_all("Requires-Dist") or ():
        name, extra = re.match(r"[\w.-]+", text), re.search(r"extra == ['\"]([\w.-]+)['\"]", text)
        if name:
            requirements[extra[1] if extra else ""].append(name[0])
    return requirements


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
