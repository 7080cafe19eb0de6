"""Pods, Warning Events, refusals -> the one fault that explains most."""

from collections.abc import Sequence

import pytest

from lepton_operator.facts import WarningFact
from lepton_operator.faults import (
    Fault,
    claim_fault,
    creation_fault,
    deployment_fault,
    is_disrupted,
    outcome_of,
    refusal_fault,
)
from lepton_operator.faults import pod_fault as pod_fault_at
from lepton_operator.faults import worst_fault as worst_fault_at
from lepton_operator.faults.text import MAX_TEXT
from tests.unit.builders import (
    NOW,
    STARTED,
    Obj,
    disrupted,
    ended,
    failed_text,
    is_ready,
    pod,
    prepared_text,
    refused,
    unschedulable,
    waits,
    warning,
)


def pod_fault(pod: Obj, warnings: Sequence[WarningFact] = ()) -> Fault | None:
    """Now."""
    return pod_fault_at(pod, warnings, NOW)


def worst_fault(pods: Sequence[Obj], warnings: Sequence[WarningFact]) -> Fault | None:
    """Now."""
    return worst_fault_at(pods, warnings, NOW)


JOB: Obj = {
    "metadata": {"name": "job", "uid": "uid-job"},
    "spec": {
        "template": {"spec": {"containers": [{"name": "work", "resources": {"limits": {"memory": "2Gi"}}}]}}
    },
}
CREATING = waits("ContainerCreating")
LOOPING = waits(
    "CrashLoopBackOff", restartCount=4, lastState=ended(1, "Traceback\n  ValueError: no\n")["state"]
)

ROWS = [
    # (parts of the pod, reason, texts in the message)
    ({"phase": "Succeeded", "containers": [ended(0)]}, None, ()),
    ({"containers": [STARTED], "conditions": [is_ready(), disrupted()]}, None, ()),
    ({"containers": [STARTED]}, None, ()),
    ({"phase": "Pending", "containers": [CREATING]}, None, ()),
    ({"phase": "Pending", "containers": [waits("PodInitializing")]}, None, ()),
    (
        {"phase": "Pending", "containers": [waits("ErrImagePull", "not found")]},
        "ImagePullFailed",
        ("x:1", "not found"),
    ),
    (
        {"phase": "Pending", "containers": [waits("InvalidImageName")]},
        "ImagePullFailed",
        ("this is no name of an image",),
    ),
    ({"phase": "Pending", "init": [waits("ImagePullBackOff")]}, "ImagePullFailed", ("container fetch",)),
    (
        {"containers": [waits("CreateContainerConfigError", "secret a")]},
        "ContainerConfigError",
        ("secret a",),
    ),
    ({"containers": [waits("RunContainerError")]}, "ContainerConfigError", ("RunContainerError",)),
    ({"containers": [LOOPING]}, "CrashLoop", ("exit code 1", "restarted 4 times", "ValueError: no")),
    (
        {"containers": [ended(137)]},
        "ContainerFailed",
        ("exit code 137 (SIGKILL)", "kubectl logs job-0-abcde -c work"),
    ),
    ({"containers": [ended(143)]}, "ContainerFailed", ("(SIGTERM)", "from outside")),
    (
        {"containers": [ended(137, reason="OOMKilled")]},
        "OutOfMemory",
        ("limit of 2Gi", "raise spec.resources.limits.memory", "exit code 137"),
    ),
    ({"containers": [ended(1, failed_text("DownloadFailed", "404"))]}, "DownloadFailed", ("404",)),
    ({"containers": [ended(1, failed_text("not a word"))]}, "ContainerFailed", ("exit code 1",)),
    ({"containers": [ended(1, failed_text("A" * 70))]}, "ContainerFailed", ()),
    ({"init": [ended(0)], "containers": [waits("PodInitializing")]}, None, ()),
    (
        {"phase": "Pending", "conditions": [unschedulable("2 Insufficient cpu")]},
        "Unschedulable",
        ("Insufficient cpu",),
    ),
    (
        {"phase": "Pending", "conditions": [unschedulable('persistentvolumeclaim "a" not found')]},
        "SourceNotFound",
        ("create the claim",),
    ),
    (
        {
            "phase": "Pending",
            "conditions": [unschedulable("pod has unbound immediate PersistentVolumeClaims")],
        },
        "VolumeNotReady",
        ("storage class",),
    ),
    ({"phase": "Failed", "reason": "Evicted", "message": "low on disk"}, "Evicted", ("low on disk",)),
    ({"conditions": [disrupted()]}, "Evicted", ("evicted for a drain",)),
    (
        {"conditions": [disrupted("DeletionByTaintManager")], "spec": {"nodeName": "node-2"}},
        "NodeLost",
        ("node node-2",),
    ),
]


