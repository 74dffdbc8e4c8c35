"""What a run may begin from instead of random weights: a model, or plain arrays.

A model brings its scaling, the scale of its features and its classes along, so that the same numbers mean the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.datasets import Dataset, Split, relabelled
from fastnn.datasets.base import check_range, is_sparse, with_scale
from fastnn.errors import ArgumentTypeError, DataError, UsageError, printable
from fastnn.model.inference import Scaling
from fastnn.model.model import Model
from fastnn.model.store import tensors_sha256
from fastnn.network import Network
from fastnn.training.preparation import scaling_of
from fastnn.training.settings import Settings, changed, plain

Initial = Model | Sequence[Any] | None


def layers_of(network: Network) -> dict[str, Any]:
    """The settings ``hidden`` and ``activation`` that make such a network."""
    each = tuple(network.activations[:-1])
    activation = each if len(set(each)) > 1 else each[:1] or Settings.activation
    return {"hidden": tuple(network.hidden_units), "activation": activation}


def unsaid_layers(initial: Initial, settings: Settings, said: Mapping[str, Any]) -> dict[str, Any]:
    """The model's ``hidden`` and ``activation``, where nothing is said of them; nothing where other layers are said.

    Parameters
    ----------
    initial : Model or sequence of array_like, optional
    settings : Settings
        What they say counts where it is not the default.
    said : mapping of str
        Settings that count whatever they are.
    """
    if not isinstance(initial, Model):
        return {}
    own, asked = layers_of(initial.network), {**vars(settings), **said}
    unsaid = [name for name in own if name not in said and asked[name] == getattr(Settings, name)]
    other = "hidden" not in unsaid and plain(asked["hidden"], Settings.hidden) != own["hidden"]
    return {} if other else {name: own[name] for name in unsaid}


def settings_like(initial: Initial, settings: Settings, said: Mapping[str, Any]) -> Settings:
    """Settings with the layers of the model that is begun from; see `unsaid_layers`.

    Raises
    ------
    UsageError
        When they say other layers.
    """
    if not isinstance(initial, Model | list | tuple | None):
        raise ArgumentTypeError(
            f"initial of type {type(initial).__name__}: expected a model, of fastnn.load for example, or arrays "
            f"[w, b, w, b, …]"
        )
    if initial is not None and settings.initialisation != Settings.initialisation:
        raise UsageError(f"initialisation={settings.initialisation!r}: it is not used with initial=")
    if not isinstance(initial, Model):
        return settings
    settings = changed(settings, unsaid_layers(initial, settings, said))
    own, sizes = layers_of(initial.network), initial.network.sizes
    if Network.mlp(sizes[0], settings.hidden, sizes[-1], settings.activation) != initial.network:
        asked = {name: getattr(settings, name) for name in own}
        raise UsageError(
            f"initial=model has {_listed(own)}; the settings say {_listed(asked)}. Leave these out, or begin from "
            f"another model"
        )
    return settings


def _listed(layers: dict[str, Any]) -> str:
    return ", ".join(f"{name}={printable(value, 60)}" for name, value in layers.items())


def dataset_like(initial: Initial, dataset: Dataset) -> Dataset:
    """A data set with its labels in the order of the model's classes, and the scale of the model's features.

    Raises
    ------
    DataError
        When features or classes are not those of the model, or pixels are of another range.
    """
    if not isinstance(initial, Model):
        return dataset
    if dataset.features != initial.network.inputs:
        raise DataError(f"{dataset.name}: {dataset.features} features; initial=model takes {initial.network.inputs}")
    labels, own = dataset.train.y.ndim == 1, initial.classes
    if sorted(dataset.classes) != sorted(own) or not (labels or dataset.classes == own):
        raise DataError(
            f"{dataset.name}: of the classes {_named(dataset.classes)}; initial=model tells {_named(own)} apart. "
            f"Both need the same ones"
        )

    def part(split: Split | None) -> Split | None:
        if split is None:
            return None
        split = relabelled(split, dataset.classes, own, dataset.name) if labels else split
        if split.scale == initial.scale:
            return split
        check_range(split.x, initial.scale, initial.trained_range, dataset.name)
        return with_scale(split, initial.scale)

    train = part(dataset.train)
    assert train is not None
    return replace(dataset, train=train, test=part(dataset.test), validation=part(dataset.validation), classes=own)


def _named(classes: tuple[str, ...]) -> str:
    return printable(", ".join(classes), 80)


def scaling_like(initial: Initial, dataset: Dataset, train: Split, settings: Settings) -> Scaling | None:
    """Mean and deviation of each feature: those of the model that is begun from, else of the training examples.

    Raises
    ------
    UsageError
        When the setting ``features`` says otherwise, or sparse examples would have to be made dense.
    """
    if not isinstance(initial, Model):
        return scaling_of(dataset, train, settings)
    own = "raw" if initial.scaling is None else "standard"
    if settings.features not in ("auto", own):
        raise UsageError(f'features={settings.features!r}: initial=model was trained with features="{own}"')
    if initial.scaling is not None and is_sparse(train.x):
        raise UsageError("initial=model scales its features, which would make sparse examples dense")
    return initial.scaling


def parameters_for(initial: Initial, network: Network, settings: Settings, dtype: str) -> list[np.ndarray]:
    """What a run begins from, plain ``[w, b, w, b, …]``: as given, else random.

    Raises
    ------
    UsageError
        When given arrays have other shapes than the network, or are not finite in this number type.
    ArgumentTypeError
        When they are not of numbers.
    """
    if initial is None:
        return network.initial_parameters(settings.seed, settings.initialisation)
    arrays = initial.parameters if isinstance(initial, Model) else initial
    shapes = network.parameter_shapes
    if len(arrays) != len(shapes):
        raise UsageError(
            f"initial: {len(arrays)} arrays; expected {len(shapes)}, [w, b, w, b, …] of the layers {network}"
        )
    return [_checked(array, name, shape, dtype) for array, (name, shape) in zip(arrays, shapes.items(), strict=True)]


def _checked(array: Any, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    try:
        given = np.asarray(array)
    except ValueError as error:  # rows of different lengths
        raise UsageError(f"initial: {name} is not an array of shape {shape}") from error
    if given.dtype.kind not in "iuf":
        raise ArgumentTypeError(f"initial: {name} is of type {given.dtype}; expected numbers")
    if given.shape != shape:
        raise UsageError(f"initial: {name} has shape {given.shape}; expected {shape}")
    with np.errstate(over="ignore"):
        cast = given.astype(dtype)
    if not np.isfinite(cast).all():
        raise UsageError(f"initial: {name} holds values that are not finite in {dtype}")
    return cast


def sha256_of(parameters: list[np.ndarray], scaling: Scaling | None, scale: float) -> str:
    """Of all that a run which was given weights depends on through them."""
    digest = hashlib.sha256(f"{tensors_sha256(parameters)} {scale!r}".encode())
    for part in scaling or ():
        digest.update(np.ascontiguousarray(part, np.float64).data)
    return digest.hexdigest()
