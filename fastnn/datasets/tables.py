"""Tables of numbers and labels as text: CSV in the forms people have it, parsed by NumPy's reader.

Any column may hold the label; a header or none; commas, semicolons or tabs; plain or gzipped. Read in pieces into
memory that was counted before, so that a table takes little more than its numbers.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fastnn.datasets.base import PIXEL, Dataset, Split, checked_targets
from fastnn.datasets.labels import class_names, indices_of, written_type
from fastnn.errors import DataError, printable

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt")
ReadProgress = Callable[[str, int, int], None]  # what is read, how much is done, of how much
_PIECE = 2**23  # bytes of text parsed at once
_LABELS = ("label", "labels", "class", "target", "y", "digit", "species", "category")
_MOST_COLUMNS = 2**20
_LINE = 2**24  # bytes of one line, at most
_NUMPYS = re.compile(r"could not convert string '(.*)' to \w+ at row (\d+), column (\d+)", re.DOTALL)


class _UnlabelledError(DataError):
    """A second table that lacks the labels and nothing else."""


@dataclass(frozen=True)
class Form:
    """How a table is written.

    Attributes
    ----------
    delimiter : str
    header : tuple of str
        Names of the columns; empty without a header.
    columns : int
    labels : tuple of int
        Which columns hold the label (or the targets).
    why : str
        How that was decided, for people.
    """

    delimiter: str
    header: tuple[str, ...]
    columns: int
    labels: tuple[int, ...]
    why: str

    def name(self, column: int) -> str:
        """What to call a column in a message."""
        return f"column {column + 1}" + (f" ({printable(self.header[column], 40)})" if self.header else "")


def is_table(path: Path) -> bool:
    """Whether a file is called like a table."""
    return path.name.lower().endswith(SUFFIXES)


def load_table(
    path: Path,
    label: str | None = None,
    numbers: bool = False,
    test: Path | None = None,
    validation: Path | None = None,
    progress: ReadProgress | None = None,
    *,
    test_found: bool = False,
) -> Dataset:
    """Load a table of numbers with a label in each row.

    Parameters
    ----------
    path : Path
    label : str, optional
        Name or number (from 1) of the column of labels, several with commas where they are `numbers`; by default the
        one called so, or the only one of text, or the first of 785, or the last.
    numbers : bool
        Whether labels are numbers to be predicted, not names of classes.
    test, validation : Path, optional
        Tables of the same columns: by their names, in any order, where both have names.
    progress : callable, optional
        Told how far it is.
    test_found : bool
        Whether `test` only happened to lie there; without labels, as Kaggle's, it is then left aside.

    Raises
    ------
    DataError
        Saying the line and column of what is wrong.
    """
    form, x, y = _read(path, label, numbers, progress)
    shape = _picture(form, x)
    scale = PIXEL if shape and x.max() > 1 else 1.0
    name, origin = path.name.partition(".")[0], f"{path}, {form.why}"
    if numbers:
        classes, kind = tuple(form.header[c] if form.header else str(i) for i, c in enumerate(form.labels)), "index"
    else:
        classes = class_names(y, printable(path.name))
        kind = written_type(classes)

    def split(x: np.ndarray, y: np.ndarray, source: str) -> Split:
        x = _bytes(x) if scale == PIXEL else x
        if numbers:
            return checked_targets(x, y, source, scale=scale)
        return Split(x, indices_of(y, classes, "str", source), None, scale, source)

    def other(place: Path | None, may_lack_labels: bool = False) -> Split | None:
        nonlocal origin
        if place is None:
            return None
        try:
            _, other_x, other_y = _read(place, label, numbers, progress, form)
        except _UnlabelledError:
            if not may_lack_labels:
                raise
            origin += f"; {printable(place.name)} has no labels and is left aside"
            return None
        return split(other_x, other_y, printable(place.name))

    train, held, watched = split(x, y, printable(path.name)), other(test, test_found), other(validation)
    return Dataset(name, train, held, classes, shape, origin, watched, shape is None, kind)


def _picture(form: Form, x: np.ndarray) -> tuple[int, int] | None:
    """Height and width where columns are pixels: by their names, or 784 of them from 0 to 255."""
    features = x.shape[1]
    side = round(features**0.5)
    named = [form.header[c].lower() for c in range(form.columns) if c not in form.labels] if form.header else []
    pixels = all(re.fullmatch(r"(pixel|px|p)?_?\d+(x\d+)?", name) for name in named) if named else features == 784
    return (side, side) if side * side == features and side >= 4 and pixels and _are_bytes(x) else None


def _are_bytes(x: np.ndarray) -> bool:
    parts = (x[first : first + 10_000] for first in range(0, len(x), 10_000))
    return all(part.min() >= 0 and part.max() <= 255 and not (part != np.rint(part)).any() for part in parts)


def _bytes(x: np.ndarray) -> np.ndarray:
    """Pixels as bytes, which take a quarter of the memory; as they are where a byte can't hold them."""
    return x.astype(np.uint8) if _are_bytes(x) else x


