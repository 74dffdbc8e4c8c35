"""Ctrl-C while kernels are compiled, loaded or run: it waits until that is over."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Run the block without the caller's handlers of SIGINT and SIGTERM; if one came, its handler runs right after.

    Python runs handlers between two bytecodes of the main thread, also in callbacks out of LLVM. What a handler raises
    there is swallowed, or leaves LLVM torn, which ends in a segmentation fault. A signal that nobody handles in Python
    (by default, SIGTERM) acts as ever.
    """
    if threading.current_thread() is not threading.main_thread():  # handlers run in the main thread only
        yield
        return
    with _held(signal.SIGINT), _held(signal.SIGTERM):
        yield


@contextmanager
def _held(number: signal.Signals) -> Iterator[None]:
    handler, came = signal.getsignal(number), []
    if not callable(handler):
        yield
        return
    try:
        signal.signal(number, lambda number, frame: came.append(frame))
        yield
    finally:
        signal.signal(number, handler)
        if came:
            handler(number, came[0])
