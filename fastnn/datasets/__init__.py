"""Where arrays come from: one file a source, one registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fastnn.datasets import cifar
from fastnn.datasets.arrays import from_arrays
from fastnn.datasets.base import Dataset, Split, checked_features, checked_split, relabelled, stratified
from fastnn.datasets.idx import read_idx
from fastnn.datasets.named import FILES, KNOWN, find, find_file, load_cifar10, load_folder, load_known, search_path
from fastnn.datasets.npy import is_npy_folder, load_npy
from fastnn.datasets.npz import load_npz
from fastnn.datasets.pictures import is_picture_folder, load_pictures
from fastnn.datasets.strokes import draw, load_strokes
from fastnn.datasets.tables import ReadProgress, is_table, load_table
from fastnn.errors import ArgumentTypeError, DataError, FastnnError, RunError, UsageError, printable

__all__ = [
    "SOURCES",
    "Dataset",
    "Source",
    "Split",
    "Status",
    "checked_features",
    "checked_split",
    "draw",
    "from_arrays",
    "load",
    "load_split",
    "read_idx",
    "relabelled",
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
        is_local = find("mnist") is not None
        dataset = load_known(KNOWN["mnist"], _PATIENCE)
        return replace(dataset, origin=f"{'found in' if is_local else 'downloaded to'} {dataset.origin}")
    except (RunError, DataError) as error:
        reason = "damaged" if isinstance(error, DataError) else "not found, and no network to download it"
        return replace(load_strokes(), origin=f"digits drawn by program, because MNIST was {reason}")


SOURCES = {
    source.name: source
    for source in (
        Source("auto", "mnist where it can be had within 5 seconds, else strokes", _load_auto),
        *(
            Source(known.name, known.title, lambda known=known: load_known(known))  # type: ignore[misc]
            for known in KNOWN.values()
        ),
        Source(cifar.NAME, cifar.TITLE, load_cifar10),
        Source("strokes", "digits drawn by program, 60,000 + 10,000; needs no file", load_strokes),
    )
}


def load(
    data: str | Path = "auto",
    label: str | int | None = None,
    numbers: bool = False,
    test: float | str | Path | None = None,
    validation: str | Path | None = None,
    progress: ReadProgress | None = None,
) -> Dataset:
    r"""Load a data set, recognised by looking at it.

    Parameters
    ----------
    data : str or Path
        A name out of `SOURCES` (``"auto"``, ``"mnist"``, ``"fashion-mnist"``, ``"cifar-10"``, ``"strokes"``), or the
        place of files: a folder of IDX files with MNIST's names, plain or gzipped; a CSV table, plain or gzipped; an
        .npz archive; a folder of class folders of pictures, perhaps under ``train/`` and ``test/``; a folder with
        ``train.csv`` (and ``test.csv``); a folder of NumPy files (``x_train.npy``, ``y_train.npy``, ``x_test.npy``,
        ``y_test.npy``). A name wins over a folder called the same; write ``./mnist`` for the folder.
    label : str or int, optional
        Column of labels of a table, by name or number (from 1).
    numbers : bool
        Whether labels are numbers to be predicted instead of classes.
    test : float, str or Path, optional
        Where there are no test examples: the share to keep for testing, or the place of some.
    validation : str or Path, optional
        The place of examples to watch the training on: its test set, or all of it.
    progress : callable, optional
        Told (what, done, of how much) while files are read.

    Returns
    -------
    Dataset

    Raises
    ------
    UsageError
        When it is neither a name nor a place of files, or an option does not fit it.
    DataError
        When files are damaged or do not belong together.
    RunError
        When a named set is not on this machine and can't be downloaded.

    Examples
    --------
    >>> import fastnn, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pathlib.Path(folder, "flowers.csv")
    ...     _ = table.write_text("length,kind\n1.5,small\n1.7,small\n5.1,large\n5.3,large\n")
    ...     data = fastnn.load_data(table)
    >>> data.classes, data.train.x.shape
    (('large', 'small'), (4, 1))
    """
    if isinstance(label, int) and not isinstance(label, bool):
        label = str(label)
    if not isinstance(label, str | None):
        raise ArgumentTypeError(f"label={printable(repr(label), 40)}: expected the name or number of a column")
    table, beside = _table_of(data)
    second = {"test": _as_table(test), "validation": _as_table(validation)} if table else {}
    if table:
        if isinstance(test, str | Path):
            beside = None
        others = second["test"] or beside, second["validation"]
        dataset = load_table(table, label, numbers, *others, progress, test_found=beside is not None)
    elif label is not None:
        raise UsageError(f"label={printable(label)!r}: {printable(data)} is no table")
    else:
        dataset = SOURCES[str(data)].load() if str(data) in SOURCES else _load_place(data, numbers, progress)
    if validation is not None and not second.get("validation"):
        dataset = replace(dataset, validation=load_split(dataset, validation))
    if isinstance(test, str | Path):
        return dataset if second.get("test") else replace(dataset, test=load_split(dataset, test, "test"))
    return _with_test(dataset, test)


def _table_of(data: str | Path) -> tuple[Path | None, Path | None]:
    """The table that `data` means, and one of test examples that lies beside it in a folder."""
    path = Path(data).expanduser()
    if str(data) in SOURCES or not path.exists():
        return None, None
    if path.is_file() and is_table(path):
        return path, None
    if not is_npy_folder(path) and not any(find_file(path, name) for name in FILES):
        for ending in (".csv", ".csv.gz"):
            train, test = path / f"train{ending}", path / f"test{ending}"
            if train.is_file():
                return train, test if test.is_file() else None
    return None, None


def _as_table(place: float | str | Path | None) -> Path | None:
    """The table that `place` names, if it does."""
    path = Path(place).expanduser() if isinstance(place, str | Path) and str(place) not in SOURCES else None
    return path if path and path.is_file() and is_table(path) else None


def _load_place(data: str | Path, numbers: bool, progress: ReadProgress | None) -> Dataset:
    """Files that are no table, by what lies in them."""
    path = Path(data).expanduser()
    if path.is_file():
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                return load_npz(path, numbers)
    if path.is_dir():
        return _load_folder(path, progress)
    if path.exists():
        raise DataError(
            f"{printable(path)}: not a data set. Expected a .csv table, an .npz archive, or a folder of IDX files, "
            f"pictures or .npy files"
        )
    raise UsageError(
        f"no data set or file {printable(data)!r}: expected {', '.join(SOURCES)}, a .csv or .npz file, or a folder"
    )


def _load_folder(path: Path, progress: ReadProgress | None) -> Dataset:
    """A folder without a table, by what lies in it."""
    if is_npy_folder(path):
        return load_npy(path)
    if any(find_file(path, name) for name in FILES):
        return load_folder(path)
    if cifar.holds_cifar(path):
        return cifar.load_cifar(path)
    if is_picture_folder(path):
        return load_pictures(path, progress)
    raise DataError(
        f"{printable(path)}: no data set in this folder. An IDX data set has {', '.join(FILES)} (plain or .gz); "
        f"pictures lie in one folder a class; tables are called train.csv and test.csv, NumPy files x_train.npy and "
        f"y_train.npy"
    )


def _with_test(dataset: Dataset, share: float | None) -> Dataset:
    """The data set with test examples: its own, or a share of the training examples."""
    if share is None or dataset.test or not share:
        return dataset
    if not 0 < share < 1:
        raise UsageError(f"test={share}: expected a share from 0 to 1, or a file")
    train, held = stratified(dataset.train, share, 0)
    origin = f"{dataset.origin}; {len(held):,} kept for testing"
    return replace(dataset, train=train, test=held, origin=origin)


def load_split(dataset: Dataset, place: str | Path, name: str = "validation") -> Split:
    """The test examples of another place, or all of them, checked to be of the same kind as a data set's.

    Parameters
    ----------
    dataset : Dataset
    place : str or Path
    name : str
        Of the argument that named the place, for messages.

    Raises
    ------
    DataError
        When their features or classes do not fit.
    """
    other = load(place, numbers=dataset.train.y.ndim == 2)
    split, shown = other.test or other.train, f"{name}={printable(place)}"
    if other.features != dataset.features or split.y.ndim != dataset.train.y.ndim:
        raise DataError(f"{shown}: {other.features} features; the training examples have {dataset.features}")
    return relabelled(split, other.classes, dataset.classes, shown) if split.y.ndim == 1 else split


def status() -> list[Status]:
    """Every source with a name: where it was found, its size, and whether its hashes are the published ones."""
    statuses = []
    for known in KNOWN.values():
        files = find(known.name)
        if files is None:
            statuses.append(Status(known.name, known.title, "not found", 0, "will be downloaded when asked for"))
            continue
        state = "published files"
        for path, sha256 in zip(files, known.sha256, strict=True):
            try:
                if read_idx(path)[1] != sha256:
                    state = f"{path.name}: not the published file"
            except FastnnError as error:
                state = str(error)
        size = sum(file.stat().st_size for file in files)
        statuses.append(Status(known.name, known.title, str(files[0].parent), size, state))
    strokes, place = SOURCES["strokes"], next((p for p in search_path(cifar.NAME) if cifar.holds_cifar(p)), None)
    size = sum(file.stat().st_size for file in place.iterdir()) if place else 0
    state = "not checked" if place else "will be downloaded when asked for"
    statuses.append(Status(cifar.NAME, cifar.TITLE, str(place or "not found"), size, state))
    return [*statuses, Status("strokes", strokes.title, "built in", 0, "drawn when asked for")]
