"""LeptonTrainingJob: waiting for data, running, succeeding, limits."""

from typing import Any

import pytest

from lepton_operator.conditions import timestamp
from lepton_operator.decide.training_job import claims_needed
from lepton_workloads.contract.outcome import Epoch, Report
from tests.unit.builders import (
    CONTEXT,
    DIGEST,
    KEY,
    NOW,
    STARTED,
    Obj,
    condition,
    dataset,
    decide,
    deleted,
    ended,
    is_ready,
    job_from,
    kept_claims,
    made,
    manifest_of,
    observe,
    pod,
    ready_dataset,
    refused,
    row,
    stands,
    trained_text,
    training_job,
    unschedulable,
    waits,
    warning,
    written,
)


def attempt(obj: Obj, *conditions: str, number: int = 1, **extra: Any) -> Obj:
    """The Job of an attempt, as the decision makes it."""
    told = (
        {"observedGeneration": 1, "failedAttempt": number - 1} if number > 1 else {"observedGeneration": -1}
    )
    plan = decide(observe({**obj, "status": told}, dataset=ready_dataset()))
    return job_from(manifest_of(plan), *conditions, **extra)


# -- before the first attempt ------------------------------------------------------------------------


def test_a_missing_dataset_is_named_and_stalls_after_the_deadline() -> None:
    world = observe(training_job(startupDeadlineSeconds=100))
    plan = decide(world)
    assert stands(plan) == ("Reconciling", "DatasetNotFound")
    assert row(plan)["status"] == "Unknown"
    assert "create it" in row(plan)["message"]
    assert made(plan) == []
    assert stands(decide(written(world, plan), NOW + 100)) == ("Stalled", "DatasetNotFound")


def test_a_dataset_in_preparation_is_waited_for_without_a_deadline() -> None:
    rows = [condition("Ready", "False", "Preparing"), condition("Stalled", "False")]
    data = dataset() | {"status": {"conditions": rows}}
    world = observe(training_job(startupDeadlineSeconds=100), dataset=data)
    plan = decide(world)
    assert stands(plan) == ("Reconciling", "DatasetNotReady")
    assert "(Preparing)" in row(plan)["message"]
    assert stands(decide(written(world, plan), NOW + 100_000))[0] == "Reconciling"


def test_a_stalled_dataset_stalls_the_job_after_the_deadline() -> None:
    rows = [condition("Ready", "False", "InvalidData"), condition("Stalled", "True")]
    data = dataset() | {"status": {"conditions": rows}}
    world = observe(training_job(startupDeadlineSeconds=100), dataset=data)
    plan = decide(world)
    assert stands(decide(written(world, plan), NOW + 100)) == ("Stalled", "DatasetNotReady")
    cured = observe({**world.object, "status": plan.status}, dataset=ready_dataset())
    assert made(decide(cured, NOW + 200)) == ["cnn-train-a1"]


def test_a_dataset_that_is_ready_for_an_older_spec_is_not_used() -> None:
    data = ready_dataset()
    data["metadata"]["generation"] = 2
    plan = decide(observe(training_job(), dataset=data))
    assert stands(plan) == ("Reconciling", "DatasetNotReady")


def test_a_network_that_does_not_fit_is_refused_before_any_pod() -> None:
    obj = training_job(network={"convolutions": [8] * 6})
    plan = decide(observe(obj, dataset=ready_dataset()))
    assert stands(plan) == ("Stalled", "InvalidSpec")
    assert "fewer convolutions" in row(plan)["message"]
    assert plan.actions == ()


def test_the_first_attempt_gets_store_service_and_job() -> None:
    plan = decide(observe(training_job(workers=2), dataset=ready_dataset(), claims={"lepton-store": None}))
    assert stands(plan) == ("Reconciling", "Starting")
    assert kept_claims(plan) == ["lepton-store"]
    assert made(plan, "Service") == ["cnn-train"]
    assert made(plan) == ["cnn-train-a1"]
    assert "attempt" not in plan.status, "told once the Job is there"


def test_a_refused_job_is_tried_again_under_the_same_number() -> None:
    world = observe(training_job(startupDeadlineSeconds=50), dataset=ready_dataset(), refusals=(refused(),))
    plan = decide(world)
    assert stands(plan) == ("Reconciling", "QuotaExceeded")
    stalled = decide(written(world, plan), NOW + 50)
    assert stands(stalled) == ("Stalled", "QuotaExceeded")
    assert made(stalled) == ["cnn-train-a1"]


