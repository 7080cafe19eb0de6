"""Jobs that somebody relabelled: which are looked for by name, and what is put right."""

from typing import Any

import pytest

from lepton_operator.actions import Apply, Plan
from lepton_operator.decide import dataset as decide_dataset
from lepton_operator.decide import training_job as decide_training_job
from tests.unit.builders import (
    Obj,
    dataset,
    decide,
    job_from,
    made,
    manifest_of,
    observe,
    ready_dataset,
    training_job,
    written,
)


def at_work(obj: Obj, **facts: Any) -> tuple[Obj, Plan]:
    """The object's status and the plan once its Job is there."""
    first = decide(observe(obj, **facts))
    world = observe(obj, job_from(manifest_of(first)), **facts)
    plan = decide(world)
    return dict(written(world, plan).object), plan


TRAINING = {"dataset": ready_dataset()}


def test_the_job_at_work_is_looked_for() -> None:
    obj, _ = at_work(dataset())
    assert decide_dataset.jobs_expected(obj) == (obj["status"]["jobName"],)
    obj, _ = at_work(training_job(), **TRAINING)
    assert decide_training_job.jobs_expected(obj) == ("cnn-train-a1",)


@pytest.mark.parametrize(
    "status", [{}, {"completionTime": "x", "attempt": 1}, {"attempt": 1, "failedAttempt": 1}]
)
def test_no_job_is_looked_for_where_none_should_be(status: Obj) -> None:
    assert decide_training_job.jobs_expected(training_job() | {"status": status}) == ()


def test_a_prepared_dataset_needs_no_job() -> None:
    obj = ready_dataset(jobName="digits-data-0fb2c1")
    assert decide_dataset.jobs_expected(obj) == ()
    assert decide_dataset.jobs_expected(dataset()) == ()


@pytest.mark.parametrize(("obj", "facts"), [(dataset(), {}), (training_job(), TRAINING)])
def test_a_job_at_work_gets_its_labels_back_and_nothing_else(obj: Obj, facts: Any) -> None:
    first = decide(observe(obj, **facts))
    _, plan = at_work(obj, **facts)
    (part,) = [action for action in plan.actions if isinstance(action, Apply) and not action.create]
    job = manifest_of(first)
    assert part.manifest["metadata"] == {
        "name": job["metadata"]["name"],
        "labels": job["metadata"]["labels"],
    }
    assert "spec" not in part.manifest
    assert made(plan) == []


def test_the_service_of_a_gang_is_kept_while_it_trains() -> None:
    _, plan = at_work(training_job(), **TRAINING)
    assert made(plan, "Service") == ["cnn-train"]
