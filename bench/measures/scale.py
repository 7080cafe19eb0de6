"""A thousand and ten thousand models: time, CPU per object, memory, restart, silence.

The last measures of a run: their objects go with the cluster.
"""

import asyncio
from collections.abc import AsyncIterator

from bench.audit import Write, counted
from bench.figures import Figure
from bench.measures.wave import figures_of, make_by_hand, make_models
from bench.process import OperatorProcess, total
from bench.world import World

QUIET_SECONDS = 300.0
RESYNC_SECONDS = 60
"""Every object is visited again this often while the cluster is quiet: a stricter test than the default."""


async def thousand(world: World) -> AsyncIterator[Figure]:
    """1,000 models against by hand; then, with them there, memory, a restart and five quiet minutes."""
    count = 1000
    async with world.namespace("bench-thousand-hand") as namespace:
        by_hand = await make_by_hand(world, namespace, count)
    async with world.namespace("bench-thousand", keep=True) as namespace:
        async with world.operator() as operator:
            wave = await make_models(world, operator, namespace, count)
            for figure in figures_of("thousand", wave, by_hand):
                yield figure
            for figure in _memory("thousand", operator, count, "<= 150 MiB"):
                yield figure
        for figure in await _restart(world, "thousand", count):
            yield figure
        for figure in await _quiet(world, count):
            yield figure


async def ten_thousand(world: World) -> AsyncIterator[Figure]:
    """10,000 models: CPU per object and memory, and a restart with them there."""
    count = 10_000
    async with world.namespace("bench-ten-thousand", keep=True) as namespace:
        async with world.operator() as operator:
            wave = await make_models(world, operator, namespace, count, deadline=2400)
            for figure in figures_of("ten-thousand", wave):
                yield figure
            for figure in _memory("ten-thousand", operator, count, "<= 400 MiB"):
                yield figure
        for figure in await _restart(world, "ten-thousand", count):
            yield figure


def _memory(key: str, operator: OperatorProcess, count: int, budget: str) -> list[Figure]:
    now, peak = operator.memory_mib()
    return [
        Figure(f"{key}.memory", f"operator's memory with {count:,} models", now, "MiB", budget),
        Figure(f"{key}.peak", f"the same, peak while they were made, {count:,} models", peak, "MiB"),
    ]


async def _restart(world: World, key: str, count: int) -> list[Figure]:
    """From nothing until every object was visited and nothing waits."""
    world.audit.skip()
    operator = world.start_operator()
    ready = await operator.wait_ready()

    async def all_visited() -> bool:
        return total(await operator.metrics(), "lepton_reconcile_total") >= count

    await world.client.until(all_visited, "a visit of every object", seconds=120, every=0.1)
    caught_up = await operator.wait_idle(every=0.1) - operator.started
    cpu, (memory, _) = operator.cpu_seconds(), operator.memory_mib()
    writes = world.audit.writes()
    await operator.stop()
    name = f"restart with {count:,} converged models"
    return [
        Figure(f"{key}.restart-ready", f"{name}: ready after", ready, "s"),
        Figure(
            f"{key}.restart", f"{name}: caught up after", caught_up, "s", "<= 10 s" if count == 1000 else ""
        ),
        Figure(f"{key}.restart-writes", f"{name}: writes{_told(writes)}", len(writes), "", "0"),
        Figure(f"{key}.restart-cpu", f"{name}: CPU", cpu, "s"),
        Figure(f"{key}.restart-memory", f"{name}: memory", memory, "MiB"),
    ]


async def _quiet(world: World, count: int) -> list[Figure]:
    async with world.operator(f"--resync-seconds={RESYNC_SECONDS}") as operator:
        world.audit.skip()
        cpu = operator.cpu_seconds()
        # Not a wait for anything: the silence of so many minutes is what is measured.
        await asyncio.sleep(QUIET_SECONDS)
        used, writes = operator.cpu_seconds() - cpu, world.audit.writes()
        visits = total(await operator.metrics(), "lepton_reconcile_total")
    name = f"{QUIET_SECONDS / 60:.0f} quiet minutes with {count:,} models, resync every {RESYNC_SECONDS} s"
    return [
        Figure("thousand.quiet-writes", f"{name}: writes{_told(writes)}", len(writes), "", "0"),
        Figure("thousand.quiet-visits", f"{name}: visits", visits),
        Figure("thousand.quiet-cpu", f"{name}: CPU", used, "s"),
    ]


def _told(writes: list[Write]) -> str:
    return f" ({', '.join(f'{many} {what}' for what, many in counted(writes).items())})" if writes else ""
