"""The cluster's network: namespaces joined by a bridge, with no way out.

    control plane  10.199.0.1   bridge "wire" in the namespace PREFIX-0
    node N         10.199.0.1N  eth0, one end of a veth pair whose other end is a port of the bridge
    pods of node N 10.244.N.0/24, routed through their node

The addresses exist only in these namespaces, none of which has a link to the machine's own network. So
nothing that a pod sends leaves the machine, and no iptables rule in there touches the machine's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from lepton_cluster.layout import CONTROL_IP, Layout, Node
from lepton_cluster.processes import run

NETNS = Path("/run/netns")
CLONE_NEWNET = 0x40000000

Result = TypeVar("Result")


def create(layout: Layout, nodes: list[Node]) -> None:
    """Make the namespaces, the bridge and the routes between control plane, nodes and pods."""
    control = layout.control_namespace
    run(["ip", "netns", "add", control])
    _ip(control, "link set lo up")
    _ip(control, "link add wire type bridge")
    _ip(control, f"addr add {CONTROL_IP}/24 dev wire")
    _ip(control, "link set wire up")
    for node in nodes:
        _create_node(layout, node)
    for node in nodes:
        _ip(control, f"route add {node.pod_cidr} via {node.address}")
        for peer in nodes:
            if peer != node:
                _ip(node.namespace, f"route add {peer.pod_cidr} via {peer.address}")


def _create_node(layout: Layout, node: Node) -> None:
    control, port = layout.control_namespace, _port(node)
    run(["ip", "netns", "add", node.namespace])
    _ip(node.namespace, "link set lo up")
    _ip(control, f"link add {port} type veth peer name eth0 netns {node.namespace}")
    _ip(control, f"link set {port} master wire up")
    _ip(node.namespace, f"addr add {node.address}/24 dev eth0")
    _ip(node.namespace, "link set eth0 up")
    # A way for Service addresses, which kube-proxy rewrites only after a route was chosen.
    _ip(node.namespace, f"route add default via {CONTROL_IP}")
    forwarding = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    run(["nsenter", f"--net={NETNS / node.namespace}", "sh", "-c", forwarding])


def _port(node: Node) -> str:
    return f"node{node.number}"


def set_link(layout: Layout, node: Node, state: str) -> None:
    """Pull a node's cable (`down`) or put it back (`up`)."""
    _ip(layout.control_namespace, f"link set {_port(node)} {state}")


def namespaces(layout: Layout) -> list[str]:
    """The cluster's network namespaces that exist now."""
    if not NETNS.is_dir():
        return []
    return sorted(path.name for path in NETNS.iterdir() if path.name.startswith(f"{layout.prefix}-"))


def remove(layout: Layout) -> list[str]:
    """Delete the cluster's network namespaces, and with them all that is inside."""
    names = namespaces(layout)
    for name in names:
        run(["ip", "netns", "delete", name], check=False)
        (NETNS / name).unlink(missing_ok=True)  # left by a run killed between file and mount
    return names


def in_namespace(namespace: str, function: Callable[[], Result]) -> Result:
    """Call a function in a network namespace, in a thread of its own as namespaces belong to threads."""

    def enter() -> Result:
        libc = ctypes.CDLL(None, use_errno=True)
        with (NETNS / namespace).open() as handle:
            if libc.setns(handle.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"The namespace {namespace} can't be entered")
        return function()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(enter).result()


def _ip(namespace: str, arguments: str) -> None:
    run(["ip", "-netns", namespace, *arguments.split()])
