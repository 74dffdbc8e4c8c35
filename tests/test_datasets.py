"""IDX files sound and hostile, the search path, downloads over a bad network, and drawn digits."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import random
import resource
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, clean_error, fastnn, make_dataset

from fastnn import datasets
from fastnn.datasets import draw, load, read_idx, strokes
from fastnn.datasets.download import download
from fastnn.datasets.named import FILES, KNOWN, find, load_folder, load_known
from fastnn.errors import DataError, FastnnError, RunError, UsageError
from fastnn.training.run import Settings, Training

sys.path.insert(0, str(ROOT / "tests" / "golden"))
import drawn


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def write_set(folder: Path, train: int = 30, test: int = 10, compress: bool = True) -> dict[str, bytes]:
    """Four small files with MNIST's names; their uncompressed contents."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {}
    for name, count in zip(FILES, (train, train, test, test), strict=True):
        shape = (count, 28, 28) if "images" in name else (count,)
        contents[name] = idx(generator.integers(0, 10, shape).astype(np.uint8))
        path = folder / (f"{name}.gz" if compress else name)
        path.write_bytes(gzip.compress(contents[name]) if compress else contents[name])
    return contents


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(
    ("code", "dtype"), [(8, ">u1"), (9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]
)
def test_idx_of_every_type(code: int, dtype: str, compress: bool, tmp_path: Path) -> None:
    wanted = np.arange(-6, 6).reshape(3, 4).astype(dtype)
    content = idx(wanted, code)
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(content) if compress else content)
    found, sha256 = read_idx(path)
    assert (found == wanted).all()
    assert found.dtype == wanted.dtype.newbyteorder("=")
    assert sha256 == hashlib.sha256(content).hexdigest()


HOSTILE_IDX = {
    "empty": (b"", "0 bytes, not an IDX file"),
    "text": (b"hello world, this is text", "not an IDX file"),
    "type": (b"\0\0\x07\x01" + b"\0\0\0\1a", "not an IDX file"),
    "no axes": (b"\0\0\x08\0", "not an IDX file"),
    "255 axes": (b"\0\0\x08\xff" + b"\0" * 2000, "not an IDX file"),
    "header": (b"\0\0\x08\x03\0\0", "ends inside its header"),
    "short": (idx(IMAGES)[:-1], "declares 3 x 4 x 5 values, 60 bytes, but holds 59"),
    "long": (idx(IMAGES) + b"x", "declares 3 x 4 x 5 values, 60 bytes, but holds 61"),
    "huge": (b"\0\0\x08\x03" + b"\xff" * 12, "at most"),
    "4 GB": (b"\0\0\x08\x03\0\0\xff\xff\0\0\xff\xff\0\0\0\1" + b"\0" * 9, "declares 65,535 x 65,535 x 1 values"),
    "labels": (idx(IMAGES[0, 0]), "magic number 2049, expected 2051 (images). Is this the labels file?"),
}


@pytest.mark.parametrize("name", HOSTILE_IDX)
@pytest.mark.parametrize("compress", [False, True])
def test_hostile_idx(name: str, compress: bool, tmp_path: Path) -> None:
    content, message = HOSTILE_IDX[name]
    path = tmp_path / "images\x1b[31m"
    path.write_bytes(gzip.compress(content) if compress else content)
    with pytest.raises(DataError) as raised:
        read_idx(path, 3)
    text = str(raised.value)
    if compress and name == "long":
        message = "holds more than the 3 x 4 x 5 values it declares"
    assert message in text
    assert "\x1b" not in text
    assert text.startswith("images\\x1b[31m: ")


