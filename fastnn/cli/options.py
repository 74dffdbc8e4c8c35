"""The options of `fastnn train` out of the fields of `Settings`: one place for names, help, ranges and defaults."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastnn.errors import RunError, UsageError, printable
from fastnn.files import replaced_by
from fastnn.training.settings import Settings, changed

if TYPE_CHECKING:
    from fastnn.model.model import Model

DATA_HELP = (
    "auto, mnist, fashion-mnist, cifar-10, strokes; or a .csv or .npz file; or a folder: of IDX or .npy files, "
    "train.csv, or one folder of pictures a class."
)
DataOption = Annotated[str, typer.Option("--data", help=DATA_HELP)]
LabelOption = Annotated[
    str | None, typer.Option("--label", help="Column of labels of a table, by name or number; several for numbers.")
]
TestOption = Annotated[
    str | None,
    typer.Option("--test", help="Share of a set without test examples that is kept for testing (0.2), or a file."),
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", "-w", help="Model file; the shipped MNIST model by default.")
]


def share_or_place(text: str | None) -> float | str | None:
    """0.2 as a number, anything else as it is."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def check_out(path: Path, option: str = "--out") -> None:
    """A result that can't be written is better known before training than after."""
    shown = f"{option} {printable(path)}"
    try:
        target = replaced_by(path)
    except OSError as error:
        raise UsageError(f"{shown}: {error.strerror or error}") from error
    if target is None:  # a FIFO or a device
        if not os.access(path, os.W_OK):
            raise RunError(f"{shown}: can't be written")
        return
    if target.is_dir():
        raise UsageError(f"{shown}: this is a folder; name a file in it")
    if not target.parent.is_dir():
        raise UsageError(f"{shown}: there is no folder {printable(target.parent)}")
    if not os.access(target.parent, os.W_OK):
        raise RunError(f"{shown}: the folder {printable(target.parent)} can't be written")


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose last parameter is ``**options`` an option for every setting, None where not given."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    made = [
        inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(item))
        for item in fields(Settings)
    ]
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]

    def wrapped(**values: Any) -> None:
        command(**values)

    wrapped.__doc__, wrapped.__name__ = command.__doc__, command.__name__
    wrapped.__signature__ = signature.replace(parameters=[*own, *made])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in [*own, *made]}
    return wrapped


def _annotation(item: Field[Any]) -> Any:
    allowed, text = item.metadata["allowed"], item.metadata["help"]
    if isinstance(allowed, tuple):
        text = f"{text.rstrip('.')}: {', '.join(allowed)}."
    flags = item.metadata["option"].split(",")
    option = typer.Option(*flags, help=text, show_default=_shown(item.default), rich_help_panel=item.metadata["group"])
    return Annotated[_kind(item) | None, option]


def _kind(item: Field[Any]) -> Any:
    if item.name == "validation" or isinstance(item.default, tuple):
        return str  # a share or a file; names or numbers with commas
    if item.metadata["allowed"] is None:
        return bool
    if isinstance(item.metadata["allowed"], tuple):
        return str
    return int if item.metadata["allowed"].whole else float


def _shown(default: Any) -> str | bool:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    return False if default is None or isinstance(default, bool) else str(default)


def settings_from(
    values: dict[str, Any], start: Settings, initial: Model | None = None
) -> tuple[Settings, Path | None]:
    """Settings with those changed that were given as options; and the file of validation examples, if one was named.

    Parameters
    ----------
    values : dict
        As given on the command line, None where not.
    start : Settings
    initial : Model, optional
        What is begun from: where no option says anything of layers, its layers, and not those of `start`.
    """
    given = {name: value for name, value in values.items() if value is not None}
    file = None
    if "validation" in given:
        try:
            given["validation"] = float(given["validation"])
        except ValueError:
            file = Path(given.pop("validation"))
    for item in fields(Settings):
        if item.name in given and isinstance(item.default, tuple):
            given[item.name] = _listed(item, given[item.name])
    if initial is None:
        return changed(start, given), file
    from fastnn.training.initial import settings_like, unsaid_layers

    given = {**unsaid_layers(initial, Settings(), given), **given}
    return settings_like(initial, changed(start, given), given), file


def _listed(item: Field[Any], text: str) -> tuple[Any, ...]:
    parts = [part.strip() for part in text.split(",")] if text.strip() not in ("", "none") else []
    if item.name != "hidden":
        return tuple(parts)
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--hidden {printable(text)!r}: expected widths like 128 or 256,128,64 (or none)")
    return tuple(map(int, parts))


def hidden_from(text: str) -> tuple[int, ...]:
    """The widths of hidden layers as written on the command line."""
    return settings_from({"hidden": text}, Settings())[0].hidden
