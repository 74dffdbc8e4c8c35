"""Model files in every format: the same bits after any round trip, PyTorch's own files, and the command."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import hostile
import numpy as np
import pytest
from conftest import ROOT, clean_error, fastnn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fastnn import Model, Network, draw_strokes, load
from fastnn.cli.app import app
from fastnn.errors import ModelFileError, UsageError
from fastnn.formats import FORMATS, linear, pytorch, safetensors
from fastnn.model import store
from fastnn.network import ACTIVATIONS
from fastnn.reference import ACTIVATIONS as ACTIVATIONS_OF

GOLDEN = ROOT / "tests" / "golden"
ENDS = {"safetensors": "m.safetensors", "npz": "m.npz", "json": "m.json", "pytorch": "m.safetensors"}


def model(sizes: tuple[int, ...], activations: tuple[str, ...], dtype: str = "float32", scaled: bool = False) -> Model:
    network = Network.mlp(sizes[0], sizes[1:-1], sizes[-1], activations or "relu")
    metadata = {
        "classes": [f"c {i} é" for i in range(sizes[-1])],
        "training": {"seed": 0, "loss": "softmax"},
        "calibration": {"temperature": 1.25, "unsure_below": 0.5},
        "fastnn_version": "0",
    }
    random = np.random.default_rng(1)
    scaling = (random.standard_normal(sizes[0]), random.random(sizes[0]) + 0.1) if scaled else None
    parameters = [(p + random.standard_normal(p.shape) * 1e-3).astype(dtype) for p in network.initial_parameters(0)]
    return Model(network, parameters, metadata, scaling)


def assert_same(found: Model, wanted: Model) -> None:
    assert found.network == wanted.network
    assert found.sha256 == wanted.sha256
    assert found.classes == wanted.classes
    assert found.metadata["calibration"] == wanted.metadata["calibration"]
    assert (found.scaling is None) == (wanted.scaling is None)
    for a, b in zip(found.scaling or (), wanted.scaling or (), strict=True):
        assert (a == b).all()


@given(
    st.lists(st.integers(1, 20), min_size=2, max_size=5),
    st.sampled_from(["float32", "float64"]),
    st.lists(st.sampled_from(ACTIVATIONS), min_size=3, max_size=3),
    st.booleans(),
    st.lists(st.sampled_from(list(FORMATS)), min_size=1, max_size=4),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_chain_of_formats_keeps_every_bit(
    tmp_path: Path, sizes: list[int], dtype: str, activations: list[str], scaled: bool, formats: list[str]
) -> None:
    wanted = model(tuple(sizes), tuple(activations[: len(sizes) - 2]), dtype, scaled and "pytorch" not in formats)
    stored = store.Stored(wanted.network, wanted.parameters, wanted.metadata, wanted.scaling)
    for name in formats:
        store.save(stored, tmp_path / ENDS[name], name)
        stored = store.load(tmp_path / ENDS[name])
        assert_same(Model(stored.network, stored.parameters, stored.metadata, stored.scaling), wanted)


SAVE = """
import sys
from test_formats import ENDS, model, save_all
save_all(model((4, 3, 2), ("tanh",)), sys.argv[1])
"""


def save_all(wanted: Model, folder: str | Path) -> None:
    for name, end in ENDS.items():
        stored = store.Stored(wanted.network, wanted.parameters, wanted.metadata, wanted.scaling)
        store.save(stored, Path(folder) / f"{name} {end}", name)


def test_the_same_model_is_the_same_file_in_any_process(tmp_path: Path) -> None:
    """Also when its description was put together in another order."""
    wanted = model((4, 3, 2), ("tanh",))
    turned = {**dict(reversed(wanted.metadata.items())), "training": {"loss": "softmax", "seed": 0}}
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    save_all(wanted, tmp_path / "a")
    save_all(Model(wanted.network, wanted.parameters, turned), tmp_path / "b")
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    subprocess.run([sys.executable, "-c", SAVE, tmp_path / "c"], env=environment, check=True)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
        assert path.read_bytes() == (tmp_path / "c" / path.name).read_bytes(), path.name


def test_our_safetensors_are_those_of_the_library(tmp_path: Path) -> None:
    from safetensors import safe_open

    tensors = {"a": np.arange(3, dtype="f4"), "é": np.arange(6.0).reshape(2, 3).T, "c": np.zeros((1, 1), "f4")}
    metadata = {"z": "ü\n", "a": "1"}
    (tmp_path / "m").write_bytes(safetensors.packed(tensors, metadata))
    with safe_open(tmp_path / "m", "numpy") as file:
        assert file.metadata() == metadata
        for name, tensor in tensors.items():
            found = file.get_tensor(name)
            assert found.dtype == tensor.dtype
            assert (found == tensor).all()


def test_json_is_readable_and_npz_is_numpys(tmp_path: Path) -> None:
    wanted = model((4, 3, 2), ("tanh",))
    wanted.save(tmp_path / "m.json")
    found = json.loads((tmp_path / "m.json").read_text())
    assert found["layers"][0]["activation"] == "tanh"
    assert np.array(found["layers"][0]["weight"], "f4").shape == (4, 3)
    assert len((tmp_path / "m.json").read_text().splitlines()) < 40
    wanted.save(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as archive:
        assert (archive["layers.0.weight"] == wanted.parameters[0]).all()


def test_pytorchs_own_file_answers_as_in_pytorch() -> None:
    found, golden = load(GOLDEN / "linear.pt", "relu"), json.loads((GOLDEN / "linear.json").read_text())
    assert found.network.sizes == (6, 5, 3)
    np.testing.assert_allclose(found.logits(np.array(golden["x"], np.float32)), golden["z"], atol=1e-6)


def test_what_is_written_for_pytorch_has_its_names_and_shapes(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    wanted = model((6, 5, 3), ("relu",))
    store.save(store.Stored(wanted.network, wanted.parameters, wanted.metadata), tmp_path / "m.st", "pytorch")
    found = load_file(tmp_path / "m.st")
    assert {name: array.shape for name, array in found.items()} == {
        "0.weight": (5, 6),
        "0.bias": (5,),
        "2.weight": (3, 5),
        "2.bias": (3,),
    }
    assert (wanted.parameters[0] == found["0.weight"].T).all()


def state_dict(**layers: tuple[int, int]) -> dict[str, np.ndarray]:
    """Random layers by name, of so many inputs and outputs."""
    random, tensors = np.random.default_rng(0), {}
    for name, (inputs, outputs) in layers.items():
        tensors[f"{name}.weight"] = random.standard_normal((outputs, inputs)).astype("f4")
        tensors[f"{name}.bias"] = random.standard_normal(outputs).astype("f4")
    return tensors


def test_models_of_pytorch_by_any_names(tmp_path: Path) -> None:
    """fc2 before fc10, whatever the order in the file; in the alphabet's, as safetensors has it, that says nothing."""
    from safetensors.numpy import save_file

    for layers in ({"fc10": (4, 3), "fc2": (5, 4), "fc1": (6, 5)}, {"fc10": (5, 5), "fc2": (5, 5), "fc1": (6, 5)}):
        tensors = state_dict(**layers)
        save_file(tensors, tmp_path / "m.safetensors")
        found = load(tmp_path / "m.safetensors", "relu")
        for ours, theirs in zip(found.parameters[::2], ("fc1", "fc2", "fc10"), strict=True):
            assert (ours == tensors[f"{theirs}.weight"].T).all()


