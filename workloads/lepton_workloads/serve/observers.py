"""Who looks at predictions, as the task says it; each is loaded only where it is wanted."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lepton_workloads.contract.artifact import Reference
from lepton_workloads.contract.outcome import DriftFigures
from lepton_workloads.contract.tasks import POD_NAME_ENV, REQUESTS_DIR
from lepton_workloads.paths import place
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.serve.model import Model

if TYPE_CHECKING:
    from lepton_workloads.serve.drift.watch import DriftWatch


@dataclass(slots=True)
class Watchers:
    """Those who look at predictions and have work of their own beside it."""

    drift: "DriftWatch | None" = None
    finishing: list[Callable[[float], None]] = field(default_factory=list)
    """What is still to be done when the last request is answered: each is called, in a thread of its own, with the
    `time.monotonic()` at which it must be done."""

    def start(self, tell: Callable[[DriftFigures], object]) -> None:
        """Begins to look for drift; `tell` hears of the figures, in another thread."""
        if self.drift:
            self.drift.start(tell)


def watch_predictions(model: Model, metrics: Metrics, reference: Reference | None) -> Watchers:
    """Sets the observers up.

    Args:
        reference: what drift is seen against.

    Raises:
        WorkloadError: `InvalidSpec`, terminal: the task and the model do not fit.
    """
    task = model.task
    pod = os.environ.get(POD_NAME_ENV) or socket.gethostname()
    watchers = Watchers()
    if task.drift and reference:
        from lepton_workloads.serve.drift.watch import DriftWatch

        drift = watchers.drift = DriftWatch(task.drift, reference, model.signature, metrics, task.precision)
        model.watch(drift)
        watchers.finishing.append(lambda _: drift.stop())
    if task.alarms:
        from lepton_workloads.serve.alarms.watch import Alarms

        alarms = Alarms(task, model.labels, metrics, pod)
        model.watch(alarms)
        watchers.finishing.append(alarms.close)
    if task.request_log:
        from lepton_workloads.serve.request_log.watch import Requests

        requests = Requests(task, task.request_log, model.signature, metrics, place(REQUESTS_DIR), pod)
        model.watch(requests)
        watchers.finishing.append(requests.close)
    return watchers
