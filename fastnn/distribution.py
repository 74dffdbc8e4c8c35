"""What fastnn is installed as: the name that pip knows it by, its extras, the Numba that it was tested with."""

from __future__ import annotations

import importlib.metadata
import re

NAME = "fastnn-numba"  # on PyPI, `fastnn` is a project of other people
NEWEST_NUMBA = (0, 68)  # kernels use internals of Numba, which change between its versions


def to_install(extra: str) -> str:
    """The command that adds an extra to the fastnn that runs.

    Where pip knows this distribution, it takes the installed one by its name, from whatever it was installed, and adds
    what is missing. Where fastnn runs from its sources, these have to be installed.
    """
    try:
        importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        return f'pip install ".[{extra}]" in the folder of pyproject.toml'
    return f'pip install "{NAME}[{extra}]"'


def newer_than_tested(numba: str) -> str | None:
    """A sentence that begins with this version of Numba, when it is newer than what fastnn was tested with."""
    match = re.match(r"(\d+)\.(\d+)", numba)
    if match is None or tuple(map(int, match.groups())) <= NEWEST_NUMBA:
        return None
    newest = ".".join(map(str, NEWEST_NUMBA))
    return f"{numba} is newer than what fastnn was tested with ({newest}), and kernels use internals of it"