@pytest.mark.parametrize(("parts", "reason", "texts"), ROWS)
def test_the_fault_of_a_pod(parts: Obj, reason: str | None, texts: tuple[str, ...]) -> None:
    fault = pod_fault(pod(JOB, **parts))
    assert (fault and fault.reason) == reason
    for text in texts:
        assert fault is not None
        assert text in fault.message


def test_a_terminal_outcome_is_terminal() -> None:
    fault = pod_fault(pod(JOB, containers=[ended(3, failed_text("InvalidData", terminal=True))]))
    assert fault is not None
    assert fault.terminal


def test_a_pod_that_is_not_filled_in_yet_has_no_fault() -> None:
    assert pod_fault({"metadata": {"name": "new"}}) is None


def test_all_pods_are_looked_at_and_what_explains_most_wins() -> None:
    healthy = pod(JOB, 0, containers=[STARTED], conditions=[is_ready()])
    crashed = pod(JOB, 1, containers=[ended(1)])
    pending = pod(JOB, 2, phase="Pending", conditions=[unschedulable()])
    pulling = pod(JOB, 3, phase="Pending", containers=[waits("ErrImagePull")])
    assert worst_fault([healthy], ()) is None
    for pods, reason in [
        ([healthy, crashed], "ContainerFailed"),
        ([crashed, pending], "Unschedulable"),
        ([crashed, pending, pulling], "ImagePullFailed"),
    ]:
        fault = worst_fault(pods, ())
        assert fault is not None
        assert fault.reason == reason


def test_the_container_that_ended_first_is_the_cause() -> None:
    second = pod(JOB, 0, containers=[ended(1, "peer is gone", at=NOW)])
    first = pod(JOB, 1, containers=[ended(1, "disk is full", at=NOW - 5)])
    for order in ([first, second], [second, first]):
        fault = worst_fault(order, ())
        assert fault is not None
        assert "disk is full" in fault.message


def test_a_pod_that_is_being_deleted_explains_least() -> None:
    victim = pod(JOB, 0, deleting=True, containers=[ended(143, failed_text("StorageFailed"), at=NOW - 9)])
    cause = pod(JOB, 1, containers=[ended(1, "boom")])
    fault = worst_fault([victim, cause], ())
    assert fault is not None
    assert "boom" in fault.message


# -- Warning Events explain what the state confirms ---------------------------------------------------

MOUNT = warning("Pod", "job-0-abcde", "FailedMount", "MountVolume.SetUp failed: no such secret")


@pytest.mark.parametrize(
    ("parts", "explained"),
    [
        ({"phase": "Pending", "containers": [CREATING]}, True),
        ({"phase": "Pending", "init": [CREATING], "containers": [CREATING]}, True),
        ({"containers": [STARTED | {"ready": False}]}, False),
        ({"phase": "Pending", "init": [STARTED], "containers": [CREATING]}, False),
        ({"containers": [STARTED], "conditions": [is_ready()]}, False),
    ],
)
def test_a_mount_warning_counts_only_while_nothing_has_started(parts: Obj, explained: bool) -> None:
    fault = pod_fault(pod(JOB, **parts), [MOUNT])
    assert (fault is not None) == explained
    if fault:
        assert fault.reason == "VolumeNotReady"
        assert "no such secret" in fault.message


def test_a_claim_on_another_node_is_explained() -> None:
    told = warning("Pod", "job-0-abcde", "FailedAttachVolume", "Multi-Attach error for volume")
    fault = pod_fault(pod(JOB, phase="Pending", containers=[CREATING]), [told])
    assert fault is not None
    assert "ReadWriteMany" in fault.message


def test_a_warning_about_another_pod_explains_nothing() -> None:
    told = warning("Pod", "other", "FailedMount", "no")
    assert pod_fault(pod(JOB, phase="Pending", containers=[CREATING]), [told]) is None


