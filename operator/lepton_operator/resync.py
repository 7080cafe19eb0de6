"""Lists the Lepton kinds once at start and every few minutes.

kopf does not say when its first list is complete, and a watch may lose a deletion: the list makes
the caches whole, and every object is visited again at low priority. What a list holds and the watch
never brings shows that the watch is dead.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from lepton_operator.api_errors import ApiError
from lepton_operator.cluster import Cluster
from lepton_operator.logs import fields
from lepton_operator.observe import World
from lepton_operator.queue import Priority
from lepton_operator.resources import LEPTON_RESOURCES
from lepton_operator.routing import Router
from lepton_operator.watch import take_list

log = logging.getLogger(__name__)

LISTINGS = 2
"""Lists in a row that a watch must be behind before it counts as dead."""


@dataclass(frozen=True, slots=True)
class _Behind:
    """What a watch owes."""

    version: int
    """Newest version of the last list."""
    since: float
    """Monotonic time of the first list in a row that the watch was behind."""
    listings: int


class Resync:
    """Refreshes the caches of the Lepton kinds."""

    def __init__(
        self, cluster: Cluster, world: World, router: Router, *, namespaces: Sequence[str], seconds: float
    ) -> None:
        self._cluster = cluster
        self._world = world
        self._router = router
        self._namespaces = namespaces
        self._seconds = seconds
        self._behind: dict[str, _Behind] = {}
        """By kind, what lists held and the watch had not brought."""

    async def refresh(self) -> None:
        """Take in complete lists; what they lack and did not change meanwhile goes.

        Raises:
            ApiError: a list failed.
        """
        for resource in LEPTON_RESOURCES:
            cache = self._world.objects[resource.kind]
            newest = 0
            for namespace in self._namespaces or (None,):
                listed = await take_list(self._cluster, resource, namespace, {}, cache)
                newest = max(newest, listed.newest)
            self._compare(resource.kind, newest)

    def _compare(self, kind: str, newest: int) -> None:
        """Keep what the watch still owes; a version that is gone from the list may never come by it."""
        held = self._behind.pop(kind, None)
        if newest <= self._world.objects[kind].watched_version:
            return
        since = held.since if held else time.monotonic()
        self._behind[kind] = _Behind(newest, since, listings=held.listings + 1 if held else 1)

    def unseen(self, limit: float) -> str | None:
        """Names a kind whose watch has been behind every list for more than `limit` seconds.

        One list is not enough: an object that is deleted before the watch begins is never told by it.
        """
        for kind, behind in self._behind.items():
            late = time.monotonic() - behind.since > limit and behind.listings >= LISTINGS
            if late and self._world.objects[kind].watched_version < behind.version:
                return f"watch of {kind}: version {behind.version} was listed and did not come by watch"
        return None

    async def run(self) -> None:
        """Refresh and visit everything, for ever."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.refresh()
            except ApiError as error:
                log.warning("Resync failed", extra=fields(status=error.status, error=str(error)))
                continue
            self._router.everything(Priority.LOW)
