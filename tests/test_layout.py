"""The architecture, checked from the syntax tree: who may import whom, who may print, how large things may be."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from fastnn import kernels

PACKAGE = ROOT / "fastnn"
# files → arrays → network → kernels → training → the front doors: a module imports only from its list
MAY_IMPORT = {
    "errors": set(),
    "machine": set(),
    "distribution": set(),
    "files": {"errors"},
    "datasets": {"archives", "errors", "files", "images", "kernels", "machine"},  # kernels: only strokes, which draws
    "images": {"errors"},
    "network": {"errors"},
    "optimizers": set(),
    "settings": {"errors", "network", "optimizers"},
    "schedules": {"settings"},
    "stopping": {"settings"},
    "configuration": {"errors", "settings"},
    "archives": {"errors"},
    "formats": {"archives", "errors", "network"},
    "weights": {"errors", "files", "formats", "network"},
    "kernels": {"errors", "files", "machine"},
    "reference": set(),
    "inference": {"datasets", "errors", "kernels", "machine", "network", "reference", "settings"},
    "calibration": {"inference"},
    "model": {
        *("calibration", "errors", "datasets", "formats", "images", "inference", "network", "reference", "weights"),
    },
    "feeding": {"datasets", "errors", "inference", "kernels", "settings"},
    "preparation": {"datasets", "errors", "inference", "settings"},
    "initial": {
        *("datasets", "errors", "inference", "model", "network", "preparation", "settings", "weights"),
    },
    "training": {
        *("calibration", "datasets", "errors", "feeding", "inference", "initial", "kernels", "machine", "model"),
        *("network", "optimizers", "preparation", "schedules", "settings", "stopping"),
    },
    "fitting": {"datasets", "errors", "initial", "model", "preparation", "settings", "training"},
    "checkpoint": {"errors", "files", "formats", "kernels", "settings", "stopping", "training"},
    "gradcheck": {"errors", "inference", "kernels", "network", "reference", "settings"},
    "answers": {"datasets", "errors", "inference", "model"},
    "plots": {"calibration", "distribution", "errors"},
    "reports": {"answers", "model", "plots"},
    "web": {
        *("datasets", "distribution", "errors", "images", "inference", "model", "network", "optimizers", "reference"),
        *("settings", "training"),
    },
    "bench": {"datasets", "errors", "kernels", "machine", "network", "reference", "settings", "training"},
    "doctor": {"distribution", "kernels", "machine"},
    "warmup": {"datasets", "errors", "kernels", "settings", "training"},
    "cli": {
        *(
            "answers",
            "bench",
            "calibration",
            "checkpoint",
            "configuration",
            "datasets",
            "doctor",
            "errors",
            "files",
            "formats",
            "gradcheck",
            "images",
            "initial",
        ),
        *("kernels", "machine", "model", "network", "plots", "reports", "settings", "training", "warmup", "web"),
        "weights",
    },
    "__main__": {"cli"},
    "__init__": {"datasets", "errors", "fitting", "gradcheck", "model", "network", "settings", "training"},
}
ONLY_IN = {
    "numba": {"kernels"},
    "llvmlite": {"kernels"},
    "PIL": {"images"},
    "matplotlib": {"plots"},
    "starlette": {"web"},
    "uvicorn": {"web"},
    "typer": {"cli"},
    "rich": {"cli"},
    "safetensors": {"formats", "checkpoint"},
}
MOST_LINES, MOST_PARAMETERS = 600, 8


def modules() -> Iterator[tuple[Path, str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        yield path, part, ast.parse(path.read_text())


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
