"""Where everything of one cluster lives, and what its parts are called.

All names come from the state folder's path, so several clusters share a machine without knowing of
each other, and whatever a killed run left behind can be found again without a record of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

CONTROL_IP = "10.199.0.1"
API_PORT = 6443
SERVICE_CIDR = "10.96.0.0/16"
API_SERVICE_IP = "10.96.0.1"
DNS_SERVICE_IP = "10.96.0.10"
POD_CIDR = "10.244.0.0/16"

# The kubelet makes UNIX sockets below its folder; the kernel allows 107 characters for a socket's path.
LONGEST_FOLDER = 60


@dataclass(frozen=True)
class Node:
    """One node: a network namespace with its own containerd, kubelet and kube-proxy."""

    number: int
    cluster: Layout

    @property
    def name(self) -> str:
        return f"lepton-{self.number}"

    @property
    def namespace(self) -> str:
        return f"{self.cluster.prefix}-{self.number}"

    @property
    def address(self) -> str:
        return f"10.199.0.{10 + self.number}"

    @property
    def pod_cidr(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def folder(self) -> Path:
        return self.cluster.nodes_folder / str(self.number)

    @property
    def run_folder(self) -> Path:
        """Sockets and mounts of running containers; on a tmpfs, gone after a reboot as they should be."""
        return self.cluster.run_folder / str(self.number)

    @property
    def containerd_socket(self) -> Path:
        return self.run_folder / "containerd.sock"

    @property
    def cgroup(self) -> str:
        """Below it are all pods of the node, and nothing else."""
        return f"/{self.cluster.prefix}-{self.number}"


@dataclass(frozen=True)
class Layout:
    """Paths and names of one cluster."""

    folder: Path

    @classmethod
    def of(cls, folder: str | Path) -> Layout:
        """The layout for a state folder."""
        return cls(Path(folder).resolve())

    @property
    def digest(self) -> str:
        return hashlib.sha256(str(self.folder).encode()).hexdigest()[:6]

    @property
    def prefix(self) -> str:
        return f"lepton-{self.digest}"

    @property
    def control_namespace(self) -> str:
        """The control plane's network namespace, which also holds the wire between the nodes."""
        return f"{self.prefix}-0"

    @property
    def run_folder(self) -> Path:
        return Path("/run") / self.prefix

    @property
    def nodes_folder(self) -> Path:
        """In the state folder, unless its path is too long for the sockets below it."""
        if len(str(self.folder)) <= LONGEST_FOLDER:
            return self.folder / "nodes"
        return Path("/var/tmp") / self.prefix

    @property
    def pki(self) -> Path:
        return self.folder / "pki"

    @property
    def logs(self) -> Path:
        return self.folder / "log"

    @property
    def storage(self) -> Path:
        return self.folder / "storage"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def state_file(self) -> Path:
        return self.folder / "state.json"

    @property
    def kubectl(self) -> Path:
        return self.folder / "bin" / "kubectl"

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    def kubeconfig_of(self, component: str) -> Path:
        """The kubeconfig of a component inside the cluster's network."""
        return self.folder / "config" / f"{component}.kubeconfig"

    def node(self, number: int) -> Node:
        return Node(number, self)

    def nodes(self, count: int) -> list[Node]:
        return [self.node(number) for number in range(1, count + 1)]

    def preferred_port(self) -> int:
        """The same port for the same folder, so a kubeconfig copied elsewhere outlives a restart."""
        return 20000 + int(self.digest, 16) % 10000
