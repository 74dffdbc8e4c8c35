"""PyTorch's state dicts, read without unpickling: a machine of our own that knows a score of instructions.

`torch.save` writes a zip archive: ``data.pkl``, a program that builds a dictionary, and the numbers of each tensor as
bytes. Python's unpickler would run whatever such a program names; this one knows three names and those of storages,
builds plain tuples, and refuses everything else.
"""

from __future__ import annotations

import math
import pickletools
import re
import zipfile
from typing import IO, Any, NamedTuple

import numpy as np

from fastnn.archives import take_into, taken_out
from fastnn.errors import ModelFileError, printable
from fastnn.formats.base import MAX_FILE, MAX_TENSORS, Raw, check_shapes
from fastnn.formats.linear import is_linear_naming
from fastnn.formats.npz import opened_model
from fastnn.formats.safetensors import to_linear_bytes

_MOST_PROGRAM = 2**20
_MOST_PLACES = 10_000  # of the machine's memory: nine bytes can ask for a place number of 2^31
_STORAGES: dict[str, np.dtype[Any]] = {"torch FloatStorage": np.dtype("<f4"), "torch DoubleStorage": np.dtype("<f8")}
_ANY_STORAGE = re.compile(r"torch [A-Z][A-Za-z0-9]{1,30}Storage")  # an optimizer's and a generator's may be of any kind
_NAMES = ("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class Name(NamedTuple):
    """Something a program names; never looked up anywhere."""

    name: str


class Storage(NamedTuple):
    """Where a tensor's numbers lie, and of what kind they are: a name such as ``torch FloatStorage``."""

    kind: str
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
    """The tensors of a state dict, or of the one in a checkpoint, by their own names."""
    with opened_model(file) as archive:
        names = archive.namelist()
        program = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
        if len(program) != 1:
            raise ModelFileError(f"{shown}: an archive with {len(program)} data.pkl; expected a state dict of PyTorch")
        folder = program[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in names and taken_out(archive, f"{folder}byteorder", 16) != b"little":
            raise ModelFileError(f"{shown}: its numbers are big-endian; save it on a little-endian machine")
        tensors, notes = _state_dict(run(taken_out(archive, program[0], _MOST_PROGRAM), shown), shown)
        if not 2 <= len(tensors) <= MAX_TENSORS or not is_linear_naming(tensors):
            listed = ", ".join(printable(name, 30) for name in list(tensors)[:5])
            raise ModelFileError(f"{shown}: tensors {listed or 'none'}; expected weight and bias of nn.Linear layers")
        check_shapes({name: tensor.shape for name, tensor in tensors.items()}, shown)
        return Raw(_taken(archive, f"{folder}data/", tensors, shown), linear=True, notes=notes)


def _state_dict(unpickled: Any, shown: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of a model; where a checkpoint holds more than them, those of its only chain of layers."""
    if _holds_tensors(unpickled):
        return unpickled, ()
    nested = unpickled.items() if isinstance(unpickled, dict) else ()
    chains = {str(name): inner for name, inner in nested if _holds_tensors(inner) and is_linear_naming(inner)}
    if len(chains) > 1:
        raise ModelFileError(f"{shown}: holds several models, {printable(', '.join(chains))}; save the one alone")
    if not chains:
        raise ModelFileError(
            f"{shown}: no state dict of nn.Linear layers in it; save model.state_dict(), not the model"
        )
    name, inner = next(iter(chains.items()))
    return inner, (f"taken from {printable(name, 60)!r} of the checkpoint",)


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())


def _taken(archive: zipfile.ZipFile, folder: str, tensors: dict[str, Tensor], shown: str) -> dict[str, np.ndarray]:
    """Numbers for the tensors: each storage is read once, when it is known that no number is asked for twice."""
    storages: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        key = f"{folder}{tensor.storage.key}"
        storages[key] = _checked_storage(archive, key, tensor, f"{shown}: {printable(name, 60)}")
    if sum(math.prod(tensor.shape) for tensor in tensors.values()) > sum(flat.size for flat in storages.values()):
        raise ModelFileError(f"{shown}: tensors that share their numbers; save a clone of each")
    for key, flat in storages.items():
        take_into(archive, key, flat)
    return {name: _cut(tensor, storages[f"{folder}{tensor.storage.key}"]) for name, tensor in tensors.items()}


def _checked_storage(archive: zipfile.ZipFile, key: str, tensor: Tensor, shown: str) -> np.ndarray:
    """Room for a storage that the tensor fits into; the archive holds as many bytes."""
    storage = tensor.storage
    if storage.kind not in _STORAGES:
        raise ModelFileError(f"{shown} is of {storage.kind}; only float32 and float64 are read. Save model.float()")
    if key not in archive.NameToInfo:
        raise ModelFileError(f"{shown}: its numbers are not in the archive")
    size, dtype = archive.getinfo(key).file_size, _STORAGES[storage.kind]
    if size != storage.size * dtype.itemsize:
        raise ModelFileError(f"{shown}: a storage of {storage.size:,} numbers in {size:,} bytes")
    contiguous = tuple(math.prod(tensor.shape[i + 1 :]) for i in range(len(tensor.shape)))
    if tensor.strides != contiguous:
        raise ModelFileError(f"{shown} does not lie in one piece; save tensor.contiguous()")
    if tensor.offset < 0 or tensor.offset + math.prod(tensor.shape) > storage.size:
        raise ModelFileError(f"{shown} reaches outside its storage")
    return np.empty(storage.size, dtype)


def _cut(tensor: Tensor, flat: np.ndarray) -> np.ndarray:
    return flat[tensor.offset : tensor.offset + math.prod(tensor.shape)].reshape(tensor.shape)


def run(program: bytes, shown: str) -> Any:
    """What the program builds: dictionaries, lists, tuples, texts, numbers and `Tensor`.

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
        elif name in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"):
            stack.append(argument)
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else _since_mark(stack)
            if not isinstance(stack[-1], list):
                raise ModelFileError(f"{shown}: a program that appends to something else than a list")
            stack[-1].extend(items)
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
    items = []
    while (top := stack.pop()) is not _Mark:  # from the top: what lies below may be long
        items.append(top)
    return items[::-1]


def _fill(stack: list[Any], pairs: list[Any], shown: str) -> None:
    named = all(isinstance(key, str | int) for key in pairs[::2])  # an optimizer counts its parameters
    if not isinstance(stack[-1], dict) or len(pairs) % 2 or not named:
        raise ModelFileError(f"{shown}: a program that fills something else than a dictionary of names")
    stack[-1].update(zip(pairs[::2], pairs[1::2], strict=True))


def _named(name: str, shown: str) -> Name:
    if name not in _NAMES and not _ANY_STORAGE.fullmatch(name):
        raise ModelFileError(f"{shown}: a program that names {printable(name, 80)}: refused, nothing of it was run")
    return Name(name)


def _storage(persistent_id: Any, shown: str) -> Storage:
    """('storage', FloatStorage, key, device, size)."""
    if (
        isinstance(persistent_id, tuple)
        and len(persistent_id) == 5
        and persistent_id[0] == "storage"
        and isinstance(persistent_id[1], Name)
        and _ANY_STORAGE.fullmatch(persistent_id[1].name)
        and isinstance(persistent_id[2], str)
        and type(persistent_id[4]) is int
        and 0 <= persistent_id[4] <= MAX_FILE
    ):
        return Storage(persistent_id[1].name, persistent_id[2], persistent_id[4])
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
    called = function.name if isinstance(function, Name) else "something"  # tuples of tuples could be endless texts
    raise ModelFileError(f"{shown}: a program that calls {called} in an odd way; nothing of it was run")
