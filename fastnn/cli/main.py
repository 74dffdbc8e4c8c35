"""Where the process begins and ends: one error line, the exit code, signals, a closed pipe."""

from __future__ import annotations

import os
import sys
import traceback

from fastnn.errors import FastnnError, printable

INTERRUPTED, TERMINATED = 130, 143


class Terminated(BaseException):
    """SIGTERM arrived."""


def main(args: list[str] | None = None) -> None:
    """Run the command and leave with its exit code."""
    debug = "--debug" in (sys.argv[1:] if args is None else args)
    code = _run(args, debug)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        code = code or 1
    sys.exit(code)


def _run(args: list[str] | None, debug: bool) -> int:
    import typer
    from typer.exceptions import TyperException

    from fastnn.cli.app import app

    try:
        result = app(args=args, prog_name="fastnn", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except FastnnError as error:
        return _fail(str(error), error.exit_code, debug)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED, debug)
    except Terminated:
        return _fail("terminated", TERMINATED, debug)
    except SystemExit as stop:  # how Typer leaves when the reader of our output has left
        return stop.code if isinstance(stop.code, int) else 1
    except BrokenPipeError:
        _drop_stdout()
        return 1
    except TyperException as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        if not message:  # no command was given: its help has been shown
            return 2
        return _fail(f"{' '.join(message.split()).rstrip('.')}. See 'fastnn --help'", 2, debug)
    except MemoryError:
        return _fail("out of memory. Take a smaller network, batch or data set", 1, debug)
    except OSError as error:
        return _fail(f"{error.filename or 'system'}: {error.strerror or error}", 1, debug)


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    try:
        print(f"error: {printable(message, 2_000)}", file=sys.stderr)
    except OSError:
        pass
    return code


def _drop_stdout() -> None:
    """Whoever read our output has left; nothing more is to be said, not even by the interpreter at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
