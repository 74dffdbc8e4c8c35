"""Checkpoints: all that a run consists of ↔ one file, so that it can go on to the same bits as if never stopped.

A folder holds ``checkpoint.safetensors`` and the one before it, ``previous.safetensors``. Files are written whole or
not at all; one that is damaged all the same is passed over for the one before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np

from fastnn.errors import FastnnError, ModelFileError, RunError, UsageError, printable
from fastnn.files import atomic_write
from fastnn.formats.safetensors import packed
from fastnn.training.early_stopping import EarlyStopping
from fastnn.training.run import Epoch, State, Training
from fastnn.training.settings import Settings

NAME, PREVIOUS, LOCK = "checkpoint.safetensors", "previous.safetensors", "lock"
FORMAT_VERSION = 2
_READ = (1, 2)  # the hash of version 1 does not cover names, types and shapes; `restore` compares them with the run
_KEY = "fastnn-checkpoint"
_SHARE = 20  # a checkpoint that took a second is followed by 20 without
_ANY_EPOCHS = ("constant", "decay", "step", "exponential")  # schedules that do not depend on how many there will be


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint holds.

    Attributes
    ----------
    settings : dict
        All but ``threads``, which may change.
    data : str
        Fingerprint of the examples.
    dtype : str
    lanes : int
        Width of the vectors that the kernels were compiled for: another one gives other bits.
    fastnn_version : str
    epoch, step, totals, seconds, watch, history
        See `fastnn.training.run.State`.
    tensors : dict of str to ndarray
        ``parameters.layers.0.weight`` … for every buffer of the state.
    began_from : str, optional
        Hash of the weights that the run was given to begin from; None where they were random.
    """

    settings: dict[str, Any]
    data: str
    dtype: str
    lanes: int
    fastnn_version: str
    epoch: int
    step: int
    totals: list[float]
    seconds: float
    watch: dict[str, Any]
    history: list[dict[str, Any]]
    tensors: dict[str, np.ndarray]
    began_from: str | None = None


def take(run: Training) -> Snapshot:
    """What a run consists of now; call it where `Training.on_safe` does."""
    from fastnn import __version__
    from fastnn.kernels.host import SHAPE

    state = run.state
    tensors = {
        f"{buffer}.{name}": tensor
        for buffer, plain in run.plain_buffers().items()
        for name, tensor in zip(run.network.parameter_shapes, plain, strict=True)
    }
    watch = asdict(state.watch)
    watch["best"] = watch["best"] if math.isfinite(watch["best"]) else None
    return Snapshot(
        _comparable(run.settings),
        run.fingerprint,
        run.dtype,
        SHAPE.vector_bytes,
        __version__,
        state.epoch,
        state.step,
        state.totals.tolist(),
        state.seconds,
        watch,
        [asdict(epoch) for epoch in state.history],
        tensors,
        run.began_from,
    )


def _comparable(settings: Settings) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(settings).items() if k != "threads"}


def restore(run: Training, snapshot: Snapshot, warn: Callable[[str], None]) -> None:
    """Put a fresh run where the snapshot was taken.

    Raises
    ------
    UsageError
        When the data or a setting is another one, naming what differs.
    ModelFileError
        When it lacks something, or holds something that no such run consists of; the run is then as it was.
    """
    from fastnn import __version__
    from fastnn.kernels.host import SHAPE

    now, then = _comparable(run.settings), dict(snapshot.settings)
    if run.settings.schedule in _ANY_EPOCHS and now["epochs"] > then.get("epochs", 0):
        then["epochs"] = now["epochs"]
    different = [
        f"{key} was {printable(then.get(key), 60)} and is {printable(now.get(key), 60)}"
        for key in [*now, *(key for key in then if key not in now)]
        if now.get(key) != then.get(key)
    ]
    if snapshot.dtype != run.dtype:
        different.append(f"dtype was {snapshot.dtype} and is {run.dtype}")
    if snapshot.data != run.fingerprint:
        different.append("the examples are others")
    if snapshot.began_from != run.began_from:
        different.append(
            "the weights it begins from, initial=, are others"
            if snapshot.began_from and run.began_from
            else f"it {'began' if snapshot.began_from else 'did not begin'} from given weights, initial="
        )
    if different:
        raise UsageError(
            f"checkpoint: not the run that was stopped: {'; '.join(different)}. Take the same, or begin anew"
        )
    if snapshot.fastnn_version != __version__:
        warn(f"the checkpoint is of fastnn {printable(snapshot.fastnn_version, 20)}, this is {__version__}")
    if snapshot.lanes != SHAPE.vector_bytes:
        warn("the checkpoint is of another kind of CPU: the result will differ in its last bits")
    buffers, state = _buffers(run, snapshot), _state(snapshot)
    run.restore(buffers, state)


