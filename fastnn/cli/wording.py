"""Messages of the library speak of arguments: ``patience=3``. Here these become options: ``--patience 3``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields

from fastnn.training.settings import Settings

# every argument that messages name, with its option; of two for a truth value, the first is for True
OPTIONS: dict[str, tuple[str, ...]] = {
    **{item.name: tuple(item.metadata["option"].partition(",")[0].split("/")) for item in fields(Settings)},
    **{name: (f"--{name}",) for name in ("data", "label", "test", "order", "preset", "port")},
    "initial": ("--from",),
    "kind": ("--to",),
    "part": ("--split",),
}
_TEXTS = r'"[^"]*"(?:(?:, | or )"[^"]*")*'  # to be taken: learned from such a message, they are typed without quotes
_TUPLE = r"\([^()]*\)"
_ARGUMENT = re.compile(rf"(?<![^\s(])({'|'.join(OPTIONS)})=({_TEXTS}|{_TUPLE}|True\b|False\b|)")


def in_options(message: str, given: Iterable[str] = ()) -> str:
    """A message with options in the place of arguments.

    Parameters
    ----------
    message : str
    given : iterable of str
        What stands on the command line; where the message repeats it, a file called ``seed=3`` for example, it stays.
    """
    texts = {text for one in given for text in (one, one.partition("=")[2]) if _ARGUMENT.search(text)}
    kept = "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))
    pattern = re.compile(f"(?P<kept>{kept})|{_ARGUMENT.pattern}") if kept else _ARGUMENT
    return pattern.sub(_option, message)


def _option(match: re.Match[str]) -> str:
    *_, name, value = match.groups()
    if name is None:
        return match[0]
    options = OPTIONS[name]
    if value in ("True", "False") and len(options) == 2:
        return options[value == "False"]
    if value.startswith("("):
        value = re.sub(r"[ '()]", "", value).rstrip(",") or "none"
    follows = match.string[match.end() : match.end() + 1]
    space = " " if value or (follows and follows not in " ,.;:)") else ""
    return options[0] + space + value.replace('"', "")
