"""List, then watch, for ever: one task a kind (and namespace) that keeps a sink up to date.

Lists come in chunks, watches with bookmarks. A stream that ends, breaks or falls silent is taken up
at the last resourceVersion seen; a version that is too old (410) leads to a new list.
"""

import asyncio
import logging
import random
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Protocol

from lepton_operator import metrics
from lepton_operator.api_errors import ApiError, Gone, error_of
from lepton_operator.cache import parse_version, uid_of, version_of
from lepton_operator.cluster import Cluster
from lepton_operator.facts import Json
from lepton_operator.logs import fields
from lepton_operator.resources import Resource

log = logging.getLogger(__name__)

PAGE_SIZE = 250
SERVER_SECONDS = 300
INACTIVITY_SECONDS = 75.0
"""The API server sends a bookmark every minute or so; longer silence means a dead stream."""
MIN_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 30.0


class Sink(Protocol):
    """Where objects go: a Cache or the WarningLog."""

    def upsert(self, raw: Json) -> bool:
        """An object was added or changed."""

    def remove(self, raw: Json) -> bool:
        """An object is gone."""

    def retain(self, listed: Container[str], version: int, namespace: str | None = None) -> None:
        """The uids of all objects as of `version`."""


class Watcher:
    """Keeps one sink up to date."""

    def __init__(
        self,
        cluster: Cluster,
        resource: Resource,
        sink: Sink,
        *,
        namespace: str | None = None,
        query: Mapping[str, str] | None = None,
    ) -> None:
        """`query` holds the selectors; `namespace` None means all."""
        self._cluster = cluster
        self._resource = resource
        self._sink = sink
        self._namespace = namespace
        self._query = dict(query or {})
        self._failures = 0
        self.name = resource.qualified if namespace is None else f"{namespace}/{resource.qualified}"
        self.synced = asyncio.Event()
        """Set when the first complete list was taken in."""
        self._alive_at = time.monotonic()

    def silent_seconds(self) -> float:
        """Since the last list, event, bookmark or error: every one of them shows that the task works."""
        return time.monotonic() - self._alive_at

    async def run(self) -> None:
        """Never returns; errors are logged and waited out."""
        while True:
            try:
                version = await self._list()
                self.synced.set()
                await self._follow(version)
            except Gone as error:
                self._restarted("gone", error)
                await self._back_off(error)
            except ApiError as error:
                self._restarted("list", error)
                await self._back_off(error)

    async def _list(self) -> str:
        """Take in the complete list; its resourceVersion."""
        self._alive_at = time.monotonic()
        listed = await take_list(self._cluster, self._resource, self._namespace, self._query, self._sink)
        log.debug("Listed", extra=fields(resource=self._resource.qualified, objects=listed.objects))
        return listed.version

    async def _follow(self, version: str) -> None:
        """Watch from `version` on, stream after stream.

        Raises:
            Gone: the version is too old.
        """
        while True:
            before = version
            try:
                async for event in self._cluster.watch(
                    self._resource,
                    self._namespace,
                    {
                        **self._query,
                        "resourceVersion": version,
                        "allowWatchBookmarks": "true",
                        "timeoutSeconds": str(SERVER_SECONDS + random.randrange(60)),
                    },
                    inactivity_seconds=INACTIVITY_SECONDS,
                ):
                    version = self._take(event)
                    self._failures = 0
            except Gone:
                raise
            except ApiError as error:
                self._restarted("broken", error)
                await self._back_off(error)
            else:
                self._failures = 0
                self._alive_at = time.monotonic()
                if version == before:
                    # An empty stream: don't ask again at once.
                    await asyncio.sleep(MIN_BACKOFF_SECONDS)

    def _take(self, event: Json) -> str:
        """Apply one event to the sink; the resourceVersion it brings us to."""
        self._alive_at = time.monotonic()
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            raise error_of(int(obj.get("code") or 0), obj)
        if kind == "BOOKMARK":
            pass
        elif kind == "DELETED":
            self._sink.remove(obj)
        else:
            self._sink.upsert(obj)
        metrics.WATCH_EVENTS.labels(self._resource.qualified).inc()
        version: str = obj["metadata"]["resourceVersion"]
        return version

    def _restarted(self, cause: str, error: ApiError) -> None:
        metrics.WATCH_RESTARTS.labels(self._resource.qualified, cause).inc()
        level = logging.INFO if cause != "list" else logging.WARNING
        log.log(
            level,
            "Watch was interrupted",
            extra=fields(
                resource=self._resource.qualified, cause=cause, status=error.status, error=str(error)
            ),
        )

    async def _back_off(self, error: ApiError) -> None:
        self._alive_at = time.monotonic()
        full = min(MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS * 2.0 ** min(self._failures, 10))
        self._failures += 1
        await asyncio.sleep(max(full * (0.5 + 0.5 * random.random()), error.retry_after or 0.0))


@dataclass(frozen=True, slots=True)
class Listed:
    """What is known of a list that a sink has taken in."""

    version: str
    """Of the state that was listed."""
    objects: int
    newest: int
    """The largest version of an object."""


async def take_list(
    cluster: Cluster, resource: Resource, namespace: str | None, query: Mapping[str, str], sink: Sink
) -> Listed:
    """Lead all objects into a sink, chunk after chunk of one consistent state: the whole would fill the memory.

    Raises:
        Gone: the state was compacted while the chunks were read.
    """
    listed: dict[str, int] = {}
    asked = {**query, "limit": str(PAGE_SIZE)}
    while True:
        page = await cluster.list_page(resource, namespace, asked)
        for item in page["items"]:
            sink.upsert(item)
            listed[uid_of(item)] = version_of(item)
        token = page["metadata"].get("continue")
        if not token:
            version = page["metadata"]["resourceVersion"]
            sink.retain(listed, parse_version(version), namespace)
            return Listed(version, len(listed), max(listed.values(), default=0))
        asked["continue"] = token
