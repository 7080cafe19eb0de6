"""The laboratory: a real control plane, a simulated node, operators under their own minimal rights.

`make test` brings the cluster and says by KUBECONFIG where it is. While these tests run, all pods land on the
simulated node: the real ones are cordoned, and an operator that is installed for the whole cluster rests.
"""

import os
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from bench.audit import AuditLog, Write
from lepton_cluster.layout import Layout
from tests.integration.background import Background
from tests.integration.kube import Kube, Object, conditions, until
from tests.integration.objects import chain, dataset, served_model, training_job
from tests.integration.puppet import NODE, Puppet
from tests.integration.sandbox import Lab, Sandbox

ROOT = Path(__file__).parents[2]
OPERATOR = "/apis/apps/v1/namespaces/lepton-system/deployments/lepton-operator"
OPERATOR_PODS = "/api/v1/namespaces/lepton-system/pods?labelSelector=app.kubernetes.io/name=lepton-operator"
RESTING = (
    dataset("lost", source={"pvc": {"claimName": "nowhere"}}, startupDeadlineSeconds=2),
    training_job("orphan", dataset="nobody", startupDeadlineSeconds=2),
    training_job("impossible", network={"convolutions": [8] * 8}),
    served_model("source-missing", startupDeadlineSeconds=2),
)
"""Objects that can't go on, and have said so."""
RESTING_REASONS = ("SourceNotFound", "DatasetNotFound", "InvalidSpec", "SourceNotFound")

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need the cluster."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)
    # Its five minutes have passed by then.
    ours = [at for at, item in enumerate(items) if item.get_closest_marker("integration")]
    in_order = sorted((items[at] for at in ours), key=lambda item: item.path.name == "test_quiet.py")
    for at, item in zip(ours, in_order, strict=True):
        items[at] = item


CLOSING = pytest.StashKey[ExitStack]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    """The laboratory closes with its last test and not with the session: others need the real nodes."""
    yield
    if nextitem is None or nextitem.get_closest_marker("integration") is None:
        item.config.stash.setdefault(CLOSING, ExitStack()).close()


@pytest.fixture(scope="session")
def closing(pytestconfig: pytest.Config) -> Iterator[ExitStack]:
    """What is to be undone when the last test of this folder has ended."""
    with pytestconfig.stash.setdefault(CLOSING, ExitStack()) as stack:
        yield stack


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
def lab(kube: Kube, closing: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The laboratory."""
    return closing.enter_context(_laboratory(kube, tmp_path_factory.mktemp("integration")))


@contextmanager
def _laboratory(kube: Kube, scratch: Path) -> Iterator[Lab]:
    """Everything is as before when it closes, also after a failure."""
    background = Background()
    puppet = Puppet(kube, background)
    replicas = _rest_operator(kube)
    cordoned = _cordon(kube)
    try:
        puppet.start()
        until(lambda: _is_ready(kube), "that the simulated node is Ready")
        for namespace in _namespaces(kube):
            # Left by a session that was killed.
            kube.delete(f"/api/v1/namespaces/{namespace}")
        yield Lab(kube, background, puppet, scratch)
        until(lambda: not _namespaces(kube), lambda: f"that these end: {_namespaces(kube)}", 300)
        assert not puppet.errors, puppet.errors[:20]
    finally:
        puppet.stop()
        for node in cordoned:
            kube.patch(f"/api/v1/nodes/{node}", {"spec": {"unschedulable": None}})
        if replicas:
            kube.patch(f"{OPERATOR}/scale", {"spec": {"replicas": replicas}})
        background.close()


class Quiet:
    """A namespace in which everything rests, and what its operator writes all the same."""

    def __init__(self, box: Sandbox, log: AuditLog) -> None:
        self.box = box
        self.objects = len(box.lepton_objects())
        self._log = log
        log.skip()
        self.since = time.monotonic()

    def writes(self) -> list[Write]:
        """Writes since the beginning, as the API server counted them."""
        return [write for write in self._log.writes() if write.namespace == self.box.namespace]


@pytest.fixture(scope="session")
def quiet(lab: Lab, closing: ExitStack) -> Quiet:
    """A namespace that rests from the first test on."""
    return closing.enter_context(_rest(lab))


@contextmanager
def _rest(lab: Lab) -> Iterator[Quiet]:
    """Objects that are done, that wait for something, and that failed; visited every ten seconds."""
    log = AuditLog(Layout.of(Path(os.environ["KUBECONFIG"]).parent).audit_log)
    try:
        with lab.sandbox("quiet", resync_seconds="10") as box:
            box.operator.start()
            box.create(*chain())
            box.wait_settled()
            box.create(*RESTING)
            for obj, reason in zip(RESTING, RESTING_REASONS, strict=True):
                box.wait_reason(obj["kind"], obj["metadata"]["name"], reason)
                box.wait_condition(obj["kind"], obj["metadata"]["name"], "Stalled")
            until(box.operator.is_idle, "that the operator rests")
            yield Quiet(box, log)
    finally:
        log.close()


@pytest.fixture(scope="session", autouse=True)
def _quiet_from_the_start(request: pytest.FixtureRequest) -> None:
    """When the quiet is to be tested, it begins before all other tests."""
    if any(item.path.name == "test_quiet.py" for item in request.session.items):
        request.getfixturevalue("quiet")


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
