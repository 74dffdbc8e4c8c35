"""Model files in every format: the same bits after any round trip, PyTorch's own files, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from conftest import ROOT, clean_error, fastnn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastnn import Model, Network, load, weights
from fastnn.formats import FORMATS
from fastnn.network import ACTIVATIONS

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
    stored = weights.Stored(wanted.network, wanted.parameters, wanted.metadata, wanted.scaling)
    for name in formats:
        weights.save(stored, tmp_path / ENDS[name], name)
        stored = weights.load(tmp_path / ENDS[name])
        assert_same(Model(stored.network, stored.parameters, stored.metadata, stored.scaling), wanted)


def test_the_same_model_is_the_same_file(tmp_path: Path) -> None:
    wanted = model((4, 3, 2), ("tanh",), scaled=True)
    for name in ("a.npz", "b.npz", "a.json", "b.json", "a.st", "b.st"):
        wanted.save(tmp_path / name)
    for end in ("npz", "json", "st"):
        assert (tmp_path / f"a.{end}").read_bytes() == (tmp_path / f"b.{end}").read_bytes()


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
    weights.save(weights.Stored(wanted.network, wanted.parameters, wanted.metadata), tmp_path / "m.st", "pytorch")
    found = load_file(tmp_path / "m.st")
    assert {name: array.shape for name, array in found.items()} == {
        "0.weight": (5, 6),
        "0.bias": (5,),
        "2.weight": (3, 5),
        "2.bias": (3,),
    }
    assert (wanted.parameters[0] == found["0.weight"].T).all()


def test_models_of_pytorch_by_any_names(tmp_path: Path) -> None:
    """fc2 before fc10, whatever the order in the file."""
    from safetensors.numpy import save_file

    tensors = {}
    for name, (inputs, outputs) in {"net.fc10": (4, 3), "net.fc2": (5, 4), "net.fc1": (6, 5)}.items():
        tensors[f"{name}.weight"] = np.full((outputs, inputs), 0.5, np.float32)
        tensors[f"{name}.bias"] = np.zeros(outputs, np.float32)
    save_file(tensors, tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors", "relu").network.sizes == (6, 5, 4, 3)


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
