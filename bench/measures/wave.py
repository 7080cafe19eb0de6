"""N models at once until all are Ready, against the same children made by hand on the same nodes."""

import statistics
import time
import uuid
from dataclasses import dataclass

from bench import objects
from bench.audit import counted
from bench.client import Json
from bench.figures import Figure
from bench.process import OperatorProcess
from bench.world import World, is_done

ROUNDS = 3
COUNT = 100
BUDGET_RATIO = "<= 1.3"


@dataclass(frozen=True, slots=True)
class Wave:
    """What N models cost."""

    count: int
    seconds: float
    cpu_seconds: float
    writes: dict[str, int]

    @property
    def cpu_ms(self) -> float:
        """Per object."""
        return self.cpu_seconds / self.count * 1000

    @property
    def writes_each(self) -> float:
        """Per object."""
        return sum(self.writes.values()) / self.count


async def run(world: World) -> list[Figure]:
    """A hundred, several times in turn; the median of the ratios."""
    by_hand, waves = [], []
    for number in range(ROUNDS):
        async with world.namespace(f"bench-hand-{number}") as namespace:
            by_hand.append(await make_by_hand(world, namespace, COUNT))
        async with world.namespace(f"bench-wave-{number}") as namespace, world.operator() as operator:
            waves.append(await make_models(world, operator, namespace, COUNT))
    ratio = statistics.median(wave.seconds / hand for wave, hand in zip(waves, by_hand, strict=True))
    typical = statistics.median(wave.seconds for wave in waves)
    return [
        Figure(
            "wave.by-hand",
            f"{COUNT} models' children made by hand until available",
            statistics.median(by_hand),
            "s",
        ),
        Figure("wave.seconds", f"{COUNT} models until Ready", typical, "s"),
        Figure("wave.ratio", f"{COUNT} models against by hand, median of {ROUNDS}", ratio, "x", BUDGET_RATIO),
        Figure(
            "wave.cpu",
            f"CPU per model, {COUNT} at once",
            min(wave.cpu_ms for wave in waves),
            "ms",
            "<= 12 ms",
        ),
        Figure("wave.writes", f"writes per model, {COUNT} at once", max(wave.writes_each for wave in waves)),
    ]


async def make_by_hand(world: World, namespace: str, count: int, deadline: float = 600.0) -> float:
    """Seconds from the first request until all Deployments are available."""
    names = [f"model-{number}" for number in range(count)]
    manifests = [
        child for name in names for child in objects.children_by_hand(namespace, name, str(uuid.uuid4()))
    ]
    started = time.monotonic()
    await world.client.create_all(manifests)
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    return await world.wait_for(path, names, is_available, seconds=deadline) - started


async def make_models(
    world: World, operator: OperatorProcess, namespace: str, count: int, deadline: float = 600.0
) -> Wave:
    """The same by the operator."""
    names = [f"model-{number}" for number in range(count)]
    manifests = [objects.model(name) for name in names]
    world.audit.skip()
    cpu = operator.cpu_seconds()
    started = time.monotonic()
    await world.create(namespace, manifests)
    path = objects.path("LeptonModel", namespace)
    seconds = await world.wait_for(path, names, is_done, seconds=deadline) - started
    await operator.wait_idle()
    return Wave(count, seconds, operator.cpu_seconds() - cpu, dict(counted(world.audit.writes())))


def is_available(deployment: Json) -> bool:
    """True when all wanted pods answer."""
    wanted = deployment["spec"]["replicas"]
    return bool(deployment.get("status", {}).get("availableReplicas", 0) == wanted)
