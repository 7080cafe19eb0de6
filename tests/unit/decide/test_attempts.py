"""LeptonTrainingJob: ends of attempts are counted once, and the next one follows."""

from typing import Any

import pytest

from lepton_operator.actions import Plan
from lepton_operator.conditions import seconds, timestamp
from lepton_operator.decide.attempt import MAX_DISRUPTIONS
from lepton_operator.facts import Observed
from tests.unit.builders import (
    NOW,
    STARTED,
    Obj,
    decide,
    deleted,
    disrupted,
    ended,
    failed_text,
    job_from,
    made,
    manifest_of,
    observe,
    pod,
    ready_dataset,
    row,
    stands,
    trained_text,
    training_job,
    written,
)


def attempt(obj: Obj, *conditions: str, number: int = 1, **extra: Any) -> Obj:
    told = (
        {"observedGeneration": 1, "failedAttempt": number - 1} if number > 1 else {"observedGeneration": -1}
    )
    plan = decide(observe({**obj, "status": told}, dataset=ready_dataset()))
    job = job_from(manifest_of(plan), *conditions, **extra)
    job["metadata"]["name"] = f"cnn-train-a{number}"
    return job


def failing(obj: Obj, number: int = 1, **parts: Any) -> tuple[Obj, Obj]:
    job = attempt(obj, "FailureTarget", "Failed", number=number)
    return job, pod(job, phase="Failed", **({"containers": [ended(1, "OSError: broken")]} | parts))


def due(plan: Plan) -> float:
    return seconds(plan.status["nextAttemptTime"])


def next_visit(world: Observed, plan: Plan, now: float) -> Plan:
    return decide(written(world, plan), now)


def test_a_failure_is_counted_first_and_the_next_attempt_follows_after_the_backoff() -> None:
    obj = training_job()
    world = observe(obj, *failing(obj))
    counted = decide(world)
    assert stands(counted) == ("Reconciling", "ContainerFailed")
    assert "attempt 1" in row(counted)["message"]
    assert "OSError: broken" in row(counted)["message"]
    assert "it starts again" in row(counted)["message"]
    assert (counted.status["failures"], counted.status["failedAttempt"]) == (1, 1)
    assert counted.actions == ()
    assert due(counted) == NOW + 10
    assert counted.requeue_after == 10
    assert [event.type for event in counted.events] == ["Warning"]

    waiting = next_visit(world, counted, NOW + 9)
    assert waiting.status == counted.status
    assert (waiting.actions, waiting.events) == ((), ())
    assert waiting.requeue_after == 1

    made_next = next_visit(world, waiting, NOW + 10)
    assert made(made_next) == ["cnn-train-a2"]
    assert stands(made_next) == ("Reconciling", "Starting")
    assert made_next.status["failures"] == 1
    assert "nextAttemptTime" not in made_next.status


def test_a_crash_before_the_count_is_written_counts_once() -> None:
    obj = training_job()
    world = observe(obj, *failing(obj))
    assert decide(world).status == decide(world).status
    counted = decide(world)
    assert next_visit(world, counted, NOW + 3).status["failures"] == 1


def test_a_crash_after_the_next_job_was_made_goes_on_with_it() -> None:
    obj = training_job()
    first, broken = failing(obj)
    world = observe(obj, first, broken)
    counted = decide(world)
    second = attempt(obj, number=2)
    after_crash = observe({**obj, "status": counted.status}, first, broken, second)
    plan = decide(after_crash, NOW + 20)
    assert plan.status["attempt"] == 2
    assert plan.status["failures"] == 1
    assert made(plan) == []
    assert "nextAttemptTime" not in plan.status


def test_a_status_that_is_lost_never_uses_a_number_twice() -> None:
    obj = training_job()
    jobs = [attempt(obj, "Failed", number=1), attempt(obj, "Failed", number=2), attempt(obj, number=12)]
    plan = decide(observe(obj, *jobs))
    assert plan.status["attempt"] == 12
    assert made(plan) == []
    assert plan.status["datasetDigest"], "read from the Job"


def test_jobs_of_other_names_are_no_attempts() -> None:
    obj = training_job()
    other = attempt(obj)
    other["metadata"]["name"] = "cnn-train-a7-extra"
    assert made(decide(observe(obj, other, dataset=ready_dataset()))) == ["cnn-train-a1"]


