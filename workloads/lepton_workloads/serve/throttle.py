"""A bound for log lines: what is above it is counted, and told with the next line that may be written."""

import threading
import time


class Throttle:
    """Lets so many through in each span of time; any thread may ask."""

    def __init__(self, lines: int, seconds: int = 1) -> None:
        self._lines = lines
        self._seconds = seconds
        self._span = -1
        self._taken = 0
        self._dropped = 0
        self._lock = threading.Lock()

    @property
    def dropped(self) -> int:
        """How many were not let through since the last one that was."""
        return self._dropped

    def take(self) -> int | None:
        """How many were not let through since the last one that was; None when this one is not."""
        with self._lock:
            span = int(time.monotonic()) // self._seconds
            if span != self._span:
                self._span, self._taken = span, 0
            if self._taken >= self._lines:
                self._dropped += 1
                return None
            self._taken += 1
            dropped, self._dropped = self._dropped, 0
            return dropped
