"""Fetching a file of a data set: several mirrors, content checked by its hash, whole or not at all.

pooch was weighed and not taken: it checks the hash of the compressed file, knows one address for a file, has no
deadline, and does not fsync before it renames.
"""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from fastnn.datasets.idx import read_idx
from fastnn.errors import DataError, RunError
from fastnn.files import atomic_write

_MAX_BYTES = 2**28
_READ_BYTES = 2**16
_ROUNDS = 3
_FAILURES = (OSError, urllib.error.URLError, http.client.HTTPException, ssl.SSLError, ValueError)


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything else."""

    def redirect_request(self, request, file, code, message, headers, url):  # type: ignore[no-untyped-def]
        if request.type == "https" and not url.startswith("https://"):
            raise urllib.error.URLError(f"redirected away from https to {url}")
        return super().redirect_request(request, file, code, message, headers, url)


Check = str | Callable[[Path], None]


def download(urls: Sequence[str], path: Path, check: Check, seconds: float = 120.0) -> None:
    """Fetch the first of `urls` that gives the right file, in up to three rounds.

    Parameters
    ----------
    urls : sequence of str
        Mirrors, tried in turn.
    path : Path
        Where the file goes; its folder is made.
    check : str or callable
        SHA-256 of the *uncompressed* IDX content; or what looks at the file and raises `DataError`.
    seconds : float
        Deadline for everything together.

    Raises
    ------
    RunError
        When no mirror gave the file in time, saying why each failed.
    """
    end = time.monotonic() + seconds
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent}: can't be made ({error.strerror})") from error
    reasons: dict[str, str] = {}
    for attempt in range(_ROUNDS):
        for url in urls:
            if time.monotonic() >= end:
                break
            try:
                _fetch(url, path, check, end)
                return
            except DataError as error:
                reasons[url] = str(error)
            except _FAILURES as error:
                reasons[url] = str(getattr(error, "reason", error))
        time.sleep(max(0.0, min(0.5 * 2**attempt, end - time.monotonic())))
    listed = "; ".join(f"{urllib.parse.urlsplit(url).netloc}: {reason}" for url, reason in reasons.items())
    raise RunError(f"{path.name} could not be downloaded ({listed or 'no time left'})")


def _fetch(url: str, path: Path, check: Check, end: float) -> None:
    opener = urllib.request.build_opener(_NoDowngrade)
    request = urllib.request.Request(url, headers={"User-Agent": "fastnn"})
    timeout = max(0.1, min(10.0, end - time.monotonic()))
    content = bytearray()
    with opener.open(request, timeout=timeout) as response:
        while part := response.read(_READ_BYTES):
            content += part
            if len(content) > _MAX_BYTES:
                raise DataError(f"more than {_MAX_BYTES:,} bytes")
            if time.monotonic() > end:
                raise TimeoutError("out of time")
    with atomic_write(path) as file:
        file.write(content)
        file.flush()
        if callable(check):
            check(Path(file.name))
            return
        digest = read_idx(Path(file.name))[1]
        if digest != check:
            raise DataError(f"SHA-256 {digest[:12]}…, expected {check[:12]}…")
