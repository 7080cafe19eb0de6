"""Faults of what is around an object: quota, LimitRange, claim, the operator's images, a node."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from demo.display import Display
from demo.install import install
from demo.kubectl import Kubectl
from demo.setup import SYSTEM_NAMESPACE
from tests.e2e.cluster import Namespace, Object, claim, dataset, model, training_job, until
from tests.e2e.conftest import SETTINGS

ROOT = Path(__file__).parents[2]
MEMORY = {"requests": {"memory": "96Mi"}, "limits": {"memory": "512Mi"}}


def limit(kind: str, name: str, spec: Object) -> Object:
    """A ResourceQuota or LimitRange."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def test_quota_limit_range_and_claim_are_named_and_cured_without_a_change_of_the_object(
    namespace: Namespace,
) -> None:
    namespace.apply(
        limit("ResourceQuota", "small", {"hard": {"pods": "0"}}),
        limit("LimitRange", "narrow", {"limits": [{"type": "Container", "max": {"memory": "1Gi"}}]}),
        dataset("counted", resources=MEMORY),
        dataset("large", resources={"requests": {"memory": "96Mi"}, "limits": {"memory": "2Gi"}}),
        dataset("elsewhere", resources=MEMORY, storage={"claimName": "mine"}),
    )
    row = namespace.wait_reason("lds", "counted", "QuotaExceeded")
    assert "exceeded quota: small" in row["message"]
    assert "raise the quota or lower spec.resources" in row["message"]
    row = namespace.wait_reason("lds", "large", "AdmissionDenied")
    assert "maximum memory usage per Container is 1Gi, but limit is 2Gi" in row["message"]
    assert "LimitRange" in row["message"]
    row = namespace.wait_reason("lds", "elsewhere", "SourceNotFound")
    assert "PersistentVolumeClaim mine does not exist" in row["message"]
    for name in ("counted", "large", "elsewhere"):
        namespace.wait(f"lds/{name}", "Stalled=False", 5)

    namespace.run("delete", "limitrange", "narrow")
    namespace.apply(limit("ResourceQuota", "small", {"hard": {"pods": "50"}}), claim("mine"))
    for name in ("counted", "large", "elsewhere"):
        namespace.wait(f"lds/{name}", "Ready")
        assert namespace.get("lds", name)["metadata"]["generation"] == 1


@pytest.fixture(scope="module")
def trained(shared: Namespace) -> Namespace:
    """A namespace with a version."""
    shared.apply(dataset(), training_job())
    shared.wait("ltj/cnn", "Succeeded", 300)
    return shared


def test_missing_images_are_named_and_what_answers_goes_on(
    trained: Namespace, lepton: Kubectl, images: dict[str, str]
) -> None:
    namespace = trained
    namespace.apply(model())
    namespace.wait("lm/digits", "Ready")
    wrong = images | {"server": "localhost/nothing:1", "trainer": "localhost/none:1"}
    try:
        install(Display(), lepton, wrong, SETTINGS)
        namespace.apply(
            dataset("late", image={"height": 8, "width": 8, "channels": 1}), training_job("later")
        )
        for kind, name, main in (
            ("lds", "late", "Ready"),
            ("ltj", "later", "Succeeded"),
            ("lm", "digits", "Ready"),
        ):
            row = namespace.wait_reason(kind, name, "ImagePullFailed", main, deadline=90)
            image = "localhost/none:1" if kind == "ltj" else "localhost/nothing:1"
            assert image in row["message"]
            assert "can't be pulled" in row["message"]
        namespace.wait("lm/digits", "Available", 1)
        with namespace.http("digits") as http:
            assert http.call("/readyz")[0] == 200
    finally:
        install(Display(), lepton, images, SETTINGS)
    namespace.wait("lm/digits", "Ready")
    namespace.wait("lds/late", "Ready")
    namespace.wait_reason("ltj", "later", "Training", "Succeeded", deadline=120)
    namespace.run("delete", "lm/digits", "ltj/later")


def test_a_lost_node_is_named_and_its_work_goes_on_elsewhere(trained: Namespace) -> None:
    namespace = trained
    node = other_node_than_the_leader_of(namespace.kubectl)
    template = preferring(node)
    namespace.apply(
        training_job("long", training={"epochs": 300, "batchSize": 64}, podTemplate=template),
        model("spread", podTemplate=template),
    )
    until(lambda: "steps" in namespace.get("ltj", "long")["status"].get("progress", {}), "steps")
    namespace.wait("lm/spread", "Ready")
    for name in ("long", "spread"):
        assert {pod["spec"]["nodeName"] for pod in namespace.list("pods", f"lepton.ai/name={name}")} == {node}
    with lost(namespace, node):
        row = namespace.wait_reason("lm", "spread", "NodeLost", deadline=90)
        assert f"node {node} does not answer" in row["message"]
        namespace.wait("lm/spread", "Ready", 120)
        until(lambda: namespace.get("ltj", "long")["status"].get("attempt") == 2, "the next attempt", 120)
        status = namespace.get("ltj", "long")["status"]
        assert (status["disruptions"], status.get("failures", 0)) == (1, 0)
        namespace.wait_reason("ltj", "long", "Training", "Succeeded", deadline=120)
    told = [event for event in namespace.list("events") if event["involvedObject"]["name"] == "spread"]
    assert [event["reason"] for event in told].count("NodeLost") == 1


def other_node_than_the_leader_of(kubectl: Kubectl) -> str:
    """A node whose loss does not take the leading operator along, which else would see the end only."""
    lease = kubectl.json("get", "lease", "lepton-leader", "-n", SYSTEM_NAMESPACE)
    pods = kubectl.json("get", "pods", "-n", SYSTEM_NAMESPACE)["items"]
    holder = lease["spec"]["holderIdentity"]
    leads = {pod["spec"]["nodeName"] for pod in pods if holder.startswith(pod["metadata"]["name"])}
    nodes = {node["metadata"]["name"] for node in kubectl.json("get", "nodes")["items"]}
    return sorted(nodes - leads)[0]


def preferring(node: str) -> dict[str, Any]:
    """A podTemplate that wants that node, and takes another one when it is gone."""
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    term = {"weight": 100, "preference": {"matchExpressions": [here]}}
    return {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}}


@contextmanager
def lost(namespace: Namespace, node: str) -> Iterator[None]:
    """The node is switched off, and on again at the end."""
    number = node.rpartition("-")[2]
    switch("node-stop", number)
    try:
        yield
    finally:
        switch("node-start", number)
        namespace.kubectl.run("wait", f"node/{node}", "--for=condition=Ready", "--timeout=60s", timeout=70)


def switch(command: str, number: str) -> None:
    """Of the local cluster that the tests run on."""
    folder = Path(os.environ["KUBECONFIG"]).parent
    tool = ROOT / "tests" / "cluster" / "cli.py"
    subprocess.run(
        [sys.executable, str(tool), command, number, "--dir", str(folder)], check=True, timeout=120
    )
