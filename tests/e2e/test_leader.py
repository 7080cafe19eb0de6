"""Two operators: one leads, the other is ready to, and the work goes on when the leader goes."""

import re
from collections.abc import Iterator

import pytest

from demo.install import SYSTEM_NAMESPACE
from demo.kubectl import Kubectl
from tests.e2e.cluster import Namespace, dataset, until
from tests.e2e.test_deletion import REPLICAS, scale

PODS = ("get", "pods", "-n", SYSTEM_NAMESPACE, "-l", "app.kubernetes.io/name=lepton-operator")


@pytest.fixture
def both(lepton: Kubectl) -> Iterator[Kubectl]:
    """Both replicas are ready, before the test and after it."""
    scale(lepton, REPLICAS)
    yield lepton
    scale(lepton, REPLICAS)


def holder(kubectl: Kubectl) -> str:
    """The pod that leads; empty when none does."""
    path = "jsonpath={.spec.holderIdentity}"
    text = kubectl.run(
        "get", "lease", "lepton-leader", "-n", SYSTEM_NAMESPACE, "--ignore-not-found", "-o", path
    )
    return text.rpartition("_")[0]


def leaders(kubectl: Kubectl) -> dict[str, int]:
    """pod -> what its metric says."""
    found = {}
    for pod in kubectl.json(*PODS)["items"]:
        name = pod["metadata"]["name"]
        text = kubectl.run(
            "get", "--raw", f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods/{name}:8081/proxy/metrics"
        )
        (value,) = re.findall(r"^lepton_leader (\S+)$", text, re.MULTILINE)
        found[name] = int(float(value))
    return found


def broken(name: str) -> dict[str, object]:
    """A LeptonDataset whose fault needs no pod."""
    return dataset(name, source={"pvc": {"claimName": "nowhere"}})


def test_one_of_two_leads_and_both_are_ready(both: Kubectl) -> None:
    until(lambda: holder(both), "a leader")
    found = until(lambda: sum((now := leaders(both)).values()) == 1 and now, "one leader")
    assert len(found) == REPLICAS
    assert found[holder(both)] == 1


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_when_the_leader_goes_the_other_works_on(both: Kubectl, namespace: Namespace, how: str) -> None:
    namespace.apply(broken("before"))
    namespace.wait_reason("lds", "before", "SourceNotFound")
    first = until(lambda: holder(both), "a leader")
    at_once = ("--grace-period=0", "--force") if how == "killed" else ()
    both.run("delete", "pod", first, "-n", SYSTEM_NAMESPACE, "--wait=false", *at_once)
    # A leader that is told to stop may still do this; it must not fall between the two.
    namespace.apply(broken("meanwhile"))
    namespace.wait_reason("lds", "meanwhile", "SourceNotFound")
    until(lambda: holder(both) not in ("", first), "another leader")
    namespace.apply(broken("after"))
    namespace.wait_reason("lds", "after", "SourceNotFound")
