"""kopf's handlers: put the object into its cache, which puts its key into the queue."""

from collections.abc import Callable, Mapping
from typing import Any

import kopf

from lepton_operator.api import KINDS
from lepton_operator.api.kind import GROUP, VERSION
from lepton_operator.cache import Cache, version_of

Login = Callable[[], Any]


def build_registry(caches: Mapping[str, Cache], login: Login) -> kopf.OperatorRegistry:
    """Handlers of all kinds, in a registry of their own."""
    registry = kopf.OperatorRegistry()
    for kind in KINDS:
        _watch(registry, kind.plural, caches[kind.name])

    @kopf.on.login(registry=registry, id="login")
    async def log_in(**_: Any) -> kopf.ConnectionInfo | None:
        info: kopf.ConnectionInfo | None = await login()
        return info

    return registry


def _watch(registry: kopf.OperatorRegistry, plural: str, cache: Cache) -> None:
    @kopf.on.event(GROUP, VERSION, plural, registry=registry, id=f"cache-{plural}")
    async def changed(event: Mapping[str, Any], **_: Any) -> None:
        cache.watched_version = max(cache.watched_version, version_of(event["object"]))
        if event["type"] == "DELETED":
            cache.remove(event["object"])
        else:
            cache.upsert(event["object"])
