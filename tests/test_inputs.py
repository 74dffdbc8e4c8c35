"""Dense, sparse, CSR and memory-mapped input: the same results, or a clear refusal; and memory that stays flat."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import hostile
import numpy as np
import pytest
from conftest import ROOT, make_dataset
from conftest import fastnn as command

import fastnn
from fastnn.datasets import Dataset, Split, checked_split, load
from fastnn.datasets.base import is_mapped
from fastnn.errors import DataError, UsageError
from fastnn.kernels import inputs
from fastnn.kernels.inputs import block_density, choose_input, for_kernels
from fastnn.kernels.sparse import Blocks
from fastnn.training.run import Settings, Training

sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")


def weights_of(dataset: Dataset, mode: str = "auto", threads: int | None = None, **settings: object) -> str:
    run = Training(
        dataset,
        Settings(**{"hidden": (20,), "epochs": 2, "schedule": "decay", "threads": threads, **settings, "input": mode}),
    )  # type: ignore[arg-type]
    try:
        list(run)
        return run.model().sha256
    finally:
        run.close()


def of(x: object, y: np.ndarray) -> Dataset:
    return Dataset("arrays", Split(x, y), None, ("0", "1", "2"))


CASES = {
    "all zeros": (np.zeros((40, 9), np.float32), 7),
    "zero rows and columns": (np.pad(np.ones((20, 5), np.float32), ((10, 10), (4, 8))), 7),
    "nothing is zero": (np.full((40, 12), 3, np.uint8), 16),
    "features not divisible by the block": (np.eye(41, 7, dtype=np.float32), 16),
    "one example": (np.array([[0, 2, 0]], np.float32), 16),
    "one feature": (np.arange(30, dtype=np.float64)[:, None] % 3, 7),
    "one example of one feature": (np.array([[2]], np.uint8), 1),
    "the last batch holds one example": (np.eye(33, 8, dtype=np.float32), 16),
    "batches of nothing but zeros": (np.eye(32, 30, dtype=np.float32) * (np.arange(32) % 2)[:, None], 1),
}


@pytest.mark.parametrize("hidden", [(20,), (1,), (33, 40)])
@pytest.mark.parametrize("case", CASES)
def test_awkward_data_gives_the_same_weights_in_every_form_on_any_threads(case: str, hidden: tuple[int, ...]) -> None:
    """Dense, cut into blocks, CSR; and more threads than there are columns."""
    x, batch = CASES[case]
    y = np.arange(len(x)) % 3
    found = {
        weights_of(of(form, y), mode, threads, hidden=hidden, batch_size=batch)
        for form in (x, sparse.csr_array(x))
        for mode in ("dense", "sparse", "auto")
        for threads in (1, 9)
    }
    assert len(found) == 1


def test_no_examples_and_no_features_are_refused() -> None:
    for shape in ((0, 5), (5, 0)):
        for x in (np.zeros(shape, np.float32), sparse.csr_array(shape, dtype=np.float32)):
            with pytest.raises(DataError, match="no examples"):
                of(x, np.zeros(shape[0], int))


@pytest.mark.parametrize("form", ["csr_array", "csr_matrix", "coo_array", "csc_matrix", "lil_array"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int64", "bool"])
def test_sparse_arrays_of_every_kind_train_like_dense_ones(form: str, dtype: str) -> None:
    random = np.random.default_rng(0)
    x = (random.integers(1, 9, (70, 33)) * (random.random((70, 33)) < 0.2)).astype(dtype)
    y = random.integers(0, 3, 70)
    assert weights_of(of(getattr(sparse, form)(x), y)) == weights_of(of(x, y))


def csr(data: list[float], indices: list[int], indptr: list[int], columns: int = 9):  # type: ignore[no-untyped-def]
    made = sparse.csr_array((len(indptr) - 1, columns), dtype=np.float32)
    made.data, made.indices, made.indptr = np.array(data, np.float32), np.array(indices), np.array(indptr)
    return made


def test_unsorted_duplicate_and_explicit_zeros_in_csr() -> None:
    """They mean what SciPy says they mean, and the caller's array stays as it was."""
    odd = csr([1, 2, 0, 5, 3, 4, -4], [7, 0, 3, 7, 2, 8, 8], [0, 4, 5, 7])
    before = odd.data.copy(), odd.indices.copy()
    y = np.array([0, 1, 2])
    assert weights_of(of(odd, y), "sparse") == weights_of(of(odd.toarray(), y), "dense")
    assert (odd.data == before[0]).all()
    assert (odd.indices == before[1]).all()
    cut = choose_input(of(odd, y).train.x, 1, 3, "sparse")
    assert isinstance(cut, Blocks)
    assert cut.starts.tolist() == [0, 2, 3, 3]  # 4 - 4 is nothing, so the last row is empty
    assert cut.index.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (csr([1], [9], [0, 1]), "not a sound sparse array"),
        (csr([1], [-1], [0, 1]), "not a sound sparse array"),
        (csr([1, 2], [0, 1], [0, 2, 1]), "not a sound sparse array"),
        (csr([1, np.nan], [0, 1], [0, 1, 2]), "row 2 holds a value that is missing or infinite"),
        (csr([np.inf], [0], [0, 0, 0, 1]), "row 3 holds"),
        (sparse.csr_array(np.eye(3, dtype=complex)), "features of type complex128"),
    ],
)
def test_broken_csr_is_refused_before_any_kernel(bad: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        of(bad, np.zeros(bad.shape[0], int))  # type: ignore[attr-defined]


def test_models_read_sparse_arrays(small: Dataset) -> None:
    model = fastnn.train(small, (8,), epochs=1)
    x = np.where(np.abs(small.train.x) < 1, 0, small.train.x)
    dense, of_csr = (model.predict_proba(form) for form in (x, sparse.csr_matrix(x)))
    assert (dense == of_csr).all()
    wide = np.tile(x, (60, 1))  # more rows than are made dense at once
    for engine in ("numpy", "kernels"):
        one, other = (model.predict_proba(form, engine=engine) for form in (wide, sparse.csr_matrix(wide)))
        assert (one == other).all()
    assert model.predict_proba(sparse.csr_matrix((0, x.shape[1]))).shape == (0, len(small.classes))
    split = checked_split(sparse.csr_matrix(x), small.train.y, len(small.classes), "test")
    assert model.evaluate(split).accuracy == model.evaluate(checked_split(x, small.train.y, 9, "test")).accuracy


def test_sparse_data_that_would_not_fit_as_dense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x = sparse.random_array((300, 4_000), density=0.01, rng=np.random.default_rng(0), dtype=np.float32).tocsr()
    y = np.arange(300) % 2
    assert weights_of(of(x, y), "auto") == weights_of(of(x, y), "dense")
    monkeypatch.setattr(inputs, "_MOST_DENSE", 2**20)
    for settings in ({"mode": "dense"}, {"hidden": ()}):
        with pytest.raises(UsageError, match=r"300 x 4,000 would take .* take a hidden layer and input=.sparse."):
            weights_of(of(x, y), **settings)  # type: ignore[arg-type]
    monkeypatch.setattr(inputs, "_MOST_ROOM", 2**20)
    with pytest.raises(UsageError, match="take a smaller batch_size="):
        weights_of(of(x, y), "sparse", batch_size=200)


def test_what_is_chosen() -> None:
    dense = make_dataset(200, 40, 3, "float32", zeros=0.0).train.x
    thin = make_dataset(200, 40, 3, "float32", zeros=0.97).train.x
    assert block_density(dense) == 1
    assert block_density(sparse.csr_array(thin)) == block_density(thin) < 0.2
    assert choose_input(dense, 1, 16, "auto") is dense
    assert isinstance(choose_input(thin, 1, 16, "auto"), Blocks)
    assert isinstance(choose_input(sparse.csr_array(thin), 1, 16, "auto"), Blocks)
    assert isinstance(choose_input(sparse.csr_array(dense), 1, 16, "auto"), np.ndarray)
    assert choose_input(thin, 0, 16, "auto") is thin


def mapped(path: Path, x: np.ndarray, mode: str = "r") -> np.ndarray:
    np.save(path, x)
    return np.load(path, mmap_mode=mode)


@pytest.mark.parametrize("mode", ["r", "c", "r+"])
def test_memory_mapped_arrays_are_neither_copied_nor_changed(tmp_path: Path, mode: str) -> None:
    base = make_dataset(203, 17, 3, "float32", zeros=0.9)
    x = mapped(tmp_path / "x.npy", base.train.x, mode)
    before = (tmp_path / "x.npy").read_bytes()
    dataset = of(x, base.train.y)
    assert is_mapped(dataset.train.x)
    run = Training(dataset, Settings((20,)))
    chosen = run._batches.data(np.arange(3)).x
    run.close()
    assert isinstance(chosen, np.ndarray)  # sparse enough, but left on disk
    assert is_mapped(chosen.base.kept) if mode == "r" else np.shares_memory(chosen, x)
    assert type(for_kernels(x)) is np.ndarray
    assert weights_of(dataset) == weights_of(base, "dense")
    assert weights_of(dataset, "sparse") == weights_of(base, "sparse")
    assert (tmp_path / "x.npy").read_bytes() == before


def write_folder(folder: Path, dataset: Dataset, test: bool = True) -> Path:
    folder.mkdir()
    np.save(folder / "x_train.npy", dataset.train.x)
    np.save(folder / "y_train.npy", dataset.train.y)
    if test and dataset.test:
        np.save(folder / "x_test.npy", dataset.test.x)
        np.save(folder / "y_test.npy", dataset.test.y)
    return folder


def test_a_folder_of_numpy_files(tmp_path: Path) -> None:
    base = make_dataset(203, 17, 3, "uint8", zeros=0.5)
    found = load(write_folder(tmp_path / "mine", base))
    assert found.name == "mine"
    assert is_mapped(found.train.x)
    assert (found.train.x == base.train.x).all()
    assert found.test is not None
    assert found.table  # bytes, but not as many as a picture has
    assert weights_of(found, "dense") == weights_of(replace(base, table=True), "dense")
    assert load(write_folder(tmp_path / "no-test", base, test=False)).test is None


def test_numpy_files_with_pictures_keep_their_shape(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    np.save(tmp_path / "p" / "x_train.npy", np.zeros((4, 5, 6), np.uint8))
    np.save(tmp_path / "p" / "y_train.npy", np.array([0, 1, 0, 1]))
    assert load(tmp_path / "p").image_shape == (5, 6)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x_train.npy", b"", "not a sound .npy file"),
        ("x_train.npy", b"not numpy at all", "not a sound .npy file"),
        ("x_train.npy", b"PK\3\4 and more", "not a sound .npy file"),
        ("x_train.npy", hostile.npy_header("(203, 17")[:-1] + bytes(99), "not a sound .npy file"),
        ("x_train.npy", np.zeros((5, 3), "f4"), "5 examples but 203 labels"),
        ("x_train.npy", np.full((203, 17), np.nan, "f4"), "row 1 holds a value that is missing"),
        ("x_train.npy", np.zeros(203, "f4"), "one row an example"),
        ("x_train.npy", np.full((203, 17), None), "not a sound .npy file"),
        ("y_train.npy", np.zeros(203, "f4"), "labels of type float32"),
        ("y_train.npy", np.full(203, -1), r"one class only \(-1\)"),
        ("y_train.npy", np.full(203, 70_000), r"one class only \(70000\)"),
        ("y_train.npy", None, "no y_train.npy"),
        ("y_test.npy", None, "no y_test.npy"),
        ("x_test.npy", np.zeros((50, 18), "u1"), "18 features; the training examples have 17"),
    ],
)
def test_numpy_files_that_do_not_fit(tmp_path: Path, name: str, content: object, message: str) -> None:
    folder = write_folder(tmp_path / "d", make_dataset(203, 17, 3, "uint8"))
    if content is None:
        (folder / name).unlink()
    elif isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        np.save(folder / name, content)
    with pytest.raises(DataError, match=message):
        load(folder)


