"""What all of Lepton's containers around own code do first."""

import os

from lepton_workloads.contract.own_code import OwnCodeTask
from lepton_workloads.contract.tasks import INDEX_ENV, TASK_ENV


def read_task() -> tuple[OwnCodeTask, int]:
    """The task, and this pod's index; 0 is the chief."""
    return OwnCodeTask.model_validate_json(os.environ[TASK_ENV]), int(os.environ.get(INDEX_ENV, "0"))
