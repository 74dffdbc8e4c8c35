"""Messages: the library's name arguments, the command's options, those of files keys; errors are what people catch."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, clean_error, fastnn
from typer.main import get_command

import fastnn as package
from fastnn import errors
from fastnn.cli.app import app
from fastnn.cli.main import run
from fastnn.cli.wording import OPTIONS, in_options
from fastnn.datasets import Dataset, Split
from fastnn.datasets.cifar import load_cifar
from fastnn.errors import ArgumentTypeError, DataError, DataTypeError, FastnnError, QualityError, UsageError
from fastnn.ranges import Range
from fastnn.training.configuration import in_keys
from fastnn.training.settings import Settings, from_mapping

OUTSIDE = ("cli",)
OPTION = re.compile(r"(?<![\w-])--[a-z]")


def refused(name: str) -> str:
    """What `Settings` says of a value of another type."""
    with pytest.raises(ArgumentTypeError) as raised:
        Settings(**{name: object})  # type: ignore[arg-type]
    return str(raised.value)


@pytest.mark.parametrize("item", fields(Settings), ids=lambda item: item.name)
def test_every_setting_is_an_argument_an_option_and_a_key(item: object) -> None:
    name, option = item.name, item.metadata["option"].partition(",")[0].partition("/")[0]  # type: ignore[attr-defined]
    message = refused(name)
    assert message.startswith(f"{name}=<class 'object'>: expected ")
    assert in_options(message).startswith(f"{option} <class 'object'>: expected ")
    assert in_keys(message).startswith(f"{name} = <class 'object'>: expected ")
    assert in_options(f"take {name}=0.1, or leave out {name}=") == f"take {option} 0.1, or leave out {option}"
    assert in_options(f"Are they right ({name}=)?") == f"Are they right ({option})?"
    with pytest.raises(UsageError) as raised:
        from_mapping({name: object}, "file.toml")
    assert str(raised.value).startswith(f"file.toml: {name}=")
    assert in_options(str(raised.value)).startswith(f"file.toml: {option} ")


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("gamma=0.3: it is used with schedule=\"step\" or \"exponential\" only",
         "--gamma 0.3: it is used with --schedule step or exponential only"),
        ('take optimizer="adam", "adamw" or "rmsprop", or not', "take --optimizer adam, adamw or rmsprop, or not"),
        ("initialisation='zero': expected", "--init 'zero': expected"),
        ("activation=('relu', 'tanh') names 2", "--activation relu,tanh names 2"),
        ("hidden=(8,), hidden=(8, 9), hidden=()", "--hidden 8, --hidden 8,9, --hidden none"),
        ("restore_best=False or restore_best=True", "--keep-last or --restore-best"),
        ("restore_best=3: expected true or false", "--restore-best 3: expected true or false"),
        ("learning_rate=-0.5: no", "--lr -0.5: no"),
        ("learning_rate=1e-05", "--lr 1e-05"),
        ("no test examples; take part=\"train\"", "no test examples; take --split train"),
        ("kind='h5', order=a,b, label='x', test=2, data=, preset='x', port=, initial=model",
         "--to 'h5', --order a,b, --label 'x', --test 2, --data, --preset 'x', --port, --from model"),
        ("momentum was 0.5 and is 0.9; momentum = 0.5", "momentum was 0.5 and is 0.9; momentum = 0.5"),
        ("runs/seed=3/model: no such file", "runs/seed=3/model: no such file"),
        ("my-seed=3, my_seed=3, x.seed=3, 'seed=3'", "my-seed=3, my_seed=3, x.seed=3, 'seed=3'"),
    ],
)  # fmt: skip
def test_arguments_become_options(message: str, wanted: str) -> None:
    assert in_options(message) == wanted


def test_what_was_typed_is_repeated_as_it_was() -> None:
    """Files are called `seed=3` too."""
    said = "seed=3: no such file; threads=0: expected a whole number"
    assert in_options(said, ["show", "seed=3"]) == "seed=3: no such file; --threads 0: expected a whole number"
    assert in_options(said, ["--weights=seed=3"]) == "seed=3: no such file; --threads 0: expected a whole number"
    assert in_options("seed=-1: expected", ["--seed=-1"]) == "--seed -1: expected"
    assert in_options("seed=3.5 (a) and seed=3", ["seed=3.5 (a)"]) == "seed=3.5 (a) and --seed 3"


def test_every_option_is_one_of_the_command() -> None:
    command, known = get_command(app), set[str]()
    for one in [*command.commands.values(), *command.commands["plot"].commands.values()]:  # type: ignore[attr-defined]
        known |= {flag for parameter in one.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    for name, options in OPTIONS.items():
        assert set(options) <= known, name


def strings(path: Path) -> list[str]:
    """Every text of a module that is no docstring and no option of a setting."""
    tree = ast.parse(path.read_text())
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_setting":
            skipped |= {id(argument) for argument in node.args}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped
    ]


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((ROOT / "fastnn").rglob("*.py")) if not set(path.relative_to(ROOT).parts) & set(OUTSIDE)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_message_of_the_library_names_an_option(path: Path) -> None:
    assert not [text for text in strings(path) if OPTION.search(text) and text != "--"]


def test_the_command_says_options(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my.toml").write_text("patience = -3\n")
    (tmp_path / "seed=3").write_text("no model")
    x, y = np.eye(20, 6, dtype=np.float32) * np.float32(1e18), np.arange(20) % 3
    np.savez(tmp_path / "x.npz", x=x, y=y)
    data = ("train", "--data", str(tmp_path / "x.npz"), "-o", str(tmp_path / "m"))
    for args, wanted in (
        ((*data, "--gamma", "0.3"), "--gamma 0.3: it is used with --schedule step or exponential only"),
        ((*data, "--config", str(tmp_path / "my.toml")), "my.toml: patience = -3: expected a whole number"),
        (
            (*data, "--loss", "squared", "--class-weight", "balanced"),
            "--class-weight balanced needs classes: --loss so",
        ),
        (("evaluate", "--data", str(tmp_path / "x.npz"), "--label", "a"), "--label 'a': "),
        (("train", "--preset", "x"), "--preset 'x': expected one of"),
        (("convert", str(tmp_path / "seed=3"), str(tmp_path / "n"), "--to", "h5"), "--to 'h5': expected one of"),
    ):
        assert run(list(args)) in (2, 3)
        assert wanted in capfd.readouterr().err
    done = fastnn("show", "seed=3", cwd=tmp_path)
    assert clean_error(done, 3).startswith("error: seed=3: ")
    done = fastnn(*data, "--lr", "1e30", "--hidden", "none", "--features", "raw")
    assert re.search(
        r"the loss is not finite \(learning rate 9\.\d+e\+29\)\. Try --lr 9\.\d+e\+28$", clean_error(done, 1)
    )


def test_errors_are_what_people_catch(small: Dataset) -> None:
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, FastnnError):
            bad_value = issubclass(kind, errors.UsageError | errors.InputError)
            assert issubclass(kind, ValueError) == bad_value, kind
    assert not issubclass(QualityError, ValueError)
    assert not issubclass(UsageError, TypeError)
    for values, error in (
        ({"epochs": 0}, ValueError),
        ({"epochs": 2.5}, TypeError),
        ({"epochs": True}, TypeError),
        ({"epochs": None}, TypeError),
        ({"dropout": "0.1"}, TypeError),
        ({"optimizer": 3}, TypeError),
        ({"optimizer": "adamm"}, ValueError),
        ({"restore_best": 1}, TypeError),
        ({"learning_rat": 1}, TypeError),
        ({"settings": {"epochs": 3}}, TypeError),
        ({"initial": "model.safetensors"}, TypeError),
    ):
        with pytest.raises(error) as raised:
            package.train(small, **values)
        assert isinstance(raised.value, UsageError)
        assert isinstance(raised.value, TypeError) == (error is TypeError), values
    with pytest.raises(DataTypeError) as of_type:
        package.train(3)  # type: ignore[arg-type]
    assert isinstance(of_type.value, TypeError)
    with pytest.raises(TypeError, match="training set of type tuple"):
        Dataset("x", (1, 2), None, ("a", "b"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="row 1 holds a value"):
        Split([[np.nan]], [0])
    with pytest.raises(ValueError, match="no such file"):
        package.load("nowhere")


def test_a_damaged_record_is_named_and_not_the_archive(tmp_path: Path) -> None:
    """Errors of data are a `ValueError`: whoever catches those of others must let ours through."""
    import io
    import tarfile

    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = 7
            archive.addfile(member, io.BytesIO(b"damaged"))
    with pytest.raises(DataError, match=r"^data_batch_1.bin: 7 bytes; expected records"):
        load_cifar(tmp_path)


def test_ranges_tell_a_wrong_type_from_a_wrong_value() -> None:
    whole, any_number = Range(1, 5, whole=True), Range(0, 1)
    assert [whole.is_number(v) for v in (3, 9, np.int32(3), 2.5, True, "3", None, np.array(3))] == (
        [True, True, True, False, False, False, False, True]
    )
    assert [any_number.is_number(v) for v in (0.5, 9, float("nan"), "0.5", None, np.array([0.5]))] == (
        [True, True, True, False, False, False]
    )


def test_a_number_of_threads_that_cannot_be_draws_nothing() -> None:
    with pytest.raises(UsageError, match=r"^threads=0: "):
        package.draw_strokes(1, threads=0)
