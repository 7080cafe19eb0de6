"""What can be wrong with a pod, whatever kind it works for."""

from dataclasses import dataclass, field, replace
from typing import Any

from lepton_operator.conditions import timestamp
from lepton_operator.facts import Json, Observed, Refusal, WarningFact
from lepton_workloads.contract.outcome import Failure
from tests.unit.builders import (
    NOW,
    STARTED,
    Obj,
    disrupted,
    ended,
    failed_text,
    unschedulable,
    waits,
    warning,
)

IMAGE = "registry.example/server:2"
LOST_SECRET = (
    "Unable to retrieve some image pull secrets (mine); attempting to pull the image may not succeed."
)
NO_CLAIM = '0/2 nodes are available: persistentvolumeclaim "lepton-store" not found.'
UNBOUND = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."
GPU = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
TAINTED = "0/2 nodes are available: 2 node(s) had untolerated taint {dedicated: other}."
TOO_LOW = "container init was OOM-killed (memory limit too low?)"
MULTI_ATTACH = "Multi-Attach error for volume pvc-1: it is already used by pod other"


@dataclass(frozen=True)
class PodSituation:
    """Parts of a pod (see `builders.pod`) and Warning Events about it, as (reason, message)."""

    situation: str
    reason: str
    parts: Obj
    told: tuple[tuple[str, str], ...] = ()
    told_of_claim: tuple[tuple[str, str], ...] = ()
    age: float | None = None
    """Seconds since the pod was made."""

    def within(self, facts: Observed) -> Observed:
        """Facts whose only pod has these parts, with all that is told of it."""
        pod = dict(facts.pods[0])
        if self.age is not None:
            pod["metadata"] = pod["metadata"] | {"creationTimestamp": timestamp(NOW - self.age)}
        return replace(facts, pods=(pod,), warnings=self._warnings(pod))

    def _warnings(self, pod: Json) -> tuple[WarningFact, ...]:
        """The Warning Events about that pod and its claims."""
        claims = [
            volume["persistentVolumeClaim"]["claimName"]
            for volume in pod["spec"].get("volumes", ())
            if "persistentVolumeClaim" in volume
        ]
        of_pod = [warning("Pod", pod["metadata"]["name"], *one) for one in self.told]
        of_claims = [
            warning("PersistentVolumeClaim", claim, *one) for claim in claims for one in self.told_of_claim
        ]
        return (*of_pod, *of_claims)


def pending(*containers: Obj, **parts: Any) -> Obj:
    """Parts of a pod that has not started."""
    return {"phase": "Pending", "containers": list(containers), **parts}


def unplaced(message: str, **extra: Any) -> Obj:
    """Parts of a pod that has no node."""
    return pending(conditions=[unschedulable(message) | extra])


CREATING = pending(waits("ContainerCreating"))

BEFORE_START = (
    PodSituation(
        "an image can't be pulled", "ImagePullFailed",
        pending(waits("ErrImagePull", "not found", image=IMAGE)),
    ),
    PodSituation(
        "an image can't be pulled, and the kubelet waits before it tries again", "ImagePullFailed",
        pending(waits("ImagePullBackOff", f'Back-off pulling image "{IMAGE}": ErrImagePull: not found', image=IMAGE)),
    ),
    PodSituation(
        "a node may not pull an image", "ImagePullFailed",
        pending(waits("ErrImagePull", "401 Unauthorized", image=IMAGE)),
        told=(("FailedToRetrieveImagePullSecret", LOST_SECRET),),
    ),
    PodSituation(
        "an image is not on the node, and may not be pulled", "ImagePullFailed",
        pending(waits("ErrImageNeverPull", image=IMAGE)),
    ),
    PodSituation(
        "the name of an image is none", "ImagePullFailed",
        pending(waits("InvalidImageName", image="Server:latest")),
    ),
    PodSituation(
        "no node fits a pod", "Unschedulable",
        unplaced("0/2 nodes are available: 2 Insufficient cpu."),
    ),
    PodSituation("no node has the GPU that a pod asks for", "Unschedulable", unplaced(GPU)),
    PodSituation("all nodes have a taint", "Unschedulable", unplaced(TAINTED)),
    PodSituation(
        "a scheduling gate holds a pod back", "Unschedulable",
        unplaced("Scheduling is blocked due to non-empty scheduling gates", reason="SchedulingGated"),
    ),
    PodSituation(
        "no scheduler looks at a pod", "Unschedulable", pending(spec={"schedulerName": "mine"}), age=120
    ),
    PodSituation(
        "the node refuses a pod that the scheduler gave it", "Unschedulable",
        {"phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have enough resource: cpu",
         "spec": {"nodeName": "node-2"}},
    ),
    PodSituation(
        "a Secret or ConfigMap that a pod names is missing", "ContainerConfigError",
        pending(waits("CreateContainerConfigError", 'secret "keys" not found')),
    ),
    PodSituation(
        "a container can't be started", "ContainerConfigError",
        pending(waits("RunContainerError", "exec: no such file")),
    ),
    PodSituation(
        "the memory limit is too low to start a container", "OutOfMemory",
        pending(waits("RunContainerError", TOO_LOW)),
    ),
    PodSituation(
        "a node can't give a pod its network", "ContainerConfigError", CREATING,
        told=(("FailedCreatePodSandBox", "no CNI plugin is there"),),
    ),
    PodSituation("the claim of a pod is missing", "SourceNotFound", unplaced(NO_CLAIM)),
    PodSituation("the claim of a pod is not bound", "VolumeNotReady", unplaced(UNBOUND)),
    PodSituation(
        "the claim of a pod gets no volume", "VolumeNotReady", pending(),
        told_of_claim=(("ProvisioningFailed", 'storageclass "fast" not found'),),
    ),
    PodSituation(
        "a volume can't be mounted", "VolumeNotReady", CREATING, told=(("FailedMount", "no such server"),)
    ),
    PodSituation(
        "a Secret or ConfigMap to be mounted is missing", "VolumeNotReady", CREATING,
        told=(("FailedMount", 'MountVolume.SetUp failed for volume "keys" : secret "keys" not found'),),
    ),
    PodSituation(
        "a ReadWriteOnce volume is on another node", "VolumeNotReady", CREATING,
        told=(("FailedAttachVolume", MULTI_ATTACH),),
    ),
)  # fmt: skip
"""The pod's containers have not run."""

