"""What goes between an operator and the API server: calls, and the rules that disturb them."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.integration.kube import Object

WRITES = frozenset(("POST", "PUT", "PATCH", "DELETE"))


@dataclass(slots=True)
class Call:
    """One request of the operator."""

    verb: str
    """HTTP method; WATCH for a watch."""
    path: str
    query: dict[str, str]
    agent: str
    token: str
    body: Any = None
    """Parsed JSON of a write."""
    number: int = 0
    """Of writes: 1, 2, 3 ..."""
    code: int = 0
    """0 until the operator was answered."""
    answer: Any = None
    """Parsed JSON of the server's answer to a write."""
    at: float = field(default_factory=time.monotonic)

    @property
    def is_write(self) -> bool:
        """Whether it changes something."""
        return self.verb in WRITES

    @property
    def resource(self) -> str:
        """Plural, with the subresource if there is one: jobs, leptonmodels/status."""
        parts = self.path.strip("/").split("/")
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        if rest and rest[0] == "namespaces" and len(rest) > 2:
            rest = rest[2:]
        if not rest:
            return ""
        return f"{rest[0]}/{rest[2]}" if len(rest) > 2 else rest[0]

    def __str__(self) -> str:
        return f"{self.number or '-'} {self.verb} {self.path} -> {self.code}"


Match = Callable[[Call], bool]


def everything(_call: Call) -> bool:
    """All calls."""
    return True


def writes(call: Call) -> bool:
    """All writes."""
    return call.is_write


def reads(call: Call) -> bool:
    """Gets and lists."""
    return call.verb == "GET"


def watches(call: Call) -> bool:
    """Watches."""
    return call.verb == "WATCH"


def on(verb: str, resource: str) -> Match:
    """Calls of that verb on that resource."""
    return lambda call: call.verb == verb and call.resource == resource


@dataclass(eq=False)
class Fault:
    """Instead of, or beside, the answer of the API server; in force while it is among a proxy's faults."""

    match: Match = everything
    code: int = 0
    """Answer so; the server never sees the request. 0: as `reset`, `hang` and `lose` say."""
    headers: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    reset: bool = False
    """Cut the connection; the server never sees the request."""
    hang: bool = False
    """No answer for as long as the fault is in force; the server never sees the request."""
    lose: bool = False
    """The server does as asked, and the connection is cut instead of the answer."""
    hits: int = 0
    """How many calls it met."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is no longer in force."""

    def status(self) -> Object:
        """The body of the answer."""
        return {
            "apiVersion": "v1",
            "kind": "Status",
            "status": "Failure",
            "code": self.code,
            "reason": self.reason,
            "message": f"made up by the test: {self.code} {self.reason}",
        }


def writes_by_kind(calls: Iterable[Call]) -> Counter[str]:
    """How many successful writes of each verb and resource."""
    done = (call for call in calls if call.is_write and 200 <= call.code <= 299)
    return Counter(f"{call.verb} {call.resource}" for call in done)
