"""Where the process begins and ends: one error line, the exit code, signals, a closed pipe."""

from __future__ import annotations

import errno
import os
import sys

from fastnn.cli import signals
from fastnn.errors import FastnnError, printable

_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def main(args: list[str] | None = None) -> None:
    """Run the command and leave with its exit code."""
    signals.listen()
    code = run(sys.argv[1:] if args is None else args)
    signals.ignore()
    sys.exit(code)


def run(args: list[str]) -> int:
    """Run the command; its exit code."""
    debug = "--debug" in args
    _open_standard_files()
    if sys.stdout is None:
        return _fail("stdout is closed, so that no result could be written. Try: >/dev/null", 1, debug)
    code = _run(args, debug)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or _no_output(error, debug)
        _drop_stdout()
    return code


def _run(args: list[str], debug: bool) -> int:
    import typer
    from typer.exceptions import TyperException

    from fastnn.cli.app import app

    try:
        result = app(args=args, prog_name="fastnn", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except FastnnError as error:
        from fastnn.cli.wording import in_options

        return _fail(in_options(str(error), args), error.exit_code, debug)
    except signals.Stopped as stop:
        signals.leave(stop.number)
        raise
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
        unnamed = "stdout" if error.errno in _FULL else "system"  # files that are written to have names
        return _fail(f"{error.filename or unnamed}: {error.strerror or error}", 1, debug)


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    try:
        print(f"error: {printable(message, 2_000)}", file=sys.stderr)
    except OSError:
        pass
    return code


def _no_output(error: OSError, debug: bool) -> int:
    """Say why the last of the output could not be written, unless its reader has left."""
    if isinstance(error, BrokenPipeError):
        return 1
    return _fail(f"stdout: {error.strerror or error}", 1, debug)


def _drop_stdout() -> None:
    """Whoever read our output has left; nothing more is to be said, not even by the interpreter at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_standard_files() -> None:
    """Standard files that were closed become the null device, or the next file opened would be taken for one."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:  # print() would turn to stdout
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - kept until the end