# -- running -----------------------------------------------------------------------------------------


def test_a_gang_that_starts_is_told_and_stalls_after_the_deadline() -> None:
    obj = training_job(workers=2, startupDeadlineSeconds=100)
    job = attempt(obj)
    pending = pod(job, 1, phase="Pending", containers=[waits("ContainerCreating")])
    world = observe(obj, job, pod(job, 0, containers=[STARTED]), pending)
    plan = decide(world)
    assert stands(plan) == ("Reconciling", "Starting")
    assert "1 of 2 workers" in row(plan)["message"]
    assert plan.status["attempt"] == 1
    assert plan.status["datasetDigest"] == KEY
    assert plan.status["startTime"] == job["metadata"]["creationTimestamp"]
    stalled = decide(written(world, plan), NOW + 100)
    assert stands(stalled) == ("Stalled", "StartupDeadlineExceeded")
    assert row(stalled)["status"] == "Unknown"
    both = observe(
        {**obj, "status": stalled.status}, job, *(pod(job, at, containers=[STARTED]) for at in (0, 1))
    )
    assert stands(decide(both, NOW + 110)) == ("Reconciling", "Training")


@pytest.mark.parametrize(
    ("reason", "parts"),
    [
        ("Unschedulable", {"phase": "Pending", "conditions": [unschedulable()]}),
        ("ImagePullFailed", {"phase": "Pending", "containers": [waits("ErrImagePull", "no such host")]}),
        ("ContainerConfigError", {"phase": "Pending", "containers": [waits("CreateContainerError", "bad")]}),
    ],
)
def test_the_fault_of_any_worker_is_told(reason: str, parts: Obj) -> None:
    obj = training_job(workers=2)
    job = attempt(obj)
    healthy = pod(job, 0, containers=[STARTED], conditions=[is_ready()])
    plan = decide(observe(obj, job, healthy, pod(job, 1, **parts)))
    assert stands(plan) == ("Reconciling", reason)


def test_pods_that_are_refused_are_explained() -> None:
    obj = training_job()
    job = attempt(obj)
    told = warning("Job", "cnn-train-a1", "FailedCreate", "exceeded quota: small")
    assert stands(decide(observe(obj, job, warnings=(told,)))) == ("Reconciling", "QuotaExceeded")
    other = warning("Job", "cnn-train-a11", "FailedCreate", "exceeded quota: small")
    assert stands(decide(observe(obj, job, warnings=(other,)))) == ("Reconciling", "Starting")


def test_a_missing_claim_of_the_users_is_told() -> None:
    obj = training_job(storage={"claimName": "mine"})
    plan = decide(observe(obj, attempt(obj), claims={"mine": None}))
    assert stands(plan) == ("Reconciling", "SourceNotFound")


def test_progress_comes_from_the_chief_of_this_attempt() -> None:
    obj = training_job(workers=2)
    job = attempt(obj)
    pods = [pod(job, at, containers=[STARTED]) for at in (0, 1)]
    epoch = Epoch(
        epoch=2,
        loss=1.2,
        accuracy=0.5,
        validation_loss=1.1,
        validation_accuracy=0.6,
        seconds=1,
        images_per_second=9,
    )
    chief = Report(
        owner_uid="uid-cnn",
        phase="Training",
        done=7,
        total=23,
        epoch=2,
        epochs=5,
        loss=1.234567,
        accuracy=0.5,
        eta_seconds=12.7,
        history=[epoch],
    )
    other = Report(owner_uid="uid-cnn", index=1, epoch=1, loss=9.0)
    reports = {pods[0]["metadata"]["uid"]: chief, pods[1]["metadata"]["uid"]: other}
    plan = decide(observe(obj, job, *pods, reports=reports))
    assert stands(plan) == ("Reconciling", "Training")
    assert plan.status["progress"] == {
        "phase": "Training",
        "epoch": "2/5",
        "step": 7,
        "steps": 23,
        "etaSeconds": 12,
        "validationLoss": 1.1,
        "validationAccuracy": 0.6,
        "updateTime": timestamp(NOW),
    }
    assert (plan.status["loss"], plan.status["accuracy"]) == (1.2346, 0.5)
    assert len(plan.pulls) == 2
    assert plan.requeue_after == 10

    silent = decide(written(observe(obj, job, *pods), plan), NOW + 10)
    assert silent.status["progress"] == plan.status["progress"], "a pull that fails forgets nothing"
    empty = {pods[0]["metadata"]["uid"]: Report(owner_uid="uid-cnn", phase="Evaluating", epoch=5, epochs=5)}
    later = decide(written(observe(obj, job, *pods, reports=empty), plan), NOW + 20)
    assert later.status["loss"] == 1.2346
    stale = {pods[0]["metadata"]["uid"]: chief.model_copy(update={"attempt": 7})}
    assert "progress" not in decide(observe(obj, job, *pods, reports=stale)).status


