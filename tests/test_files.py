"""Writing results: where symlinks, FIFOs and devices are, and down to the disk."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from fastnn import files
from fastnn.cli.options import check_out
from fastnn.errors import FastnnError, RunError, UsageError

posix = pytest.mark.skipif(os.name != "posix", reason="FIFOs and devices of POSIX")


def written(path: Path, content: bytes = b"new") -> None:
    check_out(path)
    with files.atomic_write(path) as file:
        file.write(content)


def test_a_symlink_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "m").write_bytes(b"old")
    (tmp_path / "link").symlink_to(Path("far", "m"))
    (tmp_path / "second").symlink_to("link")
    (tmp_path / "dangling").symlink_to(Path("far", "made"))
    written(tmp_path / "second")
    written(tmp_path / "dangling")
    assert (tmp_path / "far" / "m").read_bytes() == (tmp_path / "far" / "made").read_bytes() == b"new"
    assert all((tmp_path / name).is_symlink() for name in ("link", "second", "dangling"))
    assert {path.name for path in tmp_path.rglob("*")} == {"far", "m", "made", "link", "second", "dangling"}


def test_symlinks_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "lost").symlink_to(Path("none", "m"))
    (tmp_path / "folder").symlink_to(".")
    for name in ("loop", "lost", "folder", "."):
        with pytest.raises(UsageError, match="--out"):
            check_out(tmp_path / name)
        with pytest.raises(RunError, match="can't be written"), files.atomic_write(tmp_path / name) as file:
            file.write(b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"loop", "lost", "folder"}


@posix
def test_a_fifo_is_written_to_and_stays(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()), daemon=True)  # noqa: B023
        reader.start()
        written(tmp_path / name, b"x" * 100_000)
        reader.join(10)
        assert found == [b"x" * 100_000]
    assert (tmp_path / "pipe").is_fifo()
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "link"}


@posix
def test_a_device_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    written(tmp_path / "null")
    assert Path("/dev/null").is_char_device()
    reading, writing = os.pipe()
    written(Path(f"/dev/fd/{writing}"))  # what /dev/stdout is, before a pipe
    assert os.read(reading, 10) == b"new"
    os.close(reading)
    os.close(writing)
    if Path("/dev/full").exists():
        with pytest.raises(RunError, match="No space left"):
            written(Path("/dev/full"))


@posix
def test_the_folder_that_counts_is_the_one_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("open", "closed"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "closed" / "pipe")
    os.mkfifo(tmp_path / "closed" / "closed pipe")
    (tmp_path / "closed" / "to open").symlink_to(tmp_path / "open" / "m")
    (tmp_path / "open" / "to closed").symlink_to(tmp_path / "closed" / "m")
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith(("closed", "closed pipe")))
    check_out(tmp_path / "closed" / "to open")
    check_out(tmp_path / "closed" / "pipe")
    for bad in (tmp_path / "closed" / "m", tmp_path / "open" / "to closed", tmp_path / "closed" / "closed pipe"):
        with pytest.raises(FastnnError, match="can't be written"):
            check_out(bad)


@pytest.mark.parametrize("known", [True, False])
def test_where_fsync_stops_at_the_disks_cache_there_is_more(
    known: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for macOS; some file systems there do not know the call."""
    full, plain = list[int](), list[int]()

    def call(handle: int, command: int) -> None:
        assert command == 51
        full.append(handle)
        if not known:
            raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(files, "fcntl", SimpleNamespace(F_FULLFSYNC=51, fcntl=call))
    monkeypatch.setattr(files.os, "fsync", plain.append)
    written(tmp_path / "m")
    assert len(full) == 2  # the file and its folder
    assert plain == ([] if known else full)
