"""What simulated pods do: each play is a coroutine over one pod, chosen by what the pod is for.

A play sets the pod's status as a kubelet would. When the pod is deleted its play is cancelled and the
namespace's `stop` play begins.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from lepton_operator.desired.owner import NAME_LABEL
from lepton_workloads.contract.outcome import Outcome, PrepareResult, TrainResult
from tests.integration.kube import Object

SAMPLES = 1797


class Pod(Protocol):
    """One pod on the simulated node."""

    manifest: Object

    async def set_status(self, status: Object) -> None:
        """Write the status; nothing happens when the pod is gone."""

    async def vanish(self) -> None:
        """Finish the deletion, as a kubelet does when the containers have ended."""

    def ip(self) -> str:
        """The pod's address."""


Play = Callable[[Pod], Awaitable[None]]


def now() -> str:
    """RFC 3339, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def label(pod: Pod, name: str) -> str:
    """A label of the pod, empty when it is missing."""
    return str(pod.manifest["metadata"].get("labels", {}).get(name, ""))


def index(pod: Pod) -> int:
    """Completion index."""
    notes = pod.manifest["metadata"].get("annotations", {})
    return int(notes.get("batch.kubernetes.io/job-completion-index", 0))


def digest(text: str) -> str:
    """64 hexadecimal digits that depend on `text` alone."""
    return hashlib.sha256(text.encode()).hexdigest()


def status_of(pod: Pod, phase: str, states: dict[str, Object], ready: bool = False) -> Object:
    """A pod's status; containers that `states` does not name run, init containers have completed."""
    spec = pod.manifest["spec"]
    done = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now(), "finishedAt": now()}}
    inits = [_container(one, states.get(one["name"], done)) for one in spec.get("initContainers", ())]
    going = {"running": {"startedAt": now()}}
    mains = [_container(one, states.get(one["name"], going), ready) for one in spec["containers"]]
    initialized = all(row["state"].get("terminated", {}).get("exitCode") == 0 for row in inits)
    rows = {
        "PodScheduled": True,
        "Initialized": initialized,
        "ContainersReady": ready,
        "Ready": ready,
    }
    status: Object = {
        "phase": phase,
        "hostIP": "127.0.0.1",
        "startTime": now(),
        "conditions": [
            {"type": kind, "status": str(holds), "lastTransitionTime": now()} for kind, holds in rows.items()
        ],
        "containerStatuses": mains,
        "podIP": pod.ip(),
        "podIPs": [{"ip": pod.ip()}],
    }
    if inits:
        status["initContainerStatuses"] = inits
    return status


def _container(container: Object, state: Object, ready: bool = False) -> Object:
    row: Object = {
        "name": container["name"],
        "image": container["image"],
        "imageID": container["image"],
        "ready": ready or state.get("terminated", {}).get("exitCode") == 0,
        "started": "running" in state,
        "restartCount": int(state.get("restarts", 0)),
        "state": {name: value for name, value in state.items() if name not in ("restarts", "last")},
    }
    if "last" in state:
        row["lastState"] = {"terminated": state["last"]}
    return row


def main_container(pod: Pod) -> str:
    """Name of the first container."""
    return str(pod.manifest["spec"]["containers"][0]["name"])


def ended(code: int, message: str = "", reason: str | None = None) -> Object:
    """The state of a container that has ended."""
    said: Object = {"exitCode": code, "startedAt": now(), "finishedAt": now()}
    said["reason"] = reason or ("Completed" if code == 0 else "Error")
    if message:
        said["message"] = message
    return {"terminated": said}


async def run(pod: Pod, ready: bool = True) -> None:
    """Running, and ready or not."""
    await pod.set_status(status_of(pod, "Running", {}, ready))


async def succeed(pod: Pod, message: str) -> None:
    """Running, then ended well with a termination message."""
    await run(pod)
    await pod.set_status(status_of(pod, "Succeeded", {main_container(pod): ended(0, message)}))


def prepare_outcome(pod: Pod) -> str:
    """The result of a preparation; it depends on the Job's name, which depends on the spec."""
    job = label(pod, "batch.kubernetes.io/job-name")
    result = PrepareResult(
        key=digest(job),
        samples=SAMPLES,
        classes=10,
        labels=[str(number) for number in range(10)],
        train=1437,
        validation=180,
        test=180,
        invalid_files=0,
        reused=False,
        height=32,
        width=32,
        channels=3,
        bytes=5_520_384,
    )
    return Outcome(prepare=result if index(pod) == 0 else None).to_json()