def _buffers(run: Training, snapshot: Snapshot) -> dict[str, list[np.ndarray]]:
    """The tensors of each buffer in the run's order: all of them, of the right shape and type, and no more."""
    shapes = run.network.parameter_shapes
    buffers = dict.fromkeys(name.partition(".")[0] for name in snapshot.tensors)
    missing = set(run.state.buffers) - set(buffers)
    if missing or set(buffers) - set(run.state.buffers) - {"best"}:
        raise ModelFileError(f"checkpoint: of {_names(buffers)}; the run consists of {_names(run.state.buffers)}")
    wanted = {f"{buffer}.{name}": shape for buffer in buffers for name, shape in shapes.items()}
    for name in wanted.keys() | snapshot.tensors.keys():
        tensor = snapshot.tensors.get(name)
        if name not in wanted or tensor is None or tensor.shape != wanted[name] or tensor.dtype.name != run.dtype:
            kind = "none" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
            raise ModelFileError(f"checkpoint: its {printable(name, 60)} is {kind}; the run has another")
    return {buffer: [snapshot.tensors[f"{buffer}.{name}"] for name in shapes] for buffer in buffers}


def _names(buffers: Iterable[str]) -> str:
    return printable(", ".join(sorted(buffers)), 80)


def _state(snapshot: Snapshot) -> State:
    """All but the buffers; what a file says of it is of any type, until it is looked at."""
    try:
        best = snapshot.watch["best"]
        watch = EarlyStopping(**{**snapshot.watch, "best": math.inf if best is None else float(best)})
        history = [Epoch(**epoch) for epoch in snapshot.history]
        totals = np.array(snapshot.totals, np.float64).reshape(2)
        return State({}, int(snapshot.epoch), int(snapshot.step), totals, float(snapshot.seconds), watch, history)
    except (ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"checkpoint: its state is not sound ({printable(error, 80)})") from error


def write(snapshot: Snapshot, path: Path) -> None:
    """Write one checkpoint, whole or not at all.

    Raises
    ------
    RunError
        When it can't be written.
    """
    described = {item.name: getattr(snapshot, item.name) for item in fields(Snapshot) if item.name != "tensors"}
    text = json.dumps({"format_version": FORMAT_VERSION, **described}, allow_nan=False, sort_keys=True)
    metadata = {_KEY: text, "sha256": _sha256(snapshot.tensors, text, FORMAT_VERSION)}
    with atomic_write(path) as file:
        file.write(packed(snapshot.tensors, metadata))


