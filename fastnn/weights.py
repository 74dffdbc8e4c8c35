"""Network, parameters and metadata ↔ one safetensors file, and nothing in between that could run.

Everything is checked before it is used: sizes against the real file before anything is allocated, exact tensor
names, shapes that chain, float32 or float64, finite, and the SHA-256 of the tensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.errors import FastnnError, ModelFileError, UsageError, printable
from fastnn.files import atomic_write
from fastnn.network import MAX_PARAMETERS, MAX_UNITS, Network

FORMAT_VERSION = 1
MAX_HEADER = 2**20
MAX_TENSORS = 256
MAX_METADATA = 2**16
MAX_FILE = 2**31
LARGE_WEIGHT = 1e6
_KEY = "fastnn"
_NAME = re.compile(r"layers\.(0|[1-9][0-9]{0,2})\.(weight|bias)")
_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "format_version": int,
    "layers": list,
    "activations": list,
    "classes": list,
    "preprocessing": dict,
    "training": dict,
    "history": dict,
    "data": dict,
    "fastnn_version": str,
}


@dataclass(frozen=True)
class Stored:
    """What a model file holds.

    Attributes
    ----------
    network : Network
    parameters : list of ndarray
        ``[w, b, w, b, …]``, w (inputs, units), all float32 or all float64.
    metadata : dict
        classes (names), preprocessing (recipe), training, history, data (fingerprint), fastnn_version.
    sha256 : str
        Of the parameters' bytes, in order.
    """

    network: Network
    parameters: list[np.ndarray]
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """SHA-256 of the parameters' bytes, in order."""
        return tensors_sha256(self.parameters)


def tensors_sha256(parameters: list[np.ndarray]) -> str:
    """SHA-256 of the bytes of plain parameters, in the order w, b, w, b, …."""
    digest = hashlib.sha256()
    for tensor in parameters:
        digest.update(np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def save(stored: Stored, path: str | Path) -> None:
    """Write a model file, whole or not at all.

    Raises
    ------
    RunError
        When it can't be written; an older file of that name is then still there.
    """
    from safetensors.numpy import save as to_bytes

    network = stored.network
    described = {
        **stored.metadata,
        "format_version": FORMAT_VERSION,
        "layers": list(network.sizes),
        "activations": [layer.activation for layer in network.layers],
    }
    tensors = {
        name: np.ascontiguousarray(tensor)
        for name, tensor in zip(network.parameter_shapes, stored.parameters, strict=True)
    }
    metadata = {"sha256": stored.sha256, _KEY: json.dumps(described, allow_nan=False)}
    content = to_bytes(tensors, metadata)
    with atomic_write(Path(path)) as file:
        file.write(content)


def load(path: str | Path) -> Stored:
    """Read and check a model file.

    Raises
    ------
    ModelFileError
        When anything about it is not as it should be. No code in a file is ever run.
    """
    path = Path(path)
    shown = printable(path)
    try:
        header, content = _read(path, shown)
        return _validate(header, content, shown)
    except ModelFileError:
        raise
    except FastnnError as error:
        raise ModelFileError(f"{shown}: {error}") from error
    except OSError as error:
        raise ModelFileError(f"{shown}: can't be read ({error.strerror or error})") from error
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, MemoryError) as error:
        raise ModelFileError(f"{shown}: not a model file of fastnn ({printable(error)})") from error


def _read(path: Path, shown: str) -> tuple[dict[str, Any], bytes]:
    """The header and the tensors' bytes; every size is compared with the file before it is believed."""
    if not path.exists():
        raise ModelFileError(f"{shown}: no such file")
    if not stat.S_ISREG(path.stat().st_mode):
        raise ModelFileError(f"{shown}: not a file")
    with path.open("rb") as file:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise ModelFileError(f"{shown}: {size:,} bytes; at most {MAX_FILE:,}")
        start = file.read(8)
        if len(start) < 8:
            raise ModelFileError(f"{shown}: {size} bytes, not a safetensors file")
        length = struct.unpack("<Q", start)[0]
        if length > MAX_HEADER or length > size - 8:
            raise ModelFileError(f"{shown}: not a safetensors file (a header of {length:,} bytes in {size:,})")
        text = file.read(length)
        if not text.startswith(b"{"):
            raise ModelFileError(f"{shown}: not a safetensors file (its header is not JSON)")
        header = _strict_json(text.decode("utf-8"))
        _check_tensors(header, size - 8 - length, shown)
        content = file.read(size - 8 - length + 1)
        if len(content) != size - 8 - length:
            raise ModelFileError(f"{shown}: changed while it was read")
        return header, content


