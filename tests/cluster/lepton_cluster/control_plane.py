"""etcd, API server, controller manager, scheduler, and the door to them from the machine."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from lepton_cluster.errors import ClusterError
from lepton_cluster.layout import API_PORT, CONTROL_IP, POD_CIDR, SERVICE_CIDR, Layout
from lepton_cluster.pki import COMPONENTS_GROUP
from lepton_cluster.processes import start

STORE = ["etcd", "api-server", "forward"]
CONTROLLERS = ["controller-manager", "scheduler"]
ETCD_URL = "http://127.0.0.1:2379"

# Components that watch and renew all day: in the log they would only hide what people and operators do.
QUIET_USERS = ["system:apiserver", "lepton:api-server", "system:anonymous"]
QUIET_GROUPS = ["system:nodes", "system:serviceaccounts:kube-system", COMPONENTS_GROUP]


def listen(layout: Layout) -> socket.socket:
    """A listening socket on the machine's loopback address, on the folder's own port if that is free."""
    first = layout.preferred_port()
    for port in range(first, first + 100):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            listener.close()
            continue
        listener.listen(512)
        return listener
    raise ClusterError(f"No port from {first} to {first + 99} is free on 127.0.0.1")


def audit_policy() -> dict[str, object]:
    """Who did what, without bodies and without the cluster's own components."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "users": QUIET_USERS},
            {"level": "None", "userGroups": QUIET_GROUPS},
            {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version"]},
            {"level": "Metadata"},
        ],
    }


def start_store(layout: Layout, binaries: Path, listener: socket.socket) -> None:
    """Start etcd, the API server and the forward to it."""
    policy = layout.folder / "config" / "audit-policy.json"
    policy.write_text(json.dumps(audit_policy(), indent=1) + "\n")
    kube = str(binaries / "kube")
    control = layout.control_namespace
    start(layout, "etcd", control, [kube, "etcd", *_etcd_flags(layout)])
    start(layout, "api-server", control, [kube, "kube-apiserver", *_api_server_flags(layout, policy)])
    forward = [str(binaries / "forward"), f"{CONTROL_IP}:{API_PORT}"]
    start(layout, "forward", control, forward, pass_fd=listener.fileno())


def start_controllers(layout: Layout, binaries: Path) -> None:
    """Start the controller manager and the scheduler; they give up when there is no API server yet."""
    kube = str(binaries / "kube")
    control = layout.control_namespace
    manager = [kube, "kube-controller-manager", *_manager_flags(layout)]
    start(layout, "controller-manager", control, manager)
    # A pod that was tried a moment too early is tried again after seconds, not after five minutes.
    again = "--pod-max-in-unschedulable-pods-duration=15s"
    scheduler = [kube, "kube-scheduler", *_common_flags(layout, "scheduler"), again]
    start(layout, "scheduler", control, scheduler)


def _etcd_flags(layout: Layout) -> list[str]:
    return [
        f"--data-dir={layout.folder / 'etcd'}",
        f"--listen-client-urls={ETCD_URL}",
        f"--advertise-client-urls={ETCD_URL}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",  # the cluster does not outlive the machine
        "--quota-backend-bytes=4294967296",
        "--log-level=warn",
    ]


def _api_server_flags(layout: Layout, policy: Path) -> list[str]:
    pki = layout.pki
    return [
        f"--etcd-servers={ETCD_URL}",
        f"--bind-address={CONTROL_IP}",
        f"--advertise-address={CONTROL_IP}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        f"--tls-cert-file={pki / 'api-server.crt'}",
        f"--tls-private-key-file={pki / 'api-server.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--service-account-key-file={pki / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        # Pods of a lost node are replaced after 10 s instead of 5 min.
        "--default-not-ready-toleration-seconds=10",
        "--default-unreachable-toleration-seconds=10",
        *_kubelet_access_flags(pki),
        *_aggregation_flags(pki),
        *_audit_flags(layout, policy),
    ]


def _kubelet_access_flags(pki: Path) -> list[str]:
    return [
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
    ]


def _aggregation_flags(pki: Path) -> list[str]:
    """For metrics-server, and for webhooks: routed to endpoints, as no kube-proxy runs here."""
    return [
        "--enable-aggregator-routing=true",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy.key'}",
    ]


def _audit_flags(layout: Layout, policy: Path) -> list[str]:
    return [
        f"--audit-policy-file={policy}",
        f"--audit-log-path={layout.audit_log}",
        "--audit-log-maxsize=100",
        "--audit-log-maxbackup=2",
    ]


def _common_flags(layout: Layout, name: str) -> list[str]:
    config = layout.kubeconfig_of(name)
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--leader-elect=false",
        # The default of 20 requests a second is the bottleneck of every load test.
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    ]


def _manager_flags(layout: Layout) -> list[str]:
    return [
        *_common_flags(layout, "controller-manager"),
        f"--service-account-private-key-file={layout.pki / 'service-accounts.key'}",
        f"--root-ca-file={layout.pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={layout.pki / 'ca.crt'}",
        f"--cluster-signing-key-file={layout.pki / 'ca.key'}",
        f"--cluster-cidr={POD_CIDR}",
        "--allocate-node-cidrs=false",
        "--use-service-account-credentials=true",
        "--node-monitor-period=2s",
        "--node-monitor-grace-period=12s",
    ]