def _read(
    path: Path, label: str | None, numbers: bool, progress: ReadProgress | None, form: Form | None = None
) -> tuple[Form, np.ndarray, np.ndarray]:
    shown = printable(path.name)
    try:
        with path.open("rb") as raw:
            rows, size = _count_lines(_unzipped(raw), shown)
        with path.open("rb") as raw:
            return _parse(_unzipped(raw), rows, size, label, numbers, progress, form, shown)
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{shown}: damaged or unreadable ({printable(error)})") from error


def _unzipped(raw: BinaryIO) -> BinaryIO:
    start = raw.read(2)
    raw.seek(0)
    return gzip.GzipFile(fileobj=raw) if start == b"\x1f\x8b" else raw  # type: ignore[return-value]


def _count_lines(file: BinaryIO, shown: str) -> tuple[int, int]:
    """At most so many rows, and the size of the text."""
    lines, size, last, since = 0, 0, b"\n", 0
    while part := file.read(2**20):
        newlines = part.count(b"\n")
        since = since + len(part) if not newlines else len(part) - part.rfind(b"\n")
        if since > _LINE:
            raise DataError(f"{shown}: a line of more than {_LINE:,} bytes; not a table")
        lines, size, last = lines + newlines, size + len(part), part[-1:]
    return lines + (last != b"\n"), size


def _pieces(file: BinaryIO, shown: str) -> Iterator[tuple[int, list[str], int]]:
    """Number of the first line, some whole lines, and how many bytes they were."""
    number, rest, first = 1, b"", True
    while True:
        part = file.read(_PIECE)
        content = rest + part
        if first:
            if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise DataError(f"{shown}: UTF-16 text; save it as UTF-8")
            content, first = content.removeprefix(b"\xef\xbb\xbf"), False
        cut = content.rfind(b"\n") + 1 if part else len(content)
        rest, content = content[cut:], content[:cut]
        if b"\0" in content:
            raise DataError(f"{shown}: holds zero bytes; not a table of text")
        if content:
            try:
                lines = [line.removesuffix("\r") for line in content.decode("utf-8").split("\n")]
            except UnicodeDecodeError as error:
                at = number + content[: error.start].count(b"\n")
                raise DataError(f"{shown}: line {at} is not UTF-8 text; save it as UTF-8") from error
            broken = next((i for i, line in enumerate(lines) if "\r" in line), None)
            if broken is not None:
                raise DataError(
                    f"{shown}: line {number + broken} holds a bare carriage return; end lines with a newline"
                )
            yield number, lines, len(content)
            number += content.count(b"\n")
        if not part:
            return


