"""Data sets known by name: MNIST and Fashion-MNIST, found on this machine or downloaded."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs

from fastnn.datasets import cifar
from fastnn.datasets.base import PIXEL, Dataset, checked_split
from fastnn.datasets.download import download
from fastnn.datasets.idx import read_idx
from fastnn.errors import DataError, RunError, printable

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Known:
    """A published data set: the SHA-256 of its uncompressed files, in the order of FILES, and its mirrors."""

    name: str
    title: str
    sha256: tuple[str, str, str, str]
    mirrors: tuple[str, ...]
    classes: tuple[str, ...]


MNIST = Known(
    "mnist",
    "handwritten digits, 60,000 + 10,000 (LeCun, Cortes, Burges)",
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    DIGITS,
)
FASHION_MNIST = Known(
    "fashion-mnist",
    "photos of clothes, 60,000 + 10,000 (Xiao, Rasul, Vollgraf 2017)",
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    (
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "https://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"),
)
KNOWN = {known.name: known for known in (MNIST, FASHION_MNIST)}


def cache_root() -> Path:
    """The user's cache folder for data sets."""
    return Path(platformdirs.user_cache_dir("fastnn", appauthor=False)) / "data"


def search_path(name: str) -> list[Path]:
    """Folders where a data set may lie, in order: ``$FASTNN_DATA/NAME``, ``./data/NAME``, the user's cache."""
    root = os.environ.get("FASTNN_DATA")
    given = [Path(root).expanduser() / name] if root else []
    return [*given, Path("data") / name, cache_root() / name]


def find_file(folder: Path, name: str) -> Path | None:
    """`name` in `folder`, plain or gzipped, also under torchvision's ``raw/`` and with a dot for the last dash."""
    dotted = name.replace("-idx", ".idx")
    for base in (folder, folder / "raw"):
        for candidate in (name, f"{name}.gz", dotted, f"{dotted}.gz"):
            if (base / candidate).is_file():
                return base / candidate
    return None


def find(name: str) -> list[Path] | None:
    """The four files of a data set in the first folder that holds them all, or None."""
    for folder in search_path(name):
        files = [find_file(folder, file) for file in FILES]
        if all(files):
            return [file for file in files if file is not None]
    return None


def load_known(known: Known, seconds: float = 120.0) -> Dataset:
    """Load a data set by name, downloading what is missing into the user's cache.

    A damaged file in our own cache is fetched once more; one that the user placed is refused.

    Raises
    ------
    DataError
        When a file that was found is not the published one.
    RunError
        When it is nowhere and can't be downloaded: which files are needed, and where to put them.
    """
    files = find(known.name) or _download_all(known, seconds)
    arrays = []
    for path, name, sha256, axes in zip(files, FILES, known.sha256, (3, 1, 3, 1), strict=True):
        try:
            arrays.append(_read_checked(path, axes, sha256))
        except DataError:
            if cache_root() not in path.parents:
                raise
            download([f"{mirror}{name}.gz" for mirror in known.mirrors], path.parent / f"{name}.gz", sha256, seconds)
            if path.name != f"{name}.gz":
                path.unlink(missing_ok=True)
            arrays.append(_read_checked(path.parent / f"{name}.gz", axes, sha256))
    return _dataset(known.name, arrays, known.classes, str(files[0].parent))


def _read_checked(path: Path, axes: int, sha256: str):  # type: ignore[no-untyped-def]
    values, digest = read_idx(path, axes)
    if digest != sha256:
        raise DataError(
            f"{printable(path)}: SHA-256 {digest[:12]}…, but the published file has {sha256[:12]}…. "
            f"Remove it, or pass its folder as data= to use it as it is"
        )
    return values


def _download_all(known: Known, seconds: float) -> list[Path]:
    folder = cache_root() / known.name
    try:
        for name, sha256 in zip(FILES, known.sha256, strict=True):
            if find_file(folder, name) is None:
                urls = [f"{mirror}{name}.gz" for mirror in known.mirrors]
                download(urls, folder / f"{name}.gz", sha256, seconds)
    except RunError as error:
        wanted = ", ".join(f"{name}.gz" for name in FILES)
        raise RunError(
            f"{known.name} was not found and could not be downloaded: {error}. "
            f"Put {wanted} into data/{known.name}/, or set FASTNN_DATA to a folder that holds {known.name}/"
        ) from error
    return [path for name in FILES if (path := find_file(folder, name))]


def load_cifar10(seconds: float = 600.0) -> Dataset:
    """CIFAR-10 by name: where it is found, or downloaded into the user's cache.

    Raises
    ------
    DataError
        When its files are damaged.
    RunError
        When it is nowhere and can't be downloaded: what is needed, and where to put it.
    """
    folder = next((place for place in search_path(cifar.NAME) if cifar.holds_cifar(place)), None)
    if folder is None:
        folder = cache_root() / cifar.NAME
        try:
            download([cifar.URL], folder / cifar.ARCHIVE, _published, seconds)
        except RunError as error:
            raise RunError(
                f"{cifar.NAME} was not found and could not be downloaded: {error}. Put {cifar.ARCHIVE} into "
                f"data/{cifar.NAME}/, or set FASTNN_DATA to a folder that holds {cifar.NAME}/"
            ) from error
    return cifar.load_cifar(folder)


def _published(path: Path) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    if digest != cifar.MD5:
        raise DataError(f"MD5 {digest[:12]}…, but the published archive has {cifar.MD5[:12]}…")


def load_folder(folder: Path) -> Dataset:
    """Load a folder of IDX files with the four names of MNIST, plain or gzipped.

    Raises
    ------
    DataError
        When files are missing or do not belong together.
    """
    files = [find_file(folder, name) for name in FILES]
    missing = [name for name, path in zip(FILES, files, strict=True) if path is None]
    if missing:
        raise DataError(
            f"{printable(folder)}: no {', '.join(missing)} (plain or .gz). "
            f"An IDX data set is a folder with {', '.join(FILES)}; one of NumPy files has x_train.npy and y_train.npy"
        )
    arrays = [read_idx(path, axes)[0] for path, axes in zip(files, (3, 1, 3, 1), strict=True) if path is not None]
    highest = max(int(arrays[1].max(initial=0)), int(arrays[3].max(initial=0)))
    if highest > 65_535:
        raise DataError(f"{printable(folder)}: label {highest}; expected 0 to 65,535")
    classes = DIGITS if highest < 10 else tuple(str(n) for n in range(highest + 1))
    return _dataset(folder.name, arrays, classes, str(folder))


def _dataset(name: str, arrays: list, classes: tuple[str, ...], origin: str) -> Dataset:  # type: ignore[type-arg]
    train_x, train_y, test_x, test_y = arrays
    if train_x.shape[1:] != test_x.shape[1:]:
        raise DataError(f"{origin}: training images of {train_x.shape[1:]} but test images of {test_x.shape[1:]}")
    scale = PIXEL if train_x.dtype == np.uint8 else None  # the format's type of pixels
    return Dataset(
        name,
        checked_split(train_x, train_y, len(classes), f"{origin}: training set", scale=scale),
        checked_split(test_x, test_y, len(classes), f"{origin}: test set", scale=scale),
        classes,
        (int(train_x.shape[1]), int(train_x.shape[2])),
        origin,
    )
