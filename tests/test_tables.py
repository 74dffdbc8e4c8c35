"""Data in every form: tables, archives, folders of pictures, CIFAR-10; and all the ways they can be wrong."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import re
import resource
import tarfile
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from conftest import clean_error, fastnn
from PIL import Image

import fastnn as package
from fastnn.cli.main import run
from fastnn.datasets import cifar, load, tables
from fastnn.datasets.labels import natural
from fastnn.datasets.named import load_cifar10
from fastnn.datasets.tables import _read
from fastnn.errors import DataError, RunError, UsageError
from fastnn.images import prepare_digit, read

KAGGLE = "label," + ",".join(f"pixel{i}" for i in range(784))


def table(tmp_path: Path, text: str | bytes, name: str = "t.csv") -> Path:
    content = text.encode() if isinstance(text, str) else text
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return tmp_path / name


@pytest.mark.parametrize(
    ("text", "label", "classes", "y", "x"),
    [
        ("label,a,b\n1,0.5,2\n0,3,4\n", None, ("0", "1"), [1, 0], [[0.5, 2], [3, 4]]),
        ("a,b,Class\n0.5,2,yes\n3,4,no\n", None, ("no", "yes"), [1, 0], [[0.5, 2], [3, 4]]),
        ("5.1,setosa,3\n4.9,virginica,1\n", None, ("setosa", "virginica"), [0, 1], [[5.1, 3], [4.9, 1]]),
        ("1;2;0\r\n3;4;1\r\n", None, ("0", "1"), [0, 1], [[1, 2], [3, 4]]),
        ("a\tb\n1\t10\n2\t9\n3\t10\n", None, ("9", "10"), [1, 0, 1], [[1], [2], [3]]),
        ("a,b,c\n1,2,3\n4,5,6\n", "b", ("2", "5"), [0, 1], [[1, 3], [4, 6]]),
        ("1,2,3\n4,5,6\n", "1", ("1", "4"), [0, 1], [[2, 3], [5, 6]]),
        ("1,2,3\n4,5,6\n", "-1", ("3", "6"), [0, 1], [[1, 2], [4, 5]]),
        ("\ufeffy,a\n1.0,2\n-1.0,3\n\n", None, ("-1", "1"), [1, 0], [[2], [3]]),
        ('"a, b","label"\n"1","x y"\n2," z "\n', None, ("x y", "z"), [0, 1], [[1], [2]]),
        ("a,b\n1,cat\n2,dog", None, ("cat", "dog"), [0, 1], [[1], [2]]),
    ],
)
def test_tables_as_people_have_them(
    text: str, label: str | None, classes: tuple[str, ...], y: list[int], x: list[list[float]], tmp_path: Path
) -> None:
    for name in ("t.csv", "t.csv.gz"):
        found = load(table(tmp_path, text, name), label)
        assert found.classes == classes
        assert found.train.y.tolist() == y
        np.testing.assert_allclose(found.train.x, np.array(x, np.float32))
        assert found.train.x.dtype == np.float32
        assert found.table
        assert "label" in found.origin


def test_pixels_become_bytes_by_name_or_number(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (6, 784))
    rows = "\n".join(",".join(map(str, [i % 3, *row])) for i, row in enumerate(pixels))
    for text in (f"{KAGGLE}\n{rows}\n", rows):
        found = load(table(tmp_path, text))
        assert found.train.x.dtype == np.uint8
        assert (found.train.x == pixels).all()
        assert found.image_shape == (28, 28)
        assert not found.table
    small = "\n".join(",".join(map(str, [*row[:16], i % 2])) for i, row in enumerate(pixels))
    assert load(table(tmp_path, small)).train.x.dtype == np.float32  # sixteen numbers are no picture


def test_numbers_to_predict_and_several_of_them(tmp_path: Path) -> None:
    path = table(tmp_path, "a,price,b,size\n1,10.5,2,7\n3,11,4,8\n")
    found = load(path, "price,size", numbers=True)
    assert found.train.y.tolist() == [[10.5, 7], [11, 8]]
    assert found.train.x.tolist() == [[1, 2], [3, 4]]
    assert found.classes == ("price", "size")
    with pytest.raises(DataError, match="needs a loss of numbers"):
        load(path, "price,size")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,a\n1,2\n0,3,4\n", "line 3 has 3 columns, the first 2"),
        ("label,a\n1,2\n0\n", "line 3 has 1 columns, the first 2"),
        ("label,a\n1,2\n0,\n", "line 3, column 2 (a): a missing value"),
        ("label,a\n1,2\n0,nan\n", "line 3, column 2 (a): a missing or infinite value (nan)"),
        ("label,a\n1,2\n0,inf\n", "(inf)"),
        ("label,a\n1,2\n0,1e99\n", "(inf)"),
        ("label,a\n1,2\n0,x\n1,3\n", "line 3, column 2 (a): 'x' is not a number"),
        ("label,a\n1,2\n,3\n", "line 3, column 1 (label): a missing label"),
        ("label,a\n1,2\nNaN,3\n", "a missing label"),
        ("label,a\n1,2\n1,3\n", "one class only (1)"),
        ("label,a,a\n1,2,3\n", "two columns are called 'a'"),
        ("label,a\n", "no rows"),
        ("", "no rows"),
        ("\n\n", "no rows"),
        ("1\n2\n", "one column only"),
        ("label,a\n1,\0\n", "zero bytes"),
        ("label,a\n1,2\r0,3\n", "bare carriage return"),
        ('label,a\n1,"2\n0,3"\n', "line 2"),
        ("label,a\n" + "".join(f"{i}.5,1\n" for i in range(300)), "300 different labels"),
    ],
)
def test_tables_that_cannot_be_are_refused_with_their_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        load(table(tmp_path, text))
    assert message in str(raised.value)
    assert "t.csv" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_tables_in_other_encodings_and_damaged_ones(tmp_path: Path) -> None:
    for content, message in (
        ("label,a\n1,2\n".encode("utf-16"), "UTF-16"),
        (b"label,a\n1,2\n\xff,3\n", "line 3 is not UTF-8"),
        (b"label,a\n" + b"1" * (2**24 + 9), "a line of more than"),
    ):
        with pytest.raises(DataError, match=message):
            load(table(tmp_path, content))
    whole = gzip.compress(b"label,a\n" + b"1,2\n0,3\n" * 1_000)
    for bad in (whole[:-9], whole[:40] + b"xxxx" + whole[44:]):
        (tmp_path / "t.csv.gz").write_bytes(bad)
        with pytest.raises(DataError, match="damaged"):
            load(tmp_path / "t.csv.gz")


@pytest.mark.parametrize("label", ["price", "9", "0", "-9", ""])
def test_a_column_that_there_is_not_is_named(label: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"label=.*expected one of the columns: label, a"):
        load(table(tmp_path, "label,a\n1,2\n0,3\n"), label)


def test_a_test_table_beside_the_training_table(tmp_path: Path) -> None:
    table(tmp_path, "a,label\n1,x\n2,y\n3,x\n", "train.csv")
    table(tmp_path, "a,label\n5,y\n", "test.csv")
    found = load(tmp_path)
    assert found.test
    assert (found.test.x.tolist(), found.test.y.tolist()) == ([[5]], [1])
    table(tmp_path, "a,label\n5,z\n", "test.csv")
    with pytest.raises(DataError, match="label z in row 1; expected one of x, y"):
        load(tmp_path)
    table(tmp_path, "a,b,label\n5,6,x\n", "test.csv")
    with pytest.raises(DataError, match="3 columns; the training table has 2"):
        load(tmp_path)
    table(tmp_path, "a,label\n5,y\n6,x\n", "more.csv")
    assert load(tmp_path / "train.csv", validation=tmp_path / "more.csv").validation.y.tolist() == [1, 0]  # type: ignore[union-attr]
    assert load(tmp_path / "train.csv", test=tmp_path / "more.csv").test.y.tolist() == [1, 0]  # type: ignore[union-attr]
    table(tmp_path, "a,label\n5,q\n6,x\n", "more.csv")
    with pytest.raises(DataError, match="label q in row 1; expected one of x, y"):
        load(tmp_path / "train.csv", validation=tmp_path / "more.csv")


def test_a_second_table_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    table(tmp_path, "a,b,kind\n1,2,x\n3,4,y\n", "train.csv")
    other = table(tmp_path, "kind,b,a\ny,20,10\n", "other.csv")
    for found in (
        load(tmp_path / "train.csv", "kind", test=other).test,
        load(tmp_path / "train.csv", "3", test=other).test,
        load(tmp_path / "train.csv", "kind", validation=other).validation,
    ):
        assert found
        assert (found.x.tolist(), found.y.tolist()) == ([[10, 20]], [1])
    table(tmp_path, "kind,b,c\ny,20,10\n", "other.csv")
    with pytest.raises(DataError, match=r"other.csv: no column 'a', which the training table has"):
        load(tmp_path / "train.csv", "kind", test=other)
    table(tmp_path, "10,20,y\n", "other.csv")  # without names: in order
    assert load(tmp_path / "train.csv", "kind", test=other).test.x.tolist() == [[10, 20]]  # type: ignore[union-attr]
    table(tmp_path, "a,b,c\n1,2,3\n4,5,6\n", "train.csv")
    numbers = load(tmp_path / "train.csv", "b,a", True, test=table(tmp_path, "b,c,a\n7,8,9\n", "other.csv"))
    assert numbers.test
    assert (numbers.test.x.tolist(), numbers.test.y.tolist()) == ([[8]], [[7, 9]])


def test_a_test_table_without_labels_is_left_aside_unless_asked_for(tmp_path: Path) -> None:
    table(tmp_path, "label,a,b\n0,1,2\n1,3,4\n", "train.csv")
    other = table(tmp_path, "a,b\n5,6\n", "test.csv")
    found = load(tmp_path)
    assert found.test is None
    assert "test.csv has no labels and is left aside" in found.origin
    with pytest.raises(DataError, match=r"test\.csv: 2 columns; the training table has 3, one of them labels"):
        load(tmp_path, test=other)
    assert load(tmp_path, test=0.5).test  # a share of the rows instead


def test_one_set_is_cut_in_two(tmp_path: Path) -> None:
    path = table(tmp_path, "a,label\n" + "".join(f"{i},{i % 4}\n" for i in range(200)))
    found = load(path, test=0.25)
    assert found.test
    assert (len(found.train), len(found.test)) == (150, 50)
    assert np.abs(np.bincount(found.test.y) - 12.5).max() <= 1
    assert not set(found.train.x[:, 0]) & set(found.test.x[:, 0])
    with pytest.raises(UsageError, match=r"^test=1.5: "):
        load(path, test=1.5)


@pytest.mark.long
def test_a_million_rows_take_little_more_than_their_numbers(tmp_path: Path) -> None:
    rows, columns = 1_000_000, 21
    with (tmp_path / "t.csv").open("w") as file:
        line = ",".join(["0.123456"] * (columns - 1))
        for i in range(rows):
            file.write(f"{line},{i % 3}\n")
    _read(table(tmp_path, "a,label\n1,x\n2,y\n", "small.csv"), None, False, None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = load(tmp_path / "t.csv")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert len(found.train) == rows
    assert grown < 2 * rows * (columns - 1) * 4 + 2**27


def test_numbers_in_names_sort_as_numbers() -> None:
    assert sorted(["10", "9", "a2", "a10", "-1", "1.5"], key=natural) == ["-1", "1.5", "9", "10", "a2", "a10"]


def test_scaling_is_in_the_model(tmp_path: Path) -> None:
    """Features of any size are learned, and a saved model takes them as they are."""
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 600)
    x = np.stack(
        [1e6 + 1e3 * (y + 0.2 * random.standard_normal(600)), 1e-6 * random.standard_normal(600), y * 0 + 7], 1
    )
    rows = "\n".join(f"{a!r},{b!r},{c!r},{'xyz'[k]}" for (a, b, c), k in zip(x.tolist(), y, strict=True))
    path = table(tmp_path, "a,b,c,label\n" + rows)
    done = fastnn("train", "--data", path, "--test", "0.2", "-e", "20", "-o", "m.npz", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["test_accuracy"] > 0.97
    model = package.load(tmp_path / "m.npz")
    assert model.scaling
    np.testing.assert_allclose(model.scaling[0][0], x[:, 0].mean(), rtol=1e-3)
    assert (model.predict(x) == np.array(list("xyz"))[y]).mean() > 0.97
    assert (model.predict(x, engine="kernels") == model.predict(x, engine="numpy")).all()
    done = fastnn("evaluate", "--data", path, "--weights", "m.npz", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["accuracy"] > 0.97
    raw = package.train(load(path), (8,), epochs=1, features="raw")
    assert raw.scaling is None
    with pytest.raises(UsageError, match="sparse"):
        import scipy.sparse

        package.train((scipy.sparse.csr_array(np.eye(6)), np.arange(6) % 2), features="standard")


def test_a_regression_by_the_command(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((300, 2))
    rows = "\n".join(f"{a!r},{b!r},{2 * a - b!r}" for a, b in x.tolist())
    path = table(tmp_path, "a,b,price\n" + rows)
    command = ("--loss", "squared", "--label", "price", "--optimizer", "adam", "--lr", "0.01", "-e", "60")
    done = fastnn("train", "--data", path, *command, "--test", "0.2", "-o", "m.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "has a loss of 0.0" in done.stdout
    monkeypatch.chdir(tmp_path)
    command = ("evaluate", "--data", str(path), "--label", "price", "--weights", "m.safetensors")

    def said(*options: str, code: int = 0) -> str:
        assert run([*command, *options]) == code
        return "".join(capsys.readouterr())

    assert re.search(r"t, train: loss (0\.0|\d\.\d+e-0)\S* on 300 examples", said())
    found = json.loads(said("--json"))
    assert (found["split"], found["examples"]) == ("train", 300)
    assert re.search(r"t, test: loss (0\.0|\d\.\d+e-0)\S* on 60 examples", said("--test", "0.2"))
    assert re.search(r"error: .*no test examples; take --split train.*--test", said("--split", "test", code=2))
    assert "trained by --loss squared" in said("--min-accuracy", "0.5", "--data", "/nowhere", code=2)
    line = clean_error(fastnn("evaluate", "--data", digits, "--weights", "m.safetensors", cwd=tmp_path), 3)
    assert "784 features" in line or "--loss squared" in line


# archives of NumPy


def npz(tmp_path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(tmp_path / "d.npz", **arrays)
    return tmp_path / "d.npz"


def test_archives_by_any_usual_names(tmp_path: Path) -> None:
    x, y = np.zeros((8, 28, 28), np.uint8), np.arange(8) % 3
    found = load(npz(tmp_path, x_train=x, y_train=y, x_test=x[:2], y_test=y[:2]))
    assert (found.image_shape, found.classes, len(found.train)) == ((28, 28), ("0", "1", "2"), 8)
    assert found.test
    found = load(npz(tmp_path, X=np.arange(16.0).reshape(8, 2), y=np.array(list("abababab"))))
    assert (found.classes, found.test, found.table) == (("a", "b"), None, True)
    found = load(npz(tmp_path, x=np.zeros((8, 2)), y=np.arange(8.0)), numbers=True)
    assert found.train.y.shape == (8, 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros(3)}, "holds a; expected x_train"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(4, int)}, "3 examples but 4 labels"),
        ({"x": np.zeros((3, 2)), "y": np.array([0, 1, -1])}, ""),
        ({"x": np.full((2, 2), np.nan), "y": np.arange(2)}, "missing or infinite"),
        ({"x": np.array([{}, {}]), "y": np.arange(2)}, "does not fit"),
        ({"x": np.zeros((2, 2)), "y": np.zeros((2, 2))}, "expected one label"),
        ({"x": np.zeros((2, 2)), "y": np.array([b"a", b"\xff"])}, "not texts of Unicode"),
        ({"x": np.zeros((2, 2)), "y": np.array(["a", "\ud800"])}, "not texts of Unicode"),
        ({"x": np.zeros((2, 2)), "y": np.array([97, 0x110000], "<u4").view("<U1")}, "not texts of Unicode"),
        (
            {"x_train": np.zeros((2, 2)), "y_train": np.arange(2), "x_test": np.zeros((2, 3)), "y_test": np.arange(2)},
            "(3,)",
        ),
    ],
)
def test_archives_that_cannot_be_are_refused(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    if not message:
        assert load(npz(tmp_path, **arrays)).classes == ("-1", "0", "1")  # names, whatever they are
        return
    with pytest.raises(DataError) as raised:
        load(npz(tmp_path, **arrays))
    assert message in str(raised.value)


# folders of pictures


def picture(path: Path, kind: int = 0, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(size, 255, np.uint8)
    pixels[5 + kind : 25 + kind, 8 + 3 * kind : 12 + 3 * kind] = 0
    Image.fromarray(pixels).save(path)


def test_folders_of_pictures_of_any_size(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("test", 1)):
        for digit in (0, 2, 10):
            for n in range(count):
                picture(tmp_path / split / str(digit) / f"{n}.png", n % 3, (40 + n, 30 + 2 * n))
    (tmp_path / "train" / "2" / "notes.txt").write_text("stray")
    (tmp_path / "train" / "0" / ".hidden.png").write_text("stray")
    found = load(tmp_path)
    assert found.classes == ("0", "2", "10")
    assert found.train.y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert found.test
    assert (len(found.test), found.image_shape, found.train.x.dtype) == (3, (28, 28), np.uint8)
    assert "2 other files left aside" in found.origin
    digits = load_one_level(tmp_path)
    wanted = prepare_digit(read(tmp_path / "digits" / "1" / "0.png")).pixels
    assert (digits.train.x[4].reshape(28, 28) == wanted).all()


def load_one_level(tmp_path: Path) -> package.datasets.Dataset:  # type: ignore[name-defined]
    for digit in range(2):
        for n in range(4):
            picture(tmp_path / "digits" / str(digit) / f"{n}.png", digit)
    found = load(tmp_path / "digits", test=0.25)
    assert found.test
    assert (len(found.train), len(found.test)) == (6, 2)
    return load(tmp_path / "digits")


def test_folders_that_cannot_be_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "one" / "a" / "0.png")
    with pytest.raises(DataError, match=r"1 class folders \(a\); expected two or more"):
        load(tmp_path / "one")
    picture(tmp_path / "two" / "a" / "0.png")
    (tmp_path / "two" / "b").mkdir()
    with pytest.raises(DataError, match="b: no pictures"):
        load(tmp_path / "two")
    for n in range(3):
        picture(tmp_path / "bad" / "a" / f"{n}.png")
        (tmp_path / "bad" / "b").mkdir(exist_ok=True)
        (tmp_path / "bad" / "b" / f"{n}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"3 of 6 pictures can't be read; .*0\.png: not a picture"):
        load(tmp_path / "bad")
    picture(tmp_path / "more" / "train" / "a" / "0.png")
    picture(tmp_path / "more" / "train" / "b" / "0.png")
    picture(tmp_path / "more" / "test" / "c" / "0.png")
    with pytest.raises(DataError, match="class c is not among"):
        load(tmp_path / "more")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="no data set in this folder"):
        load(tmp_path / "nothing")
    (tmp_path / "junk.bin").write_bytes(b"junk")
    with pytest.raises(DataError, match="not a data set"):
        load(tmp_path / "junk.bin")
    with pytest.raises(UsageError, match="is no table"):
        load(tmp_path / "two", label="a")
    line = clean_error(fastnn("train", "--data", tmp_path / "bad", cwd=tmp_path), 3)
    assert "can't be read" in line


# CIFAR-10


def cifar_files(records: int) -> dict[str, bytes]:
    random = np.random.default_rng(0)
    found = {}
    for name in (*cifar.TRAIN, cifar.TEST):
        rows = random.integers(0, 256, (records, 3073)).astype(np.uint8)
        rows[:, 0] %= 10
        found[name] = rows.tobytes()
    return found


def archive(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / cifar.ARCHIVE, "w:gz") as tar:
        for name, content in {**files, "readme.html": b"hello"}.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return folder


def test_cifar_10_from_its_binary_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = cifar_files(7)
    archive(tmp_path / "cifar-10", files)
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    found = load("cifar-10")
    assert (found.features, len(found.train), found.classes[3]) == (3072, 35, "cat")
    first = np.frombuffer(files[cifar.TRAIN[0]], np.uint8).reshape(7, 3073)
    assert (found.train.x[:7] == first[:, 1:]).all()
    assert (found.train.y[:7] == first[:, 0]).all()
    assert found.test
    assert len(found.test) == 7
    package.train(found, (8,), epochs=1, shift=2, rotation=10)  # three channels moved together
    for name, content in files.items():
        (tmp_path / "plain").mkdir(exist_ok=True)
        (tmp_path / "plain" / name).write_bytes(content)
    assert load(tmp_path / "plain").fingerprint() == found.fingerprint()
    assert sorted(p.name for p in (tmp_path / "cifar-10").iterdir()) == [cifar.ARCHIVE]  # nothing is unpacked


def test_cifar_10_that_cannot_be_is_refused(tmp_path: Path) -> None:
    files = cifar_files(2)
    bad = {**files, cifar.TEST: b"\x0a" + bytes(3072)}
    for name, changed, message in (
        ("label", bad, "label 10 in record 1"),
        ("cut", {**files, cifar.TEST: files[cifar.TEST][:-1]}, "expected records of 3,073 bytes"),
        ("empty", {**files, cifar.TEST: b""}, "0 bytes"),
        ("missing", {k: v for k, v in files.items() if k != cifar.TEST}, "no test_batch.bin in it"),
    ):
        with pytest.raises(DataError, match=message):
            load(archive(tmp_path / name, changed))
    (tmp_path / "cut" / cifar.ARCHIVE).write_bytes(b"\x1f\x8bjunk")
    with pytest.raises(DataError, match="damaged"):
        load(tmp_path / "cut")


def test_cifar_10_is_downloaded_and_another_file_in_its_place_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (archive(tmp_path / "server", cifar_files(3)) / cifar.ARCHIVE).read_bytes()
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "server"))
    for name, value in (("FASTNN_DATA", "none"), ("FASTNN_CACHE_DIR", "cache"), ("XDG_CACHE_HOME", "cache")):
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.chdir(tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(cifar, "URL", f"http://127.0.0.1:{server.server_port}/{cifar.ARCHIVE}")
        with pytest.raises(RunError, match=r"MD5 .*but the published archive has .*Put cifar-10-binary"):
            load_cifar10(seconds=2)
        assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
        monkeypatch.setattr(cifar, "MD5", hashlib.md5(content).hexdigest())
        assert len(load("cifar-10").train) == 15
        server.shutdown()
    assert len(load("cifar-10").train) == 15  # kept


def test_labels_of_files_come_back_as_they_are_written(tmp_path: Path) -> None:
    """From 1 on, with gaps, as texts; and no class that does not occur."""
    rows = "".join(f"{i},{i % 3 + 1}\n" for i in range(12))
    found = load(table(tmp_path, "a,label\n" + rows))
    assert (found.classes, found.label_type) == (("1", "2", "3"), "int")
    model = package.train(found, (4,), epochs=1)
    assert model.labels.tolist() == [1, 2, 3]
    assert (model.predict(found.train) == model.predict_proba(found.train).argmax(axis=1) + 1).all()
    words = load(table(tmp_path, "a,label\n" + rows.replace(",1\n", ",one\n")))
    assert (words.classes, words.label_type) == (("2", "3", "one"), "str")
    found = load(npz(tmp_path, x=np.eye(6), y=np.arange(6) % 3 * 5 + 1))
    assert (found.classes, found.label_type) == (("1", "6", "11"), "int")
    with pytest.raises(DataError, match="test set: label 7 in row 1"):
        load(npz(tmp_path, x_train=np.eye(6), y_train=np.arange(6) % 3, x_test=np.eye(6)[:1], y_test=[7]))


def test_test_pixels_that_no_byte_holds_are_not_wrapped(tmp_path: Path) -> None:
    """256 would become 0."""
    names = ",".join(f"p{i}" for i in range(16))
    train = "".join(f"{','.join(['200'] * 16)},{'ab'[i % 2]}\n" for i in range(4))
    test = table(tmp_path, f"{names},label\n{','.join(['256'] * 16)},a\n", "held.csv")
    found = load(table(tmp_path, f"{names},label\n" + train), test=test)
    assert found.image_shape == (4, 4)
    assert found.train.x.dtype == np.uint8
    assert found.test
    assert (found.test.x == 256).all()


# how a table is read


@pytest.mark.parametrize(
    ("text", "lines", "size"), [(b"", 0, 0), (b"a", 1, 1), (b"a\n", 1, 2), (b"a\n\nb\n", 3, 5), (b"a\nb", 2, 3)]
)
def test_lines_are_counted_with_the_last(text: bytes, lines: int, size: int) -> None:
    assert tables._count_lines(io.BytesIO(text), "t") == (lines, size)


def test_a_line_may_be_so_long_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_LINE", 4)
    for text, is_read in (
        (b"abcd", True),
        (b"abcde", False),
        (b"x\nabc", True),
        (b"x\nabcd", False),
        (b"abcdef\n", True),
    ):
        if is_read:
            tables._count_lines(io.BytesIO(text), "t")
        else:
            with pytest.raises(DataError, match="a line of more than 4 bytes"):
                tables._count_lines(io.BytesIO(text), "t")


LINES = ["a,b,label", *(f"{n},{n / 4},{'xyz'[n % 3]}" for n in range(1, 41))]


def test_a_table_in_pieces_is_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    path = table(tmp_path, "\n".join(LINES))
    whole = _read(path, None, False, None)
    for piece in (40, 41, 64, 10_000):
        monkeypatch.setattr(tables, "_PIECE", piece)
        told.clear()
        form, x, y = _read(path, None, False, lambda *given: told.append(given))
        assert form == whole[0]
        assert (x == whole[1]).all()
        assert (y == whole[2]).all()
        size = path.stat().st_size
        assert [at for _, at, _ in told] == sorted({at for _, at, _ in told})
        assert told[-1] == ("t.csv", size, size)
        assert (len(told) > 3) is (piece < 100)
    assert whole[1].shape == (40, 2)
    assert (whole[1][:, 0] == np.arange(1, 41)).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"1,2", "line 30 has 2 columns, the first 3"),
        (b"1,nan,x", r"line 30, column 2 \(b\): a missing or infinite value \(nan\)"),
        (b"q,2,x", r"line 30, column 1 \(a\): 'q' is not a number"),
        (b"1,,x", r"line 30, column 2 \(b\): a missing value"),
        (b"1,2,", r"line 30, column 3 \(label\): a missing label"),
        (b"1,2,\xff", "line 30 is not UTF-8"),
        (b"1,2\r,x", "line 30 holds a bare carriage return"),
    ],
)
def test_what_is_wrong_is_found_on_its_line(
    line: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever came before: pieces, empty lines."""
    lines = [one.encode() for one in LINES]
    lines[5] = lines[20] = b""
    lines[29] = line
    path = table(tmp_path, b"\n".join(lines))
    for piece in (64, 2**20):
        monkeypatch.setattr(tables, "_PIECE", piece)
        with pytest.raises(DataError, match=message):
            _read(path, None, False, None)


