"""Keyed work queue: a key waits at most once, never runs twice at a time, and backs off alone.

Two priorities: what a user or a child did goes before the resync, with a small share left for the
resync so that a stream of events can't starve it. All decisions are in synchronous methods on an
injected clock; `run` only waits and starts work.
"""

import asyncio
import heapq
import itertools
import logging
import random
import time
from collections.abc import Awaitable, Callable
from enum import IntEnum

from lepton_operator import metrics
from lepton_operator.facts import Key

log = logging.getLogger(__name__)

BASE_BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 60.0
HIGH_IN_A_ROW = 16
"""After so many keys of high priority in a row one of low priority gets its turn."""


class Priority(IntEnum):
    """Lower goes first."""

    HIGH = 0
    LOW = 1


class WorkQueue:
    """See the module. Not thread-safe: everything happens on one event loop."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._ready: dict[Priority, dict[Key, float]] = {Priority.HIGH: {}, Priority.LOW: {}}
        self._due: dict[Key, tuple[float, int]] = {}
        self._timers: list[tuple[float, int, Key]] = []
        self._sequence = itertools.count()
        self._failures: dict[Key, int] = {}
        self._retry_at: dict[Key, float] = {}
        self._held_until: dict[Key, float] = {}
        self._processing: dict[Key, float] = {}
        self._again: dict[Key, Priority] = {}
        self._high_in_a_row = 0
        self._wakeup = asyncio.Event()
        self._stopping = False
        for priority, keys in self._ready.items():
            metrics.QUEUE_DEPTH.labels(priority.name.lower()).set_function(keys.__len__)

    def add(self, key: Key, priority: Priority = Priority.HIGH) -> None:
        """Ask for a visit now. A key under work is visited once more afterwards, a held one when it may."""
        if key in self._processing:
            self._again[key] = min(priority, self._again.get(key, priority))
            return
        held = self._held_until.pop(key, 0.0)
        if held > self._clock():
            self._held_until[key] = held
            self.add_after(key, held - self._clock())
            return
        if key in self._ready[Priority.HIGH] or key in self._ready[priority]:
            return
        since = self._ready[Priority.LOW].pop(key, None) if priority is Priority.HIGH else None
        self._ready[priority][key] = since if since is not None else self._clock()
        metrics.QUEUE_ADDS.labels(priority.name.lower()).inc()
        self._wakeup.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Ask for a visit when `seconds` have passed; the earliest wish of a key counts."""
        due = self._clock() + max(0.0, seconds)
        if key in self._due and self._due[key][0] <= due:
            return
        number = next(self._sequence)
        self._due[key] = (due, number)
        heapq.heappush(self._timers, (due, number, key))
        if len(self._timers) > 2 * len(self._due) + 64:
            self._timers = [timer for timer in self._timers if self._is_valid(timer)]
            heapq.heapify(self._timers)
        self._wakeup.set()

    def retry(self, key: Key, at_least: float = 0.0) -> float:
        """Ask for a visit after the key's own back-off, doubled each time; the seconds chosen.

        A visit that events caused before the last back-off was over doesn't make it longer. `at_least` is
        what the API server asked for: events don't cause a visit before it is over.
        """
        now = self._clock()
        early = self._retry_at.get(key, now) > now
        if not early:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            # 2 ** 30 seconds are above any cap; larger exponents only overflow.
            full = min(MAX_BACKOFF_SECONDS, BASE_BACKOFF_SECONDS * 2.0 ** min(failures, 30))
            self._retry_at[key] = now + full * (0.5 + 0.5 * self._chance())
            metrics.QUEUE_RETRIES.inc()
        at_least = min(at_least, MAX_BACKOFF_SECONDS)
        if at_least > 0:
            self._held_until[key] = now + at_least
        seconds = max(self._retry_at[key] - now, at_least)
        self.add_after(key, seconds)
        return seconds

    def forget(self, key: Key) -> None:
        """The visit went well: the next failure backs off from the start."""
        self._failures.pop(key, None)
        self._retry_at.pop(key, None)
        self._held_until.pop(key, None)

    def drop(self, key: Key) -> None:
        """The object is gone: no later visit, no failures."""
        self.forget(key)
        self._due.pop(key, None)

    def failures(self, key: Key) -> int:
        """How many retries in a row."""
        return self._failures.get(key, 0)

    def take(self) -> Key | None:
        """The next key, now under work; None when none is ready. Wishes for later visits are void."""
        self._ring()
        priority = self._next_priority()
        if priority is None:
            return None
        key = next(iter(self._ready[priority]))
        since = self._ready[priority].pop(key)
        now = self._clock()
        self._high_in_a_row = self._high_in_a_row + 1 if priority is Priority.HIGH else 0
        self._due.pop(key, None)
        self._processing[key] = now
        metrics.QUEUE_SECONDS.observe(now - since)
        return key

    def done(self, key: Key) -> None:
        """The work on a key that `take` gave ended."""
        metrics.WORK_SECONDS.observe(self._clock() - self._processing.pop(key))
        again = self._again.pop(key, None)
        if again is not None:
            self.add(key, again)
        self._wakeup.set()

    def seconds_until_due(self) -> float | None:
        """Seconds until `take` may give a key; None when only `add` can change that."""
        if self._next_priority() is not None:
            return 0.0
        self._drop_void_timers()
        return max(0.0, self._timers[0][0] - self._clock()) if self._timers else None

    def oldest_seconds(self) -> float:
        """How long the key under work or ready for the longest time has been so."""
        starts = [next(iter(keys.values())) for keys in self._ready.values() if keys]
        starts += self._processing.values()
        return self._clock() - min(starts) if starts else 0.0

    async def run(self, work: Callable[[Key], Awaitable[None]], workers: int) -> None:
        """Give keys to `work`, at most `workers` at a time, until `stop`; then wait for those running.

        When it is cancelled, so is the work in hand.
        """
        running: set[asyncio.Task[None]] = set()
        try:
            while not self._stopping:
                self._wakeup.clear()
                full = len(self._processing) >= workers
                key = None if full else self.take()
                if key is not None:
                    task = asyncio.create_task(self._work(work, key), name=f"reconcile {key}")
                    running.add(task)
                    task.add_done_callback(running.discard)
                    continue
                await self._wait(None if full else self.seconds_until_due())
            if running:
                await asyncio.wait(running)
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

    def stop(self) -> None:
        """No new work; `run` returns when the work in hand is done."""
        self._stopping = True
        self._wakeup.set()

    async def _work(self, work: Callable[[Key], Awaitable[None]], key: Key) -> None:
        metrics.BUSY_WORKERS.inc()
        try:
            await work(key)
        except Exception:
            log.exception("Worker failed", extra={"lepton": {"key": str(key)}})
            self.retry(key)
        finally:
            metrics.BUSY_WORKERS.dec()
            self.done(key)

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wakeup.wait()
        except TimeoutError:
            pass

    def _ring(self) -> None:
        """Move keys whose time has come to the ready ones."""
        now = self._clock()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)
            if self._is_valid(timer):
                del self._due[timer[2]]
                self.add(timer[2])

    def _drop_void_timers(self) -> None:
        while self._timers and not self._is_valid(self._timers[0]):
            heapq.heappop(self._timers)

    def _is_valid(self, timer: tuple[float, int, Key]) -> bool:
        due, number, key = timer
        return self._due.get(key) == (due, number)

    def _next_priority(self) -> Priority | None:
        high, low = self._ready[Priority.HIGH], self._ready[Priority.LOW]
        if low and (not high or self._high_in_a_row >= HIGH_IN_A_ROW):
            return Priority.LOW
        return Priority.HIGH if high else None
