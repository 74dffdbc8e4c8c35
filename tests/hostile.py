"""A generator of hostile model files: each a name, its bytes, and a part of the message that refuses it."""

from __future__ import annotations

import io
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

SIZES = (6, 5, 3)
KINDS = ("weight", "bias")


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


def npz_of(arrays: dict[str, np.ndarray], compression: int = zipfile.ZIP_STORED) -> bytes:
    members = {}
    for name, array in arrays.items():
        content = io.BytesIO()
        np.save(content, array)
        members[f"{name}.npy"] = content.getvalue()
    return zip_of(members, compression)


def zip_of(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    archive = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(archive, "w", compression) as file:
        warnings.simplefilter("ignore")
        for name, content in members.items():
            file.writestr(name.rstrip("+"), content)  # a + makes the same name twice
    return archive.getvalue()


def npy_header(shape: str, dtype: str = "<f4") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n"


def archives() -> Iterator[tuple[str, bytes, str]]:
    """npz files that are not what they seem."""
    good = tensors()
    w = "layers.0.weight"
    yield "M35 bomb, deflate", npz_of({**good, w: np.zeros((2**20, 20), "f4")}, zipfile.ZIP_DEFLATED), "would grow"
    yield "M35 bomb, bzip2", npz_of({**good, w: np.zeros((2**20, 9), "f4")}, zipfile.ZIP_BZIP2), "another way"
    yield "M39 LZMA", npz_of(good, zipfile.ZIP_LZMA), "another way"
    plain = npz_of(good)
    whole = {f"{name}.npy": npy_header(str(array.shape)) + array.tobytes() for name, array in good.items()}
    yield "M36 twice the same", zip_of({**whole, f"{w}.npy+": whole[f"{w}.npy"]}), "twice"
    yield "M37 objects", npz_of({**good, w: np.array([{}, {}], object)}), "does not fit"
    yield "M38 huge shape", zip_of({**whole, f"{w}.npy": npy_header("(1048576, 1048576)")}), "does not fit"
    yield "M38 overflow", zip_of({**whole, f"{w}.npy": npy_header("(4294967295, 65536, 65536)")}), "does not fit"
    yield "nested header", zip_of({**whole, f"{w}.npy": npy_header("(" * 900 + ")" * 900)}), "not a model"
    encrypted = bytearray(plain)
    for start in (b"PK\x03\x04", b"PK\x01\x02"):
        at = encrypted.find(start)
        encrypted[at + (6 if start[2] == 3 else 8)] |= 1
    yield "M39 encrypted", bytes(encrypted), "encrypted"
    broken = bytearray(plain)
    broken[200] ^= 255
    yield "M39 bad CRC", bytes(broken), "not a model"
    yield "M39 no directory", plain[:-60], "zip archive"
    yield "M40 no array", zip_of({**whole, "evil.txt": b"hello"}), "not an array"
    yield "M35 bomb that says it is none", bomb(8, 256), "when taken out of"
    yield "M40 too long a list", zip_of({f"{i:0180}.npy": b"" for i in range(10_000)}), "a list of files"
    version2 = whole[f"{w}.npy"][:6] + b"\2\0" + struct.pack("<I", 2**31) + bytes(50)
    yield "a header of 2 GB", zip_of({**whole, f"{w}.npy": version2}), "version (2, 0)"
    yield "M40 odd name", zip_of({**whole, "../../evil.npy": whole[f"{w}.npy"]}), "odd name"
    yield "trailing bytes in a member", zip_of({**whole, f"{w}.npy": whole[f"{w}.npy"] + b"more"}), "does not fit"
    yield "npz NaN", npz_of({**good, w: good[w] * np.nan}), "not finite"
    yield "npz float16", npz_of({**good, w: good[w].astype("f2")}), "expected float32"
    yield "npz rank 3", npz_of({**good, w: good[w][None]}), "expected 2 sizes"
    yield "npz without a bias", npz_of({k: v for k, v in good.items() if k != "layers.1.bias"}), "tensors"


def bomb(layers: int, side: int) -> bytes:
    """Square layers of zeros, of which the archive says that they were hardly squeezed."""
    zeros = np.zeros((side, side), "f4")
    arrays = {f"layers.{i}.{kind}": zeros if kind == "weight" else zeros[0] for i in range(layers) for kind in KINDS}
    content, at = bytearray(npz_of(arrays, zipfile.ZIP_DEFLATED)), 0
    while (at := content.find(b"PK\1\2", at)) >= 0:
        content[at + 20 : at + 24] = content[at + 24 : at + 28]  # size in the archive, size taken out
        at += 4
    return bytes(content)


def text_op(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def int_op(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def tuple_op(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def tensor_op(key: str, shape: tuple[int, ...], **lies: Any) -> bytes:
    """The instructions that `torch.save` writes for a tensor."""
    size = lies.get("size", int(np.prod(shape)))
    strides = lies.get("strides", tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape))))
    kind = lies.get("kind", "FloatStorage")
    storage = (
        tuple_op(text_op("storage"), f"ctorch\n{kind}\n".encode(), text_op(key), text_op("cpu"), int_op(size)) + b"Q"
    )
    numbers = [int_op(lies.get("offset", 0)), *(tuple_op(*map(int_op, part)) for part in (shape, strides))]
    ordered = b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + tuple_op(storage, *numbers, b"\x89", ordered) + b"R"


def pt_of(arrays: dict[str, np.ndarray], wrong: dict[str, dict[str, Any]] | None = None, tail: bytes = b".") -> bytes:
    """A state dict as `torch.save` writes it; weights (outputs, inputs)."""
    program, members = b"\x80\x02ccollections\nOrderedDict\n)R(", {}
    for key, (name, array) in enumerate(arrays.items()):
        program += text_op(name) + tensor_op(str(key), array.shape, **(wrong or {}).get(name, {}))
        members[f"model/data/{key}"] = array.tobytes()
    return zip_of({"model/data.pkl": program + b"u" + tail, "model/byteorder": b"little", **members})


def state_op(arrays: dict[str, np.ndarray]) -> bytes:
    """The instructions for a state dict whose storages are numbered from 0."""
    entries = (text_op(name) + tensor_op(str(key), array.shape) for key, (name, array) in enumerate(arrays.items()))
    return b"}(" + b"".join(entries) + b"u"


def checkpoint_of(arrays: dict[str, np.ndarray], name: str = "model_state_dict") -> bytes:
    """What people save while they train: the model, an optimizer with numbers for names, the epoch, the loss."""
    moments = b"}(" + text_op("step") + tensor_op("8", ()) + text_op("lr") + b"G" + struct.pack(">d", 0.1) + b"u"
    group = b"]}(" + text_op("params") + b"](K\x00K\x01e" + text_op("foreach") + b"Nua"
    optimizer = b"}(" + text_op("state") + b"}K\x00" + moments + b"s" + text_op("param_groups") + group + b"u"
    random = tensor_op("9", (16,), kind="ByteStorage")
    program = b"\x80\x02}(" + text_op("epoch") + b"K\x05" + text_op("optimizer") + optimizer
    program += text_op(name) + state_op(arrays) + text_op("random") + random + b"u."
    members = {f"model/data/{key}": array.tobytes() for key, array in enumerate(arrays.values())}
    return zip_of({"model/data.pkl": program, **members})


def linear() -> dict[str, np.ndarray]:
    """The same tensors as `tensors`, named and shaped as PyTorch does."""
    return {
        f"{2 * int(name.split('.')[1])}.{name.split('.')[2]}": np.ascontiguousarray(array.T)
        for name, array in tensors().items()
    }


def programs(canary: str) -> Iterator[tuple[str, bytes, str]]:
    """Pickles: bare ones, and .pt files whose program is more than a state dict."""
    yield "M42 pickle", pickle.dumps(Canary(canary)), "a pickle"
    yield "M42 pickle, protocol 2", pickle.dumps(Canary(canary), 2), "a pickle"
    for protocol in (0, 2, 4):
        content = zip_of({"archive/data.pkl": pickle.dumps(Canary(canary), protocol)})
        yield f"M43 .pt with code, protocol {protocol}", content, "refused"
    system = f"cposix\nsystem\n(Vtouch {canary}\ntR.".encode()
    yield "M43 os.system", zip_of({"a/data.pkl": system}), "refused"
    good = linear()
    for name, tail in (("eval", b"cbuiltins\neval\n."), ("a class", b"ctorch.nn.modules.linear\nLinear\n.")):
        yield f"M43 {name} after the tensors", pt_of(good, tail=tail), "refused"
    yield "M46 whole module", zip_of({"a/data.pkl": b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81."}), "refused"
    memo = b"\x80\x02Nr" + struct.pack("<I", 10**8) + b"."
    yield "M44 memo bomb", zip_of({"a/data.pkl": memo}), "place 100,000,000"
    lies: dict[str, dict[str, Any]] = {
        "larger storage": {"size": 10**6},
        "smaller storage": {"size": 3},
        "negative offset": {"offset": -1},
        "offset outside": {"offset": 1},
        "negative stride": {"strides": (5, -1)},
        "overlapping": {"strides": (0, 1)},
        "half": {"kind": "HalfStorage"},
    }
    for name, lie in lies.items():
        yield f"M45 {name}", pt_of(good, {"0.weight": lie}), ""
    yield (
        "M45 missing storage",
        zip_of(
            {
                "a/data.pkl": b"\x80\x02}("
                + text_op("0.weight")
                + tensor_op("7", (5, 6))
                + text_op("0.bias")
                + tensor_op("8", (5,))
                + b"u."
            }
        ),
        "not in the archive",
    )
    one = b"".join(
        text_op(f"{i}.{kind}") + tensor_op("0", shape, size=9)
        for i in range(40)
        for kind, shape in zip(KINDS, ((3, 3), (3,)), strict=True)
    )
    shared = zip_of({"a/data.pkl": b"\x80\x02}(" + one + b"u.", "a/data/0": bytes(36)})
    yield "tensors that share their numbers", shared, "share their numbers"
    nested = b"N" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))
    yield "tuples of tuples", zip_of({"a/data.pkl": b"\x80\x02" + nested + b")R."}), "calls something"
    two = b"\x80\x02}(" + b"".join(text_op(name) + state_op(good) for name in ("net", "ema")) + b"u."
    yield "two models", zip_of({"a/data.pkl": two}), "several models, net, ema"
    yield "an optimizer only", zip_of({"a/data.pkl": b"\x80\x02}" + text_op("state") + b"}s."}), "no state dict"
    yield "appending to a number", zip_of({"a/data.pkl": b"\x80\x02K\x01K\x01a."}), "appends to"
    yield "only conv tensors", pt_of({"0.weight": np.zeros((2, 3, 4), "f4"), "0.bias": np.zeros(2, "f4")}), "2 sizes"
    swapped = {"0.weight": good["0.weight"].T.copy(), **{k: v for k, v in good.items() if k != "0.weight"}}
    yield "layers that do not chain", pt_of(swapped), "do not chain"
    yield "no bias", pt_of({k: v for k, v in good.items() if k != "2.bias"}), "has no bias"
    yield "a program without an end", pt_of(good, tail=b""), "not a model"
    yield "a program that pops too much", zip_of({"a/data.pkl": b"\x80\x02u."}), "not a model"
    yield "big-endian", zip_of({"a/data.pkl": b"\x80\x02}.", "a/byteorder": b"big"}), "big-endian"


def json_texts() -> Iterator[tuple[str, bytes, str]]:
    """JSON that is not a model."""
    layer = '{"weight": [[1, 2]], "bias": [0, 0]}'
    yield "M47 a key twice", f'{{"layers": [{layer}], "layers": []}}'.encode(), "twice"
    yield "M47 NaN", b'{"layers": [{"weight": [[NaN, 2]], "bias": [0, 0]}]}', "NaN"
    yield "M47 1e999", b'{"layers": [{"weight": [[1e999, 2]], "bias": [0, 0]}]}', "not finite"
    yield "M47 ragged", b'{"layers": [{"weight": [[1, 2], [3]], "bias": [0, 0]}]}', "row 2 has 1"
    yield "M47 text", b'{"layers": [{"weight": [["1", 2]], "bias": [0, 0]}]}', "not a number"
    yield "M47 true", b'{"layers": [{"weight": [[true, 2]], "bias": [0, 0]}]}', "not a number"
    yield "M47 5,000 digits", b'{"layers": [{"weight": [[' + b"9" * 5_000 + b', 2]], "bias": [0, 0]}]}', "not a model"
    yield "M47 deep", b'{"layers": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not a model"
    yield "JSON of lists", b'{"layers": [' + b"[]," * 2**20 + b"[]]}", "more than 1,048,576 lists"
    yield "JSON cut", f'{{"layers": [{layer}'.encode(), "not a model"
    yield "JSON not UTF-8", b'{"layers": "\xff"}', "not a model"
    yield "JSON dtype", f'{{"dtype": "object", "layers": [{layer}]}}'.encode(), "dtype"
    yield "JSON more in a layer", b'{"layers": [{"weight": [[1]], "bias": [0], "run": "os.system"}]}', "run"
    yield "JSON bias of another size", b'{"layers": [{"weight": [[1, 2]], "bias": [0]}]}', "expected [2]"


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
    yield "no activations", good, 'activation="relu"'
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
    for group, key, value in (
        ("training", "loss", []),
        ("training", "huber_delta", "x"),
        ("preprocessing", "recipe", ["mnist"]),
        ("calibration", "unsure_below", 1.5),
        ("calibration", "temperature", 0),
        ("calibration", "temperature", True),
    ):
        yield f"M33 {key} {value}", described(**{group: {key: value}}), f"{group} {key} is"
    yield "M33 description", valid({"fastnn": "[1]"}), "not a table"
    yield "M33 NaN in it", valid({"fastnn": '{"format_version": NaN}'}), "NaN"
    yield "M33 deep", valid({"fastnn": '{"a":' * 5_000 + "1" + "}" * 5_000}), ""
    yield "M33 long number", valid({"fastnn": '{"format_version": ' + "9" * 5_000 + "}"}), ""
    for bad_name in ("../../evil", "a\0b", "\x1b[31mred", "line\nbreak", "x" * 10_000):
        named = {**{k: v for k, v in arrays.items() if k != w}, bad_name: arrays[w]}
        yield f"M34 name {bad_name[:9]!r}", pack(header_of(named), data_of(named)), "not expected"
    yield "M49 npz", npz_of({"x": np.zeros(3)}), "1 tensors"
    yield "M49 JSON", b'{"layers": []}', "0 tensors"
    yield from archives()
    yield from programs(canary)
    yield from json_texts()
    yield "layers of other sizes", described(layers=[6, 4, 3]), "described as"
