"""Edits by hand, as the tests of drift make them, and what is looked at after them."""

import json
from typing import Any

from tests.e2e.cluster import Namespace, Object, until

REVISION = "deployment.kubernetes.io/revision"
"""Counted up by the Deployment's controller with every template."""


def patch(namespace: Namespace, what: str, *operations: Object) -> None:
    """A JSON patch of `kind/name`."""
    namespace.run("patch", what, "--type=json", "-p", json.dumps(operations))


def replace(path: str, value: Any) -> Object:
    return {"op": "replace", "path": path, "value": value}


def add(path: str, value: Any) -> Object:
    return {"op": "add", "path": path, "value": value}


def remove(path: str) -> Object:
    return {"op": "remove", "path": path}


def visited(namespace: Namespace, name: str) -> None:
    """Waits until the operator has seen a change of the model's spec that changes none of its children."""
    spec = namespace.get("lm", name)["spec"]
    patch(
        namespace, f"lm/{name}", replace("/spec/startupDeadlineSeconds", spec["startupDeadlineSeconds"] - 1)
    )

    def seen() -> bool:
        obj = namespace.get("lm", name)
        return bool(obj["status"]["observedGeneration"] == obj["metadata"]["generation"])

    until(seen, "a visit")


def content(obj: Object) -> Object:
    """What somebody may have changed by hand."""
    meta = obj["metadata"]
    notes = {name: text for name, text in meta.get("annotations", {}).items() if name != REVISION}
    return {"labels": meta.get("labels"), "annotations": notes, "spec": obj["spec"]}


def comes_back(namespace: Namespace, kind: str, name: str, before: Object) -> None:
    until(
        lambda: (obj := namespace.find(kind, name)) and content(obj) == before,
        f"that {kind} {name} is what it was",
        30,
    )
