"""Chains of PyTorch's ``nn.Linear``: tensors by any names, brought to our names, shapes and order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from fastnn.errors import ModelFileError, printable
from fastnn.formats.base import Raw

_NAME = re.compile(r"(?:(.+)\.)?(weight|bias)")
_OURS = re.compile(r"layers\.(\d{1,4})\.(?:weight|bias)")


def is_linear_naming(names: Iterable[str]) -> bool:
    """Whether these are the names that PyTorch gives the layers of a model: any prefix, weight or bias."""
    names = list(names)
    return len(names) >= 2 and all(_NAME.fullmatch(name) for name in names)


def is_linear(shapes: Mapping[str, Sequence[int]]) -> bool:
    """Whether tensors are PyTorch's, by their names; where these could be ours, by their shapes.

    A model whose layers are in an ``nn.Sequential`` called ``layers`` has our names, and weights (outputs, inputs).
    Where all weights are square nothing tells, and they are taken for ours.
    """
    if not is_linear_naming(shapes):
        return False
    numbered = [_OURS.fullmatch(name) for name in shapes]
    numbers = {int(match[1]) for match in numbered if match}
    if not all(numbered) or numbers != set(range(len(numbers))):
        return True
    pairs = [(shapes.get(f"layers.{i}.weight", ()), shapes.get(f"layers.{i}.bias", ())) for i in numbers]
    theirs, ours = (all(list(w[part]) == list(b) for w, b in pairs) for part in (slice(0, 1), slice(1, 2)))
    return theirs and not ours


def in_our_names(raw: Raw, order: Sequence[str], shown: str) -> Raw:
    """The same model as ``layers.i.weight`` (inputs, units), where PyTorch has (outputs, inputs).

    Parameters
    ----------
    raw : Raw
    order : sequence of str
        Names of the layers in the order they run; where empty, it is found out (see `_order_of`).
    shown : str
        The file, for messages.

    Raises
    ------
    ModelFileError
        When the layers do not chain, or when it can't be told in which order.
    """
    weights = {}
    for prefix in dict.fromkeys(name.rpartition(".")[0] for name in raw.tensors):
        for kind in ("weight", "bias"):
            if _full(prefix, kind) not in raw.tensors:
                raise ModelFileError(
                    f"{shown}: {printable(prefix, 60)} has no {kind}; expected nn.Linear layers with both"
                )
        weights[prefix] = raw.tensors[_full(prefix, "weight")].shape
    taken = _order_of(weights, order, shown)
    tensors = {}
    for i, prefix in enumerate(taken):
        tensors[f"layers.{i}.weight"] = raw.tensors[_full(prefix, "weight")].T
        tensors[f"layers.{i}.bias"] = raw.tensors[_full(prefix, "bias")]
    notes = raw.notes
    if raw.description is None and not order and _another_fits([weights[prefix] for prefix in taken]):
        notes = (*notes, f"layers in the order {_listed(taken)}; others fit too: if it is another, name it by order=")
    return replace(raw, tensors=tensors, linear=False, notes=notes)


def _full(prefix: str, kind: str) -> str:
    return f"{prefix}.{kind}" if prefix else kind


def _order_of(weights: dict[str, tuple[int, ...]], asked: Sequence[str], shown: str) -> list[str]:
    """As asked; else that of the names (fc2 before fc10), or that of the file: whichever makes the shapes chain.

    Where both do and they differ, nobody can know. The order of the alphabet is no second opinion: safetensors
    files are written in it, whatever the order of the layers.
    """
    file = list(weights)
    natural = sorted(file, key=lambda text: [int(t) if i % 2 else t for i, t in enumerate(re.split(r"(\d+)", text))])
    orders = [natural, file] if file not in (natural, sorted(file, key=lambda text: f"{text}.")) else [natural]
    if asked:
        if sorted(asked) != sorted(file):
            raise ModelFileError(f"{shown}: order={_listed(asked)}: its layers are {_listed(natural)}; name each once")
        orders = [list(asked)]
    fitting = [order for order in orders if _chain([weights[prefix] for prefix in order])]
    if len(fitting) > 1:
        raise ModelFileError(
            f"{shown}: its layers fit together by their names ({_listed(natural)}) and as they stand in the file "
            f"({_listed(file)}). Give the right one by order="
        )
    if not fitting:
        listed = ", ".join(f"{printable(prefix, 30)} {list(weights[prefix])}" for prefix in orders[0][:5])
        raise ModelFileError(
            f"{shown}: its layers do not chain: {listed}. Only a chain of nn.Linear layers can be read"
        )
    return fitting[0]


def _listed(names: Sequence[str]) -> str:
    return printable(",".join(names))


def _chain(weights: list[tuple[int, ...]]) -> bool:
    """Whether each layer (outputs, inputs) takes what the one before gives."""
    return all(len(w) == 2 for w in weights) and all(a[0] == b[1] for a, b in zip(weights, weights[1:], strict=False))


def _another_fits(weights: list[tuple[int, ...]]) -> bool:
    """Whether the layers of a chain could also run in another order.

    Widths are places and layers are roads between them; another way over all roads swaps two stretches with the same
    ends, or begins elsewhere on a round trip. It needs a place passed three times, two places passed in turns, or
    an end where the begin is.
    """
    widths = [weights[0][1], *(outputs for outputs, _ in weights)]
    places: dict[int, list[int]] = {}
    for at, width in enumerate(widths):
        places.setdefault(width, []).append(at)
    twice = [visits for visits in places.values() if len(visits) == 2]
    in_turns = any(a[0] < b[0] < a[1] < b[1] for a in twice for b in twice)
    thrice = any(len(visits) > 2 for visits in places.values())
    return len(weights) > 1 and (thrice or in_turns or widths[0] == widths[-1])
