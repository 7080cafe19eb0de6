"""The Indexed Job that prepares a dataset."""

import hashlib
import json
from typing import Any

from lepton_operator.api.dataset import DatasetSpec
from lepton_operator.context import Context
from lepton_operator.desired.owner import Owner
from lepton_operator.desired.pod import Manifest, claim_volume, container, mount, pod_spec, with_additions
from lepton_workloads.contract.base import Record
from lepton_workloads.contract.outcome import EXIT_TERMINAL
from lepton_workloads.contract.tasks import DATASETS_DIR, REPORT_PORT, SOURCE_DIR, PrepareTask

COMPONENT = "dataset"
CONTAINER = "prepare"
PEER_DEADLINE_SECONDS = 3600
CONTENT_ANNOTATION = "lepton.ai/content"
"""On each Job: the `content_hash` of the spec that it prepares."""


def _hash(record: Record, exclude: set[str], digits: int) -> str:
    """Of all fields that differ from their defaults: a field added later changes no hash."""
    fields: Any = record.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=exclude)
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:digits]


def content_hash(spec: DatasetSpec) -> str:
    """Of what decides the prepared bytes and their place; equal hash, nothing to do."""
    deadlines = {"startup_deadline_seconds", "active_deadline_seconds"}
    return _hash(spec, {"parallelism", "resources", "pod_template", "backoff_limit", *deadlines}, 16)


def job_name(owner: Owner, spec: DatasetSpec) -> str:
    """A Job is never changed: another spec, another name (more memory is another try, too)."""
    return f"{owner.name}-data-{_hash(spec, {'startup_deadline_seconds'}, 6)}"


def prepare_job(owner: Owner, spec: DatasetSpec, context: Context) -> Manifest:
    """batch/v1 Job: `parallelism` indexes, wrong data ends it at once, disruptions don't count."""
    name = job_name(owner, spec)
    template = {"metadata": {"labels": owner.labels(COMPONENT)}, "spec": _pod(owner, spec, name, context)}
    job: Manifest = {
        "completionMode": "Indexed",
        "completions": spec.parallelism,
        "parallelism": spec.parallelism,
        "backoffLimit": spec.backoff_limit,
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [EXIT_TERMINAL]},
                },
            ]
        },
        "template": with_additions(template, spec.pod_template),
    }
    if spec.active_deadline_seconds is not None:
        job["activeDeadlineSeconds"] = spec.active_deadline_seconds
    metadata = owner.metadata(name, COMPONENT)
    metadata["annotations"] = {CONTENT_ANNOTATION: content_hash(spec)}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": job}


def job_labels(owner: Owner, name: str) -> Manifest:
    """The labels by which a Job is found, for one that lost them; nothing else of it is ever changed."""
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": owner.metadata(name, COMPONENT)}


def _pod(owner: Owner, spec: DatasetSpec, name: str, context: Context) -> Manifest:
    volumes = [claim_volume("store", spec.storage.claim_name)]
    mounts = [mount("store", DATASETS_DIR, "datasets")]
    if spec.source.pvc:
        # The kubelet mounts a claim once per pod: a second volume of the same claim would never be ready.
        volume = "store"
        if spec.source.pvc.claim_name != spec.storage.claim_name:
            volume = "source"
            volumes.append(claim_volume(volume, spec.source.pvc.claim_name, read_only=True))
        mounts.append(mount(volume, SOURCE_DIR, read_only=True))
    task = PrepareTask(
        dataset=owner.full_name,
        dataset_uid=owner.uid,
        job_key=f"{name}-{owner.uid}",
        builtin=spec.source.builtin,
        source_path=spec.source.pvc.path if spec.source.pvc else None,
        picture=spec.image,
        normalization=spec.normalization,
        split=spec.split,
        max_invalid_fraction=spec.max_invalid_fraction,
        parallelism=spec.parallelism,
        peer_deadline_seconds=PEER_DEADLINE_SECONDS,
    )
    prepare = container(
        CONTAINER, context.server_image, "prepare", task, spec.pod_resources, context, mounts
    ) | {"ports": [{"name": "report", "containerPort": REPORT_PORT, "protocol": "TCP"}]}
    return pod_spec([prepare], volumes, restart_policy="Never", grace_seconds=5)
