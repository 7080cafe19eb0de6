"""What the API server saw the operator do: its audit log, beside the cluster's kubeconfig."""

import json
import os
from collections import Counter
from pathlib import Path

from lepton_cluster.layout import Layout

ACCOUNT = ":lepton-operator"
WRITES = frozenset(("create", "update", "patch", "delete"))
CHILDREN = frozenset(("jobs", "deployments", "services", "poddisruptionbudgets", "horizontalpodautoscalers"))


def child_writes(namespace: str) -> int:
    """How many writes of children the operator has asked for in a namespace, whatever was answered."""
    return sum(child_writes_by_kind(namespace).values())


def child_writes_by_kind(namespace: str) -> Counter[str]:
    """The same by resource and verb, for messages."""
    log = Layout.of(Path(os.environ["KUBECONFIG"]).parent).audit_log
    found: Counter[str] = Counter()
    for path in (*sorted(log.parent.glob(f"{log.stem}-*{log.suffix}")), log):
        with path.open() as lines:
            for line in lines:
                event = json.loads(line)
                about = event.get("objectRef") or {}
                ours = event["user"]["username"].endswith(ACCOUNT) and event["verb"] in WRITES
                if ours and about.get("namespace") == namespace and about.get("resource") in CHILDREN:
                    found[f"{event['verb']} {about['resource']}"] += 1
    return found
