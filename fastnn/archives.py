"""Zip archives and NumPy's headers in them, looked at before anything is taken out."""

from __future__ import annotations

import math
import os
import re
import zipfile
from typing import IO, Any, cast

import numpy as np

from fastnn.errors import InputError, printable

_MEMBER = re.compile(r"[A-Za-z0-9_.\-/]{1,200}")
_MOST_HEADER = 10_000
_MOST_AT_ONCE = 2**21  # bytes; the list of 600 members takes a tenth of that
_PIECE = 2**20
_SLACK = 2**20  # bytes that an archive of any size may grow to


class ArchiveError(InputError):
    """An archive was refused; whoever opened it says of what file."""


def opened(file: IO[bytes], members: int, size: int, squeezed: float) -> zipfile.ZipFile:
    """An archive whose list of members is sound.

    Parameters
    ----------
    file : binary file
    members : int
        At most so many.
    size : int
        Of all of them when taken out, in bytes, at most.
    squeezed : float
        How many times smaller than its content one may be, and all of them together.

    Raises
    ------
    ArchiveError
        Too many, twice the same, odd names, encrypted, squeezed in other ways, or far too large when taken out.
    """
    packed = file.seek(0, os.SEEK_END)
    try:
        archive = zipfile.ZipFile(cast("IO[bytes]", _InPieces(file)))
    except ArchiveError:
        raise
    except Exception as error:  # zipfile raises many kinds for damaged archives
        raise ArchiveError(f"not a sound zip archive ({printable(error, 80)})") from error
    entries = archive.infolist()
    if len(entries) > members:
        raise ArchiveError(f"an archive of {len(entries)} files; at most {members}")
    names = [member.filename for member in entries]
    if len(set(names)) != len(names):
        raise ArchiveError("a file stands twice in the archive")
    total = 0
    for member in entries:
        name = printable(member.filename, 60)
        if not _MEMBER.fullmatch(member.filename) or ".." in member.filename or member.filename.startswith("/"):
            raise ArchiveError(f"{name}: an odd name in the archive")
        if member.flag_bits & 1:
            raise ArchiveError(f"{name} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArchiveError(f"{name} is compressed in another way than deflate")
        if member.file_size > squeezed * member.compress_size + 2**16:
            raise ArchiveError(f"{name} would grow {member.file_size // max(1, member.compress_size)} times")
        total += member.file_size
    if total > size:
        raise ArchiveError(f"{total:,} bytes when taken out; at most {size:,}")
    if total > squeezed * packed + _SLACK:  # members may share their bytes, and the list may lie about each
        raise ArchiveError(f"{total:,} bytes when taken out of {packed:,}; at most {squeezed:,.0f} times as many")
    return archive


class _InPieces:
    """A file that is never read at one go: `zipfile` believes what an archive says of the size of its list."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, count: int = -1) -> bytes:
        if count > _MOST_AT_ONCE:
            raise ArchiveError(f"a list of files of {count:,} bytes; at most {_MOST_AT_ONCE:,}")
        return self._file.read(count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def taken_out(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """The bytes of one member, as many as it says and no more than `most`."""
    size = archive.getinfo(name).file_size
    if size > most:
        raise ArchiveError(f"{printable(name, 60)}: {size:,} bytes; at most {most:,}")
    with archive.open(name) as member:
        content = member.read(size + 1)
    if len(content) != size:
        raise ArchiveError(f"{printable(name, 60)}: another size than the archive says")
    return content


def take_into(archive: zipfile.ZipFile, name: str, target: np.ndarray, skip: int = 0) -> None:
    """Fill a contiguous array with the bytes of one member, all but the first `skip`; no second copy is made."""
    flat = target.reshape(-1, order="A").view(np.uint8)
    with archive.open(name) as member:
        member.read(skip)
        at = 0
        while at < flat.size:
            piece = member.read(min(_PIECE, flat.size - at))
            if not piece:
                raise ArchiveError(f"{printable(name, 60)}: another size than the archive says")
            flat[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
            at += len(piece)


def array_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, number type and length of the header of an array; just so many bytes must follow."""
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        if version != (1, 0):  # others are for headers longer than 65,535 bytes
            raise ArchiveError(f"{printable(name, 60)}: version {version} of NumPy's format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(member, max_header_size=_MOST_HEADER)
        length = member.tell()
    whole = all(type(n) is int and n >= 0 for n in shape)
    if dtype.hasobject or not whole or archive.getinfo(name).file_size - length != math.prod(shape) * dtype.itemsize:
        raise ArchiveError(
            f"{printable(name, 60)}: its shape {list(shape)} of {printable(dtype, 20)} does not fit its bytes"
        )
    return shape, fortran, dtype, length


def array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """An array of plain numbers; look at its header with `array_header` before, whether it is to be had at all."""
    shape, fortran, dtype, length = array_header(archive, name)
    values = np.empty(shape, dtype, order="F" if fortran else "C")
    take_into(archive, name, values, length)
    return values
