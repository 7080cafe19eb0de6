"""Pods that their surroundings ended: eviction, drain, preemption, a lost node."""

import re

from lepton_operator.facts import Json
from lepton_operator.faults.containers import has_lost_its_container
from lepton_operator.faults.fault import DEADLINE_EXCEEDED, EVICTED, NODE_LOST, UNSCHEDULABLE, Fault
from lepton_operator.faults.text import clip, condition, container_statuses, sentence

SHUT_DOWN = frozenset({"Shutdown", "NodeShutdown", "Terminated", "Preempting"})
"""Reasons of a pod that the kubelet ended with its node, or for a critical pod."""

GONE_NODE = frozenset({"DeletionByTaintManager", "DeletionByPodGC"})

OVER_OWN_LIMIT = re.compile(
    r"exceeds the (total )?limit|exceeded its local ephemeral storage limit|exceeds the limit"
)
"""Evicted for the pod's own use of disk: another try on another node ends alike."""

WHAT_TO_DO = (
    (r"low on resource: memory", "raise spec.resources.requests.memory to what it uses"),
    (
        r"EmptyDir volume|ephemeral",
        "it needs more disk than it may use: raise ephemeral-storage in spec.resources, or lower what it writes",
    ),
    (r"low on resource", "make room on the node"),
    (
        r"preempt",
        "pods of higher priority took its place: add a node, or set spec.podTemplate.priorityClassName",
    ),
)


def is_disrupted(pod: Json) -> bool:
    """True when the pod was ended by its surroundings, not by itself or by its own limits."""
    status = pod.get("status", {})
    reason = status.get("reason")
    if reason == "Evicted":
        return not OVER_OWN_LIMIT.search(status.get("message") or "")
    if reason == "NodeLost" or reason in SHUT_DOWN or _is_rejected(pod):
        return True
    if condition(pod, "DisruptionTarget").get("status") == "True":
        return True
    ends = [one.get("state", {}).get("terminated") or {} for one, _ in container_statuses(pod)]
    return any(has_lost_its_container(end) for end in ends)


def disruption_fault(pod: Json) -> Fault | None:
    """What ended the pod, or keeps its node from answering."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    node = pod.get("spec", {}).get("nodeName", "?")
    said = clip(status.get("message"))
    if status.get("reason") == "Evicted":
        return Fault(EVICTED, sentence(f"pod {name} was evicted", said, _what_to_do(said)), rank=2)
    if status.get("reason") in SHUT_DOWN:
        return Fault(EVICTED, sentence(f"pod {name} was ended by node {node}", said), rank=2)
    if status.get("reason") == DEADLINE_EXCEEDED:
        return Fault(DEADLINE_EXCEEDED, sentence(f"pod {name} ran for too long", said), rank=2)
    if _is_rejected(pod):
        what = f"node {node} refused pod {name} ({status['reason']})"
        return Fault(UNSCHEDULABLE, sentence(what, said, "it is tried on another node"), rank=2)
    disruption = condition(pod, "DisruptionTarget")
    if disruption.get("status") == "True":
        return _disrupted(pod, disruption)
    if status.get("reason") == "NodeLost" or _is_on_silent_node(pod):
        text = (
            f"pod {name}: node {node} does not answer: if it stays away, delete the Node, so that its pods go"
        )
        return Fault(NODE_LOST, text, rank=2)
    return None


def _disrupted(pod: Json, disruption: Json) -> Fault:
    name, node = pod["metadata"]["name"], pod.get("spec", {}).get("nodeName", "?")
    if disruption.get("reason") in GONE_NODE or pod.get("status", {}).get("reason") == "NodeLost":
        text = f"pod {name}: node {node} does not answer or is gone, or a NoExecute taint sends its pods away"
        return Fault(NODE_LOST, text, rank=2)
    said = clip(disruption.get("message")) or "it was disrupted"
    return Fault(EVICTED, sentence(f"pod {name}", said, _what_to_do(said)), rank=2)


def _is_rejected(pod: Json) -> bool:
    """The kubelet did not take the pod that the scheduler gave it: nothing of it has run."""
    status = pod.get("status", {})
    reason = str(status.get("reason") or "")
    refused = reason.startswith("OutOf") or reason in ("UnexpectedAdmissionError", "NodeAffinity")
    return status.get("phase") == "Failed" and refused


def _is_on_silent_node(pod: Json) -> bool:
    """Its containers are ready and it is not: the node's controller says so when the node is silent."""
    gates = pod.get("spec", {}).get("readinessGates")
    rows = (condition(pod, "ContainersReady").get("status"), condition(pod, "Ready").get("status"))
    return rows == ("True", "False") and not gates


def _what_to_do(said: str) -> str:
    return next((do for pattern, do in WHAT_TO_DO if re.search(pattern, said, re.IGNORECASE)), "")
