"""One visit to one object: observe, decide, carry out, write the status once, tell, pull, come back."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lepton_operator import metrics
from lepton_operator.actions import Plan
from lepton_operator.api_errors import ApiError, Conflict, NotLeader
from lepton_operator.apply import Applied, Applier, OwnerGone, action_is_open
from lepton_operator.cache import uid_of
from lepton_operator.context import Context
from lepton_operator.decide import Decision
from lepton_operator.facts import Json, Key, Observed, Refusal
from lepton_operator.logs import RECONCILE_ID, fields
from lepton_operator.observe import Observer, World
from lepton_operator.queue import WorkQueue
from lepton_operator.recorder import Recorder
from lepton_operator.reports import ReportPuller
from lepton_operator.status import StatusWriter

log = logging.getLogger(__name__)

FAILURES_UNTOLD = 2
"""So many failures in a row of an object's writes pass without a word in its status."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides for a kind."""

    decide: Decision
    claims_needed: Callable[[Json], tuple[str, ...]]
    jobs_expected: Callable[[Json], tuple[str, ...]] = lambda _obj: ()


class Reconciler:
    """Visits objects; keeps per object only the refusals of its last visit."""

    def __init__(
        self,
        *,
        world: World,
        queue: WorkQueue,
        policies: Mapping[str, Policy],
        context: Context,
        observer: Observer,
        applier: Applier,
        status: StatusWriter,
        recorder: Recorder,
        puller: ReportPuller,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._world = world
        self._queue = queue
        self._policies = policies
        self._context = context
        self._observer = observer
        self._applier = applier
        self._status = status
        self._recorder = recorder
        self._puller = puller
        self._now = now
        self._refusals: dict[Key, dict[tuple[str, str], Refusal]] = {}

    async def reconcile(self, key: Key) -> None:
        """Visit an object; never raises: errors are logged, counted and retried with back-off."""
        started = time.monotonic()
        RECONCILE_ID.set(os.urandom(4).hex())
        result = "done"
        try:
            await self._visit(key)
        except OwnerGone:
            result = "gone"
            self._forget(key)
        except ApiError as error:
            result = "error"
            seconds = self._queue.retry(key, error.retry_after or 0.0)
            reason = error.reason or type(error).__name__
            metrics.RECONCILE_ERRORS.labels(key.kind, reason).inc()
            # Losing a race is ordinary; the next visit sees the winner.
            level = logging.INFO if isinstance(error, Conflict) else logging.WARNING
            extra = fields(
                key, reason=reason, status=error.status, error=str(error), retry_seconds=round(seconds, 2)
            )
            log.log(level, "Reconcile was interrupted", extra=extra)
        except Exception as error:
            result = "error"
            seconds = self._queue.retry(key)
            metrics.RECONCILE_ERRORS.labels(key.kind, type(error).__name__).inc()
            log.exception("Reconcile failed", extra=fields(key, retry_seconds=round(seconds, 2)))
        finally:
            metrics.RECONCILES.labels(key.kind, result).inc()
            metrics.RECONCILE_SECONDS.labels(key.kind).observe(time.monotonic() - started)

    async def _visit(self, key: Key) -> None:
        obj = self._world.object(key)
        if obj is None or obj["metadata"].get("deletionTimestamp"):
            # Children are garbage-collected; no finalizer waits for us.
            self._forget(key)
            return
        observed, plan = await self._decide(key, obj)
        try:
            applied = await self._applier.carry_out(key, obj, plan.actions)
        except ApiError as error:
            await self._tell_trouble(key, obj, error)
            raise
        new_refusals = self._note_refusals(key, applied)
        if applied.writes or new_refusals:
            # Read your own writes: the status tells of the world as it is now.
            observed, plan = await self._decide(key, obj)
        written = await self._tell(key, observed, plan)
        self._puller.request(key, uid_of(obj), plan.pulls)
        self._come_back(key, plan, applied, written)

    async def _decide(self, key: Key, obj: Json) -> tuple[Observed, Plan]:
        policy = self._policies[key.kind]
        refusals = tuple(self._refusals.get(key, {}).values())
        # The newest version that is known: it may have changed since the visit began.
        current = self._world.object(key)
        if current is None or uid_of(current) != uid_of(obj):
            raise OwnerGone
        observed = await self._observer.observe(
            key, current, policy.claims_needed(current), refusals, policy.jobs_expected(current)
        )
        return observed, policy.decide(observed, self._context, self._now())

    def _note_refusals(self, key: Key, applied: Applied) -> bool:
        """Keep the refusals of this visit; whether they differ from those the decision knew."""
        before = self._refusals.pop(key, {})
        if applied.refusals:
            self._refusals[key] = applied.refusals
        for (kind, name), refusal in applied.refusals.items():
            if before.get((kind, name)) != refusal:
                extra = fields(key, reason=refusal.reason, child=f"{kind}/{name}", error=refusal.message)
                log.warning("Write of a child was refused", extra=extra)
        return before != applied.refusals

    async def _tell_trouble(self, key: Key, obj: Json, error: ApiError) -> None:
        """A write that goes on failing shows in the status; the first failures are nobody's concern."""
        passing = isinstance(error, (Conflict, NotLeader)) or self._queue.failures(key) < FAILURES_UNTOLD
        if passing or error.child is None:
            return
        refusal = Refusal(*error.child, "ApiError", f"{error}; it is tried again")
        self._refusals[key] = {error.child: refusal}
        try:
            observed, plan = await self._decide(key, obj)
            await self._tell(key, observed, plan)
        except ApiError as other:
            # What is wrong with the children is wrong with the status as well.
            log.info("Trouble was not told", extra=fields(key, error=str(other)))

    async def _tell(self, key: Key, observed: Observed, plan: Plan) -> bool:
        """Bring the status up to date; whether that took a write."""
        cache = self._world.objects[key.kind]
        urgent = plan.urgent or bool(plan.events)
        outcome = await self._status.write(key, observed.object, cache, plan.status, urgent=urgent)
        if outcome.gathered_seconds is not None:
            self._queue.add_after(key, outcome.gathered_seconds)
        if outcome.written and plan.events:
            await self._recorder.record(key, observed.object, plan.events)
        return outcome.written

    def _come_back(self, key: Key, plan: Plan, applied: Applied, written: bool) -> None:
        if written and plan.again:
            self._queue.add(key)
        if plan.requeue_after is not None:
            self._queue.add_after(key, plan.requeue_after)
        unfinished = applied.writes and any(
            action_is_open(self._world, key, action) for action in plan.actions
        )
        if applied.refusals or unfinished:
            self._queue.retry(key)
        else:
            self._queue.forget(key)

    def _forget(self, key: Key) -> None:
        self._refusals.pop(key, None)
        self._status.forget(key)
        self._queue.drop(key)
