"""Writing files so that nothing is ever half there."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fastnn.errors import RunError, printable

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
_unfinished: set[Path] = set()


def unfinished() -> list[Path]:
    """Temporary files that are being written now: what a process that leaves at once must remove."""
    return list(_unfinished)


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends well, and leaves no trace when it does not.

    Temporary file in the same folder, fsync, rename, fsync of the folder: a crash or a full disk leaves the old
    file as it was. A symlink stays, and what it points to is replaced. A FIFO or a device is written to as it is.

    Raises
    ------
    RunError
        When the folder is missing or can't be written, or the disk is full.
    """
    temporary = None
    try:
        target = replaced_by(path)
        if target is None:
            with path.open("wb") as direct:
                yield direct
            return
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".fastnn-", suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
            _unfinished.add(temporary)
            yield file  # type: ignore[misc]
            file.flush()
            _sync(file.fileno())
        _use_default_mode(temporary)
        os.replace(temporary, target)
        _unfinished.discard(temporary)
        temporary = None
        _sync_folder(target.parent)
    except OSError as error:
        raise RunError(f"{printable(path)}: can't be written ({error.strerror or error})") from error
    finally:
        if temporary is not None:
            try:
                temporary.unlink(missing_ok=True)
            except OSError:
                pass
            _unfinished.discard(temporary)


def replaced_by(path: Path) -> Path | None:
    """The file that writing to `path` makes or replaces, behind all symlinks; None for a FIFO or a device.

    Raises
    ------
    OSError
        When symlinks go round in a circle, or a folder may not be looked into.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:  # a new file, or a symlink to one
        mode = stat.S_IFREG
    # /dev/stdout leads to a name such as pipe:[123], which no folder holds: ask what it is before where it is
    return Path(os.path.realpath(path)) if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else None


def _use_default_mode(path: Path) -> None:
    """Temporary files are private; a result is as readable as the user's other files."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _sync(handle: int) -> None:
    """Wait until a file is on the disk. On macOS fsync leaves it in the disk's own cache; F_FULLFSYNC does not."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(handle, full)
            return
        except OSError:  # a network's file system may not know it
            pass
    os.fsync(handle)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows can't open a folder; its rename is journalled
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        _sync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
