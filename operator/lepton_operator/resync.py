"""Lists the Lepton kinds once at start and every few minutes.

kopf does not say when its first list is complete, and a watch may lose a deletion: the list makes
the caches whole, and every object is visited again at low priority.
"""

import asyncio
import logging
from collections.abc import Sequence

from lepton_operator.api_errors import ApiError
from lepton_operator.cache import parse_version
from lepton_operator.cluster import Cluster
from lepton_operator.logs import fields
from lepton_operator.observe import World
from lepton_operator.queue import Priority
from lepton_operator.resources import LEPTON_RESOURCES
from lepton_operator.routing import Router
from lepton_operator.watch import list_all

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

    async def refresh(self) -> None:
        """Take in complete lists; what they lack and did not change meanwhile goes.

        Raises:
            ApiError: a list failed.
        """
        for resource in LEPTON_RESOURCES:
            for namespace in self._namespaces or (None,):
                items, version = await list_all(self._cluster, resource, namespace, {})
                self._world.objects[resource.kind].replace(items, parse_version(version), namespace)

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
