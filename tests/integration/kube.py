"""The API server as the tests use it: administrator, JSON in, JSON out, safe to use from many threads."""

import base64
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import urllib3
import yaml

Object = dict[str, Any]
T = TypeVar("T")

JSON_TYPE = "application/json"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
POLL_SECONDS = 0.2

CLUSTER_SCOPED = frozenset(("Namespace", "Node", "CustomResourceDefinition", "PersistentVolume"))
PLURALS = {
    "PodDisruptionBudget": "poddisruptionbudgets",
    "CustomResourceDefinition": "customresourcedefinitions",
}


class KubeError(AssertionError):
    """The API server did not do as asked."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text[:1000]}")
        self.status = status
        self.text = text


class Kube:
    """One API server, as administrator."""

    def __init__(self, kubeconfig: Path, scratch: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server = str(cluster["server"])
        self.ca_data = str(cluster["certificate-authority-data"])
        self.ca_file = _decoded(scratch / "ca.crt", self.ca_data)
        self.cert_file = _decoded(scratch / "admin.crt", user["client-certificate-data"])
        self.key_file = _decoded(scratch / "admin.key", user["client-key-data"])
        self._pool = urllib3.PoolManager(
            maxsize=32,
            ca_certs=str(self.ca_file),
            cert_file=str(self.cert_file),
            key_file=str(self.key_file),
            retries=urllib3.Retry(connect=3, read=0, redirect=0, status=0, backoff_factor=0.2),
            timeout=urllib3.Timeout(60),
        )

    def request(self, method: str, path: str, body: Object | None = None, content: str = JSON_TYPE) -> Object:
        """The parsed answer.

        Raises:
            KubeError: any answer that is not 2xx.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Accept": JSON_TYPE, "Content-Type": content, "User-Agent": "lepton-tests"}
        answer = self._pool.request(method, self.server + path, body=data, headers=headers)
        text = answer.data.decode()
        if not 200 <= answer.status <= 299:
            raise KubeError(answer.status, text)
        found: Object = json.loads(text) if text else {}
        return found

    def find(self, path: str) -> Object | None:
        """The object at a path, or None."""
        try:
            return self.request("GET", path)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    def items(self, path: str) -> list[Object]:
        """The objects of a collection."""
        found: list[Object] = self.request("GET", path)["items"]
        return found

    def create(self, obj: Object, namespace: str | None = None) -> Object:
        """POST."""
        return self.request("POST", collection(obj["apiVersion"], obj["kind"], namespace), obj)

    def apply(self, obj: Object, namespace: str | None = None) -> Object:
        """Server-side apply; conflicts are overruled."""
        path = path_of(obj["apiVersion"], obj["kind"], obj["metadata"]["name"], namespace)
        return self.request("PATCH", f"{path}?fieldManager=lepton-tests&force=true", obj, APPLY)

    def patch(self, path: str, body: Object) -> Object:
        """Merge patch."""
        return self.request("PATCH", path, body, MERGE)

    def delete(self, path: str, *, grace: int | None = None) -> bool:
        """Dependants go in the background; False when there was nothing to delete."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        try:
            self.request("DELETE", path, options)
        except KubeError as error:
            if error.status != 404:
                raise
            return False
        return True


def _decoded(path: Path, data: str) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(base64.b64decode(data))
    return path


def collection(api_version: str, kind: str, namespace: str | None) -> str:
    """URL path of a kind's objects."""
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    scope = "" if kind in CLUSTER_SCOPED or namespace is None else f"/namespaces/{namespace}"
    return f"{root}{scope}/{PLURALS.get(kind, kind.lower() + 's')}"


def path_of(api_version: str, kind: str, name: str, namespace: str | None) -> str:
    """URL path of an object."""
    return f"{collection(api_version, kind, namespace)}/{name}"


def until(
    look: Callable[[], T],
    what: str | Callable[[], str],
    deadline: float = 60.0,
    poll: float = POLL_SECONDS,
) -> T:
    """The first true answer of `look`; AssertionError past the deadline (seconds)."""
    end = time.monotonic() + deadline
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > end:
            text = what if isinstance(what, str) else what()
            raise AssertionError(f"Within {deadline:.0f} s did not happen: {text}")
        time.sleep(poll)


def conditions(obj: Object) -> dict[str, Object]:
    """Conditions by type."""
    return {row["type"]: row for row in (obj.get("status") or {}).get("conditions") or ()}


def is_settled(objects: Iterable[Object], wanted: str = "True") -> bool:
    """Every object's status answers its spec, its main condition is `wanted`, nothing goes on any more."""
    for obj in objects:
        rows = conditions(obj)
        main = rows.get("Succeeded" if obj["kind"] == "LeptonTrainingJob" else "Ready", {})
        seen = (obj.get("status") or {}).get("observedGeneration") == obj["metadata"]["generation"]
        if not seen or main.get("status") != wanted or rows.get("Reconciling", {}).get("status") != "False":
            return False
    return True
