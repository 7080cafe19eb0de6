"""A training job that rests: suspended by its owner, held by a queue, and removed after its end."""

from dataclasses import replace
from typing import Any

import pytest

from lepton_operator.actions import Create
from lepton_operator.conditions import seconds, timestamp
from lepton_operator.facts import Observed
from lepton_operator.resources import SERVICE
from lepton_workloads.contract.outcome import Report
from tests.unit.builders import (
    NOW,
    STARTED,
    Obj,
    condition,
    decide,
    deleted,
    ended,
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

QUEUE = {"kueue.x-k8s.io/queue-name": "team-a"}


def first_job(obj: Obj, *conditions: str, **extra: Any) -> Obj:
    return job_from(manifest_of(decide(observe(obj, dataset=ready_dataset()))), *conditions, **extra)


def at_work(**spec: Any) -> Observed:
    """A training that runs, as it is after a visit."""
    obj = training_job(**spec)
    job = first_job(obj)
    facts = observe(obj, job, pod(job, containers=[STARTED]), dataset=ready_dataset())
    return written(facts, decide(facts))


def edited(facts: Observed, **spec: Any) -> Observed:
    """The same after an edit of the spec."""
    obj = facts.object
    meta = {**obj["metadata"], "generation": obj["metadata"]["generation"] + 1}
    return replace(facts, object={**obj, "metadata": meta, "spec": {**obj["spec"], **spec}})


def without_jobs(facts: Observed) -> Observed:
    return replace(facts, children={}, pods=())


def test_suspending_ends_the_attempt_and_counts_nothing() -> None:
    plan = decide(edited(at_work(), suspend=True), NOW + 5)
    assert stands(plan) == ("Reconciling", "Suspended")
    assert deleted(plan) == ["cnn-train-a1"]
    assert "failures" not in plan.status
    assert "disruptions" not in plan.status
    assert made(plan) == []


def test_how_far_it_was_is_told_while_it_is_suspended() -> None:
    facts = at_work()
    status = {**facts.object["status"], "progress": {"phase": "Training", "epoch": "3/5"}, "loss": 0.5}
    suspended = edited(replace(facts, object={**facts.object, "status": status}), suspend=True)
    rests = without_jobs(written(suspended, decide(suspended, NOW + 5)))
    plan = decide(rests, NOW + 500)
    assert (plan.status["progress"]["epoch"], plan.status["loss"]) == ("3/5", 0.5)


def test_resuming_makes_the_next_attempt_at_once() -> None:
    suspended = edited(at_work(), suspend=True)
    rests = without_jobs(written(suspended, decide(suspended, NOW + 5)))
    assert made(decide(rests, NOW + 500)) == []
    plan = decide(edited(rests, suspend=False), NOW + 500)
    assert made(plan) == ["cnn-train-a2"]
    assert "pausedSince" not in plan.status


def test_a_crash_between_the_deletion_and_the_status_counts_nothing() -> None:
    lost = without_jobs(edited(at_work(), suspend=True))
    plan = decide(lost, NOW + 5)
    assert stands(plan) == ("Reconciling", "Suspended")
    assert "disruptions" not in plan.status


def test_a_result_that_came_before_the_suspension_is_kept() -> None:
    facts = at_work()
    job = first_job(training_job(), "Complete")
    chief = pod(job, phase="Succeeded", containers=[ended(0, trained_text(), "Completed")])
    done = edited(replace(facts, children={("Job", "cnn-train-a1"): job}, pods=(chief,)), suspend=True)
    assert stands(decide(done)) == ("Done", "Succeeded")


def test_a_job_that_is_made_suspended_starts_when_it_is_let_go() -> None:
    obj = training_job(suspend=True)
    plan = decide(observe(obj, dataset=ready_dataset()))
    assert stands(plan) == ("Reconciling", "Suspended")
    assert plan.actions == ()
    rests = written(observe(obj, dataset=ready_dataset()), plan)
    assert made(decide(edited(rests, suspend=False), NOW + 9)) == ["cnn-train-a1"]


def test_the_deadline_stands_still_while_suspended() -> None:
    facts = at_work(activeDeadlineSeconds=100)
    began = seconds(facts.object["status"]["startTime"])
    suspended = edited(facts, suspend=True)
    rests = without_jobs(written(suspended, decide(suspended, NOW + 10)))
    later = decide(rests, NOW + 5000)
    assert stands(later) == ("Reconciling", "Suspended")
    assert later.requeue_after is None
    again = edited(written(rests, later), suspend=False)
    plan = decide(again, NOW + 5000)
    assert seconds(plan.status["startTime"]) == began + 4990
    assert made(plan) == ["cnn-train-a2"]


def queued(suspended: bool = True) -> Observed:
    obj = training_job(activeDeadlineSeconds=100)
    obj["metadata"]["labels"] = dict(QUEUE)
    job = first_job(obj)
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"].items() >= QUEUE.items()
    job["spec"]["suspend"] = suspended
    pods = () if suspended else (pod(job, containers=[STARTED]),)
    return observe(obj, job, *pods, dataset=ready_dataset())


def test_a_queue_decides_when_its_job_runs_and_the_deadline_waits() -> None:
    facts = queued()
    plan = decide(facts)
    assert stands(plan) == ("Reconciling", "Queued")
    assert "team-a" in row(plan)["message"]
    waits = decide(written(facts, plan), NOW + 5000)
    assert stands(waits) == ("Reconciling", "Queued")
    let_go = replace(queued(suspended=False), object=written(facts, waits).object)
    plan = decide(let_go, NOW + 5000)
    assert stands(plan) == ("Reconciling", "Training")


def test_nothing_that_is_sent_to_a_running_job_says_whether_it_is_suspended() -> None:
    plan = decide(queued(suspended=False))
    sent = [action.manifest for action in plan.actions if not isinstance(action, Create)]
    assert all("suspend" not in manifest.get("spec", {}) for manifest in sent if manifest["kind"] == "Job")


def succeeded(**spec: Any) -> Observed:
    obj = training_job(**spec)
    job = first_job(obj, "Complete")
    chief = pod(job, phase="Succeeded", containers=[ended(0, trained_text(), "Completed")])
    service = {"kind": SERVICE.kind, "metadata": {"name": "cnn-train", "uid": "uid-service"}}
    facts = observe(obj, job, chief, service)
    return written(facts, decide(facts))


def test_what_is_left_goes_when_its_time_has_come() -> None:
    facts = succeeded(ttlSecondsAfterFinished=100)
    early = decide(facts, NOW + 40)
    assert deleted(early) == []
    assert early.requeue_after == pytest.approx(60)
    due = decide(facts, NOW + 100)
    assert sorted(deleted(due)) == ["cnn-train", "cnn-train-a1"]
    assert due.status == facts.object["status"]
    gone = decide(without_jobs(facts), NOW + 1000)
    assert (deleted(gone), made(gone)) == ([], [])
    assert stands(gone) == ("Done", "Succeeded")


def test_without_a_time_nothing_is_removed() -> None:
    assert deleted(decide(succeeded(), NOW + 10**8)) == []


def test_a_time_of_zero_removes_after_the_end_is_told() -> None:
    obj = training_job(ttlSecondsAfterFinished=0)
    job = first_job(obj, "Complete")
    chief = pod(job, phase="Succeeded", containers=[ended(0, trained_text(), "Completed")])
    told = decide(observe(obj, job, chief))
    assert deleted(told) == []
    assert told.requeue_after is not None


def reported(facts: Observed, now: float, **report: Any) -> Observed:
    """The chief has said this, and the operator has come by."""
    one = Report(owner_uid="uid-cnn", phase="Training", epochs=5, total=23, **report)
    told = replace(facts, reports={facts.pods[0]["metadata"]["uid"]: one})
    return written(told, decide(told, now))


def progress(facts: Observed) -> Obj:
    found: Obj = facts.object["status"]["progress"]
    return found


def test_figures_of_a_long_epoch_are_written_once_a_minute() -> None:
    first = reported(at_work(), NOW, epoch=1, done=1)
    assert progress(first)["updateTime"] == timestamp(NOW)
    soon = reported(first, NOW + 30, epoch=1, done=9)
    assert progress(soon) == progress(first)
    late = reported(soon, NOW + 60, epoch=1, done=20)
    assert (progress(late)["step"], progress(late)["updateTime"]) == (20, timestamp(NOW + 60))


def test_a_finished_epoch_is_written_at_most_every_ten_seconds() -> None:
    first = reported(at_work(), NOW, epoch=1, done=1)
    assert progress(reported(first, NOW + 9, epoch=2, done=1))["epoch"] == "1/5"
    assert progress(reported(first, NOW + 10, epoch=2, done=1))["epoch"] == "2/5"


def test_a_version_to_begin_with_is_pinned_by_the_first_attempt() -> None:
    obj = training_job(warmStart={"trainingJob": {"name": "older"}, "frozenLayers": ["convolution_0"]})
    older = training_job()
    result = {"digest": "ef" * 32, "claimName": "lepton-store", "path": "models/x"}
    older["status"] = {"conditions": [condition("Succeeded", "True")], "result": result}
    plan = decide(observe(obj, dataset=ready_dataset(), training_job=older))
    job = job_from(manifest_of(plan))
    task = job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    assert f'"warmStart":{{"digest":"{"ef" * 32}","frozenLayers":["convolution_0"]}}' in task
    running = decide(observe(obj, job, pod(job, containers=[STARTED])))
    assert running.status["warmStartDigest"] == "ef" * 32
