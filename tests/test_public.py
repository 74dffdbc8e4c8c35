"""The public names: complete signatures, the same for editors, for `help` and at run time; their examples are run."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import inspect
import pickle
import re
import subprocess
import sys
import typing
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import fastnn
from fastnn import errors
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


def test_without_scikit_learn_its_estimators_are_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else find(name))
    assert {*NAMES} - {*dir(fastnn)} == {"MLPClassifier", "MLPRegressor"}
    everything: dict[str, object] = {}
    exec("from fastnn import *", everything)
    assert "train" in everything
    assert "MLPClassifier" not in everything


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
        'fastnn.Training(([[0.0], [1.0]], ["a", "b"]), fastnn.Settings(hidden=16, activation="tanh"))\n'
        "fastnn.Settings(16, hiden=3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", tmp_path / "mypy.ini", "--cache-dir", tmp_path / "c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.partition("used.py:")[2] for line in done.stdout.splitlines() if "used.py:" in line]
    assert [int(line.partition(":")[0]) for line in lines if "error" in line] == [5, 6, 9], done.stdout
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


def test_errors_survive_a_pool_of_processes() -> None:
    """`multiprocessing` pickles them; one that can't be read again would leave the pool waiting forever."""
    diverged = pickle.loads(pickle.dumps(errors.DivergedError(2, 7, 0.5)))
    assert (diverged.epoch, diverged.step, diverged.learning_rate) == (2, 7, 0.5)
    assert str(diverged) == str(errors.DivergedError(2, 7, 0.5))
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.FastnnError) and kind is not errors.DivergedError:
            assert str(pickle.loads(pickle.dumps(kind("said")))) == "said"


def test_what_holds_arrays_is_compared_by_identity() -> None:
    x, y = [[0.0], [1.0]], [0, 1]
    for make in (
        lambda: fastnn.Split(x, y),
        lambda: fastnn.Dataset("two", fastnn.Split(x, y), None, ("a", "b")),
        lambda: fastnn.train((x, y), hidden=(), epochs=1),
        lambda: fastnn.Training((x, y), fastnn.Settings(hidden=())),
    ):
        one = make()
        assert one == one
        assert one != make()


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: fastnn.draw_strokes(3, seed=None), TypeError, "seed=None: expected a whole number"),
        (lambda: fastnn.draw_strokes(0), ValueError, "count=0: expected a whole number from 1"),
        (lambda: fastnn.load_data("x.csv", label=1.5), TypeError, "label=1.5: expected the name or number"),
        (lambda: fastnn.Network.mlp(4.7, (3,), 2), TypeError, "a layer of 4.7 units: expected a whole number"),
        (lambda: fastnn.train(([[0.0], [1.0]], [0, 1]), on_epoch=3), TypeError, "on_epoch=3: expected a function"),
        (lambda: fastnn.train(([[0.0], [1.0]], ["a", "b" * 201])), ValueError, "its name is longer than 200 letters"),
        (lambda: fastnn.train(([[0.0], [1.0]], ["a", "a"])), ValueError, "nothing to tell apart"),
        (lambda: fastnn.Model(fastnn.Network.mlp(2, (), 2), [np.zeros((3, 2)), np.zeros(2)]), ValueError, "of shapes"),
        (lambda: fastnn.Model(fastnn.Network.mlp(2, (), 2), []), ValueError, "parameters of shapes []"),
    ],
)
def test_what_can_not_be_is_refused_at_once(call: Callable[[], object], kind: type, said: str) -> None:
    with pytest.raises(kind, match=re.escape(said)) as refused:
        call()
    assert isinstance(refused.value, fastnn.FastnnError)


def test_values_beyond_all_measure_are_not_standardised_to_nothing() -> None:
    with pytest.raises(ValueError, match="feature 1 has values beyond 1e150"):
        fastnn.train(([[1e200], [2.0], [3e200]], [0, 1, 0]), hidden=(), epochs=1)


def test_a_run_evaluates_what_its_model_does() -> None:
    x, y = [[0.0], [0.2], [0.8], [1.0]], ["low", "low", "high", "high"]
    run = fastnn.Training((x, y), fastnn.Settings(hidden=(), epochs=3))
    assert list(run)
    assert run.evaluate((x, y)).loss == run.model().evaluate((x, y)).loss


def test_a_run_is_in_one_epoch_at_a_time() -> None:
    x, y = np.zeros((64, 3)), np.arange(64) % 2

    def again(run: fastnn.Training) -> None:
        next(iter(run))

    run = fastnn.Training((x, y), fastnn.Settings(hidden=(), epochs=2, batch_size=4), on_safe=again)
    with pytest.raises(fastnn.FastnnError, match="in an epoch already"):
        list(run)
