"""N models at once until all are Ready, against the same children made by hand on the same nodes."""

import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from bench import objects
from bench.audit import counted
from bench.client import Json
from bench.figures import Figure
from bench.process import OperatorProcess, total
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
    visits: float
    """Of the operator to objects."""
    requests: float
    """To the API server, watches aside."""

    @property
    def cpu_ms(self) -> float:
        """Of the operator, per object."""
        return self.cpu_seconds / self.count * 1000


async def run(world: World) -> AsyncIterator[Figure]:
    """A hundred, several times in turn; the round with the median ratio."""
    rounds: list[tuple[float, float, Wave]] = []
    for number in range(ROUNDS):
        async with world.namespace(f"bench-hand-{number}") as namespace:
            by_hand = await make_by_hand(world, namespace, COUNT)
        async with world.namespace(f"bench-wave-{number}") as namespace, world.operator() as operator:
            wave = await make_models(world, operator, namespace, COUNT)
        rounds.append((wave.seconds / by_hand, by_hand, wave))
    _, by_hand, wave = sorted(rounds, key=lambda taken: taken[0])[ROUNDS // 2]
    for figure in (*figures_of("wave", wave, by_hand), _spread(rounds)):
        yield figure


def figures_of(key: str, wave: Wave, by_hand: float | None = None) -> list[Figure]:
    """What every wave tells; `by_hand` in seconds."""
    count = f"{wave.count:,} at once"
    figures = [
        Figure(f"{key}.seconds", f"{wave.count:,} models until Ready", wave.seconds, "s"),
        Figure(f"{key}.cpu", f"CPU per model, {count}", wave.cpu_ms, "ms", "<= 12 ms"),
        Figure(
            f"{key}.writes", f"writes per model, {count}", sum(wave.writes.values()) / wave.count, "", "<= 7"
        ),
        Figure(f"{key}.requests", f"requests per model, {count}", wave.requests / wave.count),
        Figure(f"{key}.visits", f"visits per model, {count}", wave.visits / wave.count),
    ]
    if by_hand is not None:
        what = f"{wave.count:,} models' children made by hand until available"
        figures = [
            Figure(f"{key}.by-hand", what, by_hand, "s"),
            Figure(
                f"{key}.ratio",
                f"{wave.count:,} models against by hand",
                wave.seconds / by_hand,
                "x",
                BUDGET_RATIO,
            ),
            *figures,
        ]
    return figures


def _spread(rounds: list[tuple[float, float, Wave]]) -> Figure:
    what = f"{COUNT} models against by hand, worst of {ROUNDS} rounds"
    return Figure("wave.worst-ratio", what, max(ratio for ratio, _, _ in rounds), "x")


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
    world: World,
    operator: OperatorProcess,
    namespace: str,
    count: int,
    *,
    prefix: str = "model",
    deadline: float = 600.0,
) -> Wave:
    """The same by the operator."""
    names = [f"{prefix}-{number}" for number in range(count)]
    manifests = [objects.model(name) for name in names]
    before = await operator.metrics()
    world.audit.skip()
    cpu = operator.cpu_seconds()
    started = time.monotonic()
    await world.create(namespace, manifests)
    path = objects.path("LeptonModel", namespace)
    seconds = await world.wait_for(path, names, is_done, seconds=deadline) - started
    await operator.wait_idle()
    used, after = operator.cpu_seconds() - cpu, await operator.metrics()

    def grown(metric: str) -> float:
        return total(after, metric) - total(before, metric)

    return Wave(
        count,
        seconds,
        used,
        dict(counted(world.audit.writes())),
        grown("lepton_reconcile_total"),
        grown("lepton_rest_client_requests_total"),
    )


def is_available(deployment: Json) -> bool:
    """True when all wanted pods answer."""
    wanted = deployment["spec"]["replicas"]
    return bool(deployment.get("status", {}).get("availableReplicas", 0) == wanted)
