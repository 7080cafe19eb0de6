"""A served model: Deployment, Service, PodDisruptionBudget; all server-side applied, so in canonical form.

What is mounted into the servers, and what clients find at the Service, follows the spec: serving_volumes.py,
and `service` here.
"""

import hashlib
import json

from lepton_operator.api.model import ModelArtifact, ModelSpec
from lepton_operator.context import Context
from lepton_operator.desired.autoscaler import BY_AUTOSCALER, BY_SPEC, COMPONENT, REPLICAS_ANNOTATION
from lepton_operator.desired.owner import VERSION_LABEL, Owner
from lepton_operator.desired.pod import (
    Manifest,
    container,
    http_probe,
    pod_spec,
    with_additions,
)
from lepton_operator.desired.serving_volumes import Mounts, serving_mounts
from lepton_workloads.contract.tasks import GRPC_PORT, HTTP_PORT, REPORT_PORT, FetchTask, ServeTask

TEMPLATE_ANNOTATION = "lepton.ai/template"
"""Hash of what was applied: tells whether the live Deployment or Service is the wanted one.

Rows of lists that are not wanted any more differ in nothing else: others may add rows of their own.
"""
ARTIFACT_ANNOTATION = "lepton.ai/artifact"
"""The version that is served, as status.artifact has it: read when that was lost and its training job is gone."""
MEGABYTE = 1024 * 1024
DRAIN_SECONDS = 10
"""At least so long a pod that ends waits for the requests that it has begun."""
GRPC_SERVICE_PORT = 9000
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
                "prometheus.io/port": str(REPORT_PORT),
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
    """First 16 hex digits of the sha256 of a pod template or a spec."""
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:16]


def _pod(owner: Owner, spec: ModelSpec, artifact: ModelArtifact, version: str, context: Context) -> Manifest:
    mounts = serving_mounts(spec, artifact)
    drain = drain_seconds(spec)
    return pod_spec(
        [_server(owner, spec, version, mounts, context)],
        mounts.volumes,
        init_containers=[_fetch(spec, artifact, mounts, context)],
        restart_policy="Always",
        grace_seconds=ENDPOINT_SECONDS + drain + 5,
    )


def _fetch(spec: ModelSpec, artifact: ModelArtifact, mounts: Mounts, context: Context) -> Manifest:
    """Copies and checks the version.

    That of a training job the operator has judged itself: another limit then starts no pod anew.
    """
    is_judged = spec.precision == "float32" or artifact.training_job is not None
    task = FetchTask(
        path=artifact.path if artifact.claim_name else None,
        url=None if artifact.claim_name else artifact.uri,
        sha256=artifact.digest,
        engine=spec.engine,
        precision=spec.precision,
        max_accuracy_drop=1.0 if is_judged else spec.max_accuracy_drop,
    )
    return container(
        "fetch", context.server_image, "fetch", task, spec.pod_resources, context, mounts.of_fetch
    )


def _server(owner: Owner, spec: ModelSpec, version: str, mounts: Mounts, context: Context) -> Manifest:
    task = serve_task(owner, spec, version)
    image = server_image(spec, context)
    serve = container("server", image, "serve", task, spec.pod_resources, context, mounts.of_server)
    scheme = "HTTPS" if spec.has_tls else "HTTP"
    ports = [("http", HTTP_PORT), *([("grpc", GRPC_PORT)] if spec.grpc else []), ("monitoring", REPORT_PORT)]
    return serve | {
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports],
        "readinessProbe": http_probe("/readyz", "http", period=2, failures=2, scheme=scheme),
        "livenessProbe": http_probe("/healthz", "http", period=10, failures=6, scheme=scheme),
        "startupProbe": http_probe("/healthz", "http", period=1, failures=120, scheme=scheme),
        "lifecycle": {"preStop": {"sleep": {"seconds": ENDPOINT_SECONDS}}},
    }


def server_image(spec: ModelSpec, context: Context) -> str:
    """By the engine; asked only once it is known that there is one."""
    if spec.engine == "tensorflow":
        assert context.tensorflow_server_image, "a model without an image is not served"
        return context.tensorflow_server_image
    return context.server_image


def serve_task(owner: Owner, spec: ModelSpec, version: str) -> ServeTask:
    """What the server is told."""
    security = spec.security
    return ServeTask(
        name=owner.name,
        namespace=owner.namespace,
        owner_uid=owner.uid,
        version=version,
        engine=spec.engine,
        precision=spec.precision,
        grpc=spec.grpc,
        tokens=security is not None and security.token_secret is not None,
        tls=spec.has_tls,
        timeout_seconds=spec.timeout_seconds,
        max_request_bytes=spec.max_request_megabytes * MEGABYTE,
        drain_seconds=drain_seconds(spec),
        alarms=spec.alarms or [],
        drift=spec.drift,
        request_log=spec.request_log,
    )


def drain_seconds(spec: ModelSpec) -> int:
    """No request that was begun is lost to a rollout, however long it may take."""
    return max(DRAIN_SECONDS, spec.timeout_seconds)


def service(owner: Owner, spec: ModelSpec) -> Manifest:
    """The address of the model inside the cluster: port 80, or 443 with TLS, and 9000 for gRPC."""
    if spec.has_tls:
        ports = [_service_port("https", 443, "http", "https")]
    else:
        ports = [_service_port("http", 80, "http", "http")]
    if spec.grpc:
        # HTTP/2 without TLS is told by nothing else; with TLS it is agreed on in the handshake.
        protocol = "https" if spec.has_tls else "kubernetes.io/h2c"
        ports.append(_service_port("grpc", GRPC_SERVICE_PORT, "grpc", protocol))
    wanted = {"type": "ClusterIP", "selector": owner.selector(), "ports": ports}
    metadata = owner.metadata(owner.name, COMPONENT)
    metadata["annotations"] = {TEMPLATE_ANNOTATION: template_hash(wanted)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": wanted}


def _service_port(name: str, port: int, target: str, app_protocol: str) -> Manifest:
    return {
        "name": name, "port": port, "targetPort": target, "protocol": "TCP", "appProtocol": app_protocol,
    }  # fmt: skip


def service_url(owner: Owner, spec: ModelSpec) -> str:
    """Where clients in the cluster find the model."""
    return f"{'https' if spec.has_tls else 'http'}://{owner.name}.{owner.namespace}.svc"


def disruption_budget(owner: Owner) -> Manifest:
    """policy/v1 PodDisruptionBudget: a drain takes one pod at a time; for two replicas or more only."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": owner.metadata(owner.name, COMPONENT),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": owner.selector()}},
    }
