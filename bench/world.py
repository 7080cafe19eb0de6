"""What every measure starts from: a control plane of its own, simulated nodes, the CRDs, no operator yet."""

import asyncio
import fcntl
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench import objects, simulated
from bench.audit import AuditLog
from bench.client import BenchError, Client, Json
from bench.process import ROOT, OperatorProcess
from lepton_cluster.layout import Layout

FOLDER = ROOT / ".cluster-bench"
LOCK = Path("/run/lepton-bench.lock")
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GONE_SECONDS = 900.0


def cluster_tool(*arguments: str) -> None:
    """The local cluster's own command line."""
    tool = ROOT / "tests" / "cluster" / "cli.py"
    subprocess.run([sys.executable, str(tool), *arguments, "--dir", str(FOLDER)], check=True)


@dataclass
class World:
    """The cluster that measures work on."""

    layout: Layout
    client: Client
    audit: AuditLog
    running: list[OperatorProcess] = field(default_factory=list)

    @property
    def operator_log(self) -> Path:
        """What all operators under test said."""
        return self.layout.logs / "operator.log"

    @asynccontextmanager
    async def operator(self, *flags: str) -> AsyncIterator[OperatorProcess]:
        """A ready, idle operator, stopped at the end."""
        process = self.start_operator(*flags)
        await process.wait_ready()
        await process.wait_idle()
        yield process
        await process.stop()

    def start_operator(self, *flags: str) -> OperatorProcess:
        """An operator that has just been started."""
        process = OperatorProcess(self.layout.kubeconfig, self.operator_log, *flags)
        self.running.append(process)
        return process

    @asynccontextmanager
    async def namespace(self, name: str, *, keep: bool = False) -> AsyncIterator[str]:
        """A namespace with bound claims; all pods in it are gone at the end, unless it is the last one (`keep`)."""
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await self.client.create("/api/v1/namespaces", manifest)
        claims = f"/api/v1/namespaces/{name}/persistentvolumeclaims"
        for claim in (objects.CLAIM, "lepton-store"):
            await self.client.create(claims, objects.claim(claim))

        async def bound() -> bool:
            found = (await self.client.get(claims))["items"]
            return all(held["status"].get("phase") == "Bound" for held in found)

        await self.client.until(bound, "the claims to be bound", seconds=60)
        yield name
        if not keep:
            await self.empty(name)

    async def empty(self, name: str) -> None:
        """Delete what measures make, wait until its pods are gone, and leave the rest to the namespace's end.

        A namespace that is deleted with everything in it takes its time between tries: minutes with many objects.
        """
        for path in (*(objects.path(kind, name) for kind in objects.PLURALS), *objects.child_paths(name)):
            await self.client.delete_all(path)

        async def gone() -> bool:
            lists = [
                await self.client.get(path, {"limit": "1"})
                for path in (
                    f"/api/v1/namespaces/{name}/pods",
                    f"/apis/apps/v1/namespaces/{name}/replicasets",
                )
            ]
            return not any(held["items"] for held in lists)

        await self.client.until(gone, f"the pods of {name} to be gone", seconds=GONE_SECONDS, every=0.5)
        await self.client.delete(f"/api/v1/namespaces/{name}")

    async def create(self, namespace: str, manifests: Iterable[Json]) -> None:
        """Lepton objects, many at a time."""
        await self.client.create_all(
            (objects.path(manifest["kind"], namespace), manifest) for manifest in manifests
        )

    async def wait_for(
        self, path: str, names: Iterable[str], reached: Callable[[Json], bool], seconds: float
    ) -> float:
        """Watch a collection until all named objects are as wanted; the moment when the last one was seen."""
        missing = set(names)
        listed = await self.client.get(path)
        for item in listed["items"]:
            if reached(item):
                missing.discard(item["metadata"]["name"])
        try:
            async with asyncio.timeout(seconds):
                events = self.client.watch(path, listed["metadata"]["resourceVersion"])
                while missing:
                    obj = (await anext(events))["object"]
                    if reached(obj):
                        missing.discard(obj["metadata"]["name"])
        except TimeoutError:
            text = f"{len(missing)} objects, {sorted(missing)[:3]}, are not as wanted after {seconds:.0f} s"
            raise BenchError(f"{path}: {text}") from None
        return time.monotonic()


def is_done(obj: Json) -> bool:
    """True when the kind's main condition is True for the present spec."""
    wanted = objects.DONE[obj["kind"]]
    status = obj.get("status", {})
    return status.get("observedGeneration") == obj["metadata"]["generation"] and any(
        row["type"] == wanted and row["status"] == "True" for row in status.get("conditions", ())
    )


@asynccontextmanager
async def prepared() -> AsyncIterator[World]:
    """A fresh cluster with nodes and CRDs; it is stopped at the end, and every operator with it."""
    with _alone():
        async with _fresh_cluster() as world:
            yield world


@contextmanager
def _alone() -> Iterator[None]:
    """Two runs would share a cluster's folder, and each other's figures."""
    with LOCK.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError("Another run of the benchmark is not over yet") from None
        yield


@asynccontextmanager
async def _fresh_cluster() -> AsyncIterator[World]:
    simulated.build()
    cluster_tool("down")
    cluster_tool("up", "--nodes", "1")
    layout = Layout.of(FOLDER)
    client = Client(layout.kubeconfig, layout.pki)
    try:
        simulated.start(layout)
        await simulated.add_nodes(client)
        await _apply_crds(client)
        world = World(layout, client, AuditLog(layout.audit_log))
        try:
            yield world
        finally:
            for process in world.running:
                process.kill()
            world.audit.close()
    finally:
        await client.close()
        cluster_tool("down")


async def _apply_crds(client: Client) -> None:
    for file in sorted((ROOT / "crds").glob("*.yaml")):
        manifest = json.loads(json.dumps(yaml.safe_load(file.read_text())))
        await client.apply(f"{CRDS}/{manifest['metadata']['name']}", manifest)

    async def established() -> bool:
        items = (await client.get(CRDS))["items"]
        return all(_is_established(item) for item in items)

    await client.until(established, "the CRDs to be served", seconds=60, every=0.2)


def _is_established(crd: Json) -> bool:
    conditions = crd.get("status", {}).get("conditions") or ()
    return any(row["type"] == "Established" and row["status"] == "True" for row in conditions)