def test_a_claim_that_gets_no_volume_is_told_before_the_scheduler_gives_up() -> None:
    told = warning("PersistentVolumeClaim", "store", "ProvisioningFailed", "storageclass fast not found")
    volumes = {"volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "store"}}, {"name": "b"}]}
    waiting = pod(JOB, phase="Pending", spec=volumes)
    fault = pod_fault(waiting, [told])
    assert fault is not None
    assert fault.reason == "VolumeNotReady"
    assert "fast not found" in fault.message
    placed = pod(JOB, phase="Pending", spec=volumes, conditions=[{"type": "PodScheduled", "status": "True"}])
    assert pod_fault(placed, [told]) is None


def test_refused_pods_are_told_for_exactly_this_child() -> None:
    told = [warning("Job", "a-train-a1", "FailedCreate", "exceeded quota: small, requested: cpu=2")]
    fault = creation_fault("Job", "a-train-a1", told)
    assert fault is not None
    assert fault.reason == "QuotaExceeded"
    assert "raise the quota" in fault.message
    assert creation_fault("Job", "a-train-a", told) is None
    assert creation_fault("Job", "a-train-a11", told) is None
    for name in ("web", "web-5d4f"):
        through_set = creation_fault("Deployment", "web", [warning("ReplicaSet", name, "FailedCreate", "no")])
        assert through_set is not None
        assert through_set.reason == "AdmissionDenied"
    assert (
        creation_fault("Deployment", "we", [warning("ReplicaSet", "web-5d4f", "FailedCreate", "no")]) is None
    )


def test_a_deployment_says_that_its_pods_are_refused() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    fault = deployment_fault({"status": {"conditions": [failure]}})
    assert fault is not None
    assert fault.reason == "QuotaExceeded"
    assert deployment_fault({"status": {"conditions": [failure | {"status": "False"}]}}) is None
    assert deployment_fault(None) is None


# -- claims, refusals ----------------------------------------------------------------------------------


def test_claims() -> None:
    missing = claim_fault({"a": None}, ["a"])
    assert missing is not None
    assert missing.reason == "SourceNotFound"
    assert claim_fault({"lepton-store": None}, []) is None, "the operator makes it"
    assert claim_fault({}, ["a"]) is None, "not read"
    lost = claim_fault({"a": {"status": {"phase": "Lost"}}}, ["a"])
    assert lost is not None
    assert lost.reason == "VolumeNotReady"
    assert claim_fault({"a": {"status": {"phase": "Pending"}}}, ["a"]) is None, "may wait for its first pod"


def test_a_refusal_names_the_child() -> None:
    assert refusal_fault(()) is None
    fault = refusal_fault([refused("NameConflict", "Service")])
    assert fault is not None
    assert fault.reason == "NameConflict"
    assert fault.message.startswith("Service child: ")


# -- the rest ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ({"conditions": [disrupted()]}, True),
        ({"conditions": [disrupted() | {"status": "False"}]}, False),
        ({"phase": "Failed", "reason": "Evicted"}, True),
        ({"phase": "Failed", "reason": "Terminated"}, True),
        ({"phase": "Failed", "containers": [ended(143)]}, False),
    ],
)
def test_disruptions(parts: Obj, answer: bool) -> None:
    assert is_disrupted(pod(JOB, **parts)) is answer


@pytest.mark.parametrize(
    "message", ["", "Killed", "{}x", '{"version": 2}', '{"prepare": {"key": 1}}', "\n\n"]
)
def test_nonsense_is_no_outcome(message: str) -> None:
    assert outcome_of(pod(JOB, containers=[ended(1, message)]), "work") is None


def test_the_outcome_is_the_last_line_also_after_a_restart() -> None:
    text = "warning: something\n" + prepared_text()
    for state in (ended(0, text), STARTED | {"lastState": ended(0, text)["state"]}):
        outcome = outcome_of(pod(JOB, containers=[state]), "work")
        assert outcome is not None
        assert outcome.prepare is not None
    assert outcome_of(pod(JOB, containers=[ended(0, text)]), "other") is None


def test_long_texts_are_cut_and_put_on_one_line() -> None:
    fault = pod_fault(pod(JOB, phase="Pending", conditions=[unschedulable("no node\n" * 500)]))
    assert fault is not None
    assert len(fault.message) < MAX_TEXT + 200
    assert "\n" not in fault.message


def test_a_port_that_changes_at_each_try_makes_no_new_message() -> None:
    messages = set()
    for port in (40001, 40002):
        text = f"dial tcp 10.0.0.5:{port}->10.0.0.1:443: connection refused"
        fault = pod_fault(pod(JOB, phase="Pending", containers=[waits("ErrImagePull", text)]))
        assert fault is not None
        messages.add(fault.message)
    assert len(messages) == 1
    assert "10.0.0.1:443: connection refused" in messages.pop()
