"""Certificates and kubeconfigs: one authority, one identity per component, as a production cluster has."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from lepton_cluster.layout import API_PORT, API_SERVICE_IP, CONTROL_IP, Layout, Node
from lepton_cluster.processes import run

# Group of the components that run beside the control plane; it grants nothing, the audit policy knows it.
COMPONENTS_GROUP = "lepton:cluster-components"

# file name of the identity: (user, group)
IDENTITIES = {
    "admin": ("lepton-admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", COMPONENTS_GROUP),
    "scheduler": ("system:kube-scheduler", COMPONENTS_GROUP),
    "proxy": ("system:kube-proxy", COMPONENTS_GROUP),
    "coredns": ("lepton:coredns", COMPONENTS_GROUP),
    "metrics-server": ("lepton:metrics-server", COMPONENTS_GROUP),
    "provisioner": ("lepton:provisioner", COMPONENTS_GROUP),
    "kubelet-client": ("lepton:api-server", "system:masters"),
}

API_SERVER_NAMES = [
    "IP:127.0.0.1", f"IP:{CONTROL_IP}", f"IP:{API_SERVICE_IP}", "DNS:localhost", "DNS:kubernetes",
    "DNS:kubernetes.default", "DNS:kubernetes.default.svc", "DNS:kubernetes.default.svc.cluster.local",
]  # fmt: skip
METRICS_SERVER_NAMES = ["DNS:metrics-server.kube-system.svc", f"IP:{CONTROL_IP}"]


def create(layout: Layout, nodes: list[Node], port: int) -> None:
    """Make all keys, certificates and kubeconfigs of a new cluster."""
    layout.pki.mkdir(parents=True, mode=0o700)
    # Not the machine's file, which adds extensions of its own.
    (layout.pki / "openssl.cnf").write_text("[req]\ndistinguished_name = name\n[name]\n")
    _authority(layout.pki, "ca", "lepton-cluster")
    _authority(layout.pki, "front-proxy-ca", "lepton-front-proxy")
    _serving(layout.pki, "api-server", API_SERVER_NAMES)
    _serving(layout.pki, "metrics-server-serving", METRICS_SERVER_NAMES)
    _client(layout.pki, "front-proxy", "front-proxy", COMPONENTS_GROUP, authority="front-proxy-ca")
    run(["openssl", "genrsa", "-out", str(layout.pki / "service-accounts.key"), "2048"])
    key = str(layout.pki / "service-accounts.key")
    run(["openssl", "rsa", "-in", key, "-pubout", "-out", str(layout.pki / "service-accounts.pub")])
    inside = f"https://{CONTROL_IP}:{API_PORT}"
    for name, (user, group) in IDENTITIES.items():
        _client(layout.pki, name, user, group)
        _kubeconfig(layout, name, inside, layout.kubeconfig_of(name))
    for node in nodes:
        name = f"kubelet-{node.number}"
        _client(layout.pki, name, f"system:node:{node.name}", "system:nodes")
        _kubeconfig(layout, name, inside, layout.kubeconfig_of(name))
        _serving(layout.pki, f"{name}-serving", [f"IP:{node.address}", f"DNS:{node.name}"])
    _kubeconfig(layout, "admin", f"https://127.0.0.1:{port}", layout.kubeconfig)


def _authority(pki: Path, name: str, common_name: str) -> None:
    extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
    _request(pki, name, f"/CN={common_name}", extensions)


def _serving(pki: Path, name: str, names: list[str]) -> None:
    extensions = ["extendedKeyUsage=serverAuth", f"subjectAltName={','.join(names)}"]
    _request(pki, name, f"/CN={name}", extensions, authority="ca")


def _client(pki: Path, name: str, user: str, group: str, authority: str = "ca") -> None:
    _request(pki, name, f"/O={group}/CN={user}", ["extendedKeyUsage=clientAuth"], authority=authority)


def _request(pki: Path, name: str, subject: str, extensions: list[str], authority: str | None = None) -> None:
    command = [
        "openssl", "req", "-config", str(pki / "openssl.cnf"),
        "-x509", "-nodes", "-days", "365", "-subj", subject,
        "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
        "-keyout", str(pki / f"{name}.key"), "-out", str(pki / f"{name}.crt"),
    ]  # fmt: skip
    if authority:
        command += ["-CA", str(pki / f"{authority}.crt"), "-CAkey", str(pki / f"{authority}.key")]
        extensions = ["basicConstraints=critical,CA:FALSE", "authorityKeyIdentifier=keyid", *extensions]
    for extension in ["subjectKeyIdentifier=hash", *extensions]:
        command += ["-addext", extension]
    run(command)


def encoded(path: Path) -> str:
    """A file's content as kubeconfigs and Kubernetes objects hold it."""
    return base64.b64encode(path.read_bytes()).decode()


def _kubeconfig(layout: Layout, identity: str, server: str, path: Path) -> None:
    """Write a kubeconfig with everything embedded, so it works from anywhere on the machine."""
    pki = layout.pki
    name = layout.prefix
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {"server": server, "certificate-authority-data": encoded(pki / "ca.crt")},
            }
        ],
        "users": [
            {
                "name": identity,
                "user": {
                    "client-certificate-data": encoded(pki / f"{identity}.crt"),
                    "client-key-data": encoded(pki / f"{identity}.key"),
                },
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": identity}}],
        "current-context": name,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1) + "\n")
