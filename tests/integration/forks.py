"""Lives of the operator without the second of CPU that Python's imports cost, for tests that need hundreds.

A fork server imports the operator once; each life is a fork of it that runs the same `main` with its own
flags, sockets and event loop. SIGKILL ends it as it ends any process.
"""

import contextlib
import ctypes
import multiprocessing
import os
import random
import signal
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

PRELOAD = ("lepton_operator.__main__", "lepton_operator.app", "tests.integration.forks")
PR_SET_PDEATHSIG = 1

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(PRELOAD))


class ForkedLife:
    """One life, with the part of Popen's interface that is needed."""

    def __init__(self, flags: list[str], log: Path) -> None:
        self._process: ForkServerProcess = _context.Process(target=_live, args=(flags, log), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, or None while it lives."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> int:
        """The exit code, once it has ended."""
        self._process.join(seconds)
        code = self.poll()
        assert code is not None, f"the operator did not end within {seconds:.0f} s"
        return code


def _live(flags: list[str], log: Path) -> None:
    """In the fork: the operator, from its first line on."""
    from lepton_operator.__main__ import main

    # The fork server ends with the tests, however they end.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    random.seed()
    sys.argv = ["lepton_operator", *flags]
    sys.exit(main())