def test_layers_of_pytorch_that_are_called_as_ours(tmp_path: Path) -> None:
    """``self.layers = nn.Sequential(nn.Linear(…), nn.Tanh(), …)``: PyTorch's by the file, or by its shapes."""
    for names in (("layers.0", "layers.2", "layers.4"), ("layers.0", "layers.1", "layers.2"), ("layers.0", "out", "z")):
        for widths in ((6, 5, 4, 3), (5, 5, 5, 5)):
            tensors = state_dict(**dict(zip(names, itertools.pairwise(widths), strict=True)))
            x = np.eye(widths[0], dtype="f4")
            (tmp_path / "m.pt").write_bytes(hostile.pt_of(tensors))
            (tmp_path / "m.safetensors").write_bytes(safetensors.packed(tensors, {}))
            square = names[1] == "layers.1" and widths[0] == widths[-1]
            for path in sorted(tmp_path.iterdir()):
                ours = square and path.suffix == ".safetensors"
                found = load(path, "tanh").logits(x)
                assert np.allclose(found, logits(tensors, names, x, "tanh"), atol=1e-5) == (not ours), (path, names)


def logits(tensors: dict[str, np.ndarray], order: Sequence[str], x: np.ndarray, activation: str) -> np.ndarray:
    """What PyTorch would answer."""
    for i, name in enumerate(order):
        x = (ACTIVATIONS_OF[activation](x) if i else x) @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
    return x


