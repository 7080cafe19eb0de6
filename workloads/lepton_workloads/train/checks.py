"""What would only be seen after hours of training, looked at before."""

import json
from pathlib import Path

import numpy as np

from lepton_workloads.contract.data import SplitName
from lepton_workloads.contract.outcome import Failure
from lepton_workloads.contract.tasks import MODELS_DIR, TrainTask
from lepton_workloads.paths import place
from lepton_workloads.termination import WorkloadError, printable
from lepton_workloads.train.data import Dataset

MAX_LABELS = 20


def check_task(task: TrainTask, index: int) -> None:
    """Refuse a task that contradicts itself.

    Raises:
        WorkloadError: InvalidSpec.
    """
    wrong = None
    if len(task.peers) != task.workers or not 0 <= index < task.workers:
        wrong = f"worker {index} of {task.workers} has {len(task.peers)} peers"
    elif task.training.batch_size % task.workers:
        wrong = f"batchSize {task.training.batch_size} is not a multiple of the {task.workers} workers"
    if wrong:
        raise WorkloadError(Failure.INVALID_SPEC, wrong, terminal=True)


def check_gate(task: TrainTask, labels: list[str]) -> None:
    """Refuse a gate for a class that the dataset doesn't have.

    Raises:
        WorkloadError: InvalidSpec, with the labels that there are.
    """
    label = task.gate.label if task.gate else None
    if label is None or label in labels:
        return
    more = f" and {len(labels) - MAX_LABELS} more" if len(labels) > MAX_LABELS else ""
    text = (
        f"evaluation.gate.label {label!r} is no class of the dataset {task.dataset_name}, whose labels are "
        f"{', '.join(labels[:MAX_LABELS])}{more}"
    )
    raise WorkloadError(Failure.INVALID_SPEC, printable(text), terminal=True)


def check_monitors(task: TrainTask, dataset: Dataset) -> None:
    """Refuse to watch validation figures of a dataset that has no validation split.

    Raises:
        WorkloadError: InvalidSpec.
    """
    if len(dataset.splits[SplitName.VALIDATION]):
        return
    schedule, early = task.training.learning_rate_schedule, task.training.early_stopping
    monitors = {"earlyStopping.monitor": early.monitor if early else None}
    if schedule and schedule.type == "ReduceLROnPlateau":
        monitors["learningRateSchedule.monitor"] = schedule.monitor or "validationLoss"
    for field, monitor in monitors.items():
        if monitor and monitor.startswith("validation"):
            text = (
                f"training.{field} is {monitor}, but the dataset {task.dataset_name} has no validation split: "
                "give it one (split.validation), or watch loss or accuracy"
            )
            raise WorkloadError(Failure.INVALID_SPEC, text, terminal=True)


def check_labels(dataset: Dataset, folder: Path) -> None:
    """Refuse labels that are no class; the network would train on nonsense or fail without a name.

    Args:
        folder: of the prepared dataset, for the name of the sample.

    Raises:
        WorkloadError: InvalidData, naming the first such sample.
    """
    classes = len(dataset.manifest.labels)
    for split in SplitName:
        labels = dataset.splits[split].labels
        wrong = np.flatnonzero((labels < 0) | (labels >= classes))
        if len(wrong):
            sample = int(wrong[0])
            file = _file(folder, split, sample)
            text = (
                f"{len(wrong)} labels of the {split} split are out of range: sample {sample}{file} has label "
                f"{labels[sample]}, but there are {classes} classes (0 to {classes - 1}); prepare the dataset again"
            )
            raise WorkloadError(Failure.INVALID_DATA, printable(text), terminal=True)


def check_warm_start(task: TrainTask) -> None:
    """Refuse to begin with a version that isn't there.

    Raises:
        WorkloadError: SourceNotFound.
    """
    if task.warm_start and not (place(MODELS_DIR) / task.warm_start.digest).is_dir():
        text = (
            f"warm start: the store holds no version {task.warm_start.digest[:12]}: it was removed or is on "
            "another claim"
        )
        raise WorkloadError(Failure.SOURCE_NOT_FOUND, text, terminal=True)


def _file(folder: Path, split: SplitName, sample: int) -> str:
    """The sample's source file in brackets, if it is known."""
    try:
        with (folder / f"{split}.files").open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                if number == sample:
                    return f" ({json.loads(line)})"
    except (OSError, ValueError):
        return ""
    return ""
