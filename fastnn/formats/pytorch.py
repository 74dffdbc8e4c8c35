"""PyTorch's state dicts, read without unpickling: a machine of our own that knows a score of instructions.

`torch.save` writes a zip archive: ``data.pkl``, a program that builds a dictionary, and the numbers of each tensor as
bytes. Python's unpickler would run whatever such a program names; this one knows four names, builds plain tuples, and
refuses everything else.
"""

from __future__ import annotations

import math
import pickletools
from typing import IO, Any, NamedTuple

import numpy as np

from fastnn.archives import taken_out
from fastnn.errors import ModelFileError, printable
from fastnn.formats.base import MAX_FILE, MAX_TENSORS, Raw, check_shapes, is_linear_naming, linear_order
from fastnn.formats.npz import opened_model
from fastnn.formats.safetensors import to_linear_bytes

_MOST_PROGRAM = 2**20
_MOST_PLACES = 10_000  # of the machine's memory: nine bytes can ask for a place number of 2^31
_STORAGES: dict[str, np.dtype[Any]] = {"torch FloatStorage": np.dtype("<f4"), "torch DoubleStorage": np.dtype("<f8")}
_NAMES = ("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", *_STORAGES)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class Name(NamedTuple):
    """Something a program names; never looked up anywhere."""

    name: str


class Storage(NamedTuple):
    """Where a tensor's numbers lie."""

    dtype: np.dtype[Any]
    key: str
    size: int


