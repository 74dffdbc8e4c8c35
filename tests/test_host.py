"""Vector width, tile shape and thread counts, found and overridden."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, clean_error, fastnn

from fastnn import machine
from fastnn.errors import UsageError
from fastnn.kernels import host


@pytest.mark.parametrize(
    ("files", "group", "quota"),
    [
        ({"cpu.max": "200000 100000"}, "0::/", 2.0),
        ({"cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, "0::/a", 1.5),
        ({"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, "0::/a/b", 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/", None),
        ({"cpu/x/cpu.cfs_quota_us": "300000", "cpu/x/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/x", 3.0),
        ({"cpu.max": "nonsense"}, "0::/", None),
        ({}, "0::/gone", None),
        ({}, None, None),
    ],
)
def test_quota_of_control_groups(files: dict[str, str], group: str | None, quota: float | None, tmp_path: Path) -> None:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "cpu.cfs_period_us").exists()
    if group is not None:
        (tmp_path / "self").mkdir()
        (tmp_path / "self" / "cgroup").write_text(group + "\n")
    assert machine.cgroup_quota(tmp_path, tmp_path / "cgroup") == quota


def test_threads_are_bound_by_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "affinity_count", lambda: 64)
    monkeypatch.setattr(machine, "performance_cores", lambda: None)
    for quota, wanted in ((1.5, 2), (0.2, 1), (None, 64), (100.0, 64)):
        monkeypatch.setattr(machine, "cgroup_quota", lambda quota=quota: quota)
        assert machine.available_threads() == wanted


def test_threads_without_affinity_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert machine.affinity_count() == (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("told", "fast", "threads"), [("4", 4, 4), ("10", 10, 8), ("", None, 8), ("unknown oid", None, 8), ("0", None, 8)]
)
def test_efficiency_cores_of_macos_are_left_out(
    told: str, fast: int | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(machine, "sysctl", {"hw.perflevel0.logicalcpu": told}.__getitem__)
    monkeypatch.setattr(machine, "affinity_count", lambda: 8)
    monkeypatch.setattr(machine, "cgroup_quota", lambda: None)
    assert machine.performance_cores() == fast
    assert machine.available_threads() == threads


def test_cores_are_alike_elsewhere() -> None:
    if sys.platform != "darwin":
        assert machine.performance_cores() is None


@pytest.mark.parametrize(
    ("stand_in", "told"), [("echo Apple M9", "Apple M9"), ("exit 1", ""), ("echo half; exit 1", ""), (None, "")]
)
def test_sysctl(stand_in: str | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "sysctl"
    if stand_in is not None:
        command.write_text(f"#!/bin/sh\n[ \"$*\" = '-n machdep.cpu.brand_string' ] && {stand_in}\n")
        command.chmod(0o755)
    monkeypatch.setattr(machine, "SYSCTL", str(command))
    monkeypatch.setattr(sys, "platform", "darwin")
    machine.sysctl.cache_clear()
    assert machine.cpu_name() == told
    machine.sysctl.cache_clear()


def test_a_cpu_that_the_system_does_not_name_has_the_name_that_llvm_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux on ARM tells numbers of maker and part only, and `platform.processor` nothing or the architecture."""
    monkeypatch.setattr(machine.Path, "read_text", lambda path: "processor\t: 0\nCPU part\t: 0xd0c\n")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(host.llvm, "get_host_cpu_name", lambda: "neoverse-n1")
    for processor in ("", "aarch64"):
        monkeypatch.setattr(platform, "processor", lambda processor=processor: processor)
        assert machine.cpu_name() == ""
        assert host.cpu_name() == "neoverse-n1 (aarch64)"
    monkeypatch.setattr(platform, "processor", lambda: "ARMv8 (64-bit) Family 8")  # Windows
    assert host.cpu_name() == "ARMv8 (64-bit) Family 8"
    monkeypatch.setattr(machine.Path, "read_text", lambda path: "model name\t: AMD EPYC\n")
    assert host.cpu_name() == "AMD EPYC"


