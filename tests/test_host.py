"""Vector width, tile shape and thread counts, found and overridden."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, clean_error, fastnn

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
    assert host.cgroup_quota(tmp_path, tmp_path / "cgroup") == quota


def test_threads_are_bound_by_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "affinity_count", lambda: 64)
    for quota, wanted in ((1.5, 2), (0.2, 1), (None, 64), (100.0, 64)):
        monkeypatch.setattr(host, "cgroup_quota", lambda quota=quota: quota)
        assert host.available_threads() == wanted


def test_threads_without_affinity_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert host.affinity_count() == (os.cpu_count() or 1)


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


@pytest.mark.parametrize(("lanes", "shape"), [("16", (64, 8, 2)), ("8", (32, 4, 2)), ("4", (16, 4, 2))])
def test_lanes_choose_a_tile(lanes: str, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTNN_LANES", lanes)
    monkeypatch.delenv("FASTNN_TILE", raising=False)
    found = host.tile_shape()
    assert (found.vector_bytes, found.rows, found.vectors) == shape


@pytest.mark.parametrize(
    ("lanes", "tile"),
    [
        pytest.param("8", "", marks=pytest.mark.long),
        pytest.param("4", "", marks=pytest.mark.long),
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