def _sha256(tensors: dict[str, np.ndarray], text: str, version: int) -> str:
    """Of the description, which says the version, and of each tensor with its name, number type and shape."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        if version > 1:
            digest.update(f"{name} {tensor.dtype.name} {tensor.shape}\n".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()


def read(path: Path) -> Snapshot:
    """Read and check one checkpoint.

    Raises
    ------
    ModelFileError
        When it is not a whole, sound checkpoint.
    """
    from safetensors.numpy import load

    shown = printable(path)
    try:
        content = path.read_bytes()
        length = struct.unpack("<Q", content[:8])[0]
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        tensors = load(content)
        described = json.loads(metadata[_KEY])
        version = described.pop("format_version")
        if version in _READ and metadata["sha256"] == _sha256(tensors, metadata[_KEY], version):
            return Snapshot(**{**described, "settings": dict(described["settings"])}, tensors=tensors)
        reason = "damaged" if version in _READ else f"of format version {printable(version, 20)}"
    except FastnnError:
        raise
    except OSError as error:
        raise ModelFileError(f"{shown}: {error.strerror or error}") from error
    except Exception as error:  # whatever a damaged file makes a parser say
        raise ModelFileError(f"{shown}: not a sound checkpoint") from error
    raise ModelFileError(f"{shown}: {reason}")


@dataclass
class Checkpoints:
    """The folder of one run: writes a checkpoint now and then, and finds the last sound one.

    Parameters
    ----------
    folder : Path
        Made if there is none.
    seconds : float
        At least so long between two; more where writing takes long.
    warn : callable
        Told, in a sentence, when one could not be written or read.
    """

    folder: Path
    seconds: float = 10.0
    warn: Callable[[str], None] = print
    _next: float = field(default=0.0, init=False)

    def holds_a_run(self) -> bool:
        """Whether there is a checkpoint, sound or not."""
        return any((self.folder / name).exists() for name in (NAME, PREVIOUS))

    def latest(self, run: Training | None = None) -> Snapshot | None:
        """The last sound checkpoint, or None in an empty folder.

        Parameters
        ----------
        run : Training, optional
            A fresh run, put where the checkpoint was taken; one that does not fit into it is not sound.

        Raises
        ------
        ModelFileError
            When there are some, but none is sound.
        UsageError
            When it is of another run.
        """
        reasons = []
        for name in (NAME, PREVIOUS):
            path = self.folder / name
            if not path.exists():
                continue
            try:
                snapshot = read(path)
                if run:
                    restore(run, snapshot, self.warn)
            except ModelFileError as error:
                reasons.append(str(error))
                continue
            if reasons:
                self.warn(f"{reasons[0]}; going on from the one before it")
            return snapshot
        if reasons:
            raise ModelFileError(reasons[0])
        return None

    def save_if_due(self, run: Training) -> None:
        """Write one when the last is long enough ago."""
        if not self._next:
            self._next = time.monotonic() + self.seconds
        if time.monotonic() >= self._next:
            self.save(run)

    def save(self, run: Training) -> bool:
        """Write one now; the one before it is kept. False, and a warning, when that failed: training may go on."""
        begin = time.monotonic()
        try:
            if not all(np.isfinite(buffer).all() for buffer in run.state.buffers.values()):
                return False  # about to be found to diverge: the last good one stays
            path = self.folder / NAME
            if path.exists():
                with contextlib.suppress(OSError):
                    _keep(path, self.folder / PREVIOUS)
            write(take(run), path)
            return True
        except (RunError, OSError) as error:
            self.warn(f"no checkpoint was written: {error}; training goes on")
            return False
        finally:
            took = time.monotonic() - begin
            self._next = time.monotonic() + max(self.seconds, _SHARE * took)


def _keep(path: Path, previous: Path) -> None:
    """A second name for the file, so that there is a whole one under some name at every moment."""
    temporary = previous.with_name(".fastnn-previous.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
        os.replace(temporary, previous)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def only_here(folder: Path) -> Iterator[None]:
    """Make the folder, and let no other run write to it meanwhile; a killed run leaves no lock behind.

    Raises
    ------
    UsageError
        When another run does.
    RunError
        When the folder can't be made or written.
    """
    lock: IO[bytes] | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("ab")
        for stale in folder.glob(".fastnn-*.tmp"):  # of a run that was killed while it wrote
            stale.unlink(missing_ok=True)
    except OSError as error:
        if lock:
            lock.close()
        raise RunError(f"{printable(folder)}: {error.strerror or error}") from error
    try:
        _lock(lock, folder)
        yield
    finally:
        lock.close()


def _lock(file: IO[bytes], folder: Path) -> None:
    """Held until the file is closed, or its process ends."""
    try:
        try:
            import fcntl
        except ImportError:  # Windows
            _lock_on_windows(file)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UsageError(f"{printable(folder)}: another run is writing there; name another folder") from error


def _lock_on_windows(file: IO[bytes]) -> None:
    msvcrt: Any = import_module("msvcrt")
    file.seek(0)  # the first byte is what all ask for, whether it is there or not
    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
