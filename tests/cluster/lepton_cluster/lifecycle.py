"""Bring a cluster up, take it down, lose a node and get it back."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lepton_cluster import addons, cgroups, control_plane, images, mounts, network, node, pki, processes
from lepton_cluster.api import Api, condition_is_true
from lepton_cluster.build import Say, build, install_packages
from lepton_cluster.errors import ClusterError
from lepton_cluster.layout import Layout, Node
from lepton_cluster.state import State

MARKER = ".lepton-cluster"  # shows that a folder is the tool's own and may be deleted
WATCH_INSTANCES = 1024  # of inotify, for all clusters of the machine together
DEFAULT_ACCOUNT = "/api/v1/namespaces/default/serviceaccounts/default"
METRICS_SERVICE = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io"
NODE_METRICS = "/apis/metrics.k8s.io/v1beta1/nodes"


def up(layout: Layout, count: int | None, say: Say) -> None:
    """Make sure that a healthy cluster of so many nodes (None: as many as it has) runs: that one, or a new one."""
    install_packages(say)
    binaries = build(say)
    if count is None:
        found = State.load(layout)
        count = found.nodes if found else 1
    wanted = State(count, binaries, fingerprint())
    if problem(layout, wanted) is None:
        say(f"The cluster is up: {count} node(s), kubeconfig {layout.kubeconfig}")
        return
    started = time.monotonic()
    raise_watch_limit()
    refuse_foreign_folder(layout)
    remove(layout, lambda line: say(f"Cleaning up what is left: {line}"), grace=0)
    layout.folder.mkdir(parents=True, exist_ok=True)
    (layout.folder / MARKER).touch()
    _create(layout, wanted, say)
    wanted.save(layout)
    say(f"The cluster is up after {time.monotonic() - started:.0f} s: kubeconfig {layout.kubeconfig}")


def raise_watch_limit() -> None:
    """Each kubelet, containerd and kube-proxy watches files; the usual 128 instances end with the third cluster."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(limit.read_text()) < WATCH_INSTANCES:
        limit.write_text(str(WATCH_INSTANCES))


def fingerprint() -> str:
    """Changes when the tool itself does: a running cluster of an older tool is not reused."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def problem(layout: Layout, wanted: State) -> str | None:
    """Why the cluster can't be used as it is, or None."""
    found = State.load(layout)
    if found is None:
        return "it is not up"
    if found != wanted:
        return "it was made with other settings"
    nodes = layout.nodes(found.nodes)
    missing = sorted(set(all_components(nodes)) - processes.running_names(layout))
    if missing:
        return f"not running: {', '.join(missing)}"
    try:
        api = Api(layout)
    except (OSError, ValueError) as error:
        return f"its files are damaged: {error}"
    if not api.ready():
        return "the API server is not ready"
    unready = sorted({n.name for n in nodes} - api.ready_nodes())
    return f"not Ready: {', '.join(unready)}" if unready else None


def all_components(nodes: list[Node]) -> list[str]:
    """Names of all processes of a cluster."""
    of_nodes = [name for n in nodes for name in node.components(n)]
    return [*control_plane.STORE, *control_plane.CONTROLLERS, *addons.NAMES, *of_nodes]


def _create(layout: Layout, wanted: State, say: Say) -> None:
    nodes = layout.nodes(wanted.nodes)
    binaries = wanted.binaries
    say(f"Starting a cluster of {wanted.nodes} node(s) in {layout.folder}")
    network.create(layout, nodes)
    listener = control_plane.listen(layout)
    with listener:
        _prepare_folder(layout, nodes, listener, binaries)
        control_plane.start_store(layout, binaries, listener)
    for n in nodes:
        node.start_runtime(layout, n)
    api = Api(layout)
    processes.wait_for(layout, "the API server", api.ready, components=control_plane.STORE, seconds=120)
    say("The API server is ready")
    control_plane.start_controllers(layout, binaries)
    for n in nodes:
        _wait_for_runtime(layout, n)
    images.load(nodes, [images.pause_archive()], lambda line: None)
    for n in nodes:
        node.start_agents(layout, n, binaries)
    api.apply(addons.manifests(layout))
    addons.start_all(layout, binaries)
    _wait_until_usable(layout, nodes, api, say)


def _prepare_folder(layout: Layout, nodes: list[Node], listener: socket.socket, binaries: Path) -> None:
    pki.create(layout, nodes, port=listener.getsockname()[1])
    layout.kubectl.parent.mkdir(exist_ok=True)
    layout.kubectl.symlink_to(binaries / "kube")


def _wait_for_runtime(layout: Layout, n: Node) -> None:
    what, name = f"containerd of {n.name}", f"containerd-{n.number}"
    processes.wait_for(layout, what, lambda: node.runtime_answers(n), components=[name], seconds=60)


def _wait_until_usable(layout: Layout, nodes: list[Node], api: Api, say: Say) -> None:
    """Wait for all that a pod needs: its node, its account, its names."""

    def wait(what: str, condition: Callable[[], bool], components: list[str]) -> None:
        processes.wait_for(layout, what, condition, components=components, seconds=120)

    account = "the default ServiceAccount"
    wait(account, lambda: api.exists(DEFAULT_ACCOUNT), ["api-server", "controller-manager"])
    for n in nodes:
        wait(f"{n.name} to be Ready", partial(_is_ready, api, n), node.components(n))
    say(f"Ready: {', '.join(n.name for n in nodes)}")
    for n in nodes:
        parts = ["coredns", f"kube-proxy-{n.number}"]
        wait(f"names to resolve on {n.name}", partial(addons.names_resolve, n), parts)
    wait("the metrics API to be registered", lambda: api.exists(METRICS_SERVICE), addons.NAMES)
    say("Names resolve; StorageClass lepton-local is the default")


