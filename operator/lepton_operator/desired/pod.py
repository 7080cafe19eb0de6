"""What all pods have in common: the Pod Security Standard "restricted", no API token, a small /tmp."""

from collections.abc import Sequence
from typing import Any

from lepton_operator.api.common import Resources
from lepton_operator.api.pod_template import PodTemplate
from lepton_operator.context import Context
from lepton_operator.desired.quantity import canonical, canonical_resources, threads
from lepton_workloads.contract.base import Record
from lepton_workloads.contract.tasks import (
    DATASET_DIR,
    POD_NAME_ENV,
    POD_UID_ENV,
    SCRATCH_DIR,
    TASK_ENV,
    THREADS_ENV,
)

UID = 65532
SCRATCH_SIZE = "1Gi"
SECRET_MODE = 0o440

Manifest = dict[str, Any]


def container(
    name: str,
    image: str,
    module: str,
    task: Record,
    resources: Resources,
    context: Context,
    mounts: Sequence[Manifest],
) -> Manifest:
    """A container that runs a workload module with its task."""
    command = ["python", "-m", f"lepton_workloads.{module}"]
    # The kubelet takes $$ for $, and $(NAME) for a variable.
    env = [{"name": TASK_ENV, "value": task.to_json().replace("$", "$$")}]
    return hardened(name, image, command, env, resources, mounts) | {
        "imagePullPolicy": context.image_pull_policy
    }


def hardened(
    name: str,
    image: str,
    command: Sequence[str],
    env: Sequence[Manifest],
    resources: Resources,
    mounts: Sequence[Manifest],
) -> Manifest:
    """A container of any image, under the posture that all have; threads and pod are told to all."""
    out: Manifest = {
        "name": name,
        "image": image,
        "command": list(command),
        "env": [
            *env,
            {"name": THREADS_ENV, "value": str(threads(resources))},
            field_env(POD_NAME_ENV, "metadata.name"),
            field_env(POD_UID_ENV, "metadata.uid"),
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [*mounts, {"name": "scratch", "mountPath": str(SCRATCH_DIR)}],
    }
    if amounts := canonical_resources(resources):
        out["resources"] = amounts
    return out


def field_env(name: str, path: str) -> Manifest:
    """A variable with a field of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def pod_spec(
    containers: Sequence[Manifest],
    volumes: Sequence[Manifest],
    *,
    init_containers: Sequence[Manifest] = (),
    restart_policy: str,
    grace_seconds: int,
) -> Manifest:
    """A pod's spec around the given containers."""
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": restart_policy,
        "terminationGracePeriodSeconds": grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "runAsGroup": UID,
            "fsGroup": UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": list(containers),
        "volumes": [*volumes, {"name": "scratch", "emptyDir": {"sizeLimit": SCRATCH_SIZE}}],
    }
    if init_containers:
        spec["initContainers"] = list(init_containers)
    return spec


def http_probe(path: str, port: str, period: int, failures: int, scheme: str = "HTTP") -> Manifest:
    """A probe every `period` seconds; with HTTPS the kubelet asks no questions about the certificate."""
    return {
        "httpGet": {"path": path, "port": port, "scheme": scheme},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }


def claim_volume(name: str, claim: str, read_only: bool = False) -> Manifest:
    """A volume on a PersistentVolumeClaim."""
    source: Manifest = {"claimName": claim}
    if read_only:
        source["readOnly"] = True
    return {"name": name, "persistentVolumeClaim": source}


def secret_volume(name: str, secret: str, keys: Sequence[str] = ()) -> Manifest:
    """A volume with a Secret's keys as files (all of them, or only these), for the pod's group alone."""
    source: Manifest = {"secretName": secret, "defaultMode": SECRET_MODE}
    if keys:
        source["items"] = [{"key": key, "path": key} for key in keys]
    return {"name": name, "secret": source}


def mount(volume: str, path: Any, sub_path: str | None = None, read_only: bool = False) -> Manifest:
    """A mount of a volume, or of one folder of it."""
    out: Manifest = {"name": volume, "mountPath": str(path)}
    if sub_path:
        out["subPath"] = sub_path
    if read_only:
        out["readOnly"] = True
    return out


