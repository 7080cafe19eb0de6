"""Who asks, as far as a request says it: handed along with the request to all that looks at predictions."""

import time
from dataclasses import dataclass, field

MAX_SOURCE = 128
DEFAULT_SECONDS = 10.0


@dataclass(slots=True)
class Caller:
    """What protocols know beside the inputs."""

    source: str = ""
    """Which camera or machine the pictures are from; empty when nobody says."""
    request_id: str = ""
    """The client's own name of the request, where the protocol has one."""
    traceparent: str = ""
    """W3C trace context of the request, checked (`traces`), passed on to whom is told of it."""
    tracestate: str = ""
    """What tracing systems add to it."""
    deadline: float = field(default_factory=lambda: time.monotonic() + DEFAULT_SECONDS)
    """`time.monotonic()` after which nobody waits any more."""


def is_source(text: str) -> bool:
    """Whether a text may be a source: it becomes part of events and files."""
    return len(text) <= MAX_SOURCE and text.isprintable()
