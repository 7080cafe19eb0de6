"""What may not be served as the spec says is held back, and what was served before goes on."""

from dataclasses import replace
from typing import Any

import pytest

from lepton_operator.actions import Plan
from lepton_operator.decide.model import claims_needed
from lepton_operator.facts import Observed
from lepton_workloads.contract.tasks import TASK_ENV, FetchTask, ServeTask
from tests.unit.builders import (
    DIGEST,
    STARTED,
    Obj,
    decide,
    ended,
    failed_text,
    made,
    manifest_of,
    model,
    observe,
    row,
    stands,
    states,
    succeeded_job,
    written,
)
from tests.unit.decide.test_model import NEW_DIGEST, NEW_VERSION, VERSION, live, server, with_spec

GATE = ("Stalled", "QuantizationGateNotPassed")


def job(int8: float | None = 0.969, full: float | None = 0.97, digest: str = DIGEST) -> Obj:
    """A job that tells of its version in 8 bits."""
    found = succeeded_job(digest)
    told = {"int8Accuracy": int8, "floatAccuracy": full}
    found["status"]["metrics"] = {name: value for name, value in told.items() if value is not None}
    return found


def served(plan: Plan) -> tuple[str, str, str]:
    """(version, engine, precision) that the Deployment of a plan serves."""
    pod = manifest_of(plan, "Deployment")["spec"]["template"]["spec"]
    tasks = [
        next(one["value"] for one in container["env"] if one["name"] == TASK_ENV)
        for container in (pod["containers"][0], pod["initContainers"][0])
    ]
    told, fetched = ServeTask.model_validate_json(tasks[0]), FetchTask.model_validate_json(tasks[1])
    assert (told.engine, told.precision) == (fetched.engine, fetched.precision)
    return told.version, told.engine, told.precision


def up(obj: Obj, source: Obj, **context: Any) -> Observed:
    """The model is served, and its status says so."""
    deployment = live(decide(observe(obj, training_job=source), **context), 1, 1, 1)
    world = observe(obj, deployment, server(deployment, containers=[STARTED]), training_job=source)
    plan = decide(world, **context)
    assert stands(plan) == ("Done", "Serving")
    return written(world, plan)


@pytest.mark.parametrize(
    ("int8", "full", "allowed", "passes"),
    [
        (0.969, 0.97, 0.005, True),
        (0.965, 0.97, 0.005, True),
        (0.9649, 0.97, 0.005, False),
        (0.977654, 0.98324, 0.98324 - 0.977654, True),
        (0.98, 0.97, 0.0, True),
        (0.969, 0.97, 0.0, False),
        (0.2, 0.97, 1.0, True),
    ],
)
def test_the_gate_goes_by_the_drop(int8: float, full: float, allowed: float, passes: bool) -> None:
    plan = decide(observe(model(precision="int8", maxAccuracyDrop=allowed), training_job=job(int8, full)))
    if passes:
        assert stands(plan) == ("Reconciling", "RollingOut")
        assert served(plan) == (VERSION, "litert", "int8")
    else:
        assert stands(plan) == GATE
        assert made(plan, "Deployment") == []


def test_a_gate_that_is_not_passed_says_both_figures_and_what_to_do() -> None:
    text = row(decide(observe(model(precision="int8"), training_job=job(0.95))))["message"]
    for part in ("0.95", "0.97", "0.02", "0.005", VERSION, "raise maxAccuracyDrop", "precision: float32"):
        assert part in text


@pytest.mark.parametrize(("int8", "full"), [(None, 0.97), (0.97, None), (None, None)])
def test_a_version_without_an_8_bit_network_is_not_served_in_8_bits(
    int8: float | None, full: float | None
) -> None:
    plan = decide(observe(model(precision="int8"), training_job=job(int8, full)))
    assert stands(plan) == GATE
    assert "write precision: float32" in row(plan)["message"]
    assert stands(decide(observe(model(), training_job=job(int8, full)))) == ("Reconciling", "RollingOut")


