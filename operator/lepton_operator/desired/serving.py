"""A served model: Deployment, Service, PodDisruptionBudget; all server-side applied, so in canonical form."""

import hashlib
import json

from lepton_operator.api.model import ModelArtifact, ModelSpec
from lepton_operator.context import Context
from lepton_operator.desired.autoscaler import BY_AUTOSCALER, BY_SPEC, COMPONENT, REPLICAS_ANNOTATION
from lepton_operator.desired.owner import VERSION_LABEL, Owner
from lepton_operator.desired.pod import (
    Manifest,
    claim_volume,
    container,
    http_probe,
    mount,
    pod_spec,
    with_additions,
)
from lepton_workloads.contract.tasks import HTTP_PORT, MODEL_DIR, SOURCE_DIR, FetchTask, ServeTask

TEMPLATE_ANNOTATION = "lepton.ai/template"
"""Hash of what was applied: tells whether the live Deployment is the wanted one."""
ARTIFACT_ANNOTATION = "lepton.ai/artifact"
"""The version that is served, as status.artifact has it: read when that was lost and its training job is gone."""
MODEL_SIZE_LIMIT = "4Gi"
DRAIN_SECONDS = 10
ENDPOINT_SECONDS = 5
"""How long a pod goes on answering after it is told to stop: proxies need a moment to forget it."""


def deployment(
    owner: Owner, spec: ModelSpec, artifact: ModelArtifact, version: str, context: Context
) -> Manifest:
    """apps/v1 Deployment: a new version's pods must be ready before an old one stops."""
    template = {
        "metadata": {
            "labels": owner.labels(COMPONENT) | {VERSION_LABEL: version},
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(HTTP_PORT),
                "prometheus.io/path": "/metrics",
            },
        },
        "spec": _pod(owner, spec, artifact, version, context),
    }
    template = with_additions(template, spec.pod_template)
    metadata = owner.metadata(owner.name, COMPONENT)
    fixed = {"replicas": spec.fewest_replicas} if spec.autoscaling is None else {}
    metadata["annotations"] = {
        TEMPLATE_ANNOTATION: template_hash(template),
        ARTIFACT_ANNOTATION: artifact.to_json(),
        REPLICAS_ANNOTATION: BY_SPEC if fixed else BY_AUTOSCALER,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            **fixed,
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": max(600, spec.startup_deadline_seconds),
            "selector": {"matchLabels": owner.selector()},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": template,
        },
    }


def template_hash(template: Manifest) -> str:
    """First 16 hex digits of the sha256 of a pod template."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:16]


def _pod(owner: Owner, spec: ModelSpec, artifact: ModelArtifact, version: str, context: Context) -> Manifest:
    fetch_mounts = [mount("model", MODEL_DIR)]
    volumes: list[Manifest] = [{"name": "model", "emptyDir": {"sizeLimit": MODEL_SIZE_LIMIT}}]
    if artifact.claim_name:
        volumes.append(claim_volume("source", artifact.claim_name, read_only=True))
        fetch_mounts.append(mount("source", SOURCE_DIR, read_only=True))
    task = FetchTask(
        path=artifact.path if artifact.claim_name else None,
        url=None if artifact.claim_name else artifact.uri,
        sha256=artifact.digest,
    )
    fetch = container("fetch", context.server_image, "fetch", task, spec.pod_resources, context, fetch_mounts)
    serve = _server(owner, spec, version, context)
    return pod_spec(
        [serve],
        volumes,
        init_containers=[fetch],
        restart_policy="Always",
        grace_seconds=ENDPOINT_SECONDS + DRAIN_SECONDS + 5,
    )


def _server(owner: Owner, spec: ModelSpec, version: str, context: Context) -> Manifest:
    task = ServeTask(name=owner.name, version=version, drain_seconds=DRAIN_SECONDS)
    mounts = [mount("model", MODEL_DIR, read_only=True)]
    serve = container("server", context.server_image, "serve", task, spec.pod_resources, context, mounts)
    return serve | {
        "ports": [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}],
        "readinessProbe": http_probe("/readyz", "http", period=2, failures=2),
        "livenessProbe": http_probe("/healthz", "http", period=10, failures=6),
        "startupProbe": http_probe("/healthz", "http", period=1, failures=120),
        "lifecycle": {"preStop": {"sleep": {"seconds": ENDPOINT_SECONDS}}},
    }


def service(owner: Owner) -> Manifest:
    """The address of the model inside the cluster: port 80."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(owner.name, COMPONENT),
        "spec": {
            "type": "ClusterIP",
            "selector": owner.selector(),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def service_url(owner: Owner) -> str:
    """Where clients in the cluster find the model."""
    return f"http://{owner.name}.{owner.namespace}.svc"


def disruption_budget(owner: Owner) -> Manifest:
    """policy/v1 PodDisruptionBudget: a drain takes one pod at a time; for two replicas or more only."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": owner.metadata(owner.name, COMPONENT),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": owner.selector()}},
    }
