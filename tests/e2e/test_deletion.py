"""Deleting any of the three at any moment leaves nothing but the stored data, and never hangs."""

from collections.abc import Iterator

import pytest

from demo.install import SYSTEM_NAMESPACE
from demo.kubectl import Kubectl
from tests.e2e.cluster import Namespace, dataset, model, training_job, until

REPLICAS = 2
"""Of the operator, as it is installed."""

STAGES = {
    "dataset while preparing": ("lds", "digits"),
    "training job while starting": ("ltj", "cnn"),
    "model while waiting": ("lm", "digits"),
}


def delete(namespace: Namespace, kind: str, name: str) -> None:
    """`kubectl delete` must come back by itself: nothing holds the object."""
    namespace.run("delete", kind, name, "--wait=true", "--timeout=20s", timeout=30)


def of(namespace: Namespace, kind: str) -> dict[str, str]:
    """Children of one kind."""
    items = namespace.list("jobs,pods,deployments,services,poddisruptionbudgets", f"lepton.ai/kind={kind}")
    return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["uid"] for item in items}


def test_a_dataset_is_deleted_while_it_is_prepared(namespace: Namespace) -> None:
    namespace.apply(dataset())
    until(lambda: of(namespace, "LeptonDataset"), "the first child")
    delete(namespace, "lds", "digits")
    namespace.wait_empty()
    assert namespace.find("pvc", "lepton-store")
    # The name is free again.
    namespace.apply(dataset())
    namespace.wait("lds/digits", "Ready")


def test_a_training_job_is_deleted_while_it_trains(namespace: Namespace) -> None:
    namespace.apply(dataset(), training_job(training={"epochs": 2000}))
    namespace.wait_reason("ltj", "cnn", "Training", "Succeeded", deadline=120)
    delete(namespace, "ltj", "cnn")
    until(lambda: not of(namespace, "LeptonTrainingJob"), "that the gang is gone", 90)
    assert namespace.condition("lds", "digits", "Ready")["status"] == "True"
    # The same name with another spec starts from nothing.
    namespace.apply(training_job())
    namespace.wait("ltj/cnn", "Succeeded", 240)
    assert namespace.get("ltj", "cnn")["status"]["attempt"] == 1


def test_a_model_is_deleted_while_it_waits_and_while_it_serves(namespace: Namespace) -> None:
    namespace.apply(model())
    namespace.wait_reason("lm", "digits", "TrainingJobNotFound")
    delete(namespace, "lm", "digits")
    namespace.apply(dataset(), training_job(), model(replicas=2))
    until(lambda: namespace.find("deployment", "digits"), "the Deployment", 240)
    delete(namespace, "lm", "digits")
    until(lambda: not of(namespace, "LeptonModel"), "that the pods are gone", 90)
    namespace.apply(model())
    namespace.wait("lm/digits", "Ready")
    delete(namespace, "lm", "digits")
    until(lambda: not of(namespace, "LeptonModel"), "that the pods are gone", 90)


@pytest.fixture
def operator_down(lepton: Kubectl) -> Iterator[None]:
    """The operator is scaled to nothing during the test."""
    scale(lepton, 0)
    try:
        yield
    finally:
        scale(lepton, REPLICAS)


def scale(kubectl: Kubectl, replicas: int) -> None:
    """Scales the operator and waits until it is so."""
    kubectl.run("scale", "deployment/lepton-operator", "-n", SYSTEM_NAMESPACE, f"--replicas={replicas}")
    selector = ("-l", "app.kubernetes.io/name=lepton-operator")

    def settled() -> bool:
        pods = kubectl.json("get", "pods", "-n", SYSTEM_NAMESPACE, *selector)["items"]
        ready = [
            pod
            for pod in pods
            for row in pod["status"].get("conditions", ())
            if row["type"] == "Ready"
            and row["status"] == "True"
            and "deletionTimestamp" not in pod["metadata"]
        ]
        return len(ready) == len(pods) == replicas

    until(settled, f"{replicas} operator pods", 90)


def test_deletion_works_while_the_operator_is_down(
    namespace: Namespace, lepton: Kubectl, request: pytest.FixtureRequest
) -> None:
    namespace.apply(dataset(), training_job(training={"epochs": 2000}), model())
    namespace.wait_reason("ltj", "cnn", "Training", "Succeeded", deadline=120)
    request.getfixturevalue("operator_down")
    for kind, name in STAGES.values():
        delete(namespace, kind, name)
    namespace.wait_empty()
    assert namespace.find("pvc", "lepton-store")
