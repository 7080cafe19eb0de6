"""Lists the Lepton kinds once at start and every few minutes.

kopf does not say when its first list is complete, and a watch may lose a deletion: the list makes
the caches whole, and every object is visited again at low priority. What a list holds and the watch
never brings shows that the watch is dead.
"""

import asyncio
import logging
import time
from collections.abc import Sequence

from lepton_operator.api_errors import ApiError
from lepton_operator.cluster import Cluster
from lepton_operator.logs import fields
from lepton_operator.observe import World
from lepton_operator.queue import Priority
from lepton_operator.resources import LEPTON_RESOURCES
from lepton_operator.routing import Router
from lepton_operator.watch import take_list

log = logging.getLogger(__name__)


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
        self._listed: dict[str, tuple[int, float]] = {}
        """kind -> newest version that the watch had not brought when it was listed, and when that was."""

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
            if newest > cache.watched_version:
                self._listed.setdefault(resource.kind, (newest, time.monotonic()))

    def unseen(self, limit: float) -> str | None:
        """Names a kind with a change that was listed more than `limit` seconds ago and never came by watch."""
        for kind, (version, at) in list(self._listed.items()):
            if self._world.objects[kind].watched_version >= version:
                del self._listed[kind]
            elif time.monotonic() - at > limit:
                return f"watch of {kind}: version {version} was listed and did not come by watch"
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
