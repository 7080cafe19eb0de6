"""What /healthz looks at: nothing waits or works for ever, and every watch gives signs of life.

An API server that doesn't answer is no reason to be restarted: what is retried, counts as alive.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from lepton_operator.queue import WorkQueue


class Watching(Protocol):
    """A watch of owned objects."""

    name: str

    def silent_seconds(self) -> float:
        """Seconds since the last sign of life."""


class Liveness:
    """Answers /healthz."""

    def __init__(
        self,
        queue: WorkQueue,
        watchers: Sequence[Watching],
        *,
        leads: Callable[[], bool],
        unseen: Callable[[float], str | None],
        limit_seconds: float,
    ) -> None:
        """`unseen(limit)` names a Lepton kind whose watch has missed a change for longer than that."""
        self._queue = queue
        self._watchers = watchers
        self._leads = leads
        self._unseen = unseen
        self._limit = limit_seconds

    def problem(self) -> str | None:
        """None when all is well, else what is stuck."""
        # A standby's queue waits for its turn.
        oldest = self._queue.oldest_seconds() if self._leads() else 0.0
        if oldest > self._limit:
            return f"queue: a visit waits or works for {oldest:.0f} s"
        for watcher in self._watchers:
            if (silent := watcher.silent_seconds()) > self._limit:
                return f"watch of {watcher.name}: no sign of life for {silent:.0f} s"
        return self._unseen(self._limit)
