"""Lepton's local cluster: a real Kubernetes of one or two nodes on a bare Linux machine.

Run from the repository's root: python3 tests/cluster/cli.py COMMAND [--dir DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from lepton_cluster import images, lifecycle
from lepton_cluster.build import build, install_packages, locked
from lepton_cluster.errors import ClusterError
from lepton_cluster.layout import Layout
from lepton_cluster.state import State


def say(line: str) -> None:
    """Progress goes to standard error, so that the output of `env` and `status` can be read by programs."""
    print(f"cluster: {line}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--dir", default=".cluster", help="state folder (default: .cluster)")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[shared])

    add("build", "install Debian packages and build the programs; nothing to do when that is done")
    start = add("up", "start the cluster, or reuse it when it is healthy")
    start.add_argument(
        "--nodes", type=int, choices=(1, 2), help="number of nodes (default: as many as it has, else 1)"
    )
    add("down", "stop the cluster and delete its state folder")
    load = add("load", "import OCI image archives into every node")
    load.add_argument("archives", nargs="+", type=Path, metavar="IMAGE.tar")
    add("status", "print the cluster's state as JSON; exit code 1 when it is not healthy")
    add("wait-metrics", "wait until metrics of all nodes are there")
    add("env", "print the paths of kubeconfig and kubectl as shell variables")
    for name, text in (("node-stop", "lose a node abruptly"), ("node-start", "switch a lost node on again")):
        add(name, text).add_argument("number", type=int, choices=(1, 2), metavar="N")
    return root


def load(layout: Layout, archives: list[Path]) -> None:
    nodes = layout.nodes(State.require(layout).nodes)
    images.load(nodes, archives, say)
    say(f"{len(archives)} image archive(s) are on {len(nodes)} node(s)")


def execute(arguments: argparse.Namespace, layout: Layout) -> int:
    """Carry out a command; the exit code."""
    match arguments.command:
        case "build":
            install_packages(say)
            say(f"The programs are in {build(say)}")
        case "up":
            lifecycle.up(layout, arguments.nodes, say)
        case "down":
            lifecycle.remove(layout, say, grace=3)
            say("The cluster is down")
        case "load":
            load(layout, arguments.archives)
        case "wait-metrics":
            lifecycle.wait_metrics(layout, say)
        case "node-stop":
            lifecycle.stop_node(layout, arguments.number, say)
        case "node-start":
            lifecycle.start_node(layout, arguments.number, say)
        case "env":
            print(f"KUBECONFIG={layout.kubeconfig}\nKUBECTL={layout.kubectl}")
        case "status":
            healthy, facts = lifecycle.status(layout)
            print(json.dumps(facts, indent=1))
            return 0 if healthy else 1
    return 0


def main() -> int:
    arguments = parser().parse_args()
    try:
        layout = Layout.of(arguments.dir)
        if arguments.command == "env":
            return execute(arguments, layout)
        if os.geteuid() != 0:
            raise ClusterError("The local cluster makes network namespaces and mounts: run it as root")
        if arguments.command in ("build", "status", "wait-metrics"):
            return execute(arguments, layout)
        with locked(Path(f"/run/{layout.prefix}.lock")):
            return execute(arguments, layout)
    except ClusterError as error:
        say(f"Error: {error}")
        return 1
    except KeyboardInterrupt:
        say("Interrupted; the next `up` cleans up")
        return 130


if __name__ == "__main__":
    sys.exit(main())