def test_no_activation_is_guessed(tmp_path: Path) -> None:
    tensors, x = state_dict(fc1=(6, 5), fc2=(5, 4), fc3=(4, 3)), np.eye(6, dtype="f4")
    names = ["fc1", "fc2", "fc3"]
    plain = {f"layers.{i // 2}.{name[4:]}": tensor.T for i, (name, tensor) in enumerate(tensors.items())}
    (tmp_path / "pt").write_bytes(hostile.pt_of(tensors))
    (tmp_path / "safetensors").write_bytes(safetensors.packed(plain, {}))
    np.savez(tmp_path / "npz.npz", **plain)
    rows = [
        {"weight": plain[f"layers.{i}.weight"].tolist(), "bias": plain[f"layers.{i}.bias"].tolist()} for i in (0, 1, 2)
    ]
    (tmp_path / "json").write_text(json.dumps({"layers": rows}))
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(ModelFileError, match='activation="relu"') as raised:
            load(path)
        assert "convert" in str(raised.value)
        for activation in ACTIVATIONS:
            np.testing.assert_allclose(
                load(path, activation).logits(x), logits(tensors, names, x, activation), atol=1e-5
            )
        assert load(path, ("tanh", "gelu")).network.activations == ("tanh", "gelu", "identity")
        with pytest.raises(ModelFileError, match="3 activations for 2 hidden layers"):
            load(path, ("tanh",) * 3)
    with pytest.raises(UsageError, match="activation='sigmoid': expected one of relu"):
        load(path, "sigmoid")
    rows[0]["activation"], rows[1]["activation"] = "tanh", "gelu"  # said, though by hand
    (tmp_path / "json").write_text(json.dumps({"layers": rows}))
    assert load(tmp_path / "json").network.activations == ("tanh", "gelu", "identity")
    with pytest.raises(ModelFileError, match="its activations are tanh, gelu, identity, and not relu"):
        load(tmp_path / "json", "relu")
    (tmp_path / "linear").write_bytes(hostile.pt_of(state_dict(fc=(6, 3))))
    assert load(tmp_path / "linear").network.activations == ("identity",)  # nothing to say


def test_the_order_of_layers_is_asked_for_where_it_cannot_be_told(tmp_path: Path) -> None:
    tensors, x = state_dict(fc3=(6, 6), fc1=(6, 6), fc2=(6, 6)), np.eye(6, dtype="f4")
    path = tmp_path / "m.pt"
    path.write_bytes(hostile.pt_of(tensors))
    with pytest.raises(ModelFileError, match=r"by their names \(fc1,fc2,fc3\) and as they stand .* \(fc3,fc1,fc2\)"):
        load(path, "tanh")
    for order in (("fc1", "fc2", "fc3"), ("fc3", "fc1", "fc2"), ("fc2", "fc1", "fc3")):
        np.testing.assert_allclose(
            load(path, "tanh", order).logits(x), logits(tensors, order, x, "tanh"), rtol=1e-4, atol=1e-5
        )
    for order in (("fc1", "fc2"), ("fc1", "fc2", "fc2"), ("fc1", "fc2", "x")):
        with pytest.raises(ModelFileError, match="its layers are fc1,fc2,fc3"):
            load(path, "tanh", order)
    path.write_bytes(hostile.pt_of(state_dict(a=(6, 5), b=(5, 3))))
    with pytest.raises(ModelFileError, match="do not chain: b"):
        load(path, "tanh", ("b", "a"))
    model((6, 5, 3), ("tanh",)).save(tmp_path / "ours")
    with pytest.raises(ModelFileError, match="leave out the order"):
        load(tmp_path / "ours", order=("a", "b"))


