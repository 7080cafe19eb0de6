"""Whether a training can work with a dataset: found before any pod trains."""

from lepton_operator.api.training_job import TrainingJobSpec
from lepton_operator.facts import Json
from lepton_workloads.contract.network import CnnSizes


def network_problem(network: CnnSizes, image: Json) -> str | None:
    """A sentence when the poolings leave nothing of a picture, else None.

    Convolutions keep the size with padding `same` and take their kernel size - 1 with `valid`; each pooling
    divides by its pool size, rounded down (Keras' Conv2D and MaxPooling2D with padding `valid`).
    """
    for side in ("height", "width"):
        size = first = int(image.get(side, 32))
        for block, (_, kernel, pool) in enumerate(network.blocks, start=1):
            if network.padding == "valid":
                size -= kernel - 1
            size = size // pool if size > 0 else 0
            if size < 1:
                return (
                    f"pictures of {side} {first} are too small for {len(network.convolutions)} "
                    "convolution blocks: "
                    f"nothing is left after block {block}: use fewer convolutions, a smaller poolSize, "
                    f"padding: same, or larger pictures in the dataset"
                )
    return None


def training_problem(spec: TrainingJobSpec, dataset: Json) -> str | None:
    """A sentence when the training asks for what the dataset or the network doesn't have, else None."""
    for problem in (_monitor_problem(spec, dataset), _layer_problem(spec), _label_problem(spec, dataset)):
        if problem:
            return problem
    return None


def _monitor_problem(spec: TrainingJobSpec, dataset: Json) -> str | None:
    if dataset["spec"].get("split", {}).get("validation", 0.1) > 0:
        return None
    stopping, schedule = spec.training.early_stopping, spec.training.learning_rate_schedule
    watched = {"training.earlyStopping": stopping.monitor if stopping else None}
    if schedule and schedule.type == "ReduceLROnPlateau":
        watched["training.learningRateSchedule"] = schedule.monitor or "validationLoss"
    for where, monitor in watched.items():
        if monitor and monitor.startswith("validation"):
            return (
                f"{where} watches {monitor}, and LeptonDataset {spec.dataset.name} has no validation split: give it "
                "a share in spec.split.validation, or watch loss or accuracy in a new job"
            )
    return None


def _layer_problem(spec: TrainingJobSpec) -> str | None:
    warm, network = spec.warm_start, spec.network
    there = {"convolution": len(network.convolutions), "dense": len(network.dense)}
    there["batch_normalization"] = len(network.convolutions) if network.batch_normalization else 0
    for layer in (warm.frozen_layers if warm else None) or ():
        kind, _, number = layer.rpartition("_")
        if int(number) >= there.get(kind, 0):
            return f"warmStart.frozenLayers names {layer}, and the network has {there.get(kind, 0)} layers {kind}_N"
    return None


def _label_problem(spec: TrainingJobSpec, dataset: Json) -> str | None:
    gate, status = spec.evaluation.gate, dataset.get("status") or {}
    labels = status.get("labels") or ()
    known = labels and len(labels) == status.get("classes")
    if gate is None or gate.label is None or not known or gate.label in labels:
        return None
    return (
        f"evaluation.gate asks for label {gate.label}, and LeptonDataset {spec.dataset.name} has "
        f"{', '.join(labels)}: create a job with one of these"
    )
