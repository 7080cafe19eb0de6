"""The watch for drift: who is asked, what is said, how rarely it is written."""

from dataclasses import replace
from typing import Any

import pytest

from lepton_operator.actions import Plan
from lepton_operator.facts import Observed
from lepton_workloads.contract.outcome import DriftFigures, Report
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
    written,
)
from tests.unit.decide.test_model import NEW_DIGEST, live, server, with_spec

WATCH: Obj = {"drift": {}}


def world(count: int = 1, spec: Obj | None = None, **parts: Any) -> Observed:
    """A model that is up on so many pods."""
    obj = model(**{"replicas": count} | (WATCH if spec is None else spec))
    job = succeeded_job()
    deployment = live(decide(observe(obj, training_job=job)), count, count, count)
    usual = {"containers": [STARTED], "conditions": [is_ready()]}
    pods = [server(deployment, name=f"p{number}", **usual | parts) for number in range(count)]
    return observe(obj, deployment, *pods, training_job=job)


def heard(facts: Observed, **pods: DriftFigures | None) -> Observed:
    """The same with the last reports of these pods."""
    reports = {
        f"uid-{name}": Report(owner_uid="uid-answers", phase="Serving", drift=told)
        for name, told in pods.items()
    }
    return replace(facts, reports=reports)


def figures(samples: int = 1000, drifting: bool = False, **indexes: float) -> DriftFigures:
    return DriftFigures(samples=samples, drifting=drifting, indexes=indexes)


def said(plan: Plan) -> tuple[str, str]:
    """(status, reason) of the condition."""
    told = row(plan, "DriftDetected")
    return told["status"], told["reason"]


# -- who is asked ------------------------------------------------------------------------------------


def test_nobody_is_asked_unless_drift_is_watched() -> None:
    plan = decide(world(2, spec={}))
    assert (plan.pulls, plan.requeue_after) == ((), None)
    assert said(plan) == ("False", "NotWatched")
    assert "drift" not in plan.status


def test_ready_pods_are_asked_once_a_minute() -> None:
    plan = decide(world(2))
    assert [(pull.pod_name, pull.interval_seconds) for pull in plan.pulls] == [("p0", 60), ("p1", 60)]
    assert plan.requeue_after is not None
    assert 60 <= plan.requeue_after <= 72


def test_models_are_not_asked_all_at_the_same_time() -> None:
    def due(number: int) -> float | None:
        facts = world()
        obj = {**facts.object, "metadata": {**facts.object["metadata"], "uid": f"uid-{number}"}}
        return decide(replace(facts, object=obj)).requeue_after

    assert len({due(number) for number in range(20)}) == 20
    assert due(1) == due(1)


@pytest.mark.parametrize("parts", [{"conditions": []}, {"deleting": True}, {"ip": ""}, {"phase": "Pending"}])
def test_a_pod_that_does_not_answer_is_not_asked(parts: Obj) -> None:
    plan = decide(world(**parts))
    assert plan.pulls == ()
    assert said(plan) == ("False", "TooFewSamples")


def test_a_pod_of_another_version_is_not_asked() -> None:
    """Its figures are about another reference."""
    facts = heard(world(), p0=figures(drifting=True, brightness=0.9))
    told = written(facts, decide(facts))
    plan = decide(replace(told, training_job=succeeded_job(NEW_DIGEST)))
    assert plan.pulls == ()
    assert said(plan) == ("False", "TooFewSamples")


def test_a_model_at_rest_asks_nobody() -> None:
    plan = decide(world(0))
    assert (plan.pulls, plan.requeue_after) == ((), None)
    assert (stands(plan)[1], *said(plan)) == ("ScaledToZero", "False", "TooFewSamples")


# -- what is said ------------------------------------------------------------------------------------


def test_a_drift_names_pod_figures_and_threshold() -> None:
    facts = heard(world(), p0=figures(1000, True, brightness=0.61, predicted=0.23, contrast=0.01))
    plan = decide(facts)
    assert said(plan) == ("True", "DriftDetected")
    text = row(plan, "DriftDetected")["message"]
    for part in ("p0", "brightness 0.61", "predicted 0.23", "threshold 0.2", "train on newer pictures"):
        assert part in text
    assert "contrast" not in text
    assert stands(plan) == ("Done", "Serving"), "it says nothing of readiness"
    drift = plan.status["drift"]
    assert (drift["pod"], drift["samples"], drift["largest"]) == ("p0", 1000, 0.61)
    assert drift["indexes"] == {"brightness": 0.61, "contrast": 0.01, "predicted": 0.23}


def test_the_worst_pod_is_told() -> None:
    facts = heard(
        world(3),
        p0=figures(1000, False, brightness=0.9),
        p1=figures(1000, True, brightness=0.3),
        p2=figures(400, False, brightness=5.0),
    )
    assert decide(facts).status["drift"]["pod"] == "p1", "one window above is no drift yet"
    calm = heard(facts, p0=figures(brightness=0.04), p1=figures(brightness=0.07), p2=figures(9, brightness=3))
    plan = decide(calm)
    assert (plan.status["drift"]["pod"], *said(plan)) == ("p1", "False", "NoDrift")