@given(st.lists(st.integers(1, 4), min_size=2, max_size=6))
@settings(max_examples=200, deadline=None)
def test_that_another_order_fits_is_said_if_it_is_so(widths: list[int]) -> None:
    weights = list(zip(widths[1:], widths[:-1], strict=True))
    fitting = sum(linear._chain(list(order)) for order in itertools.permutations(weights))
    assert linear._another_fits(weights) == (fitting > 1)


def test_the_model_in_a_checkpoint_of_pytorch_is_found(tmp_path: Path) -> None:
    tensors, path = state_dict(net=(6, 5), out=(5, 3)), tmp_path / "m.pt"
    for name in ("model_state_dict", "net"):
        path.write_bytes(hostile.checkpoint_of(tensors, name))
        stored = store.load(path, store.Unsaid(("relu",)))
        assert stored.notes == (f"taken from '{name}' of the checkpoint",)
        assert (stored.parameters[2] == tensors["out.weight"].T).all()
    path.write_bytes(hostile.pt_of(tensors, {"net.weight": {"kind": "HalfStorage"}}))
    with pytest.raises(ModelFileError, match="of torch HalfStorage; only float32 and float64"):
        load(path, "relu")


def tanh_reader() -> dict[str, np.ndarray]:
    """300 random tanh units and the least squares over them: reads more than half of drawn digits, and few by ReLU."""
    x, y = draw_strokes(4_000, seed=1)
    random = np.random.default_rng(0)
    w, b = random.standard_normal((784, 300)) * 0.15, random.standard_normal(300)
    a = np.tanh(x / 255 @ w + b)
    v = np.linalg.solve(a.T @ a + np.eye(300), a.T @ (np.eye(10)[y] - 0.1))
    tensors = {"a.weight": w.T, "a.bias": b, "b.weight": v.T, "b.bias": np.zeros(10)}
    return {name: np.ascontiguousarray(tensor, "f4") for name, tensor in tensors.items()}


def test_what_the_command_says_of_a_model_from_elsewhere(tmp_path: Path) -> None:
    runner, source, target = CliRunner(), tmp_path / "m.pt", tmp_path / "m.safetensors"
    source.write_bytes(hostile.checkpoint_of(tanh_reader()))
    done = runner.invoke(app, ["convert", str(source), str(target)])
    assert isinstance(done.exception, ModelFileError)
    assert not target.exists()
    done = runner.invoke(app, ["convert", str(source), str(target), "--activation", "tanh"])
    assert done.exit_code == 0, done.exception
    said = " ".join(done.output.split())
    assert "taken from 'model_state_dict'" in said
    found = re.search(
        r"tanh, identity; reads (\d+) of 200 drawn digits \(by activation: relu (\d+), .*tanh (\d+),", said
    )
    assert found, said
    right, relu, tanh = map(int, found.groups())
    assert tanh == right > 100
    assert relu < 70
    assert load(target).network.activations == ("tanh", "identity")
    source.write_bytes(hostile.pt_of(state_dict(a=(4, 4), b=(4, 4))))
    done = runner.invoke(app, ["convert", str(source), str(target), "--activation", "tanh"])
    said = " ".join(done.output.split())
    assert "layers in the order a,b; others fit too" in said
    assert "all outputs are finite" in said
    done = runner.invoke(app, ["convert", str(source), str(target), "--activation", "tanh", "--order", "b,a"])
    assert "others fit" not in done.output


