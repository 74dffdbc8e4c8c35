"""The command in forks of one process that has imported everything: Numba alone takes a second to import.

A fork runs ``python -m fastnn``, or ``python -c`` where the request begins with ``-c``, with pipes, folder and
environment of its own, up to the end of the interpreter. What is read while modules are imported (``NUMBA_…``,
``FASTNN_LANES``) is as in the first process.

Run as a program, this is that process: it reads a request, forks, and writes the exit code, until its input ends.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
AHEAD = (
    "fastnn.cli.app",
    "fastnn.training.run",
    "fastnn.tools.gradcheck",
    "fastnn.kernels.measure",
    "fastnn.evaluation.plots",
)
AHEAD += ("matplotlib.figure", "matplotlib.backends.backend_agg", "fastnn.evaluation.html", "fastnn.images.recipes")


class Forks:
    """The first process, and how to ask it for others; one at a time."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self._socket, self._lock = ours, threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_CURRENT_TEST": ""},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()

    def run(
        self, command: Sequence[str], folder: str, environment: dict[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """As ``subprocess.run`` with output captured as text."""
        request = json.dumps([list(command), folder, environment]).encode()
        with self._lock, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            files = array.array("i", [out.fileno(), errors.fileno()])
            header = len(request).to_bytes(8, "big")
            self._socket.sendmsg([header], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
            self._socket.sendall(request)
            pid = int.from_bytes(_exactly(self._socket, 8), "big")
            self._socket.settimeout(timeout)
            try:
                code = int.from_bytes(_exactly(self._socket, 8), "big", signed=True)
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                self._socket.settimeout(None)
                _exactly(self._socket, 8)
                raise subprocess.TimeoutExpired(list(command), timeout) from None
            finally:
                self._socket.settimeout(None)
            said = []
            for file in (out, errors):
                file.seek(0)
                said.append(file.read().decode().replace("\r\n", "\n"))
        return subprocess.CompletedProcess(list(command), code, *said)

    def close(self) -> None:
        """End it."""
        self._socket.close()
        self._process.wait(60)


@cache
def forks() -> Forks:
    """The one of this session; begun when first asked for."""
    return Forks()


def _exactly(stream: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = stream.recv(size - len(found))
        if not part:
            raise EOFError("the process that forks has ended")
        found += part
    return found


def serve(stream: socket.socket) -> list[str] | None:
    """Fork for each request; returns the arguments in a fork, None when there are no more requests."""
    while True:
        header, files, _, _ = socket.recv_fds(stream, 8, 2)
        if not header:
            return None
        command, folder, environment = json.loads(_exactly(stream, int.from_bytes(header, "big")))
        pid = os.fork()
        if pid == 0:
            stream.close()
            for target, file in enumerate(files, 1):
                os.dup2(file, target)
                os.close(file)
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            measured = "coverage" in sys.modules and sys.modules["coverage"].Coverage.current()
            if measured:  # a campaign asks which test runs which lines
                measured.switch_context(os.environ["PYTEST_CURRENT_TEST"])
            return list(command)
        for file in files:
            os.close(file)
        stream.sendall(pid.to_bytes(8, "big"))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        stream.sendall(code.to_bytes(8, "big", signed=True))


if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # not the folder of the tests
    with warnings.catch_warnings(action="ignore"):
        for module in AHEAD:
            importlib.import_module(module)
        with contextlib.redirect_stderr(io.StringIO()):  # Typer imports when it is called
            importlib.import_module("fastnn.cli.main").run(["predict", "nothing"])  # without answering signals
    assert threading.active_count() == 1, "only a process of one thread may fork"
    gc.freeze()  # or the collections of each fork would copy every page
    asked = serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None and asked[:1] == ["-c"]:
        sys.argv = ["-c", *asked[2:]]
        exec(compile(asked[1], "<string>", "exec"), {"__name__": "__main__"})
    elif asked is not None:
        sys.argv = ["fastnn", *asked]
        runpy.run_module("fastnn", run_name="__main__", alter_sys=True)
