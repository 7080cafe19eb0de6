"""Which objects a change concerns: every event does one thing, it puts keys into the queue."""

from collections.abc import Iterator
from typing import Any

from lepton_operator.cache import controller_of, uid_of
from lepton_operator.desired.owner import KIND_LABEL, NAME_LABEL
from lepton_operator.facts import Json, Key
from lepton_operator.observe import World, claim_names
from lepton_operator.queue import Priority, WorkQueue
from lepton_operator.reports import ReportPuller
from lepton_operator.warnings_log import Subject


class Router:
    """Turns changes of the caches into keys."""

    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue
        self._world: World | None = None

    def attach(self, world: World, puller: ReportPuller) -> None:
        """Listen to every cache from now on."""
        self._world = world
        for cache in world.objects.values():
            cache.subscribe(self._object_changed)
        for cache in world.children.values():
            cache.subscribe(self._child_changed)
        world.pods.subscribe(self._child_changed)

        def forget_report(before: Json | None, after: Json | None, _own: bool) -> None:
            if before is not None and (after is None or uid_of(after) != uid_of(before)):
                puller.forget(uid_of(before))

        world.pods.subscribe(forget_report)

    def warned(self, subject: Subject) -> None:
        """A Warning Event came; its object may not be known yet, and then its own arrival will do."""
        if self._world is None:
            return
        namespace, kind, name = subject
        for obj in _subjects(self._world, namespace, kind, name):
            self._enqueue(*_owners(obj))

    def everything(self, priority: Priority) -> None:
        """All objects, for a resync."""
        if self._world is None:
            return
        for cache in self._world.objects.values():
            for obj in cache:
                self._queue.add(key_of(obj), priority)

    def _object_changed(self, before: Json | None, after: Json | None, own: bool) -> None:
        obj = after or before
        if obj is None or self._world is None:
            return
        key = key_of(obj)
        # Our own status write may bring a user's edit with it, whose own event will look old.
        if not own or before is None or after is None or _essence(before) != _essence(after):
            self._enqueue(key)
        self._enqueue(*self._world.dependants(key))

    def _child_changed(self, before: Json | None, after: Json | None, own: bool) -> None:
        if own:
            return
        for obj in (before, after):
            if obj is not None:
                self._enqueue(*_owners(obj))

    def _enqueue(self, *keys: Key) -> None:
        for key in keys:
            self._queue.add(key)


def key_of(obj: Json) -> Key:
    """The key of a Lepton object."""
    meta = obj["metadata"]
    return Key(obj["kind"], meta["namespace"], meta["name"])


def _owners(obj: Json) -> Iterator[Key]:
    """The owner by labels, and by controller for a child whose labels were edited."""
    meta = obj["metadata"]
    namespace = meta.get("namespace", "")
    labels = meta.get("labels") or {}
    kinds = ("LeptonDataset", "LeptonTrainingJob", "LeptonModel")
    if labels.get(KIND_LABEL) in kinds and labels.get(NAME_LABEL):
        yield Key(labels[KIND_LABEL], namespace, labels[NAME_LABEL])
    controller = controller_of(obj)
    if controller is not None and controller["kind"] in kinds:
        yield Key(controller["kind"], namespace, controller["name"])


def _subjects(world: World, namespace: str, kind: str, name: str) -> list[Json]:
    """Objects of ours that a Warning is about."""
    if kind == "PersistentVolumeClaim":
        return [pod for pod in world.pods.in_namespace(namespace) if name in claim_names(pod)]
    cache = (
        world.pods if kind == "Pod" else world.children.get("Deployment" if kind == "ReplicaSet" else kind)
    )
    obj = cache.get(namespace, name) if cache is not None else None
    return [obj] if obj is not None else []


def _essence(obj: Json) -> dict[str, Any]:
    """Everything but status and version."""
    essence = {name: value for name, value in obj.items() if name not in ("status", "metadata")}
    essence["metadata"] = {
        name: value for name, value in obj["metadata"].items() if name != "resourceVersion"
    }
    return essence
