"""Pods, Warning Events, refusals -> the one fault a person should look at first.

One vocabulary for all kinds. A fault says which container, what happened (exit code, limit, restarts, last
words) and what to do. State decides; a Warning Event only explains what the state already shows.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lepton_operator.facts import Json, Refusal, WarningFact
from lepton_workloads.contract.outcome import Outcome, parse_outcome

IMAGE_PULL_FAILED = "ImagePullFailed"
UNSCHEDULABLE = "Unschedulable"
OUT_OF_MEMORY = "OutOfMemory"
CRASH_LOOP = "CrashLoop"
CONTAINER_FAILED = "ContainerFailed"
CONTAINER_CONFIG_ERROR = "ContainerConfigError"
VOLUME_NOT_READY = "VolumeNotReady"
QUOTA_EXCEEDED = "QuotaExceeded"
ADMISSION_DENIED = "AdmissionDenied"
SOURCE_NOT_FOUND = "SourceNotFound"
EVICTED = "Evicted"
NODE_LOST = "NodeLost"

PULL_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
MOUNT_WARNINGS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
CREATE_WARNINGS = frozenset({"FailedCreate"})
PROVISION_WARNINGS = frozenset({"ProvisioningFailed"})

MAX_TEXT = 400
VOLATILE = re.compile(r"\d+\.\d+\.\d+\.\d+:\d+->")
"""A connection's own address and port: another one at each try, so that equal faults would differ."""

REASON_PATTERN = re.compile(r"[A-Z][A-Za-z]{0,62}\Z")
"""What a container names itself is believed only as a word that fits a condition."""

CONSEQUENCE = 5
"""Added to the rank of a pod that is being deleted: its end is the consequence of something else."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, in one word and one sentence; `rank` orders by how much it explains."""

    reason: str
    message: str
    terminal: bool = False
    """Trying again gives the same end."""
    rank: int = 5
    ended_at: str = ""
    """When the container ended (RFC 3339), if it did: the first of a gang to end took the others with it."""


def worst_fault(pods: Iterable[Json], warnings: Sequence[WarningFact]) -> Fault | None:
    """The fault that explains most among all pods, or None."""
    faults = [fault for pod in pods if (fault := pod_fault(pod, warnings))]
    return min(faults, key=lambda fault: (fault.rank, fault.ended_at or "~", fault.message), default=None)


def pod_fault(pod: Json, warnings: Sequence[WarningFact] = ()) -> Fault | None:
    """What is wrong with one pod, or None; a ready or succeeded pod has no fault."""
    status = pod.get("status", {})
    if status.get("phase") == "Succeeded" or _condition(pod, "Ready").get("status") == "True":
        return None
    if fault := _lost(pod):
        return fault
    fault = _container_fault(pod) or _scheduling_fault(pod, warnings) or _mount_fault(pod, warnings)
    if fault and pod["metadata"].get("deletionTimestamp"):
        return replace(fault, rank=fault.rank + CONSEQUENCE)
    return fault


def is_disrupted(pod: Json) -> bool:
    """True when the pod was ended by its surroundings: eviction, drain, preemption, lost node."""
    reason = pod.get("status", {}).get("reason")
    ended_from_outside = reason in ("Evicted", "NodeLost", "Shutdown", "Terminated", "Preempting")
    return ended_from_outside or _condition(pod, "DisruptionTarget").get("status") == "True"


def outcome_of(pod: Json, container: str) -> Outcome | None:
    """What the container said last: its termination message, if it is an outcome."""
    for status in pod.get("status", {}).get("containerStatuses", ()):
        if status["name"] == container:
            ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")
            return _believed_outcome((ended or {}).get("message"))
    return None


def _believed_outcome(text: str | None) -> Outcome | None:
    """Pods are not trusted: a reason that doesn't fit a condition is none."""
    outcome = parse_outcome(text)
    if outcome and outcome.reason is not None and not REASON_PATTERN.match(outcome.reason):
        return None
    return outcome


