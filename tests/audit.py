"""What the API server saw the operator ask for: its audit log, beside the cluster's kubeconfig."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lepton_cluster.layout import Layout

OTHER_CLUSTER = "LEPTON_OTHER_CLUSTER"
"""Folder of a second cluster in which operators were tested."""
ACCOUNT = ":lepton-operator"
WRITES = frozenset(("create", "update", "patch", "delete"))
CHILDREN = frozenset(("jobs", "deployments", "services", "poddisruptionbudgets", "horizontalpodautoscalers"))


@dataclass(frozen=True, slots=True)
class Request:
    """One request of one of the operator's accounts."""

    namespace: str
    group: str
    resource: str
    """Plural, with the subresource: leptonmodels/status."""
    verb: str
    code: int


def operator_requests() -> Iterator[Request]:
    """All there were since the clusters' start, also those in logs that were rotated away, of each the oldest first."""
    try:
        folders = [Path(os.environ["KUBECONFIG"]).parent]
    except KeyError as error:
        raise pytest.UsageError(f"{error} is not set: run `make test`, which brings a cluster") from error
    if other := os.environ.get(OTHER_CLUSTER):
        folders.append(Path(other))
    logs = [Layout.of(folder).audit_log for folder in folders]
    for path in (one for log in logs for one in (*sorted(log.parent.glob(f"{log.stem}-*{log.suffix}")), log)):
        with path.open() as lines:
            for line in lines:
                event = json.loads(line)
                about = event.get("objectRef")
                # A caller with an expired token has no name.
                if about is None or not event["user"].get("username", "").endswith(ACCOUNT):
                    continue
                yield Request(
                    about.get("namespace", ""),
                    about.get("apiGroup", ""),
                    "/".join(filter(None, (about["resource"], about.get("subresource")))),
                    event["verb"],
                    event.get("responseStatus", {}).get("code", 0),
                )


def child_writes(namespace: str) -> int:
    """How many writes of children the operator has asked for in a namespace, whatever was answered."""
    return sum(child_writes_by_kind(namespace).values())


def child_writes_by_kind(namespace: str) -> Counter[str]:
    """The same by resource and verb, for messages."""
    return Counter(
        f"{request.verb} {request.resource}"
        for request in operator_requests()
        if request.namespace == namespace and request.verb in WRITES and request.resource in CHILDREN
    )
