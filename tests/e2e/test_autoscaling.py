"""Models whose number of pods an autoscaler says, and what its pods get from spec.podTemplate."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.audit import child_writes
from tests.e2e.cluster import Namespace, Object, dataset, model, training_job, until
from tests.e2e.hands import content, visited

SCALING = {"minReplicas": 2, "maxReplicas": 4, "scaleDownStabilizationSeconds": 3600}
"""The autoscaler itself takes no pod away during the test."""

EXAMPLE = Path(__file__).parents[2] / "examples" / "02-autoscaling" / "model.yaml"

ADDITIONS: Object = {
    "labels": {"team": "vision"},
    "annotations": {"example.com/note": "any text, of any form"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [
        {"key": "example.com/gpu", "operator": "Exists"},
        {"key": "example.com/old", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60},
    ],
    "affinity": {
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 1,
                    "podAffinityTerm": {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"team": "vision"}},
                    },
                }
            ]
        }
    },
    "imagePullSecrets": [{"name": "nowhere"}],
    "schedulerName": "default-scheduler",
    "env": [
        {"name": "EMPTY", "value": ""},
        {"name": "PLAIN", "value": "of $(LEPTON_POD_NAME)"},
        {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "theirs", "key": "password"}}},
        {"name": "MISSING", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "x", "optional": True}}},
    ],
    "envFrom": [{"prefix": "ALL_", "secretRef": {"name": "theirs"}}],
    "volumes": [
        {
            "name": "shm",
            "mountPath": "/dev/shm",
            "emptyDir": {"medium": "Memory", "sizeLimit": "1024Ki"},
        },
        {"name": "keys", "mountPath": "/keys", "secret": {"secretName": "theirs"}},
        {"name": "missing", "mountPath": "/missing", "configMap": {"name": "no", "optional": True}},
        {
            "name": "all",
            "mountPath": "/all",
            "readOnly": True,
            "persistentVolumeClaim": {"claimName": "lepton-store"},
        },
    ],
}
CHANGED: Object = ADDITIONS | {
    "volumes": [
        {"name": "keys", "mountPath": "/keys", "configMap": {"name": "no", "optional": True}},
        {"name": "shm", "mountPath": "/other", "secret": {"secretName": "theirs"}},
    ]
}
"""Volumes of the same names that are something else."""
SECRET: Object = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "theirs"},
    "stringData": {"password": "open"},
}


@pytest.fixture(scope="module")
def trained(shared: Namespace) -> Namespace:
    """A namespace with a finished training job, `cnn`."""
    shared.apply(SECRET, dataset(), training_job(podTemplate=ADDITIONS))
    shared.wait("ltj/cnn", "Succeeded", 300)
    return shared


def pods(namespace: Namespace, name: str) -> set[str]:
    """uids of the model's pods that are not on their way out."""
    found = namespace.list("pods", f"lepton.ai/name={name},lepton.ai/kind=LeptonModel")
    return {pod["metadata"]["uid"] for pod in found if "deletionTimestamp" not in pod["metadata"]}


def replicas(namespace: Namespace, name: str) -> int:
    return int(namespace.get("deployment", name)["spec"]["replicas"])


def settled(namespace: Namespace, name: str, spec: Object) -> None:
    """Applies the spec and waits until exactly it is up."""
    namespace.apply(model(name, **spec))
    generation = namespace.get("lm", name)["metadata"]["generation"]
    until(
        lambda: namespace.get("lm", name).get("status", {}).get("observedGeneration") == generation,
        "that the new spec is seen",
    )
    namespace.wait(f"lm/{name}", "Ready")


def test_the_number_of_pods_is_handed_over_without_a_dip(trained: Namespace) -> None:
    settled(trained, "turns", {"replicas": 3})
    first = pods(trained, "turns")
    assert len(first) == 3
    settled(trained, "turns", {"autoscaling": SCALING})
    until(lambda: trained.get("hpa", "turns")["status"].get("currentReplicas") == 3, "the autoscaler at work")
    assert replicas(trained, "turns") == 3
    assert pods(trained, "turns") == first, "a number that nobody holds falls to 1 and takes pods away"
    settled(trained, "turns", {"replicas": 4})
    assert trained.find("hpa", "turns") is None
    assert first < pods(trained, "turns")
    settled(trained, "turns", {"autoscaling": SCALING})
    settled(trained, "turns", {"replicas": 3})
    assert len(pods(trained, "turns")) == 3
    trained.run("delete", "lm", "turns")


