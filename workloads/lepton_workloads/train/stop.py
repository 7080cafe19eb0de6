"""SIGTERM while training: time for one last checkpoint, and never much more."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOP_SECONDS = 10.0
"""How long a training may go on to reach its next step; a pod's grace period is 30 s."""
POLL_SECONDS = 0.2
END_SECONDS = 30.0


class Stop:
    """Between the thread that hears of SIGTERM and the training loop.

    Args:
        in_vain: says that the gang has ended, so that waiting for the loop brings nothing.
    """

    def __init__(self, in_vain: Callable[[], bool] = lambda: False) -> None:
        self._in_vain = in_vain
        self._training = threading.Event()
        self._asked = threading.Event()
        self._answered = threading.Event()

    @property
    def asked(self) -> bool:
        """The loop is to write its last checkpoint now, and then to `answer`."""
        return self._asked.is_set()

    def ask(self) -> None:
        """To be called at SIGTERM, in another thread; returns when the process may end."""
        if not self._training.is_set():
            return
        self._asked.set()
        end = time.monotonic() + STOP_SECONDS
        while not self._answered.wait(POLL_SECONDS) and time.monotonic() < end and not self._in_vain():
            continue

    def answer(self) -> None:
        """Nothing more is to be saved; the thread that asked ends the process, so this doesn't return then."""
        self._answered.set()
        if self.asked:
            threading.Event().wait(END_SECONDS)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Around the loop: only there is something to wait for.

        An error after SIGTERM is no failure of its own, since the peers were stopped too.
        """
        self._training.set()
        try:
            yield
        finally:
            self._training.clear()
            self.answer()
