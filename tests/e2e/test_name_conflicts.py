"""An object that has a child's name and is somebody else's is told of and never touched."""

import pytest

from tests.e2e.cluster import Namespace, Object, claim, dataset, manifest, model, training_job, until
from tests.e2e.hands import content

AUTOSCALING = {"minReplicas": 2, "maxReplicas": 3}
SOURCE = {"uri": "pvc://nowhere/model"}
"""Children are made before the version is there."""

OTHERS: dict[str, Object] = {
    "deployment": {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "a", "image": "example.com/a:1"}]},
            },
        },
    },
    "service": {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 1}]}},
    "poddisruptionbudget": {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "minAvailable": 0},
    },
    "horizontalpodautoscaler": {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "spec": {
            "maxReplicas": 2,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "another"},
        },
    },
}


def untouched(namespace: Namespace, kind: str, name: str, before: Object) -> None:
    """The operator has written nothing into the object, not even a field manager."""
    now = namespace.get(kind, name)
    assert content(now) == content(before)
    assert now["metadata"]["uid"] == before["metadata"]["uid"]
    assert not [row for row in namespace.managers(kind, name) if row["manager"].startswith("lepton")]


@pytest.mark.parametrize("marked", [False, True], ids=["plain", "with Lepton's labels"])
@pytest.mark.parametrize("kind", OTHERS)
def test_an_object_of_somebody_else_is_told_and_never_touched(
    shared: Namespace, kind: str, marked: bool
) -> None:
    name = f"taken-{kind[:6]}-{'marked' if marked else 'plain'}"
    labels = {"app.kubernetes.io/managed-by": "lepton", "lepton.ai/name": name} if marked else {"mine": "yes"}
    shared.apply(OTHERS[kind] | {"metadata": {"name": name, "labels": labels}})
    before = shared.get(kind, name)
    shared.apply(model(name, source=SOURCE, autoscaling=AUTOSCALING))
    row = shared.wait_reason("lm", name, "NameConflict")
    assert before["kind"] in row["message"]
    assert "delete or rename it" in row["message"]
    untouched(shared, kind, name, before)
    shared.run("delete", "lm", name)
    untouched(shared, kind, name, before)
    shared.apply(model(name, source=SOURCE, autoscaling=AUTOSCALING))
    shared.wait_reason("lm", name, "NameConflict")
    shared.run("delete", kind, name)
    until(lambda: shared.reason("lm", name) != "NameConflict", "that the name is free", 90)
    shared.run("delete", "lm", name)


def test_a_job_of_somebody_else_is_told_and_never_touched(shared: Namespace) -> None:
    container = {"name": "a", "image": "example.com/a:1"}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "taken-train-a1"},
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }
    shared.apply(job)
    before = shared.get("job", "taken-train-a1")
    shared.apply(dataset(), training_job("taken"))
    row = shared.wait_reason("ltj", "taken", "NameConflict", "Succeeded")
    assert "Job taken-train-a1" in row["message"]
    untouched(shared, "job", "taken-train-a1", before)
    shared.run("delete", "ltj", "taken")
    shared.run("delete", "job", "taken-train-a1")


def test_a_claim_under_the_stores_name_is_used_as_it_is(namespace: Namespace) -> None:
    namespace.apply(claim("lepton-store"))
    before = namespace.get("pvc", "lepton-store")["metadata"]["uid"]
    namespace.apply(manifest("LeptonDataset", "digits", {"source": {"builtin": "digits"}}))
    namespace.wait("lds/digits", "Ready")
    assert namespace.get("pvc", "lepton-store")["metadata"]["uid"] == before
    assert not [row for row in namespace.managers("pvc", "lepton-store") if row["manager"] == "lepton"]