def _strict_json(text: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands twice")
        return found

    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is not a number of JSON")

    value = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    if not isinstance(value, dict):
        raise ValueError("not a table")
    return value


def _check_tensors(header: dict[str, Any], size: int, shown: str) -> None:
    """Names, number types, shapes and offsets: contiguous from 0, no hole, no overlap, the whole file."""
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelFileError(f"{shown}: its metadata is not a table of texts")
    if sum(len(key) + len(value) for key, value in metadata.items()) > MAX_METADATA:
        raise ModelFileError(f"{shown}: more than {MAX_METADATA:,} characters of metadata")
    names = [name for name in header if name != "__metadata__"]
    if not 2 <= len(names) <= MAX_TENSORS:
        raise ModelFileError(f"{shown}: {len(names)} tensors; expected 2 to {MAX_TENSORS}")
    layers = len(names) // 2
    wanted = [f"layers.{i}.{kind}" for i in range(layers) for kind in ("weight", "bias")]
    if set(names) != set(wanted):
        missing = sorted(set(wanted) - set(names))[:5]
        extra = sorted(printable(name, 40) for name in set(names) - set(wanted))[:5]
        raise ModelFileError(f"{shown}: tensors missing: {missing or 'none'}; not expected: {extra or 'none'}")
    total, spans = 0, []
    for name in names:
        entry = header[name]
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise ModelFileError(f"{shown}: {name}: expected dtype, shape and data_offsets")
        shape, offsets, dtype = entry["shape"], entry["data_offsets"], entry["dtype"]
        if dtype not in _DTYPES:
            raise ModelFileError(
                f"{shown}: {name} is {printable(dtype, 20)}; expected F32 or F64. Convert it to float32"
            )
        rank = 2 if name.endswith("weight") else 1
        if not _is_whole(shape) or len(shape) != rank or not all(1 <= n <= MAX_UNITS for n in shape):
            raise ModelFileError(
                f"{shown}: {name} has shape {printable(shape, 60)}; expected {rank} sizes of 1 to {MAX_UNITS:,}"
            )
        count = math.prod(shape)
        total += count
        if not _is_whole(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != count * _DTYPES[dtype].itemsize:
            raise ModelFileError(f"{shown}: {name}: its shape {shape} does not fit its bytes")
        spans.append(tuple(offsets))
    if total > MAX_PARAMETERS:
        raise ModelFileError(f"{shown}: {total:,} parameters; at most {MAX_PARAMETERS:,}")
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise ModelFileError(f"{shown}: tensors overlap, or leave a hole")
        at = end
    if at != size:
        raise ModelFileError(f"{shown}: its tensors take {at:,} bytes, but it holds {size:,}")


def _is_whole(values: object) -> bool:
    return isinstance(values, list) and all(type(n) is int and n >= 0 for n in values)


def _validate(header: dict[str, Any], content: bytes, shown: str) -> Stored:
    """Shapes that chain, finite values, the hash, and a description that fits them."""
    layers = (len(header) - ("__metadata__" in header)) // 2
    shapes = [tuple(header[f"layers.{i}.weight"]["shape"]) for i in range(layers)]
    for i, (k, h) in enumerate(shapes):
        if i and shapes[i - 1][1] != k:
            raise ModelFileError(
                f"{shown}: layers.{i}.weight takes {k} inputs, but the layer below gives {shapes[i - 1][1]}"
            )
        bias = header[f"layers.{i}.bias"]["shape"]
        if bias != [h]:
            raise ModelFileError(f"{shown}: layers.{i}.bias has shape {bias}; expected [{h}]")
    network = Network.mlp(shapes[0][0], [h for _, h in shapes[:-1]], shapes[-1][1])
    parameters = []
    for name, shape in network.parameter_shapes.items():
        entry = header[name]
        dtype = _DTYPES[entry["dtype"]]
        values = np.frombuffer(content, dtype, math.prod(shape), entry["data_offsets"][0]).reshape(shape)
        if not np.isfinite(values).all():
            raise ModelFileError(f"{shown}: {name} holds values that are not finite")
        parameters.append(values.astype(dtype.newbyteorder("="), copy=True))
    if len({tensor.dtype for tensor in parameters}) != 1:
        raise ModelFileError(f"{shown}: some tensors are F32 and some F64; expected one kind")
    texts = header.get("__metadata__", {})
    if "sha256" in texts and texts["sha256"] != tensors_sha256(parameters):
        raise ModelFileError(f"{shown}: damaged: the SHA-256 of its tensors is not the one it was saved with")
    return Stored(network, parameters, _check_metadata(texts, network, shown))


def _check_metadata(texts: dict[str, str], network: Network, shown: str) -> dict[str, Any]:
    if _KEY not in texts:  # tensors of the right names from elsewhere: usable, classes are numbers
        return {"classes": [str(c) for c in range(network.sizes[-1])]}
    found = _strict_json(texts[_KEY])
    for key, kind in _FIELDS.items():
        if key in found and (not isinstance(found[key], kind) or isinstance(found[key], bool)):
            raise ModelFileError(f"{shown}: metadata {key} is not a {kind.__name__}")  # type: ignore[union-attr]
    version = found.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelFileError(
            f"{shown}: format version {printable(version, 20)}; this fastnn reads {FORMAT_VERSION}. Update fastnn"
        )
    if found.get("layers") != list(network.sizes):
        raise ModelFileError(f"{shown}: described as {printable(found.get('layers'), 60)}, but it is {network.sizes}")
    activations = [layer.activation for layer in network.layers]
    if found.get("activations") != activations:
        raise ModelFileError(
            f"{shown}: activations {printable(found.get('activations'), 60)}; this fastnn knows {activations}"
        )
    classes = found.get("classes")
    if not isinstance(classes, list) or len(classes) != network.sizes[-1]:
        raise ModelFileError(f"{shown}: its class names do not fit its {network.sizes[-1]} outputs")
    if not all(isinstance(name, str) and len(name) <= 200 for name in classes) or len(set(classes)) != len(classes):
        raise ModelFileError(f"{shown}: its class names are not different texts")
    return found


def largest_weight_warning(stored: Stored) -> str | None:
    """A warning when some parameter is larger than any sensible training gives."""
    largest = max(float(np.abs(tensor).max()) for tensor in stored.parameters)
    return f"a parameter of {largest:.3g}: was this model trained well?" if largest > LARGE_WEIGHT else None


def shipped() -> Path:
    """The weights that come with fastnn: in the wheel, or in the checkout's ``weights/``.

    Raises
    ------
    UsageError
        When this installation lacks them.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "shipped", here.parent / "weights"):
        if (folder / "mnist.safetensors").is_file():
            return folder / "mnist.safetensors"
    raise UsageError("this installation lacks its weights; train some with 'fastnn train', or reinstall fastnn")
