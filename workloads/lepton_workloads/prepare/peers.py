"""Waiting for other indexes with a deadline that counts from their last sign of life.

Each index writes a counter into `alive-<index>`. A waiting index compares contents, not times, since
the clocks of two nodes differ.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from lepton_workloads.contract.outcome import Failure
from lepton_workloads.termination import WorkloadError

BEAT_SECONDS = 5.0
POLL_SECONDS = 0.25

T = TypeVar("T")


class Heartbeat:
    """Says that this index is at work; `beat` is cheap and may be called for every picture."""

    def __init__(self, folder: Path, index: int) -> None:
        self._path = folder / f"alive-{index}"
        self._count = time.time_ns()
        self._next = 0.0

    def beat(self) -> None:
        """Write a new count, at most every BEAT_SECONDS; a full volume is found by those who write data."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + BEAT_SECONDS
        self._count += 1
        with contextlib.suppress(OSError):
            self._path.write_text(str(self._count), encoding="ascii")


def wait_for_peers(
    folder: Path, indexes: Sequence[int], ready: Callable[[int], T | None], deadline: float, beat: Heartbeat
) -> list[T]:
    """`ready(index)` of each index, once none is None.

    Args:
        deadline: seconds without a sign of life of an index that isn't ready.

    Raises:
        WorkloadError: PeersNotReady, naming the indexes that are missing; another try may succeed.
    """
    seen: dict[int, tuple[str, float]] = {index: ("", time.monotonic()) for index in indexes}
    results: dict[int, T] = {}
    while True:
        for index in indexes:
            if index not in results and (value := ready(index)) is not None:
                results[index] = value
        missing = [index for index in indexes if index not in results]
        if not missing:
            return [results[index] for index in indexes]
        now = time.monotonic()
        for index in missing:
            count = _count(folder, index)
            if count != seen[index][0]:
                seen[index] = count, now
        lost = [index for index in missing if now - seen[index][1] >= deadline]
        if lost:
            raise WorkloadError(
                Failure.PEERS_NOT_READY,
                f"index {', '.join(map(str, lost))} of the preparation showed no sign of life for "
                f"{deadline:g} s: see why its pod doesn't run",
                terminal=False,
            )
        beat.beat()
        time.sleep(POLL_SECONDS)


def _count(folder: Path, index: int) -> str:
    try:
        return (folder / f"alive-{index}").read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