def test_a_truncated_numpy_file(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "d", make_dataset(203, 17, 3, "uint8"))
    content = (folder / "x_train.npy").read_bytes()
    for size in (len(content) - 1, 200, 60, 7):
        (folder / "x_train.npy").write_bytes(content[:size])
        with pytest.raises(DataError, match=r"not a sound \.npy file"):
            load(folder)


def test_the_command_trains_without_a_test_set(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "d", make_dataset(203, 17, 3, "uint8"), test=False)
    train = ("train", "--data", folder, "-e", 1, "-o", tmp_path / "m")
    done = command(*train)
    assert done.returncode == 0, done.stderr
    assert "of the training examples (there are no test examples)" in done.stdout
    done = command(*train, "--json")
    assert json.loads(done.stdout.splitlines()[-1])["test_accuracy"] is None


def test_large_plain_idx_files_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnn.datasets import idx

    values = np.random.default_rng(0).integers(0, 256, (30, 5, 4)).astype(np.uint8)
    path = tmp_path / "images"
    path.write_bytes(bytes([0, 0, 8, 3]) + np.array(values.shape, ">u4").tobytes() + values.tobytes())
    read, sha256 = idx.read_idx(path)
    monkeypatch.setattr(idx, "_MAPPED_FROM", 100)
    found, same = idx.read_idx(path, 3)
    assert same == sha256
    assert is_mapped(found)
    assert not is_mapped(read)
    assert (found == values).all()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="but holds"):
        idx.read_idx(path)


