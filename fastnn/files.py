"""Writing files so that nothing is ever half there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fastnn.errors import RunError, printable

_unfinished: set[Path] = set()


def unfinished() -> list[Path]:
    """Temporary files that are being written now: what a process that leaves at once must remove."""
    return list(_unfinished)


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that becomes `path` when the block ends well, and leaves no trace when it does not.

    Temporary file in the same folder, fsync, rename, fsync of the folder: a crash or a full disk leaves the old
    file as it was.

    Raises
    ------
    RunError
        When the folder is missing or can't be written, or the disk is full.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".fastnn-", suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
            _unfinished.add(temporary)
            yield file  # type: ignore[misc]
            file.flush()
            os.fsync(file.fileno())
        _use_default_mode(temporary)
        os.replace(temporary, path)
        _unfinished.discard(temporary)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"{printable(path)}: can't be written ({error.strerror or error})") from error
    finally:
        if temporary is not None:
            try:
                temporary.unlink(missing_ok=True)
            except OSError:
                pass
            _unfinished.discard(temporary)


def _use_default_mode(path: Path) -> None:
    """Temporary files are private; a result is as readable as the user's other files."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows can't open a folder; its rename is journalled
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
