"""Readable JSON: layers as lists of numbers, each as short as its number type allows without loss."""

from __future__ import annotations

import json
from typing import IO, Any

import numpy as np

from fastnn.errors import ModelFileError, printable
from fastnn.formats.base import SCALING, Raw, check_names, check_shapes, strict_json

MAX_JSON = 2**28
_MOST_LISTS = 2**20  # an empty one takes 3 bytes in the file and 64 in memory; a number at most 8 times its text
_DTYPES = ("float32", "float64")


def to_bytes(raw: Raw) -> bytes:
    """The file of a model: what it is first, then its layers, a line for each unit's input weights."""
    described = dict(raw.description or {})
    sizes, activations = described.pop("layers"), described.pop("activations")
    dtype = raw.tensors["layers.0.weight"].dtype
    lines = [
        f" {json.dumps(key)}: {json.dumps(value, allow_nan=False, sort_keys=True)},"
        for key, value in sorted(described.items())
    ]
    lines.append(f' "dtype": "{dtype.name}",\n "sha256": {json.dumps(raw.sha256)},')
    for name in SCALING:
        if name in raw.tensors:
            lines.append(f' "{name}": {_numbers(raw.tensors[name])},')
    layers = []
    for i, activation in enumerate(activations):
        w, b = raw.tensors[f"layers.{i}.weight"], raw.tensors[f"layers.{i}.bias"]
        rows = ",\n    ".join(map(_numbers, w))
        layers.append(
            f'  {{"inputs": {sizes[i]}, "units": {sizes[i + 1]}, "activation": {json.dumps(activation)},\n'
            f'   "bias": {_numbers(b)},\n   "weight": [\n    {rows}]}}'
        )
    body = ",\n".join(layers)
    return ("{\n" + "\n".join(lines) + f'\n "layers": [\n{body}\n ]\n}}\n').encode()


def _numbers(values: np.ndarray) -> str:
    """A list whose numbers read back to the same bits: str of a float32 is the shortest that does."""
    return "[" + ", ".join(repr(float(str(value))) for value in values) + "]"


def read(file: IO[bytes], size: int, shown: str) -> Raw:
    """Strict JSON, layers of lists of numbers."""
    if size > MAX_JSON:
        raise ModelFileError(f"{shown}: {size:,} bytes of JSON; at most {MAX_JSON:,}")
    content = file.read(MAX_JSON + 1)
    if content.count(b"[") + content.count(b"{") > _MOST_LISTS:
        raise ModelFileError(f"{shown}: more than {_MOST_LISTS:,} lists; take safetensors for a model of this size")
    description = strict_json(content.decode("utf-8"))
    dtype, layers = description.pop("dtype", "float32"), description.pop("layers", None)
    sha256 = description.pop("sha256", None)
    if dtype not in _DTYPES:
        raise ModelFileError(f"{shown}: dtype {printable(dtype, 40)}; expected float32 or float64")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        raise ModelFileError(f'{shown}: no "layers"; expected a list of tables with weight and bias')
    lists: dict[str, Any] = {name: description.pop(name) for name in SCALING if name in description}
    for i, layer in enumerate(layers[:1_000]):
        odd = set(layer) - {"inputs", "units", "activation", "weight", "bias"}
        if odd or not {"weight", "bias"} <= set(layer):
            raise ModelFileError(f"{shown}: layer {i}: expected weight and bias; not {sorted(map(printable, odd))[:3]}")
        lists[f"layers.{i}.weight"], lists[f"layers.{i}.bias"] = layer["weight"], layer["bias"]
    check_names(lists, shown)
    shapes = {name: _shape(name, value, shown) for name, value in lists.items()}
    check_shapes(shapes, shown)
    tensors = {name: np.array(value, "f8" if name in SCALING else dtype) for name, value in lists.items()}
    activations = [layer.get("activation") for layer in layers]
    if "format_version" not in description:
        said = any(name is not None for name in activations)
        return Raw(tensors, activations=[*activations[:-1], activations[-1] or "identity"] if said else None)
    description["activations"] = activations
    units = [shapes[f"layers.{i}.weight"][1] for i in range(len(layers))]
    description["layers"] = [shapes["layers.0.weight"][0], *units]
    return Raw(tensors, description, sha256 if isinstance(sha256, str) else None)


def _shape(name: str, value: Any, shown: str) -> tuple[int, ...]:
    """Shape of lists of numbers, none ragged."""
    rows = value if name.endswith("weight") else [value]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        raise ModelFileError(
            f"{shown}: {name} is not a list{' of lists' if name.endswith('weight') else ''} of numbers"
        )
    width = len(rows[0])
    for i, row in enumerate(rows):
        if len(row) != width:
            raise ModelFileError(f"{shown}: {name}: row {i + 1} has {len(row)} numbers, the first {width}")
        for number in row:
            if type(number) not in (int, float):
                raise ModelFileError(f"{shown}: {name}: {printable(number, 40)} in row {i + 1} is not a number")
    return (len(rows), width) if name.endswith("weight") else (width,)
