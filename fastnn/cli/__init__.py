"""The command line: parse, call, show. The only place that prints."""

from fastnn.cli.main import main

__all__ = ["main"]
