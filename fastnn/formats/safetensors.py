"""safetensors: our own format, and PyTorch's names in it."""

from __future__ import annotations

import json
import math
import struct
from typing import IO, Any

import numpy as np

from fastnn.errors import ModelFileError, printable
from fastnn.formats.base import (
    DTYPES,
    MAX_TENSORS,
    Raw,
    check_metadata_size,
    check_names,
    check_shapes,
    strict_json,
)
from fastnn.formats.linear import is_linear, is_linear_naming

MAX_HEADER = 2**20
_KEY = "fastnn"


def to_bytes(raw: Raw) -> bytes:
    """The file of a model."""
    return _file(raw.tensors, raw)


def to_linear_bytes(raw: Raw) -> bytes:
    """The same with the names and shapes of ``nn.Sequential(nn.Linear(…), nn.ReLU(), nn.Linear(…), …)``."""
    tensors = {}
    for name, tensor in raw.tensors.items():
        if name.startswith("layers."):
            _, index, kind = name.split(".")
            tensors[f"{2 * int(index)}.{kind}"] = np.ascontiguousarray(tensor.T if kind == "weight" else tensor)
    return _file(tensors, Raw({}, {**(raw.description or {}), "pytorch": True}), {"format": "pt"})


def _file(tensors: dict[str, np.ndarray], raw: Raw, more: dict[str, str] | None = None) -> bytes:
    metadata = {**(more or {}), _KEY: json.dumps(raw.description, allow_nan=False, sort_keys=True)}
    if raw.sha256:
        metadata["sha256"] = raw.sha256
    return packed(tensors, metadata)


def packed(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """A safetensors file: eight bytes of length, a header of JSON, the tensors.

    The library of that name writes metadata in an order that differs from process to process. Here the same model
    is the same bytes. Wide numbers come first, and the header is filled up to eight bytes, so that all are aligned.

    Parameters
    ----------
    tensors : dict of str to ndarray
        float32 or float64.
    metadata : dict of str to str
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    kinds, at, parts = {dtype: name for name, dtype in DTYPES.items()}, 0, []
    for name, tensor in sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize):
        little = np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<"))
        offsets = [at, at + little.nbytes]
        header[name] = {"dtype": kinds[little.dtype], "shape": list(little.shape), "data_offsets": offsets}
        parts.append(little.tobytes())
        at = offsets[1]
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def read(file: IO[bytes], size: int, shown: str) -> Raw:
    """Header, sizes against the real file, then the tensors; nothing is allocated for a claim."""
    start = file.read(8)
    if len(start) < 8:
        raise ModelFileError(f"{shown}: {size} bytes, not a safetensors file")
    length = struct.unpack("<Q", start)[0]
    if length > MAX_HEADER or length > size - 8:
        raise ModelFileError(f"{shown}: not a safetensors file (a header of {length:,} bytes in {size:,})")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise ModelFileError(f"{shown}: not a safetensors file (its header is not JSON)")
    header = strict_json(text.decode("utf-8"))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelFileError(f"{shown}: its metadata is not a table of texts")
    check_metadata_size(sum(len(key) + len(value) for key, value in metadata.items()), shown)
    if not is_linear_naming(header) or len(header) > MAX_TENSORS:
        check_names(header, shown)
    _check_entries(header, size - 8 - length, shown)
    linear = is_linear({name: entry["shape"] for name, entry in header.items()})
    content = file.read(size - 8 - length + 1)
    if len(content) != size - 8 - length:
        raise ModelFileError(f"{shown}: changed while it was read")
    tensors = {name: _tensor(entry, content) for name, entry in header.items()}
    description = strict_json(metadata[_KEY]) if _KEY in metadata else None
    return Raw(tensors, description, metadata.get("sha256"), linear=linear)


def _tensor(entry: dict[str, Any], content: bytes) -> np.ndarray:
    dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
    return np.frombuffer(content, dtype, math.prod(shape), entry["data_offsets"][0]).reshape(shape)


def _check_entries(header: dict[str, Any], size: int, shown: str) -> None:
    """Number types, shapes and offsets: contiguous from 0, no hole, no overlap, the whole file."""
    spans = []
    for name, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ModelFileError(f"{shown}: {printable(name, 60)}: expected dtype, shape and data_offsets")
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
            raise ModelFileError(
                f"{shown}: {printable(name, 60)} is {printable(entry['dtype'], 20)}; expected F32 or F64. "
                f"Convert it to float32"
            )
    check_shapes({name: entry["shape"] for name, entry in header.items()}, shown)
    for name, entry in header.items():
        shape, offsets = entry["shape"], entry["data_offsets"]
        whole = isinstance(offsets, list) and all(type(n) is int and n >= 0 for n in offsets) and len(offsets) == 2
        if not whole or offsets[1] - offsets[0] != math.prod(shape) * DTYPES[entry["dtype"]].itemsize:
            raise ModelFileError(f"{shown}: {printable(name, 60)}: its shape {shape} does not fit its bytes")
        spans.append(tuple(offsets))
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise ModelFileError(f"{shown}: tensors overlap, or leave a hole")
        at = end
    if at != size:
        raise ModelFileError(f"{shown}: its tensors take {at:,} bytes, but it holds {size:,}")