MEASURE = """
import json, sys
from fastnn.model import store
from fastnn.errors import ModelFileError
def bytes_of(name):
    return 1024 * int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])
found = {}
for path in sys.argv[1:]:
    open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
    begin, true = bytes_of("VmRSS"), 0
    try:
        true = sum(tensor.nbytes for tensor in store.load(path, store.Unsaid(("tanh",))).parameters)
    except ModelFileError as error:
        pass
    found[path] = (bytes_of("VmHWM") - begin, true)
print(json.dumps(found))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are measured as Linux has them")
def test_memory_follows_the_size_of_the_tensors(tmp_path: Path) -> None:
    """At most three times their bytes, and 64 MB; for files that claim more than they hold, just the 64 MB."""
    big = {"a": (1_500, 1_500), "b": (1_500, 1_000)}
    (tmp_path / "m.pt").write_bytes(hostile.pt_of(state_dict(**big)))
    stored = store.load(tmp_path / "m.pt", store.Unsaid(("tanh",)))
    for name in ("safetensors", "npz"):
        store.save(replace(stored, metadata={"classes": list(map(str, range(1_000)))}), tmp_path / f"m.{name}", name)
    np.savez_compressed(tmp_path / "z.npz", **store.raw_of(stored).tensors)
    (tmp_path / "bomb.npz").write_bytes(hostile.bomb(16, 1_000))
    paths = sorted(map(str, tmp_path.iterdir()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", MEASURE, *paths], env=environment, capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert {Path(path).name for path, (_, true) in found.items() if true} == {"m.pt", "m.safetensors", "m.npz", "z.npz"}
    for path, (peak, true) in found.items():
        assert peak < 3 * true + 2**26, (path, peak, true)


def test_the_command_converts_and_names_what_it_cannot(tmp_path: Path) -> None:
    wanted = model((6, 5, 3), ("gelu",))
    wanted.save(tmp_path / "m.safetensors")
    for name, more in (("m.npz", []), ("m.json", []), ("t.safetensors", ["--to", "pytorch"]), ("x", ["--to", "json"])):
        done = fastnn("convert", "m.safetensors", name, *more, cwd=tmp_path)
        assert wanted.sha256 in done.stdout, done.stderr
        assert_same(load(tmp_path / name), wanted)
    assert "a pickle is not written" in clean_error(fastnn("convert", "m.npz", "m.pt", cwd=tmp_path), 2)
    assert "expected one of safetensors" in clean_error(fastnn("convert", "m.npz", "m", "--to", "h5", cwd=tmp_path), 2)
    assert "no such file" in clean_error(fastnn("convert", "none", "m.npz", cwd=tmp_path), 3)
    assert "there is no folder" in clean_error(fastnn("convert", "m.npz", "none/m.npz", cwd=tmp_path), 2)
    model((6, 5, 3), ("gelu",), scaled=True).save(tmp_path / "s.npz")
    line = clean_error(fastnn("convert", "s.npz", "p.safetensors", "--to", "pytorch", cwd=tmp_path), 2)
    assert "scaling" in line


def test_a_model_of_every_format_predicts(tmp_path: Path) -> None:
    shipped = load()
    for name in ("m.npz", "m.json"):
        shipped.save(tmp_path / name)
        done = fastnn("predict", ROOT / "data/samples/3.png", "--weights", tmp_path / name, "--json")
        assert json.loads(done.stdout)["label"] == "3"


GLOBALS = {
    "ordered": b"ccollections\nOrderedDict\n",
    "tensor": b"ctorch._utils\n_rebuild_tensor_v2\n",
    "parameter": b"ctorch._utils\n_rebuild_parameter\n",
    "storage": b"ctorch\nFloatStorage\n",
}


def storage_op(*items: bytes) -> bytes:
    return hostile.tuple_op(*items) + b"Q"


STORAGE = [hostile.text_op("storage"), GLOBALS["storage"], hostile.text_op("0"), hostile.text_op("cpu"), b"K\x06"]
TENSOR = [storage_op(*STORAGE), b"K\0", hostile.tuple_op(b"K\2", b"K\3"), hostile.tuple_op(b"K\3", b"K\1")]


def test_what_a_program_of_pytorch_builds() -> None:
    tensor = pytorch.Tensor(pytorch.Storage("torch FloatStorage", "0", 6), 0, (2, 3), (3, 1))
    made = GLOBALS["tensor"] + hostile.tuple_op(*TENSOR) + b"R"
    for program, wanted in (
        (made, tensor),
        (GLOBALS["tensor"] + hostile.tuple_op(*TENSOR, b"\x89", b"}") + b"R", tensor),
        (GLOBALS["parameter"] + hostile.tuple_op(made, b"\x88", b"}") + b"R", tensor),
        (GLOBALS["ordered"] + b")R", {}),
        (b"]K\1a(K\2K\3e", [1, 2, 3]),
        (b"}(X\1\0\0\0aK\1K\2K\3u", {"a": 1, 2: 3}),
        (b"}K\7K\1s", {7: 1}),
        (b"K\1K\2K\3\x87", (1, 2, 3)),
        (b"K\1K\2\x86\x85", ((1, 2),)),
        (b"}}b", {}),
        (b"K\5q\0K\6q\1h\0h\1\x86\x86\x86", (5, (6, (5, 6)))),
        (b"\x80\4\x8c\1a\x94\x8c\1b\x94h\0h\1\x86\x86\x86", ("a", ("b", ("a", "b")))),
        (b"(N\x88\x89)t", (None, True, False, ())),
    ):
        assert pytorch.run(program + b".", "m") == wanted, program


@pytest.mark.parametrize(
    "program",
    [
        *(storage_op(*STORAGE[:n], b"N", *STORAGE[n + 1 :]) for n in (0, 1, 2, 4)),
        storage_op(*STORAGE[:4]),
        storage_op(*STORAGE, b"N"),
        storage_op(STORAGE[0], GLOBALS["ordered"], *STORAGE[2:]),
        storage_op(*STORAGE[:4], hostile.int_op(-1)),
        storage_op(*STORAGE[:4], b"\x88"),
        storage_op(*STORAGE[:4], b"\x8a\5\1\0\0\x80\0"),  # 2^31 + 1
        GLOBALS["tensor"] + hostile.tuple_op(*TENSOR[:3]) + b"R",
        GLOBALS["tensor"] + hostile.tuple_op(b"N", *TENSOR[1:]) + b"R",
        *(GLOBALS["tensor"] + hostile.tuple_op(*TENSOR[:n], b"]", *TENSOR[n + 1 :]) + b"R" for n in (1, 2, 3)),
        GLOBALS["tensor"] + hostile.tuple_op(*TENSOR[:3], hostile.tuple_op(b"\x88")) + b"R",
        GLOBALS["parameter"] + b")R",
        GLOBALS["parameter"] + hostile.tuple_op(b"N") + b"R",
        GLOBALS["ordered"] + hostile.tuple_op(b"]") + b"R",
        GLOBALS["ordered"] + b"]R",
        b"K\1)R",
        b"}(Nu",
        b"}(NNu",
        b"](NNu",
        b"}Nb",
        b"N}b",
        b"NN",
    ],
)
def test_an_odd_program_of_pytorch_builds_nothing(program: bytes) -> None:
    with pytest.raises(ModelFileError):
        pytorch.run(program + b".", "m")


def test_how_much_a_program_of_pytorch_may_build() -> None:
    assert pytorch.run(b"N" * 9_999 + b")" + b"\x86" * 9_999 + b".", "m")
    for program, message in (
        (b"N" * 10_001, "builds too much"),
        (b"Nr" + (10_000).to_bytes(4, "little"), "place 10,000"),
    ):
        with pytest.raises(ModelFileError, match=message):
            pytorch.run(program + b".", "m")
    assert pytorch.run(b"Nr" + (9_999).to_bytes(4, "little") + b".", "m") is None


def test_the_length_of_a_program_of_pytorch(tmp_path: Path) -> None:
    content = hostile.pt_of(hostile.linear())
    (tmp_path / "m.pt").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "m.pt") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for size, is_read in ((2**20, True), (2**20 + 1, False)):
        members["model/data.pkl"] = members["model/data.pkl"].ljust(size, b"\0")
        (tmp_path / "m.pt").write_bytes(hostile.zip_of(members))
        if is_read:
            load(tmp_path / "m.pt", "relu")
        else:
            with pytest.raises(ModelFileError):
                load(tmp_path / "m.pt", "relu")
