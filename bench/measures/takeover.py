"""How long nobody works after the leading operator dies, or stops: until the standby's first write."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator

from bench import objects
from bench.figures import Figure
from bench.process import OperatorProcess, total
from bench.world import World

ROUNDS = 5
LIMIT_SECONDS = 40.0


async def run(world: World) -> AsyncIterator[Figure]:
    """A leader and a warm standby, again and again; a new object is there to work on when the leader ends."""
    async with world.namespace("bench-takeover") as namespace:
        leader = await _start(world, namespace)
        await _wait_for_lead(world, leader)
        killed: list[float] = []
        stopped: list[float] = []
        for number in range(ROUNDS):
            for how, taken in ((signal.SIGKILL, killed), (signal.SIGTERM, stopped)):
                standby = await _start(world, namespace)
                taken.append(
                    await _change(world, namespace, leader, how, f"model-{how.name.lower()}-{number}")
                )
                leader = standby
        await leader.stop()
    yield Figure(
        "takeover.killed", f"take-over after kill -9, longest of {ROUNDS}", max(killed), "s", "<= 15 s"
    )
    what = f"take-over after a clean stop, longest of {ROUNDS}"
    yield Figure("takeover.stopped", what, max(stopped), "s", "at once")


async def _start(world: World, namespace: str) -> OperatorProcess:
    """An operator whose caches are full."""
    process = world.start_operator(f"--lease-namespace={namespace}")
    await process.wait_ready()
    return process


async def _wait_for_lead(world: World, process: OperatorProcess) -> None:
    async def leads() -> bool:
        return total(await process.metrics(), "lepton_leader") == 1

    await world.client.until(leads, "the first operator to lead", seconds=LIMIT_SECONDS, every=0.2)


async def _change(
    world: World, namespace: str, leader: OperatorProcess, how: signal.Signals, name: str
) -> float:
    """Seconds from the signal to the first write for an object that the leader never saw."""
    ended = time.time()
    stopping = asyncio.create_task(leader.stop(how))
    if how is signal.SIGTERM:
        await stopping
    await world.create(namespace, [objects.model(name)])

    async def first_write() -> float:
        return min((write.time for write in world.audit.writes() if write.name == name), default=0.0)

    first: float = await world.client.until(first_write, "a write of the standby", seconds=LIMIT_SECONDS)
    await stopping
    return first - ended