def _is_ready(api: Api, n: Node) -> bool:
    return n.name in api.ready_nodes()


def wait_metrics(layout: Layout, say: Say) -> None:
    """Wait until `kubectl top` has numbers of every node."""
    state = State.require(layout)
    api = Api(layout)

    def have_metrics() -> bool:
        available = condition_is_true(api.get(METRICS_SERVICE), "Available")
        return available and len(api.get(NODE_METRICS).get("items", [])) >= state.nodes

    processes.wait_for(
        layout, "metrics of all nodes", have_metrics, components=["metrics-server"], seconds=120, interval=0.5
    )
    say("Metrics of all nodes are there")


def refuse_foreign_folder(layout: Layout) -> None:
    """Never delete a folder that the tool did not make."""
    folder = layout.folder
    if folder.exists() and not (folder / MARKER).exists() and any(folder.iterdir()):
        raise ClusterError(f"{folder} is not empty and not a cluster's folder: choose another with --dir")


def remove(layout: Layout, say: Say, *, grace: float) -> None:
    """Stop and delete whatever exists of the cluster; works on any part of it."""
    refuse_foreign_folder(layout)
    nodes = [layout.node(number) for number in (1, 2)]
    stopped = len(processes.running_names(layout))
    for n in nodes:
        node.stop_agents(layout, n, grace=grace)
    pods = sum(node.stop_pods_and_runtime(layout, n, grace=grace) for n in nodes)
    processes.stop(layout, lambda process: True, grace=grace)
    if stopped or pods:
        say(f"stopped {stopped} processes of the cluster and {pods} of pods")
    for n in nodes:
        cgroups.remove(n.cgroup)
    folders = (layout.run_folder, layout.nodes_folder, layout.folder)
    unmounted = sum(mounts.unmount_below(folder) for folder in folders)
    if names := network.remove(layout):
        say(f"removed {unmounted} mounts and the namespaces {', '.join(names)}")
    _remove_traces(layout)
    found = layout.folder.exists()
    for folder in folders:
        mounts.remove_folder(folder)
    if found:
        say(f"deleted {layout.folder}")


def _remove_traces(layout: Layout) -> None:
    """Files that kubelet and CNI write to fixed places of the machine."""
    for path in Path("/var/log/containers").glob("*.log"):
        if path.is_symlink() and path.readlink().is_relative_to(layout.nodes_folder):
            path.unlink()
    results = Path("/var/lib/cni/results")
    for path in results.glob(f"{layout.prefix}-*-eth0"):
        sandbox = path.name.removeprefix(f"{layout.prefix}-").removesuffix("-eth0")
        (results / f"cni-loopback-{sandbox}-lo").unlink(missing_ok=True)
        path.unlink()


def stop_node(layout: Layout, number: int, say: Say) -> None:
    """Lose a node: cable out, everything on it killed at once, nothing told to the API server."""
    n = _node(layout, number)
    network.set_link(layout, n, "down")
    node.stop_agents(layout, n, grace=0)
    pods = node.stop_pods_and_runtime(layout, n, grace=0)
    say(f"{n.name} is off; {pods} processes of its pods were killed")


def start_node(layout: Layout, number: int, say: Say) -> None:
    """Switch a lost node on again; as after a reboot, its images are there and its pods are not."""
    n = _node(layout, number)
    state = State.require(layout)
    if set(node.components(n)) <= processes.running_names(layout):
        say(f"{n.name} is on already")
        return
    mounts.unmount_below(n.folder)
    mounts.remove_folder(n.run_folder)
    network.set_link(layout, n, "up")
    node.start_runtime(layout, n)
    _wait_for_runtime(layout, n)
    node.start_agents(layout, n, state.binaries)
    api, started = Api(layout), time.time()

    def reported() -> bool:
        return _is_ready(api, n) and _lease_renewed(api, n, started)

    processes.wait_for(layout, f"{n.name} to be Ready", reported, components=node.components(n), seconds=120)
    say(f"{n.name} is Ready again")


def _lease_renewed(api: Api, n: Node, since: float) -> bool:
    """Whether the kubelet itself was heard since then: an old Ready of before the loss doesn't count."""
    lease = api.get(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{n.name}")
    renewed = lease.get("spec", {}).get("renewTime", "")
    return bool(renewed >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since)))


def _node(layout: Layout, number: int) -> Node:
    count = State.require(layout).nodes
    if not 1 <= number <= count:
        raise ClusterError(f"There is no node {number}: the cluster has {count}")
    return layout.node(number)


def status(layout: Layout) -> tuple[bool, dict[str, object]]:
    """Whether the cluster is healthy, and what there is to know about it."""
    state = State.load(layout)
    trouble = problem(layout, state) if state else "it is not up"
    facts: dict[str, object] = {"healthy": trouble is None, "problem": trouble, "folder": str(layout.folder)}
    if state:
        running = processes.running_names(layout)
        facts["nodes"] = {n.name: set(node.components(n)) <= running for n in layout.nodes(state.nodes)}
        facts["kubeconfig"] = str(layout.kubeconfig)
        if layout.kubeconfig.exists():
            config = json.loads(layout.kubeconfig.read_text())
            facts["server"] = config["clusters"][0]["cluster"]["server"]
    return trouble is None, facts
