"""The only writer of children: carries out the actions of a plan, one after the other.

A write that the API server refuses for good reasons becomes a Refusal, which the next decision sees;
what may pass by itself (429, 5xx, no answer, a lost race) is raised, and the key backs off.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from lepton_operator import metrics
from lepton_operator.actions import Action, Apply, Create, Delete
from lepton_operator.api_errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ServerError,
    is_quota,
    is_terminating_namespace,
    missing_right,
)
from lepton_operator.cache import Cache, controller_of, controller_uid, uid_of
from lepton_operator.cluster import REPLICAS_MANAGER, Writer
from lepton_operator.contain import difference, restoring_patch
from lepton_operator.desired.autoscaler import hand_over
from lepton_operator.facts import Json, Key, NameHolder, Refusal
from lepton_operator.logs import fields
from lepton_operator.observe import World
from lepton_operator.resources import RESOURCE_BY_KIND, Resource

log = logging.getLogger(__name__)

MAX_MESSAGE = 1024
NOT_TYPED = "failed to create typed patch object"
"""How server-side apply answers, with 500, to a field that does not exist or has another type."""
NO_VERSION = "1"
"""As a precondition of server-side apply: the object is made, or there is a conflict; etcd counts objects from 2 on."""


class OwnerGone(Exception):
    """The Lepton object is deleted or being deleted: no child is made any more."""


@dataclass(slots=True)
class Applied:
    """What came of the actions of one plan."""

    writes: int = 0
    refusals: dict[tuple[str, str], Refusal] = field(default_factory=dict)


class _Refused(Exception):
    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Applier:
    """Writes children of Lepton objects."""

    def __init__(self, cluster: Writer, world: World, on_claim: Callable[[Json], None]) -> None:
        """`on_claim` learns of claims that were created or found."""
        self._cluster = cluster
        self._world = world
        self._on_claim = on_claim

    async def carry_out(self, key: Key, owner: Json, actions: Iterable[Action]) -> Applied:
        """Do what is not done yet; refused actions don't stop the others.

        Raises:
            OwnerGone: the owner no longer lives.
            ApiError: a write failed that may pass when it is tried again.
        """
        run = _Run(self._cluster, self._world, self._on_claim, key, owner)
        for action in actions:
            kind, name = _target(action)
            try:
                await run.do(action)
            except ApiError as error:
                error.child = kind, name
                raise
            except _Refused as refused:
                refusal = Refusal(kind, name, refused.reason, str(refused)[:MAX_MESSAGE])
                run.applied.refusals[kind, name] = refusal
                metrics.REFUSALS.labels(kind, refused.reason).inc()
        return run.applied


class _Run:
    """One plan, one owner."""

    def __init__(
        self, cluster: Writer, world: World, on_claim: Callable[[Json], None], key: Key, owner: Json
    ) -> None:
        self._cluster = cluster
        self._world = world
        self._on_claim = on_claim
        self._key = key
        self._owner = owner
        self._owner_uid = uid_of(owner)
        self._owner_lives = False
        self.applied = Applied()

    async def do(self, action: Action) -> None:
        kind, name = _target(action)
        try:
            if isinstance(action, Create):
                await self._create(action, RESOURCE_BY_KIND[kind], name)
            elif isinstance(action, Apply):
                await self._apply(action, RESOURCE_BY_KIND[kind], name)
            else:
                await self._delete(action, RESOURCE_BY_KIND[kind])
        except Forbidden as error:
            raise _forbidden(error) from error
        except (Invalid, BadRequest) as error:
            raise _Refused("AdmissionDenied", str(error)) from error
        except ServerError as error:
            # 500 is how a webhook that fails shows; 503 and 504 pass by themselves.
            if error.status != 500:
                raise
            denied = any(words in str(error) for words in ("webhook", NOT_TYPED))
            reason = "AdmissionDenied" if denied else "ApiError"
            raise _Refused(reason, str(error)) from error

    # -- create --------------------------------------------------------------------------------------

    async def _create(self, action: Create, resource: Resource, name: str) -> None:
        cache = self._cache(resource)
        held = cache.get(self._key.namespace, name) if cache is not None else None
        if held is not None and controller_uid(held) == self._owner_uid:
            return
        await self._make_sure_owner_lives()
        try:
            created = await self._cluster.create(
                resource, self._key.namespace, self._complete(action.manifest, owned=not action.keep)
            )
        except AlreadyExists:
            live = await self._read(resource, name)
            if live is None:
                raise
            if not action.keep:
                self._claim_as_ours(live, resource, name)
            self._remember(resource, live)
            return
        self._wrote(resource, name, "create", created)

    # -- apply ---------------------------------------------------------------------------------------

    async def _apply(self, action: Apply, resource: Resource, name: str) -> None:
        cache = self._cache(resource)
        held = cache.get(self._key.namespace, name) if cache is not None else None
        if held is None or controller_uid(held) != self._owner_uid:
            held = await self._apply_new(action, resource, name)
            if held is None:
                return
            self._claim_as_ours(held, resource, name)
            self._remember(resource, held)
        if held["metadata"].get("deletionTimestamp"):
            raise _Refused("WaitingForDeletion", f"{resource.kind} {name} is being deleted")
        try:
            await self._apply_over(action, resource, name, held)
        except (Conflict, NotFound):
            # Deleted, or deleted and made anew, since it was read: the cache must not say otherwise.
            self._forget(resource, held)
            raise

    async def _apply_new(self, action: Apply, resource: Resource, name: str) -> Json | None:
        """Make a child that the cache doesn't hold; what is there under its name already, if anything.

        An owner's first visit doesn't look before: no object has NO_VERSION, so that this never changes one.
        """
        first_visit = (self._owner.get("status") or {}).keys() <= {"observedGeneration"}
        found = None if first_visit and action.create else await self._read(resource, name)
        if found is not None or not action.create:
            return found
        await self._make_sure_owner_lives()
        manifest = self._complete(action.manifest, owned=True, version=NO_VERSION)
        try:
            answer = await self._cluster.apply(resource, self._key.namespace, manifest, force=False)
        except Conflict:
            found = await self._read(resource, name)
            if found is None:
                raise
            return found
        self._wrote(resource, name, "create", answer, action.manifest)
        return None

    async def _apply_over(self, action: Apply, resource: Resource, name: str, held: Json) -> None:
        """Bring a live child of ours to what is wanted."""
        loan = hand_over(held, action.autoscaled) if action.autoscaled is not None else None
        if loan is not None:
            held = await self._cluster.apply(
                resource, self._key.namespace, loan, force=True, manager=REPLICAS_MANAGER
            )
            self._wrote(resource, name, "apply", held, missing="spec.replicas")
        missing = difference(held, action.manifest)
        if missing is None:
            return
        manifest = self._complete(action.manifest, owned=True, uid=uid_of(held))
        try:
            answer = await self._cluster.apply(resource, self._key.namespace, manifest, force=True)
        except Invalid:
            if "spec" not in manifest:
                raise
            # Ours and what somebody added may not go together, such as two handlers of one probe.
            patch = restoring_patch(held, manifest)
            restored = await self._cluster.patch(resource, self._key.namespace, name, patch)
            self._wrote(resource, name, "patch", restored, missing=missing)
            answer = await self._cluster.apply(resource, self._key.namespace, manifest, force=True)
        self._wrote(resource, name, "apply", answer, action.manifest, missing)

    # -- delete --------------------------------------------------------------------------------------

    async def _delete(self, action: Delete, resource: Resource) -> None:
        cache = self._cache(resource)
        held = cache.get(self._key.namespace, action.name) if cache is not None else None
        if held is not None and uid_of(held) == action.uid and held["metadata"].get("deletionTimestamp"):
            return
        try:
            answer = await self._cluster.delete(resource, self._key.namespace, action.name, action.uid)
        except (NotFound, Conflict):
            answer = {"kind": "Status"}
        else:
            self.applied.writes += 1
            metrics.CHILD_WRITES.labels(action.kind, "delete").inc()
            log.info("Deleted child", extra=fields(self._key, child=f"{action.kind}/{action.name}"))
        if answer.get("kind") != "Status" and answer.get("metadata", {}).get("deletionTimestamp"):
            self._remember(resource, answer)
        elif held is not None and uid_of(held) == action.uid:
            self._forget(resource, held)

    # -- shared --------------------------------------------------------------------------------------

    def _cache(self, resource: Resource) -> Cache | None:
        return self._world.children.get(resource.kind)

    def _complete(
        self, manifest: Json, *, owned: bool, uid: str | None = None, version: str | None = None
    ) -> dict[str, Any]:
        """The manifest with namespace, owner and, as preconditions, the live object's uid and version."""
        meta: dict[str, Any] = {**manifest["metadata"], "namespace": self._key.namespace}
        if owned:
            meta["ownerReferences"] = [
                {
                    "apiVersion": self._owner["apiVersion"],
                    "kind": self._owner["kind"],
                    "name": self._key.name,
                    "uid": self._owner_uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ]
        if uid is not None:
            meta["uid"] = uid
        if version is not None:
            meta["resourceVersion"] = version
        return {**manifest, "metadata": meta}

    async def _read(self, resource: Resource, name: str) -> Json | None:
        try:
            return await self._cluster.get(resource, self._key.namespace, name)
        except NotFound:
            return None

    async def _make_sure_owner_lives(self) -> None:
        """A cache may lag behind a deletion; a child of a dead owner would only be litter."""
        if self._owner_lives:
            return
        live = await self._read(RESOURCE_BY_KIND[self._key.kind], self._key.name)
        if live is None or uid_of(live) != self._owner_uid or live["metadata"].get("deletionTimestamp"):
            raise OwnerGone
        self._owner_lives = True

    def _claim_as_ours(self, live: Json, resource: Resource, name: str) -> None:
        """Raise a refusal unless the owner controls `live`."""
        holder = name_holder(live)
        if holder.controller_uid == self._owner_uid:
            return
        what = f"{resource.kind} {name}"
        if holder.controller == f"{self._key.kind}/{self._key.name}":
            raise _Refused(
                "WaitingForDeletion",
                f"{what} belongs to a deleted {self._key.kind} of that name; it is made anew once gone",
            )
        owner = f"is controlled by {holder.controller}" if holder.controller else "was not made by Lepton"
        ending = ", and is being deleted" if holder.deleting else ""
        raise _Refused(
            "NameConflict",
            f"{what} exists and {owner}{ending}: delete or rename it, or use another name here",
        )

    def _remember(self, resource: Resource, obj: Json) -> None:
        cache = self._cache(resource)
        if cache is not None:
            cache.upsert(obj, own=True)
        elif resource.kind == "PersistentVolumeClaim":
            self._on_claim(obj)

    def _forget(self, resource: Resource, obj: Json) -> None:
        cache = self._cache(resource)
        if cache is not None:
            cache.remove(obj, own=True)

    def _wrote(
        self,
        resource: Resource,
        name: str,
        verb: str,
        answer: Json,
        desired: Json | None = None,
        missing: str | None = None,
    ) -> None:
        self.applied.writes += 1
        self._remember(resource, answer)
        metrics.CHILD_WRITES.labels(resource.kind, verb).inc()
        child = f"{resource.kind}/{name}"
        done = "Created child" if verb == "create" else "Applied child"
        log.info(done, extra=fields(self._key, child=child, difference=missing))
        changed = difference(answer, desired) if desired is not None else None
        if changed is not None:
            log.warning(
                "Child was changed on its way in", extra=fields(self._key, child=child, difference=changed)
            )


def action_is_open(world: World, key: Key, action: Action) -> bool:
    """Whether the caches say that an action is still to be done; kept claims don't count."""
    kind, name = _target(action)
    if isinstance(action, Create) and action.keep:
        return False
    cache = world.children.get(kind)
    held = cache.get(key.namespace, name) if cache is not None else None
    if isinstance(action, Delete):
        return held is not None and uid_of(held) == action.uid and "deletionTimestamp" not in held["metadata"]
    if held is None:
        return not isinstance(action, Apply) or action.create
    if not isinstance(action, Apply):
        return False
    lent = action.autoscaled is not None and hand_over(held, action.autoscaled) is not None
    return lent or difference(held, action.manifest) is not None


def name_holder(live: Json) -> NameHolder:
    """Who holds a name."""
    controller = controller_of(live)
    return NameHolder(
        uid=uid_of(live),
        controller_uid=controller["uid"] if controller is not None else None,
        controller=f"{controller['kind']}/{controller['name']}" if controller is not None else None,
        deleting="deletionTimestamp" in live["metadata"],
    )


def _forbidden(error: Forbidden) -> Exception:
    if is_terminating_namespace(error):
        return OwnerGone("The namespace is being deleted")
    if is_quota(error):
        return _Refused("QuotaExceeded", str(error))
    right = missing_right(error)
    if right is not None:
        return _Refused("Forbidden", f"The operator lacks the right to {right}: apply Lepton's RBAC again")
    return _Refused("AdmissionDenied", str(error))


def _target(action: Action) -> tuple[str, str]:
    if isinstance(action, Delete):
        return action.kind, action.name
    return action.manifest["kind"], action.manifest["metadata"]["name"]
