"""A gang: one attempt of a training as an Indexed Job, and the headless Service its workers meet by."""

from lepton_operator.api.training_job import TrainingJobSpec
from lepton_operator.context import Context
from lepton_operator.desired.own_code import own_code_pod
from lepton_operator.desired.owner import ATTEMPT_LABEL, Owner
from lepton_operator.desired.pod import Manifest, container, mount, pod_spec, store_volumes, with_additions
from lepton_operator.facts import Json
from lepton_workloads.contract.own_code import OWN_CONTAINER, PUBLISH_CONTAINER
from lepton_workloads.contract.tasks import (
    CHECKPOINTS_DIR,
    GANG_PORT,
    MODELS_DIR,
    REPORT_PORT,
    TrainTask,
)

COMPONENT = "training"
CONTAINER = OWN_CONTAINER
"""The container that trains, by Lepton's code or the user's."""
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
    pod = (_pod if spec.network.custom is None else own_code_pod)(
        owner, spec, dataset_key, data_claim, attempt, _peers(owner, spec, attempt), context
    )
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


def _peers(owner: Owner, spec: TrainingJobSpec, attempt: int) -> list[str]:
    """DNS name of each worker's pod, in the order of the index."""
    name = attempt_name(owner, attempt)
    return [f"{name}-{index}.{gang_name(owner)}.{owner.namespace}.svc" for index in range(spec.workers)]


def _pod(
    owner: Owner,
    spec: TrainingJobSpec,
    dataset_key: str,
    data_claim: str,
    attempt: int,
    peers: list[str],
    context: Context,
) -> Manifest:
    task = TrainTask(
        job=owner.full_name,
        job_uid=owner.uid,
        attempt=attempt,
        workers=spec.workers,
        peers=peers,
        dataset_name=spec.dataset.name,
        dataset_key=dataset_key,
        network=spec.network.cnn,
        training=spec.training,
        startup_deadline_seconds=spec.startup_deadline_seconds,
        image=context.trainer_image,
    )
    volumes, data_mount = store_volumes(spec.storage.claim_name, data_claim, dataset_key)
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
    return pod_spec([train | {"ports": ports}], volumes, restart_policy="Never", grace_seconds=30)
