"""The manifests in deploy/: the same rights in a cluster and in a namespace, and no others."""

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"


def documents(path: str) -> dict[str, Any]:
    """Objects of a file by kind."""
    return {item["kind"]: item for item in yaml.safe_load_all((DEPLOY / path).read_text())}


def test_the_rights_in_a_namespace_are_those_in_a_cluster() -> None:
    cluster, namespaced = documents("cluster/rights.yaml"), documents("namespaced/rights.yaml")
    assert set(cluster) == {"ClusterRole", "ClusterRoleBinding"}
    assert set(namespaced) == {"Role", "RoleBinding"}
    assert cluster["ClusterRole"]["rules"] == namespaced["Role"]["rules"]


def test_no_right_reaches_secrets_or_writes_a_spec() -> None:
    for rule in documents("namespaced/rights.yaml")["Role"]["rules"]:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "secrets" not in rule["resources"]
        if rule["apiGroups"] == ["lepton.ai"] and not rule["resources"][0].endswith("/status"):
            assert set(rule["verbs"]) <= {"get", "list", "watch"}
