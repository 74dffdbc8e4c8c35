"""The server as a process: its socket, its limits, its end."""

from __future__ import annotations

import errno
import gc
import socket
import sys
import warnings
from typing import TYPE_CHECKING, Any

from fastnn.distribution import to_install
from fastnn.errors import MissingExtraError, RunError, printable

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = {
    "limit_concurrency": 256,
    "timeout_keep_alive": 5,
    "timeout_graceful_shutdown": 5,
    "backlog": 128,
    "server_header": False,
    "date_header": True,
    "access_log": False,
    "log_level": "warning",
    "ws": "none",
    "h11_max_incomplete_event_size": 32_768,
}


def bound(host: str, port: int) -> socket.socket:
    """A listening address; port 0 takes any free one.

    Raises
    ------
    RunError
        When it is taken or is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # named as TCP, or asyncio leaves Nagle's algorithm on, and every answer waits 40 ms for an acknowledgement
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        hint = "; take another one by port=" if taken else ""
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{printable(host, 60)}:{port} can't be served on: {reason}{hint}") from error
    return listening


def serve(app: Any, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until a signal; `ready` is called when it answers.

    Raises
    ------
    MissingExtraError
        When uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError(f"the page needs Starlette and uvicorn: {to_install('web')}") from error

    # of the loop and the thread: under overload, 6 % more answers, p99 246 instead of 298 ms
    sys.setswitchinterval(0.0005)
    warnings.filterwarnings("ignore", module="PIL")  # of what is odd in pictures that are sent

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            gc.collect()
            gc.freeze()  # what is there stays: going through it again and again took 4 % of the time
            ready()

    Server(uvicorn.Config(app, **LIMITS)).run([listening])  # type: ignore[arg-type]
