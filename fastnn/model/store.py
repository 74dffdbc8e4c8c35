"""A model's network, parameters and description ↔ one file of any format. One validator for all of them.

Everything is checked before it is used: sizes against the real file before anything is allocated, exact tensor names,
shapes that chain, float32 or float64, finite, and the SHA-256 of the tensors. Nothing in a file can run.
"""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from fastnn.errors import FastnnError, ModelFileError, UsageError, printable
from fastnn.files import atomic_write
from fastnn.formats import ALL_SAID, FORMATS, MAX_FILE, Raw, Unsaid, linear, npz, reader_for
from fastnn.formats.base import SCALING, check_names, check_shapes
from fastnn.model.description import Description, checked_metadata, description_of, with_network
from fastnn.network import ACTIVATIONS, Network

LARGE_WEIGHT = 1e6
_PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")  # of pickles; as a length of safetensors, six zeros follow


@dataclass(frozen=True, eq=False)
class Stored:
    """What a model file holds; `fastnn.model.model.Model` is one that can be used.

    Attributes
    ----------
    network : Network
    parameters : list of ndarray
        ``[w, b, w, b, …]``, w (inputs, units), all float32 or all float64.
    metadata : dict
        The JSON that describes it, see `fastnn.model.description`; what a file of another version says besides is
        kept, and saved again.
    scaling : (ndarray, ndarray), optional
        Mean and deviation of each feature, float64 (D,): what is subtracted and divided by before the first layer.
    notes : tuple of str
        What was chosen where a file from elsewhere could be read in several ways, for people.
    """

    network: Network
    parameters: list[np.ndarray]
    metadata: dict[str, Any] = field(default_factory=dict)
    scaling: tuple[np.ndarray, np.ndarray] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shapes = list(self.network.parameter_shapes.values())
        given = [getattr(tensor, "shape", None) for tensor in self.parameters]
        if given != shapes:
            raise UsageError(f"parameters of shapes {given}; the network {self.network} has {shapes}")

    @property
    def description(self) -> Description:
        """What `metadata` says, typed; read anew each time, since that may be changed."""
        return description_of(self.metadata)

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


def save(stored: Stored, path: str | Path, kind: str | None = None) -> None:
    """Write a model file, whole or not at all.

    Parameters
    ----------
    stored : Stored
    path : str or Path
    kind : str, optional
        One of `formats.FORMATS`; by default by the end of the name, safetensors for any other.

    Raises
    ------
    UsageError
        When the format can't hold the model.
    RunError
        When it can't be written; an older file of that name is then still there.
    """
    path = Path(path)
    kind = kind_of(path, kind)
    if kind == "pytorch" and stored.scaling:
        raise UsageError(f"{printable(path)}: PyTorch's state dicts have no place for the scaling of features")
    content = FORMATS[kind][1](raw_of(stored))
    with atomic_write(path) as file:
        file.write(content)


def kind_of(path: Path, kind: str | None = None) -> str:
    """The format to write: as asked, or by the end of the name; safetensors for any other.

    Raises
    ------
    UsageError
        For a format that there is not, or a pickle.
    """
    if kind is not None and kind not in FORMATS:
        raise UsageError(f"kind={printable(kind, 40)!r}: expected one of {', '.join(FORMATS)}")
    if path.suffix in (".pt", ".pth", ".pkl"):
        raise UsageError(
            f'{printable(path)}: a pickle is not written either. For PyTorch take kind="pytorch" and a name that ends '
            f"in .safetensors; load it with safetensors.torch.load_file"
        )
    if kind is not None:
        return kind
    return next((name for name, (_, _, end) in FORMATS.items() if path.suffix == end), "safetensors")


def raw_of(stored: Stored) -> Raw:
    """A model as formats write it."""
    tensors = {
        name: np.ascontiguousarray(tensor)
        for name, tensor in zip(stored.network.parameter_shapes, stored.parameters, strict=True)
    }
    if stored.scaling:
        tensors |= dict(zip(SCALING, (np.ascontiguousarray(part, np.float64) for part in stored.scaling), strict=True))
    return Raw(tensors, with_network(stored.metadata, stored.network), _sha256(tensors))


def _sha256(tensors: dict[str, np.ndarray]) -> str:
    return tensors_sha256([tensors[name] for name in sorted(tensors, key=_place)])


def _place(name: str) -> tuple[int, bool, str]:
    """Layers in order, weight before bias; then the rest."""
    parts = name.split(".")
    return (int(parts[1]), parts[2] == "bias", name) if parts[0] == "layers" else (2**31, False, name)


def load(path: str | Path, unsaid: Unsaid = ALL_SAID) -> Stored:
    """Read and check a model file of any format, recognised by looking into it.

    Parameters
    ----------
    path : str or Path
    unsaid : Unsaid
        Activations and order of the layers, for files from elsewhere that do not say them.

    Raises
    ------
    ModelFileError
        When anything about it is not as it should be. No code in a file is ever run.
    """
    path = Path(path)
    shown = printable(path)
    try:
        if not path.exists():
            raise ModelFileError(f"{shown}: no such file")
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelFileError(f"{shown}: not a file")
        with path.open("rb") as file:
            return read(file, path.stat().st_size, shown, unsaid)
    except OSError as error:
        raise ModelFileError(f"{shown}: can't be read ({error.strerror or error})") from error


