"""What the tests do with a cluster: apply, look, wait for a condition with a deadline, ask over HTTP."""

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from demo.display import DemoError
from demo.kubectl import Kubectl
from demo.predict import forwarded

Object = dict[str, Any]
API_VERSION = "lepton.ai/v1alpha1"
OURS = "tests.lepton.ai/from"
"""Label of namespaces that tests have made."""
OWNED_KINDS = "jobs,pods,deployments,replicasets,services,poddisruptionbudgets,horizontalpodautoscalers"


def until(look: Callable[[], Any], what: str, deadline: float = 120.0) -> Any:
    """The first true answer of `look`; AssertionError with the last answer past the deadline (seconds)."""
    end = time.monotonic() + deadline
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {deadline:.0f} s")
        time.sleep(0.2)


def leaving(kubectl: Kubectl) -> list[str]:
    """Names of the tests' namespaces that are being deleted."""
    found = kubectl.json("get", "namespaces", "-l", OURS)["items"]
    return [item["metadata"]["name"] for item in found if "deletionTimestamp" in item["metadata"]]


def manifest(kind: str, name: str, spec: Object) -> Object:
    """A Lepton object."""
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def dataset(name: str = "digits", **spec: Any) -> Object:
    """A LeptonDataset of the built-in digits, small pictures."""
    return manifest(
        "LeptonDataset",
        name,
        {"source": {"builtin": "digits"}, "image": {"height": 16, "width": 16, "channels": 1}} | spec,
    )


def training_job(name: str = "cnn", **spec: Any) -> Object:
    """A LeptonTrainingJob that takes seconds."""
    small = {
        "dataset": {"name": "digits"},
        "network": {"convolutions": [8], "dense": [16]},
        "training": {"epochs": 1, "batchSize": 64},
    }
    return manifest("LeptonTrainingJob", name, small | spec)


def model(name: str = "digits", job: str = "cnn", **spec: Any) -> Object:
    """A LeptonModel of a training job."""
    return manifest("LeptonModel", name, {"source": {"trainingJob": {"name": job}}} | spec)


