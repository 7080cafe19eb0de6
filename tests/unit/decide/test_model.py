"""LeptonModel: which version is wanted, whether exactly that version is up."""

from typing import Any

import pytest

from lepton_operator.actions import Plan
from lepton_operator.decide.model import claims_needed
from lepton_operator.facts import Observed
from tests.unit.builders import (
    DIGEST,
    NOW,
    STARTED,
    Obj,
    condition,
    decide,
    deleted,
    ended,
    failed_text,
    is_ready,
    made,
    manifest_of,
    model,
    observe,
    pod,
    refused,
    row,
    stands,
    states,
    succeeded_job,
    training_job,
    unschedulable,
    waits,
    warning,
    written,
)

NEW_DIGEST = "ef" * 32
VERSION, NEW_VERSION = DIGEST[:12], NEW_DIGEST[:12]


def live(plan: Plan, replicas: int, updated: int, ready: int, **extra: Any) -> Obj:
    """The Deployment as the plan wants it, with its controller's figures."""
    manifest = manifest_of(plan, "Deployment")
    metadata = manifest["metadata"] | {"generation": 1, "uid": "uid-deployment"}
    figures = {
        "replicas": replicas,
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": ready,
    }
    status = {"observedGeneration": 1} | {name: value for name, value in figures.items() if value}
    return {**manifest, "metadata": metadata, "status": status | extra}


def server(deployment: Obj, version: str = VERSION, **parts: Any) -> Obj:
    one = pod(deployment, **parts)
    one["metadata"]["labels"]["lepton.ai/version"] = version
    return one


def serving(**spec: Any) -> tuple[Observed, Plan]:
    """A model that is up, as seen after its status was written."""
    obj = model(**spec)
    job = succeeded_job()
    count = spec.get("replicas", 1)
    deployment = live(decide(observe(obj, training_job=job)), count, count, count)
    world = observe(obj, deployment, training_job=job)
    plan = decide(world)
    return written(world, plan), plan


def seen(world: Observed, *children: Obj, job: Obj | None, **facts: Any) -> Observed:
    kept = [] if any(child.get("kind") == "Deployment" for child in children) else world.children.values()
    return observe(world.object, *kept, *children, training_job=job, **facts)


def with_spec(obj: Obj, **spec: Any) -> Obj:
    meta = obj["metadata"] | {"generation": obj["metadata"]["generation"] + 1}
    return {**obj, "metadata": meta, "spec": {**obj["spec"], **spec}}


# -- the version -------------------------------------------------------------------------------------


def test_a_missing_training_job_is_named_and_stalls_after_the_deadline() -> None:
    world = observe(model(startupDeadlineSeconds=100))
    plan = decide(world)
    assert stands(plan) == ("Reconciling", "TrainingJobNotFound")
    assert "create it" in row(plan)["message"]
    assert plan.status["replicasReady"] == "0/1"
    assert plan.actions == ()
    assert stands(decide(written(world, plan), NOW + 100)) == ("Stalled", "TrainingJobNotFound")


@pytest.mark.parametrize(
    ("rows", "stands_as"),
    [
        ([], ("Reconciling", "TrainingJobNotReady")),
        ([condition("Succeeded", "Unknown", "Training")], ("Reconciling", "TrainingJobNotReady")),
        (
            [condition("Succeeded", "Unknown", "Unschedulable"), condition("Stalled", "True")],
            ("Reconciling", "TrainingJobNotReady"),
        ),
        (
            [condition("Succeeded", "False", "Diverged", "NaN"), condition("Stalled", "True")],
            ("Stalled", "TrainingJobFailed"),
        ),
    ],
)
def test_a_job_without_a_version_is_waited_for(rows: list[Obj], stands_as: tuple[str, str]) -> None:
    job = training_job() | {"status": {"conditions": rows}}
    plan = decide(observe(model(), training_job=job))
    assert stands(plan) == stands_as
    assert plan.actions == ()
    for one in rows[:1]:
        assert f"({one['reason']})" in row(plan)["message"]
        # Its message is told when a person must act; while it runs, it changes too often.
        assert (f": {one['message']}" in row(plan)["message"]) == (len(rows) > 1)


