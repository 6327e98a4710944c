"""The one thread that owns the model and runs what is waiting, most urgent first."""

import heapq
import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from deft.errors import SpecError
from deft.serve.metrics import Metrics
from deft.spec import ActionChunk, Actor, Observation, Spec
from deft.wire import ReplyError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """One chunk and how it came about."""

    chunk: ActionChunk
    queue_s: float
    model_s: float
    batch: int
    """Rows that ran together."""


@dataclass(order=True)
class _Job:
    deadline: float
    """`time.monotonic()` after which nobody wants the answer."""
    order: int
    arrived: float = field(compare=False)
    observation: Observation = field(compare=False)
    key: int = field(compare=False)
    future: "Future[Answer]" = field(compare=False)


class Worker:
    """Runs an actor in a thread of its own.

    It takes whatever waits, up to `max_batch` rows, earliest deadline first, and never waits for
    more: a waiting window only adds its length. Futures are the whole
    door, so a process can stand behind it just as well.

    Args:
        actor: its `act_many` is called from the worker's thread only.
        max_batch: rows per call; 1 keeps results bit-equal to asking one by one.
        metrics: where times are counted.
        example: an observation to warm up with; None takes one of zeros and empty texts, which an
            actor that knows certain sentences only does not understand.
    """

    def __init__(
        self,
        actor: Actor,
        max_batch: int,
        metrics: Metrics,
        example: Observation | None = None,
    ) -> None:
        self._actor = actor
        self._example = blank(actor.spec) if example is None else example
        self._max_batch = max_batch
        self._metrics = metrics
        self._jobs: list[_Job] = []
        self._order = 0
        self._wake = threading.Condition()
        self._stopping = False
        self._warm: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="deft-model", daemon=True)

    def start(self) -> None:
        """Start the thread and run the example through the model, alone and as a full batch.

        Raises whatever the model raises on them.
        """
        self._thread.start()
        self._warm.result()

    @property
    def is_ready(self) -> bool:
        """True while the thread lives and takes requests."""
        return self._thread.is_alive() and self._warm.done() and not self._stopping

    @property
    def waiting(self) -> int:
        """Requests that are not in the model yet."""
        return len(self._jobs)

    def submit(
        self, observation: Observation, key: int, arrived: float, deadline: float
    ) -> "Future[Answer]":
        """Queue one checked observation; both times are `time.monotonic()` seconds.

        The future raises `ReplyError` with code LATE, CONTRACT, MODEL or DRAINING.
        """
        future: Future[Answer] = Future()
        with self._wake:
            if not self.is_ready:
                future.set_exception(ReplyError("DRAINING", "The server takes no more requests."))
                return future
            self._order += 1
            job = _Job(deadline, self._order, arrived, observation, key, future)
            heapq.heappush(self._jobs, job)
            self._wake.notify()
        return future

    def stop(self) -> None:
        """Refuse what waits, finish what runs, and end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._warm_up()
        except BaseException as error:
            self._warm.set_exception(error)
            return
        self._warm.set_result(None)
        batch: list[_Job] = []
        try:
            while batch := self._next_batch():
                self._answer(batch)
        finally:
            # Also when the thread dies of something unforeseen: nobody is left waiting.
            with self._wake:
                self._stopping = True
                left, self._jobs = [*batch, *self._jobs], []
            for job in left:
                _fail(job, ReplyError("DRAINING", "The server stopped before it was answered."))

    def _warm_up(self) -> None:
        for size in sorted({1, self._max_batch}):
            self._actor.act_many([self._example] * size, list(range(size)))

    def _next_batch(self) -> list[_Job]:
        """The most urgent jobs that still have time, at least one; empty when it is time to go."""
        batch: list[_Job] = []
        with self._wake:
            while not batch:
                while not self._jobs and not self._stopping:
                    self._wake.wait()
                if self._stopping:
                    return []
                now = time.monotonic()
                while self._jobs and len(batch) < self._max_batch:
                    job = heapq.heappop(self._jobs)
                    if not job.future.set_running_or_notify_cancel():
                        continue
                    if job.deadline <= now:
                        _fail(job, ReplyError("LATE", "The budget was over while it waited."))
                        continue
                    batch.append(job)
        return batch

    def _answer(self, batch: list[_Job]) -> None:
        began = time.monotonic()
        try:
            chunks = self._actor.act_many(
                [job.observation for job in batch], [job.key for job in batch]
            )
        # Whatever a model may raise, out of memory included, ends a request and not the server.
        except Exception as error:
            if len(batch) > 1:  # run one by one: a row's failure must stay its own
                for job in batch:
                    self._answer([job])
                return
            if isinstance(error, SpecError):  # the request's fault, as a sentence nobody taught
                _fail(batch[0], ReplyError("CONTRACT", str(error)))
                return
            number = f"{time.time_ns():x}"
            log.exception("The policy failed; report %s", number)
            text = f"The policy failed ({type(error).__name__}); see report {number} in the log."
            _fail(batch[0], ReplyError("MODEL", text))
            return
        took = time.monotonic() - began
        self._metrics.model.observe(took)
        self._metrics.batch.observe(len(batch))
        for job, chunk in zip(batch, chunks, strict=True):
            waited = began - job.arrived
            self._metrics.queue.observe(waited)
            if np.isfinite(chunk.actions).all():
                job.future.set_result(Answer(chunk, waited, took, len(batch)))
            else:
                _fail(job, ReplyError("MODEL", "The policy answered with NaN or infinity."))


def blank(spec: Spec) -> Observation:
    """An observation of zeros and empty texts that fits the contract."""
    ticks = spec.horizons.obs_horizon if spec.horizons else 1
    return {
        feature.name: ""
        if feature.dtype == "str"
        else np.zeros((ticks, *feature.shape), feature.dtype)
        for feature in spec.features
        if feature.role != "action"
    }


def _fail(job: _Job, error: ReplyError) -> None:
    if not job.future.done():
        job.future.set_exception(error)
