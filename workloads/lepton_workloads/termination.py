"""How a container ends: the termination message, the exit code, and a prompt end on SIGTERM.

The message goes to `TERMINATION_FILE`, or to the file named by LEPTON_TERMINATION_FILE (for tests).
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from lepton_workloads.contract.outcome import (
    EXIT_RETRY,
    EXIT_TERMINAL,
    MAX_MESSAGE_BYTES,
    TERMINATION_FILE,
    Failure,
    Outcome,
)
from lepton_workloads.logs import Log, set_up_logs

TERMINATION_FILE_ENV = "LEPTON_TERMINATION_FILE"
EXIT_SIGTERM = 128 + signal.SIGTERM
MAX_MESSAGE_CHARACTERS = 1500

STOPPING_SECONDS = 60.0
"""More than a pod's grace period."""

log = Log(__name__)
_cleanups: list[Callable[[], None]] = []
_stopping = threading.Event()


class WorkloadError(Exception):
    """A failure with a name: `reason` and `message` become the status of the user's object.

    `terminal` says that another try gives the same end, since the input or the spec is wrong.
    """

    def __init__(self, reason: Failure, message: str, *, terminal: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.terminal = terminal


def at_sigterm(cleanup: Callable[[], None]) -> None:
    """Run `cleanup` in another thread when SIGTERM comes, before the process ends.

    Cleanups run in the order in which they were added. They may find a moving target, and must end well within the
    pod's grace period.
    """
    _cleanups.append(cleanup)


def printable(text: str, limit: int = MAX_MESSAGE_CHARACTERS) -> str:
    """Text that JSON and terminals take: file names may hold bytes that are no UTF-8."""
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def failed_outcome(error: BaseException) -> Outcome:
    """The outcome for an exception; what isn't a `WorkloadError` is an InternalError worth another try."""
    if isinstance(error, WorkloadError):
        return Outcome(reason=error.reason, message=printable(error.message), terminal=error.terminal)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Outcome(reason=Failure.INTERNAL_ERROR, message=printable(text))


def write_outcome(outcome: Outcome) -> None:
    """Write the termination message; a file that can't be written is logged, the exit code still tells."""
    path = Path(os.environ.get(TERMINATION_FILE_ENV, TERMINATION_FILE))
    try:
        path.write_text(_bounded(outcome) + "\n", encoding="utf-8")
    except OSError as error:
        log.error("Failed to write the termination message", path=path, error=error)


def run_main(main: Callable[[], Outcome]) -> int:
    """Run a container's work, write its outcome, return the exit code."""
    try:
        write_outcome(main())
    except Exception as error:
        if _stopping.is_set():
            # What fails now fails because of SIGTERM; its thread ends the process.
            log.info("Failed while stopping", error=str(error))
            threading.Event().wait(STOPPING_SECONDS)
        outcome = failed_outcome(error)
        log.error("Failed", error=error, reason=outcome.reason, terminal=outcome.terminal)
        write_outcome(outcome)
        return EXIT_TERMINAL if outcome.terminal else EXIT_RETRY
    return 0


def run_and_exit(main: Callable[[], Outcome]) -> NoReturn:
    """The body of a container's main module.

    Ends with `os._exit`: TensorFlow's threads and its gang's exit barrier must not keep a finished pod.
    """
    set_up_logs()
    _end_on_sigterm()
    exit_now(run_main(main))


def exit_now(code: int) -> NoReturn:
    """Flush and leave, from any thread."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def take_sigterm() -> None:
    """Let Python hear of SIGTERM, also after a library has put a handler of its own there; main thread only."""
    signal.signal(signal.SIGTERM, lambda number, frame: None)


def _end_on_sigterm() -> None:
    """End by a thread that reads the wakeup pipe: a handler alone would wait for native code to come back.

    A handler there must be: process 1 of a container ignores signals by default, and the kernel may hand
    the signal to any thread, also to those that libraries made on import.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    take_sigterm()

    def wait() -> None:
        while os.read(reader, 1) != bytes([signal.SIGTERM]):
            pass  # another signal, which has a handler of its own
        _stopping.set()
        log.info("Stopped by SIGTERM")
        for cleanup in _cleanups:
            try:
                cleanup()
            except Exception as error:
                log.error("Failed to clean up", error=error)
        exit_now(EXIT_SIGTERM)

    threading.Thread(target=wait, name="sigterm", daemon=True).start()


def _bounded(outcome: Outcome) -> str:
    """The outcome as one line of at most MAX_MESSAGE_BYTES: labels go first, then the end of the message."""
    text = outcome.to_json()
    while len(text.encode()) > MAX_MESSAGE_BYTES:
        if outcome.prepare and outcome.prepare.labels:
            labels = outcome.prepare.labels[: len(outcome.prepare.labels) * 3 // 4]
            outcome = outcome.model_copy(
                update={"prepare": outcome.prepare.model_copy(update={"labels": labels})}
            )
        elif outcome.message:
            shorter = printable(outcome.message, len(outcome.message) * 3 // 4)
            outcome = outcome.model_copy(update={"message": shorter})
        else:
            return Outcome(reason=Failure.INTERNAL_ERROR, message="the result was too long").to_json()
        text = outcome.to_json()
    return text
