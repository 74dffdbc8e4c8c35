"""What all formats share: limits, names, strict JSON, and what a reader returns."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.errors import ModelFileError, printable
from fastnn.network import MAX_PARAMETERS, MAX_UNITS

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
    """

    tensors: dict[str, np.ndarray]
    description: dict[str, Any] | None = None
    sha256: str | None = None


def strict_json(text: str) -> dict[str, Any]:
    """A table of JSON, no key twice, no NaN.

    Raises
    ------
    ValueError
        When it is anything else.
    """

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


_LINEAR = re.compile(r"(?:(.+)\.)?(weight|bias)")


def is_linear_naming(names: Iterable[str]) -> bool:
    """Whether these are the names that PyTorch gives the layers of a model: any prefix, weight or bias."""
    names = list(names)
    ours = [name for name in names if name.startswith("layers.") or name in SCALING]
    return not ours and len(names) >= 2 and all(_LINEAR.fullmatch(name) for name in names)


def linear_order(shapes: Mapping[str, tuple[int, ...] | list[int]], shown: str) -> dict[str, str]:
    """Our name of each tensor of a chain of ``nn.Linear``, whose weights are (outputs, inputs).

    The order is that of the file, or of the numbers in the names, whichever makes the shapes chain.
    """
    prefixes = list(dict.fromkeys(name.rpartition(".")[0] for name in shapes))
    for prefix in prefixes:
        for kind in ("weight", "bias"):
            if f"{prefix}.{kind}".lstrip(".") not in shapes:
                raise ModelFileError(
                    f"{shown}: {printable(prefix, 60)} has no {kind}; expected nn.Linear layers with both"
                )
    natural = sorted(prefixes, key=lambda text: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", text)])
    for order in (prefixes, natural):
        weights = [shapes[f"{prefix}.weight".lstrip(".")] for prefix in order]
        if all(len(w) == 2 for w in weights) and all(
            a[0] == b[1] for a, b in zip(weights[:-1], weights[1:], strict=True)
        ):
            return {
                f"{prefix}.{kind}".lstrip("."): f"layers.{i}.{kind}"
                for i, prefix in enumerate(order)
                for kind in ("weight", "bias")
            }
    listed = ", ".join(f"{printable(p, 30)} {list(shapes[f'{p}.weight'.lstrip('.')])}" for p in prefixes[:5])
    raise ModelFileError(f"{shown}: its layers do not chain: {listed}. Only a chain of nn.Linear layers can be read")