def test_backoff_doubles_to_six_minutes() -> None:
    obj = training_job(backoffLimit=100)
    waits = []
    for failures in range(8):
        job, broken = failing(obj, number=failures + 1)
        told = {
            "observedGeneration": 1,
            "failures": failures,
            "attempt": failures + 1,
            "failedAttempt": failures,
        }
        waits.append(due(decide(observe({**obj, "status": told}, job, broken))) - NOW)
    assert waits == [10, 20, 40, 80, 160, 320, 360, 360]


def test_the_limit_of_failures_ends_the_job() -> None:
    obj = training_job(backoffLimit=0)
    world = observe(obj, *failing(obj))
    plan = decide(world)
    assert stands(plan) == ("Stalled", "BackoffLimitExceeded")
    assert row(plan)["status"] == "False"
    assert "failed attempts: 1, allowed: 0" in row(plan)["message"]
    assert plan.status["completionTime"] == timestamp(NOW)
    assert "nextAttemptTime" not in plan.status
    later = next_visit(world, plan, NOW + 5000)
    assert later.status == plan.status
    assert (later.actions, later.events, later.requeue_after) == ((), (), None)


def test_a_cause_with_a_name_is_kept_at_the_limit() -> None:
    obj = training_job(backoffLimit=0, resources={"limits": {"memory": "1Gi"}})
    plan = decide(observe(obj, *failing(obj, containers=[ended(137, reason="OOMKilled")])))
    assert stands(plan) == ("Stalled", "OutOfMemory")
    assert "limit of 1Gi" in row(plan)["message"]


def test_a_raised_limit_goes_on() -> None:
    obj = training_job(backoffLimit=0)
    job, broken = failing(obj)
    plan = decide(observe(obj, job, broken))
    raised = {**obj, "spec": {**obj["spec"], "backoffLimit": 1}, "status": plan.status}
    again = decide(observe(raised, job, broken), NOW + 100)
    assert made(again) == ["cnn-train-a2"]
    assert "completionTime" not in again.status


def test_a_terminal_failure_ends_the_job_at_once_and_no_limit_revives_it() -> None:
    obj = training_job()
    text = failed_text(
        "Diverged", "the loss became NaN in epoch 2: lower training.learningRate", terminal=True
    )
    job, broken = failing(obj, containers=[ended(3, text)])
    plan = decide(observe(obj, job, broken))
    assert stands(plan) == ("Stalled", "Diverged")
    assert "learningRate" in row(plan)["message"]
    assert plan.status.get("failures", 0) == 0
    raised = {**obj, "spec": {**obj["spec"], "backoffLimit": 50}, "status": plan.status}
    assert stands(decide(observe(raised, job, broken))) == ("Stalled", "Diverged")


@pytest.mark.parametrize(
    ("reason", "parts"),
    [
        ("Evicted", {"conditions": [disrupted()], "containers": [ended(143)]}),
        ("Evicted", {"reason": "Evicted", "message": "low on memory"}),
        ("NodeLost", {"conditions": [disrupted("DeletionByTaintManager")]}),
    ],
)
def test_disruptions_do_not_count_to_the_limit(reason: str, parts: Obj) -> None:
    obj = training_job(backoffLimit=0)
    plan = decide(observe(obj, *failing(obj, **parts)))
    assert stands(plan) == ("Reconciling", reason)
    assert (plan.status["disruptions"], plan.status.get("failures", 0)) == (1, 0)
    assert due(plan) > NOW


def test_the_disruption_of_one_worker_explains_the_failure_of_the_others() -> None:
    obj = training_job(workers=2, backoffLimit=0)
    job, chief = failing(obj, containers=[ended(1, failed_text("PeersNotReady", "worker 1 is gone"))])
    drained = pod(job, 1, phase="Failed", conditions=[disrupted()], containers=[ended(143)])
    plan = decide(observe(obj, job, chief, drained))
    assert stands(plan) == ("Reconciling", "Evicted")
    assert plan.status["disruptions"] == 1