def test_the_version_of_a_job_is_pinned_and_rolled_out() -> None:
    plan = decide(observe(model(replicas=2), training_job=succeeded_job()))
    assert stands(plan) == ("Reconciling", "RollingOut")
    assert (
        made(plan, "Deployment") == made(plan, "Service") == made(plan, "PodDisruptionBudget") == ["answers"]
    )
    status = plan.status
    assert (status["version"], status["accuracy"]) == (VERSION, 0.97)
    assert status["url"] == "http://answers.team.svc"
    assert status["selector"] == "lepton.ai/name=answers,lepton.ai/uid=uid-answers"
    assert status["artifact"] == {
        "digest": DIGEST,
        "claimName": "lepton-store",
        "path": f"models/{DIGEST}",
        "trainingJob": "cnn",
        "trainingJobUid": "uid-cnn",
        "engine": "litert",
        "precision": "float32",
    }


def test_the_pinned_version_is_served_when_its_job_is_deleted() -> None:
    world, plan = serving()
    after = decide(seen(world, job=None), NOW + 100)
    assert stands(after) == ("Done", "Serving")
    assert after.status == plan.status
    assert after.events == ()


def test_a_lost_status_is_found_again_in_the_deployment_when_the_job_is_gone_too() -> None:
    world, plan = serving()
    obj = {name: value for name, value in world.object.items() if name != "status"}
    after = decide(observe(obj, *world.children.values()), NOW + 100)
    assert stands(after) == ("Done", "Serving")
    assert after.status["artifact"] == plan.status["artifact"]
    assert after.status["version"] == VERSION


def test_a_note_edited_by_hand_is_as_good_as_none() -> None:
    world, _ = serving()
    obj = {name: value for name, value in world.object.items() if name != "status"}
    child = next(held for (kind, _), held in world.children.items() if kind == "Deployment")
    notes = {**child["metadata"]["annotations"], "lepton.ai/artifact": '{"digest": 7}'}
    edited = {**child, "metadata": {**child["metadata"], "annotations": notes}}
    after = decide(observe(obj, edited), NOW + 100)
    assert stands(after)[1] == "TrainingJobNotFound"


def test_a_job_of_the_same_name_that_trains_anew_leaves_the_old_version_up() -> None:
    world, _ = serving()
    again = training_job() | {"status": {"conditions": [condition("Succeeded", "Unknown", "Training")]}}
    plan = decide(seen(world, job=again))
    assert stands(plan) == ("Reconciling", "TrainingJobNotReady")
    assert states(plan.status)["Available"] == "True"
    assert plan.status["version"] == VERSION
    assert "not all of them with the wanted version" in row(plan, "Available")["message"]
    assert made(plan, "Deployment"), "its scale and resources still follow the spec"


def test_a_new_version_from_a_job_made_anew_is_rolled_out() -> None:
    world, _ = serving()
    plan = decide(seen(world, job=succeeded_job(NEW_DIGEST, "uid-2", 0.99)))
    assert stands(plan) == ("Reconciling", "RollingOut")
    assert (plan.status["version"], plan.status["accuracy"]) == (NEW_VERSION, 0.99)
    assert plan.status["artifact"]["trainingJobUid"] == "uid-2"
    assert states(plan.status)["Available"] == "True"
    assert plan.status["updatedReplicas"] == 0


def test_another_job_that_is_not_there_leaves_the_old_version_up() -> None:
    world, _ = serving()
    obj = with_spec(world.object, source={"trainingJob": {"name": "other"}})
    plan = decide(observe(obj, *world.children.values()))
    assert stands(plan) == ("Reconciling", "TrainingJobNotFound")
    assert plan.status["version"] == VERSION
    assert states(plan.status)["Available"] == "True"


@pytest.mark.parametrize(
    ("source", "artifact"),
    [
        (
            {"uri": "https://example.org/m.tar.gz", "sha256": DIGEST},
            {"digest": DIGEST, "uri": "https://example.org/m.tar.gz"},
        ),
        (
            {"uri": "pvc://models/a/b", "sha256": DIGEST},
            {"digest": DIGEST, "claimName": "models", "path": "a/b", "uri": "pvc://models/a/b"},
        ),
        ({"uri": "pvc://models"}, {"claimName": "models", "path": "", "uri": "pvc://models"}),
    ],
)
def test_versions_by_uri(source: Obj, artifact: Obj) -> None:
    plan = decide(observe(model(source=source)))
    assert stands(plan) == ("Reconciling", "RollingOut")
    assert plan.status["artifact"] == artifact | {"engine": "litert", "precision": "float32"}
    assert len(plan.status["version"]) == 12
    assert int(plan.status["version"], 16)
    assert "accuracy" not in plan.status


def test_the_claim_of_a_uri_that_is_missing_is_told() -> None:
    obj = model(source={"uri": "pvc://models/a"})
    deployment = live(decide(observe(obj)), 1, 1, 0)
    plan = decide(observe(obj, deployment, claims={"models": None}))
    assert stands(plan) == ("Reconciling", "SourceNotFound")
    assert claims_needed({**obj, "status": plan.status}) == ("models",)


