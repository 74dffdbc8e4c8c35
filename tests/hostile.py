"""A generator of hostile model files: each a name, its bytes, and a part of the message that refuses it."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

SIZES = (6, 5, 3)


def tensors(dtype: str = "<f4") -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    found = {}
    for i, (k, h) in enumerate(zip(SIZES[:-1], SIZES[1:], strict=True)):
        found[f"layers.{i}.weight"] = generator.standard_normal((k, h)).astype(dtype)
        found[f"layers.{i}.bias"] = generator.standard_normal(h).astype(dtype)
    return found


def header_of(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    header: dict[str, Any] = {}
    at = 0
    names = {"<f4": "F32", "<f8": "F64", "<f2": "F16", "|i1": "I8", "|b1": "BOOL"}
    for name, array in arrays.items():
        header[name] = {
            "dtype": names[array.dtype.str],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    return header


def pack(header: dict[str, Any] | bytes, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def data_of(arrays: dict[str, np.ndarray]) -> bytes:
    return b"".join(array.tobytes() for array in arrays.values())


def valid(metadata: dict[str, str] | None = None, dtype: str = "<f4") -> bytes:
    arrays = tensors(dtype)
    header = header_of(arrays)
    if metadata is not None:
        header["__metadata__"] = metadata
    return pack(header, data_of(arrays))


def described(**changes: object) -> bytes:
    """A sound file whose description is changed."""
    description = {
        "format_version": 1,
        "layers": list(SIZES),
        "activations": ["relu", "identity"],
        "classes": ["a", "b", "c"],
        **changes,
    }
    return valid({"fastnn": json.dumps({k: v for k, v in description.items() if v is not None})})


class Canary:
    """Unpickling this makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


def changed(name: str, **fields: object) -> bytes:
    arrays = tensors()
    header = header_of(arrays)
    header[name] = {**header[name], **fields}
    return pack(header, data_of(arrays))


