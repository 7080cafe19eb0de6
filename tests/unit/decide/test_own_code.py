"""network.type: custom: the user's program runs in an init container, and is told of as Lepton's own training is."""

from dataclasses import replace
from typing import Any

import pytest

from lepton_workloads.contract.outcome import Report
from tests.unit.builders import (
    CONTEXT,
    NOW,
    STARTED,
    Obj,
    decide,
    deleted,
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
    waits,
)

IMAGE = "example.com/team/trainer:7"
OWN = {"type": "custom", "custom": {"image": IMAGE, "command": ["python", "/code/train.py"]}}
READY = {"name": "check", **ended(0, reason="Completed")}
REPORT = {"name": "report", **STARTED}
INITIALIZING = waits("PodInitializing")


def own_job(**spec: Any) -> tuple[Obj, Obj]:
    """A training job and the Job of its first attempt, as the decision makes it."""
    obj = training_job(network=OWN, **spec)
    return obj, job_from(manifest_of(decide(observe(obj, dataset=ready_dataset()))))


def worker(job: Obj, *init: Obj, phase: str = "Pending", **parts: Any) -> Obj:
    """A pod whose init containers have these states."""
    given = {"containers": [INITIALIZING]} | parts
    return pod(job, phase=phase, init=list(init), **given)


def failed(job: Obj) -> Obj:
    return job_from(job, "Failed", uid=job["metadata"]["uid"])


def test_own_code_at_work_counts_as_training_and_is_asked_for_its_progress() -> None:
    obj, job = own_job()
    one = worker(job, REPORT, READY, {"name": "train", **STARTED})
    report = Report(owner_uid="uid-cnn", epoch=2, epochs=9, done=3, total=10, loss=0.5, phase="Training")
    plan = decide(observe(obj, job, one, reports={one["metadata"]["uid"]: report}))
    assert stands(plan) == ("Reconciling", "Training")
    assert [pull.pod_name for pull in plan.pulls] == [one["metadata"]["name"]]
    assert plan.status["progress"]["epoch"] == "2/9"
    assert plan.status["loss"] == 0.5


@pytest.mark.parametrize(
    "init",
    [
        [],
        [REPORT, {"name": "check", **STARTED}, {"name": "train", **INITIALIZING}],
        [REPORT, READY, {"name": "train", **INITIALIZING}],
    ],
)
def test_a_pod_whose_own_code_has_not_begun_only_starts(init: list[Obj]) -> None:
    obj, job = own_job()
    plan = decide(observe(obj, job, worker(job, *init)))
    assert stands(plan) == ("Reconciling", "Starting")
    assert "0 of 1 workers run" in row(plan)["message"]
    assert plan.pulls == ()


def test_between_own_code_and_its_publishing_nothing_changes() -> None:
    obj, job = own_job()
    one = worker(job, REPORT, READY, {"name": "train", **ended(0, reason="Completed")})
    assert stands(decide(observe(obj, job, one))) == ("Reconciling", "Training")


def test_own_code_that_fails_is_named_with_its_last_words_and_starts_again() -> None:
    obj, job = own_job()
    end = ended(1, "epoch 3\nRuntimeError: no more patience\n")
    killed = {"name": "report", **ended(137)}
    one = worker(job, killed, READY, {"name": "train", **end}, phase="Failed")
    plan = decide(observe(obj, failed(job), one))
    assert stands(plan) == ("Reconciling", "ContainerFailed")
    for part in (
        "container train of pod cnn-train-a1-0",
        "exit code 1",
        "no more patience",
        "it starts again",
    ):
        assert part in row(plan)["message"]
    assert plan.status["failures"] == 1


@pytest.mark.parametrize(
    ("end", "reason", "text"),
    [
        (ended(3, "the labels are wrong\n"), "ContainerFailed", "the labels are wrong"),
        (ended(3, failed_text("Diverged", "the loss is nan", True)), "Diverged", "the loss is nan"),
        (
            ended(1, '{"reason": "TooFewCats", "message": "no cats", "terminal": true}'),
            "TooFewCats",
            "no cats",
        ),
    ],
)
def test_own_code_can_end_the_job_and_name_why(end: Obj, reason: str, text: str) -> None:
    obj, job = own_job()
    one = worker(job, REPORT, READY, {"name": "train", **end}, phase="Failed")
    plan = decide(observe(obj, failed(job), one))
    assert stands(plan) == ("Stalled", reason)
    assert text in row(plan)["message"]
    assert made(plan) == []


def test_what_publish_refuses_is_told() -> None:
    obj, job = own_job()
    said = failed_text("InvalidSpec", "left no result.json: write one", True)
    done = {"name": "train", **ended(0, reason="Completed")}
    one = worker(job, REPORT, READY, done, phase="Failed", containers=[ended(3, said)])
    plan = decide(observe(obj, failed(job), one))
    assert stands(plan) == ("Stalled", "InvalidSpec")
    assert "left no result.json" in row(plan)["message"]


def test_the_result_is_that_of_publish_and_the_lineage_names_the_users_image() -> None:
    obj, job = own_job()
    forged = {"name": "train", **ended(0, trained_text(test_accuracy=1.0), "Completed")}
    told = [ended(0, trained_text(test_accuracy=0.5), "Completed")]
    one = worker(job, REPORT, READY, forged, phase="Succeeded", containers=told)
    plan = decide(observe(obj, job_from(job, "Complete", uid=job["metadata"]["uid"]), one))
    assert stands(plan) == ("Done", "Succeeded")
    assert plan.status["accuracy"] == 0.5
    assert plan.status["lineage"]["image"] == IMAGE


def test_an_image_of_the_users_that_is_not_there_is_the_users_to_correct() -> None:
    obj, job = own_job()
    one = worker(job, REPORT, READY, {"name": "train", "image": IMAGE, **waits("ErrImagePull", "not found")})
    plan = decide(observe(obj, job, one))
    assert stands(plan) == ("Reconciling", "ImagePullFailed")
    assert f"image {IMAGE} can't be pulled" in row(plan)["message"]
    assert "correct it in spec.network.custom of a new training job" in row(plan)["message"]
    assert deleted(plan) == []


def test_another_server_image_in_the_settings_makes_an_attempt_anew_that_can_not_pull_it() -> None:
    obj, job = own_job()
    one = worker(job, {"name": "report", "image": "server:1", **waits("ErrImagePull", "not found")})
    context = replace(CONTEXT, server_image="server:2")
    assert deleted(decide(observe(obj, job, one), NOW, context)) == [job["metadata"]["name"]]
    context = replace(CONTEXT, trainer_image="trainer:2")
    assert deleted(decide(observe(obj, job, one), NOW, context)) == []


def test_the_sizes_of_the_network_say_nothing_beside_own_code() -> None:
    obj = training_job(network=OWN | {"convolutions": [8] * 8})
    assert made(decide(observe(obj, dataset=ready_dataset()))) == ["cnn-train-a1"]
