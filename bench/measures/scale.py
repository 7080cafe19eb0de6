"""A thousand and ten thousand models: time, CPU per object, memory, restart, silence.

The last measures of a run: their objects go with the cluster.
"""

import asyncio
from collections.abc import AsyncIterator

from bench.audit import Write, counted
from bench.figures import Figure
from bench.measures.wave import Wave, figures_of, make_by_hand, make_models
from bench.process import OperatorProcess, total
from bench.world import World

SAMPLE = 100
"""Models made before and after the many: does one cost more when there are many?"""
QUIET_SECONDS = 300.0
RESYNC_SECONDS = 60
"""Every object is visited again this often while the cluster is quiet: a stricter test than the default."""


async def thousand(world: World) -> AsyncIterator[Figure]:
    """1,000 models against by hand; then, with them there, memory, a restart and five quiet minutes."""
    count = 1000
    async with world.namespace("bench-thousand-hand") as namespace:
        by_hand = await make_by_hand(world, namespace, count)
    async with world.namespace("bench-thousand", keep=True) as namespace:
        async for figure in _made(world, "thousand", namespace, count, by_hand, "<= 150 MiB"):
            yield figure
        for figure in await _restart(world, "thousand", count + SAMPLE):
            yield figure
        for figure in await _quiet(world, count + SAMPLE):
            yield figure


async def ten_thousand(world: World) -> AsyncIterator[Figure]:
    """10,000 models: CPU per object and memory, and a restart with them there."""
    count = 10_000
    async with world.namespace("bench-ten-thousand", keep=True) as namespace:
        async for figure in _made(world, "ten-thousand", namespace, count, None, "<= 400 MiB"):
            yield figure
        for figure in await _restart(world, "ten-thousand", count + SAMPLE):
            yield figure


async def _made(
    world: World, key: str, namespace: str, count: int, by_hand: float | None, memory_budget: str
) -> AsyncIterator[Figure]:
    """Some models in an empty cluster, many, and some more."""
    async with world.operator() as operator:
        async with world.namespace(f"{namespace}-before") as empty:
            before = await make_models(world, operator, empty, SAMPLE)
        wave = await make_models(world, operator, namespace, count, deadline=4800)
        figures = [*figures_of(key, wave, by_hand), *_memory(key, operator, count, memory_budget)]
        after = await make_models(world, operator, namespace, SAMPLE, prefix="after")
        for figure in (*figures, _growth(key, before, after, count)):
            yield figure


def _growth(key: str, before: Wave, after: Wave, count: int) -> Figure:
    """Flat is 1."""
    what = (
        f"CPU per model, {after.count} made with {count:,} there ({after.cpu_ms:.1f} ms) against none there "
        f"({before.cpu_ms:.1f} ms)"
    )
    return Figure(f"{key}.growth", what, after.cpu_ms / before.cpu_ms, "x", "flat")


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
            f"{key}.restart",
            f"{name}: caught up after",
            caught_up,
            "s",
            "<= 10 s" if key == "thousand" else "",
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
