"""The causes behind one reason, told apart: each says what to do."""

from typing import Any

import pytest

from lepton_operator.conditions import timestamp
from lepton_operator.facts import Refusal, WarningFact
from lepton_operator.faults import (
    Fault,
    creation_fault,
    deployment_fault,
    is_disrupted,
    look_again,
    pod_fault,
    refusal_fault,
)
from tests.unit.builders import NOW, Obj, disrupted, ended, unschedulable, waits, warning

NODES = "0/3 nodes are available: "
PREEMPTION = " preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."


def a_pod(phase: str = "Pending", spec: Obj | None = None, **status: Any) -> Obj:
    metadata = {"name": "web-1"}
    return {"metadata": metadata, "spec": spec or {"nodeName": "n2"}, "status": {"phase": phase, **status}}


def message_of(pod: Obj, *warnings: WarningFact, reason: str) -> str:
    fault = pod_fault(pod, warnings, NOW)
    assert fault is not None
    assert fault.reason == reason
    return fault.message


def waiting(reason: str, message: str = "") -> Obj:
    return a_pod(containerStatuses=[{"name": "server", "image": "example/server:2"} | waits(reason, message)])


# -- images --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "said", "todo"),
    [
        ("ErrImageNeverPull", "", "LEPTON_IMAGE_PULL_POLICY"),
        ("InvalidImageName", "couldn't parse image name", "this is no name of an image"),
        ("ErrImagePull", "example/server:2: not found", "there is no such image"),
        ("ErrImagePull", "manifest unknown", "there is no such image"),
        (
            "ErrImagePull",
            "pull access denied, repository does not exist",
            "spec.podTemplate.imagePullSecrets",
        ),
        ("ErrImagePull", "unexpected status: 401 Unauthorized", "spec.podTemplate.imagePullSecrets"),
        ("ErrImagePull", "dial tcp: lookup example: no such host", "can't reach the registry"),
        ("ErrImagePull", "x509: certificate signed by unknown authority", "can't reach the registry"),
        ("ErrImagePull", "429 Too Many Requests - toomanyrequests", "limits pulls"),
        ("ErrImagePull", "write /layer: no space left on device", "disk is full"),
        ("ErrImagePull", "no match for platform in manifest", "processor"),
        ("ErrImagePull", "something else", "check its name"),
    ],
)
def test_images(reason: str, said: str, todo: str) -> None:
    message = message_of(waiting(reason, said), reason="ImagePullFailed")
    assert "container server of pod web-1: image example/server:2" in message
    assert todo in message


def test_the_message_is_the_same_while_the_kubelet_tries_and_waits() -> None:
    cause = 'failed to pull image "example/server:2": example/server:2: not found'
    tries = [
        waiting("ErrImagePull", f"rpc error: code = NotFound desc = {cause}"),
        waiting("ImagePullBackOff", f'Back-off pulling image "example/server:2": ErrImagePull: rpc error: code = '
                f"NotFound desc = {cause}"),
    ]  # fmt: skip
    assert len({message_of(pod, reason="ImagePullFailed") for pod in tries}) == 1


def test_an_event_gives_the_cause_that_the_status_lacks() -> None:
    pod = waiting("ImagePullBackOff", 'Back-off pulling image "example/server:2"')
    told = warning("Pod", "web-1", "Failed", "Failed to pull image: 403 Forbidden")
    assert "imagePullSecrets" in message_of(pod, told, reason="ImagePullFailed")


def test_a_missing_pull_secret_is_named() -> None:
    told = warning(
        "Pod", "web-1", "FailedToRetrieveImagePullSecret",
        "Unable to retrieve some image pull secrets (mine); attempting to pull the image may not succeed.",
    )  # fmt: skip
    message = message_of(waiting("ErrImagePull", "401 Unauthorized"), told, reason="ImagePullFailed")
    assert "Secret mine" in message


# -- starts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waits_for", "said", "todo"),
    [
        ("CreateContainerConfigError", 'secret "keys" not found', "create Secret keys in this namespace"),
        ("CreateContainerConfigError", 'configmap "depth" not found', "create ConfigMap depth"),
        ("CreateContainerConfigError", "couldn't find key a in Secret team/keys", "add key a to Secret keys"),
        ("RunContainerError", "exec: no such file", "exec: no such file"),
    ],
)
def test_starts(waits_for: str, said: str, todo: str) -> None:
    message = message_of(waiting(waits_for, said), reason="ContainerConfigError")
    assert "container server of pod web-1 can't be started" in message
    assert todo in message


@pytest.mark.parametrize("again", [True, False])
def test_a_limit_too_small_to_start_is_out_of_memory(again: bool) -> None:
    said = "container init was OOM-killed (memory limit too low?)"
    end = ended(128, said, "StartError")
    state = waits("CrashLoopBackOff") | {"lastState": end["state"]} if again else end
    spec = {"containers": [{"name": "server", "resources": {"limits": {"memory": "4Mi"}}}]}
    pod = a_pod(spec=spec, containerStatuses=[{"name": "server"} | state])
    message = message_of(pod, reason="OutOfMemory")
    assert "limit of 4Mi" in message
    assert "spec.resources.limits.memory" in message