@pytest.mark.parametrize("damage", ["truncated", "crc", "not gzip", "zlib"])
def test_damaged_gzip(damage: str, tmp_path: Path) -> None:
    good = gzip.compress(idx(np.random.default_rng(0).integers(0, 255, 5_000).astype(np.uint8)))
    bad = {
        "truncated": good[:-2_000],
        "crc": good[:-6] + b"\0\0" + good[-4:],
        "not gzip": good[:2] + b"\x09" + good[3:],
        "zlib": good[:100] + b"\xff" * 50 + good[150:],
    }[damage]
    (tmp_path / "x.gz").write_bytes(bad)
    with pytest.raises(DataError, match=r"x\.gz: (damaged or unreadable|declares)"):
        read_idx(tmp_path / "x.gz")


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """100 MB of zeros behind a small header: read no further than declared, and not at all when that is a lie."""
    bomb = gzip.compress(idx(IMAGES) + b"\0" * 100_000_000, 9)
    (tmp_path / "x.gz").write_bytes(bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="holds more than"):
        read_idx(tmp_path / "x.gz")
    (tmp_path / "y.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\x7f\xff\xff\xff" + b"\0" * 1_000_000))
    with pytest.raises(DataError, match="declares 2,147,483,647 values"):
        read_idx(tmp_path / "y.gz")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000


def mutations(good: bytes, count: int) -> Iterator[bytes]:
    generator = random.Random(0)
    for _ in range(count):
        bad = bytearray(good)
        for _ in range(generator.randint(1, 4)):
            at = generator.randrange(len(bad))
            kind = generator.randrange(4)
            if kind == 0:
                bad[at] ^= 1 << generator.randrange(8)
            elif kind == 1:
                bad[at] = generator.choice((0, 1, 127, 128, 255))
            elif kind == 2:
                del bad[at : at + generator.randint(1, 9)]
            else:
                bad[at:at] = generator.randbytes(generator.randint(1, 9))
            bad = bad or bytearray(b"\0")
        yield bytes(bad)


@pytest.mark.parametrize("compress", [False, True])
def test_mutated_idx_is_read_or_refused(compress: bool, tmp_path: Path) -> None:
    good = idx(IMAGES)
    path = tmp_path / "x"
    refused = 0
    for bad in mutations(gzip.compress(good) if compress else good, 1_500):
        path.write_bytes(bad)
        try:
            read_idx(path)
        except DataError:
            refused += 1
    assert refused > 500


@pytest.mark.parametrize("compress", [False, True])
def test_a_folder_of_idx_files(compress: bool, tmp_path: Path) -> None:
    contents = write_set(tmp_path / "mine", compress=compress)
    dataset = load(tmp_path / "mine")
    assert (len(dataset.train), len(dataset.test or ()), dataset.features) == (30, 10, 784)
    assert dataset.train.x.dtype == np.uint8
    assert dataset.train.x.tobytes() == contents[FILES[0]][16:]
    assert dataset.classes == tuple("0123456789")


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / f"{FILES[1]}.gz").write_bytes(gzip.compress(idx(np.zeros(29, np.uint8))))
    with pytest.raises(DataError, match="30 examples but 29 labels"):
        load_folder(tmp_path)
    write_set(tmp_path)
    (tmp_path / f"{FILES[2]}.gz").write_bytes(gzip.compress(idx(np.zeros((10, 5, 5), np.uint8))))
    with pytest.raises(DataError, match="training images of"):
        load_folder(tmp_path)
    write_set(tmp_path)
    (tmp_path / f"{FILES[1]}.gz").rename(tmp_path / "other")
    with pytest.raises(DataError, match=f"no {FILES[1]}"):
        load_folder(tmp_path)


def test_folders_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set in this folder"):
        load(tmp_path)
    with pytest.raises(UsageError, match="no data set or file 'mnits'"):
        load("mnits")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="not a data set"):
        load(tmp_path / "file")


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with an empty cache, in an empty folder, whose network refuses every connection."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.named, "cache_root", lambda: tmp_path / "cache" / "data")
    known = {name: replace(k, mirrors=("http://127.0.0.1:9/",)) for name, k in KNOWN.items()}
    monkeypatch.setattr(datasets, "KNOWN", known)
    return tmp_path