def test_no_claim_is_read_for_a_model_that_is_up() -> None:
    world, _ = serving()
    assert claims_needed(world.object) == ()
    assert claims_needed(model()) == ()


# -- the rollout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [0, 1, 2])
def test_all_replicas_of_the_wanted_version_are_success(replicas: int) -> None:
    _, plan = serving(replicas=replicas)
    assert stands(plan) == ("Done", "Serving" if replicas else "ScaledToZero")
    assert states(plan.status)["Available"] == ("True" if replicas else "False")
    assert plan.status["replicasReady"] == f"{replicas}/{replicas}"
    assert made(plan, "PodDisruptionBudget") == (["answers"] if replicas == 2 else [])
    assert plan.requeue_after is None


@pytest.mark.parametrize(
    ("replicas", "updated", "ready"),
    [(0, 0, 0), (1, 1, 1), (2, 1, 2), (3, 2, 3), (3, 3, 3), (2, 2, 1), (2, 2, 0)],
)
def test_anything_else_is_a_rollout(replicas: int, updated: int, ready: int) -> None:
    obj = model(replicas=2)
    job = succeeded_job()
    deployment = live(decide(observe(obj, training_job=job)), replicas, updated, ready)
    plan = decide(observe(obj, deployment, training_job=job))
    assert stands(plan) == ("Reconciling", "RollingOut")
    assert states(plan.status)["Available"] == str(ready > 0)
    assert plan.status["replicasReady"] == f"{ready}/2"


def test_a_deployment_that_its_controller_has_not_seen_is_not_up() -> None:
    world, _ = serving()
    deployment = dict(world.children["Deployment", "answers"])
    deployment["metadata"] = deployment["metadata"] | {"generation": 2}
    plan = decide(seen(world, deployment, job=succeeded_job()))
    assert stands(plan) == ("Reconciling", "RollingOut")
    assert plan.status["updatedReplicas"] == 0


def test_a_quiet_model_is_quiet() -> None:
    world, plan = serving(replicas=2)
    later = decide(seen(world, job=succeeded_job()), NOW + 10_000)
    assert later.status == plan.status
    assert (later.events, later.requeue_after) == ((), None)


def test_a_budget_goes_when_one_replica_is_left() -> None:
    world, _ = serving(replicas=2)
    budget = {"kind": "PodDisruptionBudget", "metadata": {"name": "answers", "uid": "uid-budget"}}
    obj = with_spec(world.object, replicas=1)
    plan = decide(observe(obj, *world.children.values(), budget, training_job=succeeded_job()))
    assert deleted(plan) == ["answers"]
    assert stands(plan) == ("Reconciling", "RollingOut")


def test_a_new_version_that_fails_leaves_the_old_one_available() -> None:
    world, _ = serving(replicas=2, startupDeadlineSeconds=100)
    job = succeeded_job(NEW_DIGEST)
    plan = decide(seen(world, job=job))
    deployment = live(plan, 3, 1, 2)
    text = failed_text("ChecksumMismatch", "model.tflite is not what SHA256SUMS says")
    old = server(deployment, VERSION, name="old", containers=[STARTED], conditions=[is_ready()])
    new = server(deployment, NEW_VERSION, name="new", init=[ended(1, text)])
    failing = seen(written(world, plan), deployment, old, new, job=job)
    plan = decide(failing)
    assert stands(plan) == ("Reconciling", "ChecksumMismatch")
    assert states(plan.status) == {
        "Ready": "False",
        "Available": "True",
        "DriftDetected": "False",
        "Reconciling": "True",
        "Stalled": "False",
    }
    assert "2 pods answer, not all" in row(plan, "Available")["message"]
    stalled = decide(written(failing, plan), NOW + 100)
    assert stands(stalled) == ("Stalled", "ChecksumMismatch")
    assert states(stalled.status)["Available"] == "True"


