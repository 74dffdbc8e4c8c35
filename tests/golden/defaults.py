"""Make defaults.txt: what calls and commands do unless told otherwise, and the limits that modules name.

python tests/golden/defaults.py      (after a change that is meant; its lines are then part of what is read)
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import fastnn

FILE = Path(__file__).with_name("defaults.txt")
PACKAGE = Path(fastnn.__file__).parent


def lines() -> Iterator[str]:
    """One for each name that has any; kernels have none that anybody calls."""
    for path in sorted(PACKAGE.rglob("*.py")):
        inside = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if "kernels" not in inside and inside[-1] != "__main__":
            module = import_module(".".join(inside).removesuffix(".__init__"))
            for name in _own(path):
                yield from _told(module, name, getattr(module, name, None))
    yield from _options()


def _own(path: Path) -> list[str]:
    """Public names that a module makes itself, and limits."""
    found: list[str] = []
    for one in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(one, ast.FunctionDef | ast.ClassDef):
            found.append(one.name)
        elif isinstance(one, ast.Assign):
            found += [node.id for target in one.targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return sorted({name for name in found if not name.startswith("_") or name.startswith(("_MOST", "_MAX"))})


def _told(module: ModuleType, name: str, value: Any) -> Iterator[str]:
    shown = f"{module.__name__}.{name}"
    if inspect.isclass(value):
        if is_dataclass(value):
            options = value.__dataclass_params__  # type: ignore[attr-defined]
            yield f"{shown}: a dataclass" + ", frozen" * options.frozen + ", without ==" * (not options.eq)
            for item in fields(value):
                if "allowed" in item.metadata:
                    yield f"{shown}.{item.name}: {item.metadata['allowed']}"
        if "exit_code" in vars(value):
            yield f"{shown}.exit_code = {value.exit_code}"
        for key, member in sorted(vars(value).items()):
            if inspect.isfunction(member) and (key == "__init__" or not key.startswith("_")):
                yield from _signature(shown if key == "__init__" else f"{shown}.{key}", member)
    elif inspect.isfunction(value):
        yield from _signature(shown, value)
    elif name.isupper() and isinstance(value, dict):
        yield from (f"{shown}[{key!r}] = {_shown(one)}" for key, one in value.items())
    elif name.isupper() and isinstance(value, tuple) and _is_of_ours(value):
        yield from (f"{shown}[{n}] = {_shown(one)}" for n, one in enumerate(value))
    elif name.isupper() and _is_plain(value):
        yield f"{shown} = {_shown(value)}"


def _signature(name: str, function: Any) -> Iterator[str]:
    """The parameters that need not be given."""
    parts = [
        f"{one.name}={'…' if _is_of_ours(one.default) else _shown(one.default)}"
        for one in inspect.signature(function).parameters.values()
        if one.default is not one.empty
    ]
    if parts:
        yield f"{name}({', '.join(parts)})"


def _is_of_ours(value: Any) -> bool:
    """A class of ours, or several."""
    return any(is_dataclass(one) for one in (value if isinstance(value, tuple) else [value]))


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    if is_dataclass(value) and not isinstance(value, type):
        return all(_is_plain(getattr(value, item.name)) for item in fields(value))
    return value is None or isinstance(value, bool | int | float | str | bytes)


def _shown(value: Any) -> str:
    if isinstance(value, Path):
        return value.as_posix()
    return repr(value) if _is_plain(value) else "…"


def _options() -> Iterator[str]:
    """Of every command: how it is written, and what it is if it is not."""
    from typer.main import get_command

    from fastnn.cli.app import app

    waiting: list[tuple[str, Any]] = [("fastnn", get_command(app))]
    for name, command in waiting:
        for one in command.params:
            written = "/".join([*one.opts, *one.secondary_opts])
            if "completion" not in written:  # those are Typer's
                default = one.default() if callable(one.default) else one.default
                yield f"{name} {written} = {_shown(default)}" + " …" * bool(one.multiple or one.nargs < 0)
        waiting += [(f"{name} {key}", inner) for key, inner in sorted(getattr(command, "commands", {}).items())]


if __name__ == "__main__":
    FILE.write_text("".join(f"{line}\n" for line in lines()), encoding="utf-8")
