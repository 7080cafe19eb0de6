"""What lists held and the watch never brought: the sign of a dead watch, and nothing else."""

from typing import Any

import pytest

from lepton_operator import resync
from lepton_operator.observe import World
from lepton_operator.resync import Resync

LIMIT = 300.0


class Listing:
    """A cluster that only lists, and only LeptonModels."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    async def list_page(self, resource: Any, _namespace: str | None, _query: Any) -> dict[str, Any]:
        items = self.items if resource.kind == "LeptonModel" else []
        return {"items": items, "metadata": {"resourceVersion": "1000"}}


class Stage:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.cluster = Listing()
        self.world = World(lambda _key: None)
        monkeypatch.setattr(resync.time, "monotonic", lambda: self.now)
        self.resync = Resync(self.cluster, self.world, None, namespaces=(), seconds=600)

    async def list(self, at: float, **objects: int) -> None:
        """A resync at a time that finds objects with these versions."""
        self.now = at
        self.cluster.items = [model(name, version) for name, version in objects.items()]
        await self.resync.refresh()

    def unseen(self, at: float) -> str | None:
        self.now = at
        return self.resync.unseen(LIMIT)


def model(name: str, version: int) -> dict[str, Any]:
    meta = {"namespace": "team", "name": name, "uid": name, "resourceVersion": str(version)}
    return {"apiVersion": "lepton.ai/v1alpha1", "kind": "LeptonModel", "metadata": meta, "spec": {}}


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


async def test_a_watch_that_is_behind_two_lists_is_dead(stage: Stage) -> None:
    await stage.list(0, digits=5)
    assert stage.unseen(LIMIT + 1) is None
    await stage.list(600, digits=5)
    assert "LeptonModel" in (stage.unseen(601) or "")


async def test_it_stays_dead_while_its_objects_change(stage: Stage) -> None:
    await stage.list(0, digits=5)
    await stage.list(600, digits=9)
    assert "version 9" in (stage.unseen(601) or "")


async def test_an_object_that_was_deleted_before_the_watch_began_is_not_missed(stage: Stage) -> None:
    await stage.list(0, digits=5)
    await stage.list(600)
    assert stage.unseen(601) is None
    await stage.list(1200, other=7)
    assert stage.unseen(1201) is None


async def test_a_watch_that_brought_the_change_is_alive(stage: Stage) -> None:
    await stage.list(0, digits=5)
    await stage.list(600, digits=5)
    stage.world.objects["LeptonModel"].watched_version = 5
    assert stage.unseen(601) is None
