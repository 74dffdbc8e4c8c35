"""The architecture, checked from the syntax tree: who may import whom, who may print, how large things may be."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

from fastnn import kernels, network, reference
from fastnn.kernels import layers

PACKAGE = ROOT / "fastnn"
# ground → arrays → kernels → models → training → tools → the front doors: a room imports only from its list
MAY_IMPORT = {
    "errors": set(),
    "ranges": {"errors"},
    "machine": set(),
    "distribution": set(),
    "files": {"errors"},
    "archives": {"errors"},
    "network": {"errors"},
    "reference": set(),
    "images": {"errors"},
    "kernels": {"errors", "files", "machine"},
    "formats": {"archives", "errors", "network"},
    # kernels: only strokes, which draws
    "datasets": {"archives", "errors", "files", "images", "kernels", "machine", "ranges"},
    "model": {
        *("datasets", "errors", "files", "formats", "images", "kernels", "machine", "network", "ranges", "reference"),
    },
    "evaluation": {"datasets", "distribution", "errors", "model"},
    "training": {"datasets", "errors", "files", "formats", "kernels", "machine", "model", "network", "ranges"},
    "tools": {
        *("datasets", "distribution", "errors", "kernels", "machine", "model", "network", "reference", "training"),
    },
    "estimators": {
        *("datasets", "distribution", "errors", "kernels", "machine", "model", "network", "reference", "training"),
    },
    "accel": {"errors", "estimators"},
    "web": {"datasets", "distribution", "errors", "images", "model", "network", "reference", "training"},
    "cli": {
        *("datasets", "errors", "evaluation", "files", "formats", "images", "kernels", "machine", "model", "network"),
        *("tools", "training", "web"),
    },
    "__main__": {"cli"},
    "__init__": {"datasets", "errors", "estimators", "model", "network", "tools", "training"},
}
ONLY_IN = {
    "numba": {"kernels"},
    "llvmlite": {"kernels"},
    "PIL": {"images"},
    "matplotlib": {"evaluation"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "typer": {"cli"},
    "rich": {"cli"},
    "safetensors": {"formats", "training"},
    "sklearn": {"estimators"},
}
MOST_LINES, MOST_PARAMETERS = 600, 8


@cache
def modules() -> list[tuple[Path, str, ast.Module]]:
    parts = [(path, path.relative_to(PACKAGE).parts[0].removesuffix(".py")) for path in sorted(PACKAGE.rglob("*.py"))]
    return [(path, part, ast.parse(path.read_text())) for path, part in parts]


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "fastnn":
                yield from (f"fastnn.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def test_every_module_has_a_place_in_the_table() -> None:
    assert {part for _, part, _ in modules()} == set(MAY_IMPORT)


@pytest.mark.parametrize(
    ("path", "part", "tree"), [pytest.param(*m, id=str(m[0].relative_to(ROOT))) for m in modules()]
)
def test_imports_flow_one_way(path: Path, part: str, tree: ast.Module) -> None:
    for name in imports(tree):
        top, _, rest = name.partition(".")
        if top == "fastnn":
            used = rest.partition(".")[0]
            assert used in MAY_IMPORT[part] | {part, "__version__"}, f"{part} imports {used}"
        assert part in ONLY_IN.get(top, {part}), f"{top} belongs in {ONLY_IN.get(top)} only"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count too: they are late, not another way round."""
    trees = {".".join(path.relative_to(ROOT).with_suffix("").parts): tree for path, _, tree in modules()}
    trees = {name.removesuffix(".__init__"): tree for name, tree in trees.items()}
    graph: dict[str, set[str]] = {}
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                whole = {f"{node.module}.{alias.name}" for alias in node.names}
                used = {found if found in trees else node.module for found in whole}
                graph.setdefault(name, set()).update(used & {*trees} - {name, "fastnn"})
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    ("path", "part", "tree"), [pytest.param(*m, id=str(m[0].relative_to(ROOT))) for m in modules()]
)
def test_nothing_grows_too_large_and_only_the_cli_prints(path: Path, part: str, tree: ast.Module) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            assert part == "cli"
        if isinstance(node, ast.FunctionDef) and part == "kernels":
            count = len(node.args.args) + len(node.args.kwonlyargs)
            assert count <= MOST_PARAMETERS, f"{node.name} takes {count} parameters: a missing idea"


def test_flags_of_the_compiler_are_in_one_place() -> None:
    for path, _, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg in ("fastmath", "nogil", "parallel", "cache", "jit_options"):
                assert path.name == "jit.py", f"{path.name} sets {node.arg}"
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                pytest.fail(f"{path.name} allows pickles")
    compiled = [
        (f"{info.name}.{name}", function)
        for info in pkgutil.iter_modules(kernels.__path__)
        for name, function in vars(importlib.import_module(f"fastnn.kernels.{info.name}")).items()
        if hasattr(function, "targetoptions")
    ]
    assert len(compiled) > 80
    for name, function in compiled:
        options = function.targetoptions
        assert options["fastmath"] == {"reassoc", "contract", "arcp", "nsz"}, name  # neither nnan nor ninf
        assert (options["nogil"], options["error_model"]) == (True, "numpy"), name


def test_there_is_no_drawer_for_everything() -> None:
    assert not [path for path, _, _ in modules() if path.stem in ("utils", "helpers", "common", "misc")]


def test_kinds_of_layers_have_the_same_names_everywhere() -> None:
    assert network.LAYER_KINDS == layers.KINDS == tuple(reference.LAYERS)
