"""What a serving pod mounts: the fetched model, its source, tokens, the certificate, the folder of kept requests."""

from collections.abc import Sequence
from dataclasses import dataclass

from lepton_operator.api.model import ModelArtifact, ModelSpec
from lepton_operator.api.security import Security
from lepton_operator.desired.pod import Manifest, claim_volume, mount, secret_volume
from lepton_workloads.contract.tasks import MODEL_DIR, REQUESTS_DIR, SOURCE_DIR, TLS_DIR, TOKENS_DIR

MODEL_SIZE_LIMIT = "4Gi"
TLS_KEYS = ("tls.crt", "tls.key")
"""Of a Secret of type kubernetes.io/tls: where one is missing the kubelet says so, and no server starts without."""


@dataclass(frozen=True, slots=True)
class Mounts:
    """The volumes of the pod, and where its two containers have them."""

    volumes: Sequence[Manifest]
    of_fetch: Sequence[Manifest]
    of_server: Sequence[Manifest]


def serving_mounts(spec: ModelSpec, artifact: ModelArtifact) -> Mounts:
    """Only what is asked for is mounted."""
    volumes: list[Manifest] = [{"name": "model", "emptyDir": {"sizeLimit": MODEL_SIZE_LIMIT}}]
    fetch = [mount("model", MODEL_DIR)]
    server = [mount("model", MODEL_DIR, read_only=True)]
    log = spec.request_log
    kept_at_source = log is not None and log.claim_name == artifact.claim_name
    if artifact.claim_name:
        # The kubelet mounts a claim once per pod: with requests kept on it, it can't be read-only as a whole.
        volumes.append(claim_volume("source", artifact.claim_name, read_only=not kept_at_source))
        fetch.append(mount("source", SOURCE_DIR, read_only=True))
    security = spec.security or Security()
    if security.token_secret is not None:
        volumes.append(secret_volume("tokens", security.token_secret.name))
        server.append(mount("tokens", TOKENS_DIR, read_only=True))
    if security.tls_secret is not None:
        volumes.append(secret_volume("tls", security.tls_secret.name, TLS_KEYS))
        server.append(mount("tls", TLS_DIR, read_only=True))
    if log is not None:
        if not kept_at_source:
            volumes.append(claim_volume("requests", log.claim_name))
        server.append(mount("source" if kept_at_source else "requests", REQUESTS_DIR, log.path or None))
    return Mounts(volumes, fetch, server)
