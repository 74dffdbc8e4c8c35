"""Predicting for many at once: a short queue, one thread that takes all that waits, one product for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn import images, inference
from fastnn.errors import DataError
from fastnn.images import Prepared
from fastnn.model import Model, Prediction
from fastnn.reference import ACTIVATIONS
from fastnn.web.guards import RefusedError

MOST_WAITING = 64
SECONDS = 2.0  # that an answer may take
MOST_AT_ONCE = 32


class Resident:
    """A model with its parameters ready: float32, all rows in one product, what is divided by taken into the weights.

    Probabilities differ from `Model.predict_proba`, which computes in float64, by about 1e-6.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.recipe = model, model.recipe
        wide = [parameter.astype(np.float64) for parameter in model.parameters]
        mean, deviation = model.scaling or (np.zeros(1), np.full(images.SIDE**2, 255.0))  # of pixels as they are
        wide[0] /= deviation[:, None]  # ((x − mean) / deviation) W + b
        wide[1] -= (mean * np.ones(len(wide[0]))) @ wide[0]
        wide[-2], wide[-1] = wide[-2] / model.temperature, wide[-1] / model.temperature
        self._parameters = [parameter.astype(np.float32) for parameter in wide]
        self._activations = [ACTIVATIONS[layer.activation] for layer in model.network.layers]

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """uint8 (N, D) → (N, C), float64."""
        a = x.astype(np.float32)
        for activation, w, b in zip(self._activations, self._parameters[::2], self._parameters[1::2], strict=True):
            a = activation(a @ w + b)
        return inference.softmax(a)


@dataclass
class Job:
    """One request: pictures as they came, or pixels; and where its answer is awaited.

    Attributes
    ----------
    model : str
    content : bytes or ndarray (N, 784)
    many : bool
        Whether a picture holds several digits.
    """

    model: str
    content: bytes | np.ndarray
    many: bool = False
    answer: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)


@dataclass(frozen=True)
class Answer:
    """Lines of predictions, with what the network saw of each    (N, 784)."""

    lines: list[list[Prediction]]
    seen: np.ndarray


class Service:
    """Models by name, and the thread that asks them.

    Parameters
    ----------
    models : dict of str to Model
        The first is asked where none is named. All take 28x28 pixels.

    Raises
    ------
    DataError
        When a model takes something else.
    """

    def __init__(self, models: dict[str, Model]) -> None:
        self.models = dict[str, Resident]()
        for name, model in models.items():
            self.add(name, model)
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="fastnn-predict", daemon=True)
        self._thread.start()

    def add(self, name: str, model: Model) -> None:
        """Put a model among those that answer, or in place of the one of that name."""
        if model.network.sizes[0] != images.SIDE**2 or model.loss != "softmax":
            raise DataError(f"{name}: not a model of classes on pictures of 28x28 pixels, which this server needs")
        self.models[name] = Resident(model)

    def drop(self, name: str) -> None:
        """Forget a model."""
        self.models.pop(name, None)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._waiting.qsize()

    async def ask(self, job: Job) -> Answer:
        """The answer to a request.

        Raises
        ------
        RefusedError
            404 for a model that there is not, 503 when too many wait or it took too long.
        FastnnError
            When the picture is none.
        """
        if job.model not in self.models:
            raise RefusedError(404, "no model of that name; GET /models lists them")
        if self.waiting >= MOST_WAITING:  # only this loop puts in more
            raise RefusedError(503, "too many requests wait; try again in a second", {"retry-after": "1"})
        self._waiting.put(job)
        try:
            async with asyncio.timeout(SECONDS):
                found: Answer = await job.answer
                return found
        except TimeoutError:
            job.answer.cancel()
            raise RefusedError(503, "no answer in time; try again in a second", {"retry-after": "1"}) from None

    def close(self) -> None:
        """Stop the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            jobs = [self._waiting.get()]
            while len(jobs) < MOST_AT_ONCE:
                try:
                    jobs.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            asked = [job for job in jobs if job is not None and not job.answer.cancelled()]
            for name in {job.model for job in asked}:
                resident = self.models.get(name)
                if resident:  # else dropped meanwhile: whoever asked is told that it took too long
                    results = _answers([job for job in asked if job.model == name], resident)
                    with contextlib.suppress(RuntimeError):  # the loop may have ended
                        results[0][0].loop.call_soon_threadsafe(_deliver, results)
            if None in jobs:
                return


def _answers(jobs: list[Job], resident: Resident) -> list[tuple[Job, Answer | Exception]]:
    """What each is to be told; all that can be read go through the network together."""
    results: list[tuple[Job, Answer | Exception]] = []
    ready: list[tuple[Job, list[list[Prepared]]]] = []
    for job in jobs:
        try:
            ready.append((job, _prepared(job, resident.recipe)))
        except Exception as error:  # whatever it is, the thread lives on and the one who asked is told
            results.append((job, error))
    flat = [one.pixels.reshape(-1) for _, lines in ready for line in lines for one in line]
    probabilities = resident.probabilities(np.stack(flat)) if flat else np.zeros((0, 1))
    at = 0
    for job, lines in ready:
        found, first = [], at
        for line in lines:
            found.append(resident.model.answers(line, probabilities[at : at + len(line)], ""))
            at += len(line)
        results.append((job, Answer(found, np.array(flat[first:at]).reshape(-1, images.SIDE**2))))
    return results


def _prepared(job: Job, recipe: Callable[..., Prepared]) -> list[list[Prepared]]:
    if isinstance(job.content, np.ndarray):
        return [[Prepared(row.reshape(images.SIDE, images.SIDE)) for row in job.content]]
    picture = images.decode(job.content)
    if job.many:
        if recipe is not images.prepare_digit:
            raise DataError("several things in one picture are told apart for digits only; this model knows others")
        return images.prepare_digits(picture)
    return [[recipe(picture)]]


def _deliver(results: list[tuple[Job, Answer | Exception]]) -> None:
    """In the loop that waits for them, all at once."""
    for job, result in results:
        if job.answer.done():
            continue
        if isinstance(result, Exception):
            job.answer.set_exception(result)
        else:
            job.answer.set_result(result)
