"""SIGINT and SIGTERM: answered by a thread of their own, in milliseconds whatever the main thread does.

Python runs handlers between two bytecodes of the main thread: late while LLVM compiles, and also inside callbacks out
of Numba and of C, where what they raise is lost or leaves LLVM torn. So ours do nothing. The interpreter writes the
number of a signal into a pipe as it comes; the thread that reads there ends the process, or takes a note where the
main thread has something to save.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# what is said, and the exit code
_ANSWERS = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}
_FLUSH_SECONDS = 0.1  # a reader of our output that has stopped does not keep us
_leaving, _noting = threading.Lock(), threading.Lock()
_notes: list[int] | None = None  # signals that came while the main thread has something to save; None while it has not


class Stopped(BaseException):
    """A signal came, and all is saved that can be.

    Attributes
    ----------
    number : int
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def listen() -> None:
    """Answer signals from now on; in the main thread, before anything that takes long is imported."""
    read, write = os.pipe()
    if os.name == "posix":
        os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    _thread.start_new_thread(_answer, (read,))
    for number in _ANSWERS:
        signal.signal(number, lambda number, frame: None)


def ignore() -> None:
    """The work is done: a signal while the interpreter ends does not change that."""
    _leaving.acquire()  # unless one came just before; then that ends the process
    for number in _ANSWERS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def noted() -> Iterator[Callable[[], None]]:
    """The first signal inside is a note for the main thread, which saves what it has; a second one ends the process.

    Yields what raises `Stopped` if one came; the end of the block raises it too.
    """
    global _notes
    found = list[int]()
    with _noting:
        _notes = found

    def raise_if_any() -> None:
        if found:
            raise Stopped(found[0])

    try:
        yield raise_if_any
    finally:
        with _noting:
            _notes = None
    raise_if_any()


def leave(number: int) -> None:
    """End the process with one line and the exit code of the signal, and no file half written."""
    _leaving.acquire()  # for good: whoever else comes here waits for the end
    word, code = _ANSWERS[signal.Signals(number)]
    try:
        flushing = threading.Thread(target=_flush, daemon=True)
        flushing.start()
        flushing.join(_FLUSH_SECONDS)
        over = "\r\x1b[2K" if os.isatty(2) else ""  # a bar that moves
        os.write(2, f"{over}error: {word}\n".encode())
        files = sys.modules.get("fastnn.files")
        for path in getattr(files, "unfinished", list)():  # not there while it is being imported
            path.unlink(missing_ok=True)
    finally:  # whatever went wrong above, or nobody would answer signals any more
        os._exit(code)


def _answer(pipe: int) -> None:
    while True:
        for number in os.read(pipe, 64):
            if number in _ANSWERS:
                with _noting:
                    if _notes is not None and not _notes:
                        _notes.append(number)
                        continue
                leave(number)


def _flush() -> None:
    with suppress(OSError, ValueError, RuntimeError):
        sys.stdout.flush()