def refusal_fault(refusals: Sequence[Refusal]) -> Fault | None:
    """A write of ours that was refused."""
    for refusal in refusals:
        return Fault(refusal.reason, f"{refusal.kind} {refusal.name}: {_clip(refusal.message)}", rank=0)
    return None


def creation_fault(kind: str, name: str, warnings: Sequence[WarningFact]) -> Fault | None:
    """Why a controller could not create pods; only asked when there are none."""
    for warning in warnings:
        same = warning.kind == kind and warning.name == name
        through_set = kind == "Deployment" and warning.kind == "ReplicaSet"
        if through_set:
            same = warning.name == name or warning.name.startswith(f"{name}-")
        if warning.reason in CREATE_WARNINGS and same:
            return _refused_pods(warning.message)
    return None


def deployment_fault(deployment: Json | None) -> Fault | None:
    """A Deployment whose pods are refused (quota, admission)."""
    failure = _condition(deployment or {}, "ReplicaFailure")
    return _refused_pods(failure.get("message", "")) if failure.get("status") == "True" else None


def claim_fault(claims: Mapping[str, Json | None], user_claims: Iterable[str]) -> Fault | None:
    """A claim that is missing or not bound; `user_claims` are those that nobody but the user creates."""
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
            return Fault(VOLUME_NOT_READY, f"PersistentVolumeClaim {name} has lost its volume", rank=1)
    return None


def _refused_pods(message: str) -> Fault:
    if "exceeded quota" in message:
        return Fault(QUOTA_EXCEEDED, f"{_clip(message)}: raise the quota or lower the requests", rank=1)
    return Fault(ADMISSION_DENIED, f"pods are refused: {_clip(message)}", rank=1)


def _lost(pod: Json) -> Fault | None:
    name = pod["metadata"]["name"]
    status = pod.get("status", {})
    if status.get("reason") == "Evicted":
        return Fault(EVICTED, f"pod {name} was evicted: {_clip(status.get('message', ''))}", rank=2)
    disruption = _condition(pod, "DisruptionTarget")
    if disruption.get("status") == "True":
        if disruption.get("reason") == "DeletionByTaintManager" or status.get("reason") == "NodeLost":
            node = pod.get("spec", {}).get("nodeName", "?")
            text = f"pod {name}: node {node} does not answer, or a NoExecute taint sends its pods away"
            return Fault(NODE_LOST, text, rank=2)
        return Fault(EVICTED, f"pod {name}: {_clip(disruption.get('message', 'it was disrupted'))}", rank=2)
    return None


def _container_fault(pod: Json) -> Fault | None:
    status = pod.get("status", {})
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    for container in containers:
        if fault := _one_container(pod, container):
            return fault
    return None