def train_outcome(pod: Pod) -> str:
    """The result of a training; every attempt of a job ends in the same version."""
    job = label(pod, NAME_LABEL)
    result = TrainResult(
        digest=digest(job),
        weights_digest=digest(f"weights of {job}"),
        test_accuracy=0.975,
        test_loss=0.08,
        validation_accuracy=0.97,
        validation_loss=0.09,
        train_accuracy=0.99,
        train_loss=0.03,
        int8_accuracy=0.969,
        float_accuracy=0.97,
        epochs=5,
        seconds=3.0,
        parameters=100_000,
        bytes=1_000_000,
        code_version="test",
        tensorflow="test",
    )
    return Outcome(train=result if index(pod) == 0 else None).to_json()


async def prepares(pod: Pod) -> None:
    """A preparation that goes well."""
    await succeed(pod, prepare_outcome(pod))


async def trains(pod: Pod) -> None:
    """A training that goes well."""
    await succeed(pod, train_outcome(pod))


async def serves(pod: Pod) -> None:
    """A server that is ready at once."""
    await run(pod)


async def never_ready(pod: Pod) -> None:
    """A server whose readiness probe never succeeds."""
    await run(pod, ready=False)


def exits(code: int, message: str = "", reason: str | None = None) -> Play:
    """The container runs and ends so, once and for all (pods of Jobs)."""

    async def play(pod: Pod) -> None:
        await run(pod)
        await pod.set_status(status_of(pod, "Failed", {main_container(pod): ended(code, message, reason)}))

    return play


def crash_loops(code: int, message: str = "", reason: str | None = None) -> Play:
    """The container ends so again and again (pods of Deployments)."""

    async def play(pod: Pod) -> None:
        last = ended(code, message, reason)["terminated"]
        waiting = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}
        state = {"waiting": waiting, "last": last, "restarts": 3}
        await pod.set_status(status_of(pod, "Running", {main_container(pod): state}))

    return play


def out_of_memory(code: int = 137) -> Play:
    """Killed for its memory limit."""
    return exits(code, reason="OOMKilled")


def waits(reason: str, message: str = "") -> Play:
    """The container is never started, for example ImagePullBackOff."""

    async def play(pod: Pod) -> None:
        waiting = {"waiting": {"reason": reason, "message": message or reason}}
        await pod.set_status(status_of(pod, "Pending", {main_container(pod): waiting}))

    return play


def says(message: str) -> Play:
    """Ends well, with any termination message: half-written results, nonsense."""

    async def play(pod: Pod) -> None:
        await succeed(pod, message)

    return play


def flaps(times: int) -> Play:
    """Ready, not ready, ready ... and ready in the end."""

    async def play(pod: Pod) -> None:
        for _ in range(times):
            await run(pod)
            await run(pod, ready=False)
        await run(pod)

    return play


def in_turn(*plays: Play) -> Play:
    """The first pod plays the first, and so on; all later ones the last."""
    left = list(plays)

    async def play(pod: Pod) -> None:
        chosen = left.pop(0) if len(left) > 1 else left[0]
        await chosen(pod)

    return play


def runs_until(event: asyncio.Event, then: Play) -> Play:
    """Runs until the event is set (see `Puppet.event`), then plays on."""

    async def play(pod: Pod) -> None:
        await run(pod)
        await event.wait()
        await then(pod)

    return play


async def stops(pod: Pod) -> None:
    """Stops at once; a pod of a Job that hadn't ended has failed."""
    spec, status = pod.manifest["spec"], pod.manifest.get("status", {})
    if spec["restartPolicy"] == "Never" and status.get("phase") not in ("Succeeded", "Failed"):
        state = ended(143)
        await pod.set_status(status_of(pod, "Failed", {main_container(pod): state}))
    await pod.vanish()


def stops_after(event: asyncio.Event) -> Play:
    """A slow shutdown: the pod is there, being deleted, until the event is set."""

    async def play(pod: Pod) -> None:
        await event.wait()
        await stops(pod)

    return play


@dataclass
class Script:
    """What the pods of a namespace do, by component; change it at any time, for later pods."""

    dataset: Play = prepares
    training: Play = trains
    model: Play = serves
    stop: Play = stops

    def play_of(self, labels: dict[str, Any]) -> Play:
        """By the component label; pods that are nothing of Lepton's just run."""
        component = labels.get("app.kubernetes.io/name")
        plays = {"dataset": self.dataset, "training": self.training, "model": self.model}
        return plays.get(str(component), serves)
