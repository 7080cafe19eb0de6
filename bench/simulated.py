"""kwok: the kubelets of nodes that don't exist. Built on first use, started beside the control plane."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

from bench.client import Client, Json
from lepton_cluster import processes
from lepton_cluster.build import cache_folder, go_program, locked
from lepton_cluster.layout import API_PORT, CONTROL_IP, Layout
from lepton_cluster.pki import encoded
from lepton_workloads.contract.outcome import Outcome, PrepareResult, TrainResult

HERE = Path(__file__).parent
MODULE = HERE / "kwok"
PROGRAM = "sigs.k8s.io/kwok/cmd/kwok"
LABEL = "bench.lepton.ai/simulated"
NODES = 10
LEASE_SECONDS = 40

PREPARED = Outcome(
    prepare=PrepareResult(
        key="0" * 64,
        samples=1000,
        classes=10,
        labels=[str(digit) for digit in range(10)],
        train=800,
        validation=100,
        test=100,
        invalid_files=0,
        reused=False,
        height=32,
        width=32,
        channels=3,
        bytes=3_072_000,
    )
)
TRAINED = Outcome(
    train=TrainResult(
        digest="1" * 64,
        weights_digest="2" * 64,
        test_accuracy=0.97,
        test_loss=0.1,
        train_accuracy=0.99,
        train_loss=0.05,
        epochs=1,
        seconds=1.0,
        parameters=100_000,
        bytes=400_000,
        code_version="bench",
        tensorflow="simulated",
    )
)


def build() -> Path:
    """The program, built unless it is there."""
    digest = hashlib.sha256((MODULE / "go.mod").read_bytes() + (MODULE / "go.sum").read_bytes())
    program = cache_folder() / "bench" / f"kwok-{digest.hexdigest()[:16]}"
    with locked(cache_folder() / "bench" / "build.lock"):
        if not program.exists():
            unfinished = program.with_suffix(".unfinished")
            flags = ["-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", str(unfinished)]
            command = [go_program(), "-C", str(MODULE), "build", *flags, PROGRAM]
            subprocess.run(command, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
            unfinished.rename(program)
    return program


def start(layout: Layout) -> None:
    """Start kwok in the control plane's network; the cluster's `down` ends it like everything else."""
    if "kwok" in processes.running_names(layout):
        return
    config = layout.folder / "config"
    stages = (HERE / "stages.yaml").read_text()
    stages = stages.replace("@PREPARED@", PREPARED.to_json()).replace("@TRAINED@", TRAINED.to_json())
    (config / "stages.yaml").write_text(stages)
    (config / "kwok.kubeconfig").write_text(json.dumps(_kubeconfig(layout)))
    command = [
        str(build()),
        f"--kubeconfig={config / 'kwok.kubeconfig'}",
        f"--config={config / 'stages.yaml'}",
        f"--manage-nodes-with-label-selector={LABEL}",
        f"--node-lease-duration-seconds={LEASE_SECONDS}",
        "--node-ip=10.199.1.1",
        "--cidr=10.245.0.0/16",
    ]
    processes.start(layout, "kwok", layout.control_namespace, command)


def _kubeconfig(layout: Layout) -> Json:
    """An identity that the audit policy leaves out: kwok stands for kubelets."""
    authority = encoded(layout.pki / "ca.crt")
    server = f"https://{CONTROL_IP}:{API_PORT}"
    user = {
        "client-certificate-data": encoded(layout.pki / "kubelet-client.crt"),
        "client-key-data": encoded(layout.pki / "kubelet-client.key"),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "bench", "cluster": {"server": server, "certificate-authority-data": authority}}
        ],
        "users": [{"name": "kwok", "user": user}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "kwok"}}],
        "current-context": "bench",
    }


async def add_nodes(client: Client) -> None:
    """The simulated nodes; the real one takes no pods from now on."""
    await client.patch("/api/v1/nodes/lepton-1", {"spec": {"unschedulable": True}})
    names = [f"simulated-{number}" for number in range(1, NODES + 1)]
    for name in names:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {LABEL: "true"}}}
        await client.create("/api/v1/nodes", node, may_exist=True)

    async def ready() -> bool:
        nodes = (await client.get("/api/v1/nodes"))["items"]
        return {node["metadata"]["name"] for node in nodes if _is_ready(node)} >= set(names)

    await client.until(ready, "the simulated nodes to be Ready", seconds=60)


def _is_ready(node: Json) -> bool:
    conditions = node.get("status", {}).get("conditions", ())
    return any(row["type"] == "Ready" and row["status"] == "True" for row in conditions)