def test_figures_alone_are_not_urgent() -> None:
    obj = training_job()
    job = attempt(obj)
    one = pod(job, containers=[STARTED])
    first = decide(observe(obj, job, one))
    assert first.urgent
    report = Report(owner_uid="uid-cnn", epoch=1, epochs=5)
    plan = decide(written(observe(obj, job, one, reports={one["metadata"]["uid"]: report}), first))
    assert plan.status != first.status
    assert not plan.urgent


def test_a_worker_that_is_done_before_the_chief_does_not_look_like_a_start() -> None:
    obj = training_job(workers=2)
    job = attempt(obj)
    chief = pod(job, 0, containers=[STARTED])
    done = pod(job, 1, phase="Succeeded", containers=[ended(0)])
    assert stands(decide(observe(obj, job, chief, done))) == ("Reconciling", "Training")


# -- success -----------------------------------------------------------------------------------------


def complete(obj: Obj, **extra: Any) -> tuple[Obj, Obj]:
    job = attempt(obj, "Complete")
    job["status"]["completionTime"] = timestamp(NOW - 3)
    return job, pod(job, phase="Succeeded", containers=[ended(0, trained_text(**extra), "Completed")])


def test_success_puts_version_figures_and_lineage_into_the_status() -> None:
    obj = training_job()
    job, chief = complete(obj)
    plan = decide(observe(obj, job, chief))
    assert stands(plan) == ("Done", "Succeeded")
    status = plan.status
    assert status["result"]["path"] == f"models/{DIGEST}"
    assert status["result"]["claimName"] == "lepton-store"
    assert (status["accuracy"], status["loss"]) == (0.97, 0.1)
    assert status["metrics"]["seconds"] == 31.4
    assert "validationLoss" not in status["metrics"]
    assert status["lineage"]["datasetDigest"] == KEY
    assert status["completionTime"] == timestamp(NOW - 3)
    assert status["progress"] == {"phase": "Done", "epoch": "5/5"}
    assert f"version {DIGEST[:12]}, accuracy 0.9700" in row(plan)["message"]


def test_the_lineage_names_the_image_that_trained_whatever_the_default_is_now() -> None:
    obj = training_job()
    job, chief = complete(obj)
    newer = type(CONTEXT)(trainer_image="trainer:2", server_image="server:2")
    plan = decide(observe(obj, job, chief), context=newer)
    assert plan.status["lineage"]["image"] == "trainer:1"


def test_success_is_for_ever_and_quiet() -> None:
    obj = training_job(activeDeadlineSeconds=10)
    job, chief = complete(obj)
    world = observe(obj, job, chief)
    done = decide(world)
    for calm in (written(world, done), observe({**obj, "status": done.status})):
        plan = decide(calm, NOW + 1_000_000)
        assert plan.status == done.status
        assert (plan.actions, plan.events, plan.pulls, plan.requeue_after) == ((), (), (), None)
    assert claims_needed(calm.object) == ()


def test_success_outlives_a_spec_that_is_no_longer_read() -> None:
    obj = training_job()
    job, chief = complete(obj)
    done = decide(observe(obj, job, chief))
    strange = {**obj, "status": done.status, "spec": {"network": "of the future"}}
    plan = decide(observe(strange))
    assert stands(plan) == ("Done", "Succeeded")
    assert plan.status == done.status


