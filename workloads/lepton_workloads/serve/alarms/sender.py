"""Delivering events: for each sink a bounded queue and a thread, so that a slow sink holds up no other.

An event is tried a bounded number of times, with pauses that double and vary; a sink's Retry-After is heeded up to a
bound. When the server ends, what waits is tried at once and as long as the drain lasts.
"""

import random
import threading
import time
from collections import deque
from dataclasses import dataclass

from lepton_workloads.logs import Log
from lepton_workloads.serve.alarms.cloud_events import Event
from lepton_workloads.serve.alarms.metrics import AlarmMetrics, Result
from lepton_workloads.serve.alarms.post import Post, origin
from lepton_workloads.serve.throttle import Throttle

QUEUE_EVENTS = 256
MAX_LINES_PER_SECOND = 20

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How patiently events are delivered; about a minute in all for a sink that fails at once."""

    attempts: int = 8
    attempt_seconds: float = 10.0
    """From the connection to the answer's header."""
    first_pause: float = 0.5
    longest_pause: float = 30.0
    longest_retry_after: float = 60.0

    def pause(self, attempt: int, after: float | None, share: float) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1); `share` is random, 0 to 1."""
        doubled = min(self.longest_pause, self.first_pause * 2.0 ** (attempt - 1))
        own = doubled * (0.5 + share / 2)
        return own if after is None else max(own, min(after, self.longest_retry_after))


class Sender:
    """The events of one sink, delivered in their order."""

    def __init__(self, url: str, post: Post, metrics: AlarmMetrics, pace: Pace | None = None) -> None:
        self._sink = origin(url)
        self._post = post
        self._metrics = metrics
        self._pace = pace or Pace()
        self._events: deque[Event] = deque()
        """The first one is being delivered."""
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._deadline: float | None = None
        """`time.monotonic()` until which there is time, once the server ends."""
        self._lines = Throttle(MAX_LINES_PER_SECOND)

    @property
    def queued(self) -> int:
        """Events that wait or are being sent."""
        return len(self._events)

    def put(self, event: Event) -> None:
        """Takes an event over, or drops it when too many wait; never waits itself."""
        with self._changed:
            full = len(self._events) >= QUEUE_EVENTS
            if not full:
                self._events.append(event)
                self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)
                self._thread.start()
        if full:
            self._lost(event, "dropped", f"{QUEUE_EVENTS} events are waiting for this sink already")

    def hurry(self, deadline: float) -> None:
        """The server ends at `deadline` (`time.monotonic()`): what waits is tried at once."""
        with self._changed:
            self._deadline = deadline
            self._changed.notify()

    def close(self, deadline: float) -> None:
        """Delivers what waits, until `deadline` at the latest; what is left has failed."""
        self.hurry(deadline)
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            left = list(self._events)
            self._events.clear()
        for event in left:
            self._lost(event, "failed", "the server ended before it could be delivered")
        if self._lines.dropped:
            log.error("Failed to deliver more alarms", sink=self._sink, more=self._lines.dropped)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._events:
                    if self._deadline is not None:
                        return
                    self._changed.wait()
                event = self._events[0]
            refusal = self._deliver(event)
            with self._changed:
                if not self._events or self._events[0] is not event:
                    return  # `close` has counted it already
                self._events.popleft()
            if refusal is None:
                self._metrics.ended(event.rule, "delivered")
            else:
                self._lost(event, "failed", refusal)

    def _deliver(self, event: Event) -> str | None:
        """None once it is delivered, else why it never will be."""
        attempt = 0
        while True:
            attempt += 1
            refusal = self._post(event, self._attempt_seconds())
            if refusal is None:
                return None
            if refusal.final:
                return refusal.message
            if attempt >= self._pace.attempts:
                return f"{refusal.message}, in the last of {attempt} attempts"
            if not self._wait(self._pace.pause(attempt, refusal.after, random.random())):
                return f"{refusal.message}, and the server ends"
            self._metrics.tried_again(event.rule)

    def _attempt_seconds(self) -> float:
        if self._deadline is None:
            return self._pace.attempt_seconds
        return max(0.1, min(self._pace.attempt_seconds, self._deadline - time.monotonic()))

    def _wait(self, seconds: float) -> bool:
        """Waits, shorter when the server ends or begins to end meanwhile; False when there is no time for it."""
        with self._changed:
            deadline = self._deadline
            if deadline is None:
                self._changed.wait_for(lambda: self._deadline is not None, seconds)
                return True
        seconds = min(seconds, self._pace.first_pause)
        if time.monotonic() + seconds >= deadline:
            return False
        time.sleep(seconds)
        return True

    def _lost(self, event: Event, result: Result, reason: str) -> None:
        self._metrics.ended(event.rule, result)
        more = self._lines.take()
        if more is not None:
            log.error(
                "Failed to deliver an alarm",
                rule=event.rule,
                id=event.identity,
                sink=self._sink,
                result=result,
                reason=reason,
                lines_dropped_before=more,
            )
