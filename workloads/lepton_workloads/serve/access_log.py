"""One JSON line a request: all that failed, a sample of the others, bounded so that a flood fills no disk."""

import random

from lepton_workloads.logs import Log
from lepton_workloads.serve.caller import Caller
from lepton_workloads.serve.throttle import Throttle
from lepton_workloads.serve.traces import trace_id

MAX_LINES_PER_SECOND = 50

log = Log("lepton.access")


class AccessLog:
    """Writes the lines; what is above the bound is counted and told with the next second's first line."""

    def __init__(self, share: float) -> None:
        """`share` of the requests that went well are logged, 0 to 1."""
        self._share = share
        self._lines = Throttle(MAX_LINES_PER_SECOND)

    def write(
        self,
        method: str,
        path: str,
        route: str,
        status: int | str,
        seconds: float,
        error: str,
        *,
        caller: Caller,
        received: int,
        sent: int,
    ) -> None:
        """Logs a finished request, or not. Bodies and queries are never logged: they are the users'.

        Args:
            status: that of HTTP, or the name of gRPC's code.
            received, sent: bytes of the bodies.
        """
        good = status == "OK" if isinstance(status, str) else status < 400
        if good and (self._share <= 0 or random.random() >= self._share):
            return
        dropped = self._lines.take()
        if dropped is None:
            return
        fields: dict[str, object] = {
            "method": method,
            "path": path[:200],
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1000, 3),
            "bytes_in": received,
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
