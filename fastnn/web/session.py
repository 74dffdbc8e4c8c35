"""Training in the server, one net at a time, watched by whoever listens."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastnn.datasets import load
from fastnn.errors import FastnnError, UsageError, printable
from fastnn.images import SIDE
from fastnn.model.model import Model
from fastnn.network import Network
from fastnn.training.optimizers import OPTIMIZERS
from fastnn.training.run import Training
from fastnn.training.settings import Settings, from_mapping
from fastnn.web.guards import RefusedError

DATA = ("auto", "mnist", "strokes", "fashion-mnist")  # names only: no request names a file
MOST_PARAMETERS, MOST_EPOCHS, MOST_LISTENERS, MOST_MODELS = 5_000_000, 500, 32, 8
_PATIENCE = 0.03  # seconds between two looks at what is new
_KEYS = ("hidden", "optimizer", "learning_rate", "batch_size", "epochs")


class _StoppedError(Exception):
    """Somebody pressed stop."""


@dataclass
class TrainingSession:
    """Where one net is trained.

    Parameters
    ----------
    keep : callable
        Given the name and the model when training is over.
    drop : callable
        Given the name of a model that is to be forgotten, since eight younger ones are there.
    """

    keep: Callable[[str, Model], None]
    drop: Callable[[str], None]
    _kept: deque[str] = field(default_factory=deque)
    _events: list[dict[str, Any]] = field(default_factory=list)
    _thread: threading.Thread | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _listeners: int = 0
    _trained: int = 0

    @property
    def choices(self) -> dict[str, list[str]]:
        """What a page may offer."""
        return {"optimizers": list(OPTIMIZERS), "data": list(DATA)}

    @property
    def busy(self) -> bool:
        """Whether something is being trained."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, form: Mapping[str, Any]) -> None:
        """Begin to train.

        Raises
        ------
        RefusedError
            409 while another net is trained, 400 for settings that can't be.
        """
        if self.busy:
            raise RefusedError(409, "a net is being trained already; stop it first")
        try:
            settings, data = _settings(form)
        except (UsageError, ValueError) as error:
            raise RefusedError(400, str(error)) from error
        self._events, self._stop = [], threading.Event()
        self._thread = threading.Thread(
            target=self._train, args=(settings, data, self._events, self._stop), name="fastnn-train", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Let the training end after this moment; what was learned is kept."""
        self._stop.set()

    def close(self) -> None:
        """Stop, and wait until it did."""
        self.stop()
        if self._thread:
            self._thread.join(10)

    def events(self) -> AsyncIterator[str]:
        """What happened and happens, as server-sent events, to the end of the training.

        Raises
        ------
        RefusedError
            503 when too many listen.
        """
        if self._listeners >= MOST_LISTENERS:
            raise RefusedError(503, "too many listen; try again later", {"retry-after": "5"})
        return self._listen()

    async def _listen(self) -> AsyncIterator[str]:
        self._listeners += 1
        try:
            events, at = self._events, 0
            while True:
                for event in events[at:]:
                    at += 1
                    yield f"data: {json.dumps(event)}\n\n"
                    if event["event"] in ("done", "failed"):
                        return
                if not events and not self.busy:
                    return
                await asyncio.sleep(_PATIENCE)
        finally:
            self._listeners -= 1

    def _train(self, settings: Settings, data: str, events: list[dict[str, Any]], stop: threading.Event) -> None:
        try:
            dataset = load(data)
            if dataset.features != SIDE**2:
                raise UsageError(f"{data}: not pictures of 28x28")
            run = Training(dataset, settings)
        except FastnnError as error:
            events.append({"event": "failed", "text": str(error)})
            return

        def rest(run: Training) -> None:
            if stop.is_set():
                raise _StoppedError

        run.on_safe = rest
        try:
            self._epochs(run, events)
        except FastnnError as error:
            events.append({"event": "failed", "text": str(error)})
        except Exception:
            events.append({"event": "failed", "text": "something went wrong here"})
            raise
        finally:
            run.close()

    def _epochs(self, run: Training, events: list[dict[str, Any]]) -> None:
        network, stopped = str(run.network), False
        events.append({"event": "start", "text": f"{network} on {run.dataset.name}: compiling, the first time only …"})
        run.compile()
        try:
            for epoch in run:
                test = run.evaluate() if run.dataset.test else None
                said = f"epoch {epoch.epoch} of {run.settings.epochs}, {epoch.examples_per_second:,.0f} examples/s"
                events.append(
                    {
                        "event": "epoch",
                        "epoch": epoch.epoch,
                        "epochs": run.settings.epochs,
                        "loss": epoch.loss,
                        "accuracy": epoch.accuracy,
                        "test_accuracy": test.accuracy if test else None,
                        "seconds": epoch.seconds,
                        "text": said,
                    }
                )
        except _StoppedError:
            stopped = True
        if not run.history:
            events.append({"event": "failed", "text": "stopped before the first epoch was over"})
            return
        self._trained += 1
        name = f"{network}, trained here {self._trained}"
        self.keep(name, run.model())
        self._kept.append(name)
        if len(self._kept) > MOST_MODELS:
            self.drop(self._kept.popleft())
        seconds = sum(epoch.seconds for epoch in run.history)
        right = next((e["test_accuracy"] for e in reversed(events) if e.get("test_accuracy") is not None), None)
        reads = f"reads {right:.2%} of the test examples " if right is not None else "trained "
        text = f"{'stopped: ' if stopped else ''}{network} {reads}after {seconds:.2f} s of training; now draw on it"
        events.append({"event": "done", "text": text, "model": name})


def _settings(form: Mapping[str, Any]) -> tuple[Settings, str]:
    """Settings out of what a form sent: texts, empty for the default."""
    if not isinstance(form, Mapping) or set(form) - {*_KEYS, "data"}:
        raise UsageError(f"expected {', '.join(_KEYS)}, data")
    data = form.get("data", "auto")
    if data not in DATA:
        raise UsageError(f"data: expected one of {', '.join(DATA)}")
    values: dict[str, Any] = {}
    for key in _KEYS:
        text = str(form.get(key, "")).strip()[:200]
        if key == "hidden":
            values[key] = tuple(_number(part, key, int) for part in text.replace(" ", ",").split(",") if part)
        elif text:
            values[key] = text if key == "optimizer" else _number(text, key, float if key == "learning_rate" else int)
    settings = from_mapping(values, "the form")
    if settings.epochs > MOST_EPOCHS or len(settings.hidden) > 6:
        raise UsageError(f"at most {MOST_EPOCHS} epochs and 6 hidden layers here; 'fastnn train' takes more")
    if Network.mlp(SIDE**2, settings.hidden, 10, settings.activation).parameter_count > MOST_PARAMETERS:
        raise UsageError(f"at most {MOST_PARAMETERS:,} parameters here; 'fastnn train' takes more")
    return settings, data


def _number(text: str, key: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{key}: {printable(text, 40)!r} is not a number") from None