def test_the_worker_that_failed_first_is_the_cause() -> None:
    obj = training_job(workers=3)
    job = attempt(obj, "Failed")
    late = pod(job, 0, phase="Failed", containers=[ended(1, failed_text("PeersNotReady"), at=NOW - 1)])
    first = pod(job, 1, phase="Failed", containers=[ended(137, reason="OOMKilled", at=NOW - 9)])
    killed = pod(job, 2, phase="Failed", deleting=True, containers=[ended(143, at=NOW - 20)])
    assert stands(decide(observe(obj, job, late, first, killed))) == ("Reconciling", "OutOfMemory")


def test_a_lost_node_does_not_hold_up_the_next_attempt() -> None:
    """The pod never ends, so the Job never says Failed, only FailureTarget."""
    obj = training_job()
    job = attempt(obj, "FailureTarget")
    lost = pod(job, conditions=[disrupted("DeletionByTaintManager")], deleting=True, containers=[STARTED])
    world = observe(obj, job, lost)
    counted = decide(world)
    assert stands(counted) == ("Reconciling", "NodeLost")
    assert counted.status["disruptions"] == 1
    plan = next_visit(world, counted, NOW + 10)
    assert deleted(plan) == ["cnn-train-a1"]
    assert made(plan) == ["cnn-train-a2"]


def test_too_many_disruptions_end_the_job() -> None:
    obj = training_job()
    told = {"observedGeneration": 1, "attempt": 1, "disruptions": MAX_DISRUPTIONS - 1}
    job, broken = failing(obj, conditions=[disrupted()])
    plan = decide(observe({**obj, "status": told}, job, broken))
    assert stands(plan) == ("Stalled", "Evicted")
    assert f"{MAX_DISRUPTIONS} times" in row(plan)["message"]


def test_the_end_of_pods_that_is_not_seen_yet_is_waited_for_a_moment() -> None:
    obj = training_job()
    job = attempt(obj, "Failed")
    world = observe(obj, job, pod(job, containers=[STARTED]))
    plan = decide(world, NOW + 1)
    assert plan.status.get("failures", 0) == 0
    assert plan.requeue_after == 4
    assert next_visit(world, plan, NOW + 5).status["failures"] == 1


def test_a_failure_without_pods_is_told_with_what_the_job_says() -> None:
    obj = training_job()
    job = attempt(obj, "Failed")
    job["status"]["conditions"][0] |= {"reason": "DeadlineExceeded", "message": "Job was active too long"}
    plan = decide(observe(obj, job), NOW + 5)
    assert stands(plan) == ("Reconciling", "ContainerFailed")
    assert "active too long" in row(plan)["message"]


def test_pods_that_somebody_deleted_are_no_failure() -> None:
    obj = training_job(backoffLimit=0)
    job = attempt(obj, "Failed")
    job["status"]["conditions"][0]["reason"] = "BackoffLimitExceeded"
    world = observe(obj, job)
    seen = decide(world)
    assert "disruptions" not in seen.status
    plan = next_visit(world, seen, NOW + 5)
    assert stands(plan) == ("Reconciling", "Restarting")
    assert (plan.status["disruptions"], plan.status.get("failures", 0)) == (1, 0)
    assert made(next_visit(world, plan, NOW + 15)) == ["cnn-train-a2"]


def test_an_evicted_pod_is_remembered_when_it_is_gone_before_its_job_has_failed() -> None:
    """What is left of the gang only tells of its absence."""
    obj = training_job(workers=2, backoffLimit=0)
    job = attempt(obj)
    stays = pod(job, 0, containers=[STARTED])
    goes = pod(job, 1, conditions=[disrupted()], deleting=True, containers=[STARTED])
    world = observe(obj, job, stays, goes)
    seen = decide(world)
    assert stands(seen)[1] == "Evicted"
    left = pod(job, 0, phase="Failed", containers=[ended(1, failed_text("PeersNotReady"))])
    later = observe({**obj, "status": seen.status}, attempt(obj, "Failed"), left)
    plan = decide(later, NOW + 3)
    assert stands(plan) == ("Reconciling", "Evicted")
    assert "evicted for a drain" in row(plan)["message"]
    assert (plan.status["disruptions"], plan.status.get("failures", 0)) == (1, 0)
    again = next_visit(later, plan, NOW + 13)
    assert made(again) == ["cnn-train-a2"]
    # The next attempt's failures are its own.
    second = attempt(obj, "Failed", number=2)
    broken = pod(second, 0, phase="Failed", containers=[ended(1)])
    counted = decide(observe({**obj, "status": plan.status | {"attempt": 2}}, second, broken), NOW + 60)
    assert counted.status["failures"] == 1


