"""One JSON line a request: all that failed, a sample of the others, bounded so that a flood fills no disk."""

import random

from lepton_workloads.logs import Log
from lepton_workloads.serve.http import Request
from lepton_workloads.serve.throttle import Throttle
from lepton_workloads.serve.traces import trace_id

MAX_LINES_PER_SECOND = 50

log = Log("lepton.access")


class AccessLog:
    """Writes the lines; what is above the bound is counted and told with the next second's first line."""

    def __init__(self, share: float) -> None:
        """`share` of the requests with a status below 400 are logged, 0 to 1."""
        self._share = share
        self._lines = Throttle(MAX_LINES_PER_SECOND)

    def write(self, request: Request, route: str, status: int, sent: int, seconds: float, error: str) -> None:
        """Logs a finished request, or not. Bodies and queries are never logged: they are the users'.

        Args:
            sent: bytes of the answer's body.
        """
        if status < 400 and (self._share <= 0 or random.random() >= self._share):
            return
        dropped = self._lines.take()
        if dropped is None:
            return
        caller = request.caller
        fields: dict[str, object] = {
            "method": request.method,
            "path": request.path[:200],
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1000, 3),
            "bytes_in": len(request.body),
            "bytes_out": sent,
        }
        names = {
            "source": caller.source,
            "request_id": caller.request_id,
            "trace_id": trace_id(caller.traceparent),
        }
        fields.update({name: value for name, value in names.items() if value})
        if error:
            fields["error"] = error[:500]
        if dropped:
            fields["lines_dropped_before"] = dropped
        log.info("Answered request", **fields)
