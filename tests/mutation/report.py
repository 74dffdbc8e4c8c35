"""The result as a table, and every survivor as a diff, with the reason where one has been given."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .campaign import Result
from .places import Mutant

ACCEPTED = Path(__file__).with_name("accepted.toml")
NOTICED = ("noticed", "timed out")


@dataclass(frozen=True)
class Reason:
    """Why a mutant may survive: ``equivalent`` (nothing can notice it) or ``accepted`` (nothing needs to)."""

    kind: str
    text: str


def reasons(path: Path = ACCEPTED) -> dict[tuple[str, str, str], Reason]:
    """By file, the line as it was and as it is, so that they stay right when lines move."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", []) if path.exists() else []
    return {(one["file"], one["was"], one["now"]): Reason(one["kind"], one["reason"]) for one in entries}


def write(found: Iterable[tuple[Mutant, Result]], known: dict[tuple[str, str, str], Reason], title: str) -> str:
    """Markdown: the sum, a line for each module, what survived."""
    found = list(found)
    survivors = [(mutant, known.get(name_of(mutant))) for mutant, result in found if result.outcome not in NOTICED]
    equivalent = sum(reason is not None and reason.kind == "equivalent" for _, reason in survivors)
    noticed = len(found) - len(survivors)
    late = sum(result.outcome == "timed out" for _, result in found)
    lines = [
        f"# {title}",
        "",
        f"{noticed} of {len(found)} mutants noticed ({late} of them by a time-out), {len(survivors) - equivalent} "
        f"survived, {equivalent} equivalent: {share(noticed, len(found))}, "
        f"{share(noticed, len(found) - equivalent)} without equivalents.",
        "",
        *_times(found),
        "",
        "| module | noticed | survived | share |",
        "|---|--:|--:|--:|",
        *_modules(found),
        "",
        "## Survivors",
    ]
    for mutant, reason in survivors:
        why = f"{reason.kind}: {reason.text}" if reason else "**no reason yet**"
        lines += ["", f"`{mutant.place.file}:{mutant.place.line}` {why}", "", "```diff", *diff(mutant), "```"]
    return "\n".join(lines) + "\n"


def _times(found: list[tuple[Mutant, Result]]) -> list[str]:
    kinds = {"compiled by Numba": True, "plain Python": False}
    parts = []
    for name, compiled in kinds.items():
        seconds = [result.seconds for mutant, result in found if mutant.place.compiled is compiled]
        if seconds:
            parts.append(f"{len(seconds)} in code {name}, {sum(seconds) / len(seconds):.1f} s each")
    return ["; ".join(parts) + "."]


def _modules(found: list[tuple[Mutant, Result]]) -> list[str]:
    alive = Counter(mutant.place.file for mutant, result in found if result.outcome not in NOTICED)
    every = Counter(mutant.place.file for mutant, _ in found)
    return [
        f"| {file} | {count - alive[file]} | {alive[file]} | {share(count - alive[file], count)} |"
        for file, count in sorted(every.items())
    ]


def diff(mutant: Mutant) -> list[str]:
    """Its lines, as they were and as they are."""
    lines = [f"-{line}" for line in mutant.was.splitlines()] + [f"+{line}" for line in mutant.now.splitlines()]
    return lines


def name_of(mutant: Mutant) -> tuple[str, str, str]:
    """What names a mutant in ``accepted.toml``."""
    return mutant.place.file, mutant.was.strip(), mutant.now.strip()


def share(part: int, whole: int) -> str:
    """In percent; of nothing, all."""
    return f"{100 * part / whole:.1f} %" if whole else "100 %"
