"""Holds, drops or merges what watches tell an operator: caches that lag behind, events that never come."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.integration.kube import Object


@dataclass(slots=True)
class Event:
    """One event of one watch."""

    resource: str
    type: str
    object: Object
    line: bytes

    @property
    def name(self) -> tuple[str, str]:
        """What it is about."""
        meta = self.object["metadata"]
        return meta.get("namespace", ""), meta.get("name", "")


class Stream:
    """One watch of the operator: lines to send, in order."""

    def __init__(self, resource: str) -> None:
        self.resource = resource
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        """None ends the stream."""


@dataclass
class Gate:
    """Every event passes it; all methods are called on the background loop."""

    passes: Callable[[Event], bool] = lambda _event: True
    """Asked for each event; one that doesn't pass is held until `release`."""
    merges: bool = False
    """Of the held events only the last of each object is told in the end."""
    passed: int = 0
    """Events that the operator got, bookmarks aside."""
    held: list[tuple[Stream, Event]] = field(default_factory=list)
    freeze_after: int | None = None
    """Once so many events have passed, everything is held."""
    merged: int = 0
    """Events that were never told, because a later one about the same object was."""

    def take(self, stream: Stream, event: Event) -> None:
        """An event comes from the API server."""
        frozen = self.freeze_after is not None and self.passed >= self.freeze_after
        waiting = any(other is stream for other, _ in self.held)
        if frozen or waiting or not self.passes(event):
            # Bookmarks would move the operator past what is held; those held are dropped.
            if event.type != "BOOKMARK":
                self.held.append((stream, event))
            return
        self._tell(stream, event)

    def release(self) -> int:
        """Tell what is held, in order; how many events that were."""
        held, self.held = self.held, []
        if self.merges:
            last: OrderedDict[tuple[int, tuple[str, str]], tuple[Stream, Event]] = OrderedDict()
            for stream, event in held:
                last[id(stream), event.name] = (stream, event)
                last.move_to_end((id(stream), event.name))
            self.merged += len(held) - len(last)
            held = list(last.values())
        for stream, event in held:
            self._tell(stream, event)
        return len(held)

    def forget(self, stream: Stream) -> None:
        """The watch has ended; the next one of its kind starts where the operator stands."""
        self.held = [(other, event) for other, event in self.held if other is not stream]

    def open(self) -> None:
        """Hold nothing any more."""
        self.freeze_after = None
        self.passes = lambda _event: True
        self.release()

    def _tell(self, stream: Stream, event: Event) -> None:
        if event.type != "BOOKMARK":
            self.passed += 1
        stream.lines.put_nowait(event.line)