FLAT = """
import sys, threading, time
import numpy as np
import fastnn
def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))
x, y = np.load(sys.argv[1], mmap_mode="r"), np.load(sys.argv[2])
fastnn.train((x[:1000], y[:1000]), (32,), epochs=1)
before, peak, going = anonymous(), [0], [True]
def watch():
    while going[0]:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.005)
thread = threading.Thread(target=watch)
thread.start()
model = fastnn.train((x, y), (32,), epochs=2, batch_size=256, **eval(sys.argv[3]))
going[0] = False
thread.join()
print(peak[0] - before)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("settings", "more"),
    [({"features": "raw"}, 0), ({}, 8), ({"features": "raw", "validation": 0.1}, 40)],
    ids=["raw", "standardised", "split for validation"],
)
def test_memory_stays_flat_on_two_million_mapped_rows(settings: dict[str, object], more: int, tmp_path: Path) -> None:
    """512 MB of examples: 8 bytes a row for the order and 4 twice for the label are kept, and nothing like 256.

    Where rows are taken out ahead, 8 more for their places; a split takes its permutations.
    """
    rows = 2_000_000
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (rows, 64))
    random = np.random.default_rng(0)
    for first in range(0, rows, 100_000):
        x[first : first + 100_000] = random.standard_normal((100_000, 64), np.float32)
    np.save(tmp_path / "y.npy", (np.asarray(x[:, 0]) > 0).astype(np.int32))
    x.flush()
    del x
    command = [sys.executable, "-c", FLAT, str(tmp_path / "x.npy"), str(tmp_path / "y.npy"), repr(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    kilobytes = int(done.stdout)
    assert kilobytes < rows * (8 + 4 + 8 + more) / 1024 + 40_000, kilobytes
