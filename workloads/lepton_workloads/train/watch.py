"""The gang watch: no worker waits for ever for one that is lost.

TensorFlow waits up to an hour for a missing peer when it starts, and a frozen process keeps its connections. So each
worker asks for reports of the chief and of the next worker in the ring, as long as the gang is together, and sees
whether its own steps go on.
"""

import threading
import time
from collections.abc import Callable

from lepton_workloads.contract.outcome import EXIT_RETRY, Failure
from lepton_workloads.contract.tasks import TrainTask
from lepton_workloads.logs import Log
from lepton_workloads.termination import WorkloadError, exit_now, failed_outcome, write_outcome
from lepton_workloads.train.gate import is_there

POLL_SECONDS = 2.0
LOST_SECONDS = 60.0
"""A peer that imports TensorFlow on a crowded node may not answer for many seconds."""
FIRST_STEP_SECONDS = 1800.0
"""Start of the gang, tracing and compiling the step."""
STALL_SECONDS = 180.0
STALL_FACTOR = 20.0
"""A step that takes so many times the longest one before hangs."""

log = Log(__name__)


class GangWatch:
    """Ends the process with PeersNotReady when a peer or the training stands still; a context manager.

    With one worker it does nothing.
    """

    def __init__(self, task: TrainTask, index: int, end: Callable[[int], None] = exit_now) -> None:
        self._task = task
        self._watched = sorted({0, (index + 1) % task.workers} - {index})
        self._end = end
        self._done = threading.Event()
        self._clock = 0.0
        self._last_beat = 0.0
        self._longest = 0.0
        self._beats = 0

    def beat(self) -> None:
        """The training made a step: of training, validation or writing."""
        now = self._clock
        if self._beats:
            self._longest = max(self._longest, now - self._last_beat)
        self._beats += 1
        self._last_beat = now

    def __enter__(self) -> "GangWatch":
        if self._watched:
            threading.Thread(target=self._watch, name="gang-watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def _watch(self) -> None:
        seen = dict.fromkeys(self._watched, 0.0)
        before = time.monotonic()
        while not self._done.wait(POLL_SECONDS):
            now = time.monotonic()
            # A process that was frozen itself has not waited for others in that time.
            self._clock += min(now - before, 5 * POLL_SECONDS)
            before = now
            for worker in seen:
                if is_there(self._task.peers[worker], self._task):
                    seen[worker] = self._clock
            why = self._lost(seen) or self._stalled()
            if why and not self._done.is_set():
                self._fail(why)
                return

    def _lost(self, seen: dict[int, float]) -> str | None:
        for worker, at in seen.items():
            if self._clock - at > LOST_SECONDS:
                return f"worker {worker} ({self._task.peers[worker]}) has not answered for {LOST_SECONDS:g} s"
        return None

    def _stalled(self) -> str | None:
        limit = max(STALL_SECONDS, STALL_FACTOR * self._longest) if self._beats else FIRST_STEP_SECONDS
        if self._clock - self._last_beat <= limit:
            return None
        return f"no step was finished for {limit:.0f} s: a worker or the network between them hangs"

    def _fail(self, why: str) -> None:
        error = WorkloadError(Failure.PEERS_NOT_READY, f"the gang was lost: {why}", terminal=False)
        log.error("Failed", reason=error.reason, detail=error.message)
        write_outcome(failed_outcome(error))
        self._end(EXIT_RETRY)
