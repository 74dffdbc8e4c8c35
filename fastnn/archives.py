"""Zip archives and NumPy's headers in them, looked at before anything is taken out."""

from __future__ import annotations

import math
import re
import zipfile
from typing import IO, Any

import numpy as np

from fastnn.errors import InputError, printable

_MEMBER = re.compile(r"[A-Za-z0-9_.\-/]{1,200}")
_MOST_HEADER = 10_000


class RefusedError(InputError):
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
        How many times smaller than its content one may be.

    Raises
    ------
    RefusedError
        Too many, twice the same, odd names, encrypted, squeezed in other ways, or far too large when taken out.
    """
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # zipfile raises many kinds for damaged archives
        raise RefusedError(f"not a sound zip archive ({printable(error, 80)})") from error
    found = archive.infolist()
    if len(found) > members:
        raise RefusedError(f"an archive of {len(found)} files; at most {members}")
    names = [member.filename for member in found]
    if len(set(names)) != len(names):
        raise RefusedError("a file stands twice in the archive")
    total = 0
    for member in found:
        name = printable(member.filename, 60)
        if not _MEMBER.fullmatch(member.filename) or ".." in member.filename or member.filename.startswith("/"):
            raise RefusedError(f"{name}: an odd name in the archive")
        if member.flag_bits & 1:
            raise RefusedError(f"{name} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RefusedError(f"{name} is compressed in another way than deflate")
        if member.file_size > squeezed * member.compress_size + 2**16:
            raise RefusedError(f"{name} would grow {member.file_size // max(1, member.compress_size)} times")
        total += member.file_size
    if total > size:
        raise RefusedError(f"{total:,} bytes when taken out; at most {size:,}")
    return archive


def taken_out(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """The bytes of one member, as many as it says and no more than `most`."""
    size = archive.getinfo(name).file_size
    if size > most:
        raise RefusedError(f"{printable(name, 60)}: {size:,} bytes; at most {most:,}")
    with archive.open(name) as member:
        content = member.read(size + 1)
    if len(content) != size:
        raise RefusedError(f"{printable(name, 60)}: another size than the archive says")
    return content


def array_header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, number type and length of the header of an array; just so many bytes must follow."""
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise RefusedError(f"{printable(name, 60)}: version {version} of NumPy's format")
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = reader(member, max_header_size=_MOST_HEADER)
        length = member.tell()
    if dtype.hasobject or archive.getinfo(name).file_size - length != math.prod(shape) * dtype.itemsize:
        raise RefusedError(
            f"{printable(name, 60)}: its shape {list(shape)} of {printable(dtype, 20)} does not fit its bytes"
        )
    return shape, fortran, dtype, length


def array(archive: zipfile.ZipFile, name: str, most: int) -> np.ndarray:
    """An array of plain numbers."""
    shape, fortran, dtype, length = array_header(archive, name)
    flat = np.frombuffer(taken_out(archive, name, most), dtype, math.prod(shape), length)
    return flat.reshape(shape, order="F" if fortran else "C")
