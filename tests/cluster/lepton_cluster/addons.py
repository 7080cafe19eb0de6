"""What a cluster needs beyond Kubernetes: names (CoreDNS), metrics (metrics-server), volumes.

All three run as processes beside the control plane, each under its own identity and rights, and not in
pods: they start before any image is loaded and outlive the loss of any node.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Any

from lepton_cluster.layout import CONTROL_IP, DNS_SERVICE_IP, Layout, Node
from lepton_cluster.network import in_namespace
from lepton_cluster.pki import IDENTITIES, encoded
from lepton_cluster.processes import start

NAMES = ["coredns", "metrics-server", "provisioner"]
METRICS_PORT = 4443
STORAGE_CLASS = "lepton-local"
SYSTEM = "kube-system"
USER_ROLES = ("view", "edit", "admin")

Manifest = dict[str, Any]


def start_all(layout: Layout, binaries: Path) -> None:
    """Start the three processes."""
    control = layout.control_namespace
    corefile = layout.folder / "config" / "Corefile"
    corefile.write_text(_corefile(layout))
    start(layout, "coredns", control, [str(binaries / "coredns"), "-conf", str(corefile)])
    metrics_server = [str(binaries / "metrics-server"), *_metrics_server_flags(layout)]
    start(layout, "metrics-server", control, metrics_server)
    layout.storage.mkdir(exist_ok=True)
    flags = [f"--kubeconfig={layout.kubeconfig_of('provisioner')}", f"--root={layout.storage}"]
    start(layout, "provisioner", control, [str(binaries / "provisioner"), *flags])


def _corefile(layout: Layout) -> str:
    """Only the cluster's own names: there is no way to any other."""
    return f""".:53 {{
    bind {CONTROL_IP}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {layout.kubeconfig_of("coredns")}
        pods insecure
        ttl 2
    }}
    cache 2
}}
"""


def _metrics_server_flags(layout: Layout) -> list[str]:
    config = layout.kubeconfig_of("metrics-server")
    serving = layout.pki / "metrics-server-serving"
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--kubelet-certificate-authority={layout.pki / 'ca.crt'}",
        f"--bind-address={CONTROL_IP}",
        f"--secure-port={METRICS_PORT}",
        f"--tls-cert-file={serving}.crt",
        f"--tls-private-key-file={serving}.key",
    ]


def manifests(layout: Layout) -> list[Manifest]:
    """All objects of the three, in an order in which they can be applied."""
    return [*_dns(), *_metrics(layout), *_storage()]


def _dns() -> list[Manifest]:
    watched = ["endpoints", "services", "pods", "namespaces"]
    rules = [_rule("", watched, "list watch"), _rule("discovery.k8s.io", ["endpointslices"], "list watch")]
    ports = [("dns", "UDP", 53, 53), ("dns-tcp", "TCP", 53, 53)]
    return [
        *_rights("coredns", rules),
        *_service("kube-dns", ports, {"clusterIP": DNS_SERVICE_IP}),
    ]


def _metrics(layout: Layout) -> list[Manifest]:
    rules = [
        _rule("", ["nodes/metrics"], "get"),
        _rule("", ["pods", "nodes"], "get list watch"),
        _rule("authentication.k8s.io", ["tokenreviews"], "create"),
        _rule("authorization.k8s.io", ["subjectaccessreviews"], "create"),
        # How the API server signs forwarded requests.
        _rule("", ["configmaps"], "get list watch"),
    ]
    readers = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": "lepton:metrics-reader",
            "labels": {f"rbac.authorization.k8s.io/aggregate-to-{role}": "true" for role in USER_ROLES},
        },
        "rules": [_rule("metrics.k8s.io", ["pods", "nodes"], "get list watch")],
    }
    api = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "service": {"name": "metrics-server", "namespace": SYSTEM, "port": 443},
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "caBundle": encoded(layout.pki / "ca.crt"),
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
    ports = [("https", "TCP", 443, METRICS_PORT)]
    return [*_rights("metrics-server", rules), readers, *_service("metrics-server", ports, {}), api]


def _storage() -> list[Manifest]:
    rules = [
        _rule("", ["persistentvolumes"], "get list watch create update patch delete"),
        _rule("", ["persistentvolumeclaims"], "get list watch update"),
        _rule("storage.k8s.io", ["storageclasses"], "get list watch"),
        _rule("", ["events"], "get list watch create update patch"),
        _rule("", ["nodes"], "get list watch"),
    ]
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "lepton.dev/local",
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }
    return [*_rights("provisioner", rules), storage_class]


def _rule(group: str, resources: list[str], verbs: str) -> Manifest:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs.split()}


def _rights(component: str, rules: list[Manifest]) -> list[Manifest]:
    """A ClusterRole for a component, bound to its user."""
    user, _ = IDENTITIES[component]
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"kind": "User", "name": user, "apiGroup": group}],
    }
    return [role, binding]


def _service(name: str, ports: list[tuple[str, str, int, int]], spec: Manifest) -> list[Manifest]:
    """A Service without selector and its one endpoint: a process of the control plane."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": SYSTEM, "labels": {"kubernetes.io/name": name}},
        "spec": {
            **spec,
            "ports": [
                {"name": port_name, "protocol": protocol, "port": port, "targetPort": target}
                for port_name, protocol, port, target in ports
            ],
        },
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-control-plane",
            "namespace": SYSTEM,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [CONTROL_IP], "conditions": {"ready": True}}],
        "ports": [
            {"name": port_name, "protocol": protocol, "port": target}
            for port_name, protocol, _, target in ports
        ],
    }
    return [service, endpoints]


def names_resolve(node: Node) -> bool:
    """Whether a question to the DNS Service, asked on the node, is answered: CoreDNS and kube-proxy work."""
    return in_namespace(node.namespace, lambda: resolves("kubernetes.default.svc.cluster.local"))


def resolves(name: str, server: str = DNS_SERVICE_IP, seconds: float = 1.0) -> bool:
    """Ask for a name's IPv4 address; true when there is at least one."""
    header = struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
        connection.settimeout(seconds)
        try:
            connection.sendto(header + labels + b"\0" + struct.pack(">HH", 1, 1), (server, 53))
            answer = connection.recv(512)
        except OSError:
            return False
    flags, _, answers = struct.unpack(">HHH", answer[2:8])
    return bool(flags & 0x000F == 0 and answers > 0)
