"""A container that runs and does not get ready, or was ended for that.

State decides: running, not ready, for longer than a start takes. The Warning Event `Unhealthy` only says
what the probe was told. So time alone can bring this fault: `ready_dues` says when.
"""

from collections.abc import Sequence

from lepton_operator.facts import Json, WarningFact
from lepton_operator.faults.fault import PROBE_FAILING, Fault
from lepton_operator.faults.text import (
    clip,
    condition,
    container_spec,
    container_statuses,
    moment,
    sentence,
    signal_name,
    times,
)

GRACE_SECONDS = 15.0
"""How long a container that has started may be unready without a word: a server is ready at once."""

START_SECONDS = 30.0
"""The same for one whose startup probe has not passed: many that start at once share the processors."""

EVENT_SLACK_SECONDS = 2.0
"""Events and the times of containers are both rounded to seconds."""


def never_ready(
    where: str, pod: Json, container: Json, warnings: Sequence[WarningFact], now: float
) -> Fault | None:
    """It runs and is not ready: no more, or for too long not yet."""
    due = _due(pod, container)
    if due is None or now < due:
        return None
    kind = "startup" if container.get("started") is False else "readiness"
    started = moment(container["state"]["running"].get("startedAt"))
    said = _told(pod, warnings, kind, started, now)
    what = f"{where} runs, but is not ready: its {_described(pod, container, kind)} fails"
    look = f"kubectl logs {pod['metadata']['name']} -c {container['name']} tells what it does"
    return Fault(PROBE_FAILING, sentence(what, said, look), rank=4)


def probe_kill(
    where: str, pod: Json, container: Json, ended: Json, warnings: Sequence[WarningFact]
) -> Fault | None:
    """The kubelet ended it because a probe failed.

    The Event alone is no proof: a probe fails, too, while a program that is about to crash starts. So it must have
    run for as long as the probe bears failures.
    """
    since, until = moment(ended.get("startedAt")), moment(ended.get("finishedAt"))
    for kind in ("liveness", "startup"):
        probe = container_spec(pod, container["name"]).get(f"{kind}Probe")
        if not since or not probe or until - since < _patience(probe):
            continue
        if said := _told(pod, warnings, kind, since, until):
            code = ended.get("exitCode")
            name = signal_name(code) if isinstance(code, int) else ""
            end = f"exit code {code}{f' ({name})' if name else ''}"
            restarts = container.get("restartCount", 0)
            again = f", restarted {times(restarts)}" if restarts else ""
            what = f"{where} was ended because its {_described(pod, container, kind)} failed ({end}{again})"
            return Fault(PROBE_FAILING, sentence(what, said), rank=3)
    return None


def ready_dues(pod: Json) -> list[float]:
    """When containers that run and aren't ready become faults (seconds since the epoch)."""
    dues = (_due(pod, container) for container, is_init in container_statuses(pod) if not is_init)
    return [due for due in dues if due is not None]


def _due(pod: Json, container: Json) -> float | None:
    """When a container that runs and isn't ready becomes a fault: at once if it had been ready before."""
    running = container.get("state", {}).get("running")
    if not running or container.get("ready") or "deletionTimestamp" in pod["metadata"]:
        return None
    started = moment(running.get("startedAt"))
    if not started:
        return None
    row = condition(pod, "ContainersReady")
    changed = moment(row.get("lastTransitionTime")) if row.get("status") == "False" else 0.0
    grace = START_SECONDS if container.get("started") is False else GRACE_SECONDS
    return changed if changed > started else started + grace


def _told(pod: Json, warnings: Sequence[WarningFact], kind: str, since: float, until: float) -> str:
    """What the newest Event about such a probe says, from the time that the container ran."""
    for warning in warnings:
        about = (warning.kind, warning.name, warning.reason) == ("Pod", pod["metadata"]["name"], "Unhealthy")
        in_time = since - EVENT_SLACK_SECONDS <= warning.timestamp <= until + EVENT_SLACK_SECONDS
        probe, _, said = warning.message.partition(" probe ")
        if about and in_time and probe.lower() == kind:
            return clip(said.removeprefix("failed: ").removeprefix("errored: "))
    return ""


def _patience(probe: Json) -> float:
    """Seconds from the first failure to the last one that is borne; with Kubernetes' defaults."""
    return float((probe.get("failureThreshold", 3) - 1) * probe.get("periodSeconds", 10))


def _described(pod: Json, container: Json, kind: str) -> str:
    """`readiness probe (GET /readyz)`."""
    probe = container_spec(pod, container["name"]).get(f"{kind}Probe") or {}
    path = (probe.get("httpGet") or {}).get("path")
    return f"{kind} probe (GET {path})" if path else f"{kind} probe"
