"""Words for people: one line, cut, without what is another one at each try.

A status is written when it differs, so a port, an id, a time or a counter in a message would make a write
of every try that fails alike.
"""

import re
import signal
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from lepton_operator.facts import Json
from lepton_workloads.contract.own_code import OWN_CONTAINER

MAX_TEXT = 400

VOLATILE = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+->", ""),  # a connection's own address and port
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:?\d\d)?:?\s*", ""),
        (r"https?://(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\]):\d+/", "/"),  # a pod's own address, in a probe
        (r"0x[0-9a-f]{6,}", "0x..."),
        (r"(?<![:/0-9a-f])[0-9a-f]{64}(?![0-9a-f])", "..."),  # id of a sandbox or container
        (r'pods "[^"]+" is forbidden: ', ""),  # the name that the pod would have had
        (r"used: [^:]+, limited:", "limited:"),  # of a quota
        (r"rpc error: code = \w+ desc = ", ""),
    )
)
"""(what differs from try to try, or says nothing; what stands in its place)."""

ROUND_COUNTS = (5, 10, 20, 50, 100, 200, 500, 1000)
"""A count above the first is told as the largest of these that was reached."""


def clip(text: str | None) -> str:
    """One line of at most MAX_TEXT characters, without the volatile parts."""
    line = " ".join((text or "").split())
    for pattern, instead in VOLATILE:
        line = pattern.sub(instead, line)
    line = line.rstrip(". ")
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 3] + "..."


def last_line(text: str | None) -> str:
    """The last line that says something."""
    lines = [line for line in (text or "").splitlines() if line.strip()]
    return clip(lines[-1]) if lines else ""


def sentence(*parts: str) -> str:
    """`what: why: what to do`, without empty parts."""
    return ": ".join(part for part in parts if part)


def times(count: int) -> str:
    """How often, exact for small counts only."""
    if count < ROUND_COUNTS[0]:
        return f"{count} time" if count == 1 else f"{count} times"
    return f"at least {max(one for one in ROUND_COUNTS if one <= count)} times"


def signal_name(code: int) -> str:
    """SIGKILL for 137; empty when the exit code is none of a signal."""
    try:
        return signal.Signals(code - 128).name if code > 128 else ""
    except ValueError:
        return ""


def moment(text: str | None) -> float:
    """Seconds since the epoch of an RFC 3339 time; 0 when it is missing or none."""
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0.0
    except ValueError:
        return 0.0


def condition(obj: Json, kind: str) -> Mapping[str, Any]:
    """A condition of an object; empty when it has none of that type."""
    for one in obj.get("status", {}).get("conditions", ()):
        if one.get("type") == kind:
            found: Mapping[str, Any] = one
            return found
    return {}


def container_statuses(pod: Json) -> Iterator[tuple[Json, bool]]:
    """(status of a container, whether it is an init container), init containers first."""
    status = pod.get("status", {})
    yield from ((one, True) for one in status.get("initContainerStatuses") or ())
    yield from ((one, False) for one in status.get("containerStatuses") or ())


def is_sidecar(pod: Json, name: str) -> bool:
    """An init container that runs beside the others, and is ended with them."""
    return bool(container_spec(pod, name).get("restartPolicy") == "Always")


def is_own_code(pod: Json, name: str) -> bool:
    """The user's program of a training: what runs in Lepton's containers never is an init container of this name."""
    own = (one["name"] for one in pod.get("spec", {}).get("initContainers") or ())
    return name == OWN_CONTAINER and name in own


def container_spec(pod: Json, name: str) -> Json:
    """What a pod says of one of its containers; empty when it says nothing."""
    spec = pod.get("spec", {})
    for one in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        if one.get("name") == name:
            found: Json = one
            return found
    return {}
