"""How fast a core is meanwhile: CPU times of a machine that others use as well say little without it.

Neighbours on the same core and in the same caches make each CPU second do less work. A fixed piece of
work, repeated during a measure, tells how much less.
"""

import asyncio
import contextlib
import json
import statistics
import time

WORK = {str(number): {"name": f"object-{number}", "values": list(range(8))} for number in range(100)}
REPEATS = 20
PAUSE_SECONDS = 0.5


class Speedometer:
    """Samples all the time; the fastest sample ever counts as full speed."""

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """From now on, until `stop`."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """No more samples."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def mark(self) -> int:
        """A moment, for `percent_since`."""
        return len(self._samples)

    def percent_since(self, mark: int) -> float:
        """Typical speed since then, of the full one."""
        samples = self._samples[mark:] or [_work()]
        return min(*self._samples, *samples) / statistics.median(samples) * 100

    async def _run(self) -> None:
        while True:
            self._samples.append(_work())
            await asyncio.sleep(PAUSE_SECONDS)


def _work() -> float:
    """CPU seconds of the fixed work, some milliseconds."""
    started = time.thread_time()
    for _ in range(REPEATS):
        json.loads(json.dumps(WORK))
    return time.thread_time() - started
