"""Where arrays come from: one file a source, one registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastnn.datasets.base import Dataset, Split, checked_features, checked_split
from fastnn.datasets.idx import read_idx
from fastnn.datasets.named import FILES, KNOWN, find, load_folder, load_known
from fastnn.datasets.npy import is_npy_folder, load_npy
from fastnn.datasets.strokes import draw, load_strokes
from fastnn.errors import DataError, FastnnError, RunError, UsageError, printable

__all__ = [
    "SOURCES",
    "Dataset",
    "Source",
    "Split",
    "Status",
    "checked_features",
    "checked_split",
    "draw",
    "load",
    "read_idx",
    "status",
]

_PATIENCE = 5.0  # seconds that `auto` waits for a download before it draws digits instead


@dataclass(frozen=True)
class Source:
    """A data set with a name: how to load it, and what it is."""

    name: str
    title: str
    load: Callable[[], Dataset]


@dataclass(frozen=True)
class Status:
    """What `fastnn data` shows of a source: where it is, how large, and whether it is the published one."""

    name: str
    title: str
    place: str
    bytes: int
    state: str


def _load_auto() -> Dataset:
    """MNIST where it is found or can be downloaded within a few seconds, else `strokes`."""
    try:
        found = find("mnist") is not None
        dataset = load_known(KNOWN["mnist"], _PATIENCE)
        return _with_origin(dataset, f"found in {dataset.origin}" if found else f"downloaded to {dataset.origin}")
    except (RunError, DataError) as error:
        reason = "damaged" if isinstance(error, DataError) else "not found, and no network to download it"
        return _with_origin(load_strokes(), f"digits drawn by program, because MNIST was {reason}")


def _with_origin(dataset: Dataset, origin: str) -> Dataset:
    return Dataset(dataset.name, dataset.train, dataset.test, dataset.classes, dataset.image_shape, origin)


SOURCES = {
    source.name: source
    for source in (
        Source("auto", "mnist where it can be had within 5 seconds, else strokes", _load_auto),
        *(
            Source(known.name, known.title, lambda known=known: load_known(known))  # type: ignore[misc]
            for known in KNOWN.values()
        ),
        Source("strokes", "digits drawn by program, 60,000 + 10,000; needs no file", load_strokes),
    )
}


def load(data: str | Path = "auto") -> Dataset:
    """Load a data set.

    Parameters
    ----------
    data : str or Path
        A name out of `SOURCES` (``"auto"``, ``"mnist"``, ``"fashion-mnist"``, ``"strokes"``), or a folder of IDX
        files with MNIST's names, plain or gzipped, or of NumPy files (``x_train.npy``, ``y_train.npy`` and, for a
        test set, ``x_test.npy``, ``y_test.npy``). A name wins over a folder called the same; write ``./mnist``
        for the folder.

    Returns
    -------
    Dataset

    Raises
    ------
    UsageError
        When it is neither a name nor a folder.
    DataError
        When files are damaged or do not belong together.
    RunError
        When a named set is not on this machine and can't be downloaded.
    """
    if str(data) in SOURCES:
        return SOURCES[str(data)].load()
    path = Path(data).expanduser()
    if path.is_dir():
        return load_npy(path) if is_npy_folder(path) else load_folder(path)
    if path.exists():
        raise DataError(f"{printable(path)}: expected a folder of IDX files ({', '.join(FILES)}) or of x_train.npy, …")
    raise UsageError(
        f"no data set or folder {printable(data)!r}: expected {', '.join(SOURCES)}, or a folder of IDX or .npy files"
    )


def status() -> list[Status]:
    """Every source with a name: where it was found, its size, and whether its hashes are the published ones."""
    found = []
    for known in KNOWN.values():
        files = find(known.name)
        if files is None:
            found.append(Status(known.name, known.title, "not found", 0, "will be downloaded when asked for"))
            continue
        state = "published files"
        for path, sha256 in zip(files, known.sha256, strict=True):
            try:
                if read_idx(path)[1] != sha256:
                    state = f"{path.name}: not the published file"
            except FastnnError as error:
                state = str(error)
        found.append(Status(known.name, known.title, str(files[0].parent), sum(f.stat().st_size for f in files), state))
    strokes = SOURCES["strokes"]
    return [*found, Status("strokes", strokes.title, "built in", 0, "drawn when asked for")]
