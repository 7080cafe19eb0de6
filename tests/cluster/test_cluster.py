"""The local cluster keeps the promises that every other test on it relies on.

These tests boot a cluster of two nodes of their own in a temporary folder, beside any other that runs, and
use it as people do: through the command line and kubectl. They need root and the built programs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lepton_cluster import images, layout, mounts, network, processes

CLI = Path(__file__).with_name("cli.py")
NAMESPACE = "probe"
IMAGE = "localhost/lepton-probe:test"
PROBE = "/probe"


class Cluster:
    """A cluster under test, by its command line and kubectl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.layout = layout.Layout.of(folder)

    def start_cli(self, command: str, *arguments: str) -> subprocess.Popen[str]:
        full = [sys.executable, str(CLI), command, "--dir", str(self.folder), *arguments]
        environment = {**os.environ, "KUBECONFIG": "/nowhere"}
        return subprocess.Popen(
            full, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def cli(self, command: str, *arguments: str) -> str:
        process = self.start_cli(command, *arguments)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output

    def kubectl(self, *arguments: str, text_input: str | None = None, check: bool = True) -> str:
        command = [str(self.layout.kubectl), "--kubeconfig", str(self.layout.kubeconfig), "-n", NAMESPACE]
        result = subprocess.run(
            [*command, *arguments], input=text_input, capture_output=True, text=True, timeout=90, check=False
        )
        if check:
            assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def probe(self, pod: str, *arguments: str) -> str:
        return self.kubectl("exec", pod, "--", PROBE, *arguments)

    def create(self, *objects: dict[str, Any]) -> None:
        bundle = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", text_input=json.dumps(bundle))

    def field(self, kind: str, name: str, path: str) -> str:
        return self.kubectl("get", kind, name, "-o", f"jsonpath={{{path}}}", check=False)

    def wait_ready(self, *pods: str) -> None:
        self.kubectl("wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{pod}" for pod in pods))


def pod(name: str, node: str | None, user: int) -> dict[str, Any]:
    """A pod under the strictest Pod Security level that writes its name into the claim and serves it."""
    container = {
        "name": "probe",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": [PROBE, "serve", "/data"],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        "resources": {"limits": {"memory": "64Mi"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec: dict[str, Any] = {
        "hostname": name,
        "subdomain": "headless",
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "shared"}}],
    }
    if node:
        spec["nodeName"] = node
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app": "probe"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def service(name: str, **spec: object) -> dict[str, Any]:
    body = {"selector": {"app": "probe"}, "ports": [{"port": 80, "targetPort": 8080}], **spec}
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": body}


def surroundings() -> list[dict[str, Any]]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "shared", "namespace": NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim},
        service("web"),
        service("headless", clusterIP="None"),
    ]


def load_probe(cluster: Cluster) -> None:
    program = Path(json.loads(cluster.layout.state_file.read_text())["binaries"]) / "probe"
    archive = cluster.folder / "probe.tar"
    archive.write_bytes(images.single_file_image(IMAGE, PROBE, program.read_bytes(), [PROBE]))
    cluster.cli("load", str(archive))


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not so in time"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="lepton-", dir="/var/tmp"))
    cluster = Cluster(folder)
    try:
        cluster.cli("up", "--nodes", "2")
        load_probe(cluster)
        cluster.create(*surroundings())
        cluster.create(pod("one", "lepton-1", 1001), pod("two", "lepton-2", 1002))
        cluster.wait_ready("one", "two")
        yield cluster
    finally:
        cluster.cli("down")
        shutil.rmtree(folder, ignore_errors=True)


BOTH_WAYS = pytest.mark.parametrize(("here", "there"), [("one", "two"), ("two", "one")])


@BOTH_WAYS
def test_pods_reach_each_other_across_nodes(cluster: Cluster, here: str, there: str) -> None:
    address = cluster.field("pod", there, ".status.podIP")
    cluster.probe(here, "get", f"http://{address}:8080/")


@BOTH_WAYS
def test_services_and_names_work_on_every_node(cluster: Cluster, here: str, there: str) -> None:
    for _ in range(6):  # so that both endpoints, the pod itself too, are met
        cluster.probe(here, "get", "http://web/")
    address = cluster.field("pod", there, ".status.podIP")
    assert cluster.probe(here, "lookup", f"{there}.headless.{NAMESPACE}.svc.cluster.local") == address
    cluster.probe(here, "connect", "kubernetes.default:443")


@BOTH_WAYS
def test_claim_is_shared_between_nodes_by_non_root_users(cluster: Cluster, here: str, there: str) -> None:
    cluster.probe(here, "write", f"/data/from-{here}", f"written by {here}")
    address = cluster.field("pod", there, ".status.podIP")
    assert cluster.probe(here, "get", f"http://{address}:8080/from-{here}") == f"written by {here}"


