"""SIGINT and SIGTERM: answered by a thread of their own, in milliseconds whatever the main thread does.

Python runs handlers between two bytecodes of the main thread: late while LLVM compiles, and also inside callbacks out
of Numba and of C, where what they raise is lost or leaves LLVM torn. So ours do nothing. The interpreter writes the
number of a signal into a pipe as it comes; the thread that reads there ends the process, or takes a note where the
main thread has something to save.
"""

from __future__ import annotations

import _thread
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# what is said, and the exit code
_ANSWERS = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}
_FLUSH_SECONDS = 0.1  # a reader of our output that has stopped does not keep us
_ONE_SECONDS = 0.5  # signals nearer to each other are one: a key pressed twice in haste
_ANSWER_SECONDS = 30.0  # that a note may lie: whoever waits for a file that does not open never reads it
_leaving, _noting = threading.Lock(), threading.Lock()
_notes: list[int] | None = None  # signals that came while the main thread has something to save; None while it has not
_read = False  # whether the main thread has seen the note, and saves


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

    So does the first, when nobody has read the note after `_ANSWER_SECONDS`. Yields what raises `Stopped` if one came;
    the end of the block raises it too.
    """
    global _notes, _read
    received = list[int]()
    with _noting:
        _notes, _read = received, False

    def raise_if_any() -> None:
        global _read
        if received:
            _read = True
            raise Stopped(received[0])

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
    noted_at = -math.inf
    while True:
        for number in os.read(pipe, 64):
            if number in _ANSWERS:
                with _noting:
                    if _notes is not None and not _notes:
                        _notes.append(number)
                        noted_at = time.monotonic()
                        _begin(_leave_unread, _notes, number)
                        continue
                if time.monotonic() - noted_at > _ONE_SECONDS:
                    leave(number)


def _leave_unread(note: list[int], number: int) -> None:
    """End the process, unless the note has been read by then or is of no use any more."""
    time.sleep(_ANSWER_SECONDS)
    with _noting:
        unread = _notes is note and not _read
    if unread:
        leave(number)


def _begin(work: Callable[..., None], *given: object) -> None:
    with suppress(RuntimeError):  # no more threads
        _thread.start_new_thread(work, given)


def _flush() -> None:
    with suppress(OSError, ValueError, RuntimeError):
        sys.stdout.flush()
