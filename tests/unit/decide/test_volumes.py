"""spec.podTemplate.volumes: a claim that is missing is named at once, whatever the pods say."""

from collections.abc import Callable
from typing import Any

import pytest

from lepton_operator.decide import dataset as decide_dataset
from lepton_operator.decide import model as decide_model
from lepton_operator.decide import training_job as decide_training_job
from tests.unit.builders import (
    Obj,
    dataset,
    decide,
    job_from,
    kept_claims,
    manifest_of,
    model,
    observe,
    ready_dataset,
    row,
    stands,
    succeeded_job,
    training_job,
)
from tests.unit.decide.test_model import live

TEMPLATE = {
    "volumes": [
        {"name": "shm", "mountPath": "/dev/shm", "emptyDir": {"medium": "Memory"}},
        {"name": "words", "mountPath": "/words", "persistentVolumeClaim": {"claimName": "words"}},
    ]
}
KINDS: dict[str, tuple[Callable[..., Obj], Any, dict[str, Any]]] = {
    "dataset": (dataset, decide_dataset, {}),
    "training job": (training_job, decide_training_job, {"dataset": ready_dataset()}),
    "model": (model, decide_model, {"training_job": succeeded_job()}),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_missing_claim_of_the_pods_is_told(name: str) -> None:
    make, module, around = KINDS[name]
    obj = make(podTemplate=TEMPLATE)
    first = decide(observe(obj, **around))
    child = live(first, 1, 1, 0) if name == "model" else job_from(manifest_of(first))
    plan = decide(observe({**obj, "status": first.status}, child, claims={"words": None}, **around))
    assert stands(plan) == ("Reconciling", "SourceNotFound")
    assert "PersistentVolumeClaim words does not exist in this namespace: create it" in row(plan)["message"]
    assert kept_claims(plan) == []
    assert "words" in module.claims_needed({**obj, "status": plan.status})
    cured = decide(observe({**obj, "status": plan.status}, child, claims={"words": {"status": {}}}, **around))
    assert stands(cured)[1] != "SourceNotFound"
