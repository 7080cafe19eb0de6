"""LeptonDataset: facts -> conditions, actions, progress."""

from typing import Any

import pytest

from lepton_operator.decide.dataset import claims_needed
from lepton_operator.facts import Observed
from lepton_workloads.contract.outcome import Report
from tests.unit.builders import (
    KEY,
    NOW,
    STARTED,
    Obj,
    dataset,
    decide,
    deleted,
    disrupted,
    ended,
    failed_text,
    is_ready,
    job_from,
    kept_claims,
    made,
    manifest_of,
    observe,
    pod,
    prepared_text,
    refused,
    row,
    stands,
    unschedulable,
    waits,
    warning,
    written,
)


def child(obj: Obj, *conditions: str, **extra: Any) -> Obj:
    return job_from(manifest_of(decide(observe(obj))), *conditions, **extra)


def prepared(obj: Obj | None = None) -> Observed:
    """A dataset whose Job has just completed."""
    obj = obj or dataset()
    job = child(obj, "Complete")
    return observe(obj, job, pod(job, phase="Succeeded", containers=[ended(0, prepared_text(), "Completed")]))


def test_first_visit_creates_the_store_and_the_job() -> None:
    plan = decide(observe(dataset(), claims={"lepton-store": None}))
    assert stands(plan) == ("Reconciling", "Preparing")
    assert kept_claims(plan) == ["lepton-store"]
    assert len(made(plan)) == 1
    assert [event.type for event in plan.events] == ["Normal"]


def test_a_claim_of_the_users_is_never_created() -> None:
    obj = dataset(storage={"claimName": "mine"})
    plan = decide(observe(obj, child(obj), claims={"mine": None}))
    assert stands(plan) == ("Reconciling", "SourceNotFound")
    assert kept_claims(plan) == []
    assert "create it" in row(plan)["message"]


def test_a_missing_source_claim_is_named_at_once() -> None:
    obj = dataset(source={"pvc": {"claimName": "photos"}})
    plan = decide(observe(obj, child(obj), claims={"photos": None, "lepton-store": {"status": {}}}))
    assert stands(plan) == ("Reconciling", "SourceNotFound")
    assert "photos" in row(plan)["message"]