def test_a_result_that_was_lost_is_read_by_another_attempt() -> None:
    obj = training_job()
    job = attempt(obj, "Complete")
    world = observe(obj, job)
    plan = decide(world)
    assert stands(plan) == ("Reconciling", "Restarting")
    assert (plan.status["disruptions"], plan.status.get("failures", 0)) == (1, 0)
    assert deleted(plan) == []
    assert made(next_visit(world, plan, NOW + 10)) == ["cnn-train-a2"]

    second = attempt(obj, "Complete", number=2)
    chief = pod(second, phase="Succeeded", containers=[ended(0, trained_text(recovered=True))])
    done = decide(observe({**obj, "status": plan.status}, job, second, chief), NOW + 20)
    assert stands(done) == ("Done", "Succeeded")
    assert done.status["attempt"] == 2


def test_a_result_whose_pod_is_not_seen_to_have_ended_is_waited_for() -> None:
    obj = training_job()
    job = attempt(obj, "Complete")
    plan = decide(observe(obj, job, pod(job, containers=[STARTED])))
    assert stands(plan) == ("Reconciling", "Finishing")
    assert "failedAttempt" not in plan.status


def test_a_result_on_a_pod_of_another_job_is_not_believed() -> None:
    obj = training_job()
    other = attempt(obj, uid="earlier")
    job = attempt(obj, uid="now")
    chief = pod(other, phase="Succeeded", containers=[ended(0, trained_text())])
    assert stands(decide(observe(obj, job, chief))) == ("Reconciling", "Starting")


@pytest.mark.parametrize("still_there", [False, True])
def test_a_job_that_is_deleted_by_hand_is_followed_by_the_next_number(still_there: bool) -> None:
    obj = training_job()
    job = attempt(obj)
    running = decide(observe(obj, job, pod(job, containers=[STARTED])))
    dying = attempt(obj, deletionTimestamp=timestamp(NOW))
    world = observe({**obj, "status": running.status}, *([dying] if still_there else []))
    counted = decide(world, NOW + 1)
    assert stands(counted) == ("Reconciling", "Restarting")
    assert "deleted" in row(counted)["message"]
    assert counted.status["disruptions"] == 1
    plan = next_visit(world, counted, NOW + 11)
    assert made(plan) == ["cnn-train-a2"]
    assert deleted(plan) == []


def test_the_next_attempt_uses_the_same_data_though_the_dataset_has_moved_on() -> None:
    obj = training_job()
    data = ready_dataset(claimName="first-store")
    first = job_from(manifest_of(decide(observe(obj, dataset=data))), "Failed")
    broken = pod(first, phase="Failed", containers=[ended(1)])
    counted = decide(observe(obj, first, broken, dataset=data))
    for moved in (None, ready_dataset(digest="ee" * 32, claimName="second-store")):
        world = observe({**obj, "status": counted.status}, first, broken, dataset=moved)
        pod_spec = manifest_of(decide(world, NOW + 60))["spec"]["template"]["spec"]
        assert pod_spec["volumes"][1]["persistentVolumeClaim"]["claimName"] == "first-store"
        assert "ee" * 32 not in str(pod_spec)


def test_a_job_without_its_notes_takes_the_dataset_as_it_is() -> None:
    obj = training_job()
    job, broken = failing(obj)
    job["metadata"]["annotations"] = {}
    world = observe(obj, job, broken)
    counted = decide(world)
    later = written(world, counted)
    assert stands(decide(later, NOW + 60)) == ("Reconciling", "DatasetNotFound")
    with_data = observe(later.object, job, broken, dataset=ready_dataset())
    assert made(decide(with_data, NOW + 60)) == ["cnn-train-a2"]


def test_an_earlier_attempt_that_still_runs_is_ended() -> None:
    obj = training_job()
    plan = decide(observe(obj, attempt(obj), attempt(obj, number=2)))
    assert plan.status["attempt"] == 2
    assert deleted(plan) == ["cnn-train-a1"]
