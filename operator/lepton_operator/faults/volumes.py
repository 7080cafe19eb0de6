"""Claims and mounts."""

import re
from collections.abc import Iterable, Mapping, Sequence

from lepton_operator.facts import Json, WarningFact
from lepton_operator.faults.fault import CONTAINER_CONFIG_ERROR, SOURCE_NOT_FOUND, VOLUME_NOT_READY, Fault
from lepton_operator.faults.text import clip, container_statuses, sentence

MOUNT_WARNINGS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
SANDBOX_WARNINGS = frozenset({"FailedCreatePodSandBox"})

WHAT_TO_DO = (
    (r"Multi-Attach", "a ReadWriteOnce claim is on another node; use a ReadWriteMany class or one node"),
    (
        r"volume \"(tokens|tls)\" ?: secret \S+ not found",
        "create the Secret in this namespace, or correct spec.security",
    ),
    (
        r"volume \"tls\" ?: references non-existent secret key",
        "spec.security.tlsSecret needs the keys tls.crt and tls.key, as kubectl create secret tls makes them",
    ),
    (r"(secret|configmap) \S+ not found", "create it in this namespace, or correct spec.podTemplate"),
    (
        r"timed out waiting|DeadlineExceeded|connection",
        "the node can't reach the storage: check it and its driver",
    ),
)


def claim_fault(claims: Mapping[str, Json | None], user_claims: Iterable[str]) -> Fault | None:
    """A claim that is missing or lost; `user_claims` are those that nobody but the user creates."""
    for name in user_claims:
        if name in claims and claims[name] is None:
            return Fault(
                SOURCE_NOT_FOUND,
                f"PersistentVolumeClaim {name} does not exist in this namespace: create it, or correct "
                "its name",
                rank=1,
            )
    for name, claim in claims.items():
        if claim is not None and claim.get("status", {}).get("phase") == "Lost":
            text = f"PersistentVolumeClaim {name} has lost its volume: bring the volume back, or use another claim"
            return Fault(VOLUME_NOT_READY, text, rank=1)
    return None


def mount_fault(pod: Json, warnings: Sequence[WarningFact]) -> Fault | None:
    """A pod none of whose containers has started, explained by a warning about its volumes or sandbox."""
    if _has_started(pod):
        return None
    name = pod["metadata"]["name"]
    for warning in warnings:
        if (warning.kind, warning.name) != ("Pod", name):
            continue
        if warning.reason in MOUNT_WARNINGS:
            said = clip(warning.message)
            return Fault(VOLUME_NOT_READY, sentence(f"pod {name}", said, _what_to_do(said)), rank=3)
        if warning.reason in SANDBOX_WARNINGS:
            do = "check the node's network plugin, and spec.podTemplate.runtimeClassName"
            return Fault(CONTAINER_CONFIG_ERROR, sentence(f"pod {name}", clip(warning.message), do), rank=3)
    return None


def _what_to_do(said: str) -> str:
    return next((do for pattern, do in WHAT_TO_DO if re.search(pattern, said, re.IGNORECASE)), "")


def _has_started(pod: Json) -> bool:
    """True when any container, the first init container too, has run: all volumes are mounted before."""
    return any(
        container.get(when, {}).get(state)
        for container, _ in container_statuses(pod)
        for when in ("state", "lastState")
        for state in ("running", "terminated")
    )
