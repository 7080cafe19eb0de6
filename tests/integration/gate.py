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
    """Once so many events have passed, those of `frozen` are held."""
    frozen: frozenset[str] | None = None
    """Resources whose watches freeze; None for all."""
    merged: int = 0
    """Events that were never told, because a later one about the same object was."""

    def take(self, stream: Stream, event: Event) -> None:
        """An event comes from the API server."""
        frozen = self._is_frozen(stream)
        waiting = any(other is stream for other, _ in self.held)
        if frozen or waiting or not self.passes(event):
            # Bookmarks would move the operator past what is held; those held are dropped.
            if event.type != "BOOKMARK":
                self.held.append((stream, event))
            return
        self._tell(stream, event)

    def release(self, reverse: bool = False) -> int:
        """Tell what is held; how many events that were.

        In order, or watch by watch with the one that spoke first as the last: watches have no common order.
        """
        held, self.held = self.held, []
        if self.merges:
            last: OrderedDict[tuple[int, tuple[str, str]], tuple[Stream, Event]] = OrderedDict()
            for stream, event in held:
                last[id(stream), event.name] = (stream, event)
                last.move_to_end((id(stream), event.name))
            self.merged += len(held) - len(last)
            held = list(last.values())
        if reverse:
            first = {id(stream): at for at, (stream, _) in reversed(list(enumerate(held)))}
            held.sort(key=lambda one: -first[id(one[0])])
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

    def _is_frozen(self, stream: Stream) -> bool:
        if self.freeze_after is None or self.passed < self.freeze_after:
            return False
        return self.frozen is None or stream.resource in self.frozen

    def _tell(self, stream: Stream, event: Event) -> None:
        if event.type != "BOOKMARK":
            self.passed += 1
        stream.lines.put_nowait(event.line)
