"""CIFAR-10 from its binary archive (Krizhevsky 2009): records of a label byte and 3 x 32 x 32 pixels, red first.

The Python version is a pickle and is not read.
"""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from fastnn.datasets.base import PIXEL, Dataset, checked_split
from fastnn.errors import DataError, printable

NAME, TITLE = "cifar-10", "colour photos of ten kinds, 50,000 + 10,000 (Krizhevsky 2009)"
ARCHIVE = "cifar-10-binary.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # of the archive, as published beside it
TRAIN = tuple(f"data_batch_{n}.bin" for n in range(1, 6))
TEST = "test_batch.bin"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (32, 32)
_RECORD = 1 + 3 * 32 * 32
_MOST_RECORDS = 100_000  # of one file


def holds_cifar(folder: Path) -> bool:
    """Whether a folder holds the archive, or its files."""
    return (folder / ARCHIVE).is_file() or all((folder / name).is_file() for name in (*TRAIN, TEST))


def load_cifar(folder: Path) -> Dataset:
    """Load the six files of a folder, or of the archive in it; nothing is unpacked to disk.

    Raises
    ------
    DataError
        When files are missing, damaged or of another size.
    """
    archive = folder / ARCHIVE
    parts = (
        _from_archive(archive)
        if archive.is_file()
        else {n: _records((folder / n).open("rb"), n) for n in (*TRAIN, TEST)}
    )
    missing = [name for name in (*TRAIN, TEST) if name not in parts]
    if missing:
        raise DataError(f"{printable(archive)}: no {', '.join(missing)} in it. Take {ARCHIVE}, the binary version")
    train, test = np.concatenate([parts[name] for name in TRAIN]), parts[TEST]
    return Dataset(
        NAME,
        checked_split(train[:, 1:], train[:, 0], len(CLASSES), "cifar-10: training set", scale=PIXEL),
        checked_split(test[:, 1:], test[:, 0], len(CLASSES), "cifar-10: test set", scale=PIXEL),
        CLASSES,
        SHAPE,
        str(folder),
    )


def _from_archive(path: Path) -> dict[str, np.ndarray]:
    records: dict[str, np.ndarray] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if member.isreg() and name in (*TRAIN, TEST) and name not in records:
                    content = archive.extractfile(member)
                    if content is not None:
                        records[name] = _records(content, name)
                if len(records) == len(TRAIN) + 1:
                    break
    except DataError:
        raise
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{printable(path)}: damaged or not a tar archive ({printable(error, 80)})") from error
    return records


def _records(file: IO[bytes], name: str) -> np.ndarray:
    with file:
        content = file.read(_MOST_RECORDS * _RECORD + 1)
    if not content or len(content) % _RECORD or len(content) > _MOST_RECORDS * _RECORD:
        raise DataError(f"{name}: {len(content):,} bytes; expected records of {_RECORD:,} bytes")
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    if records[:, 0].max() >= len(CLASSES):
        row = int(np.flatnonzero(records[:, 0] >= len(CLASSES))[0])
        raise DataError(f"{name}: label {records[row, 0]} in record {row + 1}; expected 0 to {len(CLASSES) - 1}")
    return records