DISRUPTED = (
    PodSituation(
        "a pod is evicted by its node", "Evicted",
        {"reason": "Evicted", "message": "The node was low on resource: memory."},
    ),
    PodSituation(
        "the node of a pod shuts down", "Evicted",
        {"reason": "NodeShutdown", "message": "Pod was terminated in response to node shutdown.",
         "spec": {"nodeName": "node-2"}},
    ),
    PodSituation("a pod is drained or preempted", "Evicted", {"conditions": [disrupted()]}),
    PodSituation(
        "the node of a pod is lost", "NodeLost",
        {"conditions": [disrupted("DeletionByTaintManager")], "spec": {"nodeName": "node-2"}},
    ),
)  # fmt: skip
"""Its surroundings end the pod."""

ON_SILENT_NODE = PodSituation(
    "the node of a pod does not answer", "NodeLost",
    {"conditions": [{"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "False"}],
     "containers": [STARTED], "spec": {"nodeName": "node-2"}},
)  # fmt: skip


@dataclass(frozen=True)
class End:
    """How a container ended by itself."""

    situation: str
    reason: str
    container: Obj = field(default_factory=dict)


ENDS = (
    End("a container uses more memory than its limit", "OutOfMemory", ended(137, reason="OOMKilled")),
    End("a container ends with exit code 1", "ContainerFailed", ended(1, "Traceback\nOSError: broken")),
    End("a container is ended by a signal", "ContainerFailed", ended(143)),
)
LOST_END = End(
    "a container is gone with its node, which started anew", "NodeLost", ended(255, reason="Unknown")
)


def named(failure: Failure, message: str, terminal: bool = False) -> End:
    """A container that says itself why it ended."""
    text = failed_text(failure.value, message, terminal=terminal)
    return End(f"a container says: {message}", failure.value, ended(3 if terminal else 1, text))


REFUSALS = (
    ("a quota has no room for a child", "QuotaExceeded", "exceeded quota: small"),
    ("admission refuses a child", "AdmissionDenied", 'admission webhook "policy" denied the request'),
    ("another object holds the name of a child", "NameConflict", "it exists and was not made by Lepton"),
    ("a child of an earlier object is being deleted", "WaitingForDeletion", "it is being deleted"),
    ("a right of the operator is missing", "Forbidden", "The operator lacks the right to create jobs"),
    ("the API server can't write a child", "ApiError", "Internal error occurred: no space left"),
)
"""Writes of children that the API server, or the operator's own check, refuses."""


def refusal(reason: str, message: str, kind: str, name: str) -> tuple[Refusal, ...]:
    """That one write was refused."""
    return (Refusal(kind, name, reason, message),)


REFUSED_PODS = (
    ("a quota has no room for a pod", "QuotaExceeded", "pods is forbidden: exceeded quota: small"),
    ("admission refuses a pod", "AdmissionDenied", "pods is forbidden: violates PodSecurity"),
    (
        "a LimitRange refuses a pod",
        "AdmissionDenied",
        "pods is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi",
    ),
)
"""Pods that the controller of a child is not allowed to create."""
