"""Containers that run and are not ready, or were ended for that."""

from typing import Any

import pytest

from lepton_operator.conditions import timestamp
from lepton_operator.facts import WarningFact
from lepton_operator.faults import GRACE_SECONDS, Fault, look_again, pod_fault
from tests.unit.builders import NOW, Obj, ended, failed_text, waits

STARTED_AT = NOW - 100
SPEC: Obj = {
    "restartPolicy": "Always",
    "containers": [
        {
            "name": "server",
            "readinessProbe": {"httpGet": {"path": "/readyz"}},
            "livenessProbe": {"httpGet": {"path": "/healthz"}, "periodSeconds": 10, "failureThreshold": 6},
            "startupProbe": {"httpGet": {"path": "/healthz"}, "periodSeconds": 1, "failureThreshold": 120},
        }
    ],
}


def server(*conditions: Obj, **container: Any) -> Obj:
    """A pod whose server runs since STARTED_AT and is not ready."""
    running = {"state": {"running": {"startedAt": timestamp(STARTED_AT)}}, "ready": False, "started": True}
    status = {"phase": "Running", "containerStatuses": [{"name": "server", **running, **container}]}
    return {"metadata": {"name": "web-1"}, "spec": SPEC, "status": status | {"conditions": list(conditions)}}


def unready_since(at: float) -> Obj:
    return {"type": "ContainersReady", "status": "False", "lastTransitionTime": timestamp(at)}


def unhealthy(message: str, at: float = NOW, pod: str = "web-1") -> WarningFact:
    return WarningFact("Pod", pod, "Unhealthy", message, at)


def killed(seconds: float, code: int = 137, message: str = "") -> Obj:
    """A server that ran for so long, ended, and runs again."""
    end = ended(code, message)["state"]["terminated"] | {"startedAt": timestamp(NOW - seconds)}
    running = {"running": {"startedAt": timestamp(NOW)}}
    return server(state=running, started=False, restartCount=2, lastState={"terminated": end})


def fault_of(pod: Obj, *warnings: WarningFact, now: float = NOW) -> Fault:
    fault = pod_fault(pod, warnings, now)
    assert fault is not None
    return fault


def test_the_newest_word_of_the_right_probe_is_told() -> None:
    fault = fault_of(
        server(),
        unhealthy("Liveness probe failed: other"),
        unhealthy("Readiness probe failed: HTTP probe failed with statuscode: 503"),
        unhealthy("Readiness probe failed: older"),
    )
    assert fault.reason == "ProbeFailing"
    assert "its readiness probe (GET /readyz) fails: HTTP probe failed with statuscode: 503" in fault.message
    assert "kubectl logs web-1 -c server" in fault.message


@pytest.mark.parametrize(
    "warning",
    [
        unhealthy("Readiness probe failed: of another pod", pod="web-2"),
        unhealthy("Readiness probe failed: of an earlier run", at=STARTED_AT - 60),
    ],
)
def test_what_is_not_about_this_run_explains_nothing(warning: WarningFact) -> None:
    fault = fault_of(server(), warning)
    assert fault.reason == "ProbeFailing"
    assert warning.message.removeprefix("Readiness probe failed: ") not in fault.message


def test_a_start_is_no_fault_until_it_takes_too_long() -> None:
    new = server(unready_since(STARTED_AT - 5))
    early = unhealthy("Readiness probe failed: refused", at=STARTED_AT)
    assert pod_fault(new, [early], STARTED_AT + GRACE_SECONDS - 1) is None
    assert look_again([new], STARTED_AT + 1) == GRACE_SECONDS - 1
    assert fault_of(new, now=STARTED_AT + GRACE_SECONDS).reason == "ProbeFailing"


def test_a_program_that_has_not_started_gets_more_time() -> None:
    starting = server(started=False)
    assert pod_fault(starting, [], STARTED_AT + GRACE_SECONDS) is None
    wait = look_again([starting], STARTED_AT)
    assert wait is not None
    fault = fault_of(starting, now=STARTED_AT + wait)
    assert "startup probe (GET /healthz)" in fault.message


def test_a_server_that_was_ready_and_is_no_more_is_a_fault_at_once() -> None:
    assert fault_of(server(unready_since(STARTED_AT + 5)), now=STARTED_AT + 6).reason == "ProbeFailing"


def test_a_pod_that_is_being_deleted_need_not_be_ready() -> None:
    leaving = server()
    leaving["metadata"]["deletionTimestamp"] = timestamp(NOW)
    assert pod_fault(leaving, [], NOW) is None
    assert look_again([leaving], STARTED_AT) is None


def test_a_kill_by_the_liveness_probe_is_told_as_such() -> None:
    said = unhealthy("Liveness probe failed: context deadline exceeded", at=NOW - 10)
    fault = fault_of(killed(90), said)
    assert fault.reason == "ProbeFailing"
    assert (
        "liveness probe (GET /healthz) failed (exit code 137 (SIGKILL), restarted 2 times)" in fault.message
    )
    assert "context deadline exceeded" in fault.message


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (killed(5), "CrashLoop"),
        (killed(90, message=failed_text("StorageFailed")), "StorageFailed"),
        (killed(90, code=0), "ProbeFailing"),
    ],
    ids=["it ended too early for that", "it said itself why", "it ended well when it was told to"],
)
def test_a_failing_probe_is_not_always_the_cause(pod: Obj, reason: str) -> None:
    said = unhealthy("Liveness probe failed: refused", at=NOW - 1)
    assert fault_of(pod, said).reason == reason


def test_the_reason_stays_while_a_crash_loop_starts_again() -> None:
    last = {"lastState": ended(1, "boom")["state"], "restartCount": 3}
    rounds = [
        server(**last, **waits("CrashLoopBackOff")),
        server(**last, state={"running": {"startedAt": timestamp(NOW)}}),
        server(**last | ended(1, "boom")),
    ]
    assert {fault_of(pod).reason for pod in rounds} == {"CrashLoop"}
    assert {"boom" in fault_of(pod).message for pod in rounds} == {True}


def test_a_server_that_ends_well_is_a_fault_too() -> None:
    fault = fault_of(server(lastState=ended(0)["state"], restartCount=1))
    assert (fault.reason, "exit code 0" in fault.message) == ("ContainerFailed", True)


def test_a_container_that_does_not_say_since_when_it_runs_is_given_time() -> None:
    assert pod_fault(server(state={"running": {}}), [], NOW) is None


def test_an_init_container_may_run_as_long_as_it_likes() -> None:
    fetching = server(**waits("PodInitializing"))
    running = {"running": {"startedAt": timestamp(STARTED_AT)}}
    fetching["status"]["initContainerStatuses"] = [{"name": "fetch", "state": running, "ready": False}]
    assert pod_fault(fetching, [], NOW) is None
    assert look_again([fetching], STARTED_AT) is None
