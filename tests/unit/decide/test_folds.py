"""Cross-validation: a Job a fold, some at a time; figures of all; no fold twice."""

from dataclasses import replace
from typing import Any

import pytest

from lepton_operator.conditions import seconds
from lepton_operator.facts import Observed
from lepton_workloads.contract.outcome import FoldResult, Outcome
from lepton_workloads.contract.tasks import TrainTask
from tests.unit.builders import (
    NOW,
    STARTED,
    Obj,
    decide,
    deleted,
    ended,
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
    written,
)


def fold_text(fold: int, accuracy: float) -> str:
    result = FoldResult(
        fold=fold, samples=30, accuracy=accuracy, loss=0.5, f1=accuracy, epochs=5, seconds=9.0
    )
    return Outcome(fold=result).to_json()


class Story:
    """A training job whose training is done, and the cluster around it."""

    def __init__(self, folds: int = 3, parallelism: int = 1, **spec: Any) -> None:
        validation = {"folds": folds, "parallelism": parallelism}
        obj = training_job(evaluation={"crossValidation": validation, **spec.pop("evaluation", {})}, **spec)
        job = job_from(manifest_of(decide(observe(obj, dataset=ready_dataset()))), "Complete")
        chief = pod(job, phase="Succeeded", containers=[ended(0, trained_text(), "Completed")])
        self.now = NOW
        self.plan: Any = None
        self.facts: Observed = observe(obj, job, chief)

    @property
    def status(self) -> Obj:
        return dict(self.facts.object["status"])

    @property
    def rows(self) -> list[Obj]:
        return list(self.status["evaluation"]["folds"])

    def visit(self, wait: float = 1.0) -> list[str]:
        """The operator comes by; the Jobs that it made are there from then on."""
        self.now += wait
        self.plan = plan = decide(self.facts, self.now)
        children = dict(self.facts.children)
        for name in deleted(plan):
            children.pop(("Job", name), None)
        for action in plan.actions:
            manifest = getattr(action, "manifest", {})
            if manifest.get("kind") == "Job" and "spec" in manifest:
                children["Job", manifest["metadata"]["name"]] = job_from(manifest)
        self.facts = replace(written(self.facts, plan), children=children)
        return made(plan)

    def end(self, name: str, code: int, text: str = "", **parts: Any) -> None:
        """A fold's pod ends, and its Job with it."""
        job = self.facts.children["Job", name]
        conditions = ("Complete",) if code == 0 else ("FailureTarget", "Failed")
        over = job_from({**job}, *conditions)
        phase = "Succeeded" if code == 0 else "Failed"
        one = pod(over, phase=phase, containers=[ended(code, text)], **parts)
        self.facts = replace(
            self.facts, children={**self.facts.children, ("Job", name): over}, pods=(*self.facts.pods, one)
        )


def test_folds_follow_the_training_one_after_the_other() -> None:
    story = Story(folds=3)
    assert story.visit() == ["cnn-f0-a1"]
    assert stands(story.plan) == ("Reconciling", "CrossValidating")
    assert story.status["result"], "the version is there already"
    assert story.visit() == []
    story.end("cnn-f0-a1", 0, fold_text(0, 0.9))
    assert story.visit() == ["cnn-f1-a1"]
    assert story.status["evaluation"]["completedFolds"] == "1/3"


def test_as_many_folds_as_wanted_run_at_the_same_time() -> None:
    story = Story(folds=5, parallelism=3)
    assert story.visit() == ["cnn-f0-a1", "cnn-f1-a1", "cnn-f2-a1"]
    assert story.visit() == []
    story.end("cnn-f1-a1", 0, fold_text(1, 0.9))
    assert story.visit() == ["cnn-f3-a1"]


def test_all_folds_give_mean_and_deviation() -> None:
    story = Story(folds=3, parallelism=3)
    story.visit()
    for fold, accuracy in enumerate((0.9, 0.8, 1.0)):
        story.end(f"cnn-f{fold}-a1", 0, fold_text(fold, accuracy))
    story.visit()
    assert stands(story.plan) == ("Done", "Succeeded")
    evaluation = story.status["evaluation"]
    assert evaluation["meanAccuracy"] == pytest.approx(0.9)
    assert evaluation["standardDeviation"] == pytest.approx(0.1)
    assert [one["accuracy"] for one in evaluation["folds"]] == [0.9, 0.8, 1.0]
    assert story.status["completionTime"]
    assert "0.9000 (standard deviation 0.1000) over 3 folds" in row(story.plan)["message"]


