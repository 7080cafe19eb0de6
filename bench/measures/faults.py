"""How long after a pod breaks its model says why: both as one client sees them arrive."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from bench import objects
from bench.client import Client, Json
from bench.figures import Figure, percentile
from bench.world import World, is_done

COUNT = 50
LABEL = "bench.lepton.ai/fault"
REASONS = {"CrashLoopBackOff": "CrashLoop", "ImagePullBackOff": "ImagePullFailed"}
"""What the kubelet says -> what the model must say."""
WAIT_SECONDS = 60.0


class Sightings:
    """When each named thing was first seen."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self._news = asyncio.Event()

    def see(self, name: str) -> None:
        """It is there now."""
        if self.times.setdefault(name, time.monotonic()) and not self._news.is_set():
            self._news.set()

    async def wait(self, names: set[str]) -> None:
        """Until all were seen."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not names <= self.times.keys():
                self._news.clear()
                await self._news.wait()


async def run(world: World) -> AsyncIterator[Figure]:
    """One pod after the other, then the rest at once."""
    async with world.namespace("bench-faults") as namespace, world.operator() as operator:
        names = [f"model-{number}" for number in range(2 * COUNT)]
        await world.create(namespace, [objects.model(name) for name in names])
        models, pods = objects.path("LeptonModel", namespace), f"/api/v1/namespaces/{namespace}/pods"
        await world.wait_for(models, names, is_done, seconds=240)
        await operator.wait_idle()
        broken, told = Sightings(), Sightings()
        watches = [
            asyncio.create_task(_follow(world.client, pods, broken, _broken_model)),
            asyncio.create_task(_follow(world.client, models, told, _model_with_fault)),
        ]
        pod_of = {_model_of(pod): pod["metadata"]["name"] for pod in (await world.client.get(pods))["items"]}
        try:
            for number, name in enumerate(names[:COUNT]):
                await _break(world.client, f"{pods}/{pod_of[name]}", number)
                await told.wait({name})
            last = enumerate(names[COUNT:])
            await asyncio.gather(*(_break(world.client, f"{pods}/{pod_of[name]}", at) for at, name in last))
            await told.wait(set(names))
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
        waits = {name: told.times[name] - broken.times[name] for name in names}
    single, burst = ([waits[name] for name in part] for part in (names[:COUNT], names[COUNT:]))
    for figure in (
        *_figures("single", "one at a time", single),
        *_figures("burst", f"{COUNT} at once", burst),
    ):
        yield figure


def _figures(key: str, how: str, seconds: list[float]) -> list[Figure]:
    return [
        Figure(
            f"faults.{key}-{label}",
            f"fault in a pod until the reason is in the status, {how}: {label}",
            percentile(seconds, percent),
            "s",
            "<= 2 s",
        )
        for label, percent in (("p50", 50), ("p90", 90), ("max", 100))
    ]


async def _break(client: Client, path: str, number: int) -> None:
    kind = list(REASONS)[number % len(REASONS)]
    await client.patch(path, {"metadata": {"labels": {LABEL: kind}}})


async def _follow(
    client: Client, path: str, sightings: Sightings, name_of: Callable[[Json], str | None]
) -> None:
    version = (await client.get(path, {"limit": "1"}))["metadata"]["resourceVersion"]
    async for event in client.watch(path, version):
        if name := name_of(event["object"]):
            sightings.see(name)


def _model_of(pod: Json) -> str:
    return str(pod["metadata"]["labels"]["lepton.ai/name"])


def _broken_model(pod: Json) -> str | None:
    containers = pod.get("status", {}).get("containerStatuses", ())
    broken = any(held["state"].get("waiting", {}).get("reason") in REASONS for held in containers)
    return _model_of(pod) if broken else None


def _model_with_fault(obj: Json) -> str | None:
    conditions = obj.get("status", {}).get("conditions", ())
    said = {row["reason"] for row in conditions if row["type"] == "Ready"}
    return str(obj["metadata"]["name"]) if said & set(REASONS.values()) else None
