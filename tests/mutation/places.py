"""What is mutated, and how: the places of the package where one of Cosmic Ray's operators changes what is computed."""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

import parso.python.tree as syntax
from cosmic_ray.ast import get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

# Not mutated, and why.
FILES = {
    "fastnn/kernels/tiles.py": "code generation: every function is an intrinsic that builds LLVM code",
    "fastnn/kernels/jit.py": "code generation: the compiler's flags and linkage",
    "fastnn/kernels/clock.py": "reads the cycle counter, for timings only",
    "fastnn/kernels/measure.py": "loops that find out what the machine can do, for timings only",
}
DECORATORS = {"intrinsic": "code generation"}
LINES = {
    r"\bprefetch\(|\b(ahead|far) = .*order\[": "asks for memory early: no result depends on it",
    r"^\s*__all__\b": "names for `import *`",
    r"^_SPINS = ": "how long to spin before the core is offered: timings only",
}
# Annotations, the bodies of `if TYPE_CHECKING` and the text of errors (f-strings in `raise`) are left out too: a
# mutant there changes nothing that a program does, or words only.

COMPILERS = {"jit", "kernel", "inlined", "by_type"}  # decorators of functions that Numba compiles
_LEAVES = (
    syntax.Name,
    syntax.Newline,
    syntax.EndMarker,
    syntax.String,
    syntax.FStringString,
)  # no operator changes these
_NAMES = ("VariableReplacer", "VariableInserter")  # operators that want to be told names
_PROVIDER = OperatorProvider()
OPERATORS: dict[str, Operator] = {name: _PROVIDER[name]() for name in _PROVIDER if name not in _NAMES}


@dataclass(frozen=True)
class Place:
    """Where something can be changed.

    Attributes
    ----------
    file : str
        Below the root, with ``/``.
    line, column : int
        Of the first character; lines from 1.
    function : tuple of int
        First and last line of the outermost function around it; all lines of a file's own statements are (0, 0).
    compiled : bool
        Whether Numba compiles it, so that coverage does not see it run: within a compiled function, or a statement of
        a module in ``kernels/``.
    changes : tuple of (str, int)
        Every mutant of this place: Cosmic Ray's operator, and which of its occurrences in the file.
    """

    file: str
    line: int
    column: int
    function: tuple[int, int]
    compiled: bool
    changes: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Mutant:
    """One change of one place.

    `was` and `now` are the lines that differ, `code` is the whole file.
    """

    place: Place
    operator: str
    was: str
    now: str
    code: str


def draw(root: Path, count: int, seed: int, files: list[str]) -> list[Mutant]:
    """`count` mutants of the package below `root`, by `seed`; `files` (none: all) narrows it to some files.

    Lines are drawn uniformly and once each, then one of a line's places, then one of the place's changes. Were changes
    drawn, a ``+``, of which the operators make eleven, would count eleven times as much as a condition; were places
    drawn, every twelfth mutant would be a coordinate of a digit in strokes.py. A line is left out when the change that
    was drawn is no Python, or no change.
    """
    numbers = random.Random(seed)
    lines: dict[tuple[str, int], list[Place]] = {}
    for file in targets(root, files):
        for place in places_of(root, file):
            lines.setdefault((file, place.line), []).append(place)
    mutants: list[Mutant] = []
    for places in numbers.sample(list(lines.values()), len(lines)):
        if len(mutants) == count:
            break
        place = numbers.choice(places)
        operator, occurrence = numbers.choice(place.changes)
        mutant = make(root, place, operator, occurrence)
        if mutant is not None:
            mutants.append(mutant)
    return mutants


def targets(root: Path, files: list[str]) -> list[str]:
    """Files to mutate, sorted."""
    found = sorted(path.relative_to(root).as_posix() for path in (root / "fastnn").rglob("*.py"))
    return [path for path in found if path not in FILES and (not files or path in files)]


def make(root: Path, place: Place, operator: str, occurrence: int) -> Mutant | None:
    """The mutant, or None where it is no Python or the same program."""
    source = (root / place.file).read_text(encoding="utf-8")
    code = MutationVisitor.mutate_code(source, OPERATORS[operator], occurrence)
    try:
        if code is None or ast.dump(ast.parse(code)) == ast.dump(ast.parse(source)):
            return None
    except SyntaxError:
        return None
    changed = list(unified_diff(source.splitlines(), code.splitlines(), lineterm="", n=0))[3:]
    was, now = ("\n".join(line[1:] for line in changed if line[0] == sign and line[1:].strip()) for sign in "-+")
    return Mutant(place, operator, was, now, code)


def places_of(root: Path, file: str) -> Iterator[Place]:
    """Places of one file, in its order."""
    source = (root / file).read_text(encoding="utf-8")
    lines = source.splitlines()
    counts = dict.fromkeys(OPERATORS, 0)
    found: dict[Any, list[tuple[str, int]]] = {}
    nodes: dict[Any, Any] = {}
    for node in _nodes(get_ast(source)):
        for name, operator in OPERATORS.items():
            for at in operator.mutation_positions(node):
                found.setdefault(at, []).append((name, counts[name]))
                nodes.setdefault(at, node)
                counts[name] += 1
    for ((line, column), _), changes in sorted(found.items()):
        node = nodes[(line, column), _]
        if any(re.search(pattern, lines[line - 1]) for pattern in LINES) or _is_left_out(node):
            continue
        around = [outer for outer in _outwards(node) if isinstance(outer, syntax.Function)]
        decorators = {name for function in around for name in _decorators(function)}
        if decorators & set(DECORATORS):
            continue
        compiled = bool(decorators & COMPILERS) or (not around and file.startswith("fastnn/kernels/"))
        function = (around[-1].start_pos[0], around[-1].end_pos[0]) if around else (0, 0)
        yield Place(file, line, column, function, compiled, tuple(changes))


def _nodes(node: Any) -> Iterator[Any]:
    """Every node that an operator may change, in the order in which Cosmic Ray counts occurrences."""
    if not isinstance(node, _LEAVES):
        yield node
    for child in getattr(node, "children", ()):
        yield from _nodes(child)


def _outwards(node: Any) -> Iterator[Any]:
    while node is not None:
        yield node
        node = node.parent


def _decorators(function: Any) -> set[str]:
    return {decorator.children[1].get_code().partition("(")[0].strip() for decorator in function.get_decorators()}


def _is_left_out(node: Any) -> bool:
    """Whether a node is within an annotation, `if TYPE_CHECKING`, or the text of an error."""
    inner, in_text = node, False
    for outer in _outwards(node):
        in_text |= outer.type == "fstring"
        if outer.type == "annassign" and inner is outer.children[1]:
            return True
        if isinstance(outer, syntax.Param | syntax.Function) and inner is outer.annotation:
            return True
        if outer.type == "tfpdef" and inner is outer.children[2]:
            return True
        if outer.type == "if_stmt" and outer.children[1].get_code().strip() == "TYPE_CHECKING":
            return True
        if outer.type == "raise_stmt" and in_text:
            return True
        inner = outer
    return False
