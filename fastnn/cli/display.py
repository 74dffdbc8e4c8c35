"""Text for people: bars, tables, progress. Plain where the output is no terminal, or colour is not wanted."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from fastnn.errors import printable

if TYPE_CHECKING:
    import numpy as np

    from fastnn.model.model import Prediction
    from fastnn.training.run import Epoch, Progress

_BAR = 24
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def is_fancy(stream: TextIO) -> bool:
    """Whether colour and moving bars belong on this stream."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def can_draw(stream: TextIO) -> bool:
    """Whether a stream can show blocks."""
    try:
        _EIGHTHS.encode(stream.encoding or "ascii")
        return True
    except (UnicodeEncodeError, LookupError):
        return False


def bar(share: float, width: int = _BAR, stream: TextIO | None = None) -> str:
    """`share` (0 to 1) of `width` characters."""
    if not can_draw(stream or sys.stdout):
        return "#" * round(share * width)
    full, rest = divmod(round(share * width * 8), 8)
    return "█" * full + (_EIGHTHS[rest] if rest else "")


def say(text: str = "") -> None:
    """A result, on stdout."""
    print(text)


def print_json(event: dict[str, Any]) -> None:
    """One JSON object on a line of stdout."""
    say(json.dumps(event, allow_nan=False))


def note(text: str) -> None:
    """Something about how it goes, on stderr."""
    print(text, file=sys.stderr, flush=True)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns of equal width, those numbered in `right` aligned to the right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    shown = []
    for line in lines:
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        shown.append("  ".join(cells).rstrip())
    shown.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(shown)


def prediction(one: Prediction, name: str, top: int | None, chart: bool) -> str:
    """One prediction: a line, and a bar for each of the `top` classes when a chart is wanted."""
    label = printable(one.label)
    said = {"sure": label, "unsure": f"unsure, perhaps {label}", "nothing": "no digit, nothing is drawn"}
    line = f"{name}: {said[one.verdict]}  ({one.confidence:.1%})"
    if one.warning:
        line += f"  warning: {one.warning}"
    if not chart:
        return line
    ordered = list(one.probabilities.items())
    if top is not None:
        ordered = sorted(ordered, key=lambda item: -item[1])[:top]
    return f"{line}\n{bars(dict(ordered))}"


def bars(probabilities: Mapping[str, float]) -> str:
    """A bar for each class."""
    widest = max(len(printable(name)) for name in probabilities)
    return "\n".join(
        f"  {printable(name).rjust(widest)}  {p:6.1%}  {bar(p)}".rstrip() for name, p in probabilities.items()
    )


def confusion(counts: np.ndarray, classes: Sequence[str]) -> str:
    """Counts (C, C), row the true class, column the predicted one; a dot for none."""
    names = list(map(printable, classes))
    rows = [
        [name, *(str(n) if n else "." for n in row), f"{row[place] / max(1, row.sum()):.1%}"]
        for place, (name, row) in enumerate(zip(names, counts, strict=True))
    ]
    return table(["true \\ said", *names, "right"], rows, right=range(1, len(names) + 2))


def page(lines: Sequence[Sequence[Prediction]], name: str, top: int | None) -> str:
    """Every digit of a picture: its lines as they are read, and each digit's classes when `top` of them are wanted."""
    predictions = [one for line in lines for one in line]
    if not predictions:
        return f"{name}: no digit"
    unsure = sum(one.verdict == "unsure" for one in predictions)
    count = f"{len(predictions)} digit{'s' * (len(predictions) > 1)}"
    said = f"{name}: {count}" + (f", {unsure} unsure (?)" if unsure else "")
    texts = ["".join(printable(a.label) + "?" * (a.verdict == "unsure") for a in line) for line in lines]
    out = [said, *(f"  {text}" for text in texts)]
    if top is not None:
        for line, text in zip(lines, texts, strict=True):
            for n, one in enumerate(line, 1):
                out.append(prediction(one, f"{name}: {text}, {n}", top, chart=True))
    return "\n".join(out)


def epoch_line(epoch: Epoch, epochs: int) -> str:
    """One line about an epoch of so many."""
    return f"epoch {epoch.epoch:>{len(str(epochs))}}/{epochs}  {epoch.figures}"


def progress_of(quiet: bool) -> Callable[[str, int, int], None] | None:
    """A bar for reading files that take long, on a terminal; None where none is wanted."""
    if quiet or not is_fancy(sys.stderr):
        return None

    def show(what: str, done: int, of: int) -> None:
        text = "" if done >= of else f"reading {what} {bar(done / max(of, 1), 20, sys.stderr).ljust(20)}"
        sys.stderr.write(f"\r\x1b[2K{text}")
        sys.stderr.flush()

    return show


class Reporter:
    """Tells on stderr how training goes: a moving bar on a terminal, a line an epoch elsewhere, nothing if quiet.

    Parameters
    ----------
    epochs : int
        Of the whole run.
    quiet : bool
    """

    def __init__(self, epochs: int, quiet: bool) -> None:
        self._epochs, self._quiet = epochs, quiet
        self._moving = not quiet and is_fancy(sys.stderr)
        self._open = ""

    def compiling(self, count: int, name: str) -> None:
        """A function is being compiled: one line, once; on a terminal it counts."""
        text = "compiling kernels (first run only)"
        if self._moving:
            self._rewrite(f"{text}: {count} functions, {name}")
        elif not self._quiet and count == 1:
            note(text)

    def compiled(self, seconds: float, count: int, unkept: str | None) -> None:
        """Compilation is over; `unkept` says why its kernels could not be kept, if they could not."""
        if count and not self._quiet:
            self._rewrite("")
            later = "later runs load them"
            if unkept:
                later = f"later runs compile again: {printable(unkept)}. Set FASTNN_CACHE_DIR to a folder of your own"
            note(f"compiled {count} functions in {seconds:.1f} s; {later}")

    def progress(self, done: Progress) -> None:
        """Somewhere in an epoch."""
        if self._moving:
            share = done.done / done.examples
            accuracy = "" if done.accuracy is None else f"accuracy {done.accuracy:.2%}  "
            self._rewrite(
                f"epoch {done.epoch}/{self._epochs} {bar(share, 20, sys.stderr).ljust(20)} loss {done.loss:.4f}  "
                f"{accuracy}{done.done / done.seconds:,.0f} examples/s"
            )

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is over."""
        if not self._quiet:
            self._rewrite("")
            note(epoch_line(epoch, self._epochs))

    def _rewrite(self, text: str) -> None:
        if self._moving and (text or self._open):
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            sys.stderr.write("\r\x1b[2K" + text[: columns - 1])
            sys.stderr.flush()
            self._open = text


@contextmanager
def counted_compilation(reporter: Reporter) -> Iterator[list[int]]:
    """Count compiled functions while they are reported; the count is the list's only item."""
    from fastnn.kernels.jit import watch_compilation

    count = [0]

    def report(number: int, name: str) -> None:
        count[0] = number
        reporter.compiling(number, name)

    with watch_compilation(report):
        yield count