@pytest.mark.parametrize("name", ["one", "two"])
def test_logs_proxy_and_port_forward_work_on_every_node(cluster: Cluster, name: str) -> None:
    assert "serving /data" in cluster.kubectl("logs", name)
    cluster.probe(name, "write", f"/data/{name}", name)
    proxy = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}:8080/proxy/{name}"
    assert cluster.kubectl("get", "--raw", proxy) == name
    command = [str(cluster.layout.kubectl), "--kubeconfig", str(cluster.layout.kubeconfig)]
    command += ["-n", NAMESPACE, "port-forward", f"pod/{name}", ":8080"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        assert forward.stdout is not None
        port = forward.stdout.readline().split("127.0.0.1:")[1].split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=10) as response:
            fetched = response.read().decode()
        forward.terminate()
    assert fetched == name


def test_service_proxy_works(cluster: Cluster) -> None:
    proxy = f"/api/v1/namespaces/{NAMESPACE}/services/web:80/proxy/"
    assert "<pre>" in cluster.kubectl("get", "--raw", proxy)


def test_nothing_leaves_the_cluster(cluster: Cluster) -> None:
    assert not cluster.kubectl("exec", "one", "--", PROBE, "connect", "192.0.2.1:80", check=False)
    assert not cluster.kubectl("exec", "one", "--", PROBE, "lookup", "example.com", check=False)
    routes = processes.run(["ip", "-netns", cluster.layout.control_namespace, "route"])
    assert "default" not in routes


def test_metrics_of_nodes_and_pods(cluster: Cluster) -> None:
    cluster.cli("wait-metrics")
    assert cluster.kubectl("top", "nodes", "--no-headers").count("lepton-") == 2
    eventually(lambda: cluster.kubectl("top", "pods", "--no-headers", check=False).count("Mi") == 2)


def test_audit_log_tells_who_wrote_what(cluster: Cluster) -> None:
    entries = [json.loads(line) for line in cluster.layout.audit_log.read_text().splitlines()]
    assert {entry["user"]["username"] for entry in entries} == {"lepton-admin"}
    written = [e for e in entries if e["verb"] == "create" and e["objectRef"].get("resource") == "namespaces"]
    assert [entry["objectRef"]["name"] for entry in written] == [NAMESPACE]


def test_claim_deleted_removes_its_folder(cluster: Cluster) -> None:
    claim = surroundings()[1]
    claim["metadata"]["name"] = "short-lived"
    cluster.create(claim)
    eventually(lambda: cluster.field("pvc", "short-lived", ".status.phase") == "Bound")
    folder = cluster.layout.storage / cluster.field("pvc", "short-lived", ".spec.volumeName")
    assert folder.is_dir()
    cluster.kubectl("delete", "pvc", "short-lived")
    eventually(lambda: not folder.exists())


def test_healthy_cluster_is_reused_at_once(cluster: Cluster) -> None:
    before = processes.find(cluster.layout)
    started = time.monotonic()
    cluster.cli("up", "--nodes", "2")
    assert time.monotonic() - started < 5
    assert {p.pid for p in before} == {p.pid for p in processes.find(cluster.layout)}


def test_images_are_loaded_once(cluster: Cluster) -> None:
    assert "Loaded" not in cluster.cli("load", str(cluster.folder / "probe.tar"))


def test_lost_node_is_noticed_and_comes_back(cluster: Cluster) -> None:
    cluster.cli("node-stop", "2")
    ready = '.status.conditions[?(@.type=="Ready")].status'
    eventually(lambda: cluster.field("node", "lepton-2", ready) == "Unknown", 30)
    cluster.probe("one", "get", "http://web/")
    eventually(lambda: bool(cluster.field("pod", "two", ".metadata.deletionTimestamp")), 40)
    assert cluster.field("pod", "one", ".metadata.deletionTimestamp") == ""
    cluster.cli("node-start", "2")
    assert cluster.field("node", "lepton-2", ready) == "True"
    eventually(lambda: cluster.field("pod", "two", ".metadata.name") == "")
    cluster.create(pod("two", "lepton-2", 1002))
    cluster.wait_ready("two")
    cluster.probe("one", "get", f"http://{cluster.field('pod', 'two', '.status.podIP')}:8080/")


@pytest.mark.parametrize("delay", [0.3, 1.5, 4.0])
def test_up_after_a_killed_up(cluster: Cluster, delay: float) -> None:
    """A second cluster beside the first: killed while it starts, it starts afresh the next time."""
    with tempfile.TemporaryDirectory(prefix="lepton-", dir="/var/tmp") as folder:
        other = Cluster(Path(folder) / "c")
        interrupted = other.start_cli("up")
        time.sleep(delay)
        interrupted.send_signal(signal.SIGKILL)
        interrupted.wait()
        try:
            other.cli("up")
            assert json.loads(other.cli("status"))["healthy"]
        finally:
            other.cli("down")
        assert_nothing_left(other)
    assert json.loads(cluster.cli("status"))["healthy"]


def assert_nothing_left(cluster: Cluster) -> None:
    assert not processes.find(cluster.layout)
    assert not network.namespaces(cluster.layout)
    assert not mounts.below(cluster.layout.run_folder)
    assert not cluster.layout.run_folder.exists()
    assert not cluster.folder.exists()
