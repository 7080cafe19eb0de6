"""The engine's only thread, and the bounded queue before it.

Nothing waits for a batch to fill: while the engine is busy requests queue up, and what has queued up is run
together where the network gains by that. What waits is bounded in number and bytes, so an overload is refused at once
instead of becoming a queue that grows; what has waited too long, or whose client has gone, is not run at all.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lepton_workloads.serve.caller import Caller
from lepton_workloads.serve.engines.engine import Engine, Explained, Floats, NotFinite
from lepton_workloads.serve.http import HttpError, overloaded
from lepton_workloads.serve.metrics import Metrics

QUEUE_REQUESTS = 128
"""Requests that wait for the engine; more are refused at once."""
QUEUE_BYTES = 128 * 1024**2
"""Bytes of inputs that wait."""
TOGETHER_SECONDS = 0.002
"""How long an answer may be kept for the next ones, while others wait: two threads that take turns for each request
cost it 60 us more."""


@dataclass(slots=True)
class _Job:
    make: Callable[[], Floats]
    """Gives the inputs, in the engine's thread."""
    count: int
    """Inputs."""
    nbytes: int
    """Of the inputs."""
    deadline: float
    explain: bool = False
    inputs: Floats = field(init=False)
    """Once they are made."""
    answer: "asyncio.Future[Any]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    queued: float = field(default_factory=time.monotonic)


