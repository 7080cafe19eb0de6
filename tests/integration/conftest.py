"""The laboratory: a real control plane, a simulated node, operators under their own minimal rights.

`make test` brings the cluster and says by KUBECONFIG where it is. While these tests run, all pods land on the
simulated node: the real ones are cordoned, and an operator that is installed for the whole cluster rests.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.background import Background
from tests.integration.kube import Kube, Object, conditions, until
from tests.integration.puppet import NODE, Puppet
from tests.integration.sandbox import Lab

ROOT = Path(__file__).parents[2]
OPERATOR = "/apis/apps/v1/namespaces/lepton-system/deployments/lepton-operator"
OPERATOR_PODS = "/api/v1/namespaces/lepton-system/pods?labelSelector=app.kubernetes.io/name=lepton-operator"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need the cluster."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Kube:
    """The test cluster, with the CRDs."""
    try:
        kubeconfig = Path(os.environ["KUBECONFIG"])
    except KeyError as error:
        raise pytest.UsageError(f"{error} is not set: run `make test`, which brings a cluster") from error
    kube = Kube(kubeconfig, tmp_path_factory.mktemp("credentials"))
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        _install(kube, yaml.safe_load(path.read_text()))
    return kube


def _install(kube: Kube, crd: Object) -> None:
    kube.apply(crd)
    path = f"{CRD}/{crd['metadata']['name']}"

    def established() -> bool:
        found = kube.find(path) or {}
        return conditions(found).get("Established", {}).get("status") == "True"

    until(established, f"that {crd['metadata']['name']} is established")


@pytest.fixture(scope="session")
def lab(kube: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The laboratory; everything is as before when it closes, also after a failure."""
    background = Background()
    puppet = Puppet(kube, background)
    replicas = _rest_operator(kube)
    cordoned = _cordon(kube)
    try:
        puppet.start()
        until(lambda: _is_ready(kube), "that the simulated node is Ready")
        yield Lab(kube, background, puppet, tmp_path_factory.mktemp("integration"))
        until(lambda: not _namespaces(kube), lambda: f"that these end: {_namespaces(kube)}", 300)
        assert not puppet.errors, puppet.errors[:20]
    finally:
        puppet.stop()
        for node in cordoned:
            kube.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": None}})
        if replicas:
            kube.patch(f"{OPERATOR}/scale", {"spec": {"replicas": replicas}})
        background.close()


def _cordon(kube: Kube) -> list[str]:
    """No pod goes to a real node; the names of the nodes."""
    nodes = [node["metadata"]["name"] for node in kube.items("/api/v1/nodes")]
    real = [name for name in nodes if name != NODE]
    for name in real:
        kube.patch(f"/api/v1/nodes/{name}", {"spec": {"unschedulable": True}})
    return real


def _rest_operator(kube: Kube) -> int:
    """Scale an installed operator to zero; how many replicas it had."""
    if kube.find(OPERATOR) is None:
        return 0
    scale = kube.request("GET", f"{OPERATOR}/scale")
    replicas: int = scale["spec"].get("replicas", 0)
    kube.patch(f"{OPERATOR}/scale", {"spec": {"replicas": 0}})
    until(lambda: not kube.items(OPERATOR_PODS), "that the installed operator rests")
    return replicas


def _is_ready(kube: Kube) -> bool:
    node = kube.find(f"/api/v1/nodes/{NODE}") or {}
    taints = (node.get("spec") or {}).get("taints") or ()
    return conditions(node).get("Ready", {}).get("status") == "True" and not taints


def _namespaces(kube: Kube) -> list[str]:
    items = kube.items("/api/v1/namespaces?labelSelector=lepton-test=integration")
    return [item["metadata"]["name"] for item in items]
