"""The process as a whole: exit codes, and what is said when it can't start."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lepton_operator.api import KINDS as KINDS_OF_LEPTON
from lepton_operator.crdgen import crd
from tests.ports import free_ports

ROOT = Path(__file__).parents[3]
KINDS = ("leptondatasets", "leptontrainingjobs", "leptonmodels")
DEADLINE_SECONDS = 60.0


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("LEPTON_", "KUBE"))
    }
    environment["PYTHONPATH"] = f"{ROOT / 'operator'}:{ROOT / 'workloads'}"
    command = [sys.executable, "-m", "lepton_operator", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def openapi(plurals: tuple[str, ...]) -> Any:
    """What the API server publishes of the installed CRDs."""
    group = {"group": "lepton.ai", "version": "v1alpha1"}
    schemas = {
        kind.name: {
            **crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
            "x-kubernetes-group-version-kind": [{**group, "kind": kind.name}],
        }
        for kind in KINDS_OF_LEPTON
        if kind.plural in plurals
    }
    return {"components": {"schemas": schemas}}


class Empty(BaseHTTPRequestHandler):
    """An API server without any object; watches stay open until `ended` is set."""

    protocol_version = "HTTP/1.1"
    kinds = KINDS
    ended = threading.Event()
    poison = threading.Event()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if "watch=true" in query:
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            while not self.ended.wait(0.05):
                if self.poison.is_set() and path == "/apis/batch/v1/jobs":
                    self.wfile.write(b'{"type": "ADDED", "object": {}}\n')
                    break
            self.close_connection = True
            return
        parts = path.strip("/").split("/")
        if path == "/apis/lepton.ai/v1alpha1":
            resources = [
                {
                    "name": name,
                    "singularName": "",
                    "kind": "K",
                    "namespaced": True,
                    "verbs": ["list", "watch"],
                }
                for name in self.kinds
            ]
            self.answer(
                {"kind": "APIResourceList", "groupVersion": "lepton.ai/v1alpha1", "resources": resources}
            )
        elif path == "/openapi/v3/apis/lepton.ai/v1alpha1":
            self.answer(openapi(self.kinds))
        elif path == "/apis":
            version = {"groupVersion": "lepton.ai/v1alpha1", "version": "v1alpha1"}
            group = {"name": "lepton.ai", "versions": [version], "preferredVersion": version}
            self.answer({"kind": "APIGroupList", "groups": [group]})
        elif path == "/api":
            self.answer({"kind": "APIVersions", "versions": []})
        else:
            self.answer({"kind": f"{parts[-1]}List", "metadata": {"resourceVersion": "5"}, "items": []})

    def answer(self, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def handler() -> type[Empty]:
    return type("Handler", (Empty,), {"ended": threading.Event(), "poison": threading.Event()})


@pytest.fixture
def kubeconfig(tmp_path: Path, handler: type[Empty]) -> Iterator[Path]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    yield path
    handler.ended.set()
    server.shutdown()
    server.server_close()


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def wait_for(port: int, path: str, status: int, word: str = "") -> str:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        found, text = get(port, path)
        if found == status and word in text:
            return text
        time.sleep(0.05)
    raise AssertionError(f"{path} never answered {status} {word}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(kubeconfig: Path, number: signal.Signals) -> None:
    [port] = free_ports(1)
    process = start("--kubeconfig", str(kubeconfig), "--health-port", str(port))
    try:
        assert wait_for(port, "/readyz", 200) == "ok"
        assert get(port, "/healthz")[0] == 200
        assert "lepton_workqueue_depth" in get(port, "/metrics")[1]
        process.send_signal(number)
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, out + err
    lines = [json.loads(line) for line in out.splitlines()]
    # kopf complains when it is stopped in the middle of its discovery; that is its own affair.
    ours = [line for line in lines if line["logger"].startswith("lepton_operator")]
    assert ours[-1]["message"] == "Stopped"
    assert not [line for line in ours if line["level"] == "error"]
    assert err == ""


def test_without_the_kinds_it_waits_and_says_so(kubeconfig: Path, handler: type[Empty]) -> None:
    handler.kinds = KINDS[:2]
    [port] = free_ports(1)
    process = start("--kubeconfig", str(kubeconfig), "--health-port", str(port))
    try:
        wait_for(port, "/healthz", 200)
        wait_for(port, "/readyz", 503, "LeptonModel")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "apply crds/" in out


def test_wrong_settings_end_it_with_2() -> None:
    process = start("--workers", "0")
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert "--workers" in err


def test_no_cluster_ends_it_with_1(tmp_path: Path) -> None:
    process = start("--kubeconfig", str(tmp_path / "none"))
    out, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert "No way into a cluster" in out


def test_a_taken_port_ends_it_with_1(kubeconfig: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        process = start("--kubeconfig", str(kubeconfig), "--health-port", str(taken.getsockname()[1]))
        out, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert "Health port" in out


def test_the_death_of_an_essential_task_ends_it_with_1(kubeconfig: Path, handler: type[Empty]) -> None:
    [port] = free_ports(1)
    handler.kinds = KINDS
    process = start("--kubeconfig", str(kubeconfig), "--health-port", str(port))
    try:
        wait_for(port, "/readyz", 200)
        # An object without a name is more than any watcher is made for.
        handler.poison.set()
        out, _ = process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 1
    (death,) = [
        line for line in map(json.loads, out.splitlines()) if line["message"] == "Essential task ended"
    ]
    assert death["task"].startswith("watch ")
    assert "KeyError" in death["traceback"]
