"""What one object of each kind costs: writes by verb and resource, and the operator's CPU."""

from collections import Counter
from collections.abc import AsyncIterator

from bench import objects
from bench.audit import counted
from bench.client import Json
from bench.figures import Figure
from bench.process import OperatorProcess
from bench.world import World, is_done

MANY = 100
DEADLINE_SECONDS = 240.0

CHILDREN = {"LeptonModel": 2, "LeptonDataset": 1, "LeptonTrainingJob": 2}
"""Deployment and Service; Job; Job and headless Service. The store's claim is there before."""

CPU_BUDGET = {"LeptonModel": "<= 12 ms"}
EVENTS_BUDGET = {"LeptonModel": "<= 2"}
"""The design gives them for models only."""

PLAIN = {"LeptonModel": "model", "LeptonDataset": "dataset", "LeptonTrainingJob": "training job"}


async def run(world: World) -> AsyncIterator[Figure]:
    """One of each kind, then a hundred at once."""
    async with world.namespace("bench-kinds") as namespace, world.operator() as operator:
        await _create(world, operator, namespace, [objects.dataset("data")])
        for kind in CHILDREN:
            one, _ = await _create(world, operator, namespace, _manifests(kind, "one", 1))
            for figure in _writes_of_one(kind, one):
                yield figure
            many, cpu = await _create(world, operator, namespace, _manifests(kind, "many", MANY))
            for figure in _of_many(kind, many, cpu):
                yield figure


def _manifests(kind: str, prefix: str, count: int) -> list[Json]:
    names = [f"{prefix}-{number}" for number in range(count)]
    if kind == "LeptonDataset":
        return [objects.dataset(name) for name in names]
    if kind == "LeptonTrainingJob":
        return [objects.training_job(name, "data") for name in names]
    return [objects.model(name) for name in names]


async def _create(
    world: World, operator: OperatorProcess, namespace: str, manifests: list[Json]
) -> tuple[Counter[str], float]:
    """Create and wait until all are done and the operator has nothing to do; writes, and CPU seconds."""
    world.audit.skip()
    before = operator.cpu_seconds()
    await world.create(namespace, manifests)
    names = [manifest["metadata"]["name"] for manifest in manifests]
    await world.wait_for(
        objects.path(manifests[0]["kind"], namespace), names, is_done, seconds=DEADLINE_SECONDS
    )
    await operator.wait_idle()
    return counted(world.audit.writes()), operator.cpu_seconds() - before


def _writes_of_one(kind: str, writes: Counter[str]) -> list[Figure]:
    told = ", ".join(f"{count} {what}" for what, count in sorted(writes.items()))
    status, events = _status(writes), writes["create events"]
    children, what = writes.total() - status - events, f"writes for a new {PLAIN[kind]}"
    return [
        Figure(f"kinds.{kind}.writes", f"{what} ({told})", writes.total()),
        Figure(f"kinds.{kind}.children", f"{what}: children", children, "", f"{CHILDREN[kind]}"),
        Figure(f"kinds.{kind}.status", f"{what}: status", status, "", "<= 3"),
        Figure(f"kinds.{kind}.events", f"{what}: Events", events, "", EVENTS_BUDGET.get(kind, "")),
    ]


def _of_many(kind: str, writes: Counter[str], cpu: float) -> list[Figure]:
    name = f"{PLAIN[kind]} of {MANY} created at once"
    status = _status(writes) / MANY
    return [
        Figure(f"kinds.{kind}.writes-of-many", f"writes per {name}", writes.total() / MANY),
        Figure(f"kinds.{kind}.status-of-many", f"status writes per {name}", status, "", "<= 3"),
        Figure(f"kinds.{kind}.cpu", f"CPU per {name}", cpu / MANY * 1000, "ms", CPU_BUDGET.get(kind, "")),
    ]


def _status(writes: Counter[str]) -> int:
    return sum(count for what, count in writes.items() if what.endswith("/status"))
