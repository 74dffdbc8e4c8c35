"""Folders of pictures: one folder a class, pictures of any size and kind in each, perhaps under train/ and test/."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fastnn.datasets.base import PIXEL, Dataset, Split, checked_split
from fastnn.datasets.labels import natural, written_type
from fastnn.datasets.tables import ReadProgress
from fastnn.errors import DataError, ImageError, printable
from fastnn.machine import available_threads

_PARTS = (("train", "test"), ("training", "testing"), ("train", "val"), ("train", "valid"))
_MOST_PICTURES = 2_000_000


def is_picture_folder(folder: Path) -> bool:
    """Whether a folder holds folders of pictures, itself or under train/."""
    return any(_looks_like_classes(part) for part in (folder, *(folder / train for train, _ in _PARTS)))


def _looks_like_classes(folder: Path) -> bool:
    from fastnn.images import SUFFIXES

    if not folder.is_dir():
        return False
    for inside in _class_folders(folder):
        with os.scandir(inside) as entries:
            if any(entry.name.lower().endswith(SUFFIXES) for entry, _ in zip(entries, range(1_000), strict=False)):
                return True
    return False


def _class_folders(folder: Path) -> list[Path]:
    folders = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
    return sorted(folders, key=lambda path: natural(path.name))


def load_pictures(folder: Path, progress: ReadProgress | None = None) -> Dataset:
    """Load a folder of class folders; each picture becomes 28x28 as `predict` would make it.

    Classes called 0 to 9 are digits and are cut, fitted and centred as MNIST's were; others fill their picture.
    Files that are no pictures by their names are left aside, and counted in `origin`.

    Raises
    ------
    DataError
        When a class is empty, there is one only, or a picture can't be read.
    """
    from fastnn import images

    parts = next(((a, b) for a, b in _PARTS if (folder / a).is_dir() and _looks_like_classes(folder / a)), None)
    train = folder / parts[0] if parts else folder
    classes = tuple(path.name for path in _class_folders(train))
    if len(classes) < 2:
        only = f" ({printable(classes[0], 40)})" if classes else ""
        raise DataError(f"{printable(train)}: {len(classes)} class folders{only}; expected two or more, one a class")
    digits = all(name in "0123456789" and len(name) == 1 for name in classes)
    recipe = images.RECIPES["mnist" if digits else "plain"]

    def prepare(path: Path) -> np.ndarray:
        return recipe(images.read(path)).pixels

    split, strays = _read(train, classes, prepare, progress)
    held = None
    if parts and (folder / parts[1]).is_dir():
        held, more = _read(folder / parts[1], classes, prepare, progress)
        strays += more
    aside = f", {strays} other files left aside" if strays else ""
    origin = f"{folder}, {len(classes)} folders of pictures{aside}"
    shape, kind = (images.SIDE, images.SIDE), written_type(classes)
    return Dataset(folder.resolve().name, split, held, classes, shape, origin, label_type=kind)


def _read(
    folder: Path, classes: tuple[str, ...], prepare: Callable[[Path], np.ndarray], progress: ReadProgress | None
) -> tuple[Split, int]:
    from fastnn.images import SUFFIXES

    strange = [path.name for path in _class_folders(folder) if path.name not in classes]
    if strange:
        raise DataError(
            f"{printable(folder)}: class {printable(strange[0], 40)} is not among those of the training pictures: "
            f"{printable(', '.join(classes[:10]), 80)}"
        )
    paths, labels, strays = list[Path](), list[int](), sum(path.is_file() for path in folder.iterdir())
    for index, name in enumerate(classes):
        inside = sorted((folder / name).iterdir()) if (folder / name).is_dir() else []
        pictures = [path for path in inside if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
        strays += len(inside) - len(pictures)
        if not pictures:
            raise DataError(f"{printable(folder / name)}: no pictures ({', '.join(SUFFIXES)}); every class needs some")
        paths += pictures
        labels += [index] * len(pictures)
    if len(paths) > _MOST_PICTURES:
        raise DataError(f"{printable(folder)}: {len(paths):,} pictures; at most {_MOST_PICTURES:,}")
    x, bad = np.zeros((len(paths), *prepared_shape()), np.uint8), list[str]()

    def one(index: int) -> None:
        try:
            x[index] = prepare(paths[index])
        except ImageError as error:
            bad.append(str(error))

    with ThreadPoolExecutor(available_threads()) as pool:
        for done, _ in enumerate(pool.map(one, range(len(paths)), chunksize=64), 1):
            if progress and done % 256 == 0:
                progress(printable(folder.name), done, len(paths))
    if bad:
        raise DataError(f"{len(bad)} of {len(paths):,} pictures can't be read; mend or remove them. {sorted(bad)[0]}")
    return checked_split(x, np.array(labels, np.int32), len(classes), printable(folder), scale=PIXEL), strays


def prepared_shape() -> tuple[int, int]:
    """Height and width of every prepared picture."""
    from fastnn.images import SIDE

    return SIDE, SIDE
