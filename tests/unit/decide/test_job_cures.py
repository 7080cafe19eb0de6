"""A Job is never changed: when it is made anew, and when it is left alone."""

from dataclasses import replace

import pytest

from lepton_operator.actions import Create
from lepton_operator.facts import Observed
from tests.unit.builders import (
    CONTEXT,
    STARTED,
    Obj,
    dataset,
    decide,
    deleted,
    disrupted,
    job_from,
    manifest_of,
    observe,
    pod,
    ready_dataset,
    stands,
    training_job,
    waits,
    warning,
    written,
)

CORRECTED = replace(CONTEXT, trainer_image="trainer:2", server_image="server:2")
PULLING = {"phase": "Pending", "containers": [waits("ErrImagePull", "not found")]}
CREATING = {"phase": "Pending", "containers": [waits("ContainerCreating")]}


def world(obj: Obj, **parts: object) -> Observed:
    """The Job that was made with CONTEXT, and its pod."""
    facts = observe(obj, dataset=ready_dataset())
    plan = decide(facts)
    job = job_from(next(dict(action.manifest) for action in plan.actions if isinstance(action, Create)
                        and action.manifest["kind"] == "Job"))  # fmt: skip
    return written(observe(obj, job, pod(job, **parts), dataset=ready_dataset()), plan)


@pytest.mark.parametrize("obj", [dataset(), training_job()], ids=["dataset", "training"])
def test_a_job_with_an_image_that_was_corrected_is_made_anew(obj: Obj) -> None:
    facts = world(obj, **PULLING)
    job = next(name for kind, name in facts.children if kind == "Job")
    assert deleted(decide(facts)) == [], "the settings still name that image"
    plan = decide(facts, context=CORRECTED)
    assert stands(plan) == ("Reconciling", "ImagePullFailed")
    assert deleted(plan) == [job]


@pytest.mark.parametrize("obj", [dataset(), training_job()], ids=["dataset", "training"])
def test_new_settings_disturb_no_job_that_has_its_image(obj: Obj) -> None:
    assert deleted(decide(world(obj, **CREATING), context=CORRECTED)) == []


def test_the_new_job_has_the_new_image() -> None:
    plan = decide(observe(dataset()), context=CORRECTED)
    containers = manifest_of(plan)["spec"]["template"]["spec"]["containers"]
    assert [container["image"] for container in containers] == ["server:2"]


SILENT_NODE = [{"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "False"}]


def test_a_dataset_waits_for_a_silent_node_and_goes_on_without_a_lost_one() -> None:
    silent = world(dataset(), containers=[STARTED], conditions=SILENT_NODE)
    plan = decide(silent)
    assert (stands(plan)[1], deleted(plan)) == ("NodeLost", [])
    gone = [*SILENT_NODE, disrupted("DeletionByTaintManager")]
    plan = decide(world(dataset(), containers=[STARTED], conditions=gone))
    assert stands(plan)[1] == "NodeLost"
    assert len(deleted(plan)) == 1


def test_pods_that_are_missing_beside_others_are_told() -> None:
    facts = world(dataset(parallelism=2), containers=[STARTED])
    job = next(name for kind, name in facts.children if kind == "Job")
    told = replace(facts, warnings=(warning("Job", job, "FailedCreate", "exceeded quota: small"),))
    assert stands(decide(facts))[1] == "Preparing"
    assert stands(decide(told))[1] == "QuotaExceeded"
