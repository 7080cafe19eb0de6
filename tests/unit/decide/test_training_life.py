"""A training through any order of failures, disruptions, deletions and crashes of the operator."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_operator.actions import Create, Delete, Plan
from lepton_operator.conditions import timestamp
from tests.unit.builders import (
    NOW,
    STARTED,
    Obj,
    decide,
    disrupted,
    ended,
    job_from,
    observe,
    pod,
    ready_dataset,
    stands,
    trained_text,
    training_job,
)

EVENTS = ["fails", "is disrupted", "loses its node", "loses its result", "Job deleted", "runs", "nothing"]
CRASHES = ["no crash", "before the actions", "after one action", "before the status"]


class World:
    """One training job and its children; the Job controller's part is played by the test."""

    def __init__(self) -> None:
        self.object: Obj = training_job(backoffLimit=100)
        self.jobs: dict[str, Obj] = {}
        self.pods: dict[str, Obj] = {}
        self.made: list[int] = []
        self.failures = 0
        self.now = NOW

    def visit(self, crash: str = "no crash") -> Plan | None:
        """As the reconciler does: decide, act, decide again on what is there now, write."""
        plan = self.decide()
        if crash == "before the actions":
            return None
        self.act(plan, 1 if crash == "after one action" else None)
        if crash != "no crash":
            return None
        plan = self.decide()
        self.object = {**self.object, "status": plan.status}
        return plan

    def decide(self) -> Plan:
        seen = observe(self.object, *self.jobs.values(), *self.pods.values(), dataset=ready_dataset())
        return decide(replace(seen, claims={"lepton-store": {}}), self.now)

    def act(self, plan: Plan, count: int | None) -> None:
        for action in plan.actions[:count]:
            if isinstance(action, Delete):
                self.delete(action.name)
            elif isinstance(action, Create) and action.manifest["kind"] == "Job":
                name = action.manifest["metadata"]["name"]
                if name not in self.jobs:
                    number = int(name.removeprefix("cnn-train-a"))
                    assert number > self.object["status"].get("attempt", 0), "no number is used twice"
                    self.made.append(number)
                    self.jobs[name] = job_from(action.manifest)
                    self.pods[name] = pod(self.jobs[name], phase="Pending")

    def delete(self, name: str) -> None:
        self.jobs.pop(name)
        self.pods.pop(name, None)

    def running(self) -> str | None:
        return next((name for name, job in self.jobs.items() if not job["status"]["conditions"]), None)

    def happens(self, event: str) -> None:
        name = self.running()
        if name is None or event == "nothing":
            return
        if event == "Job deleted":
            self.delete(name)
        elif event == "runs":
            self.pods[name] = pod(self.jobs[name], containers=[STARTED])
        elif event == "fails":
            self.failures += 1
            self.ends(name, "Failed", phase="Failed", containers=[ended(1, "boom")])
        elif event == "is disrupted":
            self.ends(name, "Failed", phase="Failed", conditions=[disrupted()])
        elif event == "loses its node":
            self.ends(name, "FailureTarget", conditions=[disrupted("DeletionByTaintManager")], deleting=True)
        elif event == "loses its result":
            self.ends(name, "Complete")
            del self.pods[name]
        elif event == "succeeds":
            self.ends(name, "Complete", phase="Succeeded", containers=[ended(0, trained_text())])

    def ends(self, name: str, condition: str, **parts: Any) -> None:
        row = {"type": condition, "status": "True", "lastTransitionTime": timestamp(self.now)}
        self.jobs[name] = {**self.jobs[name], "status": {"conditions": [row]}}
        self.pods[name] = pod(self.jobs[name], **parts)


steps = st.tuples(st.sampled_from(EVENTS), st.sampled_from(CRASHES), st.sampled_from([0.0, 3.0, 30.0, 400.0]))


@settings(deadline=None)
@given(st.lists(steps, max_size=12))
def test_it_ends_well_under_rising_numbers(life: list[tuple[str, str, float]]) -> None:
    world = World()
    for event, crash, seconds in life:
        world.happens(event)
        world.now += seconds
        world.visit(crash)
    for _ in range(4):
        world.happens("succeeds")
        plan = world.visit()
        world.now += 400
    assert plan is not None
    assert stands(plan) == ("Done", "Succeeded")
    assert plan.status.get("failures", 0) <= world.failures
    assert plan.status["attempt"] == world.made[-1] == max(world.made)
    assert world.running() is None, "no earlier attempt goes on"