@pytest.mark.parametrize(
    ("reason", "parts"),
    [
        ("Unschedulable", {"phase": "Pending", "conditions": [unschedulable()]}),
        ("ImagePullFailed", {"phase": "Pending", "containers": [waits("ImagePullBackOff", "gone")]}),
        (
            "OutOfMemory",
            {
                "containers": [
                    STARTED | {"ready": False} | {"lastState": ended(137, reason="OOMKilled")["state"]}
                ]
            },
        ),
        ("CrashLoop", {"containers": [waits("CrashLoopBackOff", lastState=ended(1, "boom")["state"])]}),
        ("CrashLoop", {"containers": [waits("CrashLoopBackOff", lastState=ended(0, "bye")["state"])]}),
    ],
)
def test_the_fault_of_a_new_pod_is_told(reason: str, parts: Obj) -> None:
    obj = model()
    job = succeeded_job()
    deployment = live(decide(observe(obj, training_job=job)), 1, 1, 0)
    plan = decide(observe(obj, deployment, server(deployment, **parts), training_job=job))
    assert stands(plan) == ("Reconciling", reason)


def test_a_pod_that_is_going_is_no_fault() -> None:
    world, _ = serving(replicas=2)
    deployment = dict(world.children["Deployment", "answers"])
    deployment["status"] = deployment["status"] | {"readyReplicas": 1, "availableReplicas": 1}
    going = server(deployment, deleting=True, containers=[ended(137)])
    plan = decide(seen(world, deployment, going, job=succeeded_job()))
    assert stands(plan) == ("Reconciling", "RollingOut")


def test_pods_that_are_refused_are_explained() -> None:
    obj = model()
    job = succeeded_job()
    quiet = live(decide(observe(obj, training_job=job)), 0, 0, 0)
    told = warning("ReplicaSet", "answers-5d4f", "FailedCreate", "exceeded quota: small")
    plan = decide(observe(obj, quiet, training_job=job, warnings=(told,)))
    assert stands(plan) == ("Reconciling", "QuotaExceeded")
    failure = {"type": "ReplicaFailure", "status": "True", "message": "violates PodSecurity"}
    loud = {**quiet, "status": {**quiet["status"], "conditions": [failure]}}
    assert stands(decide(observe(obj, loud, training_job=job))) == ("Reconciling", "AdmissionDenied")


def test_a_pod_that_never_becomes_ready_stalls_the_rollout() -> None:
    obj = model(startupDeadlineSeconds=100)
    job = succeeded_job()
    deployment = live(decide(observe(obj, training_job=job)), 1, 1, 0)
    silent = server(deployment, containers=[STARTED | {"ready": False}])
    world = observe(obj, deployment, silent, training_job=job)
    plan = decide(world)
    assert stands(plan) == ("Reconciling", "RollingOut")
    stalled = decide(written(world, plan), NOW + 100)
    assert stands(stalled) == ("Stalled", "ProbeFailing")
    up = observe({**obj, "status": stalled.status}, live(plan, 1, 1, 1), training_job=job)
    assert stands(decide(up, NOW + 101)) == ("Done", "Serving")


def test_each_pod_that_becomes_ready_gives_the_rollout_more_time() -> None:
    obj = model(replicas=3, startupDeadlineSeconds=100)
    job = succeeded_job()
    first = decide(observe(obj, training_job=job))
    status = first.status
    for ready in (0, 1, 2):
        world = observe({**obj, "status": status}, live(first, 3, 3, ready), training_job=job)
        plan = decide(world, NOW + 90 * ready)
        assert stands(plan) == ("Reconciling", "RollingOut")
        status = plan.status
    assert stands(decide(written(world, plan), NOW + 280)) == ("Stalled", "StartupDeadlineExceeded")


def test_a_name_that_another_object_holds_is_told() -> None:
    plan = decide(
        observe(model(), training_job=succeeded_job(), refusals=(refused("NameConflict", "Service"),))
    )
    assert stands(plan) == ("Reconciling", "NameConflict")
    assert "Service" in row(plan)["message"]


def test_a_spec_of_other_crds_is_told_and_the_version_stays() -> None:
    world, _ = serving()
    plan = decide(observe({**world.object, "spec": {"replicas": -1}}, *world.children.values()))
    assert stands(plan) == ("Stalled", "InvalidSpec")
    assert plan.actions == ()
    assert plan.status["version"] == VERSION
    assert states(plan.status)["Available"] == "True"


def test_a_new_model_costs_few_status_writes_and_events() -> None:
    obj = model()
    job = succeeded_job()
    world = observe(obj, training_job=job)
    first = decide(world)
    deployment = live(first, 1, 1, 0)
    second = decide(observe({**obj, "status": first.status}, deployment, training_job=job))
    up = observe({**obj, "status": second.status}, live(first, 1, 1, 1), training_job=job)
    third = decide(up)
    assert [len(plan.events) for plan in (first, second, third)] == [1, 0, 1]
    assert [event.reason for event in (*first.events, *third.events)] == ["RollingOut", "Serving"]
