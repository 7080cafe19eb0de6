"""The thread that writes, behind a queue that is bounded in answers and bytes; what finds no place is counted.

A volume that is full or can't be written costs records, never predictions: each is counted, a line a minute says why.
"""

import errno
import itertools
import threading
import time
from collections import deque
from pathlib import PurePosixPath

from prometheus_client import CollectorRegistry, Counter, Gauge

from lepton_workloads.contract.data import Normalization
from lepton_workloads.logs import Log
from lepton_workloads.serve.request_log.folder import Folder
from lepton_workloads.serve.request_log.record import (
    Answer,
    best_class,
    file_of,
    folder_name,
    line_of,
    moment,
)
from lepton_workloads.serve.request_log.retention import too_much
from lepton_workloads.serve.throttle import Throttle

QUEUE_ANSWERS = 256
QUEUE_BYTES = 24 * 1024**2
CLEAR_AWAY_SECONDS = 600.0
RESULTS = ("written", "dropped", "failed")

log = Log(__name__)


class Writer:
    """Takes answers over from the event loop and writes them."""

    def __init__(
        self,
        folder: Folder,
        room: int,
        labels: list[str],
        model: dict[str, str],
        normalization: Normalization,
        registry: CollectorRegistry,
    ) -> None:
        """`room`: bytes that the pod's files may take. `model`: fields of each line."""
        self._folder = folder
        self._room = room
        self._labels = labels
        self._names = [folder_name(label) for label in labels]
        self._model = model
        self._normalization = normalization
        self._answers: deque[Answer] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._ends: float | None = None
        """`time.monotonic()` until which there is time, once the server ends."""
        self._numbers = itertools.count()
        self._cleared = -CLEAR_AWAY_SECONDS
        self._lines = Throttle(1, 60)
        self._records = Counter(
            "lepton_server_request_log_records",
            "Inputs with their answers: written, dropped since too many waited, failed to be written.",
            ["result"],
            registry=registry,
        )
        self._written = Counter(
            "lepton_server_request_log_written_bytes", "Bytes of files and lines.", registry=registry
        )
        for result in RESULTS:
            self._records.labels(result)
        for name, text, read in (
            ("stored_bytes", "Bytes of the pod's files that are kept.", self._stored),
            ("queue_length", "Answers that wait to be written.", lambda: len(self._answers)),
        ):
            Gauge(f"lepton_server_request_log_{name}", text, registry=registry).set_function(read)
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._thread.start()

    def put(self, answer: Answer) -> None:
        """Takes an answer over, or drops it; never waits."""
        with self._changed:
            fits = len(self._answers) < QUEUE_ANSWERS and self._bytes + answer.size <= QUEUE_BYTES
            if fits:
                self._answers.append(answer)
                self._bytes += answer.size
                self._changed.notify()
        if not fits:
            self._records.labels("dropped").inc(len(answer.probabilities))

    def close(self, deadline: float) -> None:
        """Writes what waits, until `deadline` (`time.monotonic()`) at the latest."""
        with self._changed:
            self._ends = deadline
            self._changed.notify()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        left = len(self._answers)
        if left:
            log.warning("Ended before all requests were logged", requests=left)

    def _stored(self) -> int:
        return sum(tuple(self._folder.parts.values()))

    def _run(self) -> None:
        self._clear_away()
        while True:
            answer = self._next()
            if answer is not None:
                for index in range(len(answer.probabilities)):
                    self._record(answer, index)
            elif self._is_over():
                self._folder.close()
                return
            self._clear_away()

    def _next(self) -> Answer | None:
        """The oldest answer; None when it is time for something else."""
        with self._changed:
            if not self._answers and self._ends is None:
                self._changed.wait(CLEAR_AWAY_SECONDS)
            if not self._answers or (self._ends is not None and time.monotonic() >= self._ends):
                return None
            answer = self._answers.popleft()
            self._bytes -= answer.size
            return answer

    def _is_over(self) -> bool:
        with self._changed:
            return self._ends is not None and (not self._answers or time.monotonic() >= self._ends)

    def _record(self, answer: Answer, index: int) -> None:
        try:
            try:
                self._write(answer, index)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ESTALE):
                    raise
                self._folder.close()
                self._write(answer, index)  # the folder was removed: it is made again
        except Exception as error:  # an answer is an answer, whatever becomes of its record
            self._records.labels("failed").inc()
            self._say(error)
        else:
            self._records.labels("written").inc()

    def _write(self, answer: Answer, index: int) -> None:
        if not self._folder.is_open:
            self._folder.open()
        when = moment(answer.time)
        file = file_of(answer, index, self._normalization)
        name = f"{when:%Y%m%dT%H%M%S}{when.microsecond // 1000:03d}-{next(self._numbers):06d}.{file.suffix}"
        folder = PurePosixPath(file.folder) / self._names[best_class(answer, index)]
        sent = "numbers" if answer.inputs is not None else "picture"
        line = line_of(answer, index, self._labels, self._model, folder / name, sent)
        self._make_room(len(file.data) + len(line))
        written = self._folder.write(when, file.data, folder, name)
        self._folder.append(line, written, len(file.data))
        self._written.inc(len(file.data) + len(line))

    def _make_room(self, wanted: int) -> None:
        if wanted > self._room:
            raise OSError(errno.EFBIG, f"{wanted} bytes are more than requestLog.maxMegabytes in all")
        if self._stored() + wanted > self._room:
            for part in too_much(self._folder.parts, self._room, wanted):
                self._folder.remove(part)

    def _clear_away(self) -> None:
        """Removes what is too old: at the start, and now and then."""
        if time.monotonic() - self._cleared < CLEAR_AWAY_SECONDS:
            return
        self._cleared = time.monotonic()
        try:
            if not self._folder.is_open:
                self._folder.open()
            self._folder.clear_away(moment(time.time()))
            for part in too_much(self._folder.parts, self._room, 0):
                self._folder.remove(part)
        except OSError as error:
            self._folder.close()
            self._say(error)

    def _say(self, error: Exception) -> None:
        more = self._lines.take()
        if more is None:
            return
        if not isinstance(error, OSError):
            log.error("Failed to log a request", error=error, lines_dropped_before=more)
            return
        reason = error.strerror or str(error)
        log.warning("Failed to log a request", reason=reason, file=error.filename, lines_dropped_before=more)
