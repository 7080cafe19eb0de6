"""The operator's own minimal rights in one namespace: account, Role, binding, token, kubeconfig.

They come from the manifests that users apply (deploy/namespaced), so the tests find a right that is missing.
"""

import json
from pathlib import Path

import yaml

from tests.integration.kube import Kube, Object, until

ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "deploy/base/account.yaml", ROOT / "deploy/namespaced/rights.yaml")
ACCOUNT = "lepton-operator"
TOKEN_SECONDS = 7200


def manifests(namespace: str) -> list[Object]:
    """Account, Roles and bindings, for one namespace."""
    found: list[Object] = []
    for source in SOURCES:
        for obj in yaml.safe_load_all(source.read_text()):
            for subject in obj.get("subjects", ()):
                subject["namespace"] = namespace
            found.append(obj | {"metadata": obj["metadata"] | {"namespace": namespace}})
    return found


def create_namespace(kube: Kube, name: str) -> None:
    """A namespace under Pod Security "restricted" in which pods can be made, with the operator's rights."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "lepton-test": "integration"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    kube.create(namespace)
    for obj in manifests(name):
        kube.apply(obj, name)
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    until(lambda: kube.find(account), f"the default ServiceAccount of {name}")


def new_token(kube: Kube, namespace: str) -> str:
    """A token of the operator's account."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{ACCOUNT}/token"
    spec = {"expirationSeconds": TOKEN_SECONDS}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    token: str = kube.request("POST", path, body)["status"]["token"]
    return token


def write_kubeconfig(path: Path, server: str, token: str, namespace: str) -> None:
    """A kubeconfig with that token; replaced in one go, so that no reader sees half of it."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": server}}],
        "users": [{"name": "operator", "user": {"token": token}}],
        "contexts": [
            {"name": "it", "context": {"cluster": "proxy", "user": "operator", "namespace": namespace}}
        ],
        "current-context": "it",
    }
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(json.dumps(config))
    new.replace(path)


def role_rules(kube: Kube, namespace: str) -> list[Object]:
    """The rules of the operator's Role."""
    rules: list[Object] = kube.request("GET", role_path(namespace))["rules"]
    return rules


def role_path(namespace: str) -> str:
    """URL path of the operator's Role."""
    return f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles/{ACCOUNT}"
