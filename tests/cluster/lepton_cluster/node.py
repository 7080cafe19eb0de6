"""One node: containerd, kubelet and kube-proxy in the node's own network namespace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lepton_cluster import cgroups
from lepton_cluster.layout import DNS_SERVICE_IP, POD_CIDR, Layout, Node
from lepton_cluster.processes import Process, run, start, stop

PAUSE_IMAGE = "localhost/lepton-pause:1"
CNI_PLUGINS = "/usr/lib/cni"

# Plugins that find no use here, and would look for devices or make folders outside the state folder.
UNUSED_PLUGINS = [
    "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]  # fmt: skip


def components(node: Node) -> list[str]:
    """Names of the node's processes, the container runtime first."""
    return [f"{part}-{node.number}" for part in ("containerd", "kubelet", "kube-proxy")]


def start_runtime(layout: Layout, node: Node) -> None:
    """Start containerd."""
    node.run_folder.mkdir(parents=True, exist_ok=True)
    config = node.folder / "containerd.toml"
    node.folder.mkdir(parents=True, exist_ok=True)
    config.write_text(containerd_config(node))
    _write_cni_config(node)
    start(layout, f"containerd-{node.number}", node.namespace, ["containerd", "--config", str(config)])


def runtime_answers(node: Node) -> bool:
    """Whether containerd serves requests, its CRI plugin included."""
    if not node.containerd_socket.exists():
        return False
    plugins = run(ctr(node, "plugins", "ls"), check=False)
    return any(line.split()[1:2] == ["cri"] and line.split()[-1] == "ok" for line in plugins.splitlines())


def ctr(node: Node, *arguments: str) -> list[str]:
    """A command line of containerd's client for this node."""
    return ["ctr", "--address", str(node.containerd_socket), "--namespace", "k8s.io", *arguments]


def start_agents(layout: Layout, node: Node, binaries: Path) -> None:
    """Start kubelet and kube-proxy."""
    cgroups.create(node.cgroup)
    kube = str(binaries / "kube")
    kubelet = _write(node.folder / "kubelet.json", kubelet_config(layout, node))
    proxy = _write(node.folder / "kube-proxy.json", proxy_config(layout, node))
    kubelet_flags = [
        f"--config={kubelet}",
        f"--kubeconfig={layout.kubeconfig_of(f'kubelet-{node.number}')}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        f"--root-dir={node.folder / 'kubelet'}",
        f"--cert-dir={node.folder / 'kubelet-pki'}",
    ]
    start(layout, f"kubelet-{node.number}", node.namespace, [kube, "kubelet", *kubelet_flags])
    start(layout, f"kube-proxy-{node.number}", node.namespace, [kube, "kube-proxy", f"--config={proxy}"])


def stop_agents(layout: Layout, node: Node, *, grace: float) -> None:
    """Stop kubelet and kube-proxy, which would otherwise restart what ends."""
    names = {f"kubelet-{node.number}", f"kube-proxy-{node.number}"}
    stop(layout, lambda process: process.name in names, grace=grace)


def stop_pods_and_runtime(layout: Layout, node: Node, *, grace: float) -> int:
    """Kill the pods' processes, found by the node's cgroup, then the shims and containerd."""
    runtime = f"containerd-{node.number}"

    def is_runtime(process: Process) -> bool:
        return process.name == runtime and not process.is_shim

    stop(layout, is_runtime, grace=grace)
    killed = cgroups.kill_all(node.cgroup)
    stop(layout, lambda process: process.name == runtime, grace=0)
    # A shim may have been starting a container when it was killed.
    return killed + cgroups.kill_all(node.cgroup)


def _write(path: Path, content: dict[str, Any]) -> Path:
    """Write a configuration file; JSON is YAML."""
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def _write_cni_config(node: Node) -> None:
    """Routed pods (`ptp`), not bridged: Service rules then see all traffic without kernel modules."""
    folder = node.folder / "cni"
    folder.mkdir(exist_ok=True)
    addresses = node.run_folder / "pod-addresses"
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": node.pod_cidr}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(addresses),
    }
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": ipam},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    config = {"cniVersion": "0.4.0", "name": node.cluster.prefix, "plugins": plugins}
    _write(folder / "10-pods.conflist", config)


def containerd_config(node: Node) -> str:
    """containerd's configuration. JSON strings are TOML strings."""
    root, state = node.folder / "containerd", node.run_folder / "containerd"
    return f"""version = 2
root = {json.dumps(str(root))}
state = {json.dumps(str(state))}
oom_score = 0
disabled_plugins = {json.dumps(UNUSED_PLUGINS)}

[grpc]
  address = {json.dumps(str(node.containerd_socket))}

[plugins."io.containerd.grpc.v1.cri"]
  # Without CAP_SYS_RESOURCE, as in many sandboxes, runc can't lower oom_score_adj and fails.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  sandbox_image = {json.dumps(PAUSE_IMAGE)}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {json.dumps(CNI_PLUGINS)}
    conf_dir = {json.dumps(str(node.folder / "cni"))}
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
"""


def kubelet_config(layout: Layout, node: Node) -> dict[str, Any]:
    """The kubelet's configuration: quick to report, and never short of the machine's disk."""
    serving = layout.pki / f"kubelet-{node.number}-serving"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{serving}.crt",
        "tlsPrivateKeyFile": f"{serving}.key",
        "containerRuntimeEndpoint": f"unix://{node.containerd_socket}",
        "podLogsDir": str(node.folder / "logs"),
        "clusterDNS": [DNS_SERVICE_IP],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": node.cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "enforceNodeAllocatable": [],
        # A lost node is noticed after 12 s: report often enough for that.
        "nodeStatusUpdateFrequency": "3s",
        "nodeStatusReportFrequency": "30s",
        "nodeLeaseDurationSeconds": 12,
        "syncFrequency": "10s",
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
        "serializeImagePulls": False,
    }


def proxy_config(layout: Layout, node: Node) -> dict[str, Any]:
    """kube-proxy's configuration; zeros leave the machine's connection tracking as it is."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(layout.kubeconfig_of("proxy"))},
        "mode": "iptables",
        "hostnameOverride": node.name,
        "clusterCIDR": POD_CIDR,
        "oomScoreAdj": 0,
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "iptables": {"minSyncPeriod": "0.1s", "syncPeriod": "30s"},
    }