class EngineThread:
    """Loads the engine, then works on what the queue holds, first come, first served."""

    def __init__(self, load: Callable[[], Engine], metrics: Metrics) -> None:
        """`load` makes the engine, ready to answer."""
        self._load = load
        self._metrics = metrics
        self._jobs: deque[_Job] = deque()
        self._bytes = 0
        self._input_seconds = math.inf
        """What an input took in the last run."""
        self._filled = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.loaded: Future[Engine] = Future()

    def start(self) -> None:
        """Starts loading; `loaded` holds the engine or why there is none."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs; without it no request would ever be answered."""
        return self._thread.is_alive()

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._jobs)

    async def predict(self, batch: Floats, caller: Caller) -> Floats:
        """Answers (N, output_size) for inputs (N, *input_shape).

        Raises:
            HttpError: 503 when the queue is full, 504 when it took too long.
            NotFinite: see `Engine.predict`.
        """
        _, answers = await self.predict_made(lambda: batch, len(batch), batch.nbytes, caller)
        return answers

    async def predict_made(
        self, make: Callable[[], Floats], count: int, nbytes: int, caller: Caller
    ) -> tuple[Floats, Floats]:
        """Inputs and answers. What makes the inputs runs in the engine's thread: quick work, for others wait.

        Args:
            make: gives inputs (N, *input_shape).
            count: N.
            nbytes: of the inputs.

        Raises:
            HttpError, NotFinite: as `predict`, and whatever `make` raises.
        """
        job = _Job(make, count, nbytes, caller.deadline)
        answers: Floats = await self._queue(job)
        return job.inputs, answers

    async def explain(self, one: Floats, caller: Caller) -> Explained:
        """See `Engine.explain`; raises as `predict`."""
        job = _Job(lambda: one, len(one), one.nbytes, caller.deadline, explain=True)
        explained: Explained = await self._queue(job)
        return explained

    def _queue(self, job: _Job) -> "asyncio.Future[Any]":
        with self._filled:
            if len(self._jobs) >= QUEUE_REQUESTS:
                raise overloaded(f"{QUEUE_REQUESTS} requests are waiting for the model already")
            if self._jobs and self._bytes + job.nbytes > QUEUE_BYTES:
                raise overloaded(f"{self._bytes} bytes are waiting for the model already")
            self._bytes += job.nbytes
            self._jobs.append(job)
            self._filled.notify()
        return job.answer

    def _run(self) -> None:
        try:
            engine = self._load()
        except BaseException as error:
            self.loaded.set_exception(error)
            return
        self.loaded.set_result(engine)
        while True:
            self._work(engine)

    def _work(self, engine: Engine) -> None:
        """Runs what waits, and hands over what it gave: all of it when nothing waits any more, or time is up."""
        results: list[tuple[_Job, Any]] = []
        taken = self._next(engine.batch)
        ends = time.monotonic() + TOGETHER_SECONDS
        while taken:
            results += self._answered(engine, taken)
            taken = self._next(engine.batch, ends)
        _deliver(results)

    def _next(self, most: int, ends: float | None = None) -> list[_Job]:
        """The oldest job, and those behind it that may be run with it.

        Args:
            ends: `time.monotonic()` by which the oldest must be done, else nothing is taken; None: waits for one.
        """
        with self._filled:
            if ends is not None and not self._can_run(ends):
                return []
            while not self._jobs:
                self._filled.wait()
            taken = [self._jobs.popleft()]
            count = taken[0].count
            while self._jobs and not taken[0].explain and not self._jobs[0].explain:
                count += self._jobs[0].count
                if count > most:
                    break
                taken.append(self._jobs.popleft())
            self._bytes -= sum(job.nbytes for job in taken)
        return taken

    def _can_run(self, ends: float) -> bool:
        """Whether there is a job, and it will probably be done by then: it may be a thousand times the one before."""
        if not self._jobs:
            return False
        return time.monotonic() + self._jobs[0].count * self._input_seconds <= ends

    def _answered(self, engine: Engine, taken: list[_Job]) -> list[tuple[_Job, Any]]:
        """An answer or an exception for each, but for those whose clients have gone."""
        now = time.monotonic()
        failed: list[tuple[_Job, Any]] = []
        jobs = []
        for job in taken:
            if job.deadline < now:
                failed.append((job, _too_late(now - job.queued)))
            elif not job.answer.cancelled():
                self._metrics.queue_seconds.observe(now - job.queued)
                try:
                    job.inputs = job.make()
                except BaseException as error:
                    failed.append((job, error))
                else:
                    jobs.append(job)
        if not jobs:
            return failed
        started = time.perf_counter()
        results = self._results(engine, jobs)
        seconds, count = time.perf_counter() - started, sum(job.count for job in jobs)
        self._input_seconds = seconds / max(1, count)
        self._metrics.inference_seconds.observe(seconds)
        self._metrics.batch_size.observe(count)
        return [*failed, *zip(jobs, results, strict=True)]

    def _results(self, engine: Engine, jobs: list[_Job]) -> list[Any]:
        """An answer or an exception for each."""
        try:
            if jobs[0].explain:
                return [engine.explain(jobs[0].inputs)]
            if len(jobs) == 1:
                return [engine.predict(jobs[0].inputs)]
            answers = engine.predict(np.concatenate([job.inputs for job in jobs]))
            ends = np.cumsum([job.count for job in jobs])[:-1]
            return list(np.split(answers, ends))
        except NotFinite as error:
            if len(jobs) == 1:
                return [error]
            return [result for job in jobs for result in self._results(engine, [job])]
        except BaseException as error:
            return [error] * len(jobs)


def _too_late(seconds: float) -> HttpError:
    return HttpError(504, f"the model did not come to this request in time: it waited {seconds:.1f} s")


def _deliver(results: list[tuple[_Job, Any]]) -> None:
    """Hands results to the event loop, all in one go: each wake-up of the loop costs as much as a small answer."""
    if not results:
        return
    try:
        results[0][0].answer.get_loop().call_soon_threadsafe(_settle, results)
    except RuntimeError:
        return  # the loop is closed: the process ends, and nobody waits


def _settle(results: list[tuple[_Job, Any]]) -> None:
    for job, result in results:
        if job.answer.done():
            continue
        if isinstance(result, BaseException):
            job.answer.set_exception(result)
        else:
            job.answer.set_result(result)
