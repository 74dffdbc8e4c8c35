"""`fastnn convert`: a model in another format, and what can be said of one from elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastnn.cli.display import note, say
from fastnn.cli.options import check_out
from fastnn.cli.wording import in_options
from fastnn.errors import printable

if TYPE_CHECKING:
    from fastnn.model.model import Model

_DIGITS = tuple("0123456789")
_DRAWN = 200


def convert(
    source: Annotated[Path, typer.Argument(help="Model: safetensors, npz, JSON, or a state dict of PyTorch (.pt).")],
    target: Annotated[Path, typer.Argument(help="File to write: .safetensors, .npz or .json.")],
    to: Annotated[
        str | None,
        typer.Option("--to", help="safetensors, npz, json or pytorch (nn.Linear names); by the name otherwise."),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            "--activation",
            help="Of the hidden layers, for a file that does not say: relu, leaky-relu, gelu, tanh, logistic or "
            "identity; one for all, or one each: tanh,relu.",
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option("--order", help="Names of the layers in the order they run, where several fit: fc1,fc2,fc3."),
    ] = None,
) -> None:
    """Write a model in another format, checked and tried on the way; nothing in a file is ever run."""
    from fastnn.model import store
    from fastnn.model.model import load

    check_out(target, "convert")
    kind = store.kind_of(target, to)
    model = load(source, _listed(activation), _listed(order))
    store.save(model, target, kind)
    for text in model.notes:
        note(f"{printable(source)}: {in_options(text)}")
    say(f"{printable(target)}: {model.network}, sha256 {model.sha256}")
    say(f"activations: {', '.join(model.network.activations)}; {_tried(model, bool(activation))}")


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _tried(model: Model, compare: bool) -> str:
    """What the model answers on something: a wrong activation or scale shows in what it reads.

    Beside it, where `compare`, what it would read with each activation in all hidden layers: which one a file from
    elsewhere was trained with, only its owner knows.
    """
    import numpy as np

    from fastnn.network import ACTIVATIONS, Network

    network = model.network
    with np.errstate(all="ignore"):
        z = model.logits(np.random.default_rng(0).random((16, network.inputs), np.float32), engine="numpy")
    if not np.isfinite(z).all():
        return "WARNING: some outputs are not finite for inputs from 0 to 1"
    if network.inputs != 784 or model.classes != _DIGITS or model.loss != "softmax":
        return "all outputs are finite"
    from fastnn.datasets import Split, draw
    from fastnn.datasets.base import PIXEL

    digits = Split(*draw(_DRAWN), scale=PIXEL)

    def right(model: Model) -> int:
        return round((model.evaluate(digits, engine="numpy").accuracy or 0) * _DRAWN)

    answer = f"reads {right(model)} of {_DRAWN} drawn digits"
    if not compare:
        return answer
    each = {
        name: right(replace(model, network=Network.mlp(784, network.hidden_units, 10, name))) for name in ACTIVATIONS
    }
    return f"{answer} (by activation: {', '.join(f'{name} {count}' for name, count in each.items())})"