def read(file: IO[bytes], size: int, shown: str, unsaid: Unsaid = ALL_SAID) -> Stored:
    """Read and check an open model file of `size` bytes, called `shown` in messages."""
    try:
        if size > MAX_FILE:
            raise ModelFileError(f"{shown}: {size:,} bytes; at most {MAX_FILE:,}")
        start = file.read(8)
        file.seek(0)
        members = None
        if start[:4] == b"PK\x03\x04":
            with npz.opened_model(file) as archive:
                members = archive.namelist()
            file.seek(0)
        elif start[:1] == b"\x80" and start[1:2] in _PROTOCOLS and start[2:8] != b"\0\0\0\0\0\0":
            raise ModelFileError(
                f"{shown}: a pickle, which could run anything when read, so it is not. Save a safetensors file"
            )
        raw = FORMATS[reader_for(start, members)][0](file, size, shown)
        if raw.linear:
            raw = linear.in_our_names(raw, unsaid.order, shown)
        elif unsaid.order:
            raise ModelFileError(f"{shown}: its layers are numbered; leave out the order")
        return validated(raw, unsaid.activation, shown)
    except ModelFileError:
        raise
    except FastnnError as error:
        raise ModelFileError(f"{shown}: {error}") from error
    except OSError:
        raise
    except Exception as error:  # what parsers say of damaged files is of every kind
        raise ModelFileError(f"{shown}: not a model file of fastnn ({printable(error, 100)})") from error


def validated(raw: Raw, activation: tuple[str, ...], shown: str) -> Stored:
    """The one gate for every format: names, shapes that chain, finite values, the hash, a description that fits.

    Parameters
    ----------
    raw : Raw
    activation : tuple of str
        Of all hidden layers, or of each, for a file that does not say it.
    shown : str
        The file, for messages.

    Raises
    ------
    ModelFileError
        When anything is not as it should be; also when nobody says what the hidden layers compute.
    """
    check_names(raw.tensors, shown)
    check_shapes({name: tensor.shape for name, tensor in raw.tensors.items()}, shown)
    count = sum(name.startswith("layers.") for name in raw.tensors) // 2
    shapes = [raw.tensors[f"layers.{i}.weight"].shape for i in range(count)]
    for i, (k, h) in enumerate(shapes):
        if i and shapes[i - 1][1] != k:
            raise ModelFileError(
                f"{shown}: layers.{i}.weight takes {k} inputs, but the layer below gives {shapes[i - 1][1]}"
            )
        bias = raw.tensors[f"layers.{i}.bias"].shape
        if bias != (h,):
            raise ModelFileError(f"{shown}: layers.{i}.bias has shape {list(bias)}; expected [{h}]")
    plain = {name: _native(name, tensor, shown) for name, tensor in raw.tensors.items()}
    if raw.sha256 is not None and raw.sha256 != _sha256(plain):
        raise ModelFileError(f"{shown}: damaged: the SHA-256 of its tensors is not the one it was saved with")
    scaling = _checked_scaling(plain, shapes[0][0], shown)
    activations = _activations(raw, activation, count, shown)
    network = Network.mlp(shapes[0][0], [h for _, h in shapes[:-1]], shapes[-1][1], activations[:-1] or "relu")
    parameters = [plain[name] for name in network.parameter_shapes]
    if len({tensor.dtype for tensor in parameters}) != 1:
        raise ModelFileError(f"{shown}: some tensors are F32 and some F64; expected one kind")
    return Stored(network, parameters, checked_metadata(raw.description, network, shown), scaling, raw.notes)


def _native(name: str, tensor: np.ndarray, shown: str) -> np.ndarray:
    if not np.isfinite(tensor).all():
        raise ModelFileError(f"{shown}: {name} holds values that are not finite")
    return np.array(tensor, tensor.dtype.newbyteorder("="), order="C")


def _checked_scaling(plain: dict[str, np.ndarray], features: int, shown: str) -> tuple[np.ndarray, np.ndarray] | None:
    if SCALING[0] not in plain:
        return None
    mean, deviation = (plain[name] for name in SCALING)
    if mean.shape != (features,) or deviation.shape != (features,) or not (deviation > 0).all():
        raise ModelFileError(f"{shown}: its scaling of features does not fit {features} features")
    return mean.astype(np.float64), deviation.astype(np.float64)


def _activations(raw: Raw, asked: tuple[str, ...], layers: int, shown: str) -> list[str]:
    """Of each layer: as the file says, else as asked. Guessed they would give wrong answers, and nobody would know."""
    if len(asked) not in (0, 1, layers - 1):
        raise ModelFileError(
            f"{shown}: {len(asked)} activations for {layers - 1} hidden layers; expected one for all, or one each"
        )
    wanted = [*(asked * (layers - 1) if len(asked) == 1 else asked), "identity"]
    activations = raw.activations if raw.description is None else raw.description.get("activations")
    if activations is None and raw.description is None:
        if layers > 1 and not asked:
            raise ModelFileError(
                f"{shown}: does not say which activation its hidden layers have. Say it once, by 'fastnn convert' or "
                f'fastnn.load: activation="relu" (or one of {", ".join(ACTIVATIONS[1:])}; one for all, or one each)'
            )
        activations = wanted
    known = isinstance(activations, list) and all(isinstance(name, str) and name in ACTIVATIONS for name in activations)
    if not known or not isinstance(activations, list) or len(activations) != layers or activations[-1] != "identity":
        raise ModelFileError(
            f"{shown}: activations {printable(activations, 60)}; expected {layers} out of {', '.join(ACTIVATIONS)}, "
            f"identity the last"
        )
    if asked and activations != wanted:
        raise ModelFileError(
            f"{shown}: its activations are {', '.join(activations)}, and not {', '.join(wanted)}; leave out activation="
        )
    return activations


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
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "shipped", package.parent / "weights"):
        if (folder / "mnist.safetensors").is_file():
            return folder / "mnist.safetensors"
    raise UsageError("this installation lacks its weights; train some with 'fastnn train', or reinstall fastnn")