def test_success_is_told_again_when_only_the_conditions_were_lost() -> None:
    obj = training_job()
    job, chief = complete(obj)
    done = decide(observe(obj, job, chief))
    bare = {name: value for name, value in done.status.items() if name != "conditions"}
    assert stands(decide(observe({**obj, "status": bare}))) == ("Done", "Succeeded")


def test_a_lost_status_is_found_again_from_the_job() -> None:
    obj = training_job()
    job, chief = complete(obj)
    done = decide(observe(obj, job, chief))
    lost = observe({**obj, "status": None}, job, chief)
    assert decide(lost).status == done.status


def test_a_spec_of_other_crds_is_told() -> None:
    obj = training_job()
    obj["spec"] = {**obj["spec"], "workers": 0}
    plan = decide(observe(obj))
    assert stands(plan) == ("Stalled", "InvalidSpec")
    assert "workers: " in row(plan)["message"]


def test_the_store_is_read_until_the_end() -> None:
    obj = training_job()
    assert claims_needed(obj) == ("lepton-store",)
    assert claims_needed({**obj, "status": {"completionTime": timestamp(NOW)}}) == ()


# -- activeDeadlineSeconds ---------------------------------------------------------------------------


def out_of_time() -> tuple[Obj, Obj, Any]:
    obj = training_job(activeDeadlineSeconds=100)
    job = attempt(obj)
    world = observe(obj, job, pod(job, containers=[STARTED]))
    first = decide(world)
    return obj, job, decide(written(world, first), NOW + 40)


def test_the_deadline_is_looked_at_in_time() -> None:
    obj = training_job(activeDeadlineSeconds=100)
    job = attempt(obj)
    plan = decide(observe(obj, job), NOW + 5)
    assert plan.requeue_after == 35


def test_the_deadline_ends_the_attempt_for_good() -> None:
    obj, _, plan = out_of_time()
    assert stands(plan) == ("Stalled", "DeadlineExceeded")
    assert row(plan)["status"] == "False"
    assert "raise it" in row(plan)["message"]
    assert deleted(plan) == ["cnn-train-a1"]
    assert plan.pulls == ()
    quiet = decide(observe({**obj, "status": plan.status}), NOW + 1000)
    assert quiet.status == plan.status
    assert (quiet.actions, quiet.events) == ((), ())


@pytest.mark.parametrize("limit", [200, None])
def test_a_raised_or_removed_deadline_goes_on_under_a_new_number(limit: int | None) -> None:
    obj, job, plan = out_of_time()
    spec = {name: value for name, value in obj["spec"].items() if name != "activeDeadlineSeconds"}
    if limit:
        spec["activeDeadlineSeconds"] = limit
    raised = {**obj, "spec": spec, "status": plan.status}
    dying = {**job, "metadata": {**job["metadata"], "deletionTimestamp": timestamp(NOW)}}
    again = decide(observe(raised, dying), NOW + 1040)
    assert stands(again) == ("Reconciling", "Starting")
    assert made(again) == ["cnn-train-a2"]
    assert again.status.get("disruptions", 0) == again.status.get("failures", 0) == 0
    if limit:
        assert again.requeue_after == 100, "the time in between does not count"


def test_a_deadline_that_is_raised_too_little_changes_nothing() -> None:
    obj, _, plan = out_of_time()
    raised = {**obj, "spec": {**obj["spec"], "activeDeadlineSeconds": 100}, "status": plan.status}
    assert stands(decide(observe(raised), NOW + 50)) == ("Stalled", "DeadlineExceeded")


def test_a_success_in_the_last_second_is_a_success() -> None:
    obj = training_job(activeDeadlineSeconds=10)
    job, chief = complete(obj)
    assert stands(decide(observe(obj, job, chief), NOW + 100)) == ("Done", "Succeeded")


def test_the_deadline_holds_between_attempts_too() -> None:
    obj = training_job(activeDeadlineSeconds=100)
    job = attempt(obj, "Failed", at=NOW - 60)
    broken = pod(job, phase="Failed", containers=[ended(1, "boom")])
    counted = decide(observe(obj, job, broken))
    plan = decide(observe({**obj, "status": counted.status}, job, broken), NOW + 50)
    assert stands(plan) == ("Stalled", "DeadlineExceeded")
    assert made(plan) == []
    assert deleted(plan) == [], "an attempt that has ended keeps its logs"
