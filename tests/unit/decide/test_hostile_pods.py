"""Whatever a pod says, the status fits its schema: one that doesn't would be refused, again and again."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_operator.api import KINDS
from lepton_workloads.contract.outcome import Outcome, Report, parse_report
from tests.unit.builders import (
    STARTED,
    Obj,
    dataset,
    decide,
    ended,
    job_from,
    manifest_of,
    observe,
    pod,
    prepared_text,
    ready_dataset,
    trained_text,
    training_job,
)
from tests.unit.schema import problems, root_schema

STATUS = {kind.name: root_schema(kind)["properties"]["status"] for kind in KINDS}
TEXTS = st.text(max_size=20) | st.sampled_from(("x" * 65, "写" * 200, "\x1b[31m", "../../etc", "", "A" * 64))
STRANGE = st.one_of(
    TEXTS,
    st.integers(-5, 5),
    st.sampled_from((10**30, -(10**30), 2**63, 1e300, -1e-300, True, None)),
    st.lists(TEXTS, max_size=2),
    st.just(["写" * 41] * 64),
)

ANY = settings(deadline=None)


def fits(kind: str, status: Obj) -> None:
    assert problems(STATUS[kind], status) == []
    for row in status["conditions"]:
        assert row["message"].isprintable()
    assert largest(status) < 2**63
    assert len(json.dumps(status).encode()) < 64 * 1024


def largest(value: Any) -> int:
    if isinstance(value, (dict, list)):
        return max(map(largest, value.values() if isinstance(value, dict) else value), default=0)
    return abs(value) if isinstance(value, int) else 0


def harmed(text: str, part: str, name: str, value: Any) -> str:
    """An outcome with one strange field; JSON may also hold NaN."""
    outcome = json.loads(text)
    outcome[part][name] = value
    return json.dumps(outcome)


@ANY
@given(st.sampled_from(sorted(json.loads(prepared_text())["prepare"])), STRANGE, st.sampled_from((0, 1, 3)))
def test_a_preparation_may_say_anything(name: str, value: Any, code: int) -> None:
    obj = dataset()
    job = job_from(manifest_of(decide(observe(obj))), "Failed" if code else "Complete")
    said = ended(code, harmed(prepared_text(), "prepare", name, value))
    phase = "Failed" if code else "Succeeded"
    fits(obj["kind"], decide(observe(obj, job, pod(job, phase=phase, containers=[said]))).status)


@ANY
@given(st.sampled_from(sorted(json.loads(trained_text())["train"])), STRANGE)
def test_a_training_may_say_anything(name: str, value: Any) -> None:
    obj = training_job()
    plan = decide(observe(obj, dataset=ready_dataset()))
    job = job_from(manifest_of(plan), "Complete")
    said = ended(0, harmed(trained_text(), "train", name, value), "Completed")
    world = observe(obj, job, pod(job, phase="Succeeded", containers=[said]), dataset=ready_dataset())
    fits(obj["kind"], decide(world).status)


@ANY
@given(TEXTS, TEXTS)
def test_a_failed_pod_may_say_anything(reason: str, message: str) -> None:
    obj = dataset()
    job = job_from(manifest_of(decide(observe(obj))), "Failed")
    for text in (message, json.dumps({"reason": reason, "message": message, "terminal": True})):
        said = ended(1, text)
        fits(obj["kind"], decide(observe(obj, job, pod(job, phase="Failed", containers=[said]))).status)


@ANY
@given(st.sampled_from(sorted(field.alias or "" for field in Report.model_fields.values())), STRANGE)
def test_a_report_may_hold_anything(name: str, value: Any) -> None:
    obj = training_job()
    job = job_from(manifest_of(decide(observe(obj, dataset=ready_dataset()))))
    body = {"ownerUid": obj["metadata"]["uid"], "phase": "Training", "epoch": 1, "epochs": 5, name: value}
    report = parse_report(body)
    worker = pod(job, phase="Running", containers=[STARTED])
    reports = {worker["metadata"]["uid"]: report} if report else {}
    fits(obj["kind"], decide(observe(obj, job, worker, dataset=ready_dataset(), reports=reports)).status)


def test_an_outcome_that_is_fine_is_believed() -> None:
    assert Outcome.model_validate_json(trained_text()).train
    assert Outcome.model_validate_json(prepared_text()).prepare
