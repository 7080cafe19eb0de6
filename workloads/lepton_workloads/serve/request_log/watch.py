"""The observer: draws the sample, hands answers to the writer."""

import random
import time
from pathlib import Path

from lepton_workloads.contract.artifact import Signature
from lepton_workloads.contract.serving import RequestLog
from lepton_workloads.contract.tasks import ServeTask
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.serve.model import Prediction
from lepton_workloads.serve.request_log.folder import Folder
from lepton_workloads.serve.request_log.record import Answer
from lepton_workloads.serve.request_log.writer import Writer

PARTS = 16
"""In so many parts, at least, lies what the room holds: the oldest of them go one by one."""


class Requests:
    """The log of a server's requests; an observer of its model."""

    def __init__(
        self,
        task: ServeTask,
        spec: RequestLog,
        signature: Signature,
        metrics: Metrics,
        root: Path,
        pod: str,
    ) -> None:
        room = spec.max_megabytes * 1024**2
        self._sample = spec.sample
        self._writer = Writer(
            Folder(root, pod, spec.retention_days, room // PARTS),
            room,
            signature.labels,
            {"model": task.name, "version": task.version},
            signature.preprocessing.normalization,
            metrics.registry,
        )

    def __call__(self, prediction: Prediction) -> None:
        """Looks at an answer; on the event loop, a microsecond or two."""
        if self._sample < 1 and random.random() >= self._sample:
            return
        pictures = list(prediction.pictures)
        inputs = None if pictures else prediction.inputs
        size = prediction.inputs.nbytes if inputs is not None else sum(map(len, pictures))
        size += prediction.probabilities.nbytes
        self._writer.put(
            Answer(time.time(), prediction.caller, prediction.probabilities, pictures, inputs, size)
        )

    def close(self, deadline: float) -> None:
        """Writes what waits, until `deadline` (`time.monotonic()`) at the latest."""
        self._writer.close(deadline)
