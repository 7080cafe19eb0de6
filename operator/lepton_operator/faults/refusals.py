"""What the API server refuses: writes of ours, and pods that the controllers of our children want to make."""

import re
from collections.abc import Sequence

from lepton_operator.facts import Json, Refusal, WarningFact
from lepton_operator.faults.fault import ADMISSION_DENIED, QUOTA_EXCEEDED, Fault
from lepton_operator.faults.text import clip, condition, moment, sentence

CREATE_WARNINGS = frozenset({"FailedCreate"})

WHAT_TO_DO = (
    (r"exceeded quota", "raise the quota or lower spec.resources"),
    (r"failed quota", "write the amounts that the quota asks for into spec.resources"),
    (
        r"(minimum|maximum) \S+ usage per|max limit to request ratio",
        "change spec.resources so that they fit the namespace's LimitRange",
    ),
    (
        r"must be less than or equal to \S+ limit",
        "a request is above its limit, which a LimitRange may have set: write both in spec.resources",
    ),
    (
        r"violates PodSecurity",
        "Lepton's pods keep to the level restricted: look what else changes them, or what the level is",
    ),
    (r"no PriorityClass", "create it, or correct spec.podTemplate.priorityClassName"),
    (r"RuntimeClass|runtimeclass", "create it, or correct spec.podTemplate.runtimeClassName"),
    (r"service ?account", "create the ServiceAccount, which every namespace should have"),
    (r"failed calling webhook", "the webhook does not answer: who runs it must mend it"),
    (r"denied the request", "change what the policy names, or ask who made the policy"),
    (r"spec\.(template\.)?spec\.(affinity|tolerations|nodeSelector)", "correct spec.podTemplate"),
)
"""(what was said, what to do), the first that matches."""

SAID = re.compile(r"Error creating: ")


def refusal_fault(refusals: Sequence[Refusal]) -> Fault | None:
    """A write of ours that was refused."""
    for refusal in refusals:
        said = clip(refusal.message)
        do = _what_to_do(said) if refusal.reason in (QUOTA_EXCEEDED, ADMISSION_DENIED) else ""
        return Fault(refusal.reason, sentence(f"{refusal.kind} {refusal.name}", said, do), rank=0)
    return None


def creation_fault(
    kind: str, name: str, warnings: Sequence[WarningFact], pods: Sequence[Json] = ()
) -> Fault | None:
    """Why a controller could not create pods; asked when some are missing. What is older than `pods` is over."""
    since = max((moment(pod["metadata"].get("creationTimestamp")) for pod in pods), default=0.0)
    for warning in warnings:
        same = warning.kind == kind and warning.name == name
        if kind == "Deployment" and warning.kind == "ReplicaSet":
            same = warning.name == name or warning.name.startswith(f"{name}-")
        if warning.reason in CREATE_WARNINGS and same and warning.timestamp >= since:
            return _refused_pods(warning.message)
    return None


def deployment_fault(deployment: Json | None) -> Fault | None:
    """A Deployment whose pods are refused (quota, admission)."""
    failure = condition(deployment or {}, "ReplicaFailure")
    return _refused_pods(failure.get("message", "")) if failure.get("status") == "True" else None


def _refused_pods(message: str) -> Fault:
    said = clip(SAID.sub("", message))
    reason = QUOTA_EXCEEDED if re.search("(exceeded|failed) quota", said) else ADMISSION_DENIED
    return Fault(reason, sentence("pods are refused", said, _what_to_do(said)), rank=1)


def _what_to_do(said: str) -> str:
    return next((do for pattern, do in WHAT_TO_DO if re.search(pattern, said)), "")
