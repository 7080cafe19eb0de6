"""Watches: chunks, bookmarks, cut streams and versions that are too old."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from lepton_operator import watch
from lepton_operator.api_errors import Gone, ServerError, Unreachable
from lepton_operator.cache import Cache
from lepton_operator.resources import JOB, Resource
from lepton_operator.watch import Watcher

Event = dict[str, Any]


def job(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": str(version)}}


def event(kind: str, name: str, version: int) -> Event:
    return {"type": kind, "object": job(name, version)}


class Script:
    """A cluster that answers lists and watches from a script, then stays silent for ever."""

    def __init__(self) -> None:
        self.pages: list[Any] = []
        self.streams: list[list[Any]] = []
        self.asked: list[Mapping[str, str]] = []
        self.silent = asyncio.Event()

    async def list_page(self, _resource: Resource, _namespace: str | None, query: Mapping[str, str]) -> Any:
        self.asked.append(dict(query))
        answer = self.pages.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def watch(
        self,
        _resource: Resource,
        _namespace: str | None,
        query: Mapping[str, str],
        *,
        inactivity_seconds: float,
    ) -> AsyncIterator[Event]:
        assert 0 < inactivity_seconds < 300
        self.asked.append(dict(query))
        if not self.streams:
            self.silent.set()
            await asyncio.Event().wait()
        for item in self.streams.pop(0):
            if isinstance(item, Exception):
                raise item
            yield item


def page(version: int, *items: Any, token: str = "") -> Any:
    return {"metadata": {"resourceVersion": str(version), "continue": token}, "items": list(items)}


@pytest.fixture
def cache() -> Cache:
    return Cache(JOB)


@pytest.fixture
def run(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], Any]:
    monkeypatch.setattr(watch, "MIN_BACKOFF_SECONDS", 0.0)

    async def until_silent(script: Script) -> Watcher:
        watcher = Watcher(script, JOB, cache, query={"labelSelector": "x=y"})  # type: ignore[arg-type]
        task = asyncio.create_task(watcher.run())
        await asyncio.wait_for(script.silent.wait(), 5)
        task.cancel()
        return watcher

    return until_silent


def names(cache: Cache) -> list[str]:
    return sorted(obj["metadata"]["name"] for obj in cache)


async def test_lists_come_in_chunks_and_the_watch_goes_on_from_there(cache: Cache, run: Any) -> None:
    script = Script()
    script.pages = [page(7, job("a", 1), token="more"), page(7, job("b", 2))]
    script.streams = [[event("ADDED", "c", 8), event("MODIFIED", "a", 9), event("DELETED", "b", 10)]]
    watcher = await run(script)
    assert names(cache) == ["a", "c"]
    assert watcher.synced.is_set()
    assert [query.get("continue") for query in script.asked[:2]] == [None, "more"]
    assert all(query["labelSelector"] == "x=y" for query in script.asked)
    assert [query["resourceVersion"] for query in script.asked[2:]] == ["7", "10"]


async def test_bookmarks_move_the_version(cache: Cache, run: Any) -> None:
    script = Script()
    script.pages = [page(7)]
    script.streams = [[{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "50"}}}]]
    await run(script)
    assert script.asked[-1]["resourceVersion"] == "50"
    assert len(cache) == 0


async def test_a_cut_stream_is_taken_up_where_it_broke(cache: Cache, run: Any) -> None:
    script = Script()
    script.pages = [page(7)]
    script.streams = [
        [event("ADDED", "a", 8), Unreachable("cut")],
        [ServerError("later", status=503)],
        [event("ADDED", "b", 9)],
    ]
    await run(script)
    assert names(cache) == ["a", "b"]
    assert [query["resourceVersion"] for query in script.asked[1:]] == ["7", "8", "8", "9"]


@pytest.mark.parametrize("how", ["answer", "event"])
async def test_a_version_that_is_too_old_leads_to_a_new_list(cache: Cache, run: Any, how: str) -> None:
    script = Script()
    gone = Gone("too old", status=410)
    expired = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}}
    script.pages = [page(7, job("a", 1)), page(90, job("b", 80))]
    script.streams = [[gone if how == "answer" else expired]]
    await run(script)
    assert names(cache) == ["b"]
    assert script.asked[-1]["resourceVersion"] == "90"


async def test_a_failing_list_is_tried_again(cache: Cache, run: Any) -> None:
    script = Script()
    script.pages = [
        Unreachable("refused"),
        page(3, token="x"),
        Gone("compacted", status=410),
        page(9, job("a", 1)),
    ]
    await run(script)
    assert names(cache) == ["a"]