def test_long_names_of_columns_are_cut() -> None:
    form = tables.Form(",", ("a" * 40, "b" * 41), 2, (0,), "")
    assert form.name(0) == f"column 1 ({'a' * 40})"
    assert form.name(1) == f"column 2 ({'b' * 39}…)"
    assert tables.Form(",", (), 2, (0,), "").name(1) == "column 2"


@pytest.mark.parametrize(
    ("names", "high", "shape", "scale"),
    [
        ([f"pixel{n}" for n in range(16)], 255, (4, 4), 1 / 255),
        ([f"{n}x{n}" for n in range(16)], 255, (4, 4), 1 / 255),
        ([f"PX_{n}" for n in range(25)], 2, (5, 5), 1 / 255),
        ([f"p{n}" for n in range(16)], 1, (4, 4), 1),
        ([f"pixel{n}" for n in range(16)], 256, None, 1),
        ([f"pixel{n}" for n in range(16)], 1.5, None, 1),
        ([f"pixel{n}" for n in range(9)], 255, None, 1),
        ([f"pixel{n}" for n in range(17)], 255, None, 1),
        ([*(f"pixel{n}" for n in range(15)), "age"], 255, None, 1),
    ],
)
def test_columns_are_pixels_by_their_names_number_and_values(
    names: list[str], high: float, shape: tuple[int, int] | None, scale: float, tmp_path: Path
) -> None:
    rows = "".join(f"{','.join(['0'] * (len(names) - 1))},{high},{'ab'[n % 2]}\n" for n in range(4))
    found = load(table(tmp_path, f"{','.join(names)},label\n{rows}"))
    assert found.image_shape == shape
    assert found.table is (shape is None)
    assert found.train.scale == pytest.approx(scale)
    assert (found.train.x[:, -1] == np.float32(high)).all()
    assert (found.train.x.dtype == np.uint8) is (shape is not None and high > 1)


