"""An API server in memory, only as exact as these tests need: uids, versions, names, preconditions."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

from lepton_operator.api_errors import AlreadyExists, ApiError, Conflict, NotFound
from lepton_operator.cluster import FIELD_MANAGER
from lepton_operator.contain import difference
from lepton_operator.resources import Resource

Object = dict[str, Any]


class FakeCluster:
    """Implements cluster.Writer; `calls` lists every call, `fail` may raise instead."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.calls: list[tuple[str, str]] = []
        self.fail: Callable[[str, Resource], ApiError | None] = lambda _verb, _resource: None
        self.mutate: Callable[[Object], None] = lambda _obj: None
        self._versions = itertools.count(2)

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [call for call in self.calls if call[0] != "get"]

    def put(self, kind: str, namespace: str, name: str, **parts: Any) -> Object:
        """Place an object as somebody else would."""
        number = next(self._versions)
        meta = {"namespace": namespace, "name": name, "uid": f"uid{number}", "resourceVersion": str(number)}
        meta.update(parts.pop("metadata", {}))
        obj = {"apiVersion": "v1", "kind": kind, "metadata": meta, **parts}
        self.objects[kind, namespace, name] = obj
        return copy.deepcopy(obj)

    def _enter(self, verb: str, resource: Resource, name: str) -> None:
        self.calls.append((verb, f"{resource.kind}/{name}"))
        error = self.fail(verb, resource)
        if error is not None:
            raise error

    def _live(self, resource: Resource, namespace: str, name: str) -> Object:
        try:
            return self.objects[resource.kind, namespace, name]
        except KeyError:
            raise NotFound(f"{name} not found", status=404) from None

    def _bump(self, obj: Object) -> Object:
        obj["metadata"]["resourceVersion"] = str(next(self._versions))
        return copy.deepcopy(obj)

    async def get(self, resource: Resource, namespace: str, name: str) -> Object:
        self._enter("get", resource, name)
        return copy.deepcopy(self._live(resource, namespace, name))

    async def create(self, resource: Resource, namespace: str, manifest: Any) -> Object:
        name = manifest["metadata"]["name"]
        self._enter("create", resource, name)
        if (resource.kind, namespace, name) in self.objects:
            raise AlreadyExists(f"{name} already exists", status=409)
        obj = copy.deepcopy(dict(manifest))
        obj["metadata"] = {**obj["metadata"], "namespace": namespace, "uid": f"uid{next(self._versions)}"}
        self.mutate(obj)
        self.objects[resource.kind, namespace, name] = obj
        return self._bump(obj)

    async def apply(
        self, resource: Resource, namespace: str, manifest: Any, *, force: bool, manager: str = FIELD_MANAGER
    ) -> Object:
        name = manifest["metadata"]["name"]
        verb = "apply" if force else "apply-new"
        self._enter(verb if manager == FIELD_MANAGER else f"{verb} as {manager}", resource, name)
        wanted_uid = manifest["metadata"].get("uid")
        live = self.objects.get((resource.kind, namespace, name))
        if wanted_uid is not None and (live is None or live["metadata"]["uid"] != wanted_uid):
            raise Conflict("uid mismatch", status=409)
        version = manifest["metadata"].get("resourceVersion")
        if version is not None and live is not None and live["metadata"]["resourceVersion"] != version:
            raise Conflict("the object has been modified", status=409)
        if live is None:
            live = {"metadata": {"uid": f"uid{next(self._versions)}", "namespace": namespace}}
            self.objects[resource.kind, namespace, name] = live
        if difference(live, manifest) is None:
            return copy.deepcopy(live)
        _merge(live, copy.deepcopy(dict(manifest)))
        self.mutate(live)
        return self._bump(live)

    async def patch(self, resource: Resource, namespace: str, name: str, patch: Any) -> Object:
        self._enter("patch", resource, name)
        live = self._live(resource, namespace, name)
        if patch["metadata"]["uid"] != live["metadata"]["uid"]:
            raise Conflict("uid mismatch", status=409)
        _merge(live, copy.deepcopy(dict(patch)))
        return self._bump(live)

    async def patch_status(self, resource: Resource, namespace: str, name: str, patch: Any) -> Object:
        self._enter("status", resource, name)
        live = self._live(resource, namespace, name)
        if patch["metadata"]["uid"] != live["metadata"]["uid"]:
            raise Conflict("uid mismatch", status=409)
        _merge(live, {"status": copy.deepcopy(patch["status"])})
        self.mutate(live)
        return self._bump(live)

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> Object:
        self._enter("delete", resource, name)
        if self._live(resource, namespace, name)["metadata"]["uid"] != uid:
            raise Conflict("uid mismatch", status=409)
        del self.objects[resource.kind, namespace, name]
        return {"kind": "Status", "status": "Success"}


def _merge(into: Object, patch: Object) -> None:
    for name, value in patch.items():
        if value is None:
            into.pop(name, None)
        elif isinstance(value, dict):
            held = into.get(name)
            into[name] = held if isinstance(held, dict) else {}
            _merge(into[name], value)
        else:
            into[name] = value