@dataclass(frozen=True)
class Namespace:
    """kubectl within one namespace."""

    kubectl: Kubectl
    name: str

    @classmethod
    def create(cls, kubectl: Kubectl, name: str) -> "Namespace":
        """A new namespace, Pod Security "restricted"."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted", OURS: "e2e"}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        until(lambda: name not in leaving(kubectl), f"that the former {name} is gone", 180)
        kubectl.run("apply", "-f", "-", stdin=json.dumps(body))
        created = cls(kubectl, name)
        account = ("get", "serviceaccount", "default", "--ignore-not-found", "-o", "name")
        until(lambda: created.run(*account), "the default ServiceAccount")
        return created

    def delete(self) -> None:
        """Has everything removed, and doesn't wait for it (`leaving`); the storage goes with its claims.

        The pods are hurried, since a namespace that is found with something in it is looked at again only
        after half of the longest time that its pods may take.
        """
        self.kubectl.run("delete", "namespace", self.name, "--wait=false")
        kinds = "deployments,jobs,pods,persistentvolumeclaims"
        self.run("delete", kinds, "--all", "--grace-period=1", "--wait=false")

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 60) -> str:
        """kubectl in this namespace; raises DemoError with what it said."""
        return self.kubectl.run("-n", self.name, *arguments, stdin=stdin, timeout=timeout)

    def apply(self, *objects: Object) -> str:
        """`kubectl apply -f -`; what it printed."""
        body = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        return self.run("apply", "-f", "-", stdin=json.dumps(body))

    def refused(self, obj: Object) -> str:
        """Applies what must be refused; the sentence of the refusal."""
        try:
            self.apply(obj)
        except DemoError as error:
            return str(error)
        raise AssertionError(f"{obj['kind']} {obj['metadata']['name']} was accepted: {obj['spec']}")

    def get(self, kind: str, name: str) -> Object:
        """The object as the API server holds it."""
        found: Object = json.loads(self.run("get", kind, name, "-o", "json"))
        return found

    def find(self, kind: str, name: str) -> Object | None:
        """The object, or None."""
        text = self.run("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def managers(self, kind: str, name: str) -> "list[Object]":
        """metadata.managedFields of an object."""
        text = self.run("get", kind, name, "-o", "json", "--show-managed-fields")
        rows: list[Object] = json.loads(text)["metadata"]["managedFields"]
        return rows

    def list(self, kinds: str, selector: str = "") -> list[Object]:
        """Objects of the kinds (comma-separated)."""
        labels = ("-l", selector) if selector else ()
        items: list[Object] = json.loads(self.run("get", kinds, *labels, "-o", "json"))["items"]
        return items

    def wait(self, what: str, condition: str, deadline: int = 180) -> None:
        """`kubectl wait --for=condition=...`; on a time-out the object's conditions are in the error."""
        try:
            self.run(
                "wait", what, f"--for=condition={condition}", f"--timeout={deadline}s", timeout=deadline + 10
            )
        except DemoError as error:
            said = self.run("describe", what)
            pods = self.run("get", "pods", "-o", "wide")
            raise AssertionError(f"{error}\n{said}\n{pods}") from error

    def reason(self, kind: str, name: str, condition: str = "Ready") -> str:
        """The reason of a condition; empty before the first visit."""
        for row in self.get(kind, name).get("status", {}).get("conditions", ()):
            if row["type"] == condition:
                return str(row["reason"])
        return ""

    def condition(self, kind: str, name: str, condition: str) -> Object:
        """One condition; it must be there."""
        rows = self.get(kind, name).get("status", {}).get("conditions", ())
        return next(row for row in rows if row["type"] == condition)

    def wait_reason(
        self, kind: str, name: str, reason: str, condition: str = "Ready", deadline: float = 60
    ) -> Object:
        """Waits for a reason; the condition that has it."""
        try:
            until(lambda: self.reason(kind, name, condition) == reason, reason, deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.run('describe', kind, name)}") from error
        return self.condition(kind, name, condition)

    def children(self) -> dict[str, str]:
        """kind/name -> uid of all that Lepton made here, apart from claims."""
        selector = "app.kubernetes.io/managed-by=lepton"
        return {
            f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["uid"]
            for item in self.list(OWNED_KINDS, selector)
        }

    def wait_empty(self, deadline: float = 90) -> None:
        """Nothing of Lepton's is left but claims."""
        try:
            until(lambda: not self.children(), "that all children are gone", deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}: {sorted(self.children())}") from error

    @contextmanager
    def http(self, service: str, port: int = 80, token: str = "") -> Iterator["Http"]:
        """A port of the Service, forwarded to this machine; 443 is HTTPS with a certificate that nobody knows."""
        with forwarded(self.kubectl, service, self.name, port) as address:
            yield Http(address.replace("http:", "https:") if port == 443 else address, token)

    def run_python(
        self, name: str, image: str, code: str, claim: str | None = None, deadline: float = 90
    ) -> str:
        """Runs Python in a restricted pod of that image, the claim at /data; its output."""
        self.apply(python_pod(name, image, code, claim))
        phases = ("Succeeded", "Failed")
        until(
            lambda: self.get("pod", name)["status"].get("phase") in phases, f"the end of pod {name}", deadline
        )
        output = self.run("logs", name)
        assert self.get("pod", name)["status"]["phase"] == "Succeeded", output
        self.run("delete", "pod", name, "--wait=true")
        return output


@dataclass(frozen=True)
class Http:
    """An HTTP client of one address."""

    address: str
    token: str = ""

    def call(
        self,
        path: str,
        body: bytes | None = None,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Status code and parsed JSON (text or bytes, where it is none); GET without a body, else POST."""
        told = {"Content-Type": kind, **(headers or {})}
        if self.token:
            told["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(self.address + path, data=body, headers=told)
        context = ssl._create_unverified_context()
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(request, timeout=30) as answer:
                return answer.status, parsed(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, parsed(error.read())


def parsed(body: bytes) -> Any:
    """JSON where it is JSON, else text, else the bytes."""
    try:
        text = body.decode()
    except ValueError:
        return body
    try:
        return json.loads(text)
    except ValueError:
        return text


def python_pod(name: str, image: str, code: str, claim: str | None = None, restart: str = "Never") -> Object:
    """A pod under Pod Security "restricted" that runs Python code."""
    volumes: list[Object] = [{"name": "tmp", "emptyDir": {}}]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    if claim:
        volumes.append({"name": "data", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "data", "mountPath": "/data"})
    container = {
        "name": "python",
        "image": image,
        "command": ["python", "-u", "-c", code],
        "volumeMounts": mounts,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"run": name}},
        "spec": spec,
    }


def claim(name: str) -> Object:
    """A ReadWriteMany claim of the default class."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