def test_the_old_version_goes_on_and_its_children_are_kept_up() -> None:
    world = up(model(precision="int8"), job())
    worse = replace(world, training_job=job(0.9, digest=NEW_DIGEST))
    plan = decide(worse)
    assert stands(plan) == GATE
    assert NEW_VERSION in row(plan)["message"]
    assert states(plan.status)["Available"] == "True"
    assert served(plan) == (VERSION, "litert", "int8")
    assert made(plan, "Service") == ["answers"]
    assert plan.status["version"] == VERSION
    cured = decide(replace(written(worse, plan), training_job=job(0.969, digest=NEW_DIGEST)))
    assert served(cured) == (NEW_VERSION, "litert", "int8")


def test_the_same_version_goes_on_in_32_bits_when_8_are_not_good_enough() -> None:
    world = up(model(), job(0.9))
    asked = replace(world, object=with_spec(world.object, precision="int8"))
    plan = decide(asked)
    assert stands(plan) == GATE
    assert served(plan) == (VERSION, "litert", "float32")
    allowed = replace(asked, object=with_spec(asked.object, precision="int8", maxAccuracyDrop=0.1))
    assert served(decide(allowed)) == (VERSION, "litert", "int8")
    back = replace(written(asked, plan), object=with_spec(world.object, precision="float32"))
    assert stands(decide(back)) == ("Done", "Serving")


def test_a_stricter_limit_holds_for_what_is_served_already() -> None:
    world = up(model(precision="int8"), job(0.968))
    plan = decide(replace(world, object=with_spec(world.object, maxAccuracyDrop=0.001)))
    assert stands(plan) == GATE
    assert served(plan) == (VERSION, "litert", "int8")
    assert manifest_of(plan, "Deployment")["spec"] == world.children["Deployment", "answers"]["spec"]


def test_the_figures_outlive_the_job() -> None:
    world = replace(up(model(precision="int8"), job()), training_job=None)
    assert stands(decide(world)) == ("Done", "Serving")
    assert stands(decide(replace(world, object=with_spec(world.object, maxAccuracyDrop=0.0)))) == GATE


def test_what_is_waited_for_is_told_first() -> None:
    world = up(model(), job(0.9))
    obj = with_spec(world.object, precision="int8", source={"trainingJob": {"name": "other"}})
    plan = decide(replace(world, object=obj, training_job=None))
    assert stands(plan) == ("Reconciling", "TrainingJobNotFound")
    assert served(plan) == (VERSION, "litert", "float32")


def test_an_address_is_judged_where_it_is_fetched() -> None:
    obj = model(source={"uri": "pvc://models/a"}, precision="int8")
    plan = decide(observe(obj))
    assert served(plan)[1:] == ("litert", "int8")
    deployment = live(plan, 1, 1, 0)
    text = failed_text("QuantizationGateNotPassed", "accuracy 0.95 in 8 bits, 0.97 in 32", terminal=True)
    failing = server(deployment, plan.status["version"], phase="Pending", init=[ended(3, text)])
    told = decide(observe(obj, deployment, failing))
    assert stands(told) == GATE
    assert "0.95 in 8 bits" in row(told)["message"]


def test_tensorflow_is_served_from_the_trainers_image() -> None:
    plan = decide(observe(model(engine="tensorflow"), training_job=job()))
    assert served(plan) == (VERSION, "tensorflow", "float32")


def test_the_claim_for_requests_that_is_missing_is_told() -> None:
    obj = model(requestLog={"claimName": "kept"})
    deployment = live(decide(observe(obj, training_job=job())), 1, 1, 0)
    plan = decide(observe(obj, deployment, training_job=job(), claims={"kept": None}))
    assert stands(plan) == ("Reconciling", "SourceNotFound")
    assert "PersistentVolumeClaim kept" in row(plan)["message"]
    assert set(claims_needed({**obj, "status": plan.status})) == {"lepton-store", "kept"}
