"""A gang: one attempt of a training as an Indexed Job, and the headless Service its workers meet by."""

from lepton_operator.api.training_job import TrainingJobSpec
from lepton_operator.context import Context
from lepton_operator.desired.owner import ATTEMPT_LABEL, Owner
from lepton_operator.desired.pod import Manifest, claim_volume, container, mount, pod_spec, with_additions
from lepton_workloads.contract.tasks import (
    CHECKPOINTS_DIR,
    DATASET_DIR,
    GANG_PORT,
    MODELS_DIR,
    REPORT_PORT,
    TrainTask,
)

COMPONENT = "training"
CONTAINER = "train"
DATASET_ANNOTATION = "lepton.ai/dataset-digest"
CLAIM_ANNOTATION = "lepton.ai/dataset-claim"
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


def attempt_labels(owner: Owner, attempt: int) -> Manifest:
    """The labels by which an attempt's Job is found, for one that lost them; nothing else is ever changed."""
    labels = owner.labels(COMPONENT) | {ATTEMPT_LABEL: str(attempt)}
    metadata = {"name": attempt_name(owner, attempt), "labels": labels}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata}


def attempt_job(
    owner: Owner, spec: TrainingJobSpec, dataset_key: str, data_claim: str, attempt: int, context: Context
) -> Manifest:
    """batch/v1 Job without retries: the first failed pod ends the attempt, the operator makes the next."""
    metadata = attempt_labels(owner, attempt)["metadata"]
    labels = metadata["labels"]
    pod = _pod(owner, spec, dataset_key, data_claim, attempt, context)
    metadata["annotations"] = {DATASET_ANNOTATION: dataset_key, CLAIM_ANNOTATION: data_claim}
    template = {"metadata": {"labels": labels}, "spec": pod | {"subdomain": gang_name(owner)}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "completionMode": "Indexed",
            "completions": spec.workers,
            "parallelism": spec.workers,
            "backoffLimit": 0,
            "template": with_additions(template, spec.pod_template),
        },
    }


def _pod(
    owner: Owner, spec: TrainingJobSpec, dataset_key: str, data_claim: str, attempt: int, context: Context
) -> Manifest:
    name = attempt_name(owner, attempt)
    task = TrainTask(
        job=owner.full_name,
        job_uid=owner.uid,
        attempt=attempt,
        workers=spec.workers,
        peers=[f"{name}-{index}.{gang_name(owner)}.{owner.namespace}.svc" for index in range(spec.workers)],
        dataset_name=spec.dataset.name,
        dataset_key=dataset_key,
        network=spec.network.cnn,
        training=spec.training,
        startup_deadline_seconds=spec.startup_deadline_seconds,
        image=context.trainer_image,
    )
    volumes = [claim_volume("store", spec.storage.claim_name)]
    data_volume = "store"
    if data_claim != spec.storage.claim_name:
        data_volume = "data"
        volumes.append(claim_volume("data", data_claim))
    mounts = [
        mount(data_volume, DATASET_DIR, f"datasets/{dataset_key}", read_only=True),
        mount("store", MODELS_DIR, "models"),
        mount("store", CHECKPOINTS_DIR, f"checkpoints/{owner.uid}"),
    ]
    ports = [
        {"name": "gang", "containerPort": GANG_PORT, "protocol": "TCP"},
        {"name": "report", "containerPort": REPORT_PORT, "protocol": "TCP"},
    ]
    train = container(CONTAINER, context.trainer_image, "train", task, spec.pod_resources, context, mounts)
    return pod_spec([train | {"ports": ports}], volumes, restart_policy="Never", grace_seconds=30)