def test_a_drift_that_falls_lasts_until_the_server_says_that_it_is_over() -> None:
    plan = decide(heard(world(), p0=figures(1000, True, brightness=0.12)))
    assert said(plan) == ("True", "DriftDetected")
    assert "brightness 0.12" in row(plan, "DriftDetected")["message"]
    assert said(decide(heard(world(), p0=figures(1000, True)))) == ("True", "DriftDetected")


def test_too_few_pictures_say_nothing() -> None:
    plan = decide(heard(world(), p0=figures(120, brightness=3.0)))
    assert said(plan) == ("False", "TooFewSamples")
    assert "120 of the 1000" in row(plan, "DriftDetected")["message"]


def test_a_version_without_a_reference_can_not_be_watched() -> None:
    facts = heard(world(), p0=None)
    plan = decide(facts)
    assert said(plan) == ("False", "NoReference")
    assert "reference.json" in row(plan, "DriftDetected")["message"]
    anew = written(replace(facts, reports={}), plan)
    assert decide(anew).status == plan.status, "an operator that starts anew has no reports"


def test_pods_that_come_without_a_report_are_told_as_they_are() -> None:
    facts = world()
    first = decide(replace(facts, pods=()))
    assert "no pod of the wanted version answers" in row(first, "DriftDetected")["message"]
    plan = decide(replace(facts, object=written(facts, first).object))
    assert "no pod has told anything yet" in row(plan, "DriftDetected")["message"]
    rest = decide(replace(world(0), object=written(world(0), plan).object))
    assert row(rest, "DriftDetected")["message"] == row(first, "DriftDetected")["message"]


def test_a_report_of_another_owner_is_not_believed() -> None:
    facts = world()
    other = Report(owner_uid="another", drift=figures(1000, True, brightness=3.0))
    assert said(decide(replace(facts, reports={"uid-p0": other}))) == ("False", "TooFewSamples")


# -- events ------------------------------------------------------------------------------------------


def test_an_event_when_it_begins_and_when_it_ends() -> None:
    facts = heard(world(), p0=figures(brightness=0.04))
    calm = decide(facts)
    assert [event.reason for event in calm.events] == ["Serving"]
    begun = decide(heard(written(facts, calm), p0=figures(1000, True, brightness=0.5)))
    assert [(event.type, event.reason) for event in begun.events] == [("Warning", "DriftDetected")]
    assert begun.urgent
    over = decide(heard(written(facts, begun), p0=figures(brightness=0.05)))
    assert [(event.type, event.reason) for event in over.events] == [("Normal", "NoDrift")]
    assert said(over) == ("False", "NoDrift")


def test_who_watches_no_more_is_told_of_no_drift() -> None:
    facts = heard(world(), p0=figures(1000, True, brightness=0.5))
    told = written(facts, decide(facts))
    plan = decide(replace(told, object=with_spec(told.object, drift=None)))
    assert said(plan) == ("False", "NotWatched")
    assert "drift" not in plan.status


# -- how rarely it is written ------------------------------------------------------------------------


def test_figures_are_written_every_ten_minutes_at_most() -> None:
    facts = heard(world(), p0=figures(1000, brightness=0.04))
    first = decide(facts)
    facts = heard(written(facts, first), p0=figures(1000, brightness=0.05))
    assert decide(facts, NOW + 599).status == first.status
    later = decide(facts, NOW + 600)
    assert later.status["drift"]["indexes"] == {"brightness": 0.05}
    assert "0.05" in row(later, "DriftDetected")["message"]
    assert not later.urgent
    assert later.events == ()


def test_the_same_figures_are_never_written_again() -> None:
    facts = heard(world(), p0=figures(120))
    first = decide(facts)
    assert decide(written(facts, first), NOW + 86_400).status == first.status


def test_a_new_verdict_does_not_wait() -> None:
    facts = heard(world(), p0=figures(1000, brightness=0.04))
    first = decide(facts)
    plan = decide(heard(written(facts, first), p0=figures(1000, True, brightness=0.7)), NOW + 60)
    assert said(plan) == ("True", "DriftDetected")
    assert plan.status["drift"]["largest"] == 0.7


def test_an_operator_that_starts_anew_says_what_was_said() -> None:
    """Its reports are lost; half of them are no verdict either."""
    facts = heard(world(2), p0=figures(brightness=0.01), p1=figures(1000, True, brightness=0.7))
    first = decide(facts)
    after = written(facts, first)
    for reports in ({}, {"p0": figures(brightness=0.02)}):
        plan = decide(heard(after, **reports), NOW + 5000)
        assert plan.status == first.status
        assert plan.events == ()
        assert len(plan.pulls) == 2
    over = decide(heard(after, p0=figures(brightness=0.02), p1=figures(brightness=0.03)), NOW + 5000)
    assert said(over) == ("False", "NoDrift")


def test_a_pod_that_is_not_ready_for_a_moment_changes_nothing() -> None:
    facts = heard(world(), p0=figures(1000, True, brightness=0.7))
    first = decide(facts)
    unready = heard(world(conditions=[]), p0=figures(1000, True, brightness=0.7))
    plan = decide(replace(unready, object=written(facts, first).object))
    assert said(plan) == ("True", "DriftDetected")
    assert plan.status["drift"] == first.status["drift"]
