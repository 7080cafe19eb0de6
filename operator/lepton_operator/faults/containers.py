"""One container: can't be started, has ended, or runs and does not get ready."""

import re
from collections.abc import Sequence
from dataclasses import replace

from lepton_operator.facts import Json, WarningFact
from lepton_operator.faults.fault import (
    CONTAINER_CONFIG_ERROR,
    CONTAINER_FAILED,
    CRASH_LOOP,
    NODE_LOST,
    OUT_OF_MEMORY,
    Fault,
)
from lepton_operator.faults.images import PULL_REASONS, pull_fault
from lepton_operator.faults.outcomes import believed_outcome
from lepton_operator.faults.probes import never_ready, probe_kill
from lepton_operator.faults.text import (
    clip,
    container_spec,
    container_statuses,
    is_own_code,
    is_sidecar,
    last_line,
    sentence,
    signal_name,
    times,
)
from lepton_workloads.contract.outcome import EXIT_TERMINAL

CONFIG_REASONS = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "StartError",
        "ContainerCannotRun",
    }
)
START_REASONS = frozenset({"StartError", "ContainerCannotRun"})
"""Of a container that ended before its program began."""

KILLED_AT_START = re.compile(r"OOM-killed|memory limit too low", re.IGNORECASE)
LOST_KEY = re.compile(r"couldn't find key (\S+) in (Secret|ConfigMap) \S*?([^/\s]+)$")
LOST_OBJECT = re.compile(r'(secret|configmap) "([^"]+)" not found', re.IGNORECASE)

RAISE_MEMORY = "raise spec.resources.limits.memory"

SIGNALS = {
    "SIGKILL": "it was killed, and not for its memory limit: look at the node's memory and at who ends pods",
    "SIGTERM": "it was told to stop from outside",
    "SIGILL": "the node's processor lacks an instruction that the image needs",
    "SIGSEGV": "the program itself failed",
    "SIGABRT": "the program itself failed",
}


def container_fault(pod: Json, warnings: Sequence[WarningFact], now: float) -> Fault | None:
    """The first container with a fault; init containers come first, sidecars last.

    A sidecar of a pod that has ended was ended by the kubelet: whatever it says is no cause.
    """
    has_ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
    rows = [(is_sidecar(pod, one["name"]), one, is_init) for one, is_init in container_statuses(pod)]
    for sidecar, container, is_init in sorted(rows, key=lambda row: row[0]):
        if sidecar and has_ended:
            continue
        if fault := _one_container(pod, container, is_init, warnings, now):
            return fault
    return None


def has_lost_its_container(ended: Json) -> bool:
    """The node can't say how the container ended: it, or its runtime, went down in between."""
    reason = ended.get("reason")
    return reason == "ContainerStatusUnknown" or (reason == "Unknown" and ended.get("exitCode") == 255)


def _one_container(
    pod: Json, container: Json, is_init: bool, warnings: Sequence[WarningFact], now: float
) -> Fault | None:
    where = f"container {container['name']} of pod {pod['metadata']['name']}"
    waiting = container.get("state", {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in PULL_REASONS:
        return pull_fault(where, pod, container, reason, message, warnings)
    if reason in CONFIG_REASONS:
        return _start_fault(where, pod, container, reason, message)
    ended = container.get("state", {}).get("terminated")
    if not ended and (reason or not container.get("ready")):
        ended = container.get("lastState", {}).get("terminated")
    looping = reason == "CrashLoopBackOff"
    must_run = not is_init and pod.get("spec", {}).get("restartPolicy") == "Always"
    if ended and (looping or must_run or ended.get("exitCode") != 0):
        fault = _end(where, pod, container, ended, looping)
        if fault.reason in (CONTAINER_FAILED, CRASH_LOOP):
            fault = probe_kill(where, pod, container, ended, warnings) or fault
        return replace(fault, ended_at=ended.get("finishedAt") or "")
    return None if is_init else never_ready(where, pod, container, warnings, now)


def _start_fault(where: str, pod: Json, container: Json, reason: str, message: str) -> Fault:
    """The kubelet or the runtime could not start it."""
    if KILLED_AT_START.search(message):
        return _out_of_memory(f"{where} could not even start", pod, container)
    said = clip(message) or reason
    do = ""
    if found := LOST_KEY.search(said):
        do = f"add key {found[1]} to {found[2]} {found[3]}, or correct spec.podTemplate"
    elif found := LOST_OBJECT.search(said):
        kind = "Secret" if found[1].lower() == "secret" else "ConfigMap"
        do = f"create {kind} {found[2]} in this namespace, or correct spec.podTemplate"
    return Fault(CONTAINER_CONFIG_ERROR, sentence(f"{where} can't be started", said, do), rank=1)


def _end(where: str, pod: Json, container: Json, ended: Json, looping: bool) -> Fault:
    """It has run and ended: what it said itself, else what its exit code says."""
    restarts = container.get("restartCount", 0)
    again = f" (restarted {times(restarts)})" if restarts else ""
    code = ended.get("exitCode")
    outcome = believed_outcome(ended.get("message"))
    if outcome and outcome.reason:
        said = outcome.message or f"{where} ended with exit code {code}"
        return Fault(outcome.reason, f"{said}{again}", outcome.terminal, rank=1)
    if ended.get("reason") == "OOMKilled":
        return _out_of_memory(f"{where} was killed (exit code {code})", pod, container, again)
    if ended.get("reason") in START_REASONS:
        return _start_fault(where, pod, container, ended["reason"], ended.get("message", ""))
    if has_lost_its_container(ended):
        node = pod.get("spec", {}).get("nodeName", "?")
        return Fault(
            NODE_LOST, f"{where} is gone, nobody saw its end: node {node} was restarted{again}", rank=2
        )
    name = signal_name(code) if isinstance(code, int) else ""
    text = f"{where} ended with exit code {code}{f' ({name})' if name else ''}{again}"
    reason = CRASH_LOOP if looping or restarts > 1 else CONTAINER_FAILED
    told = sentence(text, last_line(ended.get("message")), SIGNALS.get(name, ""))
    look = f"kubectl logs {pod['metadata']['name']} -c {container['name']}{' --previous' if restarts else ''}"
    # What own code could not name at all is known by its exit code.
    terminal = code == EXIT_TERMINAL and is_own_code(pod, container["name"])
    return Fault(reason, f"{told}; {look} has the rest", terminal, rank=3)


def _out_of_memory(what: str, pod: Json, container: Json, again: str = "") -> Fault:
    limits = container_spec(pod, container["name"]).get("resources", {}).get("limits", {})
    limit = f" of {limits['memory']}" if "memory" in limits else ""
    text = f"{what} for using more memory than its limit{limit}{again}: {RAISE_MEMORY}"
    return Fault(OUT_OF_MEMORY, text, rank=1)
