"""Thousands of objects come and go: memory, caches and queue are flat.

`make test` runs 1,000 cycles; `make soak` goes on for SOAK_MINUTES.
"""

import os
import time
from collections.abc import Iterable

import pytest

from tests.integration.kube import Object, until
from tests.integration.objects import dataset, served_model, training_job
from tests.integration.sandbox import Lab, Sandbox

AT_ONCE = 50
"""Objects that come and go side by side: a cycle each."""
CYCLES = 1000
WARM_UP = 300
"""Until then the process may grow: code paths, connections, allocator arenas, tombstones of deleted objects."""
MARGIN = 8 * 1024 * 1024
"""A leak of one slim object (6 KB and more) a cycle would be 4 MiB and more in 700 cycles, several objects a
cycle more than this; the allocator alone moves the figure by some MiB."""
GAUGES = ("lepton_cached_objects", "lepton_workqueue_depth", "lepton_workqueue_active_workers")


MINUTES = float(os.environ.get("SOAK_MINUTES") or 0)

pytestmark = pytest.mark.timeout(900 + 60 * MINUTES)


def batch(number: int) -> list[Object]:
    """Objects of all kinds with names of their own, and some names that come again in every batch."""
    kinds = (
        lambda name: dataset(name, revision=name),
        lambda name: training_job(name, dataset="kept"),
        lambda name: served_model(name),
    )
    return [kinds[at % 3](f"again-{at}" if at % 10 == 0 else f"n{number}-{at}") for at in range(AT_ONCE)]


def gauges(box: Sandbox) -> dict[str, float]:
    """What must return to its start; Warning Events expire by themselves."""
    return {
        name: value
        for name, value in box.operator.metrics().items()
        if name.startswith(GAUGES) and 'resource="events"' not in name
    }


def cycle(box: Sandbox, objects: Iterable[Object]) -> None:
    """All come to their end, all go."""
    objects = list(objects)
    for obj in objects:
        box.create(obj)
    box.wait_settled(deadline=300)
    for obj in objects:
        box.delete(obj["kind"], obj["metadata"]["name"])
    until(lambda: len(box.children()) == 1 and len(box.all("Pod")) == 1, box.report, 300)


def test_memory_is_flat_while_objects_come_and_go(lab: Lab) -> None:
    with lab.sandbox("soak") as box:
        claim = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        box.kube.create(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "models"},
                "spec": claim,
            },
            box.namespace,
        )
        box.operator.start()
        box.create(dataset("kept"))
        box.wait_settled()
        until(box.operator.is_idle, "that the operator rests")
        start, began, done = gauges(box), time.monotonic(), 0
        memory: list[int] = []
        while done < CYCLES or time.monotonic() - began < 60 * MINUTES:
            cycle(box, batch(done))
            done += AT_ONCE
            until(lambda: gauges(box) == start, lambda: f"{start}\nbut {gauges(box)}", 60)
            memory.append(box.operator.memory())
            print(f"{done} cycles, {memory[-1] / 2**20:.1f} MiB, {box.operator.cpu_seconds():.1f} s of CPU")
        warm = max(memory[: WARM_UP // AT_ONCE])
        assert min(memory[-3:]) <= warm + MARGIN, [round(size / 2**20, 1) for size in memory]