@pytest.mark.parametrize(
    ("said", "todo"),
    [
        ('volume "tokens" : secret "visitors" not found', "or correct spec.security"),
        ('volume "tls" : secret "certificate" not found', "or correct spec.security"),
        ('volume "tls" : references non-existent secret key: tls.key', "the keys tls.crt and tls.key"),
        ('volume "mine" : secret "visitors" not found', "or correct spec.podTemplate"),
    ],
)
def test_a_secret_that_is_missing_is_named_with_where_it_stands(said: str, todo: str) -> None:
    told = warning("Pod", "web-1", "FailedMount", f"MountVolume.SetUp failed for {said}")
    message = message_of(waiting("ContainerCreating", ""), told, reason="VolumeNotReady")
    assert said in message
    assert todo in message


def test_a_sandbox_that_fails_is_told_while_nothing_runs() -> None:
    ids = ("ab" * 32, "cd" * 32)
    pods = a_pod(containerStatuses=[{"name": "server"} | waits("ContainerCreating")])
    messages = {
        message_of(
            pods,
            warning(
                "Pod", "web-1", "FailedCreatePodSandBox", f'failed to set up network for sandbox "{one}"'
            ),
            reason="ContainerConfigError",
        )
        for one in ids
    }
    assert len(messages) == 1
    assert "network plugin" in messages.pop()


# -- nodes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("causes", "todo"),
    [
        ("3 Insufficient memory.", "lower spec.resources.requests"),
        ("3 Insufficient example.com/tpu.", "add a node that has example.com/tpu"),
        ("3 node(s) had untolerated taint {gpu: true}.", "spec.podTemplate.tolerations"),
        ("3 node(s) didn't match Pod's node affinity/selector.", "spec.podTemplate.nodeSelector"),
        ("3 node(s) didn't match pod anti-affinity rules.", "spec.podTemplate.affinity"),
        ("3 node(s) were unschedulable.", "uncordon a node"),
        ("3 Too many pods.", "remove pods"),
        ("3 node(s) had volume node affinity conflict.", "the volume"),
    ],
)
def test_nodes(causes: str, todo: str) -> None:
    pod = a_pod(spec={"nodeName": ""}, conditions=[unschedulable(NODES + causes + PREEMPTION)])
    message = message_of(pod, reason="Unschedulable")
    assert todo in message
    assert "preemption" not in message.lower()


def test_every_cause_is_told_and_counts_of_nodes_make_no_new_message() -> None:
    texts = (
        NODES + "1 Insufficient cpu, 2 node(s) had untolerated taint {a: b}." + PREEMPTION,
        "0/5 nodes are available: 2 node(s) had untolerated taint {a: b}, 3 Insufficient cpu.",
    )
    messages = {
        message_of(a_pod(spec={"nodeName": ""}, conditions=[unschedulable(text)]), reason="Unschedulable")
        for text in texts
    }
    assert len(messages) == 1
    message = messages.pop()
    assert "Insufficient cpu; node(s) had untolerated taint {a: b}" in message
    assert "spec.resources.requests" in message
    assert "tolerations" in message


def test_a_gate_and_a_claim_that_goes_are_told() -> None:
    gate = unschedulable("Scheduling is blocked due to non-empty scheduling gates") | {
        "reason": "SchedulingGated"
    }
    assert "scheduling gate" in message_of(
        a_pod(spec={"nodeName": ""}, conditions=[gate]), reason="Unschedulable"
    )
    going = unschedulable(NODES + 'persistentvolumeclaim "store" is being deleted.')
    assert "create it again" in message_of(
        a_pod(spec={"nodeName": ""}, conditions=[going]), reason="VolumeNotReady"
    )


def test_a_claim_that_was_just_made_is_no_fault() -> None:
    said = NODES + "pod has unbound immediate PersistentVolumeClaims. not found"
    since = unschedulable(said) | {"lastTransitionTime": timestamp(NOW)}
    pod = a_pod(spec={"nodeName": ""}, conditions=[since])
    assert pod_fault(pod, [], NOW + 1) is None
    wait = look_again([pod], NOW)
    assert wait is not None
    fault = pod_fault(pod, [], NOW + wait)
    assert fault is not None
    assert fault.reason == "VolumeNotReady"
    assert "unbound immediate PersistentVolumeClaims: check the claim" in fault.message


