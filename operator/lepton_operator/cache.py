"""Slim copies of what the API server holds, by namespace/name, by owner and by reference.

Objects arrive from lists, watches and our own writes, in any order; the larger resourceVersion wins
(they are comparable integers within a kind since Kubernetes 1.35, and in etcd always were).
"""

from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator
from functools import lru_cache
from sys import intern
from typing import Any

from lepton_operator import metrics
from lepton_operator.desired.owner import UID_LABEL
from lepton_operator.facts import Json
from lepton_operator.resources import POD, Resource

Name = tuple[str, str]
"""namespace, name."""

Listener = Callable[[Json | None, Json | None, bool], None]
"""(before, after, whether it is our own write); before is None for a new object, after for a gone one."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MAX_TOMBSTONES = 4096
MAX_LEAVES = 8192
POD_UNREAD = frozenset({"securityContext", "tolerations"})
CONTAINER_UNREAD = frozenset(
    {"args", "command", "env", "lifecycle", "securityContext", "terminationMessagePath", "volumeMounts"}
)


class Cache:
    """All objects of one kind that concern us."""

    def __init__(
        self,
        resource: Resource,
        *,
        owner_of: Callable[[Json], str | None] | None = None,
        references_of: Callable[[Json], Iterable[str]] | None = None,
    ) -> None:
        """`owner_of` gives the uid of the owner, `references_of` names the objects it refers to."""
        self.resource = resource
        self._owner_of = owner_of or (owner_label if resource is POD else controller_uid)
        self._references_of = references_of or _nothing
        self._objects: dict[Name, Json] = {}
        self._by_owner: dict[str, dict[Name, None]] = {}
        self._by_reference: dict[Name, dict[Name, None]] = {}
        self._by_namespace: dict[str, dict[Name, None]] = {}
        self._tombstones: OrderedDict[str, int] = OrderedDict()
        self._listeners: list[Listener] = []
        self.watched_version = 0
        """Newest resourceVersion that a watch brought; lists and our own writes don't count."""
        metrics.count_cached(resource.qualified, self._objects.__len__)

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Json]:
        return iter(list(self._objects.values()))

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` after every change."""
        self._listeners.append(listener)

    def get(self, namespace: str, name: str) -> Json | None:
        """One object."""
        return self._objects.get((namespace, name))

    def owned_by(self, uid: str) -> list[Json]:
        """Objects of an owner, by name."""
        return [self._objects[name] for name in sorted(self._by_owner.get(uid, ()))]

    def referring_to(self, namespace: str, reference: str) -> list[Json]:
        """Objects of a namespace with this reference."""
        return [self._objects[at] for at in self._by_reference.get((namespace, reference), ())]

    def in_namespace(self, namespace: str) -> list[Json]:
        """Objects of a namespace."""
        return [self._objects[at] for at in self._by_namespace.get(namespace, ())]

    def upsert(self, raw: Json, *, own: bool = False) -> bool:
        """Take an object in; False when what is held is as new, or the object was seen deleted."""
        name, uid, version = name_of(raw), uid_of(raw), version_of(raw)
        before = self._objects.get(name)
        if before is not None and version <= version_of(before):
            return False
        if version <= self._tombstones.get(uid, -1):
            return False
        obj = slim(raw, self.resource, before)
        self._store(name, obj)
        self._tell(before, obj, own)
        return True

    def remove(self, raw: Json, *, own: bool = False) -> bool:
        """Take an object out, by namespace, name and uid; False when another uid (or none) is held."""
        name, uid = name_of(raw), uid_of(raw)
        self._bury(uid, version_of(raw))
        before = self._objects.get(name)
        if before is None or uid_of(before) != uid:
            return False
        self._discard(name)
        self._tell(before, None, own)
        return True

    def retain(self, listed: Container[str], version: int, namespace: str | None = None) -> None:
        """`listed` are the uids of a complete list of `version`: others go, unless they are newer than the list."""
        held = self._objects if namespace is None else self._by_namespace.get(namespace, {})
        for name in list(held):
            obj = self._objects[name]
            if uid_of(obj) not in listed and version_of(obj) <= version:
                self.remove(obj)

    def _store(self, name: Name, obj: Json) -> None:
        self._discard(name)
        self._objects[name] = obj
        self._by_namespace.setdefault(name[0], {})[name] = None
        owner = self._owner_of(obj)
        if owner is not None:
            self._by_owner.setdefault(owner, {})[name] = None
        for reference in self._references_of(obj):
            self._by_reference.setdefault((name[0], reference), {})[name] = None

    def _discard(self, name: Name) -> None:
        obj = self._objects.pop(name, None)
        if obj is None:
            return
        _unindex(self._by_namespace, name[0], name)
        owner = self._owner_of(obj)
        if owner is not None:
            _unindex(self._by_owner, owner, name)
        for reference in set(self._references_of(obj)):
            _unindex(self._by_reference, (name[0], reference), name)

    def _bury(self, uid: str, version: int) -> None:
        """Remember the deletion, so that a late answer to a write doesn't bring the object back."""
        self._tombstones[uid] = max(version, self._tombstones.get(uid, -1))
        self._tombstones.move_to_end(uid)
        if len(self._tombstones) > MAX_TOMBSTONES:
            self._tombstones.popitem(last=False)

    def _tell(self, before: Json | None, after: Json | None, own: bool) -> None:
        for listener in self._listeners:
            listener(before, after, own)


def name_of(obj: Json) -> Name:
    """(namespace, name)."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def uid_of(obj: Json) -> str:
    """metadata.uid."""
    return str(obj["metadata"].get("uid", ""))


def version_of(obj: Json) -> int:
    """metadata.resourceVersion; 0 when it is missing."""
    return parse_version(obj["metadata"].get("resourceVersion"))


def parse_version(text: str | None) -> int:
    """A resourceVersion as a number, 0 when it is missing or not one."""
    return int(text) if text and text.isdigit() else 0


def owner_label(obj: Json) -> str | None:
    """The owner's uid as pods carry it (their controller is a Job or a ReplicaSet)."""
    labels = obj["metadata"].get("labels") or {}
    return labels.get(UID_LABEL)


def controller_of(obj: Json) -> Json | None:
    """The owner reference of the controller."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return dict(reference)
    return None


def controller_uid(obj: Json) -> str | None:
    """uid of the controller."""
    controller = controller_of(obj)
    return controller["uid"] if controller is not None else None


def slim(raw: Json, resource: Resource, before: Json | None = None) -> Json:
    """A copy without what nobody reads; items of lists lack kind and apiVersion, which are filled in.

    What is equal in memory is one: parts that `before`, an earlier version, has as well, and all strings,
    for the same few words are in thousands of objects.
    """
    meta: dict[str, Any] = {key: value for key, value in raw["metadata"].items() if key != "managedFields"}
    annotations = meta.get("annotations")
    if annotations and LAST_APPLIED in annotations:
        meta["annotations"] = {key: value for key, value in annotations.items() if key != LAST_APPLIED}
    slimmed = {**raw, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta}
    if resource is POD and "spec" in raw:
        slimmed["spec"] = _slim_pod(raw["spec"])
    held: Json = before or {}
    return {
        intern(name): held[name] if name in held and held[name] == value else _shared(value)
        for name, value in slimmed.items()
    }


def _slim_pod(spec: Json) -> dict[str, Any]:
    """Without what the owner gave the containers: it is in the owner's template, and no fault is read from it."""
    slimmed = {key: value for key, value in spec.items() if key not in POD_UNREAD}
    for part in ("containers", "initContainers"):
        if part in spec:
            slimmed[part] = [
                {key: value for key, value in container.items() if key not in CONTAINER_UNREAD}
                for container in spec[part]
            ]
    return slimmed


def _shared(value: Any) -> Any:
    """A deep copy in which equal strings are one object, and equal mappings of strings are."""
    if type(value) is str:
        return intern(value)
    if type(value) is dict:
        copy = {
            intern(name): intern(held) if type(held) is str else _shared(held) for name, held in value.items()
        }
        if any(type(held) is not str for held in copy.values()):
            return copy
        return _leaf(tuple(copy.items()))
    if type(value) is list:
        return [_shared(held) for held in value]
    return value


@lru_cache(maxsize=MAX_LEAVES)
def _leaf(items: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """One mapping for all equal ones; only strings, because 1 and True would be equal."""
    return dict(items)


def _nothing(_obj: Json) -> tuple[str, ...]:
    return ()


def _unindex(index: dict[Any, dict[Name, None]], key: Any, name: Name) -> None:
    names = index.get(key)
    if names is not None:
        names.pop(name, None)
        if not names:
            del index[key]