def _one_container(pod: Json, container: Json) -> Fault | None:
    where = f"container {container['name']} of pod {pod['metadata']['name']}"
    waiting = container.get("state", {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in PULL_REASONS:
        said = _clip(message) or reason
        text = (
            f"{where}: image {container.get('image')} can't be pulled: {said}: check its name and that "
            "the node may pull it"
        )
        return Fault(IMAGE_PULL_FAILED, text, rank=1)
    if reason in CONFIG_REASONS:
        return Fault(CONTAINER_CONFIG_ERROR, f"{where} can't be started: {_clip(message) or reason}", rank=1)
    ended = container.get("state", {}).get("terminated")
    if not ended and (reason or not container.get("ready")):
        ended = container.get("lastState", {}).get("terminated")
    looping = reason == "CrashLoopBackOff"
    if ended and (looping or ended.get("exitCode") != 0):
        fault = _ended(where, pod, container, ended, looping)
        return replace(fault, ended_at=ended.get("finishedAt") or "")
    return None


def _ended(where: str, pod: Json, container: Json, ended: Json, looping: bool) -> Fault:
    restarts = container.get("restartCount", 0)
    again = f" (restarted {restarts} times)" if restarts else ""
    outcome = _believed_outcome(ended.get("message"))
    if outcome and outcome.reason:
        said = outcome.message or f"{where} ended with exit code {ended.get('exitCode')}"
        return Fault(outcome.reason, f"{said}{again}", outcome.terminal, rank=1)
    if ended.get("reason") == "OOMKilled":
        limit = _memory_limit(pod, container["name"])
        text = (
            f"{where} was killed for using more memory than its limit{limit}{again}: raise "
            "resources.limits.memory"
        )
        return Fault(OUT_OF_MEMORY, text, rank=1)
    code = ended.get("exitCode")
    signal = f" (signal {code - 128})" if isinstance(code, int) and code > 128 else ""
    last = _last_line(ended.get("message", ""))
    text = f"{where} ended with exit code {code}{signal}{again}{': ' + last if last else ''}"
    return Fault(CRASH_LOOP if looping else CONTAINER_FAILED, text, rank=3)


def _memory_limit(pod: Json, name: str) -> str:
    spec = pod.get("spec", {})
    for container in [*spec.get("initContainers", ()), *spec.get("containers", ())]:
        if container["name"] == name:
            limit = container.get("resources", {}).get("limits", {}).get("memory")
            return f" of {limit}" if limit else ""
    return ""


def _scheduling_fault(pod: Json, warnings: Sequence[WarningFact]) -> Fault | None:
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") != "True" and (fault := _provisioning_fault(pod, warnings)):
        return fault
    if scheduled.get("status") != "False":
        return None
    message = scheduled.get("message", "")
    name = pod["metadata"]["name"]
    if "persistentvolumeclaim" in message and "not found" in message:
        return Fault(SOURCE_NOT_FOUND, f"pod {name} waits: {_clip(message)}: create the claim", rank=2)
    if "PersistentVolumeClaim" in message or "persistentvolumeclaim" in message:
        text = f"pod {name} waits for its volume: {_clip(message)}: check the claim and its storage class"
        return Fault(VOLUME_NOT_READY, text, rank=2)
    return Fault(UNSCHEDULABLE, f"no node takes pod {name}: {_clip(message)}", rank=2)


def _provisioning_fault(pod: Json, warnings: Sequence[WarningFact]) -> Fault | None:
    """A pod without a node whose claim gets no volume: the scheduler itself says so only after minutes."""
    volumes = pod.get("spec", {}).get("volumes", ())
    claims = {(volume.get("persistentVolumeClaim") or {}).get("claimName") for volume in volumes}
    for warning in warnings:
        about_ours = warning.kind == "PersistentVolumeClaim" and warning.name in claims
        if about_ours and warning.reason in PROVISION_WARNINGS:
            name = pod["metadata"]["name"]
            text = (
                f"pod {name} waits for claim {warning.name}: {_clip(warning.message)}: check its storage "
                "class"
            )
            return Fault(VOLUME_NOT_READY, text, rank=2)
    return None


def _has_started(pod: Json) -> bool:
    """True when any container, the first init container too, has run: all volumes are mounted before."""
    status = pod.get("status", {})
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return any(
        container.get(when, {}).get(state)
        for container in containers
        for when in ("state", "lastState")
        for state in ("running", "terminated")
    )


def _mount_fault(pod: Json, warnings: Sequence[WarningFact]) -> Fault | None:
    """A pod none of whose containers has started, explained by a mount warning about it."""
    name = pod["metadata"]["name"]
    if _has_started(pod):
        return None
    for warning in warnings:
        if warning.kind == "Pod" and warning.name == name and warning.reason in MOUNT_WARNINGS:
            text = f"pod {name}: {_clip(warning.message)}"
            if "Multi-Attach" in warning.message:
                text += ": a ReadWriteOnce claim is on another node; use a ReadWriteMany class or one node"
            return Fault(VOLUME_NOT_READY, text, rank=3)
    return None


def _condition(obj: Json, kind: str) -> Mapping[str, Any]:
    for condition in obj.get("status", {}).get("conditions", ()):
        if condition.get("type") == kind:
            found: Mapping[str, Any] = condition
            return found
    return {}


def _last_line(text: str) -> str:
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return _clip(lines[-1]) if lines else ""


def _clip(text: str) -> str:
    text = VOLATILE.sub("", " ".join((text or "").split())).rstrip(".")
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."
