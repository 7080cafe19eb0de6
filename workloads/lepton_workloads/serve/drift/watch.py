"""Watches for drift: takes a sample of the predictions on the event loop, counts and compares in a thread of its own.

On the event loop a prediction is only put aside, and no more of them than the thread can count with little of a core:
so the cost is bounded whatever the load and the size of the pictures. The thread takes what was put aside a few times a
second, since waking it for each prediction would cost more than the rest.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from prometheus_client import Counter, Gauge

from lepton_workloads.contract.artifact import Reference, Signature
from lepton_workloads.contract.data import Normalization
from lepton_workloads.contract.outcome import DriftFigures
from lepton_workloads.contract.serving import Drift, Precision
from lepton_workloads.decode import Pixels
from lepton_workloads.drift import picture_statistics
from lepton_workloads.logs import Log
from lepton_workloads.serve.drift.window import DriftWindow, Seen
from lepton_workloads.serve.engines.engine import Floats
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.serve.model import Prediction

PICTURES_PER_SECOND = 500.0
VALUES_PER_SECOND = 2.0 * 1024**2
"""Of all pictures: 14 a second of 224x224x3. At 7 ns each (measured), with 1.5 per cent of a core."""
BURST_SECONDS = 0.5
QUEUE_BYTES = 16 * 1024**2
"""Of the requests' inputs that are kept until they are counted."""
COUNT_VALUES = 128 * 1024
"""So many are counted in one go: what stays in the processor's cache is counted four times as fast."""
PAUSE_SECONDS = 0.25

log = Log(__name__)


def pixels_of(inputs: Floats, normalization: Normalization) -> Pixels:
    """The uint8 pictures that were normalised; what no picture holds becomes the nearest that one does."""
    with np.errstate(over="ignore"):
        values = (inputs - np.float32(normalization.offset)) / np.float32(normalization.scale)
    pixels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels


class DriftWatch:
    """An observer of the model; its methods are for the event loop's thread, but for what it says."""

    def __init__(
        self,
        drift: Drift,
        reference: Reference,
        signature: Signature,
        metrics: Metrics,
        precision: Precision = "float32",
    ) -> None:
        """Starts nothing yet."""
        self._window = DriftWindow(reference, drift, precision)
        self._normalization = signature.preprocessing.normalization
        values = int(np.prod(signature.inputs[0].shape[1:]))
        self._seconds_each = max(1 / PICTURES_PER_SECOND, values / VALUES_PER_SECOND)
        self._at_once = max(1, COUNT_VALUES // values)
        self._credit = BURST_SECONDS
        self._last = time.monotonic()
        self._queue: deque[tuple[Floats, Floats, int]] = deque()
        self._skipped = 0
        self._skipped_told = 0
        self._put_bytes = 0
        self._taken_bytes = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drift", daemon=True)
        self._tell: Callable[[DriftFigures], object] = lambda figures: None
        self._failures = metrics.observer_failures
        self._add_metrics(metrics)

    def start(self, tell: Callable[[DriftFigures], object]) -> None:
        """Begins to count; `tell` hears of the figures after each change, in the thread that counts."""
        self._tell = tell
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, soon."""
        self._stopped.set()

    def __call__(self, prediction: Prediction) -> None:
        """Puts a prediction aside, or a part of it, or counts it as skipped."""
        now = time.monotonic()
        self._credit = min(BURST_SECONDS, self._credit + now - self._last)
        self._last = now
        inputs, probabilities = prediction.inputs, prediction.probabilities
        count = len(inputs)
        held = self._put_bytes - self._taken_bytes
        if self._credit <= 0 or (held and held + inputs.nbytes > QUEUE_BYTES):
            self._skipped += count
            return
        size = inputs.nbytes
        most = max(1, int(self._credit / self._seconds_each))
        if count > most:
            self._skipped += count - most
            every = count // most  # not the first ones, in case that they are in order
            inputs, probabilities = inputs[::every][:most], probabilities[::every][:most]
            count = most
        self._credit -= count * self._seconds_each
        self._put_bytes += size
        self._queue.append((inputs, probabilities, size))

    def _run(self) -> None:
        while not self._stopped.wait(PAUSE_SECONDS):
            try:
                self._work()
            except Exception as error:
                self._failures.inc()
                log.error("Failed to look for drift", error=error)

    def _work(self) -> None:
        skipped = self._skipped
        self._skips.inc(skipped - self._skipped_told)
        self._skipped_told = skipped
        taken: list[tuple[Floats, Floats, int]] = []
        was_drifting = self._window.drifting
        while self._queue:
            taken.append(self._queue.popleft())
            self._taken_bytes += taken[-1][2]
        if not taken:
            return
        for inputs, probabilities in _batches(taken, self._at_once):
            self._examined.inc(len(inputs))
            self._window.add(self._seen(inputs, probabilities))
        for name, index in self._window.indexes.items():
            self._indexes.labels(name).set(index)
        report = self._window.report
        if report.drifting != was_drifting:
            change = "Found drift" if report.drifting else "Drift was over"
            log.warning(change, **{name: round(index, 3) for name, index in report.indexes.items()})
        self._tell(report)

    def _seen(self, inputs: Floats, probabilities: Floats) -> Seen:
        pictures = picture_statistics(pixels_of(inputs, self._normalization))
        predicted = probabilities.argmax(axis=1)
        return Seen(pictures, predicted, probabilities.max(axis=1).astype(np.float64))

    def _add_metrics(self, metrics: Metrics) -> None:
        predictions = Counter(
            "lepton_server_drift_predictions",
            "Predictions that were compared with the reference, and those beyond what may be in a second.",
            ["result"],
            registry=metrics.registry,
        )
        self._examined, self._skips = predictions.labels("examined"), predictions.labels("skipped")
        self._indexes = Gauge(
            "lepton_server_drift_index",
            "Population stability index of the newest predictions against the version's reference.",
            ["figure"],
            registry=metrics.registry,
        )
        levels = Gauge(
            "lepton_server_drift_level",
            "Index above which it counts as drift: the threshold, or what chance may give where that is more.",
            ["figure"],
            registry=metrics.registry,
        )
        for figure in self._window.figures:
            levels.labels(figure.name).set(figure.level)
        window = self._window
        metrics.watch(
            "drift_samples", "Predictions that are compared with the reference.", lambda: window.samples
        )
        metrics.watch(
            "drifting",
            "1 from the third window in a row above a level until all indexes are low.",
            lambda: window.drifting,
        )


def _batches(taken: Sequence[tuple[Floats, Floats, int]], at_once: int) -> Iterator[tuple[Floats, Floats]]:
    """The same predictions in few pieces of bounded size."""
    some: list[tuple[Floats, Floats]] = []
    count = 0
    for inputs, probabilities, _ in taken:
        for start in range(0, len(inputs), at_once):
            part = inputs[start : start + at_once], probabilities[start : start + at_once]
            if some and count + len(part[0]) > at_once:
                yield _joined(some)
                some, count = [], 0
            some.append(part)
            count += len(part[0])
    if some:
        yield _joined(some)


def _joined(parts: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    return np.concatenate([inputs for inputs, _ in parts]), np.concatenate([answers for _, answers in parts])
