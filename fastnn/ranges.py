"""Ranges of numbers that a value may be in, which messages can name."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastnn.errors import ArgumentTypeError, UsageError, printable


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; `low` itself too unless `above`."""

    low: float
    high: float = math.inf
    whole: bool = False
    above: bool = False

    def is_number(self, value: object) -> bool:
        """Whether it is a number of the kind, in the range or not; an array, even of one number, is none."""
        known = hasattr(value, "__index__" if self.whole else "__float__")
        return known and not isinstance(value, bool) and not getattr(value, "ndim", 0)

    def __contains__(self, value: object) -> bool:
        if not self.is_number(value):
            return False
        number = float(value)  # type: ignore[arg-type]
        above = self.low < number if self.above else self.low <= number
        return math.isfinite(number) and above and number <= self.high

    def check(self, name: str, value: object) -> None:
        """Refuse what is not in it.

        Raises
        ------
        UsageError
            When it is outside.
        ArgumentTypeError
            When it is no such number.
        """
        if value not in self:
            kind = UsageError if self.is_number(value) else ArgumentTypeError
            raise kind(f"{name}={printable(repr(value), 60)}: expected {self}")

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if math.isfinite(self.high):
            return (
                f"{kind} {'above' if self.above else 'from'} {self.low:,} {'up ' if self.above else ''}to {self.high:,}"
            )
        return f"{kind} {'above' if self.above else 'of at least'} {self.low:g}"


THREADS = Range(1, 1024, whole=True)
MOST_LETTERS = 200  # of a class's name