def test_pictures_are_read_without_llvm(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes((ROOT / "data" / "samples" / "3.png").read_bytes())
    program = (
        "import sys; from fastnn import load_data; assert len(load_data(sys.argv[1]).train.y) == 2; "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'numba', 'llvmlite'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FASTNN_LANES", "7", "expected 16, 8 or 4"),
        ("FASTNN_TILE", "8", "ROWSxVECTORS"),
        ("FASTNN_TILE", "0x2", "ROWSxVECTORS"),
        ("FASTNN_TILE", "7x2", "must divide"),
        ("NUMBA_NUM_THREADS", "0", "expected 1 or more"),
    ],
)
def test_impossible_tiles_are_refused(name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    if name.startswith("FASTNN"):
        with pytest.raises(UsageError, match=message):
            host.tile_shape()
    assert message in clean_error(fastnn("doctor", **{name: value}), 2)


@pytest.mark.parametrize(
    ("lanes", "cpu", "shape"),
    [
        ("16", "x86_64", (64, 8, 2)),
        ("8", "x86_64", (32, 4, 2)),
        ("4", "x86_64", (16, 4, 2)),
        ("4", "AMD64", (16, 4, 2)),  # Windows' name of it
        ("4", "aarch64", (16, 4, 4)),
        ("4", "arm64", (16, 4, 4)),
        ("4", "ARM64", (16, 4, 4)),
        ("8", "aarch64", (32, 4, 2)),
        ("4", "armv7l", (16, 4, 2)),  # 32 bits: 16 registers
    ],
)
def test_lanes_and_cpu_choose_a_tile(
    lanes: str, cpu: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: cpu)
    monkeypatch.setenv("FASTNN_LANES", lanes)
    monkeypatch.delenv("FASTNN_TILE", raising=False)
    found = host.tile_shape()
    assert (found.vector_bytes, found.rows, found.vectors) == shape


@pytest.mark.parametrize(
    ("lanes", "tile"),
    [
        pytest.param("8", "", marks=pytest.mark.long),
        pytest.param("4", "", marks=pytest.mark.long),
        pytest.param("4", "4x4", marks=pytest.mark.long),  # ARM's
        pytest.param("16", "4x3", marks=pytest.mark.long),
    ],
)
def test_other_tiles_train_as_the_reference(lanes: str, tile: str) -> None:
    """The core of the suite again with another vector width; .ci/run runs all of it with each."""
    if os.environ.get("FASTNN_LANES"):
        pytest.skip("this is already a run with a chosen width")
    environment = {**os.environ, "FASTNN_LANES": lanes, "FASTNN_TILE": tile, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "tests/test_training.py",
            "-k",
            "reference_run and 203 or same_bits",
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_what_doctor_tells_of_the_cache_and_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnn.tools import doctor

    folder = tmp_path / "cache"
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(folder))
    told = doctor.facts()["kernel cache"]
    kept = Path(told["folder"])
    assert kept.is_relative_to(folder)
    assert told["state"].startswith(("0 kernels, 0.0 MB", "not used: "))
    kept.mkdir(parents=True, exist_ok=True)
    for name, size in (("a.bin", 1_500_000), ("b.bin", 760_000), ("c.tmp", 10**6)):
        (kept / name).write_bytes(bytes(size))
    assert doctor.facts()["kernel cache"]["state"] == "2 kernels, 2.3 MB"
    for quota, fast, said in ((None, None, ("none", "not told")), (1.5, 4, ("1.5 CPUs", "4"))):
        monkeypatch.setattr(machine, "cgroup_quota", lambda quota=quota: quota)
        monkeypatch.setattr(machine, "performance_cores", lambda fast=fast: fast)
        threads = doctor.facts()["threads"]
        assert (threads["control group quota"], threads["performance cores"]) == said
        assert threads["affinity"] == f"{machine.affinity_count()} cores"
