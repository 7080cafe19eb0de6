"""`python -m lepton_workloads.own.report`: tells how far own code is, from the file that it writes.

It runs beside own code until the pod ends. The file is not trusted: what is too large, no file or no progress is
passed over, and the last good figures stay.
"""

import os
import stat
import threading
from pathlib import Path

from pydantic import ValidationError

from lepton_workloads.contract.outcome import Outcome, Report
from lepton_workloads.contract.own_code import MAX_FILE_BYTES, PROGRESS_DIR, PROGRESS_FILE, OwnProgress
from lepton_workloads.logs import Log
from lepton_workloads.own.task import read_task
from lepton_workloads.paths import place
from lepton_workloads.report import ReportServer
from lepton_workloads.termination import at_sigterm, exit_now, printable, run_and_exit

POLL_SECONDS = 1.0

log = Log(__name__)


class BadFile(Exception):
    """A file that says nothing of use; the text says why."""


def read_bounded(path: Path) -> bytes:
    """A regular file of at most MAX_FILE_BYTES that somebody else writes.

    Raises:
        BadFile: a link, a pipe, a folder, too large.
        FileNotFoundError: there is none.
        OSError: others.
    """
    if path.is_symlink():
        raise BadFile("it is a link")
    # Without O_NONBLOCK a pipe would hold this up until somebody writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadFile("it is no regular file")
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise BadFile(f"it has more than {MAX_FILE_BYTES} bytes")
    return content


class Follower:
    """Takes over what the file says, whenever it changed."""

    def __init__(self, path: Path, server: ReportServer, epochs: int) -> None:
        self._path = path
        self._server = server
        self._epochs = epochs
        self._seen: tuple[int, int, int] | None = None
        self._complained = False

    def look(self) -> None:
        """Read the file if it is another one than at the last look."""
        try:
            found = self._path.lstat()
            version = (found.st_ino, found.st_size, found.st_mtime_ns)
            if version == self._seen:
                return
            self._seen = version
            progress = OwnProgress.model_validate_json(read_bounded(self._path))
        except FileNotFoundError:
            return
        except (BadFile, OSError, ValidationError) as error:
            if not self._complained:
                self._complained = True
                log.warning("Ignored the progress", file=self._path, why=printable(str(error), 600))
            return
        self._complained = False
        self._server.update(
            phase=progress.phase,
            done=progress.step,
            total=progress.steps,
            epoch=progress.epoch,
            epochs=self._epochs if progress.epochs is None else progress.epochs,
            loss=progress.loss,
            accuracy=progress.accuracy,
            images_per_second=progress.images_per_second,
            learning_rate=progress.learning_rate,
            images=progress.images,
            eta_seconds=progress.eta_seconds,
            history=progress.history,
        )


def main() -> Outcome:
    """Serve the report until the pod ends: then the kubelet sends SIGTERM, which is a good end here."""
    task, index = read_task()
    at_sigterm(lambda: exit_now(0))
    epochs = task.training.epochs
    report = Report(owner_uid=task.job_uid, attempt=task.attempt, index=index, epochs=epochs)
    with ReportServer(report) as server:
        follower = Follower(place(PROGRESS_DIR) / PROGRESS_FILE, server, epochs)
        waiting = threading.Event()
        while not waiting.wait(POLL_SECONDS):
            follower.look()
    return Outcome()


if __name__ == "__main__":
    run_and_exit(main)
