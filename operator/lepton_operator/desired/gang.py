"""A gang: one attempt of a training as an Indexed Job, and the headless Service its workers meet by."""

from dataclasses import dataclass

from lepton_operator.api.training_job import QUEUE_LABEL, TrainingJobSpec
from lepton_operator.context import Context
from lepton_operator.desired.own_code import own_code_pod
from lepton_operator.desired.owner import ATTEMPT_LABEL, FOLD_LABEL, Owner
from lepton_operator.desired.pod import (
    Manifest,
    container,
    http_probe,
    mount,
    pod_spec,
    store_volumes,
    with_additions,
)
from lepton_operator.facts import Json
from lepton_workloads.contract.own_code import OWN_CONTAINER, PUBLISH_CONTAINER
from lepton_workloads.contract.tasks import (
    CHECKPOINTS_DIR,
    GANG_PORT,
    MODELS_DIR,
    REPORT_PORT,
    Fold,
    TrainTask,
    WarmStart,
)

COMPONENT = "training"
CONTAINER = OWN_CONTAINER
"""The container that trains, by Lepton's code or the user's."""
DATASET_ANNOTATION = "lepton.ai/dataset-digest"
CLAIM_ANNOTATION = "lepton.ai/dataset-claim"
WARM_START_ANNOTATION = "lepton.ai/warm-start"
"""On each attempt: the prepared data it uses and where it is, so that a lost status doesn't change it."""


def gang_name(owner: Owner) -> str:
    """Name of the headless Service."""
    return f"{owner.name}-train"


def attempt_name(owner: Owner, attempt: int) -> str:
    """Name of an attempt's Job."""
    return f"{owner.name}-train-a{attempt}"


def gang_service(owner: Owner) -> Manifest:
    """Headless, publishes addresses of pods that aren't ready: workers must meet before they are."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(gang_name(owner), COMPONENT),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": owner.selector(),
            "ports": [
                {"name": "gang", "port": GANG_PORT, "targetPort": GANG_PORT, "protocol": "TCP"},
                {"name": "report", "port": REPORT_PORT, "targetPort": REPORT_PORT, "protocol": "TCP"},
            ],
        },
    }


def fold_name(owner: Owner, fold: int, attempt: int) -> str:
    """Name of the Job of an attempt at a fold of the cross-validation."""
    return f"{owner.name}-f{fold}-a{attempt}"


def attempt_labels(owner: Owner, attempt: int, fold: int | None = None) -> Manifest:
    """The labels by which an attempt's Job is found, for one that lost them; nothing else is ever changed."""
    labels = owner.labels(COMPONENT) | {ATTEMPT_LABEL: str(attempt)}
    name = attempt_name(owner, attempt)
    if fold is not None:
        labels[FOLD_LABEL] = str(fold)
        name = fold_name(owner, fold, attempt)
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": labels}}


@dataclass(frozen=True, slots=True)
class Pinned:
    """What all attempts of a job use, whatever happens to the objects that it came from."""

    dataset_key: str
    data_claim: str
    warm_start: str | None = None
    """Digest of the version whose weights it begins with."""
    queue: str | None = None
    """The queue that starts and stops the Jobs."""


def attempt_job(
    owner: Owner,
    spec: TrainingJobSpec,
    pinned: Pinned,
    attempt: int,
    context: Context,
    fold: int | None = None,
) -> Manifest:
    """batch/v1 Job without retries: the first failed pod ends the attempt, the operator makes the next.

    A fold is trained by one worker. A Job for a queue is made suspended: the queue starts it.
    """
    workers = spec.workers if fold is None else 1
    manifest = attempt_labels(owner, attempt, fold)
    metadata = manifest["metadata"]
    peers = [f"{metadata['name']}-{at}.{gang_name(owner)}.{owner.namespace}.svc" for at in range(workers)]
    if spec.network.custom is None:
        pod = _pod(owner, spec, pinned, attempt, peers, context, fold)
    else:
        pod = own_code_pod(owner, spec, pinned.dataset_key, pinned.data_claim, attempt, peers, context)
    template = {
        "metadata": {"labels": dict(metadata["labels"])},
        "spec": pod | {"subdomain": gang_name(owner)},
    }
    metadata["annotations"] = {
        DATASET_ANNOTATION: pinned.dataset_key,
        CLAIM_ANNOTATION: pinned.data_claim,
        **({WARM_START_ANNOTATION: pinned.warm_start} if pinned.warm_start else {}),
    }
    job: Manifest = {
        "completionMode": "Indexed",
        "completions": workers,
        "parallelism": workers,
        "backoffLimit": 0,
        "template": with_additions(template, spec.pod_template),
    }
    if pinned.queue:
        metadata["labels"] = metadata["labels"] | {QUEUE_LABEL: pinned.queue}
        job["suspend"] = True
    return manifest | {"spec": job}


def main_container(spec: TrainingJobSpec) -> str:
    """The container whose outcome is that of the attempt."""
    return CONTAINER if spec.network.custom is None else PUBLISH_CONTAINER


def main_image(spec: TrainingJobSpec, context: Context) -> str:
    """The image that the operator's settings give to that container."""
    return context.trainer_image if spec.network.custom is None else context.server_image


def trainer_image(job: Json) -> str:
    """The image that trained in an attempt: the settings may name another one by now."""
    pod = job["spec"]["template"]["spec"]
    found: str = next(
        one["image"]
        for one in (*(pod.get("initContainers") or ()), *pod["containers"])
        if one["name"] == CONTAINER
    )
    return found


def _pod(
    owner: Owner,
    spec: TrainingJobSpec,
    pinned: Pinned,
    attempt: int,
    peers: list[str],
    context: Context,
    fold: int | None,
) -> Manifest:
    validation = spec.evaluation.cross_validation
    task = TrainTask(
        job=owner.full_name,
        job_uid=owner.uid,
        attempt=attempt,
        workers=len(peers),
        peers=peers,
        dataset_name=spec.dataset.name,
        dataset_key=pinned.dataset_key,
        network=spec.network.cnn,
        training=spec.training,
        checkpoint=spec.checkpoint,
        top_k=spec.evaluation.top_k,
        gate=spec.evaluation.gate,
        cross_validation=validation,
        fold=None if fold is None or validation is None else Fold(index=fold, folds=validation.folds),
        warm_start=_warm_start(spec, pinned),
        startup_deadline_seconds=spec.startup_deadline_seconds,
        image=context.trainer_image,
    )
    volumes, data_mount = store_volumes(spec.storage.claim_name, pinned.data_claim, pinned.dataset_key)
    mounts = [
        data_mount,
        mount("store", MODELS_DIR, "models"),
        mount("store", CHECKPOINTS_DIR, f"checkpoints/{owner.uid}"),
    ]
    ports = [
        {"name": "gang", "containerPort": GANG_PORT, "protocol": "TCP"},
        {"name": "report", "containerPort": REPORT_PORT, "protocol": "TCP"},
    ]
    train = container(CONTAINER, context.trainer_image, "train", task, spec.pod_resources, context, mounts)
    # Two minutes: importing TensorFlow on a crowded node may leave no time for answers.
    train |= {"ports": ports, "livenessProbe": http_probe("/healthz", "report", period=20, failures=6)}
    return pod_spec([train], volumes, restart_policy="Never", grace_seconds=30)


def _warm_start(spec: TrainingJobSpec, pinned: Pinned) -> WarmStart | None:
    if spec.warm_start is None or pinned.warm_start is None:
        return None
    return WarmStart(digest=pinned.warm_start, frozen_layers=spec.warm_start.frozen_layers or [])
