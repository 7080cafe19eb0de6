"""A pod that gets no node: what the scheduler said, and who can change that."""

import re
from collections.abc import Sequence

from lepton_operator.facts import Json, WarningFact
from lepton_operator.faults.fault import SOURCE_NOT_FOUND, UNSCHEDULABLE, VOLUME_NOT_READY, Fault
from lepton_operator.faults.text import clip, condition, moment, sentence

CAUSES = re.compile(r"\d+/\d+ nodes are available: (.*?)(\. .*)?$")
"""After the causes the scheduler tells whether ending other pods would help."""
COUNTED = re.compile(r"\d+ (.*)", re.DOTALL)
INSUFFICIENT = re.compile(r"Insufficient (\S+)")
NODE_RESOURCES = frozenset({"cpu", "memory", "ephemeral-storage"})
CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" (not found|is being deleted)', re.IGNORECASE)

WHAT_TO_DO = (
    (r"untolerated taint", "bear the taint with spec.podTemplate.tolerations, or take it from a node"),
    (
        r"didn't match Pod's node affinity/selector",
        "correct spec.podTemplate.nodeSelector or affinity, or label a node",
    ),
    (r"pod (anti-)?affinity", "correct spec.podTemplate.affinity, or add a node"),
    (r"were unschedulable", "uncordon a node"),
    (r"[Tt]oo many pods", "add a node, or remove pods"),
    (
        r"volume node affinity|persistent volumes to bind|max volume count",
        "the volume can't be had where there is room: add a node there, or use a class whose volumes are everywhere",
    ),
    (r"no nodes available", "add a node"),
)
"""(what the scheduler said, what to do), all that match."""


SCHEDULER_SECONDS = 15.0
"""How long a pod may wait for the first word of its scheduler."""

CLAIM_SECONDS = 15.0
"""How long a claim may take to get its volume: it was just made, and so was the pod."""


def placement_fault(pod: Json, warnings: Sequence[WarningFact], now: float) -> Fault | None:
    """Why no node has the pod."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "True":
        return None
    if fault := _provisioning_fault(pod, warnings):
        return fault
    if scheduled.get("status") != "False":
        return _overlooked(pod, now)
    message, name = scheduled.get("message", ""), pod["metadata"]["name"]
    if scheduled.get("reason") == "SchedulingGated":
        return Fault(
            UNSCHEDULABLE, sentence(f"pod {name} is held back by a scheduling gate", clip(message)), rank=2
        )
    if _is_about_claims(message):
        due = placement_due(pod)
        return None if due and now < due else _claim_fault(name, message)
    causes = _causes(message)
    return Fault(
        UNSCHEDULABLE, sentence(f"no node takes pod {name}", "; ".join(causes), _what_to_do(causes)), rank=2
    )


def placement_due(pod: Json) -> float | None:
    """When a pod becomes a fault that no scheduler has looked at, or that waits for its claim; else None."""
    scheduled = condition(pod, "PodScheduled")
    if scheduled:
        waits = scheduled.get("status") == "False" and _is_about_claims(scheduled.get("message", ""))
        return moment(scheduled.get("lastTransitionTime")) + CLAIM_SECONDS if waits else None
    created = pod["metadata"].get("creationTimestamp")
    return (
        moment(created) + SCHEDULER_SECONDS if created and not pod.get("spec", {}).get("nodeName") else None
    )


def _overlooked(pod: Json, now: float) -> Fault | None:
    due = placement_due(pod)
    if due is None or now < due:
        return None
    scheduler = pod.get("spec", {}).get("schedulerName", "default-scheduler")
    text = f"pod {pod['metadata']['name']}: scheduler {scheduler} has not looked at it: does it run?"
    return Fault(UNSCHEDULABLE, f"{text} Start it, or correct spec.podTemplate.schedulerName", rank=2)


def _is_about_claims(message: str) -> bool:
    return "persistentvolumeclaim" in message.lower()


def _claim_fault(pod: str, message: str) -> Fault:
    """The scheduler waits for a claim."""
    if found := CLAIM.search(message):
        what = f"pod {pod} waits: persistentvolumeclaim {found[1]} {found[2]}"
        if found[2] == "not found":
            return Fault(SOURCE_NOT_FOUND, f"{what}: create the claim, or correct its name", rank=2)
        return Fault(VOLUME_NOT_READY, f"{what}: create it again once it is gone", rank=2)
    said = "; ".join(_causes(message))
    text = f"pod {pod} waits for its volume: {said}: check the claim and its storage class"
    return Fault(VOLUME_NOT_READY, text, rank=2)


def _causes(message: str) -> list[str]:
    """The scheduler's causes without their counts of nodes, which change as nodes come and go."""
    line = " ".join(message.split()).rstrip(". ")
    found = CAUSES.match(line)
    if not found:
        return [clip(line)]
    parts = re.split(r", (?=\d+ )", found[1])
    texts = [counted[1] if (counted := COUNTED.match(part)) else part for part in parts]
    return [clip(text) for text in sorted(set(texts))][:8]


def _what_to_do(causes: Sequence[str]) -> str:
    todo: list[str] = []
    for cause in causes:
        if found := INSUFFICIENT.match(cause):
            name = found[1]
            if name in NODE_RESOURCES:
                todo.append("lower spec.resources.requests, or add a node")
            else:
                todo.append(
                    f"add a node that has {name} (and its device plugin), or take it out of spec.resources"
                )
        todo += [do for pattern, do in WHAT_TO_DO if re.search(pattern, cause)]
    return "; ".join(dict.fromkeys(todo))


def _provisioning_fault(pod: Json, warnings: Sequence[WarningFact]) -> Fault | None:
    """A pod without a node whose claim gets no volume: the scheduler itself says so only after minutes."""
    volumes = pod.get("spec", {}).get("volumes", ())
    claims = {(volume.get("persistentVolumeClaim") or {}).get("claimName") for volume in volumes}
    for warning in warnings:
        about_ours = warning.kind == "PersistentVolumeClaim" and warning.name in claims
        if about_ours and warning.reason == "ProvisioningFailed":
            waits = f"pod {pod['metadata']['name']} waits for claim {warning.name}"
            text = sentence(waits, clip(warning.message), "check its storage class")
            return Fault(VOLUME_NOT_READY, text, rank=2)
    return None