def test_a_fold_is_one_worker_that_knows_its_part() -> None:
    story = Story(folds=3, workers=2)
    [name] = story.visit()
    job = story.facts.children["Job", name]
    assert (job["spec"]["completions"], job["metadata"]["labels"]["lepton.ai/fold"]) == (1, "0")
    env = job["spec"]["template"]["spec"]["containers"][0]["env"]
    task = TrainTask.model_validate_json(env[0]["value"])
    assert task.fold is not None
    assert (task.fold.index, task.fold.folds, task.workers, len(task.peers)) == (0, 3, 1, 1)


def test_a_fold_that_fails_is_counted_and_tried_again_after_its_time() -> None:
    story = Story(folds=2, parallelism=2)
    story.visit()
    story.end("cnn-f0-a1", 1, "boom")
    assert story.visit() == []
    assert story.status["failures"] == 1
    assert story.rows[0]["failedAttempt"] == 1
    due = seconds(story.status["nextAttemptTime"])
    assert story.visit() == []
    story.now = due - 1
    assert story.visit() == ["cnn-f0-a2"]
    assert story.status["failures"] == 1


def test_a_fold_that_fails_too_often_ends_the_job_and_the_other_folds() -> None:
    story = Story(folds=2, parallelism=2, backoffLimit=0)
    story.visit()
    story.end("cnn-f0-a1", 1, "boom")
    story.visit()
    assert stands(story.plan) == ("Stalled", "BackoffLimitExceeded")
    assert deleted(story.plan) == ["cnn-f1-a1"]
    assert story.status["result"], "the version stays"
    assert story.visit() == []


def test_a_lost_result_of_a_fold_is_read_again() -> None:
    story = Story(folds=2)
    story.visit()
    job = story.facts.children["Job", "cnn-f0-a1"]
    children = {**story.facts.children, ("Job", "cnn-f0-a1"): job_from({**job}, "Complete")}
    story.facts = replace(story.facts, children=children)
    story.visit()
    assert story.status["disruptions"] == 1
    assert story.visit(wait=20) == ["cnn-f0-a2"]


def test_a_fold_whose_job_was_deleted_is_tried_again() -> None:
    story = Story(folds=2)
    story.visit()
    story.visit()
    story.facts = replace(story.facts, children={})
    story.visit()
    assert story.status["disruptions"] == 1
    assert story.visit(wait=20) == ["cnn-f0-a2"]


def test_suspending_ends_the_folds_and_resuming_goes_on_with_them() -> None:
    story = Story(folds=3, parallelism=2)
    story.visit()
    story.end("cnn-f0-a1", 0, fold_text(0, 0.9))
    obj = story.facts.object
    story.facts = replace(story.facts, object={**obj, "spec": {**obj["spec"], "suspend": True}})
    story.visit()
    assert stands(story.plan) == ("Reconciling", "Suspended")
    assert deleted(story.plan) == ["cnn-f1-a1"]
    obj = story.facts.object
    story.facts = replace(story.facts, object={**obj, "spec": {**obj["spec"], "suspend": False}})
    assert "cnn-f1-a2" in story.visit()
    assert "failures" not in story.status


@pytest.mark.parametrize(("least", "stand"), [(0.84, "Done"), (0.86, "Stalled")])
def test_a_gate_may_ask_for_the_mean_of_the_folds(least: float, stand: str) -> None:
    gate = {"metric": "crossValidationAccuracy", "atLeast": least}
    story = Story(folds=2, parallelism=2, evaluation={"gate": gate})
    story.visit()
    for fold, accuracy in enumerate((0.9, 0.8)):
        story.end(f"cnn-f{fold}-a1", 0, fold_text(fold, accuracy))
    story.visit()
    assert stands(story.plan)[0] == stand
    assert story.status["evaluation"]["gate"]["passed"] is (stand == "Done")


def test_a_gate_over_the_test_split_that_is_not_passed_trains_no_fold() -> None:
    story = Story(folds=2, evaluation={"gate": {"metric": "accuracy", "atLeast": 0.99}})
    chief = story.facts.pods[0]
    told = ended(0, trained_text(gate_value=0.97), "Completed") | {"name": "train"}
    chief["status"]["containerStatuses"] = [told]
    assert story.visit() == []
    assert stands(story.plan) == ("Stalled", "GateNotPassed")
    assert story.status["evaluation"]["gate"] == {
        "demand": "accuracy at least 0.99",
        "value": 0.97,
        "passed": False,
    }


def test_the_fault_of_a_folds_pod_is_named() -> None:
    story = Story(folds=2)
    [name] = story.visit()
    job = story.facts.children["Job", name]
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    story.facts = replace(story.facts, pods=(pod(job, phase="Pending", containers=[waiting]),))
    story.visit()
    assert stands(story.plan) == ("Reconciling", "ImagePullFailed")
    story.facts = replace(story.facts, pods=(pod(job, containers=[STARTED]),))
    story.visit()
    assert stands(story.plan) == ("Reconciling", "CrossValidating")
