"""Model files: a round trip, every hostile file refused, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import hostile
import pytest
from conftest import ROOT, clean_error, fastnn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastnn import Model, Network, files, load
from fastnn.errors import ModelFileError, RunError
from fastnn.model import store
from fastnn.training import configuration


def model(sizes: tuple[int, ...] = (6, 5, 3), dtype: str = "float32") -> Model:
    network = Network.mlp(sizes[0], sizes[1:-1], sizes[-1])
    metadata = {"classes": [f"c{i}" for i in range(sizes[-1])], "training": {"seed": 0}, "fastnn_version": "0"}
    return Model(network, [p.astype(dtype) for p in network.initial_parameters(0)], metadata)


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=5),
    st.sampled_from(["float32", "float64"]),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tmp_path: Path, sizes: list[int], dtype: str) -> None:
    wanted = model(tuple(sizes), dtype)
    wanted.save(tmp_path / "m.safetensors")
    found = load(tmp_path / "m.safetensors")
    assert found.network == wanted.network
    assert found.sha256 == wanted.sha256
    assert found.classes == wanted.classes
    for a, b in zip(found.parameters, wanted.parameters, strict=True):
        assert a.dtype == b.dtype
        assert (a == b).all()


def test_the_file_is_plain_safetensors(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    model().save(tmp_path / "m.safetensors")
    found = load_file(tmp_path / "m.safetensors")
    assert {name: array.shape for name, array in found.items()} == {
        "layers.0.weight": (6, 5),
        "layers.0.bias": (5,),
        "layers.1.weight": (5, 3),
        "layers.1.bias": (3,),
    }


def test_tensors_from_elsewhere_are_taken(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(hostile.valid())
    assert load(tmp_path / "m", "tanh").classes == ("0", "1", "2")
    (tmp_path / "m").write_bytes(hostile.described())
    assert load(tmp_path / "m").classes == ("a", "b", "c")


CANARY = "/tmp/fastnn-test-canary"
CORPUS = list(hostile.corpus(CANARY))


@pytest.mark.parametrize(("content", "message"), [pytest.param(c, m, id=n) for n, c, m in CORPUS])
def test_hostile_files_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m\x1b[31m.safetensors"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelFileError) as raised:
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 65_536
    assert message in str(raised.value)
    assert "\x1b" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not Path(CANARY).exists()


def test_any_flipped_bit_of_the_tensors_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "m"
    model((20, 30, 5)).save(path)
    good = path.read_bytes()
    start = 8 + int.from_bytes(good[:8], "little")
    for at in range(start, len(good), 7):
        bad = bytearray(good)
        bad[at] ^= 1 << (at % 8)
        path.write_bytes(bad)
        with pytest.raises(ModelFileError, match=r"SHA-256|not finite"):
            load(path)


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "m"
    model().save(path)
    good = path.read_bytes()
    generator = random.Random(1)
    for _ in range(3_000):
        bad = bytearray(good)
        for _ in range(generator.randint(1, 3)):
            bad[generator.randrange(len(bad))] = generator.choice((0, 32, 34, 48, 57, 91, 123, 125, 255))
        if generator.random() < 0.2:
            del bad[generator.randrange(len(bad)) :]
        path.write_bytes(bad)
        try:
            load(path)
        except ModelFileError:
            continue


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        load(tmp_path / "none")
    with pytest.raises(ModelFileError, match="not a file"):
        load(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ModelFileError):
        load(tmp_path / "loop")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ModelFileError, match="not a file"):
            load(tmp_path / "pipe")
    if Path("/dev/zero").exists():
        with pytest.raises(ModelFileError, match="not a file"):
            load("/dev/zero")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**32)
    with pytest.raises(ModelFileError, match="at most"):
        load(tmp_path / "huge")


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_trace(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    model().save(path)
    old = path.read_bytes()

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "write":
        real = files.tempfile.NamedTemporaryFile

        def opened(*args: object, **kwargs: object) -> object:
            file = real(*args, **kwargs)  # type: ignore[call-overload]
            file.write = full
            return file

        monkeypatch.setattr(files.tempfile, "NamedTemporaryFile", opened)
    else:
        monkeypatch.setattr(files.os, step, full)
    with pytest.raises(RunError, match=r"m\.safetensors: can't be written \(No space left on device\)"):
        model((6, 7, 3)).save(path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="resource limits")
def test_a_limit_on_file_size_is_one_clear_error(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "from fastnn.cli import main; main(sys.argv[1:])"
    )
    (tmp_path / "model.safetensors").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", script, "train", "--data", "strokes", "--epochs", "1", "--quiet"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "can't be written (File too large)" in clean_error(done, 1)
    assert (tmp_path / "model.safetensors").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_saving_where_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="can't be written"):
        model().save(tmp_path / "none" / "m.safetensors")


def test_a_model_of_other_size_than_the_data_names_both(digits: Path, tmp_path: Path) -> None:
    model((10, 4, 3)).save(tmp_path / "m")
    line = clean_error(fastnn("evaluate", "--weights", tmp_path / "m", "--data", digits), 3)
    assert "784 features; this model takes 10" in line
    line = clean_error(fastnn("predict", ROOT / "data/samples/0.png", "--weights", tmp_path / "m"), 3)
    assert "10 features" in line


def test_show_tells_what_is_in_a_file(tmp_path: Path) -> None:
    model().save(tmp_path / "m")
    found = json.loads(fastnn("show", tmp_path / "m", "--json").stdout)
    assert found["layers"] == [6, 5, 3]
    assert found["sha256"] == model().sha256
    assert "6  " in fastnn("show", tmp_path / "m").stdout
    large = model()
    large.parameters[0][0, 0] = 2e6
    large.save(tmp_path / "m")
    assert "a parameter of 2e+06" in fastnn("show", tmp_path / "m").stderr


def test_the_shipped_model_is_sound_and_described() -> None:
    found = load()
    assert found.network.sizes == (784, 1536, 1536, 10)
    assert found.unsure_below > 0.3
    assert found.metadata["calibration"]["examples"] == 3_000
    assert found.metadata["training"]["elastic"] == configuration.preset("best").settings.elastic
    assert found.metadata["data"]["name"] == "mnist"
    assert found.metadata["preprocessing"]["recipe"] == "mnist"
    assert store.largest_weight_warning(store.load(store.shipped())) is None
