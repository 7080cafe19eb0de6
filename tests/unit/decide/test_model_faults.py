"""LeptonModel: which pods' faults count, and for how long."""

from dataclasses import replace
from typing import Any

import pytest

from lepton_operator.conditions import timestamp
from tests.unit.builders import (
    NOW,
    STARTED,
    Obj,
    decide,
    is_ready,
    model,
    observe,
    row,
    stands,
    succeeded_job,
    waits,
    written,
)
from tests.unit.decide.test_model import live, server


def of_template(deployment: Obj, template: str, at: float, **parts: Any) -> Obj:
    """A pod of the wanted version that a ReplicaSet made."""
    one = server(deployment, name=f"answers-{template}", **parts)
    one["metadata"]["labels"]["pod-template-hash"] = template
    one["metadata"]["creationTimestamp"] = timestamp(at)
    one["spec"]["nodeName"] = "n1"
    return one


REFUSED = {
    "type": "ReplicaFailure",
    "status": "True",
    "message": "no PriorityClass with name nobody was found",
}


def test_a_fault_of_pods_that_are_being_replaced_is_over() -> None:
    obj, job = model(), succeeded_job()
    deployment = live(decide(observe(obj, training_job=job)), 2, 1, 0)
    broken = of_template(deployment, "old", NOW - 60, containers=[waits("ErrImagePull")])
    fresh = of_template(deployment, "new", NOW, phase="Pending", containers=[waits("ContainerCreating")])
    before = decide(observe(obj, deployment, broken, training_job=job))
    assert stands(before) == ("Reconciling", "ImagePullFailed")
    after = decide(observe(obj, deployment, broken, fresh, training_job=job))
    assert stands(after) == ("Reconciling", "RollingOut")


@pytest.mark.parametrize(("updated", "reason"), [(0, "AdmissionDenied"), (1, "RollingOut")])
def test_refused_pods_count_only_while_pods_of_the_wanted_template_are_missing(
    updated: int, reason: str
) -> None:
    obj, job = model(), succeeded_job()
    deployment = live(decide(observe(obj, training_job=job)), 1 + updated, updated, 1, conditions=[REFUSED])
    pods = [of_template(deployment, "old", NOW - 60, containers=[STARTED], conditions=[is_ready()])]
    if updated:
        pods.append(
            of_template(deployment, "new", NOW, phase="Pending", containers=[waits("ContainerCreating")])
        )
    assert stands(decide(observe(obj, deployment, *pods, training_job=job))) == ("Reconciling", reason)


def test_a_dead_pod_is_told_of_only_while_no_other_takes_its_place() -> None:
    obj, job = model(), succeeded_job()
    deployment = live(decide(observe(obj, training_job=job)), 1, 1, 0)
    dead = of_template(deployment, "one", NOW - 60, phase="Failed", reason="Evicted", message="low on memory")
    assert stands(decide(observe(obj, deployment, dead, training_job=job)))[1] == "Evicted"
    heir = of_template(deployment, "one", NOW, phase="Pending", containers=[waits("ContainerCreating")])
    heir["metadata"]["name"] += "-2"
    assert stands(decide(observe(obj, deployment, dead, heir, training_job=job)))[1] == "RollingOut"


def test_a_rollout_that_the_deployment_gave_up_is_stalled() -> None:
    obj, job = model(), succeeded_job()
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    deployment = live(decide(observe(obj, training_job=job)), 1, 1, 0, conditions=[late])
    waiting = of_template(deployment, "one", NOW, phase="Pending", containers=[waits("ContainerCreating")])
    plan = decide(observe(obj, deployment, waiting, training_job=job))
    assert stands(plan) == ("Stalled", "StartupDeadlineExceeded")
    assert "progressDeadlineSeconds" in row(plan)["message"]


def test_what_starts_after_a_stalled_fault_was_cured_has_the_whole_deadline() -> None:
    obj, job = model(startupDeadlineSeconds=100), succeeded_job()
    deployment = live(decide(observe(obj, training_job=job)), 1, 1, 0)
    broken = of_template(deployment, "one", NOW, phase="Pending", containers=[waits("ErrImagePull")])
    world = observe(obj, deployment, broken, training_job=job)
    stalled = written(world, decide(world))
    stalled = written(stalled, decide(stalled, NOW + 200))
    assert stands(decide(stalled, NOW + 200)) == ("Stalled", "ImagePullFailed")
    fresh = of_template(deployment, "one", NOW, phase="Pending", containers=[waits("ContainerCreating")])
    cured = replace(stalled, pods=(fresh,))
    assert stands(decide(cured, NOW + 201)) == ("Reconciling", "RollingOut")
    assert stands(decide(written(cured, decide(cured, NOW + 201)), NOW + 302)) == (
        "Stalled",
        "StartupDeadlineExceeded",
    )
