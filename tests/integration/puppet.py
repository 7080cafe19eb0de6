"""A simulated node: a Node with a Lease that is renewed, and pods that play their scripts.

The scheduler puts pods on it as on any node; no container is ever started. It stands beside the real
nodes, which are cordoned while it is there.
"""

import asyncio
import contextlib
import itertools
import json
import ssl
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import aiohttp

from tests.integration.background import Background
from tests.integration.kube import MERGE, Kube, Object
from tests.integration.plays import Play, Script

NODE = "puppet"
RENEW_SECONDS = 3.0
LEASE_PATH = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NODE}"
NODE_PATH = f"/api/v1/nodes/{NODE}"
MAX_LINE = 4 * 1024 * 1024


class PuppetPod:
    """One pod that plays."""

    def __init__(self, puppet: "Puppet", manifest: Object, ip: str) -> None:
        self.manifest = manifest
        self._puppet = puppet
        self._ip = ip
        self._task: asyncio.Task[None] | None = None
        self.stopping = False

    @property
    def path(self) -> str:
        """URL path."""
        meta = self.manifest["metadata"]
        return f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"

    def ip(self) -> str:
        """The pod's address: unique, and not routed anywhere."""
        return self._ip

    def begin(self, play: Play) -> None:
        """End what the pod plays and begin anew."""
        self.end()
        self._task = asyncio.create_task(self._run(play), name=f"pod {self.path}")

    def end(self) -> None:
        """Play nothing any more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self, play: Play) -> None:
        try:
            await play(self)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._puppet.errors.append(f"pod {self.path}: {error!r}")

    async def set_status(self, status: Object) -> None:
        """Write the status; nothing happens when the pod is gone."""
        body = {"metadata": {"uid": self.manifest["metadata"]["uid"]}, "status": status}
        answer = await self._puppet.request("PATCH", f"{self.path}/status", body, MERGE)
        if answer is not None:
            self.manifest = answer

    async def vanish(self) -> None:
        """Finish the deletion."""
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.manifest["metadata"]["uid"]}}
        await self._puppet.request("DELETE", self.path, body)


class Puppet:
    """The node and all of its pods; everything happens on the background loop."""

    def __init__(self, kube: Kube, background: Background) -> None:
        self._kube = kube
        self._background = background
        self._scripts: dict[str, Script] = defaultdict(Script)
        self._pods: dict[str, PuppetPod] = {}
        self._numbers = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self.errors: list[str] = []
        """What went wrong in the simulation itself."""

    def script(self, namespace: str) -> Script:
        """What the pods of a namespace do."""
        return self._scripts[namespace]

    def event(self) -> asyncio.Event:
        """An event for plays; set it with `set`."""
        return asyncio.Event()

    def set(self, event: asyncio.Event) -> None:
        """Set an event that plays wait for."""
        self._background.call_soon(event.set)

    def replay(self, namespace: str) -> None:
        """Pods that are there play the script of their namespace again, from its beginning."""

        def begin_again() -> None:
            for pod in self._pods.values():
                if pod.manifest["metadata"]["namespace"] == namespace and not pod.stopping:
                    self._play(pod)

        self._background.call_soon(begin_again)

    def start(self) -> None:
        """Register the node and play."""
        self._background.call(self._start())

    def stop(self) -> None:
        """Take the node away; its pods go with it."""
        self._background.call(self._stop())

    async def request(
        self, method: str, path: str, body: Object | None = None, content: str = "application/json"
    ) -> Object | None:
        """A call to the API server; None when the object is gone or another one by now."""
        assert self._session is not None, "the puppet is started"
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content, "User-Agent": "lepton-puppet"}
        url = self._kube.server + path
        async with self._session.request(method, url, data=data, headers=headers) as response:
            text = await response.text()
            if response.status in (404, 409):
                return None
            if response.status >= 400:
                raise RuntimeError(f"{method} {path}: HTTP {response.status} {text[:300]}")
            answer: Object = json.loads(text)
            return answer

    async def _start(self) -> None:
        tls = ssl.create_default_context(cafile=str(self._kube.ca_file))
        tls.load_cert_chain(self._kube.cert_file, self._kube.key_file)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=32, ssl=tls),
            read_bufsize=MAX_LINE,
            timeout=aiohttp.ClientTimeout(total=60),
        )
        await self._remove()
        await self.request("POST", "/api/v1/nodes", _node())
        await self.request("PATCH", f"{NODE_PATH}/status", {"status": _node_status()}, MERGE)
        await self._renew_once()
        self._tasks = [asyncio.create_task(self._renew()), asyncio.create_task(self._watch())]

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pod in self._pods.values():
            pod.end()
        await self._remove()
        if self._session is not None:
            await self._session.close()

    async def _remove(self) -> None:
        pods = await self.request("GET", f"/api/v1/pods?fieldSelector=spec.nodeName={NODE}")
        for pod in (pods or {}).get("items", ()):
            meta = pod["metadata"]
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
            await self.request("DELETE", path, {"gracePeriodSeconds": 0})
        await self.request("DELETE", NODE_PATH)
        await self.request("DELETE", LEASE_PATH)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._renew_once()
            except (aiohttp.ClientError, RuntimeError, TimeoutError) as error:
                self.errors.append(f"Lease: {error!r}")

    async def _renew_once(self) -> None:
        renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": renewed}
        if await self.request("PATCH", LEASE_PATH, {"spec": spec}, MERGE) is None:
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec}
            meta = {"name": NODE, "namespace": "kube-node-lease"}
            await self.request("POST", LEASE_PATH.rpartition("/")[0], lease | {"metadata": meta})

    async def _watch(self) -> None:
        """List, then watch, for ever: nothing is forgotten when a stream ends."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                await self._follow(await self._list())

    async def _list(self) -> str:
        found = await self.request("GET", f"/api/v1/pods?fieldSelector=spec.nodeName={NODE}")
        assert found is not None
        live = {pod["metadata"]["uid"] for pod in found["items"]}
        for uid in set(self._pods) - live:
            self._pods.pop(uid).end()
        for pod in found["items"]:
            self._seen(pod)
        version: str = found["metadata"]["resourceVersion"]
        return version

    async def _follow(self, version: str) -> None:
        assert self._session is not None
        query = f"fieldSelector=spec.nodeName={NODE}&watch=true&resourceVersion={version}"
        url = f"{self._kube.server}/api/v1/pods?{query}"
        async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as response:
            while line := await response.content.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                if event["type"] == "DELETED":
                    gone = self._pods.pop(event["object"]["metadata"]["uid"], None)
                    if gone is not None:
                        gone.end()
                else:
                    self._seen(event["object"])

    def _seen(self, manifest: Object) -> None:
        meta = manifest["metadata"]
        pod = self._pods.get(meta["uid"])
        if pod is None:
            number = next(self._numbers)
            ip = f"10.250.{number // 250 % 250}.{number % 250 + 1}"
            pod = self._pods[meta["uid"]] = PuppetPod(self, manifest, ip)
            if "deletionTimestamp" not in meta and manifest["status"].get("phase") == "Pending":
                self._play(pod)
        if "deletionTimestamp" in meta and not pod.stopping:
            pod.stopping = True
            pod.manifest = manifest
            pod.begin(self._scripts[meta["namespace"]].stop)

    def _play(self, pod: PuppetPod) -> None:
        meta = pod.manifest["metadata"]
        pod.begin(self._scripts[meta["namespace"]].play_of(meta.get("labels", {})))


def _node() -> Object:
    labels = {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels}}


def _node_status() -> Object:
    amounts = {"cpu": "10000", "memory": "100Ti", "pods": "100000", "ephemeral-storage": "100Ti"}
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    rows: list[dict[str, Any]] = [
        {
            "type": kind,
            "status": str(kind == "Ready"),
            "reason": "Simulated",
            "message": "",
            "lastHeartbeatTime": moment,
            "lastTransitionTime": moment,
        }
        for kind in ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
    ]
    return {
        "capacity": amounts,
        "allocatable": amounts,
        "conditions": rows,
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": NODE}],
    }