def _parse(
    file: BinaryIO,
    rows: int,
    size: int,
    label: str | None,
    numbers: bool,
    progress: ReadProgress | None,
    form: Form | None,
    shown: str,
) -> tuple[Form, np.ndarray, np.ndarray]:
    x: np.ndarray | None = None
    labels: list[np.ndarray] = []
    done = read = 0
    for number, lines, length in _pieces(file, shown):
        at = [number + i for i, line in enumerate(lines) if line.strip()]
        lines = [line for line in lines if line.strip()]
        if not lines:
            continue
        if x is None:
            if form is None:
                form = form_of(lines[:50], label, numbers, shown)
                features = [c for c in range(form.columns) if c not in form.labels]
            else:
                form, features = _form_like(form, lines[:50], shown)
            if not features:
                raise DataError(f"{shown}: one column only; expected a label and features in each row")
            rows = min(rows - bool(form.header), size // max(1, 2 * form.columns - 1) + 1)  # a number and a mark each
            x = np.empty((rows, len(features)), np.float32)
            if form.header:
                lines, at = lines[1:], at[1:]
        assert form is not None
        if lines:
            _check_ragged(lines, at, form, shown)
            x[done : done + len(lines)] = _numbers(lines, at, features, form, shown)
            labels.append(
                _numbers(lines, at, list(form.labels), form, shown) if numbers else _texts(lines, at, form, shown)
            )
            done += len(lines)
        read += length
        if progress:
            progress(shown, read, size)
    if x is None or done == 0 or form is None:
        raise DataError(f"{shown}: no rows")
    return form, x[:done], np.concatenate(labels)


def _check_ragged(lines: Sequence[str], at: Sequence[int], form: Form, shown: str) -> None:
    for line, number in zip(lines, at, strict=True):
        if line.count(form.delimiter) != form.columns - 1:
            columns = len(next(csv.reader([line], delimiter=form.delimiter)))
            if columns != form.columns:
                raise DataError(f"{shown}: line {number} has {columns} columns, the first {form.columns}")


def _numbers(lines: list[str], at: Sequence[int], columns: list[int], form: Form, shown: str) -> np.ndarray:
    """(rows, columns) float32, all finite."""
    try:
        values = np.loadtxt(
            lines, np.float32, delimiter=form.delimiter, usecols=columns, ndmin=2, comments=None, quotechar='"'
        )
    except ValueError as error:
        told = _NUMPYS.search(str(error))
        if told is None:
            raise DataError(f"{shown}: line {at[0]} or after: {printable(error, 120)}") from error
        text, row, column = told[1], int(told[2]), int(told[3])
        raise DataError(
            f"{shown}: line {at[min(row, len(at) - 1)]}, {form.name(min(column - 1, form.columns - 1))}: "
            + ("a missing value" if not text.strip() else f"{printable(text, 40)!r} is not a number")
            + (". Name the column of labels by label=" if text.strip() else "")
        ) from error
    if len(values) != len(lines):
        raise DataError(f"{shown}: line {at[0]} or after: a quoted field that goes over the end of its line")
    bad = np.argwhere(~np.isfinite(values))
    if bad.size:
        row, column = (int(n) for n in bad[0])
        raise DataError(
            f"{shown}: line {at[row]}, {form.name(columns[column])}: "
            f"a missing or infinite value ({values[row, column]})"
        )
    return values


def _texts(lines: list[str], at: Sequence[int], form: Form, shown: str) -> np.ndarray:
    """(rows,) labels as they are written, without spaces around; whole numbers without a decimal point."""
    column = form.labels[0]
    labels = np.array(
        [field[column].strip() if len(field) > column else "" for field in csv.reader(lines, delimiter=form.delimiter)]
    )
    empty = np.flatnonzero((labels == "") | (np.char.lower(labels) == "nan"))
    if empty.size or len(labels) != len(lines):
        line = at[int(empty[0])] if empty.size else at[0]
        raise DataError(f"{shown}: line {line}, {form.name(column)}: a missing label")
    if all(re.fullmatch(r"-?\d+\.0*", str(name)) for name in np.unique(labels)[:1_000]):
        labels = np.char.partition(labels, ".")[:, 0]
    return labels


def _is_number(text: str) -> bool:
    try:
        float(text)
        return True
    except ValueError:
        return not text.strip()  # a missing value does not make a column one of text


def form_of(lines: Sequence[str], label: str | None, numbers: bool, shown: str) -> Form:
    """How a table is written, from its first lines."""
    delimiter, header, rows = _first_rows(lines, shown)
    columns = len(rows[0])
    sample = [row for row in rows[bool(header) :] if len(row) == columns]
    worded = [c for c in range(columns) if any(not _is_number(row[c]) for row in sample)]
    labels, why = _label_columns(header, columns, label, worded, shown)
    if len(labels) > 1 and not numbers:
        raise DataError(f'{shown}: label= names {len(labels)} columns: that needs a loss of numbers, loss="squared"')
    return Form(delimiter, header, columns, labels, why)


def _first_rows(lines: Sequence[str], shown: str) -> tuple[str, tuple[str, ...], list[list[str]]]:
    """The mark between columns, their names where they have some, and the first rows."""
    delimiter = max(",;\t", key=lambda mark: (lines[0].count(mark), mark == ","))
    rows = list(csv.reader(lines, delimiter=delimiter))
    first = [field.strip() for field in rows[0]]
    if len(first) > _MOST_COLUMNS:
        raise DataError(f"{shown}: {len(first):,} columns; at most {_MOST_COLUMNS:,}")
    below = next((row for row in rows[1:] if len(row) == len(first)), None)
    texts = [not _is_number(field) for field in first]
    header = tuple(first) if _is_header(texts, below) else ()
    if header and len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{shown}: two columns are called {printable(twice, 40)!r}")
    return delimiter, header, rows


def _form_like(form: Form, lines: Sequence[str], shown: str) -> tuple[Form, list[int]]:
    """The form of a second table, and which of its columns are the features of the first, in that order.

    Raises
    ------
    _UnlabelledError
        When nothing but the label is missing.
    DataError
        When columns are missing, or there are others.
    """
    delimiter, header, rows = _first_rows(lines, shown)
    columns, features = len(rows[0]), [c for c in range(form.columns) if c not in form.labels]
    labels = [form.header[c] for c in form.labels] if form.header else []
    if columns == len(features) and not set(labels) & set(header):
        raise _UnlabelledError(f"{shown}: {columns} columns; the training table has {form.columns}, one of them labels")
    if columns != form.columns:
        raise DataError(f"{shown}: {columns} columns; the training table has {form.columns}")
    if not (header and form.header):
        return Form(delimiter, header, columns, form.labels, form.why), features
    lacking = [name for name in form.header if name not in header]
    if lacking:
        raise DataError(f"{shown}: no column {printable(lacking[0], 40)!r}, which the training table has")
    places = [header.index(name) for name in form.header]
    own = Form(delimiter, header, columns, tuple(places[c] for c in form.labels), form.why)
    return own, [places[c] for c in features]


def _is_header(texts: list[bool], below: Sequence[str] | None) -> bool:
    """Whether a first row is names: all are text, or some are where the row below has numbers."""
    if not any(texts):
        return False
    if below is None:
        return all(texts)
    return any(text and _is_number(field) for text, field in zip(texts, below, strict=True)) or (
        all(texts) and len(texts) > 1
    )


def _label_columns(
    header: tuple[str, ...], columns: int, label: str | None, worded: list[int], shown: str
) -> tuple[tuple[int, ...], str]:
    if label is not None:
        chosen = []
        for part in (part.strip() for part in label.split(",")):
            if part in header:
                chosen.append(header.index(part))
            elif part.lstrip("-").isdigit() and 1 <= abs(int(part)) <= columns:
                chosen.append(int(part) - 1 if int(part) > 0 else columns + int(part))
            else:
                named = f": {printable(', '.join(header[:12]), 120)}" if header else f" 1 to {columns}"
                raise DataError(f"{shown}: label={printable(part, 40)!r}: expected one of the columns{named}")
        return tuple(chosen), f"labels in {', '.join(header[c] if header else f'column {c + 1}' for c in chosen)}"
    lower = [name.lower() for name in header]
    for name in _LABELS:
        if name in lower:
            return (lower.index(name),), f"labels in {header[lower.index(name)]}"
    if len(worded) == 1:
        return (worded[0],), f"labels in column {worded[0] + 1}, the only one of text"
    if columns == 785:
        return (0,), "labels in the first of 785 columns"
    return (columns - 1,), f"labels in the last column{f', {header[-1]}' if header else ''}"
