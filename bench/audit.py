"""Writes as the API server counts them: its audit log, read from a point in time on."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

WRITING = frozenset({"create", "update", "patch", "delete", "deletecollection"})
SUBJECTS = (b'"userAgent":"lepton/', b'"userAgent":"kopf/')
"""The operator's own client, and kopf's inside the same process."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write of the operator."""

    verb: str
    resource: str
    """plural, with /status for the subresource."""
    namespace: str
    name: str
    code: int
    time: float
    """Seconds since the epoch when the API server had answered."""

    @property
    def is_lease(self) -> bool:
        """Leader election renews it all the time; the budgets leave it aside."""
        return self.resource == "leases"


class AuditLog:
    """Reads each line once, across rotations."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("rb")
        self._rest = b""
        self.skip()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def skip(self) -> None:
        """Forget everything up to now."""
        for _ in self._lines():
            continue

    def writes(self) -> list[Write]:
        """The operator's writes since the last call, Leases aside."""
        found = (_parse(line) for line in self._lines() if any(subject in line for subject in SUBJECTS))
        return [write for write in found if write is not None and not write.is_lease]

    def _lines(self) -> Iterator[bytes]:
        yield from self._complete_lines()
        while os.stat(self._path).st_ino != os.fstat(self._file.fileno()).st_ino:
            # The log was rotated: what was written to the old file before is read above.
            yield from self._complete_lines()
            self._file.close()
            self._file = self._path.open("rb")
            yield from self._complete_lines()

    def _complete_lines(self) -> Iterator[bytes]:
        while chunk := self._file.read(1 << 22):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from lines


def counted(writes: list[Write]) -> Counter[str]:
    """`verb resource` -> how often."""
    return Counter(f"{write.verb} {write.resource}" for write in writes)


def _parse(line: bytes) -> Write | None:
    event = json.loads(line)
    if event["verb"] not in WRITING:
        return None
    target = event.get("objectRef", {})
    resource = target.get("resource", "")
    if target.get("subresource"):
        resource += f"/{target['subresource']}"
    return Write(
        event["verb"],
        resource,
        target.get("namespace", ""),
        target.get("name", ""),
        event.get("responseStatus", {}).get("code", 0),
        datetime.fromisoformat(event["stageTimestamp"].replace("Z", "+00:00")).timestamp(),
    )
