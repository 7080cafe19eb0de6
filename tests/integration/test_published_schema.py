"""What a user sees of the CRDs in the cluster: every field explained, applied again without a change."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lepton_operator.api import KINDS
from lepton_operator.api.kind import Kind
from tests.integration.furniture import kubectl
from tests.integration.kube import Kube
from tests.unit.schema import Schema, root_schema

FOLDER = Path(__file__).parents[2] / "crds"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KUBERNETES_OWN = (".apiVersion", ".kind", ".metadata")
EACH_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def fields(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Path and schema of every field; those of an item of a list stand below the list."""
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from fields(child, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], path)


@EACH_KIND
def test_kubectl_lists_every_field(kube: Kube, kind: Kind) -> None:
    printed = kubectl("explain", "--recursive", f"{kind.plural}.spec") + kubectl(
        "explain", "--recursive", f"{kind.plural}.status"
    )
    listed = set(re.findall(r"^\s+(\w+)\t<", printed, re.MULTILINE))
    parts = root_schema(kind)["properties"]
    names = {path.rpartition(".")[2] for part in ("spec", "status") for path, _ in fields(parts[part])}
    assert names - listed == set()


@EACH_KIND
def test_the_server_publishes_the_description_of_every_field(kube: Kube, kind: Kind) -> None:
    """It is what `kubectl explain` shows."""
    group = kube.request("GET", "/openapi/v3/apis/lepton.ai/v1alpha1")
    published = group["components"]["schemas"][f"ai.lepton.v1alpha1.{kind.name}"]
    for path, schema in fields(root_schema(kind)):
        if path in KUBERNETES_OWN:
            continue
        shown = node_at(published, path.lstrip(".").split("."))
        assert shown["description"] == schema["description"], path
        assert schema.get("default") == shown.get("default"), path


def node_at(schema: Any, names: list[str]) -> Any:
    for name in names:
        schema = schema.get("items", schema)["properties"][name]
    return schema


def test_kubectl_explains_a_field(kube: Kube) -> None:
    printed = kubectl("explain", "lm.spec.autoscaling.minReplicas")
    assert "Fewest pods, at least 1; to stop serving write replicas: 0." in printed


def crds(kube: Kube) -> dict[str, tuple[int, str]]:
    """Generation and resourceVersion of each."""
    metas = [kube.request("GET", f"{CRD}/{kind.plural}.lepton.ai")["metadata"] for kind in KINDS]
    return {meta["name"]: (meta["generation"], meta["resourceVersion"]) for meta in metas}


@pytest.mark.parametrize("flags", [(), ("--server-side", "--force-conflicts")], ids=["client", "server"])
def test_the_crds_apply_again_without_a_change(kube: Kube, flags: tuple[str, ...]) -> None:
    kubectl("apply", *flags, "-f", str(FOLDER))
    held = crds(kube)
    kubectl("apply", *flags, "-f", str(FOLDER))
    assert crds(kube) == held
    assert set(held) == {
        yaml.safe_load(path.read_text())["metadata"]["name"] for path in FOLDER.glob("*.yaml")
    }