def corpus(canary: str) -> Iterator[tuple[str, bytes, str]]:
    """Every hostile file: (name, content, part of the message)."""
    arrays, good = tensors(), valid()
    header, data = header_of(arrays), data_of(arrays)
    text = json.dumps(header)
    w, b = "layers.0.weight", "layers.0.bias"
    yield "M01 empty", b"", "not a safetensors file"
    yield "M02 7 bytes", b"1234567", "not a safetensors file"
    yield "M03 header of 2^63", struct.pack("<Q", 2**63) + b"{}", "not a safetensors file"
    yield "M04 header longer than the file", struct.pack("<Q", 5_000) + b"{}", "not a safetensors file"
    yield "M05 header of 100,000,001", struct.pack("<Q", 100_000_001) + b"{}" * 50, "not a safetensors file"
    yield "M06 not UTF-8", pack(b'{"\xff\xfe": 1}', data), "not a model file"
    yield "M07 not JSON", pack(b"{nonsense", data), "not a model file"
    yield "M08 space first", pack(b" " + text.encode(), data), "its header is not JSON"
    yield "M08 BOM first", pack(b"\xef\xbb\xbf" + text.encode(), data), "its header is not JSON"
    yield "M09 deep", pack(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b""), "not a"
    yield (
        "M10 many empty tensors",
        pack({f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(9_000)}, b""),
        "9000 tensors",
    )
    twice = text[:-1] + f', "{b}": {json.dumps(header[b])}}}'
    yield "M11 duplicate key", pack(twice.encode(), data), "a key stands twice"
    other = text[:-1] + f', "{b}": {{"dtype": "F32", "shape": [5], "data_offsets": [0, 20]}}}}'
    yield "M12 duplicate key, two ranges", pack(other.encode(), data), "a key stands twice"
    yield "M13 overlap", changed(b, data_offsets=[100, 120]), "overlap, or leave a hole"
    yield (
        "M14 hole",
        pack(
            {**header, "layers.1.bias": {**header["layers.1.bias"], "data_offsets": [len(data) - 8, len(data) + 4]}},
            data + b"1234",
        ),
        "overlap, or leave a hole",
    )
    yield "M15 reversed offsets", changed(b, data_offsets=[140, 120]), "does not fit its bytes"
    yield "M15 negative offsets", changed(b, data_offsets=[-20, 0]), "does not fit its bytes"
    yield "M16 trailing bytes", good + b"PK\3\4", "but it holds"
    yield "M17 one byte short", good[:-1], "but it holds"
    yield "M17 half", good[: len(good) // 2], "not a safetensors file"
    yield "M18 overflow", changed(w, shape=[2**40, 2**40]), "has shape"
    yield "M19 shape against bytes", changed(w, shape=[6, 6]), "does not fit its bytes"
    for bad in ([-6, -5], [0, 5], [2**40, 1], [6.0, 5.0], ["6", "5"], [True, True], "65", None):
        yield f"M20 shape {bad}", changed(w, shape=bad), "has shape"
    yield "M21 rank 0", changed(b, shape=[]), "has shape"
    yield "M21 rank 3", changed(w, shape=[6, 5, 1]), "has shape"
    yield "M21 rank 100", changed(w, shape=[1] * 100), "has shape"
    for bad_type in ("F99", "BF16", "F16", "I8", "BOOL", 4, None, ["F32"]):
        if not isinstance(bad_type, list):
            yield f"M22 type {bad_type}", changed(w, dtype=bad_type), "expected F32 or F64"
    yield "M22 type is a list", changed(w, dtype=["F32"]), ""
    without = {k: v for k, v in arrays.items() if k != "layers.1.bias"}
    yield "M24 no bias", pack(header_of(without), data_of(without)), "tensors missing"
    extra = {**arrays, "layers.7.weight": arrays[w], "evil": arrays[b]}
    yield "M25 extra tensors", pack(header_of(extra), data_of(extra)), "not expected"
    broken = {**arrays, "layers.1.weight": np.zeros((4, 3), "<f4")}
    yield "M26 no chain", pack(header_of(broken), data_of(broken)), "takes 4 inputs, but the layer below gives 5"
    short = {**arrays, b: np.zeros(4, "<f4")}
    yield "M26 bias too short", pack(header_of(short), data_of(short)), "layers.0.bias has shape [4]; expected [5]"
    yield "M27 class names", described(classes=["a", "b"]), "class names do not fit its 3 outputs"
    yield "M27 same names", described(classes=["a", "a", "b"]), "not different texts"
    yield "M27 numbers", described(classes=[1, 2, 3]), "not different texts"
    for bad_value in (np.nan, np.inf, -np.inf):
        poisoned = {k: v.copy() for k, v in arrays.items()}
        poisoned[w][2, 3] = bad_value
        yield f"M28 {bad_value}", pack(header_of(poisoned), data_of(poisoned)), "not finite"
    yield "M30 wrong hash", valid({"sha256": "0" * 64}), "SHA-256"
    for version in (2, 0, "1", None, 1.5, True):
        yield f"M31 version {version}", described(format_version=version), "ersion"
    yield "M32 activation", described(activations=["os.system", "identity"]), "activations"
    yield "M32 no activations", described(activations=None), "activations"
    yield "M33 metadata no text", pack({**header, "__metadata__": {"a": 1}}, data), "not a table of texts"
    yield "M33 metadata no table", pack({**header, "__metadata__": [1]}, data), "not a table of texts"
    yield "M33 1 MB", pack({**header, "__metadata__": {"a": "x" * 500_000}}, data), "characters of metadata"
    for field, value in (("layers", "6"), ("preprocessing", []), ("training", 3), ("history", "x")):
        yield f"M33 {field} of a wrong type", described(**{field: value}), "is not a"
    yield "M33 description", valid({"fastnn": "[1]"}), "not a table"
    yield "M33 NaN in it", valid({"fastnn": '{"format_version": NaN}'}), "NaN"
    yield "M33 deep", valid({"fastnn": '{"a":' * 5_000 + "1" + "}" * 5_000}), ""
    yield "M33 long number", valid({"fastnn": '{"format_version": ' + "9" * 5_000 + "}"}), ""
    for bad_name in ("../../evil", "a\0b", "\x1b[31mred", "line\nbreak", "x" * 10_000):
        named = {**{k: v for k, v in arrays.items() if k != w}, bad_name: arrays[w]}
        yield f"M34 name {bad_name[:9]!r}", pack(header_of(named), data_of(named)), "not expected"
    yield "M42 pickle", pickle.dumps(Canary(canary)), "not a"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Canary(canary)))
    yield "M43 .pt with code", archive.getvalue(), "not a"
    npz = io.BytesIO()
    np.savez(npz, x=np.zeros(3))
    yield "M49 npz", npz.getvalue(), "not a"
    yield "M49 JSON", b'{"layers": []}', "not a"
    yield "layers of other sizes", described(layers=[6, 4, 3]), "described as"
