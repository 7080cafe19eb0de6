"""The health checks reach Argo CD's ConfigMap by both documented ways, and leave the rest of it alone."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.kubectl import Kubectl
from lepton_operator.api import KINDS
from tests.e2e.cluster import Namespace

FOLDER = Path(__file__).parents[2] / "deploy" / "argocd"
WANTED = yaml.safe_load((FOLDER / "argocd-cm.yaml").read_text())["data"]
ARGOCD_CM = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "argocd-cm", "labels": {"app.kubernetes.io/part-of": "argocd"}},
    "data": {"url": "https://argocd.example.org"},
}


def check(config_map: dict[str, Any]) -> None:
    assert config_map["data"] == {"url": "https://argocd.example.org", **WANTED}
    assert config_map["metadata"]["labels"] == {"app.kubernetes.io/part-of": "argocd"}


@pytest.fixture
def namespace(kubectl: Kubectl) -> Iterator[Namespace]:
    """A namespace; no operator is needed."""
    created = Namespace.create(kubectl, "argocd-health")
    yield created
    created.delete()


def test_there_is_one_key_for_each_kind() -> None:
    assert list(WANTED) == [f"resource.customizations.health.lepton.ai_{kind.name}" for kind in KINDS]


def test_the_component_adds_the_health_checks(kubectl: Kubectl, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "lepton")
    (tmp_path / "argocd-cm.yaml").write_text(json.dumps(ARGOCD_CM))
    kustomization = {"resources": ["argocd-cm.yaml"], "components": ["lepton"]}
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    check(yaml.safe_load(kubectl.run("kustomize", str(tmp_path))))


def test_kubectl_patch_adds_the_health_checks(namespace: Namespace) -> None:
    namespace.apply(ARGOCD_CM)
    namespace.run("patch", "configmap", "argocd-cm", "--patch-file", str(FOLDER / "argocd-cm.yaml"))
    check(namespace.get("configmap", "argocd-cm"))