POD_ROWS = [
    ("Unschedulable", {"phase": "Pending", "conditions": [unschedulable()]}),
    ("ImagePullFailed", {"phase": "Pending", "containers": [waits("ImagePullBackOff", "no such image")]}),
    (
        "ContainerConfigError",
        {"phase": "Pending", "containers": [waits("CreateContainerConfigError", "no key")]},
    ),
    ("Evicted", {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
    ("NodeLost", {"conditions": [disrupted("DeletionByTaintManager")], "deleting": True}),
    ("OutOfMemory", {"phase": "Failed", "containers": [ended(137, reason="OOMKilled")]}),
]


@pytest.mark.parametrize(("reason", "parts"), POD_ROWS)
def test_a_fault_of_a_pod_is_told_and_stalls_after_the_deadline(reason: str, parts: Obj) -> None:
    obj = dataset(startupDeadlineSeconds=100)
    job = child(obj)
    world = observe(obj, job, pod(job, **parts))
    plan = decide(world)
    assert stands(plan) == ("Reconciling", reason)
    assert plan.status["waitingSince"]
    assert plan.requeue_after is not None
    assert plan.requeue_after <= 100
    assert [event.type for event in plan.events] == ["Warning"]

    stalled = decide(written(world, plan), NOW + 100)
    assert stands(stalled) == ("Stalled", reason)
    assert "100 s" in row(stalled)["message"]

    running = pod(job, name="next", containers=[STARTED], conditions=[is_ready()])
    cured = decide(written(observe(obj, job, running), stalled), NOW + 200)
    assert stands(cured) == ("Reconciling", "Preparing")
    assert "waitingSince" not in cured.status


def test_a_pod_that_just_does_not_start_stalls_too() -> None:
    obj = dataset(startupDeadlineSeconds=100)
    job = child(obj)
    world = observe(obj, job, pod(job, phase="Pending", containers=[waits("ContainerCreating")]))
    plan = decide(world)
    assert stands(plan) == ("Reconciling", "Preparing")
    assert stands(decide(written(world, plan), NOW + 100)) == ("Stalled", "StartupDeadlineExceeded")


def test_a_new_spec_gets_the_whole_deadline_again() -> None:
    obj = dataset(startupDeadlineSeconds=100)
    job = child(obj)
    world = observe(obj, job, pod(job, phase="Pending", conditions=[unschedulable()]))
    stalled = decide(written(world, decide(world)), NOW + 100)
    assert stands(stalled)[0] == "Stalled"
    edited = written(world, stalled)
    edited.object["metadata"]["generation"] = 2
    assert stands(decide(edited, NOW + 101))[0] == "Reconciling"


def test_a_pod_that_failed_is_no_fault_while_another_works_in_its_place() -> None:
    obj = dataset()
    job = child(obj)
    broken = pod(job, phase="Failed", name="first", containers=[ended(1, failed_text("StorageFailed"))])
    working = pod(job, name="second", containers=[STARTED])
    assert stands(decide(observe(obj, job, broken, working))) == ("Reconciling", "Preparing")
    assert stands(decide(observe(obj, job, broken))) == ("Reconciling", "StorageFailed")


def test_pods_that_are_refused_are_explained() -> None:
    obj = dataset()
    job = child(obj)
    name = job["metadata"]["name"]
    told = warning("Job", name, "FailedCreate", "pods is forbidden: exceeded quota: small")
    assert stands(decide(observe(obj, job, warnings=(told,)))) == ("Reconciling", "QuotaExceeded")
    told = warning("Job", name, "FailedCreate", "violates PodSecurity")
    assert stands(decide(observe(obj, job, warnings=(told,)))) == ("Reconciling", "AdmissionDenied")
    running = pod(job, containers=[STARTED])
    assert stands(decide(observe(obj, job, running, warnings=(told,)))) == ("Reconciling", "Preparing")


def test_a_refused_write_is_told() -> None:
    plan = decide(observe(dataset(), refusals=(refused("NameConflict"),)))
    assert stands(plan) == ("Reconciling", "NameConflict")
    assert made(plan), "it is tried again"


def test_progress_is_the_sum_of_the_indexes() -> None:
    obj = dataset(parallelism=2)
    job = child(obj)
    pods = [pod(job, index, containers=[STARTED]) for index in (0, 1)]
    reports = {
        pods[0]["metadata"]["uid"]: Report(owner_uid="uid-digits", phase="Preparing", done=30, total=200),
        pods[1]["metadata"]["uid"]: Report(
            owner_uid="uid-digits", phase="Preparing", done=20, total=200, index=1
        ),
    }
    plan = decide(observe(obj, job, *pods, reports=reports))
    assert plan.status["progress"] == {"phase": "Preparing", "done": 50, "total": 200, "percent": "25%"}
    assert [pull.pod_ip for pull in plan.pulls] == ["10.0.0.1", "10.0.0.2"]
    assert plan.requeue_after == 10


def test_a_report_of_someone_else_is_not_believed() -> None:
    obj = dataset()
    job = child(obj)
    running = pod(job, containers=[STARTED])
    reports = {running["metadata"]["uid"]: Report(owner_uid="uid-other", done=1, total=2)}
    assert "progress" not in decide(observe(obj, job, running, reports=reports)).status


def test_completion_puts_the_result_into_the_status() -> None:
    plan = decide(prepared())
    assert stands(plan) == ("Done", "Prepared")
    status = plan.status
    assert (status["digest"], status["samples"], status["classes"]) == (KEY, 1797, 10)
    assert status["splits"] == {"train": 1437, "validation": 180, "test": 180}
    assert status["progress"]["percent"] == "100%"
    assert plan.pulls == ()
    assert plan.requeue_after is None


def test_files_that_were_set_aside_are_counted_in_the_message() -> None:
    obj = dataset()
    job = child(obj, "Complete")
    text = prepared_text(invalid_files=3)
    plan = decide(observe(obj, job, pod(job, phase="Succeeded", containers=[ended(0, text)])))
    assert "3 unreadable files were set aside" in row(plan)["message"]


def test_a_prepared_dataset_is_quiet_with_or_without_its_job() -> None:
    world = prepared()
    first = decide(world)
    after = written(world, first)
    for calm in (after, observe(after.object)):
        plan = decide(calm, NOW + 1000)
        assert plan.status == first.status
        assert (plan.actions, plan.events, plan.pulls, plan.requeue_after) == ((), (), (), None)
    assert claims_needed(after.object) == ()


def test_a_result_whose_pod_is_not_seen_to_have_ended_is_waited_for() -> None:
    obj = dataset()
    job = child(obj, "Complete")
    plan = decide(observe(obj, job, pod(job, containers=[STARTED])))
    assert stands(plan) == ("Reconciling", "Preparing")
    assert deleted(plan) == []


def test_a_lost_result_is_read_again_by_another_run() -> None:
    obj = dataset()
    job = child(obj, "Complete")
    world = observe(obj, job)
    plan = decide(world)
    assert stands(plan) == ("Reconciling", "Preparing")
    assert deleted(plan) == [job["metadata"]["name"]]
    gone = decide(written(observe(obj), plan))
    assert made(gone) == [job["metadata"]["name"]]


def test_pods_of_an_earlier_job_of_the_same_name_are_not_believed() -> None:
    obj = dataset()
    old, new = child(obj, "Complete", uid="old"), child(obj, uid="new")
    finished = pod(old, phase="Succeeded", containers=[ended(0, prepared_text())])
    assert stands(decide(observe(obj, new, finished))) == ("Reconciling", "Preparing")
    complete = child(obj, "Complete", uid="new")
    assert deleted(decide(observe(obj, complete, finished))) == [complete["metadata"]["name"]]


def test_a_deleted_job_is_made_again() -> None:
    obj = dataset()
    job = child(obj)
    plan = decide(observe(obj, job, pod(job, containers=[STARTED])))
    assert made(decide(written(observe(obj), plan))) == [job["metadata"]["name"]]


def test_a_lost_status_is_found_again_from_the_job() -> None:
    first = decide(prepared())
    again = decide(prepared())
    assert again.status == first.status


def test_wrong_data_stalls_and_names_the_way_out() -> None:
    obj = dataset()
    job = child(obj, "Failed:PodFailurePolicy")
    text = failed_text("InvalidData", "30 of 100 files can't be read, for example a.png", terminal=True)
    broken = pod(job, phase="Failed", containers=[ended(3, text)])
    world = observe(obj, job, broken)
    plan = decide(world)
    assert stands(plan) == ("Stalled", "InvalidData")
    assert row(plan)["message"].startswith("30 of 100 files can't be read, for example a.png")
    assert row(plan)["message"].count("spec.revision") == 1

    without_pods = decide(written(observe(obj, job), plan), NOW + 60)
    assert without_pods.status == plan.status, "what was said stays true when the pods are gone"
    assert without_pods.events == ()


FAILED_ROWS = [
    ("DeadlineExceeded", "Failed:DeadlineExceeded", []),
    ("BackoffLimitExceeded", "Failed:BackoffLimitExceeded", []),
    ("StorageFailed", "Failed:BackoffLimitExceeded", [ended(1, failed_text("StorageFailed"))]),
    ("OutOfMemory", "Failed:BackoffLimitExceeded", [ended(137, reason="OOMKilled")]),
    ("ContainerFailed", "Failed:BackoffLimitExceeded", [ended(1, "Traceback\nOSError: broken")]),
]


@pytest.mark.parametrize(("reason", "end", "containers"), FAILED_ROWS)
def test_a_failed_job_stalls(reason: str, end: str, containers: list[Obj]) -> None:
    obj = dataset(activeDeadlineSeconds=50)
    job = child(obj, end)
    pods = [pod(job, phase="Failed", containers=containers)] if containers else []
    assert stands(decide(observe(obj, job, *pods))) == ("Stalled", reason)


def test_a_failed_job_that_is_seen_before_its_pods_is_waited_for() -> None:
    obj = dataset()
    job = child(obj, "Failed:BackoffLimitExceeded")
    assert stands(decide(observe(obj, job, pod(job, containers=[STARTED]))))[0] == "Reconciling"


def test_a_changed_spec_prepares_anew_and_keeps_the_old_figures_meanwhile() -> None:
    world = prepared()
    done = decide(world)
    obj = dataset(image={"height": 64}) | {"status": done.status}
    obj["metadata"]["generation"] = 2
    old = next(iter(world.children.values()))
    plan = decide(observe(obj, old))
    assert stands(plan) == ("Reconciling", "Preparing")
    assert deleted(plan) == []
    assert made(plan) != [old["metadata"]["name"]]
    assert plan.status["digest"] == KEY
    assert "progress" not in plan.status


def test_back_to_the_prepared_spec_is_done_at_once() -> None:
    world = prepared()
    done = decide(world)
    changed = dataset(revision="2") | {"status": done.status}
    plan = decide(observe(changed, *world.children.values()))
    other = job_from(manifest_of(plan))
    back = decide(observe(dataset() | {"status": plan.status}, other))
    assert stands(back) == ("Done", "Prepared")
    assert deleted(back) == [other["metadata"]["name"]]


@pytest.mark.parametrize(
    "change", [{"resources": {"requests": {"cpu": "1"}}}, {"parallelism": 3}, {"backoffLimit": 9}]
)
def test_how_it_is_prepared_does_not_repeat_the_work(change: Obj) -> None:
    done = decide(prepared())
    plan = decide(observe(dataset(**change) | {"status": done.status}))
    assert stands(plan) == ("Done", "Prepared")
    assert plan.actions == ()


def test_a_spec_of_other_crds_is_told_and_nothing_is_forgotten() -> None:
    done = decide(prepared())
    obj = dataset() | {"status": done.status}
    obj["spec"] = {**obj["spec"], "format": "csv", "unknown": 1}
    plan = decide(observe(obj))
    assert stands(plan) == ("Stalled", "InvalidSpec")
    assert plan.status["digest"] == KEY
    message = row(plan)["message"]
    assert "format: " in message
    assert "unknown: " in message
    assert "http" not in message
    assert "\n" not in message
    assert claims_needed(obj) == ()


def test_claims_that_are_needed() -> None:
    obj = dataset(source={"pvc": {"claimName": "photos"}})
    assert claims_needed(obj) == ("lepton-store", "photos")


def test_the_job_that_made_the_copy_stays_until_there_is_another_copy() -> None:
    """So that a spec that goes and comes back leaves everything as it was."""
    world = prepared()
    (first,) = world.children.values()
    changed = dataset(revision="2") | {"status": decide(world).status}
    begun = decide(observe(changed, first))
    assert deleted(begun) == []
    second = job_from(manifest_of(begun))
    back = decide(observe(dataset() | {"status": begun.status}, first, second))
    assert deleted(back) == [second["metadata"]["name"]]
    assert back.status["jobName"] == first["metadata"]["name"]
    done = job_from(manifest_of(begun), "Complete")
    result = pod(done, phase="Succeeded", containers=[ended(0, prepared_text(), "Completed")])
    ready = decide(observe(changed | {"status": begun.status}, first, done, result))
    assert deleted(ready) == [], (
        "the status does not tell of the second copy yet: the user may be back by then"
    )
    assert ready.again
    told = decide(observe(changed | {"status": ready.status}, first, done, result))
    assert (deleted(told), told.again) == ([first["metadata"]["name"]], False)


def test_a_spec_that_prepares_the_same_keeps_the_job() -> None:
    world = prepared()
    (job,) = world.children.values()
    plan = decide(observe(dataset(backoffLimit=7) | {"status": decide(world).status}, job))
    assert (deleted(plan), made(plan)) == ([], [])
    assert plan.status["jobName"] == job["metadata"]["name"]
