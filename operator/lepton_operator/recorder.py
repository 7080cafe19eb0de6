"""Kubernetes Events on Lepton objects; the conditions carry the truth, so a lost Event is only logged."""

import logging
import os
import socket
from collections.abc import Iterable
from datetime import UTC, datetime

from lepton_operator import metrics
from lepton_operator.actions import Emit
from lepton_operator.api_errors import ApiError
from lepton_operator.cluster import Writer
from lepton_operator.facts import Json, Key
from lepton_operator.logs import fields
from lepton_operator.resources import EVENT

log = logging.getLogger(__name__)

COMPONENT = "lepton"
MAX_MESSAGE = 1024


class Recorder:
    """Writes Events."""

    def __init__(self, cluster: Writer) -> None:
        self._cluster = cluster
        self._instance = socket.gethostname()

    async def record(self, key: Key, obj: Json, events: Iterable[Emit]) -> None:
        """Write each Event once; errors are logged and counted."""
        for event in events:
            if event.type == "Warning":
                metrics.FAULTS.labels(key.kind, event.reason).inc()
            try:
                await self._cluster.create(EVENT, key.namespace, self._manifest(key, obj, event))
            except ApiError as error:
                metrics.EVENTS_EMITTED.labels(event.reason, "failed").inc()
                log.warning("Event was not written", extra=fields(key, reason=event.reason, error=str(error)))
            else:
                metrics.EVENTS_EMITTED.labels(event.reason, "done").inc()

    def _manifest(self, key: Key, obj: Json, event: Emit) -> Json:
        meta = obj["metadata"]
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{key.name}.{os.urandom(8).hex()}", "namespace": key.namespace},
            "involvedObject": {
                "apiVersion": obj["apiVersion"],
                "kind": key.kind,
                "namespace": key.namespace,
                "name": key.name,
                "uid": meta["uid"],
                "resourceVersion": meta.get("resourceVersion", ""),
            },
            "type": event.type,
            "reason": event.reason,
            "message": event.message[:MAX_MESSAGE],
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._instance,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