def test_an_autoscaler_wakes_a_model_that_was_at_zero(trained: Namespace) -> None:
    settled(trained, "sleeps", {"replicas": 0})
    assert trained.reason("lm", "sleeps") == "ScaledToZero"
    settled(trained, "sleeps", {"autoscaling": SCALING})
    assert trained.get("lm", "sleeps")["status"]["replicasReady"] == "2/2"
    trained.run("scale", "deployment/sleeps", "--replicas=0")
    until(lambda: replicas(trained, "sleeps") == 2, "that its least is back", 30)
    trained.run("delete", "lm", "sleeps")


def test_the_autoscalers_number_is_its_own(trained: Namespace) -> None:
    settled(trained, "moves", {"autoscaling": SCALING | {"minReplicas": 3}})
    assert trained.find("pdb", "moves")
    settled(trained, "moves", {"autoscaling": {"minReplicas": 1, "maxReplicas": 2}})
    until(lambda: replicas(trained, "moves") == 2, "that the autoscaler comes down to its most")
    trained.wait("lm/moves", "Ready")
    assert trained.find("pdb", "moves") is None
    owners = [
        row["manager"]
        for row in trained.managers("deployment", "moves")
        if "f:replicas" in row["fieldsV1"].get("f:spec", {})
    ]
    assert owners == ["kube-controller-manager"]
    written = child_writes(trained.name)
    visited(trained, "moves")
    assert child_writes(trained.name) == written
    assert replicas(trained, "moves") == 2
    trained.run("delete", "lm", "moves")


def test_the_example_is_served_and_scaled(trained: Namespace) -> None:
    example: Object = yaml.safe_load(EXAMPLE.read_text())
    name = example["metadata"]["name"]
    settled(trained, name, example["spec"] | {"source": {"trainingJob": {"name": "cnn"}}})
    spec = trained.get("hpa", name)["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 6)
    assert len(pods(trained, name)) == 2
    trained.run("delete", "lm", name)


def variables(namespace: Namespace, name: str) -> dict[str, Any]:
    """The environment of a server."""
    text = namespace.run("exec", f"deployment/{name}", "-c", "server", "--", "env")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_additions_reach_the_pods_and_are_in_the_form_of_the_api_server(trained: Namespace) -> None:
    settled(trained, "placed", {})
    bare = content(trained.get("deployment", "placed"))
    settled(trained, "placed", {"podTemplate": ADDITIONS})
    pod = trained.get("deployment", "placed")["spec"]["template"]
    assert pod["metadata"]["labels"]["team"] == "vision"
    assert pod["spec"]["nodeSelector"] == ADDITIONS["nodeSelector"]
    told = variables(trained, "placed")
    assert (told["EMPTY"], told["FROM_SECRET"], told["ALL_password"]) == ("", "open", "open")
    assert told["PLAIN"] == f"of {told['LEPTON_POD_NAME']}"
    assert "MISSING" not in told
    listed = trained.run(
        *("exec", "deployment/placed", "-c", "server", "--", "python", "-c"),
        "import os; print(open('/keys/password').read(), *os.listdir('/all'), os.statvfs('/dev/shm').f_blocks)",
    )
    assert listed.split()[0] == "open"
    assert {"datasets", "models"} <= set(listed.split())
    written = child_writes(trained.name)
    visited(trained, "placed")
    assert child_writes(trained.name) == written, "what was applied is found again"
    settled(trained, "placed", {"podTemplate": CHANGED})
    settled(trained, "placed", {})
    after = content(trained.get("deployment", "placed"))
    assert after == bare, "all additions are gone, and nothing else"
    trained.run("delete", "lm", "placed")