@pytest.mark.parametrize(
    ("text", "header", "label"),
    [
        ("a,b\n1,2\n", ("a", "b"), 1),
        ("1,2\n3,4\n", (), 1),
        ("a,2\n1,3\n", ("a", "2"), 1),
        ("x,y\nz,w\n", ("x", "y"), 1),
        ("x,1\ny,2\n", (), 0),
        ("a,Target,b\n1,2,3\n", ("a", "Target", "b"), 1),
        ("a,b,c\n1,t,3\n2,u,4\n", ("a", "b", "c"), 1),
        ("a,b,c\ns,t,3\nv,u,4\n", ("a", "b", "c"), 2),
    ],
)
def test_names_and_labels_are_found_in_the_first_lines(text: str, header: tuple[str, ...], label: int) -> None:
    found = tables.form_of(text.splitlines(), None, False, "t")
    assert (found.header, found.labels) == (header, (label,))


def test_labels_that_are_whole_numbers_are_written_without_a_point(tmp_path: Path) -> None:
    assert load(table(tmp_path, "a,label\n1,1.0\n2,2.\n3,-3.00\n")).classes == ("-3", "1", "2")
    assert load(table(tmp_path, "a,label\n1,1.0\n2,2.5\n")).classes == ("1.0", "2.5")
