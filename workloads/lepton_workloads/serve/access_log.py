"""One JSON line a request: all that failed, a sample of the others, bounded so that a flood fills no disk."""

import random
import time

from lepton_workloads.logs import Log

MAX_LINES_PER_SECOND = 50

log = Log("lepton.access")


class AccessLog:
    """Writes the lines; what is above the bound is counted and told with the next second's first line."""

    def __init__(self, share: float) -> None:
        """`share` of the requests that went well are logged, 0 to 1."""
        self._share = share
        self._second = 0
        self._lines = 0
        self._dropped = 0

    def write(
        self, method: str, path: str, route: str, status: int | str, seconds: float, error: str
    ) -> None:
        """Logs a finished request, or not. Bodies and queries are never logged: they are the users'.

        `status`: that of HTTP, or the name of gRPC's code.
        """
        good = status == "OK" if isinstance(status, str) else status < 400
        if good and (self._share <= 0 or random.random() >= self._share):
            return
        second = int(time.monotonic())
        dropped = 0
        if second != self._second:
            dropped, self._dropped = self._dropped, 0
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines > MAX_LINES_PER_SECOND:
            self._dropped += 1
            return
        fields: dict[str, object] = {
            "method": method,
            "path": path[:200],
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1000, 3),
        }
        if error:
            fields["error"] = error[:500]
        if dropped:
            fields["lines_dropped_before"] = dropped
        log.info("Answered request", **fields)
