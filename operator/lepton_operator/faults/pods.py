"""All pods -> the one fault that explains most."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from lepton_operator.facts import Json, WarningFact
from lepton_operator.faults.containers import container_fault
from lepton_operator.faults.disruptions import disruption_fault
from lepton_operator.faults.fault import CONSEQUENCE, Fault
from lepton_operator.faults.placement import placement_due, placement_fault
from lepton_operator.faults.probes import ready_dues
from lepton_operator.faults.text import condition
from lepton_operator.faults.volumes import mount_fault


def worst_fault(pods: Iterable[Json], warnings: Sequence[WarningFact], now: float) -> Fault | None:
    """The fault that explains most among all pods, or None."""
    faults = [fault for pod in pods if (fault := pod_fault(pod, warnings, now))]
    return min(faults, key=lambda fault: (fault.rank, fault.ended_at or "~", fault.message), default=None)


def pod_fault(pod: Json, warnings: Sequence[WarningFact], now: float) -> Fault | None:
    """What is wrong with one pod, or None; a ready or succeeded pod has no fault."""
    status = pod.get("status", {})
    if status.get("phase") == "Succeeded" or condition(pod, "Ready").get("status") == "True":
        return None
    if fault := disruption_fault(pod):
        return fault
    fault = (
        container_fault(pod, warnings, now)
        or placement_fault(pod, warnings, now)
        or mount_fault(pod, warnings)
    )
    if fault and pod["metadata"].get("deletionTimestamp"):
        return replace(fault, rank=fault.rank + CONSEQUENCE)
    return fault


def look_again(pods: Iterable[Json], now: float) -> float | None:
    """Seconds until time alone makes a fault of what is fine now; None when it can't."""
    dues = [due for pod in pods for due in (*ready_dues(pod), placement_due(pod)) if due is not None]
    return min((due - now for due in dues if due > now), default=None)