# -- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason", "todo"),
    [
        ("exceeded quota: q, requested: cpu=2, used: cpu=1, limited: cpu=2", "QuotaExceeded", "raise the quota"),
        ("failed quota: q: must specify limits.cpu for: server", "QuotaExceeded", "the quota asks for"),
        ("maximum memory usage per Container is 1Gi, but limit is 2Gi", "AdmissionDenied", "LimitRange"),
        ('Invalid value: "2": must be less than or equal to cpu limit of 1', "AdmissionDenied", "LimitRange"),
        ('violates PodSecurity "restricted:latest"', "AdmissionDenied", "level restricted"),
        ("no PriorityClass with name high was found", "AdmissionDenied", "spec.podTemplate.priorityClassName"),
        ('pod rejected: RuntimeClass "kata" not found', "AdmissionDenied", "spec.podTemplate.runtimeClassName"),
        ('error looking up service account team/default: serviceaccount "default" not found', "AdmissionDenied",
         "create the ServiceAccount"),
        ('failed calling webhook "a.example": connection refused', "AdmissionDenied", "does not answer"),
        ('admission webhook "a.example" denied the request: no', "AdmissionDenied", "what the policy names"),
    ],
)  # fmt: skip
def test_refused_pods(said: str, reason: str, todo: str) -> None:
    def faults(name: str, used: str) -> list[Fault | None]:
        text = f'pods "{name}" is forbidden: {said.replace("used: cpu=1", used)}'
        failure = {"type": "ReplicaFailure", "status": "True", "message": text}
        event = warning("Job", "train", "FailedCreate", f"Error creating: {text}")
        return [
            deployment_fault({"status": {"conditions": [failure]}}),
            creation_fault("Job", "train", [event]),
        ]

    found = faults("web-abcde", "used: cpu=1") + faults("web-fghij", "used: cpu=2")
    assert len({fault and fault.message for fault in found}) == 1, "names and counters differ from try to try"
    fault = found[0]
    assert fault is not None
    assert fault.reason == reason
    assert todo in fault.message
    own = refusal_fault([Refusal("Job", "train", reason, said)])
    assert own is not None
    assert todo in own.message


def test_a_refusal_from_before_the_newest_pod_is_over() -> None:
    event = warning("Job", "train", "FailedCreate", "exceeded quota: q")
    made = {"metadata": {"name": "train-0", "creationTimestamp": "2100-01-01T00:00:00Z"}}
    assert creation_fault("Job", "train", [event], [made]) is None
    assert creation_fault("Job", "train", [event], []) is not None


# -- disruptions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pod", "reason", "todo"),
    [
        (a_pod("Failed", reason="Evicted", message="The node was low on resource: memory."), "Evicted",
         "spec.resources.requests.memory"),
        (a_pod("Failed", reason="Evicted", message="The node was low on resource: inodes."), "Evicted", "on the node"),
        (a_pod("Failed", reason="NodeShutdown", message="in response to imminent node shutdown"), "Evicted", "node n2"),
        (a_pod("Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu"), "Unschedulable",
         "node n2 refused pod web-1 (OutOfcpu)"),
        (a_pod("Failed", reason="UnexpectedAdmissionError", message="Allocate failed: gpu"), "Unschedulable", "gpu"),
        (a_pod("Failed", reason="NodeLost"), "NodeLost", "node n2"),
        (a_pod("Running", conditions=[disrupted("PreemptionByScheduler", "preempted by pod 1")]), "Evicted",
         "spec.podTemplate.priorityClassName"),
        (a_pod("Running", conditions=[disrupted("DeletionByPodGC", "node is gone")]), "NodeLost", "node n2"),
        (a_pod("Failed", containerStatuses=[{"name": "server"} | ended(255, reason="Unknown")]), "NodeLost",
         "nobody saw its end"),
        (a_pod("Failed", containerStatuses=[{"name": "server"} | ended(137, reason="ContainerStatusUnknown")]),
         "NodeLost", "node n2"),
    ],
)  # fmt: skip
def test_disruptions(pod: Obj, reason: str, todo: str) -> None:
    assert todo in message_of(pod, reason=reason)
    assert is_disrupted(pod)


@pytest.mark.parametrize(
    "message",
    [
        "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.",
        'Usage of EmptyDir volume "scratch" exceeds the limit "1Gi".',
        'Container train exceeded its local ephemeral storage limit "1Gi".',
    ],
)
def test_a_pod_over_its_own_limit_of_disk_is_not_disrupted_by_others(message: str) -> None:
    pod = a_pod("Failed", reason="Evicted", message=message, conditions=[disrupted("TerminationByKubelet")])
    assert "more disk" in message_of(pod, reason="Evicted")
    assert not is_disrupted(pod)


def test_a_pod_that_ran_too_long_says_so() -> None:
    pod = a_pod("Failed", reason="DeadlineExceeded", message="Pod was active on the node longer than allowed")
    assert "ran for too long" in message_of(pod, reason="DeadlineExceeded")
    assert not is_disrupted(pod)


def test_a_silent_node_is_named_before_its_pods_are_sent_away() -> None:
    rows = [{"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "False"}]
    pod = a_pod("Running", conditions=rows)
    assert "node n2 does not answer" in message_of(pod, reason="NodeLost")
    assert not is_disrupted(pod), "it may come back"
    gated = a_pod(
        "Running", spec={"nodeName": "n2", "readinessGates": [{"conditionType": "x"}]}, conditions=rows
    )
    assert pod_fault(gated, [], NOW) is None
