"""kopf's handlers: hand over what the watch told, and nothing else."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import kopf

from lepton_operator.api import KINDS
from lepton_operator.api.kind import GROUP, VERSION, Kind
from lepton_operator.cache import Cache, version_of
from lepton_operator.facts import Json

Login = Callable[[], Awaitable[kopf.ConnectionInfo]]
Deliver = Callable[[str, Json], None]
"""(kind, raw event of the watch)."""


def build_registry(deliver: Deliver, login: Login) -> kopf.OperatorRegistry:
    """Handlers of all kinds, in a registry of their own."""
    registry = kopf.OperatorRegistry()
    for kind in KINDS:
        _watch(registry, kind, deliver)

    @kopf.on.login(registry=registry, id="login")
    async def log_in(**_: Any) -> kopf.ConnectionInfo | None:
        return await login()

    return registry


def _watch(registry: kopf.OperatorRegistry, kind: Kind, deliver: Deliver) -> None:
    @kopf.on.event(GROUP, VERSION, kind.plural, registry=registry, id=f"cache-{kind.plural}")
    async def changed(event: Mapping[str, Any], **_: Any) -> None:
        deliver(kind.name, {"type": event["type"], "object": event["object"]})


def take(cache: Cache, event: Json) -> None:
    """Bring a cache up to date, which puts the object's key into the queue."""
    obj = event["object"]
    cache.watched_version = max(cache.watched_version, version_of(obj))
    if event["type"] == "DELETED":
        cache.remove(obj)
    else:
        cache.upsert(obj)
