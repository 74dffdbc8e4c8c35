"""Counts of what the server did, as Prometheus reads them (text format 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from itertools import accumulate

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
_PATHS = frozenset(
    (
        "/",
        "/predict",
        "/healthz",
        "/metrics",
        "/models",
        "/openapi.json",
        "/page.css",
        "/page.js",
        "/digit.js",
        "/train",
        "/train/events",
    )
)


class Metrics:
    """Requests by path and status, seconds of predictions, how many pictures were read."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds = [0] * (len(_BOUNDS) + 1)  # up to each bound and above the one before, and above all
        self._count, self._total, self._read = 0, 0.0, 0

    def count(self, path: str, status: int) -> None:
        """An answer; paths that there are not count as one, so that nobody can make them grow."""
        self._requests[path if path in _PATHS else "other", status] += 1

    def observe(self, seconds: float, pictures: int) -> None:
        """A prediction took so long, for so many pictures."""
        self._seconds[bisect_left(_BOUNDS, seconds)] += 1
        self._count, self._total, self._read = self._count + 1, self._total + seconds, self._read + pictures

    def text(self, waiting: int) -> str:
        """All of it."""
        lines = ["# HELP fastnn_requests_total Answers by path and status.", "# TYPE fastnn_requests_total counter"]
        for (path, status), count in sorted(self._requests.items()):
            lines.append(f'fastnn_requests_total{{path="{path}",status="{status}"}} {count}')
        lines += ["# HELP fastnn_predict_seconds From the whole body to the answer."]
        lines += ["# TYPE fastnn_predict_seconds histogram"]
        for bound, count in zip(_BOUNDS, accumulate(self._seconds), strict=False):
            lines.append(f'fastnn_predict_seconds_bucket{{le="{bound:g}"}} {count}')
        lines += [f'fastnn_predict_seconds_bucket{{le="+Inf"}} {self._count}']
        lines += [f"fastnn_predict_seconds_sum {self._total:.6f}", f"fastnn_predict_seconds_count {self._count}"]
        lines += ["# HELP fastnn_pictures_total Pictures and digits read.", "# TYPE fastnn_pictures_total counter"]
        lines += [f"fastnn_pictures_total {self._read}"]
        lines += ["# HELP fastnn_waiting Requests in the queue.", "# TYPE fastnn_waiting gauge"]
        return "\n".join([*lines, f"fastnn_waiting {waiting}", ""])
