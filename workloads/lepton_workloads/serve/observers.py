"""Who looks at predictions, as the task says it; each is loaded only where it is wanted."""

import os
import socket
from collections.abc import Callable

from lepton_workloads.contract.tasks import POD_NAME_ENV, REQUESTS_DIR
from lepton_workloads.paths import place
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.serve.model import Model


def watch_predictions(model: Model, metrics: Metrics) -> list[Callable[[float], None]]:
    """Sets the observers up; what they have to finish when the server ends (`Server.at_end`).

    Raises:
        WorkloadError: `InvalidSpec`, terminal: the task and the model do not fit.
    """
    task = model.task
    pod = os.environ.get(POD_NAME_ENV) or socket.gethostname()
    finishing: list[Callable[[float], None]] = []
    if task.alarms:
        from lepton_workloads.serve.alarms.watch import Alarms

        alarms = Alarms(task, model.labels, metrics, pod)
        model.watch(alarms)
        finishing.append(alarms.close)
    if task.request_log:
        from lepton_workloads.serve.request_log.watch import Requests

        requests = Requests(task, task.request_log, model.signature, metrics, place(REQUESTS_DIR), pod)
        model.watch(requests)
        finishing.append(requests.close)
    return finishing
