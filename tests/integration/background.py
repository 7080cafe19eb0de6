"""One event loop in a thread of its own, for the simulated node and the proxies; it starts processes, too."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """Runs coroutines for the tests, which are synchronous."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="background", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T], seconds: float = 60.0) -> T:
        """The result of a coroutine."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def do(self, work: Callable[[], T]) -> T:
        """The result of a function that runs in the loop's thread."""

        async def run() -> T:
            return work()

        return self.call(run())

    def call_soon(self, work: Callable[[], Any]) -> None:
        """Run `work` on the loop, some time soon."""
        self.loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """End the thread; whatever still runs in it is cancelled."""

        async def cancel_all() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.call(cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()
