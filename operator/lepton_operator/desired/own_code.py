"""The pod of an attempt whose program is the user's: it runs as an init container, so that Lepton comes after it.

In this order: `report` (a sidecar: progress, for the operator and Prometheus), `check` (data and folders),
`train` (own code, in the user's image), `publish` (the main container: only when own code ended well).
"""

import json
from typing import Any

from lepton_operator.api.common import Resources
from lepton_operator.api.training_job import TrainingJobSpec
from lepton_operator.context import Context
from lepton_operator.desired.owner import Owner
from lepton_operator.desired.pod import (
    Manifest,
    container,
    field_env,
    hardened,
    mount,
    pod_spec,
    store_volumes,
)
from lepton_workloads.contract import own_code as own
from lepton_workloads.contract.network import OwnCode
from lepton_workloads.contract.outcome import TERMINATION_FILE
from lepton_workloads.contract.tasks import (
    CHECKPOINTS_DIR,
    DATASET_DIR,
    GANG_PORT,
    MODELS_DIR,
    REPORT_PORT,
    SCRATCH_DIR,
)

OUTPUT_SIZE = "4Gi"
PROGRESS_SIZE = "64Mi"
GRACE_SECONDS = 30
INDEX_PATH = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
HOME_ENV = "HOME"
"""Most libraries want one that can be written; podTemplate.env may name another."""
SIDECAR_REQUESTS = {"cpu": "10m", "memory": "64Mi"}
SIDECAR_LIMITS = {"cpu": "100m", "memory": "128Mi"}


def own_code_pod(
    owner: Owner,
    spec: TrainingJobSpec,
    dataset_key: str,
    data_claim: str,
    attempt: int,
    peers: list[str],
    context: Context,
) -> Manifest:
    """The pod's spec; own code can write its checkpoints, its output and its progress, and no version.

    Raises:
        ValueError: the spec has no program, which the CRD refuses.
    """
    code = spec.network.custom
    if code is None:
        raise ValueError("network.custom is missing")
    volumes, data = store_volumes(spec.storage.claim_name, data_claim, dataset_key)
    volumes += [
        {"name": "output", "emptyDir": {"sizeLimit": OUTPUT_SIZE}},
        {"name": "progress", "emptyDir": {"sizeLimit": PROGRESS_SIZE}},
    ]
    notes = f"checkpoints/{owner.uid}"
    checkpoints = mount("store", CHECKPOINTS_DIR, notes)
    output, progress = mount("output", own.OUTPUT_DIR), mount("progress", own.PROGRESS_DIR)
    mounts = {
        own.REPORT_CONTAINER: [progress | {"readOnly": True}],
        own.CHECK_CONTAINER: [
            data,
            mount("store", MODELS_DIR, "models", read_only=True),
            checkpoints,
            progress,
        ],
        own.OWN_CONTAINER: [
            data,
            mount("store", CHECKPOINTS_DIR, f"{notes}/{own.OWN_CHECKPOINTS}"),
            output,
            progress,
        ],
        own.PUBLISH_CONTAINER: [
            data,
            mount("store", MODELS_DIR, "models"),
            checkpoints,
            output | {"readOnly": True},
        ],
    }
    task = own.OwnCodeTask(
        job=owner.full_name,
        job_uid=owner.uid,
        attempt=attempt,
        workers=spec.workers,
        dataset_name=spec.dataset.name,
        dataset_key=dataset_key,
        code=code,
        training=spec.training,
        gate=spec.evaluation.gate,
    )

    def ours(name: str, resources: Resources) -> Manifest:
        image = context.server_image
        return container(name, image, f"own.{name}", task, resources, context, mounts[name])

    report = ours(own.REPORT_CONTAINER, _sidecar_resources(spec.pod_resources)) | {
        "restartPolicy": "Always",
        "ports": [{"name": "report", "containerPort": REPORT_PORT, "protocol": "TCP"}],
    }
    check = ours(own.CHECK_CONTAINER, spec.pod_resources)
    env = _environment(owner, spec, dataset_key, attempt, peers)
    train = _own_code(code, env, spec.pod_resources, mounts[own.OWN_CONTAINER])
    return pod_spec(
        [ours(own.PUBLISH_CONTAINER, spec.pod_resources)],
        volumes,
        init_containers=[report, check, train],
        restart_policy="Never",
        grace_seconds=GRACE_SECONDS,
    )


def _own_code(code: OwnCode, env: list[Manifest], resources: Resources, mounts: list[Manifest]) -> Manifest:
    """Its pull policy is left to Kubernetes, as for every image of the user's."""
    out = hardened(own.OWN_CONTAINER, code.image, code.command, env, resources, mounts)
    if code.args:
        out["args"] = list(code.args)
    return out | {"ports": [{"name": "gang", "containerPort": GANG_PORT, "protocol": "TCP"}]}


def _environment(
    owner: Owner, spec: TrainingJobSpec, dataset_key: str, attempt: int, peers: list[str]
) -> list[Manifest]:
    """What docs/own-code.md promises."""
    values: dict[str, Any] = {
        own.JOB_ENV: owner.full_name,
        own.JOB_UID_ENV: owner.uid,
        own.ATTEMPT_ENV: attempt,
        own.WORKERS_ENV: spec.workers,
        own.PEERS_ENV: ",".join(peers),
        own.STARTUP_DEADLINE_ENV: spec.startup_deadline_seconds,
        own.DATASET_ENV: spec.dataset.name,
        own.DATASET_KEY_ENV: dataset_key,
        own.DATASET_DIR_ENV: DATASET_DIR,
        own.CHECKPOINTS_DIR_ENV: CHECKPOINTS_DIR,
        own.OUTPUT_DIR_ENV: own.OUTPUT_DIR,
        own.PROGRESS_FILE_ENV: own.PROGRESS_DIR / own.PROGRESS_FILE,
        own.PUBLISHED_FILE_ENV: own.PROGRESS_DIR / own.PUBLISHED_FILE,
        own.ERROR_FILE_ENV: TERMINATION_FILE,
        own.TRAINING_ENV: spec.training.to_json(),
        own.SEED_ENV: spec.training.seed,
    }
    given = {row.name for row in spec.pod_template.env or ()}
    if HOME_ENV not in given:
        values[HOME_ENV] = SCRATCH_DIR
    env = [field_env(own.WORKER_INDEX_ENV, INDEX_PATH)]
    env += [{"name": name, "value": str(value)} for name, value in values.items()]
    if spec.workers > 1:
        env.append({"name": "TF_CONFIG", "value": _tf_config(peers)})
    return env


def _tf_config(peers: list[str]) -> str:
    """For tf.distribute; the kubelet puts the index in, which the Job gives to each pod."""
    cluster = json.dumps({"worker": [f"{peer}:{GANG_PORT}" for peer in peers]})
    return f'{{"cluster": {cluster}, "task": {{"type": "worker", "index": $({own.WORKER_INDEX_ENV})}}}}'


def _sidecar_resources(resources: Resources) -> Resources:
    """Little; limits only where own code has them too, as some quotas demand."""
    limits = {name: amount for name, amount in SIDECAR_LIMITS.items() if name in (resources.limits or {})}
    return Resources(requests=SIDECAR_REQUESTS, limits=limits or None)
