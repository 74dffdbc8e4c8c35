"""What all formats share: limits, names, strict JSON, and what a reader returns."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.errors import ModelFileError, UsageError, printable
from fastnn.network import ACTIVATIONS, MAX_PARAMETERS, MAX_UNITS

MAX_TENSORS = 256
MAX_METADATA = 2**16
MAX_FILE = 2**31
SCALING = ("features.mean", "features.deviation")
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}


@dataclass(frozen=True)
class Raw:
    """What a file holds, before it is validated.

    Attributes
    ----------
    tensors : dict of str to ndarray
        ``layers.0.weight`` (inputs, units), ``layers.0.bias``, …; perhaps ``features.mean`` and
        ``features.deviation``.
    description : dict, optional
        The metadata of a file of ours; None for tensors from elsewhere.
    sha256 : str, optional
        Of the tensors, where the file says so.
    activations : list, optional
        Of each layer, where a file without a description says them.
    linear : bool
        Whether names and shapes are those of PyTorch's ``nn.Linear`` instead.
    notes : tuple of str
        What was chosen where a file could be read in several ways, for people.
    """

    tensors: dict[str, np.ndarray]
    description: dict[str, Any] | None = None
    sha256: str | None = None
    activations: list[Any] | None = None
    linear: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unsaid:
    """What a file from elsewhere may leave unsaid, as far as the caller knows it.

    Attributes
    ----------
    activation : tuple of str
        Of all hidden layers, or of each.
    order : tuple of str
        Names of the layers, in the order they run.

    Raises
    ------
    UsageError
        For an activation that there is not.
    """

    activation: tuple[str, ...] = ()
    order: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.activation:
            if name not in ACTIVATIONS:
                raise UsageError(
                    f"activation={printable(name, 40)!r}: expected one of {', '.join(ACTIVATIONS)} for all hidden "
                    f"layers, or one each"
                )


ALL_SAID = Unsaid()


def strict_json(text: str) -> dict[str, Any]:
    """A table of JSON, no key twice, no NaN.

    Raises
    ------
    ValueError
        When it is anything else.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise ValueError("a key stands twice")
        return table

    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is not a number of JSON")

    value = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    if not isinstance(value, dict):
        raise ValueError("not a table")
    return value


def check_names(names: Iterable[str], shown: str) -> None:
    """Exactly ``layers.i.weight`` and ``layers.i.bias`` for i from 0, and both or none of the scaling."""
    names = list(names)
    own = [name for name in names if name not in SCALING]
    if not 2 <= len(own) <= MAX_TENSORS:
        raise ModelFileError(f"{shown}: {len(own)} tensors; expected 2 to {MAX_TENSORS}")
    wanted = {f"layers.{i}.{kind}" for i in range(len(own) // 2) for kind in ("weight", "bias")}
    if len(own) != len(names):
        wanted |= set(SCALING)
    if set(names) != wanted or len(names) != len(wanted):
        missing = sorted(wanted - set(names))[:5]
        extra = sorted(printable(name, 40) for name in set(names) - wanted)[:5]
        raise ModelFileError(f"{shown}: tensors missing: {missing or 'none'}; not expected: {extra or 'none'}")


def check_shapes(shapes: Mapping[str, tuple[int, ...] | list[int]], shown: str) -> None:
    """Ranks, sizes from 1 to 2**20, and not too many parameters; before anything is allocated."""
    total = 0
    for name, shape in shapes.items():
        rank = 2 if name.endswith("weight") else 1
        whole = isinstance(shape, list | tuple) and all(type(n) is int and n >= 0 for n in shape)
        if not whole or len(shape) != rank or not all(1 <= n <= MAX_UNITS for n in shape):
            raise ModelFileError(
                f"{shown}: {printable(name, 60)} has shape {printable(shape, 60)}; "
                f"expected {rank} sizes of 1 to {MAX_UNITS:,}"
            )
        total += math.prod(shape)
    if total > MAX_PARAMETERS:
        raise ModelFileError(f"{shown}: {total:,} parameters; at most {MAX_PARAMETERS:,}")


def check_metadata_size(characters: int, shown: str) -> None:
    """A description is no place to hide things in."""
    if characters > MAX_METADATA:
        raise ModelFileError(f"{shown}: more than {MAX_METADATA:,} characters of metadata")