class Tensor(NamedTuple):
    """A tensor to be cut out of a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Mark:
    """A place on the stack."""


def to_bytes(raw: Raw) -> bytes:
    """A file for PyTorch: safetensors with the names of ``nn.Linear``, since a pickle should not be made either."""
    return to_linear_bytes(raw)


def read(file: IO[bytes], size: int, shown: str) -> Raw:
    """The tensors of a state dict that is a chain of ``nn.Linear``."""
    with opened_model(file) as archive:
        names = archive.namelist()
        program = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
        if len(program) != 1:
            raise ModelFileError(f"{shown}: an archive with {len(program)} data.pkl; expected a state dict of PyTorch")
        folder = program[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in names and taken_out(archive, f"{folder}byteorder", 16) != b"little":
            raise ModelFileError(f"{shown}: its numbers are big-endian; save it on a little-endian machine")
        found = run(taken_out(archive, program[0], _MOST_PROGRAM), shown)
        if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
            raise ModelFileError(f"{shown}: not a state dict; save model.state_dict(), not the model")
        if not 2 <= len(found) <= MAX_TENSORS or not is_linear_naming(map(str, found)):
            listed = ", ".join(printable(name, 30) for name in list(found)[:5])
            raise ModelFileError(f"{shown}: tensors {listed or 'none'}; expected weight and bias of nn.Linear layers")
        check_shapes({name: tensor.shape for name, tensor in found.items()}, shown)
        ours = linear_order({name: tensor.shape for name, tensor in found.items()}, shown)
        tensors = {}
        for theirs, tensor in found.items():
            key = f"{folder}data/{tensor.storage.key}"
            if key not in names:
                raise ModelFileError(f"{shown}: {printable(theirs, 60)}: its numbers are not in the archive")
            values = _cut(tensor, taken_out(archive, key, MAX_FILE), theirs, shown)
            tensors[ours[theirs]] = values.T if values.ndim == 2 else values
    return Raw(tensors)


def _cut(tensor: Tensor, content: bytes, name: str, shown: str) -> np.ndarray:
    """A tensor out of the bytes of its storage; nothing outside of them is ever looked at."""
    storage = tensor.storage
    if len(content) != storage.size * storage.dtype.itemsize:
        raise ModelFileError(
            f"{shown}: {printable(name, 60)}: a storage of {storage.size:,} numbers in {len(content):,} bytes"
        )
    contiguous = tuple(math.prod(tensor.shape[i + 1 :]) for i in range(len(tensor.shape)))
    if tensor.strides != contiguous:
        raise ModelFileError(f"{shown}: {printable(name, 60)} does not lie in one piece; save tensor.contiguous()")
    if tensor.offset < 0 or tensor.offset + math.prod(tensor.shape) > storage.size:
        raise ModelFileError(f"{shown}: {printable(name, 60)} reaches outside its storage")
    flat = np.frombuffer(content, storage.dtype, math.prod(tensor.shape), tensor.offset * storage.dtype.itemsize)
    return flat.reshape(tensor.shape)


def run(program: bytes, shown: str) -> Any:
    """What the program builds: dictionaries, tuples, texts, numbers and `Tensor`.

    Raises
    ------
    ModelFileError
        For an instruction or a name that no state dict of plain tensors needs.
    """
    stack: list[Any] = []
    places: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(program):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            if len(stack) != 1:
                break
            return stack[0]
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"):
            stack.append(argument)
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "MARK":
            stack.append(_Mark)
        elif name == "GLOBAL":
            stack.append(_named(argument, shown))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_named(f"{module} {attribute}", shown))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(places) if name == "MEMOIZE" else argument
            if place >= _MOST_PLACES:
                raise ModelFileError(f"{shown}: a program that asks for place {place:,}; no state dict needs that")
            places[place] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(places[argument])
        elif name == "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _fill(stack, [key, value], shown)
        elif name == "SETITEMS":
            _fill(stack, _since_mark(stack), shown)
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop(), shown))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_built(function, arguments, shown))
        elif name == "BUILD":  # the attributes of a state dict: _metadata, of no use to us
            if not isinstance(stack.pop(), dict) or not isinstance(stack[-1], dict):
                raise ModelFileError(f"{shown}: a program that changes something else than a dictionary")
        else:
            raise ModelFileError(f"{shown}: a program with the instruction {name}; no state dict needs that")
        if len(stack) > _MOST_PLACES:
            raise ModelFileError(f"{shown}: a program that builds too much")
    raise ModelFileError(f"{shown}: a program that does not end well")


def _since_mark(stack: list[Any]) -> list[Any]:
    at = len(stack) - 1 - stack[::-1].index(_Mark)
    found = stack[at + 1 :]
    del stack[at:]
    return found


def _fill(stack: list[Any], pairs: list[Any], shown: str) -> None:
    if not isinstance(stack[-1], dict) or len(pairs) % 2 or not all(isinstance(key, str) for key in pairs[::2]):
        raise ModelFileError(f"{shown}: a program that fills something else than a dictionary of names")
    stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))


def _named(name: str, shown: str) -> Name:
    if name not in _NAMES:
        kind = "float16, bfloat16 and whole numbers are not read" if "Storage" in name else "nothing of it was run"
        raise ModelFileError(f"{shown}: a program that names {printable(name, 80)}: refused, {kind}")
    return Name(name)


def _storage(found: Any, shown: str) -> Storage:
    """('storage', FloatStorage, key, device, size)."""
    if (
        isinstance(found, tuple)
        and len(found) == 5
        and found[0] == "storage"
        and isinstance(found[1], Name)
        and found[1].name in _STORAGES
        and isinstance(found[2], str)
        and type(found[4]) is int
        and 0 <= found[4] <= MAX_FILE
    ):
        return Storage(_STORAGES[found[1].name], found[2], found[4])
    raise ModelFileError(f"{shown}: a storage that is none")


def _built(function: Any, arguments: Any, shown: str) -> Any:
    """The result of one of the four names."""
    if isinstance(function, Name) and isinstance(arguments, tuple):
        if function.name == "collections OrderedDict" and arguments == ():
            return {}
        if function.name == "torch._utils _rebuild_parameter" and arguments and isinstance(arguments[0], Tensor):
            return arguments[0]
        if function.name == "torch._utils _rebuild_tensor_v2" and len(arguments) >= 4:
            storage, offset, shape, strides = arguments[:4]
            numbers = [offset, *shape, *strides] if isinstance(shape, tuple) and isinstance(strides, tuple) else [None]
            if isinstance(storage, Storage) and all(type(n) is int for n in numbers):
                return Tensor(storage, offset, shape, strides)
    raise ModelFileError(
        f"{shown}: a program that calls {printable(function, 80)} in an odd way; nothing of it was run"
    )