def store_volumes(store: str, data: str, dataset_key: str) -> tuple[list[Manifest], Manifest]:
    """The volumes of a training, and the mount of its prepared data; the kubelet mounts a claim once per pod."""
    volumes = [claim_volume("store", store)]
    if data != store:
        volumes.append(claim_volume("data", data))
    name = volumes[-1]["name"]
    return volumes, mount(name, DATASET_DIR, f"datasets/{dataset_key}", read_only=True)


def with_additions(template: Manifest, additions: PodTemplate) -> Manifest:
    """A pod template with the user's additions, in the API server's form; where both speak, Lepton's own wins."""
    given = additions.to_json_dict()
    metadata = dict(template["metadata"])
    for part in ("labels", "annotations"):
        if given.get(part):
            metadata[part] = given[part] | metadata.get(part, {})
    placement = {
        "nodeSelector": given.get("nodeSelector"),
        "tolerations": _without_empty(given.get("tolerations")),
        "affinity": _without_nulls(given.get("affinity")),
        "priorityClassName": given.get("priorityClassName"),
        "runtimeClassName": given.get("runtimeClassName"),
        "schedulerName": given.get("schedulerName"),
        "imagePullSecrets": given.get("imagePullSecrets"),
    }
    spec = {name: value for name, value in placement.items() if value} | template["spec"]
    spec["volumes"], mounts = _with_volumes(spec["volumes"], given.get("volumes") or ())
    for part in ("initContainers", "containers"):
        if part in spec:
            spec[part] = [_with_mounts(_with_environment(one, given), mounts) for one in spec[part]]
    return template | {"metadata": metadata, "spec": spec}


def _with_environment(container: Manifest, given: Manifest) -> Manifest:
    """Lepton's variables come first, so that `$(NAME)` in one of them can't mean a user's."""
    own = {row["name"] for row in container["env"]}
    added = [row for row in _without_empty(given.get("env")) if row["name"] not in own]
    out = container | {"env": [*container["env"], *added]}
    if sources := _without_empty(given.get("envFrom")):
        out["envFrom"] = sources
    return out


def _with_volumes(
    own: Sequence[Manifest], given: Sequence[Manifest]
) -> tuple[list[Manifest], list[Manifest]]:
    """All volumes of the pod, and the mounts of the given ones.

    The kubelet mounts a claim once per pod: one that the pod has already is mounted once more from there. Where
    it was read-only for Lepton, Lepton's mounts still are.
    """
    volumes, mounts = list(own), []
    for row in given:
        source = _volume_source(row)
        claim = source.get("persistentVolumeClaim", {}).get("claimName")
        at = next((at for at, held in enumerate(volumes) if claim and _claim_of(held) == claim), len(volumes))
        if at == len(volumes):
            volumes.append({"name": row["name"]} | source)
        elif not row["readOnly"]:
            volumes[at] = claim_volume(volumes[at]["name"], claim)
        mounts.append(mount(volumes[at]["name"], row["mountPath"], row.get("subPath"), row["readOnly"]))
    return volumes, mounts


def _claim_of(volume: Manifest) -> str | None:
    claim: str | None = volume.get("persistentVolumeClaim", {}).get("claimName")
    return claim


def _volume_source(row: Manifest) -> Manifest:
    """The one source, as the API server keeps it."""
    kind = next(name for name in ("emptyDir", "persistentVolumeClaim", "secret", "configMap") if name in row)
    source = {name: value for name, value in row[kind].items() if value not in ("", [])}
    if "sizeLimit" in source:
        source["sizeLimit"] = canonical(source["sizeLimit"])
    return {kind: source}


def _with_mounts(container: Manifest, mounts: Sequence[Manifest]) -> Manifest:
    """Lepton's own mounts win."""
    own = {row["mountPath"] for row in container["volumeMounts"]}
    added = [row for row in mounts if row["mountPath"] not in own]
    return container | {"volumeMounts": [*container["volumeMounts"], *added]}


def _without_empty(rows: Sequence[Manifest] | None) -> list[Manifest]:
    """The API server keeps no empty texts in these rows."""
    return [{name: value for name, value in row.items() if value != ""} for row in rows or ()]


def _without_nulls(value: Any) -> Any:
    """The one part that is open in the schema may hold nulls, which say nothing."""
    if isinstance(value, dict):
        return {name: _without_nulls(held) for name, held in value.items() if held is not None}
    if isinstance(value, list):
        return [_without_nulls(held) for held in value]
    return value
