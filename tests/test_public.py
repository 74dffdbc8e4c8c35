"""The public names: complete signatures, the same for editors, for `help` and at run time; their examples are run."""

from __future__ import annotations

import ast
import doctest
import inspect
import subprocess
import sys
import typing
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from conftest import ROOT

import fastnn
from fastnn.network import Dense
from fastnn.training.settings import Changes, Settings

NAMES = [name for name in fastnn.__all__ if name != "__version__"]


def test_every_public_name_is_there() -> None:
    assert dir(fastnn) == sorted(fastnn.__all__) == fastnn.__all__
    assert set(NAMES) == set(fastnn._HOMES)
    for name in NAMES:
        assert callable(getattr(fastnn, name))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        fastnn.trian  # noqa: B018


def test_editors_see_the_same_names() -> None:
    """What stands under `TYPE_CHECKING` for them is the table that names are loaded by."""
    tree = ast.parse(Path(fastnn.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    }
    assert set(seen) == set(fastnn._HOMES)
    for name, (module, own) in seen.items():
        assert getattr(sys.modules[module], own) is getattr(fastnn, name)


@pytest.mark.parametrize("name", NAMES)
def test_examples_of_every_public_name_are_run(name: str) -> None:
    found = getattr(fastnn, name)
    examples = doctest.DocTestFinder(recurse=False).find(found, name, globs={})
    runner = doctest.DocTestRunner()
    assert sum(len(test.examples) for test in examples)
    for test in examples:
        said: list[str] = []
        assert runner.run(test, out=said.append).failed == 0, "".join(said)


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_complete(name: str) -> None:
    found = getattr(fastnn, name)
    if inspect.isclass(found) and issubclass(found, Exception):
        return
    for parameter in inspect.signature(found).parameters.values():
        assert parameter.annotation is not parameter.empty, parameter
        assert parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL), parameter


def test_train_shows_and_takes_every_setting() -> None:
    shown = inspect.signature(fastnn.train).parameters
    wider = {"hidden", "validation"}  # which it takes in more forms
    for item in fields(Settings):
        assert item.name in shown
        if item.name not in wider:
            assert (shown[item.name].default, shown[item.name].annotation) == (item.default, item.type), item.name
        assert item.default is not MISSING
    assert [name for name in shown if name not in Settings.__dataclass_fields__] == (
        ["data", "on_epoch", "settings", "initial", "verbose"]
    )
    assert inspect.get_annotations(fastnn.train)["changes"] == "Unpack[Changes]"
    own, taken = typing.get_type_hints(Settings), typing.get_type_hints(Changes)
    assert set(own) - set(taken) == wider
    assert {name for name in taken if taken[name] != own[name]} == {"activation"}
    assert not Changes.__required_keys__


@pytest.mark.long
def test_type_checkers_know_every_setting(tmp_path: Path) -> None:
    """As an editor does: the right ones pass, a wrong name and a wrong type do not."""
    (tmp_path / "mypy.ini").write_text("[mypy]\nfollow_imports = silent\nignore_missing_imports = True\n")
    code = tmp_path / "used.py"
    code.write_text(
        "import fastnn\n"
        'model = fastnn.train("strokes", 64, epochs=3, activation="tanh", learning_rate=0.1, restore_best=False)\n'
        "reveal_type(model)\n"
        "reveal_type(fastnn.load_data())\n"
        "fastnn.train(epoch=3)\n"
        'fastnn.train(epochs="3")\n'
        "fastnn.train(initial=model, validation=0.1, hidden=(3, 4))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", tmp_path / "mypy.ini", "--cache-dir", tmp_path / "c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.partition("used.py:")[2] for line in done.stdout.splitlines() if "used.py:" in line]
    assert [int(line.partition(":")[0]) for line in lines if "error" in line] == [5, 6], done.stdout
    assert any(line.startswith("3: note") and "fastnn.model.model.Model" in line for line in lines)
    assert any(line.startswith("4: note") and "Dataset" in line for line in lines)


def test_networks_are_made_of_layers_of_others() -> None:
    first = fastnn.Network.mlp(5, (4, 3), 2)
    assert fastnn.Network(first.layers[1:]) == fastnn.Network.mlp(4, (3,), 2)
    assert fastnn.Network([Dense(5, 4), *first.layers[1:]]) == first
    for layers, error, message in (
        ((5, 4), TypeError, r"layers: 5: expected Dense\(inputs, units\)"),
        ((Dense(2, 2.5), Dense(2, 2, "identity")), TypeError, "a layer of 2.5 units: expected a whole number"),
        ((Dense(2, 3), Dense(3, 2, "identity", reads=-1)), ValueError, "layer 1 with reads=-1: expected 0"),
        ((Dense(2, 3, kind="conv"), Dense(3, 2, "identity")), ValueError, "kind='conv': expected one of dense"),
    ):
        with pytest.raises(error, match=message):
            fastnn.Network(layers)
