"""What is known of a model beside its numbers: each part typed, and how it stands in the JSON of model files.

Other versions of fastnn may say more. So a model keeps that JSON as it is (`Stored.metadata`), and saves all of it;
this module alone knows its keys. What is not said, or is of another type than it can be, takes its default.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from fastnn.errors import ModelFileError, printable
from fastnn.formats.base import check_metadata_size
from fastnn.network import Network
from fastnn.ranges import MOST_LETTERS

FORMAT_VERSION = 1
UNBOUNDED = (-math.inf, math.inf)
_MOST_PIXELS = 4_096  # of a side
_KINDS: dict[str, type] = {
    "format_version": int,
    "layers": list,
    "activations": list,
    "classes": list,
    "label_type": str,
    "preprocessing": dict,
    "training": dict,
    "history": dict,
    "data": dict,
    "calibration": dict,
    "fastnn_version": str,
}
_TEXTS = (("preprocessing", "recipe"), ("training", "loss"))
_NUMBERS = (  # that something is computed with: where, lowest, highest
    ("calibration", "temperature", 1e-3, 1e3),
    ("calibration", "unsure_below", 0.0, 1.0),
    ("training", "huber_delta", 1e-300, 1e300),
    ("preprocessing", "scale", 1e-9, 1e9),
)

Metadata = Mapping[str, Any]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Preprocessing:
    """How examples become what the network takes.

    Attributes
    ----------
    recipe : str
        How pictures are prepared: one of `fastnn.images.RECIPES`.
    scale : float
        What features are multiplied by: 1/255 for pixels from 0 to 255, else 1.
    range : (float, float), optional
        What all features go from and to, before the scale; `UNBOUNDED` where it is not the same for all. None where
        nothing is known.
    image_shape : (int, int), optional
        Height and width, of examples that are pictures.
    """

    recipe: str = "mnist"
    scale: float = 1.0
    range: tuple[float, float] | None = None
    image_shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class History:
    """How the training went.

    Attributes
    ----------
    epochs : int, optional
        Done.
    loss, accuracy : float, optional
        Of the last epoch.
    curves : mapping of str to list of float
        What changed from epoch to epoch, as columns; see `fastnn.training.run.curves`. Columns of a file are not looked
        at before they are used.
    best_epoch : int, optional
    best_validation_loss : float, optional
        Where there was validation.
    """

    epochs: int | None = None
    loss: float | None = None
    accuracy: float | None = None
    curves: Mapping[str, list[float]] = field(default_factory=dict)
    best_epoch: int | None = None
    best_validation_loss: float | None = None


@dataclass(frozen=True)
class TrainingData:
    """What it was trained on.

    Attributes
    ----------
    name : str, optional
        Of the data set.
    examples : int, optional
    fingerprint : str, optional
        SHA-256 of them.
    """

    name: str | None = None
    examples: int | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class Calibration:
    """What is fitted.

    Attributes
    ----------
    temperature : float
        What logits are divided by before softmax (Guo et al. 2017).
    unsure_below : float
        Confidence below which an answer is called unsure.
    examples : int
        It was fitted on.
    """

    temperature: float = 1.0
    unsure_below: float = 0.0
    examples: int = 0


@dataclass(frozen=True)
class Description:
    """All that is known of a model beside its numbers.

    Attributes
    ----------
    classes : tuple of str
        Their names, in the order of the outputs; empty where nobody named them.
    label_type : str
        One of `fastnn.datasets.base.LABEL_TYPES`.
    preprocessing : Preprocessing
    training : mapping of str
        The settings it was trained with, see `fastnn.training.settings.Settings`; those of other versions may differ.
    history : History
    data : TrainingData
    calibration : Calibration
    initial : str, optional
        SHA-256 of the weights that the training began from; None for random ones.
    fastnn_version : str, optional
        That trained it.
    """

    classes: tuple[str, ...] = ()
    label_type: str = "index"
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    training: Metadata = field(default_factory=dict)
    history: History = field(default_factory=History)
    data: TrainingData = field(default_factory=TrainingData)
    calibration: Calibration = field(default_factory=Calibration)
    initial: str | None = None
    fastnn_version: str | None = None


def as_json(description: Description) -> dict[str, Any]:
    """A description as the metadata of a model; what is None in it is left out, or null."""
    history = description.history
    best = {"best_epoch": history.best_epoch, "best_validation_loss": history.best_validation_loss}
    metadata: dict[str, Any] = {
        "classes": list(description.classes),
        "label_type": description.label_type,
        "preprocessing": _preprocessing_as_json(description.preprocessing),
        "training": dict(description.training),
        "history": {
            "epochs": history.epochs,
            "loss": history.loss,
            "accuracy": history.accuracy,
            "curves": dict(history.curves),
            **(best if history.best_epoch is not None else {}),
        },
        "data": asdict(description.data),
    }
    if description.fastnn_version is not None:
        metadata["fastnn_version"] = description.fastnn_version
    if description.initial is not None:
        metadata["initial"] = description.initial
    if description.calibration != Calibration():
        metadata["calibration"] = asdict(description.calibration)
    return metadata


def _preprocessing_as_json(part: Preprocessing) -> dict[str, Any]:
    # null says that there are no bounds; where nothing is known, nothing is said
    bounds = {} if part.range is None else {"range": None if part.range == UNBOUNDED else list(part.range)}
    shape = list(part.image_shape) if part.image_shape else None
    return {"recipe": part.recipe, "scale": part.scale, **bounds, "image_shape": shape}


def description_of(metadata: Metadata) -> Description:
    """All that metadata says; a part alone is read several times faster."""
    return Description(
        classes_of(metadata),
        label_type_of(metadata),
        preprocessing_of(metadata),
        training_of(metadata),
        history_of(metadata),
        data_of(metadata),
        calibration_of(metadata),
        _told(metadata, "initial", str),
        _told(metadata, "fastnn_version", str),
    )


def classes_of(metadata: Metadata) -> tuple[str, ...]:
    """Names of the classes; empty where it says none."""
    return tuple(metadata.get("classes") or ())


def numbered_classes(network: Network) -> list[str]:
    """The names of classes that nobody has named."""
    return [str(c) for c in range(network.outputs)]


def label_type_of(metadata: Metadata) -> str:
    """What labels were before they were numbered."""
    return str(metadata.get("label_type", Description.label_type))


def preprocessing_of(metadata: Metadata) -> Preprocessing:
    """How examples become what the network takes."""
    group, default = _group(metadata, "preprocessing"), Preprocessing
    bounds, shape = _pair(group.get("range"), int, float), _pair(group.get("image_shape"), int)
    return Preprocessing(
        str(group.get("recipe", default.recipe)),
        float(group.get("scale", default.scale)),
        bounds or (UNBOUNDED if "range" in group else None),
        shape if shape and min(shape) > 0 and max(shape) <= _MOST_PIXELS else None,
    )


def _pair(value: Any, *kinds: type) -> tuple[Any, Any] | None:
    """Two of exactly these kinds: true is no number."""
    is_one = isinstance(value, list) and len(value) == 2 and all(type(one) in kinds for one in value)
    return (value[0], value[1]) if is_one else None


def training_of(metadata: Metadata) -> Metadata:
    """The settings it was trained with."""
    return _group(metadata, "training")


def loss_of(metadata: Metadata) -> str:
    """What it was trained by, whether this version knows such a loss or not."""
    return str(training_of(metadata).get("loss", "softmax"))


def huber_delta_of(metadata: Metadata) -> float:
    """Of the Huber loss, whether it was trained by that or not."""
    return float(training_of(metadata).get("huber_delta", 1.0))


def history_of(metadata: Metadata) -> History:
    """How the training went."""
    group = _group(metadata, "history")
    return History(
        _told(group, "epochs", int),
        _told(group, "loss", int, float),
        _told(group, "accuracy", int, float),
        _group(group, "curves"),
        _told(group, "best_epoch", int),
        _told(group, "best_validation_loss", int, float),
    )


def data_of(metadata: Metadata) -> TrainingData:
    """What it was trained on."""
    group = _group(metadata, "data")
    return TrainingData(_told(group, "name", str), _told(group, "examples", int), _told(group, "fingerprint", str))


def calibration_of(metadata: Metadata) -> Calibration:
    """What was fitted; what changes nothing where it was not."""
    group, default = _group(metadata, "calibration"), Calibration
    return Calibration(
        float(group.get("temperature", default.temperature)),
        float(group.get("unsure_below", default.unsure_below)),
        _told(group, "examples", int) or 0,
    )


def _group(metadata: Metadata, key: str) -> Metadata:
    group = metadata.get(key)
    return group if isinstance(group, Mapping) else {}


def _told(group: Metadata, key: str, *kinds: type[_T]) -> _T | None:
    value = group.get(key)
    return value if isinstance(value, kinds) else None


def with_network(metadata: Metadata, network: Network) -> dict[str, Any]:
    """Metadata as files hold it: with what they say of the network, and the version of all that.

    Classes that nobody has named are numbers.
    """
    unnamed = {} if "classes" in metadata else {"classes": numbered_classes(network)}
    return {
        **unnamed,
        **metadata,
        "format_version": FORMAT_VERSION,
        "layers": list(network.sizes),
        "activations": list(network.activations),
    }


def checked_metadata(metadata: dict[str, Any] | None, network: Network, shown: str) -> dict[str, Any]:
    """The metadata of a file, all that it says; the least there is for a file that says nothing.

    Parameters
    ----------
    metadata : dict, optional
        None for tensors from elsewhere.
    network : Network
        What the tensors are, which it must fit.
    shown : str
        The file, for messages.

    Raises
    ------
    ModelFileError
        When it is of another version, of another network, or says what no model can be.
    """
    if metadata is None:  # tensors of the right names from elsewhere: usable, classes are numbers
        return {"classes": numbered_classes(network)}
    check_metadata_size(len(json.dumps(metadata)), shown)
    for key, kind in _KINDS.items():
        if key in metadata and (not isinstance(metadata[key], kind) or isinstance(metadata[key], bool)):
            raise ModelFileError(f"{shown}: metadata {key} is not a {kind.__name__}")
    version = metadata.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelFileError(
            f"{shown}: format version {printable(version, 20)}; this fastnn reads {FORMAT_VERSION}. Update fastnn"
        )
    layers = metadata.get("layers")
    if layers != list(network.sizes):
        raise ModelFileError(f"{shown}: described as {printable(layers, 60)}, but it is {network.sizes}")
    classes = metadata.get("classes")
    if not isinstance(classes, list) or len(classes) != network.outputs:
        raise ModelFileError(f"{shown}: its class names do not fit its {network.outputs} outputs")
    named = all(isinstance(name, str) and len(name) <= MOST_LETTERS for name in classes)
    if not named or len(set(classes)) != len(classes):
        raise ModelFileError(f"{shown}: its class names are not different texts of up to {MOST_LETTERS} letters")
    for group, key in _TEXTS:
        text = metadata.get(group, {}).get(key, "")
        if not isinstance(text, str):
            raise ModelFileError(f"{shown}: {group} {key} is {printable(text, 40)}; expected a text")
    for group, key, low, high in _NUMBERS:
        value = metadata.get(group, {}).get(key, 1.0)
        if type(value) not in (int, float) or not low <= value <= high:
            raise ModelFileError(
                f"{shown}: {group} {key} is {printable(value, 40)}; expected a number from {low:g} to {high:g}"
            )
    return metadata
