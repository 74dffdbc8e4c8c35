"""What the system tells of this machine: the CPU's name, and the cores that this process may use."""

from __future__ import annotations

import functools
import math
import os
import platform
import subprocess
import sys
from pathlib import Path

SYSCTL = "/usr/sbin/sysctl"  # of macOS


def cpu_name() -> str:
    """Model name of the CPU as the system tells it, "" where it tells none: Linux on ARM gives numbers only."""
    if sys.platform == "darwin":
        return sysctl("machdep.cpu.brand_string")
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    told = platform.processor()
    return "" if told == platform.machine() else told


@functools.cache
def sysctl(name: str) -> str:
    """What macOS tells under `name`, "" where it tells nothing; asked once a process, as each costs one."""
    try:
        done = subprocess.run(
            [SYSCTL, "-n", name], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def affinity_count() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has no affinity masks, and Python reads none on Windows
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
    limits = [quota for quota in quotas if quota]
    return min(limits) if limits else None


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


def performance_cores() -> int | None:
    """Cores of the fastest kind, where the system tells kinds apart: on Apple silicon, None elsewhere.

    Every thread gets an equal share of the work, so that one on an efficiency core holds back all others.
    """
    if sys.platform != "darwin":
        return None
    told = sysctl("hw.perflevel0.logicalcpu")
    return int(told) if told.isdecimal() and int(told) > 0 else None


def available_threads() -> int:
    """Threads that can run at once: affinity mask, performance cores, and the control group's quota rounded up."""
    limits = [affinity_count(), performance_cores()]
    quota = cgroup_quota()
    if quota is not None:
        limits.append(math.ceil(quota))
    return max(1, min(limit for limit in limits if limit is not None))
