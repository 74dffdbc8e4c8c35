"""IDX files, plain or gzipped: the format of MNIST.

Two zero bytes, a type code, the number of axes, each axis as a big-endian 32-bit count, then the numbers
(http://yann.lecun.com/exdb/mnist, "the IDX file format").
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fastnn.errors import DataError, printable

_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_MAX_BYTES = 2**34
_MAPPED_FROM = 2**28  # bytes: larger files of bytes, if not compressed, are mapped instead of read
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_COMPRESSION = 1032  # deflate can't do better: a larger count is a lie, known before anything is read
_READ_ERRORS = (OSError, EOFError, zlib.error)


def read_idx(path: Path, axes: int | None = None) -> tuple[np.ndarray, str]:
    """Read an IDX file.

    Parameters
    ----------
    path : Path
        Plain or gzipped, told by its first bytes.
    axes : int, optional
        Number of axes it must have: 3 for images, 1 for labels.

    Returns
    -------
    values : ndarray
        Of the declared shape, native byte order. A plain file of more than 256 MB of bytes is memory-mapped,
        other files are read; don't change it while it is in use.
    sha256 : str
        Of the uncompressed file.

    Raises
    ------
    DataError
        When the file can't be read or its header does not fit its bytes. Never more is decompressed than
        the header declares.
    """
    shown = printable(path.name)
    if not path.is_file():
        raise DataError(f"{shown}: not a file")
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            if not compressed:
                return _parse(raw, shown, axes, path.stat().st_size, exact=True)
            with gzip.GzipFile(fileobj=raw) as unzipped:
                return _parse(unzipped, shown, axes, path.stat().st_size * _MOST_COMPRESSION)
    except _READ_ERRORS as error:
        raise DataError(f"{shown}: damaged or unreadable ({printable(error)}). Download it again") from error


def _parse(
    file: BinaryIO | gzip.GzipFile, shown: str, axes: int | None, most: int, exact: bool = False
) -> tuple[np.ndarray, str]:
    head = file.read(4)
    if len(head) < 4:
        raise DataError(f"{shown}: {len(head)} bytes, not an IDX file")
    magic = int.from_bytes(head, "big")
    code, found_axes = head[2], head[3]
    if head[:2] != b"\0\0" or code not in _TYPES or not 1 <= found_axes <= 4:
        raise DataError(f"{shown}: magic number {magic}, not an IDX file")
    if axes is not None and found_axes != axes:
        wanted = {3: "images", 1: "labels"}.get(axes, f"{axes} axes")
        other = {3: "images", 1: "labels"}.get(found_axes, f"{found_axes}-axis")
        raise DataError(
            f"{shown}: magic number {magic}, expected {code * 256 + axes} ({wanted}). Is this the {other} file?"
        )
    counts = file.read(4 * found_axes)
    if len(counts) < 4 * found_axes:
        raise DataError(f"{shown}: ends inside its header")
    shape = struct.unpack(f">{found_axes}I", counts)
    dtype = np.dtype(_TYPES[code])
    wanted_bytes = math.prod(shape) * dtype.itemsize
    declared = " x ".join(f"{n:,}" for n in shape)
    if wanted_bytes > _MAX_BYTES:
        raise DataError(f"{shown}: declares {declared} values, {wanted_bytes:,} bytes; at most {_MAX_BYTES:,}")
    held = most - len(head) - len(counts)
    if wanted_bytes > held or (exact and wanted_bytes != held):  # before anything is allocated
        amount = f"{held:,}" if exact else f"at most {held:,}"
        raise DataError(f"{shown}: declares {declared} values, {wanted_bytes:,} bytes, but holds {amount}")
    if exact and dtype.itemsize == 1 and wanted_bytes >= _MAPPED_FROM:
        return _mapped(file, dtype, shape)
    values = _read_exactly(file, wanted_bytes, shown, declared)
    digest = hashlib.sha256(head + counts)
    digest.update(values)
    array = np.frombuffer(values, dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False), digest.hexdigest()


def _mapped(file: BinaryIO | gzip.GzipFile, dtype: np.dtype, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    array = np.memmap(file, dtype, "c", file.tell(), shape)  # type: ignore[call-overload]
    file.seek(0)
    return array, hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _read_exactly(file: BinaryIO | gzip.GzipFile, wanted: int, shown: str, declared: str) -> bytearray:
    """`wanted` bytes and the end of the file after them; memory grows with what is really there."""
    values = bytearray()
    while len(values) < wanted:
        part = file.read(min(wanted - len(values), 2**24))
        if not part:
            raise DataError(f"{shown}: declares {declared} values, {wanted:,} bytes, but holds {len(values):,}")
        values += part
    if file.read(1):
        raise DataError(f"{shown}: holds more than the {declared} values it declares")
    return values
