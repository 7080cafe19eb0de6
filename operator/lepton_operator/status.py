"""Writes a status when it differs from what the API server holds, at most once a second for mere figures."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lepton_operator import metrics
from lepton_operator.api_errors import NotFound
from lepton_operator.cache import Cache, uid_of
from lepton_operator.cluster import Writer
from lepton_operator.contain import difference, merge_patch, without_nulls
from lepton_operator.facts import Json, Key
from lepton_operator.logs import fields
from lepton_operator.resources import RESOURCE_BY_KIND

log = logging.getLogger(__name__)

GATHER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Written:
    at: float
    wanted: Json | None = None
    answered: Json | None = None
    """Both only when the server keeps something else than what was sent."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a wanted status: written, or gathered for so many seconds, or already so."""

    written: bool = False
    gathered_seconds: float | None = None


class StatusWriter:
    """The only writer of status."""

    def __init__(self, cluster: Writer, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._written: dict[Key, _Written] = {}

    async def write(
        self, key: Key, obj: Json, cache: Cache, status: dict[str, Any], *, urgent: bool
    ) -> Outcome:
        """Make the status so; the answer goes into the cache. A gone object is dropped from it.

        The write holds for exactly the version that the decision saw: what is told is never about another spec.

        Raises:
            Conflict: the object has changed meanwhile.
            ApiError: the write failed.
        """
        held: Json = obj.get("status") or {}
        wanted: Json = without_nulls(status)
        last = self._written.get(key)
        # A server that keeps less than what was sent (an older CRD) must not be asked again and again.
        if wanted == held or (last is not None and last.wanted == wanted and last.answered == held):
            return Outcome()
        if not urgent and last is not None and self._clock() - last.at < GATHER_SECONDS:
            return Outcome(gathered_seconds=GATHER_SECONDS - (self._clock() - last.at))
        precondition = {"uid": uid_of(obj), "resourceVersion": obj["metadata"].get("resourceVersion")}
        patch = {"metadata": precondition, "status": merge_patch(held, wanted)}
        resource = RESOURCE_BY_KIND[key.kind]
        try:
            answer = await self._cluster.patch_status(resource, key.namespace, key.name, patch)
        except NotFound:
            cache.remove(obj, own=True)
            return Outcome()
        cache.upsert(answer, own=True)
        answered: Json = answer.get("status") or {}
        kept = answered == wanted
        self._written[key] = _Written(self._clock()) if kept else _Written(self._clock(), wanted, answered)
        metrics.STATUS_WRITES.labels(key.kind).inc()
        if log.isEnabledFor(logging.DEBUG):
            changed = difference(held, wanted) or difference(wanted, held)
            log.debug("Wrote status", extra=fields(key, difference=changed))
        if not kept:
            log.warning("Status was changed on its way in: apply crds/", extra=fields(key))
        return Outcome(written=True)

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._written.pop(key, None)
