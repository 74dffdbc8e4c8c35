"""Predicting for many at once: what is small in the event loop, all else through a short queue to one thread."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastnn.errors import DataError
from fastnn.model.model import Model
from fastnn.web.guards import RefusedError
from fastnn.web.resident import Content, Lines, PredictedLines, Resident

MOST_WAITING = 40  # to be prepared: beyond that, five times as many requests as can be answered make answers late
SECONDS = 2.0  # that an answer may take
MOST_AT_ONCE = 32  # in the loop
MOST_PREPARED = 8  # at once in the thread: the first waits for the last


@dataclass
class Job:
    """One request: pictures as they came, or pixels; and the future of its result.

    Attributes
    ----------
    resident : Resident
        Which model, also when its name is given to another meanwhile.
    content : bytes or ndarray (N, 784)
    many : bool
        Whether a picture holds several digits.
    """

    resident: Resident
    content: Content
    many: bool = False
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    future: asyncio.Future[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.future = self.loop.create_future()

    def finish(self, result: PredictedLines | Exception) -> None:
        """Set the result, in the loop, unless nobody waits any more."""
        if self.future.done():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


Result = tuple[Job, PredictedLines | Exception]


class Service:
    """Models by name. Requests are answered together with those that came meanwhile, by one product for all.

    Small pictures that need no preparation, and pixels, are answered in the event loop once it has read what is there:
    a thread would take longer to be woken, and then hold the loop up. Everything else goes to one thread.

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
        self._small = list[Job]()
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="fastnn-predict", daemon=True)
        self._thread.start()

    def add(self, name: str, model: Model) -> None:
        """Put a model among those that answer, or in place of the one of that name."""
        try:
            self.models[name] = Resident(model)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error

    def drop(self, name: str) -> None:
        """Forget a model."""
        self.models.pop(name, None)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._waiting.qsize()

    async def predict(self, model: str, content: Content, many: bool = False) -> PredictedLines:
        """The predictions for a request.

        Parameters
        ----------
        model : str
        content : bytes or ndarray (N, 784)
            A picture as it came, or pixels.
        many : bool
            Whether a picture holds several digits.

        Raises
        ------
        RefusedError
            404 for a model that there is not, 503 when too many wait or it took too long.
        FastnnError
            When the picture is none.
        """
        resident = self.models.get(model)
        if resident is None:
            raise RefusedError(404, "no model of that name; GET /models lists them")
        job = Job(resident, content, many)
        if not many and resident.is_small(content):
            if self._small and self._small[0].loop is not job.loop:
                self._small = []  # of a loop that has ended
            self._small.append(job)
            if len(self._small) == 1:
                job.loop.call_soon(self._predict_small, job.loop, 1)
        else:
            self._queue(job)
        predicted: PredictedLines = await job.future
        return predicted

    def close(self) -> None:
        """Stop the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _queue(self, job: Job) -> None:
        if self.waiting >= MOST_WAITING:  # only the loop puts in more
            job.finish(_busy("too many requests wait"))
            return
        late = job.loop.call_later(SECONDS, job.finish, _busy("no answer in time"))
        job.future.add_done_callback(lambda _: late.cancel())
        self._waiting.put(job)

    def _predict_small(self, loop: asyncio.AbstractEventLoop, known: int) -> None:
        """In the loop, when one turn of it brings no more than were known; 8 clients get 15 % more answers so."""
        if known < len(self._small) < MOST_AT_ONCE:
            loop.call_soon(self._predict_small, loop, len(self._small))
            return
        jobs, self._small = self._small, []
        for resident, batch in _by_model(jobs):
            try:
                prepared = list(zip(batch, resident.small([job.content for job in batch]), strict=True))
                _finish(_predicted(resident, [(job, lines) for job, lines in prepared if lines is not None]))
            except Exception as error:  # whatever it is, every client is told
                _finish([(job, error) for job in batch])
                continue
            for job, lines in prepared:
                if lines is None:
                    self._queue(job)

    def _work(self) -> None:
        """In the thread."""
        while True:
            jobs = [self._waiting.get()]
            while len(jobs) < MOST_PREPARED and self.waiting:
                jobs.append(self._waiting.get())
            for resident, batch in _by_model([job for job in jobs if job and not job.future.done()]):
                results: list[Result]
                try:
                    prepared = [(job, resident.prepared(job.content, job.many)) for job in batch]
                    results = _predicted(resident, prepared)
                except Exception as error:  # the thread lives on
                    results = [(job, error) for job in batch]
                with contextlib.suppress(RuntimeError):  # the loop may have ended
                    batch[0].loop.call_soon_threadsafe(_finish, results)
            if None in jobs:
                return


def _by_model(jobs: list[Job]) -> Iterator[tuple[Resident, list[Job]]]:
    for resident in {job.resident for job in jobs}:
        yield resident, [job for job in jobs if job.resident is resident]


def _busy(reason: str) -> RefusedError:
    return RefusedError(503, f"{reason}; try again in a second", {"retry-after": "1"})


def _predicted(resident: Resident, prepared: list[tuple[Job, Lines | Exception]]) -> list[Result]:
    """The result of each job, in one product."""
    predicted = iter(resident.predict([lines for _, lines in prepared if not isinstance(lines, Exception)]))
    return [(job, lines if isinstance(lines, Exception) else next(predicted)) for job, lines in prepared]


def _finish(results: list[Result]) -> None:
    for job, result in results:
        job.finish(result)
