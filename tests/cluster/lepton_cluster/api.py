"""The few calls that the tool makes to the API server, without the start-up time of kubectl."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from lepton_cluster.errors import ClusterError
from lepton_cluster.layout import Layout

FIELD_MANAGER = "lepton-cluster"

# Plural name in the URL of each kind that the tool applies.
PLURALS = {"EndpointSlice": "endpointslices", "StorageClass": "storageclasses", "APIService": "apiservices"}
CLUSTER_SCOPED = {"ClusterRole", "ClusterRoleBinding", "StorageClass", "APIService"}


class Api:
    """A client of the local cluster's API server, as administrator, over 127.0.0.1."""

    def __init__(self, layout: Layout) -> None:
        config = json.loads(layout.kubeconfig.read_text())
        self._address = urlsplit(config["clusters"][0]["cluster"]["server"])
        self._tls = ssl.create_default_context(cafile=str(layout.pki / "ca.crt"))
        self._tls.load_cert_chain(layout.pki / "admin.crt", layout.pki / "admin.key")

    def request(self, method: str, path: str, body: object = None, seconds: float = 5.0) -> tuple[int, str]:
        """One request; status 0 when the server can't be reached."""
        connection = http.client.HTTPSConnection(
            self._address.hostname or "", self._address.port, context=self._tls, timeout=seconds
        )
        headers = {"Content-Type": "application/apply-patch+yaml"} if body is not None else {}
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def ready(self) -> bool:
        """Whether the API server says that it is ready."""
        return self.request("GET", "/readyz", seconds=2.0) == (200, "ok")

    def exists(self, path: str) -> bool:
        return self.request("GET", path)[0] == 200

    def get(self, path: str) -> dict[str, Any]:
        """The object at a path, empty when there is none."""
        status, text = self.request("GET", path)
        found: dict[str, Any] = json.loads(text) if status == 200 else {}
        return found

    def ready_nodes(self) -> set[str]:
        """Names of the nodes whose condition Ready is True."""
        return {
            node["metadata"]["name"]
            for node in self.get("/api/v1/nodes").get("items", [])
            if condition_is_true(node, "Ready")
        }

    def apply(self, objects: Iterable[dict[str, Any]]) -> None:
        """Server-side apply."""
        for item in objects:
            path = f"{object_path(item)}?fieldManager={FIELD_MANAGER}&force=true"
            status, text = self.request("PATCH", path, item)
            if status not in (200, 201):
                name = f"{item['kind']} {item['metadata']['name']}"
                raise ClusterError(f"{name} could not be applied: {status} {text[:500]}")


def object_path(item: dict[str, Any]) -> str:
    """The URL path of an object."""
    version, kind, metadata = item["apiVersion"], item["kind"], item["metadata"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    scope = "" if kind in CLUSTER_SCOPED else f"/namespaces/{metadata['namespace']}"
    plural = PLURALS.get(kind, f"{kind.lower()}s")
    return f"{root}{scope}/{plural}/{metadata['name']}"


def condition_is_true(item: dict[str, Any], kind: str) -> bool:
    """Whether a status condition of the object is True."""
    conditions = item.get("status", {}).get("conditions", [])
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)
