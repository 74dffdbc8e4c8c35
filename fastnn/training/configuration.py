"""TOML files of settings: presets that come with fastnn, and people's own."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from fastnn.errors import UsageError, printable
from fastnn.training.settings import Settings, from_mapping

_MOST_BYTES = 2**16
_ARGUMENT = re.compile(rf"(?<!\S)({'|'.join(item.name for item in fields(Settings))})=((?:True|False)\b|)")


@dataclass(frozen=True)
class Configuration:
    """What a TOML file says.

    Attributes
    ----------
    settings : Settings
    data : str, optional
        Name or place of the data set.
    about : str
        What it is for.
    """

    settings: Settings
    data: str | None = None
    about: str = ""


def presets() -> dict[str, Configuration]:
    """Every preset by name."""
    folder = resources.files("fastnn.training") / "presets"
    names = sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))
    return {name: preset(name) for name in names}


def preset(name: str, start: Settings | None = None) -> Configuration:
    """A preset by name.

    Raises
    ------
    UsageError
        When there is none of that name, naming those there are.
    """
    folder = resources.files("fastnn.training") / "presets"
    names = sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))
    if name not in names:
        raise UsageError(f"preset={printable(name, 60)!r}: expected one of {', '.join(names)}")
    return _parsed((folder / f"{name}.toml").read_text("utf-8"), f"preset {name}", start)


def read(path: Path, start: Settings | None = None) -> Configuration:
    """A file of one's own.

    Raises
    ------
    UsageError
        When it can't be read, is not TOML, or has a key or value that can't be, naming the nearest key.
    """
    shown = printable(path)
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise UsageError(f"{shown}: more than {_MOST_BYTES:,} bytes; expected a few lines of TOML")
        return _parsed(content.decode("utf-8"), shown, start)
    except OSError as error:
        raise UsageError(f"{shown}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown}: not UTF-8 text; expected TOML") from error


def _parsed(text: str, source: str, start: Settings | None) -> Configuration:
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{source}: not TOML: {printable(error)}") from error
    data, about = values.pop("data", None), values.pop("about", "")
    for key, value in (("data", data), ("about", about)):
        if value is not None and not isinstance(value, str):
            raise UsageError(f"{source}: {key} {printable(value, 60)}: expected text")
    try:
        return Configuration(from_mapping(values, source, start), data, about)
    except UsageError as error:
        raise type(error)(in_keys(str(error))) from None


def in_keys(message: str) -> str:
    """A message about arguments as one about keys: ``patience=3`` becomes ``patience = 3``."""
    return _ARGUMENT.sub(lambda match: f"{match[1]} = {match[2].lower()}", message)
