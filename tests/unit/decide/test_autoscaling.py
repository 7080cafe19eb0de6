"""LeptonModel with autoscaling: whose number counts, and what comes and goes with it."""

from typing import Any

from lepton_operator.actions import Apply, Delete, Plan
from lepton_operator.desired.autoscaler import ReplicaRange
from tests.unit.builders import Obj, decide, made, manifest_of, model, observe, row, stands, succeeded_job
from tests.unit.decide.test_model import live

SCALING = {"minReplicas": 2, "maxReplicas": 5}
AUTOSCALER = "HorizontalPodAutoscaler"


def scaled(replicas: int, **spec: Any) -> Plan:
    """What is decided when the autoscaler wants so many replicas, and all are up."""
    obj = model(**{"autoscaling": SCALING} | spec)
    first = decide(observe(obj, training_job=succeeded_job()))
    return decide(observe(obj, up(first, replicas), training_job=succeeded_job()))


def up(plan: Plan, replicas: int) -> Obj:
    deployment = live(plan, replicas, replicas, replicas)
    return deployment | {"spec": deployment["spec"] | {"replicas": replicas}}


def test_the_deployment_is_applied_without_a_number_and_may_have_any_of_the_range() -> None:
    plan = decide(observe(model(autoscaling=SCALING), training_job=succeeded_job()))
    first = plan.actions[0]
    assert isinstance(first, Apply)
    assert first.autoscaled == ReplicaRange(2, 5)
    assert "replicas" not in first.manifest["spec"]
    assert made(plan, AUTOSCALER) == ["answers"]
    assert plan.status["replicasReady"] == "0/2"


def test_ready_is_measured_by_what_the_autoscaler_wants() -> None:
    plan = scaled(4)
    assert stands(plan) == ("Done", "Serving")
    assert plan.status["replicasReady"] == "4/4"
    assert "on all 4 replicas" in row(plan)["message"]


def test_less_than_the_least_and_more_than_the_most_is_not_ready() -> None:
    assert stands(scaled(1)) == ("Reconciling", "RollingOut")
    assert scaled(1).status["replicasReady"] == "1/2"
    assert stands(scaled(6)) == ("Reconciling", "RollingOut")


def test_a_budget_comes_with_two_replicas_at_least() -> None:
    assert made(scaled(4), "PodDisruptionBudget") == ["answers"]
    alone = {"minReplicas": 1, "maxReplicas": 5}
    assert made(scaled(4, autoscaling=alone), "PodDisruptionBudget") == []


def test_a_fixed_number_takes_the_autoscaler_away_before_it_is_applied() -> None:
    obj = model(replicas=2)
    first = decide(observe(obj, training_job=succeeded_job()))
    held = {"kind": AUTOSCALER, "metadata": {"name": "answers", "uid": "uid-autoscaler"}}
    plan = decide(observe(obj, up(first, 5), held, training_job=succeeded_job()))
    assert plan.actions[0] == Delete(AUTOSCALER, "answers", "uid-autoscaler")
    assert isinstance(plan.actions[1], Apply)
    assert plan.actions[1].autoscaled is None
    assert manifest_of(plan, "Deployment")["spec"]["replicas"] == 2
    assert stands(plan) == ("Reconciling", "RollingOut")