def test_search_path_in_order(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find("mnist") is None
    for folder in ("cache/data/mnist", "data/mnist", "given/mnist/raw"):
        write_set(away / folder)
        if folder.startswith("given"):
            monkeypatch.setenv("FASTNN_DATA", str(away / "given"))
        found = find("mnist")
        assert found
        assert found[0].parent.resolve() == (away / folder).resolve()


def test_files_that_are_not_the_published_ones_are_refused(away: Path) -> None:
    write_set(away / "data" / "mnist")
    with pytest.raises(DataError, match="but the published file has"):
        load_known(datasets.KNOWN["mnist"])
    found = load(away / "data" / "mnist")  # as they are, when the folder is named
    assert len(found.train) == 30


def test_without_files_and_network_names_what_is_needed(away: Path) -> None:
    with pytest.raises(RunError) as raised:
        load_known(datasets.KNOWN["mnist"], seconds=0.5)
    for part in (*FILES, "data/mnist/", "FASTNN_DATA"):
        assert part in str(raised.value)


def test_auto_falls_back_to_strokes_and_says_why(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "_PATIENCE", 0.5)
    monkeypatch.setattr(datasets, "load_strokes", lambda: strokes.load_strokes(train=50, test=20))
    found = load("auto")
    assert found.name == "strokes"
    assert "because MNIST was not found, and no network" in found.origin


class Faulty(http.server.BaseHTTPRequestHandler):
    """Serves what its server's `plan` says: the bytes, a wrong file, half of them, 404, or a redirect."""

    def do_GET(self) -> None:
        kind = self.path.strip("/").partition("/")[0]
        self.server.seen.append(kind)  # type: ignore[attr-defined]
        good = self.server.content  # type: ignore[attr-defined]
        if kind == "gone":
            self.send_error(404)
            return
        self.send_response(302 if kind == "away" else 200)
        if kind == "away":
            self.send_header("Location", "/good/x")
        self.send_header("Content-Length", str(0 if kind == "away" else len(good)))
        self.end_headers()
        body = {"wrong": gzip.compress(idx(IMAGES + 1)).ljust(len(good), b"\0"), "half": good[: len(good) // 2]}
        if kind != "away":
            self.wfile.write(body.get(kind, good)[: len(good)])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    found.content = gzip.compress(idx(IMAGES))  # type: ignore[attr-defined]
    found.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


SHA256 = hashlib.sha256(idx(IMAGES)).hexdigest()


@pytest.mark.parametrize("faults", [("good",), ("gone", "good"), ("half", "wrong", "good"), ("away",)])
def test_a_mirror_that_fails_is_followed_by_the_next(
    faults: tuple[str, ...], server: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    urls = [f"http://127.0.0.1:{server.server_port}/{fault}/x.gz" for fault in faults]
    path = tmp_path / "deep" / "x.gz"
    download(urls, path, SHA256, seconds=10)
    assert path.read_bytes() == server.content  # type: ignore[attr-defined]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("fault", ["gone", "half", "wrong"])
def test_nothing_wrong_is_ever_kept(fault: str, server: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    with pytest.raises(RunError, match=r"x\.gz could not be downloaded"):
        download([f"http://127.0.0.1:{server.server_port}/{fault}/x"], path, SHA256, seconds=1)
    assert list(tmp_path.iterdir()) == []


def test_eight_downloads_at_once_leave_one_sound_file(server: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    url, path = f"http://127.0.0.1:{server.server_port}/good/x", tmp_path / "x.gz"
    threads = [threading.Thread(target=download, args=([url], path, SHA256)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert list(tmp_path.iterdir()) == [path]
    assert read_idx(path)[1] == SHA256


def test_a_damaged_file_in_our_cache_is_fetched_again(
    away: Path, server: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = away / "cache" / "data" / "mnist"
    contents = write_set(folder)
    hashes = tuple(hashlib.sha256(contents[name]).hexdigest() for name in FILES)
    known = replace(KNOWN["mnist"], sha256=hashes, mirrors=(f"http://127.0.0.1:{server.server_port}/good/",))
    server.content = gzip.compress(contents[FILES[0]])  # type: ignore[attr-defined]
    (folder / f"{FILES[0]}.gz").write_bytes(b"\x1f\x8b damaged")
    assert len(load_known(known).train) == 30
    assert len(server.seen) == 1  # type: ignore[attr-defined]


def test_strokes_are_deterministic_and_like_mnist() -> None:
    x, y = draw(2_000, seed=3, threads=2)
    again, _ = draw(500, seed=3, first=1_500, threads=1)
    other, _ = draw(500, seed=4)
    assert (x[1_500:] == again).all()
    assert (x[:500] != other).any(axis=1).all()
    assert np.bincount(y, minlength=10).min() > 140
    ink = x.reshape(-1, 28, 28) > 40
    rows, columns = ink.any(axis=2), ink.any(axis=1)
    height = 28 - rows.argmax(axis=1) - rows[:, ::-1].argmax(axis=1)
    width = 28 - columns.argmax(axis=1) - columns[:, ::-1].argmax(axis=1)
    longest = np.maximum(height, width)
    assert 18 <= np.median(longest) <= 21
    assert (longest >= 15).all()
    pixels = x.reshape(-1, 28, 28).astype(float)
    centre = (pixels * np.arange(28)).sum(axis=(1, 2)) / pixels.sum(axis=(1, 2))
    assert abs(centre.mean() - 14) < 0.2
    assert 0.1 < (x > 0).mean() < 0.3


def test_digits_are_drawn_as_ever() -> None:
    """Every form, and what is done to it: means of blocks to 4 of 255, room for another machine's last bits."""
    x, y = draw(drawn.COUNT)
    with np.load(drawn.FILE) as wanted:
        assert (y == wanted["labels"]).all()
        assert np.abs(drawn.means(x) - wanted["means"]).max() <= 4


def test_digits_are_drawn_one_by_one_as_together() -> None:
    """They are bent in blocks of 4,096."""
    x, y = draw(14, first=4_090)
    for first, last in ((0, 5), (5, 6), (6, 14)):
        part = draw(last - first, first=4_090 + first)
        assert (part[0] == x[first:last]).all()
        assert (part[1] == y[first:last]).all()


def test_strokes_out_of_range() -> None:
    for count in (0, -1, 10**9):
        with pytest.raises(UsageError, match=r"^count="):
            draw(count)


def test_a_net_trained_on_strokes_reads_mnist(mnist: datasets.Dataset) -> None:
    run = Training(load("strokes"), Settings())
    list(run)
    model = run.model()
    run.close()
    assert mnist.test
    assert model.evaluate(mnist.test).accuracy >= 0.92


def test_status_of_the_real_sets(mnist: datasets.Dataset) -> None:
    found = {status.name: status for status in datasets.status()}
    assert found["mnist"].state == "published files"
    assert found["mnist"].bytes > 10_000_000
    assert found["strokes"].place == "built in"


def test_data_command_without_any_data(tmp_path: Path) -> None:
    done = fastnn("data", cwd=tmp_path, FASTNN_DATA="", XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path))
    assert done.returncode == 0
    assert "not found" in done.stdout


def test_a_truncated_set_is_refused_before_training(tmp_path: Path) -> None:
    write_set(tmp_path / "bad")
    file = tmp_path / "bad" / f"{FILES[0]}.gz"
    file.write_bytes(file.read_bytes()[:-100])
    line = clean_error(fastnn("train", "--data", tmp_path / "bad", cwd=tmp_path), 3)
    assert FILES[0] in line
    assert not (tmp_path / "model.safetensors").exists()


def test_errors_have_one_family() -> None:
    assert issubclass(DataError, FastnnError)


def test_what_auto_finds_loses_nothing_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make_dataset(20, 4, 2)
    whole = replace(plain, table=True, validation=plain.test, image_shape=(2, 2), origin="there")
    monkeypatch.setattr(datasets, "load_known", lambda *asked: whole)
    monkeypatch.setattr(datasets, "find", lambda name: True)
    found = datasets.load("auto")
    assert found.origin == "found in there"
    assert (found.validation, found.table, found.image_shape) == (whole.validation, True, (2, 2))
