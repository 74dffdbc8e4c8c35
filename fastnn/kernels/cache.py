"""Machine code kept between processes, in a private folder that we own.

Numba's own file cache is keyed by the source of the one file a function is in, so an edited callee leaves stale
code; it breaks on truncated files and races, and raises at import where nothing can be written. Ours is keyed by
all sources of the kernels; a file is written whole or not at all and carries its own hash; and whatever goes
wrong, the kernel is compiled and the user is not bothered.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import stat
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np
import platformdirs
from numba.core.caching import CompileResultCacheImpl, _Cache
from numba.core.serialize import dumps

from fastnn.errors import RunError
from fastnn.files import atomic_write
from fastnn.kernels.host import SHAPE

_HASH_BYTES = 32
_OLD = 90 * 24 * 3600  # seconds
_unkept: list[str] = []  # why kernels that were compiled in this process could not be kept


@cache
def fingerprint() -> str:
    """Hash of everything machine code depends on: kernel sources, versions, CPU, tile shape, Numba's settings."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    settings = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))
    versions = (numba.__version__, llvmlite.__version__, np.__version__, sys.version)
    cpu = (llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())
    digest.update(repr((versions, cpu, SHAPE, settings)).encode())
    return digest.hexdigest()[:32]


def cache_folder() -> Path:
    """Where machine code is kept: ``FASTNN_CACHE_DIR``, else the user's cache folder.

    The folder of this fingerprint; others beside it belong to other versions.
    """
    root = os.environ.get("FASTNN_CACHE_DIR") or platformdirs.user_cache_dir("fastnn", appauthor=False)
    return Path(root).expanduser() / "kernels" / fingerprint()


def folder_problem(folder: Path) -> str | None:
    """Make `folder` if need be; why it can't be used, or None. Machine code is code: nobody else may write it."""
    try:
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        for level in (folder.parent, folder):
            level.mkdir(exist_ok=True, mode=0o700)
        if os.name == "posix":
            for level in (folder, folder.parent):
                status = level.stat()
                if status.st_uid != os.getuid():
                    return f"{level} belongs to another user"
                if stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
                    return f"{level} can be written by other users"
    except (OSError, RuntimeError) as error:
        return f"{folder} can't be made or read ({error})"
    return None if os.access(folder, os.W_OK) else f"{folder} can't be written"


def unkept() -> str | None:
    """Why the last kernel that could not be kept was not; None when all that this process compiled were."""
    return _unkept[-1] if _unkept else None


def _forget_old(folder: Path) -> None:
    """Remove the machine code of other versions that was written long ago."""
    try:
        for other in folder.parent.iterdir():
            if other != folder and time.time() - other.stat().st_mtime > _OLD:
                shutil.rmtree(other, ignore_errors=True)
    except OSError:  # another process did it meanwhile
        pass


class _Serializer(CompileResultCacheImpl):  # type: ignore[misc]
    """Numba's (de)serialisation of compiled functions, without its choice of a place for them."""

    def __init__(self) -> None:
        pass


class KernelCache(_Cache):  # type: ignore[misc]
    """Cache of one kernel, one file for each signature: SHA-256 of the rest, then the pickled machine code."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
        self._serializer = _Serializer()

    @property
    def cache_path(self) -> str:
        """Folder of the cache."""
        return str(cache_folder())

    def enable(self) -> None:
        """Nothing to do: always enabled."""

    def disable(self) -> None:
        """Nothing to do: never disabled."""

    def flush(self) -> None:
        """Remove the machine code of this kernel."""
        for path in cache_folder().glob(f"{self._name}-*.bin"):
            path.unlink(missing_ok=True)

    def _path(self, signature: Any, codegen: Any) -> Path:
        key = hashlib.sha256(repr((signature, codegen.magic_tuple())).encode()).hexdigest()[:24]
        return cache_folder() / f"{self._name}-{key}.bin"

    def holds(self, signature: Any, target_context: Any) -> bool:
        """Whether there is a file for these argument types."""
        return self._path(signature, target_context.codegen()).is_file()

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """The compiled kernel, or None when it is not there or anything is wrong with it."""
        path = self._path(signature, target_context.codegen())
        if not path.is_file() or folder_problem(path.parent):
            return None
        target_context.refresh()
        try:
            content = path.read_bytes()
            payload = content[_HASH_BYTES:]
            if hashlib.sha256(payload).digest() != content[:_HASH_BYTES]:
                raise ValueError("damaged")
            return self._serializer.rebuild(target_context, pickle.loads(payload))
        except Exception:  # whatever is wrong with the file: compile again, and write it anew
            try:
                path.unlink(missing_ok=True)
            except OSError:
                pass
            return None

    def save_overload(self, signature: Any, data: Any) -> None:
        """Write the compiled kernel, whole or not at all; that it can't be written is no error, see `unkept`."""
        if not self._serializer.check_cachable(data):
            return
        path = self._path(signature, data.codegen)
        problem = folder_problem(path.parent)
        if problem:
            _unkept.append(problem)
            return
        payload = dumps(self._serializer.reduce(data))
        try:
            with atomic_write(path) as file:
                file.write(hashlib.sha256(payload).digest() + payload)
        except RunError as error:
            _unkept.append(str(error))
            return
        _forget_old(path.parent)
